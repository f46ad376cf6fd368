// SPDX-License-Identifier: MIT
// Condition: waiting for what a lock guards. Python counterpart: multiprocessing.Condition.
//
//     mp::Condition changed;  // with an RLock of its own
//     {
//       const std::scoped_lock held(changed);
//       changed.wait_for([&] { return dishes.get() > 0; });
//     }
#pragma once

#include "../sync/shared_condition.hpp"
#include "lock.hpp"

namespace brood::multiprocessing {

/// When processes were killed in wait(), a notify() may wake one more than it says: who waits looks
/// at what it waits for, as wait_for() does. It never wakes fewer.
class Condition : public SharedHandle<sync::SharedCondition> {
 public:
  /// Makes an RLock of its own. Throws os::OSError.
  Condition() : Condition{RLock{}} {}
  /// Over a lock of the caller's, which several may share.
  explicit Condition(const RLock& lock) : Condition{static_cast<const OwnedLock&>(lock)} {}
  explicit Condition(const Lock& lock) : Condition{static_cast<const OwnedLock&>(lock)} {}

  /// For the Serializer: see Reduction.
  Condition(serialization::Reader& in, Reduction& reduction)
      : SharedHandle{in, reduction}, lock_{in, reduction} {}
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    SharedHandle::reduce(out, reduction);
    lock_.reduce(out, reduction);
  }

  /// The lock's own calls.
  bool acquire(Timeout limit = forever) const { return lock_.acquire(limit); }
  void release() const { lock_.release(); }
  void lock() const { lock_.lock(); }
  bool try_lock() const { return lock_.try_lock(); }
  void unlock() const { lock_.unlock(); }
  bool locked() const { return lock_.locked(); }
  bool abandoned() const noexcept { return lock_.abandoned(); }

  /// Lets the lock go, however often it is held, waits for a notify and takes it back, without a
  /// limit; false when `limit` was over before the notify. Throws std::logic_error if the lock is
  /// not held by the calling thread.
  bool wait(Timeout limit = forever) const {
    return core().wait(lock_.core(), posix::Deadline{limit});
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

  /// Wakes `n` of those who wait, or all. They go on once they have the lock. Throws
  /// std::logic_error if the lock is not held by the calling thread.
  void notify(std::size_t n = 1) const { core().notify(lock_.core(), n); }
  void notify_all() const { notify(static_cast<std::size_t>(-1)); }

 private:
  // A handle for either kind.
  class AnyLock : public OwnedLock {
   public:
    explicit AnyLock(const OwnedLock& lock) : OwnedLock{lock} {}
    AnyLock(serialization::Reader& in, Reduction& reduction) : OwnedLock{in, reduction} {}
    using OwnedLock::core;
  };

  explicit Condition(const OwnedLock& lock) : SharedHandle{std::in_place}, lock_{lock} {}

  AnyLock lock_;
};

}  // namespace brood::multiprocessing

template <>
struct brood::serialization::Serializer<brood::multiprocessing::Condition>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Condition> {};
