// SPDX-License-Identifier: MIT
// futex(2): sleep while a 32-bit word has a value, wake those who sleep on it.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

#include "clock.hpp"
#include "error.hpp"

namespace brood::posix {

/// Where the word lies: in this process alone, or in memory that several processes map.
enum class Scope : bool { process_private, process_shared };

/// Sleeps while `word` is `expected`, until a wake, a signal, a spurious wake-up or the deadline.
/// False only when the deadline has come; the caller looks at its condition again in any case.
inline bool futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                       const Deadline& deadline, Scope scope = Scope::process_private) noexcept {
  // FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time, so EINTR does not lengthen the wait.
  const int operation =
      FUTEX_WAIT_BITSET | (scope == Scope::process_private ? FUTEX_PRIVATE_FLAG : 0);
  timespec until{};
  if (!deadline.is_forever()) until = deadline.absolute();
  const long result =
      ::syscall(SYS_futex, &word, operation, expected, deadline.is_forever() ? nullptr : &until,
                nullptr, FUTEX_BITSET_MATCH_ANY);
  return result == 0 || errno != ETIMEDOUT;
}

/// Wakes up to `count` sleepers; returns how many were woken.
inline int futex_wake(const std::atomic<std::uint32_t>& word, int count = INT_MAX,
                      Scope scope = Scope::process_private) noexcept {
  const int operation = FUTEX_WAKE | (scope == Scope::process_private ? FUTEX_PRIVATE_FLAG : 0);
  const long woken = ::syscall(SYS_futex, &word, operation, count, nullptr, nullptr, 0);
  return woken < 0 ? 0 : static_cast<int>(woken);
}

}  // namespace brood::posix
