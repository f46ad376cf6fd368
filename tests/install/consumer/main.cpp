// SPDX-License-Identifier: MIT
//
// Uses one thing of each module, with no more than brood::brood gives.
#include <brood/brood.hpp>
#include <string>

namespace mp = brood::multiprocessing;

int main() {
  if (brood::os::getpid() <= 0) return 1;
  if (brood::subprocess::run({"echo", "brood"}, {.capture_output = true}).out != "brood\n")
    return 2;

  brood::queue::Queue<int> thread_queue;
  brood::threading::Thread thread([thread_queue] { thread_queue.put(1); });
  thread.start();
  thread.join();
  if (thread_queue.get() != 1) return 3;

  mp::Queue<std::string> process_queue;
  mp::Process process([process_queue] { process_queue.put("from the child"); });
  process.start();
  if (process_queue.get() != "from the child") return 4;
  process.join();
  if (process.exitcode() != 0) return 5;

  brood::futures::ThreadPoolExecutor pool(2);
  return pool.submit([](int n) { return n - 42; }, 42).result();
}
