// SPDX-License-Identifier: MIT
// The callable and the arguments of a Process: called in a copy of this process, or sent to one
// that is none, when their types let.
#pragma once

#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "../crossing.hpp"
#include "process_state.hpp"
#include "reduction.hpp"

namespace brood::multiprocessing {

/// A call that can be made by a launched process: of an F with Args, all decayed and crossing.
template <class F, class... Args>
class LaunchedCall {
 public:
  static const LaunchEntry entry;

  template <class Out>
  static void write(Out& out, const F& f, const Args&... args) {
    CrossingCallable<F>::write(out, f);
    (out.write(args), ...);
  }

 private:
  static void run(serialization::Reader& in) {
    F f = CrossingCallable<F>::read(in);
    // Braces: read in order.
    std::tuple<Args...> args{in.read<Args>()...};
    in.expect_end();
    Reduction::of(in).finish();
    std::apply(
        [&f](auto&... each) {
          std::apply(std::move(f), std::forward_as_tuple(std::move(each)...));
        },
        args);
  }
};
template <class F, class... Args>
constinit const LaunchEntry LaunchedCall<F, Args...>::entry{&LaunchedCall::run, typeid(F)};

/// What a Process holds until it is started: both decayed.
template <class F, class... Args>
class CallTarget final : public ProcessTarget {
 public:
  template <class G, class... As>
  explicit CallTarget(G&& f, As&&... args) : call_{std::forward<G>(f), std::forward<As>(args)...} {}

  void run() override {
    std::apply(
        [](auto& f, auto&... rest) {
          // A tuple of the arguments alone lets std::apply call member pointers too.
          std::apply(std::move(f), std::forward_as_tuple(std::move(rest)...));
        },
        call_);
  }

  const LaunchEntry* entry() const noexcept override {
    if constexpr (crosses)
      return &LaunchedCall<F, crossing_t<Args>...>::entry;
    else
      return nullptr;
  }

  std::string dump(Reduction& descriptors) const override {
    std::string bytes;
    if constexpr (crosses) {
      std::apply(
          [&](const F& f, const crossing_t<Args>&... args) {
            using Call = LaunchedCall<F, crossing_t<Args>...>;
            serialization::Sizer sizer{&descriptors};
            Call::write(sizer, f, args...);
            bytes.resize(sizer.size());
            serialization::Writer writer{bytes.data(), bytes.size(), &descriptors};
            Call::write(writer, f, args...);
            bytes.resize(writer.written());
          },
          call_);
    }
    static_cast<void>(descriptors);
    return bytes;
  }

  const void* code() const noexcept override {
    if constexpr (crosses)
      return CrossingCallable<F>::code(std::get<0>(call_));
    else
      return nullptr;
  }

  const std::type_info& obstacle(int& which) const noexcept override {
    const std::type_info* found = &typeid(F);
    which = 0;
    if constexpr (CrossesProcesses<F>) {
      int at = 0;
      static_cast<void>(
          ((++at, !CrossesAsValue<Args> && (found = &typeid(Args), which = at, true)) || ...));
    }
    return *found;
  }

 private:
  static constexpr bool crosses = CrossesProcesses<F> && (CrossesAsValue<Args> && ...) &&
                                  std::is_invocable_v<F, crossing_t<Args>...>;

  std::tuple<F, Args...> call_;
};

/// Says what is in the way of `target`, and what to do about it.
[[noreturn]] inline void throw_cannot_cross(const std::string& name, StartMethod method,
                                            const ProcessTarget& target) {
  int which = 0;
  const std::type_info& type = target.obstacle(which);
  std::string text = "start process ";
  text += name;
  text += method == StartMethod::spawn ? " by spawn: " : " by forkserver: ";
  text += which == 0 ? "its target, " : "argument " + std::to_string(which) + ", ";
  text += posix::demangle(type.name());
  text += which == 0
              ? ", can't be sent to another program. A function, a lambda without captures or a "
                "Serializable function object can, and takes a const char* as std::string: pass as "
                "arguments what it captures, or use StartMethod::fork"
              : ", can't be sent to another program: pass what is Serializable, or use "
                "StartMethod::fork";
  throw std::invalid_argument{text};
}

}  // namespace brood::multiprocessing
