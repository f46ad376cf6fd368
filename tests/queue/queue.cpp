// SPDX-License-Identifier: MIT
//
// The three queues with a bound and tasks: order, limits, counting, waking.
#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kinds.hpp"

using namespace brood;
using namespace support;

TEST_CASE("items come out in the order of their queue") {
  const auto order = [](const auto& queue) {
    for (const int i : {111, 333, 222}) queue.put(i);
    std::vector<int> out;
    while (!queue.empty()) out.push_back(queue.get());
    return out;
  };
  CHECK(order(queue::Queue<int>()) == std::vector{111, 333, 222});
  CHECK(order(queue::LifoQueue<int>()) == std::vector{222, 333, 111});
  CHECK(order(queue::PriorityQueue<int>()) == std::vector{111, 222, 333});
  CHECK(order(queue::PriorityQueue<int, std::greater<int>>()) == std::vector{333, 222, 111});
}

TEST_CASE("empty and full and qsize follow what is in the queue") {
  for_each_kind([](auto make) {
    const auto queue = make(2);
    CHECK(queue.maxsize() == 2);
    CHECK(queue.empty());
    CHECK_FALSE(queue.full());
    queue.put(1);
    CHECK_FALSE(queue.empty());
    CHECK_FALSE(queue.full());
    CHECK(queue.qsize() == 1);
    queue.put(2);
    CHECK(queue.full());
    CHECK(queue.qsize() == 2);
    queue.get();
    queue.get();
    CHECK(queue.empty());
  });
}

TEST_CASE("a bound of zero or less is none") {
  for_each_kind([](auto make) {
    for (const int maxsize : {0, -1}) {
      const auto queue = make(maxsize);
      CHECK(queue.maxsize() == 0);
      for (int i = 0; i < 1000; ++i) queue.put_nowait(i);
      CHECK_FALSE(queue.full());
    }
  });
}

TEST_CASE("calls that cannot go on throw Full and Empty at once or when their time is up") {
  for_each_kind([](auto make) {
    const auto queue = make(1);
    CHECK_THROWS_AS(queue.get_nowait(), queue::Empty);
    CHECK_THROWS_AS(queue.get(moment), queue::Empty);
    CHECK_THROWS_AS(queue.get(-1s), queue::Empty);
    CHECK(queue.try_get() == std::nullopt);
    queue.put(1);
    CHECK_THROWS_AS(queue.put_nowait(2), queue::Full);
    CHECK_THROWS_AS(queue.put(2, moment), queue::Full);
    CHECK_THROWS_AS(queue.put(2, -1s), queue::Full);
    CHECK(queue.qsize() == 1);
    CHECK(queue.try_get() == 1);
    queue.put_nowait(3);
    CHECK(queue.get_nowait() == 3);
  });
}

TEST_CASE("a get that waits takes what a put brings") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    std::atomic<int> got{0};
    const int before = sleepers();
    threading::Thread getter([&] { got = queue.get(); });
    getter.start();
    await_sleepers(before + 1);
    queue.put(7);
    REQUIRE(getter.join(patience));
    CHECK(got == 7);
  });
}

TEST_CASE("a put that waits for room goes on after a get") {
  for_each_kind([](auto make) {
    const auto queue = make(1);
    queue.put(1);
    const int before = sleepers();
    threading::Thread putter([&] { queue.put(2); });
    putter.start();
    await_sleepers(before + 1);
    CHECK(queue.qsize() == 1);
    CHECK(queue.get() == 1);
    CHECK(queue.get(patience) == 2);
    CHECK(putter.join(patience));
  });
}

TEST_CASE("those who wait are served in order of arrival") {
  const queue::Queue<int> queue;
  std::atomic<int> got[3] = {};
  std::vector<threading::Thread> getters;
  const int before = sleepers();
  for (int i = 0; i < 3; ++i) {
    getters.emplace_back([&, i] { got[i] = queue.get(); });
    getters.back().start();
    await_sleepers(before + i + 1);
  }
  for (int i = 1; i <= 3; ++i) {
    queue.put(i);
    REQUIRE(getters[static_cast<std::size_t>(i - 1)].join(patience));
    CHECK(got[i - 1] == i);
  }
}

TEST_CASE("equal priorities come out in order of arrival") {
  struct Dish {
    int priority;
    int number;
  };
  const auto less = [](const Dish& a, const Dish& b) { return a.priority < b.priority; };
  queue::PriorityQueue<Dish, decltype(less)> queue(0, less);
  for (int i = 0; i < 300; ++i) queue.put({i * 7 % 3, i});
  // Some taken out and others put in between.
  for (int i = 0; i < 50; ++i) CHECK(queue.get().priority == 0);
  for (int i = 300; i < 400; ++i) queue.put({i * 7 % 3, i});
  std::vector<Dish> out;
  while (!queue.empty()) out.push_back(queue.get());
  CHECK(out.size() == 350);
  CHECK(std::is_sorted(out.begin(), out.end(), [](const Dish& a, const Dish& b) {
    return std::pair{a.priority, a.number} < std::pair{b.priority, b.number};
  }));
}

TEST_CASE("task_done beyond what was put is invalid_argument") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    CHECK_THROWS_AS(queue.task_done(), std::invalid_argument);
    CHECK_THROWS_WITH(queue.task_done(),
                      Catch::Matchers::ContainsSubstring("called too many times"));
    queue.put(1);
    queue.task_done();
    CHECK_THROWS_AS(queue.task_done(), std::invalid_argument);
  });
}

TEST_CASE("join waits until every item is done and may be used again") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    std::atomic<int> sum{0};
    Crew crew;
    crew.add(2, [&] {
      for (const int item : queue) {
        sum += item;
        queue.task_done();
      }
    });
    for (int round = 1; round <= 2; ++round) {
      for (int i = 0; i < 100; ++i) queue.put(i);
      REQUIRE(queue.join(patience));
      CHECK(sum == round * 4950);
    }
    CHECK_THROWS_AS(queue.task_done(), std::invalid_argument);
    queue.shutdown();
    CHECK(crew.join());
  });
}

TEST_CASE("join returns false when its limit is over first") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    CHECK(queue.join(0s));
    queue.put(1);
    CHECK_FALSE(queue.join(0s));
    CHECK_FALSE(queue.join(moment));
    queue.get();
    CHECK_FALSE(queue.join(0s));
    queue.task_done();
    CHECK(queue.join());
  });
}

TEST_CASE("a lowered bound refuses puts until the queue has shrunk below it") {
  for_each_kind([](auto make) {
    const auto queue = make(4);
    for (int i = 0; i < 4; ++i) queue.put(i);
    queue.set_maxsize(2);
    CHECK(queue.full());
    CHECK_THROWS_AS(queue.put_nowait(4), queue::Full);
    queue.get();
    queue.get();
    CHECK_THROWS_AS(queue.put(4, moment), queue::Full);
    queue.get();
    queue.put_nowait(4);
    CHECK(queue.qsize() == 2);
  });
}

TEST_CASE("a raised bound lets waiting puts go on") {
  for_each_kind([](auto make) {
    const auto queue = make(1);
    queue.put(1);
    Crew crew;
    const int before = sleepers();
    crew.add(3, [&] { queue.put(2); });
    await_sleepers(before + 3);
    queue.set_maxsize(0);
    CHECK(crew.join());
    CHECK(queue.qsize() == 4);
  });
}

TEST_CASE("copies of a queue name the same queue") {
  queue::Queue<int> queue;
  const queue::Queue<int> copy = queue;
  const queue::Queue<int> moved = std::move(queue);  // a handle is never empty
  queue.put(1);
  CHECK(copy.get() == 1);
  CHECK(copy == queue);
  CHECK(moved == queue);
  CHECK_FALSE(copy == queue::Queue<int>());
  const std::unordered_set<queue::Queue<int>> set{queue, copy, queue::Queue<int>()};
  CHECK(set.size() == 2);
}

TEST_CASE("a queue takes items that can only be moved") {
  for (const bool by_iteration : {false, true}) {
    queue::Queue<std::unique_ptr<int>> queue(1);
    queue.put(std::make_unique<int>(5));
    auto refused = std::make_unique<int>(6);
    CHECK_THROWS_AS(queue.put_nowait(std::move(refused)), queue::Full);
    REQUIRE(refused != nullptr);  // still the caller's
    CHECK(*refused == 6);
    if (by_iteration) {
      queue.shutdown();
      CHECK_THROWS_AS(queue.put(std::move(refused)), queue::ShutDown);
      CHECK(refused != nullptr);
      int sum = 0;
      for (auto item : queue) sum += *item;
      CHECK(sum == 5);
    } else {
      CHECK(*queue.get() == 5);
      queue.put(std::move(refused));
      CHECK(refused == nullptr);
      CHECK(**queue.try_get() == 6);
    }
  }
  queue::PriorityQueue<std::unique_ptr<int>> sorted;
  sorted.put(std::make_unique<int>(1));
  CHECK(*sorted.get() == 1);
}

namespace {

template <class T, class Make>
void check_items_come_out_whole(Make make) {
  const auto check = [&](const auto& queue, bool newest_first) {
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 100; ++i) queue.put(make(i));
      for (int i = 0; i < 100; ++i) CHECK(queue.get() == make(newest_first ? 99 - i : i));
    }
    T refused = make(100);
    for (int i = 0; i < 50; ++i) queue.put(make(49 - i));
    queue.set_maxsize(50);
    CHECK_THROWS_AS(queue.put(std::move(refused), 0s), queue::Full);
    queue.shutdown(true);
    CHECK_THROWS_AS(queue.put(std::move(refused)), queue::ShutDown);
    if constexpr (std::is_move_assignable_v<T>) CHECK(refused == make(100));  // still the caller's
  };
  check(queue::Queue<T>(), false);
  check(queue::LifoQueue<T>(), true);
  check(queue::PriorityQueue<T>(), false);
  const queue::PriorityQueue<T> left;  // with items in it
  for (int i = 0; i < 100; ++i) left.put(make(i * 37 % 100));
  for (int i = 0; i < 50; ++i) CHECK(left.get() == make(i));
}

}  // namespace

TEST_CASE("items of every kind come out whole and in order") {
  const auto text = [](int i) {
    return std::to_string(1000 + i) + std::string(static_cast<std::size_t>(i) * 3, 'x');
  };
  SECTION("strings") { check_items_come_out_whole<std::string>(text); }
  SECTION("vectors") {
    check_items_come_out_whole<std::vector<std::string>>([&](int i) {
      return std::vector{text(i), text(i)};
    });
  }
  SECTION("optional ones") {
    check_items_come_out_whole<std::optional<std::string>>(
        [&](int i) { return std::optional{text(i)}; });
  }
  SECTION("pairs") {
    check_items_come_out_whole<std::pair<int, std::string>>([&](int i) {
      return std::pair{i, text(i)};
    });
  }
  SECTION("items that can't be assigned to") {
    check_items_come_out_whole<std::pair<const int, std::string>>([&](int i) {
      return std::pair<const int, std::string>{i, text(i)};
    });
    check_items_come_out_whole<std::pair<const int, int>>([&](int i) {
      return std::pair<const int, int>{i, i};
    });
  }
}

TEST_CASE("an item is destroyed as soon as it has left the queue") {
  const queue::Queue<std::shared_ptr<int>> queue;
  auto item = std::make_shared<int>(1);
  queue.put(item);
  CHECK(item.use_count() == 2);
  queue.get();
  CHECK(item.use_count() == 1);
  queue.put(item);
  queue.shutdown(true);
  CHECK(item.use_count() == 1);
  {
    const queue::LifoQueue<std::shared_ptr<int>> dropped;
    dropped.put(item);
    dropped.put(item);
    CHECK(item.use_count() == 3);
  }
  CHECK(item.use_count() == 1);
}

TEST_CASE("a program of many threads loses and doubles nothing through a bounded queue") {
  for_each_kind([](auto make) {
    constexpr int producers = 8, consumers = 8, each = 1000;
    const auto queue = make(7);
    std::vector<std::atomic<int>> seen(producers * each);
    std::atomic<int> next{0};
    Crew crew;
    crew.add(consumers, [&] {
      for (const int item : queue) {
        ++seen[static_cast<std::size_t>(item)];
        queue.task_done();
      }
    });
    Crew puts;
    puts.add(producers, [&] {
      for (int i = 0; i < each; ++i) queue.put(next++);
    });
    CHECK(puts.join());
    CHECK(queue.join(patience));
    queue.shutdown();
    CHECK(crew.join());
    CHECK(std::all_of(seen.begin(), seen.end(), [](const auto& count) { return count == 1; }));
  });
}

TEST_CASE("the items of one producer arrive in order through many threads") {
  const queue::Queue<std::pair<int, int>> queue(3);
  std::atomic<bool> ordered{true};
  std::atomic<int> producer{0};
  Crew puts;
  puts.add(4, [&] {
    const int self = producer++;
    for (int i = 0; i < 2000; ++i) queue.put({self, i});
  });
  Crew gets;
  gets.add(4, [&] {
    int last[4] = {-1, -1, -1, -1};
    for (const auto& [from, number] : queue) {
      if (number <= last[from]) ordered = false;
      last[from] = number;
    }
  });
  CHECK(puts.join());
  queue.shutdown();
  CHECK(gets.join());
  CHECK(ordered);
}

TEST_CASE("waits with limits that run out all the time lose no item and no wake") {
  const queue::Queue<int> queue(2);
  std::atomic<int> sum{0};
  Crew puts;
  puts.add(3, [&] {
    for (int i = 1; i <= 1000; ++i) {
      for (;;) {
        try {
          queue.put(i, 20us);
          break;
        } catch (const queue::Full&) {
        }
      }
    }
  });
  Crew gets;
  gets.add(3, [&] {
    for (;;) {
      try {
        sum += queue.get(20us);
      } catch (const queue::Empty&) {
      } catch (const queue::ShutDown&) {
        return;
      }
    }
  });
  CHECK(puts.join());
  queue.shutdown();
  CHECK(gets.join());
  CHECK(sum == 3 * 500500);
}
