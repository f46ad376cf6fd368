// SPDX-License-Identifier: MIT
// fork(2) for children that go on in this program: nothing printed twice, nothing run twice.
#pragma once

#include <stdio.h>
#include <stdio_ext.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdio>

#include "error.hpp"
#include "fd.hpp"
#include "iostreams.hpp"
#include "this_process.hpp"

namespace brood::posix {

// The list of all streams: what glibc has for those who go through it, and no header declares.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
[[gnu::weak]] void _IO_list_lock();
[[gnu::weak]] void _IO_list_unlock();
[[gnu::weak]] std::FILE* _IO_iter_begin();
[[gnu::weak]] std::FILE* _IO_iter_end();
[[gnu::weak]] std::FILE* _IO_iter_next(std::FILE*);
[[gnu::weak]] std::FILE* _IO_iter_file(std::FILE*);
[[gnu::weak]] extern char __libc_single_threaded;  // since glibc 2.32
// NOLINTEND(bugprone-reserved-identifier)
}

/// fflush(nullptr), but for streams that are being read. That would wait for the lock of each, and
/// so, keeping all others from opening a file or forking, for the thread that is blocked in a read.
inline void flush_all_streams() noexcept {
  if (_IO_list_lock == nullptr || _IO_list_unlock == nullptr || _IO_iter_begin == nullptr ||
      _IO_iter_end == nullptr || _IO_iter_next == nullptr || _IO_iter_file == nullptr) {
    ::fflush(nullptr);
    return;
  }
  // The lock lies on a page that a forked child would have to copy for it.
  const bool is_alone = &__libc_single_threaded != nullptr && __libc_single_threaded != 0;
  if (!is_alone) _IO_list_lock();
  for (auto* at = _IO_iter_begin(); at != _IO_iter_end(); at = _IO_iter_next(at)) {
    std::FILE* const stream = _IO_iter_file(at);
    if (::__fpending(stream) == 0) continue;
    if (::ftrylockfile(stream) != 0) {
      if (::__fwriting(stream) == 0) continue;
      ::flockfile(stream);
    }
    if (::__fwriting(stream) != 0) ::fflush_unlocked(stream);
    ::funlockfile(stream);
  }
  if (!is_alone) _IO_list_unlock();
}

/// Writes out what stdio and the standard iostreams hold, so that a fork does not copy it and an
/// _exit does not lose it.
inline void flush_output() noexcept {
  try {
    flush_iostreams();
  } catch (...) {  // the program asked its streams to throw; the flush is still best effort
  }
  flush_all_streams();
}

/// A function of another library that a forked child calls and its parent does not. An ordinary
/// call is the dynamic linker's search for it when it is made first, which touches many pages, and
/// each child would make it anew; the address of this one is there since the program was loaded.
template <auto function>
inline decltype(function) const volatile bound_at_load = function;

/// Ends a forked child: what it printed is written, what it started is waited for, and neither the
/// parent's exit handlers nor its static destructors run.
[[noreturn]] inline void end_forked_child(int code) noexcept {
  run_end_hooks();
  flush_output();
  bound_at_load<&::_exit>(code);
  __builtin_unreachable();
}

/// Makes a later std::exit() of this forked child end as end_forked_child() does: exit handlers run
/// last in, first out, so this one comes before all that were inherited.
inline void catch_exit_in_forked_child() noexcept {
  bound_at_load<&::on_exit>([](int status, void*) { end_forked_child(status); }, nullptr);
}

/// Drops what this process, a forked child, has of its parent's standard input in buffers.
inline void drop_buffered_input() {
  bound_at_load<&::__fpurge>(stdin);
  bound_at_load<&::clearerr>(stdin);
  try {
    drain_iostreams_input();
  } catch (...) {  // the program asked for exceptions at the end of input
  }
}

/// Gives a forked child an empty standard input: what its parent has buffered or will read is not
/// the child's (Python does the same).
inline void detach_stdin() {
  // The lowest free number is what open() gives, and no other thread is there to take it: so this
  // works without a descriptor to spare.
  ::close(STDIN_FILENO);
  ::open("/dev/null", O_RDONLY);
  drop_buffered_input();
}

/// The same with an empty file that the parent has opened, beyond the standard streams.
inline void detach_stdin(unique_fd empty_file) {
  bound_at_load<&::dup2>(empty_file.get(), STDIN_FILENO);
  ::close(empty_file.release());  // needs no errno, which lies on another page
  drop_buffered_input();
}

/// For that: /dev/null, or something that can't be read where there is none. Throws os::OSError.
inline unique_fd open_empty_file() {
  unique_fd file{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  if (!file) file.reset(check(::open("/", O_PATH | O_CLOEXEC), "open an empty standard input"));
  keep_off_standard_streams(file);
  return file;
}

}  // namespace brood::posix
