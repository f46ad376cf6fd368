// SPDX-License-Identifier: MIT
// A shared owner with the count inside the object: one allocation, one word, and none of <memory>.
// The count uses the compiler's atomic operations, since <atomic> is dear to compile too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "exchange.hpp"

namespace brood::posix {

/// Base of what a Ref owns. Starts with one owner, who is the first Ref (see make_ref).
class RefCounted {
 public:
  RefCounted() noexcept = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  void add_owner() const noexcept { __atomic_fetch_add(&owners_, 1, __ATOMIC_RELAXED); }
  /// True when that was the last one.
  bool drop_owner() const noexcept {
    // Pairs with itself: what any owner wrote is seen by the one who destroys.
    return __atomic_fetch_sub(&owners_, 1, __ATOMIC_ACQ_REL) == 1;
  }
  /// Adds an owner unless the last one is gone: for those who know the object by its address only,
  /// and keep its destructor from ending meanwhile.
  bool try_add_owner() const noexcept {
    std::uint32_t seen = __atomic_load_n(&owners_, __ATOMIC_RELAXED);
    while (seen != 0)
      if (__atomic_compare_exchange_n(&owners_, &seen, seen + 1, true, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED))
        return true;
    return false;
  }

 protected:
  ~RefCounted() = default;

 private:
  mutable std::uint32_t owners_ = 1;
};

/// A class, other than T, whose objects a Ref<T> may own.
template <class U, class T>
concept DerivedFrom = !std::is_same_v<U, T> && std::is_convertible_v<U*, T*>;

/// Shares an object derived from RefCounted. Like std::shared_ptr, constness is shallow.
template <class T>
class Ref {
 public:
  Ref() noexcept = default;
  Ref(std::nullptr_t) noexcept {}  // NOLINT: implicit
  /// Takes over one count that is already there.
  static Ref adopt(T* object) noexcept {
    Ref result;
    result.object_ = object;
    return result;
  }
  /// Adds an owner.
  static Ref share(T* object) noexcept {
    if (object != nullptr) object->add_owner();
    return adopt(object);
  }
  Ref(const Ref& other) noexcept : object_{other.object_} {
    if (object_ != nullptr) object_->add_owner();
  }
  Ref(Ref&& other) noexcept : object_{posix::exchange(other.object_, nullptr)} {}
  template <DerivedFrom<T> U>
  Ref(Ref<U> other) noexcept : object_{other.release()} {}  // NOLINT: implicit
  Ref& operator=(Ref other) noexcept {
    T* const mine = object_;
    object_ = other.object_;
    other.object_ = mine;
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr && object_->drop_owner()) delete object_;
  }

  T* get() const noexcept { return object_; }
  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  /// Gives up the pointer without dropping its count.
  T* release() noexcept { return posix::exchange(object_, nullptr); }
  friend bool operator==(const Ref&, const Ref&) noexcept = default;

 private:
  T* object_ = nullptr;
};

template <class T, class... Args>
Ref<T> make_ref(Args&&... args) {
  return Ref<T>::adopt(new T(std::forward<Args>(args)...));
}

}  // namespace brood::posix
