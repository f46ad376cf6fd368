// SPDX-License-Identifier: MIT
#include <sys/stat.h>
#include <sys/syscall.h>

#include <brood/posix/mapping.hpp>

#include "support/catch.hpp"

using namespace brood;

namespace {

// As it is before Linux 6.9 with a timer that ticks so often: what takes longer than a tick is
// interrupted, and done in vain, every time.
constexpr off_t in_a_tick = 4 << 20;
int interruptions = 0;

}  // namespace

extern "C" int fallocate(int fd, int mode, off_t offset, off_t size) {
  if (size > in_a_tick && ++interruptions < 100) {
    errno = EINTR;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, size));
}

TEST_CASE("much memory is reserved whatever signals come meanwhile") {
  constexpr std::size_t size = (std::size_t{5} << 20) + 4096;
  const auto file = posix::make_memory_file("brood-test", size);
  CHECK(posix::reserve_memory(file.get(), 4096, size - 4096) == 0);
  CHECK(interruptions == 0);
  struct stat found {};
  REQUIRE(::fstat(file.get(), &found) == 0);
  CHECK(found.st_blocks * 512 == 5 << 20);
}
