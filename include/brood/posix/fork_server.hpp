// SPDX-License-Identifier: MIT
// A small single-threaded process that forks workers on request. It is a copy of the program as it
// was when the server was made, so a replacement made later never inherits a lock that some thread
// held at that moment.
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
#pragma once

#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <cstdint>

#include "../function.hpp"
#include "child.hpp"
#include "fork.hpp"
#include "list.hpp"
#include "pipe.hpp"
#include "process_tree.hpp"
#include "signals.hpp"

namespace brood::posix {

class ForkServer {
 public:
  enum class Kind : std::uint32_t { started, not_started, ended };

  /// What the server reports.
  struct Report {
    Kind kind;
    std::uint32_t worker;  // the index that was asked for
    std::int32_t pid;
    std::int32_t detail;  // ended: the returncode (-N: killed by signal N); not_started: errno
    std::uint64_t max_rss_bytes;
  };

  /// Forks the server, which first runs `prepare()`: what that brings into memory, all workers
  /// have. A worker runs `body(index)` with no signal blocked, and then ends with code 0. Throws
  /// os::OSError.
  explicit ForkServer(Function<void(std::uint32_t)> body, Function<void()> prepare = {})
      : ForkServer{launch(std::move(body), std::move(prepare))} {}

  ForkServer(const ForkServer&) = delete;
  ForkServer& operator=(const ForkServer&) = delete;
  /// stop(), unless that was done, or this is a copy in a forked process.
  ~ForkServer() {
    if (!stopped_ && owner_ == this_pid()) stop();
  }

  /// Asks for a worker; a Report tells what came of it. False when the server is gone.
  bool start(std::uint32_t worker) { return send({Order::start, worker, 0}); }

  /// Sends a signal to a worker if it lives. False when the server is gone.
  bool signal(std::uint32_t worker, int number) { return send({Order::signal, worker, number}); }

  /// Kills a worker, if it lives, with all that descends from it by a chain of parents that live.
  /// False when the server is gone.
  bool kill_tree(std::uint32_t worker) { return send({Order::kill_tree, worker, 0}); }

  /// Polls readable when a Report is there.
  int fileno() const noexcept { return socket_.get(); }
  /// Polls readable when the server is gone; -1 where the system has no pidfds.
  int sentinel() const noexcept { return child_.pidfd(); }

  /// Whether the next Report is there; `gone` is set when none will ever come again.
  bool receive(Report& report, bool& gone) {
    const ssize_t length =
        retry_on_eintr([&] { return ::recv(socket_.get(), &report, sizeof report, MSG_DONTWAIT); });
    if (length == sizeof report) return true;
    gone = length == 0 || (length < 0 && errno != EAGAIN);
    return false;
  }

  /// Waits until all workers have ended by themselves (signal() still reaches them), then ends the
  /// server. No more Reports come.
  void finish() noexcept { end(Order::finish); }

  /// Ends the server, which kills the workers that are left, and waits for it.
  void stop() noexcept { end(Order::quit); }

  pid_t pid() const noexcept { return child_.pid(); }

 private:
  struct Order {
    static constexpr std::uint32_t start = 1, signal = 2, kill_tree = 3, finish = 4, quit = 5;
    std::uint32_t what;
    std::uint32_t worker;
    std::int32_t number;
  };

  struct Launched {
    unique_fd socket;
    pid_t pid;
    unique_fd pidfd;
  };
  explicit ForkServer(Launched server)
      : socket_{std::move(server.socket)}, child_{server.pid, std::move(server.pidfd)} {}

  static Launched launch(Function<void(std::uint32_t)> body, Function<void()> prepare) {
    int ends[2];
    check(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "make a socket pair");
    unique_fd socket{ends[0]};
    // What the server needs is opened here, where a lack of it can be told.
    Server server{unique_fd{ends[1]}, std::move(body), std::move(prepare)};
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
        server.run();
        ::_exit(0);
      }
    }
    try {
      Launched server_process{std::move(socket), pid, open_pidfd(pid)};
      // A byte, not the end of file: a child that another thread forks meanwhile holds the gate
      // too.
      if (gate.write) write_some(gate.write.get(), "", 1);
      return server_process;
    } catch (...) {
      kill_and_reap(pid);
      throw;
    }
  }

  bool send(Order order) {
    return retry_on_eintr([&] {
             return ::send(socket_.get(), &order, sizeof order, MSG_NOSIGNAL);
           }) == sizeof order;
  }

  void end(std::uint32_t how) noexcept {
    stopped_ = true;
    send({how, 0, 0});
    try {
      child_.wait(Deadline{forever});
    } catch (const std::exception&) {  // it has ended; an ignored SIGCHLD took the code
    }
  }

  // What runs in the server process.
  class Server {
   public:
    // In the program.
    Server(unique_fd socket, Function<void(std::uint32_t)> body, Function<void()> prepare)
        : socket_{std::move(socket)},
          body_{std::move(body)},
          prepare_{std::move(prepare)},
          program_{open_pidfd(program_pid_)} {
      sigset_t ended;
      sigemptyset(&ended);
      sigaddset(&ended, SIGCHLD);
      signals_ = unique_fd{check(::signalfd(-1, &ended, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd")};
    }

    // In the server.
    void run() noexcept {
      if (::getppid() != program_pid_) return;  // the program is dead already
      try {
        set_signals();
        detach_stdin();
        catch_exit_in_forked_child();  // the workers inherit it
        rehearse();
        while (serve()) {
        }
      } catch (const std::exception& error) {
        std::fprintf(stderr, "brood: fork server: %s\n", error.what());
      }
    }

   private:
    // A function's first call in a process is the dynamic linker's search for it, which touches
    // many pages. Made here, none of the workers makes it.
    void rehearse() {
      int none = 0;
      ::prctl(PR_GET_PDEATHSIG, &none);
      if (prepare_) prepare_();
    }

    void set_signals() {
      // Ctrl-C is for the program, which decides what becomes of its workers.
      struct sigaction action {};
      action.sa_handler = SIG_IGN;
      ::sigaction(SIGINT, &action, nullptr);
      action.sa_handler = SIG_DFL;
      ::sigaction(SIGCHLD, &action, nullptr);
      ::sigaction(SIGTERM, &action, nullptr);
      sigset_t ended;
      sigemptyset(&ended);
      sigaddset(&ended, SIGCHLD);
      ::sigprocmask(SIG_SETMASK, &ended, nullptr);
    }

    // False: it is time to end.
    bool serve() {
      if (finishing_ && workers_.empty()) return false;
      // Reports never block: the program may be blocked in sending an order.
      send_reports();
      const short wanted = sent_ == reports_.size() ? POLLIN : POLLIN | POLLOUT;
      pollfd entries[] = {
          {socket_.get(), wanted, 0}, {signals_.get(), POLLIN, 0}, {program_.get(), POLLIN, 0}};
      poll_until(entries, 3, Deadline{forever});
      if (entries[2].revents != 0) return false;
      if (entries[1].revents != 0) reap();
      return (entries[0].revents & ~POLLOUT) == 0 || obey();
    }

    // All orders that are there, before their reports are sent: so many workers are started with
    // few switches between the two processes.
    bool obey() {
      for (;;) {
        Order order;
        const ssize_t length = retry_on_eintr(
            [&] { return ::recv(socket_.get(), &order, sizeof order, MSG_DONTWAIT); });
        if (length < 0 && errno == EAGAIN) return true;
        if (length != sizeof order) return false;
        switch (order.what) {
          case Order::start:
            start(order.worker);
            break;
          case Order::signal:
            pass_on(order.worker, order.number);
            break;
          case Order::kill_tree:
            kill_tree(order.worker);
            break;
          case Order::finish:
            finishing_ = true;
            reports_.clear();
            sent_ = 0;
            break;
          default:
            return false;
        }
      }
    }

    void start(std::uint32_t worker) {
      const pid_t server = ::getpid();
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != server) ::_exit(0);
        socket_.reset();
        signals_.reset();
        program_.reset();
        sigset_t none;
        sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        body_(worker);
        end_forked_child(0);
      }
      if (pid < 0) {
        report({Kind::not_started, worker, 0, errno, 0});
        return;
      }
      workers_.push_back({pid, worker});
      report({Kind::started, worker, pid, 0, 0});
    }

    void pass_on(std::uint32_t worker, int number) {
      for (const auto& [pid, index] : workers_)
        if (index == worker) ::kill(pid, number);
    }

    // Nobody but this process waits for a worker, so its number is its own meanwhile.
    void kill_tree(std::uint32_t worker) {
      for (const auto& [pid, index] : workers_)
        if (index == worker) ProcessTree{pid, std::string{}}.send_signal(SIGKILL);
    }

    void reap() {
      signalfd_siginfo ignored;
      while (read_some(signals_.get(), &ignored, sizeof ignored) > 0) {
      }
      for (;;) {
        siginfo_t info{};
        rusage usage{};
        if (wait_id(P_ALL, 0, &info, WEXITED | WNOHANG, &usage) != 0 || info.si_pid == 0) return;
        std::size_t i = 0;
        while (i < workers_.size() && workers_[i].pid != info.si_pid) ++i;
        if (i == workers_.size()) continue;
        const int code = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
        report({Kind::ended, workers_[i].index, info.si_pid, code,
                static_cast<std::uint64_t>(usage.ru_maxrss) * 1024});
        workers_.erase_unordered(&workers_[i]);
      }
    }

    void report(const Report& report) {
      if (!finishing_) reports_.push_back(report);
    }

    void send_reports() {
      while (sent_ != reports_.size()) {
        const Report& report = reports_[sent_];
        const ssize_t sent = retry_on_eintr([&] {
          return ::send(socket_.get(), &report, sizeof report, MSG_NOSIGNAL | MSG_DONTWAIT);
        });
        if (sent < 0 && errno == EAGAIN) return;
        ++sent_;  // or nobody is there to hear it
      }
      reports_.clear();
      sent_ = 0;
    }

    struct Worker {
      pid_t pid;
      std::uint32_t index;
    };

    unique_fd socket_;
    Function<void(std::uint32_t)> body_;
    Function<void()> prepare_;
    const pid_t program_pid_ = ::getpid();
    unique_fd program_;
    unique_fd signals_;
    bool finishing_ = false;
    List<Worker> workers_;  // those that live, in no order
    List<Report> reports_;
    std::size_t sent_ = 0;  // of these
  };

  const pid_t owner_ = this_pid();
  unique_fd socket_;
  Child child_;
  bool stopped_ = false;
};

}  // namespace brood::posix
