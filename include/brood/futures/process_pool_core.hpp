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
#include "live_executors.hpp"
#include "pool_server.hpp"
#include "remote_work.hpp"

namespace brood::futures {

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
      backlog_.push_back(task);
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
        if (task.in_backlog_) backlog_.erase(task);
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

  void publish_backlog() noexcept {
    while (!backlog_.empty() && publish(*backlog_.front())) {
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
      backlog_.erase(task);
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
        backlog_.erase(task);
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
    backlog_.erase(task);
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
    for (RemoteWork* task = backlog_.front(); task != nullptr; task = task->next_)
      tasks.push_back(task);
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
    while (!backlog_.empty()) {
      RemoteWork& task = *backlog_.front();
      backlog_.erase(task);
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

  // In the collector thread (process_pool_collector.hpp).

  void collect_until_finished() noexcept;
  // False: nothing is left to do but to wait for the workers' end.
  bool collect_or_give_up() noexcept;
  bool collect_once();
  static std::int64_t now() noexcept;
  // Has the workers killed whose tasks have run too long. Returns when the first of the other
  // running tasks will have.
  std::int64_t expire_tasks();
  // Gives back the memory of large arguments and results when none has been let go for a second.
  // Returns when that will be so.
  std::int64_t trim_arena() noexcept;
  bool results_wait() const noexcept;
  bool collect_results() noexcept;
  // Reads the results of these slots, where they are done.
  bool collect(const posix::List<std::uint32_t>& slots) noexcept;
  // (In the thread that waits for it.) The same for one task, if it still lies in that slot.
  void collect_one(RemoteWork& task, std::uint32_t index) noexcept;
  // With the mutex held: false when there is nothing to read, or somebody else does.
  bool claim(std::uint32_t index, Done& done) noexcept;
  void load(const Done& done) noexcept;
  // With the mutex held.
  void let_go(const Done& done) noexcept;

  // There too, at what the server reports (process_pool_reports.hpp).

  // False: there will be no more, though there should be.
  bool receive_reports();
  // No process could be had. With others at work that is bearable, else not.
  void worker_missing(const posix::ForkReport& report);
  void worker_ended(const posix::ForkReport& report);
  // What the task in a slot calls.
  std::string called_in(std::uint32_t index) const;
  TaskTimeout timed_out(std::uint32_t index, const posix::ForkReport& report) const;
  WorkerCrashed crashed(std::uint32_t index, const posix::CrashRecord& crash,
                        const posix::ForkReport& report) const;
  void give_up(const char* reason) noexcept;

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
  Backlog backlog_;
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

#include "process_pool_collector.hpp"
#include "process_pool_reports.hpp"
