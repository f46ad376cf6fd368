// SPDX-License-Identifier: MIT
//
// Programs that run without standard streams, as daemons may: their descriptors would get the
// numbers 0 to 2, which others take for the streams.
#include <fcntl.h>

#include <brood/brood.hpp>

#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/start_methods.hpp"

using namespace brood;
namespace mp = brood::multiprocessing;
using namespace std::chrono_literals;

namespace {

// What `program` returns in a forked child that has no standard streams.
template <class Program>
int without_streams(Program program) {
  return board::in_child([&] {
    ::alarm(support::last_alarm);
    for (int fd = 0; fd < 3; ++fd) ::close(fd);
    return program();
  });
}

bool is_closed(int fd) { return ::fcntl(fd, F_GETFD) < 0; }

int say(int number) {
  std::printf("%d\n", number);
  std::fflush(stdout);
  std::fprintf(stderr, "%d\n", number);
  return number;
}

void put(const mp::Queue<int>& queue, int number) { queue.put(say(number)); }

// A forked child, whose input is opened anew, asks for a process, which is none of its forks.
int ask_in_a_child() {
  // Where the tests' own memory lies, which a spawned process looks for.
  if (mp::get_start_method() != mp::StartMethod::spawn) ::close(0);
  mp::freeze_support();
  const mp::Queue<int> queue;
  const auto method = mp::get_start_method();
  const mp::Process child({.start_method = mp::StartMethod::fork}, [queue, method] {
    say(1);
    const mp::Process process({.start_method = method}, put, queue, 2);
    process.start();
    process.join();
  });
  child.start();
  child.join();
  return child.exitcode() == 0 && queue.get(support::patience) == 2 ? 0 : 1;
}
const support::OwnProgram asks_in_a_child{"asks_in_a_child", ask_in_a_child,
                                          support::OwnProgram::Call::nothing};

}  // namespace

TEST_CASE("what processes share is not taken for a standard stream that is closed") {
  CHECK(without_streams([] {
          const mp::Queue<int> queue;
          const mp::JoinableQueue<int> joinable(3);
          const auto ends = mp::Pipe();
          const mp::Event event;
          const mp::shared_memory::SharedMemory memory({.create = true, .size = 1});
          futures::ProcessPoolExecutor pool(1);
          pool.submit(say, 0).result();
          // The fork server's, which opens its standard input anew.
          const posix::ChildEnds deaths;
          return is_closed(0) && is_closed(1) && is_closed(2) ? 0 : 1;
        }) == 0);
}

TEST_CASE("processes without standard streams talk by queues and connections") {
  CHECK(without_streams([] {
          const mp::Queue<std::string> queue;
          const auto [here, there] = mp::Pipe();
          const mp::Process process([queue, there = there] {
            say(1);
            queue.put(std::string(3'000'000, 'x'));
            there.send(there.recv<int>() + 1);
          });
          process.start();
          here.send(1);
          const bool sound = queue.get().size() == 3'000'000 && here.recv<int>() == 2;
          process.join();
          return sound && process.exitcode() == 0 ? 0 : 1;
        }) == 0);
}

TEST_CASE("a process pool works without standard streams") {
  CHECK(without_streams([] {
          futures::ProcessPoolExecutor pool(2);
          int sum = 0;
          for (const int number : pool.map(say, std::vector{1, 2, 3, 4})) sum += number;
          return sum == 10 ? 0 : 1;
        }) == 0);
}

TEST_CASE("a program without standard streams runs others with them") {
  CHECK(without_streams([] {
          const auto cat = subprocess::run({"cat"}, {.input = "a", .capture_output = true});
          const auto both =
              subprocess::run({"sh", "-c", "echo out; echo err >&2"}, {.capture_output = true});
          return cat.out == "a" && both.out == "out\n" && both.err == "err\n" ? 0 : 1;
        }) == 0);
}

TEST_CASE("processes without standard streams start others in each way") {
  const char* const method = support::name_of(support::each_start_method());
  CHECK(without_streams([method] {
          ::setenv("BROOD_TEST_START_METHOD", method, 1);
          ::setenv("BROOD_TEST_PROGRAM", "asks_in_a_child", 1);
          ::execl("/proc/self/exe", "closed_streams", nullptr);
          return 1;
        }) == 0);
}
