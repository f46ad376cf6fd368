// SPDX-License-Identifier: MIT
// Waiting for descriptors until a Deadline.
#pragma once

#include <poll.h>

#include <cstddef>

#include "clock.hpp"
#include "error.hpp"

namespace brood::posix {

/// poll(2) until something is ready or the deadline has come; EINTR is hidden. Returns how many
/// are ready, 0 when time is up. Throws os::OSError.
inline int poll_until(pollfd* fds, std::size_t count, const Deadline& deadline) {
  for (;;) {
    timespec left{};
    if (!deadline.is_forever()) left = deadline.relative();
    const int ready =
        ::ppoll(fds, static_cast<nfds_t>(count), deadline.is_forever() ? nullptr : &left, nullptr);
    if (ready >= 0) return ready;
    if (errno != EINTR) throw_errno("poll");
  }
}

/// Waits until `fd` is readable (or at its end); false when time is up.
inline bool wait_readable(int fd, const Deadline& deadline) {
  pollfd entry{fd, POLLIN, 0};
  return poll_until(&entry, 1, deadline) > 0;
}

}  // namespace brood::posix
