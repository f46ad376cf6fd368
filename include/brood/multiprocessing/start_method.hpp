// SPDX-License-Identifier: MIT
// How processes come to be, and which way is taken when none is named. Python counterpart:
// multiprocessing.set_start_method and its like.
#pragma once

#include <atomic>
#include <optional>
#include <stdexcept>
#include <vector>

namespace brood::multiprocessing {

/// How a new process comes to be.
///
/// fork: it starts as a copy of its parent, at once and with any callable. A lock that another
/// thread of the parent holds at that moment stays locked in the copy.
///
/// forkserver: it is forked by a small process of one thread, which has waited for that since
/// freeze_support(). The choice for programs with threads: nothing is copied from their midst, and
/// the cost does not grow with their memory.
///
/// spawn: the program is executed anew. The child begins with nothing but its own static objects;
/// the slowest.
///
/// The last two need freeze_support() at the start of main(), and a callable and arguments that can
/// cross to another process.
enum class StartMethod { fork, forkserver, spawn };

/// All of them, the default first.
template <class Result = std::vector<StartMethod>>  // a template as os::environ_copy() is
Result get_all_start_methods() {
  return {StartMethod::fork, StartMethod::forkserver, StartMethod::spawn};
}

/// The method of all processes and pools that name none. To be called once, by the program, early:
/// when it has been set, or the default been used, std::runtime_error, unless `force` is true.
/// Child processes have their parent's, or the one that was named for them. Safe from any thread.
void set_start_method(StartMethod method, bool force = false);

/// The method that was set; fork when none was, and then that is settled.
StartMethod get_start_method();

// ---------------------------------------------------------------------------------------------

/// The method that was set or settled, else empty: asking settles nothing.
inline std::optional<StartMethod> settled_start_method() noexcept;

namespace start_method {
inline constexpr int unsettled = -1;
inline std::atomic<int> settled = unsettled;
}  // namespace start_method

inline std::optional<StartMethod> settled_start_method() noexcept {
  const int settled = start_method::settled.load(std::memory_order_relaxed);
  if (settled == start_method::unsettled) return std::nullopt;
  return static_cast<StartMethod>(settled);
}

inline void set_start_method(StartMethod method, bool force) {
  int before = start_method::unsettled;
  if (force) {
    // Not stored for nothing: in the fork server that would have a page copied.
    if (settled_start_method() != method) start_method::settled.store(static_cast<int>(method));
  } else if (!start_method::settled.compare_exchange_strong(before, static_cast<int>(method))) {
    throw std::runtime_error{
        "set_start_method: the start method has been set or used already; set it once, early, or "
        "force it"};
  }
}

inline StartMethod get_start_method() {
  int settled = start_method::unsettled;
  if (start_method::settled.compare_exchange_strong(settled, static_cast<int>(StartMethod::fork)))
    return StartMethod::fork;
  return static_cast<StartMethod>(settled);
}

}  // namespace brood::multiprocessing
