// SPDX-License-Identifier: MIT
//
// Lock and RLock.
#include <sys/wait.h>

#include <stdexcept>
#include <thread>
#include <unordered_set>

#include "crew.hpp"

using namespace brood;
using namespace support;
using threading::Lock;
using threading::RLock;

namespace {

// Calls check(make) for each kind of lock.
template <class F>
void for_each_lock(F check) {
  SECTION("Lock") {
    check([] { return Lock(); });
  }
  SECTION("RLock") {
    check([] { return RLock(); });
  }
}

}  // namespace

TEST_CASE("a lock can be made and destroyed free or held") {
  for_each_lock([](auto make) {
    { const auto lock = make(); }
    {
      const auto lock = make();
      CHECK(lock.acquire());
    }
  });
}

TEST_CASE("a lock is acquired and released") {
  for_each_lock([](auto make) {
    const auto lock = make();
    CHECK_FALSE(lock.locked());
    CHECK(lock.acquire());
    CHECK(lock.locked());
    lock.release();
    CHECK_FALSE(lock.locked());
    CHECK(lock.try_lock());
    lock.unlock();
    CHECK(lock.acquire(0s));
    lock.release();
  });
}

TEST_CASE("a lock that another thread holds cannot be had at once") {
  for_each_lock([](auto make) {
    const auto lock = make();
    lock.acquire();
    CHECK_FALSE(in_thread([&] { return lock.acquire(0s); }));
    CHECK_FALSE(in_thread([&] { return lock.try_lock(); }));
    CHECK(in_thread([&] { return lock.locked(); }));
    lock.release();
    CHECK(in_thread([&] {
      const bool got = lock.try_lock();
      lock.unlock();
      return got;
    }));
  });
}

TEST_CASE("all who wait for a lock get it") {
  for_each_lock([](auto make) {
    const auto lock = make();
    lock.acquire();
    std::atomic<int> got{0};
    Crew crew;
    const int before = sleepers();
    crew.add(5, [&] {
      lock.acquire();
      ++got;
      lock.release();
    });
    await_sleepers(before + 5);
    CHECK(got == 0);
    lock.release();
    CHECK(crew.join());
    CHECK(got == 5);
  });
}

TEST_CASE("a lock lets one thread in at a time") {
  for_each_lock([](auto make) {
    const auto lock = make();
    int counter = 0;  // not atomic: what the lock guards
    Crew crew;
    crew.add(8, [&] {
      for (int i = 0; i < 2000; ++i) {
        const std::scoped_lock held(lock);
        ++counter;
      }
    });
    CHECK(crew.join());
    CHECK(counter == 16000);
  });
}

TEST_CASE("a scope guard releases a lock also when it is left by an exception") {
  for_each_lock([](auto make) {
    const auto lock = make();
    CHECK_THROWS_AS(
        [&] {
          const std::scoped_lock held(lock);
          throw 1;
        }(),
        int);
    CHECK_FALSE(lock.locked());
    {
      const std::unique_lock held(lock);
      CHECK(lock.locked());
    }
    CHECK_FALSE(lock.locked());
  });
}

TEST_CASE("acquiring a lock with a limit gives up when it is over") {
  for_each_lock([](auto make) {
    const auto lock = make();
    CHECK(lock.acquire(moment));
    std::chrono::steady_clock::duration waited{};
    CHECK_FALSE(in_thread([&] {
      const auto start = std::chrono::steady_clock::now();
      const bool got = lock.acquire(20ms);
      waited = std::chrono::steady_clock::now() - start;
      return got;
    }));
    CHECK(waited >= 20ms);
    CHECK_FALSE(in_thread([&] { return lock.acquire(-1s); }));
    lock.release();
    CHECK(lock.acquire(-1s));
    lock.release();
  });
}

TEST_CASE("foreign threads use a lock and leave no trace") {
  for_each_lock([](auto make) {
    const auto lock = make();
    const auto before = threading::active_count();
    std::thread foreign([&] {
      lock.acquire();
      lock.release();
    });
    foreign.join();
    CHECK(threading::active_count() == before);
  });
}

TEST_CASE("copies of a lock are the same lock") {
  for_each_lock([](auto make) {
    const auto lock = make();
    const auto copy = lock;
    copy.acquire();
    CHECK(lock.locked());
    lock.release();
    CHECK(copy == lock);
    CHECK_FALSE(copy == make());
    CHECK(std::unordered_set{lock, copy, make()}.size() == 2);
  });
}

TEST_CASE("a Lock that its thread holds is waited for until another releases it") {
  const Lock lock;
  lock.acquire();
  CHECK_FALSE(lock.acquire(0s));
  const int before = sleepers();
  threading::Thread twice([&] { lock.acquire(); });
  twice.start();
  await_sleepers(before + 1);
  CHECK(twice.is_alive());
  lock.release();
  CHECK(twice.join(patience));
  CHECK(lock.locked());
}

TEST_CASE("a Lock may be released by another thread") {
  const Lock lock;
  lock.acquire();
  in_thread([&] {
    lock.release();
    return 0;
  });
  CHECK(lock.try_lock());
}

TEST_CASE("releasing a free lock is a logic_error") {
  for_each_lock([](auto make) {
    const auto lock = make();
    CHECK_THROWS_AS(lock.release(), std::logic_error);
    lock.acquire();
    lock.release();
    CHECK_THROWS_AS(lock.release(), std::logic_error);
  });
}

TEST_CASE("a Lock is whole after an acquire that gave up") {
  const Lock lock;
  lock.acquire();
  CHECK_FALSE(lock.acquire(moment));
  CHECK(lock.locked());
  lock.release();
  CHECK_FALSE(lock.locked());
  CHECK(lock.acquire(0s));
}

TEST_CASE("an RLock is acquired and released as often as its thread likes") {
  const RLock lock;
  for (int i = 0; i < 3; ++i) lock.acquire();
  CHECK(lock.locked());
  for (int i = 0; i < 2; ++i) lock.release();
  CHECK(lock.locked());
  CHECK_FALSE(in_thread([&] { return lock.try_lock(); }));
  lock.release();
  CHECK_FALSE(lock.locked());
  CHECK_THROWS_AS(lock.release(), std::logic_error);
}

TEST_CASE("releasing an RLock of another thread is a logic_error") {
  const RLock lock;
  lock.acquire();
  CHECK(in_thread([&] { return is_logic_error([&] { lock.release(); }); }));
  lock.acquire();
  CHECK(in_thread([&] { return lock.locked(); }));
  CHECK(in_thread([&] { return is_logic_error([&] { lock.release(); }); }));
  lock.release();
  lock.release();
  CHECK(in_thread([&] {
    const bool got = lock.try_lock();
    lock.release();
    return got;
  }));
}

TEST_CASE("a forked child finds its locks usable whatever waited for them") {
  for_each_lock([](auto make) {
    const auto lock = make();
    lock.acquire();
    Crew crew;
    const int before = sleepers();
    crew.add(2, [&] {
      lock.acquire();
      lock.release();
    });
    await_sleepers(before + 2);
    const pid_t pid = ::fork();
    if (pid == 0) {
      // This thread holds it still, and there is nobody to wake.
      lock.release();
      ::_exit(lock.try_lock() && lock.locked() ? 17 : 1);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 17);
    lock.release();
    CHECK(crew.join());
  });
}
