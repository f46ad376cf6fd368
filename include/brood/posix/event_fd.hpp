// SPDX-License-Identifier: MIT
// A descriptor that is readable or not, as its users say (eventfd(2)).
#pragma once

#include <sys/eventfd.h>

#include <cstdint>

#include "fd.hpp"

namespace brood::posix {

class EventFd {
 public:
  EventFd() : fd_{own_new(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "make an eventfd")} {}
  /// That of another process.
  explicit EventFd(unique_fd fd) noexcept : fd_{std::move(fd)} {}

  int get() const noexcept { return fd_.get(); }

  /// Makes it readable. Async-signal-safe.
  void set() const noexcept {
    const std::uint64_t one = 1;
    write_some(fd_.get(), &one, sizeof one);  // EAGAIN: it is as readable as can be
  }
  void clear() const noexcept {
    std::uint64_t value;
    read_some(fd_.get(), &value, sizeof value);
  }

 private:
  unique_fd fd_;
};

}  // namespace brood::posix
