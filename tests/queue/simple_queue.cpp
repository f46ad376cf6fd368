// SPDX-License-Identifier: MIT
//
// SimpleQueue: no bound, no tasks, no end.
#include <algorithm>
#include <memory>

#include "kinds.hpp"

using namespace brood;
using namespace support;

TEST_CASE("a SimpleQueue gives out what was put in order and throws Empty") {
  const queue::SimpleQueue<int> queue;
  CHECK(queue.empty());
  CHECK(queue.qsize() == 0);
  CHECK_THROWS_AS(queue.get_nowait(), queue::Empty);
  CHECK_THROWS_AS(queue.get(moment), queue::Empty);
  CHECK_THROWS_AS(queue.get(-1s), queue::Empty);
  CHECK(queue.try_get() == std::nullopt);
  queue.put(1);
  queue.put(2, moment);  // the limit means nothing
  queue.put_nowait(3);
  CHECK(queue.qsize() == 3);
  CHECK_FALSE(queue.empty());
  CHECK(queue.get() == 1);
  CHECK(queue.get_nowait() == 2);
  CHECK(queue.get(moment) == 3);
  CHECK(queue.empty());
}

TEST_CASE("a SimpleQueue keeps the order between one producer and one consumer") {
  const queue::SimpleQueue<int> queue;
  std::vector<int> got;
  threading::Thread producer([&] {
    for (int i = 0; i < 10000; ++i) queue.put(i);
  });
  threading::Thread consumer([&] {
    for (int i = 0; i < 10000; ++i) got.push_back(queue.get());
  });
  producer.start();
  consumer.start();
  REQUIRE(producer.join(patience));
  REQUIRE(consumer.join(patience));
  CHECK(got.size() == 10000);
  CHECK(std::is_sorted(got.begin(), got.end()));
}

namespace {

// 50 producers and 50 consumers; `get` is the way the consumers take.
template <class Get>
void check_many_threads(Get get) {
  constexpr int threads = 50, each = 200;
  const queue::SimpleQueue<int> queue;
  std::vector<std::atomic<int>> seen(threads * each);
  std::atomic<int> next{0};
  Crew crew;
  crew.add(threads, [&] {
    for (int i = 0; i < each; ++i) ++seen[static_cast<std::size_t>(get(queue))];
  });
  crew.add(threads, [&] {
    for (int i = 0; i < each; ++i) queue.put(next++);
  });
  REQUIRE(crew.join());
  CHECK(queue.empty());
  CHECK(std::all_of(seen.begin(), seen.end(), [](const auto& count) { return count == 1; }));
}

}  // namespace

TEST_CASE("fifty producers and fifty consumers lose and double nothing") {
  check_many_threads([](const queue::SimpleQueue<int>& queue) { return queue.get(); });
}

TEST_CASE("fifty producers and fifty consumers that do not wait lose and double nothing") {
  check_many_threads([](const queue::SimpleQueue<int>& queue) {
    for (;;) {
      if (const auto item = queue.try_get()) return *item;
      ::sched_yield();
    }
  });
}

TEST_CASE("fifty producers and fifty consumers with short limits lose and double nothing") {
  check_many_threads([](const queue::SimpleQueue<int>& queue) {
    for (;;) {
      try {
        return queue.get(10us);
      } catch (const queue::Empty&) {
      }
    }
  });
}

TEST_CASE("an item is destroyed as soon as it has left a SimpleQueue") {
  const queue::SimpleQueue<std::shared_ptr<int>> queue;
  const auto item = std::make_shared<int>(1);
  queue.put(item);
  CHECK(item.use_count() == 2);
  queue.get();
  CHECK(item.use_count() == 1);
  queue.put(item);
  queue.put(item);
  {
    const auto last = queue;
    CHECK(item.use_count() == 3);
  }
  CHECK(item.use_count() == 3);
}

namespace {

// Puts into a queue when it is destroyed, as an object collected at a bad moment would.
struct Parting {
  explicit Parting(const queue::SimpleQueue<int>* q, int n) : queue{q}, number{n} {}
  Parting(Parting&& other) noexcept
      : queue{std::exchange(other.queue, nullptr)}, number{other.number} {}
  ~Parting() {
    if (queue != nullptr) queue->put(number);
  }
  const queue::SimpleQueue<int>* queue;
  int number;
};

}  // namespace

TEST_CASE("the destructor of an item may put into a queue that is in use") {
  const queue::SimpleQueue<int> numbers;
  const queue::Queue<Parting> partings;
  for (int i = 0; i < 100; ++i) partings.put(Parting{&numbers, i});
  for (int i = 0; i < 50; ++i) {
    partings.get();
    CHECK(numbers.get() == i);
  }
  partings.shutdown(true);  // destroys fifty
  CHECK(numbers.qsize() == 50);
}
