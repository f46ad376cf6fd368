// SPDX-License-Identifier: MIT
// Runs a function of this program in a new process that is no copy of this one: it gets what it
// needs as bytes and descriptors. Process and the pools' servers are started by this.
#pragma once

#include <string_view>

#include "../posix/child.hpp"
#include "../posix/list.hpp"
#include "start_method.hpp"

namespace brood {
template <class Run>
struct CallEntry;
namespace serialization {
class Reader;
}
}  // namespace brood

namespace brood::multiprocessing {

class Reduction;

/// What such a process begins with: a constant of the program. Its Reader has a Reduction as
/// context().
using LaunchEntry = CallEntry<void(serialization::Reader&)>;

/// What the new process is told of itself.
struct LaunchedAs {
  std::string_view name = {};  // of its current_process()
  bool daemon = false;
  const posix::List<unsigned>* identity = nullptr;  // see ProcessState; null: none
};

/// Starts a process by `method`, forkserver or spawn, which calls `entry` with `bytes`, and ends
/// when that returns (code 0) or throws (code 1, printed to stderr). `descriptors` are those that
/// were collected when the bytes were written. This process is then its parent_process(); it is on
/// no list of children, and nobody waits for it at the end of the program. May be called from any
/// thread.
///
/// Returns when the process exists and has been given everything, or has ended before it had read
/// it. Throws std::runtime_error when freeze_support() has not been called, os::OSError when no
/// process can be had, ProcessError when the fork server is dead.
posix::Ref<posix::SharedChild> launch(StartMethod method, const LaunchEntry& entry,
                                      std::string_view bytes, Reduction& descriptors,
                                      const LaunchedAs& as);

}  // namespace brood::multiprocessing
