// SPDX-License-Identifier: MIT
#include <signal.h>
#include <unistd.h>

#include <brood/crossing.hpp>
#include <brood/futures.hpp>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>

#include "support/catch.hpp"
#include "support/plugin/plugin.hpp"

using brood::CallEntry;
using brood::CrossingCallable;
using brood::serialization::Reader;
using Catch::Matchers::ContainsSubstring;
namespace futures = brood::futures;
namespace posix = brood::posix;

namespace {

// A signature that nothing else has.
struct Dish;
using Entry = CallEntry<void(Reader&, Dish*)>;
void wash(Reader&, Dish*) {}
constinit const Entry entry{&wash, typeid(std::string)};
constinit const CallEntry<int(Reader&)> other_entry{nullptr, typeid(int)};

int twice(int n) { return 2 * n; }
int thrice(int n) noexcept { return 3 * n; }

struct Base {
  int unused = 0;
  virtual ~Base() = default;
  virtual int area() const { return 1; }
};
struct Side {
  int height = 5;
  virtual ~Side() = default;
  int tall() const { return height; }
  virtual int wide() { return 6; }
};
struct Plate : Base, Side {
  int area() const override { return 2; }
  int wide() override { return 7; }
};
struct Adder {
  int base;
  int operator()(int n) const { return base + n; }
};
struct Cup {
  int size;
  int filled(int n) const { return size - n; }
};

// F as another process gets it.
template <class F>
F crossed(const F& f, std::size_t* taken = nullptr) {
  brood::serialization::Sizer sizer;
  CrossingCallable<F>::write(sizer, f);
  std::string bytes(sizer.size(), '\0');
  brood::serialization::Writer out{bytes.data(), bytes.size()};
  CrossingCallable<F>::write(out, f);
  if (out.written() != bytes.size()) throw std::logic_error("not as large as was said");
  if (taken != nullptr) *taken = bytes.size();
  Reader in{bytes};
  F result = CrossingCallable<F>::read(in);
  in.expect_end();
  return result;
}

}  // namespace

TEST_CASE("an entry is found by its place") {
  const posix::CodePlace place = entry.place();
  CHECK(place == posix::place_of(&entry));
  CHECK(place == entry.place());
  CHECK(Entry::at(place) == &entry);
  CHECK(&Entry::at(place)->function() == &wash);
  CHECK_THAT(entry.name(), ContainsSubstring("string"));
}

TEST_CASE("no entry is found where there is none of that signature") {
  const posix::CodePlace place = entry.place();
  CHECK(Entry::at(other_entry.place()) == nullptr);
  CHECK(Entry::at(posix::place_of(plugin_own_words())) == nullptr);
  CHECK(Entry::at({}) == nullptr);
  alignas(Entry) static char copied[sizeof(Entry)];
  std::memcpy(copied, static_cast<const void*>(&entry), sizeof entry);
  CHECK(Entry::at(posix::place_of(copied)) == nullptr);
  std::mt19937_64 random(21);
  int found = 0;
  for (int i = 0; i < 20'000; ++i) {
    posix::CodePlace near{place.module, place.offset + random() % 100'000 - 50'000};
    if (i % 2 == 0) near.offset &= ~std::uint64_t{7};
    const Entry* const at = Entry::at(near);
    if (at != nullptr && at != &entry) ++found;
  }
  CHECK(found == 0);
}

TEST_CASE("a function crosses by its place") {
  std::size_t size = 0;
  CHECK(crossed(&twice, &size)(4) == 8);
  CHECK(size == 8);  // of the program itself
  CHECK(crossed(&thrice)(4) == 12);
  CHECK(crossed(&plugin_answer, &size)() == 3);
  CHECK(size == 24);
  const support::Plugin plugin(support::plugin_path("one"));
  auto* const answer = plugin.function<int()>("plugin_answer");
  CHECK(crossed(answer) == answer);
  CHECK(crossed(answer)() == 1);
}

TEST_CASE("a function of a library that was closed is not called") {
  using Function = int (*)();
  std::string bytes(24, '\0');
  {
    const support::Plugin plugin(support::plugin_path("one"));
    const Function answer = plugin.function<int()>("plugin_answer");
    brood::serialization::Writer out{bytes.data(), bytes.size()};
    CrossingCallable<Function>::write(out, answer);
  }
  if (support::is_loaded(support::plugin_path("one"))) SKIP("a sanitizer keeps libraries");
  Reader in{bytes};
  CHECK_THROWS_WITH(CrossingCallable<Function>::read(in),
                    ContainsSubstring("a library that is not loaded there"));
}

TEST_CASE("bytes that name no function are refused") {
  using Function = int (*)(int);
  std::mt19937_64 random(22);
  for (int i = 0; i < 10'000; ++i) {
    std::uint64_t words[3] = {random() >> random() % 64, random(), random() >> random() % 64};
    if (i % 3 == 0) words[0] = 1;
    if (i % 6 == 0) words[1] = posix::place_of(&entry).module;
    Reader in{{reinterpret_cast<const char*>(words), sizeof words}};
    try {
      const Function function = CrossingCallable<Function>::read(in);
      if (posix::address_of(posix::place_of(reinterpret_cast<const void*>(function)), 1, 1,
                            posix::SegmentUse::code) == nullptr)
        FAIL("not code");
    } catch (const std::invalid_argument&) {
    }
  }
  Reader truncated{{"\1", 1}};
  CHECK_THROWS_AS(CrossingCallable<Function>::read(truncated),
                  brood::serialization::SerializationError);
}

TEST_CASE("a pointer to a member crosses") {
  Plate plate;
  CHECK(std::invoke(crossed(&Base::area), plate) == 2);
  CHECK(std::invoke(crossed(&Plate::area), plate) == 2);
  CHECK(std::invoke(crossed(&Plate::tall), plate) == 5);
  // With an adjustment of this, and a virtual one.
  CHECK(std::invoke(crossed(static_cast<int (Plate::*)() const>(&Side::tall)), plate) == 5);
  CHECK(std::invoke(crossed(static_cast<int (Plate::*)()>(&Side::wide)), plate) == 7);
  CHECK(std::invoke(crossed(&Side::height), plate) == 5);
  CHECK(std::invoke(crossed(static_cast<int Plate::*>(&Side::height)), plate) == 5);
}

TEST_CASE("function objects cross as before") {
  CHECK(crossed(Adder{5})(6) == 11);
  CHECK(crossed([](int n) { return n + 1; })(6) == 7);
}

TEST_CASE("a null pointer does not cross as a callable") {
  CHECK_THROWS_AS(crossed(static_cast<int (*)()>(nullptr)), std::invalid_argument);
  CHECK_THROWS_AS(crossed(static_cast<int (Cup::*)(int) const>(nullptr)), std::invalid_argument);
  CHECK_THROWS_AS(crossed(static_cast<int Cup::*>(nullptr)), std::invalid_argument);
}

TEST_CASE("pointers to members are tasks of a process pool") {
  futures::ProcessPoolExecutor pool({.max_workers = 1});
  CHECK(pool.submit(&Cup::filled, Cup{10}, 4).result() == 6);
  CHECK(pool.submit(&Cup::size, Cup{10}).result() == 10);
  CHECK_THROWS_AS(pool.submit(static_cast<int (*)(int)>(nullptr), 1), std::invalid_argument);
  CHECK(pool.submit(twice, 4).result() == 8);
}

TEST_CASE("a function of a library that was loaded after the pool was made is refused by name") {
  futures::ProcessPoolExecutor pool({.max_workers = 1});
  CHECK(pool.submit(twice, 4).result() == 8);
  const support::Plugin plugin(support::plugin_path("one"));
  auto refused = pool.submit(plugin.function<int()>("plugin_answer"));
  CHECK_THROWS_WITH(refused.result(), ContainsSubstring("a library that is not loaded there"));
  CHECK_THROWS_AS(refused.result(), std::invalid_argument);
  CHECK(pool.submit(&plugin_answer).result() == 3);
  futures::ProcessPoolExecutor knows_it({.max_workers = 1});
  CHECK(knows_it.submit(plugin.function<int()>("plugin_answer")).result() == 1);
}

TEST_CASE("a crash names the function that has a name and the signal") {
  futures::ProcessPoolExecutor pool({.max_workers = 1});
  try {
    pool.submit(plugin_die, SIGKILL).result();
    FAIL("it must throw");
  } catch (const futures::WorkerCrashed& crash) {
    CHECK(crash.function() == "plugin_die");
    CHECK_THAT(crash.what(),
               ContainsSubstring("was killed by SIGKILL (signal 9) while it ran plugin_die"));
  }
  const auto crash = [] { ::kill(::getpid(), SIGKILL); };
  CHECK_THROWS_WITH(pool.submit(crash).result(),
                    ContainsSubstring("lambda") || ContainsSubstring("$_"));
  try {
    pool.submit({.timeout = std::chrono::milliseconds(1)}, pause).result();
    FAIL("it must throw");
  } catch (const futures::TaskTimeout& late) {
    CHECK_THAT(late.function(), ContainsSubstring("pause") || ContainsSubstring("int"));
  }
}
