// SPDX-License-Identifier: MIT
//
// 24. A worker is killed in the middle of a task, and the rest goes on.
//
// Python's queue may hang for ever after that: the worker can take a lock of the queue with it.
// Here nobody is stuck, and join() says what is missing.
//
//     def work(tasks, results):
//         while True:
//             results.put(tasks.get() ** 2)
//             tasks.task_done()
#include <brood/multiprocessing.hpp>

#include <fmt/core.h>

#include <csignal>
#include <vector>

namespace mp = brood::multiprocessing;

void work(mp::JoinableQueue<int> tasks, mp::Queue<int> results) {
  for (const int task : tasks) {
    if (task == 13) std::raise(SIGKILL);
    results.put(task * task);
    tasks.task_done();
  }
}

int main() {
  mp::JoinableQueue<int> tasks;
  mp::Queue<int> results;
  std::vector<mp::Process> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back(work, tasks, results);
    workers.back().start();
  }
  for (int task = 1; task <= 100; ++task) tasks.put(task);

  try {
    tasks.join();
  } catch (const mp::ProcessError&) {
    for (const mp::Unfinished& owed : tasks.unfinished())
      fmt::print("[INFO] {} task was lost with a worker that is {}\n", owed.count,
                 owed.alive ? "alive" : "dead");
    tasks.task_done();  // nobody else will say it
  }
  tasks.join();
  tasks.shutdown();  // the workers' loops end

  int killed = 0;
  for (const auto& worker : workers) {
    worker.join();
    killed += worker.exitcode() == -SIGKILL;
  }
  fmt::print("[INFO] {} results of 100 tasks, {} worker of 3 was killed\n", results.qsize(),
             killed);
}
