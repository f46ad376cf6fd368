// SPDX-License-Identifier: MIT
//
// What this process writes to stderr meanwhile:
//
//   support::CapturedStderr captured;
//   ...
//   CHECK(captured.text() == "...");
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

namespace support {

class CapturedStderr {
 public:
  CapturedStderr()
      : saved_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)),
        file_(::memfd_create("stderr", MFD_CLOEXEC)) {
    ::dup2(file_, STDERR_FILENO);
  }
  ~CapturedStderr() {
    ::dup2(saved_, STDERR_FILENO);
    ::close(saved_);
    ::close(file_);
  }
  CapturedStderr(const CapturedStderr&) = delete;
  CapturedStderr& operator=(const CapturedStderr&) = delete;

  // What was written up to now.
  std::string text() const {
    ::fflush(stderr);
    std::string text;
    char buffer[4096];
    for (off_t at = 0;;) {
      const ssize_t size = ::pread(file_, buffer, sizeof buffer, at);
      if (size <= 0) return text;
      text.append(buffer, static_cast<std::size_t>(size));
      at += size;
    }
  }

 private:
  int saved_;
  int file_;
};

}  // namespace support
