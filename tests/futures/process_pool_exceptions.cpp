// SPDX-License-Identifier: MIT
// What tasks throw, and what user code throws on a value's way to a worker and back.
#include <brood/futures.hpp>
#include <brood/futures/process_pool.hpp>
#include <brood/queue_errors.hpp>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "support/catch.hpp"
#include "support/start_methods.hpp"

namespace futures = brood::futures;
namespace os = brood::os;
using futures::Future;
using futures::ProcessPoolExecutor;

namespace {

struct NoSoap : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Spill {  // no std::exception; crosses as it is
  int litres;
  std::string what;
};
struct Unknown : std::logic_error {
  using std::logic_error::logic_error;
};
struct Strange {};

const bool registered = brood::register_exception<NoSoap>() && brood::register_exception<Spill>();

// Throws from its `serialize` where it is told to.
struct Touchy {
  enum Where { nowhere, written_here, read_there, written_there, read_here };
  inline static const pid_t home = ::getpid();
  int where = nowhere;
  template <class Archive>
  void serialize(Archive& ar) {
    const bool here = ::getpid() == home;
    constexpr bool reads = std::is_base_of_v<brood::serialization::Reader, Archive>;
    if (!reads && where == (here ? written_here : written_there)) throw NoSoap("written");
    ar(where);
    if (reads && where == (here ? read_here : read_there)) throw NoSoap("read");
  }
};

template <class Exception, class F>
std::string thrown(F f) {
  try {
    f();
  } catch (const Exception& error) {
    return typeid(error) == typeid(Exception) ? error.what()
                                              : std::string{"a derived one: "} + error.what();
  } catch (const std::exception& error) {
    return std::string{"another one: "} + error.what();
  }
  return "nothing";
}

template <class Exception>
void throws_text(ProcessPoolExecutor& pool) {
  auto task = pool.submit([](std::string text) -> int { throw Exception(text); }, "its text");
  CHECK(thrown<Exception>([&] { task.result(); }) == "its text");
}

}  // namespace

TEST_CASE("process pool task throws standard exceptions with type and text") {
  ProcessPoolExecutor pool(2);
  throws_text<std::runtime_error>(pool);
  throws_text<std::range_error>(pool);
  throws_text<std::overflow_error>(pool);
  throws_text<std::underflow_error>(pool);
  throws_text<std::logic_error>(pool);
  throws_text<std::invalid_argument>(pool);
  throws_text<std::domain_error>(pool);
  throws_text<std::length_error>(pool);
  throws_text<std::out_of_range>(pool);
  throws_text<brood::TimeoutError>(pool);
  throws_text<brood::EOFError>(pool);
  throws_text<NoSoap>(pool);
  const auto vector_at = [](std::vector<int> v) { return v.at(3); };
  CHECK_THROWS_AS(pool.submit(vector_at, std::vector<int>{}).result(), std::out_of_range);
  CHECK_THROWS_AS(pool.submit([]() -> int { throw std::bad_alloc{}; }).result(), std::bad_alloc);
  CHECK_THROWS_AS(pool.submit([] { return std::optional<int>{}.value(); }).result(),
                  std::bad_optional_access);
}

TEST_CASE("process pool task throws system errors with their codes") {
  ProcessPoolExecutor pool(1);
  auto generic = pool.submit(
      [] { throw std::system_error(ENOSPC, std::generic_category(), "fill the sink"); });
  try {
    generic.result();
    FAIL("it must throw");
  } catch (const std::system_error& error) {
    CHECK(typeid(error) == typeid(std::system_error));
    CHECK(error.code() == std::error_code(ENOSPC, std::generic_category()));
    CHECK(std::string(error.what()) ==
          std::system_error(ENOSPC, std::generic_category(), "fill the sink").what());
  }
  auto system = pool.submit([] { throw std::system_error(EIO, std::system_category()); });
  try {
    system.result();
    FAIL("it must throw");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::error_code(EIO, std::system_category()));
  }
}

TEST_CASE("process pool task whose error code is of another category throws a remote error") {
  ProcessPoolExecutor pool(1);
  auto task = pool.submit([] { throw std::system_error(make_error_code(std::io_errc::stream)); });
  CHECK_THROWS_AS(task.result(), futures::RemoteError);
}

TEST_CASE("process pool task throws OSError classes with their filename") {
  ProcessPoolExecutor pool(1);
  auto missing = pool.submit([](std::string path) { brood::posix::open_file(path.c_str(), 0); },
                             "/no/such/dish");
  try {
    missing.result();
    FAIL("it must throw");
  } catch (const os::FileNotFoundError& error) {
    CHECK(error.filename() == "/no/such/dish");
    CHECK(error.code().value() == ENOENT);
    CHECK(std::string(error.what()) ==
          os::FileNotFoundError(ENOENT, "open", "/no/such/dish").what());
  }
  auto plain = pool.submit([] { brood::posix::throw_os_error(EMFILE, "make a pipe"); });
  CHECK(thrown<os::OSError>([&] { plain.result(); }) == os::OSError(EMFILE, "make a pipe").what());
}

TEST_CASE("process pool task throws registered types as what they are") {
  CHECK(registered);
  ProcessPoolExecutor pool(1);
  auto spill = pool.submit([] { throw Spill{3, "water"}; });
  try {
    spill.result();
    FAIL("it must throw");
  } catch (const Spill& error) {
    CHECK(error.litres == 3);
    CHECK(error.what == "water");
  }
}

TEST_CASE("process pool task that throws an unknown type gives a remote error with its name") {
  ProcessPoolExecutor pool(1);
  try {
    pool.submit([] { throw Unknown("who knows"); }).result();
    FAIL("it must throw");
  } catch (const futures::RemoteError& error) {
    CHECK_THAT(error.type_name(), Catch::Matchers::ContainsSubstring("Unknown"));
    CHECK(error.what() == error.type_name() + ": who knows");
    CHECK(error.pid() == pool.worker_pids().at(0));
  }
  try {
    pool.submit([] { throw Strange{}; }).result();
    FAIL("it must throw");
  } catch (const futures::RemoteError& error) {
    CHECK_THAT(error.type_name(), Catch::Matchers::ContainsSubstring("Strange"));
  }
  CHECK_THROWS_AS(pool.submit([] { throw 42; }).result(), futures::RemoteError);
  CHECK_THROWS_AS(pool.submit([] { throw std::bad_function_call(); }).result(),
                  futures::RemoteError);
  try {
    pool.submit([] { throw std::string("a text"); }).result();
    FAIL("it must throw");
  } catch (const futures::RemoteError& error) {
    CHECK_THAT(error.what(), Catch::Matchers::ContainsSubstring("a text"));
  }
}

TEST_CASE("process pool task may throw the errors of brood itself") {
  ProcessPoolExecutor pool(1);
  CHECK_THROWS_AS(pool.submit([] { throw brood::queue::Empty("nothing"); }).result(),
                  brood::queue::Empty);
  CHECK_THROWS_AS(pool.submit([] { throw futures::CancelledError(); }).result(),
                  futures::CancelledError);
  auto future = pool.submit([] { throw futures::CancelledError(); });
  CHECK_THROWS_AS(future.result(), futures::CancelledError);
  CHECK_FALSE(future.cancelled());
}

TEST_CASE("process pool task that throws while workers are few harms no other") {
  ProcessPoolExecutor pool(1);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 100; ++i)
    tasks.push_back(pool.submit(
        [](int n) {
          if (n % 3 == 0) throw NoSoap(std::string(1000, 'x'));
          return n;
        },
        i));
  for (int i = 0; i < 100; ++i) {
    const auto& task = tasks[static_cast<std::size_t>(i)];
    if (i % 3 == 0)
      CHECK_THROWS_AS(task.result(), NoSoap);
    else
      CHECK(task.result() == i);
  }
  CHECK(pool.worker_pids().size() == 1);
}

TEST_CASE("process pool value that throws when written here throws from submit") {
  ProcessPoolExecutor pool(1);
  const auto take = [](Touchy) { return 1; };
  CHECK_THROWS_AS(pool.submit(take, Touchy{Touchy::written_here}), NoSoap);
  CHECK(pool.submit(take, Touchy{}).result() == 1);
  CHECK_THROWS_AS(pool.map(take, std::vector{Touchy{}, Touchy{Touchy::written_here}}), NoSoap);
  CHECK_THROWS_AS(
      pool.map({.chunksize = 2}, take, std::vector{Touchy{}, Touchy{Touchy::written_here}}),
      NoSoap);
  pool.shutdown();
}

TEST_CASE("process pool value that throws elsewhere fails its task alone") {
  ProcessPoolExecutor pool(1);
  const auto take = [](Touchy) { return 1; };
  const auto make = [](int where) { return Touchy{where}; };
  auto read_there = pool.submit(take, Touchy{Touchy::read_there});
  auto written_there = pool.submit(make, Touchy::written_there);
  auto read_here = pool.submit(make, Touchy::read_here);
  auto fine = pool.submit(make, Touchy::nowhere);
  CHECK(thrown<NoSoap>([&] { read_there.result(); }) == "read");
  CHECK(thrown<NoSoap>([&] { written_there.result(); }) == "written");
  CHECK(thrown<NoSoap>([&] { read_here.result(); }) == "read");
  CHECK(fine.result().where == Touchy::nowhere);
  for (int i = 0; i < 20; ++i)
    CHECK_THROWS_AS(pool.submit(make, Touchy::written_there).result(), NoSoap);
  CHECK(pool.worker_pids().size() == 1);

  int failed = 0;
  auto results = pool.map({.chunksize = 2}, make,
                          std::vector<int>{Touchy::nowhere, Touchy::read_here, Touchy::nowhere});
  for (auto it = results.begin(); it != results.end(); ++it) {
    try {
      static_cast<void>(*it);
    } catch (const NoSoap&) {
      ++failed;
    }
  }
  CHECK(failed == 2);  // the chunk
}

TEST_CASE("process pool callable that throws when it is read fails its task alone") {
  struct Call {
    Touchy touchy;
    int operator()(int n) const { return n; }
  };
  ProcessPoolExecutor pool(1);
  CHECK(pool.submit(Call{}, 3).result() == 3);
  CHECK_THROWS_AS(pool.submit(Call{{Touchy::read_there}}, 3).result(), NoSoap);
}
