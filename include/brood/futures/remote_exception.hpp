// SPDX-License-Identifier: MIT
// Exceptions that cross from a worker process, with their types: the standard ones and brood's own
// as they come, a program's own once it has named them.
//
//     struct NoSoap : std::runtime_error { using std::runtime_error::runtime_error; };
//     const bool registered = brood::register_exception<NoSoap>();   // at namespace scope
//
// What is not known here arrives as a futures::RemoteError with the type's name and text. Of what
// std::throw_with_nested has thrown the outer exception crosses.
#pragma once

#include <atomic>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <typeinfo>

#include "../multiprocessing/errors.hpp"
#include "../posix/error.hpp"
#include "../posix/this_process.hpp"
#include "../posix/type_name.hpp"
#include "../serialization.hpp"
#include "process_errors.hpp"

namespace brood {

/// Lets exceptions of type E come back from other processes as what they are. E is Serializable, or
/// can be made from the std::string that its what() gives, or holds nothing and is made anew. (For
/// those of the standard library that are not known here, as std::regex_error, there is
/// <brood/standard_exceptions.hpp>.) Call it before a process pool is made. May be called from any
/// thread, also again. Returns true.
template <class E>
bool register_exception();

namespace futures {

/// The exception as bytes. Never throws anything but std::bad_alloc: what can't be written is
/// written as a RemoteError.
std::string dump_exception(const std::exception_ptr& error);

/// The exception back from bytes of dump_exception. Throws SerializationError.
std::exception_ptr load_exception(std::string_view bytes);

// ---------------------------------------------------------------------------------------------

/// How one type of exception crosses. Chained; never destroyed.
struct ExceptionCodec {
  const std::type_info* type;
  /// The value of `error`, which is of that very type, as bytes.
  std::string (*dump)(const std::exception_ptr& error);
  std::exception_ptr (*load)(serialization::Reader& in);
  ExceptionCodec* next = nullptr;

  /// The same in every process of one build.
  std::uint64_t id() const noexcept {
    std::uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (const char* at = type->name(); *at != '\0'; ++at)
      hash = (hash ^ static_cast<unsigned char>(*at)) * 1099511628211u;
    return hash | std::uint64_t{1} << 63;  // apart from the places of standard_exceptions
  }
};

namespace exception_codecs {

// Numbers and texts by hand: what the archives' templates need for them would be compiled by
// everybody who includes this.
inline void put(std::string& bytes, std::uint64_t number) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}
inline void put(std::string& bytes, const std::string& text) {
  put(bytes, text.size());
  bytes += text;
}
inline std::uint64_t take_number(serialization::Reader& in) {
  std::uint64_t number = 0;
  std::memcpy(&number, in.read_bytes(sizeof number).data(), sizeof number);
  return number;
}
inline std::string take_text(serialization::Reader& in) {
  const std::uint64_t size = take_number(in);
  const std::string_view text = in.read_bytes(size);
  return std::string(text.data(), text.size());
}

// Calls `f` with the exception as an E.
template <class E, class F>
std::string with_exception(const std::exception_ptr& error, F f) {
  try {
    std::rethrow_exception(error);
  } catch (const E& exception) {
    return f(exception);
  }
}

/// Made from its text.
template <class E>
ExceptionCodec from_text() {
  return {&typeid(E),
          [](const std::exception_ptr& error) {
            return with_exception<E>(error, [](const E& exception) {
              std::string bytes;
              put(bytes, exception.what());
              return bytes;
            });
          },
          [](serialization::Reader& in) { return std::make_exception_ptr(E(take_text(in))); }};
}

/// Crosses as it is.
template <class E>
ExceptionCodec from_value() {
  return {&typeid(E),
          [](const std::exception_ptr& error) {
            return with_exception<E>(error, [](const E& value) {
              std::string bytes(serialization::serialized_size(value), '\0');
              serialization::Writer{bytes.data(), bytes.size()}.write(value);
              return bytes;
            });
          },
          [](serialization::Reader& in) { return std::make_exception_ptr(in.read<E>()); }};
}

/// Holds nothing.
template <class E>
ExceptionCodec from_nothing() {
  return {&typeid(E), [](const std::exception_ptr&) { return std::string{}; },
          [](serialization::Reader&) { return std::make_exception_ptr(E{}); }};
}

inline std::atomic<ExceptionCodec*> registered{nullptr};  // pushed to the front; never shortened

inline const ExceptionCodec* find(const std::type_info& type) noexcept {
  const ExceptionCodec* codec = registered.load(std::memory_order_acquire);
  while (codec != nullptr && *codec->type != type) codec = codec->next;
  return codec;
}
inline const ExceptionCodec* find(std::uint64_t id) noexcept {
  const ExceptionCodec* codec = registered.load(std::memory_order_acquire);
  while (codec != nullptr && codec->id() != id) codec = codec->next;
  return codec;
}

}  // namespace exception_codecs

/// The types that cross as they come. Written out, as templates for each would be dear to compile.
namespace standard_exceptions {

// The place in this list, from 1 on, is what crosses, with the text behind it. throw_again() is its
// mirror.
inline std::uint64_t place_of(const std::type_info& type) noexcept {
  static const std::type_info* const types[] = {&typeid(std::runtime_error),
                                                &typeid(std::range_error),
                                                &typeid(std::overflow_error),
                                                &typeid(std::underflow_error),
                                                &typeid(std::logic_error),
                                                &typeid(std::invalid_argument),
                                                &typeid(std::domain_error),
                                                &typeid(std::length_error),
                                                &typeid(std::out_of_range),
                                                &typeid(std::exception),
                                                &typeid(std::bad_alloc),
                                                &typeid(std::bad_array_new_length),
                                                &typeid(std::bad_cast),
                                                &typeid(std::bad_typeid),
                                                &typeid(std::bad_exception),
                                                &typeid(std::bad_optional_access),
                                                &typeid(brood::TimeoutError),
                                                &typeid(brood::EOFError),
                                                &typeid(serialization::SerializationError),
                                                &typeid(queue::Empty),
                                                &typeid(queue::Full),
                                                &typeid(queue::ShutDown),
                                                &typeid(multiprocessing::ProcessError),
                                                &typeid(multiprocessing::TimeoutError),
                                                &typeid(CancelledError),
                                                &typeid(InvalidStateError),
                                                &typeid(BrokenExecutor),
                                                &typeid(BrokenThreadPool),
                                                &typeid(BrokenProcessPool)};
  std::uint64_t place = 0;
  for (const std::type_info* const known : types) {
    ++place;
    if (*known == type) return place;
  }
  return 0;
}

[[noreturn]] inline void throw_again(std::uint64_t place, const std::string& text) {
  switch (place) {
    case 1:
      throw std::runtime_error{text};
    case 2:
      throw std::range_error{text};
    case 3:
      throw std::overflow_error{text};
    case 4:
      throw std::underflow_error{text};
    case 5:
      throw std::logic_error{text};
    case 6:
      throw std::invalid_argument{text};
    case 7:
      throw std::domain_error{text};
    case 8:
      throw std::length_error{text};
    case 9:
      throw std::out_of_range{text};
    case 10:
      throw std::exception{};
    case 11:
      throw std::bad_alloc{};
    case 12:
      throw std::bad_array_new_length{};
    case 13:
      throw std::bad_cast{};
    case 14:
      throw std::bad_typeid{};
    case 15:
      throw std::bad_exception{};
    case 16:
      throw std::bad_optional_access{};
    case 17:
      throw brood::TimeoutError{text};
    case 18:
      throw brood::EOFError{text};
    case 19:
      throw serialization::SerializationError{text};
    case 20:
      throw queue::Empty{text};
    case 21:
      throw queue::Full{text};
    case 22:
      throw queue::ShutDown{text};
    case 23:
      throw multiprocessing::ProcessError{text};
    case 24:
      throw multiprocessing::TimeoutError{text};
    case 25:
      throw CancelledError{text};
    case 26:
      throw InvalidStateError{text};
    case 27:
      throw BrokenExecutor{text};
    case 28:
      throw BrokenThreadPool{text};
    case 29:
      throw BrokenProcessPool{text};
    default:
      throw serialization::SerializationError{"serialization: an exception of no known type"};
  }
}

// A std::system_error of the generic or the system category, and the os::OSError family, keep their
// code and filename; the text is taken apart and comes out the same. (Other categories are objects
// of the program, with no name that would find them on the other side.)
inline constexpr std::uint64_t os_error = 100, system_error = 101;

inline std::uint64_t place_of(const std::system_error& error, const std::type_info& type) noexcept {
  if (type == typeid(std::system_error)) {
    return error.code().category() == std::generic_category() ||
                   error.code().category() == std::system_category()
               ? system_error
               : 0;
  }
  return posix::is_os_error(type) ? os_error : 0;
}

inline void dump(std::string& bytes, const std::system_error& error) {
  const auto* const ours = dynamic_cast<const os::OSError*>(&error);
  const std::string filename = ours == nullptr ? std::string{} : ours->filename();
  using exception_codecs::put;
  put(bytes, static_cast<std::uint64_t>(error.code().value()));
  put(bytes, std::uint64_t{error.code().category() == std::generic_category()});
  put(bytes, posix::attempt_of(error, filename));
  put(bytes, filename);
}

/// What dump() has written.
struct SystemError {
  explicit SystemError(serialization::Reader& in)
      : code{static_cast<int>(exception_codecs::take_number(in))},
        generic{exception_codecs::take_number(in) != 0},
        text{exception_codecs::take_text(in)},
        filename{exception_codecs::take_text(in)} {}

  [[noreturn]] void throw_again(std::uint64_t place) const {
    if (place == os_error) posix::throw_os_error(code, text, filename);
    throw std::system_error{code, generic ? std::generic_category() : std::system_category(), text};
  }

  int code;
  bool generic;
  std::string text;
  std::string filename;
};

/// What `f` throws.
template <class F>
std::exception_ptr thrown_by(F f) {
  try {
    f();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

}  // namespace standard_exceptions

// What crosses: 0 and a RemoteError's parts; a place of standard_exceptions and what belongs to it;
// or the id of a registered type and what its codec wrote.
inline std::string dump_exception(const std::exception_ptr& error) {
  using exception_codecs::put;
  const std::type_info* type = nullptr;
  std::string bytes;
  std::string text = "unknown exception";
  try {
    std::rethrow_exception(error);
  } catch (const std::system_error& exception) {
    type = posix::thrown_type();
    const auto place = type == nullptr ? 0 : standard_exceptions::place_of(exception, *type);
    if (place != 0) {
      put(bytes, place);
      standard_exceptions::dump(bytes, exception);
      return bytes;
    }
    text = exception.what();
  } catch (const std::exception& exception) {
    type = posix::thrown_type();
    text = exception.what();
    const auto place = type == nullptr ? 0 : standard_exceptions::place_of(*type);
    if (place != 0) {
      put(bytes, place);
      put(bytes, text);
      return bytes;
    }
  } catch (...) {
    type = posix::thrown_type();
    text = posix::describe(error);
  }
  const auto* const codec = type == nullptr ? nullptr : exception_codecs::find(*type);
  if (codec != nullptr) {
    try {
      const std::string value = codec->dump(error);
      put(bytes, codec->id());
      bytes += value;
      return bytes;
    } catch (const std::bad_alloc&) {
      throw;
    } catch (...) {  // it can't be written: goes as text
    }
  }
  const std::string name = type == nullptr ? "unknown type" : posix::demangle(type->name());
  bytes.clear();
  put(bytes, std::uint64_t{0});
  put(bytes, name);
  put(bytes, static_cast<std::uint64_t>(posix::this_pid()));
  put(bytes, text);
  return bytes;
}

inline std::exception_ptr load_exception(std::string_view bytes) {
  serialization::Reader in{bytes};
  using exception_codecs::take_number;
  using exception_codecs::take_text;
  const std::uint64_t id = take_number(in);
  if (id == 0) {
    auto name = take_text(in);
    const auto pid = static_cast<pid_t>(take_number(in));
    return std::make_exception_ptr(RemoteError{std::move(name), pid, take_text(in)});
  }
  if (id == standard_exceptions::os_error || id == standard_exceptions::system_error) {
    const standard_exceptions::SystemError error{in};
    return standard_exceptions::thrown_by([&] { error.throw_again(id); });
  }
  if (id < standard_exceptions::os_error) {
    const auto text = take_text(in);
    return standard_exceptions::thrown_by([&] { standard_exceptions::throw_again(id, text); });
  }
  const auto* const codec = exception_codecs::find(id);
  if (codec == nullptr)
    throw serialization::SerializationError{
        "serialization: an exception of a type that is not registered here"};
  return codec->load(in);
}

}  // namespace futures

template <class E>
bool register_exception() {
  static_assert(std::is_class_v<E>, "register_exception<E>: E is a class");
  constexpr bool has_text = std::is_constructible_v<E, std::string>;
  constexpr bool holds_nothing =
      std::is_default_constructible_v<E> && sizeof(E) == sizeof(std::exception);
  constexpr bool is_exception = std::is_base_of_v<std::exception, E>;
  static_assert(Serializable<E> || (is_exception && (has_text || holds_nothing)),
                "register_exception<E>: make E Serializable, or a std::exception with a "
                "constructor that takes the std::string of its what()");
  using futures::exception_codecs::registered;
  static futures::ExceptionCodec codec = [] {
    if constexpr (Serializable<E>)
      return futures::exception_codecs::from_value<E>();
    else if constexpr (has_text)
      return futures::exception_codecs::from_text<E>();
    else
      return futures::exception_codecs::from_nothing<E>();
  }();
  static const bool once = [] {
    codec.next = registered.load(std::memory_order_relaxed);
    while (!registered.compare_exchange_weak(codec.next, &codec, std::memory_order_release)) {
    }
    return true;
  }();
  return once;
}

}  // namespace brood
