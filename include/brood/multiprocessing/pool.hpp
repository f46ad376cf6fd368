// SPDX-License-Identifier: MIT
// A pool of worker processes. Python counterpart: multiprocessing.Pool.
//
//     int square(int x) { return x * x; }
//     mp::Pool pool(4);
//     std::vector<int> squares = pool.map(square, std::vector{1, 2, 3});
//
// It is the engine of futures::ProcessPoolExecutor under another face: what may cross, how
// exceptions come back, and what becomes of a crash is said there.
#pragma once

#include <concepts>
#include <exception>
#include <initializer_list>
#include <optional>
#include <vector>

#include "../futures/process_pool.hpp"
#include "../queue.hpp"
#include "async_result.hpp"

namespace brood::multiprocessing {

struct PoolOptions {
  /// How many workers there will be at most, 1 to 4095. Default: os::process_cpu_count().
  std::optional<int> processes = {};
  /// Called by each worker before its first task. When it throws, the pool is broken.
  /// See futures::Initializer for what it may be.
  futures::Initializer initializer = {};
  /// A worker ends after so many tasks (of a map: chunks), at least 1, and is replaced. Default: no
  /// limit.
  std::optional<int> maxtasksperchild = {};
  /// How the process that forks the workers comes to be; see futures::ProcessPoolExecutor. Default:
  /// get_start_method().
  std::optional<StartMethod> start_method = {};
};

/// What to call with the result of an asynchronous call, or with its std::exception_ptr. They run
/// in a thread of the pool's, so they must be quick. Made by callbacks().
template <class Ok, class Error>
struct Callbacks {
  Ok ok;
  Error error;
};
struct NoCallback {
  template <class T>
  void operator()(const T&) const noexcept {}
};
template <class Ok, class Error = NoCallback>
Callbacks<Ok, Error> callbacks(Ok ok, Error error = {}) {
  return {std::move(ok), std::move(error)};
}

template <class T>
inline constexpr bool is_callbacks = false;
template <class Ok, class Error>
inline constexpr bool is_callbacks<Callbacks<Ok, Error>> = true;

/// What is no call for another process, so that the compiler can be told why.
template <class F, class... Args>
concept RefusedByPool = !futures::RemotelyInvocable<F, Args...> && !is_callbacks<std::decay_t<F>>;

namespace refused {
struct ElementsAreNoTuples;
}

/// Whether f can be called with the parts of a std::tuple, std::pair or the like in another
/// process, and why not.
template <class F, class Tuple>
struct RemotelyApplicable : std::false_type {
  using refusal = refused::ElementsAreNoTuples;
};
template <class F, template <class...> class Tuple, class... Args>
requires(std::tuple_size<Tuple<Args...>>::value ==
         sizeof...(Args)) struct RemotelyApplicable<F, Tuple<Args...>>
    : std::bool_constant<futures::RemotelyInvocable<F, Args...>> {
  using refusal = futures::refusal_t<F, Args...>;
};
template <class F, class Tuple>
concept StarInvocable = RemotelyApplicable<F, Tuple>::value;
template <class F, class Tuple>
concept RefusedByStar = !StarInvocable<F, Tuple>;

template <class Value>
class PoolResults;

/// Waits for the result of a future that nobody else will ask, and moves it out. Throws what the
/// call threw.
template <class T>
T take_result(const futures::Future<T>& future) {
  static_cast<void>(future.result());
  return std::move(static_cast<futures::FutureState<T>&>(*future.state()).value());
}

/// All functions may be called from several threads at once. Calls after close() or terminate()
/// throw std::invalid_argument. The destructor is close() and join(); terminate() and join() while
/// an exception unwinds. (Python's with-block always terminates.)
///
/// In the map functions f is called with each element, in the starmap functions with the parts of
/// each element, a tuple. `chunksize` is how many elements go to a worker at a time, at least 1;
/// by default a quarter of what would give each worker one chunk (imap: 1). When a worker dies, its
/// whole chunk is lost. A function that returns nothing gives futures::None.
class Pool {
 public:
  /// `processes`: see PoolOptions. Throws as a ProcessPoolExecutor does where it is made.
  template <std::integral N>
  explicit Pool(N processes) : Pool{PoolOptions{.processes = futures::worker_count(processes)}} {}
  explicit Pool(PoolOptions options) : Pool{options, method_of(options)} {}
  Pool() : Pool{PoolOptions{}} {}
  Pool(Pool&&) noexcept = default;
  /// Ends the present one as the destructor does.
  Pool& operator=(Pool&& other) noexcept;
  ~Pool() { finish(); }

  /// `f(args...)` in a worker; waits for it. Throws what it threw.
  template <class F, class... Args>
  requires futures::RemotelyInvocable<F, Args...>
  auto apply(F&& f, Args&&... args) {
    return submit(std::forward<F>(f), std::forward<Args>(args)...).result();
  }

  /// The same without waiting.
  template <class F, class... Args>
  requires futures::RemotelyInvocable<F, Args...>
  auto apply_async(F&& f, Args&&... args) {
    return AsyncResult{submit(std::forward<F>(f), std::forward<Args>(args)...)};
  }
  template <class Ok, class Error, class F, class... Args>
  requires futures::RemotelyInvocable<F, Args...>
  auto apply_async(Callbacks<Ok, Error> callbacks, F&& f, Args&&... args) {
    auto future = submit(std::forward<F>(f), std::forward<Args>(args)...);
    call_back(future, std::move(callbacks));
    return AsyncResult{std::move(future)};
  }

  /// The results in the order of the elements, when all are there. Throws the first failure then.
  template <class F, class Range>
  requires futures::RemotelyInvocable<F, futures::Element<Range>>
  auto map(F f, Range&& range, std::optional<std::size_t> chunksize = {}) {
    return take_result(gather(std::move(f), calls(std::forward<Range>(range)), chunksize));
  }
  template <class F, class Range>
  requires futures::RemotelyInvocable<F, futures::Element<Range>>
  auto map_async(F f, Range&& range, std::optional<std::size_t> chunksize = {}) {
    return AsyncResult{gather(std::move(f), calls(std::forward<Range>(range)), chunksize)};
  }
  /// The callback gets the whole vector.
  template <class Ok, class Error, class F, class Range>
  requires futures::RemotelyInvocable<F, futures::Element<Range>>
  auto map_async(Callbacks<Ok, Error> callbacks, F f, Range&& range,
                 std::optional<std::size_t> chunksize = {}) {
    auto future = gather(std::move(f), calls(std::forward<Range>(range)), chunksize);
    call_back(future, std::move(callbacks));
    return AsyncResult{std::move(future)};
  }

  /// map() of a range of tuples, whose parts are the arguments.
  template <class F, class Range>
  requires StarInvocable<F, futures::Element<Range>>
  auto starmap(F f, Range&& range, std::optional<std::size_t> chunksize = {}) {
    return take_result(gather(std::move(f), star_calls(std::forward<Range>(range)), chunksize));
  }
  template <class F, class Range>
  requires StarInvocable<F, futures::Element<Range>>
  auto starmap_async(F f, Range&& range, std::optional<std::size_t> chunksize = {}) {
    return AsyncResult{gather(std::move(f), star_calls(std::forward<Range>(range)), chunksize)};
  }
  template <class Ok, class Error, class F, class Range>
  requires StarInvocable<F, futures::Element<Range>>
  auto starmap_async(Callbacks<Ok, Error> callbacks, F f, Range&& range,
                     std::optional<std::size_t> chunksize = {}) {
    auto future = gather(std::move(f), star_calls(std::forward<Range>(range)), chunksize);
    call_back(future, std::move(callbacks));
    return AsyncResult{std::move(future)};
  }

  /// A range of the results in the order of the elements, each as soon as it is there. All
  /// elements are taken now.
  template <class F, class Range>
  requires futures::RemotelyInvocable<F, futures::Element<Range>>
  auto imap(F f, Range&& range, std::size_t chunksize = 1) {
    return results(std::move(f), calls(std::forward<Range>(range)), chunksize, true);
  }
  /// The same in the order in which they are done.
  template <class F, class Range>
  requires futures::RemotelyInvocable<F, futures::Element<Range>>
  auto imap_unordered(F f, Range&& range, std::size_t chunksize = 1) {
    return results(std::move(f), calls(std::forward<Range>(range)), chunksize, false);
  }

  /// The same for lists in braces: pool.map(wash, {1, 2, 3}).
  template <class F, class T>
  auto map(F f, std::initializer_list<T> list, std::optional<std::size_t> chunksize = {}) {
    return map(std::move(f), std::vector<T>{list}, chunksize);
  }
  template <class F, class T>
  auto map_async(F f, std::initializer_list<T> list, std::optional<std::size_t> chunksize = {}) {
    return map_async(std::move(f), std::vector<T>{list}, chunksize);
  }
  template <class F, class T>
  auto starmap(F f, std::initializer_list<T> list, std::optional<std::size_t> chunksize = {}) {
    return starmap(std::move(f), std::vector<T>{list}, chunksize);
  }
  template <class F, class T>
  auto starmap_async(F f, std::initializer_list<T> list,
                     std::optional<std::size_t> chunksize = {}) {
    return starmap_async(std::move(f), std::vector<T>{list}, chunksize);
  }
  template <class F, class T>
  auto imap(F f, std::initializer_list<T> list, std::size_t chunksize = 1) {
    return imap(std::move(f), std::vector<T>{list}, chunksize);
  }
  template <class F, class T>
  auto imap_unordered(F f, std::initializer_list<T> list, std::size_t chunksize = 1) {
    return imap_unordered(std::move(f), std::vector<T>{list}, chunksize);
  }

  // Name the reason when a call cannot cross.
  template <class F, class... Args>
  requires RefusedByPool<F, Args...>
  auto apply(F&& f, Args&&... args) -> futures::refusal_t<F, Args...> = delete;
  template <class F, class... Args>
  requires RefusedByPool<F, Args...>
  auto apply_async(F&& f, Args&&... args) -> futures::refusal_t<F, Args...> = delete;
  template <class F, class Range>
  requires RefusedByPool<F, futures::Element<Range>>
  auto map(F f, Range&& range, std::optional<std::size_t> chunksize = {})
      -> futures::refusal_t<F, futures::Element<Range>> = delete;
  template <class F, class Range>
  requires RefusedByPool<F, futures::Element<Range>>
  auto map_async(F f, Range&& range, std::optional<std::size_t> chunksize = {})
      -> futures::refusal_t<F, futures::Element<Range>> = delete;
  template <class F, class Range>
  requires RefusedByStar<F, futures::Element<Range>>
  auto starmap(F f, Range&& range, std::optional<std::size_t> chunksize = {}) ->
      typename RemotelyApplicable<F, futures::Element<Range>>::refusal = delete;
  template <class F, class Range>
  requires RefusedByStar<F, futures::Element<Range>>
  auto starmap_async(F f, Range&& range, std::optional<std::size_t> chunksize = {}) ->
      typename RemotelyApplicable<F, futures::Element<Range>>::refusal = delete;
  template <class F, class Range>
  requires RefusedByPool<F, futures::Element<Range>>
  auto imap(F f, Range&& range, std::size_t chunksize = 1)
      -> futures::refusal_t<F, futures::Element<Range>> = delete;
  template <class F, class Range>
  requires RefusedByPool<F, futures::Element<Range>>
  auto imap_unordered(F f, Range&& range, std::size_t chunksize = 1)
      -> futures::refusal_t<F, futures::Element<Range>> = delete;

  /// No more calls; the workers end when all is done. Does not wait.
  void close() { executor_.shutdown({.wait = false}); }

  /// Ends the workers now, by SIGTERM. Calls that have no result yet fail. Does not wait.
  void terminate() { executor_.terminate_workers(); }

  /// Waits until the workers have ended. Throws std::invalid_argument before close() or
  /// terminate().
  void join();

 private:
  Pool(PoolOptions& options, StartMethod method)
      : executor_{{.max_workers = options.processes,
                   .start_method = method,
                   .initializer = std::move(options.initializer),
                   .max_tasks_per_child = options.maxtasksperchild},
                  {.worker = method == StartMethod::fork    ? "ForkPoolWorker"
                             : method == StartMethod::spawn ? "SpawnPoolWorker"
                                                            : "ForkServerPoolWorker",
                   .pool = "pool",
                   .max_workers = "processes",
                   .max_tasks_per_child = "maxtasksperchild"}} {}
  static StartMethod method_of(const PoolOptions& options) {
    return options.start_method ? *options.start_method : get_start_method();
  }

  template <class F, class... Args>
  auto submit(F&& f, Args&&... args) {
    check_open();
    return executor_.submit(std::forward<F>(f), std::forward<Args>(args)...);
  }
  void check_open() const {
    if (executor_.is_shut_down()) throw std::invalid_argument{"use of a pool: it is not running"};
  }

  template <class Range>
  static auto calls(Range&& range) {
    std::vector<std::tuple<futures::crossing_t<futures::Element<Range>>>> result;
    for (auto&& element : range)
      result.emplace_back(futures::pass_element<Range>(std::forward<decltype(element)>(element)));
    return result;
  }
  template <class Tuple>
  struct Crossing;
  template <template <class...> class Tuple, class... Args>
  struct Crossing<Tuple<Args...>> {
    using type = std::tuple<futures::crossing_t<Args>...>;
  };
  template <class Range>
  static auto star_calls(Range&& range) {
    std::vector<typename Crossing<futures::Element<Range>>::type> result;
    for (auto&& element : range)
      result.emplace_back(futures::pass_element<Range>(std::forward<decltype(element)>(element)));
    return result;
  }

  template <class F, class Call>
  auto submit_chunks(const F& f, std::vector<Call> calls, std::size_t chunksize);
  template <class F, class Call>
  auto gather(F f, std::vector<Call> calls, std::optional<std::size_t> chunksize);
  template <class F, class Call>
  auto results(F f, std::vector<Call> calls, std::size_t chunksize, bool in_order);
  template <class T, class Ok, class Error>
  static void call_back(const futures::Future<T>& future, Callbacks<Ok, Error> callbacks);

  void finish() noexcept;

  futures::ProcessPoolExecutor executor_;
  int exceptions_ = std::uncaught_exceptions();
};

/// The results of imap() and imap_unordered(): a range to go through once, by one thread. Dropped
/// before its first result was asked for, it cancels nothing: the calls are made. After that, its
/// end cancels those that have not started.
template <class Value>
class PoolResults {
 public:
  using Chunk = futures::ChunkResult<Value>;

  /// The next result. Throws what its call threw, or what became of its worker (the one after it
  /// can still be had), multiprocessing::TimeoutError when it is not there in time (it can be asked
  /// for again), and std::out_of_range when there are no more.
  Value next(Timeout timeout = forever);

  /// A single-pass input iterator, old style too: `std::vector<R>(results.begin(), results.end())`.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using iterator_category = std::input_iterator_tag;
    using pointer = void;
    using value_type = Value;
    using difference_type = std::ptrdiff_t;
    using reference = Value&&;

    /// Waits, at the first call for each position. Throws what the call threw.
    reference operator*() const {
      if (!taken_) {
        taken_ = true;
        try {
          value_.emplace(results_->next());
        } catch (...) {
          error_ = std::current_exception();
        }
      }
      if (error_) std::rethrow_exception(error_);
      return std::move(*value_);
    }
    /// Waits for a result that was not looked at, and drops it.
    iterator& operator++() {
      if (!taken_) static_cast<void>(results_->next());
      taken_ = false;
      value_.reset();
      error_ = nullptr;
      return *this;
    }
    futures::Consumed<Value> operator++(int) {
      futures::Consumed<Value> result{**this};
      ++*this;
      return result;
    }
    /// Two of one range are equal when both are at the end or neither is.
    friend bool operator==(const iterator& a, const iterator& b) noexcept {
      return a.at_end() == b.at_end();
    }

   private:
    friend PoolResults;
    explicit iterator(PoolResults* results) noexcept : results_{results} {}
    bool at_end() const noexcept {
      return results_ == nullptr || (!taken_ && results_->left() == 0);
    }
    PoolResults* results_;
    mutable bool taken_ = false;
    mutable std::optional<Value> value_;  // one of the two, when taken
    mutable std::exception_ptr error_;
  };
  iterator begin() noexcept { return iterator{this}; }
  iterator end() noexcept { return iterator{nullptr}; }

  /// How many results have not been given out.
  std::size_t left() const noexcept { return left_; }

  /// For Pool.
  PoolResults(std::vector<futures::Future<Chunk>> chunks, std::size_t calls, std::size_t chunksize,
              bool in_order);
  PoolResults(PoolResults&&) noexcept = default;
  ~PoolResults() {
    if (begun_)
      for (auto& chunk : chunks_) chunk.cancel();
  }

 private:
  void take_chunk(Timeout timeout);

  std::vector<futures::Future<Chunk>> chunks_;  // empty for those of which results are given out
  queue::SimpleQueue<std::size_t> done_;        // which chunks, in the order of their ends
  const std::size_t chunksize_;
  const std::size_t calls_;
  const bool in_order_;
  bool begun_ = false;
  std::size_t left_;
  std::size_t next_chunk_ = 0;
  std::size_t left_here_ = 0;  // of the present chunk
  Chunk current_;
  std::exception_ptr lost_;  // instead of current_: what became of all of them
  std::size_t at_ = 0;       // in current_.values
  std::size_t error_ = 0;    // in current_.errors
};

// ---------------------------------------------------------------------------------------------

inline Pool& Pool::operator=(Pool&& other) noexcept {
  if (this != &other) {
    finish();
    executor_ = std::move(other.executor_);
    exceptions_ = other.exceptions_;
  }
  return *this;
}

inline void Pool::finish() noexcept {
  if (!executor_.valid()) return;
  try {
    if (std::uncaught_exceptions() > exceptions_) terminate();
    executor_.shutdown();
  } catch (...) {  // nothing of it throws but for lack of memory
  }
}

inline void Pool::join() {
  if (!executor_.is_shut_down())
    throw std::invalid_argument{"join a pool: close() or terminate() comes first"};
  executor_.shutdown();
}

template <class T, class Ok, class Error>
void Pool::call_back(const futures::Future<T>& future, Callbacks<Ok, Error> callbacks) {
  future.add_done_callback([callbacks = std::move(callbacks)](futures::Future<T> done) mutable {
    std::exception_ptr error;
    if (done.cancelled())
      error = std::make_exception_ptr(futures::CancelledError{});
    else
      error = done.exception();
    if (error) {
      callbacks.error(error);
    } else if constexpr (std::is_void_v<T>) {
      callbacks.ok(futures::None{});
    } else {
      callbacks.ok(done.result());
    }
  });
}

template <class F, class Call>
auto Pool::submit_chunks(const F& f, std::vector<Call> calls, std::size_t chunksize) {
  check_open();
  if (chunksize < 1) throw std::invalid_argument{"map of a pool: chunksize must be at least 1"};
  std::vector<decltype(executor_.submit_chunk(f, calls))> chunks;
  for (std::size_t begin = 0; begin < calls.size(); begin += chunksize) {
    const auto from = calls.begin() + static_cast<std::ptrdiff_t>(begin);
    const std::size_t size = std::min(chunksize, calls.size() - begin);
    std::vector<Call> chunk;
    chunk.reserve(size);
    for (std::size_t i = 0; i < size; ++i)
      chunk.push_back(std::move(from[static_cast<std::ptrdiff_t>(i)]));
    try {
      chunks.push_back(executor_.submit_chunk(f, chunk));
    } catch (...) {  // it can't be written: none of them is wanted
      for (const auto& submitted : chunks) submitted.cancel();
      throw;
    }
  }
  return chunks;
}

/// Puts the results of the chunks together when the last one is done.
template <class Chunk, class Value>
class GatheredChunks final : public posix::RefCounted {
 public:
  GatheredChunks(std::vector<futures::Future<Chunk>> chunks, std::size_t count)
      : chunks_{std::move(chunks)}, count_{count}, outstanding_{chunks_.size() + 1} {}

  futures::Future<std::vector<Value>> result() const { return result_; }

  void start() {
    for (const auto& chunk : chunks_)
      chunk.add_done_callback(
          [self = posix::Ref<GatheredChunks>::share(this)](const auto&) { self->one_done(); });
    one_done();
  }

 private:
  void one_done() noexcept {
    if (outstanding_.fetch_sub(1) == 1) finish();
  }
  void finish() noexcept {
    try {
      std::vector<Value> values;
      values.reserve(count_);
      for (const auto& chunk : chunks_) {
        Chunk part = take_result(chunk);
        if (!part.errors.empty())
          std::rethrow_exception(futures::load_exception(part.errors.front()));
        for (auto& value : part.values) values.push_back(std::move(*value));
      }
      result_.set_result(std::move(values));
    } catch (...) {
      result_.set_exception(std::current_exception());
    }
    chunks_.clear();
  }

  std::vector<futures::Future<Chunk>> chunks_;
  const std::size_t count_;
  std::atomic<std::size_t> outstanding_;  // chunks that are not done, and start()
  futures::Future<std::vector<Value>> result_;
};

template <class F, class Call>
auto Pool::gather(F f, std::vector<Call> calls, std::optional<std::size_t> chunksize) {
  const std::size_t count = calls.size();
  const std::size_t shares = 4 * executor_.max_workers();
  auto chunks =
      submit_chunks(std::decay_t<F>{std::move(f)}, std::move(calls),
                    chunksize.value_or(count / shares + (count % shares != 0) + (count == 0)));
  using Chunk = typename decltype(chunks)::value_type::value_type;
  using Value = typename decltype(Chunk::values)::value_type::value_type;
  const auto gathered = posix::make_ref<GatheredChunks<Chunk, Value>>(std::move(chunks), count);
  gathered->start();
  return gathered->result();
}

template <class F, class Call>
auto Pool::results(F f, std::vector<Call> calls, std::size_t chunksize, bool in_order) {
  const std::size_t count = calls.size();
  auto chunks = submit_chunks(std::decay_t<F>{std::move(f)}, std::move(calls), chunksize);
  using Chunk = typename decltype(chunks)::value_type::value_type;
  using Value = typename decltype(Chunk::values)::value_type::value_type;
  return PoolResults<Value>{std::move(chunks), count, chunksize, in_order};
}

template <class Value>
PoolResults<Value>::PoolResults(std::vector<futures::Future<Chunk>> chunks, std::size_t calls,
                                std::size_t chunksize, bool in_order)
    : chunks_{std::move(chunks)},
      chunksize_{chunksize},
      calls_{calls},
      in_order_{in_order},
      left_{calls} {
  if (in_order_) return;
  for (std::size_t i = 0; i < chunks_.size(); ++i)
    chunks_[i].add_done_callback([done = done_, i](const auto&) { done.put(i); });
}

template <class Value>
Value PoolResults<Value>::next(Timeout timeout) {
  if (left_ == 0) throw std::out_of_range{"next: the pool has given all results"};
  begun_ = true;
  if (left_here_ == 0) take_chunk(timeout);
  --left_here_;
  --left_;
  if (lost_) std::rethrow_exception(lost_);
  auto& value = current_.values[at_++];
  if (!value) std::rethrow_exception(futures::load_exception(current_.errors[error_++]));
  return std::move(*value);
}

template <class Value>
void PoolResults<Value>::take_chunk(Timeout timeout) {
  constexpr const char* late = "next: the result of the pool was not there in time";
  std::size_t which = next_chunk_;
  if (in_order_) {
    if (!chunks_[which].state()->wait(posix::Deadline{timeout})) throw TimeoutError{late};
  } else {
    try {
      which = done_.get(timeout);
    } catch (const queue::Empty&) {
      throw TimeoutError{late};
    }
  }
  ++next_chunk_;
  current_ = {};
  lost_ = nullptr;
  at_ = error_ = 0;
  left_here_ = std::min(chunksize_, calls_ - which * chunksize_);
  try {
    current_ = take_result(chunks_[which]);
  } catch (...) {  // its worker died, or the pool was terminated
    lost_ = std::current_exception();
  }
  chunks_[which] = {};
}

}  // namespace brood::multiprocessing
