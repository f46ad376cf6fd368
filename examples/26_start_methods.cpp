// SPDX-License-Identifier: MIT
//
// 26. The same work by processes of each start method: by fork, by the fork server, and by the
// program executed anew. What they share is passed to them.
//
//     import multiprocessing as mp
//
//     def add_range(first, last, total):
//         with total.get_lock():
//             total.value += sum(range(first, last))
//
//     if __name__ == "__main__":
//         for method in mp.get_all_start_methods():
//             ctx = mp.get_context(method)
//             total = ctx.Value('q', 0)
//             workers = [ctx.Process(target=add_range, args=(n * 250, (n + 1) * 250, total))
//                        for n in range(4)]
//             for worker in workers:
//                 worker.start()
//             for worker in workers:
//                 worker.join()
//             print(f'[INFO] {method}: the numbers below 1000 add up to {total.value}')
#include <brood/multiprocessing.hpp>

#include <fmt/core.h>

#include <cstdint>
#include <vector>

namespace mp = brood::multiprocessing;

void add_range(std::int64_t first, std::int64_t last, const mp::Value<std::int64_t>& total) {
  std::int64_t sum = 0;
  for (auto n = first; n < last; ++n) sum += n;
  total.update([sum](std::int64_t& value) { value += sum; });
}

int main() {
  mp::freeze_support();  // first of all: forkserver and spawn need it
  for (const auto method : mp::get_all_start_methods()) {
    const auto ctx = mp::get_context(method);
    const auto total = ctx.value<std::int64_t>(0);
    std::vector<mp::Process> workers;
    for (std::int64_t n = 0; n < 4; ++n)
      workers.push_back(ctx.process(add_range, n * 250, (n + 1) * 250, total));
    for (const auto& worker : workers) worker.start();
    for (const auto& worker : workers) worker.join();
    const char* const name = method == mp::StartMethod::fork         ? "fork"
                             : method == mp::StartMethod::forkserver ? "forkserver"
                                                                     : "spawn";
    fmt::print("[INFO] {}: the numbers below 1000 add up to {}\n", name, total.get());
  }
}
