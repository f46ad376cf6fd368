// SPDX-License-Identifier: MIT
//
// What the tests of the synchronisation classes share.
#pragma once

#include <atomic>
#include <brood/threading.hpp>
#include <mutex>
#include <vector>

#include "support/catch.hpp"
#include "support/sleepers.hpp"

namespace support {

using namespace std::chrono_literals;

// Long enough that it is never up in a test that passes.
inline constexpr brood::Timeout patience{std::chrono::seconds{30}};
// Short enough to be waited for.
inline constexpr brood::Timeout moment{std::chrono::milliseconds{10}};

// Waits until another thread has brought a counter so far.
template <class T>
void await(const std::atomic<T>& counter, T value) {
  while (counter.load() < value) ::sched_yield();
}

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

// What f gives in a thread of its own.
template <class F>
auto in_thread(F f) {
  decltype(f()) result{};
  brood::threading::Thread thread([&] { result = f(); });
  thread.start();
  thread.join();
  return result;
}

// Whether f throws a std::logic_error, for threads that must not assert themselves.
template <class F>
bool is_logic_error(F f) {
  try {
    f();
  } catch (const std::logic_error&) {
    return true;
  }
  return false;
}

}  // namespace support
