// SPDX-License-Identifier: MIT
#include <brood/multiprocessing/condition.hpp>
#include <brood/threading/thread.hpp>
#include <mutex>

#include "support/sleepers.hpp"
#include "team.hpp"

using namespace brood;
using namespace support;

namespace {

struct Words {
  std::atomic<int> sleeping, woken, value;
};

// Waits once and says so. The lock is free again when `sleeping` was counted and can be had: then
// it waits.
void sleep_once(const mp::Condition& condition, Words& words, Timeout limit = forever) {
  const std::scoped_lock held(condition);
  ++words.sleeping;
  if (condition.wait(limit)) ++words.woken;
}

void await_sleeping(const mp::Condition& condition, const Words& words, int count) {
  await(words.sleeping, count);
  const std::scoped_lock held(condition);
}

void notify(const mp::Condition& condition, std::size_t count) {
  const std::scoped_lock held(condition);
  condition.notify(count);
}

// Whether it stays at `count` while somebody could change that.
bool stays(const std::atomic<int>& counter, int count) {
  for (int i = 0; i < 200; ++i) ::sched_yield();
  return counter == count;
}

}  // namespace

TEST_CASE("a Condition of processes has an RLock of its own or uses the one given") {
  const LeakCheck nothing_left;
  const mp::Condition own;
  CHECK(own.acquire());
  CHECK(own.acquire());
  CHECK(own.locked());
  own.release();
  own.release();
  CHECK_FALSE(own.locked());
  CHECK_THROWS_AS(own.release(), std::logic_error);
  const mp::Lock lock;
  const mp::Condition over(lock), beside(lock);
  lock.acquire();
  CHECK(over.locked());
  CHECK_FALSE(beside.try_lock());
  over.release();
  CHECK_FALSE(lock.locked());
}

TEST_CASE("a Condition of processes is neither waited for nor notified without its lock") {
  const mp::Condition condition;
  CHECK_THROWS_AS(condition.wait(), std::logic_error);
  CHECK_THROWS_AS(condition.wait(0s), std::logic_error);
  CHECK_THROWS_AS(condition.notify(), std::logic_error);
  CHECK_THROWS_AS(condition.notify_all(), std::logic_error);
  condition.acquire();
  Team team;
  team.add(1, [&] {
    if (!is_logic_error([&] { condition.notify(); })) ::_exit(1);
  });
  CHECK(team.join());
  condition.release();
}

TEST_CASE("a wait for a Condition of processes gives up when its limit is over") {
  const mp::Condition condition;
  const std::scoped_lock held(condition);
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(condition.wait(20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  CHECK_FALSE(condition.wait(0s));
  CHECK(condition.locked());
}

TEST_CASE("notify wakes a process and a thread that wait one at a time") {
  const mp::Condition condition;
  const Shared<Words> words;
  Team team;
  team.add(1, [&] { sleep_once(condition, *words); });
  threading::Thread thread([&] { sleep_once(condition, *words); });
  thread.start();
  await_sleeping(condition, *words, 2);
  CHECK(stays(words->woken, 0));
  notify(condition, 1);
  await(words->woken, 1);
  CHECK(stays(words->woken, 1));
  notify(condition, 1);
  CHECK(team.join());
  CHECK(thread.join(patience));
  CHECK(words->woken == 2);
  // A notify with nobody there is not kept.
  notify(condition, 1);
  const std::scoped_lock held(condition);
  CHECK_FALSE(condition.wait(moment));
}

TEST_CASE("notify_all wakes all processes that wait for a Condition") {
  const mp::Condition condition;
  const Shared<Words> words;
  Team team;
  team.add(3, [&] { sleep_once(condition, *words, moment); });
  CHECK(team.join());
  CHECK(words->woken == 0);
  team.add(5, [&] { sleep_once(condition, *words); });
  await_sleeping(condition, *words, 8);
  {
    const std::scoped_lock held(condition);
    condition.notify_all();
  }
  CHECK(team.join());
  CHECK(words->woken == 5);
}

TEST_CASE("notify wakes as many processes as it is told") {
  const mp::Condition condition;
  const Shared<Words> words;
  Team team;
  team.add(6, [&] { sleep_once(condition, *words); });
  await_sleeping(condition, *words, 6);
  notify(condition, 0);
  CHECK(stays(words->woken, 0));
  notify(condition, 2);
  await(words->woken, 2);
  CHECK(stays(words->woken, 2));
  notify(condition, 4);
  CHECK(team.join());
  CHECK(words->woken == 6);
  notify(condition, 3);
  CHECK(words->woken == 6);
}

TEST_CASE("wait_for returns when another process has made it so") {
  const mp::Condition condition;
  const Shared<Words> words;
  Team team;
  team.add(1, [&] {
    const std::scoped_lock held(condition);
    condition.wait_for([&] { return words->value == 4; });
    if (words->value != 4) ::_exit(1);
  });
  for (int i = 0; i < 4; ++i) {
    const std::scoped_lock held(condition);
    ++words->value;
    condition.notify();
  }
  CHECK(team.join());
}

TEST_CASE("wait_for of a Condition of processes bounds the whole wait") {
  const mp::Condition condition;
  const Shared<Words> words;
  Team team;
  team.add(1, [&] {
    while (words->value == 0) notify(condition, 1);
  });
  const std::scoped_lock held(condition);
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(condition.wait_for([] { return false; }, 50ms));
  CHECK(std::chrono::steady_clock::now() - start >= 50ms);
  words->value = 1;
  CHECK(condition.wait_for([] { return true; }, 0s));
}

TEST_CASE("waiting releases an RLock wholly and takes it back as often") {
  const mp::RLock lock;
  const mp::Condition condition(lock);
  const Shared<Words> words;
  Team team;
  team.add(1, [&] {
    lock.acquire();
    lock.acquire();
    lock.acquire();
    ++words->sleeping;
    if (!condition.wait()) ::_exit(1);
    if (lock.depth() != 3) ::_exit(2);
    for (int i = 0; i < 3; ++i) lock.release();
  });
  await_sleeping(condition, *words, 1);
  notify(condition, 1);
  CHECK(team.join());
}

TEST_CASE("a notify is not lost with a process that is killed in its wait") {
  const mp::Condition condition;
  const Shared<Words> words;
  const auto waits = [&] { sleep_once(condition, *words); };
  Team team;
  team.add(1, waits);
  await_sleeping(condition, *words, 1);
  team.await_asleep();  // in the seat
  team.add(1, waits);
  await_sleeping(condition, *words, 2);
  SECTION("before the notify") {
    team.kill(0);
    notify(condition, 1);
  }
  SECTION("after the notify") {
    team.stop(0);
    notify(condition, 1);
    team.kill(0);
  }
  SECTION("with others behind it") {
    team.add(2, waits);
    await_sleeping(condition, *words, 4);
    team.kill(2);
    notify(condition, 1);
    await(words->woken, 1);
    team.kill(0);
    notify(condition, 4);
  }
  CHECK(team.join());
  CHECK(words->woken >= 1);
}

TEST_CASE("a process that is stopped in its wait holds up no other") {
  const mp::Condition condition;
  const Shared<Words> words;
  const auto waits = [&] { sleep_once(condition, *words); };
  Team team;
  team.add(1, waits);
  await_sleeping(condition, *words, 1);
  team.await_asleep();  // in the seat
  team.stop(0);
  team.add(1, waits);
  await_sleeping(condition, *words, 2);
  notify(condition, 1);
  await(words->woken, 1);
  team.resume(0);
  notify(condition, 1);
  CHECK(team.join());
  CHECK(words->woken == 2);
}

TEST_CASE("the lock of a process that is killed in its wait is not held") {
  const mp::Condition condition;
  const Shared<Words> words;
  Team team;
  team.add(1, [&] { sleep_once(condition, *words); });
  await_sleeping(condition, *words, 1);
  team.kill(0);
  CHECK_FALSE(condition.locked());
  const std::scoped_lock held(condition);
  condition.notify_all();
}

TEST_CASE("who dies with the lock of a Condition leaves those who wait to the next notify") {
  const mp::Condition condition;
  const Shared<Words> words;
  Team team, dying;
  team.add(2, [&] { sleep_once(condition, *words); });
  await_sleeping(condition, *words, 2);
  dying.add(1, [&] {
    condition.acquire();
    condition.notify();
    ::raise(SIGKILL);
  });
  CHECK(dying.join());
  await(words->woken, 1);
  notify(condition, 1);
  CHECK(team.join());
  CHECK(words->woken == 2);
}

TEST_CASE(
    "who waits for a Condition again at once holds up none of those that were woken with it") {
  // Each round in which it did would last until the others look by themselves, 0.1 s.
  const int rounds = under_tsan ? 30 : 1000;
  const mp::RLock lock;
  const mp::Condition next(lock), done(lock);
  const Shared<Words> words;
  Team team;
  team.add(4, [&] {
    for (int round = 1; round <= rounds; ++round) {
      const std::scoped_lock held(lock);
      next.wait_for([&] { return words->value >= round; });
      if (++words->woken == 4 * round) done.notify();
    }
  });
  bool all = true;
  const auto end = std::chrono::steady_clock::now() + 80s;
  for (int round = 1; all && round <= rounds; ++round) {
    const std::scoped_lock held(lock);
    words->value = round;
    next.notify_all();
    all = done.wait_for([&] { return words->woken == 4 * round; },
                        end - std::chrono::steady_clock::now());
  }
  CHECK(all);
  if (all) CHECK(team.join());
}
