// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

#include <brood/posix/child.hpp>
#include <brood/posix/spawn.hpp>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/refused_calls.hpp"
#include "support/start_ways.hpp"

namespace posix = brood::posix;
using posix::spawn_child::close_range_number;

namespace {

posix::SpawnRequest request(const char* script) {
  posix::SpawnRequest result;
  result.argv = {"sh", "-c", script};
  result.executable = "sh";
  return result;
}

int code_of(const posix::SpawnRequest& wanted) {
  posix::Spawned spawned = posix::spawn(wanted);
  posix::Child child{spawned.pid, std::move(spawned.pidfd)};
  return child.wait(posix::Deadline{brood::forever}).value_or(-1000);
}

const char* const no_other_descriptors =
    "i=3; while [ $i -lt 64 ]; do [ -e /proc/$$/fd/$i ] && exit 1; i=$((i+1)); done; exit 47";

}  // namespace

TEST_CASE("a program is started in each way") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  CHECK(code_of(request("exit 47")) == 47);
}

TEST_CASE("what is neither clone nor posix_spawn falls back to fork") {
  const auto way = support::each_start_way();
  posix::SpawnRequest wanted = request("test \"$(umask)\" = 0027 && exit 47");
  wanted.umask = 027;
  CHECK(code_of(wanted) == 47);
}

TEST_CASE("only requests that need it are made by fork") {
  using posix::SpawnWay;
  const support::StartWay way{SpawnWay::automatic};
  posix::SpawnRequest wanted = request("true");
  const SpawnWay usual = posix::sanitized ? SpawnWay::fork : SpawnWay::clone;
  CHECK(posix::spawn_ways::choose(wanted) == usual);
  wanted.cwd = "/";
  wanted.umask = 0;
  wanted.new_session = true;
  CHECK(posix::spawn_ways::choose(wanted) == usual);
  wanted.user = 0;
  CHECK(posix::spawn_ways::choose(wanted) == SpawnWay::fork);
  wanted.user.reset();
  wanted.group = 0;
  CHECK(posix::spawn_ways::choose(wanted) == SpawnWay::fork);
  wanted.group.reset();
  const std::vector<gid_t> groups;
  wanted.extra_groups = &groups;
  CHECK(posix::spawn_ways::choose(wanted) == SpawnWay::fork);
  wanted.extra_groups = nullptr;
  CHECK(posix::spawn_ways::choose(wanted) == usual);
  wanted.preexec = [] {};
  CHECK(posix::spawn_ways::choose(wanted) == SpawnWay::fork);
}

TEST_CASE("descriptors are closed also where close_range is missing") {
  const auto way = support::each_start_way();
  for (const int error : {ENOSYS, EPERM, EINVAL}) {
    CHECK(support::in_child([&] {
            for (int fd = 20; fd < 40; ++fd) ::fcntl(0, F_DUPFD, fd);
            if (!support::refuse({{close_range_number, error}})) return 77;
            return code_of(request(no_other_descriptors));
          }) == 47);
  }
}

TEST_CASE("descriptors are closed also where neither close_range nor proc is there") {
  const support::StartWay way{posix::SpawnWay::clone};
  CHECK(support::in_child([&] {
          for (int fd = 20; fd < 40; ++fd) ::fcntl(0, F_DUPFD, fd);
          if (!support::refuse({{close_range_number}, {SYS_getdents64}})) return 77;
          return code_of(request(no_other_descriptors));
        }) == 47);
}

TEST_CASE("descriptors beyond a limit that the program gets are closed too") {
  const auto way = support::each_start_way();
  const std::vector<posix::ResourceLimit> limits = {{RLIMIT_NOFILE, 4}};
  for (const bool by_range : {true, false}) {
    CHECK(support::in_child([&] {
            for (int fd = 20; fd < 40; ++fd) ::fcntl(0, F_DUPFD, fd);
            if (!by_range && !support::refuse({{close_range_number}})) return 77;
            posix::SpawnRequest wanted = request("");
            wanted.argv = {"test", "!", "-e", "/proc/self/fd/20"};
            wanted.executable = "test";
            wanted.limits = &limits;
            return code_of(wanted) == 0 ? 47 : 1;
          }) == 47);
  }
}

TEST_CASE("a start works where pidfds are forbidden") {
  const auto way = support::each_start_way();
  for (const int error : {ENOSYS, EPERM}) {
    CHECK(support::in_child([&] {
            if (!support::refuse({{SYS_pidfd_open, error}, {SYS_pidfd_send_signal, error}}))
              return 77;
            return code_of(request("exit 47"));
          }) == 47);
  }
}

TEST_CASE("a start works where clone3 is missing and restores signals there too") {
  const auto way = support::each_start_way();
  CHECK(support::in_child([&] {
          if (!support::refuse({{SYS_clone3}})) return 77;
          ::signal(SIGPIPE, SIG_IGN);
          ::signal(SIGUSR1, [](int) {});
          posix::SpawnRequest wanted = request("");
          // SIGPIPE is the lowest bit of the fourth digit from the right.
          wanted.argv = {"grep", "-q", "^SigIgn:.*[02468ace]...$", "/proc/self/status"};
          wanted.executable = "grep";
          return code_of(wanted) == 0 ? 47 : 1;
        }) == 47);
}

TEST_CASE("a start that has no process left to make is an error with its reason") {
  const auto way = support::each_start_way();
  CHECK(support::in_child([&] {
          if (!support::refuse({{SYS_clone, EAGAIN},
                                {SYS_clone3, EAGAIN},
                                {SYS_fork, EAGAIN},
                                {SYS_vfork, EAGAIN}}))
            return 77;
          const auto before = support::open_descriptors();
          try {
            posix::spawn(request("true"));
            return 1;
          } catch (const brood::os::OSError& error) {
            if (error.code().value() != EAGAIN) return 2;
          }
          return support::open_descriptors() == before ? 0 : 3;
        }) == 0);
}

TEST_CASE("a child whose parent has died before it could ask for a signal does not start") {
  posix::SpawnRequest wanted = request("exit 47");
  wanted.parent_death_signal = SIGKILL;
  posix::PreparedSpawn prepared{wanted};
  CHECK(support::in_child([&]() -> int { posix::spawn_child::run(prepared.plan); }) == 47);
  prepared.plan.parent = ::getppid();  // which this process is not
  CHECK(support::in_child([&]() -> int { posix::spawn_child::run(prepared.plan); }) == 127);
}

TEST_CASE("the paths to try are those of execvp") {
  using namespace std::string_literals;
  const char* const environment[] = {"A=b", "PATH=/x:/y/::z", nullptr};
  CHECK(posix::exec_candidates("ls", environment) == "/x/ls\0/y/ls\0ls\0z/ls\0"s);
  CHECK(posix::exec_candidates("./ls", environment) == "./ls\0"s);
  const char* const nothing[] = {nullptr};
  CHECK(posix::exec_candidates("ls", nothing) == "/bin/ls\0/usr/bin/ls\0"s);
  CHECK(posix::exec_candidates("ls", nullptr) == "/bin/ls\0/usr/bin/ls\0"s);
}

TEST_CASE("each stage that fails is told apart") {
  const auto message = [](posix::SpawnStage stage) {
    posix::SpawnRequest wanted = request("true");
    wanted.cwd = "/the/directory";
    posix::SpawnReport report;
    report.stage = stage;
    report.error = EPERM;
    report.index = 1;
    try {
      posix::throw_report(wanted, report);
    } catch (const std::exception& error) {
      return std::string{error.what()};
    }
  };
  std::vector<std::string> seen;
  for (int stage = 0; stage <= static_cast<int>(posix::SpawnStage::exec); ++stage) {
    const std::string text = message(static_cast<posix::SpawnStage>(stage));
    for (const std::string& other : seen) CHECK(text != other);
    seen.push_back(text);
  }
}
