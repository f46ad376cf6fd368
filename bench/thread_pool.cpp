// SPDX-License-Identifier: MIT
//
// What a task costs in a pool of threads, beside oneTBB, Boost.Asio (where they are installed) and
// std::async. Pools have two workers unless the title says otherwise.
#include <time.h>

#include <atomic>
#include <brood/futures.hpp>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "interleaved.hpp"

#ifdef BENCH_HAS_TBB
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>
#endif
#ifdef BENCH_HAS_ASIO
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#endif

namespace futures = brood::futures;
using futures::ThreadPoolExecutor;

namespace {

constexpr std::size_t million = 1'000'000;

void fail(const char* what) {
  std::fprintf(stderr, "bench_thread_pool: %s\n", what);
  std::exit(2);
}

template <class Task>
void get(Task& task) {
  if constexpr (requires { task.result(); })
    task.result();
  else
    task.get();
}

// So many empty tasks from one thread, then all their results; seconds for one.
template <class Submit>
double many(std::size_t count, Submit submit) {
  return bench::seconds_of([&] {
           std::vector<decltype(submit())> tasks;
           tasks.reserve(count);
           for (std::size_t i = 0; i < count; ++i) tasks.push_back(submit());
           for (auto& task : tasks) get(task);
         }) /
         static_cast<double>(count);
}

// The same from several threads at once.
double many_from(int producers, ThreadPoolExecutor& pool) {
  return bench::seconds_of([&] {
           std::vector<std::thread> threads;
           for (int i = 0; i < producers; ++i)
             threads.emplace_back([&] {
               many(million / static_cast<std::size_t>(producers),
                    [&] { return pool.submit([] {}); });
             });
           for (auto& thread : threads) thread.join();
         }) /
         static_cast<double>(million);
}

// A tree of tasks, each of which spawns two and waits for none, shaped like the calls of fib(27).
// Each thread counts the leaves that it meets, so that counting costs next to nothing.
constexpr int tree_depth = 27;
constexpr double tree_tasks = 635'621;
constexpr long tree_leaves = 317'811;
struct alignas(64) LeafCount {
  std::atomic<long> leaves{0};
};
LeafCount leaf_counts[64];
std::atomic<std::size_t> leaf_counters{0};

template <class Spawn>
void grow(const Spawn& spawn, int n) {
  if (n < 2) {
    thread_local LeafCount& mine = leaf_counts[leaf_counters.fetch_add(1)];
    mine.leaves.store(mine.leaves.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    return;
  }
  spawn([&spawn, n] { grow(spawn, n - 1); });
  spawn([&spawn, n] { grow(spawn, n - 2); });
}
long leaves() {
  long sum = 0;
  for (auto& count : leaf_counts) sum += count.leaves.load(std::memory_order_acquire);
  return sum;
}
template <class Spawn, class Wait>
double tree(const Spawn& spawn, Wait wait) {
  const long end = leaves() + tree_leaves;
  return bench::seconds_of([&] {
           spawn([&spawn] { grow(spawn, tree_depth); });
           wait();
           while (leaves() < end) std::this_thread::sleep_for(std::chrono::microseconds{50});
         }) /
         tree_tasks;
}

// Tasks that wait for the tasks that they spawn.
constexpr double fib_tasks = 317'811;
long fib(ThreadPoolExecutor& pool, int n) {
  if (n < 2) return n;
  auto other = pool.submit([&pool, n] { return fib(pool, n - 1); });
  const long own = fib(pool, n - 2);
  return own + other.result();
}

#ifdef BENCH_HAS_TBB
long group_fib(int n) {
  if (n < 2) return n;
  long other = 0;
  tbb::task_group group;
  group.run([&] { other = group_fib(n - 1); });
  const long own = group_fib(n - 2);
  group.wait();
  return own + other;
}
#endif

double seconds_of_cpu() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// as_completed over so many futures that are done; seconds for one.
double gather_done(std::size_t count) {
  std::vector<futures::Future<int>> all(count);
  for (const auto& future : all) future.set_result(1);
  return bench::seconds_of([&] {
           for (const auto& future : futures::as_completed(all)) future.result();
         }) /
         static_cast<double>(count);
}
// The same over pending ones, which another thread completes meanwhile.
double gather_pending(std::size_t count) {
  const std::vector<futures::Future<int>> all(count);
  std::thread completer;
  const double took = bench::seconds_of([&] {
    auto completed = futures::as_completed(all);
    completer = std::thread([&] {
      for (const auto& future : all) future.set_result(1);
    });
    for (const auto& future : completed) future.result();
  });
  completer.join();
  return took / static_cast<double>(count);
}
// Small counts are repeated, for the clock's sake.
template <class Gather>
std::function<double()> repeated(Gather gather, std::size_t count) {
  return [=] {
    const std::size_t times = count < 100'000 ? 100'000 / count : 1;
    double sum = 0;
    for (std::size_t i = 0; i < times; ++i) sum += gather(count);
    return sum / static_cast<double>(times);
  };
}

// Fifty naps of a second by fifty threads: what it takes beyond the second.
void nap() {
  const timespec second{1, 0};
  ::nanosleep(&second, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  bench::Program program(argc, argv);
  ThreadPoolExecutor pool(2);
  const auto submit = [&] { return pool.submit([] {}); };

#ifdef BENCH_HAS_TBB
  // Two workers for what is enqueued; where the caller takes part, it and one worker.
  const tbb::global_control threads(tbb::global_control::max_allowed_parallelism, 3);
  tbb::task_arena workers(2, 0);
  tbb::task_arena with_caller(2);
  const auto enqueue = [&] {
    auto task = std::make_shared<std::packaged_task<void()>>([] {});
    auto future = task->get_future();
    workers.enqueue([task] { (*task)(); });
    return future;
  };
#endif
#ifdef BENCH_HAS_ASIO
  boost::asio::thread_pool asio(2);
  const auto post = [&] { return boost::asio::post(asio, boost::asio::use_future([] {})); };
#endif

  auto many_tasks = program.compare("1e6 empty tasks, a task", bench::microseconds, 7);
  many_tasks.add_value("brood", [&] { return many(million, submit); })
      .add_value("std::async",
                 [] { return many(1000, [] { return std::async(std::launch::async, [] {}); }); })
      .add_value("the target", [] { return 0.4e-6; });
#ifdef BENCH_HAS_TBB
  many_tasks.add_value("oneTBB enqueue packaged_task", [&] { return many(million, enqueue); })
      .add_value("oneTBB task_group without futures", [&] {
        return with_caller.execute([&] {
          tbb::task_group group;
          return bench::seconds_of([&] {
                   for (std::size_t i = 0; i < million; ++i) group.run([] {});
                   group.wait();
                 }) /
                 static_cast<double>(million);
        });
      });
#endif
#ifdef BENCH_HAS_ASIO
  many_tasks.add_value("Boost.Asio use_future", [&] { return many(million, post); });
#endif
  many_tasks.at_most("brood", 1, "the target")
      .at_most("brood", 0.65, "oneTBB enqueue packaged_task")
      .at_most("brood", 1.4, "oneTBB task_group without futures")
      .at_most("brood", 0.35, "Boost.Asio use_future")
      .beside("brood", "std::async")
      .run();

  auto one_task = program.compare("one task at a time", bench::microseconds, 9);
  one_task.add("brood", 5000, [&] { submit().result(); }).add("std::async", 500, [] {
    std::async(std::launch::async, [] {}).get();
  });
#ifdef BENCH_HAS_TBB
  one_task.add("oneTBB enqueue packaged_task", 5000, [&] { enqueue().get(); });
#endif
#ifdef BENCH_HAS_ASIO
  one_task.add("Boost.Asio use_future", 5000, [&] { post().get(); });
#endif
  one_task.at_most("brood", 0.75, "oneTBB enqueue packaged_task")
      .beside("brood", "Boost.Asio use_future")
      .beside("brood", "std::async")
      .run();

  auto spawned = program.compare("tasks that spawn tasks, a task", bench::nanoseconds, 15);
  spawned.add_value("brood",
                    [&] { return tree([&](auto task) { pool.submit(std::move(task)); }, [] {}); });
#ifdef BENCH_HAS_TBB
  spawned.add_value("oneTBB task_group", [&] {
    return with_caller.execute([&] {
      tbb::task_group group;
      return tree([&](auto task) { group.run(std::move(task)); }, [&] { group.wait(); });
    });
  });
#endif
  spawned.at_most("brood", 0.7, "oneTBB task_group").run();

  auto forked = program.compare("fork and join: fib(27), a task", bench::nanoseconds, 15);
  forked.add_value("brood", [&] {
    return bench::seconds_of([&] {
             if (pool.submit([&] { return fib(pool, 27); }).result() != 196'418) fail("fib");
           }) /
           fib_tasks;
  });
#ifdef BENCH_HAS_TBB
  forked.add_value("oneTBB task_group", [&] {
    return bench::seconds_of([&] {
             if (with_caller.execute([] { return group_fib(27); }) != 196'418)
               fail("fib of oneTBB");
           }) /
           fib_tasks;
  });
#endif
  forked.at_most("brood", 0.6, "oneTBB task_group").run();

  const std::vector<double> values(million, 2.0);
  const auto root = [](double value) { return std::sqrt(value); };
  const auto expect_sum = [](double sum) {
    if (!(sum > 1.4e6)) fail("the sum of the roots");
  };
  auto mapped = program.compare("1e6 roots, looked at in order", bench::milliseconds, 21);
  mapped.add("brood map in chunks of 50000", 1, [&] {
    double sum = 0;
    for (const double value : pool.map({.chunksize = 50'000}, root, values)) sum += value;
    expect_sum(sum);
  });
#ifdef BENCH_HAS_TBB
  mapped.add("oneTBB parallel_for", 1, [&] {
    std::vector<double> roots(million);
    with_caller.execute([&] {
      tbb::parallel_for(tbb::blocked_range<std::size_t>(0, million), [&](const auto& range) {
        for (auto i = range.begin(); i != range.end(); ++i) roots[i] = root(values[i]);
      });
    });
    double sum = 0;
    for (const double value : roots) sum += value;
    expect_sum(sum);
  });
#endif
  mapped.at_most("brood map in chunks of 50000", 1.3, "oneTBB parallel_for").run();

  for (const int workers_now : {2, 8}) {
    ThreadPoolExecutor its_pool(workers_now);
    program
        .compare(
            "1e6 tasks from several threads to " + std::to_string(workers_now) + " workers, a task",
            bench::microseconds, 7)
        .add_value("1 producer", [&] { return many_from(1, its_pool); })
        .add_value("4 producers", [&] { return many_from(4, its_pool); })
        .at_most("4 producers", 2, "1 producer")
        .run();
  }

  program.compare("as_completed over done futures, a future", bench::nanoseconds, 7)
      .add_value("of 1e3", repeated(gather_done, 1000))
      .add_value("of 1e4", repeated(gather_done, 10'000))
      .add_value("of 1e5", repeated(gather_done, 100'000))
      .add_value("of 1e6", repeated(gather_done, million))
      .at_most("of 1e5", 2, "of 1e3")
      .at_most("of 1e6", 2, "of 1e3")  // which do not fit into the caches
      .run();
  program.compare("as_completed over pending futures, a future", bench::nanoseconds, 7)
      .add_value("of 1e3", repeated(gather_pending, 1000))
      .add_value("of 1e4", repeated(gather_pending, 10'000))
      .add_value("of 1e5", repeated(gather_pending, 100'000))
      .add_value("of 1e6", repeated(gather_pending, million))
      .at_most("of 1e5", 2, "of 1e3")
      .run();

  program.compare("processor time of a pool of 8 idle for 2 s", bench::milliseconds, 1)
      .add_value("brood",
                 [] {
                   ThreadPoolExecutor idle(8);
                   std::vector<futures::Future<void>> tasks;
                   for (int i = 0; i < 100; ++i) tasks.push_back(idle.submit([] {}));
                   futures::wait(tasks);
                   std::this_thread::sleep_for(std::chrono::milliseconds{10});
                   const double before = seconds_of_cpu();
                   std::this_thread::sleep_for(std::chrono::seconds{2});
                   return seconds_of_cpu() - before;
                 })
      .add_value("a thousandth of a core", [] { return 0.002; })
      .at_most("brood", 1, "a thousandth of a core")
      .run();

  program.compare("fifty naps of 1 s by fifty threads", bench::milliseconds, 3)
      .add("brood", 1,
           [] {
             ThreadPoolExecutor nappers(50);
             nappers.map([](int) { nap(); }, std::vector<int>(50));
           })
      .add("std::thread", 1,
           [] {
             std::vector<std::thread> nappers;
             for (int i = 0; i < 50; ++i) nappers.emplace_back(nap);
             for (auto& napper : nappers) napper.join();
           })
      .beside("brood", "std::thread")
      .run();
  return program.result();
}
