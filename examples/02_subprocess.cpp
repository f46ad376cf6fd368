// SPDX-License-Identifier: MIT
//
// 2. Creation of the process: four ways to run `date`.
//
//     import subprocess
//
//     if __name__ == "__main__":
//         ret = subprocess.getoutput('date')
//         print(f'[INFO] ret: {ret}')
//         ret = subprocess.check_output('date')
//         print(f'[INFO] ret: {ret}')
//         ret = subprocess.getstatusoutput('date')
//         print(f'[INFO] ret: {ret}')
//         ret = subprocess.call('date')
//         print(f'[INFO] ret: {ret}')
#include <brood/subprocess.hpp>

#include <fmt/core.h>
#include <fmt/ranges.h>  // prints the pair

#include <cstdio>

namespace subprocess = brood::subprocess;

int main() {
  // Into a pipe, too, print line by line: in the last call date writes to our standard output
  // itself, and what we printed before must be there first.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);

  fmt::print("[INFO] ret: {}\n", subprocess::getoutput("date"));
  fmt::print("[INFO] ret: {:?}\n", subprocess::check_output("date"));  // with its "\n"
  fmt::print("[INFO] ret: {}\n", subprocess::getstatusoutput("date"));
  fmt::print("[INFO] ret: {}\n", subprocess::call("date"));
}
