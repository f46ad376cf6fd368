// SPDX-License-Identifier: MIT
//
// The program part that Catch2 is precompiled for; the tests use what comes of it.
#include "catch.hpp"
