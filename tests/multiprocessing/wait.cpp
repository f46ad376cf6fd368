// SPDX-License-Identifier: MIT
#include <signal.h>
#include <sys/time.h>

#include <brood/multiprocessing/connection.hpp>
#include <brood/multiprocessing/process.hpp>
#include <brood/multiprocessing/queues.hpp>
#include <brood/multiprocessing/simple_queue.hpp>
#include <brood/multiprocessing/wait.hpp>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "multiprocessing/team.hpp"
#include "support/alarms.hpp"
#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"

namespace mp = brood::multiprocessing;
using namespace std::chrono_literals;
using support::moment;
using support::patience;
using support::Team;

TEST_CASE("wait gives every message of four processes and notices their ends") {
  const support::LeakCheck nothing_left;
  std::vector<mp::Connection> readers;
  Team team;
  for (int i = 0; i < 4; ++i) {
    auto [reader, writer] = mp::Pipe(false);
    team.add(1, [writer = writer, i] {
      for (int n = 0; n < 10; ++n) writer.send(std::pair{i, n});
    });
    writer.close();
    readers.push_back(reader);
  }
  std::vector<int> next(4, 0);
  int wrong = 0;
  while (!readers.empty()) {
    for (const mp::Connection& ready : mp::connection::wait(readers)) {
      try {
        const auto [i, n] = ready.recv<std::pair<int, int>>();
        wrong += next[static_cast<std::size_t>(i)]++ != n;
      } catch (const brood::EOFError&) {
        std::erase(readers, ready);
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(next == std::vector<int>(4, 10));
  CHECK(team.join());
}

TEST_CASE("wait takes a mixture and gives all that are ready in order") {
  auto [here, there] = mp::Pipe();
  const mp::Queue<int> queue;
  const mp::JoinableQueue<int> joinable;
  const mp::SimpleQueue<std::string> simple;
  const support::Gate gate;
  const mp::Process process([gate = &gate] { gate->wait(); });
  process.start();
  auto pipe = brood::posix::make_pipe();
  const int fd = pipe.read.get();
  const std::vector<mp::connection::Waitable> all{here, queue, joinable, simple, process, fd};
  CHECK(mp::connection::wait(all, 0s).empty());

  there.send(1);
  queue.put(2);
  simple.put("three");
  const auto ready = mp::connection::wait({here, queue, joinable, simple, process, fd});
  REQUIRE(ready.size() == 3);
  CHECK(ready[0] == here);
  CHECK_FALSE(ready[0] == there);
  CHECK_FALSE(ready[0] == queue);
  CHECK(ready[1] == queue);
  CHECK(ready[2] == simple);

  CHECK(here.recv<int>() == 1);
  CHECK(queue.get() == 2);
  CHECK(simple.get() == "three");
  CHECK(mp::connection::wait(all, 0s).empty());

  joinable.put_many({4, 5});
  REQUIRE(::write(pipe.write.get(), "x", 1) == 1);
  gate.open();
  REQUIRE(process.join(patience));
  const auto rest = mp::connection::wait(all);
  REQUIRE(rest.size() == 3);
  CHECK(rest[0] == joinable);
  CHECK(rest[1] == process);
  CHECK(rest[2] == fd);
  CHECK(rest[2] == all[5]);
  CHECK_FALSE(rest[2] == all[4]);
}

TEST_CASE("wait keeps the type of a range of one kind") {
  auto [a, b] = mp::Pipe();
  b.send(1);
  const std::vector<mp::Connection> connections = mp::connection::wait({a, b}, patience);
  CHECK(connections == std::vector<mp::Connection>{a});

  const mp::Queue<int> empty, full;
  full.put(1);
  const std::vector<mp::Queue<int>> queues =
      mp::connection::wait(std::list<mp::Queue<int>>{empty, full}, patience);
  CHECK(queues == std::vector<mp::Queue<int>>{full});

  const int descriptors[] = {a.fileno(), b.fileno()};
  CHECK(mp::connection::wait(descriptors, patience) == std::vector<int>{a.fileno()});
  // The same thing twice, and one that lives in the list alone.
  CHECK(mp::connection::wait({a, a}).size() == 2);
  CHECK(mp::connection::wait({mp::connection::Waitable{mp::Queue<int>{}}, {a}}).size() == 1);
}

TEST_CASE("wait returns when another process makes a thing ready") {
  auto [here, there] = mp::Pipe();
  const mp::Queue<int> queue;
  const support::Gate gate;
  Team team;
  team.add(1, [there = there, queue, &gate] {
    gate.wait();
    queue.put(1);
    gate.wait();
    there.send(2);
  });
  gate.open();
  CHECK(mp::connection::wait({queue, here}, patience).at(0) == queue);
  CHECK(queue.get() == 1);
  gate.open();
  CHECK(mp::connection::wait({queue, here}, patience).at(0) == here);
  CHECK(team.join());
}

TEST_CASE("wait ends empty when its time is up and a negative time is none") {
  auto [a, b] = mp::Pipe();
  const auto start = std::chrono::steady_clock::now();
  CHECK(mp::connection::wait({a, b}, moment).empty());
  CHECK(std::chrono::steady_clock::now() - start >= moment.duration());
  CHECK(mp::connection::wait({a, b}, 0s).empty());
  CHECK(mp::connection::wait({a, b}, -1s).empty());
  CHECK(mp::connection::wait(std::vector<mp::Connection>{}, moment).empty());
  b.send(1);
  CHECK(mp::connection::wait({a, b}, moment) == std::vector{a});
  CHECK(mp::connection::wait({a, b}, -1s).size() == 1);
}

TEST_CASE("wait refuses what is closed or was never started") {
  auto [a, b] = mp::Pipe();
  a.close();
  CHECK_THROWS_AS(mp::connection::wait({a, b}, 0s), brood::os::OSError);
  CHECK_THROWS_AS(mp::connection::wait({44977608}, 0s), brood::os::OSError);
  const mp::Process process([] {});
  CHECK_THROWS_AS(mp::connection::wait({process}, 0s), std::logic_error);
  const mp::Queue<int> queue;
  queue.close();
  CHECK_THROWS_AS(mp::connection::wait({queue}, 0s), std::invalid_argument);
}

TEST_CASE("signals do not disturb wait") {
  support::Alarms alarms;
  alarms.every(500);
  auto [a, b] = mp::Pipe();
  const auto none = mp::connection::wait({a, b}, 20ms);
  alarms.every(0);
  CHECK(none.empty());
}
