// SPDX-License-Identifier: MIT
// What brood needs of the compiler, said in one line rather than in the errors that would follow.
// Each module includes it before all else.
#pragma once

#if !defined(__linux__) || !defined(__LP64__)
#error "brood is for Linux on a 64-bit processor"
#elif __cplusplus < 202002L
#error "brood needs C++20: compile with -std=c++20 or newer"
#elif !defined(__cpp_exceptions) || !defined(__cpp_rtti)
#error "brood needs exceptions and run-time type information: no -fno-exceptions, no -fno-rtti"
#elif defined(forever)
#error "brood::forever is a macro (Qt's?): include brood before it, or define QT_NO_KEYWORDS"
#endif

#include <cstddef>
#ifndef __GLIBCXX__
#error "brood needs libstdc++ (for Clang: -stdlib=libstdc++)"
#endif
