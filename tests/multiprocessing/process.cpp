// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <atomic>
#include <brood/multiprocessing/process.hpp>
#include <brood/multiprocessing/queues.hpp>
#include <cstring>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/alarms.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"
#include "support/stderr.hpp"

namespace mp = brood::multiprocessing;
using namespace std::chrono_literals;
using support::Gate;
using support::patience;
using support::Shared;

namespace {

// Text that a child leaves behind.
struct Text {
  char text[4096];
  void operator=(const std::string& from) { std::snprintf(text, sizeof text, "%s", from.c_str()); }
  friend bool operator==(const Text& a, const std::string& b) { return a.text == b; }
};

bool contains(const std::vector<mp::Process>& processes, const mp::Process& process) {
  for (const auto& one : processes)
    if (one == process) return true;
  return false;
}

bool readable(int fd, brood::Timeout limit) {
  return brood::posix::wait_readable(fd, brood::posix::Deadline{limit});
}

// Ends the child with `code`, which the parent then expects.
template <class F>
int code_of(F target) {
  const mp::Process process(target);
  process.start();
  process.join();
  return process.exitcode().value();
}

}  // namespace

TEST_CASE("a process calls its target with its arguments in a child") {
  const support::LeakCheck nothing_left;
  struct Seen {
    pid_t pid, parent;
    int number;
    Text text, name, parent_name;
    bool daemon;
  };
  const Shared<Seen> seen;
  const Gate gate;
  const mp::Process process(
      {.name = "tester", .daemon = true},
      [&](int number, const std::string& text) {
        seen->pid = ::getpid();
        seen->number = number;
        seen->text = text;
        const mp::Process self = mp::current_process();
        seen->name = self.name();
        seen->daemon = self.daemon() && self.is_alive() && self.pid() == ::getpid() &&
                       !self.exitcode() && self == process;
        seen->parent = mp::parent_process()->pid();
        seen->parent_name = mp::parent_process()->name();
        gate.wait();
      },
      5, std::string{"five"});
  CHECK(process.name() == "tester");
  CHECK(process.daemon());
  CHECK(process.pid() == 0);
  CHECK_FALSE(process.is_alive());
  CHECK_FALSE(process.exitcode());
  CHECK_FALSE(contains(mp::active_children(), process));
  process.start();
  CHECK(process.pid() > 0);
  CHECK(process.is_alive());
  CHECK_FALSE(process.exitcode());
  CHECK(contains(mp::active_children(), process));
  gate.open();
  CHECK(process.join());
  CHECK(process.join(0s));
  CHECK(process.exitcode() == 0);
  CHECK_FALSE(process.is_alive());
  CHECK(process.pid() == seen->pid);
  CHECK_FALSE(contains(mp::active_children(), process));
  CHECK(seen->number == 5);
  CHECK(seen->text == "five");
  CHECK(seen->name == "tester");
  CHECK(seen->daemon);
  CHECK(seen->parent == ::getpid());
  CHECK(seen->parent_name == mp::current_process().name());
}

TEST_CASE("the main process is a process without parent or exit code") {
  const mp::Process self = mp::current_process();
  CHECK(self.name() == "MainProcess");
  CHECK(self.pid() == ::getpid());
  CHECK(self.is_alive());
  CHECK_FALSE(self.daemon());
  CHECK_FALSE(self.exitcode());
  CHECK_FALSE(mp::parent_process());
  CHECK(self == mp::current_process());
  CHECK_THROWS_AS(self.join(0s), std::logic_error);
  CHECK_THROWS_AS(self.start(), std::logic_error);
  CHECK_THROWS_AS(self.terminate(), std::logic_error);
  CHECK_THROWS_AS(self.close(), std::logic_error);
}

TEST_CASE("the main thread of a child has a native id of its own") {
  const Shared<pid_t> seen;
  CHECK(code_of([&] { *seen = static_cast<pid_t>(::syscall(SYS_gettid)); }) == 0);
  CHECK(*seen != static_cast<pid_t>(::syscall(SYS_gettid)));
}

TEST_CASE("a process that was not started can be neither joined nor signalled") {
  const mp::Process process([] {});
  CHECK_THROWS_AS(process.join(), std::logic_error);
  CHECK_THROWS_AS(process.join(1s), std::logic_error);
  CHECK_THROWS_AS(process.terminate(), std::logic_error);
  CHECK_THROWS_AS(process.kill(), std::logic_error);
  CHECK_THROWS_AS(process.interrupt(), std::logic_error);
  CHECK_THROWS_AS(process.sentinel(), std::logic_error);
  CHECK_THROWS_WITH(process.join(),
                    Catch::Matchers::ContainsSubstring("join process " + process.name()));
}

TEST_CASE("a process can be started once") {
  const mp::Process process([] {});
  process.start();
  CHECK_THROWS_AS(process.start(), std::logic_error);
  CHECK_THROWS_AS(process.set_daemon(true), std::logic_error);
  process.join();
  CHECK_THROWS_AS(process.start(), std::logic_error);
}

TEST_CASE("a program that has not called freeze_support can only fork") {
  const support::LeakCheck nothing_left;
  const mp::Process forked({.start_method = mp::StartMethod::fork}, [] {});
  forked.start();
  CHECK(forked.join());
  for (const auto method : {mp::StartMethod::forkserver, mp::StartMethod::spawn}) {
    const mp::Process process({.start_method = method}, [] {});
    CHECK_THROWS_AS(process.start(), std::runtime_error);
    CHECK_THROWS_WITH(process.start(), Catch::Matchers::ContainsSubstring("freeze_support()"));
    CHECK_FALSE(process.is_alive());
    CHECK(process.pid() == 0);
  }
}

TEST_CASE("processes are named by their place in the family") {
  const Shared<Text> first, second;
  const mp::Process process([&] {
    first->operator=(mp::Process([] {}).name());
    second->operator=(mp::Process([] {}).name());
  });
  CHECK_THAT(process.name(), Catch::Matchers::StartsWith("Process-"));
  const std::string before = process.name();
  process.start();
  process.join();
  CHECK(*first == before + ":1");
  CHECK(*second == before + ":2");
  process.set_name("laundry");
  CHECK(process.name() == "laundry");
  CHECK(mp::Process([] {}).name() != before);
}

TEST_CASE("a daemon has daemons that it can not start") {
  CHECK_FALSE(mp::Process([] {}).daemon());
  CHECK_FALSE(mp::Process({.daemon = false}, [] {}).daemon());
  const auto daemon_of_child = [](bool daemon) {
    const mp::Process process({.daemon = daemon}, [] {
      const mp::Process grandchild([] {});
      const bool refused = support::throws<std::logic_error>([&] { grandchild.start(); });
      if (!refused) grandchild.join();
      ::_exit((grandchild.daemon() ? 1 : 0) + (refused ? 2 : 0));
    });
    process.start();
    process.join();
    return process.exitcode();
  };
  CHECK(daemon_of_child(true) == 3);
  CHECK(daemon_of_child(false) == 0);
  const mp::Process process({.daemon = true}, [] {});
  process.set_daemon(false);
  CHECK_FALSE(process.daemon());
}

TEST_CASE("children start children in a fixed order") {
  const support::LeakCheck nothing_left;
  struct Log {
    std::atomic<int> used;
    Text lines[7];
  };
  const Shared<Log> log;
  struct Recurse {
    const Shared<Log>& log;
    void operator()(const std::string& path, int depth) const {
      log->lines[log->used++] = path;
      if (depth == 2) return;
      for (int i = 0; i < 2; ++i) {
        const mp::Process process(*this, path + std::to_string(i), depth + 1);
        process.start();
        process.join();
      }
    }
  };
  Recurse{log}("", 0);
  REQUIRE(log->used == 7);
  const char* const expected[] = {"", "0", "00", "01", "1", "10", "11"};
  for (int i = 0; i < 7; ++i) CHECK(log->lines[i] == expected[i]);
}

TEST_CASE("terminate kill and interrupt end a process by their signals") {
  const support::LeakCheck nothing_left;
  const auto ended_by = [](void (mp::Process::*end)() const) {
    const Gate ready, never;
    const mp::Process process([&] {
      ::signal(SIGINT, SIG_DFL);
      ::signal(SIGTERM, SIG_DFL);
      ready.open();
      never.wait(brood::forever);
    });
    process.start();
    CHECK(ready.wait());
    CHECK(process.is_alive());
    CHECK_FALSE(process.join(0s));
    CHECK_FALSE(process.join(-1s));
    CHECK_FALSE(process.join(10ms));
    (process.*end)();
    CHECK(process.join(patience));
    CHECK_FALSE(process.is_alive());
    CHECK_NOTHROW((process.*end)());
    return process.exitcode();
  };
  CHECK(ended_by(&mp::Process::terminate) == -SIGTERM);
  CHECK(ended_by(&mp::Process::kill) == -SIGKILL);
  CHECK(ended_by(&mp::Process::interrupt) == -SIGINT);
}

TEST_CASE("the exit code is what the target ends with") {
  CHECK(code_of([] {}) == 0);
  CHECK(code_of([] { return 5; }) == 0);  // as in Python, the result is dropped
  CHECK(code_of([] { std::exit(0); }) == 0);
  CHECK(code_of([] { std::exit(7); }) == 7);
  CHECK(code_of([] { ::_exit(8); }) == 8);
  CHECK(code_of([] { ::raise(SIGKILL); }) == -SIGKILL);
}

TEST_CASE("an exception ends the process with code 1 and is shown with type and message") {
  std::string shown;
  int codes[3];
  {
    const support::CapturedStderr captured;
    const mp::Process process({.name = "washer"}, [] { throw std::runtime_error("out of soap"); });
    process.start();
    process.join();
    codes[0] = process.exitcode().value();
    shown = captured.text();
  }
  CHECK(codes[0] == 1);
  CHECK(shown == "Process washer:\nstd::runtime_error: out of soap\n");
  {
    const support::CapturedStderr captured;
    const mp::Process process({.name = "dryer"}, [] {
      mp::current_process().set_name("renamed");
      throw 42;
    });
    process.start();
    process.join();
    codes[1] = process.exitcode().value();
    shown = captured.text();
  }
  CHECK(codes[1] == 1);
  CHECK(shown == "Process renamed:\nint\n");
}

TEST_CASE("closed standard streams do not change the exit code") {
  const auto ended = support::program([] {
    ::close(0);
    ::close(1);
    ::close(2);
    support::say(std::to_string(code_of([] { std::printf("unheard"); })) + " " +
                 std::to_string(code_of([] { throw std::runtime_error("unheard"); })) + " " +
                 std::to_string(code_of([] { std::exit(4); })));
  });
  CHECK(ended.said == "0 1 4");
  CHECK(ended.code == 3);
}

TEST_CASE("the sentinel becomes readable at the end and stays so") {
  const Gate gate;
  const mp::Process process([&] { gate.wait(); });
  CHECK_THROWS_AS(process.sentinel(), std::logic_error);
  process.start();
  const int sentinel = process.sentinel();
  CHECK_FALSE(readable(sentinel, 0s));
  gate.open();
  CHECK(readable(sentinel, patience));
  process.join();
  CHECK(process.sentinel() == sentinel);
  CHECK(readable(sentinel, 0s));
}

TEST_CASE("a process can be closed when it has ended") {
  const support::LeakCheck nothing_left;
  const Gate gate;
  const mp::Process process({.name = "closing"}, [&] { gate.wait(); });
  process.start();
  CHECK_THROWS_AS(process.close(), std::logic_error);
  CHECK(process.is_alive());
  gate.open();
  process.join();
  process.close();
  CHECK_NOTHROW(process.close());
  CHECK(process.name() == "closing");
  CHECK_FALSE(process.daemon());
  CHECK_THROWS_AS(process.join(), std::logic_error);
  CHECK_THROWS_AS(process.is_alive(), std::logic_error);
  CHECK_THROWS_AS(process.exitcode(), std::logic_error);
  CHECK_THROWS_AS(process.pid(), std::logic_error);
  CHECK_THROWS_AS(process.sentinel(), std::logic_error);
  CHECK_THROWS_AS(process.terminate(), std::logic_error);
  CHECK_THROWS_AS(process.start(), std::logic_error);
  CHECK_THROWS_WITH(process.join(), Catch::Matchers::ContainsSubstring("it was closed"));

  const mp::Process never_started([] {});
  never_started.close();
  CHECK_THROWS_AS(never_started.start(), std::logic_error);
  CHECK_THROWS_WITH(never_started.start(), Catch::Matchers::ContainsSubstring("it was closed"));
}

TEST_CASE("a process that has ended but was not joined can be closed") {
  const support::LeakCheck nothing_left;
  const mp::Process process([] {});
  process.start();
  CHECK(readable(process.sentinel(), patience));
  process.close();
}

TEST_CASE("a hundred processes end with their codes and a hundred are terminated") {
  const support::LeakCheck nothing_left;
  std::vector<mp::Process> processes;
  for (int i = 0; i < 100; ++i) processes.emplace_back([i] { std::exit(i % 3); });
  for (const auto& process : processes) process.start();
  int right = 0;
  for (int i = 0; i < 100; ++i) {
    processes[static_cast<std::size_t>(i)].join();
    right += processes[static_cast<std::size_t>(i)].exitcode() == i % 3;
  }
  CHECK(right == 100);

  processes.clear();
  const Gate never;
  for (int i = 0; i < 100; ++i)
    processes.emplace_back([&] {
      ::signal(SIGTERM, SIG_DFL);
      never.wait(brood::forever);
    });
  for (const auto& process : processes) process.start();
  for (const auto& process : processes) process.terminate();
  right = 0;
  for (const auto& process : processes) {
    process.join();
    right += process.exitcode() == -SIGTERM;
  }
  CHECK(right == 100);
}

TEST_CASE("active_children reaps what has ended") {
  const Gate gate;
  const mp::Process quick([] {}), slow([&] { gate.wait(); });
  slow.start();
  quick.start();  // the last one, as a start reaps what has ended
  CHECK(readable(quick.sentinel(), patience));
  CHECK(support::children().count(quick.pid()) == 1);  // a zombie
  const auto active = mp::active_children();
  CHECK(contains(active, slow));
  CHECK_FALSE(contains(active, quick));
  CHECK(support::children().count(quick.pid()) == 0);
  CHECK(quick.exitcode() == 0);
  gate.open();
  slow.join();
  CHECK_FALSE(contains(mp::active_children(), slow));
}

TEST_CASE("a start reaps what has ended") {
  pid_t pid = 0;
  {
    const mp::Process dropped([] {});
    dropped.start();
    CHECK(readable(dropped.sentinel(), patience));
    pid = dropped.pid();
  }
  CHECK(support::children().count(pid) == 1);
  const mp::Process other([] {});
  other.start();
  CHECK(support::children().count(pid) == 0);
  other.join();
}

TEST_CASE("a child watches its parent and sees it die") {
  const support::LeakCheck nothing_left;
  struct Seen {
    pid_t parent, true_parent;
    Text name;
    bool alive, still_running, ended, alive_then, refused;
  };
  const Shared<Seen> seen;
  const Gate ready, done;
  const mp::Process middle({.name = "middle"}, [&] {
    const mp::Process grandchild([&] {
      const auto parent = mp::parent_process();
      seen->parent = parent->pid();
      seen->true_parent = ::getppid();
      seen->name = parent->name();
      seen->alive = parent->is_alive();
      seen->still_running = !parent->join(10ms);
      seen->refused = support::throws<std::logic_error>([&] { parent->terminate(); });
      ready.open();
      seen->ended = parent->join(patience);
      seen->alive_then = parent->is_alive();
      done.open();
      ::_exit(0);
    });
    grandchild.start();
    grandchild.join();
  });
  middle.start();
  CHECK(ready.wait());
  middle.kill();
  middle.join();
  CHECK(done.wait());
  CHECK(seen->parent == middle.pid());
  CHECK(seen->true_parent == middle.pid());
  CHECK(seen->name == "middle");
  CHECK(seen->alive);
  CHECK(seen->still_running);
  CHECK(seen->refused);
  CHECK(seen->ended);
  CHECK_FALSE(seen->alive_then);
}

TEST_CASE("a process is its creator's to start and to join") {
  const Gate gate;
  const mp::Process sibling([&] { gate.wait(); }), unborn([] {});
  sibling.start();
  const Shared<pid_t> pid;
  const int wrong = code_of([&] {
    using support::throws;
    *pid = sibling.pid();
    std::exit(!throws<std::logic_error>([&] { sibling.join(); }) +
              2 * !throws<std::logic_error>([&] { sibling.is_alive(); }) +
              4 * !throws<std::logic_error>([&] { sibling.terminate(); }) +
              8 * !throws<std::logic_error>([&] { unborn.start(); }) +
              16 * !mp::active_children().empty());
  });
  CHECK(wrong == 0);
  CHECK(*pid == sibling.pid());
  gate.open();
  sibling.join();
}

TEST_CASE("a process with the number of its dead ancestor is not taken for that") {
  // Two processes called 1, the first in its namespace each.
  const auto twin = [](auto body) {
    if (::unshare(CLONE_NEWPID) != 0) return support::say("forbidden");
    const pid_t pid = ::fork();
    if (pid == 0) {
      body();
      ::_exit(0);
    }
    support::wait_for(pid);
  };
  const auto ended = support::program([twin] {
    twin([twin] {
      const mp::Process unborn([] {});
      const mp::Queue<int> queue;
      queue.close();
      if (!queue.is_closed()) support::say("open;");
      twin([&] {
        support::say(std::to_string(::getpid()) + ";");
        support::say(queue.is_closed() ? "closed;" : "open;");
        support::say(support::throws<std::logic_error>([&] { unborn.start(); }) ? "refused"
                                                                                : "started");
      });
    });
  });
  if (ended.said == "forbidden") SKIP("needs the right to make a namespace of processes");
  CHECK(ended.said == "1;open;refused");
}

TEST_CASE("target and arguments are dropped in the parent after the start") {
  static int alive = 0;
  struct Counted {
    Counted() { ++alive; }
    Counted(const Counted&) { ++alive; }
    Counted(Counted&&) noexcept { ++alive; }
    ~Counted() { --alive; }
  };
  const Gate gate;
  auto ends = brood::posix::make_pipe();
  const mp::Process process(
      [&gate, counted = Counted{}](const Counted&, const brood::posix::unique_fd& end) {
        static_cast<void>(end);
        gate.wait();
      },
      Counted{}, std::move(ends.write));
  CHECK(alive == 2);
  CHECK_FALSE(readable(ends.read.get(), 0s));
  process.start();
  CHECK(alive == 0);
  CHECK_FALSE(readable(ends.read.get(), 0s));  // the child has the other end
  gate.open();
  CHECK(readable(ends.read.get(), patience));  // and nobody else
  process.join();
}

TEST_CASE("what the target has captured is destroyed at its end in the child") {
  struct Says {
    Gate& gate;
    bool armed = true;
    explicit Says(Gate& g) : gate{g} {}
    Says(Says&& other) noexcept : gate{other.gate}, armed{std::exchange(other.armed, false)} {}
    ~Says() {
      if (armed && mp::parent_process()) gate.open();
    }
  };
  Gate gate;
  const mp::Process returns([says = Says{gate}] {});
  returns.start();
  returns.join();
  CHECK(gate.wait(0s));
  const support::CapturedStderr captured;
  const mp::Process fails([says = Says{gate}] { throw std::runtime_error("x"); });
  fails.start();
  fails.join();
  CHECK(gate.wait(0s));
}

TEST_CASE("a process takes what can only be moved and calls members") {
  struct Machine {
    const Shared<int>& result;
    std::unique_ptr<int> drum = std::make_unique<int>(30);
    void spin(std::unique_ptr<int> turns, int& more) { *result = *drum + *turns + more; }
    void spin_twice(int n) const { *result = 2 * n; }
  };
  const Shared<int> result;
  const mp::Process by_value([&result](std::unique_ptr<int> n) { *result = *n; },
                             std::make_unique<int>(11));
  by_value.start();
  by_value.join();
  CHECK(*result == 11);
  Machine machine{result};
  int more = 2;
  const mp::Process by_member(&Machine::spin, Machine{result}, std::make_unique<int>(10),
                              std::ref(more));
  by_member.start();
  by_member.join();
  CHECK(*result == 42);
  const mp::Process by_pointer(&Machine::spin_twice, &machine, 4);
  by_pointer.start();
  by_pointer.join();
  CHECK(*result == 8);
  using Unfit = void (*)(std::string);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<mp::Process, Unfit, int>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<mp::Process, int>);
  STATIC_REQUIRE(std::is_constructible_v<mp::Process, Unfit, const char*>);
}

TEST_CASE("the standard input of a child is empty and the parent's is untouched") {
  const bool synchronised = GENERATE(true, false);
  const auto ended = support::program([&] {
    const auto [read, write] = brood::posix::make_pipe();
    brood::posix::write_some(write.get(), "one\ntwo\nthree\n", 14);
    ::dup2(read.get(), 0);
    std::ios::sync_with_stdio(synchronised);
    std::string line;
    std::getline(std::cin, line);  // buffers all three unless synchronised
    support::say(line + ";");
    const mp::Process process([] {
      std::string text;
      char byte;
      support::say(std::getline(std::cin, text) ? text : "no line;");
      support::say(std::getchar() == EOF ? "eof;" : "byte;");
      support::say(::read(0, &byte, 1) == 0 ? "empty;" : "more;");
      support::say(::fcntl(0, F_GETFD) == 0 ? "" : "closed on exec;");
    });
    process.start();
    process.join();
    std::getline(std::cin, line);
    support::say(line + ";");
  });
  CHECK(ended.said == "one;no line;eof;empty;two;");
}

TEST_CASE("nothing that was printed before the start appears twice") {
  const bool synchronised = GENERATE(true, false);
  const auto [read, write] = brood::posix::make_pipe();
  const auto ended = support::program([&] {
    ::dup2(write.get(), 1);
    std::ios::sync_with_stdio(synchronised);
    std::printf("parent by stdio;");
    std::cout << "parent by iostream;";
    std::FILE* const file = ::fdopen(::dup(write.get()), "w");
    std::fprintf(file, "parent by file;");
    std::cout.flush();
    const mp::Process process([] {
      std::printf("child by stdio;");
      std::cout << "child by iostream;";
    });
    process.start();
    process.join();
    const mp::Process exits([] {
      std::printf("exit;");
      std::exit(0);
    });
    exits.start();
    exits.join();
    support::say("done");
  });
  CHECK(ended.said == "done");
  char text[1024] = {};
  CHECK(brood::posix::read_some(read.get(), text, sizeof text) > 0);
  const std::string all = text;
  for (const char* part : {"parent by stdio;", "parent by iostream;", "parent by file;",
                           "child by stdio;", "child by iostream;", "exit;"}) {
    INFO(all);
    const auto at = all.find(part);
    CHECK(at != std::string::npos);
    CHECK(all.find(part, at + 1) == std::string::npos);
  }
}

TEST_CASE("a start without a descriptor to spare fails and leaves nothing") {
  if (support::under_asan)
    SKIP("UndefinedBehaviorSanitizer needs a descriptor to look at an object");
  const auto ended = support::program([] {
    const Shared<std::atomic<int>> ran;
    const mp::Process process([&] { ++*ran; });
    const int next = support::fill_descriptors();
    const int failures =
        support::starve([&] { process.start(); },
                        [&](const std::string& what) {
                          if (!what.starts_with("start process " + process.name()))
                            support::say(what);
                          if (*ran != 0 || process.is_alive() || !support::children().empty())
                            support::say("left;");
                        });
    support::say(std::to_string(failures) + " " + std::to_string(process.sentinel() - next) + " ");
    process.join();
    support::say(std::to_string(*ran));
  });
  CHECK(ended.said == "1 0 1");  // what it needs is the child's descriptor
}

TEST_CASE("with SIGCHLD ignored a process is waited for and its code is known") {
  const auto ended = support::program([] {
    ::signal(SIGCHLD, SIG_IGN);
    int right = 0;
    try {
      for (int i = 0; i < 50; ++i) right += code_of([i] { std::exit(i); }) == i;
      support::say(std::to_string(right));
    } catch (const brood::os::ChildProcessError&) {
      support::say("50");  // before Linux 6.15 the kernel throws the code away
    }
    const mp::Process left([] {});
    left.start();  // for the end of the program
  });
  CHECK(ended.said == "50");
  CHECK(ended.code == 3);
}

TEST_CASE("another wait that is at once there does not take the exit code") {
  static std::atomic<bool> taken;
  const auto ended = support::program([] {
    // What a thread in wait(2) may do while the one that starts is kept from going on: here the
    // latter does it itself. The child ends or waits for its parent, whichever comes first.
    ::pthread_atfork(
        nullptr,
        [] {
          const auto waits = [] {
            for (const auto& [pid, what] : support::children())
              if (what.ends_with(", S")) return true;
            return false;
          };
          while (!(taken = ::waitpid(-1, nullptr, WNOHANG) > 0) && !waits()) ::sched_yield();
        },
        nullptr);
    support::say(std::to_string(code_of([] { std::exit(7); })));
    support::say(taken ? " taken" : "");
  });
  CHECK(ended.said == "7");
}

TEST_CASE("signals do not disturb a join") {
  support::Alarms alarms;
  const mp::Process process([&] {
    while (alarms.count() < 30) ::sched_yield();
  });
  process.start();
  alarms.every(3000);
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(process.join(20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  CHECK(process.join());
  alarms.every(0);
  CHECK(process.exitcode() == 0);
}

TEST_CASE("processes start while other threads use brood and the heap") {
  if (support::under_asan) SKIP("AddressSanitizer's allocator may hang after such a fork");
  const support::LeakCheck nothing_left;
  std::atomic<bool> stop{false};
  const Gate gate;
  const mp::Process watched({.name = "watched"}, [&] { gate.wait(); });
  watched.start();
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      while (!stop) {
        watched.set_name("watched and renamed, too long for a small string");
        static_cast<void>(watched.is_alive());
        static_cast<void>(mp::active_children());
        static_cast<void>(mp::Process([] {}).name());
      }
    });
  int right = 0;
  for (int i = 0; i < 50; ++i) {
    const mp::Process process([&] {
      ::alarm(support::last_alarm);
      const std::string name = watched.name() + mp::current_process().name();
      if (mp::active_children().empty() && watched.pid() != 0) std::exit(name.empty() ? 1 : 17);
    });
    process.start();
    process.join();
    right += process.exitcode() == 17;
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  CHECK(right == 50);
  gate.open();
  watched.join();
}

TEST_CASE("several threads may join one process") {
  const Gate gate;
  const mp::Process process([&] {
    gate.wait();
    std::exit(6);
  });
  process.start();
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&right, process] { right += process.join() && process.exitcode() == 6; });
  gate.open();
  for (auto& thread : threads) thread.join();
  CHECK(right == 4);
}

TEST_CASE("a process handle is a key that names its process") {
  const mp::Process one([] {}), other([] {});
  const mp::Process copy = one;
  CHECK(copy == one);
  CHECK_FALSE(one == other);
  CHECK(std::hash<mp::Process>{}(copy) == std::hash<mp::Process>{}(one));
}

TEST_CASE("a forked child has the descriptors of its parent but for its gate") {
  const Shared<int> count;
  const int next = ::dup(0);
  ::close(next);
  CHECK(code_of([&] {
          const int fd = ::dup(0);
          *count = fd;
        }) == 0);
  CHECK(*count == next);
}
