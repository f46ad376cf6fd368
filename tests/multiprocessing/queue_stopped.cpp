// SPDX-License-Identifier: MIT
//
// Processes that are stopped (by a debugger, by Ctrl-Z) while they wait for a queue.
#include <brood/multiprocessing/queues.hpp>

#include "team.hpp"

using namespace support;

namespace {

struct Words {
  std::atomic<int> over;
};

}  // namespace

TEST_CASE("a consumer that is stopped while it waits for an item holds up no other") {
  const mp::Queue<int> queue{GENERATE(mp::QueueOptions{.transport = mp::Transport::pipe},
                                      mp::QueueOptions{.transport = mp::Transport::shared_memory})};
  const Shared<Words> words;
  const auto get = [&] {
    queue.get();
    ++words->over;
  };
  Team team;
  team.add(1, get);
  team.await_asleep();
  team.stop(0);
  team.add(1, get);
  team.await_state(1, 'S');
  queue.put(1);
  await(words->over, 1);
  team.resume(0);
  queue.put(2);
  CHECK(team.join());
  CHECK(queue.empty());
}

TEST_CASE("a producer that is stopped while it waits for room holds up no other") {
  const mp::Queue<int> queue(1);
  const Shared<Words> words;
  const auto put = [&] {
    queue.put(1);
    ++words->over;
  };
  queue.put(0);
  Team team;
  team.add(1, put);
  team.await_asleep();
  team.stop(0);
  team.add(1, put);
  team.await_state(1, 'S');
  CHECK(queue.get() == 0);
  await(words->over, 1);
  team.resume(0);
  CHECK(queue.get() == 1);
  CHECK(queue.get() == 1);
  CHECK(team.join());
}

TEST_CASE("a process that is stopped while it joins a queue holds up no other") {
  const mp::JoinableQueue<int> queue;
  const Shared<Words> words;
  const auto join = [&] {
    queue.join();
    ++words->over;
  };
  queue.put(1);
  Team team;
  team.add(1, join);
  team.await_asleep();
  team.stop(0);
  team.add(1, join);
  team.await_state(1, 'S');
  queue.get();
  queue.task_done();
  await(words->over, 1);
  team.resume(0);
  CHECK(team.join());
}
