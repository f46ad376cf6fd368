// SPDX-License-Identifier: MIT
// flags: -std=c++17
// expect: brood needs C\+\+20
#ifndef BROOD_CONTROL
#include <brood/subprocess.hpp>
#endif

int main() {}
