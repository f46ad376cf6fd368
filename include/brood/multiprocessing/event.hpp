// SPDX-License-Identifier: MIT
// Event: a flag that processes wait for. Python counterpart: multiprocessing.Event.
#pragma once

#include "../sync/event.hpp"
#include "../sync/shared_monitor.hpp"
#include "../threading/sync_calls.hpp"
#include "shared_handle.hpp"

namespace brood::multiprocessing {

/// For the calls see threading::EventCalls.
class Event : public threading::EventCalls<SharedHandle<sync::Event<sync::SharedMonitor>>> {
 public:
  using EventCalls::EventCalls;
  /// For the Serializer: see Reduction.
  Event(serialization::Reader& in, Reduction& reduction) : EventCalls{in, reduction} {}
};

}  // namespace brood::multiprocessing

template <>
struct brood::serialization::Serializer<brood::multiprocessing::Event>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Event> {};
