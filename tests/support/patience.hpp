// SPDX-License-Identifier: MIT
//
// How long tests wait, on a machine that may have much else to do.
#pragma once

#include <sched.h>
#include <time.h>

#include <atomic>
#include <brood/posix/clock.hpp>
#include <brood/timeout.hpp>

namespace support {

// How long a test waits: long enough that it is never up in a test that passes.
inline constexpr brood::Timeout patience{std::chrono::seconds{60}};

// Short enough to be waited for.
inline constexpr brood::Timeout moment{std::chrono::milliseconds{10}};

// What a child of a test gives to alarm(2), so that it does not outlive a test that hangs. Longer
// than any test takes.
inline constexpr unsigned last_alarm = 300;

// Waits until another thread or process has brought a counter so far.
template <class T>
void await(const std::atomic<T>& counter, T value) {
  while (counter.load() < value) ::sched_yield();
}

// Waits for what the kernel or another process does a moment later and tells nobody: whether the
// condition comes to hold.
template <class Condition>
bool eventually(Condition condition) {
  for (const brood::posix::Deadline deadline{patience}; !condition();) {
    if (deadline.expired()) return condition();
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
  return true;
}

// For what must happen within a limit while something else must not: a short limit may be too short
// for a busy machine. Whether `attempt(limit)` is true for one of longer and longer limits.
template <class Attempt>
bool with_some_limit(std::chrono::milliseconds first, Attempt attempt) {
  for (auto limit = first; limit <= std::chrono::seconds{60}; limit *= 4)
    if (attempt(limit)) return true;
  return false;
}

}  // namespace support
