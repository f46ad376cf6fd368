// SPDX-License-Identifier: MIT
// Value and RawValue: one value that processes share. Python counterparts: multiprocessing.Value,
// multiprocessing.RawValue.
//
//     const mp::Value<long> sum(0);
//     mp::Process p([sum] { sum.update([](long& value) { value += 5; }); });
#pragma once

#include "lock.hpp"

namespace brood::multiprocessing {

/// What may lie in shared memory as it is: T is copied as bytes, and should hold no pointer, which
/// would mean nothing to another process.
template <class T>
concept Shareable = std::is_trivially_copyable_v<T> && std::is_same_v<T, std::remove_cv_t<T>>;

template <Shareable T>
struct SharedCell {
  T value;
};

/// A T in shared memory and nothing else: who uses it at the same time as others needs a lock, or a
/// T that can do without.
template <Shareable T>
class RawValue : public SharedHandle<SharedCell<T>> {
 public:
  /// Throws os::OSError, as when memory or descriptors have run out.
  explicit RawValue(const T& value)
      : SharedHandle<SharedCell<T>>{std::in_place, SharedCell<T>{value}} {}
  /// A T{}, all zeros if that is a number.
  RawValue() requires std::is_default_constructible_v<T> : RawValue{T{}} {}
  /// For the Serializer: see Reduction.
  RawValue(serialization::Reader& in, Reduction& reduction)
      : SharedHandle<SharedCell<T>>{in, reduction} {}

  T get() const { return this->core().value; }
  void set(const T& value) const { this->core().value = value; }

  /// The value itself, while this or another handle of the process is there.
  T& ref() const noexcept { return this->core().value; }
};

/// A T in shared memory and a lock for it, which each call takes.
template <Shareable T>
class Value {
 public:
  /// With a lock of its own. Throws os::OSError.
  explicit Value(const T& value) : Value{value, RLock{}} {}
  Value() requires std::is_default_constructible_v<T> : Value{T{}} {}
  /// With a lock of the caller's, which several may share.
  Value(const T& value, const RLock& lock) : lock_{lock}, raw_{value} {}

  /// For the Serializer: see Reduction.
  Value(serialization::Reader& in, Reduction& reduction)
      : lock_{in, reduction}, raw_{in, reduction} {}
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    lock_.reduce(out, reduction);
    raw_.reduce(out, reduction);
  }

  // Copied even when moved from, so that a handle always names a value.
  Value(const Value&) noexcept = default;
  Value& operator=(const Value&) noexcept = default;

  T get() const {
    const posix::Locked held{lock_};
    return raw_.get();
  }
  void set(const T& value) const {
    const posix::Locked held{lock_};
    raw_.set(value);
  }

  /// Reads, changes and writes with the lock held, and returns the new value. `f` gets a T&, a
  /// copy; if it returns something, that is the new value, else what it made of the copy is. If it
  /// throws, the value stays. Python: `with v.get_lock(): v.value += 1`.
  template <class F>
  requires std::is_invocable_v<F&, T&> T update(F f)
  const {
    const posix::Locked held{lock_};
    T value = raw_.get();
    if constexpr (std::is_void_v<std::invoke_result_t<F&, T&>>)
      f(value);
    else
      value = static_cast<T>(f(value));
    raw_.set(value);
    return value;
  }

  /// To hold it over several calls, or to learn whether a process died in the midst of one (see
  /// Lock::abandoned).
  const RLock& get_lock() const noexcept { return lock_; }
  /// The value without its lock.
  const RawValue<T>& get_obj() const noexcept { return raw_; }

  /// Whether two handles name the same value.
  friend bool operator==(const Value& a, const Value& b) noexcept { return a.raw_ == b.raw_; }
  using hashed_by_identity = void;
  const void* identity() const noexcept { return raw_.identity(); }

 private:
  RLock lock_;
  RawValue<T> raw_;
};

}  // namespace brood::multiprocessing

template <brood::multiprocessing::Shareable T>
struct brood::serialization::Serializer<brood::multiprocessing::RawValue<T>>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::RawValue<T>> {};

template <brood::multiprocessing::Shareable T>
struct brood::serialization::Serializer<brood::multiprocessing::Value<T>>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Value<T>> {};
