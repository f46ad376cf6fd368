// SPDX-License-Identifier: MIT
// What is thrown when bytes cannot become a value, or a value bytes.
#pragma once

#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

#include "../posix/type_name.hpp"

namespace brood::serialization {

/// Truncated, oversized, too deep or ill-typed input; also a value that cannot be written (nested
/// too deeply, a valueless variant). Python counterpart: pickle.PickleError.
class SerializationError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Out of line and cold, so that the checks cost the readers and writers one branch each. The text
// is printed into an array: each use of std::string would be compiled again in every program.

[[noreturn]] [[gnu::cold, gnu::noinline]] inline void throw_error(const char* what) {
  char text[128];
  std::snprintf(text, sizeof text, "serialization: %s", what);
  throw SerializationError{text};
}

[[noreturn]] [[gnu::cold, gnu::noinline]] inline void throw_error(const char* what,
                                                                  std::uint64_t wanted,
                                                                  std::size_t available) {
  char text[160];
  std::snprintf(text, sizeof text, "serialization: %s: %" PRIu64 " wanted, %zu left", what, wanted,
                available);
  throw SerializationError{text};
}

/// `found` is empty when nobody knows.
[[noreturn]] [[gnu::cold, gnu::noinline]] inline void throw_wrong_type(std::string_view wanted,
                                                                       std::string_view found) {
  std::string text = "serialization: wanted ";
  text += posix::shorten_type(wanted.data(), wanted.size());
  text += ", but these are the bytes of ";
  if (found.empty())
    text += "another type";
  else
    text += posix::shorten_type(found.data(), found.size());
  throw SerializationError{text};
}

}  // namespace brood::serialization
