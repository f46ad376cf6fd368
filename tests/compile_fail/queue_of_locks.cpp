// SPDX-License-Identifier: MIT
// expect: HoldsNoHandle
#include <brood/multiprocessing.hpp>
#include <vector>

namespace mp = brood::multiprocessing;

#ifdef BROOD_CONTROL
using Item = int;
#else
using Item = mp::Lock;
#endif

int main() {
  const mp::Queue<std::vector<Item>> q;
  return static_cast<int>(q.qsize());
}
