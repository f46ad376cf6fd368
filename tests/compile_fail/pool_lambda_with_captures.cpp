// SPDX-License-Identifier: MIT
// expect: CallableCannotCross
#include <brood/multiprocessing.hpp>
#include <vector>

int main() {
  const int base = 1;
  brood::multiprocessing::Pool pool(1);
  const std::vector<int> numbers{1, 2};
#ifdef BROOD_CONTROL
  return pool.map([](int n) { return n; }, numbers).front() + base;
#else
  return pool.map([base](int n) { return base + n; }, numbers).front();
#endif
}
