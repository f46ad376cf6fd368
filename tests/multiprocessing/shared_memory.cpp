// SPDX-License-Identifier: MIT
#include <sys/resource.h>
#include <sys/stat.h>

#include <brood/multiprocessing/shared_memory.hpp>
#include <cstring>

#include "support/refused_calls.hpp"
#include "support/start_ways.hpp"
#include "team.hpp"

using namespace brood;
using namespace support;
using mp::shared_memory::SharedMemory;

namespace {

// A name that no other run of the tests has.
std::string a_name(const char* what) {
  return std::string{"brood-test-"} + what + "-" + std::to_string(::getpid());
}

std::byte* bytes(const SharedMemory& memory) { return memory.buf().data(); }

}  // namespace

TEST_CASE("shared memory is made by name and attached to by name") {
  const LeakCheck nothing_left;
  const std::string name = a_name("basics");
  const SharedMemory one({.name = name, .create = true, .size = 512});
  CHECK(one.name() == name);
  CHECK(one.size() == 512);
  CHECK(one.buf().size() == 512);
  CHECK(one.buf()[511] == std::byte{0});
  one.buf()[0] = std::byte{42};
  const SharedMemory other(name), sized({.name = name, .size = 5});
  CHECK(other.size() == 512);
  CHECK(sized.size() == 512);
  CHECK(other.buf()[0] == std::byte{42});
  other.buf()[1] = std::byte{43};
  CHECK(one.buf()[1] == std::byte{43});
  struct stat found {};
  CHECK(::fstat(one.fileno(), &found) == 0);
  CHECK((found.st_mode & 0777) == 0600);

  CHECK_THROWS_AS(SharedMemory({.name = name, .create = true, .size = 512}), os::FileExistsError);
  one.close();
  CHECK(one.buf().empty());
  CHECK(one.fileno() == -1);
  one.close();
  CHECK(other.buf()[0] == std::byte{42});
  one.unlink();
  CHECK_THROWS_AS(one.unlink(), os::FileNotFoundError);
  CHECK_THROWS_AS(SharedMemory(name), os::FileNotFoundError);
  CHECK(other.buf()[1] == std::byte{43});
}

TEST_CASE("shared memory that cannot be is refused") {
  const LeakCheck nothing_left;
  const std::string name = a_name("refused");
  CHECK_THROWS_AS(SharedMemory({.create = true}), std::invalid_argument);
  CHECK_THROWS_AS(SharedMemory({.name = name, .create = true, .size = 0}), std::invalid_argument);
  CHECK_THROWS_AS(SharedMemory({.name = name, .create = true, .size = -1}), std::invalid_argument);
  CHECK_THROWS_AS(SharedMemory({.size = 10}), std::invalid_argument);
  CHECK_THROWS_AS(SharedMemory(""), std::invalid_argument);
  CHECK_THROWS_AS(SharedMemory(std::string("a\0b", 3)), std::invalid_argument);
  CHECK_THROWS_AS(SharedMemory({.name = std::string("\0", 1), .create = true, .size = 1}),
                  std::invalid_argument);
  CHECK_THROWS_AS(SharedMemory("brood/test"), os::OSError);
  CHECK_THROWS_AS(SharedMemory("/"), os::OSError);
  CHECK_THROWS_AS(SharedMemory(std::string(300, 'x')), os::OSError);
  CHECK_THROWS_AS(SharedMemory(name), os::FileNotFoundError);
  try {
    const SharedMemory missing(name);
  } catch (const os::OSError& error) {
    CHECK(error.filename() == name);
  }
}

TEST_CASE("shared memory that there is no room for leaves no name") {
  const LeakCheck nothing_left;
  const std::string name = a_name("room");
  CHECK_THROWS_AS(SharedMemory({.name = name, .create = true, .size = std::int64_t{1} << 60}),
                  os::OSError);
  CHECK_THROWS_AS(SharedMemory({.create = true, .size = std::int64_t{1} << 60}), os::OSError);
  // A limit on the size of files would be a signal.
  CHECK(in_child([&] {
          const rlimit limit{4096, 4096};
          ::setrlimit(RLIMIT_FSIZE, &limit);
          return throws<os::OSError>(
                     [&] { SharedMemory({.name = name, .create = true, .size = 8192}); })
                     ? 0
                     : 1;
        }) == 0);
}

TEST_CASE("shared memory that cannot be mapped leaves no name") {
  const LeakCheck nothing_left;
  const std::string name = a_name("unmapped");
  const int code = in_child([&] {
    if (!refuse({{SYS_mmap, ENOMEM, 3, MAP_SHARED, MAP_SHARED}})) return 77;
    return throws<os::OSError>([&] { SharedMemory({.name = name, .create = true, .size = 8192}); })
               ? 0
               : 1;
  });
  if (code == 77) SKIP("calls can't be refused here");
  CHECK(code == 0);
}

TEST_CASE("an empty file is not shared memory") {
  const std::string name = a_name("empty");
  const posix::unique_fd file = posix::open_named_memory(name, O_RDWR | O_CREAT | O_EXCL);
  CHECK_THROWS_AS(SharedMemory(name), std::invalid_argument);
  posix::unlink_named_memory(name);
}

TEST_CASE("anonymous shared memory leaves no name") {
  const LeakCheck nothing_left;
  const SharedMemory memory({.create = true, .size = 100'000});
  CHECK(memory.name().empty());
  CHECK(memory.size() == 100'000);
  CHECK(memory.buf()[99'999] == std::byte{0});
  const LeakCheck no_name;
  Team team;
  team.add(1, [memory] { std::memset(bytes(memory), 7, memory.size()); });
  CHECK(team.join());
  CHECK(memory.buf()[99'999] == std::byte{7});
  CHECK_NOTHROW(memory.unlink());
  const posix::Mapping again{memory.fileno(), memory.size()};
  CHECK(again.data()[5] == std::byte{7});
}

TEST_CASE("a child uses shared memory by its name or by the handle it is given") {
  const LeakCheck nothing_left;
  const std::string name = a_name("across");
  const SharedMemory memory({.name = name, .create = true, .size = 64});
  Team team;
  team.add(1, [name] {
    const SharedMemory own(name);
    own.buf()[0] = std::byte{1};
    own.close();
  });
  team.add(1, [memory] {
    memory.buf()[1] = std::byte{2};
    memory.close();  // in this process alone
  });
  CHECK(team.join());
  CHECK(memory.buf()[0] == std::byte{1});
  CHECK(memory.buf()[1] == std::byte{2});
  memory.unlink();
  // Who was given the handle has the memory, with a name or not.
  team.add(1, [memory, name] {
    if (!throws<os::FileNotFoundError>([&] { SharedMemory{name}; })) ::_exit(1);
    memory.buf()[2] = std::byte{3};
  });
  CHECK(team.join());
  CHECK(memory.buf()[2] == std::byte{3});
}

TEST_CASE("a name stays when a process that uses it ends or is killed") {
  const LeakCheck nothing_left;
  const std::string name = a_name("stays");
  Team team;
  team.add(1, [name] {
    const SharedMemory memory({.name = name, .create = true, .size = 16});
    memory.buf()[0] = std::byte{9};
    ::raise(SIGKILL);
  });
  CHECK(team.join());
  team.add(1, [name] { SharedMemory{name}; });
  CHECK(team.join());
  const SharedMemory memory(name);
  CHECK(memory.buf()[0] == std::byte{9});
  memory.unlink();
}

TEST_CASE("copies of a SharedMemory are closed together") {
  const SharedMemory first({.create = true, .size = 16}), second = first;
  CHECK(first == second);
  first.close();
  CHECK(second.buf().empty());
  CHECK(second.size() == 16);
}
