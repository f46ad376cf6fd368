// SPDX-License-Identifier: MIT
// A queue between processes with few calls. Python counterpart: multiprocessing.SimpleQueue.
//
//     mp::SimpleQueue<int> numbers;
//     numbers.put(1);
//     int one = numbers.get();
//
// It is a Queue without a bound, and gives the same guarantees.
#pragma once

#include "queues.hpp"

namespace brood::multiprocessing {

/// A FIFO queue. A handle: copies name the same queue. All calls may be made from many threads and
/// processes at once, and throw os::OSError (EBADF) after close().
template <Sendable T>
class SimpleQueue {
 public:
  using value_type = T;

  /// Throws os::OSError.
  SimpleQueue() = default;
  /// For the Serializer: see Reduction.
  SimpleQueue(serialization::Reader& in, Reduction& reduction) : queue_{in, reduction} {}
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    queue_.reduce(out, reduction);
  }

  /// Appends an item; never waits for a reader, so that `limit`, which Python's does not take, is
  /// of no account. Throws SerializationError, os::OSError (ENOSPC: memory is full).
  void put(const T& item, Timeout limit = forever) const { open("put into").put(item, limit); }
  void put_nowait(const T& item) const { put(item); }
  /// Takes the oldest item; waits for one if there is none. Throws Empty when `limit` is over
  /// first, which Python's does not take.
  T get(Timeout limit = forever) const { return open("get from").get(limit); }
  /// Throws Empty if nothing is there.
  T get_nowait() const { return get(std::chrono::seconds{0}); }
  /// The oldest item if there is one now. Never waits.
  std::optional<T> try_get() const { return open("get from").try_get(); }

  /// Whether nothing lies in it, exactly.
  bool empty() const { return open("look into").empty(); }
  std::size_t qsize() const { return open("look into").qsize(); }

  /// As Queue's: a descriptor that polls readable while an item lies here.
  int fileno() const { return open("poll").fileno(); }

  /// This process will not use the queue any more. Others are not concerned. Nothing happens the
  /// second time.
  void close() const noexcept { queue_.close(); }

  /// Whether two handles name the same queue.
  friend bool operator==(const SimpleQueue&, const SimpleQueue&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return queue_.identity(); }

 private:
  const Queue<T>& open(const char* attempt) const {
    if (queue_.is_closed())
      posix::throw_os_error(EBADF, std::string{attempt} + " a queue: it was closed");
    return queue_;
  }

  Queue<T> queue_;
};

}  // namespace brood::multiprocessing

template <brood::Sendable T>
struct brood::serialization::Serializer<brood::multiprocessing::SimpleQueue<T>>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::SimpleQueue<T>> {};
