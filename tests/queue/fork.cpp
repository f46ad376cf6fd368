// SPDX-License-Identifier: MIT
//
// Queues in a child of a bare fork(), made while other threads use them.
#include <sys/wait.h>
#include <unistd.h>

#include "kinds.hpp"

using namespace brood;
using namespace support;

namespace {

// Runs f in a forked child; its exit code, or -1.
template <class F>
int in_child(F f) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(f());
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("a forked child has the items and tasks of the queue at the fork") {
  for_each_kind([](auto make) {
    const auto queue = make(0);
    for (int i = 0; i < 3; ++i) queue.put(i);
    CHECK(in_child([&] {
            int sum = 0;
            for (int i = 0; i < 3; ++i) {
              sum += queue.get();
              queue.task_done();
            }
            return sum == 3 && queue.empty() && queue.join(0s) ? 17 : 1;
          }) == 17);
    CHECK(queue.qsize() == 3);  // the parent's own
  });
}

TEST_CASE("a queue works in a child forked at any moment of its use by other threads") {
  if (under_asan) SKIP("AddressSanitizer's allocator does not come through such a fork");
  for_each_kind([](auto make) {
    const auto queue = make(4);
    Crew crew;
    crew.add(2, [&] {
      try {
        for (int i = 0;; ++i) queue.put(i);
      } catch (const queue::ShutDown&) {
      }
    });
    crew.add(1, [&] {
      for (const int item : queue) static_cast<void>(item);
    });
    for (int round = 0; round < 50; ++round) {
      // No thread of the parent is there to take a wake-up or to hold the lock.
      const int code = in_child([&] {
        while (queue.try_get()) {
        }
        for (int i = 0; i < 4; ++i) queue.put_nowait(i);
        if (!queue.full()) return 1;
        if (under_tsan) return 17;
        int got = 0;
        threading::Thread getter([&] {
          for (int i = 0; i < 8; ++i) got += queue.get();
        });
        getter.start();
        for (int i = 0; i < 4; ++i) queue.put(i);
        return getter.join(patience) && got == 12 ? 17 : 2;
      });
      REQUIRE(code == 17);
    }
    queue.shutdown();
    CHECK(crew.join());
  });
}
