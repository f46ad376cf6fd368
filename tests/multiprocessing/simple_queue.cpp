// SPDX-License-Identifier: MIT
#include <brood/multiprocessing/process.hpp>
#include <brood/multiprocessing/simple_queue.hpp>
#include <string>
#include <unordered_set>

#include "multiprocessing/team.hpp"
#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"

namespace mp = brood::multiprocessing;
namespace os = brood::os;
using namespace std::chrono_literals;
using support::Gate;
using support::Team;

TEST_CASE("a simple process queue is first in first out") {
  const support::LeakCheck nothing_left;
  const mp::SimpleQueue<std::string> q;
  CHECK(q.empty());
  for (int i = 0; i < 500; ++i) q.put(std::string(static_cast<std::size_t>(i) * 20, 'x'));
  CHECK_FALSE(q.empty());
  CHECK(q.qsize() == 500);
  int wrong = 0;
  for (int i = 0; i < 500; ++i) wrong += q.get().size() != static_cast<std::size_t>(i) * 20;
  CHECK(wrong == 0);
  CHECK(q.empty());
  CHECK_FALSE(q.try_get());
  CHECK_THROWS_AS(q.get_nowait(), brood::queue::Empty);
  CHECK_THROWS_AS(q.get(support::moment), brood::queue::Empty);
}

TEST_CASE("a simple process queue is empty or not as another process makes it") {
  const support::LeakCheck nothing_left;
  const mp::SimpleQueue<bool> q, seen;
  const Gate child_may_start, parent_may_go_on;
  Team team;
  team.add(1, [&] {
    child_may_start.wait();
    seen.put(q.empty());
    q.put(true, 1s);
    q.put(false);
    parent_may_go_on.open();
  });
  CHECK(q.empty());
  child_may_start.open();
  CHECK(parent_may_go_on.wait());
  CHECK(seen.get());
  CHECK_FALSE(q.empty());
  CHECK(q.get());
  CHECK_FALSE(q.get());
  CHECK(q.empty());
  CHECK(team.join());
}

TEST_CASE("a closed simple process queue refuses in this process alone") {
  const mp::SimpleQueue<int> q;
  const mp::SimpleQueue<int> copy = q;
  CHECK(copy == q);
  CHECK(std::unordered_set<mp::SimpleQueue<int>>{copy, q, mp::SimpleQueue<int>{}}.size() == 2);
  const Gate closed;
  Team team;
  team.add(1, [&] {
    closed.wait();
    q.put(1);
  });
  q.close();
  q.close();
  closed.open();
  CHECK(team.join());
  CHECK_THROWS_AS(copy.empty(), os::OSError);
  CHECK_THROWS_AS(copy.put(1), os::OSError);
  CHECK_THROWS_AS(copy.get(), os::OSError);
  CHECK_THROWS_AS(copy.try_get(), os::OSError);
  CHECK_THROWS_AS(copy.fileno(), os::OSError);
}
