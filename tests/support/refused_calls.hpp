// SPDX-License-Identifier: MIT
//
// A sandbox that refuses system calls, as containers and old kernels do, to this process and all
// that it starts, for good: for use in a forked child.
//
//   support::in_child([] {
//     if (!support::refuse({{SYS_clone3, ENOSYS}})) return 77;
//     ...
//   });
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <vector>

namespace support {

struct RefusedCall {
  long number = 0;
  int error = ENOSYS;
  // Only calls in which the bits `mask` of this argument (0 is the first) are `value`.
  int argument = -1;
  unsigned mask = ~0u;
  unsigned value = 0;
};

// False where this process may not have such a filter.
inline bool refuse(const std::vector<RefusedCall>& calls) {
  std::vector<sock_filter> program;
  for (const RefusedCall& call : calls) {
    const bool looks_at_argument = call.argument >= 0;
    const auto rest = static_cast<unsigned char>(looks_at_argument ? 4 : 1);
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    program.push_back(
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call.number), 0, rest));
    if (looks_at_argument) {
      const auto low_word = static_cast<unsigned>(offsetof(seccomp_data, args)) +
                            8 * static_cast<unsigned>(call.argument);  // on a little-endian machine
      program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low_word));
      program.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, call.mask));
      program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call.value, 0, 1));
    }
    program.push_back(
        BPF_STMT(BPF_RET | BPF_K,
                 SECCOMP_RET_ERRNO | (static_cast<unsigned>(call.error) & SECCOMP_RET_DATA)));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace support
