// SPDX-License-Identifier: MIT
// What the futures throw themselves. What a task throws comes back as it was thrown. Python
// counterparts: the exceptions of these names in concurrent.futures and its submodules.
#pragma once

#include <stdexcept>

#include "../timeout.hpp"

namespace brood::futures {

/// The future was cancelled, so it has no result.
class CancelledError : public std::runtime_error {
 public:
  CancelledError() : std::runtime_error{"the future was cancelled"} {}
  using std::runtime_error::runtime_error;
};

/// A result was not there in time. The same class as brood::TimeoutError, as in Python, so a
/// TimeoutError that a task throws is caught by the same handler.
using brood::TimeoutError;

/// set_result, set_exception or set_running_or_notify_cancel on a future in the wrong state.
class InvalidStateError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// The executor can no longer run anything.
class BrokenExecutor : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The initializer of a thread pool failed.
class BrokenThreadPool : public BrokenExecutor {
 public:
  using BrokenExecutor::BrokenExecutor;
};

/// A worker of a process pool ended in the middle of its work (see WorkerCrashed, which is one), or
/// the pool as a whole is of no use any more: its initializer threw, its fork server died, or it
/// can have no workers.
class BrokenProcessPool : public BrokenExecutor {
 public:
  using BrokenExecutor::BrokenExecutor;
};

}  // namespace brood::futures
