// SPDX-License-Identifier: MIT
// Waiting for several futures at once. Python counterpart: concurrent.futures.wait.
//
//     auto [done, not_done] = futures::wait(tasks, 500ms, futures::FIRST_EXCEPTION);
#pragma once

#include <initializer_list>
#include <vector>

#include "gathering.hpp"

namespace brood::futures {

/// When wait() returns: as soon as one is done; as soon as one has failed (being cancelled does not
/// count), or all are done; when all are done.
enum class ReturnWhen { FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED };
using enum ReturnWhen;

/// What wait() found, in the order of its input; a future listed twice appears once.
template <class F>
struct WaitResult {
  std::vector<F> done;
  std::vector<F> not_done;
};

/// Waits until ReturnWhen holds or time is up, which throws nothing: what is not done then is in
/// not_done. `futures` is any range of Future<T>, or of AnyFuture for different types and
/// executors. Returns at once if there are none.
template <FutureRange Range>
WaitResult<FutureOf<Range>> wait(Range&& futures, Timeout timeout = forever,
                                 ReturnWhen when = ALL_COMPLETED);
template <FutureRange Range>
WaitResult<FutureOf<Range>> wait(Range&& futures, ReturnWhen when) {
  return wait(std::forward<Range>(futures), forever, when);
}
/// The same for a list in braces: of one type, or mixed, which gives AnyFutures.
template <class F>
WaitResult<F> wait(std::initializer_list<F> futures, Timeout timeout = forever,
                   ReturnWhen when = ALL_COMPLETED);
template <class Mixed = AnyFuture>
WaitResult<Mixed> wait(std::initializer_list<std::type_identity_t<Mixed>> futures,
                       Timeout timeout = forever, ReturnWhen when = ALL_COMPLETED);

// Bodies.

template <FutureRange Range>
WaitResult<FutureOf<Range>> wait(Range&& futures, Timeout timeout, ReturnWhen when) {
  const posix::Deadline deadline{timeout};
  auto different = distinct(std::forward<Range>(futures));
  {
    Gathering gathering{different.size(), when == ReturnWhen::FIRST_COMPLETED   ? Urgent::completion
                                          : when == ReturnWhen::FIRST_EXCEPTION ? Urgent::failure
                                                                                : Urgent::nothing};
    for (const auto& future : different) {
      gathering.join(*future.state());
      if (gathering.enough()) break;
    }
    gathering.wait(deadline);
  }
  WaitResult<FutureOf<Range>> result;
  for (auto& future : different)
    (future.state()->done() ? result.done : result.not_done).push_back(std::move(future));
  return result;
}

template <class F>
WaitResult<F> wait(std::initializer_list<F> futures, Timeout timeout, ReturnWhen when) {
  return wait(std::vector<F>{futures}, timeout, when);
}
template <class Mixed>
WaitResult<Mixed> wait(std::initializer_list<std::type_identity_t<Mixed>> futures, Timeout timeout,
                       ReturnWhen when) {
  return wait(std::vector<Mixed>{futures}, timeout, when);
}

}  // namespace brood::futures
