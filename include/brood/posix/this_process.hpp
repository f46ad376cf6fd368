// SPDX-License-Identifier: MIT
// Who this process is, and what it does before it ends: the few facts that a fork changes.
#pragma once

#include <pthread.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace brood::posix {

/// What tells this process from all others, as long as it lives, and from all that it is a copy of,
/// one of which may have ended and have had the same pid: the pid, and above it how many forks
/// there were since the program's start, which alone tells it from what it is a copy of.
/// Remembered, and renewed in each forked child (also of a bare fork(), but not of a raw clone).
/// Never 0.
inline std::uint64_t this_process() noexcept;

/// getpid() without the system call.
inline pid_t this_pid() noexcept { return static_cast<pid_t>(this_process()); }

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
    void (*holder)() = place.load(std::memory_order_acquire);  // most often it is there already
    if (holder == hook) break;
    holder = nullptr;
    if (place.compare_exchange_strong(holder, hook, std::memory_order_acq_rel) || holder == hook)
      break;
  }
  static const int registered = std::atexit(&run_end_hooks);
  static_cast<void>(registered);
}

// Bodies.

namespace known_process {
inline constinit std::atomic<std::uint64_t> value{0};  // 0: not asked for yet

// The first call. No other thread waits for it, so that a fork in its middle leaves nothing undone;
// if several are here at once, each fork counts for more than one.
[[gnu::noinline]] inline std::uint64_t learn() noexcept {
  pthread_atfork(nullptr, nullptr, [] {
    const std::uint64_t forks = (value.load(std::memory_order_relaxed) >> 32) + 1;
    value.store(forks << 32 | static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  });
  const std::uint64_t pid = static_cast<std::uint32_t>(::getpid());
  std::uint64_t known = 0;
  return value.compare_exchange_strong(known, pid, std::memory_order_relaxed) ? pid : known;
}
}  // namespace known_process

// A pool of threads asks in each task, so this is short enough to be inlined.
inline std::uint64_t this_process() noexcept {
  const std::uint64_t known = known_process::value.load(std::memory_order_relaxed);
  return known != 0 ? known : known_process::learn();
}

}  // namespace brood::posix
