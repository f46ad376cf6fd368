// SPDX-License-Identifier: MIT
//
// 13. A stubborn child: it takes no notice of SIGTERM, and a child of its own holds the pipe.
//
// A time limit holds all the same, and with kill_tree nothing of it is left. (In Python run() waits
// for the helper to let go of the pipe: for a hundred seconds here.)
#include <brood/subprocess.hpp>

#include <fmt/core.h>

#include <chrono>
#include <string>

namespace subprocess = brood::subprocess;
using namespace std::chrono_literals;

const std::string stubborn = "trap '' TERM; sleep 100 & echo working; wait";

void with_run() {
  try {
    subprocess::run(stubborn,
                    {.capture_output = true, .timeout = 1s, .shell = true, .kill_tree = true});
  } catch (const subprocess::TimeoutExpired& error) {
    fmt::print("[INFO] It did not end in time. It said: {:?}\n", error.out());
  }
}

// The usual way to end a program: ask, wait a little, insist.
void by_hand() {
  subprocess::Popen process(stubborn, {.out = subprocess::PIPE, .shell = true, .kill_tree = true});
  fmt::print("[INFO] It says: {}", process.out.readline());
  process.terminate();
  try {
    process.wait(100ms);
  } catch (const subprocess::TimeoutExpired&) {
    fmt::print("[INFO] It does not end when asked to.\n");
    process.kill();
  }
  fmt::print("[INFO] It was ended: {}\n", process.wait());
  fmt::print("[INFO] Nobody holds the pipe: {:?}\n", process.out.read());
}

int main() {
  with_run();
  by_hand();
}
