// SPDX-License-Identifier: MIT
//
// What came of the items of a queue whose users are killed.
#pragma once

#include <atomic>
#include <brood/multiprocessing/errors.hpp>

#include "support/catch.hpp"
#include "support/patience.hpp"

namespace support {

// In memory that outlives all who write there.
template <unsigned most_producers, unsigned most_each>
struct Record {
  std::atomic<int> put[most_producers];  // puts that have returned: the numbers below this
  std::atomic<unsigned char> got[most_producers][most_each];  // how often
  std::atomic<int> wrong;                                     // torn, or out of order

  // That nothing is wrong and all has arrived, but for at most so many items.
  void check(int producers, int most_lost) const {
    int lost = 0, twice = 0, arrived = 0;
    for (int id = 0; id < producers; ++id)
      for (int i = 0; i < static_cast<int>(most_each); ++i) {
        const int times = got[id][i];
        arrived += times;
        twice += times > 1;
        lost += times == 0 && i < put[id];
      }
    INFO(producers << " producers, " << arrived << " items arrived, " << lost << " lost");
    CHECK(arrived > 0);
    CHECK(wrong == 0);
    CHECK(twice == 0);
    CHECK(lost <= most_lost);
  }
};

// Settles what the dead owe to a queue that can be joined, at most so many items; false if it is
// not done then.
template <class Queue>
bool settle(const Queue& q, int most) {
  if constexpr (requires { q.task_done(); }) {
    for (int i = 0; i <= most; ++i) {
      try {
        return q.join(patience);
      } catch (const brood::multiprocessing::ProcessError&) {
        q.task_done();
      }
    }
    return false;
  }
  return true;
}

}  // namespace support
