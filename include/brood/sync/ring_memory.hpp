// SPDX-License-Identifier: MIT
// The memory of a ring: records laid one after another in segments of a shared memory file.
//
//   file:     | control | unit 0 | unit 1 | unit 2 | ...            a unit is 1 MiB and a page, so
//                                                                   that a record of 1 MiB fits
//   segment:  | header | record | record | ... | link |             one unit, or a run of several
//   record:   | size, kind, ordinal | payload ... |                 16-byte aligned
//
// Producers fill a segment from its start. When the next record does not fit, they take a free run
// of units and leave a link to it; when consumers follow a link, they free what lies behind. Fresh
// pages are dearer than all else (a MiB of them costs as much as copying ten), so of the units that
// are freed some keep theirs, and producers take these first: in a stream the same few units, whose
// pages are warm, are used again and again, however far the readers are behind. Beyond that, what a
// backlog took is given back as it drains, and nearly all once the ring is seen empty. (A producer
// that is far ahead is so held up by its own fresh pages, not by its readers.)
//
// The slot after the last record always exists and holds its ordinal already. Hence the number of
// records is the difference of two ordinals, and no counter can be left wrong by a dead process.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#include "../posix/mapping.hpp"
#include "../posix/robust_mutex.hpp"
#include "../serialization/error.hpp"

namespace brood::sync {

/// Where a record lies: a unit, and a byte offset from its start. One word, so that moving on is
/// one store.
class RingPosition {
 public:
  constexpr RingPosition() noexcept = default;
  constexpr explicit RingPosition(std::uint64_t word) noexcept : word_{word} {}
  constexpr RingPosition(std::size_t unit, std::size_t offset) noexcept
      : word_{std::uint64_t{unit} << 40 | offset >> 4} {}

  constexpr std::uint64_t word() const noexcept { return word_; }
  constexpr std::size_t unit() const noexcept { return static_cast<std::size_t>(word_ >> 40); }
  constexpr std::size_t offset() const noexcept {
    return static_cast<std::size_t>((word_ & ((std::uint64_t{1} << 40) - 1)) << 4);
  }
  constexpr RingPosition advanced(std::size_t bytes) const noexcept {
    return {unit(), offset() + bytes};
  }
  friend constexpr bool operator==(RingPosition, RingPosition) noexcept = default;

 private:
  std::uint64_t word_ = 0;
};

enum class RecordKind : std::uint16_t { none = 0, item = 1, link = 2 };

struct RecordHeader {
  std::uint64_t size_and_kind;  // 48 bits of payload size (link: the unit), 16 of RecordKind
  std::uint64_t ordinal;        // how many records came before this one

  void set(RecordKind kind, std::uint64_t size) noexcept {
    size_and_kind = size << 16 | static_cast<std::uint16_t>(kind);
  }
  RecordKind kind() const noexcept { return static_cast<RecordKind>(size_and_kind & 0xffff); }
  std::uint64_t size() const noexcept { return size_and_kind >> 16; }
};

/// The shared words of a ring, at the start of its file. Which lock guards a word, or which store
/// publishes it, stands beside it.
struct RingControl {
  static constexpr std::size_t max_units = 16384;
  static constexpr std::uint64_t is_ring = 0x676e69725f646f62;

  std::uint64_t magic;  // is_ring; this and `bound` are set before anybody else has the file
  std::uint64_t bound;  // how many records there may be, 0: any number
  posix::RobustMutex producers;
  alignas(64) std::atomic<std::uint64_t> tail;  // stored under `producers`: publishes records
  alignas(64) posix::RobustMutex consumers;
  alignas(64) std::atomic<std::uint64_t> head;  // stored under `consumers`: commits a take
  // Whether the descriptor of that name is readable. Set before the store that makes it true,
  // cleared with both locks held.
  alignas(64) std::atomic<std::uint32_t> items_signalled;
  std::atomic<std::uint32_t> room_signalled;
  std::atomic<std::uint32_t> units_leaked;   // somebody died between two steps: sweep when empty
  std::atomic<std::uint32_t> units_touched;  // all above were never used; under `producers`
  std::atomic<std::uint32_t> units_warm;     // free, but with memory; after a death too many
  // 0: free, 1: in use; bit 1: has memory. Taken under `producers`, freed under `consumers`.
  std::atomic<std::uint8_t> units[max_units];
};

class RingMemory {
 public:
  static constexpr std::size_t unit_size = (std::size_t{1} << 20) + 4096;
  // So many units that are free keep their pages: in an empty ring, and at most.
  static constexpr std::uint32_t warm_units = 8, most_warm_units = 32;
  static constexpr std::size_t header_size = sizeof(RecordHeader);
  static_assert(header_size == 16);

  /// Makes a ring's file, with `extra` bytes of control area for the owner behind RingControl.
  RingMemory(std::uint64_t bound, std::size_t extra) : base_{base_for(extra)} {
    // The address space may be limited (ulimit -v): then a smaller ring has to do.
    for (units_ = RingControl::max_units;; units_ /= 8) {
      try {
        file_ = posix::make_memory_file("brood-ring", base_ + units_ * unit_size);
        mapping_ = posix::Mapping{file_.get(), base_ + units_ * unit_size};
        break;
      } catch (const os::OSError&) {
        if (units_ < 64) throw;
      }
    }
    if (const int error = posix::reserve_memory(file_.get(), 0, sizeof(RingControl) + extra))
      posix::throw_os_error(error, "reserve memory for a queue");
    // A first segment of a page that is full from the start: a ring that is never used takes no
    // more.
    if (const int error = posix::reserve_memory(file_.get(), base_, 4096))
      posix::throw_os_error(error, "reserve memory for a queue");
    new (mapping_.data()) RingControl{};
    control().magic = RingControl::is_ring;
    control().bound = bound;
    control().units[0].store(in_use, std::memory_order_relaxed);
    control().units_touched.store(1, std::memory_order_relaxed);
    segment(0) = {1, 0, 2 * header_size};
    const auto first = first_slot(0, 0);
    control().tail.store(first.word(), std::memory_order_relaxed);
    control().head.store(first.word(), std::memory_order_relaxed);
  }

  /// Maps a ring's file that another process has made, with as much `extra`. Throws
  /// SerializationError if it is none, os::OSError (ENOMEM: the address space is limited here).
  RingMemory(posix::unique_fd file, std::size_t extra)
      : base_{base_for(extra)}, file_{std::move(file)} {
    const std::size_t size = posix::file_size(file_.get());
    units_ = size < base_ ? 0 : (size - base_) / unit_size;
    if (units_ == 0 || units_ > RingControl::max_units || size != base_ + units_ * unit_size)
      serialization::throw_error("a queue whose memory is none of a queue");
    mapping_ = posix::Mapping{file_.get(), size};
    const auto inside = [this](const std::atomic<std::uint64_t>& word) {
      const RingPosition at{word.load(std::memory_order_relaxed)};
      return at.unit() < units_ && at.offset() <= (units_ - at.unit()) * unit_size - header_size;
    };
    if (control().magic != RingControl::is_ring || !inside(control().head) ||
        !inside(control().tail))
      serialization::throw_error("a queue whose memory is none of a queue");
  }

  RingControl& control() const noexcept { return *reinterpret_cast<RingControl*>(mapping_.data()); }
  std::byte* extra() const noexcept { return mapping_.data() + sizeof(RingControl); }

  RecordHeader& header(RingPosition at) const noexcept {
    return *reinterpret_cast<RecordHeader*>(address(at));
  }
  std::byte* payload(RingPosition at) const noexcept { return address(at) + header_size; }

  static constexpr std::size_t record_size(std::size_t payload) noexcept {
    return header_size + (payload + 15) / 16 * 16;
  }

  /// The place for a record of `payload` bytes when the tail is at `tail`: there, or at the start
  /// of a new segment, to which a link is left. Throws os::OSError (ENOSPC) when no memory is left.
  /// With the producers' lock held.
  RingPosition place(RingPosition tail, std::size_t payload) {
    const std::size_t needed = record_size(payload) + header_size;  // with the slot after it
    if (tail.offset() + needed <= segment_size(tail.unit())) return tail;
    const std::size_t units = (header_size + needed + unit_size - 1) / unit_size;
    const auto start = open_segment(units, header(tail).ordinal, header_size + needed);
    header(tail).set(RecordKind::link, start.unit());
    return start;
  }

  /// Makes a record of what was written at `at`, and prepares the slot after it, which is returned.
  RingPosition seal(RingPosition at, std::size_t payload) noexcept {
    RecordHeader& record = header(at);
    const auto next = at.advanced(record_size(payload));
    RecordHeader& slot = header(next);
    slot.set(RecordKind::none, 0);
    slot.ordinal = record.ordinal + 1;
    record.set(RecordKind::item, payload);
    return next;
  }

  /// The record at `head`, which must not be the tail: there, or behind the link that lies there.
  RingPosition follow(RingPosition head) const noexcept {
    if (header(head).kind() != RecordKind::link) return head;
    return {static_cast<std::size_t>(header(head).size()), header_size};
  }

  /// Whether a record makes sense where it stands. What lies here was written by other processes:
  /// it is checked before it is believed.
  bool sound(RingPosition at) const noexcept {
    return at.unit() < units_ && at.offset() + header_size <= segment_size(at.unit()) &&
           header(at).kind() == RecordKind::item &&
           header(at).size() <= segment_size(at.unit()) - at.offset() - header_size;
  }

  /// Frees a segment that the head has left. With the consumers' lock held.
  void free_segment(std::size_t unit) noexcept { free_units(unit, segment_units(unit)); }

  /// Gives back what an empty ring does not need. With both locks held.
  void tidy_empty(RingPosition at) noexcept {
    RingControl& shared = control();
    if (shared.units_leaked.exchange(0, std::memory_order_relaxed) != 0) {
      const std::size_t keep_from = at.unit();
      const std::size_t keep_to = keep_from + segment_units(keep_from);
      const std::size_t touched = shared.units_touched.load(std::memory_order_relaxed);
      shared.units_warm.store(0, std::memory_order_relaxed);
      for (std::size_t unit = 0; unit < touched; ++unit)
        if (unit < keep_from || unit >= keep_to) free_units(unit, 1);
    }
    // With the units in which it stands.
    const std::size_t here_units = segment_units(at.unit());
    free_warm_units(here_units <= warm_units ? warm_units + 1 - here_units : 0);
    // The read part of a long segment. Its first page holds the header and stays.
    constexpr std::size_t page = 4096;
    SegmentHeader& here = segment(at.unit());
    const std::size_t from = (1 + std::size_t{here.released}) * page;
    const std::size_t to = at.offset() / page * page;
    if (here.units > 1 && to >= from + unit_size) {
      // The flags first: units that are used again must be reserved again.
      for (std::size_t unit = from / unit_size; unit <= (to - 1) / unit_size; ++unit)
        shared.units[at.unit() + unit].store(in_use, std::memory_order_relaxed);
      posix::release_memory(file_.get(), file_offset(at.unit()) + from, to - from);
      here.released = static_cast<std::uint32_t>(to / page - 1);
    }
  }

  /// The memory file, whose blocks are what the ring takes.
  int file() const noexcept { return file_.get(); }

 private:
  struct SegmentHeader {
    std::uint32_t units;
    std::uint32_t released;  // how many of its pages, from the second one on, were given back
    std::uint64_t size;      // bytes that may be filled, this header among them
  };
  static_assert(sizeof(SegmentHeader) == header_size);

  static constexpr std::size_t base_for(std::size_t extra) noexcept {
    return (sizeof(RingControl) + extra + unit_size - 1) / unit_size * unit_size;
  }

  std::byte* address(RingPosition at) const noexcept {
    return mapping_.data() + file_offset(at.unit()) + at.offset();
  }
  std::size_t file_offset(std::size_t unit) const noexcept { return base_ + unit * unit_size; }
  SegmentHeader& segment(std::size_t unit) const noexcept {
    return *reinterpret_cast<SegmentHeader*>(mapping_.data() + file_offset(unit));
  }
  std::size_t segment_units(std::size_t unit) const noexcept { return segment(unit).units; }
  std::size_t segment_size(std::size_t unit) const noexcept {
    return static_cast<std::size_t>(segment(unit).size);
  }

  // With the producers' lock held.
  RingPosition open_segment(std::size_t units, std::uint64_t ordinal, std::size_t first_bytes) {
    const std::size_t unit = take_units(units, first_bytes);
    segment(unit) = {static_cast<std::uint32_t>(units), 0, units * unit_size};
    return first_slot(unit, ordinal);
  }

  RingPosition first_slot(std::size_t unit, std::uint64_t ordinal) noexcept {
    const RingPosition start{unit, header_size};
    header(start).set(RecordKind::none, 0);
    header(start).ordinal = ordinal;
    return start;
  }

  // A run of units of which the first bytes will be written at once.
  std::size_t take_units(std::size_t count, std::size_t first_bytes) {
    bool fresh = false;
    RingControl& shared = control();
    const bool warm = shared.units_warm.load(relaxed) >= count;
    std::size_t first =
        warm ? find_free(count, shared.units_touched.load(relaxed), has_memory) : units_;
    if (first == units_) first = find_free(count, units_, 0);
    if (first == units_)
      posix::throw_os_error(ENOSPC, "put into a queue that holds as much as it can address");
    const std::size_t end = first + count;
    if (end > shared.units_touched.load(relaxed))
      shared.units_touched.store(static_cast<std::uint32_t>(end), relaxed);
    for (std::size_t unit = first; unit < end; ++unit) {
      if ((shared.units[unit].load(relaxed) & has_memory) != 0) continue;
      const int error = posix::reserve_memory(file_.get(), file_offset(unit), unit_size);
      if (error != 0) posix::throw_os_error(error, "reserve memory for a message in a queue");
      shared.units_warm.fetch_add(1, relaxed);
      shared.units[unit].store(has_memory, relaxed);
      fresh = true;
    }
    for (std::size_t unit = first; unit < end; ++unit) {
      shared.units[unit].store(has_memory | in_use, relaxed);
      shared.units_warm.fetch_sub(1, relaxed);
    }
    if (fresh) posix::expect_writing(mapping_.data() + file_offset(first), first_bytes);
    return first;
  }

  // The lowest run of so many free units below `end`, with those flags; units_ if there is none.
  std::size_t find_free(std::size_t count, std::size_t end, std::uint8_t flags) const noexcept {
    std::size_t run = 0;
    for (std::size_t unit = 0; unit < end; ++unit) {
      // Acquire: pairs with the release in free_units; the reader is done with the pages.
      const std::uint8_t state = control().units[unit].load(std::memory_order_acquire);
      run = (state & in_use) == 0 && (state & flags) == flags ? run + 1 : 0;
      if (run == count) return unit + 1 - count;
    }
    return units_;
  }

  void free_units(std::size_t first, std::size_t count) noexcept {
    RingControl& shared = control();
    for (std::size_t unit = first; unit < first + count; ++unit) {
      std::uint8_t state = shared.units[unit].load(relaxed) & has_memory;
      if (state != 0 && shared.units_warm.load(relaxed) < most_warm_units)
        shared.units_warm.fetch_add(1, relaxed);
      else
        state = release_unit(unit);
      shared.units[unit].store(state, std::memory_order_release);
    }
  }
  // What is left of its state.
  std::uint8_t release_unit(std::size_t unit) noexcept {
    posix::release_memory(file_.get(), file_offset(unit), unit_size);
    return 0;
  }

  // All but so many, with both locks held.
  void free_warm_units(std::size_t kept) noexcept {
    RingControl& shared = control();
    for (std::size_t unit = shared.units_touched.load(relaxed);
         unit-- != 0 && shared.units_warm.load(relaxed) > kept;) {
      if (shared.units[unit].load(relaxed) != has_memory) continue;
      // The flag first, as above.
      shared.units[unit].store(0, relaxed);
      release_unit(unit);
      shared.units_warm.fetch_sub(1, relaxed);
    }
  }

  static constexpr auto relaxed = std::memory_order_relaxed;
  static constexpr std::uint8_t in_use = 1;
  static constexpr std::uint8_t has_memory = 2;

  std::size_t base_;
  std::size_t units_ = 0;
  posix::unique_fd file_;
  posix::Mapping mapping_;
};

}  // namespace brood::sync
