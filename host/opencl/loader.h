/* libOpenCL, found at run time: one binary runs on machines with and without OpenCL. */
#ifndef CLNORM_OPENCL_LOADER_H
#define CLNORM_OPENCL_LOADER_H

#include <clnorm/clnorm_opencl.h>

/* The only list of the OpenCL functions that clnorm calls; all are OpenCL 1.2. */
#define CLNORM_OPENCL_FUNCTIONS(X)                                                                 \
  X(clGetPlatformIDs)                                                                              \
  X(clGetPlatformInfo)                                                                             \
  X(clGetDeviceIDs)                                                                                \
  X(clGetDeviceInfo)                                                                               \
  X(clRetainDevice)                                                                                \
  X(clReleaseDevice)                                                                               \
  X(clCreateContext)                                                                               \
  X(clRetainContext)                                                                               \
  X(clReleaseContext)                                                                              \
  X(clCreateCommandQueue)                                                                          \
  X(clRetainCommandQueue)                                                                          \
  X(clReleaseCommandQueue)                                                                         \
  X(clGetCommandQueueInfo)                                                                         \
  X(clCreateBuffer)                                                                                \
  X(clReleaseMemObject)                                                                            \
  X(clGetMemObjectInfo)                                                                            \
  X(clCreateProgramWithSource)                                                                     \
  X(clCreateProgramWithBinary)                                                                     \
  X(clReleaseProgram)                                                                              \
  X(clBuildProgram)                                                                                \
  X(clGetProgramInfo)                                                                              \
  X(clGetProgramBuildInfo)                                                                         \
  X(clCreateKernel)                                                                                \
  X(clReleaseKernel)                                                                               \
  X(clSetKernelArg)                                                                                \
  X(clGetKernelWorkGroupInfo)                                                                      \
  X(clEnqueueNDRangeKernel)                                                                        \
  X(clEnqueueReadBuffer)                                                                           \
  X(clEnqueueWriteBuffer)                                                                          \
  X(clEnqueueMarkerWithWaitList)                                                                   \
  X(clRetainEvent)                                                                                 \
  X(clReleaseEvent)                                                                                \
  X(clWaitForEvents)                                                                               \
  X(clGetEventInfo)                                                                                \
  X(clGetEventProfilingInfo)                                                                       \
  X(clFlush)                                                                                       \
  X(clFinish)

/* Every call goes through such a table; who opens it owns it. */
typedef struct clnorm_opencl_api {
  void *library;
#define CLNORM_OPENCL_MEMBER(name) __typeof__(&name) name;
  CLNORM_OPENCL_FUNCTIONS(CLNORM_OPENCL_MEMBER)
#undef CLNORM_OPENCL_MEMBER
} clnorm_opencl_api;

#define CLNORM_OPENCL_LIBRARY "libOpenCL.so.1"

/* Fills *api from the shared library of that name (CLNORM_OPENCL_LIBRARY; tests name others). On failure
 * `reason` receives a sentence that says what is missing and which package brings it. */
bool clnorm__opencl_load(const char *library, clnorm_opencl_api *api, clnorm_message *reason);
/* A table that was never filled is accepted. Drivers stay mapped: their threads may outlive the call. */
void clnorm__opencl_unload(clnorm_opencl_api *api);

#endif
