// SPDX-License-Identifier: MIT
//
// 4. Killing process by using terminate.
//
// Arguments: the seconds until terminate() (5), the seconds between two honks (1).
//
//     import multiprocessing
//     import time
//     import os
//
//     def whoami(what):
//         print(f'[INFO] Process {os.getpid()} says: {what}')
//
//     def loopy(name):
//         whoami(name)
//         start = 1
//         stop = 1_000_000
//         for num in range(start, stop):
//             print(f'[INFO] Number {num} of {stop}. Honk!')
//             time.sleep(1)
//
//     if __name__ == "__main__":
//         whoami('main')
//         p = multiprocessing.Process(target=loopy, args=("loopy",))
//         p.start()
//         time.sleep(5)
//         p.terminate()
#include <brood/multiprocessing.hpp>
#include <brood/os.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

namespace multiprocessing = brood::multiprocessing;
namespace os = brood::os;
using seconds = std::chrono::duration<double>;

void whoami(const std::string& what) {
  fmt::print("[INFO] Process {} says: {}\n", os::getpid(), what);
}

void loopy(const std::string& name, seconds nap) {
  whoami(name);
  const int start = 1;
  const int stop = 1'000'000;
  for (int num = start; num < stop; ++num) {
    fmt::print("[INFO] Number {} of {}. Honk!\n", num, stop);
    std::this_thread::sleep_for(nap);
  }
}

int main(int argc, char** argv) {
  const seconds until_terminate{argc > 1 ? std::atof(argv[1]) : 5};
  const seconds nap{argc > 2 ? std::atof(argv[2]) : 1};

  // What a process has printed but not yet written dies with it, so write line by line.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);

  whoami("main");
  multiprocessing::Process p(loopy, "loopy", nap);
  p.start();
  std::this_thread::sleep_for(until_terminate);
  p.terminate();
}
