// SPDX-License-Identifier: MIT
//
// Items whose copying, moving or comparing fails leave a queue as it was.
#include <string>

#include "kinds.hpp"

using namespace brood;
using namespace support;

namespace {

struct Failure {};

// Which operation of a Fragile fails, and how often.
enum class Fault { none, copy, move, compare };
std::atomic<Fault> fault{Fault::none};
std::atomic<int> failures_left{0};

struct Fragile {
  explicit Fragile(int n) : number{n} {}
  Fragile(const Fragile& other) : number{other.number} { meet(Fault::copy); }
  Fragile(Fragile&& other) : number{other.number} { meet(Fault::move); }  // NOLINT: may throw
  Fragile& operator=(const Fragile&) = default;
  bool operator<(const Fragile& other) const {
    meet(Fault::compare);
    return number < other.number;
  }
  static void meet(Fault which) {
    if (fault == which && failures_left-- > 0) throw Failure{};
  }
  int number;
};

struct Faulty {
  explicit Faulty(Fault which, int times = 1000) {
    failures_left = times;
    fault = which;
  }
  ~Faulty() { fault = Fault::none; }
};

template <class Queue>
void check_failing_copies_and_moves() {
  const Queue queue(2);
  const Fragile item{1};
  {
    const Faulty faulty{Fault::copy};
    CHECK_THROWS_AS(queue.put(item), Failure);
    CHECK_THROWS_AS(queue.put(item, moment), Failure);
    CHECK_THROWS_AS(queue.put_nowait(item), Failure);
  }
  {
    const Faulty faulty{Fault::move};
    CHECK_THROWS_AS(queue.put(Fragile{1}), Failure);
  }
  CHECK(queue.empty());
  CHECK(queue.join(0s));
  queue.put(item);
  queue.put(Fragile{2});
  {
    const Faulty faulty{Fault::move};
    CHECK_THROWS_AS(queue.get(), Failure);
    CHECK_THROWS_AS(queue.get(moment), Failure);
    CHECK_THROWS_AS(queue.get_nowait(), Failure);
    CHECK_THROWS_AS(queue.try_get(), Failure);
    CHECK_THROWS_AS(queue.begin(), Failure);
  }
  CHECK(queue.qsize() == 2);
  CHECK(queue.full());
  // Nothing was lost, and the order is the same.
  const int first = queue.get().number;
  const int second = queue.get().number;
  CHECK(first + second == 3);
  CHECK(queue.empty());
  queue.task_done();
  queue.task_done();
  CHECK(queue.join(0s));
}

}  // namespace

TEST_CASE("items that fail to be copied or moved leave a Queue as it was") {
  check_failing_copies_and_moves<queue::Queue<Fragile>>();
}
TEST_CASE("items that fail to be copied or moved leave a LifoQueue as it was") {
  check_failing_copies_and_moves<queue::LifoQueue<Fragile>>();
}
TEST_CASE("items that fail to be copied or moved leave a PriorityQueue as it was") {
  check_failing_copies_and_moves<queue::PriorityQueue<Fragile>>();
}

TEST_CASE("an item that fails to be moved out stays the next one") {
  const queue::Queue<Fragile> queue;
  for (int i = 1; i <= 3; ++i) queue.put(Fragile{i});
  {
    const Faulty faulty{Fault::move};
    CHECK_THROWS_AS(queue.get(), Failure);
  }
  for (int i = 1; i <= 3; ++i) CHECK(queue.get().number == i);
}

TEST_CASE("an item that fails to be moved out goes to another getter that waits") {
  const queue::Queue<Fragile> queue;
  const Fragile item{1};
  std::atomic<int> got{0}, failed{0};
  Crew crew;
  const int before = sleepers();
  crew.add(2, [&] {
    try {
      got += queue.get().number;
    } catch (const Failure&) {
      ++failed;
    }
  });
  await_sleepers(before + 2);
  {
    const Faulty once{Fault::move, 1};
    queue.put(item);
    CHECK(crew.join());
  }
  CHECK(failed == 1);
  CHECK(got == 1);
}

TEST_CASE("a comparison that fails leaves a PriorityQueue as it was") {
  const queue::PriorityQueue<Fragile> queue(8);
  for (const int i : {5, 3, 8, 1, 7}) queue.put(Fragile{i});
  {
    const Faulty faulty{Fault::compare};
    CHECK_THROWS_AS(queue.put(Fragile{4}), Failure);
    CHECK_THROWS_AS(queue.put_nowait(Fragile{4}), Failure);
    CHECK_THROWS_AS(queue.get(), Failure);
    CHECK_THROWS_AS(queue.try_get(), Failure);
  }
  CHECK(queue.qsize() == 5);
  for (const int i : {1, 3, 5, 7, 8}) {
    CHECK(queue.get().number == i);
    queue.task_done();
  }
  CHECK(queue.join(0s));
}
