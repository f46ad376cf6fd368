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

/// The lock of a Condition, whichever it is.
class AnyLock {
 public:
  using Lock = threading::Lock;
  using RLock = threading::RLock;

  explicit AnyLock(const RLock& lock) : rlock_{lock}, lock_{NoObject{}} {}
  explicit AnyLock(const Lock& lock) : rlock_{NoObject{}}, lock_{lock} {}

  bool acquire(Timeout limit) const {
    return is_rlock() ? rlock_.acquire(limit) : lock_.acquire(limit);
  }
  void release() const { is_rlock() ? rlock_.release() : lock_.release(); }
  bool locked() const { return is_rlock() ? rlock_.locked() : lock_.locked(); }

  // What the algorithm of Condition needs.
  const AnyLock& core() const noexcept { return *this; }
  bool may_release() const {
    return is_rlock() ? rlock_.core().may_release() : lock_.core().may_release();
  }
  unsigned release_all() const {
    return is_rlock() ? rlock_.core().release_all() : lock_.core().release_all();
  }
  void reacquire(unsigned count) const {
    is_rlock() ? rlock_.core().reacquire(count) : lock_.core().reacquire(count);
  }

 private:
  bool is_rlock() const noexcept { return lock_.identity() == nullptr; }

  RLock rlock_;  // one of the two
  Lock lock_;
};

/// See ConditionCalls.
class Condition
    : public ConditionCalls<SyncHandle<sync::Condition<sync::PrivateMonitor>>, AnyLock> {
 public:
  using ConditionCalls::ConditionCalls;
};

}  // namespace brood::threading
