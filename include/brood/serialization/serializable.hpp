// SPDX-License-Identifier: MIT
// Whether a type can cross to another process, and the number that tells such types apart. Both
// come out of one walk through the type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include "members.hpp"
#include "shape.hpp"

namespace brood {
namespace serialization {

/// What a walk through a type found.
struct Inspection {
  std::uint64_t fingerprint;
  Obstacle obstacle;
  bool holds_handle;
};
template <class T>
consteval Inspection inspect();
template <class T>
inline constexpr Inspection inspection = inspect<T>();

/// A hash of the structure of T: shapes, sizes and signedness, members and elements in their order,
/// down to the leaves. Names do not count, but for classes with a `serialize` member, a Serializer
/// or trivially_serializable, which are opaque. It holds between processes of one build.
template <class T>
inline constexpr std::uint64_t fingerprint = inspection<T>.fingerprint;

// The concepts that Serializable<T> is made of have one reason each, so that the compiler's message
// names the reason.

/// No pointers, references, string_views or spans: what they refer to stays behind. Send the thing
/// itself (std::string, std::vector, std::unique_ptr).
template <class T>
concept OwnsWhatItRefersTo = inspection<T>
.obstacle != Obstacle::pointer;

/// An aggregate has at most 32 members: give it `template <class Archive> void
/// serialize(Archive&)`.
template <class T>
concept HasAtMost32MembersOrASerializeMember = inspection<T>
.obstacle != Obstacle::too_many_members;

/// An aggregate has no base class: give it `template <class Archive> void serialize(Archive&)`.
template <class T>
concept HasNoBaseOrASerializeMember = inspection<T>
.obstacle != Obstacle::base_class;

/// Nobody knows which member of a union is the active one: give the class around it
/// `template <class Archive> void serialize(Archive&)`, or use std::variant.
template <class T>
concept HasNoUnionOrASerializeMember = inspection<T>
.obstacle != Obstacle::union_member;

/// An aggregate has no bit-fields: give it `template <class Archive> void serialize(Archive&)`.
template <class T>
concept HasNoBitFieldOrASerializeMember = inspection<T>
.obstacle != Obstacle::bit_field;

/// The member `template <class Archive> void serialize(Archive&)` also reads into the value: it
/// must not be const.
template <class T>
concept SerializeMemberIsNotConst = inspection<T>
.obstacle != Obstacle::const_serialize;

/// It is built anew from what was read: aggregates and tuples from their members, all else is
/// default constructed and then filled. It must be possible to do so, and to move it.
template <class T>
concept CanBeBuiltFromItsParts = inspection<T>
.obstacle != Obstacle::no_construction;

/// Has one of the known shapes, or says how it crosses: by a `serialize` member, by
/// trivially_serializable, or by a Serializer.
template <class T>
concept HasAKnownShapeOrASerializeMember = inspection<T>
.obstacle != Obstacle::unknown;

/// No queue, lock, event, value, connection or other handle of processes is among its parts. These
/// get to another process as an argument of a Process, in what the initializer of a pool holds, or
/// by fork, and never to one that runs already. (A class with a `serialize` member hides its parts:
/// SerializationError.)
template <class T>
concept HoldsNoHandle = !inspection<T>.holds_handle;

}  // namespace serialization

/// Can be written to bytes here and read back in another process of the same program. That are:
/// arithmetic types and enums; the standard's strings, containers and container adaptors, optional,
/// variant, monostate, pair, tuple, array, bitset, complex, unique_ptr (with the default deleter,
/// not of a base class), chrono types, filesystem::path; aggregates of such with up to 32 members;
/// classes with the member
///
///     template <class Archive> void serialize(Archive& ar) { ar(a, b, c); }
///
/// and those with brood::trivially_serializable or a Serializer (serialization/hooks.hpp).
/// When it does not hold, the compiler's message names which part is missing. (For an argument of a
/// pool's task gcc does not go that deep: static_assert(brood::Serializable<T>) makes it.)
template <class T>
concept Serializable =
    std::is_object_v<T> && std::is_same_v<T, std::remove_cv_t<T>> && !std::is_array_v<T> &&
    serialization::OwnsWhatItRefersTo<T> &&
    serialization::HasAtMost32MembersOrASerializeMember<T> &&
    serialization::HasNoBaseOrASerializeMember<T> &&
    serialization::HasNoUnionOrASerializeMember<T> &&
    serialization::HasNoBitFieldOrASerializeMember<T> &&
    serialization::SerializeMemberIsNotConst<T> && serialization::CanBeBuiltFromItsParts<T> &&
    serialization::HasAKnownShapeOrASerializeMember<T>;

/// Serializable, towards any process at any time: what goes through queues and connections.
template <class T>
concept Sendable = Serializable<T> && serialization::HoldsNoHandle<T>;

namespace serialization {

// ---------------------------------------------------------------------------------------------

// The address stands for T. It alone would do, but with -fsanitize=undefined gcc does not compare
// the addresses of two objects in a constant expression (gcc bug 71962): the names go first.
struct Identity {
  std::string_view name;
  const char* address;
  constexpr bool operator==(const Identity& other) const {
    return name == other.name && address == other.address;
  }
};
template <class T>
inline constexpr char address_for = 0;
template <class T>
inline constexpr Identity identity{type_name<T>(), &address_for<T>};

class Walk {
 public:
  constexpr void mix(std::uint64_t x) {
    inspection.fingerprint = (inspection.fingerprint ^ x) * 0x9E3779B97F4A7C15u;
    inspection.fingerprint ^= inspection.fingerprint >> 29;
  }
  constexpr void mix(std::string_view text) {
    for (const char c : text) mix(static_cast<unsigned char>(c));
  }
  constexpr void refuse(Obstacle why) {
    if (inspection.obstacle == Obstacle::none) inspection.obstacle = why;
  }
  /// True the first time: a type that contains itself is walked once, then goes by its number.
  /// (Types beyond the room kept here are walked each time.)
  constexpr bool enter(const Identity& type) {
    for (std::size_t i = 0; i < entered_; ++i) {
      if (*types_[i] == type) {
        mix(i);
        return false;
      }
    }
    if (entered_ < room) types_[entered_++] = &type;
    return true;
  }

  Inspection inspection{0x62726F6F64ul, Obstacle::none, false};

 private:
  static constexpr std::size_t room = 256;
  const Identity* types_[room] = {};
  std::size_t entered_ = 0;
};

template <class T>
constexpr void visit(Walk& walk);

template <class... Ts>
constexpr void visit_all(Walk& walk, Types<Ts...>) {
  walk.mix(sizeof...(Ts));
  (serialization::visit<Ts>(walk), ...);
}

template <class T, class... Ts>
consteval bool braces_take(Types<Ts...>) {
  return requires { T{std::declval<Ts>()...}; };
}

template <class... Ts>
consteval bool any_array(Types<Ts...>) {
  return (std::is_array_v<Ts> || ...);
}

template <class T>
consteval bool assignable() {
  return std::is_move_assignable_v<std::remove_all_extents_t<T>>;
}
template <class... Ts>
consteval bool all_assignable(Types<Ts...>) {
  return (assignable<Ts>() && ...);
}

/// Built by T{member, ...}; else made first and filled then, which arrays need.
template <class T>
inline constexpr bool built_from_members = !serialization::any_array(member_types<T>{});

template <class T>
constexpr void visit_aggregate(Walk& walk) {
  if constexpr (members<T>.obstacle != Obstacle::none) {
    walk.refuse(members<T>.obstacle);
  } else if constexpr (std::is_same_v<VolatileMembers<T>, Obstacle>) {
    walk.refuse(Obstacle::bit_field);
  } else if constexpr (members<T>.count != 0) {
    if constexpr (OwnMembers<VolatileMembers<T>>::has_reference) {
      walk.refuse(Obstacle::pointer);
    } else {
      serialization::visit_all(walk, member_types<T>{});
      if constexpr (built_from_members<T>) {
        if (!serialization::braces_take<T>(member_types<T>{}))
          walk.refuse(Obstacle::no_construction);
      } else {
        if (!std::is_default_constructible_v<T> || !std::is_move_constructible_v<T> ||
            !serialization::all_assignable(member_types<T>{}))
          walk.refuse(Obstacle::no_construction);
      }
    }
  }
}

template <class T, std::size_t... I>
consteval bool refers(std::index_sequence<I...>) {
  return (std::is_reference_v<std::tuple_element_t<I, T>> || ...);
}

template <class T>
constexpr void visit_tuple(Walk& walk) {
  if constexpr (serialization::refers<T>(std::make_index_sequence<std::tuple_size_v<T>>{})) {
    walk.refuse(Obstacle::pointer);
  } else {
    serialization::visit_all(walk, element_types<T>{});
    if (!serialization::braces_take<T>(element_types<T>{})) walk.refuse(Obstacle::no_construction);
  }
}

// string_view, span and reference_wrapper, to say why they are refused.
template <class T>
concept View = std::is_trivially_copyable_v<T> &&(
    requires(const T& view) {
      typename T::value_type;
      view.begin();
    } ||
    requires(const T& wrapper) {
      requires std::is_same_v<decltype(wrapper.get()), typename T::type&>;
    });

template <class T>
constexpr void visit(Walk& walk) {
  constexpr Shape is = shape<T>;
  walk.mix(static_cast<std::uint64_t>(is) + 1);
  if constexpr (std::is_volatile_v<T> || is == Shape::unknown) {
    walk.refuse(std::is_pointer_v<T> || std::is_reference_v<T> || std::is_member_pointer_v<T> ||
                        std::is_null_pointer_v<T> || View<T>
                    ? Obstacle::pointer
                : std::is_union_v<T> ? Obstacle::union_member
                                     : Obstacle::unknown);
  } else if constexpr (is == Shape::custom || is == Shape::member ||
                       (is == Shape::bytes && std::is_class_v<T>)) {
    // Opaque: the name must do.
    if constexpr (requires { Serializer<T>::fingerprint; })
      walk.mix(Serializer<T>::fingerprint);
    else
      walk.mix(type_name<T>());
    walk.mix(sizeof(T));
    if constexpr (requires { Serializer<T>::is_handle; }) walk.inspection.holds_handle = true;
    if (is == Shape::member && HasConstSerializeMember<T>) walk.refuse(Obstacle::const_serialize);
    if (is == Shape::member &&
        !(std::is_default_constructible_v<T> && std::is_move_constructible_v<T>))
      walk.refuse(Obstacle::no_construction);
  } else if constexpr (is == Shape::bytes || is == Shape::boolean || is == Shape::extended) {
    walk.mix(sizeof(T));
    walk.mix((std::is_floating_point_v<T> ? 1u : 0u) | (std::is_signed_v<T> ? 2u : 0u) |
             (std::is_enum_v<T> ? 4u : 0u));
  } else if constexpr (is == Shape::c_array) {
    walk.mix(std::extent_v<T>);
    serialization::visit<std::remove_extent_t<T>>(walk);
  } else if constexpr (is == Shape::bitset) {
    walk.mix(T{}.size());
  } else if (walk.enter(identity<T>)) {
    if constexpr (is == Shape::aggregate) {
      serialization::visit_aggregate<T>(walk);
    } else if constexpr (is == Shape::tuple) {
      serialization::visit_tuple<T>(walk);
    } else if constexpr (is == Shape::array) {
      walk.mix(std::tuple_size_v<T>);
      serialization::visit<typename T::value_type>(walk);
      if (!std::is_move_assignable_v<typename T::value_type>)
        walk.refuse(Obstacle::no_construction);
    } else if constexpr (is == Shape::duration) {
      walk.mix(static_cast<std::uint64_t>(T::period::num));
      walk.mix(static_cast<std::uint64_t>(T::period::den));
      serialization::visit<typename T::rep>(walk);
    } else if constexpr (is == Shape::time_point) {
      if constexpr (requires { T::clock::is_steady; }) walk.mix(T::clock::is_steady ? 1 : 0);
      serialization::visit<typename T::duration>(walk);
    } else if constexpr (is == Shape::time_of_day) {
      serialization::visit<typename T::precision>(walk);
    } else if constexpr (is == Shape::path) {
      serialization::visit<typename T::string_type>(walk);
    } else if constexpr (is == Shape::pointer) {
      serialization::visit<std::remove_cv_t<typename T::element_type>>(walk);
    } else if constexpr (is == Shape::variant) {
      serialization::visit_all(walk, typename shapes::Alternatives<T>::types{});
    } else if constexpr (is == Shape::map) {
      serialization::visit<typename T::key_type>(walk);
      serialization::visit<typename T::mapped_type>(walk);
    } else {  // complex, optional, set, forward_list, sequence, adaptor
      serialization::visit<typename T::value_type>(walk);
    }
  }
}

template <class T>
consteval Inspection inspect() {
  Walk walk;
  serialization::visit<std::remove_cv_t<T>>(walk);
  return walk.inspection;
}

}  // namespace serialization
}  // namespace brood
