// SPDX-License-Identifier: MIT
// What the queues throw, those of threads and those of processes.
#pragma once

#include <stdexcept>

namespace brood::queue {

/// get() found nothing in the time it had. Python: queue.Empty.
class Empty : public std::runtime_error {
 public:
  Empty() : std::runtime_error{"get from a queue: it is empty"} {}
  using std::runtime_error::runtime_error;
};

/// put() found no room in the time it had. Python: queue.Full.
class Full : public std::runtime_error {
 public:
  Full() : std::runtime_error{"put into a queue: it is full"} {}
  using std::runtime_error::runtime_error;
};

/// The queue was shut down: put() takes nothing more, or get() has given out all there was.
/// Python: queue.ShutDown (3.13).
class ShutDown : public std::runtime_error {
 public:
  ShutDown() : std::runtime_error{"use of a queue: it is shut down"} {}
  using std::runtime_error::runtime_error;
};

}  // namespace brood::queue
