// SPDX-License-Identifier: MIT
// Barrier: processes that wait for each other. Python counterpart: multiprocessing.Barrier.
#pragma once

#include "../sync/shared_monitor.hpp"
#include "../threading/barrier_calls.hpp"
#include "shared_handle.hpp"

namespace brood::multiprocessing {

/// One that dies while it waits has arrived: the others pass without it. One that dies while it
/// runs the action breaks the barrier. For the calls see threading::BarrierCalls.
class Barrier : public threading::BarrierCalls<SharedHandle<sync::Barrier<sync::SharedMonitor>>> {
 public:
  using BarrierCalls::BarrierCalls;
};

}  // namespace brood::multiprocessing
