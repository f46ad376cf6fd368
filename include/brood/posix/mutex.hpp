// SPDX-License-Identifier: MIT
// A mutex and a condition variable of this process, without the weight of <mutex> and
// <condition_variable> in every header. Same meaning as std::mutex, std::unique_lock.
#pragma once

#include <pthread.h>

#include <cerrno>

#include "clock.hpp"

namespace brood::posix {

class Mutex {
 public:
  constexpr Mutex() noexcept = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  ~Mutex() { pthread_mutex_destroy(&mutex_); }

  void lock() noexcept { pthread_mutex_lock(&mutex_); }
  bool try_lock() noexcept { return pthread_mutex_trylock(&mutex_) == 0; }
  void unlock() noexcept { pthread_mutex_unlock(&mutex_); }
  pthread_mutex_t* native_handle() noexcept { return &mutex_; }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

/// Holds a mutex for a scope; may let go and take it again in between.
template <class M>
class Locked {
 public:
  explicit Locked(M& mutex) : mutex_{mutex} { lock(); }
  ~Locked() {
    if (held_) mutex_.unlock();
  }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

  void lock() {
    mutex_.lock();
    held_ = true;
  }
  void unlock() {
    held_ = false;
    mutex_.unlock();
  }
  M& mutex() noexcept { return mutex_; }

 private:
  M& mutex_;
  bool held_ = false;
};

class ConditionVariable {
 public:
  ConditionVariable() noexcept {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&condition_, &attributes);
    pthread_condattr_destroy(&attributes);
  }
  ConditionVariable(const ConditionVariable&) = delete;
  ConditionVariable& operator=(const ConditionVariable&) = delete;
  ~ConditionVariable() { pthread_cond_destroy(&condition_); }

  void notify_one() noexcept { pthread_cond_signal(&condition_); }
  void notify_all() noexcept { pthread_cond_broadcast(&condition_); }

  /// Waits until `ready()` holds, which is asked with the mutex held; false when time is up and it
  /// still does not.
  template <class Predicate>
  bool wait(Locked<Mutex>& lock, const Deadline& deadline, Predicate ready) {
    pthread_mutex_t* const mutex = lock.mutex().native_handle();
    while (!ready()) {
      if (deadline.is_forever()) {
        pthread_cond_wait(&condition_, mutex);
      } else {
        const timespec until = deadline.absolute();
        if (pthread_cond_timedwait(&condition_, mutex, &until) == ETIMEDOUT) return ready();
      }
    }
    return true;
  }

 private:
  pthread_cond_t condition_;
};

}  // namespace brood::posix
