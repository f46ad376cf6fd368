// SPDX-License-Identifier: MIT
// How long a call may wait, and what is thrown when that, or the data, runs out.
//
//     queue.get(500ms);            // any std::chrono::duration is a Timeout
//     process.join(brood::forever);
#pragma once

// libstdc++ keeps durations, clocks and their literals apart from the calendar and its formatting,
// which make <chrono> one of the dearest headers to compile.
#if __has_include(<bits/chrono.h>)
#include <bits/chrono.h>
#else
#include <chrono>
#endif

#include <stdexcept>
#include <string>

namespace brood {

/// An upper limit on how long one call may wait. Converts from any std::chrono::duration: a
/// negative limit (or NaN) is 0, one beyond 292 years is no limit at all. It bounds the whole call,
/// and each call starts its own clock. Python counterpart: the `timeout` argument, in seconds.
class Timeout {
 public:
  /// No limit.
  constexpr Timeout() noexcept = default;

  template <class Rep, class Period>
  constexpr Timeout(std::chrono::duration<Rep, Period> limit) noexcept  // NOLINT: implicit
      : limit_{saturate(limit)} {}

  constexpr bool is_forever() const noexcept { return limit_ == no_limit; }

  /// The limit; the longest representable duration when there is none.
  constexpr std::chrono::nanoseconds duration() const noexcept { return limit_; }

  friend constexpr bool operator==(Timeout, Timeout) noexcept = default;

 private:
  static constexpr std::chrono::nanoseconds no_limit = std::chrono::nanoseconds::max();

  template <class Rep, class Period>
  static constexpr std::chrono::nanoseconds saturate(
      std::chrono::duration<Rep, Period> limit) noexcept {
    // Written so that a NaN ends up as 0.
    if (!(limit.count() > 0)) return std::chrono::nanoseconds{0};
    constexpr double nanoseconds_each = 1e9 * double{Period::num} / double{Period::den};
    if (static_cast<double>(limit.count()) * nanoseconds_each >= 9223372036854775807.0)
      return no_limit;
    return std::chrono::duration_cast<std::chrono::nanoseconds>(limit);
  }

  std::chrono::nanoseconds limit_ = no_limit;
};

inline constexpr Timeout forever{};

/// A wait ran out. Base of every such exception of brood (Python's built-in TimeoutError).
/// The std::runtime_error is a virtual base so that an exception can be a TimeoutError and an
/// error of its module at once and still be caught as a std::exception.
class TimeoutError : public virtual std::runtime_error {
 public:
  explicit TimeoutError(const std::string& what) : std::runtime_error{what} {}
};

/// The other end was closed and everything it sent has been read (Python's EOFError).
class EOFError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace brood
