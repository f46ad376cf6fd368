// SPDX-License-Identifier: MIT
// A child process: waiting for it, signalling it, reaping it, from several threads at once.
//
// State    | who leaves it                   | how
// ---------+---------------------------------+-----------------------------------------------
// running  | whoever first sees the end      | waitid(WNOHANG) under the mutex, once
// ended    | nobody                          | the code and usage stay readable
//
// Nobody sleeps while holding the mutex: a waiter sleeps in poll() on the pidfd. A signal is sent
// under the mutex and only in state running, when at worst a zombie still holds the pid, so it can
// never reach a process that got the number later.
//
// A relayed child is not this process's own: its parent, a server, tells of its end
// (end_relay.hpp).
//
// Relayed, in state running | what is known        | how it goes on
// --------------------------+----------------------+---------------------------------------------
// the server lives          | pid, pidfd           | its report brings the code: state ended
// pidfd readable, no report | it is about to come  | it is waited for, unless the server is
//                           |                      | stopped; never with the mutex held
// the server is dead        | the pidfd tells when | the code is what the pidfd tells, or lost
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "end_relay.hpp"
#include "exchange.hpp"
#include "mutex.hpp"
#include "pidfd.hpp"
#include "poll.hpp"
#include "ref.hpp"
#include "sanitizers.hpp"

namespace brood::posix {

/// Python's view of a wait status: 0..255 is an exit code, -N death by signal N.
inline int returncode_of(int wait_status) noexcept {
  return WIFSIGNALED(wait_status) ? -WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

/// What tells whether a child has ended as it ought to.
struct EndJudge {
  /// Asked once, when the end is seen: whether something was wrong, for which code 0 becomes 1.
  /// Must be quick.
  bool (*is_wrong)(int channel, int code) noexcept;
  /// Then says so; may block.
  void (*tell)(pid_t pid, int code) noexcept;
};

class Child {
 public:
  /// Takes charge of `pid`, a running or ended, unwaited child. `pidfd` may be empty.
  Child(pid_t pid, unique_fd pidfd) noexcept : pid_{pid}, pidfd_{std::move(pidfd)} {}

  /// The same; `judge` looks at its end, and gets `channel`, which is kept for that.
  Child(pid_t pid, unique_fd pidfd, unique_fd channel, const EndJudge& judge) noexcept
      : pid_{pid}, pidfd_{std::move(pidfd)}, judge_{&judge}, channel_{std::move(channel)} {}

  /// Takes charge of a child of a server, which tells of its end by `relay`.
  Child(pid_t pid, unique_fd pidfd, EndRelay relay) noexcept
      : pid_{pid}, pidfd_{std::move(pidfd)}, relay_{std::move(relay)} {}

  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const noexcept { return pid_; }

  /// Readable once the child has ended; -1 where the system has no pidfds. (A relayed child is seen
  /// to end there too.)
  int pidfd() const noexcept { return pidfd_.get(); }

  /// Reaps the child if it has ended. Never blocks. (Of a relayed one that has just ended the code
  /// is under way: for that it waits, unless the server is stopped.)
  std::optional<int> poll() {
    constexpr std::chrono::nanoseconds most{30'000'000'000};
    return relay_ ? ask_relay(Deadline{most}) : look();
  }

  /// The code if somebody has seen the end already; makes no system call.
  std::optional<int> returncode() const {
    const Locked lock{mutex_};
    return returncode_;
  }

  /// Waits for the end and reaps; empty when time is up first.
  std::optional<int> wait(const Deadline& deadline) {
    if (relay_) return wait_for_relay(deadline);
    // Without a limit it is cheaper to sleep at once than to look first.
    if (deadline.is_forever() && !(thread_sanitized && pidfd_) && !returncode())
      sleep_until_ended();
    for (bool ended = false;;) {
      if (const auto code = poll()) return code;
      if (pidfd_ && !ended) {
        if (!wait_readable(pidfd_.get(), deadline)) return poll();
        ended = true;  // if it cannot be reaped now, a tracer has to first (ptrace(2))
      } else if (deadline.is_forever()) {
        sleep_until_ended();
      } else if (!nap_until(deadline)) {
        return poll();
      }
    }
  }

  /// Waits without limit and reaps, with one system call. Nobody else may use the object meanwhile,
  /// and it must not be relayed.
  std::optional<int> wait_alone() {
    const Look look{*this};
    return reap(0);
  }

  /// Sends a signal unless the child has ended. Throws os::OSError (EINVAL, EPERM).
  void send_signal(int signal) {
    const Look look{*this};
    if (reap()) return;
    int result = -1;
    if (pidfd_) result = send_signal_by_pidfd(pidfd_.get(), signal);
    if (!pidfd_ || (result != 0 && means_unsupported(errno))) result = ::kill(pid_, signal);
    if (result != 0 && errno != ESRCH)
      throw_errno("send a signal to process", std::to_string(pid_));
  }

  /// Calls f(pid) while nobody can reap the child, so that the number stays its own; f(0) once it
  /// has been reaped.
  template <class F>
  void while_unreaped(F f) {
    const Look look{*this};
    f(reap() ? 0 : pid_);
  }

  /// What the child and its waited-for children used. Zeros until its end has been seen.
  rusage usage() const {
    const Locked lock{mutex_};
    return usage_;
  }

 private:
  // Has the mutex held, and tells what is to be told when it has been let go.
  class Look {
   public:
    explicit Look(Child& child) noexcept : child_{child} { child_.mutex_.lock(); }
    ~Look() {
      const bool due = posix::exchange(child_.must_tell_, false);
      child_.mutex_.unlock();
      if (due) child_.judge_->tell(child_.pid_, child_.code_to_tell_);
    }
    Look(const Look&) = delete;
    Look& operator=(const Look&) = delete;

   private:
    Child& child_;
  };

  std::optional<int> look() {
    const Look look{*this};
    return reap();
  }

  // With the mutex held.
  std::optional<int> reap(int options = WNOHANG) {
    if (returncode_) return returncode_;
    if (relay_) return receive_end();
    siginfo_t info{};
    if (wait_for(info, options, &usage_) == 0) {
      if (info.si_pid == 0) return std::nullopt;
      returncode_ = judged(info.si_code == CLD_EXITED ? info.si_status : -info.si_status);
    } else if (errno == ECHILD) {
      // SIGCHLD is ignored, or somebody else waited for our child.
      int status = 0;
      if (pidfd_ && vanished_status(status)) {
        returncode_ = judged(returncode_of(status));
      } else if (pidfd_ && !wait_readable(pidfd_.get(), Deadline{std::chrono::nanoseconds{0}})) {
        return std::nullopt;
      } else {
        throw_os_error(
            ECHILD,
            "learn the exit code, which another wait or an ignored SIGCHLD took, of process",
            std::to_string(pid_));
      }
    } else {
      throw_errno("wait for process", std::to_string(pid_));
    }
    return returncode_;
  }

  int judged(int code) noexcept {
    if (!channel_) return code;
    const unique_fd channel = std::move(channel_);
    must_tell_ = judge_->is_wrong(channel.get(), code);
    code_to_tell_ = code;
    return must_tell_ && code == 0 ? 1 : code;
  }

  // By pidfd where that may be, since with SIGCHLD ignored the pid may belong to a later child
  // already.
  int wait_for(siginfo_t& info, int options, rusage* usage) const noexcept {
    if (pidfd_) {
      const auto id = static_cast<id_t>(pidfd_.get());
      const int result = wait_id(id_is_pidfd, id, &info, WEXITED | options, usage);
      if (result == 0 || !means_unsupported(errno)) return result;
    }
    return wait_id(P_PID, static_cast<id_t>(pid_), &info, WEXITED | options, usage);
  }

  // The same for a relayed child, with the mutex held.
  std::optional<int> receive_end() {
    while (!server_is_dead_) {
      RelayReport report;
      unique_fd none;
      switch (relay_.receive(report, none)) {
        case EndRelay::News::report:
          usage_ = report.usage;
          returncode_ = report.detail;
          // Whoever else sleeps on the relay is to look. The end of file comes late if another
          // process, forked meanwhile, has the server's end too.
          ::shutdown(relay_.fileno(), SHUT_RDWR);
          return returncode_;
        case EndRelay::News::server_is_dead:
          server_is_dead_ = true;
          break;
        case EndRelay::News::none:
          if (!relay_.server_has_ended()) return std::nullopt;
          // Unless it has reported just before.
          server_is_dead_ = !wait_readable(relay_.fileno(), EndRelay::at_once());
      }
    }
    if (!has_ended()) return std::nullopt;
    int status = 0;
    if (!pidfd_ || !vanished_status(status))
      throw_os_error(ECHILD,
                     "learn the exit code, which is lost since " + relay_.fate() + ", of process",
                     std::to_string(pid_));
    returncode_ = returncode_of(status);
    return returncode_;
  }

  // Looks. The server, which sees the end before us, is about to tell of it: that is waited for,
  // but not longer than this. One that is stopped does not, which nothing tells but a look at it.
  std::optional<int> ask_relay(const Deadline& limit) {
    constexpr std::chrono::nanoseconds look_again{10'000'000};
    for (;;) {
      if (const auto code = look()) return code;
      if (relay_is_silent() || !pidfd_ || !has_ended() || limit.expired() ||
          relay_.server_is_stopped())
        return std::nullopt;
      relay_.wait(limit.sooner(look_again));
    }
  }

  std::optional<int> wait_for_relay(const Deadline& deadline) {
    // Without a limit it is cheaper to sleep at once than to look first.
    if (deadline.is_forever() && !returncode() && !relay_is_silent()) relay_.wait(deadline);
    for (;;) {
      if (const auto code = look()) return code;
      if (!relay_is_silent()) {
        if (!relay_.wait(deadline)) return look();
      } else if (pidfd_) {
        if (!wait_readable(pidfd_.get(), deadline)) return look();
      } else if (!nap_until(deadline)) {
        return look();
      }
    }
  }
  bool relay_is_silent() const {
    const Locked lock{mutex_};
    return server_is_dead_;
  }

  // Whether a relayed child has.
  bool has_ended() const {
    if (pidfd_) return wait_readable(pidfd_.get(), EndRelay::at_once());
    return ::kill(pid_, 0) != 0 && errno == ESRCH;
  }

  // The status of a child that nobody can wait for any more. Its last moments are in steps: it is
  // not waitable, pollers see it end, its status is put on record, it is gone (and then POLLHUP).
  bool vanished_status(int& status) const {
    if (exit_status_by_pidfd(pidfd_.get(), status)) return true;
    if (errno == ENOTTY || errno == EINVAL) return false;  // a kernel that has no such record
    pollfd gone{pidfd_.get(), 0, 0};
    constexpr std::chrono::nanoseconds moment{100'000'000};
    return wait_readable(pidfd_.get(), Deadline{std::chrono::nanoseconds{0}}) &&
           poll_until(&gone, 1, Deadline{moment}) > 0 && exit_status_by_pidfd(pidfd_.get(), status);
  }

  // Leaves the zombie for poll(). Returns at once where the end is not ours to wait for any more.
  void sleep_until_ended() const noexcept {
    siginfo_t info{};
    wait_for(info, WNOWAIT, nullptr);
  }

  // Where no pidfd tells the moment, a limited wait can only look now and then, as CPython's does.
  static bool nap_until(const Deadline& deadline) {
    if (deadline.expired()) return false;
    const auto left = deadline.left();
    const auto nap = left.count() < 5'000'000 ? left : std::chrono::nanoseconds{5'000'000};
    poll_until(nullptr, 0, Deadline{nap});
    return true;
  }

  const pid_t pid_;
  const unique_fd pidfd_;
  const EndRelay relay_;  // empty: it is our own
  const EndJudge* const judge_ = nullptr;
  mutable Mutex mutex_;  // guards all below, and the pid against reuse
  unique_fd channel_;    // empty: there is nothing to judge
  bool must_tell_ = false;
  int code_to_tell_ = 0;
  std::optional<int> returncode_;
  rusage usage_{};
  bool server_is_dead_ = false;  // so no report will come
};

/// One that several owners look after.
struct SharedChild final : RefCounted, Child {
  using Child::Child;
};

}  // namespace brood::posix
