// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <brood/subprocess.hpp>
#include <chrono>
#include <string>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using namespace std::chrono_literals;

namespace {

// A pipe whose end shows that every process that was given its writing end has gone.
struct Lifeline {
  Lifeline() { static_cast<void>(::pipe2(ends, O_CLOEXEC)); }
  ~Lifeline() {
    ::close(ends[0]);
    if (ends[1] >= 0) ::close(ends[1]);
  }
  Lifeline(const Lifeline&) = delete;
  Lifeline& operator=(const Lifeline&) = delete;

  int passed_on() const { return ends[1]; }
  void let_go() { ::close(std::exchange(ends[1], -1)); }
  bool has_ended(int milliseconds) const {
    pollfd entry{ends[0], POLLIN, 0};
    return ::poll(&entry, 1, milliseconds) == 1;
  }

  int ends[2] = {-1, -1};
};

// A shell with a child and a grandchild, one with a session of its own, one whose parent has gone.
const std::string family =
    "sleep 60 & "
    "(sleep 60 & sleep 60) & "
    "setsid sleep 60 & "
    "(setsid sh -c 'sleep 60 & sleep 60' &) ; "
    "echo ready; wait; sleep 60";

}  // namespace

TEST_CASE("kill with kill_tree reaches every descendant") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  Lifeline lifeline;
  Popen process(
      family, {.out = PIPE, .shell = true, .pass_fds = {lifeline.passed_on()}, .kill_tree = true});
  lifeline.let_go();
  CHECK(process.out.readline() == "ready\n");
  CHECK_FALSE(lifeline.has_ended(0));
  process.kill();
  CHECK(process.wait() == -SIGKILL);
  CHECK(lifeline.has_ended(30'000));
}

TEST_CASE("terminate with kill_tree reaches every descendant") {
  const support::LeakCheck nothing_left;
  Lifeline lifeline;
  Popen process(
      family, {.out = PIPE, .shell = true, .pass_fds = {lifeline.passed_on()}, .kill_tree = true});
  lifeline.let_go();
  CHECK(process.out.readline() == "ready\n");
  process.terminate();
  CHECK(process.wait() == -SIGTERM);
  CHECK(lifeline.has_ended(30'000));
}

TEST_CASE("the end of a time limit with kill_tree reaches every descendant") {
  const support::LeakCheck nothing_left;
  Lifeline lifeline;
  CHECK_THROWS_AS(run(family, {.capture_output = true,
                               .timeout = 300ms,
                               .shell = true,
                               .pass_fds = {lifeline.passed_on()},
                               .kill_tree = true}),
                  TimeoutExpired);
  lifeline.let_go();
  CHECK(lifeline.has_ended(30'000));
}

TEST_CASE("kill with kill_tree reaches those who have outlived the child") {
  const support::LeakCheck nothing_left;
  Lifeline lifeline;
  Popen process("sleep 60 >/dev/null & exit 3",
                {.shell = true, .pass_fds = {lifeline.passed_on()}, .kill_tree = true});
  lifeline.let_go();
  CHECK(process.wait() == 3);
  CHECK_FALSE(lifeline.has_ended(0));
  process.kill();
  CHECK(lifeline.has_ended(30'000));
  CHECK(process.wait() == 3);
}

TEST_CASE("without kill_tree a grandchild goes on") {
  Lifeline lifeline;
  Popen process("sleep 60 & echo $!; wait",
                {.out = PIPE, .shell = true, .pass_fds = {lifeline.passed_on()}});
  lifeline.let_go();
  const std::string pid = process.out.readline();
  process.kill();
  CHECK(process.wait() == -SIGKILL);
  CHECK_FALSE(lifeline.has_ended(50));
  ::kill(std::atoi(pid.c_str()), SIGKILL);
  CHECK(lifeline.has_ended(30'000));
}

TEST_CASE("kill_tree keeps to its own tree") {
  const support::LeakCheck nothing_left;
  Popen bystander({"sleep", "60"}, {.kill_tree = true});
  Popen process({"sleep", "60"}, {.kill_tree = true});
  process.kill();
  CHECK(process.wait() == -SIGKILL);
  CHECK_FALSE(bystander.poll());
  bystander.terminate();
  CHECK(bystander.wait() == -SIGTERM);
}

TEST_CASE("the mark of a tree is added to the child's environment alone") {
  CHECK(run({"/usr/bin/env"}, {.out = PIPE, .env = {{{"A", "b"}}}, .kill_tree = true})
            .out.substr(0, 15) == "A=b\nBROOD_TREE=");
  CHECK(std::getenv("BROOD_TREE") == nullptr);
  // A tree within a tree belongs to both.
  const std::string inner =
      run({"/usr/bin/env"}, {.out = PIPE, .env = {{{"BROOD_TREE", ":outer:"}}}, .kill_tree = true})
          .out;
  CHECK(inner.find("::outer:\n") != std::string::npos);
  CHECK(inner.find("BROOD_TREE", 1) == std::string::npos);
}

TEST_CASE("kill with kill_tree reaches at least the child where no descriptor is left") {
  const auto way = support::each_start_way();
  CHECK(support::in_child([] {
          Popen process({"sleep", "600"}, {.kill_tree = true});
          rlimit before{};
          ::getrlimit(RLIMIT_NOFILE, &before);
          const rlimit none{0, before.rlim_max};
          if (::setrlimit(RLIMIT_NOFILE, &none) != 0) return 1;
          process.kill();
          ::setrlimit(RLIMIT_NOFILE, &before);  // as poll() takes no more than it allows
          return process.wait() == -SIGKILL ? 0 : 2;
        }) == 0);
}
