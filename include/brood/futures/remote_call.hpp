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

#include "../crossing.hpp"
#include "../posix/crash_record.hpp"
#include "../serialization.hpp"
#include "map.hpp"
#include "remote_exception.hpp"

namespace brood::futures {

using brood::CrossesAsValue;
using brood::CrossesProcesses;
using brood::crossing_t;
using brood::FunctionPointer;
using brood::StatelessCallable;

/// What the call gives, as it comes back.
template <class F, class... Args>
using remote_result_t =
    std::remove_cvref_t<std::invoke_result_t<std::decay_t<F>, crossing_t<Args>...>>;

/// No handle of processes, nor what holds one: a worker that runs already can't be given it, the
/// initializer of the pool can.
template <class T>
concept CrossesAtAnyTime = !Serializable<T> || Sendable<T>;

/// A callable with arguments that can be called in another process, and whose result can cross
/// back.
template <class F, class... Args>
concept RemotelyInvocable = CrossesProcesses<F> && CrossesAtAnyTime<std::decay_t<F>> &&
                            (CrossesAsValue<Args>&&...) &&
                            (CrossesAtAnyTime<crossing_t<Args>> && ...) &&
                            std::is_invocable_v<std::decay_t<F>, crossing_t<Args>...> &&
                            (std::is_void_v<remote_result_t<F, Args...>> ||
                             Sendable<remote_result_t<F, Args...>>);

/// Why a call is no RemotelyInvocable: the compiler names one of these when it refuses a task.
namespace refused {
struct CallableCannotCross_PassWhatItCapturedAsArguments_SeeCrossesProcesses;
struct ArgumentCannotCross_PassACopyOfWhatItRefersTo_SeeCrossesAsValue;
struct HandleCannotCross_GiveItToTheInitializerOrAProcess_SeeCrossesAtAnyTime;
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
            !(CrossesAtAnyTime<std::decay_t<F>> && ... && CrossesAtAnyTime<crossing_t<Args>>),
            refused::HandleCannotCross_GiveItToTheInitializerOrAProcess_SeeCrossesAtAnyTime,
            std::conditional_t<
                !std::is_invocable_v<std::decay_t<F>, crossing_t<Args>...>,
                refused::CallableDoesNotTakeTheseArguments,
                refused::ResultCannotCross_ReturnAValueThatIsSerializable_SeeRemotelyInvocable>>>>;

/// Where the bytes of a task, or of its result, are put.
class ByteSink {
 public:
  /// Room for exactly `size` bytes; called once. Throws std::bad_alloc, os::OSError.
  virtual char* allocate(std::size_t size) = 0;

 protected:
  ~ByteSink() = default;
};

/// One kind of task: reads callable and arguments, calls, writes the result. Throws what the call
/// throws.
using RemoteEntry = CallEntry<void(serialization::Reader& in, ByteSink& out)>;

/// Puts a callable and what follows it into `to`, as bytes. Throws SerializationError (nested too
/// deep), std::invalid_argument (see CrossingCallable).
template <class F, class... Values>
void dump_call(ByteSink& to, const F& f, const Values&... values) {
  serialization::Sizer sizer;
  CrossingCallable<F>::write(sizer, f);
  (sizer.write(values), ...);
  serialization::Writer out{to.allocate(sizer.size()), sizer.size()};
  CrossingCallable<F>::write(out, f);
  (out.write(values), ...);
}

/// What a task calls, for messages: its function by name if that can be had, else the type of its
/// callable. `bytes` are those of dump_call(), or were before the process that they were for died.
inline std::string called_name(const RemoteEntry& entry, std::string_view bytes) {
  if (entry.calls_function()) {
    try {
      serialization::Reader in{bytes};
      std::string name = posix::function_name(read_function(in));
      if (!name.empty()) return name;
    } catch (const std::exception&) {  // no function any more
    }
  }
  return entry.name();
}

template <class T>
void write_result(ByteSink& out, const T& result) {
  const std::size_t size = serialization::serialized_size(result);
  serialization::Writer{out.allocate(size), size}.write(result);
}

/// The call of an F with Args (both decayed and crossing).
template <class F, class... Args>
class RemoteCall {
 public:
  static const RemoteEntry entry;

  static void dump(ByteSink& to, const F& f, const Args&... args) { dump_call(to, f, args...); }

 private:
  static void run(serialization::Reader& in, ByteSink& out) {
    F f = CrossingCallable<F>::read(in);
    // Braces: read in order.
    std::tuple<Args...> args{in.read<Args>()...};
    in.expect_end();
    auto* place = &args;
    // GCC 12 supposes that a member function may be virtual, and so warns of each object that is
    // too small for that, if it sees its size.
    if constexpr (std::is_member_function_pointer_v<F>) asm("" : "+r"(place));
    if constexpr (std::is_void_v<remote_result_t<F, Args...>>) {
      std::apply(std::move(f), std::move(*place));
      out.allocate(0);
    } else {
      write_result(out, std::apply(std::move(f), std::move(*place)));
    }
  }
};

template <class F, class... Args>
constinit const RemoteEntry RemoteCall<F, Args...>::entry{&RemoteCall<F, Args...>::run, typeid(F)};

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

  static void dump(ByteSink& to, const F& f, const Calls& calls) { dump_call(to, f, calls); }

 private:
  static void run(serialization::Reader& in, ByteSink& out) {
    const F f = CrossingCallable<F>::read(in);
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
constinit const RemoteEntry RemoteChunk<F, Args...>::entry{&RemoteChunk<F, Args...>::run,
                                                           typeid(F)};

}  // namespace brood::futures
