// SPDX-License-Identifier: MIT
// Exceptions of the standard library whose headers are dear to compile, registered as by
// register_exception(): in a program that includes this anywhere they come back from other
// processes as what they are, and not as a futures::RemoteError.
//
// They are std::bad_any_cast, std::bad_function_call, std::bad_variant_access, std::bad_weak_ptr,
// and with their codes std::future_error and std::regex_error. What what() says is made anew.
#pragma once

#include <any>
#include <functional>
#include <future>
#include <memory>
#include <regex>
#include <variant>

#include "futures/remote_exception.hpp"
#include "serialization/hooks.hpp"
#include "serialization/reader.hpp"

template <>
struct brood::serialization::Serializer<std::bad_variant_access> {
  template <class Out>
  static void write(Out&, const std::bad_variant_access&) {}
  static std::bad_variant_access read(Reader&) { return {}; }
};

template <>
struct brood::serialization::Serializer<std::future_error> {
  template <class Out>
  static void write(Out& out, const std::future_error& error) {
    out(error.code().value());
  }
  static std::future_error read(Reader& in) {
    return std::future_error{static_cast<std::future_errc>(in.read<int>())};
  }
};

template <>
struct brood::serialization::Serializer<std::regex_error> {
  template <class Out>
  static void write(Out& out, const std::regex_error& error) {
    out(static_cast<int>(error.code()));
  }
  static std::regex_error read(Reader& in) {
    return std::regex_error{static_cast<std::regex_constants::error_type>(in.read<int>())};
  }
};

namespace brood {

inline const bool standard_exceptions_registered =
    register_exception<std::bad_any_cast>() && register_exception<std::bad_function_call>() &&
    register_exception<std::bad_variant_access>() && register_exception<std::bad_weak_ptr>() &&
    register_exception<std::future_error>() && register_exception<std::regex_error>();

}  // namespace brood
