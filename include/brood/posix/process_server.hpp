// SPDX-License-Identifier: MIT
// A small process of one thread that forks others on request. It is the parent of what it forks,
// and a copy of the program as it was when the server was made.
//
//   who may ask  -- {start} with two descriptors -->  server
//
// The descriptors are the end of a channel, which the new process gets and by which it is told what
// it is to do, and the server's end of a relay (end_relay.hpp), by which it tells what came of the
// order and of the process. All who ask share the one socket for orders, each packet of which
// arrives as a whole; nothing comes back by it.
//
// Order     | who moves it on            | if that one dies there
// ----------+----------------------------+---------------------------------------------------------
// under way | the server takes it        | server: the relay's end of file; who asked: it is
//           |                            | carried out all the same
// forked    | the server reports         | server: as above, and the process finds its channel at
//           | {started} or {refused}     | its end, unless it was told all before
// started   | the process ends, the      | server: the relay's end of file, the code is lost; who
//           | server reports {ended}     | asked: nobody hears the report
//
// The server ends with the program that made it, which it watches by a pidfd. What it has forked
// lives on.
#pragma once

#include <sys/prctl.h>

#include "child.hpp"
#include "child_ends.hpp"
#include "fork.hpp"
#include "list.hpp"
#include "pipe.hpp"
#include "signals.hpp"
#include "socket_pair.hpp"

namespace brood::posix {

struct ProcessOrder {
  static constexpr std::uint64_t expected_magic = 0x62726f6f642d6f31;  // "brood-o1"
  std::uint64_t magic = expected_magic;
};

/// What runs in a new process, given its channel; must not return.
using RunOrdered = void (*)(unique_fd channel);

/// A process that was ordered. All empty: the server is dead.
struct OrderedProcess {
  pid_t pid = 0;
  unique_fd pidfd;  // empty where the system has none
  unique_fd relay;
};

/// The server itself.
class ProcessServer {
 public:
  /// In the program. `orders` is the server's end of the socket for orders.
  ProcessServer(unique_fd orders, RunOrdered run)
      : orders_{std::move(orders)}, run_{run}, program_{open_pidfd(program_pid_)} {}

  /// In the server, with all signals blocked: obeys until the program has ended. The children begin
  /// with `mask`.
  void serve(const sigset_t& mask) noexcept {
    mask_ = mask;
    if (program_) {
      if (::getppid() != program_pid_) return;  // the program is dead already
    } else {
      // Where pidfds are forbidden. (It was forked by the program's first thread.)
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != program_pid_) return;
    }
    try {
      set_signals();
      detach_stdin();
      catch_exit_in_forked_child();  // the children inherit it
      for (;;) {
        pollfd entries[] = {
            {orders_.get(), POLLIN, 0}, {ends_.fileno(), POLLIN, 0}, {program_.get(), POLLIN, 0}};
        poll_until(entries, 3, Deadline{forever});
        if (entries[2].revents != 0) return;
        if (entries[1].revents != 0) report_ends();
        if (entries[0].revents != 0 && !obey()) return;
      }
    } catch (const std::exception& error) {
      std::fprintf(stderr, "brood: fork server: %s\n", error.what());
    }
  }

 private:
  struct Started {
    pid_t pid;
    unique_fd relay;
  };

  // Ctrl-C is for the program. The children begin with what the program had.
  void set_signals() noexcept {
    for (std::size_t i = 0; i < changed_count; ++i) ::sigaction(changed[i], nullptr, &actions_[i]);
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGTERM, SIG_DFL);
    ends_.take_charge();
  }
  void restore_signals() noexcept {
    for (std::size_t i = 0; i < changed_count; ++i) ::sigaction(changed[i], &actions_[i], nullptr);
    ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
  }

  // All orders that are there. False at the end of all who could give one.
  bool obey() {
    for (;;) {
      ProcessOrder order;
      unique_fd came[2];  // the relay first: if there is no room for the other, that can be told
      const ssize_t length = receive_with_descriptors(orders_.get(), &order, sizeof order, came);
      if (length < 0 && errno == EAGAIN) return true;
      if (length <= 0) return false;
      if (length != sizeof order || order.magic != ProcessOrder::expected_magic || !came[0])
        continue;
      if (came[1])
        start(std::move(came[1]), std::move(came[0]));
      else
        tell(came[0], {.kind = RelayReport::Kind::refused, .detail = EMFILE});
    }
  }

  void start(unique_fd channel, unique_fd relay) {
    started_.reserve(started_.size() + 1);
    const pid_t pid = ::fork();
    if (pid == 0) {
      relay.reset();
      become_child();
      run_(std::move(channel));
      ::_exit(1);
    }
    const int fork_error = errno;
    channel.reset();
    if (pid < 0) {
      tell(relay, {.kind = RelayReport::Kind::refused, .detail = fork_error});
      return;
    }
    unique_fd pidfd;
    try {
      pidfd = open_pidfd(pid);
    } catch (const os::OSError& error) {
      // Not for want of a number: the channel's has just become free. The process may have begun
      // with what it was told, but nobody could watch it.
      kill_and_reap(pid);
      tell(relay, {.kind = RelayReport::Kind::refused, .detail = error.code().value()});
      return;
    }
    const RelayReport report{.kind = RelayReport::Kind::started, .pid = pid};
    if (pidfd)
      send_with_descriptors(relay.get(), &report, sizeof report, {pidfd.get()});
    else
      tell(relay, report);
    started_.push_back({pid, std::move(relay)});
  }

  void become_child() noexcept {
    orders_.reset();
    ends_.close();
    program_.reset();
    started_.clear();
    restore_signals();
  }

  void report_ends() {
    ends_.reap([this](pid_t pid, int code, const rusage& usage) {
      for (Started& started : started_) {
        if (started.pid != pid) continue;
        tell(started.relay,
             {.kind = RelayReport::Kind::ended, .pid = pid, .detail = code, .usage = usage});
        started_.erase_unordered(&started);
        return;
      }
    });
  }

  // There is always room, for the two reports that a relay ever sees; or nobody hears it.
  static void tell(const unique_fd& relay, const RelayReport& report) noexcept {
    retry_on_eintr(
        [&] { return ::send(relay.get(), &report, sizeof report, MSG_NOSIGNAL | MSG_DONTWAIT); });
  }

  static constexpr int changed[] = {SIGINT, SIGTERM, SIGCHLD};
  static constexpr std::size_t changed_count = sizeof changed / sizeof changed[0];

  unique_fd orders_;
  const RunOrdered run_;
  const pid_t program_pid_ = ::getpid();
  unique_fd program_;
  ChildEnds ends_;
  struct sigaction actions_[changed_count];
  sigset_t mask_{};
  List<Started> started_;  // and not ended, in no order
};

/// Forks a ProcessServer, which calls `prepare()`, which must not throw, first. To be called by the
/// program while it has one thread. Throws os::OSError.
template <class Prepare>
Ref<SharedChild> fork_process_server(unique_fd orders, RunOrdered run, Prepare prepare) {
  ProcessServer server{std::move(orders), run};
  PipeEnds gate;  // with SIGCHLD ignored, the server must not end before its pidfd is opened
  if (children_vanish()) gate = make_pipe();
  flush_output();
  pid_t pid;
  {
    const BlockAllSignals until_handlers_are_set;
    pid = check(::fork(), "fork the fork server");
    if (pid == 0) {
      gate.write.reset();
      char go;
      if (gate.read) read_some(gate.read.get(), &go, 1);
      gate.read.reset();
      prepare();
      server.serve(until_handlers_are_set.before());
      ::_exit(0);
    }
  }
  try {
    auto process = make_ref<SharedChild>(pid, open_pidfd(pid));
    // A byte, not the end of file: a child that another thread forks meanwhile holds the gate too.
    if (gate.write) write_some(gate.write.get(), "", 1);
    return process;
  } catch (...) {
    kill_and_reap(pid);
    throw;
  }
}

/// Asks the server at the other end of `orders` for a process that has `channel`. `server` is
/// readable when it has ended; -1 where there are no pidfds. Waits until the server has answered,
/// and calls `meanwhile()` when it has been asked. Throws os::OSError when it can make no process,
/// or nobody has descriptors for it.
template <class Meanwhile>
OrderedProcess order_process(int orders, int server, int channel, Meanwhile meanwhile) {
  unique_fd mine, servers;
  make_sockets(SOCK_SEQPACKET, mine, servers);
  const ProcessOrder order;
  while (send_with_descriptors(orders, &order, sizeof order, {servers.get(), channel}) < 0) {
    if (errno == EPIPE || errno == ECONNREFUSED) return {};
    if (errno == ECONNRESET) continue;  // the kernel tells once that something was left unread
    if (errno != EAGAIN) throw_errno("ask the fork server for a process");
    pollfd entries[] = {{orders, POLLOUT, 0}, {server, POLLIN, 0}};
    poll_until(entries, 2, Deadline{forever});
    if (entries[1].revents != 0) return {};
  }
  servers.reset();
  meanwhile();

  OrderedProcess result;
  EndRelay relay{std::move(mine), server, nullptr};
  RelayReport report;
  bool dead = false;
  for (;;) {
    const EndRelay::News news = relay.receive(report, result.pidfd);
    if (news == EndRelay::News::report) break;
    if (dead) return {};
    if (news == EndRelay::News::server_is_dead) {
      // Or it had no descriptor left for its end of the relay, and lives on.
      constexpr std::chrono::nanoseconds moment{1'000'000'000};
      if (server >= 0 && !wait_readable(server, Deadline{moment}))
        throw_os_error(EMFILE, "start a process by the fork server");
      return {};
    }
    relay.wait(Deadline{forever});
    dead = relay.server_has_ended();
  }
  if (report.kind == RelayReport::Kind::refused)
    throw_os_error(report.detail, "start a process by the fork server");
  if (!result.pidfd && server >= 0) {
    // There was room before: another thread has taken it. Nobody will know of the process, so it
    // must not go on. (Until its end has been reported, its number is its own.)
    RelayReport end;
    unique_fd none;
    if (relay.receive(end, none) == EndRelay::News::none) ::kill(report.pid, SIGKILL);
    throw_os_error(EMFILE, "receive the descriptor of a new process");
  }
  result.pid = report.pid;
  result.relay = relay.release();
  return result;
}

}  // namespace brood::posix
