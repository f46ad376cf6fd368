// SPDX-License-Identifier: MIT
#include <brood/futures/future.hpp>
#include <brood/futures/wait.hpp>
#include <brood/posix/thread.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "support/catch.hpp"
#include "support/stderr.hpp"

namespace futures = brood::futures;
using futures::Future;
using namespace std::chrono_literals;

namespace {

std::exception_ptr oops() { return std::make_exception_ptr(std::out_of_range("oops")); }

// One in each of the states of Python's tests.
struct Six {
  Six() {
    running.set_running_or_notify_cancel();
    cancelled.cancel();
    failed.set_exception(oops());
    succeeded.set_result(42);
  }
  Future<int> pending, running, cancelled, failed, succeeded;
};

// A coroutine that starts at once and is not waited for.
struct Routine {
  struct promise_type {
    Routine get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

}  // namespace

TEST_CASE("a done callback gets the future with its result") {
  Future<int> future;
  int seen = 0;
  future.add_done_callback([&](Future<int> done) { seen = done.result(); });
  CHECK(seen == 0);
  future.set_result(5);
  CHECK(seen == 5);
}

TEST_CASE("a done callback gets the future with its exception") {
  Future<int> future;
  std::exception_ptr seen;
  future.add_done_callback([&](Future<int> done) { seen = done.exception(); });
  future.set_exception(oops());
  REQUIRE(seen);
  CHECK_THROWS_AS(std::rethrow_exception(seen), std::out_of_range);
}

TEST_CASE("a done callback gets the cancelled future") {
  Future<int> future;
  bool seen = false;
  future.add_done_callback([&](const Future<int>& done) { seen = done.cancelled(); });
  CHECK(future.cancel());
  CHECK(seen);
}

TEST_CASE("done callbacks run once and in the order of adding") {
  Future<void> future;
  std::string order;
  for (const char letter : {'a', 'b', 'c', 'd'})
    future.add_done_callback([&order, letter](Future<void>) { order += letter; });
  future.set_result();
  CHECK_FALSE(future.cancel());
  CHECK(order == "abcd");
}

TEST_CASE("a done callback that throws is reported and the others run") {
  support::CapturedStderr captured;
  Future<int> future;
  bool before = false;
  bool after = false;
  future.add_done_callback([&](Future<int>) { before = true; });
  future.add_done_callback([](Future<int>) { throw std::runtime_error("the plate broke"); });
  future.add_done_callback([&](Future<int>) { after = true; });
  future.set_result(1);
  CHECK(before);
  CHECK(after);
  CHECK_THAT(captured.text(),
             Catch::Matchers::ContainsSubstring("std::runtime_error: the plate broke"));
}

TEST_CASE("a done callback added to a finished future runs at once") {
  const Six six;
  int calls = 0;
  six.succeeded.add_done_callback([&](Future<int> done) { calls += done.result() == 42; });
  six.failed.add_done_callback([&](Future<int> done) { calls += done.exception() != nullptr; });
  six.cancelled.add_done_callback([&](Future<int> done) { calls += done.cancelled(); });
  CHECK(calls == 3);
}

TEST_CASE("what a done callback throws at once is reported and not thrown") {
  support::CapturedStderr captured;
  Future<int> future;
  future.set_result(5);
  CHECK_NOTHROW(future.add_done_callback([](Future<int>) { throw std::logic_error("doh"); }));
  CHECK_THAT(captured.text(), Catch::Matchers::ContainsSubstring("std::logic_error: doh"));
}

TEST_CASE("cancel succeeds only before the work begins") {
  const Six six;
  CHECK(six.pending.cancel());
  CHECK(six.pending.cancelled());
  CHECK(six.cancelled.cancel());
  CHECK_FALSE(six.running.cancel());
  CHECK(six.running.running());
  CHECK_FALSE(six.failed.cancel());
  CHECK(six.failed.exception());
  CHECK_FALSE(six.succeeded.cancel());
  CHECK(six.succeeded.result() == 42);
}

TEST_CASE("each state answers cancelled done and running") {
  const Six six;
  CHECK_FALSE(six.pending.cancelled());
  CHECK_FALSE(six.running.cancelled());
  CHECK(six.cancelled.cancelled());
  CHECK_FALSE(six.failed.cancelled());
  CHECK_FALSE(six.succeeded.cancelled());

  CHECK_FALSE(six.pending.done());
  CHECK_FALSE(six.running.done());
  CHECK(six.cancelled.done());
  CHECK(six.failed.done());
  CHECK(six.succeeded.done());

  CHECK_FALSE(six.pending.running());
  CHECK(six.running.running());
  CHECK_FALSE(six.cancelled.running());
  CHECK_FALSE(six.failed.running());
  CHECK_FALSE(six.succeeded.running());
}

TEST_CASE("result with a limit of zero tells the states apart") {
  const Six six;
  CHECK_THROWS_AS(six.pending.result(0s), futures::TimeoutError);
  CHECK_THROWS_AS(six.running.result(0s), futures::TimeoutError);
  CHECK_THROWS_AS(six.cancelled.result(0s), futures::CancelledError);
  CHECK_THROWS_AS(six.failed.result(0s), std::out_of_range);
  CHECK(six.succeeded.result(0s) == 42);
}

TEST_CASE("exception with a limit of zero tells the states apart") {
  const Six six;
  CHECK_THROWS_AS(six.pending.exception(0s), futures::TimeoutError);
  CHECK_THROWS_AS(six.running.exception(0s), brood::TimeoutError);
  CHECK_THROWS_AS(six.cancelled.exception(0s), futures::CancelledError);
  CHECK(six.failed.exception(0s));
  CHECK(six.succeeded.exception(0s) == nullptr);
}

TEST_CASE("a limited wait for a result ends in time") {
  const Future<int> future;
  CHECK_THROWS_AS(future.result(20ms), futures::TimeoutError);
  CHECK_THROWS_AS(future.result(-1s), futures::TimeoutError);
}

TEST_CASE("a waiting thread wakes for a result") {
  const Future<int> future;
  brood::posix::OsThread other{[=] { future.set_result(42); }};
  CHECK(future.result(30s) == 42);
}

TEST_CASE("a waiting thread wakes for a cancellation") {
  const Future<int> future;
  brood::posix::OsThread other{[=] { future.cancel(); }};
  CHECK_THROWS_AS(future.result(30s), futures::CancelledError);
}

TEST_CASE("a waiting thread wakes for an exception") {
  const Future<int> future;
  brood::posix::OsThread other{[=] { future.set_exception(oops()); }};
  CHECK(future.exception(30s));
}

TEST_CASE("a second result is refused and the first stays") {
  const Future<int> future;
  future.set_result(1);
  CHECK_THROWS_AS(future.set_result(2), futures::InvalidStateError);
  CHECK_THROWS_AS(future.set_exception(oops()), futures::InvalidStateError);
  CHECK(future.result() == 1);
  CHECK_FALSE(future.exception());
}

TEST_CASE("a second exception is refused and the first stays") {
  const Future<int> future;
  future.set_exception(oops());
  CHECK_THROWS_AS(future.set_exception(std::make_exception_ptr(1)), futures::InvalidStateError);
  CHECK_THROWS_AS(future.set_result(2), futures::InvalidStateError);
  CHECK_THROWS_AS(future.result(), std::out_of_range);
}

TEST_CASE("a cancelled future takes no result") {
  const Future<int> future;
  future.cancel();
  CHECK_THROWS_AS(future.set_result(2), futures::InvalidStateError);
  CHECK_FALSE(future.set_running_or_notify_cancel());
}

TEST_CASE("set_running_or_notify_cancel is for pending and cancelled futures") {
  const Six six;
  CHECK(six.pending.set_running_or_notify_cancel());
  CHECK(six.pending.running());
  CHECK_FALSE(six.cancelled.set_running_or_notify_cancel());
  CHECK_THROWS_AS(six.running.set_running_or_notify_cancel(), futures::InvalidStateError);
  CHECK_THROWS_AS(six.failed.set_running_or_notify_cancel(), futures::InvalidStateError);
  CHECK_THROWS_AS(six.succeeded.set_running_or_notify_cancel(), std::logic_error);
}

TEST_CASE("a result whose constructor throws leaves the future as it was") {
  struct Picky {
    explicit Picky(int value) {
      if (value < 0) throw std::domain_error("negative");
    }
  };
  const Future<Picky> future;
  future.set_running_or_notify_cancel();
  CHECK_THROWS_AS(future.set_result(-1), std::domain_error);
  CHECK(future.running());
  future.set_result(1);
  CHECK(future.done());
}

TEST_CASE("set_exception takes an exception itself") {
  const Future<int> future;
  future.set_exception(std::out_of_range{"the lid"});
  CHECK_THROWS_AS(future.result(), std::out_of_range);
  CHECK_THROWS_AS(future.set_exception(std::out_of_range{"again"}), futures::InvalidStateError);
}

TEST_CASE("set_result makes the result of a list in braces") {
  const Future<std::vector<int>> future;
  future.set_result({1, 2, 3});
  CHECK(future.result() == std::vector{1, 2, 3});
}

TEST_CASE("set_exception refuses null") {
  const Future<int> future;
  CHECK_THROWS_AS(future.set_exception(nullptr), std::invalid_argument);
  CHECK_FALSE(future.done());
}

TEST_CASE("result of a kept future refers to the one result") {
  const Future<std::vector<int>> future;
  const auto copy = future;
  future.set_result(std::vector<int>{1, 2, 3});
  CHECK(&future.result() == &copy.result());
}

TEST_CASE("result of the last handle moves") {
  Future<std::unique_ptr<int>> future;
  future.set_result(std::make_unique<int>(7));
  const std::unique_ptr<int> result = std::move(future).result();
  CHECK(*result == 7);
}

TEST_CASE("a container of what cannot be copied moves out of the last handle") {
  Future<std::vector<std::unique_ptr<int>>> future;
  std::vector<std::unique_ptr<int>> pointers;
  pointers.push_back(std::make_unique<int>(7));
  future.set_result(std::move(pointers));
  CHECK(*std::move(future).result().front() == 7);
}

TEST_CASE("result of a future given up while others live copies") {
  Future<std::vector<int>> future;
  const auto other = future;
  future.set_result(std::vector<int>{1, 2, 3});
  CHECK(std::move(future).result().size() == 3);
  CHECK(other.result().size() == 3);
}

TEST_CASE("a result that cannot be copied while others live is a logic error") {
  Future<std::unique_ptr<int>> future;
  const auto other = future;
  future.set_result(std::make_unique<int>(7));
  CHECK_THROWS_AS(std::move(future).result(), std::logic_error);
  CHECK(*other.result() == 7);
}

TEST_CASE("futures of void and of references") {
  const Future<void> nothing;
  nothing.set_result();
  nothing.result();
  static_assert(std::is_void_v<decltype(nothing.result())>);

  int value = 1;
  const Future<int&> reference;
  reference.set_result(value);
  reference.result() = 2;
  CHECK(value == 2);
  CHECK(&Future<int&>{reference}.result() == &value);
}

TEST_CASE("handles of one future are equal and hash alike") {
  const Future<int> a;
  const Future<int> b;
  const auto copy = a;
  CHECK(a == copy);
  CHECK(a != b);
  std::unordered_map<Future<int>, int> numbers{{a, 1}, {b, 2}};
  CHECK(numbers.at(copy) == 1);

  const futures::AnyFuture any = a;
  CHECK(any == a);
  const std::unordered_set<futures::AnyFuture> set{a, copy, b, any};
  CHECK(set.size() == 2);
}

TEST_CASE("a moved-from future may be assigned to") {
  Future<int> future;
  const auto other = std::move(future);
  future = Future<int>{};
  CHECK_FALSE(future == other);
  CHECK_FALSE(future.done());
}

TEST_CASE("the result goes with the last handle") {
  const auto counted = std::make_shared<int>(1);
  {
    Future<std::shared_ptr<int>> future;
    future.set_result(counted);
    const auto copy = future;
    future = {};
    CHECK(counted.use_count() == 2);
  }
  CHECK(counted.use_count() == 1);
}

TEST_CASE("an unfinished future lets go of its callbacks") {
  const auto counted = std::make_shared<int>(1);
  {
    const Future<int> future;
    future.add_done_callback([counted](Future<int>) {});
    CHECK(counted.use_count() == 2);
  }
  CHECK(counted.use_count() == 1);
}

TEST_CASE("AnyFuture asks a future of any type") {
  const Future<std::string> future;
  const futures::AnyFuture any = future;
  bool called = false;
  any.add_done_callback([&](futures::AnyFuture done) { called = done.done(); });
  CHECK_THROWS_AS(any.exception(0s), futures::TimeoutError);
  future.set_result("clean");
  CHECK(called);
  CHECK(any.done());
  CHECK_FALSE(any.cancelled());
  CHECK(any.exception() == nullptr);
}

TEST_CASE("then gives a future of what it makes of the result") {
  const Future<int> future;
  const auto text = future.then([](int value) { return std::to_string(value + 1); });
  const auto nothing = text.then([](const std::string&) {});
  CHECK_FALSE(text.done());
  future.set_result(41);
  CHECK(text.result() == "42");
  CHECK(nothing.done());
  CHECK(text.then(&std::string::size).result() == 2);
}

template <class F, class T>
concept CanFollow = requires(const Future<T>& future, F f) {
  future.then(f);
};
static_assert(CanFollow<void (*)(int), int>);
static_assert(CanFollow<void (*)(), void>);
static_assert(CanFollow<void (*)(std::unique_ptr<int>), std::unique_ptr<int>>);
static_assert(CanFollow<void (*)(int&), int&>);
static_assert(!CanFollow<void (*)(std::string), int>);
static_assert(!CanFollow<void (*)(), int>);
static_assert(!CanFollow<void (*)(int), void>);

TEST_CASE("then passes errors and cancellation through") {
  const Future<int> failed;
  bool called = false;
  const auto after = failed.then([&](int) { called = true; }).then([&] { called = true; });
  failed.set_exception(oops());
  CHECK_THROWS_AS(after.result(), std::out_of_range);

  const Future<int> cancelled;
  const auto later = cancelled.then([&](int) { called = true; });
  cancelled.cancel();
  CHECK(later.cancelled());
  CHECK_FALSE(called);
}

TEST_CASE("what the function of then throws is the exception of its future") {
  const Future<int> future;
  const auto next = future.then([](int) -> int { throw std::domain_error("no"); });
  future.set_result(1);
  CHECK_THROWS_AS(next.result(), std::domain_error);
}

TEST_CASE("cancelling the future of then leaves its source alone") {
  const Future<int> future;
  bool called = false;
  const auto next = future.then([&](int) { called = true; });
  CHECK(next.cancel());
  future.set_result(1);
  CHECK_FALSE(called);
  CHECK(future.result() == 1);
}

TEST_CASE("the future of then is cancelled when its source is dropped unfinished") {
  Future<int> future;
  const auto next = future.then([](int value) { return value; });
  future = {};
  CHECK(next.cancelled());
}

TEST_CASE("then moves the result of a future that nobody holds") {
  Future<std::unique_ptr<int>> future;
  auto* const completer = new Future<std::unique_ptr<int>>{future};
  const auto value = future.then([](std::unique_ptr<int> pointer) { return *pointer; });
  future = {};
  // With the completer's own handle the result has two owners.
  completer->set_result(std::make_unique<int>(3));
  CHECK_THROWS_AS(value.result(), std::logic_error);
  delete completer;
}

TEST_CASE("co_await gives the result and goes on where the future is completed") {
  Future<std::string> future;
  std::string seen;
  [](const Future<std::string> awaited, std::string& out) -> Routine {
    const std::string& result = co_await awaited;
    out = result;
  }(future, seen);
  CHECK(seen.empty());
  future.set_result("dry");
  CHECK(seen == "dry");
}

TEST_CASE("co_await of a finished future does not suspend") {
  Future<void> future;
  future.set_result();
  bool seen = false;
  [](Future<void> awaited, bool& out) -> Routine {
    co_await std::move(awaited);
    out = true;
  }(future, seen);
  CHECK(seen);
}

TEST_CASE("co_await throws what result throws") {
  Future<int> failed;
  Future<int> cancelled;
  std::string seen;
  const auto await = [](Future<int> awaited, std::string& out) -> Routine {
    try {
      co_await std::move(awaited);
    } catch (const std::exception& error) {
      out += error.what();
    }
  };
  await(failed, seen);
  await(cancelled, seen);
  failed.set_exception(oops());
  CHECK(seen == "oops");
  cancelled.cancel();
  CHECK(seen == "oopsthe future was cancelled");
}

TEST_CASE("co_await of a future given up moves its result") {
  Future<std::unique_ptr<int>> future;
  int seen = 0;
  future.set_result(std::make_unique<int>(9));
  [](Future<std::unique_ptr<int>> awaited, int& out) -> Routine {
    const std::unique_ptr<int> result = co_await std::move(awaited);
    out = *result;
  }(std::move(future), seen);
  CHECK(seen == 9);
}

TEST_CASE("one of many threads completes a future and each of them sees it") {
  for (int round = 0; round < 200; ++round) {
    const Future<int> future;
    std::atomic<int> winners{0};
    std::atomic<int> ended{0};
    std::atomic<int> callbacks{0};
    {
      std::vector<brood::posix::OsThread> threads;
      for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
          future.add_done_callback([&](Future<int> done) { callbacks += done.done(); });
          try {
            if (i == 3) {
              winners += future.cancel();
            } else {
              future.set_result(i);
              ++winners;
            }
          } catch (const futures::InvalidStateError&) {  // another one is at it, or was
          }
          try {
            static_cast<void>(future.exception(30s));
          } catch (const futures::CancelledError&) {
          }
          ended += future.done();
        });
      }
    }
    REQUIRE(winners == 1);
    REQUIRE(callbacks == 4);
    REQUIRE(ended == 4);
  }
}
