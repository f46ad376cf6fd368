// SPDX-License-Identifier: MIT
// What is known of a Process here, and of this process's relatives. process.hpp tells the story.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <utility>

#include "../posix/child.hpp"
#include "../posix/futex.hpp"
#include "../posix/immortal.hpp"
#include "../posix/list.hpp"
#include "../posix/process_identity.hpp"
#include "../posix/this_process.hpp"
#include "../sync/fork_hook.hpp"
#include "../timeout.hpp"
#include "launch_entry.hpp"
#include "start_method.hpp"

namespace brood::multiprocessing {

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

/// What a Process runs.
class ProcessTarget : public posix::RefCounted {
 public:
  virtual ~ProcessTarget() = default;
  /// In a copy of this process: calls it, with what it captured and its arguments as rvalues.
  virtual void run() = 0;
  /// How another process can call it: null if it can't.
  virtual const LaunchEntry* entry() const noexcept = 0;
  /// Then: the bytes for that. Throws SerializationError, std::invalid_argument.
  virtual std::string dump(Reduction& descriptors) const = 0;
  /// The code that must be loaded there besides the entry; may be null.
  virtual const void* code() const noexcept = 0;
  /// Else: of callable and arguments the first that is in the way, and which one it is (0: the
  /// callable).
  virtual const std::type_info& obstacle(int& which) const noexcept = 0;
};

class ProcessState final : public posix::RefCounted {
 public:
  ProcessState(std::string name, bool daemon, posix::List<unsigned> ancestry, std::uint64_t made_by)
      : creator{made_by}, identity{std::move(ancestry)}, name_{std::move(name)}, daemon_{daemon} {}

  static constexpr std::uint64_t nobody = 0;

  const std::uint64_t creator;     // its this_process(): who may start and join it
  posix::List<unsigned> identity;  // {1, 2}: second child of the first child of the program

  /// For one that is to be started. No method: the default at that time.
  void set_target(posix::Ref<ProcessTarget> target, std::optional<StartMethod> method) noexcept {
    target_ = std::move(target);
    start_method_ = method;
  }

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
    if (creator != posix::this_process())
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
  void launch_child(const posix::Ref<ProcessState>& self, StartMethod method);
  [[noreturn]] void run_as_child(const posix::Ref<ProcessState>& self,
                                 posix::ProcessIdentity parent, posix::unique_fd empty_input);

  void check_open(const char* attempt) const {
    if (closed_)
      throw std::logic_error{std::string{attempt} + " process " + name_ + ": it was closed"};
  }

  // All under ProcessStateLock.
  std::string name_;
  bool daemon_;
  bool started_ = false;
  bool closed_ = false;
  posix::Ref<ProcessTarget> target_;
  std::optional<StartMethod> start_method_;
  posix::Ref<posix::SharedChild> child_;
};

/// What this process knows of its Process relatives. One a process; never destroyed, since children
/// are joined after static objects begin to go.
class Processes {
 public:
  static Processes& here() { return posix::immortal<Processes>(); }

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
    const posix::Locked lock{mutex_};
    children_.push_back(process);
  }
  /// As long as a child is being made that is not on the list yet: the end of the program, in
  /// another thread, waits for that.
  class Start {
   public:
    explicit Start(Processes& here) : under_way_{here.starts_} {
      posix::on_end(posix::EndStage::processes, &end_children);
      under_way_.fetch_add(1, std::memory_order_relaxed);
    }
    ~Start() {
      // Release: pairs with the acquire in wait_for_starts().
      if (under_way_.fetch_sub(1, std::memory_order_release) == (the_end_waits | 1))
        posix::futex_wake(under_way_);
    }
    Start(const Start&) = delete;
    Start& operator=(const Start&) = delete;

   private:
    std::atomic<std::uint32_t>& under_way_;
  };

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

  /// In a new process.
  void become(const posix::Ref<ProcessState>& self, posix::ProcessIdentity parent,
              const std::string& parent_name) {
    become(self, parent,
           posix::make_ref<ProcessState>(parent_name, false, posix::List<unsigned>{},
                                         ProcessState::nobody));
  }
  /// In a copy of the process `parent`.
  void become_child(const posix::Ref<ProcessState>& self, posix::ProcessIdentity parent) {
    become(self, parent, this->self());
  }

  void become(const posix::Ref<ProcessState>& self, posix::ProcessIdentity parent,
              posix::Ref<ProcessState> parent_state) {
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
    if (in_child) {
      children_.clear();
      identity_ = {};
      starts_.store(0, std::memory_order_relaxed);
    }
    mutex_.unlock();
  }

 private:
  static constexpr std::uint32_t the_end_waits = std::uint32_t{1} << 31;

  template <class T>
  friend T& posix::immortal();
  Processes()
      : self_{posix::make_ref<ProcessState>("MainProcess", false, posix::List<unsigned>{},
                                            ProcessState::nobody)} {
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

  static void wait_for_starts(const posix::Deadline& deadline) noexcept {
    std::atomic<std::uint32_t>& under_way = here().starts_;
    if (under_way.load(std::memory_order_acquire) == 0) return;
    std::uint32_t seen = under_way.fetch_or(the_end_waits, std::memory_order_acquire);
    while ((seen & ~the_end_waits) != 0) {
      if (!posix::futex_wait(under_way, seen | the_end_waits, deadline)) return;
      seen = under_way.load(std::memory_order_acquire);
    }
  }

  // A normal end of the program (Python's _exit_function).
  static void end_children() noexcept {
    constexpr std::chrono::nanoseconds grace{5'000'000'000};
    posix::List<posix::Ref<posix::SharedChild>> daemons;
    posix::List<posix::Ref<posix::SharedChild>> others;
    wait_for_starts(posix::Deadline{grace});  // not for ever: a fork server may be stopped
    at_exit([&] {
      for (const auto& process : here().alive())
        at_exit([&] {
          (process->daemon() ? daemons : others).push_back(process->started_child("join"));
        });
    });
    for (const auto& child : daemons) at_exit([&] { child->send_signal(SIGTERM); });
    for (const auto& child : others) at_exit([&] { child->wait(posix::Deadline{forever}); });
    if (daemons.empty()) return;
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

  // How many are under way, and whether the end of the program waits for them. Beside the mutex,
  // which each fork writes to: another page would have to be copied.
  std::atomic<std::uint32_t> starts_{0};
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

}  // namespace brood::multiprocessing
