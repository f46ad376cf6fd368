// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <array>
#include <atomic>
#include <brood/multiprocessing/connection.hpp>
#include <brood/multiprocessing/process.hpp>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "multiprocessing/team.hpp"
#include "support/alarms.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"

namespace mp = brood::multiprocessing;
namespace os = brood::os;
using namespace std::chrono_literals;
using brood::serialization::SerializationError;
using Catch::Matchers::ContainsSubstring;
using support::patience;
using support::Team;

namespace {

std::string text_of(std::size_t size, unsigned seed) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 7 + seed) % 251);
  return text;
}

// On both sides of what one packet holds.
constexpr std::size_t sizes[] = {0, 1, 100, 32767, 32768, 32769, 100'000, 16 << 20};

// What a handler of SIGPIPE would see, were it ever raised.
class CountSigpipe {
 public:
  CountSigpipe() {
    count = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { count = count + 1; };
    ::sigaction(SIGPIPE, &action, &before_);
  }
  ~CountSigpipe() { ::sigaction(SIGPIPE, &before_, nullptr); }
  static inline volatile sig_atomic_t count = 0;

 private:
  struct sigaction before_ {};
};

}  // namespace

TEST_CASE("a pipe carries values both ways between processes") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  Team team;
  team.add(1, [there = there] {
    for (;;) {
      try {
        auto numbers = there.recv<std::map<std::string, std::vector<int>>>();
        numbers["more"].push_back(4);
        there.send(numbers);
      } catch (const brood::EOFError&) {
        return;
      }
    }
  });
  there.close();
  for (int i = 0; i < 3; ++i) {
    here.send(std::map<std::string, std::vector<int>>{{"some", {1, 2, 3}}});
    const auto back = here.recv<std::map<std::string, std::vector<int>>>();
    CHECK(back == std::map<std::string, std::vector<int>>{{"some", {1, 2, 3}}, {"more", {4}}});
  }
  CHECK_FALSE(here.poll());
  team.kill(0);
  CHECK(here.poll(patience));
  CHECK_THROWS_AS(here.recv<int>(), brood::EOFError);
  CHECK_THROWS_AS(here.recv_bytes(), brood::EOFError);
  CHECK_THROWS_AS(here.send(1), os::BrokenPipeError);
  CHECK(team.join());
}

TEST_CASE("messages of all lengths arrive one by one as they were sent") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  Team team;
  team.add(1, [there = there] {
    for (;;) {
      const std::string message = there.recv_bytes();
      there.send_bytes(message);
      if (message == "end") return;
    }
  });
  unsigned seed = 0;
  for (const std::size_t size : sizes) {
    const std::string sent = text_of(size, ++seed);
    here.send_bytes(sent);
    CHECK(here.poll(patience));
    CHECK(here.recv_bytes() == sent);
    // As a value, and into a block.
    here.send(sent);
    CHECK(brood::serialization::loads<std::string>(here.recv_bytes()) == sent);
    here.send_bytes(sent);
    std::vector<char> block(size + 10, 'x');
    CHECK(here.recv_bytes_into(block) == size);
    CHECK(std::string(block.data(), size) == sent);
    CHECK(std::string(block.data() + size, 10) == "xxxxxxxxxx");
  }
  here.send_bytes("end");
  CHECK(here.recv_bytes() == "end");
  CHECK(team.join());
}

TEST_CASE("long messages share no memory before they are read") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  for (unsigned round = 0; round < 20; ++round) {
    const std::size_t size = 40'000 + 20'000 * round;
    for (unsigned i = 0; i < 4; ++i) there.send(text_of(size + i, i));
    for (unsigned i = 0; i < 4; ++i) {
      const bool whole = here.recv<std::string>() == text_of(size + i, i);
      CHECK(whole);
    }
  }
}

TEST_CASE("a process keeps memory for a few long messages and forked children none") {
  const auto kept = [] {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const auto target = std::filesystem::read_symlink(entry, gone).string();
      count += target.find("brood-message") != std::string::npos;
    }
    return count;
  };
  {
    std::vector<std::pair<mp::Connection, mp::Connection>> pipes;
    for (int i = 0; i < 20; ++i) {
      pipes.push_back(mp::Pipe());
      pipes.back().first.send(std::string(100'000, 'x'));  // none of which is read
    }
    CHECK(kept() >= 1);
    CHECK(kept() <= 8);
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(kept());
    CHECK(support::wait_for(pid) == 0);
    CHECK(pipes[3].second.recv<std::string>() == std::string(100'000, 'x'));
    pipes[0].first.send(std::string(5'000'000, 'y'));  // too large to be kept
    CHECK(kept() <= 8);
  }
  CHECK(kept() == 0);
  auto [here, there] = mp::Pipe();
  here.close();
  there.close();
  CHECK_THROWS_AS(here.send(std::string(100'000, 'x')), os::OSError);
  CHECK(kept() == 0);
}

TEST_CASE("long messages go on when their receivers are killed") {
  const support::LeakCheck nothing_left;
  auto [reader, writer] = mp::Pipe(false);
  for (unsigned round = 0; round < 20; ++round) {
    Team receivers;
    receivers.add(1, [reader = reader] {
      for (;;) reader.recv_bytes();
    });
    for (unsigned i = 0; i < 2 + round % 5; ++i) writer.send_bytes(text_of(200'000, i));
    receivers.kill(0);
    CHECK(receivers.join());
    while (reader.poll()) reader.recv_bytes();
    const std::string last = text_of(300'000, round);
    writer.send(last);
    const bool whole = reader.recv<std::string>() == last;
    CHECK(whole);
  }
}

TEST_CASE("messages sent one after the other are neither merged nor split") {
  auto [reader, writer] = mp::Pipe(false);
  for (const char* text : {"hello", "bye", "", "yes", ""}) writer.send_bytes(text);
  for (const char* text : {"hello", "bye", "", "yes", ""}) {
    CHECK(reader.poll());
    CHECK(reader.recv_bytes() == text);
  }
  CHECK_FALSE(reader.poll());
}

TEST_CASE("an empty message can be waited for and received") {
  auto [here, there] = mp::Pipe();
  here.send_bytes("");
  CHECK(there.poll());
  CHECK(there.poll());
  CHECK(there.recv_bytes().empty());
  CHECK_FALSE(there.poll());
  CHECK_FALSE(there.poll(-1s));
  CHECK_FALSE(there.poll(support::moment));
}

TEST_CASE("a message of another type than expected is refused and the next one arrives") {
  auto [here, there] = mp::Pipe();
  here.send(5);
  CHECK_THROWS_AS(there.recv<std::string>(), SerializationError);
  here.send(5);
  CHECK_THROWS_AS(there.recv<long>(), SerializationError);
  here.send_bytes("plain");
  CHECK_THROWS_AS(there.recv<int>(), SerializationError);
  here.send(std::string(100'000, 'x'));
  CHECK_THROWS_AS(there.recv<int>(), SerializationError);
  here.send_fd(0);
  CHECK_THROWS_AS(there.recv<int>(), SerializationError);
  here.send(7);
  CHECK_THROWS_AS(there.recv_fd(), SerializationError);
  here.send("literal");
  CHECK(there.recv<std::string>() == "literal");
}

TEST_CASE("a buffer that is too short for a message loses nothing of it") {
  auto [here, there] = mp::Pipe();
  for (const std::size_t size : {std::size_t{20}, std::size_t{100'000}}) {
    const std::string sent = text_of(size, 3);
    here.send_bytes(sent);
    std::array<char, 10> block{};
    std::string message;
    try {
      there.recv_bytes_into(block);
    } catch (const mp::BufferTooShort& error) {
      message = error.message();
    }
    CHECK(message == sent);
  }
  here.send_bytes("fits");
  std::array<char, 4> block{};
  CHECK(there.recv_bytes_into(block) == 4);
  CHECK(std::string(block.data(), 4) == "fits");
  here.send_bytes("");
  std::vector<int> none;
  CHECK(there.recv_bytes_into(none) == 0);
}

TEST_CASE("a message beyond the length that is allowed is dropped and the next one arrives") {
  auto [here, there] = mp::Pipe();
  here.send_bytes("0123456789");
  here.send_bytes(std::string(70'000, 'x'));
  here.send_bytes("01234");
  CHECK_THROWS_AS(there.recv_bytes(5), os::OSError);
  CHECK_THROWS_AS(there.recv_bytes(5), os::OSError);
  CHECK(there.recv_bytes(5) == "01234");
}

TEST_CASE("bytes are sent from any block of plain memory and received into parts of one") {
  auto [here, there] = mp::Pipe();
  const std::vector<std::uint16_t> words{1, 2, 3, 4};
  here.send_bytes(words);
  here.send_bytes(std::span{words}.subspan(1, 2));
  here.send_bytes(std::array<std::byte, 2>{std::byte{7}, std::byte{8}});
  here.send_bytes(std::string_view{"view"});
  std::vector<std::uint16_t> block(6, 9);
  CHECK(there.recv_bytes_into(std::span{block}.subspan(2)) == 8);
  CHECK(block == std::vector<std::uint16_t>{9, 9, 1, 2, 3, 4});
  CHECK(there.recv_bytes_into(block) == 4);
  CHECK(block == std::vector<std::uint16_t>{2, 3, 1, 2, 3, 4});
  CHECK(there.recv_bytes() == "\x07\x08");
  CHECK(there.recv_bytes() == "view");
}

TEST_CASE("an end of a simplex pipe goes one way only") {
  auto [reader, writer] = mp::Pipe(false);
  CHECK(reader.readable());
  CHECK_FALSE(reader.writable());
  CHECK_FALSE(writer.readable());
  CHECK(writer.writable());
  writer.send(1);
  CHECK(reader.recv<int>() == 1);
  CHECK_THROWS_AS(reader.send(2), os::OSError);
  CHECK_THROWS_AS(reader.send_bytes("2"), os::OSError);
  CHECK_THROWS_AS(reader.send_fd(0), os::OSError);
  CHECK_THROWS_AS(writer.recv<int>(), os::OSError);
  CHECK_THROWS_AS(writer.recv_bytes(), os::OSError);
  CHECK_THROWS_AS(writer.recv_fd(), os::OSError);
  CHECK_THROWS_AS(writer.poll(), os::OSError);
  writer.close();
  CHECK_THROWS_AS(reader.recv<int>(), brood::EOFError);
}

TEST_CASE("a closed connection refuses everything in this process for all its copies") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  const mp::Connection copy = here;
  CHECK(copy == here);
  CHECK_FALSE(copy == there);
  CHECK(std::unordered_set<mp::Connection>{copy, here, there}.size() == 2);
  Team team;
  team.add(1, [here = here, there = there] {
    there.close();
    if (here.recv<int>() == 5) here.send(6);  // the child's own copy
  });
  here.close();
  here.close();
  CHECK(here.closed());
  CHECK(copy.closed());
  CHECK_THROWS_AS(copy.send(1), os::OSError);
  CHECK_THROWS_AS(copy.recv<int>(), os::OSError);
  CHECK_THROWS_AS(copy.poll(), os::OSError);
  CHECK_THROWS_AS(copy.fileno(), os::OSError);
  there.send(5);
  CHECK(there.recv<int>() == 6);
  CHECK(team.join());
  CHECK_THROWS_AS(there.recv<int>(), brood::EOFError);
}

TEST_CASE("what was sent before the end was closed still arrives") {
  auto [here, there] = mp::Pipe();
  here.send(1);  // is never read
  there.send(2);
  there.send(std::string(100'000, 'x'));
  there.close();
  CHECK(here.poll());
  CHECK(here.recv<int>() == 2);
  CHECK(here.recv<std::string>().size() == 100'000);
  CHECK_THROWS_AS(here.recv<int>(), brood::EOFError);
  CHECK_THROWS_AS(here.recv<int>(), brood::EOFError);
}

TEST_CASE("sending to nobody is an error and no signal") {
  const CountSigpipe none;
  auto [here, there] = mp::Pipe();
  here.send(1);
  there.close();
  for (int i = 0; i < 3; ++i) {
    CHECK_THROWS_AS(here.send(2), os::BrokenPipeError);
    CHECK_THROWS_AS(here.send_bytes(std::string(1 << 20, 'x')), os::BrokenPipeError);
    CHECK_THROWS_AS(here.send_fd(0), os::BrokenPipeError);
  }
  CHECK(CountSigpipe::count == 0);
}

TEST_CASE("a parent may close the end of its child right after the start") {
  auto [here, there] = mp::Pipe();
  const mp::Process child([there = there] { there.send(std::string{"hello"}); });
  child.start();
  there.close();
  CHECK(here.poll(patience));
  CHECK(here.recv<std::string>() == "hello");
  CHECK_THROWS_AS(here.recv<std::string>(), brood::EOFError);
  CHECK(child.join(patience));
}

TEST_CASE("descriptors cross a connection whatever their number") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  Team team;
  team.add(1, [there = there] {
    for (int i = 0; i < 2; ++i) {
      const brood::posix::unique_fd fd{there.recv_fd()};
      if ((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) == 0) std::exit(1);
      if (::write(fd.get(), "foo", 3) != 3) std::exit(2);
      there.send(i);
    }
  });
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  auto pipe = brood::posix::make_pipe();
  for (int i = 0; i < 2; ++i) {
    // Above what select() would take, if that many may be open.
    const int at_least = i == 1 && limit.rlim_cur > 600 ? 500 : 0;
    const auto sent = brood::posix::duplicate(pipe.write.get(), at_least);
    here.send_fd(sent.get());
    CHECK(here.recv<int>() == i);
    char text[4] = {};
    CHECK(brood::posix::read_some(pipe.read.get(), text, 3) == 3);
    CHECK(std::string{text} == "foo");
  }
  CHECK_THROWS_AS(here.send_fd(44977608), os::OSError);
  CHECK(team.join());
}

TEST_CASE("a connection crosses another one and keeps what it may do") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  Team team;
  team.add(1, [there = there] {
    const mp::Connection both{there.recv_fd()};
    both.send(both.recv<int>() + 1);
    const mp::Connection writer{there.recv_fd(), false};
    if (writer.readable()) std::exit(1);
    writer.send(3);
  });
  auto [mine, its] = mp::Pipe();
  here.send_fd(its.fileno());
  its.close();
  mine.send(1);
  CHECK(mine.recv<int>() == 2);
  auto [reader, writer] = mp::Pipe(false);
  here.send_fd(writer.fileno());
  writer.close();
  CHECK(reader.recv<int>() == 3);
  CHECK_THROWS_AS(reader.recv<int>(), brood::EOFError);
  CHECK(team.join());
}

TEST_CASE("a connection is not made of what is none") {
  CHECK_THROWS_AS(mp::Connection(-1), std::invalid_argument);
  CHECK_THROWS_WITH(mp::Connection(-1), "make a connection of descriptor -1: it is negative");
  CHECK_THROWS_AS(mp::Connection(44977608), os::OSError);
  auto pipe = brood::posix::make_pipe();
  CHECK_THROWS_AS(mp::Connection(pipe.read.get()), std::invalid_argument);
  CHECK_THROWS_WITH(mp::Connection(pipe.read.get()), "make a connection of descriptor " +
                                                         std::to_string(pipe.read.get()) +
                                                         ": it is none of a connection");
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const brood::posix::unique_fd one{ends[0]}, other{ends[1]};
  CHECK_THROWS_AS(mp::Connection(one.get()), std::invalid_argument);
}

TEST_CASE("an array of bytes is sent whole and a literal without its NUL") {
  auto [here, there] = mp::Pipe();
  here.send_bytes("ab\0c");
  CHECK(there.recv_bytes() == std::string("ab\0c", 4));
  const char data[4] = {'a', '\0', 'b', 'c'};
  here.send_bytes(data);
  CHECK(there.recv_bytes() == std::string("a\0bc", 4));
  char buffer[6] = "ab";
  here.send_bytes(buffer);
  CHECK(there.recv_bytes() == std::string("ab\0\0\0\0", 6));
  const unsigned char bytes[3] = {1, 2, 0};
  here.send_bytes(bytes);
  CHECK(there.recv_bytes() == std::string("\1\2\0", 3));
  const char* const text = "text";
  here.send_bytes(text);
  CHECK(there.recv_bytes() == "text");
}

TEST_CASE("poll of an end that only sends says so") {
  auto [reader, writer] = mp::Pipe(false);
  CHECK_THROWS_WITH(writer.poll(), ContainsSubstring("poll a connection: it is write-only"));
  CHECK_THROWS_WITH(writer.recv<int>(),
                    ContainsSubstring("receive from a connection: it is write-only"));
}

TEST_CASE("what is no message is refused and leaves the connection usable") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  const int raw = there.fileno();
  const auto send = [raw](std::uint32_t kind, std::uint64_t size, const std::string& data) {
    std::string packet(16, '\0');
    std::memcpy(packet.data(), &kind, 4);
    std::memcpy(packet.data() + 8, &size, 8);
    packet += data;
    REQUIRE(::send(raw, packet.data(), packet.size(), 0) >= 0);
  };
  constexpr std::uint32_t bytes = 0x62726431, descriptor = 0x62726432;
  REQUIRE(::send(raw, "x", 1, 0) == 1);
  CHECK_THROWS_AS(here.recv_bytes(), SerializationError);
  send(7, 0, "");
  CHECK_THROWS_AS(here.recv_bytes(), SerializationError);
  send(bytes, 5, "four");
  CHECK_THROWS_AS(here.recv_bytes(), SerializationError);
  send(bytes, 3, "four");
  CHECK_THROWS_AS(here.recv_bytes(), SerializationError);
  send(bytes, ~std::uint64_t{0}, std::string(32768, 'x'));
  CHECK_THROWS_AS(here.recv_bytes(), SerializationError);
  send(descriptor, 0, "");
  CHECK_THROWS_AS(here.recv_fd(), SerializationError);
  send(bytes, 40'000, std::string(40'000, 'x'));
  CHECK_THROWS_AS(here.recv_bytes(), SerializationError);
  // The file with a long message is shorter than that says, or could become so.
  const auto send_file = [raw](const brood::posix::unique_fd& file) {
    brood::posix::send_packet(raw, {brood::posix::PacketKind::bytes, 0, 40'000},
                              std::string(32768, 'x').data(), 32768, file.get());
  };
  send_file(brood::posix::make_lasting_file("short", 40'000));
  CHECK_THROWS_AS(here.recv_bytes(), SerializationError);
  send_file(brood::posix::make_memory_file("open", 80'000));
  CHECK_THROWS_AS(here.recv_bytes(), SerializationError);
  send_file(brood::posix::make_lasting_file("enough", 80'000));
  CHECK(here.recv_bytes() == std::string(40'000, '\0'));
  there.send(1);
  CHECK(here.recv<int>() == 1);
}

TEST_CASE("a message whose descriptor finds no room is reported and the next one arrives") {
  auto [here, there] = mp::Pipe();
  there.send_fd(0);
  there.send(1);
  int error = 0;
  try {
    const support::DescriptorsBelow none_free{support::next_descriptor()};
    here.recv_fd();
  } catch (const os::OSError& refused) {
    error = refused.code().value();
  }
  CHECK(error == EMFILE);
  CHECK(here.recv<int>() == 1);
}

TEST_CASE("messages of several senders and for several receivers never mix") {
  const support::LeakCheck nothing_left;
  constexpr int each = 150;
  auto [reader, writer] = mp::Pipe(false);
  auto [done_reader, done_writer] = mp::Pipe(false);
  Team senders, receivers;
  for (unsigned sender = 0; sender < 3; ++sender)
    senders.add(1, [writer = writer, sender] {
      for (unsigned i = 0; i < each; ++i)
        writer.send_bytes(text_of(i % 10 == 0 ? 70'000 : i % 500, sender));
    });
  receivers.add(3, [reader = reader, writer = writer, done = done_writer] {
    writer.close();
    int count = 0, wrong = 0;
    try {
      for (;;) {
        const std::string message = reader.recv_bytes();
        bool sound = false;
        for (unsigned sender = 0; sender < 3; ++sender)
          sound = sound || message == text_of(message.size(), sender);
        wrong += !sound;
        ++count;
      }
    } catch (const brood::EOFError&) {
    }
    done.send(std::pair{count, wrong});
  });
  writer.close();
  CHECK(senders.join());
  int count = 0, wrong = 0;
  for (int i = 0; i < 3; ++i) {
    const auto [received, broken] = done_reader.recv<std::pair<int, int>>();
    count += received;
    wrong += broken;
  }
  CHECK(count == 3 * each);
  CHECK(wrong == 0);
  CHECK(receivers.join());
}

TEST_CASE("a killed sender leaves whole messages only") {
  const support::LeakCheck nothing_left;
  for (unsigned round = 0; round < 15; ++round) {
    auto [reader, writer] = mp::Pipe(false);
    Team team;
    team.add(1, [writer = writer] {
      const std::string message = text_of(200'000, 1);
      for (;;) {
        writer.send_bytes(message);
        writer.send_bytes(std::string_view{message}.substr(0, 1000));
      }
    });
    for (unsigned i = 0; i < round; ++i) CHECK(reader.recv_bytes().size() >= 1000);
    team.kill(0);
    // This process has the writing end too, so the pipe has not ended.
    int wrong = 0;
    while (reader.poll()) {
      const std::string message = reader.recv_bytes();
      wrong += (message.size() != 200'000 && message.size() != 1000) ||
               message != text_of(message.size(), 1);
    }
    CHECK(wrong == 0);
    writer.send(round);
    CHECK(reader.recv<unsigned>() == round);
    CHECK(team.join());
  }
}

TEST_CASE("signals do not disturb a connection") {
  support::Alarms alarms;
  auto [here, there] = mp::Pipe();
  {
    Team team;
    team.add(1, [there = there, here = here] {
      here.close();
      for (int i = 0; i < 30; ++i) {
        const timespec pause{0, 2'000'000};
        ::nanosleep(&pause, nullptr);
        there.send_bytes(there.recv_bytes());
      }
    });
    alarms.every(500);
    bool same = true;
    for (unsigned i = 0; i < 30; ++i) {
      const std::string message = text_of(i % 3 == 0 ? 300'000 : 10, i);
      here.send_bytes(message);
      if (i % 2 == 0) same = here.poll(patience) && same;
      same = here.recv_bytes() == message && same;
    }
    alarms.every(0);
    CHECK(same);
    CHECK(team.join());
  }
}

TEST_CASE("close lets the calls of other threads return before the descriptor goes") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  int received = 0;
  const int sleeping = support::sleepers();
  std::thread receiver([&received, here = here] { received = here.recv<int>(); });
  support::await_sleepers(sleeping + 1);
  here.close();
  CHECK(here.closed());
  there.send(5);
  receiver.join();
  CHECK(received == 5);
  CHECK_THROWS_AS(there.send(6), os::BrokenPipeError);
}

TEST_CASE("a child forked during a call of another thread can close its end") {
  auto [here, there] = mp::Pipe();
  const int sleeping = support::sleepers();
  std::thread receiver([here = here] { here.recv<int>(); });
  support::await_sleepers(sleeping + 1);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int fd = here.fileno();
    here.close();
    ::_exit(::fcntl(fd, F_GETFD) == -1 ? 0 : 1);
  }
  CHECK(support::wait_for(pid) == 0);
  there.send(1);
  receiver.join();
}

TEST_CASE("of several descriptors in one message none is left open") {
  const support::LeakCheck nothing_left;
  auto [here, there] = mp::Pipe();
  brood::posix::PacketHeader header{brood::posix::PacketKind::descriptor, 0, 0};
  iovec part{&header, sizeof header};
  alignas(cmsghdr) char along[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = along;
  message.msg_controllen = sizeof along;
  cmsghdr* const rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(2 * sizeof(int));
  const int two[] = {STDIN_FILENO, STDOUT_FILENO};
  std::memcpy(CMSG_DATA(rights), two, sizeof two);
  for (int i = 0; i < 10; ++i) {
    REQUIRE(::sendmsg(there.fileno(), &message, 0) > 0);
    try {
      ::close(here.recv_fd());
    } catch (const brood::serialization::SerializationError&) {
    }
  }
}
