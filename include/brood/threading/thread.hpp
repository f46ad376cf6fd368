// SPDX-License-Identifier: MIT
// Thread: a function that runs beside the others. Python counterpart: threading.Thread and the
// functions around it.
//
//     threading::Thread dryer({.name = "dryer"}, [&] { dry(dishes); });
//     dryer.start();
//     dryer.join();
//
// At the normal end of the program (return from main, std::exit) the threads that are not daemons
// are joined, when the main thread's thread_local objects go and before any static object does.
// (Is std::exit called by another thread, then among the destructors of static objects: after
// those made later than the first start().) Daemon threads run on meanwhile and must not touch
// static objects. quick_exit, _exit and signals wait for nobody.
//
// In a child made by fork() the forking thread is the main thread and the only one; the handles of
// the others say that they have ended.
#pragma once

#include <cxxabi.h>
#include <sys/types.h>

#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../identity.hpp"
#include "../posix/type_name.hpp"
#include "registry.hpp"

namespace brood::threading {

class Thread;

struct ThreadOptions {
  std::string name{};            ///< Empty: "Thread-N".
  std::optional<bool> daemon{};  ///< Unset: as the thread that makes this one.
};

/// A thread can be made of this target and these arguments: copies of them can be made (or moved),
/// and the copied target be called with the copied arguments as rvalues, as std::thread does. To
/// pass a reference use std::ref.
template <class F, class... Args>
concept ThreadTarget = !std::is_base_of_v<Thread, std::remove_cvref_t<F>> &&
                       std::is_constructible_v<std::decay_t<F>, F> &&
                       (std::is_constructible_v<std::decay_t<Args>, Args> && ...) &&
                       std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>;

class Thread;

/// The threads that active_count() counts.
template <class Result = std::vector<Thread>>  // a template as os::environ_copy() is
Result enumerate();

/// One thread: a handle, whose copies name the same thread. All calls are safe from any thread.
/// Dropping the last handle of a running thread lets it run on.
class Thread {
 public:
  /// Makes a thread that will call `target(args...)`; start() starts it. What it returns is
  /// dropped, an exception that escapes goes to the excepthook and ends that thread alone. Target
  /// and arguments are destroyed in the thread when it has run. Calls std::invoke's way.
  template <class F, class... Args>
  requires ThreadTarget<F, Args...>
  explicit Thread(F&& target, Args&&... args)
      : Thread{ThreadOptions{}, std::forward<F>(target), std::forward<Args>(args)...} {}
  template <class F, class... Args>
  requires ThreadTarget<F, Args...> Thread(ThreadOptions options, F&& target, Args&&... args)
      : Thread{make(std::move(options)),
               bind(std::forward<F>(target), std::forward<Args>(args)...)} {}

  // Copied even when moved from, so that a handle always names a thread.
  Thread(const Thread&) noexcept = default;
  Thread& operator=(const Thread&) noexcept = default;

  /// Starts it, once: a second time is std::logic_error. Returns when it runs. Throws os::OSError
  /// if the system has no thread to give; then start() may be tried again.
  void start() const { Registry::get().start(state_, &call); }

  /// Waits for its end, that of its thread_local objects included; false when `limit` is over
  /// first. Several threads may wait. Throws std::logic_error if it has not been started, is the
  /// calling thread, or was not made by brood.
  bool join(Timeout limit = forever) const { return Registry::get().join(state_, limit); }

  /// Whether it has been started and has not ended.
  bool is_alive() const { return Registry::get().is_alive(*state_); }

  /// The name, for people. The system's name of the thread (`top -H`) is its first 15 bytes.
  std::string name() const { return Registry::get().read(state_->name); }
  void set_name(std::string name) const { Registry::get().set_name(*state_, std::move(name)); }

  /// Whether the program ends without waiting for it. Fixed once it has been started: then
  /// set_daemon throws std::logic_error.
  bool daemon() const { return Registry::get().read(state_->daemon); }
  void set_daemon(bool daemon) const { Registry::get().set_daemon(*state_, daemon); }

  /// What get_ident() gives in it; none before it was started. May be used again for a later one.
  std::optional<std::size_t> ident() const { return Registry::get().read(state_->ident); }

  /// The kernel's number for it (gettid(2)); 0 before it was started.
  pid_t native_id() const { return Registry::get().read(state_->native_id); }

  /// Whether two handles name the same thread.
  friend bool operator==(const Thread&, const Thread&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return state_.get(); }

 protected:
  // All of it as one callable, for one call.
  template <class F, class... Args>
  static Function<void()> bind(F&& target, Args&&... args) {
    return [function = std::decay_t<F>(std::forward<F>(target)),
            ... values = std::decay_t<Args>(std::forward<Args>(args))]() mutable {
      // std::apply is std::invoke without <functional>.
      static_cast<void>(
          std::apply(std::move(function), std::forward_as_tuple(std::move(values)...)));
    };
  }

 private:
  friend class Timer;
  friend Thread current_thread();
  friend Thread main_thread();
  template <class Result>
  friend Result enumerate();

  explicit Thread(Registry::StateRef state) noexcept : state_{std::move(state)} {}
  Thread(Registry::StateRef state, Function<void()> target) : state_{std::move(state)} {
    state_->target = std::move(target);
  }

  static Registry::StateRef make(ThreadOptions options);
  static void call(const Function<void()>& target);

  Registry::StateRef state_;
};

/// The calling thread. One that is no started Thread is shown as a daemon "Dummy-N", that of a
/// thread pool under its name, as long as it runs; it cannot be joined.
Thread current_thread();

/// The program's first thread, "MainThread"; in a child of fork(), the one that forked.
Thread main_thread();

/// A number that no other running thread has.
inline std::size_t get_ident() noexcept { return Registry::pthread_ident(); }

/// The kernel's number for the calling thread (gettid(2)).
inline pid_t get_native_id() noexcept { return Registry::native_thread_id(); }

/// How many threads are alive: those of brood, the main thread, and others that made themselves
/// known by current_thread() or the like.
std::size_t active_count();
// And enumerate(): these threads, a std::vector<Thread>.

/// The stack of threads started from now on, in bytes; 0 is the system's default. Setting it
/// returns the one before and throws std::invalid_argument below 32 KiB. Python: stack_size.
std::size_t stack_size();
std::size_t stack_size(std::size_t bytes);

/// What the excepthook is told about an exception that escaped from a thread's target.
struct ExceptHookArgs {
  std::string exc_type{};            ///< The name of its type; empty: taken from exc_value.
  std::exception_ptr exc_value{};    ///< The exception; `throw` it again to look at it.
  Thread thread = current_thread();  ///< Where it escaped.
};

using ExceptHook = Function<void(const ExceptHookArgs&)>;

/// What is done with an exception that escapes from a thread: runs in that thread. Whatever the
/// hook itself throws is reported on stderr. An empty hook, such as nullptr, puts the default back.
/// Python: threading.excepthook. A thread that shall end in silence (Python's SystemExit) calls
/// pthread_exit(), which unwinds it.
ExceptHook excepthook();
void set_excepthook(ExceptHook hook);

/// The default: writes "Exception in thread NAME:" and "TYPE: MESSAGE" to stderr, in one piece.
/// Python: threading.__excepthook__.
void default_excepthook(const ExceptHookArgs& args);

// ---------------------------------------------------------------------------------------------

inline Registry::StateRef Thread::make(ThreadOptions options) {
  Registry& registry = Registry::get();
  Registry::StateRef thread = posix::make_ref<ThreadState>();
  thread->name = options.name.empty() ? registry.next_name("Thread-") : std::move(options.name);
  thread->daemon = options.daemon ? *options.daemon : registry.read(registry.current()->daemon);
  return thread;
}

inline Thread current_thread() { return Thread{Registry::get().current()}; }
inline Thread main_thread() { return Thread{Registry::get().main()}; }
inline std::size_t active_count() { return Registry::get().active_count(); }

template <class Result>
Result enumerate() {
  Result threads;
  for (Registry::StateRef& state : Registry::get().enumerate())
    threads.push_back(Thread{std::move(state)});
  return threads;
}

inline std::size_t stack_size() {
  Registry& registry = Registry::get();
  return registry.read(registry.stack_size);
}

inline std::size_t stack_size(std::size_t bytes) {
  if (bytes != 0 && bytes < 32768)
    throw std::invalid_argument{"stack_size: " + std::to_string(bytes) + " is less than 32768"};
  Registry& registry = Registry::get();
  return registry.exchange(registry.stack_size, bytes);
}

/// Where the hook lies; empty: the default.
inline ExceptHook& excepthook_slot() {
  static ExceptHook& hook = *new ExceptHook;  // daemon threads outlive static objects
  return hook;
}

inline ExceptHook excepthook() {
  ExceptHook hook = Registry::get().read(excepthook_slot());
  return hook ? hook : ExceptHook{&default_excepthook};
}

inline void set_excepthook(ExceptHook hook) {
  Registry::get().exchange(excepthook_slot(), std::move(hook));
}

/// One write to stderr, whatever has become of it.
inline void write_to_stderr(const std::string& text) noexcept {
  const posix::SuppressSigpipe no_signal;
  static_cast<void>(posix::write_some(STDERR_FILENO, text.data(), text.size()));
}

inline void default_excepthook(const ExceptHookArgs& args) {
  const std::string what =
      args.exc_value || args.exc_type.empty() ? posix::describe(args.exc_value) : args.exc_type;
  write_to_stderr("Exception in thread " + args.thread.name() + ":\n" + what + "\n");
}

// A forced unwind is caught by a reference to nothing, which the sanitizer need not report.
__attribute__((no_sanitize("null"))) inline void Thread::call(const Function<void()>& target) {
  try {
    target();
  } catch (const abi::__forced_unwind&) {
    throw;  // pthread_exit(): the thread ends, and that is all
  } catch (...) {
    ExceptHookArgs args;
    args.exc_value = std::current_exception();
    args.exc_type = posix::demangle(abi::__cxa_current_exception_type()->name());
    try {
      excepthook()(args);
    } catch (const abi::__forced_unwind&) {
      throw;
    } catch (...) {
      write_to_stderr("Exception in threading.excepthook:\n" +
                      posix::describe(std::current_exception()) + "\nwhile it was told of:\n" +
                      posix::describe(args.exc_value) + "\n");
    }
  }
}

}  // namespace brood::threading
