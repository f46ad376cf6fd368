// SPDX-License-Identifier: MIT
// flags: -fno-exceptions
// expect: brood needs exceptions
#ifndef BROOD_CONTROL
#include <brood/subprocess.hpp>
#endif

int main() {}
