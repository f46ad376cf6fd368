# SPDX-License-Identifier: MIT
#
# The ways in which a project gets brood, each a CTest test that builds and runs the project
# consumer/ beside this file.
foreach(way IN ITEMS find_package fetch_content add_subdirectory copy)
  string(REPLACE "_" " " title "${way}")
  add_test(
    NAME "consume: by ${title}"
    COMMAND
      "${CMAKE_COMMAND}" "-DWAY=${way}" "-DSOURCE_DIR=${PROJECT_SOURCE_DIR}"
      "-DBUILD_DIR=${PROJECT_BINARY_DIR}" "-DVERSION=${PROJECT_VERSION}"
      "-DGENERATOR=${CMAKE_GENERATOR}" "-DCOMPILER=${CMAKE_CXX_COMPILER}" "-Dfmt_DIR=${fmt_DIR}"
      "-DFMT_SOURCE_DIR=${fmt_SOURCE_DIR}" -P
      "${CMAKE_CURRENT_LIST_DIR}/run.cmake")
  set_tests_properties("consume: by ${title}" PROPERTIES LABELS consume TIMEOUT 300)
endforeach()
