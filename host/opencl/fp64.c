#include "fp64.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "environment.h"
#include "errors.h"
#include "kernel_sources.h"
#include "program.h"
#include "query.h"

/* ---- Cases ---------------------------------------------------------------------------------------- */

enum { EACH = 1024, KINDS = 4, CASES = EACH * KINDS };

typedef struct triple {
  double v[3];
} triple;

/* In and out of the test; what is expected stands beside it. */
typedef struct trial {
  triple cases[CASES], expected[CASES], results[CASES];
} trial;

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

static uint64_t high_product(uint64_t a, uint64_t b) {
  const uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
  const uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
  const uint64_t other = a0 * b1 + (uint32_t)middle;
  return a1 * b1 + (middle >> 32) + (other >> 32);
}

/* (a * b + r) / 2^shift where nothing is left over. */
static uint64_t shifted_product(uint64_t a, uint64_t b, int64_t r, unsigned shift) {
  const uint64_t low = a * b, sum = low + (uint64_t)r;
  const uint64_t carry = r < 0 ? (uint64_t)0 - (sum > low) : (uint64_t)(sum < low);
  return (high_product(a, b) + carry) << (64 - shift) | sum >> shift;
}

/* a / b as near to the middle of two neighbours as r / (a 2^53): for odd b and r, 54 bits of an odd q with
 * q * b + r = a * 2^53. */
static triple hard_quotient(uint64_t *state, int64_t r) {
  const uint64_t one = UINT64_C(1) << 53;
  triple t = {{0, 1, 0}};
  uint64_t a = one;
  while (a >= one) { /* a has 53 bits or, about half the time, 54 */
    const uint64_t b = (next_random(state) >> 11) | one >> 1 | 1;
    uint64_t inverse = b; /* modulo 2^64, three right bits at first, twice as many a step */
    for (int i = 0; i < 5; i++) inverse *= 2 - b * inverse;
    const uint64_t q = ((((uint64_t)0 - (uint64_t)r) * inverse) & (one - 1)) | one;
    a = shifted_product(q, b, r, 53);
    t.v[0] = (double)a;
    t.v[1] = (double)b;
  }
  return t;
}

/* sqrt(a) as near to the middle y of two neighbours as r / 2^108: for r = 7 modulo 8, 54 bits of an odd y with
 * y * y + r = a. Bit after bit of y is found from the right. */
static triple hard_root(int64_t r) {
  const uint64_t square = (uint64_t)0 - (uint64_t)r;
  uint64_t y = 1;
  for (unsigned bit = 3; bit < 55; bit++) y += ((y * y - square) >> bit & 1) << (bit - 1);
  y &= (UINT64_C(1) << 54) - 1;
  if (y < UINT64_C(1) << 53) y = (UINT64_C(1) << 54) - y;
  const triple t = {{ldexp((double)shifted_product(y, y, r, 55), 55), 3, 1}};
  return t;
}

/* c and about half of its last place: what is left of the product decides, or that c is even. */
static triple hard_sum(uint64_t *state, int i) {
  const double last = 0x1p-52;
  const double a = 1 + (double)(next_random(state) % 3) * last;
  const double b = 0x1p-53 * (1 - (double)(next_random(state) % 3) * last);
  const double c = 1 + (double)(next_random(state) >> 12) * last;
  const triple t = {{a, i % 2 ? b : -b, c}};
  return t;
}

/* Any bits at all: subnormal numbers, infinities and NaN are among them. */
static triple any_numbers(uint64_t *state, int i) {
  triple t;
  for (int k = 0; k < 3; k++) {
    uint64_t bits = next_random(state);
    if (i % 4 == 0) bits &= UINT64_C(0x800fffffffffffff);
    if (i % 4 == 1) bits = (bits & UINT64_C(0x800fffffffffffff)) | UINT64_C(0x3fe0000000000000);
    memcpy(&t.v[k], &bits, sizeof bits);
  }
  return t;
}

static void make_cases(trial *t) {
  uint64_t state = 54;
  for (int i = 0; i < EACH; i++) {
    const int64_t odd = i % 2 ? -i : i + 1;
    t->cases[i] = hard_quotient(&state, odd);
    t->cases[EACH + i] = hard_root(8 * ((int64_t)i - EACH / 2) + 7);
    t->cases[2 * EACH + i] = hard_sum(&state, i);
    t->cases[3 * EACH + i] = any_numbers(&state, i);
  }
}

/* The host rounds as IEEE-754 says; volatile keeps the arithmetic between enter and leave. */
static void make_expected(trial *t) {
  const clnorm_environment saved = clnorm__environment_enter();
  for (int i = 0; i < CASES; i++) {
    const volatile double a = t->cases[i].v[0], b = t->cases[i].v[1], c = t->cases[i].v[2];
    volatile double *result = t->expected[i].v;
    result[0] = a / b;
    result[1] = sqrt(a);
    result[2] = fma(a, b, c);
  }
  clnorm__environment_leave(saved);
}

/* ---- On the device -------------------------------------------------------------------------------- */

/* What the device is asked with; all zero at first, for release(). */
typedef struct bench {
  cl_program program;
  cl_kernel kernel;
  cl_command_queue queue;
  cl_mem cases, results;
} bench;

static void release(const clnorm_opencl_api *api, bench *b) {
  if (b->results) api->clReleaseMemObject(b->results);
  if (b->cases) api->clReleaseMemObject(b->cases);
  if (b->queue) api->clReleaseCommandQueue(b->queue);
  if (b->kernel) api->clReleaseKernel(b->kernel);
  if (b->program) api->clReleaseProgram(b->program);
}

/* The queue is its own: what waits on the caller's may wait for the caller. */
static clnorm_status make_bench(const clnorm_opencl_device *device, bench *b, clnorm_error *error) {
  const clnorm_opencl_api *api = &device->api;
  const clnorm_opencl_source source = {clnorm__kernel_fp64, clnorm__kernel_fp64_size,
                                       "-cl-std=CL1.2",
                                       device->keeps_programs ? device->base.cache_folder : NULL};
  const size_t size = sizeof(triple) * CASES;
  cl_int code = CL_SUCCESS;
  const clnorm_status status =
      clnorm__opencl_program_create(api, device->context, device->id, &source, &b->program, error);
  if (status != CLNORM_OK) return status;
  b->kernel = api->clCreateKernel(b->program, "clnorm_fp64", &code);
  if (code != CL_SUCCESS) return clnorm__opencl_fail_create(error, "clCreateKernel", code);
  b->queue = api->clCreateCommandQueue(device->context, device->id, 0, &code);
  if (code != CL_SUCCESS) return clnorm__opencl_fail_create(error, "clCreateCommandQueue", code);
  b->cases = api->clCreateBuffer(device->context, CL_MEM_READ_ONLY, size, NULL, &code);
  if (code == CL_SUCCESS)
    b->results = api->clCreateBuffer(device->context, CL_MEM_WRITE_ONLY, size, NULL, &code);
  if (code != CL_SUCCESS) return clnorm__opencl_fail_create(error, "clCreateBuffer", code);
  return CLNORM_OK;
}

static clnorm_status ask(const clnorm_opencl_api *api, const bench *b, trial *t,
                         clnorm_error *error) {
  const char *call = "clEnqueueWriteBuffer";
  const size_t count = CASES;
  cl_int code = api->clEnqueueWriteBuffer(b->queue, b->cases, CL_TRUE, 0, sizeof t->cases, t->cases,
                                          0, NULL, NULL);
  if (code == CL_SUCCESS) {
    call = "clSetKernelArg";
    code = api->clSetKernelArg(b->kernel, 0, sizeof b->cases, &b->cases);
  }
  if (code == CL_SUCCESS) code = api->clSetKernelArg(b->kernel, 1, sizeof b->results, &b->results);
  if (code == CL_SUCCESS) {
    call = "clEnqueueNDRangeKernel";
    code = api->clEnqueueNDRangeKernel(b->queue, b->kernel, 1, NULL, &count, NULL, 0, NULL, NULL);
  }
  if (code == CL_SUCCESS) {
    call = "clEnqueueReadBuffer";
    code = api->clEnqueueReadBuffer(b->queue, b->results, CL_TRUE, 0, sizeof t->results, t->results,
                                    0, NULL, NULL);
  }
  return code == CL_SUCCESS ? CLNORM_OK : clnorm__opencl_fail(error, call, code);
}

static bool same(double a, double b) {
  return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

/* Writes into `fault` what the device got wrong first; leaves it empty where that is nothing. */
static void judge(const trial *t, char *fault, size_t size) {
  static const char *const names[] = {"a / b", "sqrt(a)", "fma(a, b, c)"};
  for (int i = 0; i < CASES; i++)
    for (int k = 0; k < 3; k++) {
      if (same(t->results[i].v[k], t->expected[i].v[k])) continue;
      snprintf(fault, size, "its %s of double numbers is %a, not %a, for a = %a, b = %a, c = %a",
               names[k], t->results[i].v[k], t->expected[i].v[k], t->cases[i].v[0],
               t->cases[i].v[1], t->cases[i].v[2]);
      return;
    }
}

static clnorm_status try_device(clnorm_opencl_device *device, clnorm_error *error) {
  bench b = {NULL, NULL, NULL, NULL, NULL};
  trial *t = calloc(1, sizeof *t);
  if (!t) return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory to try f64");
  make_cases(t);
  make_expected(t);
  clnorm_status status = make_bench(device, &b, error);
  if (status == CLNORM_OK) status = ask(&device->api, &b, t, error);
  if (status == CLNORM_OK) judge(t, device->fp64_fault, sizeof device->fp64_fault);
  release(&device->api, &b);
  free(t);
  return status;
}

/* What double precision the device has, if any. A driver that does not know the question has none. */
static clnorm_status find_doubles(const clnorm_opencl_device *device, cl_device_fp_config *doubles,
                                  clnorm_error *error) {
  const cl_int code = device->api.clGetDeviceInfo(device->id, CL_DEVICE_DOUBLE_FP_CONFIG,
                                                  sizeof *doubles, doubles, NULL);
  if (code == CL_INVALID_VALUE) *doubles = 0;
  if (code == CL_SUCCESS || code == CL_INVALID_VALUE) return CLNORM_OK;
  return clnorm__opencl_fail(error, "clGetDeviceInfo", code);
}

/* Fills device->fp64_fault; leaves it empty where the device is right. */
static clnorm_status find_fault(clnorm_opencl_device *device, clnorm_error *error) {
  cl_device_fp_config doubles = 0;
  const clnorm_status status = find_doubles(device, &doubles, error);
  if (status != CLNORM_OK) return status;
  if (doubles) return try_device(device, error);
  snprintf(device->fp64_fault, sizeof device->fp64_fault,
           "it lacks double precision (cl_khr_fp64)");
  return CLNORM_OK;
}

clnorm_status clnorm__opencl_check_fp64(clnorm_opencl_device *device, clnorm_error *error) {
  const clnorm_status status = device->fp64_tried ? CLNORM_OK : find_fault(device, error);
  if (status != CLNORM_OK) return status;
  device->fp64_tried = true;
  if (!device->fp64_fault[0]) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_UNSUPPORTED, "device %s (%s) has no f64: %s",
                      device->base.info.id, device->base.info.name, device->fp64_fault);
}
