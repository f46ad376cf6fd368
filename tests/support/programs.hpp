// SPDX-License-Identifier: MIT
//
// What the tests of processes need: programs of their own, memory and gates shared with children.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <brood/posix/pipe.hpp>
#include <brood/posix/poll.hpp>
#include <brood/timeout.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "support/catch.hpp"
#include "support/patience.hpp"

namespace support {

// A T in memory that forked children share. They must not outlive it.
template <class T>
class Shared {
 public:
  Shared()
      : object_{new (::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                            -1, 0)) T{}} {}
  ~Shared() { ::munmap(object_, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  T& operator*() const noexcept { return *object_; }
  T* operator->() const noexcept { return object_; }

 private:
  T* object_;
};

// Processes wait at it until another one opens it for them.
class Gate {
 public:
  // Lets `count` of them through.
  void open(int count = 1) const {
    for (int i = 0; i < count; ++i) brood::posix::write_some(ends_.write.get(), "", 1);
  }
  // False when time is up.
  bool wait(brood::Timeout limit = patience) const {
    char byte;
    return brood::posix::wait_readable(ends_.read.get(), brood::posix::Deadline{limit}) &&
           brood::posix::read_some(ends_.read.get(), &byte, 1) == 1;
  }

 private:
  brood::posix::PipeEnds ends_ = brood::posix::make_pipe();
};

// Where a program under test says what happens; -1 in the test itself.
inline int report_to = -1;

inline void say(const std::string& text) {
  if (::write(report_to, text.data(), text.size()) < 0) ::_exit(98);
}

struct Ended {
  std::string said;
  int code;  // -N: by signal N
};

inline int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return -1000;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

// Runs `body` as a program of its own, by a bare fork; it ends by std::exit(3). Waits until all
// that may still say something have ended too.
template <class F>
Ended program(F body) {
  auto [read, write] = brood::posix::make_pipe();
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    read.reset();
    report_to = write.release();
    ::alarm(support::last_alarm);
    try {
      body();
    } catch (const std::exception& error) {
      say(std::string{"threw "} + error.what());
    }
    std::exit(3);
  }
  write.reset();
  Ended result{};
  char buffer[4096];
  for (ssize_t size; (size = brood::posix::read_some(read.get(), buffer, sizeof buffer)) > 0;)
    result.said.append(buffer, static_cast<std::size_t>(size));
  result.code = wait_for(pid);
  return result;
}

// "what F throws: ...", or what it says it is.
template <class Exception, class F>
bool throws(F f) {
  try {
    f();
  } catch (const Exception&) {
    return true;
  } catch (...) {
  }
  return false;
}

}  // namespace support
