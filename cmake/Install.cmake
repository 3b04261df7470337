# Install rules, and the target uninstall. Included by CMakeLists.txt.

include(CMakePackageConfigHelpers)

# ---- The library and the program -----------------------------------------------------------------
if(SHARED IN_LIST CLNORM_KINDS)
  install(TARGETS clnorm EXPORT clnormTargets)
endif()
if(STATIC IN_LIST CLNORM_KINDS)
  install(TARGETS clnorm_static EXPORT clnormTargets)
endif()
install(DIRECTORY include/clnorm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(CLNORM_BUILD_CLI)
  install(TARGETS clnorm_cli)
endif()

# ---- For CMake -----------------------------------------------------------------------------------
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/clnorm)
install(EXPORT clnormTargets NAMESPACE clnorm:: DESTINATION ${config_dir})
configure_package_config_file(cmake/clnormConfig.cmake.in clnormConfig.cmake INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(clnormConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/clnormConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/clnormConfigVersion.cmake DESTINATION ${config_dir})

# ---- For pkg-config ------------------------------------------------------------------------------
# Where it can, the file says where things are from its own place, so that a prefix can be moved. A prefix
# that it has to name is known when it is installed: `cmake --install --prefix` may give another one.
set(pc_libs_private -pthread)
foreach(library IN LISTS CMAKE_DL_LIBS ITEMS m)
  string(APPEND pc_libs_private " -l${library}")
endforeach()
set(pc_libs)
if(NOT SHARED IN_LIST CLNORM_KINDS)
  set(pc_libs " ${pc_libs_private}")
endif()
set(pc_prefix @CMAKE_INSTALL_PREFIX@)
if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  file(RELATIVE_PATH up "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" /prefix)
  string(REGEX REPLACE "/$" "" pc_prefix "\${pcfiledir}/${up}")
endif()
foreach(folder LIBDIR INCLUDEDIR)
  set(pc_${folder} "${CMAKE_INSTALL_${folder}}")
  if(NOT IS_ABSOLUTE "${pc_${folder}}")
    string(PREPEND pc_${folder} "\${prefix}/")
  endif()
endforeach()
configure_file(cmake/clnorm.pc.in clnorm.pc.in @ONLY)
set(pc "${CMAKE_CURRENT_BINARY_DIR}/clnorm.pc")
install(CODE "configure_file(\"${pc}.in\" \"${pc}\" @ONLY)")
install(FILES ${pc} DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# ---- Uninstalling --------------------------------------------------------------------------------
if(CLNORM_IS_TOP)
  add_custom_target(uninstall COMMAND ${CMAKE_COMMAND} -D BUILD=${CMAKE_BINARY_DIR}
    -P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/Uninstall.cmake VERBATIM)
endif()
