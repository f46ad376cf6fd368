// SPDX-License-Identifier: MIT
// Bytes that are no value, or not the value they were: whatever they are, loads() gives a value or
// a SerializationError, and a value that was read is written and read again as the same bytes.
//
// The first byte of an input says what it is about: bytes behind a fingerprint, or changes to the
// bytes of a value, three bytes each: where, and what to write there.
#include <array>
#include <bitset>
#include <brood/serialization.hpp>
#include <chrono>
#include <complex>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <forward_list>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <stack>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "../serialization/round_trip.hpp"

namespace serialization = brood::serialization;

namespace {

struct Tree {
  int value = 0;
  std::vector<Tree> branches;
};
struct Chain {
  std::unique_ptr<Chain> next;
};
enum class Switch : bool { off, on };

struct Texts {
  std::string text = "some text";
  std::u16string wide = u"wide";
  std::vector<std::string> words{"a", "bc"};
  std::filesystem::path path = "/etc";
  std::string array[2] = {"f", "g"};
  std::optional<std::string> maybe{"maybe"};
};
struct Numbers {
  bool yes = true;
  Switch on = Switch::on;
  long double wide = 1.5L;
  std::complex<float> complex{1, 2};
  std::vector<int> numbers{1, 2, 3};
  std::vector<bool> flags{true, false};
  std::bitset<11> bits{0x555};
  std::chrono::hh_mm_ss<std::chrono::milliseconds> time{std::chrono::milliseconds{-1500}};
  std::chrono::year_month_day day{std::chrono::year{2024}, std::chrono::month{2},
                                  std::chrono::day{29}};
  std::array<std::pair<char, double>, 2> pairs{{{'a', 1.0}, {'b', 2.0}}};
};
struct Containers {
  std::map<std::string, std::vector<double>> map{{"x", {0.5}}, {"y", {}}};
  std::set<int> set{5, 6};
  std::multiset<int> many{1, 1};
  std::multimap<int, int> more{{1, 1}, {1, 2}};
  std::list<std::monostate> nothings{{}, {}};
  std::forward_list<short> forward{1, 2};
  std::priority_queue<int> heap{std::less<int>{}, std::vector<int>{3, 2, 1}};
  std::stack<int> stack{{1, 2}};
  std::variant<int, std::string, std::monostate> either{"either"};
  std::unique_ptr<std::pair<int, bool>> owned = std::make_unique<std::pair<int, bool>>(1, true);
  Tagged tagged;
};

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// What it stands for is written and read again.
template <class T>
void read(const std::string& bytes) {
  try {
    const T value = serialization::loads<T>(bytes);
    const std::string written = serialization::dumps(value);
    if (written.size() != sizeof(std::uint64_t) + serialization::serialized_size(value))
      fail("serialized_size is not the size");
    if (serialization::dumps(serialization::loads<T>(written)) != written)
      fail("a value changes on its way");
  } catch (const serialization::SerializationError&) {
  }
}

template <class T>
void fuzz(bool changes, const unsigned char* data, std::size_t size, const T& start) {
  std::string bytes = serialization::dumps(start);
  if (!changes) {
    bytes.resize(sizeof(std::uint64_t));
    bytes.append(reinterpret_cast<const char*>(data), size);
  } else {
    for (; size >= 3; data += 3, size -= 3) {
      const std::size_t at = data[0] | std::size_t{data[1]} << 8;
      if (at == 0xffff)
        bytes.resize(bytes.size() - (bytes.size() > data[2] ? data[2] : bytes.size()));
      else if (!bytes.empty())
        bytes[at % bytes.size()] = static_cast<char>(data[2]);
    }
  }
  read<T>(bytes);
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  const bool changes = (data[0] & 1) != 0;
  const int type = data[0] >> 1;
  ++data;
  --size;
  switch (type % 8) {
    case 0:
      fuzz(changes, data, size, Texts{});
      break;
    case 1:
      fuzz(changes, data, size, Numbers{});
      break;
    case 2:
      fuzz(changes, data, size, Containers{});
      break;
    case 3:
      fuzz(changes, data, size, Tree{1, {{2, {{3, {}}}}, {4, {}}}});
      break;
    case 4:
      fuzz(changes, data, size, Chain{std::make_unique<Chain>()});
      break;
    case 5:
      fuzz(changes, data, size, std::tuple<Texts, std::vector<Numbers>>{});
      break;
    case 6: {
      // Their order is their own, so what is written may differ; it is read all the same.
      using Hashed = std::pair<std::unordered_map<int, std::string>, std::unordered_set<int>>;
      std::string bytes = serialization::dumps(Hashed{{{1, "a"}, {2, "b"}}, {3, 4}});
      bytes.resize(sizeof(std::uint64_t));
      bytes.append(reinterpret_cast<const char*>(data), size);
      try {
        const auto value = serialization::loads<Hashed>(bytes);
        if (serialization::loads<Hashed>(serialization::dumps(value)) != value)
          fail("a value changes on its way");
      } catch (const serialization::SerializationError&) {
      }
      break;
    }
    default:
      // Not even a fingerprint.
      read<Containers>(std::string(reinterpret_cast<const char*>(data), size));
  }
  return 0;
}
