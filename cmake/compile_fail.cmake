# SPDX-License-Identifier: MIT
#
# Checks that SOURCE does not compile, that what COMPILER says matches each of the file's lines
# "// expect: REGEX", and that the file compiles with BROOD_CONTROL defined: so it is the one thing
# left out then that is refused. A line "// flags: FLAG..." adds to the compiler's flags.
#
#   cmake -DCOMPILER=g++ -DINCLUDE_DIR=include -DSOURCE=tests/compile_fail/x.cpp -P compile_fail.cmake
set(ENV{LC_ALL} C)
set(compile "${COMPILER}" -std=c++20 -fsyntax-only -pthread "-I${INCLUDE_DIR}" "${SOURCE}")
file(STRINGS "${SOURCE}" flags REGEX "^// flags: ")
string(REGEX REPLACE "^// flags: " "" flags "${flags}")
separate_arguments(flags UNIX_COMMAND "${flags}")
list(APPEND compile ${flags})

execute_process(
  COMMAND ${compile} -DBROOD_CONTROL
  RESULT_VARIABLE result
  ERROR_VARIABLE said)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} should compile with -DBROOD_CONTROL but does not:\n${said}")
endif()

execute_process(
  COMMAND ${compile}
  RESULT_VARIABLE result
  ERROR_VARIABLE said)
if(result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles and should not")
endif()

set(expectations 0)
file(STRINGS "${SOURCE}" lines REGEX "^// expect: ")
foreach(line IN LISTS lines)
  string(REGEX REPLACE "^// expect: " "" expected "${line}")
  if(NOT said MATCHES "${expected}")
    message(FATAL_ERROR "${SOURCE} is refused, but with no message matching '${expected}':\n${said}")
  endif()
  math(EXPR expectations "${expectations} + 1")
endforeach()
if(expectations EQUAL 0)
  message(FATAL_ERROR "${SOURCE} has no line '// expect: REGEX'")
endif()
