// SPDX-License-Identifier: MIT
// Several futures, registered once with each and told by each: what wait() and as_completed() are
// made of. n futures cost O(n), and nothing polls.
//
// A node stands for each different future. Told, it joins the list of ready ones, in the order of
// completion; its future's lock is held then, and the mutex of the gathering comes after it. The
// waiting thread sleeps on `signal_`:
//
// signal_ | meaning                    | set by
// --------+----------------------------+--------------------------------------------------------
//    0    | not enough is ready        | take_ready(), with the mutex, when it has taken all news
//    1    | enough is ready            | told(), with the mutex, for the last one or an urgent one
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
  /// For exactly `count` futures. A wait lasts until all are ready, or an urgent one is.
  explicit Gathering(std::size_t count, Urgent urgent)
      : nodes_(count), urgent_{urgent}, outstanding_{count}, signal_{count == 0 ? 1u : 0u} {}
  Gathering(const Gathering&) = delete;
  Gathering& operator=(const Gathering&) = delete;
  ~Gathering();

  /// Registers with `state`, which must live until it is taken, or the end of this. Once for each
  /// future.
  void join(StateBase& state) noexcept;

  /// Waits until enough are ready; false when the deadline comes first. All must have joined.
  bool wait(const posix::Deadline& deadline);

  /// Takes the next ready one, in the order of completion: `place` is how many joined before it.
  /// False when there is none now.
  bool take_ready(std::size_t& place) noexcept;

  /// How many have not been taken.
  std::size_t left() const noexcept { return left_; }

 private:
  struct Node final : Waiter {
    void told(StateBase&) noexcept override { gathering->told(*this); }
    Gathering* gathering = nullptr;
    StateBase* state = nullptr;
    Node* next_ready = nullptr;
  };

  void told(Node& node) noexcept;
  bool enough() const noexcept { return signal_.load(std::memory_order_acquire) != 0; }

  posix::List<Node> nodes_;
  std::size_t joined_ = 0;
  std::size_t left_ = nodes_.size();
  std::size_t next_help_ = 0;  // nodes before it have been asked to help
  const Urgent urgent_;

  posix::Mutex mutex_;  // guards the rest; signal_ is also read without it
  Node* first_ready_ = nullptr;
  Node* last_ready_ = nullptr;
  std::size_t outstanding_;
  std::atomic<std::uint32_t> signal_;
};

// Bodies.

template <FutureRange Range>
std::vector<FutureOf<Range>> distinct(Range&& range) {
  std::vector<FutureOf<Range>> futures;
  if constexpr (requires { futures.reserve(range.size()); }) futures.reserve(range.size());
  for (auto&& future : range) futures.push_back(future);
  if constexpr (!std::is_reference_v<Range> && std::is_move_constructible_v<Range>) {
    [[maybe_unused]] const auto given_up = std::forward<Range>(range);
  }

  // A hash set with open addressing of the states' addresses.
  std::size_t size = 4;
  while (size < futures.size() * 2) size *= 2;
  posix::List<const StateBase*> seen(size);
  const auto is_new = [&](const StateBase* state) {
    auto slot =
        (reinterpret_cast<std::uintptr_t>(state) >> 4) * std::uintptr_t{0x9E3779B97F4A7C15u};
    for (slot >>= 20;; ++slot) {
      const StateBase*& entry = seen[slot & (size - 1)];
      if (entry == state) return false;
      if (entry == nullptr) {
        entry = state;
        return true;
      }
    }
  };
  std::size_t kept = 0;
  for (std::size_t i = 0; i < futures.size(); ++i) {
    if (!is_new(futures[i].state())) continue;
    if (kept != i) futures[kept] = std::move(futures[i]);
    ++kept;
  }
  futures.erase(futures.begin() + static_cast<std::ptrdiff_t>(kept), futures.end());
  return futures;
}

inline void Gathering::join(StateBase& state) noexcept {
  Node& node = nodes_[joined_++];
  node.gathering = this;
  node.state = &state;
  if (!state.add_waiter(node)) told(node);
}

inline void Gathering::told(Node& node) noexcept {
  const posix::Locked lock{mutex_};
  (last_ready_ == nullptr ? first_ready_ : last_ready_->next_ready) = &node;
  last_ready_ = &node;
  --outstanding_;
  if (outstanding_ == 0 || urgent_ == Urgent::completion ||
      (urgent_ == Urgent::failure && node.state->status() == Status::failed)) {
    // Under the mutex: the waiting thread takes it before it goes, so the word is still there.
    if (signal_.exchange(1, std::memory_order_release) == 0) posix::futex_wake(signal_);
  }
}

inline bool Gathering::wait(const posix::Deadline& deadline) {
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

inline bool Gathering::take_ready(std::size_t& place) noexcept {
  const posix::Locked lock{mutex_};
  if (first_ready_ == nullptr) return false;
  Node& node = *first_ready_;
  first_ready_ = node.next_ready;
  if (first_ready_ == nullptr) {
    last_ready_ = nullptr;
    if (left_ > 1) signal_.store(0, std::memory_order_relaxed);
  }
  place = static_cast<std::size_t>(&node - &nodes_[0]);
  node.state = nullptr;
  --left_;
  return true;
}

inline Gathering::~Gathering() {
  for (Node& node : nodes_)
    if (node.state != nullptr) node.state->remove_waiter(node);
  const posix::Locked lock{mutex_};  // whoever told last has let go of it
}

}  // namespace brood::futures
