// SPDX-License-Identifier: MIT
// The shared state behind a Future, and what an executor does with it. Users of futures need
// future.hpp alone.
//
// One allocation holds everything: an executor derives its task (callable, arguments, its own
// links) from FutureState<T>, whose T is the result.
//
// status     | next              | who moves it on
// -----------+-------------------+----------------------------------------------------------------
// pending    | owned             | try_start(): an executor, once
//            | running           | set_running_or_notify_cancel()
//            | cancelled         | cancel()
// running    | owned             | set_result(), set_exception()
// owned      | succeeded, failed | its owner: publish(), complete()
//            | what it was       | set_result(), when the constructor of the value throws
// cancelled, failed, succeeded   | nobody: done
//
// `running` is Python's state of a future that is completed by hand; `owned` counts as running too,
// but only one thread may store the result, and set_result() by others is refused. A cancelled
// future is done, and everybody is told, in the same step.
//
// The status lies in one word with three flags. `asleep`: somebody sleeps on the word (futex).
// `locked`: the word is also the lock of the two lists of listeners; critical sections are a few
// instructions, so whoever meets the lock sleeps on the word as well. `listened`: a list is not
// empty, so completion has to take the lock; without listeners it is one compare-and-swap.
//
// Waiters (wait, as_completed) are told with the lock held and may leave at any time; once
// remove_waiter() has returned, nobody touches the waiter any more. Callbacks are detached with the
// lock held and run after its release, in the order in which they were added.
//
// References: the low half of one word counts the handles (Future, AnyFuture objects), the high
// half all others (executors, queues; posix::Ref<State> is one of those). Only handles decide
// whether result() may move. Each callback that is about to run has been given a handle before
// the status became done. When the last handle of a done future goes, the result goes with it,
// though an executor may still hold the empty state for a moment.
//
// For executors
//
//   template <class R, class F>
//   class Task final : public FutureState<R> {
//    public:
//     explicit Task(F f) : f_{std::move(f)} {}
//     void run() noexcept {                           // in some thread, holding a posix::Ref
//       if (!this->try_start()) return;               // cancelled meanwhile
//       std::exception_ptr error;
//       try { this->store_value(f_()); }
//       catch (...) { error = std::current_exception(); }
//       if (error) this->set_error(std::move(error));
//       else this->complete(Status::succeeded);
//     }
//    private:
//     F f_;
//   };
//   auto task = posix::make_ref<Task<int, F>>(f);     // one count, the executor's
//   Future<int> future{task};                         // a handle for the user
//
// The virtual functions of StateBase are the executor's hooks: who waits, who listens, who cancels.
// Let go of callable and arguments before publishing, and publish outside of any catch block.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>

#include "../posix/exchange.hpp"
#include "../posix/futex.hpp"
#include "../posix/ref.hpp"
#include "../posix/type_name.hpp"
#include "../sync/word_lock.hpp"
#include "errors.hpp"

namespace brood::futures {

class StateBase;

/// One thread's wait for one or several futures, as their executors see it.
class Waiting {
 public:
  Waiting(const posix::Deadline& deadline, bool one) noexcept : deadline_{deadline}, one_{one} {}
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  /// Whether what is waited for has happened.
  virtual bool over() const noexcept = 0;
  const posix::Deadline& deadline() const noexcept { return deadline_; }
  /// Whether one future alone is waited for: the one whose help() was called.
  bool one() const noexcept { return one_; }

 protected:
  ~Waiting() = default;

 private:
  const posix::Deadline& deadline_;
  const bool one_;
};

/// Told once, when the future it was added to is done.
class Waiter {
 public:
  /// With the future's lock held: must be quick and touch no future. `state` is done.
  virtual void told(StateBase& state) noexcept = 0;

 protected:
  ~Waiter() = default;

 private:
  friend StateBase;
  Waiter* next_ = nullptr;
  Waiter* previous_ = nullptr;
};

/// Run once, when the future it was added to is done; owns itself.
class Callback {
 public:
  /// Takes over one handle of `state`, which is done.
  virtual void run(StateBase& state) noexcept = 0;
  /// Instead of run(): `state` is destroyed without having been completed.
  virtual void abandon() noexcept = 0;

 protected:
  ~Callback() = default;

 private:
  friend StateBase;
  Callback* next_ = nullptr;
};

enum class Status : std::uint32_t { pending, running, owned, cancelled, failed, succeeded };

/// All of the state but the result itself. Every function may be called from any thread unless it
/// says otherwise.
class StateBase {
 public:
  StateBase() noexcept = default;
  StateBase(const StateBase&) = delete;
  StateBase& operator=(const StateBase&) = delete;
  virtual ~StateBase();

  Status status() const noexcept { return status_of(word_.load(std::memory_order_acquire)); }
  bool done() const noexcept { return status() >= Status::cancelled; }

  // The executor's side.

  /// pending -> owned. False when it is not pending any more: somebody else has it, or it was
  /// cancelled. Afterwards only the caller may store and publish.
  bool try_start() noexcept { return try_own(false); }

  /// Makes it done with what was stored, wakes and tells those who wait, and returns the callbacks,
  /// to be run by run_callbacks(). By the owner only, who must hold a reference.
  [[nodiscard]] Callback* publish(Status status) noexcept;

  /// Runs what publish() returned.
  void run_callbacks(Callback* first) noexcept;

  /// Instead: keeps it for run_kept_callbacks(), to be called once, after this, by any thread that
  /// holds a reference.
  void keep_callbacks(Callback* first) noexcept { callbacks_ = first; }
  void run_kept_callbacks() noexcept { run_callbacks(posix::exchange(callbacks_, nullptr)); }

  /// publish() and run_callbacks().
  void complete(Status status) noexcept { run_callbacks(publish(status)); }

  /// Stores an exception; by the owner, before publish(Status::failed).
  void store_error(std::exception_ptr error) noexcept { error_ = std::move(error); }

  /// store_error() and complete().
  void set_error(std::exception_ptr error) noexcept {
    store_error(std::move(error));
    complete(Status::failed);
  }

  // The handles' side.

  /// Sleeps until it is done; false when the deadline comes first.
  bool wait(const posix::Deadline& deadline);

  /// pending -> cancelled. True when it is cancelled now, by this call or before.
  bool cancel() noexcept;

  /// Whether somebody works on it.
  bool running() const noexcept;

  /// pending -> running, for a future that is completed by hand. False when it was cancelled.
  /// Throws InvalidStateError in the other states.
  bool set_running();

  /// pending or running -> owned, for a completion by hand; returns what it was. Throws
  /// InvalidStateError when it is owned or done.
  Status own();
  /// Undoes own().
  void disown(Status before) noexcept;

  const std::exception_ptr& error() const noexcept { return error_; }

  /// Has `callback` run when it is done, or now if it is.
  void add_callback(Callback* callback) noexcept;

  /// False, and not added, when it is done already.
  bool add_waiter(Waiter& waiter) noexcept;
  /// After this nobody touches `waiter`. Does nothing for a waiter that was told.
  void remove_waiter(Waiter& waiter) noexcept;

  // References.

  void add_handle(std::uint32_t count = 1) const noexcept {
    references_.fetch_add(count, std::memory_order_relaxed);
  }
  /// add_handle() while nobody else can know the state.
  void add_first_handle() const noexcept {
    references_.store(references_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void drop_handle() noexcept;
  /// Whether the caller's handle is the only one.
  bool last_handle() const noexcept {
    return static_cast<std::uint32_t>(references_.load(std::memory_order_acquire)) == 1;
  }
  void add_owner() const noexcept { references_.fetch_add(owner, std::memory_order_relaxed); }
  bool drop_owner() const noexcept {
    return references_.fetch_sub(owner, std::memory_order_acq_rel) == owner;
  }
  /// Adds an owner unless the last reference is gone: for those who know it by address only, and
  /// keep its destructor from ending meanwhile.
  bool try_add_owner() const noexcept;
  /// Whether its destructor may run others' code: that of a result or of an exception. For whoever
  /// has dropped the last reference.
  bool runs_code_at_end() const noexcept { return has_value_to_destroy_ || error_ != nullptr; }

  // The executor's hooks.

  /// A thread is about to sleep until waiting.over(), which this future's end may bring about. May
  /// do work that brings it nearer, and return at any time. When it returns before it is over, the
  /// caller sleeps and is told: this future must then become done without the caller's help.
  virtual void help(Waiting&) {}
  /// Somebody has registered a callback: this future must become done though nobody helps.
  virtual void expect() noexcept {}
  /// Somebody asks whether it is done without waiting, and it is not: may look for news.
  virtual void poll() noexcept {}
  /// Whether a worker has begun with it though it is still pending here.
  virtual bool started() const noexcept { return false; }
  /// Whether a pending future may be cancelled; if so it is cancelled right after this. With the
  /// lock held: must be quick and touch no future.
  virtual bool may_cancel() noexcept { return true; }
  /// It was cancelled while pending; nobody else will touch callable and arguments any more.
  virtual void on_cancelled() noexcept {}

 protected:
  /// Destroys the value, if there is one: the last handle has gone.
  virtual void discard_value() noexcept {}

  /// Whether somebody is told of its end. (Those who know it by address only, see try_add_owner(),
  /// are told by callbacks.)
  bool is_listened() const noexcept {
    return (word_.load(std::memory_order_relaxed) & listened) != 0;
  }

  /// The lock of the lists, which a task may use for a few instructions of its own. lock() returns
  /// the word as it is then, unlock() leaves the one it is given.
  std::uint32_t lock() noexcept;
  void unlock(std::uint32_t word) noexcept;

 private:
  static constexpr std::uint32_t status_mask = 7, asleep = 8, locked = 16, listened = 32;
  static constexpr std::uint64_t owner = std::uint64_t{1} << 32;

  static constexpr Status status_of(std::uint32_t word) noexcept {
    return static_cast<Status>(word & status_mask);
  }
  static constexpr std::uint32_t bits(Status status) noexcept {
    return static_cast<std::uint32_t>(status);
  }

  bool try_own(bool or_running) noexcept;
  bool sleep(const posix::Deadline& deadline) noexcept;
  Callback* publish_locked(Status status) noexcept;

  mutable std::atomic<std::uint64_t> references_{owner};
  Waiter* waiters_ = nullptr;      // guarded by `locked`, as is the next
  Callback* callbacks_ = nullptr;  // newest first; when done, those that are kept
  std::exception_ptr error_;       // written by the owner, read when done
  std::atomic<std::uint32_t> word_{bits(Status::pending)};

 protected:
  // Whether the derived class holds a value whose destructor does something; here, where there is
  // room. Written by the owner, then by the last handle, then by the destructor.
  bool has_value_to_destroy_ = false;
};

/// The state with room for a T, which may be void or a reference.
template <class T>
class FutureState : public StateBase {
  struct Nothing {};
  using Stored = std::conditional_t<
      std::is_void_v<T>, Nothing,
      std::conditional_t<std::is_reference_v<T>, std::remove_reference_t<T>*, T>>;

 public:
  FutureState() noexcept {}
  ~FutureState() override {
    if (this->has_value_to_destroy_) value_.~Stored();
  }

  /// Stores the result (nothing for void); by the owner, before publish(Status::succeeded). Throws
  /// what the constructor of T throws.
  template <class... U>
  void store_value(U&&... value) {
    if constexpr (std::is_reference_v<T>)
      ::new (static_cast<void*>(std::addressof(value_))) Stored(std::addressof(value)...);
    else
      ::new (static_cast<void*>(std::addressof(value_))) Stored(std::forward<U>(value)...);
    mark_stored();
  }

  /// Stores what `make()` returns, in place.
  template <class Make>
  void store_result_of(Make&& make) {
    if constexpr (std::is_void_v<T>) {
      std::forward<Make>(make)();
    } else if constexpr (std::is_reference_v<T>) {
      store_value(std::forward<Make>(make)());
    } else {
      ::new (static_cast<void*>(std::addressof(value_))) Stored(std::forward<Make>(make)());
      mark_stored();
    }
  }

  /// The stored result; when the status is succeeded.
  std::add_lvalue_reference_t<T> value() noexcept requires(!std::is_void_v<T>) {
    if constexpr (std::is_reference_v<T>)
      return *value_;
    else
      return value_;
  }

 protected:
  void discard_value() noexcept override {
    if (posix::exchange(this->has_value_to_destroy_, false)) value_.~Stored();
  }

 private:
  void mark_stored() noexcept {
    if constexpr (!std::is_trivially_destructible_v<Stored>) this->has_value_to_destroy_ = true;
  }
  union {
    Stored value_;
  };
};

/// Prints the exception being handled, which came out of user code that nobody waits for.
inline void report_exception(const char* where) noexcept;

// Bodies.

inline StateBase::~StateBase() {
  // Nobody can reach it any more, so the lists need no lock.
  for (Callback* callback = callbacks_; callback != nullptr;)
    posix::exchange(callback, callback->next_)->abandon();
}

inline bool StateBase::try_own(bool or_running) noexcept {
  std::uint32_t word = word_.load(std::memory_order_relaxed);
  for (;;) {
    const Status now = status_of(word);
    if (now != Status::pending && !(or_running && now == Status::running)) return false;
    if ((word & locked) != 0) {
      unlock(lock());  // cancel() may be deciding
      word = word_.load(std::memory_order_relaxed);
    } else if (word_.compare_exchange_weak(word, (word & ~status_mask) | bits(Status::owned),
                                           std::memory_order_acquire, std::memory_order_relaxed)) {
      return true;
    }
  }
}

inline Callback* StateBase::publish(Status status) noexcept {
  std::uint32_t word = word_.load(std::memory_order_relaxed);
  while ((word & (locked | listened)) == 0) {
    // Pairs with the acquiring loads of status() and sleep().
    if (word_.compare_exchange_weak(word, bits(status), std::memory_order_release,
                                    std::memory_order_relaxed)) {
      if ((word & asleep) != 0) posix::futex_wake(word_);
      return nullptr;
    }
  }
  lock();
  return publish_locked(status);
}

// With the lock held, which it releases. The caller holds a reference.
[[gnu::noinline]] inline Callback* StateBase::publish_locked(Status status) noexcept {
  Callback* callbacks = nullptr;  // turned round: oldest first
  std::uint32_t count = 0;
  while (callbacks_ != nullptr) {
    Callback* const callback = posix::exchange(callbacks_, callbacks_->next_);
    callback->next_ = posix::exchange(callbacks, callback);
    ++count;
  }
  if (count != 0) add_handle(count);
  const std::uint32_t before = word_.exchange(bits(status) | locked, std::memory_order_acq_rel);
  if ((before & asleep) != 0) posix::futex_wake(word_);
  while (waiters_ != nullptr) {
    Waiter* const waiter = posix::exchange(waiters_, waiters_->next_);
    waiter->told(*this);
  }
  unlock(bits(status));
  return callbacks;
}

inline void StateBase::run_callbacks(Callback* first) noexcept {
  while (first != nullptr) posix::exchange(first, first->next_)->run(*this);
}

[[gnu::noinline]] inline bool StateBase::sleep(const posix::Deadline& deadline) noexcept {
  // A moment's patience, a microsecond or two: a worker that lingers may be at it already.
  for (int i = 0; i < 50; ++i) {
    if (done()) return true;
    sync::pause_spinning();
  }
  std::uint32_t word = word_.load(std::memory_order_acquire);
  for (;;) {
    if (status_of(word) >= Status::cancelled) return true;
    if ((word & asleep) == 0 &&
        !word_.compare_exchange_weak(word, word | asleep, std::memory_order_acquire))
      continue;
    const bool in_time = posix::futex_wait(word_, word | asleep, deadline);
    word = word_.load(std::memory_order_acquire);
    if (!in_time) return status_of(word) >= Status::cancelled;
  }
}

inline bool StateBase::wait(const posix::Deadline& deadline) {
  if (done()) return true;
  if (deadline.expired()) {
    poll();
    return done();
  }
  struct Single final : Waiting {
    Single(StateBase& state, const posix::Deadline& deadline) noexcept
        : Waiting{deadline, true}, state_{state} {}
    bool over() const noexcept override { return state_.done(); }
    StateBase& state_;
  } waiting{*this, deadline};
  help(waiting);
  return done() || sleep(deadline);
}

inline bool StateBase::cancel() noexcept {
  if (const Status now = status(); now != Status::pending) return now == Status::cancelled;
  const std::uint32_t word = lock();
  if (status_of(word) != Status::pending || !may_cancel()) {
    unlock(word);
    return status_of(word) == Status::cancelled;
  }
  Callback* const callbacks = publish_locked(Status::cancelled);
  on_cancelled();
  run_callbacks(callbacks);
  return true;
}

inline bool StateBase::running() const noexcept {
  const Status now = status();
  return now == Status::running || now == Status::owned || (now == Status::pending && started());
}

inline bool StateBase::set_running() {
  const std::uint32_t word = lock();
  const Status now = status_of(word);
  if (now == Status::pending)
    unlock((word & ~status_mask) | bits(Status::running));
  else
    unlock(word);
  if (now == Status::pending) return true;
  if (now == Status::cancelled) return false;
  throw InvalidStateError{now >= Status::cancelled
                              ? "set_running_or_notify_cancel: the future is done"
                              : "set_running_or_notify_cancel: it runs already"};
}

inline Status StateBase::own() {
  const Status before = status();
  if (try_own(true)) return before == Status::running ? before : Status::pending;
  throw InvalidStateError{status() == Status::cancelled ? "set the result: the future was cancelled"
                          : done()                      ? "set the result: the future has one"
                                   : "set the result: that is up to the executor that runs it"};
}

inline void StateBase::disown(Status before) noexcept {
  const std::uint32_t word = lock();
  unlock((word & ~status_mask) | bits(before));
}

inline void StateBase::add_callback(Callback* callback) noexcept {
  const std::uint32_t word = lock();
  if (status_of(word) < Status::cancelled) {
    callback->next_ = posix::exchange(callbacks_, callback);
    unlock(word | listened);
    expect();
  } else {
    unlock(word);
    add_handle();
    callback->run(*this);
  }
}

inline bool StateBase::add_waiter(Waiter& waiter) noexcept {
  if (done()) return false;
  const std::uint32_t word = lock();
  if (status_of(word) >= Status::cancelled) {
    unlock(word);
    return false;
  }
  waiter.next_ = waiters_;
  if (waiters_ != nullptr) waiters_->previous_ = &waiter;
  waiters_ = &waiter;
  unlock(word | listened);
  return true;
}

inline void StateBase::remove_waiter(Waiter& waiter) noexcept {
  // Done and not locked: its completer has told all waiters and left.
  const std::uint32_t seen = word_.load(std::memory_order_acquire);
  if (status_of(seen) >= Status::cancelled && (seen & locked) == 0) return;
  const std::uint32_t word = lock();
  if (status_of(word) < Status::cancelled) {
    (waiter.previous_ == nullptr ? waiters_ : waiter.previous_->next_) = waiter.next_;
    if (waiter.next_ != nullptr) waiter.next_->previous_ = waiter.previous_;
  }
  unlock(word);
}

inline void StateBase::drop_handle() noexcept {
  const std::uint64_t seen = references_.load(std::memory_order_acquire);
  if (seen == 1 && !is_listened()) {  // nobody else is left, nor can come
    delete this;
    return;
  }
  if (static_cast<std::uint32_t>(seen) == 1 && done()) {
    // Nobody can make another handle now, so nobody else looks at the result. (Handles for
    // callbacks were added before the status became done.)
    if (last_handle()) {
      discard_value();
      error_ = nullptr;
    }
  }
  if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

inline bool StateBase::try_add_owner() const noexcept {
  std::uint64_t seen = references_.load(std::memory_order_relaxed);
  while (seen != 0) {
    if (references_.compare_exchange_weak(seen, seen + owner, std::memory_order_relaxed))
      return true;
  }
  return false;
}

inline std::uint32_t StateBase::lock() noexcept {
  std::uint32_t word = word_.load(std::memory_order_relaxed);
  for (;;) {
    if ((word & locked) == 0) {
      if (word_.compare_exchange_weak(word, word | locked, std::memory_order_acquire,
                                      std::memory_order_relaxed))
        return word | locked;
    } else if ((word & asleep) != 0 ||
               word_.compare_exchange_weak(word, word | asleep, std::memory_order_relaxed)) {
      posix::futex_wait(word_, word | asleep, posix::Deadline{forever});
      word = word_.load(std::memory_order_relaxed);
    }
  }
}

// Those who sleep on the word, for the lock or for the end,
// look again.
inline void StateBase::unlock(std::uint32_t word) noexcept {
  const std::uint32_t before = word_.exchange(word & ~(asleep | locked), std::memory_order_acq_rel);
  if ((before & asleep) != 0) posix::futex_wake(word_);
}

inline void report_exception(const char* where) noexcept {
  try {
    const std::string text = posix::describe(std::current_exception());
    std::fprintf(stderr, "brood: exception in %s: %s\n", where, text.c_str());
  } catch (...) {
    std::fprintf(stderr, "brood: exception in %s\n", where);
  }
}

}  // namespace brood::futures
