// SPDX-License-Identifier: MIT
// How long a thread looks again before it sleeps.
#include <brood/sync/patience.hpp>

#include "support/catch.hpp"

using brood::sync::Patience;

TEST_CASE("patience ends with what it looks for") {
  Patience patience{true};
  int left = 10;
  CHECK(patience.look([&] { return --left == 0; }));
  CHECK(left == 0);
  CHECK(patience.look([] { return true; }));
}

TEST_CASE("patience looks once where there is one processor") {
  Patience patience{false};
  int looks = 0;
  for (int i = 0; i < 5; ++i) CHECK_FALSE(patience.look([&] { return ++looks == 0; }));
  CHECK(looks == 5);
}

TEST_CASE("patience that is in vain is given up and tried again later") {
  Patience patience{true};
  int tried = 0;
  for (int i = 0; i < 1000; ++i) {
    int looks = 0;
    CHECK_FALSE(patience.look([&] { return ++looks == 0; }));
    if (looks > 1) ++tried;
  }
  CHECK(tried >= 50);
  CHECK(tried <= 150);
}

TEST_CASE("patience is had by one at a time") {
  Patience patience{true};
  int outer = 0;
  int inner = 0;
  CHECK(patience.look([&] {
    if (outer++ == 1) CHECK_FALSE(patience.look([&] { return ++inner == 0; }));
    return outer == 3;
  }));
  CHECK(inner == 1);
}
