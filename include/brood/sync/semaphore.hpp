// SPDX-License-Identifier: MIT
// The algorithm of Semaphore and BoundedSemaphore. Each change of the value is one store, and comes
// after the wake-up for it, as a monitor of several processes wants it.
#pragma once

#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <string>

#include "monitor.hpp"

namespace brood::sync {

template <class Monitor>
class Semaphore {
 public:
  static constexpr std::size_t no_bound = static_cast<std::size_t>(-1);

  Semaphore(std::ptrdiff_t value, bool bounded)
      : value_{check(value, 0, "make a Semaphore")}, bound_{bounded ? now() : no_bound} {}

  bool acquire(const posix::Deadline& deadline) {
    typename Monitor::Hold hold{monitor_};
    if (now() == 0 && !monitor_.wait(hold, deadline, [&] { return now() > 0; })) return false;
    value_.store(now() - 1, std::memory_order_relaxed);
    return true;
  }

  void release(std::ptrdiff_t n) {
    const std::size_t count = check(n, 1, "release a Semaphore");
    const typename Monitor::Hold hold{monitor_};
    if (count > bound_ - now())
      throw std::invalid_argument{"release a BoundedSemaphore: above its first value, " +
                                  std::to_string(bound_)};
    monitor_.wake(count);
    value_.store(now() + count, std::memory_order_relaxed);
  }

  std::size_t value() {
    const typename Monitor::Hold hold{monitor_};
    return now();
  }
  std::size_t bound() const noexcept { return bound_; }

 private:
  static std::size_t check(std::ptrdiff_t n, std::ptrdiff_t least, const char* attempt) {
    if (n < least)
      throw std::invalid_argument{std::string{attempt} + ": " + std::to_string(n) +
                                  " is less than " + std::to_string(least)};
    return static_cast<std::size_t>(n);
  }

  std::size_t now() const noexcept { return value_.load(std::memory_order_relaxed); }

  Monitor monitor_;
  std::atomic<std::size_t> value_;  // guarded by the monitor
  const std::size_t bound_;
};

}  // namespace brood::sync
