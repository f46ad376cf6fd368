// SPDX-License-Identifier: MIT
// From Command and Options to a running child: the checks, the redirections, the start.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

#include "../posix/pipe.hpp"
#include "../posix/spawn.hpp"
#include "popen.hpp"

namespace brood::subprocess {

/// Throws the std::invalid_argument for a field that `call` does not take.
inline void reject_option(bool given, const char* call, const char* field, const char* why) {
  if (given) throw std::invalid_argument{std::string{call} + ": ." + field + " " + why};
}

/// A NUL would end the text early in the child.
inline void reject_nul(std::string_view text, const char* what) {
  if (text.find('\0') != std::string_view::npos)
    throw std::invalid_argument{std::string{what} + " has a NUL character in it: '" +
                                std::string{text.substr(0, text.find('\0'))} + "...'"};
}

/// One start: what the child gets, and our ends of it.
class Start {
 public:
  Start(const Command& command, const Options& options, bool is_waited_for) : options_{options} {
    check(command);
    fill_request(command);
    request_.pidfd = !is_waited_for || posix::thread_sanitized;
    redirect(0, options.in, "in");
    redirect(1, options.out, "out");
    redirect(2, options.err, "err");
  }

  posix::Spawned run() {
    try {
      return posix::spawn(request_);
    } catch (const posix::PreexecError& error) {
      throw SubprocessError{std::string{"Exception occurred in preexec: "} + error.what()};
    }
  }

  /// What is in the environment of the child's descendants, with kill_tree.
  const std::string& mark() const noexcept { return mark_; }

  /// Our end of stream `target`'s pipe.
  posix::unique_fd take_end(int target) noexcept { return std::move(ours_[target]); }

 private:
  void check(const Command& command) const;
  void check_descriptor(const Stdio& stdio, const char* field) const;
  void fill_request(const Command& command);
  void fill_environment(const os::Environment& variables);
  void mark_environment();
  void redirect(int target, const Stdio& stdio, const char* field);

  const Options& options_;
  posix::SpawnRequest request_;
  std::string environment_;
  posix::PointerList pointers_;
  posix::PointerList marked_pointers_;
  std::string marked_variable_;
  std::string mark_;
  posix::unique_fd ours_[3];
  posix::unique_fd theirs_[3];  // until the child has its copies
};

inline void Start::check(const Command& command) const {
  if (command.args().empty() || command.args().front().empty())
    throw std::invalid_argument{"Popen: the command is empty"};
  reject_option(options_.shell && command.is_path(), "Popen", "shell",
                "does not go with a path, which is no shell line");
  for (const std::string& argument : command.args()) reject_nul(argument, "Popen: an argument");
  reject_nul(options_.executable, "Popen: .executable");
  reject_nul(options_.cwd, "Popen: .cwd");
  if (options_.env) {
    for (const auto& [name, value] : *options_.env) {
      reject_nul(name, "Popen: a name in .env");
      reject_nul(value, "Popen: a value in .env");
      if (name.find('=') != std::string::npos)
        throw std::invalid_argument{"Popen: a name in .env has a '=' in it: '" + name + "'"};
    }
  }
  // Before any descriptor is made here: a closed number could become one of ours.
  check_descriptor(options_.in, "in");
  check_descriptor(options_.out, "out");
  check_descriptor(options_.err, "err");
  if (options_.err.is(STDOUT) && options_.out.is(INHERIT)) check_descriptor(1, "out");
  for (const int fd : options_.pass_fds) {
    if (fd < 0)
      throw std::invalid_argument{"Popen: .pass_fds has the negative descriptor " +
                                  std::to_string(fd)};
    if (::fcntl(fd, F_GETFD) < 0) posix::throw_errno("pass on descriptor", std::to_string(fd));
  }
  reject_option(options_.in.is(STDOUT), "Popen", "in", "cannot be STDOUT, which is for err");
  reject_option(options_.out.is(STDOUT), "Popen", "out", "cannot be STDOUT, which is for err");
  reject_option(options_.in.kind() == Stdio::Kind::append, "Popen", "in", "cannot be append()");
  reject_option(options_.in.kind() == Stdio::Kind::sink, "Popen", "in", "cannot be a sink");
  reject_option(options_.user == static_cast<uid_t>(-1), "Popen", "user", "is not a user id");
  reject_option(options_.group == static_cast<gid_t>(-1), "Popen", "group", "is not a group id");
  if (options_.extra_groups)
    for (const gid_t group : *options_.extra_groups)
      reject_option(group == static_cast<gid_t>(-1), "Popen", "extra_groups",
                    "has an element that is not a group id");
  reject_option(options_.umask && *options_.umask > 0777, "Popen", "umask", "is above 0777");
  reject_option(options_.pipesize && *options_.pipesize <= 0, "Popen", "pipesize",
                "is not positive");
  reject_option(options_.process_group && *options_.process_group < 0, "Popen", "process_group",
                "is negative");
  reject_option(options_.parent_death_signal &&
                    (*options_.parent_death_signal <= 0 || *options_.parent_death_signal >= NSIG),
                "Popen", "parent_death_signal", "is not a signal");
}

inline void Start::check_descriptor(const Stdio& stdio, const char* field) const {
  reject_nul(stdio.path(), "Popen: a file's name");
  if (stdio.kind() != Stdio::Kind::descriptor) return;
  reject_option(stdio.fd() < 0, "Popen", field, "is a negative descriptor");
  if (::fcntl(stdio.fd(), F_GETFD) < 0)
    posix::throw_errno((std::string{"use as the child's "} + field + " descriptor").c_str(),
                       std::to_string(stdio.fd()));
}

inline void Start::fill_request(const Command& command) {
  const std::vector<std::string>& args = command.args();
  const char* const program = options_.executable.empty()
                                  ? options_.shell ? "/bin/sh" : args.front().c_str()
                                  : options_.executable.c_str();
  request_.executable = program;
  if (options_.shell) {
    request_.argv.push_back(program);
    request_.argv.push_back("-c");
  }
  for (const std::string& argument : args) request_.argv.push_back(argument.c_str());
  if (options_.env) fill_environment(*options_.env);
  if (options_.kill_tree) mark_environment();
  request_.close_fds = options_.close_fds || !options_.pass_fds.empty();
  request_.pass_fds = &options_.pass_fds;
  request_.cwd = options_.cwd;
  request_.restore_signals = options_.restore_signals;
  request_.new_session = options_.start_new_session;
  request_.process_group = options_.process_group;
  request_.limits = &options_.limits;
  request_.umask = options_.umask;
  if (options_.extra_groups) request_.extra_groups = &*options_.extra_groups;
  request_.group = options_.group;
  request_.user = options_.user;
  request_.parent_death_signal = options_.parent_death_signal.value_or(0);
  request_.preexec = options_.preexec;
}

inline void Start::fill_environment(const os::Environment& variables) {
  for (const auto& variable : variables) {
    environment_ += variable.first;
    environment_ += '=';
    environment_ += variable.second;
    environment_ += '\0';
  }
  for (std::size_t at = 0; at < environment_.size(); at = environment_.find('\0', at) + 1)
    pointers_.push_back(environment_.c_str() + at);
  request_.environment = &pointers_;
}

// Adds a variable that the child's descendants will have too, behind what a tree around this one
// may have put there.
inline void Start::mark_environment() {
  static unsigned long count = 0;
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  mark_ = ":" + std::to_string(::getpid()) + "-" + std::to_string(now.tv_sec) + "-" +
          std::to_string(now.tv_nsec) + "-" +
          std::to_string(__atomic_fetch_add(&count, 1, __ATOMIC_RELAXED)) + ":";
  marked_variable_ = "BROOD_TREE=" + mark_;
  // In a second list, since the first is read meanwhile.
  for (char* const* variable = request_.environment == nullptr ? ::environ : pointers_.data();
       variable != nullptr && *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, "BROOD_TREE=", 11) == 0)
      marked_variable_ += *variable + 11;
    else
      marked_pointers_.push_back(*variable);
  }
  marked_pointers_.push_back(marked_variable_.c_str());
  request_.environment = &marked_pointers_;
}

inline void Start::redirect(int target, const Stdio& stdio, const char* field) {
  int& child_end = request_.stdio[target];
  const bool is_input = target == 0;
  switch (stdio.kind()) {
    case Stdio::Kind::descriptor:
      child_end = stdio.fd();
      return;
    case Stdio::Kind::file:
      theirs_[target] = posix::open_file(stdio.path().c_str(),
                                         is_input ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC);
      break;
    case Stdio::Kind::append:
      theirs_[target] = posix::open_file(stdio.path().c_str(), O_WRONLY | O_CREAT | O_APPEND);
      break;
    case Stdio::Kind::redirect:
      if (stdio.is(INHERIT)) return;
      if (stdio.is(STDOUT)) {
        child_end = request_.stdio[1] < 0 ? 1 : request_.stdio[1];
        return;
      }
      if (stdio.is(DEVNULL)) {
        theirs_[target] = posix::open_file("/dev/null", O_RDWR);
        break;
      }
      [[fallthrough]];
    case Stdio::Kind::sink:
      posix::PipeEnds pipe = posix::make_pipe();
      if (options_.pipesize && !posix::try_set_pipe_size(pipe.read.get(), *options_.pipesize))
        posix::throw_errno("set the size of the pipe for the child's", field);
      ours_[target] = std::move(is_input ? pipe.write : pipe.read);
      theirs_[target] = std::move(is_input ? pipe.read : pipe.write);
      break;
  }
  child_end = theirs_[target].get();
}

inline Popen::Popen(Command command, Options options) {
  reject_option(options.input.has_value(), "Popen", "input", "is for run and check_output");
  reject_option(options.capture_output, "Popen", "capture_output", "is for run");
  reject_option(!options.timeout.is_forever(), "Popen", "timeout",
                "is for run, call, check_call and check_output; use wait or communicate");
  reject_option(options.check, "Popen", "check", "is for run");
  start(command, options);
}

inline void Popen::start(const Command& command, const Options& options, bool is_waited_for) try {
  Start starting{command, options, is_waited_for};
  std::vector<std::string> args = command.args();
  posix::Spawned spawned = starting.run();
  // What follows can fail for lack of memory, or in the copying of a sink; the child must not be
  // left then.
  try {
    state_ = posix::make_ref<State>(spawned.pid, std::move(spawned.pidfd), std::move(args));
    state_->tree_mark = starting.mark();
    state_->is_private = is_waited_for;
    state_->may_grow_pipes = !options.pipesize;
    for (Intake* const intake : {&state_->exchange.out, &state_->exchange.err})
      intake->may_grow_pipe = state_->may_grow_pipes;
    state_->exchange.out.sink = options.out.sink();
    state_->exchange.err.sink = options.err.sink();
  } catch (...) {
    posix::kill_and_reap(spawned.pid);
    state_ = nullptr;
    throw;
  }
  in = Writer{starting.take_end(0)};
  Exchange& exchange = state_->exchange;
  (exchange.out.sink ? exchange.out.reader : out) = Reader{starting.take_end(1)};
  (exchange.err.sink ? exchange.err.reader : err) = Reader{starting.take_end(2)};
} catch (const os::OSError& error) {
  if (error.code().value() != EMFILE && error.code().value() != ENFILE) throw;
  posix::throw_within("start '" + command.args().front() + "'", error);
}

}  // namespace brood::subprocess
