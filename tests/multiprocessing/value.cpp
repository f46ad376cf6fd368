// SPDX-License-Identifier: MIT
#include <brood/multiprocessing/value.hpp>
#include <brood/threading/thread.hpp>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "team.hpp"

using namespace brood;
using namespace support;

namespace {

struct Point {
  double x, y;
  char name[8];
};

struct alignas(256) Wide {
  int number;
};

template <class T>
concept CanBeShared = requires {
  mp::Value<T>();
};
static_assert(CanBeShared<Point>);
static_assert(!CanBeShared<std::string>);
static_assert(!CanBeShared<std::vector<int>>);

}  // namespace

TEST_CASE("a Value is what it is made of or zero") {
  const LeakCheck nothing_left;
  CHECK(mp::Value<long>(7).get() == 7);
  CHECK(mp::Value<long>().get() == 0);
  CHECK(mp::RawValue<double>(2.5).get() == 2.5);
  CHECK(mp::RawValue<double>().get() == 0);
  const mp::Value<Point> point(Point{1, 2, "left"});
  CHECK(point.get().y == 2);
  CHECK(std::string{point.get().name} == "left");
  const mp::RawValue<Wide> wide(Wide{3});
  CHECK(reinterpret_cast<std::uintptr_t>(&wide.ref()) % 256 == 0);
  CHECK(wide.ref().number == 3);
}

TEST_CASE("values that a child writes are seen by its parent") {
  const mp::Value<int> number(0);
  const mp::Value<double> fraction(0.5);
  const mp::RawValue<char> letter('a');
  const mp::Value<Point> point(Point{1, 2, "left"});
  Team team;
  team.add(1, [=] {
    number.set(number.get() - 42);
    fraction.set(fraction.get() * 2);
    letter.set('b');
    point.update([](Point& p) { p.x *= 2; });
  });
  CHECK(team.join());
  CHECK(number.get() == -42);
  CHECK(fraction.get() == 1);
  CHECK(letter.get() == 'b');
  CHECK(point.get().x == 2);
}

TEST_CASE("update reads and changes and writes in one step") {
  const mp::Value<long> sum(0);
  Team team;
  team.add(4, [sum] {
    for (int i = 0; i < 500; ++i) sum.update([](long& value) { ++value; });
  });
  CHECK(team.join());
  CHECK(sum.get() == 2000);
  CHECK(sum.update([](long value) { return value / 2; }) == 1000);
  CHECK(sum.get() == 1000);
  CHECK_THROWS_AS(sum.update([](long& value) {
    value = 0;
    throw std::runtime_error{"no"};
  }),
                  std::runtime_error);
  CHECK(sum.get() == 1000);
  CHECK_FALSE(sum.get_lock().locked());
}

TEST_CASE("the lock of a Value may be held over several calls") {
  const mp::Value<int> value(1);
  const Shared<std::atomic<int>> tried;
  Team team;
  {
    const std::scoped_lock held(value.get_lock());
    team.add(1, [&] {
      ++*tried;
      value.set(5);
    });
    await(*tried, 1);
    for (int i = 0; i < 100; ++i) ::sched_yield();
    CHECK(value.get() == 1);
    value.set(2);
    CHECK(value.get() == 2);
  }
  CHECK(team.join());
  CHECK(value.get() == 5);
}

TEST_CASE("several Values may have one lock") {
  const mp::RLock lock;
  const mp::Value<int> one(1, lock), two(2, lock);
  CHECK(one.get_lock() == lock);
  CHECK(two.get_lock() == lock);
  CHECK_FALSE(mp::Value<int>(3).get_lock() == lock);
  CHECK(one.get_obj().get() == 1);
  one.get_obj().set(4);
  CHECK(one.get() == 4);
}

TEST_CASE("a Value tells that a process died in the midst of it") {
  const mp::Value<int> value(1);
  Team team;
  team.add(1, [value] {
    value.update([](int& number) {
      number = 100;
      ::raise(SIGKILL);
    });
  });
  CHECK(team.join());
  const std::scoped_lock held(value.get_lock());
  CHECK(value.get_lock().abandoned());
  CHECK(value.get() == 1);
}

TEST_CASE("copies of a Value are the same value") {
  std::optional<mp::Value<int>> first{std::in_place, 1};
  const mp::Value<int> second = *first, other(1);
  CHECK(*first == second);
  CHECK_FALSE(second == other);
  first->set(2);
  first.reset();
  CHECK(second.get() == 2);
  // A copy of the value itself is another one.
  const mp::Value<int> apart(second.get());
  apart.set(9);
  CHECK(second.get() == 2);
  CHECK(std::unordered_set<mp::Value<int>>{second, other, second}.size() == 2);
}

TEST_CASE("a place in shared memory that a child still uses is given to no other") {
  const LeakCheck nothing_left;
  const Gate gate;
  Team team;
  std::optional<mp::RawValue<int>> lent{std::in_place, -7};
  team.add(1, [&] {
    gate.wait();
    if (lent->get() != -7) ::_exit(1);
    lent->set(-8);
  });
  lent.reset();
  // As many as several arenas hold, of which some go again.
  std::vector<mp::RawValue<int>> kept;
  bool zero = true;
  for (int i = 1; i <= 5000; ++i) {
    const mp::RawValue<int> value;
    zero = value.get() == 0 && zero;
    value.set(i);
    if (i % 7 == 0) kept.push_back(value);
  }
  gate.open();
  CHECK(team.join());
  CHECK(zero);
  bool untouched = true;
  for (std::size_t i = 0; i < kept.size(); ++i)
    untouched = kept[i].get() == static_cast<int>(7 * (i + 1)) && untouched;
  CHECK(untouched);
}

TEST_CASE("values are made and dropped by several threads at once") {
  const LeakCheck nothing_left;
  std::atomic<bool> right{true};
  std::vector<threading::Thread> threads;
  for (int id = 1; id <= 4; ++id) {
    threads.emplace_back([&right, id] {
      std::vector<mp::RawValue<int>> some;
      for (int i = 0; i < 3000; ++i) {
        some.emplace_back();
        if (some.back().get() != 0) right = false;
        some.back().set(id);
        if (i % 50 == 49) {
          for (const auto& value : some)
            if (value.get() != id) right = false;
          some.clear();
        }
      }
    });
    threads.back().start();
  }
  for (const auto& thread : threads) CHECK(thread.join(patience));
  CHECK(right);
}
