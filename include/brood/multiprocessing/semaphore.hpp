// SPDX-License-Identifier: MIT
// Semaphore and BoundedSemaphore: so many at a time. Python counterparts:
// multiprocessing.Semaphore, multiprocessing.BoundedSemaphore.
#pragma once

#include "../sync/semaphore.hpp"
#include "../sync/shared_monitor.hpp"
#include "../threading/sync_calls.hpp"
#include "shared_handle.hpp"

namespace brood::multiprocessing {

/// A counter: acquire() takes 1 from it and waits while it is 0. What a process had acquired when
/// it died is not given back. For the calls see threading::SemaphoreCalls.
class Semaphore
    : public threading::SemaphoreCalls<SharedHandle<sync::Semaphore<sync::SeatedMonitor>>> {
 public:
  using SemaphoreCalls::SemaphoreCalls;
  Semaphore() = default;
  /// For the Serializer: see Reduction.
  Semaphore(serialization::Reader& in, Reduction& reduction) : SemaphoreCalls{in, reduction} {}
};

/// A Semaphore whose release() above the value it started with throws std::invalid_argument and
/// releases nothing.
class BoundedSemaphore : public Semaphore {
 public:
  /// Starts at `value`. Throws std::invalid_argument if that is negative, os::OSError.
  explicit BoundedSemaphore(std::ptrdiff_t value) : Semaphore{value, true} {}
  BoundedSemaphore() : BoundedSemaphore{1} {}
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
