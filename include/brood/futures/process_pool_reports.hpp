// SPDX-License-Identifier: MIT
// What becomes of a process pool's tasks when workers are reported missing or dead.
#pragma once

#include "process_pool_core.hpp"

namespace brood::futures {

inline bool ProcessPoolCore::receive_reports() {
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

inline void ProcessPoolCore::worker_missing(const posix::ForkReport& report) {
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

inline void ProcessPoolCore::worker_ended(const posix::ForkReport& report) {
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
      if ((phase != Phase::taken && phase != Phase::expired) || SlotWord::worker(word) != worker ||
          in_slot_[index].task == nullptr)
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

inline std::string ProcessPoolCore::called_in(std::uint32_t index) const {
  const Place& args = in_slot_[index].args;
  const char* const bytes =
      args.unit == Place::in_slot ? table_.slot(index).small : table_.bytes(args.unit);
  return called_name(in_slot_[index].task->entry_, {bytes, static_cast<std::size_t>(args.size)});
}

inline TaskTimeout ProcessPoolCore::timed_out(std::uint32_t index,
                                              const posix::ForkReport& report) const {
  return {called_in(index), std::chrono::nanoseconds{in_slot_[index].limit}, report.pid};
}

inline WorkerCrashed ProcessPoolCore::crashed(std::uint32_t index, const posix::CrashRecord& crash,
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

inline void ProcessPoolCore::give_up(const char* reason) noexcept {
  WorkList failures;
  {
    const posix::Locked lock{mutex_};
    server_gone_ = true;
    break_pool(reason, failures);
  }
  settle(failures);
}

}  // namespace brood::futures
