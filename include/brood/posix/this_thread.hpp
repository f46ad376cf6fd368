// SPDX-License-Identifier: MIT
// The kernel's number of the calling thread, which no other thread of the machine has meanwhile.
#pragma once

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

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

}  // namespace brood::posix
