// SPDX-License-Identifier: MIT
// expect: use of deleted function .*lines|call to deleted member function 'lines'
#include <brood/subprocess.hpp>

int main() {
  using namespace brood::subprocess;
#ifdef BROOD_CONTROL
  Popen list({"ls"}, {.out = PIPE});
  for (const auto& line : list.out.lines()) static_cast<void>(line);
#else
  for (const auto& line : Popen({"ls"}, {.out = PIPE}).out.lines()) static_cast<void>(line);
#endif
}
