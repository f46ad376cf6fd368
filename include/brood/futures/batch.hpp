// SPDX-License-Identifier: MIT
// The results of several calls that one task makes, one after the other: what map() of a thread
// pool has its tasks return, so that a million short calls are some thousand tasks.
#pragma once

#include <cstddef>
#include <cstring>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>

#include "../posix/exchange.hpp"
#include "state.hpp"

namespace brood::futures {

/// A copy of arguments that lie side by side and are copied as bytes.
template <class Arg>
class ArgumentRun {
  static_assert(std::is_trivially_copyable_v<Arg> &&
                alignof(Arg) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

 public:
  ArgumentRun(const Arg* first, std::size_t size)
      : first_{static_cast<Arg*>(::operator new(size * sizeof(Arg)))}, size_{size} {
    std::memcpy(static_cast<void*>(first_), first, size * sizeof(Arg));
  }
  ArgumentRun(ArgumentRun&& other) noexcept
      : first_{posix::exchange(other.first_, nullptr)}, size_{other.size_} {}
  ArgumentRun& operator=(ArgumentRun&&) = delete;
  ~ArgumentRun() { ::operator delete(static_cast<void*>(first_)); }

  const Arg* first() const noexcept { return first_; }
  std::size_t size() const noexcept { return size_; }
  /// The memory is the caller's now, from ::operator new.
  void* release() noexcept { return posix::exchange(first_, nullptr); }

 private:
  Arg* first_;
  std::size_t size_;
};

/// So many results of type R, or exceptions in their places. A batch of one needs no memory
/// besides.
template <class R>
class Batch {
 public:
  /// Calls `call(store)` so many times, which hands to `store` a function that makes the result.
  /// What that throws takes the place of the result.
  template <class Call>
  Batch(std::size_t count, Call&& call) : Batch{count} {
    for (; size_ < count; ++size_) {
      try {
        call([this](auto&& make) { store(slots_[size_], make); });
      } catch (...) {
        add_failure();
      }
    }
    failure_ = first_;
  }
  /// Calls `make(argument)` for each. The results take the arguments' place in memory if they are
  /// of one size: fresh memory costs more than many a call.
  template <class Arg, class Make>
  Batch(ArgumentRun<Arg>&& run, Make make) : Batch{run.size(), run.first(), run, make} {}
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  ~Batch() {
    for (std::size_t i = 0; i < size_; ++i) {
      if (first_ != nullptr && first_->place == i)
        delete posix::exchange(first_, first_->next);
      else
        slots_[i].value.~Stored();
    }
    if (slots_ != &one_) {
      if constexpr (is_over_aligned)
        ::operator delete (static_cast<void*>(slots_), std::align_val_t{alignof(Slot)});
      else
        ::operator delete(static_cast<void*>(slots_));
    }
  }

  /// Room for one result.
  union Slot {
    struct Nothing {};
    using Stored = std::conditional_t<
        std::is_void_v<R>, Nothing,
        std::conditional_t<std::is_reference_v<R>, std::remove_reference_t<R>*, R>>;

    Slot() noexcept {}
    ~Slot() {}
    std::add_rvalue_reference_t<R> take() noexcept requires(!std::is_void_v<R>) {
      if constexpr (std::is_reference_v<R>)
        return static_cast<R&&>(*value);
      else
        return static_cast<R&&>(value);
    }
    Stored value;
  };
  Slot* begin() noexcept { return slots_; }
  Slot* end() noexcept { return slots_ + size_; }

  /// Throws what was thrown in the place of a result, if it was. Slots are asked for in their
  /// order.
  void check(const Slot* slot) {
    const auto place = static_cast<std::size_t>(slot - slots_);
    while (failure_ != nullptr && failure_->place < place) failure_ = failure_->next;
    if (failure_ != nullptr && failure_->place == place) std::rethrow_exception(failure_->error);
  }
  /// Whether every call gave a result.
  bool all_well() const noexcept { return first_ == nullptr; }

 private:
  using Stored = typename Slot::Stored;
  static constexpr bool is_over_aligned = alignof(Slot) > __STDCPP_DEFAULT_NEW_ALIGNMENT__;
  template <class Arg>
  static constexpr bool takes_over = sizeof(Arg) == sizeof(Slot) && !is_over_aligned;
  struct Failure {
    std::size_t place;
    std::exception_ptr error;
    Failure* next;
  };

  template <class Arg, class Make>
  Batch(std::size_t count, const Arg* next, ArgumentRun<Arg>& run, Make& make)
      : slots_{takes_over<Arg> ? static_cast<Slot*>(run.release()) : allocate(count)} {
    for (; size_ < count; ++size_, ++next) {
      try {
        Arg arg = *next;  // out of the way
        auto call = [&]() -> R { return make(std::move(arg)); };
        store(slots_[size_], call);
      } catch (...) {
        add_failure();
      }
    }
    failure_ = first_;
  }
  explicit Batch(std::size_t count) : slots_{count == 1 ? &one_ : allocate(count)} {}

  // In a catch block.
  void add_failure() {
    *last_ = new Failure{size_, std::current_exception(), nullptr};
    last_ = &(*last_)->next;
  }

  static Slot* allocate(std::size_t count) {
    const std::size_t size = count * sizeof(Slot);
    if constexpr (is_over_aligned)
      return static_cast<Slot*>(::operator new (size, std::align_val_t{alignof(Slot)}));
    else
      return static_cast<Slot*>(::operator new(size));
  }

  template <class Make>
  static void store(Slot& slot, Make& make) {
    void* const place = static_cast<void*>(std::addressof(slot.value));
    if constexpr (std::is_void_v<R>)
      make();
    else if constexpr (std::is_reference_v<R>)
      ::new (place) Stored{std::addressof(make())};
    else
      ::new (place) Stored(make());
  }

  Slot one_;
  Slot* slots_;
  std::size_t size_ = 0;
  Failure* first_ = nullptr;  // in the order of places
  Failure** last_ = &first_;
  Failure* failure_ = nullptr;  // the first that check() may still come to
};

}  // namespace brood::futures
