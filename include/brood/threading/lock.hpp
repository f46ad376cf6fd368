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

namespace brood::threading {

/// The calls of everything that can be acquired, under Python's and under the standard library's
/// names. Not used by itself.
template <class Core>
class Acquirable : public SyncHandle<Core> {
 public:
  /// Takes it, waiting for it if it must; false when `limit` is over first. Those who wait get it
  /// in order of arrival, but for a thread that comes along just as it is free.
  bool acquire(Timeout limit = forever) const {
    return this->core().acquire(posix::Deadline{limit});
  }

  void lock() const { acquire(); }
  bool try_lock() const { return acquire(std::chrono::nanoseconds{0}); }

 protected:
  using SyncHandle<Core>::SyncHandle;
  ~Acquirable() = default;
};

using LockCore = sync::Lock<sync::PrivateMonitor>;
using RLockCore = sync::RLock<sync::PrivateMonitor, &Registry::pthread_ident>;

/// A lock that belongs to no thread: any may release it, and who holds it and acquires it again
/// waits. Python: threading.Lock.
class Lock : public Acquirable<LockCore> {
 public:
  Lock() : Acquirable{std::in_place} {}

  /// Lets it go. Throws std::logic_error if it is not held.
  void release() const { core().release(); }
  void unlock() const { release(); }

  bool locked() const { return core().locked(); }

 private:
  friend class Condition;
  explicit Lock(std::nullptr_t) noexcept : Acquirable{nullptr} {}
};

/// A lock that the thread which holds it may acquire again, and must release as often. Python:
/// threading.RLock.
class RLock : public Acquirable<RLockCore> {
 public:
  RLock() : Acquirable{std::in_place} {}

  /// Lets it go once. Throws std::logic_error if the calling thread does not hold it.
  void release() const { core().release(); }
  void unlock() const { release(); }

  /// Whether any thread holds it.
  bool locked() const { return core().locked(); }

 private:
  friend class Condition;
  explicit RLock(std::nullptr_t) noexcept : Acquirable{nullptr} {}
};

}  // namespace brood::threading
