// SPDX-License-Identifier: MIT
// The algorithm of the locks of several processes, Lock and RLock: a robust mutex that knows its
// holder, and what that one inherited.
//
// word      | written by         | meaning
// ----------+--------------------+---------------------------------------------------------------
// owner     | the holder, last   | 0: free. Else the mark of the thread that holds it, or of a
//           | and first          | dead one: then the mutex tells. (Its number may have been given
//           |                    | out again meanwhile, its mark has not.)
// depth     | the holder         | how often it is held; set anew by each holder
// heritage  | the holder         | present: it was got from a dead one. next: who gets it next
//           |                    | gets it from a dead one
//
// A death with the mutex held hands it on, whichever of these was written last.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>

#include "../posix/futex.hpp"
#include "../posix/robust_mutex.hpp"
#include "../posix/this_process.hpp"
#include "../posix/this_thread.hpp"

namespace brood::sync {

class OwnedLock {
 public:
  enum class Again : bool { refused, counted };  // what becomes of the holder who acquires it again

  explicit OwnedLock(Again again) noexcept : again_{again} {}

  /// Throws std::logic_error where the calling thread would wait for itself for ever.
  bool acquire(const posix::Deadline& deadline) {
    bool from_dead = false;
    switch (mutex_.attempt(deadline, [&] { from_dead = true; })) {
      case posix::RobustMutex::Attempt::timed_out:
        return false;
      case posix::RobustMutex::Attempt::already_mine:
        return acquire_again(deadline);
      case posix::RobustMutex::Attempt::taken:
        break;
    }
    if (from_dead || heritage() != Heritage::none)
      set_heritage(from_dead || heritage() == Heritage::next ? Heritage::present : Heritage::none);
    depth_.store(1, std::memory_order_relaxed);
    owner_.store(posix::this_thread_mark(), std::memory_order_relaxed);
    return true;
  }

  /// Once. Throws std::logic_error if the calling thread does not hold it.
  void release() {
    const std::uint32_t depth = depth_.load(std::memory_order_relaxed);
    if (is_mine() && depth > 1)
      depth_.store(depth - 1, std::memory_order_relaxed);
    else if (!is_mine() || !let_go(Heritage::none))
      throw std::logic_error{"release a lock: this thread does not hold it"};
  }

  /// Whether a living thread holds it.
  bool locked() {
    if (owner() == 0) return false;
    bool from_dead = false;
    const auto attempt =
        mutex_.attempt(posix::Deadline{std::chrono::nanoseconds{0}}, [&] { from_dead = true; });
    if (attempt != posix::RobustMutex::Attempt::taken) return true;
    let_go(from_dead ? Heritage::next : heritage());
    return false;
  }

  /// Whether the present holder got it from a dead one.
  bool abandoned() const noexcept { return owner() != 0 && heritage() == Heritage::present; }

  /// The thread that holds it, 0: none. It may be dead.
  pid_t owner() const noexcept {
    return static_cast<pid_t>(owner_.load(std::memory_order_relaxed) & 0xffffffff);
  }
  bool is_mine() const noexcept {
    return owner_.load(std::memory_order_relaxed) == posix::this_thread_mark();
  }
  /// How often its holder has it.
  std::uint32_t depth() const noexcept {
    return owner() == 0 ? 0 : depth_.load(std::memory_order_relaxed);
  }

  /// What Condition needs: lets it go wholly, and takes it back as often as it was held.
  std::uint32_t release_all() {
    const std::uint32_t depth = depth_.load(std::memory_order_relaxed);
    depth_.store(1, std::memory_order_relaxed);
    release();
    return depth;
  }
  void reacquire(std::uint32_t depth) {
    acquire(posix::Deadline{forever});
    depth_.store(depth, std::memory_order_relaxed);
  }

  /// This process has no handle for it any more. If the calling thread holds it, it is handed on as
  /// by its death. False if another thread of this process does: then its memory must stay, for the
  /// C library knows that thread's robust mutexes by address.
  bool leave() noexcept {
    if (owner() == 0) return true;
    if (is_mine()) {
      let_go(Heritage::next);
      return true;
    }
    return ::syscall(SYS_tgkill, posix::this_pid(), owner(), 0) != 0;
  }

 private:
  enum class Heritage : std::uint32_t { none, present, next };

  Heritage heritage() const noexcept { return heritage_.load(std::memory_order_relaxed); }
  void set_heritage(Heritage heritage) noexcept {
    heritage_.store(heritage, std::memory_order_relaxed);
  }

  bool let_go(Heritage heritage) noexcept {
    if (heritage != this->heritage()) set_heritage(heritage);
    owner_.store(0, std::memory_order_relaxed);
    return mutex_.unlock();
  }

  bool acquire_again(const posix::Deadline& deadline) {
    if (again_ == Again::counted) {
      depth_.store(depth_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return true;
    }
    if (deadline.is_forever())
      throw std::logic_error{
          "acquire a Lock: this thread holds it already, and no other can release it"};
    const std::atomic<std::uint32_t> nobody_wakes{0};
    while (posix::futex_wait(nobody_wakes, 0, deadline)) {
    }
    return false;
  }

  posix::RobustMutex mutex_;
  const Again again_;
  std::atomic<std::uint64_t> owner_{0};
  std::atomic<std::uint32_t> depth_{0};
  std::atomic<Heritage> heritage_{Heritage::none};
};

}  // namespace brood::sync
