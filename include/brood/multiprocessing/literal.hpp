// SPDX-License-Identifier: MIT
// Text in an array: a literal ends before its NUL, any other array is as long as it is.
#pragma once

#include <cstddef>
#include <type_traits>

namespace brood::multiprocessing {

/// Whether it is an element of string literals.
template <class C>
concept LiteralCharacter = std::is_same_v<C, char> || std::is_same_v<C, wchar_t> ||
    std::is_same_v<C, char8_t> || std::is_same_v<C, char16_t> || std::is_same_v<C, char32_t>;

/// How many elements of an array are meant. Of an array of const characters that ends with a NUL,
/// as a literal does, that is left out.
template <class C, std::size_t N>
constexpr std::size_t meant_size(C (&array)[N]) noexcept {
  if constexpr (std::is_const_v<C> && LiteralCharacter<std::remove_cv_t<C>>)
    return array[N - 1] == C{} ? N - 1 : N;
  else
    return N;
}

}  // namespace brood::multiprocessing
