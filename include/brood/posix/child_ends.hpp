// SPDX-License-Identifier: MIT
// The ends of all children, in a process of one thread that has nothing else to do than to look
// after them: SIGCHLD as a descriptor to poll.
#pragma once

#include <sys/signalfd.h>

#include "pidfd.hpp"

namespace brood::posix {

class ChildEnds {
 public:
  /// Made in the process that forks such a one, where a lack of descriptors can be told: throws
  /// os::OSError. Changes no signal there.
  ChildEnds()
      : signals_{own_new(::signalfd(-1, &only_sigchld(), SFD_CLOEXEC | SFD_NONBLOCK), "signalfd")} {
  }

  /// In that process: SIGCHLD gets its default action, and from now on it alone is blocked, or it
  /// and `another`.
  void take_charge(int another = SIGCHLD) noexcept {
    ::signal(SIGCHLD, SIG_DFL);
    sigset_t blocked = only_sigchld();
    sigaddset(&blocked, another);
    ::sigprocmask(SIG_SETMASK, &blocked, nullptr);
  }

  /// Readable when reap() has something to do.
  int fileno() const noexcept { return signals_.get(); }

  /// Calls f(pid, code, usage) for each child that has ended (code -N: death by signal N), until it
  /// returns false: there are no others.
  template <class F>
  void reap(F f) {
    signalfd_siginfo ignored;  // one stands for all that ended meanwhile
    read_some(signals_.get(), &ignored, sizeof ignored);
    for (;;) {
      siginfo_t info{};
      rusage usage{};
      if (wait_id(P_ALL, 0, &info, WEXITED | WNOHANG, &usage) != 0 || info.si_pid == 0) return;
      if (!f(info.si_pid, info.si_code == CLD_EXITED ? info.si_status : -info.si_status, usage))
        return;
    }
  }

  /// In a child: closes the descriptor.
  void close() noexcept { signals_.discard(); }

 private:
  static const sigset_t& only_sigchld() noexcept {
    static const sigset_t set = [] {
      sigset_t made;
      sigemptyset(&made);
      sigaddset(&made, SIGCHLD);
      return made;
    }();
    return set;
  }

  unique_fd signals_;
};

}  // namespace brood::posix
