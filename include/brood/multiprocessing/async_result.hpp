// SPDX-License-Identifier: MIT
// The result of a Pool's asynchronous call. Python counterpart: multiprocessing.pool.AsyncResult.
#pragma once

#include "../futures/future.hpp"
#include "../futures/wait.hpp"
#include "errors.hpp"

namespace brood::multiprocessing {

/// A handle: copies name the same result. All calls may be made from several threads at once.
template <class T>
class AsyncResult {
 public:
  explicit AsyncResult(futures::Future<T> future) noexcept : future_{std::move(future)} {}

  /// Waits for the result. Throws what the call threw, multiprocessing::TimeoutError when time is
  /// up first, and futures::CancelledError or futures::BrokenProcessPool if the pool was terminated
  /// before it could be had (Python's never returns then).
  T get(Timeout timeout = forever) const& {
    expect(timeout);
    return future_.result();
  }
  /// The same for one that is given up: the result is moved out if nobody else has a handle.
  T get(Timeout timeout = forever) && {
    expect(timeout);
    return std::move(future_).result();
  }

  /// Waits until the result can be had; false when time is up first.
  bool wait(Timeout timeout = forever) const {
    return future_.state()->wait(posix::Deadline{timeout});
  }

  bool ready() const noexcept { return future_.done(); }

  /// Whether the call did not throw. Throws std::invalid_argument when the result is not ready.
  bool successful() const {
    if (!ready()) throw std::invalid_argument{"successful: the result of the pool is not ready"};
    return !future_.cancelled() && future_.exception() == nullptr;
  }

 private:
  void expect(Timeout timeout) const {
    if (!wait(timeout)) throw TimeoutError{"get the result of a pool: it was not there in time"};
  }

  futures::Future<T> future_;
};

}  // namespace brood::multiprocessing
