# SPDX-License-Identifier: MIT
#
# What brood is built on: found on the machine first, fetched only if not found. Threads and fmt
# are the library's own; brood_use_catch2() is for its tests.
include(FetchContent)

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

if(NOT TARGET fmt::fmt)
  set(FMT_INSTALL ${BROOD_INSTALL} CACHE BOOL "Install fmt beside brood when it was fetched")
  FetchContent_Declare(
    fmt
    GIT_REPOSITORY https://github.com/fmtlib/fmt.git
    GIT_TAG 10.2.1
    GIT_SHALLOW ON
    SYSTEM
    FIND_PACKAGE_ARGS 9)
  FetchContent_MakeAvailable(fmt)
endif()

# Makes Catch2::Catch2, 2.13 or 3.
macro(brood_use_catch2)
  FetchContent_Declare(
    Catch2
    GIT_REPOSITORY https://github.com/catchorg/Catch2.git
    GIT_TAG v3.7.1
    GIT_SHALLOW ON
    SYSTEM
    FIND_PACKAGE_ARGS)
  FetchContent_MakeAvailable(Catch2)
  if(Catch2_FOUND AND Catch2_VERSION VERSION_LESS 2.13)
    message(FATAL_ERROR "brood's tests need Catch2 2.13 or newer; found ${Catch2_VERSION}")
  endif()
endmacro()
