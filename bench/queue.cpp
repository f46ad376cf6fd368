// SPDX-License-Identifier: MIT
//
// What a message costs between threads: queue.hpp beside a std::deque with a mutex and a condition
// variable, the queue that everybody writes.
#include <brood/queue.hpp>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "interleaved.hpp"

namespace {

template <class T>
class MutexQueue {
 public:
  void put(T item) {
    {
      const std::lock_guard lock(mutex_);
      items_.push_back(std::move(item));
    }
    not_empty_.notify_one();
  }
  T get() {
    std::unique_lock lock(mutex_);
    not_empty_.wait(lock, [&] { return !items_.empty(); });
    T item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

 private:
  std::mutex mutex_;
  std::condition_variable not_empty_;
  std::deque<T> items_;
};

int message(const int*, std::size_t number) { return static_cast<int>(number); }
std::string message(const std::string*, std::size_t number) {
  return "a message that needs memory of its own: " + std::to_string(number);
}

// Seconds a message, from so many threads to so many.
template <class T, class Queue>
double stream(std::size_t producers, std::size_t consumers, std::size_t count) {
  Queue queue;
  return bench::seconds_of([&] {
           std::vector<std::thread> threads;
           for (std::size_t i = 0; i < producers; ++i)
             threads.emplace_back([&] {
               for (std::size_t n = 0; n < count / producers; ++n)
                 queue.put(message(static_cast<const T*>(nullptr), n));
             });
           for (std::size_t i = 0; i < consumers; ++i)
             threads.emplace_back([&] {
               for (std::size_t n = 0; n < count / consumers; ++n) queue.get();
             });
           for (auto& thread : threads) thread.join();
         }) /
         static_cast<double>(count);
}

// There and back, one at a time.
template <class Queue>
double echo(std::size_t count) {
  Queue there, back;
  std::thread other([&] {
    for (std::size_t i = 0; i < count; ++i) back.put(there.get());
  });
  const double took = bench::seconds_of([&] {
    for (std::size_t i = 0; i < count; ++i) {
      there.put(static_cast<int>(i));
      back.get();
    }
  });
  other.join();
  return took / static_cast<double>(count);
}

template <class T>
void compare_streams(bench::Program& program, const std::string& what, std::size_t count) {
  const std::pair<std::size_t, std::size_t> ways[] = {{1, 1}, {4, 1}, {1, 4}, {4, 4}};
  for (const auto& [producers, consumers] : ways) {
    program
        .compare(what + " from " + std::to_string(producers) + " to " + std::to_string(consumers) +
                     " threads, a message",
                 bench::nanoseconds, 11)
        .add_value("brood queue::Queue",
                   [&] { return stream<T, brood::queue::Queue<T>>(producers, consumers, count); })
        .add_value("mutex, condition_variable, deque",
                   [&] { return stream<T, MutexQueue<T>>(producers, consumers, count); })
        .at_most("brood queue::Queue", 0.5, "mutex, condition_variable, deque")
        .run();
  }
}

}  // namespace

int main(int argc, char** argv) {
  bench::Program program(argc, argv);
  compare_streams<int>(program, "int", 1'000'000);
  compare_streams<std::string>(program, "string", 200'000);
  program.compare("there and back", bench::microseconds, 11)
      .add_value("brood queue::Queue", [] { return echo<brood::queue::Queue<int>>(5000); })
      .add_value("mutex, condition_variable, deque", [] { return echo<MutexQueue<int>>(5000); })
      .beside("brood queue::Queue", "mutex, condition_variable, deque")
      .run();
  return program.result();
}
