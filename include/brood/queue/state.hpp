// SPDX-License-Identifier: MIT
// The monitor behind every queue of threads: a store, its two ends, each with a lock of its own,
// and three lists of waiting threads.
//
// Who puts holds the lock of the back, who gets that of the front, and neither asks for the other's
// as long as there are room and items: these are told by two counts, puts_ and gets_, each written
// at one end and read at both. (A store that is not two-ended has one lock for both.) Who has to
// wait, and whoever does anything else, holds both; the front's is taken first.
//
// Who waits  | for             | guarded by | chosen by, one at a time
// -----------+-----------------+------------+------------------------------------------------------
// getters_   | an item         | the back   | put(); a get() that gave its item back
// putters_   | room            | the front  | get(); a put() that failed; set_maxsize()
// joiners_   | dones_ == puts_ | the front  | the task_done() or shutdown() that makes it so, all
//            |                 |            | at once
//
// No wake-up is lost: who is about to wait looks again with both locks held, and is in its list
// before it lets them go. So a put() either comes before that look, which sees its item, or after,
// and then sees the getter in the list that its own lock guards; likewise get() and putters.
//
// A getter that would be the first to sleep looks out for an item a moment before (Patience): it is
// in no list then, and looks again with both locks held afterwards, as all do.
//
// shutdown() wakes all getters and putters. Whoever makes one more item, or one more room, chooses
// one; whoever was chosen uses it up or chooses the next. That is why none sleeps in vain.
#pragma once

#include <atomic>
#include <stdexcept>

#include "../posix/mutex.hpp"
#include "../posix/ref.hpp"
#include "../queue_errors.hpp"
#include "../sync/fork_hook.hpp"
#include "../sync/patience.hpp"
#include "../sync/wait_list.hpp"
#include "store.hpp"

namespace brood::queue {

enum class Outcome { done, out_of_time, shut_down };

template <class T, class Store>
class State final : public posix::RefCounted {
 public:
  template <class... Args>
  explicit State(std::size_t maxsize, const Args&... args) : maxsize_{maxsize}, store_(args...) {}

  /// Takes the item if the outcome is `done`. Comparing may throw, as may finding memory: then it
  /// does not.
  Outcome put(Parcel<T>& parcel, Timeout limit) {
    {
      posix::Locked lock{back()};
      if (shut_down_) return Outcome::shut_down;
      if (has_room()) return push(parcel, lock);
    }
    const posix::Deadline deadline{limit};
    if (deadline.expired()) return Outcome::out_of_time;
    posix::Locked lock{ends_};
    if (!putters_.wait(lock, deadline, [&] { return shut_down_ || has_room(); }))
      return Outcome::out_of_time;
    if (shut_down_) return Outcome::shut_down;
    try {
      return push(parcel, lock);
    } catch (...) {
      const auto next = putters_.choose_one();
      lock.unlock();
      next.wake();
      throw;
    }
  }

  Outcome get(Parcel<T>& parcel, Timeout limit) {
    {
      posix::Locked lock{front()};
      if (has_item()) return pop(parcel, lock);
      if (shut_down_) return Outcome::shut_down;
    }
    const posix::Deadline deadline{limit};
    if (deadline.expired()) return Outcome::out_of_time;
    posix::Locked lock{ends_};
    if (getters_.empty() && !shut_down_ && !has_item()) look_out(lock);
    if (!getters_.wait(lock, deadline, [&] { return shut_down_ || has_item(); }))
      return Outcome::out_of_time;
    if (!has_item()) return Outcome::shut_down;
    try {
      return pop(parcel, lock);
    } catch (...) {
      const auto next = getters_.choose_one();
      lock.unlock();
      next.wake();
      throw;
    }
  }

  /// Undoes a get() whose item could not be moved out. It is the next again. (If that fails as
  /// well, or the queue was shut down at once meanwhile, the item stays in the parcel.)
  void put_back(Parcel<T>& parcel) {
    posix::Locked lock{ends_};
    if (dropping_) {
      finish(1);
      return;
    }
    store_.put_back(parcel);
    parcel.forget();
    gets_.store(gets() - 1, std::memory_order_release);
    gets_seen_ = gets();
    const auto getter = getters_.choose_one();
    lock.unlock();
    getter.wake();
  }

  void task_done() {
    const posix::Locked lock{front()};
    if (dones_ == puts()) throw std::invalid_argument{"task_done() called too many times"};
    finish(1);
  }

  bool join(Timeout limit) {
    posix::Locked lock{ends_};
    return joiners_.wait(lock, posix::Deadline{limit}, [&] { return dones_ == puts(); });
  }

  void shutdown(bool immediate) {
    typename Store::Items dropped;  // destroyed without a lock
    const posix::Locked lock{ends_};
    shut_down_ = true;
    if (immediate) {
      dropping_ = true;
      store_.take_all(dropped);
      finish(puts() - gets());
      gets_.store(puts(), std::memory_order_release);
      puts_seen_ = puts();
    }
    getters_.wake_all();
    putters_.wake_all();
  }

  void set_maxsize(std::size_t maxsize) {
    const posix::Locked lock{ends_};
    maxsize_.store(maxsize, std::memory_order_relaxed);
    if (has_room()) putters_.wake_all();
  }

  // Snapshots, without a lock.
  std::size_t qsize() const noexcept {
    for (;;) {
      const std::size_t gets = gets_.load(std::memory_order_acquire);
      const std::size_t puts = puts_.load(std::memory_order_acquire);
      if (gets_.load(std::memory_order_relaxed) == gets) return puts - gets;
    }
  }
  std::size_t maxsize() const noexcept { return maxsize_.load(std::memory_order_relaxed); }
  bool is_full() const noexcept { return maxsize() != 0 && qsize() >= maxsize(); }
  bool is_shutdown() const noexcept { return shut_down_.load(std::memory_order_acquire); }

  void before_fork() noexcept { ends_.lock(); }
  void after_fork(bool in_child) noexcept {
    if (in_child) {
      getters_.forget();
      putters_.forget();
      joiners_.forget();
      patience_.forget();
    }
    ends_.unlock();
  }

 private:
  // Both locks, or the one.
  class Ends {
   public:
    void lock() noexcept {
      front.lock();
      if constexpr (Store::two_ended) back.lock();
    }
    void unlock() noexcept {
      if constexpr (Store::two_ended) back.unlock();
      front.unlock();
    }
    alignas(64) sync::WordLock front;
    alignas(Store::two_ended ? 64 : 4) sync::WordLock back;
  };

  sync::WordLock& front() noexcept { return ends_.front; }
  sync::WordLock& back() noexcept { return Store::two_ended ? ends_.back : ends_.front; }

  // With the lock of the back.
  bool has_room() noexcept {
    const std::size_t most = maxsize();
    if (most == 0 || puts() - gets_seen_ < most) return true;
    gets_seen_ = gets_.load(std::memory_order_acquire);
    return puts() - gets_seen_ < most;
  }
  template <class Lock>
  Outcome push(Parcel<T>& parcel, Lock& lock) {
    store_.push(parcel);
    parcel.forget();
    puts_.store(puts() + 1, std::memory_order_release);
    const auto getter = getters_.choose_one();
    lock.unlock();
    getter.wake();
    return Outcome::done;
  }

  // With the lock of the front.
  bool has_item() noexcept {
    if (gets() != puts_seen_) return true;
    puts_seen_ = puts_.load(std::memory_order_acquire);
    return gets() != puts_seen_;
  }
  template <class Lock>
  Outcome pop(Parcel<T>& parcel, Lock& lock) {
    store_.pop(parcel);
    gets_.store(gets() + 1, std::memory_order_release);
    const auto putter =
        putters_.empty() || is_full() ? sync::WaitList::Chosen{} : putters_.choose_one();
    lock.unlock();
    putter.wake();
    return Outcome::done;
  }
  // With both locks, which it lets go meanwhile. It does not look all the time: in a stream of
  // items the two ends would get into each other's way with every one.
  void look_out(posix::Locked<Ends>& lock) noexcept {
    lock.unlock();
    patience_.look([this]() noexcept {
      for (int i = 0; i < 16; ++i) sync::pause_spinning();
      return puts() != gets() || is_shutdown();
    });
    lock.lock();
  }
  // As many tasks are done; nobody counts beyond what was put.
  void finish(std::size_t tasks) noexcept {
    const std::size_t left = puts() - dones_;
    dones_ += tasks < left ? tasks : left;
    if (dones_ == puts()) joiners_.wake_all();
  }

  // Modulo 2^n; each is written at its own end.
  std::size_t puts() const noexcept { return puts_.load(std::memory_order_relaxed); }
  std::size_t gets() const noexcept { return gets_.load(std::memory_order_relaxed); }

  std::atomic<std::size_t> maxsize_;  // written with both locks, as the next two
  std::atomic<bool> shut_down_{false};
  bool dropping_ = false;  // shut down at once: what was in the queue is gone

  Ends ends_;
  // The back's.
  std::atomic<std::size_t> puts_{0};
  std::size_t gets_seen_ = 0;  // gets_ as it was
  sync::WaitList getters_;
  // The front's.
  alignas(64) std::atomic<std::size_t> gets_{0};
  std::size_t puts_seen_ = 0;  // puts_ as it was
  std::size_t dones_ = 0;
  sync::WaitList putters_;
  sync::WaitList joiners_;

  sync::Patience patience_{sync::several_processors()};  // of getters
  Store store_;
  sync::ForkHook hook_{*this};
};

}  // namespace brood::queue
