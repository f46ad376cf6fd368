// SPDX-License-Identifier: MIT
// A running program and the calls on it.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../posix/child.hpp"
#include "../posix/process_tree.hpp"
#include "../posix/ref.hpp"
#include "../posix/signals.hpp"
#include "command.hpp"
#include "errors.hpp"
#include "exchange.hpp"
#include "options.hpp"
#include "streams.hpp"

namespace brood::subprocess {

/// What a program and those of its children that it waited for have used.
struct Usage {
  std::chrono::microseconds user{0};
  std::chrono::microseconds system{0};
  std::size_t max_rss_bytes = 0;  ///< the largest one's
};

/// A child program. poll(), wait(), the signals and the accessors may be called from several
/// threads at once; communicate(), and with a sink poll() and wait() too, by one at a time.
/// Movable, and after that every call but assignment and destruction is std::logic_error. Python
/// counterpart: Popen, as in a with block.
class Popen {
 public:
  /// Starts it and returns when the program has replaced our code in the child. Throws os::OSError
  /// that names the program, directory or file at fault; std::invalid_argument for options that do
  /// not go together; SubprocessError when preexec threw. Nothing is left then.
  /// Takes none of input, capture_output, timeout, check.
  explicit Popen(Command command, Options options = {});
  explicit Popen(std::initializer_list<std::string> args, Options options = {})
      : Popen{Command{args}, std::move(options)} {}

  Popen(Popen&&) noexcept = default;
  /// Ends the present one as the destructor does.
  Popen& operator=(Popen&& other) noexcept;
  /// Closes the pipes and waits for the child without limit, unless detached. Sinks are served
  /// meanwhile: nothing of what goes to one is lost.
  ~Popen() { finish(); }

  /// Our ends of the pipes; closed unless PIPE was asked for. A process that is forked meanwhile
  /// (Process or a pool by StartMethod::fork) has them too: as long as it lives, closing `in` here
  /// does not end the child's input.
  Writer in;
  Reader out;
  Reader err;

  pid_t pid() const { return state().child.pid(); }
  /// The command as given.
  const std::vector<std::string>& args() const { return state().args; }

  /// The code if the child has ended: 0 to 255, or -N for death by signal N. Never blocks, but
  /// hands to sinks what lies there: all, once the child has ended.
  std::optional<int> poll();

  /// Waits for the end; sinks are served meanwhile. Throws TimeoutExpired. A child whose PIPEs
  /// nobody reads may never end: use communicate().
  int wait(Timeout timeout = forever);

  /// The code if poll(), wait() or communicate() has seen the end.
  std::optional<int> returncode() const { return state().child.returncode(); }

  /// Writes `input` (and what was written to `in` before), closes `in`, reads out and err to their
  /// ends at the same time, waits for the child and returns what was read. A child that stops
  /// reading early is no error. Throws TimeoutExpired with what there is so far; nothing is lost
  /// then, and another call, without input, goes on.
  std::pair<std::string, std::string> communicate(std::string_view input = {},
                                                  Timeout timeout = forever);

  /// Send a signal, SIGTERM, SIGKILL; nothing once the child has ended. With Options::kill_tree
  /// they go to its descendants too, also to those that have outlived it. Throw os::OSError (EPERM,
  /// EINVAL).
  void send_signal(int signal);
  void terminate() { send_signal(SIGTERM); }
  void kill() { send_signal(SIGKILL); }

  /// Lets it outlive this object: a thread of its own will wait for it, so that it leaves no
  /// zombie. Sinks end with this object. Throws os::OSError when there can be no more threads.
  void detach();

  /// A descriptor that polls readable when the child has ended; this object's. Throws os::OSError
  /// where the system has none such.
  int sentinel() const;

  /// What it used, once its end was seen; before, and where SIGCHLD is ignored, zeros.
  Usage usage() const;

 private:
  struct State : posix::RefCounted {
    State(pid_t pid, posix::unique_fd pidfd, std::vector<std::string>&& command)
        : child{pid, std::move(pidfd)}, args{std::move(command)} {}

    std::optional<int> wait(const posix::Deadline& deadline) {
      return is_private && deadline.is_forever() && !posix::thread_sanitized ? child.wait_alone()
                                                                             : child.wait(deadline);
    }

    posix::Child child;
    const std::vector<std::string> args;
    std::string tree_mark;  // empty: no kill_tree
    bool detached = false;
    bool is_private = false;     // no other thread can know of it
    bool communicating = false;  // a communicate() ran out of time
    bool may_grow_pipes = false;
    Exchange exchange;
  };
  class Lend;
  friend class Conclusion;
  friend class Pipeline;

  Popen() noexcept = default;
  // `is_waited_for`: at once, without limit, and by no other thread; it may have no pidfd then.
  void start(const Command& command, const Options& options, bool is_waited_for = false);
  State& state() const {
    if (!state_) throw std::logic_error{"Popen: it was moved from"};
    return *state_;
  }
  bool exchange(std::string_view input, const posix::Deadline& deadline);
  void finish() noexcept;

  posix::Ref<State> state_;
};

}  // namespace brood::subprocess

#include "popen_start.hpp"

namespace brood::subprocess {

/// Gives the streams of a Popen to its Exchange for the time of a call.
class Popen::Lend {
 public:
  explicit Lend(Popen& popen) : popen_{popen}, exchange_{popen.state().exchange} {
    if (popen.in) exchange_.in = std::move(popen.in);
    lend(popen.out, exchange_.out, lent_out_);
    lend(popen.err, exchange_.err, lent_err_);
  }
  ~Lend() {
    if (exchange_.in) popen_.in = std::move(exchange_.in);
    if (lent_out_) popen_.out = std::move(exchange_.out.reader);
    if (lent_err_) popen_.err = std::move(exchange_.err.reader);
  }
  Lend(const Lend&) = delete;
  Lend& operator=(const Lend&) = delete;

 private:
  void lend(Reader& reader, Intake& intake, bool& lent) {
    if (!reader) return;
    intake.collected.append(reader.take_buffer());
    intake.may_grow_pipe = popen_.state().may_grow_pipes;
    intake.reader = std::move(reader);
    lent = true;
  }

  Popen& popen_;
  Exchange& exchange_;
  bool lent_out_ = false;
  bool lent_err_ = false;
};

inline Popen& Popen::operator=(Popen&& other) noexcept {
  if (this == &other) return *this;
  finish();
  in = std::move(other.in);
  out = std::move(other.out);
  err = std::move(other.err);
  state_ = std::move(other.state_);
  return *this;
}

inline void Popen::finish() noexcept {
  if (!state_) return;
  Exchange& exchange = state_->exchange;
  out.close();
  err.close();
  if (exchange.has_sinks() && !state_->detached && !state_->child.returncode()) {
    try {
      if (exchange.out.sink_has_thrown) exchange.out.reader.close();
      if (exchange.err.sink_has_thrown) exchange.err.reader.close();
      exchange.in = std::move(in);
      exchange.set_input({});
      exchange.run(posix::Deadline{forever}, state_->child.pidfd());
    } catch (...) {  // of a sink, or there is no memory
    }
    exchange.in.abandon();
  }
  in = Writer{};  // flushes
  exchange.out.reader.close();
  exchange.err.reader.close();
  if (!state_->detached) {
    try {
      state_->child.wait(posix::Deadline{forever});
    } catch (const std::exception&) {
      // Somebody else has waited for it.
    }
  }
  state_ = nullptr;
}

inline std::optional<int> Popen::poll() {
  State& self = state();
  const auto code = self.child.poll();
  if (self.exchange.has_sinks()) self.exchange.drain();
  return code;
}

inline int Popen::wait(Timeout timeout) {
  State& self = state();
  const posix::Deadline deadline{timeout};
  if (self.exchange.has_sinks()) self.exchange.run(deadline, self.child.pidfd());
  const auto code = self.wait(deadline);
  if (!code) throw TimeoutExpired{self.args, timeout};
  return *code;
}

/// Moves all data and waits; false when time is up.
inline bool Popen::exchange(std::string_view input, const posix::Deadline& deadline) {
  State& self = state();
  if (!input.empty()) {
    if (self.communicating)
      throw std::invalid_argument{
          "communicate: no further input can be given after one that ran out of time"};
    if (!in)
      throw std::invalid_argument{"communicate: there is input, but .in is not an open PIPE"};
  }
  const Lend lend{*this};
  if (!self.communicating) self.exchange.set_input(input);
  if (self.exchange.run(deadline) && self.wait(deadline)) {
    self.communicating = false;
    return true;
  }
  self.exchange.keep_input();
  self.communicating = true;
  return false;
}

inline std::pair<std::string, std::string> Popen::communicate(std::string_view input,
                                                              Timeout timeout) {
  State& self = state();
  if (!exchange(input, posix::Deadline{timeout}))
    throw TimeoutExpired{self.args, timeout, self.exchange.out.collected.copy(),
                         self.exchange.err.collected.copy()};
  return {self.exchange.out.collected.take(), self.exchange.err.collected.take()};
}

inline int Popen::sentinel() const {
  const int fd = state().child.pidfd();
  if (fd < 0) posix::throw_os_error(ENOSYS, "open a pidfd");
  return fd;
}

inline void Popen::send_signal(int signal) {
  State& self = state();
  const bool sends_to_tree = !self.tree_mark.empty() && signal > 0 && signal < NSIG;
  if (!sends_to_tree)
    self.child.send_signal(signal);
  else
    self.child.while_unreaped([&](pid_t root) {
      posix::ProcessTree{root, self.tree_mark}.send_signal(signal);
    });
}

inline Usage Popen::usage() const {
  const rusage used = state().child.usage();
  const auto microseconds = [](const timeval& time) {
    return std::chrono::microseconds{time.tv_sec * 1'000'000 + time.tv_usec};
  };
  return {microseconds(used.ru_utime), microseconds(used.ru_stime),
          static_cast<std::size_t>(used.ru_maxrss) * 1024};
}

inline void Popen::detach() {
  State& self = state();
  if (self.detached) return;
  if (!self.child.returncode()) {
    // A thread takes one share of the state along.
    State* const shared = posix::Ref<State>{state_}.release();
    const auto wait = [](void* argument) -> void* {
      const auto mine = posix::Ref<State>::adopt(static_cast<State*>(argument));
      try {
        mine->child.wait(posix::Deadline{forever});
      } catch (const std::exception&) {  // somebody else has waited for it
      }
      return nullptr;
    };
    pthread_t thread{};
    int error = 0;
    {
      const posix::BlockAllSignals blocked;  // the program's handlers run on the program's threads
      error = ::pthread_create(&thread, nullptr, wait, shared);
    }
    if (error != 0) {
      posix::Ref<State>::adopt(shared);
      posix::throw_os_error(error, "start a thread to wait for process", std::to_string(pid()));
    }
    ::pthread_detach(thread);
  }
  self.detached = true;
}

}  // namespace brood::subprocess
