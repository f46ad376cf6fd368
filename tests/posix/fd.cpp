// SPDX-License-Identifier: MIT
#include <fcntl.h>

#include <brood/posix/fd.hpp>
#include <brood/posix/pipe.hpp>
#include <cerrno>
#include <utility>

#include "support/catch.hpp"
#include "support/leaks.hpp"

namespace posix = brood::posix;

TEST_CASE("a unique_fd closes its descriptor once and keeps errno") {
  const support::LeakCheck nothing_left;
  posix::unique_fd first = posix::open_file("/dev/null", O_RDONLY);
  const int number = first.get();
  posix::unique_fd second = std::move(first);
  CHECK_FALSE(first);
  CHECK(second.get() == number);
  errno = ERANGE;
  second.reset();
  CHECK(errno == ERANGE);
  CHECK_FALSE(second);
  CHECK(::fcntl(number, F_GETFD) == -1);
  posix::unique_fd third = posix::open_file("/dev/null", O_RDONLY);
  third = std::move(second);
  CHECK_FALSE(third);
  const int released = posix::open_file("/dev/null", O_RDONLY).release();
  CHECK(::close(released) == 0);
}

TEST_CASE("descriptors are born close-on-exec") {
  const posix::unique_fd file = posix::open_file("/dev/null", O_RDWR);
  const posix::unique_fd copy = posix::duplicate(file.get(), 30);
  const posix::PipeEnds pipe = posix::make_pipe();
  CHECK(copy.get() >= 30);
  for (const int fd : {file.get(), copy.get(), pipe.read.get(), pipe.write.get()})
    CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("a file that cannot be opened is an error with its name") {
  try {
    posix::open_file("/no/such/file", O_RDONLY);
    FAIL("no exception");
  } catch (const brood::os::FileNotFoundError& error) {
    CHECK(error.filename() == "/no/such/file");
    CHECK(error.code().value() == ENOENT);
  }
  CHECK_THROWS_AS(posix::open_file("/", O_WRONLY), brood::os::OSError);
  CHECK_THROWS_AS(posix::duplicate(-1), brood::os::OSError);
}

TEST_CASE("set_nonblocking switches one end of a pipe only") {
  const posix::PipeEnds pipe = posix::make_pipe();
  posix::set_nonblocking(pipe.read.get(), true);
  CHECK((::fcntl(pipe.read.get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(pipe.write.get(), F_GETFL) & O_NONBLOCK) == 0);
  char byte = 0;
  CHECK(posix::read_some(pipe.read.get(), &byte, 1) == -1);
  CHECK(errno == EAGAIN);
  posix::set_nonblocking(pipe.read.get(), false);
  CHECK((::fcntl(pipe.read.get(), F_GETFL) & O_NONBLOCK) == 0);
}
