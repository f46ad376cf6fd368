// SPDX-License-Identifier: MIT
// Bytes to values: the other end of writer.hpp.
//
//     auto copy = Reader{bytes}.read<T>();
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

#include "../posix/huge_pages.hpp"
#include "archive.hpp"
#include "error.hpp"
#include "hooks.hpp"
#include "members.hpp"
#include "serializable.hpp"
#include "shape.hpp"

namespace brood::serialization {

/// Reads values from bytes that are not trusted: every length, flag and index is checked before it
/// is used, and memory is only taken for what can lie in the bytes that are left. Throws
/// SerializationError; what had been read so far is then dropped.
class Reader : public Archive {
 public:
  static constexpr bool is_loading = true;
  static constexpr bool is_sizing = false;

  /// The bytes must outlive the Reader, not the values.
  explicit Reader(std::string_view bytes, Context* context = nullptr) noexcept
      : Archive{context}, at_{bytes.data()}, end_{bytes.data() + bytes.size()} {}

  /// The next value, which must have been written as a T.
  template <class T>
  T read();

  /// The same, assigned to `value`, which is unchanged if that throws (but for arrays).
  template <class T>
  void read_into(T& value);

  /// What `serialize` members call: ar(a, b, c).
  template <class... Ts>
  Reader& operator()(Ts&... values);

  /// The next `size` bytes themselves.
  std::string_view read_bytes(std::size_t size) { return {take(size), size}; }

  /// Throws if anything is left.
  void expect_end() const {
    if (at_ != end_) throw_error("there are bytes behind the value");
  }
  /// How many bytes are left.
  std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - at_); }

 private:
  const char* take(std::size_t size) {
    if (size > left()) throw_error("truncated input, in bytes", size, left());
    const char* bytes = at_;
    at_ += size;
    return bytes;
  }
  template <class T>
  T raw();
  bool flag();
  template <class E>
  std::size_t length();
  template <class E>
  E read_element();

  template <class T, class... Ms>
  T build(Types<Ms...>);
  template <class T>
  T fill_aggregate();
  template <class T>
  T read_array();
  template <class T>
  T read_time_of_day();
  template <class T>
  T read_optional();
  template <class T>
  T read_pointer();
  template <class T, std::size_t I>
  T read_alternative(std::size_t index);
  template <class T>
  T read_map();
  template <class T>
  T read_set();
  template <class T>
  T read_forward_list();
  template <class T>
  T read_sequence();
  template <class T>
  T read_adaptor();
  template <class T>
  T read_bits();
  template <class T>
  T read_member();

  const char* at_;
  const char* end_;
};

// ---------------------------------------------------------------------------------------------

template <class T>
T Reader::raw() {
  const char* bytes = take(sizeof(T));
  if constexpr (std::is_default_constructible_v<T> && std::is_copy_assignable_v<T>) {
    T value;
    std::memcpy(static_cast<void*>(&value), bytes, sizeof(T));
    return value;
  } else {
    struct Bytes {
      char data[sizeof(T)];
    } copy;
    std::memcpy(&copy, bytes, sizeof(T));
    return __builtin_bit_cast(T, copy);
  }
}

inline bool Reader::flag() {
  const char value = *take(1);
  if (value != 0 && value != 1) throw_error("a flag is neither 0 nor 1");
  return value != 0;
}

/// A number of elements of type E, which the bytes that are left can hold.
template <class E>
std::size_t Reader::length() {
  const auto length = raw<std::uint64_t>();
  if (length > left() / least_element<E>)
    throw_error("a length beyond the end of the input", length, left() / least_element<E>);
  return length;
}

template <class E>
E Reader::read_element() {
  if constexpr (extent<E>.least == 0) {
    if (*take(1) != 0) throw_error("ill-typed input");
  }
  return read<E>();
}

template <class T, class... Ms>
T Reader::build(Types<Ms...>) {
  return T{read<Ms>()...};  // in this order: the braces see to it
}

template <class T>
T Reader::fill_aggregate() {
  T value{};
  serialization::with_members(value, [&](auto&... members) { (read_into(members), ...); });
  return value;
}

template <class T>
T Reader::read_array() {
  T value{};
  for (auto& element : value) read_into(element);
  return value;
}

template <class T>
T Reader::read_time_of_day() {
  using Precision = typename T::precision;
  const auto time = read<Precision>();
  // hh_mm_ss takes the absolute value, and counts seconds in a long.
  const auto seconds =
      static_cast<long double>(time.count()) * Precision::period::num / Precision::period::den;
  if (time == Precision::min() || !(seconds > -1e15L && seconds < 1e15L))
    throw_error("a time of day is out of range");
  return T(time);
}

template <class T>
T Reader::read_optional() {
  T value;
  if (flag()) value.emplace(read<std::remove_cv_t<typename T::value_type>>());
  return value;
}

template <class T>
T Reader::read_pointer() {
  using E = std::remove_cv_t<typename T::element_type>;
  if (!flag()) return T{};
  Level level{*this};
  return T{new E(read<E>())};
}

template <class List, std::size_t I>
struct NthType;
template <class First, class... Rest, std::size_t I>
struct NthType<Types<First, Rest...>, I> : NthType<Types<Rest...>, I - 1> {};
template <class First, class... Rest>
struct NthType<Types<First, Rest...>, 0> {
  using type = First;
};

template <class T, std::size_t I>
T Reader::read_alternative(std::size_t index) {
  if constexpr (I < shapes::Alternatives<T>::size) {
    using A = typename NthType<typename shapes::Alternatives<T>::types, I>::type;
    if (index == I) return T{std::in_place_index<I>, read<std::remove_cv_t<A>>()};
    return read_alternative<T, I + 1>(index);
  } else {
    throw_error("a variant has no such alternative");
  }
}

template <class T>
T Reader::read_map() {
  using K = std::remove_cv_t<typename T::key_type>;
  using V = std::remove_cv_t<typename T::mapped_type>;
  Level level{*this};
  const std::size_t size = length<K>();
  T map;
  if constexpr (requires { map.reserve(size); }) map.reserve(size);
  for (std::size_t i = 0; i < size; ++i) {
    K key = read_element<K>();
    map.emplace_hint(map.end(), std::move(key), read<V>());
  }
  if (map.size() != size) throw_error("a key occurs twice");
  return map;
}

template <class T>
T Reader::read_set() {
  using K = std::remove_cv_t<typename T::key_type>;
  Level level{*this};
  const std::size_t size = length<K>();
  T set;
  if constexpr (requires { set.reserve(size); }) set.reserve(size);
  for (std::size_t i = 0; i < size; ++i) set.emplace_hint(set.end(), read_element<K>());
  if (set.size() != size) throw_error("a key occurs twice");
  return set;
}

template <class T>
T Reader::read_forward_list() {
  using E = std::remove_cv_t<typename T::value_type>;
  Level level{*this};
  const std::size_t size = length<E>();
  T list;
  auto last = list.before_begin();
  for (std::size_t i = 0; i < size; ++i) last = list.insert_after(last, read_element<E>());
  return list;
}

// So large that it lies in fresh memory: copied as a whole, past the caches, and with no zeros
// written before.
template <class T, class E>
concept HugeSequence = requires(T sequence, const E* elements, std::size_t size) {
  sequence.reserve(size);
  sequence.insert(sequence.end(), elements, elements + size);
};
template <class T, class E>
T copy_huge(const E* elements, std::size_t size) {
  T sequence;
  sequence.reserve(size);
  posix::expect_filling(sequence.data(), size * sizeof(E));
  sequence.insert(sequence.end(), elements, elements + size);
  return sequence;
}

template <class T>
T Reader::read_sequence() {
  using E = typename T::value_type;
  const std::size_t size = length<E>();
  if constexpr (std::is_same_v<E, char> && std::is_constructible_v<T, const char*, std::size_t>) {
    const char* const bytes = take(size);  // of a string
    if constexpr (HugeSequence<T, E>)
      if (size >= posix::surely_mapped) return copy_huge<T>(bytes, size);
    return T(bytes, size);
  } else if constexpr (shapes::Contiguous<T> && is_bulk<E>) {
    if constexpr (HugeSequence<T, E>) {
      if (size >= posix::surely_mapped / sizeof(E) &&
          reinterpret_cast<std::uintptr_t>(at_) % alignof(E) == 0)
        return copy_huge<T>(reinterpret_cast<const E*>(take(size * sizeof(E))), size);
    }
    T sequence;
    if constexpr (requires { sequence.reserve(size); }) sequence.reserve(size);
    // In steps that stay in the cache: the zeros of resize then never travel to memory.
    constexpr std::size_t step = sizeof(E) < 16384 ? 16384 / sizeof(E) : 1;
    for (std::size_t done = 0; done < size;) {
      const std::size_t now = size - done < step ? size - done : step;
      sequence.resize(done + now);
      std::memcpy(static_cast<void*>(sequence.data() + done), take(now * sizeof(E)),
                  now * sizeof(E));
      done += now;
    }
    return sequence;
  } else {
    Level level{*this};
    T sequence;
    if constexpr (requires { sequence.reserve(size); }) {
      // An element may be larger in memory than in the input, but not all of them much larger.
      constexpr std::size_t generous = 8;
      const std::size_t most = (generous * left() + 4096) / sizeof(E) + 1;
      sequence.reserve(size < most ? size : most);
    }
    for (std::size_t i = 0; i < size; ++i) sequence.push_back(read_element<E>());
    if (sequence.size() != size) throw_error("a sequence does not keep its elements");
    return sequence;
  }
}

template <class T>
T Reader::read_adaptor() {
  using E = typename T::value_type;
  Level level{*this};
  const std::size_t size = length<E>();
  T adaptor;
  for (std::size_t i = 0; i < size; ++i) adaptor.push(read_element<E>());
  return adaptor;
}

template <class T>
T Reader::read_bits() {
  T bits{};
  for (std::size_t i = 0; i < bits.size(); i += 8) {
    const unsigned byte = raw<unsigned char>();
    for (std::size_t bit = i; bit < i + 8; ++bit) {
      const bool set = ((byte >> (bit - i)) & 1u) != 0;
      if (bit < bits.size())
        bits.set(bit, set);
      else if (set)
        throw_error("a bitset has no such bit");
    }
  }
  return bits;
}

template <class T>
T Reader::read_member() {
  Level level{*this};
  T value{};
  value.serialize(*this);
  return value;
}

template <class T>
T Reader::read() {
  constexpr Shape is = shape<T>;
  static_assert(is != Shape::unknown,
                "this type is not brood::Serializable: see the comment there");
  if constexpr (is_bulk<T>) {
    return raw<T>();
  } else if constexpr (is == Shape::custom) {
    Level level{*this};
    return Serializer<T>::read(*this);
  } else if constexpr (is == Shape::member) {
    return read_member<T>();
  } else if constexpr (is == Shape::boolean) {
    return static_cast<T>(flag());
  } else if constexpr (is == Shape::extended) {
    T value = 0;
    std::memcpy(&value, take(10), 10);
    return value;
  } else if constexpr (is == Shape::array) {
    return read_array<T>();
  } else if constexpr (is == Shape::complex) {
    return build<T>(Types<typename T::value_type, typename T::value_type>{});
  } else if constexpr (is == Shape::duration) {
    return T(read<typename T::rep>());
  } else if constexpr (is == Shape::time_point) {
    return T(read<typename T::duration>());
  } else if constexpr (is == Shape::time_of_day) {
    return read_time_of_day<T>();
  } else if constexpr (is == Shape::path) {
    return T(read<typename T::string_type>());
  } else if constexpr (is == Shape::optional) {
    return read_optional<T>();
  } else if constexpr (is == Shape::pointer) {
    return read_pointer<T>();
  } else if constexpr (is == Shape::variant) {
    return read_alternative<T, 0>(raw<variant_index<T>>());
  } else if constexpr (is == Shape::tuple) {
    return build<T>(element_types<T>{});
  } else if constexpr (is == Shape::map) {
    return read_map<T>();
  } else if constexpr (is == Shape::set) {
    return read_set<T>();
  } else if constexpr (is == Shape::forward_list) {
    return read_forward_list<T>();
  } else if constexpr (is == Shape::sequence) {
    return read_sequence<T>();
  } else if constexpr (is == Shape::adaptor) {
    return read_adaptor<T>();
  } else if constexpr (is == Shape::bitset) {
    return read_bits<T>();
  } else if constexpr (built_from_members<T>) {
    return build<T>(member_types<T>{});
  } else {
    return fill_aggregate<T>();
  }
}

template <class T>
void Reader::read_into(T& value) {
  if constexpr (std::is_array_v<T> && is_bulk<T>)
    std::memcpy(&value, take(sizeof(T)), sizeof(T));
  else if constexpr (std::is_array_v<T>)
    for (auto& element : value) read_into(element);
  else
    value = read<T>();
}

template <class... Ts>
Reader& Reader::operator()(Ts&... values) {
  static_assert((Serializable<std::remove_all_extents_t<Ts>> && ...),
                "a member given to the archive is not brood::Serializable");
  (read_into(values), ...);
  return *this;
}

}  // namespace brood::serialization
