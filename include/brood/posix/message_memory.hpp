// SPDX-License-Identifier: MIT
// Memory files in which long messages go to other processes. To make one and fill it takes many
// times what writing to one takes whose pages are there, so a few are kept for messages to come.
//
//   the mark at its start | meaning                       | moved on by
//   ----------------------+-------------------------------+-----------------------------------------
//   free                  | nobody needs what it holds    | its sender, before it sends a message
//   full                  | a message that may be unread  | the receiver, when it has read it
//
// A receiver that is killed leaves it full for ever. So one that is kept takes the place of another
// when there is no more room, be that free or not: who still reads that has its own descriptor.
//
// Each belongs to the process that made it: a forked child lets its copies go. It only gives back
// mapping and descriptor then, and no memory of the heap, whose locks other threads may have held.
// And each serves one connection only: who has received by that may have kept the descriptor, and
// could read what comes after.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "mapping.hpp"

namespace brood::posix {

/// A memory file of which each byte is there and none can be taken away, so that whoever maps it
/// can read it safely. Throws os::OSError.
inline unique_fd make_lasting_file(const char* label, std::size_t size) {
  unique_fd fd = own_new(::memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create");
  set_file_size(fd.get(), size);
  reserve_whole(fd.get(), size);
  check(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
        "seal shared memory");
  return fd;
}

/// Whether a file has `size` bytes and will keep them.
inline bool lasts(int fd, std::uint64_t size) noexcept {
  struct stat file {};
  const int seals = ::fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && ::fstat(fd, &file) == 0 &&
         static_cast<std::uint64_t>(file.st_size) >= size;
}

class MessageMemory {
 public:
  /// Where the message begins.
  static constexpr std::size_t start = 64;

  /// Room for `size` bytes, for the connection of that number. Throws os::OSError.
  MessageMemory(std::size_t size, std::uint64_t connection)
      : connection_{connection},
        file_{make_lasting_file("brood-message", start + size)},
        mapping_{file_.get(), start + size} {
    expect_writing(mapping_.data(), mapping_.size());
  }

  char* data() const noexcept { return reinterpret_cast<char*>(mapping_.data()) + start; }
  /// How long a message may be; 0 after let_go().
  std::size_t room() const noexcept {
    return mapping_.data() == nullptr ? 0 : mapping_.size() - start;
  }
  int fileno() const noexcept { return file_.get(); }

  std::uint64_t connection() const noexcept { return connection_; }

  bool is_free() const noexcept { return mark(mapping_).load(std::memory_order_acquire) == free; }
  void set_full() const noexcept { mark(mapping_).store(full, std::memory_order_relaxed); }
  void set_free() const noexcept { set_free(mapping_); }
  /// In a forked child: it is the parent's alone.
  void let_go() noexcept {
    mapping_ = Mapping{};
    file_.discard();
  }
  /// The same where its message was received.
  static void set_free(const Mapping& mapping) noexcept {
    mark(mapping).store(free, std::memory_order_release);
  }

 private:
  static constexpr std::uint32_t free = 0, full = 1;

  static std::atomic<std::uint32_t>& mark(const Mapping& mapping) noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(mapping.data());
  }

  const std::uint64_t connection_;
  unique_fd file_;
  Mapping mapping_;
};

/// Those that this process keeps, at most eight of at most 4 MiB, as long as it has connections.
/// For any thread at any time; nothing here waits.
class MessageMemories {
 public:
  /// One of that connection that is free and has room for `size` bytes; the caller's until it is
  /// given back. Throws os::OSError.
  static MessageMemory* take(std::size_t size, std::uint64_t connection) {
    if (size <= most)
      for (auto& place : places()) {
        MessageMemory* const memory = place.exchange(nullptr, std::memory_order_acquire);
        if (memory == nullptr) continue;
        if (memory->connection() == connection && memory->room() >= size && memory->is_free())
          return memory;
        put(place, memory);
      }
    // Messages to come may be a little longer.
    constexpr std::size_t grain = std::size_t{1} << 16;
    return new MessageMemory{size > most ? size : (size + grain - 1) / grain * grain, connection};
  }

  /// Back with it, whether a message was sent in it or not: kept, if it is small enough.
  static void give_back(MessageMemory* memory) noexcept {
    if (memory->room() > most || !is_told_of_forks()) {
      delete memory;
      return;
    }
    keep(memory);
    if (users() == 0) let_all_go();  // the last one was closed meanwhile
  }

  /// A connection begins; its number, which no other one gets.
  static std::uint64_t add_user() noexcept {
    static std::atomic<std::uint64_t> last{0};
    users().fetch_add(1);
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  /// One ends: with the last one all that is kept goes.
  static void remove_user() noexcept {
    if (users().fetch_sub(1) == 1) let_all_go();
  }

 private:
  static constexpr std::size_t count = 8;
  static constexpr std::size_t most = std::size_t{4} << 20;
  using Place = std::atomic<MessageMemory*>;

  static void keep(MessageMemory* memory) noexcept {
    static std::atomic<std::size_t> next{0};
    for (auto& place : places()) {
      MessageMemory* none = nullptr;
      if (place.compare_exchange_strong(none, memory)) return;
    }
    put(places()[next.fetch_add(1, std::memory_order_relaxed) % count], memory);
  }
  static void let_all_go() noexcept {
    for (auto& place : places()) put(place, nullptr);
  }

  // None is kept before this has been true. Nobody waits here for another thread, of which a child
  // of fork would know nothing; to be told twice does no harm.
  static bool is_told_of_forks() noexcept {
    static std::atomic<bool> registered{false};
    if (registered.load(std::memory_order_acquire)) return true;
    if (::pthread_atfork(nullptr, nullptr, &leave_all_to_parent) != 0) return false;
    registered.store(true, std::memory_order_release);
    return true;
  }
  static void leave_all_to_parent() noexcept {
    for (auto& place : places())
      if (MessageMemory* const memory = place.load(std::memory_order_relaxed)) memory->let_go();
  }

  // One word each, so that a fork finds them whole whatever other threads do. What one of these has
  // in hand just then is lost to the child.
  static Place (&places() noexcept)[count] {
    static Place all[count] = {};
    return all;
  }
  static std::atomic<std::size_t>& users() noexcept {
    static std::atomic<std::size_t> number{0};
    return number;
  }
  static void put(Place& place, MessageMemory* memory) noexcept { delete place.exchange(memory); }
};

}  // namespace brood::posix
