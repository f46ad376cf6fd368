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
  const void* identity() const noexcept { return object_.get(); }

  /// Where the object lies.
  const sync::SharedBlock& block() const noexcept { return object_->block; }

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
      : object_{posix::make_ref<Object>(std::forward<Args>(args)...)} {}
  /// That of another process.
  SharedHandle(serialization::Reader& in, Reduction& reduction) {
    const auto numbers = multiprocessing::read_plain<ReducedBlock>(in);
    object_ = reduction.once<Object>(numbers.file, numbers.offset, [&] {
      return posix::make_ref<Object>(Attached{}, numbers.attach(reduction, alignment));
    });
  }
  ~SharedHandle() = default;

  Core& core() const noexcept { return *object_->core; }

 private:
  // What lies in shared memory. The mark tells those who are told of the place that it is a Core.
  struct Place {
    template <class... Args>
    explicit Place(Args&&... args) : core(std::forward<Args>(args)...) {}
    Core core;
    std::uint64_t mark = name_hash();
  };
  static consteval std::uint64_t name_hash() {
    std::uint64_t hash = 0;
    for (const char c : serialization::type_name<Core>())
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash;
  }
  // No two objects share a cache line.
  static constexpr std::size_t alignment = alignof(Place) > 64 ? alignof(Place) : 64;
  static_assert(alignment <= 4096);

  struct Attached {};
  struct Object final : posix::RefCounted {
    template <class... Args>
    explicit Object(Args&&... args)
        : block{sync::SharedHeap::make(sizeof(Place), alignment)},
          core{&(new (block.data()) Place(std::forward<Args>(args)...))->core} {}
    Object(Attached, sync::SharedBlock there) : block{std::move(there)}, core{core_in(block)} {}
    ~Object() {
      if constexpr (requires { core->leave(); })
        if (!core->leave()) block.keep_for_ever();
    }
    static Core* core_in(const sync::SharedBlock& block) {
      auto* const place = std::launder(reinterpret_cast<Place*>(block.data()));
      if (block.size() != sizeof(Place) || place->mark != name_hash())
        serialization::throw_error("a handle for what is something else");
      return &place->core;
    }
    sync::SharedBlock block;
    Core* core;
  };
  static_assert(std::is_trivially_destructible_v<Core>);

  posix::Ref<Object> object_;
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
