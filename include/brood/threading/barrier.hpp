// SPDX-License-Identifier: MIT
// Barrier: threads that wait for each other. Python counterpart: threading.Barrier.
#pragma once

#include "../function.hpp"
#include "barrier_calls.hpp"
#include "handle.hpp"

namespace brood::threading {

/// See BarrierCalls.
class Barrier
    : public BarrierCalls<SyncHandle<sync::Barrier<sync::PrivateMonitor>>, Function<void()>> {
 public:
  using BarrierCalls::BarrierCalls;
};

}  // namespace brood::threading
