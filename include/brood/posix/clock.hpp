// SPDX-License-Identifier: MIT
// A Timeout becomes a Deadline once, at the entry of a call; every wait then asks what is left.
#pragma once

#include <cstdint>
#include <ctime>

#include "../timeout.hpp"

namespace brood::posix {

class Deadline {
 public:
  using clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC with libstdc++

  explicit Deadline(Timeout limit) noexcept {
    if (limit.is_forever()) return;
    const std::int64_t start = now();
    if (limit.duration().count() < never - start) at_ = start + limit.duration().count();
  }

  bool is_forever() const noexcept { return at_ == never; }

  /// What is left, never negative; the longest duration when there is no limit.
  std::chrono::nanoseconds left() const noexcept {
    if (is_forever()) return std::chrono::nanoseconds::max();
    const std::int64_t left = at_ - now();
    return std::chrono::nanoseconds{left > 0 ? left : 0};
  }

  bool expired() const noexcept { return !is_forever() && now() >= at_; }

  /// What is left, to hand on to another bounded call.
  Timeout timeout() const noexcept { return is_forever() ? forever : Timeout{left()}; }

  /// This one, or one that is `limit` from now if that comes first.
  Deadline sooner(std::chrono::nanoseconds limit) const noexcept {
    return left() < limit ? *this : Deadline{Timeout{limit}};
  }

  /// The moment itself, for calls that take an absolute CLOCK_MONOTONIC time.
  timespec absolute() const noexcept { return to_timespec(at_); }

  /// What is left, for calls that take a relative time.
  timespec relative() const noexcept { return to_timespec(left().count()); }

 private:
  static constexpr std::int64_t second = 1'000'000'000;
  static constexpr std::int64_t never = INT64_MAX;

  // Nanoseconds of CLOCK_MONOTONIC; plain numbers, since <chrono>'s arithmetic is slow to compile.
  static std::int64_t now() noexcept {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return std::int64_t{time.tv_sec} * second + time.tv_nsec;
  }

  static timespec to_timespec(std::int64_t nanoseconds) noexcept {
    timespec result{};
    result.tv_sec = static_cast<time_t>(nanoseconds / second);
    result.tv_nsec = static_cast<long>(nanoseconds % second);
    return result;
  }

  std::int64_t at_ = never;
};

}  // namespace brood::posix
