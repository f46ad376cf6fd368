// SPDX-License-Identifier: MIT
//
// Thread: starting, joining, names, identity, what becomes of target and arguments.
#include <pthread.h>

#include <atomic>
#include <brood/queue.hpp>
#include <brood/threading.hpp>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <unordered_set>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/patience.hpp"
#include "support/sleepers.hpp"

using namespace brood;
using namespace std::chrono_literals;
using support::moment;
using support::patience;

namespace {

bool enumerated(const threading::Thread& thread) {
  for (const auto& other : threading::enumerate()) {
    if (other == thread) return true;
  }
  return false;
}

std::string os_name() {
  char name[16] = {};
  ::pthread_getname_np(::pthread_self(), name, sizeof name);
  return name;
}

// A gate that a thread waits at and the test opens.
class Gate {
 public:
  void wait() const {
    try {
      queue_.get();
    } catch (const queue::ShutDown&) {
    }
  }
  void open() const { queue_.shutdown(); }

 private:
  queue::Queue<int> queue_;
};

}  // namespace

TEST_CASE("a thread calls its target with its arguments") {
  std::string result;
  threading::Thread thread([&](int a, const std::string& b) { result = b + std::to_string(a); }, 7,
                           "n");
  CHECK(result.empty());
  thread.start();
  CHECK(thread.join());
  CHECK(result == "n7");
}

TEST_CASE("target and arguments are copied or moved and called as rvalues") {
  struct Target {
    void operator()(std::unique_ptr<int>&& p, int& counter) && { counter += *p; }
    void operator()(std::unique_ptr<int>&&, int&) & {}
  };
  int counter = 0;
  threading::Thread thread(Target{}, std::make_unique<int>(5), std::ref(counter));
  thread.start();
  thread.join();
  CHECK(counter == 5);

  struct Worker {
    void add(int n) { sum += n; }
    int sum = 0;
  } worker;
  threading::Thread member(&Worker::add, &worker, 3);
  member.start();
  member.join();
  CHECK(worker.sum == 3);

  int calls = 0;
  const auto count = [&] { ++calls; };
  threading::Thread copied(count);
  copied.start();
  copied.join();
  CHECK(calls == 1);

  using threading::Thread;
  STATIC_REQUIRE(std::is_constructible_v<Thread, void (*)(long), int>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<Thread, void (*)(int&), int>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<Thread, void (*)(int)>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<Thread, Thread, int>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<Thread>);
}

TEST_CASE("target and arguments are destroyed when the thread has run") {
  const auto held = std::make_shared<int>(1);
  threading::Thread thread([held](const std::shared_ptr<int>&) {}, held);
  CHECK(held.use_count() == 3);
  thread.start();
  thread.join();
  CHECK(held.use_count() == 1);

  threading::set_excepthook([](const threading::ExceptHookArgs&) {});
  threading::Thread failing([held] { throw 1; });
  failing.start();
  failing.join();
  CHECK(held.use_count() == 1);
  threading::set_excepthook(nullptr);

  {
    const threading::Thread never_started([held] {});
    CHECK(held.use_count() == 2);
  }
  CHECK(held.use_count() == 1);
}

TEST_CASE("threads have the names they are given or numbered ones") {
  CHECK(threading::Thread({.name = "dryer"}, [] {}).name() == "dryer");
  threading::Thread first([] {});
  threading::Thread second([] {});
  CHECK_THAT(first.name(), Catch::Matchers::StartsWith("Thread-"));
  const int number = std::stoi(first.name().substr(7));
  CHECK(second.name() == "Thread-" + std::to_string(number + 1));
  first.set_name("other");
  CHECK(first.name() == "other");
  CHECK(threading::main_thread().name() == "MainThread");
}

TEST_CASE("ten threads have idents and native ids of their own") {
  constexpr int count = 10;
  Gate gate;
  std::atomic<int> running{0};
  std::vector<threading::Thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&] {
      ++running;
      gate.wait();
    });
    const auto& thread = threads.back();
    CHECK(thread.ident() == std::nullopt);
    CHECK(thread.native_id() == 0);
    CHECK_FALSE(thread.is_alive());
    thread.start();
    CHECK(thread.is_alive());
  }
  CHECK(threading::active_count() == count + 1);
  std::set<std::size_t> idents{threading::get_ident()};
  std::set<pid_t> native_ids{threading::get_native_id()};
  for (const auto& thread : threads) {
    CHECK(enumerated(thread));
    idents.insert(thread.ident().value());
    native_ids.insert(thread.native_id());
  }
  CHECK(idents.size() == count + 1);
  CHECK(native_ids.size() == count + 1);
  gate.open();
  for (const auto& thread : threads) {
    CHECK(thread.join(patience));
    CHECK_FALSE(thread.is_alive());
    CHECK(thread.ident() != std::nullopt);  // kept after its end
  }
  CHECK(running == count);
  CHECK(threading::active_count() == 1);
}

TEST_CASE("a thread sees itself as the current one") {
  std::size_t ident = 0;
  pid_t native = 0;
  bool same = false, main = true;
  threading::Thread thread([&] {
    ident = threading::get_ident();
    native = threading::get_native_id();
    same = threading::current_thread().ident() == ident;
    main = threading::current_thread() == threading::main_thread();
  });
  thread.start();
  thread.join();
  CHECK(same);
  CHECK_FALSE(main);
  CHECK(thread.ident() == ident);
  CHECK(thread.native_id() == native);
}

TEST_CASE("the main thread knows itself") {
  const auto main = threading::main_thread();
  CHECK(main == threading::current_thread());
  CHECK(main.is_alive());
  CHECK_FALSE(main.daemon());
  CHECK(main.ident() == threading::get_ident());
  CHECK(main.native_id() == ::getpid());
  CHECK(enumerated(main));
}

TEST_CASE("threads run on stacks of the size asked for") {
  CHECK(threading::stack_size() == 0);
  CHECK_THROWS_AS(threading::stack_size(4096), std::invalid_argument);
  for (const std::size_t size : {std::size_t{256} * 1024, std::size_t{1024} * 1024}) {
    CHECK(threading::stack_size(size) == 0);
    CHECK(threading::stack_size() == size);
    std::size_t found = 0;
    threading::Thread thread([&] {
      pthread_attr_t attributes;
      ::pthread_getattr_np(::pthread_self(), &attributes);
      ::pthread_attr_getstacksize(&attributes, &found);
      ::pthread_attr_destroy(&attributes);
    });
    thread.start();
    thread.join();
    CHECK(threading::stack_size(0) == size);
    CHECK(found >= size);
    CHECK(found < 2 * size + 1024 * 1024);  // a sanitizer may add to it
  }
}

TEST_CASE("a foreign thread is a dummy as long as it runs") {
  std::string name;
  bool daemon = false, alive = false, listed = false;
  std::optional<threading::Thread> dummy;
  std::size_t ident = 0;
  std::thread foreign([&] {
    ident = threading::get_ident();
    dummy = threading::current_thread();
    name = dummy->name();
    daemon = dummy->daemon();
    alive = dummy->is_alive();
    listed = enumerated(*dummy) && dummy == threading::current_thread();
    try {
      dummy->join();
      alive = false;
    } catch (const std::logic_error&) {
    }
  });
  foreign.join();
  CHECK_THAT(name, Catch::Matchers::StartsWith("Dummy-"));
  CHECK(daemon);
  CHECK(alive);
  CHECK(listed);
  CHECK(dummy->ident() == ident);
  CHECK_THROWS_AS(dummy->join(), std::logic_error);
  CHECK_FALSE(dummy->is_alive());
  CHECK_FALSE(enumerated(*dummy));
}

TEST_CASE("a start that fails leaves no trace and may be tried again") {
  const auto held = std::make_shared<int>(1);
  threading::Thread thread([held] {});
  // More stack than there are addresses.
  threading::stack_size(std::size_t{1} << 60);
  CHECK_THROWS_AS(thread.start(), os::OSError);
  threading::stack_size(0);
  CHECK_FALSE(enumerated(thread));
  CHECK(threading::active_count() == 1);
  CHECK_FALSE(thread.is_alive());
  CHECK_THROWS_AS(thread.join(), std::logic_error);
  CHECK(held.use_count() == 2);
  thread.start();
  CHECK(thread.join(patience));
  CHECK(held.use_count() == 1);
}

TEST_CASE("a joined thread is never enumerated") {
  for (int i = 0; i < 200; ++i) {
    threading::Thread thread([] {});
    thread.start();
    thread.join();
    REQUIRE(threading::enumerate().size() == 1);
    REQUIRE_FALSE(thread.is_alive());
  }
}

TEST_CASE("several threads may join the same one") {
  Gate gate;
  threading::Thread slow([&] { gate.wait(); });
  slow.start();
  std::atomic<int> joined{0};
  std::vector<threading::Thread> joiners;
  const int before = support::sleepers();
  for (int i = 0; i < 5; ++i) {
    joiners.emplace_back([&] { joined += slow.join() ? 1 : 0; });
    joiners.back().start();
  }
  support::await_sleepers(before + 5);
  CHECK(joined == 0);
  gate.open();
  for (const auto& joiner : joiners) CHECK(joiner.join(patience));
  CHECK(joined == 5);
  CHECK(slow.join());  // and again
}

TEST_CASE("a join whose limit is over leaves the thread alive and joinable") {
  Gate gate;
  threading::Thread thread([&] { gate.wait(); });
  thread.start();
  CHECK_FALSE(thread.join(0s));
  CHECK_FALSE(thread.join(-1s));
  CHECK_FALSE(thread.join(moment));
  CHECK(thread.is_alive());
  gate.open();
  CHECK(thread.join(patience));
  CHECK_FALSE(thread.is_alive());
}

TEST_CASE("join waits for the thread_local objects of the thread") {
  static std::atomic<bool> gone;
  gone = false;
  struct Local {
    ~Local() { gone = true; }
    int used = 0;
  };
  threading::Thread thread([] {
    static thread_local Local local;
    ++local.used;
  });
  thread.start();
  thread.join();
  CHECK(gone);
}

TEST_CASE("a thread that was not joined leaves nothing behind") {
  const support::LeakCheck nothing_left;
  const queue::Queue<int> ended;
  for (int i = 0; i < 50; ++i) {
    threading::Thread thread([ended] { ended.put(1); });
    thread.start();
  }
  for (int i = 0; i < 50; ++i) ended.get();
  while (threading::active_count() > 1) ::sched_yield();
}

TEST_CASE("daemon is inherited unless it is given") {
  CHECK_FALSE(threading::Thread([] {}).daemon());
  CHECK_FALSE(threading::Thread({.daemon = false}, [] {}).daemon());
  CHECK(threading::Thread({.daemon = true}, [] {}).daemon());
  bool inherited = false, overruled = true;
  threading::Thread parent({.daemon = true}, [&] {
    inherited = threading::Thread([] {}).daemon();
    overruled = threading::Thread({.daemon = false}, [] {}).daemon();
  });
  parent.start();
  parent.join();
  CHECK(inherited);
  CHECK_FALSE(overruled);
}

TEST_CASE("daemon cannot be changed once the thread has been started") {
  threading::Thread thread([] {});
  thread.set_daemon(true);
  CHECK(thread.daemon());
  thread.set_daemon(false);
  thread.start();
  CHECK_THROWS_AS(thread.set_daemon(true), std::logic_error);
  thread.join();
  CHECK_THROWS_AS(thread.set_daemon(true), std::logic_error);
  CHECK_THROWS_AS(threading::main_thread().set_daemon(true), std::logic_error);
}

TEST_CASE("a thread is started only once") {
  threading::Thread thread({.name = "once"}, [] {});
  thread.start();
  CHECK_THROWS_AS(thread.start(), std::logic_error);
  thread.join();
  CHECK_THROWS_AS(thread.start(), std::logic_error);
  CHECK_THROWS_WITH(thread.start(), Catch::Matchers::ContainsSubstring("'once'"));
}

TEST_CASE("joining the current thread is a logic_error") {
  CHECK_THROWS_AS(threading::current_thread().join(), std::logic_error);
  bool refused = false;
  threading::Thread thread([&] {
    try {
      threading::current_thread().join();
    } catch (const std::logic_error&) {
      refused = true;
    }
  });
  thread.start();
  thread.join();
  CHECK(refused);
}

TEST_CASE("joining a thread that was not started is a logic_error") {
  const threading::Thread thread([] {});
  CHECK_THROWS_AS(thread.join(), std::logic_error);
  CHECK_THROWS_AS(thread.join(0s), std::logic_error);
}

TEST_CASE("the system shows the first fifteen bytes of the name of a thread") {
  std::string shown;
  threading::Thread thread({.name = "the-dryer-of-many-dishes"}, [&] { shown = os_name(); });
  thread.start();
  thread.join();
  CHECK(shown == "the-dryer-of-ma");
  CHECK(thread.name() == "the-dryer-of-many-dishes");
}

TEST_CASE("a thread that is renamed is renamed for the system as well") {
  std::string by_itself, by_another;
  Gate renamed, first;
  threading::Thread thread([&] {
    threading::current_thread().set_name("washer");
    by_itself = os_name();
    first.open();
    renamed.wait();
    by_another = os_name();
  });
  thread.start();
  first.wait();
  thread.set_name("dryer");
  renamed.open();
  thread.join();
  CHECK(by_itself == "washer");
  CHECK(by_another == "dryer");
  thread.set_name("gone");
  CHECK(thread.name() == "gone");
}

TEST_CASE("copies of a thread name the same thread") {
  threading::Thread thread([] {});
  const threading::Thread copy = thread;
  const threading::Thread moved = std::move(thread);  // a handle is never empty
  CHECK(copy == thread);
  CHECK(moved == thread);
  copy.start();
  CHECK_THROWS_AS(thread.start(), std::logic_error);
  thread.join();
  CHECK_FALSE(copy == threading::main_thread());
  const std::unordered_set<threading::Thread> set{thread, copy, threading::main_thread()};
  CHECK(set.size() == 2);
}

TEST_CASE("a thread whose handles are gone runs on") {
  const queue::Queue<std::string> names;
  Gate gate;
  threading::Thread({.name = "lonely"}, [=] {
    gate.wait();
    names.put(threading::current_thread().name());
  }).start();
  gate.open();
  CHECK(names.get(patience) == "lonely");
  while (threading::active_count() > 1) ::sched_yield();
}
