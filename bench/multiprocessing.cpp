// SPDX-License-Identifier: MIT
//
// What queues and processes cost: mp::Queue by pipe and by shared memory, beside the bare packet
// pipe, POSIX message queues, Boost.Interprocess and CPython (the last two where they are there);
// mp::Process beside a bare fork().
#include <fcntl.h>
#include <mqueue.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <brood/multiprocessing.hpp>
#include <brood/subprocess.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#ifdef BENCH_HAS_BOOST_INTERPROCESS
#include <boost/interprocess/ipc/message_queue.hpp>
#endif

#include "interleaved.hpp"

namespace mp = brood::multiprocessing;
using mp::Transport;

namespace {

using Number = std::uint64_t;

void require(bool works, const char* what) {
  if (works) return;
  std::perror(what);
  std::exit(1);
}

template <class F>
pid_t in_child(F body) {
  const pid_t pid = ::fork();
  require(pid >= 0, "fork");
  if (pid != 0) return pid;
  body();
  ::_exit(0);
}

void reap(int count) {
  for (; count > 0; --count) {
    int status = 1;
    require(::wait(&status) > 0 && status == 0, "a child");
  }
}

// ---- The ways to send a Number: put(), get().

template <Transport transport>
class BroodQueue {
 public:
  void put(Number number) const { queue_.put(number); }
  Number get() const { return queue_.get(); }

 private:
  mp::Queue<Number> queue_{{.transport = transport}};
};

// A pipe of packets that block, with as much room as a Queue's.
class PacketPipe {
 public:
  PacketPipe() : ends_{brood::posix::make_pipe(O_DIRECT)} {
    brood::posix::try_set_pipe_size(ends_.write.get(), 1 << 18);
  }
  void put(Number number) const {
    require(::write(ends_.write.get(), &number, sizeof number) > 0, "write");
  }
  Number get() const {
    Number number = 0;
    require(::read(ends_.read.get(), &number, sizeof number) > 0, "read");
    return number;
  }

 private:
  brood::posix::PipeEnds ends_;
};

class PosixQueue {
 public:
  PosixQueue() {
    const std::string name = "/brood-bench-" + std::to_string(::getpid());
    mq_attr attributes{};
    attributes.mq_maxmsg = 10;  // as many as anybody may have
    attributes.mq_msgsize = sizeof(Number);
    queue_ = ::mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
    require(queue_ >= 0, "mq_open");
    ::mq_unlink(name.c_str());
  }
  ~PosixQueue() { ::mq_close(queue_); }
  PosixQueue(const PosixQueue&) = delete;
  PosixQueue& operator=(const PosixQueue&) = delete;
  void put(Number number) const {
    require(::mq_send(queue_, reinterpret_cast<char*>(&number), sizeof number, 0) == 0, "mq_send");
  }
  Number get() const {
    Number number = 0;
    require(::mq_receive(queue_, reinterpret_cast<char*>(&number), sizeof number, nullptr) > 0,
            "mq_receive");
    return number;
  }

 private:
  mqd_t queue_;
};

#ifdef BENCH_HAS_BOOST_INTERPROCESS
class BoostQueue {
  using Queue = boost::interprocess::message_queue;

 public:
  BoostQueue() : name_{"brood-bench-" + std::to_string(::getpid())} {
    Queue::remove(name_.c_str());
  }
  ~BoostQueue() { Queue::remove(name_.c_str()); }
  BoostQueue(const BoostQueue&) = delete;
  BoostQueue& operator=(const BoostQueue&) = delete;
  void put(Number number) { queue_.send(&number, sizeof number, 0); }
  Number get() {
    Number number = 0;
    Queue::size_type size = 0;
    unsigned priority = 0;
    queue_.receive(&number, sizeof number, size, priority);
    return number;
  }

 private:
  std::string name_;
  Queue queue_{boost::interprocess::create_only, name_.c_str(), 1000, sizeof(Number)};
};
#endif

// Seconds a message, from so many processes to so many. `produce(channel, count)` and the other one
// move that many.
template <class Channel, class Produce, class Consume>
double move_messages(int producers, int consumers, int count, Produce produce, Consume consume) {
  Channel channel;
  auto gate = brood::posix::make_pipe();
  const auto pass_gate = [&] {
    gate.write.reset();
    char byte;
    static_cast<void>(brood::posix::read_some(gate.read.get(), &byte, 1));
  };
  for (int i = 0; i < producers; ++i)
    in_child([&] {
      pass_gate();
      produce(channel, count / producers);
    });
  for (int i = 0; i < consumers; ++i)
    in_child([&] {
      pass_gate();
      consume(channel, count / consumers);
    });
  return bench::seconds_of([&] {
           gate.write.reset();
           reap(producers + consumers);
         }) /
         count;
}

template <class Channel>
double stream(int producers, int consumers, int count) {
  return move_messages<Channel>(
      producers, consumers, count,
      [](Channel& channel, int each) {
        for (int i = 0; i < each; ++i) channel.put(static_cast<Number>(i));
      },
      [](Channel& channel, int each) {
        for (int i = 0; i < each; ++i) channel.get();
      });
}

// As many as the batches say, in both directions.
template <Transport transport>
double stream_many(int count) {
  struct Channel {
    mp::Queue<Number> queue{{.transport = transport}};
  };
  constexpr std::size_t batch = 1000;
  return move_messages<Channel>(
      1, 1, count,
      [](Channel& channel, int each) {
        const std::vector<Number> numbers(batch, 7);
        for (int i = 0; i < each; i += static_cast<int>(batch)) channel.queue.put_many(numbers);
      },
      [](Channel& channel, int each) {
        for (int i = 0; i < each;) i += static_cast<int>(channel.queue.get_many(batch).size());
      });
}

// There and back, one at a time.
template <class Channel>
double echo(int count) {
  Channel there, back;
  in_child([&] {
    for (int i = 0; i < count; ++i) back.put(there.get());
  });
  const double took = bench::seconds_of([&] {
    for (int i = 0; i < count; ++i) {
      there.put(static_cast<Number>(i));
      back.get();
    }
  });
  reap(1);
  return took / count;
}

double echo_by_connection(int count) {
  auto [here, there] = mp::Pipe();
  in_child([&, there = there] {
    for (int i = 0; i < count; ++i) there.send(there.recv<Number>());
  });
  const double took = bench::seconds_of([&, here = here] {
    for (int i = 0; i < count; ++i) {
      here.send(static_cast<Number>(i));
      here.recv<Number>();
    }
  });
  reap(1);
  return took / count;
}

// ---- Large messages: a string of 1 MiB.

constexpr std::size_t large = std::size_t{1} << 20;

struct LargeByQueue {
  mp::Queue<std::string> queue;
  std::string text = std::string(large, 'x');
  void put(Number) const { queue.put(text); }
  std::size_t get() const { return queue.get().size(); }
};

struct LargeByConnection {
  std::pair<mp::Connection, mp::Connection> ends = mp::Pipe();
  std::string text = std::string(large, 'x');
  void put(Number) const { ends.first.send(text); }
  std::size_t get() const { return ends.second.recv<std::string>().size(); }
};

// A plain pipe with as much room as anybody may have: the text, read into a string.
struct LargeByPipe {
  LargeByPipe() { brood::posix::try_set_pipe_size(ends.write.get(), 1 << 20); }
  brood::posix::PipeEnds ends = brood::posix::make_pipe();
  std::string text = std::string(large, 'x');
  void put(Number) const {
    for (std::size_t done = 0; done < large;) {
      const ssize_t length =
          brood::posix::write_some(ends.write.get(), text.data() + done, large - done);
      require(length > 0, "write");
      done += static_cast<std::size_t>(length);
    }
  }
  std::size_t get() const {
    std::string result(large, '\0');
    for (std::size_t done = 0; done < large;) {
      const ssize_t length =
          brood::posix::read_some(ends.read.get(), result.data() + done, large - done);
      require(length > 0, "read");
      done += static_cast<std::size_t>(length);
    }
    return result.size();
  }
};

// In and out of shared memory that is warm, by one process: with no hand-over at all.
double copy_twice(int count) {
  void* const memory = ::mmap(nullptr, 8 * large, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  require(memory != MAP_FAILED, "mmap");
  std::string in(large, 'x'), out(large, 'x');
  const double took = bench::seconds_of([&] {
    for (int i = 0; i < count; ++i) {
      char* const place = static_cast<char*>(memory) + static_cast<std::size_t>(i % 8) * large;
      std::memcpy(place, in.data(), large);
      std::memcpy(out.data(), place, large);
      asm volatile("" : : "r"(out.data()) : "memory");
    }
  });
  ::munmap(memory, 8 * large);
  return took / count;
}

// ---- CPython

double python(const char* what, int count) {
  static constexpr const char* script = R"(
import multiprocessing as mp, sys, time
def consume(queue, count, done):
    for _ in range(count): queue.get()
    done.put(time.monotonic())
if __name__ == '__main__':
    what, count = sys.argv[1], int(sys.argv[2])
    mp.set_start_method('fork' if what == 'queue' else what)
    if what == 'queue':
        queue, done = mp.Queue(), mp.Queue()
        process = mp.Process(target=consume, args=(queue, count, done))
        process.start()
        start = time.monotonic()
        for i in range(count): queue.put(i)
        print((done.get() - start) / count)
        process.join()
    else:
        start = time.monotonic()
        for i in range(count):
            process = mp.Process(target=time.monotonic)
            process.start()
            process.join()
        print((time.monotonic() - start) / count)
)";
  return std::stod(
      brood::subprocess::check_output({"python3", "-c", script, what, std::to_string(count)}));
}

bool has_python() {
  static const bool found =
      brood::subprocess::run({"sh", "-c", "command -v python3 >/dev/null 2>&1"}).returncode == 0;
  return found;
}

// ---- The comparisons

void small_messages(bench::Program& program) {
  for (const int each : {1, 4}) {
    constexpr int count = 200'000;
    auto comparison = program.compare("8 bytes from " + std::to_string(each) + " to " +
                                          std::to_string(each) + " processes, a message",
                                      bench::nanoseconds, 7);
    comparison
        .add_value("Queue", [=] { return stream<BroodQueue<Transport::pipe>>(each, each, count); })
        .add_value("Queue in shared memory",
                   [=] { return stream<BroodQueue<Transport::shared_memory>>(each, each, count); })
        .add_value("packet pipe", [=] { return stream<PacketPipe>(each, each, count); })
        .add_value("POSIX message queue", [=] { return stream<PosixQueue>(each, each, count); })
        .at_most("Queue in shared memory", 0.25, "packet pipe");
    if (each == 1) {
      comparison.at_most("Queue", 1.0, "packet pipe").at_most("Queue", 1.0, "POSIX message queue");
    } else {
      comparison
          .add_value("Queue from 1 to 1",
                     [=] { return stream<BroodQueue<Transport::pipe>>(1, 1, count); })
          .at_most("Queue", 1.0, "Queue from 1 to 1");
    }
#ifdef BENCH_HAS_BOOST_INTERPROCESS
    comparison
        .add_value("Boost message_queue", [=] { return stream<BoostQueue>(each, each, count); })
        .at_most("Queue", 1.0, "Boost message_queue");
#endif
    if (each == 1 && has_python())
      comparison.add_value("CPython's Queue", [] { return python("queue", 20'000); })
          .at_most("Queue", 0.1, "CPython's Queue");
    comparison.run();
  }

  program.compare("8 bytes by put_many and get_many, a message", bench::nanoseconds, 7)
      .add_value("Queue", [] { return stream_many<Transport::pipe>(4'000'000); })
      .add_value("Queue in shared memory",
                 [] { return stream_many<Transport::shared_memory>(4'000'000); })
      .add_value("60 ns", [] { return 60e-9; })
      .at_most("Queue", 1.0, "60 ns")
      .at_most("Queue in shared memory", 1.0, "60 ns")
      .run();

  program.compare("8 bytes there and back", bench::microseconds, 7)
      .add_value("Queue", [] { return echo<BroodQueue<Transport::pipe>>(5000); })
      .add_value("Queue in shared memory",
                 [] { return echo<BroodQueue<Transport::shared_memory>>(5000); })
      .add_value("Connection", [] { return echo_by_connection(5000); })
      .add_value("two packet pipes", [] { return echo<PacketPipe>(5000); })
      .at_most("Queue", 1.15, "two packet pipes")
      .beside("Queue in shared memory", "two packet pipes")
      .beside("Connection", "two packet pipes")
      .run();
}

double cpu_of_children() {
  rusage usage{};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  double sum = 0;
  for (const timeval& time : {usage.ru_utime, usage.ru_stime})
    sum += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  return sum;
}

// What put() and all consumers together spend on an item that one of those who wait gets. The
// producer goes on when it has seen that the last one was taken, and a pause later, in which all go
// back to sleep.
template <Transport transport>
double cpu_of_item(int waiting, Number count, std::chrono::microseconds pause = {}) {
  const double before = cpu_of_children();
  const BroodQueue<transport> queue;
  const mp::RawValue<Number> taken;
  for (int i = 0; i < waiting; ++i)
    in_child([&] {
      while (queue.get() != 0) ++std::atomic_ref{taken.ref()};
    });
  double putting = 0;
  for (Number i = 1; i <= count; ++i) {
    putting += bench::seconds_of([&] { queue.put(1); });
    while (std::atomic_ref{taken.ref()}.load() != i) {
    }
    const auto end = std::chrono::steady_clock::now() + pause;
    while (std::chrono::steady_clock::now() < end) {
    }
  }
  for (int i = 0; i < waiting; ++i) queue.put(0);
  reap(waiting);
  return (putting + cpu_of_children() - before) / static_cast<double>(count);
}

void waiting_consumers(bench::Program& program) {
  using namespace std::chrono_literals;
  program.compare("CPU for an item that 16 consumers wait for", bench::microseconds, 5)
      .add_value("Queue", [] { return cpu_of_item<Transport::pipe>(16, 20'000); })
      .add_value("Queue in shared memory",
                 [] { return cpu_of_item<Transport::shared_memory>(16, 20'000); })
      .add_value("10 us", [] { return 10e-6; })
      .at_most("Queue", 1.0, "10 us")
      .at_most("Queue in shared memory", 1.0, "10 us")
      .run();
  program.compare("CPU for an item for which a consumer is woken", bench::microseconds, 5)
      .add_value("Queue, 16 wait", [] { return cpu_of_item<Transport::pipe>(16, 5'000, 50us); })
      .add_value("Queue in shared memory, 16 wait",
                 [] { return cpu_of_item<Transport::shared_memory>(16, 5'000, 50us); })
      .add_value("Queue, 1 waits", [] { return cpu_of_item<Transport::pipe>(1, 5'000, 50us); })
      .beside("Queue, 16 wait", "Queue, 1 waits")
      .beside("Queue in shared memory, 16 wait", "Queue, 1 waits")
      .run();
}

void large_messages(bench::Program& program) {
  program.compare("a string of 1 MiB, a message", bench::microseconds, 7)
      .add_value("Queue", [] { return stream<LargeByQueue>(1, 1, 300); })
      .add_value("Connection", [] { return stream<LargeByConnection>(1, 1, 300); })
      .add_value("pipe", [] { return stream<LargeByPipe>(1, 1, 300); })
      .add_value("two memcpys", [] { return copy_twice(300); })
      .at_most("Queue", 1.6, "two memcpys")
      .at_most("Queue", 0.25, "pipe")
      .at_most("Connection", 1.0, "pipe")
      .run();
}

// All is put before anything is read.
double backlog(mp::QueueOptions options, std::size_t size, int count, double* memory) {
  const mp::Queue<std::string> queue(options);
  const std::string text(size, 'x');
  const double took = bench::seconds_of([&] {
    for (int i = 0; i < count; ++i) queue.put(text);
    if (memory != nullptr) {
      struct stat file {};
      ::fstat(queue.core().ring().memory().file(), &file);
      *memory = static_cast<double>(file.st_blocks) * 512 /
                (static_cast<double>(size) * static_cast<double>(count));
    }
    for (int i = 0; i < count; ++i) queue.get();
  });
  return took / count;
}

void backlogs(bench::Program& program) {
  constexpr std::size_t size = 100;
  constexpr int count = 1'000'000;
  struct Channel {
    mp::Queue<std::string> queue;
    const std::string text = std::string(size, 'x');
    void put(Number) const { queue.put(text); }
    void get() const { queue.get(); }
  };
  program.compare("a million messages of 100 bytes, a message", bench::nanoseconds, 3)
      .add_value("put before any is read", [] { return backlog({}, size, count, nullptr); })
      .add_value("read as they come", [] { return stream<Channel>(1, 1, count); })
      .at_most("put before any is read", 2.0, "read as they come")
      .run();
  program.compare("memory of a million unread messages of 100 bytes", bench::times, 1)
      .add_value("Queue",
                 [] {
                   double memory = 0;
                   backlog({}, size, count, &memory);
                   return memory;
                 })
      .add_value("payload", [] { return 1.0; })
      .at_most("Queue", 2.0, "payload")
      .run();
}

void start_and_join(mp::StartMethod method) {
  const mp::Process process({.start_method = method}, [] {});
  process.start();
  process.join();
}

// Memory that a fork has to copy the page tables of. It is only read, so it takes little itself.
class LargeHeap {
 public:
  LargeHeap()
      : data_{static_cast<char*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))} {
    require(data_ != MAP_FAILED, "mmap");
    ::madvise(data_, size, MADV_NOHUGEPAGE);
    data_[0] = 1;
    for (std::size_t at = 0; at < size; at += 4096) sum_ = sum_ + data_[at];
  }
  ~LargeHeap() { ::munmap(data_, size); }
  LargeHeap(const LargeHeap&) = delete;
  LargeHeap& operator=(const LargeHeap&) = delete;

 private:
  static constexpr std::size_t size = std::size_t{8} << 30;
  char* data_;
  volatile int sum_ = 0;
};

// With 8 GiB in the parent.
double start_and_join_beside_heap(mp::StartMethod method, int count) {
  const LargeHeap heap;
  return bench::seconds_of([&] {
           for (int i = 0; i < count; ++i) start_and_join(method);
         }) /
         count;
}

void processes(bench::Program& program) {
  using mp::StartMethod;
  auto comparison = program.compare("start and join a process", bench::microseconds, 15);
  comparison
      .add("fork, _exit, waitpid", 50,
           [] {
             in_child([] {});
             reap(1);
           })
      .add("Process", 50, [] { start_and_join(StartMethod::fork); })
      .add("Process by forkserver", 50, [] { start_and_join(StartMethod::forkserver); })
      .add("Process by spawn", 10, [] { start_and_join(StartMethod::spawn); })
      .at_most("Process", 1.3, "fork, _exit, waitpid")
      .at_most("Process by forkserver", 1.5, "fork, _exit, waitpid");
  if (has_python())
    comparison.add_value("CPython's Process", [] { return python("fork", 50); })
        .add_value("CPython's by forkserver", [] { return python("forkserver", 20); })
        .add_value("CPython's by spawn", [] { return python("spawn", 3); })
        .at_most("Process", 1 / 9.0, "CPython's Process")
        .at_most("Process by forkserver", 1 / 50.0, "CPython's by forkserver")
        .at_most("Process by spawn", 1 / 20.0, "CPython's by spawn");
  comparison.run();

  program.compare("start and join a process of a parent with 8 GiB", bench::microseconds, 3)
      .add_value("Process by forkserver",
                 [] { return start_and_join_beside_heap(StartMethod::forkserver, 50); })
      .add_value("Process by forkserver, small parent",
                 [] {
                   return bench::seconds_of([] {
                            for (int i = 0; i < 50; ++i) start_and_join(StartMethod::forkserver);
                          }) /
                          50;
                 })
      .add_value("Process by spawn",
                 [] { return start_and_join_beside_heap(StartMethod::spawn, 10); })
      .add_value("Process", [] { return start_and_join_beside_heap(StartMethod::fork, 3); })
      .at_most("Process by forkserver", 1.5, "Process by forkserver, small parent")
      .beside("Process by spawn", "Process")
      .run();
}

}  // namespace

int main(int argc, char** argv) {
  mp::freeze_support();
  bench::Program program(argc, argv);
  small_messages(program);
  waiting_consumers(program);
  large_messages(program);
  backlogs(program);
  processes(program);
  return program.result();
}
