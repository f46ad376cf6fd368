// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <brood/subprocess.hpp>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using brood::os::FileNotFoundError;
using brood::os::OSError;
using brood::os::PermissionError;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("a program that does not exist is an error that names it") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  for (const std::string name : {"/opt/nonexisting/binary", "nonexisting_i_hope"}) {
    for (const bool with_arguments : {false, true}) {
      try {
        Popen(with_arguments ? Command{name, "argument"} : Command{name});
        FAIL("no exception");
      } catch (const FileNotFoundError& error) {
        CHECK(error.filename() == name);
        CHECK(error.code().value() == ENOENT);
        CHECK_THAT(error.what(), ContainsSubstring("execute") && ContainsSubstring(name));
      }
    }
  }
  for (const bool shell : {false, true}) {
    try {
      Popen({"true"}, {.executable = "/no/such/executable", .shell = shell});
      FAIL("no exception");
    } catch (const FileNotFoundError& error) {
      CHECK(error.filename() == "/no/such/executable");
    }
  }
}

TEST_CASE("a directory that does not exist is an error that names it and not the program") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  for (const char* program : {"true", "nonexisting_i_hope"}) {
    try {
      Popen({program}, {.cwd = "/some/nonexisting/directory"});
      FAIL("no exception");
    } catch (const FileNotFoundError& error) {
      CHECK(error.filename() == "/some/nonexisting/directory");
    }
  }
}

TEST_CASE("a program that may not be executed is a PermissionError") {
  const auto way = support::each_start_way();
  const support::TemporaryDirectory directory;
  const std::string name = directory / "not-executable";
  ::close(::open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  try {
    Popen({name});
    FAIL("no exception");
  } catch (const PermissionError& error) {
    CHECK(error.filename() == name);
  }
  // One in PATH is passed over, and told of when there is no better one.
  CHECK_THROWS_AS(Popen({"not-executable"}, {.env = {{{"PATH", directory.path() + ":/usr/bin"}}}}),
                  PermissionError);
}

TEST_CASE("a file that is no program is an error") {
  const auto way = support::each_start_way();
  const support::TemporaryDirectory directory;
  const std::string name = directory / "text";
  ::close(::open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0700));
  try {
    Popen({name});
    FAIL("no exception");
  } catch (const OSError& error) {
    CHECK(error.code().value() == ENOEXEC);
  }
}

TEST_CASE("what the kernel does not execute is an error that names it") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const support::TemporaryDirectory directory;
  const std::string script = directory / "script";
  REQUIRE(call({"sh", "-c", "echo '#!/no/such/interpreter' >\"$0\"; chmod 700 \"$0\"", script}) ==
          0);
  const auto error_of = [](const std::vector<std::string>& command) {
    try {
      Popen process{Command{command}};
    } catch (const OSError& error) {
      return std::pair{error.code().value(), error.filename()};
    }
    return std::pair{0, std::string{}};
  };
  CHECK(error_of({script}) == std::pair{ENOENT, script});
  CHECK(error_of({directory.path()}) == std::pair{EACCES, directory.path()});
  CHECK(error_of({script + "/program"}) == std::pair{ENOTDIR, script + "/program"});
  CHECK(error_of({"/bin/true", std::string(4'000'000, 'x')}) ==
        std::pair{E2BIG, std::string{"/bin/true"}});
  CHECK(error_of({"/" + std::string(300, 'x')}) ==
        std::pair{ENAMETOOLONG, "/" + std::string(300, 'x')});
}

TEST_CASE("an empty command is refused") {
  CHECK_THROWS_AS(run({}), std::invalid_argument);
  CHECK_THROWS_AS(run(std::vector<std::string>{}), std::invalid_argument);
  CHECK_THROWS_AS(run(""), std::invalid_argument);
  CHECK_THROWS_WITH(run(""), ContainsSubstring("empty"));
}

TEST_CASE("a NUL in any text is refused before anything is started") {
  const std::string nul("exit 0\0x", 8);
  CHECK_THROWS_AS(Popen({"true", nul}), std::invalid_argument);
  CHECK_THROWS_WITH(Popen({nul}), ContainsSubstring("NUL") && ContainsSubstring("exit 0"));
  CHECK_THROWS_AS(Popen({"true"}, {.executable = nul}), std::invalid_argument);
  CHECK_THROWS_AS(Popen({"true"}, {.cwd = nul}), std::invalid_argument);
  CHECK_THROWS_AS(Popen({"true"}, {.out = file(nul)}), std::invalid_argument);
  CHECK_THROWS_AS(Popen({"true"}, {.env = {{{nul, "x"}}}}), std::invalid_argument);
  CHECK_THROWS_AS(Popen({"true"}, {.env = {{{"x", nul}}}}), std::invalid_argument);
}

TEST_CASE("a name in env with an equals sign is refused and a value with one is not") {
  CHECK_THROWS_WITH(Popen({"true"}, {.env = {{{"FRUIT=", "x"}}}}), ContainsSubstring("FRUIT="));
  CHECK(
      run("printf %s \"$FRUIT\"", {.out = PIPE, .shell = true, .env = {{{"FRUIT", "a=b"}}}}).out ==
      "a=b");
}

TEST_CASE("a thousand failed starts leak no descriptor and no zombie") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const int starts = brood::posix::sanitized ? 200 : 1024;  // those are slow
  for (int i = 0; i < starts; ++i) {
    try {
      Popen({"/no/such/program"}, {.in = PIPE, .out = PIPE, .err = PIPE});
      FAIL("no exception");
    } catch (const FileNotFoundError&) {
    }
  }
}

TEST_CASE("starts go on working when descriptors are scarce") {
  const auto way = support::each_start_way();
  CHECK(support::in_child([] {
          const rlimit few{30, 30};
          if (::setrlimit(RLIMIT_NOFILE, &few) != 0) return 1;
          std::vector<int> taken;
          for (int fd = 0; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;)
            taken.push_back(fd);
          for (int i = 0; i < 10; ++i) {
            ::close(taken.back());
            taken.pop_back();
          }
          for (int i = 0; i < 15; ++i)
            if (run({"cat"}, {.input = "x", .capture_output = true}).out != "x") return 2;
          return 0;
        }) == 0);
}

TEST_CASE("a start without a descriptor left is an error and leaves nothing") {
  const auto way = support::each_start_way();
  const support::TemporaryDirectory directory;
  const std::string name = directory / "file";
  const auto use = [&name](int kind) {
    switch (kind) {
      case 0:
        run({"true"}, {.input = "x", .capture_output = true});
        break;
      case 1:
        run({"true"}, {.in = 1, .out = 0, .err = 1, .preexec = [] {}});
        break;
      case 2:
        run({"true"}, {.in = DEVNULL, .out = append(name), .err = file(name), .kill_tree = true});
        break;
      default:
        pipeline({{"true"}, {"true"}, {"true"}}, {.input = "x", .capture_output = true});
    }
  };
  for (int kind = 0; kind < 4; ++kind) {
    CAPTURE(kind);
    CHECK(support::in_child([&] {
            const rlimit few{32, 32};
            if (::setrlimit(RLIMIT_NOFILE, &few) != 0) return 1;
            std::vector<int> taken;
            for (int fd = 0; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;)
              taken.push_back(fd);
            // With none, one, and so on, another call on the way fails each time, until none does.
            for (int refused = 0; !taken.empty(); ++refused) {
              // In the kernel's own words, since to list them takes a descriptor.
              const auto count = [] {
                int open = 0;
                for (int fd = 0; fd < 32; ++fd) open += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
                return open;
              };
              const int before = count();
              bool works = true;
              try {
                use(kind);
              } catch (const OSError& error) {
                works = false;
                if (error.code().value() != EMFILE) return 2;
              }
              if (count() != before) return 3;
              if (::waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD) return 4;
              if (works) return refused > 1 ? 0 : 5;
              ::close(taken.back());
              taken.pop_back();
            }
            return 6;
          }) == 0);
  }
}

TEST_CASE("a failed start closes nothing that another thread opened meanwhile") {
  const auto way = support::each_start_way();
  bool stop = false;
  int wrong = 0;
  std::thread opener([&] {
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
      const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
      for (int i = 0; i < 20; ++i)
        if (::fcntl(fd, F_GETFD) < 0) ++wrong;
      if (::close(fd) != 0) ++wrong;
    }
  });
  for (int i = 0; i < 100; ++i) {
    try {
      Popen({"/no/such/program"}, {.in = PIPE, .out = PIPE, .err = PIPE});
    } catch (const FileNotFoundError&) {
    }
  }
  __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
  opener.join();
  CHECK(wrong == 0);
}

TEST_CASE("the caller's descriptors stay open after a failed start") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  CHECK_THROWS_AS(Popen({"/no/such/program"}, {.in = fd, .out = fd, .err = fd}), FileNotFoundError);
  CHECK(::fcntl(fd, F_GETFD) >= 0);
  ::close(fd);
}

TEST_CASE("the signal mask is as before after every kind of start") {
  const auto way = support::each_start_way();
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &before);
  run({"true"});
  CHECK_THROWS_AS(Popen({"/no/such/program"}), FileNotFoundError);
  CHECK_THROWS_AS(Popen({"true"}, {.preexec = [] { throw 1; }}), SubprocessError);
  sigset_t after;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &after);
  for (int signal = 1; signal < 65; ++signal)
    if (signal != 32 && signal != 33)
      CHECK(sigismember(&before, signal) == sigismember(&after, signal));
}
