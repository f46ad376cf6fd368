// SPDX-License-Identifier: MIT
//
// What the tests of the synchronisation classes share.
#pragma once

#include <atomic>
#include <brood/threading.hpp>
#include <mutex>

#include "support/catch.hpp"
#include "support/crew.hpp"
#include "support/sleepers.hpp"

namespace support {

// What f gives in a thread of its own.
template <class F>
auto in_thread(F f) {
  decltype(f()) result{};
  brood::threading::Thread thread([&] { result = f(); });
  thread.start();
  thread.join();
  return result;
}

// Whether f throws a std::logic_error, for threads that must not assert themselves.
template <class F>
bool is_logic_error(F f) {
  try {
    f();
  } catch (const std::logic_error&) {
    return true;
  }
  return false;
}

}  // namespace support
