// SPDX-License-Identifier: MIT
//
// SIGALRM again and again, without SA_RESTART: what is interrupted by it has to go on by itself.
#pragma once

#include <signal.h>
#include <sys/time.h>

#include <atomic>

#include "support/catch.hpp"
#include "support/programs.hpp"

namespace support {

// One at a time. Children that are forked while it is there see the count.
class Alarms {
 public:
  Alarms() {
    counter_ = &*count_;
    struct sigaction action {};
    action.sa_handler = [](int) { ++*counter_; };
    REQUIRE(::sigaction(SIGALRM, &action, &before_) == 0);
  }
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;
  ~Alarms() {
    every(0);
    ::sigaction(SIGALRM, &before_, nullptr);
  }

  // From now on; 0: no more.
  void every(int microseconds) {
    const itimerval timer{{0, microseconds}, {0, microseconds}};
    ::setitimer(ITIMER_REAL, &timer, nullptr);
  }
  int count() const { return *count_; }

 private:
  static inline std::atomic<int>* counter_ = nullptr;
  const Shared<std::atomic<int>> count_;
  struct sigaction before_ {};
};

}  // namespace support
