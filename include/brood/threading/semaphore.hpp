// SPDX-License-Identifier: MIT
// Semaphore and BoundedSemaphore: so many threads at a time. Python counterparts:
// threading.Semaphore, threading.BoundedSemaphore.
#pragma once

#include "../sync/semaphore.hpp"
#include "handle.hpp"
#include "sync_calls.hpp"

namespace brood::threading {

/// A counter: acquire() takes 1 from it and waits while it is 0. See SemaphoreCalls.
class Semaphore : public SemaphoreCalls<SyncHandle<sync::Semaphore<sync::PrivateMonitor>>> {
 public:
  using SemaphoreCalls::SemaphoreCalls;
  Semaphore() = default;
};

/// A Semaphore whose release() above the value it started with throws std::invalid_argument and
/// releases nothing.
class BoundedSemaphore : public Semaphore {
 public:
  /// Starts at `value`. Throws std::invalid_argument if that is negative.
  explicit BoundedSemaphore(std::ptrdiff_t value) : Semaphore{value, true} {}
  BoundedSemaphore() : BoundedSemaphore{1} {}
};

}  // namespace brood::threading
