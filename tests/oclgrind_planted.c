/* Runs a kernel with one planted bug, so that a test can prove that Oclgrind's check is able to fail.
 *
 *   oclgrind_planted race|bounds|uninitialized|divergence|none
 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdio.h>
#include <string.h>

static const char source[] =
    "kernel void none(global float *a, local float *l) { a[get_global_id(0)] += 1.0f; }\n"
    "kernel void race(global float *a, local float *l) {\n"
    "  l[get_local_id(0)] = a[get_global_id(0)];\n"
    "  a[get_global_id(0)] = l[get_local_id(0) ^ 1];\n" /* no barrier in between */
    "}\n"
    "kernel void bounds(global float *a, local float *l) { a[get_global_id(0) + 1] = 1.0f; }\n"
    "kernel void uninitialized(global float *a, local float *l) {\n"
    "  a[get_global_id(0)] = l[get_local_id(0)] > 0.0f ? 1.0f : 2.0f;\n"
    "}\n"
    "kernel void divergence(global float *a, local float *l) {\n"
    "  if (get_local_id(0) == 0) barrier(CLK_LOCAL_MEM_FENCE);\n"
    "  a[get_global_id(0)] = 1.0f;\n"
    "}\n";

enum { ITEMS = 16 };

static int run(const char *kernel_name) {
  cl_platform_id platform;
  cl_device_id device;
  float values[ITEMS] = {1, 2, 3, 4};
  const char *text = source;
  const size_t items = ITEMS;
  if (clGetPlatformIDs(1, &platform, NULL) != CL_SUCCESS) return 2;
  if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL) != CL_SUCCESS) return 2;
  cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, NULL);
  cl_command_queue queue = clCreateCommandQueue(context, device, 0, NULL);
  cl_program program = clCreateProgramWithSource(context, 1, &text, NULL, NULL);
  if (clBuildProgram(program, 1, &device, "", NULL, NULL) != CL_SUCCESS) return 2;
  cl_kernel kernel = clCreateKernel(program, kernel_name, NULL);
  cl_mem buffer = clCreateBuffer(context, CL_MEM_COPY_HOST_PTR, sizeof values, values, NULL);
  clSetKernelArg(kernel, 0, sizeof buffer, &buffer);
  clSetKernelArg(kernel, 1, sizeof values, NULL);
  if (clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, &items, 0, NULL, NULL) != CL_SUCCESS)
    return 2;
  clFinish(queue);
  clReleaseMemObject(buffer);
  clReleaseKernel(kernel);
  clReleaseProgram(program);
  clReleaseCommandQueue(queue);
  clReleaseContext(context);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s race|bounds|uninitialized|divergence|none\n", argv[0]);
    return 2;
  }
  return run(argv[1]);
}
