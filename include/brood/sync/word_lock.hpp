// SPDX-License-Identifier: MIT
// A mutex in one word, for critical sections of a few dozen instructions: it looks again for a
// moment before it sleeps, and a child of fork() may simply let go what the forking thread took.
//
// word | meaning                          | lock()              | unlock()
// -----+----------------------------------+---------------------+---------------------------
//   0  | free                             | 0 -> 1              |
//   1  | held, nobody sleeps              | looks, then 1 -> 2  | -> 0
//   2  | held, somebody may sleep on it   | sleeps while 2      | -> 0 and wakes one sleeper
//
// (Ulrich Drepper, Futexes Are Tricky, mutex 2. A woken sleeper takes it as 2, for others may still
// sleep.)
#pragma once

#include <atomic>
#include <cstdint>

#include "../posix/futex.hpp"

namespace brood::sync {

/// Tells the processor that this is a loop which waits for another one.
inline void pause_spinning() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class WordLock {
 public:
  constexpr WordLock() noexcept = default;
  WordLock(const WordLock&) = delete;
  WordLock& operator=(const WordLock&) = delete;

  void lock() noexcept {
    if (!try_lock()) [[unlikely]]
      lock_slowly();
  }
  bool try_lock() noexcept {
    std::uint32_t expected = 0;
    return word_.compare_exchange_strong(expected, 1, std::memory_order_acquire,
                                         std::memory_order_relaxed);
  }
  void unlock() noexcept {
    // Pairs with the acquiring exchange of whoever locks next.
    if (word_.exchange(0, std::memory_order_release) == 2) [[unlikely]]
      wake_one();
  }

 private:
  // Out of line, so that the usual way is short enough to be inlined.
  [[gnu::noinline]] void wake_one() noexcept { posix::futex_wake(word_, 1); }
  [[gnu::noinline]] void lock_slowly() noexcept {
    // Who looks takes the lock's line of memory, and what lies beside it, from who holds it. So
    // nobody looks often: meanwhile the other comes and goes many times with all at hand, where
    // taking turns would cost both several times as much. About 5 us in all.
    for (int pauses = 32; pauses <= 128; pauses *= 2) {
      for (int i = 0; i < pauses; ++i) pause_spinning();
      if (word_.load(std::memory_order_relaxed) == 0 && try_lock()) return;
    }
    const posix::Deadline never{forever};
    while (word_.exchange(2, std::memory_order_acquire) != 0) posix::futex_wait(word_, 2, never);
  }

  std::atomic<std::uint32_t> word_{0};
};

}  // namespace brood::sync
