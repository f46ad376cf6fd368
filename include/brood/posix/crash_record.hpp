// SPDX-License-Identifier: MIT
// What a process that crashes leaves behind for those that outlive it: where it was.
//
// A handler of the signals of a crash writes the addresses of the crashing thread's calls into
// memory that others share, and lets the signal do what it would have done without it. Sanitizers
// have handlers of their own; under these nothing is recorded.
#pragma once

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "code.hpp"
#include "sanitizers.hpp"
#include "type_name.hpp"

#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define BROOD_HAS_BACKTRACE
#endif

namespace brood::posix {

/// Lies in shared memory; all zero before a crash.
struct CrashRecord {
  static constexpr std::uint32_t most = 48;
  std::atomic<std::int32_t> signal;   // the first one
  std::atomic<std::uint32_t> frames;  // how many there are; the innermost is the first
  void* addresses[most];
  CodePlace places[most];  // theirs, for other processes

  /// Finds out the places. In a process that has the code where the one that crashed had it.
  void locate() noexcept {
    const std::uint32_t count = frames.load(std::memory_order_acquire);
    for (std::uint32_t i = 0; i < count && i < most; ++i) {
      try {
        places[i] = place_of(addresses[i]);
      } catch (const std::exception&) {  // code that the other process has loaded since
        places[i] = {};
      }
    }
  }
};

/// Addresses of code of this program, one a line: "function()+0x1c (program)", or
/// "program+0x11f2" where the function has no name outside of its module. Null stands for code that
/// this process does not have.
inline std::string describe_frames(void* const* addresses, std::uint32_t count);

/// The name of a function of this program by its address, as describe_frames() would give it; empty
/// when it has none.
inline std::string function_name(const void* function);

/// The handler. One a process; it works in processes forked from where it was installed.
class CrashRecorder {
 public:
  /// Does what must not be done for the first time in a handler, or in a forked process.
  static void prepare() noexcept {
#ifdef BROOD_HAS_BACKTRACE
    void* frame = nullptr;
    ::backtrace(&frame, 1);  // loads the unwinder
#endif
  }

  /// Handles SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT, the first ones on a stack of their own if
  /// they come in the calling thread. What handled them before does so after it.
  static void install() noexcept {
#ifdef BROOD_HAS_BACKTRACE
    if (sanitized) return;
    stack_t stack{};
    if (::sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_DISABLE) != 0) {
      stack.ss_flags = 0;
      stack.ss_sp = own_stack_;
      stack.ss_size = sizeof own_stack_;
      ::sigaltstack(&stack, nullptr);
    }
    struct sigaction action {};
    action.sa_sigaction = &handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    for (std::size_t i = 0; i < kinds; ++i) {
      struct sigaction before {};
      if (::sigaction(signals_[i], &action, &before) == 0 &&
          ((before.sa_flags & SA_SIGINFO) == 0 || before.sa_sigaction != &handle))
        before_[i] = before;
    }
#endif
  }

  /// Where this process (not those forked from it) writes to.
  static void record_to([[maybe_unused]] CrashRecord& record) noexcept {
#ifdef BROOD_HAS_BACKTRACE
    record_ = &record;
    process_ = ::getpid();
#endif
  }

 private:
#ifdef BROOD_HAS_BACKTRACE
  static constexpr std::size_t kinds = 5;
  static constexpr int signals_[kinds] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

  static void handle(int number, siginfo_t* info, void* context) {
    const int error = errno;
    std::int32_t none = 0;
    if (record_ != nullptr && process_ == ::getpid() &&
        record_->signal.compare_exchange_strong(none, number))
      write_frames(code_address(context));
    for (std::size_t i = 0; i < kinds; ++i)
      if (signals_[i] == number) ::sigaction(number, &before_[i], nullptr);
    // A fault comes again by itself when the instruction is done again. What was sent doesn't.
    if (info->si_code <= 0) ::raise(number);
    errno = error;
  }

  // From the frame of `code` on: those before it are the handler's.
  static void write_frames(void* code) noexcept {
    void* all[CrashRecord::most + 8];
    const int count = ::backtrace(all, static_cast<int>(sizeof all / sizeof *all));
    int first = 0;
    while (first < count && all[first] != code) ++first;
    if (first == count) first = 0;
    std::uint32_t kept = 0;
    for (; first < count && kept < CrashRecord::most; ++first)
      record_->addresses[kept++] = all[first];
    record_->frames.store(kept, std::memory_order_release);
  }

  // The instruction that the signal interrupted.
  static void* code_address([[maybe_unused]] void* context) noexcept {
#if defined(__x86_64__)
    return reinterpret_cast<void*>(
        static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
    return reinterpret_cast<void*>(static_cast<const ucontext_t*>(context)->uc_mcontext.pc);
#else
    return nullptr;
#endif
  }

  alignas(16) static inline char own_stack_[65536];
  static inline struct sigaction before_[kinds];
  static inline CrashRecord* record_ = nullptr;
  static inline pid_t process_ = 0;
#endif
};

inline std::string describe_frames([[maybe_unused]] void* const* addresses,
                                   [[maybe_unused]] std::uint32_t count) {
  std::string text;
#ifdef BROOD_HAS_BACKTRACE
  // Each is "module(function+0x12) [0x7f...]", with the function mangled or left out.
  char** const lines = ::backtrace_symbols(addresses, static_cast<int>(count));
  for (std::uint32_t i = 0; lines != nullptr && i < count; ++i) {
    const std::string line{addresses[i] == nullptr ? "code that is not loaded here" : lines[i]};
    const std::size_t open = line.rfind('('), plus = line.rfind('+'), close = line.rfind(')');
    if (open == std::string::npos || plus == std::string::npos || close == std::string::npos ||
        plus < open || close < plus) {
      text += line;
    } else {
      const std::size_t slash = line.rfind('/', open);
      const std::size_t name = slash == std::string::npos ? 0 : slash + 1;
      const std::string module = line.substr(name, open - name);
      const std::string offset = line.substr(plus, close - plus);
      if (plus == open + 1) {
        text += module;
        text += offset;
      } else {
        text += demangle(line.substr(open + 1, plus - open - 1).c_str());
        text += offset;
        text += " (";
        text += module;
        text += ')';
      }
    }
    text += '\n';
  }
  std::free(lines);
#endif
  return text;
}

inline std::string function_name(const void* function) {
  void* const address = const_cast<void*>(function);
  const std::string line = describe_frames(&address, 1);
  // What begins elsewhere is only the nearest function before it that has a name.
  const std::size_t end =
      line.rfind("+0 (") != std::string::npos ? line.rfind("+0 (") : line.rfind("+0x0 (");
  return end == std::string::npos ? std::string{} : line.substr(0, end);
}

}  // namespace brood::posix
