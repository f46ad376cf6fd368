// SPDX-License-Identifier: MIT
// Memory that comes in huge pages, where the machine has them for those who ask.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace brood::posix {

/// What malloc surely maps for itself, so that it is fresh, and whatever is said about it concerns
/// nobody else.
inline constexpr std::size_t surely_mapped = std::size_t{32} << 20;

/// About to be filled: of fresh memory, the huge pages that lie within it may come as such.
/// (Filling it takes four times as long page by page.) Else nothing is done.
inline void expect_filling(void* data, std::size_t size) noexcept {
  constexpr std::uintptr_t huge = std::uintptr_t{2} << 20;
  if (size < surely_mapped) return;
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t first = (at + huge - 1) / huge * huge;
  const std::uintptr_t end = (at + size) / huge * huge;
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
}

}  // namespace brood::posix
