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
#include "consumed.hpp"
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
  /// How many elements are handed to a worker at a time, at least 1. It makes their calls one after
  /// the other, so many short calls cost little; they are cancelled together. That holds for pools
  /// of threads too, where Python ignores it: calls that wait for one another lock up if they are
  /// in one chunk. With the 1 that it is unless asked for, each call is a task of its own.
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
template <class Item>
class MapSource : public posix::RefCounted {
 public:
  virtual ~MapSource() = default;
  /// Submits the next call, or chunk of calls, and appends its futures. False: no more.
  virtual bool pull(std::vector<Future<Item>>& futures) = 0;
};

/// The results in the order of the elements: a range to go through once, by one thread. Waits
/// where a result is looked at; what its call threw is thrown there, and the next one can be looked
/// at after it. When the time is up TimeoutError is thrown, all that has not started is cancelled,
/// and the range is at its end. It lets go of each result when the next is asked for, so results
/// may be moved out.
///
/// Dropped before its first begin(), it cancels nothing, as Python's does: the calls are made.
/// After that, its end cancels those that have not started.
///
/// Item is what a future of the executor's holds: a result, or a Batch<R> of them.
template <class R, class Item = R>
class MapResults {
  static constexpr bool in_batches = !std::is_same_v<R, Item>;
  struct NoBatch {
    struct Slot {};
  };
  using ItsBatch = std::conditional_t<in_batches, Item, NoBatch>;
  using Slot = typename ItsBatch::Slot;

 public:
  /// A single-pass input iterator, old style too: `std::vector<R>(results.begin(), results.end())`.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using iterator_category = std::input_iterator_tag;
    using pointer = void;
    using value_type = std::conditional_t<std::is_void_v<R>, None, std::remove_cvref_t<R>>;
    using difference_type = std::ptrdiff_t;
    using reference = std::conditional_t<std::is_void_v<R>, None, std::add_rvalue_reference_t<R>>;

    iterator() noexcept = default;

    /// Waits for the result. Throws what the call threw, TimeoutError.
    reference operator*() const {
      if constexpr (in_batches && !std::is_void_v<R>) {
        if (at_ != nullptr) return at_->take();
        reference result = range_->get();
        if (range_->batch_->all_well()) {
          at_ = range_->at_;
          end_ = range_->end_;
        }
        return static_cast<reference>(result);
      } else {
        return range_->get();
      }
    }
    /// With a chunksize above 1 it waits for a chunk that was not looked at, to know its end.
    iterator& operator++() {
      if constexpr (in_batches) {
        if (at_ != nullptr && ++at_ != end_) {
          range_->at_ = at_;
          return *this;
        }
        at_ = nullptr;
      }
      range_->advance();
      return *this;
    }
    Consumed<value_type> operator++(int) {
      Consumed<value_type> result{**this};
      ++*this;
      return result;
    }

    /// Two of one range are equal when both are at the end or neither is.
    friend bool operator==(const iterator& a, const iterator& b) noexcept {
      return a.at_end() == b.at_end();
    }

   private:
    friend MapResults;
    explicit iterator(MapResults* range) noexcept : range_{range} {}
    bool at_end() const noexcept {
      return at_ == nullptr && (range_ == nullptr || !range_->current_);
    }
    MapResults* range_ = nullptr;
    // The range's, within a batch without failures, and the reason why a result costs no more than
    // a look into an array.
    mutable Slot* at_ = nullptr;
    mutable Slot* end_ = nullptr;
  };

  /// For executors. `limit`: how many futures `source` may be ahead.
  MapResults(Timeout timeout, std::vector<Future<Item>> futures,
             posix::Ref<MapSource<Item>> source = {}, std::size_t limit = 0,
             std::size_t chunksize = 1)
      : deadline_{timeout},
        futures_{std::move(futures)},
        source_{std::move(source)},
        limit_{limit},
        by_ones_{chunksize == 1} {
    fill();
  }
  MapResults(MapResults&& other) noexcept
      : deadline_{other.deadline_},
        futures_{std::move(other.futures_)},
        next_{posix::exchange(other.next_, std::size_t{0})},
        source_{std::move(other.source_)},
        limit_{other.limit_},
        by_ones_{other.by_ones_},
        current_{std::move(other.current_)},
        batch_{posix::exchange(other.batch_, nullptr)},
        at_{posix::exchange(other.at_, nullptr)},
        end_{other.end_},
        begun_{posix::exchange(other.begun_, false)} {
    other.futures_.clear();
    other.current_.reset();
  }
  /// Ends this one first, as the destructor does.
  MapResults& operator=(MapResults&& other) noexcept {
    if (this == &other) return *this;
    std::destroy_at(this);
    std::construct_at(this, std::move(other));
    return *this;
  }
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
  void advance_to_next();
  void cancel() noexcept;
  void await_end();
  void open_batch() noexcept;
  typename iterator::reference get();

  posix::Deadline deadline_;
  std::vector<Future<Item>> futures_;  // those before next_ are moved from
  std::size_t next_ = 0;
  posix::Ref<MapSource<Item>> source_;
  std::size_t limit_;
  bool by_ones_;                         // each future is one result's
  std::optional<Future<Item>> current_;  // the only handle of its future
  // Of the current batch, once it has been looked into.
  ItsBatch* batch_ = nullptr;
  Slot* at_ = nullptr;
  Slot* end_ = nullptr;
  bool begun_ = false;
};

/// What an element of a range is when it is kept: of a proxy, as std::vector<bool> has them, what
/// it stands for.
template <class Iterator, class Reference = decltype(*std::declval<Iterator&>())>
struct KeptElement {
  using type = std::decay_t<Reference>;
};
template <class Iterator, class Reference>
requires(!std::is_reference_v<Reference>) && requires { typename std::iter_value_t<Iterator>; }
struct KeptElement<Iterator, Reference> {
  using type = std::decay_t<std::iter_value_t<Iterator>>;
};
template <class Range>
using Element = typename KeptElement<decltype(std::begin(
    std::declval<std::remove_reference_t<Range>&>()))>::type;

/// What an element of a range is passed on as: elements of a container that was given up are moved.
template <class Range>
decltype(auto) pass_element(decltype(*std::begin(std::declval<Range&>()))&& element) {
  using Reference = decltype(element);
  if constexpr (!std::is_same_v<std::decay_t<Reference>, Element<Range>>)
    return static_cast<Element<Range>>(std::move(element));
  else if constexpr (std::is_lvalue_reference_v<Reference> && !std::is_reference_v<Range> &&
                     requires(Range owner) { owner.clear(); })
    return std::move(element);
  else
    return static_cast<Reference>(element);
}

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

/// map for an executor. `submit(elements...)` submits one call and returns its Future<Item>;
/// elements are decay-copied by it. If there is also
///
///     submit.many(std::vector<std::tuple<Element<Ranges>...>> calls,
///                 std::vector<Future<Item>>& out)
///
/// which submits several as one and appends what becomes of them, chunksize holds; it may have
///
///     submit.many_of_one(const Element* first, std::size_t count, std::vector<Future<Item>>& out)
///
/// as well, for a single range that is an array of what is copied as bytes. `submit` must stay
/// usable (it may throw) as long as the range lives. Throws std::invalid_argument for a buffersize
/// or chunksize below 1, and what submit throws.
template <class R, class Item = R, class Submit, class... Ranges>
MapResults<R, Item> map_over(const MapOptions& options, Submit submit, Ranges&&... ranges);

// Bodies.

template <class R, class Item>
void MapResults<R, Item>::advance() {
  if constexpr (in_batches) {
    if (at_ == nullptr && current_ && !by_ones_) {
      await_end();
      if (current_->state()->status() == Status::succeeded) open_batch();
    }
    if (at_ != nullptr && ++at_ != end_) return;
  }
  advance_to_next();
}

template <class R, class Item>
void MapResults<R, Item>::advance_to_next() {
  current_.reset();
  batch_ = nullptr;
  at_ = nullptr;
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

template <class R, class Item>
void MapResults<R, Item>::cancel() noexcept {
  source_ = nullptr;
  if (current_) current_->cancel();
  for (; next_ < futures_.size(); ++next_) futures_[next_].cancel();
  futures_.clear();
  next_ = 0;
}

// Waits for the current future; ends the range if time is up.
template <class R, class Item>
void MapResults<R, Item>::await_end() {
  StateBase& state = *current_->state();
  if (state.done() || state.wait(deadline_)) return;
  cancel();
  current_.reset();
  throw TimeoutError{"map: the results were not there in time"};
}

template <class R, class Item>
void MapResults<R, Item>::open_batch() noexcept {
  batch_ = &static_cast<FutureState<Item>&>(*current_->state()).value();
  at_ = batch_->begin();
  end_ = batch_->end();
}

template <class R, class Item>
typename MapResults<R, Item>::iterator::reference MapResults<R, Item>::get() {
  if (at_ == nullptr) {
    await_end();
    StateBase& state = *current_->state();
    if (state.status() == Status::cancelled) throw CancelledError{};
    if (state.error()) std::rethrow_exception(state.error());
    if constexpr (in_batches) open_batch();
  }
  if constexpr (in_batches) batch_->check(at_);
  if constexpr (std::is_void_v<R>)
    return {};
  else if constexpr (in_batches)
    return at_->take();
  else
    return static_cast<typename iterator::reference>(
        static_cast<FutureState<R>&>(*current_->state()).value());
}

template <class Item, class Submit, class... Ranges>
class MapInput final : public MapSource<Item> {
 public:
  MapInput(Submit submit, std::size_t chunksize, Ranges&&... ranges)
      : submit_{std::move(submit)},
        chunksize_{chunksize},
        inputs_{std::forward<Ranges>(ranges)...} {}

  bool pull(std::vector<Future<Item>>& futures) override {
    if constexpr (copies_array<Ranges...>()) {
      auto& [range, at, end] = std::get<0>(inputs_);
      const auto left = static_cast<std::size_t>(end - at);
      if (left == 0) return false;
      const std::size_t count = left < chunksize_ ? left : chunksize_;
      submit_.many_of_one(std::addressof(*at), count, futures);
      at += static_cast<std::ptrdiff_t>(count);
      return true;
    } else if constexpr (takes_chunks) {
      std::vector<Call> calls;
      calls.reserve(chunksize_ < 4096 ? chunksize_ : 4096);
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
      requires(Submit submit, std::vector<Call> calls, std::vector<Future<Item>> out) {
    submit.many(std::move(calls), out);
  };

  // Whether chunks are copied from an array, and nothing else is gone through.
  template <class... Rs>
  static constexpr bool copies_array() {
    if constexpr (sizeof...(Rs) == 1 && (std::is_lvalue_reference_v<Rs> && ...))
      return (copies_from<Rs>() && ...);
    else
      return false;
  }
  template <class Range>
  static constexpr bool copies_from() {
    using Iterator = decltype(std::begin(std::declval<Range>()));
    using Arg = Element<Range>;
    if constexpr (std::contiguous_iterator<Iterator> && std::is_trivially_copyable_v<Arg> &&
                  alignof(Arg) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__)
      return std::is_same_v<Iterator, decltype(std::end(std::declval<Range>()))> &&
             std::is_same_v<std::remove_cvref_t<decltype(*std::begin(std::declval<Range>()))>,
                            Arg> &&
             requires(Submit submit, const Arg* first, std::vector<Future<Item>> out) {
        submit.many_of_one(first, std::size_t{1}, out);
      };
    else
      return false;
  }

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
            const bool at_end = ((inputs.at == inputs.end) || ...);
            if (at_end) return false;
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

template <class R, class Item, class Submit, class... Ranges>
MapResults<R, Item> map_over(const MapOptions& options, Submit submit, Ranges&&... ranges) {
  using Input = MapInput<Item, Submit, Ranges...>;
  const std::ptrdiff_t buffersize = options.buffersize.has_value() ? options.buffersize.value() : 1;
  if (buffersize < 1) throw std::invalid_argument{"map: buffersize must be at least 1"};
  if (options.chunksize.value() < 1)
    throw std::invalid_argument{"map: chunksize must be at least 1"};
  const auto chunksize = static_cast<std::size_t>(options.chunksize.value());
  if (options.buffersize.has_value()) {
    std::size_t limit = 0;
    const std::size_t futures_a_chunk = std::is_same_v<R, Item> ? chunksize : 1;
    if (__builtin_mul_overflow(static_cast<std::size_t>(buffersize), futures_a_chunk, &limit))
      limit = std::numeric_limits<std::size_t>::max();
    auto input =
        posix::make_ref<Input>(std::move(submit), chunksize, std::forward<Ranges>(ranges)...);
    return {options.timeout, {}, std::move(input), limit, chunksize};
  }
  const posix::Deadline deadline{options.timeout};
  Input input{std::move(submit), chunksize, std::forward<Ranges>(ranges)...};
  std::vector<Future<Item>> futures;
  while (input.pull(futures)) {
  }
  return {deadline.timeout(), std::move(futures), {}, 0, chunksize};
}

}  // namespace brood::futures
