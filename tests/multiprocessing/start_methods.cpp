// SPDX-License-Identifier: MIT
//
// What holds for a Process however it starts: each test case runs by fork, forkserver and spawn.
#include "support/start_methods.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/alarms.hpp"
#include "support/descriptors.hpp"
#include "support/leaks.hpp"
#include "support/sleepers.hpp"

namespace mp = brood::multiprocessing;
using namespace std::chrono_literals;
using support::each_start_method;
using support::name_of;
using support::patience;
using support::StartMethod;

namespace {

template <class... Args>
mp::Process started(mp::ProcessOptions options, Args&&... args) {
  mp::Process process(std::move(options), std::forward<Args>(args)...);
  process.start();
  return process;
}

template <class... Args>
int code_of(StartMethod method, Args&&... args) {
  const auto process = started({.start_method = method}, std::forward<Args>(args)...);
  process.join();
  return process.exitcode().value();
}

bool contains(const std::vector<mp::Process>& processes, const mp::Process& process) {
  for (const auto& one : processes)
    if (one == process) return true;
  return false;
}

bool readable(int fd, brood::Timeout limit) {
  return brood::posix::wait_readable(fd, brood::posix::Deadline{limit});
}

// What a launched process does.
void tell_whether_interrupts_are_blocked(brood::serialization::Reader& in) {
  in.expect_end();
  mp::Reduction::of(in).finish();
  sigset_t blocked;
  ::sigprocmask(SIG_BLOCK, nullptr, &blocked);
  std::exit(10 + sigismember(&blocked, SIGINT));
}
constinit const mp::LaunchEntry mask_entry{&tell_whether_interrupts_are_blocked, typeid(void)};

struct Seen {
  pid_t pid = 0, parent = 0;
  std::string name, parent_name, text;
  bool daemon = false, is_self = false;
  int number = 0;
};

void sleep_until_killed(const mp::Event& ready) {
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  ready.set();
  for (;;) ::pause();
}

struct WriteError : brood::os::OSError {
  WriteError() : OSError{EIO, "write what is never written"} {}
};
struct NeverWritten {};

}  // namespace

template <>
struct brood::serialization::Serializer<NeverWritten> {
  template <class Out>
  static void write(Out&, const NeverWritten&) {
    throw WriteError{};
  }
  static NeverWritten read(Reader&) { return {}; }
};

TEST_CASE("by every start method a process calls its target with its arguments") {
  const StartMethod method = each_start_method();
  const support::LeakCheck nothing_left;
  const mp::Queue<Seen> queue;
  const mp::Event go_on;
  const auto process = started(
      {.name = "tester", .daemon = true, .start_method = method},
      [](const mp::Queue<Seen>& to, const mp::Event& gate, int number, const std::string& text) {
        const mp::Process self = mp::current_process();
        Seen seen;
        seen.pid = ::getpid();
        seen.parent = mp::parent_process()->pid();
        seen.name = self.name();
        seen.parent_name = mp::parent_process()->name();
        seen.text = text;
        seen.daemon = self.daemon();
        seen.is_self = self.is_alive() && self.pid() == ::getpid() && !self.exitcode() &&
                       mp::parent_process()->is_alive();
        seen.number = number;
        to.put(seen);
        gate.wait();
      },
      queue, go_on, 5, "five");
  CHECK(process.pid() > 0);
  CHECK(process.is_alive());
  CHECK_FALSE(process.exitcode());
  CHECK(contains(mp::active_children(), process));
  const Seen seen = queue.get(patience);
  CHECK(seen.pid == process.pid());
  CHECK(seen.parent == ::getpid());
  CHECK(seen.name == "tester");
  CHECK(seen.parent_name == mp::current_process().name());
  CHECK(seen.daemon);
  CHECK(seen.is_self);
  CHECK(seen.number == 5);
  CHECK(seen.text == "five");
  CHECK_FALSE(process.join(0s));
  go_on.set();
  CHECK(process.join(patience));
  CHECK(process.join(0s));
  CHECK(process.exitcode() == 0);
  CHECK_FALSE(process.is_alive());
  CHECK_FALSE(contains(mp::active_children(), process));
}

TEST_CASE("by every start method the exit code is what the target ends with") {
  const StartMethod method = each_start_method();
  const support::LeakCheck nothing_left;
  CHECK(code_of(method, [] {}) == 0);
  CHECK(code_of(method, [] { return 5; }) == 0);
  CHECK(code_of(method, [] { std::exit(7); }) == 7);
  CHECK(code_of(
            method, [](int code) { ::_exit(code); }, 8) == 8);
  CHECK(code_of(method, [] { ::raise(SIGKILL); }) == -SIGKILL);
}

TEST_CASE("by every start method terminate kill and interrupt end a process") {
  const StartMethod method = each_start_method();
  const support::LeakCheck nothing_left;
  const auto ended_by = [method](void (mp::Process::*end)() const) {
    const mp::Event ready;
    const auto process = started({.start_method = method}, sleep_until_killed, ready);
    CHECK(ready.wait(patience));
    CHECK(process.is_alive());
    CHECK_FALSE(process.join(10ms));
    CHECK_FALSE(readable(process.sentinel(), 0s));
    (process.*end)();
    CHECK(readable(process.sentinel(), patience));
    CHECK_FALSE(process.is_alive());
    CHECK(process.join(patience));
    CHECK(readable(process.sentinel(), 0s));
    CHECK_NOTHROW((process.*end)());
    return process.exitcode();
  };
  CHECK(ended_by(&mp::Process::terminate) == -SIGTERM);
  CHECK(ended_by(&mp::Process::kill) == -SIGKILL);
  CHECK(ended_by(&mp::Process::interrupt) == -SIGINT);
}

TEST_CASE("by every start method a process can be closed when it has ended") {
  const StartMethod method = each_start_method();
  const support::LeakCheck nothing_left;
  const mp::Event gate;
  const auto process = started(
      {.start_method = method}, [](const mp::Event& event) { event.wait(); }, gate);
  CHECK_THROWS_AS(process.close(), std::logic_error);
  gate.set();
  CHECK(readable(process.sentinel(), patience));
  process.close();
  CHECK_THROWS_AS(process.join(), std::logic_error);
}

TEST_CASE("by every start method processes are named by their place in the family") {
  const StartMethod method = each_start_method();
  const mp::Queue<std::string> names;
  const auto process = started(
      {.start_method = method},
      [](const mp::Queue<std::string>& to) {
        to.put(mp::Process([] {}).name());
        to.put(mp::Process([] {}).name());
      },
      names);
  CHECK(names.get(patience) == process.name() + ":1");
  CHECK(names.get(patience) == process.name() + ":2");
  process.join();
}

namespace {

// Tells where it is, and starts children of its own by each method.
struct Recurse {
  mp::Queue<std::string> log;
  void operator()(const std::string& path, int depth) const {
    log.put(path);
    if (depth == 0) return;
    for (const StartMethod method : support::start_methods) {
      const mp::Process child({.start_method = method}, *this, path + "/" + name_of(method),
                              depth - 1);
      child.start();
      if (!child.join(patience) || child.exitcode() != 0) log.put(path + ": a child failed");
      if (!mp::active_children().empty()) log.put(path + ": a child is left");
    }
  }
};

}  // namespace

TEST_CASE("children of every start method start children by every start method") {
  const support::LeakCheck nothing_left;
  const mp::Queue<std::string> log;
  const int depth = support::under_asan || support::under_tsan ? 1 : 2;
  Recurse{log}("", depth);
  std::vector<std::string> expected{""};
  for (const StartMethod one : support::start_methods) {
    const std::string path = std::string("/") + name_of(one);
    expected.push_back(path);
    for (const StartMethod other : support::start_methods)
      if (depth == 2) expected.push_back(path + "/" + name_of(other));
  }
  std::vector<std::string> seen;
  while (!log.empty()) seen.push_back(log.get());
  CHECK(seen == expected);
}

TEST_CASE("by every start method a daemon can have no children and its children are daemons") {
  const StartMethod method = each_start_method();
  const auto body = [] {
    const mp::Process child([] {});
    const bool refused = support::throws<std::logic_error>([&] { child.start(); });
    if (!refused) child.join();
    ::_exit((child.daemon() ? 1 : 0) + (refused ? 2 : 0));
  };
  const auto daemon = started({.daemon = true, .start_method = method}, body);
  daemon.join();
  CHECK(daemon.exitcode() == 3);
  const auto other = started({.daemon = false, .start_method = method}, body);
  other.join();
  CHECK(other.exitcode() == 0);
}

TEST_CASE("by every start method a child watches its parent and sees it die") {
  const StartMethod method = each_start_method();
  struct News {
    std::string name;
    pid_t pid = 0;
    bool alive = false;
  };
  const support::LeakCheck nothing_left;
  const mp::Queue<News> queue;
  const auto middle = started(
      {.name = "middle"},
      [](StartMethod by, const mp::Queue<News>& to) {
        const mp::Process grandchild(
            {.start_method = by},
            [](const mp::Queue<News>& news) {
              const auto parent = mp::parent_process();
              news.put({parent->name(), parent->pid(), parent->is_alive() && !parent->join(10ms)});
              const bool ended = parent->join(patience);
              news.put({"", 0, !ended || parent->is_alive()});
              ::_exit(0);
            },
            to);
        grandchild.start();
        grandchild.join();
      },
      method, queue);
  const News first = queue.get(patience);
  CHECK(first.name == "middle");
  CHECK(first.pid == middle.pid());
  CHECK(first.alive);
  middle.kill();
  middle.join();
  CHECK_FALSE(queue.get(patience).alive);
}

TEST_CASE("by every start method the standard input of a child is empty") {
  const StartMethod method = each_start_method();
  CHECK(code_of(method, [] {
          char byte;
          std::exit(std::getchar() == EOF && ::read(0, &byte, 1) == 0 && ::fcntl(0, F_GETFD) == 0
                        ? 17
                        : 1);
        }) == 17);
}

TEST_CASE("by every start method a child works where its parent does") {
  const StartMethod method = each_start_method();
  char before[4096];
  REQUIRE(::getcwd(before, sizeof before) != nullptr);
  char place[] = "/tmp/brood-test-XXXXXX";
  REQUIRE(::mkdtemp(place) != nullptr);
  REQUIRE(::chdir(place) == 0);
  ::rmdir(place);  // a path would not lead there any more
  struct stat here {};
  REQUIRE(::stat(".", &here) == 0);
  const int code = code_of(
      method,
      [](std::uint64_t inode) {
        struct stat there {};
        std::exit(::stat(".", &there) == 0 && there.st_ino == inode ? 17 : 1);
      },
      std::uint64_t{here.st_ino});
  REQUIRE(::chdir(before) == 0);
  CHECK(code == 17);
}

namespace {

struct Machine {
  int drum;
  void spin(int turns, const mp::Value<int>& result) const { result.set(drum * turns); }
};

}  // namespace

TEST_CASE("by every start method arguments of all kinds arrive") {
  const StartMethod method = each_start_method();
  const support::LeakCheck nothing_left;
  const mp::Value<int> result(0);
  CHECK(code_of(method, &Machine::spin, Machine{6}, 7, result) == 0);
  CHECK(result.get() == 42);
  CHECK(code_of(
            method, [](std::unique_ptr<int> n, const mp::Value<int>& to) { to.set(*n); },
            std::make_unique<int>(11), result) == 0);
  CHECK(result.get() == 11);
  // More than a socket holds.
  std::vector<std::string> many(2000, std::string(1000, 'x'));
  many.back() = "last";
  CHECK(code_of(
            method,
            [](const std::vector<std::string>& texts, const mp::Value<int>& to) {
              to.set(static_cast<int>(texts.size()) + (texts.back() == "last"));
            },
            many, result) == 0);
  CHECK(result.get() == 2001);
}

TEST_CASE("by every start method a long name and hundreds of descriptors arrive") {
  const StartMethod method = each_start_method();
  const support::LeakCheck nothing_left;
  const mp::Value<int> result(0);
  const mp::Process named(
      {.name = std::string(200'000, 'n'), .start_method = method},
      [](const mp::Value<int>& to) {
        to.set(static_cast<int>(mp::current_process().name().size()));
      },
      result);
  named.start();
  named.join();
  CHECK(result.get() == 200'000);
  std::vector<mp::Connection> lines;
  for (int i = 0; i < 300; ++i) lines.push_back(mp::Pipe(false).first);
  CHECK(code_of(
            method,
            [](const std::vector<mp::Connection>& its, const mp::Value<int>& to) {
              to.set(static_cast<int>(its.size()) + its[299].readable());
            },
            lines, result) == 0);
  CHECK(result.get() == 301);
}

TEST_CASE("a child that is no copy has no descriptor of its parent but what it is given") {
  const StartMethod method = GENERATE(StartMethod::forkserver, StartMethod::spawn);
  // Not close-on-exec, and with a number that nobody else will take.
  const int fd = ::fcntl(1, F_DUPFD, 900);
  auto [mine, its] = mp::Pipe();
  const auto process = started(
      {.start_method = method},
      [](const mp::Connection& connection, int number) {
        connection.send(::fcntl(number, F_GETFD) >= 0);
        connection.send(static_cast<int>(support::open_descriptors().size()));
        connection.close();
        ::raise(SIGSTOP);
      },
      its, fd);
  its.close();
  CHECK_FALSE(mine.recv<bool>());
  CHECK(mine.recv<int>() < 20);
  // Nobody else has the other end.
  CHECK_THROWS_AS(mine.recv<int>(), brood::EOFError);
  process.kill();
  process.join();
  ::close(fd);
}

TEST_CASE("a child that is no copy has as many descriptors as its first sibling") {
  const StartMethod method = GENERATE(StartMethod::forkserver, StartMethod::spawn);
  const mp::Queue<std::size_t> counts;
  const mp::Event gate;
  std::vector<mp::Process> living;
  for (int i = 0; i < 6; ++i)
    living.push_back(started(
        {.start_method = method},
        [](const mp::Queue<std::size_t>& to, const mp::Event& event) {
          to.put(support::open_descriptors().size());
          event.wait();
        },
        counts, gate));
  const std::size_t first = counts.get(patience);
  for (int i = 1; i < 6; ++i) CHECK(counts.get(patience) == first);
  gate.set();
  for (const auto& process : living) process.join();
}

TEST_CASE("by every start method many processes end with their codes and many are terminated") {
  const StartMethod method = each_start_method();
  const support::LeakCheck nothing_left;
  const int count = method == StartMethod::spawn ? 20 : 60;
  std::vector<mp::Process> processes;
  for (int i = 0; i < count; ++i)
    processes.emplace_back(
        mp::ProcessOptions{.start_method = method}, [](int code) { std::exit(code); }, i % 3);
  for (const auto& process : processes) process.start();
  int right = 0;
  for (int i = 0; i < count; ++i) {
    processes[static_cast<std::size_t>(i)].join();
    right += processes[static_cast<std::size_t>(i)].exitcode() == i % 3;
  }
  CHECK(right == count);
  processes.clear();
  for (int i = 0; i < count; ++i)
    processes.push_back(started({.start_method = method}, [] {
      ::signal(SIGTERM, SIG_DFL);
      for (;;) ::pause();
    }));
  for (const auto& process : processes) process.terminate();
  right = 0;
  for (const auto& process : processes) {
    process.join();
    right += process.exitcode() == -SIGTERM;
  }
  CHECK(right == count);
}

TEST_CASE("by every start method a start reaps what has ended") {
  const StartMethod method = each_start_method();
  const mp::Process quick({.start_method = method}, [] {});
  quick.start();
  CHECK(readable(quick.sentinel(), patience));
  CHECK(quick.exitcode() == 0);
  CHECK_FALSE(contains(mp::active_children(), quick));
}

TEST_CASE("by every start method threads start processes at once") {
  const StartMethod method = each_start_method();
  if (support::under_asan && method == StartMethod::fork)
    SKIP("AddressSanitizer's allocator may hang after such a fork");
  const support::LeakCheck nothing_left;
  const int rounds = method == StartMethod::spawn ? 4 : 10;
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      for (int round = 0; round < rounds; ++round)
        right += code_of(
                     method, [](int code) { std::exit(code); }, 10 + i) == 10 + i;
    });
  for (auto& thread : threads) thread.join();
  CHECK(right == 4 * rounds);
}

TEST_CASE("by every start method a process is a child from its start on though others look") {
  const StartMethod method = each_start_method();
  const mp::Event go_on;
  std::atomic<bool> over{false};
  std::vector<std::thread> lookers;
  for (int i = 0; i < 3; ++i)
    lookers.emplace_back([&] {
      while (!over) mp::active_children();
    });
  std::vector<mp::Process> processes;
  int missing = 0;
  for (int i = 0; i < 50; ++i) {
    processes.push_back(started(
        {.start_method = method}, [](const mp::Event& gate) { gate.wait(); }, go_on));
    if (!contains(mp::active_children(), processes.back())) ++missing;
  }
  over = true;
  for (auto& looker : lookers) looker.join();
  go_on.set();
  for (const auto& process : processes) process.join();
  CHECK(missing == 0);
}

TEST_CASE("by every start method several threads may join one process") {
  const StartMethod method = each_start_method();
  const mp::Event gate;
  const auto process = started(
      {.start_method = method},
      [](const mp::Event& event) {
        event.wait();
        std::exit(6);
      },
      gate);
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&right, process] { right += process.join() && process.exitcode() == 6; });
  gate.set();
  for (auto& thread : threads) thread.join();
  CHECK(right == 4);
}

TEST_CASE("what cannot cross to another program is refused by type and place") {
  const StartMethod method = GENERATE(StartMethod::forkserver, StartMethod::spawn);
  const support::LeakCheck nothing_left;
  int captured = 0;
  const mp::Process lambda({.name = "washer", .start_method = method}, [&] { captured = 1; });
  CHECK_THROWS_AS(lambda.start(), std::invalid_argument);
  CHECK_THROWS_WITH(lambda.start(),
                    Catch::Matchers::ContainsSubstring(std::string("start process washer by ") +
                                                       name_of(method) + ": its target, "));
  CHECK_FALSE(lambda.is_alive());
  const mp::Process pointer(
      {.start_method = method}, [](int, int*) {}, 1, &captured);
  CHECK_THROWS_WITH(pointer.start(), Catch::Matchers::ContainsSubstring("argument 2, int*"));
  using TakesPointer = void (*)(const char*);
  const mp::Process text({.start_method = method}, TakesPointer{[](const char*) {}}, "text");
  CHECK_THROWS_WITH(text.start(), Catch::Matchers::ContainsSubstring("std::string"));
  CHECK(captured == 0);
}

TEST_CASE("an error of a class of the program comes out of a start as it is") {
  const StartMethod method = GENERATE(StartMethod::forkserver, StartMethod::spawn);
  const mp::Process process(
      {.start_method = method}, [](const NeverWritten&) {}, NeverWritten{});
  CHECK_THROWS_AS(process.start(), WriteError);
  CHECK_THROWS_WITH(process.start(), WriteError{}.what());
}

TEST_CASE("by every start method a start without a descriptor to spare fails and leaves nothing") {
  const StartMethod method = each_start_method();
  if (support::under_asan)
    SKIP("UndefinedBehaviorSanitizer needs a descriptor to look at an object");
  const auto ended = support::program([method] {
    const mp::Process process({.start_method = method}, [] {});
    const int failures = support::starve([&] { process.start(); },
                                         [&](const std::string& what) {
                                           if (!what.starts_with("start process " + process.name()))
                                             support::say(what);
                                           if (process.is_alive() || !support::children().empty())
                                             support::say("left;");
                                         });
    support::say(failures > 0 ? "failed;" : "never failed;");
    process.join();
    support::say(std::to_string(process.exitcode().value()));
  });
  // By spawn the child has its parent's limits, and may lack a descriptor of its own.
  CHECK_THAT(ended.said, Catch::Matchers::StartsWith("failed;"));
  if (method != StartMethod::spawn) CHECK(ended.said == "failed;0");
}

TEST_CASE("by every start method signals do not disturb a start and a join") {
  const StartMethod method = each_start_method();
  support::Alarms alarms;
  alarms.every(2000);
  int right = 0;
  for (int i = 0; i < 5; ++i)
    right += code_of(method, [] {
               ::signal(SIGALRM, SIG_IGN);
               std::exit(4);
             }) == 4;
  alarms.every(0);
  CHECK(right == 5);
}

TEST_CASE("by every start method the code is known with SIGCHLD ignored") {
  const StartMethod method = each_start_method();
  const auto ended = support::program([method] {
    ::signal(SIGCHLD, SIG_IGN);
    int right = 0;
    try {
      for (int i = 0; i < 10; ++i)
        right += code_of(
                     method, [](int code) { std::exit(code); }, i) == i;
      support::say(std::to_string(right));
    } catch (const brood::os::ChildProcessError&) {
      support::say("10");  // before Linux 6.15 the kernel throws the code away
    }
  });
  CHECK(ended.said == "10");
}

TEST_CASE("a process may begin out of the reach of SIGINT") {
  const StartMethod method = GENERATE(StartMethod::forkserver, StartMethod::spawn);
  for (const bool no_interrupt : {false, true}) {
    mp::Reduction none;
    const auto child =
        mp::launch(method, mask_entry, {}, none, {.name = "x", .no_interrupt = no_interrupt});
    CHECK(child->wait(brood::posix::Deadline{patience}) == 10 + no_interrupt);
    sigset_t blocked;
    ::sigprocmask(SIG_BLOCK, nullptr, &blocked);
    CHECK(sigismember(&blocked, SIGINT) == 0);
  }
}
