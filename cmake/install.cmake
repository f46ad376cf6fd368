# SPDX-License-Identifier: MIT
#
# Installs the headers and what find_package(brood) reads. Nothing in it depends on the machine.
include(CMakePackageConfigHelpers)

set(BROOD_PACKAGE_DIR "${CMAKE_INSTALL_DATADIR}/cmake/brood")

install(TARGETS brood EXPORT brood-targets FILE_SET HEADERS)
install(EXPORT brood-targets NAMESPACE brood:: DESTINATION "${BROOD_PACKAGE_DIR}")

configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/brood-config.cmake.in" "${PROJECT_BINARY_DIR}/brood-config.cmake"
  INSTALL_DESTINATION "${BROOD_PACKAGE_DIR}"
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/brood-config-version.cmake" COMPATIBILITY SameMinorVersion
  ARCH_INDEPENDENT)
install(
  FILES "${PROJECT_BINARY_DIR}/brood-config.cmake" "${PROJECT_BINARY_DIR}/brood-config-version.cmake"
  DESTINATION "${BROOD_PACKAGE_DIR}")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
