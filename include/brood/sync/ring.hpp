// SPDX-License-Identifier: MIT
// A queue of messages in shared memory that any of its users may leave by SIGKILL at any
// instruction. (After the two-lock queue of Michael and Scott, PODC 1996, with robust locks.)
//
// What           | who may change it      | how it becomes true for the others
// ---------------+------------------------+----------------------------------------------------
// records        | holder of `producers`  | written first, then published by the store of tail
// tail           | holder of `producers`  | one store, for one record or a batch
// head           | holder of `consumers`  | one store, after the payloads were copied out: the take
// a segment      | holder of `consumers`  | freed after head's store
// items event    | holder of `producers`  | made readable BEFORE tail's store, if its flag says no
//                | holder of both locks   | cleared when the ring is seen empty, the flag first
// room event     | holder of `consumers`  | made readable BEFORE head's store, if its flag says no
//                | holder of both locks   | cleared when the ring is seen full, the flag first
//
// Whoever dies before a store has changed nothing; whoever dies after it has done it. An event is
// at worst readable with nothing there: who was woken looks under the lock, and clears it then.
// Locks are taken in the order consumers, producers.
//
// Whoever is stopped while it has a lock, by a signal or a debugger, keeps it until it goes on.
// take() finds nothing then, so that a wait with a limit ends by that; the others wait for it.
#pragma once

#include "../posix/event_fd.hpp"
#include "ring_memory.hpp"

namespace brood::sync {

class Ring {
 public:
  enum class Put { done, full };

  /// `bound` is how many records it takes, 0 for any number; `extra` as for RingMemory.
  explicit Ring(std::uint64_t bound, std::size_t extra = 0)
      : memory_{bound, extra}, bound_{bound} {}

  /// That of another process: its memory file, items_fd() and room_fd(). Throws as RingMemory.
  Ring(posix::unique_fd memory, posix::EventFd items, posix::EventFd room, std::size_t extra)
      : memory_{std::move(memory), extra},
        items_{std::move(items)},
        room_{std::move(room)},
        bound_{memory_.control().bound} {}

  /// Appends a record of `size` bytes that `fill(std::byte*)` writes; runs under the producers'
  /// lock, so it must not throw, block or call user code. Throws os::OSError (ENOSPC).
  template <class Fill>
  Put put(std::size_t size, Fill fill) {
    return put_many(1, [&](std::uint64_t, auto append) { fill(append(size)); }) == 1 ? Put::done
                                                                                     : Put::full;
  }

  /// Appends as many of `count` records as there is room for, published by one store, and says how
  /// many. For each, in order, `next(i, append)` is called, which calls `append(size)` for the
  /// place to write to; the same rules as for `fill`. Throws when there is no memory for the first
  /// one.
  template <class Next>
  std::uint64_t put_many(std::uint64_t count, Next next) {
    const ProducersLock lock{*this};
    RingPosition tail = this->tail();
    if (bound_ != 0) {
      const std::uint64_t there = count_with_producers(tail);
      const std::uint64_t room = there < bound_ ? bound_ - there : 0;
      if (count > room) count = room;
    }
    RingControl& shared = memory_.control();
    std::uint64_t done = 0;
    try {
      for (; done < count; ++done) {
        next(done, [&](std::size_t size) {
          const RingPosition at = memory_.place(tail, size);
          tail = memory_.seal(at, size);
          return memory_.payload(at);
        });
      }
    } catch (...) {
      shared.units_leaked.store(1, std::memory_order_relaxed);
      if (done == 0) throw;
    }
    if (done == 0) return 0;
    if (shared.items_signalled.load(std::memory_order_relaxed) == 0) {
      items_.set();
      shared.items_signalled.store(1, std::memory_order_relaxed);
    }
    // Release: pairs with the acquire of tail by consumers and by empty().
    shared.tail.store(tail.word(), std::memory_order_release);
    return done;
  }

  /// Takes the oldest record: `take(const std::byte*, size)` copies it out; the same rules as for
  /// `fill`, but it may throw, which leaves the record. Before that, once a record is known to be
  /// there, `instead()` is asked, and if it returns true the record stays and the result is true.
  /// False when the ring is empty, or a consumer is stopped while it takes something. `woken` says
  /// that the items event was seen readable; it stays so if a producer is stopped while it puts.
  template <class Instead, class Take>
  bool take(bool woken, Instead instead, Take take) {
    bool instead_was_true = false;
    const std::uint64_t taken = take_many(
        woken, 1, [&] { return instead_was_true = instead(); },
        [&](const std::byte* data, std::size_t size) {
          take(data, size);
          return true;
        },
        [](std::uint64_t) {});
    return instead_was_true || taken != 0;
  }

  /// Takes up to `most` of the oldest records, by one store, and says how many. `take` returns
  /// false for a record that is to stay, with all behind it; there may be more than are taken.
  /// `instead` as above. `commit(count)` is told how many are about to be taken.
  template <class Instead, class Take, class Commit>
  std::uint64_t take_many(bool woken, std::uint64_t most, Instead instead, Take take,
                          Commit commit) {
    RingControl& shared = memory_.control();
    if (!woken && !has_more() && empty()) return 0;
    const ConsumersLock lock{*this, Stopped::give_up};
    if (!lock) return 0;
    const RingPosition head = this->head();
    const std::uint64_t oldest = ordinal(head);
    // Before `instead` is asked: what is put after that has to wait.
    while (!has_more(oldest)) {
      const RingPosition tail = this->tail();
      if (tail == head) {
        if (settle_if_empty()) return 0;
      } else if (ordinal(tail) > oldest) {
        published_.store(ordinal(tail), std::memory_order_relaxed);
      } else {
        posix::throw_os_error(EBADMSG, "read a damaged queue");
      }
    }
    const std::uint64_t there = published_.load(std::memory_order_relaxed) - oldest;
    if (most > there) most = there;
    if (instead()) return 0;
    RingPosition at = memory_.follow(head);
    const std::size_t unit = at.unit();
    std::uint64_t count = 0;
    // Stops at the end of the segment, so that there is at most one to be freed.
    while (count < most) {
      if (!memory_.sound(at)) {
        if (count != 0) break;  // a link
        posix::throw_os_error(EBADMSG, "read a damaged queue");
      }
      const auto size = static_cast<std::size_t>(memory_.header(at).size());
      if (!take(static_cast<const std::byte*>(memory_.payload(at)), size)) break;
      at = at.advanced(RingMemory::record_size(size));
      ++count;
    }
    if (count == 0) return 0;
    commit(count);
    if (bound_ != 0 && shared.room_signalled.load(std::memory_order_relaxed) == 0) {
      room_.set();
      shared.room_signalled.store(1, std::memory_order_relaxed);
    }
    // The take. Release: pairs with the acquire of head by producers.
    shared.head.store(at.word(), std::memory_order_release);
    if (unit != head.unit()) memory_.free_segment(head.unit());
    return count;
  }

  /// Nothing lies here. Takes no lock.
  bool empty() const noexcept {
    // Both words may come round to the same place while they are read. Then another record's
    // ordinal lies there.
    for (;;) {
      const RingPosition at = head();
      const std::uint64_t next = atomic_ordinal(at);
      if (tail() != at) return false;
      if (atomic_ordinal(at) == next && head() == at) return true;
    }
  }

  /// Records surely lie here, or did a moment ago. Quicker than empty(), and often false.
  bool has_more() const noexcept { return has_more(atomic_ordinal(head())); }

  /// How many records lie here, exactly.
  std::uint64_t count() {
    const ConsumersLock consumers{*this};
    const ProducersLock producers{*this};
    return ordinal(tail()) - ordinal(head());
  }

  /// Readable while records lie here, and when the last one was taken until settle() or
  /// take(true, ...) finds none.
  int items_fd() const noexcept { return items_.get(); }
  bool items_signalled() const noexcept {
    return memory_.control().items_signalled.load(std::memory_order_relaxed) != 0;
  }
  /// Makes items_fd() unreadable if nothing lies here, unless somebody is stopped as in take().
  void settle() {
    if (!items_signalled() || !empty()) return;
    const ConsumersLock lock{*this, Stopped::give_up};
    if (lock && head() == tail()) settle_if_empty();
  }

  /// Readable when a bounded ring may have room. To wait for room: put(), then expect_room(), and
  /// only if that says so, poll.
  int room_fd() const noexcept { return room_.get(); }

  /// True if the ring is full; from now on room_fd() gets readable with the next take.
  bool expect_room() {
    const ConsumersLock consumers{*this};
    const ProducersLock producers{*this};
    if (bound_ == 0 || ordinal(tail()) - ordinal(head()) < bound_) return false;
    memory_.control().room_signalled.store(0, std::memory_order_relaxed);
    room_.clear();
    return true;
  }

  std::uint64_t bound() const noexcept { return bound_; }
  RingMemory& memory() noexcept { return memory_; }
  const RingMemory& memory() const noexcept { return memory_; }

 private:
  using Stopped = posix::RobustMutex::Stopped;

  struct ProducersLock : posix::RobustLock {
    explicit ProducersLock(Ring& ring, const posix::Deadline& deadline = posix::Deadline{forever})
        : RobustLock{ring.memory_.control().producers, deadline,
                     [&ring] { ring.repair_producers(); }} {}
  };
  struct ConsumersLock : posix::RobustLock {
    explicit ConsumersLock(Ring& ring, Stopped stopped = Stopped::wait)
        : RobustLock{ring.memory_.control().consumers, posix::Deadline{forever},
                     [&ring] { ring.repair_consumers(); }, stopped} {}
  };

  RingPosition head() const noexcept {
    return RingPosition{memory_.control().head.load(std::memory_order_acquire)};
  }
  RingPosition tail() const noexcept {
    return RingPosition{memory_.control().tail.load(std::memory_order_acquire)};
  }

  std::uint64_t ordinal(RingPosition at) const noexcept { return memory_.header(at).ordinal; }

  bool has_more(std::uint64_t oldest) const noexcept {
    return oldest < published_.load(std::memory_order_relaxed);
  }

  // That of a place where a producer may write meanwhile.
  std::uint64_t atomic_ordinal(RingPosition at) const noexcept {
    return std::atomic_ref{memory_.header(at).ordinal}.load(std::memory_order_acquire);
  }

  // The head may move on meanwhile, even out of its segment: then it is read again. It can't come
  // back to where it was, as only a producer could reuse the place.
  std::uint64_t count_with_producers(RingPosition tail) const noexcept {
    for (;;) {
      const RingPosition before = head();
      const std::uint64_t oldest = atomic_ordinal(before);
      if (head() == before) return ordinal(tail) - oldest;
    }
  }

  // With the consumers' lock held: false if something came. A producer of a stream has its lock
  // nearly always, and whoever waits for that hardly ever gets it; but then there is something to
  // take long since. So this looks now and then, ever more seldom. It gives up when a producer
  // must have been stopped: nothing lies here then, though the event is as it was.
  bool settle_if_empty() {
    for (std::int64_t step = first_step;; step *= 2) {
      const ProducersLock lock{*this, posix::Deadline{std::chrono::nanoseconds{step}}};
      const RingPosition at = tail();
      if (head() != at) return false;
      if (!lock && step < longest_step) continue;
      if (!lock) return true;
      memory_.control().items_signalled.store(0, std::memory_order_relaxed);
      items_.clear();
      memory_.tidy_empty(at);
      return true;
    }
  }

  void repair_producers() noexcept {
    RingControl& shared = memory_.control();
    shared.items_signalled.store(0, std::memory_order_relaxed);
    if (empty()) {
      items_.clear();
    } else {
      items_.set();
      shared.items_signalled.store(1, std::memory_order_relaxed);
    }
    shared.units_leaked.store(1, std::memory_order_relaxed);
  }
  void repair_consumers() noexcept {
    RingControl& shared = memory_.control();
    room_.set();
    shared.room_signalled.store(1, std::memory_order_relaxed);
    shared.units_leaked.store(1, std::memory_order_relaxed);
  }

  static constexpr std::int64_t first_step = 50'000, longest_step = 100'000'000;  // nanoseconds

  RingMemory memory_;
  posix::EventFd items_;
  posix::EventFd room_;
  const std::uint64_t bound_;
  // The ordinal of a tail that was seen here: what comes before it lies there, or has been taken.
  // (The word of the tail itself is busy: producers write it.) Stored with the consumers' lock
  // held.
  std::atomic<std::uint64_t> published_{0};
};

}  // namespace brood::sync
