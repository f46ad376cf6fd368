// SPDX-License-Identifier: MIT
#include <brood/multiprocessing/event.hpp>

#include "team.hpp"

using namespace brood;
using namespace support;

TEST_CASE("an Event of processes is set and cleared") {
  const LeakCheck nothing_left;
  const mp::Event event;
  CHECK_FALSE(event.is_set());
  CHECK_FALSE(event.wait(0s));
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(event.wait(20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  event.set();
  event.set();
  CHECK(event.is_set());
  CHECK(event.wait(0s));
  CHECK(event.wait());
  event.clear();
  event.clear();
  CHECK_FALSE(event.is_set());
  CHECK_FALSE(event.wait(moment));
}

TEST_CASE("an Event set by a child wakes its parent") {
  const mp::Event event;
  Team team;
  team.add(1, [event] { event.set(); });
  CHECK(event.wait(patience));
  CHECK(event.is_set());
  CHECK(team.join());
}

TEST_CASE("processes that wait for an Event see a set that is cleared at once") {
  const mp::Event event;
  Team team;
  team.add(4, [event] {
    if (!event.wait(patience)) ::_exit(1);
  });
  team.await_asleep();
  SECTION("set for good") { event.set(); }
  SECTION("set and cleared") {
    event.set();
    event.clear();
    CHECK_FALSE(event.is_set());
    // Whoever was not asleep in the wait yet has missed it.
    CHECK(eventually([&] {
      if (team.join_for(100ms)) return true;
      event.set();
      event.clear();
      return false;
    }));
  }
  CHECK(team.join());
}

TEST_CASE("an Event outlives the kill of one who waits for it") {
  const mp::Event event;
  Team team;
  team.add(3, [event] { event.wait(); });
  team.await_asleep();
  team.kill(1);
  event.set();
  CHECK(team.join());
}
