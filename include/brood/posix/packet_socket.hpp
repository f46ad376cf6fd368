// SPDX-License-Identifier: MIT
// Messages of any length over a pair of sockets (AF_UNIX, SOCK_SEQPACKET). Each is one packet, and
// the kernel takes and gives a packet as a whole: whoever is killed in send() has sent all of the
// message or nothing, and messages of several senders, or for several receivers, never mix.
//
//   part of a message      | where it lies
//   -----------------------+-------------------------------------------------------------
//   what it is, its size   | the header, the first 16 bytes of the packet
//   its first 32 KiB       | behind the header
//   all of a longer one    | in a memory file, whose descriptor goes along with the packet
//   a descriptor           | goes along with the packet; there are no bytes then
//
// A sender waits while the packets that nobody has read fill the socket's buffer. As the start of a
// long message lies there too, few long ones are ever under way.
#pragma once

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "../serialization/error.hpp"
#include "message_memory.hpp"

namespace brood::posix {

enum class PacketKind : std::uint32_t { bytes = 0x62726431, descriptor = 0x62726432 };

struct PacketHeader {
  PacketKind kind;
  std::uint32_t unused;
  std::uint64_t size;  // of the message
};
static_assert(sizeof(PacketHeader) == 16);

/// How much of a message lies in its packet.
inline constexpr std::size_t packet_room = std::size_t{1} << 15;

/// Whether it is a socket that keeps packets apart. Throws os::OSError (EBADF).
inline bool is_packet_socket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  const int result = ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
  if (result != 0 && errno == ENOTSOCK) return false;
  check(result, "look at a socket");
  return type == SOCK_SEQPACKET;
}

// The message of one descriptor that goes along with a packet.
union DescriptorMessage {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

// The head of a message, with `descriptor` if that is none below 0.
inline void send_packet(int socket, PacketHeader header, const void* data, std::size_t size,
                        int descriptor) {
  iovec parts[] = {{&header, sizeof header}, {const_cast<void*>(data), size}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  DescriptorMessage along{};
  if (descriptor >= 0) {
    message.msg_control = &along;
    message.msg_controllen = sizeof along;
    along.header.cmsg_level = SOL_SOCKET;
    along.header.cmsg_type = SCM_RIGHTS;
    along.header.cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(&along.header), &descriptor, sizeof descriptor);
  }
  for (;;) {
    if (retry_on_eintr([&] { return ::sendmsg(socket, &message, MSG_NOSIGNAL); }) >= 0) return;
    // The other end was closed with messages unread, which the kernel tells once.
    if (errno == ECONNRESET) continue;
    if (errno == ECONNREFUSED) errno = EPIPE;
    throw_errno("send to a connection");
  }
}

/// A message that is about to be written and sent.
class OutgoingMessage {
 public:
  /// One of at most `size` bytes, for the connection that MessageMemories gave that number. Throws
  /// os::OSError (ENOSPC, ENOMEM, EMFILE: a long one needs
  /// memory and a descriptor).
  OutgoingMessage(std::size_t size, std::uint64_t connection) {
    if (size > packet_room)
      memory_ = MessageMemories::take(size, connection);
    else
      small_.resize(size);
  }
  ~OutgoingMessage() {
    if (memory_ != nullptr) MessageMemories::give_back(memory_);
  }
  OutgoingMessage(const OutgoingMessage&) = delete;
  OutgoingMessage& operator=(const OutgoingMessage&) = delete;

  /// Where it is to be written.
  char* data() noexcept { return memory_ != nullptr ? memory_->data() : small_.data(); }

  /// Sends the first `size` bytes; waits while too much lies there unread. Throws
  /// os::BrokenPipeError when nobody can receive them any more, os::OSError (ETOOMANYREFS).
  void send(int socket, std::size_t size) {
    const PacketHeader header{PacketKind::bytes, 0, size};
    if (size <= packet_room) return send_packet(socket, header, data(), size, -1);
    memory_->set_full();
    try {
      send_packet(socket, header, data(), packet_room, memory_->fileno());
    } catch (...) {
      memory_->set_free();
      throw;
    }
  }

 private:
  MessageMemory* memory_ = nullptr;
  std::string small_;
};

/// Sends a message of bytes that lie ready. Throws as OutgoingMessage does.
inline void send_bytes(int socket, std::uint64_t connection, const void* data, std::size_t size) {
  if (size <= packet_room) return send_packet(socket, {PacketKind::bytes, 0, size}, data, size, -1);
  OutgoingMessage message{size, connection};
  std::memcpy(message.data(), data, size);
  message.send(socket, size);
}

/// Sends a descriptor, which the receiver gets as one of its own.
inline void send_descriptor(int socket, int descriptor) {
  check(::fcntl(descriptor, F_GETFD), "send a descriptor");
  send_packet(socket, {PacketKind::descriptor, 0, 0}, nullptr, 0, descriptor);
}

/// A packet as it came, or the message of it in a file.
class Packet {
 public:
  Packet() noexcept {}
  ~Packet() {
    if (!is_long_) return;
    try {
      map(MessageMemory::start);
      MessageMemory::set_free(mapping_);
    } catch (...) {  // also where there is no memory for the error
      // Its sender will do without that memory.
    }
  }
  Packet(const Packet&) = delete;
  Packet& operator=(const Packet&) = delete;

  /// Waits for the next one; false at the end, when all who could send have closed. What comes from
  /// the other side is checked before it is believed: SerializationError. Throws os::OSError
  /// (EMFILE: there was no room for the descriptor that came along; the message is lost then).
  bool receive(int socket) {
    iovec parts[] = {{&header_, sizeof header_}, {start_, sizeof start_}};
    DescriptorMessage along{};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    ssize_t length;
    do {
      message.msg_control = &along;
      message.msg_controllen = CMSG_LEN(sizeof(int));  // for one descriptor and no more
      length = retry_on_eintr([&] { return ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC); });
      // The other end was closed with messages unread. What it sent before that is still here.
    } while (length < 0 && errno == ECONNRESET);
    if (length < 0) throw_errno("receive from a connection");
    if (length == 0) return false;
    if (message.msg_controllen >= CMSG_LEN(sizeof(int)) && along.header.cmsg_level == SOL_SOCKET &&
        along.header.cmsg_type == SCM_RIGHTS) {
      int descriptor;
      std::memcpy(&descriptor, CMSG_DATA(&along.header), sizeof descriptor);
      file_.reset(descriptor);
    }
    expect_sound(static_cast<std::size_t>(length), message.msg_flags);
    return true;
  }

  bool is_descriptor() const noexcept { return header_.kind == PacketKind::descriptor; }
  unique_fd take_descriptor() noexcept { return std::move(file_); }

  /// How long the message is.
  std::size_t size() const noexcept { return static_cast<std::size_t>(header_.size); }
  /// The whole message, until the packet goes. Throws os::OSError (ENOMEM: no room to map it).
  std::string_view bytes() {
    if (!is_long_) return {start_, size()};
    map(MessageMemory::start + size());
    return {reinterpret_cast<const char*>(mapping_.data()) + MessageMemory::start, size()};
  }

  /// Copies the whole message to `place`, which has room for size() bytes. Throws as bytes() does.
  void copy_to(char* place) {
    if (size() != 0) std::memcpy(place, bytes().data(), size());  // else `place` may be null
  }

 private:
  void expect_sound(std::size_t length, int flags) {
    if (length < sizeof header_ || (flags & MSG_TRUNC) != 0 || !kind_is_known())
      serialization::throw_error("what came by a connection is no message");
    const bool needs_descriptor = is_descriptor() || size() > packet_room;
    if (needs_descriptor && !file_ && (flags & MSG_CTRUNC) != 0)
      throw_os_error(EMFILE, "receive a descriptor");
    const std::size_t here = size() > packet_room ? packet_room : size();
    const bool sound =
        needs_descriptor == static_cast<bool>(file_) && length - sizeof header_ == here &&
        (here == size() || (size() <= most && lasts(file_.get(), MessageMemory::start + size())));
    if (!sound) serialization::throw_error("what came by a connection is no message");
    is_long_ = here != size();
  }
  void map(std::size_t size) {
    if (mapping_.data() == nullptr) mapping_ = Mapping{file_.get(), size};
  }
  bool kind_is_known() const noexcept {
    return header_.kind == PacketKind::bytes || (is_descriptor() && header_.size == 0);
  }

  static constexpr std::uint64_t most = std::uint64_t{1} << 62;  // far beyond any memory

  PacketHeader header_{};
  bool is_long_ = false;
  unique_fd file_;
  Mapping mapping_;
  char start_[packet_room];
};

}  // namespace brood::posix
