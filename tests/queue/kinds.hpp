// SPDX-License-Identifier: MIT
//
// What the tests of all queues share: every behaviour is asked of each kind of queue.
#pragma once

#include <atomic>
#include <brood/queue.hpp>
#include <brood/threading.hpp>
#include <vector>

#include "support/catch.hpp"
#include "support/sleepers.hpp"

namespace support {

using namespace std::chrono_literals;

// Long enough that it is never up in a test that passes.
inline constexpr brood::Timeout patience{std::chrono::seconds{30}};
// Short enough to be waited for.
inline constexpr brood::Timeout moment{std::chrono::milliseconds{10}};

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

// Threads that are started at once and joined at the end.
class Crew {
 public:
  template <class F>
  void add(int count, F work) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back(work);
      threads_.back().start();
    }
  }
  // False if one of them does not end.
  bool join() {
    bool all = true;
    for (const auto& thread : threads_) all = thread.join(patience) && all;
    threads_.clear();
    return all;
  }
  ~Crew() { join(); }

 private:
  std::vector<brood::threading::Thread> threads_;
};

}  // namespace support
