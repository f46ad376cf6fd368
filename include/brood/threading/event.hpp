// SPDX-License-Identifier: MIT
// Event: a flag that threads wait for. Python counterpart: threading.Event.
#pragma once

#include "../sync/event.hpp"
#include "handle.hpp"

namespace brood::threading {

class Event : public SyncHandle<sync::Event<sync::PrivateMonitor>> {
 public:
  /// Not set.
  Event() : SyncHandle{std::in_place} {}

  /// Sets it and lets all who wait go on.
  void set() const { core().set(); }
  void clear() const { core().clear(); }
  bool is_set() const noexcept { return core().is_set(); }

  /// Waits until it is set; false when `limit` is over first. True also if clear() follows set()
  /// at once.
  bool wait(Timeout limit = forever) const { return core().wait(posix::Deadline{limit}); }
};

}  // namespace brood::threading
