// SPDX-License-Identifier: MIT
// The kernel's number of the calling thread, which no other thread of the machine has meanwhile.
#pragma once

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <ctime>

namespace brood::posix {

inline constinit thread_local pid_t remembered_thread_id = 0;

/// gettid() without the system call: remembered, and renewed in each forked child (also of a bare
/// fork(), but not of a raw clone).
inline pid_t this_thread_id() noexcept {
  if (remembered_thread_id == 0) {
    static const int registered =
        pthread_atfork(nullptr, nullptr, [] { remembered_thread_id = 0; });
    static_cast<void>(registered);
    remembered_thread_id = static_cast<pid_t>(::syscall(SYS_gettid));
  }
  return remembered_thread_id;
}

inline constinit thread_local std::uint64_t remembered_thread_mark = 0;

/// The same number, and above its 32 bits those of a clock when the thread was first asked: so no
/// thread that is given the number of a dead one is taken for that.
inline std::uint64_t this_thread_mark() noexcept {
  const auto id = static_cast<std::uint32_t>(this_thread_id());
  if (static_cast<std::uint32_t>(remembered_thread_mark) != id) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const auto time = static_cast<std::uint64_t>(now.tv_sec * 1'000'000'000 + now.tv_nsec);
    remembered_thread_mark = (time >> 4) << 32 | id;
  }
  return remembered_thread_mark;
}

}  // namespace brood::posix
