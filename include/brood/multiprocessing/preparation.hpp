// SPDX-License-Identifier: MIT
// What a launched process is told: this record, then the texts that it gives the sizes of, then the
// bytes that its function reads. If texts and bytes are long they lie in a file instead. Python
// counterpart: the preparation data of multiprocessing.spawn.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "../posix/code.hpp"
#include "../serialization/error.hpp"

namespace brood::multiprocessing {

struct PreparationRecord {
  static constexpr std::uint64_t expected_magic = 0x62726f6f642d7031;  // "brood-p1"

  std::uint64_t magic = expected_magic;
  posix::CodePlace entry = {};
  std::uint64_t code_module = 0;   // that must be loaded besides the entry's; 0: none
  std::uint64_t parent = 0;        // its ProcessIdentity
  std::uint64_t server = 0;        // that of the fork server
  std::uint32_t start_method = 0;  // the default
  std::uint32_t is_daemon = 0;
  // Numbers of descriptors, or Reduction::no_descriptor:
  std::uint32_t orders = 0;     // to the fork server
  std::uint32_t directory = 0;  // the working one
  std::uint32_t spool = 0;      // the file with texts and bytes, if they do not follow
  // Sizes of the texts that follow:
  std::uint32_t identity = 0;  // numbers of 4 bytes
  std::uint32_t name = 0;
  std::uint32_t parent_name = 0;
  std::uint32_t entry_path = 0;  // files of the two modules
  std::uint32_t code_path = 0;
  char command[16] = {};  // as the system lists the process; ends with NUL
};

/// The texts of a message in their order.
class PreparationTexts {
 public:
  /// Throws SerializationError if this is no such message.
  explicit PreparationTexts(std::string_view message) : rest_{message} {
    if (rest_.size() < sizeof record) serialization::throw_error("this prepares no process");
    std::memcpy(&record, rest_.data(), sizeof record);
    if (record.magic != PreparationRecord::expected_magic || record.command[15] != '\0')
      serialization::throw_error("this prepares no process, or one of another version of brood");
    rest_.remove_prefix(sizeof record);
  }

  std::string_view take(std::size_t size) {
    if (size > rest_.size()) serialization::throw_error("truncated input", size, rest_.size());
    const std::string_view text = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return text;
  }
  std::string_view rest() const noexcept { return rest_; }
  /// The texts lie elsewhere: in `bytes`.
  void go_on_with(std::string_view bytes) noexcept { rest_ = bytes; }

  PreparationRecord record;

 private:
  std::string_view rest_;
};

}  // namespace brood::multiprocessing
