// SPDX-License-Identifier: MIT
#include <algorithm>
#include <brood/posix/fork_server.hpp>
#include <set>
#include <vector>

#include "support/board.hpp"
#include "support/catch.hpp"
#include "support/leaks.hpp"

using brood::posix::ForkReport;
using brood::posix::ForkServer;
using namespace std::chrono_literals;

namespace {

template <class F>
class Workers final : public brood::posix::ForkedWorkers {
 public:
  explicit Workers(F f) : f_{f} {}
  void run(std::uint32_t worker) noexcept override { f_(worker); }

 private:
  F f_;
};

// Whose workers call f(their index).
template <class F>
ForkServer server_of(F f) {
  Workers<F> workers{f};
  return ForkServer{workers};
}

// The next report, which must come.
ForkReport next(ForkServer& server) {
  for (;;) {
    ForkReport report;
    bool gone = false;
    if (server.receive(report, gone)) return report;
    if (gone) throw std::runtime_error("the fork server is gone");
    if (!brood::posix::wait_readable(server.fileno(), brood::posix::Deadline{60s}))
      throw std::runtime_error("no report came");
  }
}

}  // namespace

TEST_CASE("fork server starts workers and reports their ends") {
  support::LeakCheck nothing_left;
  board::reset();
  ForkServer server = server_of([](std::uint32_t worker) {
    board::bump(worker);
    if (worker == 2) ::_exit(7);
    if (worker == 3) ::abort();
  });
  std::set<std::uint32_t> started;
  for (const std::uint32_t worker : {1u, 2u, 3u}) CHECK(server.start(worker));
  int ended = 0;
  while (ended < 3) {
    const auto report = next(server);
    if (report.kind == ForkReport::Kind::started) {
      CHECK(started.insert(report.worker).second);
      CHECK(report.pid > 0);
    } else {
      REQUIRE(report.kind == ForkReport::Kind::ended);
      CHECK(started.count(report.worker) == 1);
      CHECK(report.detail == (report.worker == 1 ? 0 : report.worker == 2 ? 7 : -SIGABRT));
      CHECK(report.max_rss_bytes > 0);
      ++ended;
    }
  }
  for (const unsigned worker : {1u, 2u, 3u}) CHECK(board::get(worker) == 1);
}

TEST_CASE("fork server passes signals on to the worker that is meant") {
  board::reset();
  ForkServer server = server_of([](std::uint32_t) { board::await(1, 1); });
  server.start(4);
  server.start(5);
  CHECK(next(server).kind == ForkReport::Kind::started);
  CHECK(next(server).kind == ForkReport::Kind::started);
  server.signal(9, SIGKILL);  // there is none
  server.signal(5, SIGTERM);
  const auto report = next(server);
  CHECK(report.worker == 5);
  CHECK(report.detail == -SIGTERM);
  board::bump(1);
  CHECK(next(server).worker == 4);
}

TEST_CASE("fork server that is told to finish waits for its workers") {
  board::reset();
  ForkServer server = server_of([](std::uint32_t) {
    board::bump(0);
    board::await(1, 1);
    board::bump(2);
  });
  for (std::uint32_t worker = 0; worker < 5; ++worker) server.start(worker);
  board::await(0, 5);
  board::bump(1);
  server.finish();
  CHECK(board::get(2) == 5);
  CHECK_FALSE(server.start(1));
  ForkReport report;
  bool gone = false;
  while (server.receive(report, gone)) {
  }
  CHECK(gone);
}

TEST_CASE("fork server that is stopped takes its workers with it") {
  board::reset();
  ForkServer server = server_of([](std::uint32_t) {
    board::bump(0);
    board::await(1, 1);
  });
  server.start(0);
  board::await(0, 1);
  const auto worker = board::watch(next(server).pid);
  server.stop();
  CHECK(board::ends(worker, 60s));
}

TEST_CASE("fork server runs workers with default signals and no standard input") {
  board::reset();
  ::signal(SIGCHLD, SIG_IGN);
  ::signal(SIGTERM, SIG_IGN);
  {
    ForkServer server = server_of([](std::uint32_t) {
      const auto handler = [](int number) {
        struct sigaction action {};
        ::sigaction(number, nullptr, &action);
        return action.sa_handler;
      };
      if (handler(SIGCHLD) == SIG_DFL) board::bump(0);
      if (handler(SIGTERM) == SIG_DFL) board::bump(1);
      if (handler(SIGINT) == SIG_IGN) board::bump(2);
      char c;
      if (::read(STDIN_FILENO, &c, 1) == 0) board::bump(3);
    });
    server.start(0);
    server.finish();
  }
  ::signal(SIGCHLD, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  for (const unsigned place : {0u, 1u, 2u, 3u}) CHECK(board::get(place) == 1);
}

TEST_CASE("fork server takes many orders while nobody reads its reports") {
  board::reset();
  ForkServer server = server_of([](std::uint32_t) { board::bump(0); });
  for (int i = 0; i < 600; ++i) CHECK(server.start(static_cast<std::uint32_t>(i)));
  CHECK(board::await(0, 600, 60s));
  int ended = 0;
  while (ended < 600) ended += next(server).kind == ForkReport::Kind::ended ? 1 : 0;
}
