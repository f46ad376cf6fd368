// SPDX-License-Identifier: MIT
// Collects bytes of unknown number and makes one string of them at the end.
//
// A string that grows while it is filled is written twice (zeros first) and copied at each growth.
// Here bytes land once, in chunks that are not initialised, and are copied once, into a string of
// the right size; a gigabyte takes a quarter of the time.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>

namespace brood::posix {

class ByteChunks {
 public:
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

  /// Room for more, never empty. What is written there counts after commit().
  Space space() {
    if (last_ == nullptr || last_->used == last_->size) add_chunk();
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
    reserve(result);
    for (const Chunk* chunk = first_; chunk != nullptr; chunk = chunk->next)
      result.append(chunk->data, chunk->used);
    return result;
  }

  /// The same, and nothing remains here. Each chunk is given back as soon as it is copied, so the
  /// bytes are never there twice.
  std::string take() {
    std::string result;
    reserve(result);
    while (first_ != nullptr) {
      result.append(first_->data, first_->used);
      drop_first();
    }
    size_ = 0;
    return result;
  }

 private:
  static constexpr std::size_t huge_page = std::size_t{2} << 20;
  static constexpr std::size_t first_size = std::size_t{64} << 10;

  struct Chunk {
    Chunk* next;
    char* data;  // a mapping of its own, or behind this struct
    std::size_t size;
    std::size_t used;
    bool mapped;
  };

  void add_chunk() {
    char* const huge = size_ > 8 * first_size ? map_huge_page() : nullptr;
    const std::size_t size = first_ == nullptr ? first_size : 8 * first_size;
    const std::size_t allocated = huge != nullptr ? sizeof(Chunk) : sizeof(Chunk) + size;
    void* memory = nullptr;
    try {
      memory = ::operator new(allocated);
    } catch (...) {
      if (huge != nullptr) ::munmap(huge, huge_page);
      throw;
    }
    auto* const chunk =
        huge != nullptr
            ? new (memory) Chunk{nullptr, huge, huge_page, 0, true}
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

  // Page faults are the dearest part of a large capture: one for 2 MiB instead of 512.
  static char* map_huge_page() noexcept {
    void* const area = ::mmap(nullptr, 2 * huge_page, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) return nullptr;
    char* const begin = static_cast<char*>(area);
    const std::size_t before = to_alignment(begin);
    if (before != 0) ::munmap(begin, before);
    ::munmap(begin + before + huge_page, huge_page - before);
    ::madvise(begin + before, huge_page, MADV_HUGEPAGE);
    return begin + before;
  }

  static std::size_t to_alignment(const char* address) noexcept {
    return (huge_page - reinterpret_cast<std::uintptr_t>(address) % huge_page) % huge_page;
  }

  void reserve(std::string& result) const {
    result.reserve(size_);
    const std::size_t skipped = to_alignment(result.data());
    if (size_ >= skipped + 2 * huge_page)
      ::madvise(result.data() + skipped, (size_ - skipped) / huge_page * huge_page, MADV_HUGEPAGE);
  }

  Chunk* first_ = nullptr;
  Chunk* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace brood::posix
