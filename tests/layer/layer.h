/*
 * An OpenCL layer for tests: OPENCL_LAYERS=/path/libclnorm_test_layer.so puts it between the program and
 * the driver. It fails a call, counts calls and live objects, and lends the device another personality.
 *
 * Where CLNORM_TEST_LAYER_FAIL_AT is N, the N-th call of the process fails with the second error of its
 * function: for programs that are tested from outside. CLNORM_TEST_LAYER_PERSONALITY is the number of a
 * layer_personality likewise. Else a test controls it through one structure:
 * layer_open() finds it in the library that the OpenCL loader has loaded, or will load. Nothing in it is
 * locked: change it while no call is under way. Counters may move on any thread.
 */
#ifndef CLNORM_TESTS_LAYER_H
#define CLNORM_TESTS_LAYER_H

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>
#include <stdatomic.h>
#include <stdbool.h>

/* The functions that the layer sees, each with two errors that it may return: one for "memory or resources
 * ran out" and another one. layer.c checks that all functions of host/opencl/loader.h are here. */
#define LAYER_FUNCTIONS(X)                                                                         \
  X(clGetPlatformIDs, CL_OUT_OF_HOST_MEMORY, -1001 /* CL_PLATFORM_NOT_FOUND_KHR */)                \
  X(clGetPlatformInfo, CL_OUT_OF_HOST_MEMORY, CL_INVALID_PLATFORM)                                 \
  X(clGetDeviceIDs, CL_OUT_OF_RESOURCES, CL_INVALID_PLATFORM)                                      \
  X(clGetDeviceInfo, CL_OUT_OF_RESOURCES, CL_INVALID_DEVICE)                                       \
  X(clRetainDevice, CL_OUT_OF_RESOURCES, CL_INVALID_DEVICE)                                        \
  X(clReleaseDevice, CL_OUT_OF_RESOURCES, CL_INVALID_DEVICE)                                       \
  X(clCreateContext, CL_OUT_OF_HOST_MEMORY, CL_DEVICE_NOT_AVAILABLE)                               \
  X(clRetainContext, CL_OUT_OF_RESOURCES, CL_INVALID_CONTEXT)                                      \
  X(clReleaseContext, CL_OUT_OF_RESOURCES, CL_INVALID_CONTEXT)                                     \
  X(clGetContextInfo, CL_OUT_OF_RESOURCES, CL_INVALID_CONTEXT)                                     \
  X(clCreateCommandQueue, CL_OUT_OF_RESOURCES, CL_INVALID_QUEUE_PROPERTIES)                        \
  X(clRetainCommandQueue, CL_OUT_OF_RESOURCES, CL_INVALID_COMMAND_QUEUE)                           \
  X(clReleaseCommandQueue, CL_OUT_OF_RESOURCES, CL_INVALID_COMMAND_QUEUE)                          \
  X(clGetCommandQueueInfo, CL_OUT_OF_RESOURCES, CL_INVALID_COMMAND_QUEUE)                          \
  X(clCreateBuffer, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_INVALID_CONTEXT)                          \
  X(clReleaseMemObject, CL_OUT_OF_RESOURCES, CL_INVALID_MEM_OBJECT)                                \
  X(clGetMemObjectInfo, CL_OUT_OF_RESOURCES, CL_INVALID_VALUE)                                     \
  X(clCreateProgramWithSource, CL_OUT_OF_HOST_MEMORY, CL_INVALID_CONTEXT)                          \
  X(clCreateProgramWithBinary, CL_OUT_OF_RESOURCES, CL_INVALID_BINARY)                             \
  X(clReleaseProgram, CL_OUT_OF_RESOURCES, CL_INVALID_PROGRAM)                                     \
  X(clBuildProgram, CL_OUT_OF_HOST_MEMORY, CL_BUILD_PROGRAM_FAILURE)                               \
  X(clGetProgramInfo, CL_OUT_OF_RESOURCES, CL_INVALID_PROGRAM)                                     \
  X(clGetProgramBuildInfo, CL_OUT_OF_RESOURCES, CL_INVALID_DEVICE)                                 \
  X(clCreateKernel, CL_OUT_OF_RESOURCES, CL_INVALID_PROGRAM_EXECUTABLE)                            \
  X(clReleaseKernel, CL_OUT_OF_RESOURCES, CL_INVALID_KERNEL)                                       \
  X(clSetKernelArg, CL_OUT_OF_RESOURCES, CL_INVALID_KERNEL)                                        \
  X(clGetKernelWorkGroupInfo, CL_OUT_OF_RESOURCES, CL_INVALID_KERNEL)                              \
  X(clEnqueueNDRangeKernel, CL_OUT_OF_RESOURCES, CL_INVALID_KERNEL_ARGS)                           \
  X(clEnqueueReadBuffer, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_INVALID_COMMAND_QUEUE)               \
  X(clEnqueueWriteBuffer, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_INVALID_COMMAND_QUEUE)              \
  X(clEnqueueMarkerWithWaitList, CL_OUT_OF_RESOURCES, CL_INVALID_EVENT_WAIT_LIST)                  \
  X(clRetainEvent, CL_OUT_OF_RESOURCES, CL_INVALID_EVENT)                                          \
  X(clReleaseEvent, CL_OUT_OF_RESOURCES, CL_INVALID_EVENT)                                         \
  X(clCreateUserEvent, CL_OUT_OF_RESOURCES, CL_INVALID_CONTEXT)                                    \
  X(clWaitForEvents, CL_OUT_OF_RESOURCES, CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)            \
  X(clGetEventInfo, CL_OUT_OF_RESOURCES, CL_INVALID_EVENT)                                         \
  X(clGetEventProfilingInfo, CL_OUT_OF_RESOURCES, CL_PROFILING_INFO_NOT_AVAILABLE)                 \
  X(clFlush, CL_OUT_OF_RESOURCES, CL_INVALID_COMMAND_QUEUE)                                        \
  X(clFinish, CL_OUT_OF_RESOURCES, CL_INVALID_COMMAND_QUEUE)

typedef enum layer_function {
#define LAYER_MEMBER(name, exhausted, broken) LAYER_##name,
  LAYER_FUNCTIONS(LAYER_MEMBER)
#undef LAYER_MEMBER
      LAYER_NUM_FUNCTIONS
} layer_function;

/* Kinds of objects whose references are counted. */
typedef enum layer_object {
  LAYER_DEVICE,
  LAYER_CONTEXT,
  LAYER_QUEUE,
  LAYER_MEMORY,
  LAYER_PROGRAM,
  LAYER_KERNEL,
  LAYER_EVENT,
  LAYER_NUM_OBJECTS
} layer_object;

typedef enum layer_personality {
  LAYER_AS_IT_IS,
  LAYER_SMALL_GPU,     /* LAYER_SMALL_*, no extensions, no doubles, local memory of its own */
  LAYER_NO_COMPILER,   /* CL_DEVICE_COMPILER_AVAILABLE is false, building fails so */
  LAYER_NOT_AVAILABLE, /* CL_DEVICE_AVAILABLE is false, no context can be made */
  LAYER_NO_DEVICES,    /* platforms without devices */
  LAYER_OPENCL_1_1     /* an OpenCL 1.1 device on a newer platform */
} layer_personality;

#define LAYER_SMALL_GROUP ((size_t)64)
#define LAYER_SMALL_LOCAL ((cl_ulong)16 << 10)
#define LAYER_SMALL_ALLOC ((cl_ulong)64 << 20)

typedef struct layer_control {
  /* The fail_at-th call fails that is made while armed; 0: none. A failing clRelease* releases all the
   * same, for nobody could try again. */
  atomic_bool armed;
  long fail_at;
  bool broken;       /* which of the two errors */
  atomic_long calls; /* made while armed */
  atomic_int failed; /* the function that failed; -1: none yet */
  /* Calls since layer_reset, failed ones included. */
  atomic_long counts[LAYER_NUM_FUNCTIONS];
  atomic_long blocking;        /* reads and writes that wait */
  atomic_size_t largest_group; /* work-items of a work-group */
  /* References: created and retained, less released. Never reset. */
  atomic_long live[LAYER_NUM_OBJECTS];
  layer_personality personality;
  /* A device that computes wrongly: this byte, counted from 1, of each blocking read has another lowest bit; 0: none */
  size_t spoilt;
} layer_control;

#define LAYER_SYMBOL "clnorm_test_layer"

/* For tests. Fails the test where OPENCL_LAYERS does not name the layer. */
layer_control *layer_open(void);
/* Counts to zero, nothing armed; the fail_at-th call will fail. Personality and live objects stay. */
void layer_reset(layer_control *layer, long fail_at, bool broken);
const char *layer_function_name(layer_function function);
/* Fails the test, naming the kind, unless the live objects are those of `before` (LAYER_NUM_OBJECTS). */
void layer_assert_live(const layer_control *layer, const long *before, const char *where);
void layer_live(const layer_control *layer, long *live);

#endif
