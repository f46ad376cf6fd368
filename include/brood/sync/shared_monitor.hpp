// SPDX-License-Identifier: MIT
// Where a synchronisation object of several processes lives: in memory that all of them map, and
// that any of them may leave by SIGKILL at any instruction. (See monitor.hpp.)
//
// There is no list of those who wait: it would hold the places of the dead. Who waits sleeps on one
// word, the bell, and looks for itself when that has rung.
//
// step                         | who               | if it dies right after this step
// -----------------------------+-------------------+---------------------------------------------
// 1. takes the lock            | who changes state | the kernel hands the lock on
// 2. rings, if somebody sleeps |                   | those woken look in vain and sleep again
// 3. changes state: one store  |                   | those woken wait for the lock, get it from the
// 4. releases the lock         |                   | dead holder, and see the change
//
// Ringing comes BEFORE the change: so no change can be seen that has not been rung for, and who was
// woken can't look too early, for it looks with the lock held. A death between any two steps is as
// good as one before the first of them or after the last.
//
// asleep | meaning                             | set by                | cleared by
// -------+-------------------------------------+-----------------------+---------------------------
//   0    | nobody sleeps                       |                       |
//   1    | somebody sleeps, is about to, or    | who is about to sleep | who rings, after the wake
//        | has died or given up meanwhile      |                       |
//
// (both with the lock held; a death before the clearing costs one call that wakes nobody).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "../posix/futex.hpp"
#include "../posix/robust_mutex.hpp"

namespace brood::sync {

/// All who wait are woken at each change, and each takes what it finds: for what lets all go on.
class SharedMonitor {
 public:
  class Hold {
   public:
    explicit Hold(SharedMonitor& monitor) : mutex_{monitor.mutex_} { lock(); }
    ~Hold() {
      if (held_) mutex_.unlock();
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    // State is sound at every instruction: nothing to repair.
    void lock() {
      mutex_.lock(posix::Deadline{forever}, posix::NoRepair{});
      held_ = true;
    }
    void unlock() noexcept {
      held_ = false;
      mutex_.unlock();
    }

   private:
    posix::RobustMutex& mutex_;
    bool held_ = false;
  };

  /// Sleeps until `ready()`, which is asked with the lock held, or the deadline; false when time is
  /// up and it still does not hold. The lock is held on entry and on return.
  template <class Ready>
  bool wait(Hold& hold, const posix::Deadline& deadline, Ready ready) {
    while (!ready()) {
      if (deadline.expired()) return false;
      asleep_.store(1, std::memory_order_relaxed);
      const std::uint32_t heard = bell_.load(std::memory_order_relaxed);
      hold.unlock();
      posix::futex_wait(bell_, heard, deadline, posix::Scope::process_shared);
      hold.lock();
    }
    return true;
  }

  /// Wakes those who wait, with the lock held, BEFORE the change that they wait for.
  void wake_all() noexcept {
    if (asleep_.load(std::memory_order_relaxed) == 0) return;
    bell_.fetch_add(1, std::memory_order_relaxed);
    posix::futex_wake(bell_, INT_MAX, posix::Scope::process_shared);
    asleep_.store(0, std::memory_order_relaxed);
  }
  void wake(std::size_t) noexcept { wake_all(); }

  /// With the lock held, before the state says that somebody acts: those who wait get to know of
  /// it, to wait for the actor's death as well as for its end.
  void begin_action() {
    actor_.lock(posix::Deadline{forever}, posix::NoRepair{});
    wake_all();
  }
  /// By the actor, without the lock, when the state does not say so any more.
  void end_action() noexcept { actor_.unlock(); }

  /// Waits until the state, which says that somebody acts, does not say so any more, or the
  /// deadline (false). `acting()` is asked with the lock held; if the actor has died, `bury()` is
  /// called with the lock held and must end that state.
  template <class Acting, class Bury>
  bool wait_for_action(Hold& hold, const posix::Deadline& deadline, Acting acting, Bury bury) {
    if (!acting()) return true;
    hold.unlock();
    // The actor holds this from before the state says so until after it does not. So whoever gets
    // it knows that this very action is over, or its actor dead. It must be let go before the lock
    // is taken: who begins an action takes them in the other order.
    const bool over = actor_.lock(deadline, posix::NoRepair{});
    if (over) actor_.unlock();
    hold.lock();
    if (over && acting()) bury();
    return over;
  }

 private:
  posix::RobustMutex mutex_;  // guards all that follows, and the state of the object
  std::atomic<std::uint32_t> bell_{0};
  std::atomic<std::uint32_t> asleep_{0};
  posix::RobustMutex actor_;  // held while somebody acts
};

/// One of those who wait is woken at a time: for what one of them takes. It has a seat, a robust
/// mutex: if it is killed, whenever that is, the kernel hands the seat to the next one, which looks
/// for itself, so that no wake-up is lost with the dead. Those behind it look every now and then:
/// at the seat, as at every robust mutex, and beyond one that was stopped (SIGSTOP) in its seat.
class SeatedMonitor : public SharedMonitor {
 public:
  template <class Ready>
  bool wait(Hold& hold, const posix::Deadline& deadline, Ready ready) {
    while (!ready()) {
      if (deadline.expired()) return false;
      hold.unlock();
      const bool seated =
          seat_.lock(deadline.sooner(posix::RobustMutex::watchdog), posix::NoRepair{});
      hold.lock();
      if (!seated) continue;
      const bool done = SharedMonitor::wait(hold, deadline, ready);
      // The next one sits down, and looks when the lock is released.
      seat_.unlock();
      return done;
    }
    return true;
  }

 private:
  posix::RobustMutex seat_;
};

}  // namespace brood::sync
