# SPDX-License-Identifier: MIT
#
# A toolchain file that takes the newest Clang installed, 16 or newer.
find_program(
  BROOD_CLANG
  NAMES clang++-22 clang++-21 clang++-20 clang++-19 clang++-18 clang++-17 clang++-16 clang++
  DOC "Clang 16 or newer")
if(NOT BROOD_CLANG)
  message(FATAL_ERROR "No clang++ found; 'cmake/bootstrap.sh clang' installs one")
endif()
execute_process(
  COMMAND "${BROOD_CLANG}" -dumpversion
  OUTPUT_VARIABLE BROOD_CLANG_VERSION
  OUTPUT_STRIP_TRAILING_WHITESPACE)
if(BROOD_CLANG_VERSION VERSION_LESS 16)
  message(FATAL_ERROR "brood needs Clang 16 or newer, and the newest found is ${BROOD_CLANG} "
                      "(${BROOD_CLANG_VERSION}); 'cmake/bootstrap.sh clang' installs one")
endif()
set(CMAKE_CXX_COMPILER "${BROOD_CLANG}")
