// SPDX-License-Identifier: MIT
// Naming a process in shared memory, where no descriptor can lie and a pid alone may be reused.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "fd.hpp"
#include "pidfd.hpp"
#include "poll.hpp"
#include "this_process.hpp"

namespace brood::posix {

/// A pid with the low half of the process's start time (field 22 of /proc/PID/stat, in clock
/// ticks since boot; 0 if it could not be learned): one word. 0 is nobody.
class ProcessIdentity {
 public:
  constexpr ProcessIdentity() noexcept = default;
  constexpr explicit ProcessIdentity(std::uint64_t word) noexcept : word_{word} {}

  /// Of a process that exists now.
  static ProcessIdentity of(pid_t pid) noexcept {
    return ProcessIdentity{std::uint64_t{static_cast<std::uint32_t>(pid)} << 32 | start_time(pid)};
  }

  std::uint64_t word() const noexcept { return word_; }
  pid_t pid() const noexcept { return static_cast<pid_t>(word_ >> 32); }
  explicit operator bool() const noexcept { return word_ != 0; }

  /// A descriptor of that very process if it has not ended (a zombie has), else none. Throws
  /// os::OSError, as when descriptors have run out.
  unique_fd open() const {
    const long fd = ::syscall(SYS_pidfd_open, pid(), 0);
    if (fd < 0) {
      if (errno == ESRCH || errno == EINVAL) return {};  // EINVAL: the number of a thread by now
      throw_errno("open a descriptor of process", std::to_string(pid()));
    }
    unique_fd pidfd{static_cast<int>(fd)};
    // Unknown, since there is no /proc or descriptors have run out: then the pid must do.
    const auto then = static_cast<std::uint32_t>(word_);
    const std::uint32_t now = start_time(pid());
    if (then != 0 && now != 0 && now != then) return {};
    if (wait_readable(pidfd.get(), Deadline{std::chrono::nanoseconds{0}})) return {};
    return pidfd;
  }

  /// Its parent's pid; 0 if it can't be learned.
  static pid_t parent_of(pid_t pid) noexcept {
    char text[1024];
    const char* const at = read_stat(pid, text);
    int parent = 0;
    return at != nullptr && std::sscanf(at, ") %*c %d", &parent) == 1 ? parent : 0;
  }

  /// Whether it is stopped, by a signal or a debugger; false if that can't be learned.
  bool is_stopped() const noexcept {
    char text[1024];
    const char* const at = read_stat(pid(), text);
    return at != nullptr && (std::strncmp(at, ") T", 3) == 0 || std::strncmp(at, ") t", 3) == 0);
  }

  friend constexpr bool operator==(ProcessIdentity, ProcessIdentity) noexcept = default;

 private:
  // What /proc tells of a process, from the bracket before field 3 on, in `text`; null if nothing.
  static const char* read_stat(pid_t pid, char (&text)[1024]) noexcept {
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
    const unique_fd fd{::open(path, O_RDONLY | O_CLOEXEC)};
    const ssize_t length = fd ? read_some(fd.get(), text, sizeof text - 1) : -1;
    if (length <= 0) return nullptr;
    text[length] = '\0';
    // The command's name, field 2, is in brackets and may hold anything; field 3 follows the last.
    return std::strrchr(text, ')');
  }
  static std::uint32_t start_time(pid_t pid) noexcept {
    char text[1024];
    const char* at = read_stat(pid, text);
    for (int field = 2; at != nullptr && field < 22; ++field) at = std::strchr(at + 1, ' ');
    return at == nullptr ? 0 : static_cast<std::uint32_t>(std::strtoull(at, nullptr, 10));
  }

  std::uint64_t word_ = 0;
};

}  // namespace brood::posix
