// SPDX-License-Identifier: MIT
// Types and exceptions as text: "std::runtime_error: out of soap".
#pragma once

#include <cxxabi.h>

#include <cstdlib>
#include <exception>
#include <string>
#include <typeinfo>

namespace brood::posix {

/// The name of a type as one writes it, from typeid(T).name(); what cannot be read comes back as
/// it is.
inline std::string demangle(const char* mangled) {
  int status = 0;
  char* const readable = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string name{status == 0 && readable != nullptr ? readable : mangled};
  std::free(readable);
  return name;
}

/// The last line of a Python traceback: "TYPE: MESSAGE", or the type alone when there is no
/// message to be had. TYPE is the one that was thrown. A null pointer is "no exception".
inline std::string describe(const std::exception_ptr& error) {
  if (!error) return "no exception";
  const auto type = [] {
    const std::type_info* const thrown = abi::__cxa_current_exception_type();
    return thrown == nullptr ? std::string{"unknown exception"} : demangle(thrown->name());
  };
  const auto with_message = [&](const std::string& message) {
    return message.empty() ? type() : type() + ": " + message;
  };
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    return with_message(exception.what());
  } catch (const std::string& message) {
    return with_message(message);
  } catch (const char* message) {
    return with_message(message == nullptr ? "" : message);
  } catch (...) {
    return type();
  }
}

}  // namespace brood::posix
