// SPDX-License-Identifier: MIT
// Limits on time and memory of tasks, and what is told of a crash.
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <brood/futures.hpp>
#include <brood/posix/sanitizers.hpp>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_methods.hpp"
#include "support/tasks.hpp"

namespace futures = brood::futures;
using brood::posix::sanitized;
using futures::Future;
using futures::OnCrash;
using futures::ProcessPoolExecutor;
using futures::TaskTimeout;
using futures::WorkerCrashed;
using support::meet;
using support::square;
using namespace std::chrono_literals;

namespace {

int endless(int n) {
  board::bump(0);
  for (;;) ::pause();
  return n;
}

constexpr std::chrono::milliseconds soon{50};  // a limit that comes
constexpr auto never = 10min;                  // and one that doesn't

std::vector<char> bytes_of(std::size_t size) { return std::vector<char>(size); }
std::size_t take(std::size_t size) { return bytes_of(size).size(); }

}  // namespace

TEST_CASE("process pool task that runs past its limit fails alone and its worker is replaced") {
  board::reset();
  ProcessPoolExecutor pool(2);
  auto slow = pool.submit({.timeout = soon}, endless, 1);
  std::vector<Future<int>> others;
  for (int i = 0; i < 20; ++i) others.push_back(pool.submit({.timeout = never}, square, i));
  try {
    slow.result();
    FAIL("it must throw");
  } catch (const TaskTimeout& timeout) {
    CHECK(timeout.limit() == soon);
    CHECK(timeout.pid() > 0);
    CHECK_THAT(timeout.function(), Catch::Matchers::ContainsSubstring("int"));
    CHECK_THAT(timeout.what(), Catch::Matchers::ContainsSubstring("0.05 s"));
    const auto pids = pool.worker_pids();
    CHECK(std::find(pids.begin(), pids.end(), timeout.pid()) == pids.end());
  }
  CHECK_THROWS_AS(slow.result(), futures::TimeoutError);
  CHECK_THROWS_AS(slow.result(), std::runtime_error);
  for (int i = 0; i < 20; ++i) CHECK(others[static_cast<std::size_t>(i)].result() == i * i);
  CHECK(pool.submit(square, 3).result() == 9);
}

TEST_CASE("process pool limit of a task counts from its start") {
  board::reset();
  ProcessPoolExecutor pool(1);
  auto first = pool.submit(meet, 1);
  board::await(0, 1);
  auto queued = pool.submit({.timeout = 30s}, square, 2);
  auto slow = pool.submit({.timeout = soon}, endless, 3);
  CHECK_FALSE(slow.state()->wait(brood::posix::Deadline{4 * soon}));
  board::bump(1);
  CHECK(first.result() == 1);
  CHECK(queued.result() == 4);
  CHECK_THROWS_AS(slow.result(), TaskTimeout);
}

TEST_CASE("process pool limit of its options holds for tasks that have none of their own") {
  board::reset();
  ProcessPoolExecutor pool({.max_workers = 2, .task_timeout = soon});
  auto slow = pool.submit(endless, 1);
  auto longer = pool.submit({.timeout = never}, meet, 2);
  CHECK_THROWS_AS(slow.result(), TaskTimeout);
  board::bump(1);
  CHECK(longer.result() == 2);
  CHECK(support::with_some_limit(soon, [](auto limit) {
    ProcessPoolExecutor limited({.max_workers = 2, .task_timeout = limit});
    auto mapped = limited.map(
        [](int n) {
          if (n == 2) endless(n);
          return n;
        },
        std::vector{0, 1, 2, 3});
    std::vector<int> got;
    for (auto it = mapped.begin(); it != mapped.end(); ++it) {
      try {
        got.push_back(*it);
      } catch (const TaskTimeout&) {
        got.push_back(-1);
      }
    }
    return got == std::vector{0, 1, -1, 3};
  }));
}

TEST_CASE("process pool limits of many tasks end each one that is late and no other") {
  ProcessPoolExecutor pool(3);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 60; ++i)
    tasks.push_back(pool.submit(
        {.timeout = i % 6 == 0 ? brood::Timeout{1ms * (i + 1)} : brood::Timeout{never}},
        [](int n) {
          while (n % 6 == 0) ::pause();
          return n;
        },
        i));
  for (int i = 0; i < 60; ++i) {
    const auto& task = tasks[static_cast<std::size_t>(i)];
    if (i % 6 == 0)
      CHECK_THROWS_AS(task.result(), TaskTimeout);
    else
      CHECK(task.result() == i);
  }
}

TEST_CASE("process pool task that ends near its limit has a result or a timeout") {
  ProcessPoolExecutor pool(2);
  int timeouts = 0;
  for (int i = 0; i < 60; ++i) {
    auto task = pool.submit(
        {.timeout = 2ms},
        [](int n) {
          const timespec nap{0, n % 2 == 0 ? 2'000'000 - 200'000 : 2'000'000};
          ::nanosleep(&nap, nullptr);
          return n;
        },
        i);
    auto other = pool.submit(square, i);
    int result = i;
    try {
      result = task.result();
    } catch (const TaskTimeout&) {
      ++timeouts;
    }
    CHECK(result == i);
    CHECK(other.result() == i * i);
  }
  INFO(timeouts << " timeouts");
  CHECK(pool.submit(square, 3).result() == 9);
}

TEST_CASE("process pool task with no time at all is ended") {
  board::reset();
  ProcessPoolExecutor pool(1);
  CHECK_THROWS_AS(pool.submit({.timeout = 0s}, endless, 1).result(), TaskTimeout);
  CHECK_THROWS_AS(pool.submit({.timeout = -5s}, endless, 1).result(), TaskTimeout);
  CHECK(pool.submit({.timeout = std::chrono::hours{24 * 365 * 400}}, square, 3).result() == 9);
}

TEST_CASE("process pool timeout ends the processes that the task has started too") {
  board::reset();
  ProcessPoolExecutor pool(1);
  auto task = pool.submit({.timeout = 200ms}, [] {
    const pid_t child = ::fork();
    if (child == 0) {
      const pid_t grandchild = ::fork();
      if (grandchild == 0) {
        ::setsid();
        board::word(3).store(static_cast<std::uint32_t>(::getpid()));
        board::bump(0);
        for (;;) ::pause();
      }
      board::word(2).store(static_cast<std::uint32_t>(::getpid()));
      board::bump(0);
      for (;;) ::pause();
    }
    for (;;) ::pause();
  });
  // On a machine so slow that the limit comes first there is nothing to be seen.
  std::vector<brood::posix::unique_fd> descendants;
  if (board::await(0, 2, 150ms))
    for (const unsigned who : {2u, 3u})
      descendants.push_back(board::watch(static_cast<pid_t>(board::get(who))));
  CHECK_THROWS_AS(task.result(), TaskTimeout);
  for (const auto& descendant : descendants) CHECK(board::ends(descendant, 30s));
}

TEST_CASE("process pool that is shut down still ends tasks that run too long") {
  support::LeakCheck nothing_left;
  board::reset();
  ProcessPoolExecutor pool({.max_workers = 2, .task_timeout = soon});
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 5; ++i) tasks.push_back(pool.submit(endless, i));
  pool.shutdown();
  for (const auto& task : tasks) CHECK_THROWS_AS(task.result(), TaskTimeout);
}

TEST_CASE("process pool timeout does not break a pool that crashes break") {
  board::reset();
  ProcessPoolExecutor pool({.max_workers = 1, .on_crash = OnCrash::break_pool});
  auto slow = pool.submit({.timeout = soon}, endless, 1);
  auto next = pool.submit(square, 2);
  CHECK_THROWS_AS(slow.result(), TaskTimeout);
  CHECK(next.result() == 4);
}

TEST_CASE("process pool whose worker dies is broken when it is to be") {
  support::LeakCheck nothing_left;
  board::reset();
  ProcessPoolExecutor pool({.max_workers = 2, .on_crash = OnCrash::break_pool});
  auto other = pool.submit(meet, 1);
  board::await(0, 1);
  auto crash = pool.submit([] {
    board::bump(0);
    board::await(2, 1);
    ::_exit(3);
  });
  board::await(0, 2);
  std::vector<Future<int>> queued;
  for (int i = 0; i < 1500; ++i) queued.push_back(pool.submit(square, i));
  board::bump(2);
  CHECK_THROWS_AS(crash.result(), WorkerCrashed);
  for (const auto& task : queued) {
    try {
      task.result();
      FAIL("it must throw");
    } catch (const WorkerCrashed&) {
      FAIL("that one did not run");
    } catch (const futures::BrokenProcessPool&) {
    }
  }
  CHECK_THROWS_AS(other.result(), futures::BrokenProcessPool);
  CHECK_THROWS_AS(pool.submit(square, 1), futures::BrokenProcessPool);
  pool.shutdown();
}

TEST_CASE("process pool with a memory limit gives bad_alloc to a task that wants more") {
  if (sanitized) SKIP("a sanitizer takes more memory than any limit would leave");
  constexpr std::size_t mib = 1 << 20;
  ProcessPoolExecutor pool({.max_workers = 1, .memory_limit = 64 * mib});
  for (int round = 0; round < 3; ++round) {
    CHECK_THROWS_AS(pool.submit(take, 80 * mib).result(), std::bad_alloc);
    CHECK(pool.submit(take, 40 * mib).result() == 40 * mib);
  }
  CHECK_THROWS_AS(pool.submit([] {
                        std::vector<std::string> texts;
                        for (;;) texts.push_back(std::string(1000, 'x'));
                      })
                      .result(),
                  std::bad_alloc);
  // What is shared does not count.
  CHECK(pool.submit(
                [](std::size_t size) {
                  void* const shared = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
                  return shared != MAP_FAILED && ::munmap(shared, size) == 0;
                },
                200 * mib)
            .result());
  CHECK(pool.submit([] { return ::getpid(); }).result() == pool.worker_pids().at(0));
}

TEST_CASE("process pool memory limit counts what a worker takes and not what it inherits") {
  if (sanitized) SKIP("a sanitizer takes more memory than any limit would leave");
  constexpr std::size_t mib = 1 << 20;
  std::vector<char> inherited(300 * mib);
  ProcessPoolExecutor pool({.max_workers = 2, .memory_limit = 64 * mib});
  CHECK(pool.submit(take, 40 * mib).result() == 40 * mib);
  CHECK_THROWS_AS(pool.submit(take, 80 * mib).result(), std::bad_alloc);
  // Its replacement has the same.
  CHECK_THROWS_AS(pool.submit([] { ::_exit(1); }).result(), WorkerCrashed);
  CHECK(pool.submit(take, 40 * mib).result() == 40 * mib);
  CHECK_THROWS_AS(pool.submit(take, 80 * mib).result(), std::bad_alloc);
}

TEST_CASE("process pool messages name the option and its value") {
  const auto message = [](auto make) {
    try {
      make();
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  CHECK(message([] { ProcessPoolExecutor pool(-2); }) ==
        "process pool: max_workers must be 1 to 4095, not -2");
  CHECK(message([] { ProcessPoolExecutor pool({.max_workers = 4096}); }) ==
        "process pool: max_workers must be 1 to 4095, not 4096");
  CHECK(message([] { ProcessPoolExecutor pool({.max_tasks_per_child = -3}); }) ==
        "process pool: max_tasks_per_child must be at least 1, not -3");
  CHECK(message([] { ProcessPoolExecutor pool({.memory_limit = 0}); }) ==
        "process pool: memory_limit must be at least 1, not 0");
}

TEST_CASE("process pool takes all its options at once and in their order") {
  board::reset();
  ProcessPoolExecutor pool({.max_workers = 1,
                            .start_method = brood::multiprocessing::get_start_method(),
                            .initializer = [] { board::bump(0); },
                            .max_tasks_per_child = 1,
                            .task_timeout = 60s,
                            .memory_limit = 1 << 30,
                            .on_crash = OnCrash::fail_task});
  CHECK(pool.submit(square, 3).result() == 9);
  CHECK(pool.submit({.timeout = 50s}, square, 4).result() == 16);
  CHECK(board::get(0) >= 2);
}

TEST_CASE("process pool tells where a worker crashed") {
  if (sanitized) SKIP("a sanitizer handles the signals of a crash itself");
  ProcessPoolExecutor pool(1);
  const auto crash_of = [](const Future<int>& future) {
    try {
      future.result();
    } catch (const WorkerCrashed& crash) {
      return std::pair{crash.signal().value_or(0), crash.backtrace()};
    }
    return std::pair{-1, std::string()};
  };
  const auto names_program = Catch::Matchers::ContainsSubstring("test_futures_process_pool_limits");
  const auto [fault, where] = crash_of(
      pool.submit([](std::uintptr_t address) { return *reinterpret_cast<volatile int*>(address); },
                  std::uintptr_t{16}));
  CHECK(fault == SIGSEGV);
  // The first line is where it was, and no part of the handler.
  CHECK_THAT(where.substr(0, where.find('\n')), names_program);
  const auto [aborted, abort_trace] = crash_of(pool.submit([]() -> int { ::abort(); }));
  CHECK(aborted == SIGABRT);
  CHECK_THAT(abort_trace, Catch::Matchers::ContainsSubstring("abort") && names_program);
  const auto [sent, sent_trace] =
      crash_of(pool.submit([] { return ::kill(::getpid(), SIGSEGV) + 1; }));
  CHECK(sent == SIGSEGV);
  CHECK_FALSE(sent_trace.empty());
  const auto [killed, no_trace] =
      crash_of(pool.submit([] { return ::kill(::getpid(), SIGKILL) + 1; }));
  CHECK(killed == SIGKILL);
  CHECK(no_trace.empty());
  const auto [code, exit_trace] = crash_of(pool.submit([]() -> int { ::_exit(2); }));
  CHECK(code == 0);
  CHECK(exit_trace.empty());
}

TEST_CASE("process pool tells where a worker was whose stack has run over") {
  if (sanitized) SKIP("a sanitizer handles the signals of a crash itself");
  ProcessPoolExecutor pool(1);
  struct Deep {
    int operator()(int n) const {
      volatile char frame[16384];
      frame[n % 100] = 1;
      return n < 0 ? frame[0] : (*this)(n + 1) + frame[n % 7];
    }
  };
  try {
    pool.submit(Deep{}, 1).result();
    FAIL("it must throw");
  } catch (const WorkerCrashed& crash) {
    CHECK(crash.signal() == SIGSEGV);
    CHECK_FALSE(crash.backtrace().empty());
  }
}

TEST_CASE("process pool worker keeps to the program's own way with a crash", "[fork]") {
  if (sanitized) SKIP("a sanitizer handles the signals of a crash itself");
  // In a child, as the handler would be of use to nobody else.
  const int code = board::in_child([] {
    board::reset();
    struct sigaction action {};
    action.sa_handler = [](int) {
      board::bump(4);
      ::_exit(42);
    };
    ::sigaction(SIGSEGV, &action, nullptr);
    ProcessPoolExecutor pool(1);
    try {
      pool.submit([](std::uintptr_t at) { return *reinterpret_cast<volatile int*>(at); },
                  std::uintptr_t{16})
          .result();
    } catch (const WorkerCrashed& crash) {
      struct sigaction now {};
      ::sigaction(SIGSEGV, nullptr, &now);
      const bool untouched = now.sa_handler == action.sa_handler;
      return crash.exitcode() == 42 && board::get(4) == 1 && untouched ? 0 : 1;
    }
    return 2;
  });
  CHECK(code == 0);
}
