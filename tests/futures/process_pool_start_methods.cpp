// SPDX-License-Identifier: MIT
//
// What differs when a pool's workers are not forked from the program. What does not is tested by
// the other programs, which are run by each start method.
#include <brood/futures/process_pool.hpp>
#include <brood/multiprocessing.hpp>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/plugin/plugin.hpp"
#include "support/start_methods.hpp"
#include "support/tasks.hpp"

namespace futures = brood::futures;
namespace mp = brood::multiprocessing;
using futures::Future;
using futures::ProcessPoolExecutor;
using mp::StartMethod;
using support::meet;
using support::message_of;
using support::OwnProgram;
using support::square;
using namespace std::chrono_literals;

namespace {

constexpr StartMethod others[] = {StartMethod::forkserver, StartMethod::spawn};
constexpr StartMethod all[] = {StartMethod::fork, StartMethod::forkserver, StartMethod::spawn};

pid_t own_pid() { return ::getpid(); }

int number = 0;
int get_number() { return number; }
void make_it_seven() { number = 7; }

// Function objects that cross with what they hold.
struct SetNumber {
  int value;
  void operator()() const { number = value; }
};
struct Announce {
  mp::Queue<int> queue{};
  mp::Lock lock{};
  void operator()() const {
    const std::lock_guard held{lock};
    queue.put(::getpid());
    number = 3;
  }
};
struct Unreadable {
  inline static const pid_t home = ::getpid();
  bool in_vain = true;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(in_vain);
    if (Archive::is_loading) throw std::runtime_error("illegible");
  }
  void operator()() const {}
};

// Exceptions that are registered at three moments.
struct EarlyError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct LateError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct WorkersError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[maybe_unused]] const bool registered = (brood::register_exception<EarlyError>(), true);

const OwnProgram unprepared(
    "unprepared",
    [] {
      ProcessPoolExecutor forked({.max_workers = 1, .start_method = StartMethod::fork});
      std::printf("%d ", forked.submit(square, 2).result());
      const auto tell = [](const std::string& text) {
        std::printf("%s ", text.find("freeze_support()") == text.npos ? text.c_str() : "told");
      };
      for (const StartMethod method : others) {
        tell(message_of<std::runtime_error>(
            [&] { ProcessPoolExecutor pool({.start_method = method}); }));
        tell(message_of<std::runtime_error>([&] { mp::Pool pool({.start_method = method}); }));
      }
      return 0;
    },
    OwnProgram::Call::nothing);

const OwnProgram loses_its_server("loses_its_server", [] {
  ProcessPoolExecutor pool(
      {.max_workers = 1, .start_method = StartMethod::forkserver, .max_tasks_per_child = 1});
  std::printf("%d ", pool.submit(square, 2).result());
  const pid_t pid = support::children().begin()->first;  // there is no other
  const auto server = board::watch(pid);
  ::kill(pid, SIGKILL);
  if (!board::ends(server, 60s)) return 1;
  // The pool's workers have a server of their own.
  for (const int n : {3, 4}) std::printf("%d ", pool.submit(square, n).result());
  ProcessPoolExecutor spawned({.max_workers = 1, .start_method = StartMethod::spawn});
  std::printf("%d ", spawned.submit(square, 5).result());
  std::printf("%s", message_of<mp::ProcessError>([&] {
                      ProcessPoolExecutor late({.start_method = StartMethod::forkserver});
                    }).c_str());
  return 0;
});

}  // namespace

TEST_CASE("process pool has what its start method gives it of the program") {
  number = 5;
  for (const StartMethod method : all) {
    ProcessPoolExecutor pool({.max_workers = 1, .start_method = method});
    CHECK(pool.submit(get_number).result() == (method == StartMethod::fork ? 5 : 0));
    CHECK(pool.submit(square, 7).result() == 49);
  }
  number = 0;
}

TEST_CASE("process pool initializer crosses as a function or a lambda or with what it holds") {
  for (const StartMethod method : all) {
    ProcessPoolExecutor function(
        {.max_workers = 1, .start_method = method, .initializer = make_it_seven});
    CHECK(function.submit(get_number).result() == 7);
    ProcessPoolExecutor lambda(
        {.max_workers = 1, .start_method = method, .initializer = [] { number = 8; }});
    CHECK(lambda.submit(get_number).result() == 8);
    ProcessPoolExecutor object(
        {.max_workers = 1, .start_method = method, .initializer = SetNumber{9}});
    CHECK(object.submit(get_number).result() == 9);
    CHECK(number == 0);
  }
}

TEST_CASE("process pool initializer hands queues and locks to each worker") {
  for (const StartMethod method : all) {
    board::reset();
    const Announce announce{};
    ProcessPoolExecutor pool({.max_workers = 2, .start_method = method, .initializer = announce});
    auto first = pool.submit([] { return meet(static_cast<int>(::getpid())); });
    auto second = pool.submit([] { return meet(static_cast<int>(::getpid())); });
    const int one = announce.queue.get(60s);
    const int two = announce.queue.get(60s);
    board::await(0, 2);
    board::bump(1);
    const int a = first.result(), b = second.result();
    CHECK(((one == a && two == b) || (one == b && two == a)));
    CHECK(pool.submit(get_number).result() == 3);
  }
}

TEST_CASE("process pool refuses an initializer that cannot cross and names its type") {
  support::LeakCheck nothing_left;
  std::string captured = "soap";
  for (const StartMethod method : others) {
    const auto text = message_of<std::invalid_argument>([&] {
      ProcessPoolExecutor pool(
          {.start_method = method, .initializer = [captured] { static_cast<void>(captured); }});
    });
    CHECK_THAT(text, Catch::Matchers::ContainsSubstring("lambda") &&
                         Catch::Matchers::ContainsSubstring("StartMethod::fork"));
    CHECK_THROWS_AS(mp::Pool({.initializer = [captured] { static_cast<void>(captured); },
                              .start_method = method}),
                    std::invalid_argument);
  }
}

TEST_CASE("process pool whose initializer throws or cannot be read tells why") {
  support::LeakCheck nothing_left;
  for (const StartMethod method : others) {
    ProcessPoolExecutor dry(
        {.start_method = method, .initializer = [] { throw std::runtime_error("no water"); }});
    CHECK_THAT(message_of<futures::BrokenProcessPool>([&] { dry.submit(square, 1).result(); }),
               Catch::Matchers::ContainsSubstring("no water"));
    ProcessPoolExecutor pool({.start_method = method, .initializer = Unreadable{}});
    CHECK_THAT(message_of<futures::BrokenProcessPool>([&] { pool.submit(square, 1).result(); }),
               Catch::Matchers::ContainsSubstring("illegible"));
  }
}

TEST_CASE("process pool takes the start method that was set") {
  const StartMethod before = mp::get_start_method();
  number = 5;
  for (const StartMethod method : all) {
    mp::set_start_method(method, true);
    ProcessPoolExecutor executor(1);
    CHECK(executor.submit(get_number).result() == (method == StartMethod::fork ? 5 : 0));
    // The workers' own pools come to be in the same way.
    CHECK(executor.submit([] { return static_cast<int>(mp::get_start_method()); }).result() ==
          static_cast<int>(method));
    mp::Pool pool(1);
    CHECK(pool.apply(get_number) == (method == StartMethod::fork ? 5 : 0));
  }
  number = 0;
  mp::set_start_method(before, true);
}

TEST_CASE("process pool workers start others by the method that they were started by") {
  const StartMethod before = mp::get_start_method();
  for (const StartMethod usual : {StartMethod::fork, StartMethod::spawn}) {
    mp::set_start_method(usual, true);
    for (const StartMethod method : all) {
      ProcessPoolExecutor executor({.max_workers = 1, .start_method = method});
      CHECK(executor.submit([] { return static_cast<int>(mp::get_start_method()); }).result() ==
            static_cast<int>(method));
    }
  }
  mp::set_start_method(before, true);
}

TEST_CASE("process pool workers know their names and their parent by each start method") {
  const auto names = [](auto& pool) {
    return pool
        .submit([] {
          const auto parent = mp::parent_process();
          return mp::current_process().name() + " of " + parent->name() + " " +
                 std::to_string(parent->pid()) + (parent->is_alive() ? " alive" : " dead");
        })
        .result();
  };
  const std::string program = " of MainProcess " + std::to_string(::getpid()) + " alive";
  for (const StartMethod method : all) {
    ProcessPoolExecutor pool({.max_workers = 1, .start_method = method});
    CHECK(names(pool) == "ProcessPoolWorker-1" + program);
  }
  const auto name_in = [](StartMethod method) {
    mp::Pool pool = mp::get_context(method).pool(1);
    return pool.apply([] { return mp::current_process().name(); });
  };
  CHECK(name_in(StartMethod::fork) == "ForkPoolWorker-1");
  CHECK(name_in(StartMethod::forkserver) == "ForkServerPoolWorker-1");
  CHECK(name_in(StartMethod::spawn) == "SpawnPoolWorker-1");
  mp::Pool pool =
      mp::get_context(StartMethod::spawn)
          .pool({.processes = 1, .initializer = make_it_seven, .start_method = StartMethod::fork});
  CHECK(pool.apply([] { return mp::current_process().name(); }) == "SpawnPoolWorker-1");
  CHECK(pool.apply(get_number) == 7);
}

TEST_CASE("process pool exceptions have their types where they were registered") {
  brood::register_exception<LateError>();
  for (const StartMethod method : others) {
    ProcessPoolExecutor pool({.max_workers = 1, .start_method = method});
    CHECK_THROWS_AS(pool.submit([] { throw EarlyError("early"); }).result(), EarlyError);
    // Registered in this process alone.
    try {
      pool.submit([] { throw LateError("late"); }).result();
      FAIL("it must throw");
    } catch (const LateError&) {
      FAIL("nobody has told the worker");
    } catch (const futures::RemoteError& error) {
      CHECK_THAT(error.what(), Catch::Matchers::ContainsSubstring("LateError") &&
                                   Catch::Matchers::ContainsSubstring("late"));
    }
  }
  brood::register_exception<WorkersError>();
  for (const StartMethod method : others) {
    ProcessPoolExecutor pool({.max_workers = 1, .start_method = method, .initializer = [] {
                                brood::register_exception<WorkersError>();
                              }});
    CHECK_THROWS_AS(pool.submit([] { throw WorkersError("there"); }).result(), WorkersError);
  }
}

TEST_CASE("process pool keeps to its limits by each start method") {
  for (const StartMethod method : others) {
    ProcessPoolExecutor pool(
        {.max_workers = 1, .start_method = method, .max_tasks_per_child = 2, .task_timeout = 50ms});
    // Their own limit is none that a busy machine could make them miss.
    const futures::TaskOptions unhurried{.timeout = 600s};
    const pid_t first = pool.submit(unhurried, own_pid).result();
    CHECK(pool.submit(unhurried, own_pid).result() == first);
    CHECK(pool.submit(unhurried, own_pid).result() != first);
    CHECK_THROWS_AS(pool.submit([] { board::await(63, 1); }).result(), futures::TaskTimeout);
    CHECK(pool.submit(unhurried, square, 3).result() == 9);
  }
}

TEST_CASE("process pools of all start methods leave nothing behind") {
  support::LeakCheck nothing_left;
  for (int round = 0; round < 5; ++round) {
    std::vector<std::unique_ptr<ProcessPoolExecutor>> pools;
    for (const StartMethod method : all)
      pools.push_back(std::make_unique<ProcessPoolExecutor>(
          futures::ProcessPoolOptions{.max_workers = 2, .start_method = method}));
    std::vector<Future<int>> results;
    for (int n = 0; n < 30; ++n)
      for (auto& pool : pools) results.push_back(pool->submit(square, n));
    for (std::size_t i = 0; i < results.size(); ++i)
      CHECK(results[i].result() == square(static_cast<int>(i / pools.size())));
    ProcessPoolExecutor unused({.start_method = StartMethod::forkserver});
  }
}

TEST_CASE("process pools are made by forkserver and spawn while other threads are at work") {
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      while (!stop) static_cast<void>(std::make_unique<std::vector<int>>(1000));
    });
  for (const StartMethod method : others) {
    std::atomic<int> sum = 0;
    std::vector<std::thread> users;
    for (int i = 0; i < 3; ++i)
      users.emplace_back([&] {
        ProcessPoolExecutor pool({.max_workers = 1, .start_method = method});
        sum += pool.submit(square, 2).result();
      });
    for (auto& user : users) user.join();
    CHECK(sum == 12);
  }
  stop = true;
  for (auto& thread : threads) thread.join();
}

TEST_CASE("process pools work in Processes and in workers by each start method") {
  for (const StartMethod outer : all)
    for (const StartMethod inner : all) {
      ProcessPoolExecutor pool({.max_workers = 1, .start_method = outer});
      const auto nested = [](int method) {
        ProcessPoolExecutor own(
            {.max_workers = 1, .start_method = static_cast<StartMethod>(method)});
        return own.submit(square, 6).result();
      };
      CHECK(pool.submit(nested, static_cast<int>(inner)).result() == 36);
    }
}

TEST_CASE("process pool of another start method breaks when its own server is killed") {
  for (const StartMethod method : others) {
    board::reset();
    ProcessPoolExecutor pool({.max_workers = 2, .start_method = method});
    auto first = pool.submit(meet, 1);
    auto second = pool.submit(meet, 2);
    board::await(0, 2);
    std::vector<brood::posix::unique_fd> workers;
    for (const pid_t pid : pool.worker_pids()) workers.push_back(board::watch(pid));
    ::kill(support::parent_of(pool.worker_pids().at(0)), SIGKILL);
    for (const auto* task : {&first, &second})
      CHECK_THAT(message_of<futures::BrokenProcessPool>([&] { task->result(); }),
                 Catch::Matchers::ContainsSubstring("fork server was killed by SIGKILL"));
    for (const auto& worker : workers) CHECK(board::ends(worker, 60s));
    CHECK_THROWS_AS(pool.submit(square, 1), futures::BrokenProcessPool);
  }
}

TEST_CASE("process pool of another start method ends with a program that is killed") {
  for (const StartMethod method : others) {
    board::reset();
    mp::Process program({.start_method = StartMethod::fork}, [method] {
      ProcessPoolExecutor pool({.max_workers = 2, .start_method = method});
      auto first = pool.submit(meet, 1);
      auto second = pool.submit(meet, 2);
      board::await(0, 2);
      unsigned place = 10;
      for (const pid_t pid : pool.worker_pids()) {
        board::word(place++).store(static_cast<std::uint32_t>(pid));
        board::word(12).store(static_cast<std::uint32_t>(support::parent_of(pid)));
      }
      board::bump(4);
      ::pause();
    });
    program.start();
    REQUIRE(board::await(4, 1, 60s));
    std::vector<brood::posix::unique_fd> watched;
    for (unsigned place = 10; place <= 12; ++place) {
      REQUIRE(board::get(place) != 0);
      watched.push_back(board::watch(static_cast<pid_t>(board::get(place))));
    }
    program.kill();
    program.join();
    for (const auto& process : watched) CHECK(board::ends(process, 60s));
  }
}

TEST_CASE("process pool of a program that has not called freeze_support can only fork") {
  const auto ended = unprepared.run();
  CHECK(ended.said == "4 told told told told ");
  CHECK(ended.code == 0);
}

TEST_CASE("process pool by forkserver outlives the fork server and no other can be made then") {
  const auto ended = loses_its_server.run();
  CHECK_THAT(ended.said, Catch::Matchers::StartsWith("4 9 16 25 ") &&
                             Catch::Matchers::ContainsSubstring("fork server") &&
                             Catch::Matchers::ContainsSubstring("signal 9"));
  CHECK(ended.code == 0);
}

TEST_CASE("process pool task from a library that is not loaded there fails alone") {
  const support::Plugin plugin(support::plugin_path("one"));
  int (*const answer)() = plugin.function<int()>("plugin_answer");
  for (const StartMethod method : others) {
    ProcessPoolExecutor pool({.max_workers = 1, .start_method = method});
    CHECK_THAT(message_of<std::invalid_argument>([&] { pool.submit(answer).result(); }),
               Catch::Matchers::ContainsSubstring("library that is not loaded there"));
    CHECK(pool.submit(square, 2).result() == 4);
    // The initializer may load it, or lie in it itself.
    ProcessPoolExecutor prepared({.max_workers = 1, .start_method = method, .initializer = [] {
                                    ::dlopen(support::plugin_path("one").c_str(), RTLD_NOW);
                                  }});
    CHECK(prepared.submit(answer).result() == 1);
    ProcessPoolExecutor by_itself(
        {.max_workers = 1, .start_method = method, .initializer = answer});
    CHECK(by_itself.submit(answer).result() == 1);
  }
}
