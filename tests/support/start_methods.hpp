// SPDX-License-Identifier: MIT
//
// For test programs whose processes start by other methods than fork. Including it has
// freeze_support() called at the start of main(). What such a process is to do and to meet crosses
// as arguments. (The board is found by all of them.)
//
// The method that is used where none is named may be set by the environment, so that all of a
// program's tests are run by it:
//
//   BROOD_TEST_START_METHOD=spawn test_multiprocessing_pool
#pragma once

#include <sys/prctl.h>
#include <unistd.h>

#include <brood/multiprocessing.hpp>
#include <brood/subprocess.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "support/catch.hpp"
#include "support/programs.hpp"

namespace support {

using brood::multiprocessing::StartMethod;

extern void (*begin_main)();  // main.cpp

inline constexpr StartMethod start_methods[] = {StartMethod::fork, StartMethod::forkserver,
                                                StartMethod::spawn};

inline const char* name_of(StartMethod method) {
  constexpr const char* names[] = {"fork", "forkserver", "spawn"};
  return names[static_cast<int>(method)];
}

inline StartMethod each_start_method() {
  return GENERATE(StartMethod::fork, StartMethod::forkserver, StartMethod::spawn);
}

// A program that a test runs: this one, executed anew, which calls `body` in place of the tests and
// ends by a return from main() with what that gives. Each is a static object.
class OwnProgram {
 public:
  enum class Call { freeze_support, nothing };

  OwnProgram(const char* name, int (*body)(), Call first = Call::freeze_support)
      : name_{name}, body_{body}, first_{first}, next_{all} {
    all = this;
  }

  // Starts it with an empty standard input and a pipe for what it writes to 1 and 2. `variables` go
  // into its environment. With `group` 0 it has a process group of its own.
  brood::subprocess::Popen start(const brood::os::Environment& variables = {},
                                 std::optional<pid_t> group = {}) const {
    auto environment = brood::os::environ_copy();
    for (const auto& [name, value] : variables) environment[name] = value;
    environment[variable] = name_;
    return brood::subprocess::Popen({"/proc/self/exe"}, {.in = brood::subprocess::DEVNULL,
                                                         .out = brood::subprocess::PIPE,
                                                         .err = brood::subprocess::STDOUT,
                                                         .env = environment,
                                                         .process_group = group});
  }

  // Runs it: what it has written, and its code. Waits until nobody has that pipe any more.
  Ended run(const brood::os::Environment& variables = {}) const {
    auto program = start(variables);
    auto [out, err] = program.communicate();
    return {out, program.wait()};
  }

  // What main() begins with.
  static void begin() {
    const char* const wanted = std::getenv(variable);
    const OwnProgram* program = wanted == nullptr ? nullptr : all;
    while (program != nullptr && std::strcmp(program->name_, wanted) != 0) program = program->next_;
    if (program == nullptr || program->first_ == Call::freeze_support)
      brood::multiprocessing::freeze_support();
    if (const char* const method = std::getenv("BROOD_TEST_START_METHOD"))
      for (const StartMethod one : start_methods)
        if (std::strcmp(method, name_of(one)) == 0) brood::multiprocessing::set_start_method(one);
    if (program == nullptr) return;
    ::alarm(support::last_alarm);
    int code = 97;
    try {
      code = program->body_();
    } catch (const std::exception& error) {
      std::printf("threw %s\n", error.what());
    }
    std::exit(code);
  }

 private:
  static constexpr char variable[] = "BROOD_TEST_PROGRAM";
  static inline const OwnProgram* all = nullptr;

  const char* name_;
  int (*body_)();
  Call first_;
  const OwnProgram* next_;
};

inline const bool main_begins_so = (begin_main = &OwnProgram::begin, true);

}  // namespace support
