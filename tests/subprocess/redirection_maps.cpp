// SPDX-License-Identifier: MIT
//
// Every map of the child's standard streams to descriptors of ours, in every combination of closed
// standard streams here.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <brood/subprocess.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;

namespace {

// What a stream can be given: our 0, 1, 2, another descriptor, or
enum : int { other = 3, inherited, piped, null, same_as_out, kinds };

std::string target_of(pid_t pid, int fd) {
  char link[64];
  std::snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, fd);
  char target[256];
  const ssize_t size = ::readlink(link, target, sizeof target);
  return size < 0 ? "closed" : std::string(target, static_cast<std::size_t>(size));
}

Stdio stdio_of(int choice, int other_fd) {
  switch (choice) {
    case other:
      return other_fd;
    case inherited:
      return INHERIT;
    case piped:
      return PIPE;
    case null:
      return DEVNULL;
    case same_as_out:
      return STDOUT;
    default:
      return choice;
  }
}

// Waits until `sleep` sleeps: it has closed what its loader opened.
void await_sleep(pid_t pid) {
  const std::string call = "/proc/" + std::to_string(pid) + "/syscall";
  const std::string sleep = std::to_string(SYS_clock_nanosleep) + " ";
  for (;;) {
    const std::string now = support::read_file(call);
    if (now.empty() || now.compare(0, sleep.size(), sleep) == 0) return;
    ::sched_yield();
  }
}

bool has_more_descriptors(pid_t pid) {
  int count = 0;
  const std::string directory = "/proc/" + std::to_string(pid) + "/fd";
  support::for_each_entry(directory.c_str(), [&](const char* name) {
    if (std::atoi(name) > 2) ++count;
  });
  return count != 0;
}

// "" if the child has what was asked for, else what is wrong.
std::string try_map(const int (&choice)[3], int other_fd) {
  const std::string ours[4] = {target_of(::getpid(), 0), target_of(::getpid(), 1),
                               target_of(::getpid(), 2), target_of(::getpid(), other_fd)};
  const auto wanted_of = [&](int stream, int chosen) {
    if (chosen == inherited) return ours[stream];
    return chosen == null ? std::string{"/dev/null"} : chosen <= other ? ours[chosen] : "a pipe";
  };
  std::string wanted[3];
  bool is_impossible = false;
  for (int stream = 0; stream < 3; ++stream) {
    wanted[stream] =
        choice[stream] == same_as_out ? wanted_of(1, choice[1]) : wanted_of(stream, choice[stream]);
    if (wanted[stream] == "closed" && choice[stream] != inherited) is_impossible = true;
  }
  try {
    Popen process({"sleep", "600"}, {.in = stdio_of(choice[0], other_fd),
                                     .out = stdio_of(choice[1], other_fd),
                                     .err = stdio_of(choice[2], other_fd)});
    await_sleep(process.pid());
    std::string wrong;
    for (int stream = 0; stream < 3; ++stream) {
      const int chosen = choice[stream] == same_as_out ? choice[1] : choice[stream];
      if (chosen == piped) {
        const bool is_out = stream == 1 || choice[stream] == same_as_out;
        wanted[stream] = target_of(::getpid(), stream == 0 ? process.in.fileno()
                                               : is_out    ? process.out.fileno()
                                                           : process.err.fileno());
      }
      const std::string got = target_of(process.pid(), stream);
      if (got != wanted[stream])
        wrong += std::to_string(stream) + " is " + got + " and not " + wanted[stream] + "; ";
    }
    if (has_more_descriptors(process.pid())) wrong += "there are more; ";
    process.kill();
    process.wait();
    if (is_impossible) wrong += "a closed one was accepted; ";
    return wrong;
  } catch (const brood::os::OSError& error) {
    if (is_impossible && error.code().value() == EBADF) return "";
    return error.what();
  }
}

// Tries each `stride`th map. Runs in a process of its own, whose standard streams it takes.
int try_maps(unsigned closed, int first, int stride) {
  const int other_fd = ::memfd_create("other", 0);
  const int complaints = ::fcntl(2, F_DUPFD_CLOEXEC, 20);
  const char* const names[] = {"zero", "one", "two"};
  for (int fd = 0; fd < 3; ++fd) {
    const int file = ::memfd_create(names[fd], 0);
    ::dup2(file, fd);
    ::close(file);
  }
  for (int fd = 0; fd < 3; ++fd)
    if ((closed & (1u << fd)) != 0) ::close(fd);
  const auto before = support::open_descriptors();
  for (int map = first; map < same_as_out * same_as_out * kinds; map += stride) {
    const int choice[3] = {map % same_as_out, map / same_as_out % same_as_out,
                           map / same_as_out / same_as_out};
    const std::string wrong = try_map(choice, other_fd);
    if (!wrong.empty()) {
      ::dprintf(complaints, "map %d %d %d with closed %u: %s\n", choice[0], choice[1], choice[2],
                closed, wrong.c_str());
      return 1;
    }
    if (support::open_descriptors() != before) return 2;
  }
  return 0;
}

}  // namespace

TEST_CASE("the standard streams of a child can be any of ours whichever of those are closed") {
  const auto way = support::each_start_way();
  const int stride = brood::posix::sanitized ? 61 : 11;
  for (unsigned closed = 0; closed < 8; ++closed)
    CHECK(support::in_child([&] { return try_maps(closed, static_cast<int>(closed), stride); }) ==
          0);
}

TEST_CASE("the standard streams of a child can be any of ours in all combinations", "[soak]") {
  const auto way = support::each_start_way();
  for (unsigned closed = 0; closed < 8; ++closed)
    CHECK(support::in_child([&] { return try_maps(closed, 0, 1); }) == 0);
}
