// SPDX-License-Identifier: MIT
// Our ends of the pipes to a child: Writer to its input, Reader of its output.
//
//     subprocess::Popen sort({"sort"}, {.in = subprocess::PIPE, .out = subprocess::PIPE});
//     sort.in.write("b\na\n");
//     sort.in.close();
//     for (const std::string& line : sort.out.lines()) fmt::print("{}", line);
//
// One thread at a time may use a stream. A closed one throws std::invalid_argument from every call
// but close() and operator bool. Python counterpart: io.BufferedWriter and io.BufferedReader.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

#include "../posix/byte_chunks.hpp"
#include "../posix/fd.hpp"
#include "../posix/poll.hpp"
#include "../posix/signals.hpp"

namespace brood::subprocess {

/// Collects what is written and hands it to the pipe in large pieces. SIGPIPE is never raised.
class Writer {
 public:
  Writer() noexcept = default;
  explicit Writer(posix::unique_fd fd) noexcept : fd_{std::move(fd)} {}
  Writer(Writer&&) noexcept = default;
  Writer& operator=(Writer&& other) noexcept {
    close_quietly();
    fd_ = std::move(other.fd_);
    buffer_ = std::move(other.buffer_);
    return *this;
  }
  /// Closes; what cannot be flushed is lost.
  ~Writer() { close_quietly(); }

  /// Takes all of `text`; blocks while the pipe and the buffer are full. Throws
  /// os::BrokenPipeError when the reader is gone.
  void write(std::string_view text);

  /// Hands what is buffered to the pipe. Blocks and throws as write().
  void flush();

  /// The descriptor, which stays this object's.
  int fileno() const {
    require_open();
    return fd_.get();
  }

  /// Flushes and closes: the reader sees the end. It is closed also when the flush throws.
  void close();

  /// Whether it is open.
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  /// For communicate(): what is buffered, which is the caller's to write from now on.
  std::string take_buffer() noexcept {
    std::string taken;
    taken.swap(buffer_);
    return taken;
  }
  /// Closes without flushing.
  void abandon() noexcept {
    buffer_.clear();
    fd_.reset();
  }

 private:
  static constexpr std::size_t buffer_size = 8192;

  void require_open() const {
    if (!fd_) throw std::invalid_argument{"Writer: it is closed, or no pipe was asked for"};
  }
  void write_through(std::string_view text);
  void close_quietly() noexcept {
    try {
      close();
    } catch (const std::exception&) {  // a destructor has nobody to tell
    }
  }

  posix::unique_fd fd_;
  std::string buffer_;
};

class Reader {
 public:
  class Lines;

  Reader() noexcept = default;
  explicit Reader(posix::unique_fd fd) noexcept : fd_{std::move(fd)} {}
  Reader(Reader&&) noexcept = default;
  Reader& operator=(Reader&&) noexcept = default;

  /// Everything up to the end. Blocks. Throws os::OSError, as all reading does.
  std::string read();
  /// `size` bytes, less only at the end. Blocks.
  std::string read(std::size_t size);
  /// The next line with its newline; the last one may have none; "" is the end. Blocks.
  std::string readline();
  /// The remaining lines, each as readline() gives it, as a range to go through once. The Popen
  /// must live as long: of one without a name they do not compile.
  Lines lines() &;
  Lines lines() && = delete;

  /// The descriptor, which stays this object's. It does not know of what is buffered here.
  int fileno() const {
    require_open();
    return fd_.get();
  }

  void close() noexcept {
    fd_.reset();
    buffer_.clear();
    begin_ = end_ = 0;
  }

  /// Whether it is open.
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  /// For communicate(): what was read ahead.
  std::string take_buffer() {
    std::string rest = buffer_.substr(begin_, end_ - begin_);
    begin_ = end_ = 0;
    return rest;
  }

 private:
  static constexpr std::size_t buffer_size = std::size_t{16} << 10;

  void require_open() const {
    if (!fd_) throw std::invalid_argument{"Reader: it is closed, or no pipe was asked for"};
  }
  /// Reads into an empty buffer; false at the end.
  bool fill();

  posix::unique_fd fd_;
  std::string buffer_;  // what lies from begin_ to end_ was read and not asked for yet
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

/// An input range of lines.
class Reader::Lines {
 public:
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = std::string;
    using difference_type = std::ptrdiff_t;

    iterator() noexcept = default;
    explicit iterator(Reader& reader) : reader_{&reader} { ++*this; }
    iterator(iterator&&) noexcept = default;
    iterator& operator=(iterator&&) noexcept = default;

    std::string& operator*() const noexcept { return line_; }
    iterator& operator++() {
      line_ = reader_->readline();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& position, std::default_sentinel_t) noexcept {
      return position.line_.empty();
    }

   private:
    Reader* reader_ = nullptr;
    mutable std::string line_;
  };

  explicit Lines(Reader& reader) noexcept : reader_{&reader} {}
  iterator begin() const { return iterator{*reader_}; }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  Reader* reader_;
};

inline void Writer::write(std::string_view text) {
  require_open();
  if (buffer_.size() + text.size() < buffer_size) {
    buffer_ += text;
    return;
  }
  flush();
  if (text.size() < buffer_size)
    buffer_ = text;
  else
    write_through(text);
}

inline void Writer::flush() {
  require_open();
  struct Emptying {
    std::string& buffer;
    ~Emptying() { buffer.clear(); }
  } emptying{buffer_};  // also when what it held can't be written
  write_through(buffer_);
}

inline void Writer::close() {
  if (!fd_) return;
  struct Closing {
    Writer& writer;
    ~Closing() { writer.abandon(); }
  } closing{*this};
  flush();
}

inline void Writer::write_through(std::string_view text) {
  if (text.empty()) return;
  const posix::SuppressSigpipe no_sigpipe;
  while (!text.empty()) {
    const ssize_t size = posix::write_some(fd_.get(), text.data(), text.size());
    if (size >= 0) {
      text.remove_prefix(static_cast<std::size_t>(size));
    } else if (errno == EAGAIN) {  // communicate() made it non-blocking
      pollfd entry{fd_.get(), POLLOUT, 0};
      posix::poll_until(&entry, 1, posix::Deadline{forever});
    } else {
      posix::throw_errno("write to the child's input");
    }
  }
}

inline bool Reader::fill() {
  if (buffer_.empty()) buffer_.resize(buffer_size);
  begin_ = end_ = 0;
  const ssize_t size = posix::read_some(fd_.get(), buffer_.data(), buffer_.size());
  if (size < 0) posix::throw_errno("read the child's output");
  end_ = static_cast<std::size_t>(size);
  return size > 0;
}

inline std::string Reader::read() {
  require_open();
  posix::ByteChunks chunks;
  chunks.append(take_buffer());
  for (;;) {
    const auto room = chunks.space();
    const ssize_t size = posix::read_some(fd_.get(), room.data, room.size);
    if (size < 0) posix::throw_errno("read the child's output");
    if (size == 0) return chunks.take();
    chunks.commit(static_cast<std::size_t>(size));
  }
}

inline std::string Reader::read(std::size_t size) {
  require_open();
  std::string result;
  while (result.size() < size && (begin_ < end_ || fill())) {
    const std::size_t missing = size - result.size();
    const std::size_t part = missing < end_ - begin_ ? missing : end_ - begin_;
    result.append(buffer_, begin_, part);
    begin_ += part;
  }
  return result;
}

inline std::string Reader::readline() {
  require_open();
  std::string line;
  while (begin_ < end_ || fill()) {
    const char* const begin = buffer_.data() + begin_;
    const void* const newline = std::memchr(begin, '\n', end_ - begin_);
    const std::size_t part =
        newline == nullptr
            ? end_ - begin_
            : static_cast<std::size_t>(static_cast<const char*>(newline) - begin) + 1;
    line.append(begin, part);
    begin_ += part;
    if (newline != nullptr) break;
  }
  return line;
}

inline Reader::Lines Reader::lines() & {
  require_open();
  return Lines{*this};
}

}  // namespace brood::subprocess
