// SPDX-License-Identifier: MIT
// What the synchronisation classes of processes have in common: they are handles, whose copies name
// the same object. It lies in shared memory without a name, and lives until the last handle of any
// process is gone. All calls are safe from any thread and any process.
//
// The users of an object are the process that made it and those that descend from it, in one PID
// namespace. Each may die at any moment, by SIGKILL too, and no other is stuck for it.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "../identity.hpp"
#include "../posix/ref.hpp"
#include "../sync/shared_heap.hpp"

namespace brood::multiprocessing {

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

 protected:
  template <class... Args>
  requires std::is_constructible_v<Core, Args...>
  explicit SharedHandle(std::in_place_t, Args&&... args)
      : object_{posix::make_ref<Object>(std::forward<Args>(args)...)} {}
  ~SharedHandle() = default;

  Core& core() const noexcept { return *object_->core; }

 private:
  // No two objects share a cache line.
  static constexpr std::size_t alignment = alignof(Core) > 64 ? alignof(Core) : 64;
  static_assert(alignment <= 4096);

  struct Object final : posix::RefCounted {
    template <class... Args>
    explicit Object(Args&&... args)
        : block{sync::SharedHeap::make(sizeof(Core), alignment)},
          core{new (block.data()) Core(std::forward<Args>(args)...)} {}
    ~Object() {
      if constexpr (requires { core->leave(); })
        if (!core->leave()) block.keep_for_ever();
    }
    sync::SharedBlock block;
    Core* core;
  };
  static_assert(std::is_trivially_destructible_v<Core>);

  posix::Ref<Object> object_;
};

}  // namespace brood::multiprocessing
