// SPDX-License-Identifier: MIT
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "round_trip.hpp"
#include "support/catch.hpp"

namespace serialization = brood::serialization;
using serialization::dumps;
using serialization::loads;
using serialization::SerializationError;

namespace {

struct Tree {
  int value = 0;
  std::vector<Tree> children;
};
struct List {
  int value = 0;
  std::unique_ptr<List> next;
};
struct Json {
  std::variant<double, std::string, std::vector<Json>, std::map<std::string, Json>> value;
};
// Four levels each: the class, the pointer, the map, the vector.
class Winding {
 public:
  template <class Archive>
  void serialize(Archive& ar) {
    ar(next);
  }
  std::unique_ptr<std::map<int, std::vector<Winding>>> next;
};

Tree tree(int levels) {
  Tree root;
  for (int i = 1; i < levels; ++i) {
    Tree above;
    above.children.push_back(std::move(root));
    root = std::move(above);
  }
  return root;
}

List list(int levels) {
  List first;
  for (int i = 1; i < levels; ++i) {
    auto next = std::make_unique<List>(std::move(first));
    first = List{i, std::move(next)};
  }
  return first;
}

Json json(int levels) {
  Json root{1.5};
  for (int i = 1; i < levels; ++i) {
    Json above;
    if (i % 2 == 0) {
      above.value.emplace<2>().push_back(std::move(root));
    } else {
      above.value.emplace<3>().emplace("key", std::move(root));
    }
    root = std::move(above);
  }
  return root;
}

Winding winding(int levels) {
  Winding root;
  for (int i = 1; i < levels; ++i) {
    Winding above;
    above.next = std::make_unique<std::map<int, std::vector<Winding>>>();
    (*above.next)[1].push_back(std::move(root));
    root = std::move(above);
  }
  return root;
}

template <class T>
bool survives_deep(const T& value) {
  return dumps(loads<T>(dumps(value))) == dumps(value);
}

/// The bytes of a list that nests deeper than any that can be written.
std::string deep_list(std::size_t levels) {
  std::string bytes(8 + 5 * levels, '\0');
  serialization::Writer writer{bytes.data(), bytes.size()};
  writer.write(serialization::fingerprint<List>);
  for (std::size_t i = 0; i < levels; ++i) {
    writer.write(1);
    writer.write(i + 1 < levels);
  }
  return bytes;
}

}  // namespace

TEST_CASE("values nested 512 deep survive a round trip") {
  CHECK(survives_deep(tree(512)));
  CHECK(survives_deep(list(512)));
  CHECK(survives_deep(json(512)));
  CHECK(survives_deep(winding(512)));
}

TEST_CASE("values nested deeper than the limit are refused by dumps") {
  CHECK_THROWS_AS(dumps(tree(2100)), SerializationError);
  CHECK_THROWS_AS(dumps(list(2100)), SerializationError);
  CHECK_THROWS_AS(dumps(json(2100)), SerializationError);
  CHECK_THROWS_AS(dumps(winding(600)), SerializationError);
  CHECK_THROWS_AS(serialization::serialized_size(tree(2100)), SerializationError);
}

TEST_CASE("bytes nested too deeply are refused by loads") {
  CHECK_NOTHROW(loads<List>(deep_list(512)));
  CHECK_THROWS_WITH(loads<List>(deep_list(1000000)),
                    Catch::Matchers::ContainsSubstring("nested too deeply"));
}

TEST_CASE("an archive that refused a deep value can go on") {
  std::string bytes(100000, '\0');
  serialization::Writer writer{bytes.data(), bytes.size()};
  CHECK_THROWS_AS(writer.write(tree(2100)), SerializationError);
  CHECK_NOTHROW(writer.write(tree(512)));
}
