# Ways to build that packagers and embedders use; each is a build of its own (included by CMakeLists.txt,
# after its functions).

# clnorm_add_variant(CASE [SUFFIX compiler] [ENV variable=value...])
function(clnorm_add_variant case cc)
  cmake_parse_arguments(PARSE_ARGV 2 ARG "" "SUFFIX" "ENV")
  set(suffix ${case})
  if(ARG_SUFFIX)
    string(APPEND suffix .${ARG_SUFFIX})
  endif()
  clnorm_add_test(variants build SUFFIX ${suffix}
    ENV CMAKE=${CMAKE_COMMAND} "GENERATOR=${CMAKE_GENERATOR}" CC=${cc} SOURCE=${PROJECT_SOURCE_DIR}
        WORK=${CMAKE_CURRENT_BINARY_DIR}/variants/${suffix} OPENCL=$<IF:$<BOOL:${CLNORM_OPENCL}>,ON,OFF>
        CLNORM=$<TARGET_FILE:clnorm_cli> ${ARG_ENV}
    COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/variants/run.sh ${case})
endfunction()

find_program(CLANG clang)
set(x87)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
  set(x87 " -mfpmath=387")
endif()
clnorm_add_variant(install ${CMAKE_C_COMPILER})
clnorm_add_variant(subproject ${CMAKE_C_COMPILER})
if(CMAKE_C_COMPILER_ID STREQUAL GNU)
  clnorm_add_variant(flags ${CMAKE_C_COMPILER} SUFFIX gcc ENV OPTIMIZE=-Ofast)
  clnorm_add_variant(refused ${CMAKE_C_COMPILER} SUFFIX gcc
    ENV "REFUSED=-funsafe-math-optimizations -freciprocal-math -fno-signed-zeros${x87}")
endif()
if(CLANG)
  clnorm_add_variant(flags ${CLANG} SUFFIX clang ENV OPTIMIZE=-O1)
  clnorm_add_variant(refused ${CLANG} SUFFIX clang ENV REFUSED=)
endif()

# Where there is a C library of 32 bits.
set(CMAKE_REQUIRED_FLAGS -m32)
check_c_source_compiles("#include <errno.h>\nint main(void) { return errno; }" CLNORM_HAS_M32)
unset(CMAKE_REQUIRED_FLAGS)
if(CLNORM_HAS_M32)
  clnorm_add_variant(m32 ${CMAKE_C_COMPILER})
endif()
