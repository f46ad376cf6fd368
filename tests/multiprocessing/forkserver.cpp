// SPDX-License-Identifier: MIT
//
// What is special about the fork server: what its children have, and what becomes of whom when it,
// the program or somebody who asks it dies.
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <brood/posix/socket_pair.hpp>
#include <brood/posix/spawn.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/leaks.hpp"
#include "support/sleepers.hpp"
#include "support/start_methods.hpp"

namespace mp = brood::multiprocessing;
namespace posix = brood::posix;
using namespace std::chrono_literals;
using support::OwnProgram;
using support::patience;
using support::StartMethod;

namespace {

pid_t server() { return mp::ForkServer::here().identity().pid(); }

template <class... Args>
mp::Process started(StartMethod method, Args&&... args) {
  mp::Process process({.start_method = method}, std::forward<Args>(args)...);
  process.start();
  return process;
}

template <class... Args>
int code_of(StartMethod method, Args&&... args) {
  const auto process = started(method, std::forward<Args>(args)...);
  process.join();
  return process.exitcode().value();
}

posix::unique_fd watch(pid_t pid) {
  return posix::unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
}
bool ends(const posix::unique_fd& process, brood::Timeout limit = patience) {
  return !process || posix::wait_readable(process.get(), posix::Deadline{limit});
}

std::size_t descriptors_of(pid_t pid) {
  std::size_t count = 0;
  support::for_each_entry(("/proc/" + std::to_string(pid) + "/fd").c_str(),
                          [&](const char*) { ++count; });
  return count;
}

// A process that will be told what to do by this channel.
auto ordered_with(const posix::unique_fd& channel) {
  posix::List<int> given;
  given.push_back(channel.get());
  return mp::ForkServer::here().fork_process({}, given);
}

int changed = 0;

void tell_parent(const mp::Queue<pid_t>& to) { to.put(::getppid()); }

}  // namespace

TEST_CASE("a child of the fork server is as the program was when its main began") {
  changed = 1;
  ::setenv("BROOD_TEST_CHANGED", "1", 1);
  CHECK(code_of(StartMethod::forkserver, [] {
          ::_exit(changed == 0 && std::getenv("BROOD_TEST_CHANGED") == nullptr &&
                          ::getppid() != mp::parent_process()->pid()
                      ? 17
                      : 1);
        }) == 17);
  changed = 0;
  ::unsetenv("BROOD_TEST_CHANGED");
}

TEST_CASE("a child of the fork server has the signals that the program began with") {
  CHECK(code_of(StartMethod::forkserver, [] {
          sigset_t blocked;
          ::sigprocmask(SIG_SETMASK, nullptr, &blocked);
          bool right = sigismember(&blocked, SIGCHLD) == 0;
          for (const int signal : {SIGCHLD, SIGINT, SIGTERM}) {
            struct sigaction action {};
            ::sigaction(signal, nullptr, &action);
            right = right && action.sa_handler == SIG_DFL;
          }
          ::_exit(right ? 17 : 1);
        }) == 17);
}

TEST_CASE("a child of the fork server works where its parent does though the server is there too") {
  const auto inode = [] {
    struct stat here {};
    return ::stat(".", &here) == 0 ? std::uint64_t{here.st_ino} : 0;
  };
  const auto code = [&] {
    return code_of(
        StartMethod::forkserver,
        [](std::uint64_t there) {
          struct stat here {};
          ::_exit(::stat(".", &here) == 0 && here.st_ino == there ? 17 : 1);
        },
        inode());
  };
  const std::uint64_t first = inode();
  CHECK(code() == 17);
  const posix::unique_fd begin{::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
  REQUIRE(::chdir("/") == 0);
  const bool is_elsewhere = inode() != first;
  CHECK(code() == 17);
  REQUIRE(::fchdir(begin.get()) == 0);
  CHECK(is_elsewhere);
  CHECK(code() == 17);
}

TEST_CASE("the fork server is one small process for the program and all that descend from it") {
  const support::LeakCheck nothing_left;
  const mp::Queue<pid_t> parents;
  for (const StartMethod method : support::start_methods) {
    const auto middle = started(
        method,
        [](const mp::Queue<pid_t>& to) {
          started(StartMethod::forkserver, tell_parent, to).join();
        },
        parents);
    CHECK(middle.join(patience));
    CHECK(middle.exitcode() == 0);
    CHECK(parents.get(patience) == server());
  }
  // Of a bare fork, too.
  const auto ended = support::program([&] {
    started(StartMethod::forkserver, tell_parent, parents).join();
    support::say("joined");
  });
  CHECK(ended.said == "joined");
  CHECK(parents.get(patience) == server());
}

TEST_CASE("the fork server keeps no descriptor for those that have ended") {
  // It may not have all of its own before it has obeyed an order, and closes the last one's a
  // moment after its end was told.
  CHECK(code_of(StartMethod::forkserver, [] {}) == 0);
  const std::size_t before = descriptors_of(server());
  for (int i = 0; i < 30; ++i) CHECK(code_of(StartMethod::forkserver, [] {}) == 0);
  CHECK(support::eventually([&] { return descriptors_of(server()) <= before; }));
}

TEST_CASE("the fork server takes no harm from what is no order") {
  const int orders = mp::ForkServer::here().orders();
  CHECK(::send(orders, "nonsense", 8, 0) == 8);
  CHECK(::send(orders, "no", 2, 0) == 2);
  const std::uint64_t noise[64] = {};
  CHECK(::send(orders, noise, sizeof noise, 0) == sizeof noise);
  CHECK(posix::send_with_descriptors(orders, "nonsense", 8, {0, 1}) == 8);
  const posix::ProcessOrder order;
  CHECK(::send(orders, &order, sizeof order, 0) == sizeof order);  // without descriptors
  CHECK(code_of(StartMethod::forkserver, [] { std::exit(4); }) == 4);
}

TEST_CASE("a process that nobody tells what to do ends") {
  const support::LeakCheck nothing_left;
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_STREAM, mine, its);
  const auto child = ordered_with(its);
  its.reset();
  CHECK_FALSE(child->wait(posix::Deadline{10ms}));
  mine.reset();
  CHECK(child->wait(posix::Deadline{patience}) == 1);
}

TEST_CASE("a process killed before it was told anything has been started and was killed") {
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_STREAM, mine, its);
  const auto child = ordered_with(its);
  its.reset();
  child->send_signal(SIGKILL);
  CHECK(child->wait(posix::Deadline{patience}) == -SIGKILL);
  CHECK_THROWS_AS(posix::send_parcel(mine.get(), "too late", {}), brood::os::BrokenPipeError);
}

TEST_CASE("the fork server does not mind Ctrl-C") {
  REQUIRE(::kill(server(), SIGINT) == 0);
  CHECK(code_of(StartMethod::forkserver, [] { std::exit(4); }) == 4);
  // But its children do.
  CHECK(code_of(StartMethod::forkserver, [] { ::raise(SIGINT); }) == -SIGINT);
}

TEST_CASE("a start waits for a fork server that is stopped") {
  REQUIRE(::kill(server(), SIGSTOP) == 0);
  std::atomic<int> code{0};
  std::thread starter([&] { code = code_of(StartMethod::forkserver, [] { std::exit(4); }); });
  support::await_sleepers(1);
  CHECK(code == 0);
  REQUIRE(::kill(server(), SIGCONT) == 0);
  starter.join();
  CHECK(code == 4);
}

TEST_CASE("nobody waits for the code of an ended process while the fork server is stopped") {
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_STREAM, mine, its);
  const auto child = ordered_with(its);
  its.reset();
  REQUIRE(::kill(server(), SIGSTOP) == 0);
  while (!mp::ForkServer::here().identity().is_stopped()) ::sched_yield();
  mine.reset();
  REQUIRE(posix::wait_readable(child->pidfd(), posix::Deadline{patience}));
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(child->poll());
  CHECK_FALSE(child->wait(posix::Deadline{1ms}));
  child->send_signal(SIGTERM);
  CHECK(std::chrono::steady_clock::now() - start < 30s);
  REQUIRE(::kill(server(), SIGCONT) == 0);
  CHECK(child->wait(posix::Deadline{patience}) == 1);
}

TEST_CASE("what a child of the fork server has used is known") {
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_STREAM, mine, its);
  const auto child = ordered_with(its);
  mine.reset();
  its.reset();
  REQUIRE(child->wait(posix::Deadline{patience}));
  CHECK(child->usage().ru_maxrss > 0);
}

namespace {

// The fork server is killed while a process runs.
const OwnProgram kills_server("kills_server", [] {
  const mp::Event gate, ready;
  const auto running = started(
      StartMethod::forkserver,
      [](const mp::Event& started, const mp::Event& event) {
        started.set();
        event.wait();
        std::exit(6);
      },
      ready, gate);
  ready.wait();
  ::kill(server(), SIGKILL);
  // The server's end is seen by the next start, or this waits for it.
  const auto watched = watch(server());
  ends(watched);
  try {
    started(StartMethod::forkserver, [] {});
    std::printf("started;");
  } catch (const mp::ProcessError& error) {
    std::string text = error.what();
    const auto at = text.find("(pid");
    text.erase(at, text.find(')') - at + 2);
    std::printf("%s;", text.c_str());
  }
  std::printf("%s;", running.is_alive() ? "alive" : "dead");
  gate.set();
  try {
    running.join();
    std::printf("%d;", running.exitcode().value());
  } catch (const brood::os::ChildProcessError& error) {
    // Before Linux 6.15 nobody can know.
    const bool tells =
        std::string{error.what()}.find("was killed by SIGKILL (signal 9)") != std::string::npos;
    std::printf(tells ? "6;" : "what?;");
  }
  // The other methods have nothing to do with it.
  std::printf("%d;", code_of(StartMethod::spawn, [] { std::exit(7); }));
  std::printf("%d", code_of(StartMethod::fork, [] { std::exit(8); }));
  return 3;
});

// One that lives on when the program is killed: it says who it and the server are.
const OwnProgram is_killed("is_killed", [] {
  const mp::Queue<pid_t> pids;
  for (const StartMethod method : {StartMethod::forkserver, StartMethod::spawn})
    started(
        method,
        [](const mp::Queue<pid_t>& to) {
          ::close(1);
          ::close(2);
          to.put(::getpid());
          for (;;) ::pause();
        },
        pids);
  for (int i = 0; i < 2; ++i) std::printf("%d ", pids.get());
  std::printf("%d\n", server());
  std::fflush(stdout);
  for (;;) ::pause();
  return 0;
});

const OwnProgram has_signals(
    "has_signals",
    [] {
      ::signal(SIGINT, [](int) {});
      ::signal(SIGTERM, [](int) {});
      ::signal(SIGCHLD, [](int) {});
      sigset_t mask;
      sigemptyset(&mask);
      sigaddset(&mask, SIGINT);
      sigaddset(&mask, SIGUSR1);
      ::sigprocmask(SIG_BLOCK, &mask, nullptr);
      mp::freeze_support();
      ::kill(server(), SIGINT);  // is nothing to it, nor to those that it forks then
      std::printf("%d", code_of(StartMethod::forkserver, [] {
                    sigset_t blocked, pending;
                    ::sigprocmask(SIG_SETMASK, nullptr, &blocked);
                    ::sigpending(&pending);
                    bool right =
                        sigismember(&blocked, SIGINT) == 1 && sigismember(&blocked, SIGUSR1) == 1 &&
                        sigismember(&blocked, SIGCHLD) == 0 && sigismember(&pending, SIGINT) == 0;
                    for (const int signal : {SIGCHLD, SIGINT, SIGTERM}) {
                      struct sigaction action {};
                      ::sigaction(signal, nullptr, &action);
                      right = right && action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
                    }
                    ::_exit(right ? 17 : 1);
                  }));
      return 0;
    },
    OwnProgram::Call::nothing);

const OwnProgram ends_normally("ends_normally", [] {
  std::printf("%d", static_cast<int>(server()));
  return 5;
});

const OwnProgram never_asks("never_asks", [] {
  mp::freeze_support();
  mp::freeze_support();  // again: nothing
  std::printf("%d", static_cast<int>(support::children().size()));
  return 5;
});

const OwnProgram closes_all("closes_all", [] {
  // As daemons do; then its own file may get the number.
  for (int fd = 3; fd < 100; ++fd) ::close(fd);
  for (int i = 0; i < 20; ++i) static_cast<void>(::open("/dev/null", O_RDWR | O_CLOEXEC));
  try {
    started(StartMethod::forkserver, [] {});
    std::printf("started;");
  } catch (const mp::ProcessError& error) {
    std::printf(
        "%s;", std::strstr(error.what(), "closed its access") != nullptr ? "closed" : error.what());
  }
  std::printf("%d", code_of(StartMethod::spawn, [] { std::exit(7); }));
  return 0;
});

const OwnProgram sends_nonsense("sends_nonsense", [] {
  const auto code_after = [](std::string_view bytes) {
    posix::unique_fd mine, its;
    posix::make_sockets(SOCK_STREAM, mine, its);
    const auto child = ordered_with(its);
    its.reset();
    posix::send_parcel(mine.get(), bytes, {});
    const auto code = child->wait(posix::Deadline{patience});
    // The same in the order itself.
    if (bytes.empty()) return code;
    const auto other = mp::ForkServer::here().fork_process(bytes, {});
    return other->wait(posix::Deadline{patience}) == code ? code : 99;
  };
  std::printf("%d\n", code_after("").value_or(99));
  std::printf("%d\n", code_after(std::string(1000, 'x')).value_or(99));
  mp::PreparationRecord record;
  const auto bytes_of = [&] {
    return std::string{reinterpret_cast<const char*>(&record), sizeof record};
  };
  std::printf("%d\n", code_after(bytes_of()).value_or(99));  // no such entry
  record.name = 4000000000u;
  std::printf("%d\n", code_after(bytes_of()).value_or(99));
  record.name = 0;
  record.directory = 5;
  std::printf("%d\n", code_after(bytes_of()).value_or(99));
  record.entry = posix::place_of(reinterpret_cast<const void*>(&server));
  record.directory = mp::Reduction::no_descriptor;
  record.spool = mp::Reduction::no_descriptor;
  std::printf("%d\n", code_after(bytes_of()).value_or(99));  // code is no entry
  return 3;
});

const OwnProgram runs_out("runs_out", [] {
  // No number above: the server and those who ask are out of descriptors by turns.
  const mp::Event gate;
  std::vector<mp::Process> living;
  int refused = 0;
  rlimit limit{40, 40};
  ::prlimit(server(), RLIMIT_NOFILE, &limit, nullptr);
  while (refused == 0 && living.size() < 100) {
    mp::Process process(
        {.start_method = StartMethod::forkserver}, [](const mp::Event& event) { event.wait(); },
        gate);
    try {
      process.start();
      living.push_back(process);
    } catch (const brood::os::OSError& error) {
      refused = error.code().value();
    }
  }
  std::printf("%d %d;", refused == EMFILE, living.size() > 5 && living.size() < 40);
  // It answers, also where an end of file would not tell: the other end of the relay stays open.
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_SEQPACKET, mine, its);
  posix::List<int> too_many;
  while (too_many.size() < 40) too_many.push_back(its.get());
  posix::send_order(mp::ForkServer::here().orders(), its.get(), {}, too_many);
  posix::RelayReport report;
  posix::unique_fd none;
  const posix::EndRelay relay{std::move(mine), -1, nullptr, nullptr};
  relay.wait(posix::Deadline{patience});
  std::printf("%d;", relay.receive(report, none) == posix::EndRelay::News::report &&
                         report.kind == posix::RelayReport::Kind::refused &&
                         report.detail == EMFILE);
  its.reset();
  gate.set();
  int right = 0;
  for (const auto& process : living) right += process.join() && process.exitcode() == 0;
  std::printf("%d;", right == static_cast<int>(living.size()));
  std::printf("%d", code_of(StartMethod::forkserver, [] { std::exit(4); }));
  return 0;
});

const OwnProgram has_no_numbers("has_no_numbers", [] {
  rlimit before{};
  ::prlimit(server(), RLIMIT_NOFILE, nullptr, &before);
  const rlimit below{3, before.rlim_max};
  ::prlimit(server(), RLIMIT_NOFILE, &below, nullptr);
  for (int i = 0; i < 2; ++i) {
    try {
      started(StartMethod::forkserver, [] {});
      std::printf("started;");
    } catch (const brood::os::OSError& error) {
      std::printf("%d;", error.code().value() == EMFILE);
    }
  }
  ::prlimit(server(), RLIMIT_NOFILE, &before, nullptr);
  std::printf("%d", code_of(StartMethod::forkserver, [] { std::exit(4); }));
  return 0;
});

const OwnProgram has_many_under_way(
    "has_many_under_way",
    [] {
      // The kernel asks nobody with root's rights how many descriptors of one user are under way.
      if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) {
        std::printf("1;4");
        return 0;
      }
      ::prctl(PR_SET_DUMPABLE, 1);
      mp::freeze_support();
      const rlimit limit{64, 64};
      ::prlimit(server(), RLIMIT_NOFILE, &limit, nullptr);
      posix::unique_fd mine, its;
      posix::make_sockets(SOCK_STREAM, mine, its);
      posix::List<int> many;
      while (many.size() < 200) many.push_back(STDOUT_FILENO);  // not a socket: it is freed at once
      posix::send_parcel(mine.get(), {}, many);
      try {
        started(StartMethod::forkserver, [] {
          ::alarm(support::last_alarm);
          ::pause();
        });
        std::printf("started;");
      } catch (const brood::os::OSError& error) {
        std::printf("%d;", error.code().value() == ETOOMANYREFS);
      }
      mine.reset();
      its.reset();
      std::printf("%d", code_of(StartMethod::forkserver, [] { std::exit(4); }));
      return 0;
    },
    OwnProgram::Call::nothing);

}  // namespace

TEST_CASE("the death of the fork server is told to those who ask and spares its children") {
  const auto ended = kills_server.run();
  CHECK(ended.said ==
        "start a process by the fork server: the fork server was killed by SIGKILL (signal "
        "9);alive;6;7;8");
  CHECK(ended.code == 3);
}

TEST_CASE("the fork server ends with a killed program and its children live on") {
  auto program = is_killed.start();
  const std::string said = program.out.readline();
  const pid_t pid = program.pid();
  ::kill(pid, SIGKILL);
  program.wait();
  int children[2] = {0, 0}, last = 0;
  REQUIRE(std::sscanf(said.c_str(), "%d %d %d", &children[0], &children[1], &last) == 3);
  CHECK(ends(watch(last)));
  for (const int child : children) {
    const auto watched = watch(child);
    REQUIRE(watched);
    CHECK_FALSE(ends(watched, 0s));
    ::kill(child, SIGKILL);
    CHECK(ends(watched));
  }
}

TEST_CASE("a child of the fork server has the signals of a program that has changed them before") {
  CHECK(has_signals.run().said == "17");
}

TEST_CASE("the fork server ends with the program") {
  const auto ended = ends_normally.run();
  CHECK(ended.code == 5);
  CHECK(::kill(std::stoi(ended.said), 0) != 0);
  CHECK(errno == ESRCH);
}

TEST_CASE("however often freeze_support is called there is one fork server") {
  const auto ended = never_asks.run();
  CHECK(ended.said == "1");
  CHECK(ended.code == 5);
}

TEST_CASE("a process that has closed all its descriptors is told so by the fork server") {
  CHECK(closes_all.run().said == "closed;7");
}

TEST_CASE("a fork server that may pass no descriptor on says so and goes on when it may") {
  CHECK(has_many_under_way.run().said == "1;4");
}

TEST_CASE("a fork server without descriptors says so and goes on when it has some") {
  if (support::under_asan)
    SKIP("UndefinedBehaviorSanitizer needs a descriptor to look at an object");
  CHECK(runs_out.run().said == "1 1;1;1;4");
}

TEST_CASE("a fork server that may have no more descriptors is not taken for a dead one") {
  if (support::under_asan)
    SKIP("UndefinedBehaviorSanitizer needs a descriptor to look at an object");
  CHECK(has_no_numbers.run().said == "1;1;4");
}

TEST_CASE("what is sent to a process that was ordered is checked") {
  const auto ended = sends_nonsense.run();
  CHECK(ended.code == 3);
  int errors = 0;
  for (std::size_t at = 0; (at = ended.said.find("SerializationError", at)) != std::string::npos;
       ++at)
    ++errors;
  INFO(ended.said);
  CHECK(errors == 11);  // of five messages by two ways, and of an empty one
  CHECK(ended.said.find("99") == std::string::npos);
}
