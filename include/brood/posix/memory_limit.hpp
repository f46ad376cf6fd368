// SPDX-License-Identifier: MIT
// A limit on the memory that a process may have of its own.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>

#include <cstdlib>
#include <cstring>

#include "fd.hpp"
#include "sanitizers.hpp"

namespace brood::posix {

/// From now on the calling process can have `bytes` more of private memory (heap, stacks of
/// threads, private mappings; not what is shared), then allocations fail. A lower limit stays. In a
/// build with a sanitizer, whose bookkeeping takes many times that, there is no limit. Throws
/// os::OSError.
inline void limit_private_memory(std::size_t bytes) {
  if (sanitized) return;
  char text[4096];
  std::size_t length = 0;
  {
    const unique_fd status{check(::open("/proc/self/status", O_RDONLY | O_CLOEXEC),
                                 "memory_limit: learn from /proc/self/status, which has to be "
                                 "there, how much the worker has")};
    while (length < sizeof text - 1) {
      const ssize_t got = read_some(status.get(), text + length, sizeof text - 1 - length);
      if (got <= 0) break;
      length += static_cast<std::size_t>(got);
    }
  }
  text[length] = '\0';
  const char* const line = std::strstr(text, "VmData:");
  const rlim_t present = line == nullptr ? 0 : std::strtoull(line + 7, nullptr, 10) * 1024;
  rlimit limit{};
  check(::getrlimit(RLIMIT_DATA, &limit), "memory_limit: getrlimit");
  if (bytes >= RLIM_INFINITY - present || present + bytes >= limit.rlim_cur) return;
  limit.rlim_cur = limit.rlim_max = present + bytes;
  check(::setrlimit(RLIMIT_DATA, &limit), "memory_limit: setrlimit");
}

}  // namespace brood::posix
