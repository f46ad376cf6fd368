// SPDX-License-Identifier: MIT
// Signals of the calling thread: blocking them for a scope, and writing without SIGPIPE.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <ctime>

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

}  // namespace brood::posix
