// SPDX-License-Identifier: MIT
// Bytes from another process are checked before they are believed.
#include <array>
#include <bitset>
#include <chrono>
#include <cstring>
#include <deque>
#include <forward_list>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

#include "round_trip.hpp"
#include "support/catch.hpp"

namespace serialization = brood::serialization;
using serialization::dumps;
using serialization::loads;
using serialization::Reader;
using serialization::SerializationError;

namespace {

enum class Switch : bool { off, on };
enum class Colour : unsigned char { red, green };

/// One of everything.
struct Rich {
  int number = -5;
  bool yes = true;
  Switch on = Switch::on;
  Colour colour = Colour::green;
  long double wide = 1.5L;
  std::string text = "some text";
  std::u16string wide_text = u"wide";
  std::vector<int> numbers{1, 2, 3};
  std::vector<bool> flags{true, false};
  std::vector<std::string> words{"a", "bc"};
  std::list<std::monostate> nothings{{}, {}};
  std::forward_list<short> forward{1, 2};
  std::map<std::string, std::vector<double>> map{{"x", {0.5}}, {"y", {}}};
  std::unordered_map<int, int> hash{{1, 2}, {3, 4}};
  std::set<int> set{5, 6};
  std::multiset<int> many{1, 1};
  std::optional<std::string> maybe{"maybe"};
  std::optional<int> none;
  std::variant<int, std::string, std::monostate> either{"either"};
  std::unique_ptr<std::pair<int, bool>> owned = std::make_unique<std::pair<int, bool>>(1, true);
  std::tuple<char, std::array<std::string, 2>> tuple{'c', {"d", "e"}};
  std::bitset<11> bits{0x555};
  std::priority_queue<int> heap{std::less<int>{}, std::vector<int>{3, 2, 1}};
  std::chrono::hh_mm_ss<std::chrono::milliseconds> time{std::chrono::milliseconds{-1500}};
  std::chrono::weekday weekday{3};
  Tagged tagged;
  std::string array[2] = {"f", "g"};
};

std::size_t most_bytes = 0;
/// Keeps the size of the largest allocation.
template <class T>
struct Measured {
  using value_type = T;
  Measured() = default;
  template <class U>
  Measured(const Measured<U>&) {}  // NOLINT: implicit
  T* allocate(std::size_t n) {
    if (n * sizeof(T) > most_bytes) most_bytes = n * sizeof(T);
    return std::allocator<T>{}.allocate(n);
  }
  void deallocate(T* p, std::size_t n) { std::allocator<T>{}.deallocate(p, n); }
  friend bool operator==(Measured, Measured) { return true; }
};

struct Unmovable {
  Unmovable() = default;
  Unmovable(Unmovable&&) { throw 1; }
  template <class Archive>
  void serialize(Archive&) {}
};

/// Whether `bytes` are refused. If not, they gave a value, which must be one that can be written.
template <class T>
bool refused(std::string_view bytes) {
  try {
    const T value = loads<T>(bytes);
    static_cast<void>(loads<T>(dumps(value)));
    return false;
  } catch (const SerializationError&) {
    return true;
  }
}

/// The raw form of `values`, behind the fingerprint of T.
template <class T, class... Values>
std::string forged(const Values&... values) {
  std::string bytes(4096, '\0');
  serialization::Writer writer{bytes.data(), bytes.size()};
  writer.write(serialization::fingerprint<T>);
  (writer.write(values), ...);
  bytes.resize(writer.written());
  return bytes;
}

constexpr std::uint64_t huge_lengths[] = {std::uint64_t{1} << 63u,
                                          ~std::uint64_t{0},
                                          ~std::uint64_t{0} / 2,
                                          std::uint64_t{1} << 61u,
                                          std::uint64_t{1} << 62u,
                                          std::uint64_t{1} << 32u,
                                          1000000,
                                          5};

}  // namespace

TEST_CASE("a rich value cut short anywhere is refused") {
  const std::string bytes = dumps(Rich{});
  REQUIRE_FALSE(refused<Rich>(bytes));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // In memory of its own, so that a sanitizer sees each byte that is read beyond it.
    const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    if (!refused<Rich>({cut.data(), cut.size()})) FAIL("accepted when cut at " << size);
  }
}

TEST_CASE("a rich value with any one byte changed is refused or gives a valid value") {
  const std::string bytes = dumps(Rich{});
  std::size_t refusals = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const int change : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ change);
      const bool no = refused<Rich>(changed);
      if (at < 8 && !no) FAIL("another fingerprint was accepted");
      refusals += no ? 1 : 0;
    }
  }
  CHECK(refusals > bytes.size());
}

TEST_CASE("random bytes behind a fingerprint are refused or give a valid value") {
  std::uint32_t state = 1;
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = forged<Rich>();
    const std::size_t size = static_cast<std::size_t>(round) % 700;
    for (std::size_t i = 0; i < size; ++i) {
      state = state * 1664525u + 1013904223u;
      // Mostly zeros and ones, which get further than noise.
      const std::uint32_t byte = state >> 24u;
      bytes.push_back(static_cast<char>(byte < 200 ? byte % 2 : byte));
    }
    refused<Rich>(bytes);
  }
  SUCCEED("nothing but SerializationErrors and values");
}

TEST_CASE("bytes behind the value are refused") {
  CHECK(refused<int>(dumps(1) + '\0'));
  CHECK(refused<std::string>(dumps(std::string{"x"}) + "y"));
  CHECK(refused<std::tuple<>>(dumps(std::tuple{}) + "y"));
}

TEST_CASE("no bytes at all are refused") {
  CHECK(refused<int>({}));
  CHECK(refused<std::string>({}));
  CHECK(refused<std::tuple<>>({}));
}

TEST_CASE("the bytes of another type are refused with its name") {
  CHECK(refused<unsigned>(dumps(1)));
  CHECK(refused<std::string>(dumps(1)));
  CHECK(refused<int>(dumps(std::string{"1234"})));
  CHECK(refused<std::vector<std::string>>(dumps(std::vector<int>{1})));
  CHECK(refused<std::set<int>>(dumps(std::vector<int>{1})));
  CHECK(refused<std::optional<int>>(dumps(std::unique_ptr<int>{})));
  CHECK_THROWS_WITH(loads<std::vector<int>>(dumps(1)),
                    "serialization: wanted std::vector<int>, but these are the bytes of int");
  CHECK_THROWS_WITH(loads<int>(dumps(std::string{"1234"})),
                    "serialization: wanted int, but these are the bytes of std::string");
  CHECK_THROWS_WITH(loads<std::string>(dumps(std::vector<double>{1})),
                    "serialization: wanted std::string, but these are the bytes of another type");
}

TEST_CASE("a huge length is refused before memory is taken for it") {
  // Any attempt would be std::bad_alloc or std::length_error, not a SerializationError.
  for (const std::uint64_t length : huge_lengths) {
    CHECK(refused<std::string>(forged<std::string>(length, 'x')));
    CHECK(refused<std::u32string>(forged<std::u32string>(length, 1)));
    CHECK(refused<std::vector<long>>(forged<std::vector<long>>(length, 1L)));
    CHECK(refused<std::vector<bool>>(forged<std::vector<bool>>(length, true)));
    CHECK(refused<std::vector<std::string>>(forged<std::vector<std::string>>(length, 0L)));
    CHECK(refused<std::vector<std::monostate>>(forged<std::vector<std::monostate>>(length, 'x')));
    CHECK(refused<std::deque<int>>(forged<std::deque<int>>(length, 1)));
    CHECK(refused<std::list<std::tuple<>>>(forged<std::list<std::tuple<>>>(length, 'x')));
    CHECK(refused<std::forward_list<int>>(forged<std::forward_list<int>>(length, 1)));
    CHECK(refused<std::set<int>>(forged<std::set<int>>(length, 1)));
    CHECK(
        refused<std::unordered_map<int, int>>(forged<std::unordered_map<int, int>>(length, 1, 2)));
    CHECK(refused<std::priority_queue<int>>(forged<std::priority_queue<int>>(length, 1)));
  }
}

TEST_CASE("a small input cannot make a reader reserve much for large elements") {
  // 4000 elements of 64 KiB each, if one believes the 4000 bytes of their indices.
  using Element = std::variant<std::monostate, std::array<char, 65536>>;
  using Elements = std::vector<Element, Measured<Element>>;
  std::string bytes = forged<Elements>(std::uint64_t{4000});
  bytes.append(4000, '\1');
  CHECK(refused<Elements>(bytes));
  CHECK(most_bytes > 0);
  CHECK(most_bytes < 1000000);
}

TEST_CASE("flags and indices with no meaning are refused") {
  CHECK(refused<bool>(forged<bool>('\2')));
  CHECK(refused<Switch>(forged<Switch>('\2')));
  CHECK(refused<std::vector<bool>>(forged<std::vector<bool>>(std::uint64_t{1}, '\xFF')));
  CHECK(refused<std::optional<int>>(forged<std::optional<int>>('\2', 5)));
  CHECK(refused<std::unique_ptr<int>>(forged<std::unique_ptr<int>>('\2', 5)));
  using Either = std::variant<int, std::string>;
  CHECK_FALSE(refused<Either>(forged<Either>('\0', 5)));
  CHECK(refused<Either>(forged<Either>('\2', 5)));
  CHECK(refused<Either>(forged<Either>('\xFF', 5)));
  CHECK(refused<std::bitset<3>>(forged<std::bitset<3>>('\x08')));
}

TEST_CASE("an enum may arrive with any value of its underlying type") {
  CHECK(loads<Colour>(forged<Colour>('\x55')) == static_cast<Colour>(0x55));
}

TEST_CASE("a time of day that has no absolute value is refused") {
  using Time = std::chrono::hh_mm_ss<std::chrono::nanoseconds>;
  using Fraction = std::chrono::hh_mm_ss<std::chrono::duration<double>>;
  CHECK(refused<Time>(forged<Time>(std::numeric_limits<long>::min())));
  CHECK_FALSE(refused<Time>(forged<Time>(std::numeric_limits<long>::max())));
  CHECK(refused<Fraction>(forged<Fraction>(std::numeric_limits<double>::quiet_NaN())));
  CHECK(refused<Fraction>(forged<Fraction>(1e300)));
  CHECK_FALSE(refused<Fraction>(forged<Fraction>(0.5)));
}

TEST_CASE("a key that occurs twice is refused") {
  using Set = std::set<int>;
  using Map = std::map<int, bool>;
  using Hash = std::unordered_map<int, int>;
  CHECK(refused<Set>(forged<Set>(std::uint64_t{2}, 1, 1)));
  CHECK(refused<Map>(forged<Map>(std::uint64_t{2}, 1, true, 1, true)));
  CHECK(refused<Hash>(forged<Hash>(std::uint64_t{2}, 1, 2, 1, 2)));
  CHECK_FALSE(refused<std::multiset<int>>(forged<std::multiset<int>>(std::uint64_t{2}, 1, 1)));
}

TEST_CASE("keys out of order still give a sorted set") {
  using Set = std::set<int>;
  CHECK(loads<Set>(forged<Set>(std::uint64_t{3}, 3, 1, 2)) == Set{1, 2, 3});
}

TEST_CASE("a heap out of order still gives a heap") {
  using Heap = std::priority_queue<int>;
  CHECK(loads<Heap>(forged<Heap>(std::uint64_t{3}, 1, 3, 2)).top() == 3);
}

TEST_CASE("a variant without a value is refused by dumps") {
  std::variant<std::string, Unmovable> variant{"text"};
  CHECK_FALSE(dumps(variant).empty());
  CHECK_THROWS_AS(variant.emplace<1>(Unmovable{}), int);
  REQUIRE(variant.valueless_by_exception());
  CHECK_THROWS_AS(dumps(variant), SerializationError);
}
