// SPDX-License-Identifier: MIT
// expect: CanBeCopiedOrMovedIn
#include <brood/futures.hpp>
#include <memory>

int main() {
  brood::futures::ThreadPoolExecutor pool(1);
  auto number = std::make_unique<int>(1);
  const auto read = [](const std::unique_ptr<int>& its) { return *its; };
#ifdef BROOD_CONTROL
  pool.submit(read, std::move(number));
#else
  pool.submit(read, number);
#endif
}
