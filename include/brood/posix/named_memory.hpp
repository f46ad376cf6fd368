// SPDX-License-Identifier: MIT
// Shared memory with a name (shm_open(3)), of which <sys/mman.h> and the C library are spared the
// one function that older ones keep in a library of its own.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "fd.hpp"

namespace brood::posix {

/// The file that is the memory of that name: Linux keeps it in a tmpfs.
inline std::string named_memory_path(const std::string& name) {
  const std::size_t start = name.find_first_not_of('/');  // as shm_open
  if (start == std::string::npos || name.find('/', start) != std::string::npos)
    throw_os_error(EINVAL, "name shared memory", name);
  return "/dev/shm/" + name.substr(start);
}

/// `flags`: O_RDWR, and O_CREAT | O_EXCL to make it, empty and for this user. Throws os::OSError:
/// FileExistsError, FileNotFoundError, PermissionError.
inline unique_fd open_named_memory(const std::string& name, int flags) {
  const std::string path = named_memory_path(name);
  unique_fd fd{
      retry_on_eintr([&] { return ::open(path.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, 0600); })};
  if (!fd) throw_errno("open shared memory", name);
  keep_off_standard_streams(fd);
  return fd;
}

/// Removes the name; the memory lives as long as somebody has it open or mapped. Throws
/// os::OSError.
inline void unlink_named_memory(const std::string& name) {
  if (::unlink(named_memory_path(name).c_str()) != 0) throw_errno("unlink shared memory", name);
}

}  // namespace brood::posix
