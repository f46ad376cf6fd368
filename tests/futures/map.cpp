// SPDX-License-Identifier: MIT
#include <brood/futures.hpp>
#include <brood/futures/map.hpp>
#include <brood/threading/event.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/patience.hpp"
#include "support/tasks.hpp"

namespace futures = brood::futures;
namespace threading = brood::threading;
using futures::Future;
using futures::ThreadPoolExecutor;
using support::collect;
using support::up_to;
using namespace std::chrono_literals;

using Results =
    decltype(std::declval<ThreadPoolExecutor&>().map([](int i) { return i; }, std::vector<int>{}));
static_assert(std::ranges::input_range<Results>);
static_assert(!std::ranges::forward_range<Results>);

TEST_CASE("map gives results in the order of the input") {
  ThreadPoolExecutor pool(4);
  const auto numbers = up_to(100);
  std::vector<int> expected;
  for (const int n : numbers) expected.push_back(n * n);
  const auto square = [](int n) { return n * n; };
  CHECK(collect(pool.map(square, numbers)) == expected);
  CHECK(collect(pool.map({.chunksize = 3}, square, numbers)) == expected);
  CHECK(collect(pool.map({.chunksize = numbers.size() / 4}, square, numbers)) == expected);
}

TEST_CASE("map takes several ranges up to the end of the shortest") {
  ThreadPoolExecutor pool(2);
  const int tens[] = {10, 20, 30};
  CHECK(collect(pool.map([](int i) { return i + 1; }, tens)) == std::vector{11, 21, 31});
  CHECK(collect(pool.map(std::plus{}, tens, up_to(2))) == std::vector{10, 21});
  CHECK(collect(pool.map(std::plus{}, up_to(5), std::vector{10, 20, 30})) ==
        std::vector{10, 21, 32});
  CHECK(collect(pool.map([](int a, int b, int c) { return a + b + c; }, up_to(3),
                         std::views::iota(5), up_to(3))) == std::vector{5, 8, 11});
}

TEST_CASE("map throws an exception at its place and goes on behind it") {
  ThreadPoolExecutor pool(2);
  auto results =
      pool.map([](int a, int b) { return b == 0 ? throw std::domain_error("zero") : a / b; },
               std::vector{4, 5, 6}, std::vector{2, 0, 3});
  auto it = results.begin();
  CHECK(*it == 2);
  ++it;
  CHECK_THROWS_AS(*it, std::domain_error);
  ++it;
  CHECK(*it == 2);
  ++it;
  CHECK(it == results.end());
}

TEST_CASE("map whose time is up throws and is at its end") {
  CHECK(support::with_some_limit(50ms, [](auto limit) {
    ThreadPoolExecutor pool(2);
    const Future<void> gate;
    auto results = pool.map(
        {.timeout = limit},
        [=](int i) {
          if (i == 1) gate.result();
          return i;
        },
        up_to(3));
    auto it = results.begin();
    bool in_time = true;
    try {
      const int first = *it;  // CHECK would take the exception for a failure
      CHECK(first == 0);
      ++it;
    } catch (const futures::TimeoutError&) {
      in_time = false;
    }
    if (in_time) CHECK_THROWS_AS(*it, futures::TimeoutError);
    CHECK(it == results.end());
    gate.set_result();
    return in_time;
  }));
}

TEST_CASE("a map whose time is up cancels the call it waited for and those behind it") {
  ThreadPoolExecutor pool(1);
  const Future<void> gate;
  std::atomic<int> calls{0};
  const auto blocker = pool.submit([=] { gate.result(); });
  auto results = pool.map(
      {.timeout = 0s}, [&](int) { ++calls; }, up_to(10));
  auto it = results.begin();
  CHECK_THROWS_AS(*it, futures::TimeoutError);
  gate.set_result();
  pool.shutdown();
  CHECK(calls == 0);
}

TEST_CASE("a TimeoutError thrown by the function is a result as others") {
  ThreadPoolExecutor pool(2);
  auto results = pool.map(
      {.timeout = 60s}, [](int i) { return i == 0 ? throw brood::TimeoutError("mine") : i; },
      up_to(2));
  auto it = results.begin();
  CHECK_THROWS_AS(*it, brood::TimeoutError);
  ++it;
  CHECK(*it == 1);
}

TEST_CASE("the end of a map that was begun cancels what has not started") {
  ThreadPoolExecutor pool(1);
  const Future<void> gate;
  std::atomic<int> calls{0};
  {
    auto results = pool.map(
        [&](int i) {
          ++calls;
          if (i == 1) gate.result();
        },
        up_to(100));
    auto it = results.begin();
    *it;
  }
  gate.set_result();
  pool.shutdown();
  CHECK(calls <= 2);
}

TEST_CASE("map calls everything though nobody looks at the results") {
  std::atomic<int> calls{0};
  {
    ThreadPoolExecutor pool(2);
    pool.map([&](int) { ++calls; }, up_to(50));
  }
  CHECK(calls == 50);
}

TEST_CASE("shutdown right after map does not block") {
  ThreadPoolExecutor pool(2);
  auto results = pool.map([](int i) { return std::to_string(i); }, up_to(1000));
  pool.shutdown();
  CHECK(collect(std::move(results)).back() == "999");
}

TEST_CASE("map lets go of a result when the next is asked for") {
  ThreadPoolExecutor pool(2);
  const auto counted = std::make_shared<int>(1);
  auto results = pool.map([&](int) { return counted; }, up_to(3));
  pool.shutdown();
  CHECK(counted.use_count() == 4);
  long left = 4;
  for (auto it = results.begin(); it != results.end(); ++it) CHECK((*it).use_count() == left--);
  CHECK(counted.use_count() == 1);
}

TEST_CASE("map in chunks gives what it gives without for any number of elements") {
  ThreadPoolExecutor pool(2);
  for (const int count : {0, 1, 2, 3, 7, 100}) {
    const auto numbers = up_to(count);
    for (const int size : {1, 2, 3, 1000}) {
      const auto same = [](int i) { return i; };
      CHECK(collect(pool.map({.chunksize = size}, same, numbers)) == numbers);
      CHECK(collect(pool.map({.chunksize = size}, same, up_to(count))) == numbers);
      CHECK(collect(pool.map({.chunksize = size}, same, std::views::iota(0, count))) == numbers);
      CHECK(collect(pool.map({.chunksize = size, .buffersize = 2}, same, numbers)) == numbers);
      CHECK(collect(pool.map({.chunksize = size}, std::minus{}, numbers, up_to(count))) ==
            std::vector<int>(numbers.size(), 0));
    }
  }
}

TEST_CASE("map in chunks throws each exception at its place") {
  ThreadPoolExecutor pool(2);
  const auto odd = [](int i) { return i % 2 == 0 ? throw std::domain_error("even") : i; };
  auto results = pool.map({.chunksize = 4}, odd, up_to(10));
  int place = 0;
  for (auto it = results.begin(); it != results.end(); ++it, ++place) {
    if (place % 2 == 0)
      CHECK_THROWS_AS(*it, std::domain_error);
    else
      CHECK(*it == place);
  }
  CHECK(place == 10);
}

TEST_CASE("a map over an array in chunks gives results of any size and each exception") {
  ThreadPoolExecutor pool(2);
  const std::vector<std::size_t> numbers{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const auto check = [&](auto make) {
    auto results = pool.map({.chunksize = 4}, make, numbers);
    std::size_t expected = 0;
    for (auto it = results.begin(); it != results.end(); ++it, ++expected) {
      if (expected % 3 == 1)
        CHECK_THROWS_AS(*it, std::domain_error);
      else
        CHECK(**it == expected);
    }
    CHECK(expected == numbers.size());
  };
  const auto refuse = [](std::size_t n) {
    if (n % 3 == 1) throw std::domain_error("not this one");
    return n;
  };
  check([=](std::size_t n) { return std::make_unique<std::size_t>(refuse(n)); });  // as large
  check([=](std::size_t n) { return std::make_shared<std::size_t>(refuse(n)); });  // larger
  check([=](std::size_t n) { return std::optional<std::size_t>(refuse(n)); });
  CHECK(collect(pool.map(
            {.chunksize = 4}, [](std::size_t n) { return n > 4; }, numbers)) ==
        std::vector<bool>{false, false, false, false, false, true, true, true, true, true});
}

TEST_CASE("results of a map in chunks may be passed over") {
  ThreadPoolExecutor pool(2);
  auto results = pool.map(
      {.chunksize = 3}, [](int i) { return i; }, up_to(8));
  std::vector<int> every_second;
  for (auto it = results.begin(); it != results.end(); ++it) {
    ++it;
    every_second.push_back(*it);
  }
  CHECK(every_second == std::vector{1, 3, 5, 7});
}

TEST_CASE("a map in chunks goes on where a loop over it was left") {
  ThreadPoolExecutor pool(2);
  auto results = pool.map(
      {.chunksize = 3}, [](int i) { return i; }, up_to(7));
  for (const int n : results)
    if (n == 4) break;
  std::vector<int> rest;
  for (const int n : results) rest.push_back(n);
  CHECK(rest == std::vector{4, 5, 6});
}

TEST_CASE("a map in chunks takes void functions and references and what only moves") {
  ThreadPoolExecutor pool(2);
  std::atomic<int> calls{0};
  CHECK(collect(pool.map(
                    {.chunksize = 2}, [&](int) { ++calls; }, up_to(5)))
            .size() == 5);
  CHECK(calls == 5);
  std::vector<int> numbers = up_to(5);
  for (int& n : pool.map(
           {.chunksize = 2}, [&](int i) -> int& { return numbers[static_cast<std::size_t>(i)]; },
           up_to(5)))
    n *= 2;
  CHECK(numbers == std::vector{0, 2, 4, 6, 8});
  std::vector<std::unique_ptr<int>> owned;
  for (int i = 0; i < 5; ++i) owned.push_back(std::make_unique<int>(i));
  const auto passed_on = collect(pool.map(
      {.chunksize = 2}, [](std::unique_ptr<int> n) { return n; }, std::move(owned)));
  REQUIRE(passed_on.size() == 5);
  CHECK(*passed_on[4] == 4);
}

TEST_CASE("a map in chunks that is left early cancels the chunks that have not started") {
  ThreadPoolExecutor pool(1);
  const Future<void> gate;
  std::atomic<int> calls{0};
  {
    auto results = pool.map(
        {.chunksize = 2},
        [&](int i) {
          ++calls;
          if (i == 2) gate.result();
        },
        up_to(100));
    auto it = results.begin();
    *it;
  }
  gate.set_result();
  pool.shutdown();
  CHECK(calls <= 4);
}

TEST_CASE("a map in chunks destroys its results each once") {
  ThreadPoolExecutor pool(2);
  const auto counted = std::make_shared<int>(1);
  {
    auto results = pool.map(
        {.chunksize = 4}, [&](int i) { return i == 5 ? throw std::domain_error("five") : counted; },
        up_to(10));
    auto it = results.begin();
    *it;
  }
  pool.shutdown();
  CHECK(counted.use_count() == 1);
}

TEST_CASE("map moves results that cannot be copied") {
  ThreadPoolExecutor pool(2);
  int sum = 0;
  for (std::unique_ptr<int> result :
       pool.map([](int i) { return std::make_unique<int>(i); }, up_to(5)))
    sum += *result;
  CHECK(sum == 10);
}

TEST_CASE("map moves elements out of a container that was given up") {
  ThreadPoolExecutor pool(2);
  std::vector<std::unique_ptr<int>> numbers;
  for (int i = 0; i < 5; ++i) numbers.push_back(std::make_unique<int>(i));
  CHECK(collect(pool.map([](std::unique_ptr<int> n) { return *n; }, std::move(numbers))) ==
        up_to(5));
  std::vector<std::string> words{"cup", "plate"};
  collect(pool.map(&std::string::size, std::views::all(words)));
  CHECK(words[1] == "plate");
}

TEST_CASE("map of a void function gives a None for each call") {
  ThreadPoolExecutor pool(2);
  CHECK(collect(pool.map([](int) {}, up_to(3))).size() == 3);
}

TEST_CASE("map of nothing gives nothing") {
  ThreadPoolExecutor pool(2);
  CHECK(collect(pool.map([](int i) { return i; }, std::vector<int>{})).empty());
  CHECK(collect(pool.map([] { return 1; })).empty());
  CHECK(collect(pool.map(
                    {.buffersize = 2}, [](int i) { return i; }, std::vector<int>{}))
            .empty());
  CHECK(collect(pool.map({.buffersize = 2}, [](int i) { return i; })).empty());
}

TEST_CASE("map refuses a buffersize or chunksize below one at the call") {
  ThreadPoolExecutor pool(2);
  const auto same = [](int i) { return i; };
  CHECK_THROWS_AS(pool.map({.buffersize = 0}, same, up_to(3)), std::invalid_argument);
  CHECK_THROWS_AS(pool.map({.buffersize = -1}, same, up_to(3)), std::invalid_argument);
  CHECK_THROWS_AS(pool.map({.chunksize = 0}, same, up_to(3)), std::invalid_argument);
}

TEST_CASE("map with any buffersize gives what it gives without") {
  ThreadPoolExecutor pool(2);
  const auto numbers = up_to(20);
  const auto same = [](int i) { return i; };
  for (const int size : {1, 2, 20, 40})
    CHECK(collect(pool.map({.buffersize = size}, same, numbers)) == numbers);
}

TEST_CASE("map with a buffersize takes several ranges") {
  ThreadPoolExecutor pool(2);
  const auto numbers = up_to(20);
  for (const int size : {1, 2, 20, 40})
    CHECK(collect(pool.map({.buffersize = size}, std::minus{}, numbers, up_to(20))) ==
          std::vector<int>(20, 0));
}

TEST_CASE("map with a buffersize works through endless ranges") {
  ThreadPoolExecutor pool(2);
  std::vector<int> seen;
  for (const int sum :
       pool.map({.buffersize = 4}, std::plus{}, std::views::iota(0), std::views::iota(0))) {
    seen.push_back(sum);
    if (seen.size() == 4) break;
  }
  CHECK(seen == std::vector{0, 2, 4, 6});
  for (const int n : pool.map(
           {.buffersize = 1}, [](int i) { return i; }, std::views::iota(7))) {
    CHECK(n == 7);
    break;
  }
}

TEST_CASE("map with a buffersize takes no more until a result is consumed") {
  ThreadPoolExecutor pool(2);
  int taken = 0;
  auto numbers = std::views::iota(0) | std::views::transform([&](int i) {
                   ++taken;
                   return i;
                 });
  auto results = pool.map(
      {.buffersize = 3}, [](int i) { return i; }, numbers);
  CHECK(taken == 3);
  auto it = results.begin();
  CHECK(*it == 0);
  CHECK(taken == 4);
  ++it;
  CHECK(*it == 1);
  CHECK(taken == 5);
}

TEST_CASE("map with a buffersize fails where it would submit after shutdown") {
  ThreadPoolExecutor pool(2);
  auto results = pool.map(
      {.buffersize = 2}, [](int i) { return i; }, std::views::iota(0));
  pool.shutdown();
  CHECK_THROWS_AS(results.begin(), std::runtime_error);
}

TEST_CASE("a map result may be moved before it is gone through") {
  ThreadPoolExecutor pool(2);
  std::atomic<int> calls{0};
  auto results = pool.map(
      [&](int i) {
        ++calls;
        return i;
      },
      up_to(10));
  auto moved = std::move(results);
  CHECK(collect(std::move(moved)) == up_to(10));
  CHECK(calls == 10);
}

TEST_CASE("map takes a list in braces") {
  ThreadPoolExecutor pool(2);
  const auto twice = [](int i) { return 2 * i; };
  CHECK(collect(pool.map(twice, {1, 2, 3})) == std::vector<int>{2, 4, 6});
  CHECK(collect(pool.map({.chunksize = 2}, twice, {1, 2, 3})) == std::vector<int>{2, 4, 6});
  // The list is gone by the time its elements are taken.
  auto results = pool.map({.buffersize = 1}, [](std::string text) { return text; },
                          {std::string(100, 'a'), std::string(100, 'b'), std::string(100, 'c')});
  CHECK(collect(std::move(results)).back() == std::string(100, 'c'));
}

TEST_CASE("the results of map fill containers and go through views") {
  ThreadPoolExecutor pool(2);
  const auto text = [](int i) { return std::to_string(i); };
  auto results = pool.map(text, up_to(3));
  CHECK(std::vector<std::string>(results.begin(), results.end()) ==
        std::vector<std::string>{"0", "1", "2"});
  auto more = pool.map({.chunksize = 2}, text, up_to(3));
  auto at = more.begin();
  CHECK(*at++ == "0");
  CHECK(*at == "1");
  std::vector<std::string> first;
  for (auto&& result : pool.map(text, up_to(9)) | std::views::take(2))
    first.push_back(std::move(result));
  CHECK(first == std::vector<std::string>{"0", "1"});
}

TEST_CASE("a map result that another is assigned to cancels what has not started") {
  ThreadPoolExecutor pool(1);
  threading::Event gate;
  std::atomic<int> calls{0};
  const auto call = [&](int i) {
    gate.wait();
    ++calls;
    return i;
  };
  auto results = pool.map(call, up_to(50));
  results.begin();
  results = pool.map(call, up_to(2));
  gate.set();
  CHECK(collect(std::move(results)) == up_to(2));
  CHECK(calls <= 3);
}

TEST_CASE("map keeps values of elements that are proxies") {
  ThreadPoolExecutor pool(1);
  threading::Event gate;
  pool.submit([&] { gate.wait(); });
  const auto same = [](bool b) { return b; };
  const std::vector<bool> bits{true, false, true};
  auto ones = pool.map(same, std::vector<bool>{bits});
  auto chunks = pool.map({.chunksize = 2}, same, std::vector<bool>{bits});
  std::vector<bool> changed{bits};
  auto copied = pool.map(same, changed);
  changed.assign(3, false);
  gate.set();
  CHECK(collect(std::move(ones)) == bits);
  CHECK(collect(std::move(chunks)) == bits);
  CHECK(collect(std::move(copied)) == bits);
}
