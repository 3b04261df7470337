/* The times of runs, on the device under test. */
#include "fixture.h"

#include <time.h>

enum { N = 4, C = 6, S = 16 * 1024, COUNT = N * C * S };

static clnorm_context *open_timed(bool profiling) {
  clnorm_context_options options = fixture_options();
  options.profiling = profiling;
  return fixture_open_with(fixture_device(), &options);
}

static clnorm_plan *make_plan(clnorm_context *context, clnorm_cut variant, int64_t n) {
  dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, n, C, S);
  clnorm_plan *plan = NULL;
  desc.cut = variant;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  return plan;
}

static double host_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A run's time is part of the time that its caller sees, and no small part of it. */
static void a_run_has_a_time(void **state) {
  static const clnorm_cut variants[] = {CLNORM_CUT_CHANNEL, CLNORM_CUT_SPLIT};
  (void)state;
  clnorm_context *context = open_timed(true);
  float *values = test_malloc(COUNT * sizeof *values);
  fixture_fill(values, COUNT, 1, 0, 1);
  fixture_tensor x = fixture_tensor_make(context, values, COUNT);
  fixture_tensor y = fixture_tensor_make(context, NULL, COUNT);
  const dense_args args = {.x = x.view, .y = y.view};
  for (size_t i = 0; i < FIXTURE_LENGTH(variants); i++) {
    clnorm_plan *plan = make_plan(context, variants[i], N);
    assert_ok(context, dense_run(plan, &args)); /* compiles */
    assert_ok(context, clnorm_finish(context));
    const double start = host_seconds();
    double seconds = -1;
    assert_ok(context, dense_run(plan, &args));
    assert_ok(context, clnorm_last_run_seconds(context, &seconds)); /* waits */
    const double seen = host_seconds() - start;
    print_message("%s: %.0f us of %.0f us\n", clnorm_plan_description(plan), 1e6 * seconds,
                  1e6 * seen);
    assert_true(seconds > seen / 1000 && seconds <= seen);
    double again = -1;
    assert_ok(context, clnorm_last_run_seconds(context, &again));
    assert_true(again == seconds);
    clnorm_plan_destroy(plan);
  }
  fixture_tensor_free(context, &x);
  fixture_tensor_free(context, &y);
  clnorm_context_destroy(context);
  test_free(values);
}

static void an_empty_run_takes_no_time(void **state) {
  (void)state;
  clnorm_context *context = open_timed(true);
  clnorm_plan *plan = make_plan(context, CLNORM_CUT_AUTO, 0);
  const dense_args args = {.momentum = 0};
  double seconds = -1;
  assert_ok(context, dense_run(plan, &args));
  assert_ok(context, clnorm_last_run_seconds(context, &seconds));
  assert_true(seconds == 0);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
}

static void rejected(clnorm_context *context, double *seconds, clnorm_status status,
                     const char *words) {
  const clnorm_status got = clnorm_last_run_seconds(context, seconds);
  fixture_rejected(clnorm_last_error(context), got, status, words, words);
}

static void without_profiling_or_a_run(void **state) {
  (void)state;
  double seconds = -1;
  clnorm_context *context = open_timed(false);
  rejected(context, &seconds, CLNORM_ERROR_STATE, "profiling");
  clnorm_context_destroy(context);
  context = open_timed(true);
  rejected(context, &seconds, CLNORM_ERROR_STATE, "no run");
  rejected(context, NULL, CLNORM_ERROR_INVALID_ARGUMENT, "seconds is NULL");
  assert_int_equal(clnorm_last_run_seconds(NULL, &seconds), CLNORM_ERROR_INVALID_ARGUMENT);
  assert_true(seconds == -1);
  clnorm_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_run_has_a_time),
      cmocka_unit_test(an_empty_run_takes_no_time),
      cmocka_unit_test(without_profiling_or_a_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
