// SPDX-License-Identifier: MIT
//
// How a test knows that its other threads wait, when nothing else shows it:
//
//   const int before = support::sleepers();
//   getter.start();
//   support::await_sleepers(before + 1);
//
// A sanitizer has a thread of its own that mostly sleeps, so a test must hold also when the wait is
// over too early.
#pragma once

#include <dirent.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <brood/posix/sanitizers.hpp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace support {

// ThreadSanitizer cannot follow a child that starts threads after the fork of a program with
// several ("dup thread with used id"). In such a child AddressSanitizer's allocator of GCC 12 may
// wait for ever for a lock that another thread held at the fork.
inline constexpr bool under_tsan = brood::posix::thread_sanitized;
inline constexpr bool under_asan = brood::posix::address_sanitized;

// The threads of this process that sleep in the kernel, but for the calling one.
inline int sleepers() {
  int count = 0;
  DIR* tasks = ::opendir("/proc/self/task");
  while (const dirent* entry = ::readdir(tasks)) {
    if (entry->d_name[0] == '.' ||
        std::atoi(entry->d_name) == static_cast<int>(::syscall(SYS_gettid)))
      continue;
    std::FILE* file =
        std::fopen((std::string("/proc/self/task/") + entry->d_name + "/stat").c_str(), "re");
    if (file == nullptr) continue;
    char line[256] = {};
    const std::size_t size = std::fread(line, 1, sizeof line - 1, file);
    std::fclose(file);
    line[size] = '\0';
    const char* name_end = std::strrchr(line, ')');
    if (name_end != nullptr && name_end[2] == 'S') ++count;
  }
  ::closedir(tasks);
  return count;
}

// Waits until there are as many.
inline void await_sleepers(int count) {
  while (sleepers() < count) ::sched_yield();
}

}  // namespace support
