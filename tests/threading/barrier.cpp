// SPDX-License-Identifier: MIT
//
// Barrier.
#include <algorithm>

#include "crew.hpp"

using namespace brood;
using namespace support;
using threading::Barrier;
using threading::BrokenBarrierError;

namespace {

constexpr int parties = 5;

// What became of the waits of threads that must not assert themselves.
struct Tally {
  std::atomic<int> passed{0}, broken{0}, other{0};
  template <class F>
  void count(F wait) {
    try {
      wait();
      ++passed;
    } catch (const BrokenBarrierError&) {
      ++broken;
    } catch (...) {
      ++other;
    }
  }
};

}  // namespace

TEST_CASE("a Barrier is for at least one party") {
  CHECK_THROWS_AS(Barrier(0), std::invalid_argument);
  CHECK_THROWS_AS(Barrier(-1), std::invalid_argument);
  const Barrier barrier(3);
  CHECK(barrier.parties() == 3);
  CHECK(barrier.n_waiting() == 0);
  CHECK_FALSE(barrier.broken());
}

TEST_CASE("the threads at a Barrier pass it in lock-step") {
  const int rounds = GENERATE(1, 10);
  const Barrier barrier(parties);
  std::atomic<int> arrived{0};
  std::atomic<bool> in_step{true};
  Crew crew;
  crew.add(parties, [&] {
    for (int round = 1; round <= rounds; ++round) {
      ++arrived;
      barrier.wait();
      if (arrived != round * parties) in_step = false;
      barrier.wait();
    }
  });
  CHECK(crew.join());
  CHECK(in_step);
  CHECK_FALSE(barrier.broken());
}

TEST_CASE("wait at a Barrier gives each thread another index") {
  const Barrier barrier(parties);
  std::atomic<int> seen[parties] = {};
  Crew crew;
  crew.add(parties, [&] {
    for (int i = 0; i < 20; ++i) ++seen[barrier.wait()];
  });
  CHECK(crew.join());
  CHECK(std::all_of(std::begin(seen), std::end(seen), [](const auto& n) { return n == 20; }));
}

TEST_CASE("the action of a Barrier runs once a pass and before anybody goes on") {
  int actions = 0;  // not atomic: what the barriers guard
  const Barrier barrier(parties, [&] { ++actions; });
  const Barrier all_have_looked(parties);
  std::atomic<bool> right{true};
  Crew crew;
  crew.add(parties, [&] {
    for (int pass = 1; pass <= 10; ++pass) {
      barrier.wait();
      if (actions != pass) right = false;
      all_have_looked.wait();
    }
  });
  CHECK(crew.join());
  CHECK(right);
}

TEST_CASE("more threads than its parties may use a Barrier") {
  std::atomic<int> inside{0}, actions{0}, seen[2] = {};
  std::atomic<bool> alone{true};
  const Barrier barrier(2, [&] {
    if (++inside != 1) alone = false;
    ++actions;
    ::sched_yield();
    --inside;
  });
  Crew crew;
  Tally tally;
  crew.add(6, [&] {
    while (tally.broken == 0) tally.count([&] { ++seen[barrier.wait()]; });
  });
  await(actions, 300);
  barrier.abort();
  CHECK(crew.join());
  CHECK(alone);
  CHECK(tally.other == 0);
  CHECK(seen[0] == actions);
  CHECK(seen[1] == actions);
}

TEST_CASE("an action that throws breaks the Barrier and is told by its own call") {
  const Barrier barrier(parties, [] { throw 7; });
  Tally tally;
  Crew crew;
  crew.add(parties, [&] { tally.count([&] { barrier.wait(); }); });
  CHECK(crew.join());
  CHECK(tally.other == 1);
  CHECK(tally.broken == parties - 1);
  CHECK(barrier.broken());
}

TEST_CASE("abort breaks a Barrier for those who wait and those who come") {
  const Barrier barrier(parties);
  Tally tally;
  Crew crew;
  crew.add(parties - 1, [&] { tally.count([&] { barrier.wait(); }); });
  while (barrier.n_waiting() < parties - 1) ::sched_yield();
  barrier.abort();
  CHECK(crew.join());
  CHECK(tally.broken == parties - 1);
  CHECK(barrier.broken());
  CHECK(barrier.n_waiting() == 0);
  CHECK_THROWS_AS(barrier.wait(), BrokenBarrierError);
}

TEST_CASE("reset sends those who wait away and the Barrier is as new") {
  const Barrier barrier(parties);
  for (const bool aborted : {false, true}) {
    Tally before, after;
    Crew crew;
    crew.add(parties - 1, [&] { before.count([&] { barrier.wait(); }); });
    while (barrier.n_waiting() < parties - 1) ::sched_yield();
    if (aborted) barrier.abort();
    barrier.reset();
    CHECK(crew.join());
    CHECK(before.broken == parties - 1);
    CHECK_FALSE(barrier.broken());
    crew.add(parties, [&] { after.count([&] { barrier.wait(); }); });
    CHECK(crew.join());
    CHECK(after.passed == parties);
  }
}

TEST_CASE("a wait whose limit is over breaks the Barrier for all") {
  const Barrier barrier(parties);
  Tally tally;
  Crew crew;
  crew.add(parties - 2, [&] { tally.count([&] { barrier.wait(); }); });
  while (barrier.n_waiting() < parties - 2) ::sched_yield();
  CHECK_THROWS_AS(barrier.wait(moment), BrokenBarrierError);
  CHECK(crew.join());
  CHECK(tally.broken == parties - 2);
  CHECK(barrier.broken());
}

TEST_CASE("a Barrier may have a limit for all waits") {
  const Barrier barrier(2, nullptr, moment);
  CHECK_THROWS_AS(barrier.wait(), BrokenBarrierError);
  CHECK(barrier.broken());
}

TEST_CASE("a Barrier for one never waits") {
  int actions = 0;
  const Barrier barrier(1, [&] { ++actions; });
  CHECK(barrier.wait() == 0);
  CHECK(barrier.wait(0s) == 0);
  CHECK(actions == 2);
}

TEST_CASE("a limit that is over while the action runs breaks nothing") {
  const threading::Event acting, go_on;
  const Barrier barrier(2, [&] {
    acting.set();
    go_on.wait();
  });
  Tally tally;
  Crew crew;
  crew.add(2, [&] { tally.count([&] { barrier.wait(moment); }); });
  // The one that acts is never late; the other one's limit is over before it is let go on, unless
  // it came so late that both were.
  if (acting.wait(100ms)) {
    threading::Event().wait(20ms);
    go_on.set();
    CHECK(crew.join());
    CHECK(tally.passed == 2);
  } else {
    go_on.set();
    CHECK(crew.join());
  }
}
