// SPDX-License-Identifier: MIT
//
// What a task costs in a pool of threads. The argument is the number of workers.
#include <benchmark/benchmark.h>
#include <time.h>

#include <brood/futures.hpp>
#include <chrono>
#include <vector>

namespace futures = brood::futures;

// Shows the time of one task, when an iteration has `count` of them.
static void per_task(benchmark::State& state, std::size_t count) {
  state.counters["task"] =
      benchmark::Counter(static_cast<double>(count), benchmark::Counter::kIsIterationInvariantRate |
                                                         benchmark::Counter::kInvert);
}

// A million empty tasks from one thread, then all their results.
static void many(benchmark::State& state) {
  futures::ThreadPoolExecutor pool(state.range(0));
  constexpr std::size_t count = 1'000'000;
  for (auto _ : state) {
    std::vector<futures::Future<void>> tasks;
    tasks.reserve(count);
    for (std::size_t i = 0; i < count; ++i) tasks.push_back(pool.submit([] {}));
    for (auto& task : tasks) task.result();
  }
  per_task(state, count);
}
BENCHMARK(many)->Arg(1)->Arg(2)->Arg(4)->Arg(32)->Unit(benchmark::kMillisecond)->UseRealTime();

// There and back, one at a time.
static void one(benchmark::State& state) {
  futures::ThreadPoolExecutor pool(state.range(0));
  for (auto _ : state) pool.submit([] {}).result();
}
BENCHMARK(one)->Arg(1)->Arg(2)->Arg(32)->Unit(benchmark::kMicrosecond)->UseRealTime();

// Tasks that submit tasks and wait for them: 317 811 for fib(27).
static long fib(futures::ThreadPoolExecutor& pool, int n) {
  if (n < 2) return n;
  auto other = pool.submit([&pool, n] { return fib(pool, n - 1); });
  const long own = fib(pool, n - 2);
  return own + other.result();
}
static void fork_join(benchmark::State& state) {
  futures::ThreadPoolExecutor pool(state.range(0));
  for (auto _ : state)
    if (pool.submit([&pool] { return fib(pool, 27); }).result() != 196418)
      state.SkipWithError("fib is wrong");
  per_task(state, 317'811);
}
BENCHMARK(fork_join)->Arg(1)->Arg(2)->Arg(4)->Unit(benchmark::kMillisecond)->UseRealTime();

// Fifty naps of a second by fifty workers, with the start and the end of the pool.
static void naps(benchmark::State& state) {
  const std::vector<int> values(50);
  double over = 0;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    {
      futures::ThreadPoolExecutor pool(50);
      pool.map(
          [](int) {
            const timespec second{1, 0};
            ::nanosleep(&second, nullptr);
          },
          values);
    }
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    over += took.count() - 1000;
  }
  state.counters["ms_over"] = benchmark::Counter(over, benchmark::Counter::kAvgIterations);
}
BENCHMARK(naps)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(3);
