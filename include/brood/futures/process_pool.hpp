// SPDX-License-Identifier: MIT
// Calls in other processes. Python counterpart: concurrent.futures.ProcessPoolExecutor.
//
//     double calc(double value) { return std::sqrt(value); }
//     futures::ProcessPoolExecutor pool(4);
//     auto root = pool.submit(calc, 2.0);
//     for (double r : pool.map(calc, values)) fmt::print("{}\n", r);
//
// A worker that dies takes only its own task with it, whose future then throws WorkerCrashed; the
// worker is replaced and the rest goes on. The same becomes of one whose task runs too long:
//
//     auto slow = pool.submit({.timeout = 2s}, calc, 3.0);   // or TaskTimeout
#pragma once

#include <concepts>
#include <initializer_list>
#include <optional>

#include "../os.hpp"
#include "executor.hpp"
#include "process_pool_core.hpp"

namespace brood::futures {

template <class R>
class RemoteTask;

/// What happens when a worker process dies.
enum class OnCrash {
  fail_task,   ///< The task it ran fails with WorkerCrashed; the worker is replaced.
  break_pool,  ///< So does that, and all else that is unfinished or submitted later fails with
               ///< BrokenProcessPool, as in Python.
};

struct ProcessPoolOptions {
  /// The most worker processes there will be, 1 to 4095. Default: os::process_cpu_count().
  std::optional<int> max_workers = {};
  /// How the process that forks the workers comes to be; see ProcessPoolExecutor. Default:
  /// multiprocessing::get_start_method(). (Python's mp_context.)
  std::optional<multiprocessing::StartMethod> start_method = {};
  /// Called by each worker before its first task. When it throws, the pool is broken: everything
  /// unfinished, and later submits, fail with BrokenProcessPool.
  /// See Initializer for what it may be.
  Initializer initializer = {};
  /// A worker ends after so many tasks, at least 1, and is replaced. Default: no limit.
  std::optional<int> max_tasks_per_child = {};
  /// How long a task (of a map: a chunk) may run in its worker, unless its TaskOptions say. One
  /// that runs longer fails with TaskTimeout; its worker is killed, with the processes that descend
  /// from it, and replaced. The time a task waits for a worker does not count. Default: no limit.
  Timeout task_timeout = {};
  /// How many bytes of private memory a worker may take beyond what it inherits, at least 1.
  /// Allocations beyond that fail: the task throws std::bad_alloc. What is shared between processes
  /// does not count. In a build with a sanitizer there is no limit. Default: no limit.
  Count memory_limit = {};
  OnCrash on_crash = OnCrash::fail_task;
};

struct TaskOptions {
  /// Counted from the task's start in its worker; see ProcessPoolOptions::task_timeout, in whose
  /// place this one comes unless it is `forever`.
  Timeout timeout = {};
};

/// What is no task for another process, so that the compiler can be told why.
template <class F, class... Args>
concept Refused = !RemotelyInvocable<F, Args...> && !std::is_same_v<std::decay_t<F>, TaskOptions>;

/// Runs callables in worker processes, which are forked by a small process of the pool's own. How
/// that one comes to be is the start method:
///
/// fork: as a copy of the program when the pool is made. Make it early, before threads are started
/// and large data is loaded, unless the tasks need that. The descriptors that were open then stay
/// open in the workers.
///
/// forkserver and spawn: from the program as it was at freeze_support(), or as it is when it is
/// executed. The workers have none of the program's data, and making the pool or replacing a worker
/// costs the same however large that is. Libraries that the program has loaded at run time, and
/// types registered by register_exception in main(), are unknown there: have the initializer do
/// both.
///
/// Workers start when they are needed, ignore SIGINT, have an empty standard input and no signal
/// blocked, and end with the executor, or when the program dies. A task may fork; a copy of the
/// worker that comes back from the task too ends there, with code 1.
///
/// Callables and arguments cross as bytes: see CrossesProcesses and CrossesAsValue for what can.
/// Anything else does not compile. What a task throws comes back with its type: see
/// brood::register_exception.
///
/// All functions but moves may be called from several threads at once. In a child of fork() the
/// pool is not usable: submit and map throw std::runtime_error there.
class ProcessPoolExecutor {
 public:
  /// `max_workers`: see ProcessPoolOptions. Throws std::invalid_argument outside of 1 to 4095, and
  /// for an initializer that cannot cross by forkserver or spawn; std::runtime_error when these
  /// need freeze_support(), which was not called; os::OSError when no process can be had;
  /// multiprocessing::ProcessError when the program's fork server is dead.
  template <std::integral N>
  explicit ProcessPoolExecutor(N max_workers)
      : ProcessPoolExecutor{ProcessPoolOptions{.max_workers = worker_count(max_workers)}} {}
  explicit ProcessPoolExecutor(ProcessPoolOptions options);
  ProcessPoolExecutor() : ProcessPoolExecutor{ProcessPoolOptions{}} {}

  ProcessPoolExecutor(ProcessPoolExecutor&&) noexcept = default;
  ProcessPoolExecutor& operator=(ProcessPoolExecutor&& other) noexcept {
    if (this != &other) {
      finish();
      core_ = std::move(other.core_);
    }
    return *this;
  }
  /// shutdown(): waits for all that was submitted.
  ~ProcessPoolExecutor() { finish(); }

  /// Has `f(args...)` called in a worker. Callable and arguments are turned into bytes now. Never
  /// waits for a worker. Throws std::runtime_error after shutdown(), BrokenProcessPool,
  /// SerializationError (nested too deep).
  template <class F, class... Args>
  requires RemotelyInvocable<F, Args...>
  auto submit(F&& f, Args&&... args) -> Future<remote_result_t<F, Args...>>;
  template <class F, class... Args>
  requires RemotelyInvocable<F, Args...>
  auto submit(TaskOptions options, F&& f, Args&&... args) -> Future<remote_result_t<F, Args...>>;

  // Names the reason when a task cannot cross.
  template <class F, class... Args>
  requires Refused<F, Args...>
  auto submit(F&& f, Args&&... args) -> refusal_t<F, Args...> = delete;
  template <class F, class... Args>
  requires Refused<F, Args...>
  auto submit(TaskOptions options, F&& f, Args&&... args) -> refusal_t<F, Args...> = delete;

  /// Has `f` called with the elements of the ranges, side by side, as many as the shortest has.
  /// MapOptions::chunksize elements cross at a time. Returns a range of the results, see
  /// MapResults: nothing waits here. Throws as submit, and std::invalid_argument for options out of
  /// range.
  template <class F, class... Ranges>
  requires(sizeof...(Ranges) == 0 ||
           RemotelyInvocable<F, Element<Ranges>...>) auto map(F f, Ranges&&... ranges) {
    return map(MapOptions{}, std::move(f), std::forward<Ranges>(ranges)...);
  }
  template <class F, class... Ranges>
  requires(sizeof...(Ranges) == 0 ||
           RemotelyInvocable<F, Element<Ranges>...>) auto map(MapOptions options, F f,
                                                              Ranges&&... ranges);

  /// The same for a list in braces: map(wash, {1, 2, 3}).
  template <class F, class T>
  auto map(F f, std::initializer_list<T> list) {
    return map(std::move(f), std::vector<T>{list});
  }
  template <class F, class T>
  auto map(MapOptions options, F f, std::initializer_list<T> list) {
    return map(options, std::move(f), std::vector<T>{list});
  }

  template <class F, class... Ranges>
  requires(sizeof...(Ranges) != 0) && Refused<F, Element<Ranges>...> auto map(F f,
                                                                              Ranges&&... ranges)
                                          -> refusal_t<F, Element<Ranges>...> = delete;

  /// No more submits. With .cancel_futures, what no worker has begun with is cancelled. With .wait,
  /// returns when all the rest is done and the workers have ended (a callback, which the pool
  /// itself runs, does not wait). May be called again.
  void shutdown(ShutdownOptions options = {}) {
    core().shut_down(options.wait, options.cancel_futures);
  }

  /// Cancels what has not begun, ends the workers by SIGTERM or SIGKILL, and shuts down without
  /// waiting. The tasks that were running fail with WorkerCrashed. (Python 3.14.)
  void terminate_workers() { end_workers(SIGTERM); }
  void kill_workers() { end_workers(SIGKILL); }

  /// The workers that live now. They come with the tasks.
  std::vector<pid_t> worker_pids() const { return core().worker_pids(); }

  /// The most workers there will be.
  std::size_t max_workers() const { return core().max_workers(); }

  // For multiprocessing::Pool.

  /// Whether it was not moved from.
  bool valid() const noexcept { return static_cast<bool>(core_); }
  bool is_shut_down() const { return core().is_shut_down(); }

  /// What the caller calls all this.
  struct Names {
    const char* worker = "ProcessPoolWorker";
    const char* pool = "process pool";
    const char* max_workers = "max_workers";
    const char* max_tasks_per_child = "max_tasks_per_child";
  };
  ProcessPoolExecutor(ProcessPoolOptions options, Names names);

  /// Has several calls made one after another by one worker, and their results come back together.
  template <class F, class... Args>
  auto submit_chunk(const F& f, const std::vector<std::tuple<Args...>>& calls) {
    using Chunk = RemoteChunk<F, Args...>;
    using Result = ChunkResult<typename Chunk::Value>;
    auto task = posix::make_ref<RemoteTask<Result>>(core_, Chunk::entry);
    Chunk::dump(*task, f, calls);
    Future<Result> future{task};
    core().submit(*task);
    return future;
  }

 private:
  ProcessPoolCore& core() const {
    if (!core_) throw std::runtime_error{"the process pool was moved from"};
    return *core_;
  }
  void end_workers(int signal) {
    core().shut_down(false, true);
    core().end_workers(signal);
  }
  static void check_option(const char* pool, const char* name, std::ptrdiff_t value,
                           std::ptrdiff_t least, std::ptrdiff_t most);
  void finish() noexcept {
    if (core_) core_->shut_down(true, false);
  }
  template <class F>
  struct Submit;

  posix::Ref<ProcessPoolCore> core_;
};

// ---------------------------------------------------------------------------------------------

/// A task with one future.
template <class R>
class RemoteTask final : public FutureState<R>, public RemoteWork {
 public:
  RemoteTask(posix::Ref<ProcessPoolCore> core, const RemoteEntry& entry)
      : RemoteWork{std::move(core), entry} {}

  // As a RemoteWork.
  void retain() noexcept override { this->add_owner(); }
  void release() noexcept override {
    if (this->drop_owner()) delete this;
  }
  void load(Outcome outcome, std::string_view bytes) noexcept override {
    if (!this->try_start()) return;
    try {
      if (outcome == Outcome::exception) {
        failed(load_exception_or_bad_alloc(bytes));
        return;
      }
      serialization::Reader in{bytes};
      if constexpr (std::is_void_v<R>) {
        this->store_value();
      } else {
        this->store_result_of([&] { return in.read<R>(); });
        in.expect_end();
      }
      status_ = Status::succeeded;
    } catch (...) {
      failed(std::current_exception());
    }
  }
  void fail(std::exception_ptr error) noexcept override {
    if (this->try_start()) failed(std::move(error));
  }
  bool publish(RunCallbacks when) noexcept override {
    return status_ != Status::pending && RemoteWork::publish_state(*this, status_, when);
  }
  void run_kept() noexcept override { this->run_kept_callbacks(); }
  void cancel() noexcept override { FutureState<R>::cancel(); }

  // As a future's state.
  void help(Waiting& waiting) override {
    if (!this->is_listened()) core_->wait_for(*this, waiting);
  }
  bool started() const noexcept override { return core_->taken(*this); }
  bool may_cancel() noexcept override { return core_->withdraw(*this); }
  void on_cancelled() noexcept override { core_->forget(*this); }

  static std::exception_ptr load_exception_or_bad_alloc(std::string_view bytes) {
    if (bytes.empty()) return std::make_exception_ptr(std::bad_alloc{});
    return load_exception(bytes);
  }

 private:
  void failed(std::exception_ptr error) noexcept {
    this->store_error(std::move(error));
    status_ = Status::failed;
  }

  Status status_ = Status::pending;  // what publish() will say
};

/// A task with a future for each of several calls.
template <class R, class Value>
class RemoteChunkTask final : public posix::RefCounted, public RemoteWork {
 public:
  class Item final : public FutureState<R> {
   public:
    explicit Item(posix::Ref<RemoteChunkTask> chunk) noexcept : chunk_{std::move(chunk)} {}
    void help(Waiting& waiting) override {
      if (!this->is_listened()) chunk_->core_->wait_for(*chunk_, waiting);
    }
    bool started() const noexcept override { return chunk_->core_->taken(*chunk_); }
    bool may_cancel() noexcept override { return !started(); }
    void on_cancelled() noexcept override { chunk_->lost_interest(); }

   private:
    friend RemoteChunkTask;
    const posix::Ref<RemoteChunkTask> chunk_;
    Status status_ = Status::pending;
  };

  RemoteChunkTask(posix::Ref<ProcessPoolCore> core, const RemoteEntry& entry)
      : RemoteWork{std::move(core), entry} {}

  /// Makes the futures. They keep the chunk, and it keeps them until it is published.
  void make_items(std::size_t count, std::vector<Future<R>>& futures) {
    items_.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      items_.push_back(posix::make_ref<Item>(posix::Ref<RemoteChunkTask>::share(this)));
      futures.push_back(Future<R>{items_.back()});
    }
    interested_.store(count);
  }
  /// Undoes make_items(): the chunk could not be submitted.
  void drop_items() noexcept { items_.clear(); }

  void retain() noexcept override { this->add_owner(); }
  void release() noexcept override {
    if (this->drop_owner()) delete this;
  }
  void load(Outcome outcome, std::string_view bytes) noexcept override {
    try {
      if (outcome == Outcome::exception)
        std::rethrow_exception(RemoteTask<R>::load_exception_or_bad_alloc(bytes));
      serialization::Reader in{bytes};
      auto result = in.read<ChunkResult<Value>>();
      in.expect_end();
      if (result.values.size() != items_.size())
        throw serialization::SerializationError{
            "serialization: a chunk came back with other items"};
      std::size_t error = 0;
      for (std::size_t i = 0; i < items_.size(); ++i) load_item(*items_[i], result, i, error);
    } catch (...) {
      fail(std::current_exception());
    }
  }
  void fail(std::exception_ptr error) noexcept override {
    for (auto& item : items_)
      if (item->status_ == Status::pending && item->try_start()) failed(*item, error);
  }
  bool publish(RunCallbacks when) noexcept override {
    auto items = take_items();
    bool kept = false;
    for (auto& item : items)
      if (item->status_ != Status::pending)
        kept |= RemoteWork::publish_state(*item, item->status_, when);
    if (!kept) return false;
    const posix::Locked lock{mutex_};
    items_ = std::move(items);
    return true;
  }
  void run_kept() noexcept override {
    for (auto& item : take_items()) item->run_kept_callbacks();
  }
  void cancel() noexcept override {
    for (std::size_t i = 0; const auto item = item_at(i); ++i) item->cancel();
  }

 private:
  static void failed(Item& item, std::exception_ptr error) noexcept {
    item.store_error(std::move(error));
    item.status_ = Status::failed;
  }
  static void load_item(Item& item, ChunkResult<Value>& result, std::size_t index,
                        std::size_t& error) {
    auto& value = result.values[index];
    if (!value && error == result.errors.size())
      throw serialization::SerializationError{"serialization: a chunk came back with holes"};
    const std::string* const its_error = value ? nullptr : &result.errors[error++];
    if (!item.try_start()) return;
    try {
      if (its_error != nullptr) {
        failed(item, load_exception(*its_error));
        return;
      }
      if constexpr (std::is_void_v<R>)
        item.store_value();
      else
        item.store_value(std::move(*value));
      item.status_ = Status::succeeded;
    } catch (...) {
      failed(item, std::current_exception());
    }
  }
  // One of the futures was cancelled; with the last one the call is not needed any more.
  void lost_interest() noexcept {
    if (interested_.fetch_sub(1) == 1 && core_->withdraw(*this)) {
      static_cast<void>(take_items());
      core_->forget(*this);
    }
  }

  // Null: it is the end, or they were taken away.
  posix::Ref<Item> item_at(std::size_t index) noexcept {
    const posix::Locked lock{mutex_};
    return index < items_.size() ? items_[index] : nullptr;
  }
  std::vector<posix::Ref<Item>> take_items() {
    const posix::Locked lock{mutex_};
    return std::move(items_);
  }

  posix::Mutex mutex_;  // guards items_ between cancel() and who takes them away; the items
                        // themselves are changed by who collects the chunk
  std::vector<posix::Ref<Item>> items_;
  std::atomic<std::size_t> interested_{0};
};

template <class F>
struct ProcessPoolExecutor::Submit {
  posix::Ref<ProcessPoolCore> core;
  F f;
  TaskOptions options = {};

  template <class... Args>
  auto operator()(Args&&... args) const {
    using Call = RemoteCall<F, crossing_t<Args>...>;
    using R = remote_result_t<F, Args...>;
    auto task = posix::make_ref<RemoteTask<R>>(core, Call::entry);
    Call::dump(*task, f, args...);
    task->limit_time(options.timeout);
    Future<R> future{task};
    core->submit(*task);
    return future;
  }

  template <class R, class... Args>
  void many(std::vector<std::tuple<Args...>> calls, std::vector<Future<R>>& futures) const {
    if (calls.size() == 1) {
      futures.push_back(std::apply(*this, std::move(calls.front())));
      return;
    }
    using Chunk = RemoteChunk<F, crossing_t<Args>...>;
    using Task = RemoteChunkTask<R, typename Chunk::Value>;
    const std::size_t before = futures.size();
    const auto task = posix::make_ref<Task>(core, Chunk::entry);
    Chunk::dump(*task, f, crossing(calls));
    try {
      task->make_items(calls.size(), futures);
      core->submit(*task);
    } catch (...) {
      futures.resize(before);
      task->drop_items();
      throw;
    }
  }

 private:
  template <class... Args>
  static decltype(auto) crossing(std::vector<std::tuple<Args...>>& calls) {
    if constexpr ((std::is_same_v<Args, crossing_t<Args>> && ...))
      return (calls);
    else
      return std::vector<std::tuple<crossing_t<Args>...>>(calls.begin(), calls.end());
  }
};

inline ProcessPoolExecutor::ProcessPoolExecutor(ProcessPoolOptions options)
    : ProcessPoolExecutor{std::move(options), Names{}} {}

inline ProcessPoolExecutor::ProcessPoolExecutor(ProcessPoolOptions options, Names names) {
  const int usual = static_cast<int>(std::min(os::process_cpu_count(), TaskTable::max_workers));
  const int workers = options.max_workers.value_or(usual);
  check_option(names.pool, names.max_workers, workers, 1, TaskTable::max_workers);
  const int tasks = options.max_tasks_per_child.value_or(1);
  check_option(names.pool, names.max_tasks_per_child, tasks, 1, INT_MAX);
  const std::ptrdiff_t memory = options.memory_limit.has_value() ? options.memory_limit.value() : 1;
  check_option(names.pool, "memory_limit", memory, 1, PTRDIFF_MAX);
  posix::CrashRecorder::prepare();
  auto& processes = multiprocessing::Processes::here();
  ProcessPoolSettings settings{
      static_cast<std::uint32_t>(workers), options.task_timeout,
      options.on_crash == OnCrash::break_pool,
      WorkerSettings{
          options.start_method ? *options.start_method : multiprocessing::get_start_method(),
          std::move(options.initializer),
          options.max_tasks_per_child ? static_cast<std::uint32_t>(tasks) : 0,
          options.memory_limit.has_value() ? static_cast<std::size_t>(memory) : 0, names.worker,
          processes.self()->name(), processes.identity()}};
  try {
    core_ = posix::make_ref<ProcessPoolCore>(std::move(settings));
  } catch (const os::OSError& error) {
    posix::throw_within(std::string{"start the "} + names.pool, error);
  }
}

inline void ProcessPoolExecutor::check_option(const char* pool, const char* name,
                                              std::ptrdiff_t value, std::ptrdiff_t least,
                                              std::ptrdiff_t most) {
  if (value >= least && value <= most) return;
  char text[128];
  if (most >= INT_MAX)
    std::snprintf(text, sizeof text, "%s: %s must be at least %td, not %td", pool, name, least,
                  value);
  else
    std::snprintf(text, sizeof text, "%s: %s must be %td to %td, not %td", pool, name, least, most,
                  value);
  throw std::invalid_argument{text};
}

template <class F, class... Args>
requires RemotelyInvocable<F, Args...>
auto ProcessPoolExecutor::submit(F&& f, Args&&... args) -> Future<remote_result_t<F, Args...>> {
  core();
  return Submit<std::decay_t<F>>{core_, std::forward<F>(f)}(std::forward<Args>(args)...);
}

template <class F, class... Args>
requires RemotelyInvocable<F, Args...>
auto ProcessPoolExecutor::submit(TaskOptions options, F&& f, Args&&... args)
    -> Future<remote_result_t<F, Args...>> {
  core();
  return Submit<std::decay_t<F>>{core_, std::forward<F>(f), options}(std::forward<Args>(args)...);
}

template <class F, class... Ranges>
requires(
    sizeof...(Ranges) == 0 ||
    RemotelyInvocable<F, Element<Ranges>...>) auto ProcessPoolExecutor::map(MapOptions options, F f,
                                                                            Ranges&&... ranges) {
  core();
  if constexpr (sizeof...(Ranges) == 0) {
    return MapResults<std::enable_if_t<sizeof...(Ranges) == 0>>{options.timeout, {}};
  } else {
    return map_over<remote_result_t<F, Element<Ranges>...>>(
        options, Submit<std::decay_t<F>>{core_, std::move(f)}, std::forward<Ranges>(ranges)...);
  }
}

}  // namespace brood::futures
