// SPDX-License-Identifier: MIT
// Handles as arguments of processes that are no copies of this one: they arrive as the same
// objects, however the process is started.
#include <signal.h>

#include <atomic>
#include <brood/multiprocessing.hpp>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/start_methods.hpp"

namespace mp = brood::multiprocessing;
using namespace std::chrono_literals;
using mp::StartMethod;
using mp::shared_memory::SharedMemory;
using support::patience;

namespace {

constexpr StartMethod methods[] = {StartMethod::fork, StartMethod::forkserver, StartMethod::spawn};

template <class... Args>
mp::Process started(StartMethod method, Args&&... args) {
  mp::Process process({.start_method = method}, std::forward<Args>(args)...);
  process.start();
  return process;
}

// Whether it ended well.
bool ends(const mp::Process& process) { return process.join(patience) && process.exitcode() == 0; }

void expect(bool holds, const char* what) {
  if (!holds) throw std::runtime_error{what};
}

// Calls `f(method)` for each, and looks whether anything is left.
template <class F>
void by_each_method(F f) {
  for (const StartMethod method : methods) {
    INFO("start method " << static_cast<int>(method));
    const support::LeakCheck nothing_left;
    f(method);
  }
}

}  // namespace

TEST_CASE("a lock as an argument excludes the new process and is handed on when that dies") {
  by_each_method([](StartMethod method) {
    const mp::Lock lock;
    const mp::Event tried;
    lock.acquire();
    const auto process = started(
        method,
        [](mp::Lock its, mp::Event has_tried) {
          expect(!its.try_lock(), "the lock is free");
          has_tried.set();
          its.acquire();
          ::_exit(9);
        },
        lock, tried);
    CHECK(tried.wait(patience));
    lock.release();
    CHECK(process.join(patience));
    CHECK(process.exitcode() == 9);
    CHECK(lock.acquire(patience));
    CHECK(lock.abandoned());
    lock.release();
  });
}

TEST_CASE("rlocks and conditions as arguments are the same objects in the new process") {
  by_each_method([](StartMethod method) {
    const mp::RLock lock;
    const mp::Condition changed(lock);
    const mp::Value<int> turn(0, lock);
    lock.acquire();
    const auto process = started(
        method,
        [](mp::Condition its_changed, mp::RLock its_lock, mp::Value<int> its_turn) {
          expect(its_turn.get_lock() == its_lock, "not one lock");
          const std::scoped_lock held(its_lock, its_changed);
          its_turn.set(1);
          its_changed.notify();
          expect(its_changed.wait_for([&] { return its_turn.get() == 2; }, patience), "no turn");
        },
        changed, lock, turn);
    CHECK(changed.wait_for([&] { return turn.get() == 1; }, patience));
    turn.set(2);
    changed.notify_all();
    lock.release();
    CHECK(ends(process));
  });
}

TEST_CASE("semaphores events and barriers as arguments are the same objects in the new process") {
  by_each_method([](StartMethod method) {
    const mp::Semaphore plain(0);
    const mp::BoundedSemaphore bounded(3);
    const mp::Event event;
    const mp::Barrier barrier(2);
    const auto process = started(
        method,
        [](mp::Semaphore its_plain, mp::BoundedSemaphore its_bounded, mp::Event its_event,
           mp::Barrier its_barrier) {
          its_barrier.wait(patience);
          its_plain.release(2);
          expect(its_bounded.maxvalue() == 3 && its_bounded.acquire(patience), "bounded");
          expect(its_event.wait(patience), "event");
        },
        plain, bounded, event, barrier);
    barrier.wait(patience);
    CHECK(plain.acquire(patience));
    CHECK(plain.acquire(patience));
    event.set();
    CHECK(ends(process));
    CHECK(bounded.get_value() == 2);
  });
}

TEST_CASE("values and arrays as arguments are the same memory in the new process") {
  by_each_method([](StartMethod method) {
    const mp::Value<long> value(1);
    const mp::RawValue<double> raw(0.5);
    const mp::Array<int> array{1, 2, 3};
    const mp::RawArray<char> large(200'000);
    const auto process = started(
        method,
        [](mp::Value<long> its_value, mp::RawValue<double> its_raw, mp::Array<int> its_array,
           mp::RawArray<char> its_large) {
          for (int i = 0; i < 1000; ++i) its_value.update([](long& v) { ++v; });
          its_raw.set(its_raw.get() * 2);
          const std::scoped_lock held(its_array.get_lock());
          for (int& number : its_array) number += 10;
          its_large[199'999] = 'x';
        },
        value, raw, array, large);
    for (int i = 0; i < 1000; ++i) value.update([](long& v) { ++v; });
    CHECK(ends(process));
    CHECK(value.get() == 2001);
    CHECK(raw.get() == 1.0);
    CHECK(array[2] == 13);
    CHECK(large[199'999] == 'x');
  });
}

TEST_CASE("shared memory as an argument is the same memory in the new process") {
  by_each_method([](StartMethod method) {
    const std::string name = "brood-test-handles-" + std::to_string(::getpid());
    const SharedMemory named({.name = name, .create = true, .size = 10});
    const SharedMemory nameless({.create = true, .size = 10});
    const auto process = started(
        method,
        [](SharedMemory its_named, SharedMemory its_nameless, const std::string& known_as) {
          expect(its_named.name() == known_as && its_nameless.name().empty(), "names");
          its_named.buf()[9] = its_nameless.buf()[9] = std::byte{7};
        },
        named, nameless, name);
    CHECK(ends(process));
    CHECK(named.buf()[9] == std::byte{7});
    CHECK(nameless.buf()[9] == std::byte{7});
    named.unlink();
  });
}

TEST_CASE("a connection as an argument is closed here by start and talks there") {
  by_each_method([](StartMethod method) {
    auto [here, there] = mp::Pipe();
    const auto process = started(
        method,
        [](mp::Connection its) {
          its.send(its.recv<std::string>() + "!");
          try {
            its.recv<int>();
          } catch (const brood::EOFError&) {
            ::_exit(7);
          }
        },
        std::move(there));
    there.close();
    here.send("hello");
    CHECK(here.recv<std::string>() == "hello!");
    // A copy of this process has this end too, and so can't see it closed.
    if (method == StartMethod::fork) here.send(0);
    here.close();
    CHECK(process.join(patience));
    CHECK(process.exitcode() == (method == StartMethod::fork ? 0 : 7));
  });
}

TEST_CASE("queues as arguments are the same queues in the new process") {
  by_each_method([](StartMethod method) {
    for (const mp::QueueOptions& options :
         {mp::QueueOptions{}, mp::QueueOptions{.transport = mp::Transport::shared_memory},
          mp::QueueOptions{.maxsize = 3}}) {
      const mp::Queue<std::string> in(options);
      const mp::JoinableQueue<std::size_t> out(options);
      const mp::SimpleQueue<int> done;
      in.put("before");
      const auto process = started(
          method,
          [](mp::Queue<std::string> texts, mp::JoinableQueue<std::size_t> sizes,
             mp::SimpleQueue<int> finished) {
            for (const std::string& text : texts) sizes.put(text.size());
            expect(sizes.join(patience), "joined");
            finished.put(static_cast<int>(sizes.maxsize()));
          },
          in, out, done);
      std::size_t sum = 0;
      const auto take = [&] {
        sum += out.get(patience);
        out.task_done();
      };
      take();
      for (std::size_t i = 0; i < 20; ++i) {
        in.put(std::string(i * 1000, 'x'), patience);
        take();
      }
      in.shutdown();
      CHECK(done.get(patience) == options.maxsize);
      CHECK(ends(process));
      CHECK(sum == 6 + 190'000);
      CHECK(out.unfinished().empty());
    }
  });
}

namespace {

struct Order {
  std::optional<mp::Queue<int>> answers;
  std::map<std::string, mp::Lock> locks;
  std::vector<mp::Value<int>> values;
};

// A function object with a handle in it.
struct Adder {
  mp::Value<int> sum;
  void operator()(int n) const {
    sum.update([n](int& value) { value += n; });
  }
};

}  // namespace

TEST_CASE("handles within arguments and targets arrive as one object each") {
  by_each_method([](StartMethod method) {
    const mp::Queue<int> answers;
    const mp::Lock lock;
    const Order order{answers, {{"a", lock}, {"b", lock}}, std::vector<mp::Value<int>>(50)};
    const auto process = started(
        method,
        [](const Order& its, mp::Queue<int> same, mp::Lock one) {
          expect(its.answers == same, "two queues");
          expect(its.locks.at("a") == one && its.locks.at("b") == one, "two locks");
          const std::scoped_lock held(one);
          for (std::size_t i = 0; i < its.values.size(); ++i)
            its.values[i].set(static_cast<int>(i));
          same.put(its.locks.at("a").locked() ? 1 : 0);
        },
        order, answers, lock);
    CHECK(answers.get(patience) == 1);
    CHECK(ends(process));
    CHECK(order.values[49].get() == 49);
    const mp::Value<int> sum(1);
    CHECK(ends(started(method, Adder{sum}, 5)));
    CHECK(sum.get() == 6);
  });
}

TEST_CASE("a handle goes on from process to process by any method") {
  const support::LeakCheck nothing_left;
  const mp::Queue<int> q;
  for (const StartMethod first : methods) {
    for (const StartMethod second : methods) {
      INFO(static_cast<int>(first) << " then " << static_cast<int>(second));
      const auto process = started(
          first,
          [](mp::Queue<int> its, int next) {
            const auto child = started(
                static_cast<StartMethod>(next),
                [](mp::Queue<int> childs) { childs.put(childs.get() + 1); }, its);
            expect(ends(child), "the child");
          },
          q, static_cast<int>(second));
      q.put(1);
      CHECK(ends(process));
      CHECK(q.get(patience) == 2);
    }
  }
}

TEST_CASE("what is in the way of a handle is said by start") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  there.close();
  for (const StartMethod method : {StartMethod::forkserver, StartMethod::spawn}) {
    mp::Process process(
        {.start_method = method}, [](mp::Connection) {}, there);
    CHECK_THROWS_AS(process.start(), brood::os::OSError);
    const mp::Barrier barrier(2, [method] { static_cast<void>(method); });
    mp::Process other(
        {.start_method = method}, [](mp::Barrier) {}, barrier);
    CHECK_THROWS_AS(other.start(), brood::serialization::SerializationError);
  }
}

namespace {

struct Item {
  int producer;
  int number;
  std::string text;
};
constexpr int most_producers = 40;
constexpr int most_each = 150;

std::string text_of(int producer, int number) {
  return std::string(static_cast<std::size_t>((producer * 31 + number * 977) % 6000),
                     static_cast<char>('a' + number % 26));
}

int& raise(int& counter) {
  ++std::atomic_ref{counter};
  return counter;
}

void produce(const mp::Queue<Item>& q, const mp::RawArray<int>& put, int id) {
  for (int i = 0; i < most_each; ++i) {
    q.put({id, i, text_of(id, i)});
    raise(put[static_cast<std::size_t>(id)]);
  }
}

void consume(const mp::Queue<Item>& q, const mp::RawArray<int>& got,
             const mp::RawValue<int>& torn) {
  for (const Item& item : q) {
    if (item.text != text_of(item.producer, item.number)) raise(torn.ref());
    raise(got[static_cast<std::size_t>(item.producer * most_each + item.number)]);
  }
}

}  // namespace

TEST_CASE("a queue as an argument survives the killing of those that have it") {
  for (const StartMethod method : {StartMethod::forkserver, StartMethod::spawn}) {
    INFO("start method " << static_cast<int>(method));
    const support::LeakCheck nothing_left;
    const mp::Queue<Item> q(mp::QueueOptions{.maxsize = method == StartMethod::spawn ? 20 : 0});
    const mp::RawArray<int> put(most_producers), got(most_producers * most_each);
    const mp::RawValue<int> torn(0);
    std::mt19937 random{11};
    int producers = 0, killed_consumers = 0;
    const auto producer = [&] { return started(method, produce, q, put, producers++); };
    const auto consumer = [&] { return started(method, consume, q, got, torn); };
    std::vector<mp::Process> putting{producer(), producer()}, getting{consumer(), consumer()};
    for (int round = 0; round < 12; ++round) {
      const timespec pause{0, static_cast<long>(random() % 8'000'000)};
      ::nanosleep(&pause, nullptr);
      const std::size_t which = random() % 2;
      auto& victim = round % 2 == 0 ? putting[which] : getting[which];
      victim.kill();
      CHECK(victim.join(patience));
      if (round % 2 != 0) ++killed_consumers;
      victim = round % 2 == 0 ? producer() : consumer();
    }
    for (const auto& process : putting) CHECK(ends(process));
    q.shutdown();
    for (const auto& process : getting) CHECK(ends(process));
    CHECK(q.empty());
    CHECK(torn.get() == 0);
    int lost = 0, twice = 0, unannounced = 0;
    for (int id = 0; id < producers; ++id) {
      int beyond = 0;
      for (int i = 0; i < most_each; ++i) {
        const int times = got[static_cast<std::size_t>(id * most_each + i)];
        const bool was_put = i < put[static_cast<std::size_t>(id)];
        if (times > 1) ++twice;
        if (was_put && times == 0) ++lost;
        if (!was_put && times == 1) ++beyond;
      }
      if (beyond > 1) ++unannounced;  // one may be killed between a put and saying so
    }
    CHECK(twice == 0);
    CHECK(unannounced == 0);
    CHECK(lost <= killed_consumers);
  }
}
