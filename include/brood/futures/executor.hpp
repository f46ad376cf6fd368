// SPDX-License-Identifier: MIT
// What the executors have in common. Python counterpart: concurrent.futures.Executor.
//
//     template <futures::Executor Pool>
//     void wash(Pool& pool) { pool.submit(rinse, dish); }
#pragma once

#include <concepts>
#include <vector>

#include "future.hpp"
#include "map.hpp"

namespace brood::futures {

struct ShutdownOptions {
  /// Whether to wait until all that was submitted is done and the workers have ended.
  bool wait = true;
  /// Whether to cancel what no worker has begun with.
  bool cancel_futures = false;
};

/// A number of workers, of any integer type, as an int: a million for what is more, and minus a
/// million for what is less than that.
template <std::integral N>
constexpr int worker_count(N number) noexcept {
  constexpr int most = 1'000'000;
  if constexpr (sizeof(N) >= sizeof(int)) {
    if (number > static_cast<N>(most)) return most;
    if constexpr (std::is_signed_v<N>) {
      if (number < static_cast<N>(-most)) return -most;
    }
  }
  return static_cast<int>(number);
}

/// An executor runs callables somewhere else: ThreadPoolExecutor, ProcessPoolExecutor.
template <class E>
concept Executor = requires(E& executor, int (*function)(int), std::vector<int> inputs,
                            MapOptions map_options, ShutdownOptions shutdown_options) {
  { executor.submit(function, 1) } -> std::same_as<Future<int>>;
  { *executor.map(function, inputs).begin() } -> std::convertible_to<int>;
  executor.map(map_options, function, inputs);
  executor.shutdown(shutdown_options);
};

}  // namespace brood::futures
