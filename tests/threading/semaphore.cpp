// SPDX-License-Identifier: MIT
//
// Semaphore and BoundedSemaphore.
#include "crew.hpp"

using namespace brood;
using namespace support;
using threading::BoundedSemaphore;
using threading::Semaphore;

TEST_CASE("a semaphore starts at 1 or what it is given and not below 0") {
  CHECK(Semaphore().get_value() == 1);
  CHECK(BoundedSemaphore().get_value() == 1);
  CHECK(Semaphore(0).get_value() == 0);
  CHECK_THROWS_AS(Semaphore(-1), std::invalid_argument);
  CHECK_THROWS_AS(BoundedSemaphore(-1), std::invalid_argument);
}

TEST_CASE("a semaphore is acquired as often as its value says") {
  const Semaphore semaphore(2);
  CHECK(semaphore.acquire());
  CHECK(semaphore.acquire(0s));
  CHECK(semaphore.get_value() == 0);
  CHECK_FALSE(semaphore.acquire(0s));
  CHECK_FALSE(semaphore.try_lock());
  CHECK_FALSE(in_thread([&] { return semaphore.try_lock(); }));
  semaphore.release();
  CHECK(semaphore.try_lock());
}

TEST_CASE("a semaphore that is held can be destroyed") {
  const Semaphore semaphore(1);
  CHECK(semaphore.acquire());
}

TEST_CASE("as many who wait for a semaphore go on as it is released") {
  const Semaphore semaphore(3);
  std::atomic<int> got{0};
  Crew crew;
  const int before = sleepers();
  crew.add(10, [&] {
    semaphore.acquire();
    ++got;
  });
  await(got, 3);
  await_sleepers(before + 7);
  CHECK(semaphore.get_value() == 0);
  semaphore.release(2);
  await(got, 5);
  semaphore.release();
  await(got, 6);
  await_sleepers(before + 4);
  CHECK(got == 6);
  semaphore.release(4);
  CHECK(crew.join());
  CHECK(got == 10);
  CHECK(semaphore.get_value() == 0);
}

TEST_CASE("release of several frees as many at one stroke") {
  const Semaphore semaphore(0);
  semaphore.release(3);
  CHECK(semaphore.get_value() == 3);
  CHECK_THROWS_AS(semaphore.release(0), std::invalid_argument);
  CHECK_THROWS_AS(semaphore.release(-1), std::invalid_argument);
  const BoundedSemaphore bounded(2);
  bounded.acquire();
  CHECK_THROWS_AS(bounded.release(2), std::invalid_argument);
  CHECK(bounded.get_value() == 1);
}

TEST_CASE("acquiring a semaphore with a limit gives up when it is over") {
  const Semaphore semaphore(1);
  CHECK(semaphore.acquire(moment));
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(semaphore.acquire(20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  CHECK_FALSE(semaphore.acquire(-1s));
  semaphore.release();
  CHECK(semaphore.acquire(20ms));
}

TEST_CASE("scope guards of a semaphore nest") {
  const Semaphore semaphore(2);
  {
    const std::scoped_lock one(semaphore);
    CHECK(semaphore.get_value() == 1);
    {
      const std::scoped_lock two(semaphore);
      CHECK_FALSE(semaphore.try_lock());
    }
    CHECK(semaphore.get_value() == 1);
  }
  CHECK(semaphore.get_value() == 2);
}

TEST_CASE("a Semaphore may be released above what it started with") {
  const Semaphore semaphore(1);
  semaphore.release();
  CHECK(semaphore.get_value() == 2);
  CHECK(semaphore.acquire(0s));
  CHECK(semaphore.acquire(0s));
  CHECK_FALSE(semaphore.acquire(0s));
}

TEST_CASE("a BoundedSemaphore released above what it started with throws") {
  const BoundedSemaphore semaphore(1);
  CHECK_THROWS_AS(semaphore.release(), std::invalid_argument);
  semaphore.acquire();
  in_thread([&] {
    semaphore.release();
    return 0;
  });
  CHECK_THROWS_AS(semaphore.release(), std::invalid_argument);
  CHECK(in_thread([&] { return is_logic_error([&] { semaphore.release(); }); }));
  CHECK(semaphore.get_value() == 1);
}

TEST_CASE("a semaphore of three never lets a fourth thread in") {
  const BoundedSemaphore semaphore(3);
  std::atomic<int> inside{0}, most{0};
  Crew crew;
  crew.add(10, [&] {
    for (int i = 0; i < 200; ++i) {
      const std::scoped_lock held(semaphore);
      const int now = ++inside;
      int seen = most;
      while (seen < now && !most.compare_exchange_weak(seen, now)) {
      }
      ::sched_yield();
      --inside;
    }
  });
  CHECK(crew.join());
  CHECK(most <= 3);
  CHECK(most >= 1);
  CHECK(semaphore.get_value() == 3);
}
