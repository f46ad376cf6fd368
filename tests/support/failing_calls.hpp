// SPDX-License-Identifier: MIT
//
// Makes one call of this program fail, the n-th from now, as if the system had:
//
//   const support::FailingCall second_pipe{"pipe2", 2, EMFILE};
//   CHECK_THROWS(Popen({"true"}, {.in = PIPE, .out = PIPE}));
//
// What is counted is shared with forked children. Include it in one source file of a program: it
// defines the functions of the C library that it lets fail, so that brood's calls come here, and
// hands them on. System calls are those made by way of syscall(2), named by number.
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace support {

struct FailurePlan {
  char name[32];  // of the function; empty: a system call
  long number;
  int error;
  std::atomic<int> countdown;  // fails when it comes to 0
  std::atomic<int> failed;
};

inline FailurePlan& failure_plan() {
  static FailurePlan* const plan = static_cast<FailurePlan*>(::mmap(
      nullptr, sizeof(FailurePlan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  return *plan;
}
inline const bool failure_plan_is_mapped = (failure_plan(), true);
inline std::atomic<bool> failure_is_planned{false};

// If set, how many calls other processes than this one make of what stands below, but for
// syscall(2), is counted: those of children that have this one's memory.
inline std::atomic<pid_t> lone_caller{0};
inline std::atomic<int> calls_of_others{0};

inline bool is_the_one(const char* name, long number) noexcept {
  if (lone_caller != 0 && name[0] != '\0' && ::getpid() != lone_caller) ++calls_of_others;
  if (!failure_is_planned.load()) return false;
  FailurePlan& plan = failure_plan();
  if (plan.number != number || std::strcmp(plan.name, name) != 0) return false;
  if (plan.countdown.fetch_sub(1) != 1) return false;
  plan.failed.fetch_add(1);
  errno = plan.error;
  return true;
}

// For a scope; one at a time.
class FailingCall {
 public:
  FailingCall(const char* name, int nth, int error) { plan(name, 0, nth, error); }
  FailingCall(long system_call, int nth, int error) { plan("", system_call, nth, error); }
  ~FailingCall() { failure_is_planned = false; }
  FailingCall(const FailingCall&) = delete;
  FailingCall& operator=(const FailingCall&) = delete;

  // Whether it has come to that.
  bool has_failed() const { return failure_plan().failed != 0; }

 private:
  static void plan(const char* name, long number, int nth, int error) {
    FailurePlan& plan = failure_plan();
    std::strncpy(plan.name, name, sizeof plan.name - 1);
    plan.number = number;
    plan.error = error;
    plan.countdown = nth;
    plan.failed = 0;
    failure_is_planned = true;
  }
};

// If set, is called before each system call, with its first argument.
inline std::atomic<void (*)(long number, long first)> before_system_call{nullptr};

// How many allocations by new there are in this program.
inline std::atomic<long> live_allocations{0};

// The function that ours stands before: resolved once, before any child could have to.
template <class Function>
Function next_function(const char* name) noexcept {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

inline void* allocate(std::size_t size) {
  void* const memory = is_the_one("new", 0) ? nullptr : std::malloc(size == 0 ? 1 : size);
  if (memory != nullptr) ++live_allocations;
  return memory;
}
inline void release(void* memory) noexcept {
  if (memory != nullptr) --live_allocations;
  std::free(memory);
}

}  // namespace support

void* operator new(std::size_t size) {
  if (void* const memory = support::allocate(size)) return memory;
  throw std::bad_alloc{};
}
void* operator new[](std::size_t size) {
  if (void* const memory = support::allocate(size)) return memory;
  throw std::bad_alloc{};
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return support::allocate(size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return support::allocate(size);
}
void operator delete(void* memory) noexcept { support::release(memory); }
void operator delete[](void* memory) noexcept { support::release(memory); }
void operator delete(void* memory, std::size_t) noexcept { support::release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { support::release(memory); }

extern "C" {

long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long arguments[6];
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
  if (const auto look = support::before_system_call.load()) look(number, arguments[0]);
  if (support::is_the_one("", number)) return -1;
  static const auto next = support::next_function<long (*)(long, ...)>("syscall");
  return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
              arguments[5]);
}

int pipe2(int ends[2], int flags) noexcept {
  static const auto next = support::next_function<int (*)(int*, int)>("pipe2");
  return support::is_the_one("pipe2", 0) ? -1 : next(ends, flags);
}

int open(const char* path, int flags, ...) {
  static const auto next = support::next_function<int (*)(const char*, int, ...)>("open");
  va_list list;
  va_start(list, flags);
  const int mode = va_arg(list, int);
  va_end(list);
  return support::is_the_one("open", 0) ? -1 : next(path, flags, mode);
}

int fcntl(int fd, int command, ...) {
  static const auto next = support::next_function<int (*)(int, int, ...)>("fcntl");
  va_list list;
  va_start(list, command);
  const long argument = va_arg(list, long);
  va_end(list);
  const bool fails = command == F_DUPFD_CLOEXEC ? support::is_the_one("fcntl F_DUPFD_CLOEXEC", 0)
                     : command == F_SETPIPE_SZ  ? support::is_the_one("fcntl F_SETPIPE_SZ", 0)
                     : command == F_SETFL       ? support::is_the_one("fcntl F_SETFL", 0)
                                                : support::is_the_one("fcntl", 0);
  return fails ? -1 : next(fd, command, argument);
}

int ppoll(pollfd* fds, nfds_t count, const timespec* limit, const sigset_t* mask) {
  static const auto next =
      support::next_function<int (*)(pollfd*, nfds_t, const timespec*, const sigset_t*)>("ppoll");
  return support::is_the_one("ppoll", 0) ? -1 : next(fds, count, limit, mask);
}

ssize_t read(int fd, void* buffer, size_t size) {
  static const auto next = support::next_function<ssize_t (*)(int, void*, size_t)>("read");
  return support::is_the_one("read", 0) ? -1 : next(fd, buffer, size);
}

ssize_t write(int fd, const void* data, size_t size) {
  static const auto next = support::next_function<ssize_t (*)(int, const void*, size_t)>("write");
  return support::is_the_one("write", 0) ? -1 : next(fd, data, size);
}

int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const argv[], char* const envp[]) {
  using Function = int (*)(pid_t*, const char*, const posix_spawn_file_actions_t*,
                           const posix_spawnattr_t*, char* const*, char* const*);
  static const auto next = support::next_function<Function>("posix_spawn");
  return support::is_the_one("posix_spawn", 0) ? errno
                                               : next(pid, path, actions, attributes, argv, envp);
}

}  // extern "C"
