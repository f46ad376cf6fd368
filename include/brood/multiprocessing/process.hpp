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
// The child is the program as it was at start(), by fork(): memory is copied on write, descriptors
// are shared, and of the threads only the calling one goes on. A lock that another thread held at
// that moment stays locked in the child; brood's own state is safe there.
#pragma once

#include <cstdio>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../function.hpp"
#include "../identity.hpp"
#include "../posix/child.hpp"
#include "../posix/fork.hpp"
#include "../posix/immortal.hpp"
#include "../posix/list.hpp"
#include "../posix/pipe.hpp"
#include "../posix/process_identity.hpp"
#include "../posix/type_name.hpp"
#include "../sync/fork_hook.hpp"
#include "../timeout.hpp"
#include "start_method.hpp"

namespace brood::multiprocessing {

struct ProcessOptions {
  /// Shown in messages; "Process-N" when empty, with the numbers of its ancestors in front
  /// ("Process-1:2").
  std::string name = {};
  /// A daemon is terminated when its parent ends normally, and can't have children of its own.
  /// Unset: as the process that makes it.
  std::optional<bool> daemon = {};
  /// Throws std::invalid_argument in start() when the method is not in get_all_start_methods().
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
                    [call = std::tuple<std::decay_t<F>, std::decay_t<Args>...>{
                         std::forward<F>(target), std::forward<Args>(args)...}]() mutable {
                      std::apply(
                          [](auto&& f, auto&&... rest) {
                            // A tuple of the arguments alone lets std::apply call member pointers
                            // too.
                            std::apply(std::move(f), std::forward_as_tuple(std::move(rest)...));
                          },
                          std::move(call));
                    })} {}

  // Copied even when moved from, so that a handle always names a process.
  Process(const Process&) noexcept = default;
  Process& operator=(const Process&) noexcept = default;

  /// Forks the child, which calls the target and then ends: exit code 0 after a return, N after
  /// std::exit(N), 1 after an exception, which is printed to stderr with its type and message.
  /// Output buffers are flushed first, so nothing is printed twice. Drops the target and its
  /// arguments in this process. The child's standard input is empty. Neither a return nor an
  /// exception runs exit handlers or destroys static objects there; std::exit() runs those that the
  /// child itself has registered. Throws std::logic_error when
  /// started before, or from a daemon, os::OSError when no process can be had (then it can be tried
  /// again).
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
  friend class ProcessState;
  friend class Processes;
  static posix::Ref<ProcessState> make(ProcessOptions options, Function<void()> target);
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

/// What a process is to the one that looks at it.
enum class Kinship { child, self, parent };

/// Guards what may change in every ProcessState: one lock for all, so that a fork can hold it, and
/// no child meets it in the hands of a thread that it has not got.
class ProcessStateLock {
 public:
  static posix::Mutex& mutex() { return posix::immortal<ProcessStateLock>().mutex_; }

  void before_fork() noexcept { mutex_.lock(); }
  void after_fork(bool) noexcept { mutex_.unlock(); }

 private:
  template <class T>
  friend T& posix::immortal();
  ProcessStateLock() = default;

  posix::Mutex mutex_;
  sync::ForkHook fork_hook_{*this};
};

class ProcessState final : public posix::RefCounted {
 public:
  ProcessState(ProcessOptions options, Function<void()> target, posix::List<unsigned> ancestry,
               pid_t made_by)
      : creator{made_by},
        identity{std::move(ancestry)},
        start_method{options.start_method.value_or(StartMethod::fork)},
        name_{std::move(options.name)},
        daemon_{options.daemon.value_or(false)},
        target_{std::move(target)} {}

  const pid_t creator;             // who may start and join it
  posix::List<unsigned> identity;  // {1, 2}: second child of the first child of the program
  const StartMethod start_method;

  std::string name() const {
    const posix::Locked lock{ProcessStateLock::mutex()};
    return name_;
  }
  void set_name(std::string name) {
    const posix::Locked lock{ProcessStateLock::mutex()};
    name_ = std::move(name);
  }
  bool daemon() const {
    const posix::Locked lock{ProcessStateLock::mutex()};
    return daemon_;
  }
  void take_number(unsigned number) {
    const posix::Locked lock{ProcessStateLock::mutex()};
    identity.back() = number;
    name_ += std::to_string(number);
  }
  void set_daemon(bool daemon) {
    const posix::Locked lock{ProcessStateLock::mutex()};
    if (started_) throw std::logic_error{"set daemon of process " + name_ + ": already started"};
    daemon_ = daemon;
  }
  void start(const posix::Ref<ProcessState>& self);
  void close();

  /// 0 before the start.
  pid_t pid() const {
    const posix::Locked lock{ProcessStateLock::mutex()};
    check_open("ask for the pid of");
    return child_ ? child_->pid() : 0;
  }
  /// The started child, for those who may ask about it; null before the start.
  posix::Ref<posix::SharedChild> child(const char* attempt) const {
    const posix::Locked lock{ProcessStateLock::mutex()};
    check_open(attempt);
    if (creator != posix::this_pid())
      throw std::logic_error{std::string{attempt} + " process " + name_ +
                             ": not a child of this process"};
    return child_;
  }
  posix::Ref<posix::SharedChild> started_child(const char* attempt) const {
    auto result = child(attempt);
    if (!result)
      throw std::logic_error{std::string{attempt} + " process " + name() + ": not started yet"};
    return result;
  }
  void send_signal(int signal, const char* attempt) const {
    started_child(attempt)->send_signal(signal);
  }
  Kinship kinship() const;

 private:
  void fork_child(const posix::Ref<ProcessState>& self);
  [[noreturn]] void run_as_child(const posix::Ref<ProcessState>& self,
                                 posix::ProcessIdentity parent, const std::string& parent_name);

  void check_open(const char* attempt) const {
    if (closed_)
      throw std::logic_error{std::string{attempt} + " process " + name_ + ": it was closed"};
  }

  // All under ProcessStateLock.
  std::string name_;
  bool daemon_;
  bool started_ = false;
  bool closed_ = false;
  Function<void()> target_;
  posix::Ref<posix::SharedChild> child_;
};

/// What this process knows of its Process relatives. One a process; never destroyed, since children
/// are joined after static objects begin to go.
class Processes {
 public:
  static Processes& here() { return posix::immortal<Processes>(); }

  static Process handle(posix::Ref<ProcessState> state) { return Process{std::move(state)}; }

  posix::Ref<ProcessState> self() {
    const posix::Locked lock{mutex_};
    return self_;
  }
  posix::Ref<ProcessState> parent() {
    const posix::Locked lock{mutex_};
    return parent_;
  }

  posix::List<unsigned> next_identity() {
    const posix::Locked lock{mutex_};
    auto identity = self_->identity.copy();
    identity.push_back(++last_child_);
    return identity;
  }

  void add(const posix::Ref<ProcessState>& process) {
    posix::on_end(posix::EndStage::processes, &end_children);
    const posix::Locked lock{mutex_};
    children_.push_back(process);
  }
  void remove(const ProcessState& process) {
    const posix::Locked lock{mutex_};
    for (auto& child : children_) {
      if (child.get() != &process) continue;
      children_.erase_unordered(&child);
      return;
    }
  }

  /// Reaps the ended children and gives the others.
  posix::List<posix::Ref<ProcessState>> alive() {
    posix::List<posix::Ref<ProcessState>> result;
    for (auto& process : children()) {
      if (ended(*process))
        remove(*process);
      else
        result.push_back(std::move(process));
    }
    return result;
  }

  /// In a child that start() has forked.
  void become(const posix::Ref<ProcessState>& self, posix::ProcessIdentity parent,
              const std::string& parent_name) {
    auto parent_state =
        posix::make_ref<ProcessState>(ProcessOptions{.name = parent_name}, Function<void()>{},
                                      posix::List<unsigned>{}, parent.pid());
    const posix::Locked lock{mutex_};
    self_ = self;
    parent_ = std::move(parent_state);
    parent_identity_ = parent;
    last_child_ = 0;
  }

  /// Of a process that has become one of several alike, all but for the number at the end of its
  /// name.
  void become_number(unsigned number) {
    self()->take_number(number);  // whose lock comes before the one here, as at a fork
  }

  /// This process's name for its children. Read from /proc once.
  posix::ProcessIdentity identity() {
    const posix::Locked lock{mutex_};
    if (identity_.pid() != posix::this_pid())
      identity_ = posix::ProcessIdentity::of(posix::this_pid());
    return identity_;
  }
  posix::ProcessIdentity parent_identity() {
    const posix::Locked lock{mutex_};
    return parent_identity_;
  }

  // For sync::ForkHook: in a forked child, the parent's children are nobody's.
  void before_fork() noexcept { mutex_.lock(); }
  void after_fork(bool in_child) noexcept {
    if (in_child) children_.clear();
    mutex_.unlock();
  }

 private:
  template <class T>
  friend T& posix::immortal();
  Processes()
      : self_{posix::make_ref<ProcessState>(ProcessOptions{.name = "MainProcess"},
                                            Function<void()>{}, posix::List<unsigned>{},
                                            ::getppid())} {
    ProcessStateLock::mutex();  // made now, while no other thread is making it
  }

  posix::List<posix::Ref<ProcessState>> children() {
    const posix::Locked lock{mutex_};
    return children_.copy();
  }

  static bool ended(const ProcessState& process) {
    try {
      const auto child = process.child("look at");
      return !child || child->poll().has_value();
    } catch (const std::exception&) {  // closed meanwhile, or its exit code is lost
      return true;
    }
  }

  // A normal end of the program (Python's _exit_function).
  static void end_children() noexcept {
    constexpr std::chrono::nanoseconds grace{5'000'000'000};
    posix::List<posix::Ref<posix::SharedChild>> daemons;
    posix::List<posix::Ref<posix::SharedChild>> others;
    at_exit([&] {
      for (const auto& process : here().alive())
        at_exit([&] {
          (process->daemon() ? daemons : others).push_back(process->started_child("join"));
        });
    });
    for (const auto& child : daemons) at_exit([&] { child->send_signal(SIGTERM); });
    for (const auto& child : others) at_exit([&] { child->wait(posix::Deadline{forever}); });
    const posix::Deadline deadline{grace};
    for (const auto& child : daemons)
      at_exit([&] {
        if (child->wait(deadline)) return;
        child->send_signal(SIGKILL);
        child->wait(posix::Deadline{forever});
      });
  }
  // Trouble with one child must not keep the others from being waited for.
  template <class F>
  static void at_exit(F f) noexcept {
    try {
      f();
    } catch (const os::ChildProcessError&) {  // it has ended, and its exit code is lost: no matter
    } catch (const std::exception& error) {
      std::fprintf(stderr, "brood: waiting for child processes at exit: %s\n", error.what());
    }
  }

  posix::Mutex mutex_;  // guards all below
  posix::Ref<ProcessState> self_;
  posix::Ref<ProcessState> parent_;
  posix::ProcessIdentity parent_identity_;
  posix::ProcessIdentity identity_;
  posix::List<posix::Ref<ProcessState>> children_;
  unsigned last_child_ = 0;
  sync::ForkHook fork_hook_{*this};
};

inline Kinship ProcessState::kinship() const {
  Processes& here = Processes::here();
  if (here.self().get() == this) return Kinship::self;
  if (here.parent().get() == this) return Kinship::parent;
  return Kinship::child;
}

inline void ProcessState::start(const posix::Ref<ProcessState>& self) {
  if (start_method != StartMethod::fork)
    throw std::invalid_argument{"start process " + name() +
                                ": the start methods forkserver and spawn are not available; use "
                                "StartMethod::fork"};
  Processes& here = Processes::here();
  const auto parent = here.self();
  here.alive();  // reaps, as Python does at each start
  {
    const posix::Locked lock{ProcessStateLock::mutex()};
    const std::string attempt = "start process " + name_;
    if (creator != posix::this_pid())
      throw std::logic_error{attempt + ": it was made in another process"};
    if (closed_) throw std::logic_error{attempt + ": it was closed"};
    if (started_) throw std::logic_error{attempt + ": already started"};
    if (parent->daemon_) throw std::logic_error{attempt + ": daemon processes can't have children"};
    started_ = true;
  }
  try {
    fork_child(self);
  } catch (...) {
    const posix::Locked lock{ProcessStateLock::mutex()};
    started_ = false;
    child_ = nullptr;
    throw;
  }
  Function<void()> dropped;  // the user's destructors run outside the lock
  const posix::Locked lock{ProcessStateLock::mutex()};
  std::swap(dropped, target_);
}

inline void ProcessState::fork_child(const posix::Ref<ProcessState>& self) {
  Processes& here = Processes::here();
  const std::string parent_name = here.self()->name();
  const posix::ProcessIdentity parent_identity = here.identity();
  // The child waits at a gate until this process holds a descriptor for it. So it can't vanish
  // before that (with SIGCHLD ignored), and if there is none to be had, its target has not begun.
  posix::PipeEnds gate = posix::make_pipe();
  const pid_t pid = posix::flush_and_fork();
  char go = 0;
  if (pid == 0) {
    gate.write.reset();
    if (posix::read_some(gate.read.get(), &go, 1) != 1) ::_exit(1);
    gate.read.reset();
    run_as_child(self, parent_identity, parent_name);
  }
  try {
    auto child = posix::make_ref<posix::SharedChild>(pid, posix::open_pidfd(pid));
    {
      const posix::Locked lock{ProcessStateLock::mutex()};
      child_ = std::move(child);
    }
    here.add(self);
  } catch (...) {
    posix::kill_and_reap(pid);
    throw;
  }
  posix::write_some(gate.write.get(), &go, 1);
}

inline void ProcessState::run_as_child(const posix::Ref<ProcessState>& self,
                                       posix::ProcessIdentity parent,
                                       const std::string& parent_name) {
  posix::catch_exit_in_forked_child();
  Processes::here().become(self, parent, parent_name);
  posix::detach_stdin();
  int code = 0;
  try {
    // Destroyed at the end of the call, as a thread's is: a captured file is written then.
    Function<void()> target;
    std::swap(target, target_);
    target();
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

inline posix::Ref<ProcessState> Process::make(ProcessOptions options, Function<void()> target) {
  Processes& here = Processes::here();
  auto identity = here.next_identity();
  if (options.name.empty()) {
    options.name = "Process-";
    for (std::size_t i = 0; i < identity.size(); ++i) {
      if (i != 0) options.name += ':';
      options.name += std::to_string(identity[i]);
    }
  }
  if (!options.daemon) options.daemon = here.self()->daemon();
  return posix::make_ref<ProcessState>(std::move(options), std::move(target), std::move(identity),
                                       posix::this_pid());
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
      return state_->creator;
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

template <class Result>
Result active_children() {
  Result result;
  for (auto& state : Processes::here().alive())
    result.push_back(Processes::handle(std::move(state)));
  return result;
}

inline Process current_process() { return Processes::handle(Processes::here().self()); }

template <class Result>
Result parent_process() {
  auto parent = Processes::here().parent();
  if (!parent) return std::nullopt;
  return Processes::handle(std::move(parent));
}

}  // namespace brood::multiprocessing
