// SPDX-License-Identifier: MIT
// The algorithm of Barrier.
//
// phase   | meaning                               | who arrives          | left by
// --------+---------------------------------------+----------------------+-------------------------
// filling | arrived of parties_ wait              | waits; the last acts | the last one; a timeout
// acting  | all are here, the last runs `action`  | waits to enter       | the end of the action
// broken  | somebody gave up, failed or aborted   | is refused           | reset()
//
// Each filling is a turn with a number, and who has arrived waits for the end of its turn. Many
// others may have begun and ended before it runs, so the numbers of the last that failed are kept.
// One whose time is up while the action runs waits for its end: all are here. abort() and reset()
// do so too. If the one that acts is killed, those who wait for it break the barrier.
//
// Phase, turn and arrived are one word: a change is one store, and comes after the wake-up for it,
// as a monitor of several processes wants it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "monitor.hpp"

namespace brood::sync {

template <class Monitor>
class Barrier {
 public:
  explicit Barrier(std::ptrdiff_t parties) : parties_{check(parties)} {}

  struct Result {
    bool passed;
    std::size_t index;
  };

  /// Waits for the others; the last one calls `action` first if there is one, with no lock held,
  /// and if that throws the barrier is broken and the exception passes on.
  template <class Action>
  Result wait(const posix::Deadline& deadline, const Action& action) {
    typename Monitor::Hold hold{monitor_};
    if (!wait_for_action(hold, deadline)) return {false, 0};
    const State arrived = state();
    if (arrived.phase == Phase::broken) return {false, 0};
    const std::size_t index = arrived.arrived;
    if (index + 1 == parties_) {
      if (action)
        act(hold, action);
      else
        end_turn(Phase::filling, true);
      return {true, index};
    }
    store({Phase::filling, arrived.turn, arrived.arrived + 1});
    const bool told = monitor_.wait(hold, deadline, [&] {
      const State now = state();
      return now.turn != arrived.turn || now.phase == Phase::acting;
    });
    if (!told)
      end_turn(Phase::broken, false);
    else if (state().turn == arrived.turn)
      wait_for_this_action(hold, posix::Deadline{forever});
    return {told && has_passed(arrived.turn), index};
  }

  void abort() {
    typename Monitor::Hold hold{monitor_};
    wait_for_action(hold, posix::Deadline{forever});
    end_turn(Phase::broken, false);
  }

  void reset() {
    typename Monitor::Hold hold{monitor_};
    wait_for_action(hold, posix::Deadline{forever});
    end_turn(Phase::filling, false);
  }

  std::size_t waiting() {
    const typename Monitor::Hold hold{monitor_};
    return state().phase == Phase::filling ? state().arrived : 0;
  }
  bool is_broken() {
    const typename Monitor::Hold hold{monitor_};
    return state().phase == Phase::broken;
  }
  std::size_t parties() const noexcept { return parties_; }

 private:
  static constexpr std::uint64_t most_parties = 0xffff;

  static std::size_t check(std::ptrdiff_t parties) {
    if (parties < 1 || parties > std::ptrdiff_t{most_parties})
      throw std::invalid_argument{"make a Barrier: " + std::to_string(parties) + " parties are " +
                                  (parties < 1 ? "less than 1" : "too many")};
    return static_cast<std::size_t>(parties);
  }

  enum class Phase : std::uint32_t { filling, acting, broken };
  struct State {
    Phase phase;
    std::uint64_t turn;
    std::uint64_t arrived;
  };
  // Two bits of phase, 46 of turn, which last for years, 16 of arrived.
  State state() const noexcept {
    const std::uint64_t word = state_.load(std::memory_order_relaxed);
    return {static_cast<Phase>(word >> 62), (word & ~(std::uint64_t{3} << 62)) >> 16,
            word & most_parties};
  }
  void store(State state) noexcept {
    state_.store(static_cast<std::uint64_t>(state.phase) << 62 | state.turn << 16 | state.arrived,
                 std::memory_order_relaxed);
  }

  // Until no action runs, whosoever it is; at once if none does.
  bool wait_for_action(typename Monitor::Hold& hold, const posix::Deadline& deadline) {
    while (state().phase == Phase::acting)
      if (!wait_for_this_action(hold, deadline)) return false;
    return true;
  }
  // Until the action of this turn is over; the next one may run already.
  bool wait_for_this_action(typename Monitor::Hold& hold, const posix::Deadline& deadline) {
    const std::uint64_t turn = state().turn;
    return monitor_.wait_for_action(
        hold, deadline, [&] { return state().phase == Phase::acting && state().turn == turn; },
        [&] { end_turn(Phase::broken, false); });
  }

  template <class Action>
  void act(typename Monitor::Hold& hold, const Action& action) {
    // In this order at the end, whichever it is: the lock is taken, the turn ends, the lock is
    // released, those who wait for the action are told.
    struct Acting {
      Acting(Barrier& barrier, typename Monitor::Hold& lock) : self{barrier}, hold{lock} {
        self.monitor_.begin_action();
        self.store({Phase::acting, self.state().turn, 0});
        hold.unlock();
      }
      ~Acting() {
        hold.lock();
        self.end_turn(passed ? Phase::filling : Phase::broken, passed);
        hold.unlock();
        self.monitor_.end_action();
      }
      Barrier& self;
      typename Monitor::Hold& hold;
      bool passed = false;
    } acting{*this, hold};
    action();
    acting.passed = true;
  }

  void end_turn(Phase next, bool passed) noexcept {
    const State now = state();
    monitor_.wake_all();
    note(now, passed);
    store({next, now.turn + 1, 0});
  }

  // How a turn is about to end, for those who wait for it. If this process dies before it has, the
  // next one that ends it notes that.
  void note(const State& now, bool passed) noexcept {
    const std::uint32_t count = failures_.load(std::memory_order_relaxed);
    const bool noted = count > 0 && failure(count - 1) == now.turn;
    if (passed && noted) failures_.store(count - 1, std::memory_order_relaxed);
    const bool somebody_waits = now.phase == Phase::acting || now.arrived > 0;
    if (passed || noted || !somebody_waits) return;
    failed_[count % kept].store(now.turn, std::memory_order_relaxed);
    failures_.store(count + 1, std::memory_order_relaxed);
  }

  // Of a turn that has ended, however long ago. One that failed is forgotten when as many as are
  // kept have failed after it: then false for all that are as old. The oldest that is kept does not
  // count, for it may be half overwritten by one who died.
  bool has_passed(std::uint64_t turn) const noexcept {
    const std::uint32_t count = failures_.load(std::memory_order_relaxed);
    for (std::uint32_t i = 1; i < kept && i <= count; ++i)
      if (failure(count - i) == turn) return false;
    return count < kept || turn > failure(count - kept + 1);
  }

  std::uint64_t failure(std::uint32_t number) const noexcept {
    return failed_[number % kept].load(std::memory_order_relaxed);
  }

  static constexpr std::uint32_t kept = 32;

  Monitor monitor_;
  const std::size_t parties_;
  std::atomic<std::uint64_t> state_{0};      // guarded by the monitor, as is what follows
  std::atomic<std::uint32_t> failures_{0};   // how many turns have failed
  std::atomic<std::uint64_t> failed_[kept];  // the numbers of the last of them
};

}  // namespace brood::sync
