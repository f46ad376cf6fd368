// SPDX-License-Identifier: MIT
// Array and RawArray: values in a row that processes share. Python counterparts:
// multiprocessing.Array, multiprocessing.RawArray.
//
//     const mp::Array<double> samples(1000);
//     mp::Process p([samples] {
//       const std::scoped_lock held(samples.get_lock());
//       for (double& sample : samples) sample = measure();
//     });
#pragma once

#include <initializer_list>
#include <span>  // also for the concepts of <iterator>, whose stream iterators are dear to compile
#include <stdexcept>
#include <string>

#include "literal.hpp"
#include "value.hpp"

namespace brood::multiprocessing {

/// `size()` Ts in shared memory and nothing else.
template <Shareable T>
class RawArray {
 public:
  using value_type = T;
  using iterator = T*;

  /// `size` zeros: all bytes are 0. Throws std::invalid_argument if it is negative, os::OSError
  /// (ENOMEM, ENOSPC: there is not so much memory; it tells how much was wanted).
  template <class Size>
  requires std::is_integral_v<Size>
  explicit RawArray(Size size) : state_{make(check(size))} {}

  /// The values of a range, which is gone through twice. A string literal has its characters,
  /// without the NUL behind them.
  template <class Range>
  requires(
      std::forward_iterator<decltype(std::begin(std::declval<Range&>()))> &&
      !std::is_base_of_v<RawArray, std::remove_cvref_t<Range>>) explicit RawArray(Range&& values)
      : RawArray{std::begin(values), end_of(values)} {}
  explicit RawArray(std::initializer_list<T> values) : RawArray{values.begin(), values.end()} {}

  /// For the Serializer: see Reduction.
  RawArray(serialization::Reader& in, Reduction& reduction);
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    const Reduced numbers{ReducedBlock::of(block(), reduction), size()};
    out.write_bytes(&numbers, sizeof numbers);
  }

  // Copied even when moved from, so that a handle always names an array.
  RawArray(const RawArray&) noexcept = default;
  RawArray& operator=(const RawArray&) noexcept = default;

  std::size_t size() const noexcept { return state_->size; }
  /// Throws std::out_of_range.
  T& operator[](std::size_t index) const {
    if (index >= size())
      throw std::out_of_range{"look into a shared array of " + std::to_string(size()) + ": at " +
                              std::to_string(index)};
    return data()[index];
  }
  /// Valid while this or another handle of the process is there.
  T* data() const noexcept { return reinterpret_cast<T*>(state_->block.data()); }
  T* begin() const noexcept { return data(); }
  T* end() const noexcept { return data() + size(); }
  /// All of it, to take slices of.
  std::span<T> span() const noexcept { return {data(), size()}; }

  /// Whether two handles name the same array.
  friend bool operator==(const RawArray&, const RawArray&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return state_.get(); }

  /// Where it lies.
  const sync::SharedBlock& block() const noexcept { return state_->block; }

 private:
  struct State final : posix::RefCounted {
    // Even an empty one has a place of its own, by which it is known.
    explicit State(std::size_t count)
        : block{sync::SharedHeap::make(count == 0 ? 1 : count * sizeof(T), alignment)},
          size{count} {}
    State(sync::SharedBlock there, std::size_t count) noexcept
        : block{std::move(there)}, size{count} {}
    sync::SharedBlock block;
    std::size_t size;
  };
  struct Reduced {
    ReducedBlock block;
    std::uint64_t size;
  };
  static constexpr std::size_t alignment = alignof(T) > 64 ? alignof(T) : 64;
  static_assert(alignment <= 4096);

  template <class Iterator, class End>
  RawArray(Iterator first, End last) : state_{make(distance(first, last))} {
    for (T& place : *this) {
      ::new (static_cast<void*>(&place)) T(static_cast<T>(*first));
      ++first;
    }
  }

  template <class Range>
  static auto end_of(Range& values) {
    if constexpr (std::is_array_v<Range>)
      return values + multiprocessing::meant_size(values);
    else
      return std::end(values);
  }
  template <class Size>
  static std::size_t check(Size size) {
    if constexpr (std::is_signed_v<Size>)
      if (size < 0)
        throw std::invalid_argument{"make a shared array: its size is " + std::to_string(size)};
    return static_cast<std::size_t>(size);
  }
  static posix::Ref<State> make(std::size_t size) {
    if (size > static_cast<std::size_t>(-1) / 4 / sizeof(T))
      posix::throw_os_error(ENOMEM, "make a shared array of " + std::to_string(size));
    return posix::make_ref<State>(size);
  }
  template <class Iterator, class End>
  static std::size_t distance(Iterator first, End last) {
    std::size_t count = 0;
    for (; first != last; ++first) ++count;
    return count;
  }

  posix::Ref<State> state_;
};

template <Shareable T>
RawArray<T>::RawArray(serialization::Reader& in, Reduction& reduction) {
  const auto numbers = multiprocessing::read_plain<Reduced>(in);
  state_ = reduction.once<State>(numbers.block.file, numbers.block.offset, [&] {
    sync::SharedBlock there = numbers.block.attach(reduction, alignment);
    if (numbers.size > there.size() / sizeof(T))
      serialization::throw_error("a shared array beyond the end of its memory");
    return posix::make_ref<State>(std::move(there), static_cast<std::size_t>(numbers.size));
  });
  if (size() != numbers.size) serialization::throw_error("a shared array of two sizes");
}

/// A RawArray and a lock for it. Elements are references, so the lock is the caller's to take where
/// several processes use the same ones at the same time. (Python takes it for each access.)
template <Shareable T>
class Array : public RawArray<T> {
 public:
  /// As of RawArray, with a lock of its own.
  template <class Source>
  requires(
      std::is_constructible_v<RawArray<T>, Source> &&
      !std::is_base_of_v<RawArray<T>, std::remove_cvref_t<Source>>) explicit Array(Source&& source)
      : RawArray<T>(std::forward<Source>(source)) {}
  explicit Array(std::initializer_list<T> values) : RawArray<T>(values) {}

  /// With a lock of the caller's, which several may share.
  template <class Source>
  requires std::is_constructible_v<RawArray<T>, Source> Array(Source&& source, const RLock& lock)
      : RawArray<T>(std::forward<Source>(source)), lock_{lock} {}
  Array(std::initializer_list<T> values, const RLock& lock) : RawArray<T>(values), lock_{lock} {}

  /// For the Serializer: see Reduction.
  Array(serialization::Reader& in, Reduction& reduction)
      : RawArray<T>(in, reduction), lock_{in, reduction} {}
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    RawArray<T>::reduce(out, reduction);
    lock_.reduce(out, reduction);
  }

  /// To hold while elements are used that others may change, and to learn whether a process died
  /// with it held (see Lock::abandoned).
  const RLock& get_lock() const noexcept { return lock_; }
  /// The array without its lock.
  const RawArray<T>& get_obj() const noexcept { return *this; }

 private:
  RLock lock_;
};

}  // namespace brood::multiprocessing

template <brood::multiprocessing::Shareable T>
struct brood::serialization::Serializer<brood::multiprocessing::RawArray<T>>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::RawArray<T>> {};

template <brood::multiprocessing::Shareable T>
struct brood::serialization::Serializer<brood::multiprocessing::Array<T>>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Array<T>> {};
