// SPDX-License-Identifier: MIT
#include <brood/multiprocessing/semaphore.hpp>
#include <mutex>

#include "team.hpp"

using namespace brood;
using namespace support;

TEST_CASE("a semaphore of processes counts and may be released above its start") {
  const LeakCheck nothing_left;
  const mp::Semaphore semaphore(2);
  CHECK(semaphore.get_value() == 2);
  CHECK(semaphore.acquire());
  CHECK(semaphore.get_value() == 1);
  CHECK(semaphore.acquire(0s));
  CHECK(semaphore.get_value() == 0);
  CHECK_FALSE(semaphore.acquire(0s));
  CHECK_FALSE(semaphore.try_lock());
  semaphore.release();
  semaphore.release();
  CHECK(semaphore.get_value() == 2);
  semaphore.release(3);
  CHECK(semaphore.get_value() == 5);
  CHECK_THROWS_AS(semaphore.release(0), std::invalid_argument);
  CHECK_THROWS_AS(semaphore.release(-1), std::invalid_argument);
  CHECK_THROWS_AS(mp::Semaphore(-1), std::invalid_argument);
  CHECK(mp::Semaphore().get_value() == 1);
}

TEST_CASE("a bounded semaphore of processes is not released above its start") {
  const mp::BoundedSemaphore semaphore(2);
  CHECK(semaphore.maxvalue() == 2);
  CHECK_THROWS_AS(semaphore.release(), std::invalid_argument);
  semaphore.acquire();
  CHECK_THROWS_AS(semaphore.release(2), std::invalid_argument);
  CHECK(semaphore.get_value() == 1);
  Team team;
  team.add(1, [&] { semaphore.release(); });
  CHECK(team.join());
  CHECK(semaphore.get_value() == 2);
  CHECK_THROWS_AS(semaphore.release(), std::invalid_argument);
}

TEST_CASE("acquiring a semaphore of processes with a limit gives up when it is over") {
  const mp::Semaphore semaphore(0);
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(semaphore.acquire(20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  CHECK_FALSE(semaphore.acquire(0s));
  CHECK_FALSE(semaphore.acquire(-1s));
  semaphore.release();
  CHECK(semaphore.acquire(20ms));
}

TEST_CASE("as many processes go on as a semaphore is released") {
  const mp::Semaphore semaphore(0);
  const Shared<std::atomic<int>> got;
  Team team;
  team.add(6, [&] {
    semaphore.acquire();
    ++*got;
  });
  team.await_asleep();
  CHECK(*got == 0);
  semaphore.release(2);
  await(*got, 2);
  semaphore.release();
  await(*got, 3);
  CHECK(semaphore.get_value() == 0);
  CHECK_FALSE(semaphore.acquire(moment));
  CHECK(*got == 3);
  semaphore.release(3);
  CHECK(team.join());
  CHECK(*got == 6);
  CHECK(semaphore.get_value() == 0);
}

TEST_CASE("a semaphore of two never lets a third process in") {
  const mp::Semaphore semaphore(2);
  struct Words {
    std::atomic<int> inside, most;
  };
  const Shared<Words> words;
  Team team;
  team.add(5, [&] {
    for (int i = 0; i < 100; ++i) {
      const std::scoped_lock held(semaphore);
      const int now = ++words->inside;
      int seen = words->most;
      while (seen < now && !words->most.compare_exchange_weak(seen, now)) {
      }
      ::sched_yield();
      --words->inside;
    }
  });
  CHECK(team.join());
  CHECK(words->most >= 1);
  CHECK(words->most <= 2);
  CHECK(semaphore.get_value() == 2);
}

TEST_CASE("what a waiter that is killed was woken for goes to the next") {
  const mp::Semaphore semaphore(0);
  const Shared<std::atomic<int>> got;
  const auto waits = [&] {
    semaphore.acquire();
    ++*got;
  };
  Team team;
  team.add(1, waits);
  team.await_asleep();  // in the seat
  team.add(2, waits);
  team.await_asleep();
  SECTION("killed while it sleeps") { team.kill(0); }
  SECTION("woken, and killed before it runs") {
    team.stop(0);
    semaphore.release();
    team.kill(0);
    await(*got, 1);
  }
  semaphore.release(2 - *got);
  CHECK(team.join());
  CHECK(*got == 2);
  CHECK(semaphore.get_value() == 0);
}

TEST_CASE("a waiter that is stopped holds up no other") {
  const mp::Semaphore semaphore(0);
  const Shared<std::atomic<int>> got;
  const auto waits = [&] {
    semaphore.acquire();
    ++*got;
  };
  Team team;
  team.add(1, waits);
  team.await_asleep();  // in the seat
  team.stop(0);
  team.add(1, waits);
  semaphore.release();
  await(*got, 1);
  team.resume(0);
  semaphore.release();
  CHECK(team.join());
}

TEST_CASE("whoever dies with the lock of a shared monitor leaves it usable") {
  const Shared<sync::SharedMonitor> monitor;
  const Shared<std::atomic<int>> value;
  const Shared<std::atomic<int>> waiting;
  Team waiters;
  waiters.add(2, [&] {
    sync::SharedMonitor::Hold hold{*monitor};
    ++*waiting;
    if (!monitor->wait(hold, posix::Deadline{patience}, [&] { return *value > 0; })) ::_exit(1);
  });
  await(*waiting, 2);
  waiters.await_asleep();
  Team dying;
  SECTION("before it rings") {
    dying.add(1, [&] {
      const sync::SharedMonitor::Hold hold{*monitor};
      ::raise(SIGKILL);
    });
    CHECK(dying.join());
    const sync::SharedMonitor::Hold hold{*monitor};
    monitor->wake_all();
    *value = 1;
  }
  SECTION("after it rang") {
    dying.add(1, [&] {
      const sync::SharedMonitor::Hold hold{*monitor};
      monitor->wake_all();
      ::raise(SIGKILL);
    });
    CHECK(dying.join());
    const sync::SharedMonitor::Hold hold{*monitor};
    monitor->wake_all();
    *value = 1;
  }
  SECTION("after the change") {
    dying.add(1, [&] {
      const sync::SharedMonitor::Hold hold{*monitor};
      monitor->wake_all();
      *value = 1;
      ::raise(SIGKILL);
    });
    CHECK(dying.join());
  }
  CHECK(waiters.join());
}
