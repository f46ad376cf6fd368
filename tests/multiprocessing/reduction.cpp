// SPDX-License-Identifier: MIT
// Handles that cross to a process which does not have them by fork: each arrives as the same
// object, and works there as here.
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <brood/multiprocessing.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/stranger.hpp"

namespace mp = brood::multiprocessing;
namespace os = brood::os;
namespace posix = brood::posix;
namespace serialization = brood::serialization;
using namespace std::chrono_literals;
using brood::serialization::SerializationError;
using mp::Reduction;
using mp::shared_memory::SharedMemory;
using support::patience;
using support::reduced;
using support::restored;
using support::Stranger;

namespace {

// As if it came from another process: descriptors of its own for what `sent` has collected.
posix::List<posix::unique_fd> as_received(const Reduction& sent) {
  posix::List<posix::unique_fd> result;
  for (const int fd : sent.descriptors()) result.push_back(posix::duplicate(fd));
  return result;
}

template <class T>
T crossed(const T& value) {
  Reduction out;
  const std::string bytes = reduced(value, out);
  Reduction in{as_received(out)};
  return restored<T>(bytes, in);
}

template <class T>
bool is_refused(const std::string& bytes, Reduction& reduction) {
  return support::throws<SerializationError>([&] { restored<T>(bytes, reduction); });
}

class Kitchen {
 public:
  template <class Archive>
  void serialize(Archive& ar) {
    ar(clean_);
  }
  std::optional<mp::Queue<int>> clean_;
};

}  // namespace

TEST_CASE("a lock that crossed excludes both sides and is handed on by the dead") {
  const support::LeakCheck nothing_left;
  Stranger<mp::Lock, mp::Event, mp::Event> other([](mp::Lock lock, mp::Event tried, mp::Event go) {
    if (lock.try_lock() || lock.is_mine()) return false;
    tried.set();
    if (!lock.acquire(patience) || !lock.is_mine() || lock.abandoned()) return false;
    if (!go.wait(patience)) return false;
    ::_exit(9);  // with the lock
  });
  const mp::Lock lock;
  const mp::Event tried, go;
  lock.acquire();
  other.send(lock, tried, go);
  CHECK(tried.wait(patience));
  lock.release();
  while (lock.native_owner() != other.pid()) ::sched_yield();
  CHECK_FALSE(lock.try_lock());
  go.set();
  CHECK(lock.acquire(patience));
  CHECK(lock.abandoned());
  lock.release();
  CHECK(other.join() == 9);
}

TEST_CASE("an rlock that crossed is held as often as it was acquired") {
  const support::LeakCheck nothing_left;
  Stranger<mp::RLock> other([](mp::RLock lock) {
    lock.acquire();
    lock.acquire();
    const bool twice = lock.depth() == 2;
    lock.release();
    lock.release();
    return twice && !lock.locked();
  });
  const mp::RLock lock;
  other.send(lock);
  CHECK(other.join() == 0);
  CHECK(lock.try_lock());
  CHECK_FALSE(lock.abandoned());
  lock.release();
}

TEST_CASE("semaphores that crossed count together") {
  const support::LeakCheck nothing_left;
  using Args = std::tuple<mp::Semaphore, mp::BoundedSemaphore>;
  Stranger<mp::Semaphore, mp::BoundedSemaphore> other(
      [](mp::Semaphore plain, mp::BoundedSemaphore bounded) {
        for (int i = 0; i < 3; ++i)
          if (!plain.acquire(patience)) return false;
        if (bounded.maxvalue() != 2 || bounded.get_value() != 1) return false;
        bounded.release();
        return support::throws<std::invalid_argument>([&] { bounded.release(); });
      });
  const mp::Semaphore plain(1);
  const mp::BoundedSemaphore bounded(2);
  bounded.acquire();
  other.send(plain, bounded);
  plain.release(2);
  CHECK(other.join() == 0);
  CHECK(plain.get_value() == 0);
  CHECK(bounded.get_value() == 2);
  const auto [again, same] = crossed(Args{plain, bounded});
  CHECK(again.get_value() == 0);
  CHECK(same.maxvalue() == 2);
}

TEST_CASE("a condition that crossed wakes either side and keeps its lock") {
  const support::LeakCheck nothing_left;
  // With a lock that also crosses by itself.
  Stranger<mp::Condition, mp::Lock, mp::Value<int>> other(
      [](mp::Condition changed, mp::Lock lock, mp::Value<int> turn) {
        const std::scoped_lock held(lock);
        if (changed.try_lock()) return false;
        turn.set(1);
        changed.notify_all();
        return changed.wait_for([&] { return turn.get() == 2; }, patience);
      });
  const mp::Lock lock;
  const mp::Condition changed(lock);
  const mp::Value<int> turn(0);
  lock.acquire();
  other.send(changed, lock, turn);
  CHECK(changed.wait_for([&] { return turn.get() == 1; }, patience));
  turn.set(2);
  changed.notify();
  lock.release();
  CHECK(other.join() == 0);
}

TEST_CASE("a barrier that crossed lets both sides pass and keeps its limit") {
  const support::LeakCheck nothing_left;
  Stranger<mp::Barrier, mp::Barrier> other([](mp::Barrier barrier, mp::Barrier hasty) {
    for (int i = 0; i < 100; ++i) barrier.wait();
    return support::throws<brood::threading::BrokenBarrierError>([&] { hasty.wait(); }) &&
           barrier.parties() == 2;
  });
  const mp::Barrier barrier(2), hasty(2, {}, 1ms);
  other.send(barrier, hasty);
  std::size_t sum = 0;
  for (int i = 0; i < 100; ++i) sum += barrier.wait(patience);
  CHECK(sum <= 100);
  CHECK(other.join() == 0);
  CHECK(hasty.broken());
}

namespace {

struct CountUp {
  mp::Value<int> count;
  void operator()() const {
    count.update([](int& n) { ++n; });
  }
};

int actions = 0;
void act() { ++actions; }

}  // namespace

TEST_CASE("a barrier takes its action along to another process") {
  const support::LeakCheck nothing_left;
  Stranger<mp::Barrier, mp::Barrier, mp::Barrier> other(
      [](mp::Barrier counts, mp::Barrier calls, mp::Barrier stateless) {
        const int before = actions;
        for (int i = 0; i < 100; ++i) counts.wait(patience);
        calls.wait(patience);
        stateless.wait(patience);
        return actions == before + 1;  // it is the only party
      });
  const mp::Value<int> count(0);
  const mp::Barrier counts(2, CountUp{count}), calls(1, &act), stateless(1, [] {});
  other.send(counts, calls, stateless);
  for (int i = 0; i < 100; ++i) counts.wait(patience);
  CHECK(other.join() == 0);
  CHECK(count.get() == 100);
}

TEST_CASE("a barrier whose action cannot cross is refused by the name of its type") {
  struct Remembering {
    explicit Remembering(std::string what) : text{std::move(what)} {}
    void operator()() const {}
    std::string text;
  };
  const mp::Barrier barrier(2, Remembering{"what was"});
  Reduction reduction;
  CHECK_THROWS_WITH(reduced(barrier, reduction),
                    Catch::Matchers::ContainsSubstring("Remembering") &&
                        Catch::Matchers::ContainsSubstring("can't cross"));
}

TEST_CASE("values and arrays that crossed are the same memory") {
  const support::LeakCheck nothing_left;
  struct Point {
    double x, y;
  };
  Stranger<mp::Value<Point>, mp::RawValue<long>, mp::Array<int>, mp::RawArray<char>,
           mp::RawArray<double>>
      other([](mp::Value<Point> point, mp::RawValue<long> raw, mp::Array<int> numbers,
               mp::RawArray<char> empty, mp::RawArray<double> large) {
        for (int i = 0; i < 1000; ++i) point.update([](Point& p) { p.x += 1; });
        raw.set(raw.get() + 1);
        const std::scoped_lock held(numbers.get_lock());
        for (int& number : numbers) number *= 2;
        large[99'999] = large[0] + 1;
        return empty.size() == 0 && numbers.size() == 3 && large.size() == 100'000 &&
               numbers.get_lock().is_mine();
      });
  const mp::Value<Point> point({1, 2});
  const mp::RawValue<long> raw(41);
  const mp::Array<int> numbers{1, 2, 3};
  const mp::RawArray<char> empty(0);
  const mp::RawArray<double> large(100'000);
  large[0] = 0.5;
  other.send(point, raw, numbers, empty, large);
  for (int i = 0; i < 1000; ++i) point.update([](Point& p) { p.x += 1; });
  CHECK(other.join() == 0);
  CHECK(point.get().x == 2001);
  CHECK(raw.get() == 42);
  CHECK(std::vector<int>(numbers.begin(), numbers.end()) == std::vector{2, 4, 6});
  CHECK_FALSE(numbers.get_lock().locked());
  CHECK(large[99'999] == 1.5);
}

TEST_CASE("shared memory crosses with its name or without one") {
  const support::LeakCheck nothing_left;
  const std::string name = "brood-test-reduction-" + std::to_string(::getpid());
  Stranger<SharedMemory, SharedMemory, std::string> other(
      [](SharedMemory named, SharedMemory nameless, std::string known_as) {
        named.buf()[0] = std::byte{1};
        nameless.buf()[99] = std::byte{2};
        return named.name() == known_as && nameless.name().empty() && named.size() == 50 &&
               nameless.buf().size() == 100;
      });
  const SharedMemory named({.name = name, .create = true, .size = 50});
  const SharedMemory nameless({.create = true, .size = 100});
  named.unlink();  // it crosses all the same
  other.send(named, nameless, name);
  CHECK(other.join() == 0);
  CHECK(named.buf()[0] == std::byte{1});
  CHECK(nameless.buf()[99] == std::byte{2});
  nameless.close();
  Reduction reduction;
  CHECK_THROWS_AS(reduced(nameless, reduction), os::OSError);
}

TEST_CASE("shared memory that was closed here crosses by its name") {
  const support::LeakCheck nothing_left;
  const std::string name = "brood-test-closed-" + std::to_string(::getpid());
  Stranger<SharedMemory> other([](SharedMemory memory) {
    memory.buf()[0] = std::byte{1};
    return memory.size() == 50;
  });
  const SharedMemory closed({.name = name, .create = true, .size = 50});
  const SharedMemory open(name);
  closed.close();
  other.send(closed);
  CHECK(other.join() == 0);
  CHECK(open.buf()[0] == std::byte{1});
  open.unlink();
}

TEST_CASE("connections that crossed are the same ends") {
  const support::LeakCheck nothing_left;
  Stranger<mp::Connection, mp::Connection, mp::Connection> other(
      [](mp::Connection both, mp::Connection from, mp::Connection to) {
        if (from.writable() || to.readable()) return false;
        const auto text = both.recv<std::string>();
        both.send(text + text);
        to.send(from.recv<int>() + 1);
        const bool large = both.recv_bytes().size() == 1'000'000;
        return large && support::throws<brood::EOFError>([&] { both.recv_bytes(); });
      });
  auto [here, there] = mp::Pipe();
  auto [reads, writes] = mp::Pipe(false);
  auto [answers, asks] = mp::Pipe(false);
  other.send(there, reads, asks);
  there.close();
  reads.close();
  asks.close();
  here.send("tea");
  writes.send(1);
  CHECK(here.recv<std::string>() == "teatea");
  CHECK(answers.recv<int>() == 2);
  here.send_bytes(std::string(1'000'000, 'x'));
  here.close();
  CHECK(other.join() == 0);
  Reduction reduction;
  CHECK_THROWS_AS(reduced(here, reduction), os::OSError);
}

TEST_CASE("a connection that is closed on its way still arrives") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  {
    Reduction out;
    const std::string bytes = reduced(there, out);
    there.close();
    // The number means the end until the reduction is gone.
    const auto file = posix::open_file("/dev/null", O_RDONLY);
    Reduction in{as_received(out)};
    const auto arrived = restored<mp::Connection>(bytes, in);
    here.send(5);
    CHECK(arrived.recv<int>() == 5);
  }
  CHECK_THROWS_AS(here.send(6), os::BrokenPipeError);
}

TEST_CASE("queues that crossed are the same queues") {
  const support::LeakCheck nothing_left;
  const mp::QueueOptions options[] = {
      {}, {.transport = mp::Transport::shared_memory}, {.maxsize = 2}};
  for (const auto& option : options) {
    INFO(option.maxsize << " " << static_cast<int>(option.transport));
    Stranger<mp::Queue<std::string>, mp::Queue<int>> other(
        [](mp::Queue<std::string> texts, mp::Queue<int> lengths) {
          for (const std::string& text : texts) lengths.put(static_cast<int>(text.size()));
          return texts.is_shutdown() && texts.empty() && lengths.maxsize() == texts.maxsize();
        });
    const mp::Queue<std::string> texts(option);
    const mp::Queue<int> lengths(option);
    texts.put("before");
    other.send(texts, lengths);
    CHECK(lengths.get(patience) == 6);
    std::vector<int> got;
    for (int i = 0; i < 50; ++i) {
      texts.put(std::string(static_cast<std::size_t>(i * i * 50), 'x'), patience);
      got.push_back(lengths.get(patience));
    }
    CHECK(got[49] == 49 * 49 * 50);
    CHECK(got[1] == 50);
    // Readable there and here alike.
    lengths.put(0);
    CHECK(posix::wait_readable(lengths.fileno(), posix::Deadline{patience}));
    CHECK(lengths.qsize() == 1);
    CHECK(lengths.get() == 0);
    texts.shutdown();
    CHECK(other.join() == 0);
  }
}

TEST_CASE("a queue that crossed bounds both sides") {
  const support::LeakCheck nothing_left;
  Stranger<mp::Queue<int>, mp::Event> other([](mp::Queue<int> q, mp::Event full) {
    q.put(1);
    q.put(2);
    if (!q.full() || !support::throws<brood::queue::Full>([&] { q.put_nowait(3); })) return false;
    full.set();
    q.put(3, patience);  // waits for the room that the other side makes
    return q.maxsize() == 2;
  });
  const mp::Queue<int> q(2);
  const mp::Event full;
  other.send(q, full);
  CHECK(full.wait(patience));
  for (int i = 1; i <= 3; ++i) CHECK(q.get(patience) == i);
  CHECK(other.join() == 0);
}

TEST_CASE("a joinable queue that crossed is joined and names what the dead owe") {
  const support::LeakCheck nothing_left;
  Stranger<mp::JoinableQueue<int>> worker([](mp::JoinableQueue<int> q) {
    for (int i = 0; i < 10; ++i) {
      q.get();
      q.task_done();
    }
    return true;
  });
  Stranger<mp::JoinableQueue<int>, mp::Event> owes([](mp::JoinableQueue<int> q, mp::Event has_it) {
    q.get();
    has_it.set();
    while (true) ::pause();
    return true;
  });
  const mp::JoinableQueue<int> q;
  const mp::Event has_it;
  for (int i = 0; i < 10; ++i) q.put(i);
  worker.send(q);
  CHECK(q.join(patience));
  CHECK(worker.join() == 0);
  q.put(10);
  owes.send(q, has_it);
  CHECK(has_it.wait(patience));
  CHECK_FALSE(q.join(1ms));
  REQUIRE(q.unfinished().size() == 1);
  CHECK(q.unfinished()[0].pid == owes.pid());
  owes.kill();
  CHECK_THROWS_AS(q.join(patience), mp::ProcessError);
  q.task_done();
  CHECK(q.join(patience));
  CHECK(owes.join() == -SIGKILL);
}

TEST_CASE("a simple queue that crossed is the same queue") {
  const support::LeakCheck nothing_left;
  Stranger<mp::SimpleQueue<int>, mp::SimpleQueue<int>> other(
      [](mp::SimpleQueue<int> from, mp::SimpleQueue<int> to) {
        to.put(from.get() * 2);
        return true;
      });
  const mp::SimpleQueue<int> from, to;
  other.send(from, to);
  from.put(4);
  CHECK(to.get(patience) == 8);
  CHECK(other.join() == 0);
}

TEST_CASE("a queue stands the death of those it crossed to") {
  const support::LeakCheck nothing_left;
  for (const auto transport : {mp::Transport::pipe, mp::Transport::shared_memory}) {
    using Queue = mp::Queue<std::string>;
    std::vector<std::unique_ptr<Stranger<Queue>>> others;
    for (int i = 0; i < 6; ++i)
      others.push_back(std::make_unique<Stranger<Queue>>([i](Queue q) {
        for (;;) {
          if (i % 2 == 0)
            q.put(std::string(i == 0 ? 10 : 5000, 'x'));
          else
            q.get();
        }
        return true;
      }));
    const Queue q({.transport = transport});
    for (const auto& other : others) other->send(q);
    std::mt19937 random{7};
    for (auto& other : others) {
      for (int i = 0; i < 20; ++i) CHECK_NOTHROW(q.get(patience));
      const timespec pause{0, static_cast<long>(random() % 2'000'000)};
      ::nanosleep(&pause, nullptr);
      other->kill();
      CHECK(other->join() == -SIGKILL);
      if (other == others[4]) break;  // the last that puts
    }
    others.back()->kill();
    while (q.try_get()) {
    }
    q.put("still");
    CHECK(q.get(patience) == "still");
    CHECK(q.empty());
  }
}

TEST_CASE("handles in containers and classes arrive as one object each") {
  const support::LeakCheck nothing_left;
  struct House {
    mp::Queue<int> dishes;
    std::map<std::string, mp::Lock> locks;
    std::vector<Kitchen> kitchens;
    std::variant<int, mp::Connection> line;
    std::unique_ptr<mp::Event> bell;
    mp::Lock again;
    mp::Condition over;
    mp::Value<int> value;
    mp::RLock its_lock;
  };
  const mp::Lock lock;
  const mp::RLock rlock;
  const mp::Queue<int> q;
  auto [here, there] = mp::Pipe();
  House house{q,
              {{"door", lock}, {"window", mp::Lock()}, {"gate", lock}},
              {},
              there,
              std::make_unique<mp::Event>(),
              lock,
              mp::Condition(lock),
              mp::Value<int>(3, rlock),
              rlock};
  house.kitchens.resize(2);
  house.kitchens[0].clean_ = q;
  q.put(5);
  House arrived = crossed(house);
  CHECK(arrived.dishes == arrived.kitchens[0].clean_);
  CHECK_FALSE(arrived.kitchens[1].clean_);
  CHECK(arrived.dishes != house.dishes);  // not by the same handle
  CHECK(arrived.locks.at("door") == arrived.locks.at("gate"));
  CHECK(arrived.locks.at("door") == arrived.again);
  CHECK(arrived.locks.at("door") != arrived.locks.at("window"));
  CHECK(arrived.value.get_lock() == arrived.its_lock);
  CHECK(arrived.value.get() == 3);
  CHECK(arrived.dishes.get() == 5);
  lock.acquire();
  CHECK(arrived.over.locked());
  lock.release();
  std::get<mp::Connection>(arrived.line).send(1);
  CHECK(here.recv<int>() == 1);
  // From there it can go on.
  const House further = crossed(arrived);
  q.put(6);
  CHECK(further.dishes.get() == 6);
}

TEST_CASE("a thousand locks cross with a few descriptors") {
  const support::LeakCheck nothing_left;
  std::vector<mp::Lock> locks(1000);
  std::vector<mp::Value<double>> values(1000);
  Reduction out;
  const std::string bytes = reduced(std::pair(locks, values), out);
  CHECK(out.descriptors().size() < 20);
  Reduction in{as_received(out)};
  const auto arrived =
      restored<std::pair<std::vector<mp::Lock>, std::vector<mp::Value<double>>>>(bytes, in);
  std::set<const void*> different;
  bool all = true;
  for (std::size_t i = 0; i < 1000; ++i) {
    different.insert(arrived.first[i].identity());
    values[i].set(static_cast<double>(i));
    locks[i].acquire();
    all = all && arrived.first[i].locked();
    locks[i].release();
    all = all && !arrived.first[i].locked();
  }
  CHECK(different.size() == 1000);
  for (std::size_t i = 0; i < 1000; ++i)
    all = all && arrived.second[i].get() == static_cast<double>(i);
  CHECK(all);
}

// Where the types tell, the compiler says so.
static_assert(brood::Serializable<mp::Lock> && !brood::Sendable<mp::Lock>);
static_assert(brood::Serializable<std::map<int, std::optional<mp::Queue<int>>>> &&
              !brood::Sendable<std::map<int, std::optional<mp::Queue<int>>>>);
static_assert(brood::Sendable<std::map<int, std::optional<std::string>>>);
static_assert(!brood::Sendable<const char*>);

TEST_CASE("a handle crosses towards a new process only") {
  const support::LeakCheck nothing_left;
  const mp::Lock lock;
  CHECK_THROWS_WITH(serialization::dumps(lock),
                    "serialization: a queue, lock, connection or other handle can only be an "
                    "argument of a new process");
  CHECK_THROWS_AS(serialization::dumps(mp::Queue<int>()), SerializationError);
  CHECK_THROWS_AS(serialization::loads<mp::Lock>(serialization::dumps(1)), SerializationError);
  // Another context is none that would do.
  struct : serialization::Context {
  } context;
  char buffer[100];
  CHECK_THROWS_AS(serialization::Writer(buffer, 100, &context).write(lock), SerializationError);
  CHECK_THROWS_AS(serialization::Reader({buffer, 100}, &context).read<mp::Lock>(),
                  SerializationError);
}

TEST_CASE("a queue that cannot be joined does not arrive as one that can") {
  Reduction out;
  const mp::Queue<int> plain;
  const std::string bytes = reduced(plain, out);
  Reduction in{as_received(out)};
  CHECK(is_refused<mp::JoinableQueue<int>>(bytes, in));
  // The other way round it stays what it is.
  const mp::JoinableQueue<int> q;
  q.put(1);
  const mp::Queue<int>& base = q;
  const auto arrived = crossed(base);
  arrived.get();
  CHECK(q.unfinished().size() == 1);
}

TEST_CASE("descriptors that were not taken are closed") {
  const support::LeakCheck nothing_left;
  Reduction out;
  const auto file = posix::open_file("/dev/null", O_RDONLY);
  CHECK(out.add(file.get()) == 0);
  CHECK(out.add(0) == 1);
  CHECK(out.add(file.get()) == 0);
  CHECK(out.descriptors().size() == 2);
  CHECK_THROWS_AS(out.add(-1), os::OSError);
  Reduction in{as_received(out)};
  CHECK_THROWS_AS(in.take(2, S_IFREG), SerializationError);
  CHECK_THROWS_AS(in.take(Reduction::no_descriptor, S_IFREG), SerializationError);
  CHECK_THROWS_AS(in.take(0, S_IFREG), SerializationError);
  CHECK(in.take(0, S_IFCHR));
  CHECK_THROWS_AS(in.take(0, S_IFCHR), SerializationError);
}

TEST_CASE("handles of damaged bytes are refused") {
  const support::LeakCheck nothing_left;
  using All = std::tuple<mp::Lock, mp::Condition, mp::Array<int>, SharedMemory, mp::Connection,
                         mp::Queue<int>, mp::JoinableQueue<int>, mp::Event, mp::Value<long>>;
  const mp::RLock lock;
  const All all{mp::Lock(),
                mp::Condition(),
                mp::Array<int>(5),
                SharedMemory({.create = true, .size = 100}),
                mp::Pipe().first,
                mp::Queue<int>(),
                mp::JoinableQueue<int>(),
                mp::Event(),
                mp::Value<long>(1)};
  Reduction out;
  const std::string bytes = reduced(all, out);
  std::mt19937 random{5};
  int refused = 0, taken = 0;
  const auto attempt = [&](const std::string& changed, posix::List<posix::unique_fd> received) {
    Reduction in{std::move(received)};
    try {
      restored<All>(changed, in);
      ++taken;
    } catch (const SerializationError&) {
      ++refused;
    }
  };
  // Each byte changed, and all that is missing behind it.
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ static_cast<char>(1 + random() % 255));
    attempt(changed, as_received(out));
    attempt(bytes.substr(0, at), as_received(out));
  }
  // Numbers of the wrong descriptors.
  for (int i = 0; i < 300; ++i) {
    std::string changed = bytes;
    const std::size_t at = random() % (bytes.size() / 4) * 4;
    const auto number = static_cast<std::uint32_t>(random() % (out.descriptors().size() + 2));
    std::memcpy(changed.data() + at, &number, 4);
    attempt(changed, as_received(out));
  }
  // Descriptors of something else.
  const posix::unique_fd others[] = {
      posix::open_file("/dev/null", O_RDWR), posix::make_memory_file("small", 100),
      posix::make_memory_file("empty", 0), posix::make_memory_file("unit", 2 << 20)};
  for (const auto& instead : others) {
    for (std::size_t i = 0; i < out.descriptors().size(); ++i) {
      auto received = as_received(out);
      received[i] = posix::duplicate(instead.get());
      attempt(bytes, std::move(received));
    }
  }
  CHECK(refused > 500);
  attempt(bytes, as_received(out));
  CHECK(taken >= 1);
}

TEST_CASE("memory that is shorter than a handle says is refused") {
  const support::LeakCheck nothing_left;
  const mp::RawArray<char> array(100'000);
  Reduction out;
  const std::string bytes = reduced(array, out);
  posix::List<posix::unique_fd> received;
  received.push_back(posix::make_memory_file("shorter", 99'000));
  Reduction in{std::move(received)};
  CHECK(is_refused<mp::RawArray<char>>(bytes, in));
}

TEST_CASE("one object named as two classes is refused") {
  const support::LeakCheck nothing_left;
  Reduction out;
  const mp::Lock lock;
  const std::string bytes = reduced(std::pair(lock, lock), out);
  Reduction in{as_received(out)};
  CHECK(is_refused<std::pair<mp::Lock, mp::Event>>(bytes, in));
  Reduction again{as_received(out)};
  CHECK(is_refused<std::pair<mp::Event, mp::Event>>(bytes, again));
}

TEST_CASE("a queue for which there is no descriptor left is an error that leaves nothing") {
  const auto ended = support::program([] {
    const mp::Queue<int> q;
    Reduction out;
    const std::string bytes = reduced(q, out);
    Reduction in{as_received(out)};
    const auto open_before = support::open_descriptors().size();
    int error_number = 0;
    try {
      const support::DescriptorsBelow none{0};
      restored<mp::Queue<int>>(bytes, in);
    } catch (const os::OSError& error) {
      error_number = error.code().value();
    }
    support::say(error_number == EMFILE ? "no room" : "else");
    if (support::open_descriptors().size() > open_before) support::say(" and left open");
  });
  CHECK(ended.said == "no room");
}

TEST_CASE("a process forked where handles have arrived has them too") {
  const support::LeakCheck nothing_left;
  Stranger<mp::Queue<int>, mp::Lock> other([](mp::Queue<int> q, mp::Lock lock) {
    mp::Process child([q, lock] {
      const std::scoped_lock held(lock);
      q.put(q.get() + 1);
    });
    child.start();
    return child.join(patience) && child.exitcode() == 0;
  });
  const mp::Queue<int> q;
  const mp::Lock lock;
  q.put(1);
  other.send(q, lock);
  CHECK(other.join() == 0);
  CHECK(q.get() == 2);
}
