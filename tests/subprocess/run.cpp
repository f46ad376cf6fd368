// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <brood/posix/pipe.hpp>
#include <brood/subprocess.hpp>
#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("run returns the exit code and the command") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const CompletedProcess process = run({"sh", "-c", "exit 47"});
  CHECK(process.returncode == 47);
  CHECK(process.args == std::vector<std::string>{"sh", "-c", "exit 47"});
  CHECK(process.out.empty());
  CHECK(process.err.empty());
  CHECK_THROWS_AS(process.check_returncode(), CalledProcessError);
  CHECK_NOTHROW(run({"true"}).check_returncode());
}

TEST_CASE("run with check throws for a code other than 0 only") {
  const auto way = support::each_start_way();
  CHECK(run({"true"}, {.check = true}).returncode == 0);
  try {
    run({"sh", "-c", "echo o; echo e >&2; exit 47"}, {.capture_output = true, .check = true});
    FAIL("no exception");
  } catch (const CalledProcessError& error) {
    CHECK(error.returncode() == 47);
    CHECK(error.out() == "o\n");
    CHECK(error.err() == "e\n");
    CHECK(error.cmd().size() == 3);
  }
}

TEST_CASE("run gives death by a signal as a negative code") {
  const auto way = support::each_start_way();
  CHECK(run({"sh", "-c", "kill -ABRT $$"}, {.limits = {{RLIMIT_CORE, 0}}}).returncode == -SIGABRT);
  CHECK(run({"sh", "-c", "kill -KILL $$"}).returncode == -SIGKILL);
}

TEST_CASE("run captures each stream that is a pipe") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const Command both{"sh", "-c", "echo out; echo err >&2"};
  const CompletedProcess captured = run(both, {.capture_output = true});
  CHECK(captured.out == "out\n");
  CHECK(captured.err == "err\n");
  const CompletedProcess out_only = run(both, {.out = PIPE, .err = DEVNULL});
  CHECK(out_only.out == "out\n");
  CHECK(out_only.err.empty());
  const CompletedProcess err_only = run(both, {.out = DEVNULL, .err = PIPE});
  CHECK(err_only.out.empty());
  CHECK(err_only.err == "err\n");
}

TEST_CASE("run hands the input to the program") {
  const auto way = support::each_start_way();
  CHECK(run({"cat"}, {.input = "pear", .capture_output = true}).out == "pear");
  CHECK(run({"cat"}, {.input = "", .capture_output = true}).out.empty());
  const std::string zeros(3, '\0');
  CHECK(run({"cat"}, {.input = zeros, .out = PIPE}).out == zeros);
}

TEST_CASE("run passes megabytes both ways without a deadlock") {
  const support::LeakCheck nothing_left;
  std::string text;
  while (text.size() < 5'000'000) text += std::to_string(text.size()) + "\n";
  CHECK(run({"cat"}, {.input = text, .capture_output = true}).out == text);
  const CompletedProcess teed =
      run("tee /dev/stderr", {.input = text, .capture_output = true, .shell = true});
  CHECK(teed.out == text);
  CHECK(teed.err == text);
}

TEST_CASE("run takes a command in every form") {
  const auto way = support::each_start_way();
  CHECK(run({"true"}).returncode == 0);
  CHECK(run("true").returncode == 0);
  CHECK(run(std::string("true")).returncode == 0);
  CHECK(run(std::string_view("true")).returncode == 0);
  CHECK(run(std::vector<std::string>{"sh", "-c", "exit 3"}).returncode == 3);
  CHECK(run(std::filesystem::path("/bin/true")).returncode == 0);
  CHECK(run({std::filesystem::path("/bin/sh"), "-c", "exit 3"}).returncode == 3);
}

TEST_CASE("run with a path and shell is refused") {
  CHECK_THROWS_AS(run(std::filesystem::path("/bin/true"), {.shell = true}), std::invalid_argument);
}

TEST_CASE("a single string is a program and is not split") {
  const auto way = support::each_start_way();
  CHECK_THROWS_AS(run("sh -c true"), brood::os::FileNotFoundError);
  const support::TemporaryDirectory directory;
  const std::string script = directory / "my script";
  REQUIRE(call({"sh", "-c", "printf '#!/bin/sh\\nexit 47\\n' >\"$1\"; chmod 700 \"$1\"", "sh",
                script}) == 0);
  CHECK(run(script).returncode == 47);
  CHECK(call(script) == 47);
}

TEST_CASE("run with a time limit kills the program") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  CHECK_THROWS_AS(run({"sleep", "600"}, {.timeout = 50ms}), TimeoutExpired);
}

TEST_CASE("TimeoutExpired is a SubprocessError and a TimeoutError and a runtime error") {
  CHECK_THROWS_AS(run({"sleep", "30"}, {.timeout = 1ms}), brood::TimeoutError);
  CHECK_THROWS_AS(run({"sleep", "30"}, {.timeout = 1ms}), SubprocessError);
  CHECK_THROWS_AS(run({"sleep", "30"}, {.timeout = 1ms}), std::runtime_error);
  try {
    run({"sleep", "30"}, {.timeout = 100ms});
    FAIL("no exception");
  } catch (const TimeoutExpired& error) {
    CHECK(error.timeout() == brood::Timeout{100ms});
    CHECK(error.cmd() == std::vector<std::string>{"sleep", "30"});
    CHECK_THAT(error.what(), ContainsSubstring("sleep 30") && ContainsSubstring("0.1 seconds"));
  }
}

TEST_CASE("a limit of zero or less is over at once") {
  for (const auto limit : {0ms, -1ms}) {
    try {
      run({"sleep", "30"}, {.timeout = limit});
      FAIL("no exception");
    } catch (const TimeoutExpired& error) {
      CHECK_THAT(error.what(), ContainsSubstring(" 0 seconds"));
    }
  }
}

TEST_CASE("TimeoutExpired has what the program had written by then") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  CHECK(support::with_some_limit(100ms, [](auto limit) {
    try {
      run({"sh", "-c", "echo out; echo err >&2; exec sleep 600"},
          {.capture_output = true, .timeout = limit});
      FAIL("no exception");
    } catch (const TimeoutExpired& error) {
      return error.out() == "out\n" && error.err() == "err\n";
    }
    return false;
  }));
  CHECK(support::with_some_limit(100ms, [](auto limit) {
    try {
      check_output({"sh", "-c", "echo BDFL; exec sleep 600"}, {.timeout = limit});
      FAIL("no exception");
    } catch (const TimeoutExpired& error) {
      return error.out() == "BDFL\n";
    }
    return false;
  }));
}

TEST_CASE("run returns when its time is up though a grandchild holds the pipes") {
  const auto start = std::chrono::steady_clock::now();
  std::string out;
  try {
    run("sleep 200 & echo $!; wait", {.capture_output = true, .timeout = 100ms, .shell = true});
    FAIL("no exception");
  } catch (const TimeoutExpired& error) {
    out = error.out();
  }
  CHECK(seconds_since(start) < 100);
  const pid_t grandchild = std::atoi(out.c_str());
  if (grandchild > 0) ::kill(grandchild, SIGKILL);
}

TEST_CASE("every call returns when its time is up though a grandchild holds the pipes") {
  const auto way = support::each_start_way();
  brood::posix::PipeEnds hold = brood::posix::make_pipe();
  brood::posix::PipeEnds echo = brood::posix::make_pipe();
  // The child ends at once. The grandchild, in a session of its own, keeps the child's output and
  // goes on until nobody holds the writing end of `hold`.
  const std::string line = "setsid cat <&" + std::to_string(hold.read.get()) + " 9>&1 >&" +
                           std::to_string(echo.write.get()) + " & echo early";
  const auto with = [&](Stdio out) {
    return Options{.timeout = 100ms,
                   .out = std::move(out),
                   .shell = true,
                   .pass_fds = {hold.read.get(), echo.write.get()}};
  };
  std::string seen;
  const Sink sink = [&seen](std::string_view text) { seen += text; };
  try {
    run(line, with(PIPE));
    FAIL("no exception");
  } catch (const TimeoutExpired& error) {
    CHECK((error.out() == "early\n" || error.out().empty()));
  }
  CHECK_THROWS_AS(check_output(line, with(INHERIT)), TimeoutExpired);
  CHECK_THROWS_AS(run(line, with(sink)), TimeoutExpired);
  CHECK_THROWS_AS(pipeline({"true", line}, with(PIPE)), TimeoutExpired);
  // call() waits for the child alone.
  Options patient = with(DEVNULL);
  patient.timeout = 60s;
  CHECK(call(line, patient) == 0);
  REQUIRE(::write(hold.write.get(), "alive", 5) == 5);
  char text[5];
  CHECK(::read(echo.read.get(), text, 5) > 0);
}

TEST_CASE("call returns the exit code and takes options") {
  const auto way = support::each_start_way();
  CHECK(call({"sh", "-c", "exit 47"}) == 47);
  CHECK(call({"sh", "-c", "test \"$FRUIT\" = banana"}, {.env = {{{"FRUIT", "banana"}}}}) == 0);
  CHECK(call("exit 3", {.shell = true}) == 3);
  CHECK(
      run({"sh", "-c", "test \"$FRUIT\" = banana"}, {.env = {{{"FRUIT", "banana"}}}}).returncode ==
      0);
}

TEST_CASE("call with a time limit kills the program") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  CHECK_THROWS_AS(call({"sh", "-c", "while :; do :; done"}, {.timeout = 50ms}), TimeoutExpired);
}

TEST_CASE("check_call returns 0 or throws with the code") {
  const auto way = support::each_start_way();
  CHECK(check_call({"true"}) == 0);
  try {
    check_call({"sh", "-c", "exit 47"});
    FAIL("no exception");
  } catch (const CalledProcessError& error) {
    CHECK(error.returncode() == 47);
  }
}

TEST_CASE("check_output returns the output or throws with the code") {
  const auto way = support::each_start_way();
  CHECK(check_output({"echo", "BDFL"}) == "BDFL\n");
  try {
    check_output({"sh", "-c", "exit 5"});
    FAIL("no exception");
  } catch (const CalledProcessError& error) {
    CHECK(error.returncode() == 5);
  }
}

TEST_CASE("check_output collects both outputs with err as STDOUT") {
  const auto way = support::each_start_way();
  CHECK(check_output({"sh", "-c", "echo BDFL >&2"}, {.err = STDOUT}) == "BDFL\n");
  CHECK(check_output({"sh", "-c", "echo a; echo b >&2; echo c"}, {.err = STDOUT}) == "a\nb\nc\n");
}

TEST_CASE("check_output takes its input from a text or a file") {
  const auto way = support::each_start_way();
  CHECK(check_output({"cat"}, {.input = "pear"}) == "pear");
  CHECK(check_output({"cat"}, {.input = ""}).empty());
  std::FILE* const stream = std::tmpfile();
  REQUIRE(stream != nullptr);
  std::fputs("pear", stream);
  std::fflush(stream);
  std::rewind(stream);
  CHECK(check_output({"cat"}, {.in = stream}) == "pear");
  std::rewind(stream);
  CHECK(run({"cat"}, {.in = stream, .out = PIPE}).out == "pear");
  std::fclose(stream);
}

TEST_CASE("check_output refuses out and check and a time that runs out") {
  CHECK_THROWS_WITH(check_output({"true"}, {.out = DEVNULL}), ContainsSubstring(".out"));
  CHECK_THROWS_WITH(check_output({"true"}, {.check = true}), ContainsSubstring(".check"));
  CHECK_THROWS_AS(check_output({"true"}, {.capture_output = true}), std::invalid_argument);
  CHECK_THROWS_AS(check_output({"sleep", "30"}, {.timeout = 10ms}), TimeoutExpired);
}

TEST_CASE("input and in together are refused") {
  CHECK_THROWS_WITH(run({"cat"}, {.input = "x", .in = DEVNULL}),
                    ContainsSubstring(".in ") && ContainsSubstring(".input"));
  CHECK_THROWS_WITH(check_output({"cat"}, {.input = "x", .in = DEVNULL}),
                    ContainsSubstring(".in ") && ContainsSubstring(".input"));
  CHECK_THROWS_AS(run({"cat"}, {.input = "x", .in = DEVNULL}), std::invalid_argument);
}

TEST_CASE("capture_output together with out or err is refused") {
  CHECK_THROWS_WITH(run({"true"}, {.capture_output = true, .out = PIPE}),
                    ContainsSubstring(".capture_output") && ContainsSubstring(".out"));
  CHECK_THROWS_WITH(run({"true"}, {.capture_output = true, .err = PIPE}),
                    ContainsSubstring(".capture_output") && ContainsSubstring(".err"));
}

TEST_CASE("a field that the call does not take is refused by name") {
  CHECK_THROWS_WITH(call({"true"}, {.input = "x"}), ContainsSubstring("call: .input"));
  CHECK_THROWS_WITH(call({"true"}, {.capture_output = true}), ContainsSubstring(".capture_output"));
  CHECK_THROWS_WITH(check_call({"true"}, {.check = true}), ContainsSubstring(".check"));
  // Nobody would be at the other end of a pipe.
  CHECK_THROWS_WITH(call({"true"}, {.in = PIPE}), ContainsSubstring("call: .in"));
  CHECK_THROWS_WITH(call({"true"}, {.out = PIPE}), ContainsSubstring("call: .out"));
  CHECK_THROWS_WITH(check_call({"true"}, {.err = PIPE}), ContainsSubstring(".err"));
  CHECK_THROWS_WITH(Popen({"true"}, {.input = "x"}), ContainsSubstring("Popen: .input"));
  CHECK_THROWS_WITH(Popen({"true"}, {.capture_output = true}),
                    ContainsSubstring(".capture_output"));
  CHECK_THROWS_WITH(Popen({"true"}, {.timeout = 1s}), ContainsSubstring(".timeout"));
  CHECK_THROWS_AS(Popen({"true"}, {.check = true}), std::invalid_argument);
}

TEST_CASE("getoutput and getstatusoutput give both streams without the last newline") {
  const auto way = support::each_start_way();
  CHECK(getoutput("echo xyzzy") == "xyzzy");
  CHECK(getoutput("printf 'a\\n\\n'") == "a\n");
  CHECK(getoutput("echo out; echo err >&2; exit 3") == "out\nerr");
  CHECK(getstatusoutput("echo xyzzy") == std::pair<int, std::string>{0, "xyzzy"});
  CHECK(getstatusoutput("exit 3") == std::pair<int, std::string>{3, ""});
  CHECK(getstatusoutput("kill -9 $$").first == -9);
  const auto [code, text] = getstatusoutput("cat /no/such/file");
  CHECK(code == 1);
  CHECK_THAT(text, ContainsSubstring("/no/such/file"));
}

TEST_CASE("messages show the command and the code or the signal") {
  CHECK(std::string(CalledProcessError(-SIGABRT, {"fake cmd"}).what()) ==
        "Command 'fake cmd' died with SIGABRT (signal 6).");
  CHECK(std::string(CalledProcessError(-9876543, {"fake cmd"}).what()) ==
        "Command 'fake cmd' died with unknown signal 9876543.");
  CHECK(std::string(CalledProcessError(2, {"fake", "cmd"}).what()) ==
        "Command 'fake cmd' returned non-zero exit status 2.");
  CHECK(shell_join({"echo", "it's", "", "a b"}) == "echo 'it'\"'\"'s' '' 'a b'");
}

TEST_CASE("run tells what the program used") {
  const CompletedProcess process =
      run({"sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"});
  CHECK((process.usage.user + process.usage.system).count() > 0);
  CHECK(process.usage.max_rss_bytes > 100'000);
}

TEST_CASE("a sink gets the output in the calling thread") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const pid_t caller = ::gettid();
  std::string out;
  std::string err;
  bool elsewhere = false;
  const auto into = [&](std::string& text) {
    return [&text, &elsewhere, caller](std::string_view piece) {
      text += piece;
      elsewhere = elsewhere || ::gettid() != caller;
    };
  };
  const Command command{"sh", "-c", "seq 1 20000; echo done >&2"};
  const CompletedProcess process = run(command, {.out = into(out), .err = into(err)});
  CHECK(process.out.empty());
  CHECK(out.size() == 108894);
  CHECK(err == "done\n");
  out.clear();
  CHECK(call(command, {.out = into(out), .err = DEVNULL}) == 0);
  CHECK(out.size() == 108894);
  CHECK_FALSE(elsewhere);
}

TEST_CASE("an exception of a sink ends the program and reaches the caller") {
  const support::LeakCheck nothing_left;
  const auto refuse = [](std::string_view) { throw std::logic_error{"enough"}; };
  CHECK_THROWS_AS(run({"sh", "-c", "echo; exec sleep 600"}, {.out = refuse}), std::logic_error);
  CHECK_THROWS_AS(call({"sh", "-c", "echo; exec sleep 600"}, {.out = refuse}), std::logic_error);
}
