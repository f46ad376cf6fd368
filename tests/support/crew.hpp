// SPDX-License-Identifier: MIT
//
// A crew of threads.
#pragma once

#include <brood/threading.hpp>
#include <chrono>
#include <vector>

#include "support/patience.hpp"

namespace support {

using namespace std::chrono_literals;

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
