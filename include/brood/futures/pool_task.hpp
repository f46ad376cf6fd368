// SPDX-License-Identifier: MIT
// What a thread pool queues: tasks, and lists of them. Tasks are small: they are what a busy pool
// fetches from memory.
//
// A task is in one list at most, and never in another one later: `home` is written before it is
// queued. Whoever takes it out gets the reference that the list held. A task that was started by
// somebody else, or cancelled, may still be in its list: who takes it out finds that it cannot be
// started and drops it.
#pragma once

#include <cstddef>
#include <optional>
#include <tuple>

#include "../posix/mutex.hpp"
#include "../sync/word_lock.hpp"
#include "future.hpp"

namespace brood::futures {

class TaskList;

/// The part of a task that does not depend on its type.
class PoolTask {
 public:
  PoolTask() noexcept = default;
  PoolTask(const PoolTask&) = delete;
  PoolTask& operator=(const PoolTask&) = delete;
  virtual ~PoolTask() = default;

  virtual StateBase& state() noexcept = 0;

  /// Calls the callable, stores what it gave or threw, and lets go of callable and arguments. By
  /// who has started it. Returns what is to be published.
  virtual Status compute() noexcept = 0;

  /// Lets go of callable and arguments without a call.
  virtual void drop_call() noexcept = 0;

  // A posix::Ref<PoolTask> is a reference of the executor's.
  void add_owner() noexcept { state().add_owner(); }
  bool drop_owner() noexcept { return state().drop_owner(); }

  /// The list it was queued in. It may outlive that list, with its pool.
  TaskList* home = nullptr;

  // Who spawned whom. An id is given to a task by the worker that runs it, when it submits a task
  // of its own; it tells that worker's number, too. 0 is none. Ids are never used again.
  std::uint64_t spawner = 0;
  std::atomic<std::uint64_t> id{0};

 private:
  friend TaskList;
  PoolTask* newer_ = this;  // itself: not queued
  PoolTask* older_ = nullptr;
};

/// A queue of tasks with a mutex. Functions that end in _locked are called with it held.
class TaskList {
 public:
  /// `order` is how size() is written: see WorkerThreads, sleeping.
  explicit TaskList(std::memory_order order) noexcept : order_{order} {}
  TaskList(const TaskList&) = delete;
  TaskList& operator=(const TaskList&) = delete;

  void push_locked(PoolTask& task) noexcept {
    task.home = this;
    task.newer_ = nullptr;
    task.older_ = newest_;
    (newest_ == nullptr ? oldest_ : newest_->newer_) = &task;
    newest_ = &task;
    count_to(size_.load(std::memory_order_relaxed) + 1);
  }
  void remove_locked(PoolTask& task) noexcept {
    (task.older_ == nullptr ? oldest_ : task.older_->newer_) = task.newer_;
    (task.newer_ == nullptr ? newest_ : task.newer_->older_) = task.older_;
    task.newer_ = &task;
    count_to(size_.load(std::memory_order_relaxed) - 1);
  }
  bool has_locked(const PoolTask& task) const noexcept { return task.newer_ != &task; }
  PoolTask* oldest_locked() const noexcept { return oldest_; }
  PoolTask* newest_locked() const noexcept { return newest_; }

  /// The newest of the last 64 that `spawner` spawned.
  PoolTask* newest_of_locked(std::uint64_t spawner) const noexcept {
    PoolTask* task = newest_;
    for (int i = 0; i < 64 && task != nullptr && task->spawner != spawner; ++i) task = task->older_;
    return task != nullptr && task->spawner == spawner ? task : nullptr;
  }

  /// May be asked without the mutex.
  std::size_t size() const noexcept { return size_.load(std::memory_order_seq_cst); }

  sync::WordLock mutex;

 private:
  void count_to(std::size_t size) noexcept {
    if (order_ == std::memory_order_seq_cst)
      size_.store(size, std::memory_order_seq_cst);
    else
      size_.store(size, std::memory_order_release);
  }

  const std::memory_order order_;
  PoolTask* oldest_ = nullptr;
  PoolTask* newest_ = nullptr;
  std::atomic<std::size_t> size_{0};
};

/// A callable with its arguments and the state of its future.
template <class R, class F, class... Args>
class Task final : public FutureState<R>, public PoolTask {
 public:
  template <class... Call>
  explicit Task(std::in_place_t place, Call&&... call)
      : call_{place, std::forward<Call>(call)...} {}

  using StateBase::add_owner;
  using StateBase::drop_owner;

  StateBase& state() noexcept override { return *this; }

  Status compute() noexcept override {
    Status status = Status::succeeded;
    try {
      this->store_result_of([this]() -> R {
        return std::apply(
            [](F& f, Args&... args) -> R {
              return static_cast<R>(futures::invoke_callable(std::move(f), std::move(args)...));
            },
            *call_);
      });
    } catch (...) {
      this->store_error(std::current_exception());
      status = Status::failed;
    }
    call_.reset();
    return status;
  }
  void drop_call() noexcept override { call_.reset(); }

  void help(Waiting& waiting) override;
  void on_cancelled() noexcept override { call_.reset(); }

 private:
  std::optional<std::tuple<F, Args...>> call_;
};

}  // namespace brood::futures
