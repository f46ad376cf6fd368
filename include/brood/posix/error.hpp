// SPDX-License-Identifier: MIT
// errno as exceptions. Every failed system call of brood ends in throw_os_error(), which picks
// the class, as Python's OSError constructor does.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>
#include <typeinfo>

namespace brood::os {

/// A system call failed. what() reads "ATTEMPT 'SUBJECT': REASON"; code().value() is the errno.
/// Python counterpart: OSError, with its errno and filename.
class OSError : public std::system_error {
 public:
  /// `attempt` is what was tried ("open"), `filename` the object of it, which may be empty.
  OSError(int error, const std::string& attempt, const std::string& filename = {})
      : std::system_error{error, std::generic_category(),
                          filename.empty() ? attempt : attempt + " '" + filename + "'"},
        filename_{filename} {}

  /// What the call was about: a path, a program, a directory. Empty when there is none.
  const std::string& filename() const noexcept { return filename_; }

 private:
  std::string filename_;
};

class FileNotFoundError : public OSError {  ///< ENOENT
 public:
  using OSError::OSError;
};
class FileExistsError : public OSError {  ///< EEXIST
 public:
  using OSError::OSError;
};
class PermissionError : public OSError {  ///< EACCES, EPERM
 public:
  using OSError::OSError;
};
class ProcessLookupError : public OSError {  ///< ESRCH
 public:
  using OSError::OSError;
};
class ChildProcessError : public OSError {  ///< ECHILD
 public:
  using OSError::OSError;
};
class BrokenPipeError : public OSError {  ///< EPIPE, ESHUTDOWN
 public:
  using OSError::OSError;
};

}  // namespace brood::os

namespace brood::posix {

/// Throws the os::OSError class that belongs to `error`.
[[noreturn]] inline void throw_os_error(int error, const std::string& attempt,
                                        const std::string& subject = {}) {
  switch (error) {
    case ENOENT:
      throw os::FileNotFoundError{error, attempt, subject};
    case EEXIST:
      throw os::FileExistsError{error, attempt, subject};
    case EACCES:
    case EPERM:
      throw os::PermissionError{error, attempt, subject};
    case ESRCH:
      throw os::ProcessLookupError{error, attempt, subject};
    case ECHILD:
      throw os::ChildProcessError{error, attempt, subject};
    case EPIPE:
    case ESHUTDOWN:
      throw os::BrokenPipeError{error, attempt, subject};
    default:
      throw os::OSError{error, attempt, subject};
  }
}

/// Throws for the present errno.
[[noreturn]] inline void throw_errno(const char* attempt, const std::string& subject = {}) {
  throw_os_error(errno, attempt, subject);
}

/// Whether these are the errors that throw_os_error() throws, by their class.
inline bool is_os_error(const std::type_info& type) noexcept {
  return type == typeid(os::OSError) || type == typeid(os::FileNotFoundError) ||
         type == typeid(os::FileExistsError) || type == typeid(os::PermissionError) ||
         type == typeid(os::ProcessLookupError) || type == typeid(os::ChildProcessError) ||
         type == typeid(os::BrokenPipeError);
}

inline void cut_suffix(std::string& text, const std::string& suffix) {
  if (text.size() >= suffix.size() &&
      text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0)
    text.resize(text.size() - suffix.size());
}

/// What was tried: the text of an error without what its constructor has added, the subject of an
/// os::OSError and the message of the code.
inline std::string attempt_of(const std::system_error& error, const std::string& subject) {
  std::string text = error.what();
  cut_suffix(text, ": " + error.code().message());
  if (!subject.empty()) cut_suffix(text, " '" + subject + "'");
  return text;
}

/// For a handler of `error`: throws it anew, with `attempt`, which it has brought to nought, before
/// its text: "start process washer: make a pipe: Too many open files". One of a class of the user's
/// own, from a Serializer, goes on as it is.
[[noreturn]] inline void throw_within(std::string attempt, const os::OSError& error) {
  if (!is_os_error(typeid(error))) throw;
  attempt += ": ";
  attempt += attempt_of(error, error.filename());
  throw_os_error(error.code().value(), attempt, error.filename());
}

/// The result of a system call, or an exception if it is negative (as most report failure).
template <class Result>
Result check(Result result, const char* attempt) {
  if (result < 0) throw_errno(attempt);
  return result;
}

/// Calls `f` again as long as a signal interrupts it.
template <class F>
auto retry_on_eintr(F f) noexcept -> decltype(f()) {
  for (;;) {
    auto result = f();
    if (result >= 0 || errno != EINTR) return result;
  }
}

/// Whether `error` is how a kernel, a container or a seccomp filter says "there is no such call".
inline bool means_unsupported(int error) noexcept {
  return error == ENOSYS || error == EINVAL || error == EPERM;
}

}  // namespace brood::posix
