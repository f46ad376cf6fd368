// SPDX-License-Identifier: MIT
// Event: a flag that threads wait for. Python counterpart: threading.Event.
#pragma once

#include "../sync/event.hpp"
#include "handle.hpp"
#include "sync_calls.hpp"

namespace brood::threading {

/// See EventCalls.
class Event : public EventCalls<SyncHandle<sync::Event<sync::PrivateMonitor>>> {
 public:
  using EventCalls::EventCalls;
};

}  // namespace brood::threading
