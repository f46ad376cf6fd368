// SPDX-License-Identifier: MIT
//
// 12. Pool: work for all the cores of the machine, and no more workers than these.
//
// Counts the primes below 200000 in eight blocks, which the workers share out among themselves.
//
//     import math, os
//     from multiprocessing import Pool
//
//     def is_prime(n):
//         return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))
//
//     def count_primes(block):
//         start = block * 25_000
//         return sum(is_prime(n) for n in range(start, start + 25_000))
//
//     if __name__ == '__main__':
//         print(f'[INFO] Using a pool of {os.process_cpu_count()} workers')
//         with Pool() as pool:
//             counts = pool.map(count_primes, range(8))
//         print(f'[INFO] Primes in each block: {counts}')
//         print(f'[INFO] Primes below 200000: {sum(counts)}')
#include <brood/multiprocessing.hpp>
#include <brood/os.hpp>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <numeric>
#include <vector>

using brood::multiprocessing::Pool;
namespace os = brood::os;

bool is_prime(int n) {
  for (int d = 2; d * d <= n; ++d) {
    if (n % d == 0) return false;
  }
  return n > 1;
}

int count_primes(int block) {
  const int start = block * 25'000;
  int count = 0;
  for (int n = start; n < start + 25'000; ++n) count += is_prime(n);
  return count;
}

int main() {
  const std::vector<int> blocks = {0, 1, 2, 3, 4, 5, 6, 7};

  fmt::print("[INFO] Using a pool of {} workers\n", os::process_cpu_count());
  Pool pool;
  const std::vector<int> counts = pool.map(count_primes, blocks);
  fmt::print("[INFO] Primes in each block: {}\n", counts);
  fmt::print("[INFO] Primes below 200000: {}\n", std::accumulate(counts.begin(), counts.end(), 0));
}
