// SPDX-License-Identifier: MIT
// The collector thread of a process pool: results, time limits, memory that is given back.
#pragma once

#include "process_pool_core.hpp"

namespace brood::futures {

inline void ProcessPoolCore::collect_until_finished() noexcept {
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

inline bool ProcessPoolCore::collect_or_give_up() noexcept {
  try {
    return collect_once();
  } catch (const std::exception& error) {
    give_up(error.what());
    return true;  // a waiting thread may still have a result in hand
  }
}

inline bool ProcessPoolCore::collect_once() {
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
    if (shut_down_ && backlog_.empty() && !draining_) {
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

inline std::int64_t ProcessPoolCore::now() noexcept {
  return posix::Deadline::clock::now().time_since_epoch().count();
}

inline std::int64_t ProcessPoolCore::expire_tasks() {
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
    else if (slot.word.compare_exchange_strong(word,
                                               SlotWord::make(word >> 16, Phase::expired, worker)))
      server_.kill_tree(worker);
  }
  return first_end_;
}

inline std::int64_t ProcessPoolCore::trim_arena() noexcept {
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

inline bool ProcessPoolCore::results_wait() const noexcept {
  for (const auto& bits : table_.shared().done)
    if (bits.load() != 0) return true;
  return false;
}

inline bool ProcessPoolCore::collect_results() noexcept {
  collected_.clear();
  for (std::uint32_t i = 0; i < TaskTable::slots / 64; ++i) {
    auto& word = table_.shared().done[i];
    if (word.load(std::memory_order_relaxed) == 0) continue;
    for (std::uint64_t bits = word.exchange(0); bits != 0; bits &= bits - 1)
      collected_.push_back(i * 64 + static_cast<std::uint32_t>(__builtin_ctzll(bits)));
  }
  return collect(collected_);
}

inline bool ProcessPoolCore::collect(const posix::List<std::uint32_t>& slots) noexcept {
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

inline void ProcessPoolCore::collect_one(RemoteWork& task, std::uint32_t index) noexcept {
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
    work_waits = !backlog_.empty();
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

inline bool ProcessPoolCore::claim(std::uint32_t index, Done& done) noexcept {
  const Slot& slot = table_.slot(index);
  const std::uint64_t word = slot.word.load(std::memory_order_acquire);
  InSlot& in_slot = in_slot_[index];
  if (SlotWord::phase(word) != Phase::done || in_slot.task == nullptr || in_slot.claimed)
    return false;
  const Place result = slot.result;
  done = {in_slot.task, index, result, slot.outcome, table_.holds(result, SlotWord::worker(word))};
  if (done.sound) table_.take_over(result);
  in_slot.claimed = true;
  return true;
}

inline void ProcessPoolCore::load(const Done& done) noexcept {
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

inline void ProcessPoolCore::let_go(const Done& done) noexcept {
  if (done.sound) free_place(done.result);
  free_slot(done.slot);
  --unfinished_;
  deaths_in_a_row_ = 0;
  if (!backlog_.empty()) publish_backlog();
}

}  // namespace brood::futures
