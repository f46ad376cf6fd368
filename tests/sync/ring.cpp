// SPDX-License-Identifier: MIT
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <brood/posix/poll.hpp>
#include <brood/sync/ring.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"

namespace posix = brood::posix;
using brood::sync::Ring;
using namespace std::chrono_literals;

namespace {

bool put(Ring& ring, const std::string& text) {
  return ring.put(text.size(), [&](std::byte* place) {
    std::memcpy(place, text.data(), text.size());
  }) == Ring::Put::done;
}

const auto nothing_instead = [] { return false; };

// "none" when there is nothing.
std::string take(Ring& ring, bool woken = true) {
  std::string text;
  const bool taken =
      ring.take(woken, nothing_instead, [&](const std::byte* data, std::size_t size) {
        text.assign(reinterpret_cast<const char*>(data), size);
      });
  return taken ? text : "none";
}

bool readable(int fd) { return posix::wait_readable(fd, posix::Deadline{0s}); }

std::size_t memory(Ring& ring) {
  struct stat file {};
  ::fstat(ring.memory().file(), &file);
  return static_cast<std::size_t>(file.st_blocks) * 512;
}

// Kills a child inside `body`.
template <class F>
void die_in(F body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::alarm(support::last_alarm);
    body();
    ::_exit(1);
  }
  CHECK(support::wait_for(pid) == -SIGKILL);
}

}  // namespace

TEST_CASE("a ring gives out records of any size in order") {
  const support::LeakCheck nothing_left;
  Ring ring{0};
  CHECK(ring.empty());
  CHECK(ring.count() == 0);
  CHECK(take(ring) == "none");
  CHECK(take(ring, false) == "none");
  const std::size_t sizes[] = {0,       1,       15,      16,      17,      4096,    65537, 0,
                               1 << 20, 5 << 20, 1 << 20, 1048528, 1048544, 1048560, 3,     0};
  for (int round = 0; round < 3; ++round) {
    std::uint64_t count = 0;
    for (const std::size_t size : sizes) {
      CHECK(put(ring, std::string(size, static_cast<char>('a' + count % 26))));
      CHECK(ring.count() == ++count);
    }
    count = 0;
    for (const std::size_t size : sizes) {
      const bool right =
          take(ring, false) == std::string(size, static_cast<char>('a' + count % 26));
      CHECK(right);
      CHECK(ring.count() == std::size(sizes) - ++count);
    }
    CHECK(ring.empty());
  }
}

TEST_CASE("the items event of a ring says whether something lies there") {
  Ring ring{0};
  CHECK_FALSE(readable(ring.items_fd()));
  put(ring, "a");
  put(ring, "b");
  CHECK(readable(ring.items_fd()));
  take(ring);
  CHECK(readable(ring.items_fd()));
  take(ring);
  CHECK(take(ring) == "none");
  CHECK_FALSE(readable(ring.items_fd()));
  put(ring, "c");
  CHECK(readable(ring.items_fd()));
}

TEST_CASE("a bounded ring is full and tells when it has room") {
  Ring ring{2};
  CHECK(put(ring, "a"));
  CHECK(put(ring, "b"));
  CHECK_FALSE(put(ring, "c"));
  CHECK(ring.expect_room());
  CHECK_FALSE(readable(ring.room_fd()));
  CHECK(take(ring) == "a");
  CHECK(readable(ring.room_fd()));
  CHECK_FALSE(ring.expect_room());
  CHECK(put(ring, "c"));
  CHECK(ring.count() == 2);
}

TEST_CASE("a ring asks for something else before it gives out a record") {
  Ring ring{0};
  int asked = 0;
  const auto instead = [&] { return ++asked > 0; };
  const auto never = [](const std::byte*, std::size_t) { FAIL("took a record"); };
  CHECK_FALSE(ring.take(true, instead, never));
  CHECK(asked == 0);
  put(ring, "x");
  CHECK(ring.take(false, instead, never));
  CHECK(asked == 1);
  CHECK(take(ring) == "x");
}

TEST_CASE("a record stays in the ring when its copy fails") {
  Ring ring{0};
  put(ring, "x");
  const auto fails = [](const std::byte*, std::size_t) { throw std::bad_alloc{}; };
  CHECK_THROWS_AS(ring.take(true, nothing_instead, fails), std::bad_alloc);
  CHECK(take(ring) == "x");
}

TEST_CASE("a ring that is read as it is written uses the same memory again") {
  Ring ring{0};
  const std::size_t unused = memory(ring);
  CHECK(unused < 256 * 1024);
  const std::string text(100'000, 'x');
  for (int i = 0; i < 200; ++i) {
    put(ring, text);
    CHECK(take(ring).size() == text.size());
  }
  CHECK(memory(ring) <= unused + 3 * brood::sync::RingMemory::unit_size);
}

TEST_CASE("a ring gives back the memory of a backlog") {
  Ring ring{0};
  const auto unit = brood::sync::RingMemory::unit_size;
  const std::size_t baseline = memory(ring) + (brood::sync::RingMemory::warm_units + 1) * unit;
  const std::string text(unit, 'x');
  for (int i = 0; i < 200; ++i) put(ring, text);
  CHECK(memory(ring) >= 200 * unit);
  for (int i = 0; i < 200; ++i) take(ring);
  take(ring);
  CHECK(memory(ring) <= baseline);

  put(ring, std::string(100 * unit, 'y'));
  CHECK(take(ring).size() == 100 * unit);
  CHECK(take(ring) == "none");
  CHECK(memory(ring) <= baseline);
  // And such memory is reserved again before it is written.
  put(ring, std::string(3 * unit, 'z'));
  put(ring, "s");
  CHECK(memory(ring) >= 3 * unit);
  CHECK(take(ring) == std::string(3 * unit, 'z'));
  CHECK(take(ring) == "s");
}

TEST_CASE("a megabyte takes one unit of a ring") {
  Ring ring{0};
  const std::size_t unused = memory(ring);
  const std::string text(std::size_t{1} << 20, 'x');
  for (int i = 0; i < 5; ++i) put(ring, text);
  CHECK(memory(ring) <= unused + 5 * brood::sync::RingMemory::unit_size);
  for (int i = 0; i < 5; ++i) CHECK(take(ring) == text);
}

TEST_CASE("a ring with a backlog uses the memory again that its readers free") {
  Ring ring{0};
  const auto unit = brood::sync::RingMemory::unit_size;
  const std::string text(unit / 2, 'x');
  for (int i = 0; i < 40; ++i) put(ring, text);
  const std::size_t there = memory(ring);
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 10; ++i) CHECK(take(ring) == text);
    for (int i = 0; i < 10; ++i) put(ring, text);
  }
  CHECK(memory(ring) <= there + unit);
  for (int i = 0; i < 40; ++i) CHECK(take(ring) == text);
  CHECK(take(ring) == "none");
  CHECK(memory(ring) <= (brood::sync::RingMemory::warm_units + 2) * unit);
}

TEST_CASE("a consumer gets what was put though a producer always has the lock") {
  Ring ring{0};
  const support::LeakCheck nothing_left;
  auto go = posix::make_pipe(), begun = posix::make_pipe();
  const auto say = [&] { posix::write_some(begun.write.get(), "x", 1); };
  const auto hear = [](int fd) {
    char byte = 0;
    posix::read_some(fd, &byte, 1);
    return static_cast<std::byte>(byte);
  };
  const pid_t producer = ::fork();
  if (producer == 0) {
    ::alarm(60);
    for (int i = 0; i < 2; ++i)
      ring.put(1, [&](std::byte* place) {
        say();
        *place = hear(go.read.get());
      });
    ::_exit(0);
  }
  hear(begun.read.get());
  const pid_t consumer = ::fork();
  if (consumer == 0) {
    ::alarm(60);
    say();
    ::_exit(take(ring) == "1" ? 0 : 1);
  }
  hear(begun.read.get());
  // The producer ends its first put(), and stays in the second one until the consumer is done.
  posix::write_some(go.write.get(), "1", 1);
  CHECK(support::wait_for(consumer) == 0);
  hear(begun.read.get());
  posix::write_some(go.write.get(), "2", 1);
  CHECK(support::wait_for(producer) == 0);
  CHECK(take(ring) == "2");
}

TEST_CASE("a producer that dies while it writes leaves the ring as it was") {
  for (const std::size_t size : {std::size_t{10}, std::size_t{5} << 20}) {
    Ring ring{0};
    put(ring, "before");
    die_in([&] { ring.put(size, [](std::byte*) { ::raise(SIGKILL); }); });
    CHECK(ring.count() == 1);
    put(ring, "after");
    CHECK(take(ring) == "before");
    CHECK(take(ring) == "after");
    CHECK(take(ring) == "none");
    CHECK_FALSE(readable(ring.items_fd()));
  }
}

TEST_CASE("a consumer that dies while it copies leaves the record") {
  Ring ring{0};
  put(ring, "x");
  die_in([&] {
    ring.take(true, nothing_instead, [](const std::byte*, std::size_t) { ::raise(SIGKILL); });
  });
  CHECK(take(ring) == "x");
  die_in([&] {
    put(ring, "y");
    ring.take(
        true, []() -> bool { return ::raise(SIGKILL) == 0; }, [](const std::byte*, std::size_t) {});
  });
  CHECK(ring.count() == 1);
  CHECK(take(ring) == "y");
}

TEST_CASE("a process that dies between an event and its flag leaves no event behind") {
  Ring ring{2};
  // What lies there when a producer dies after it has made the event readable.
  die_in([&] {
    ring.put(1, [&](std::byte*) {
      const std::uint64_t one = 1;
      posix::write_some(ring.items_fd(), &one, sizeof one);
      ::raise(SIGKILL);
    });
  });
  CHECK(readable(ring.items_fd()));
  CHECK(take(ring, true) == "none");
  CHECK_FALSE(readable(ring.items_fd()));
  put(ring, "a");
  CHECK(readable(ring.items_fd()));
  // And when a consumer dies before it has said that there is room.
  put(ring, "b");
  CHECK(ring.expect_room());
  die_in([&] {
    ring.take(true, nothing_instead, [](const std::byte*, std::size_t) { ::raise(SIGKILL); });
  });
  CHECK(ring.expect_room());
  CHECK(take(ring) == "a");
  CHECK(readable(ring.room_fd()));
}

TEST_CASE("units lost by deaths are found again when the ring is empty") {
  Ring ring{0};
  const auto unit = brood::sync::RingMemory::unit_size;
  const std::size_t baseline = memory(ring) + (brood::sync::RingMemory::warm_units + 1) * unit;
  put(ring, "x");
  for (int i = 0; i < 20; ++i)
    die_in([&] { ring.put(2 * unit, [](std::byte*) { ::raise(SIGKILL); }); });
  CHECK(memory(ring) > baseline);
  CHECK(take(ring) == "x");
  CHECK(take(ring) == "none");
  CHECK(memory(ring) <= baseline);
  for (int i = 0; i < 30; ++i) {
    put(ring, std::string(2 * unit, 'y'));
    CHECK(take(ring).size() == 2 * unit);
  }
  CHECK(take(ring) == "none");
  CHECK(memory(ring) <= baseline);
}

TEST_CASE("a ring in a small address space is a smaller ring") {
  if (support::under_asan || support::under_tsan) SKIP("they need address space");
  const auto ended = support::program([] {
    const rlimit limit{std::uint64_t{4} << 30, std::uint64_t{4} << 30};
    ::setrlimit(RLIMIT_AS, &limit);
    Ring ring{0};
    put(ring, "small");
    support::say(take(ring));
  });
  CHECK(ended.said == "small");
}
