// SPDX-License-Identifier: MIT
#include <fcntl.h>

#include <brood/posix/fork.hpp>
#include <iostream>
#include <string>
#include <thread>

#include "support/catch.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"

namespace posix = brood::posix;
using support::program;
using support::say;

namespace {

pid_t flush_and_fork() {
  posix::flush_output();
  return ::fork();
}

}  // namespace

TEST_CASE("an empty standard input needs no descriptor to spare") {
  if (support::under_asan)
    SKIP("UndefinedBehaviorSanitizer needs a descriptor to look at an object");
  for (const bool closed : {false, true}) {
    const auto ended = program([closed] {
      if (closed) ::close(0);
      while (::dup(support::report_to) >= 0) {
      }
      if (closed) ::close(0);
      posix::detach_stdin();
      char byte;
      say(::read(0, &byte, 1) == 0 ? "empty" : "not empty");
    });
    CHECK(ended.said == "empty");
  }
}

TEST_CASE("what the parent has read ahead is not the child's") {
  const auto ended = program([] {
    const auto [read, write] = posix::make_pipe();
    posix::write_some(write.get(), "ab", 2);
    ::dup2(read.get(), 0);
    say(std::getchar() == 'a' ? "a" : "?");
    const pid_t pid = flush_and_fork();
    if (pid == 0) {
      posix::detach_stdin();
      say(std::getchar() == EOF ? "end" : "?");
      ::_exit(0);
    }
    support::wait_for(pid);
    say(std::getchar() == 'b' ? "b" : "?");
  });
  CHECK(ended.said == "aendb");
}

TEST_CASE("a forked child that exits ends without its parent's handlers") {
  const auto ended = program([] {
    std::atexit([] { say("handler;"); });
    const pid_t pid = flush_and_fork();
    if (pid == 0) {
      posix::catch_exit_in_forked_child();
      std::exit(12);
    }
    say(std::to_string(support::wait_for(pid)) + ";");
  });
  CHECK(ended.said == "12;handler;");
  CHECK(ended.code == 3);
}

TEST_CASE("streams that throw do not disturb a fork") {
  const auto ended = program([] {
    const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (full >= 0) ::dup2(full, 1);
    std::ios::sync_with_stdio(false);
    std::cout.exceptions(std::ios::badbit | std::ios::failbit);
    std::cout << "lost";
    posix::flush_output();
    say("alive");
  });
  CHECK(ended.said == "alive");
}

TEST_CASE("output is flushed while other threads are blocked in reading") {
  const auto ended = program([] {
    posix::PipeEnds unwritten = posix::make_pipe(), other = posix::make_pipe();
    ::dup2(unwritten.read.get(), 0);
    std::FILE* const silent = ::fdopen(unwritten.read.release(), "r");
    std::FILE* const file = ::fdopen(other.write.release(), "w");
    std::fputs("flushed;", file);
    const int before = support::sleepers();
    std::thread([silent] { std::fgetc(silent); }).detach();
    std::thread([] { std::getchar(); }).detach();
    support::await_sleepers(before + 2);
    if (flush_and_fork() == 0) ::_exit(0);
    char text[64] = {};
    posix::read_some(other.read.get(), text, sizeof text - 1);
    say(text);
    ::_exit(3);
  });
  CHECK(ended.said == "flushed;");
  CHECK(ended.code == 3);
}
