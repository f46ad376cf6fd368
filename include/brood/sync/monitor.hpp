// SPDX-License-Identifier: MIT
// Where a synchronisation object lives: its lock, and those who wait for what that guards. Lock,
// RLock, Condition, Semaphore, Event and Barrier are templates over a monitor; PrivateMonitor
// places them in the memory of one process.
//
// A monitor gives: Hold, a held lock that can be let go and taken again; wait(hold, deadline,
// ready); wait_to_be_chosen(hold, deadline[, once_listed]) -> message; with the lock held,
// choose_one([message]) -> whom to wake() when it is not, wake(count[, message]) and
// wake_all([message]); and second(), another list of waiting threads under the same lock.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fork_hook.hpp"
#include "wait_list.hpp"

namespace brood::sync {

class PrivateMonitor : public WaitList {
 public:
  class Hold : public posix::Locked<WordLock> {
   public:
    explicit Hold(PrivateMonitor& monitor) : posix::Locked<WordLock>{monitor.mutex_} {}
  };

  WaitList& second() noexcept { return second_; }

  void before_fork() noexcept { mutex_.lock(); }
  void after_fork(bool in_child) noexcept {
    if (in_child) {
      forget();
      second_.forget();
    }
    mutex_.unlock();
  }

 private:
  WordLock mutex_;
  WaitList second_;
  ForkHook hook_{*this};
};

}  // namespace brood::sync
