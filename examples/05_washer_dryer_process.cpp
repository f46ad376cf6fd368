// SPDX-License-Identifier: MIT
//
// 5. We have a problem: one washer and several dryers. [1] Solution by using processes.
//
//     import multiprocessing as mp
//
//     def washer(dishes, output):
//         for dish in dishes:
//             print(f'[INFO] Washing {dish} dish')
//             output.put(dish)
//
//     def dryer(input):
//         while True:
//             dish = input.get()
//             print(f'[INFO] Drying {dish} dish')
//             input.task_done()
//
//     if __name__ == "__main__":
//         # Queue for interprocessing message passing
//         dish_queue = mp.JoinableQueue()
//         dryer_proc = mp.Process(target=dryer, args=(dish_queue,))
//         dryer_proc.daemon = True
//         dryer_proc.start()
//
//         dishes = ['salad', 'bread', 'entree', 'dessert']
//         washer(dishes, dish_queue)
//         dish_queue.join()
#include <brood/multiprocessing.hpp>

#include <fmt/core.h>

#include <cstdio>
#include <string>
#include <vector>

namespace mp = brood::multiprocessing;

void washer(const std::vector<std::string>& dishes, mp::JoinableQueue<std::string> output) {
  for (const auto& dish : dishes) {
    fmt::print("[INFO] Washing {} dish\n", dish);
    output.put(dish);
  }
}

void dryer(mp::JoinableQueue<std::string> input) {
  while (true) {
    const std::string dish = input.get();
    fmt::print("[INFO] Drying {} dish\n", dish);
    input.task_done();
  }
}

int main() {
  // A daemon is terminated when the program ends: what it prints must be written by then.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);

  // Queue for interprocessing message passing
  mp::JoinableQueue<std::string> dish_queue;
  mp::Process dryer_proc({.daemon = true}, dryer, dish_queue);
  dryer_proc.start();

  const std::vector<std::string> dishes = {"salad", "bread", "entree", "dessert"};
  washer(dishes, dish_queue);
  dish_queue.join();
}
