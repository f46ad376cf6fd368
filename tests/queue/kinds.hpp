// SPDX-License-Identifier: MIT
//
// What the tests of all queues share: every behaviour is asked of each kind of queue.
#pragma once

#include <atomic>
#include <brood/queue.hpp>

#include "support/catch.hpp"
#include "support/crew.hpp"
#include "support/sleepers.hpp"

namespace support {

// Calls check(kind), where kind(n) makes a queue of int bound to n items, for each kind.
template <class F>
void for_each_kind(F check) {
  SECTION("Queue") {
    check([](int maxsize) { return brood::queue::Queue<int>(maxsize); });
  }
  SECTION("LifoQueue") {
    check([](int maxsize) { return brood::queue::LifoQueue<int>(maxsize); });
  }
  SECTION("PriorityQueue") {
    check([](int maxsize) { return brood::queue::PriorityQueue<int>(maxsize); });
  }
}

// How many times each outcome of a call was met, by threads that must not assert themselves.
struct Tally {
  std::atomic<int> done{0}, shut_down{0}, empty{0}, full{0};

  template <class F>
  void count(F call) {
    try {
      call();
      ++done;
    } catch (const brood::queue::ShutDown&) {
      ++shut_down;
    } catch (const brood::queue::Empty&) {
      ++empty;
    } catch (const brood::queue::Full&) {
      ++full;
    }
  }
};

}  // namespace support
