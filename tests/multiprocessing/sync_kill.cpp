// SPDX-License-Identifier: MIT
//
// The users of locks, semaphores, events, conditions and barriers are killed at random moments,
// again and again. However they die: nobody else is stuck, none gets in who must not, and what they
// shared is usable to the end.
#include <algorithm>
#include <brood/multiprocessing/barrier.hpp>
#include <brood/multiprocessing/condition.hpp>
#include <brood/multiprocessing/event.hpp>
#include <brood/multiprocessing/lock.hpp>
#include <brood/multiprocessing/semaphore.hpp>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <random>

#include "team.hpp"

using namespace brood;
using namespace support;

namespace {

struct Words {
  std::atomic<int> stop, done, wrong, inside, items;
};

unsigned seed() {
  const char* const given = std::getenv("BROOD_TEST_SEED");
  return given != nullptr ? static_cast<unsigned>(std::atoi(given)) : 20250609u;
}

// Kills one of the team after the other for a time, each at a random moment, and starts another
// that works in its place; `after_each()` comes in between.
template <class F, class G>
int rage(Team& team, std::chrono::milliseconds length, F work, G after_each) {
  std::mt19937 random{seed()};
  const std::size_t size = team.size();
  int killed = 0;
  const auto end = std::chrono::steady_clock::now() + length;
  while (std::chrono::steady_clock::now() < end) {
    const timespec pause{0, static_cast<long>(random() % 1'000'000)};
    ::nanosleep(&pause, nullptr);
    team.replace(random() % size, work);
    ++killed;
    after_each();
  }
  return killed;
}

// On a machine so busy that none of them came to do anything, they are left to it in the end.
template <class G>
void let_work(const std::atomic<int>& done, G after_each) {
  CHECK(eventually([&] {
    if (done == 0) after_each();
    return done != 0;
  }));
}

template <class Lock>
void rage_at_lock(std::chrono::milliseconds length) {
  const LeakCheck nothing_left;
  const Lock lock;
  const Shared<Words> words;
  const auto work = [&] {
    while (words->stop == 0) {
      // With a limit too: who gives up must not take a wake-up with it.
      if (!lock.acquire(words->done % 3 == 0 ? Timeout{200us} : forever)) continue;
      if (words->inside.exchange(1) != 0 && !lock.abandoned()) ++words->wrong;
      for (int i = 0; i < 20; ++i) sync::pause_spinning();
      ++words->done;
      words->inside = 0;
      lock.release();
    }
  };
  Team team;
  team.add(4, work);
  const int killed = rage(team, length, work, [] {});
  let_work(words->done, [] {});
  words->stop = 1;
  CHECK(team.join());
  CHECK(words->wrong == 0);
  CHECK(killed > 0);
  CHECK_FALSE(lock.locked());
  CHECK(lock.acquire(patience));
  lock.release();
}

void rage_at_semaphore(std::chrono::milliseconds length) {
  const LeakCheck nothing_left;
  const mp::Semaphore semaphore(0);
  const Shared<Words> words;
  // Units that were taken die with their taker, so there are always new ones.
  const auto work = [&] {
    while (words->stop == 0) {
      if (!semaphore.acquire(words->done % 3 == 0 ? Timeout{200us} : forever)) continue;
      ++words->done;
      if (words->done % 2 == 0) semaphore.release();
    }
  };
  Team team;
  team.add(4, work);
  const auto release = [&] { semaphore.release(2); };
  const int killed = rage(team, length, work, release);
  let_work(words->done, release);
  words->stop = 1;
  // Those that wait need a unit each to see it.
  semaphore.release(4);
  CHECK(team.join());
  CHECK(killed > 0);
  while (semaphore.acquire(0s)) {
  }
  CHECK(semaphore.get_value() == 0);
}

void rage_at_event(std::chrono::milliseconds length) {
  const LeakCheck nothing_left;
  const mp::Event event;
  const Shared<Words> words;
  std::atomic<int> next{0};
  const auto work = [&] {
    const bool sets = next % 2 == 0;
    while (words->stop == 0) {
      if (sets) {
        event.set();
        ::sched_yield();
        event.clear();
      } else if (event.wait(words->done % 3 == 0 ? Timeout{200us} : forever)) {
        ++words->done;
      }
    }
  };
  Team team;
  for (int i = 0; i < 4; ++i, ++next) team.add(1, work);
  const int killed = rage(team, length, work, [&] { ++next; });
  words->stop = 1;
  // One that sets may clear it once more.
  CHECK(eventually([&] {
    event.set();
    return team.join_for(10ms);
  }));
  CHECK(killed > 0);
  CHECK(event.wait(0s) == event.is_set());
}

void rage_at_condition(std::chrono::milliseconds length) {
  const LeakCheck nothing_left;
  const mp::Condition condition;
  const Shared<Words> words;
  // Takes items that others put, until it finds one when all is over.
  const auto work = [&] {
    for (;;) {
      const std::scoped_lock held(condition);
      const bool got = condition.wait_for([&] { return words->items > 0; },
                                          words->done % 3 == 0 ? Timeout{200us} : forever);
      if (!got) continue;
      --words->items;
      ++words->done;
      if (words->stop != 0) return;
      if (words->done % 2 == 0) {
        ++words->items;
        condition.notify();
      }
    }
  };
  const auto put = [&] {
    const std::scoped_lock held(condition);
    ++words->items;
    condition.notify();
  };
  Team team;
  team.add(4, work);
  const int killed = rage(team, length, work, put);
  let_work(words->done, put);
  {
    const std::scoped_lock held(condition);
    words->stop = 1;
    words->items = 0;
  }
  // From now on an item for each, and a notify for each item.
  for (int i = 0; i < 4; ++i) put();
  CHECK(team.join());
  CHECK(killed > 0);
  CHECK(words->items == 0);
}

void rage_at_barrier(std::chrono::milliseconds length) {
  const LeakCheck nothing_left;
  const Shared<Words> words;
  const mp::Barrier barrier(3, [&] {
    if (words->inside.exchange(1) != 0) ++words->wrong;
    ::sched_yield();
    words->inside = 0;
  });
  const auto work = [&] {
    while (words->stop == 0) {
      try {
        barrier.wait();
        ++words->done;
      } catch (const threading::BrokenBarrierError&) {
        ::sched_yield();
      }
    }
  };
  Team team;
  team.add(3, work);
  const auto mend = [&] {
    if (!barrier.broken()) return;
    words->inside = 0;  // the one that died in the action
    barrier.reset();
  };
  const int killed = rage(team, length, work, mend);
  let_work(words->done, mend);
  words->stop = 1;
  barrier.abort();
  CHECK(team.join());
  CHECK(words->wrong == 0);
  CHECK(killed > 0);
  CHECK(barrier.broken());
  CHECK(barrier.n_waiting() == 0);
}

}  // namespace

TEST_CASE("locks outlive the kills of their users") {
  rage_at_lock<mp::Lock>(300ms);
  rage_at_lock<mp::RLock>(300ms);
}

TEST_CASE("a Semaphore outlives the kills of its users") { rage_at_semaphore(400ms); }

TEST_CASE("an Event outlives the kills of its users") { rage_at_event(400ms); }

TEST_CASE("a Condition outlives the kills of its users") { rage_at_condition(400ms); }

TEST_CASE("a Barrier outlives the kills of its users") { rage_at_barrier(400ms); }

TEST_CASE("what processes wait for each other with outlives kills for long", "[soak]") {
  rage_at_lock<mp::Lock>(6s);
  rage_at_lock<mp::RLock>(6s);
  rage_at_semaphore(6s);
  rage_at_event(6s);
  rage_at_condition(6s);
  rage_at_barrier(6s);
}
