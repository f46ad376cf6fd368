// SPDX-License-Identifier: MIT
//
// Condition.
#include "crew.hpp"

using namespace brood;
using namespace support;
using threading::Condition;

TEST_CASE("a Condition has a recursive lock of its own or uses the one given") {
  const Condition own;
  own.acquire();
  own.acquire();
  CHECK(own.locked());
  own.release();
  own.release();
  CHECK_FALSE(own.locked());
  CHECK_THROWS_AS(own.release(), std::logic_error);

  const threading::Lock lock;
  const Condition given(lock);
  given.acquire();
  CHECK(lock.locked());
  CHECK_FALSE(given.acquire(0s));
  lock.release();
  CHECK_FALSE(given.locked());
}

TEST_CASE("waiting for a Condition without its lock is a logic_error") {
  const Condition own;
  CHECK_THROWS_AS(own.wait(), std::logic_error);
  CHECK_THROWS_AS(own.wait(0s), std::logic_error);
  const threading::Lock lock;
  CHECK_THROWS_AS(Condition(lock).wait(), std::logic_error);
  own.acquire();
  CHECK(in_thread([&] { return is_logic_error([&] { own.wait(moment); }); }));
  own.release();
}

TEST_CASE("notifying a Condition without its lock is a logic_error") {
  const Condition own;
  CHECK_THROWS_AS(own.notify(), std::logic_error);
  CHECK_THROWS_AS(own.notify_all(), std::logic_error);
  const threading::Lock lock;
  CHECK_THROWS_AS(Condition(lock).notify(), std::logic_error);
}

TEST_CASE("notify wakes exactly as many as it is told in order of arrival") {
  const bool with_lock = GENERATE(false, true);
  const Condition changed = with_lock ? Condition(threading::Lock()) : Condition();
  constexpr int count = 6;
  std::atomic<int> waiting{0}, woken{0};
  std::atomic<int> order[count] = {};
  Crew crew;
  for (int i = 0; i < count; ++i) {
    crew.add(1, [&, i] {
      const std::scoped_lock held(changed);
      ++waiting;
      changed.wait();
      order[i] = ++woken;
    });
    await(waiting, i + 1);
  }
  // Who has the lock knows that all the others are in wait().
  const auto notify = [&](std::size_t n) {
    const std::scoped_lock held(changed);
    changed.notify(n);
  };
  notify(0);
  notify(2);
  await(woken, 2);
  notify(1);
  await(woken, 3);
  {
    const std::scoped_lock held(changed);
    CHECK(woken == 3);
    changed.notify_all();
  }
  CHECK(crew.join());
  CHECK(woken == count);
  for (int i = 0; i < count; ++i) {
    CAPTURE(i);
    CHECK(order[i] <= (i < 2 ? 2 : i < 3 ? 3 : count));
  }
  notify(5);  // nobody is there: nothing is kept
  const std::scoped_lock held(changed);
  CHECK_FALSE(changed.wait(0s));
}

TEST_CASE("a wait for a Condition gives up when its limit is over") {
  const Condition changed;
  const std::scoped_lock held(changed);
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(changed.wait(20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  CHECK(changed.locked());
  CHECK_FALSE(changed.wait(-1s));
}

TEST_CASE("a wait lets a lock go that is held several times and takes it back so") {
  const Condition changed;
  changed.acquire();
  changed.acquire();
  Crew crew;
  crew.add(1, [&] {
    const std::scoped_lock held(changed);  // had only because wait() let it go
    changed.notify();
  });
  CHECK(changed.wait(patience));
  CHECK_FALSE(in_thread([&] { return changed.try_lock(); }));
  changed.release();
  CHECK_FALSE(in_thread([&] { return changed.try_lock(); }));
  changed.release();
  CHECK_THROWS_AS(changed.release(), std::logic_error);
  CHECK(crew.join());
}

TEST_CASE("wait_for returns when the predicate holds") {
  const Condition changed;
  int state = 0;
  bool held_at_last = false;
  Crew crew;
  crew.add(1, [&] {
    const std::scoped_lock held(changed);
    held_at_last = changed.wait_for([&] { return state == 4; });
  });
  for (int i = 0; i < 4; ++i) {
    const std::scoped_lock held(changed);
    ++state;
    changed.notify();
  }
  CHECK(crew.join());
  CHECK(held_at_last);
  CHECK(state == 4);
}

TEST_CASE("wait_for bounds the whole wait over several wake-ups") {
  const Condition changed;
  std::atomic<bool> over{false};
  Crew crew;
  crew.add(1, [&] {
    while (!over) {
      const std::scoped_lock held(changed);
      changed.notify();
    }
  });
  const auto start = std::chrono::steady_clock::now();
  {
    const std::scoped_lock held(changed);
    CHECK_FALSE(changed.wait_for([] { return false; }, 30ms));
    CHECK(changed.wait_for([] { return true; }, 0s));
  }
  CHECK(std::chrono::steady_clock::now() - start >= 30ms);
  over = true;
  CHECK(crew.join());
}

TEST_CASE("a Condition carries work between many threads and loses no wake-up") {
  const Condition changed;
  int ready = 0, taken = 0;
  constexpr int each = 2000;
  Crew crew;
  crew.add(3, [&] {
    for (int i = 0; i < each; ++i) {
      const std::scoped_lock held(changed);
      ++ready;
      changed.notify();
    }
  });
  crew.add(3, [&] {
    for (int i = 0; i < each; ++i) {
      const std::scoped_lock held(changed);
      changed.wait_for([&] { return ready > 0; });
      --ready;
      ++taken;
    }
  });
  CHECK(crew.join());
  CHECK(taken == 3 * each);
}

TEST_CASE("a thread whose wait for a Condition fails does not wait") {
  // As a Lock which another thread lets go just then.
  struct Slipped {
    bool may_release() { return true; }
    unsigned release_all() { throw std::logic_error{"not held"}; }
    void reacquire(unsigned) {}
  } slipped;
  sync::Condition<sync::PrivateMonitor> core;
  CHECK_THROWS_AS(core.wait(slipped, posix::Deadline{forever}), std::logic_error);
  sync::Lock<sync::PrivateMonitor> lock;
  bool woken = false;
  threading::Thread waiter([&] {
    lock.acquire(posix::Deadline{forever});
    woken = core.wait(lock, brood::posix::Deadline{patience});
    lock.release();
  });
  lock.acquire(posix::Deadline{forever});
  const int before = sleepers();
  lock.release();
  waiter.start();
  await_sleepers(before + 1);
  lock.acquire(posix::Deadline{forever});
  core.notify(lock, 1);
  lock.release();
  waiter.join();
  CHECK(woken);
}
