// SPDX-License-Identifier: MIT
// Several futures, registered once with each and told by each: what wait() and as_completed() are
// made of. n futures cost O(n), and nothing polls.
//
// A node stands for each different future that was not done when it joined. Told, it joins the list
// of ready ones, in the order of completion; its future's lock is held then, and the mutex of the
// gathering comes after it. The waiting thread sleeps on `signal_`:
//
// signal_ | meaning                    | set by
// --------+----------------------------+--------------------------------------------------------
//    0    | not enough is ready        | take_ready(), with the mutex, when it takes all news
//    1    | enough is ready            | told(), with the mutex, for the last one or an urgent one;
//         |                            | the waiting thread itself, for those that were done before
#pragma once

#include <cstddef>
#include <vector>

#include "../posix/list.hpp"
#include "../posix/mutex.hpp"
#include "future.hpp"

namespace brood::futures {

/// The future type that a range holds.
template <class Range>
using FutureOf = std::remove_cvref_t<decltype(*std::begin(std::declval<Range&>()))>;

/// A range of Future<T> or AnyFuture.
template <class Range>
concept FutureRange = std::is_base_of_v<FutureHandle, FutureOf<Range>>;

/// The different futures of a range, in their order. Lets go of a range that was given up.
template <FutureRange Range>
std::vector<FutureOf<Range>> distinct(Range&& range);

/// What of a future's end ends a wait early.
enum class Urgent { nothing, completion, failure };

class Gathering {
 public:
  /// For at most `count` futures. A wait lasts until all are ready, or an urgent one is.
  Gathering(std::size_t count, Urgent urgent) : urgent_{urgent} { nodes_.reserve(count); }
  Gathering(const Gathering&) = delete;
  Gathering& operator=(const Gathering&) = delete;
  ~Gathering() { leave(); }

  /// Registers with `state`, which must live until it is taken, or the end of this. Once for each
  /// future, before the first wait. False when it is done already: then it is no part of this, but
  /// it ends a wait if that is urgent.
  bool join(StateBase& state) noexcept;

  /// Whether a wait would return at once.
  bool enough() const noexcept { return signal_.load(std::memory_order_acquire) != 0; }

  /// Waits until enough are ready; false when the deadline comes first. All must have joined.
  bool wait(const posix::Deadline& deadline);

  /// Takes the next ready one, in the order of completion; null when there is none now.
  StateBase* take_ready() noexcept;

  /// How many have joined and were not taken.
  std::size_t left() const noexcept { return left_; }

  /// Ends it for those that are left, each of which is handed to `drop`.
  template <class F>
  void leave(F drop) noexcept;

 private:
  struct Node final : Waiter {
    Node(Gathering& its_gathering, StateBase& its_state) noexcept
        : gathering{&its_gathering}, state{&its_state} {}
    void told(StateBase&) noexcept override { gathering->told(*this); }
    Gathering* gathering;
    StateBase* state;  // null once it was taken
    Node* next_ready = nullptr;
  };

  bool is_urgent(const StateBase& done) const noexcept {
    return urgent_ == Urgent::completion ||
           (urgent_ == Urgent::failure && done.status() == Status::failed);
  }
  void told(Node& node) noexcept;
  void close() noexcept;
  void leave() noexcept {
    leave([](StateBase&) {});
  }

  posix::List<Node> nodes_;  // never moved: as many as there may be have their room
  std::size_t left_ = 0;
  std::size_t next_help_ = 0;  // nodes before it have been asked to help
  Node* taken_ = nullptr;      // ready ones that take_ready() has seen
  const Urgent urgent_;

  posix::Mutex mutex_;  // guards the rest; signal_ is also read without it
  Node* first_ready_ = nullptr;
  Node* last_ready_ = nullptr;
  std::size_t ready_ = 0;  // that there have been
  bool all_joined_ = false;
  std::atomic<std::uint32_t> signal_{0};
};

// Bodies.

/// The addresses of so many states, each within [lowest, highest]. As a rule these lie close
/// together: then a bit for each place where one may lie is the set, which is small and filled from
/// one end to the other. Else it is a hash table with open addressing.
class StateSet {
 public:
  StateSet(std::size_t count, const StateBase* lowest, const StateBase* highest)
      : first_{number(lowest)},
        is_dense_{(number(highest) - first_) / 64 < count},
        mask_{size_for(2 * count) - 1},
        words_(is_dense_ ? (number(highest) - first_) / 64 + 1 : mask_ + 1) {}

  /// False if it is there already.
  bool insert(const StateBase* state) noexcept {
    std::uint64_t place = number(state) - first_;
    if (is_dense_) {
      std::uint64_t& word = words_[place / 64];
      const std::uint64_t bit = std::uint64_t{1} << place % 64;
      return (posix::exchange(word, word | bit) & bit) == 0;
    }
    const std::uint64_t entry = place + 1;
    for (place = entry * 0x9E3779B97F4A7C15u >> 20;; ++place) {
      std::uint64_t& word = words_[place & mask_];
      if (word == entry) return false;
      if (word == 0) {
        word = entry;
        return true;
      }
    }
  }

 private:
  static constexpr std::size_t step = 32;
  static_assert(sizeof(StateBase) >= step, "two states would have the same number");

  static std::uint64_t number(const StateBase* state) noexcept {
    return reinterpret_cast<std::uintptr_t>(state) / step;
  }
  static std::size_t size_for(std::size_t least) noexcept {
    std::size_t size = 4;
    while (size < least) size *= 2;
    return size;
  }

  const std::uint64_t first_;
  const bool is_dense_;
  const std::uint64_t mask_;
  posix::List<std::uint64_t> words_;
};

template <FutureRange Range>
std::vector<FutureOf<Range>> distinct(Range&& range) {
  std::vector<FutureOf<Range>> futures;
  if constexpr (requires { futures.reserve(range.size()); }) futures.reserve(range.size());
  for (auto&& future : range) futures.push_back(future);
  if constexpr (!std::is_reference_v<Range> && std::is_move_constructible_v<Range>) {
    [[maybe_unused]] const auto given_up = std::forward<Range>(range);
  }
  if (futures.empty()) return futures;

  const StateBase* lowest = futures[0].state();
  const StateBase* highest = lowest;
  for (const auto& future : futures) {
    if (future.state() < lowest) lowest = future.state();
    if (future.state() > highest) highest = future.state();
  }
  StateSet seen{futures.size(), lowest, highest};
  std::size_t kept = 0;
  for (std::size_t i = 0; i < futures.size(); ++i) {
    if (!seen.insert(futures[i].state())) continue;
    if (kept != i) futures[kept] = std::move(futures[i]);
    ++kept;
  }
  futures.erase(futures.begin() + static_cast<std::ptrdiff_t>(kept), futures.end());
  return futures;
}

inline bool Gathering::join(StateBase& state) noexcept {
  if (!state.done()) {
    nodes_.push_back(Node{*this, state});
    if (state.add_waiter(nodes_.back())) {
      ++left_;
      return true;
    }
    nodes_.pop_back();
  }
  if (is_urgent(state)) signal_.store(1, std::memory_order_relaxed);
  return false;
}

inline void Gathering::told(Node& node) noexcept {
  const posix::Locked lock{mutex_};
  (last_ready_ == nullptr ? first_ready_ : last_ready_->next_ready) = &node;
  last_ready_ = &node;
  ++ready_;
  if ((all_joined_ && ready_ == nodes_.size()) || is_urgent(*node.state)) {
    // Under the mutex: the waiting thread takes it before it goes, so the word is still there.
    if (signal_.exchange(1, std::memory_order_release) == 0) posix::futex_wake(signal_);
  }
}

inline void Gathering::close() noexcept {
  const posix::Locked lock{mutex_};
  all_joined_ = true;
  if (ready_ == nodes_.size()) signal_.store(1, std::memory_order_relaxed);
}

inline bool Gathering::wait(const posix::Deadline& deadline) {
  if (!all_joined_) close();
  if (enough()) return true;
  if (deadline.expired()) {
    for (const Node& node : nodes_)
      if (node.state != nullptr && !node.state->done()) node.state->poll();
    return enough();
  }
  struct Several final : Waiting {
    Several(const Gathering& gathering, const posix::Deadline& deadline) noexcept
        : Waiting{deadline, false}, gathering_{gathering} {}
    bool over() const noexcept override { return gathering_.enough(); }
    const Gathering& gathering_;
  } waiting{*this, deadline};
  // Each future's executor is asked once; one that brings the end of a wait is asked again by the
  // next, if its future is not done.
  for (; next_help_ < nodes_.size() && !deadline.expired(); ++next_help_) {
    StateBase* const state = nodes_[next_help_].state;
    if (state != nullptr && !state->done()) state->help(waiting);
    if (enough()) return true;
  }
  while (!enough())
    if (!posix::futex_wait(signal_, 0, deadline)) return enough();
  return true;
}

inline StateBase* Gathering::take_ready() noexcept {
  if (taken_ == nullptr) {
    const posix::Locked lock{mutex_};
    taken_ = posix::exchange(first_ready_, nullptr);
    last_ready_ = nullptr;
    signal_.store(0, std::memory_order_relaxed);
    if (taken_ == nullptr) return nullptr;
  }
  Node& node = *posix::exchange(taken_, taken_->next_ready);
  --left_;
  return posix::exchange(node.state, nullptr);
}

template <class F>
void Gathering::leave(F drop) noexcept {
  if (left_ > 0) {
    for (Node& node : nodes_)
      if (node.state != nullptr) node.state->remove_waiter(node);
  }
  { const posix::Locked lock{mutex_}; }  // whoever told last has let go of it
  if (posix::exchange(left_, std::size_t{0}) > 0) {
    for (Node& node : nodes_)
      if (node.state != nullptr) drop(*posix::exchange(node.state, nullptr));
  }
}

}  // namespace brood::futures
