// SPDX-License-Identifier: MIT
// Types and exceptions as text: "std::runtime_error: out of soap".
#pragma once

#include <cxxabi.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <typeinfo>

namespace brood::posix {

/// A type's name as the compiler or the demangler gives it, in the way one writes it: "std::string"
/// for "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >", and no
/// other default arguments either.
inline std::string shorten_type(const char* text, std::size_t size) {
  std::string name(text, size);
  // (string::replace() of a literal makes GCC 12 warn of what cannot be, where it optimises.)
  const auto replace = [&name](const char* from, const char* to) {
    std::string replaced;
    std::size_t done = 0;
    for (std::size_t at; (at = name.find(from, done)) != std::string::npos;) {
      replaced.append(name, done, at - done);
      replaced.append(to);
      done = at + std::strlen(from);
    }
    replaced.append(name, done, std::string::npos);
    name.swap(replaced);
  };
  replace("std::__cxx11::", "std::");
  for (const char* const argument :
       {", std::char_traits<", ", std::allocator<", ", std::less<", ", std::hash<",
        ", std::equal_to<", ", std::default_delete<"}) {
    for (std::size_t at = 0; (at = name.find(argument, at)) != std::string::npos;) {
      std::size_t end = at + std::strlen(argument);
      for (int open = 1; end < name.size() && open != 0; ++end)
        open += name[end] == '<' ? 1 : name[end] == '>' ? -1 : 0;
      name.erase(at, end - at);
    }
  }
  replace(" >", ">");
  replace("std::basic_string<char>", "std::string");
  replace("std::basic_string_view<char>", "std::string_view");
  replace("std::basic_string<wchar_t>", "std::wstring");
  return name;
}

/// The name of a type as one writes it, from typeid(T).name(); what cannot be read comes back as
/// it is.
inline std::string demangle(const char* mangled) {
  int status = 0;
  struct Readable {
    ~Readable() { std::free(text); }
    char* const text;
  } const readable{abi::__cxa_demangle(mangled, nullptr, nullptr, &status)};
  const char* const name = status == 0 && readable.text != nullptr ? readable.text : mangled;
  return shorten_type(name, std::strlen(name));
}

/// In a handler: the type of what was thrown; of what std::throw_with_nested has thrown, that of
/// its argument. Null when that is none of C++.
inline const std::type_info* thrown_type() noexcept {
  const std::type_info* const thrown = abi::__cxa_current_exception_type();
  constexpr char nested[] = "St17_Nested_exceptionI";  // a class of libstdc++'s own
  if (thrown == nullptr || std::strncmp(thrown->name(), nested, sizeof nested - 1) != 0)
    return thrown;
  // It is derived from the argument's class, then from std::nested_exception.
  const auto* const type = dynamic_cast<const abi::__vmi_class_type_info*>(thrown);
  return type == nullptr ? thrown : type->__base_info[0].__base_type;
}

/// The last line of a Python traceback: "TYPE: MESSAGE", or the type alone when there is no
/// message to be had. TYPE is thrown_type(). A null pointer is "no exception".
inline std::string describe(const std::exception_ptr& error) {
  if (!error) return "no exception";
  const auto type = [] {
    const std::type_info* const thrown = thrown_type();
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
