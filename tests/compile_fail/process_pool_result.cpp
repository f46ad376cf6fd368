// SPDX-License-Identifier: MIT
// expect: RemotelyInvocable
#include <brood/futures.hpp>

int kept = 0;
#ifdef BROOD_CONTROL
int find() { return kept; }
#else
int* find() { return &kept; }
#endif

int main() {
  brood::futures::ProcessPoolExecutor pool(1);
  return pool.submit(find).result() == 0 ? 1 : 0;
}
