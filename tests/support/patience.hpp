// SPDX-License-Identifier: MIT
#pragma once

#include <brood/timeout.hpp>

namespace support {

// How long a test waits: long enough that it is never up in a test that passes.
inline constexpr brood::Timeout patience{std::chrono::seconds{30}};

}  // namespace support
