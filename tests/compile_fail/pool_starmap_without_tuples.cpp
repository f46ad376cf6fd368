// SPDX-License-Identifier: MIT
// expect: ElementsAreNoTuples
#include <brood/multiprocessing.hpp>
#include <utility>
#include <vector>

int main() {
  brood::multiprocessing::Pool pool(1);
  const auto add = [](int a, int b) { return a + b; };
#ifdef BROOD_CONTROL
  const std::vector<std::pair<int, int>> pairs{{1, 2}};
#else
  const std::vector<std::vector<int>> pairs{{1, 2}};
#endif
  return pool.starmap(add, pairs).front();
}
