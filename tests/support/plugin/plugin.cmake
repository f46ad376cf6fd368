# SPDX-License-Identifier: MIT
#
# Libraries and programs for the tests of code in libraries. plugin_TARGETS tells what they are.

# A build of plugin.cpp, as plugin/KIND/plugin.so. (AddressSanitizer refuses several.)
function(add_plugin kind answer build_id)
  add_library(plugin_${kind} MODULE support/plugin/plugin.cpp)
  target_link_options(plugin_${kind} PRIVATE "LINKER:--build-id=${build_id}")
  target_compile_definitions(plugin_${kind} PRIVATE PLUGIN_ANSWER=${answer})
  set_target_properties(
    plugin_${kind} PROPERTIES PREFIX "" OUTPUT_NAME plugin LIBRARY_OUTPUT_DIRECTORY
                              "${CMAKE_CURRENT_BINARY_DIR}/plugin/${kind}")
endfunction()
add_plugin(one 1 sha1)
add_plugin(two 2 sha1)
add_plugin(bare_one 1 none)
add_plugin(bare_two 2 none)
set(plugin_TARGETS plugin_one plugin_two plugin_bare_one plugin_bare_two)

# One that its users are linked to.
add_library(plugin_linked SHARED support/plugin/plugin.cpp)
target_compile_definitions(plugin_linked PRIVATE PLUGIN_ANSWER=3)

# program.cpp, linked in unusual ways.
function(add_plugin_program kind)
  add_executable(plugin_program_${kind} support/plugin/program.cpp)
  target_link_libraries(plugin_program_${kind} PRIVATE brood_own)
  target_link_options(plugin_program_${kind} PRIVATE ${ARGN})
  set_target_properties(plugin_program_${kind} PROPERTIES OUTPUT_NAME program_${kind}
                        RUNTIME_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/plugin")
endfunction()
add_plugin_program(usual)
add_plugin_program(without_build_id "LINKER:--build-id=none")
add_plugin_program(one_segment_of_code_and_constants "LINKER:-z,noseparate-code")
list(APPEND plugin_TARGETS plugin_program_usual plugin_program_without_build_id
     plugin_program_one_segment_of_code_and_constants)
if(NOT BROOD_SANITIZE) # these want their programs to move
  add_plugin_program(fixed -no-pie)
  target_compile_options(plugin_program_fixed PRIVATE -fno-pie)
  list(APPEND plugin_TARGETS plugin_program_fixed)

  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_LINK_OPTIONS -static)
  check_cxx_source_compiles("int main() {}" BROOD_LINKS_STATICALLY)
  unset(CMAKE_REQUIRED_LINK_OPTIONS)
  if(BROOD_LINKS_STATICALLY)
    add_executable(plugin_program_static support/plugin/program.cpp)
    target_include_directories(plugin_program_static PRIVATE "${PROJECT_SOURCE_DIR}/include")
    target_compile_features(plugin_program_static PRIVATE cxx_std_20)
    target_link_options(plugin_program_static PRIVATE -static) # and no fmt, which may be shared
    set_target_properties(
      plugin_program_static PROPERTIES OUTPUT_NAME program_static RUNTIME_OUTPUT_DIRECTORY
                                       "${CMAKE_CURRENT_BINARY_DIR}/plugin")
    list(APPEND plugin_TARGETS plugin_program_static)
  endif()
endif()

foreach(test IN ITEMS test_posix_code test_crossing test_futures_process_pool_start_methods)
  target_link_libraries(${test} PRIVATE plugin_linked)
  set_target_properties(${test} PROPERTIES BROOD_USUAL_LINKER ON) # they look at what it makes
  add_dependencies(${test} ${plugin_TARGETS})
  target_compile_definitions(${test} PRIVATE "PLUGIN_DIR=\"${CMAKE_CURRENT_BINARY_DIR}/plugin\"")
endforeach()
