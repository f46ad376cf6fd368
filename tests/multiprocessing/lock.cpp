// SPDX-License-Identifier: MIT
#include <brood/multiprocessing/lock.hpp>
#include <brood/threading/thread.hpp>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "team.hpp"

using namespace brood;
using namespace support;

TEMPLATE_TEST_CASE("a lock of processes is acquired and released", "", mp::Lock, mp::RLock) {
  const LeakCheck nothing_left;
  const TestType lock;
  CHECK_FALSE(lock.locked());
  CHECK(lock.acquire());
  CHECK(lock.locked());
  CHECK(lock.is_mine());
  lock.release();
  CHECK_FALSE(lock.locked());
  CHECK_THROWS_AS(lock.release(), std::logic_error);
  CHECK(lock.acquire(0s));
  CHECK_FALSE(lock.abandoned());
  lock.release();
  CHECK_FALSE(lock.is_mine());
}

TEMPLATE_TEST_CASE("a lock is seen locked from another process", "", mp::Lock, mp::RLock) {
  const TestType lock;
  const Gate held, gate;
  Team team;
  team.add(1, [&] {
    lock.acquire();
    held.open();
    gate.wait();
    lock.release();
  });
  CHECK(held.wait());
  CHECK(lock.locked());
  CHECK_FALSE(lock.is_mine());
  CHECK_FALSE(lock.acquire(0s));
  CHECK_FALSE(lock.try_lock());
  CHECK_THROWS_AS(lock.release(), std::logic_error);
  gate.open();
  CHECK(team.join());
  CHECK_FALSE(lock.locked());
}

TEST_CASE("a Lock that its thread holds is not had twice") {
  const mp::Lock lock;
  lock.acquire();
  CHECK_FALSE(lock.acquire(0s));
  CHECK_FALSE(lock.try_lock());
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(lock.acquire(20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  CHECK_THROWS_AS(lock.acquire(), std::logic_error);
  lock.release();
  CHECK_FALSE(lock.locked());
}

TEST_CASE("an RLock of processes is released as often as it was acquired") {
  const mp::RLock lock;
  CHECK_THROWS_AS(lock.release(), std::logic_error);
  for (int i = 0; i < 3; ++i) CHECK(lock.acquire());
  CHECK(lock.depth() == 3);
  for (int i = 0; i < 3; ++i) {
    CHECK(lock.locked());
    lock.release();
  }
  CHECK_FALSE(lock.locked());
  CHECK(lock.depth() == 0);
  CHECK_THROWS_AS(lock.release(), std::logic_error);
}

TEMPLATE_TEST_CASE("a lock belongs to the thread that acquired it", "", mp::Lock, mp::RLock) {
  const TestType lock;
  lock.acquire();
  Team team;
  team.add(1, [&] {
    // Forked by its holder, and yet not its holder.
    if (lock.is_mine() || !is_logic_error([&] { lock.release(); })) ::_exit(1);
    if (lock.acquire(0s)) ::_exit(2);
  });
  CHECK(team.join());
  bool refused = false;
  threading::Thread thread([&] { refused = is_logic_error([&] { lock.release(); }); });
  thread.start();
  thread.join();
  CHECK(refused);
  CHECK(lock.locked());
  lock.release();
}

TEMPLATE_TEST_CASE("a scope guard releases a lock of processes", "", mp::Lock, mp::RLock) {
  const TestType lock;
  {
    const std::scoped_lock held(lock);
    CHECK(lock.locked());
  }
  CHECK_FALSE(lock.locked());
  try {
    const std::scoped_lock held(lock);
    throw 7;
  } catch (int) {
  }
  CHECK_FALSE(lock.locked());
}

TEMPLATE_TEST_CASE("a lock lets one process in at a time", "", mp::Lock, mp::RLock) {
  const TestType lock;
  const Shared<int> count;  // not atomic: what the lock guards
  Team team;
  team.add(4, [&] {
    for (int i = 0; i < 1000; ++i) {
      const std::scoped_lock held(lock);
      ++*count;
    }
  });
  CHECK(team.join());
  CHECK(*count == 4000);
}

TEST_CASE("acquiring a lock that another process holds gives up at the limit") {
  const mp::Lock lock;
  const Gate held, gate;
  Team team;
  team.add(1, [&] {
    lock.acquire();
    held.open();
    gate.wait();
    lock.release();
  });
  CHECK(held.wait());
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(lock.acquire(20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  CHECK_FALSE(lock.acquire(-1s));
  gate.open();
  CHECK(lock.acquire(patience));
  lock.release();
  CHECK(team.join());
}

TEMPLATE_TEST_CASE("a lock of a killed process is handed on and says so", "", mp::Lock, mp::RLock) {
  const LeakCheck nothing_left;
  const TestType lock;
  const Gate held, never;
  Team team;
  team.add(1, [&] {
    lock.acquire();
    held.open();
    never.wait(forever);
  });
  CHECK(held.wait());
  SECTION("to one that waits") {
    Team waiting;
    waiting.add(1, [&] {
      if (!lock.acquire() || !lock.abandoned()) ::_exit(1);
      lock.release();
    });
    waiting.await_asleep();
    team.kill(0);
    CHECK(waiting.join());
  }
  SECTION("to one that comes") {
    team.kill(0);
    CHECK_FALSE(lock.abandoned());
    CHECK(lock.acquire(patience));
    CHECK(lock.abandoned());
    CHECK(lock.depth() == 1);
    lock.release();
  }
  SECTION("also after somebody has asked whether it is free") {
    team.kill(0);
    CHECK_FALSE(lock.locked());
    CHECK_FALSE(lock.locked());
    CHECK(lock.acquire(0s));
    CHECK(lock.abandoned());
    lock.release();
  }
  CHECK_FALSE(lock.abandoned());
  CHECK(lock.acquire(patience));
  CHECK_FALSE(lock.abandoned());
  lock.release();
}

TEST_CASE("a lock of a thread that has ended is handed on") {
  const mp::RLock lock;
  threading::Thread thread([lock] {
    lock.acquire();
    lock.acquire();
  });
  thread.start();
  thread.join();
  CHECK(lock.acquire(patience));
  CHECK(lock.abandoned());
  CHECK(lock.depth() == 1);
  lock.release();
}

TEST_CASE("a process that drops a lock which it holds hands it on") {
  std::optional<mp::Lock> lock{std::in_place};
  const Gate dropped, gate;
  Team team;
  team.add(1, [&] {
    lock->acquire();
    lock.reset();
    dropped.open();
    gate.wait();
  });
  CHECK(dropped.wait());
  CHECK(lock->acquire(patience));
  CHECK(lock->abandoned());
  lock->release();
  gate.open();
  CHECK(team.join());
}

TEST_CASE("a lock may be dropped while another thread of the process holds it") {
  std::optional<mp::Lock> lock{std::in_place};
  std::atomic<int> step{0};
  threading::Thread thread([&] {
    lock->acquire();
    step = 1;
    await(step, 2);
    // The C library looks at its neighbours in the list of this thread's locks.
    for (int i = 0; i < 10; ++i) {
      const mp::Lock other;
      other.acquire();
      other.release();
    }
  });
  thread.start();
  await(step, 1);
  lock.reset();
  step = 2;
  CHECK(thread.join(patience));
}

TEST_CASE("copies of a lock are the same lock and live as long as any of them") {
  std::optional<mp::Lock> first{std::in_place};
  const mp::Lock second = *first, other;
  CHECK(*first == second);
  CHECK_FALSE(second == other);
  first->acquire();
  first.reset();
  CHECK(second.locked());
  second.release();
  std::unordered_set<mp::Lock> locks{second, other};
  CHECK(locks.count(second) == 1);
  CHECK(locks.size() == 2);
}

TEST_CASE("thousands of locks take few descriptors") {
  const auto descriptors = [] { return open_descriptors().size(); };
  const LeakCheck nothing_left;
  const std::size_t before = descriptors();
  {
    std::vector<mp::Lock> locks(3000);
    CHECK(descriptors() < before + 10);
    for (const auto& lock : locks) const std::scoped_lock held(lock);
    // What is made after a fork shares nothing with what the child makes.
    Team team;
    team.add(1, [] {
      std::vector<mp::Lock> own(30);
      for (const auto& lock : own) lock.acquire();
    });
    std::vector<mp::Lock> more(30);
    bool free = true;
    for (const auto& lock : more) free = !lock.locked() && free;
    CHECK(team.join());
    for (const auto& lock : more) free = !lock.locked() && free;
    CHECK(free);
  }
  CHECK(descriptors() == before);
}
