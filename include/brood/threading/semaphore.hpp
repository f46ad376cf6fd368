// SPDX-License-Identifier: MIT
// Semaphore and BoundedSemaphore: so many threads at a time. Python counterparts:
// threading.Semaphore, threading.BoundedSemaphore.
#pragma once

#include "../sync/semaphore.hpp"
#include "lock.hpp"

namespace brood::threading {

using SemaphoreCore = sync::Semaphore<sync::PrivateMonitor>;

/// A counter: acquire() takes 1 from it and waits while it is 0.
class Semaphore : public Acquirable<SemaphoreCore> {
 public:
  /// Starts at `value`. Throws std::invalid_argument if that is negative.
  explicit Semaphore(std::ptrdiff_t value = 1) : Semaphore{value, false} {}

  /// Adds `n` and lets as many waiting threads go on. Throws std::invalid_argument if n is less
  /// than 1 (and see BoundedSemaphore).
  void release(std::ptrdiff_t n = 1) const { core().release(n); }
  void unlock() const { release(); }

  /// How many acquire() would not wait for, a snapshot.
  std::size_t get_value() const { return core().value(); }

 protected:
  Semaphore(std::ptrdiff_t value, bool bounded) : Acquirable{std::in_place, value, bounded} {}
};

/// A Semaphore whose release() above the value it started with throws std::invalid_argument and
/// releases nothing.
class BoundedSemaphore : public Semaphore {
 public:
  explicit BoundedSemaphore(std::ptrdiff_t value = 1) : Semaphore{value, true} {}
};

}  // namespace brood::threading
