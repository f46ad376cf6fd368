# SPDX-License-Identifier: MIT
#
# How brood's own programs are compiled: its tests, examples and benchmarks link brood_own, and the
# check that every header compiles alone uses BROOD_WARNINGS too.
set(BROOD_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast)
if(BROOD_WERROR)
  list(APPEND BROOD_WARNINGS -Werror)
endif()

add_library(brood_own INTERFACE)
target_link_libraries(brood_own INTERFACE brood::brood)
target_compile_options(brood_own INTERFACE ${BROOD_WARNINGS})
if(BROOD_SANITIZE)
  target_compile_options(brood_own INTERFACE -fsanitize=${BROOD_SANITIZE} -fno-sanitize-recover=all
                                             -fno-omit-frame-pointer)
  # The check of virtual tables makes a pipe to look at memory, and takes the failure to make one for
  # a bad object: wrong in tests that have no descriptor left.
  target_compile_options(brood_own INTERFACE -fno-sanitize=vptr)
  target_link_options(brood_own INTERFACE -fsanitize=${BROOD_SANITIZE})
  # GCC takes the code that sanitizers add for uses of uninitialised values, even in <regex>.
  target_compile_options(
    brood_own INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
endif()
