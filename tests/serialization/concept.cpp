// SPDX-License-Identifier: MIT
// What is Serializable, and what is not. All of it is decided at compile time, and none of it may
// be a hard error: a Process that is forked takes arguments of any type.
#include <sys/epoll.h>
#include <time.h>

#include <any>
#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <forward_list>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <queue>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "round_trip.hpp"
#include "support/catch.hpp"

using brood::Serializable;

namespace {

enum class Colour { red };
struct Empty {};
struct Plain {
  int a;
  std::string b;
};
struct Deep {
  std::vector<std::map<std::string, std::optional<std::variant<Plain, std::unique_ptr<Plain>>>>>
      all;
};
struct Recursive {
  std::vector<Recursive> children;
};
struct Square {
  int operator()(int x) const { return x * x; }
};

struct Pointer {
  int* p;
};
struct DeepPointer {
  std::vector<std::optional<Pointer>> all;
};
struct Reference {
  int& r;
};
struct ConstReference {
  int a;
  const std::string& r;
};
struct RvalueReference {
  int&& r;
};
struct Text {
  const char* text;
  int length;
};
struct Based : Plain {
  int c;
};
struct BasedOnEmpty : Empty {
  int c;
};
struct BitField {
  unsigned a : 3;
  unsigned b : 5;
};
struct OneBitField {
  int whole;
  bool flag : 1;
};
union Union {
  int a;
  float b;
};
struct NamedUnion {
  int which;
  Union value;
};
struct UnnamedUnion {
  int which;
  union {
    int a;
    float b;
  };
};
struct UnnamedUnionOnly {
  union {
    std::string* a;
    float b;
  };
};
struct ThirtyThree {
  int a1, a2, a3, a4, a5, a6, a7, a8, b1, b2, b3, b4, b5, b6, b7, b8;
  int c1, c2, c3, c4, c5, c6, c7, c8, d1, d2, d3, d4, d5, d6, d7, d8;
  int e1;
};
struct HoldsThirtyThree {
  std::vector<ThirtyThree> all;
};
struct Hundred {
  char a[100];
  std::string b[100];
};
class Private {
 public:
  Private() = default;

 private:
  [[maybe_unused]] int x_ = 0;
};
class NoDefault {
 public:
  explicit NoDefault(int) {}
  template <class Archive>
  void serialize(Archive&) {}
};
class Member {
 public:
  template <class Archive>
  void serialize(Archive& ar) {
    ar(x_);
  }

 private:
  int x_ = 0;
};
struct MemberAndBase : Plain {
  template <class Archive>
  void serialize(Archive& ar) {
    ar(a, b);
  }
};
union MemberUnion {
  int a;
  float b;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(a);
  }
};
struct HoldsMemberUnion {
  MemberUnion u;
};
struct VouchedFor {
  void* token;
};
struct HoldsVouchedFor {
  VouchedFor v;
  int n;
};
struct Polymorphic {
  virtual ~Polymorphic() = default;
  template <class Archive>
  void serialize(Archive&) {}
};
struct Final final : Polymorphic {};
struct Free {
  void operator()(int*) const {}
};
struct ConstMember {
  int value = 0;
  template <class Archive>
  void serialize(Archive& ar) const {
    ar(value);
  }
};
struct DerivedFromConstMember : ConstMember {};
struct BothMembers {
  int value = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(value);
  }
  template <class Archive>
  void serialize(Archive& ar) const {
    ar(value);
  }
};
struct ConstMemberWithoutData {
  template <class Archive>
  void serialize(Archive&) const {}
};
struct NotSerialize {
  explicit NotSerialize(int) {}
  void serialize(std::ofstream&) {}
};
struct Atomic {
  std::atomic<int> a;
};
struct HoldsMutex {
  std::mutex m;
};
struct HoldsFunction {
  std::function<void()> f;
};
struct HoldsAny {
  std::any a;
  std::optional<std::any> b;
};

struct NeedsValue {
  NoDefault n;
  int last;
};
struct TakesTwo {
  TakesTwo(int, int) {}
};
struct NeedsTwo {
  TakesTwo two;
  int last;
};
struct NeedsTwoWords {
  VouchedFor first;
  std::reference_wrapper<int> r;
  std::string words[2];
};
struct NeedsValueBehindArray {
  int a[3];
  NoDefault n;
  std::string words[2];
};
struct NeedsValueBehindLongArray {
  char a[100];
  NoDefault n;
};
struct NeedsValueAndUnion {
  NoDefault n;
  union {
    int a;
    float b;
  };
};
struct NeedsValueAndBase : Empty {
  NoDefault n;
};
struct HoldsLambda {
  decltype([](int x) { return x; }) f;
  int n;
};
struct HoldsLock {
  std::unique_lock<std::mutex> lock;
  std::ofstream file;
  std::thread thread;
};

}  // namespace

template <>
inline constexpr bool brood::trivially_serializable<VouchedFor> = true;

TEST_CASE("values are Serializable") {
  STATIC_REQUIRE(Serializable<int>);
  STATIC_REQUIRE(Serializable<bool>);
  STATIC_REQUIRE(Serializable<char8_t>);
  STATIC_REQUIRE(Serializable<long double>);
  STATIC_REQUIRE(Serializable<std::byte>);
  STATIC_REQUIRE(Serializable<Colour>);
  STATIC_REQUIRE(Serializable<std::string>);
  STATIC_REQUIRE(Serializable<std::vector<bool>>);
  STATIC_REQUIRE(Serializable<std::deque<std::list<std::forward_list<int>>>>);
  STATIC_REQUIRE(Serializable<std::array<std::string, 3>>);
  STATIC_REQUIRE(Serializable<std::unordered_map<std::string, std::set<int>>>);
  STATIC_REQUIRE(Serializable<std::tuple<int, std::string>>);
  STATIC_REQUIRE(Serializable<std::monostate>);
  STATIC_REQUIRE(Serializable<std::unique_ptr<Plain>>);
  STATIC_REQUIRE(Serializable<std::chrono::year_month_day>);
  STATIC_REQUIRE(Serializable<Empty>);
  STATIC_REQUIRE(Serializable<Plain>);
  STATIC_REQUIRE(Serializable<Deep>);
  STATIC_REQUIRE(Serializable<Recursive>);
  STATIC_REQUIRE(Serializable<Square>);
  STATIC_REQUIRE(Serializable<std::less<>>);
  STATIC_REQUIRE(Serializable<std::plus<int>>);  // has a base, but nothing in it
  STATIC_REQUIRE(Serializable<Hundred>);
  STATIC_REQUIRE(Serializable<timespec>);
}

TEST_CASE("what refers to something else is not Serializable") {
  STATIC_REQUIRE_FALSE(Serializable<int*>);
  STATIC_REQUIRE_FALSE(Serializable<const char*>);
  STATIC_REQUIRE_FALSE(Serializable<void*>);
  STATIC_REQUIRE_FALSE(Serializable<std::nullptr_t>);
  STATIC_REQUIRE_FALSE(Serializable<int&>);
  STATIC_REQUIRE_FALSE(Serializable<const int&>);
  STATIC_REQUIRE_FALSE(Serializable<int Plain::*>);
  STATIC_REQUIRE_FALSE(Serializable<void (*)()>);
  STATIC_REQUIRE_FALSE(Serializable<std::string_view>);
  STATIC_REQUIRE_FALSE(Serializable<std::span<int>>);
  STATIC_REQUIRE_FALSE(Serializable<std::span<const int, 3>>);
  STATIC_REQUIRE_FALSE(Serializable<std::initializer_list<int>>);
  STATIC_REQUIRE_FALSE(Serializable<std::reference_wrapper<int>>);
  STATIC_REQUIRE_FALSE(Serializable<std::vector<int>::iterator>);
  STATIC_REQUIRE_FALSE(Serializable<std::tuple<int&>>);
  STATIC_REQUIRE_FALSE(Serializable<std::pair<int, const int&>>);
  STATIC_REQUIRE_FALSE(Serializable<std::vector<int*>>);
  STATIC_REQUIRE_FALSE(Serializable<std::optional<std::string_view>>);
  STATIC_REQUIRE_FALSE(Serializable<std::map<std::string, void*>>);
  STATIC_REQUIRE_FALSE(Serializable<std::variant<int, int*>>);
  STATIC_REQUIRE_FALSE(Serializable<std::shared_ptr<int>>);
  STATIC_REQUIRE_FALSE(Serializable<Pointer>);
  STATIC_REQUIRE_FALSE(Serializable<DeepPointer>);
  STATIC_REQUIRE_FALSE(Serializable<Reference>);
  STATIC_REQUIRE_FALSE(Serializable<ConstReference>);
  STATIC_REQUIRE_FALSE(Serializable<RvalueReference>);
  STATIC_REQUIRE_FALSE(Serializable<Text>);
  STATIC_REQUIRE_FALSE(Serializable<tm>);
}

TEST_CASE("unique_ptr is Serializable only where new and delete fit") {
  STATIC_REQUIRE_FALSE(Serializable<std::unique_ptr<int[]>>);
  STATIC_REQUIRE_FALSE(Serializable<std::unique_ptr<int, Free>>);
  STATIC_REQUIRE_FALSE(Serializable<std::unique_ptr<Polymorphic>>);
  STATIC_REQUIRE_FALSE(Serializable<std::unique_ptr<int*>>);
  STATIC_REQUIRE(Serializable<std::unique_ptr<Final>>);
}

TEST_CASE("aggregates that cannot be taken apart are not Serializable") {
  STATIC_REQUIRE_FALSE(Serializable<Based>);
  STATIC_REQUIRE_FALSE(Serializable<BasedOnEmpty>);
  STATIC_REQUIRE_FALSE(Serializable<BitField>);
  STATIC_REQUIRE_FALSE(Serializable<OneBitField>);
  STATIC_REQUIRE_FALSE(Serializable<Union>);
  STATIC_REQUIRE_FALSE(Serializable<NamedUnion>);
  STATIC_REQUIRE_FALSE(Serializable<UnnamedUnion>);
  STATIC_REQUIRE_FALSE(Serializable<UnnamedUnionOnly>);
  STATIC_REQUIRE_FALSE(Serializable<ThirtyThree>);
  STATIC_REQUIRE_FALSE(Serializable<HoldsThirtyThree>);
  STATIC_REQUIRE_FALSE(Serializable<epoll_event>);
  STATIC_REQUIRE_FALSE(Serializable<NeedsValue>);
  STATIC_REQUIRE_FALSE(Serializable<NeedsTwo>);
  STATIC_REQUIRE_FALSE(Serializable<NeedsTwoWords>);
  STATIC_REQUIRE_FALSE(Serializable<NeedsValueBehindArray>);
  STATIC_REQUIRE_FALSE(Serializable<NeedsValueBehindLongArray>);
  STATIC_REQUIRE_FALSE(Serializable<NeedsValueAndUnion>);
  STATIC_REQUIRE_FALSE(Serializable<NeedsValueAndBase>);
}

TEST_CASE("classes are Serializable when they say how") {
  STATIC_REQUIRE_FALSE(Serializable<Private>);
  STATIC_REQUIRE_FALSE(Serializable<NoDefault>);
  STATIC_REQUIRE_FALSE(Serializable<NotSerialize>);
  STATIC_REQUIRE_FALSE(Serializable<ConstMember>);
  STATIC_REQUIRE_FALSE(Serializable<DerivedFromConstMember>);
  STATIC_REQUIRE(Serializable<BothMembers>);
  STATIC_REQUIRE(Serializable<ConstMemberWithoutData>);
  STATIC_REQUIRE(Serializable<Member>);
  STATIC_REQUIRE(Serializable<MemberAndBase>);
  STATIC_REQUIRE(Serializable<MemberUnion>);
  STATIC_REQUIRE(Serializable<HoldsMemberUnion>);
  STATIC_REQUIRE(Serializable<VouchedFor>);
  STATIC_REQUIRE(Serializable<HoldsVouchedFor>);
}

TEST_CASE("what belongs to this process is not Serializable") {
  STATIC_REQUIRE_FALSE(Serializable<void>);
  STATIC_REQUIRE_FALSE(Serializable<void()>);
  STATIC_REQUIRE_FALSE(Serializable<const int>);
  STATIC_REQUIRE_FALSE(Serializable<int[3]>);
  STATIC_REQUIRE_FALSE(Serializable<int[]>);
  [[maybe_unused]] auto captureless = [](int x) { return x; };
  [[maybe_unused]] auto capturing = [x = 1] { return x; };
  STATIC_REQUIRE_FALSE(Serializable<decltype(captureless)>);
  STATIC_REQUIRE_FALSE(Serializable<decltype(capturing)>);
  STATIC_REQUIRE_FALSE(Serializable<std::function<void()>>);
  STATIC_REQUIRE_FALSE(Serializable<std::any>);
  STATIC_REQUIRE_FALSE(Serializable<std::atomic<int>>);
  STATIC_REQUIRE_FALSE(Serializable<std::mutex>);
  STATIC_REQUIRE_FALSE(Serializable<std::thread>);
  STATIC_REQUIRE_FALSE(Serializable<std::thread::id>);
  STATIC_REQUIRE_FALSE(Serializable<std::ofstream>);
  STATIC_REQUIRE_FALSE(Serializable<std::exception_ptr>);
  STATIC_REQUIRE_FALSE(Serializable<std::error_code>);
  STATIC_REQUIRE_FALSE(Serializable<Atomic>);
  STATIC_REQUIRE_FALSE(Serializable<HoldsMutex>);
  STATIC_REQUIRE_FALSE(Serializable<HoldsFunction>);
  STATIC_REQUIRE_FALSE(Serializable<HoldsAny>);
  STATIC_REQUIRE_FALSE(Serializable<HoldsLambda>);
  STATIC_REQUIRE_FALSE(Serializable<HoldsLock>);
}

TEST_CASE("containers ordered by a function pointer are not Serializable") {
  STATIC_REQUIRE_FALSE(Serializable<std::set<int, bool (*)(int, int)>>);
  STATIC_REQUIRE_FALSE(Serializable<std::map<int, int, bool (*)(int, int)>>);
  STATIC_REQUIRE_FALSE(Serializable<std::unordered_set<int, std::size_t (*)(int)>>);
  STATIC_REQUIRE_FALSE(
      Serializable<std::priority_queue<int, std::vector<int>, bool (*)(int, int)>>);
}
