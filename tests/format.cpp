// SPDX-License-Identifier: MIT
#include <sched.h>

#include <brood/format.hpp>
#include <string>

#include "support/catch.hpp"

using namespace brood;

TEST_CASE("a command prints as a line for the shell") {
  CHECK(fmt::format("{}", subprocess::Command{"ls", "my file", "it's"}) ==
        R"(ls 'my file' 'it'"'"'s')");
  CHECK(fmt::format("{:>6}", subprocess::Command{"ls"}) == "    ls");
}

TEST_CASE("a completed process prints what it was and what it wrote") {
  subprocess::CompletedProcess done{.args = {"date"}, .returncode = 0, .out = "noon\n"};
  CHECK(fmt::format("{}", done) == R"(CompletedProcess(args='date', returncode=0, out='noon\n'))");
  done.err = "it's\x01";
  done.returncode = -9;
  CHECK(fmt::format("{}", done) ==
        R"(CompletedProcess(args='date', returncode=-9, out='noon\n', err='it\'s\x01'))");
}

TEST_CASE("a Popen prints its command and its code when that is known") {
  subprocess::Popen process{{"sh", "-c", "exit 3"}};
  CHECK(fmt::format("{}", process) == R"(<Popen: returncode: None args: 'sh -c \'exit 3\''>)");
  process.wait();
  CHECK(fmt::format("{}", process) == R"(<Popen: returncode: 3 args: 'sh -c \'exit 3\''>)");
}

TEST_CASE("a Process prints its name and pid and state") {
  const multiprocessing::Process process{{.name = "dryer", .daemon = true}, [] { std::exit(2); }};
  CHECK(fmt::format("{}", process) == "<Process name='dryer' initial daemon>");
  process.start();
  const std::string pid = std::to_string(process.pid());
  process.join();
  CHECK(fmt::format("{}", process) ==
        "<Process name='dryer' pid=" + pid + " stopped exitcode=2 daemon>");
  process.close();
  CHECK(fmt::format("{}", process) == "<Process name='dryer' unknown daemon>");
}

TEST_CASE("a Thread prints its name and state") {
  const threading::Thread thread{{.name = "reader"}, [] {}};
  CHECK(fmt::format("{}", thread) == "<Thread(reader, initial)>");
  thread.start();
  thread.join();
  CHECK(fmt::format("{}", thread) ==
        "<Thread(reader, stopped " + std::to_string(*thread.ident()) + ")>");
}

TEST_CASE("a Thread that runs prints that it is started and a daemon") {
  const threading::Event end;
  const threading::Thread thread{{.name = "reader", .daemon = true}, [end] { end.wait(); }};
  thread.start();
  CHECK(fmt::format("{}", thread) ==
        "<Thread(reader, started daemon " + std::to_string(*thread.ident()) + ")>");
  end.set();
  thread.join();
}

TEST_CASE("a lock of threads prints whether it is held") {
  const threading::Lock lock;
  CHECK(fmt::format("{}", lock) == "<unlocked Lock>");
  lock.acquire();
  CHECK(fmt::format("{}", lock) == "<locked Lock>");
  const threading::RLock rlock;
  CHECK(fmt::format("{}", rlock) == "<unlocked RLock>");
  rlock.acquire();
  CHECK(fmt::format("{}", rlock) == "<locked RLock>");
  CHECK(fmt::format("{}", threading::Condition{lock}) == "<locked Condition>");
  CHECK(fmt::format("{}", threading::Condition{}) == "<unlocked Condition>");
}

TEST_CASE("what threads wait for prints its value") {
  const threading::Semaphore semaphore{4};
  semaphore.acquire();
  CHECK(fmt::format("{}", semaphore) == "<Semaphore: value=3>");
  CHECK(fmt::format("{}", threading::BoundedSemaphore{4}) == "<BoundedSemaphore: value=4>");
  const threading::Event event;
  CHECK(fmt::format("{}", event) == "<Event: unset>");
  event.set();
  CHECK(fmt::format("{}", event) == "<Event: set>");
  const threading::Barrier barrier{2};
  CHECK(fmt::format("{}", barrier) == "<Barrier: waiters=0/2>");
  const threading::Thread waiting([barrier] { barrier.wait(); });
  waiting.start();
  while (barrier.n_waiting() == 0) ::sched_yield();
  CHECK(fmt::format("{}", barrier) == "<Barrier: waiters=1/2>");
  barrier.wait();
  waiting.join();
  CHECK(fmt::format("{}", barrier) == "<Barrier: waiters=0/2>");
  barrier.abort();
  CHECK(fmt::format("{}", barrier) == "<Barrier: broken>");
}

TEST_CASE("locks of processes print who holds them") {
  namespace mp = multiprocessing;
  const mp::Lock lock;
  const mp::RLock rlock;
  CHECK(fmt::format("{}", lock) == "<Lock(owner=None)>");
  CHECK(fmt::format("{}", rlock) == "<RLock(None, 0)>");
  lock.acquire();
  rlock.acquire();
  rlock.acquire();
  CHECK(fmt::format("{}", lock) == "<Lock(owner=MainProcess)>");
  CHECK(fmt::format("{}", rlock) == "<RLock(MainProcess, 2)>");
  std::string seen;
  threading::Thread thread{[&] { seen = fmt::format("{} {}", lock, rlock); }};
  thread.start();
  thread.join();
  CHECK(seen == "<Lock(owner=SomeOtherThread)> <RLock(SomeOtherThread, 2)>");
  const mp::Queue<std::string> said;
  mp::Process child{[=] { said.put(fmt::format("{} {}", lock, rlock)); }};
  child.start();
  child.join();
  CHECK(said.get() == "<Lock(owner=SomeOtherProcess)> <RLock(SomeOtherProcess, 2)>");
  lock.release();
  mp::Process dying{[=] {
    lock.acquire();
    ::_exit(0);
  }};
  dying.start();
  dying.join();
  CHECK(fmt::format("{}", lock) == "<Lock(owner=None)>");
}

TEST_CASE("what processes wait for each other with prints its state") {
  namespace mp = multiprocessing;
  const mp::Condition condition;
  CHECK(fmt::format("{}", condition) == "<unlocked Condition>");
  condition.acquire();
  CHECK(fmt::format("{}", condition) == "<locked Condition>");
  condition.release();
  CHECK(fmt::format("{}", mp::Semaphore{3}) == "<Semaphore: value=3>");
  CHECK(fmt::format("{}", mp::BoundedSemaphore{4}) == "<BoundedSemaphore: value=4>");
  const mp::Event event;
  CHECK(fmt::format("{}", event) == "<Event: unset>");
  event.set();
  CHECK(fmt::format("{}", event) == "<Event: set>");
  const mp::Barrier barrier{2};
  CHECK(fmt::format("{}", barrier) == "<Barrier: waiters=0/2>");
  barrier.abort();
  CHECK(fmt::format("{}", barrier) == "<Barrier: broken>");
}

TEST_CASE("a Future prints its state") {
  const futures::Future<int> future;
  CHECK(fmt::format("{}", future) == "<Future state=pending>");
  future.set_running_or_notify_cancel();
  CHECK(fmt::format("{}", future) == "<Future state=running>");
  future.set_exception(std::make_exception_ptr(std::domain_error{"no root"}));
  CHECK(fmt::format("{}", future) == "<Future state=finished raised std::domain_error: no root>");
  const futures::Future<void> cancelled;
  cancelled.cancel();
  CHECK(fmt::format("{}", cancelled) == "<Future state=cancelled>");
  CHECK(fmt::format("{}", futures::AnyFuture{cancelled}) == "<Future state=cancelled>");
}

TEST_CASE("exceptions of brood print their text") {
  CHECK(fmt::format("{}", queue::Empty{"nothing there"}) == "nothing there");
  const os::FileNotFoundError missing{ENOENT, "open", "plate"};
  CHECK(fmt::format("{}", missing) == missing.what());
  CHECK(fmt::format("{:.4}", TimeoutError{"late again"}) == "late");
  CHECK(fmt::format("{}", threading::BrokenBarrierError{"broken"}) == "broken");
  CHECK(fmt::format("{}", multiprocessing::AuthenticationError{"digest"}) == "digest");
  const multiprocessing::BufferTooShort too_short{"the whole message"};
  CHECK(fmt::format("{}", too_short) == too_short.what());
  const futures::TaskTimeout timeout{"wash", std::chrono::seconds{2}, 4711};
  CHECK(fmt::format("{}", timeout) == "wash ran longer than 2 s, worker process 4711 was killed");
}
