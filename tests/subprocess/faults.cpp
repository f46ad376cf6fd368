// SPDX-License-Identifier: MIT
//
// Each call on the way of a start is made to fail in turn.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <atomic>
#include <bitset>
#include <brood/subprocess.hpp>
#include <cstdio>
#include <new>
#include <string>
#include <thread>
#include <typeinfo>
#include <vector>

#include "support/catch.hpp"
#include "support/failing_calls.hpp"
#include "support/patience.hpp"
#include "support/refused_calls.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using brood::posix::SpawnWay;

namespace {

// What a start could leave behind. Itself it takes no memory.
struct Traces {
  bool operator==(const Traces&) const = default;

  long allocations = support::live_allocations;
  std::bitset<128> descriptors = open_ones();
  std::bitset<65> blocked = blocked_ones();
  bool has_child = has_any_child();

  static bool has_any_child() {
    siginfo_t info{};
    return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
  }

  static std::bitset<128> open_ones() {
    std::bitset<128> result;
    for (int fd = 0; fd < 128; ++fd)
      result[static_cast<std::size_t>(fd)] = ::fcntl(fd, F_GETFD) >= 0;
    return result;
  }
  static std::bitset<65> blocked_ones() {
    sigset_t mask;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    std::bitset<65> result;
    for (int signal = 1; signal < 65; ++signal)
      result[static_cast<std::size_t>(signal)] = sigismember(&mask, signal) == 1;
    return result;
  }
};

std::string difference_now(const Traces& before, const Traces& after) {
  std::string text;
  if (after.has_child) text += "a child is left; ";
  if (after.blocked != before.blocked) text += "the signal mask has changed; ";
  if (after.allocations != before.allocations)
    text += std::to_string(after.allocations - before.allocations) + " allocations are left; ";
  for (std::size_t fd = 0; fd < 128; ++fd)
    if (before.descriptors[fd] != after.descriptors[fd])
      text += "descriptor " + std::to_string(fd) +
              (after.descriptors[fd] ? " is left; " : " was closed; ");
  return text;
}

// What is there that was not. On a busy machine a killed child may take so long to end that a
// thread is left to wait for it, so a difference is looked at again before it is believed.
std::string difference(const Traces& before) {
  support::eventually([&] { return Traces() == before; });
  return difference_now(before, Traces());
}

// How a start went. Of fixed size, so that it is no trace.
struct Outcome {
  int code = -1000;  // of the program
  int error = 0;     // of the exception
  bool right_class = false;
  char what[300] = {};
  char filename[100] = {};
};

bool has_right_class(const brood::os::OSError& error) {
  const std::type_info& type = typeid(error);
  switch (error.code().value()) {
    case ENOENT:
      return type == typeid(brood::os::FileNotFoundError);
    case EACCES:
    case EPERM:
      return type == typeid(brood::os::PermissionError);
    default:
      return type == typeid(brood::os::OSError);
  }
}

Outcome start(const Options& options) {
  Outcome outcome;
  try {
    Popen process({"/bin/sh", "-c", "cat >/dev/null; exit 47"}, options);
    process.communicate();
    outcome.code = process.wait();
  } catch (const brood::os::OSError& error) {
    outcome.error = error.code().value();
    outcome.right_class = has_right_class(error);
    std::snprintf(outcome.what, sizeof outcome.what, "%s", error.what());
    std::snprintf(outcome.filename, sizeof outcome.filename, "%s", error.filename().c_str());
  } catch (const std::exception& error) {
    std::snprintf(outcome.what, sizeof outcome.what, "%s", error.what());
  }
  return outcome;
}

struct Case {
  const char* call;  // of the C library, or "" for the next
  long number;       // of a system call of the child's, or of the kind that libraries do not wrap
  int error;
  Options options;
  const char* says;  // what the message has in it; "": the program runs all the same
  const char* filename = "";
  bool in_any_way = true;  // made by every way to start; else by clone and fork alone
};

Options all_pipes() { return {.in = PIPE, .out = PIPE, .err = PIPE}; }

// What the parent does.
std::vector<Case> cases_of_the_parent() {
  const std::string missing = "/tmp/brood-no-such-file";
  return {
      {"pipe2", 0, EMFILE, all_pipes(), "start '/bin/sh': make a pipe"},
      {"open", 0, EACCES, {.in = file("/dev/null")}, "open", "/dev/null"},
      {"open", 0, ENFILE, {.in = DEVNULL, .out = DEVNULL, .err = DEVNULL}, "open", "/dev/null"},
      {"open", 0, ENOENT, {.in = DEVNULL, .out = append("/dev/null")}, "open", "/dev/null"},
      {"fcntl", 0, EBADF, {.in = DEVNULL, .err = 2}, "use as the child's err descriptor", "2"},
      {"fcntl", 0, EBADF, {.in = DEVNULL, .pass_fds = {1}}, "pass on descriptor", "1"},
      {"fcntl F_DUPFD_CLOEXEC", 0, EMFILE, {.in = DEVNULL, .out = 2, .err = 1}, "duplicate"},
      {"fcntl F_SETPIPE_SZ",
       0,
       EPERM,
       {.in = PIPE, .pipesize = 4096},
       "set the size of the pipe",
       "in"},
  };
}

// What the child does, and what the way of its making leaves to be done.
std::vector<Case> cases_of_the_child() {
  const Options with_a_directory{.in = DEVNULL, .cwd = "/tmp"};
  return {
      {"", SYS_dup3, EBUSY, all_pipes(), "standard stream", "", false},
      {"", SYS_fcntl, EBADF, {.in = 0}, "standard stream 0", "", false},
      {"", SYS_fcntl, EBADF, {.in = DEVNULL, .pass_fds = {9}}, "pass on descriptor 9"},
      {"", SYS_chdir, EACCES, with_a_directory, "directory", "/tmp", false},
      {"", SYS_chdir, ELOOP, with_a_directory, "directory", "/tmp", false},
      {"", SYS_setsid, EPERM, {.in = DEVNULL, .start_new_session = true}, "session", "", false},
      {"", SYS_setpgid, EPERM, {.in = DEVNULL, .process_group = 0}, "group 0", "", false},
      {"", SYS_prlimit64, EPERM, {.in = DEVNULL, .limits = {{RLIMIT_CORE, 0}}}, "limit 0 of"},
      {"",
       SYS_prlimit64,
       EPERM,
       {.in = DEVNULL, .limits = {{RLIMIT_CPU, 99}, {RLIMIT_CORE, 0}}},
       "resource limit"},
      {"", SYS_setgroups, EPERM, {.in = DEVNULL, .extra_groups = {{1}}}, "supplementary"},
      {"", SYS_setresgid, EPERM, {.in = DEVNULL, .group = ::getgid()}, "the child's group"},
      {"", SYS_setresuid, EAGAIN, {.in = DEVNULL, .user = ::getuid()}, "the child's user"},
      {"", SYS_prctl, EINVAL, {.in = DEVNULL, .parent_death_signal = 9}, "parent-death signal"},
      {"", SYS_execve, ENOENT, {.in = DEVNULL}, "execute", "/bin/sh", false},
      {"", SYS_execve, EACCES, {.in = DEVNULL}, "execute", "/bin/sh", false},
      {"", SYS_execve, E2BIG, {.in = DEVNULL}, "execute", "/bin/sh", false},
      {"", SYS_execve, ENOMEM, all_pipes(), "execute", "/bin/sh", false},
      {"", SYS_execve, ETXTBSY, {.in = DEVNULL, .cwd = "/tmp"}, "execute", "/bin/sh", false},
  };
}

// Lets each call of the case fail that the start makes, in turn. How many that were.
int fail_in_turn(const Case& one) {
  CAPTURE(one.call, one.number, one.error);
  const auto blocked = Traces::blocked_ones();
  CHECK(start(one.options).code == 47);  // what is made once is made now
  CHECK(Traces::blocked_ones() == blocked);
  for (int nth = 1;; ++nth) {
    CAPTURE(nth);
    bool failed = false;
    Outcome outcome;
    const Traces before;
    {
      const support::FailingCall failing = one.number == 0
                                               ? support::FailingCall{one.call, nth, one.error}
                                               : support::FailingCall{one.number, nth, one.error};
      outcome = start(one.options);
      failed = failing.has_failed();
    }
    CHECK(difference(before) == "");
    CAPTURE(outcome.what);
    if (!failed) {
      CHECK(outcome.code == 47);
      return nth - 1;
    }
    if (one.says[0] == '\0') {
      CHECK(outcome.code == 47);
    } else {
      CHECK(outcome.error == one.error);
      CHECK(outcome.right_class);
      CHECK_THAT(outcome.what, Catch::Matchers::ContainsSubstring(one.says));
      CHECK(std::string{outcome.filename} == one.filename);
    }
    CHECK(start({.in = DEVNULL}).code == 47);
  }
}

}  // namespace

TEST_CASE("each call of the parent that fails is an error of its own and leaves nothing") {
  const auto way = support::each_start_way();
  for (const Case& one : cases_of_the_parent()) CHECK(fail_in_turn(one) >= 1);
  // That of the report.
  if (brood::posix::forced_spawn_way == SpawnWay::fork)
    CHECK(fail_in_turn({"pipe2", 0, ENFILE, {.in = DEVNULL}, "make a pipe"}) == 1);
}

TEST_CASE("each call of the child that fails is told with its stage and leaves nothing") {
  const auto way = support::each_start_way();
  const int passed = ::fcntl(0, F_DUPFD_CLOEXEC, 9);
  REQUIRE(passed == 9);
  for (const Case& one : cases_of_the_child()) {
    const bool is_made = one.in_any_way || brood::posix::forced_spawn_way != SpawnWay::posix_spawn;
    CHECK((fail_in_turn(one) >= 1) == is_made);
  }
  ::close(passed);
}

TEST_CASE("a child in the memory of its parent makes nothing but system calls") {
  if (brood::posix::sanitized) SKIP("no child has the memory of its parent here");
  const support::StartWay way{SpawnWay::clone};
  const int passed = ::fcntl(0, F_DUPFD_CLOEXEC, 9);
  const Options everything{.in = PIPE,
                           .out = PIPE,
                           .err = STDOUT,
                           .cwd = "/tmp",
                           .env = {{{"PATH", "/bin:/usr/bin"}}},
                           .start_new_session = true,
                           .pass_fds = {9},
                           .umask = 022,
                           .limits = {{RLIMIT_CORE, 0}},
                           .parent_death_signal = SIGTERM};
  Options impossible = everything;
  impossible.limits = {{4711, 0}};
  support::calls_of_others = 0;
  support::lone_caller = ::getpid();
  const Outcome works = start(everything);
  const Outcome fails = start(impossible);
  support::lone_caller = 0;
  ::close(passed);
  CHECK(works.code == 47);
  CHECK(fails.error == EINVAL);
  CHECK(support::calls_of_others == 0);
}

TEST_CASE("a call that has a substitute may fail") {
  const auto way = support::each_start_way();
  const int passed = ::fcntl(0, F_DUPFD_CLOEXEC, 9);
  const Options with_gaps{.in = DEVNULL, .pass_fds = {9}};
  for (const int error : {ENOSYS, EPERM, EINVAL, EMFILE}) {
    fail_in_turn({"", brood::posix::spawn_child::close_range_number, error, with_gaps, ""});
    fail_in_turn({"", SYS_pidfd_open, error, {.in = DEVNULL}, ""});
    fail_in_turn({"posix_spawn", 0, error, {.in = DEVNULL, .start_new_session = true}, ""});
  }
  fail_in_turn({"", SYS_pidfd_send_signal, ENOSYS, {.in = DEVNULL}, ""});
  ::close(passed);
}

TEST_CASE("a call that fails while streams are moved is an error and no child is left") {
  const auto way = support::each_start_way();
  const std::string input(100'000, 'x');
  const auto move = [&] {
    Outcome outcome;
    try {
      outcome.code = run({"cat"}, {.input = input, .capture_output = true}).returncode;
    } catch (const brood::os::OSError& error) {
      outcome.error = error.code().value();
      std::snprintf(outcome.what, sizeof outcome.what, "%s", error.what());
    }
    return outcome;
  };
  const auto fail_each = [&](auto call, int error, bool is_harmless = false) {
    for (int nth = 1; nth <= 6; ++nth) {
      CAPTURE(call, nth);
      const Traces before;
      Outcome outcome;
      bool failed = false;
      {
        const support::FailingCall failing{call, nth, error};
        outcome = move();
        failed = failing.has_failed();
      }
      CHECK(difference(before) == "");
      CAPTURE(outcome.what);
      CHECK((outcome.error == (failed ? error : 0) || (is_harmless && outcome.error == 0)));
      CHECK((failed || nth > 1));
    }
  };
  CHECK(move().code == 0);
  fail_each("ppoll", ENOMEM);
  fail_each("read", EIO);
  fail_each("write", EIO);
  fail_each("fcntl F_SETFL", EBADF);
  fail_each(long{SYS_waitid}, EIO, true);  // one that only sleeps until there is news may fail
}

TEST_CASE("a start without memory is a bad_alloc and leaves nothing") {
  const auto way = support::each_start_way();
  const std::string long_text(200, 'x');
  std::string seen;
  const Options full{
      .in = PIPE,
      .out = [&seen, long_text](std::string_view text) { seen.assign(text.substr(0, 8)); },
      .err = PIPE,
      .env = {{{"PATH", "/usr/bin:/bin"}, {"LONG", long_text}}},
      .limits = {{RLIMIT_CORE, 0}},
      .kill_tree = true};
  const auto each = [](auto body) {
    body();
    for (int nth = 1;; ++nth) {
      CAPTURE(nth);
      const Traces before;
      bool thrown = false;
      bool failed = false;
      {
        const support::FailingCall failing{"new", nth, ENOMEM};
        try {
          body();
        } catch (const std::bad_alloc&) {
          thrown = true;
        }
        failed = failing.has_failed();
      }
      CHECK(difference(before) == "");
      if (!failed) break;
      CHECK(thrown);
    }
  };
  each([&] {
    Popen process({"sh", "-c", "echo out; echo err >&2"}, full);
    process.communicate();
  });
  each([&] { run({"sh", "-c", "echo out; cat"}, {.input = long_text, .capture_output = true}); });
  each([&] { pipeline({{"echo", long_text}, {"cat"}}, {.capture_output = true}); });
}

TEST_CASE("a report of the child that is garbled ends the program and is an error") {
  const auto ours = Traces::open_ones();
  const auto garble = [ours] {
    for (int fd = 3; fd < 128; ++fd)
      if (!ours[static_cast<std::size_t>(fd)] && (::fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
        static_cast<void>(::write(fd, "nonsense", 8));
  };
  const Traces before;
  try {
    Popen process({"sleep", "600"}, {.preexec = garble});
    FAIL("no exception");
  } catch (const brood::os::OSError& error) {
    CHECK(error.code().value() == EIO);
    CHECK(error.filename() == "sleep");
  }
  CHECK_FALSE(Traces{}.has_child);
  CHECK(Traces{}.descriptors == before.descriptors);
}

TEST_CASE("each stage is told in every way when a sandbox refuses it") {
  const auto way = support::each_start_way();
  const auto says = [](long number, int error, const Options& options, const char* wanted) {
    return support::in_child([&] {
      if (!support::refuse({{number, error}})) return 77;
      const Traces before;
      const Outcome outcome = start(options);
      if (std::string{outcome.what}.find(wanted) == std::string::npos || outcome.error != error) {
        std::fprintf(stderr, "says '%s'\n", outcome.what);
        return 1;
      }
      return difference(before).empty() ? 0 : 2;
    });
  };
  CHECK(says(SYS_chdir, EACCES, {.in = DEVNULL, .cwd = "/tmp"}, "directory to '/tmp'") == 0);
  CHECK(says(SYS_setsid, EPERM, {.in = DEVNULL, .start_new_session = true}, "new session") == 0);
  CHECK(says(SYS_setpgid, EPERM, {.in = DEVNULL, .process_group = 0}, "process group 0") == 0);
  CHECK(says(SYS_execve, E2BIG, {.in = DEVNULL, .cwd = "/tmp"}, "execute '/bin/sh'") == 0);
}

TEST_CASE("a process group that cannot be joined is told as such in every way") {
  const auto way = support::each_start_way();
  const Traces before;
  try {
    Popen process({"true"}, {.process_group = 1});
    FAIL("no exception");
  } catch (const brood::os::PermissionError& error) {
    CHECK_THAT(error.what(), Catch::Matchers::ContainsSubstring("process group 1"));
  }
  CHECK_FALSE(Traces{}.has_child);
  CHECK(Traces{}.descriptors == before.descriptors);
}

TEST_CASE("a descriptor above a lowered limit can be a standard stream") {
  const auto way = support::each_start_way();
  CHECK(support::in_child([] {
          int ends[2];
          if (::pipe2(ends, O_CLOEXEC) != 0 || ::fcntl(ends[1], F_DUPFD_CLOEXEC, 60) != 60)
            return 1;
          const rlimit lowered{40, 40};
          if (::setrlimit(RLIMIT_NOFILE, &lowered) != 0) return 2;
          if (run({"echo", "above"}, {.out = 60}).returncode != 0) return 3;
          ::close(60);
          ::close(ends[1]);
          char text[6];
          return ::read(ends[0], text, 6) == 6 && std::string(text, 6) == "above\n" ? 0 : 4;
        }) == 0);
}

TEST_CASE("nobody reaps a child while it is signalled with its tree") {
  // As soon as the number of the child is looked at, the child is killed, and another thread waits
  // for it: once that has reaped it, the number could be anybody's.
  static std::atomic<pid_t> child{0};
  static std::atomic<bool> reaped{false};
  static std::atomic<int> looked_at_free{0};
  static std::atomic<int> looked_at{0};
  Popen process({"sleep", "600"}, {.kill_tree = true});
  std::thread waiter([&] {
    process.wait();
    reaped = true;
  });
  child = process.pid();
  support::before_system_call = [](long number, long first) {
    if (number != SYS_pidfd_open || first != child || looked_at.fetch_add(1) != 0) return;
    ::kill(child, SIGKILL);
    for (int i = 0; i < 100 && !reaped; ++i) ::poll(nullptr, 0, 1);
    if (reaped) ++looked_at_free;
  };
  process.send_signal(SIGCONT);
  waiter.join();
  support::before_system_call = nullptr;
  CHECK(looked_at >= 1);
  CHECK(looked_at_free == 0);
  CHECK(process.returncode() == -SIGKILL);
}

TEST_CASE("a program that takes long to be read holds up only who starts it") {
  // As on a network's file system: the kernel asks this process before it executes the file.
  const auto way = support::each_start_way();
  const brood::posix::unique_fd guard{
      ::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC)};
  if (!guard) SKIP("only root may hold up an execution");
  const support::TemporaryDirectory directory;
  const std::string slow = directory / "slow";
  REQUIRE(run({"cp", "/bin/true", slow}).returncode == 0);
  if (::fanotify_mark(guard.get(), FAN_MARK_ADD, FAN_OPEN_EXEC_PERM, AT_FDCWD, slow.c_str()) != 0)
    SKIP("this kernel asks nobody before it executes a file");
  std::atomic<int> code{-1};
  std::thread starter([&] {
    try {
      code = run({slow}).returncode;
    } catch (const std::exception&) {
      code = -2;
    }
  });
  const auto one_is_asked_for = [&] {
    pollfd asked{guard.get(), POLLIN, 0};
    return ::poll(&asked, 1, 60'000) == 1;
  };
  const bool stands_still = one_is_asked_for();
  int done = 0;
  for (int i = 0; stands_still && i < 5; ++i) {
    Popen process({"cat"}, {.in = PIPE, .out = PIPE});
    if (process.communicate("x").first == "x" && process.wait() == 0) ++done;
  }
  const int while_it_stood_still = code;
  fanotify_event_metadata event{};
  if (stands_still && ::read(guard.get(), &event, sizeof event) == sizeof event) {
    const fanotify_response answer{event.fd, FAN_ALLOW};
    CHECK(::write(guard.get(), &answer, sizeof answer) == sizeof answer);
    ::close(event.fd);
  }
  starter.join();
  CHECK(stands_still);
  CHECK(done == 5);
  CHECK(while_it_stood_still == -1);
  CHECK(code == 0);
}
