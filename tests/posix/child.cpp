// SPDX-License-Identifier: MIT
#include <dlfcn.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <brood/posix/child.hpp>
#include <brood/posix/pipe.hpp>
#include <brood/posix/socket_pair.hpp>
#include <chrono>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/patience.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"

namespace posix = brood::posix;
using namespace std::chrono_literals;

namespace {

// What the kill() below has seen.
std::atomic<int> kills{0};
std::atomic<int> kills_of_reaped{0};

// Whether `pid` is a child of ours, running or a zombie.
bool is_unreaped(pid_t pid) {
  siginfo_t info{};
  return ::syscall(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT, nullptr) == 0;
}

// A child that ends with `code` when the returned descriptor is closed.
pid_t start(int code, posix::unique_fd& gate) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::close(ends[1]);
    ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    char byte = 0;
    while (::read(ends[0], &byte, 1) < 0) {
    }
    ::_exit(code);
  }
  ::close(ends[0]);
  gate.reset(ends[1]);
  return pid;
}

}  // namespace

// Stands before the C library's, and looks whether the number is the child's before and after.
extern "C" int kill(pid_t pid, int signal) noexcept {
  static const auto next = reinterpret_cast<int (*)(pid_t, int)>(::dlsym(RTLD_NEXT, "kill"));
  if (pid <= 0) return next(pid, signal);
  ++kills;
  if (!is_unreaped(pid)) ++kills_of_reaped;
  const int result = next(pid, signal);
  if (!is_unreaped(pid)) ++kills_of_reaped;
  return result;
}

TEST_CASE("a child is waited for with and without a pidfd") {
  const support::LeakCheck nothing_left;
  for (const bool with_pidfd : {true, false}) {
    posix::unique_fd gate;
    const pid_t pid = start(47, gate);
    REQUIRE(pid > 0);
    posix::Child child{pid, with_pidfd ? posix::open_pidfd(pid) : posix::unique_fd{}};
    CHECK(child.pid() == pid);
    CHECK(static_cast<bool>(child.pidfd() >= 0) == with_pidfd);
    CHECK_FALSE(child.poll());
    CHECK_FALSE(child.wait(posix::Deadline{0s}));
    CHECK_FALSE(child.wait(posix::Deadline{20ms}));
    CHECK_FALSE(child.returncode());
    gate.reset();
    CHECK(child.wait(posix::Deadline{30s}) == 47);
    CHECK(child.wait(posix::Deadline{brood::forever}) == 47);
    CHECK(child.returncode() == 47);
    CHECK_NOTHROW(child.send_signal(SIGKILL));
    CHECK(child.usage().ru_maxrss > 0);
  }
}

TEST_CASE("a wait without limit ends with the child with and without a pidfd") {
  for (const bool with_pidfd : {true, false}) {
    posix::unique_fd gate;
    const pid_t pid = start(3, gate);
    posix::Child child{pid, with_pidfd ? posix::open_pidfd(pid) : posix::unique_fd{}};
    child.send_signal(SIGTERM);
    CHECK(child.wait(posix::Deadline{brood::forever}) == -SIGTERM);
  }
}

TEST_CASE("wait statuses become return codes") {
  CHECK(posix::returncode_of(0) == 0);
  CHECK(posix::returncode_of(255 << 8) == 255);
  CHECK(posix::returncode_of(SIGSEGV | 0x80) == -SIGSEGV);
}

TEST_CASE("a child that has ended and belongs to its tracer still is waited for in time") {
  // As strace and debuggers have it: the end is seen, but cannot be reaped before they have.
  const support::LeakCheck nothing_left;
  posix::unique_fd gate;
  const pid_t pid = start(47, gate);
  REQUIRE(pid > 0);
  posix::PipeEnds seized = posix::make_pipe();
  posix::PipeEnds release = posix::make_pipe();
  const pid_t tracer = ::fork();
  if (tracer == 0) {
    gate.reset();
    release.write.reset();
    char byte = ::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) == 0 ? 'y' : 'n';
    posix::write_some(seized.write.get(), &byte, 1);
    posix::read_some(release.read.get(), &byte, 1);
    ::_exit(0);
  }
  char answer = 0;
  REQUIRE(posix::read_some(seized.read.get(), &answer, 1) == 1);
  gate.reset();
  {
    posix::Child child{pid, posix::open_pidfd(pid)};
    if (answer == 'y') {
      CHECK(posix::wait_readable(child.pidfd(), posix::Deadline{30s}));
      CHECK_FALSE(child.poll());
      CHECK_FALSE(child.wait(posix::Deadline{0s}));
      CHECK_FALSE(child.wait(posix::Deadline{20ms}));
    }
    release.write.reset();
    CHECK(child.wait(posix::Deadline{30s}) == 47);
  }
  CHECK(::waitpid(tracer, nullptr, 0) == tracer);
}

TEST_CASE("threads that wait and look and signal agree and never signal a number already free") {
  const support::LeakCheck nothing_left;
  kills = 0;
  kills_of_reaped = 0;
  for (const bool with_pidfd : {true, false}) {
    for (int round = 0; round < 40; ++round) {
      posix::unique_fd gate;
      const pid_t pid = start(47, gate);
      REQUIRE(pid > 0);
      posix::Child child{pid, with_pidfd ? posix::open_pidfd(pid) : posix::unique_fd{}};
      int codes[6] = {};
      std::atomic<int> ready{0};
      const auto together = [&ready] {
        for (++ready; ready < 6;) ::sched_yield();
      };
      std::vector<std::thread> threads;
      for (int i = 0; i < 6; ++i) {
        threads.emplace_back([&, i] {
          together();
          if (i < 2) {
            codes[i] = child.wait(posix::Deadline{brood::forever}).value_or(-1000);
          } else if (i == 2) {
            codes[i] = child.wait(posix::Deadline{60s}).value_or(-1000);
          } else {
            for (;;) {
              if (const auto code = child.poll()) {
                codes[i] = *code;
                return;
              }
              // Ignored, ignored, and the end.
              child.send_signal(i == 3 ? SIGURG : i == 4 ? 0 : SIGKILL);
              ::sched_yield();
            }
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      for (const int code : codes) CHECK(code == -SIGKILL);
    }
  }
  CHECK(kills >= 40);
  CHECK(kills_of_reaped == 0);
}

TEST_CASE("all who wait for a child of a server hear of its end though its relay stays open") {
  // As it does when another thread forks a process while it is made.
  const support::LeakCheck nothing_left;
  posix::unique_fd mine, servers, gate;
  posix::make_sockets(SOCK_SEQPACKET, mine, servers);
  const pid_t pid = start(0, gate);
  REQUIRE(pid > 0);
  posix::Child child{pid, posix::open_pidfd(pid),
                     posix::EndRelay{std::move(mine), -1, nullptr, nullptr}};
  std::atomic<int> told{0};
  const int before = support::sleepers();
  std::vector<std::thread> threads;
  for (const brood::Timeout limit : {brood::Timeout{brood::forever}, brood::Timeout{300s}})
    for (int i = 0; i < 2; ++i)
      threads.emplace_back([&child, &told, limit] {
        if (child.wait(posix::Deadline{limit}) == 5) ++told;
      });
  support::await_sleepers(before + 4);
  gate.reset();
  const posix::RelayReport report{.kind = posix::RelayReport::Kind::ended, .pid = pid, .detail = 5};
  const auto size = static_cast<ssize_t>(sizeof report);
  CHECK(::send(servers.get(), &report, sizeof report, MSG_NOSIGNAL) == size);
  CHECK(support::eventually([&] { return told == 4; }));
  servers.reset();
  for (std::thread& thread : threads) thread.join();
  CHECK(::waitpid(pid, nullptr, 0) == pid);
}

TEST_CASE("what is told of the end of a child holds up nobody else who asks for it") {
  static const support::Gate telling, told;
  static std::atomic<bool> over;
  static constexpr posix::EndJudge judge{[](int, int) noexcept { return true; },
                                         [](pid_t, int) noexcept {
                                           telling.open();
                                           told.wait();
                                           over = true;
                                         }};
  posix::unique_fd gate;
  const pid_t pid = start(0, gate);
  posix::Child child{pid, posix::try_open_pidfd(pid), posix::make_pipe().read, judge};
  gate.reset();
  std::thread teller{[&] { child.wait(posix::Deadline{brood::forever}); }};
  CHECK(telling.wait());
  CHECK(child.poll() == 1);
  CHECK_FALSE(over);
  told.open();
  teller.join();
}
