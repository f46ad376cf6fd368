// SPDX-License-Identifier: MIT
#include <array>
#include <brood/futures.hpp>
#include <brood/futures/as_completed.hpp>
#include <map>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "support/catch.hpp"

namespace futures = brood::futures;
using futures::Future;
using namespace std::chrono_literals;

static_assert(std::ranges::input_range<futures::AsCompleted<futures::Future<int>>>);
static_assert(!std::ranges::forward_range<futures::AsCompleted<futures::Future<int>>>);

TEST_CASE("as_completed yields finished and later ones each once") {
  futures::ThreadPoolExecutor pool(2);
  const Future<int> cancelled;
  const Future<int> failed;
  cancelled.cancel();
  failed.set_exception(std::make_exception_ptr(1));
  const Future<void> gate;
  const auto first = pool.submit([=] {
    gate.result();
    return 1;
  });
  std::vector<Future<int>> seen;
  for (auto future : futures::as_completed(std::vector{first, cancelled, failed})) {
    seen.push_back(future);
    if (seen.size() == 2) gate.set_result();
  }
  CHECK(seen == std::vector{cancelled, failed, first});
}

TEST_CASE("as_completed yields what is done before it throws a timeout") {
  const Future<int> done;
  const Future<int> pending;
  done.set_result(1);
  for (const brood::Timeout limit : {brood::Timeout{0s}, brood::Timeout{10ms}}) {
    std::vector<Future<int>> seen;
    const auto loop = [&] {
      for (auto future : futures::as_completed(std::vector{pending, done}, limit))
        seen.push_back(future);
    };
    CHECK_THROWS_AS(loop(), futures::TimeoutError);
    CHECK(seen == std::vector{done});
  }
}

TEST_CASE("as_completed yields a future once that is given twice") {
  futures::ThreadPoolExecutor pool(2);
  const auto future = pool.submit([] { return 1; });
  int count = 0;
  for (const auto& each : futures::as_completed({future, future, future})) {
    CHECK(each == future);
    ++count;
  }
  CHECK(count == 1);
}

TEST_CASE("as_completed yields futures once that are given twice wherever they lie") {
  // Near each other; far from each other; and both.
  std::vector<Future<int>> near(300);
  std::vector<Future<std::array<char, 50'000>>> far(30);
  std::vector<futures::AnyFuture> all;
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < near.size(); ++i) all.emplace_back(near[i * 7 % near.size()]);
    for (std::size_t i = 0; i < far.size(); ++i) all.emplace_back(far[i * 7 % far.size()]);
  }
  const auto count = [&](const auto& futures) {
    std::unordered_set<futures::AnyFuture> seen;
    std::size_t yielded = 0;
    for (const auto& future : futures::as_completed(futures)) {
      seen.insert(future);
      ++yielded;
    }
    CHECK(seen.size() == yielded);
    return yielded;
  };
  for (const auto& future : near) future.set_exception(std::make_exception_ptr(1));
  for (const auto& future : far) future.cancel();
  CHECK(count(all) == near.size() + far.size());
  CHECK(count(std::vector(all.begin(), all.begin() + 150)) == 150);
  std::vector<futures::AnyFuture> far_twice(far.begin(), far.end());
  for (const auto& future : far) far_twice.emplace_back(future);
  CHECK(count(far_twice) == 30);
}

TEST_CASE("as_completed gives back what it has not yielded when it is left") {
  std::vector<Future<std::unique_ptr<int>>> tasks(5);
  tasks[1].set_result(std::make_unique<int>(1));
  {
    auto completed = futures::as_completed(tasks);
    tasks[3].set_result(std::make_unique<int>(3));
    tasks[0].set_result(std::make_unique<int>(0));
    auto next = completed.begin();
    CHECK(*next == tasks[1]);
    CHECK(*++next == tasks[3]);
  }
  tasks[2].set_result(std::make_unique<int>(2));
  for (std::size_t i = 0; i < 4; ++i)  // moves: the last handle
    CHECK(*std::move(tasks[i]).result() == static_cast<int>(i));
  CHECK(tasks[4].cancel());
}

TEST_CASE("as_completed keeps no handle of what it has yielded") {
  std::vector<Future<std::unique_ptr<int>>> tasks(2);
  tasks[0].set_result(std::make_unique<int>(1));
  tasks[1].set_result(std::make_unique<int>(2));
  int sum = 0;
  for (auto future : futures::as_completed(std::move(tasks))) {
    const std::unique_ptr<int> result = std::move(future).result();  // moves: the last handle
    sum += *result;
  }
  CHECK(sum == 3);
}

TEST_CASE("as_completed lets go of results as it goes") {
  const auto counted = std::make_shared<int>(0);
  std::vector<Future<std::shared_ptr<int>>> tasks(4);
  for (const auto& task : tasks) task.set_result(counted);
  CHECK(counted.use_count() == 5);
  long left = 5;
  for (auto&& future : futures::as_completed(std::move(tasks))) {
    CHECK(counted.use_count() == left--);
    CHECK(future.done());
  }
  CHECK(counted.use_count() == 1);
}

TEST_CASE("the timeout of as_completed tells how many are unfinished") {
  std::vector<Future<int>> tasks(4);
  tasks[1].set_result(1);
  tasks[3].set_result(1);
  std::string message;
  try {
    for (auto future : futures::as_completed(tasks, 0s)) CHECK(future.done());
  } catch (const futures::TimeoutError& error) {
    message = error.what();
  }
  CHECK(message == "2 (of 4) futures unfinished");
}

TEST_CASE("as_completed takes any range of futures") {
  const Future<int> done;
  done.set_result(1);
  const std::unordered_map<Future<int>, std::string> names{{done, "plate"}};
  for (const auto& future : futures::as_completed(std::views::keys(names)))
    CHECK(names.at(future) == "plate");
  int count = 0;
  for (auto future : futures::as_completed(std::array<Future<int>, 2>{done, done}))
    count += future.result();
  CHECK(count == 1);
  for (auto future : futures::as_completed(std::vector<Future<int>>{})) count += future.result();
  CHECK(count == 1);
}

TEST_CASE("as_completed takes futures of different types as AnyFuture") {
  futures::ThreadPoolExecutor pool(2);
  std::vector<futures::AnyFuture> tasks{pool.submit([] { return 1; }), pool.submit([] {})};
  std::size_t count = 0;
  for (const auto& future : futures::as_completed(tasks))
    if (future.done()) ++count;
  CHECK(count == 2);
}

TEST_CASE("as_completed takes a list in braces of futures of different types") {
  const Future<int> one;
  const Future<void> other;
  one.set_result(1);
  other.set_result();
  std::vector<futures::AnyFuture> seen;
  for (const auto& future : futures::as_completed({one, other})) seen.push_back(future);
  CHECK(seen == std::vector<futures::AnyFuture>{one, other});
}

TEST_CASE("what as_completed yields fills containers") {
  std::vector<Future<int>> tasks(3);
  for (const Future<int>& task : tasks) task.set_result(1);
  auto completed = futures::as_completed(tasks);
  CHECK(std::vector<Future<int>>(completed.begin(), completed.end()) == tasks);
}

TEST_CASE("as_completed may be left before its end") {
  std::vector<Future<int>> tasks(3);
  tasks[2].set_result(5);
  for (auto future : futures::as_completed(tasks)) {
    CHECK(future.result() == 5);
    break;
  }
  tasks[0].set_result(1);  // tells nobody
  CHECK(tasks[0].done());
}

TEST_CASE("as_completed yields ten thousand futures while they end") {
  futures::ThreadPoolExecutor pool(4);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 10'000; ++i) tasks.push_back(pool.submit([i] { return i; }));
  long sum = 0;
  for (auto future : futures::as_completed(std::move(tasks), 60s)) sum += future.result();
  CHECK(sum == 9'999L * 10'000 / 2);
}
