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
#include "task_memory.hpp"

namespace brood::futures {

class TaskList;

/// The part of a task that does not depend on its type.
class PoolTask {
 public:
  explicit PoolTask(StateBase& state) noexcept : state_{&state} {}
  PoolTask(const PoolTask&) = delete;
  PoolTask& operator=(const PoolTask&) = delete;
  virtual ~PoolTask() = default;

  StateBase& state() noexcept { return *state_; }

  /// Calls the callable, stores what it gave or threw, and lets go of callable and arguments. By
  /// who has started it. Returns what is to be published.
  virtual Status compute() noexcept = 0;

  /// Lets go of callable and arguments without a call.
  virtual void drop_call() noexcept = 0;

  // A posix::Ref<PoolTask> is a reference of the executor's.
  void add_owner() noexcept { state_->add_owner(); }
  bool drop_owner() noexcept { return state_->drop_owner(); }

  /// The list it was queued in. It may outlive that list, with its pool.
  TaskList* home = nullptr;

  // Who spawned whom. An id is given to a task by the worker that runs it, when it submits a task
  // of its own; it tells that worker's number, too, in its upper bits. 0 is none. A worker's ids
  // rise.
  //
  // A worker runs tasks within tasks, those that are waited for within those that wait. A line is
  // as many of these as descend each from the one it runs within; `line` is the id of the first.
  std::uint64_t spawner = 0;
  std::uint64_t line = 0;  // the spawner's
  std::atomic<std::uint64_t> id{0};

  /// Whether the task of this id (not 0), which is not done, has spawned this one, or has spawned
  /// one that did, and so on. False also for what was spawned elsewhere than in its own worker.
  //
  // The three ids are of one worker, as line and spawner are. The task had its id when this one was
  // spawned, and was running: within the first of the line, or as that; and the spawner ran within
  // it, or was it. So it was one of the line, and the spawner descends from it, or is it.
  bool descends_from(std::uint64_t task) const noexcept { return line <= task && task <= spawner; }

 private:
  friend TaskList;
  StateBase* const state_;
  PoolTask* newer_ = this;  // itself: not queued
  PoolTask* older_ = nullptr;
};

/// A queue of tasks with a mutex. Functions that end in _locked are called with it held.
class TaskList {
 public:
  TaskList() noexcept = default;
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

  /// The oldest that descends from `ancestor`, of the last 64: as a rule it holds the most work.
  PoolTask* oldest_of_locked(std::uint64_t ancestor) const noexcept {
    PoolTask* found = nullptr;
    PoolTask* task = newest_;
    for (int i = 0; i < 64 && task != nullptr; ++i, task = task->older_)
      if (task->descends_from(ancestor)) found = task;
    return found;
  }

  /// May be asked without the mutex: who sees that it has shrunk sees what was done before that.
  std::size_t size() const noexcept { return size_.load(std::memory_order_acquire); }

  sync::WordLock mutex;

 private:
  void count_to(std::size_t size) noexcept { size_.store(size, std::memory_order_release); }

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
      : PoolTask{static_cast<StateBase&>(*this)}, call_{place, std::forward<Call>(call)...} {}

  static void* operator new(std::size_t size) { return TaskMemory::allocate(size); }
  static void operator delete(void* block, std::size_t size) noexcept {
    TaskMemory::deallocate(block, size);
  }
  static void* operator new(std::size_t size, std::align_val_t alignment) {
    return ::operator new(size, alignment);
  }
  static void operator delete(void* block, std::align_val_t alignment) noexcept {
    ::operator delete(block, alignment);
  }

  using StateBase::add_owner;
  using StateBase::drop_owner;

  using PoolTask::state;

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
