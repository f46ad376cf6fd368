// SPDX-License-Identifier: MIT
// The calls that run a program to its end.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "popen.hpp"

namespace brood::subprocess {

/// A program that has ended.
struct CompletedProcess {
  std::vector<std::string> args = {};  ///< the command as given
  int returncode = 0;                  ///< 0 to 255, or -N: killed by signal N
  std::string out = {};                ///< what was captured; empty for a stream that was not
  std::string err = {};
  Usage usage = {};

  /// Throws CalledProcessError unless the code is 0.
  void check_returncode() const {
    if (returncode != 0) throw CalledProcessError{returncode, args, out, err};
  }
};

/// Each runs a command and waits for its end. What Popen throws, they throw; and TimeoutExpired,
/// with what was captured, when Options::timeout ends first: the child is killed then, and the call
/// returns at once even if another process holds its pipes. Any other exception (of a sink, say)
/// kills the child too. All may be called from several threads at once.

/// With .capture_output, or PIPE for a stream, gives what the program wrote. `check` makes it throw
/// CalledProcessError.
inline CompletedProcess run(Command command, Options options = {});

/// The code. Not to be used with PIPE, which nobody would read. Python: call.
inline int call(Command command, Options options = {});

/// 0; throws CalledProcessError otherwise. Python: check_call.
inline int check_call(Command command, Options options = {});

/// What the program wrote to its standard output; throws CalledProcessError for a code other
/// than 0. .err = STDOUT collects both. Python: check_output.
inline std::string check_output(Command command, Options options = {});

/// What a shell line wrote to both outputs, without the last newline, whatever its code.
inline std::string getoutput(std::string_view shell_line);

/// The code, then the same.
inline std::pair<int, std::string> getstatusoutput(std::string_view shell_line);

/// The end of a Popen within a time: the work of the calls above.
class Conclusion {
 public:
  explicit Conclusion(Popen& popen, Timeout timeout) : popen_{popen}, timeout_{timeout} {}

  /// Starts what will be concluded with `timeout`, where no other thread can know of it.
  static Popen start(const Command& command, const Options& options, Timeout timeout) {
    Popen popen;
    popen.start(command, options,
                timeout.is_forever() && !options.kill_tree &&
                    options.out.kind() != Stdio::Kind::sink &&
                    options.err.kind() != Stdio::Kind::sink);
    return popen;
  }

  /// As Popen::communicate, but no child is left running when it throws.
  std::pair<std::string, std::string> communicate(std::string_view input) {
    try {
      if (popen_.exchange(input, posix::Deadline{timeout_})) return collected();
    } catch (...) {
      kill();
      throw;
    }
    kill();
    Popen::Lend lend{popen_};
    popen_.state_->exchange.drain();
    auto [out, err] = collected();
    throw TimeoutExpired{popen_.args(), timeout_, std::move(out), std::move(err)};
  }

  int wait() {
    try {
      return popen_.wait(timeout_);
    } catch (...) {
      kill();
      throw;
    }
  }

  /// Kills and reaps. A child that even SIGKILL does not reach in time (a system call that hangs;
  /// another user's) is left to itself rather than waited for.
  void kill() {
    try {
      popen_.kill();
    } catch (const os::OSError&) {
    }
    try {
      if (!popen_.state_->child.wait(posix::Deadline{std::chrono::nanoseconds{250'000'000}}))
        popen_.detach();
    } catch (const os::ChildProcessError&) {  // it has ended; somebody else has waited for it
    }
  }

 private:
  std::pair<std::string, std::string> collected() {
    Exchange& exchange = popen_.state_->exchange;
    return {exchange.out.collected.take(), exchange.err.collected.take()};
  }

  Popen& popen_;
  Timeout timeout_;
};

/// The fields that run() itself takes; what is left is for Popen.
struct RunOptions {
  std::string input;
  Timeout timeout;
  bool check;
};

inline RunOptions take_run_options(const char* call, Options& options) {
  if (options.input) {
    reject_option(!options.in.is(INHERIT), call, "in", "and .input cannot both be given");
    options.in = PIPE;
  }
  if (options.capture_output) {
    const char* const why = "cannot be given together with .capture_output";
    reject_option(!options.out.is(INHERIT), call, "out", why);
    reject_option(!options.err.is(INHERIT), call, "err", why);
    options.out = PIPE;
    options.err = PIPE;
    options.capture_output = false;
  }
  RunOptions taken{{}, options.timeout, options.check};
  if (options.input) taken.input.swap(*options.input);
  options.input.reset();
  options.timeout = forever;
  options.check = false;
  return taken;
}

inline CompletedProcess run(Command command, Options options) {
  const RunOptions own = take_run_options("run", options);
  Popen popen = Conclusion::start(command, options, own.timeout);
  auto [out, err] = Conclusion{popen, own.timeout}.communicate(own.input);
  const int code = popen.returncode().value_or(0);
  CompletedProcess result{popen.args(), code, std::move(out), std::move(err), popen.usage()};
  if (own.check) result.check_returncode();
  return result;
}

inline int call(Command command, Options options) {
  const Timeout timeout = options.timeout;
  options.timeout = forever;
  reject_option(options.input.has_value(), "call", "input", "is for run and check_output");
  reject_option(options.capture_output, "call", "capture_output", "is for run");
  reject_option(options.check, "call", "check", "is for run; use check_call");
  const char* const nobody = "can't be PIPE, as nobody is at its other end; use run or Popen";
  reject_option(options.in.is(PIPE), "call", "in", nobody);
  reject_option(options.out.is(PIPE), "call", "out", nobody);
  reject_option(options.err.is(PIPE), "call", "err", nobody);
  Popen popen = Conclusion::start(command, options, timeout);
  return Conclusion{popen, timeout}.wait();
}

inline int check_call(Command command, Options options) {
  std::vector<std::string> args = command.args();
  const int code = call(std::move(command), std::move(options));
  if (code != 0) throw CalledProcessError{code, std::move(args)};
  return code;
}

inline std::string check_output(Command command, Options options) {
  const char* const why = "is not for check_output, which sets it itself";
  reject_option(!options.out.is(INHERIT), "check_output", "out", why);
  reject_option(options.check, "check_output", "check", why);
  reject_option(options.capture_output, "check_output", "capture_output", why);
  options.out = PIPE;
  options.check = true;
  return run(std::move(command), std::move(options)).out;
}

inline std::string getoutput(std::string_view shell_line) {
  return getstatusoutput(shell_line).second;
}

inline std::pair<int, std::string> getstatusoutput(std::string_view shell_line) {
  CompletedProcess process = run(shell_line, {.out = PIPE, .err = STDOUT, .shell = true});
  if (!process.out.empty() && process.out.back() == '\n') process.out.pop_back();
  return {process.returncode, std::move(process.out)};
}

}  // namespace brood::subprocess
