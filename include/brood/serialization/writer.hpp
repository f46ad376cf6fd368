// SPDX-License-Identifier: MIT
// Values to bytes, without a header in front: what queues and pools use, which know the type by
// other means.
//
//     std::size_t size = serialized_size(value);
//     Writer{buffer, size}.write(value);
//
// The form: native byte order and sizes, nothing aligned. Members, elements and alternatives follow
// one another; a container has its length before them (64 bits), an optional and a unique_ptr a
// flag (0 or 1), a variant the index of its alternative. What is_bulk is copied in one go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "archive.hpp"
#include "error.hpp"
#include "hooks.hpp"
#include "members.hpp"
#include "serializable.hpp"
#include "shape.hpp"

namespace brood::serialization {

/// The writing half of an Archive: Out is the Sizer or the Writer.
template <class Out>
class Output : public Archive {
 public:
  static constexpr bool is_loading = false;

  /// Appends `value`. The type of it must be Serializable.
  template <class T>
  void write(const T& value);

  /// What `serialize` members call: ar(a, b, c).
  template <class... Ts>
  Out& operator()(const Ts&... values);

 protected:
  using Archive::Archive;

 private:
  Out& out() noexcept { return static_cast<Out&>(*this); }
  template <class T>
  void raw(const T& value) {
    out().write_bytes(&value, sizeof(T));
  }
  template <class C>
  void write_range(const C& range, std::size_t size);
  template <class E>
  void write_element(const E& element);
  template <std::size_t I, class V>
  void write_alternative(const V& variant);
  template <class B>
  void write_bits(const B& bits);
};

/// Counts the bytes that a Writer will write. A Serializer sees it by `Out::is_sizing`.
class Sizer : public Output<Sizer> {
 public:
  static constexpr bool is_sizing = true;

  explicit Sizer(Context* context = nullptr) noexcept : Output{context} {}
  void write_bytes(const void*, std::size_t size) noexcept { size_ += size; }
  void skip(std::size_t size) noexcept { size_ += size; }
  std::size_t size() const noexcept { return size_; }

 private:
  std::size_t size_ = 0;
};

/// Writes values one behind the other into memory of the caller's, and never past its end: throws
/// SerializationError instead.
class Writer : public Output<Writer> {
 public:
  static constexpr bool is_sizing = false;

  /// `begin[0 .. size)` must outlive the Writer.
  Writer(char* begin, std::size_t size, Context* context = nullptr) noexcept
      : Output{context}, begin_{begin}, at_{begin}, end_{begin + size} {}

  void write_bytes(const void* bytes, std::size_t size) {
    const auto room = static_cast<std::size_t>(end_ - at_);
    if (size > room) throw_error("the value does not fit, in bytes", size, room);
    if (size != 0) std::memcpy(at_, bytes, size);
    at_ += size;
  }
  /// How many bytes lie in the memory by now.
  std::size_t written() const noexcept { return static_cast<std::size_t>(at_ - begin_); }

 private:
  char* begin_;
  char* at_;
  char* end_;
};

/// Exactly the bytes that Writer::write(value) takes. It may walk through the whole value. Throws
/// SerializationError if the value is nested too deeply.
template <class T>
std::size_t serialized_size(const T& value, Context* context = nullptr) {
  if constexpr (extent<T>.fixed) {
    return extent<T>.least;
  } else {
    Sizer sizer{context};
    sizer.write(value);
    return sizer.size();
  }
}

// ---------------------------------------------------------------------------------------------

// The elements of a stack, queue or priority_queue.
template <class T>
const typename T::container_type& underlying(const T& adaptor) {
  struct Access : T {
    static const typename T::container_type& of(const T& adaptor) { return adaptor.*&Access::c; }
  };
  return Access::of(adaptor);
}

template <class Out>
template <class E>
void Output<Out>::write_element(const E& element) {
  if constexpr (extent<E>.least == 0) raw('\0');
  write(element);
}

template <class Out>
template <class C>
void Output<Out>::write_range(const C& range, std::size_t size) {
  using E = typename C::value_type;
  raw(static_cast<std::uint64_t>(size));
  if constexpr (shapes::Contiguous<C> && is_bulk<E>) {
    out().write_bytes(range.data(), size * sizeof(E));
  } else if constexpr (Out::is_sizing && extent<E>.fixed) {
    out().skip(size * least_element<E>);
  } else {
    Level level{*this};
    for (const auto& element : range) {
      // vector<bool> gives proxies.
      if constexpr (std::is_same_v<E, bool>)
        raw(static_cast<char>(static_cast<bool>(element)));
      else
        write_element(element);
    }
  }
}

template <class Out>
template <std::size_t I, class V>
void Output<Out>::write_alternative(const V& variant) {
  if constexpr (I < shapes::Alternatives<V>::size) {
    if (variant.index() == I)
      write(*get_if<I>(&variant));  // by argument dependent lookup: <variant> is not included
    else
      write_alternative<I + 1>(variant);
  }
}

template <class Out>
template <class B>
void Output<Out>::write_bits(const B& bits) {
  for (std::size_t i = 0; i < bits.size(); i += 8) {
    unsigned byte = 0;
    for (std::size_t bit = i; bit < i + 8 && bit < bits.size(); ++bit)
      byte |= static_cast<unsigned>(bits.test(bit)) << (bit - i);
    raw(static_cast<unsigned char>(byte));
  }
}

template <class Out>
template <class T>
void Output<Out>::write(const T& value) {
  constexpr Shape is = shape<T>;
  static_assert(is != Shape::unknown,
                "this type is not brood::Serializable: see the comment there");
  if constexpr (Out::is_sizing && extent<T>.fixed) {
    out().skip(extent<T>.least);
  } else if constexpr (is_bulk<T>) {
    raw(value);
  } else if constexpr (is == Shape::custom) {
    Level level{*this};
    Serializer<T>::write(out(), value);
  } else if constexpr (is == Shape::member) {
    Level level{*this};
    // One member serves both directions; it only reads here.
    const_cast<T&>(value).serialize(out());
  } else if constexpr (is == Shape::boolean) {
    raw(static_cast<char>(static_cast<bool>(value)));
  } else if constexpr (is == Shape::extended) {
    out().write_bytes(&value, 10);
  } else if constexpr (is == Shape::c_array || is == Shape::array) {
    for (const auto& element : value) write(element);
  } else if constexpr (is == Shape::complex) {
    write(value.real());
    write(value.imag());
  } else if constexpr (is == Shape::duration) {
    write(value.count());
  } else if constexpr (is == Shape::time_point) {
    write(value.time_since_epoch());
  } else if constexpr (is == Shape::time_of_day) {
    write(value.to_duration());
  } else if constexpr (is == Shape::path) {
    write(value.native());
  } else if constexpr (is == Shape::optional) {
    raw(static_cast<char>(value.has_value()));
    if (value.has_value()) write(*value);
  } else if constexpr (is == Shape::pointer) {
    raw(static_cast<char>(value != nullptr));
    if (value == nullptr) return;
    Level level{*this};
    write(*value);
  } else if constexpr (is == Shape::variant) {
    if (value.valueless_by_exception()) throw_error("a variant without a value");
    raw(static_cast<variant_index<T>>(value.index()));
    write_alternative<0>(value);
  } else if constexpr (is == Shape::tuple) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      using std::get;
      (write(get<I>(value)), ...);
    }
    (std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (is == Shape::map) {
    Level level{*this};
    raw(static_cast<std::uint64_t>(value.size()));
    for (const auto& element : value) {
      write_element(element.first);
      write(element.second);
    }
  } else if constexpr (is == Shape::forward_list) {
    std::size_t size = 0;
    for (auto i = value.begin(); i != value.end(); ++i) ++size;
    write_range(value, size);
  } else if constexpr (is == Shape::adaptor) {
    const auto& elements = serialization::underlying(value);
    write_range(elements, elements.size());
  } else if constexpr (is == Shape::bitset) {
    write_bits(value);
  } else if constexpr (is == Shape::aggregate) {
    serialization::with_members(value, [&](const auto&... members) { (write(members), ...); });
  } else {  // sequence, set
    write_range(value, value.size());
  }
}

template <class Out>
template <class... Ts>
Out& Output<Out>::operator()(const Ts&... values) {
  static_assert((Serializable<std::remove_all_extents_t<Ts>> && ...),
                "a member given to the archive is not brood::Serializable");
  (write(values), ...);
  return out();
}

}  // namespace brood::serialization
