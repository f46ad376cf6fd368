// SPDX-License-Identifier: MIT
// A parcel: any number of bytes and any number of descriptors, over a pair of stream sockets. It is
// how a new process gets what it needs to start.
//
//   on the wire  | what
//   -------------+--------------------------------------------------------------------------
//   header       | 16 bytes: that it is a parcel, how many descriptors, how many bytes
//   batches      | one byte each, with which up to 253 descriptors go along (the kernel's limit)
//   bytes        |
//
// One sends and one receives; they need not know each other's pace.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "../serialization/error.hpp"
#include "fd.hpp"
#include "list.hpp"

namespace brood::posix {

/// What came in one piece.
struct Parcel {
  std::string bytes;
  List<unique_fd> descriptors;  // close-on-exec, in the order in which they were sent
};

/// Sends a parcel; waits while the other end does not read. The descriptors remain the caller's.
/// Throws os::BrokenPipeError when nobody will read it any more, os::OSError (EBADF: one of the
/// descriptors is none; ETOOMANYREFS: more descriptors of this user are under way than a process
/// may have).
inline void send_parcel(int socket, std::string_view bytes, const List<int>& descriptors);

/// By whoever will receive, to tell the other end that it is there; and whether it has told so, to
/// be asked once. Never block.
inline void announce(int socket) noexcept;
inline bool has_announced(int socket) noexcept;

/// Waits for a parcel; false when the other end was closed before one began. Throws
/// SerializationError when the other end was closed in its middle, or what came is no parcel;
/// os::OSError (EMFILE: no room for its descriptors). Part of the parcel is lost then, and the
/// socket of no use.
inline bool receive_parcel(int socket, Parcel& parcel);

// ---------------------------------------------------------------------------------------------

struct ParcelHeader {
  static constexpr std::uint32_t is_parcel = 0x62726470;

  std::uint32_t magic;
  std::uint32_t descriptors;
  std::uint64_t bytes;
};
static_assert(sizeof(ParcelHeader) == 16);

// As many descriptors as the kernel lets go along with one message (SCM_MAX_FD).
inline constexpr std::size_t parcel_batch = 253;

union ParcelControl {
  cmsghdr header;
  char bytes[CMSG_SPACE(parcel_batch * sizeof(int))];
};

// All of it, the descriptors with the first byte.
inline void send_piece(int socket, const void* data, std::size_t size, const int* descriptors,
                       std::size_t count) {
  const char* at = static_cast<const char*>(data);
  ParcelControl along{};
  while (size != 0) {
    iovec part{const_cast<char*>(at), size};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count != 0) {
      message.msg_control = &along;
      message.msg_controllen = CMSG_SPACE(count * sizeof(int));
      along.header.cmsg_level = SOL_SOCKET;
      along.header.cmsg_type = SCM_RIGHTS;
      along.header.cmsg_len = CMSG_LEN(count * sizeof(int));
      std::memcpy(CMSG_DATA(&along.header), descriptors, count * sizeof(int));
    }
    const ssize_t sent = retry_on_eintr([&] { return ::sendmsg(socket, &message, MSG_NOSIGNAL); });
    if (sent < 0) {
      // The other end was closed with something unread.
      if (errno == ECONNRESET) errno = EPIPE;
      throw_errno("send to a new process");
    }
    at += sent;
    size -= static_cast<std::size_t>(sent);
    count = 0;
  }
}

inline void send_parcel(int socket, std::string_view bytes, const List<int>& descriptors) {
  const ParcelHeader header{ParcelHeader::is_parcel, static_cast<std::uint32_t>(descriptors.size()),
                            bytes.size()};
  send_piece(socket, &header, sizeof header, nullptr, 0);
  for (std::size_t sent = 0; sent < descriptors.size(); sent += parcel_batch) {
    const std::size_t left = descriptors.size() - sent;
    send_piece(socket, "", 1, descriptors.begin() + sent,
               left < parcel_batch ? left : parcel_batch);
  }
  send_piece(socket, bytes.data(), bytes.size(), nullptr, 0);
}

inline void announce(int socket) noexcept {
  retry_on_eintr([&] { return ::send(socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL); });
}
// What was sent before the other end was closed is here before that is told.
inline bool has_announced(int socket) noexcept {
  char byte;
  return retry_on_eintr([&] { return ::recv(socket, &byte, 1, MSG_DONTWAIT); }) == 1;
}

// Some bytes, 0 at the end; what descriptors come along are appended, also if there is no room for
// all, which is told by an exception.
inline std::size_t receive_some(int socket, void* place, std::size_t size,
                                List<unique_fd>& descriptors, int flags = 0) {
  ParcelControl along{};
  iovec part{place, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ssize_t length;
  do {
    message.msg_control = &along;
    message.msg_controllen = sizeof along;
    length = retry_on_eintr([&] { return ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags); });
    // The other end was closed with something unread. What it sent before that is still here.
  } while (length < 0 && errno == ECONNRESET);
  if (length < 0) throw_errno("receive from another process");
  if (message.msg_controllen >= CMSG_LEN(0) && along.header.cmsg_level == SOL_SOCKET &&
      along.header.cmsg_type == SCM_RIGHTS) {
    const std::size_t count = (along.header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
    int numbers[parcel_batch];
    std::memcpy(numbers, CMSG_DATA(&along.header), count * sizeof(int));
    const std::size_t before = descriptors.size();
    try {
      descriptors.reserve(before + count);
    } catch (...) {
      for (std::size_t i = 0; i < count; ++i) unique_fd{numbers[i]};
      throw;
    }
    for (std::size_t i = 0; i < count; ++i) descriptors.push_back(unique_fd{numbers[i]});
    for (std::size_t i = before; i < descriptors.size(); ++i)
      keep_off_standard_streams(descriptors[i]);
  }
  // The kernel gives those for which there is room, and drops the others.
  if ((message.msg_flags & MSG_CTRUNC) != 0)
    throw_os_error(EMFILE, "receive the descriptors of another process");
  return static_cast<std::size_t>(length);
}

// All of it; false if the end comes before its first byte.
inline bool receive_piece(int socket, void* place, std::size_t size, List<unique_fd>& descriptors) {
  char* at = static_cast<char*>(place);
  for (std::size_t left = size; left != 0;) {
    const std::size_t length = receive_some(socket, at, left, descriptors);
    if (length == 0 && left == size) return false;
    if (length == 0) serialization::throw_error("a parcel that ends in its middle");
    at += length;
    left -= length;
  }
  return true;
}

inline bool receive_parcel(int socket, Parcel& parcel) {
  parcel.bytes.clear();
  parcel.descriptors.clear();
  ParcelHeader header;
  List<unique_fd> none;
  if (!receive_piece(socket, &header, sizeof header, none)) return false;
  if (header.magic != ParcelHeader::is_parcel || !none.empty())
    serialization::throw_error("what came is no parcel");
  while (parcel.descriptors.size() < header.descriptors) {
    const std::size_t before = parcel.descriptors.size();
    const std::size_t left = header.descriptors - before;
    char mark;
    if (!receive_piece(socket, &mark, 1, parcel.descriptors))
      serialization::throw_error("a parcel that ends in its middle");
    if (parcel.descriptors.size() - before != (left < parcel_batch ? left : parcel_batch))
      serialization::throw_error("what came is no parcel");
  }
  // Memory is taken as bytes come, not for what the header claims.
  constexpr std::size_t step = std::size_t{1} << 20;
  while (parcel.bytes.size() < header.bytes) {
    const std::size_t there = parcel.bytes.size();
    const std::uint64_t left = header.bytes - there;
    const std::size_t more = left < step ? static_cast<std::size_t>(left) : step;
    parcel.bytes.resize(there + more);
    if (!receive_piece(socket, parcel.bytes.data() + there, more, none))
      serialization::throw_error("a parcel that ends in its middle");
    if (!none.empty()) serialization::throw_error("what came is no parcel");
  }
  return true;
}

}  // namespace brood::posix
