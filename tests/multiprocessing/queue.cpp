// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <brood/multiprocessing/process.hpp>
#include <brood/multiprocessing/queues.hpp>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "support/alarms.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"

namespace mp = brood::multiprocessing;
namespace queue = brood::queue;
using namespace std::chrono_literals;
using mp::Transport;
using support::Gate;
using support::patience;
using support::Shared;

namespace {

using Clock = std::chrono::steady_clock;

// Both ways in which messages travel; a bounded queue is the ring alone.
mp::QueueOptions each_kind() {
  return GENERATE(mp::QueueOptions{.transport = Transport::pipe},
                  mp::QueueOptions{.transport = Transport::shared_memory},
                  mp::QueueOptions{.maxsize = 1000});
}

// Started, and killed at the end of the scope if it still runs then.
class Child {
 public:
  template <class F>
  explicit Child(F body) : process_{std::move(body)} {
    process_.start();
  }
  ~Child() {
    process_.kill();
    process_.join();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  // The exit code, -1000 if it does not end in time.
  int code() const { return process_.join(patience) ? process_.exitcode().value() : -1000; }
  const mp::Process& process() const { return process_; }

 private:
  mp::Process process_;
};

bool readable(int fd, brood::Timeout limit = 0s) {
  return brood::posix::wait_readable(fd, brood::posix::Deadline{limit});
}

// Waits until a process sleeps in the kernel.
void await_sleep(pid_t pid) {
  for (;;) {
    std::FILE* const file = std::fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "re");
    if (file == nullptr) return;
    char line[512] = {};
    const std::size_t size = std::fread(line, 1, sizeof line - 1, file);
    std::fclose(file);
    line[size] = '\0';
    const char* const end = std::strrchr(line, ')');
    if (end == nullptr || end[2] == 'S') return;
    ::sched_yield();
  }
}

std::string text_of(std::size_t size, int seed) {
  return std::string(size, static_cast<char>('a' + seed % 26));
}

}  // namespace

TEST_CASE("a process queue is first in first out with exact counts") {
  const support::LeakCheck nothing_left;
  const mp::Queue<int> q(each_kind());
  CHECK(q.empty());
  CHECK(q.qsize() == 0);
  CHECK_FALSE(q.full());
  for (int i = 0; i < 300; ++i) {
    q.put(i);
    CHECK(q.qsize() == static_cast<std::size_t>(i) + 1);
    CHECK_FALSE(q.empty());
  }
  for (int i = 0; i < 300; ++i) {
    CHECK(q.get() == i);
    CHECK(q.qsize() == static_cast<std::size_t>(299 - i));
  }
  CHECK(q.empty());
  CHECK_THROWS_AS(q.get_nowait(), queue::Empty);
  CHECK_FALSE(q.try_get());
}

TEST_CASE("messages of all sizes keep their order through pipe and ring") {
  const mp::Queue<std::string> q(each_kind());
  const std::size_t sizes[] = {0,    1, 100,    4080, 4087,    4088, 4089, 4096,
                               5000, 2, 70'000, 3,    300'000, 0,    4};
  std::deque<std::string> expected;
  int seed = 0, wrong = 0;
  // A walk that fills and drains the queue, so that it goes from one to the other and back.
  for (int round = 0; round < 60; ++round) {
    for (int n = (round * 7) % 23; n > 0; --n) {
      expected.push_back(text_of(sizes[static_cast<std::size_t>(seed) % std::size(sizes)], seed));
      q.put(expected.back());
      ++seed;
    }
    for (int n = (round * 5) % 19; n > 0 && !expected.empty(); --n) {
      wrong += q.get() != expected.front();
      expected.pop_front();
    }
    wrong += q.qsize() != expected.size() || q.empty() != expected.empty();
  }
  for (const auto& text : expected) wrong += q.get() != text;
  CHECK(wrong == 0);
  CHECK(q.empty());
}

TEST_CASE("items without bytes can be put") {
  const mp::Queue<std::monostate> q(each_kind());
  q.put({});
  q.put({});
  CHECK(q.qsize() == 2);
  CHECK_FALSE(q.empty());
  CHECK(readable(q.fileno()));
  q.get();
  q.get();
  CHECK(q.empty());
}

TEST_CASE("a message of 100 MiB arrives whole and its memory is given back") {
  const support::LeakCheck nothing_left;
  const mp::Queue<std::string> q(each_kind());
  constexpr std::size_t size = std::size_t{100} << 20;
  const Child producer([q] {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; i += 4096) text[i] = static_cast<char>(i >> 12);
    q.put(text);
  });
  const std::string text = q.get();
  bool right = text.size() == size;
  for (std::size_t i = 0; right && i < size; i += 4096)
    right = text[i] == static_cast<char>(i >> 12) && text[i + 1] == '\0';
  CHECK(right);
  CHECK(producer.code() == 0);
}

TEST_CASE("what a process has put can be got before after and without its end") {
  const support::LeakCheck nothing_left;
  const mp::Queue<int> q(each_kind());
  {
    const Child producer([q] {
      for (int i = 0; i < 500; ++i) q.put(i);
      ::_exit(0);  // at once
    });
    CHECK(producer.code() == 0);
  }
  CHECK(q.qsize() == 500);
  int wrong = 0;
  for (int i = 0; i < 500; ++i) wrong += q.get_nowait() != i;
  CHECK(wrong == 0);
  const Gate gate;
  const Child lasting([&, q] {
    q.put(1);
    gate.wait();
  });
  CHECK(q.get(patience) == 1);
}

TEST_CASE("producers are joined before their queue is drained") {
  // The sum of 1 to 300 in partial sums of 100 each, with a megabyte beside each.
  struct Partial {
    long sum;
    std::string ballast;
  };
  const auto options =
      GENERATE(mp::QueueOptions{}, mp::QueueOptions{.transport = Transport::shared_memory});
  const mp::Queue<Partial> q(options);
  std::vector<mp::Process> processes;
  for (int part = 0; part < 3; ++part) {
    processes.emplace_back([q, part] {
      long sum = 0;
      for (int i = part * 100 + 1; i <= part * 100 + 100; ++i) sum += i;
      q.put({sum, std::string(1 << 20, 'x')});
    });
    processes.back().start();
  }
  for (const auto& process : processes) CHECK(process.join(patience));
  CHECK(q.qsize() == 3);
  long total = 0;
  while (!q.empty()) {
    const Partial partial = q.get();
    CHECK(partial.ballast.size() == 1 << 20);
    total += partial.sum;
  }
  CHECK(total == 45150);
}

TEST_CASE("four producers and four consumers pass on every item once") {
  const support::LeakCheck nothing_left;
  const auto options =
      GENERATE(mp::QueueOptions{}, mp::QueueOptions{.transport = Transport::shared_memory},
               mp::QueueOptions{.maxsize = 7});
  constexpr int each = 2000;
  const mp::Queue<std::string> q(options);
  const mp::Queue<std::pair<long, long>> sums;
  std::vector<std::unique_ptr<Child>> children;
  for (int p = 0; p < 4; ++p)
    children.push_back(std::make_unique<Child>([q, p] {
      for (int i = 1; i <= each; ++i) {
        std::string text = std::to_string(p * each + i);
        if (i % 50 == 0) text.insert(0, 10'000, '0');  // through the ring
        q.put(text);
      }
    }));
  for (int c = 0; c < 4; ++c)
    children.push_back(std::make_unique<Child>([q, sums] {
      long sum = 0, count = 0;
      for (const std::string& text : q) {
        sum += std::stol(text);
        ++count;
      }
      sums.put({sum, count});
    }));
  for (std::size_t p = 0; p < 4; ++p) CHECK(children[p]->code() == 0);
  q.shutdown();
  long sum = 0, count = 0;
  for (int c = 0; c < 4; ++c) {
    const auto [s, n] = sums.get(patience);
    sum += s;
    count += n;
  }
  CHECK(count == 4 * each);
  CHECK(sum == long{4 * each} * (4 * each + 1) / 2);
}

TEST_CASE("items of one producer arrive in its order at each consumer") {
  const mp::Queue<std::pair<int, std::string>> q(each_kind());
  const mp::Queue<int> wrongs;
  std::vector<std::unique_ptr<Child>> children;
  for (int c = 0; c < 3; ++c)
    children.push_back(std::make_unique<Child>([q, wrongs] {
      int last[2] = {-1, -1}, wrong = 0;
      for (const auto& [number, text] : q) {
        int& before = last[number % 2];
        wrong += number <= before;
        before = number;
      }
      wrongs.put(wrong);
    }));
  const auto produce = [q](int parity) {
    for (int i = 0; i < 3000; ++i)
      q.put({2 * i + parity, std::string(i % 40 < 3 ? 6000 : 10, 'x')});
  };
  {
    const Child other([&] { produce(1); });
    produce(0);
    CHECK(other.code() == 0);
  }
  q.shutdown();
  for (int c = 0; c < 3; ++c) CHECK(wrongs.get(patience) == 0);
}

TEST_CASE("timeouts bound get and put as a whole") {
  const mp::Queue<int> q(mp::QueueOptions{.maxsize = 2});
  const auto elapsed = [](auto f) {
    const auto start = Clock::now();
    f();
    return Clock::now() - start;
  };
  CHECK(elapsed([&] { CHECK_THROWS_AS(q.get(50ms), queue::Empty); }) >= 50ms);
  CHECK(elapsed([&] { CHECK_THROWS_AS(q.get(50ms), queue::Empty); }) < 60s);
  CHECK_THROWS_AS(q.get(0s), queue::Empty);
  CHECK_THROWS_AS(q.get(-1s), queue::Empty);
  q.put(1);
  q.put(2, 1s);
  CHECK(q.full());
  CHECK(q.maxsize() == 2);
  CHECK_THROWS_AS(q.put_nowait(3), queue::Full);
  CHECK_THROWS_AS(q.put(3, -1s), queue::Full);
  CHECK(elapsed([&] { CHECK_THROWS_AS(q.put(3, 50ms), queue::Full); }) >= 50ms);
  CHECK(q.get() == 1);
  CHECK_FALSE(q.full());
  q.put_nowait(3);
  CHECK(q.get(1s) == 2);
  CHECK(q.get_nowait() == 3);
  for (const auto transport : {Transport::pipe, Transport::shared_memory}) {
    const mp::Queue<int> empty(mp::QueueOptions{.transport = transport});
    CHECK(elapsed([&] { CHECK_THROWS_AS(empty.get(20ms), queue::Empty); }) >= 20ms);
    CHECK(empty.maxsize() == 0);
    CHECK_FALSE(empty.full());
  }
}

TEST_CASE("many waiters of one queue time out one by one") {
  const mp::Queue<int> q(each_kind());
  std::atomic<int> empties{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i)
    threads.emplace_back([&, i] {
      try {
        q.get(std::chrono::milliseconds{10 * (6 - i)});
      } catch (const queue::Empty&) {
        ++empties;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(empties == 6);
}

TEST_CASE("a full queue makes room for its putters in other processes") {
  const support::LeakCheck nothing_left;
  const mp::Queue<int> q(3);
  std::vector<std::unique_ptr<Child>> putters;
  for (int p = 0; p < 5; ++p)
    putters.push_back(std::make_unique<Child>([q] {
      for (int i = 1; i <= 100; ++i) q.put(i);
    }));
  long sum = 0;
  bool within = true;
  for (int i = 0; i < 500; ++i) {
    within = within && q.qsize() <= 3;
    sum += q.get(patience);
  }
  CHECK(within);
  CHECK(sum == 5 * 5050);
  for (const auto& putter : putters) CHECK(putter->code() == 0);
}

TEST_CASE("shutdown wakes getters and putters of other processes") {
  const support::LeakCheck nothing_left;
  const mp::Queue<int> q(each_kind());
  const auto get = [q] { ::_exit(support::throws<queue::ShutDown>([&] { q.get(); }) ? 7 : 1); };
  const Child one(get), two(get), three(get);
  for (const Child* child : {&one, &two, &three}) await_sleep(child->process().pid());
  CHECK_FALSE(q.is_shutdown());
  const Child ends([q] { q.shutdown(); });
  for (const Child* child : {&one, &two, &three}) CHECK(child->code() == 7);
  CHECK(ends.code() == 0);
  CHECK(q.is_shutdown());
  CHECK_THROWS_AS(q.put(1), queue::ShutDown);
  CHECK_THROWS_AS(q.get(), queue::ShutDown);
  CHECK_THROWS_AS(q.get_nowait(), queue::ShutDown);
  CHECK_THROWS_AS(q.get(1s), queue::ShutDown);
  CHECK_FALSE(q.try_get());

  const mp::Queue<int> full(1);
  full.put(1);
  const auto put = [full] {
    ::_exit(support::throws<queue::ShutDown>([&] { full.put(2); }) ? 7 : 1);
  };
  const Child four(put), five(put);
  await_sleep(four.process().pid());
  full.shutdown();
  CHECK(four.code() == 7);
  CHECK(five.code() == 7);
  CHECK(full.get() == 1);
  CHECK_THROWS_AS(full.get(), queue::ShutDown);
}

TEST_CASE("what was put before a shutdown is given out and an immediate one drops it") {
  const auto options = each_kind();
  const mp::Queue<std::string> q(options);
  q.put("a");
  q.put(std::string(10'000, 'b'));
  q.put("c");
  q.shutdown();
  std::vector<std::size_t> sizes;
  for (auto item : q) sizes.push_back(item.size());
  CHECK(sizes == std::vector<std::size_t>{1, 10'000, 1});
  CHECK_NOTHROW(q.shutdown());

  const mp::Queue<std::string> dropped(options);
  dropped.put("a");
  dropped.put(std::string(10'000, 'b'));
  dropped.shutdown(true);
  CHECK(dropped.empty());
  CHECK_THROWS_AS(dropped.get(), queue::ShutDown);
}

TEST_CASE("no item is lost between the last put and a shutdown") {
  const auto options = each_kind();
  int lost = 0;
  for (int round = 0; round < 100; ++round) {
    const mp::Queue<int> q(options);
    const mp::Queue<int> count;
    const Child getter([q, count] {
      int n = 0;
      for (const int item : q) n += item;
      count.put(n);
    });
    for (int i = 0; i < 5; ++i) q.put(1);
    q.shutdown();
    lost += 5 - count.get(patience);
  }
  CHECK(lost == 0);
}

TEST_CASE("a queue is iterated until it is shut down and empty") {
  const mp::Queue<int> q(each_kind());
  const Child producer([q] {
    for (int i = 0; i < 100; ++i) q.put(i);
    q.shutdown();
  });
  int expected = 0, wrong = 0;
  for (int item : q) wrong += item != expected++;
  CHECK(expected == 100);
  CHECK(wrong == 0);
  CHECK(q.begin() == q.end());
}

TEST_CASE("a closed queue refuses in this process alone") {
  const mp::Queue<int> q(each_kind());
  CHECK_THROWS_AS(q.join_thread(), std::logic_error);
  q.put(1);
  const Gate gate;
  const Child other([&, q] {
    gate.wait();
    ::_exit(q.get() == 1 ? 0 : 1);
  });
  q.close();
  q.close();
  CHECK_THROWS_AS(q.put(2), std::invalid_argument);
  CHECK_THROWS_AS(q.get(), std::invalid_argument);
  CHECK_THROWS_AS(q.try_get(), std::invalid_argument);
  CHECK_THROWS_AS(q.empty(), std::invalid_argument);
  CHECK_THROWS_AS(q.qsize(), std::invalid_argument);
  CHECK_THROWS_AS(q.full(), std::invalid_argument);
  CHECK_THROWS_AS(q.fileno(), std::invalid_argument);
  CHECK_THROWS_WITH(q.put(2),
                    Catch::Matchers::ContainsSubstring("put into a queue: it was closed"));
  CHECK_NOTHROW(q.join_thread());
  CHECK_NOTHROW(q.cancel_join_thread());
  gate.open();
  CHECK(other.code() == 0);
}

TEST_CASE("the descriptor of a queue polls readable while an item lies there") {
  const mp::Queue<std::string> q(each_kind());
  const int fd = q.fileno();
  CHECK_FALSE(readable(fd));
  for (const std::size_t size : {std::size_t{1}, std::size_t{100'000}}) {
    q.put(std::string(size, 'x'));
    CHECK(readable(fd));
    q.get();
    CHECK_FALSE(q.try_get());
    CHECK_FALSE(readable(fd));
  }
  const Child producer([q] { q.put("x"); });
  CHECK(readable(fd, patience));
  CHECK(q.get() == "x");
}

TEST_CASE("the descriptor of a queue is not readable once its last item was got") {
  const mp::Queue<std::string> q(each_kind());
  // All that one process puts before anybody looks, so by pipe and by ring.
  for (int i = 0; i < 300; ++i) q.put("x");
  for (int i = 0; i < 300; ++i) q.get();
  CHECK_FALSE(readable(q.fileno()));
  for (const std::size_t size : {std::size_t{1}, std::size_t{100'000}}) {
    for (int i = 0; i < 100; ++i) q.put(text_of(size, i));
    for (int i = 0; i < 100; ++i) {
      CHECK(readable(q.fileno()));
      CHECK(q.get() == text_of(size, i));
    }
    CHECK_FALSE(readable(q.fileno()));
  }
}

TEST_CASE("items keep their order when a stream begins and ends again and again") {
  const mp::Queue<int> there, back;
  const Child echo([=] {
    for (const int number : there) back.put(number);
  });
  int next = 0;
  for (const int length : {1, 15, 16, 17, 40, 1, 300, 2, 18, 1000, 1}) {
    for (int i = 0; i < length; ++i) there.put(next + i);
    bool in_order = true;
    for (int i = 0; i < length; ++i) in_order = back.get(patience) == next + i && in_order;
    CHECK(in_order);
    next += length;
    await_sleep(echo.process().pid());
  }
  there.shutdown();
  CHECK(echo.code() == 0);
}

TEST_CASE("after a death a readable descriptor is settled by the next call") {
  const mp::Queue<int> q(mp::QueueOptions{.transport = Transport::shared_memory});
  const Child dies([q] {
    // Dies as a producer does between the event and the item.
    brood::sync::Ring& ring = q.core().ring();
    ring.put(1, [&](std::byte*) {
      const std::uint64_t one = 1;
      brood::posix::write_some(ring.items_fd(), &one, sizeof one);
      ::raise(SIGKILL);
    });
  });
  CHECK(dies.code() == -SIGKILL);
  CHECK(readable(q.fileno()));
  CHECK_THROWS_AS(q.get_nowait(), queue::Empty);
  CHECK_FALSE(readable(q.fileno()));
}

TEST_CASE("a queue that was used before a fork works in the child") {
  const mp::Queue<int> q(each_kind());
  for (int i = 0; i < 10; ++i) q.put(i);
  CHECK(q.get() == 0);
  const Child child([q] {
    for (int i = 10; i < 20; ++i) q.put(i);
    const mp::Process grandchild([q] { q.put(20); });
    grandchild.start();
    grandchild.join();
  });
  CHECK(child.code() == 0);
  for (int i = 1; i <= 20; ++i) CHECK(q.get(patience) == i);
  CHECK(q.empty());
}

TEST_CASE("a child makes queues and children of its own") {
  const Child child([] {
    const mp::Queue<int> q;
    const mp::Process grandchild([q] { q.put(5); });
    grandchild.start();
    const int got = q.get();
    grandchild.join();
    std::exit(got);
  });
  CHECK(child.code() == 5);
}

TEST_CASE("the last handle of a queue gives back all it has") {
  const support::LeakCheck nothing_left;
  {
    const mp::Queue<std::string> q(each_kind());
    const mp::Queue<std::string> copy = q;
    CHECK(copy == q);
    copy.put(std::string(100'000, 'x'));
    CHECK(q.qsize() == 1);
  }
}

TEST_CASE("a queue without descriptors to spare is not made and leaves nothing") {
  if (support::under_asan)
    SKIP("UndefinedBehaviorSanitizer needs a descriptor to look at an object");
  const auto ended = support::program([] {
    const int next = support::fill_descriptors();
    const auto look = [next](const std::string&) {
      if (support::next_descriptor() != next) support::say("left;");
    };
    const int failures = support::starve([] { const mp::Queue<int> q; }, look);
    look({});
    support::say(failures > 0 ? "made" : "never failed");
  });
  CHECK(ended.said == "made");
}

TEST_CASE("a queue works when the pipe budget of the user is spent") {
  const auto ended = support::program([] {
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0 || ::setuid(65534) != 0)
      return support::say("not allowed");
    const mp::Queue<std::string> roomy;
    for (int i = 0; i < 20; ++i) roomy.put("x");
    std::vector<brood::posix::PipeEnds> pipes;
    for (;;) {
      pipes.push_back(brood::posix::make_pipe());
      const int size = ::fcntl(pipes.back().read.get(), F_GETPIPE_SZ);
      if (size <= 8192) break;
      if (pipes.size() > 1500) return support::say("not limited");
    }
    const mp::Queue<std::string> q;
    for (int i = 0; i < 20; ++i) q.put(std::to_string(i));
    support::say(std::to_string(q.qsize()) + ";");
    const mp::Process process([q] {
      for (int i = 20; i < 40; ++i) q.put(std::to_string(i));
    });
    process.start();
    process.join();
    for (int i = 0; i < 40; ++i)
      if (q.get() != std::to_string(i)) support::say("wrong;");
    // What a small pipe cannot hold is not counted wrong.
    support::say(support::throws<brood::os::PermissionError>([&] { roomy.qsize(); }) ? "refused"
                                                                                     : "counted");
  });
  if (ended.said != "not allowed" && ended.said != "not limited") CHECK(ended.said == "20;refused");
}

TEST_CASE("bytes that are not an item are an error of that get alone") {
  const mp::Queue<std::string> q(each_kind());
  const std::string whole = brood::serialization::dumps(std::string(6000, 'x'));
  for (const std::size_t size : {std::size_t{1}, std::size_t{5000}})
    q.core().put(whole.substr(0, size), brood::posix::Deadline{patience});
  q.core().put(whole + "y", brood::posix::Deadline{patience});
  q.put("good");
  for (int i = 0; i < 3; ++i)
    CHECK_THROWS_AS(q.get(patience), brood::serialization::SerializationError);
  CHECK(q.get() == "good");
}

TEST_CASE("an item that cannot be serialized fails in put and takes no room") {
  struct Deep {
    std::vector<Deep> inside;
  };
  const mp::JoinableQueue<Deep> deep(1);
  Deep too_deep;
  for (int i = 0; i < 100'000; ++i) {
    Deep outer;
    outer.inside.push_back(std::move(too_deep));
    too_deep = std::move(outer);
  }
  CHECK_THROWS_AS(deep.put(too_deep), brood::serialization::SerializationError);
  CHECK(deep.empty());
  deep.put(Deep{});
  CHECK(deep.get().inside.empty());
  deep.task_done();
  CHECK(deep.join(0s));
  while (!too_deep.inside.empty()) {
    Deep inner = std::move(too_deep.inside.front());
    too_deep = std::move(inner);
  }
}

TEST_CASE("a queue carries what can only be moved") {
  const mp::Queue<std::unique_ptr<std::string>> q;
  q.put(std::make_unique<std::string>("moved"));
  q.put(nullptr);
  CHECK(*q.get() == "moved");
  CHECK(q.get() == nullptr);
}

TEST_CASE("signals do not disturb the waits of a queue") {
  support::Alarms alarms;
  const mp::Queue<int> q(1);
  const Child answers([q, &alarms] {
    while (alarms.count() < 10) ::sched_yield();
    q.put(1);
    q.put(2);
    while (alarms.count() < 30) ::sched_yield();
    q.get();
  });
  alarms.every(3000);
  CHECK(q.get() == 1);
  CHECK(q.get() == 2);
  q.put(3);
  q.put(4, patience);
  alarms.every(0);
  CHECK(q.get() == 4);
}

TEST_CASE("threads and processes share a queue") {
  if (support::under_asan) SKIP("AddressSanitizer's allocator may hang after such a fork");
  const support::LeakCheck nothing_left;
  const mp::Queue<int> q(each_kind());
  std::atomic<long> sum{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      for (const int item : q) sum += item;
    });
  std::vector<std::unique_ptr<Child>> children;
  for (int p = 0; p < 3; ++p)
    children.push_back(std::make_unique<Child>([q] {
      ::alarm(support::last_alarm);
      for (int i = 1; i <= 1000; ++i) q.put(i);
    }));
  for (const auto& child : children) CHECK(child->code() == 0);
  q.shutdown();
  for (auto& thread : threads) thread.join();
  CHECK(sum == 3 * 500'500);
}
