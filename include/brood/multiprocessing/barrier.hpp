// SPDX-License-Identifier: MIT
// Barrier: processes that wait for each other. Python counterpart: multiprocessing.Barrier.
#pragma once

#include "../crossing_function.hpp"
#include "../sync/barrier.hpp"
#include "../sync/shared_monitor.hpp"
#include "../threading/sync_calls.hpp"
#include "shared_handle.hpp"

namespace brood::multiprocessing {

/// One that dies while it waits has arrived: the others pass without it. One that dies while it
/// runs the action breaks the barrier. For the calls see threading::BarrierCalls. An argument of a
/// process by forkserver or spawn takes its action along, which has to be a CrossingFunction that
/// can cross: else start() throws SerializationError.
class Barrier : public threading::BarrierCalls<SharedHandle<sync::Barrier<sync::SharedMonitor>>,
                                               CrossingFunction> {
 public:
  using BarrierCalls::BarrierCalls;

  /// For the Serializer: see Reduction.
  Barrier(serialization::Reader& in, Reduction& reduction)
      : Barrier{multiprocessing::read_plain<Reduced>(in), in, reduction} {}
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    const Reduced reduced{limit().duration().count(), action() ? 1 : 0};
    out.write_bytes(&reduced, sizeof reduced);
    if (action()) action().write(out);
    SharedHandle::reduce(out, reduction);
  }

 private:
  // The action follows, if there is one, then the handle.
  struct Reduced {
    std::int64_t limit;
    std::int64_t has_action;
  };
  Barrier(Reduced reduced, serialization::Reader& in, Reduction& reduction)
      : BarrierCalls{reduced.has_action != 0 ? CrossingFunction::read(in) : CrossingFunction{},
                     std::chrono::nanoseconds{reduced.limit}, in, reduction} {}
};

}  // namespace brood::multiprocessing

template <>
struct brood::serialization::Serializer<brood::multiprocessing::Barrier>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Barrier> {};
