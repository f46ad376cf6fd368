// SPDX-License-Identifier: MIT
#include <brood/futures/remote_exception.hpp>
#include <brood/standard_exceptions.hpp>
#include <functional>
#include <regex>
#include <stdexcept>
#include <string>

#include "support/catch.hpp"

namespace futures = brood::futures;
namespace os = brood::os;

namespace {

template <class E>
std::exception_ptr there_and_back(const E& exception) {
  return futures::load_exception(futures::dump_exception(std::make_exception_ptr(exception)));
}

struct Cracked : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Chipped : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Derived : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
// Its bytes can't be written.
struct Unwritable : std::runtime_error {
  int value = 0;
  Unwritable() : std::runtime_error("as text then") {}
  template <class Archive>
  void serialize(Archive&) {
    throw std::logic_error("no bytes");
  }
};

}  // namespace

TEST_CASE("remote exception keeps an empty and a long text") {
  for (const std::size_t size : {std::size_t{0}, std::size_t{100'000}}) {
    const std::string text(size, 'x');
    try {
      std::rethrow_exception(there_and_back(std::domain_error(text)));
    } catch (const std::domain_error& error) {
      CHECK((error.what() == text));
    }
  }
}

TEST_CASE("remote exception of a type derived from a known one is no known one") {
  CHECK_THROWS_AS(std::rethrow_exception(there_and_back(Derived("d"))), futures::RemoteError);
}

TEST_CASE("remote exception with another nested in it keeps the type that was thrown") {
  const auto nested = [](const auto& outer) {
    try {
      try {
        throw std::runtime_error("inner");
      } catch (...) {
        std::throw_with_nested(outer);
      }
    } catch (...) {
      return futures::load_exception(futures::dump_exception(std::current_exception()));
    }
  };
  brood::register_exception<Chipped>();
  CHECK_THROWS_AS(std::rethrow_exception(nested(std::logic_error("outer"))), std::logic_error);
  CHECK_THROWS_AS(std::rethrow_exception(nested(Chipped("outer"))), Chipped);
  CHECK_THROWS_AS(std::rethrow_exception(nested(os::FileNotFoundError(ENOENT, "open", "dish"))),
                  os::FileNotFoundError);
  try {
    std::rethrow_exception(nested(Derived("outer")));
    FAIL("it must throw");
  } catch (const futures::RemoteError& error) {
    CHECK(error.type_name().find("::Derived") != std::string::npos);
    CHECK(error.type_name().find("ested") == std::string::npos);
  }
}

TEST_CASE("remote exception is registered any number of times") {
  CHECK_THROWS_AS(std::rethrow_exception(there_and_back(Cracked("c"))), futures::RemoteError);
  CHECK(brood::register_exception<Cracked>());
  CHECK(brood::register_exception<Cracked>());
  CHECK_THROWS_AS(std::rethrow_exception(there_and_back(Cracked("c"))), Cracked);
}

TEST_CASE("remote exception that holds nothing is made anew") {
  struct Plain : std::exception {};
  CHECK_THROWS_AS(std::rethrow_exception(there_and_back(Plain())), futures::RemoteError);
  brood::register_exception<Plain>();
  CHECK_THROWS_AS(std::rethrow_exception(there_and_back(Plain())), Plain);
}

TEST_CASE("remote exceptions of dear standard headers come with their types and codes") {
  CHECK_THROWS_AS(std::rethrow_exception(there_and_back(std::bad_any_cast())), std::bad_any_cast);
  CHECK_THROWS_AS(std::rethrow_exception(there_and_back(std::bad_function_call())),
                  std::bad_function_call);
  CHECK_THROWS_AS(std::rethrow_exception(there_and_back(std::bad_variant_access())),
                  std::bad_variant_access);
  CHECK_THROWS_AS(std::rethrow_exception(there_and_back(std::bad_weak_ptr())), std::bad_weak_ptr);
  try {
    std::rethrow_exception(there_and_back(std::future_error(std::future_errc::broken_promise)));
    FAIL("it must throw");
  } catch (const std::logic_error& error) {
    CHECK(dynamic_cast<const std::future_error&>(error).code() == std::future_errc::broken_promise);
  }
  try {
    std::regex{"["};
    FAIL("it must throw");
  } catch (const std::regex_error& thrown) {
    try {
      std::rethrow_exception(
          futures::load_exception(futures::dump_exception(std::current_exception())));
    } catch (const std::regex_error& error) {
      CHECK(error.code() == thrown.code());
    }
  }
}

TEST_CASE("remote exception that cannot be written goes as text") {
  brood::register_exception<Unwritable>();
  try {
    std::rethrow_exception(there_and_back(Unwritable()));
    FAIL("it must throw");
  } catch (const futures::RemoteError& error) {
    CHECK(error.what() == error.type_name() + ": as text then");
    CHECK(error.pid() == ::getpid());
  }
}

TEST_CASE("remote exception bytes that are cut off or unknown are refused") {
  const std::string bytes =
      futures::dump_exception(std::make_exception_ptr(os::OSError(EIO, "read", "dish")));
  for (std::size_t size = 0; size < bytes.size(); ++size)
    CHECK_THROWS_AS(futures::load_exception(bytes.substr(0, size)),
                    brood::serialization::SerializationError);
  CHECK_THROWS_AS(futures::load_exception(std::string(100, '\x5a')),
                  brood::serialization::SerializationError);
}
