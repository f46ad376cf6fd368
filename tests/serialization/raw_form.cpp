// SPDX-License-Identifier: MIT
// The layer below dumps and loads, which queues and pools use.
#include <array>
#include <chrono>
#include <complex>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "round_trip.hpp"
#include "support/catch.hpp"

namespace serialization = brood::serialization;
using serialization::Reader;
using serialization::SerializationError;
using serialization::Writer;

namespace {

struct Tight {
  int id;
  float x[3];
};
struct Padded {
  double x;
  int id;
};
struct WithBool {
  int id;
  bool a, b, c, d;
};
struct Cross : serialization::Context {
  std::vector<std::string> beside;
};
struct Handle {
  std::string name;
};
struct Shrinks {
  mutable int calls = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    if (++calls == 1) {
      std::string more(100, 'x');
      ar(more);
    }
  }
};

}  // namespace

// Crosses beside the bytes.
template <>
struct brood::serialization::Serializer<Handle> {
  static constexpr std::uint64_t fingerprint = 7;
  template <class Out>
  static void write(Out& out, const Handle& handle) {
    auto* cross = static_cast<Cross*>(out.context());
    if (cross == nullptr) throw SerializationError{"a Handle crosses in company only"};
    out(cross->beside.size());
    if (!Out::is_sizing) cross->beside.push_back(handle.name);
  }
  static Handle read(Reader& in) {
    auto* cross = static_cast<Cross*>(in.context());
    const auto index = in.read<std::size_t>();
    if (cross == nullptr || index >= cross->beside.size())
      throw SerializationError{"no such Handle"};
    return {cross->beside[index]};
  }
};

TEST_CASE("values lie one behind the other in the raw form") {
  char buffer[64];
  Writer writer{buffer, sizeof buffer};
  writer.write(std::uint16_t{0x0102});
  writer.write(std::string{"abc"});
  writer.write(true);
  CHECK(writer.written() == 2 + 8 + 3 + 1);
  Reader reader{std::string_view{buffer, writer.written()}};
  CHECK(reader.read<std::uint16_t>() == 0x0102);
  std::string text;
  reader.read_into(text);
  CHECK(text == "abc");
  CHECK(reader.left() == 1);
  CHECK_THROWS_AS(reader.expect_end(), SerializationError);
  CHECK(reader.read<bool>());
  reader.expect_end();
}

TEST_CASE("a Writer never writes past its end") {
  const std::vector<std::string> value{"one", "two"};
  const std::size_t size = serialization::serialized_size(value);
  for (std::size_t room = 0; room < size; ++room) {
    std::vector<char> buffer(room + 1, '#');
    Writer writer{buffer.data(), room};
    CHECK_THROWS_AS(writer.write(value), SerializationError);
    CHECK(writer.written() <= room);
    CHECK(buffer[room] == '#');
  }
}

TEST_CASE("arrays cross from one buffer to another") {
  const int numbers[2][2] = {{1, 2}, {3, 4}};
  const std::string names[2] = {"a", "b"};
  char buffer[64];
  Writer writer{buffer, sizeof buffer};
  writer(numbers, names);
  CHECK(writer.written() == 16 + 2 * 9);
  int numbers_again[2][2] = {};
  std::string names_again[2];
  Reader reader{std::string_view{buffer, writer.written()}};
  reader(numbers_again, names_again);
  CHECK(std::memcmp(numbers, numbers_again, sizeof numbers) == 0);
  CHECK(names_again[1] == "b");
}

TEST_CASE("what has neither padding nor forbidden bits is copied in bulk") {
  using serialization::is_bulk;
  STATIC_REQUIRE(is_bulk<int>);
  STATIC_REQUIRE(is_bulk<double>);
  STATIC_REQUIRE(is_bulk<std::byte>);
  STATIC_REQUIRE(is_bulk<Tight>);
  STATIC_REQUIRE(is_bulk<std::array<Tight, 4>>);
  STATIC_REQUIRE(is_bulk<std::complex<double>>);
  STATIC_REQUIRE(is_bulk<std::chrono::nanoseconds>);
  STATIC_REQUIRE(is_bulk<std::chrono::system_clock::time_point>);
  STATIC_REQUIRE_FALSE(is_bulk<bool>);
  STATIC_REQUIRE_FALSE(is_bulk<Padded>);
  STATIC_REQUIRE_FALSE(is_bulk<WithBool>);
  STATIC_REQUIRE_FALSE(is_bulk<std::array<bool, 2>>);
  STATIC_REQUIRE_FALSE(is_bulk<long double>);
  STATIC_REQUIRE_FALSE(is_bulk<std::string>);
  CHECK(serialization::serialized_size(std::vector<Tight>(10)) == 8 + 10 * 16);
  CHECK(serialization::serialized_size(std::vector<Padded>(10)) == 8 + 10 * 12);
}

TEST_CASE("what crosses beside the bytes finds its context") {
  const std::vector<Handle> handles{{"lock"}, {"queue"}};
  Cross cross;
  const std::size_t size = serialization::serialized_size(handles, &cross);
  CHECK(cross.beside.empty());
  std::string bytes(size, '\0');
  Writer writer{bytes.data(), size, &cross};
  writer.write(handles);
  CHECK(writer.written() == size);
  Reader reader{bytes, &cross};
  CHECK(reader.read<std::vector<Handle>>().at(1).name == "queue");
  CHECK_THROWS_AS(serialization::dumps(handles), SerializationError);
  CHECK_THROWS_AS(Reader{bytes}.read<std::vector<Handle>>(), SerializationError);
}

TEST_CASE("a serialize member that writes less than it announced yields what it wrote") {
  const std::string bytes = serialization::dumps(Shrinks{});
  CHECK(bytes.size() == 8);
}

TEST_CASE("the fingerprint is of the structure") {
  using serialization::fingerprint;
  STATIC_REQUIRE(fingerprint<int> != fingerprint<unsigned>);
  STATIC_REQUIRE(fingerprint<int> != fingerprint<float>);
  STATIC_REQUIRE(fingerprint<int> != fingerprint<long>);
  STATIC_REQUIRE(fingerprint<std::string> != fingerprint<std::vector<int>>);
  STATIC_REQUIRE(fingerprint<std::vector<int>> != fingerprint<std::vector<std::vector<int>>>);
  STATIC_REQUIRE(fingerprint<std::chrono::seconds> != fingerprint<std::chrono::milliseconds>);
  STATIC_REQUIRE(fingerprint<std::chrono::system_clock::time_point> !=
                 fingerprint<std::chrono::steady_clock::time_point>);
  STATIC_REQUIRE(fingerprint<std::pair<int, bool>> != fingerprint<std::pair<bool, int>>);
  STATIC_REQUIRE(fingerprint<std::tuple<int, int>> != fingerprint<std::tuple<int, int, int>>);
  STATIC_REQUIRE(fingerprint<std::array<int, 2>> != fingerprint<std::array<int, 3>>);
  STATIC_REQUIRE(fingerprint<Tight> != fingerprint<Padded>);
  STATIC_REQUIRE(fingerprint<std::map<int, int>> != fingerprint<std::multimap<int, long>>);
  STATIC_REQUIRE(fingerprint<std::tuple<Tight, Padded, Tight>> !=
                 fingerprint<std::tuple<Tight, Padded, Padded>>);
}
