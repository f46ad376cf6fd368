// SPDX-License-Identifier: MIT
// Event: a flag that processes wait for. Python counterpart: multiprocessing.Event.
#pragma once

#include "../sync/event.hpp"
#include "../sync/shared_monitor.hpp"
#include "shared_handle.hpp"

namespace brood::multiprocessing {

class Event : public SharedHandle<sync::Event<sync::SharedMonitor>> {
 public:
  /// Not set. Throws os::OSError.
  Event() : SharedHandle{std::in_place} {}
  /// For the Serializer: see Reduction.
  Event(serialization::Reader& in, Reduction& reduction) : SharedHandle{in, reduction} {}

  /// Sets it and lets all who wait go on.
  void set() const { core().set(); }
  void clear() const { core().clear(); }
  /// One load.
  bool is_set() const noexcept { return core().is_set(); }

  /// Waits until it is set; false when `limit` is over first. True also if clear() follows set()
  /// at once.
  bool wait(Timeout limit = forever) const { return core().wait(posix::Deadline{limit}); }
};

}  // namespace brood::multiprocessing

template <>
struct brood::serialization::Serializer<brood::multiprocessing::Event>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Event> {};
