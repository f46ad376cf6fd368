// SPDX-License-Identifier: MIT
// Executing this very program anew, with one inherited descriptor, a socket, by which it learns
// what it is to do. The number of it is told by an environment variable, as the arguments are the
// program's own. /proc/self/exe is the program even when its file was removed or replaced.
#pragma once

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "process_identity.hpp"
#include "spawn.hpp"

namespace brood::posix {

/// "BROOD_SPAWNED=socket,its inode,ProcessIdentity of who has executed the program".
inline constexpr char spawned_variable[] = "BROOD_SPAWNED";

/// This program's arguments, as they were given to it, each ended by NUL.
inline std::string own_arguments() {
  const unique_fd file = open_file("/proc/self/cmdline", O_RDONLY);
  std::string text;
  char buffer[1024];
  for (ssize_t size; (size = read_some(file.get(), buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(size));
  if (text.empty() || text.back() != '\0') text += '\0';
  return text;
}

/// Executes the program anew: the same arguments, environment, directory, signal mask and ignored
/// signals; an empty standard input; of all other descriptors only 1, 2 and `channel`, which must
/// be none of the first three. Throws os::OSError; no child is left then.
inline Spawned spawn_self(int channel) {
  struct stat socket {};
  check(::fstat(channel, &socket), "look at a socket");
  char variable[96];
  std::snprintf(variable, sizeof variable, "%s=%d,%" PRIu64 ",%" PRIu64, spawned_variable, channel,
                static_cast<std::uint64_t>(socket.st_ino), ProcessIdentity::of(::getpid()).word());
  PointerList environment;
  for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry)
    environment.push_back(*entry);
  environment.push_back(variable);

  const std::string arguments = own_arguments();
  SpawnRequest request;
  for (std::size_t at = 0; at < arguments.size(); at = arguments.find('\0', at) + 1)
    request.argv.push_back(arguments.c_str() + at);
  request.environment = &environment;
  request.executable = "/proc/self/exe";
  request.restore_signals = false;
  const unique_fd empty = open_file("/dev/null", O_RDONLY);
  request.stdio[0] = empty.get();
  const std::vector<int> kept{channel};
  request.pass_fds = &kept;
  return spawn(request);
}

/// Whether `spawner` is an ancestor of this process, but not its parent. (Of a dead one nothing is:
/// its children have another parent from a moment on when it can still be seen.)
inline bool is_anothers_child(ProcessIdentity spawner) noexcept {
  pid_t ancestor = ::getppid();
  if (ancestor == spawner.pid()) return false;
  while ((ancestor = ProcessIdentity::parent_of(ancestor)) > 0)
    if (ancestor == spawner.pid()) return ProcessIdentity::of(ancestor) == spawner;
  return false;
}

/// In a program that was executed by spawn_self(): its channel, from now on close-on-exec; taken
/// once. Empty in one that was not. The variable is gone from the environment then: what this
/// process starts is none of that kind. When it names no such channel, says so and ends the
/// process with code 1: to go on as if nobody had asked for anything would be to run the program
/// twice.
inline unique_fd take_spawned_channel() {
  const char* const text = std::getenv(spawned_variable);
  if (text == nullptr) return {};
  int fd = -1;
  std::uint64_t inode = 0, spawner = 0;
  const bool is_sound = std::sscanf(text, "%d,%" SCNu64 ",%" SCNu64, &fd, &inode, &spawner) == 3;
  struct stat socket {};
  const bool is_there = is_sound && fd >= 3 && ::fstat(fd, &socket) == 0 &&
                        S_ISSOCK(socket.st_mode) && socket.st_ino == inode;
  // What a static object of such a program starts, before main() begins, inherits both. It is
  // another's child.
  if (is_there && is_anothers_child(ProcessIdentity{spawner})) {
    ::unsetenv(spawned_variable);
    ::close(fd);
    return {};
  }
  if (!is_there) {
    std::fprintf(stderr,
                 "brood: %s=%s is in the environment, but there is no such channel: this program "
                 "can't tell what it was started for\n",
                 spawned_variable, text);
    std::_Exit(1);
  }
  ::unsetenv(spawned_variable);
  unique_fd channel{fd};
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return channel;
}

}  // namespace brood::posix
