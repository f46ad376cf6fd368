// SPDX-License-Identifier: MIT
//
// 8. Library futures: results as they come, each as soon as some worker has it.
//
// The Python program pairs the results with the values by position, so a result that comes out of
// turn stands beside another's value (its own output says that the root of 2 is 1.732...). Ours
// prints each beside its own. The spelling "theads" is the original's.
//
// Arguments: the seconds of a nap (1), the number of workers (5).
//
//     from concurrent import futures
//     import time
//     import math
//
//     def calc(value):
//         time.sleep(1)
//         result = math.sqrt(value)
//         return result
//
//     def use_threads(num, values):
//         t1 = time.time()
//         with futures.ThreadPoolExecutor(num) as tex:
//             tasks = [tex.submit(calc, value) for value in values]
//             for f in futures.as_completed(tasks):
//                 yield f.result()
//
//     def use_processes(num, values):
//         t1 = time.time()
//         with futures.ProcessPoolExecutor(num) as pex:
//             tasks = [pex.submit(calc, value) for value in values]
//             for f in futures.as_completed(tasks):
//                 yield f.result()
//
//     def main(workers, values):
//         print(f'[INFO] Using {workers} workers for {len(values)} values')
//         print(f'[INFO] Result for theads using:')
//         for index, result in enumerate(use_threads(workers, values)):
//             print(f'Square root for value {values[index]} = {result}')
//         print(f'[INFO] Result for processes using:')
//         for index, result in enumerate(use_processes(workers, values)):
//             print(f'Square root for value {values[index]} = {result}')
//
//     if __name__ == "__main__":
//         workers = 5
//         values = list(range(1,6))
//         main(workers, values)
#include <brood/futures.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ranges>
#include <thread>
#include <unordered_map>
#include <vector>

namespace futures = brood::futures;
using seconds = std::chrono::duration<double>;

// The workers of a process pool are forked from this program, so they know what main() set.
seconds nap{1};

double calc(int value) {
  std::this_thread::sleep_for(nap);
  const double result = std::sqrt(value);
  return result;
}

// Python's use_threads and use_processes: only the name of the pool differs.
template <futures::Executor Pool>
void use(int num, const std::vector<int>& values) {
  Pool pool(num);
  std::unordered_map<futures::Future<double>, int> tasks;  // whose result each Future will be
  for (const int value : values) tasks[pool.submit(calc, value)] = value;
  for (const auto& f : futures::as_completed(std::views::keys(tasks))) {
    fmt::print("Square root for value {} = {:#}\n", tasks.at(f), f.result());
  }
}

int main(int argc, char** argv) {
  nap = seconds{argc > 1 ? std::atof(argv[1]) : 1};
  const int workers = argc > 2 ? std::atoi(argv[2]) : 5;
  const std::vector<int> values = {1, 2, 3, 4, 5};

  fmt::print("[INFO] Using {} workers for {} values\n", workers, values.size());
  fmt::print("[INFO] Result for theads using:\n");
  use<futures::ThreadPoolExecutor>(workers, values);
  fmt::print("[INFO] Result for processes using:\n");
  use<futures::ProcessPoolExecutor>(workers, values);
}
