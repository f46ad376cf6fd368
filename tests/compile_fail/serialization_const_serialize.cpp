// SPDX-License-Identifier: MIT
// expect: SerializeMemberIsNotConst
#include <brood/serialization.hpp>

class Dish {
 public:
  template <class Archive>
#ifdef BROOD_CONTROL
  void serialize(Archive& ar) {
#else
  void serialize(Archive& ar) const {
#endif
    ar(size_);
  }

 private:
  int size_ = 0;
};

int main() { return brood::serialization::dumps(Dish{}).empty() ? 1 : 0; }
