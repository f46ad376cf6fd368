// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <brood/sync/owned_lock.hpp>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/catch.hpp"
#include "support/programs.hpp"

namespace posix = brood::posix;
using brood::sync::OwnedLock;

namespace {

const posix::Deadline at_once{std::chrono::nanoseconds{0}};

// The next thread or process of this PID namespace gets this number, if it is free.
bool set_next_number(pid_t number) {
  const posix::unique_fd file{::open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC)};
  const std::string text = std::to_string(number - 1);
  return file && ::write(file.get(), text.data(), text.size()) > 0;
}

}  // namespace

TEST_CASE("a thread with the number of a dead holder does not hold its lock") {
  // In a PID namespace of its own, where nobody else takes the number.
  const auto ended = support::program([] {
    if (::unshare(CLONE_NEWPID) != 0) return support::say("forbidden");
    const pid_t first = ::fork();
    if (first != 0) {
      support::wait_for(first);
      return;
    }
    static OwnedLock lock{OwnedLock::Again::counted};
    pid_t holder = 0;
    std::thread([&] {
      lock.acquire(at_once);
      lock.acquire(at_once);
      holder = posix::this_thread_id();
    }).join();
    if (!set_next_number(holder)) {
      support::say("forbidden");
      ::_exit(0);
    }
    std::string said;
    std::thread([&] {
      if (posix::this_thread_id() != holder) {
        said = "another number";
        return;
      }
      if (lock.is_mine()) said += "taken for the holder;";
      if (!support::throws<std::logic_error>([] { lock.release(); })) said += "released;";
      if (lock.locked()) said += "locked;";
      if (!lock.acquire(at_once)) said += "not acquired;";
      if (!lock.abandoned()) said += "not abandoned;";
      if (lock.depth() != 1) said += "too deep;";
      lock.release();
      if (lock.owner() != 0) said += "not released;";
    }).join();
    support::say(said.empty() ? "good" : said);
    ::_exit(0);
  });
  if (ended.said == "forbidden" || ended.said == "another number")
    SKIP("the numbers of threads can't be chosen here");
  CHECK(ended.said == "good");
}
