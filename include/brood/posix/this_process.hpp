// SPDX-License-Identifier: MIT
// Who this process is, and what it does before it ends: the few facts that a fork changes.
#pragma once

#include <pthread.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

namespace brood::posix {

/// getpid() without the system call: remembered, and renewed in each forked child (also of a bare
/// fork(), but not of a raw clone).
inline pid_t this_pid() noexcept {
  static std::atomic<pid_t> pid = [] {
    pthread_atfork(nullptr, nullptr, [] { pid.store(::getpid(), std::memory_order_relaxed); });
    return ::getpid();
  }();
  return pid.load(std::memory_order_relaxed);
}

/// What has to be waited for when the program ends normally, in this order: executors, whose tasks
/// may start threads, then threads, which may start processes, then processes.
enum class EndStage { executors, threads, processes };

namespace end_hooks {
inline constexpr int stages = 3;
inline constexpr int per_stage = 4;  // each is one of brood's own modules
inline std::atomic<void (*)()> hooks[stages][per_stage] = {};
}  // namespace end_hooks

/// Runs what on_end() has registered. Called by std::exit in a program, and at the end of a child
/// that runs a Process's target (which never gets to std::exit's handlers).
inline void run_end_hooks() noexcept {
  for (auto& stage : end_hooks::hooks)
    for (auto& hook : stage)
      if (auto* const function = hook.load(std::memory_order_acquire)) function();
}

/// Has `hook`, which must not throw, run at the normal end of this process and of the processes
/// forked from it. Naming it again changes nothing.
inline void on_end(EndStage stage, void (*hook)()) {
  for (auto& place : end_hooks::hooks[static_cast<int>(stage)]) {
    void (*holder)() = nullptr;
    if (place.compare_exchange_strong(holder, hook, std::memory_order_acq_rel) || holder == hook)
      break;
  }
  static const int registered = std::atexit(&run_end_hooks);
  static_cast<void>(registered);
}

}  // namespace brood::posix
