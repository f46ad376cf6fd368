// SPDX-License-Identifier: MIT
#pragma once

namespace brood::posix {

/// std::exchange without its promise of noexcept, which costs each of its many users' includers the
/// traits that it asks.
template <class T, class U>
constexpr T exchange(T& object, U&& value) {
  T old = static_cast<T&&>(object);
  object = static_cast<U&&>(value);
  return old;
}

/// std::swap for types that are moved without throwing, without the traits that it asks.
template <class T>
constexpr void swap(T& a, T& b) noexcept {
  T c = static_cast<T&&>(a);
  a = static_cast<T&&>(b);
  b = static_cast<T&&>(c);
}

}  // namespace brood::posix
