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

/// A handle for a lock of either kind.
class AnyLock : public OwnedLock {
 public:
  using Lock = multiprocessing::Lock;
  using RLock = multiprocessing::RLock;

  explicit AnyLock(const OwnedLock& lock) : OwnedLock{lock} {}
  AnyLock(serialization::Reader& in, Reduction& reduction) : OwnedLock{in, reduction} {}
  using OwnedLock::core;
};

/// When processes were killed in wait(), a notify() may wake one more than it says: who waits looks
/// at what it waits for, as wait_for() does. It never wakes fewer. For the calls see
/// threading::ConditionCalls.
class Condition : public threading::ConditionCalls<SharedHandle<sync::SharedCondition>, AnyLock> {
 public:
  using ConditionCalls::ConditionCalls;

  /// See Lock.
  bool abandoned() const noexcept { return its_lock().abandoned(); }

  /// For the Serializer: see Reduction.
  Condition(serialization::Reader& in, Reduction& reduction) : ConditionCalls{in, reduction} {}
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    SharedHandle::reduce(out, reduction);
    its_lock().reduce(out, reduction);
  }
};

}  // namespace brood::multiprocessing

template <>
struct brood::serialization::Serializer<brood::multiprocessing::Condition>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Condition> {};
