// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <brood/posix/parcel.hpp>
#include <brood/posix/pipe.hpp>
#include <brood/posix/socket_pair.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "support/alarms.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"

namespace os = brood::os;
namespace posix = brood::posix;
using brood::serialization::SerializationError;

namespace {

struct Sockets {
  posix::unique_fd here, there;
  Sockets() { posix::make_sockets(SOCK_STREAM, here, there); }
};

std::string text_of(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 7 + 3) % 251);
  return text;
}

posix::List<int> repeated(int fd, std::size_t count) {
  posix::List<int> result;
  while (result.size() < count) result.push_back(fd);
  return result;
}

// A process that sends, and dies of what it throws.
template <class F>
pid_t sender(const Sockets& sockets, F send) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::alarm(support::last_alarm);
  ::close(sockets.here.get());
  try {
    send(sockets.there.get());
  } catch (...) {
    ::_exit(1);
  }
  ::_exit(0);
}

bool same_file(int a, int b) {
  struct stat one {
  }, other{};
  return ::fstat(a, &one) == 0 && ::fstat(b, &other) == 0 && one.st_ino == other.st_ino &&
         one.st_dev == other.st_dev;
}

void write_raw(int socket, const std::string& bytes) {
  REQUIRE(::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(bytes.size()));
}

std::string header(std::uint32_t magic, std::uint32_t descriptors, std::uint64_t bytes) {
  const posix::ParcelHeader header{magic, descriptors, bytes};
  return {reinterpret_cast<const char*>(&header), sizeof header};
}

bool no_parcel_comes(const Sockets& sockets) {
  posix::Parcel parcel;
  return support::throws<SerializationError>(
      [&] { posix::receive_parcel(sockets.here.get(), parcel); });
}

}  // namespace

TEST_CASE("a parcel brings any number of descriptors in their order") {
  const support::LeakCheck nothing_left;
  const Sockets sockets;
  const auto pipe = posix::make_pipe();
  for (const std::size_t count : {0u, 1u, 2u, 252u, 253u, 254u, 506u, 507u}) {
    INFO(count);
    auto descriptors = repeated(pipe.read.get(), count);
    for (std::size_t i = 0; i < count; i += 3) descriptors[i] = pipe.write.get();
    posix::send_parcel(sockets.there.get(), "with", descriptors);
    posix::Parcel parcel;
    REQUIRE(posix::receive_parcel(sockets.here.get(), parcel));
    CHECK(parcel.bytes == "with");
    REQUIRE(parcel.descriptors.size() == count);
    bool all = true;
    for (std::size_t i = 0; i < count; ++i) {
      const int fd = parcel.descriptors[i].get();
      const int mode = ::fcntl(fd, F_GETFL) & O_ACCMODE;
      all = all && same_file(fd, pipe.read.get()) && mode == (i % 3 == 0 ? O_WRONLY : O_RDONLY) &&
            ::fcntl(fd, F_GETFD) == FD_CLOEXEC;
    }
    CHECK(all);
  }
}

TEST_CASE("a thousand descriptors cross in one parcel") {
  const auto ended = support::program([] {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 1100 && limit.rlim_max >= 1100) {
      limit.rlim_cur = 1100;
      ::setrlimit(RLIMIT_NOFILE, &limit);
    }
    const Sockets sockets;
    const auto file = posix::open_file("/dev/null", O_RDONLY);
    posix::send_parcel(sockets.there.get(), "thousand", repeated(file.get(), 1000));
    posix::Parcel parcel;
    posix::receive_parcel(sockets.here.get(), parcel);
    support::say(parcel.bytes + " " + std::to_string(parcel.descriptors.size()));
  });
  CHECK(ended.said == "thousand 1000");
}

TEST_CASE("a parcel brings any number of bytes") {
  const support::LeakCheck nothing_left;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{100'000},
                                 (std::size_t{1} << 20) + 1, std::size_t{5'000'000}}) {
    INFO(size);
    Sockets sockets;
    const auto file = posix::open_file("/dev/null", O_RDONLY);
    const pid_t pid = sender(sockets, [&](int socket) {
      posix::send_parcel(socket, text_of(size), repeated(file.get(), 300));
      posix::send_parcel(socket, "next", {});
    });
    sockets.there.reset();
    posix::Parcel parcel;
    REQUIRE(posix::receive_parcel(sockets.here.get(), parcel));
    CHECK(parcel.bytes == text_of(size));
    CHECK(parcel.descriptors.size() == 300);
    REQUIRE(posix::receive_parcel(sockets.here.get(), parcel));
    CHECK(parcel.bytes == "next");
    CHECK(parcel.descriptors.empty());
    CHECK_FALSE(posix::receive_parcel(sockets.here.get(), parcel));
    CHECK(support::wait_for(pid) == 0);
  }
}

TEST_CASE("signals lose nothing of a parcel") {
  const support::LeakCheck nothing_left;
  Sockets sockets;
  support::Alarms alarms;
  const auto file = posix::open_file("/dev/null", O_RDONLY);
  const std::string text = text_of(20'000'000);
  const pid_t pid = ::fork();
  if (pid == 0) {
    sockets.here.reset();
    alarms.every(1000);
    bool sound = true;
    try {
      posix::send_parcel(sockets.there.get(), text, repeated(file.get(), 600));
    } catch (...) {
      sound = false;
    }
    ::_exit(sound ? 0 : 1);
  }
  sockets.there.reset();
  alarms.every(1000);
  posix::Parcel parcel;
  bool came = false;
  CHECK_NOTHROW(came = posix::receive_parcel(sockets.here.get(), parcel));
  alarms.every(0);
  CHECK(came);
  CHECK(parcel.bytes == text);
  CHECK(parcel.descriptors.size() == 600);
  CHECK(support::wait_for(pid) == 0);
}

TEST_CASE("a parcel that ends in its middle is told from one that never came") {
  const support::LeakCheck nothing_left;
  // What a parcel without descriptors is on the wire.
  const std::string whole = header(posix::ParcelHeader::is_parcel, 0, 5) + "bytes";
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    INFO(size);
    Sockets sockets;
    if (size != 0) write_raw(sockets.there.get(), whole.substr(0, size));
    sockets.there.reset();
    posix::Parcel parcel;
    if (size == 0)
      CHECK_FALSE(posix::receive_parcel(sockets.here.get(), parcel));
    else if (size < whole.size())
      CHECK_THROWS_AS(posix::receive_parcel(sockets.here.get(), parcel), SerializationError);
    else
      CHECK(posix::receive_parcel(sockets.here.get(), parcel));
  }
  // And between its descriptors.
  Sockets sockets;
  const auto file = posix::open_file("/dev/null", O_RDONLY);
  write_raw(sockets.there.get(), header(posix::ParcelHeader::is_parcel, 300, 0));
  posix::send_piece(sockets.there.get(), "", 1, repeated(file.get(), 253).data(), 253);
  sockets.there.reset();
  CHECK(no_parcel_comes(sockets));
}

TEST_CASE("a sender that is killed in the middle of a parcel is noticed") {
  const support::LeakCheck nothing_left;
  for (int round = 0; round < 20; ++round) {
    Sockets sockets;
    const auto file = posix::open_file("/dev/null", O_RDONLY);
    const pid_t pid = sender(sockets, [&](int socket) {
      posix::send_parcel(socket, text_of(5'000'000), repeated(file.get(), 300));
    });
    sockets.there.reset();
    // It waits, as all that does not fit the socket.
    char first[4];
    REQUIRE(::recv(sockets.here.get(), first, sizeof first, MSG_PEEK | MSG_WAITALL) == 4);
    ::kill(pid, SIGKILL);
    CHECK(support::wait_for(pid) == -SIGKILL);
    CHECK(no_parcel_comes(sockets));
  }
}

TEST_CASE("what is no parcel is refused") {
  const support::LeakCheck nothing_left;
  const auto file = posix::open_file("/dev/null", O_RDONLY);
  const auto some = repeated(file.get(), 3);
  constexpr auto magic = posix::ParcelHeader::is_parcel;
  SECTION("another start") {
    Sockets sockets;
    write_raw(sockets.there.get(), header(magic + 1, 0, 0));
    CHECK(no_parcel_comes(sockets));
  }
  SECTION("descriptors with the header") {
    Sockets sockets;
    const std::string bytes = header(magic, 0, 0);
    posix::send_piece(sockets.there.get(), bytes.data(), bytes.size(), some.begin(), 3);
    CHECK(no_parcel_comes(sockets));
  }
  SECTION("fewer descriptors than it says") {
    Sockets sockets;
    write_raw(sockets.there.get(), header(magic, 4, 0));
    posix::send_piece(sockets.there.get(), "", 1, some.begin(), 3);
    CHECK(no_parcel_comes(sockets));
  }
  SECTION("more descriptors than it says") {
    Sockets sockets;
    write_raw(sockets.there.get(), header(magic, 2, 0));
    posix::send_piece(sockets.there.get(), "", 1, some.begin(), 3);
    CHECK(no_parcel_comes(sockets));
  }
  SECTION("descriptors with the bytes") {
    Sockets sockets;
    write_raw(sockets.there.get(), header(magic, 0, 4));
    posix::send_piece(sockets.there.get(), "byte", 4, some.begin(), 3);
    CHECK(no_parcel_comes(sockets));
  }
  SECTION("a length that no memory could hold") {
    Sockets sockets;
    write_raw(sockets.there.get(), header(magic, 0, std::uint64_t{1} << 63) + "bytes");
    sockets.there.reset();
    CHECK(no_parcel_comes(sockets));
  }
  SECTION("a number of descriptors that no process could have") {
    Sockets sockets;
    write_raw(sockets.there.get(), header(magic, 0xffffffff, 0) + "x");
    CHECK(no_parcel_comes(sockets));
  }
}

TEST_CASE("descriptors for which there is no room are an error that says so") {
  const auto ended = support::program([] {
    const Sockets sockets;
    const auto file = posix::open_file("/dev/null", O_RDONLY);
    posix::send_parcel(sockets.there.get(), "bytes", repeated(file.get(), 400));
    const support::DescriptorsBelow few{file.get() + 300};
    posix::Parcel parcel;
    try {
      posix::receive_parcel(sockets.here.get(), parcel);
    } catch (const os::OSError& error) {
      support::say(std::to_string(error.code().value() == EMFILE));
    }
    // What had come is closed with the parcel, and there is room again.
    parcel = {};
    const auto next = posix::duplicate(file.get());
    support::say(next.get() < file.get() + 3 ? " closed" : " left open");
  });
  CHECK(ended.said == "1 closed");
}

TEST_CASE("sending a parcel that nobody can receive is a broken pipe and no signal") {
  const support::LeakCheck nothing_left;
  const auto ended = support::program([] {
    struct sigaction action {};
    action.sa_handler = [](int) { ::_exit(7); };
    ::sigaction(SIGPIPE, &action, nullptr);
    Sockets sockets;
    write_raw(sockets.there.get(), "unread");
    write_raw(sockets.here.get(), "unread");
    sockets.here.reset();
    const std::string text = text_of(1000);
    for (int i = 0; i < 2; ++i) {
      if (support::throws<os::BrokenPipeError>(
              [&] { posix::send_parcel(sockets.there.get(), text, {}); }))
        support::say("broken ");
    }
  });
  CHECK(ended.said == "broken broken ");
  CHECK(ended.code == 3);
}

TEST_CASE("a descriptor that is none is not sent") {
  const support::LeakCheck nothing_left;
  const Sockets sockets;
  CHECK_THROWS_AS(posix::send_parcel(sockets.there.get(), "", repeated(-1, 1)), os::OSError);
}
