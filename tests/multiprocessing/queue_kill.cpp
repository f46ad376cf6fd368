// SPDX-License-Identifier: MIT
//
// Producers and consumers are killed at random moments, again and again. However they die: an item
// whose put has returned arrives at most once, whole and in its producer's order; all arrive but at
// most one (of get_many: a batch) for each killed consumer; a queue with a bound keeps it; nobody
// else is stuck; and the memory is given back.
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <brood/multiprocessing/process.hpp>
#include <brood/multiprocessing/queues.hpp>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "multiprocessing/record.hpp"
#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"

namespace mp = brood::multiprocessing;
using namespace std::chrono_literals;
using mp::Transport;
using support::Shared;

namespace {

struct Item {
  int producer;
  int number;
  std::string text;  // its length and letters follow from the numbers
};

std::string text_of(int producer, int number) {
  const unsigned mixed =
      static_cast<unsigned>(producer) * 2654435761u + static_cast<unsigned>(number) * 40503u;
  std::size_t size = mixed % 200;
  if (mixed % 11 == 0) size = 4000 + mixed % 200;  // on either side of the largest packet
  if (mixed % 97 == 0) size = 100'000;
  return std::string(size, static_cast<char>('a' + mixed % 26));
}

constexpr int most_producers = 4000;
constexpr int most_each = 400;
using Record = support::Record<most_producers, most_each>;

struct Storm {
  mp::QueueOptions options;
  int kills;                       // at most so many,
  std::chrono::milliseconds most;  // for at most so long
  unsigned seed;
  std::size_t batch = 1;  // how many a consumer takes at once
};

// Calls `f(item)` for each until the queue is shut down.
template <class Queue, class F>
void take_all(const Queue& q, std::size_t batch, F f) {
  if (batch == 1) {
    for (const Item& item : q) f(item);
    return;
  }
  try {
    for (;;)
      for (const Item& item : q.get_many(batch)) f(item);
  } catch (const brood::queue::ShutDown&) {
  }
}

// How many it has killed.
template <template <class> class Queue>
int rage(const Storm& storm) {
  const support::LeakCheck nothing_left;
  const auto record_memory = std::make_unique<Shared<Record>>();
  Record& record = **record_memory;
  std::mt19937 random{storm.seed};
  INFO("seed " << storm.seed);
  const Queue<Item> q(storm.options);
  const auto memory = [&q] {
    struct stat file {};
    ::fstat(q.core().ring().memory().file(), &file);
    return static_cast<std::size_t>(file.st_blocks) * 512;
  };
  const std::size_t baseline = memory();

  int producers = 0, killed_consumers = 0;
  const auto producer = [&] {
    const int id = producers++;
    mp::Process process([&record, q, id] {
      ::alarm(support::last_alarm);
      for (int i = 0; i < most_each; ++i) {
        q.put({id, i, text_of(id, i)});
        record.put[id] = i + 1;
      }
    });
    process.start();
    return process;
  };
  const auto consumer = [&] {
    mp::Process process([&record, q, batch = storm.batch] {
      ::alarm(support::last_alarm);
      std::vector<int> last(most_producers, -1);
      take_all(q, batch, [&](const Item& item) {
        int& before = last[static_cast<std::size_t>(item.producer)];
        if (item.number <= before || item.text != text_of(item.producer, item.number))
          ++record.wrong;
        before = item.number;
        ++record.got[item.producer][item.number];
        if constexpr (requires { q.task_done(); }) q.task_done();
      });
    });
    process.start();
    return process;
  };

  std::vector<mp::Process> putting, getting;
  for (int i = 0; i < 3; ++i) {
    putting.push_back(producer());
    getting.push_back(consumer());
  }
  const auto end = std::chrono::steady_clock::now() + storm.most;
  int kills = 0;
  std::size_t most_there = 0;
  while ((kills < storm.kills && std::chrono::steady_clock::now() < end &&
          producers < most_producers - 3) ||
         killed_consumers == 0) {
    const timespec pause{0, static_cast<long>(random() % 3'000'000)};
    ::nanosleep(&pause, nullptr);
    const std::size_t which = random() % 3;
    ++kills;
    if (storm.options.maxsize != 0) most_there = std::max(most_there, q.qsize());
    if (random() % 2 == 0) {
      putting[which].kill();
      putting[which].join();
      putting[which] = producer();
    } else {
      getting[which].kill();
      getting[which].join();
      ++killed_consumers;
      getting[which] = consumer();
    }
    for (auto& process : putting)  // those that have put all are replaced too
      if (!process.is_alive()) process = producer();
  }
  for (const auto& process : putting) CHECK(process.join(support::patience));
  // The dead owe at most an item each, or a batch.
  const int most_owed = killed_consumers * static_cast<int>(storm.batch);
  CHECK(support::settle(q, most_owed));
  q.shutdown();
  for (const auto& process : getting) {
    CHECK(process.join(support::patience));
    CHECK(process.exitcode() == 0);
  }
  CHECK(q.empty());
  CHECK(q.qsize() == 0);
  CHECK_FALSE(q.try_get());

  INFO(killed_consumers << " killed consumers");
  CHECK(killed_consumers > 0);
  record.check(producers, most_owed);
  CHECK(static_cast<std::int64_t>(most_there) <= storm.options.maxsize);
  using Memory = brood::sync::RingMemory;
  CHECK(memory() <= baseline + (Memory::warm_units + 1) * Memory::unit_size);
  return kills;
}

unsigned seed() {
  const char* const given = std::getenv("BROOD_TEST_SEED");
  return given != nullptr ? static_cast<unsigned>(std::atoi(given)) : 20250607u;
}

}  // namespace

TEST_CASE("a queue outlives the kills of its users") {
  const auto options = GENERATE(mp::QueueOptions{.transport = Transport::pipe},
                                mp::QueueOptions{.transport = Transport::shared_memory},
                                mp::QueueOptions{.maxsize = 20});
  rage<mp::Queue>({options, 500, 800ms, seed()});
}

TEST_CASE("a joinable queue outlives the kills of its users") {
  const auto options =
      GENERATE(mp::QueueOptions{.transport = Transport::pipe}, mp::QueueOptions{.maxsize = 20});
  rage<mp::JoinableQueue>({options, 500, 800ms, seed()});
}

TEST_CASE("a queue outlives the kills of those that take many items at once") {
  const auto options =
      GENERATE(mp::QueueOptions{.transport = Transport::pipe}, mp::QueueOptions{.maxsize = 20});
  rage<mp::JoinableQueue>({options, 500, 800ms, seed(), 16});
}

TEST_CASE("queues outlive ten thousand kills of their users", "[soak]") {
  const mp::QueueOptions kinds[] = {{.transport = Transport::pipe},
                                    {.transport = Transport::shared_memory},
                                    {.maxsize = 20},
                                    {.maxsize = 1}};
  int kills = 0;
  for (unsigned round = 0; kills < 10'000; ++round) {
    for (const auto& options : kinds) {
      kills += rage<mp::Queue>({options, 400, 5min, seed() + round});
      kills += rage<mp::JoinableQueue>({options, 400, 5min, seed() + 100 + round});
      kills += rage<mp::Queue>({options, 200, 5min, seed() + 200 + round, 16});
      kills += rage<mp::JoinableQueue>({options, 200, 5min, seed() + 300 + round, 16});
    }
  }
  CHECK(kills >= 10'000);
}
