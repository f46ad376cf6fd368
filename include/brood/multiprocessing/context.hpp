// SPDX-License-Identifier: MIT
// A start method as a value, for those who do not want to set it for the whole program: libraries
// above all. Python counterpart: multiprocessing.get_context.
//
//     const auto ctx = mp::get_context(mp::StartMethod::forkserver);
//     const auto queue = ctx.queue<int>();
//     const auto process = ctx.process(count, queue);
//     process.start();
#pragma once

#include <utility>

#include "array.hpp"
#include "barrier.hpp"
#include "condition.hpp"
#include "connection.hpp"
#include "event.hpp"
#include "lock.hpp"
#include "pool.hpp"
#include "process.hpp"
#include "queues.hpp"
#include "semaphore.hpp"
#include "simple_queue.hpp"
#include "start_method.hpp"
#include "value.hpp"

namespace brood::multiprocessing {

/// Makes what multiprocessing has, as their constructors do. What it makes depends on the method
/// for processes and pools alone: queues, locks and the like serve processes of all methods.
class Context {
 public:
  explicit Context(StartMethod method) noexcept : method_{method} {}

  /// The method, which set_start_method() does not change.
  StartMethod get_start_method() const noexcept { return method_; }

  /// A Process that will be started by this context's method, whatever its options say.
  template <class F, class... Args>
  requires(!std::is_convertible_v<F, ProcessOptions> &&
           std::is_constructible_v<Process, ProcessOptions, F, Args...>)  //
      Process process(F&& target, Args&&... args)
  const { return process(ProcessOptions{}, std::forward<F>(target), std::forward<Args>(args)...); }
  template <class F, class... Args>
  requires std::is_constructible_v<Process, ProcessOptions, F, Args...> Process
  process(ProcessOptions options, F&& target, Args&&... args)
  const {
    options.start_method = method_;
    return Process{std::move(options), std::forward<F>(target), std::forward<Args>(args)...};
  }

  /// A Pool whose workers come to be by this context's method, whatever its options say.
  Pool pool(PoolOptions options = {}) const {
    options.start_method = method_;
    return Pool{std::move(options)};
  }
  template <std::integral N>
  Pool pool(N processes) const {
    return pool(PoolOptions{.processes = futures::worker_count(processes)});
  }

  template <class T, class... Args>
  Queue<T> queue(Args&&... args) const {
    return Queue<T>{std::forward<Args>(args)...};
  }
  template <class T, class... Args>
  JoinableQueue<T> joinable_queue(Args&&... args) const {
    return JoinableQueue<T>{std::forward<Args>(args)...};
  }
  template <class T>
  SimpleQueue<T> simple_queue() const {
    return SimpleQueue<T>{};
  }
  Lock lock() const { return Lock{}; }
  RLock rlock() const { return RLock{}; }
  Semaphore semaphore(std::ptrdiff_t value = 1) const { return Semaphore{value}; }
  BoundedSemaphore bounded_semaphore(std::ptrdiff_t value = 1) const {
    return BoundedSemaphore{value};
  }
  Event event() const { return Event{}; }
  template <class... Args>
  Condition condition(const Args&... lock) const {
    return Condition{lock...};
  }
  template <class... Args>
  Barrier barrier(std::ptrdiff_t parties, Args&&... args) const {
    return Barrier{parties, std::forward<Args>(args)...};
  }
  template <class T, class... Args>
  Value<T> value(Args&&... args) const {
    return Value<T>(std::forward<Args>(args)...);
  }
  template <class T, class... Args>
  RawValue<T> raw_value(Args&&... args) const {
    return RawValue<T>(std::forward<Args>(args)...);
  }
  template <class T, class... Args>
  Array<T> array(Args&&... args) const {
    return Array<T>(std::forward<Args>(args)...);
  }
  template <class T, class... Args>
  RawArray<T> raw_array(Args&&... args) const {
    return RawArray<T>(std::forward<Args>(args)...);
  }
  std::pair<Connection, Connection> pipe(bool duplex = true) const {
    return multiprocessing::Pipe(duplex);
  }

  friend bool operator==(const Context&, const Context&) noexcept = default;

 private:
  StartMethod method_;
};

/// The context of a method.
inline Context get_context(StartMethod method) noexcept { return Context{method}; }

/// That of get_start_method(), which is settled by this.
inline Context get_context() { return Context{get_start_method()}; }

}  // namespace brood::multiprocessing
