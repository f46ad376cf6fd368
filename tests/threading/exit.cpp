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
#include "support/patience.hpp"
#include "support/sleepers.hpp"

using namespace brood;
using namespace std::chrono_literals;

namespace {

constexpr Timeout patience{std::chrono::seconds{30}};
int report_to = -1;

void say(const std::string& text) {
  if (::write(report_to, text.data(), text.size()) < 0) ::_exit(99);
}

// Says so when static objects are destroyed, in the child alone.
struct Static {
  ~Static() {
    if (report_to >= 0) say("static;");
  }
};

std::string how_it_ended;

// Runs `program` in a forked child, which then calls std::exit(3). Everything that was said.
template <class F>
std::string in_child(F program) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::close(ends[0]);
    report_to = ends[1];
    ::alarm(support::last_alarm);
    program();
    std::exit(3);
  }
  ::close(ends[1]);
  std::string said;
  char buffer[256];
  for (ssize_t size = 0; (size = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(size));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  how_it_ended = WIFEXITED(status) ? "exit " + std::to_string(WEXITSTATUS(status))
                                   : "signal " + std::to_string(WTERMSIG(status));
  return said;
}

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
  CHECK(in_child([] {
          static Static destroyed_later;
          threading::Thread([] { late_work("thread;"); }).start();
          say_last("main;");
        }) == "main;thread;static;");
  CHECK(how_it_ended == "exit 3");
}

TEST_CASE("the end of the program waits also for threads started meanwhile by threads") {
  CHECK(in_child([] {
          static Static destroyed_later;
          threading::Thread([] {
            late_work("first;");
            threading::Thread([] { late_work("second;"); }).start();
          }).start();
          say_last("main;");
        }) == "main;first;second;static;");
}

TEST_CASE("the end of the program does not wait for daemon threads") {
  const std::string said = in_child([] {
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
  CHECK_THAT(said, Catch::Matchers::ContainsSubstring("main;"));
  CHECK_THAT(said, Catch::Matchers::ContainsSubstring("static;"));
  CHECK(how_it_ended == "exit 3");
}

TEST_CASE("a program that ends with an exit in a thread waits for the others") {
  const std::string said = in_child([] {
    threading::Thread([] { late_work("worker;"); }).start();
    threading::Thread exiting([] {
      say_last("exit;");
      std::exit(4);
    });
    exiting.start();
    exiting.join();  // for ever: the process ends first
    say("unreachable;");
  });
  CHECK_THAT(said, Catch::Matchers::ContainsSubstring("worker;"));
  CHECK(said.find("unreachable") == std::string::npos);
  CHECK(how_it_ended == "exit 4");
}

TEST_CASE("thread_local objects live until the end of their thread during the exit") {
  struct Local {
    std::string text = "alive;";
    ~Local() {
      say(text);
      text = "dead;";
    }
  };
  CHECK(in_child([] {
          threading::Thread([] {
            static thread_local Local local;
            static_cast<void>(local.text.size());
            late_work("thread;");
          }).start();
          say_last("main;");
        }) == "main;thread;alive;");
}

TEST_CASE("threads started in a forked child are waited for at its end") {
  CHECK(in_child([] {
          const pid_t pid = ::fork();
          if (pid == 0) {
            threading::Thread([] { late_work("grandchild's thread;"); }).start();
            say_last("grandchild;");
            std::exit(0);
          }
          ::waitpid(pid, nullptr, 0);
          say("child;");
        }) == "grandchild;grandchild's thread;child;");
}

TEST_CASE("a thread may fork and its child ends like a program") {
  CHECK(in_child([] {
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
        }) == "joined;forker;thread;main;");
  CHECK(how_it_ended == "exit 3");
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
  CHECK(in_child([&] {
          if (thread.is_alive() || !thread.join() || !ended.join()) say("bad;");
          if (threading::active_count() != 1 || threading::enumerate().size() != 1) say("bad;");
          thread.set_name("renamed");
          if (support::under_tsan) return say("fresh;");
          threading::Thread fresh([] { say("fresh;"); });
          fresh.start();
          fresh.join();
          if (support::under_asan) ::_exit(3);  // what vanished threads held is no leak
        }) == "fresh;");
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
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
  const pid_t pid = ::fork();
  if (pid == 0) {
    report_to = ends[1];
    describe_self();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string said;
  char buffer[256];
  for (ssize_t size = 0; (size = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(size));
  ::close(ends[0]);
  ::waitpid(pid, nullptr, 0);
  return said;
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
