// SPDX-License-Identifier: MIT
#include <algorithm>
#include <brood/multiprocessing.hpp>
#include <brood/multiprocessing/pool.hpp>
#include <iterator>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_methods.hpp"
#include "support/tasks.hpp"

namespace mp = brood::multiprocessing;
namespace futures = brood::futures;
using support::collect;
using support::gate;
using support::square;
using support::up_to;
using namespace std::chrono_literals;

namespace {

int add(int a, int b) { return a + b; }
int no_threes(int n) {
  if (n == 3) throw std::domain_error("a three");
  return n;
}
std::vector<int> squares(int n) {
  auto numbers = up_to(n);
  for (int& number : numbers) number *= number;
  return numbers;
}

// An input range that fails on its way.
struct Leaky {
  struct iterator {
    int at;
    int operator*() const {
      if (at == 5) throw std::domain_error("the range leaks");
      return at;
    }
    iterator& operator++() {
      ++at;
      return *this;
    }
    bool operator==(const iterator&) const = default;
  };
  iterator begin() const { return {0}; }
  iterator end() const { return {10}; }
};

// Throws when it is written if it is bad.
struct Touchy {
  int bad = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    if (bad != 0) throw std::domain_error("can't be written");
    ar(bad);
  }
};

}  // namespace

TEST_CASE("Pool applies a function") {
  mp::Pool pool(2);
  CHECK(pool.apply(square, 5) == 25);
  CHECK(pool.apply([](std::string a, int b) { return a + std::to_string(b); }, "dish ", 3) ==
        "dish 3");
  pool.apply([] {});
  CHECK_THROWS_AS(pool.apply(no_threes, 3), std::domain_error);
}

TEST_CASE("Pool maps with every chunk size") {
  mp::Pool pool(3);
  CHECK(pool.map(square, up_to(10)) == squares(10));
  CHECK(pool.map(square, up_to(100)) == squares(100));
  for (const std::size_t chunksize : {1u, 2u, 20u, 99u, 100u, 1000u})
    CHECK(pool.map(square, up_to(100), chunksize) == squares(100));
  CHECK_THROWS_AS(pool.map(square, up_to(3), 0), std::invalid_argument);
  CHECK(pool.map([](int) {}, up_to(3)) == std::vector<futures::None>(3));
  CHECK(pool.map([](std::string text) { return text.size(); },
                 std::vector<const char*>{"a", "bc"}) == std::vector<std::size_t>{1, 2});
}

TEST_CASE("Pool maps results that can only be moved") {
  mp::Pool pool(2);
  const auto make = [](int n) { return std::make_unique<int>(n); };
  const auto made = pool.map(make, up_to(20));
  REQUIRE(made.size() == 20);
  for (int i = 0; i < 20; ++i) CHECK(*made[static_cast<std::size_t>(i)] == i);
  int sum = 0;
  for (auto it : pool.imap(make, up_to(5), 2)) sum += *it;
  CHECK(sum == 10);
  CHECK(*pool.apply_async(make, 3).get() == 3);
}

TEST_CASE("Pool starmaps tuples and pairs") {
  mp::Pool pool(2);
  const std::vector<std::tuple<int, int>> tuples{{1, 2}, {3, 4}, {5, 6}};
  CHECK(pool.starmap(add, tuples) == std::vector{3, 7, 11});
  CHECK(pool.starmap(add, tuples, 2) == std::vector{3, 7, 11});
  CHECK(pool.starmap(add, std::vector<std::pair<int, int>>{{1, 2}}) == std::vector{3});
  CHECK(pool.starmap_async(add, tuples).get() == std::vector{3, 7, 11});
  CHECK(pool.starmap([](std::string a, int b) { return a.size() + static_cast<std::size_t>(b); },
                     std::vector<std::tuple<const char*, int>>{{"abc", 1}}) ==
        std::vector<std::size_t>{4});
}

TEST_CASE("Pool gives asynchronous results") {
  board::reset();
  mp::Pool pool(2);
  auto result = pool.apply_async(
      [](int n) {
        gate();
        return n;
      },
      7);
  CHECK_FALSE(result.ready());
  CHECK_THROWS_AS(result.successful(), std::invalid_argument);
  CHECK_FALSE(result.wait(1ms));
  CHECK_THROWS_AS(result.get(1ms), mp::TimeoutError);
  CHECK_THROWS_AS(result.get(0ms), brood::TimeoutError);
  board::bump(1);
  CHECK(result.get() == 7);
  CHECK(result.ready());
  CHECK(result.successful());
  auto failed = pool.apply_async(no_threes, 3);
  CHECK(failed.wait());
  CHECK_FALSE(failed.successful());
  CHECK_THROWS_AS(failed.get(), std::domain_error);
  auto mapped = pool.map_async(square, up_to(10));
  CHECK(mapped.get() == squares(10));
  CHECK(mapped.get() == squares(10));
  auto nothing = pool.apply_async([] {});
  nothing.get();
}

TEST_CASE("Pool calls back with the result or the error once") {
  mp::Pool pool(2);
  std::vector<int> values;
  std::vector<std::string> errors;
  std::vector<mp::AsyncResult<int>> results;
  for (int i = 0; i < 6; ++i)
    results.push_back(pool.apply_async(mp::callbacks([&](int value) { values.push_back(value); },
                                                     [&](const std::exception_ptr& error) {
                                                       try {
                                                         std::rethrow_exception(error);
                                                       } catch (const std::domain_error& e) {
                                                         errors.push_back(e.what());
                                                       }
                                                     }),
                                       no_threes, i));
  bool called = false;
  pool.apply_async(mp::callbacks([&](futures::None) { called = true; }), [] {});
  pool.apply_async(mp::callbacks([](int) {}), no_threes, 3).wait();
  pool.close();
  pool.join();
  std::sort(values.begin(), values.end());
  CHECK(values == std::vector{0, 1, 2, 4, 5});
  CHECK(errors == std::vector<std::string>{"a three"});
  CHECK(called);
}

TEST_CASE("Pool calls back with all results of a map or with its first error") {
  mp::Pool pool(2);
  std::vector<int> values;
  std::vector<int> products;
  std::string error_text;
  const auto keep_error = [&](const std::exception_ptr& error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::domain_error& e) {
      error_text = e.what();
    }
  };
  auto mapped =
      pool.map_async(mp::callbacks([&](const std::vector<int>& all) { values = all; }, keep_error),
                     square, up_to(10));
  auto starred = pool.starmap_async(
      mp::callbacks([&](const std::vector<int>& all) { products = all; }, keep_error),
      [](int a, int b) { return a * b; }, std::vector<std::pair<int, int>>{{2, 3}, {4, 5}}, 1);
  pool.map_async(mp::callbacks([&](const std::vector<int>&) { values.clear(); }, keep_error),
                 no_threes, up_to(5), 1);
  CHECK(mapped.get() == squares(10));
  CHECK(starred.get() == std::vector{6, 20});
  pool.close();
  pool.join();
  CHECK(values == squares(10));
  CHECK(products == std::vector{6, 20});
  CHECK(error_text == "a three");
}

TEST_CASE("Pool gives results of imap in order and of imap_unordered in any") {
  mp::Pool pool(3);
  for (const std::size_t chunksize : {1u, 3u, 100u, 1000u}) {
    CHECK(collect(pool.imap(square, up_to(100), chunksize)) == squares(100));
    auto any = collect(pool.imap_unordered(square, up_to(100), chunksize));
    std::sort(any.begin(), any.end());
    CHECK(any == squares(100));
  }
  auto results = pool.imap(square, up_to(3));
  CHECK(results.left() == 3);
  CHECK(results.next() == 0);
  CHECK(results.next(60s) == 1);
  CHECK(results.next() == 4);
  CHECK(results.left() == 0);
  CHECK_THROWS_AS(results.next(), std::out_of_range);
  CHECK_THROWS_AS(pool.imap(square, up_to(3), 0), std::invalid_argument);
}

TEST_CASE("Pool imap gives what is done while the rest is not") {
  board::reset();
  mp::Pool pool(2);
  const auto task = [](int n) {
    if (n == 1) gate();
    return n;
  };
  auto in_order = pool.imap(task, up_to(3));
  CHECK(in_order.next() == 0);
  CHECK_THROWS_AS(in_order.next(1ms), mp::TimeoutError);
  auto any = pool.imap_unordered([](int n) { return n; }, std::vector{8});
  CHECK(any.next() == 8);
  board::bump(1);
  CHECK(in_order.next() == 1);
  CHECK(in_order.next() == 2);
}

TEST_CASE("Pool imap throws at the place of a failure and goes on") {
  mp::Pool pool(2);
  for (const std::size_t chunksize : {1u, 2u, 4u, 10u}) {
    auto results = pool.imap(no_threes, up_to(10), chunksize);
    for (int i = 0; i < 10; ++i) {
      if (i == 3)
        CHECK_THROWS_AS(results.next(), std::domain_error);
      else
        CHECK(results.next() == i);
    }
    CHECK_THROWS_AS(results.next(), std::out_of_range);
    auto any = pool.imap_unordered(no_threes, up_to(10), chunksize);
    int failures = 0;
    int sum = 0;
    while (any.left() != 0) {
      try {
        sum += any.next();
      } catch (const std::domain_error&) {
        ++failures;
      }
    }
    CHECK(failures == 1);
    CHECK(sum == 42);
  }
}

TEST_CASE("Pool imap goes on behind a worker that died") {
  mp::Pool pool(2);
  const auto deadly = [](int n) {
    if (n == 2) ::abort();
    return n;
  };
  auto results = pool.imap(deadly, up_to(7), 3);
  std::vector<int> got;
  while (results.left() != 0) {
    try {
      got.push_back(results.next());
    } catch (const futures::WorkerCrashed&) {
      got.push_back(-1);
    }
  }
  CHECK(got == std::vector{-1, -1, -1, 3, 4, 5, 6});
  CHECK_THROWS_AS(pool.map(deadly, up_to(4)), futures::WorkerCrashed);
  CHECK(pool.map(square, up_to(4)) == squares(4));
}

TEST_CASE("Pool map waits for all chunks before it throws") {
  board::reset();
  mp::Pool pool(2);
  const auto task = [](int n) {
    if (n == 0) throw std::domain_error("the first");
    board::bump(2);
    return n;
  };
  for (std::uint32_t round = 1; round <= 5; ++round) {
    CHECK_THROWS_AS(pool.map(task, up_to(20), 1), std::domain_error);
    CHECK(board::get(2) == round * 19);
  }
}

TEST_CASE("Pool maps an empty range to nothing") {
  mp::Pool pool(1);
  const std::vector<int> none;
  CHECK(pool.map(square, none).empty());
  CHECK(pool.map(square, none, 1).empty());
  CHECK(pool.map_async(square, none).get(60s).empty());
  CHECK(pool.starmap(add, std::vector<std::tuple<int, int>>{}).empty());
  CHECK(collect(pool.imap(square, none)).empty());
  CHECK(collect(pool.imap_unordered(square, none)).empty());
}

TEST_CASE("Pool passes on what the input range throws") {
  mp::Pool pool(1);
  CHECK_THROWS_AS(pool.map(square, Leaky{}), std::domain_error);
  CHECK_THROWS_AS(pool.imap(square, Leaky{}), std::domain_error);
  CHECK_THROWS_AS(pool.imap_unordered(square, Leaky{}), std::domain_error);
  CHECK(pool.apply(square, 3) == 9);
}

TEST_CASE("Pool refuses wrong options") {
  CHECK_THROWS_AS(mp::Pool(0), std::invalid_argument);
  CHECK_THROWS_AS(mp::Pool(-1), std::invalid_argument);
  CHECK_THROWS_AS(mp::Pool(5000), std::invalid_argument);
  CHECK_THROWS_AS(mp::Pool({.processes = 0}), std::invalid_argument);
  CHECK_THROWS_AS(mp::Pool({.maxtasksperchild = 0}), std::invalid_argument);
  CHECK_THROWS_AS(mp::Pool({.maxtasksperchild = -1}), std::invalid_argument);
  const auto refusal = [](mp::PoolOptions options) -> std::string {
    try {
      mp::Pool{std::move(options)};
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "none";
  };
  CHECK(refusal({.processes = 0}) == "pool: processes must be 1 to 4095, not 0");
  CHECK(refusal({.maxtasksperchild = 0}) == "pool: maxtasksperchild must be at least 1, not 0");
}

TEST_CASE("Pool has as many workers as were asked for") {
  board::reset();
  mp::Pool pool(3);
  auto results = pool.map_async(
      [](int) {
        gate();
        return ::getpid();
      },
      up_to(3), 1);
  board::await(0, 3);
  board::bump(1);
  const auto pids = results.get();
  CHECK(std::set<pid_t>(pids.begin(), pids.end()).size() == 3);
}

TEST_CASE("Pool of 200 workers works") {
  mp::Pool pool(200);
  const auto results = pool.map(square, up_to(1000));
  CHECK(std::accumulate(results.begin(), results.end(), 0L) == 332833500L);
}

TEST_CASE("Pool runs its initializer in each worker") {
  board::reset();
  static int value = 0;
  mp::Pool pool({.processes = 2, .initializer = [] { value = 5; }});
  CHECK(pool.map([](int n) { return n * value; }, up_to(4)) == std::vector{0, 5, 10, 15});
  CHECK(value == 0);
  mp::Pool broken({.processes = 2, .initializer = [] { throw std::runtime_error("no water"); }});
  try {
    broken.apply(square, 1);
    FAIL("it must throw");
  } catch (const futures::BrokenProcessPool& error) {
    CHECK_THAT(error.what(), Catch::Matchers::ContainsSubstring("no water"));
  }
}

TEST_CASE("Pool replaces workers after maxtasksperchild") {
  mp::Pool pool({.processes = 3, .maxtasksperchild = 10});
  const auto pids = pool.map([](int) { return ::getpid(); }, up_to(100), 1);
  const std::set<pid_t> distinct(pids.begin(), pids.end());
  CHECK(distinct.size() >= 10);
  for (const pid_t pid : distinct) CHECK(std::count(pids.begin(), pids.end(), pid) <= 10);
}

TEST_CASE("Pool that is closed early finishes with replaced workers") {
  mp::Pool pool({.processes = 3, .maxtasksperchild = 1});
  std::vector<mp::AsyncResult<int>> results;
  for (int i = 0; i < 6; ++i) results.push_back(pool.apply_async(square, i));
  pool.close();
  pool.join();
  for (int i = 0; i < 6; ++i) CHECK(results[static_cast<std::size_t>(i)].get() == i * i);
}

TEST_CASE("Pool is joined only after close or terminate") {
  mp::Pool pool(1);
  CHECK_THROWS_AS(pool.join(), std::invalid_argument);
  CHECK(pool.apply(square, 2) == 4);
  pool.close();
  pool.close();
  pool.join();
  pool.join();
}

TEST_CASE("Pool takes no calls after close and terminate") {
  for (const bool terminate : {false, true}) {
    mp::Pool pool(1);
    if (terminate)
      pool.terminate();
    else
      pool.close();
    CHECK_THROWS_AS(pool.apply(square, 1), std::invalid_argument);
    CHECK_THROWS_AS(pool.apply_async(square, 1), std::invalid_argument);
    CHECK_THROWS_AS(pool.map(square, up_to(2)), std::invalid_argument);
    CHECK_THROWS_AS(pool.map_async(square, up_to(2)), std::invalid_argument);
    CHECK_THROWS_AS(pool.starmap(add, std::vector<std::tuple<int, int>>{{1, 2}}),
                    std::invalid_argument);
    CHECK_THROWS_AS(pool.imap(square, up_to(2)), std::invalid_argument);
    CHECK_THROWS_AS(pool.imap_unordered(square, up_to(2)), std::invalid_argument);
    CHECK_THROWS_AS(pool.map(square, std::vector<int>{}), std::invalid_argument);
  }
}

TEST_CASE("Pool terminate ends promptly with many queued tasks") {
  board::reset();
  mp::Pool pool(3);
  auto mapped = pool.map_async(
      [](int n) {
        gate();
        return n;
      },
      up_to(10'000), 1);
  board::await(0, 1);
  auto pending = pool.imap([](int n) { return n; }, up_to(10));
  pool.terminate();
  pool.join();
  CHECK(mapped.ready());
  CHECK_FALSE(mapped.successful());
  for (int i = 0; i < 10; ++i) CHECK_THROWS_AS(pending.next(), futures::CancelledError);
}

TEST_CASE("Pool terminates when an exception unwinds and finishes when none does") {
  support::LeakCheck nothing_left;
  board::reset();
  mp::AsyncResult<int> lost{futures::Future<int>{}};
  try {
    mp::Pool pool(1);
    lost = pool.apply_async(
        [](int n) {
          gate();  // nobody will open it
          return n;
        },
        1);
    board::await(0, 1);
    throw std::runtime_error("unwinding");
  } catch (const std::runtime_error&) {
  }
  CHECK_THROWS_AS(lost.get(), futures::WorkerCrashed);
  {
    mp::Pool pool(2);
    pool.imap_unordered([](int) { board::bump(2); }, up_to(20));  // nobody looks at them
    pool.map_async([](int) { board::bump(2); }, up_to(20));
  }
  CHECK(board::get(2) == 40);
}

TEST_CASE("Pool that another is moved to finishes its own calls first") {
  static_assert(std::movable<mp::Pool> && !std::is_copy_constructible_v<mp::Pool>);
  mp::Pool pool(1);
  const auto first = pool.apply_async(square, 3);
  pool = mp::Pool(2);
  CHECK(first.ready());
  CHECK(first.get() == 9);
  CHECK(pool.apply(square, 4) == 16);

  mp::Pool other = std::move(pool);
  CHECK(other.apply(square, 5) == 25);
  CHECK_THROWS_AS(pool.apply(square, 6), std::runtime_error);
  pool = std::move(other);
  CHECK(pool.apply(square, 6) == 36);
}

TEST_CASE("Pool may be used from several threads at once") {
  mp::Pool pool(2);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        if (pool.map(square, up_to(50)) != squares(50)) ++wrong;
        if (pool.apply(square, i) != i * i) ++wrong;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("Pool value that cannot be written throws and harms no worker") {
  mp::Pool pool(1);
  CHECK_THROWS_AS(pool.map([](Touchy) {}, std::vector{Touchy{}, Touchy{1}}), std::domain_error);
  const pid_t before = pool.apply([] { return ::getpid(); });
  for (int i = 0; i < 20; ++i)
    CHECK_THROWS_AS(pool.apply([](int n) { return Touchy{n}; }, 1), std::domain_error);
  CHECK(pool.apply([] { return ::getpid(); }) == before);
}

TEST_CASE("Pool lets go of arguments and results") {
  const auto token = std::make_shared<int>(1);
  mp::Pool pool(1);
  {
    auto result = pool.apply_async(mp::callbacks([token](int) {}), square, 2);
    result.get();
  }
  pool.close();
  pool.join();
  CHECK(token.use_count() == 1);
}

TEST_CASE("Pool works in a Process and at the end of a program") {
  board::reset();
  mp::Process process([] {
    mp::Pool pool(2);
    if (pool.map(square, up_to(5)) == squares(5)) board::bump(0);
    static auto* const left = new mp::Pool(1);  // so that no leak is seen
    left->apply_async([] { board::bump(0); });
  });
  process.start();
  process.join();
  CHECK(process.exitcode() == 0);
  CHECK(board::get(0) == 2);
}

TEST_CASE("the results of imap can be looked at twice and left out") {
  mp::Pool pool(1);
  const auto name = [](int number) { return "dish " + std::to_string(number) + " of the washer"; };
  std::vector<std::string> chosen;
  auto results = pool.imap(name, std::vector{1, 2, 3, 4});
  for (auto it = results.begin(); it != results.end(); ++it)
    if ((*it).size() > 4 && *it != name(2)) chosen.push_back(*it);
  CHECK(chosen == std::vector{name(1), name(3), name(4)});
  auto unseen = pool.imap(name, std::vector{1, 2, 3});
  int count = 0;
  for (auto it = unseen.begin(); it != unseen.end(); ++it) ++count;
  CHECK(count == 3);
}

TEST_CASE("the map functions of a Pool take lists in braces") {
  mp::Pool pool(2);
  const auto twice = [](int n) { return 2 * n; };
  const auto add = [](int a, int b) { return a + b; };
  CHECK(pool.map(twice, {1, 2, 3}) == std::vector{2, 4, 6});
  CHECK(pool.map(twice, {1, 2, 3}, 2) == std::vector{2, 4, 6});
  CHECK(pool.map_async(twice, {4}).get() == std::vector{8});
  CHECK(pool.starmap(add, {std::pair(1, 2), std::pair(3, 4)}) == std::vector{3, 7});
  CHECK(pool.starmap_async(add, {std::pair(1, 2)}).get() == std::vector{3});
  CHECK(pool.imap(twice, {1, 2}).next() == 2);
  CHECK(pool.imap_unordered(twice, {5}).next() == 10);
}

TEST_CASE("the results of imap fill containers") {
  mp::Pool pool(2);
  auto results = pool.imap([](int n) { return 2 * n; }, std::vector{1, 2, 3});
  CHECK(std::vector<int>(results.begin(), results.end()) == std::vector{2, 4, 6});
  auto more = pool.imap([](int n) { return 2 * n; }, std::vector{1, 2});
  auto at = more.begin();
  CHECK(*at++ == 2);
  CHECK(*at == 4);
}
