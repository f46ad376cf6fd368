// SPDX-License-Identifier: MIT
#include <poll.h>
#include <unistd.h>

#include <brood/subprocess.hpp>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"

using namespace brood::subprocess;

TEST_CASE("readline gives each line with its newline and then nothing") {
  const support::LeakCheck nothing_left;
  Popen process({"printf", "one\n\nthree"}, {.out = PIPE});
  CHECK(process.out.readline() == "one\n");
  CHECK(process.out.readline() == "\n");
  CHECK(process.out.readline() == "three");
  CHECK(process.out.readline().empty());
  CHECK(process.out.readline().empty());
}

TEST_CASE("lines is a range over the lines") {
  Popen process({"seq", "1", "30000"}, {.out = PIPE});
  int expected = 0;
  bool right = true;
  for (const std::string& line : process.out.lines())
    right = right && line == std::to_string(++expected) + "\n";
  CHECK(right);
  CHECK(expected == 30000);
}

TEST_CASE("a line may be longer than any buffer") {
  Popen process({"sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x; echo; echo y"}, {.out = PIPE});
  CHECK(process.out.readline() == std::string(200000, 'x') + "\n");
  CHECK(process.out.readline() == "y\n");
}

TEST_CASE("read with a size gives that many bytes and less only at the end") {
  Popen process({"sh", "-c", "printf abc; sleep 0.05; printf defg"}, {.out = PIPE});
  CHECK(process.out.read(0).empty());
  CHECK(process.out.read(5) == "abcde");
  CHECK(process.out.read(5) == "fg");
  CHECK(process.out.read(5).empty());
}

TEST_CASE("reading in different ways loses nothing between them") {
  Popen process({"printf", "one\ntwo\nthree\nfour\n"}, {.out = PIPE});
  CHECK(process.out.readline() == "one\n");
  CHECK(process.out.read(2) == "tw");
  CHECK(process.out.readline() == "o\n");
  CHECK(process.out.read() == "three\nfour\n");
  CHECK(process.out.read().empty());
}

TEST_CASE("what is written is buffered until flush or close") {
  Popen process({"cat"}, {.in = PIPE, .out = PIPE});
  process.in.write("held back\n");
  pollfd entry{process.out.fileno(), POLLIN, 0};
  CHECK(::poll(&entry, 1, 50) == 0);
  process.in.flush();
  CHECK(process.out.readline() == "held back\n");
  process.in.write("again");
  process.in.close();
  CHECK(process.out.read() == "again");
}

TEST_CASE("the descriptors of the streams are not buffered") {
  Popen process({"cat"}, {.in = PIPE, .out = PIPE});
  REQUIRE(::write(process.in.fileno(), "12345678", 8) == 8);
  char text[4];
  REQUIRE(::read(process.out.fileno(), text, 4) == 4);
  CHECK(std::string(text, 4) == "1234");
  pollfd entry{process.out.fileno(), POLLIN, 0};
  CHECK(::poll(&entry, 1, 0) == 1);
  process.in.close();
  CHECK(process.out.read() == "5678");
}

TEST_CASE("a conversation goes line by line") {
  Popen process({"sh", "-c", "while read -r line; do echo \"you said $line\"; done"},
                {.in = PIPE, .out = PIPE});
  for (int i = 0; i < 50; ++i) {
    const std::string number = std::to_string(i);
    process.in.write(number + "\n");
    process.in.flush();
    CHECK(process.out.readline() == "you said " + number + "\n");
  }
}

TEST_CASE("large writes go through as they are") {
  Popen process({"wc", "-c"}, {.in = PIPE, .out = PIPE});
  for (int i = 0; i < 1000; ++i) process.in.write(std::string(static_cast<std::size_t>(i), 'x'));
  process.in.write(std::string(1'000'000, 'y'));
  process.in.close();
  CHECK(process.out.read() == "1499500\n");
}

TEST_CASE("a pipeline made by hand ends and passes the data on") {
  const support::LeakCheck nothing_left;
  Popen first({"sh", "-c", "echo spam; echo apple; echo spam; echo apple"}, {.out = PIPE});
  Popen second({"grep", "apple"}, {.in = first.out.fileno(), .out = PIPE});
  first.out.close();
  CHECK(second.communicate().first == "apple\napple\n");
  // The writing end of a third program's input is not held by a fourth.
  Popen third({"cat"}, {.in = PIPE, .out = PIPE, .close_fds = false});
  Popen fourth({"cat"}, {.in = PIPE, .out = PIPE, .close_fds = false});
  third.in.close();
  CHECK(third.wait() == 0);
  fourth.in.close();
  CHECK(fourth.wait() == 0);
}
