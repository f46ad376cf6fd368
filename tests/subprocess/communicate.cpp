// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <brood/posix/sanitizers.hpp>
#include <brood/subprocess.hpp>
#include <chrono>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using namespace std::chrono_literals;

namespace {

using Streams = std::pair<std::string, std::string>;

std::string megabytes(std::size_t count) {
  std::string text;
  while (text.size() < count << 20) text += std::to_string(text.size()) + "\n";
  return text;
}

// How much the memory of a process grows that sends so much through a child and back to a sink.
// The input is memory that takes none, as long as it is only read.
std::size_t growth_for(std::size_t bytes) {
  void* const zeros =
      ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(zeros != MAP_FAILED);
  ::madvise(zeros, bytes, MADV_NOHUGEPAGE);
  const support::Shared<std::size_t> growth;
  const int code = support::in_child([&] {
    const auto peak = [] {
      rusage usage{};
      ::getrusage(RUSAGE_SELF, &usage);
      return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
    };
    std::size_t seen = 0;
    run({"true"});  // so that what every start needs is there
    const std::size_t before = peak();
    Popen process({"cat"},
                  {.in = PIPE, .out = [&](std::string_view piece) { seen += piece.size(); }});
    process.communicate({static_cast<const char*>(zeros), bytes});
    *growth = peak() - before;
    return process.returncode() == 0 && seen == bytes ? 0 : 1;
  });
  ::munmap(zeros, bytes);
  CHECK(code == 0);
  return brood::posix::sanitized ? 0 : *growth;  // a sanitizer keeps books of what is touched
}

}  // namespace

TEST_CASE("communicate feeds the input and returns each piped stream") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  Popen in_only({"sh", "-c", "test \"$(cat)\" = pear"}, {.in = PIPE});
  CHECK(in_only.communicate("pear") == Streams{"", ""});
  CHECK(in_only.returncode() == 0);
  Popen out_only({"printf", "pineapple"}, {.out = PIPE});
  CHECK(out_only.communicate() == Streams{"pineapple", ""});
  Popen err_only({"sh", "-c", "printf pineapple >&2"}, {.err = PIPE});
  CHECK(err_only.communicate() == Streams{"", "pineapple"});
  Popen all({"sh", "-c", "printf pineapple >&2; cat"}, {.in = PIPE, .out = PIPE, .err = PIPE});
  CHECK(all.communicate("banana") == Streams{"banana", "pineapple"});
  Popen none({"sh", "-c", "exit 47"});
  CHECK(none.communicate() == Streams{"", ""});
  CHECK(none.returncode() == 47);
}

TEST_CASE("communicate returns both streams when the child fills both pipes") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const std::string text = megabytes(1);
  Popen process({"sh", "-c", "head -c 300000 /dev/zero >&2; cat; head -c 300000 /dev/zero >&2"},
                {.in = PIPE, .out = PIPE, .err = PIPE});
  const auto [out, err] = process.communicate(text);
  CHECK(out == text);
  CHECK(err == std::string(600000, '\0'));
}

TEST_CASE("communicate closes every pipe it used") {
  const auto way = support::each_start_way();
  for (int mask = 1; mask < 8; ++mask) {
    const support::LeakCheck nothing_left;
    Options options;
    if (mask & 1) options.in = PIPE;
    if (mask & 2) options.out = PIPE;
    if (mask & 4) options.err = PIPE;
    Popen process({"true"}, options);
    process.communicate();
    CHECK_FALSE(process.in);
    CHECK_FALSE(process.out);
    CHECK_FALSE(process.err);
    process.wait();
    process = Popen({"true"});
  }
}

TEST_CASE("communicate takes the bytes of anything and all of them") {
  const int numbers[] = {1, 0x01020304, -1};
  const std::string_view bytes{reinterpret_cast<const char*>(numbers), sizeof numbers};
  Popen process({"cat"}, {.in = PIPE, .out = PIPE});
  CHECK(process.communicate(bytes).first == bytes);
}

TEST_CASE("newlines of every kind arrive as they are") {
  const std::string text = "unix\nwindows\r\nmac\rboth\n\r\r\nnone";
  Popen both({"tee", "/dev/stderr"}, {.in = PIPE, .out = PIPE, .err = PIPE});
  CHECK(both.communicate(text) == Streams{text, text});
  Popen without_input({"printf", "a\r\nb\r\n"}, {.in = PIPE, .out = PIPE});
  CHECK(without_input.communicate().first == "a\r\nb\r\n");
  Popen by_line({"cat"}, {.in = PIPE, .out = PIPE});
  by_line.in.write(text);
  by_line.in.close();
  CHECK(by_line.out.readline() == "unix\n");
  CHECK(by_line.out.readline() == "windows\r\n");
  CHECK(by_line.out.readline() == "mac\rboth\n");
}

TEST_CASE("what was written before communicate comes first") {
  const support::LeakCheck nothing_left;
  Popen process({"cat"}, {.in = PIPE, .out = PIPE});
  process.in.write("banana");
  CHECK(process.communicate("split").first == "bananasplit");
  Popen without_more({"cat"}, {.in = PIPE, .out = PIPE});
  without_more.in.write("banana");
  CHECK(without_more.communicate().first == "banana");
}

TEST_CASE("what was read before communicate is not lost behind it") {
  Popen process({"printf", "one\ntwo\nthree\n"}, {.out = PIPE});
  CHECK(process.out.readline() == "one\n");
  CHECK(process.communicate().first == "two\nthree\n");
}

TEST_CASE("an input that is closed by hand is no error") {
  Popen process({"cat"}, {.in = PIPE, .out = PIPE});
  process.in.write("pear");
  process.in.close();
  CHECK(process.communicate().first == "pear");
  CHECK(process.returncode() == 0);
}

TEST_CASE("input for a stream that is no pipe is refused") {
  Popen process({"true"});
  CHECK_THROWS_AS(process.communicate("x"), std::invalid_argument);
}

TEST_CASE("communicate that ran out of time can be called again and loses nothing") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  int gate[2];
  REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
  Popen process({"sh", "-c", "printf pineapple >&2; read -r line <&\"$1\"; cat", "sh",
                 std::to_string(gate[0])},
                {.in = PIPE, .out = PIPE, .err = PIPE, .pass_fds = {gate[0]}});
  try {
    process.communicate("banana", 300ms);
    FAIL("no exception");
  } catch (const TimeoutExpired& error) {
    CHECK(error.out().empty());
    CHECK((error.err() == "pineapple" || error.err().empty()));
  }
  CHECK_THROWS_AS(process.communicate("more", 1ms), std::invalid_argument);
  REQUIRE(::write(gate[1], "\n", 1) == 1);
  CHECK(process.communicate() == Streams{"banana", "pineapple"});
  ::close(gate[0]);
  ::close(gate[1]);
}

TEST_CASE("a time that runs out amid large output loses nothing") {
  const auto way = support::each_start_way();
  // After each piece it waits for a line, which it gets when a time has run out.
  const brood::posix::PipeEnds gate = brood::posix::make_pipe();
  Popen process(
      {"sh", "-c", "for i in 1 2 3 4; do head -c 65536 /dev/zero; read -r line <&\"$0\"; done",
       std::to_string(gate.read.get())},
      {.out = PIPE, .pass_fds = {gate.read.get()}});
  int cuts = 0;
  std::string out;
  for (bool done = false; !done;) {
    try {
      out = process.communicate({}, 10ms).first;
      done = true;
    } catch (const TimeoutExpired&) {
      CHECK(process.out);
      ++cuts;
      REQUIRE(brood::posix::write_some(gate.write.get(), "\n", 1) == 1);
    }
  }
  CHECK(cuts >= 4);
  CHECK(out == std::string(4 * 65536, '\0'));
}

TEST_CASE("times that run out at any moment lose nothing in any direction") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const std::string text = megabytes(1);
  std::minstd_rand random{47};
  std::size_t cuts = 0;
  for (int round = 0; round < 6; ++round) {
    std::string sunk;
    Options options{.in = PIPE, .out = PIPE, .err = PIPE};
    if (round % 3 == 2) options.err = [&sunk](std::string_view piece) { sunk += piece; };
    Popen process({"tee", "/dev/stderr"}, options);
    if (round % 3 == 1) process.in.write("before ");
    Streams streams;
    std::string so_far;
    std::string_view input = text;
    for (bool done = false; !done;) {
      const std::chrono::microseconds limit{random() % 1500};
      try {
        streams = process.communicate(input, limit);
        done = true;
      } catch (const TimeoutExpired& error) {
        ++cuts;
        // What there is goes on where the last one stood.
        CHECK((error.out().compare(0, so_far.size(), so_far) == 0));
        so_far = error.out();
      }
      input = {};
    }
    const std::string expected = (round % 3 == 1 ? "before " : "") + text;
    CHECK((streams.first == expected));
    CHECK(((round % 3 == 2 ? sunk : streams.second) == expected));
    CHECK(process.returncode() == 0);
  }
  CHECK(cuts > 0);
}

TEST_CASE(
    "the limit holds while a child does not read its large input and the rest is sent later") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  int gate[2];
  REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
  std::string text = megabytes(1);
  const std::string expected = text;
  Popen process({"sh", "-c", "read -r line <&\"$1\"; exec cat", "sh", std::to_string(gate[0])},
                {.in = PIPE, .out = PIPE, .pass_fds = {gate[0]}});
  CHECK_THROWS_AS(process.communicate(text, 50ms), TimeoutExpired);
  // The caller's text need not live on.
  text.assign(text.size(), '-');
  REQUIRE(::write(gate[1], "\n", 1) == 1);
  CHECK(process.communicate().first == expected);
  ::close(gate[0]);
  ::close(gate[1]);
}

TEST_CASE("a child that leaves its input unread is no error for communicate") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const std::string text = megabytes(1);
  Popen all({"true"}, {.in = PIPE, .out = PIPE, .err = PIPE});
  CHECK(all.communicate(text) == Streams{"", ""});
  Popen only_in({"true"}, {.in = PIPE});
  only_in.wait();
  CHECK(only_in.communicate(text) == Streams{"", ""});
  Popen buffered({"true"}, {.in = PIPE});
  buffered.in.write("little");
  buffered.wait();
  CHECK_NOTHROW(buffered.communicate({}, 60s));
}

TEST_CASE("SIGPIPE does not reach a caller that leaves it at its default") {
  const int code = support::in_child([] {
    ::signal(SIGPIPE, SIG_DFL);
    Popen process({"true"}, {.in = PIPE});
    process.wait();
    try {
      process.in.write(std::string(100'000, 'x'));
      return 1;
    } catch (const brood::os::BrokenPipeError&) {
    }
    process.in = Writer{};
    run({"true"}, {.input = std::string(1'000'000, 'x')});
    struct sigaction now;
    ::sigaction(SIGPIPE, nullptr, &now);
    return now.sa_handler == SIG_DFL ? 0 : 2;
  });
  CHECK(code == 0);
}

TEST_CASE("communicate goes on after its child has closed its output") {
  const support::LeakCheck nothing_left;
  const brood::posix::PipeEnds gate = brood::posix::make_pipe();
  Popen process({"sh", "-c", "echo early; exec >&- 2>&-; read -r line <&\"$0\"; exit 3",
                 std::to_string(gate.read.get())},
                {.out = PIPE, .err = PIPE, .pass_fds = {gate.read.get()}});
  int rounds = 0;
  for (bool done = false; !done;) {
    try {
      const std::string out = process.communicate({}, 50ms).first;
      CHECK(out == "early\n");
      done = true;
    } catch (const TimeoutExpired&) {
      if (++rounds == 3) REQUIRE(brood::posix::write_some(gate.write.get(), "\n", 1) == 1);
    }
  }
  CHECK(rounds >= 3);
  CHECK(process.returncode() == 3);
}

TEST_CASE("signals that arrive in communicate do not disturb it") {
  struct sigaction action {};
  struct sigaction before {};
  static std::atomic<int> handled{0};
  action.sa_handler = [](int) { ++handled; };  // without SA_RESTART
  REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
  const pthread_t main_thread = ::pthread_self();
  // It ends after many of them.
  const brood::posix::PipeEnds gate = brood::posix::make_pipe();
  Popen process({"sh", "-c", "cat; read -r line <&\"$0\"", std::to_string(gate.read.get())},
                {.in = PIPE, .out = PIPE, .pass_fds = {gate.read.get()}});
  std::atomic<bool> done{false};
  std::thread pest([&] {
    for (int sent = 0; !done; ++sent) {
      ::pthread_kill(main_thread, SIGUSR1);
      std::this_thread::sleep_for(1ms);
      if (sent == 100) brood::posix::write_some(gate.write.get(), "\n", 1);
    }
  });
  const std::string text = megabytes(2);
  const std::string out = process.communicate(text).first;
  done = true;
  pest.join();
  ::sigaction(SIGUSR1, &before, nullptr);
  CHECK(out == text);
  CHECK(handled > 0);
}

TEST_CASE("a signal handler of the caller never runs in a child") {
  // The handler would set a word in memory that the child shares with us until exec.
  static std::atomic<pid_t> stranger{0};
  static pid_t self = 0;
  self = ::getpid();
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {
    if (::getpid() != self) stranger = ::getpid();
  };
  REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
  for (int i = 0; i < 30; ++i) {
    Popen process({"sleep", "30"}, {.start_new_session = true});
    process.send_signal(SIGUSR1);
    CHECK(process.wait() == -SIGUSR1);
  }
  ::sigaction(SIGUSR1, &before, nullptr);
  CHECK(stranger == 0);
}

TEST_CASE("communicate with sinks returns nothing and hands over everything") {
  std::string text;
  Popen process({"cat"}, {.in = PIPE, .out = [&text](std::string_view piece) { text += piece; }});
  const std::string input = megabytes(1);
  CHECK(process.communicate(input) == Streams{"", ""});
  CHECK(text == input);
}

TEST_CASE("what goes through a child to a sink takes little memory") {
  CHECK(growth_for(std::size_t{64} << 20) < std::size_t{16} << 20);
}

TEST_CASE("a gibibyte each way through a child takes little memory", "[soak]") {
  CHECK(growth_for(std::size_t{1} << 30) < std::size_t{16} << 20);
}
