// SPDX-License-Identifier: MIT
// Values to bytes and back, for sending them to another process of the same program.
// Python counterpart: pickle, for the types that are Serializable.
//
//     std::string bytes = brood::serialization::dumps(std::map<std::string, int>{{"plates", 4}});
//     auto dishes = brood::serialization::loads<std::map<std::string, int>>(bytes);
//
// Types of your own: an aggregate with up to 32 members just works; a class says what it consists
// of; serialization/hooks.hpp tells of the other ways.
//
//     class Dish {
//      public:
//       template <class Archive> void serialize(Archive& ar) { ar(name_, clean_); }
//       ...
//     };
//
// Containers, optional, variant and the like are recognised by their shape: none of their headers
// is included. A class that has the shape of a container but more to it than its elements needs the
// member. The bytes are for this machine and this build of the program, now: they are no file
// format. An enum may arrive with any value of its underlying type, as in C++ itself.
#pragma once

#include "requirements.hpp"

#include <cstdint>
#include <string>
#include <string_view>

#include "serialization/error.hpp"
#include "serialization/hooks.hpp"
#include "serialization/reader.hpp"
#include "serialization/serializable.hpp"
#include "serialization/writer.hpp"

namespace brood::serialization {

/// The bytes of a value: 8 bytes that identify the structure of its type (see fingerprint), then
/// the value. Throws SerializationError if it is nested deeper than max_depth or contains a variant
/// without a value. Python: pickle.dumps.
template <class T>
requires Serializable<T> std::string dumps(const T& value);

/// The value that dumps<T> wrote. Never undefined behaviour, whatever the bytes are: throws
/// SerializationError if they are truncated, have something behind them, claim what they do not
/// contain, nest too deeply, or are those of a type with another structure. Python: pickle.loads.
template <class T>
requires Serializable<T> T loads(std::string_view bytes);

// ---------------------------------------------------------------------------------------------

/// The name of the one of some types that has this fingerprint; empty: of none.
template <class... Known>
std::string_view name_among(Types<Known...>, std::uint64_t wanted) {
  std::string_view name;
  ((wanted == fingerprint<Known> ? void(name = type_name<Known>()) : void()), ...);
  return name;
}
/// Those that are sent most often: an error tells whether it was one of them.
using UsualTypes = Types<bool, char, int, unsigned, long, unsigned long, double, std::string>;

/// How many bytes dumps() needs for a value.
template <class T>
std::size_t dumped_size(const T& value) {
  return sizeof(std::uint64_t) + serialized_size(value);
}

/// Writes them, at most `size`; how many there were: a `serialize` member that writes less the
/// second time has only itself to blame.
template <class T>
std::size_t dump_to(char* place, std::size_t size, const T& value) {
  Writer writer{place, size};
  writer.write(fingerprint<T>);
  writer.write(value);
  return writer.written();
}

template <class T>
requires Serializable<T> std::string dumps(const T& value) {
  std::string bytes(serialization::dumped_size(value), '\0');
  bytes.resize(serialization::dump_to(bytes.data(), bytes.size(), value));
  return bytes;
}

template <class T>
requires Serializable<T> T loads(std::string_view bytes) {
  Reader reader{bytes};
  const auto found = reader.read<std::uint64_t>();
  if (found != fingerprint<T>) throw_wrong_type(type_name<T>(), name_among(UsualTypes{}, found));
  T value = reader.read<T>();
  reader.expect_end();
  return value;
}

}  // namespace brood::serialization
