// SPDX-License-Identifier: MIT
// Who collects a result: the thread that waits for it, or the pool's own.
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <brood/futures.hpp>
#include <brood/futures/process_pool.hpp>
#include <brood/threading.hpp>
#include <random>
#include <string>
#include <vector>

#include "support/alarms.hpp"
#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/crew.hpp"
#include "support/leaks.hpp"
#include "support/sleepers.hpp"
#include "support/tasks.hpp"

namespace futures = brood::futures;
using futures::Future;
using futures::ProcessPoolExecutor;
using futures::WorkerCrashed;
using support::Crew;
using support::meet;
using support::square;
using namespace std::chrono_literals;

namespace {

int nap_us(int n) {
  const timespec time{0, n * 1000L};
  ::nanosleep(&time, nullptr);
  return n;
}
std::string repeat(int n, std::size_t size) { return std::string(size, static_cast<char>(n)); }

pid_t fork_server() {
  const auto found = support::children();
  return found.size() == 1 ? found.begin()->first : -1;
}

// What result() of it does in another thread: 0 its value, 1 WorkerCrashed, 2 BrokenProcessPool, 3
// CancelledError, 4 anything else.
template <class T>
int how_it_ends(const Future<T>& future) {
  try {
    future.result(60s);
    return 0;
  } catch (const WorkerCrashed&) {
    return 1;
  } catch (const futures::BrokenProcessPool&) {
    return 2;
  } catch (const futures::CancelledError&) {
    return 3;
  } catch (...) {
    return 4;
  }
}

}  // namespace

TEST_CASE("process pool serves threads that each wait for one task at a time") {
  ProcessPoolExecutor pool(2);
  std::atomic<int> wrong{0};
  Crew crew;
  crew.add(4, [&] {
    for (int i = 0; i < 250; ++i) {
      if (pool.submit(square, i).result() != i * i) ++wrong;
      if (i % 50 == 0 &&
          pool.submit(repeat, i, std::size_t{100'000}).result() != repeat(i, 100'000))
        ++wrong;
    }
  });
  REQUIRE(crew.join());
  CHECK(wrong == 0);
}

TEST_CASE("process pool task that several threads wait for ends all their waits") {
  for (int round = 0; round < 5; ++round) {
    board::reset();
    ProcessPoolExecutor pool(2);
    const auto task = pool.submit(meet, 7);
    std::atomic<int> right{0};
    Crew crew;
    const int before = support::sleepers();
    crew.add(4, [&, task] {
      if (task.result() == 7) ++right;
    });
    support::await_sleepers(before + 4);
    board::bump(1);
    REQUIRE(crew.join());
    CHECK(right == 4);
  }
}

TEST_CASE("process pool map whose items several threads wait for gives all of them") {
  ProcessPoolExecutor pool(2);
  const std::vector<int> numbers{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  std::atomic<int> wrong{0};
  Crew crew;
  crew.add(3, [&] {
    for (int round = 0; round < 20; ++round) {
      int expected = 1;
      for (const int n : pool.map({.chunksize = 5}, square, numbers)) {
        if (n != expected * expected) ++wrong;
        ++expected;
      }
    }
  });
  REQUIRE(crew.join());
  CHECK(wrong == 0);
}

TEST_CASE("process pool callback never runs in a thread that waits for the same task") {
  brood::posix::Mutex lock;
  for (int round = 0; round < 20; ++round) {
    board::reset();
    ProcessPoolExecutor pool(1);
    const auto task = pool.submit(meet, 3);
    std::atomic<int> called{0};
    std::atomic<int> result{0};
    const auto add_callback = [&] {
      task.add_done_callback([&](const Future<int>& done) {
        const brood::posix::Locked needed{lock};
        called += done.result();
      });
    };
    if (round % 2 == 0) add_callback();
    Crew crew;
    const int before = support::sleepers();
    crew.add(1, [&] {
      const brood::posix::Locked held{lock};  // which the callback needs too
      result = task.result();
    });
    support::await_sleepers(before + 1);
    if (round % 2 != 0) add_callback();  // while it sleeps
    board::bump(1);
    REQUIRE(crew.join());
    pool.shutdown();  // callbacks have run by then
    CHECK(result == 3);
    CHECK(called == 3);
  }
}

TEST_CASE("process pool callback may wait for another task of the pool") {
  ProcessPoolExecutor pool(2);
  const Future<int> sum;
  pool.submit(square, 3).add_done_callback([&](const Future<int>& done) {
    sum.set_result(done.result() + pool.submit(square, 4).result());
  });
  const auto then = pool.submit(square, 5).then([](int n) { return n + 1; });
  CHECK(then.result() == 26);
  CHECK(sum.result(support::patience) == 25);
}

TEST_CASE("process pool wait with a limit gives up and another one gets the result") {
  ProcessPoolExecutor pool(2);
  std::mt19937 random(7);
  int called = 0;
  for (int i = 0; i < 300; ++i) {
    const auto task = pool.submit(nap_us, static_cast<int>(random() % 60));
    for (;;) {
      try {
        task.result(std::chrono::microseconds{random() % 100});
        break;
      } catch (const futures::TimeoutError&) {  // then once more
      }
    }
    if (i % 3 == 0) task.add_done_callback([&](const Future<int>&) { ++called; });
    CHECK(task.done());
  }
  CHECK(called == 100);
}

TEST_CASE("process pool result that comes after a wait gave up reaches the callback") {
  board::reset();
  ProcessPoolExecutor pool(1);
  const auto task = pool.submit(meet, 5);
  board::await(0, 1);
  CHECK_THROWS_AS(task.result(1ms), futures::TimeoutError);
  board::bump(1);
  task.add_done_callback([](const Future<int>&) { board::bump(2); });
  REQUIRE(board::await(2, 1, support::patience));  // nobody waits for the task itself
  CHECK(task.result() == 5);
}

TEST_CASE("process pool wait for a task that is cancelled ends") {
  board::reset();
  ProcessPoolExecutor pool(1);
  const auto running = pool.submit(meet, 1);
  board::await(0, 1);
  for (int round = 0; round < 20; ++round) {
    const auto queued = pool.submit(square, 2);
    std::atomic<int> end{-1};
    Crew crew;
    const int before = support::sleepers();
    crew.add(1, [&] { end = how_it_ends(queued); });
    support::await_sleepers(before + 1);
    CHECK(queued.cancel());
    REQUIRE(crew.join());
    CHECK(end == 3);
  }
  board::bump(1);
  CHECK(running.result() == 1);
}

TEST_CASE("process pool wait ends when the worker or the fork server is killed") {
  for (const bool server : {false, true}) {
    board::reset();
    ProcessPoolExecutor pool(1);
    const auto task = pool.submit(meet, 1);
    board::await(0, 1);
    std::atomic<int> end{-1};
    Crew crew;
    const int before = support::sleepers();
    crew.add(1, [&] { end = how_it_ends(task); });
    support::await_sleepers(before + 1);
    const pid_t victim = server ? fork_server() : pool.worker_pids().at(0);
    REQUIRE(victim > 0);
    REQUIRE(::kill(victim, SIGKILL) == 0);
    REQUIRE(crew.join());
    CHECK(end == (server ? 2 : 1));
  }
}

TEST_CASE("process pool thread is woken though the worker died before it could") {
  futures::TaskTable table(1);
  futures::Slot& slot = table.slot(0);
  constexpr std::uint64_t ticket = 5;
  for (int round = 0; round < 20; ++round) {
    slot.waiter = futures::SlotWaiter::awake(ticket);
    std::atomic<bool> over{false};
    Crew crew;
    const int before = support::sleepers();
    crew.add(1, [&] {
      brood::sync::Patience none{false};
      over = table.wait_for(slot, ticket, none, brood::posix::Deadline{brood::forever});
    });
    support::await_sleepers(before + 1);
    while (slot.waiter != futures::SlotWaiter::asleep(ticket)) ::sched_yield();
    slot.waiter = futures::SlotWaiter::told(ticket);  // the worker's last deed
    table.dismiss_waiter(slot);
    REQUIRE(crew.join());
    CHECK(over);
    CHECK(slot.waiter == futures::SlotWaiter::none);
  }
}

TEST_CASE("process pool task whose time is up ends the wait for it") {
  ProcessPoolExecutor pool(1);
  const auto slow = pool.submit({.timeout = 20ms}, [] { ::pause(); });
  CHECK_THROWS_AS(slow.result(), futures::TaskTimeout);
  CHECK(pool.submit({.timeout = 60s}, square, 3).result() == 9);
}

TEST_CASE("process pool waits are not ended by signals") {
  support::Alarms alarms;
  ProcessPoolExecutor pool(2);
  alarms.every(500);
  int wrong = 0;
  for (int i = 0; i < 50; ++i)
    if (pool.submit(nap_us, 1000 + i).result() != 1000 + i) ++wrong;
  alarms.every(0);
  CHECK(wrong == 0);
  CHECK(alarms.count() > 0);
}

TEST_CASE("process pool shuts down while other threads wait for its last tasks") {
  for (int round = 0; round < 20; ++round) {
    ProcessPoolExecutor pool(2);
    std::atomic<int> called{0};
    std::atomic<int> right{0};
    std::vector<Future<int>> tasks;
    for (int i = 0; i < 4; ++i) {
      tasks.push_back(pool.submit(nap_us, 100 * i));
      tasks.back().add_done_callback([&](const Future<int>&) { ++called; });
      tasks.push_back(pool.submit(square, i));
    }
    Crew crew;
    crew.add(2, [&] {
      for (const auto& task : tasks)
        if (task.result() >= 0) ++right;
    });
    pool.shutdown();
    CHECK(called == 4);
    for (const auto& task : tasks) CHECK(task.done());
    REQUIRE(crew.join());
    CHECK(right == 16);
  }
}

TEST_CASE("process pool as_completed and callbacks get what other threads wait for as well") {
  ProcessPoolExecutor pool(2);
  for (int round = 0; round < 10; ++round) {
    std::vector<Future<int>> tasks;
    for (int i = 0; i < 60; ++i) tasks.push_back(pool.submit(square, i));
    std::atomic<int> called{0};
    for (std::size_t i = 0; i < 60; i += 3)
      tasks[i].add_done_callback([&](const Future<int>&) { ++called; });
    std::atomic<int> wrong{0};
    Crew crew;
    crew.add(1, [&] {
      for (int i = 59; i >= 0; --i)
        if (tasks[static_cast<std::size_t>(i)].result() != i * i) ++wrong;
    });
    crew.add(1, [&] {
      for (int i = 0; i < 60; ++i)
        if (tasks[static_cast<std::size_t>(i)].result() != i * i) ++wrong;
    });
    int sum = 0;
    for (const auto& task : futures::as_completed(tasks)) sum += task.result();
    CHECK(sum == 70210);
    REQUIRE(crew.join());
    CHECK(wrong == 0);
    while (called < 20) ::sched_yield();  // the pool's own thread may be at it still
  }
}

TEST_CASE("process pool comes out of kills while threads wait for one task each") {
  support::LeakCheck nothing_left;
  ProcessPoolExecutor pool(3);
  pool.submit(square, 1).result();
  constexpr int kills = 40;
  std::atomic<bool> over{false};
  std::atomic<int> wrong{0};
  std::atomic<int> crashes{0};
  std::atomic<unsigned> seed{1};
  Crew crew;
  crew.add(3, [&] {
    std::mt19937 random(seed++);
    while (!over) {
      const int n = static_cast<int>(random() % 100);
      const std::size_t size = n % 10 == 0 ? 150'000 : 10;
      const auto task = pool.submit(repeat, n, size);
      for (bool done = false; !done;) {
        try {
          const auto limit = n % 2 == 0 ? brood::Timeout{60s} : std::chrono::microseconds{n};
          if (task.result(limit) != repeat(n, size)) ++wrong;
          done = true;
        } catch (const futures::TimeoutError&) {
          if (n % 2 == 0) ++wrong;
        } catch (const WorkerCrashed&) {
          ++crashes;
          done = true;
        }
      }
    }
  });
  std::mt19937 random(99);
  int killed = 0;
  const brood::posix::Deadline deadline{support::patience};
  while (killed < kills && !deadline.expired()) {
    const auto pids = pool.worker_pids();
    if (pids.empty() || ::kill(pids[random() % pids.size()], SIGKILL) != 0) continue;
    ++killed;
    nap_us(static_cast<int>(random() % 2000));
  }
  over = true;
  REQUIRE(crew.join());
  CHECK(killed == kills);
  CHECK(wrong == 0);
  CHECK(crashes <= kills);
  CHECK(pool.submit(square, 3).result() == 9);
}
