// SPDX-License-Identifier: MIT
//
// Programs that run out of descriptors. Each is one of its own: see support::program().
#pragma once

#include <sys/resource.h>

#include <brood/posix/error.hpp>
#include <brood/posix/fd.hpp>
#include <cerrno>
#include <string>

#include "support/programs.hpp"

namespace support {

// While it is there, new descriptors have numbers below `end`.
class DescriptorsBelow {
 public:
  explicit DescriptorsBelow(int end) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit fewer{static_cast<rlim_t>(end), before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &fewer);
  }
  ~DescriptorsBelow() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  DescriptorsBelow(const DescriptorsBelow&) = delete;
  DescriptorsBelow& operator=(const DescriptorsBelow&) = delete;

 private:
  rlimit before_{};
};

// The number that the next descriptor gets.
inline int next_descriptor() { return brood::posix::duplicate(0).get(); }

// Takes all numbers below the highest that the program has in use, and returns the next one.
inline int fill_descriptors() {
  int next = 0;
  while (next < report_to) next = ::dup(0);
  ::close(next);
  return next;
}

// Calls f with no descriptor to spare, with one, and so on until it is no error for want of them;
// after each that was look(what), with the error's text. Returns how many those were.
template <class F, class Look>
int starve(F f, Look look) {
  const int next = fill_descriptors();
  for (int spare = 0;; ++spare) {
    std::string what;
    try {
      const DescriptorsBelow few{next + spare};
      f();
      return spare;
    } catch (const brood::os::OSError& error) {
      if (error.code().value() != EMFILE) throw;
      what = error.what();
    }
    look(what);
  }
}

}  // namespace support
