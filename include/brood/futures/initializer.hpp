// SPDX-License-Identifier: MIT
// What a process pool has each worker call first.
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "../crossing.hpp"
#include "../posix/ref.hpp"

namespace brood::futures {

/// Anything that can be called without arguments; empty when default-made or made from nullptr.
/// Copies share the callable.
///
/// Where the workers are forked from a copy of the program (StartMethod::fork) they call that copy
/// of it. By forkserver and spawn it has to cross as CrossesProcesses says; what a Serializable
/// function object holds may be queues, locks, connections and the like.
class Initializer {
 public:
  Initializer() noexcept = default;
  Initializer(std::nullptr_t) noexcept {}  // NOLINT: implicit

  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, Initializer> &&
           std::is_invocable_v<std::decay_t<F>&>) Initializer(F&& f)  // NOLINT: implicit
      : callable_{posix::Ref<Base>{posix::make_ref<Holder<std::decay_t<F>>>(std::forward<F>(f))}} {}

  explicit operator bool() const noexcept { return static_cast<bool>(callable_); }

  /// Throws what the callable throws. It must not be empty; nor for what follows.
  void operator()() const { callable_->call(); }

  // For the pool: how it crosses.

  /// Reads what dump() has written.
  using Entry = CallEntry<Initializer(serialization::Reader&)>;

  /// Null when it can't cross.
  const Entry* entry() const noexcept { return callable_->entry(); }
  std::string type_name() const { return posix::demangle(callable_->type().name()); }
  /// With an entry only. Throws as CrossingCallable, and what a Serializer throws.
  std::string dump(serialization::Context& context) const { return callable_->dump(context); }
  /// See CrossingCallable.
  const void* code() const noexcept { return callable_->code(); }

 private:
  struct Base : posix::RefCounted {
    virtual ~Base() = default;
    virtual void call() = 0;
    virtual const Entry* entry() const noexcept = 0;
    virtual const std::type_info& type() const noexcept = 0;
    virtual std::string dump(serialization::Context& context) const = 0;
    virtual const void* code() const noexcept = 0;
  };
  template <class F>
  struct Holder;
  template <class F>
  struct Crossing;

  posix::Ref<Base> callable_;
};

// ---------------------------------------------------------------------------------------------

template <class F>
struct Initializer::Crossing {
  static Initializer read(serialization::Reader& in) {
    return Initializer{CrossingCallable<F>::read(in)};
  }
  static const Entry entry;
};

template <class F>
constinit const Initializer::Entry Initializer::Crossing<F>::entry{&Crossing<F>::read, typeid(F)};

template <class F>
struct Initializer::Holder final : Base {
  explicit Holder(const F& f) : function{f} {}
  explicit Holder(F&& f) : function{std::move(f)} {}

  void call() override { static_cast<void>(function()); }
  const std::type_info& type() const noexcept override { return typeid(F); }

  const Entry* entry() const noexcept override {
    if constexpr (CrossesProcesses<F>)
      return &Crossing<F>::entry;
    else
      return nullptr;
  }
  std::string dump(serialization::Context& context) const override {
    std::string bytes;
    if constexpr (CrossesProcesses<F>) {
      serialization::Sizer sizer{&context};
      CrossingCallable<F>::write(sizer, function);
      bytes.resize(sizer.size());
      serialization::Writer out{bytes.data(), bytes.size(), &context};
      CrossingCallable<F>::write(out, function);
    }
    return bytes;
  }
  const void* code() const noexcept override {
    if constexpr (CrossesProcesses<F>)
      return CrossingCallable<F>::code(function);
    else
      return nullptr;
  }

  F function;
};

}  // namespace brood::futures
