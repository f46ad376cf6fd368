// SPDX-License-Identifier: MIT
// The parts of Python's os that belong to processes.
//
//     fmt::print("process {} of {}\n", brood::os::getpid(), brood::os::getppid());
//
// Nothing here blocks. Everything may be called from several threads at once; the environment is
// the C library's, so environ_copy() must not run while another thread changes it (setenv(3)).
#pragma once

#include "requirements.hpp"

#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <stdexcept>
#include <string>

#include "posix/cgroup.hpp"
#include "posix/error.hpp"

namespace brood::os {

/// The id of this process, of its parent, and the real ids of its user and group.
inline pid_t getpid() noexcept { return ::getpid(); }
inline pid_t getppid() noexcept { return ::getppid(); }
inline uid_t getuid() noexcept { return ::getuid(); }
inline gid_t getgid() noexcept { return ::getgid(); }

/// The current working directory. Throws OSError (FileNotFoundError: it was removed).
inline std::string getcwd();

/// The processors of the machine that are on line, at least 1.
inline unsigned cpu_count() noexcept;

/// The processors that this process may use: those it may run on, and not more than its control
/// groups' quota, rounded up; at least 1. Python's knows the first of the two.
inline unsigned process_cpu_count();

/// Variables by name.
using Environment = std::map<std::string, std::string>;

/// A snapshot of the environment. Python counterpart: dict(os.environ). (A template, as are others
/// without need, so that only who calls it has the compiler write the map's code.)
template <class Result = Environment>
Result environ_copy();

/// Send a signal to a process, or a process group. Throw OSError (ProcessLookupError,
/// PermissionError).
inline void kill(pid_t pid, int signal);
inline void killpg(pid_t group, int signal);

/// What waitpid(2) gave, in Python's terms: an exit code, or -N for death by signal N. Throws
/// std::invalid_argument for a process that was stopped or continued.
inline int waitstatus_to_exitcode(int status);

/// The id behind a name of the user or group data base. Throw std::invalid_argument when there is
/// no such name, OSError when the data base cannot be read. Python: pwd.getpwnam(name).pw_uid.
inline uid_t uid_of(const std::string& name);
inline gid_t gid_of(const std::string& name);

inline std::string getcwd() {
  std::string path(256, '\0');
  while (::getcwd(path.data(), path.size()) == nullptr) {
    if (errno != ERANGE) posix::throw_errno("get the current directory");
    path.resize(path.size() * 2);
  }
  path.resize(path.find('\0'));
  return path;
}

inline unsigned cpu_count() noexcept {
  const long count = ::sysconf(_SC_NPROCESSORS_ONLN);
  return count > 0 ? static_cast<unsigned>(count) : 1;
}

inline unsigned process_cpu_count() {
  unsigned count = 0;
  // The kernel wants room for as many as it was built for, which may be more than cpu_set_t has.
  for (std::size_t size = sizeof(cpu_set_t); size <= (1u << 17); size *= 2) {
    std::string mask(size, '\0');
    if (::sched_getaffinity(0, size, reinterpret_cast<cpu_set_t*>(mask.data())) == 0) {
      for (const char byte : mask)
        count += static_cast<unsigned>(__builtin_popcount(static_cast<unsigned char>(byte)));
      break;
    }
    if (errno != EINVAL) break;
  }
  if (count == 0) count = cpu_count();
  if (const double quota = posix::cgroup_cpu_quota(); quota > 0 && quota < count) {
    count = static_cast<unsigned>(quota);
    if (count < quota) ++count;
  }
  return count > 0 ? count : 1;
}

template <class Result>
Result environ_copy() {
  Result result;
  if (::environ == nullptr) return result;
  for (char** variable = ::environ; *variable != nullptr; ++variable) {
    const std::string entry{*variable};
    // A name may begin with '=', as some shells' do; the first of two equal names counts.
    const std::size_t equals = entry.find('=', 1);
    if (equals != std::string::npos)
      result.insert({entry.substr(0, equals), entry.substr(equals + 1)});
  }
  return result;
}

inline void kill(pid_t pid, int signal) {
  if (::kill(pid, signal) != 0) posix::throw_errno("send a signal to process", std::to_string(pid));
}

inline void killpg(pid_t group, int signal) {
  if (::killpg(group, signal) != 0)
    posix::throw_errno("send a signal to process group", std::to_string(group));
}

inline int waitstatus_to_exitcode(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  if (WIFSIGNALED(status)) return -WTERMSIG(status);
  throw std::invalid_argument{"waitstatus_to_exitcode: the process of wait status " +
                              std::to_string(status) + " has not ended"};
}

inline uid_t uid_of(const std::string& name) {
  std::string buffer(1024, '\0');
  for (;;) {
    passwd entry{};
    passwd* found = nullptr;
    const int error = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found != nullptr) return found->pw_uid;
    if (error == 0 || error == ENOENT)
      throw std::invalid_argument{"uid_of: there is no user named '" + name + "'"};
    if (error != ERANGE && error != EINTR) posix::throw_os_error(error, "look up user", name);
    if (error == ERANGE) buffer.resize(buffer.size() * 2);
  }
}

inline gid_t gid_of(const std::string& name) {
  std::string buffer(1024, '\0');
  for (;;) {
    group entry{};
    group* found = nullptr;
    const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found != nullptr) return found->gr_gid;
    if (error == 0 || error == ENOENT)
      throw std::invalid_argument{"gid_of: there is no group named '" + name + "'"};
    if (error != ERANGE && error != EINTR) posix::throw_os_error(error, "look up group", name);
    if (error == ERANGE) buffer.resize(buffer.size() * 2);
  }
}

}  // namespace brood::os
