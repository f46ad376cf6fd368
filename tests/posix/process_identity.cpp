// SPDX-License-Identifier: MIT
#include <signal.h>
#include <sys/wait.h>

#include <brood/posix/pipe.hpp>
#include <brood/posix/process_identity.hpp>
#include <chrono>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_ways.hpp"

namespace posix = brood::posix;
using posix::ProcessIdentity;

TEST_CASE("a forked process is told from all that it is a copy of") {
  const std::uint64_t here = posix::this_process();
  CHECK(support::in_child([here] {
          const std::uint64_t child = posix::this_process();
          return support::in_child([here, child] {
            // Also if it had the number of one of them.
            const auto forks = [](std::uint64_t process) { return process >> 32; };
            return forks(posix::this_process()) == forks(child) + 1 &&
                           forks(child) == forks(here) + 1 && posix::this_pid() == ::getpid()
                       ? 40
                       : 41;
          });
        }) == 40);
  CHECK(posix::this_process() == here);
}

TEST_CASE("a process identity opens its process as long as that has not ended") {
  const support::LeakCheck nothing_left;
  auto gate = posix::make_pipe();
  const pid_t pid = ::fork();
  if (pid == 0) {
    gate.write.reset();
    char byte;
    posix::read_some(gate.read.get(), &byte, 1);
    ::_exit(0);
  }
  const auto identity = ProcessIdentity::of(pid);
  CHECK(identity);
  CHECK(identity.pid() == pid);
  CHECK(identity == ProcessIdentity::of(pid));
  CHECK(ProcessIdentity{identity.word()} == identity);
  const auto pidfd = identity.open();
  CHECK(pidfd);
  gate.write.reset();
  CHECK(posix::wait_readable(pidfd.get(), posix::Deadline{std::chrono::seconds{30}}));
  CHECK_FALSE(identity.open());  // a zombie
  CHECK(::waitpid(pid, nullptr, 0) == pid);
  CHECK_FALSE(identity.open());
}

TEST_CASE("a process identity tells a later process of the same number") {
  const auto self = ProcessIdentity::of(::getpid());
  CHECK(self.open());
  CHECK_FALSE(ProcessIdentity{self.word() + 1}.open());
  CHECK_FALSE(ProcessIdentity{}.open());
  CHECK_FALSE(ProcessIdentity{});
  // A start time that could not be learned fits any.
  CHECK(ProcessIdentity{self.word() >> 32 << 32}.open());
}

TEST_CASE("a process identity of a name with brackets and spaces is read right") {
  auto ready = posix::make_pipe(), gate = posix::make_pipe();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ready.read.reset();
    gate.write.reset();
    const int comm = ::open("/proc/self/comm", O_WRONLY | O_CLOEXEC);
    posix::write_some(comm, ") 1 (2) 3", 9);
    posix::write_some(ready.write.get(), "", 1);
    char byte;
    posix::read_some(gate.read.get(), &byte, 1);
    ::_exit(0);
  }
  const auto before = ProcessIdentity::of(pid);
  char byte;
  CHECK(posix::read_some(ready.read.get(), &byte, 1) == 1);
  CHECK(ProcessIdentity::of(pid) == before);
  gate.write.reset();
  ::waitpid(pid, nullptr, 0);
}
