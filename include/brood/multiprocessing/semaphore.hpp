// SPDX-License-Identifier: MIT
// Semaphore and BoundedSemaphore: so many at a time. Python counterparts:
// multiprocessing.Semaphore, multiprocessing.BoundedSemaphore.
#pragma once

#include "../sync/semaphore.hpp"
#include "../sync/shared_monitor.hpp"
#include "shared_handle.hpp"

namespace brood::multiprocessing {

/// A counter: acquire() takes 1 from it and waits while it is 0. What a process had acquired when
/// it died is not given back.
class Semaphore : public SharedHandle<sync::Semaphore<sync::SeatedMonitor>> {
 public:
  /// Starts at `value`. Throws std::invalid_argument if that is negative, os::OSError.
  explicit Semaphore(std::ptrdiff_t value = 1) : Semaphore{value, false} {}
  /// For the Serializer: see Reduction.
  Semaphore(serialization::Reader& in, Reduction& reduction) : SharedHandle{in, reduction} {}

  /// Takes 1, waiting for it if it must; false when `limit` is over first. Whoever comes along just
  /// as it is released may have it before those who wait.
  bool acquire(Timeout limit = forever) const { return core().acquire(posix::Deadline{limit}); }

  /// Adds `n` and lets as many that wait go on. Throws std::invalid_argument if n is less than 1
  /// (and see BoundedSemaphore).
  void release(std::ptrdiff_t n = 1) const { core().release(n); }

  void lock() const { acquire(); }
  bool try_lock() const { return acquire(std::chrono::nanoseconds{0}); }
  void unlock() const { release(); }

  /// How many acquire() would not wait for, a snapshot.
  std::size_t get_value() const { return core().value(); }

 protected:
  Semaphore(std::ptrdiff_t value, bool bounded) : SharedHandle{std::in_place, value, bounded} {}
};

/// A Semaphore whose release() above the value it started with throws std::invalid_argument and
/// releases nothing.
class BoundedSemaphore : public Semaphore {
 public:
  explicit BoundedSemaphore(std::ptrdiff_t value = 1) : Semaphore{value, true} {}
  /// For the Serializer: see Reduction.
  BoundedSemaphore(serialization::Reader& in, Reduction& reduction) : Semaphore{in, reduction} {}

  /// The value it started with.
  std::size_t maxvalue() const noexcept { return core().bound(); }
};

}  // namespace brood::multiprocessing

template <>
struct brood::serialization::Serializer<brood::multiprocessing::Semaphore>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Semaphore> {};

template <>
struct brood::serialization::Serializer<brood::multiprocessing::BoundedSemaphore>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::BoundedSemaphore> {};
