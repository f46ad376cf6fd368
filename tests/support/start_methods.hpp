// SPDX-License-Identifier: MIT
//
// For test programs whose processes start by other methods than fork. Including it has
// freeze_support() called at the start of main(). What such a process is to do and to meet crosses
// as arguments: a Board, and functions of the test.
#pragma once

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <brood/multiprocessing.hpp>
#include <cstring>
#include <string>

#include "support/catch.hpp"
#include "support/programs.hpp"

namespace support {

extern void (*begin_main)();  // main.cpp
inline const bool calls_freeze_support =
    (begin_main = &brood::multiprocessing::freeze_support, true);

inline constexpr brood::multiprocessing::StartMethod start_methods[] = {
    brood::multiprocessing::StartMethod::fork, brood::multiprocessing::StartMethod::forkserver,
    brood::multiprocessing::StartMethod::spawn};

inline const char* name_of(brood::multiprocessing::StartMethod method) {
  static constexpr const char* names[] = {"fork", "forkserver", "spawn"};
  return names[static_cast<int>(method)];
}

}  // namespace support
