// SPDX-License-Identifier: MIT
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <brood/futures.hpp>
#include <brood/futures/process_pool.hpp>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/leaks.hpp"
#include "support/sleepers.hpp"
#include "support/start_methods.hpp"
#include "support/tasks.hpp"

namespace futures = brood::futures;
using futures::Future;
using futures::ProcessPoolExecutor;
using support::collect;
using support::gate;
using support::square;
using support::up_to;
using namespace std::chrono_literals;

namespace {

double root(double value) { return std::sqrt(value); }
int add(int a, int b) { return a + b; }

// A function object that crosses with its members.
struct Scale {
  int factor;
  int operator()(int n) const { return factor * n; }
};

struct Dish {
  std::string name;
  std::map<std::string, std::vector<int>> scratches;
  friend bool operator==(const Dish&, const Dish&) = default;
};

// Counts the copies that live, in each process for itself.
struct Counted {
  inline static std::atomic<int> alive = 0;
  int value = 0;
  explicit Counted(int its_value = 0) : value(its_value) { ++alive; }
  Counted(const Counted& other) : value(other.value) { ++alive; }
  Counted& operator=(const Counted&) = default;
  ~Counted() { --alive; }
  template <class Archive>
  void serialize(Archive& ar) {
    ar(value);
  }
};

template <class F>
concept Submittable = requires(ProcessPoolExecutor pool, F f) {
  pool.submit(f);
};

}  // namespace

TEST_CASE("process pool calls a function with arguments in another process") {
  ProcessPoolExecutor pool(2);
  CHECK(pool.submit(root, 2.0).result() == Catch::Approx(1.41421356));
  CHECK(pool.submit(add, 2, 3).result() == 5);
  CHECK(pool.submit(&add, 2, 3).result() == 5);
  const pid_t there = pool.submit([] { return ::getpid(); }).result();
  CHECK(there != ::getpid());
  CHECK(pool.submit([] { return ::getppid(); }).result() != ::getpid());
}

TEST_CASE("process pool takes lambdas without captures and function objects with members") {
  ProcessPoolExecutor pool(1);
  CHECK(pool.submit([](int a, int b) { return a * b; }, 6, 7).result() == 42);
  CHECK(pool.submit(Scale{3}, 5).result() == 15);
  CHECK(pool.submit(std::plus<int>{}, 2, 2).result() == 4);
  const Scale scale{4};
  CHECK(collect(pool.map(scale, up_to(4))) == std::vector{0, 4, 8, 12});
}

TEST_CASE("process pool refuses at compile time what cannot cross") {
  int captured = 1;
  const auto with_capture = [captured] { return captured; };
  const auto without = [] { return 1; };
  ++captured;
  STATIC_REQUIRE(Submittable<decltype(without)>);
  STATIC_REQUIRE_FALSE(Submittable<decltype(with_capture)>);
  STATIC_REQUIRE(futures::CrossesProcesses<int (*)(int)>);
  STATIC_REQUIRE(futures::CrossesProcesses<int (&)(int)>);
  STATIC_REQUIRE_FALSE(futures::CrossesProcesses<decltype(with_capture)>);
  STATIC_REQUIRE_FALSE(futures::RemotelyInvocable<int (*)(int*), int*>);
  STATIC_REQUIRE_FALSE(futures::RemotelyInvocable<int (*)(std::string_view), std::string_view>);
  STATIC_REQUIRE_FALSE(futures::RemotelyInvocable<int* (*)()>);
  STATIC_REQUIRE(futures::Executor<ProcessPoolExecutor>);
}

TEST_CASE("process pool passes strings and literals as strings") {
  ProcessPoolExecutor pool(1);
  const auto louder = [](std::string text) { return text + "!"; };
  CHECK(pool.submit(louder, "hello").result() == "hello!");
  const char* pointer = "a pointer";
  CHECK(pool.submit(louder, pointer).result() == "a pointer!");
  char array[] = "an array";
  CHECK(pool.submit(louder, array).result() == "an array!");
  CHECK(collect(pool.map({.chunksize = 2}, louder, std::vector<const char*>{"a", "b", "c"})) ==
        std::vector<std::string>{"a!", "b!", "c!"});
}

TEST_CASE("process pool passes values of any serializable type both ways") {
  ProcessPoolExecutor pool(2);
  const Dish dish{"cup", {{"rim", {1, 2}}, {"foot", {}}}};
  const auto same = [](auto value) { return value; };
  CHECK(pool.submit(same, dish).result() == dish);
  CHECK(pool.submit([](std::unique_ptr<int> p) { return std::make_unique<int>(*p + 1); },
                    std::make_unique<int>(41))
            .result()
            .
            operator*() == 42);
  const std::tuple<int, std::string, std::vector<double>> mixed{1, "two", {3.0}};
  CHECK(pool.submit(same, mixed).result() == mixed);
}

TEST_CASE("process pool gives a future of nothing for a function that returns nothing") {
  board::reset();
  ProcessPoolExecutor pool(1);
  Future<void> done = pool.submit([] { board::bump(0); });
  done.result();
  CHECK(board::get(0) == 1);
  int calls = 0;
  for (auto result : pool.map([](int) { board::bump(0); }, up_to(3))) {
    CHECK(result == futures::None{});
    ++calls;
  }
  CHECK(calls == 3);
  CHECK(board::get(0) == 4);
}

TEST_CASE("process pool returns references as values") {
  ProcessPoolExecutor pool(1);
  auto result = pool.submit(
      [](int n) -> const int& {
        static int kept;
        return kept = n;
      },
      7);
  STATIC_REQUIRE(std::is_same_v<decltype(result), Future<int>>);
  CHECK(result.result() == 7);
}

TEST_CASE("process pool carries arguments and results of every size unchanged") {
  ProcessPoolExecutor pool(2);
  const auto turned = [](std::string text) {
    std::reverse(text.begin(), text.end());
    return text;
  };
  std::vector<Future<std::string>> results;
  std::vector<std::string> texts;
  for (std::size_t size : {0u, 1u, 100u, 160u, 168u, 176u, 177u, 184u, 185u, 200u, 4095u, 65527u,
                           65528u, 65529u, 65536u, 65537u, 1'000'000u, 5'000'000u}) {
    std::string text(size, ' ');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
    texts.push_back(text);
    results.push_back(pool.submit(turned, text));
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    std::reverse(texts[i].begin(), texts[i].end());
    CHECK((results[i].result() == texts[i]));
  }
}

TEST_CASE("process pool carries 64 MiB there and back") {
  ProcessPoolExecutor pool(2);
  const std::size_t count = (std::size_t{64} << 20) / sizeof(double);
  std::vector<double> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0.0);
  const auto doubled = [](std::vector<double> values) {
    for (double& value : values) value *= 2;
    return values;
  };
  auto first = pool.submit(doubled, numbers);
  auto second = pool.submit(doubled, numbers);
  for (auto* future : {&first, &second}) {
    const auto& result = future->result();
    REQUIRE(result.size() == count);
    bool right = true;
    for (std::size_t i = 0; i < count; i += 1000) right = right && result[i] == 2.0 * double(i);
    CHECK(right);
    CHECK(result.back() == 2.0 * double(count - 1));
  }
}

TEST_CASE("process pool gives the memory of large tasks back") {
  // The pool's memory file is found among the descriptors.
  const auto blocks = [] {
    std::size_t found = 0;
    for (const auto& [fd, target] : support::open_descriptors()) {
      struct stat status {};
      if (target.find("brood-tasks") != std::string::npos && ::fstat(fd, &status) == 0)
        found += static_cast<std::size_t>(status.st_blocks) * 512;
    }
    return found;
  };
  ProcessPoolExecutor pool(2);
  const std::size_t before = blocks();
  CHECK(before > 0);
  for (int round = 0; round < 5; ++round) {
    std::vector<Future<std::string>> results;
    for (int i = 0; i < 8; ++i)
      results.push_back(pool.submit([](std::string text) { return text + text; },
                                    std::string(std::size_t{4} << 20, 'x')));
    for (auto& result : results) CHECK(result.result().size() == std::size_t{8} << 20);
  }
  // A crash gives back what it held, too.
  auto crash = pool.submit([](std::string text) { return text.empty() ? text : (::abort(), text); },
                           std::string(std::size_t{4} << 20, 'x'));
  CHECK_THROWS_AS(crash.result(), futures::WorkerCrashed);
  // Some of it is kept for the next ones, until none have come for a second.
  CHECK(blocks() <= before + (std::size_t{131} << 20));
  CHECK(support::eventually([&] { return blocks() <= before + (std::size_t{1} << 20); }));
}

TEST_CASE("process pool takes many more tasks than it has slots") {
  ProcessPoolExecutor pool(2);
  std::vector<Future<int>> results;
  for (int i = 0; i < 20'000; ++i) results.push_back(pool.submit(square, i % 1000));
  bool right = true;
  for (int i = 0; i < 20'000; ++i)
    right = right && results[static_cast<std::size_t>(i)].result() == (i % 1000) * (i % 1000);
  CHECK(right);
}

TEST_CASE("process pool starts workers on demand and uses idle ones again") {
  ProcessPoolExecutor pool(4);
  CHECK(pool.worker_pids().empty());
  CHECK(pool.max_workers() == 4);
  std::set<pid_t> used;
  for (int i = 0; i < 10; ++i) used.insert(pool.submit([] { return ::getpid(); }).result());
  CHECK(used.size() == 1);
  CHECK(pool.worker_pids() == std::vector<pid_t>(used.begin(), used.end()));
}

TEST_CASE("process pool starts no more workers than it may") {
  board::reset();
  ProcessPoolExecutor pool(3);
  std::vector<Future<void>> results;
  for (int i = 0; i < 45; ++i) results.push_back(pool.submit(gate));
  board::await(0, 3);
  CHECK(pool.worker_pids().size() <= 3);
  board::bump(1);
  for (auto& result : results) result.result();
  CHECK(board::get(0) == 45);
  CHECK(pool.worker_pids().size() == 3);
}

TEST_CASE("process pool refuses a wrong number of workers") {
  CHECK_THROWS_AS(ProcessPoolExecutor(0), std::invalid_argument);
  CHECK_THROWS_AS(ProcessPoolExecutor(-1), std::invalid_argument);
  CHECK_THROWS_AS(ProcessPoolExecutor(5000), std::invalid_argument);
  CHECK_THROWS_AS(ProcessPoolExecutor(INT64_MIN), std::invalid_argument);
  CHECK_THROWS_AS(ProcessPoolExecutor(UINT64_MAX), std::invalid_argument);
  CHECK_THROWS_AS(ProcessPoolExecutor({.max_workers = 0}), std::invalid_argument);
  CHECK_THROWS_AS(ProcessPoolExecutor({.max_tasks_per_child = 0}), std::invalid_argument);
  CHECK_THROWS_AS(ProcessPoolExecutor({.max_tasks_per_child = -3}), std::invalid_argument);
  CHECK(ProcessPoolExecutor().max_workers() == brood::os::process_cpu_count());
}

TEST_CASE("process pool maps in the order of the input for every chunk size") {
  ProcessPoolExecutor pool(3);
  const auto numbers = up_to(100);
  std::vector<int> expected;
  for (const int n : numbers) expected.push_back(n * n);
  for (const int chunksize : {1, 2, 3, 50, 99, 100, 101, 1000})
    CHECK(collect(pool.map({.chunksize = chunksize}, square, numbers)) == expected);
  CHECK_THROWS_AS(pool.map({.chunksize = 0}, square, numbers), std::invalid_argument);
  CHECK_THROWS_AS(pool.map({.chunksize = -1}, square, numbers), std::invalid_argument);
  CHECK(collect(pool.map(add, up_to(5), std::vector{10, 20, 30})) == std::vector{10, 21, 32});
  CHECK(collect(pool.map(square, std::vector<int>{})).empty());
}

TEST_CASE("process pool maps within a buffer") {
  ProcessPoolExecutor pool(2);
  const auto numbers = up_to(20);
  std::vector<int> expected;
  for (const int n : numbers) expected.push_back(n * n);
  for (const int buffersize : {1, 2, 20, 40})
    for (const int chunksize : {1, 3})
      CHECK(collect(pool.map({.chunksize = chunksize, .buffersize = buffersize}, square,
                             numbers)) == expected);
  CHECK_THROWS_AS(pool.map({.buffersize = 0}, square, numbers), std::invalid_argument);
}

TEST_CASE("process pool throws from a map at its place and goes on behind it") {
  ProcessPoolExecutor pool(2);
  const auto divided = [](int a, int b) {
    if (b == 0) throw std::domain_error("zero");
    return a / b;
  };
  for (const int chunksize : {1, 2, 3}) {
    auto results =
        pool.map({.chunksize = chunksize}, divided, std::vector{4, 5, 6}, std::vector{2, 0, 3});
    auto it = results.begin();
    CHECK(*it == 2);
    ++it;
    CHECK_THROWS_AS(*it, std::domain_error);
    ++it;
    CHECK(*it == 2);
    ++it;
    CHECK(it == results.end());
  }
}

TEST_CASE("process pool map whose time is up throws and cancels the rest") {
  board::reset();
  ProcessPoolExecutor pool(1);
  auto results = pool.map(
      {.timeout = 30ms}, [](int) { gate(); }, up_to(5));
  auto it = results.begin();
  board::await(0, 1);
  CHECK_THROWS_AS(*it, brood::TimeoutError);
  CHECK(it == results.end());
  board::bump(1);
  pool.shutdown();
  CHECK(board::get(0) == 1);
}

TEST_CASE("process pool makes the calls of a map that is dropped") {
  board::reset();
  {
    ProcessPoolExecutor pool(2);
    pool.map([](int) { board::bump(0); }, up_to(50));
    pool.map(
        {.chunksize = 7}, [](int) { board::bump(0); }, up_to(50));
  }
  CHECK(board::get(0) == 100);
}

TEST_CASE("process pool result waits no longer than it may") {
  board::reset();
  ProcessPoolExecutor pool(1);
  auto future = pool.submit(gate);
  CHECK_THROWS_AS(future.result(0ms), brood::TimeoutError);
  CHECK_THROWS_AS(future.result(10ms), brood::TimeoutError);
  CHECK_FALSE(future.done());
  board::bump(1);
  future.result();
  CHECK(future.done());
}

TEST_CASE("process pool cancels what no worker has taken and it never runs") {
  board::reset();
  ProcessPoolExecutor pool(1);
  auto busy = pool.submit(gate);
  board::await(0, 1);
  CHECK(busy.running());
  CHECK_FALSE(busy.cancel());
  std::vector<Future<void>> queued;  // more than there are slots
  for (int i = 0; i < 3000; ++i) queued.push_back(pool.submit([] { board::bump(2); }));
  CHECK_FALSE(queued.front().running());
  for (std::size_t i = 0; i < queued.size(); i += 2) {
    CHECK(queued[i].cancel());
    CHECK(queued[i].cancelled());
    CHECK_THROWS_AS(queued[i].result(), futures::CancelledError);
  }
  board::bump(1);
  for (std::size_t i = 1; i < queued.size(); i += 2) queued[i].result();
  busy.result();
  CHECK_FALSE(busy.running());
  CHECK_FALSE(busy.cancel());
  pool.shutdown();
  CHECK(board::get(2) == 1500);
}

TEST_CASE("process pool cancels while workers take and finish tasks") {
  board::reset();
  ProcessPoolExecutor pool(2);
  unsigned ran = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<Future<int>> tasks;
    for (int i = 0; i < 300; ++i) {
      tasks.push_back(pool.submit(
          [](int n) {
            board::bump(0);
            return n;
          },
          i));
      if (i % 2 == 1) tasks[static_cast<std::size_t>(i) / 2].cancel();
    }
    for (int i = 0; i < 300; ++i) {
      auto& task = tasks[static_cast<std::size_t>(i)];
      if (task.cancelled()) continue;
      CHECK(task.result() == i);
      ++ran;
    }
  }
  pool.shutdown();
  CHECK(board::get(0) == ran);
}

TEST_CASE("process pool that is cancelled at once shuts down") {
  ProcessPoolExecutor pool(1);
  pool.submit(square, 1).cancel();
  pool.shutdown();
}

TEST_CASE("process pool shutdown waits for all that was submitted") {
  board::reset();
  ProcessPoolExecutor pool(3);
  for (int i = 0; i < 50; ++i) pool.submit([] { board::bump(0); });
  pool.shutdown();
  CHECK(board::get(0) == 50);
  CHECK(pool.worker_pids().empty());
  CHECK_THROWS_AS(pool.submit(square, 1), std::runtime_error);
  CHECK_THROWS_AS(pool.map(square, up_to(2)), std::runtime_error);
  pool.shutdown();
}

TEST_CASE("process pool shutdown may cancel what has not begun") {
  board::reset();
  ProcessPoolExecutor pool(2);
  std::vector<Future<void>> tasks;
  for (int i = 0; i < 2000; ++i) tasks.push_back(pool.submit(gate));
  auto chunks = pool.map(
      {.chunksize = 10}, [](int) { board::bump(3); }, up_to(100));
  board::await(0, 2);
  pool.shutdown({.wait = false, .cancel_futures = true});
  const auto cancelled =
      std::count_if(tasks.begin(), tasks.end(), [](const auto& task) { return task.cancelled(); });
  CHECK(cancelled == 1998);
  board::bump(1);
  pool.shutdown({.cancel_futures = true});
  CHECK(board::get(0) == 2);
  CHECK(board::get(3) == 0);
  for (auto& task : tasks) {
    CHECK(task.done());
    if (!task.cancelled()) task.result();
  }
  CHECK_THROWS_AS(*chunks.begin(), futures::CancelledError);
}

TEST_CASE("process pool shutdown without waiting returns at once and the tasks go on") {
  board::reset();
  ProcessPoolExecutor pool(2);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 10; ++i)
    tasks.push_back(pool.submit(
        [](int n) {
          gate();
          return n;
        },
        i));
  pool.shutdown({.wait = false});
  CHECK_THROWS_AS(pool.submit(square, 1), std::runtime_error);
  CHECK_FALSE(tasks.back().done());
  board::bump(1);
  for (int i = 0; i < 10; ++i) CHECK(tasks[static_cast<std::size_t>(i)].result() == i);
}

TEST_CASE("process pool may be moved and its destructor waits") {
  board::reset();
  Future<int> result;
  {
    ProcessPoolExecutor pool(1);
    ProcessPoolExecutor moved = std::move(pool);
    CHECK_THROWS_AS(pool.submit(square, 2), std::runtime_error);  // NOLINT: that is the point
    result = moved.submit(
        [](int n) {
          board::bump(0);
          return n;
        },
        2);
    moved = ProcessPoolExecutor(1);
    CHECK(board::get(0) == 1);
    CHECK(moved.submit(square, 2).result() == 4);
  }
  CHECK(result.result() == 2);
}

TEST_CASE("process pool runs its initializer in each worker before the first task", "[fork]") {
  board::reset();
  static int initialized = 0;
  const std::string captured = "any callable will do";
  ProcessPoolExecutor pool({.max_workers = 2, .initializer = [captured] {
                              if (!captured.empty()) initialized = 1;
                              board::bump(2);
                            }});
  const auto task = [] {
    gate();
    return initialized;
  };
  auto first = pool.submit(task);
  auto second = pool.submit(task);
  board::await(0, 2);
  board::bump(1);
  CHECK(first.result() == 1);
  CHECK(second.result() == 1);
  CHECK(board::get(2) == 2);
  CHECK(initialized == 0);
}

TEST_CASE("process pool whose initializer throws fails what is pending and what comes later") {
  support::LeakCheck nothing_left;
  ProcessPoolExecutor pool(
      {.max_workers = 2, .initializer = [] { throw std::runtime_error("no water"); }});
  std::vector<Future<int>> tasks;
  try {
    for (int i = 0; i < 5; ++i) tasks.push_back(pool.submit(square, i));
  } catch (const futures::BrokenProcessPool&) {  // it was as quick as that
  }
  for (auto& task : tasks) {
    try {
      task.result();
      FAIL("it must throw");
    } catch (const futures::BrokenProcessPool& error) {
      CHECK_THAT(error.what(), Catch::Matchers::ContainsSubstring("initializer"));
      CHECK_THAT(error.what(), Catch::Matchers::ContainsSubstring("no water"));
    }
  }
  CHECK_THROWS_AS(pool.submit(square, 1), futures::BrokenProcessPool);
  CHECK_THROWS_AS(pool.map(square, up_to(3)), futures::BrokenExecutor);
  pool.kill_workers();
  pool.shutdown();
}

TEST_CASE("process pool replaces workers after their number of tasks") {
  ProcessPoolExecutor pool({.max_workers = 1, .max_tasks_per_child = 3});
  std::vector<pid_t> pids;
  for (int i = 0; i < 9; ++i) pids.push_back(pool.submit([] { return ::getpid(); }).result());
  CHECK(pids[0] == pids[2]);
  CHECK(pids[2] != pids[3]);
  CHECK(pids[3] == pids[5]);
  CHECK(pids[5] != pids[6]);
  CHECK(pids[6] == pids[8]);
}

TEST_CASE("process pool replaces workers while tasks are waiting") {
  ProcessPoolExecutor pool({.max_workers = 2, .max_tasks_per_child = 1});
  std::vector<Future<pid_t>> tasks;
  for (int i = 0; i < 40; ++i) tasks.push_back(pool.submit([] { return ::getpid(); }));
  std::set<pid_t> pids;
  for (auto& task : tasks) pids.insert(task.result());
  CHECK(pids.size() == 40);
}

TEST_CASE("process pool with one task a worker finishes them all after shutdown") {
  std::vector<Future<int>> tasks;
  {
    ProcessPoolExecutor pool({.max_workers = 2, .max_tasks_per_child = 1});
    for (int i = 0; i < 20; ++i) tasks.push_back(pool.submit(square, i));
    pool.shutdown({.wait = false});
  }
  for (int i = 0; i < 20; ++i) CHECK(tasks[static_cast<std::size_t>(i)].result() == i * i);
}

TEST_CASE("process pool with one task a worker survives a failing one and no waiting") {
  ProcessPoolExecutor pool({.max_workers = 1, .max_tasks_per_child = 1});
  auto good = pool.submit(square, 3);
  auto bad = pool.submit([](int n) -> int { throw std::domain_error(std::to_string(n)); }, 4);
  auto last = pool.submit(square, 5);
  pool.shutdown({.wait = false});
  CHECK(good.result() == 9);
  CHECK_THROWS_AS(bad.result(), std::domain_error);
  CHECK(last.result() == 25);
}

TEST_CASE("process pool runs callbacks with the finished future") {
  ProcessPoolExecutor pool(2);
  std::atomic<int> sum{0};
  std::atomic<int> failures{0};
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 20; ++i) {
    tasks.push_back(pool.submit(
        [](int n) {
          if (n == 7) throw std::domain_error("seven");
          return n;
        },
        i));
    tasks.back().add_done_callback([&](const Future<int>& done) {
      if (done.exception())
        ++failures;
      else
        sum += done.result();
    });
  }
  pool.shutdown();
  CHECK(sum == 190 - 7);
  CHECK(failures == 1);
}

TEST_CASE("process pool callbacks may submit and continuations chain") {
  ProcessPoolExecutor pool(1);
  Future<int> nested_result;
  pool.submit(square, 3).add_done_callback([&](Future<int> done) {
    pool.submit(square, done.result()).add_done_callback([=](const Future<int>& nested) {
      nested_result.set_result(nested.result());
    });
  });
  CHECK(nested_result.result() == 81);
  CHECK(pool.submit(square, 4).then([](int n) { return n + 1; }).result() == 17);
}

TEST_CASE("process pool may be destroyed in its own callback") {
  auto pool = std::make_unique<ProcessPoolExecutor>(1);
  board::reset();
  Future<void> gone;
  auto task = pool->submit(gate);
  task.add_done_callback([&](const Future<void>&) {
    pool.reset();
    gone.set_result();
  });
  board::bump(1);
  gone.result();
  CHECK_FALSE(pool);
}

TEST_CASE("process pool futures work with as_completed and wait") {
  ProcessPoolExecutor pool(2);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 20; ++i) tasks.push_back(pool.submit(square, i));
  int sum = 0;
  for (const auto& done : futures::as_completed(tasks)) sum += done.result();
  CHECK(sum == 2470);

  board::reset();
  auto slow = pool.submit([] {
    gate();
    return 0;
  });
  auto quick = pool.submit(square, 2);
  const auto first = futures::wait(std::vector{slow, quick}, 60s, futures::FIRST_COMPLETED);
  CHECK(first.done == std::vector{quick});
  CHECK(first.not_done == std::vector{slow});
  board::bump(1);
  CHECK(futures::wait(std::vector{slow, quick}).not_done.empty());
}

TEST_CASE("process pool may be used from several threads at once") {
  ProcessPoolExecutor pool(2);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i)
        if (pool.submit(add, t, i).result() != t + i) ++wrong;
      int n = 0;
      for (int result : pool.map({.chunksize = 5}, square, up_to(50))) {
        if (result != n * n) ++wrong;
        ++n;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("process pools work side by side") {
  ProcessPoolExecutor a(2);
  ProcessPoolExecutor b(2);
  auto c = std::make_unique<ProcessPoolExecutor>(1);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 50; ++i) {
    tasks.push_back(a.submit(square, i));
    tasks.push_back(b.submit(square, i));
    tasks.push_back(c->submit(square, i));
  }
  c.reset();
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const int n = static_cast<int>(i) / 3;
    CHECK(tasks[i].result() == n * n);
  }
}

TEST_CASE("process pool tasks may have a pool of their own") {
  ProcessPoolExecutor pool(1);
  const auto nested = [](int n) {
    ProcessPoolExecutor own(2);
    int sum = 0;
    for (int result : own.map(square, up_to(n))) sum += result;
    return sum;
  };
  CHECK(pool.submit(nested, 5).result() == 30);
}

TEST_CASE("process pool lets go of arguments and results") {
  ProcessPoolExecutor pool(1);
  {
    const Counted argument{5};
    auto future = pool.submit([](Counted n) { return Counted{n.value * 2}; }, argument);
    CHECK(future.result().value == 10);
  }
  CHECK(Counted::alive == 0);
  const auto count = [] { return Counted::alive.load(); };
  CHECK(pool.submit(count).result() == 0);
  for (const Counted& result : pool.map([](Counted n) { return n; }, std::vector<Counted>(10)))
    CHECK(result.value == 0);
  pool.shutdown();
  CHECK(Counted::alive == 0);
}

TEST_CASE("process pool result moves out of the last handle") {
  ProcessPoolExecutor pool(1);
  auto future = pool.submit([] { return std::vector<int>(100, 1); });
  futures::wait(std::vector{future});
  const int* const data = future.result().data();
  const std::vector<int> moved = std::move(future).result();
  CHECK(moved.data() == data);
}

TEST_CASE("process pool workers have an empty standard input and a name") {
  ProcessPoolExecutor pool(1);
  CHECK(pool.submit([] {
              char c;
              return ::read(STDIN_FILENO, &c, 1);
            })
            .result() == 0);
  CHECK(pool.submit([] { return brood::multiprocessing::current_process().name(); }).result() ==
        "ProcessPoolWorker-1");
  CHECK(pool.submit([] { return brood::multiprocessing::parent_process()->pid(); }).result() ==
        ::getpid());
  CHECK(pool.submit([] { return brood::multiprocessing::parent_process()->name(); }).result() ==
        "MainProcess");
}

TEST_CASE("process pool workers start with no signal blocked") {
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  ProcessPoolExecutor pool(1);
  const int count = pool.submit([] {
                          sigset_t now;
                          pthread_sigmask(SIG_BLOCK, nullptr, &now);
                          int found = 0;
                          for (int number = 1; number < 32; ++number)
                            found += sigismember(&now, number);
                          return found;
                        })
                        .result();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  CHECK(count == 0);
}

TEST_CASE("process pools leave nothing behind") {
  support::LeakCheck nothing_left;
  for (int i = 0; i < 20; ++i) {
    ProcessPoolExecutor pool(2);
    CHECK(pool.submit(square, i).result() == i * i);
    if (i % 3 == 0) {
      auto crash = pool.submit([](int) { ::_exit(3); }, 0);
      CHECK_THROWS_AS(crash.result(), futures::WorkerCrashed);
    }
    if (i % 3 == 1) pool.submit(::pause);
    if (i % 3 == 1) pool.kill_workers();
  }
  ProcessPoolExecutor unused(2);
}

TEST_CASE("process pools are made and used while other threads are at work") {
  futures::ThreadPoolExecutor threads(2);
  std::atomic<bool> enough = false;
  std::thread busy([&] {
    while (!enough) threads.submit([] { return std::string(100, 'x'); }).result();
  });
  int right = 0;
  for (int i = 0; i < 25; ++i) {
    ProcessPoolExecutor pool(1);
    right += pool.submit(square, i).result() == i * i ? 1 : 0;
  }
  enough = true;
  busy.join();
  CHECK(right == 25);
}

TEST_CASE("process pool that cannot have descriptors says so and leaks none") {
  const auto ended = support::program([] {
    support::fill_descriptors();
    const auto before = support::open_descriptors().size();
    int result = 0;
    const int failures = support::starve(
        [&] {
          ProcessPoolExecutor pool(1);
          result = pool.submit(square, 3).result();
        },
        [](const std::string& what) {
          if (!what.starts_with("start the process pool: ")) support::say(what);
        });
    support::say(failures > 0 && result == 9 ? "made" : "wrong");
    if (support::open_descriptors().size() != before) support::say(" and left open");
  });
  CHECK(ended.said == "made");
}

TEST_CASE("process pool keeps to limits on memory and on the size of files") {
  const int code = board::in_child([] {
    const rlimit small{64 << 20, RLIM_INFINITY};
    const rlimit tiny{1 << 20, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &small);
    if (ProcessPoolExecutor(1).submit(square, 3).result() != 9) return 1;
    ::setrlimit(RLIMIT_FSIZE, &tiny);
    try {
      ProcessPoolExecutor pool(1);
      return 2;
    } catch (const brood::os::OSError& error) {
      if (error.code().value() != EFBIG) return 3;
    }
    ::setrlimit(RLIMIT_FSIZE, &small);
    if (support::under_tsan || support::under_asan) return 0;  // they need address space
    const rlimit space{std::size_t{4} << 30, RLIM_INFINITY};
    ::setrlimit(RLIMIT_AS, &space);
    return ProcessPoolExecutor(1).submit(square, 3).result() == 9 ? 0 : 4;
  });
  CHECK(code == 0);
}

TEST_CASE("process pool works with SIGCHLD ignored") {
  const int code = board::in_child([] {
    ::signal(SIGCHLD, SIG_IGN);
    ProcessPoolExecutor pool(2);
    if (pool.submit(square, 3).result() != 9) return 1;
    auto crash = pool.submit([](int number) { ::_exit(number); }, 3);
    try {
      crash.result();
      return 2;
    } catch (const futures::WorkerCrashed& error) {
      if (error.exitcode() != 3) return 3;
    }
    pool.shutdown();
    return 0;
  });
  CHECK(code == 0);
}

TEST_CASE("a task behind a ring of cancelled ones gets its turn") {
  board::reset();
  ProcessPoolExecutor pool({.max_workers = 1, .initializer = [] { board::await(0, 1); }});
  const auto same = [](int number) { return number; };
  std::vector<futures::Future<int>> before;
  for (std::size_t i = 0; i < futures::TaskTable::slots; ++i)
    before.push_back(pool.submit(same, static_cast<int>(i)));
  const auto last = pool.submit(same, 4711);
  std::size_t cancelled = 0;
  for (const auto& future : before) cancelled += future.cancel();
  CHECK(cancelled == before.size());
  board::bump(0);
  CHECK(last.result(std::chrono::seconds{30}) == 4711);
}

TEST_CASE("a process pool maps a list in braces") {
  ProcessPoolExecutor pool(2);
  const auto twice = [](int number) { return 2 * number; };
  auto results = pool.map(twice, {1, 2, 3});
  CHECK(std::vector<int>(results.begin(), results.end()) == std::vector{2, 4, 6});
  auto chunks = pool.map({.chunksize = 2}, twice, {1, 2, 3});
  CHECK(std::vector<int>(chunks.begin(), chunks.end()) == std::vector{2, 4, 6});
}

TEST_CASE("a process pool maps elements that are proxies") {
  ProcessPoolExecutor pool(2);
  auto results = pool.map([](bool b) { return !b; }, std::vector<bool>{true, false});
  CHECK(std::vector<bool>(results.begin(), results.end()) == std::vector<bool>{false, true});
}
