// SPDX-License-Identifier: MIT
#include <array>
#include <brood/futures.hpp>
#include <brood/futures/wait.hpp>
#include <list>
#include <map>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace futures = brood::futures;
using futures::Future;
using namespace std::chrono_literals;

namespace {

std::exception_ptr oops() { return std::make_exception_ptr(std::out_of_range("oops")); }

}  // namespace

TEST_CASE("wait lists a future once that is given twice") {
  futures::ThreadPoolExecutor pool(1);
  const auto future = pool.submit([] { return 1; });
  const auto [done, not_done] = futures::wait(std::vector{future, future});
  REQUIRE(done.size() == 1);
  CHECK(done[0] == future);
  CHECK(not_done.empty());
}

TEST_CASE("wait for the first completed returns when one is done") {
  futures::ThreadPoolExecutor pool(2);
  const Future<void> gate;
  const auto quick = pool.submit([] { return 42; });
  const auto slow = pool.submit([=] {
    gate.result();
    return 1;
  });
  const auto result = futures::wait(std::vector{slow, quick}, 30s, futures::FIRST_COMPLETED);
  CHECK(result.done == std::vector{quick});
  CHECK(result.not_done == std::vector{slow});
  gate.set_result();
}

TEST_CASE("wait for the first completed takes those that were done before") {
  const Future<int> cancelled;
  const Future<int> done;
  const Future<int> pending;
  cancelled.cancel();
  done.set_result(1);
  const auto result = futures::wait(std::vector{pending, done, cancelled}, 30s,
                                    futures::ReturnWhen::FIRST_COMPLETED);
  CHECK(result.done == std::vector{done, cancelled});
  CHECK(result.not_done == std::vector{pending});
}

TEST_CASE("wait for the first exception returns when one has failed") {
  futures::ThreadPoolExecutor pool(2);
  const Future<void> gate;
  const auto good = pool.submit([] { return 1; });
  const auto bad = pool.submit([=]() -> int {
    good.result();
    throw std::runtime_error("bad");
  });
  const auto slow = pool.submit([=] {
    gate.result();
    return 1;
  });
  const auto result = futures::wait(std::vector{good, bad, slow}, 30s, futures::FIRST_EXCEPTION);
  CHECK(result.done == std::vector{good, bad});
  CHECK(result.not_done == std::vector{slow});
  gate.set_result();
}

TEST_CASE("wait for the first exception is not ended by a cancelled future") {
  const Future<int> cancelled;
  const Future<int> pending;
  cancelled.cancel();
  const auto early = futures::wait(std::vector{cancelled, pending}, 10ms, futures::FIRST_EXCEPTION);
  CHECK(early.done == std::vector{cancelled});
  brood::posix::OsThread other{[=] { pending.set_exception(oops()); }};
  CHECK(futures::wait(std::vector{cancelled, pending}, 30s, futures::FIRST_EXCEPTION)
            .not_done.empty());
}

TEST_CASE("wait for the first exception takes one that had failed before") {
  const Future<int> failed;
  const Future<int> pending;
  failed.set_exception(oops());
  const auto result = futures::wait(std::vector{failed, pending}, 30s, futures::FIRST_EXCEPTION);
  CHECK(result.done == std::vector{failed});
  CHECK(result.not_done == std::vector{pending});
}

TEST_CASE("wait for all takes results and failures and cancelled ones") {
  futures::ThreadPoolExecutor pool(2);
  const Future<int> cancelled;
  cancelled.cancel();
  const auto good = pool.submit([] { return 1; });
  const auto bad = pool.submit([]() -> int { throw std::runtime_error("bad"); });
  const auto result = futures::wait(std::vector{cancelled, good, bad});
  CHECK(result.done == std::vector{cancelled, good, bad});
  CHECK(result.not_done.empty());
}

TEST_CASE("wait whose time is up throws nothing") {
  const Future<int> done;
  const Future<int> pending;
  done.set_result(1);
  for (const brood::Timeout limit : {brood::Timeout{0s}, brood::Timeout{10ms}}) {
    const auto result = futures::wait(std::vector{pending, done}, limit);
    CHECK(result.done == std::vector{done});
    CHECK(result.not_done == std::vector{pending});
  }
}

TEST_CASE("wait keeps the order of its input") {
  std::vector<Future<int>> all(6);
  for (const std::size_t i : {5u, 0u, 2u}) all[i].set_result(1);
  const auto result = futures::wait(all, 0s);
  CHECK(result.done == std::vector{all[0], all[2], all[5]});
  CHECK(result.not_done == std::vector{all[1], all[3], all[4]});
}

TEST_CASE("wait for nothing returns at once") {
  const std::vector<Future<int>> none;
  for (const auto when :
       {futures::ALL_COMPLETED, futures::FIRST_COMPLETED, futures::FIRST_EXCEPTION}) {
    const auto result = futures::wait(none, brood::forever, when);
    CHECK(result.done.empty());
    CHECK(result.not_done.empty());
  }
}

TEST_CASE("wait takes any range of futures") {
  const Future<int> done;
  done.set_result(1);
  const std::map<std::string, Future<int>> tasks{{"a", done}, {"b", done}};
  CHECK(futures::wait(std::views::values(tasks)).done.size() == 1);
  CHECK(futures::wait(std::array{done, done}).done.size() == 1);
  CHECK(futures::wait({done, done}).done.size() == 1);
  CHECK(futures::wait(std::list<Future<int>>(3), 0s).not_done.size() == 3);
  Future<int> two[] = {done, Future<int>{}};
  CHECK(futures::wait(two, 0s).not_done.size() == 1);
}

TEST_CASE("wait takes futures of different types as AnyFuture") {
  futures::ThreadPoolExecutor pool(2);
  futures::ThreadPoolExecutor other(2);
  const std::vector<futures::AnyFuture> tasks{pool.submit([] { return 1; }),
                                              other.submit([] { return std::string("a"); }),
                                              pool.submit([] {})};
  CHECK(futures::wait(tasks).done.size() == 3);
}

TEST_CASE("wait takes a condition without a limit") {
  const std::vector<Future<int>> tasks(2);
  tasks[1].set_result(1);
  CHECK(futures::wait(tasks, futures::FIRST_COMPLETED).done == std::vector{tasks[1]});
}

TEST_CASE("wait takes a list in braces of futures of different types") {
  const Future<int> done;
  const Future<std::string> never;
  done.set_result(1);
  const auto [finished, unfinished] = futures::wait({done, never}, 0s);
  CHECK(finished == std::vector<futures::AnyFuture>{done});
  CHECK(unfinished == std::vector<futures::AnyFuture>{never});
  CHECK(futures::wait({done, never}, 60s, futures::FIRST_COMPLETED).done.size() == 1);
}

TEST_CASE("a wait that ends early leaves nothing registered") {
  const Future<int> pending;
  for (int i = 0; i < 1000; ++i) {
    CHECK(futures::wait(std::vector{pending}, 0s).not_done.size() == 1);
    const Future<int> done;
    done.set_result(i);
    REQUIRE(futures::wait(std::vector{pending, done}, 30s, futures::FIRST_COMPLETED).done.size() ==
            1);
  }
  pending.set_result(1);
}

TEST_CASE("no wake-up is lost when futures end while wait registers") {
  futures::ThreadPoolExecutor pool(4);
  for (int round = 0; round < 50; ++round) {
    const Future<void> gate;
    std::vector<Future<void>> tasks;
    for (int i = 0; i < 100; ++i) tasks.push_back(gate.then([] {}));
    const auto opener = pool.submit([=] { gate.set_result(); });
    REQUIRE(futures::wait(tasks, 30s).done.size() == 100);
    std::vector<Future<int>> more;
    for (int i = 0; i < 100; ++i) more.push_back(pool.submit([i] { return i; }));
    REQUIRE(futures::wait(more, 30s).not_done.empty());
  }
}
