// SPDX-License-Identifier: MIT
//
// Event and Timer.
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "crew.hpp"

using namespace brood;
using namespace support;
using threading::Event;
using threading::Timer;

TEST_CASE("an Event is set and cleared") {
  const Event event;
  CHECK_FALSE(event.is_set());
  event.set();
  CHECK(event.is_set());
  event.set();
  CHECK(event.is_set());
  event.clear();
  CHECK_FALSE(event.is_set());
  event.clear();
  CHECK_FALSE(event.is_set());
}

TEST_CASE("set lets all who wait for an Event go on") {
  const Event event;
  for (int round = 0; round < 2; ++round) {
    std::atomic<int> gone_on{0};
    Crew crew;
    const int before = sleepers();
    crew.add(5, [&] {
      gone_on += event.wait() ? 1 : 0;
      gone_on += event.wait() ? 1 : 0;  // at once
    });
    await_sleepers(before + 5);
    CHECK(gone_on == 0);
    event.set();
    CHECK(crew.join());
    CHECK(gone_on == 10);
    event.clear();
  }
}

TEST_CASE("a wait for an Event gives up when its limit is over") {
  const Event event;
  CHECK_FALSE(event.wait(0s));
  CHECK_FALSE(event.wait(-1s));
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(event.wait(20ms));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  event.set();
  CHECK(event.wait(0s));
  CHECK(event.wait(20ms));
}

TEST_CASE("who waits for an Event sees a set that is cleared at once") {
  const Event event;
  std::atomic<int> seen{0};
  Crew crew;
  const int before = sleepers();
  crew.add(5, [&] { seen += event.wait(patience) ? 1 : 0; });
  await_sleepers(before + 5);
  if (under_tsan) event.set();  // its own sleeping thread may have been counted for one of ours
  event.set();
  if (!under_tsan) event.clear();
  CHECK(crew.join());
  CHECK(seen == 5);
}

TEST_CASE("a forked child finds its Event usable whatever waited for it") {
  const Event event;
  Crew crew;
  const int before = sleepers();
  crew.add(2, [&] { event.wait(); });
  await_sleepers(before + 2);
  const pid_t pid = ::fork();
  if (pid == 0) {
    // There is nobody to wake.
    event.set();
    ::_exit(event.wait(std::chrono::seconds{0}) && event.is_set() ? 17 : 1);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 17);
  CHECK_FALSE(event.is_set());
  event.set();
  CHECK(crew.join());
}

TEST_CASE("a Timer calls its function when the interval is over") {
  std::string said;
  const auto start = std::chrono::steady_clock::now();
  Timer timer(
      20ms, [&](const std::string& text, int n) { said = text + std::to_string(n); }, "t", 7);
  CHECK_FALSE(timer.is_alive());
  timer.start();
  CHECK(timer.join(patience));
  CHECK(said == "t7");
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
  timer.cancel();  // too late, and no harm

  int calls = 0;
  Timer again(0s, [&] { ++calls; });
  again.start();
  again.join();
  CHECK(calls == 1);
}

TEST_CASE("a Timer that is cancelled calls nothing") {
  std::atomic<int> calls{0};
  const Timer timer(1h, [&] { ++calls; });
  timer.start();
  timer.cancel();
  CHECK(timer.join(patience));
  CHECK(calls == 0);
  const Timer before(0s, [&] { ++calls; });
  before.cancel();
  before.start();
  CHECK(before.join(patience));
  CHECK(calls == 0);
}

TEST_CASE("a Timer is a Thread") {
  const Timer timer(1h, [] {});
  timer.set_daemon(true);
  timer.set_name("alarm");
  timer.start();
  CHECK(timer.is_alive());
  CHECK(timer.daemon());
  bool listed = false;
  for (const auto& thread : threading::enumerate()) listed = listed || thread == timer;
  CHECK(listed);
  timer.cancel();
  CHECK(timer.join(patience));
}
