// SPDX-License-Identifier: MIT
// The memory of tasks. Tasks that submit tasks and wait for them make and destroy one every few
// dozen nanoseconds, a quarter of which would go to malloc: so a worker keeps the blocks of tasks
// that ended in its thread for those that it submits. Elsewhere it is the usual operator new.
#pragma once

#include <cstddef>
#include <new>

#include "../posix/exchange.hpp"
#include "../posix/sanitizers.hpp"

namespace brood::futures {

/// The blocks that one thread keeps, between serve() and leave(). Used by that thread alone; what
/// is kept then is freed by whoever ends the object: a thread that has freed nothing has no heap of
/// its own, which would cost a mapping now and a page copied at each fork of the program later.
class TaskMemory {
 public:
  TaskMemory() noexcept = default;
  TaskMemory(const TaskMemory&) = delete;
  TaskMemory& operator=(const TaskMemory&) = delete;
  ~TaskMemory() {
    for (Shelf& shelf : shelves_)
      while (shelf.first != nullptr)
        ::operator delete(posix::exchange(shelf.first, shelf.first->next));
  }

  void serve() noexcept { current_ = this; }
  static void leave() noexcept { current_ = nullptr; }

  static void* allocate(std::size_t size) {
    const std::size_t kind = (size - 1) / step;
    if (kind >= kinds) return ::operator new(size);
    if (current_ != nullptr) {
      Shelf& shelf = current_->shelves_[kind];
      if (shelf.first != nullptr) {
        --shelf.count;
        return posix::exchange(shelf.first, shelf.first->next);
      }
    }
    return ::operator new((kind + 1) * step);
  }
  static void deallocate(void* block, std::size_t size) noexcept {
    const std::size_t kind = (size - 1) / step;
    if (kind < kinds && current_ != nullptr) {
      Shelf& shelf = current_->shelves_[kind];
      if (shelf.count < most) {
        ++shelf.count;
        shelf.first = ::new (block) Block{shelf.first};
        return;
      }
    }
    ::operator delete(block);
  }

 private:
  struct Block {
    Block* next;
  };
  struct Shelf {
    Block* first = nullptr;
    std::size_t count = 0;
  };
  static constexpr std::size_t step = 64, kinds = 4;  // up to 256 bytes
  // Of a kind; none where what is used after its end is to be found.
  static constexpr std::size_t most = posix::address_sanitized ? 0 : 64;

  static inline constinit thread_local TaskMemory* current_ = nullptr;
  Shelf shelves_[kinds];
};

}  // namespace brood::futures
