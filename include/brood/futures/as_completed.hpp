// SPDX-License-Identifier: MIT
// Futures one by one, as they are done. Python counterpart: concurrent.futures.as_completed.
//
//     for (auto future : futures::as_completed(tasks)) fmt::print("{}\n", future.result());
#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "../posix/exchange.hpp"
#include "consumed.hpp"
#include "gathering.hpp"

namespace brood::futures {

/// A range to go through once. Waits between the elements; not for several threads at once.
template <class F>
class AsCompleted {
 public:
  /// A single-pass input iterator, old style too.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using iterator_category = std::input_iterator_tag;
    using pointer = F*;
    using value_type = F;
    using difference_type = std::ptrdiff_t;
    using reference = F&&;

    iterator() noexcept = default;

    /// The future, which may be moved from: the range does not use it any more.
    F&& operator*() const noexcept { return std::move(*range_->current_); }
    F* operator->() const noexcept { return &*range_->current_; }
    /// Waits for the next. Throws TimeoutError when the time of the whole range is up.
    iterator& operator++() {
      range_->advance();
      return *this;
    }
    Consumed<F> operator++(int) {
      Consumed<F> result{**this};
      ++*this;
      return result;
    }

    /// Two of one range are equal when both are at the end or neither is.
    friend bool operator==(const iterator& a, const iterator& b) noexcept {
      return a.at_end() == b.at_end();
    }

   private:
    friend AsCompleted;
    explicit iterator(AsCompleted* range) noexcept : range_{range} {}
    bool at_end() const noexcept { return range_ == nullptr || !range_->current_; }
    AsCompleted* range_ = nullptr;
  };

  AsCompleted(std::vector<F> different, Timeout timeout);
  AsCompleted(AsCompleted&&) noexcept = default;
  AsCompleted& operator=(AsCompleted&&) noexcept = default;

  /// Waits for the first. Throws as operator++.
  iterator begin() {
    if (!posix::exchange(begun_, true)) advance();
    return iterator{this};
  }
  iterator end() noexcept { return iterator{}; }

 private:
  struct Members : posix::RefCounted {
    Members(std::vector<F> different, Timeout timeout);
    ~Members();
    std::vector<F> done;  // when asked first; moved from once they were yielded
    std::size_t yielded = 0;
    const std::size_t count;
    const posix::Deadline deadline;
    Gathering gathering;  // of the others, whose handles it has
  };

  void advance();

  posix::Ref<Members> members_;
  std::optional<F> current_;
  bool begun_ = false;
};

/// The futures in the order in which they are done: those that are done already first, each one
/// once. The range lets go of each as it hands it out. `futures` is any range of Future<T>, or of
/// AnyFuture for different types and executors. The time is that of the whole range, from this
/// call: when it is up, what is done is still handed out, then TimeoutError is thrown, which tells
/// how many are unfinished.
template <FutureRange Range>
AsCompleted<FutureOf<Range>> as_completed(Range&& futures, Timeout timeout = forever) {
  return {distinct(std::forward<Range>(futures)), timeout};
}
/// The same for a list in braces: of one type, or mixed, which gives AnyFutures.
template <class F>
AsCompleted<F> as_completed(std::initializer_list<F> futures, Timeout timeout = forever) {
  return {distinct(futures), timeout};
}
template <class Mixed = AnyFuture>
AsCompleted<Mixed> as_completed(std::initializer_list<std::type_identity_t<Mixed>> futures,
                                Timeout timeout = forever) {
  return {distinct(futures), timeout};
}

// Bodies.

template <class F>
AsCompleted<F>::AsCompleted(std::vector<F> different, Timeout timeout)
    : members_{posix::make_ref<Members>(std::move(different), timeout)} {}

template <class F>
AsCompleted<F>::Members::Members(std::vector<F> different, Timeout timeout)
    : done{std::move(different)},
      count{done.size()},
      deadline{timeout},
      gathering{count, Urgent::completion} {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count; ++i) {
    F& future = done[i];
    if (gathering.join(*future.state()))
      future.release();
    else if (const std::size_t place = kept++; place != i)
      done[place] = std::move(future);
  }
  done.erase(done.begin() + static_cast<std::ptrdiff_t>(kept), done.end());
}

template <class F>
AsCompleted<F>::Members::~Members() {
  gathering.leave([](StateBase& state) { F::adopt(state); });
}

template <class F>
void AsCompleted<F>::advance() {
  current_.reset();
  Members& members = *members_;
  if (members.yielded < members.done.size()) {
    current_ = std::move(members.done[members.yielded++]);
    return;
  }
  StateBase* state = nullptr;
  while ((state = members.gathering.take_ready()) == nullptr) {
    if (members.gathering.left() == 0) return;
    if (!members.gathering.wait(members.deadline))
      throw TimeoutError{std::to_string(members.gathering.left()) + " (of " +
                         std::to_string(members.count) + ") futures unfinished"};
  }
  current_ = F::adopt(*state);
}

}  // namespace brood::futures
