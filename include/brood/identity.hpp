// SPDX-License-Identifier: MIT
// Handles as keys of unordered containers: equal when they name the same object, and hashed so. A
// handle class says `using hashed_by_identity = void;` and has an identity().
#pragma once

#include <cstddef>
#include <string>  // std::hash, which <functional> would bring in too

template <class Handle>
requires requires { typename Handle::hashed_by_identity; }
struct std::hash<Handle> {
  std::size_t operator()(const Handle& handle) const noexcept {
    return std::hash<const void*>{}(handle.identity());
  }
};
