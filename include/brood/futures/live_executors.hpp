// SPDX-License-Identifier: MIT
// What becomes of executors at the normal end of the program: what was submitted is still done.
#pragma once

#include "../posix/exchange.hpp"
#include "../posix/immortal.hpp"
#include "../posix/this_process.hpp"
#include "../sync/fork_hook.hpp"
#include "../sync/word_lock.hpp"

namespace brood::futures {

/// What an executor and its threads share.
class LiveExecutor {
 public:
  /// Keeps it from being destroyed until finish(); false when that has begun already.
  virtual bool hold() noexcept = 0;
  /// After hold(): returns when all that was submitted is done, but for a task that ends the
  /// program itself.
  virtual void finish() noexcept = 0;

 protected:
  ~LiveExecutor() = default;

 private:
  friend class LiveExecutors;
  LiveExecutor* next_ = nullptr;
};

/// Those of this process that have something to finish when it ends. The latest is finished first,
/// as its tasks may use the earlier ones. Python counterpart: the exit handlers of
/// concurrent.futures.
class LiveExecutors {
 public:
  /// Not in a process that was forked since: there it belongs to nobody.
  static void add(LiveExecutor& executor);
  static void remove(LiveExecutor& executor) noexcept;

 private:
  template <class T>
  friend T& posix::immortal();
  LiveExecutors() = default;
  static LiveExecutors& here() { return posix::immortal<LiveExecutors>(); }
  static void finish() noexcept;

  friend sync::ForkHook;
  void before_fork() noexcept { lock_.lock(); }
  void after_fork(bool in_child) noexcept {
    if (in_child) first_ = nullptr;  // their threads exist in the parent only
    lock_.unlock();
  }

  sync::WordLock lock_;  // guards the list
  LiveExecutor* first_ = nullptr;
  sync::ForkHook fork_hook_{*this};
};

// Bodies.

inline void LiveExecutors::add(LiveExecutor& executor) {
  LiveExecutors& all = here();
  posix::on_end(posix::EndStage::executors, &finish);
  const posix::Locked lock{all.lock_};
  executor.next_ = posix::exchange(all.first_, &executor);
}

inline void LiveExecutors::remove(LiveExecutor& executor) noexcept {
  LiveExecutors& all = here();
  const posix::Locked lock{all.lock_};
  LiveExecutor** link = &all.first_;
  while (*link != nullptr && *link != &executor) link = &(*link)->next_;
  if (*link != nullptr) *link = executor.next_;
}

inline void LiveExecutors::finish() noexcept {
  LiveExecutors& all = here();
  for (;;) {
    LiveExecutor* executor = nullptr;
    {
      const posix::Locked lock{all.lock_};
      while (all.first_ != nullptr && executor == nullptr) {
        executor = posix::exchange(all.first_, all.first_->next_);
        if (!executor->hold()) executor = nullptr;
      }
    }
    if (executor == nullptr) return;
    executor->finish();
  }
}

}  // namespace brood::futures
