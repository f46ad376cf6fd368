// SPDX-License-Identifier: MIT
#pragma once

#include <sys/stat.h>

namespace brood::posix {

/// What a descriptor names, to notice when other code of the process has closed it (closefrom(3))
/// and its number may mean another file by now. Files without a place in a file system, as eventfd
/// and epoll make them, all count as the same.
class FileIdentity {
 public:
  FileIdentity() noexcept = default;
  explicit FileIdentity(int fd) noexcept { known_ = ::fstat(fd, &file_) == 0; }

  /// Whether `fd` still names that file.
  bool is_of(int fd) const noexcept {
    struct stat now {};
    return known_ && ::fstat(fd, &now) == 0 && now.st_ino == file_.st_ino &&
           now.st_dev == file_.st_dev;
  }

 private:
  struct stat file_ {};
  bool known_ = false;
};

}  // namespace brood::posix
