// SPDX-License-Identifier: MIT
// File descriptors: an owner, and the calls that every descriptor takes.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <string>
#include <utility>

#include "error.hpp"
#include "exchange.hpp"

namespace brood::posix {

/// Owns one descriptor and closes it. -1 is none.
class unique_fd {
 public:
  unique_fd() noexcept = default;
  explicit unique_fd(int fd) noexcept : fd_{fd} {}
  unique_fd(unique_fd&& other) noexcept : fd_{other.release()} {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~unique_fd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return posix::exchange(fd_, -1); }

  /// Closes what is held, keeping errno. close() is never retried: on Linux the descriptor is gone
  /// even after EINTR (close(2)).
  void reset(int fd = -1) noexcept {
    const int old = posix::exchange(fd_, fd);
    if (old < 0) return;
    const int saved = errno;
    // Not written for nothing: after a fork that would have a page copied.
    if (::close(old) != 0) errno = saved;
  }

  /// As reset(), but errno is not kept: keeping it takes code on a page of its own, which a child
  /// that was just forked would have to map for that.
  void discard() noexcept {
    const int old = posix::exchange(fd_, -1);
    if (old >= 0) ::close(old);
  }

 private:
  int fd_ = -1;
};

inline unique_fd open_file(const char* path, int flags, mode_t mode = 0666) {
  unique_fd fd{retry_on_eintr([&] { return ::open(path, flags | O_CLOEXEC, mode); })};
  if (!fd) throw_errno("open", path);
  return fd;
}

/// A second descriptor for the same open file, numbered `at_least` or above: beyond the standard
/// streams.
inline unique_fd duplicate(int fd, int at_least = STDERR_FILENO + 1) {
  return unique_fd{check(::fcntl(fd, F_DUPFD_CLOEXEC, at_least), "duplicate a descriptor")};
}

/// Gives a descriptor just made a number beyond those of the standard streams, which it has where
/// the program was started without them, or has closed them: a child opens its input anew, and
/// whoever prints would print into it.
inline void keep_off_standard_streams(unique_fd& fd) {
  if (fd && fd.get() <= STDERR_FILENO) fd = duplicate(fd.get());
}

/// Owns what a call has just made, numbered so; os::OSError if that is negative.
inline unique_fd own_new(int fd, const char* attempt) {
  unique_fd result{check(fd, attempt)};
  keep_off_standard_streams(result);
  return result;
}

inline void set_nonblocking(int fd, bool on) {
  const int flags = check(::fcntl(fd, F_GETFL), "fcntl(F_GETFL)");
  const int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted != flags) check(::fcntl(fd, F_SETFL, wanted), "fcntl(F_SETFL)");
}

/// read(2), retried on EINTR. Returns what read returns, with errno: -1 may be EAGAIN.
inline ssize_t read_some(int fd, void* buffer, std::size_t size) noexcept {
  return retry_on_eintr([&] { return ::read(fd, buffer, size); });
}

/// write(2), retried on EINTR. Returns what write returns, with errno. May raise SIGPIPE: see
/// signals.hpp.
inline ssize_t write_some(int fd, const void* data, std::size_t size) noexcept {
  return retry_on_eintr([&] { return ::write(fd, data, size); });
}

}  // namespace brood::posix
