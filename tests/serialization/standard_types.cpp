// SPDX-License-Identifier: MIT
#include <array>
#include <bitset>
#include <chrono>
#include <climits>
#include <cmath>
#include <complex>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <stack>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "round_trip.hpp"
#include "support/catch.hpp"

using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {

enum class Colour : unsigned char { red, green = 200 };
enum Plain { first, second = 100000 };
enum class Switch : bool { off, on };

template <class T>
bool extremes_survive() {
  using Limits = std::numeric_limits<T>;
  return survives(Limits::min()) && survives(Limits::max()) && survives(Limits::lowest()) &&
         survives(T{});
}

}  // namespace

TEST_CASE("numbers survive a round trip at their extremes") {
  CHECK(extremes_survive<char>());
  CHECK(extremes_survive<signed char>());
  CHECK(extremes_survive<unsigned char>());
  CHECK(extremes_survive<short>());
  CHECK(extremes_survive<unsigned short>());
  CHECK(extremes_survive<int>());
  CHECK(extremes_survive<unsigned>());
  CHECK(extremes_survive<long>());
  CHECK(extremes_survive<unsigned long>());
  CHECK(extremes_survive<long long>());
  CHECK(extremes_survive<unsigned long long>());
  CHECK(extremes_survive<wchar_t>());
  CHECK(extremes_survive<char8_t>());
  CHECK(extremes_survive<char16_t>());
  CHECK(extremes_survive<char32_t>());
  CHECK(extremes_survive<float>());
  CHECK(extremes_survive<double>());
  CHECK(extremes_survive<long double>());
  CHECK(survives(1.0L / 3));
  CHECK(survives(-std::numeric_limits<double>::infinity()));
  CHECK(std::isnan(round_trip(std::nan(""))));
  CHECK(std::signbit(round_trip(-0.0)));
  CHECK(survives(true));
  CHECK(survives(false));
  CHECK(survives(std::byte{0xAB}));
  __extension__ using wide = __int128;
  const wide big = static_cast<wide>(LLONG_MIN) * 3 + 1;
  CHECK((round_trip(big) == big));
}

TEST_CASE("enums survive a round trip") {
  CHECK(survives(Colour::green));
  CHECK(survives(second));
  CHECK(survives(Switch::on));
  CHECK(survives(Switch::off));
  CHECK(survives(std::vector<Colour>{Colour::red, Colour::green}));
}

TEST_CASE("strings of every kind of character survive a round trip") {
  CHECK(survives(""s));
  CHECK(survives("dishes"s));
  CHECK(survives("a\0b"s));
  CHECK(survives(std::string(100000, 'x')));
  CHECK(survives(L"wide"s));
  CHECK(survives(u8"utf-8"s));
  CHECK(survives(u"utf-16"s));
  CHECK(survives(U"utf-32"s));
}

TEST_CASE("sequences survive a round trip") {
  CHECK(survives(std::vector<int>{}));
  CHECK(survives(std::vector{1, 2, 3}));
  CHECK(survives(std::vector<std::string>{"a", "", "ccc"}));
  CHECK(survives(std::vector<std::vector<double>>{{1.5}, {}, {2.5, 3.5}}));
  CHECK(survives(std::vector<bool>{true, false, true, true}));
  CHECK(survives(std::deque<long>{1, 2, 3}));
  CHECK(survives(std::list<std::string>{"x", "y"}));
  CHECK(survives(std::forward_list<int>{3, 1, 2}));
  CHECK(survives(std::forward_list<std::string>{"only"}));
  CHECK(survives(std::array<int, 3>{1, 2, 3}));
  CHECK(survives(std::array<std::string, 2>{"a", "b"}));
  CHECK(survives(std::array<bool, 2>{true, false}));
  CHECK(survives(std::array<int, 0>{}));
  CHECK(survives(std::array<std::string, 0>{}));
  CHECK(survives(std::vector<std::array<int, 2>>{{1, 2}, {3, 4}}));
}

TEST_CASE("a long vector of numbers survives a round trip") {
  std::vector<int> numbers(1000003);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int>(i * 7919);
  CHECK((round_trip(numbers) == numbers));
}

TEST_CASE("sets and maps survive a round trip") {
  CHECK(survives(std::set<int>{3, 1, 2}));
  CHECK(survives(std::multiset<int>{1, 1, 2}));
  CHECK(survives(std::set<int, std::greater<>>{3, 1, 2}));
  CHECK(survives(std::unordered_set<std::string>{"a", "b"}));
  CHECK(survives(std::unordered_multiset<int>{1, 1}));
  CHECK(survives(std::map<std::string, int>{{"plates", 4}, {"cups", 2}}));
  CHECK(survives(std::map<int, std::vector<std::string>>{{1, {"x"}}, {2, {}}}));
  CHECK(survives(std::multimap<int, int>{{1, 2}, {1, 3}}));
  CHECK(survives(std::unordered_map<int, std::string>{{1, "one"}, {2, "two"}}));
  CHECK(survives(std::unordered_multimap<int, int>{{1, 2}, {1, 2}}));
}

TEST_CASE("a map of things that only move survives a round trip") {
  std::map<std::unique_ptr<int>, std::unique_ptr<std::string>> map;
  map.emplace(std::make_unique<int>(1), std::make_unique<std::string>("one"));
  const auto copy = round_trip(map);
  REQUIRE(copy.size() == 1);
  CHECK(*copy.begin()->first == 1);
  CHECK(*copy.begin()->second == "one");
}

TEST_CASE("container adaptors survive a round trip") {
  std::stack<int> stack;
  std::queue<std::string> queue;
  std::priority_queue<int, std::vector<int>, std::greater<>> heap;
  for (const int i : {5, 3, 8}) {
    stack.push(i);
    queue.push(std::to_string(i));
    heap.push(i);
  }
  CHECK((round_trip(stack) == stack));
  CHECK((round_trip(queue) == queue));
  auto copy = round_trip(heap);
  std::vector<int> order;
  for (; !copy.empty(); copy.pop()) order.push_back(copy.top());
  CHECK(order == std::vector{3, 5, 8});
}

TEST_CASE("bitsets survive a round trip") {
  CHECK(survives(std::bitset<1>{1}));
  CHECK(survives(std::bitset<8>{0xA5}));
  CHECK(survives(std::bitset<13>{0x1ABC}));
  CHECK(survives(~std::bitset<200>{}));
}

TEST_CASE("optional and variant survive a round trip") {
  CHECK(survives(std::optional<int>{}));
  CHECK(survives(std::optional<int>{7}));
  CHECK(survives(std::optional<std::optional<std::string>>{std::optional<std::string>{}}));
  CHECK(survives(std::optional<std::optional<std::string>>{}));
  using Mixed = std::variant<std::monostate, int, std::string, std::vector<int>, int>;
  CHECK(survives(Mixed{}));
  CHECK(survives(Mixed{std::in_place_index<1>, 5}));
  CHECK(survives(Mixed{std::in_place_index<4>, 5}));
  CHECK(survives(Mixed{"text"s}));
  CHECK(survives(Mixed{std::vector{1, 2}}));
  CHECK(round_trip(Mixed{std::in_place_index<4>, 5}).index() == 4);
}

TEST_CASE("pairs and tuples survive a round trip") {
  CHECK(survives(std::pair{1, "one"s}));
  CHECK(survives(std::pair<const int, bool>{1, true}));
  CHECK(survives(std::tuple<>{}));
  CHECK(survives(std::tuple{1}));
  CHECK(survives(std::tuple{std::tuple{1}}));
  CHECK(survives(std::tuple{1, 2.5, "three"s, std::vector{4}, std::optional{5}}));
}

TEST_CASE("complex numbers survive a round trip") {
  CHECK(survives(std::complex<float>{1, -2}));
  CHECK(survives(std::complex<double>{1, -2}));
  CHECK((round_trip(std::complex<long double>{1, -2}) == std::complex<long double>{1, -2}));
}

TEST_CASE("unique_ptr survives a round trip") {
  CHECK(round_trip(std::unique_ptr<int>{}) == nullptr);
  CHECK(*round_trip(std::make_unique<std::string>("x")) == "x");
  CHECK(*round_trip(std::make_unique<const int>(3)) == 3);
  CHECK(**round_trip(std::make_unique<std::unique_ptr<int>>(std::make_unique<int>(4))) == 4);
}

TEST_CASE("chrono types survive a round trip") {
  using namespace std::chrono;
  CHECK((round_trip(5ms) == 5ms));
  CHECK((round_trip(duration<double>{0.25}) == duration<double>{0.25}));
  CHECK((round_trip(duration<long double>{0.25L}) == duration<long double>{0.25L}));
  const auto wall = system_clock::now();
  CHECK((round_trip(wall) == wall));
  const auto steady = steady_clock::now();
  CHECK((round_trip(steady) == steady));
  const year_month_day day = 2024y / February / 29;
  CHECK((round_trip(day) == day));
  CHECK((round_trip(Monday[2]) == Monday[2]));
  CHECK((round_trip(local_days{day}) == local_days{day}));
  const hh_mm_ss time{-(3h + 25min + 45s + 678ms)};
  CHECK((round_trip(time).to_duration() == time.to_duration()));
}

TEST_CASE("a path survives a round trip") {
  CHECK((round_trip(std::filesystem::path{"/usr/lib"}) == std::filesystem::path{"/usr/lib"}));
  CHECK(round_trip(std::filesystem::path{}).empty());
}

TEST_CASE("containers of elements without bytes keep their length") {
  CHECK(survives(std::vector<std::monostate>(1000)));
  CHECK(survives(std::list<std::tuple<>>(3)));
  CHECK(survives(std::map<std::monostate, int>{{{}, 1}}));
}
