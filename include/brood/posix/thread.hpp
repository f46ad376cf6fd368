// SPDX-License-Identifier: MIT
// Threads of the operating system.
#pragma once

#include <pthread.h>

#include "../function.hpp"
#include "error.hpp"
#include "exchange.hpp"
#include "signals.hpp"

namespace brood::posix {

/// Which signals a new thread takes: all that its creator does, or none (for threads that brood
/// runs for itself, so that the program's handlers run on the program's threads).
enum class ThreadSignals : bool { inherit, none };

/// One thread; joins it at the end of its life unless detached.
class OsThread {
 public:
  OsThread() noexcept = default;

  /// Runs `body(argument)`, which must not throw, on a stack of `stack_size` bytes (0: the system's
  /// default). Throws os::OSError (EAGAIN: no more threads to be had; EINVAL: no such stack).
  OsThread(void* (*body)(void*), void* argument, ThreadSignals signals = ThreadSignals::inherit,
           std::size_t stack_size = 0) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    int error = stack_size == 0 ? 0 : pthread_attr_setstacksize(&attributes, stack_size);
    if (error == 0 && signals == ThreadSignals::none) {
      const BlockAllSignals blocked;
      error = pthread_create(&thread_, &attributes, body, argument);
    } else if (error == 0) {
      error = pthread_create(&thread_, &attributes, body, argument);
    }
    pthread_attr_destroy(&attributes);
    if (error != 0) throw_os_error(error, "start a thread");
    joinable_ = true;
  }

  /// The same for anything that can be called. The thread frees what holds it: so it has a heap of
  /// its own, which the one above has not, unless it allocates.
  explicit OsThread(Function<void()> body, ThreadSignals signals = ThreadSignals::inherit,
                    std::size_t stack_size = 0) {
    auto* const argument = new Function<void()>{std::move(body)};
    try {
      *this = OsThread{&run, argument, signals, stack_size};
    } catch (...) {
      delete argument;
      throw;
    }
  }

  OsThread(OsThread&& other) noexcept
      : thread_{other.thread_}, joinable_{posix::exchange(other.joinable_, false)} {}
  OsThread& operator=(OsThread&& other) noexcept {
    join();
    thread_ = other.thread_;
    joinable_ = posix::exchange(other.joinable_, false);
    return *this;
  }
  ~OsThread() { join(); }

  bool joinable() const noexcept { return joinable_; }
  pthread_t native_handle() const noexcept { return thread_; }

  /// Waits for the end of the thread.
  void join() noexcept {
    if (posix::exchange(joinable_, false)) pthread_join(thread_, nullptr);
  }
  /// Lets the thread go on by itself; what it uses is freed when it ends.
  void detach() noexcept {
    if (posix::exchange(joinable_, false)) pthread_detach(thread_);
  }

  /// In a child of fork(), where the thread does not exist: neither joins nor detaches it.
  void forget() noexcept { joinable_ = false; }

 private:
  static void* run(void* argument) {
    // Owned by this frame, so that pthread_exit(), which unwinds it, frees it too.
    const Function<void()> body{std::move(*static_cast<Function<void()>*>(argument))};
    delete static_cast<Function<void()>*>(argument);
    body();
    return nullptr;
  }

  pthread_t thread_{};
  bool joinable_ = false;
};

}  // namespace brood::posix
