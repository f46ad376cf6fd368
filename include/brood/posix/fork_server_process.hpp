// SPDX-License-Identifier: MIT
// What runs in the process of a ForkServer: see fork_server.hpp.
#pragma once

#include <sys/prctl.h>
#include <sys/socket.h>

#include <cstdint>

#include "child_ends.hpp"
#include "fork.hpp"
#include "list.hpp"
#include "poll.hpp"
#include "process_tree.hpp"
#include "signals.hpp"

namespace brood::posix {

/// What the workers of a fork server do.
class ForkedWorkers {
 public:
  /// Called once, in the server: what it brings into memory, all workers have.
  virtual void prepare() {}
  /// Called in a worker, with no signal blocked. The worker ends when it returns, with code 0.
  virtual void run(std::uint32_t worker) noexcept = 0;
  /// Called in the server when a worker has ended, before that is reported.
  virtual void ended(std::uint32_t) noexcept {}

 protected:
  ~ForkedWorkers() = default;
};

/// An order to the server. (Native byte order: both ends are the same program.)
struct ForkOrder {
  enum class Kind : std::uint32_t { start, signal, kill_tree, finish, quit };
  Kind what;
  std::uint32_t worker;
  std::int32_t number;  // of a signal
};

/// What the server reports.
struct ForkReport {
  enum class Kind : std::uint32_t { started, not_started, ended };
  Kind kind;
  std::uint32_t worker;  // the index that was asked for
  std::int32_t pid;
  std::int32_t detail;  // ended: the returncode (-N: killed by signal N); not_started: errno
  std::uint64_t max_rss_bytes;
};

class ForkServerProcess {
 public:
  /// Opens what it needs, where a lack of it can be told: in the program, if the server will be
  /// forked from it. `socket`: where the orders come from. `program`: a pidfd of the process that
  /// gives them, or none where the system has no such. Throws os::OSError.
  ForkServerProcess(unique_fd socket, unique_fd program, ForkedWorkers& workers)
      : socket_{std::move(socket)}, program_{std::move(program)}, workers_{workers} {}

  /// In the server: obeys until it is told to end or the program has ended. In a worker it does not
  /// return.
  void run() noexcept {
    try {
      set_signals();
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
    workers_.prepare();
  }

  // Ctrl-C is for the program, which decides what becomes of its workers.
  void set_signals() noexcept {
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGTERM, SIG_DFL);
    ends_.take_charge();
  }

  // False: it is time to end.
  bool serve() {
    if (finishing_ && living_.empty()) return false;
    // Reports never block: the program may be blocked in sending an order.
    send_reports();
    const short wanted = sent_ == reports_.size() ? POLLIN : POLLIN | POLLOUT;
    pollfd entries[] = {
        {socket_.get(), wanted, 0}, {ends_.fileno(), POLLIN, 0}, {program_.get(), POLLIN, 0}};
    poll_until(entries, 3, Deadline{forever});
    if (entries[2].revents != 0) return false;
    if (entries[1].revents != 0) reap();
    return (entries[0].revents & ~POLLOUT) == 0 || obey();
  }

  // All orders that are there, before their reports are sent: so many workers are started with
  // few switches between the two processes.
  bool obey() {
    for (;;) {
      ForkOrder order;
      const ssize_t length =
          retry_on_eintr([&] { return ::recv(socket_.get(), &order, sizeof order, MSG_DONTWAIT); });
      if (length < 0 && errno == EAGAIN) return true;
      if (length != sizeof order) return false;
      switch (order.what) {
        case ForkOrder::Kind::start:
          start(order.worker);
          break;
        case ForkOrder::Kind::signal:
          pass_on(order.worker, order.number);
          break;
        case ForkOrder::Kind::kill_tree:
          kill_tree(order.worker);
          break;
        case ForkOrder::Kind::finish:
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
      ends_.close();
      program_.reset();
      sigset_t none;
      sigemptyset(&none);
      ::sigprocmask(SIG_SETMASK, &none, nullptr);
      workers_.run(worker);
      end_forked_child(0);
    }
    if (pid < 0) {
      report({ForkReport::Kind::not_started, worker, 0, errno, 0});
      return;
    }
    living_.push_back({pid, worker});
    report({ForkReport::Kind::started, worker, pid, 0, 0});
  }

  void pass_on(std::uint32_t worker, int number) {
    for (const auto& [pid, index] : living_)
      if (index == worker) ::kill(pid, number);
  }

  // Nobody but this process waits for a worker, so its number is its own meanwhile.
  void kill_tree(std::uint32_t worker) {
    for (const auto& [pid, index] : living_)
      if (index == worker) ProcessTree{pid, std::string{}}.send_signal(SIGKILL);
  }

  void reap() {
    ends_.reap([this](pid_t pid, int code, const rusage& usage) {
      for (Worker& worker : living_) {
        if (worker.pid != pid) continue;
        workers_.ended(worker.index);
        report({ForkReport::Kind::ended, worker.index, pid, code,
                static_cast<std::uint64_t>(usage.ru_maxrss) * 1024});
        living_.erase_unordered(&worker);
        break;
      }
      return !living_.empty();
    });
  }

  void report(const ForkReport& report) {
    if (!finishing_) reports_.push_back(report);
  }

  void send_reports() {
    while (sent_ != reports_.size()) {
      const ForkReport& report = reports_[sent_];
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
  unique_fd program_;
  ChildEnds ends_;
  ForkedWorkers& workers_;
  bool finishing_ = false;
  List<Worker> living_;  // in no order
  List<ForkReport> reports_;
  std::size_t sent_ = 0;  // of these
};

}  // namespace brood::posix
