// SPDX-License-Identifier: MIT
// The monitor behind every queue of threads: one lock, a store of nodes, and three lists of
// waiting threads.
//
// Who waits  | for                              | chosen by, one at a time
// -----------+----------------------------------+-------------------------------------------------
// getters_   | an item                          | put(); a get() that gave its item back
// putters_   | room                             | get(); a put() that failed; set_maxsize()
// joiners_   | unfinished_ == 0                 | the task_done() or shutdown() that makes it so,
//            |                                  | all at once
//
// shutdown() wakes all getters and putters. Whoever makes one more item, or one more room, chooses
// one; whoever was chosen uses it up or chooses the next. That is why none sleeps in vain.
#pragma once

#include <optional>
#include <stdexcept>

#include "../posix/mutex.hpp"
#include "../posix/ref.hpp"
#include "../queue_errors.hpp"
#include "../sync/fork_hook.hpp"
#include "../sync/wait_list.hpp"
#include "store.hpp"

namespace brood::queue {

enum class Outcome { done, out_of_time, shut_down };

template <class T, class Store>
class State final : public posix::RefCounted {
 public:
  template <class... Args>
  explicit State(std::size_t maxsize, const Args&... args) : store_(args...), maxsize_{maxsize} {}

  ~State() { const NodeOwner<T> left{store_.take_all()}; }

  /// Takes the node if the outcome is `done`. Comparing may throw: then it does not.
  Outcome put(NodeOwner<T>& node, Timeout limit) {
    posix::Locked lock{mutex_};
    if (!shut_down_ && is_full() &&
        !putters_.wait(lock, posix::Deadline{limit}, [&] { return shut_down_ || !is_full(); }))
      return Outcome::out_of_time;
    if (shut_down_) return Outcome::shut_down;
    try {
      store_.push(node.get());
    } catch (...) {
      const auto next = putters_.choose_one();
      lock.unlock();
      next.wake();
      throw;
    }
    node.release();
    set_size(qsize() + 1);
    ++unfinished_;
    const auto getter = getters_.choose_one();
    lock.unlock();
    getter.wake();
    return Outcome::done;
  }

  Outcome get(NodeOwner<T>& node, Timeout limit) {
    posix::Locked lock{mutex_};
    if (store_.empty() && !shut_down_ &&
        !getters_.wait(lock, posix::Deadline{limit}, [&] { return shut_down_ || !store_.empty(); }))
      return Outcome::out_of_time;
    if (store_.empty()) return Outcome::shut_down;
    try {
      node.reset(store_.pop());
    } catch (...) {
      const auto next = getters_.choose_one();
      lock.unlock();
      next.wake();
      throw;
    }
    set_size(qsize() - 1);
    const auto putter = is_full() ? sync::WaitList::Chosen{} : putters_.choose_one();
    lock.unlock();
    putter.wake();
    return Outcome::done;
  }

  /// Undoes a get() whose item could not be moved out. It is the next again. (If comparing throws
  /// as well, or the queue was shut down at once meanwhile, the node stays with its owner.)
  void put_back(NodeOwner<T>& node) {
    posix::Locked lock{mutex_};
    if (dropping_) {
      finish(1);
      return;
    }
    store_.put_back(node.get());
    node.release();
    set_size(qsize() + 1);
    const auto getter = getters_.choose_one();
    lock.unlock();
    getter.wake();
  }

  void task_done() {
    const posix::Locked lock{mutex_};
    if (unfinished_ == 0) throw std::invalid_argument{"task_done() called too many times"};
    finish(1);
  }

  bool join(Timeout limit) {
    posix::Locked lock{mutex_};
    return joiners_.wait(lock, posix::Deadline{limit}, [&] { return unfinished_ == 0; });
  }

  void shutdown(bool immediate) {
    NodeOwner<T> dropped;  // destroyed without the lock
    const posix::Locked lock{mutex_};
    shut_down_ = true;
    if (immediate) {
      dropping_ = true;
      dropped.reset(store_.take_all());
      finish(qsize());
      set_size(0);
    }
    getters_.wake_all();
    putters_.wake_all();
  }

  void set_maxsize(std::size_t maxsize) {
    const posix::Locked lock{mutex_};
    maxsize_.store(maxsize, std::memory_order_relaxed);
    if (!is_full()) putters_.wake_all();
  }

  // Snapshots, without the lock.
  std::size_t qsize() const noexcept { return size_.load(std::memory_order_relaxed); }
  std::size_t maxsize() const noexcept { return maxsize_.load(std::memory_order_relaxed); }
  bool is_full() const noexcept { return maxsize() != 0 && qsize() >= maxsize(); }
  bool is_shutdown() const noexcept { return shut_down_.load(std::memory_order_acquire); }

  void before_fork() noexcept { mutex_.lock(); }
  void after_fork(bool in_child) noexcept {
    if (in_child) {
      getters_.forget();
      putters_.forget();
      joiners_.forget();
    }
    mutex_.unlock();
  }

 private:
  void set_size(std::size_t size) noexcept { size_.store(size, std::memory_order_relaxed); }

  // As many tasks are done; nobody counts below 0.
  void finish(std::size_t tasks) noexcept {
    unfinished_ -= tasks < unfinished_ ? tasks : unfinished_;
    if (unfinished_ == 0) joiners_.wake_all();
  }

  sync::WordLock mutex_;  // guards all that follows; the atomics are written under it
  Store store_;
  std::atomic<std::size_t> size_{0};
  std::atomic<std::size_t> maxsize_;
  std::size_t unfinished_ = 0;
  std::atomic<bool> shut_down_{false};
  bool dropping_ = false;  // shut down at once: what was in the queue is gone
  sync::WaitList getters_;
  sync::WaitList putters_;
  sync::WaitList joiners_;
  sync::ForkHook hook_{*this};
};

}  // namespace brood::queue
