// SPDX-License-Identifier: MIT
// Whether an address lies in a program or library that is loaded here (dl_iterate_phdr(3)).
#pragma once

#include <link.h>

#include <cstddef>
#include <cstdint>

namespace brood::posix {

enum class SegmentUse { code, data };

/// Whether `size` bytes from `address` lie within one loaded segment, of code if that is asked for.
/// Takes the loader's lock; blocks while a library is being loaded.
inline bool lies_in_module(const void* address, std::size_t size, SegmentUse use) noexcept {
  struct Query {
    std::uintptr_t address;
    std::size_t size;
    SegmentUse use;
  } query{reinterpret_cast<std::uintptr_t>(address), size, use};
  return ::dl_iterate_phdr(
             [](dl_phdr_info* module, std::size_t, void* data) {
               const Query& q = *static_cast<const Query*>(data);
               for (int i = 0; i < module->dlpi_phnum; ++i) {
                 const auto& segment = module->dlpi_phdr[i];
                 if (segment.p_type != PT_LOAD) continue;
                 if (q.use == SegmentUse::code && (segment.p_flags & PF_X) == 0) continue;
                 const std::uintptr_t begin = module->dlpi_addr + segment.p_vaddr;
                 if (q.address >= begin && q.address - begin <= segment.p_memsz &&
                     q.size <= segment.p_memsz - (q.address - begin))
                   return 1;
               }
               return 0;
             },
             &query) != 0;
}

}  // namespace brood::posix
