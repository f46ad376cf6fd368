// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <brood/subprocess.hpp>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using Catch::Matchers::ContainsSubstring;

namespace {

// An open file without a name, with `text` in it and its offset at the beginning.
class OpenFile {
 public:
  explicit OpenFile(const std::string& text = {}) : stream_{std::tmpfile()} {
    std::fputs(text.c_str(), stream_);
    std::fflush(stream_);
    std::rewind(stream_);
  }
  ~OpenFile() { std::fclose(stream_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int fd() const { return ::fileno(stream_); }
  std::FILE* stream() const { return stream_; }
  std::string content() const {
    std::string text(100'000, '\0');
    const ssize_t size = ::pread(fd(), text.data(), text.size(), 0);
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return text;
  }

 private:
  std::FILE* stream_;
};

const Command say_both{"sh", "-c", "printf apple; printf orange >&2"};

}  // namespace

TEST_CASE("pipes can be written and read by hand") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  Popen reader({"sh", "-c", "test \"$(cat)\" = pear"}, {.in = PIPE});
  reader.in.write("pear");
  reader.in.close();
  CHECK(reader.wait() == 0);
  Popen writer(say_both, {.out = PIPE, .err = PIPE});
  CHECK(writer.out.read() == "apple");
  CHECK(writer.err.read() == "orange");
}

TEST_CASE("a descriptor or a FILE can be each standard stream") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const OpenFile in{"pear"};
  CHECK(run({"cat"}, {.in = in.fd(), .out = PIPE}).out == "pear");
  std::rewind(in.stream());
  CHECK(run({"cat"}, {.in = in.stream(), .out = PIPE}).out == "pear");
  const OpenFile out;
  const OpenFile err;
  CHECK(call(say_both, {.out = out.fd(), .err = err.stream()}) == 0);
  CHECK(out.content() == "apple");
  CHECK(err.content() == "orange");
}

TEST_CASE("the output of one program can be the input of another") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  Popen list({"printf", "pear\\nplum\\nfig\\n"}, {.out = PIPE});
  Popen sort({"sort"}, {.in = list.out, .out = PIPE});
  list.out.close();
  Popen cat({"cat"}, {.in = PIPE, .out = PIPE});
  const Popen say(say_both, {.out = cat.in, .err = cat.in});
  CHECK(sort.communicate().first == "fig\npear\nplum\n");
  CHECK(static_cast<bool>(cat.in));
  CHECK(cat.communicate().first == "appleorange");
  CHECK_THROWS_AS(Popen({"cat"}, {.in = cat.out}), std::invalid_argument);
}

TEST_CASE("one file can be both outputs and gets them in order") {
  const auto way = support::each_start_way();
  const OpenFile both;
  CHECK(call(say_both, {.out = both.fd(), .err = both.fd()}) == 0);
  CHECK(both.content() == "appleorange");
  const OpenFile merged;
  CHECK(call(say_both, {.out = merged.fd(), .err = STDOUT}) == 0);
  CHECK(merged.content() == "appleorange");
}

TEST_CASE("one descriptor can be an input and an output") {
  const auto way = support::each_start_way();
  const OpenFile file{"pear"};
  CHECK(call({"sh", "-c", "cat >/dev/null; printf banana"}, {.in = file.fd(), .out = file.fd()}) ==
        0);
  CHECK(file.content() == "pearbanana");
  CHECK(call({"sh", "-c", "printf X >&2"}, {.in = file.fd(), .err = file.fd()}) == 0);
  CHECK(file.content() == "pearbananaX");
}

TEST_CASE("err as STDOUT goes where out goes") {
  const auto way = support::each_start_way();
  CHECK(run(say_both, {.out = PIPE, .err = STDOUT}).out == "appleorange");
  const OpenFile file;
  const int code = support::in_child([&] {
    // With out inherited.
    ::dup2(file.fd(), 1);
    return call(say_both, {.err = STDOUT});
  });
  CHECK(code == 0);
  CHECK(file.content() == "appleorange");
}

TEST_CASE("an output that is not redirected is the caller's") {
  const auto way = support::each_start_way();
  const OpenFile out;
  const OpenFile err;
  CHECK(support::in_child([&] {
          ::dup2(out.fd(), 1);
          ::dup2(err.fd(), 2);
          return call(say_both);
        }) == 0);
  CHECK(out.content() == "apple");
  CHECK(err.content() == "orange");
}

TEST_CASE("an output can be the number of the caller's own stream") {
  const auto way = support::each_start_way();
  const OpenFile out;
  CHECK(support::in_child([&] {
          ::dup2(out.fd(), 1);
          return call({"sh", "-c", "printf test_with_stdout_1"}, {.out = 1});
        }) == 0);
  CHECK(out.content() == "test_with_stdout_1");
}

TEST_CASE("DEVNULL swallows output and gives no input") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  Popen process(
      {"sh", "-c",
       "test -z \"$(cat)\" && head -c 10000000 /dev/zero && head -c 1000000 /dev/zero >&2"},
      {.in = DEVNULL, .out = DEVNULL, .err = DEVNULL});
  CHECK_FALSE(process.in);
  CHECK_FALSE(process.out);
  CHECK_FALSE(process.err);
  CHECK(process.wait() == 0);
}

TEST_CASE("files are read and emptied and appended to by name") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  const support::TemporaryDirectory directory;
  const std::string name = directory / "text";
  CHECK(call({"printf", "first, which is long"}, {.out = file(name)}) == 0);
  CHECK(call({"printf", "one"}, {.out = file(name)}) == 0);
  CHECK(call({"sh", "-c", "printf two >&2"}, {.err = append(name)}) == 0);
  CHECK(support::read_file(name) == "onetwo");
  CHECK(check_output({"cat"}, {.in = file(name)}) == "onetwo");
  CHECK_THROWS_WITH(call({"cat"}, {.in = file(directory / "missing")}),
                    ContainsSubstring(directory / "missing"));
  CHECK_THROWS_AS(call({"cat"}, {.in = file(directory / "missing")}), brood::os::FileNotFoundError);
}

TEST_CASE("the size of the pipes can be set and is else the default") {
  const auto way = support::each_start_way();
  const int page = static_cast<int>(::sysconf(_SC_PAGESIZE));
  const auto sizes = [](Options options) {
    options.in = options.out = options.err = PIPE;
    Popen process({"cat"}, options);
    return std::array{::fcntl(process.in.fileno(), F_GETPIPE_SZ),
                      ::fcntl(process.out.fileno(), F_GETPIPE_SZ),
                      ::fcntl(process.err.fileno(), F_GETPIPE_SZ)};
  };
  CHECK(sizes({.pipesize = page}) == std::array{page, page, page});
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const int normal = ::fcntl(ends[0], F_GETPIPE_SZ);
  ::close(ends[0]);
  ::close(ends[1]);
  CHECK(sizes({}) == std::array{normal, normal, normal});
}

TEST_CASE("pipes work whichever of the standard streams the caller has closed") {
  const auto way = support::each_start_way();
  for (int closed = 1; closed < 8; ++closed) {
    CAPTURE(closed);
    CHECK(support::in_child([closed] {
            for (int fd = 0; fd < 3; ++fd)
              if (closed & (1 << fd)) ::close(fd);
            Popen process({"sh", "-c", "cat; printf orange >&2"},
                          {.in = PIPE, .out = PIPE, .err = PIPE});
            const auto [out, err] = process.communicate("apple");
            if (out != "apple" || err != "orange") return 1;
            if (run({"printf", "x"}, {.out = PIPE}).out != "x") return 2;
            if (run(say_both, {.out = PIPE, .err = STDOUT}).out != "appleorange") return 3;
            try {
              run({"/no/such/program"}, {.capture_output = true});
              return 4;
            } catch (const brood::os::FileNotFoundError&) {
            }
            for (int fd = 0; fd < 3; ++fd)  // and they are closed still
              if ((closed & (1 << fd)) && ::fcntl(fd, F_GETFD) >= 0) return 5;
            return 0;
          }) == 0);
  }
}

TEST_CASE("each order of the standard streams works as redirection") {
  const auto way = support::each_start_way();
  const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (const auto& order : orders) {
    // The three files are our 0 and 1 and 2; the child has file order[i] as stream i.
    OpenFile files[3];
    const int code = support::in_child([&] {
      int numbers[3];
      for (int i = 0; i < 3; ++i) numbers[i] = ::fcntl(files[i].fd(), F_DUPFD, 10);
      const std::string text = "in\n";
      if (::write(numbers[order[0]], text.data(), text.size()) != 3) return 1;
      ::lseek(numbers[order[0]], 0, SEEK_SET);
      for (int i = 0; i < 3; ++i) ::dup2(numbers[i], i);
      return call({"sh", "-c", "read -r line; printf \"out $line\"; printf \"err $line\" >&2"},
                  {.in = order[0], .out = order[1], .err = order[2]});
    });
    CAPTURE(order[0], order[1], order[2]);
    CHECK(code == 0);
    CHECK(files[order[1]].content() == "out in");
    CHECK(files[order[2]].content() == "err in");
  }
}

TEST_CASE("two of three streams can be exchanged while the third is closed") {
  const auto way = support::each_start_way();
  const OpenFile first;
  const OpenFile second;
  for (int closed = 0; closed < 3; ++closed) {
    // The two others are exchanged: from -> to and back.
    const int from = closed == 0 ? 1 : 0;
    const int to = closed == 2 ? 1 : 2;
    CHECK(support::in_child([&] {
            const int one = ::fcntl(first.fd(), F_DUPFD, 10);
            const int two = ::fcntl(second.fd(), F_DUPFD, 10);
            ::dup2(one, from);
            ::dup2(two, to);
            ::close(closed);
            Options options;
            Stdio* const streams[3] = {&options.in, &options.out, &options.err};
            *streams[from] = to;
            *streams[to] = from;
            // Compares what the numbers are in the child with the files' identities.
            const auto identity = [](int fd) {
              char link[64];
              std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
              char target[256] = {};
              return ::readlink(link, target, sizeof target - 1) > 0 ? std::string{target}
                                                                     : std::string{};
            };
            char script[256];
            std::snprintf(script, sizeof script,
                          "test \"$(readlink /proc/$$/fd/%d)\" = \"$1\" && "
                          "test \"$(readlink /proc/$$/fd/%d)\" = \"$2\"",
                          from, to);
            return call({"sh", "-c", script, "sh", identity(to), identity(from)}, options);
          }) == 0);
  }
}

TEST_CASE("a redirection that makes no sense is refused by name") {
  CHECK_THROWS_WITH(Popen({"true"}, {.out = STDOUT}), ContainsSubstring(".out"));
  CHECK_THROWS_WITH(Popen({"true"}, {.in = STDOUT}), ContainsSubstring(".in"));
  CHECK_THROWS_WITH(Popen({"true"}, {.out = -1}), ContainsSubstring(".out"));
  CHECK_THROWS_WITH(Popen({"true"}, {.in = append("x")}), ContainsSubstring(".in"));
  CHECK_THROWS_WITH(Popen({"true"}, {.in = [](std::string_view) {}}), ContainsSubstring(".in"));
  CHECK_THROWS_WITH(Popen({"true"}, {.pipesize = 0}), ContainsSubstring(".pipesize"));
  CHECK_THROWS_AS(Popen({"true"}, {.out = STDOUT}), std::invalid_argument);
  // Not open: an error of the system's, and never one of our own pipes.
  CHECK_THROWS_AS(Popen({"true"}, {.in = PIPE, .out = 900}), brood::os::OSError);
  CHECK_THROWS_WITH(Popen({"true"}, {.in = PIPE, .out = 900}), ContainsSubstring("900"));
}
