// SPDX-License-Identifier: MIT
// What a new process does between its creation and exec. One routine for each way of creating it.
//
// It may run in the parent's memory (CLONE_VM) while other threads of the parent run on, so it
// makes raw system calls only: no allocation, no lock, no libc wrapper that has either. All it
// needs lies ready in a SpawnPlan. Whatever fails is told in that memory, and over a close-on-exec
// pipe if there is one; exec itself closes that.
#pragma once

#include <fcntl.h>
#include <linux/types.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace brood::posix {

/// What the child was at when something failed.
enum class SpawnStage : std::int32_t {
  redirect,
  pass_fds,
  chdir,
  new_session,
  process_group,
  limits,
  extra_groups,
  group,
  user,
  parent_death_signal,
  preexec,
  exec,
};

/// One write of less than PIPE_BUF, so it arrives whole or not at all.
struct SpawnReport {
  static constexpr std::uint32_t expected_magic = 0x62726f64;
  std::uint32_t magic = expected_magic;
  SpawnStage stage = SpawnStage::exec;
  std::int32_t error = 0;
  std::int32_t index = 0;  // which descriptor or limit
  char text[240] = {};     // what an exception of preexec said
};

/// A limit for a child: {RLIMIT_NOFILE, 64} sets the soft and the hard one, see setrlimit(2).
struct ResourceLimit {
  int resource = 0;
  rlim_t soft = RLIM_INFINITY;
  rlim_t hard = soft;
};

/// What a child that has its parent's memory writes there.
struct SpawnSharedNews {
  bool is_shared = false;  // the parent sees it, so it will see a report too
  bool has_failed = false;
  SpawnReport report;  // then
};

/// Everything the child needs, prepared by the parent. Pointers and lengths only.
struct SpawnPlan {
  char* const* argv = nullptr;
  char* const* envp = nullptr;
  bool inherits_environment = false;  // preexec may change it, and move the list
  const char* candidates = nullptr;   // paths to try, each ended by NUL, the list by an empty one
  int stdio[3] = {-1, -1, -1};        // -1, the stream's own number, or 3 and above
  int report_fd = -1;                 // 3 or above; -1: none
  int gate_read = -1;                 // if not -1: go on when the parent has written to gate_write
  int gate_write = -1;
  bool close_fds = true;
  const int* keep_fds = nullptr;  // sorted, each 3 or above; a report_fd is among them
  std::size_t keep_count = 0;
  char* scratch = nullptr;
  std::size_t scratch_size = 0;
  const char* cwd = nullptr;
  bool restore_signals = true;
  bool handlers_are_reset = false;  // by the kernel, with CLONE_CLEAR_SIGHAND
  bool set_mask = true;             // to the following; else it is right from the first
  sigset_t mask = {};
  bool new_session = false;
  bool set_process_group = false;
  pid_t process_group = 0;
  const ResourceLimit* limits = nullptr;
  std::size_t limit_count = 0;
  bool set_umask = false;
  mode_t umask = 0;
  bool set_groups = false;
  const gid_t* groups = nullptr;
  std::size_t group_count = 0;
  bool set_group = false;
  gid_t group = 0;
  bool set_user = false;
  uid_t user = 0;
  int parent_death_signal = 0;
  pid_t parent = 0;
  // Runs preexec; false with a message in the report if it threw. Only after a fork.
  bool (*preexec)(const void* callback, SpawnReport& report) = nullptr;
  const void* preexec_callback = nullptr;
  SpawnSharedNews* shared = nullptr;  // with CLONE_VM
  bool pidfd = true;                  // to be made for the parent
};

namespace spawn_child {

// UBSan has no switch that tells of it, so its builds go through clone too: no checks in here.
#define BROOD_IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined"))) inline

#ifdef SYS_setresuid32  // 32-bit systems kept the plain numbers for 16-bit ids
inline constexpr long setgroups_number = SYS_setgroups32;
inline constexpr long setresgid_number = SYS_setresgid32;
inline constexpr long setresuid_number = SYS_setresuid32;
#else
inline constexpr long setgroups_number = SYS_setgroups;
inline constexpr long setresgid_number = SYS_setresgid;
inline constexpr long setresuid_number = SYS_setresuid;
#endif
inline constexpr long close_range_number = 436;  // the same on every architecture
inline constexpr int signal_count = 64;
inline constexpr std::size_t kernel_sigset_size = signal_count / 8;

// struct sigaction as the kernel knows it begins with the handler, but for MIPS.
struct KernelSigaction {
  unsigned long handler;
  unsigned long rest[7];
};

[[noreturn]] BROOD_IN_CHILD void fail(const SpawnPlan& plan, SpawnReport& report) {
  if (plan.shared != nullptr) plan.shared->has_failed = true;
  if (plan.report_fd >= 0) ::syscall(SYS_write, plan.report_fd, &report, sizeof report);
  for (;;) ::syscall(SYS_exit_group, 127);
}

[[noreturn]] BROOD_IN_CHILD void fail(const SpawnPlan& plan, SpawnReport& report, SpawnStage stage,
                                      std::size_t index) {
  report.error = errno;
  report.stage = stage;
  report.index = static_cast<std::int32_t>(index);
  fail(plan, report);
}

[[noreturn]] BROOD_IN_CHILD void fail(const SpawnPlan& plan, SpawnStage stage,
                                      std::size_t index = 0) {
  if (plan.shared != nullptr) fail(plan, plan.shared->report, stage, index);
  SpawnReport report;
  fail(plan, report, stage, index);
}

BROOD_IN_CHILD void redirect(const SpawnPlan& plan) {
  for (int target = 0; target < 3; ++target) {
    const int source = plan.stdio[target];
    if (source < 0) continue;
    // dup3() of a descriptor onto itself is an error, and dup2() would leave close-on-exec set.
    const long result = source == target ? ::syscall(SYS_fcntl, source, F_SETFD, 0)
                                         : ::syscall(SYS_dup3, source, target, 0);
    if (result < 0) fail(plan, SpawnStage::redirect, static_cast<std::size_t>(target));
  }
}

BROOD_IN_CHILD bool is_kept(const SpawnPlan& plan, int fd) {
  for (std::size_t i = 0; i < plan.keep_count; ++i)
    if (plan.keep_fds[i] == fd) return true;
  return false;
}

BROOD_IN_CHILD bool close_by_range(const SpawnPlan& plan) {
  unsigned first = 3;
  for (std::size_t i = 0; i <= plan.keep_count; ++i) {
    const unsigned kept = i < plan.keep_count ? static_cast<unsigned>(plan.keep_fds[i]) : ~0u;
    if (first < kept &&
        ::syscall(close_range_number, first, i < plan.keep_count ? kept - 1 : ~0u, 0) != 0)
      return false;
    first = kept + 1;
  }
  return true;
}

// Closing while reading the directory is safe: the kernel lists by descriptor number.
BROOD_IN_CHILD bool close_by_proc(const SpawnPlan& plan) {
  const long directory =
      ::syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (directory < 0) return false;
  for (;;) {
    const long size = ::syscall(SYS_getdents64, directory, plan.scratch, plan.scratch_size);
    if (size < 0) {
      ::syscall(SYS_close, directory);
      return false;
    }
    if (size == 0) break;
    for (long offset = 0; offset < size;) {
      // struct linux_dirent64: inode 8, offset 8, length 2, type 1, name
      const char* const entry = plan.scratch + offset;
      const auto low = static_cast<unsigned char>(entry[16]);
      const auto high = static_cast<unsigned char>(entry[17]);
      const std::uint16_t one = 1;
      const bool little = *reinterpret_cast<const unsigned char*>(&one) == 1;
      offset += little ? low + 256 * high : high + 256 * low;
      int fd = 0;
      const char* digit = entry + 19;
      for (; *digit >= '0' && *digit <= '9'; ++digit) fd = fd * 10 + (*digit - '0');
      if (digit == entry + 19 || fd < 3 || fd == directory || is_kept(plan, fd)) continue;
      ::syscall(SYS_close, fd);
    }
  }
  ::syscall(SYS_close, directory);
  return true;
}

BROOD_IN_CHILD rlim64_t descriptor_limit() {
  rlimit64 limit{};
  ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
  return limit.rlim_cur;
}

// `limit` is what was in force when they were made; 0: it still is.
BROOD_IN_CHILD void close_the_rest(const SpawnPlan& plan, rlim64_t limit) {
  if (close_by_range(plan) || close_by_proc(plan)) return;
  if (limit == 0) limit = descriptor_limit();
  for (int fd = 3; static_cast<rlim64_t>(fd) < limit && fd < (1 << 20); ++fd)
    if (!is_kept(plan, fd)) ::syscall(SYS_close, fd);
}

// A handler must not run here: it would write into the parent. So whatever is handled goes back to
// its default before any signal is let through, or there were no handlers from the first.
BROOD_IN_CHILD void reset_signals(const SpawnPlan& plan) {
  for (int signal = 1; signal <= signal_count; ++signal) {
    if (signal == SIGKILL || signal == SIGSTOP) continue;
    if (plan.handlers_are_reset && signal != SIGPIPE && signal != SIGXFSZ) continue;
    KernelSigaction action;
    if (::syscall(SYS_rt_sigaction, signal, nullptr, &action, kernel_sigset_size) != 0) continue;
    const bool ignored = action.handler == 1;  // SIG_IGN
    const bool restored = plan.restore_signals && (signal == SIGPIPE || signal == SIGXFSZ);
    if (action.handler == 0 || (ignored && !restored)) continue;
    for (unsigned long& word : action.rest) word = 0;
    action.handler = 0;
    ::syscall(SYS_rt_sigaction, signal, &action, nullptr, kernel_sigset_size);
  }
}

BROOD_IN_CHILD void change_identity(const SpawnPlan& plan) {
  if (plan.set_groups && ::syscall(setgroups_number, plan.group_count, plan.groups) != 0)
    fail(plan, SpawnStage::extra_groups);
  if (plan.set_group && ::syscall(setresgid_number, plan.group, plan.group, plan.group) != 0)
    fail(plan, SpawnStage::group);
  if (plan.set_user && ::syscall(setresuid_number, plan.user, plan.user, plan.user) != 0)
    fail(plan, SpawnStage::user);
}

BROOD_IN_CHILD void follow_parent_into_death(const SpawnPlan& plan) {
  if (::syscall(SYS_prctl, PR_SET_PDEATHSIG, plan.parent_death_signal, 0, 0, 0) != 0)
    fail(plan, SpawnStage::parent_death_signal);
  // It may have died before that.
  if (::syscall(SYS_getppid) != plan.parent)
    for (;;) ::syscall(SYS_exit_group, 127);
}

[[noreturn]] BROOD_IN_CHILD void execute(const SpawnPlan& plan, char* const* envp) {
  int first_error = 0;
  for (const char* path = plan.candidates; *path != '\0';) {
    ::syscall(SYS_execve, path, plan.argv, envp);
    if (errno != ENOENT && errno != ENOTDIR && first_error == 0) first_error = errno;
    while (*path != '\0') ++path;
    ++path;
  }
  if (first_error != 0) errno = first_error;
  fail(plan, SpawnStage::exec);
}

/// The whole of it. Ends in exec or in a report.
[[noreturn]] BROOD_IN_CHILD void run(const SpawnPlan& plan) {
  if (plan.shared != nullptr) plan.shared->is_shared = true;
  if (plan.gate_read >= 0) {
    char byte = 0;
    ::syscall(SYS_close, plan.gate_write);
    ::syscall(SYS_read, plan.gate_read, &byte, 1);
  }
  redirect(plan);
  for (std::size_t i = 0; i < plan.keep_count; ++i) {
    if (plan.keep_fds[i] == plan.report_fd) continue;
    if (::syscall(SYS_fcntl, plan.keep_fds[i], F_SETFD, 0) < 0)
      fail(plan, SpawnStage::pass_fds, static_cast<std::size_t>(plan.keep_fds[i]));
  }
  if (plan.cwd != nullptr && ::syscall(SYS_chdir, plan.cwd) != 0) fail(plan, SpawnStage::chdir);
  if (plan.set_umask) ::syscall(SYS_umask, plan.umask);
  reset_signals(plan);
  if (plan.new_session && ::syscall(SYS_setsid) < 0) fail(plan, SpawnStage::new_session);
  if (plan.set_process_group && ::syscall(SYS_setpgid, 0, plan.process_group) != 0)
    fail(plan, SpawnStage::process_group);
  rlim64_t descriptors = 0;
  if (plan.preexec != nullptr) descriptors = descriptor_limit();  // which that may change
  for (std::size_t i = 0; i < plan.limit_count; ++i) {
    const ResourceLimit& limit = plan.limits[i];
    const std::uint64_t values[2] = {limit.soft, limit.hard};
    rlimit64 before{};
    if (::syscall(SYS_prlimit64, 0, limit.resource, values, &before) != 0)
      fail(plan, SpawnStage::limits, i);
    if (limit.resource == RLIMIT_NOFILE && descriptors == 0) descriptors = before.rlim_cur;
  }
  change_identity(plan);
  if (plan.parent_death_signal != 0) follow_parent_into_death(plan);  // setuid would clear it
  if (plan.preexec != nullptr) {
    // It sees, and may change, the mask that the program will have.
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &plan.mask, nullptr, kernel_sigset_size);
    SpawnReport report;
    report.stage = SpawnStage::preexec;
    if (!plan.preexec(plan.preexec_callback, report)) fail(plan, report);
  }
  if (plan.close_fds) close_the_rest(plan, descriptors);
  if (plan.preexec == nullptr && plan.set_mask)
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &plan.mask, nullptr, kernel_sigset_size);
  execute(plan, plan.preexec != nullptr && plan.inherits_environment ? ::environ : plan.envp);
}

#undef BROOD_IN_CHILD

}  // namespace spawn_child
}  // namespace brood::posix
