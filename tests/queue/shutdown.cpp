// SPDX-License-Identifier: MIT
//
// The end of a queue, as Python 3.13 defined it.
#include "kinds.hpp"

using namespace brood;
using namespace support;

TEST_CASE("after shutdown of an empty queue put and get throw ShutDown") {
  for_each_kind([](auto make) {
    const auto queue = make(2);
    CHECK_FALSE(queue.is_shutdown());
    queue.shutdown();
    CHECK(queue.is_shutdown());
    CHECK_THROWS_AS(queue.put(1), queue::ShutDown);
    CHECK_THROWS_AS(queue.get(), queue::ShutDown);
    CHECK(queue.try_get() == std::nullopt);
  });
}

TEST_CASE("what lies in a queue at its shutdown can still be got") {
  for_each_kind([](auto make) {
    const auto queue = make(2);
    queue.put(1);
    queue.shutdown();
    CHECK_THROWS_AS(queue.put(2), queue::ShutDown);
    CHECK(queue.get() == 1);
    CHECK_THROWS_AS(queue.get(), queue::ShutDown);
  });
}

TEST_CASE("an immediate shutdown drops what lies in the queue") {
  for_each_kind([](auto make) {
    const auto queue = make(2);
    queue.put(1);
    queue.shutdown(true);
    CHECK(queue.empty());
    CHECK_THROWS_AS(queue.get(), queue::ShutDown);
  });
}

TEST_CASE("a shutdown may be repeated and made immediate and stays") {
  for_each_kind([](auto make) {
    const auto queue = make(2);
    for (const bool immediate : {false, true, true, false}) {
      queue.shutdown(immediate);
      CHECK(queue.is_shutdown());
      CHECK_THROWS_AS(queue.put(1), queue::ShutDown);
    }
    const auto other = make(2);
    other.put(1);
    other.shutdown();
    CHECK(other.qsize() == 1);
    other.shutdown(true);
    CHECK(other.qsize() == 0);
  });
}

TEST_CASE("every call does what it says after shutdown") {
  for_each_kind([](auto make) {
    const auto queue = make(2);
    queue.put(1);
    queue.put(2);
    queue.shutdown();
    CHECK_THROWS_AS(queue.put(3, moment), queue::ShutDown);  // before Full
    CHECK_THROWS_AS(queue.put_nowait(3), queue::ShutDown);
    CHECK_NOTHROW(queue.get());
    CHECK_NOTHROW(queue.get_nowait());
    CHECK_THROWS_AS(queue.get(), queue::ShutDown);  // before Empty
    CHECK_THROWS_AS(queue.get_nowait(), queue::ShutDown);
    CHECK_THROWS_AS(queue.get(moment), queue::ShutDown);
    CHECK_FALSE(queue.join(0s));
    queue.task_done();
    queue.task_done();
    CHECK(queue.join());
    CHECK_THROWS_AS(queue.task_done(), std::invalid_argument);
  });
}

TEST_CASE("every call does what it says after immediate shutdown") {
  for_each_kind([](auto make) {
    const auto queue = make(2);
    queue.put(1);
    queue.put(2);
    queue.shutdown(true);
    CHECK_THROWS_AS(queue.put(3, moment), queue::ShutDown);
    CHECK_THROWS_AS(queue.put_nowait(3), queue::ShutDown);
    CHECK_THROWS_AS(queue.get(), queue::ShutDown);
    CHECK_THROWS_AS(queue.get_nowait(), queue::ShutDown);
    CHECK_THROWS_AS(queue.get(moment), queue::ShutDown);
    CHECK_THROWS_AS(queue.task_done(), std::invalid_argument);
    CHECK(queue.join());
  });
}

TEST_CASE("what is being worked on at an immediate shutdown still needs its task_done") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    queue.put(1);
    queue.put(2);
    queue.get();
    queue.shutdown(true);
    CHECK_FALSE(queue.join(0s));
    queue.task_done();
    CHECK(queue.join());
  });
}

namespace {

// Writers, readers and joiners in the middle of their work all leave after a shutdown.
void shut_down_amid_traffic(bool immediate) {
  for_each_kind([immediate](auto make) {
    const auto queue = make(16);
    Tally puts, gets;
    std::atomic<int> written{0}, joined{0};
    Crew crew;
    crew.add(4, [&] {
      for (;;) {
        const int before = puts.shut_down;
        puts.count([&] { queue.put(++written); });
        if (puts.shut_down != before && queue.is_shutdown()) return;
      }
    });
    crew.add(6, [&] {
      for (;;) {
        try {
          queue.get();
        } catch (const queue::ShutDown&) {
          return;
        }
        ++gets.done;
        try {
          queue.task_done();
        } catch (const std::invalid_argument&) {  // dropped by an immediate shutdown
        }
      }
    });
    crew.add(2, [&] {
      while (!queue.is_shutdown()) queue.join(1ms);
      queue.join();
      ++joined;
    });
    while (gets.done < 5000) ::sched_yield();
    queue.shutdown(immediate);
    REQUIRE(crew.join());
    CHECK(joined == 2);
    CHECK(queue.empty());
    if (!immediate) CHECK(gets.done == puts.done);
  });
}

}  // namespace

TEST_CASE("many threads all leave after shutdown") { shut_down_amid_traffic(false); }
TEST_CASE("many threads all leave after immediate shutdown") { shut_down_amid_traffic(true); }

TEST_CASE("more getters than items at shutdown get the items and ShutDown") {
  for_each_kind([](auto make) {
    const auto queue = make(5);
    for (int i = 0; i < 5; ++i) queue.put(i);
    queue.shutdown();
    Tally gets;
    Crew crew;
    crew.add(6, [&] { gets.count([&] { queue.get(); }); });
    REQUIRE(crew.join());
    CHECK(gets.done == 5);
    CHECK(gets.shut_down == 1);
  });
}

TEST_CASE("all getters get ShutDown after immediate shutdown of a full queue") {
  for_each_kind([](auto make) {
    const auto queue = make(5);
    for (int i = 0; i < 5; ++i) queue.put(i);
    queue.shutdown(true);
    Tally gets;
    Crew crew;
    crew.add(6, [&] { gets.count([&] { queue.get(); }); });
    REQUIRE(crew.join());
    CHECK(gets.shut_down == 6);
  });
}

TEST_CASE("shutdown wakes waiting putters with ShutDown") {
  const bool immediate = GENERATE(false, true);
  for_each_kind([immediate](auto make) {
    const auto queue = make(1);
    queue.put(1);
    Tally puts;
    Crew crew;
    const int before = sleepers();
    crew.add(3, [&] { puts.count([&] { queue.put(2); }); });
    await_sleepers(before + 3);
    queue.shutdown(immediate);
    REQUIRE(crew.join());
    CHECK(puts.shut_down == 3);
    CHECK(queue.qsize() == (immediate ? 0 : 1));
  });
}

TEST_CASE("shutdown wakes waiting getters with ShutDown") {
  const bool immediate = GENERATE(false, true);
  for_each_kind([immediate](auto make) {
    const auto queue = make(0);
    Tally gets;
    Crew crew;
    const int before = sleepers();
    crew.add(3, [&] { gets.count([&] { queue.get(); }); });
    await_sleepers(before + 3);
    queue.shutdown(immediate);
    REQUIRE(crew.join());
    CHECK(gets.shut_down == 3);
  });
}

TEST_CASE("joiners wait for the tasks left at shutdown") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    queue.put(1);
    std::atomic<int> joined{0};
    Crew crew;
    const int before = sleepers();
    crew.add(2, [&] { joined += queue.join() ? 1 : 0; });
    await_sleepers(before + 2);
    queue.shutdown();
    CHECK(joined == 0);
    queue.get();
    queue.task_done();
    REQUIRE(crew.join());
    CHECK(joined == 2);
  });
}

TEST_CASE("an immediate shutdown sends joiners on") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    queue.put(1);
    std::atomic<int> joined{0};
    Crew crew;
    const int before = sleepers();
    crew.add(2, [&] { joined += queue.join() ? 1 : 0; });
    await_sleepers(before + 2);
    queue.shutdown(true);
    REQUIRE(crew.join());
    CHECK(joined == 2);
  });
}

TEST_CASE("a putter and a joiner that wait together both end by shutdown") {
  const bool immediate = GENERATE(false, true);
  for_each_kind([immediate](auto make) {
    const auto queue = make(1);
    queue.put(1);
    Tally puts;
    std::atomic<int> joined{0};
    Crew crew;
    const int before = sleepers();
    crew.add(1, [&] { puts.count([&] { queue.put(2); }); });
    crew.add(1, [&] { joined += queue.join() ? 1 : 0; });
    await_sleepers(before + 2);
    queue.shutdown(immediate);
    if (!immediate) {
      CHECK(queue.get() == 1);
      queue.task_done();
    }
    REQUIRE(crew.join());
    CHECK(puts.shut_down == 1);
    CHECK(joined == 1);
  });
}

TEST_CASE("getters that call task_done release joiners after shutdown") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    for (int i = 0; i < 5; ++i) queue.put(i);
    std::atomic<int> joined{0};
    Crew crew;
    const int before = sleepers();
    crew.add(2, [&] { joined += queue.join() ? 1 : 0; });
    await_sleepers(before + 2);
    queue.shutdown();
    crew.add(3, [&] {
      for (const int item : queue) {
        static_cast<void>(item);
        queue.task_done();
      }
    });
    REQUIRE(crew.join());
    CHECK(joined == 2);
  });
}

TEST_CASE("iteration ends when the queue is shut down and drained") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    for (int i = 0; i < 3; ++i) queue.put(i);
    queue.shutdown();
    int count = 0, sum = 0;
    for (const int item : queue) {
      ++count;
      sum += item;
    }
    CHECK(count == 3);
    CHECK(sum == 3);
    CHECK(queue.begin() == queue.end());
  });
}
