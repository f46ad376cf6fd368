// SPDX-License-Identifier: MIT
// Collects bytes of unknown number and makes one string of them at the end.
//
// A string that grows while it is filled is written twice (zeros first) and copied at each growth.
// Here bytes land once, in chunks that are not initialised, and are copied once, into a string of
// the right size; a gigabyte takes a quarter of the time.
//
// Page faults are the dearest part of a large capture: within a read they even keep the writer out
// of the pipe. So large memory is asked for page by page in one call, MAP_POPULATE or
// MADV_POPULATE_WRITE. (Huge pages need fewer faults. But in a virtual machine that returns free
// memory to its host they are the first to go there, and cost ten times as much to have back.)
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>

namespace brood::posix {

class ByteChunks {
 public:
  static constexpr std::size_t pipe_size = std::size_t{64} << 10;  // what a pipe holds at first

  ByteChunks() noexcept = default;
  ByteChunks(const ByteChunks&) = delete;
  ByteChunks& operator=(const ByteChunks&) = delete;
  ~ByteChunks() {
    while (first_ != nullptr) drop_first();
  }

  struct Space {
    char* data;
    std::size_t size;
  };

  /// Room for more, never empty. What is written there counts after commit(). The first has `first`
  /// bytes: few, as most programs say little, and memory for more is dearer than their words.
  Space space(std::size_t first = small_size) {
    if (last_ == nullptr || last_->used == last_->size) add_chunk(first);
    return {last_->data + last_->used, last_->size - last_->used};
  }
  void commit(std::size_t size) noexcept {
    last_->used += size;
    size_ += size;
  }

  void append(std::string_view text) {
    while (!text.empty()) {
      const Space room = space();
      const std::size_t part = text.copy(room.data, room.size);
      commit(part);
      text.remove_prefix(part);
    }
  }

  std::size_t size() const noexcept { return size_; }

  /// All of it so far.
  std::string copy() const {
    std::string result;
    result.reserve(size_);
    for (const Chunk* chunk = first_; chunk != nullptr; chunk = chunk->next)
      append_to(result, *chunk);
    return result;
  }

  /// The same, and nothing remains here. Each chunk is given back as soon as it is copied, so the
  /// bytes are never there twice.
  std::string take() {
    std::string result;
    result.reserve(size_);
    while (first_ != nullptr) {
      append_to(result, *first_);
      drop_first();
    }
    size_ = 0;
    return result;
  }

 private:
  static constexpr std::size_t small_size = std::size_t{4} << 10;
  static constexpr std::size_t large_size = std::size_t{512} << 10;
  static constexpr std::size_t mapped_size = std::size_t{2} << 20;

  struct Chunk {
    Chunk* next;
    char* data;  // a mapping of its own, or behind this struct
    std::size_t size;
    std::size_t used;
    bool mapped;
  };

  void add_chunk(std::size_t first) {
    char* const mapping = size_ > large_size ? map() : nullptr;
    const std::size_t size = first_ == nullptr    ? first
                             : size_ <= pipe_size ? pipe_size
                                                  : large_size;
    void* memory = nullptr;
    try {
      memory = ::operator new(mapping != nullptr ? sizeof(Chunk) : sizeof(Chunk) + size);
    } catch (...) {
      if (mapping != nullptr) ::munmap(mapping, mapped_size);
      throw;
    }
    auto* const chunk =
        mapping != nullptr
            ? new (memory) Chunk{nullptr, mapping, mapped_size, 0, true}
            : new (memory)
                  Chunk{nullptr, static_cast<char*>(memory) + sizeof(Chunk), size, 0, false};
    (last_ == nullptr ? first_ : last_->next) = chunk;
    last_ = chunk;
  }

  void drop_first() noexcept {
    Chunk* const chunk = first_;
    first_ = chunk->next;
    if (first_ == nullptr) last_ = nullptr;
    if (chunk->mapped) ::munmap(chunk->data, chunk->size);
    ::operator delete(chunk);
  }

  static char* map() noexcept {
    void* const area = ::mmap(nullptr, mapped_size, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return area == MAP_FAILED ? nullptr : static_cast<char*>(area);
  }

  // `result` has the room.
  static void append_to(std::string& result, const Chunk& chunk) {
    if (chunk.mapped) populate(result.data() + result.size(), chunk.used);
    result.append(chunk.data, chunk.used);
  }

  // The whole pages there. Before Linux 5.14 they come one by one, as they are written.
  static void populate(char* begin, std::size_t size) noexcept {
    constexpr int populate_write = 23;  // MADV_POPULATE_WRITE
    static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto at = reinterpret_cast<std::uintptr_t>(begin);
    const std::uintptr_t first = (at + page - 1) / page * page;
    const std::uintptr_t end = (at + size) / page * page;
    if (first < end) ::madvise(begin + (first - at), end - first, populate_write);
  }

  Chunk* first_ = nullptr;
  Chunk* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace brood::posix
