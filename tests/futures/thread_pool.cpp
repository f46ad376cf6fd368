// SPDX-License-Identifier: MIT
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <brood/futures.hpp>
#include <brood/futures/thread_pool.hpp>
#include <brood/posix/pipe.hpp>
#include <brood/threading.hpp>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/stderr.hpp"

namespace futures = brood::futures;
using futures::Future;
using futures::ThreadPoolExecutor;
using namespace std::chrono_literals;

namespace {

std::string this_thread_name() {
  char name[16] = {};
  pthread_getname_np(pthread_self(), name, sizeof name);
  return name;
}

// Runs `f` in a forked child, which then ends as `f` or _exit(0) does; its wait status.
template <class F>
int in_child(F f) {
  const pid_t child = ::fork();
  if (child == 0) {
    f();
    ::_exit(0);
  }
  int status = -1;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// Each of `count` tasks goes on when all have begun.
class Meeting {
 public:
  explicit Meeting(int count) : missing_(count) {}
  void arrive() {
    if (--missing_ == 0)
      all_here_.set_result();
    else
      all_here_.result();
  }

 private:
  std::atomic<int> missing_;
  const Future<void> all_here_;
};

long fib(ThreadPoolExecutor& pool, int n) {
  if (n < 2) return n;
  const auto other = pool.submit([&pool, n] { return fib(pool, n - 1); });
  const long own = fib(pool, n - 2);
  return own + other.result();
}

struct Dish {
  std::string name;
  std::size_t letters() const { return name.size(); }
  std::string plus(const std::string& more) && { return name + more; }
};

}  // namespace

static_assert(futures::Executor<ThreadPoolExecutor>);
static_assert(!std::is_copy_constructible_v<ThreadPoolExecutor>);

TEST_CASE("submit gives a future of the result") {
  ThreadPoolExecutor pool(2);
  const auto power = [](int base, int exponent) {
    int result = 1;
    while (exponent-- > 0) result *= base;
    return result;
  };
  const Future<int> future = pool.submit(power, 2, 8);
  CHECK(future.result() == 256);
}

TEST_CASE("submit takes whatever can be invoked and passes rvalues") {
  ThreadPoolExecutor pool(2);
  CHECK(pool.submit(&Dish::letters, Dish{"plate"}).result() == 5);
  CHECK(pool.submit(&Dish::name, Dish{"cup"}).result() == "cup");
  CHECK(pool.submit(&Dish::plus, Dish{"tea"}, "cup").result() == "teacup");
  CHECK(*pool.submit([](std::unique_ptr<int> p) { return p; }, std::make_unique<int>(3)).result() ==
        3);
  int value = 1;
  pool.submit([](int& x) { x = 5; }, std::ref(value)).result();
  CHECK(value == 5);
  const Future<int&> reference = pool.submit([&]() -> int& { return value; });
  CHECK(&reference.result() == &value);
}

TEST_CASE("what a task throws is thrown by result") {
  ThreadPoolExecutor pool(1);
  const auto future = pool.submit([]() -> int { throw std::out_of_range("deep"); });
  CHECK_THROWS_AS(future.result(), std::out_of_range);
  CHECK(future.exception());
  CHECK_THROWS_AS(pool.submit([] { throw 7; }).result(), int);
  CHECK(pool.submit([] { return 1; }).result() == 1);  // the worker lives on
}

TEST_CASE("callable and arguments are gone when the future is done") {
  ThreadPoolExecutor pool(1);
  const auto counted = std::make_shared<int>(1);
  for (int i = 0; i < 100; ++i) {
    pool.submit([counted](const std::shared_ptr<int>&) {}, counted).result();
    REQUIRE(counted.use_count() == 1);
  }
  {
    const auto kept = pool.submit([counted] { return counted; });
    kept.result();
    CHECK(counted.use_count() == 2);
  }
  CHECK(counted.use_count() == 1);
}

TEST_CASE("a cancelled task lets go of its callable at once") {
  ThreadPoolExecutor pool(1);
  const Future<void> gate;
  const auto blocker = pool.submit([=] { gate.result(); });
  const auto counted = std::make_shared<int>(1);
  const auto task = pool.submit([counted] { return *counted; });
  CHECK(task.cancel());
  CHECK(counted.use_count() == 1);
  gate.set_result();
}

TEST_CASE("max_workers below one is refused") {
  CHECK_THROWS_AS(ThreadPoolExecutor(0), std::invalid_argument);
  CHECK_THROWS_AS(ThreadPoolExecutor(-1), std::invalid_argument);
  CHECK_THROWS_AS(ThreadPoolExecutor(0u), std::invalid_argument);
  CHECK_THROWS_AS(ThreadPoolExecutor(-5L), std::invalid_argument);
  CHECK_THROWS_AS(ThreadPoolExecutor({.max_workers = 0}), std::invalid_argument);
  CHECK_THROWS_AS(ThreadPoolExecutor({.max_workers = -3}), std::invalid_argument);
}

TEST_CASE("by default there are four workers more than usable processors up to 32") {
  const ThreadPoolExecutor pool;
  CHECK(pool.max_workers() == std::min<std::size_t>(32, brood::os::process_cpu_count() + 4));
  CHECK(ThreadPoolExecutor({.thread_name_prefix = "x"}).max_workers() == pool.max_workers());
  CHECK(ThreadPoolExecutor(std::size_t{7}).max_workers() == 7);
}

TEST_CASE("no thread is started before it is needed") {
  const std::size_t before = support::thread_count();
  ThreadPoolExecutor pool(8);
  CHECK(support::thread_count() == before);
  pool.submit([] {}).result();
  CHECK(support::thread_count() == before + 1);
}

TEST_CASE("many blocked tasks start no more than max_workers threads") {
  const std::size_t before = support::thread_count();
  ThreadPoolExecutor pool(4);
  const Future<void> gate;
  for (int i = 0; i < 60; ++i) pool.submit([=] { gate.result(); });
  CHECK(support::thread_count() == before + 4);
  gate.set_result();
}

TEST_CASE("an idle thread is used again") {
  const std::size_t before = support::thread_count();
  ThreadPoolExecutor pool(8);
  for (int i = 0; i < 1000; ++i) REQUIRE(pool.submit([i] { return i; }).result() == i);
  CHECK(support::thread_count() == before + 1);
}

TEST_CASE("tasks that need each other get a thread each") {
  // Each round would hang if a busy worker were taken for an idle one.
  for (int round = 0; round < 100; ++round) {
    ThreadPoolExecutor pool(3);
    const Future<void> first;
    const Future<void> second;
    pool.submit([] {}).result();
    const auto a = pool.submit([=] {
      first.set_result();
      second.result();
    });
    const auto b = pool.submit([=] {
      first.result();
      second.set_result();
    });
    REQUIRE(futures::wait({a, b}, 30s).not_done.empty());
  }
}

TEST_CASE("a done callback that blocks its worker does not hold up other tasks") {
  ThreadPoolExecutor pool(2);
  const Future<void> gate;
  const Future<void> open;
  const auto task = pool.submit([=] { open.result(); });
  task.add_done_callback([=](Future<void>) { gate.result(); });
  open.set_result();
  task.result();
  CHECK_NOTHROW(pool.submit([=] { gate.set_result(); }).result(30s));
}

TEST_CASE("submit after shutdown throws") {
  ThreadPoolExecutor pool(1);
  pool.shutdown();
  CHECK_THROWS_AS(pool.submit([] {}), std::runtime_error);
  CHECK_THROWS_AS(pool.map([](int) {}, std::vector{1}), std::runtime_error);
  CHECK_NOTHROW(pool.shutdown());
}

// What a task gave and nobody keeps: its destructor waits for a later task.
class LateRelease {
 public:
  LateRelease(Future<void> begun, Future<bool> later) : begun_(begun), later_(later) {}
  LateRelease(LateRelease&& other) noexcept
      : begun_(other.begun_), later_(other.later_), armed_(std::exchange(other.armed_, false)) {}
  ~LateRelease() {
    if (!armed_) return;
    begun_.set_result();
    try {
      later_.result(60s);
    } catch (...) {  // the guard: without a further thread it waits for itself
      later_.set_result(false);
    }
  }

 private:
  Future<void> begun_;
  Future<bool> later_;
  bool armed_ = true;
};

TEST_CASE("a dropped result whose destructor blocks does not hold up other tasks") {
  ThreadPoolExecutor pool(2);
  const Future<void> dropped;
  const Future<void> begun;
  const Future<bool> later;
  pool.submit([=] {
    dropped.result();
    return LateRelease(begun, later);
  });
  dropped.set_result();
  begun.result();
  pool.submit([=] { later.set_result(true); });
  CHECK(later.result());
}

TEST_CASE("a dropped exception whose destructor blocks does not hold up other tasks") {
  ThreadPoolExecutor pool(2);
  const Future<void> dropped;
  const Future<void> begun;
  const Future<bool> later;
  pool.submit([=] {
    dropped.result();
    throw std::make_shared<LateRelease>(begun, later);
  });
  dropped.set_result();
  begun.result();
  pool.submit([=] { later.set_result(true); });
  CHECK(later.result());
}

TEST_CASE("a task that submits after shutdown is refused too") {
  ThreadPoolExecutor pool(1);
  const Future<void> gate;
  const auto task = pool.submit([&] {
    gate.result();
    pool.submit([] {});
  });
  pool.shutdown({.wait = false});
  gate.set_result();
  CHECK_THROWS_AS(task.result(), std::runtime_error);
}

TEST_CASE("all of fifty tasks are done after shutdown") {
  ThreadPoolExecutor pool(4);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 50; ++i) tasks.push_back(pool.submit([i] { return i; }));
  pool.shutdown();
  for (const auto& task : tasks) CHECK(task.done());
}

TEST_CASE("shutdown can cancel what has not begun") {
  ThreadPoolExecutor pool(2);
  const Future<void> gate;
  const Future<void> begun;
  std::atomic<int> count{0};
  std::vector<Future<void>> tasks;
  for (int i = 0; i < 2; ++i)
    tasks.push_back(pool.submit([&] {
      if (++count == 2) begun.set_result();
      gate.result();
    }));
  begun.result();
  for (int i = 0; i < 50; ++i) tasks.push_back(pool.submit([] {}));
  pool.shutdown({.wait = false, .cancel_futures = true});
  gate.set_result();
  pool.shutdown();
  CHECK_NOTHROW(tasks[0].result());
  CHECK_NOTHROW(tasks[1].result());
  for (std::size_t i = 2; i < tasks.size(); ++i) REQUIRE(tasks[i].cancelled());
}

TEST_CASE("shutdown reaches the tasks that tasks have submitted") {
  ThreadPoolExecutor pool(1);
  const Future<void> gate;
  const Future<void> begun;
  std::vector<Future<void>> inner;
  const auto outer = pool.submit([&] {
    for (int i = 0; i < 5; ++i) inner.push_back(pool.submit([] {}));
    begun.set_result();
    gate.result();
  });
  begun.result();
  pool.shutdown({.wait = false, .cancel_futures = true});
  gate.set_result();
  pool.shutdown();
  for (const auto& task : inner) CHECK(task.cancelled());
}

TEST_CASE("shutdown after a cancelled submit does not hang") {
  ThreadPoolExecutor pool(1);
  for (int i = 0; i < 100; ++i) pool.submit([] {}).cancel();
  pool.shutdown();
  SUCCEED();
}

TEST_CASE("the threads end with shutdown") {
  support::LeakCheck nothing_left;
  ThreadPoolExecutor pool(3);
  futures::wait({pool.submit([] {}), pool.submit([] {}), pool.submit([] {})});
  pool.shutdown();
  nothing_left.expect_clean();
}

TEST_CASE("the end of the scope waits for all tasks and ends the threads") {
  support::LeakCheck nothing_left;
  std::atomic<int> count{0};
  {
    ThreadPoolExecutor pool(3);
    for (int i = 0; i < 100; ++i) pool.submit([&] { ++count; });
  }
  CHECK(count == 100);
  nothing_left.expect_clean();
}

TEST_CASE("an executor that is moved keeps its tasks") {
  std::atomic<int> count{0};
  {
    ThreadPoolExecutor pool(2);
    pool.submit([&] { ++count; });
    ThreadPoolExecutor other = std::move(pool);
    other.submit([&] { ++count; });
    CHECK_THROWS_AS(pool.submit([] {}), std::runtime_error);
    other = ThreadPoolExecutor(1);
    CHECK(count == 2);
    other.submit([&] { ++count; });
  }
  CHECK(count == 3);
}

TEST_CASE("shutdown without waiting returns at once and the results come") {
  ThreadPoolExecutor pool(2);
  const Future<void> gate;
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 10; ++i)
    tasks.push_back(pool.submit([=] {
      gate.result();
      return i;
    }));
  pool.shutdown({.wait = false});
  CHECK_FALSE(tasks[0].done());
  gate.set_result();
  for (int i = 0; i < 10; ++i) CHECK(tasks[static_cast<std::size_t>(i)].result() == i);
}

TEST_CASE("shutdown without waiting that cancels leaves no hang") {
  ThreadPoolExecutor pool(4);
  for (int i = 0; i < 100; ++i) pool.submit([] {});
  pool.shutdown({.wait = false, .cancel_futures = true});
  SUCCEED();
}

TEST_CASE("a task cannot wait for the end of its own executor") {
  ThreadPoolExecutor pool(2);
  CHECK_THROWS_AS(pool.submit([&] { pool.shutdown(); }).result(), std::logic_error);
  CHECK_THROWS_AS(pool.submit([] {}), std::runtime_error);
}

TEST_CASE("the last handle of an executor may be dropped by its own task") {
  support::LeakCheck nothing_left;
  const Future<void> gate;
  Future<int> later;
  {
    auto pool = std::make_shared<ThreadPoolExecutor>(2);
    later = pool->submit([pool, gate]() mutable {
      gate.result();
      pool.reset();
      return 1;
    });
    pool.reset();
  }
  gate.set_result();
  CHECK(later.result() == 1);
  later = {};
  nothing_left.expect_clean();
}

TEST_CASE("threads carry the prefix and a number") {
  ThreadPoolExecutor pool({.max_workers = 3, .thread_name_prefix = "washer"});
  Meeting meeting(3);
  std::vector<Future<std::string>> names;
  for (int i = 0; i < 3; ++i)
    names.push_back(pool.submit([&] {
      meeting.arrive();
      return this_thread_name();
    }));
  std::set<std::string> seen;
  for (const auto& name : names) seen.insert(name.result());
  CHECK(seen == std::set<std::string>{"washer_0", "washer_1", "washer_2"});
  ThreadPoolExecutor other({.thread_name_prefix = "a prefix that is far too long-12"});
  CHECK(other.submit(this_thread_name).result() == "a prefix t-12_0");
}

TEST_CASE("without a prefix each pool has a name of its own") {
  ThreadPoolExecutor a(1);
  ThreadPoolExecutor b(1);
  const std::string first = a.submit(this_thread_name).result();
  const std::string second = b.submit(this_thread_name).result();
  CHECK(first.rfind("ThreadPo", 0) == 0);
  CHECK(first.substr(first.size() - 2) == "_0");
  CHECK(first != second);
}

TEST_CASE("the initializer runs in each thread before its tasks") {
  static thread_local int prepared = 0;
  std::atomic<int> calls{0};
  ThreadPoolExecutor pool({.max_workers = 3, .initializer = [&] {
                             ++calls;
                             prepared = 7;
                           }});
  Meeting meeting(3);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 3; ++i)
    tasks.push_back(pool.submit([&] {
      meeting.arrive();
      return prepared;
    }));
  for (const auto& task : tasks) CHECK(task.result() == 7);
  CHECK(calls == 3);
}

TEST_CASE("an initializer that throws breaks the pool") {
  support::CapturedStderr captured;
  const Future<void> gate;
  ThreadPoolExecutor pool({.max_workers = 2, .initializer = [=] {
                             gate.result();
                             throw std::runtime_error("no water");
                           }});
  const auto first = pool.submit([] { return 1; });
  const auto second = pool.submit([] { return 2; });
  gate.set_result();
  CHECK_THROWS_AS(first.result(), futures::BrokenThreadPool);
  CHECK_THROWS_AS(second.result(), futures::BrokenExecutor);
  CHECK_THROWS_AS(pool.submit([] {}), futures::BrokenThreadPool);
  CHECK_THROWS_AS(pool.map([](int) {}, std::vector{1}), futures::BrokenThreadPool);
  pool.shutdown();
  CHECK_THAT(captured.text(), Catch::Matchers::ContainsSubstring("std::runtime_error: no water"));
}

TEST_CASE("one thread is enough for tasks that wait for tasks") {
  ThreadPoolExecutor pool(1);
  const auto outer = pool.submit([&] {
    const auto inner = pool.submit([&] { return pool.submit([] { return 7; }).result() + 1; });
    return inner.result() + 1;
  });
  CHECK(outer.result(30s) == 9);
  CHECK(pool.submit([&] { return fib(pool, 15); }).result(60s) == 610);
}

TEST_CASE("a worker runs the queued task it waits for also under a limit") {
  ThreadPoolExecutor pool(1);
  CHECK(pool.submit([&] { return pool.submit([] { return 3; }).result(30s); }).result(60s) == 3);
  const auto looking = pool.submit([&] {
    const auto inner = pool.submit([] { return 3; });
    try {
      inner.result(0s);
      return false;
    } catch (const futures::TimeoutError&) {
      return !inner.done();
    }
  });
  CHECK(looking.result());
}

TEST_CASE("a worker may wait for several queued tasks at once") {
  ThreadPoolExecutor pool(1);
  const auto outer = pool.submit([&] {
    std::vector<Future<int>> tasks;
    for (int i = 1; i <= 10; ++i) tasks.push_back(pool.submit([i] { return i; }));
    futures::wait(tasks);
    for (int i = 1; i <= 10; ++i) tasks.push_back(pool.submit([i] { return i; }));
    int sum = 0;
    for (auto task : futures::as_completed(tasks)) sum += task.result();
    for (const int result : pool.map([](int x) { return x; }, std::vector{1, 2})) sum += result;
    return sum;
  });
  CHECK(outer.result(30s) == 113);
}

TEST_CASE("a worker may wait for what follows a queued task") {
  ThreadPoolExecutor pool(1);
  const auto outer = pool.submit(
      [&] { return pool.submit([] { return 1; }).then([](int x) { return x + 1; }).result(); });
  CHECK(outer.result(30s) == 2);
}

TEST_CASE("a waiting worker runs no unrelated task") {
  // The task waits with a lock that the unrelated ones need, too.
  ThreadPoolExecutor pool(2);
  std::mutex lock;
  std::atomic<int> entered{0};
  for (int round = 0; round < 50; ++round) {
    const auto holder = pool.submit([&] {
      const std::scoped_lock held{lock};
      std::vector<Future<void>> unrelated;
      for (int i = 0; i < 8; ++i)
        unrelated.push_back(pool.submit([&] {
          const std::scoped_lock also{lock};
          ++entered;
        }));
      pool.submit([&] { return fib(pool, 6); }).result();
    });
    REQUIRE_NOTHROW(holder.result(60s));
  }
  pool.shutdown();
  CHECK(entered == 50 * 8);
}

TEST_CASE("a waiting worker runs also what the tasks of its task have spawned") {
  using brood::threading::Event;
  ThreadPoolExecutor pool(2);
  for (int round = 0; round < 20; ++round) {
    const auto outer = pool.submit([&pool] {
      const Event spawned;
      const Event ran;
      const auto task = pool.submit([&pool, spawned, ran] {
        const auto child = pool.submit([&pool, spawned, ran] {
          pool.submit([ran] { ran.set(); });
          spawned.set();
          return ran.wait(60s);  // without the pool's knowledge
        });
        return child.result();
      });
      // By now the other worker runs the task, and within it the child.
      return spawned.wait(60s) && task.result();
    });
    if (!outer.result()) FAIL("the task's grandchild was not run");
  }
  SUCCEED();
}

namespace {

// Whether something comes to run in this thread, a worker's, while that waits for a task.
class Intrusion {
 public:
  // The something, to be submitted.
  auto intruder() const {
    return [me = me_, state = state_] {
      if (::pthread_equal(pthread_self(), me) != 0 && state->waiting) state->has_happened = true;
    };
  }
  // Waits a moment for the task, which cannot end before `go_on`, and then until it does.
  bool happens_before_the_end_of(const Future<void>& task, const brood::threading::Event& go_on) {
    try {
      task.result(50ms);
    } catch (const futures::TimeoutError&) {
    }
    state_->waiting = false;
    go_on.set();
    task.result();
    return state_->has_happened;
  }

 private:
  struct State {
    std::atomic<bool> waiting{true};
    std::atomic<bool> has_happened{false};
  };
  const pthread_t me_ = pthread_self();
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace

TEST_CASE("a waiting worker leaves what its task waits for but has not spawned to itself") {
  using brood::threading::Event;
  ThreadPoolExecutor pool(2);
  const auto intruded = pool.submit([&pool] {
    Intrusion intrusion;
    const Event begun;
    const Event sibling_queued;
    const Event spawned;
    const Event go_on;
    auto sibling = std::make_shared<Future<void>>();
    const auto task = pool.submit([=, &pool] {
      pool.submit([] {}).result();  // so that it is known as one that spawns
      begun.set();
      sibling_queued.wait();
      sibling->result();
    });
    begun.wait();
    *sibling = pool.submit([=, &pool] {
      pool.submit(intrusion.intruder());
      spawned.set();
      go_on.wait();
    });
    sibling_queued.set();
    spawned.wait();
    // The other worker runs the sibling within the task, and what the sibling spawned is queued.
    return intrusion.happens_before_the_end_of(task, go_on);
  });
  CHECK_FALSE(intruded.result(120s));
}

TEST_CASE("a waiting worker leaves what a callback has submitted to itself") {
  using brood::threading::Event;
  ThreadPoolExecutor pool(2);
  const Event other_queued;
  const Event submitted;
  const Event go_on;
  auto other = std::make_shared<Future<void>>();
  const auto intruded = pool.submit([=, &pool] {
    Intrusion intrusion;
    const Event begun;
    const auto task = pool.submit([=, &pool] {
      pool.submit([] {}).result();  // so that it is known as one that spawns
      begun.set();
      other_queued.wait();
      other->result();
      go_on.wait();
    });
    begun.wait();
    // Its callback runs in the other worker, within the task, which has nothing to do with it.
    *other = pool.submit([] {});
    other->add_done_callback([=, &pool](const Future<void>&) {
      pool.submit(intrusion.intruder());
      submitted.set();
    });
    other_queued.set();
    submitted.wait();
    return intrusion.happens_before_the_end_of(task, go_on);
  });
  CHECK_FALSE(intruded.result(120s));
}

TEST_CASE("several workers that help each other come to the right results") {
  ThreadPoolExecutor pool(4);
  for (int round = 0; round < 20; ++round) {
    std::vector<Future<long>> all;
    for (int n = 10; n < 14; ++n) all.push_back(pool.submit([&pool, n] { return fib(pool, n); }));
    REQUIRE(futures::wait(all, 60s).not_done.empty());
    CHECK(all[0].result() + all[1].result() + all[2].result() + all[3].result() ==
          55 + 89 + 144 + 233);
  }
}

TEST_CASE("a task that submits itself for ever starves no other task") {
  ThreadPoolExecutor pool(1);
  std::atomic<bool> stop{false};
  const Future<void> stopped;
  struct Again {
    ThreadPoolExecutor& pool;
    std::atomic<bool>& stop;
    Future<void> stopped;
    void operator()() const {
      if (stop)
        stopped.set_result();
      else
        pool.submit(*this);
    }
  };
  pool.submit(Again{pool, stop, stopped});
  CHECK(pool.submit([] { return 1; }).result(30s) == 1);
  stop = true;
  stopped.result();
}

TEST_CASE("an idle pool uses no processor time") {
  ThreadPoolExecutor pool(8);
  const Future<void> gate;
  std::vector<Future<void>> tasks;
  for (int i = 0; i < 8; ++i) tasks.push_back(pool.submit([=] { gate.result(); }));
  gate.set_result();
  futures::wait(tasks);
  // Time of the whole process over 300 ms in which nothing is to be done.
  const auto used = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return std::chrono::seconds{usage.ru_utime.tv_sec + usage.ru_stime.tv_sec} +
           std::chrono::microseconds{usage.ru_utime.tv_usec + usage.ru_stime.tv_usec};
  };
  const auto before = used();
  const timespec pause{0, 300'000'000};
  ::nanosleep(&pause, nullptr);
  CHECK(used() - before < 100ms);
}

TEST_CASE("many threads submit and cancel and wait at once") {
  ThreadPoolExecutor pool(4);
  std::atomic<long> ran{0};
  std::atomic<long> cancelled{0};
  constexpr int each = 2000;
  {
    std::vector<brood::posix::OsThread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        std::vector<Future<void>> tasks;
        for (int i = 0; i < each; ++i) {
          tasks.push_back(pool.submit([&] { ++ran; }));
          if ((i + t) % 3 == 0 && tasks.back().cancel()) ++cancelled;
          if (i % 100 == 0) futures::wait(tasks, 1ms);
        }
        futures::wait(tasks);
      });
  }
  CHECK(ran + cancelled == 4 * each);
}

TEST_CASE("bursts with sleeping workers in between lose no task") {
  for (const int workers : {1, 2, 5}) {
    ThreadPoolExecutor pool(workers);
    for (int round = 0; round < 300; ++round) {
      std::vector<Future<int>> tasks;
      for (int i = 0; i < round % 7 + 1; ++i)
        tasks.push_back(pool.submit([&pool, i] {
          if (i % 2 == 0) return i;
          return pool.submit([i] { return i; }).result();
        }));
      REQUIRE(futures::wait(tasks, 30s).not_done.empty());
    }
  }
}

TEST_CASE("what a busy worker submits wakes a sleeping one each time") {
  ThreadPoolExecutor pool(2);
  for (int round = 0; round < 1000; ++round) {
    // The first worker can't run the second task, as it waits without the pool's knowledge.
    const auto outer = pool.submit([&pool] {
      const brood::threading::Event done;
      pool.submit([done] { done.set(); });
      return done.wait(60s);
    });
    if (!outer.result()) FAIL("the task was not run");
  }
  SUCCEED();
}

TEST_CASE("submit in a child of fork is refused and the child ends") {
  ThreadPoolExecutor pool(2);
  pool.submit([] {}).result();
  const int status = in_child([&] {
    ThreadPoolExecutor mine = std::move(pool);  // its end must not wait for the parent's threads
    try {
      mine.submit([] {});
    } catch (const std::runtime_error&) {
      return;
    }
    ::_exit(1);
  });
  CHECK(status == 0);
  CHECK(pool.submit([] { return 1; }).result() == 1);
}

TEST_CASE("a process forked in a pool thread ends normally") {
  ThreadPoolExecutor pool(1);
  const auto status = pool.submit([] {
    return in_child([] {
      brood::posix::run_end_hooks();  // as a Process does at its end
      ::_exit(6);
    });
  });
  CHECK(WEXITSTATUS(status.result(30s)) == 6);
}

TEST_CASE("at the end of the program what was submitted is still done") {
  for (const bool was_shut_down : {false, true}) {
    auto [read, write] = brood::posix::make_pipe();
    const int status = in_child([&, out = write.get()] {
      // Never destroyed, as one that is still in use somewhere when the program calls exit.
      static auto& pool = *new ThreadPoolExecutor(2);
      const Future<void> gate;
      for (int i = 0; i < 10; ++i)
        pool.submit([=] {
          gate.result();
          static_cast<void>(!::write(out, "x", 1));
        });
      if (was_shut_down) pool.shutdown({.wait = false});
      brood::posix::OsThread opener{[=] { gate.set_result(); }};
      brood::posix::run_end_hooks();
      opener.join();
      try {
        pool.submit([] {});
      } catch (const std::runtime_error&) {
        ::_exit(7);
      }
      ::_exit(1);
    });
    write.reset();
    CHECK(WEXITSTATUS(status) == 7);
    std::string text;
    char letter = 0;
    while (::read(read.get(), &letter, 1) == 1) text += letter;
    CHECK(text == "xxxxxxxxxx");
  }
}

TEST_CASE("a static pool outlives main without harm") {
  const int status = in_child([] {
    static ThreadPoolExecutor pool(2);
    pool.submit([] {}).result();
    pool.shutdown({.wait = false});
    std::exit(9);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 9);
}

TEST_CASE("a thread of a pool knows its whole name") {
  const auto name = [] { return brood::threading::current_thread().name(); };
  ThreadPoolExecutor pool({.max_workers = 1, .thread_name_prefix = "dryer of the kitchen"});
  CHECK(pool.submit(name).result() == "dryer of the kitchen_0");
  CHECK(pool.submit(name).result() == "dryer of the kitchen_0");
  CHECK_THAT(ThreadPoolExecutor(1).submit(name).result(),
             Catch::Matchers::StartsWith("ThreadPool-"));
}
