// SPDX-License-Identifier: MIT
// The threads of the program, as brood knows them: what stands behind a Thread handle, the list
// that enumerate() shows, and what happens to them at the end of the program and in a child of
// fork(). The class Thread is a view of this.
//
// phase     | set by                             | in the list | next
// ----------+------------------------------------+-------------+------------------------------------
// initial   | the constructor                    | no          | starting
// starting  | start()                            | yes         | running; initial if that fails
// running   | the new thread                     | yes         | ended
// ended     | the thread, as its last thread_local is destroyed; the system's thread is joined by
//           | the first join(), or detached with the last handle
//
// The program's first thread, and those that others made, are `running` from when they are first
// met. A thread of a process that forked has an older generation than its child: there it is ended,
// whatever its phase. One lock guards everything; no user code runs under it.
#pragma once

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>

#include "../function.hpp"
#include "../posix/exchange.hpp"
#include "../posix/immortal.hpp"
#include "../posix/list.hpp"
#include "../posix/this_process.hpp"
#include "../posix/thread.hpp"
#include "../posix/thread_title.hpp"
#include "../sync/fork_hook.hpp"
#include "../sync/wait_list.hpp"

namespace brood::threading {

enum class Phase { initial, starting, running, ended };

/// Who made a thread: brood, the system at the start of the process, or somebody else.
enum class Origin { brood, main, foreign };

struct ThreadState final : posix::RefCounted {
  ~ThreadState();

  // Everything here is guarded by the registry's lock.
  std::string name;
  bool daemon = false;
  Origin origin = Origin::brood;
  Phase phase = Phase::initial;
  bool in_start = false;         // start() has not returned: `os` is not there yet
  std::uint32_t joined_by = 0;   // the generation whose pthread_join() is under way
  std::uint32_t generation = 0;  // the process it runs in, see Registry
  std::optional<std::size_t> ident;
  pid_t native_id = 0;
  Function<void()> target;
  posix::OsThread os;
  sync::WaitList changed;
  ThreadState* next = nullptr;
  ThreadState* previous = nullptr;
};

class Registry {
 public:
  using StateRef = posix::Ref<ThreadState>;

  /// Never destroyed, for daemon threads outlive static objects.
  static Registry& get() { return posix::immortal<Registry>(); }

  /// The calling thread; makes it known if it is not.
  StateRef current();
  /// The program's first thread; in a child of fork(), the one that forked.
  StateRef main();
  posix::List<StateRef> enumerate();
  std::size_t active_count();

  /// "Thread-N", "Dummy-N": N counts from 1, for each prefix.
  std::string next_name(const char* prefix);

  /// Runs `call(target)` in the new thread.
  void start(const StateRef& thread, void (*call)(const Function<void()>& target));
  bool join(const StateRef& thread, Timeout limit);
  bool is_alive(const ThreadState& thread);
  void set_name(ThreadState& thread, std::string name);
  void set_daemon(ThreadState& thread, bool daemon);

  /// Waits for every thread that is not a daemon, but for the calling one: what a program does
  /// before it ends. A child that ends by _exit() must ask for it.
  void join_non_daemons();

  /// The value of a guarded member.
  template <class M>
  M read(const M& member) {
    const posix::Locked lock{mutex_};
    return member;
  }
  /// Gives a guarded member a new value and returns the old one.
  template <class M>
  M exchange(M& member, M value) {
    const posix::Locked lock{mutex_};
    return posix::exchange(member, std::move(value));
  }

  static std::size_t pthread_ident() noexcept {
    return reinterpret_cast<std::size_t>(reinterpret_cast<void*>(::pthread_self()));
  }
  static pid_t native_thread_id() noexcept { return static_cast<pid_t>(::syscall(SYS_gettid)); }

  std::size_t stack_size = 0;  // of new threads; guarded, as all that read() and exchange() take

  void before_fork() noexcept { mutex_.lock(); }
  void after_fork(bool in_child) noexcept;

 private:
  friend ThreadState;

  // What a thread knows of itself; needs no destruction, and so is there to the very end.
  struct Self {
    ThreadState* state = nullptr;
    bool returning = false;  // from its target; else its thread_locals go because of std::exit()
    bool ending = false;     // its Departure has begun
  };
  static Self& self() noexcept {
    static thread_local Self self;
    return self;
  }

  // Its destructor is the end of a thread. Made before any other thread_local object of a thread
  // that brood started, and so destroyed after them all; on the main thread, before any static
  // object.
  struct Departure {
    ~Departure();
    StateRef state;
  };
  static void adopt(const StateRef& state) {
    static thread_local Departure departure;
    departure.state = state;
    self().state = state.get();
  }

  static bool on_main_thread() noexcept { return native_thread_id() == ::getpid(); }

  // All of these with the lock held.
  bool has_ended(const ThreadState& thread) const noexcept {
    return thread.phase == Phase::ended ||
           (thread.phase != Phase::initial && thread.generation != generation_);
  }
  void identify(ThreadState& thread) noexcept {
    thread.ident = pthread_ident();
    thread.native_id = native_thread_id();
    thread.generation = generation_;
    thread.phase = Phase::running;
  }
  void insert(StateRef thread) noexcept;
  StateRef remove(ThreadState& thread) noexcept;
  void make_main(StateRef thread) noexcept;

  void run(const StateRef& thread, void (*call)(const Function<void()>& target));
  static void set_os_name(pthread_t thread, const std::string& name) noexcept;

  sync::WordLock mutex_;  // guards what follows, and every ThreadState
  ThreadState* first_ = nullptr;
  ThreadState* last_ = nullptr;
  std::size_t count_ = 0;
  StateRef main_;
  std::uint32_t generation_ = 1;  // one more in each child of fork()
  unsigned long threads_named_ = 0;
  unsigned long dummies_named_ = 0;
  sync::ForkHook hook_{*this};
};

// ---------------------------------------------------------------------------------------------

inline ThreadState::~ThreadState() {
  if (os.joinable() && generation == Registry::get().read(Registry::get().generation_))
    os.detach();
  else
    os.forget();
}

inline void Registry::insert(StateRef thread) noexcept {
  ThreadState* const added = thread.release();  // the list is an owner
  added->next = nullptr;
  added->previous = last_;
  (last_ == nullptr ? first_ : last_->next) = added;
  last_ = added;
  ++count_;
}

inline Registry::StateRef Registry::remove(ThreadState& thread) noexcept {
  (thread.previous == nullptr ? first_ : thread.previous->next) = thread.next;
  (thread.next == nullptr ? last_ : thread.next->previous) = thread.previous;
  --count_;
  return StateRef::adopt(&thread);
}

inline void Registry::make_main(StateRef thread) noexcept {
  thread->origin = Origin::main;
  thread->daemon = false;
  main_ = std::move(thread);
}

inline Registry::StateRef Registry::current() {
  if (self().state != nullptr) return StateRef::share(self().state);
  const bool is_main = on_main_thread();
  const posix::ThreadTitle title = posix::this_thread_title;
  StateRef thread = posix::make_ref<ThreadState>();
  if (is_main)
    thread->name = "MainThread";
  else if (title.prefix != nullptr)
    thread->name = *title.prefix + "_" + std::to_string(title.number);
  else
    thread->name = next_name("Dummy-");
  thread->origin = Origin::foreign;
  thread->daemon = true;
  {
    const posix::Locked lock{mutex_};
    if (is_main && main_ && main_->generation == generation_) thread = main_;
    const bool is_new = thread->phase == Phase::initial;
    identify(*thread);
    if (is_main && is_new) make_main(thread);
    // In a destructor after all others it is too late to become known.
    if (is_new && !self().ending) insert(thread);
  }
  if (!self().ending) adopt(thread);
  return thread;
}

inline Registry::StateRef Registry::main() {
  if (on_main_thread()) return current();
  StateRef unknown = posix::make_ref<ThreadState>();
  unknown->name = "MainThread";
  const posix::Locked lock{mutex_};
  if (!main_) {  // it has made no call yet: current() will tell its ident
    unknown->phase = Phase::running;
    unknown->native_id = ::getpid();
    unknown->generation = generation_;
    insert(unknown);
    make_main(unknown);
  }
  return main_;
}

inline posix::List<Registry::StateRef> Registry::enumerate() {
  current();  // is one of them
  main();     // is another
  posix::List<StateRef> threads;
  const posix::Locked lock{mutex_};
  threads.reserve(count_);
  for (ThreadState* thread = first_; thread != nullptr; thread = thread->next)
    threads.push_back(StateRef::share(thread));
  return threads;
}

inline std::size_t Registry::active_count() {
  current();
  main();
  return read(count_);
}

inline std::string Registry::next_name(const char* prefix) {
  unsigned long number = 0;
  {
    const posix::Locked lock{mutex_};
    number = prefix[0] == 'D' ? ++dummies_named_ : ++threads_named_;
  }
  return prefix + std::to_string(number);
}

inline void Registry::start(const StateRef& thread, void (*call)(const Function<void()>& target)) {
  static const bool at_end = [] {
    posix::on_end(posix::EndStage::threads, [] { Registry::get().join_non_daemons(); });
    return true;
  }();
  static_cast<void>(at_end);
  current();  // the main thread, once known, ends by waiting for the others
  std::size_t stack = 0;
  {
    const posix::Locked lock{mutex_};
    if (thread->phase != Phase::initial)
      throw std::logic_error{"start thread '" + thread->name + "': it has been started before"};
    thread->phase = Phase::starting;
    thread->in_start = true;
    thread->generation = generation_;
    insert(thread);
    stack = stack_size;
  }
  posix::OsThread os;
  try {
    os = posix::OsThread{[this, thread, call] { run(thread, call); }, posix::ThreadSignals::inherit,
                         stack};
  } catch (...) {
    const posix::Locked lock{mutex_};
    thread->phase = Phase::initial;
    thread->in_start = false;
    remove(*thread);  // the caller is an owner too
    throw;
  }
  posix::Locked lock{mutex_};
  thread->os = std::move(os);
  thread->changed.wait(lock, posix::Deadline{forever},
                       [&] { return thread->phase != Phase::starting; });
  thread->in_start = false;
  thread->changed.wake_all();
}

inline void Registry::run(const StateRef& thread, void (*call)(const Function<void()>& target)) {
  adopt(thread);
  struct Returning {
    ~Returning() { self().returning = true; }
  } const returning;
  Function<void()> target;
  {
    const posix::Locked lock{mutex_};
    identify(*thread);
    posix::swap(target, thread->target);
    thread->changed.wake_all();
    set_os_name(::pthread_self(), thread->name);
  }
  call(target);
}

inline Registry::Departure::~Departure() {
  Self& own = self();
  own.ending = true;
  Registry& registry = Registry::get();
  const Origin origin = registry.read(state->origin);
  if (origin == Origin::brood && !own.returning) {
    state.release();  // std::exit() on this thread: it goes on, and is no less alive
    return;
  }
  StateRef removed;
  {
    const posix::Locked lock{registry.mutex_};
    state->phase = Phase::ended;
    state->changed.wake_all();
    if (origin != Origin::main) {
      removed = registry.remove(*state);
      own.state = nullptr;
    }
  }
  if (origin == Origin::main) registry.join_non_daemons();
}

inline bool Registry::join(const StateRef& thread, Timeout limit) {
  const posix::Deadline deadline{limit};
  const StateRef caller = current();
  posix::Locked lock{mutex_};
  const auto refuse = [&](const char* why) {
    throw std::logic_error{"join thread '" + thread->name + "': " + why};
  };
  if (thread->phase == Phase::initial) refuse("it has not been started");
  if (thread == caller) refuse("a thread cannot wait for its own end");
  if (thread->origin == Origin::foreign) refuse("it was not made by brood");
  const auto may_finish = [&] {
    return has_ended(*thread) && (thread->generation != generation_ ||
                                  (!thread->in_start && thread->joined_by != generation_));
  };
  if (!thread->changed.wait(lock, deadline, may_finish)) return false;
  if (thread->generation == generation_ && thread->os.joinable()) {
    // All that is left of it are a few instructions of the C library.
    thread->joined_by = generation_;
    posix::OsThread os = std::move(thread->os);
    lock.unlock();
    os.join();
    lock.lock();
    thread->joined_by = 0;
    thread->changed.wake_all();
  }
  return true;
}

inline bool Registry::is_alive(const ThreadState& thread) {
  const posix::Locked lock{mutex_};
  return thread.phase == Phase::running && !has_ended(thread);
}

inline void Registry::set_name(ThreadState& thread, std::string name) {
  const posix::Locked lock{mutex_};
  thread.name.swap(name);
  if (thread.phase != Phase::running || has_ended(thread)) return;
  // Its pthread_t is valid while it runs; a foreign thread's may be gone unless it is our own.
  if (thread.ident == pthread_ident())
    set_os_name(::pthread_self(), thread.name);
  else if (thread.os.joinable())
    set_os_name(thread.os.native_handle(), thread.name);
}

inline void Registry::set_daemon(ThreadState& thread, bool daemon) {
  const posix::Locked lock{mutex_};
  if (thread.phase != Phase::initial)
    throw std::logic_error{"set_daemon of thread '" + thread.name + "': it has been started"};
  thread.daemon = daemon;
}

inline void Registry::join_non_daemons() {
  const auto next_one = [&]() -> StateRef {
    const StateRef caller = current();
    const posix::Locked lock{mutex_};
    for (ThreadState* thread = first_; thread != nullptr; thread = thread->next) {
      if (thread->origin == Origin::brood && !thread->daemon && thread != caller.get())
        return StateRef::share(thread);
    }
    return nullptr;
  };
  while (const StateRef thread = next_one()) join(thread, forever);
}

inline void Registry::after_fork(bool in_child) noexcept {
  if (in_child) {
    ++generation_;
    // The other threads are gone. Their states are left as they are: copies of them may lie on
    // stacks that are gone too.
    first_ = last_ = nullptr;
    count_ = 0;
    main_.release();
    if (self().state != nullptr) {
      const StateRef forker = StateRef::share(self().state);
      if (forker->origin == Origin::foreign) forker->name = "MainThread";
      forker->os.forget();
      forker->changed.forget();
      identify(*forker);
      insert(forker);
      make_main(forker);
    }
  }
  mutex_.unlock();
}

inline void Registry::set_os_name(pthread_t thread, const std::string& name) noexcept {
  char cut[16] = {};  // the kernel's limit, with the end
  name.copy(cut, sizeof cut - 1);
  ::pthread_setname_np(thread, cut);
}

}  // namespace brood::threading
