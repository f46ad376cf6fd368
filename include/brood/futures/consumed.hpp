// SPDX-License-Identifier: MIT
#pragma once

namespace brood::futures {

/// What `it++` of a single-pass iterator gives: the element it stood at.
template <class T>
struct Consumed {
  T element;
  T& operator*() noexcept { return element; }
};

}  // namespace brood::futures
