// SPDX-License-Identifier: MIT
// Where a synchronisation object lives: its lock, and those who wait for what that guards. Lock,
// RLock, Condition, Semaphore, Event and Barrier are templates over a monitor. PrivateMonitor
// places them in the memory of one process, SharedMonitor and SeatedMonitor (shared_monitor.hpp)
// place Semaphore, Event and Barrier in that of several.
//
// A monitor gives: Hold, a held lock that can be let go and taken again; wait(hold, deadline,
// ready); with the lock held, wake(count) and wake_all(), to be called before the change that is
// waited for; begin_action(), end_action() and wait_for_action(), see Barrier. A PrivateMonitor
// gives besides wait_to_be_chosen(hold, deadline[, once_listed]) and choose_one() -> whom to wake()
// when the lock is not held.
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

  /// Those who wait for the end of an action are a list of their own. See SharedMonitor.
  void begin_action() noexcept {}
  void end_action() {
    const Hold hold{*this};
    waiting_for_action_.wake_all();
  }
  template <class Acting, class Bury>
  bool wait_for_action(Hold& hold, const posix::Deadline& deadline, Acting acting, Bury) {
    return waiting_for_action_.wait(hold, deadline, [&] { return !acting(); });
  }

  void before_fork() noexcept { mutex_.lock(); }
  void after_fork(bool in_child) noexcept {
    if (in_child) {
      forget();
      waiting_for_action_.forget();
    }
    mutex_.unlock();
  }

 private:
  WordLock mutex_;
  WaitList waiting_for_action_;
  ForkHook hook_{*this};
};

}  // namespace brood::sync
