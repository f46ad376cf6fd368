// SPDX-License-Identifier: MIT
// What the synchronisation classes of threads have in common: they are handles, whose copies name
// the same object, which lives until the last of them is gone. All calls are safe from any thread.
//
// A child made by fork() has its own copy of each, in the state of the fork: a lock that another
// thread held then stays held there.
#pragma once

#include <type_traits>
#include <utility>

#include "../identity.hpp"
#include "../posix/ref.hpp"
#include "../sync/monitor.hpp"

namespace brood::threading {

/// Says that a handle names nothing: a member that is not used.
struct NoObject {};

/// A handle for a Core, one of the algorithms of sync/.
template <class Core>
class SyncHandle {
 public:
  // Copied even when moved from, so that a handle always names an object.
  SyncHandle(const SyncHandle&) noexcept = default;
  SyncHandle& operator=(const SyncHandle&) noexcept = default;

  /// Whether two handles name the same object.
  friend bool operator==(const SyncHandle&, const SyncHandle&) noexcept = default;
  using hashed_by_identity = void;
  const void* identity() const noexcept { return object_.get(); }

 protected:
  template <class... Args>
  requires std::is_constructible_v<Core, Args...>
  explicit SyncHandle(std::in_place_t, Args&&... args)
      : object_{posix::make_ref<Object>(std::forward<Args>(args)...)} {}
  explicit SyncHandle(NoObject) noexcept {}
  ~SyncHandle() = default;

  Core& core() const noexcept { return object_->core; }

 private:
  struct Object final : posix::RefCounted {
    template <class... Args>
    explicit Object(Args&&... args) : core{std::forward<Args>(args)...} {}
    Core core;
  };
  posix::Ref<Object> object_;
};

}  // namespace brood::threading
