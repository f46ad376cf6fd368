// SPDX-License-Identifier: MIT
//
// Runs each example as a user would and checks what it prints, and that nothing of it is left: no
// process, no zombie, no name in shared memory. The lines of a program come in a free order where
// several processes or threads write them; then the sorted lines are compared.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <brood/subprocess.hpp>
#include <brood/sync/word_lock.hpp>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"

using namespace std::chrono_literals;
namespace subprocess = brood::subprocess;
using Lines = std::vector<std::string>;

namespace {

// What an example printed, line by line. Checks that it succeeded without a word of complaint.
Lines run_example(const std::string& name, const Lines& arguments = {}) {
  // Orphans of the example become children of this process, zombies too, so LeakCheck sees them.
  REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  support::LeakCheck nothing_left;

  Lines command = {std::string(BROOD_EXAMPLES_DIR) + "/" + name};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const auto done = subprocess::run(command, {.capture_output = true, .timeout = 200s});
  INFO(name << " printed:\n" << done.out);
  CHECK(done.err == "");
  REQUIRE(done.returncode == 0);
  // Whom the example has killed without being the parent is ours to bury.
  for (int status = 0; ::waitpid(-1, &status, 0) > 0;)
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
  nothing_left.expect_clean();

  Lines lines;
  std::istringstream text(done.out);
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

Lines sorted(Lines lines) {
  std::sort(lines.begin(), lines.end());
  return lines;
}

// Where a line stands; a failure if it is not there.
std::ptrdiff_t position(const Lines& lines, const std::string& line) {
  const auto found = std::find(lines.begin(), lines.end(), line);
  INFO("looking for: " << line);
  REQUIRE(found != lines.end());
  return found - lines.begin();
}

// The text of the only group of a pattern that the whole line must match.
std::string matched(const std::string& line, const std::string& pattern) {
  std::smatch match;
  INFO("line: " << line << "\npattern: " << pattern);
  REQUIRE(std::regex_match(line, match, std::regex(pattern)));
  return match[1];
}

// Each dish is washed in turn and dried once, after it was washed.
void check_dishes(const Lines& lines) {
  const Lines dishes = {"salad", "bread", "entree", "dessert"};
  CHECK(lines.size() == 2 * dishes.size());
  std::ptrdiff_t previous = -1;
  for (const auto& dish : dishes) {
    const auto washed = position(lines, "[INFO] Washing " + dish + " dish");
    CHECK(washed > previous);
    CHECK(position(lines, "[INFO] Drying " + dish + " dish") > washed);
    previous = washed;
  }
}

// The lines from after `first` up to `last` or the end.
Lines between(const Lines& lines, const std::string& first, const std::string& last = {}) {
  const auto begin = position(lines, first) + 1;
  const auto end = last.empty() ? std::ssize(lines) : position(lines, last);
  REQUIRE(begin <= end);
  return {lines.begin() + begin, lines.begin() + end};
}

void check_os() {
  const auto lines = run_example("01_os");
  REQUIRE(lines.size() == 5);
  CHECK(std::stoi(matched(lines[0], R"(\[INFO\] pid of the process: (\d+))")) > 0);
  CHECK(lines[1] == "[INFO] pid of the parent process: " + std::to_string(::getpid()));
  char directory[4096];
  REQUIRE(::getcwd(directory, sizeof directory) != nullptr);
  CHECK(lines[2] == std::string("[INFO] current working directory: ") + directory);
  CHECK(lines[3] == "[INFO] id of the user: " + std::to_string(::getuid()));
  CHECK(lines[4] == "[INFO] id of the group: " + std::to_string(::getgid()));
}

void check_subprocess() {
  const auto lines = run_example("02_subprocess");
  REQUIRE(lines.size() == 5);
  // Some words and a year or a zone, in whatever language and form `date` speaks here.
  const std::string date = R"(([^"]*\d\d:\d\d:\d\d[^"]*))";
  matched(lines[0], R"(\[INFO\] ret: )" + date);
  matched(lines[1], R"(\[INFO\] ret: ")" + date + R"(\\n")");
  matched(lines[2], R"(\[INFO\] ret: \(0, ")" + date + R"("\))");
  matched(lines[3], date);
  CHECK(lines[4] == "[INFO] ret: 0");
}

void check_process() {
  const auto lines = run_example("03_process");
  REQUIRE(lines.size() == 5);
  std::map<std::string, std::string> pid_of;
  for (const auto& line : lines) {
    pid_of[matched(line, R"(\[INFO\] Process \d+ says: (.*))")] =
        matched(line, R"(\[INFO\] Process (\d+) says: .*)");
  }
  std::map<std::string, int> times_seen;
  for (const auto& [what, pid] : pid_of) ++times_seen[pid];
  CHECK(times_seen.size() == 5);
  CHECK(pid_of.count("I'm the main program") == 1);
  for (const auto n : {"0", "1", "2", "3"}) {
    CHECK(pid_of.count(std::string("I'm function ") + n) == 1);
  }
}

void check_terminate() {
  Lines lines;
  std::chrono::duration<double> time{};
  REQUIRE(support::with_some_limit(500ms, [&](std::chrono::milliseconds until) {
    const auto start = std::chrono::steady_clock::now();
    lines = run_example("04_terminate", {std::to_string(double(until.count()) / 1000), "0.02"});
    time = std::chrono::steady_clock::now() - start;
    return lines.size() >= 3;
  }));
  const auto parent = matched(lines[0], R"(\[INFO\] Process (\d+) says: main)");
  const auto child = matched(lines[1], R"(\[INFO\] Process (\d+) says: loopy)");
  CHECK(parent != child);
  for (std::size_t num = 1; num + 1 < lines.size(); ++num) {
    CHECK(lines[num + 1] == "[INFO] Number " + std::to_string(num) + " of 1000000. Honk!");
  }
  CHECK(double(lines.size()) <= 2 + 1 + time.count() / 0.02);  // naps are no shorter than asked for
}

void check_futures_map() {
  const auto lines = run_example("07_futures_map", {"0.02", "10"});
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "[INFO] Using 10 workers for 50 values");
  // Ten workers take five naps each, one after the other.
  CHECK(std::stod(matched(lines[1], R"(\[INFO\] Threads took (\d+\.\d+) sec\.)")) >= 0.1);
  CHECK(std::stod(matched(lines[2], R"(\[INFO\] Processes took (\d+\.\d+) sec\.)")) >= 0.1);
}

void check_futures_as_completed() {
  const auto lines = run_example("08_futures_as_completed", {"0.01", "3"});
  REQUIRE(lines.size() == 13);
  CHECK(lines[0] == "[INFO] Using 3 workers for 5 values");
  const std::string threads = "[INFO] Result for theads using:";
  const std::string processes = "[INFO] Result for processes using:";
  CHECK(lines[1] == threads);
  const Lines roots = {
      "Square root for value 1 = 1.0", "Square root for value 2 = 1.4142135623730951",
      "Square root for value 3 = 1.7320508075688772", "Square root for value 4 = 2.0",
      "Square root for value 5 = 2.23606797749979"};
  CHECK(sorted(between(lines, threads, processes)) == roots);
  CHECK(sorted(between(lines, processes)) == roots);
}

void check_count() {
  auto lines = run_example("09_count");
  REQUIRE(lines.size() == 10 + 20 + 15 + 1);
  CHECK(lines.back() == "done all");
  lines.pop_back();
  Lines expected;
  for (const int counter : {10, 20, 15}) {
    for (int i = 0; i < counter; ++i) expected.push_back(std::to_string(i));
  }
  CHECK(sorted(lines) == sorted(expected));
}

void check_process_id() {
  const auto lines = run_example("11_process_id");
  REQUIRE(lines.size() == 9);
  const auto parent = matched(lines[3], R"(process id: (\d+))");
  const auto child = matched(lines[7], R"(process id: (\d+))");
  CHECK(parent != child);
  CHECK(lines == Lines{"main line", "module name: __main__",
                       "parent process: " + std::to_string(::getpid()), "process id: " + parent,
                       "function f", "module name: __main__", "parent process: " + parent,
                       "process id: " + child, "hello bob"});
}

void check_queue_sum() { CHECK(run_example("10_queue_sum") == Lines{"total sum is : 45150"}); }

// Keeps all processors busy.
class Noise {
 public:
  Noise() {
    for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i)
      threads_.emplace_back([this] {
        while (!over_) brood::sync::pause_spinning();
      });
  }
  ~Noise() {
    over_ = true;
    for (auto& thread : threads_) thread.join();
  }
  Noise(const Noise&) = delete;
  Noise& operator=(const Noise&) = delete;

 private:
  std::atomic<bool> over_{false};
  std::vector<std::thread> threads_;
};

// A thousand, or what the environment says.
int rounds() {
  const char* const given = std::getenv("BROOD_TEST_ROUNDS");
  return given != nullptr ? std::atoi(given) : 1000;
}

}  // namespace

TEST_CASE("example 1 prints the ids and the directory of its process") { check_os(); }

TEST_CASE("example 2 prints the date four times and the statuses") { check_subprocess(); }

TEST_CASE("example 3 speaks from the parent and from four children") { check_process(); }

TEST_CASE("example 4 honks until it is terminated") { check_terminate(); }

TEST_CASE("example 5 washes and dries each dish once") {
  for (int round = 0; round < 20; ++round) check_dishes(run_example("05_washer_dryer_process"));
}

TEST_CASE("example 6 washes and dries each dish once and ends") {
  for (int round = 0; round < 20; ++round) check_dishes(run_example("06_washer_dryer_thread"));
}

TEST_CASE("example 7 times threads and processes") { check_futures_map(); }

TEST_CASE("example 8 prints each root beside its own value") { check_futures_as_completed(); }

TEST_CASE("example 9 counts to 10 and 20 and 15 and is done") { check_count(); }

TEST_CASE("example 10 prints the total 45150") {
  for (int round = 0; round < 20; ++round) check_queue_sum();
}

TEST_CASE("examples 1 to 11 print the same a thousand times on a busy machine", "[soak]") {
  const Noise noise;
  for (int round = 0; round < rounds(); ++round) {
    check_os();
    check_subprocess();
    check_process();
    check_dishes(run_example("05_washer_dryer_process"));
    check_dishes(run_example("06_washer_dryer_thread"));
    check_count();
    check_queue_sum();
    check_process_id();
  }
}

TEST_CASE("examples 4 and 7 and 8 print the same a thousand times on a busy machine", "[soak]") {
  const Noise noise;
  for (int round = 0; round < rounds(); ++round) {
    check_terminate();
    check_futures_map();
    check_futures_as_completed();
  }
}

TEST_CASE("example 11 prints the ids of parent and child") { check_process_id(); }

TEST_CASE("example 12 counts the primes in each block") {
  const auto lines = run_example("12_pool");
  REQUIRE(lines.size() == 3);
  CHECK(std::stoi(matched(lines[0], R"(\[INFO\] Using a pool of (\d+) workers)")) >= 1);
  CHECK(lines[1] ==
        "[INFO] Primes in each block: [2762, 2371, 2260, 2199, 2142, 2114, 2068, 2068]");
  CHECK(lines[2] == "[INFO] Primes below 200000: 17984");
}

TEST_CASE("example 13 ends a stubborn child and its helper in time") {
  const auto lines = run_example("13_timeout");
  REQUIRE(lines.size() == 5);
  // On a machine with much else to do it may not come to speak within a second.
  CHECK(lines[0].starts_with("[INFO] It did not end in time. It said: "));
  CHECK(lines[1] == "[INFO] It says: working");
  CHECK(lines[2] == "[INFO] It does not end when asked to.");
  CHECK(lines[3] == "[INFO] It was ended: -9");
  CHECK(lines[4] == "[INFO] Nobody holds the pipe: \"\"");
}

TEST_CASE("example 14 counts words in a pipeline and tells the code of each program") {
  CHECK(run_example("14_shell_pipeline") ==
        Lines{"[INFO] 3 times a", "[INFO] 2 times chuck", "[INFO] 2 times wood",
              "[INFO] 2 times woodchuck", "[INFO] The codes: [0, 1, 0]",
              "[INFO] Command 'grep pear' returned non-zero exit status 1."});
}

TEST_CASE("example 15 shows the output of a running program") {
  CHECK(run_example("15_live_output") ==
        Lines{"[INFO] #    | 20 percent", "[INFO] ##   | 40 percent", "[INFO] ###  | 60 percent",
              "[INFO] #### | 80 percent", "[INFO] #####| 100 percent",
              "[INFO] Code 0. It complained: no more paper", "[INFO] line: 20 percent",
              "[INFO] line: 40 percent", "[INFO] line: 60 percent", "[INFO] line: 80 percent",
              "[INFO] line: 100 percent"});
}

TEST_CASE("example 16 builds each target once and after what it needs") {
  for (int round = 0; round < 20; ++round) {
    const auto lines = run_example("16_build");
    REQUIRE(lines.size() == 7);
    CHECK(position(lines, "[INFO] made words") == 0);
    CHECK(position(lines, "[INFO] made sorted") == 1);
    CHECK(position(lines, "[INFO] made last") < 4);
    CHECK(position(lines, "[INFO] made count") < 4);
    CHECK(lines[4] == "[INFO] made report");
    CHECK(lines[5] == "3");
    CHECK(lines[6] == "plum");
  }
}

TEST_CASE("example 17 tells of each page once and which are missing") {
  const auto lines = run_example("17_fetch");
  Lines expected;
  for (int number = 1; number <= 60; ++number) {
    const std::string digits = std::to_string(number);
    const std::string url = "http://example.org/" + std::string(number < 10 ? "0" : "") + digits;
    expected.push_back(number % 10 == 0
                           ? url + " generated an exception: 404 not found"
                           : url + " page is " + std::to_string(34 + number) + " bytes");
  }
  CHECK(sorted(lines) == expected);
}

TEST_CASE("example 18 sums the squares at the end of its pipeline") {
  for (int round = 0; round < 20; ++round) {
    CHECK(run_example("18_pipeline") ==
          Lines{"[INFO] The sum of the squares of 1 to 1000 is 333833500"});
  }
}

TEST_CASE("example 19 computes fibonacci numbers in nested tasks") {
  CHECK(run_example("19_nested_fib") ==
        Lines{"[INFO] fib(5) = 5", "[INFO] fib(10) = 55", "[INFO] fib(20) = 6765"});
}

TEST_CASE("example 20 fills its array from all its processes") {
  for (int round = 0; round < 5; ++round) {
    CHECK(run_example("20_shared_array") ==
          Lines{"[INFO] 4 processes have filled 1000 places: 1, 4, 9, ..., 1000000",
                "[INFO] The sum of the squares of 1 to 1000 is 333833500"});
  }
}

TEST_CASE("example 24 goes on when a worker is killed and tells what is missing") {
  for (int round = 0; round < 20; ++round) {
    CHECK(run_example("24_killed_worker") ==
          Lines{"[INFO] 1 task was lost with a worker that is dead",
                "[INFO] 99 results of 100 tasks, 1 worker of 3 was killed"});
  }
}

TEST_CASE("example 25 counts the words of all files once") {
  const Lines expected{"     210 and",  "     210 brown", "     210 dog", "     210 fox",
                       "     210 lazy", "     210 quick", "     420 the"};
  for (int round = 0; round < 5; ++round) CHECK(run_example("25_word_count") == expected);
}

TEST_CASE("example 21 does every picture but the one that crashes its worker") {
  CHECK(run_example("21_crash_proof_batch") ==
        Lines{"[INFO] dish1.png: brightness 10", "[INFO] dish2.png: brightness 60",
              "[INFO] dish3.png: its worker was killed by signal 6",
              "[INFO] dish4.png: brightness 160", "[INFO] dish5.png: brightness 210",
              "[INFO] dish6.png: brightness 250"});
}

TEST_CASE("example 22 ends the tasks that never would") {
  CHECK(run_example("22_parameter_sweep") ==
        Lines{"[INFO] From -3.0: -1.769292", "[INFO] From -1.0: -1.769292",
              "[INFO] From  0.0: no root in time", "[INFO] From  0.1: no root in time",
              "[INFO] From  1.0: no root in time", "[INFO] From  2.0: -1.769292",
              "[INFO] From  3.0: -1.769292"});
}

TEST_CASE("example 23 draws the Mandelbrot set to a file") {
  char name[] = "/tmp/brood-mandelbrot-XXXXXX";
  const int fd = ::mkstemp(name);
  REQUIRE(fd >= 0);
  ::close(fd);
  const auto lines = run_example("23_mandelbrot", {name});
  std::ifstream file(name, std::ios::binary);
  const std::string picture{std::istreambuf_iterator<char>(file), {}};
  std::remove(name);
  REQUIRE(lines.size() == 1);
  const std::string header = "P5 320 240 255\n";
  REQUIRE(picture.size() == header.size() + 320 * 240);
  CHECK(picture.substr(0, header.size()) == header);
  const auto pixels = picture.substr(header.size());
  CHECK(lines[0] == "[INFO] 240 rows, " +
                        std::to_string(std::count(pixels.begin(), pixels.end(), '\0')) +
                        " of 76800 points inside");
  // In the middle of its body, and in a corner.
  CHECK(pixels[120 * 320 + 230] == '\0');
  CHECK(static_cast<unsigned char>(pixels[0]) > 250);
}

TEST_CASE("example 26 adds up by processes of every start method") {
  CHECK(run_example("26_start_methods") ==
        Lines{"[INFO] fork: the numbers below 1000 add up to 499500",
              "[INFO] forkserver: the numbers below 1000 add up to 499500",
              "[INFO] spawn: the numbers below 1000 add up to 499500"});
}

// The pools' cost beside the naps, start and shutdown included: at most 5 ms for threads and 15 ms
// for processes, in the median of some runs on a quiet machine and in an optimised build.
TEST_CASE("example 7 takes little longer than its naps", "[soak]") {
  std::vector<double> threads, processes;
  for (int round = 0; round < 5; ++round) {
    const auto lines = run_example("07_futures_map");
    threads.push_back(std::stod(matched(lines[1], R"(\[INFO\] Threads took (.*) sec\.)")) - 1);
    processes.push_back(std::stod(matched(lines[2], R"(\[INFO\] Processes took (.*) sec\.)")) - 1);
  }
  std::sort(threads.begin(), threads.end());
  std::sort(processes.begin(), processes.end());
  CHECK(threads[2] <= 0.005);
  CHECK(processes[2] <= 0.015);
}
