// SPDX-License-Identifier: MIT
// Lock and RLock: one thread of one process at a time. Python counterparts: multiprocessing.Lock,
// multiprocessing.RLock.
//
//     mp::Lock lock;
//     mp::Process p([lock] {
//       const std::scoped_lock held(lock);
//       if (lock.abandoned()) repair();  // its last holder died in the midst of something
//       ...
//     });
#pragma once

#include "../sync/owned_lock.hpp"
#include "../threading/sync_calls.hpp"
#include "shared_handle.hpp"

namespace brood::multiprocessing {

/// What Lock and RLock have in common, under Python's and under the standard library's names. It
/// belongs to the thread that acquired it. When that thread or its process dies, the next one gets
/// it.
class OwnedLock : public threading::Acquirable<SharedHandle<sync::OwnedLock>> {
 public:
  /// Lets it go (once). Throws std::logic_error if the calling thread does not hold it. (Python
  /// lets any process release a Lock.)
  void release() const { core().release(); }

  void unlock() const { release(); }

  /// Whether a living thread of any process holds it, a snapshot.
  bool locked() const { return core().locked(); }

  /// Whether the present holder got it from one that died, or that dropped its last handle, while
  /// it held it: what the lock guards may be half done. Python: a lock is lost with its holder.
  bool abandoned() const noexcept { return core().abandoned(); }

  /// Whether the calling thread holds it.
  bool is_mine() const noexcept { return core().is_mine(); }
  /// The kernel's number of the thread that holds it, or held it when it died; 0: it is free. And
  /// how often that one has it. Snapshots.
  pid_t native_owner() const noexcept { return core().owner(); }
  std::size_t depth() const noexcept { return core().depth(); }

 protected:
  explicit OwnedLock(sync::OwnedLock::Again again) : Acquirable{std::in_place, again} {}
  OwnedLock(serialization::Reader& in, Reduction& reduction) : Acquirable{in, reduction} {}
  ~OwnedLock() = default;
};

/// A lock that the thread which holds it can't have again: with a limit it waits in vain, without
/// one it gets a std::logic_error, as no other could ever release it.
class Lock : public OwnedLock {
 public:
  /// Throws os::OSError, as when memory or descriptors have run out.
  Lock() : OwnedLock{sync::OwnedLock::Again::refused} {}
  /// For the Serializer: see Reduction.
  Lock(serialization::Reader& in, Reduction& reduction) : OwnedLock{in, reduction} {}
};

/// A lock that the thread which holds it may acquire again, and must release as often.
class RLock : public OwnedLock {
 public:
  /// Throws os::OSError.
  RLock() : OwnedLock{sync::OwnedLock::Again::counted} {}
  /// For the Serializer: see Reduction.
  RLock(serialization::Reader& in, Reduction& reduction) : OwnedLock{in, reduction} {}
};

}  // namespace brood::multiprocessing

template <>
struct brood::serialization::Serializer<brood::multiprocessing::Lock>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Lock> {};

template <>
struct brood::serialization::Serializer<brood::multiprocessing::RLock>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::RLock> {};
