// SPDX-License-Identifier: MIT
// Memory for small objects that processes share: a lock, an event, a value, of which a program may
// have thousands. They lie in arenas, one memory file each, so that an object does not cost a
// descriptor and a mapping.
//
// An arena is filled from its start, and no place in it is used twice: processes that were forked
// may still use what this one has let go. What is left of an arena goes with its last block. So
// each block is zeros when it is made, and lives as long as any process that has a handle for it.
//
// Only the process that made an arena makes blocks in it; a forked child starts one of its own. A
// process that was handed the descriptor of one maps the blocks that it was told of.
#pragma once

#include <cstddef>
#include <new>

#include "../posix/immortal.hpp"
#include "../posix/mapping.hpp"
#include "../posix/mutex.hpp"
#include "../posix/ref.hpp"
#include "fork_hook.hpp"

namespace brood::sync {

class SharedArena final : public posix::RefCounted {
 public:
  static constexpr std::size_t usual_size = 65536;

  /// Throws os::OSError (ENOMEM, ENOSPC: there is not so much memory).
  explicit SharedArena(std::size_t size)
      : file_{posix::make_memory_file("brood-shared", size)}, mapping_{file_.get(), size} {
    posix::reserve_whole(file_.get(), size);
  }
  /// That of another process, in which this one makes no blocks. Throws os::OSError.
  explicit SharedArena(posix::unique_fd file)
      : file_{static_cast<posix::unique_fd&&>(file)},
        mapping_{file_.get(), posix::file_size(file_.get())} {}
  ~SharedArena();

  int file() const noexcept { return file_.get(); }
  std::byte* data() const noexcept { return mapping_.data(); }
  std::size_t size() const noexcept { return mapping_.size(); }

  /// The offset of a new block, or `none` if it does not fit. With the heap's lock held.
  std::size_t take(std::size_t size, std::size_t alignment) noexcept {
    const std::size_t start = (used_ + alignment - 1) / alignment * alignment;
    if (start > mapping_.size() || size > mapping_.size() - start) return none;
    used_ = start + size;
    return start;
  }
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

 private:
  friend class SharedHeap;

  posix::unique_fd file_;
  posix::Mapping mapping_;
  std::size_t used_ = 0;
  SharedArena* next_kept_ = nullptr;
};

/// A piece of shared memory of zeros, a handle. It knows what another process needs to map it: the
/// descriptor of its memory file, its offset there and its size.
class SharedBlock {
 public:
  SharedBlock(posix::Ref<SharedArena> arena, std::size_t offset, std::size_t size) noexcept
      : arena_{static_cast<posix::Ref<SharedArena>&&>(arena)}, offset_{offset}, size_{size} {}

  std::byte* data() const noexcept { return arena_->data() + offset_; }
  std::size_t size() const noexcept { return size_; }
  int file() const noexcept { return arena_->file(); }
  std::size_t offset() const noexcept { return offset_; }

  /// Never unmaps the memory in this process, as something else points there.
  void keep_for_ever() noexcept;

 private:
  posix::Ref<SharedArena> arena_;
  std::size_t offset_;
  std::size_t size_;
};

/// Where blocks come from, one for the process. Safe from any thread.
class SharedHeap {
 public:
  /// `size` bytes at a multiple of `alignment`, at most 4096. Throws os::OSError.
  static SharedBlock make(std::size_t size, std::size_t alignment) {
    // Large ones have an arena of their own.
    if (size > SharedArena::usual_size / 4) {
      if (size > most) posix::throw_memory_error(ENOMEM, "reserve", size);
      return {posix::make_ref<SharedArena>((size + 4095) / 4096 * 4096), 0, size};
    }
    SharedHeap& heap = the_heap();
    posix::Ref<SharedArena> old;  // destroyed without the lock, which its destructor takes
    const posix::Locked lock{heap.mutex_};
    if (heap.current_ != nullptr && heap.current_->try_add_owner()) {
      old = posix::Ref<SharedArena>::adopt(heap.current_);
      const std::size_t offset = old->take(size, alignment);
      if (offset != SharedArena::none) return {old, offset, size};
    }
    auto fresh = posix::make_ref<SharedArena>(SharedArena::usual_size);
    heap.current_ = fresh.get();
    return {fresh, fresh->take(size, alignment), size};
  }

  /// Keeps an arena to the end of the process.
  static void keep(posix::Ref<SharedArena> arena) noexcept {
    SharedHeap& heap = the_heap();
    const posix::Locked lock{heap.mutex_};
    for (const SharedArena* kept = heap.kept_; kept != nullptr; kept = kept->next_kept_)
      if (kept == arena.get()) return;  // and somebody else still owns it
    arena->next_kept_ = heap.kept_;
    heap.kept_ = arena.release();
  }

  void before_fork() noexcept { mutex_.lock(); }
  void after_fork(bool in_child) noexcept {
    if (in_child) current_ = nullptr;
    mutex_.unlock();
  }

 private:
  friend SharedArena;

  static constexpr std::size_t most = static_cast<std::size_t>(-1) / 4;

  // Never destroyed: static objects may have blocks until the very end.
  static SharedHeap& the_heap() { return posix::immortal<SharedHeap>(); }

  WordLock mutex_;                  // guards what follows, and the filling of `current_`
  SharedArena* current_ = nullptr;  // where blocks are made now; owned by the blocks alone
  SharedArena* kept_ = nullptr;     // owned
  ForkHook hook_{*this};
};

inline void SharedBlock::keep_for_ever() noexcept { SharedHeap::keep(arena_); }

inline SharedArena::~SharedArena() {
  SharedHeap& heap = SharedHeap::the_heap();
  const posix::Locked lock{heap.mutex_};
  if (heap.current_ == this) heap.current_ = nullptr;
}

}  // namespace brood::sync
