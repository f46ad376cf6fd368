// SPDX-License-Identifier: MIT
//
// Words that this process and all that descend from it share, to meet at:
//
//   board::reset();                                    // at the start of a test case
//   auto f = pool.submit([] { board::bump(0); board::await(1, 1); });
//   board::await(0, 1);                                // the task runs now
//   board::bump(1);                                    // it may go on
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <brood/posix/futex.hpp>
#include <brood/posix/pidfd.hpp>
#include <brood/posix/poll.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace board {

inline constexpr unsigned words = 64;

// A memory file of the first of them, which the others find by a variable of the environment: those
// that are this program executed anew did not inherit the memory.
inline std::atomic<std::uint32_t>* map_words() {
  constexpr std::size_t size = words * sizeof(std::atomic<std::uint32_t>);
  constexpr const char* variable = "BROOD_TEST_BOARD";
  const char* const name = ::getenv(variable);
  int file = name == nullptr ? -1 : ::open(name, O_RDWR | O_CLOEXEC);
  if (file < 0) {
    file = ::memfd_create("board", MFD_CLOEXEC);
    if (::ftruncate(file, size) != 0) ::abort();
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%d/fd/%d", ::getpid(), file);
    ::setenv(variable, path, 1);
  }
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) ::abort();
  return static_cast<std::atomic<std::uint32_t>*>(memory);  // the file stays open for the others
}

inline std::atomic<std::uint32_t>& word(unsigned index) {
  static auto* const all = map_words();
  return all[index];
}
inline const bool mapped = (word(0), true);  // before anybody forks

inline void reset() {
  for (unsigned i = 0; i < words; ++i) word(i).store(0);
}

inline std::uint32_t get(unsigned index) { return word(index).load(); }

inline void bump(unsigned index) {
  word(index).fetch_add(1);
  brood::posix::futex_wake(word(index), INT_MAX, brood::posix::Scope::process_shared);
}

// Waits until the word is at least `wanted`; false when time is up first.
inline bool await(unsigned index, std::uint32_t wanted, brood::Timeout timeout = brood::forever) {
  const brood::posix::Deadline deadline{timeout};
  for (;;) {
    const std::uint32_t seen = get(index);
    if (seen >= wanted) return true;
    if (deadline.expired()) return false;
    brood::posix::futex_wait(word(index), seen, deadline, brood::posix::Scope::process_shared);
  }
}

// A descriptor of any process that lives, child or not.
inline brood::posix::unique_fd watch(pid_t pid) {
  return brood::posix::unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
}

// Whether the process of a watch() has ended, or does within the time.
inline bool ends(const brood::posix::unique_fd& watched, brood::Timeout timeout) {
  return !watched || brood::posix::wait_readable(watched.get(), brood::posix::Deadline{timeout});
}

// What a forked child's `body` returns, as its exit code; 99 when it throws, -N when it is killed.
template <class Body>
int in_child(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// Waits for a forked child.
inline int reap(pid_t pid) {
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace board
