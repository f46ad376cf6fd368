// SPDX-License-Identifier: MIT
// The memory that large arguments and results cross by.
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <brood/futures.hpp>
#include <brood/futures/process_pool.hpp>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/failing_calls.hpp"
#include "support/patience.hpp"
#include "support/tasks.hpp"

namespace futures = brood::futures;
using futures::Future;
using futures::ProcessPoolExecutor;
using futures::TaskTable;

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

std::size_t bytes_of(int fd) {
  struct stat status {};
  REQUIRE(::fstat(fd, &status) == 0);
  return static_cast<std::size_t>(status.st_blocks) * 512;
}

// What the only pool of this process has taken of the machine's memory for its tasks.
std::size_t bytes_of_pool() {
  std::size_t bytes = 0;
  DIR* const files = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(files)) {
    char target[64] = {};
    if (::readlinkat(::dirfd(files), entry->d_name, target, sizeof target - 1) > 0 &&
        std::string{target}.find("brood-tasks") != std::string::npos)
      bytes += bytes_of(std::atoi(entry->d_name));
  }
  ::closedir(files);
  return bytes;
}

}  // namespace

TEST_CASE("process pool table has room for large data while it is trimmed") {
  TaskTable table(1);
  constexpr std::size_t units = 8;
  std::atomic<bool> trimmed{false};
  std::thread trimmer([&] {
    for (int i = 0; i < 5000; ++i) table.trim();
    trimmed = true;
  });
  int refused = 0;
  while (!trimmed) {
    const auto first = table.claim_units(5 * TaskTable::unit_size, TaskTable::pool, units);
    if (first)
      table.free_units(*first, 5 * TaskTable::unit_size);
    else
      ++refused;
  }
  trimmer.join();
  CHECK(refused == 0);
}

TEST_CASE("process pool table has room for one of two that look for the last of it at once") {
  TaskTable table(1);
  constexpr std::size_t units = 800, size = 500 * TaskTable::unit_size;
  constexpr int rounds = 1000;
  std::atomic<int> begun{0}, claims{0};
  int wrong = 0;
  // Both begin a round together, and end it together.
  const auto meet = [&begun](int round) {
    ++begun;
    while (begun < 2 * round) ::sched_yield();
  };
  const auto look = [&](bool judges) {
    for (int round = 0; round < rounds; ++round) {
      meet(3 * round + 1);
      const auto first = table.claim_units(size, TaskTable::pool, units);
      if (first) ++claims;
      meet(3 * round + 2);
      if (judges && claims.exchange(0) != 1) ++wrong;
      if (first) table.free_units(*first, size);
      meet(3 * round + 3);
    }
  };
  std::thread other([&] { look(false); });
  look(true);
  other.join();
  CHECK(wrong == 0);
}

TEST_CASE("process pool table knows what memory it has when its descriptor is closed") {
  TaskTable table(1);
  const auto first = table.claim_units(3 * mib, TaskTable::pool);
  REQUIRE(first);
  table.free_units(*first, 3 * mib);
  const int file = table.file();
  const int kept = ::dup(file);
  REQUIRE(::close(file) == 0);
  table.trim();
  // It is there still, and can be claimed without the descriptor.
  CHECK(table.claim_units(3 * mib, TaskTable::pool));
  REQUIRE(::dup2(kept, file) == file);
  ::close(kept);
}

TEST_CASE("process pool table keeps memory that is let go until it is trimmed") {
  TaskTable table(1);
  const std::size_t before = bytes_of(table.file());
  const auto first = table.claim_units(3 * mib, TaskTable::pool);
  const auto second = table.claim_units(2 * mib + 5, 1);
  REQUIRE(first);
  REQUIRE(second);
  const std::size_t taken = bytes_of(table.file());
  CHECK(taken >= before + 5 * mib);
  CHECK(taken <= before + 6 * mib);
  table.free_units(*first, 3 * mib);
  CHECK(bytes_of(table.file()) == taken);
  CHECK(table.claim_units(3 * mib, TaskTable::pool) == first);
  CHECK(bytes_of(table.file()) == taken);
  table.free_units(*first, 3 * mib);
  table.trim();
  CHECK(bytes_of(table.file()) <= taken - 3 * mib);  // what is claimed stays
  CHECK(table.holds({2 * mib + 5, *second}, 0));
  table.free_units_of(0);
  CHECK_FALSE(table.holds({2 * mib + 5, *second}, 0));
  table.trim();
  CHECK(bytes_of(table.file()) == before);
}

TEST_CASE("process pool table keeps no more memory than a bound") {
  TaskTable table(1);
  const auto far = table.claim_units(200 * mib, TaskTable::pool);
  REQUIRE(far);
  table.free_units(*far, 200 * mib);
  CHECK(bytes_of(table.file()) < 10 * mib);
  CHECK_FALSE(table.claim_units(3 * mib, TaskTable::pool, 40));  // below the 41st unit
  const auto near = table.claim_units(2 * mib, TaskTable::pool, 40);
  CHECK(near == 0u);
}

TEST_CASE("process pool carries very large values of every alignment") {
  ProcessPoolExecutor pool(1);
  std::vector<int> numbers(9 * mib);
  std::iota(numbers.begin(), numbers.end(), 0);
  const std::string text(33 * mib, 'x');
  const auto sum = [](char, std::vector<int> all, std::string more) {
    return std::pair{std::accumulate(all.begin(), all.end(), 0L), more};
  };
  const auto expected = std::accumulate(numbers.begin(), numbers.end(), 0L);
  for (const char shift : {'a', 'b'}) {
    const auto [total, back] = pool.submit(sum, shift, numbers, text).result();
    CHECK(total == expected);
    CHECK(back == text);
  }
  const auto same = [](std::vector<int> all) { return all; };
  CHECK(pool.submit(same, numbers).result() == numbers);
}

TEST_CASE("process pool lets go of large arguments that no worker took") {
  board::reset();
  ProcessPoolExecutor pool(1);
  const auto running = pool.submit(support::gate);
  board::await(0, 1);
  const std::size_t before = bytes_of_pool();
  const std::string large = std::string(4 * mib, 'x');
  for (int round = 0; round < 60; ++round) {  // more than is kept, if it were lost
    const auto waiting = pool.submit([](const std::string& s) { return s.size(); }, large);
    CHECK(waiting.cancel());
  }
  CHECK(bytes_of_pool() <= before + 9 * mib);
  board::bump(1);
  running.result();
  pool.shutdown();
  for (int round = 0; round < 60; ++round)
    CHECK_THROWS_AS(pool.submit([](const std::string& s) { return s.size(); }, large),
                    std::runtime_error);
  CHECK(bytes_of_pool() <= before + 9 * mib);
}

TEST_CASE("process pool with many large tasks that wait serves all of them") {
  board::reset();
  ProcessPoolExecutor pool(2);
  const std::string large = std::string(2 * mib, 'x');
  std::vector<Future<std::string>> tasks;
  for (int i = 0; i < 100; ++i)
    tasks.push_back(
        pool.submit([](std::string text, int n) { return text + std::to_string(n); }, large, i));
  int wrong = 0;
  for (int i = 0; i < 100; ++i)
    if (tasks[static_cast<std::size_t>(i)].result() != large + std::to_string(i)) ++wrong;
  CHECK(wrong == 0);
}

TEST_CASE("process pool large task that is dropped in a forked child harms nobody") {
  board::reset();
  ProcessPoolExecutor pool(1);
  const auto running = pool.submit(support::gate);
  board::await(0, 1);
  const std::string large = std::string(4 * mib, 'x');
  std::vector<Future<std::string>> waiting;
  for (int i = 0; i < 4; ++i)
    waiting.push_back(pool.submit([](std::string text) { return text; }, large));
  const pid_t child = ::fork();
  if (child == 0) {
    waiting.clear();
    ::_exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  board::bump(1);
  running.result();
  for (const auto& task : waiting) CHECK(task.result() == large);
}

TEST_CASE("a callback cannot cancel a task that has just turned out too large for the pool") {
  board::reset();
  const int code = board::in_child([] {
    // The pool has room for 32 MiB then.
    const rlimit small{64 * mib, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &small);
    ProcessPoolExecutor pool(1);
    const auto size = [](const std::string& text) { return text.size(); };
    const auto first = pool.submit([] { board::await(0, 1); });
    // They wait for the first to give memory back, and are given up together when it has.
    const std::string large(40 * mib, 'x');
    const auto second = pool.submit(size, large);
    const auto third = pool.submit(size, large);
    bool cancelled = false;
    second.add_done_callback([&](const auto&) { cancelled = third.cancel(); });
    board::bump(0);
    first.result(std::chrono::seconds{60});
    if (!third.exception(std::chrono::seconds{60})) return 1;
    if (cancelled) return 2;
    pool.shutdown();
    return 0;
  });
  CHECK(code == 0);
}

TEST_CASE("process pool that cannot limit the memory of its workers says so") {
  if (brood::posix::sanitized) SKIP("there are no limits then");
  std::string said;
  // Some call of open() is a worker's.
  for (int nth = 1; nth < 30 && said.find("memory_limit") == std::string::npos; ++nth) {
    const support::FailingCall no_file{"open", nth, ENOENT};
    try {
      ProcessPoolExecutor executor({.max_workers = 1, .memory_limit = 1 << 30});
      executor.submit([] {}).result(support::patience);
    } catch (const std::exception& error) {
      said = error.what();
    }
  }
  CHECK_THAT(said, Catch::Matchers::ContainsSubstring(
                       "a worker of the process pool failed: brood::os::FileNotFoundError: "
                       "memory_limit: learn from /proc/self/status"));
}

TEST_CASE("process pool futures become done whichever allocation fails") {
  const auto kill_itself = [] { ::raise(SIGKILL); };
  const std::string large(300'000, 'l');
  const auto size_of = [](const std::string& text) { return text.size(); };
  std::atomic<int> called_back{0};
  int submitted_with_callback = 0;
  bool all_done = true;
  const auto becomes_done = [](const auto& future) {
    try {
      future.exception(support::patience);
      return true;
    } catch (const futures::TimeoutError&) {
      return false;
    }
  };
  bool has_failed = true;
  for (int nth = 1; has_failed && nth < 300; ++nth) {
    ProcessPoolExecutor executor(2);
    std::vector<Future<int>> numbers;
    std::vector<Future<std::size_t>> sizes;
    std::vector<Future<void>> killed;
    numbers.reserve(100);
    sizes.reserve(1);
    killed.reserve(1);
    {
      const support::FailingCall allocation{"new", nth, ENOMEM};
      const auto survives = [](const auto& f) {
        try {
          f();
        } catch (const std::exception&) {  // the lack of memory, or a pool that broke for it
        }
      };
      for (int i = 0; i < 3; ++i)
        survives([&] {
          numbers.push_back(executor.submit([](int n) { return n; }, i));
          numbers.back().add_done_callback([&](auto) { ++called_back; });
          ++submitted_with_callback;
        });
      survives([&] { sizes.push_back(executor.submit(size_of, large)); });
      survives([&] { numbers.front().result(support::patience); });
      survives([&] { killed.push_back(executor.submit(kill_itself)); });
      survives([&] {
        for (const int n : executor.map(
                 {.timeout = support::patience, .chunksize = 4}, [](int n) { return n; },
                 std::vector<int>(20, 7)))
          if (n != 7) std::abort();
      });
      for (const auto& future : numbers) all_done &= becomes_done(future);
      for (const auto& future : sizes) all_done &= becomes_done(future);
      for (const auto& future : killed) all_done &= becomes_done(future);
      has_failed = allocation.has_failed();
    }
    REQUIRE(all_done);
  }
  CHECK_FALSE(has_failed);
  CHECK(called_back.load() == submitted_with_callback);
}
