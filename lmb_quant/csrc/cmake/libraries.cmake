# SPDX-License-Identifier: Apache-2.0
# The shared and the static library of lmb_quant_objects, and how they are installed: for the system, or inside a wheel,
# where all of it is in the package's own folder.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
if(SKBUILD)
  set(place lmb_quant/)
  set(CMAKE_INSTALL_LIBDIR lib)
  set(CMAKE_INSTALL_INCLUDEDIR include)
endif()
set(lib ${CMAKE_INSTALL_LIBDIR})

add_library(lmb_quant SHARED $<TARGET_OBJECTS:lmb_quant_objects>)
add_library(lmb_quant_static STATIC $<TARGET_OBJECTS:lmb_quant_objects>)
set_target_properties(lmb_quant_static PROPERTIES OUTPUT_NAME lmb_quant)
foreach(target lmb_quant lmb_quant_static)
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${csrc}/include>
    $<INSTALL_INTERFACE:${place}${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${target} PRIVATE Threads::Threads)
endforeach()
if(NOT SKBUILD) # a wheel has no symbolic links
  file(STRINGS ${csrc}/include/lmb_quant_kernels.h abi REGEX "define LMBQ_ABI_VERSION")
  string(REGEX MATCH "[0-9]+$" abi "${abi}")
  set_target_properties(lmb_quant PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${abi})
endif()

# Nothing but the interface is seen, not even what the C++ library's headers bring in.
if(APPLE)
  target_link_options(lmb_quant PRIVATE "-Wl,-exported_symbol,_lmbq_*")
  set(runtime c++)
else()
  # worker threads outlive a dlclose
  target_link_options(lmb_quant PRIVATE -Wl,-z,nodelete -Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/exports.map)
  set_target_properties(lmb_quant PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/exports.map)
  set(runtime stdc++)
endif()
if(LMB_QUANT_SANITIZE)
  target_link_options(lmb_quant PRIVATE -fsanitize=${LMB_QUANT_SANITIZE})
elseif(NOT APPLE)
  target_link_options(lmb_quant PRIVATE -Wl,-z,defs)
endif()
# A C compiler links the static one too.
target_link_libraries(lmb_quant_static INTERFACE $<INSTALL_INTERFACE:${runtime}> $<INSTALL_INTERFACE:m>)

install(TARGETS lmb_quant lmb_quant_static EXPORT lmb_quant
  LIBRARY DESTINATION ${place}${lib} ARCHIVE DESTINATION ${place}${lib} RUNTIME DESTINATION ${place}bin)
install(DIRECTORY ${csrc}/include/ DESTINATION ${place}${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

set(cmake ${place}${lib}/cmake/lmb_quant)
install(EXPORT lmb_quant NAMESPACE lmb_quant:: FILE lmb_quantTargets.cmake DESTINATION ${cmake})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/lmb_quantConfig.cmake.in lmb_quantConfig.cmake
  INSTALL_DESTINATION ${cmake})
write_basic_package_version_file(lmb_quantConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lmb_quantConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/lmb_quantConfigVersion.cmake
  DESTINATION ${cmake})

# Relative to the file itself: what is installed can be moved.
file(RELATIVE_PATH up /${lib}/pkgconfig /)
configure_file(${CMAKE_CURRENT_LIST_DIR}/lmb_quant.pc.in lmb_quant.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lmb_quant.pc DESTINATION ${place}${lib}/pkgconfig)
