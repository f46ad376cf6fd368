// SPDX-License-Identifier: MIT
// Pairs of sockets, born close-on-exec.
#pragma once

#include <sys/socket.h>

#include "fd.hpp"

namespace brood::posix {

/// Two sockets of a type (SOCK_STREAM, SOCK_SEQPACKET) that are connected with each other. Throws
/// os::OSError.
inline void make_sockets(int type, unique_fd& one, unique_fd& other) {
  int ends[2];
  check(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), "make a socket pair");
  one.reset(ends[0]);
  other.reset(ends[1]);
  keep_off_standard_streams(one);
  keep_off_standard_streams(other);
}

}  // namespace brood::posix
