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

const brood::posix::Deadline without_limit{brood::forever};
const auto soon = [] { return brood::posix::Deadline{50ms}; };
const auto late = [] { return brood::posix::Deadline{patience}; };

// Too large for a packet.
const std::string large(2 * PIPE_BUF, 'x');

// Stops the process that takes it, while that has the lock.
struct Stopping : mp::Message {
  void assign(const std::byte* data, std::size_t size) {
    ::raise(SIGSTOP);
    Message::assign(data, size);
  }
};

bool is_empty(mp::QueueCore& queue, const brood::posix::Deadline& deadline) {
  mp::Message message;
  return throws<brood::queue::Empty>([&] { queue.get(message, deadline); });
}

std::size_t size_of_next(mp::QueueCore& queue) {
  mp::Message message;
  queue.get(message, late());
  return message.bytes().size();
}

}  // namespace

TEST_CASE("a get with a limit ends beside a producer that is stopped while it has the lock") {
  const auto queue = brood::posix::make_ref<mp::QueueCore>(
      0, GENERATE(mp::Transport::pipe, mp::Transport::shared_memory), false);
  const auto put_and_stop = [&] {
    queue->put_in_place(
        1,
        [](std::byte* place) {
          ::raise(SIGSTOP);
          *place = std::byte{1};
        },
        without_limit);
  };
  queue->put(large, without_limit);
  CHECK(size_of_next(*queue) == large.size());  // the descriptor stays readable until the next look
  Team team;
  team.add(1, put_and_stop);
  team.await_state(0, 'T');
  CHECK(is_empty(*queue, soon()));
  CHECK(is_empty(*queue, brood::posix::Deadline{0s}));
  queue->fileno();
  team.resume(0);
  CHECK(size_of_next(*queue) == 1);
  CHECK(team.join());
}

TEST_CASE("a producer that is stopped while it has the lock holds up no small message") {
  const auto queue = brood::posix::make_ref<mp::QueueCore>(0, mp::Transport::pipe, false);
  const Shared<Words> words;
  queue->put(large, without_limit);
  CHECK(size_of_next(*queue) == large.size());
  Team team;
  team.add(1, [&] {
    queue->put_in_place(
        1, [](std::byte*) { ::raise(SIGSTOP); }, without_limit);
  });
  team.await_state(0, 'T');
  team.add(1, [&] { words->over = static_cast<int>(size_of_next(*queue)); });
  team.await_state(1, 'S');
  queue->put("two", without_limit);
  await(words->over, 3);
  team.resume(0);
  CHECK(size_of_next(*queue) == 1);
  CHECK(team.join());
}

TEST_CASE("a get with a limit ends beside a consumer that is stopped while it has the lock") {
  const auto queue = brood::posix::make_ref<mp::QueueCore>(
      0, GENERATE(mp::Transport::pipe, mp::Transport::shared_memory), false);
  queue->put(large, without_limit);
  queue->put("second", without_limit);
  Team team;
  team.add(1, [&] {
    Stopping message;
    queue->get(message, without_limit);
  });
  team.await_state(0, 'T');
  CHECK(is_empty(*queue, soon()));
  CHECK(is_empty(*queue, brood::posix::Deadline{0s}));
  team.resume(0);
  CHECK(size_of_next(*queue) == 6);
  CHECK(team.join());
}

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
