// SPDX-License-Identifier: MIT
//
// This file and support/odr.cpp both hold all of brood and become one program: a function or
// variable that is not inline would not link, and one that is inline but not the same is a state
// that the parts of a program do not share.
#include "support/odr.hpp"

#include <brood/brood.hpp>

#include "support/catch.hpp"

TEST_CASE("two translation units of one program share one brood") {
  CHECK(support::odr_here() == support::odr_there());
}
