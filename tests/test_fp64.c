/* Double precision is tried before it is relied on (host/opencl/fp64.c): a device that gets one result wrong, lent by
 * the OpenCL layer, has no f64 and says why; each OpenCL call of the trial is made to fail. */
#include "fixture.h"

#include <stdio.h>
#include <string.h>

#include "layer.h"

static layer_control *layer;

static int find_layer(void **state) {
  (void)state;
  layer = layer_open();
  return 0;
}

static int be_ordinary(void **state) {
  (void)state;
  layer_reset(layer, 0, false);
  layer->personality = LAYER_AS_IT_IS;
  layer->spoilt = 0;
  return 0;
}

static clnorm_status plan_of(clnorm_context *context, int32_t dtype, clnorm_plan **plan) {
  static const int64_t dims[3] = {2, 3, 50};
  clnorm_problem problem;
  clnorm_problem_init(&problem, sizeof problem);
  clnorm_tensor_nchw(&problem.tensors[CLNORM_X], dtype, 3, dims);
  clnorm_tensor_nchw(&problem.tensors[CLNORM_Y], dtype, 3, dims);
  return clnorm_plan_create(context, &problem, plan);
}

static void assert_planned(clnorm_context *context, int32_t dtype) {
  clnorm_plan *plan = NULL;
  assert_ok(context, plan_of(context, dtype, &plan));
  clnorm_plan_destroy(plan);
}

static void assert_refused(clnorm_context *context, const char *words) {
  clnorm_plan *plan = (clnorm_plan *)&plan;
  const clnorm_status status = plan_of(context, CLNORM_F64, &plan);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_UNSUPPORTED, words, words);
  assert_null(plan);
}

/* Of each case the device gives three results of 8 bytes. */
enum { CASES = 4096, CASE_BYTES = 24, LAST = (CASES - CASES / 4 - 1) * CASE_BYTES };

static void wrong_devices(void **state) {
  (void)state;
  static const struct {
    size_t byte;
    const char *words;
  } rows[] = {{0, "device 0.0|no f64|a / b of double numbers is|, not"},
              {8, "device 0.0|no f64|sqrt(a) of double numbers is|, not"},
              {16, "device 0.0|no f64|fma(a, b, c) of double numbers is|, not"},
              {LAST, "device 0.0|no f64|a / b of double numbers is|, not"},
              {LAST + 8, "device 0.0|no f64|sqrt(a) of double numbers is|, not"},
              {LAST + 23, "device 0.0|no f64|fma(a, b, c) of double numbers is|, not"}};
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    long before[LAYER_NUM_OBJECTS];
    layer_live(layer, before);
    clnorm_context *context = fixture_open_with("0.0", NULL);
    layer_reset(layer, 0, false);
    layer->spoilt = rows[i].byte + 1;
    assert_refused(context, rows[i].words);
    print_message("  %s\n", clnorm_last_error(context));
    assert_int_equal(atomic_load(&layer->counts[LAYER_clEnqueueNDRangeKernel]), 1);
    layer->spoilt = 0;
    assert_refused(context, rows[i].words); /* the answer is kept */
    assert_int_equal(atomic_load(&layer->counts[LAYER_clEnqueueNDRangeKernel]), 1);
    assert_planned(context, CLNORM_F32);
    clnorm_context_destroy(context);
    layer_assert_live(layer, before, rows[i].words);
  }
  clnorm_context *context = fixture_open_with("0.0", NULL);
  assert_planned(context, CLNORM_F64);
  clnorm_context_destroy(context);
}

static void devices_without_doubles(void **state) {
  (void)state;
  layer->personality = LAYER_SMALL_GPU;
  clnorm_context *context = fixture_open_with("0.0", NULL);
  layer_reset(layer, 0, false);
  assert_refused(context, "device 0.0|no f64|lacks double precision|cl_khr_fp64");
  assert_int_equal(atomic_load(&layer->counts[LAYER_clCreateProgramWithSource]), 0);
  assert_planned(context, CLNORM_F32);
  clnorm_context_destroy(context);
}

/* A call that failed says nothing about the device's arithmetic: its error is told, and the next plan tries again. */
static void assert_fails(clnorm_context *context, bool broken, long n) {
  clnorm_plan *plan = NULL;
  char row[128];
  layer_reset(layer, n, broken);
  atomic_store(&layer->armed, true);
  const clnorm_status status = plan_of(context, CLNORM_F64, &plan);
  atomic_store(&layer->armed, false);
  const int failed = atomic_load(&layer->failed);
  if (failed < 0) {
    assert_ok(context, status);
    clnorm_plan_destroy(plan);
    return;
  }
  const char *call = layer_function_name((layer_function)failed);
  snprintf(row, sizeof row, "call %ld (%s)", n, call);
  const bool tolerated =
      strncmp(call, "clRelease", 9) == 0 || failed == LAYER_clGetProgramBuildInfo;
  if (status == CLNORM_OK && !tolerated) fail_msg("%s: nothing is reported", row);
  if (status == CLNORM_OK) {
    clnorm_plan_destroy(plan);
    return;
  }
  const char *text = clnorm_last_error(context);
  const bool build = failed == LAYER_clBuildProgram, create = strncmp(call, "clCreate", 8) == 0;
  const clnorm_status documented = broken && build                ? CLNORM_ERROR_BUILD
                                   : !broken && (build || create) ? CLNORM_ERROR_OUT_OF_MEMORY
                                                                  : CLNORM_ERROR_DEVICE;
  fixture_rejected(text, status, documented, call, row);
  assert_null(plan);
  assert_planned(context, CLNORM_F64);
}

static void calls_that_fail(void **state) {
  (void)state;
  static const layer_function asked[] = {
      LAYER_clGetDeviceInfo,        LAYER_clCreateProgramWithSource,
      LAYER_clBuildProgram,         LAYER_clCreateKernel,
      LAYER_clCreateCommandQueue,   LAYER_clCreateBuffer,
      LAYER_clEnqueueWriteBuffer,   LAYER_clSetKernelArg,
      LAYER_clEnqueueNDRangeKernel, LAYER_clEnqueueReadBuffer,
      LAYER_clReleaseMemObject,     LAYER_clReleaseCommandQueue,
      LAYER_clReleaseKernel,        LAYER_clReleaseProgram};
  for (int broken = 0; broken < 2; broken++) {
    long failed[LAYER_NUM_FUNCTIONS] = {0};
    int function = 0;
    for (long n = 1; function >= 0; n++) {
      long before[LAYER_NUM_OBJECTS];
      layer_live(layer, before);
      clnorm_context *context = fixture_open_with("0.0", NULL);
      assert_fails(context, broken, n);
      function = atomic_load(&layer->failed);
      if (function >= 0) failed[function]++;
      clnorm_context_destroy(context);
      layer_assert_live(layer, before, "after a call that failed");
    }
    for (size_t i = 0; i < FIXTURE_LENGTH(asked); i++)
      if (!failed[asked[i]]) fail_msg("%s was never made to fail", layer_function_name(asked[i]));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(wrong_devices, be_ordinary),
      cmocka_unit_test_teardown(devices_without_doubles, be_ordinary),
      cmocka_unit_test_teardown(calls_that_fail, be_ordinary),
  };
  return cmocka_run_group_tests(tests, find_layer, NULL);
}
