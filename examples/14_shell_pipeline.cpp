// SPDX-License-Identifier: MIT
//
// 14. A pipeline of programs, as a shell's a | b | c, with the code of each.
//
//     tr -cs a-z '\n' < text | sort | uniq -c | sort -k1,1nr -k2
//     echo apple | grep pear | cat
#include <brood/subprocess.hpp>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <sstream>
#include <string>

namespace subprocess = brood::subprocess;

int main() {
  const std::string text =
      "how much wood would a woodchuck chuck if a woodchuck could chuck wood a lot";

  const auto words = subprocess::pipeline(
      {{"tr", "-cs", "a-z", "\\n"}, "sort", {"uniq", "-c"}, {"sort", "-k1,1nr", "-k2"}},
      {.input = text, .out = subprocess::PIPE});
  std::istringstream lines(words.out);
  int count = 0;
  for (std::string word; lines >> count >> word && count > 1;)
    fmt::print("[INFO] {} times {}\n", count, word);

  const auto fruit = subprocess::pipeline({{"echo", "apple"}, {"grep", "pear"}, "cat"});
  fmt::print("[INFO] The codes: {}\n", fruit.returncodes);

  try {
    subprocess::pipeline({{"echo", "apple"}, {"grep", "pear"}, "cat"}, {.check = true});
  } catch (const subprocess::CalledProcessError& error) {
    fmt::print("[INFO] {}\n", error.what());
  }
}
