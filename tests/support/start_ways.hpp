// SPDX-License-Identifier: MIT
//
// Running a test case once for each way in which brood starts programs:
//
//   TEST_CASE("run returns the exit code") {
//     const auto way = support::each_start_way();
//     CHECK(subprocess::run({"false"}).returncode == 1);
//   }
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <brood/posix/spawn.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "catch.hpp"

namespace support {

// Takes one way for a scope.
class StartWay {
 public:
  explicit StartWay(brood::posix::SpawnWay way) : before_{brood::posix::forced_spawn_way} {
    brood::posix::forced_spawn_way = way;
  }
  ~StartWay() { brood::posix::forced_spawn_way = before_; }
  StartWay(const StartWay&) = delete;
  StartWay& operator=(const StartWay&) = delete;

 private:
  brood::posix::SpawnWay before_;
};

inline StartWay each_start_way() {
  using brood::posix::SpawnWay;
  return StartWay{GENERATE(SpawnWay::clone, SpawnWay::posix_spawn, SpawnWay::fork)};
}

// The exit code of a forked copy of this process that runs `f` and returns its int; 99 if it throws
// and -N if signal N ended it. For what a test cannot do to its own process.
template <class F>
int in_child(F f) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    int code = 99;
    try {
      code = f();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "in_child: %s\n", error.what());
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

// A directory of its own, removed with all in it at the end of the scope.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/brood-test-XXXXXX";
    if (::mkdtemp(name) != nullptr) path_ = name;
  }
  ~TemporaryDirectory() {
    if (!path_.empty() && std::system(("rm -rf '" + path_ + "'").c_str()) != 0) std::perror("rm");
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::string text;
  std::FILE* const file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return text;
  char buffer[4096];
  for (std::size_t size = 0; (size = std::fread(buffer, 1, sizeof buffer, file)) > 0;)
    text.append(buffer, size);
  std::fclose(file);
  return text;
}

}  // namespace support
