# SPDX-License-Identifier: MIT
#
# Builds and runs consumer/ with brood got the way WAY: find_package, fetch_content,
# add_subdirectory or copy. Works below BUILD_DIR, in a directory of its own.
cmake_minimum_required(VERSION 3.25)
set(work "${BUILD_DIR}/consume/${WAY}")
set(consumer "${CMAKE_CURRENT_LIST_DIR}/consumer")
file(REMOVE_RECURSE "${work}")
file(MAKE_DIRECTORY "${work}")

# run COMMAND...: runs it and fails if it fails.
function(run)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY "${work}" COMMAND_ERROR_IS_FATAL ANY)
endfunction()

if(WAY STREQUAL "copy")
  file(COPY "${SOURCE_DIR}/include" DESTINATION "${work}")
  run("${COMPILER}" -std=c++20 -Wall -Wextra -Werror -pthread -Iinclude "${consumer}/main.cpp" -o
      consumer)
  run("${work}/consumer")
  return()
endif()

set(configure "${CMAKE_COMMAND}" -S "${consumer}" -G "${GENERATOR}"
              "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DWAY=${WAY}" "-DBROOD_SOURCE_DIR=${SOURCE_DIR}")
if(FMT_SOURCE_DIR)  # was fetched: need not be again, and is installed beside brood
  list(APPEND configure "-DFETCHCONTENT_SOURCE_DIR_FMT=${FMT_SOURCE_DIR}")
else()
  list(APPEND configure "-Dfmt_DIR=${fmt_DIR}")
endif()
if(WAY STREQUAL "find_package")
  run("${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${work}/prefix")
  list(APPEND configure "-DCMAKE_PREFIX_PATH=${work}/prefix")
  # The next minor version is not this one.
  string(REGEX MATCH "^[0-9]+\\.[0-9]+" wanted "${VERSION}")
  string(REGEX REPLACE "^([0-9]+)\\.([0-9]+)$" "\\2" minor "${wanted}")
  string(REGEX REPLACE "\\..*" "" major "${wanted}")
  math(EXPR minor "${minor} + 1")
  execute_process(
    COMMAND ${configure} -B "${work}/refused" "-DWANTED=${major}.${minor}"
    RESULT_VARIABLE result
    OUTPUT_QUIET ERROR_QUIET)
  if(result EQUAL 0)
    message(FATAL_ERROR "find_package(brood ${major}.${minor}) took version ${VERSION}")
  endif()
  list(APPEND configure "-DWANTED=${wanted}")
endif()
run(${configure} -B "${work}/build")
run("${CMAKE_COMMAND}" --build "${work}/build")
run("${work}/build/consumer")

# What is brood's own stays out of the projects that use it.
if(WAY STREQUAL "find_package")
  file(GLOB_RECURSE targets "${work}/prefix/*brood-targets.cmake")
  file(READ "${targets}" text)
  if(text MATCHES "-W[a-z]|${SOURCE_DIR}|${BUILD_DIR}")
    message(FATAL_ERROR "the installed ${targets} holds ${CMAKE_MATCH_0}")
  endif()
elseif(EXISTS "${work}/build/build.ninja")
  file(READ "${work}/build/build.ninja" text)
  if(text MATCHES "test_odr|example_01|-Wshadow")
    message(FATAL_ERROR "the project that uses brood builds its ${CMAKE_MATCH_0}")
  endif()
endif()
