// SPDX-License-Identifier: MIT
// What a Barrier can do, be it one of threads or of processes.
#pragma once

#include "../sync/barrier.hpp"
#include "errors.hpp"

namespace brood::threading {

/// The calls of threading::Barrier and multiprocessing::Barrier, over their Handle for the core.
/// Not used by itself. An Action is called without arguments, and may be empty.
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
