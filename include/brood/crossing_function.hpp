// SPDX-License-Identifier: MIT
// A function without arguments that other processes may get: what a process pool has each worker
// call first, and the action of a multiprocessing::Barrier.
#pragma once

#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "crossing.hpp"
#include "posix/ref.hpp"

namespace brood {

/// Anything that can be called without arguments; empty when default-made or made from nullptr.
/// Copies share the callable.
///
/// Processes that are forked from a copy of the program (StartMethod::fork) call that copy of it.
/// By forkserver and spawn it has to cross as CrossesProcesses says; what a Serializable function
/// object holds may be queues, locks, connections and the like.
class CrossingFunction {
 public:
  CrossingFunction() noexcept = default;
  CrossingFunction(std::nullptr_t) noexcept {}  // NOLINT: implicit

  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, CrossingFunction> &&
           std::is_invocable_v<std::decay_t<F>&>) CrossingFunction(F&& f)  // NOLINT: implicit
      : callable_{posix::Ref<Base>{posix::make_ref<Holder<std::decay_t<F>>>(std::forward<F>(f))}} {}

  explicit operator bool() const noexcept { return static_cast<bool>(callable_); }

  /// Throws what the callable throws. It must not be empty; nor for what follows.
  void operator()() const { callable_->call(); }

  // How it crosses.

  /// Reads what dump() has written.
  using Entry = CallEntry<CrossingFunction(serialization::Reader&)>;

  /// Null when it can't cross.
  const Entry* entry() const noexcept { return callable_->entry(); }
  std::string type_name() const { return posix::demangle(callable_->type().name()); }
  /// With an entry only. Throws as CrossingCallable, and what a Serializer throws.
  std::string dump(serialization::Context& context) const { return callable_->dump(context); }
  /// See CrossingCallable.
  const void* code() const noexcept { return callable_->code(); }
  /// All of that in one: the entry's place, and what dump() gives, which read() reads. Throws
  /// SerializationError, naming the type, if it can't cross; read() if there is no such entry here.
  template <class Out>
  void write(Out& out) const;
  static CrossingFunction read(serialization::Reader& in);

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
struct CrossingFunction::Crossing {
  static CrossingFunction read(serialization::Reader& in) {
    return CrossingFunction{CrossingCallable<F>::read(in)};
  }
  static const Entry entry;
};

template <class F>
constinit const CrossingFunction::Entry CrossingFunction::Crossing<F>::entry{&Crossing<F>::read,
                                                                             typeid(F)};

template <class Out>
void CrossingFunction::write(Out& out) const {
  if (entry() == nullptr)
    throw serialization::SerializationError{
        "serialization: a function of type " + type_name() +
        " can't cross to a process that is not forked from this one: see CrossesProcesses"};
  const posix::CodePlace place = entry()->place();
  out.write_bytes(&place, sizeof place);
  const std::string bytes = dump(*out.context());
  out.write_bytes(bytes.data(), bytes.size());
}

inline CrossingFunction CrossingFunction::read(serialization::Reader& in) {
  posix::CodePlace place;
  std::memcpy(&place, in.read_bytes(sizeof place).data(), sizeof place);
  const Entry* const entry = Entry::at(place);
  if (entry == nullptr) serialization::throw_error("this is the place of no function");
  return entry->function()(in);
}

template <class F>
struct CrossingFunction::Holder final : Base {
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

}  // namespace brood
