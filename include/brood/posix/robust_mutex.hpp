// SPDX-License-Identifier: MIT
// A mutex in shared memory that a dying holder hands on (pthread_mutexattr_setrobust(3)).
#pragma once

#include <linux/futex.h>
#include <pthread.h>

#include <cstdint>

#include "clock.hpp"
#include "error.hpp"
#include "process_identity.hpp"
#include "sanitizers.hpp"

namespace brood::posix {

/// Lies in memory that every user maps. All users share one PID namespace, since the kernel knows
/// the holder by its thread id. Brings back the lock, not what it guarded: whoever finds a dead
/// holder repairs that first.
class RobustMutex {
 public:
  /// How often one who waits for it looks again: see lock_until().
  static constexpr std::chrono::nanoseconds watchdog{100'000'000};

  RobustMutex() {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&mutex_, &attributes);
    pthread_mutexattr_destroy(&attributes);
  }
  RobustMutex(const RobustMutex&) = delete;
  RobustMutex& operator=(const RobustMutex&) = delete;

  enum class Attempt { taken, timed_out, already_mine };

  /// What to do when the watchdog finds its holder stopped, by a signal or a debugger. (It does not
  /// where the C library does not say who that is.)
  enum class Stopped { wait, give_up };

  /// Tries to take the lock, until the deadline; a thread that holds it is told so at once. After
  /// the death of a holder `repair()` runs, with the lock held, before the lock counts as sound
  /// again: should the repairer die too, the next one repairs.
  template <class Repair>
  Attempt attempt(const Deadline& deadline, Repair repair, Stopped stopped = Stopped::wait) {
    int error = pthread_mutex_trylock(&mutex_);
    if (error == EBUSY) error = lock_until(deadline, stopped);
    if (error == 0) return Attempt::taken;
    if (error == ETIMEDOUT) return Attempt::timed_out;
    if (error == EDEADLK) return Attempt::already_mine;
    if (error != EOWNERDEAD) throw_os_error(error, "lock a shared mutex");
    repair();
    pthread_mutex_consistent(&mutex_);
    return Attempt::taken;
  }

  /// The same for those who never hold it already; false when the deadline has come, or it has been
  /// given up.
  template <class Repair>
  bool lock(const Deadline& deadline, Repair repair, Stopped stopped = Stopped::wait) {
    return attempt(deadline, repair, stopped) == Attempt::taken;
  }

  /// False, and nothing changes, if the calling thread does not hold it.
  bool unlock() noexcept { return pthread_mutex_unlock(&mutex_) == 0; }

 private:
  // When a holder dies the kernel wakes one waiter. If that one is killed before it has the lock,
  // the kernel wakes nobody in its place (it would, were the word free: handle_futex_death() of
  // Linux), and the others would sleep on a lock that nobody holds. So a waiter looks again now and
  // then: a watchdog for two deaths in a row, not how the lock is passed on.
  int lock_until(const Deadline& deadline, Stopped stopped) noexcept {
    while (!deadline.expired()) {
      const int error = lock_once(deadline.sooner(watchdog));
      if (error != ETIMEDOUT) return error;
      if (stopped == Stopped::give_up && ProcessIdentity{holder() << 32}.is_stopped()) break;
    }
    return ETIMEDOUT;
  }

  // The thread, 0 if there is none. The kernel knows it by the same word (futex(2), "Robust
  // futexes").
  std::uint64_t holder() const noexcept {
#if defined(__GLIBC__)
    const int word = __atomic_load_n(&mutex_.__data.__lock, __ATOMIC_RELAXED);
    return static_cast<std::uint32_t>(word) & FUTEX_TID_MASK;
#else
    return 0;
#endif
  }

  int lock_once(const Deadline& deadline) noexcept {
    // ThreadSanitizer overlooks a lock taken by pthread_mutex_clocklock.
    while (thread_sanitized) {
      const int error = pthread_mutex_trylock(&mutex_);
      if (error != EBUSY) return error;
      if (deadline.expired()) return ETIMEDOUT;
      const timespec nap{0, 1'000'000};
      nanosleep(&nap, nullptr);
    }
    const timespec until = deadline.absolute();
    return pthread_mutex_clocklock(&mutex_, CLOCK_MONOTONIC, &until);
  }

  pthread_mutex_t mutex_;
};

/// Where the holder's death leaves nothing to repair.
struct NoRepair {
  void operator()() const noexcept {}
};

/// Holds a robust mutex for a scope; not if the deadline came first, or it was given up.
class RobustLock {
 public:
  template <class Repair>
  RobustLock(RobustMutex& mutex, const Deadline& deadline, Repair repair,
             RobustMutex::Stopped stopped = RobustMutex::Stopped::wait)
      : mutex_{mutex}, taken_{mutex.lock(deadline, repair, stopped)} {}
  template <class Repair>
  RobustLock(RobustMutex& mutex, Repair repair) : RobustLock{mutex, Deadline{forever}, repair} {}
  ~RobustLock() {
    if (taken_) mutex_.unlock();
  }
  RobustLock(const RobustLock&) = delete;
  RobustLock& operator=(const RobustLock&) = delete;
  explicit operator bool() const noexcept { return taken_; }

 private:
  RobustMutex& mutex_;
  const bool taken_;
};

}  // namespace brood::posix
