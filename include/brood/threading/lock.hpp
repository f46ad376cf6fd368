// SPDX-License-Identifier: MIT
// Lock and RLock: one thread at a time. Python counterparts: threading.Lock, threading.RLock.
//
//     threading::Lock lock;
//     {
//       const std::scoped_lock held(lock);
//       ...
//     }
//     if (lock.acquire(500ms)) { ...; lock.release(); }
#pragma once

#include "../sync/lock.hpp"
#include "handle.hpp"
#include "registry.hpp"
#include "sync_calls.hpp"

namespace brood::threading {

/// A lock that belongs to no thread: any may release it, and who holds it and acquires it again
/// waits. Python: threading.Lock.
class Lock : public Acquirable<SyncHandle<sync::Lock<sync::PrivateMonitor>>> {
 public:
  Lock() : Acquirable{std::in_place} {}

  /// Lets it go. Throws std::logic_error if it is not held.
  void release() const { core().release(); }
  void unlock() const { release(); }

  bool locked() const { return core().locked(); }

 private:
  friend class AnyLock;
  explicit Lock(NoObject none) noexcept : Acquirable{none} {}
};

/// A lock that the thread which holds it may acquire again, and must release as often. Python:
/// threading.RLock.
class RLock
    : public Acquirable<SyncHandle<sync::RLock<sync::PrivateMonitor, &Registry::pthread_ident>>> {
 public:
  RLock() : Acquirable{std::in_place} {}

  /// Lets it go once. Throws std::logic_error if the calling thread does not hold it.
  void release() const { core().release(); }
  void unlock() const { release(); }

  /// Whether any thread holds it.
  bool locked() const { return core().locked(); }

 private:
  friend class AnyLock;
  explicit RLock(NoObject none) noexcept : Acquirable{none} {}
};

}  // namespace brood::threading
