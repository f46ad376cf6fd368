// SPDX-License-Identifier: MIT
// Objects that come whole through fork(): their locks are taken before it and let go after it, in
// the parent and in the child, so that a child never meets one held by a thread that it has not
// got.
//
//   class State {
//     void before_fork() noexcept { mutex_.lock(); }
//     void after_fork(bool in_child) noexcept { if (in_child) waiters_.forget(); mutex_.unlock(); }
//     ...
//     ForkHook hook_{*this};  // the last member: enrolled when the others live
//   };
//
// Whoever holds such a lock must not wait for another one, but for one that before_fork() takes
// after it, nor for a thread that forks.
#pragma once

#include <pthread.h>

#include "../posix/immortal.hpp"
#include "../posix/mutex.hpp"
#include "word_lock.hpp"

namespace brood::sync {

class ForkHook {
 public:
  /// Enrols `object`, which has before_fork() and after_fork(bool in_child), until the end of this.
  template <class Object>
  explicit ForkHook(Object& object) noexcept
      : object_{&object},
        before_{[](void* it) noexcept { static_cast<Object*>(it)->before_fork(); }},
        after_{[](void* it, bool in_child) noexcept {
          static_cast<Object*>(it)->after_fork(in_child);
        }} {
    Roll& roll = the_roll();
    const posix::Locked lock{roll.mutex};
    next_ = roll.first;
    if (next_ != nullptr) next_->previous_ = this;
    roll.first = this;
  }

  ~ForkHook() {
    Roll& roll = the_roll();
    const posix::Locked lock{roll.mutex};
    (previous_ == nullptr ? roll.first : previous_->next_) = next_;
    if (next_ != nullptr) next_->previous_ = previous_;
  }

  ForkHook(const ForkHook&) = delete;
  ForkHook& operator=(const ForkHook&) = delete;

 private:
  struct Roll {
    Roll() noexcept { pthread_atfork(&before_fork, &after_fork_in_parent, &after_fork_in_child); }
    WordLock mutex;  // guards the list; held across a fork
    ForkHook* first = nullptr;
  };

  // Never destroyed: static objects may be enrolled until the very end.
  static Roll& the_roll() noexcept { return posix::immortal<Roll>(); }

  static void before_fork() noexcept {
    Roll& roll = the_roll();
    roll.mutex.lock();
    for (ForkHook* hook = roll.first; hook != nullptr; hook = hook->next_)
      hook->before_(hook->object_);
  }
  static void after_fork(bool in_child) noexcept {
    Roll& roll = the_roll();
    for (ForkHook* hook = roll.first; hook != nullptr; hook = hook->next_)
      hook->after_(hook->object_, in_child);
    roll.mutex.unlock();
  }
  static void after_fork_in_parent() noexcept { after_fork(false); }
  static void after_fork_in_child() noexcept { after_fork(true); }

  void* object_;
  void (*before_)(void*) noexcept;
  void (*after_)(void*, bool) noexcept;
  ForkHook* next_ = nullptr;
  ForkHook* previous_ = nullptr;
};

}  // namespace brood::sync
