// SPDX-License-Identifier: MIT
// A small single-threaded process that forks workers on request. What it has in memory when it is
// asked for the first one, all of them have, also those that replace others later: none inherits a
// lock that some thread of the program held at that moment.
//
//   program  -- {start, index}, {signal, index, number}, {kill_tree, index},
//               {finish} or {quit} -->  server
//   program  <-- {started, index, pid} or {ended, index, status, usage} --  server
//
// The server is the workers' parent: it reaps them and reports, and a signal it passes on can't
// reach a stranger. It ends when it is told to or when the program dies. Each of the two polls a
// pidfd of the other: a socket's end would be kept open by any process the program forks. Workers
// are killed by the kernel when the server ends (PR_SET_PDEATHSIG; the server has one thread, so
// that fires at its end only).
//
// It is forked from the program, or it is some other process that runs a ForkServerProcess.
#pragma once

#include <sys/socket.h>

#include <cstdint>

#include "child.hpp"
#include "fork_server_process.hpp"
#include "pipe.hpp"
#include "socket_pair.hpp"

namespace brood::posix {

class ForkServer {
 public:
  /// Forks the server from this process. It has a copy of `workers`, as of all else, and an empty
  /// standard input. Throws os::OSError.
  explicit ForkServer(ForkedWorkers& workers) : ForkServer{fork_server(workers)} {}
  /// Takes charge of a process in which a ForkServerProcess has the other end of `socket`.
  ForkServer(unique_fd socket, Ref<SharedChild> process) noexcept
      : socket_{std::move(socket)}, process_{std::move(process)} {}

  ForkServer(const ForkServer&) = delete;
  ForkServer& operator=(const ForkServer&) = delete;
  /// stop(), unless that was done, or this is a copy in a forked process.
  ~ForkServer() {
    if (!stopped_ && owner_ == this_process()) stop();
  }

  /// Asks for a worker; a ForkReport tells what came of it. False when the server is gone.
  bool start(std::uint32_t worker) { return send({ForkOrder::Kind::start, worker, 0}); }

  /// Sends a signal to a worker if it lives. False when the server is gone.
  bool signal(std::uint32_t worker, int number) {
    return send({ForkOrder::Kind::signal, worker, number});
  }

  /// Kills a worker, if it lives, with all that descends from it by a chain of parents that live.
  /// False when the server is gone.
  bool kill_tree(std::uint32_t worker) { return send({ForkOrder::Kind::kill_tree, worker, 0}); }

  /// Polls readable when a ForkReport is there.
  int fileno() const noexcept { return socket_.get(); }
  /// Polls readable when the server is gone; -1 where the system has no pidfds.
  int sentinel() const noexcept { return process_->pidfd(); }

  /// Whether the next report is there; `gone` is set when none will ever come again.
  bool receive(ForkReport& report, bool& gone) {
    const ssize_t length =
        retry_on_eintr([&] { return ::recv(socket_.get(), &report, sizeof report, MSG_DONTWAIT); });
    if (length == sizeof report) return true;
    gone = length == 0 || (length < 0 && errno != EAGAIN);
    return false;
  }

  /// What became of it when it has no more to report: "was killed by SIGINT (signal 2)".
  std::string fate() {
    try {
      // Its sockets are closed a moment before its code is there.
      constexpr std::chrono::nanoseconds moment{1'000'000'000};
      if (const auto code = process_->wait(Deadline{moment})) return describe_end(*code);
      return "has closed its socket";
    } catch (const os::OSError&) {  // somebody else has waited for it
    }
    return "has died";
  }

  /// Waits until all workers have ended by themselves (signal() still reaches them), then ends the
  /// server. No more reports come.
  void finish() noexcept { end(ForkOrder::Kind::finish); }

  /// Ends the server, which kills the workers that are left, and waits for it.
  void stop() noexcept { end(ForkOrder::Kind::quit); }

  pid_t pid() const noexcept { return process_->pid(); }

 private:
  struct Forked {
    unique_fd socket;
    Ref<SharedChild> process;
  };
  explicit ForkServer(Forked server) noexcept
      : ForkServer{std::move(server.socket), std::move(server.process)} {}

  static Forked fork_server(ForkedWorkers& workers) {
    unique_fd socket;
    unique_fd other_end;
    make_sockets(SOCK_SEQPACKET, socket, other_end);
    ForkServerProcess server{std::move(other_end), open_pidfd(::getpid()), workers};
    PipeEnds gate;  // with SIGCHLD ignored, the server must not end before its pidfd is opened
    if (children_vanish()) gate = make_pipe();
    pid_t pid;
    flush_output();
    {
      const BlockAllSignals until_handlers_are_set;
      pid = check(::fork(), "fork the server of a process pool");
      if (pid == 0) {
        socket.reset();
        gate.write.reset();
        char go;
        if (gate.read) read_some(gate.read.get(), &go, 1);
        gate.read.reset();
        detach_stdin();
        server.run();
        ::_exit(0);
      }
    }
    try {
      Forked result{std::move(socket), make_ref<SharedChild>(pid, open_pidfd(pid))};
      // A byte, not the end of file: a child that another thread forks meanwhile holds the gate
      // too.
      if (gate.write) write_some(gate.write.get(), "", 1);
      return result;
    } catch (...) {
      kill_and_reap(pid);
      throw;
    }
  }

  bool send(ForkOrder order) {
    return retry_on_eintr([&] {
             return ::send(socket_.get(), &order, sizeof order, MSG_NOSIGNAL);
           }) == sizeof order;
  }

  void end(ForkOrder::Kind how) noexcept {
    stopped_ = true;
    send({how, 0, 0});
    try {
      process_->wait(Deadline{forever});
    } catch (const std::exception&) {  // it has ended; an ignored SIGCHLD took the code
    }
  }

  const std::uint64_t owner_ = this_process();
  unique_fd socket_;
  Ref<SharedChild> process_;
  bool stopped_ = false;
};

}  // namespace brood::posix
