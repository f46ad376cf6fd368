// SPDX-License-Identifier: MIT
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "round_trip.hpp"
#include "support/catch.hpp"

namespace serialization = brood::serialization;

namespace {

struct Empty {
  friend bool operator==(const Empty&, const Empty&) = default;
};

struct Dish {
  std::string name;
  int size = 0;
  bool clean = false;
  friend bool operator==(const Dish&, const Dish&) = default;
};

struct Kitchen {
  std::vector<Dish> dishes;
  std::map<std::string, std::optional<Dish>> places;
  std::variant<int, Dish> best;
  Empty nothing;
  friend bool operator==(const Kitchen&, const Kitchen&) = default;
};

struct Arrays {
  char text[8];
  int grid[2][3];
  bool flags[2];
  std::string names[2];
  friend bool operator==(const Arrays&, const Arrays&) = default;
};

struct Big {
  char buffer[5000];
  int behind;
};

struct Constant {
  const int id;
  const std::string name;
  friend bool operator==(const Constant&, const Constant&) = default;
};

// Cannot be made from nothing.
class Money {
 public:
  explicit Money(long cents) : cents_{cents} {}
  long cents() const { return cents_; }
  friend bool operator==(const Money&, const Money&) = default;

 private:
  long cents_;
};

struct Price {
  Money amount;
  std::string of;
  friend bool operator==(const Price&, const Price&) = default;
};

// A class of more than one argument, and members behind it that have a default.
class Span {
 public:
  Span(int from, int to) : from_{from}, to_{to} {}
  friend bool operator==(const Span&, const Span&) = default;
  int from_, to_;
};
struct Booking {
  Span days;
  int room = 0;
  std::string guest{};
  friend bool operator==(const Booking&, const Booking&) = default;
};

struct WithDefault {
  int first = 1;
  Money amount = Money{3};
  int last = 2;
  friend bool operator==(const WithDefault&, const WithDefault&) = default;
};

struct ThirtyTwo {
  int a1, a2, a3, a4, a5, a6, a7, a8, b1, b2, b3, b4, b5, b6, b7, b8;
  bool c1, c2, c3, c4, c5, c6, c7, c8, d1, d2, d3, d4, d5, d6, d7;
  std::string d8;
  friend bool operator==(const ThirtyTwo&, const ThirtyTwo&) = default;
};

// A class says what it consists of.
class Account {
 public:
  Account() = default;
  Account(std::string owner, long balance) : owner_{std::move(owner)}, balance_{balance} {}
  template <class Archive>
  void serialize(Archive& ar) {
    ar(owner_, balance_, history_);
  }
  friend bool operator==(const Account& a, const Account& b) {
    return a.owner_ == b.owner_ && a.balance_ == b.balance_ &&
           std::memcmp(a.history_, b.history_, sizeof a.history_) == 0;
  }

 private:
  std::string owner_;
  long balance_ = 0;
  int history_[3] = {1, 2, 3};
};

struct Savings : Account {
  double interest = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(static_cast<Account&>(*this), interest);
  }
};

// Different work in the two directions.
class Celsius {
 public:
  template <class Archive>
  void serialize(Archive& ar) {
    if constexpr (Archive::is_loading) {
      double fahrenheit = 0;
      ar(fahrenheit);
      degrees = (fahrenheit - 32) / 1.8;
    } else {
      ar(degrees * 1.8 + 32);
    }
  }
  double degrees = 0;
};

struct Flags {
  unsigned low : 3;
  unsigned high : 5;
  template <class Archive>
  void serialize(Archive& ar) {
    unsigned lower = low;
    unsigned higher = high;
    ar(lower, higher);
    low = lower & 7u;
    high = higher & 31u;
  }
};

struct Pixel {
  union {
    unsigned rgba;
    unsigned char parts[4];
  };
};

struct Picture {
  std::vector<Pixel> pixels;
  Pixel background;
};

struct Tree {
  int value = 0;
  std::vector<Tree> children;
  friend bool operator==(const Tree&, const Tree&) = default;
};

struct Json {
  std::variant<std::monostate, bool, double, std::string, std::vector<Json>,
               std::map<std::string, Json>>
      value;
  friend bool operator==(const Json&, const Json&) = default;
};

struct Odd;
struct Even {
  std::unique_ptr<Odd> next;
};
struct Odd {
  std::unique_ptr<Even> next;
};

template <class T>
struct Squarer {
  T factor;
  T operator()(T x) const { return factor * x * x; }
};

int live = 0;
struct Counted {
  Counted() { ++live; }
  Counted(Counted&&) noexcept { ++live; }
  Counted& operator=(Counted&&) = default;
  ~Counted() { --live; }
  template <class Archive>
  void serialize(Archive& ar) {
    ar(value);
  }
  std::string value;
};

}  // namespace

template <>
inline constexpr bool brood::trivially_serializable<Pixel> = true;

template <>
struct brood::serialization::Serializer<Money> {
  template <class Out>
  static void write(Out& out, const Money& money) {
    out(money.cents());
  }
  static Money read(Reader& in) { return Money{in.read<long>()}; }
};

template <>
struct brood::serialization::Serializer<Span> {
  template <class Out>
  static void write(Out& out, const Span& span) {
    out(span.from_, span.to_);
  }
  static Span read(Reader& in) {
    const int from = in.read<int>();
    return {from, in.read<int>()};
  }
};

TEST_CASE("aggregates survive a round trip") {
  CHECK((round_trip(Empty{}) == Empty{}));
  CHECK((round_trip(Dish{"cup", 3, true}) == Dish{"cup", 3, true}));
  const Kitchen kitchen{{{"cup", 1, true}, {"plate", 2, false}},
                        {{"sink", Dish{"pot", 9, false}}, {"table", std::nullopt}},
                        Dish{"bowl", 5, true},
                        {}};
  CHECK((round_trip(kitchen) == kitchen));
  CHECK((round_trip(Squarer<double>{2})(3) == 18));
}

TEST_CASE("aggregates with C arrays survive a round trip") {
  const Arrays arrays{"seven77", {{1, 2, 3}, {4, 5, 6}}, {true, false}, {"a", "b"}};
  CHECK((round_trip(arrays) == arrays));
  Big big{};
  big.buffer[4999] = 'z';
  big.behind = 5;
  const Big copy = round_trip(big);
  CHECK(copy.buffer[4999] == 'z');
  CHECK(copy.behind == 5);
}

TEST_CASE("aggregates with const members survive a round trip") {
  CHECK((round_trip(Constant{7, "seven"}) == Constant{7, "seven"}));
  CHECK((round_trip(std::vector<Constant>{{1, "a"}, {2, "b"}}).at(1) == Constant{2, "b"}));
}

TEST_CASE("aggregates with members that need a value survive a round trip") {
  CHECK((round_trip(Price{Money{250}, "cup"}) == Price{Money{250}, "cup"}));
  CHECK((round_trip(Booking{{1, 2}, 3, "Ada"}) == Booking{{1, 2}, 3, "Ada"}));
  CHECK((round_trip(WithDefault{4, Money{5}, 6}) == WithDefault{4, Money{5}, 6}));
  CHECK((round_trip(std::vector{Money{1}, Money{2}}) == std::vector{Money{1}, Money{2}}));
  CHECK((round_trip(std::optional{Money{1}}) == std::optional{Money{1}}));
  CHECK((round_trip(std::tuple{Money{1}, 2}) == std::tuple{Money{1}, 2}));
  CHECK((round_trip(std::array{Money{1}, Money{2}}) == std::array{Money{1}, Money{2}}));
  CHECK((round_trip(std::map<int, Money>{{1, Money{2}}}).at(1) == Money{2}));
}

TEST_CASE("an aggregate of 32 members survives a round trip") {
  ThirtyTwo value{};
  value.a1 = 1;
  value.b8 = 2;
  value.d7 = true;
  value.d8 = "the last";
  CHECK((round_trip(value) == value));
}

TEST_CASE("classes with a serialize member survive a round trip") {
  CHECK((round_trip(Account{"Ada", 100}) == Account{"Ada", 100}));
  CHECK((round_trip(std::vector{Account{"Ada", 1}, Account{"Bob", 2}}).at(1) == Account{"Bob", 2}));
  Savings savings;
  static_cast<Account&>(savings) = Account{"Eve", 3};
  savings.interest = 0.5;
  const Savings copy = round_trip(savings);
  CHECK((static_cast<const Account&>(copy) == Account{"Eve", 3}));
  CHECK(copy.interest == 0.5);
  Flags flags{5, 17};
  CHECK(round_trip(flags).low == 5);
  CHECK(round_trip(flags).high == 17);
}

TEST_CASE("a serialize member can tell the directions apart") {
  Celsius celsius;
  celsius.degrees = 100;
  const std::string bytes = serialization::dumps(celsius);
  serialization::Reader reader{bytes};
  reader.read<std::uint64_t>();
  CHECK(reader.read<double>() == 212);
  CHECK(serialization::loads<Celsius>(bytes).degrees == 100);
}

TEST_CASE("trivially_serializable types cross as their bytes") {
  Picture picture{std::vector<Pixel>(3), Pixel{{7}}};
  picture.pixels[2].rgba = 0xFF00FFu;
  const Picture copy = round_trip(picture);
  REQUIRE(copy.pixels.size() == 3);
  CHECK(copy.pixels[2].rgba == 0xFF00FFu);
  CHECK(copy.background.rgba == 7);
}

TEST_CASE("types that contain themselves survive a round trip") {
  const Tree tree{1, {{2, {}}, {3, {{4, {}}}}}};
  CHECK((round_trip(tree) == tree));
  Json object;
  object.value = std::map<std::string, Json>{
      {"list", Json{std::vector<Json>{Json{1.5}, Json{true}, Json{}}}}, {"text", Json{"x"}}};
  CHECK((round_trip(object) == object));
  Even even{std::make_unique<Odd>()};
  even.next->next = std::make_unique<Even>();
  const Even copy = round_trip(even);
  REQUIRE(copy.next);
  REQUIRE(copy.next->next);
  CHECK_FALSE(copy.next->next->next);
}

TEST_CASE("what had been read is destroyed when the rest is missing") {
  const std::string bytes = [] {
    std::vector<Counted> three(3);
    three[2].value = "the last";
    return serialization::dumps(three);
  }();
  REQUIRE(live == 0);
  CHECK(serialization::loads<std::vector<Counted>>(bytes).size() == 3);
  CHECK_THROWS_AS(serialization::loads<std::vector<Counted>>(
                      std::string_view{bytes}.substr(0, bytes.size() - 1)),
                  serialization::SerializationError);
  CHECK(live == 0);
}
