// SPDX-License-Identifier: MIT
// What multiprocessing throws of its own.
#pragma once

#include "../posix/error.hpp"
#include "../queue_errors.hpp"
#include "../timeout.hpp"

namespace brood::multiprocessing {

/// Something is wrong with other processes (Python: multiprocessing.ProcessError). The
/// std::runtime_error is a virtual base: see brood::TimeoutError.
class ProcessError : public virtual std::runtime_error {
 public:
  explicit ProcessError(const std::string& what) : std::runtime_error{what} {}
};

/// Nothing here throws it, for there is no Listener; a program that has one of its own can. Python:
/// multiprocessing.AuthenticationError.
class AuthenticationError : public ProcessError {
 public:
  explicit AuthenticationError(const std::string& what)
      : std::runtime_error{what}, ProcessError{what} {}
};

/// A wait of multiprocessing ran out; also a brood::TimeoutError.
class TimeoutError : public ProcessError, public brood::TimeoutError {
 public:
  explicit TimeoutError(const std::string& what)
      : std::runtime_error{what}, ProcessError{what}, brood::TimeoutError{what} {}
};

}  // namespace brood::multiprocessing
