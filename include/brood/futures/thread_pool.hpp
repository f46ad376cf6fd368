// SPDX-License-Identifier: MIT
// Calls in other threads. Python counterpart: concurrent.futures.ThreadPoolExecutor.
//
//     futures::ThreadPoolExecutor pool(4);
//     auto root = pool.submit([](double x) { return std::sqrt(x); }, 2.0);
//     fmt::print("{}\n", root.result());
#pragma once

#include <concepts>
#include <initializer_list>
#include <optional>
#include <string>

#include "../os.hpp"
#include "batch.hpp"
#include "executor.hpp"
#include "worker_threads.hpp"

namespace brood::futures {

struct ThreadPoolOptions {
  /// The most threads there will be, at least 1. Default: as many as os::process_cpu_count() says,
  /// and 4 more, but not more than 32.
  std::optional<int> max_workers = {};
  /// Threads are called PREFIX_0, PREFIX_1, ..., which is their threading::current_thread().name().
  /// The system keeps 15 bytes of a name (`top -H`), so letters at the end of a long prefix are
  /// left out there. Default: "ThreadPool-0" for the first pool that has none, "ThreadPool-1", ...
  std::string thread_name_prefix = {};
  /// Called by each thread before its first task. When it throws, that is reported on stderr and
  /// the pool is broken: what has not started, and later submits, fail with BrokenThreadPool.
  Function<void()> initializer = {};
};

/// What submit() asks of a callable with its arguments, by the names that compilers give when it
/// refuses them. An argument that can only be moved wants std::move(), ...
template <class F, class... Args>
concept CanBeCopiedOrMovedIn = std::is_constructible_v<std::decay_t<F>, F> &&
    (std::is_constructible_v<std::decay_t<Args>, Args>&&...);
/// ... and a parameter that is a reference to be written to wants std::ref().
template <class F, class... Args>
concept TakesArgumentsAsRvalues = std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>;

/// Runs callables in threads, which start when they are needed and end with the executor.
///
/// All functions but moves may be called from several threads at once, also from tasks. A task
/// that waits for another one of its own pool that has not started runs it itself, so tasks may
/// wait for tasks whatever the number of threads. At the normal end of the program, what was
/// submitted is still done. In a child of fork() the threads are missing: submit and map throw
/// std::runtime_error there.
class ThreadPoolExecutor {
 public:
  /// `max_workers`: see ThreadPoolOptions. Throws std::invalid_argument below 1.
  template <std::integral N>
  explicit ThreadPoolExecutor(N max_workers)
      : ThreadPoolExecutor{ThreadPoolOptions{.max_workers = worker_count(max_workers)}} {}
  explicit ThreadPoolExecutor(ThreadPoolOptions options);
  ThreadPoolExecutor() : ThreadPoolExecutor{ThreadPoolOptions{}} {}

  ThreadPoolExecutor(ThreadPoolExecutor&&) noexcept = default;
  ThreadPoolExecutor& operator=(ThreadPoolExecutor&& other) noexcept;
  /// shutdown(): waits for all that was submitted. (From a task of its own it does not wait.)
  ~ThreadPoolExecutor();

  /// Has `f(args...)` called: anything std::invoke takes. f and args are copied or moved in now,
  /// and passed on as rvalues, as by std::thread; both are gone when the future is done. What f
  /// throws is thrown by the future's result(). Throws std::runtime_error after shutdown(), and
  /// BrokenThreadPool when the initializer has failed. Returns a Future of what f returns (of int,
  /// if that is a const int).
  template <class F, class... Args>
  requires CanBeCopiedOrMovedIn<F, Args...> && TakesArgumentsAsRvalues<F, Args...>
  [[gnu::always_inline]] inline auto submit(F&& f, Args&&... args) {
    return submit_inlined(threads(), std::forward<F>(f), std::forward<Args>(args)...);
  }

  /// Has `f` called with the elements of the ranges, side by side, as many as the shortest has;
  /// each call is made with a copy of f. Returns a range of the results, see MapResults: nothing
  /// waits here. Throws as submit, and std::invalid_argument for options out of range.
  template <class F, class... Ranges>
  requires Mappable<F, Ranges...>
  auto map(F f, Ranges&&... ranges) {
    return map(MapOptions{}, std::move(f), std::forward<Ranges>(ranges)...);
  }
  template <class F, class... Ranges>
  requires Mappable<F, Ranges...>
  auto map(MapOptions options, F f, Ranges&&... ranges);
  /// The same for a list in braces: map(wash, {1, 2, 3}).
  template <class F, class T>
  requires Mappable<F, std::vector<T>>
  auto map(F f, std::initializer_list<T> list) { return map(std::move(f), std::vector<T>{list}); }
  template <class F, class T>
  requires Mappable<F, std::vector<T>>
  auto map(MapOptions options, F f, std::initializer_list<T> list) {
    return map(options, std::move(f), std::vector<T>{list});
  }

  /// No more submits. May be called again. With .wait, throws std::logic_error in a task of this
  /// executor, which would wait for itself (the rest has been done then).
  void shutdown(ShutdownOptions options = {});

  /// The most threads there will be.
  std::size_t max_workers() const { return threads().max_workers(); }

 private:
  [[noreturn]] static void refuse() {
    throw std::invalid_argument{"ThreadPoolExecutor: max_workers must be at least 1"};
  }
  // Inlined, so that callable and arguments are made where they stay. Else they are first put
  // together in memory, and copying them at once is a wait of some nanoseconds for those writes.
  template <class F, class... Args>
  [[gnu::always_inline]] static inline auto submit_inlined(WorkerThreads& threads, F&& f,
                                                           Args&&... args);
  // For map, whose results are read the faster the less there is around that.
  template <class F, class... Args>
  static auto submit_to(WorkerThreads& threads, F&& f, Args&&... args) {
    return submit_inlined(threads, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class R, class F>
  struct MapCalls;
  WorkerThreads& threads() const {
    if (!threads_) throw std::runtime_error{"submit: the executor was moved from"};
    return *threads_;
  }
  void finish() noexcept;

  posix::Ref<WorkerThreads> threads_;
};

// Bodies.

inline ThreadPoolExecutor::ThreadPoolExecutor(ThreadPoolOptions options) {
  static std::atomic<unsigned> unnamed_pools{0};
  if (options.max_workers && *options.max_workers < 1) refuse();
  std::size_t max_workers = 0;
  if (options.max_workers) {
    max_workers = static_cast<std::size_t>(*options.max_workers);
  } else {
    const std::size_t usual = os::process_cpu_count() + std::size_t{4};
    max_workers = usual < 32 ? usual : 32;
  }
  if (options.thread_name_prefix.empty())
    options.thread_name_prefix =
        "ThreadPool-" + std::to_string(unnamed_pools.fetch_add(1, std::memory_order_relaxed));
  threads_ = posix::make_ref<WorkerThreads>(max_workers, std::move(options.thread_name_prefix),
                                            std::move(options.initializer));
  LiveExecutors::add(*threads_);
}

inline ThreadPoolExecutor& ThreadPoolExecutor::operator=(ThreadPoolExecutor&& other) noexcept {
  if (this != &other) {
    finish();
    threads_ = std::move(other.threads_);
  }
  return *this;
}

inline ThreadPoolExecutor::~ThreadPoolExecutor() { finish(); }

inline void ThreadPoolExecutor::finish() noexcept {
  if (!threads_) return;
  if (threads_->is_forked()) {
    static_cast<void>(threads_.release());  // the threads are the parent's, with all they hold
    return;
  }
  threads_->stop();
  if (!threads_->is_own_thread()) threads_->join();
  LiveExecutors::remove(*threads_);
}

inline void ThreadPoolExecutor::shutdown(ShutdownOptions options) {
  if (!threads_ || threads_->is_forked()) return;
  threads_->stop();
  if (options.cancel_futures) threads_->cancel_queued();
  if (!options.wait) return;
  if (threads_->is_own_thread())
    throw std::logic_error{"shutdown: a task of the executor can't wait for its end"};
  threads_->join();
}

template <class F, class... Args>
inline auto ThreadPoolExecutor::submit_inlined(WorkerThreads& threads, F&& f, Args&&... args) {
  using R = std::remove_cv_t<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>>;
  auto* const task = new Task<R, std::decay_t<F>, std::decay_t<Args>...>(
      std::in_place, std::forward<F>(f), std::forward<Args>(args)...);
  task->add_first_handle();
  auto future = Future<R>::adopt(*task);
  threads.submit(*task);
  return future;
}

// The calls of a map, one or many to a task.
template <class R, class F>
struct ThreadPoolExecutor::MapCalls {
  posix::Ref<WorkerThreads> pool;
  F f;

  template <class... Elements>
  Future<Batch<R>> operator()(Elements&&... elements) const {
    return submit_to(
        *pool,
        [](F&& call, std::decay_t<Elements>&&... args) {
          return Batch<R>{1, [&](auto store) {
                            store([&]() -> R {
                              return static_cast<R>(
                                  futures::invoke_callable(std::move(call), std::move(args)...));
                            });
                          }};
        },
        f, std::forward<Elements>(elements)...);
  }

  template <class... Args>
  requires(sizeof...(Args) > 0) void many(std::vector<std::tuple<Args...>> calls,
                                          std::vector<Future<Batch<R>>>& futures) const {
    futures.push_back(submit_to(
        *pool,
        [](const F& call, std::vector<std::tuple<Args...>>&& all) {
          auto next = all.begin();
          return Batch<R>{
              all.size(), [&](auto store) {
                std::tuple<Args...>& args = *next++;
                store([&]() -> R { return static_cast<R>(std::apply(F(call), std::move(args))); });
              }};
        },
        f, std::move(calls)));
  }
  template <class Arg>
  void many_of_one(const Arg* first, std::size_t count,
                   std::vector<Future<Batch<R>>>& futures) const {
    futures.push_back(submit_to(
        *pool,
        [](const F& call, ArgumentRun<Arg>&& all) {
          return Batch<R>{
              std::move(all), [&](Arg&& arg) -> R {
                return static_cast<R>(futures::invoke_callable(F(call), std::move(arg)));
              }};
        },
        f, ArgumentRun<Arg>{first, count}));
  }
};

template <class F, class... Ranges>
requires Mappable<F, Ranges...>
auto ThreadPoolExecutor::map(MapOptions options, F f, Ranges&&... ranges) {
  using R = MapResultOf<F, Ranges...>;
  static_cast<void>(threads());
  return map_over<R, Batch<R>>(options, MapCalls<R, F>{threads_, std::move(f)},
                               std::forward<Ranges>(ranges)...);
}

}  // namespace brood::futures
