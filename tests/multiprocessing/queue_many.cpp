// SPDX-License-Identifier: MIT
//
// put_many and get_many: items that cross a queue in batches.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <brood/multiprocessing/process.hpp>
#include <brood/multiprocessing/queues.hpp>
#include <list>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "multiprocessing/record.hpp"
#include "multiprocessing/team.hpp"
#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"

namespace mp = brood::multiprocessing;
namespace queue = brood::queue;
using namespace std::chrono_literals;
using mp::Transport;
using support::moment;
using support::patience;
using support::Shared;
using support::Team;

namespace {

mp::QueueOptions each_kind() {
  return GENERATE(mp::QueueOptions{.transport = Transport::pipe},
                  mp::QueueOptions{.transport = Transport::shared_memory},
                  mp::QueueOptions{.maxsize = 100'000});
}

bool readable(int fd) {
  return brood::posix::wait_readable(fd, brood::posix::Deadline{brood::Timeout{0s}});
}

std::vector<int> numbers(int from, int count) {
  std::vector<int> result;
  for (int i = 0; i < count; ++i) result.push_back(from + i);
  return result;
}

// A value that can't be written.
struct Odd {
  int number = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    if (number < 0) throw std::domain_error{"negative"};
    ar(number);
  }
};

}  // namespace

TEST_CASE("batches keep the order of items put one by one and together") {
  const support::LeakCheck nothing_left;
  const mp::Queue<int> q(each_kind());
  // Through pipe and ring in all combinations, over several segments of the ring.
  int put = 0, got = 0, wrong = 0;
  for (int round = 0; round < 12; ++round) {
    for (int i = 0; i < round * 40; ++i) q.put(put++);
    const int count = round * round * 300;
    CHECK(q.put_many(numbers(put, count)) == static_cast<std::size_t>(count));
    put += count;
    q.put(put++);
    CHECK(q.qsize() == static_cast<std::size_t>(put - got));
    while (q.qsize() > 700 - static_cast<std::size_t>(round) * 60) {
      if (round % 2 == 0) wrong += q.get() != got++;
      for (const int number : q.get_many(1 + static_cast<std::size_t>(got % 700)))
        wrong += number != got++;
    }
  }
  while (!q.empty())
    for (const int number : q.get_many(50)) wrong += number != got++;
  CHECK(wrong == 0);
  CHECK(got == put);
  CHECK_FALSE(readable(q.fileno()));
}

TEST_CASE("batches carry items of all lengths") {
  const mp::Queue<std::string> q(each_kind());
  std::vector<std::string> sent;
  const std::size_t sizes[] = {0, 1, 4096, 5000, 32'000, 32'760, 32'768, 40'000, 3'000'000, 7, 0};
  for (int round = 0; round < 3; ++round)
    for (const std::size_t size : sizes)
      sent.emplace_back(size, static_cast<char>('a' + sent.size() % 26));
  CHECK(q.put_many(sent) == sent.size());
  std::vector<std::string> got;
  while (got.size() < sent.size())
    for (std::string& text : q.get_many(4)) got.push_back(std::move(text));
  CHECK(got == sent);
  CHECK(q.put_many(sent) == sent.size());
  CHECK(q.get_many(1000) == sent);
  CHECK(q.empty());
}

TEST_CASE("get_many takes what is there up to its limit and waits for one only") {
  const mp::Queue<int> q(each_kind());
  CHECK(q.put_many({1, 2, 3, 4, 5}) == 5);
  CHECK(q.put_many(std::list<short>{6}) == 1);
  CHECK(q.put_many(std::vector<int>{}) == 0);
  CHECK(q.get_many(0).empty());
  CHECK(q.get_many(2) == std::vector{1, 2});
  CHECK(q.get_many(100) == std::vector{3, 4, 5, 6});
  CHECK_THROWS_AS(q.get_many(100, 0s), queue::Empty);
  CHECK_THROWS_AS(q.get_many(100, moment), queue::Empty);
  Team team;
  team.add(1, [q] {
    q.put(7);
    if (q.get_many(1) != std::vector{7}) std::exit(1);
    q.put_many({8, 9});
  });
  CHECK(team.join());
  CHECK(q.get_many(100, patience) == std::vector{8, 9});
  team.add(1, [q] {
    if (q.get_many(100) != std::vector{10, 11}) std::exit(1);
  });
  team.await_asleep();
  q.put_many({10, 11});
  CHECK(team.join());
  q.put_many({12, 13});
  q.shutdown();
  CHECK_THROWS_AS(q.put_many({14}), queue::ShutDown);
  CHECK(q.get_many(100) == std::vector{12, 13});
  CHECK_THROWS_AS(q.get_many(100), queue::ShutDown);
  q.close();
  CHECK_THROWS_AS(q.put_many({14}), std::invalid_argument);
  CHECK_THROWS_AS(q.get_many(100), std::invalid_argument);
}

TEST_CASE("a queue polls readable exactly while items of a batch wait") {
  const mp::Queue<int> q(each_kind());
  for (int round = 0; round < 3; ++round) {
    CHECK_FALSE(readable(q.fileno()));
    q.put_many(numbers(0, 5000));
    CHECK(readable(q.fileno()));
    CHECK(q.get_many(4999).size() == 4999);
    CHECK(readable(q.fileno()));
    CHECK(q.get_many(10).size() == 1);
    CHECK_FALSE(readable(q.fileno()));
  }
  int sum = 0;
  q.put_many({1, 2, 3});
  q.shutdown();
  for (const int number : q) sum += number;
  CHECK(sum == 6);
}

TEST_CASE("put_many keeps the bound of a queue and says how many it has put") {
  const mp::Queue<int> q(10);
  CHECK(q.put_many(numbers(0, 15), 0s) == 10);
  CHECK(q.full());
  CHECK_THROWS_AS(q.put_many(numbers(10, 5), 0s), queue::Full);
  CHECK(q.qsize() == 10);
  Team team;
  team.add(1, [q] {
    if (q.put_many(numbers(10, 5000)) != 5000) std::exit(1);
  });
  team.await_asleep();
  int wrong = 0, most = 0;
  for (int got = 0; got < 5010;) {
    most = std::max(most, static_cast<int>(q.qsize()));
    for (const int number : q.get_many(7)) wrong += number != got++;
  }
  CHECK(wrong == 0);
  CHECK(most <= 10);
  CHECK(team.join());

  // A shutdown while it waits for room.
  team.add(1, [q] {
    if (q.put_many(numbers(0, 15)) != 10) std::exit(1);
    if (!support::throws<queue::ShutDown>([&] { q.put_many({1}); })) std::exit(2);
  });
  while (!q.full()) ::sched_yield();
  team.await_asleep();
  q.shutdown();
  CHECK(team.join());
  CHECK(q.get_many(100) == numbers(0, 10));
}

TEST_CASE("put_many that meets an exception has put all items before that one") {
  const mp::Queue<Odd> q(each_kind());
  CHECK_THROWS_AS(q.put_many(std::vector<Odd>{{1}, {2}, {-3}, {4}}), std::domain_error);
  const std::vector<Odd> got = q.get_many(10);
  REQUIRE(got.size() == 2);
  CHECK(got[1].number == 2);
  CHECK(q.empty());
}

TEST_CASE("a joinable queue counts the items of batches exactly") {
  const support::LeakCheck nothing_left;
  const mp::JoinableQueue<int> q(
      GENERATE(mp::QueueOptions{.transport = Transport::pipe}, mp::QueueOptions{.maxsize = 300}));
  for (int i = 0; i < 5; ++i) q.put(i);
  CHECK(q.put_many(numbers(5, 300), 0s) >= 295);
  std::size_t left = q.qsize();
  CHECK_FALSE(q.join(0s));
  while (!q.empty()) {
    const std::size_t count = q.get_many(40).size();
    REQUIRE(q.unfinished().size() == 1);
    CHECK(q.unfinished()[0].count == count);
    for (std::size_t i = 0; i < count; ++i) {
      CHECK_FALSE(q.join(0s));
      q.task_done();
      --left;
    }
  }
  CHECK(left == 0);
  CHECK(q.join(0s));
  CHECK_THROWS_AS(q.task_done(), std::invalid_argument);
}

TEST_CASE("what a killed process had taken as a batch is owed by it") {
  const mp::JoinableQueue<int> q;
  const support::Gate taken;
  Team team;
  team.add(1, [q, &taken] {
    q.put_many(numbers(0, 100));
    q.get_many(30);
    taken.open();
    ::pause();
  });
  REQUIRE(taken.wait());
  const pid_t pid = team.pid(0);
  team.kill(0);
  CHECK(q.get_many(1000).size() == 70);
  for (int i = 0; i < 70; ++i) q.task_done();
  CHECK_THROWS_AS(q.join(patience), mp::ProcessError);
  REQUIRE(q.unfinished().size() == 1);
  CHECK(q.unfinished()[0].pid == pid);
  CHECK(q.unfinished()[0].count == 30);
  CHECK_FALSE(q.unfinished()[0].alive);
  for (int i = 0; i < 30; ++i) q.task_done();
  CHECK(q.join(0s));
}

TEST_CASE("several producers and consumers share a queue in batches") {
  const support::LeakCheck nothing_left;
  const mp::Queue<std::pair<int, int>> q(each_kind());
  const mp::Queue<std::pair<long, int>> results;
  Team producers, consumers;
  for (int id = 0; id < 3; ++id)
    producers.add(1, [q, id] {
      std::vector<std::pair<int, int>> batch;
      for (int i = 0; i < 20'000;) {
        batch.clear();
        for (int n = i % 300; n >= 0 && i < 20'000; --n) batch.emplace_back(id, i++);
        q.put_many(batch);
      }
    });
  consumers.add(3, [q, results] {
    long sum = 0;
    int wrong = 0, last[3] = {-1, -1, -1};
    try {
      for (;;) {
        for (const auto& [id, number] : q.get_many(100)) {
          wrong += number <= last[id];
          last[id] = number;
          sum += number;
        }
      }
    } catch (const queue::ShutDown&) {
    }
    results.put({sum, wrong});
  });
  CHECK(producers.join());
  q.shutdown();
  CHECK(consumers.join());
  long sum = 0;
  int wrong = 0;
  for (int i = 0; i < 3; ++i) {
    const auto [part, disorder] = results.get();
    sum += part;
    wrong += disorder;
  }
  CHECK(sum == 3L * 20'000 * 19'999 / 2);
  CHECK(wrong == 0);
}

namespace {

constexpr int most_batch = 20;
constexpr int most_producers = 3000;
constexpr int most_each = 1000;

using Record = support::Record<most_producers, most_each>;

// Producers and consumers of batches are killed at random moments.
template <template <class> class Queue>
void rage(mp::QueueOptions options, std::chrono::milliseconds length, unsigned seed) {
  const support::LeakCheck nothing_left;
  const auto memory = std::make_unique<Shared<Record>>();
  Record& record = **memory;
  std::mt19937 random{seed};
  INFO("seed " << seed);
  using Item = std::pair<int, int>;
  const Queue<Item> q(options);
  int made = 0, killed_consumers = 0;
  const auto producer = [&] {
    return [&record, q, id = made++] {
      std::vector<Item> batch;
      for (int i = 0; i < most_each;) {
        batch.clear();
        for (int n = 1 + (id + i) % 50; n > 0 && i < most_each; --n) batch.emplace_back(id, i++);
        q.put_many(batch);
        record.put[id] = i;
        if (i < most_each) q.put({id, i++});
        record.put[id] = i;
      }
    };
  };
  const auto consumer = [&record, q] {
    std::vector<int> last(most_producers, -1);
    try {
      for (;;) {
        for (const auto& [id, number] : q.get_many(most_batch)) {
          int& before = last[static_cast<std::size_t>(id)];
          if (number <= before) ++record.wrong;
          before = number;
          ++record.got[id][number];
          if constexpr (requires { q.task_done(); }) q.task_done();
        }
      }
    } catch (const queue::ShutDown&) {
    }
  };
  Team producers, consumers;
  for (int i = 0; i < 3; ++i) producers.add(1, producer());
  consumers.add(3, consumer);
  const auto end = std::chrono::steady_clock::now() + length;
  while (std::chrono::steady_clock::now() < end && made < most_producers - 1) {
    const timespec pause{0, static_cast<long>(random() % 2'000'000)};
    ::nanosleep(&pause, nullptr);
    const std::size_t which = random() % 3;
    if (random() % 2 == 0) {
      producers.replace(which, producer());
    } else {
      consumers.replace(which, consumer);
      ++killed_consumers;
    }
  }
  CHECK(producers.join());
  const int most_owed = killed_consumers * most_batch;
  CHECK(support::settle(q, most_owed));
  q.shutdown();
  CHECK(consumers.join());
  CHECK(q.empty());
  CHECK(q.qsize() == 0);

  INFO(killed_consumers << " killed consumers");
  record.check(made, most_owed);
}

}  // namespace

TEST_CASE("a queue outlives the kills of those who use it in batches") {
  const auto options = GENERATE(mp::QueueOptions{.transport = Transport::pipe},
                                mp::QueueOptions{.transport = Transport::shared_memory},
                                mp::QueueOptions{.maxsize = 30});
  rage<mp::Queue>(options, 600ms, 20250607u);
}

TEST_CASE("a joinable queue outlives the kills of those who use it in batches") {
  const auto options =
      GENERATE(mp::QueueOptions{.transport = Transport::pipe}, mp::QueueOptions{.maxsize = 30});
  rage<mp::JoinableQueue>(options, 600ms, 20250607u);
}

TEST_CASE("queues outlive for long the kills of those who use them in batches", "[soak]") {
  const auto options = GENERATE(mp::QueueOptions{.transport = Transport::pipe},
                                mp::QueueOptions{.transport = Transport::shared_memory},
                                mp::QueueOptions{.maxsize = 30}, mp::QueueOptions{.maxsize = 1});
  for (unsigned round = 0; round < 6; ++round) {
    rage<mp::Queue>(options, 2s, 500 + round);
    rage<mp::JoinableQueue>(options, 2s, 600 + round);
  }
}
