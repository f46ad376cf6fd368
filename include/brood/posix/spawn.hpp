// SPDX-License-Identifier: MIT
// Starting a program. One function, three ways below it:
//
// Way         | what it is                                     | when
// ------------+------------------------------------------------+----------------------------------
// clone       | the child borrows the parent's memory until    | always, but for the following
//             | exec, on a stack of its own, and its caller    |
//             | stands still                                   |
// posix_spawn | the C library's                                | clone is refused (a sandbox), and
//             |                                                | it can say what is asked
// fork        | a copy of the parent                           | preexec, changes of identity,
//             |                                                | sanitizer builds, and the rest
//
// The cost of clone and posix_spawn does not grow with the parent's memory. With fork alone, a
// process that another thread forks at the same moment, and that does not exec, delays spawn()
// until it ends: it holds a copy of the pipe that tells of failure.
#pragma once

#include <sched.h>
#include <spawn.h>

#include "pidfd.hpp"
#include "sanitizers.hpp"
#include "spawn_request.hpp"

namespace brood::posix {

enum class SpawnWay { automatic, clone, posix_spawn, fork };

/// For tests: the way to take wherever it can do what is asked; fork does what it cannot. Not to be
/// changed while another thread starts something.
inline SpawnWay forced_spawn_way = SpawnWay::automatic;

struct Spawned {
  pid_t pid = -1;
  unique_fd pidfd;  // empty where the system has none
};

/// Starts a program and returns once it has taken the child's place. Throws os::OSError that names
/// what failed and its object, in the parent or in the child, and PreexecError; no child is left
/// then. May be called from several threads at once. Python counterpart:
/// _posixsubprocess.fork_exec.
inline Spawned spawn(const SpawnRequest& request);

namespace spawn_ways {

using posix::sanitized;

/// Whether the program looks after ended children itself: a wait in its handler, or an ignored
/// SIGCHLD, may take the code before us, and then a pidfd can still tell it.
inline bool sigchld_is_default() noexcept {
  struct sigaction action;
  return ::sigaction(SIGCHLD, nullptr, &action) == 0 && action.sa_handler == SIG_DFL &&
         (action.sa_flags & SA_NOCLDWAIT) == 0;
}

inline bool needs_fork(const SpawnRequest& request) noexcept {
  // Identity: a process must not share its memory with one of lesser rights.
  return request.preexec || request.user || request.group || request.extra_groups != nullptr;
}

/// Whether posix_spawn has the words for it.
inline bool posix_spawn_can(const SpawnRequest& request) noexcept {
  if (needs_fork(request) || request.umask ||
      (request.limits != nullptr && !request.limits->empty()) || request.parent_death_signal != 0)
    return false;
  return (!request.close_fds || request.pass_fds == nullptr || request.pass_fds->empty()) &&
         !children_vanish();
}

#if defined(__x86_64__)
/// clone3(2), for which the C library has no wrapper: it can reset all signal handlers in the same
/// call, which the child would need 62 calls for. The child runs `run` on its own stack and never
/// returns. Returns the pid, or -1 with errno.
inline pid_t clone3_clearing_handlers(char* stack, std::size_t stack_size, int* pidfd,
                                      void (*run)(const SpawnPlan&), SpawnPlan* plan) noexcept {
  struct {
    std::uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
  } arguments{};
  constexpr std::uint64_t clear_handlers = 0x100000000;  // CLONE_CLEAR_SIGHAND, Linux 5.5
  arguments.flags = CLONE_VM | CLONE_VFORK | clear_handlers;
  if (plan->pidfd) {
    arguments.flags |= CLONE_PIDFD;
    arguments.pidfd = reinterpret_cast<std::uintptr_t>(pidfd);
  }
  arguments.exit_signal = SIGCHLD;
  arguments.stack = reinterpret_cast<std::uintptr_t>(stack);
  arguments.stack_size = stack_size;
  long result = 435;  // the number of the call
  // The child begins behind `syscall` with these registers, 0 as result, and its own stack pointer.
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "mov %[plan], %%rdi\n\t"
      "call *%[run]\n\t"
      "hlt\n"
      "1:"
      : "+a"(result)
      : "D"(&arguments), "S"(sizeof arguments), [run] "r"(run), [plan] "r"(plan)
      : "rcx", "r11", "cc", "memory");
  if (result >= 0) return static_cast<pid_t>(result);
  errno = static_cast<int>(-result);
  return -1;
}
#endif

/// The same by clone(2), for older kernels and other processors: the child resets the handlers
/// itself, and no signal may reach it before.
inline pid_t clone_with_signals_blocked(SpawnPlan& plan, char* stack_end, int& pidfd) noexcept {
  const auto child = [](void* argument) -> int {
    spawn_child::run(*static_cast<const SpawnPlan*>(argument));
  };
  constexpr int flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
  const BlockAllSignals blocked;
  if (!plan.restore_signals) plan.mask = blocked.before();
  if (plan.pidfd) {
    const pid_t pid = ::clone(child, stack_end, flags | CLONE_PIDFD, &plan, &pidfd);
    if (pid >= 0 || !means_unsupported(errno)) return pid;
  }
  return ::clone(child, stack_end, flags, &plan);
}

/// Whether a clone has shared this process's memory, as it should. Emulators (QEMU's user mode)
/// make a plain fork of it, and do not wait; until it is known not to be one, a pipe has to be
/// there for the child's report. With __atomic, as threads may start programs at once.
inline bool clone_shares_memory = false;

/// Stands still until the child has gone to its program, or ended, if `news` says that the memory
/// is shared. Returns 0 or an errno.
inline int by_clone(SpawnPlan& plan, Spawned& result, SpawnSharedNews& news) noexcept {
  // Enough for the child's few shallow frames. It cannot need more: it never resolves a symbol,
  // since syscall() has been called here before, and no signal reaches it.
  alignas(64) char stack[16 * 1024];
  if (!__atomic_load_n(&clone_shares_memory, __ATOMIC_RELAXED)) ::syscall(SYS_getpid);
  plan.shared = &news;
  int pidfd = -1;
  pid_t pid = -1;
  errno = ENOSYS;
#if defined(__x86_64__)
  // Without handlers no signal can do harm in there, so none needs to be blocked: two system calls
  // less. One that ends or stops the child does it here instead of in the program.
  plan.handlers_are_reset = true;
  plan.set_mask = plan.restore_signals;
  sigemptyset(&plan.mask);
  pid = clone3_clearing_handlers(stack, sizeof stack, &pidfd, &spawn_child::run, &plan);
#endif
  if (pid < 0 && means_unsupported(errno)) {
    plan.handlers_are_reset = false;
    plan.set_mask = true;
    pid = clone_with_signals_blocked(plan, stack + sizeof stack, pidfd);
  }
  plan.shared = nullptr;
  if (pid < 0) return errno;
  result.pid = pid;
  result.pidfd = lifted(pidfd);
  if (news.is_shared) __atomic_store_n(&clone_shares_memory, true, __ATOMIC_RELAXED);
  return 0;
}

inline int by_fork(SpawnPlan& plan, Spawned& result) {
  // Where only a pidfd will know the code, the child waits until there is one.
  PipeEnds gate;
  if (children_vanish()) {
    gate = make_pipe();
    plan.gate_read = gate.read.get();
    plan.gate_write = gate.write.get();
  }
  const BlockAllSignals blocked;
  plan.set_mask = true;
  if (!plan.restore_signals) plan.mask = blocked.before();
  const pid_t pid = ::fork();
  if (pid == 0) spawn_child::run(plan);
  if (pid < 0) return errno;
  result.pid = pid;
  if (gate.write) {
    result.pidfd = try_open_pidfd(pid);
    // A byte, not the end of file: a child that another thread forks meanwhile holds the gate too.
    write_some(gate.write.get(), "", 1);
  }
  return 0;
}

/// posix_spawn's own objects, which must be destroyed.
struct PosixSpawnObjects {
  PosixSpawnObjects() noexcept {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~PosixSpawnObjects() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  PosixSpawnObjects(const PosixSpawnObjects&) = delete;
  PosixSpawnObjects& operator=(const PosixSpawnObjects&) = delete;

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

/// False when this C library has no words for what is asked, or when the start failed: it does not
/// tell which step did, or whether it was refused as such (clone with VFORK in a sandbox). Another
/// way will.
inline bool by_posix_spawn(const SpawnPlan& plan, Spawned& result) {
#if !defined(__GLIBC__)
  static_cast<void>(plan), static_cast<void>(result);
  return false;
#else
  PosixSpawnObjects objects;
  int refused = 0;  // no memory, or a number it takes for invalid (one above RLIMIT_NOFILE)
  for (int target = 0; target < 3; ++target)
    if (plan.stdio[target] >= 0)
      refused |= posix_spawn_file_actions_adddup2(&objects.actions, plan.stdio[target], target);
  if (plan.cwd != nullptr) {
#if __GLIBC_PREREQ(2, 29)
    refused |= posix_spawn_file_actions_addchdir_np(&objects.actions, plan.cwd);
#else
    return false;
#endif
  }
  if (plan.close_fds) {
#if __GLIBC_PREREQ(2, 34)
    refused |= posix_spawn_file_actions_addclosefrom_np(&objects.actions, 3);
#else
    return false;
#endif
  }
  if (refused != 0) return false;
  short flags = 0;
  if (plan.restore_signals) {
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&objects.attributes, &signals);
    sigaddset(&signals, SIGPIPE);
    sigaddset(&signals, SIGXFSZ);
    posix_spawnattr_setsigdefault(&objects.attributes, &signals);
    flags |= POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  }
  if (plan.new_session) flags |= POSIX_SPAWN_SETSID;
  if (plan.set_process_group) {
    flags |= POSIX_SPAWN_SETPGROUP;
    posix_spawnattr_setpgroup(&objects.attributes, plan.process_group);
  }
  posix_spawnattr_setflags(&objects.attributes, flags);
  for (const char* path = plan.candidates; *path != '\0';
       path += std::string_view{path}.size() + 1) {
    if (::posix_spawn(&result.pid, path, &objects.actions, &objects.attributes, plan.argv,
                      plan.envp) == 0) {
      result.pidfd = try_open_pidfd(result.pid);
      return true;
    }
  }
  result.pid = -1;
  return false;
#endif
}

inline SpawnWay choose(const SpawnRequest& request) noexcept {
  if (needs_fork(request)) return SpawnWay::fork;
  const SpawnWay forced = forced_spawn_way;
  if (forced == SpawnWay::posix_spawn)
    return posix_spawn_can(request) ? SpawnWay::posix_spawn : SpawnWay::fork;
  return sanitized || forced == SpawnWay::fork ? SpawnWay::fork : SpawnWay::clone;
}

}  // namespace spawn_ways

inline Spawned spawn(const SpawnRequest& request) {
  PreparedSpawn prepared{request};
  prepared.plan.pidfd = request.pidfd || !spawn_ways::sigchld_is_default();
  SpawnSharedNews news;
  Spawned result;
  SpawnWay way = spawn_ways::choose(request);
  if (way == SpawnWay::clone) {
    if (!__atomic_load_n(&spawn_ways::clone_shares_memory, __ATOMIC_RELAXED))
      prepared.open_report();
    const int error = spawn_ways::by_clone(prepared.plan, result, news);
    if (error != 0 && !means_unsupported(error)) throw_os_error(error, "start a process");
    if (error != 0)
      way = spawn_ways::posix_spawn_can(request) ? SpawnWay::posix_spawn : SpawnWay::fork;
  }
  if (way == SpawnWay::posix_spawn) {
    if (spawn_ways::by_posix_spawn(prepared.plan, result)) return result;
    way = SpawnWay::fork;
  }
  if (way == SpawnWay::fork) {
    prepared.open_report();
    const int error = spawn_ways::by_fork(prepared.plan, result);
    if (error != 0) throw_os_error(error, "fork a process");
  }

  int read_error = 0;
  if (!news.is_shared) {
    // The pipe's end is that of the program's image, or comes after a report.
    prepared.report.write.reset();
    const ssize_t size = read_some(prepared.report.read.get(), &news.report, sizeof news.report);
    news.has_failed = size != 0;
    if (size < 0)
      read_error = errno;
    else if (size > 0 && (size != static_cast<ssize_t>(sizeof news.report) ||
                          news.report.magic != SpawnReport::expected_magic))
      read_error = EIO;
  }
  if (!news.has_failed) {
    if (prepared.plan.pidfd && !result.pidfd) result.pidfd = try_open_pidfd(result.pid);
    return result;
  }
  if (read_error != 0) ::kill(result.pid, SIGKILL);  // the program may be running
  siginfo_t ended{};
  wait_id(P_PID, static_cast<id_t>(result.pid), &ended, WEXITED, nullptr);
  if (read_error != 0)
    throw_os_error(read_error, "learn from the child whether it could execute", request.executable);
  throw_report(request, news.report);
}

}  // namespace brood::posix
