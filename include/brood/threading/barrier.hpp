// SPDX-License-Identifier: MIT
// Barrier: threads that wait for each other. Python counterpart: threading.Barrier.
#pragma once

#include "../function.hpp"
#include "../sync/barrier.hpp"
#include "handle.hpp"
#include "sync_calls.hpp"

namespace brood::threading {

/// See BarrierCalls.
class Barrier
    : public BarrierCalls<SyncHandle<sync::Barrier<sync::PrivateMonitor>>, Function<void()>> {
 public:
  using BarrierCalls::BarrierCalls;
};

}  // namespace brood::threading
