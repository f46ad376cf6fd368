// SPDX-License-Identifier: MIT
//
// 20. A shared array, which each process fills a part of, and a shared value that they add up.
//
// Nothing is sent: what a process writes is there for all. A process may be killed at any moment,
// and no lock is lost with it.
//
//     from multiprocessing import Array, Process, Value
//
//     def fill(squares, total, first, last):
//         for i in range(first, last):
//             squares[i] = (i + 1) ** 2
//         with total.get_lock():
//             total.value += sum(squares[first:last])
//
//     squares = Array('q', 1000)
//     total = Value('q', 0)
//     processes = [Process(target=fill, args=(squares, total, i, i + 250))
//                  for i in range(0, 1000, 250)]
#include <brood/multiprocessing.hpp>

#include <fmt/core.h>

#include <cstddef>
#include <numeric>
#include <vector>

using brood::multiprocessing::Array;
using brood::multiprocessing::Process;
using brood::multiprocessing::Value;

void fill(Array<long> squares, Value<long> total, std::size_t first, std::size_t count) {
  const auto part = squares.span().subspan(first, count);
  for (std::size_t i = 0; i < count; ++i) {
    const long number = static_cast<long>(first + i) + 1;
    part[i] = number * number;
  }
  const long sum = std::accumulate(part.begin(), part.end(), 0L);
  total.update([sum](long value) { return value + sum; });
}

int main() {
  const Array<long> squares(1000);
  const Value<long> total(0);

  std::vector<Process> processes;
  for (std::size_t first = 0; first < squares.size(); first += 250)
    processes.emplace_back(fill, squares, total, first, std::size_t{250});
  for (const auto& process : processes) process.start();
  for (const auto& process : processes) process.join();

  fmt::print("[INFO] {} processes have filled {} places: {}, {}, {}, ..., {}\n", processes.size(),
             squares.size(), squares[0], squares[1], squares[2], squares[999]);
  fmt::print("[INFO] The sum of the squares of 1 to 1000 is {}\n", total.get());
}
