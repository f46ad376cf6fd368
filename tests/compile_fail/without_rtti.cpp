// SPDX-License-Identifier: MIT
// flags: -fno-rtti
// expect: brood needs exceptions and run-time type information
#ifndef BROOD_CONTROL
#include <brood/subprocess.hpp>
#endif

int main() {}
