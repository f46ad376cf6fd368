// SPDX-License-Identifier: MIT
//
// 7. Library futures: threads and processes behind one interface, both timed.
//
// Arguments: the seconds of a nap (1), the number of workers (50).
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
//             results = tex.map(calc, values)
//         t2 = time.time()
//         return t2 - t1
//
//     def use_processes(num, values):
//         t1 = time.time()
//         with futures.ProcessPoolExecutor(num) as pex:
//             results = pex.map(calc, values)
//         t2 = time.time()
//         return t2 - t1
//
//     def main(workers, values):
//         print(f'[INFO] Using {workers} workers for {len(values)} values')
//         t_sec = use_threads(workers, values)
//         print(f'[INFO] Threads took {t_sec} sec.')
//         t_sec = use_processes(workers, values)
//         print(f'[INFO] Processes took {t_sec} sec.')
//
//     if __name__ == "__main__":
//         workers = 50
//         values = list(range(1,51))
//         main(workers, values)
#include <brood/futures.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <thread>
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
seconds use(int num, const std::vector<int>& values) {
  const auto t1 = std::chrono::steady_clock::now();
  {
    Pool pool(num);
    pool.map(calc, values);  // the results are not looked at; the pool's end waits for them all
  }
  const auto t2 = std::chrono::steady_clock::now();
  return t2 - t1;
}

int main(int argc, char** argv) {
  nap = seconds{argc > 1 ? std::atof(argv[1]) : 1};
  const int workers = argc > 2 ? std::atoi(argv[2]) : 50;
  std::vector<int> values(50);
  std::iota(values.begin(), values.end(), 1);

  fmt::print("[INFO] Using {} workers for {} values\n", workers, values.size());
  const auto threads = use<futures::ThreadPoolExecutor>(workers, values);
  fmt::print("[INFO] Threads took {} sec.\n", threads.count());
  const auto processes = use<futures::ProcessPoolExecutor>(workers, values);
  fmt::print("[INFO] Processes took {} sec.\n", processes.count());
}
