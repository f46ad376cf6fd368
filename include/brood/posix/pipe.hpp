// SPDX-License-Identifier: MIT
// Pipes, born close-on-exec.
#pragma once

#include "fd.hpp"

namespace brood::posix {

struct PipeEnds {
  unique_fd read;
  unique_fd write;
};

/// `flags` may add O_NONBLOCK and O_DIRECT (packet mode, pipe(2)).
inline PipeEnds make_pipe(int flags = 0) {
  int ends[2];
  check(::pipe2(ends, O_CLOEXEC | flags), "make a pipe");
  PipeEnds pipe{unique_fd{ends[0]}, unique_fd{ends[1]}};
  keep_off_standard_streams(pipe.read);
  keep_off_standard_streams(pipe.write);
  return pipe;
}

/// Asks for a kernel buffer of `bytes`; false when the system refuses (the user's budget is spent).
inline bool try_set_pipe_size(int fd, int bytes) noexcept {
  return ::fcntl(fd, F_SETPIPE_SZ, bytes) >= 0;
}

}  // namespace brood::posix
