# GPU kernels without a GPU (included by CMakeLists.txt, after its functions).
#
#   ctest -L gpu            registers, spills, occupancy and accesses by the vendors' compilers; all programs by clang
#   ctest -R moved_bytes    bytes that the kernels move, counted by Oclgrind

if(NOT CLNORM_OPENCL)
  return()
endif()

foreach(only intel amd nvidia lint)
  set(needs clang)
  if(NOT only STREQUAL lint)
    list(APPEND needs libclc)
  endif()
  if(only STREQUAL intel)
    list(APPEND needs ocloc)
  endif()
  clnorm_add_test(gpu_kernels gpu SUFFIX ${only} TIMEOUT 900 NEEDS ${needs}
    COMMAND ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/gpu_kernels.py ${PROJECT_SOURCE_DIR} --only ${only})
endforeach()

# Every program that a key can ask for, by clang's front end.
clnorm_add_test(front_end gpu NEEDS clang
  COMMAND ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_front_end.py ${PROJECT_SOURCE_DIR} clang)

add_executable(moved_bytes moved_bytes.c)
target_link_libraries(moved_bytes PRIVATE clnorm_cases clnorm_static clnorm_flags)
set_target_properties(moved_bytes PROPERTIES ENABLE_EXPORTS ON) # its operator new
clnorm_add_test(moved_bytes oclgrind TIMEOUT 600
  COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/oclgrind.sh memory
          ${CMAKE_CURRENT_BINARY_DIR}/oclgrind/moved_bytes
          ${CMAKE_COMMAND} -E env OCLGRIND_INST_COUNTS=1 OCLGRIND_DATA_RACES=0 OCLGRIND_NUM_THREADS=1
          ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/moved_bytes.py $<TARGET_FILE:moved_bytes>)
