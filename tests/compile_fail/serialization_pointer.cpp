// SPDX-License-Identifier: MIT
// expect: OwnsWhatItRefersTo
#include <brood/serialization.hpp>
#include <string>

struct Dish {
#ifdef BROOD_CONTROL
  std::string name;
#else
  const char* name;
#endif
};

int main() { return brood::serialization::dumps(Dish{"cup"}).empty() ? 1 : 0; }
