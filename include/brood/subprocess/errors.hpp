// SPDX-License-Identifier: MIT
// The exceptions of brood::subprocess.
#pragma once

#include <signal.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "../posix/signals.hpp"
#include "../timeout.hpp"
#include "command.hpp"

namespace brood::subprocess {

/// Base of the exceptions below; itself thrown when Options::preexec threw in the child.
/// A program that cannot be started is an os::OSError instead.
class SubprocessError : public virtual std::runtime_error {
 public:
  explicit SubprocessError(const std::string& what) : std::runtime_error{what} {}
};

/// A program ended with a code other than 0, and that was asked about.
class CalledProcessError : public SubprocessError {
 public:
  /// `returncode` -N: killed by signal N.
  CalledProcessError(int returncode, std::vector<std::string> cmd, std::string out = {},
                     std::string err = {})
      : std::runtime_error{describe(returncode, cmd)},
        SubprocessError{std::string{}},
        returncode_{returncode},
        cmd_{std::move(cmd)},
        out_{std::move(out)},
        err_{std::move(err)} {}

  int returncode() const noexcept { return returncode_; }
  const std::vector<std::string>& cmd() const noexcept { return cmd_; }
  /// What was captured of its output; empty for a stream that was not captured.
  const std::string& out() const noexcept { return out_; }
  const std::string& err() const noexcept { return err_; }

 private:
  static std::string describe(int returncode, const std::vector<std::string>& cmd);

  int returncode_;
  std::vector<std::string> cmd_;
  std::string out_;
  std::string err_;
};

/// A program did not end in time.
class TimeoutExpired : public SubprocessError, public TimeoutError {
 public:
  TimeoutExpired(std::vector<std::string> cmd, Timeout timeout, std::string out = {},
                 std::string err = {})
      : std::runtime_error{describe(cmd, timeout)},
        SubprocessError{std::string{}},
        TimeoutError{std::string{}},
        cmd_{std::move(cmd)},
        timeout_{timeout},
        out_{std::move(out)},
        err_{std::move(err)} {}

  const std::vector<std::string>& cmd() const noexcept { return cmd_; }
  Timeout timeout() const noexcept { return timeout_; }
  /// What had been captured by then.
  const std::string& out() const noexcept { return out_; }
  const std::string& err() const noexcept { return err_; }

 private:
  static std::string describe(const std::vector<std::string>& cmd, Timeout timeout);

  std::vector<std::string> cmd_;
  Timeout timeout_;
  std::string out_;
  std::string err_;
};

inline std::string display(const std::vector<std::string>& cmd) {
  return "Command '" + (cmd.size() == 1 ? cmd.front() : shell_join(cmd)) + "'";
}

inline std::string CalledProcessError::describe(int returncode,
                                                const std::vector<std::string>& cmd) {
  if (returncode >= 0)
    return display(cmd) + " returned non-zero exit status " + std::to_string(returncode) + ".";
  const std::string name = posix::signal_name(-returncode);
  const std::string number = std::to_string(-returncode);
  if (name.empty()) return display(cmd) + " died with unknown signal " + number + ".";
  return display(cmd) + " died with " + name + " (signal " + number + ").";
}

inline std::string TimeoutExpired::describe(const std::vector<std::string>& cmd, Timeout timeout) {
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%g",
                static_cast<double>(timeout.duration().count()) / 1e9);
  return display(cmd) + " timed out after " + seconds + " seconds";
}

}  // namespace brood::subprocess
