// SPDX-License-Identifier: MIT
// The two ways to make a type Serializable from outside. (The third, a member
// `template <class Archive> void serialize(Archive& ar) { ar(a, b, c); }`, needs no header.)
#pragma once

#include <type_traits>

namespace brood {

/// Specialise as true for a trivially copyable type of your own whose bytes mean the same in every
/// process, and of which every bit pattern may be read: it crosses by one memcpy.
///
///     template <> inline constexpr bool brood::trivially_serializable<Pixel> = true;
template <class T>
inline constexpr bool trivially_serializable = false;

namespace serialization {

/// Specialise for a type that you cannot change, or that takes part in its own construction:
///
///     template <> struct brood::serialization::Serializer<Url> {
///       template <class Out> static void write(Out& out, const Url& url) { out(url.text()); }
///       static Url read(Reader& in) { return Url{in.read<std::string>()}; }
///     };
///
/// `write` runs twice with the same value, first with a Sizer, then with a Writer (`Out::is_sizing`
/// tells); `read` returns the value or throws SerializationError. The type need not be default
/// constructible. `out.context()` and `in.context()` give what the caller of the Sizer, Writer and
/// Reader passed along, for values that cross beside the bytes. A constant
/// `static constexpr std::uint64_t fingerprint` replaces the hash of the type's name. Another,
/// `static constexpr bool is_handle = true`, says that the type crosses to new processes only.
template <class T>
struct Serializer {};

class Reader;

/// Has a specialisation of Serializer.
template <class T>
concept HasSerializer = requires {
  &Serializer<T>::read;
};

/// Has the member `template <class Archive> void serialize(Archive& ar)`.
template <class T>
concept HasSerializeMember = (std::is_class_v<T> || std::is_union_v<T>)&&requires(T& value,
                                                                                  Reader& archive) {
  value.serialize(archive);
};

template <class Member>
inline constexpr bool is_const_member = false;
template <class Result, class T, class Archive>
inline constexpr bool is_const_member<Result (T::*)(Archive) const> = true;
template <class Result, class T, class Archive>
inline constexpr bool is_const_member<Result (T::*)(Archive) const noexcept> = true;

/// That member is const, and all there is, so that nothing could be read into the value. (A class
/// without data may have it so.)
template <class T>
concept HasConstSerializeMember = !std::is_empty_v<T> && requires {
  requires is_const_member<decltype(&T::template serialize<Reader>)>;
};

/// Its author says how it crosses, so nobody looks inside.
template <class T>
concept VouchedFor = trivially_serializable<T> || HasSerializer<T> || HasSerializeMember<T>;

}  // namespace serialization
}  // namespace brood
