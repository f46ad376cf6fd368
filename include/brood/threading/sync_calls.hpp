// SPDX-License-Identifier: MIT
// What the synchronisation classes can do, be they of threads or of processes: their calls, over
// the Handle for the algorithm. None of these is used by itself.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "../posix/clock.hpp"
#include "errors.hpp"

namespace brood::threading {

/// The calls of all that can be acquired, under Python's and under the standard library's names.
template <class Handle>
class Acquirable : public Handle {
 public:
  /// Takes it, waiting for it if it must; false when `limit` is over first. Of those who wait the
  /// threads of one process get it in order of arrival; whoever comes along just as it is free may
  /// have it before them. (By whom it is held already: see Lock and RLock.)
  bool acquire(Timeout limit = forever) const {
    return this->core().acquire(posix::Deadline{limit});
  }

  void lock() const { acquire(); }
  bool try_lock() const { return acquire(std::chrono::nanoseconds{0}); }

 protected:
  using Handle::Handle;
  ~Acquirable() = default;
};

/// The calls of Semaphore.
template <class Handle>
class SemaphoreCalls : public Acquirable<Handle> {
 public:
  /// Starts at `value`. Throws std::invalid_argument if that is negative; that of processes
  /// os::OSError too.
  explicit SemaphoreCalls(std::ptrdiff_t value) : SemaphoreCalls{value, false} {}
  /// Starts at 1.
  SemaphoreCalls() : SemaphoreCalls{1, false} {}

  /// Adds `n` and lets as many that wait go on. Throws std::invalid_argument if n is less than 1
  /// (and see BoundedSemaphore).
  void release(std::ptrdiff_t n = 1) const { this->core().release(n); }
  void unlock() const { release(); }

  /// How many acquire() would not wait for, a snapshot.
  std::size_t get_value() const { return this->core().value(); }

 protected:
  using Acquirable<Handle>::Acquirable;
  SemaphoreCalls(std::ptrdiff_t value, bool bounded)
      : Acquirable<Handle>{std::in_place, value, bounded} {}
  ~SemaphoreCalls() = default;
};

/// The calls of Event.
template <class Handle>
class EventCalls : public Handle {
 public:
  /// Not set. That of processes throws os::OSError.
  EventCalls() : Handle{std::in_place} {}

  /// Sets it and lets all who wait go on.
  void set() const { this->core().set(); }
  /// Unsets it.
  void clear() const { this->core().clear(); }
  /// One load.
  bool is_set() const noexcept { return this->core().is_set(); }

  /// Waits until it is set; false when `limit` is over first. True also if clear() follows set()
  /// at once.
  bool wait(Timeout limit = forever) const { return this->core().wait(posix::Deadline{limit}); }

 protected:
  using Handle::Handle;
  ~EventCalls() = default;
};

/// The calls of Condition. `AnyLock` is a handle for either kind of lock.
template <class Handle, class AnyLock>
class ConditionCalls : public Handle {
 public:
  /// Makes an RLock of its own. That of processes throws os::OSError.
  ConditionCalls() : ConditionCalls{typename AnyLock::RLock{}} {}
  /// Over a lock of the caller's, which several may share. That of processes throws os::OSError.
  explicit ConditionCalls(const typename AnyLock::RLock& lock)
      : Handle{std::in_place}, lock_{lock} {}
  explicit ConditionCalls(const typename AnyLock::Lock& lock)
      : Handle{std::in_place}, lock_{lock} {}

  /// The lock's own calls.
  bool acquire(Timeout limit = forever) const { return lock_.acquire(limit); }
  void release() const { lock_.release(); }
  bool locked() const { return lock_.locked(); }
  void lock() const { acquire(); }
  bool try_lock() const { return acquire(std::chrono::nanoseconds{0}); }
  void unlock() const { release(); }

  /// Lets the lock go, however often it is held, waits for a notify and takes it back, without a
  /// limit; false when `limit` was over before the notify. Nothing else wakes it (of processes: see
  /// multiprocessing::Condition). Throws
  /// std::logic_error if the lock is not held; one that belongs to a thread, by the calling one.
  bool wait(Timeout limit = forever) const {
    return this->core().wait(lock_.core(), posix::Deadline{limit});
  }

  /// Waits until `predicate()` holds, which is asked with the lock held; returns what it said last.
  /// Throws what wait() and the predicate throw.
  template <class Predicate>
  requires std::is_invocable_r_v<bool, Predicate&>
  bool wait_for(Predicate predicate, Timeout limit = forever) const {
    const posix::Deadline deadline{limit};
    while (!predicate()) {
      if (!wait(deadline.timeout())) return predicate();
    }
    return true;
  }

  /// Wakes `n` of those who wait, threads of one process in order of arrival, or all. They go on
  /// once they have the lock. Throws std::logic_error as wait() does.
  void notify(std::size_t n = 1) const { this->core().notify(lock_.core(), n); }
  void notify_all() const { notify(static_cast<std::size_t>(-1)); }

 protected:
  const AnyLock& its_lock() const noexcept { return lock_; }

  /// Over a core and a lock that are there, which both are found by `from...`.
  template <class... From>
  requires(sizeof...(From) > 1) explicit ConditionCalls(From&... from)
      : Handle{from...}, lock_{from...} {}
  ~ConditionCalls() = default;

 private:
  AnyLock lock_;
};

/// The calls of Barrier. An Action is called without arguments, and may be empty.
template <class Handle, class Action>
class BarrierCalls : public Handle {
 public:
  /// For `parties` threads or processes. The last to arrive calls `action`, if there is one, before
  /// any goes on. `limit` is that of each wait() without one. Throws std::invalid_argument if
  /// parties is less than 1 or more than 65535; that of processes os::OSError too.
  explicit BarrierCalls(std::ptrdiff_t parties, Action action = {}, Timeout limit = forever)
      : Handle{std::in_place, parties}, action_{std::move(action)}, limit_{limit} {}

  /// Waits until all have arrived; returns 0 to parties - 1, to each another. Throws
  /// threading::BrokenBarrierError if the barrier is broken, or breaks, or is reset meanwhile; it
  /// breaks when the limit of one of them is over. An exception of the action breaks it too, and
  /// comes out of the call that ran it.
  std::size_t wait() const { return wait(limit_); }
  std::size_t wait(Timeout limit) const {
    const auto result = this->core().wait(posix::Deadline{limit}, action_);
    if (!result.passed) throw BrokenBarrierError{};
    return result.index;
  }

  /// As new; those who wait get a BrokenBarrierError.
  void reset() const { this->core().reset(); }

  /// Breaks it: those who wait, and all who come, get a BrokenBarrierError until it is reset.
  void abort() const { this->core().abort(); }

  std::size_t parties() const noexcept { return this->core().parties(); }
  /// How many wait now.
  std::size_t n_waiting() const { return this->core().waiting(); }
  bool broken() const { return this->core().is_broken(); }

 protected:
  /// Over a core that is there, which the Handle finds by `from...`.
  template <class... From>
  requires(sizeof...(From) > 0) explicit BarrierCalls(Action action, Timeout limit, From&... from)
      : Handle{from...}, action_{std::move(action)}, limit_{limit} {}

  const Action& action() const noexcept { return action_; }
  Timeout limit() const noexcept { return limit_; }

  ~BarrierCalls() = default;
  BarrierCalls(const BarrierCalls&) = default;
  BarrierCalls& operator=(const BarrierCalls&) = default;

 private:
  Action action_;  // in the memory of each process
  Timeout limit_;
};

}  // namespace brood::threading
