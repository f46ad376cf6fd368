// SPDX-License-Identifier: MIT
// Queues between processes. Python counterparts: multiprocessing.Queue, JoinableQueue.
//
//     mp::JoinableQueue<std::string> dishes;
//     mp::Process dryer({.daemon = true}, [](mp::JoinableQueue<std::string> input) {
//       for (;;) {
//         fmt::print("drying {}\n", input.get());
//         input.task_done();
//       }
//     }, dishes);
//     dryer.start();
//     dishes.put("plate");
//     dishes.join();
//
// A queue is a handle: a copy names the same queue, in this process and in those it was passed to
// or that were forked from here. All calls may be made from many threads and processes at once.
//
// Empty, Full and ShutDown are brood::queue's, as in Python.
//
// What differs from Python's: put() hands the item over before it returns. There is no feeder
// thread, so a process may end, or be joined, with its items still unread; an item that can't be
// serialized fails in put(); empty() and qsize() are exact; and a process killed inside any call
// leaves the queue usable by the others. A consumer killed inside get() loses at most the one item
// it had taken. Items of one producer arrive in the order in which it put them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "../identity.hpp"
#include "../serialization.hpp"
#include "queue_core.hpp"

namespace brood::multiprocessing {

struct QueueOptions {
  /// How many items it holds at most before put() waits; 0 or less: any number.
  std::int64_t maxsize = 0;
  /// Transport::pipe or Transport::shared_memory. A queue with a maxsize is in shared memory.
  Transport transport = Transport::pipe;
};

/// Whether large values are written to, and read from, the very memory that processes share: blocks
/// of plain data, as that happens under a lock and may not run code of the user's.
template <class T>
inline constexpr bool crosses_in_place = false;
template <class Char>
inline constexpr bool crosses_in_place<std::basic_string<Char>> = serialization::is_bulk<Char>;
template <class E>
inline constexpr bool crosses_in_place<std::vector<E>> =
    serialization::is_bulk<E>&& std::is_trivially_default_constructible_v<E>;

/// A FIFO queue of values that are copied from process to process as bytes.
template <Sendable T>
class Queue {
 public:
  using value_type = T;

  /// Holds any number of items. Throws os::OSError.
  Queue() : Queue{QueueOptions{}} {}
  /// Holds at most `maxsize` items, any number if that is 0 or less. Throws os::OSError.
  explicit Queue(std::int64_t maxsize) : Queue{QueueOptions{.maxsize = maxsize}} {}
  explicit Queue(QueueOptions options) : Queue{options, false} {}
  /// For the Serializer: see Reduction.
  Queue(serialization::Reader& in, Reduction& reduction) {
    const auto numbers = multiprocessing::read_plain<ReducedQueue>(in);
    state_ = reduction.once<State>(numbers.ring, 0,
                                   [&] { return posix::make_ref<State>(numbers, reduction); });
  }
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    const ReducedQueue numbers = core().reduce(reduction);
    out.write_bytes(&numbers, sizeof numbers);
  }

  // Copied even when moved from, so that a handle always names a queue.
  Queue(const Queue&) noexcept = default;
  Queue& operator=(const Queue&) noexcept = default;

  /// Appends an item; waits for room in a queue with a maxsize, and never for a reader otherwise.
  /// Throws Full when `limit` is over first, ShutDown, SerializationError (nested too deep),
  /// os::OSError (ENOSPC: memory is full), std::invalid_argument after close().
  void put(const T& item, Timeout limit = forever) const {
    const posix::Deadline deadline{limit};
    QueueCore& core = open_core("put into");
    const std::size_t size = serialization::serialized_size(item);
    if (size <= PIPE_BUF) {
      char buffer[PIPE_BUF];
      put_bytes(core, item, buffer, size, deadline);
    } else if constexpr (crosses_in_place<T>) {
      core.put_in_place(
          size,
          [&](std::byte* place) {
            serialization::Writer{reinterpret_cast<char*>(place), size}.write(item);
          },
          deadline);
    } else {
      std::string buffer(size, '\0');
      put_bytes(core, item, buffer.data(), size, deadline);
    }
  }

  /// put() that never waits: throws Full if there is no room now.
  void put_nowait(const T& item) const { put(item, std::chrono::seconds{0}); }

  /// Takes the oldest item, waiting for one if there is none. Throws Empty when `limit` is over
  /// first, ShutDown when the queue is shut down and empty, SerializationError if what arrived is
  /// not a T (it is gone then), std::invalid_argument after close().
  T get(Timeout limit = forever) const {
    const posix::Deadline deadline{limit};
    Incoming message;
    open_core("get from").get(message, deadline);
    return message.item();
  }

  /// get() that never waits: throws Empty if nothing is there.
  T get_nowait() const { return get(std::chrono::seconds{0}); }

  /// The oldest item if there is one now. Never waits, throws neither Empty nor ShutDown.
  std::optional<T> try_get() const {
    Incoming message;
    if (!open_core("get from").try_get(message, true)) return std::nullopt;
    return message.item();
  }

  /// Appends the items of a range, in order, some thousand small ones at a time: much cheaper than
  /// a put() for each. In a queue with a maxsize waits for room as it goes. Returns how many it has
  /// put: all, unless `limit` was over or the queue was shut down first. If that is none of some,
  /// it throws Full or ShutDown. What else put() may throw, for one of the items or from the
  /// range, it throws when all items before that one have been put.
  template <class Range>
  requires std::is_convertible_v<decltype(*std::begin(std::declval<Range&>())), const T&>
      std::size_t put_many(Range&& items, Timeout limit = forever)
  const {
    Outgoing outgoing{open_core("put into"), posix::Deadline{limit}};
    try {
      for (auto&& item : items)
        if (!outgoing.add(item)) return outgoing.done();
    } catch (...) {
      outgoing.flush();
      throw;
    }
    outgoing.flush();
    return outgoing.done();
  }
  std::size_t put_many(std::initializer_list<T> items, Timeout limit = forever) const {
    return put_many<const std::initializer_list<T>&>(items, limit);
  }

  /// Waits for an item and takes those that are there, in order, up to `max`. Throws as get() does;
  /// what was taken is gone then, as it is when this process is killed meanwhile. 0: takes none.
  std::vector<T> get_many(std::size_t max, Timeout limit = forever) const {
    const posix::Deadline deadline{limit};
    QueueCore& core = open_core("get from");
    std::vector<T> items;
    if (max == 0) return items;
    MessageBatch batch;
    core.get_many(batch, max, deadline);
    do {
      for (; !batch.empty(); batch.pop_front()) items.push_back(decode(batch.front()));
    } while (items.size() < max && core.try_get_many(batch, max - items.size(), false));
    return items;
  }

  /// How many items lie in the queue: exact at the moment it looks. Throws os::OSError (it may need
  /// two descriptors for a moment).
  std::size_t qsize() const { return static_cast<std::size_t>(open_core("look into").size()); }
  /// Exact too, and cheap: everything put before it, by anybody, counts.
  bool empty() const { return open_core("look into").empty(); }
  /// Whether put() would have to wait; never for a queue without a maxsize.
  bool full() const { return open_core("look into").full(); }
  /// 0: any number.
  std::size_t maxsize() const noexcept { return static_cast<std::size_t>(state_->core.maxsize()); }

  /// Lets nobody put any more: put() throws ShutDown, and so does get() once the queue is empty;
  /// those that wait wake up. The item of a put() that runs at this moment may come after that.
  /// `immediate` also drops the items that lie here (a JoinableQueue counts them as done). Python
  /// has this for threads only (queue.Queue.shutdown, 3.13).
  void shutdown(bool immediate = false) const { open_core("shut down").shutdown(immediate); }
  bool is_shutdown() const noexcept { return state_->core.is_shut_down(); }

  /// A descriptor that polls readable while an item lies here, to wait for several things at once;
  /// after the death of a process it may once be readable with nothing there. Don't read from it.
  int fileno() const { return open_core("poll").fileno(); }

  /// This process will not use the queue any more: most calls throw std::invalid_argument from now
  /// on. Others are not concerned.
  void close() const noexcept { state_->closed_in.store(posix::this_process()); }
  bool is_closed() const noexcept {
    return state_->closed_in.load(std::memory_order_relaxed) == posix::this_process();
  }
  /// Python waits here for its feeder thread. There is none, so this only checks that close() was
  /// called: std::logic_error if not.
  void join_thread() const {
    if (!is_closed()) throw std::logic_error{"join_thread of a queue: close() comes first"};
  }
  /// Nothing to cancel: an item is handed over when put() returns.
  void cancel_join_thread() const noexcept {}

  /// `for (auto item : queue)`: get() until the queue is shut down and empty.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;

    T&& operator*() const noexcept { return std::move(*item_); }
    iterator& operator++() {
      try {
        item_.emplace(queue_->get());
      } catch (const queue::ShutDown&) {
        item_.reset();
      }
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept {
      return !it.item_;
    }

   private:
    friend class Queue;
    explicit iterator(const Queue& queue) : queue_{queue} { ++*this; }

    std::optional<Queue> queue_;
    mutable std::optional<T> item_;
  };
  iterator begin() const { return iterator{*this}; }
  std::default_sentinel_t end() const noexcept { return {}; }

  /// Whether two handles name the same queue.
  friend bool operator==(const Queue&, const Queue&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return state_.get(); }

  /// The queue of bytes below, for those who build on it.
  QueueCore& core() const noexcept { return state_->core; }

 protected:
  Queue(QueueOptions options, bool joinable) : state_{posix::make_ref<State>(options, joinable)} {}

  QueueCore& open_core(const char* attempt) const {
    if (is_closed()) throw std::invalid_argument{std::string{attempt} + " a queue: it was closed"};
    return state_->core;
  }

 private:
  struct State final : posix::RefCounted {
    State(QueueOptions options, bool joinable)
        : core{options.maxsize, options.transport, joinable} {}
    State(const ReducedQueue& numbers, Reduction& reduction) : core{numbers, reduction} {}
    QueueCore core;
    std::atomic<std::uint64_t> closed_in{0};  // a fork starts with it open
  };

  struct InBytes : Message {
    T item() const { return decode(bytes()); }
  };
  // A large one is made straight from what lies in the queue.
  class InPlace : public Message {
   public:
    void assign(const std::byte* data, std::size_t size) {
      try {
        if (size > PIPE_BUF) item_.emplace(decode({reinterpret_cast<const char*>(data), size}));
      } catch (const serialization::SerializationError&) {  // thrown again by item()
      }
      if (!item_) Message::assign(data, size);
    }
    T item() { return item_ ? std::move(*item_) : decode(bytes()); }

   private:
    std::optional<T> item_;
  };
  using Incoming = std::conditional_t<crosses_in_place<T>, InPlace, InBytes>;

  // The items of a put_many() on their way.
  class Outgoing {
   public:
    Outgoing(QueueCore& core, const posix::Deadline& deadline) : core_{core}, deadline_{deadline} {}

    std::size_t done() const noexcept { return done_; }
    /// Both: false when time is up, or the queue shut down, after some were put.
    bool add(const T& item) {
      const std::size_t size = serialization::serialized_size(item);
      char* place = batch_.place(size);
      if (place == nullptr) {
        if (!flush()) return false;
        place = batch_.place(size);
      }
      serialization::Writer writer{place, size};
      writer.write(item);
      batch_.push_back(place, size);
      return true;
    }
    bool flush() {
      const std::size_t count = batch_.size();
      if (count == 0) return true;
      try {
        core_.put_many(batch_, deadline_);
        done_ += count;
        return true;
      } catch (const queue::Full&) {
        give_up(count);
      } catch (const queue::ShutDown&) {
        give_up(count);
      } catch (...) {
        batch_.clear();
        throw;
      }
      return false;
    }

   private:
    // In a handler: what is being handled passes on if nothing was put.
    void give_up(std::size_t count) {
      done_ += count - batch_.size();
      batch_.clear();
      if (done_ == 0) throw;
    }

    QueueCore& core_;
    const posix::Deadline deadline_;
    std::size_t done_ = 0;
    MessageBatch batch_;
  };

  static void put_bytes(QueueCore& core, const T& item, char* buffer, std::size_t size,
                        const posix::Deadline& deadline) {
    serialization::Writer writer{buffer, size};
    writer.write(item);
    core.put({buffer, size}, deadline);
  }
  static T decode(std::string_view message) {
    serialization::Reader reader{message};
    T item = reader.template read<T>();
    reader.expect_end();
    return item;
  }

  posix::Ref<State> state_;
};

/// What a process has taken from a JoinableQueue and not settled.
struct Unfinished {
  pid_t pid;
  std::size_t count;
  bool alive;
};

/// A Queue that knows when all that was put into it has been worked on.
template <Sendable T>
class JoinableQueue : public Queue<T> {
 public:
  JoinableQueue() : JoinableQueue{QueueOptions{}} {}
  explicit JoinableQueue(std::int64_t maxsize) : JoinableQueue{QueueOptions{.maxsize = maxsize}} {}
  explicit JoinableQueue(QueueOptions options) : Queue<T>{options, true} {}
  /// For the Serializer: see Reduction.
  JoinableQueue(serialization::Reader& in, Reduction& reduction) : Queue<T>{in, reduction} {
    if (!this->core().is_joinable()) serialization::throw_error("a queue that can't be joined");
  }

  /// Says that an item which was got is done: one of this process's own, else one that a dead
  /// process owes, else anybody's. Throws std::invalid_argument when called more often than items
  /// were put.
  void task_done() const { this->open_core("settle an item of").task_done(); }

  /// Waits until every item put has been settled by task_done(); false when `limit` is over first.
  /// Throws ProcessError when all that is left is owed by processes that died: a survivor may
  /// settle it by task_done().
  bool join(Timeout limit = forever) const {
    return this->open_core("join").join(posix::Deadline{limit});
  }

  /// Who owes how many items.
  template <class Result = std::vector<Unfinished>>
  Result unfinished() const {
    Result result;
    for (const sync::Debt& debt : this->open_core("look into").debts())
      result.push_back({debt.owner.pid(), static_cast<std::size_t>(debt.count), debt.alive});
    return result;
  }
};

}  // namespace brood::multiprocessing

template <brood::Sendable T>
struct brood::serialization::Serializer<brood::multiprocessing::Queue<T>>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Queue<T>> {};

template <brood::Sendable T>
struct brood::serialization::Serializer<brood::multiprocessing::JoinableQueue<T>>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::JoinableQueue<T>> {};
