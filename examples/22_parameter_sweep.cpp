// SPDX-License-Identifier: MIT
//
// 22. A sweep over parameters, some of which never come to an end: each task has two seconds and
// 256 MiB. One that takes longer is ended with its worker, and the others go on.
//
// Newton's method looks for a root of x^3 - 2x + 2. From some starting points it runs in circles.
//
//     # Python can end no task of a pool, only the whole pool:
//     futures = [pool.submit(root_from, start) for start in starts]
#include <brood/futures.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <new>
#include <vector>

namespace futures = brood::futures;
using namespace std::chrono_literals;

double root_from(double x) {
  for (;;) {
    const double step = (x * x * x - 2 * x + 2) / (3 * x * x - 2);
    x -= step;
    if (std::abs(step) < 1e-12) return x;
  }
}

int main() {
  const std::vector<double> starts{-3.0, -1.0, 0.0, 0.1, 1.0, 2.0, 3.0};

  futures::ProcessPoolExecutor pool({.max_workers = 4, .memory_limit = 256 << 20});
  std::vector<futures::Future<double>> roots;
  for (const double start : starts) roots.push_back(pool.submit({.timeout = 2s}, root_from, start));

  for (std::size_t i = 0; i < starts.size(); ++i) {
    try {
      fmt::print("[INFO] From {:4.1f}: {:.6f}\n", starts[i], roots[i].result());
    } catch (const futures::TaskTimeout&) {
      fmt::print("[INFO] From {:4.1f}: no root in time\n", starts[i]);
    } catch (const std::bad_alloc&) {
      fmt::print("[INFO] From {:4.1f}: out of memory\n", starts[i]);
    }
  }
}
