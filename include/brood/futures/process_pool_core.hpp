// SPDX-License-Identifier: MIT
// The program's side of a process pool: hands tasks to workers, collects results, replaces the
// dead.
//
// A task is        | it lies                         | moved on by
// -----------------+---------------------------------+---------------------------------------------
// queued           | in the backlog                  | publish(), under the mutex, in order
// published        | in a slot (see task_table.hpp)  | a worker, by taking it
// collected        | nowhere: its future is done     | who has claimed it: see below
// withdrawn        | nowhere: its future is cancelled | cancel(), by one compare-and-swap on
//                  |                                  | `where_` (queued) or the slot's word
//
// A result is claimed, under the mutex, when it is done and nobody else has claimed it; whoever has
// claimed it reads it and makes the future done. Three come for it:
//
// who                  | when                                 | callbacks
// ---------------------+--------------------------------------+------------------------------------
// a waiting thread     | told by the worker (task_table.hpp), | left to the collector thread: they
//                      | for the one task that it waits for   | may need what this one has locked
// the collector thread | told by the worker: nobody waits     | run there
// the same             | a worker has died: what it had done  | run there
//                      | is collected, the rest has crashed   |
//
// So a round trip takes one wake each way, and none while both sides look out for it. A thread that
// waits for several tasks, for one that lies in the backlog, has callbacks, or is waited for by
// others already, sleeps on the future's own word, and whoever makes it done wakes it.
//
// The collector thread sleeps in poll() on an eventfd that workers set, only while it sleeps, on
// the fork server's socket, where deaths are reported, and on a pidfd of the server, no longer than
// until the first running task with a time limit has to end. User code
// (results being read, callbacks) runs in it with no lock held.
//
// Between the claim of a result and the end of its future nothing is allocated, so that a lack of
// memory takes away no result but the one that has no room itself.
#pragma once

#include <vector>

#include "../posix/list.hpp"
#include "../posix/thread.hpp"
#include "future.hpp"
#include "live_executors.hpp"
#include "pool_server.hpp"

namespace brood::futures {

class ProcessPoolCore;

/// Where the callbacks of a future run that becomes done: in this thread at once, or where
/// RemoteWork::run_kept() is called.
enum class RunCallbacks { here, later };

/// A task as the pool sees it, whatever its result type. The pool holds one reference from submit
/// until it is collected or withdrawn. Its bytes are put into it before it is submitted.
class RemoteWork : public ByteSink {
 public:
  RemoteWork(posix::Ref<ProcessPoolCore> core, const RemoteEntry& entry);
  // Says inline here, or the compiler takes it for the one whose definition brings the class's
  // table of virtual functions, which it then writes for everybody who includes this.
  inline char* allocate(std::size_t size) override;
  /// Before it is submitted: how long it may run. Else it is what the pool says.
  void limit_time(Timeout limit) noexcept { limit_ = limit.duration().count(); }
  RemoteWork(const RemoteWork&) = delete;
  RemoteWork& operator=(const RemoteWork&) = delete;

  virtual void retain() noexcept = 0;
  virtual void release() noexcept = 0;

  /// The result is there. Reads it; nobody sees it before publish(). What goes wrong becomes the
  /// result.
  virtual void load(Outcome outcome, std::string_view bytes) noexcept = 0;
  /// There will be no result but this.
  virtual void fail(std::exception_ptr error) noexcept = 0;
  /// Makes the future(s) done. Whether there are callbacks that run later.
  virtual bool publish(RunCallbacks when) noexcept = 0;
  /// Runs those.
  virtual void run_kept() noexcept = 0;
  /// Cancels what can be cancelled.
  virtual void cancel() noexcept = 0;

 protected:
  ~RemoteWork();

  static bool publish_state(StateBase& state, Status status, RunCallbacks when) noexcept {
    Callback* const callbacks = state.publish(status);
    if (when == RunCallbacks::here)
      state.run_callbacks(callbacks);
    else
      state.keep_callbacks(callbacks);
    return when == RunCallbacks::later && callbacks != nullptr;
  }

  const posix::Ref<ProcessPoolCore> core_;

 private:
  friend ProcessPoolCore;
  friend class WorkList;
  static constexpr std::uint64_t queued = 0, withdrawn = ~std::uint64_t{0};

  const RemoteEntry& entry_;
  std::int64_t limit_ = Slot::no_limit;       // nanoseconds
  std::string bytes_;                         // dropped when they lie in a slot; large ones are
  Place large_{0, Place::in_slot};            // written where the worker will read them
  std::atomic<std::uint64_t> where_{queued};  // queued, withdrawn, or ticket << 16 | slot
  RemoteWork* next_ = nullptr;  // in the backlog, guarded by the pool's mutex as is what follows;
  RemoteWork* previous_ = nullptr;  // after that in a WorkList
  bool in_backlog_ = false;
};

/// Tasks that are in no backlog and in no slot any more, each with the pool's reference.
class WorkList {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  void push_back(RemoteWork& task) noexcept {
    task.next_ = nullptr;
    (last_ == nullptr ? first_ : last_->next_) = &task;
    last_ = &task;
  }
  /// Its tasks are here now, after the others.
  void append(WorkList& other) noexcept {
    while (RemoteWork* const task = other.pop()) push_back(*task);
  }
  /// The first one, null if there is none.
  RemoteWork* pop() noexcept {
    RemoteWork* const task = first_;
    if (task == nullptr) return nullptr;
    first_ = task->next_;
    if (first_ == nullptr) last_ = nullptr;
    return task;
  }

 private:
  RemoteWork* first_ = nullptr;
  RemoteWork* last_ = nullptr;
};

struct ProcessPoolSettings {
  std::uint32_t max_workers;
  Timeout task_timeout;
  bool break_on_crash;
  WorkerSettings workers;
};

class ProcessPoolCore final : public posix::RefCounted, public LiveExecutor {
 public:
  explicit ProcessPoolCore(ProcessPoolSettings settings)
      : settings_{std::move(settings)},
        table_{settings_.max_workers},
        workers_(settings_.max_workers),
        in_slot_(TaskTable::slots),
        server_{PoolServer::start(table_, settings_.workers, pool_workers_)} {
    free_slots_.reserve(TaskTable::slots);
    collected_.reserve(TaskTable::slots);
    done_.reserve(TaskTable::slots);
    for (std::uint32_t slot = TaskTable::slots; slot != 0; --slot) free_slots_.push_back(slot - 1);
    LiveExecutors::add(*this);
  }
  ~ProcessPoolCore() {
    LiveExecutors::remove(*this);
    if (is_foreign())
      collector_.forget();  // it exists in the parent only
    else if (is_collector())
      collector_.detach();
    else
      collector_.join();
  }

  /// Whether this is a copy in a process forked from the pool's own.
  bool is_foreign() const noexcept { return owner_ != posix::this_process(); }
  std::uint32_t max_workers() const noexcept { return settings_.max_workers; }

  // For the bytes of a task that is not submitted yet: room in the arena, null if there is none to
  // spare; and back with it.
  char* claim_large(std::size_t size, Place& place) noexcept {
    if (is_foreign()) return nullptr;
    try {
      // Most of it is for results: a task that waits must not keep others from ending.
      const auto unit = table_.claim_units(size, TaskTable::pool, table_.units() / 4);
      if (!unit) return nullptr;
      place = {size, *unit};
      return table_.bytes(*unit);
    } catch (const os::OSError&) {
      return nullptr;
    }
  }
  void drop_large(const Place& place) noexcept {
    if (is_foreign()) return;  // the table is still the other process's
    const posix::Locked lock{mutex_};
    free_place(place);
  }

  /// Throws std::runtime_error (shut down, forked), BrokenProcessPool, os::OSError.
  void submit(RemoteWork& task) {
    bool failed = true;
    // Asked first: in a forked child some other thread may seem to hold the mutex for ever.
    if (is_foreign())
      throw std::runtime_error{
          "submit: the process pool belongs to another process, make one here"};
    {
      const posix::Locked lock{mutex_};
      if (!broken_.empty()) throw BrokenProcessPool{broken_};
      if (shut_down_) throw std::runtime_error{"submit: the process pool was shut down"};
      if (!collecting_) {
        add_owner();
        try {
          collector_ =
              posix::OsThread{[this] { collect_until_finished(); }, posix::ThreadSignals::none};
        } catch (...) {
          drop_owner();
          throw;
        }
        collecting_ = true;
      }
      task.retain();
      if (task.limit_ == Slot::no_limit) task.limit_ = settings_.task_timeout.duration().count();
      ++unfinished_;
      append(task);
      publish_backlog();
      start_workers();
      if (hopeless_.empty()) failed = false;
    }
    table_.notify();
    if (failed) fail_hopeless();
  }

  /// Whether `task` was kept from starting by this call. Takes no lock.
  bool withdraw(RemoteWork& task) noexcept {
    if (is_foreign()) return false;
    std::uint64_t where = RemoteWork::queued;
    if (task.where_.compare_exchange_strong(where, RemoteWork::withdrawn)) return true;
    if (where == RemoteWork::withdrawn) return false;
    const std::uint64_t ticket = where >> 16;
    std::uint64_t word = SlotWord::make(ticket, Phase::ready);
    return table_.slot(where & 0xffff)
        .word.compare_exchange_strong(word, SlotWord::make(ticket, Phase::free));
  }

  /// Drops a task that was withdrawn.
  void forget(RemoteWork& task) noexcept {
    {
      const posix::Locked lock{mutex_};
      const std::uint64_t where = task.where_.load();
      if (where == RemoteWork::withdrawn) {
        if (task.in_backlog_) unlink(task);
        drop_bytes(task);
      } else {
        free_slot(where & 0xffff);
      }
      --unfinished_;
      publish_backlog();
    }
    table_.notify();
    table_.done_event().set();  // the pool may be finished now
    task.release();
  }

  /// Waits until the task is done, and collects its result; returns before it is over when others
  /// will bring that about.
  void wait_for(RemoteWork& task, const Waiting& waiting) noexcept {
    const std::uint64_t where = task.where_.load();
    if (!waiting.one() || where == RemoteWork::queued || where == RemoteWork::withdrawn ||
        is_foreign())
      return;
    const auto index = static_cast<std::uint32_t>(where & 0xffff);
    const std::uint64_t ticket = where >> 16;
    Slot& slot = table_.slot(index);
    {
      const posix::Locked lock{mutex_};
      if (in_slot_[index].task != &task || in_slot_[index].claimed) return;
      std::uint32_t nobody = SlotWaiter::none;
      if (!slot.waiter.compare_exchange_strong(nobody, SlotWaiter::awake(ticket))) return;
      const std::uint64_t word = slot.word.load();
      if (word >> 16 != ticket || SlotWord::phase(word) == Phase::done) table_.dismiss_waiter(slot);
    }
    if (table_.wait_for(slot, ticket, patience_, waiting.deadline())) collect_one(task, index);
  }

  /// Whether a worker has taken it.
  bool taken(const RemoteWork& task) const noexcept {
    const std::uint64_t where = task.where_.load();
    if (where == RemoteWork::queued || where == RemoteWork::withdrawn || is_foreign()) return false;
    const std::uint64_t word = table_.slot(where & 0xffff).word.load();
    return word >> 16 == where >> 16 && SlotWord::phase(word) >= Phase::taken;
  }

  /// Does not wait in a callback: the thread that runs it is the one to be waited for.
  void shut_down(bool wait, bool cancel_futures) {
    if (is_foreign()) return;
    posix::List<RemoteWork*> pending;
    {
      const posix::Locked lock{mutex_};
      if (cancel_futures) pending = retain_all();
      shut_down_ = true;
      if (!collecting_ && !finished_) {  // nothing was ever submitted
        finished_ = true;
        server_.stop();
      }
    }
    for (RemoteWork* const task : pending) {
      task->cancel();
      task->release();
    }
    table_.done_event().set();
    if (!wait) return;
    {
      posix::Locked lock{mutex_};
      if (!finished_ && is_collector()) return;
      ended_.wait(lock, posix::Deadline{forever}, [this] { return finished_; });
    }
    const posix::Locked lock{join_mutex_};
    collector_.join();
  }

  // For the end of the program.
  bool hold() noexcept override { return try_add_owner(); }
  void finish() noexcept override {
    const auto self = posix::Ref<ProcessPoolCore>::adopt(this);
    shut_down(true, false);
  }

  bool is_shut_down() const {
    if (is_foreign()) return false;
    const posix::Locked lock{mutex_};
    return shut_down_;
  }

  /// After shut_down(): sends a signal to every worker. Those it ends are not replaced.
  void end_workers(int signal) {
    if (is_foreign()) return;
    const posix::Locked lock{mutex_};
    replace_ = false;
    for (std::uint32_t worker = 0; worker < workers_.size(); ++worker)
      if (workers_[worker].state != WorkerState::absent) server_.signal(worker, signal);
  }

  std::vector<pid_t> worker_pids() const {
    if (is_foreign()) return {};
    posix::List<pid_t> result;
    const posix::Locked lock{mutex_};
    for (std::uint32_t worker = 0; worker < workers_.size(); ++worker) {
      if (workers_[worker].state == WorkerState::absent) continue;
      // It may have done a task before the server's report is read.
      const pid_t pid = workers_[worker].state == WorkerState::alive
                            ? workers_[worker].pid
                            : table_.cell(worker).pid.load();
      if (pid != 0) result.push_back(pid);
    }
    return {result.begin(), result.end()};
  }

 private:
  static constexpr std::int64_t arena_patience = 1'000'000'000;  // nanoseconds
  enum class WorkerState { absent, starting, alive };
  struct Worker {
    WorkerState state = WorkerState::absent;
    pid_t pid = 0;
  };
  struct InSlot {
    RemoteWork* task = nullptr;
    Place args = {};
    std::int64_t limit = Slot::no_limit;
    bool claimed = false;  // somebody reads its result
  };
  struct Done {
    RemoteWork* task;
    std::uint32_t slot;
    Place result;
    Outcome outcome;
    bool sound;
  };
  bool is_collector() const noexcept {
    return collector_.joinable() && pthread_equal(collector_.native_handle(), pthread_self()) != 0;
  }

  // All below, down to the next remark, with the mutex held.

  void append(RemoteWork& task) noexcept {
    task.previous_ = last_;
    task.next_ = nullptr;
    (last_ == nullptr ? first_ : last_->next_) = &task;
    last_ = &task;
    task.in_backlog_ = true;
  }
  void unlink(RemoteWork& task) noexcept {
    (task.previous_ == nullptr ? first_ : task.previous_->next_) = task.next_;
    (task.next_ == nullptr ? last_ : task.next_->previous_) = task.previous_;
    task.in_backlog_ = false;
  }

  void publish_backlog() noexcept {
    while (first_ != nullptr && publish(*first_)) {
    }
  }

  // Whether the ring has room for one more ticket.
  bool has_room() noexcept {
    const auto full = [this] {
      return next_ticket_ - table_.shared().cursor.load() >= TaskTable::slots;
    };
    if (full()) table_.skip_withdrawn(next_ticket_);
    return !full();
  }

  // False: it has to wait.
  bool publish(RemoteWork& task) noexcept {
    if (task.where_.load() == RemoteWork::withdrawn) {
      unlink(task);
      return true;
    }
    if (free_slots_.empty() || !has_room()) return false;
    const std::uint32_t index = free_slots_.back();
    Slot& slot = table_.slot(index);
    Place args{task.bytes_.size(), Place::in_slot};
    char* place = slot.small;
    if (task.large_.unit != Place::in_slot) {
      args = posix::exchange(task.large_, Place{0, Place::in_slot});
    } else if (task.bytes_.size() > sizeof slot.small) {
      try {
        const auto unit = table_.claim_units(task.bytes_.size(), TaskTable::pool);
        if (!unit && in_flight_ != 0) return false;
        if (!unit)
          posix::throw_os_error(ENOSPC, "submit: the arguments are too large for a process pool");
        args.unit = *unit;
        place = table_.bytes(*unit);
      } catch (...) {
        if (in_flight_ != 0) return false;  // what is under way will give memory back
        unlink(task);
        std::uint64_t where = RemoteWork::queued;  // a withdrawn one is forget()'s
        if (!task.where_.compare_exchange_strong(where, RemoteWork::withdrawn)) return true;
        --unfinished_;
        task.fail(std::current_exception());
        hopeless_.push_back(task);
        return true;
      }
    }
    std::memcpy(place, task.bytes_.data(), task.bytes_.size());
    slot.args = args;
    slot.entry = task.entry_.place();
    slot.started.store(0, std::memory_order_relaxed);
    slot.limit = task.limit_;
    const std::uint64_t ticket = next_ticket_;
    slot.word.store(SlotWord::make(ticket, Phase::ready), std::memory_order_release);
    std::uint64_t where = RemoteWork::queued;
    unlink(task);
    if (!task.where_.compare_exchange_strong(where, ticket << 16 | index)) {
      slot.word.store(SlotWord::make(ticket, Phase::free), std::memory_order_relaxed);
      free_place(args);
      return true;
    }
    std::string{}.swap(task.bytes_);
    free_slots_.pop_back();
    in_slot_[index] = {&task, args, task.limit_};
    if (task.limit_ != Slot::no_limit) {
      ++limited_;
      if (task.limit_ < least_limit_) least_limit_ = task.limit_;
    }
    ++in_flight_;
    ++next_ticket_;
    table_.ring_entry(ticket).store(ticket << 16 | index);
    return true;
  }

  void free_place(const Place& place) noexcept {
    if (place.unit == Place::in_slot) return;
    table_.free_units(place.unit, static_cast<std::size_t>(place.size));
    arena_left_ = now();
  }

  // Of a task that lies in no slot.
  void drop_bytes(RemoteWork& task) noexcept {
    std::string{}.swap(task.bytes_);
    free_place(posix::exchange(task.large_, Place{0, Place::in_slot}));
  }

  // Its task is collected, crashed or withdrawn.
  void free_slot(std::uint64_t index) noexcept {
    Slot& slot = table_.slot(static_cast<std::uint32_t>(index));
    const std::uint64_t word = slot.word.load(std::memory_order_acquire);
    free_place(in_slot_[index].args);
    slot.word.store(SlotWord::make(word >> 16, Phase::free));
    leave_slot(index);
    free_slots_.push_back(static_cast<std::uint32_t>(index));
  }
  void leave_slot(std::uint64_t index) noexcept {
    if (in_slot_[index].limit != Slot::no_limit) --limited_;
    in_slot_[index] = {};
    --in_flight_;
    table_.dismiss_waiter(table_.slot(static_cast<std::uint32_t>(index)));
  }

  void start_workers() {
    if (!broken_.empty() || stopping_ || !replace_) return;
    for (std::uint32_t worker = 0;
         worker < workers_.size() && present_ < std::min<std::size_t>(workers_.size(), unfinished_);
         ++worker) {
      if (workers_[worker].state != WorkerState::absent) continue;
      table_.cell(worker).failed.store(WorkerCell::Failed::no);
      table_.cell(worker).left.store(0);
      table_.cell(worker).pid.store(0);
      table_.cell(worker).crash.frames.store(0);
      table_.cell(worker).crash.signal.store(0);
      if (!server_.start(worker)) return;  // the collector will see that it is gone
      workers_[worker].state = WorkerState::starting;
      ++present_;
    }
  }

  posix::List<RemoteWork*> retain_all() {
    posix::List<RemoteWork*> tasks;
    for (RemoteWork* task = first_; task != nullptr; task = task->next_) tasks.push_back(task);
    for (const InSlot& in_slot : in_slot_)
      if (in_slot.task != nullptr) tasks.push_back(in_slot.task);
    for (RemoteWork* const task : tasks) task->retain();
    return tasks;
  }

  // Nothing more will be done; adds all tasks to those that have failed.
  void break_pool(const char* reason, WorkList& failures) noexcept {
    if (broken_.empty()) {
      try {
        broken_ = reason;
      } catch (const std::bad_alloc&) {
        broken_ = "out of memory";  // which needs none
      }
    }
    const std::exception_ptr error = error_of([this] { return BrokenProcessPool{broken_}; });
    const auto give_up = [&](RemoteWork& task) {
      task.fail(error);
      failures.push_back(task);
      --unfinished_;
    };
    while (first_ != nullptr) {
      RemoteWork& task = *first_;
      unlink(task);
      std::uint64_t where = RemoteWork::queued;  // a withdrawn one is forget()'s
      if (task.where_.compare_exchange_strong(where, RemoteWork::withdrawn)) give_up(task);
    }
    for (std::uint32_t index = 0; index < in_slot_.size(); ++index) {
      RemoteWork* const task = in_slot_[index].task;
      if (task == nullptr || in_slot_[index].claimed) continue;
      // Once it is taken it can't be withdrawn any more.
      std::uint64_t word = table_.slot(index).word.load();
      if (SlotWord::phase(word) == Phase::ready)
        table_.slot(index).word.compare_exchange_strong(
            word, SlotWord::make(word >> 16, Phase::taken, TaskTable::max_workers));
      if (SlotWord::phase(table_.slot(index).word.load()) == Phase::free) continue;  // forget()'s
      give_up(*task);
      leave_slot(index);
    }
    for (std::uint32_t worker = 0; worker < workers_.size(); ++worker)
      if (workers_[worker].state != WorkerState::absent) server_.signal(worker, SIGKILL);
  }

  // (With the mutex held until here.)

  // The error that `make()` returns, or std::bad_alloc where there is no memory for it.
  template <class Make>
  static std::exception_ptr error_of(Make make) noexcept {
    try {
      return std::make_exception_ptr(make());
    } catch (...) {
      return std::current_exception();
    }
  }

  // Tasks that have been told their failure.
  static void settle(WorkList& failures) noexcept {
    while (RemoteWork* const task = failures.pop()) {
      task->publish(RunCallbacks::here);
      task->release();
    }
  }

  void fail_hopeless() noexcept {
    WorkList failures;
    {
      const posix::Locked lock{mutex_};
      failures.append(hopeless_);
    }
    settle(failures);
  }

  // In the collector thread.

  void collect_until_finished() noexcept {
    const auto self = posix::Ref<ProcessPoolCore>::adopt(this);
    static_cast<void>(self.get());
    while (collect_or_give_up()) {
    }
    if (server_gone_)
      server_.stop();
    else
      server_.finish();
    {
      const posix::Locked lock{mutex_};
      for (Worker& worker : workers_) worker = {};
      present_ = 0;
      finished_ = true;
      ended_.notify_all();
    }
  }

  // False: nothing is left to do but to wait for the workers' end.
  bool collect_or_give_up() noexcept {
    try {
      return collect_once();
    } catch (const std::exception& error) {
      give_up(error.what());
      return true;  // a waiting thread may still have a result in hand
    }
  }

  bool collect_once() {
    const bool news = collect_results();
    bool time_to_look = false;
    WorkList later;
    if ((!receive_reports() || server_ended_) && !server_gone_)
      give_up(("the process pool's fork server " + server_.fate()).c_str());
    {
      const posix::Locked lock{mutex_};
      later.append(later_);
      if (later.empty() && (server_gone_ || !broken_.empty() || shut_down_) && unfinished_ == 0) {
        stopping_ = true;
        table_.shared().stop.store(1);
        table_.wake_all();
        return false;
      }
      if (shut_down_ && first_ == nullptr && !draining_) {
        // Nothing more will be published: whoever finds nothing to take may leave, while the others
        // are still at work.
        draining_ = true;
        table_.shared().stop.store(1);
        table_.wake_all();
      }
      // What has begun since the last look may run for the least limit there is.
      time_to_look =
          limited_ != 0 && now() >= std::min(first_end_, Slot::end_of(looked_, least_limit_));
    }
    const bool kept = !later.empty();
    while (RemoteWork* const task = later.pop()) {
      task->run_kept();
      task->release();
    }
    if (news || kept) {
      if (time_to_look) expire_tasks();
      return true;
    }
    table_.shared().collector_alarm.store(Slot::no_limit);
    table_.shared().collector_asleep.store(1);
    const std::int64_t alarm = expire_tasks();
    const std::int64_t trim = trim_arena();
    table_.shared().collector_alarm.store(alarm);
    if (!results_wait()) {
      pollfd entries[] = {{table_.done_event().get(), POLLIN, 0},
                          {server_.fileno(), POLLIN, 0},
                          {server_.sentinel(), POLLIN, 0}};
      const std::int64_t end = std::min(alarm, trim);
      const Timeout left =
          end == Slot::no_limit ? forever : Timeout{std::chrono::nanoseconds{end - now()}};
      // Without the server nothing is left but what waiting threads have claimed.
      posix::poll_until(entries, server_gone_ ? 1 : 3, posix::Deadline{left});
      server_ended_ = entries[2].revents != 0;  // believed when all that it sent is read
    }
    table_.shared().collector_asleep.store(0);
    table_.done_event().clear();
    return true;
  }

  static std::int64_t now() noexcept {
    return posix::Deadline::clock::now().time_since_epoch().count();
  }

  // Has the workers killed whose tasks have run too long. Returns when the first of the other
  // running tasks will have.
  std::int64_t expire_tasks() {
    const posix::Locked lock{mutex_};
    if (limited_ == 0) return Slot::no_limit;
    looked_ = now();
    first_end_ = Slot::no_limit;
    for (std::uint32_t index = 0, left = limited_; left != 0 && index < TaskTable::slots; ++index) {
      if (in_slot_[index].limit == Slot::no_limit) continue;
      --left;
      Slot& slot = table_.slot(index);
      std::uint64_t word = slot.word.load(std::memory_order_acquire);
      const std::int64_t started = slot.started.load();
      if (SlotWord::phase(word) != Phase::taken || started == 0) continue;
      const std::int64_t end = Slot::end_of(started, in_slot_[index].limit);
      const std::uint32_t worker = SlotWord::worker(word);
      if (end > looked_)
        first_end_ = std::min(first_end_, end);
      else if (slot.word.compare_exchange_strong(
                   word, SlotWord::make(word >> 16, Phase::expired, worker)))
        server_.kill_tree(worker);
    }
    return first_end_;
  }

  // Gives back the memory of large arguments and results when none has been let go for a second.
  // Returns when that will be so.
  std::int64_t trim_arena() noexcept {
    {
      const posix::Locked lock{mutex_};
      const std::int64_t due = Slot::end_of(arena_left_, arena_patience);
      arena_watched_ = arena_left_ != 0 && now() < due;
      if (arena_watched_) return due;
      if (posix::exchange(arena_left_, std::int64_t{0}) == 0) return Slot::no_limit;
    }
    table_.trim();
    return Slot::no_limit;
  }

  bool results_wait() const noexcept {
    for (const auto& bits : table_.shared().done)
      if (bits.load() != 0) return true;
    return false;
  }

  bool collect_results() noexcept {
    collected_.clear();
    for (std::uint32_t i = 0; i < TaskTable::slots / 64; ++i) {
      auto& word = table_.shared().done[i];
      if (word.load(std::memory_order_relaxed) == 0) continue;
      for (std::uint64_t bits = word.exchange(0); bits != 0; bits &= bits - 1)
        collected_.push_back(i * 64 + static_cast<std::uint32_t>(__builtin_ctzll(bits)));
    }
    return collect(collected_);
  }

  // Reads the results of these slots, where they are done.
  bool collect(const posix::List<std::uint32_t>& slots) noexcept {
    done_.clear();
    {
      const posix::Locked lock{mutex_};
      for (const std::uint32_t index : slots) {
        Done done;
        if (claim(index, done)) done_.push_back(done);
      }
    }
    if (done_.empty()) return false;
    for (const Done& done : done_) load(done);
    {
      const posix::Locked lock{mutex_};
      for (const Done& done : done_) let_go(done);
    }
    table_.notify();
    fail_hopeless();
    for (const Done& done : done_) {
      done.task->publish(RunCallbacks::here);
      done.task->release();
    }
    return true;
  }

  // (In the thread that waits for it.) The same for one task, if it still lies in that slot.
  void collect_one(RemoteWork& task, std::uint32_t index) noexcept {
    Done done;
    {
      const posix::Locked lock{mutex_};
      if (in_slot_[index].task != &task || !claim(index, done)) return;
    }
    load(done);
    const bool has_callbacks = task.publish(RunCallbacks::later);
    bool collector_cares = false;
    bool work_waits = false;
    bool failed = false;
    {
      const posix::Locked lock{mutex_};
      work_waits = first_ != nullptr;
      let_go(done);
      failed = !hopeless_.empty();
      if (has_callbacks) later_.push_back(task);
      collector_cares = has_callbacks || shut_down_ || !broken_.empty() ||
                        (arena_left_ != 0 && !posix::exchange(arena_watched_, true));
    }
    if (collector_cares) table_.done_event().set();
    if (work_waits) table_.notify();
    if (failed) fail_hopeless();
    if (!has_callbacks) task.release();
  }

  // With the mutex held: false when there is nothing to read, or somebody else does.
  bool claim(std::uint32_t index, Done& done) noexcept {
    const Slot& slot = table_.slot(index);
    const std::uint64_t word = slot.word.load(std::memory_order_acquire);
    InSlot& in_slot = in_slot_[index];
    if (SlotWord::phase(word) != Phase::done || in_slot.task == nullptr || in_slot.claimed)
      return false;
    const Place result = slot.result;
    done = {in_slot.task, index, result, slot.outcome,
            table_.holds(result, SlotWord::worker(word))};
    if (done.sound) table_.take_over(result);
    in_slot.claimed = true;
    return true;
  }
  void load(const Done& done) noexcept {
    const char* const bytes = done.result.unit == Place::in_slot ? table_.slot(done.slot).small
                                                                 : table_.bytes(done.result.unit);
    if (done.sound)
      done.task->load(done.outcome, {bytes, static_cast<std::size_t>(done.result.size)});
    else
      done.task->fail(error_of([] {
        return serialization::SerializationError{
            "serialization: the worker has spoilt the memory that it shares with the pool"};
      }));
  }
  // With the mutex held.
  void let_go(const Done& done) noexcept {
    if (done.sound) free_place(done.result);
    free_slot(done.slot);
    --unfinished_;
    deaths_in_a_row_ = 0;
    if (first_ != nullptr) publish_backlog();
  }

  // False: there will be no more, though there should be.
  bool receive_reports() {
    for (;;) {
      bool gone = false;
      posix::ForkReport report;
      if (!server_.receive(report, gone)) return !gone;
      switch (report.kind) {
        case posix::ForkReport::Kind::started: {
          const posix::Locked lock{mutex_};
          if (workers_[report.worker].state == WorkerState::starting)
            workers_[report.worker] = {WorkerState::alive, report.pid};
          break;
        }
        case posix::ForkReport::Kind::not_started:
          worker_missing(report);
          break;
        case posix::ForkReport::Kind::ended:
          worker_ended(report);
          break;
      }
    }
  }

  // No process could be had. With others at work that is bearable, else not.
  void worker_missing(const posix::ForkReport& report) {
    const std::string why =
        "the process pool can't start a worker: " + std::generic_category().message(report.detail);
    WorkList failures;
    {
      const posix::Locked lock{mutex_};
      workers_[report.worker] = {};
      if (--present_ == 0) break_pool(why.c_str(), failures);
    }
    settle(failures);
  }

  void worker_ended(const posix::ForkReport& report) {
    const std::uint32_t worker = report.worker;
    const WorkerCell& cell = table_.cell(worker);
    const bool died = cell.left.load(std::memory_order_acquire) == 0;
    collected_.clear();
    for (std::uint32_t index = 0; index < TaskTable::slots; ++index) {
      const std::uint64_t word = table_.slot(index).word.load(std::memory_order_acquire);
      if (SlotWord::phase(word) >= Phase::taken && SlotWord::worker(word) == worker)
        collected_.push_back(index);
    }
    // What it had finished counts, though it may not have got round to telling.
    collect(collected_);
    WorkList failures;
    bool killed = false;  // by us
    char why[sizeof cell.text + 64] = {};
    {
      const posix::Locked lock{mutex_};
      for (const std::uint32_t index : collected_) {
        const Slot& slot = table_.slot(index);
        const std::uint64_t word = slot.word.load(std::memory_order_acquire);
        const Phase phase = SlotWord::phase(word);
        if ((phase != Phase::taken && phase != Phase::expired) ||
            SlotWord::worker(word) != worker || in_slot_[index].task == nullptr)
          continue;
        if (phase == Phase::expired) killed = true;
        RemoteWork& task = *in_slot_[index].task;
        task.fail(phase == Phase::expired
                      ? error_of([&] { return timed_out(index, report); })
                      : error_of([&] { return crashed(index, cell.crash, report); }));
        failures.push_back(task);
        free_slot(index);
        --unfinished_;
      }
      if (died) {
        table_.free_units_of(worker);
        table_.bury(worker);
        deaths_in_a_row_ = failures.empty() ? deaths_in_a_row_ + 1 : 0;
      }
      workers_[worker] = {};
      --present_;
      const WorkerCell::Failed failed = cell.failed.load(std::memory_order_acquire);
      if (failed != WorkerCell::Failed::no)
        std::snprintf(why, sizeof why, "%s of the process pool failed: %.*s",
                      failed == WorkerCell::Failed::in_its_limits ? "a worker" : "the initializer",
                      static_cast<int>(sizeof cell.text), cell.text);
      else if (settings_.break_on_crash && died && !killed && replace_ && broken_.empty())
        std::snprintf(why, sizeof why, "worker process %d of the process pool died", report.pid);
      else if (deaths_in_a_row_ > 3 * workers_.size() + 50)
        std::strcpy(why, "the workers of the process pool die before they begin with a task");
      else if (!replace_ && present_ == 0 && unfinished_ != 0)
        std::strcpy(why, "the workers of the process pool were ended");
      if (why[0] != '\0') break_pool(why, failures);
      publish_backlog();
      start_workers();
    }
    table_.notify();
    fail_hopeless();
    settle(failures);
  }

  // What the task in a slot calls.
  std::string called_in(std::uint32_t index) const {
    const Place& args = in_slot_[index].args;
    const char* const bytes =
        args.unit == Place::in_slot ? table_.slot(index).small : table_.bytes(args.unit);
    return called_name(in_slot_[index].task->entry_, {bytes, static_cast<std::size_t>(args.size)});
  }

  TaskTimeout timed_out(std::uint32_t index, const posix::ForkReport& report) const {
    return {called_in(index), std::chrono::nanoseconds{in_slot_[index].limit}, report.pid};
  }

  WorkerCrashed crashed(std::uint32_t index, const posix::CrashRecord& crash,
                        const posix::ForkReport& report) const {
    const Slot& slot = table_.slot(index);
    const std::int64_t started = slot.started.load(std::memory_order_relaxed);
    WorkerCrashed::Details details{report.pid,
                                   report.detail,
                                   called_in(index),
                                   std::chrono::nanoseconds{started == 0 ? 0 : now() - started},
                                   static_cast<std::size_t>(report.max_rss_bytes),
                                   {},
                                   0};
    // A thread that crashes while it is asked where it was crashes for the first reason.
    const std::int32_t signal = crash.signal.load(std::memory_order_relaxed);
    if (signal != 0 && report.detail == -SIGSEGV) details.returncode = -signal;
    const std::uint32_t calls = crash.frames.load(std::memory_order_acquire);
    if (report.detail < 0 && report.detail == -signal && calls <= posix::CrashRecord::most) {
      details.call_count = calls;
      for (std::uint32_t i = 0; i < calls; ++i)
        details.calls[i] =
            const_cast<void*>(posix::address_of(crash.places[i], 1, 1, posix::SegmentUse::code));
    }
    return WorkerCrashed{std::move(details)};
  }

  void give_up(const char* reason) noexcept {
    WorkList failures;
    {
      const posix::Locked lock{mutex_};
      server_gone_ = true;
      break_pool(reason, failures);
    }
    settle(failures);
  }

  const ProcessPoolSettings settings_;
  const std::uint64_t owner_ = posix::this_process();
  TaskTable table_;
  PoolWorkers pool_workers_{table_, settings_.workers};
  posix::Mutex join_mutex_;
  mutable posix::Mutex mutex_;  // guards all down to the next remark
  posix::ConditionVariable ended_;
  posix::List<Worker> workers_;
  std::size_t present_ = 0;          // workers that are not absent
  std::size_t deaths_in_a_row_ = 0;  // without a task in hand, since the last finished task
  posix::List<InSlot> in_slot_;
  posix::List<std::uint32_t> free_slots_;
  std::uint64_t next_ticket_ = 1;
  RemoteWork* first_ = nullptr;  // the backlog
  RemoteWork* last_ = nullptr;
  std::size_t in_flight_ = 0;                  // in slots
  std::uint32_t limited_ = 0;                  // of these, such with a time limit
  std::int64_t least_limit_ = Slot::no_limit;  // there ever was
  std::size_t unfinished_ = 0;                 // in slots or in the backlog
  WorkList hopeless_;                          // have failed, and are to be told so
  WorkList later_;                             // have callbacks for the collector to run
  std::string broken_;                         // why; empty: it is not
  bool collecting_ = false;                    // the collector was started
  std::int64_t arena_left_ = 0;  // when something in it was freed; 0: there is nothing to give back
  bool arena_watched_ = false;   // the collector will look in time
  bool shut_down_ = false;
  bool replace_ = true;  // workers that end
  bool draining_ = false;
  bool stopping_ = false;
  bool server_gone_ = false;
  bool finished_ = false;
  posix::OsThread collector_;  // joined under the other mutex, when finished
  // (Guarded by the mutex until here.)
  posix::ForkServer server_;  // asked under the mutex; its reports are the collector's
  sync::Patience patience_{table_.shared().several_processors != 0};  // of waiting threads
  // The collector's own.
  posix::List<std::uint32_t> collected_;
  posix::List<Done> done_;
  bool server_ended_ = false;
  std::int64_t looked_ = 0;     // when it looked for tasks that run too long,
  std::int64_t first_end_ = 0;  // and when the first of those it saw will
};

inline RemoteWork::RemoteWork(posix::Ref<ProcessPoolCore> core, const RemoteEntry& entry)
    : core_{std::move(core)}, entry_{entry} {
  entry.place();  // from now on it is known
}

inline RemoteWork::~RemoteWork() {
  if (large_.unit != Place::in_slot) core_->drop_large(large_);
}

inline char* RemoteWork::allocate(std::size_t size) {
  if (size >= TaskTable::large) {
    if (char* const place = core_->claim_large(size, large_)) return place;
  }
  bytes_.resize(size);
  return bytes_.data();
}

}  // namespace brood::futures
