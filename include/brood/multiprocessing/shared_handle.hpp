// SPDX-License-Identifier: MIT
// What the synchronisation classes of processes have in common: they are handles, whose copies name
// the same object. It lies in shared memory without a name, and lives until the last handle of any
// process is gone. All calls are safe from any thread and any process.
//
// The users of an object are the process that made it, those that were forked with a handle for it,
// and those that got one as an argument, in one PID namespace. Each may die at any moment, by
// SIGKILL too, and no other is stuck for it.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "../identity.hpp"
#include "../posix/ref.hpp"
#include "../sync/shared_heap.hpp"
#include "reduction.hpp"

namespace brood::multiprocessing {

/// Where a block of shared memory lies, told to another process.
struct ReducedBlock {
  std::uint64_t file;  // the number of its descriptor
  std::uint64_t offset;
  std::uint64_t size;

  static ReducedBlock of(const sync::SharedBlock& block, Reduction& reduction) {
    return {reduction.add(block.file()), block.offset(), block.size()};
  }
  /// Throws SerializationError if there is no such place.
  sync::SharedBlock attach(Reduction& reduction, std::size_t alignment) const;
};

/// What is the same for all objects of a class.
struct SharedClass {
  std::size_t size;  // of the object
  std::size_t alignment;
  const char* (*name)() noexcept;
  bool (*leave)(void*) noexcept;  // by the last handle of a process; false: the memory must stay

  /// What lies behind each of its objects: a hash of the name (FNV-1a), never 0.
  std::uint64_t mark() const noexcept {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char* c = name(); *c != '\0'; ++c)
      hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3;
    return hash | 1;
  }
};

/// A place in shared memory, this process's view of it: the object, and its class's mark behind it.
/// (No template, since every user of brood would pay for each of its instances.)
class SharedPlace final : public posix::RefCounted {
 public:
  /// A new one, for an object to be made there, and then to be sealed.
  explicit SharedPlace(const SharedClass& of)
      : class_{of}, block_{sync::SharedHeap::make(size_of(of), of.alignment)} {}
  /// That of another process. Throws SerializationError if it holds something else.
  SharedPlace(const SharedClass& of, sync::SharedBlock there)
      : class_{of}, block_{std::move(there)} {
    if (block_.size() != size_of(of) || !sealed())
      serialization::throw_error("a handle for what is something else");
  }
  ~SharedPlace() {
    if (sealed() && !class_.leave(data())) block_.keep_for_ever();
  }

  /// The place that another process has told of.
  static posix::Ref<SharedPlace> read(const SharedClass& of, serialization::Reader& in,
                                      Reduction& reduction) {
    const auto numbers = multiprocessing::read_plain<ReducedBlock>(in);
    auto place = reduction.once<SharedPlace>(numbers.file, numbers.offset, [&] {
      return posix::make_ref<SharedPlace>(of, numbers.attach(reduction, of.alignment));
    });
    if (place->mark_ != of.mark()) serialization::throw_error("a handle of another class");
    return place;
  }

  void* data() const noexcept { return block_.data(); }
  const sync::SharedBlock& block() const noexcept { return block_; }
  /// The object is made; until then nothing that came of it is left.
  void seal() noexcept { std::memcpy(mark(), &mark_, sizeof mark_); }

 private:
  static std::size_t mark_offset(const SharedClass& of) noexcept { return (of.size + 7) / 8 * 8; }
  static std::size_t size_of(const SharedClass& of) noexcept {
    return mark_offset(of) + sizeof mark_;
  }
  std::byte* mark() const noexcept { return block_.data() + mark_offset(class_); }
  bool sealed() const noexcept { return std::memcmp(mark(), &mark_, sizeof mark_) == 0; }

  const SharedClass& class_;
  const std::uint64_t mark_ = class_.mark();
  sync::SharedBlock block_;
};

/// A handle for a Core, one of the algorithms of sync/, in shared memory. What it holds there is
/// never destroyed, as nobody knows who is the last: it must need no destructor.
template <class Core>
class SharedHandle {
 public:
  // Copied even when moved from, so that a handle always names an object.
  SharedHandle(const SharedHandle&) noexcept = default;
  SharedHandle& operator=(const SharedHandle&) noexcept = default;

  /// Whether two handles name the same object.
  friend bool operator==(const SharedHandle&, const SharedHandle&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return place_.get(); }

  /// Where the object lies.
  const sync::SharedBlock& block() const noexcept { return place_->block(); }

  /// For the Serializer: see Reduction.
  template <class Out>
  void reduce(Out& out, Reduction& reduction) const {
    const auto numbers = ReducedBlock::of(block(), reduction);
    out.write_bytes(&numbers, sizeof numbers);
  }

 protected:
  template <class... Args>
  requires std::is_constructible_v<Core, Args...>
  explicit SharedHandle(std::in_place_t, Args&&... args)
      : place_{posix::make_ref<SharedPlace>(its_class)} {
    new (place_->data()) Core(std::forward<Args>(args)...);
    place_->seal();
  }
  /// That of another process.
  SharedHandle(serialization::Reader& in, Reduction& reduction)
      : place_{SharedPlace::read(its_class, in, reduction)} {}
  ~SharedHandle() = default;

  Core& core() const noexcept { return *std::launder(static_cast<Core*>(place_->data())); }

 private:
  static_assert(std::is_trivially_destructible_v<Core>);
  static_assert(alignof(Core) <= 4096);

  static const char* name() noexcept { return __PRETTY_FUNCTION__; }
  static bool leave(void* object) noexcept {
    if constexpr (requires(Core & core) { core.leave(); })
      return static_cast<Core*>(object)->leave();
    else
      return true;
  }
  // No two objects share a cache line.
  static constexpr SharedClass its_class{sizeof(Core), alignof(Core) > 64 ? alignof(Core) : 64,
                                         &name, &leave};

  posix::Ref<SharedPlace> place_;
};

inline sync::SharedBlock ReducedBlock::attach(Reduction& reduction, std::size_t alignment) const {
  // An arena is known by a place that no block has.
  const auto arena = reduction.once<sync::SharedArena>(file, sync::SharedArena::none, [&] {
    posix::unique_fd memory = reduction.take(file, S_IFREG);
    if (posix::file_size(memory.get()) == 0) serialization::throw_error("a handle without memory");
    return posix::make_ref<sync::SharedArena>(std::move(memory));
  });
  if (offset % alignment != 0 || offset > arena->size() || size > arena->size() - offset)
    serialization::throw_error("a handle for memory that is not there");
  return {arena, offset, size};
}

}  // namespace brood::multiprocessing
