// SPDX-License-Identifier: MIT
//
// 18. A pipeline of three stages, joined by queues: count, square, sum.
//
// A stage ends when the queue it reads is shut down and empty. The queues are short, so a stage
// that is faster than the next one waits for it and memory stays small.
//
//     def square(numbers, squares):
//         while True:
//             try:
//                 number = numbers.get()
//             except queue.ShutDown:
//                 return
//             squares.put(number * number)
#include <brood/queue.hpp>
#include <brood/threading.hpp>

#include <fmt/core.h>

#include <vector>

using brood::queue::Queue;
using brood::threading::Thread;

void count(Queue<int> numbers) {
  for (int i = 1; i <= 1000; ++i) numbers.put(i);
  numbers.shutdown();  // the numbers that are in it still come out
}

void square(Queue<int> numbers, Queue<long> squares) {
  for (const long number : numbers) squares.put(number * number);
}

void sum(Queue<long> squares) {
  long total = 0;
  for (const long value : squares) total += value;
  fmt::print("[INFO] The sum of the squares of 1 to 1000 is {}\n", total);
}

int main() {
  Queue<int> numbers(8);
  Queue<long> squares(8);
  Thread source(count, numbers);
  Thread sink(sum, squares);
  const std::vector<Thread> squarers = {Thread(square, numbers, squares),
                                        Thread(square, numbers, squares),
                                        Thread(square, numbers, squares)};
  source.start();
  sink.start();
  for (const auto& squarer : squarers) squarer.start();
  for (const auto& squarer : squarers) squarer.join();
  squares.shutdown();
  sink.join();
}
