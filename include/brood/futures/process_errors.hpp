// SPDX-License-Identifier: MIT
// What can become of a task in another process.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "../posix/crash_record.hpp"
#include "../posix/signals.hpp"
#include "errors.hpp"

namespace brood::futures {

/// The worker process that ran the task died. Only this task is concerned: the worker is replaced
/// and the others go on. (CPython breaks the whole pool instead.)
class WorkerCrashed : public BrokenProcessPool {
 public:
  struct Details {
    pid_t pid;
    int returncode;  // -N: killed by signal N
    std::string function;
    std::chrono::nanoseconds elapsed;
    std::size_t max_rss_bytes;
    void* calls[posix::CrashRecord::most];  // where the worker was
    std::uint32_t call_count;
  };
  explicit WorkerCrashed(Details details)
      : BrokenProcessPool{describe(details)}, details_{std::move(details)} {}

  pid_t pid() const noexcept { return details_.pid; }
  /// The code the worker ended with by itself (std::exit in a task), else empty.
  std::optional<int> exitcode() const noexcept {
    if (details_.returncode < 0) return std::nullopt;
    return details_.returncode;
  }
  /// The signal that killed the worker, else empty.
  std::optional<int> signal() const noexcept {
    if (details_.returncode >= 0) return std::nullopt;
    return -details_.returncode;
  }
  /// What ran: the name of the function, if the task was a pointer to one that has a name outside
  /// of its program (-rdynamic) or library; else the type of the callable.
  const std::string& function() const noexcept { return details_.function; }
  /// How long the task had run, up to the notice of the death.
  std::chrono::nanoseconds elapsed() const noexcept { return details_.elapsed; }
  /// The peak memory of the worker over all its tasks.
  std::size_t max_rss_bytes() const noexcept { return details_.max_rss_bytes; }
  /// Where the thread was that crashed, the innermost call first, a line each:
  /// "wash(Dish&)+0x1c (program)". Functions of the program itself have names there if it is linked
  /// with -rdynamic (ENABLE_EXPORTS in CMake), else it is "program+0x11f2", for addr2line(1). Empty
  /// where nothing can be had: it ended by exit, SIGKILL or the like, or under a sanitizer.
  std::string backtrace() const {
    return posix::describe_frames(details_.calls, details_.call_count);
  }

 private:
  static std::string describe(const Details& details) {
    std::string text = "worker process " + std::to_string(details.pid);
    text += ' ';
    text += posix::describe_end(details.returncode);
    text += " while it ran ";
    text += details.function;
    return text;
  }

  Details details_;
};

/// The task ran longer than it may, and was killed with its worker process and what that had
/// started. Only this task is concerned.
class TaskTimeout : public TimeoutError {
 public:
  TaskTimeout(std::string function, std::chrono::nanoseconds limit, pid_t pid)
      : TaskTimeout{describe(function, limit, pid), std::move(function), limit, pid} {}

  /// What ran: the name of the function, if the task was a pointer to one that has a name outside
  /// of its program (-rdynamic) or library; else the type of the callable.
  const std::string& function() const noexcept { return function_; }
  /// How long it was allowed to run.
  std::chrono::nanoseconds limit() const noexcept { return limit_; }
  /// The worker process that ran it.
  pid_t pid() const noexcept { return pid_; }

 private:
  TaskTimeout(const std::string& text, std::string function, std::chrono::nanoseconds limit,
              pid_t pid)
      : std::runtime_error{text},
        TimeoutError{text},
        function_{std::move(function)},
        limit_{limit},
        pid_{pid} {}

  static std::string describe(const std::string& function, std::chrono::nanoseconds limit,
                              pid_t pid) {
    char times[96];
    std::snprintf(times, sizeof times, " ran longer than %g s, worker process %d was killed",
                  static_cast<double>(limit.count()) * 1e-9, pid);
    return function + times;
  }

  std::string function_;
  std::chrono::nanoseconds limit_;
  pid_t pid_;
};

/// The task threw an exception of a type that can't be rebuilt here; what() is "TYPE: ITS TEXT".
/// See brood::register_exception.
class RemoteError : public std::runtime_error {
 public:
  RemoteError(std::string type_name, pid_t pid, const std::string& text)
      : std::runtime_error{describe(type_name, text)},
        type_name_{std::move(type_name)},
        pid_{pid} {}

  /// The type that was thrown, as one writes it in C++.
  const std::string& type_name() const noexcept { return type_name_; }
  /// The worker process that threw it.
  pid_t pid() const noexcept { return pid_; }

 private:
  // The text of what is no std::exception has its type in front already.
  static std::string describe(const std::string& type_name, const std::string& text) {
    if (text.compare(0, type_name.size(), type_name) == 0) return text;
    return type_name + ": " + text;
  }

  std::string type_name_;
  pid_t pid_;
};

}  // namespace brood::futures
