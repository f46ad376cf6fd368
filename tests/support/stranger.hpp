// SPDX-License-Identifier: MIT
//
// A process that was forked before what it is sent was made, and so has nothing of it but by what
// crosses:
//
//   support::Stranger<mp::Event, mp::Event> other([](mp::Event asked, mp::Event answered) {
//     return asked.wait(patience) && (answered.set(), true);
//   });
//   mp::Event asked, answered;
//   other.send(asked, answered);
//   ...
//   CHECK(other.join() == 0);
#pragma once

#include <brood/multiprocessing/reduction.hpp>
#include <brood/posix/parcel.hpp>
#include <brood/posix/socket_pair.hpp>
#include <tuple>

#include "support/leaks.hpp"
#include "support/programs.hpp"

namespace support {

// What is sent, as it goes over the socket.
template <class T>
std::string reduced(const T& value, brood::multiprocessing::Reduction& reduction) {
  std::string bytes(brood::serialization::serialized_size(value, &reduction), '\0');
  brood::serialization::Writer{bytes.data(), bytes.size(), &reduction}.write(value);
  return bytes;
}

// What came.
template <class T>
T restored(std::string_view bytes, brood::multiprocessing::Reduction& reduction) {
  brood::serialization::Reader reader{bytes, &reduction};
  T value = reader.template read<T>();
  reader.expect_end();
  return value;
}

template <class... Args>
class Stranger {
 public:
  // `body(args...)` says whether all is well. Exit codes: 0 it is, 1 it is not, 2 it threw, 3 it
  // left descriptors open.
  template <class F>
  explicit Stranger(F body) {
    brood::posix::unique_fd there;
    brood::posix::make_sockets(SOCK_STREAM, socket_, there);
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::alarm(support::last_alarm);
    socket_.reset();
    int code = 2;
    try {
      const auto before = open_descriptors().size();
      code = receive(there.get(), body) ? 0 : 1;
      if (code == 0 && open_descriptors().size() != before) code = 3;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "the stranger: %s\n", error.what());
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;
  ~Stranger() {
    socket_.reset();
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    join();
  }

  void send(const Args&... args) {
    brood::multiprocessing::Reduction reduction;
    const std::string bytes = reduced(std::tuple<Args...>{args...}, reduction);
    brood::posix::send_parcel(socket_.get(), bytes, reduction.descriptors());
  }
  void kill() const { ::kill(pid_, SIGKILL); }
  pid_t pid() const { return pid_; }
  // Waits for it to end: its exit code, -N: killed by signal N.
  int join() {
    if (pid_ > 0) code_ = wait_for(pid_);
    pid_ = -1;
    return code_;
  }

 private:
  template <class F>
  static bool receive(int socket, F& body) {
    std::tuple<Args...> args = [&] {
      brood::posix::Parcel parcel;
      if (!brood::posix::receive_parcel(socket, parcel)) ::_exit(4);
      brood::multiprocessing::Reduction reduction{std::move(parcel.descriptors)};
      return restored<std::tuple<Args...>>(parcel.bytes, reduction);
    }();
    return std::apply(body, std::move(args));
  }

  brood::posix::unique_fd socket_;
  pid_t pid_ = -1;
  int code_ = -1;
};

}  // namespace support
