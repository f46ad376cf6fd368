// SPDX-License-Identifier: MIT
// Queues between the threads of one process. Python counterpart: the module queue.
//
//     queue::Queue<std::string> dishes;
//     threading::Thread dryer({.daemon = true}, [dishes] {
//       for (const std::string& dish : dishes) {
//         dry(dish);
//         dishes.task_done();
//       }
//     });
//     dryer.start();
//     dishes.put("plate");
//     dishes.join();      // until everything put has been dried
//     dishes.shutdown();  // the dryer's loop ends
//
// A queue is a handle: a copy names the same queue, which lives until its last handle is gone.
// Every call may be made from several threads at once; waiting ones are served in order of arrival.
// Items need only be movable. An exception from copying, moving or comparing an item passes out of
// the call that met it and leaves the queue as it was before that call. No lock is held where
// copying, moving or destroying an item can run code of yours; but items are compared under the
// queue's: Compare must not use the queue.
//
// A child made by fork() has its own copy of every queue, as it was at the fork, whatever other
// threads were doing then. It holds the same items and the same count of unfinished tasks; the
// threads that would have used it are the child's to make.
#pragma once

#include "requirements.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "identity.hpp"
#include "queue/state.hpp"
#include "queue_errors.hpp"
#include "timeout.hpp"

namespace brood::queue {

/// The calls that all queues of this header have. Not used by itself.
template <class T, class Store>
class QueueHandle {
  static_assert(std::is_object_v<T> && !std::is_const_v<T>, "a queue holds objects, by value");
  static_assert(std::is_move_constructible_v<T>, "the items of a queue must be movable");

 public:
  using value_type = T;

  // Copied even when moved from, so that a handle always names a queue.
  QueueHandle(const QueueHandle&) noexcept = default;
  QueueHandle& operator=(const QueueHandle&) noexcept = default;

  /// Takes the next item out, waiting for one if there is none. Throws Empty when `limit` is over
  /// first, ShutDown when there is none left to wait for. Python: get(timeout=limit).
  T get(Timeout limit = forever) const {
    Parcel<T> parcel;
    switch (state_->get(parcel, limit)) {
      case Outcome::out_of_time:
        throw Empty{};
      case Outcome::shut_down:
        throw ShutDown{};
      case Outcome::done:
        break;
    }
    return move_out(parcel);
  }

  /// get() that never waits: throws Empty if nothing is there.
  T get_nowait() const { return get(std::chrono::nanoseconds{0}); }

  /// The next item if there is one now; never waits, throws neither Empty nor ShutDown.
  std::optional<T> try_get() const {
    Parcel<T> parcel;
    if (state_->get(parcel, std::chrono::nanoseconds{0}) != Outcome::done) return std::nullopt;
    return std::optional<T>{move_out(parcel)};
  }

  /// How many items lie in the queue. As the two below it is a snapshot, out of date by the time
  /// another thread has moved, and takes no lock.
  std::size_t qsize() const noexcept { return state_->qsize(); }
  bool empty() const noexcept { return qsize() == 0; }

  /// Whether two handles name the same queue.
  friend bool operator==(const QueueHandle&, const QueueHandle&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return state_.get(); }

 protected:
  template <class... Args>
  explicit QueueHandle(std::size_t maxsize, const Args&... args)
      : state_{posix::make_ref<State<T, Store>>(maxsize, args...)} {}
  ~QueueHandle() = default;

  void put_copy(const T& item, Timeout limit) const {
    Parcel<T> parcel{std::in_place, item};
    throw_unless_done(state_->put(parcel, limit));
  }

  // An item that finds no place goes back to where it came from.
  void put_moved(T&& item, Timeout limit) const {
    Parcel<T> parcel{std::in_place, std::move(item)};
    if constexpr (std::is_nothrow_move_assignable_v<T> && !moved_as_bytes<T>) {
      struct Return {
        ~Return() {
          if (parcel.has_item()) item = std::move(parcel.item());
        }
        Parcel<T>& parcel;
        T& item;
      } const to_the_caller{parcel, item};
      throw_unless_done(state_->put(parcel, limit));
    } else {
      throw_unless_done(state_->put(parcel, limit));
    }
  }

  T move_out(Parcel<T>& parcel) const {
    if constexpr (std::is_nothrow_move_constructible_v<T>) {
      return std::move(parcel.item());
    } else {
      try {
        return std::move(parcel.item());
      } catch (...) {
        try {
          state_->put_back(parcel);
        } catch (...) {  // that failed as well: the first exception is the one to tell
        }
        throw;
      }
    }
  }

  State<T, Store>& state() const noexcept { return *state_; }

 private:
  static void throw_unless_done(Outcome outcome) {
    if (outcome == Outcome::out_of_time) throw Full{};
    if (outcome == Outcome::shut_down) throw ShutDown{};
  }

  posix::Ref<State<T, Store>> state_;
};

/// A QueueHandle with a bound, a count of unfinished tasks, and an end. Not used by itself.
template <class T, class Store>
class TaskQueue : public QueueHandle<T, Store> {
 public:
  /// Adds an item, waiting for room if the queue is bounded and full. Throws Full when `limit` is
  /// over first, and ShutDown after shutdown(); an item that was to be moved in is then still the
  /// caller's (if its type can be move-assigned without throwing). Python: put(item,
  /// timeout=limit).
  void put(const T& item, Timeout limit = forever) const requires std::is_copy_constructible_v<T> {
    this->put_copy(item, limit);
  }
  void put(T&& item, Timeout limit = forever) const { this->put_moved(std::move(item), limit); }

  /// put() that never waits: throws Full if there is no room.
  void put_nowait(const T& item) const requires std::is_copy_constructible_v<T> {
    this->put_copy(item, std::chrono::nanoseconds{0});
  }
  void put_nowait(T&& item) const { this->put_moved(std::move(item), std::chrono::nanoseconds{0}); }

  /// Whether a put() would have to wait. A snapshot, as qsize().
  bool full() const noexcept { return this->state().is_full(); }

  /// How many items the queue takes before put() waits; 0: there is no bound.
  std::size_t maxsize() const noexcept { return this->state().maxsize(); }

  /// Changes the bound; 0 or less: none. Items beyond it stay, and put() waits until they are gone.
  /// Python: assignment to maxsize.
  template <class Integer>
  requires std::is_integral_v<Integer>
  void set_maxsize(Integer maxsize) const { this->state().set_maxsize(to_bound(maxsize)); }

  /// Says that what one get() gave is dealt with. Throws std::invalid_argument when called more
  /// often than items were put.
  void task_done() const { this->state().task_done(); }

  /// Waits until every item that was put has its task_done(); false when `limit` is over first.
  bool join(Timeout limit = forever) const { return this->state().join(limit); }

  /// Ends the queue: put() throws ShutDown from now on, get() does once the queue is empty, and
  /// those who wait in either are woken. `immediate` also drops the items that are there, which
  /// count as done. May be repeated. Never waits. Python: shutdown (3.13).
  void shutdown(bool immediate = false) const { this->state().shutdown(immediate); }
  bool is_shutdown() const noexcept { return this->state().is_shutdown(); }

  /// What `for (auto item : queue)` goes through: get() again and again, moving each item out,
  /// until the queue is shut down and drained. Several threads may do so at once and share the
  /// items among them. A single-pass input iterator; its items may be moved from: take them by
  /// `auto`, `auto&&` or `const auto&`.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using reference = T&&;
    using iterator_concept = std::input_iterator_tag;

    reference operator*() const noexcept { return std::move(*item_); }
    iterator& operator++() {
      item_.reset();
      Parcel<T> parcel;
      if (queue_.state().get(parcel, forever) == Outcome::done)
        item_.emplace(queue_.move_out(parcel));
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept {
      return !it.item_.has_value();
    }

   private:
    friend TaskQueue;
    explicit iterator(const TaskQueue& queue) : queue_{queue} { ++*this; }

    TaskQueue queue_;
    mutable std::optional<T> item_;
  };

  iterator begin() const { return iterator{*this}; }
  std::default_sentinel_t end() const noexcept { return {}; }

 protected:
  using QueueHandle<T, Store>::QueueHandle;
  ~TaskQueue() = default;

  template <class Integer>
  static constexpr std::size_t to_bound(Integer maxsize) noexcept {
    return maxsize > 0 ? static_cast<std::size_t>(maxsize) : 0;
  }
};

/// First in, first out. Python: queue.Queue.
template <class T>
class Queue : public TaskQueue<T, FifoStore<T>> {
 public:
  /// A queue without a bound.
  Queue() : Queue{0} {}
  /// A queue that takes `maxsize` items before put() waits; 0 or less: no bound.
  template <class Integer>
  requires std::is_integral_v<Integer>
  explicit Queue(Integer maxsize)
      : TaskQueue<T, FifoStore<T>>{TaskQueue<T, FifoStore<T>>::to_bound(maxsize)} {}
};

/// Last in, first out. Python: queue.LifoQueue.
template <class T>
class LifoQueue : public TaskQueue<T, LifoStore<T>> {
 public:
  /// A queue without a bound.
  LifoQueue() : LifoQueue{0} {}
  /// A queue that takes `maxsize` items before put() waits; 0 or less: no bound.
  template <class Integer>
  requires std::is_integral_v<Integer>
  explicit LifoQueue(Integer maxsize)
      : TaskQueue<T, LifoStore<T>>{TaskQueue<T, LifoStore<T>>::to_bound(maxsize)} {}
};

/// Smallest first, by Compare; equal ones in order of arrival. Python: queue.PriorityQueue.
template <class T, class Compare = std::less<T>>
class PriorityQueue : public TaskQueue<T, PriorityStore<T, Compare>> {
  using Base = TaskQueue<T, PriorityStore<T, Compare>>;

 public:
  /// A queue without a bound.
  PriorityQueue() : PriorityQueue{0} {}
  /// A queue that takes `maxsize` items before put() waits; 0 or less: no bound.
  template <class Integer>
  requires std::is_integral_v<Integer>
  explicit PriorityQueue(Integer maxsize, const Compare& compare = Compare())
      : Base{Base::to_bound(maxsize), compare} {}
};

/// First in, first out, unbounded, and no more than that. put() never waits and may be called
/// anywhere, the destructor of an item included. Python: queue.SimpleQueue.
template <class T>
class SimpleQueue : public QueueHandle<T, FifoStore<T>> {
 public:
  SimpleQueue() : QueueHandle<T, FifoStore<T>>{std::size_t{0}} {}

  /// Adds an item. The limit means nothing; it is there for the likeness to Queue.
  void put(const T& item, Timeout limit = forever) const requires std::is_copy_constructible_v<T> {
    this->put_copy(item, limit);
  }
  void put(T&& item, Timeout limit = forever) const { this->put_moved(std::move(item), limit); }
  void put_nowait(const T& item) const requires std::is_copy_constructible_v<T> { put(item); }
  void put_nowait(T&& item) const { put(std::move(item)); }
};

}  // namespace brood::queue
