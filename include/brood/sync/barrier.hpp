// SPDX-License-Identifier: MIT
// The algorithm of Barrier.
//
// state   | meaning                               | who arrives          | left by
// --------+---------------------------------------+----------------------+-------------------------
// filling | arrived_ of parties_ wait             | waits; the last acts | the last one; a timeout
// acting  | all are here, the last runs `action`  | waits to enter       | the end of the action
// broken  | somebody gave up, failed or aborted   | is refused           | reset()
//
// Those who have arrived wait to be chosen, and the message tells them how it went. One whose time
// is up while the action runs waits for its end: all are here. abort() and reset() do so too.
#pragma once

#include <cstddef>

#include "monitor.hpp"

namespace brood::sync {

template <class Monitor>
class Barrier {
 public:
  explicit Barrier(std::size_t parties) : parties_{parties} {}

  struct Result {
    bool passed;
    std::size_t index;
  };

  /// Waits for the others; the last one calls `action` first, with no lock held, and if that throws
  /// the barrier is broken and the exception passes on.
  template <class Action>
  Result wait(const posix::Deadline& deadline, Action action) {
    typename Monitor::Hold hold{monitor_};
    if (!wait_for_action(hold, deadline) || state_ == State::broken) return {false, 0};
    const std::size_t index = arrived_++;
    if (arrived_ == parties_) {
      act(hold, action);
      return {true, index};
    }
    std::uint32_t message = monitor_.wait_to_be_chosen(hold, deadline);
    if (message == 0 && state_ == State::acting)
      message = monitor_.wait_to_be_chosen(hold, posix::Deadline{forever});
    if (message == 0) shatter();
    return {message == passed, index};
  }

  void abort() {
    typename Monitor::Hold hold{monitor_};
    wait_for_action(hold, posix::Deadline{forever});
    shatter();
  }

  void reset() {
    typename Monitor::Hold hold{monitor_};
    wait_for_action(hold, posix::Deadline{forever});
    shatter();
    state_ = State::filling;
  }

  std::size_t waiting() {
    const typename Monitor::Hold hold{monitor_};
    return state_ == State::filling ? arrived_ : 0;
  }
  bool is_broken() {
    const typename Monitor::Hold hold{monitor_};
    return state_ == State::broken;
  }
  std::size_t parties() const noexcept { return parties_; }

 private:
  enum class State { filling, acting, broken };
  static constexpr std::uint32_t passed = 1;
  static constexpr std::uint32_t failed = 2;

  bool wait_for_action(typename Monitor::Hold& hold, const posix::Deadline& deadline) {
    return monitor_.second().wait(hold, deadline, [&] { return state_ != State::acting; });
  }

  template <class Action>
  void act(typename Monitor::Hold& hold, Action& action) {
    state_ = State::acting;
    hold.unlock();
    try {
      action();
    } catch (...) {
      hold.lock();
      shatter();
      monitor_.second().wake_all();
      throw;
    }
    hold.lock();
    arrived_ = 0;
    state_ = State::filling;
    monitor_.wake_all(passed);
    monitor_.second().wake_all();
  }

  void shatter() {
    state_ = State::broken;
    arrived_ = 0;
    monitor_.wake_all(failed);
  }

  Monitor monitor_;
  const std::size_t parties_;
  State state_ = State::filling;
  std::size_t arrived_ = 0;
};

}  // namespace brood::sync
