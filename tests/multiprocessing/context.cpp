// SPDX-License-Identifier: MIT
//
// The default start method, and contexts. As the default is one for a whole program, each test is a
// program of its own.
#include <stdexcept>
#include <string>

#include "support/leaks.hpp"
#include "support/start_methods.hpp"

namespace mp = brood::multiprocessing;
using support::OwnProgram;
using support::patience;
using support::StartMethod;
using support::throws;

namespace {

// How the child that calls this was started: what it sees of its parent's memory and of its own
// arguments.
int in_main = 0;
std::string way() {
  if (in_main != 0) return "fork";
  return mp::parent_process()->pid() == ::getppid() ? "spawn" : "forkserver";
}

std::string way_of(const mp::Process& process, const mp::SimpleQueue<std::string>& queue) {
  process.start();
  process.join();
  return queue.get();
}

const auto tell = [](const mp::SimpleQueue<std::string>& queue) { queue.put(way()); };

const OwnProgram sets_and_gets("sets_and_gets", [] {
  in_main = 1;
  std::printf("%d", !mp::settled_start_method());
  mp::set_start_method(StartMethod::spawn);
  std::printf("%d", mp::get_start_method() == StartMethod::spawn);
  std::printf("%d", throws<std::runtime_error>([] { mp::set_start_method(StartMethod::fork); }));
  std::printf("%d", mp::get_start_method() == StartMethod::spawn);
  for (const auto method : mp::get_all_start_methods()) {
    mp::set_start_method(method, true);
    std::printf("%d", mp::get_start_method() == method);
    // Children have it for their own, or the one that they were started by.
    const auto check = [](StartMethod wanted) {
      const bool refused = throws<std::runtime_error>([&] { mp::set_start_method(wanted); });
      ::_exit(mp::get_start_method() == wanted && refused ? 17 : 1);
    };
    for (const auto by : support::start_methods) {
      const mp::Process child({.start_method = by}, check, by);
      child.start();
      child.join();
      std::printf("%d", child.exitcode() == 17);
    }
    const mp::Process child(check, method);
    child.start();
    child.join();
    std::printf("%d", child.exitcode() == 17);
    const mp::SimpleQueue<std::string> queue;
    std::printf("%d", way_of(mp::Process(tell, queue), queue) == support::name_of(method));
  }
  return 0;
});

const OwnProgram settles_by_asking("settles_by_asking", [] {
  std::printf("%d", mp::get_start_method() == StartMethod::fork);
  std::printf("%d", throws<std::runtime_error>([] { mp::set_start_method(StartMethod::spawn); }));
  return 0;
});

const OwnProgram settles_by_starting("settles_by_starting", [] {
  const mp::Process process([] {});
  std::printf("%d", !mp::settled_start_method());
  process.start();
  process.join();
  std::printf("%d", throws<std::runtime_error>([] { mp::set_start_method(StartMethod::spawn); }));
  return 0;
});

const OwnProgram decides_at_the_start("decides_at_the_start", [] {
  in_main = 1;
  const mp::SimpleQueue<std::string> queue;
  const mp::Process process(tell, queue);
  mp::set_start_method(StartMethod::forkserver);
  std::printf("%s", way_of(process, queue).c_str());
  return 0;
});

const OwnProgram contexts("contexts", [] {
  in_main = 1;
  mp::set_start_method(StartMethod::spawn);
  std::printf("%d", mp::get_context().get_start_method() == StartMethod::spawn);
  for (const auto method : support::start_methods) {
    const auto context = mp::get_context(method);
    std::printf("%d", context.get_start_method() == method && context == mp::Context{method});
    const auto queue = context.simple_queue<std::string>();
    std::printf("%d", way_of(context.process(tell, queue), queue) == support::name_of(method));
    const auto named =
        context.process({.name = "named", .start_method = StartMethod::fork}, tell, queue);
    std::printf("%d", named.name() == "named");
    std::printf("%d", way_of(named, queue) == support::name_of(method));
  }
  std::printf("%d", mp::get_start_method() == StartMethod::spawn);
  return 0;
});

}  // namespace

TEST_CASE("all start methods are there and fork is the first") {
  CHECK(mp::get_all_start_methods() ==
        std::vector{StartMethod::fork, StartMethod::forkserver, StartMethod::spawn});
}

TEST_CASE("the start method is set once unless it is forced and children have it") {
  const auto ended = sets_and_gets.run();
  CHECK(ended.said == std::string(4 + 3 * 6, '1'));
  CHECK(ended.code == 0);
}

TEST_CASE("the default start method is settled by who asks for it or starts by it") {
  CHECK(settles_by_asking.run().said == "11");
  CHECK(settles_by_starting.run().said == "11");
}

TEST_CASE("a process without a method of its own takes the default at its start") {
  CHECK(decides_at_the_start.run().said == "forkserver");
}

TEST_CASE("a context starts processes by its method whatever the default is") {
  const auto ended = contexts.run();
  CHECK(ended.said == std::string(2 + 3 * 4, '1'));
  CHECK(ended.code == 0);
}

namespace {

// Takes one of each, and answers.
void use_all(const mp::Queue<int>& queue, const mp::JoinableQueue<int>& joinable,
             const mp::Connection& connection, const mp::Lock& lock, const mp::RLock& rlock,
             const mp::Semaphore& semaphore, const mp::BoundedSemaphore& bounded,
             const mp::Event& event, const mp::Condition& condition, const mp::Barrier& barrier,
             const mp::Value<int>& value, const mp::Array<int>& array) {
  barrier.wait(patience);
  queue.put(joinable.get());
  joinable.task_done();
  connection.send(lock.acquire() && rlock.acquire() && semaphore.acquire() && bounded.acquire());
  value.set(5);
  array[1] = 6;
  condition.acquire();
  event.set();
  condition.notify();
  condition.release();
}

}  // namespace

TEST_CASE("a context makes what processes of every method share") {
  const auto method = support::each_start_method();
  const support::LeakCheck nothing_left;
  const auto context = mp::get_context(method);
  const auto queue = context.queue<int>();
  const auto joinable = context.joinable_queue<int>();
  const auto [mine, its] = context.pipe();
  const auto lock = context.lock();
  const auto rlock = context.rlock();
  const auto semaphore = context.semaphore(1);
  const auto bounded = context.bounded_semaphore(1);
  const auto event = context.event();
  const auto condition = context.condition();
  const auto barrier = context.barrier(2);
  const auto value = context.value<int>(4);
  const auto array = context.array<int>(3);
  joinable.put(3);
  const auto process = context.process(use_all, queue, joinable, its, lock, rlock, semaphore,
                                       bounded, event, condition, barrier, value, array);
  process.start();
  barrier.wait(patience);
  CHECK(queue.get(patience) == 3);
  CHECK(joinable.join(patience));
  CHECK(mine.recv<bool>());
  CHECK_FALSE(semaphore.acquire(std::chrono::seconds{0}));
  condition.acquire();
  CHECK(condition.wait_for([&] { return event.is_set(); }, patience));
  condition.release();
  CHECK(process.join(patience));
  CHECK(process.exitcode() == 0);
  CHECK(value.get() == 5);
  CHECK(array[1] == 6);
}
