// SPDX-License-Identifier: MIT
// The algorithm of Condition, over any lock that has may_release(), release_all() and reacquire().
#pragma once

#include <cstddef>
#include <stdexcept>

#include "monitor.hpp"

namespace brood::sync {

template <class Monitor>
class Condition {
 public:
  /// Lets `lock` go, wholly, waits for a notify and takes it back. False when time was up first.
  /// There are no other wake-ups.
  template <class Lock>
  bool wait(Lock& lock, const posix::Deadline& deadline) {
    require(lock, "wait for a Condition: its lock is not held");
    unsigned count = 0;
    bool notified = false;
    {
      typename Monitor::Hold hold{monitor_};
      notified =
          monitor_.wait_to_be_chosen(hold, deadline, [&] { count = lock.release_all(); }) != 0;
    }
    lock.reacquire(count);
    return notified;
  }

  /// Wakes up to `count`, in order of arrival.
  template <class Lock>
  void notify(Lock& lock, std::size_t count) {
    require(lock, "notify a Condition: its lock is not held");
    const typename Monitor::Hold hold{monitor_};
    monitor_.wake(count);
  }

 private:
  template <class Lock>
  static void require(Lock& lock, const char* otherwise) {
    if (!lock.may_release()) throw std::logic_error{otherwise};
  }

  Monitor monitor_;
};

}  // namespace brood::sync
