// SPDX-License-Identifier: MIT
//
// 23. The Mandelbrot set as a PGM file, its rows computed by as many processes as there are
// processors. They go to the workers sixteen at a time and come back in order.
//
//     with ProcessPoolExecutor() as pool, open(name, 'wb') as file:
//         file.write(b'P5 320 240 255\n')
//         for row in pool.map(row_of, range(240), chunksize=16):
//             file.write(row)
#include <brood/futures.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <complex>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

namespace futures = brood::futures;

constexpr int width = 320, height = 240, most = 255;

std::string row_of(int y) {
  std::string row;
  for (int x = 0; x < width; ++x) {
    const std::complex<double> c{3.2 * x / width - 2.3, 2.4 * y / height - 1.2};
    std::complex<double> z;
    int steps = 0;
    while (std::norm(z) <= 4 && steps < most) {
      z = z * z + c;
      ++steps;
    }
    row += static_cast<char>(most - steps);
  }
  return row;
}

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "mandelbrot.pgm";
  std::ofstream file(name, std::ios::binary);
  file << "P5 " << width << ' ' << height << ' ' << most << '\n';

  std::vector<int> rows(height);
  std::iota(rows.begin(), rows.end(), 0);
  futures::ProcessPoolExecutor pool;
  long inside = 0;
  for (const std::string& row : pool.map({.chunksize = 16}, row_of, rows)) {
    inside += std::count(row.begin(), row.end(), '\0');
    file << row;
  }
  if (!file.flush()) return 1;
  fmt::print("[INFO] {} rows, {} of {} points inside\n", height, inside, width * height);
}
