// SPDX-License-Identifier: MIT
#pragma once

#include <time.h>

#include <brood/posix/clock.hpp>
#include <brood/timeout.hpp>

namespace support {

// How long a test waits: long enough that it is never up in a test that passes.
inline constexpr brood::Timeout patience{std::chrono::seconds{30}};

// Waits for what the kernel or another process does a moment later, and tells nobody of: whether
// the condition comes to hold.
template <class Condition>
bool eventually(Condition condition) {
  for (const brood::posix::Deadline deadline{patience}; !condition();) {
    if (deadline.expired()) return condition();
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
  return true;
}

}  // namespace support
