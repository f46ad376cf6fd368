// SPDX-License-Identifier: MIT
// Exceptions that cross from a worker process, with their types: the standard ones and brood's own
// as they come, a program's own once it has named them.
//
//     struct NoSoap : std::runtime_error { using std::runtime_error::runtime_error; };
//     const bool registered = brood::register_exception<NoSoap>();   // at namespace scope
//
// What is not known here arrives as a futures::RemoteError with the type's name and text.
#pragma once

#include <cxxabi.h>

#include <atomic>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <typeinfo>

#include "../multiprocessing/errors.hpp"
#include "../posix/this_process.hpp"
#include "../posix/type_name.hpp"
#include "../serialization.hpp"
#include "process_errors.hpp"

namespace brood {

/// Lets exceptions of type E come back from other processes as what they are. E is Serializable, or
/// can be made from the std::string that its what() gives. Call it before a process pool is made.
/// May be called from any thread, also again. Returns true.
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
    return hash;
  }
};

namespace exception_codecs {

template <class T>
std::string raw_bytes(const T& value) {
  std::string bytes(serialization::serialized_size(value), '\0');
  serialization::Writer writer{bytes.data(), bytes.size()};
  writer.write(value);
  return bytes;
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
            return with_exception<E>(
                error, [](const E& exception) { return raw_bytes(std::string{exception.what()}); });
          },
          [](serialization::Reader& in) {
            return std::make_exception_ptr(E(in.read<std::string>()));
          }};
}

/// Made from nothing.
template <class E>
ExceptionCodec from_nothing() {
  return {&typeid(E), [](const std::exception_ptr&) { return std::string{}; },
          [](serialization::Reader&) { return std::make_exception_ptr(E{}); }};
}

/// Crosses as it is.
template <class E>
ExceptionCodec from_value() {
  return {&typeid(E),
          [](const std::exception_ptr& error) {
            return with_exception<E>(error, [](const E& value) { return raw_bytes(value); });
          },
          [](serialization::Reader& in) { return std::make_exception_ptr(in.read<E>()); }};
}

/// A std::system_error of the generic or the system category keeps its code; its text is taken
/// apart and comes out the same. (Other categories are objects of the program, with no name that
/// would find them on the other side.)
inline std::string without_suffix(std::string text, const std::string& suffix) {
  if (text.size() >= suffix.size() &&
      text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0)
    text.resize(text.size() - suffix.size());
  return text;
}
inline std::string dump_system_error(const std::system_error& error, const std::string& subject) {
  const bool generic = error.code().category() == std::generic_category();
  if (!generic && error.code().category() != std::system_category())
    throw serialization::SerializationError{
        "serialization: an error code of a category that can't be named here"};
  std::string text = without_suffix(error.what(), ": " + error.code().message());
  if (!subject.empty()) text = without_suffix(std::move(text), " '" + subject + "'");
  return raw_bytes(error.code().value()) + raw_bytes(generic) + raw_bytes(text) +
         raw_bytes(subject);
}
inline ExceptionCodec system_error() {
  return {&typeid(std::system_error),
          [](const std::exception_ptr& error) {
            return with_exception<std::system_error>(
                error, [](const std::system_error& exception) {
                  return dump_system_error(exception, {});
                });
          },
          [](serialization::Reader& in) {
            const int code = in.read<int>();
            const auto& category =
                in.read<bool>() ? std::generic_category() : std::system_category();
            auto text = in.read<std::string>();
            in.read<std::string>();
            return std::make_exception_ptr(std::system_error{code, category, text});
          }};
}
template <class E>
ExceptionCodec os_error() {
  return {&typeid(E),
          [](const std::exception_ptr& error) {
            return with_exception<E>(error, [](const E& exception) {
              return dump_system_error(exception, exception.filename());
            });
          },
          [](serialization::Reader& in) {
            const int code = in.read<int>();
            in.read<bool>();
            auto text = in.read<std::string>();
            return std::make_exception_ptr(E{code, text, in.read<std::string>()});
          }};
}

inline ExceptionCodec* known() {
  static ExceptionCodec codecs[] = {
      from_text<std::runtime_error>(),
      from_text<std::range_error>(),
      from_text<std::overflow_error>(),
      from_text<std::underflow_error>(),
      from_text<std::logic_error>(),
      from_text<std::invalid_argument>(),
      from_text<std::domain_error>(),
      from_text<std::length_error>(),
      from_text<std::out_of_range>(),
      from_nothing<std::exception>(),
      from_nothing<std::bad_alloc>(),
      from_nothing<std::bad_array_new_length>(),
      from_nothing<std::bad_cast>(),
      from_nothing<std::bad_typeid>(),
      from_nothing<std::bad_exception>(),
      from_nothing<std::bad_optional_access>(),
      system_error(),
      os_error<os::OSError>(),
      os_error<os::FileNotFoundError>(),
      os_error<os::FileExistsError>(),
      os_error<os::PermissionError>(),
      os_error<os::ProcessLookupError>(),
      os_error<os::ChildProcessError>(),
      os_error<os::BrokenPipeError>(),
      from_text<brood::TimeoutError>(),
      from_text<brood::EOFError>(),
      from_text<serialization::SerializationError>(),
      from_text<queue::Empty>(),
      from_text<queue::Full>(),
      from_text<queue::ShutDown>(),
      from_text<multiprocessing::ProcessError>(),
      from_text<multiprocessing::TimeoutError>(),
      from_text<CancelledError>(),
      from_text<InvalidStateError>(),
      from_text<BrokenExecutor>(),
      from_text<BrokenThreadPool>(),
      from_text<BrokenProcessPool>(),
  };
  static const bool chained = [] {
    for (std::size_t i = 1; i < std::size(codecs); ++i) codecs[i - 1].next = &codecs[i];
    return true;
  }();
  static_cast<void>(chained);
  return codecs;
}

inline std::atomic<ExceptionCodec*> registered{nullptr};  // pushed to the front; never shortened

template <class Predicate>
ExceptionCodec* find(Predicate predicate) {
  for (ExceptionCodec* codec : {registered.load(std::memory_order_acquire), known()})
    for (; codec != nullptr; codec = codec->next)
      if (predicate(*codec)) return codec;
  return nullptr;
}

}  // namespace exception_codecs

inline std::string dump_exception(const std::exception_ptr& error) {
  const std::type_info* type = nullptr;
  std::string text = "unknown exception";
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    type = abi::__cxa_current_exception_type();
    text = exception.what();
  } catch (...) {
    type = abi::__cxa_current_exception_type();
    text = posix::describe(error);
  }
  using exception_codecs::raw_bytes;
  const auto* const codec = type == nullptr ? nullptr : exception_codecs::find([&](const auto& it) {
    return *it.type == *type;
  });
  if (codec != nullptr) {
    try {
      return raw_bytes(codec->id()) + codec->dump(error);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (...) {  // it can't be written: goes as text
    }
  }
  const std::string name = type == nullptr ? "unknown type" : posix::demangle(type->name());
  return raw_bytes(std::uint64_t{0}) + raw_bytes(name) + raw_bytes(posix::this_pid()) +
         raw_bytes(text);
}

inline std::exception_ptr load_exception(std::string_view bytes) {
  serialization::Reader in{bytes};
  const auto id = in.read<std::uint64_t>();
  if (id == 0) {
    auto name = in.read<std::string>();
    const auto pid = in.read<pid_t>();
    return std::make_exception_ptr(RemoteError{std::move(name), pid, in.read<std::string>()});
  }
  const auto* const codec =
      exception_codecs::find([&](const auto& it) { return it.id() == id; });
  if (codec == nullptr)
    throw serialization::SerializationError{
        "serialization: an exception of a type that is not registered here"};
  return codec->load(in);
}

}  // namespace futures

template <class E>
bool register_exception() {
  static_assert(std::is_class_v<E>, "register_exception<E>: E is a class");
  static_assert(Serializable<E> || (std::is_constructible_v<E, std::string> &&
                                    std::is_base_of_v<std::exception, E>),
                "register_exception<E>: make E Serializable, or a std::exception with a "
                "constructor that takes the std::string of its what()");
  using namespace futures::exception_codecs;
  static futures::ExceptionCodec codec = [] {
    if constexpr (Serializable<E>)
      return from_value<E>();
    else
      return from_text<E>();
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
