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

}  // namespace brood::posix
