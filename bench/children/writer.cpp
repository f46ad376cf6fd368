// SPDX-License-Identifier: MIT
//
// Writes as many MiB to its standard output as its argument says, 128 KiB at a time.
#include <unistd.h>

#include <cstddef>
#include <cstdlib>

int main(int argc, char** argv) {
  static char piece[128 * 1024];
  for (char& byte : piece) byte = 'x';
  std::size_t left = argc > 1 ? std::strtoul(argv[1], nullptr, 10) << 20 : 0;
  while (left > 0) {
    const ssize_t size = ::write(1, piece, left < sizeof piece ? left : sizeof piece);
    if (size <= 0) return 1;
    left -= static_cast<std::size_t>(size);
  }
}
