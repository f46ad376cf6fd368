// SPDX-License-Identifier: MIT
// Memory shared with the processes that will be forked, or that are handed its descriptor.
#pragma once

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdio>
#include <utility>

#include "exchange.hpp"
#include "fd.hpp"

namespace brood::posix {

/// Throws the os::OSError of what failed: "map 4096 bytes of shared memory".
[[noreturn]] [[gnu::cold]] inline void throw_memory_error(int error, const char* attempt,
                                                          std::size_t size) {
  char text[80];
  std::snprintf(text, sizeof text, "%s %zu bytes of shared memory", attempt, size);
  throw_os_error(error, text);
}

/// A shared mapping of a descriptor.
class Mapping {
 public:
  Mapping() noexcept = default;
  /// Maps `size` bytes of `fd`, readable and writable. Only pages that are touched take memory.
  /// Throws os::OSError (ENOMEM: also a limit on the address space).
  Mapping(int fd, std::size_t size) : size_{size} {
    void* const address =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (address == MAP_FAILED) throw_memory_error(errno, "map", size);
    data_ = static_cast<std::byte*>(address);
  }
  Mapping(Mapping&& other) noexcept
      : data_{posix::exchange(other.data_, nullptr)},
        size_{posix::exchange(other.size_, std::size_t{0})} {}
  Mapping& operator=(Mapping&& other) noexcept {
    posix::swap(data_, other.data_);
    posix::swap(size_, other.size_);
    return *this;
  }
  ~Mapping() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Gives the file of shared memory its size. Throws os::OSError.
inline void set_file_size(int fd, std::size_t size) {
  // A limit on the size of files holds here too, and ftruncate() beyond it raises SIGXFSZ.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && size > limit.rlim_cur)
    throw_memory_error(EFBIG, "make", size);
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) throw_memory_error(errno, "make", size);
}

/// How large the file of shared memory is. Throws os::OSError.
inline std::size_t file_size(int fd) {
  struct stat file {};
  check(::fstat(fd, &file), "look at shared memory");
  return static_cast<std::size_t>(file.st_size);
}

/// Memory without a name in any file system, of `size` bytes of which none is taken yet. Throws
/// os::OSError.
inline unique_fd make_memory_file(const char* label, std::size_t size) {
  unique_fd fd = own_new(::memfd_create(label, MFD_CLOEXEC), "memfd_create");
  set_file_size(fd.get(), size);
  return fd;
}

/// Takes the memory of a range now, so that touching it later cannot fail (a full machine would
/// answer that with SIGBUS). 0, or the errno.
inline int reserve_memory(int fd, std::size_t offset, std::size_t size) noexcept {
  // A piece at a time: before Linux 6.9 a signal makes the call take back all that it has done, so
  // with a timer of a few milliseconds, as profilers have, a large one would never end.
  constexpr std::size_t piece = std::size_t{1} << 20;
  for (const std::size_t end = offset + size; offset != end;) {
    const std::size_t part = end - offset < piece ? end - offset : piece;
    const int result = retry_on_eintr(
        [&] { return ::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(part)); });
    if (result != 0) return errno;
    offset += part;
  }
  return 0;
}

/// The same for a whole file of `size` bytes. Throws os::OSError (ENOSPC, ENOMEM: there is not so
/// much memory; the kernel itself would try for that until it has killed somebody).
inline void reserve_whole(int fd, std::size_t size) {
  const auto pages = static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES));
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const int error = size / page > pages ? ENOMEM : reserve_memory(fd, 0, size);
  if (error != 0) throw_memory_error(error, "reserve", size);
}

/// About to write to a mapped range of pages that are reserved: maps them all at once, which takes
/// a fraction of the time that a fault for each takes. Nothing before Linux 5.14.
inline void expect_writing(void* data, std::size_t size) noexcept {
#ifdef MADV_POPULATE_WRITE
  constexpr int populate_write = MADV_POPULATE_WRITE;
#else
  constexpr int populate_write = 23;
#endif
  const int before = errno;
  ::madvise(data, size, populate_write);
  errno = before;
}

/// Gives the memory of a range back; it reads as zeros from now on.
inline void release_memory(int fd, std::size_t offset, std::size_t size) noexcept {
  ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
              static_cast<off_t>(size));
}

}  // namespace brood::posix
