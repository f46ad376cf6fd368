// SPDX-License-Identifier: MIT
// What can become of a task in another process.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "errors.hpp"

namespace brood::futures {

/// The worker process that ran the task died. Only this task is concerned: the worker is replaced
/// and the others go on. (CPython breaks the whole pool instead.)
class WorkerCrashed : public BrokenProcessPool {
 public:
  struct Details {
    pid_t pid;
    int returncode;  // -N: killed by signal N
    std::string function;
    std::chrono::nanoseconds elapsed;
    std::size_t max_rss_bytes;
  };
  explicit WorkerCrashed(Details details)
      : BrokenProcessPool{describe(details)}, details_{std::move(details)} {}

  pid_t pid() const noexcept { return details_.pid; }
  /// The code the worker ended with by itself (std::exit in a task), else empty.
  std::optional<int> exitcode() const noexcept {
    return details_.returncode >= 0 ? std::optional{details_.returncode} : std::nullopt;
  }
  /// The signal that killed the worker, else empty.
  std::optional<int> signal() const noexcept {
    return details_.returncode < 0 ? std::optional{-details_.returncode} : std::nullopt;
  }
  /// The type of the callable that ran.
  const std::string& function() const noexcept { return details_.function; }
  /// How long the task had run, up to the notice of the death.
  std::chrono::nanoseconds elapsed() const noexcept { return details_.elapsed; }
  /// The peak memory of the worker over all its tasks.
  std::size_t max_rss_bytes() const noexcept { return details_.max_rss_bytes; }

 private:
  static std::string describe(const Details& details) {
    const bool killed = details.returncode < 0;
    return "worker process " + std::to_string(details.pid) +
           (killed ? " was killed by signal " + std::to_string(-details.returncode)
                   : " ended with code " + std::to_string(details.returncode)) +
           " while it ran " + details.function;
  }

  Details details_;
};

/// The task threw an exception of a type that can't be rebuilt here; what() is its text. See
/// brood::register_exception.
class RemoteError : public std::runtime_error {
 public:
  RemoteError(std::string type_name, pid_t pid, const std::string& what)
      : std::runtime_error{what}, type_name_{std::move(type_name)}, pid_{pid} {}

  /// The type that was thrown, as one writes it in C++.
  const std::string& type_name() const noexcept { return type_name_; }
  /// The worker process that threw it.
  pid_t pid() const noexcept { return pid_; }

 private:
  std::string type_name_;
  pid_t pid_;
};

}  // namespace brood::futures
