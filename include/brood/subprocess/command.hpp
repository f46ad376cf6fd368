// SPDX-License-Identifier: MIT
// What to run.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace brood::subprocess {

/// A program and its arguments: {"ls", "-l"}, a vector of strings, or one string, which is the name
/// of a program, never split; with Options::shell it is a line for the shell, and further strings
/// are the line's $0, $1, ... Python counterpart: the `args` argument.
class Command {
 public:
  Command(std::initializer_list<std::string> args) : args_{args} {}   // NOLINT
  Command(std::vector<std::string> args) : args_{std::move(args)} {}  // NOLINT
  template <class Text>
  requires std::is_convertible_v<const Text&, std::string_view> Command(
      const Text& program_or_line)  // NOLINT
      : args_{std::string{static_cast<std::string_view>(program_or_line)}} {}
  /// A path, as std::filesystem's: the program. It is no shell line.
  template <class Path>
  requires std::is_convertible_v<decltype(std::declval<const Path&>().native()), std::string>
  Command(const Path& program) : Command{std::string{program.native()}} {  // NOLINT
    is_path_ = true;
  }

  const std::vector<std::string>& args() const noexcept { return args_; }
  bool is_path() const noexcept { return is_path_; }

 private:
  std::vector<std::string> args_;
  bool is_path_ = false;
};

/// One line that a shell would split into `args` again. Python counterpart: shlex.join.
inline std::string shell_join(const std::vector<std::string>& args) {
  constexpr std::string_view plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_";
  std::string line;
  for (const std::string& argument : args) {
    if (&argument != args.data()) line += ' ';
    if (!argument.empty() && argument.find_first_not_of(plain) == std::string::npos) {
      line += argument;
      continue;
    }
    line += '\'';
    for (const char character : argument) {
      if (character == '\'')
        line += "'\"'\"'";
      else
        line += character;
    }
    line += '\'';
  }
  return line;
}

}  // namespace brood::subprocess
