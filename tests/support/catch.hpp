// SPDX-License-Identifier: MIT
//
// Catch2 under one face: the 2.13 of Debian 12 and Catch2 3. Tests include this header and write
// the names of Catch2 3:
//
//   CHECK_THAT(text, Catch::Matchers::ContainsSubstring("dried"));
//   CHECK(seconds == Catch::Approx(1.0).margin(0.1));
//   SKIP("needs two cores");
#pragma once

#ifndef CATCH_CONFIG_ENABLE_ALL_STRINGMAKERS
#define CATCH_CONFIG_ENABLE_ALL_STRINGMAKERS  // pairs, tuples, optionals and variants in messages
#endif

#if __has_include(<catch2/catch_test_macros.hpp>)

#include <catch2/catch_approx.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/catch_tostring.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_adapters.hpp>
#include <catch2/generators/catch_generators_range.hpp>
#include <catch2/matchers/catch_matchers_all.hpp>

#else

#include <catch2/catch.hpp>

namespace Catch {

using Detail::Approx;

namespace Matchers {

// The name in Catch2 3 of what 2.13 calls Contains(text).
inline StdString::ContainsMatcher ContainsSubstring(
    const std::string& text, CaseSensitive::Choice sensitivity = CaseSensitive::Yes) {
  return Contains(text, sensitivity);
}

}  // namespace Matchers
}  // namespace Catch

// Ends the test case without failing it. In 2.13, where tests cannot be skipped, it is a warning
// and a return: use it in the body of a test case or section only, as a statement of its own.
#define SKIP(message) \
  do {                \
    WARN(message);    \
    return;           \
  } while (false)

#endif
