// SPDX-License-Identifier: MIT
//
// 16. A small parallel build: commands that need what others make, as many at once as may be.
//
// Each target is a task that waits for the tasks it needs. A thread of the pool that waits for a
// task nobody has begun runs it itself, so two threads are enough for any depth. A command that
// fails is an exception, which comes out of all that need its target.
#include <brood/futures.hpp>
#include <brood/subprocess.hpp>

#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace futures = brood::futures;
namespace subprocess = brood::subprocess;

struct Target {
  std::vector<std::string> needs;
  std::string command;
};

const std::map<std::string, Target> targets = {
    {"words", {{}, "printf 'plum\\npear\\napple\\nplum\\n' > words"}},
    {"sorted", {{"words"}, "sort -u words > sorted"}},
    {"last", {{"sorted"}, "tail -n 1 sorted > last"}},
    {"count", {{"sorted"}, "grep -c . sorted > count"}},
    {"report", {{"count", "last"}, "cat count last > report"}},
};

std::string directory = "/tmp/brood-build-XXXXXX";
futures::ThreadPoolExecutor pool(2);
std::map<std::string, futures::Future<void>> tasks;

futures::Future<void> make(const std::string& name) {
  if (tasks.contains(name)) return tasks[name];
  const Target& target = targets.at(name);
  std::vector<futures::Future<void>> needed;
  for (const std::string& need : target.needs) needed.push_back(make(need));
  return tasks[name] = pool.submit([name, needed, command = target.command] {
    for (const auto& task : needed) task.result();
    subprocess::run(command, {.check = true, .shell = true, .cwd = directory});
    fmt::print("[INFO] made {}\n", name);
  });
}

int main() {
  if (::mkdtemp(directory.data()) == nullptr) return 1;
  make("report").result();
  fmt::print("{}", subprocess::check_output({"cat", "report"}, {.cwd = directory}));
  std::filesystem::remove_all(directory);
}
