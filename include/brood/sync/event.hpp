// SPDX-License-Identifier: MIT
// The algorithm of Event.
//
// word          | meaning        | set()                    | clear()
// --------------+----------------+--------------------------+-------------------------------------
// 2n            | not set        | wakes all, then -> 2n+1  | leaves it
// 2n + 1        | set            | leaves it                | -> 2n+2
//
// Who waits goes on when the word is not the one it came with: so it sees a set() whatever a
// clear() does at once after.
#pragma once

#include <atomic>
#include <cstdint>

#include "monitor.hpp"

namespace brood::sync {

template <class Monitor>
class Event {
 public:
  bool is_set() const noexcept { return (word_.load(std::memory_order_acquire) & 1) != 0; }

  void set() {
    const typename Monitor::Hold hold{monitor_};
    if (is_set()) return;  // and nobody waits
    monitor_.wake_all();
    advance();
  }

  void clear() {
    const typename Monitor::Hold hold{monitor_};
    if (is_set()) advance();
  }

  bool wait(const posix::Deadline& deadline) {
    if (is_set()) return true;
    typename Monitor::Hold hold{monitor_};
    const std::uint32_t before = word_.load(std::memory_order_relaxed);
    if ((before & 1) != 0) return true;
    return monitor_.wait(hold, deadline,
                         [&] { return word_.load(std::memory_order_relaxed) != before; });
  }

 private:
  // With the lock held. Release: pairs with is_set().
  void advance() noexcept {
    word_.store(word_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  Monitor monitor_;
  std::atomic<std::uint32_t> word_{0};  // written under the lock
};

}  // namespace brood::sync
