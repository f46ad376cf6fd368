// SPDX-License-Identifier: MIT
//
// 15. The output of a program while it runs: handed to a function as it comes, or read line by
// line.
//
//     process = subprocess.Popen(command, stdout=subprocess.PIPE)
//     for line in process.stdout:
//         print(f'[INFO] line: {line}')
#include <brood/subprocess.hpp>

#include <fmt/core.h>

#include <cstdlib>
#include <string>
#include <string_view>

namespace subprocess = brood::subprocess;

// What a long job might say.
const std::string job = R"(
  for percent in 20 40 60 80 100; do sleep 0.02; echo "$percent percent"; done
  echo "no more paper" >&2)";

// A sink gets pieces of any size, so it puts the lines together itself.
class Progress {
 public:
  void operator()(std::string_view piece) {
    rest_ += piece;
    for (std::size_t end; (end = rest_.find('\n')) != std::string::npos; rest_.erase(0, end + 1)) {
      const int percent = std::atoi(rest_.c_str());
      fmt::print("[INFO] {:<5}| {}\n", std::string(static_cast<std::size_t>(percent / 20), '#'),
                 rest_.substr(0, end));
    }
  }

 private:
  std::string rest_;
};

int main() {
  std::string complaints;
  const auto done =
      subprocess::run(job, {.out = Progress(),
                            .err = [&](std::string_view piece) { complaints += piece; },
                            .shell = true});
  fmt::print("[INFO] Code {}. It complained: {}", done.returncode, complaints);

  subprocess::Popen process(job,
                            {.out = subprocess::PIPE, .err = subprocess::DEVNULL, .shell = true});
  for (const std::string& line : process.out.lines()) fmt::print("[INFO] line: {}", line);
}
