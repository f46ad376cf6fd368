// SPDX-License-Identifier: MIT
// What the synchronisation classes throw, those of threads and those of processes.
#pragma once

#include <stdexcept>

namespace brood::threading {

/// A Barrier was broken or reset while, or before, a thread waited for it. Python:
/// threading.BrokenBarrierError.
class BrokenBarrierError : public std::runtime_error {
 public:
  BrokenBarrierError() : std::runtime_error{"wait for a Barrier: it is broken"} {}
  using std::runtime_error::runtime_error;
};

}  // namespace brood::threading
