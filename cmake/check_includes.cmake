# SPDX-License-Identifier: MIT
#
# Checks what brood's headers include. No header but format.hpp brings in fmt, by whatever way; none
# names a standard header that is dear to compile and that brood does without; and subprocess.hpp
# and os.hpp do not bring in the dearest even by way of another. The exceptions are iostreams.hpp,
# which has <iostream> for where it knows no cheaper way, and standard_exceptions.hpp, which no other
# header includes.
#
#   cmake -DCOMPILER=g++ -DINCLUDE_DIR=include -P check_includes.cmake
get_filename_component(INCLUDE_DIR "${INCLUDE_DIR}" ABSOLUTE)
set(problems)

file(GLOB_RECURSE headers RELATIVE "${INCLUDE_DIR}" "${INCLUDE_DIR}/brood/*.hpp")
foreach(header IN LISTS headers)
  file(STRINGS "${INCLUDE_DIR}/${header}" named
       REGEX "^ *# *include *<(algorithm|condition_variable|filesystem|functional|future|iostream|ranges|regex|sstream|thread)>")
  if(header STREQUAL "brood/standard_exceptions.hpp")
    continue()
  endif()
  if(header STREQUAL "brood/posix/iostreams.hpp")
    list(FILTER named EXCLUDE REGEX "<iostream>")
  endif()
  foreach(line IN LISTS named)
    list(APPEND problems "${header} says ${line}")
  endforeach()
endforeach()

# brings_none_of HEADER PATTERN: does what HEADER includes, directly or not, match nowhere?
function(brings_none_of header pattern)
  execute_process(
    COMMAND "${COMPILER}" -std=c++20 -M -x c++ "-I${INCLUDE_DIR}" "${INCLUDE_DIR}/${header}"
    OUTPUT_VARIABLE files
    RESULT_VARIABLE result
    ERROR_QUIET)
  if(NOT result EQUAL 0)
    set(problems ${problems} "${header} does not preprocess" PARENT_SCOPE)
  elseif(files MATCHES "[^ \n]*/(${pattern})[ \\\n]")
    set(problems ${problems} "${header} brings in ${CMAKE_MATCH_0}" PARENT_SCOPE)
  endif()
endfunction()

foreach(header IN LISTS headers)
  if(header MATCHES "^brood/[a-z]+\\.hpp$" AND NOT header MATCHES "^brood/format\\.hpp$")
    brings_none_of("${header}" "fmt/[a-z]+\\.h")
  endif()
endforeach()
foreach(header IN ITEMS brood/subprocess.hpp brood/os.hpp)
  if(EXISTS "${INCLUDE_DIR}/${header}")
    brings_none_of("${header}" "filesystem|functional|future|iostream|ranges|regex|sstream|thread")
  endif()
endforeach()

if(problems)
  list(JOIN problems "\n  " problems)
  message(FATAL_ERROR "  ${problems}")
endif()
