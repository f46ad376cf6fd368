// SPDX-License-Identifier: MIT
//
// 19. Tasks that submit tasks and wait for them, in a pool of two threads.
//
// In Python this hangs at once: both threads wait for tasks that nobody is left to run. Here a
// thread of the pool that waits for a task runs it itself, if no other has begun with it.
//
//     def fib(n):
//         if n < 2:
//             return n
//         other = pool.submit(fib, n - 1)
//         own = fib(n - 2)
//         return own + other.result()
//
//     with concurrent.futures.ThreadPoolExecutor(2) as pool:
//         print(f'[INFO] fib(20) = {pool.submit(fib, 20).result()}')
#include <brood/futures.hpp>

#include <fmt/core.h>

using brood::futures::ThreadPoolExecutor;

int fib(ThreadPoolExecutor& pool, int n) {
  if (n < 2) return n;
  auto other = pool.submit([&pool, n] { return fib(pool, n - 1); });
  const int own = fib(pool, n - 2);
  return own + other.result();
}

int main() {
  ThreadPoolExecutor pool(2);
  for (const int n : {5, 10, 20}) {
    const auto result = pool.submit([&pool, n] { return fib(pool, n); });
    fmt::print("[INFO] fib({}) = {}\n", n, result.result());
  }
}
