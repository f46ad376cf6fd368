// SPDX-License-Identifier: MIT
// A small process of one thread that forks others on request. It is the parent of what it forks,
// and a copy of the program as it was when the server was made.
//
//   who may ask  -- {start, what the process is told} with descriptors -->  server
//
// The first of the descriptors is the server's end of a relay (end_relay.hpp), by which it tells
// what came of the order and of the process. The process gets the others, and finds what it is told
// in its memory. All who ask share the one socket for orders, each packet of which arrives as a
// whole; nothing comes back by it.
//
// Order     | who moves it on            | if that one dies there
// ----------+----------------------------+---------------------------------------------------------
// under way | the server takes it        | server: the relay's end of file; who asked: it is
//           |                            | carried out all the same
// forked    | the server reports         | server: as above, and the process lives on
//           | {started} or {refused}     |
// started   | the process ends, the      | server: the relay's end of file, the code is lost; who
//           | server reports {ended}     | asked: nobody hears the report
//
// The server keeps a spare descriptor, given up for the moment in which it takes an order: so there
// is always room for the relay, and who asks is always answered.
//
// The server ends with the program that made it, which it watches by a pidfd. What it has forked
// lives on.
#pragma once

#include <sys/prctl.h>

#include "child.hpp"
#include "child_ends.hpp"
#include "fork.hpp"
#include "list.hpp"
#include "parcel.hpp"
#include "pipe.hpp"
#include "signals.hpp"
#include "socket_pair.hpp"

namespace brood::posix {

struct ProcessOrder {
  static constexpr std::uint64_t expected_magic = 0x62726f6f642d6f31;  // "brood-o1"
  std::uint64_t magic = expected_magic;
  std::uint64_t no_interrupt = 0;  // 1: the process begins with SIGINT blocked
};

/// How much one order holds.
inline constexpr std::size_t most_told = std::size_t{48} << 10;
inline constexpr std::size_t most_descriptors_told = parcel_batch - 1;

struct RunOrdered {
  /// In the server, before it forks a process: what this leaves in memory, the process finds there.
  void (*prepare)(std::string_view told) noexcept;
  /// In the process; must not return.
  void (*run)(std::string_view told, List<unique_fd> descriptors);
};

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
      keep_spare();
      // Now, and not small: so they are allocated together, and few pages are written to.
      came_.reserve(64);
      started_.reserve(64);
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

  // Ctrl-C is for the program, and blocked here. The children begin with what the program had,
  // which most often takes them one call.
  void set_signals() noexcept {
    ::sigaction(SIGTERM, nullptr, &on_sigterm_);
    ::sigaction(SIGCHLD, nullptr, &on_sigchld_);
    ::signal(SIGTERM, SIG_DFL);
    ends_.take_charge(SIGINT);
  }
  void restore_signals() noexcept {
    if (!is_default(on_sigterm_)) ::sigaction(SIGTERM, &on_sigterm_, nullptr);
    if (!is_default(on_sigchld_)) ::sigaction(SIGCHLD, &on_sigchld_, nullptr);
    pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }
  static bool is_default(const struct sigaction& action) noexcept {
    return action.sa_handler == SIG_DFL && action.sa_flags == 0;
  }

  bool keep_spare() noexcept {
    spare_.reset(::fcntl(orders_.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    return static_cast<bool>(spare_);
  }

  // One order. False at the end of all who could give one.
  bool obey() {
    std::size_t length = 0;
    int trouble = 0;
    spare_.reset();
    try {
      length = receive_some(orders_.get(), packet_, sizeof packet_, came_, MSG_DONTWAIT);
      if (!keep_spare()) trouble = EMFILE;
    } catch (const os::OSError& error) {
      trouble = error.code().value();
    }
    if (came_.empty() && trouble == 0 && length == 0) return false;
    if (!came_.empty()) {
      unique_fd relay = std::move(came_[0]);
      for (std::size_t i = 1; i < came_.size(); ++i) came_[i - 1] = std::move(came_[i]);
      came_.pop_back();
      if (trouble != 0)
        refuse(relay, trouble);
      else if (is_order(length))
        start(std::string_view{packet_, length}, came_, std::move(relay));
    }
    came_.clear();
    if (!spare_) keep_spare();  // in the place of what came
    return true;
  }
  bool is_order(std::size_t length) const noexcept {
    ProcessOrder order;
    if (length < sizeof order) return false;
    std::memcpy(&order, packet_, sizeof order);
    return order.magic == ProcessOrder::expected_magic;
  }

  void start(std::string_view packet, List<unique_fd>& descriptors, unique_fd relay) {
    ProcessOrder order;
    std::memcpy(&order, packet.data(), sizeof order);
    const std::string_view told = packet.substr(sizeof order);
    started_.reserve(started_.size() + 1);
    run_.prepare(told);
    const pid_t pid = ::fork();
    if (pid == 0) {
      relay.discard();
      if (order.no_interrupt != 0) sigaddset(&mask_, SIGINT);
      become_child();
      run_.run(told, std::move(descriptors));
      ::_exit(1);
    }
    const int fork_error = errno;
    descriptors.clear();
    if (pid < 0) {
      refuse(relay, fork_error);
      return;
    }
    spare_.reset();
    unique_fd pidfd;
    try {
      pidfd = open_pidfd(pid);
    } catch (const os::OSError& error) {
      // Not for want of a number. The process may have begun, but nobody could watch it.
      kill_and_reap(pid);
      refuse(relay, error.code().value());
      return;
    }
    const RelayReport report{.kind = RelayReport::Kind::started, .pid = pid};
    if (!pidfd) {
      tell(relay, report);
    } else if (send_with_descriptors(relay.get(), &report, sizeof report, {pidfd.get()}) < 0 &&
               (errno == ETOOMANYREFS || errno == ENOMEM || errno == ENOBUFS)) {
      // As above; where nobody waits for an answer, it goes on.
      const int send_error = errno;
      kill_and_reap(pid);
      refuse(relay, send_error);
      return;
    }
    started_.push_back({pid, std::move(relay)});
  }

  void become_child() noexcept {
    orders_.discard();
    spare_.discard();
    ends_.close();
    program_.discard();
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
        break;
      }
      return !started_.empty();
    });
  }

  static void refuse(const unique_fd& relay, int error) noexcept {
    tell(relay, {.kind = RelayReport::Kind::refused, .detail = error});
  }
  // There is always room, for the two reports that a relay ever sees; or nobody hears it.
  static void tell(const unique_fd& relay, const RelayReport& report) noexcept {
    retry_on_eintr(
        [&] { return ::send(relay.get(), &report, sizeof report, MSG_NOSIGNAL | MSG_DONTWAIT); });
  }

  unique_fd orders_;
  unique_fd spare_;
  const RunOrdered run_;
  const pid_t program_pid_ = ::getpid();
  unique_fd program_;
  ChildEnds ends_;
  struct sigaction on_sigterm_;
  struct sigaction on_sigchld_;
  sigset_t mask_{};
  List<Started> started_;                          // and not ended, in no order
  List<unique_fd> came_;                           // with the order at hand
  char packet_[sizeof(ProcessOrder) + most_told];  // the order at hand
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

/// sendmsg(2) of an order; never waits. Returns what that returns, with errno.
inline ssize_t send_order(int orders, int relay, std::string_view told,
                          const List<int>& descriptors, bool no_interrupt = false) noexcept {
  ProcessOrder order;
  order.no_interrupt = no_interrupt;
  iovec parts[] = {{&order, sizeof order}, {const_cast<char*>(told.data()), told.size()}};
  ParcelControl along{};
  along.header.cmsg_level = SOL_SOCKET;
  along.header.cmsg_type = SCM_RIGHTS;
  along.header.cmsg_len = CMSG_LEN((1 + descriptors.size()) * sizeof(int));
  unsigned char* const numbers = CMSG_DATA(&along.header);
  std::memcpy(numbers, &relay, sizeof relay);
  for (std::size_t i = 0; i < descriptors.size(); ++i)
    std::memcpy(numbers + (1 + i) * sizeof(int), &descriptors[i], sizeof(int));
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = &along;
  message.msg_controllen = CMSG_SPACE((1 + descriptors.size()) * sizeof(int));
  return retry_on_eintr([&] { return ::sendmsg(orders, &message, MSG_NOSIGNAL | MSG_DONTWAIT); });
}

/// Asks the server at the other end of `orders` for a process that is told this and given these:
/// no more than most_told and most_descriptors_told. `server` is readable when it has ended; -1
/// where there are no pidfds. With `no_interrupt` it begins with SIGINT blocked. Waits until the
/// server has answered. Throws os::OSError when it can make no process, or nobody has descriptors
/// for it.
inline OrderedProcess order_process(int orders, int server, std::string_view told,
                                    const List<int>& descriptors, bool no_interrupt) {
  if (told.size() > most_told || descriptors.size() > most_descriptors_told)
    throw_os_error(EMSGSIZE, "ask the fork server for a process");
  unique_fd mine, servers;
  make_sockets(SOCK_SEQPACKET, mine, servers);
  while (send_order(orders, servers.get(), told, descriptors, no_interrupt) < 0) {
    if (errno == EPIPE || errno == ECONNREFUSED) return {};
    if (errno == ECONNRESET) continue;  // the kernel tells once that something was left unread
    if (errno != EAGAIN) throw_errno("ask the fork server for a process");
    pollfd entries[] = {{orders, POLLOUT, 0}, {server, POLLIN, 0}};
    poll_until(entries, 2, Deadline{forever});
    if (entries[1].revents != 0) return {};
  }
  servers.reset();

  OrderedProcess result;
  EndRelay relay{std::move(mine), server, nullptr, nullptr};
  RelayReport report;
  for (bool dead = false;;) {
    relay.wait(Deadline{forever});
    const EndRelay::News news = relay.receive(report, result.pidfd);
    if (news == EndRelay::News::report) break;
    if (news == EndRelay::News::server_is_dead && server >= 0 && !dead) {
      // Its sockets are closed a moment before its end is seen. If it lives, its limit has been
      // lowered to below the spare descriptor, and the kernel has dropped the relay.
      constexpr std::chrono::nanoseconds moment{1'000'000'000};
      if (!wait_readable(server, Deadline{moment}))
        throw_os_error(EMFILE, "give the fork server a descriptor");
    }
    if (dead || news == EndRelay::News::server_is_dead) return {};
    dead = relay.server_has_ended();  // unless it has reported just before
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
