// SPDX-License-Identifier: MIT
// Signals of the calling thread: blocking them for a scope, and writing without SIGPIPE. Their
// names.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <ctime>
#include <string>

#include "fd.hpp"

namespace brood::posix {

/// Blocks every signal in the calling thread for a scope; the mask found is put back at its end.
class BlockAllSignals {
 public:
  BlockAllSignals() noexcept {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~BlockAllSignals() {
    const int saved = errno;
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = saved;
  }
  BlockAllSignals(const BlockAllSignals&) = delete;
  BlockAllSignals& operator=(const BlockAllSignals&) = delete;

  /// The mask that was in force, and will be again.
  const sigset_t& before() const noexcept { return before_; }

 private:
  sigset_t before_;
};

/// The same for one signal.
class BlockSignal {
 public:
  explicit BlockSignal(int signal) noexcept {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    pthread_sigmask(SIG_BLOCK, &one, &before_);
  }
  ~BlockSignal() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockSignal(const BlockSignal&) = delete;
  BlockSignal& operator=(const BlockSignal&) = delete;

 private:
  sigset_t before_;
};

/// Keeps SIGPIPE from reaching the calling thread for a scope and eats the one that a write here
/// raised, while one that was pending before stays pending. The process's disposition is not
/// touched. (The method: SIGPIPE is delivered to the writing thread, so blocking it there is
/// enough; sigtimedwait(2) takes it back.)
class SuppressSigpipe {
 public:
  SuppressSigpipe() noexcept {
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    if (was_pending_) return;
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &before);
    was_blocked_ = sigismember(&before, SIGPIPE) == 1;
  }
  ~SuppressSigpipe() {
    if (was_pending_) return;
    const int saved = errno;
    const timespec now{};
    while (sigtimedwait(&sigpipe_, nullptr, &now) < 0 && errno == EINTR) {
    }
    if (!was_blocked_) pthread_sigmask(SIG_UNBLOCK, &sigpipe_, nullptr);
    errno = saved;
  }
  SuppressSigpipe(const SuppressSigpipe&) = delete;
  SuppressSigpipe& operator=(const SuppressSigpipe&) = delete;

 private:
  sigset_t sigpipe_;
  bool was_pending_ = false;
  bool was_blocked_ = false;
};

/// "SIGTERM" for 15; empty for a number without a name of its own.
inline const char* signal_name(int signal) noexcept {
  switch (signal) {
    // clang-format off
    case SIGHUP: return "SIGHUP";
    case SIGINT: return "SIGINT";
    case SIGQUIT: return "SIGQUIT";
    case SIGILL: return "SIGILL";
    case SIGTRAP: return "SIGTRAP";
    case SIGABRT: return "SIGABRT";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    case SIGKILL: return "SIGKILL";
    case SIGUSR1: return "SIGUSR1";
    case SIGSEGV: return "SIGSEGV";
    case SIGUSR2: return "SIGUSR2";
    case SIGPIPE: return "SIGPIPE";
    case SIGALRM: return "SIGALRM";
    case SIGTERM: return "SIGTERM";
    case SIGCHLD: return "SIGCHLD";
    case SIGCONT: return "SIGCONT";
    case SIGSTOP: return "SIGSTOP";
    case SIGTSTP: return "SIGTSTP";
    case SIGTTIN: return "SIGTTIN";
    case SIGTTOU: return "SIGTTOU";
    case SIGURG: return "SIGURG";
    case SIGXCPU: return "SIGXCPU";
    case SIGXFSZ: return "SIGXFSZ";
    case SIGVTALRM: return "SIGVTALRM";
    case SIGPROF: return "SIGPROF";
    case SIGWINCH: return "SIGWINCH";
    case SIGIO: return "SIGIO";
    case SIGPWR: return "SIGPWR";
    case SIGSYS: return "SIGSYS";
    default: return "";
      // clang-format on
  }
}

/// A command as messages show it: one string as it is, several as a shell line.

/// How a process ended: "was killed by SIGSEGV (signal 11)", "ended with code 3".
inline std::string describe_end(int returncode) {
  if (returncode >= 0) return "ended with code " + std::to_string(returncode);
  const std::string number = std::to_string(-returncode);
  const char* const name = signal_name(-returncode);
  if (*name == '\0') return "was killed by signal " + number;
  return "was killed by " + (name + (" (signal " + number + ")"));
}

}  // namespace brood::posix
