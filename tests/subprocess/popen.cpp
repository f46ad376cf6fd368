// SPDX-License-Identifier: MIT
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <brood/subprocess.hpp>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/refused_calls.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;

namespace {

// Runs until its standard input ends.
Popen waiting_child() { return Popen({"cat"}, {.in = PIPE, .out = DEVNULL}); }

}  // namespace

TEST_CASE("streams that are not redirected are closed in Popen") {
  const auto way = support::each_start_way();
  Popen process({"true"});
  CHECK_FALSE(process.in);
  CHECK_FALSE(process.out);
  CHECK_FALSE(process.err);
  CHECK_THROWS_AS(process.in.write("x"), std::invalid_argument);
  CHECK_THROWS_AS(process.out.read(), std::invalid_argument);
  CHECK_THROWS_AS(process.err.fileno(), std::invalid_argument);
}

TEST_CASE("poll is empty while the child runs and then always the same code") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  Popen process = waiting_child();
  CHECK_FALSE(process.poll());
  CHECK_FALSE(process.returncode());
  process.in.close();
  CHECK(process.wait() == 0);
  CHECK(process.poll() == 0);
  CHECK(process.poll() == 0);
  CHECK(process.returncode() == 0);
}

TEST_CASE("wait can be repeated") {
  const auto way = support::each_start_way();
  Popen process({"sh", "-c", "exit 7"});
  CHECK(process.wait() == 7);
  CHECK(process.wait() == 7);
  CHECK(process.wait(0ms) == 7);
}

TEST_CASE("wait with a limit throws and a later one succeeds") {
  const auto way = support::each_start_way();
  Popen process = waiting_child();
  for (int round = 0; round < 2; ++round) {
    try {
      process.wait(10ms);
      FAIL("no exception");
    } catch (const TimeoutExpired& error) {
      CHECK_THAT(error.what(), ContainsSubstring("0.01 seconds"));
    }
  }
  CHECK_THROWS_WITH(process.wait(0s), ContainsSubstring(" 0 seconds"));
  CHECK_THROWS_AS(process.wait(-1s), TimeoutExpired);
  process.in.close();
  CHECK(process.wait(30s) == 0);
}

TEST_CASE("a waiting thread uses no processor time") {
  Popen process = waiting_child();
  timespec before{};
  timespec after{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
  CHECK_THROWS_AS(process.wait(300ms), TimeoutExpired);
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
  const double used =
      double(after.tv_sec - before.tv_sec) + double(after.tv_nsec - before.tv_nsec) / 1e9;
  CHECK(used < 0.05);
}

TEST_CASE("terminate and kill and send_signal end the child with the negative signal") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const auto code_after = [](auto act) {
    Popen process = waiting_child();
    act(process);
    return process.wait();
  };
  CHECK(code_after([](Popen& process) { process.terminate(); }) == -SIGTERM);
  CHECK(code_after([](Popen& process) { process.kill(); }) == -SIGKILL);
  CHECK(code_after([](Popen& process) { process.send_signal(SIGINT); }) == -SIGINT);
}

TEST_CASE("a signal to an ended child does nothing") {
  const auto way = support::each_start_way();
  Popen process({"true"});
  pollfd ended{process.sentinel(), POLLIN, 0};
  REQUIRE(::poll(&ended, 1, 30'000) == 1);
  // Not reaped yet, then reaped.
  CHECK_NOTHROW(process.kill());
  CHECK(process.wait() == 0);
  CHECK_NOTHROW(process.terminate());
  CHECK_NOTHROW(process.send_signal(SIGINT));
  CHECK(process.returncode() == 0);
}

TEST_CASE("a stopped child has not ended") {
  const auto way = support::each_start_way();
  Popen process = waiting_child();
  process.send_signal(SIGSTOP);
  siginfo_t info{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(process.pid()), &info, WSTOPPED | WNOWAIT) == 0);
  CHECK_FALSE(process.poll());
  CHECK_THROWS_AS(process.wait(10ms), TimeoutExpired);
  CHECK_FALSE(process.returncode());
  process.send_signal(SIGCONT);
  process.in.close();
  CHECK(process.wait() == 0);
}

TEST_CASE("an unknown signal is an error that names the process") {
  Popen process = waiting_child();
  CHECK_THROWS_WITH(process.send_signal(4711), ContainsSubstring(std::to_string(process.pid())));
}

TEST_CASE("every thread that waits sees the same code") {
  const support::LeakCheck nothing_left;
  for (int round = 0; round < 20; ++round) {
    Popen process = waiting_child();
    int codes[3] = {};
    std::vector<std::thread> threads;
    for (int& code : codes) threads.emplace_back([&process, &code] { code = process.wait(); });
    process.kill();
    for (std::thread& thread : threads) thread.join();
    for (const int code : codes) CHECK(code == -SIGKILL);
  }
}

TEST_CASE("the sentinel becomes readable when the child ends") {
  const auto way = support::each_start_way();
  Popen process = waiting_child();
  pollfd entry{process.sentinel(), POLLIN, 0};
  CHECK(::poll(&entry, 1, 0) == 0);
  process.in.close();
  CHECK(::poll(&entry, 1, 30'000) == 1);
  CHECK(process.poll() == 0);
}

TEST_CASE("the end of a Popen closes its pipes and waits") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const support::TemporaryDirectory directory;
  const std::string mark = directory / "mark";
  {
    Popen process({"sh", "-c", "cat; echo done >\"$1\"", "sh", mark},
                  {.in = PIPE, .out = PIPE, .err = PIPE});
    process.in.write("written in time");
  }
  CHECK(support::read_file(mark) == "done\n");
}

TEST_CASE("the end of a Popen with a broken pipe still waits") {
  const support::LeakCheck nothing_left;
  Popen process({"sh", "-c", "exec <&-; exit 3"}, {.in = PIPE});
  pollfd ended{process.sentinel(), POLLIN, 0};
  REQUIRE(::poll(&ended, 1, 30'000) == 1);
  process.in.write("nobody reads this");
  CHECK_THROWS_AS(process.in.close(), brood::os::BrokenPipeError);
  CHECK_FALSE(process.in);
  process.in = Writer{};
  Popen second({"sh", "-c", "exec <&-; exit 3"}, {.in = PIPE});
  ended.fd = second.sentinel();
  REQUIRE(::poll(&ended, 1, 30'000) == 1);
  second.in.write("nor this");  // and its end must not throw
}

TEST_CASE("a detached child outlives its Popen and leaves no zombie") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  int gate[2];
  REQUIRE(::pipe(gate) == 0);
  pid_t pid = 0;
  {
    Popen process({"cat"}, {.in = gate[0], .out = DEVNULL});
    pid = process.pid();
    process.detach();
    process.detach();
  }
  CHECK(::kill(pid, 0) == 0);
  ::close(gate[0]);
  ::close(gate[1]);
}

TEST_CASE("a Popen can be moved") {
  const support::LeakCheck nothing_left;
  Popen first = waiting_child();
  const pid_t pid = first.pid();
  Popen second = std::move(first);
  CHECK(second.pid() == pid);
  CHECK(second.in);
  CHECK_THROWS_AS(first.pid(), std::logic_error);
  CHECK_THROWS_AS(first.wait(), std::logic_error);
  Popen third({"true"});
  third = std::move(second);
  CHECK(third.pid() == pid);
  third.in.close();
  CHECK(third.wait() == 0);
  std::vector<Popen> many;
  for (int i = 0; i < 5; ++i) many.push_back(waiting_child());
  for (Popen& process : many) process.terminate();
  for (Popen& process : many) CHECK(process.wait() == -SIGTERM);
}

TEST_CASE("the true code is returned with SIGCHLD ignored") {
  const auto way = support::each_start_way();
  const int code = support::in_child([] {
    ::signal(SIGCHLD, SIG_IGN);
    try {
      for (int i = 0; i < 10; ++i) {
        if (run({"sh", "-c", "exit 47"}).returncode != 47) return 1;
        if (run({"sh", "-c", "kill -9 $$"}).returncode != -9) return 2;
        if (run({"cat"}, {.input = "x", .capture_output = true}).out != "x") return 3;
        Popen process({"sh", "-c", "exit 3"});
        if (process.wait(30s) != 3) return 4;
      }
      try {
        run({"/no/such/program"});
        return 5;
      } catch (const brood::os::FileNotFoundError&) {
      }
    } catch (const brood::os::ChildProcessError&) {
      return 77;  // before Linux 6.15
    }
    return 0;
  });
  if (code == 77) SKIP("this kernel keeps no record of children that nobody may wait for");
  CHECK(code == 0);
}

TEST_CASE(
    "a program starts with SIGCHLD ignored while another thread's child holds what was open") {
  // A child is forked at the very moment of the start, and ends when the program has run.
  static bool armed = false;
  static int told = -1;
  const auto ended = support::program([] {
    const auto program_ran = brood::posix::make_pipe();
    told = program_ran.read.get();
    pthread_atfork(
        [] {
          if (!std::exchange(armed, false)) return;
          if (::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr) != 0) return;
          char byte;
          ::alarm(support::last_alarm);
          ::_exit(::read(told, &byte, 1) == 1 ? 0 : 1);
        },
        nullptr, nullptr);
    ::signal(SIGCHLD, SIG_IGN);
    const support::StartWay way{brood::posix::SpawnWay::fork};
    armed = true;
    try {
      Popen process({"sh", "-c", "echo; exit 47"}, {.out = program_ran.write.get()});
      support::say(armed ? "not forked" : std::to_string(process.wait()));
    } catch (const brood::os::ChildProcessError&) {
      support::say("47");  // before Linux 6.15 nobody can tell
    }
  });
  CHECK(ended.said == "47");
}

TEST_CASE("why a call failed is told also where the code of its child is lost") {
  const int code = support::in_child([] {
    ::signal(SIGCHLD, SIG_IGN);
    if (!support::refuse({{SYS_ioctl, ENOTTY}})) return 77;  // as before Linux 6.15
    struct Complaint {};
    try {
      run({"sleep", "60"}, {.timeout = 1ms});
      return 1;
    } catch (const TimeoutExpired&) {
    }
    try {
      run({"echo", "text"}, {.out = [](std::string_view) { throw Complaint{}; }});
      return 2;
    } catch (const Complaint&) {
    }
    return 0;
  });
  if (code == 77) SKIP("calls can't be refused here");
  CHECK(code == 0);
}

TEST_CASE("a child that somebody else has waited for is no endless wait") {
  Popen process({"true"});
  int status = 0;
  REQUIRE(::waitpid(process.pid(), &status, 0) == process.pid());
  try {
    CHECK(process.wait() == 0);
  } catch (const brood::os::ChildProcessError&) {  // before Linux 6.15
  }
  CHECK_NOTHROW(process.kill());
}

TEST_CASE("the usage is known once the child has ended") {
  Popen process({"true"});
  process.wait();
  CHECK(process.usage().max_rss_bytes > 100'000);
}

TEST_CASE("pids and arguments can be read") {
  Popen process({"sh", "-c", "echo $$"}, {.out = PIPE});
  CHECK(process.out.read() == std::to_string(process.pid()) + "\n");
  CHECK(process.args() == std::vector<std::string>{"sh", "-c", "echo $$"});
}

TEST_CASE("wait serves a sink") {
  const support::LeakCheck nothing_left;
  std::string text;
  Popen process({"seq", "1", "50000"}, {.out = [&text](std::string_view piece) { text += piece; }});
  CHECK(process.wait(60s) == 0);
  CHECK(text.size() == 288894);
}

TEST_CASE("the end of a scope serves a sink") {
  std::string text;
  {
    Popen process({"seq", "1", "50000"},
                  {.out = [&text](std::string_view piece) { text += piece; }});
  }
  CHECK(text.size() == 288894);
}

TEST_CASE("the end of a scope writes what is left for a child that answers into a sink") {
  std::string text;
  {
    Popen process({"cat"}, {.in = PIPE, .out = [&text](std::string_view piece) { text += piece; }});
    process.in.write("a few words");
  }
  CHECK(text == "a few words");
}

TEST_CASE("the end of a scope takes a sink for done that has thrown") {
  const support::LeakCheck nothing_left;
  int calls = 0;
  const auto complain = [&calls](std::string_view) {
    ++calls;
    throw std::runtime_error("full");
  };
  {
    Popen process({"seq", "1", "50000"}, {.out = complain});
    CHECK_THROWS_WITH(process.wait(), "full");
    CHECK(calls == 1);
  }
  CHECK(calls == 1);
  { Popen process({"seq", "1", "50000"}, {.out = complain}); }
  CHECK(calls == 2);
}

TEST_CASE("the end of a scope gives a sink nothing of what a program left behind writes") {
  std::string text;
  {
    Popen process({"sh", "-c", "sleep 600 & echo $!"},
                  {.out = [&text](std::string_view piece) { text += piece; }});
  }
  REQUIRE(std::atoi(text.c_str()) > 0);
  ::kill(std::atoi(text.c_str()), SIGKILL);
}

TEST_CASE("a slow sink gets all that a program has left in the pipe") {
  // Of so much the pipe, which has been made larger by then, holds the last third when the program
  // ends. The sink takes a moment for each piece.
  std::string text;
  Popen process({"head", "-c", "3000000", "/dev/zero"}, {.out = [&text](std::string_view piece) {
                  text += piece;
                  std::this_thread::sleep_for(10ms);
                }});
  CHECK(process.wait() == 0);
  CHECK(text.size() == 3'000'000);
}

TEST_CASE("poll serves a sink") {
  std::string text;
  Popen process({"seq", "1", "50000"}, {.out = [&text](std::string_view piece) { text += piece; }});
  while (!process.poll()) std::this_thread::yield();
  CHECK(process.returncode() == 0);
  CHECK(text.size() == 288894);
}

TEST_CASE("many threads start programs at once and leak nothing") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  std::vector<std::thread> threads;
  int wrong[6] = {};
  for (int& count : wrong) {
    threads.emplace_back([&count] {
      for (int i = 0; i < 12; ++i) {
        const std::string text = std::to_string(i);
        if (run({"cat"}, {.input = text, .capture_output = true}).out != text) ++count;
        try {
          run({"/no/such/program"}, {.capture_output = true});
          ++count;
        } catch (const brood::os::FileNotFoundError&) {
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : wrong) CHECK(count == 0);
}
