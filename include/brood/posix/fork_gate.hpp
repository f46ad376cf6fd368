// SPDX-License-Identifier: MIT
// What holds a forked child back until its parent has a descriptor of it: whoever else waits for
// children in the program, a thread in wait(2), a handler of SIGCHLD or the kernel itself where
// that is ignored, would else take the child, and its exit code with it, should it end at once.
//
// The parent's thread | the gate                     | the child
// --------------------+------------------------------+-------------------------------------------
// is about to fork    | lock held, `opened` < number | does not exist yet, or waits for the lock
// has what it needs   | `opened` = number            | passes, without a system call
// goes on             | lock let go                  | gets the lock, if it waits, and passes
// dies before         | the kernel lets the lock go  | the same
//
// The threads of a process fork one after the other anyhow (pthread_atfork(3)). A child that is
// stopped in the very moment when it has the lock holds up no start for longer than `patience`.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <new>

#include "exchange.hpp"
#include "robust_mutex.hpp"
#include "this_process.hpp"

namespace brood::posix {

/// Closed for the one child that the calling thread forks in its scope. Without memory for it there
/// is none, and the child runs at once.
class ForkGate {
 public:
  ForkGate() : words_{here()} {
    if (words_ == nullptr) return;
    if (words_->mutex.lock(Deadline{patience}, NoRepair{}))
      number_ = words_->opened.load(std::memory_order_relaxed) + 1;
    else
      words_ = nullptr;
  }
  ForkGate(const ForkGate&) = delete;
  ForkGate& operator=(const ForkGate&) = delete;

  ~ForkGate() { open(); }

  /// In the parent. Nothing happens the second time.
  void open() noexcept {
    Words* const words = exchange(words_, nullptr);
    if (words == nullptr) return;
    words->opened.store(number_, std::memory_order_release);  // pairs with the load in pass()
    words->mutex.unlock();
  }

  /// In the child: waits until it is open.
  void pass() {
    Words* const words = exchange(words_, nullptr);
    if (words == nullptr || words->opened.load(std::memory_order_acquire) >= number_) return;
    const RobustLock opened{words->mutex, NoRepair{}};
  }

 private:
  static constexpr std::chrono::nanoseconds patience{1'000'000'000};

  // Shared with the children, and followed by one of its own in each that forks itself.
  struct Words {
    explicit Words(std::uint64_t process) : owner{process} {}
    const std::uint64_t owner;
    RobustMutex mutex;
    std::atomic<std::uint64_t> opened{0};  // the number of the last child that was let through
  };

  static Words* here() {
    static std::atomic<Words*> current{nullptr};
    Words* known = current.load(std::memory_order_acquire);
    if (known != nullptr && known->owner == this_process()) return known;
    void* const memory =
        ::mmap(nullptr, sizeof(Words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    Words* const made = ::new (memory) Words{this_process()};
    if (current.compare_exchange_strong(known, made, std::memory_order_acq_rel)) return made;
    ::munmap(memory, sizeof(Words));  // another thread was faster
    return known;
  }

  Words* words_;
  std::uint64_t number_ = 0;
};

}  // namespace brood::posix
