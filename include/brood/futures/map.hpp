// SPDX-License-Identifier: MIT
// The results of one call for each element of some ranges. Python counterpart: Executor.map.
//
//     for (double root : pool.map(calc, values)) fmt::print("{}\n", root);
//     pool.map({.timeout = 1s}, std::plus{}, left, right);      // the shorter range counts
//
// For executors: map_over() does all of it over a `submit` of theirs.
#pragma once

#include <concepts>
#include <cstddef>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "../posix/exchange.hpp"
#include "future.hpp"

namespace brood::futures {

/// A number in options: takes an integer of any type as it is; beyond std::ptrdiff_t, the largest
/// of that. May be left unset.
class Count {
 public:
  constexpr Count() noexcept = default;
  constexpr Count(std::nullopt_t) noexcept {}  // NOLINT: implicit
  template <std::integral N>
  constexpr Count(N number) noexcept  // NOLINT: implicit
      : value_{static_cast<std::ptrdiff_t>(number)}, is_set_{true} {
    if (number > N{0} && value_ <= 0) value_ = std::numeric_limits<std::ptrdiff_t>::max();
  }
  constexpr std::ptrdiff_t value() const noexcept { return value_; }
  constexpr bool has_value() const noexcept { return is_set_; }

 private:
  std::ptrdiff_t value_ = 0;
  bool is_set_ = false;
};

struct MapOptions {
  /// The time for all results, from the call of map.
  Timeout timeout = {};
  /// How many elements a process pool hands to a worker at a time, at least 1. Thread pools don't
  /// need it.
  Count chunksize = 1;
  /// How many calls (or chunks) may be submitted ahead of the result that is looked at, at least
  /// 1. Then elements are taken from the ranges as results are asked for, which works for endless
  /// ones; ranges passed as lvalues are referred to and must live as long. Without it, all are
  /// taken and submitted at once.
  Count buffersize = {};
};

/// The result of a void function.
struct None {
  friend constexpr bool operator==(None, None) noexcept = default;
};

/// More elements for a map with buffersize.
template <class R>
class MapSource : public posix::RefCounted {
 public:
  virtual ~MapSource() = default;
  /// Submits the next call, or chunk of calls, and appends its futures. False: no more.
  virtual bool pull(std::vector<Future<R>>& futures) = 0;
};

/// The results in the order of the elements: a range to go through once, by one thread. Waits
/// where a result is looked at; what its call threw is thrown there, and the next one can be looked
/// at after it. When the time is up TimeoutError is thrown, all that has not started is cancelled,
/// and the range is at its end. It lets go of each result when the next is asked for, so results
/// may be moved out.
///
/// Dropped before its first begin(), it cancels nothing, as Python's does: the calls are made.
/// After that, its end cancels those that have not started.
template <class R>
class MapResults {
 public:
  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::conditional_t<std::is_void_v<R>, None, std::remove_cvref_t<R>>;
    using difference_type = std::ptrdiff_t;
    using reference = std::conditional_t<std::is_void_v<R>, None, std::add_rvalue_reference_t<R>>;
    using pointer = value_type*;

    iterator() noexcept = default;

    /// Waits for the result. Throws what the call threw, TimeoutError.
    reference operator*() const { return range_->get(); }
    iterator& operator++() {
      range_->advance();
      return *this;
    }
    void operator++(int) { ++*this; }

    /// Two of one range are equal when both are at the end or neither is.
    friend bool operator==(const iterator& a, const iterator& b) noexcept {
      return a.at_end() == b.at_end();
    }

   private:
    friend MapResults;
    explicit iterator(MapResults* range) noexcept : range_{range} {}
    bool at_end() const noexcept { return range_ == nullptr || !range_->current_; }
    MapResults* range_ = nullptr;
  };

  /// For executors. `limit`: how many futures `source` may be ahead.
  MapResults(Timeout timeout, std::vector<Future<R>> futures, posix::Ref<MapSource<R>> source = {},
             std::size_t limit = 0)
      : deadline_{timeout},
        futures_{std::move(futures)},
        source_{std::move(source)},
        limit_{limit} {
    fill();
  }
  MapResults(MapResults&& other) noexcept
      : deadline_{other.deadline_},
        futures_{std::move(other.futures_)},
        next_{posix::exchange(other.next_, std::size_t{0})},
        source_{std::move(other.source_)},
        limit_{other.limit_},
        current_{std::move(other.current_)},
        begun_{posix::exchange(other.begun_, false)} {
    other.futures_.clear();
    other.current_.reset();
  }
  MapResults& operator=(MapResults&&) = delete;
  ~MapResults() {
    if (begun_) cancel();
  }

  /// Does not wait. With buffersize, may throw what submit throws, as operator++ may.
  iterator begin() {
    if (!posix::exchange(begun_, true)) advance();
    return iterator{this};
  }
  iterator end() noexcept { return iterator{}; }

 private:
  void fill() {
    while (source_ && futures_.size() - next_ < limit_)
      if (!source_->pull(futures_)) source_ = nullptr;
  }
  void advance();
  void cancel() noexcept;
  typename iterator::reference get();

  posix::Deadline deadline_;
  std::vector<Future<R>> futures_;  // those before next_ are moved from
  std::size_t next_ = 0;
  posix::Ref<MapSource<R>> source_;
  std::size_t limit_;
  std::optional<Future<R>> current_;  // the only handle of its future
  bool begun_ = false;
};

/// What an element of a range is passed on as: elements of a container that was given up are moved.
template <class Range>
decltype(auto) pass_element(decltype(*std::begin(std::declval<Range&>()))&& element) {
  using Reference = decltype(element);
  if constexpr (std::is_lvalue_reference_v<Reference> && !std::is_reference_v<Range> &&
                requires(Range owner) { owner.clear(); })
    return std::move(element);
  else
    return static_cast<Reference>(element);
}
template <class Range>
using Element =
    std::decay_t<decltype(*std::begin(std::declval<std::remove_reference_t<Range>&>()))>;

/// Whether f can be called with an element of each range. Without ranges, nothing is called.
template <class F, class... Ranges>
concept Mappable =
    sizeof...(Ranges) == 0 || std::is_invocable_v<std::decay_t<F>, Element<Ranges>...>;

/// What map(f, ranges...) of an executor gives a range of.
template <class F, class... Ranges>
struct MapResult {
  using type = void;
};
template <class F, class... Ranges>
requires std::is_invocable_v<std::decay_t<F>, Element<Ranges>...>
struct MapResult<F, Ranges...> {
  using type = std::remove_cv_t<std::invoke_result_t<std::decay_t<F>, Element<Ranges>...>>;
};
template <class F, class... Ranges>
using MapResultOf = typename MapResult<F, Ranges...>::type;

/// map for an executor. `submit(elements...)` submits one call and returns its Future<R>; elements
/// are decay-copied by it. If there is also
///
///     submit.many(std::vector<std::tuple<Element<Ranges>...>> calls, std::vector<Future<R>>& out)
///
/// which submits several as one and appends a future for each, chunksize holds. `submit` must stay
/// usable (it may throw) as long as the range lives. Throws std::invalid_argument for a buffersize
/// or chunksize below 1, and what submit throws.
template <class R, class Submit, class... Ranges>
MapResults<R> map_over(const MapOptions& options, Submit submit, Ranges&&... ranges);

// Bodies.

template <class R>
void MapResults<R>::advance() {
  current_.reset();
  if (next_ < futures_.size()) {
    current_.emplace(std::move(futures_[next_]));
    ++next_;
    if (next_ * 2 >= futures_.size() && source_) {
      futures_.erase(futures_.begin(), futures_.begin() + static_cast<std::ptrdiff_t>(next_));
      next_ = 0;
    }
  }
  fill();
}

template <class R>
void MapResults<R>::cancel() noexcept {
  source_ = nullptr;
  if (current_) current_->cancel();
  for (; next_ < futures_.size(); ++next_) futures_[next_].cancel();
  futures_.clear();
  next_ = 0;
}

template <class R>
typename MapResults<R>::iterator::reference MapResults<R>::get() {
  auto& state = static_cast<FutureState<R>&>(*current_->state());
  if (!state.done() && !state.wait(deadline_)) {
    cancel();
    current_.reset();
    throw TimeoutError{"map: the results were not there in time"};
  }
  if (state.status() == Status::cancelled) throw CancelledError{};
  if (state.error()) std::rethrow_exception(state.error());
  if constexpr (std::is_void_v<R>)
    return {};
  else
    return static_cast<typename iterator::reference>(state.value());
}

template <class R, class Submit, class... Ranges>
class MapInput final : public MapSource<R> {
 public:
  MapInput(Submit submit, std::size_t chunksize, Ranges&&... ranges)
      : submit_{std::move(submit)},
        chunksize_{chunksize},
        inputs_{std::forward<Ranges>(ranges)...} {}

  bool pull(std::vector<Future<R>>& futures) override {
    if constexpr (takes_chunks) {
      std::vector<Call> calls;
      while (calls.size() < chunksize_ && take([&](auto&&... elements) {
               calls.emplace_back(std::forward<decltype(elements)>(elements)...);
             })) {
      }
      if (calls.empty()) return false;
      submit_.many(std::move(calls), futures);
      return true;
    } else {
      return take([&](auto&&... elements) {
        futures.push_back(submit_(std::forward<decltype(elements)>(elements)...));
      });
    }
  }

 private:
  using Call = std::tuple<Element<Ranges>...>;
  static constexpr bool takes_chunks =
      requires(Submit submit, std::vector<Call> calls, std::vector<Future<R>> out) {
    submit.many(std::move(calls), out);
  };

  // A range on the way through it; it is owned unless it is a reference.
  template <class Range>
  struct Input {
    Input(Range&& its_range) : range(std::forward<Range>(its_range)) {}  // NOLINT: implicit
    Range range;
    decltype(std::begin(std::declval<Range&>())) at = std::begin(range);
    decltype(std::end(std::declval<Range&>())) end = std::end(range);
  };

  template <class F>
  bool take(F f) {
    if constexpr (sizeof...(Ranges) == 0) {
      return false;
    } else {
      return std::apply(
          [&](Input<Ranges>&... inputs) {
            if (((inputs.at == inputs.end) || ...)) return false;
            f(pass_element<Ranges>(*inputs.at)...);
            (++inputs.at, ...);
            return true;
          },
          inputs_);
    }
  }

  Submit submit_;
  const std::size_t chunksize_;
  std::tuple<Input<Ranges>...> inputs_;
};

template <class R, class Submit, class... Ranges>
MapResults<R> map_over(const MapOptions& options, Submit submit, Ranges&&... ranges) {
  using Input = MapInput<R, Submit, Ranges...>;
  const std::ptrdiff_t buffersize = options.buffersize.has_value() ? options.buffersize.value() : 1;
  if (buffersize < 1) throw std::invalid_argument{"map: buffersize must be at least 1"};
  if (options.chunksize.value() < 1)
    throw std::invalid_argument{"map: chunksize must be at least 1"};
  const auto chunksize = static_cast<std::size_t>(options.chunksize.value());
  if (options.buffersize.has_value()) {
    std::size_t limit = 0;
    if (__builtin_mul_overflow(static_cast<std::size_t>(buffersize), chunksize, &limit))
      limit = std::numeric_limits<std::size_t>::max();
    auto input =
        posix::make_ref<Input>(std::move(submit), chunksize, std::forward<Ranges>(ranges)...);
    return {options.timeout, {}, std::move(input), limit};
  }
  const posix::Deadline deadline{options.timeout};
  Input input{std::move(submit), chunksize, std::forward<Ranges>(ranges)...};
  std::vector<Future<R>> futures;
  while (input.pull(futures)) {
  }
  return {deadline.timeout(), std::move(futures)};
}

}  // namespace brood::futures
