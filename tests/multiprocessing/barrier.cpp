// SPDX-License-Identifier: MIT
#include <algorithm>
#include <brood/multiprocessing/barrier.hpp>
#include <brood/multiprocessing/event.hpp>

#include "team.hpp"

using namespace brood;
using namespace support;
using threading::BrokenBarrierError;

namespace {

constexpr int parties = 4;

// What became of the waits of processes.
struct Tally {
  std::atomic<int> arrived, passed, broken, other, actions, inside;
  std::atomic<int> seen[parties];
  std::atomic<bool> wrong;

  template <class F>
  void count(F wait) {
    ++arrived;
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

void await_waiting(const mp::Barrier& barrier, std::size_t count) {
  while (barrier.n_waiting() < count) ::sched_yield();
}

}  // namespace

TEST_CASE("a Barrier of processes is for at least one party") {
  const LeakCheck nothing_left;
  CHECK_THROWS_AS(mp::Barrier(0), std::invalid_argument);
  CHECK_THROWS_AS(mp::Barrier(-1), std::invalid_argument);
  CHECK_THROWS_AS(mp::Barrier(65536), std::invalid_argument);
  const mp::Barrier barrier(3);
  CHECK(barrier.parties() == 3);
  CHECK(barrier.n_waiting() == 0);
  CHECK_FALSE(barrier.broken());
}

TEST_CASE("the processes at a Barrier pass it in lock-step") {
  const int rounds = GENERATE(1, 10, 500);
  const mp::Barrier barrier(parties);
  const Shared<Tally> tally;
  Team team;
  team.add(parties, [&] {
    for (int round = 1; round <= rounds; ++round) {
      ++tally->arrived;
      barrier.wait();
      if (tally->arrived != round * parties) tally->wrong = true;
      barrier.wait();
    }
  });
  CHECK(team.join());
  CHECK_FALSE(tally->wrong);
  CHECK_FALSE(barrier.broken());
}

TEST_CASE("wait at a Barrier gives each process another index") {
  const mp::Barrier barrier(parties);
  const Shared<Tally> tally;
  Team team;
  team.add(parties, [&] {
    for (int i = 0; i < 20; ++i) ++tally->seen[barrier.wait()];
  });
  CHECK(team.join());
  CHECK(std::all_of(std::begin(tally->seen), std::end(tally->seen),
                    [](const auto& n) { return n == 20; }));
}

TEST_CASE("the action of a Barrier runs in one process and before any goes on") {
  const Shared<Tally> tally;
  const mp::Barrier barrier(parties, [&] { ++tally->actions; });
  const mp::Barrier all_have_looked(parties);
  Team team;
  team.add(parties, [&] {
    for (int pass = 1; pass <= 10; ++pass) {
      barrier.wait();
      if (tally->actions != pass) tally->wrong = true;
      all_have_looked.wait();
    }
  });
  CHECK(team.join());
  CHECK_FALSE(tally->wrong);
}

TEST_CASE("more processes than its parties may use a Barrier") {
  const Shared<Tally> tally;
  const mp::Barrier barrier(2, [&] {
    if (++tally->inside != 1) tally->wrong = true;
    ++tally->actions;
    ::sched_yield();
    --tally->inside;
  });
  Team team;
  team.add(6, [&] {
    while (tally->broken == 0) tally->count([&] { ++tally->seen[barrier.wait()]; });
  });
  await(tally->actions, 300);
  barrier.abort();
  CHECK(team.join());
  CHECK_FALSE(tally->wrong);
  CHECK(tally->other == 0);
  CHECK(tally->seen[0] == tally->actions);
  CHECK(tally->seen[1] == tally->actions);
}

TEST_CASE("an action that throws breaks the Barrier of processes") {
  const Shared<Tally> tally;
  const mp::Barrier barrier(parties, [] { throw 7; });
  Team team;
  team.add(parties, [&] { tally->count([&] { barrier.wait(); }); });
  CHECK(team.join());
  CHECK(tally->other == 1);
  CHECK(tally->broken == parties - 1);
  CHECK(barrier.broken());
}

TEST_CASE("abort breaks a Barrier for the processes that wait and come") {
  const mp::Barrier barrier(parties);
  const Shared<Tally> tally;
  Team team;
  team.add(parties - 1, [&] { tally->count([&] { barrier.wait(); }); });
  await_waiting(barrier, parties - 1);
  barrier.abort();
  CHECK(team.join());
  CHECK(tally->broken == parties - 1);
  CHECK(barrier.broken());
  CHECK(barrier.n_waiting() == 0);
  CHECK_THROWS_AS(barrier.wait(), BrokenBarrierError);
}

TEST_CASE("reset sends processes away and the Barrier is as new") {
  const mp::Barrier barrier(parties);
  for (const bool aborted : {false, true}) {
    const Shared<Tally> before, after;
    Team team;
    team.add(parties - 1, [&] { before->count([&] { barrier.wait(); }); });
    await_waiting(barrier, parties - 1);
    if (aborted) barrier.abort();
    barrier.reset();
    CHECK(team.join());
    CHECK(before->broken == parties - 1);
    CHECK_FALSE(barrier.broken());
    team.add(parties, [&] { after->count([&] { barrier.wait(); }); });
    CHECK(team.join());
    CHECK(after->passed == parties);
  }
}

TEST_CASE("a wait whose limit is over breaks the Barrier for all processes") {
  const mp::Barrier barrier(parties);
  const Shared<Tally> tally;
  Team team;
  team.add(parties - 2, [&] { tally->count([&] { barrier.wait(); }); });
  await_waiting(barrier, parties - 2);
  CHECK_THROWS_AS(barrier.wait(moment), BrokenBarrierError);
  CHECK(team.join());
  CHECK(tally->broken == parties - 2);
  CHECK(barrier.broken());
}

TEST_CASE("a Barrier of processes may have a limit for all waits") {
  const mp::Barrier barrier(2, nullptr, moment);
  CHECK_THROWS_AS(barrier.wait(), BrokenBarrierError);
  CHECK(barrier.broken());
}

TEST_CASE("a Barrier of processes for one never waits") {
  int actions = 0;
  const mp::Barrier barrier(1, [&] { ++actions; });
  CHECK(barrier.wait() == 0);
  CHECK(barrier.wait(0s) == 0);
  CHECK(actions == 2);
}

TEST_CASE("who arrived at a Barrier and is killed counts as arrived") {
  const mp::Barrier barrier(3);
  const Shared<Tally> tally;
  Team team;
  team.add(2, [&] { tally->count([&] { barrier.wait(); }); });
  await_waiting(barrier, 2);
  team.kill(0);
  CHECK_NOTHROW(barrier.wait(patience));
  CHECK(team.join());
  CHECK(tally->passed == 1);
}

TEST_CASE("a process that is killed in the action breaks the Barrier") {
  const Shared<Tally> tally;
  const mp::Event acting;
  const mp::Barrier barrier(parties, [acting] {
    acting.set();
    for (;;) ::pause();
  });
  Team waiting, last, late;
  waiting.add(parties - 1, [&] { tally->count([&] { barrier.wait(); }); });
  await_waiting(barrier, parties - 1);
  last.add(1, [&] { barrier.wait(); });
  CHECK(acting.wait(patience));
  late.add(1, [&] { tally->count([&] { barrier.wait(); }); });
  CHECK_THROWS_AS(barrier.wait(moment), BrokenBarrierError);  // the action runs: a limit to come in
  CHECK_FALSE(barrier.broken());
  last.kill(0);
  CHECK(waiting.join());
  CHECK(late.join());
  CHECK(tally->broken == parties);
  CHECK(barrier.broken());
  barrier.reset();
  CHECK_FALSE(barrier.broken());
  CHECK(barrier.n_waiting() == 0);
}
