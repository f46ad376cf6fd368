# SPDX-License-Identifier: MIT
#
# brood_discover_tests(TARGET PREFIX) makes each test case of a Catch2 program a CTest test by the
# name "PREFIX: its name", with the label soak if it is tagged [soak]. The program is asked for its
# test cases when it has been built, as by Catch2's own catch_discover_tests; that one cuts off the
# space at the end of a prefix, and works differently in 2.13 and 3.
#
# The same file, run as a script, does the asking.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(BROOD_DISCOVER_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")

  function(brood_discover_tests target prefix)
    set(tests_file "${CMAKE_CURRENT_BINARY_DIR}/${target}_tests.cmake")
    add_custom_command(
      TARGET ${target}
      POST_BUILD
      BYPRODUCTS "${tests_file}"
      COMMAND "${CMAKE_COMMAND}" "-DPROGRAM=$<TARGET_FILE:${target}>" "-DPREFIX=${prefix}"
              "-DTESTS_FILE=${tests_file}" -P "${BROOD_DISCOVER_SCRIPT}"
      VERBATIM)
    # Until it is built it counts as one test, which fails.
    file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake"
         "if(EXISTS \"${tests_file}\")\n  include(\"${tests_file}\")\nelse()\n"
         "  add_test(\"${prefix}: not built\" ${target}_NOT_BUILT)\nendif()\n")
    set_property(
      DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES
                                "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake")
  endfunction()
  return()
endif()

cmake_minimum_required(VERSION 3.25)

# list_tests RESULT SPEC: the names of the test cases that match SPEC. Catch2 3 prints names only if
# told to be quiet, 2.13 by an option of its own, and returns their number.
function(list_tests result spec)
  execute_process(
    COMMAND "${PROGRAM}" "${spec}" --list-tests --verbosity quiet
    OUTPUT_VARIABLE names
    ERROR_VARIABLE errors
    RESULT_VARIABLE status)
  if(names MATCHES "^(Matching|All available) test cases")
    execute_process(
      COMMAND "${PROGRAM}" "${spec}" --list-test-names-only
      OUTPUT_VARIABLE names
      ERROR_VARIABLE errors
      RESULT_VARIABLE status)
    string(REGEX MATCHALL "\n" ends "${names}")
    list(LENGTH ends count)
    math(EXPR expected "${count} & 255")
    if(status EQUAL expected)
      set(status 0)
    endif()
  else()
    set(skip_return_code 4 PARENT_SCOPE)  # in 2.13 it says that there were 4 failures
  endif()
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} does not list its tests (${status}):\n${names}\n${errors}")
  endif()
  if(names MATCHES "[],;\\\"[]")
    message(FATAL_ERROR "${PROGRAM}: '${CMAKE_MATCH_0}' cannot stand in the name of a test:\n${names}")
  endif()
  string(STRIP "${names}" names)
  string(REPLACE "\n" ";" names "${names}")
  set(${result} "${names}" PARENT_SCOPE)
endfunction()

set(script "")
set(skip_return_code)
foreach(spec IN ITEMS "~[soak]" "[soak]")
  list_tests(names "${spec}")
  foreach(name IN LISTS names)
    string(APPEND script "add_test([==[${PREFIX}: ${name}]==] [==[${PROGRAM}]==] [==[${name}]==])\n")
    set(properties)
    if(spec STREQUAL "[soak]")
      string(APPEND properties " LABELS soak")
    endif()
    if(skip_return_code)
      string(APPEND properties " SKIP_RETURN_CODE ${skip_return_code}")
    endif()
    if(properties)
      string(APPEND script
             "set_tests_properties([==[${PREFIX}: ${name}]==] PROPERTIES${properties})\n")
    endif()
  endforeach()
endforeach()
if(script STREQUAL "")
  message(FATAL_ERROR "${PROGRAM} has no tests")
endif()
file(WRITE "${TESTS_FILE}" "${script}")
