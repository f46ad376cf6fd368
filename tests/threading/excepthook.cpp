// SPDX-License-Identifier: MIT
//
// What becomes of an exception that escapes from a thread.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <brood/threading.hpp>
#include <stdexcept>
#include <string>

#include "support/catch.hpp"

using namespace brood;
using Catch::Matchers::ContainsSubstring;

namespace {

// What f makes appear on stderr.
template <class F>
std::string stderr_of(F f) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  ::close(ends[1]);
  f();
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  std::string text;
  char buffer[4096];
  for (ssize_t size = 0; (size = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(size));
  ::close(ends[0]);
  return text;
}

template <class F>
void run_thread(F target, const char* name = "excthread") {
  threading::Thread thread({.name = name}, target);
  thread.start();
  thread.join();
}

struct RestoreHook {
  ~RestoreHook() { threading::set_excepthook(nullptr); }
};

}  // namespace

TEST_CASE(
    "an escaped exception is printed with the name of its thread and ends that thread alone") {
  const std::string text =
      stderr_of([] { run_thread([] { throw std::runtime_error{"out of soap"}; }); });
  CHECK(text == "Exception in thread excthread:\nstd::runtime_error: out of soap\n");
  CHECK_THAT(stderr_of([] { run_thread([] { throw 3; }); }), ContainsSubstring("int\n"));
  CHECK_THAT(stderr_of([] { run_thread([] { throw "words"; }); }), ContainsSubstring(": words\n"));
}

TEST_CASE("an escaped exception does no harm when stderr is closed") {
  const int before = ::dup(STDERR_FILENO);
  ::close(STDERR_FILENO);
  run_thread([] { throw std::runtime_error{"nobody hears"}; });
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  CHECK(threading::active_count() == 1);
}

TEST_CASE("an escaped exception does no harm when nobody reads stderr") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  ::close(ends[0]);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  ::close(ends[1]);
  run_thread([] { throw std::runtime_error{"nobody hears"}; });  // and no SIGPIPE
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  CHECK(threading::active_count() == 1);
}

TEST_CASE("an excepthook of the program gets type and exception and thread") {
  const RestoreHook restore;
  threading::ExceptHookArgs seen;
  threading::set_excepthook([&](const threading::ExceptHookArgs& args) { seen = args; });
  const std::string text =
      stderr_of([] { run_thread([] { throw std::out_of_range{"too many dishes"}; }); });
  CHECK(text.empty());
  CHECK(seen.exc_type == "std::out_of_range");
  CHECK(seen.thread.name() == "excthread");
  CHECK_THROWS_AS(std::rethrow_exception(seen.exc_value), std::out_of_range);
}

TEST_CASE("an exception of the excepthook itself is reported") {
  const RestoreHook restore;
  threading::set_excepthook(
      [](const threading::ExceptHookArgs&) { throw std::logic_error{"bad hook"}; });
  const std::string text =
      stderr_of([] { run_thread([] { throw std::runtime_error{"out of soap"}; }); });
  CHECK_THAT(text, ContainsSubstring("Exception in threading.excepthook:\n"));
  CHECK_THAT(text, ContainsSubstring("std::logic_error: bad hook"));
  CHECK_THAT(text, ContainsSubstring("std::runtime_error: out of soap"));
}

TEST_CASE("the default excepthook can be called and put back") {
  const RestoreHook restore;
  const auto fail = [] { run_thread([] { throw std::runtime_error{"out of soap"}; }); };
  const threading::ExceptHook original = threading::excepthook();
  int calls = 0;
  threading::set_excepthook([&](const threading::ExceptHookArgs&) { ++calls; });
  CHECK(stderr_of(fail).empty());
  CHECK(calls == 1);
  threading::set_excepthook(original);
  CHECK_THAT(stderr_of(fail), ContainsSubstring("out of soap"));
  threading::set_excepthook(&threading::default_excepthook);
  CHECK_THAT(stderr_of(fail), ContainsSubstring("out of soap"));
  CHECK(calls == 1);
}

TEST_CASE("the default excepthook without a thread names the calling one") {
  threading::ExceptHookArgs args;
  args.exc_value = std::make_exception_ptr(std::runtime_error{"out of soap"});
  CHECK(stderr_of([&] { threading::excepthook()(args); }) ==
        "Exception in thread MainThread:\nstd::runtime_error: out of soap\n");
}

TEST_CASE("a thread that calls pthread_exit ends in silence") {
  bool unwound = false, after = false;
  const std::string text = stderr_of([&] {
    run_thread([&] {
      struct Guard {
        ~Guard() { *flag = true; }
        bool* flag;
      } const guard{&unwound};
      ::pthread_exit(nullptr);
      after = true;
    });
  });
  CHECK(text.empty());
  CHECK(unwound);
  CHECK_FALSE(after);
  CHECK(threading::active_count() == 1);
}
