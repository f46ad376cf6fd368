// SPDX-License-Identifier: MIT
// Signals for a process and all that descends from it.
//
// A descendant is known by its chain of parents, by the session or process group of the root, or by
// a mark in its environment, which also finds those whose parents have ended. One that clears its
// environment and makes itself a daemon is not found.
//
// Each is stopped as soon as it is found, and the search is repeated until it finds no more: what
// is stopped starts no others. Only then the signal is sent, and last SIGCONT so that it is
// received.
//
// Signals go by pidfd. Where a sandbox refuses those they go by number, looked at once more just
// before; a number that passes to another process at that very moment cannot be told.
#pragma once

#include <dirent.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "pidfd.hpp"

namespace brood::posix {

class ProcessTree {
 public:
  /// `root` is the first process, which nobody may wait for meanwhile, or 0 when it has been waited
  /// for. `mark` is looked for in the values of the variable BROOD_TREE.
  ProcessTree(pid_t root, const std::string& mark) : root_{root}, mark_{mark} {}
  ProcessTree(const ProcessTree&) = delete;
  ProcessTree& operator=(const ProcessTree&) = delete;
  ~ProcessTree() {
    while (members_ != nullptr) {
      Member* const next = members_->next;
      delete members_;
      members_ = next;
    }
  }

  /// Sends `signal` to all of them; those that end meanwhile, or may not be signalled, are passed
  /// over. Takes time in proportion to the number of processes of the machine. Without a descriptor
  /// or memory to spare for the search, the root gets it in any case.
  void send_signal(int signal) {
    while (stop_new_members()) {
    }
    for (const Member* member = members_; member != nullptr; member = member->next) {
      send(*member, signal);
      if (signal != SIGKILL && signal != SIGSTOP) send(*member, SIGCONT);
    }
    if (root_ > 0 && !is_member(root_)) ::kill(root_, signal);
  }

 private:
  struct Member {
    pid_t pid;
    unique_fd pidfd;  // empty where the system has none
    unsigned long long start;
    Member* next;
  };

  struct Status {
    char state = 'Z';
    pid_t parent = 0;
    pid_t group = 0;
    pid_t session = 0;
    unsigned long long start = 0;  // when it was made, in clock ticks; no two of a number have one
  };

  bool stop_new_members() {
    DIR* const directory = ::opendir("/proc");
    if (directory == nullptr) return false;
    bool found = false;
    while (const dirent* const entry = ::readdir(directory)) {
      const pid_t pid = std::atoi(entry->d_name);
      if (pid <= 1 || pid == ::getpid() || is_member(pid) || !belongs(pid)) continue;
      unique_fd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
      if (!pidfd && !means_unsupported(errno)) continue;
      const unsigned long long start = read_status(pid).start;
      // The number may have gone to another process before that.
      if (!belongs(pid)) continue;
      Member* const member = new (std::nothrow) Member{pid, std::move(pidfd), start, nullptr};
      if (member == nullptr) break;
      if (send(*member, SIGSTOP) != 0) {
        delete member;
        continue;
      }
      member->next = members_;
      members_ = member;
      found = true;
    }
    ::closedir(directory);
    return found;
  }

  static int send(const Member& member, int signal) {
    if (member.pidfd) {
      const int result = send_signal_by_pidfd(member.pidfd.get(), signal);
      if (result == 0 || !means_unsupported(errno)) return result;
    }
    return read_status(member.pid).start == member.start ? ::kill(member.pid, signal) : -1;
  }

  bool is_member(pid_t pid) const noexcept {
    for (const Member* member = members_; member != nullptr; member = member->next)
      if (member->pid == pid) return true;
    return false;
  }

  bool belongs(pid_t pid) const {
    const Status status = read_status(pid);
    if (status.state == 'Z' || status.state == 'X') return false;
    if (is_member(status.parent)) return true;
    if (root_ > 0 && (pid == root_ || status.parent == root_ || status.group == root_ ||
                      status.session == root_))
      return true;
    return has_mark(pid);
  }

  static Status read_status(pid_t pid) {
    Status status;
    char text[512];
    char name[64];
    std::snprintf(name, sizeof name, "/proc/%d/stat", pid);
    std::FILE* const file = std::fopen(name, "re");
    if (file == nullptr) return status;
    text[std::fread(text, 1, sizeof text - 1, file)] = '\0';
    std::fclose(file);
    // pid (name) state parent group session, 15 more, start; the name may hold anything.
    if (const char* const end = std::strrchr(text, ')'))
      if (std::sscanf(
              end + 1,
              " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
              &status.state, &status.parent, &status.group, &status.session, &status.start) != 5)
        status.state = 'Z';
    return status;
  }

  bool has_mark(pid_t pid) const {
    if (mark_.empty()) return false;
    char name[64];
    std::snprintf(name, sizeof name, "/proc/%d/environ", pid);
    std::FILE* const file = std::fopen(name, "re");
    if (file == nullptr) return false;
    char* variable = nullptr;
    std::size_t size = 0;
    bool found = false;
    while (!found && ::getdelim(&variable, &size, '\0', file) > 0)
      found = std::strncmp(variable, "BROOD_TREE=", 11) == 0 &&
              std::strstr(variable + 11, mark_.c_str()) != nullptr;
    std::free(variable);
    std::fclose(file);
    return found;
  }

  pid_t root_;
  std::string mark_;
  Member* members_ = nullptr;
};

}  // namespace brood::posix
