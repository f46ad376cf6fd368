// SPDX-License-Identifier: MIT
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <brood/os.hpp>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "support/catch.hpp"
#include "support/start_ways.hpp"

namespace os = brood::os;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("the ids are those of the system") {
  CHECK(os::getpid() == ::getpid());
  CHECK(os::getppid() == ::getppid());
  CHECK(os::getuid() == ::getuid());
  CHECK(os::getgid() == ::getgid());
}

TEST_CASE("getcwd gives the directory also when its name is long") {
  const support::TemporaryDirectory directory;
  CHECK(support::in_child([&] {
          if (::chdir(directory.path().c_str()) != 0) return 1;
          std::string expected = directory.path();
          for (int i = 0; i < 5; ++i) {
            const std::string name(200, static_cast<char>('a' + i));
            if (::mkdir(name.c_str(), 0700) != 0 || ::chdir(name.c_str()) != 0) return 2;
            expected += "/" + name;
          }
          return os::getcwd() == expected ? 0 : 3;
        }) == 0);
}

TEST_CASE("getcwd in a directory that was removed is a FileNotFoundError") {
  const support::TemporaryDirectory directory;
  CHECK(support::in_child([&] {
          const std::string name = directory / "gone";
          if (::mkdir(name.c_str(), 0700) != 0 || ::chdir(name.c_str()) != 0) return 1;
          ::rmdir(name.c_str());
          try {
            os::getcwd();
            return 2;
          } catch (const os::FileNotFoundError&) {
            return 0;
          }
        }) == 0);
}

TEST_CASE("cpu_count is at least 1 and process_cpu_count follows the affinity") {
  CHECK(os::cpu_count() >= 1);
  CHECK(os::process_cpu_count() >= 1);
  CHECK(os::process_cpu_count() <= os::cpu_count());
  CHECK(support::in_child([] {
          cpu_set_t set;
          if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
          std::size_t first = 0;
          while (!CPU_ISSET(first, &set)) ++first;
          CPU_ZERO(&set);
          CPU_SET(first, &set);
          if (::sched_setaffinity(0, sizeof set, &set) != 0) return 2;
          return os::process_cpu_count() == 1 ? 0 : 3;
        }) == 0);
}

TEST_CASE("environ_copy is a snapshot") {
  ::setenv("BROOD_TEST_A", "1=2", 1);
  ::setenv("BROOD_TEST_B", "", 1);
  const os::Environment environment = os::environ_copy();
  ::setenv("BROOD_TEST_A", "3", 1);
  CHECK(environment.at("BROOD_TEST_A") == "1=2");
  CHECK(environment.at("BROOD_TEST_B").empty());
  ::unsetenv("BROOD_TEST_A");
  ::unsetenv("BROOD_TEST_B");
  CHECK(os::environ_copy().count("BROOD_TEST_A") == 0);
  CHECK(support::in_child([] {
          ::clearenv();
          return static_cast<int>(os::environ_copy().size());
        }) == 0);
}

TEST_CASE("kill and killpg send signals and report who is not there") {
  CHECK_NOTHROW(os::kill(::getpid(), 0));
  CHECK_NOTHROW(os::killpg(::getpgrp(), 0));
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  ::waitpid(pid, nullptr, 0);
  CHECK_THROWS_AS(os::kill(pid, 0), os::ProcessLookupError);
  CHECK_THROWS_WITH(os::killpg(pid, 0), ContainsSubstring(std::to_string(pid)));
}

TEST_CASE("waitstatus_to_exitcode gives the code or the negative signal") {
  CHECK(os::waitstatus_to_exitcode(0) == 0);
  CHECK(os::waitstatus_to_exitcode(47 << 8) == 47);
  CHECK(os::waitstatus_to_exitcode(SIGKILL) == -SIGKILL);
  CHECK(os::waitstatus_to_exitcode(SIGABRT | 0x80) == -SIGABRT);
  CHECK_THROWS_AS(os::waitstatus_to_exitcode((SIGSTOP << 8) | 0x7f), std::invalid_argument);
}

TEST_CASE("names of users and groups become ids") {
  CHECK(os::uid_of("root") == 0);
  CHECK(os::gid_of("root") == 0);
  CHECK_THROWS_WITH(os::uid_of("no such user"), ContainsSubstring("no such user"));
  CHECK_THROWS_AS(os::uid_of("no such user"), std::invalid_argument);
  CHECK_THROWS_AS(os::gid_of("no such group"), std::invalid_argument);
}
