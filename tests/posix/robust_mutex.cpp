// SPDX-License-Identifier: MIT
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <brood/posix/robust_mutex.hpp>
#include <chrono>
#include <thread>

#include "support/catch.hpp"
#include "support/programs.hpp"

namespace posix = brood::posix;
using namespace std::chrono_literals;

namespace {

struct Words {
  posix::RobustMutex mutex;
  std::atomic<int> repairs;
};

const auto no_repair = [] {};

// A child that runs `body` and is then killed.
template <class F>
void killed_after(F body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    body();
    ::raise(SIGKILL);
  }
  CHECK(support::wait_for(pid) == -SIGKILL);
}

}  // namespace

TEST_CASE("a robust mutex excludes and gives up at the deadline") {
  const support::Shared<Words> words;
  const support::Gate held, gate;
  const pid_t pid = ::fork();
  if (pid == 0) {
    words->mutex.lock(posix::Deadline{brood::forever}, no_repair);
    held.open();
    gate.wait();
    words->mutex.unlock();
    ::_exit(0);
  }
  CHECK(held.wait());
  CHECK_FALSE(words->mutex.lock(posix::Deadline{0s}, no_repair));
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(words->mutex.lock(posix::Deadline{20ms}, no_repair));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  gate.open();
  CHECK(words->mutex.lock(posix::Deadline{support::patience}, no_repair));
  words->mutex.unlock();
  CHECK(support::wait_for(pid) == 0);
}

TEST_CASE("the holder of a robust mutex dies and the next one repairs") {
  const support::Shared<Words> words;
  const auto repair = [&] { ++words->repairs; };
  killed_after([&] { words->mutex.lock(posix::Deadline{brood::forever}, repair); });
  CHECK(words->repairs == 0);
  CHECK(words->mutex.lock(posix::Deadline{support::patience}, repair));
  CHECK(words->repairs == 1);
  words->mutex.unlock();
  { const posix::RobustLock lock{words->mutex, repair}; }
  CHECK(words->repairs == 1);
}

TEST_CASE("the repairer of a robust mutex dies and the next one repairs again") {
  const support::Shared<Words> words;
  const auto repair = [&] { ++words->repairs; };
  killed_after([&] { words->mutex.lock(posix::Deadline{brood::forever}, repair); });
  killed_after([&] {
    words->mutex.lock(posix::Deadline{brood::forever}, [&] {
      repair();
      ::raise(SIGKILL);
    });
  });
  const posix::RobustLock lock{words->mutex, repair};
  CHECK(words->repairs == 2);
}

TEST_CASE("a waiter gets the robust mutex of a holder that is killed") {
  const support::Shared<Words> words;
  const support::Gate held;
  const pid_t pid = ::fork();
  if (pid == 0) {
    words->mutex.lock(posix::Deadline{brood::forever}, no_repair);
    held.open();
    for (;;) ::pause();
  }
  CHECK(held.wait());
  std::atomic<bool> got{false};
  std::thread waiter{[&] {
    got = words->mutex.lock(posix::Deadline{support::patience}, [&] { ++words->repairs; });
    words->mutex.unlock();
  }};
  ::kill(pid, SIGKILL);
  waiter.join();
  CHECK(got);
  CHECK(words->repairs == 1);
  CHECK(support::wait_for(pid) == -SIGKILL);
}
