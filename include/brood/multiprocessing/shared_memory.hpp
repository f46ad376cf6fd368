// SPDX-License-Identifier: MIT
// SharedMemory: bytes that processes share, with a name or without one. Python counterpart:
// multiprocessing.shared_memory.
//
//     mp::shared_memory::SharedMemory plate({.name = "plate", .create = true, .size = 512});
//     // in any other program of the same user:
//     mp::shared_memory::SharedMemory plate("plate");
//     plate.buf()[0] = std::byte{42};
//
// A name lives until it is unlinked, whoever has made it and whoever has died: nothing removes it
// behind anybody's back. Memory without a name goes with its last user, so none can be left behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "../identity.hpp"
#include "../posix/mapping.hpp"
#include "../posix/mutex.hpp"
#include "../posix/named_memory.hpp"
#include "../posix/ref.hpp"
#include "reduction.hpp"

namespace brood::multiprocessing::shared_memory {

struct SharedMemoryOptions {
  std::string name = {};  ///< As for a file, without '/'; a leading one is ignored. Empty: none.
  bool create = false;    ///< Make it; false: attach to that of the name.
  std::int64_t size = 0;  ///< Bytes, when it is made; it is all zeros then.
};

/// A handle: copies name the same mapping. Processes that are forked have it too.
class SharedMemory {
 public:
  /// Makes memory, readable and writable for this user, or attaches to it. Throws
  /// std::invalid_argument (a size below 1, neither a name nor `create`, a name with a 0 byte),
  /// os::FileExistsError, os::FileNotFoundError, os::OSError (EINVAL: no such name is possible;
  /// ENOSPC, ENOMEM: there is not so much memory).
  explicit SharedMemory(const SharedMemoryOptions& options)
      : state_{posix::make_ref<State>(options)} {}

  /// Attaches to the memory of that name.
  template <class Name>
  requires std::is_convertible_v<const Name&, std::string_view>
  explicit SharedMemory(const Name& name)
      : state_{posix::make_ref<State>(
            SharedMemoryOptions{.name = std::string{std::string_view{name}}})} {}

  /// For the Serializer: see Reduction.
  SharedMemory(serialization::Reader& in, Reduction& reduction);
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const;

  // Copied even when moved from, so that a handle always names something.
  SharedMemory(const SharedMemory&) noexcept = default;
  SharedMemory& operator=(const SharedMemory&) noexcept = default;

  /// Empty if it has none.
  const std::string& name() const noexcept { return state_->name; }
  /// How many bytes there are.
  std::size_t size() const noexcept { return state_->size; }

  /// The bytes, while this or another handle of the process is there; none after close().
  template <class Bytes = std::span<std::byte>>  // a template, as a span is dear to compile
  Bytes buf() const {
    const posix::Locked lock{state_->mutex};
    return {state_->mapping.data(), state_->mapping.size()};
  }

  /// This process does not use it any more: no handle of it has bytes from now on, and what buf()
  /// has returned must not be touched. One with a name can still be an argument of a new process,
  /// which attaches to the memory of that name.
  void close() const {
    const posix::Locked lock{state_->mutex};
    const posix::Mapping dropped{std::move(state_->mapping)};
    state_->file.reset();
  }

  /// Removes the name; those who are attached are not concerned. Nothing to do for memory without
  /// one. Throws os::FileNotFoundError if that was done already.
  void unlink() const {
    if (!name().empty()) posix::unlink_named_memory(name());
  }

  /// The descriptor of the memory, -1 after close(): another process that is handed it can map it.
  int fileno() const {
    const posix::Locked lock{state_->mutex};
    return state_->file.get();
  }

  /// Whether two handles name the same mapping.
  friend bool operator==(const SharedMemory&, const SharedMemory&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return state_.get(); }

 private:
  struct State final : posix::RefCounted {
    explicit State(const SharedMemoryOptions& options);
    State(std::string_view known_as, posix::unique_fd there, std::size_t bytes)
        : name{known_as}, size{bytes}, file{std::move(there)}, mapping{file.get(), size} {}
    void make(std::int64_t wanted);
    void attach();
    void map() { mapping = posix::Mapping{file.get(), size}; }

    std::string name;
    std::size_t size = 0;
    posix::Mutex mutex;  // guards the two below, against close()
    posix::unique_fd file;
    posix::Mapping mapping;
  };

  // The name follows it.
  struct Reduced {
    std::uint64_t file;  // the number of its descriptor, or none: it was closed
    std::uint64_t size;
    std::uint64_t name_size;
  };

  posix::Ref<State> state_;
};

template <class Out>
void SharedMemory::reduce(Out& out, Reduction& reduction) const {
  const int fd = fileno();
  if (fd < 0 && name().empty())
    posix::throw_os_error(EBADF, "pass on shared memory without a name: it was closed");
  const Reduced numbers{fd < 0 ? Reduction::no_descriptor : reduction.add(fd), size(),
                        name().size()};
  out.write_bytes(&numbers, sizeof numbers);
  out.write_bytes(name().data(), name().size());
}

inline SharedMemory::SharedMemory(serialization::Reader& in, Reduction& reduction) {
  const auto numbers = multiprocessing::read_plain<Reduced>(in);
  const std::string_view name = in.read_bytes(static_cast<std::size_t>(numbers.name_size));
  if (numbers.file == Reduction::no_descriptor) {
    state_ = posix::make_ref<State>(SharedMemoryOptions{.name = std::string{name}});
    return;
  }
  state_ = reduction.once<State>(numbers.file, 0, [&] {
    posix::unique_fd file = reduction.take(numbers.file, S_IFREG);
    if (numbers.size == 0 || numbers.size > posix::file_size(file.get()))
      serialization::throw_error("shared memory of another size");
    return posix::make_ref<State>(name, std::move(file), static_cast<std::size_t>(numbers.size));
  });
}

inline SharedMemory::State::State(const SharedMemoryOptions& options) : name{options.name} {
  if (name.find('\0') != std::string::npos)
    throw std::invalid_argument{"name shared memory: there is a 0 byte in the name"};
  options.create ? make(options.size) : attach();
}

inline void SharedMemory::State::make(std::int64_t wanted) {
  if (wanted <= 0)
    throw std::invalid_argument{"make shared memory: its size is " + std::to_string(wanted) +
                                ", and must be at least 1"};
  size = static_cast<std::size_t>(wanted);
  if (name.empty()) {
    file = posix::make_memory_file("brood-shared", size);
    posix::reserve_whole(file.get(), size);
    return map();
  }
  file = posix::open_named_memory(name, O_RDWR | O_CREAT | O_EXCL);
  try {
    posix::set_file_size(file.get(), size);
    posix::reserve_whole(file.get(), size);
    map();
  } catch (...) {
    posix::unlink_named_memory(name);
    throw;
  }
}

inline void SharedMemory::State::attach() {
  if (name.empty())
    throw std::invalid_argument{
        "attach to shared memory: a name is needed, or .create (what was made "
        "without a name has none: pass the object)"};
  file = posix::open_named_memory(name, O_RDWR);
  struct stat found {};
  posix::check(::fstat(file.get(), &found), "look into shared memory");
  if (found.st_size <= 0)
    throw std::invalid_argument{"attach to shared memory '" + name + "': it is empty"};
  size = static_cast<std::size_t>(found.st_size);
  map();
}

}  // namespace brood::multiprocessing::shared_memory

template <>
struct brood::serialization::Serializer<brood::multiprocessing::shared_memory::SharedMemory>
    : brood::multiprocessing::HandleSerializer<
          brood::multiprocessing::shared_memory::SharedMemory> {};
