// SPDX-License-Identifier: MIT
// The engine of a thread pool: its workers, their queues, and who sleeps when.
//
// Tasks from outside go to one shared list, first in, first out. A task that a worker submits goes
// to that worker's own list, of which it takes the newest; who has nothing to do takes the oldest
// task of another. Every 64th time a worker looks at the shared list first, so that tasks that
// submit tasks for ever do not starve the others.
//
// worker     | idle  | leaves it by              | sees a new task because
// -----------+-------+---------------------------+------------------------------------------------
// looking    | true  | taking a task; lingering; | it looks at all lists before it lies down
//            |       | lying down                |
// lingering  | true  | a task; the end of a few  | it watches all lists, and looks once more
//            |       | microseconds              | afterwards
// lying down | true  | a change of wakes_        | it is counted in sleepers_ before its last look;
//            |       |                           | who queues a task looks there afterwards
// at work    | false | the end of the task       | it looks when the task has ended
//
// Waking is throttled: `waking_` says that one worker is on its way, a sleeper that has been told
// to wake and has not come yet, or one that lingers; meanwhile nobody else is woken. Who comes
// clears it, and wakes the next if there is more to do. `waking_` lies under the mutex of the
// shared list, as do all changes of sleepers_ and wakes_. Without the mutex only sleepers_ is read,
// after a push to a worker's own list. The last look takes that list's mutex: if it comes after the
// push it sees the task, and if before, the pusher sees the sleeper.
//
// One worker at a time lingers, once after each task that it ran, so an idle pool uses no CPU.
// (What it saves: two switches of threads where tasks come one at a time.)
//
// Threads are started on demand: when more tasks are queued than workers are idle, up to the limit.
// A worker is idle from before its task's end is published, so who has seen a result finds the
// worker idle; it is at work again while it calls callbacks, or the destructor of a result that
// nobody has, and looks whether somebody has counted on it meanwhile. One that takes a task stops
// being idle before the list shrinks, so counting first the tasks and then the workers never takes
// a busy worker for a free one.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <stdexcept>
#include <string>

#include "../posix/exchange.hpp"
#include "../posix/this_process.hpp"
#include "../posix/thread.hpp"
#include "../posix/thread_title.hpp"
#include "live_executors.hpp"
#include "pool_task.hpp"

namespace brood::futures {

/// Shared by the executor and its threads. A child of fork() has no such threads: there it refuses
/// to work, and must be left alone.
class WorkerThreads final : public posix::RefCounted, public LiveExecutor {
 public:
  /// Each thread calls `initializer`, if there is one, before its first task. Starts no thread.
  WorkerThreads(std::size_t max_workers, std::string name_prefix, Function<void()> initializer);
  ~WorkerThreads();

  /// Queues a task; takes over one reference, and drops it if it throws: std::runtime_error after
  /// stop(), and in a child of fork(), BrokenThreadPool after an initializer has failed,
  /// os::OSError if there is no thread and none can be started.
  void submit(PoolTask& task);

  /// For a thread that is about to wait for `task`: if it is a worker of the task's pool, it runs
  /// the task if that is still queued, or else those that descend from it.
  static void help(PoolTask& task, Waiting& waiting) noexcept;

  /// No more tasks; the threads end when they have run those that are queued.
  void stop() noexcept;
  void cancel_queued() noexcept;
  /// Waits for the end of the threads, after stop(). Not in one of them.
  void join() noexcept;

  // For the end of the program.
  bool hold() noexcept override { return try_add_owner(); }
  void finish() noexcept override {
    const auto self = posix::Ref<WorkerThreads>::adopt(this);
    stop();
    if (!is_own_thread()) join();
  }

  bool is_own_thread() const noexcept {
    return Worker::current != nullptr && &Worker::current->pool == this;
  }
  bool is_forked() const noexcept { return owner_ != posix::this_process(); }
  std::size_t max_workers() const noexcept { return max_workers_; }

 private:
  struct alignas(64) Worker {
    Worker(WorkerThreads& its_pool, std::size_t its_number) noexcept
        : pool{its_pool}, number{its_number} {}
    static inline constinit thread_local Worker* current = nullptr;

    WorkerThreads& pool;
    const std::size_t number;
    std::atomic<Worker*> next{nullptr};  // all workers of the pool, a list that only grows
    posix::OsThread thread;
    TaskList tasks;
    std::atomic<bool> idle{true};
    // Its own affair:
    PoolTask* task = nullptr;  // whose callable runs now
    std::uint64_t line = 0;    // the line it belongs to; 0 as long as that has no id
    unsigned depth = 0;        // tasks begun and not ended; more than one when it helps
    std::uint64_t ids = 0;
    unsigned picks = 0;
    TaskMemory memory;
  };

  void submit_from_outside(posix::Ref<PoolTask> task);
  void refuse_if_closed() const;

  // A worker's life.
  static void* run_worker(void* worker) noexcept;
  void run(Worker& me) noexcept;
  bool initialize() noexcept;
  posix::Ref<PoolTask> next_task(Worker& me) noexcept;
  posix::Ref<PoolTask> take_locked(Worker& me, TaskList& list, PoolTask* task) noexcept;
  posix::Ref<PoolTask> take_newest(Worker& me) noexcept;
  posix::Ref<PoolTask> steal(Worker& me) noexcept;
  void execute(Worker& me, PoolTask& task) noexcept;
  static Status fail(PoolTask& task) noexcept;
  void call_back(StateBase& state, Callback* callbacks, Worker& me) noexcept;
  void drop(Worker& me, posix::Ref<PoolTask> ended) noexcept;
  void help_with_descendants(Worker& me, PoolTask& task, Waiting& waiting) noexcept;
  // Whether it was still there; its reference is the caller's then.
  static bool take_out(TaskList& list, PoolTask& task) noexcept;

  // More hands. With the mutex of the shared list; true: call wake() once it is released.
  [[nodiscard]] bool reinforce_locked();
  [[nodiscard]] bool wake_locked() noexcept;
  void wake() noexcept { posix::futex_wake(wakes_, 1); }
  void reinforce() noexcept;
  void start_worker_locked();
  std::size_t queued() const noexcept;
  bool any_queued_locked() noexcept;
  void linger() const noexcept;
  std::size_t idle() const noexcept;
  void name_thread(std::size_t number) const noexcept;

  template <class F>
  void for_each_worker(F f) const {
    for (Worker* worker = first_.load(std::memory_order_acquire); worker != nullptr;
         worker = worker->next.load(std::memory_order_acquire))
      f(*worker);
  }

  const std::uint64_t owner_ = posix::this_process();
  const std::size_t max_workers_;
  const std::string name_prefix_;
  const Function<void()> initializer_;

  enum Mode : std::uint32_t { open, stopped, broken };
  std::atomic<std::uint32_t> mode_{open};  // changes with the shared list's mutex

  // Its mutex guards the rest as well.
  alignas(64) TaskList shared_;
  std::atomic<std::size_t> sleepers_{0};
  std::atomic<std::uint32_t> wakes_{0};  // the futex of the sleepers
  bool waking_ = false;
  std::atomic<std::size_t> started_{0};  // threads that run or have run
  std::size_t numbers_ = 0;
  std::atomic<Worker*> first_{nullptr};
  std::atomic<Worker*>* last_ = &first_;

  posix::Mutex joining_;  // one join() at a time
};

// Bodies.

template <class R, class F, class... Args>
void Task<R, F, Args...>::help(Waiting& waiting) {
  WorkerThreads::help(*this, waiting);
}

inline WorkerThreads::WorkerThreads(std::size_t max_workers, std::string name_prefix,
                                    Function<void()> initializer)
    : max_workers_{max_workers},
      name_prefix_{std::move(name_prefix)},
      initializer_{std::move(initializer)} {}

inline WorkerThreads::~WorkerThreads() {
  for (Worker* worker = first_.load(std::memory_order_acquire); worker != nullptr;) {
    worker->thread.detach();  // where join() was not possible, because one of them ends the pool
    delete posix::exchange(worker, worker->next.load(std::memory_order_acquire));
  }
}

inline void WorkerThreads::refuse_if_closed() const {
  switch (mode_.load(std::memory_order_acquire)) {
    case stopped:
      throw std::runtime_error{"submit: the executor was shut down"};
    case broken:
      throw BrokenThreadPool{"submit: the initializer of a worker failed, the pool is not usable"};
    default:
      return;
  }
}

inline void WorkerThreads::submit(PoolTask& task) {
  Worker* const me = Worker::current;
  if (me == nullptr || &me->pool != this || is_forked() ||
      mode_.load(std::memory_order_acquire) != open)
    return submit_from_outside(posix::Ref<PoolTask>::adopt(&task));
  if (PoolTask* const spawner = me->task) {
    std::uint64_t id = spawner->id.load(std::memory_order_relaxed);
    if (id == 0) {
      id = (static_cast<std::uint64_t>(me->number + 1) << 40) | ++me->ids;
      spawner->id.store(id, std::memory_order_relaxed);
    }
    if (me->line == 0) me->line = id;
    task.spawner = id;
    task.line = me->line;
  }
  {
    const posix::Locked lock{me->tasks.mutex};
    me->tasks.push_locked(task);
  }
  if (sleepers_.load(std::memory_order_relaxed) != 0 ||
      started_.load(std::memory_order_relaxed) < max_workers_)
    reinforce();
}

inline void WorkerThreads::submit_from_outside(posix::Ref<PoolTask> task) {
  if (is_forked())
    throw std::runtime_error{
        "submit: this is a child of fork, and the pool's threads are not here"};
  bool need_wake = false;
  {
    const posix::Locked lock{shared_.mutex};
    refuse_if_closed();
    shared_.push_locked(*task);
    try {
      need_wake = reinforce_locked();
    } catch (...) {
      shared_.remove_locked(*task);
      throw;
    }
    static_cast<void>(task.release());  // it is the list's now
  }
  if (need_wake) wake();
}

inline bool WorkerThreads::reinforce_locked() {
  if (started_.load(std::memory_order_relaxed) < max_workers_) {
    const std::size_t tasks = queued();  // before idle(): see above
    if (idle() < tasks) start_worker_locked();
  }
  return wake_locked();
}

inline bool WorkerThreads::wake_locked() noexcept {
  if (waking_ || sleepers_.load(std::memory_order_relaxed) == 0) return false;
  waking_ = true;
  wakes_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

inline void WorkerThreads::reinforce() noexcept {
  bool need_wake = false;
  {
    const posix::Locked lock{shared_.mutex};
    if (queued() == 0) return;
    try {
      need_wake = reinforce_locked();
    } catch (...) {  // no further thread to be had: those that are there will do
      need_wake = wake_locked();
    }
  }
  if (need_wake) wake();
}

inline void* WorkerThreads::run_worker(void* worker) noexcept {
  Worker& me = *static_cast<Worker*>(worker);
  posix::Ref<WorkerThreads>::adopt(&me.pool)->run(me);
  return nullptr;
}

inline void WorkerThreads::start_worker_locked() {
  auto* const worker = new Worker{*this, numbers_};
  add_owner();
  try {
    // Without an allocation for the thread to free, which would cost it a heap of its own.
    worker->thread = posix::OsThread{&run_worker, worker};
  } catch (...) {
    drop_owner();
    delete worker;
    if (started_.load(std::memory_order_relaxed) == 0) throw;
    return;
  }
  ++numbers_;
  started_.fetch_add(1, std::memory_order_relaxed);
  last_->store(worker, std::memory_order_release);
  last_ = &worker->next;
}

inline std::size_t WorkerThreads::queued() const noexcept {
  std::size_t tasks = shared_.size();
  for_each_worker([&](const Worker& worker) { tasks += worker.tasks.size(); });
  return tasks;
}

// The last look before sleep, with the mutex of the shared list: see above.
inline bool WorkerThreads::any_queued_locked() noexcept {
  bool any = shared_.size() != 0;
  for_each_worker([&](Worker& worker) {
    const posix::Locked lock{worker.tasks.mutex};
    any = any || worker.tasks.size() != 0;
  });
  return any;
}

inline void WorkerThreads::linger() const noexcept {
  const posix::Deadline end{std::chrono::nanoseconds{10'000}};
  do {
    for (int i = 0; i < 8; ++i) {
      if (queued() != 0 || mode_.load(std::memory_order_relaxed) != open) return;
      sync::pause_spinning();
    }
  } while (!end.expired());
}

inline std::size_t WorkerThreads::idle() const noexcept {
  std::size_t workers = 0;
  for_each_worker([&](const Worker& worker) {
    if (worker.idle.load(std::memory_order_acquire)) ++workers;
  });
  return workers;
}

inline void WorkerThreads::run(Worker& me) noexcept {
  Worker::current = &me;
  posix::this_thread_title = {&name_prefix_, me.number};
  me.memory.serve();
  name_thread(me.number);
  if (!initialize()) {
    const posix::Locked lock{shared_.mutex};
    if (mode_.load(std::memory_order_relaxed) != broken) {
      mode_.store(broken, std::memory_order_release);
      wakes_.fetch_add(1, std::memory_order_relaxed);
      posix::futex_wake(wakes_);
    }
  }
  while (auto task = next_task(me)) {
    execute(me, *task);
    drop(me, std::move(task));
  }
  TaskMemory::leave();
  posix::this_thread_title = {};
  Worker::current = nullptr;
}

inline bool WorkerThreads::initialize() noexcept {
  if (!initializer_) return true;
  try {
    initializer_();
    return true;
  } catch (...) {
    report_exception("the initializer of a thread pool");
    return false;
  }
}

// With the list's mutex. The worker stops being idle before the list shrinks.
inline posix::Ref<PoolTask> WorkerThreads::take_locked(Worker& me, TaskList& list,
                                                       PoolTask* task) noexcept {
  if (task == nullptr) return nullptr;
  me.idle.store(false, std::memory_order_release);
  list.remove_locked(*task);
  return posix::Ref<PoolTask>::adopt(task);
}

inline posix::Ref<PoolTask> WorkerThreads::take_newest(Worker& me) noexcept {
  if (me.tasks.size() == 0) return nullptr;
  const posix::Locked lock{me.tasks.mutex};
  return take_locked(me, me.tasks, me.tasks.newest_locked());
}

inline posix::Ref<PoolTask> WorkerThreads::steal(Worker& me) noexcept {
  // Once round, beginning with the next one.
  for (Worker* victim = &me;;) {
    victim = victim->next.load(std::memory_order_acquire);
    if (victim == nullptr) victim = first_.load(std::memory_order_acquire);
    if (victim == &me) return nullptr;
    if (victim->tasks.size() == 0) continue;
    const posix::Locked lock{victim->tasks.mutex};
    if (auto task = take_locked(me, victim->tasks, victim->tasks.oldest_locked())) return task;
  }
}

// The next task to run; none when it is time to end.
inline posix::Ref<PoolTask> WorkerThreads::next_task(Worker& me) noexcept {
  bool woken = false;
  bool lingered = false;
  bool shared_first = ++me.picks % 64 == 0;
  for (;; shared_first = false) {
    if (!shared_first)
      if (auto task = take_newest(me)) return task;
    posix::Locked lock{shared_.mutex};
    auto task = take_locked(me, shared_, shared_.oldest_locked());
    if (!task) {
      if (shared_first) continue;
      lock.unlock();
      task = steal(me);
      lock.lock();
    }
    if (task) {
      const bool need_wake = woken && queued() != 0 && wake_locked();
      lock.unlock();
      if (need_wake) wake();
      return task;
    }
    if (!lingered && !waking_ && mode_.load(std::memory_order_relaxed) == open) {
      lingered = true;
      waking_ = true;
      lock.unlock();
      linger();
      lock.lock();
      waking_ = false;
      woken = true;
      continue;
    }
    // Counted first, then a last look: whoever queues a task does it the other way round.
    sleepers_.fetch_add(1, std::memory_order_relaxed);
    if (!any_queued_locked()) {
      if (mode_.load(std::memory_order_relaxed) != open) {
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
        me.idle.store(false, std::memory_order_release);
        return nullptr;
      }
      const std::uint32_t seen = wakes_.load(std::memory_order_relaxed);
      lock.unlock();
      posix::futex_wait(wakes_, seen, posix::Deadline{forever});
      lock.lock();
      waking_ = false;
      woken = true;
    }
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }
}

inline void WorkerThreads::execute(Worker& me, PoolTask& task) noexcept {
  StateBase& state = task.state();
  if (!state.try_start()) {
    me.idle.store(me.depth == 0, std::memory_order_release);
    return;
  }
  const bool outermost = me.depth++ == 0;
  PoolTask* const outer = posix::exchange(me.task, &task);
  const std::uint64_t outer_line = me.line;
  const std::uint64_t outer_id = outer == nullptr ? 0 : outer->id.load(std::memory_order_relaxed);
  if (outer_id == 0 || !task.descends_from(outer_id)) me.line = 0;
  const Status status =
      mode_.load(std::memory_order_acquire) == broken ? fail(task) : task.compute();
  me.task = outer;
  me.line = outer_line;
  if (outermost) me.idle.store(true, std::memory_order_release);
  if (Callback* const callbacks = state.publish(status)) call_back(state, callbacks, me);
  --me.depth;
}

[[gnu::noinline]] inline Status WorkerThreads::fail(PoolTask& task) noexcept {
  task.drop_call();
  task.state().store_error(std::make_exception_ptr(
      BrokenThreadPool{"the initializer of a worker failed, the pool is not usable"}));
  return Status::failed;
}

[[gnu::noinline]] inline void WorkerThreads::call_back(StateBase& state, Callback* callbacks,
                                                       Worker& me) noexcept {
  const bool outermost = me.depth == 1;
  if (outermost) {
    // Not idle yet, it turns out. Whoever has just counted on this worker may need another one.
    me.idle.store(false, std::memory_order_release);
    reinforce();
  }
  // What they submit is not the doing of the task within which this worker happens to be.
  PoolTask* const outer = posix::exchange(me.task, nullptr);
  const std::uint64_t outer_line = posix::exchange(me.line, std::uint64_t{0});
  state.run_callbacks(callbacks);
  me.task = outer;
  me.line = outer_line;
  if (outermost) me.idle.store(true, std::memory_order_release);
}

// A result that nobody waits for is destroyed here, which may take any time.
inline void WorkerThreads::drop(Worker& me, posix::Ref<PoolTask> ended) noexcept {
  PoolTask* const task = ended.release();
  if (!task->drop_owner()) return;
  const bool busy = me.depth == 0 && task->state().runs_code_at_end();
  if (busy) {
    ++me.depth;
    me.idle.store(false, std::memory_order_release);
    // Whoever has counted on this worker may need another one.
    if (started_.load(std::memory_order_relaxed) < max_workers_) reinforce();
  }
  delete task;
  if (busy) {
    --me.depth;
    me.idle.store(true, std::memory_order_release);
  }
}

inline void WorkerThreads::help(PoolTask& task, Waiting& waiting) noexcept {
  Worker* const me = Worker::current;
  if (me == nullptr || me->pool.is_forked()) return;
  // The task's home is known by address only: if it is not one of ours, it may be gone.
  bool is_ours = task.home == &me->tasks || task.home == &me->pool.shared_;
  if (!is_ours)
    me->pool.for_each_worker(
        [&](Worker& worker) { is_ours = is_ours || task.home == &worker.tasks; });
  if (!is_ours) return;
  // Out of its list, unless somebody has taken it out; he will run or drop it.
  if (take_out(*task.home, task)) {
    me->pool.execute(*me, task);
    static_cast<void>(task.drop_owner());  // never the last: who waits for it keeps it
    if (waiting.one()) return;
  }
  me->pool.help_with_descendants(*me, task, waiting);
}

inline bool WorkerThreads::take_out(TaskList& list, PoolTask& task) noexcept {
  const posix::Locked lock{list.mutex};
  if (!list.has_locked(task)) return false;
  list.remove_locked(task);
  return true;
}

[[gnu::noinline]] inline void WorkerThreads::help_with_descendants(Worker& me, PoolTask& task,
                                                                   Waiting& waiting) noexcept {
  while (!waiting.over() && !waiting.deadline().expired()) {
    // What it has spawned lies in the list of the worker that runs it, and so does what was
    // spawned by those of its tasks that this worker runs while it waits for them.
    const std::uint64_t id = task.id.load(std::memory_order_relaxed);
    posix::Ref<PoolTask> child;
    for_each_worker([&](Worker& worker) {
      if (worker.number + 1 != id >> 40) return;
      const posix::Locked lock{worker.tasks.mutex};
      PoolTask* const oldest = worker.tasks.oldest_of_locked(id);
      if (oldest != nullptr && !task.state().done()) {  // in this order, see descends_from()
        worker.tasks.remove_locked(*oldest);
        child = posix::Ref<PoolTask>::adopt(oldest);
      }
    });
    if (!child) return;
    execute(me, *child);
    drop(me, std::move(child));
  }
}

inline void WorkerThreads::stop() noexcept {
  const posix::Locked lock{shared_.mutex};
  if (mode_.load(std::memory_order_relaxed) == open)
    mode_.store(stopped, std::memory_order_release);
  wakes_.fetch_add(1, std::memory_order_relaxed);
  posix::futex_wake(wakes_);
}

inline void WorkerThreads::cancel_queued() noexcept {
  const auto cancel_all = [](TaskList& list) {
    for (;;) {
      posix::Ref<PoolTask> task;
      {
        const posix::Locked lock{list.mutex};
        if (list.oldest_locked() == nullptr) return;
        task = posix::Ref<PoolTask>::adopt(list.oldest_locked());
        list.remove_locked(*task);
      }
      task->state().cancel();  // runs callbacks: no lock may be held
    }
  };
  cancel_all(shared_);
  for_each_worker([&](Worker& worker) { cancel_all(worker.tasks); });
}

inline void WorkerThreads::join() noexcept {
  const posix::Locked lock{joining_};
  for_each_worker([](Worker& worker) { worker.thread.join(); });
}

// Linux gives a thread's name 15 bytes. The beginning is kept, and the numbers at the end.
inline void WorkerThreads::name_thread(std::size_t number) const noexcept {
  try {
    const std::size_t word = name_prefix_.find_last_not_of("-0123456789") + 1;
    const std::string numbers = name_prefix_.substr(word) + "_" + std::to_string(number);
    const std::size_t room = numbers.size() < 15 ? 15 - numbers.size() : 0;
    const std::string name = name_prefix_.substr(0, word < room ? word : room) + numbers;
    pthread_setname_np(pthread_self(), name.c_str() + (name.size() > 15 ? name.size() - 15 : 0));
  } catch (...) {  // no memory: it goes without a name
  }
}

}  // namespace brood::futures
