// SPDX-License-Identifier: MIT
// Descriptors that name a process (pidfd_open(2)): they never mean another process, and they are
// readable once it has ended.
#pragma once

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstdint>

#include "fd.hpp"

namespace brood::posix {

/// A descriptor for `pid`, which must be a child not yet waited for. Empty where the kernel or a
/// seccomp filter knows no such call.
inline unique_fd open_pidfd(pid_t pid) {
  const long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0 && !means_unsupported(errno))
    throw_errno("open a descriptor of process", std::to_string(pid));
  unique_fd pidfd{static_cast<int>(fd)};
  keep_off_standard_streams(pidfd);
  return pidfd;
}

/// Owns a new pidfd, kept off the standard streams if that can be: the child is there already.
inline unique_fd lifted(int pidfd) noexcept {
  unique_fd result{pidfd};
  try {
    keep_off_standard_streams(result);
  } catch (const os::OSError&) {
  }
  return result;
}

/// For a child that runs already, and can be waited for without. Empty when there is none to be
/// had.
inline unique_fd try_open_pidfd(pid_t pid) noexcept {
  return lifted(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

/// kill(2) by descriptor. Returns 0, or -1 with errno.
inline int send_signal_by_pidfd(int pidfd, int signal) noexcept {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

/// P_PIDFD of waitid(2), which not every C library's header has.
inline constexpr auto id_is_pidfd = static_cast<idtype_t>(3);

/// The system call under waitid(3), which also fills in the resources used. Retries EINTR.
inline int wait_id(idtype_t type, id_t id, siginfo_t* info, int options, rusage* usage) noexcept {
  return retry_on_eintr(
      [&] { return static_cast<int>(::syscall(SYS_waitid, type, id, info, options, usage)); });
}

/// Ends a child that nobody has been told of.
inline void kill_and_reap(pid_t pid) noexcept {
  ::kill(pid, SIGKILL);
  wait_id(P_PID, static_cast<id_t>(pid), nullptr, WEXITED, nullptr);
}

/// Whether the kernel throws away this process's ended children instead of keeping them as zombies
/// (SIGCHLD is ignored, or SA_NOCLDWAIT is set), so that only a pidfd opened before the end can
/// tell the code.
inline bool children_vanish() noexcept {
  struct sigaction action {};
  if (::sigaction(SIGCHLD, nullptr, &action) != 0) return false;
  return action.sa_handler == SIG_IGN || (action.sa_flags & SA_NOCLDWAIT) != 0;
}

/// Whether a child may be gone as soon as it ends: as above, or a handler of SIGCHLD collects all.
inline bool children_may_vanish() noexcept {
  struct sigaction action {};
  if (::sigaction(SIGCHLD, nullptr, &action) != 0) return false;
  return action.sa_handler != SIG_DFL || (action.sa_flags & SA_NOCLDWAIT) != 0;
}

/// The wait status of an ended process whose zombie somebody else collected, or that the kernel
/// threw away because SIGCHLD is ignored. False with errno before Linux 6.15, which began to keep
/// it, and, with EAGAIN, while it is not known yet.
inline bool exit_status_by_pidfd(int pidfd, int& wait_status) noexcept {
  struct Info {                    // struct pidfd_info of <linux/pidfd.h>, first version
    std::uint64_t mask = 1u << 3;  // PIDFD_INFO_EXIT
    std::uint64_t cgroup = 0;
    std::uint32_t ids[11] = {};
    std::int32_t exit_code = 0;
  } info;
  static_assert(sizeof info == 64);
  if (::ioctl(pidfd, _IOWR(0xFF, 11, Info), &info) != 0) return false;
  if ((info.mask & (1u << 3)) == 0) {
    errno = EAGAIN;  // it has not ended, or is just about to
    return false;
  }
  wait_status = info.exit_code;
  return true;
}

}  // namespace brood::posix
