// SPDX-License-Identifier: MIT
// expect: a member given to the archive is not brood::Serializable
#include <brood/serialization.hpp>

class Dish {
 public:
  template <class Archive>
  void serialize(Archive& ar) {
    ar(size_);
  }

 private:
#ifdef BROOD_CONTROL
  int size_ = 0;
#else
  int* size_ = nullptr;
#endif
};

int main() { return brood::serialization::dumps(Dish{}).empty() ? 1 : 0; }
