// SPDX-License-Identifier: MIT
// How somebody learns of the start and the end of a process that is the child of another one, a
// server: by two packets over a socket pair of its own, whose other end the server has.
//
//   server  -- {started, pid} with a pidfd, or {refused, errno} -->  who has asked
//   server  -- {ended, code, usage} -->                              who has asked
//
// Then the server closes its end. Before that an end of file says that the server is dead.
#pragma once

#include <sys/resource.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "fd.hpp"
#include "poll.hpp"

namespace brood::posix {

struct RelayReport {
  static constexpr std::uint32_t expected_magic = 0x62727265;
  enum class Kind : std::uint32_t { started, refused, ended };

  std::uint32_t magic = expected_magic;
  Kind kind = Kind::started;
  std::int32_t pid = 0;
  std::int32_t detail = 0;  // refused: errno; ended: the code, -N for death by signal N
  rusage usage = {};        // of an ended one
};

/// One descriptor that goes along with a message, or several.
template <std::size_t count>
union DescriptorsAlong {
  cmsghdr header;
  char bytes[CMSG_SPACE(count * sizeof(int))];
};

/// sendmsg(2) of one packet with descriptors; never waits, raises no SIGPIPE. Returns what that
/// returns, with errno.
template <std::size_t count>
ssize_t send_with_descriptors(int socket, const void* data, std::size_t size,
                              const int (&descriptors)[count]) noexcept {
  iovec part{const_cast<void*>(data), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  DescriptorsAlong<count> along{};
  message.msg_control = &along;
  message.msg_controllen = sizeof along;
  along.header.cmsg_level = SOL_SOCKET;
  along.header.cmsg_type = SCM_RIGHTS;
  along.header.cmsg_len = CMSG_LEN(sizeof descriptors);
  std::memcpy(CMSG_DATA(&along.header), descriptors, sizeof descriptors);
  return retry_on_eintr([&] { return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT); });
}

/// recvmsg(2) of one packet, never waits. The descriptors that came along are put where those of
/// `descriptors` are, from the first on; those that there is no number left for are lost.
template <std::size_t count>
ssize_t receive_with_descriptors(int socket, void* data, std::size_t size,
                                 unique_fd (&descriptors)[count]) noexcept {
  iovec part{data, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  DescriptorsAlong<count> along{};
  message.msg_control = &along;
  message.msg_controllen = CMSG_LEN(count * sizeof(int));
  const ssize_t length =
      retry_on_eintr([&] { return ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT); });
  if (length < 0 || message.msg_controllen < sizeof(cmsghdr) ||
      along.header.cmsg_level != SOL_SOCKET || along.header.cmsg_type != SCM_RIGHTS)
    return length;
  const std::size_t came = (along.header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (std::size_t i = 0; i < came && i < count; ++i) {
    int fd;
    std::memcpy(&fd, CMSG_DATA(&along.header) + i * sizeof fd, sizeof fd);
    descriptors[i].reset(fd);
  }
  return length;
}

/// The end of such a socket that is not the server's.
class EndRelay {
 public:
  EndRelay() noexcept = default;
  /// `server` is readable once the server has ended (-1: unknown) and must stay open. `tell_fate`
  /// tells for a message what became of a dead server: "the fork server (pid 7) has ended".
  /// `is_stopped` tells whether a living one is, by SIGSTOP or a debugger.
  EndRelay(unique_fd socket, int server, std::string (*tell_fate)(), bool (*is_stopped)()) noexcept
      : socket_{std::move(socket)}, server_{server}, fate_{tell_fate}, is_stopped_{is_stopped} {}

  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  int fileno() const noexcept { return socket_.get(); }
  unique_fd release() noexcept { return std::move(socket_); }

  enum class News { report, none, server_is_dead };

  /// Takes the report if it is there, with the descriptor that came along. Never blocks.
  News receive(RelayReport& report, unique_fd& along) const noexcept {
    unique_fd descriptors[1];
    const ssize_t length =
        receive_with_descriptors(socket_.get(), &report, sizeof report, descriptors);
    if (length < 0 && errno == EAGAIN) return News::none;
    if (length != sizeof report || report.magic != RelayReport::expected_magic)
      return News::server_is_dead;
    along = std::move(descriptors[0]);
    return News::report;
  }

  /// Waits until receive() has news; false when time is up.
  bool wait(const Deadline& deadline) const {
    pollfd entries[] = {{socket_.get(), POLLIN, 0}, {server_, POLLIN, 0}};
    return poll_until(entries, 2, deadline) > 0;
  }

  /// Whether the server has ended, if that can be seen.
  bool server_has_ended() const { return server_ >= 0 && wait_readable(server_, at_once()); }

  bool server_is_stopped() const { return is_stopped_ != nullptr && is_stopped_(); }

  std::string fate() const { return fate_ == nullptr ? "its parent has ended" : fate_(); }

  static Deadline at_once() noexcept { return Deadline{std::chrono::nanoseconds{0}}; }

 private:
  unique_fd socket_;
  int server_ = -1;
  std::string (*fate_)() = nullptr;
  bool (*is_stopped_)() = nullptr;
};

}  // namespace brood::posix
