// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <brood/subprocess.hpp>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using Catch::Matchers::ContainsSubstring;

namespace {

// What a shell line prints, without the newline at its end.
std::string said(const std::string& line, Options options = {}) {
  options.shell = true;
  options.out = PIPE;
  std::string out = run(line, options).out;
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

// The descriptors of a child, as "0 1 2 ", asked with builtins of the shell only.
const std::string list_descriptors =
    "i=0; while [ $i -lt 64 ]; do [ -e /proc/$$/fd/$i ] && printf '%s ' $i; i=$((i+1)); done; true";

}  // namespace

TEST_CASE("cwd changes the directory of the child only") {
  const auto way = support::each_start_way();
  const support::TemporaryDirectory directory;
  const std::string here = brood::os::getcwd();
  CHECK(said("pwd -P", {.cwd = directory.path()}) == directory.path());
  CHECK(brood::os::getcwd() == here);
  CHECK(said("pwd -P", {.cwd = std::filesystem::path(directory.path())}) == directory.path());
}

TEST_CASE("a relative program is looked for in the new directory") {
  const auto way = support::each_start_way();
  const support::TemporaryDirectory directory;
  REQUIRE(std::system(("mkdir " + directory / "bin" + " && cp /bin/sh " + (directory / "bin/shell"))
                          .c_str()) == 0);
  const Command relative{"./bin/shell", "-c", "exit 47"};
  CHECK_THROWS_AS(call(relative), brood::os::FileNotFoundError);
  CHECK_THROWS_AS(call(relative, {.cwd = "/usr"}), brood::os::FileNotFoundError);
  CHECK(call(relative, {.cwd = directory.path()}) == 47);
  // executable wins over the first argument.
  const Command named{"made up", "-c", "exit 47"};
  CHECK_THROWS_AS(call(named, {.executable = "./bin/shell"}), brood::os::FileNotFoundError);
  CHECK(call(named, {.executable = "./bin/shell", .cwd = directory.path()}) == 47);
}

TEST_CASE("an absolute program works in any directory") {
  const auto way = support::each_start_way();
  CHECK(call({"/bin/sh", "-c", "exit 47"}, {.cwd = "/usr"}) == 47);
  CHECK(call({"made up", "-c", "exit 47"}, {.executable = "/bin/sh", .cwd = "/usr"}) == 47);
  CHECK(call({"made up", "-c", "exit 47"}, {.executable = "/bin/sh"}) == 47);
}

TEST_CASE("executable replaces the program and not its name") {
  const auto way = support::each_start_way();
  CHECK(run({"my name", "-c", "echo $0"}, {.executable = "sh", .out = PIPE}).out == "my name\n");
  CHECK(run({"x", "-c", "exit 47"}, {.executable = std::filesystem::path("/bin/sh")}).returncode ==
        47);
  CHECK_THROWS_AS(run({"true"}, {.executable = "/no/such/program"}), brood::os::FileNotFoundError);
}

TEST_CASE("executable replaces the shell") {
  const auto way = support::each_start_way();
  const support::TemporaryDirectory directory;
  const std::string shell = directory / "shell";
  REQUIRE(::symlink("/bin/sh", shell.c_str()) == 0);
  CHECK(said("echo $0", {.executable = shell}) == shell);
  CHECK(said("echo $0", {.executable = std::filesystem::path(shell)}) == shell);
  CHECK(said("echo $0") == "/bin/sh");
}

TEST_CASE("with shell a string is a script and a list is a script and its arguments") {
  const auto way = support::each_start_way();
  CHECK(said("echo $FRUIT", {.env = {{{"FRUIT", "apple"}}}}) == "apple");
  CHECK(run({"echo $1 $0", "zero", "one two"}, {.out = PIPE, .shell = true}).out ==
        "one two zero\n");
}

TEST_CASE("env replaces the whole environment") {
  const auto way = support::each_start_way();
  ::setenv("BROOD_TEST_VARIABLE", "inherited", 1);
  CHECK(said("echo $BROOD_TEST_VARIABLE") == "inherited");
  CHECK(said("echo $FRUIT$BROOD_TEST_VARIABLE", {.env = {{{"FRUIT", "orange"}}}}) == "orange");
  ::unsetenv("BROOD_TEST_VARIABLE");
  const brood::os::Environment none;
  CHECK(run({"/usr/bin/env"}, {.out = PIPE, .env = none}).out.empty());
  const brood::os::Environment one{{"fruit", "orange=lemon"}};
  CHECK(run({"/usr/bin/env"}, {.out = PIPE, .env = one}).out == "fruit=orange=lemon\n");
  const brood::os::Environment bytes{{"abc\xff", "\xff\xfe"}};
  CHECK(run({"/usr/bin/env"}, {.out = PIPE, .env = bytes}).out == "abc\xff=\xff\xfe\n");
  brood::os::Environment more = brood::os::environ_copy();
  more["FRUIT"] = "lemon";
  CHECK(said("echo $FRUIT", {.env = more}) == "lemon");
}

TEST_CASE("the program is searched in the PATH that the child gets") {
  const auto way = support::each_start_way();
  const support::TemporaryDirectory directory;
  REQUIRE(::symlink("/bin/sh", (directory / "only-there").c_str()) == 0);
  const Command command{"only-there", "-c", "exit 47"};
  CHECK_THROWS_AS(call(command), brood::os::FileNotFoundError);
  CHECK(call(command, {.env = {{{"PATH", "/no/such/directory:" + directory.path()}}}}) == 47);
  CHECK(call(command, {.cwd = directory.path(), .env = {{{"PATH", "/usr/bin:"}}}}) == 47);
  // Without PATH there is a default.
  CHECK(call({"sh", "-c", "exit 47"}, {.env = brood::os::Environment{}}) == 47);
  CHECK_THROWS_AS(call({"sh"}, {.env = {{{"PATH", "/no/such/directory"}}}}),
                  brood::os::FileNotFoundError);
}

TEST_CASE("the child has no descriptors but the standard streams and those passed on") {
  const auto way = support::each_start_way();
  // Inheritable ones, low and high.
  const int low = ::open("/dev/null", O_RDONLY);
  const int high = ::fcntl(low, F_DUPFD, 50);
  REQUIRE(low >= 3);
  CHECK(said(list_descriptors) == "0 1 2 ");
  CHECK(said(list_descriptors, {.pass_fds = {high}}) == "0 1 2 50 ");
  CHECK(said(list_descriptors, {.pass_fds = {high, low, high, 0}}) ==
        "0 1 2 " + std::to_string(low) + " 50 ");
  CHECK(said(list_descriptors, {.close_fds = false}).find(" 50 ") != std::string::npos);
  // pass_fds implies close_fds.
  CHECK(said(list_descriptors, {.close_fds = false, .pass_fds = {high}}) == "0 1 2 50 ");
  ::close(low);
  ::close(high);
}

TEST_CASE("a descriptor passed on is inheritable in the child alone") {
  const auto way = support::each_start_way();
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const std::string number = std::to_string(fd);
  CHECK(said(list_descriptors, {.pass_fds = {fd}}) == "0 1 2 " + number + " ");
  CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  ::close(fd);
}

TEST_CASE("any number of descriptors can be passed on") {
  const auto way = support::each_start_way();
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  std::vector<int> passed;
  std::string expected = "0 1 2 ";
  for (int number = 20; number < 44; number += 2) {
    REQUIRE(::fcntl(fd, F_DUPFD_CLOEXEC, number) == number);
    passed.insert(passed.begin(), number);
    expected += std::to_string(number) + " ";
    CHECK(said(list_descriptors, {.pass_fds = passed}) == expected);
  }
  for (const int number : passed) ::close(number);
  ::close(fd);
}

TEST_CASE("a descriptor can be passed on and be a standard stream too") {
  const auto way = support::each_start_way();
  const support::TemporaryDirectory directory;
  const int fd = ::open((directory / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const std::string number = std::to_string(fd);
  CHECK(call({"sh", "-c", "printf one; printf two >&" + number}, {.out = fd, .pass_fds = {fd}}) ==
        0);
  CHECK(support::read_file(directory / "file") == "onetwo");
  ::close(fd);
}

TEST_CASE("descriptors above a lowered limit are closed too") {
  const auto way = support::each_start_way();
  CHECK(support::in_child([] {
          if (::fcntl(0, F_DUPFD, 60) < 60) return 1;
          const rlimit lowered{40, 40};
          if (::setrlimit(RLIMIT_NOFILE, &lowered) != 0) return 2;
          return said(list_descriptors) == "0 1 2 " ? 0 : 3;
        }) == 0);
}

TEST_CASE("passing on what is not open or negative is refused") {
  CHECK_THROWS_AS(Popen({"true"}, {.pass_fds = {-1}}), std::invalid_argument);
  CHECK_THROWS_WITH(Popen({"true"}, {.in = PIPE, .pass_fds = {900}}), ContainsSubstring("900"));
}

TEST_CASE("restore_signals gives the child default signals and an empty mask") {
  const auto way = support::each_start_way();
  const auto status = [](bool restore, const char* field) {
    // Not by way of a shell, which has a mask of its own.
    return run({"grep", field, "/proc/self/status"}, {.out = PIPE, .restore_signals = restore}).out;
  };
  const auto bit = [](int signal) { return 1ull << (signal - 1); };
  const auto number = [](const std::string& line) {
    return std::strtoull(line.c_str() + line.find(':') + 1, nullptr, 16);
  };
  CHECK(support::in_child([&] {
          ::signal(SIGPIPE, SIG_IGN);
          ::signal(SIGUSR2, SIG_IGN);
          sigset_t blocked;
          sigemptyset(&blocked);
          sigaddset(&blocked, SIGUSR1);
          ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
          const auto ignored = number(status(true, "SigIgn"));
          if ((ignored & bit(SIGPIPE)) != 0) return 1;
          if ((ignored & bit(SIGUSR2)) == 0) return 2;
          if (number(status(true, "SigBlk")) != 0) return 3;
          if ((number(status(false, "SigIgn")) & bit(SIGPIPE)) == 0) return 4;
          if (number(status(false, "SigBlk")) != bit(SIGUSR1)) return 5;
          sigset_t now;
          ::sigprocmask(SIG_BLOCK, nullptr, &now);
          if (sigismember(&now, SIGUSR1) != 1 || sigismember(&now, SIGUSR2) != 0) return 6;
          struct sigaction action;
          ::sigaction(SIGPIPE, nullptr, &action);
          return action.sa_handler == SIG_IGN ? 0 : 7;
        }) == 0);
}

TEST_CASE("start_new_session and process_group set what they say") {
  const auto way = support::each_start_way();
  // Fields of stat behind the name: state ppid pgrp session.
  const std::string ids = "set -- $(sed 's/.*) //' /proc/$$/stat); echo $$ $3 $4";
  const auto parts = [](const std::string& line) {
    std::vector<std::string> words{""};
    for (const char character : line) {
      if (character == ' ')
        words.emplace_back();
      else
        words.back() += character;
    }
    return words;
  };
  const auto own = parts(said(ids));
  CHECK(own.at(1) == std::to_string(::getpgrp()));
  CHECK(own.at(2) == std::to_string(::getsid(0)));
  const auto session = parts(said(ids, {.start_new_session = true}));
  CHECK(session.at(2) == session.at(0));
  const auto group = parts(said(ids, {.process_group = 0}));
  CHECK(group.at(1) == group.at(0));
  CHECK(group.at(2) == own.at(2));
  const auto ours = parts(said(ids, {.process_group = ::getpgrp()}));
  CHECK(ours.at(1) == std::to_string(::getpgrp()));
  CHECK_THROWS_AS(Popen({"true"}, {.process_group = -1}), std::invalid_argument);
}

TEST_CASE("umask holds for what the child makes") {
  const auto way = support::each_start_way();
  CHECK(said("umask", {.umask = 053}) == "0053");
  const mode_t before = ::umask(0);
  ::umask(before);
  CHECK(std::strtol(said("umask").c_str(), nullptr, 8) == static_cast<long>(before));
  CHECK_THROWS_WITH(Popen({"true"}, {.umask = 01000}), ContainsSubstring(".umask"));
}

TEST_CASE("resource limits hold in the child") {
  const auto way = support::each_start_way();
  CHECK(said("ulimit -n; ulimit -Hn", {.limits = {{RLIMIT_NOFILE, 64}}}) == "64\n64");
  CHECK(said("ulimit -n; ulimit -Hn", {.limits = {{RLIMIT_NOFILE, 32, 64}}}) == "32\n64");
  try {
    run({"true"}, {.limits = {{RLIMIT_CORE, 0}, {4711, 1}}});
    FAIL("no exception");
  } catch (const brood::os::OSError& error) {
    CHECK(error.code().value() == EINVAL);
    CHECK_THAT(error.what(), ContainsSubstring("resource limit"));
  }
}

TEST_CASE("user and group and extra groups set the ids") {
  if (::geteuid() != 0) SKIP("needs root");
  CHECK(said("id -u; id -ru", {.user = 65534}) == "65534\n65534");
  CHECK(said("id -g; id -rg", {.group = 65534}) == "65534\n65534");
  CHECK(said("id -G", {.group = 7, .extra_groups = {{7, 9}}}) == "7 9");
  CHECK(said("id -G", {.group = 7, .extra_groups = std::vector<gid_t>{}}) == "7");
  CHECK(said("id -u", {.user = brood::os::uid_of("nobody")}) == "65534");
  CHECK(said("id -u", {.close_fds = false, .user = 65534}) == "65534");
  // And who may not, hears it; nothing else failed, so no file is named.
  CHECK(support::in_child([] {
          if (::setuid(65534) != 0) return 1;
          const auto refused = [](Options options) {
            try {
              run({"true"}, options);
            } catch (const brood::os::PermissionError& error) {
              return error.filename().empty();
            }
            return false;
          };
          if (!refused({.user = 0})) return 2;
          if (!refused({.group = 1})) return 3;
          if (!refused({.extra_groups = std::vector<gid_t>{}})) return 4;
          return 0;
        }) == 0);
}

TEST_CASE("ids that are none are refused by name") {
  CHECK_THROWS_WITH(Popen({"true"}, {.user = static_cast<uid_t>(-1)}), ContainsSubstring(".user"));
  CHECK_THROWS_WITH(Popen({"true"}, {.group = static_cast<gid_t>(-1)}),
                    ContainsSubstring(".group"));
  CHECK_THROWS_WITH(Popen({"true"}, {.extra_groups = {{static_cast<gid_t>(-1)}}}),
                    ContainsSubstring(".extra_groups"));
}

TEST_CASE("preexec runs in the child before the program") {
  const support::LeakCheck nothing_left;
  const std::string fruit = "apple";
  CHECK(said("echo $FRUIT", {.preexec = [&] { ::setenv("FRUIT", fruit.c_str(), 1); }}) == "apple");
  CHECK(std::getenv("FRUIT") == nullptr);
}

TEST_CASE("descriptors that preexec opens are closed too") {
  CHECK(said(list_descriptors, {.preexec = [] {
               if (::fcntl(0, F_DUPFD, 40) < 40) throw std::runtime_error{"fcntl"};
             }}) == "0 1 2 ");
}

TEST_CASE("an exception of preexec is a SubprocessError that tells what it said") {
  const support::LeakCheck nothing_left;
  const auto fail = [] { throw std::runtime_error{"what it wants to say"}; };
  CHECK_THROWS_AS(Popen({"true"}, {.preexec = fail}), SubprocessError);
  CHECK_THROWS_WITH(Popen({"true"}, {.in = PIPE, .out = PIPE, .err = PIPE, .preexec = fail}),
                    ContainsSubstring("what it wants to say"));
  CHECK_THROWS_WITH(Popen({"true"}, {.preexec = [] { throw 1; }}), ContainsSubstring("preexec"));
  CHECK_THROWS_AS(
      Popen({"true"}, {.preexec = [] { throw std::runtime_error(std::string(9000, 'x')); }}),
      SubprocessError);
}

TEST_CASE("the parent death signal ends the child with its parent") {
  const auto way = support::each_start_way();
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  // The child holds the writing end for as long as it lives.
  CHECK(support::in_child([&] {
          Popen process({"sleep", "60"}, {.pass_fds = {ends[1]}, .parent_death_signal = SIGKILL});
          process.detach();
          return 0;
        }) == 0);
  ::close(ends[1]);
  pollfd entry{ends[0], POLLIN, 0};
  CHECK(::poll(&entry, 1, 30'000) == 1);
  ::close(ends[0]);
  CHECK_THROWS_AS(Popen({"true"}, {.parent_death_signal = 0}), std::invalid_argument);
  CHECK_THROWS_AS(Popen({"true"}, {.parent_death_signal = 4711}), std::invalid_argument);
}
