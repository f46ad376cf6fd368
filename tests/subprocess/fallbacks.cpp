// SPDX-License-Identifier: MIT
//
// Everything works where a sandbox or an old kernel refuses what brood would rather use.
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <brood/subprocess.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/refused_calls.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using namespace std::chrono_literals;

namespace {

struct Sandbox {
  const char* without;
  std::vector<support::RefusedCall> calls;
};

std::vector<Sandbox> sandboxes(int error) {
  const support::RefusedCall clone3{SYS_clone3, error};
  const support::RefusedCall clone_vfork{SYS_clone, error, 0, CLONE_VFORK, CLONE_VFORK};
  const support::RefusedCall pidfd_open{SYS_pidfd_open, error};
  const support::RefusedCall pidfd_send_signal{SYS_pidfd_send_signal, error};
  const support::RefusedCall clone_pidfd{SYS_clone, error, 0, CLONE_PIDFD, CLONE_PIDFD};
  const support::RefusedCall waitid_pidfd{SYS_waitid, error, 0, ~0u,
                                          static_cast<unsigned>(brood::posix::id_is_pidfd)};
  const support::RefusedCall close_range{brood::posix::spawn_child::close_range_number, error};
  // posix_spawn() of the C library goes on without clone3 after ENOSYS only, as containers know.
  const support::RefusedCall no_clone3{SYS_clone3, ENOSYS};
  return {
      {"clone3", {clone3}},
      {"vfork", {no_clone3, clone_vfork}},
      {"pidfd_open", {pidfd_open}},
      {"pidfds", {no_clone3, pidfd_open, clone_pidfd}},
      {"pidfd_send_signal", {pidfd_send_signal}},
      {"waitid by pidfd", {waitid_pidfd}},
      {"close_range", {close_range}},
      {"pidfd_open and pidfd_send_signal and waitid by pidfd",
       {pidfd_open, pidfd_send_signal, waitid_pidfd}},
      {"any of them",
       {no_clone3, clone_vfork, clone_pidfd, pidfd_open, pidfd_send_signal, waitid_pidfd,
        close_range}},
  };
}

// Starts what ends only by a signal, and gives it one.
template <class Act>
int code_after(const Options& options, Act act) {
  Popen process({"sleep", "600"}, options);
  act(process);
  return process.wait(30s);
}

// The number of the first thing that does not work; 0 if all does.
int use_everything() {
  const auto descriptors = support::open_descriptors();
  if (run({"sh", "-c", "cat; exit 3"}, {.input = "x", .capture_output = true}).out != "x") return 1;
  if (run({"sh", "-c", "exit 47"}).returncode != 47) return 2;
  try {
    run({"/no/such/program"});
    return 3;
  } catch (const brood::os::FileNotFoundError&) {
  }
  try {
    run({"true"}, {.cwd = "/no/such/directory"});
    return 4;
  } catch (const brood::os::FileNotFoundError& error) {
    if (error.filename() != "/no/such/directory") return 4;
  }
  try {
    run({"sleep", "600"}, {.timeout = 10ms});
    return 5;
  } catch (const TimeoutExpired&) {
  }
  if (code_after({}, [](Popen& process) { process.terminate(); }) != -SIGTERM) return 6;
  if (code_after({}, [](Popen& process) { process.kill(); }) != -SIGKILL) return 7;
  if (code_after({.start_new_session = true, .kill_tree = true},
                 [](Popen& process) { process.terminate(); }) != -SIGTERM)
    return 8;
  {
    // A descendant that holds the pipe, in a session of its own.
    Popen process("setsid sleep 600 & echo ready; wait",
                  {.out = PIPE, .shell = true, .kill_tree = true});
    if (process.out.readline() != "ready\n") return 9;
    process.kill();
    if (process.wait(30s) != -SIGKILL) return 9;
    if (!process.out.read().empty()) return 9;
  }
  {
    Popen process({"sh", "-c", "cat; exit 5"}, {.in = PIPE, .out = PIPE});
    Popen sleeper({"sleep", "600"});
    try {
      sleeper.communicate({}, 5ms);
      return 10;
    } catch (const TimeoutExpired&) {
    }
    if (sleeper.poll()) return 11;
    if (process.communicate("pear", 30s).first != "pear") return 12;
    if (process.returncode() != 5) return 13;
    sleeper.send_signal(SIGINT);
    if (sleeper.wait() != -SIGINT) return 14;
  }
  const int code = code_after({}, [](Popen& process) {
    try {
      process.send_signal(4711);
    } catch (const brood::os::OSError& error) {
      if (error.code().value() == EINVAL) process.kill();
    }
    process.terminate();
  });
  if (code != -SIGKILL) return 15;
  if (pipeline({{"echo", "a"}, {"cat"}}, {.capture_output = true}).out != "a\n") return 16;
  if (support::open_descriptors() != descriptors) return 17;
  if (::waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD) return 18;
  return 0;
}

}  // namespace

TEST_CASE("everything works in a sandbox that refuses the newer system calls") {
  const auto way = support::each_start_way();
  // Under a sanitizer clone is fork, and each start is slow.
  const bool is_clone = brood::posix::forced_spawn_way == brood::posix::SpawnWay::clone;
  if (brood::posix::sanitized && is_clone) return;
  const std::vector<int> errors =
      is_clone ? std::vector{ENOSYS, EPERM, EINVAL} : std::vector{ENOSYS};
  for (const int error : errors) {
    for (const Sandbox& sandbox : sandboxes(error)) {
      CAPTURE(sandbox.without, error);
      CHECK(support::in_child([&] {
              ::alarm(support::last_alarm);
              return support::refuse(sandbox.calls) ? use_everything() : 77;
            }) == 0);
    }
  }
}
