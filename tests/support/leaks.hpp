// SPDX-License-Identifier: MIT
//
// What a program must not leave behind: descriptors, threads, children, names in shared memory.
//
//   TEST_CASE("run leaves nothing behind") {
//     support::LeakCheck nothing_left;   // first, so that it looks last: when the test case ends
//     subprocess::run({"true"});
//   }
//
// Or at a point of one's choosing: nothing_left.expect_clean(). Everything here asks the kernel
// alone, through /proc and /dev/shm, and trusts the library under test with nothing but its clock.
#pragma once

#include <dirent.h>
#include <pthread.h>
#include <sys/types.h>
#include <unistd.h>

#include <brood/posix/sanitizers.hpp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <set>
#include <string>

#include "catch.hpp"
#include "patience.hpp"

namespace support {

// The open descriptors of this process, each with what it points to ("pipe:[4711]", "/dev/null").
std::map<int, std::string> open_descriptors();

// The number of this process's threads, the calling one included.
std::size_t thread_count();

// The children of this process that have not been waited for, each with its name and state
// ("sleep, S"; a zombie is 'Z'). A thread's children are those of the process.
std::map<pid_t, std::string> children();

// The parent of a process; 0 when there is no such process.
pid_t parent_of(pid_t pid);

// The names in /dev/shm: shared memory and named semaphores, of every process of the machine.
std::set<std::string> shm_names();

// Compares the four with what they were when it was made. A thread that was joined or a child that
// was just waited for may take the kernel a moment to forget, so a difference is looked at again
// and again before it is believed; a clean state is seen at once. Children are compared by
// pid, descriptors by number and target; fewer threads than before are no difference. Use it in the
// main thread.
class LeakCheck {
 public:
  LeakCheck();
  // Does what expect_clean() does, unless that was called or an exception is unwinding.
  ~LeakCheck() noexcept(false);
  LeakCheck(const LeakCheck&) = delete;
  LeakCheck& operator=(const LeakCheck&) = delete;

  // Fails the test case, showing the difference, if there is one.
  void expect_clean();

  // The difference now, a line each ("descriptor 5 left open: pipe:[4711]"); empty if there is
  // none.
  std::string difference() const;

  // The same after waiting for it to become empty.
  std::string settled_difference() const;

 private:
  std::map<int, std::string> descriptors_;
  std::size_t threads_;
  std::map<pid_t, std::string> children_;
  std::set<std::string> names_;
  int unwinding_ = std::uncaught_exceptions();
  bool done_ = false;
};

// Calls f(name) for each entry of a directory but . and .. (and the directory's own descriptor,
// if it is this process's /proc/self/fd).
template <class F>
void for_each_entry(const char* directory, F f) {
  DIR* dir = ::opendir(directory);
  if (dir == nullptr) return;
  const std::string own = std::to_string(::dirfd(dir));
  const bool lists_descriptors = std::strcmp(directory, "/proc/self/fd") == 0;
  while (const dirent* entry = ::readdir(dir)) {
    const char* name = entry->d_name;
    if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
    if (lists_descriptors && own == name) continue;
    f(name);
  }
  ::closedir(dir);
}

inline std::map<int, std::string> open_descriptors() {
  std::map<int, std::string> found;
  for_each_entry("/proc/self/fd", [&](const char* name) {
    char target[512];
    const std::string link = std::string("/proc/self/fd/") + name;
    const ssize_t size = ::readlink(link.c_str(), target, sizeof target);
    found[std::atoi(name)] = std::string(target, size > 0 ? static_cast<std::size_t>(size) : 0);
  });
  return found;
}

// ThreadSanitizer starts a thread of its own with the first thread of the program. This has it done
// before threads are counted, once, and returns when the thread used for it is gone.
inline void start_sanitizer_thread() {
  if (!brood::posix::thread_sanitized) return;
  static const bool started = [] {
    static pid_t tid;
    const auto note_tid = [](void* result) {
      tid = ::gettid();
      return result;
    };
    pthread_t thread;
    if (::pthread_create(&thread, nullptr, note_tid, nullptr) != 0) return false;
    ::pthread_join(thread, nullptr);
    const std::string task = "/proc/self/task/" + std::to_string(tid);
    return eventually([&] { return ::access(task.c_str(), F_OK) != 0; });
  }();
  static_cast<void>(started);
}

inline std::size_t thread_count() {
  start_sanitizer_thread();
  std::size_t count = 0;
  for_each_entry("/proc/self/task", [&](const char*) { ++count; });
  return count;
}

// What /proc/PID/stat tells.
struct ProcessLine {
  pid_t parent = 0;  // 0: there is no such process
  std::string what;  // its name and state
};
inline ProcessLine process_line(const char* pid) {
  std::FILE* stat = std::fopen((std::string("/proc/") + pid + "/stat").c_str(), "re");
  if (stat == nullptr) return {};
  char line[512] = {};
  const std::size_t size = std::fread(line, 1, sizeof line - 1, stat);
  std::fclose(stat);
  line[size] = '\0';
  // pid (name) state ppid ...; the name may hold anything, so its end is the last parenthesis.
  const char* open = std::strchr(line, '(');
  const char* close = std::strrchr(line, ')');
  char state = '?';
  int parent = 0;
  if (open == nullptr || close == nullptr || close < open) return {};
  if (std::sscanf(close + 1, " %c %d", &state, &parent) != 2) return {};
  return {parent, std::string(open + 1, close) + ", " + state};
}

inline pid_t parent_of(pid_t pid) { return process_line(std::to_string(pid).c_str()).parent; }

inline std::map<pid_t, std::string> children() {
  // From each process's stat, not from /proc/self/task/*/children, which not every kernel has.
  std::map<pid_t, std::string> found;
  for_each_entry("/proc", [&](const char* name) {
    if (name[0] < '0' || name[0] > '9') return;
    const ProcessLine line = process_line(name);
    if (line.parent == ::getpid()) found[std::atoi(name)] = line.what;
  });
  return found;
}

inline std::set<std::string> shm_names() {
  std::set<std::string> found;
  for_each_entry("/dev/shm", [&](const char* name) { found.insert(name); });
  return found;
}

inline LeakCheck::LeakCheck()
    : descriptors_(open_descriptors()),
      threads_(thread_count()),
      children_(children()),
      names_(shm_names()) {}

inline LeakCheck::~LeakCheck() noexcept(false) {
  if (!done_ && std::uncaught_exceptions() == unwinding_) expect_clean();
}

inline void LeakCheck::expect_clean() {
  done_ = true;
  CHECK(settled_difference() == "");
}

inline std::string LeakCheck::difference() const {
  std::string text;
  const auto descriptors = open_descriptors();
  for (const auto& [fd, target] : descriptors) {
    const auto before = descriptors_.find(fd);
    if (before == descriptors_.end()) {
      text += "descriptor " + std::to_string(fd) + " left open: " + target + "\n";
    } else if (before->second != target) {
      text += "descriptor " + std::to_string(fd) + " was " + before->second + " and is " + target +
              "\n";
    }
  }
  for (const auto& [fd, target] : descriptors_) {
    if (descriptors.count(fd) == 0) {
      text += "descriptor " + std::to_string(fd) + " was closed: " + target + "\n";
    }
  }
  if (const std::size_t threads = thread_count(); threads > threads_) {
    text +=
        "threads: " + std::to_string(threads_) + " before, " + std::to_string(threads) + " after\n";
  }
  for (const auto& [pid, what] : children()) {
    if (children_.count(pid) == 0) {
      text += "child " + std::to_string(pid) + " left behind: " + what + "\n";
    }
  }
  for (const auto& name : shm_names()) {
    if (names_.count(name) == 0) text += "name left behind: /dev/shm/" + name + "\n";
  }
  return text;
}

inline std::string LeakCheck::settled_difference() const {
  std::string text;
  eventually([&] { return (text = difference()).empty(); });
  return text;
}

}  // namespace support
