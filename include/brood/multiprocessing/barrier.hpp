// SPDX-License-Identifier: MIT
// Barrier: processes that wait for each other. Python counterpart: multiprocessing.Barrier.
#pragma once

#include "../function.hpp"
#include "../sync/barrier.hpp"
#include "../sync/shared_monitor.hpp"
#include "../threading/errors.hpp"
#include "shared_handle.hpp"

namespace brood::multiprocessing {

/// One that dies while it waits has arrived: the others pass without it. One that dies while it
/// runs the action breaks the barrier.
class Barrier : public SharedHandle<sync::Barrier<sync::SharedMonitor>> {
 public:
  /// For `parties` threads or processes. The last to arrive calls `action`, if there is one, before
  /// any goes on. `limit` is that of each wait() without one. Throws std::invalid_argument if
  /// parties is less than 1 or more than 65535, os::OSError.
  explicit Barrier(std::ptrdiff_t parties, Function<void()> action = {}, Timeout limit = forever)
      : SharedHandle{std::in_place, parties}, action_{std::move(action)}, limit_{limit} {}

  /// Waits until all have arrived; returns 0 to parties - 1, to each another. Throws
  /// threading::BrokenBarrierError if the barrier is broken, or breaks, or is reset meanwhile; it
  /// breaks when the limit of one of them is over. An exception of the action breaks it too, and
  /// comes out of the call that ran it.
  std::size_t wait() const { return wait(limit_); }
  std::size_t wait(Timeout limit) const {
    const auto result = core().wait(posix::Deadline{limit}, action_);
    if (!result.passed) throw threading::BrokenBarrierError{};
    return result.index;
  }

  /// As new; those who wait get a BrokenBarrierError.
  void reset() const { core().reset(); }

  /// Breaks it: those who wait, and all who come, get a BrokenBarrierError until it is reset.
  void abort() const { core().abort(); }

  std::size_t parties() const noexcept { return core().parties(); }
  /// How many wait now.
  std::size_t n_waiting() const { return core().waiting(); }
  bool broken() const { return core().is_broken(); }

 private:
  Function<void()> action_;  // in the memory of each process
  Timeout limit_;
};

}  // namespace brood::multiprocessing
