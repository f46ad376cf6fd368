// SPDX-License-Identifier: MIT
// fmt formatters for the public types. Needs fmt (9 or newer), and nothing else of brood does.
//
//     fmt::print("{}\n", subprocess::Command{"ls", "my file"});     // ls 'my file'
//     fmt::print("{}\n", process);  // <Process name='dryer' pid=4711 started daemon>
//
// All take the specifiers of strings: "{:>40}". The texts are those of Python's repr(), without a
// Process's parent; but commands and exceptions print as themselves: a line for the shell, what().
#pragma once

#include "requirements.hpp"

#include <fmt/format.h>

#include <string>

#include "futures.hpp"
#include "multiprocessing.hpp"
#include "serialization.hpp"
#include "subprocess.hpp"
#include "threading.hpp"

namespace brood::format {

/// 'text' as Python's repr() writes it, with escapes for what would not print.
inline std::string quoted(const std::string& text) {
  constexpr const char* digits = "0123456789abcdef";
  std::string result = "'";
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (character == '\'' || character == '\\') {
      result += '\\';
      result += character;
    } else if (character == '\n') {
      result += "\\n";
    } else if (character == '\t') {
      result += "\\t";
    } else if (character == '\r') {
      result += "\\r";
    } else if (byte < 0x20 || byte == 0x7f) {
      result += "\\x";
      result += digits[byte >> 4];
      result += digits[byte & 15];
    } else {
      result += character;
    }
  }
  return result + "'";
}

inline std::string to_text(const subprocess::Command& command) {
  return subprocess::shell_join(command.args());
}

inline std::string to_text(const subprocess::CompletedProcess& done) {
  std::string text = "CompletedProcess(args=" + quoted(subprocess::shell_join(done.args)) +
                     ", returncode=" + std::to_string(done.returncode);
  if (!done.out.empty()) text += ", out=" + quoted(done.out);
  if (!done.err.empty()) text += ", err=" + quoted(done.err);
  return text + ")";
}

inline std::string to_text(const subprocess::Popen& process) {
  const auto code = process.returncode();
  return "<Popen: returncode: " + (code ? std::to_string(*code) : "None") +
         " args: " + quoted(subprocess::shell_join(process.args())) + ">";
}

/// Never throws for a process that was closed, or is somebody else's child.
inline std::string to_text(const multiprocessing::Process& process) {
  std::string text = "<Process name=" + quoted(process.name());
  try {
    const pid_t pid = process.pid();
    if (pid != 0) text += " pid=" + std::to_string(pid);
    const auto code = process.exitcode();
    if (code)
      text += *code == 0 ? " stopped" : " stopped exitcode=" + std::to_string(*code);
    else
      text += pid == 0 ? " initial" : " started";
  } catch (const std::logic_error&) {
    text += " unknown";
  }
  return text + (process.daemon() ? " daemon>" : ">");
}

inline std::string to_text(const threading::Thread& thread) {
  const auto ident = thread.ident();
  std::string text = "<Thread(" + thread.name() + ", ";
  text += !ident ? "initial" : thread.is_alive() ? "started" : "stopped";
  if (thread.daemon()) text += " daemon";
  if (ident) text += " " + std::to_string(*ident);
  return text + ")>";
}

inline std::string lock_text(const char* name, bool locked) {
  return std::string{locked ? "<locked " : "<unlocked "} + name + ">";
}
inline std::string semaphore_text(const char* name, std::size_t value) {
  return std::string{"<"} + name + ": value=" + std::to_string(value) + ">";
}
inline std::string event_text(bool set) { return set ? "<Event: set>" : "<Event: unset>"; }
template <class Barrier>
std::string barrier_text(const Barrier& barrier) {
  if (barrier.broken()) return "<Barrier: broken>";
  return "<Barrier: waiters=" + std::to_string(barrier.n_waiting()) + "/" +
         std::to_string(barrier.parties()) + ">";
}

inline std::string to_text(const threading::Lock& lock) { return lock_text("Lock", lock.locked()); }
inline std::string to_text(const threading::RLock& lock) {
  return lock_text("RLock", lock.locked());
}
inline std::string to_text(const threading::Condition& condition) {
  return lock_text("Condition", condition.locked());
}
inline std::string to_text(const threading::Semaphore& semaphore) {
  return semaphore_text("Semaphore", semaphore.get_value());
}
inline std::string to_text(const threading::BoundedSemaphore& semaphore) {
  return semaphore_text("BoundedSemaphore", semaphore.get_value());
}
inline std::string to_text(const threading::Event& event) { return event_text(event.is_set()); }
inline std::string to_text(const threading::Barrier& barrier) { return barrier_text(barrier); }

/// Who holds a lock of processes: the calling thread, by the name of its process, or somebody else.
inline std::string owner_text(const multiprocessing::OwnedLock& lock) {
  if (lock.is_mine()) return multiprocessing::current_process().name();
  if (!lock.locked()) return "None";
  const bool ours = ::syscall(SYS_tgkill, ::getpid(), lock.native_owner(), 0) == 0;
  return ours ? "SomeOtherThread" : "SomeOtherProcess";
}
inline std::string to_text(const multiprocessing::Lock& lock) {
  return "<Lock(owner=" + owner_text(lock) + ")>";
}
inline std::string to_text(const multiprocessing::RLock& lock) {
  const std::string owner = owner_text(lock);
  return "<RLock(" + owner + ", " + std::to_string(owner == "None" ? 0 : lock.depth()) + ")>";
}
inline std::string to_text(const multiprocessing::Condition& condition) {
  return lock_text("Condition", condition.locked());
}
inline std::string to_text(const multiprocessing::Semaphore& semaphore) {
  return semaphore_text("Semaphore", semaphore.get_value());
}
inline std::string to_text(const multiprocessing::BoundedSemaphore& semaphore) {
  return semaphore_text("BoundedSemaphore", semaphore.get_value());
}
inline std::string to_text(const multiprocessing::Event& event) {
  return event_text(event.is_set());
}
inline std::string to_text(const multiprocessing::Barrier& barrier) {
  return barrier_text(barrier);
}

/// The state only: a result need not be printable.
inline std::string to_text(const futures::FutureHandle& future) {
  if (future.cancelled()) return "<Future state=cancelled>";
  if (!future.done()) return future.running() ? "<Future state=running>" : "<Future state=pending>";
  const auto error = future.exception();
  return error ? "<Future state=finished raised " + posix::describe(error) + ">"
               : std::string{"<Future state=finished>"};
}

/// Formats as the text that `to_text` makes of it.
template <class T>
struct TextFormatter : fmt::formatter<fmt::string_view> {
  template <class Context>
  auto format(const T& value, Context& context) const {
    const std::string text = to_text(value);
    return fmt::formatter<fmt::string_view>::format(fmt::string_view{text.data(), text.size()},
                                                    context);
  }
};

/// An exception as its what().
struct ExceptionFormatter : fmt::formatter<fmt::string_view> {
  template <class Context>
  auto format(const std::exception& error, Context& context) const {
    return fmt::formatter<fmt::string_view>::format(fmt::string_view{error.what()}, context);
  }
};

}  // namespace brood::format

template <>
struct fmt::formatter<brood::subprocess::Command>
    : brood::format::TextFormatter<brood::subprocess::Command> {};
template <>
struct fmt::formatter<brood::subprocess::CompletedProcess>
    : brood::format::TextFormatter<brood::subprocess::CompletedProcess> {};
template <>
struct fmt::formatter<brood::subprocess::Popen>
    : brood::format::TextFormatter<brood::subprocess::Popen> {};
template <>
struct fmt::formatter<brood::multiprocessing::Process>
    : brood::format::TextFormatter<brood::multiprocessing::Process> {};
template <>
struct fmt::formatter<brood::threading::Thread>
    : brood::format::TextFormatter<brood::threading::Thread> {};
template <>
struct fmt::formatter<brood::threading::Lock>
    : brood::format::TextFormatter<brood::threading::Lock> {};
template <>
struct fmt::formatter<brood::threading::RLock>
    : brood::format::TextFormatter<brood::threading::RLock> {};
template <>
struct fmt::formatter<brood::threading::Condition>
    : brood::format::TextFormatter<brood::threading::Condition> {};
template <>
struct fmt::formatter<brood::threading::Semaphore>
    : brood::format::TextFormatter<brood::threading::Semaphore> {};
template <>
struct fmt::formatter<brood::threading::BoundedSemaphore>
    : brood::format::TextFormatter<brood::threading::BoundedSemaphore> {};
template <>
struct fmt::formatter<brood::threading::Event>
    : brood::format::TextFormatter<brood::threading::Event> {};
template <>
struct fmt::formatter<brood::threading::Barrier>
    : brood::format::TextFormatter<brood::threading::Barrier> {};
template <>
struct fmt::formatter<brood::multiprocessing::Lock>
    : brood::format::TextFormatter<brood::multiprocessing::Lock> {};
template <>
struct fmt::formatter<brood::multiprocessing::RLock>
    : brood::format::TextFormatter<brood::multiprocessing::RLock> {};
template <>
struct fmt::formatter<brood::multiprocessing::Condition>
    : brood::format::TextFormatter<brood::multiprocessing::Condition> {};
template <>
struct fmt::formatter<brood::multiprocessing::Semaphore>
    : brood::format::TextFormatter<brood::multiprocessing::Semaphore> {};
template <>
struct fmt::formatter<brood::multiprocessing::BoundedSemaphore>
    : brood::format::TextFormatter<brood::multiprocessing::BoundedSemaphore> {};
template <>
struct fmt::formatter<brood::multiprocessing::Event>
    : brood::format::TextFormatter<brood::multiprocessing::Event> {};
template <>
struct fmt::formatter<brood::multiprocessing::Barrier>
    : brood::format::TextFormatter<brood::multiprocessing::Barrier> {};
template <class T>
struct fmt::formatter<brood::futures::Future<T>>
    : brood::format::TextFormatter<brood::futures::Future<T>> {};
template <>
struct fmt::formatter<brood::futures::AnyFuture>
    : brood::format::TextFormatter<brood::futures::AnyFuture> {};

// Each by name: fmt/std.h has a formatter for whatever is a std::exception.
template <>
struct fmt::formatter<brood::TimeoutError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::EOFError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::os::OSError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::os::FileNotFoundError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::os::FileExistsError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::os::PermissionError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::os::ProcessLookupError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::os::ChildProcessError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::os::BrokenPipeError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::subprocess::SubprocessError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::subprocess::CalledProcessError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::subprocess::TimeoutExpired> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::queue::Empty> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::queue::Full> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::queue::ShutDown> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::threading::BrokenBarrierError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::multiprocessing::ProcessError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::multiprocessing::AuthenticationError>
    : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::multiprocessing::BufferTooShort> : brood::format::ExceptionFormatter {
};
template <>
struct fmt::formatter<brood::multiprocessing::TimeoutError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::serialization::SerializationError>
    : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::futures::CancelledError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::futures::InvalidStateError> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::futures::BrokenExecutor> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::futures::BrokenThreadPool> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::futures::BrokenProcessPool> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::futures::WorkerCrashed> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::futures::TaskTimeout> : brood::format::ExceptionFormatter {};
template <>
struct fmt::formatter<brood::futures::RemoteError> : brood::format::ExceptionFormatter {};
