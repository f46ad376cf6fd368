// SPDX-License-Identifier: MIT
// A function running in a process of its own (Python's multiprocessing.Process).
//
//     namespace mp = brood::multiprocessing;
//     mp::Process p(greet, "bob");
//     p.start();
//     p.join();
//
// Life of a Process          | who moves it on                  | what is fixed there
// ---------------------------+----------------------------------+--------------------------------
// initial                    | start(), once, in the creator    | name, daemon may still change
// started (running)          | the kernel, when the child ends  | pid; target dropped here
// ended                      | close()                          | exitcode
// closed                     | nobody                           | most members throw
//
// By StartMethod::fork, the default, the child is the program as it was at start(): memory is
// copied on write, descriptors are shared, and of the threads only the calling one goes on. A lock
// that another thread held at that moment stays locked in the child; brood's own state is safe
// there.
//
// By forkserver and spawn it gets target and arguments as bytes, queues, locks, connections and the
// like too, and nothing else of this process: see StartMethod and freeze_support().
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../identity.hpp"
#include "../posix/exchange.hpp"
#include "../posix/fork.hpp"
#include "../posix/fork_gate.hpp"
#include "launch.hpp"
#include "process_state.hpp"
#include "process_target.hpp"
#include "start_method.hpp"

namespace brood::multiprocessing {

struct ProcessOptions {
  /// Shown in messages; "Process-N" when empty, with the numbers of its ancestors in front
  /// ("Process-1:2").
  std::string name = {};
  /// A daemon is terminated when its parent ends normally, and can't have children of its own.
  /// Unset: as the process that makes it.
  std::optional<bool> daemon = {};
  /// Unset: get_start_method() at the start. If set, it is also what get_start_method() gives in
  /// the child, as in Python.
  std::optional<StartMethod> start_method = {};
};

class ProcessState;

/// A handle: copies name the same process, and may be used from several threads at once. Dropping
/// the last one does not wait. When the program ends normally, by return from main or std::exit,
/// daemon children are terminated (and killed if they have not ended 5 s later), the others joined.
///
/// Misuse of the state throws std::logic_error: joining before the start, starting twice, waiting
/// for a process that is not a child of this one, using a closed one.
class Process {
 public:
  /// A process that will call `target(args...)`: anything std::invoke takes. Target and arguments
  /// are copied or moved in now, and passed on as rvalues there, as std::thread does; what the
  /// target returns is dropped.
  template <class F, class... Args>
  requires(
      !std::is_same_v<std::remove_cvref_t<F>, Process> &&
      !std::is_convertible_v<F, ProcessOptions> &&
      std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>) explicit Process(F&& target,
                                                                                    Args&&... args)
      : Process{ProcessOptions{}, std::forward<F>(target), std::forward<Args>(args)...} {}

  template <class F, class... Args>
  requires std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>
  explicit Process(ProcessOptions options, F&& target, Args&&... args)
      : state_{make(std::move(options),
                    posix::make_ref<CallTarget<std::decay_t<F>, std::decay_t<Args>...>>(
                        std::forward<F>(target), std::forward<Args>(args)...))} {}

  // Copied even when moved from, so that a handle always names a process.
  Process(const Process&) noexcept = default;
  Process& operator=(const Process&) noexcept = default;

  /// Starts the child, which calls the target and then ends: exit code 0 after a return, N after
  /// std::exit(N), 1 after an exception, which is printed to stderr with its type and message.
  /// Output buffers are flushed first, so nothing is printed twice. Drops the target and its
  /// arguments in this process. The child's standard input is empty. Neither a return nor an
  /// exception runs exit handlers or destroys static objects there, unless it was spawned: that one
  /// ends as a program does. std::exit() runs the handlers that the child itself has registered.
  ///
  /// Throws std::logic_error when started before, or from a daemon; os::OSError when no process can
  /// be had. By forkserver and spawn also std::invalid_argument when target or arguments can't
  /// cross, what writing them throws, std::runtime_error when freeze_support() was not called, and
  /// ProcessError when the fork server is dead. After any of these it can be tried again.
  void start() const;

  /// Waits for the end; false when time is up first.
  bool join(Timeout timeout = forever) const;

  /// Whether it was started and has not ended. Never blocks.
  bool is_alive() const;

  void terminate() const;  ///< Sends SIGTERM. Nothing happens when it has ended.
  void kill() const;       ///< Sends SIGKILL. Nothing happens when it has ended.
  void interrupt() const;  ///< Sends SIGINT. Nothing happens when it has ended.

  /// Frees the descriptor kept for an ended process; afterwards all but name, daemon, close and
  /// copies throw. std::logic_error while it runs.
  void close() const;

  /// 0 before the start. Other processes that have the handle may ask for it too.
  pid_t pid() const;

  /// Empty before the end; N for exit(N), -N for death by signal N. Never blocks.
  std::optional<int> exitcode() const;

  std::string name() const;
  void set_name(std::string name) const;

  bool daemon() const;
  /// std::logic_error after the start.
  void set_daemon(bool daemon) const;

  /// A descriptor that polls readable once the process has ended; valid as long as a handle lives
  /// and it is not closed. std::logic_error before the start.
  int sentinel() const;

  /// The same process.
  friend bool operator==(const Process&, const Process&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return state_.get(); }

 private:
  friend class ProcessHandles;
  static posix::Ref<ProcessState> make(ProcessOptions options, posix::Ref<ProcessTarget> target);
  explicit Process(posix::Ref<ProcessState> state) noexcept : state_{std::move(state)} {}

  posix::Ref<ProcessState> state_;
};

/// The children that were started here, by Process, and have not ended. Reaps those that have.
template <class Result = std::vector<Process>>  // a template as os::environ_copy() is
Result active_children();

/// The process that runs this code: name() is "MainProcess" unless it was started as a Process.
Process current_process();

/// The Process's parent: has name(), pid(), is_alive() and join(). Empty in the main program.
template <class Result = std::optional<Process>>
Result parent_process();

// ---------------------------------------------------------------------------------------------

inline void ProcessState::start(const posix::Ref<ProcessState>& self) {
  Processes& here = Processes::here();
  const auto parent = here.self();
  here.alive();  // reaps, as Python does at each start
  {
    const posix::Locked lock{ProcessStateLock::mutex()};
    const std::string attempt = "start process " + name_;
    if (creator != posix::this_process())
      throw std::logic_error{attempt + ": it was made in another process"};
    if (closed_) throw std::logic_error{attempt + ": it was closed"};
    if (started_) throw std::logic_error{attempt + ": already started"};
    if (parent->daemon_) throw std::logic_error{attempt + ": daemon processes can't have children"};
    started_ = true;
  }
  try {
    const StartMethod method = start_method_ ? *start_method_ : get_start_method();
    if (method == StartMethod::fork)
      fork_child(self);
    else
      launch_child(self, method);
  } catch (...) {
    {
      const posix::Locked lock{ProcessStateLock::mutex()};
      started_ = false;
      child_ = nullptr;
    }
    try {
      throw;
    } catch (const os::OSError& error) {
      posix::throw_within("start process " + name(), error);
    }
  }
  posix::Ref<ProcessTarget> dropped;  // the user's destructors run outside the lock
  const posix::Locked lock{ProcessStateLock::mutex()};
  posix::swap(dropped, target_);
}

inline void ProcessState::fork_child(const posix::Ref<ProcessState>& self) {
  Processes& here = Processes::here();
  const posix::ProcessIdentity parent_identity = here.identity();
  // Its standard input. Here it keeps room for the descriptor of the child, which is not forked
  // without one to spare.
  posix::unique_fd room = posix::open_empty_file();
  posix::flush_output();
  const Processes::Start start{here};
  posix::ForkGate gate;
  const pid_t pid = posix::check(::fork(), "fork");
  if (pid == 0) {
    gate.pass();
    run_as_child(self, parent_identity, std::move(room));
  }
  try {
    room.reset();
    // If another thread has taken the room, a child goes on without; but not where only that
    // descriptor may tell the exit code, with SIGCHLD ignored.
    posix::unique_fd pidfd =
        posix::children_may_vanish() ? posix::open_pidfd(pid) : posix::try_open_pidfd(pid);
    gate.open();
    auto child = posix::make_ref<posix::SharedChild>(pid, std::move(pidfd));
    {
      const posix::Locked lock{ProcessStateLock::mutex()};
      child_ = std::move(child);
    }
    here.add(self);
  } catch (...) {
    posix::kill_and_reap(pid);
    throw;
  }
}

inline void ProcessState::launch_child(const posix::Ref<ProcessState>& self, StartMethod method) {
  const LaunchEntry* const entry = target_->entry();
  if (entry == nullptr) throw_cannot_cross(name(), method, *target_);
  Reduction descriptors;
  const std::string bytes = target_->dump(descriptors);
  posix::flush_output();  // as at a fork, so that what was printed before stands before
  const std::string child_name = name();
  const Processes::Start start{Processes::here()};
  auto child = launch(method, *entry, bytes, descriptors,
                      {.name = child_name,
                       .daemon = daemon(),
                       .identity = &identity,
                       .code = target_->code(),
                       .start_method = start_method_});
  {
    const posix::Locked lock{ProcessStateLock::mutex()};
    child_ = child;
  }
  try {
    Processes::here().add(self);  // now: one on the list without its child is taken for ended
  } catch (...) {
    child->send_signal(SIGKILL);
    child->wait(posix::Deadline{forever});
    throw;
  }
}

inline void ProcessState::run_as_child(const posix::Ref<ProcessState>& self,
                                       posix::ProcessIdentity parent,
                                       posix::unique_fd empty_input) {
  posix::catch_exit_in_forked_child();
  Processes::here().become_child(self, parent);
  posix::detach_stdin(std::move(empty_input));
  if (start_method_) set_start_method(*start_method_, true);
  int code = 0;
  try {
    // Destroyed at the end of the call, as a thread's is: a captured file is written then.
    posix::Ref<ProcessTarget> target;
    posix::swap(target, target_);
    target->run();
  } catch (...) {
    posix::flush_output();
    std::fprintf(stderr, "Process %s:\n%s\n", name().c_str(),
                 posix::describe(std::current_exception()).c_str());
    code = 1;
  }
  posix::end_forked_child(code);
}

inline void ProcessState::close() {
  {
    const posix::Locked lock{ProcessStateLock::mutex()};
    if (closed_) return;
  }
  const auto child = this->child("close");
  if (child && !child->poll())
    throw std::logic_error{"close process " + name() + ": it is still running, join it first"};
  Processes::here().remove(*this);
  const posix::Locked lock{ProcessStateLock::mutex()};
  closed_ = true;
  child_ = nullptr;
}

inline posix::Ref<ProcessState> Process::make(ProcessOptions options,
                                              posix::Ref<ProcessTarget> target) {
  Processes& here = Processes::here();
  auto identity = here.next_identity();
  if (options.name.empty()) {
    options.name = "Process-";
    for (std::size_t i = 0; i < identity.size(); ++i) {
      if (i != 0) options.name += ':';
      options.name += std::to_string(identity[i]);
    }
  }
  auto state = posix::make_ref<ProcessState>(std::move(options.name),
                                             options.daemon.value_or(here.self()->daemon()),
                                             std::move(identity), posix::this_process());
  state->set_target(std::move(target), options.start_method);
  return state;
}

inline void Process::start() const { state_->start(state_); }

inline bool Process::join(Timeout timeout) const {
  const posix::Deadline deadline{timeout};
  if (state_->kinship() == Kinship::parent) {
    const auto pidfd = Processes::here().parent_identity().open();
    return !pidfd || posix::wait_readable(pidfd.get(), deadline);
  }
  const auto child = state_->started_child("join");
  if (!child->wait(deadline)) return false;
  Processes::here().remove(*state_);
  return true;
}

inline bool Process::is_alive() const {
  switch (state_->kinship()) {
    case Kinship::self:
      return true;
    case Kinship::parent:
      return static_cast<bool>(Processes::here().parent_identity().open());
    case Kinship::child:
      break;
  }
  const auto child = state_->child("look at");
  if (!child) return false;
  if (!child->poll()) return true;
  Processes::here().remove(*state_);
  return false;
}

inline void Process::terminate() const { state_->send_signal(SIGTERM, "terminate"); }
inline void Process::kill() const { state_->send_signal(SIGKILL, "kill"); }
inline void Process::interrupt() const { state_->send_signal(SIGINT, "interrupt"); }
inline void Process::close() const { state_->close(); }

inline pid_t Process::pid() const {
  switch (state_->kinship()) {
    case Kinship::self:
      return posix::this_pid();
    case Kinship::parent:
      return Processes::here().parent_identity().pid();
    case Kinship::child:
      break;
  }
  return state_->pid();
}

inline std::optional<int> Process::exitcode() const {
  if (state_->kinship() != Kinship::child) return std::nullopt;
  const auto child = state_->child("ask for the exit code of");
  return child ? child->poll() : std::nullopt;
}

inline std::string Process::name() const { return state_->name(); }
inline void Process::set_name(std::string name) const { state_->set_name(std::move(name)); }
inline bool Process::daemon() const { return state_->daemon(); }
inline void Process::set_daemon(bool daemon) const { state_->set_daemon(daemon); }

inline int Process::sentinel() const {
  const int fd = state_->started_child("ask for the sentinel of")->pidfd();
  if (fd < 0)
    posix::throw_os_error(ENOSYS, "pidfd_open, which a sentinel needs, for process", name());
  return fd;
}

class ProcessHandles {
 public:
  static Process of(posix::Ref<ProcessState> state) { return Process{std::move(state)}; }
};

template <class Result>
Result active_children() {
  Result result;
  for (auto& state : Processes::here().alive())
    result.push_back(ProcessHandles::of(std::move(state)));
  return result;
}

inline Process current_process() { return ProcessHandles::of(Processes::here().self()); }

template <class Result>
Result parent_process() {
  auto parent = Processes::here().parent();
  if (!parent) return std::nullopt;
  return ProcessHandles::of(std::move(parent));
}

}  // namespace brood::multiprocessing
