// SPDX-License-Identifier: MIT
// Threads of this process that sleep for a condition, in order of arrival, each on a word of its
// own: waking one wakes exactly that one, and no wake-up can be missed or taken by another.
//
// waiter             | woken | in the list | who moves it on
// -------------------+-------+-------------+------------------------------------------------
// sleeps             |   0   | yes         | wake_one(), wake_all(), or its deadline
// chosen             |  > 0  | no          | itself: takes the lock, looks at the condition
// its time is up     |   0   | yes         | itself: takes the lock, leaves the list
//
// The list and every change of `woken` are guarded by the caller's lock. A chosen waiter that finds
// the condition gone (another thread was faster) sleeps again at the front. One that is chosen and
// does not use up what it was woken for must choose the next.
#pragma once

#include "../posix/futex.hpp"
#include "../posix/mutex.hpp"

namespace brood::sync {

class WaitList {
 public:
  /// Somebody to be woken once the lock is released; nobody when default-made.
  class Chosen {
   public:
    Chosen() noexcept = default;
    void wake() const noexcept {
      // The sleeper may be gone already, and its stack with it: then this address wakes nobody, or
      // a futex that lies there now, whose user looks at its condition again.
      if (word_ != nullptr) posix::futex_wake(*word_, 1);
    }

   private:
    friend WaitList;
    explicit Chosen(const std::atomic<std::uint32_t>* word) noexcept : word_{word} {}
    const std::atomic<std::uint32_t>* word_ = nullptr;
  };

  constexpr WaitList() noexcept = default;
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;

  bool empty() const noexcept { return first_ == nullptr; }

  /// Sleeps until `ready()`, which is asked with the lock held, or the deadline; false when time is
  /// up and it still does not hold. The lock is held on entry and on return.
  template <class Lock, class Ready>
  bool wait(Lock& lock, const posix::Deadline& deadline, Ready ready) {
    for (bool again = false; !ready(); again = true) {
      if (deadline.expired()) return false;
      sleep(lock, deadline, again, [] {});
    }
    return true;
  }

  /// Sleeps until chosen and returns the message of that, or 0 at the deadline. `once_listed()` is
  /// called without the lock, when nobody who chooses can miss this thread any more. What it throws
  /// comes out of here; who was chosen meanwhile chooses the next one then.
  template <class Lock, class F>
  std::uint32_t wait_to_be_chosen(Lock& lock, const posix::Deadline& deadline, F once_listed) {
    return sleep(lock, deadline, false, once_listed);
  }
  template <class Lock>
  std::uint32_t wait_to_be_chosen(Lock& lock, const posix::Deadline& deadline) {
    return deadline.expired() ? 0 : sleep(lock, deadline, false, [] {});
  }

  /// Takes the longest waiting thread off the list. With the lock held; wake it when it is not.
  Chosen choose_one(std::uint32_t message = 1) noexcept {
    if (first_ == nullptr) return Chosen{};
    Waiter& waiter = *first_;
    remove(waiter);
    waiter.woken.store(message, std::memory_order_release);
    return Chosen{&waiter.woken};
  }

  /// Wakes up to `count` of them, with the lock held.
  void wake(std::size_t count, std::uint32_t message = 1) noexcept {
    for (; count > 0 && first_ != nullptr; --count) choose_one(message).wake();
  }

  /// Wakes them all, with the lock held.
  void wake_all(std::uint32_t message = 1) noexcept {
    while (first_ != nullptr) choose_one(message).wake();
  }

  /// Forgets them all: in a child of fork() they do not exist.
  void forget() noexcept { first_ = last_ = nullptr; }

 private:
  struct Waiter {
    void sleep(const posix::Deadline& deadline) noexcept {
      while (woken.load(std::memory_order_acquire) == 0 && posix::futex_wait(woken, 0, deadline)) {
      }
    }
    std::atomic<std::uint32_t> woken{0};
    Waiter* next = nullptr;
    Waiter* previous = nullptr;
  };

  template <class Lock, class F>
  std::uint32_t sleep(Lock& lock, const posix::Deadline& deadline, bool in_front, F once_listed) {
    Waiter self;
    in_front ? push_front(self) : push_back(self);
    lock.unlock();
    try {
      once_listed();
    } catch (...) {
      lock.lock();
      const std::uint32_t message = self.woken.load(std::memory_order_relaxed);
      message == 0 ? remove(self) : choose_one(message).wake();
      throw;
    }
    self.sleep(deadline);
    lock.lock();
    const std::uint32_t message = self.woken.load(std::memory_order_relaxed);
    if (message == 0) remove(self);
    return message;
  }

  void push_back(Waiter& waiter) noexcept {
    waiter.previous = last_;
    (last_ == nullptr ? first_ : last_->next) = &waiter;
    last_ = &waiter;
  }
  void push_front(Waiter& waiter) noexcept {
    waiter.next = first_;
    (first_ == nullptr ? last_ : first_->previous) = &waiter;
    first_ = &waiter;
  }
  void remove(Waiter& waiter) noexcept {
    (waiter.previous == nullptr ? first_ : waiter.previous->next) = waiter.next;
    (waiter.next == nullptr ? last_ : waiter.next->previous) = waiter.previous;
  }

  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

}  // namespace brood::sync
