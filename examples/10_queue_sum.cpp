// SPDX-License-Identifier: MIT
//
// 10. Queue: partial sums from three processes.
//
// The processes are joined before the queue is read. In Python that can hang once the results are
// large, and empty() may be wrong; here neither happens: put() is done when it returns, and
// empty() is exact.
//
//     from multiprocessing import Process, Queue
//     def foo(start, end, my_queue):
//         nums = [i for i in range(start, end+1)]
//         my_queue.put(sum(nums))
//
//     sum_queue = Queue()
//     p1 = Process(target=foo, args=(1, 100, sum_queue,))
//     p2 = Process(target=foo, args=(101, 200, sum_queue,))
//     p3 = Process(target=foo, args=(201, 300, sum_queue,))
//     processes = [p1, p2, p3]
//     for p in processes:
//         p.start()
//     for p in processes:
//         p.join()
//     total_sum = 0
//     while not sum_queue.empty():
//         total_sum += sum_queue.get()
//     print("total sum is :", total_sum)
#include <brood/multiprocessing.hpp>

#include <fmt/core.h>

using brood::multiprocessing::Process;
using brood::multiprocessing::Queue;

void foo(int start, int end, Queue<int> my_queue) {
  int sum = 0;
  for (int i = start; i <= end; ++i) sum += i;
  my_queue.put(sum);
}

int main() {
  Queue<int> sum_queue;
  Process p1(foo, 1, 100, sum_queue);
  Process p2(foo, 101, 200, sum_queue);
  Process p3(foo, 201, 300, sum_queue);
  const auto processes = {p1, p2, p3};
  for (const auto& p : processes) p.start();
  for (const auto& p : processes) p.join();
  int total_sum = 0;
  while (!sum_queue.empty()) total_sum += sum_queue.get();
  fmt::print("total sum is : {}\n", total_sum);
}
