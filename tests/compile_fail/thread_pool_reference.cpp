// SPDX-License-Identifier: MIT
// expect: TakesArgumentsAsRvalues
#include <brood/futures.hpp>
#include <functional>

void count(int& number) { ++number; }

int main() {
  brood::futures::ThreadPoolExecutor pool(1);
  int number = 0;
#ifdef BROOD_CONTROL
  pool.submit(count, std::ref(number));
#else
  pool.submit(count, number);
#endif
}
