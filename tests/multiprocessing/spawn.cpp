// SPDX-License-Identifier: MIT
//
// What is special about spawn: the program runs anew, as a program of its own, and nobody else is
// taken for such a one.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <brood/posix/socket_pair.hpp>
#include <brood/threading.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/descriptors.hpp"
#include "support/leaks.hpp"
#include "support/refused_calls.hpp"
#include "support/sleepers.hpp"
#include "support/start_methods.hpp"
#include "support/start_ways.hpp"

namespace mp = brood::multiprocessing;
namespace posix = brood::posix;
using namespace std::chrono_literals;
using support::OwnProgram;
using support::patience;
using support::StartMethod;

namespace {

template <class... Args>
int code_of(Args&&... args) {
  const mp::Process process({.start_method = StartMethod::spawn}, std::forward<Args>(args)...);
  process.start();
  process.join();
  return process.exitcode().value();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

int changed = 0;

// Says so at its end, where that is asked for.
struct Static {
  ~Static() {
    if (says) std::printf("static of %s;", mp::current_process().name().c_str());
  }
  bool says = false;
};
Static at_the_end;

std::string own_command() {
  char name[16] = {};
  ::prctl(PR_GET_NAME, name);
  return name;
}

}  // namespace

TEST_CASE("a spawned process is the program begun anew with the same arguments") {
  changed = 1;
  ::setenv("BROOD_TEST_CHANGED", "1", 1);
  const std::string arguments = posix::own_arguments(), command = own_command();
  CHECK(code_of(
            [](const std::string& wanted_arguments, const std::string& wanted_command) {
              const bool right = posix::own_arguments() == wanted_arguments &&
                                 own_command() == wanted_command && changed == 0 &&
                                 std::getenv("BROOD_TEST_CHANGED") != nullptr &&
                                 std::getenv(posix::spawned_variable) == nullptr &&
                                 ::getppid() == mp::parent_process()->pid();
              std::exit(right ? 17 : 1);
            },
            arguments, command) == 17);
  changed = 0;
  ::unsetenv("BROOD_TEST_CHANGED");
}

TEST_CASE("a program that a spawned process starts is nobody's child") {
  const mp::Queue<std::string> said;
  CHECK(code_of(
            [](const mp::Queue<std::string>& to) {
              const auto done = brood::subprocess::run({"env"}, {.capture_output = true});
              to.put(done.out);
            },
            said) == 0);
  const std::string variables = said.get(patience);
  CHECK(contains(variables, "PATH="));
  CHECK_FALSE(contains(variables, posix::spawned_variable));
}

namespace {

const OwnProgram ends_as_a_program("ends_as_a_program", [] {
  at_the_end.says = true;
  const mp::Process process({.name = "child", .start_method = StartMethod::spawn}, [] {
    at_the_end.says = true;
    std::atexit([] { std::printf("handler;"); });
    std::printf("child;");
  });
  process.start();
  process.join();
  std::printf("joined;");
  return 3;
});

const OwnProgram does_not_call(
    "does_not_call",
    [] {
      std::printf("main;");
      std::fflush(stdout);
      for (const StartMethod method : {StartMethod::forkserver, StartMethod::spawn}) {
        try {
          const mp::Process process({.start_method = method}, [] {});
          process.start();
          std::printf("started;");
        } catch (const std::runtime_error& error) {
          std::printf("%s;", contains(error.what(), "freeze_support()") ? "refused" : error.what());
        }
      }
      return 0;
    },
    OwnProgram::Call::nothing);

// In the processes that it spawns main() ends without it.
const OwnProgram calls_too_late(
    "calls_too_late",
    [] {
      if (std::getenv(posix::spawned_variable) != nullptr)
        return std::atoi(std::getenv("BROOD_TEST_CODE"));
      mp::freeze_support();
      for (const char* const code : {"0", "7"}) {
        ::setenv("BROOD_TEST_CODE", code, 1);
        const mp::Process process({.start_method = StartMethod::spawn},
                                  [] { std::printf("ran;"); });
        process.start();
        process.join();
        std::printf("%d;", process.exitcode().value());
        std::fflush(stdout);
      }
      try {
        brood::futures::ProcessPoolExecutor pool(
            {.max_workers = 1, .start_method = StartMethod::spawn});
        pool.submit([] {}).result();
      } catch (const brood::futures::BrokenProcessPool&) {
        std::printf("broken;");
      }
      return 0;
    },
    OwnProgram::Call::nothing);

// Its arguments come with more descriptors than the new process may have.
const OwnProgram gives_too_much("gives_too_much", [] {
  std::vector<posix::unique_fd> low;
  for (int i = 0; i < 100; ++i) low.push_back(posix::duplicate(0));
  const std::vector<mp::Queue<int>> queues(15);
  low.clear();
  const support::DescriptorsBelow few{40};
  std::printf("%d", code_of([](const std::vector<mp::Queue<int>>&) {}, queues));
  return 3;
});

const OwnProgram says_main("says_main", [] {
  std::printf("main;");
  return 5;
});

const OwnProgram shows_errors("shows_errors", [] {
  const auto code = code_of([] { throw std::runtime_error("out of soap"); });
  std::printf("%d", code);
  return 3;
});

const OwnProgram has_no_streams("has_no_streams", [] {
  const posix::unique_fd out = posix::duplicate(1, 10);
  for (int fd = 0; fd < 3; ++fd) ::close(fd);
  const std::string said =
      std::to_string(code_of([] { std::exit(::fcntl(0, F_GETFD) == 0 ? 7 : 1); }));
  posix::write_some(out.get(), said.data(), said.size());
  return 3;
});

// The copy removes its own file first.
const OwnProgram was_removed("was_removed", [] {
  ::unlink(std::getenv("BROOD_TEST_COPY"));
  std::printf("%d", code_of([] { std::exit(7); }));
  return 3;
});

const OwnProgram exits_by_the_rules("exits_by_the_rules", [] {
  const mp::Event ready;
  for (const StartMethod method : support::start_methods) {
    const mp::Process daemon(
        {.daemon = true, .start_method = method},
        [](const mp::Event& event) {
          static const mp::Event* told = &event;
          ::signal(SIGTERM, [](int) {
            static_cast<void>(!::write(1, "terminated;", 11));
            ::_exit(0);
          });
          told->set();
          for (;;) ::pause();
        },
        ready);
    daemon.start();
    ready.wait();
    ready.clear();
  }
  const mp::Event gate;
  for (const StartMethod method : support::start_methods) {
    const mp::Process other(
        {.start_method = method},
        [](const mp::Event& event) {
          event.wait();
          // Has children of its own to wait for.
          const mp::Process grandchild({.start_method = StartMethod::forkserver},
                                       [] { static_cast<void>(!::write(1, "grandchild;", 11)); });
          grandchild.start();
        },
        gate);
    other.start();
  }
  gate.set();
  return 3;
});

// A thread of a static object, in a program that does it so and in what it spawns.
struct Early {
  Early() {
    if (std::getenv("BROOD_TEST_EARLY") == nullptr) return;
    thread = brood::threading::Thread({.daemon = true}, [this] { gate.wait(); });
    thread->start();
  }
  ~Early() {
    if (!thread) return;
    gate.set();
    thread->join();
  }
  brood::threading::Event gate;
  std::optional<brood::threading::Thread> thread;
};
const Early early;

const OwnProgram has_threads_early("has_threads_early", [] {
  for (const StartMethod method : {StartMethod::forkserver, StartMethod::spawn}) {
    const mp::Process process({.start_method = method}, [] { ::_exit(7); });
    process.start();
    process.join();
    std::printf("%d", process.exitcode().value());
  }
  return 3;
});

}  // namespace

TEST_CASE("a spawned process ends by std exit with static objects and handlers of its own") {
  const auto ended = ends_as_a_program.run();
  CHECK(ended.said == "child;handler;static of child;joined;static of MainProcess;");
  CHECK(ended.code == 3);
}

TEST_CASE("without freeze_support nothing is spawned and main runs once") {
  CHECK(does_not_call.run().said == "main;refused;refused;");
}

TEST_CASE("a spawned process whose main ends without freeze_support has not ended well") {
  const auto ended = calls_too_late.run();
  INFO(ended.said);
  CHECK(ended.code == 0);
  CHECK(contains(ended.said, "has ended by itself (code 0) before it had called freeze_support()"));
  CHECK(contains(ended.said, "\n1;"));
  CHECK(contains(ended.said, "has ended by itself (code 7) before"));
  CHECK(contains(ended.said, "\n7;"));
  CHECK(contains(ended.said, "broken;"));
}

TEST_CASE(
    "a spawned process that has no room for its arguments is not said to have no freeze_support") {
  const auto ended = gives_too_much.run();
  INFO(ended.said);
  CHECK(contains(ended.said, "Too many open files"));
  CHECK_FALSE(contains(ended.said, "freeze_support"));
  CHECK_THAT(ended.said, Catch::Matchers::EndsWith("1"));
}

TEST_CASE("a false channel in the environment ends the program with a message") {
  const auto ended = [](const std::string& value) {
    return says_main.run({{posix::spawned_variable, value}});
  };
  for (const char* const value : {"", "x", "77,1,1", "1,1,1", "0,0,0", "-1,2,3", "3,4"}) {
    const auto result = ended(value);
    INFO(value);
    CHECK(result.code == 1);
    CHECK(contains(result.said, "there is no such channel"));
    CHECK_FALSE(contains(result.said, "main;"));
  }
}

TEST_CASE("an exception in a spawned process is shown with its name and gives code 1") {
  const auto ended = shows_errors.run();
  CHECK(contains(ended.said, "std::runtime_error: out of soap\n"));
  CHECK(contains(ended.said, "Process Process-1:\n"));
  CHECK_THAT(ended.said, Catch::Matchers::EndsWith("1"));
}

TEST_CASE("a program without standard streams spawns") { CHECK(has_no_streams.run().said == "7"); }

TEST_CASE("a program whose file was removed spawns") {
  const support::TemporaryDirectory directory;
  const std::string copy = directory / "copy";
  REQUIRE(brood::subprocess::run({"cp", "/proc/" + std::to_string(::getpid()) + "/exe", copy})
              .returncode == 0);
  auto environment = brood::os::environ_copy();
  environment["BROOD_TEST_PROGRAM"] = "was_removed";
  environment["BROOD_TEST_COPY"] = copy;
  const auto done = brood::subprocess::run(
      {copy},
      {.in = brood::subprocess::DEVNULL, .out = brood::subprocess::PIPE, .env = environment});
  CHECK(done.out == "7");
  CHECK(done.returncode == 3);
}

TEST_CASE("the end of the program treats processes of every start method alike") {
  const auto ended = exits_by_the_rules.run();
  CHECK(ended.code == 3);
  std::size_t terminated = 0, grandchildren = 0;
  for (std::size_t at = 0; (at = ended.said.find("terminated;", at)) != std::string::npos; ++at)
    ++terminated;
  for (std::size_t at = 0; (at = ended.said.find("grandchild;", at)) != std::string::npos; ++at)
    ++grandchildren;
  INFO(ended.said);
  CHECK(terminated == 3);
  CHECK(grandchildren == 3);
}

TEST_CASE("a program whose static objects have threads starts processes") {
  if (support::under_tsan) SKIP("ThreadSanitizer cannot follow threads of a forked child");
  CHECK(has_threads_early.run({{"BROOD_TEST_EARLY", "1"}}).said == "77");
}

TEST_CASE("a spawned process whose parent is just dying is one all the same") {
  // Who has executed it can still be seen for a moment when it is its parent no more.
  const support::LeakCheck nothing_left;
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_STREAM, mine, its);
  struct stat socket {};
  REQUIRE(::fstat(its.get(), &socket) == 0);
  auto gate = posix::make_pipe();
  const pid_t spawner = ::fork();
  if (spawner == 0) {
    gate.write.reset();
    char byte;
    ::_exit(posix::read_some(gate.read.get(), &byte, 1) == 0 ? 0 : 1);
  }
  const std::string variable = std::to_string(its.get()) + "," + std::to_string(socket.st_ino) +
                               "," + std::to_string(posix::ProcessIdentity::of(spawner).word());
  const pid_t orphan = ::fork();
  if (orphan == 0) {
    ::setenv(posix::spawned_variable, variable.c_str(), 1);
    ::_exit(posix::take_spawned_channel().get() == its.get() ? 0 : 1);
  }
  CHECK(support::wait_for(orphan) == 0);
  gate.write.reset();
  CHECK(support::wait_for(spawner) == 0);
}

TEST_CASE("a spawned process that ends before it was told anything has been started") {
  // It executes nothing that reads its channel, and has more to read than fits there.
  const support::LeakCheck nothing_left;
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_STREAM, mine, its);
  auto spawned = posix::spawn_self(its.get());
  its.reset();
  const auto child = posix::make_ref<posix::SharedChild>(spawned.pid, std::move(spawned.pidfd));
  child->send_signal(SIGKILL);
  CHECK(child->wait(posix::Deadline{patience}) == -SIGKILL);
  CHECK_THROWS_AS(posix::send_parcel(mine.get(), std::string(std::size_t{1} << 20, 'x'), {}),
                  brood::os::BrokenPipeError);
}

TEST_CASE("a spawned process that nobody tells what to do ends") {
  const support::LeakCheck nothing_left;
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_STREAM, mine, its);
  auto spawned = posix::spawn_self(its.get());
  its.reset();
  mine.reset();
  const auto child = posix::make_ref<posix::SharedChild>(spawned.pid, std::move(spawned.pidfd));
  CHECK(child->wait(posix::Deadline{patience}) == 1);
}

namespace {

const OwnProgram has_no_pidfds("has_no_pidfds", [] {
  if (!support::refuse({{SYS_pidfd_open, EPERM}})) return 77;
  mp::Process process({.start_method = StartMethod::spawn}, [] {
    mp::Process child({.start_method = StartMethod::forkserver}, [] { std::exit(5); });
    child.start();
    child.join();
    std::exit(child.exitcode() == 5 ? 4 : 1);
  });
  process.start();
  process.join();
  return process.exitcode() == 4 ? 0 : 1;
});

}  // namespace

TEST_CASE("a spawned process runs and starts others where pidfds are forbidden") {
  const auto [said, code] = has_no_pidfds.run();
  if (code == 77) SKIP("no filter of system calls may be had here");
  CHECK(said == "");
  CHECK(code == 0);
}
