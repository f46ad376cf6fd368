// SPDX-License-Identifier: MIT
//
// What the tests of shared state have in common: processes that are started at once, stopped or
// killed on the way, and joined at the end.
#pragma once

#include <sched.h>
#include <signal.h>

#include <atomic>
#include <brood/multiprocessing/process.hpp>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"

namespace support {

namespace mp = brood::multiprocessing;
using namespace std::chrono_literals;

// The letter for what a process does: 'S' sleeps, 'T' is stopped.
inline char state_of(pid_t pid) {
  std::FILE* const file = std::fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "re");
  if (file == nullptr) return '?';
  char line[256] = {};
  const std::size_t size = std::fread(line, 1, sizeof line - 1, file);
  std::fclose(file);
  line[size] = '\0';
  const char* const name_end = std::strrchr(line, ')');
  return name_end == nullptr ? '?' : name_end[2];
}

class Team {
 public:
  Team() = default;
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() {
    for (const auto& process : processes_) {
      process.kill();
      process.join();
    }
  }

  // Starts `count` processes that call `work()`; one that throws ends with exit code 1.
  template <class F>
  void add(int count, F work) {
    for (int i = 0; i < count; ++i) {
      processes_.push_back(make(work));
    }
  }
  // Kills one and starts another in its place.
  template <class F>
  void replace(std::size_t which, F work) {
    kill(which);
    processes_[which] = make(work);
  }

  pid_t pid(std::size_t which) const { return processes_[which].pid(); }
  std::size_t size() const { return processes_.size(); }
  void kill(std::size_t which) const {
    processes_[which].kill();
    processes_[which].join();
  }
  void stop(std::size_t which) const {
    ::kill(pid(which), SIGSTOP);
    await_state(which, 'T');
  }
  void resume(std::size_t which) const { ::kill(pid(which), SIGCONT); }
  void await_state(std::size_t which, char state) const {
    while (state_of(pid(which)) != state) ::sched_yield();
  }
  void await_asleep() const {
    for (std::size_t i = 0; i < processes_.size(); ++i) await_state(i, 'S');
  }

  // False if one of those that were not killed does not end, or fails.
  bool join() { return join_for(patience); }
  bool join_for(brood::Timeout limit) {
    bool all = true;
    for (const auto& process : processes_)
      all =
          process.join(limit) && (process.exitcode() == 0 || process.exitcode() == -SIGKILL) && all;
    if (all) processes_.clear();
    return all;
  }

 private:
  template <class F>
  static mp::Process make(F work) {
    mp::Process process([work] {
      ::alarm(support::last_alarm);
      work();
    });
    process.start();
    return process;
  }

  std::vector<mp::Process> processes_;
};

// Whether f throws a std::logic_error, for processes that must not assert themselves.
template <class F>
bool is_logic_error(F f) {
  return throws<std::logic_error>(f);
}

}  // namespace support
