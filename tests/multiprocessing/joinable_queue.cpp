// SPDX-License-Identifier: MIT
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <brood/multiprocessing/process.hpp>
#include <brood/multiprocessing/queues.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"

namespace mp = brood::multiprocessing;
namespace queue = brood::queue;
using namespace std::chrono_literals;
using mp::Transport;
using support::Gate;
using support::patience;
using support::Shared;

namespace {

mp::QueueOptions each_kind() {
  return GENERATE(mp::QueueOptions{.transport = Transport::pipe},
                  mp::QueueOptions{.transport = Transport::shared_memory},
                  mp::QueueOptions{.maxsize = 100});
}

// A daemon that takes what it is told to take, then waits to be killed.
class Consumer {
 public:
  Consumer(const mp::JoinableQueue<int>& q, int items)
      : process_({.daemon = true}, [this, q, items] {
          for (int i = 0; i < items; ++i) q.get();
          taken_.open();
          never_.wait(brood::forever);
        }) {
    process_.start();
  }
  ~Consumer() { kill(); }
  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;

  bool has_taken() const { return taken_.wait(); }
  pid_t pid() const { return process_.pid(); }
  void kill() const {
    process_.kill();
    process_.join();
  }

 private:
  Gate taken_, never_;
  mp::Process process_;
};

std::string join_error(const mp::JoinableQueue<int>& q) {
  try {
    return q.join(patience) ? "joined" : "time is up";
  } catch (const mp::ProcessError& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("join of a queue waits until four workers have done all items") {
  const support::LeakCheck nothing_left;
  const mp::JoinableQueue<int> q(each_kind());
  const Shared<std::atomic<int>> done;
  std::vector<mp::Process> workers;
  for (int w = 0; w < 4; ++w) {
    workers.emplace_back([&done, q] {
      for (const int item : q) {
        static_cast<void>(item);
        ::sched_yield();
        ++*done;
        q.task_done();
      }
    });
    workers.back().start();
  }
  for (int round = 1; round <= 5; ++round) {
    for (int i = 0; i < 200; ++i) q.put(i);
    CHECK(q.join());
    CHECK(*done == 200 * round);
    CHECK(q.empty());
  }
  CHECK(q.unfinished().empty());
  q.shutdown();
  for (const auto& worker : workers) {
    CHECK(worker.join(patience));
    CHECK(worker.exitcode() == 0);
  }
}

TEST_CASE("task_done is refused when there is nothing to be done") {
  const mp::JoinableQueue<int> q(each_kind());
  CHECK_THROWS_AS(q.task_done(), std::invalid_argument);
  CHECK(q.join());
  q.put(1);
  q.get();
  q.task_done();
  CHECK_THROWS_AS(q.task_done(), std::invalid_argument);
  CHECK_THROWS_WITH(q.task_done(), Catch::Matchers::ContainsSubstring("task_done"));
  CHECK(q.join(0s));
}

TEST_CASE("join of a queue gives up when time is up") {
  const mp::JoinableQueue<int> q(each_kind());
  q.put(1);
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(q.join(30ms));
  CHECK(std::chrono::steady_clock::now() - start >= 30ms);
  CHECK_FALSE(q.join(0s));
  CHECK_FALSE(q.join(-1s));
  q.get();
  CHECK_FALSE(q.join(0s));
  const auto unfinished = q.unfinished();
  REQUIRE(unfinished.size() == 1);
  CHECK(unfinished[0].pid == ::getpid());
  CHECK(unfinished[0].count == 1);
  CHECK(unfinished[0].alive);
  q.task_done();
  CHECK(q.join(0s));
}

TEST_CASE("what a killed consumer owes is named and settled by a survivor") {
  const support::LeakCheck nothing_left;
  const mp::JoinableQueue<int> q(each_kind());
  for (int i = 0; i < 5; ++i) q.put(i);
  const Consumer consumer(q, 3);
  CHECK(consumer.has_taken());
  auto unfinished = q.unfinished();
  REQUIRE(unfinished.size() == 1);
  CHECK(unfinished[0].alive);
  consumer.kill();
  unfinished = q.unfinished();
  REQUIRE(unfinished.size() == 1);
  CHECK(unfinished[0].pid == consumer.pid());
  CHECK(unfinished[0].count == 3);
  CHECK_FALSE(unfinished[0].alive);
  CHECK_FALSE(q.join(10ms));  // two lie there for anybody
  for (int i = 3; i < 5; ++i) {
    CHECK(q.get() == i);
    q.task_done();
  }
  const std::string error = join_error(q);
  CHECK_THAT(error, Catch::Matchers::ContainsSubstring("3 unfinished"));
  CHECK_THAT(error, Catch::Matchers::ContainsSubstring(std::to_string(consumer.pid())));
  CHECK(join_error(q) == error);
  for (int i = 0; i < 3; ++i) q.task_done();
  CHECK(q.join(0s));
  CHECK_THROWS_AS(q.task_done(), std::invalid_argument);
}

TEST_CASE("joiners that wait learn of the death of the last consumer") {
  const support::LeakCheck nothing_left;
  const mp::JoinableQueue<int> q(each_kind());
  q.put(1);
  const Consumer consumer(q, 1);
  CHECK(consumer.has_taken());
  std::vector<std::string> errors(3);
  std::vector<std::thread> joiners;
  for (auto& error : errors) joiners.emplace_back([&] { error = join_error(q); });
  support::await_sleepers(3);
  consumer.kill();
  for (auto& joiner : joiners) joiner.join();
  for (const auto& error : errors)
    CHECK_THAT(error, Catch::Matchers::ContainsSubstring(std::to_string(consumer.pid())));
}

TEST_CASE("a joiner learns that all but the items of a dead consumer are done") {
  const support::LeakCheck nothing_left;
  const mp::JoinableQueue<int> q(each_kind());
  q.put(1);
  q.put(2);
  const Consumer dead(q, 1);
  CHECK(dead.has_taken());
  dead.kill();
  const Gate taken, gate;
  const mp::Process survivor([&, q] {
    q.get();
    taken.open();
    gate.wait();
    q.task_done();
    support::throws<queue::ShutDown>([&] { q.get(); });  // waits, and has nothing
  });
  survivor.start();
  CHECK(taken.wait());
  std::string error;
  std::thread joiner{[&] { error = join_error(q); }};
  support::await_sleepers(1);
  gate.open();
  joiner.join();
  CHECK_THAT(error, Catch::Matchers::ContainsSubstring("1 unfinished"));
  q.shutdown();
  survivor.join();
}

TEST_CASE("a consumer that ends without settling owes its items too") {
  const mp::JoinableQueue<int> q;
  q.put(1);
  const mp::Process consumer([q] { q.get(); });
  consumer.start();
  consumer.join();
  CHECK_THAT(join_error(q), Catch::Matchers::ContainsSubstring(std::to_string(consumer.pid())));
  q.task_done();
  CHECK(q.join());
}

TEST_CASE("items may be settled by another process than took them") {
  const mp::JoinableQueue<int> q(each_kind());
  q.put(1);
  CHECK(q.get() == 1);
  const mp::Process other([q] { q.task_done(); });
  other.start();
  other.join();
  CHECK(other.exitcode() == 0);
  CHECK(q.join(0s));
  CHECK(q.unfinished().empty());
}

TEST_CASE("an immediate shutdown counts what it drops as done") {
  const support::LeakCheck nothing_left;
  const mp::JoinableQueue<int> q(each_kind());
  for (int i = 0; i < 10; ++i) q.put(i);
  bool joined = false;
  std::thread joiner{[&] { joined = q.join(patience); }};
  support::await_sleepers(1);
  q.get();
  q.shutdown(true);
  CHECK_FALSE(q.join(0s));
  q.task_done();
  joiner.join();
  CHECK(joined);
  CHECK(q.join(0s));
  CHECK_THROWS_AS(q.get(), queue::ShutDown);
}

TEST_CASE("a put that finds no room does not count as an item") {
  const mp::JoinableQueue<int> q(1);
  q.put(1);
  CHECK_THROWS_AS(q.put_nowait(2), queue::Full);
  CHECK_THROWS_AS(q.put(2, 10ms), queue::Full);
  CHECK(q.get() == 1);
  q.task_done();
  CHECK(q.join(0s));
  q.shutdown();
  CHECK_THROWS_AS(q.put(3), queue::ShutDown);
  CHECK(q.join(0s));
}

TEST_CASE("a joiner in another process sees the items done here") {
  const mp::JoinableQueue<int> q(each_kind());
  q.put(1);
  q.put(2);
  const mp::Process joiner([q] { ::_exit(q.join(patience) ? 6 : 7); });
  joiner.start();
  for (int i = 0; i < 2; ++i) {
    q.get();
    q.task_done();
  }
  joiner.join();
  CHECK(joiner.exitcode() == 6);
}
