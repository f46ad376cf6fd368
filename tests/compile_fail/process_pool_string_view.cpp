// SPDX-License-Identifier: MIT
// expect: CrossesAsValue
#include <brood/futures.hpp>
#include <string>
#include <string_view>

int length(std::string_view text) { return static_cast<int>(text.size()); }

int main() {
  brood::futures::ProcessPoolExecutor pool(1);
#ifdef BROOD_CONTROL
  return pool.submit(length, std::string("dish")).result();
#else
  return pool.submit(length, std::string_view("dish")).result();
#endif
}
