// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <brood/posix/child.hpp>
#include <chrono>

#include "support/catch.hpp"
#include "support/leaks.hpp"

namespace posix = brood::posix;
using namespace std::chrono_literals;

namespace {

// A child that ends with `code` when the returned descriptor is closed.
pid_t start(int code, posix::unique_fd& gate) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::close(ends[1]);
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
