// SPDX-License-Identifier: MIT
// The algorithm of Semaphore and BoundedSemaphore.
#pragma once

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
      : value_{check(value, 0, "make a Semaphore")}, bound_{bounded ? value_ : no_bound} {}

  bool acquire(const posix::Deadline& deadline) {
    typename Monitor::Hold hold{monitor_};
    if (value_ == 0 && !monitor_.wait(hold, deadline, [&] { return value_ > 0; })) return false;
    --value_;
    return true;
  }

  void release(std::ptrdiff_t n) {
    const std::size_t count = check(n, 1, "release a Semaphore");
    const typename Monitor::Hold hold{monitor_};
    if (count > bound_ - value_)
      throw std::invalid_argument{"release a BoundedSemaphore: above its first value, " +
                                  std::to_string(bound_)};
    value_ += count;
    monitor_.wake(count);
  }

  std::size_t value() {
    const typename Monitor::Hold hold{monitor_};
    return value_;
  }

 private:
  static std::size_t check(std::ptrdiff_t n, std::ptrdiff_t least, const char* attempt) {
    if (n < least)
      throw std::invalid_argument{std::string{attempt} + ": " + std::to_string(n) +
                                  " is less than " + std::to_string(least)};
    return static_cast<std::size_t>(n);
  }

  Monitor monitor_;
  std::size_t value_;
  const std::size_t bound_;
};

}  // namespace brood::sync
