// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <new>

namespace brood::posix {

/// The memory of small immortal objects. Each fork writes to most of them, in both processes, and
/// each page that is written to has to be copied: so they lie together, all on one.
class ImmortalPlaces {
 public:
  /// `size` bytes for ever, or null.
  static void* take(std::size_t size) noexcept {
    const std::size_t at = __atomic_fetch_add(&used_, size, __ATOMIC_RELAXED);
    return at + size <= sizeof memory_ ? memory_ + at : nullptr;
  }

 private:
  alignas(1024) static inline char memory_[1024] = {};
  static inline std::size_t used_ = 0;
};

/// The one T of this program, made at the first call and never destroyed, since threads and static
/// objects may need it to the very end. A T whose constructor is private has this as its friend.
template <class T>
T& immortal() {
  alignas(T) static char memory[sizeof(T)];
  static T& object = [&]() -> T& {
    void* place = nullptr;
    constexpr std::size_t alignment = 16;
    if constexpr (sizeof(T) <= 256 && alignof(T) <= alignment)
      place = ImmortalPlaces::take((sizeof(T) + alignment - 1) / alignment * alignment);
    return *::new (place != nullptr ? place : memory) T;
  }();
  return object;
}

}  // namespace brood::posix
