// SPDX-License-Identifier: MIT
//
// 9. Process: three of them count at the same time.
//
//     import multiprocessing
//
//     def foo(counter):
//         for i in range(counter):
//             print(i)
//
//     # create Threads
//     p1 = multiprocessing.Process(target=foo, args=(10,))
//     p2 = multiprocessing.Process(target=foo, args=(20,))
//     p3 = multiprocessing.Process(target=foo, args=(15,))
//
//     processes = [p1, p2, p3]
//
//     for p in processes:
//         p.start()
//
//     for p in processes:
//         p.join()
//
//     print("done all")
#include <brood/multiprocessing.hpp>

#include <fmt/core.h>

namespace multiprocessing = brood::multiprocessing;

void foo(int counter) {
  for (int i = 0; i < counter; ++i) fmt::print("{}\n", i);
}

int main() {
  multiprocessing::Process p1(foo, 10);
  multiprocessing::Process p2(foo, 20);
  multiprocessing::Process p3(foo, 15);

  const auto processes = {p1, p2, p3};  // handles: copies name the same processes

  for (const auto& p : processes) p.start();

  for (const auto& p : processes) p.join();

  fmt::print("done all\n");
}
