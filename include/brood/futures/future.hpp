// SPDX-License-Identifier: MIT
// A result that is not there yet. Python counterpart: concurrent.futures.Future.
//
//     auto future = pool.submit(std::hypot<double, double>, 3., 4.);
//     future.then([](double length) { fmt::print("it is {}\n", length); });
//     double length = future.result();      // waits; throws what the task threw
//
// Executors make futures; state.hpp tells them how. One completed by hand is made by its default
// constructor: `Future<int> answer; ... answer.set_result(42);`.
#pragma once

#include <coroutine>
#include <cstddef>
#include <optional>
#include <tuple>

#include "../posix/exchange.hpp"
#include "state.hpp"

namespace brood::futures {

/// The callback that calls `f` with a Handle of the future that is done.
template <class Handle, class F>
Callback* done_callback(F&& f);

/// What Future and AnyFuture have in common: the handle itself. A handle is copyable, and all
/// copies name the same future. Every function may be called from several threads at once, also
/// through one and the same handle (but for assignment). One that was moved from may only be
/// assigned to or destroyed.
class FutureHandle {
 public:
  /// Whether it has a result or an exception, or was cancelled. Never blocks.
  bool done() const noexcept;

  /// Whether it is being worked on, or was marked so. Never blocks.
  bool running() const noexcept { return state_->running(); }

  /// Whether it was cancelled. Never blocks.
  bool cancelled() const noexcept { return state_->status() == Status::cancelled; }

  /// Cancels it unless somebody has begun to work on it. True when it is cancelled now, by this
  /// call or before; then it is done: waiters wake, and callbacks run in this thread.
  bool cancel() const noexcept { return state_->cancel(); }

  /// Waits, then gives what the task threw; null when it threw nothing. Throws TimeoutError when
  /// time is up first, CancelledError when it was cancelled.
  std::exception_ptr exception(Timeout timeout = forever) const;

  /// pending -> running, for futures completed by hand. True: go on with it. False: it was
  /// cancelled, leave it. Throws InvalidStateError when it is running or done.
  bool set_running_or_notify_cancel() const { return state_->set_running(); }

  /// Completes it with an exception. Throws InvalidStateError when it is done or an executor is
  /// at work on it, std::invalid_argument for null.
  void set_exception(std::exception_ptr error) const;
  /// The same, made of a temporary: set_exception(NoSoap{"all used up"}). (One that was caught by
  /// reference is passed on by std::current_exception(), which keeps its type.)
  template <class E>
  requires std::is_base_of_v<std::exception, E>
  void set_exception(E&& error) const {
    set_exception(std::make_exception_ptr(std::forward<E>(error)));
  }

  /// Same future.
  friend bool operator==(const FutureHandle& a, const FutureHandle& b) noexcept {
    return a.state_ == b.state_;
  }

  /// The state, for executors and for the functions of this module. Null when moved from.
  StateBase* state() const noexcept { return state_; }
  /// For functions of this module: gives up the state without dropping its count.
  StateBase* release() noexcept { return posix::exchange(state_, nullptr); }

 protected:
  FutureHandle() noexcept = default;
  // Takes over a handle that is counted already.
  explicit FutureHandle(StateBase* counted) noexcept : state_{counted} {}
  FutureHandle(const FutureHandle& other) noexcept : state_{other.state_} {
    if (state_ != nullptr) state_->add_handle();
  }
  FutureHandle(FutureHandle&& other) noexcept : state_{posix::exchange(other.state_, nullptr)} {}
  FutureHandle& operator=(const FutureHandle& other) noexcept {
    return *this = FutureHandle{other};
  }
  FutureHandle& operator=(FutureHandle&& other) noexcept {
    FutureHandle old{posix::exchange(state_, posix::exchange(other.state_, nullptr))};
    return *this;
  }
  ~FutureHandle() {
    if (state_ != nullptr) state_->drop_handle();
  }

  // Waits until it is done; throws TimeoutError or CancelledError.
  void wait_for_end(Timeout timeout) const;

 private:
  StateBase* state_ = nullptr;
};

/// Whether a T can be copied: std::vector<std::unique_ptr<int>> claims it in vain.
template <class T>
inline constexpr bool really_copyable = std::is_copy_constructible_v<T>;
template <class T>
requires requires {
  typename T::value_type;
} &&(!std::is_same_v<T, typename T::value_type>)inline constexpr bool really_copyable<T> =
    std::is_copy_constructible_v<T> && really_copyable<typename T::value_type>;

/// Whether an F can be called with the result of a Future<T>, with nothing if that is void.
template <class F, class T>
inline constexpr bool takes_result_of =
    std::is_invocable_v<F, std::add_lvalue_reference_t<const T>> || std::is_invocable_v<F, T>;
template <class F>
inline constexpr bool takes_result_of<F, void> = std::is_invocable_v<F>;

/// A result of type T, which may be void or a reference. See FutureHandle for done(), running(),
/// cancelled(), cancel(), exception(), set_running_or_notify_cancel(), set_exception().
template <class T>
class Future : public FutureHandle {
  static_assert(std::is_same_v<T, std::remove_cv_t<T>>, "Future<T>: T without const");

 public:
  using value_type = T;
  /// What result() of a future that is kept gives: const T&; T itself for void and references.
  using reference =
      std::conditional_t<std::is_void_v<T>, void, std::add_lvalue_reference_t<const T>>;

  /// A pending one, to be completed by hand.
  Future() : FutureHandle{pending_state()} {}

  /// For executors: a handle of their state.
  template <class State>
  requires std::is_base_of_v<FutureState<T>, State>
  explicit Future(const posix::Ref<State>& state) noexcept : FutureHandle{state.get()} {
    state->add_handle();
  }

  // (FutureHandle's copies and moves.)
  Future(const Future&) noexcept = default;
  Future(Future&&) noexcept = default;
  Future& operator=(const Future&) noexcept = default;
  Future& operator=(Future&&) noexcept = default;
  ~Future() = default;

  /// Waits for the result. Throws what the task threw, TimeoutError when time is up first,
  /// CancelledError when it was cancelled. The reference is good as long as any handle is.
  reference result(Timeout timeout = forever) const&;

  /// The same for a future that is given up: the result is moved out if this is the last handle,
  /// else copied. Throws std::logic_error if it can't be copied while other handles live.
  T result(Timeout timeout = forever) &&;

  /// Calls `f(future)` when it is done: in the thread that completes it, in the order of adding,
  /// or at once in this one if it is done already. What f throws is reported on stderr.
  template <class F>
  requires std::is_invocable_v<std::decay_t<F>, Future<T>>
  void add_done_callback(F&& f) const {
    this->state()->add_callback(done_callback<Future>(std::forward<F>(f)));
  }

  /// A future of `f(result)` (of `f()` for void). f runs in the thread that completes this one, or
  /// at once in this one if it is done already. If this one fails or is cancelled, f is not called
  /// and the other one ends in the same way. The result is passed as a const T&; an f that does
  /// not take that gets it as by result() of a future that is given up. Cancelling the other one
  /// leaves this one alone.
  template <class F>
  requires takes_result_of<std::decay_t<F>, T>
  auto then(F&& f) const;

  /// Completes it. Throws InvalidStateError when it is done or an executor is at work on it, and
  /// what the constructor of T throws.
  template <class U = T>
  requires(!std::is_void_v<T> && std::is_constructible_v<T, U>) void set_result(U&& value) const;
  void set_result() const requires std::is_void_v<T>;

  /// Awaits it in a coroutine, which goes on in the thread that completes it, or at once if it is
  /// done already. Gives what result() gives and throws what it throws.
  auto operator co_await() const&;
  auto operator co_await() &&;

  /// For callbacks: takes over a handle that is counted already.
  static Future adopt(StateBase& counted) noexcept { return Future{&counted, Adopted{}}; }

 private:
  struct Adopted {};
  explicit Future(StateBase* counted, Adopted) noexcept : FutureHandle{counted} {}

  static StateBase* pending_state() {
    auto* const state = new FutureState<T>;
    state->add_handle();
    static_cast<void>(state->drop_owner());
    return state;
  }
  FutureState<T>& typed() const noexcept { return static_cast<FutureState<T>&>(*this->state()); }
};

/// A future of whatever type, for ranges of different ones. Every Future converts to it.
class AnyFuture : public FutureHandle {
 public:
  template <class T>
  AnyFuture(const Future<T>& future) noexcept  // NOLINT: implicit
      : FutureHandle{future} {}
  template <class T>
  AnyFuture(Future<T>&& future) noexcept  // NOLINT: implicit
      : FutureHandle{std::move(future)} {}

  AnyFuture(const AnyFuture&) noexcept = default;
  AnyFuture(AnyFuture&&) noexcept = default;
  AnyFuture& operator=(const AnyFuture&) noexcept = default;
  AnyFuture& operator=(AnyFuture&&) noexcept = default;
  ~AnyFuture() = default;

  /// As Future's, with an AnyFuture.
  template <class F>
  requires std::is_invocable_v<std::decay_t<F>, AnyFuture>
  void add_done_callback(F&& f) const {
    state()->add_callback(done_callback<AnyFuture>(std::forward<F>(f)));
  }

  /// For callbacks: takes over a handle that is counted already.
  static AnyFuture adopt(StateBase& counted) noexcept { return AnyFuture{&counted}; }

 private:
  explicit AnyFuture(StateBase* counted) noexcept : FutureHandle{counted} {}
};

}  // namespace brood::futures

template <class T>
struct std::hash<brood::futures::Future<T>> {
  std::size_t operator()(const brood::futures::Future<T>& future) const noexcept {
    return std::hash<const void*>{}(future.state());
  }
};
template <>
struct std::hash<brood::futures::AnyFuture> {
  std::size_t operator()(const brood::futures::AnyFuture& future) const noexcept {
    return std::hash<const void*>{}(future.state());
  }
};

namespace brood::futures {

// Bodies.

inline bool FutureHandle::done() const noexcept {
  if (state_->done()) return true;
  state_->poll();
  return state_->done();
}

inline void FutureHandle::wait_for_end(Timeout timeout) const {
  if (!state_->done() && !state_->wait(posix::Deadline{timeout}))
    throw TimeoutError{"the future was not done in time"};
  if (cancelled()) throw CancelledError{};
}

inline std::exception_ptr FutureHandle::exception(Timeout timeout) const {
  wait_for_end(timeout);
  return state_->error();
}

inline void FutureHandle::set_exception(std::exception_ptr error) const {
  if (!error) throw std::invalid_argument{"set_exception: there is no exception"};
  static_cast<void>(state_->own());
  state_->set_error(std::move(error));
}

template <class T>
auto Future<T>::result(Timeout timeout) const& -> reference {
  wait_for_end(timeout);
  if (const auto& error = state()->error()) std::rethrow_exception(error);
  if constexpr (!std::is_void_v<T>) return typed().value();
}

template <class T>
T Future<T>::result(Timeout timeout) && {
  wait_for_end(timeout);
  if (const auto& error = state()->error()) std::rethrow_exception(error);
  if constexpr (std::is_reference_v<T>) {
    return static_cast<T>(typed().value());
  } else if constexpr (!std::is_void_v<T>) {
    if (state()->last_handle()) return std::move(typed().value());
    if constexpr (really_copyable<T>)
      return std::as_const(typed().value());
    else
      throw std::logic_error{"result: it can't be copied, and other handles of the future live"};
  }
}

template <class T>
template <class U>
requires(!std::is_void_v<T> &&
         std::is_constructible_v<T, U>) void Future<T>::set_result(U&& value) const {
  const Status before = state()->own();
  try {
    typed().store_value(std::forward<U>(value));
  } catch (...) {
    state()->disown(before);
    throw;
  }
  state()->complete(Status::succeeded);
}

template <class T>
void Future<T>::set_result() const requires std::is_void_v<T> {
  static_cast<void>(state()->own());
  state()->complete(Status::succeeded);
}

/// std::invoke, without <functional>, and of another name: by argument-dependent lookup it would
/// compete with it.
template <class F, class... Args>
decltype(auto) invoke_callable(F&& f, Args&&... args) {
  return std::apply(std::forward<F>(f), std::forward_as_tuple(std::forward<Args>(args)...));
}

/// A done callback: `f` with a handle of type Handle.
template <class Handle, class F>
class DoneCallback final : public Callback {
 public:
  template <class G>
  explicit DoneCallback(G&& f) : f_{std::forward<G>(f)} {}

  void run(StateBase& state) noexcept override {
    try {
      futures::invoke_callable(std::move(f_), Handle::adopt(state));
    } catch (...) {
      report_exception("a done callback");
    }
    delete this;
  }
  void abandon() noexcept override { delete this; }

 private:
  F f_;
};

template <class Handle, class F>
Callback* done_callback(F&& f) {
  return new DoneCallback<Handle, std::decay_t<F>>{std::forward<F>(f)};
}

/// What `f` gives for the result of a Future<T>, and whether it takes it as it stands there.
template <class F, class T>
struct Continuation {
  static constexpr bool takes_reference =
      std::is_invocable_v<F, std::add_lvalue_reference_t<const T>>;
  using type =
      typename std::conditional_t<takes_reference,
                                  std::invoke_result<F, std::add_lvalue_reference_t<const T>>,
                                  std::invoke_result<F, T>>::type;
};
template <class F>
struct Continuation<F, void> {
  using type = std::invoke_result_t<F>;
};

/// The future of then(): a callback of its source and a state of its own. It has one owner more
/// than handles as long as the source knows it.
template <class U, class T, class F>
class ThenState final : public FutureState<U>, public Callback {
 public:
  template <class G>
  ThenState(G&& f, StateBase& source) : f_{std::forward<G>(f)}, source_{&source} {}

  void run(StateBase& source) noexcept override {
    const auto self = posix::Ref<ThenState>::adopt(this);
    auto future = Future<T>::adopt(source);
    forget_source();
    if (!this->try_start()) return;  // cancelled
    Status status = Status::cancelled;
    if (!future.cancelled()) {
      try {
        this->store_result_of([&]() -> U { return call(future); });
        status = Status::succeeded;
      } catch (...) {
        this->store_error(std::current_exception());
        status = Status::failed;
      }
    }
    f_.reset();
    { const auto dropped = std::move(future); }
    this->complete(status);
  }

  void abandon() noexcept override {
    const auto self = posix::Ref<ThenState>::adopt(this);
    forget_source();
    this->cancel();
  }

  // A worker that waits for this one waits for the source.
  void help(Waiting& waiting) override {
    if (const auto source = this->source()) source->help(waiting);
  }
  void poll() noexcept override {
    if (const auto source = this->source()) source->poll();
  }
  void on_cancelled() noexcept override { f_.reset(); }

 private:
  U call(Future<T>& future) {
    if constexpr (std::is_void_v<T>) {
      future.result();
      return static_cast<U>(futures::invoke_callable(std::move(*f_)));
    } else if constexpr (std::is_reference_v<T>) {
      return static_cast<U>(futures::invoke_callable(std::move(*f_), future.result()));
    } else if constexpr (Continuation<F, T>::takes_reference) {
      const T& result = future.result();
      if constexpr (std::is_invocable_v<F, T>) {
        if (std::is_same_v<std::invoke_result_t<F, T>, std::invoke_result_t<F, const T&>> &&
            future.state()->last_handle())
          return static_cast<U>(
              futures::invoke_callable(std::move(*f_), std::move(const_cast<T&>(result))));
      }
      return static_cast<U>(futures::invoke_callable(std::move(*f_), result));
    } else {
      return static_cast<U>(futures::invoke_callable(std::move(*f_), std::move(future).result()));
    }
  }

  // The source is known by address only: its end calls run() or abandon(), which forget it under
  // the lock, so whoever holds the lock may still try to keep it alive.
  posix::Ref<StateBase> source() noexcept {
    posix::Ref<StateBase> result;
    const std::uint32_t word = this->lock();
    if (source_ != nullptr && source_->try_add_owner())
      result = posix::Ref<StateBase>::adopt(source_);
    this->unlock(word);
    return result;
  }
  void forget_source() noexcept {
    const std::uint32_t word = this->lock();
    source_ = nullptr;
    this->unlock(word);
  }

  std::optional<F> f_;
  StateBase* source_;  // guarded by lock()
};

template <class T>
template <class F>
requires takes_result_of<std::decay_t<F>, T>
auto Future<T>::then(F&& f) const {
  using U = std::remove_cv_t<typename Continuation<std::decay_t<F>, T>::type>;
  auto next = posix::make_ref<ThenState<U, T, std::decay_t<F>>>(std::forward<F>(f), *state());
  Future<U> result{next};
  state()->add_callback(next.release());
  return result;
}

/// co_await: a coroutine that goes on when the future is done. A coroutine must not be destroyed
/// while it awaits.
template <class T, class Result>
class Awaiter final : public Callback {
 public:
  explicit Awaiter(Future<T> future) noexcept : future_{std::move(future)} {}

  bool await_ready() const noexcept { return future_.done(); }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept {
    coroutine_ = coroutine;
    // The coroutine may go on, and end, before add_callback() returns.
    const auto state = posix::Ref<StateBase>::share(future_.state());
    state->add_callback(this);
  }
  Result await_resume() {
    if constexpr (std::is_same_v<Result, T>)
      return std::move(future_).result();
    else
      return future_.result();
  }

  void run(StateBase& state) noexcept override {
    state.drop_handle();  // future_ is another one
    try {
      coroutine_.resume();
    } catch (...) {
      report_exception("a coroutine");
    }
  }
  void abandon() noexcept override {}

 private:
  Future<T> future_;
  std::coroutine_handle<> coroutine_;
};

template <class T>
auto Future<T>::operator co_await() const& {
  return Awaiter<T, reference>{*this};
}
template <class T>
auto Future<T>::operator co_await() && {
  return Awaiter<T, T>{std::move(*this)};
}

}  // namespace brood::futures
