# Sets CLNORM_OPENCL_INCLUDE_DIR to a folder with Khronos's CL/cl.h.

find_path(CLNORM_OPENCL_INCLUDE_DIR CL/cl.h)
if(NOT CLNORM_OPENCL_INCLUDE_DIR)
  # They are the same for every processor: the build machine's serve a cross build.
  find_path(CLNORM_OPENCL_INCLUDE_DIR CL/cl.h NO_CMAKE_FIND_ROOT_PATH)
endif()
if(NOT CLNORM_OPENCL_INCLUDE_DIR)
  message(FATAL_ERROR "CL/cl.h is missing. Install the Khronos headers (Debian and Ubuntu: "
    "apt-get install opencl-headers), or configure with -D CLNORM_OPENCL=OFF for the CPU path alone.")
endif()

# In a folder that the compiler does not search by itself (musl-gcc, cross compilers) they may lie beside the
# headers of another C library. Then the folder CL is taken alone.
if(EXISTS "${CLNORM_OPENCL_INCLUDE_DIR}/stdio.h" AND
   NOT CLNORM_OPENCL_INCLUDE_DIR IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
  set(alone "${CMAKE_CURRENT_BINARY_DIR}/khronos")
  file(MAKE_DIRECTORY "${alone}")
  file(CREATE_LINK "${CLNORM_OPENCL_INCLUDE_DIR}/CL" "${alone}/CL" SYMBOLIC)
  set(CLNORM_OPENCL_INCLUDE_DIR "${alone}")
endif()
