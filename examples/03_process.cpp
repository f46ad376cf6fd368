// SPDX-License-Identifier: MIT
//
// 3. Creation of the process by using multiprocessing: a function in a process of its own.
//
//     import multiprocessing
//     import os
//
//     def whoami(what):
//         print(f'[INFO] Process {os.getpid()} says: {what}')
//
//     if __name__ == "__main__":
//         whoami("I'm the main program")
//         for n in range(4):
//             p = multiprocessing.Process(
//                 target=whoami,
//                 args=(f"I'm function {n}",)
//             )
//             p.start()
#include <brood/multiprocessing.hpp>
#include <brood/os.hpp>

#include <fmt/core.h>

#include <string>

namespace multiprocessing = brood::multiprocessing;
namespace os = brood::os;

void whoami(const std::string& what) {
  fmt::print("[INFO] Process {} says: {}\n", os::getpid(), what);
}

int main() {
  whoami("I'm the main program");
  for (int n = 0; n < 4; ++n) {
    multiprocessing::Process p(whoami, fmt::format("I'm function {}", n));
    p.start();
  }
  // As in Python, a program does not end before its processes have.
}
