// SPDX-License-Identifier: MIT
// How long to look again before going to sleep. A thread that sleeps is woken by a system call, and
// on another processor takes some microseconds to come; what is answered sooner than that is best
// looked out for.
//
// The time spent so is bounded: 20 us before a sleep, and by one thread of a Patience at once. It
// follows what it was good for: halved by every look in vain, and when nothing is left of it, the
// next waits sleep at once. A processor that is needed elsewhere, or shared with the one who is to
// answer, so loses next to nothing. There is none where there is but one processor.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>

#include "../posix/clock.hpp"
#include "word_lock.hpp"

namespace brood::sync {

/// Whether this process may use more than one processor, as it was when first asked. (A cgroup may
/// grant it less than the time of two, but in that time they run at once.)
inline bool several_processors() noexcept {
  static const bool several = [] {
    cpu_set_t set;  // too small for the machine: it has several
    return ::sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) > 1;
  }();
  return several;
}

class Patience {
 public:
  explicit Patience(bool several_processors) noexcept : budget_{several_processors ? most : 0} {}

  /// Looks until `ready()`, which is quick and noexcept, or patience is over: whether it is ready.
  template <class Ready>
  bool look(const Ready& ready) noexcept {
    if (ready()) return true;
    const std::uint32_t budget = budget_.load(std::memory_order_relaxed);
    if (budget == 0 || may_rest() || looking_.exchange(true, std::memory_order_relaxed))
      return false;
    const bool found = look_for(ready, budget);
    looking_.store(false, std::memory_order_relaxed);
    // Estimates: written by several threads in whatever order.
    if (found) {
      budget_.store(most, std::memory_order_relaxed);
    } else if (budget > least) {
      budget_.store(budget / 2, std::memory_order_relaxed);
    } else {
      budget_.store(most / 2, std::memory_order_relaxed);
      rest_.store(waits_of_a_rest, std::memory_order_relaxed);
    }
    return found;
  }

  /// In a child of fork(), where whoever looked does not exist.
  void forget() noexcept { looking_.store(false, std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t most = 20'000, least = 3'000;  // nanoseconds
  static constexpr std::uint32_t waits_of_a_rest = 32;

  bool may_rest() noexcept {
    const std::uint32_t rest = rest_.load(std::memory_order_relaxed);
    if (rest != 0) rest_.store(rest - 1, std::memory_order_relaxed);
    return rest != 0;
  }
  template <class Ready>
  static bool look_for(const Ready& ready, std::uint32_t budget) noexcept {
    const posix::Deadline over{Timeout{std::chrono::nanoseconds{budget}}};
    do {
      for (int i = 0; i < 16; ++i) {
        if (ready()) return true;
        pause_spinning();
      }
    } while (!over.expired());
    return ready();
  }

  std::atomic<std::uint32_t> budget_;   // of the next look, in nanoseconds; 0: none ever
  std::atomic<std::uint32_t> rest_{0};  // waits to come that do not look
  std::atomic<bool> looking_{false};
};

}  // namespace brood::sync
