// SPDX-License-Identifier: MIT
//
// What the locks of processes cost beside what the C library has in shared memory: its robust
// mutex, and its semaphore, which a killed process leaves as it is.
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <brood/multiprocessing/event.hpp>
#include <brood/multiprocessing/lock.hpp>
#include <brood/multiprocessing/semaphore.hpp>
#include <brood/multiprocessing/value.hpp>
#include <cstddef>
#include <functional>
#include <new>

#include "interleaved.hpp"

namespace mp = brood::multiprocessing;

namespace {

constexpr std::size_t many = 100'000;
constexpr std::size_t trips = 2'000;

struct Native {
  Native() {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    sem_init(&ping, 1, 0);
    sem_init(&pong, 1, 0);
  }
  pthread_mutex_t mutex;
  sem_t ping, pong;
  std::atomic<bool> flag{false};
};

Native& native() {
  static Native& words = *new (::mmap(nullptr, sizeof(Native), PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Native;
  return words;
}

// Seconds that `work` takes, which is so short that a call of a std::function would show.
template <class F>
std::function<double()> time_of(F work) {
  return [work] {
    return bench::seconds_of([&] {
             for (std::size_t i = 0; i < many; ++i) work();
           }) /
           static_cast<double>(many);
  };
}

// Seconds for each of many round trips: `there` and `back` in turns with a forked process that does
// the opposite.
template <class There, class Back, class OtherThere, class OtherBack>
std::function<double()> round_trip(There there, Back back, OtherThere other_there,
                                   OtherBack other_back) {
  return [=] {
    const pid_t pid = ::fork();
    if (pid == 0) {
      for (std::size_t i = 0; i < trips; ++i) {
        other_there();
        other_back();
      }
      ::_exit(0);
    }
    const double all = bench::seconds_of([&] {
      for (std::size_t i = 0; i < trips; ++i) {
        there();
        back();
      }
    });
    ::waitpid(pid, nullptr, 0);
    return all / static_cast<double>(trips);
  };
}

}  // namespace

int main(int argc, char** argv) {
  bench::Program program(argc, argv);
  Native& words = native();

  const mp::Lock lock;
  const mp::RLock rlock;
  program.compare("a free lock is taken and released", bench::nanoseconds, 21)
      .add_value("robust pthread mutex", time_of([&] {
                   pthread_mutex_lock(&words.mutex);
                   pthread_mutex_unlock(&words.mutex);
                 }))
      .add_value("Lock", time_of([&] {
                   lock.acquire();
                   lock.release();
                 }))
      .add_value("RLock", time_of([&] {
                   rlock.acquire();
                   rlock.release();
                 }))
      .at_most("Lock", 1.1, "robust pthread mutex")
      .at_most("RLock", 1.1, "robust pthread mutex")
      .run();

  const mp::Event event;
  std::atomic<int> seen{0};
  program.compare("an event is looked at", bench::nanoseconds, 21)
      .add_value("load", time_of([&] {
                   if (words.flag.load(std::memory_order_acquire)) ++seen;
                 }))
      .add_value("Event::is_set", time_of([&] {
                   if (event.is_set()) ++seen;
                 }))
      .beside("Event::is_set", "load")
      .run();

  const mp::Value<long> value(0);
  const mp::Semaphore semaphore(1);
  program.compare("a free semaphore or value is used", bench::nanoseconds, 21)
      .add_value("sem_t", time_of([&] {
                   sem_post(&words.ping);
                   sem_wait(&words.ping);
                 }))
      .add_value("Semaphore", time_of([&] {
                   semaphore.release();
                   semaphore.acquire();
                 }))
      .add_value("Value::update", time_of([&] { value.update([](long& number) { ++number; }); }))
      .beside("Semaphore", "sem_t")
      .beside("Value::update", "sem_t")
      .run();

  const mp::Semaphore ping(0), pong(0);
  program.compare("two processes wake each other in turns", bench::microseconds, 11)
      .add_value("sem_t",
                 round_trip([&] { sem_post(&words.ping); }, [&] { sem_wait(&words.pong); },
                            [&] { sem_wait(&words.ping); }, [&] { sem_post(&words.pong); }))
      .add_value("Semaphore", round_trip([&] { ping.release(); }, [&] { pong.acquire(); },
                                         [&] { ping.acquire(); }, [&] { pong.release(); }))
      .beside("Semaphore", "sem_t")
      .run();
  return program.result();
}
