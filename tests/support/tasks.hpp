// SPDX-License-Identifier: MIT
//
// What the tests of pools have in common: tasks, and what is done with what comes of them.
#pragma once

#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/board.hpp"

namespace support {

inline int square(int n) { return n * n; }

// Tells by the board's word 0 that it is at work, and waits at its word 1 to be let go.
inline void gate() {
  board::bump(0);
  board::await(1, 1);
}
inline int meet(int n) {
  gate();
  return n;
}

// 0 to n - 1.
inline std::vector<int> up_to(int n) {
  std::vector<int> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// All that map() and its like give.
template <class Results>
auto collect(Results results) {
  std::vector<std::remove_cvref_t<decltype(*results.begin())>> all;
  for (auto&& result : results) all.push_back(std::move(result));
  return all;
}

// What is said by the Exception that f throws.
template <class Exception, class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace support
