// SPDX-License-Identifier: MIT
#include <algorithm>
#include <brood/multiprocessing/array.hpp>
#include <list>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>

#include "team.hpp"

using namespace brood;
using namespace support;

namespace {

struct Point {
  double x, y;
};

}  // namespace

TEMPLATE_TEST_CASE("a shared array is made of a size or a range", "", mp::Array<double>,
                   mp::RawArray<double>) {
  const LeakCheck nothing_left;
  const TestType zeros(10);
  CHECK(zeros.size() == 10);
  CHECK(std::all_of(zeros.begin(), zeros.end(), [](double x) { return x == 0; }));
  const TestType listed{1, 2.5, 3};
  CHECK(listed.size() == 3);
  CHECK(listed[1] == 2.5);
  CHECK(TestType({4.0, 5.0})[1] == 5);
  const std::vector<int> whole{7, 8};
  const TestType converted(whole);
  CHECK(converted[1] == 8);
  CHECK(TestType(std::list<double>{1, 2, 3, 4}).size() == 4);
  CHECK(TestType(listed.span().subspan(1)).size() == 2);
  CHECK(TestType(0).size() == 0);
  CHECK(TestType(std::vector<double>{}).size() == 0);
  CHECK_THROWS_AS(TestType(-1), std::invalid_argument);
  CHECK_THROWS_AS(TestType(std::size_t{1} << 50), os::OSError);
  CHECK_THROWS_AS(TestType(static_cast<std::size_t>(-1)), os::OSError);
}

TEST_CASE("an array that a child writes is seen by its parent") {
  std::vector<int> sequence(10);
  std::iota(sequence.begin(), sequence.end(), 0);
  const mp::Array<int> array(sequence);
  CHECK(std::equal(array.begin(), array.end(), sequence.begin(), sequence.end()));
  Team team;
  team.add(1, [array] {
    const auto slice = array.span().subspan(2, 3);
    std::reverse(slice.begin(), slice.end());
    for (std::size_t i = 5; i < array.size(); ++i) array[i] += array[i - 1];
  });
  CHECK(team.join());
  CHECK(std::vector<int>(array.begin(), array.end()) ==
        std::vector<int>{0, 1, 4, 3, 2, 7, 13, 20, 28, 37});
}

TEST_CASE("an index that a shared array has not got is out_of_range") {
  const mp::Array<int> array(3);
  CHECK_THROWS_AS(array[3], std::out_of_range);
  CHECK_THROWS_AS(array[static_cast<std::size_t>(-1)], std::out_of_range);
  CHECK_THROWS_AS(mp::RawArray<int>(0)[0], std::out_of_range);
  CHECK_NOTHROW(array[2] = 1);
}

TEST_CASE("an array made of a size is zeros also where memory was used before") {
  bool zeros = true;
  for (int i = 0; i < 20; ++i) {
    for (const int size : {10, 3000, 40000}) {
      const mp::Array<int> array(size);
      for (int& element : array) {
        zeros = element == 0 && zeros;
        element = 42;
      }
    }
  }
  CHECK(zeros);
}

TEST_CASE("arrays of all sizes come and go and leave no memory") {
  const LeakCheck nothing_left;
  std::mt19937 random{20250608};
  std::vector<mp::RawArray<unsigned char>> arrays;
  bool right = true;
  for (int i = 0; i < 3000; ++i) {
    const std::size_t size = 1u << random() % 18;
    arrays.emplace_back(size);
    std::fill(arrays.back().begin(), arrays.back().end(), static_cast<unsigned char>(size % 251));
    if (arrays.size() > 40 || (random() % 4 == 0 && arrays.size() > 2)) {
      const std::size_t which = random() % arrays.size();
      const auto& victim = arrays[which];
      right = right && std::all_of(victim.begin(), victim.end(),
                                   [&](unsigned char byte) { return byte == victim.size() % 251; });
      arrays.erase(arrays.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }
  CHECK(right);
}

TEST_CASE("an Array has a lock and a RawArray has none") {
  const mp::RLock lock;
  const mp::Array<int> own(3), given(3, lock), same({1, 2, 3}),
      ranged(std::vector<int>{1, 2}, lock), braces({1, 2}, lock);
  CHECK(given.get_lock() == lock);
  CHECK(ranged.get_lock() == lock);
  CHECK(braces.get_lock() == lock);
  CHECK(braces.size() == 2);
  CHECK_FALSE(own.get_lock() == lock);
  CHECK(own.get_obj().data() == own.data());
  {
    const std::scoped_lock held(own.get_lock());
    CHECK(own.get_lock().locked());
  }
  CHECK_FALSE(own.get_lock().locked());
  Team team;
  team.add(4, [own] {
    for (int i = 0; i < 200; ++i) {
      const std::scoped_lock held(own.get_lock());
      ++own[1];
    }
  });
  CHECK(team.join());
  CHECK(own[1] == 800);
}

TEST_CASE("an array of a string literal has its characters") {
  const mp::Array<char> text("hello");
  CHECK(std::string(text.begin(), text.end()) == "hello");
  CHECK(mp::RawArray<char>("a\0b").size() == 3);
  CHECK(mp::Array<wchar_t>(L"wide").size() == 4);
  const char data[3] = {'a', 'b', 'c'};
  CHECK(mp::RawArray<char>(data).size() == 3);
  char buffer[3] = "a";
  CHECK(mp::RawArray<char>(buffer).size() == 3);
  const int numbers[2] = {1, 0};
  CHECK(mp::RawArray<int>(numbers).size() == 2);
}

TEST_CASE("an array that finds no memory tells how much was wanted") {
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH(mp::Array<long>(std::size_t{1} << 50),
                    ContainsSubstring("9007199254740992 bytes"));
  CHECK_THROWS_WITH(mp::Array<char>(std::size_t{1} << 41),
                    ContainsSubstring("2199023255552 bytes"));
}

TEST_CASE("arrays of structures are shared and copied") {
  const mp::Array<Point> points(std::vector<Point>{{1, 2}, {3, 4}});
  const mp::Array<char> text(std::string{"hello"});
  Team team;
  team.add(1, [=] {
    for (Point& point : points) point = {point.x * 2, point.y * 2};
    for (char& letter : text) letter = static_cast<char>(letter - 'a' + 'A');
  });
  CHECK(team.join());
  CHECK(points[1].y == 8);
  CHECK(std::string(text.begin(), text.end()) == "HELLO");
  const mp::Array<Point> same = points, apart(points.span());
  points[0].x = 100;
  CHECK(same == points);
  CHECK(same[0].x == 100);
  CHECK_FALSE(apart == points);
  CHECK(apart[0].x == 2);
}

TEST_CASE("an array knows where another process would map it") {
  const mp::RawArray<int> small{1, 2, 3}, large(50000);
  large[49999] = 5;
  for (const auto& array : {small, large}) {
    const posix::Mapping again{array.block().file(), array.block().offset() + array.block().size()};
    const auto* const data = reinterpret_cast<const int*>(again.data() + array.block().offset());
    CHECK(std::equal(array.begin(), array.end(), data));
  }
}
