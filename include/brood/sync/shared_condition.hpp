// SPDX-License-Identifier: MIT
// The algorithm of the Condition of several processes, over an OwnedLock.
//
// Each who waits draws a ticket; a notify grants so many wake-ups to the tickets drawn before it.
//
// word            | changed with the lock held by | meaning
// ----------------+-------------------------------+-----------------------------------------------
// drawn           | who begins to wait            | how many tickets there are
// returned        | who ends its wait             | how many of them have gone, woken or not
// grants          | notify: +n; who is woken: -1  | wake-ups to be had, and the ticket from
//                 |                               | which on they are not for
// bell            | notify, after the grants      | futex of the one in the seat
//
// One of those who wait is in the seat (as in SeatedMonitor) and sleeps on the bell. It stays there
// until it has the lock back and has taken its grant. So a grant that a dead one did not take is
// still there for the next one in the seat, and no wake-up is lost with the dead. A notify that
// dies before it rings has notified nobody, or leaves that to the next notify.
//
// Whoever comes while there are grants, none of which is for it, must not sit: those that they are
// for may be behind the seat, on their way into it. It sleeps on the bell without the seat, until
// the next notify.
//
// The dead count among those who wait. So after the death of one a notify may grant more than are
// there to take it, and what is left over may wake one more than the next notify says.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "../posix/exchange.hpp"
#include "owned_lock.hpp"

namespace brood::sync {

class SharedCondition {
 public:
  /// Lets `lock` go, wholly, waits for a notify and takes it back. False when time was up first.
  bool wait(OwnedLock& lock, const posix::Deadline& deadline) {
    require(lock, "wait for a Condition: its lock is not held");
    const std::uint32_t ticket = drawn_.load(std::memory_order_relaxed);
    drawn_.store(ticket + 1, std::memory_order_relaxed);
    for (;;) {
      const std::uint32_t depth = lock.release_all();
      const Seat seat{*this, ticket, deadline};
      lock.reacquire(depth);
      const bool granted = take(ticket);
      if (!granted && !deadline.expired()) continue;  // another one, whose time was up, took it
      returned_.store(returned_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return granted;
    }
  }

  /// Wakes up to `count` of those who wait.
  void notify(OwnedLock& lock, std::size_t count) {
    require(lock, "notify a Condition: its lock is not held");
    const std::uint32_t limit = drawn_.load(std::memory_order_relaxed);
    const Grants grants = this->grants();
    const std::uint32_t ungranted = waiting() - grants.count;
    const auto more = count < ungranted ? static_cast<std::uint32_t>(count) : ungranted;
    if (grants.count + more == 0) return;
    store({grants.count + more, limit});
    // Release: pairs with the acquire of who sleeps on it and then looks at the grants.
    bell_.fetch_add(1, std::memory_order_release);
    posix::futex_wake(bell_, INT_MAX, posix::Scope::process_shared);
  }

  /// How many wait, the dead among them. A snapshot.
  std::uint32_t waiting() const noexcept {
    return drawn_.load(std::memory_order_relaxed) - returned_.load(std::memory_order_relaxed);
  }

 private:
  struct Grants {
    std::uint32_t count;
    std::uint32_t limit;  // for tickets below
    bool has(std::uint32_t ticket) const noexcept {
      return count > 0 && static_cast<std::int32_t>(limit - ticket) > 0;
    }
  };

  // Sits and sleeps until there is a grant for `ticket`, or the deadline.
  class Seat {
   public:
    Seat(SharedCondition& condition, std::uint32_t ticket, const posix::Deadline& deadline)
        : condition_{condition} {
      for (;;) {
        const std::uint32_t heard = condition.bell_.load(std::memory_order_acquire);
        const Grants grants = condition.grants();
        if (grants.has(ticket) || deadline.expired()) return;
        if (grants.count > 0) leave();
        if (seated_ || grants.count > 0)
          posix::futex_wait(condition.bell_, heard, deadline, posix::Scope::process_shared);
        else  // Every now and then also those behind the seat look: see SeatedMonitor.
          seated_ = condition.seat_.lock(deadline.sooner(posix::RobustMutex::watchdog),
                                         posix::NoRepair{});
      }
    }
    ~Seat() { leave(); }
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;

   private:
    void leave() noexcept {
      if (posix::exchange(seated_, false)) condition_.seat_.unlock();
    }

    SharedCondition& condition_;
    bool seated_ = false;
  };

  static void require(OwnedLock& lock, const char* otherwise) {
    if (!lock.is_mine()) throw std::logic_error{otherwise};
  }

  Grants grants() const noexcept {
    const std::uint64_t word = grants_.load(std::memory_order_relaxed);
    return {static_cast<std::uint32_t>(word >> 32), static_cast<std::uint32_t>(word)};
  }
  void store(Grants grants) noexcept {
    grants_.store(std::uint64_t{grants.count} << 32 | grants.limit, std::memory_order_relaxed);
  }
  bool take(std::uint32_t ticket) noexcept {
    const Grants grants = this->grants();
    if (!grants.has(ticket)) return false;
    store({grants.count - 1, grants.limit});
    return true;
  }

  posix::RobustMutex seat_;
  std::atomic<std::uint32_t> drawn_{0};
  std::atomic<std::uint32_t> returned_{0};
  std::atomic<std::uint64_t> grants_{0};
  std::atomic<std::uint32_t> bell_{0};
};

}  // namespace brood::sync
