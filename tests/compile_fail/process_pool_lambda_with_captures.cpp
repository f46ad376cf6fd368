// SPDX-License-Identifier: MIT
// expect: CrossesProcesses
#include <brood/futures.hpp>

int main() {
  const int base = 1;
  brood::futures::ProcessPoolExecutor pool(1);
#ifdef BROOD_CONTROL
  return pool.submit([](int n) { return n; }, base).result();
#else
  return pool.submit([base](int n) { return base + n; }, 1).result();
#endif
}
