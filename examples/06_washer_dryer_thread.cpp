// SPDX-License-Identifier: MIT
//
// 6. One washer and several dryers. [2] Solution by using threading.
//
// The Python program never ends, as its dryers wait for ever. Ours does: Queue.shutdown (of Python
// 3.13) ends their loops.
//
//     import threading, queue
//     import time
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
//         dish_queue = queue.Queue()
//         for n in range(2):
//             dryer_thread = threading.Thread(target=dryer, args=(dish_queue,))
//             dryer_thread.start()
//
//         dishes = ['salad', 'bread', 'entree', 'dessert']
//         washer(dishes, dish_queue)
//         dish_queue.join()
#include <brood/queue.hpp>
#include <brood/threading.hpp>

#include <fmt/core.h>

#include <string>
#include <vector>

namespace queue = brood::queue;
namespace threading = brood::threading;

void washer(const std::vector<std::string>& dishes, queue::Queue<std::string> output) {
  for (const auto& dish : dishes) {
    fmt::print("[INFO] Washing {} dish\n", dish);
    output.put(dish);
  }
}

void dryer(queue::Queue<std::string> input) {
  for (const auto& dish : input) {  // until the queue is shut down and empty
    fmt::print("[INFO] Drying {} dish\n", dish);
    input.task_done();
  }
}

int main() {
  // Queue for message passing between threads
  queue::Queue<std::string> dish_queue;
  for (int n = 0; n < 2; ++n) {
    threading::Thread dryer_thread(dryer, dish_queue);
    dryer_thread.start();
  }

  const std::vector<std::string> dishes = {"salad", "bread", "entree", "dessert"};
  washer(dishes, dish_queue);
  dish_queue.join();
  dish_queue.shutdown();
}
