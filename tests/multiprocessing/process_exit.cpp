// SPDX-License-Identifier: MIT
//
// Processes at the end of the program that started them, and at their own. Each program under test
// is a forked child.
#include <pthread.h>

#include <brood/multiprocessing/process.hpp>
#include <brood/threading.hpp>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"

namespace mp = brood::multiprocessing;
using namespace std::chrono_literals;
using support::Gate;
using support::patience;
using support::program;
using support::say;

namespace {

// Says so when it is destroyed, in a program under test alone.
struct Static {
  ~Static() {
    if (support::report_to >= 0) say("static;");
  }
};
const Static at_the_end;

// A child that says `name` when it is terminated, and else lives on.
mp::Process sleeper(const std::string& name, bool daemon, const Gate& ready) {
  static std::string last_words;
  last_words = name;
  mp::Process process({.daemon = daemon}, [&ready, name] {
    last_words = name;
    ::signal(SIGTERM, [](int) {
      say(last_words + " terminated;");
      ::_exit(0);
    });
    ready.open();
    for (;;) ::pause();
  });
  process.start();
  return process;
}

}  // namespace

TEST_CASE("at the end of the program daemons are terminated and the others joined") {
  const support::LeakCheck nothing_left;
  const auto ended = program([] {
    static const Gate ready, gate;
    sleeper("daemon", true, ready);
    ready.wait();
    const mp::Process other([] {
      gate.wait();
      say("other ends;");
    });
    other.start();
    std::atexit([] {  // runs before the wait, and lets it end
      say("handler;");
      gate.open();
    });
  });
  CHECK(ended.code == 3);
  // The handler was registered last, so it runs first. The static object goes in the end.
  CHECK_THAT(ended.said, Catch::Matchers::StartsWith("handler;"));
  CHECK_THAT(ended.said, Catch::Matchers::EndsWith("static;"));
  CHECK_THAT(ended.said, Catch::Matchers::ContainsSubstring("daemon terminated;"));
  CHECK_THAT(ended.said, Catch::Matchers::ContainsSubstring("other ends;"));
  CHECK(ended.said.size() == std::string{"handler;static;daemon terminated;other ends;"}.size());
}

TEST_CASE("a process waits for its children at its end however it ends") {
  enum class End { returns, exits, throws };
  const auto end = GENERATE(End::returns, End::exits, End::throws);
  const support::LeakCheck nothing_left;
  const auto ended = program([&] {
    ::close(2);
    static const Gate ready, gate;
    const mp::Process middle([&] {
      sleeper("daemon", true, ready);
      ready.wait();
      const mp::Process grandchild([] {
        gate.wait();
        say("grandchild ends;");
      });
      grandchild.start();
      if (end == End::exits) std::exit(5);
      if (end == End::throws) throw std::runtime_error("x");
    });
    middle.start();
    if (middle.join(20ms)) say("too early;");
    gate.open();
    middle.join();
    say(std::to_string(middle.exitcode().value()) + ";");
  });
  CHECK(ended.code == 3);
  CHECK_THAT(ended.said, Catch::Matchers::ContainsSubstring("daemon terminated;"));
  CHECK_THAT(ended.said, Catch::Matchers::ContainsSubstring("grandchild ends;"));
  const char* const last = end == End::returns ? "0;static;"
                           : end == End::exits ? "5;static;"
                                               : "1;static;";
  CHECK_THAT(ended.said, Catch::Matchers::EndsWith(last));
  CHECK_THAT(ended.said, !Catch::Matchers::ContainsSubstring("too early"));
}

TEST_CASE("a child runs no exit handler and destroys no static object of its parent") {
  const auto ended = program([] {
    std::atexit([] { say("handler;"); });
    const mp::Process returns([] { say("returns;"); });
    returns.start();
    returns.join();
    const mp::Process exits([] {
      say("exits;");
      std::exit(9);
    });
    exits.start();
    exits.join();
    say(std::to_string(exits.exitcode().value()) + ";");
  });
  CHECK(ended.said == "returns;exits;9;handler;static;");
  CHECK(ended.code == 3);
}

TEST_CASE("std::exit in a child runs the exit handlers of that child") {
  const auto ended = program([] {
    std::atexit([] { say("parent's;"); });
    const mp::Process process([] {
      std::atexit([] { say("child's;"); });
      static const Static child_only;
      std::exit(0);
    });
    process.start();
    process.join();
    say("joined;");
  });
  CHECK(ended.said == "static;child's;joined;parent's;static;");
}

TEST_CASE("a grandchild started from an exiting child is not taken for one of its own") {
  const auto ended = program([] {
    const mp::Process outer([] {
      const mp::Process inner([] { std::exit(2); });
      inner.start();
      inner.join();
      std::exit(inner.exitcode().value() + 2);
    });
    outer.start();
    outer.join();
    say(std::to_string(outer.exitcode().value()) + ";");
  });
  CHECK(ended.said == "4;static;");
}

TEST_CASE("a bare fork does not wait for the processes of its parent") {
  const auto ended = program([] {
    static const Gate gate;
    const mp::Process process([] { gate.wait(); });
    process.start();
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::alarm(support::last_alarm);
      std::exit(mp::active_children().empty() ? 0 : 1);
    }
    say(std::to_string(support::wait_for(pid)) + ";");
    gate.open();
    process.join();
  });
  CHECK(ended.said == "static;0;static;");
}

TEST_CASE("a daemon that ignores SIGTERM is killed at the end of the program") {
  const support::LeakCheck nothing_left;
  const auto ended = program([] {
    static const Gate ready;
    const mp::Process stubborn({.daemon = true}, [] {
      ::signal(SIGTERM, SIG_IGN);
      ready.open();
      for (;;) ::pause();
    });
    stubborn.start();
    ready.wait();
    say("ready;");
  });
  CHECK(ended.said == "ready;static;");
  CHECK(ended.code == 3);
}

TEST_CASE("a child that somebody else waited for does not trouble the end of the program") {
  const auto ended = program([] {
    static const Gate gate;
    ::dup2(support::report_to, 2);
    const mp::Process stolen([] {});
    const mp::Process other([] {
      gate.wait();
      say("other ends;");
    });
    stolen.start();
    other.start();
    support::wait_for(stolen.pid());
    gate.open();
  });
  CHECK(ended.said == "other ends;static;");
  CHECK(ended.code == 3);
}

TEST_CASE("a child that another thread is just starting is waited for at the end of the program") {
  if (support::under_tsan) SKIP("ThreadSanitizer cannot follow threads of a forked child");
  const auto ended = program([] {
    static const Gate forked, gate;
    ::pthread_atfork(
        nullptr,
        [] {
          forked.open();
          support::await_sleepers(1);  // the end of the program has come to its wait
        },
        nullptr);
    std::thread([] {
      mp::Process([] {
        gate.wait();
        say("child ends;");
      }).start();
      gate.open();
      for (;;) ::pause();
    }).detach();
    forked.wait();
  });
  CHECK(ended.said == "child ends;static;");
  CHECK(ended.code == 3);
}

TEST_CASE("a child waits for the threads that it has started") {
  if (support::under_tsan) SKIP("ThreadSanitizer cannot follow threads of a forked child");
  const auto ended = program([] {
    static const Gate gate;
    const mp::Process process([] {
      brood::threading::Thread thread([] {
        gate.wait();
        say("thread ends;");
      });
      thread.start();
    });
    process.start();
    if (process.join(20ms)) say("too early;");
    gate.open();
    process.join();
    say("joined;");
  });
  CHECK(ended.said == "thread ends;joined;static;");
}
