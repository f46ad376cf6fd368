// SPDX-License-Identifier: MIT
//
// 21. A batch of pictures, one of which crashes the program that reads it. Its worker dies, and
// nothing else is lost: the others are done, by a new worker if need be.
//
//     from concurrent.futures import ProcessPoolExecutor
//
//     with ProcessPoolExecutor(3) as pool:
//         futures = [pool.submit(brightness, picture) for picture in pictures]
//         for future in futures:
//             print(future.result())   # in Python, BrokenProcessPool for all that is not done yet
#include <brood/futures.hpp>

#include <fmt/core.h>

#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

namespace futures = brood::futures;

struct Picture {
  std::string name;
  std::vector<unsigned char> pixels;
};

int brightness(const Picture& picture) {
  if (picture.pixels.empty()) std::abort();  // what a library may do, or worse
  const int sum = std::accumulate(picture.pixels.begin(), picture.pixels.end(), 0);
  return sum / static_cast<int>(picture.pixels.size());
}

int main() {
  std::vector<Picture> pictures;
  for (const int shade : {10, 60, 0, 160, 210, 250})
    pictures.push_back(
        {fmt::format("dish{}.png", pictures.size() + 1),
         std::vector<unsigned char>(shade == 0 ? 0 : 100'000, static_cast<unsigned char>(shade))});

  futures::ProcessPoolExecutor pool(3);
  std::vector<futures::Future<int>> results;
  for (const Picture& picture : pictures) results.push_back(pool.submit(brightness, picture));

  for (std::size_t i = 0; i < pictures.size(); ++i) {
    try {
      fmt::print("[INFO] {}: brightness {}\n", pictures[i].name, results[i].result());
    } catch (const futures::WorkerCrashed& crash) {
      fmt::print("[INFO] {}: its worker was killed by signal {}\n", pictures[i].name,
                 crash.signal().value_or(0));
    }
  }
}
