// SPDX-License-Identifier: MIT
// expect: HasNoBitFieldOrASerializeMember
#include <brood/serialization.hpp>

struct Flags {
#ifdef BROOD_CONTROL
  unsigned low;
#else
  unsigned low : 3;
#endif
};

int main() { return brood::serialization::dumps(Flags{}).empty() ? 1 : 0; }
