// SPDX-License-Identifier: MIT
// The shared memory between a process pool and its workers: tasks on their way out, results on
// their way back.
//
// A task lies in a slot. The slot's one word holds the task's ticket, its worker and its phase:
//
// phase   | next            | who moves it on, and how
// --------+-----------------+-----------------------------------------------------------------
// free    | ready           | the pool: fills the slot, stores the word, then queues the ticket
// ready   | taken by W      | worker W, by one compare-and-swap that carries its own number
//         | free            | the pool, by compare-and-swap: cancelled
// taken   | done            | worker W, by compare-and-swap, with the result in place
//         | expired         | the pool, by compare-and-swap: its time is over
//         | free            | the pool, once W is known to be dead: crashed
// done    | free            | the pool, after it has read the result
// expired | free            | the pool, once W, which it kills, is known to be dead
//
// So whatever instruction a worker dies at, its number in the word tells what died with it; no lock
// is left held, and nobody else's task is touched.
//
// Tickets are handed out in order, through a ring of (ticket, slot) entries and one shared cursor.
// Everybody may push the cursor past an entry whose slot is no longer ready for that ticket; so a
// worker that dies between taking a task and moving the cursor stops nobody.
//
// Arguments and results too large for a slot lie in an arena of 64 KiB units, each marked with its
// owner (the pool, or a worker); what a dead worker had claimed is freed by its mark. The pool
// believes no place that a worker names before it has looked whether it lies in the table. While it
// gives memory back, which `trims` tells by an odd number, it holds units that are free: who finds
// no room meanwhile waits for the end of that, which is short, and looks again.
//
// Sleep and wake. A worker that finds nothing sets its bit in `sleepers`, looks again, and sleeps
// on its own word. notify() wakes one sleeper: it names it in `waking`, takes its bit away and
// wakes it. While `waking` names somebody no other wake is sent: the one named clears the word,
// looks, and wakes the next one if there is more. (At most one wake in flight: measured as ten
// times the throughput.) Who wakes by itself takes its own bit away; a notifier that comes too late
// for the bit takes the name back and looks for another sleeper. When somebody dies, whatever it
// left undone here is made good by clearing `waking` and waking everybody once. What is written on
// one side and looked at on the other (the ring, `sleepers`, `waking`, `looking`; a slot's word,
// `waiter`; `done`, `collector_asleep`; `started`, `collector_alarm`) is accessed in sequentially
// consistent order throughout: whoever writes first and then looks is seen, or sees.
//
// A worker that finds nothing looks out for a moment before it sleeps (see sync/patience.hpp), one
// of them at a time, which `looking` names: meanwhile no wake is sent. It takes its name back
// before it takes a task, or before it looks for the last time and sleeps.
//
// Who is told of a result. A thread that waits for one task is told by the worker itself, through
// `waiter` in the slot, and collects that result. All others are collected by the pool's thread,
// which the worker tells by a bit in `done`, and wakes if it sleeps.
//
// waiter | next   | who, and when
// -------+--------+----------------------------------------------------------------------------
// none   | awake  | the thread, under the pool's mutex, while the task is in the slot
// awake  | asleep | the thread: it has looked out long enough and sleeps on this word
//        | none   | the worker, after `done`: the result is the thread's to collect
// asleep | told   | the worker, after `done`; then it wakes the thread
//        | none   | the thread: its time is up, the result will be the pool's
// told   | none   | the thread: the result is its to collect
// any    | none   | the pool, under its mutex: the task has left the slot (a crash, a limit,
//        |        | cancelled, the pool broken). It wakes who is asleep or told; the thread goes
//        |        | on to wait as others do
//
// It carries the task's ticket, so that a worker that comes late, when the slot holds another task,
// takes nobody's waiter away. A worker that dies before it has woken the thread leaves that to the
// pool, which collects what it has done.
//
// Time limits. A task's clock starts in the worker, and the pool's collector sleeps no longer than
// until the first of the running tasks has to end. It tells that moment in `collector_alarm`; a
// worker that begins with a task that has to end before it wakes the collector.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "../crossing_function.hpp"
#include "../os.hpp"
#include "../posix/crash_record.hpp"
#include "../posix/event_fd.hpp"
#include "../posix/file_identity.hpp"
#include "../posix/fork.hpp"
#include "../posix/futex.hpp"
#include "../posix/mapping.hpp"
#include "../posix/memory_limit.hpp"
#include "../posix/robust_mutex.hpp"
#include "../sync/patience.hpp"
#include "remote_call.hpp"
#include "remote_exception.hpp"

namespace brood::futures {

/// What a process pool has each worker call first.
using Initializer = CrossingFunction;

enum class Phase : std::uint64_t { free, ready, taken, done, expired };

/// The word of a slot.
struct SlotWord {
  static constexpr std::uint64_t make(std::uint64_t ticket, Phase phase,
                                      std::uint64_t worker = 0) noexcept {
    return ticket << 16 | worker << 4 | static_cast<std::uint64_t>(phase);
  }
  static constexpr Phase phase(std::uint64_t word) noexcept {
    return static_cast<Phase>(word & 15);
  }
  static constexpr std::uint32_t worker(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word >> 4 & 0xfff);
  }
};

/// A slot's `waiter`: nobody, or one who waits for the task of that ticket.
struct SlotWaiter {
  static constexpr std::uint32_t none = 0;
  static constexpr std::uint32_t awake(std::uint64_t ticket) noexcept {
    return static_cast<std::uint32_t>(ticket) << 2 | 1;
  }
  static constexpr std::uint32_t asleep(std::uint64_t ticket) noexcept { return awake(ticket) | 2; }
  static constexpr std::uint32_t told(std::uint64_t ticket) noexcept {
    return asleep(ticket) & ~std::uint32_t{1};
  }
  /// Whether that one may have to be woken.
  static constexpr bool sleeps(std::uint32_t waiter) noexcept { return (waiter & 2) != 0; }
};

/// Where bytes lie: in the slot itself, or in the arena.
struct Place {
  static constexpr std::uint32_t in_slot = ~std::uint32_t{0};
  std::uint64_t size;
  std::uint32_t unit;
};

enum class Outcome : std::uint32_t { value, exception };

struct alignas(64) Slot {
  std::atomic<std::uint64_t> word;
  posix::CodePlace entry;
  Place args;
  Place result;
  Outcome outcome;
  std::atomic<std::uint32_t> waiter;  // slept on
  std::atomic<std::int64_t> started;  // nanoseconds of CLOCK_MONOTONIC; 0: not yet
  std::int64_t limit;                 // how many more it may run; no_limit: as long as it likes
  char small[176];                    // arguments; once they are read, the result
  static constexpr std::int64_t no_limit = INT64_MAX;

  /// The moment when a task that started then has to end.
  static constexpr std::int64_t end_of(std::int64_t started, std::int64_t limit) noexcept {
    return limit < no_limit - started ? started + limit : no_limit;
  }
};

struct alignas(64) WorkerCell {
  enum class Failed : std::uint32_t { no, in_its_limits, in_the_initializer };
  std::atomic<std::uint32_t> wake;  // slept on
  std::atomic<Failed> failed;       // if so, `text` says what was thrown
  std::atomic<std::uint32_t> left;  // 1: it went by itself, between two tasks
  std::atomic<std::int32_t> pid;    // 0: not started yet
  char text[256];
  posix::CrashRecord crash;
};

class TaskTable {
 public:
  static constexpr std::uint32_t slots = 1024;  // a power of two; of the ring too
  static constexpr std::uint32_t max_workers = 4095;
  static constexpr std::size_t unit_size = std::size_t{1} << 16;
  static constexpr std::size_t large = std::size_t{1} << 20;  // arguments: written in the arena
  // The owner of a unit: worker w is w + 1.
  static constexpr std::uint16_t free = 0, pool = 0x1fff, free_and_warm = 0x4000;
  static constexpr std::uint16_t bare = 0x2000;  // beside the owner: has not all of its memory yet

  struct Shared {
    alignas(64) std::atomic<std::uint64_t> cursor;  // the next ticket to be taken
    alignas(64) std::atomic<std::uint32_t> waking;
    std::atomic<std::uint32_t> looking;  // the worker that looks out for a task, plus 1
    std::atomic<std::uint32_t> stop;     // a worker that finds nothing to take leaves
    std::uint32_t several_processors;    // 1: looking out may be worth it
    std::atomic<std::uint64_t> sleepers[(max_workers + 63) / 64];
    alignas(64) std::atomic<std::uint32_t> collector_asleep;
    std::atomic<std::int64_t> collector_alarm;                // when it wakes by itself
    alignas(64) std::atomic<std::uint64_t> done[slots / 64];  // slots to look at
    alignas(64) std::atomic<std::uint64_t> ring[slots];       // ticket << 16 | slot
    std::atomic<std::uint32_t> lowest_unit;                   // where a search starts: a hint
    std::atomic<std::uint32_t> used_units;                    // beyond these none was ever claimed
    std::atomic<std::uint32_t> trims;                         // odd: one is under way; slept on
    posix::RobustMutex search;                                // guards a search for several units
  };

  explicit TaskTable(std::uint32_t workers) : workers_{workers} {
    for (units_ = 1u << 18;; units_ /= 8) {  // 16 GiB of address space, or what is to be had
      try {
        file_ = posix::make_memory_file("brood-tasks", size());
        mapping_ = posix::Mapping{file_.get(), size()};
        break;
      } catch (const os::OSError&) {
        if (units_ < 1024) throw;
      }
    }
    if (const int error = posix::reserve_memory(file_.get(), 0, base()))
      posix::throw_os_error(error, "reserve memory for a process pool");
    lay_out();
    new (shared_) Shared{};
    shared_->cursor.store(1, std::memory_order_relaxed);  // 0 is in no entry of a fresh ring
    shared_->several_processors = sync::several_processors();
  }

  /// What another process needs to have the same table: these and the two descriptors.
  struct Extent {
    std::uint32_t workers, units;
  };
  Extent extent() const noexcept { return {workers_, units_}; }
  int file() const noexcept { return file_.get(); }

  /// The table that another process has made. Throws SerializationError when it is not what that
  /// one has said, os::OSError.
  TaskTable(Extent extent, posix::unique_fd file, posix::EventFd done_event)
      : workers_{extent.workers},
        units_{extent.units},
        file_{std::move(file)},
        done_event_{std::move(done_event)} {
    if (workers_ > max_workers || posix::file_size(file_.get()) != size())
      serialization::throw_error("the memory of a process pool has another size");
    mapping_ = posix::Mapping{file_.get(), size()};
    lay_out();
  }

  Shared& shared() const noexcept { return *shared_; }
  Slot& slot(std::uint32_t index) const noexcept { return slots_[index]; }
  WorkerCell& cell(std::uint32_t worker) const noexcept { return cells_[worker]; }
  std::uint32_t workers() const noexcept { return workers_; }
  const posix::EventFd& done_event() const noexcept { return done_event_; }

  // Arena.

  char* bytes(std::uint32_t unit) const noexcept {
    return reinterpret_cast<char*>(mapping_.data()) + base() + std::size_t{unit} * unit_size;
  }

  std::uint32_t units() const noexcept { return units_; }

  /// Claims room for `size` bytes below unit `end`; empty when there is none. Throws os::OSError
  /// when the machine has no memory left.
  std::optional<std::uint32_t> claim_units(std::size_t size, std::uint16_t owner,
                                           std::size_t end = SIZE_MAX) {
    const std::size_t count = (size + unit_size - 1) / unit_size;
    end = std::min<std::size_t>(end, units_);
    if (count > end) return std::nullopt;
    std::optional<std::uint32_t> first;
    if (count == 1) first = search(end, count, owner);
    if (!first) {
      // What a search has claimed on its way and lets go again is in the way of others. One who is
      // stopped meanwhile is waited for no longer than that.
      const posix::RobustLock alone{shared_->search, posix::Deadline{posix::RobustMutex::watchdog},
                                    posix::NoRepair{}};
      first = search(end, count, owner);
    }
    if (!first) return std::nullopt;
    shared_->lowest_unit.store(static_cast<std::uint32_t>(*first + count), relaxed);
    if (const int error = reserve(*first, size)) {
      free_units(*first, size);
      posix::throw_os_error(error, error == EBADF
                                       ? "reserve memory for a task's data: something has closed "
                                         "the descriptor that the pool has for it"
                                       : "reserve memory for a task's data");
    }
    return *first;
  }

  /// Units that lie far out go back to the machine; the others stay warm until trim().
  void free_units(std::uint32_t first, std::size_t size) noexcept {
    const std::size_t count = (size + unit_size - 1) / unit_size;
    const bool warm = first + count <= warm_units || !release(first, first + count);
    for (std::size_t i = first; i < first + count; ++i) {
      const bool has_memory = warm && (owners_[i].load(relaxed) & bare) == 0;
      owners_[i].store(has_memory ? free_and_warm : free, std::memory_order_release);
    }
    lower_hint(first);
  }

  /// Gives back the memory of all units that are free. By one thread of the pool at a time.
  void trim() noexcept {
    shared_->trims.fetch_add(1);
    const std::uint32_t used = std::min(shared_->used_units.load(), units_);
    for (std::uint32_t unit = 0; unit < used; ++unit) {
      const std::uint32_t first = unit;
      while (unit < used && claim_free(unit, pool)) ++unit;
      if (first == unit) continue;
      const bool released = release(first, unit);
      for (std::uint32_t i = first; i < unit; ++i) {
        if (released)
          owners_[i].store(free, std::memory_order_release);
        else
          unclaim(i);
      }
      lower_hint(first);
    }
    shared_->trims.fetch_add(1);
    posix::futex_wake(shared_->trims, INT_MAX, posix::Scope::process_shared);
  }

  /// What `worker` had claimed there is the pool's now: it stays when that one is dead.
  void take_over(const Place& place) noexcept {
    if (place.unit == Place::in_slot) return;
    const std::size_t count = (static_cast<std::size_t>(place.size) + unit_size - 1) / unit_size;
    for (std::size_t i = 0; i < count; ++i)
      owners_[place.unit + i].store(
          static_cast<std::uint16_t>(pool | (owners_[place.unit + i].load(relaxed) & bare)),
          relaxed);
  }

  /// Frees all that `worker` had claimed. When it is dead and its done slots have been read.
  void free_units_of(std::uint32_t worker) noexcept {
    const auto owner = static_cast<std::uint16_t>(worker + 1);
    const std::uint32_t used = std::min(shared_->used_units.load(), units_);
    for (std::uint32_t i = 0; i < used; ++i)
      if ((owners_[i].load(relaxed) & ~unsigned{bare}) == owner) free_units(i, unit_size);
  }

  /// Whether a result that `worker` says it has put there lies there.
  bool holds(const Place& place, std::uint32_t worker) const noexcept {
    if (place.unit == Place::in_slot) return place.size <= sizeof Slot::small;
    if (place.unit >= units_ || place.size > std::uint64_t{units_ - place.unit} * unit_size)
      return false;
    const std::size_t count = (static_cast<std::size_t>(place.size) + unit_size - 1) / unit_size;
    for (std::size_t i = 0; i < count; ++i)
      if ((owners_[place.unit + i].load(relaxed) & ~unsigned{bare}) != worker + 1) return false;
    return true;
  }

  // Wakes.

  /// Wakes a sleeping worker unless one is being woken, or looks out. After publishing work.
  void notify() noexcept {
    while (shared_->looking.load() == 0 && shared_->waking.load() == 0) {
      const auto worker = find_sleeper();
      if (!worker) return;
      std::uint32_t nobody = 0;
      if (!shared_->waking.compare_exchange_strong(nobody, *worker + 1)) return;
      if ((sleeper_word(*worker).fetch_and(~sleeper_bit(*worker)) & sleeper_bit(*worker)) != 0) {
        wake(*worker);
        return;
      }
      std::uint32_t named = *worker + 1;
      shared_->waking.compare_exchange_strong(named, 0);
    }
  }

  void wake_all() noexcept {
    for (std::uint32_t worker = 0; worker < workers_; ++worker) wake(worker);
  }

  /// Makes good what a dead worker may have left undone in the protocol above.
  void bury(std::uint32_t worker) noexcept {
    sleeper_word(worker).fetch_and(~sleeper_bit(worker));
    stop_looking(worker);
    shared_->waking.store(0);
    wake_all();
  }

  // Who waits for one task.

  /// Before: the waiter is `awake` in the slot. Waits for the end of the task of that ticket. False
  /// when the deadline came first; the waiter is gone then, and was not told. Else the task is done
  /// or has left the slot.
  bool wait_for(Slot& slot, std::uint64_t ticket, sync::Patience& patience,
                const posix::Deadline& deadline) noexcept {
    std::uint32_t expected = SlotWaiter::awake(ticket);
    if (patience.look([&] { return slot.waiter.load() != expected; })) return true;
    const std::uint32_t asleep = SlotWaiter::asleep(ticket);
    if (!slot.waiter.compare_exchange_strong(expected, asleep)) return true;
    while (slot.waiter.load() == asleep) {
      if (posix::futex_wait(slot.waiter, asleep, deadline, posix::Scope::process_shared)) continue;
      expected = asleep;
      if (slot.waiter.compare_exchange_strong(expected, SlotWaiter::none)) return false;
    }
    expected = SlotWaiter::told(ticket);
    slot.waiter.compare_exchange_strong(expected, SlotWaiter::none);
    return true;
  }

  /// The task has left the slot. With the pool's mutex held.
  void dismiss_waiter(Slot& slot) noexcept {
    if (slot.waiter.load() != SlotWaiter::none &&
        SlotWaiter::sleeps(slot.waiter.exchange(SlotWaiter::none)))
      wake_waiter(slot);
  }

  // A worker's side.

  /// Looks out for work, if nobody else does. For a moment.
  void look_out(std::uint32_t worker, sync::Patience& patience) noexcept {
    std::uint32_t nobody = 0;
    if (!shared_->looking.compare_exchange_strong(nobody, worker + 1)) return;
    patience.look([&] { return work_waits() || shared_->stop.load() != 0; });
    stop_looking(worker);
  }

  /// Takes the next task; null if there is none. `worker` is the taker.
  Slot* take(std::uint32_t worker) noexcept {
    for (;;) {
      std::uint64_t ticket = shared_->cursor.load();
      const std::uint64_t entry = ring_entry(ticket).load();
      if (entry >> 16 < ticket) return nullptr;
      if (entry >> 16 == ticket) {
        Slot& slot = slots_[entry & 0xffff];
        std::uint64_t word = SlotWord::make(ticket, Phase::ready);
        if (slot.word.compare_exchange_strong(word, SlotWord::make(ticket, Phase::taken, worker),
                                              std::memory_order_acq_rel)) {
          shared_->cursor.compare_exchange_strong(ticket, ticket + 1);
          return &slot;
        }
      }
      shared_->cursor.compare_exchange_strong(ticket, ticket + 1);
    }
  }

  /// For the pool: pushes the cursor past what was withdrawn, of the tickets before `next`. Workers
  /// do so only when they look for a task.
  void skip_withdrawn(std::uint64_t next) noexcept {
    for (;;) {
      std::uint64_t ticket = shared_->cursor.load();
      if (ticket >= next) return;
      const std::uint64_t entry = ring_entry(ticket).load();
      if (entry >> 16 == ticket &&
          slots_[entry & 0xffff].word.load() == SlotWord::make(ticket, Phase::ready))
        return;
      shared_->cursor.compare_exchange_strong(ticket, ticket + 1);
    }
  }

  bool work_waits() const noexcept {
    const std::uint64_t ticket = shared_->cursor.load();
    return ring_entry(ticket).load() >> 16 >= ticket;
  }

  /// Sleeps until there may be work, or the pool stops.
  void sleep(std::uint32_t worker) noexcept {
    const std::uint32_t before = cells_[worker].wake.load();
    sleeper_word(worker).fetch_or(sleeper_bit(worker));
    if (!work_waits() && shared_->stop.load() == 0)
      posix::futex_wait(cells_[worker].wake, before, posix::Deadline{forever},
                        posix::Scope::process_shared);
    sleeper_word(worker).fetch_and(~sleeper_bit(worker));
    std::uint32_t named = worker + 1;  // if it was notified, the next wake may be sent
    shared_->waking.compare_exchange_strong(named, 0);
  }

  /// The call begins now.
  void begin(Slot& slot) noexcept {
    const std::int64_t now = posix::Deadline::clock::now().time_since_epoch().count();
    if (slot.limit == Slot::no_limit) {
      slot.started.store(now, std::memory_order_relaxed);
      return;
    }
    slot.started.store(now);
    if (Slot::end_of(now, slot.limit) < shared_->collector_alarm.load()) wake_collector();
  }

  /// The result is in the slot: tells the pool. False: too late, the worker will be killed.
  bool finish(Slot& slot, std::uint64_t ticket, std::uint32_t worker) noexcept {
    std::uint64_t word = SlotWord::make(ticket, Phase::taken, worker);
    if (!slot.word.compare_exchange_strong(word, SlotWord::make(ticket, Phase::done, worker),
                                           std::memory_order_seq_cst, std::memory_order_relaxed))
      return false;
    std::uint32_t waiter = SlotWaiter::awake(ticket);
    if (slot.waiter.compare_exchange_strong(waiter, SlotWaiter::none)) return true;
    if (waiter == SlotWaiter::asleep(ticket) &&
        slot.waiter.compare_exchange_strong(waiter, SlotWaiter::told(ticket))) {
      wake_waiter(slot);
      return true;
    }
    const auto index = static_cast<std::size_t>(&slot - slots_);
    shared_->done[index / 64].fetch_or(std::uint64_t{1} << index % 64);
    wake_collector();
    return true;
  }

  std::atomic<std::uint64_t>& ring_entry(std::uint64_t ticket) const noexcept {
    return shared_->ring[ticket % slots];
  }

 private:
  static constexpr auto relaxed = std::memory_order_relaxed;
  static constexpr std::size_t warm_units = 2080;  // 130 MiB: 64 there, 64 back, and more

  static constexpr std::size_t shared_size = (sizeof(Shared) + 63) / 64 * 64;

  // Where the arena begins.
  std::size_t base() const noexcept {
    const std::size_t fixed = shared_size + slots * sizeof(Slot) + workers_ * sizeof(WorkerCell) +
                              units_ * sizeof(std::uint16_t);
    return (fixed + unit_size - 1) / unit_size * unit_size;
  }
  std::size_t size() const noexcept { return base() + units_ * unit_size; }
  void lay_out() noexcept {
    std::byte* at = mapping_.data();
    shared_ = reinterpret_cast<Shared*>(at);
    at += shared_size;
    slots_ = reinterpret_cast<Slot*>(at);
    at += slots * sizeof(Slot);
    cells_ = reinterpret_cast<WorkerCell*>(at);
    at += workers_ * sizeof(WorkerCell);
    owners_ = reinterpret_cast<std::atomic<std::uint16_t>*>(at);
    file_identity_ = posix::FileIdentity{file_.get()};
    event_identity_ = posix::FileIdentity{done_event_.get()};
  }

  std::optional<std::uint32_t> search(std::size_t end, std::size_t count,
                                      std::uint16_t owner) noexcept {
    for (;;) {
      const std::uint32_t trims = shared_->trims.load();
      const std::uint32_t hint = shared_->lowest_unit.load(relaxed);
      auto first = claim_run(hint, end, count, owner);
      if (!first && hint != 0) first = claim_run(0, end, count, owner);
      if (first || !was_trimmed_since(trims)) return first;
    }
  }
  std::optional<std::uint32_t> claim_run(std::size_t from, std::size_t end, std::size_t count,
                                         std::uint16_t owner) noexcept {
    std::size_t run = 0;
    for (std::size_t unit = from; unit < end; ++unit) {
      if (unit >= shared_->used_units.load(relaxed)) raise_used(static_cast<std::uint32_t>(unit));
      if (claim_free(unit, owner)) {
        if (++run == count) return static_cast<std::uint32_t>(unit + 1 - count);
      } else {
        for (; run != 0; --run) unclaim(unit - run);
      }
    }
    for (; run != 0; --run) unclaim(end - run);
    return std::nullopt;
  }
  // After a search in vain: whether trim() may have been in its way since `trims` was read.
  bool was_trimmed_since(std::uint32_t trims) const noexcept {
    std::uint32_t now = shared_->trims.load();
    for (; now % 2 != 0; now = shared_->trims.load())
      posix::futex_wait(shared_->trims, now, posix::Deadline{forever},
                        posix::Scope::process_shared);
    return now != trims;
  }
  bool claim_free(std::size_t unit, std::uint16_t owner) noexcept {
    // Acquire: who sees trim()'s mark here sees its number in `trims` too.
    std::uint16_t seen = owners_[unit].load(std::memory_order_acquire);
    if (seen != free && seen != free_and_warm) return false;
    const auto claimed = static_cast<std::uint16_t>(seen == free ? owner | bare : owner);
    // Acquire: pairs with the release in free_units. Release: with the acquire above.
    return owners_[unit].compare_exchange_strong(seen, claimed, std::memory_order_acq_rel);
  }
  void unclaim(std::size_t unit) noexcept {
    owners_[unit].store((owners_[unit].load(relaxed) & bare) != 0 ? free : free_and_warm,
                        std::memory_order_release);
  }

  // Takes the memory that claimed units have not. 0, or the errno. What is left of the last one
  // stays bare.
  int reserve(std::uint32_t first, std::size_t size) noexcept {
    const std::size_t end = first + (size + unit_size - 1) / unit_size;
    const std::size_t needed = (size + 4095) / 4096 * 4096;
    for (std::size_t unit = first; unit < end; ++unit) {
      const std::size_t from = unit;
      while (unit < end && (owners_[unit].load(relaxed) & bare) != 0) ++unit;
      if (from == unit) continue;
      if (!file_identity_.is_of(file_.get())) return EBADF;
      const std::size_t to = std::min((unit - first) * unit_size, needed);
      const int error = posix::reserve_memory(file_.get(), base() + from * unit_size,
                                              to - (from - first) * unit_size);
      if (error != 0) return error;
      for (std::size_t i = from; i < unit && (i + 1 - first) * unit_size <= to; ++i)
        owners_[i].store(static_cast<std::uint16_t>(owners_[i].load(relaxed) & ~unsigned{bare}),
                         relaxed);
    }
    return 0;
  }
  // False: it is still there, something has closed the descriptor.
  bool release(std::size_t first, std::size_t end) noexcept {
    if (!file_identity_.is_of(file_.get())) return false;
    posix::release_memory(file_.get(), base() + first * unit_size, (end - first) * unit_size);
    return true;
  }

  // Before a unit is claimed: whoever dies after that has left its mark among the used ones. In
  // steps, as each is a compare-and-swap.
  void raise_used(std::uint32_t unit) noexcept {
    constexpr std::uint32_t step = 64;
    std::uint32_t used = shared_->used_units.load();
    while (used <= unit && !shared_->used_units.compare_exchange_weak(used, unit + step)) {
    }
  }
  void lower_hint(std::uint32_t unit) noexcept {
    if (unit < shared_->lowest_unit.load(std::memory_order_relaxed))
      shared_->lowest_unit.store(unit, std::memory_order_relaxed);
  }

  std::atomic<std::uint64_t>& sleeper_word(std::uint32_t worker) const noexcept {
    return shared_->sleepers[worker / 64];
  }
  static constexpr std::uint64_t sleeper_bit(std::uint32_t worker) noexcept {
    return std::uint64_t{1} << worker % 64;
  }
  std::optional<std::uint32_t> find_sleeper() const noexcept {
    for (std::uint32_t i = 0; i * 64 < workers_; ++i) {
      const std::uint64_t bits = shared_->sleepers[i].load();
      if (bits != 0) return i * 64 + static_cast<std::uint32_t>(__builtin_ctzll(bits));
    }
    return std::nullopt;
  }
  // (A worker's.) A task may have closed its descriptors, and opened files that got their numbers.
  // Such a worker ends instead: its death wakes the collector too.
  void wake_collector() noexcept {
    if (shared_->collector_asleep.load() == 0 || shared_->collector_asleep.exchange(0) == 0) return;
    if (!event_identity_.is_of(done_event_.get())) posix::bound_at_load<&::_exit>(1);
    done_event_.set();
  }
  static void wake_waiter(Slot& slot) noexcept {
    posix::futex_wake(slot.waiter, 1, posix::Scope::process_shared);
  }
  void stop_looking(std::uint32_t worker) noexcept {
    std::uint32_t named = worker + 1;
    shared_->looking.compare_exchange_strong(named, 0);
  }
  void wake(std::uint32_t worker) noexcept {
    cells_[worker].wake.fetch_add(1);
    posix::futex_wake(cells_[worker].wake, 1, posix::Scope::process_shared);
  }

  std::uint32_t workers_;
  std::uint32_t units_ = 0;
  posix::unique_fd file_;
  posix::Mapping mapping_;
  Shared* shared_ = nullptr;
  Slot* slots_ = nullptr;
  WorkerCell* cells_ = nullptr;
  std::atomic<std::uint16_t>* owners_ = nullptr;
  posix::EventFd done_event_;
  posix::FileIdentity file_identity_;
  posix::FileIdentity event_identity_;
};

/// What a worker process does: takes tasks until the pool stops, or until it has done `max_tasks`
/// (0: no limit). It may take `memory` bytes of its own (0: no limit). False if the initializer
/// threw. Its cell then tells what.
class TaskWorker {
 public:
  TaskWorker(TaskTable& table, std::uint32_t worker) noexcept
      : table_{table}, worker_{worker}, patience_{table.shared().several_processors != 0} {}

  bool run(const Initializer& initializer, std::uint32_t max_tasks, std::size_t memory) noexcept {
    table_.cell(worker_).pid.store(posix::this_pid());
    posix::CrashRecorder::record_to(table_.cell(worker_).crash);
    if (!initialize(initializer, memory)) return false;
    for (std::uint32_t done = 0; max_tasks == 0 || done < max_tasks; ++done) {
      Slot* const slot = wait_for_task();
      if (slot == nullptr) break;
      if (table_.work_waits()) table_.notify();
      if (!perform(*slot))
        for (;;) ::pause();  // until it is killed
    }
    table_.cell(worker_).left.store(1, std::memory_order_release);
    return true;
  }

 private:
  // Null: the pool stops.
  Slot* wait_for_task() noexcept {
    for (;;) {
      if (Slot* const slot = table_.take(worker_)) return slot;
      if (table_.shared().stop.load() != 0) return nullptr;
      table_.look_out(worker_, patience_);
      if (!table_.work_waits()) table_.sleep(worker_);
    }
  }

  bool initialize(const Initializer& initializer, std::size_t memory) noexcept {
    auto step = WorkerCell::Failed::in_its_limits;
    try {
      if (memory != 0) posix::limit_private_memory(memory);
      step = WorkerCell::Failed::in_the_initializer;
      if (initializer) initializer();
      return true;
    } catch (...) {
      WorkerCell& cell = table_.cell(worker_);
      const std::string text = posix::describe(std::current_exception());
      const std::size_t size = std::min(text.size(), sizeof cell.text - 1);
      std::memcpy(cell.text, text.data(), size);
      cell.text[size] = '\0';
      cell.failed.store(step, std::memory_order_release);
      return false;
    }
  }

  // False: its time was over.
  bool perform(Slot& slot) noexcept {
    const std::uint64_t ticket = slot.word.load(std::memory_order_relaxed) >> 16;
    table_.begin(slot);
    Sink sink{*this, slot};
    slot.result = {0, Place::in_slot};
    slot.outcome = Outcome::value;
    std::exception_ptr error;
    try {
      if (slot.entry != place_ || known_ == nullptr) known_ = RemoteEntry::at(slot.entry);
      place_ = slot.entry;
      if (known_ == nullptr) throw_not_loaded();
      const std::string_view args{
          slot.args.unit == Place::in_slot ? slot.small : table_.bytes(slot.args.unit),
          static_cast<std::size_t>(slot.args.size)};
      serialization::Reader in{args};
      known_->function()(in, sink);
    } catch (...) {
      error = std::current_exception();
    }
    if (error) report(slot, sink, error);
    return table_.finish(slot, ticket, worker_);
  }

  class Sink final : public ByteSink {
   public:
    Sink(TaskWorker& worker, Slot& slot) noexcept : worker_{worker}, slot_{slot} {}
    char* allocate(std::size_t size) override {
      worker_.end_copies();
      if (size <= sizeof slot_.small) {
        slot_.result = {size, Place::in_slot};
        return slot_.small;
      }
      const auto unit =
          worker_.table_.claim_units(size, static_cast<std::uint16_t>(worker_.worker_ + 1));
      if (!unit) throw std::bad_alloc{};
      slot_.result = {size, *unit};
      return worker_.table_.bytes(*unit);
    }

   private:
    TaskWorker& worker_;
    Slot& slot_;
  };

  // A task may have forked, and the copy have come back from it too: the result is the worker's.
  void end_copies() const noexcept {
    if (posix::this_process() != process_) posix::bound_at_load<&::_exit>(1);
  }

  // An exception takes the place of a result that was begun.
  void report(Slot& slot, Sink& sink, const std::exception_ptr& error) noexcept {
    end_copies();
    if (slot.result.unit != Place::in_slot)
      table_.free_units(slot.result.unit, static_cast<std::size_t>(slot.result.size));
    slot.outcome = Outcome::exception;
    slot.result = {0, Place::in_slot};
    try {
      const std::string bytes = dump_exception(error);
      std::memcpy(sink.allocate(bytes.size()), bytes.data(), bytes.size());
    } catch (...) {  // no memory even for that: an empty exception stands for std::bad_alloc
      slot.result = {0, Place::in_slot};
    }
  }

  TaskTable& table_;
  const std::uint32_t worker_;
  const std::uint64_t process_ = posix::this_process();
  sync::Patience patience_;
  const RemoteEntry* known_ = nullptr;  // the last one, which lies at
  posix::CodePlace place_ = {};
};

}  // namespace brood::futures
