// SPDX-License-Identifier: MIT
// A task of a process pool as the program sees it, and the lists that it may be in.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#include "../posix/ref.hpp"
#include "../timeout.hpp"
#include "future.hpp"
#include "remote_call.hpp"
#include "task_table.hpp"

namespace brood::futures {

class ProcessPoolCore;

/// Where the callbacks of a future run that becomes done: in this thread at once, or where
/// RemoteWork::run_kept() is called.
enum class RunCallbacks { here, later };

/// A task as the pool sees it, whatever its result type. The pool holds one reference from submit
/// until it is collected or withdrawn. Its bytes are put into it before it is submitted.
class RemoteWork : public ByteSink {
 public:
  RemoteWork(posix::Ref<ProcessPoolCore> core, const RemoteEntry& entry);
  // Says inline here, or the compiler takes it for the one whose definition brings the class's
  // table of virtual functions, which it then writes for everybody who includes this.
  inline char* allocate(std::size_t size) override;
  /// Before it is submitted: how long it may run. Else it is what the pool says.
  void limit_time(Timeout limit) noexcept { limit_ = limit.duration().count(); }
  RemoteWork(const RemoteWork&) = delete;
  RemoteWork& operator=(const RemoteWork&) = delete;

  virtual void retain() noexcept = 0;
  virtual void release() noexcept = 0;

  /// The result is there. Reads it; nobody sees it before publish(). What goes wrong becomes the
  /// result.
  virtual void load(Outcome outcome, std::string_view bytes) noexcept = 0;
  /// There will be no result but this.
  virtual void fail(std::exception_ptr error) noexcept = 0;
  /// Makes the future(s) done. Whether there are callbacks that run later.
  virtual bool publish(RunCallbacks when) noexcept = 0;
  /// Runs those.
  virtual void run_kept() noexcept = 0;
  /// Cancels what can be cancelled.
  virtual void cancel() noexcept = 0;

 protected:
  ~RemoteWork();

  static bool publish_state(StateBase& state, Status status, RunCallbacks when) noexcept {
    Callback* const callbacks = state.publish(status);
    if (when == RunCallbacks::here)
      state.run_callbacks(callbacks);
    else
      state.keep_callbacks(callbacks);
    return when == RunCallbacks::later && callbacks != nullptr;
  }

  const posix::Ref<ProcessPoolCore> core_;

 private:
  friend ProcessPoolCore;
  friend class WorkList;
  friend class Backlog;
  static constexpr std::uint64_t queued = 0, withdrawn = ~std::uint64_t{0};

  const RemoteEntry& entry_;
  std::int64_t limit_ = Slot::no_limit;       // nanoseconds
  std::string bytes_;                         // dropped when they lie in a slot; large ones are
  Place large_{0, Place::in_slot};            // written where the worker will read them
  std::atomic<std::uint64_t> where_{queued};  // queued, withdrawn, or ticket << 16 | slot
  RemoteWork* next_ = nullptr;  // in the backlog, guarded by the pool's mutex as is what follows;
  RemoteWork* previous_ = nullptr;  // after that in a WorkList
  bool in_backlog_ = false;
};

/// Tasks that are in no backlog and in no slot any more, each with the pool's reference.
class WorkList {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  void push_back(RemoteWork& task) noexcept {
    task.next_ = nullptr;
    (last_ == nullptr ? first_ : last_->next_) = &task;
    last_ = &task;
  }
  /// Its tasks are here now, after the others.
  void append(WorkList& other) noexcept {
    while (RemoteWork* const task = other.pop()) push_back(*task);
  }
  /// The first one, null if there is none.
  RemoteWork* pop() noexcept {
    RemoteWork* const task = first_;
    if (task == nullptr) return nullptr;
    first_ = task->next_;
    if (first_ == nullptr) last_ = nullptr;
    return task;
  }

 private:
  RemoteWork* first_ = nullptr;
  RemoteWork* last_ = nullptr;
};

/// Tasks that wait for a slot, in the order of their submission. Any may leave.
class Backlog {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  /// Null if it is empty.
  RemoteWork* front() const noexcept { return first_; }
  void push_back(RemoteWork& task) noexcept {
    task.previous_ = last_;
    task.next_ = nullptr;
    (last_ == nullptr ? first_ : last_->next_) = &task;
    last_ = &task;
    task.in_backlog_ = true;
  }
  void erase(RemoteWork& task) noexcept {
    (task.previous_ == nullptr ? first_ : task.previous_->next_) = task.next_;
    (task.next_ == nullptr ? last_ : task.next_->previous_) = task.previous_;
    task.in_backlog_ = false;
  }

 private:
  RemoteWork* first_ = nullptr;
  RemoteWork* last_ = nullptr;
};

}  // namespace brood::futures
