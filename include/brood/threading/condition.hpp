// SPDX-License-Identifier: MIT
// Condition: waiting for what a lock guards. Python counterpart: threading.Condition.
//
//     threading::Condition changed;  // with an RLock of its own
//     {
//       const std::scoped_lock held(changed);
//       changed.wait_for([&] { return !dishes.empty(); });
//     }
#pragma once

#include "../sync/condition.hpp"
#include "lock.hpp"

namespace brood::threading {

class Condition : public SyncHandle<sync::Condition<sync::PrivateMonitor>> {
  // Calls f with the core of the lock, whichever it is.
  template <class F>
  decltype(auto) on_lock(F f) const {
    return lock_.identity() == nullptr ? f(rlock_.core()) : f(lock_.core());
  }

 public:
  /// Makes an RLock of its own.
  Condition() : Condition{RLock{}} {}
  /// Over a lock of the caller's, which several may share.
  explicit Condition(const RLock& lock) : SyncHandle{std::in_place}, rlock_{lock}, lock_{nullptr} {}
  explicit Condition(const Lock& lock) : SyncHandle{std::in_place}, rlock_{nullptr}, lock_{lock} {}

  /// The lock's own calls.
  bool acquire(Timeout limit = forever) const {
    return on_lock([&](auto& lock) { return lock.acquire(posix::Deadline{limit}); });
  }
  void release() const {
    on_lock([](auto& lock) { lock.release(); });
  }
  bool locked() const {
    return on_lock([](auto& lock) { return lock.locked(); });
  }
  void lock() const { acquire(); }
  bool try_lock() const { return acquire(std::chrono::nanoseconds{0}); }
  void unlock() const { release(); }

  /// Lets the lock go, however often it is held, waits for a notify and takes it back, without a
  /// limit; false when `limit` was over before the notify. Nothing else wakes it. Throws
  /// std::logic_error if the lock is not held.
  bool wait(Timeout limit = forever) const {
    const posix::Deadline deadline{limit};
    return on_lock([&](auto& lock) { return core().wait(lock, deadline); });
  }

  /// Waits until `predicate()` holds, which is asked with the lock held; returns what it said last.
  template <class Predicate>
  requires std::is_invocable_r_v<bool, Predicate&>
  bool wait_for(Predicate predicate, Timeout limit = forever) const {
    const posix::Deadline deadline{limit};
    while (!predicate()) {
      if (!wait(deadline.timeout())) return predicate();
    }
    return true;
  }

  /// Wakes `n` of those who wait, in order of arrival, or all. They go on once they have the lock.
  /// Throws std::logic_error if the lock is not held.
  void notify(std::size_t n = 1) const {
    on_lock([&](auto& lock) { core().notify(lock, n); });
  }
  void notify_all() const { notify(static_cast<std::size_t>(-1)); }

 private:
  RLock rlock_;  // one of the two
  Lock lock_;
};

}  // namespace brood::threading
