// SPDX-License-Identifier: MIT
// Processes of a pool, or the program itself, die at bad moments.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <brood/futures.hpp>
#include <brood/futures/process_pool.hpp>
#include <brood/multiprocessing.hpp>
#include <brood/posix/sanitizers.hpp>
#include <brood/threading/event.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/sleepers.hpp"
#include "support/start_methods.hpp"
#include "support/start_ways.hpp"
#include "support/tasks.hpp"

namespace futures = brood::futures;
namespace mp = brood::multiprocessing;
using futures::Future;
using futures::ProcessPoolExecutor;
using futures::WorkerCrashed;
using support::meet;
using support::message_of;
using support::square;
using namespace std::chrono_literals;

namespace {

// The fork server of a pool that has a worker.
pid_t fork_server(const ProcessPoolExecutor& pool) {
  return support::parent_of(pool.worker_pids().at(0));
}

// A type whose bytes kill who reads or writes them, if that is another process than the first.
struct Deadly {
  inline static pid_t home = ::getpid();
  int when = 0;  // 1: written there, 2: read there
  template <class Archive>
  void serialize(Archive& ar) {
    if (::getpid() != home && when == 1) ::abort();
    ar(when);
    if (::getpid() != home && when == 2) ::_exit(7);
  }
};

}  // namespace

TEST_CASE("process pool task whose worker is killed fails alone") {
  board::reset();
  ProcessPoolExecutor pool(2);
  auto victim = pool.submit([] {
    ::kill(::getpid(), SIGKILL);
    return 0;
  });
  std::vector<Future<int>> others;
  for (int i = 0; i < 50; ++i) others.push_back(pool.submit(square, i));
  try {
    victim.result();
    FAIL("it must throw");
  } catch (const WorkerCrashed& crash) {
    CHECK(crash.signal() == SIGKILL);
    CHECK_FALSE(crash.exitcode());
    CHECK(crash.pid() > 0);
    CHECK(crash.max_rss_bytes() > 0);
    CHECK(crash.elapsed() >= 0s);
    CHECK(crash.elapsed() < 1h);
    CHECK_THAT(crash.function(), Catch::Matchers::Matches(".*(lambda|\\$_).*"));  // GCC or Clang
    CHECK_THAT(crash.what(), Catch::Matchers::ContainsSubstring("signal 9"));
  }
  for (int i = 0; i < 50; ++i) CHECK(others[static_cast<std::size_t>(i)].result() == i * i);
  CHECK(pool.submit(square, 3).result() == 9);
}

TEST_CASE("process pool tells how a worker ended") {
  ProcessPoolExecutor pool(1);
  const auto crash_of = [](const Future<int>& future) {
    try {
      future.result();
    } catch (const WorkerCrashed& crash) {
      return std::pair{crash.exitcode().value_or(-1), crash.signal().value_or(-1)};
    }
    return std::pair{-2, -2};
  };
  CHECK(crash_of(pool.submit([](int) -> int { ::abort(); }, 0)) == std::pair{-1, SIGABRT});
  CHECK(crash_of(pool.submit([](int code) -> int { std::exit(code); }, 3)) == std::pair{3, -1});
  CHECK(crash_of(pool.submit([](int code) -> int { ::_exit(code); }, 0)) == std::pair{0, -1});
  CHECK(crash_of(pool.submit([](int code) -> int { std::_Exit(code); }, 255)) ==
        std::pair{255, -1});
  CHECK(crash_of(pool.submit([](int n) { return ::raise(n); }, SIGTERM)) == std::pair{-1, SIGTERM});
  CHECK(pool.submit(square, 3).result() == 9);
}

TEST_CASE("process pool gives each future of a crash its own exception") {
  ProcessPoolExecutor pool(1);
  auto results = pool.map(
      {.chunksize = 3},
      [](int n) {
        if (n == 4) ::abort();
        return n;
      },
      std::vector{0, 1, 2, 3, 4, 5, 6, 7, 8});
  std::vector<int> got;
  for (auto it = results.begin(); it != results.end(); ++it) {
    try {
      got.push_back(*it);
    } catch (const WorkerCrashed&) {
      got.push_back(-1);
    }
  }
  CHECK(got == std::vector{0, 1, 2, -1, -1, -1, 6, 7, 8});
}

TEST_CASE("process pool outlives any number of tasks that kill their workers") {
  ProcessPoolExecutor pool(2);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 150; ++i)
    tasks.push_back(pool.submit(
        [](int n) {
          if (n % 10 != 0) ::_exit(1);
          return n;
        },
        i));
  for (int i = 0; i < 150; ++i) {
    const auto& task = tasks[static_cast<std::size_t>(i)];
    if (i % 10 != 0)
      CHECK_THROWS_AS(task.result(), WorkerCrashed);
    else
      CHECK(task.result() == i);
  }
}

TEST_CASE("process pool worker that dies while it reads or writes a value fails that task") {
  ProcessPoolExecutor pool(1);
  CHECK_THROWS_AS(pool.submit([](Deadly) { return 1; }, Deadly{2}).result(), WorkerCrashed);
  CHECK_THROWS_AS(pool.submit([](int when) { return Deadly{when}; }, 1).result(), WorkerCrashed);
  CHECK(pool.submit([](Deadly) { return 1; }, Deadly{0}).result() == 1);
}

TEST_CASE("process pool worker that dies with large data in hand loses none of the memory") {
  ProcessPoolExecutor pool(2);
  const std::string large(std::size_t{8} << 20, 'x');
  for (int round = 0; round < 6; ++round) {
    std::vector<Future<std::string>> tasks;
    for (int i = 0; i < 4; ++i)
      tasks.push_back(pool.submit(
          [](std::string text, int n) {
            if (n % 2 == 1) ::abort();
            return text + text;
          },
          large, i));
    for (int i = 0; i < 4; ++i) {
      if (i % 2 == 1)
        CHECK_THROWS_AS(tasks[static_cast<std::size_t>(i)].result(), WorkerCrashed);
      else
        CHECK(tasks[static_cast<std::size_t>(i)].result().size() == 2 * large.size());
    }
  }
}

TEST_CASE("process pool worker killed during a large result leaves the pool at work") {
  board::reset();
  ProcessPoolExecutor pool(2);
  for (int round = 1; round <= 5; ++round) {
    auto victim = pool.submit([] {
      board::word(2).store(static_cast<std::uint32_t>(::getpid()));
      board::bump(0);
      return std::vector<char>(std::size_t{32} << 20, 'x');
    });
    auto other = pool.submit(square, round);
    board::await(0, static_cast<std::uint32_t>(round));
    ::kill(static_cast<pid_t>(board::get(2)), SIGKILL);
    std::size_t size = std::size_t{32} << 20;  // unless it was killed in time
    try {
      size = victim.result().size();
    } catch (const WorkerCrashed& crash) {
      CHECK(crash.signal() == SIGKILL);
    }
    CHECK(size == std::size_t{32} << 20);
    CHECK(other.result() == round * round);
  }
}

TEST_CASE("process pool idle worker that is killed is replaced when there is work") {
  ProcessPoolExecutor pool(2);
  for (int i = 0; i < 10; ++i) {
    pool.submit(square, i).result();
    const auto pids = pool.worker_pids();
    for (const pid_t pid : pids) ::kill(pid, SIGKILL);
    // A worker that dies before it has taken anything harms nobody; one that has, its task alone.
    auto next = pool.submit(square, i);
    int result = i * i;
    try {
      result = next.result();
    } catch (const WorkerCrashed& crash) {
      CHECK(std::find(pids.begin(), pids.end(), crash.pid()) != pids.end());
    }
    CHECK(result == i * i);
  }
  CHECK(pool.submit(square, 5).result() == 25);
}

namespace {

// What a program keeps in its memory for itself, in bytes, shared pages and all.
std::size_t resident_bytes() {
  std::FILE* const file = std::fopen("/proc/self/statm", "re");
  unsigned long total = 0;
  unsigned long resident = 0;
  const bool read = file != nullptr && std::fscanf(file, "%lu %lu", &total, &resident) == 2;
  if (file != nullptr) std::fclose(file);
  return read ? resident * 4096 : 0;
}

std::size_t mappings() {
  std::FILE* const file = std::fopen("/proc/self/maps", "re");
  std::size_t lines = 0;
  for (int c = 0; file != nullptr && (c = std::fgetc(file)) != EOF;) lines += c == '\n' ? 1 : 0;
  if (file != nullptr) std::fclose(file);
  return lines;
}

struct Storm {
  std::size_t kills = 0;
  std::size_t crashes = 0;
  std::size_t wrong = 0;
  std::size_t stuck = 0;
};

std::string echo(std::string text, int n) { return text + std::to_string(n); }

// Tasks small and large, while workers are killed at random, until so many were.
Storm storm(ProcessPoolExecutor& pool, unsigned seed, std::size_t kills) {
  Storm told;
  std::mt19937 random(seed);
  const std::string small(5, 'x');
  const std::string large(200'000, 'x');
  while (told.kills < kills) {
    std::vector<Future<std::string>> tasks;
    for (int i = 0; i < 100; ++i)
      tasks.push_back(pool.submit(echo, i % 20 == 0 ? large : small, i));
    for (int strike = 0; strike < 5; ++strike) {
      tasks[random() % 100].state()->wait(brood::posix::Deadline{1ms});
      const auto pids = pool.worker_pids();
      if (pids.empty() || told.kills == kills) continue;
      if (::kill(pids[random() % pids.size()], SIGKILL) == 0) ++told.kills;
    }
    for (int i = 0; i < 100; ++i) {
      try {
        const auto& text = tasks[static_cast<std::size_t>(i)].result(60s);
        if (text != (i % 20 == 0 ? large : small) + std::to_string(i)) ++told.wrong;
      } catch (const WorkerCrashed&) {
        ++told.crashes;
      } catch (const futures::TimeoutError&) {
        ++told.stuck;
      }
    }
  }
  return told;
}

void survive_storm(std::size_t kills) {
  support::LeakCheck nothing_left;
  {  // what the first pool and the first crash set up stays
    ProcessPoolExecutor pool(2);
    storm(pool, 1, 2);
  }
  const std::size_t mapped = mappings();
  const std::size_t resident = resident_bytes();
  {
    ProcessPoolExecutor pool({.max_workers = 4, .max_tasks_per_child = 500});
    const Storm told = storm(pool, 20260, kills);
    INFO(told.kills << " kills, " << told.crashes << " crashes");
    CHECK(told.kills == kills);
    CHECK(told.crashes <= told.kills);
    CHECK(told.wrong == 0);
    CHECK(told.stuck == 0);
    CHECK(pool.submit(square, 3).result() == 9);
  }
  if (brood::posix::sanitized) return;  // which remembers what was freed
  // Heaps grow by steps.
  CHECK(mappings() <= mapped + 16);
  CHECK(resident_bytes() <= resident + (std::size_t{24} << 20));
}

}  // namespace

TEST_CASE("process pool comes out of a storm of kills as it went in") { survive_storm(60); }

TEST_CASE("process pool comes out of 2000 kills as it went in", "[soak]") { survive_storm(2000); }

TEST_CASE("process pools made and used and dropped fifty times leave nothing") {
  support::LeakCheck nothing_left;
  ProcessPoolExecutor(2).submit(square, 1).result();
  const std::size_t mapped = mappings();
  for (int i = 0; i < 50; ++i) {
    ProcessPoolExecutor pool(2);
    CHECK(pool.submit(square, i).result() == i * i);
  }
  if (!brood::posix::sanitized) CHECK(mappings() <= mapped + 8);
}

TEST_CASE("process pool survives a long storm of kills", "[soak]") {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    ProcessPoolExecutor pool(
        {.max_workers = 3, .max_tasks_per_child = seed % 3 == 0 ? 7 : 100'000});
    std::mt19937 random(seed);
    std::size_t kills = 0;
    std::size_t crashes = 0;
    for (int round = 0; round < 100; ++round) {
      std::vector<Future<int>> tasks;
      for (int i = 0; i < 300; ++i) tasks.push_back(pool.submit(square, i));
      tasks[random() % 300].state()->wait(brood::posix::Deadline{1ms});
      for (const pid_t pid : pool.worker_pids())
        if (random() % 2 == 0 && ::kill(pid, SIGKILL) == 0) ++kills;
      for (int i = 0; i < 300; ++i) {
        int result = i * i;
        try {
          result = tasks[static_cast<std::size_t>(i)].result(60s);
        } catch (const WorkerCrashed&) {
          ++crashes;
        }
        CHECK(result == i * i);
      }
    }
    CHECK(crashes <= kills);
  }
}

TEST_CASE("process pool terminate and kill end running tasks and cancel the others") {
  for (const bool kill : {false, true}) {
    board::reset();
    ProcessPoolExecutor pool(2);
    std::vector<Future<int>> tasks;
    for (int i = 0; i < 1500; ++i)
      tasks.push_back(pool.submit(
          [](int n) {
            meet(n);
            board::bump(5);
            return n;
          },
          i));
    board::await(0, 2);
    std::vector<brood::posix::unique_fd> workers;
    for (const pid_t pid : pool.worker_pids()) workers.push_back(board::watch(pid));
    if (kill)
      pool.kill_workers();
    else
      pool.terminate_workers();
    int crashed = 0;
    int cancelled = 0;
    for (auto& task : tasks) {
      try {
        task.result();
      } catch (const WorkerCrashed& crash) {
        CHECK(crash.signal() == (kill ? SIGKILL : SIGTERM));
        ++crashed;
      } catch (const futures::CancelledError&) {
        ++cancelled;
      }
    }
    CHECK(crashed == 2);
    CHECK(cancelled == 1498);
    CHECK(board::get(5) == 0);
    for (const auto& worker : workers) CHECK(board::ends(worker, 60s));
    CHECK_THROWS_AS(pool.submit(square, 1), std::runtime_error);
    pool.kill_workers();
    pool.terminate_workers();
  }
}

TEST_CASE("process pool without workers is ended by terminate and kill") {
  ProcessPoolExecutor pool(2);
  pool.terminate_workers();
  pool.kill_workers();
  CHECK_THROWS_AS(pool.submit(square, 1), std::runtime_error);
}

TEST_CASE("process pool starts no replacement when it is terminated") {
  board::reset();
  ProcessPoolExecutor pool({.max_workers = 2, .max_tasks_per_child = 1});
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 30; ++i)
    tasks.push_back(pool.submit(
        [](int n) {
          board::bump(0);
          if (n > 10) board::await(1, 1);
          return n;
        },
        i));
  board::await(0, 8);
  pool.kill_workers();
  for (auto& task : tasks) {
    try {
      task.result();
    } catch (const WorkerCrashed&) {
    } catch (const futures::CancelledError&) {
    }
  }
  pool.shutdown();
  CHECK(pool.worker_pids().empty());
}

TEST_CASE("process pool keeps the result of a worker that left before the others were killed") {
  board::reset();
  ProcessPoolExecutor pool({.max_workers = 2, .max_tasks_per_child = 1});
  const auto task = [](int n) {
    board::bump(0);
    board::await(static_cast<unsigned>(n), 1);
    return n;
  };
  const brood::threading::Event called, go_on, done;
  const auto first = pool.submit(task, 1), second = pool.submit(task, 2);
  first.add_done_callback([&](const auto&) {
    called.set();
    go_on.wait();
  });
  second.add_done_callback([&](const auto&) { done.set(); });
  board::await(0, 2);
  std::vector<brood::posix::unique_fd> workers;
  for (const pid_t pid : pool.worker_pids()) workers.push_back(board::watch(pid));
  board::bump(1);
  called.wait();
  // While the pool's own thread is held up in the callback.
  board::bump(2);
  for (const auto& worker : workers) CHECK(board::ends(worker, 60s));
  pool.kill_workers();
  go_on.set();
  done.wait();
  CHECK(second.result() == 2);
}

TEST_CASE("process pool worker that crashes after shutdown fails its task and shutdown returns") {
  board::reset();
  ProcessPoolExecutor pool(1);
  auto crash = pool.submit(
      [](int n) {
        meet(n);
        ::abort();
        return n;
      },
      1);
  auto next = pool.submit(square, 2);
  pool.shutdown({.wait = false});
  board::bump(1);
  pool.shutdown();
  CHECK_THROWS_AS(crash.result(), WorkerCrashed);
  CHECK(next.result() == 4);
}

TEST_CASE("process pool whose fork server is killed fails all that is unfinished") {
  support::LeakCheck nothing_left;
  board::reset();
  ProcessPoolExecutor pool(2);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 1500; ++i) tasks.push_back(pool.submit(meet, i));
  board::await(0, 2);
  // Children of the program that hold copies of its descriptors hide nothing.
  mp::Process bystander([] { board::await(2, 1); });
  bystander.start();
  std::vector<brood::posix::unique_fd> workers;
  for (const pid_t pid : pool.worker_pids()) workers.push_back(board::watch(pid));
  ::kill(fork_server(pool), SIGKILL);
  for (auto& task : tasks)
    CHECK_THAT(message_of<futures::BrokenProcessPool>([&] { task.result(); }),
               Catch::Matchers::ContainsSubstring("fork server"));
  for (const auto& worker : workers) CHECK(board::ends(worker, 60s));
  CHECK_THROWS_AS(pool.submit(square, 1), futures::BrokenProcessPool);
  pool.kill_workers();
  pool.shutdown();
  board::bump(2);
  bystander.join();
}

TEST_CASE("process pool whose fork server is killed while idle breaks at the next task") {
  ProcessPoolExecutor pool(1);
  CHECK(pool.submit(square, 2).result() == 4);
  const pid_t pid = fork_server(pool);
  const auto server = board::watch(pid);
  const auto worker = board::watch(pool.worker_pids().at(0));
  ::kill(pid, SIGKILL);
  CHECK(board::ends(server, 60s));
  CHECK(board::ends(worker, 60s));
  CHECK_THROWS_AS(pool.submit(square, 3).result(), futures::BrokenProcessPool);
}

TEST_CASE("process pool that can start no worker says so", "[fork]") {
  const int code = board::in_child([] {
    if (::getuid() == 0) {  // root has no such limit
      if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) return 77;
      ::prctl(PR_SET_DUMPABLE, 1);  // may be asked about by its own kind
    }
    ProcessPoolExecutor pool(3);
    const rlimit none{0, 0};
    const pid_t server = support::children().begin()->first;
    if (::prlimit(server, RLIMIT_NPROC, &none, nullptr) != 0) return 77;
    auto task = pool.submit(square, 1);
    const auto text = message_of<futures::BrokenProcessPool>([&] { task.result(); });
    if (text.find("can't start a worker") == std::string::npos) return 1;
    try {
      pool.submit(square, 1);
      return 2;
    } catch (const futures::BrokenProcessPool&) {
    }
    pool.shutdown();
    return support::children().empty() ? 0 : 3;
  });
  if (code == 77) SKIP("processes can't be limited here");
  CHECK(code == 0);
}

TEST_CASE("process pool that can start no thread says so") {
  const int code = board::in_child([] {
    if (::getuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 77;
    ProcessPoolExecutor pool(3);
    rlimit before{};
    ::getrlimit(RLIMIT_NPROC, &before);
    const rlimit none{0, before.rlim_max};
    ::setrlimit(RLIMIT_NPROC, &none);
    try {
      pool.submit(square, 1);
      return 77;
    } catch (const brood::os::OSError& error) {
      if (error.code().value() != EAGAIN) return 1;
    }
    ::setrlimit(RLIMIT_NPROC, &before);
    return pool.submit(square, 3).result() == 9 ? 0 : 2;
  });
  if (code == 77) SKIP("threads can't be limited here");
  CHECK(code == 0);
}

TEST_CASE("process pool initializer that kills the worker breaks the pool in the end") {
  ProcessPoolExecutor pool({.max_workers = 1, .initializer = [] { ::_exit(0); }});
  auto task = pool.submit(square, 1);
  CHECK_THROWS_AS(task.result(), futures::BrokenProcessPool);
}

TEST_CASE("process pool leaves no worker and no server when the program is killed") {
  board::reset();
  const pid_t program = ::fork();
  if (program == 0) {
    ProcessPoolExecutor pool(3);
    mp::Process bystander([] { board::await(5, 1); });  // holds copies of its descriptors
    std::vector<Future<int>> tasks;
    for (int i = 0; i < 10; ++i) tasks.push_back(pool.submit(meet, i));
    board::await(0, 3);
    bystander.start();
    unsigned place = 10;
    board::word(place++).store(static_cast<std::uint32_t>(fork_server(pool)));
    board::word(6).store(static_cast<std::uint32_t>(bystander.pid()));
    for (const pid_t pid : pool.worker_pids())
      board::word(place++).store(static_cast<std::uint32_t>(pid));
    board::bump(4);
    ::pause();
    ::_exit(0);
  }
  REQUIRE(board::await(4, 1, 60s));
  std::vector<brood::posix::unique_fd> watched;
  for (unsigned place = 10; place < 14; ++place) {
    REQUIRE(board::get(place) != 0);
    watched.push_back(board::watch(static_cast<pid_t>(board::get(place))));
    CHECK(watched.back());
  }
  ::kill(program, SIGKILL);
  CHECK(board::reap(program) == -SIGKILL);
  for (const auto& process : watched) CHECK(board::ends(process, 60s));
  const auto bystander = board::watch(static_cast<pid_t>(board::get(6)));
  board::bump(5);
  CHECK(board::ends(bystander, 60s));  // before another test case takes the board
}

TEST_CASE("process pool goes on when Ctrl-C reaches its whole group") {
  board::reset();
  const int code = board::in_child([] {
    ::setpgid(0, 0);
    ProcessPoolExecutor pool(2);
    ::signal(SIGINT, SIG_IGN);  // the program has its own way with it
    std::vector<Future<int>> tasks;
    for (int i = 0; i < 6; ++i) tasks.push_back(pool.submit(meet, i));
    board::await(0, 2);
    for (int i = 0; i < 3; ++i) ::killpg(0, SIGINT);
    board::bump(1);
    for (int i = 0; i < 6; ++i)
      if (tasks[static_cast<std::size_t>(i)].result() != i) return 1;
    return 0;
  });
  CHECK(code == 0);
}

TEST_CASE("process pool in a forked child refuses and its end there is harmless") {
  board::reset();
  auto pool = std::make_unique<ProcessPoolExecutor>(2);
  auto running = pool->submit(meet, 7);
  auto queued = std::vector<Future<int>>{};
  for (int i = 0; i < 5; ++i) queued.push_back(pool->submit(meet, i));
  board::await(0, 2);
  const int code = board::in_child([&] {
    try {
      pool->submit(square, 1);
      return 1;
    } catch (const futures::BrokenExecutor&) {
      return 2;
    } catch (const std::runtime_error&) {
    }
    try {
      pool->map(square, std::vector{1, 2});
      return 3;
    } catch (const std::runtime_error&) {
    }
    if (queued.back().cancel()) return 4;
    if (!pool->worker_pids().empty()) return 5;
    pool->kill_workers();
    pool->shutdown();
    pool.reset();
    return 0;
  });
  CHECK(code == 0);
  board::bump(1);
  CHECK(running.result() == 7);
  for (int i = 0; i < 5; ++i) CHECK(queued[static_cast<std::size_t>(i)].result() == i);
}

TEST_CASE("process pool shuts down while a Process forked meanwhile lives") {
  board::reset();
  mp::Process process([] { board::await(3, 1); });
  {
    ProcessPoolExecutor pool(2);
    CHECK(pool.submit(square, 2).result() == 4);
    process.start();
    CHECK(pool.submit(square, 3).result() == 9);
  }
  CHECK(process.is_alive());
  board::bump(3);
  process.join();
}

TEST_CASE("process pool that lives at the end of the program finishes its tasks") {
  board::reset();
  for (const bool wait : {true, false}) {
    const pid_t program = ::fork();
    if (program == 0) {
      brood::posix::catch_exit_in_forked_child();
      auto* const pool = new ProcessPoolExecutor(2);  // never destroyed
      for (int i = 0; i < 10; ++i) pool->submit([] { board::bump(0); });
      if (!wait) pool->shutdown({.wait = false});
      std::exit(0);
    }
    CHECK(board::reap(program) == 0);
  }
  CHECK(board::get(0) == 20);
}

TEST_CASE("executors that live at the end of the program finish with the latest first") {
  board::reset();
  const pid_t program = ::fork();
  if (program == 0) {
    brood::posix::catch_exit_in_forked_child();
    auto* const processes = new ProcessPoolExecutor(1);  // never destroyed, as the other one
    auto* const threads = new futures::ThreadPoolExecutor(1);
    for (int i = 0; i < 100; ++i)
      threads->submit([processes] { processes->submit([] { board::bump(0); }).result(); });
    std::exit(0);
  }
  CHECK(board::reap(program) == 0);
  CHECK(board::get(0) == 100);
}

TEST_CASE("process pool believes no place of a result that does not lie in its memory") {
  futures::TaskTable table(2);
  using futures::Place;
  CHECK(table.holds({0, Place::in_slot}, 0));
  CHECK(table.holds({sizeof futures::Slot::small, Place::in_slot}, 0));
  CHECK_FALSE(table.holds({sizeof futures::Slot::small + 1, Place::in_slot}, 0));
  CHECK_FALSE(table.holds({100, 5}, 0));
  const std::size_t size = 3 * futures::TaskTable::unit_size;
  const auto unit = table.claim_units(size, 1);
  REQUIRE(unit);
  CHECK(table.holds({size, *unit}, 0));
  CHECK_FALSE(table.holds({size, *unit}, 1));
  CHECK_FALSE(table.holds({size + 1, *unit}, 0));
  CHECK_FALSE(table.holds({~std::uint64_t{0}, *unit}, 0));
  CHECK_FALSE(table.holds({size, ~std::uint32_t{0} - 1}, 0));
  table.free_units_of(0);
  CHECK_FALSE(table.holds({size, *unit}, 0));
}

TEST_CASE(
    "a task that closes all descriptors neither silences its worker nor lets it write to files") {
  const support::TemporaryDirectory directory;
  // Its own files get the numbers that were the worker's.
  const auto replace_all = [](const std::string& path, std::size_t result) {
    for (int fd = 3; fd < 1024; ++fd) ::close(fd);
    for (int i = 0; i < 64; ++i) ::open(path.c_str(), O_RDWR | O_CREAT, 0600);
    return std::string(result, 'x');
  };
  futures::ProcessPoolExecutor pool({.max_workers = 1});
  const std::string path = directory / "dishes";
  for (int round = 0; round < 3; ++round) {
    auto done = pool.submit(replace_all, path, std::size_t{10});
    while (!done.done()) std::this_thread::yield();
    CHECK(done.result() == "xxxxxxxxxx");
    auto large = pool.submit(replace_all, path, std::size_t{2'000'000});
    CHECK_THROWS_AS(large.result(std::chrono::seconds(60)), brood::os::OSError);
    CHECK(pool.submit([] { return 1; }).result(std::chrono::seconds(60)) == 1);
  }
  struct stat file {};
  REQUIRE(::stat(path.c_str(), &file) == 0);
  CHECK(file.st_size == 0);
}

TEST_CASE("process pool task whose copy comes back from it too has the result of the worker") {
  const auto fork_and_return = [](bool copy_throws) {
    const pid_t copy = ::fork();
    if (copy == 0) {
      if (copy_throws) throw std::runtime_error{"the copy"};
      return 1;
    }
    ::waitpid(copy, nullptr, 0);  // it ends, and takes no tasks
    return 2;
  };
  ProcessPoolExecutor pool(1);
  for (const bool copy_throws : {false, true})
    CHECK(pool.submit(fork_and_return, copy_throws).result(30s) == 2);
}
