// SPDX-License-Identifier: MIT
// Several programs, the output of each the input of the next.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "run.hpp"

namespace brood::subprocess {

struct CompletedPipeline {
  std::vector<int> returncodes = {};  ///< of each program, in order; -N: killed by signal N
  std::string out = {};               ///< what the last one wrote, if captured
  std::string err = {};               ///< what all of them wrote, if captured, as it came
};

/// Runs commands as a shell's a | b | c. Takes the options of run() but executable: input and in
/// are for the first program, out for the last, everything else for each of them; `check` throws
/// for the last one in the row with a code other than 0. What run() throws, it throws, and no
/// program is left running then. Python has no counterpart in the module. (A template so that only
/// who calls it has the compiler write the code of a vector of commands.)
template <class Commands = std::vector<Command>>
CompletedPipeline pipeline(std::type_identity_t<Commands> commands, Options options = {});

/// The programs of a pipeline and the data that pass through our hands.
class Pipeline {
 public:
  Pipeline(const Command* commands, std::size_t size, Options&& options)
      : commands_{commands}, size_{size}, options_{std::move(options)} {}
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;
  ~Pipeline() { delete[] programs_; }

  void start() {
    programs_ = new Popen[size_];
    try {
      start_all();
    } catch (...) {
      end_all();
      throw;
    }
  }

  bool run(std::string_view input, const posix::Deadline& deadline) {
    try {
      exchange_.set_input(input);
      bool done = exchange_.run(deadline);
      for (std::size_t i = 0; i < started_; ++i) done = done && has_ended(programs_[i], deadline);
      if (done) return true;
    } catch (...) {
      end_all();
      throw;
    }
    end_all();
    exchange_.drain();
    return false;
  }

  /// Of those that were started, as a CompletedPipeline. (A template for its vector, too.)
  template <class Result>
  Result result() {
    Result result;
    for (std::size_t i = 0; i < started_; ++i)
      result.returncodes.push_back(programs_[i].returncode().value_or(0));
    result.out = exchange_.out.collected.take();
    result.err = exchange_.err.collected.take();
    return result;
  }

 private:
  void start_all() {
    // All programs have the same err, so it is opened once, here.
    posix::unique_fd err;
    if (options_.err.is(PIPE) || options_.err.kind() == Stdio::Kind::sink) {
      err = take_stream(exchange_.err, options_.err);
    } else if (options_.err.kind() == Stdio::Kind::file) {
      err = posix::open_file(options_.err.path().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
    }
    if (err) options_.err = err.get();
    const Stdio out = options_.out;
    posix::unique_fd previous;
    for (const Command* command = commands_; command != commands_ + size_; ++command) {
      posix::PipeEnds link;
      posix::unique_fd last;
      if (command + 1 != commands_ + size_) {
        link = posix::make_pipe();
        options_.out = link.write.get();
      } else if (out.is(PIPE) || out.kind() == Stdio::Kind::sink) {
        last = take_stream(exchange_.out, out);
        options_.out = last.get();
      } else {
        options_.out = out;
      }
      Popen& program = programs_[started_];
      program.start(*command, options_);
      if (started_++ == 0) exchange_.in = std::move(program.in);
      previous = std::move(link.read);
      options_.in = previous.get();
    }
  }

  // The writing end of a pipe that `intake` reads.
  posix::unique_fd take_stream(Intake& intake, const Stdio& stdio) const {
    posix::PipeEnds pipe = posix::make_pipe();
    if (options_.pipesize && !posix::try_set_pipe_size(pipe.read.get(), *options_.pipesize))
      posix::throw_errno("set the size of a pipe");
    intake.may_grow_pipe = !options_.pipesize;
    intake.sink = stdio.sink();
    intake.reader = Reader{std::move(pipe.read)};
    return std::move(pipe.write);
  }

  static bool has_ended(Popen& program, const posix::Deadline& deadline) {
    try {
      program.wait(deadline.timeout());
      return true;
    } catch (const TimeoutExpired&) {
      return false;
    }
  }

  void end_all() {
    for (std::size_t i = 0; i < started_; ++i) Conclusion{programs_[i], forever}.kill();
  }

  const Command* const commands_;
  const std::size_t size_;
  Options options_;
  Popen* programs_ = nullptr;  // as many as there are commands, of which the first started_ run
  std::size_t started_ = 0;
  Exchange exchange_;
};

template <class Commands>
CompletedPipeline pipeline(std::type_identity_t<Commands> commands, Options options) {
  if (commands.empty()) throw std::invalid_argument{"pipeline: there is no command"};
  reject_option(!options.executable.empty(), "pipeline", "executable", "is for one program");
  const RunOptions own = take_run_options("pipeline", options);
  std::string line;
  for (const Command& command : commands) {
    if (!line.empty()) line += " | ";
    line += command.args().size() == 1 ? command.args().front() : shell_join(command.args());
  }
  Pipeline programs{commands.data(), commands.size(), std::move(options)};
  programs.start();
  const bool done = programs.run(own.input, posix::Deadline{own.timeout});
  auto result = programs.result<CompletedPipeline>();
  if (!done) throw TimeoutExpired{{line}, own.timeout, result.out, result.err};
  if (own.check)
    for (std::size_t i = commands.size(); i-- > 0;)
      if (result.returncodes[i] != 0)
        throw CalledProcessError{result.returncodes[i], commands[i].args(), result.out, result.err};
  return result;
}

}  // namespace brood::subprocess
