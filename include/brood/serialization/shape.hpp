// SPDX-License-Identifier: MIT
// Which known shape a type has. The standard's containers and vocabulary types are recognised by
// what they can do, so that no header of theirs is included, and a look-alike of another library
// works as they do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>

#include "hooks.hpp"
#include "members.hpp"

namespace brood::serialization {

enum class Shape : unsigned char {
  unknown,
  custom,        ///< a Serializer
  bytes,         ///< the bytes of the object, all of them valid whatever they are
  member,        ///< a serialize member
  boolean,       ///< 0 or 1: bool, and enums over it
  extended,      ///< the x87 long double: ten bytes, then padding
  c_array,       ///< T[n]
  array,         ///< std::array
  complex,       ///< real(), imag()
  duration,      ///< count() of a rep
  time_point,    ///< time_since_epoch()
  time_of_day,   ///< chrono::hh_mm_ss: to_duration()
  path,          ///< native() text
  optional,      ///< has_value() and emplace
  pointer,       ///< unique_ptr with the default deleter
  variant,       ///< index() and alternatives
  tuple,         ///< the tuple protocol: tuple, pair
  map,           ///< keys with mapped values
  set,           ///< keys
  forward_list,  ///< inserts after an iterator
  sequence,      ///< push_back
  adaptor,       ///< stack, queue, priority_queue
  bitset,        ///< a fixed number of bits
  aggregate
};

template <class T>
consteval Shape find_shape();
template <class T>
inline constexpr Shape shape = find_shape<std::remove_cv_t<T>>();

/// T crosses as one memcpy of its bytes: every bit pattern is a value of it, and it has no padding.
template <class T>
consteval bool find_bulk();
template <class T>
inline constexpr bool is_bulk = find_bulk<std::remove_cv_t<T>>();

/// How many bytes values of one type take.
struct Extent {
  std::size_t least;  ///< no value takes fewer
  bool fixed;         ///< and none takes more
};
template <class T>
consteval Extent find_extent();
template <class T>
inline constexpr Extent extent = find_extent<T>();

/// The name of T as the compiler spells it.
template <class T>
consteval std::string_view type_name() {
  constexpr std::string_view whole = __PRETTY_FUNCTION__;
  // "... type_name() [with T = int; std::string_view = ...]" of gcc, "... [T = int]" of clang.
  constexpr std::size_t begin = whole.find("T = ") + 4;
  constexpr std::size_t with = whole.rfind("; std::string_view");
  return whole.substr(begin, (with == whole.npos ? whole.size() - 1 : with) - begin);
}

// ---------------------------------------------------------------------------------------------

// How each shape is known.
namespace shapes {

__extension__ using int128 = __int128;
__extension__ using uint128 = unsigned __int128;

template <class T>
concept Arithmetic =
    std::is_arithmetic_v<T> || std::is_same_v<T, int128> || std::is_same_v<T, uint128>;

template <class T>
concept Complex = requires(const T& c, typename T::value_type v) {
  requires std::is_trivially_copyable_v<T>;
  requires sizeof(T) == 2 * sizeof(v);
  requires std::is_same_v<decltype(c.real()), decltype(v)>;
  requires std::is_same_v<decltype(c.imag()), decltype(v)>;
  T(v, v);
};

template <class T>
concept Duration = requires(const T& d) {
  requires std::is_trivially_copyable_v<T>;
  requires sizeof(T) == sizeof(typename T::rep);
  requires std::is_same_v<decltype(d.count()), typename T::rep>;
  T::period::num / T::period::den;
  T(d.count());
};

template <class T>
concept TimePoint = requires(const T& t) {
  typename T::clock;
  requires std::is_trivially_copyable_v<T>;
  requires sizeof(T) == sizeof(typename T::duration);
  requires std::is_same_v<decltype(t.time_since_epoch()), typename T::duration>;
  T(t.time_since_epoch());
};

template <class T>
concept TimeOfDay = requires(const T& t) {
  requires std::is_same_v<decltype(t.to_duration()), typename T::precision>;
  T(t.to_duration());
};

// year, month, weekday, year_month_day, ...: small numbers that need not be ok().
template <class T>
concept Calendar = requires(const T& t) {
  t.ok();
  requires std::is_trivially_copyable_v<T>;
  requires sizeof(T) <= 16;
  requires type_name<T>()
  .substr(0, 5) == "std::";
  requires type_name<T>()
  .find("chrono::") != std::string_view::npos;
};

template <class T>
concept Path = requires(const T& p) {
  typename T::string_type;
  p.root_directory();
  requires std::is_same_v<decltype(p.native()), const typename T::string_type&>;
  requires std::is_constructible_v<T, typename T::string_type>;
};

template <class T>
concept Optional = std::is_default_constructible_v<T> && requires(T& o, typename T::value_type& v) {
  static_cast<bool>(o.has_value());
  o.reset();
  o.emplace(std::move(v));
  *o;
};

// Only what was made by new, and is destroyed as what it is.
template <class T>
concept OwningPointer = requires(T& p, typename T::element_type* e) {
  typename T::deleter_type;
  p.release();
  p.reset(e);
  *p;
  requires std::is_object_v<typename T::element_type>;
  requires !std::is_array_v<typename T::element_type>;
  requires !std::is_polymorphic_v<typename T::element_type> ||
      std::is_final_v<typename T::element_type>;
  requires type_name<typename T::deleter_type>()
  .substr(0, 5) == "std::";
  requires type_name<typename T::deleter_type>()
  .find("default_delete<") != std::string_view::npos;
};

template <class T>
struct Alternatives {};  // no list: not a template over types
template <template <class...> class V, class... Ts>
struct Alternatives<V<Ts...>> {
  using types = Types<Ts...>;
  static constexpr std::size_t size = sizeof...(Ts);
};
template <class T>
concept Variant = requires(const T& v) {
  v.index();
  { v.valueless_by_exception() }
  noexcept;
  typename Alternatives<T>::types;
};

template <class T>
concept Tuple = requires {
  std::tuple_size<T>::value;
};

template <class T>
concept Array = Tuple<T> && requires(T& a) {
  requires std::is_same_v<decltype(a.data()), typename T::value_type*> &&
      std::is_default_constructible_v<typename T::value_type>;
};

template <class T>
concept Range = requires(const T& c) {
  typename T::value_type;
  c.begin() != c.end();
};

// A pointer to the function that orders or hashes the elements, which a new container has not got.
template <class T>
concept OrderedByPointer = requires {
  requires std::is_pointer_v<typename T::key_compare>;
}
|| requires { requires std::is_pointer_v<typename T::value_compare>; }
|| requires { requires std::is_pointer_v<typename T::hasher>; }
|| requires { requires std::is_pointer_v<typename T::key_equal>; };

template <class T>
concept Container = Range<T> && std::is_default_constructible_v<T> && !OrderedByPointer<T>;

template <class T>
concept Set = Container<T> && requires(T& c, typename T::key_type& key) {
  c.emplace_hint(c.end(), std::move(key));
  c.size();
};

template <class T>
concept Map = Container<T> &&
    requires(T& c, typename T::key_type& key, typename T::mapped_type& value) {
  c.emplace_hint(c.end(), std::move(key), std::move(value));
  c.size();
};

template <class T>
concept ForwardList = Container<T> && requires(T& c, typename T::value_type& value) {
  c.insert_after(c.before_begin(), std::move(value));
};

template <class T>
concept Sequence = Container<T> && requires(T& c, typename T::value_type& value) {
  c.push_back(std::move(value));
  c.size();
};

template <class T>
concept Adaptor = !Range<T> && !OrderedByPointer<T> && std::is_default_constructible_v<T> &&
                  !std::is_final_v<T> && requires(T & a, typename T::value_type& value) {
  requires Range<typename T::container_type>;
  a.push(std::move(value));
  a.pop();
};

template <class T>
concept Bitset = std::is_trivially_copyable_v<T> && requires(T& b) {
  typename std::bool_constant<(T{}.size() > 0)>;
  b.set(b.size(), b.test(b.size()));
  b.flip();
};

/// Its elements lie in one block that can be resized and filled.
template <class T>
concept Contiguous = Sequence<T> && requires(T& c) {
  requires std::is_same_v<decltype(c.data()), typename T::value_type*> &&
      std::is_default_constructible_v<typename T::value_type>;
  c.resize(c.size());
};

}  // namespace shapes

template <class T>
consteval Shape find_shape() {
  // Whatever its author says comes first.
  if constexpr (HasSerializer<T>) {
    return Shape::custom;
  } else if constexpr (trivially_serializable<T>) {
    static_assert(std::is_trivially_copyable_v<T>,
                  "brood::trivially_serializable is for trivially copyable types only");
    return Shape::bytes;
  } else if constexpr (HasSerializeMember<T>) {
    return Shape::member;
  } else if constexpr (std::is_same_v<T, bool>) {
    return Shape::boolean;
  } else if constexpr (std::is_same_v<T, long double> &&
                       std::numeric_limits<long double>::digits == 64) {
    return Shape::extended;
  } else if constexpr (shapes::Arithmetic<T>) {
    return Shape::bytes;
  } else if constexpr (std::is_enum_v<T>) {
    return std::is_same_v<std::underlying_type_t<T>, bool> ? Shape::boolean : Shape::bytes;
  } else if constexpr (std::is_bounded_array_v<T>) {
    return Shape::c_array;
  } else if constexpr (!std::is_class_v<T>) {
    return Shape::unknown;
  } else if constexpr (shapes::Array<T>) {
    return Shape::array;
  } else if constexpr (shapes::Complex<T>) {
    return Shape::complex;
  } else if constexpr (shapes::Tuple<T>) {
    return Shape::tuple;
  } else if constexpr (std::is_aggregate_v<T>) {
    return Shape::aggregate;
  } else if constexpr (shapes::Path<T>) {  // before the sequences: a path is a range of paths
    return Shape::path;
  } else if constexpr (shapes::Map<T>) {
    return Shape::map;
  } else if constexpr (shapes::Set<T>) {
    return Shape::set;
  } else if constexpr (shapes::Sequence<T>) {
    return Shape::sequence;
  } else if constexpr (shapes::ForwardList<T>) {
    return Shape::forward_list;
  } else if constexpr (shapes::Optional<T>) {
    return Shape::optional;
  } else if constexpr (shapes::OwningPointer<T>) {
    return Shape::pointer;
  } else if constexpr (shapes::Variant<T>) {
    return Shape::variant;
  } else if constexpr (shapes::Duration<T>) {
    return Shape::duration;
  } else if constexpr (shapes::TimePoint<T>) {
    return Shape::time_point;
  } else if constexpr (shapes::TimeOfDay<T>) {
    return Shape::time_of_day;
  } else if constexpr (shapes::Calendar<T>) {
    return Shape::bytes;
  } else if constexpr (shapes::Adaptor<T>) {
    return Shape::adaptor;
  } else if constexpr (shapes::Bitset<T>) {
    return Shape::bitset;
  } else {
    return Shape::unknown;
  }
}

template <class T, std::size_t... I>
Types<std::remove_cv_t<std::tuple_element_t<I, T>>...> tuple_types(std::index_sequence<I...>);

/// Types<...> of the elements of a tuple, pair or the like, without their const.
template <class T>
using element_types =
    decltype(serialization::tuple_types<T>(std::make_index_sequence<std::tuple_size_v<T>>{}));

template <class T, class... Ms>
consteval bool members_are_bulk(Types<Ms...>);

template <class T>
consteval bool find_bulk() {
  if constexpr (shape<T> == Shape::bytes) {
    return true;
  } else if constexpr (shape<T> == Shape::c_array) {
    return is_bulk<std::remove_all_extents_t<T>>;
  } else if constexpr (shape<T> == Shape::array) {
    return std::tuple_size_v<T> != 0 && is_bulk<typename T::value_type> &&
           sizeof(T) == std::tuple_size_v<T> * sizeof(typename T::value_type);
  } else if constexpr (shape<T> == Shape::complex) {
    return is_bulk<typename T::value_type>;
  } else if constexpr (shape<T> == Shape::duration) {
    return is_bulk<typename T::rep>;
  } else if constexpr (shape<T> == Shape::time_point) {
    return is_bulk<typename T::duration>;
  } else if constexpr (shape<T> == Shape::aggregate && std::is_trivially_copyable_v<T> &&
                       !std::is_empty_v<T>) {
    if constexpr (members<T>.obstacle == Obstacle::none &&
                  !std::is_same_v<VolatileMembers<T>, Obstacle>)
      return serialization::members_are_bulk<T>(member_types<T>{});
    else
      return false;
  } else {
    return false;
  }
}

template <class T, class... Ms>
consteval bool members_are_bulk(Types<Ms...>) {
  return !OwnMembers<VolatileMembers<T>>::has_reference && (is_bulk<Ms> && ...) &&
         (sizeof(Ms) + ... + 0) == sizeof(T);
}

/// The number that tells a variant's alternatives apart.
template <class T>
using variant_index =
    std::conditional_t<(shapes::Alternatives<T>::size < 256), std::uint8_t, std::uint32_t>;

template <class... Ms>
consteval Extent sum_of_extents(Types<Ms...>) {
  return {(extent<Ms>.least + ... + 0), (extent<Ms>.fixed && ...)};
}

template <class T>
consteval Extent find_extent() {
  constexpr Shape is = shape<T>;
  if constexpr (is_bulk<T>) {
    return {sizeof(T), true};
  } else if constexpr (is == Shape::boolean) {
    return {1, true};
  } else if constexpr (is == Shape::extended) {
    return {10, true};
  } else if constexpr (is == Shape::c_array) {
    using Element = std::remove_extent_t<T>;
    return {std::extent_v<T> * extent<Element>.least, extent<Element>.fixed};
  } else if constexpr (is == Shape::array) {
    using Element = typename T::value_type;
    return {std::tuple_size_v<T> * extent<Element>.least,
            std::tuple_size_v<T> == 0 || extent<Element>.fixed};
  } else if constexpr (is == Shape::complex) {
    return {2 * extent<typename T::value_type>.least, true};
  } else if constexpr (is == Shape::duration) {
    return extent<typename T::rep>;
  } else if constexpr (is == Shape::time_point) {
    return extent<typename T::duration>;
  } else if constexpr (is == Shape::time_of_day) {
    return extent<typename T::precision>;
  } else if constexpr (is == Shape::optional || is == Shape::pointer) {
    return {1, false};
  } else if constexpr (is == Shape::variant) {
    return {sizeof(variant_index<T>), false};
  } else if constexpr (is == Shape::tuple) {
    return serialization::sum_of_extents(element_types<T>{});
  } else if constexpr (is == Shape::aggregate) {
    return serialization::sum_of_extents(member_types<T>{});
  } else if constexpr (is == Shape::bitset) {
    return {(T{}.size() + 7) / 8, true};
  } else if constexpr (is == Shape::custom || is == Shape::member) {
    return {0, false};
  } else {
    return {sizeof(std::uint64_t), false};  // the length in front of the elements
  }
}

}  // namespace brood::serialization
