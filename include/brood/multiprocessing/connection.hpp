// SPDX-License-Identifier: MIT
// Two ends that send each other messages. Python counterparts: multiprocessing.Pipe and
// multiprocessing.connection.Connection.
//
//     auto [here, there] = mp::Pipe();
//     mp::Process child([](mp::Connection parent, mp::Connection others) {
//       others.close();  // so that recv() tells when the parent has ended
//       parent.send(std::string{"hello"});
//       std::vector<int> numbers = parent.recv<std::vector<int>>();
//     }, there, here);
//     child.start();
//     there.close();  // so that recv() here tells when the child has ended
//     fmt::print("{}\n", here.recv<std::string>());
//     here.send(std::vector{1, 2, 3});
//
// A message arrives as a whole or not at all, however long it is and whoever is killed meanwhile;
// messages are never merged nor split. Any number of threads and processes may send to one end and
// receive from it: each message goes to one receiver, those of one sender in order. (Python's
// break then.)
//
// A connection is a handle: a copy names the same end. A child of fork() has an end of its own for
// each, which it may close. The stream has ended when all copies of the other end are closed in all
// processes, as happens also when these die: whoever waits for that must close its own copy.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "../identity.hpp"
#include "../posix/packet_socket.hpp"
#include "../posix/poll.hpp"
#include "../posix/ref.hpp"
#include "../posix/socket_pair.hpp"
#include "../posix/this_process.hpp"
#include "../serialization.hpp"
#include "errors.hpp"
#include "literal.hpp"
#include "reduction.hpp"

namespace brood::multiprocessing {

/// What came is longer than the place it was to go to. Nothing is lost: message() has it.
/// Python: multiprocessing.BufferTooShort.
class BufferTooShort : public ProcessError {
 public:
  explicit BufferTooShort(std::string message)
      : std::runtime_error{text}, ProcessError{text}, message_{std::move(message)} {}
  /// The whole message.
  const std::string& message() const noexcept { return message_; }

 private:
  static constexpr const char* text = "receive from a connection: the buffer is too short";

  std::string message_;
};

/// A block of plain memory: a string, vector, array or span whose elements are trivially copyable.
template <class T>
concept Bytes = requires(const std::remove_reference_t<T>& block) {
  std::data(block);
  std::size(block);
  requires std::is_trivially_copyable_v<std::remove_cvref_t<decltype(*std::data(block))>>;
};

/// One end. All calls are safe from any thread. Each throws os::OSError when the end was closed in
/// this process, or is not one to send to (or to receive from).
class Connection {
 public:
  /// Takes over a descriptor that fileno() gave, perhaps in another process. Throws
  /// std::invalid_argument if it is negative, or not that of a connection, os::OSError (EBADF) if
  /// there is no such descriptor; it then still belongs to the caller.
  explicit Connection(int fd, bool readable = true, bool writable = true);

  /// For the Serializer: see Reduction.
  Connection(serialization::Reader& in, Reduction& reduction);
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const;

  // Copied even when moved from, so that a handle always names a connection.
  Connection(const Connection&) noexcept = default;
  Connection& operator=(const Connection&) noexcept = default;

  /// Sends a value, as send_bytes(serialization::dumps(value)) does. Text that is no std::string is
  /// sent as one. Throws as send_bytes(), and SerializationError when the value can't be written.
  template <class T>
  requires(Sendable<T> &&
           !std::is_convertible_v<const T&, const char*>) void send(const T& value) const {
    const std::size_t size = serialization::dumped_size(value);
    posix::OutgoingMessage message{size, number()};
    send(message, serialization::dump_to(message.data(), size, value));
  }
  template <class Text = std::string>
  void send(std::string_view text) const {
    send(Text{text});
  }

  /// Waits for a message, which must be a T that was sent: any other is dropped, with
  /// SerializationError. Throws EOFError when there is none and nobody can send any more.
  template <class T>
  requires Sendable<T> T recv()
  const {
    posix::Packet packet;
    receive(packet);
    return serialization::loads<T>(packet.bytes());
  }

  /// Sends a message of bytes, which may be empty. Waits while too many lie there unread (some 200
  /// KB). Throws os::BrokenPipeError when nobody can receive it any more; os::OSError (ENOSPC,
  /// ENOMEM, EMFILE: a message of more than 32 KiB lies in memory of its own until it is read,
  /// EFBIG). Up to eight of these, of 4 MiB at most, are kept for later messages until the last
  /// connection of the process is closed.
  template <Bytes B>
  requires(!std::is_convertible_v<const B&, std::string_view>) void send_bytes(
      const B& bytes) const {
    send_block(std::data(bytes), std::size(bytes) * sizeof(*std::data(bytes)));
  }
  void send_bytes(std::string_view bytes) const { send_block(bytes.data(), bytes.size()); }
  /// An array goes whole, with the NULs that are in it. Only the one at the end of a string literal
  /// (of any array of const char) does not.
  template <std::size_t N>
  void send_bytes(const char (&text)[N]) const {
    send_block(text, multiprocessing::meant_size(text));
  }
  template <std::size_t N>
  void send_bytes(char (&block)[N]) const {
    send_block(block, N);
  }

  /// Waits for a message: the bytes sent, or for a value those that dumps() made of it. Throws
  /// EOFError; os::OSError (EMSGSIZE) when it is longer than `maxlength`, and drops it then.
  std::string recv_bytes(std::size_t maxlength = std::string::npos) const;

  /// Waits for a message and writes it to the start of the block; its length, in bytes. Throws
  /// BufferTooShort, which has the message, when it does not fit; EOFError.
  template <Bytes B>
  std::size_t recv_bytes_into(B&& block) const {
    static_assert(!std::is_const_v<std::remove_pointer_t<decltype(std::data(block))>>,
                  "recv_bytes_into needs memory that may be written");
    return receive_block(reinterpret_cast<char*>(std::data(block)),
                         std::size(block) * sizeof(*std::data(block)));
  }

  /// Sends a descriptor: the receiver gets one of its own for the same open file. Throws as
  /// send_bytes() does. Python: multiprocessing.reduction.send_handle.
  void send_fd(int fd) const;
  /// Waits for a descriptor, which is the caller's to close (close-on-exec). Throws as recv() does.
  int recv_fd() const;

  /// Whether recv() would not wait: a message is there, or the end. Waits for that up to `limit`.
  bool poll(Timeout limit = std::chrono::nanoseconds{0}) const;

  /// The descriptor, readable when recv() would not wait. It is gone with close() and with the last
  /// handle.
  int fileno() const;

  /// Closes this end in this process, for all copies here, once the calls that still run have
  /// returned. Nothing happens the second time.
  void close() const noexcept;
  bool closed() const noexcept;
  bool readable() const noexcept;
  bool writable() const noexcept;

  /// Whether two handles name the same end.
  friend bool operator==(const Connection&, const Connection&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return state_.get(); }

 private:
  class State;
  class Use;
  struct Reduced {
    std::uint32_t socket;  // the number of its descriptor
    std::uint32_t readable, writable;
  };

  std::uint64_t number() const noexcept;
  void send(posix::OutgoingMessage& message, std::size_t size) const;
  void send_block(const void* data, std::size_t size) const;
  void receive(posix::Packet& packet) const;
  std::size_t receive_block(char* place, std::size_t room) const;

  posix::Ref<State> state_;
};

/// Two connected ends. With `duplex` both send and receive; else the first one receives and the
/// second one sends. Throws os::OSError.
std::pair<Connection, Connection> Pipe(bool duplex = true);

// ---------------------------------------------------------------------------------------------

// The descriptor is closed by whoever leaves last: close(), or a call that still runs in another
// thread then. (Else that one would go on with a number that may mean another file by now.) One
// word tells, in a forked child too, where the calls of the parent's other threads do not run:
//
//   bits of `use` | meaning                                  | in a forked child
//   --------------+------------------------------------------+-----------------------------
//   63 to 32      | this_process()'s forks, where it is so   | is replaced by the next call
//   31            | closed: nobody enters any more           | holds there too
//   30 to 0       | calls that run                           | none
class Connection::State final : public posix::RefCounted {
 public:
  State(int fd, bool may_read, bool may_write) : readable{may_read}, writable{may_write}, fd_{fd} {}
  ~State() { drop(); }

  const bool readable;
  const bool writable;
  const std::uint64_t number = posix::MessageMemories::add_user();

  void enter(const char* attempt) {
    std::uint64_t seen = use_.load(std::memory_order_relaxed);
    do {
      if ((here(seen) & closed_bit) != 0)
        posix::throw_os_error(EBADF, std::string{attempt} + " a connection: it was closed");
    } while (!use_.compare_exchange_weak(seen, here(seen) + 1, std::memory_order_acquire));
  }
  void leave() noexcept {
    const std::uint64_t left = use_.fetch_sub(1, std::memory_order_acq_rel) - 1;
    if ((left & (closed_bit | users)) == closed_bit) drop();
  }
  void close() noexcept {
    std::uint64_t seen = use_.load(std::memory_order_relaxed);
    while (!use_.compare_exchange_weak(seen, here(seen) | closed_bit, std::memory_order_acq_rel)) {
    }
    if ((here(seen) & users) == 0) drop();
  }
  bool closed() const noexcept { return (use_.load(std::memory_order_relaxed) & closed_bit) != 0; }
  int fd() const noexcept { return fd_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t closed_bit = std::uint64_t{1} << 31;
  static constexpr std::uint64_t users = closed_bit - 1;

  static std::uint64_t here(std::uint64_t word) noexcept {
    const std::uint64_t forks = posix::this_process() >> 32;
    return word >> 32 == forks ? word : forks << 32 | (word & closed_bit);
  }
  void drop() noexcept {
    if (posix::unique_fd{fd_.exchange(-1)}) posix::MessageMemories::remove_user();
  }

  std::atomic<std::uint64_t> use_{0};
  std::atomic<int> fd_;
};

// A call that runs.
class Connection::Use {
 public:
  Use(State& state, const char* attempt) : state_{state} { state.enter(attempt); }
  ~Use() { state_.leave(); }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  static Use to_send(State& state) {
    if (!state.writable) posix::throw_os_error(EBADF, "send to a connection: it is read-only");
    return {state, "send to"};
  }
  static Use to_receive(State& state, const char* attempt = "receive from") {
    if (!state.readable)
      posix::throw_os_error(EBADF, std::string{attempt} + " a connection: it is write-only");
    return {state, attempt};
  }
  int fd() const noexcept { return state_.fd(); }

 private:
  State& state_;
};

inline Connection::Connection(int fd, bool readable, bool writable) {
  const auto refuse = [fd](const char* why) {
    char text[96];
    std::snprintf(text, sizeof text, "make a connection of descriptor %d: %s", fd, why);
    throw std::invalid_argument{text};
  };
  if (fd < 0) refuse("it is negative");
  if (!readable && !writable)
    throw std::invalid_argument{"make a connection that neither sends nor receives"};
  if (!posix::is_packet_socket(fd)) refuse("it is none of a connection");
  state_ = posix::make_ref<State>(fd, readable, writable);
}

template <class Out>
void Connection::reduce(Out& out, Reduction& reduction) const {
  // As a call that runs until all is sent: closed meanwhile, its number could come to mean another
  // file.
  state_->enter("pass on");
  reduction.keep(state_, [](State& state) noexcept { state.leave(); });
  const Reduced numbers{reduction.add(state_->fd()), state_->readable, state_->writable};
  out.write_bytes(&numbers, sizeof numbers);
}

inline Connection::Connection(serialization::Reader& in, Reduction& reduction) {
  const auto numbers = multiprocessing::read_plain<Reduced>(in);
  state_ = reduction.once<State>(numbers.socket, 0, [&] {
    posix::unique_fd socket = reduction.take(numbers.socket, S_IFSOCK);
    if (!posix::is_packet_socket(socket.get()) || (numbers.readable | numbers.writable) != 1)
      serialization::throw_error("a connection that is none");
    auto state = posix::make_ref<State>(socket.get(), numbers.readable != 0, numbers.writable != 0);
    socket.release();
    return state;
  });
}

inline std::uint64_t Connection::number() const noexcept { return state_->number; }

inline void Connection::send(posix::OutgoingMessage& message, std::size_t size) const {
  const Use use = Use::to_send(*state_);
  message.send(use.fd(), size);
}

inline void Connection::send_block(const void* data, std::size_t size) const {
  const Use use = Use::to_send(*state_);
  posix::send_bytes(use.fd(), state_->number, data, size);
}

inline void Connection::send_fd(int fd) const {
  const Use use = Use::to_send(*state_);
  posix::send_descriptor(use.fd(), fd);
}

inline void Connection::receive(posix::Packet& packet) const {
  const Use use = Use::to_receive(*state_);
  if (!packet.receive(use.fd())) throw EOFError{"receive from a connection: it has ended"};
  if (packet.is_descriptor())
    serialization::throw_error("a descriptor came by a connection, not a message");
}

inline int Connection::recv_fd() const {
  const Use use = Use::to_receive(*state_);
  posix::Packet packet;
  if (!packet.receive(use.fd())) throw EOFError{"receive from a connection: it has ended"};
  if (!packet.is_descriptor())
    serialization::throw_error("a message came by a connection, not a descriptor");
  return packet.take_descriptor().release();
}

inline std::string Connection::recv_bytes(std::size_t maxlength) const {
  posix::Packet packet;
  receive(packet);
  if (packet.size() > maxlength)
    posix::throw_os_error(EMSGSIZE, "receive from a connection: the message is too long");
  return std::string{packet.bytes()};
}

inline std::size_t Connection::receive_block(char* place, std::size_t room) const {
  posix::Packet packet;
  receive(packet);
  if (packet.size() > room) throw BufferTooShort{std::string{packet.bytes()}};
  packet.copy_to(place);
  return packet.size();
}

inline bool Connection::poll(Timeout limit) const {
  const posix::Deadline deadline{limit};
  const Use use = Use::to_receive(*state_, "poll");
  return posix::wait_readable(use.fd(), deadline);
}

inline int Connection::fileno() const { return Use{*state_, "poll"}.fd(); }
inline void Connection::close() const noexcept { state_->close(); }
inline bool Connection::closed() const noexcept { return state_->closed(); }
inline bool Connection::readable() const noexcept { return state_->readable; }
inline bool Connection::writable() const noexcept { return state_->writable; }

inline std::pair<Connection, Connection> Pipe(bool duplex) {
  posix::unique_fd one, other;
  posix::make_sockets(SOCK_SEQPACKET, one, other);
  const auto end = [](posix::unique_fd& fd, bool readable, bool writable) {
    Connection result{fd.get(), readable, writable};
    fd.release();
    return result;
  };
  const Connection first = end(one, true, duplex);
  return {first, end(other, duplex, true)};
}

}  // namespace brood::multiprocessing

template <>
struct brood::serialization::Serializer<brood::multiprocessing::Connection>
    : brood::multiprocessing::HandleSerializer<brood::multiprocessing::Connection> {};
