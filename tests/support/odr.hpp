// SPDX-License-Identifier: MIT
//
// For tests/odr.cpp: where the things of brood lie, as each translation unit sees them.
#pragma once

#include <brood/brood.hpp>
#include <vector>

namespace support {

template <class Function>
const void* address(Function* function) {
  return reinterpret_cast<const void*>(function);
}

// The addresses of some of brood's functions and variables.
static inline std::vector<const void*> odr_addresses() {
  return {
      &brood::forever,
      address(&brood::os::getcwd),
      address(&brood::os::cpu_count),
      address(&brood::subprocess::getoutput),
      address(&brood::threading::get_ident),
      address(&brood::multiprocessing::current_process),
  };
}

static inline std::vector<const void*> odr_here() { return odr_addresses(); }
std::vector<const void*> odr_there();

}  // namespace support
