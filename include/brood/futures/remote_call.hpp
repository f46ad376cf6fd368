// SPDX-License-Identifier: MIT
// A call that is made in another process: what may cross, and how.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "../posix/module.hpp"
#include "../posix/type_name.hpp"
#include "../serialization.hpp"
#include "map.hpp"
#include "remote_exception.hpp"

namespace brood::futures {

/// A function, by its address.
template <class F>
concept FunctionPointer = std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>;

/// A lambda without captures, or another function object that holds nothing.
template <class F>
concept StatelessCallable = std::is_class_v<F> && std::is_empty_v<F> &&
    std::is_default_constructible_v<F> && std::is_trivially_copyable_v<F>;

/// What may cross to a worker process as a callable: a pointer to a function, a lambda without
/// captures, or a function object that is Serializable.
///
/// If your callable does not satisfy this, it is most likely a lambda with captures: what it
/// captured can't be seen from outside. Pass that as arguments of the task instead:
/// `pool.submit([](int n, int base) { return n + base; }, n, base)`. Or give it a type of its own,
/// an aggregate with an operator(), whose members then cross.
template <class F>
concept CrossesProcesses = FunctionPointer<std::decay_t<F>> || StatelessCallable<std::decay_t<F>> ||
    Serializable<std::decay_t<F>>;

/// As what an argument arrives: its decayed type; a const char* as a std::string.
template <class T>
using crossing_t = std::conditional_t<std::is_same_v<std::decay_t<T>, const char*> ||
                                          std::is_same_v<std::decay_t<T>, char*>,
                                      std::string, std::decay_t<T>>;

/// What may be an argument or a result of a task in another process. Of what does not own what it
/// refers to (string_view, span, pointers, std::ref) pass a copy.
template <class T>
concept CrossesAsValue = Serializable<crossing_t<T>>;

/// What the call gives, as it comes back.
template <class F, class... Args>
using remote_result_t =
    std::remove_cvref_t<std::invoke_result_t<std::decay_t<F>, crossing_t<Args>...>>;

/// A callable with arguments that can be called in another process, and whose result can cross
/// back.
template <class F, class... Args>
concept RemotelyInvocable = CrossesProcesses<F> &&(CrossesAsValue<Args>&&...) &&
                            std::is_invocable_v<std::decay_t<F>, crossing_t<Args>...> &&
                            (std::is_void_v<remote_result_t<F, Args...>> ||
                             Serializable<remote_result_t<F, Args...>>);

/// Why a call is no RemotelyInvocable: the compiler names one of these when it refuses a task.
namespace refused {
struct CallableCannotCross_PassWhatItCapturedAsArguments_SeeCrossesProcesses;
struct ArgumentCannotCross_PassACopyOfWhatItRefersTo_SeeCrossesAsValue;
struct CallableDoesNotTakeTheseArguments;
struct ResultCannotCross_ReturnAValueThatIsSerializable_SeeRemotelyInvocable;
}  // namespace refused
template <class F, class... Args>
using refusal_t = std::conditional_t<
    !CrossesProcesses<F>,
    refused::CallableCannotCross_PassWhatItCapturedAsArguments_SeeCrossesProcesses,
    std::conditional_t<
        !(CrossesAsValue<Args> && ...),
        refused::ArgumentCannotCross_PassACopyOfWhatItRefersTo_SeeCrossesAsValue,
        std::conditional_t<
            !std::is_invocable_v<std::decay_t<F>, crossing_t<Args>...>,
            refused::CallableDoesNotTakeTheseArguments,
            refused::ResultCannotCross_ReturnAValueThatIsSerializable_SeeRemotelyInvocable>>>;

/// Where a worker puts the bytes of a result.
class ResultSink {
 public:
  /// Room for exactly `size` bytes; called once. Throws std::bad_alloc, os::OSError.
  virtual char* allocate(std::size_t size) = 0;

 protected:
  ~ResultSink() = default;
};

/// One kind of call. It lies in the program's constants; its address is what crosses.
struct RemoteEntry {
  static constexpr std::uint64_t expected_magic = 0x62726f6f642d6331;  // "brood-c1"

  std::uint64_t magic;
  const RemoteEntry* self;
  /// Reads callable and arguments, calls, writes the result. Throws what the call throws.
  void (*run)(serialization::Reader& in, ResultSink& out);
  const std::type_info* callable;

  std::string name() const { return posix::demangle(callable->name()); }

  /// Whether there is such an entry at an address that came from elsewhere.
  static bool valid(const RemoteEntry* entry) noexcept {
    return reinterpret_cast<std::uintptr_t>(entry) % alignof(RemoteEntry) == 0 &&
           posix::lies_in_module(entry, sizeof *entry, posix::SegmentUse::data) &&
           entry->magic == expected_magic && entry->self == entry;
  }
};

/// How a callable of type F crosses.
template <class F>
class RemoteCallable {
 public:
  static std::size_t size(const F& f) {
    if constexpr (FunctionPointer<F>)
      return sizeof(std::uintptr_t);
    else if constexpr (StatelessCallable<F>)
      return 0;
    else
      return serialization::serialized_size(f);
  }
  static void write(serialization::Writer& out, const F& f) {
    if constexpr (FunctionPointer<F>)
      out.write(reinterpret_cast<std::uintptr_t>(f));
    else if constexpr (!StatelessCallable<F>)
      out.write(f);
  }
  static F read(serialization::Reader& in) {
    if constexpr (FunctionPointer<F>) {
      const auto address = in.read<std::uintptr_t>();
      // The worker is a copy of the program as it was when the pool was made.
      static thread_local std::uintptr_t checked = 0;
      if (address != checked && !posix::lies_in_module(reinterpret_cast<const void*>(address), 1,
                                                       posix::SegmentUse::code))
        throw std::invalid_argument{
            "call a function in a worker process: it lies in a library that was loaded after the "
            "pool was made"};
      checked = address;
      return reinterpret_cast<F>(address);
    } else if constexpr (StatelessCallable<F>) {
      return F{};
    } else {
      return in.read<F>();
    }
  }
};

template <class T>
void write_result(ResultSink& out, const T& result) {
  const std::size_t size = serialization::serialized_size(result);
  serialization::Writer{out.allocate(size), size}.write(result);
}

/// The call of an F with Args (both decayed and crossing).
template <class F, class... Args>
class RemoteCall {
 public:
  static const RemoteEntry entry;

  /// Callable and arguments as bytes. Throws SerializationError (nested too deep).
  static std::string dump(const F& f, const Args&... args) {
    const std::size_t size =
        (RemoteCallable<F>::size(f) + ... + serialization::serialized_size(args));
    std::string bytes(size, '\0');
    serialization::Writer out{bytes.data(), size};
    RemoteCallable<F>::write(out, f);
    (out.write(args), ...);
    return bytes;
  }

 private:
  static void run(serialization::Reader& in, ResultSink& out) {
    F f = RemoteCallable<F>::read(in);
    // Braces: read in order.
    std::tuple<Args...> args{in.read<Args>()...};
    in.expect_end();
    if constexpr (std::is_void_v<remote_result_t<F, Args...>>) {
      std::apply(std::move(f), std::move(args));
      out.allocate(0);
    } else {
      write_result(out, std::apply(std::move(f), std::move(args)));
    }
  }
};

template <class F, class... Args>
const RemoteEntry RemoteCall<F, Args...>::entry{RemoteEntry::expected_magic,
                                                &RemoteCall<F, Args...>::entry,
                                                &RemoteCall<F, Args...>::run, &typeid(F)};

/// The results of several calls: a value, or nothing for each that threw, whose exceptions follow
/// in order, as bytes of dump_exception.
template <class Value>
struct ChunkResult {
  std::vector<std::optional<Value>> values;
  std::vector<std::string> errors;
};

/// Calls of an F, one after another, with each of several Args.
template <class F, class... Args>
class RemoteChunk {
 public:
  using Calls = std::vector<std::tuple<Args...>>;
  using Result = remote_result_t<F, Args...>;
  using Value = std::conditional_t<std::is_void_v<Result>, None, Result>;
  static const RemoteEntry entry;

  static std::string dump(const F& f, const Calls& calls) {
    const std::size_t size = RemoteCallable<F>::size(f) + serialization::serialized_size(calls);
    std::string bytes(size, '\0');
    serialization::Writer out{bytes.data(), size};
    RemoteCallable<F>::write(out, f);
    out.write(calls);
    return bytes;
  }

 private:
  static void run(serialization::Reader& in, ResultSink& out) {
    const F f = RemoteCallable<F>::read(in);
    auto calls = in.read<Calls>();
    in.expect_end();
    ChunkResult<Value> result;
    result.values.reserve(calls.size());
    for (auto& call : calls) {
      try {
        if constexpr (std::is_void_v<Result>) {
          std::apply(F{f}, std::move(call));
          result.values.emplace_back(std::in_place);
        } else {
          result.values.emplace_back(std::apply(F{f}, std::move(call)));
        }
      } catch (...) {
        result.values.emplace_back();
        result.errors.push_back(dump_exception(std::current_exception()));
      }
    }
    write_result(out, result);
  }
};

template <class F, class... Args>
const RemoteEntry RemoteChunk<F, Args...>::entry{RemoteEntry::expected_magic,
                                                 &RemoteChunk<F, Args...>::entry,
                                                 &RemoteChunk<F, Args...>::run, &typeid(F)};

}  // namespace brood::futures
