// SPDX-License-Identifier: MIT
#pragma once

#include <brood/serialization.hpp>
#include <deque>
#include <string>
#include <utility>

/// `value` through dumps and loads, its size foretold exactly.
template <class T>
T round_trip(const T& value) {
  namespace serialization = brood::serialization;
  const std::string bytes = serialization::dumps(value);
  if (bytes.size() != sizeof(std::uint64_t) + serialization::serialized_size(value))
    throw std::logic_error{"serialized_size is not the size"};
  return serialization::loads<T>(bytes);
}

/// Whether that gives an equal value.
template <class T>
bool survives(const T& value) {
  return round_trip(value) == value;
}

/// Says itself what it is made of.
class Tagged {
 public:
  template <class Archive>
  void serialize(Archive& ar) {
    ar(tag_, values_);
  }

 private:
  std::string tag_ = "tag";
  std::deque<short> values_{1, 2};
};
