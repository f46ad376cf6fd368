// SPDX-License-Identifier: MIT
#include <brood/subprocess.hpp>
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("a pipeline passes the data through all its programs") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const CompletedPipeline result =
      pipeline({{"printf", "b\\na\\nc\\na\\n"}, {"sort"}, {"uniq"}}, {.capture_output = true});
  CHECK(result.out == "a\nb\nc\n");
  CHECK(result.err.empty());
  CHECK(result.returncodes == std::vector<int>{0, 0, 0});
  CHECK(pipeline({{"cat"}, {"cat"}}, {.input = "text", .out = PIPE}).out == "text");
  CHECK(pipeline({{"echo", "alone"}}, {.out = PIPE}).out == "alone\n");
  CHECK(pipeline({"echo $((6*7))", "tr 4 5"}, {.out = PIPE, .shell = true}).out == "52\n");
}

TEST_CASE("a pipeline moves megabytes") {
  const support::LeakCheck nothing_left;
  std::string text;
  while (text.size() < 4'000'000) text += std::to_string(text.size()) + "\n";
  const CompletedPipeline result =
      pipeline({{"cat"}, {"tee", "/dev/stderr"}, {"cat"}}, {.input = text, .capture_output = true});
  CHECK((result.out == text));
  CHECK((result.err == text));
}

TEST_CASE("a pipeline collects the errors of all programs") {
  const auto way = support::each_start_way();
  const CompletedPipeline result =
      pipeline({{"sh", "-c", "echo one >&2; exit 1"}, {"sh", "-c", "cat; echo two >&2; exit 2"}},
               {.capture_output = true});
  CHECK_THAT(result.err, ContainsSubstring("one\n") && ContainsSubstring("two\n"));
  CHECK(result.returncodes == std::vector<int>{1, 2});
}

TEST_CASE("a pipeline gives each code and check throws for the last bad one") {
  const auto way = support::each_start_way();
  const std::vector<Command> commands{{"sh", "-c", "exit 3"}, {"sh", "-c", "exit 4"}, {"true"}};
  CHECK(pipeline(commands).returncodes == std::vector<int>{3, 4, 0});
  try {
    pipeline(commands, {.check = true});
    FAIL("no exception");
  } catch (const CalledProcessError& error) {
    CHECK(error.returncode() == 4);
    CHECK(error.cmd() == std::vector<std::string>{"sh", "-c", "exit 4"});
  }
}

TEST_CASE("a program whose reader has gone is ended by SIGPIPE") {
  const support::LeakCheck nothing_left;
  const CompletedPipeline result = pipeline({{"yes"}, {"head", "-n", "2"}}, {.out = PIPE});
  CHECK(result.out == "y\ny\n");
  CHECK(result.returncodes == std::vector<int>{-SIGPIPE, 0});
}

TEST_CASE("a pipeline that runs out of time is ended as a whole") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  CHECK(support::with_some_limit(200ms, [](auto limit) {
    try {
      pipeline({{"sh", "-c", "echo early; exec sleep 600"}, {"cat"}},
               {.timeout = limit, .out = PIPE});
      FAIL("no exception");
    } catch (const TimeoutExpired& error) {
      CHECK_THAT(error.what(), ContainsSubstring(" | cat"));
      return error.out() == "early\n";
    }
    return false;
  }));
}

TEST_CASE("a pipeline of which one program cannot start leaves none running") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  CHECK_THROWS_AS(pipeline({{"sleep", "600"}, {"/no/such/program"}, {"cat"}}),
                  brood::os::FileNotFoundError);
}

TEST_CASE("a pipeline can write to files and sinks") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const support::TemporaryDirectory directory;
  pipeline({{"sh", "-c", "echo a; echo x >&2"}, {"sh", "-c", "cat; echo y >&2"}},
           {.out = file(directory / "out"), .err = file(directory / "err")});
  CHECK(support::read_file(directory / "out") == "a\n");
  const std::string errors = support::read_file(directory / "err");
  CHECK((errors == "x\ny\n" || errors == "y\nx\n"));
  std::string seen;
  pipeline({{"echo", "a"}, {"cat"}}, {.out = [&seen](std::string_view text) { seen += text; }});
  CHECK(seen == "a\n");
}

TEST_CASE("a pipeline without a command or with executable is refused") {
  CHECK_THROWS_AS(pipeline({}), std::invalid_argument);
  CHECK_THROWS_WITH(pipeline({{"true"}}, {.executable = "sh"}), ContainsSubstring(".executable"));
}
