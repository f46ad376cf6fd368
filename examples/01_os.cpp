// SPDX-License-Identifier: MIT
//
// 1. Who am I? What the operating system says of this process.
//
// The Python original is a table of basic functions:
//
//     |Function   |Return                   |
//     |-----------|-------------------------|
//     |os.getpid  |pid of the process       |
//     |os.getppid |pid of the parent process|
//     |os.getcwd  |current working directory|
//     |os.getuid  |id of the user           |
//     |os.getgid  |id of the group          |
#include <brood/os.hpp>

#include <fmt/core.h>

namespace os = brood::os;

int main() {
  fmt::print("[INFO] pid of the process: {}\n", os::getpid());
  fmt::print("[INFO] pid of the parent process: {}\n", os::getppid());
  fmt::print("[INFO] current working directory: {}\n", os::getcwd());
  fmt::print("[INFO] id of the user: {}\n", os::getuid());
  fmt::print("[INFO] id of the group: {}\n", os::getgid());
}
