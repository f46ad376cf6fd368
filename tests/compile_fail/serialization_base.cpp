// SPDX-License-Identifier: MIT
// expect: HasNoBaseOrASerializeMember
#include <brood/serialization.hpp>

struct Dish {
  int size = 0;
};
struct Cup : Dish {
  int handles = 1;
#ifdef BROOD_CONTROL
  template <class Archive>
  void serialize(Archive& ar) {
    ar(size, handles);
  }
#endif
};

int main() { return brood::serialization::dumps(Cup{}).empty() ? 1 : 0; }
