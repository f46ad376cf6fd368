// SPDX-License-Identifier: MIT
//
// What a task costs in a pool of processes, beside CPython's pools (where python3 is installed) and
// what the machine itself takes for the like. Pools have two workers unless the title says
// otherwise.
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <brood/futures.hpp>
#include <brood/multiprocessing.hpp>
#include <brood/subprocess.hpp>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "interleaved.hpp"

namespace futures = brood::futures;
namespace subprocess = brood::subprocess;
using brood::multiprocessing::StartMethod;
using futures::Future;
using futures::ProcessPoolExecutor;

namespace {

constexpr std::size_t million = 1'000'000;
constexpr std::size_t mib = std::size_t{1} << 20;

void fail(const char* what) {
  std::fprintf(stderr, "bench_process_pool: %s\n", what);
  std::exit(2);
}

int echo(int n) { return n; }

void nap(long nanoseconds) {
  const timespec time{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
  ::nanosleep(&time, nullptr);
}
void nap_a_second() { nap(1'000'000'000); }

// Works, without a look at the clock, for about so long on this machine.
double steps_per_second = 0;
double work(double steps) {
  volatile double x = 1;
  for (double i = 0; i < steps; i += 1) x = x * 0.999999 + 1e-6;
  return x;
}
void calibrate() {
  const double steps = 2e7;
  volatile double sink = 0;
  steps_per_second = steps / bench::seconds_of([&] { sink = work(steps); });
}

// CPython: seconds that a script prints.
bool has_python = false;
constexpr const char* python_prelude =
    "import time\n"
    "from concurrent.futures import ProcessPoolExecutor\n"
    "from multiprocessing import Pool\n"
    "def echo(n): return n\n"
    "def nap(n): time.sleep(1)\n";
double python(const std::string& script) {
  const auto done =
      subprocess::run({"python3", "-c", python_prelude + script}, {.capture_output = true});
  if (done.returncode != 0) fail(done.err.c_str());
  return std::strtod(done.out.c_str(), nullptr);
}

// So many trivial tasks, then all results; seconds for one.
double many(ProcessPoolExecutor& pool, std::size_t count) {
  return bench::seconds_of([&] {
           std::vector<Future<int>> tasks;
           tasks.reserve(count);
           for (std::size_t i = 0; i < count; ++i)
             tasks.push_back(pool.submit(echo, static_cast<int>(i)));
           long sum = 0;
           for (auto& task : tasks) sum += task.result();
           if (sum != static_cast<long>(count * (count - 1) / 2)) fail("the sum of the results");
         }) /
         static_cast<double>(count);
}

// A byte to a child and back.
class PingPong {
 public:
  PingPong() {
    if (::pipe(to_) != 0 || ::pipe(from_) != 0) fail("pipe");
    child_ = ::fork();
    if (child_ == 0) {
      ::close(to_[1]);
      char byte = 0;
      while (::read(to_[0], &byte, 1) == 1 && ::write(from_[1], &byte, 1) == 1) {
      }
      ::_exit(0);
    }
    ::close(to_[0]);
  }
  ~PingPong() {
    ::close(to_[1]);
    ::waitpid(child_, nullptr, 0);
  }
  void operator()() const {
    char byte = 1;
    if (::write(to_[1], &byte, 1) != 1 || ::read(from_[0], &byte, 1) != 1) fail("ping-pong");
  }

 private:
  int to_[2];
  int from_[2];
  pid_t child_;
};

// One task in a hundred works for 10 ms, the others for next to nothing. Seconds, over what the
// work alone takes on two processors.
double mixed(ProcessPoolExecutor& pool) {
  constexpr int count = 5000;
  const double heavy = steps_per_second * 0.010;
  std::vector<Future<double>> tasks;
  const double took = bench::seconds_of([&] {
    for (int i = 0; i < count; ++i) tasks.push_back(pool.submit(work, i % 100 == 50 ? heavy : 1.0));
    for (auto& task : tasks) task.result();
  });
  return took;
}
// The same work by two bare processes, half of it each.
double mixed_bare() {
  const double heavy = steps_per_second * 0.010;
  return bench::seconds_of([&] {
    pid_t children[2];
    for (pid_t& child : children) {
      child = ::fork();
      if (child == 0) {
        double sum = 0;
        for (int i = 0; i < 25; ++i) sum += work(heavy);
        ::_exit(sum > 0 ? 0 : 1);
      }
    }
    for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  });
}

std::size_t resident_bytes() {
  std::FILE* const file = std::fopen("/proc/self/statm", "re");
  unsigned long total = 0;
  unsigned long resident = 0;
  if (file == nullptr || std::fscanf(file, "%lu %lu", &total, &resident) != 2) fail("statm");
  std::fclose(file);
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

double seconds_of_cpu(pid_t pid) {
  const std::string name = "/proc/" + std::to_string(pid) + "/schedstat";
  std::FILE* const file = std::fopen(name.c_str(), "re");
  unsigned long long nanoseconds = 0;
  if (file == nullptr || std::fscanf(file, "%llu", &nanoseconds) != 1) fail("schedstat");
  std::fclose(file);
  return static_cast<double>(nanoseconds) * 1e-9;
}
double seconds_of_own_cpu() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// A heap of so many bytes, each page of it touched.
class Heap {
 public:
  explicit Heap(std::size_t size) : size_(size) {
    data_ = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) fail("mmap");
    for (std::size_t i = 0; i < size; i += 4096) static_cast<char*>(data_)[i] = 1;
  }
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap() { ::munmap(data_, size_); }

 private:
  void* data_;
  std::size_t size_;
};

double fork_once() {
  return bench::seconds_of([] {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
  });
}
double make_pool() {
  std::unique_ptr<ProcessPoolExecutor> pool;
  return bench::seconds_of([&] { pool = std::make_unique<ProcessPoolExecutor>(4); });
}
std::unique_ptr<ProcessPoolExecutor> pool_by(StartMethod method, int workers) {
  return std::make_unique<ProcessPoolExecutor>(
      futures::ProcessPoolOptions{.max_workers = workers, .start_method = method});
}
// And its first result, since by forkserver and spawn it is not ready before.
double make_and_use_pool(StartMethod method) {
  std::unique_ptr<ProcessPoolExecutor> pool;
  return bench::seconds_of([&] {
    pool = pool_by(method, 4);
    pool->submit(echo, 1).result();
  });
}
// From the death of the only worker to the result of a new one.
double replace_worker(ProcessPoolExecutor& pool) {
  constexpr int times = 10;
  return bench::seconds_of([&] {
           for (int i = 0; i < times; ++i) {
             try {
               pool.submit([] { ::_exit(1); }).result();
             } catch (const futures::WorkerCrashed&) {
             }
             pool.submit(echo, 1).result();
           }
         }) /
         times;
}

}  // namespace

int main(int argc, char** argv) {
  brood::multiprocessing::freeze_support();
  bench::Program program(argc, argv);
  calibrate();
  has_python = ::system("python3 -c pass >/dev/null 2>&1") == 0;

  // First, while the program is as small as others are.
  auto naps = program.compare("fifty naps of 1 s by fifty processes", bench::milliseconds, 3);
  naps.add("brood", 1,
           [] {
             ProcessPoolExecutor nappers(50);
             for (int i = 0; i < 50; ++i) nappers.submit(nap_a_second);
           })
      .add_value("the target", [] { return 1.03; });
  if (has_python)
    naps.add_value("CPython", [] {
      return python(
          "t = time.perf_counter()\n"
          "with ProcessPoolExecutor(50) as p: list(p.map(nap, range(50)))\n"
          "print(time.perf_counter() - t)");
    });
  naps.at_most("brood", 1, "the target").beside("brood", "CPython").run();

  ProcessPoolExecutor pool(2);

  auto submits = program.compare("1e6 trivial tasks, a task", bench::microseconds, 5);
  submits.add_value("brood", [&] { return many(pool, million); }).add_value("the target", [] {
    return 0.5e-6;
  });
  if (has_python)
    submits.add_value("CPython, of 5000", [] {
      return python(
          "with ProcessPoolExecutor(2) as p:\n"
          "  p.submit(echo, 0).result(); t = time.perf_counter()\n"
          "  for f in [p.submit(echo, i) for i in range(5000)]: f.result()\n"
          "  print((time.perf_counter() - t) / 5000)");
    });
  submits.at_most("brood", 1, "the target").at_most("brood", 0.005, "CPython, of 5000").run();

  const PingPong ping_pong;
  auto single = program.compare("one task at a time", bench::microseconds, 9);
  single.add("brood", 5000, [&] { pool.submit(echo, 1).result(); })
      .add("a byte through pipes and back", 5000, [&] { ping_pong(); });
  if (has_python)
    single.add_value("CPython", [] {
      return python(
          "with ProcessPoolExecutor(2) as p:\n"
          "  p.submit(echo, 0).result(); t = time.perf_counter()\n"
          "  for i in range(2000): p.submit(echo, i).result()\n"
          "  print((time.perf_counter() - t) / 2000)");
    });
  single.at_most("brood", 1.2, "a byte through pipes and back")
      .at_most("brood", 1.0 / 15, "CPython")
      .run();

  auto limited = program.compare("one task at a time with a time limit", bench::microseconds, 9);
  limited.add("without", 5000, [&] { pool.submit(echo, 1).result(); })
      .add("with", 5000, [&] { pool.submit({.timeout = std::chrono::hours{1}}, echo, 1).result(); })
      .beside("with", "without")
      .run();

  std::vector<int> numbers(million);
  std::iota(numbers.begin(), numbers.end(), 0);
  brood::multiprocessing::Pool mapper(2);
  const auto expect_sum = [](long sum) {
    if (sum != 499'999'500'000) fail("the sum of the mapped numbers");
  };
  auto mapped = program.compare("map of 1e6 numbers, an item", bench::microseconds, 9);
  mapped
      .add_value("brood Pool, default chunks",
                 [&] {
                   return bench::seconds_of([&] {
                            const auto all = mapper.map(echo, numbers);
                            expect_sum(std::accumulate(all.begin(), all.end(), 0L));
                          }) /
                          1e6;
                 })
      .add_value("brood executor, chunks of 10000",
                 [&] {
                   return bench::seconds_of([&] {
                            long sum = 0;
                            for (const int n : pool.map({.chunksize = 10'000}, echo, numbers))
                              sum += n;
                            expect_sum(sum);
                          }) /
                          1e6;
                 })
      .add_value("the target", [] { return 0.05e-6; });
  if (has_python)
    mapped.add_value("CPython Pool, default chunks", [] {
      return python(
          "with Pool(2) as p:\n"
          "  p.map(echo, range(10)); n = list(range(10**6)); t = time.perf_counter()\n"
          "  sum(p.map(echo, n)); print((time.perf_counter() - t) / 1e6)");
    });
  mapped.at_most("brood Pool, default chunks", 1, "the target")
      .at_most("brood Pool, default chunks", 1.0 / 3, "CPython Pool, default chunks")
      .beside("brood executor, chunks of 10000", "the target")
      .run();

  program.compare("5000 tasks, one in a hundred of 10 ms", bench::milliseconds, 9)
      .add_value("brood", [&] { return mixed(pool); })
      .add_value("the work alone, in two processes", mixed_bare)
      .at_most("brood", 1.1, "the work alone, in two processes")
      .run();

  const std::vector<char> large(64 * mib, 'x');
  std::vector<char> copy(64 * mib);
  auto transfer = program.compare("a vector of 64 MiB there and back", bench::milliseconds, 9);
  transfer
      .add("brood", 1,
           [&] {
             auto back = pool.submit([](std::vector<char> v) { return v; }, large).result();
             if (back.size() != large.size()) fail("64 MiB");
           })
      .add("memcpy of 64 MiB", 3, [&] { std::memcpy(copy.data(), large.data(), large.size()); });
  if (has_python)
    transfer.add_value("CPython", [] {
      return python(
          "with ProcessPoolExecutor(2) as p:\n"
          "  p.submit(echo, 0).result(); b = b'x' * (64 << 20); t = time.perf_counter()\n"
          "  p.submit(echo, b).result(); print(time.perf_counter() - t)");
    });
  transfer.at_most("brood", 6, "memcpy of 64 MiB").at_most("brood", 1.0 / 3, "CPython").run();

  program.compare("memory of each of 100000 tasks that wait", bench::times, 3)
      .add_value("brood, bytes",
                 [] {
                   ProcessPoolExecutor busy(1);
                   const auto blocker = busy.submit([] { ::pause(); });
                   while (!blocker.running()) nap(1'000'000);
                   std::vector<Future<int>> tasks;
                   tasks.reserve(100'000);
                   ::malloc_trim(0);  // none of them in memory that others have left
                   const std::size_t before = resident_bytes();
                   for (int i = 0; i < 100'000; ++i) tasks.push_back(busy.submit(echo, i));
                   const std::size_t after = resident_bytes();
                   busy.kill_workers();
                   return static_cast<double>(after - std::min(before, after)) / 100'000;
                 })
      .add_value("the target", [] { return 400.0; })
      .at_most("brood, bytes", 1, "the target")
      .run();

  program.compare("processor time of a pool of 8 idle for 2 s", bench::milliseconds, 1)
      .add_value("brood",
                 [] {
                   ProcessPoolExecutor idle(8);
                   std::vector<Future<int>> tasks;
                   for (int i = 0; i < 100; ++i) tasks.push_back(idle.submit(echo, i));
                   futures::wait(tasks);
                   nap(50'000'000);
                   const auto used = [&] {
                     double seconds = seconds_of_own_cpu();
                     for (const pid_t pid : idle.worker_pids()) seconds += seconds_of_cpu(pid);
                     return seconds;
                   };
                   const double before = used();
                   nap(2'000'000'000);
                   return used() - before;
                 })
      .add_value("a thousandth of a core", [] { return 0.002; })
      .at_most("brood", 1, "a thousandth of a core")
      .run();

  // As large as fits into half of what is free, 4 GiB at most.
  const auto free_bytes = static_cast<std::size_t>(::sysconf(_SC_AVPHYS_PAGES)) *
                          static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t heap_size = std::min(4096 * mib, free_bytes / 2);
  const std::string beside_heap = " beside a heap of " + std::to_string(heap_size / mib) + " MiB";
  const std::string made = "making a pool of 4" + beside_heap;
  const std::string replaced = "replacing a worker" + beside_heap;
  std::unique_ptr<Heap> heap;
  const auto with_heap = [&](auto measured) {
    return [&, measured] {
      if (!heap) heap = std::make_unique<Heap>(heap_size);
      return measured();
    };
  };
  const auto without_heap = [&](auto measured) {
    return [&, measured] {
      heap.reset();
      return measured();
    };
  };
  program.compare(made, bench::milliseconds, 7)
      .add_value("in a small program", without_heap(make_pool))
      .add_value("a small pool and a fork of the large program",
                 [&] {
                   const double small = without_heap(make_pool)();
                   return small + with_heap(fork_once)();
                 })
      .add_value("in the large one", with_heap(make_pool))
      .at_most("in the large one", 1.1, "a small pool and a fork of the large program")
      .run();
  for (const auto& [name, method] :
       {std::pair{"forkserver", StartMethod::forkserver}, std::pair{"spawn", StartMethod::spawn}})
    program
        .compare(
            "making a pool of 4 by " + std::string(name) + " and its first result" + beside_heap,
            bench::milliseconds, 7)
        .add_value("in a small program",
                   without_heap([method] { return make_and_use_pool(method); }))
        .add_value("in the large one", with_heap([method] { return make_and_use_pool(method); }))
        .add_value("in the large one, by fork",
                   with_heap([] { return make_and_use_pool(StartMethod::fork); }))
        .at_most("in the large one", 1.25, "in a small program")
        .beside("in the large one", "in the large one, by fork")
        .run();
  if (program.wants(replaced)) {
    heap.reset();
    ProcessPoolExecutor first(1);
    first.submit(echo, 1).result();
    program.compare(replaced, bench::microseconds, 7)
        .add_value("in a small program", without_heap([&] { return replace_worker(first); }))
        .add_value("in the large one", with_heap([&] { return replace_worker(first); }))
        .add_value("in the large one, in a pool made then", with_heap([&] {
                     ProcessPoolExecutor own(1);
                     own.submit(echo, 1).result();
                     return replace_worker(own);
                   }))
        .add_value("in the large one, in a pool made then by forkserver", with_heap([&] {
                     const auto own = pool_by(StartMethod::forkserver, 1);
                     own->submit(echo, 1).result();
                     return replace_worker(*own);
                   }))
        .at_most("in the large one", 1.1, "in a small program")
        .beside("in the large one, in a pool made then", "in a small program")
        .at_most("in the large one, in a pool made then by forkserver", 1.1, "in a small program")
        .run();
  }
  return program.result();
}
