# SPDX-License-Identifier: MIT
#
# Checks the table of CPython's tests: the first line is id<TAB>test<TAB>reason, and each further
# line has a test id of CPython, and the CTest tests that cover it (the full names, several
# separated by "; ") or the reason why none will, or neither as long as it is open. Fails when a
# test named there does not exist, an id comes twice, or a line has another shape; prints the count.
#
#   cmake -DCTEST=ctest -DBUILD_DIR=build/test -DTABLE=tests/parity.tsv -P check_parity.cmake
cmake_minimum_required(VERSION 3.25)

# Splits text into a list of its lines, which stay whole whatever they hold: what CMake would split
# them at becomes something else.
string(ASCII 31 semicolon)
function(split_lines text list)
  string(REPLACE "[" "<" text "${text}")
  string(REPLACE "]" ">" text "${text}")
  string(REPLACE "\\" "/" text "${text}")
  string(REPLACE ";" "${semicolon}" text "${text}")
  string(REGEX REPLACE "\n$" "" text "${text}")
  string(REPLACE "\n" ";" text "${text}")
  set(${list} "${text}" PARENT_SCOPE)
endfunction()

execute_process(
  COMMAND "${CTEST}" -N
  WORKING_DIRECTORY "${BUILD_DIR}"
  OUTPUT_VARIABLE listing
  RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "ctest -N failed in ${BUILD_DIR}")
endif()
split_lines("${listing}" listing)
foreach(line IN LISTS listing)
  if(line MATCHES "^ *Test +#[0-9]+: (.*)$")
    set("exists ${CMAKE_MATCH_1}" ON)
  endif()
endforeach()

file(READ "${TABLE}" table)
split_lines("${table}" table)
list(POP_FRONT table first)
if(NOT first STREQUAL "id\ttest\treason")
  message(FATAL_ERROR "${TABLE}: the first line must be id<TAB>test<TAB>reason")
endif()

set(problems)
set(number 1)
set(total 0)
set(covered 0)
set(reasoned 0)
foreach(line IN LISTS table)
  math(EXPR number "${number} + 1")
  if(NOT line MATCHES "^([^\t]+)\t([^\t]*)\t([^\t]*)$")
    string(APPEND problems "  line ${number} is not id<TAB>test<TAB>reason: ${line}\n")
    continue()
  endif()
  set(id "${CMAKE_MATCH_1}")
  set(tests "${CMAKE_MATCH_2}")
  set(reason "${CMAKE_MATCH_3}")
  math(EXPR total "${total} + 1")
  if(DEFINED "seen ${id}")
    string(APPEND problems "  line ${number} repeats an id: ${id}\n")
  endif()
  set("seen ${id}" ON)
  if(NOT tests STREQUAL "" AND NOT reason STREQUAL "")
    string(APPEND problems "  line ${number} has both a test and a reason: ${id}\n")
  elseif(NOT tests STREQUAL "")
    math(EXPR covered "${covered} + 1")
  elseif(NOT reason STREQUAL "")
    math(EXPR reasoned "${reasoned} + 1")
  endif()
  string(REPLACE "${semicolon} " ";" tests "${tests}")
  foreach(test IN LISTS tests)
    if(NOT DEFINED "exists ${test}")
      string(APPEND problems "  line ${number} names a test that does not exist: ${test}\n")
    endif()
  endforeach()
endforeach()

math(EXPR open "${total} - ${covered} - ${reasoned}")
message(STATUS "CPython's tests: ${total}; covered ${covered}, reasoned ${reasoned}, open ${open}")
if(problems)
  message(FATAL_ERROR "${TABLE}:\n${problems}")
endif()
