# cmake -D OUTPUT=out.c -D KERNELS=folder -D NAMES="a;b" -D FILES="a.cl;b.cl;c.h" -P EmbedKernels.cmake
#
# Writes each folder/NAME.cl, its #include "..." lines replaced by the files (once each), as a C array
# clnorm__kernel_<name> with its size beside it. Files that are not in FILES, on which the caller's target
# depends, and include lines that would stay are errors.

cmake_minimum_required(VERSION 3.18)

function(inline_file path result)
  get_filename_component(name "${path}" NAME)
  if(NOT name IN_LIST FILES)
    message(FATAL_ERROR "${path} is included, but is not in the list of kernel files")
  endif()
  if(NOT EXISTS "${path}")
    message(FATAL_ERROR "${path} is included, but is not there")
  endif()
  get_property(seen GLOBAL PROPERTY CLNORM_SEEN)
  if(name IN_LIST seen)
    set(${result} "" PARENT_SCOPE)
    return()
  endif()
  set_property(GLOBAL APPEND PROPERTY CLNORM_SEEN "${name}")
  file(READ "${path}" text)
  while(text MATCHES "\n#include \"([A-Za-z0-9_]+\\.h)\"\n")
    set(header "${CMAKE_MATCH_1}")
    inline_file("${KERNELS}/${header}" body)
    string(REPLACE "\n#include \"${header}\"\n" "\n${body}\n" text "${text}")
  endwhile()
  set(${result} "${text}" PARENT_SCOPE)
endfunction()

# <stdint.h> is for C alone (base.h).
function(check_includes name text)
  string(REPLACE "\n#include <stdint.h>\n" "\n\n" text "${text}")
  if("\n${text}" MATCHES "\n[ \t]*(#[ \t]*include[^\n]*)")
    message(FATAL_ERROR "${name}.cl: not a line that can be expanded: '${CMAKE_MATCH_1}'")
  endif()
endfunction()

set(code "/* Generated from kernels/ by cmake/EmbedKernels.cmake. */\n#include \"kernel_sources.h\"\n")
foreach(name IN LISTS NAMES)
  set_property(GLOBAL PROPERTY CLNORM_SEEN "")
  inline_file("${KERNELS}/${name}.cl" text)
  check_includes(${name} "${text}")
  file(WRITE "${OUTPUT}.tmp" "${text}")
  file(READ "${OUTPUT}.tmp" hex HEX)
  file(REMOVE "${OUTPUT}.tmp")
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(REPEAT "." 80 line)
  string(REGEX REPLACE "(${line})" "\\1\n" bytes "${bytes}")
  string(APPEND code "\nconst char clnorm__kernel_${name}[] = {\n${bytes}0x00};\n"
         "const size_t clnorm__kernel_${name}_size = sizeof clnorm__kernel_${name} - 1;\n")
endforeach()
file(WRITE "${OUTPUT}" "${code}")
