// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>

namespace brood::posix {

/// What a thread that brood runs on its own account is called in full, where Linux keeps but 15
/// bytes: PREFIX_NUMBER. Two parts, so that the thread need not allocate.
struct ThreadTitle {
  const std::string* prefix = nullptr;  // lives as long as the thread
  std::size_t number = 0;
};

/// The calling thread's; without a prefix if it has none.
inline constinit thread_local ThreadTitle this_thread_title{};

}  // namespace brood::posix
