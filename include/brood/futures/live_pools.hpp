// SPDX-License-Identifier: MIT
// What becomes of thread pools at the normal end of the program: what was submitted is still done.
#pragma once

#include "../posix/exchange.hpp"
#include "../posix/immortal.hpp"
#include "../posix/this_process.hpp"
#include "../sync/fork_hook.hpp"
#include "../sync/word_lock.hpp"
#include "worker_threads.hpp"

namespace brood::futures {

/// The pools that have threads to wait for when the program ends. Python counterpart: the exit
/// handler of concurrent.futures.thread.
class LivePools {
 public:
  static void add(posix::Ref<WorkerThreads> pool);
  static void remove(const WorkerThreads& pool) noexcept;

 private:
  struct Entry {
    posix::Ref<WorkerThreads> pool;
    Entry* next;
  };
  template <class T>
  friend T& posix::immortal();
  LivePools() = default;
  static LivePools& instance();
  static void finish() noexcept;

  friend sync::ForkHook;
  void before_fork() noexcept { lock_.lock(); }
  void after_fork(bool in_child) noexcept {
    if (in_child) first_ = nullptr;  // those threads exist in the parent only
    lock_.unlock();
  }

  sync::WordLock lock_;  // guards the list
  Entry* first_ = nullptr;
  sync::ForkHook fork_hook_{*this};
};

// Bodies.

inline LivePools& LivePools::instance() { return posix::immortal<LivePools>(); }

inline void LivePools::add(posix::Ref<WorkerThreads> pool) {
  LivePools& pools = instance();
  posix::on_end(posix::EndStage::executors, &finish);
  auto* const entry = new Entry{std::move(pool), nullptr};
  const posix::Locked lock{pools.lock_};
  entry->next = posix::exchange(pools.first_, entry);
}

inline void LivePools::remove(const WorkerThreads& pool) noexcept {
  LivePools& pools = instance();
  Entry* entry = nullptr;
  {
    const posix::Locked lock{pools.lock_};
    Entry** link = &pools.first_;
    while (*link != nullptr && (*link)->pool.get() != &pool) link = &(*link)->next;
    entry = *link;
    if (entry != nullptr) *link = entry->next;
  }
  delete entry;
}

// The normal end of the program: what was submitted is still done, as in Python.
inline void LivePools::finish() noexcept {
  LivePools& pools = instance();
  for (;;) {
    posix::Ref<WorkerThreads> pool;
    {
      const posix::Locked lock{pools.lock_};
      Entry* entry = pools.first_;
      if (entry == nullptr) return;
      pools.first_ = entry->next;
      pool = std::move(entry->pool);
      delete entry;
    }
    pool->stop();
    if (!pool->is_own_thread()) pool->join();
  }
}

}  // namespace brood::futures
