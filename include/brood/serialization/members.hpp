// SPDX-License-Identifier: MIT
// The members of an aggregate, counted and handed out without the help of its author. C++20 has no
// way to ask for either, so the count is found by trying initialisers, and the members by
// structured bindings of that many names.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "hooks.hpp"

namespace brood::serialization {

/// More members than this need a `serialize` member.
inline constexpr std::size_t max_members = 32;

/// What stands in the way of taking an aggregate apart.
enum class Obstacle : unsigned char {
  none,
  pointer,           ///< a pointer or a reference, or a view made of them
  too_many_members,  ///< more than max_members
  base_class,        ///< an aggregate with a base
  union_member,      ///< a union, or an aggregate that contains one
  bit_field,         ///< an aggregate with a bit-field
  const_serialize,   ///< a serialize member that is const
  no_construction,   ///< it can be written, but not built from what was read
  unknown            ///< no shape that is known, and no serialize member
};

/// A list of types.
template <class... Ts>
struct Types {};

/// How many members the aggregate T has, or why that cannot be said.
template <class T>
struct Members {
  std::size_t count = 0;
  Obstacle obstacle = Obstacle::none;
};
template <class T>
consteval Members<T> count_members();
template <class T>
inline constexpr Members<T> members = count_members<T>();

/// f(first, second, ...) with every member of an aggregate, as lvalues.
template <class T, class F>
constexpr decltype(auto) with_members(T& aggregate, F&& f);

// ---------------------------------------------------------------------------------------------

// Initialisers that become whatever is asked for (never T itself: that would be a copy). They are
// never evaluated; bodies keep compilers from missing them.
template <class T>
struct Anything {
  template <class U>
  requires(!std::is_same_v<U, T>) constexpr operator U() const noexcept {  // NOLINT: implicit
    __builtin_unreachable();
  }
};
template <class T>
struct AnyBase {
  template <class U>
  requires(!std::is_same_v<U, T> && std::is_base_of_v<U, T>) constexpr operator U()
      const noexcept {  // NOLINT: implicit
    __builtin_unreachable();
  }
};
// A union nobody has vouched for. An unnamed one cannot be bound, and would be a hard error later.
template <class T>
struct AnyUnion {
  template <class U>
  requires(std::is_union_v<U> && !VouchedFor<U>) constexpr operator U()
      const noexcept {  // NOLINT: implicit
    __builtin_unreachable();
  }
};
// A class that is vouched for, whatever it is made of.
template <class T>
struct AnyVouchedFor {
  template <class U>
  requires(!std::is_same_v<U, T> && VouchedFor<U>) constexpr operator U()
      const noexcept {  // NOLINT: implicit
    __builtin_unreachable();
  }
};

template <std::size_t Index, std::size_t Special, class Then, class Else>
using At = std::conditional_t<Index == Special, Then, Else>;

// Whether T{anything, ..., special, ..., anything} is well-formed, with the special one at Place.
template <class T, class Special, std::size_t Place, std::size_t... I>
consteval bool takes(std::index_sequence<I...>) {
  return requires { T{At<I, Place, Special, Anything<T>>{}...}; };
}

template <class T, std::size_t... I>
consteval bool has_union(std::index_sequence<I...> all) {
  return ((takes<T, AnyUnion<T>, I>(all) && !takes<T, AnyVouchedFor<T>, I>(all)) || ...);
}

template <class T, std::size_t>
using AnythingAt = Anything<T>;

// Whether T{anything, ..., {anything, ...}, anything, ...} is well-formed.
template <class T, std::size_t... Before, std::size_t... Inside, std::size_t... After>
consteval bool takes_braced(std::index_sequence<Before...>, std::index_sequence<Inside...>,
                            std::index_sequence<After...>) {
  return requires {
    T{AnythingAt<T, Before>{}..., {AnythingAt<T, Inside>{}...}, AnythingAt<T, After>{}...};
  };
}

// An array without braces takes one initialiser for each of its elements. So if Count is the
// longest list without braces, and braces around Inside of it are accepted, but not with one more
// behind them, an array stands at Place.
template <class T, std::size_t Count, std::size_t Place, std::size_t... I>
consteval bool is_array_at(std::index_sequence<I...>) {
  return ((takes_braced<T>(std::make_index_sequence<Place>{}, std::make_index_sequence<I + 2>{},
                           std::make_index_sequence<Count - Place - I - 2>{}) &&
           !takes_braced<T>(std::make_index_sequence<Place>{}, std::make_index_sequence<I + 2>{},
                            std::make_index_sequence<Count - Place - I - 1>{})) ||
          ...);
}
template <class T, std::size_t Count, std::size_t... Place>
consteval bool has_array(std::index_sequence<Place...>) {
  return (is_array_at<T, Count, Place>(std::make_index_sequence<Count - Place - 1>{}) || ...);
}

// For an aggregate with members that must be given a value: the longest list it takes.
template <class T, std::size_t Count = max_members + 1>
consteval Members<T> count_required() {
  if constexpr (Count == 0) {
    return {0, Obstacle::unknown};
  } else {
    using All = std::make_index_sequence<Count>;
    if constexpr (!takes<T, Anything<T>, 0>(All{}))
      return count_required<T, Count - 1>();
    else if constexpr (takes<T, AnyBase<T>, 0>(All{}))
      return {0, Obstacle::base_class};
    else if constexpr (has_union<T>(All{}))
      return {0, Obstacle::union_member};
    else if constexpr (Count > max_members)
      return {0, Obstacle::too_many_members};
    else if constexpr (has_array<T, Count>(All{}))
      return {0, Obstacle::no_construction};  // it could not be filled after it was made
    else
      return {Count, Obstacle::none};
  }
}

#define BROOD_EMPTY_1 {},
#define BROOD_EMPTY_2 BROOD_EMPTY_1 BROOD_EMPTY_1
#define BROOD_EMPTY_4 BROOD_EMPTY_2 BROOD_EMPTY_2
#define BROOD_EMPTY_8 BROOD_EMPTY_4 BROOD_EMPTY_4
#define BROOD_EMPTY_16 BROOD_EMPTY_8 BROOD_EMPTY_8
// n members take {} each. There are no more if neither {} nor anything else fits one behind them.
#define BROOD_ROW(n, EMPTY)                                                               \
  if constexpr (                                                                          \
      requires { T{EMPTY AnyUnion<T>{}}; } && !requires { T{EMPTY AnyVouchedFor<T>{}}; }) \
    return {0, Obstacle::union_member};                                                   \
  else if constexpr (                                                                     \
      !requires { T{EMPTY{}}; } && requires { T{EMPTY Anything<T>{}}; })                  \
    return count_required<T>();                                                           \
  else if constexpr (!requires { T{EMPTY{}}; })                                           \
    return {n, Obstacle::none};                                                           \
  else

// clang-format off
template <class T>
consteval Members<T> count_members() {
  // `{}` stands for exactly one member of whatever type, an array too, as long as it has a default.
  if constexpr (std::is_empty_v<T> && requires { T{}; }) return {};  // not even its bases have any
  else if constexpr (!requires { T{}; }) return count_required<T>();
  else if constexpr (requires { T{AnyBase<T>{}}; }) return {0, Obstacle::base_class};
  else
  BROOD_ROW(0, )
  BROOD_ROW(1, BROOD_EMPTY_1)
  BROOD_ROW(2, BROOD_EMPTY_2)
  BROOD_ROW(3, BROOD_EMPTY_2 BROOD_EMPTY_1)
  BROOD_ROW(4, BROOD_EMPTY_4)
  BROOD_ROW(5, BROOD_EMPTY_4 BROOD_EMPTY_1)
  BROOD_ROW(6, BROOD_EMPTY_4 BROOD_EMPTY_2)
  BROOD_ROW(7, BROOD_EMPTY_4 BROOD_EMPTY_2 BROOD_EMPTY_1)
  BROOD_ROW(8, BROOD_EMPTY_8)
  BROOD_ROW(9, BROOD_EMPTY_8 BROOD_EMPTY_1)
  BROOD_ROW(10, BROOD_EMPTY_8 BROOD_EMPTY_2)
  BROOD_ROW(11, BROOD_EMPTY_8 BROOD_EMPTY_2 BROOD_EMPTY_1)
  BROOD_ROW(12, BROOD_EMPTY_8 BROOD_EMPTY_4)
  BROOD_ROW(13, BROOD_EMPTY_8 BROOD_EMPTY_4 BROOD_EMPTY_1)
  BROOD_ROW(14, BROOD_EMPTY_8 BROOD_EMPTY_4 BROOD_EMPTY_2)
  BROOD_ROW(15, BROOD_EMPTY_8 BROOD_EMPTY_4 BROOD_EMPTY_2 BROOD_EMPTY_1)
  BROOD_ROW(16, BROOD_EMPTY_16)
  BROOD_ROW(17, BROOD_EMPTY_16 BROOD_EMPTY_1)
  BROOD_ROW(18, BROOD_EMPTY_16 BROOD_EMPTY_2)
  BROOD_ROW(19, BROOD_EMPTY_16 BROOD_EMPTY_2 BROOD_EMPTY_1)
  BROOD_ROW(20, BROOD_EMPTY_16 BROOD_EMPTY_4)
  BROOD_ROW(21, BROOD_EMPTY_16 BROOD_EMPTY_4 BROOD_EMPTY_1)
  BROOD_ROW(22, BROOD_EMPTY_16 BROOD_EMPTY_4 BROOD_EMPTY_2)
  BROOD_ROW(23, BROOD_EMPTY_16 BROOD_EMPTY_4 BROOD_EMPTY_2 BROOD_EMPTY_1)
  BROOD_ROW(24, BROOD_EMPTY_16 BROOD_EMPTY_8)
  BROOD_ROW(25, BROOD_EMPTY_16 BROOD_EMPTY_8 BROOD_EMPTY_1)
  BROOD_ROW(26, BROOD_EMPTY_16 BROOD_EMPTY_8 BROOD_EMPTY_2)
  BROOD_ROW(27, BROOD_EMPTY_16 BROOD_EMPTY_8 BROOD_EMPTY_2 BROOD_EMPTY_1)
  BROOD_ROW(28, BROOD_EMPTY_16 BROOD_EMPTY_8 BROOD_EMPTY_4)
  BROOD_ROW(29, BROOD_EMPTY_16 BROOD_EMPTY_8 BROOD_EMPTY_4 BROOD_EMPTY_1)
  BROOD_ROW(30, BROOD_EMPTY_16 BROOD_EMPTY_8 BROOD_EMPTY_4 BROOD_EMPTY_2)
  BROOD_ROW(31, BROOD_EMPTY_16 BROOD_EMPTY_8 BROOD_EMPTY_4 BROOD_EMPTY_2 BROOD_EMPTY_1)
  BROOD_ROW(32, BROOD_EMPTY_16 BROOD_EMPTY_16)
  return {0, Obstacle::too_many_members};
}
// clang-format on

#undef BROOD_ROW
#undef BROOD_EMPTY_16
#undef BROOD_EMPTY_8
#undef BROOD_EMPTY_4
#undef BROOD_EMPTY_2
#undef BROOD_EMPTY_1

// Not callable with a bit-field, which no reference can be bound to.
template <class... Ms>
void bind(Ms&...);

#define BROOD_A a1, a2, a3, a4, a5, a6, a7, a8
#define BROOD_B b1, b2, b3, b4, b5, b6, b7, b8
#define BROOD_C c1, c2, c3, c4, c5, c6, c7, c8
#define BROOD_D d1, d2, d3, d4, d5, d6, d7, d8
#define BROOD_ROW(n, ...)                                         \
  else if constexpr (count == n) {                                \
    auto& [__VA_ARGS__] = aggregate;                              \
    if constexpr (requires { serialization::bind(__VA_ARGS__); }) \
      return f(__VA_ARGS__);                                      \
    else                                                          \
      return Obstacle::bit_field;                                 \
  }

// clang-format off
template <class T, class F>
constexpr decltype(auto) with_members([[maybe_unused]] T& aggregate, F&& f) {
  constexpr std::size_t count = members<std::remove_cv_t<T>>.count;
  if constexpr (count == 0) return f();
  BROOD_ROW(1, a1)
  BROOD_ROW(2, a1, a2)
  BROOD_ROW(3, a1, a2, a3)
  BROOD_ROW(4, a1, a2, a3, a4)
  BROOD_ROW(5, a1, a2, a3, a4, a5)
  BROOD_ROW(6, a1, a2, a3, a4, a5, a6)
  BROOD_ROW(7, a1, a2, a3, a4, a5, a6, a7)
  BROOD_ROW(8, BROOD_A)
  BROOD_ROW(9, BROOD_A, b1)
  BROOD_ROW(10, BROOD_A, b1, b2)
  BROOD_ROW(11, BROOD_A, b1, b2, b3)
  BROOD_ROW(12, BROOD_A, b1, b2, b3, b4)
  BROOD_ROW(13, BROOD_A, b1, b2, b3, b4, b5)
  BROOD_ROW(14, BROOD_A, b1, b2, b3, b4, b5, b6)
  BROOD_ROW(15, BROOD_A, b1, b2, b3, b4, b5, b6, b7)
  BROOD_ROW(16, BROOD_A, BROOD_B)
  BROOD_ROW(17, BROOD_A, BROOD_B, c1)
  BROOD_ROW(18, BROOD_A, BROOD_B, c1, c2)
  BROOD_ROW(19, BROOD_A, BROOD_B, c1, c2, c3)
  BROOD_ROW(20, BROOD_A, BROOD_B, c1, c2, c3, c4)
  BROOD_ROW(21, BROOD_A, BROOD_B, c1, c2, c3, c4, c5)
  BROOD_ROW(22, BROOD_A, BROOD_B, c1, c2, c3, c4, c5, c6)
  BROOD_ROW(23, BROOD_A, BROOD_B, c1, c2, c3, c4, c5, c6, c7)
  BROOD_ROW(24, BROOD_A, BROOD_B, BROOD_C)
  BROOD_ROW(25, BROOD_A, BROOD_B, BROOD_C, d1)
  BROOD_ROW(26, BROOD_A, BROOD_B, BROOD_C, d1, d2)
  BROOD_ROW(27, BROOD_A, BROOD_B, BROOD_C, d1, d2, d3)
  BROOD_ROW(28, BROOD_A, BROOD_B, BROOD_C, d1, d2, d3, d4)
  BROOD_ROW(29, BROOD_A, BROOD_B, BROOD_C, d1, d2, d3, d4, d5)
  BROOD_ROW(30, BROOD_A, BROOD_B, BROOD_C, d1, d2, d3, d4, d5, d6)
  BROOD_ROW(31, BROOD_A, BROOD_B, BROOD_C, d1, d2, d3, d4, d5, d6, d7)
  BROOD_ROW(32, BROOD_A, BROOD_B, BROOD_C, BROOD_D)
}
// clang-format on

#undef BROOD_ROW
#undef BROOD_D
#undef BROOD_C
#undef BROOD_B
#undef BROOD_A

// Seen through a volatile aggregate its own members are volatile, and references are not: the one
// way to tell them apart by a binding.
struct CollectTypes {
  template <class... Ms>
  Types<Ms...> operator()(Ms&...) const {
    return {};
  }
};
template <class T>
using VolatileMembers =
    decltype(serialization::with_members(std::declval<volatile T&>(), CollectTypes{}));

template <class List>
struct OwnMembers;
template <class... Ms>
struct OwnMembers<Types<Ms...>> {
  static constexpr bool has_reference = !(std::is_volatile_v<Ms> && ...);
  using type = Types<std::remove_cv_t<Ms>...>;
};

/// Types<...> of the members of an aggregate, without their const.
template <class T>
using member_types = typename OwnMembers<VolatileMembers<T>>::type;

}  // namespace brood::serialization
