// SPDX-License-Identifier: MIT
// A callable of any type behind one signature, as std::function, without <functional>.
#pragma once

#include <type_traits>

#include "posix/ref.hpp"

namespace brood {

template <class Signature>
class Function;

/// What a Function<R(Args...)> can hold.
template <class F, class R, class... Args>
concept CallableAs = !std::is_same_v<std::remove_cvref_t<F>, Function<R(Args...)>> &&
                     requires(std::decay_t<F> & f, Args&&... args) {
  static_cast<R>(f(std::forward<Args>(args)...));
};

/// Holds anything that can be called with Args and gives R; empty when default-made or made from
/// nullptr. Copies share the callable, so what it captured need not be copyable. Calling an empty
/// one is undefined.
template <class R, class... Args>
class Function<R(Args...)> {
 public:
  Function() noexcept = default;
  Function(std::nullptr_t) noexcept {}  // NOLINT: implicit

  template <CallableAs<R, Args...> F>
  Function(F&& f)  // NOLINT: implicit
      : callable_{posix::Ref<Base>::adopt(new Holder<std::decay_t<F>>(std::forward<F>(f)))} {}

  explicit operator bool() const noexcept { return static_cast<bool>(callable_); }

  R operator()(Args... args) const { return callable_->call(std::forward<Args>(args)...); }

 private:
  struct Base : posix::RefCounted {
    virtual ~Base() = default;
    virtual R call(Args... args) = 0;
  };
  template <class F>
  struct Holder final : Base {
    explicit Holder(const F& f) : function{f} {}
    explicit Holder(F&& f) : function{std::move(f)} {}
    R call(Args... args) override {
      if constexpr (std::is_void_v<R>)
        function(std::forward<Args>(args)...);
      else
        return function(std::forward<Args>(args)...);
    }
    F function;
  };

  posix::Ref<Base> callable_;
};

}  // namespace brood
