// SPDX-License-Identifier: MIT
// Timer: a call later on, in a thread of its own. Python counterpart: threading.Timer.
#pragma once

#include "event.hpp"
#include "thread.hpp"

namespace brood::threading {

/// A Thread that calls `target(args...)` when `interval` is over since its start(), unless it is
/// cancelled before.
class Timer : public Thread {
 public:
  /// Target and arguments are kept as a Thread keeps them. An interval of `forever` waits for
  /// cancel() alone.
  template <class F, class... Args>
  requires ThreadTarget<F, Args...>
  explicit Timer(Timeout interval, F&& target, Args&&... args)
      : Timer{Event{}, interval, bind(std::forward<F>(target), std::forward<Args>(args)...)} {}

  /// Stops it, if the call has not begun; its thread ends then. Never waits.
  void cancel() const { finished_.set(); }

 private:
  Timer(const Event& finished, Timeout interval, Function<void()> call)
      : Thread{make({}), Function<void()>{[finished, interval, call = std::move(call)]() mutable {
                 const Function<void()> once = std::move(call);
                 if (!finished.wait(interval)) once();
                 finished.set();
               }}},
        finished_{finished} {}

  Event finished_;
};

}  // namespace brood::threading
