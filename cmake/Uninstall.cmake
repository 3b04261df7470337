# cmake -D BUILD=folder -P Uninstall.cmake
#
# Removes the files that the last installation from this build folder wrote, and clnorm's own folders where
# nothing is left in them. DESTDIR is heard as it is in an installation.

cmake_minimum_required(VERSION 3.18)

set(manifest "${BUILD}/install_manifest.txt")
if(NOT EXISTS "${manifest}")
  message(FATAL_ERROR "${manifest} is missing: nothing was installed from this folder")
endif()
file(STRINGS "${manifest}" files)
set(folders)
foreach(file IN LISTS files)
  set(file "$ENV{DESTDIR}${file}")
  if(EXISTS "${file}" OR IS_SYMLINK "${file}")
    message(STATUS "Removing: ${file}")
    file(REMOVE "${file}")
  endif()
  get_filename_component(folder "${file}" DIRECTORY)
  list(APPEND folders "${folder}")
endforeach()
list(REMOVE_DUPLICATES folders)
foreach(folder IN LISTS folders)
  if(folder MATCHES "/clnorm$") # rmdir removes what is empty
    execute_process(COMMAND rmdir "${folder}" OUTPUT_QUIET ERROR_QUIET)
  endif()
endforeach()
file(REMOVE "${manifest}")
