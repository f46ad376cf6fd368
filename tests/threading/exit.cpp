// SPDX-License-Identifier: MIT
//
// Threads at the end of the program and in a child of fork(). Each program under test is a forked
// child, which writes what happens into a pipe.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <brood/queue.hpp>
#include <brood/threading.hpp>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"

using namespace brood;
using namespace std::chrono_literals;
using support::patience;
using support::report_to;
using support::say;

namespace {

// Says so when static objects are destroyed, in the child alone.
struct Static {
  ~Static() {
    if (report_to >= 0) say("static;");
  }
};

// Says something once the main thread has nothing more to say and waits for others.
const queue::Queue<int> main_is_done;
void late_work(const char* text) {
  for (const int nothing : main_is_done) static_cast<void>(nothing);
  while (support::sleepers() < 1) ::sched_yield();
  say(text);
}

// The last words of the main thread.
void say_last(const char* text) {
  say(text);
  main_is_done.shutdown();
}

}  // namespace

TEST_CASE("the end of the program waits for threads that are not daemons") {
  const auto ended = support::program([] {
    static Static destroyed_later;
    threading::Thread([] { late_work("thread;"); }).start();
    say_last("main;");
  });
  CHECK(ended.said == "main;thread;static;");
  CHECK(ended.code == 3);
}

TEST_CASE("the end of the program waits also for threads started meanwhile by threads") {
  CHECK(support::program([] {
          static Static destroyed_later;
          threading::Thread([] {
            late_work("first;");
            threading::Thread([] { late_work("second;"); }).start();
          }).start();
          say_last("main;");
        }).said == "main;first;second;static;");
}

TEST_CASE("the end of the program does not wait for daemon threads") {
  const auto ended = support::program([] {
    static Static destroyed_later;
    for (int i = 0; i < 40; ++i) {
      threading::Thread({.daemon = true}, [] {
        for (;;) {
          say(".");
          ::sched_yield();
        }
      }).start();
    }
    say("main;");
  });
  CHECK_THAT(ended.said, Catch::Matchers::ContainsSubstring("main;"));
  CHECK_THAT(ended.said, Catch::Matchers::ContainsSubstring("static;"));
  CHECK(ended.code == 3);
}

TEST_CASE("a program that ends with an exit in a thread waits for the others") {
  const auto ended = support::program([] {
    threading::Thread([] { late_work("worker;"); }).start();
    threading::Thread exiting([] {
      say_last("exit;");
      std::exit(4);
    });
    exiting.start();
    exiting.join();  // for ever: the process ends first
    say("unreachable;");
  });
  CHECK_THAT(ended.said, Catch::Matchers::ContainsSubstring("worker;"));
  CHECK(ended.said.find("unreachable") == std::string::npos);
  CHECK(ended.code == 4);
}

TEST_CASE("thread_local objects live until the end of their thread during the exit") {
  struct Local {
    std::string text = "alive;";
    ~Local() {
      say(text);
      text = "dead;";
    }
  };
  CHECK(support::program([] {
          threading::Thread([] {
            static thread_local Local local;
            static_cast<void>(local.text.size());
            late_work("thread;");
          }).start();
          say_last("main;");
        }).said == "main;thread;alive;");
}

TEST_CASE("threads started in a forked child are waited for at its end") {
  CHECK(support::program([] {
          const pid_t pid = ::fork();
          if (pid == 0) {
            threading::Thread([] { late_work("grandchild's thread;"); }).start();
            say_last("grandchild;");
            std::exit(0);
          }
          ::waitpid(pid, nullptr, 0);
          say("child;");
        }).said == "grandchild;grandchild's thread;child;");
}

TEST_CASE("a thread may fork and its child ends like a program") {
  const auto ended = support::program([] {
    const auto main = threading::current_thread();
    threading::Thread forker({.name = "forker"}, [main] {
      const pid_t pid = ::fork();
      if (pid == 0) {
        // The thread that was the main one is not here: joining it does not block.
        say(main.join() && !main.is_alive() ? "joined;" : "not joined;");
        if (support::under_tsan || support::under_asan) {  // they miss the main thread
          say("forker;thread;");
          ::_exit(0);
        }
        threading::Thread([] { late_work("thread;"); }).start();
        say_last((threading::current_thread().name() + ";").c_str());
        return;  // from the only thread's function: the end of the child
      }
      ::waitpid(pid, nullptr, 0);
    });
    forker.start();
    forker.join();
    say("main;");
  });
  CHECK(ended.said == "joined;forker;thread;main;");
  CHECK(ended.code == 3);
}

TEST_CASE("in a forked child the other threads are not alive and can be joined") {
  const queue::Queue<int> gate;
  threading::Thread thread([gate] {
    for (const int item : gate) static_cast<void>(item);
  });
  thread.start();
  threading::Thread ended([] {});
  ended.start();
  while (ended.is_alive()) ::sched_yield();
  CHECK(support::program([&] {
          if (thread.is_alive() || !thread.join() || !ended.join()) say("bad;");
          if (threading::active_count() != 1 || threading::enumerate().size() != 1) say("bad;");
          thread.set_name("renamed");
          if (support::under_tsan) return say("fresh;");
          threading::Thread fresh([] { say("fresh;"); });
          fresh.start();
          fresh.join();
          if (support::under_asan) ::_exit(3);  // what vanished threads held is no leak
        }).said == "fresh;");
  CHECK(thread.is_alive());
  gate.shutdown();
  CHECK(thread.join(patience));
  CHECK(ended.join(patience));
}

namespace {

// How the only thread of a forked child sees itself.
void describe_self() {
  const auto self = threading::current_thread();
  const auto main = threading::main_thread();
  say(main == self ? "main;" : "not main;");
  say(main.name() + ";");
  say(main.ident() == threading::get_ident() ? "ident;" : "other ident;");
  say(main.native_id() == ::getpid() ? "pid;" : "other id;");
  say(main.is_alive() && !main.daemon() ? "alive;" : "wrong;");
  say(std::to_string(threading::active_count()) + " thread");
}

// Forks in the calling thread.
std::string self_after_fork() {
  return support::program([] {
           describe_self();
           ::_exit(0);
         })
      .said;
}

}  // namespace

TEST_CASE("after a fork the forking main thread is the main thread of the child") {
  CHECK(self_after_fork() == "main;MainThread;ident;pid;alive;1 thread");
}

TEST_CASE("after a fork in another thread that thread is the main thread of the child") {
  std::string said;
  threading::Thread thread({.name = "forker"}, [&] { said = self_after_fork(); });
  thread.start();
  thread.join();
  CHECK(said == "main;forker;ident;pid;alive;1 thread");
}

TEST_CASE("after a fork in a foreign thread that thread is the main thread of the child") {
  std::string said;
  std::thread thread([&] { said = self_after_fork(); });
  thread.join();
  CHECK(said == "main;MainThread;ident;pid;alive;1 thread");
}

TEST_CASE("after a fork in a dummy thread that thread is the main thread of the child") {
  std::string said;
  std::thread thread([&] {
    threading::current_thread();
    said = self_after_fork();
  });
  thread.join();
  CHECK(said == "main;MainThread;ident;pid;alive;1 thread");
}

TEST_CASE("sixteen threads that fork at once do not get stuck") {
  std::atomic<int> good{0};
  std::vector<threading::Thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      const pid_t pid = ::fork();
      if (pid == 0) ::_exit(threading::active_count() == 1 ? 17 : 1);
      int status = 0;
      ::waitpid(pid, &status, 0);
      if (WIFEXITED(status) && WEXITSTATUS(status) == 17) ++good;
    });
  }
  for (const auto& thread : threads) thread.start();
  for (const auto& thread : threads) CHECK(thread.join(patience));
  CHECK(good == 16);
}
