// SPDX-License-Identifier: MIT
// The monitor behind every queue of threads: a store, its two ends, each with a lock of its own,
// and three lists of waiting threads.
//
// Who puts holds the lock of the back, who gets that of the front, and neither asks for the other's
// as long as there are room and items: these are told by two counts, puts() and gets(), each
// written at one end and read at both. (A store that is not two-ended has one lock for both.) Who
// has to wait, and whoever does anything else, holds both; the front's is taken first.
//
// Who waits  | for              | guarded by | chosen by, one at a time
// -----------+------------------+------------+-----------------------------------------------------
// getters()  | an item          | the back   | put(); a get() that gave its item back
// putters()  | room             | the front  | get(); a put() that failed; set_maxsize()
// joiners_   | dones_ == puts() | the front  | the task_done() or shutdown() that makes it so, all
//            |                  |            | at once
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
    if (!putters().wait(lock, deadline, [&] { return shut_down_ || has_room(); }))
      return Outcome::out_of_time;
    if (shut_down_) return Outcome::shut_down;
    try {
      return push(parcel, lock);
    } catch (...) {
      const auto next = putters().choose_one();
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
    if (getters().empty() && !shut_down_ && !has_item()) look_out(lock);
    if (!getters().wait(lock, deadline, [&] { return shut_down_ || has_item(); }))
      return Outcome::out_of_time;
    if (!has_item()) return Outcome::shut_down;
    try {
      return pop(parcel, lock);
    } catch (...) {
      const auto next = getters().choose_one();
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
    store_.front.count.store(gets() - 1, std::memory_order_release);
    store_.back.seen = gets();
    const auto getter = getters().choose_one();
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
      store_.front.count.store(puts(), std::memory_order_release);
      store_.front.seen = puts();
    }
    getters().wake_all();
    putters().wake_all();
  }

  void set_maxsize(std::size_t maxsize) {
    const posix::Locked lock{ends_};
    maxsize_.store(maxsize, std::memory_order_relaxed);
    if (has_room()) putters().wake_all();
  }

  // Snapshots, without a lock.
  std::size_t qsize() const noexcept {
    for (;;) {
      const std::size_t gets = store_.front.count.load(std::memory_order_acquire);
      const std::size_t puts = store_.back.count.load(std::memory_order_acquire);
      if (store_.front.count.load(std::memory_order_relaxed) == gets) return puts - gets;
    }
  }
  std::size_t maxsize() const noexcept { return maxsize_.load(std::memory_order_relaxed); }
  bool is_full() const noexcept { return maxsize() != 0 && qsize() >= maxsize(); }
  bool is_shutdown() const noexcept { return shut_down_.load(std::memory_order_acquire); }

  void before_fork() noexcept { ends_.lock(); }
  void after_fork(bool in_child) noexcept {
    if (in_child) {
      getters().forget();
      putters().forget();
      joiners_.forget();
      patience_.forget();
    }
    ends_.unlock();
  }

 private:
  // Both locks, or the one.
  class Ends {
   public:
    explicit Ends(Store& store) noexcept : store_{store} {}
    void lock() noexcept {
      store_.front.lock.lock();
      if constexpr (Store::two_ended) store_.back.lock.lock();
    }
    void unlock() noexcept {
      if constexpr (Store::two_ended) store_.back.lock.unlock();
      store_.front.lock.unlock();
    }

   private:
    Store& store_;
  };

  sync::WordLock& front() noexcept { return store_.front.lock; }
  sync::WordLock& back() noexcept { return Store::two_ended ? store_.back.lock : front(); }
  sync::WaitList& getters() noexcept { return store_.back.waiting; }
  sync::WaitList& putters() noexcept { return store_.front.waiting; }

  // With the lock of the back.
  bool has_room() noexcept {
    const std::size_t most = maxsize();
    if (most == 0 || puts() - store_.back.seen < most) return true;
    store_.back.seen = store_.front.count.load(std::memory_order_acquire);
    return puts() - store_.back.seen < most;
  }
  template <class Lock>
  Outcome push(Parcel<T>& parcel, Lock& lock) {
    store_.push(parcel);
    parcel.forget();
    store_.back.count.store(puts() + 1, std::memory_order_release);
    const auto getter = getters().choose_one();
    lock.unlock();
    getter.wake();
    return Outcome::done;
  }

  // With the lock of the front.
  bool has_item() noexcept {
    if (gets() != store_.front.seen) return true;
    store_.front.seen = store_.back.count.load(std::memory_order_acquire);
    return gets() != store_.front.seen;
  }
  template <class Lock>
  Outcome pop(Parcel<T>& parcel, Lock& lock) {
    store_.pop(parcel);
    store_.front.count.store(gets() + 1, std::memory_order_release);
    const auto putter =
        putters().empty() || is_full() ? sync::WaitList::Chosen{} : putters().choose_one();
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

  std::size_t puts() const noexcept { return store_.back.count.load(std::memory_order_relaxed); }
  std::size_t gets() const noexcept { return store_.front.count.load(std::memory_order_relaxed); }

  std::atomic<std::size_t> maxsize_;  // written with both locks, as the next two
  std::atomic<bool> shut_down_{false};
  bool dropping_ = false;  // shut down at once: what was in the queue is gone

  Store store_;  // and what is kept at its ends
  Ends ends_{store_};
  std::size_t dones_ = 0;  // the front's, as the next
  sync::WaitList joiners_;

  sync::Patience patience_{sync::several_processors()};  // of getters
  sync::ForkHook hook_{*this};
};

}  // namespace brood::queue
