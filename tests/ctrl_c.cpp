// SPDX-License-Identifier: MIT
//
// Ctrl-C at a terminal: SIGINT for all processes of a program at once, which has no handler for it.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <brood/brood.hpp>
#include <thread>

#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/programs.hpp"
#include "support/start_methods.hpp"

using namespace brood;
namespace mp = brood::multiprocessing;
using support::patience;

namespace {

int work(int number) {
  board::bump(0);
  for (;;) ::pause();
  return number;
}

// What a program prints that gets SIGINT with all its processes when `ready` of them have called
// work(). Does not return before all of them have ended.
template <class Program>
support::Ended interrupted(std::uint32_t ready, Program program) {
  board::reset();
  auto [read, write] = posix::make_pipe();
  posix::flush_output();  // what was printed here is not the program's
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setpgid(0, 0);
    ::signal(SIGINT, SIG_DFL);
    ::dup2(write.get(), 1);
    ::dup2(write.get(), 2);
    read.reset();
    write.reset();
    ::alarm(support::last_alarm);
    program();
    ::_exit(1);
  }
  write.reset();
  support::Ended result{};
  if (!board::await(0, ready, patience)) result.said = "not ready;";
  ::killpg(pid, SIGINT);
  for (;;) {
    char text[4096];
    if (!posix::wait_readable(read.get(), posix::Deadline{patience})) {
      ::killpg(pid, SIGKILL);
      result.said += "somebody lives;";
      break;
    }
    const ssize_t size = posix::read_some(read.get(), text, sizeof text);
    if (size <= 0) break;
    result.said.append(text, static_cast<std::size_t>(size));
  }
  result.code = support::wait_for(pid);
  return result;
}

// A pool by spawn is made while Ctrl-C is pressed all the time.
const support::OwnProgram impatient{
    "impatient", [] {
      ::setpgid(0, 0);
      ::signal(SIGINT, [](int) {});
      std::atomic<bool> stop{false};
      std::thread presses([&] {
        while (!stop) {
          ::kill(0, SIGINT);
          ::poll(nullptr, 0, 1);
        }
      });
      int sum = 0;
      try {
        for (int i = 0; i < 5; ++i) {
          brood::futures::ProcessPoolExecutor pool(
              {.max_workers = 1, .start_method = mp::StartMethod::spawn});
          sum += pool.submit([](int n) { return n; }, 2).result();
        }
      } catch (const std::exception& error) {
        std::puts(error.what());
      }
      stop = true;
      presses.join();
      return sum;
    }};

const support::OwnProgram not_forking{"not_forking", [] {
                                        const mp::Semaphore at_work(0);
                                        const auto sleep = [](const mp::Semaphore& semaphore) {
                                          ::alarm(support::last_alarm);
                                          semaphore.release();
                                          for (;;) ::pause();
                                        };
                                        mp::Pool pool(2);
                                        const mp::Process one(sleep, at_work),
                                            other(sleep, at_work);
                                        one.start();
                                        other.start();
                                        pool.apply([] {});
                                        at_work.acquire();
                                        at_work.acquire();
                                        std::puts("ready");
                                        std::fflush(stdout);
                                        one.join();
                                        return 1;
                                      }};

}  // namespace

TEST_CASE("Ctrl C while a pool by spawn is made does not reach its server") {
  const auto ended = impatient.run();
  CHECK(ended.said.empty());
  CHECK(ended.code == 10);
}

TEST_CASE("Ctrl-C ends a program that waits for a process pool and all its processes in silence") {
  const auto ended = interrupted(3, [] {
    futures::ProcessPoolExecutor pool(3);
    for (const int result : pool.map(work, std::vector{1, 2, 3, 4, 5})) static_cast<void>(result);
  });
  CHECK(ended.said == "");
  CHECK(ended.code == -SIGINT);
}

TEST_CASE("Ctrl-C ends a program with several pools and processes in silence") {
  const auto ended = interrupted(4, [] {
    const mp::JoinableQueue<int> queue;
    mp::Pool one(1), two(1);
    const auto first = one.apply_async(work, 1), second = two.apply_async(work, 2);
    const mp::Process process(work, 3), consumer([queue] {
      queue.get();
      work(4);
    });
    process.start();
    consumer.start();
    queue.put(1);
    futures::ThreadPoolExecutor threads(2);
    auto waiting = threads.submit([&] { return first.get(); });
    queue.join();
  });
  CHECK(ended.said == "");
  CHECK(ended.code == -SIGINT);
}

TEST_CASE("Ctrl-C ends a program that exits at it with its pools in silence") {
  const auto ended = interrupted(3, [] {
    static futures::ProcessPoolExecutor pool(2);
    static std::vector<futures::Future<int>> tasks;
    for (int i = 0; i < 4; ++i) tasks.push_back(pool.submit(work, i));
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &interrupt, nullptr);
    board::bump(0);
    int number = 0;
    ::sigwait(&interrupt, &number);
    pool.kill_workers();
    std::exit(7);
  });
  CHECK(ended.said == "");
  CHECK(ended.code == 7);
}

TEST_CASE("Ctrl-C ends processes that were not forked by the program in silence") {
  auto program =
      not_forking.start({{"BROOD_TEST_START_METHOD", GENERATE("forkserver", "spawn")}}, 0);
  CHECK(program.out.readline() == "ready\n");
  ::killpg(program.pid(), SIGINT);
  CHECK(program.out.read() == "");
  CHECK(program.wait() == -SIGINT);
}
