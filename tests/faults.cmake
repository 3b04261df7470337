# Faults, planned runs, threads, personalities (included by CMakeLists.txt, after its functions).

clnorm_test_program(test_threads)
clnorm_add_test(threads cpu)
if(NOT CLNORM_OPENCL)
  return()
endif()
clnorm_add_test(threads pocl)

# The OpenCL layer (layer/layer.h) that the OpenCL loader puts before the driver.
add_library(clnorm_test_layer MODULE layer/layer.c)
target_include_directories(clnorm_test_layer PRIVATE
  ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/host/opencl ${CLNORM_OPENCL_INCLUDE_DIR})
set_target_properties(clnorm_test_layer PROPERTIES C_VISIBILITY_PRESET hidden)
target_link_libraries(clnorm_test_layer PRIVATE clnorm_flags)

# The library's own allocations and threads (layer/hooks.h).
set(wraps malloc calloc realloc aligned_alloc posix_memalign strdup free pthread_create)
list(TRANSFORM wraps PREPEND "-Wl,--wrap=")

foreach(name faults planned personality fp64)
  clnorm_test_program(test_${name} ${OPENCL_LIBRARY} ${CMAKE_DL_LIBS})
  target_sources(test_${name} PRIVATE layer/control.c)
  target_include_directories(test_${name} PRIVATE layer ${CLNORM_OPENCL_INCLUDE_DIR})
  if(NOT name MATCHES "personality|fp64")
    target_sources(test_${name} PRIVATE layer/hooks.c)
    target_link_options(test_${name} PRIVATE ${wraps})
  endif()
  add_dependencies(test_${name} clnorm_test_layer)
  clnorm_add_test(${name} pocl TIMEOUT 900 ENV OPENCL_LAYERS=$<TARGET_FILE:clnorm_test_layer>)
endforeach()
