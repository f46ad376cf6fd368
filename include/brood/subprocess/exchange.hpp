// SPDX-License-Identifier: MIT
// Feeding a child and collecting from it at the same time, so that neither side can block the
// other for good: the loop under communicate(), run() and pipelines.
#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "../posix/clock.hpp"
#include "../posix/pipe.hpp"
#include "options.hpp"
#include "streams.hpp"

namespace brood::subprocess {

/// One output stream and what becomes of its bytes: they are collected, or go to a sink.
struct Intake {
  Reader reader;  // closed when the stream has ended
  Sink sink;
  posix::ByteChunks collected;
  bool may_grow_pipe = false;
  bool sink_has_thrown = false;
  std::size_t size = 0;  // of all that has come

  /// Reads once; blocks if nothing is there.
  void take();
  /// The same after poll(2) had this to say.
  void take(short events) {
    if ((events & (POLLIN | POLLHUP)) == POLLHUP)
      reader.close();  // the pipe is empty and has no writer: that is its end
    else
      take();
  }
};

/// What can be gone on with after time was up: where the input stands, what was collected.
class Exchange {
 public:
  Writer in;
  Intake out;
  Intake err;

  /// Sets what is to be written to `in`, which is closed after it. The text must stay there until
  /// keep_input() or the end.
  void set_input(std::string_view input);

  /// Moves all three streams until each has ended; false when the deadline comes first. What a
  /// sink throws comes out of here. With `until` (a descriptor), also ends, true, as soon as that
  /// is readable and what lies in the pipes by then was taken.
  bool run(const posix::Deadline& deadline, int until = -1);

  /// Takes what lies in the pipes, and waits for no more.
  void drain();

  /// Makes the rest of the input this object's own.
  void keep_input();

  bool has_sinks() const noexcept { return out.sink || err.sink; }

 private:
  void feed();

  std::string early_;  // what the caller had written to `in` before; goes first
  std::string kept_;
  std::string_view input_;
};

inline void Intake::take() {
  const auto room = sink ? collected.space(posix::ByteChunks::pipe_size) : collected.space();
  const ssize_t got = posix::read_some(reader.fileno(), room.data, room.size);
  if (got < 0) {
    if (errno == EAGAIN) return;
    posix::throw_errno("read the child's output");
  }
  if (got == 0) {
    reader.close();
    return;
  }
  const std::string_view text{room.data, static_cast<std::size_t>(got)};
  size += text.size();
  // Who has much to say gets a larger pipe, so that we need not change places so often.
  if (may_grow_pipe && size >= (std::size_t{1} << 20)) {
    may_grow_pipe = false;
    posix::try_set_pipe_size(reader.fileno(), 1 << 20);
  }
  if (sink) {
    sink_has_thrown = true;
    sink(text);
    sink_has_thrown = false;
  } else {
    collected.commit(text.size());
  }
}

inline void Exchange::set_input(std::string_view input) {
  early_ = in.take_buffer();
  input_ = input;
  if (!early_.empty()) {
    early_ += input;
    input_ = early_;
  }
  if (in && !input_.empty()) posix::set_nonblocking(in.fileno(), true);
}

inline void Exchange::keep_input() {
  std::string rest{input_};
  kept_ = std::move(rest);
  input_ = kept_;
}

inline void Exchange::feed() {
  if (!input_.empty()) {
    const posix::SuppressSigpipe no_sigpipe;
    const ssize_t size = posix::write_some(in.fileno(), input_.data(), input_.size());
    if (size >= 0)
      input_.remove_prefix(static_cast<std::size_t>(size));
    else if (errno == EPIPE)
      input_ = {};  // it has read all that it wanted
    else if (errno != EAGAIN)
      posix::throw_errno("write to the child's input");
  }
  if (input_.empty()) in.abandon();
}

inline bool Exchange::run(const posix::Deadline& deadline, int until) {
  if (in && input_.empty()) in.abandon();
  for (;;) {
    pollfd fds[4];
    std::size_t count = 0;
    int in_at = -1;
    int out_at = -1;
    int err_at = -1;
    const auto watch = [&](int fd, short events) {
      fds[count] = {fd, events, 0};
      return static_cast<int>(count++);
    };
    if (in) in_at = watch(in.fileno(), POLLOUT);
    if (out.reader) out_at = watch(out.reader.fileno(), POLLIN);
    if (err.reader) err_at = watch(err.reader.fileno(), POLLIN);
    if (count == 0) return true;
    if (until >= 0) {
      watch(until, POLLIN);
    } else if (count == 1 && in_at < 0 && deadline.is_forever()) {
      (out_at >= 0 ? out : err).take();
      continue;
    }
    if (posix::poll_until(fds, count, deadline) == 0) return false;
    if (in_at >= 0 && fds[in_at].revents != 0) feed();
    if (out_at >= 0 && fds[out_at].revents != 0) out.take(fds[out_at].revents);
    if (err_at >= 0 && fds[err_at].revents != 0) err.take(fds[err_at].revents);
    if (until >= 0 && fds[count - 1].revents != 0) {
      drain();
      return true;
    }
    if (deadline.expired()) return !in && !out.reader && !err.reader;
  }
}

inline void Exchange::drain() {
  for (Intake* const intake : {&out, &err}) {
    if (!intake->reader) continue;
    // As much as lies there now: others that hold the pipe may go on writing for ever.
    int there = 0;
    if (::ioctl(intake->reader.fileno(), FIONREAD, &there) != 0) there = 1 << 20;
    const std::size_t enough = intake->size + static_cast<std::size_t>(there);
    while (intake->reader && posix::wait_readable(intake->reader.fileno(),
                                                  posix::Deadline{std::chrono::nanoseconds{0}})) {
      intake->take();
      if (intake->size >= enough) break;
    }
  }
}

}  // namespace brood::subprocess
