// SPDX-License-Identifier: MIT
// The algorithm of Event.
#pragma once

#include <atomic>

#include "monitor.hpp"

namespace brood::sync {

template <class Monitor>
class Event {
 public:
  bool is_set() const noexcept { return set_.load(std::memory_order_acquire); }

  void set() {
    const typename Monitor::Hold hold{monitor_};
    set_.store(true, std::memory_order_release);  // pairs with is_set()
    monitor_.wake_all();
  }

  void clear() {
    const typename Monitor::Hold hold{monitor_};
    set_.store(false, std::memory_order_relaxed);
  }

  // Who waits at a set() is chosen by it, whatever a clear() does at once after.
  bool wait(const posix::Deadline& deadline) {
    if (is_set()) return true;
    typename Monitor::Hold hold{monitor_};
    return is_set() || monitor_.wait_to_be_chosen(hold, deadline) != 0;
  }

 private:
  Monitor monitor_;
  std::atomic<bool> set_{false};  // written under the lock
};

}  // namespace brood::sync
