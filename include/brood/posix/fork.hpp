// SPDX-License-Identifier: MIT
// fork(2) for children that go on in this program: nothing printed twice, nothing run twice.
#pragma once

#include <stdio.h>
#include <stdio_ext.h>
#include <sys/types.h>
#include <unistd.h>

#include "error.hpp"
#include "fd.hpp"
#include "iostreams.hpp"
#include "this_process.hpp"

namespace brood::posix {

/// Writes out what stdio and the standard iostreams hold, so that a fork does not copy it and an
/// _exit does not lose it.
inline void flush_output() noexcept {
  try {
    flush_iostreams();
  } catch (...) {  // the program asked its streams to throw; the flush is still best effort
  }
  // fflush(nullptr) takes the lock of every stream, also of a stdin that another thread is blocked
  // in reading.
  if (::ftrylockfile(stdin) == 0) {
    ::funlockfile(stdin);
    ::fflush(nullptr);
  } else {
    ::fflush(stdout);
    ::fflush(stderr);
  }
}

/// Flushes and forks. 0 in the child. Throws os::OSError (EAGAIN, ENOMEM).
inline pid_t flush_and_fork() {
  flush_output();
  return check(::fork(), "fork");
}

/// _exit, known to a process from its start on: see ForkServerProcess.
inline void (*const volatile exit_at_once)(int) = &::_exit;

/// Ends a forked child: what it printed is written, what it started is waited for, and neither the
/// parent's exit handlers nor its static destructors run.
[[noreturn]] inline void end_forked_child(int code) noexcept {
  run_end_hooks();
  flush_output();
  exit_at_once(code);
  __builtin_unreachable();
}

/// Makes a later std::exit() of this forked child end as end_forked_child() does: exit handlers run
/// last in, first out, so this one comes before all that were inherited.
inline void catch_exit_in_forked_child() noexcept {
  ::on_exit([](int status, void*) { end_forked_child(status); }, nullptr);
}

/// Gives a forked child an empty standard input: what its parent has buffered or will read is not
/// the child's (Python does the same).
inline void detach_stdin() {
  // The lowest free number is what open() gives, and no other thread is there to take it: so this
  // works without a descriptor to spare.
  ::close(STDIN_FILENO);
  ::open("/dev/null", O_RDONLY);
  ::__fpurge(stdin);
  ::clearerr(stdin);
  try {
    drain_iostreams_input();
  } catch (...) {  // the program asked for exceptions at the end of input
  }
}

}  // namespace brood::posix
