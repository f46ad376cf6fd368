// SPDX-License-Identifier: MIT
// What can be called in another process, and how it gets there: what Process, Pool and
// ProcessPoolExecutor take as a task, an initializer or a target.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>

#include "posix/code.hpp"
#include "posix/type_name.hpp"
#include "serialization.hpp"

namespace brood {

/// A function, by its address.
template <class F>
concept FunctionPointer = std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>;

/// A lambda without captures, or another function object that holds nothing.
template <class F>
concept StatelessCallable = std::is_class_v<F> && std::is_empty_v<F> &&
    std::is_default_constructible_v<F> && std::is_trivially_copyable_v<F>;

/// What may cross to another process as a callable: a pointer to a function or to a member, a
/// lambda without captures, or a function object that is Serializable.
///
/// If your callable does not satisfy this, it is most likely a lambda with captures: what it
/// captured can't be seen from outside. Pass that as arguments instead:
/// `pool.submit([](int n, int base) { return n + base; }, n, base)`. Or give it a type of its own,
/// an aggregate with an operator(), whose members then cross.
template <class F>
concept CrossesProcesses =
    FunctionPointer<std::decay_t<F>> || std::is_member_pointer_v<std::decay_t<F>> ||
    StatelessCallable<std::decay_t<F>> || Serializable<std::decay_t<F>>;

/// As what an argument arrives: its decayed type; a const char* as a std::string.
template <class T>
using crossing_t = std::conditional_t<std::is_same_v<std::decay_t<T>, const char*> ||
                                          std::is_same_v<std::decay_t<T>, char*>,
                                      std::string, std::decay_t<T>>;

/// What may be an argument or a result of a call in another process. Of what does not own what it
/// refers to (string_view, span, pointers, std::ref) pass a copy.
template <class T>
concept CrossesAsValue = Serializable<crossing_t<T>>;

/// How a callable of type F (decayed, CrossesProcesses) crosses: written by a Sizer and a Writer,
/// read by a Reader in a process that has the same code. Throws std::invalid_argument when it is a
/// null pointer, when no module holds its function (write), or when that is not loaded where it is
/// read; SerializationError as its own Serializer.
template <class F>
class CrossingCallable {
 public:
  template <class Out>
  static void write(Out& out, const F& f);
  static F read(serialization::Reader& in);
  /// The code that has to be loaded where it is read; null when that is the code of the type
  /// itself.
  static const void* code(const F& f) noexcept;

 private:
  struct Member;
};

/// One kind of call that other processes can name. It lies among the program's constants; what
/// crosses is its place. Run is the signature, as in void(serialization::Reader&).
///
///     template <class F> struct Task {
///       static const CallEntry<void(serialization::Reader&)> entry;
///       static void run(serialization::Reader& in);
///     };
///     template <class F>
///     constinit const CallEntry<void(serialization::Reader&)> Task<F>::entry{run, typeid(F)};
template <class Run>
class CallEntry {
 public:
  /// For a static object only.
  constexpr CallEntry(Run* run, const std::type_info& callable) noexcept
      : run_{run}, callable_{&callable} {}
  CallEntry(const CallEntry&) = delete;
  CallEntry& operator=(const CallEntry&) = delete;

  /// Its name for other processes. Found out once; thread-safe. The first call throws
  /// std::invalid_argument if it lies in no program or library (and so does each after it).
  posix::CodePlace place() const;

  /// The entry at a place that comes from elsewhere; null when there is none with this signature.
  static const CallEntry* at(posix::CodePlace place) noexcept;

  Run& function() const noexcept { return *run_; }
  /// The type of what is called, for messages.
  std::string name() const { return posix::demangle(callable_->name()); }
  /// Whether that is a pointer to a function.
  bool calls_function() const noexcept {
    const std::string_view name = callable_->name();
    return name.starts_with("PF") || name.starts_with("PDoF");  // (the second are noexcept)
  }

 private:
  static constexpr std::uint64_t magic = [] {
    std::uint64_t hash = 0x62726f6f642d6331;  // "brood-c1"
    for (const char c : serialization::type_name<Run>())
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x9E3779B97F4A7C15u;
    return hash;
  }();

  std::uint64_t magic_ = magic;
  const CallEntry* self_ = this;
  Run* run_;
  const std::type_info* callable_;
  // Its own place, when it is known: here it goes with the library, should that be unloaded.
  mutable std::atomic<std::uint64_t> module_{0};  // 0: not known; stored after the next one
  mutable std::atomic<std::uint64_t> offset_{0};
};

// ---------------------------------------------------------------------------------------------

template <class Run>
posix::CodePlace CallEntry<Run>::place() const {
  const std::uint64_t module = module_.load(std::memory_order_acquire);
  if (module != 0) return {module, offset_.load(std::memory_order_relaxed)};
  const posix::CodePlace place = posix::place_of(this);
  offset_.store(place.offset, std::memory_order_relaxed);
  module_.store(place.module, std::memory_order_release);
  return place;
}

// (What lies there may be anything, also what AddressSanitizer keeps between two objects.)
template <class Run>
[[gnu::no_sanitize_address]] const CallEntry<Run>* CallEntry<Run>::at(
    posix::CodePlace place) noexcept {
  const auto* const entry = static_cast<const CallEntry*>(
      posix::address_of(place, sizeof(CallEntry), alignof(CallEntry), posix::SegmentUse::data));
  return entry != nullptr && entry->magic_ == magic && entry->self_ == entry ? entry : nullptr;
}

/// A function as bytes. One of the program's own code takes a word: a task that calls it with a
/// number or two then fits into a std::string without memory of its own. It is its offset there,
/// doubled; any other is a one, then its place. Throws std::invalid_argument.
template <class Out>
void write_function(Out& out, const void* function) {
  const posix::Extent& program = posix::LoadedModules::here().program_code();
  const auto address = reinterpret_cast<std::uintptr_t>(function);
  if (program.holds(address, 1)) {
    out.write(std::uint64_t{address - program.begin} << 1);
  } else {
    out.write(std::uint64_t{1});
    // (Its members, not the struct: the compiler looks into structs by much work.)
    const posix::CodePlace place = posix::place_of(function);
    out.write(place.module);
    out.write(place.offset);
  }
}

/// There is no such function here.
[[noreturn]] inline void throw_not_loaded() {
  throw std::invalid_argument{
      "call a function in another process: it lies in a library that is not loaded there (by fork "
      "a process pool has what was loaded when it was made; by forkserver and spawn its "
      "initializer has to load what the program loads at run time)"};
}

/// The address of the function here. Throws std::invalid_argument if there is none.
inline const void* read_function(serialization::Reader& in) {
  const auto word = in.read<std::uint64_t>();
  const void* function = nullptr;
  if (word == 1) {
    posix::CodePlace place;
    place.module = in.read<std::uint64_t>();
    place.offset = in.read<std::uint64_t>();
    function = posix::address_of(place, 1, 1, posix::SegmentUse::code);
  } else {
    const posix::Extent& program = posix::LoadedModules::here().program_code();
    if (word % 2 == 0 && word / 2 < program.size)
      function = reinterpret_cast<const void*>(program.begin + word / 2);
  }
  if (function == nullptr) throw_not_loaded();
  return function;
}

// A pointer to a member function is two words in the ABI of all compilers here: the address of the
// function, or where it stands in the table of virtual ones, and what is added to `this` (Itanium
// C++ ABI 2.3; on ARM the flag that tells the two apart is in the other word).
template <class F>
struct CrossingCallable<F>::Member {
#if defined(__arm__) || defined(__aarch64__)
  bool is_virtual() const noexcept { return (adjustment & 1) != 0; }
#else
  bool is_virtual() const noexcept { return (function & 1) != 0; }
#endif
  std::uintptr_t function;
  std::ptrdiff_t adjustment;
};

template <class F>
const void* CrossingCallable<F>::code(const F& f) noexcept {
  if constexpr (FunctionPointer<F>) {
    return reinterpret_cast<const void*>(f);
  } else if constexpr (std::is_member_function_pointer_v<F>) {
    const auto member = __builtin_bit_cast(Member, f);
    return member.is_virtual() ? nullptr : reinterpret_cast<const void*>(member.function);
  } else {
    static_cast<void>(f);
    return nullptr;
  }
}

template <class F>
template <class Out>
void CrossingCallable<F>::write(Out& out, const F& f) {
  if constexpr (FunctionPointer<F>) {
    write_function(out, reinterpret_cast<const void*>(f));
  } else if constexpr (std::is_member_function_pointer_v<F>) {
    const auto member = __builtin_bit_cast(Member, f);
    out.write_bytes(&member, sizeof member);
    if (!member.is_virtual()) write_function(out, code(f));
  } else if constexpr (std::is_member_object_pointer_v<F>) {
    if (f == nullptr) throw std::invalid_argument{"call in another process: a null pointer"};
    out.write_bytes(&f, sizeof f);
  } else if constexpr (!StatelessCallable<F>) {
    out.write(f);
  } else {
    static_cast<void>(out), static_cast<void>(f);
  }
}

template <class F>
F CrossingCallable<F>::read(serialization::Reader& in) {
  if constexpr (FunctionPointer<F>) {
    return reinterpret_cast<F>(const_cast<void*>(read_function(in)));
  } else if constexpr (std::is_member_function_pointer_v<F>) {
    Member member;
    std::memcpy(&member, in.read_bytes(sizeof member).data(), sizeof member);
    if (!member.is_virtual()) member.function = reinterpret_cast<std::uintptr_t>(read_function(in));
    return __builtin_bit_cast(F, member);
  } else if constexpr (std::is_member_object_pointer_v<F>) {
    F f;
    std::memcpy(&f, in.read_bytes(sizeof f).data(), sizeof f);
    return f;
  } else if constexpr (StatelessCallable<F>) {
    static_cast<void>(in);
    return F{};
  } else {
    return in.read<F>();
  }
}

}  // namespace brood
