// SPDX-License-Identifier: MIT
// The queue below Queue<T> and JoinableQueue<T>: messages of bytes between processes.
//
// Two places hold messages, in this order:
//   the pipe    small ones, one packet each: atomic in the kernel, no lock in user space, so that a
//               stopped process stalls nobody
//   the ring    large ones, those that found the pipe full, those of a stream, and all others while
//               it holds anything
//
// A consumer reads the pipe first. Before it takes from the ring it holds the consumers' lock, has
// seen a record there, and reads the pipe once more: what a producer sent before that record must
// not come after it. A bounded queue is the ring alone, which counts its records exactly.
//
// It need not read a pipe that is known to be empty. Packets are counted:
//
//   sent      a producer adds one AFTER it has written a packet, and so before its next record
//   drained   a consumer, with that lock held, stores what `sent` was when it began a read that
//             found the pipe empty
//
// While both are the same, no packet lies in the pipe that was sent before a record in the ring.
// (Of a producer that died, or was stopped, between the packet and the count, a packet may lie
// there: its put() has not returned, and it is found when the ring is empty.) Whoever dies here
// leaves `drained` behind at worst, which costs a read.
//
// A stream is: 16 puts of a process while nobody went to sleep for an item, which consumers count.
// System calls would then cost more than all else. Once somebody has slept, packets do the waking.
//
// Who must wait takes a seat, a robust mutex: one waiter polls, the others queue up behind it in
// the kernel. If it is killed, the next one gets the seat and looks for itself, so no wake-up is
// lost. (Those behind it look every now and then, as it may have been stopped, and a get() that
// finds an item needs no seat.) Who has the seat of a queue with a pipe looks out for a moment
// before it sleeps, see sync/patience.hpp.
#pragma once

#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <optional>
#include <string>

#include "../os.hpp"
#include "../posix/pipe.hpp"
#include "../posix/ref.hpp"
#include "../sync/ledger.hpp"
#include "../sync/patience.hpp"
#include "../sync/ring.hpp"
#include "errors.hpp"
#include "reduction.hpp"

namespace brood::multiprocessing {

/// What carries the messages of a queue: a packet pipe with the ring behind it, or the ring alone
/// (faster; a process that is stopped while it holds the ring's lock then stalls the others).
enum class Transport { pipe, shared_memory };

/// A message as it was taken.
class Message {
 public:
  std::string_view bytes() const noexcept {
    return size_ <= sizeof small_ ? std::string_view{small_, size_} : std::string_view{large_};
  }
  void assign(const std::byte* data, std::size_t size) {
    if (size <= sizeof small_)
      std::memcpy(small_, data, size);
    else
      large_.assign(reinterpret_cast<const char*>(data), size);
    size_ = size;
  }
  /// Reads one packet from a non-blocking packet pipe; false if there is none.
  bool read_packet(int fd) {
    const ssize_t length = posix::read_some(fd, small_, sizeof small_);
    if (length > 0) {
      size_ = static_cast<std::size_t>(length);
      return true;
    }
    if (length < 0 && errno != EAGAIN) posix::throw_errno("read from a queue");
    return false;
  }

 private:
  char small_[PIPE_BUF];  // a packet is never larger
  std::size_t size_ = 0;
  std::string large_;
};

/// Messages on their way into a queue or out of it, in order.
class MessageBatch {
 public:
  MessageBatch() noexcept {}  // NOLINT: not the default, which would fill the room with zeros
  MessageBatch(const MessageBatch&) = delete;
  MessageBatch& operator=(const MessageBatch&) = delete;

  std::size_t size() const noexcept { return count_; }
  bool empty() const noexcept { return count_ == 0; }

  /// The place for one more message of `size` bytes; null if there is no room for it beside those
  /// that are here. (One that is alone always fits.) It becomes one by push_back().
  char* place(std::size_t size) {
    if (end_ + header_size + size <= sizeof room_) return room_ + end_ + header_size;
    if (count_ != 0) return nullptr;
    large_.resize(size);
    return large_.data();
  }
  /// Of at most as many bytes as its place was asked for.
  void push_back(const char* place, std::size_t size) noexcept {
    ++count_;
    is_large_ = place == large_.data();
    if (is_large_) {
      end_ = sizeof room_;
    } else {
      std::memcpy(room_ + end_, &size, header_size);
      end_ += header_size + size;
    }
  }

  /// Stays until pop_front().
  std::string_view front() const noexcept {
    if (is_large_) return large_;
    return {room_ + begin_ + header_size, front_size()};
  }
  void pop_front() noexcept {
    if (!is_large_) begin_ += header_size + front_size();
    if (--count_ == 0) clear();
  }
  void clear() noexcept {
    begin_ = end_ = count_ = 0;
    is_large_ = false;
  }

 private:
  static constexpr std::size_t header_size = sizeof(std::size_t);

  std::size_t front_size() const noexcept {
    std::size_t size;
    std::memcpy(&size, room_ + begin_, header_size);
    return size;
  }

  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t count_ = 0;
  bool is_large_ = false;
  std::string large_;
  char room_[std::size_t{1} << 15];  // each message behind its size
};

/// The numbers of a queue's descriptors, told to another process.
struct ReducedQueue {
  std::uint32_t ring, items, room;
  std::uint32_t settled;
  std::uint32_t pipe_read, pipe_write;  // Reduction::no_descriptor: it has no pipe
  std::uint32_t closed;
};

class QueueCore final : public posix::RefCounted {
 public:
  QueueCore(std::int64_t maxsize, Transport transport, bool joinable)
      : ring_{maxsize > 0 ? static_cast<std::uint64_t>(maxsize) : 0, sizeof(Shared)},
        shared_{*new (ring_.memory().extra()) Shared{}},
        ledger_{shared_.ledger},
        joinable_{(shared_.joinable = joinable) != 0},
        readiness_{posix::own_new(::epoll_create1(EPOLL_CLOEXEC), "make an epoll descriptor")} {
    if (maxsize <= 0 && transport == Transport::pipe) {
      pipe_ = posix::make_pipe(O_NONBLOCK | O_DIRECT);
      posix::try_set_pipe_size(pipe_.write.get(), pipe_bytes);
      watch(pipe_.read.get());
    }
    watch(ring_.items_fd());
  }

  /// That of another process. Throws SerializationError, os::OSError.
  QueueCore(const ReducedQueue& numbers, Reduction& reduction)
      : ring_{reduction.take(numbers.ring, S_IFREG), take_event(numbers.items, reduction),
              take_event(numbers.room, reduction), sizeof(Shared)},
        shared_{*std::launder(reinterpret_cast<Shared*>(ring_.memory().extra()))},
        ledger_{shared_.ledger, take_event(numbers.settled, reduction)},
        joinable_{shared_.joinable != 0},
        closed_{take_event(numbers.closed, reduction)},
        readiness_{posix::own_new(::epoll_create1(EPOLL_CLOEXEC), "make an epoll descriptor")} {
    if (numbers.pipe_read != Reduction::no_descriptor) {
      // The kernel marks the end alone that makes the packets.
      pipe_.read = take(numbers.pipe_read, S_IFIFO, O_RDONLY | O_NONBLOCK, reduction);
      pipe_.write = take(numbers.pipe_write, S_IFIFO, O_WRONLY | O_NONBLOCK | O_DIRECT, reduction);
      watch(pipe_.read.get());
    }
    watch(ring_.items_fd());
  }

  ReducedQueue reduce(Reduction& reduction) const {
    ReducedQueue result;
    result.ring = reduction.add(ring_.memory().file());
    result.items = reduction.add(ring_.items_fd());
    result.room = reduction.add(ring_.room_fd());
    result.settled = reduction.add(ledger_.settled_fd());
    result.closed = reduction.add(closed_.get());
    const bool has_pipe = static_cast<bool>(pipe_.read);
    result.pipe_read = has_pipe ? reduction.add(pipe_.read.get()) : Reduction::no_descriptor;
    result.pipe_write = has_pipe ? reduction.add(pipe_.write.get()) : Reduction::no_descriptor;
    return result;
  }

  /// Throws queue::ShutDown, queue::Full.
  void put(std::string_view message, const posix::Deadline& deadline) {
    const auto attempt = [&] { return try_put(message); };
    if (!attempt()) wait_for_room(attempt, deadline);
  }

  /// The same for a message too large for the pipe, which `fill(std::byte*)` writes to its place in
  /// the ring: under the producers' lock, so it must not run code of the user's.
  template <class Fill>
  void put_in_place(std::size_t size, Fill fill, const posix::Deadline& deadline) {
    const auto attempt = [&] {
      return try_put_by([&] {
        refuse_if_shut_down();
        return ring_.put(size, fill) == sync::Ring::Put::done;
      });
    };
    if (!attempt()) wait_for_room(attempt, deadline);
  }

  /// Puts all, in order, by the ring. When it throws, what is left in the batch was not put.
  void put_many(MessageBatch& batch, const posix::Deadline& deadline) {
    const auto attempt = [&] { return try_put_many(batch); };
    if (!attempt()) wait_for_room(attempt, deadline);
  }

  /// Throws queue::ShutDown, queue::Empty. A class derived from Message may have an assign() of its
  /// own, which is called with what lies in the ring, under the consumers' lock: it must not run
  /// code of the user's. If it throws, the message stays.
  template <class AMessage>
  void get(AMessage& message, const posix::Deadline& deadline) {
    const auto attempt = [&](bool woken) { return try_get(message, woken); };
    if (!attempt(false)) wait_for_item(attempt, deadline);
  }

  /// Waits for one message, and takes those that are there, up to `most`, into the empty batch.
  void get_many(MessageBatch& batch, std::size_t most, const posix::Deadline& deadline) {
    const auto attempt = [&](bool woken) { return try_get_many(batch, most, woken); };
    if (!attempt(false)) wait_for_item(attempt, deadline);
  }

  template <class AMessage>
  bool try_get(AMessage& message, bool woken) {
    if (!joinable_) return take(message, woken);
    sync::LedgerRow& row = ledger_.row();
    const sync::Ledger::Mark mark{ledger_, row.taking};
    if (!take(message, woken)) return false;
    ++row.leases;
    return true;
  }

  bool try_get_many(MessageBatch& batch, std::size_t most, bool woken) {
    if (!joinable_) return take_many(batch, most, woken, nullptr);
    sync::LedgerRow& row = ledger_.row();
    const sync::Ledger::Mark mark{ledger_, row.taking};
    return take_many(batch, most, woken, &row);
  }

  /// How many messages lie here at one moment.
  std::uint64_t size() { return packets() + ring_.count(); }

  bool empty() const {
    int bytes = 0;
    if (pipe_.read) posix::check(::ioctl(pipe_.read.get(), FIONREAD, &bytes), "look into a queue");
    return bytes == 0 && ring_.empty();
  }

  bool full() { return ring_.bound() != 0 && ring_.count() >= ring_.bound(); }
  std::uint64_t maxsize() const noexcept { return ring_.bound(); }

  /// Throws std::invalid_argument.
  void task_done() {
    if (!ledger_.task_done())
      throw std::invalid_argument{"task_done of a queue: called more often than there were items"};
  }

  bool join(const posix::Deadline& deadline) {
    return ledger_.join(
        deadline, [this] { return empty(); },
        [](pid_t pid, std::int64_t count) {
          throw ProcessError{"join a queue: " + std::to_string(count) +
                             " unfinished item(s) are owed by processes that died, such as pid " +
                             std::to_string(pid)};
        });
  }

  posix::List<sync::Debt> debts() { return ledger_.debts(); }

  void shutdown(bool immediate) {
    // The event first: whoever it wakes stores the word too, should this process die here.
    closed_.set();
    shared_.shut_down.store(1);
    if (!immediate) return;
    Message dropped;
    if (!joinable_) {
      while (take(dropped, true)) {
      }
      return;
    }
    for (;;) {
      const sync::Ledger::Mark mark{ledger_, ledger_.row().taking};
      if (!take(dropped, true)) return;
      ledger_.withdraw(1);
    }
  }
  bool is_shut_down() const noexcept { return shared_.shut_down.load() != 0; }
  bool is_joinable() const noexcept { return joinable_; }

  /// Polls readable while a message lies here.
  int fileno() {
    if (shared_.polled.load() == 0) shared_.polled.store(1);
    full_fence();  // pairs with that in settle_descriptor()
    ring_.settle();
    return readiness_.get();
  }

  sync::Ring& ring() noexcept { return ring_; }

 private:
  static constexpr int pipe_bytes = 1 << 18;
  static constexpr std::uint32_t puts_of_a_stream = 16;

  struct Shared {
    posix::RobustMutex getters_seat;
    posix::RobustMutex putters_seat;
    std::atomic<std::uint32_t> shut_down;
    std::uint32_t joinable;  // set before anybody else has the queue
    // How many packets were sent, counted after each; and how many of these are known to have been
    // read, which a holder of the consumers' lock says.
    alignas(64) std::atomic<std::uint64_t> sent;
    alignas(64) std::atomic<std::uint64_t> drained;
    std::atomic<std::uint32_t> sleeps;  // how often somebody went to sleep for an item
    std::atomic<std::uint32_t> polled;  // somebody asks the descriptor whether an item is here
    sync::LedgerWords ledger;
  };

  // Who sits, or at least has tried to until it is time to look.
  class Seat {
   public:
    Seat(posix::RobustMutex& mutex, const posix::Deadline& deadline)
        : mutex_{mutex},
          taken_{mutex.lock(deadline.sooner(posix::RobustMutex::watchdog), posix::NoRepair{})} {}
    ~Seat() {
      if (taken_) mutex_.unlock();
    }
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;
    explicit operator bool() const noexcept { return taken_; }

   private:
    posix::RobustMutex& mutex_;
    const bool taken_;
  };

  // A descriptor that was opened as its queue does, so that no read or write of it can block.
  static posix::unique_fd take(std::uint32_t number, unsigned type, int flags,
                               Reduction& reduction) {
    posix::unique_fd fd = reduction.take(number, type);
    constexpr int looked_at = O_ACCMODE | O_NONBLOCK | O_DIRECT;
    if ((posix::check(::fcntl(fd.get(), F_GETFL), "look at a queue") & looked_at) != flags)
      serialization::throw_error("a queue with a descriptor of another kind");
    return fd;
  }
  static posix::EventFd take_event(std::uint32_t number, Reduction& reduction) {
    return posix::EventFd{take(number, 0, O_RDWR | O_NONBLOCK, reduction)};
  }

  void watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    posix::check(::epoll_ctl(readiness_.get(), EPOLL_CTL_ADD, fd, &event), "watch a queue");
  }

  bool try_put(std::string_view message) {
    return try_put_by([&] { return send(message); });
  }
  template <class Send>
  bool try_put_by(Send send_it) {
    if (!joinable_) return send_it();
    const sync::Ledger::Mark mark{ledger_, ledger_.row().putting};
    ledger_.expect(1);
    try {
      if (send_it()) return true;
    } catch (...) {
      ledger_.withdraw(1);
      throw;
    }
    ledger_.withdraw(1);
    return false;
  }

  // Whether all of it went.
  bool try_put_many(MessageBatch& batch) {
    if (!joinable_) return send_many(batch);
    const sync::Ledger::Mark mark{ledger_, ledger_.row().putting};
    ledger_.expect(static_cast<std::int64_t>(batch.size()));
    try {
      if (send_many(batch)) return true;
    } catch (...) {
      ledger_.withdraw(static_cast<std::int64_t>(batch.size()));
      throw;
    }
    ledger_.withdraw(static_cast<std::int64_t>(batch.size()));
    return false;
  }

  bool send_many(MessageBatch& batch) {
    refuse_if_shut_down();
    ring_.put_many(batch.size(), [&](std::uint64_t, auto append) {
      const std::string_view message = batch.front();
      std::memcpy(append(message.size()), message.data(), message.size());
      batch.pop_front();
    });
    return batch.empty();
  }

  void refuse_if_shut_down() const {
    if (is_shut_down()) throw queue::ShutDown{"put into a queue: it is shut down"};
  }

  bool send(std::string_view message) {
    refuse_if_shut_down();
    // A packet can't be empty.
    if (pipe_.write && !message.empty() && message.size() <= PIPE_BUF && !is_stream() &&
        ring_.empty()) {
      const ssize_t length = posix::write_some(pipe_.write.get(), message.data(), message.size());
      if (length >= 0) {
        // Release: pairs with the acquire in read_packets().
        shared_.sent.fetch_add(1, std::memory_order_release);
        return true;
      }
      if (errno != EAGAIN) posix::throw_errno("write to a queue");
    }
    return ring_.put(message.size(), [&](std::byte* place) {
      std::memcpy(place, message.data(), message.size());
    }) == sync::Ring::Put::done;
  }

  // Whether nobody has slept for an item while this process put the last ones. (Of those who sleep
  // on the descriptor, nobody knows.) An estimate, which threads may write in whatever order.
  bool is_stream() noexcept {
    constexpr auto relaxed = std::memory_order_relaxed;
    if (shared_.polled.load(relaxed) != 0) return false;
    const std::uint32_t sleeps = shared_.sleeps.load(relaxed);
    if (sleeps != sleeps_seen_.load(relaxed)) {
      sleeps_seen_.store(sleeps, relaxed);
      puts_since_.store(0, relaxed);
      return false;
    }
    const std::uint32_t puts = puts_since_.load(relaxed);
    if (puts >= puts_of_a_stream) return true;
    puts_since_.store(puts + 1, relaxed);
    return false;
  }

  template <class AMessage>
  bool take(AMessage& message, bool woken) {
    const bool ring_first = only_ring();
    if (!ring_first && read_pipe(message)) return true;
    const bool taken = ring_.take(
        woken, [&] { return read_packets(message); },
        [&](const std::byte* data, std::size_t size) { message.assign(data, size); });
    if (!taken) return ring_first && read_pipe(message);
    settle_descriptor();
    return true;
  }

  // After the take of an item. Either this sees that somebody polls, or fileno(), called by that
  // one, sees the item gone: each has written its own word before it reads the other's.
  void settle_descriptor() {
    full_fence();
    if (shared_.polled.load(std::memory_order_relaxed) != 0) ring_.settle();
  }

  // What was written before is seen by others before anything that comes is read. On x86 that holds
  // once a lock has been let go, as at the end of a take, and after the store of fileno().
  static void full_fence() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    std::atomic_signal_fence(std::memory_order_seq_cst);
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
  }

  // Whether there is something to take, and it must lie in the ring.
  bool only_ring() const noexcept {
    if (!pipe_.read) return true;
    return shared_.sent.load(std::memory_order_relaxed) ==
               shared_.drained.load(std::memory_order_relaxed) &&
           (ring_.has_more() || !ring_.empty());
  }

  // With the consumers' lock held and a record seen: the packets that were sent before it.
  template <class Incoming>
  bool read_packets(Incoming& incoming) {
    const std::uint64_t sent = shared_.sent.load(std::memory_order_acquire);
    if (sent == shared_.drained.load(std::memory_order_relaxed)) return false;
    if (read_pipe(incoming)) return true;
    shared_.drained.store(sent, std::memory_order_relaxed);
    return false;
  }
  bool read_pipe(Message& message) { return pipe_.read && message.read_packet(pipe_.read.get()); }

  // Whether any came. `row` is that of a joinable queue.
  bool take_many(MessageBatch& batch, std::size_t most, bool woken, sync::LedgerRow* row) {
    const auto read_all = [&] {
      while (batch.size() < most && read_pipe(batch)) {
        if (row != nullptr) ++row->leases;
      }
      return !batch.empty();
    };
    const bool ring_first = only_ring();
    if (!ring_first && read_all()) return true;
    std::uint64_t claimed = 1;  // by the mark
    ring_.take_many(
        woken, most, [&] { return read_packets(batch); },
        [&](const std::byte* data, std::size_t size) {
          char* const place = batch.place(size);
          if (place == nullptr) return false;
          std::memcpy(place, data, size);
          batch.push_back(place, size);
          return true;
        },
        [&](std::uint64_t count) {
          if (row != nullptr) row->taking += static_cast<std::uint32_t>(count - 1);
          claimed = count;
        });
    if (row != nullptr) {
      row->leases += static_cast<std::int64_t>(batch.size());
      row->taking -= static_cast<std::uint32_t>(claimed - 1);
    }
    if (batch.empty()) return ring_first && read_all();
    settle_descriptor();
    return true;
  }
  // One packet; false if there is none, or no room for the largest one.
  bool read_pipe(MessageBatch& batch) {
    char* const place = pipe_.read ? batch.place(PIPE_BUF) : nullptr;
    if (place == nullptr) return false;
    const ssize_t length = posix::read_some(pipe_.read.get(), place, PIPE_BUF);
    if (length < 0 && errno != EAGAIN) posix::throw_errno("read from a queue");
    if (length <= 0) return false;
    batch.push_back(place, static_cast<std::size_t>(length));
    return true;
  }

  // With the seat taken: whether something came within a moment. Not at a ring alone, whose users
  // would get into each other's way with every message of a stream.
  bool look_out() noexcept {
    return pipe_.read && patience_.look([this] {
      int bytes = 0;
      return !ring_.empty() || ::ioctl(pipe_.read.get(), FIONREAD, &bytes) != 0 || bytes != 0;
    });
  }

  template <class Attempt>
  void wait_for_item(Attempt attempt, const posix::Deadline& deadline) {
    if (deadline.expired()) {
      // After a death the event may be readable with nothing there: the look clears it.
      if (!posix::wait_readable(ring_.items_fd(), deadline) && !is_shut_down())
        throw queue::Empty{};
      return get_last(attempt);
    }
    do {
      const Seat seat{shared_.getters_seat, deadline};
      for (bool woken = false;; woken = true) {
        if (is_shut_down()) return get_last(attempt);
        // It has just been tried in vain.
        if ((woken || !seat || look_out()) && attempt(woken)) return;
        if (!seat) break;
        // The event may be of items that were taken. It is cleared no sooner than now, as more come
        // in a stream.
        if (!woken && ring_.items_signalled() && attempt(true)) return;
        pollfd entries[] = {{ring_.items_fd(), POLLIN, 0},
                            {closed_.get(), POLLIN, 0},
                            {pipe_.read.get(), POLLIN, 0}};  // poll ignores a negative one
        shared_.sleeps.fetch_add(1, std::memory_order_relaxed);
        // Something may seem to be there all the time, with a producer that is stopped.
        if (posix::poll_until(entries, 3, deadline) == 0 || deadline.expired()) break;
        notice_shutdown(entries[1]);
      }
    } while (!deadline.expired());
    get_last(attempt);
  }
  // The flag is asked before the look: what was put before the shutdown is still given out.
  template <class Attempt>
  void get_last(Attempt attempt) {
    const bool shut_down = is_shut_down();
    if (attempt(true)) return;
    if (shut_down) throw queue::ShutDown{"get from a queue: it is shut down and empty"};
    throw queue::Empty{};
  }

  template <class Attempt>
  void wait_for_room(Attempt attempt, const posix::Deadline& deadline) {
    if (deadline.expired()) throw queue::Full{};
    do {
      const Seat seat{shared_.putters_seat, deadline};
      for (;;) {
        if (attempt()) return;
        if (!seat) break;
        if (!ring_.expect_room()) continue;
        pollfd entries[] = {{ring_.room_fd(), POLLIN, 0}, {closed_.get(), POLLIN, 0}};
        if (posix::poll_until(entries, 2, deadline) == 0) break;
        notice_shutdown(entries[1]);
      }
    } while (!deadline.expired());
    if (!attempt()) throw queue::Full{};
  }

  void notice_shutdown(const pollfd& closed) noexcept {
    if (closed.revents != 0) shared_.shut_down.store(1);
  }

  // Packets in the pipe can't be counted in place: they are duplicated into a pipe of our own
  // (tee(2) takes nothing) and read there.
  std::uint64_t packets() {
    int bytes = 0;
    if (!pipe_.read) return 0;
    posix::check(::ioctl(pipe_.read.get(), FIONREAD, &bytes), "look into a queue");
    if (bytes == 0) return 0;
    auto copy = posix::make_pipe(O_NONBLOCK | O_DIRECT);
    posix::try_set_pipe_size(copy.write.get(), posix::check(::fcntl(pipe_.read.get(), F_GETPIPE_SZ),
                                                            "look into a queue"));
    const ssize_t copied = posix::retry_on_eintr([&] {
      return ::tee(pipe_.read.get(), copy.write.get(), std::size_t{1} << 30, SPLICE_F_NONBLOCK);
    });
    if (copied < 0 && errno != EAGAIN) posix::throw_errno("count the items of a queue");
    std::uint64_t count = 0;
    char packet[PIPE_BUF];
    while (posix::read_some(copy.read.get(), packet, sizeof packet) > 0) ++count;
    if (copied < bytes && count >= slots(copy.write.get()) &&
        slots(copy.write.get()) < slots(pipe_.read.get()))
      posix::throw_os_error(EPERM, "count the items of a queue: the user's pipe budget is spent");
    return count;
  }

  // How many packets a pipe holds: one a page.
  static std::uint64_t slots(int pipe) {
    return static_cast<std::uint64_t>(
               posix::check(::fcntl(pipe, F_GETPIPE_SZ), "look into a pipe")) /
           static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  }

  sync::Ring ring_;
  Shared& shared_;
  sync::Ledger ledger_;
  const bool joinable_;
  posix::PipeEnds pipe_;
  posix::EventFd closed_;
  posix::unique_fd readiness_;
  sync::Patience patience_{sync::several_processors()};  // of whoever sits
  std::atomic<std::uint32_t> sleeps_seen_{0}, puts_since_{0};
};

}  // namespace brood::multiprocessing
