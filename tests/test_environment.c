/* The CPU path in the floating-point environment of its caller: rounding mode and flushing of subnormal
 * values change neither bits nor what the device says of itself. */
#include "fixture.h"

#include <fenv.h>
#include <float.h>
#include <string.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "cpu/isa.h"

enum { N = 3, C = 5, S = 211, COUNT = N * C * S };

static float x[COUNT];

/* Made in the ordinary environment. */
static int make_values(void **state) {
  (void)state;
  static const float scales[C] = {0x1p-140f, 0x1p-126f, 1e-20f, 1, 100};
  for (int i = 0; i < COUNT; i++) x[i] = scales[i / S % C] * (float)(i * 7919 % 1009 - 500);
  return 0;
}

/* A training step on values from 1e-42 to 1e2; y after running_mean and running_var. */
static void step(float out[COUNT + 2 * C]) {
  clnorm_context *context = fixture_open();
  clnorm_plan *plan;
  dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  memset(out, 0, (COUNT + 2 * C) * sizeof *out);
  const dense_args args = {.x = clnorm_host_memory(x, sizeof x),
                           .y = clnorm_host_memory(out + 2 * C, sizeof x),
                           .running_mean = clnorm_host_memory(out, C * sizeof *out),
                           .running_var = clnorm_host_memory(out + C, C * sizeof *out),
                           .momentum = 0.9};
  desc.eps = 1e-42; /* a subnormal float, and none exactly */
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  assert_ok(context, dense_run(plan, &args));
  assert_true(clnorm_context_device(context)->denormals);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
}

/* What the module makes of momentum: running statistics after calls that average all batches so far, and
 * that take a fraction of the new one. */
static void averages(float out[4 * C]) {
  clnorm_context *context = fixture_open();
  for (int i = 0; i < 2; i++) {
    clnorm_batchnorm *bn;
    clnorm_batchnorm_options options = dense_batchnorm_options(C);
    options.momentum_convention = i ? CLNORM_MOMENTUM_NEW : CLNORM_MOMENTUM_CUMULATIVE;
    options.momentum = 0x1p-60; /* 1 - momentum is 1 to nearest, and less when rounded down */
    float y[COUNT];
    const dense_args args = {.x = clnorm_host_memory(x, sizeof x),
                             .y = clnorm_host_memory(y, sizeof y)};
    const int64_t dims[4] = {N, C, S, 1};
    assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
    for (int call = 0; call < 3; call++)
      assert_ok(context, dense_batchnorm_forward(bn, 4, dims, &args));
    assert_ok(context, dense_batchnorm_get(bn, CLNORM_RUNNING_MEAN, out + 2 * i * C, C));
    assert_ok(context, dense_batchnorm_get(bn, CLNORM_RUNNING_VAR, out + (2 * i + 1) * C, C));
    clnorm_batchnorm_destroy(bn);
  }
  clnorm_context_destroy(context);
}

static void test_rounding(void **state) {
  (void)state;
  static float right[COUNT + 2 * C], got[COUNT + 2 * C];
  float right_averages[4 * C], got_averages[4 * C];
  step(right);
  averages(right_averages);
  static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  for (size_t i = 0; i < FIXTURE_LENGTH(modes); i++) {
    assert_int_equal(fesetround(modes[i]), 0);
    step(got);
    averages(got_averages);
    assert_int_equal(fegetround(), modes[i]);
    fesetround(FE_TONEAREST);
    assert_memory_equal(got_averages, right_averages, sizeof right_averages);
    assert_memory_equal(got, right, sizeof right);
  }
}

/* What an eps is as a float does not depend on the mode: 1e39 is infinite, and a little more than the largest
 * float is that float. */
static void test_largest_eps(void **state) {
  (void)state;
  static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  static const double given[] = {1e39, FLT_MAX * (1 + 1e-12)};
  clnorm_context *context = fixture_open();
  for (size_t i = 0; i < 2 * FIXTURE_LENGTH(modes); i++) {
    clnorm_plan *plan = NULL;
    clnorm_batchnorm *bn = NULL;
    dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
    clnorm_batchnorm_options options = dense_batchnorm_options(C);
    desc.eps = options.eps = given[i % 2];
    assert_int_equal(fesetround(modes[i / 2]), 0);
    const clnorm_status planned = dense_plan_create(context, &desc, &plan);
    const clnorm_status made = clnorm_batchnorm_create(context, &options, &bn);
    fesetround(FE_TONEAREST);
    const clnorm_status right = i % 2 ? CLNORM_OK : CLNORM_ERROR_INVALID_ARGUMENT;
    assert_int_equal(planned, right);
    assert_int_equal(made, right);
    clnorm_plan_destroy(plan);
    clnorm_batchnorm_destroy(bn);
  }
  clnorm_context_destroy(context);
}

#if defined(__SSE2__)
#define FLUSH 0x8040u /* results and operands */

static void test_flushing(void **state) {
  (void)state;
  static float right[COUNT + 2 * C], got[COUNT + 2 * C];
  const unsigned control = _mm_getcsr();
  step(right);
  _mm_setcsr(control | FLUSH);
  step(got);
  assert_int_equal(_mm_getcsr() & FLUSH, FLUSH);
  _mm_setcsr(control);
  assert_memory_equal(got, right, sizeof right);
}

static bool keeps_subnormals(void) {
  return clnorm__isa_functions(CLNORM_ISA_PLAIN, CLNORM_PATH_POSITIONS, CLNORM_STORAGE_F32,
                               CLNORM_STORAGE_F32)
      ->keeps_subnormals();
}

/* The finding itself, in environments that keep and that flush. */
static void test_finding(void **state) {
  (void)state;
  const unsigned control = _mm_getcsr();
  assert_true(keeps_subnormals());
  for (unsigned flush = 0x40; flush <= 0x8000; flush *= 0x200) {
    _mm_setcsr(control | flush);
    const bool kept = keeps_subnormals();
    _mm_setcsr(control);
    assert_false(kept);
  }
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_rounding),
    cmocka_unit_test(test_largest_eps),
#if defined(__SSE2__)
    cmocka_unit_test(test_flushing),
    cmocka_unit_test(test_finding),
#endif
  };
  return cmocka_run_group_tests(tests, make_values, NULL);
}
