// SPDX-License-Identifier: MIT
//
// What it costs to run a program and to take what it prints, beside the bare system calls,
// CPython's subprocess and Boost.Process (both where they are there).
//
//   bench_subprocess [--rounds N] [WORD...]      with WORDs: only what has one of them in its title
#include <fcntl.h>
#include <poll.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <brood/subprocess.hpp>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include "interleaved.hpp"

#ifdef BENCH_HAS_BOOST_PROCESS
#include <boost/asio/io_context.hpp>
#include <boost/process/async.hpp>
#include <boost/process/child.hpp>
#include <boost/process/io.hpp>
#include <boost/process/pipe.hpp>
#include <future>
#include <iterator>
#include <vector>
#endif

namespace subprocess = brood::subprocess;

namespace {

constexpr std::size_t gib = std::size_t{1} << 30;
constexpr const char* true_program = "/bin/true";

void require(bool fine, const char* what) {
  if (fine) return;
  std::fprintf(stderr, "bench_subprocess: %s failed\n", what);
  std::exit(2);
}

// ---- The bare system calls: the limit.

// vfork and execve, with `out` and `err` as the child's outputs unless they are -1.
pid_t raw_start(const char* program, const char* argument = nullptr, int out = -1, int err = -1) {
  const char* const argv[] = {program, argument, nullptr};
  const pid_t pid = ::vfork();
  if (pid == 0) {
    if (out >= 0) ::dup2(out, 1);
    if (err >= 0) ::dup2(err, 2);
    ::execve(program, const_cast<char* const*>(argv), ::environ);
    ::_exit(127);
  }
  return pid;
}

void raw_wait(pid_t pid) {
  siginfo_t ended{};
  require(::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED) == 0 && ended.si_status == 0,
          "a bare start");
}

void raw_run(const char* program) { raw_wait(raw_start(program)); }

// What the simplest correct program does to have both outputs: two pipes, poll, read to their ends.
void raw_capture(const char* program) {
  int out[2];
  int err[2];
  require(::pipe2(out, O_CLOEXEC) == 0 && ::pipe2(err, O_CLOEXEC) == 0, "a pipe");
  const pid_t pid = raw_start(program, nullptr, out[1], err[1]);
  ::close(out[1]);
  ::close(err[1]);
  pollfd fds[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  for (int open = 2; open > 0;) {
    ::poll(fds, 2, -1);
    for (pollfd& entry : fds) {
      char buffer[4096];
      if (entry.fd < 0 || entry.revents == 0) continue;
      if (::read(entry.fd, buffer, sizeof buffer) > 0) continue;
      ::close(entry.fd);
      entry.fd = -1;
      --open;
    }
  }
  raw_wait(pid);
}

// Reads all a program writes into one buffer, over and over.
void raw_sink(const char* amount, std::size_t expected, int pipe_size) {
  constexpr std::size_t size = 64 * 1024;
  const std::unique_ptr<char[]> buffer(new char[size]);
  int out[2];
  require(::pipe2(out, O_CLOEXEC) == 0, "a pipe");
  if (pipe_size > 0) ::fcntl(out[0], F_SETPIPE_SZ, pipe_size);
  const pid_t pid = raw_start(BENCH_WRITER, amount, out[1]);
  ::close(out[1]);
  std::size_t total = 0;
  for (ssize_t got; (got = ::read(out[0], buffer.get(), size)) > 0;)
    total += static_cast<std::size_t>(got);
  ::close(out[0]);
  raw_wait(pid);
  require(total == expected, "a bare read loop");
}

// ---- Python, in a process of its own that is told what to do and times itself.

constexpr const char* python_script = R"(
import subprocess, sys, time
for line in sys.stdin:
    job, count, *command = line.split()
    start = time.perf_counter()
    for _ in range(int(count)):
        if job == 'run':
            subprocess.run(command)
        elif job == 'capture':
            subprocess.run(command, capture_output=True)
        else:
            subprocess.check_output(command)
    seconds = (time.perf_counter() - start) / int(count)
    with open('/proc/self/status') as status:
        peak = next(line.split()[1] for line in status if line.startswith('VmHWM'))
    print(peak if job == 'peak' else seconds, flush=True)
)";

class Python {
 public:
  // The system's own is the faster one where there are several.
  Python()
      : process_({::access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : "python3", "-c",
                  python_script},
                 {.in = subprocess::PIPE, .out = subprocess::PIPE}) {}

  // Seconds for one time, or KiB for "peak".
  double tell(const std::string& job, int count, const std::string& command) {
    process_.in.write(job + " " + std::to_string(count) + " " + command + "\n");
    process_.in.flush();
    const std::string answer = process_.out.readline();
    require(!answer.empty(), "Python");
    return std::strtod(answer.c_str(), nullptr);
  }

 private:
  subprocess::Popen process_;
};

std::unique_ptr<Python> start_python() {
  try {
    return std::make_unique<Python>();
  } catch (const brood::os::OSError&) {
    std::printf("There is no python3 to compare with.\n\n");
    return nullptr;
  }
}

// ---- Boost.Process, as its tutorial uses it.

#ifdef BENCH_HAS_BOOST_PROCESS
namespace process = boost::process;

void boost_run(const char* program) {
  process::child child{std::string(program)};
  child.wait();
  require(child.exit_code() == 0, "Boost.Process");
}

void boost_capture(const char* program) {
  process::ipstream out;
  process::ipstream err;
  process::child child(std::string(program), process::std_out > out, process::std_err > err);
  const std::string text{std::istreambuf_iterator<char>(out), {}};
  const std::string errors{std::istreambuf_iterator<char>(err), {}};
  child.wait();
  require(child.exit_code() == 0 && text.empty() && errors.empty(), "Boost.Process");
}
#endif

// ---- The comparisons.

using Comparison = bench::Program::Comparison;

// Of the peers a limit of 0 says nothing: where the bare calls come close to them already.
void add_peers(Comparison& comparison, Python* python, const char* program, bool capture, int count,
               double python_limit, double boost_limit) {
  if (python != nullptr) {
    comparison
        .add_value("CPython",
                   [=] { return python->tell(capture ? "capture" : "run", count, program); })
        .at_most("brood", python_limit, "CPython");
  }
#ifdef BENCH_HAS_BOOST_PROCESS
  comparison
      .add("Boost.Process", static_cast<std::size_t>(count),
           [=] { capture ? boost_capture(program) : boost_run(program); })
      .at_most("brood", boost_limit, "Boost.Process");
#else
  static_cast<void>(boost_limit);
#endif
}

void brood_run(const char* program) { require(subprocess::run(program).returncode == 0, "brood"); }

// `where`: what is special about this process meanwhile.
void compare_runs(bench::Program& program, Python* python, const std::string& where) {
  struct Job {
    const char* name;
    const char* path;
    int count;
    double limit;
    double python_limit;
    double boost_limit;
  };
  for (const Job& job : {Job{"a no-op program", BENCH_NOOP, 100, 1.2, 0.8, 0.5},
                         Job{"/bin/true", true_program, 30, 1.1, 0, 0}}) {
    auto comparison =
        program.compare("run " + std::string(job.name) + where, bench::microseconds, 31);
    const auto count = static_cast<std::size_t>(job.count);
    comparison.add("vfork, execve, waitid", count, [&] { raw_run(job.path); })
        .add("brood", count, [&] { brood_run(job.path); })
        .at_most("brood", job.limit, "vfork, execve, waitid");
    // CPython's and Boost's own processes and heaps stay as they are; fork() in Boost's case would
    // take a hundred times as long with a large one.
    if (where.empty())
      add_peers(comparison, python, job.path, false, job.count, job.python_limit, job.boost_limit);
    comparison.run();
  }
}

void compare_captures(bench::Program& program, Python* python) {
  auto comparison =
      program.compare("capture both outputs of a no-op program", bench::microseconds, 31);
  comparison.add("vfork, execve, waitid", 100, [] { raw_run(BENCH_NOOP); })
      .add("the same, 2 pipes, poll, read", 100, [] { raw_capture(BENCH_NOOP); })
      .add("brood", 100,
           [] {
             require(subprocess::run(BENCH_NOOP, {.capture_output = true}).returncode == 0,
                     "brood");
           })
      .at_most("brood", 1.25, "the same, 2 pipes, poll, read")
      .beside("brood", "vfork, execve, waitid");
  add_peers(comparison, python, BENCH_NOOP, true, 100, 0.8, 0);
  comparison.run();
}

void compare_sinks(bench::Program& program) {
  program.compare("1 GiB of output to a sink", bench::milliseconds, 9)
      .add("read loop, one buffer", 1, [] { raw_sink("1024", gib, 0); })
      .add("the same, a pipe of 1 MiB", 1, [] { raw_sink("1024", gib, 1 << 20); })
      .add("brood", 1,
           [] {
             std::size_t total = 0;
             subprocess::run({BENCH_WRITER, "1024"},
                             {.out = [&](std::string_view text) { total += text.size(); }});
             require(total == gib, "brood");
           })
      .at_most("brood", 1.15, "read loop, one buffer")
      .beside("brood", "the same, a pipe of 1 MiB")
      .run();
}

void brood_output() {
  require(subprocess::check_output({BENCH_WRITER, "1024"}).size() == gib, "brood");
}

void compare_strings(bench::Program& program, Python* python) {
  auto comparison = program.compare("1 GiB of output as a string", bench::milliseconds, 7);
  comparison.add("brood", 1, brood_output);
  if (python != nullptr) {
    comparison
        .add_value("CPython",
                   [=] { return python->tell("output", 1, std::string(BENCH_WRITER) + " 1024"); })
        .at_most("brood", 0.85, "CPython");
  }
  comparison.run();
}

// The most memory this process ever had, in bytes. (getrusage(2) would count what its parent had.)
double peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmHWM:" && status >> word) return std::strtod(word.c_str(), nullptr) * 1024;
  require(false, "/proc/self/status");
  return 0;
}

// The peak of a process that does nothing but this.
double brood_peak() {
  int answer[2];
  require(::pipe2(answer, O_CLOEXEC) == 0, "a pipe");
  const pid_t pid = ::fork();
  if (pid == 0) {
    brood_output();
    const double peak = peak_memory();
    ::_exit(::write(answer[1], &peak, sizeof peak) == sizeof peak ? 0 : 1);
  }
  ::close(answer[1]);
  double peak = 0;
  require(::read(answer[0], &peak, sizeof peak) == sizeof peak, "the measurement of memory");
  ::close(answer[0]);
  raw_wait(pid);
  return peak / static_cast<double>(gib);
}

void compare_memory(bench::Program& program, Python* python) {
  auto comparison = program.compare("peak memory for 1 GiB as a string", bench::times, 3);
  comparison.add_value("the string itself", [] { return 1.0; })
      .add_value("brood", brood_peak)
      .at_most("brood", 2.1, "the string itself");
  if (python != nullptr) {
    comparison.add_value("CPython", [] {
      return Python().tell("peak", 1, std::string(BENCH_WRITER) + " 1024") * 1024 /
             static_cast<double>(gib);
    });
  }
  comparison.run();
}

// A second thread, which does nothing.
class IdleThread {
 public:
  ~IdleThread() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    condition_.notify_one();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool over_ = false;  // guarded by mutex_
  std::thread thread_{[this] {
    std::unique_lock lock(mutex_);
    condition_.wait(lock, [this] { return over_; });
  }};
};

// So many bytes of heap, each page touched.
std::unique_ptr<char[]> touch(std::size_t size) {
  std::unique_ptr<char[]> heap(new char[size]);
  for (std::size_t at = 0; at < size; at += 4096) static_cast<volatile char*>(heap.get())[at] = 1;
  return heap;
}

}  // namespace

int main(int argc, char** argv) {
  bench::Program program(argc, argv);
  const auto python = start_python();
  compare_runs(program, python.get(), "");
  compare_captures(program, python.get());
  compare_sinks(program);
  compare_strings(program, python.get());
  compare_memory(program, python.get());
  for (const std::size_t size : {gib, 8 * gib}) {
    const std::string where = ", " + std::to_string(size / gib) + " GiB touched, two threads";
    struct sysinfo memory {};
    ::sysinfo(&memory);
    if (!program.wants("run a no-op program" + where) && !program.wants("run /bin/true" + where))
      continue;
    if (memory.freeram * memory.mem_unit < size + size / 4) {
      std::printf("There is too little memory to touch %zu GiB.\n\n", size / gib);
      continue;
    }
    const auto heap = touch(size);
    const IdleThread second;
    compare_runs(program, nullptr, where);
  }
  return program.result();
}
