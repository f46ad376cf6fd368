// SPDX-License-Identifier: MIT
// expect: CrossesAsValue
#include <brood/futures.hpp>

#ifdef BROOD_CONTROL
int first(int value) { return value; }
#else
int first(int* value) { return *value; }
#endif

int main() {
  brood::futures::ProcessPoolExecutor pool(1);
  int value = 1;
#ifdef BROOD_CONTROL
  return pool.submit(first, value).result();
#else
  return pool.submit(first, &value).result();
#endif
}
