// SPDX-License-Identifier: MIT
// What the Sizer, the Writer (writer.hpp) and the Reader (reader.hpp) have in common.
#pragma once

#include <cstddef>

#include "error.hpp"
#include "shape.hpp"

namespace brood::serialization {

/// How deep values may nest: each container, unique_ptr and class with a `serialize` member or a
/// Serializer is one level. Deeper ones are a SerializationError, in both directions. (It bounds
/// the stack that a hostile input can make its reader use.)
inline constexpr unsigned max_depth = 2048;

/// Base of what a caller passes along to the Serializers of the values (see Serializer), which ask
/// by dynamic_cast whether it is the one they need.
class Context {
 public:
  virtual ~Context() = default;

 protected:
  Context() = default;
};

/// What the Sizer, the Writer and the Reader have in common. Not for use from several threads.
class Archive {
 public:
  /// What was passed to the constructor; null when nothing was.
  Context* context() const noexcept { return context_; }

 protected:
  explicit Archive(Context* context) noexcept : context_{context} {}

  /// One level of nesting, for as long as it lives.
  class Level {
   public:
    explicit Level(Archive& archive) : archive_{archive} {
      if (archive_.depth_ == max_depth) throw_error("the value is nested too deeply");
      ++archive_.depth_;
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --archive_.depth_; }

   private:
    Archive& archive_;
  };

 private:
  Context* context_;
  unsigned depth_ = 0;
};

// What one element takes at least. Those that may take nothing get a byte of their own, so that a
// length is always bounded by the bytes that are left.
template <class E>
inline constexpr std::size_t least_element = extent<E>.least != 0 ? extent<E>.least : 1;

}  // namespace brood::serialization
