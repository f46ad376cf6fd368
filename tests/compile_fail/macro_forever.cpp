// SPDX-License-Identifier: MIT
// expect: include brood before it
#ifndef BROOD_CONTROL
#define forever for (;;)
#endif
#include <brood/threading.hpp>
#define forever for (;;)

int main() { return brood::threading::Lock().acquire() ? 0 : 1; }
