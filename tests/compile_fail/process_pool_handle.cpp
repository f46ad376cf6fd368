// SPDX-License-Identifier: MIT
// expect: CrossesAtAnyTime
#include <brood/futures.hpp>
#include <brood/multiprocessing.hpp>

namespace mp = brood::multiprocessing;

#ifdef BROOD_CONTROL
void fill(int) {}
#else
void fill(mp::Queue<int> q) { q.put(1); }
#endif

int main() {
  brood::futures::ProcessPoolExecutor pool(1);
#ifdef BROOD_CONTROL
  pool.submit(fill, 1);
#else
  pool.submit(fill, mp::Queue<int>());
#endif
}
