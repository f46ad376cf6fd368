// SPDX-License-Identifier: MIT
// The algorithms of Lock and RLock.
#pragma once

#include <stdexcept>

#include "monitor.hpp"

namespace brood::sync {

/// Held by nobody in particular: whoever likes may release it.
template <class Monitor>
class Lock {
 public:
  bool acquire(const posix::Deadline& deadline) {
    typename Monitor::Hold hold{monitor_};
    if (held_ && !monitor_.wait(hold, deadline, [&] { return !held_; })) return false;
    held_ = true;
    return true;
  }

  void release() {
    typename Monitor::Hold hold{monitor_};
    if (!held_) throw std::logic_error{"release a Lock: it is not held"};
    held_ = false;
    const auto next = monitor_.choose_one();
    hold.unlock();
    next.wake();
  }

  bool locked() {
    const typename Monitor::Hold hold{monitor_};
    return held_;
  }

  // What Condition needs.
  bool may_release() { return locked(); }
  unsigned release_all() {
    release();
    return 1;
  }
  void reacquire(unsigned) { acquire(posix::Deadline{forever}); }

 private:
  Monitor monitor_;
  bool held_ = false;
};

/// Held by one thread, as often as it likes. `Self` gives that thread's number, never 0.
template <class Monitor, std::size_t (*Self)() noexcept>
class RLock {
 public:
  bool acquire(const posix::Deadline& deadline) { return acquire(deadline, 1); }

  void release() { release(1); }

  bool locked() {
    const typename Monitor::Hold hold{monitor_};
    return owner_ != 0;
  }

  // What Condition needs.
  bool may_release() {
    const typename Monitor::Hold hold{monitor_};
    return owner_ == Self();
  }
  unsigned release_all() { return release(0); }
  void reacquire(unsigned count) { acquire(posix::Deadline{forever}, count); }

 private:
  bool acquire(const posix::Deadline& deadline, unsigned count) {
    const std::size_t self = Self();
    typename Monitor::Hold hold{monitor_};
    if (owner_ == self) {
      count_ += count;
      return true;
    }
    if (owner_ != 0 && !monitor_.wait(hold, deadline, [&] { return owner_ == 0; })) return false;
    owner_ = self;
    count_ = count;
    return true;
  }

  // As often as `times`, or wholly if that is 0; returns how often it was held.
  unsigned release(unsigned times) {
    typename Monitor::Hold hold{monitor_};
    if (owner_ != Self()) throw std::logic_error{"release an RLock: this thread does not hold it"};
    const unsigned held = count_;
    count_ = times == 0 ? 0 : count_ - times;
    if (count_ > 0) return held;
    owner_ = 0;
    const auto next = monitor_.choose_one();
    hold.unlock();
    next.wake();
    return held;
  }

  Monitor monitor_;
  std::size_t owner_ = 0;
  unsigned count_ = 0;
};

}  // namespace brood::sync
