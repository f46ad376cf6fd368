// SPDX-License-Identifier: MIT
//
// What holds for all that processes wait for each other with.
#include <brood/multiprocessing/barrier.hpp>
#include <brood/multiprocessing/condition.hpp>
#include <brood/multiprocessing/event.hpp>
#include <brood/multiprocessing/lock.hpp>
#include <brood/multiprocessing/queues.hpp>
#include <brood/multiprocessing/semaphore.hpp>
#include <brood/multiprocessing/simple_queue.hpp>
#include <brood/multiprocessing/value.hpp>
#include <brood/threading/semaphore.hpp>
#include <brood/threading/thread.hpp>
#include <ctime>
#include <mutex>

#include "team.hpp"

using namespace brood;
using namespace support;

namespace {

// One of each kind, held or empty, so that wait() waits until go_on().
class Obstacle {
 public:
  enum Kind { lock, semaphore, event, condition, barrier };

  // In this process, which must be the one that lets the others go on.
  explicit Obstacle(Kind kind) : kind_{kind} {
    if (kind == lock) lock_.acquire();
  }

  void wait() const {
    switch (kind_) {
      case lock:
        lock_.acquire();
        return lock_.release();
      case semaphore:
        semaphore_.acquire();
        return semaphore_.release();
      case event:
        event_.wait();
        return;
      case condition: {
        const std::scoped_lock held(condition_);
        if (!condition_.wait()) ::_exit(9);
        return condition_.notify();
      }
      case barrier:
        barrier_.wait();
    }
  }

  void go_on() const {
    switch (kind_) {
      case lock:
        return lock_.release();
      case semaphore:
        return semaphore_.release();
      case event:
        return event_.set();
      case condition: {
        const std::scoped_lock held(condition_);
        return condition_.notify();
      }
      case barrier:
        barrier_.wait();
    }
  }

 private:
  Kind kind_;
  mp::Lock lock_;
  mp::Semaphore semaphore_{0};
  mp::Event event_;
  mp::Condition condition_;
  mp::Barrier barrier_{3};
};

Obstacle::Kind each_kind() {
  return GENERATE(Obstacle::lock, Obstacle::semaphore, Obstacle::event, Obstacle::condition,
                  Obstacle::barrier);
}

double processor_seconds(pid_t pid) {
  clockid_t clock;
  timespec time{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return -1;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

TEST_CASE("signals end no wait of processes for each other") {
  const Obstacle obstacle(each_kind());
  const Shared<std::atomic<int>> handled;
  static std::atomic<int>* counter;
  counter = &*handled;
  Team team;
  team.add(2, [&] {
    struct sigaction action {};
    action.sa_handler = [](int) { ++*counter; };  // no SA_RESTART
    ::sigaction(SIGUSR1, &action, nullptr);
    ++*handled;
    obstacle.wait();
  });
  await(*handled, 2);
  team.await_asleep();
  for (int i = 0; i < 5; ++i) {
    const int before = *handled;
    ::kill(team.pid(0), SIGUSR1);
    ::kill(team.pid(1), SIGUSR1);
    await(*handled, before + 2);
    team.await_asleep();
  }
  obstacle.go_on();
  CHECK(team.join());
}

TEST_CASE("processes that wait for each other use no processor time") {
  const Obstacle obstacle(each_kind());
  Team team;
  team.add(2, [&] { obstacle.wait(); });
  team.await_asleep();
  const double before = processor_seconds(team.pid(0)) + processor_seconds(team.pid(1));
  const timespec pause{0, 200'000'000};
  ::nanosleep(&pause, nullptr);
  const double after = processor_seconds(team.pid(0)) + processor_seconds(team.pid(1));
  // Not even the start of a process, which may come in between, takes so much of it.
  CHECK(after - before < 0.1);
  obstacle.go_on();
  CHECK(team.join());
}

TEST_CASE("threads and processes wait for each other with the same objects") {
  const mp::Semaphore semaphore(1);
  const mp::Event start;
  const Shared<std::atomic<long>> sum;
  const mp::Condition condition;
  const auto work = [&] {
    start.wait();
    for (int i = 0; i < 200; ++i) {
      const std::scoped_lock held(semaphore);
      *sum = *sum + 1;
    }
    const std::scoped_lock held(condition);
    condition.notify_all();
  };
  Team team;
  team.add(2, work);
  std::vector<threading::Thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back(work);
    threads.back().start();
  }
  start.set();
  {
    const std::scoped_lock held(condition);
    CHECK(condition.wait_for([&] { return *sum == 800; }, patience));
  }
  CHECK(team.join());
  for (const auto& thread : threads) CHECK(thread.join(patience));
}

TEST_CASE("a grandchild uses what its grandparent has made") {
  const mp::Lock lock;
  const mp::Event event;
  Team team;
  team.add(1, [=] {
    mp::Process child([=] {
      const std::scoped_lock held(lock);
      event.set();
    });
    child.start();
    child.join();
    if (child.exitcode() != 0 || !event.is_set()) ::_exit(1);
  });
  CHECK(event.wait(patience));
  CHECK(team.join());
  CHECK_FALSE(lock.locked());
}

namespace {
// What is left out of the braces is made of empty ones, which takes a constructor for that.
struct Kitchen {
  mp::Queue<int> dishes;
  mp::JoinableQueue<int> washed;
  mp::SimpleQueue<int> broken;
  mp::Lock sink;
  mp::RLock stove;
  mp::Condition hot;
  mp::Event open;
  mp::Semaphore towels;
  mp::BoundedSemaphore brushes;
  mp::Value<int> plates;
  mp::RawValue<double> heat;
  brood::threading::Semaphore hands;
  brood::threading::BoundedSemaphore feet;
};
}  // namespace

TEST_CASE("structures of handles are made of empty braces") {
  const Kitchen kitchen{};
  CHECK_FALSE(kitchen.open.is_set());
  CHECK(kitchen.dishes.maxsize() == 0);
  CHECK(kitchen.towels.get_value() == 1);
  CHECK(kitchen.brushes.get_value() == 1);
  CHECK(kitchen.hands.get_value() == 1);
  CHECK(kitchen.feet.get_value() == 1);
  CHECK(kitchen.plates.get() == 0);
  CHECK(kitchen.heat.get() == 0.0);
}
