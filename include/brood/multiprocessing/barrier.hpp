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

  /// For the Serializer: see Reduction.
  Barrier(serialization::Reader& in, Reduction& reduction)
      : BarrierCalls{std::chrono::nanoseconds{multiprocessing::read_plain<std::int64_t>(in)}, in,
                     reduction} {}
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    if (has_action())
      serialization::throw_error(
          "a barrier with an action can't be an argument of a new process, but of a forked one");
    const std::int64_t limit = this->limit().duration().count();
    out.write_bytes(&limit, sizeof limit);
    SharedHandle::reduce(out, reduction);
  }
};

}  // namespace brood::multiprocessing

template <>
struct brood::serialization::Serializer<brood::multiprocessing::Barrier>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Barrier> {};
