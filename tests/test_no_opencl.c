/* A machine without OpenCL: the CPU path works, and everything else says what is missing and what
 * brings it. Run with CLNORM_TEST_MISSING=loader (libOpenCL cannot be loaded) or drivers (it can, and
 * finds none). */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

static const char *expected_package(void) {
  const char *missing = getenv("CLNORM_TEST_MISSING");
  assert_non_null(missing);
  if (strcmp(missing, "loader") == 0) return "ocl-icd-libopencl1";
  assert_string_equal(missing, "drivers");
  return "pocl-opencl-icd";
}

static void only_the_cpu_is_listed(void **state) {
  (void)state;
  clnorm_device_list *list = NULL;
  assert_int_equal(clnorm_device_list_create(&list), CLNORM_OK);
  assert_int_equal(clnorm_device_list_count(list), 1);
  assert_int_equal(clnorm_device_list_default(list), 0);
  assert_string_equal(clnorm_device_list_get(list, 0)->id, "cpu");
  bool named = false;
  for (int i = 0; i < clnorm_device_list_missing_count(list); i++) {
    print_message("  %s\n", clnorm_device_list_missing(list, i));
    if (strstr(clnorm_device_list_missing(list, i), expected_package())) named = true;
  }
  if (!named) fail_msg("no sentence names %s", expected_package());
  clnorm_device_list_destroy(list);
}

static void devices_that_were_asked_for_are_errors(void **state) {
  (void)state;
  static const char *const devices[] = {"gpu", "0.0", "pocl"};
  for (size_t i = 0; i < FIXTURE_LENGTH(devices); i++) {
    clnorm_context *context = (clnorm_context *)&context;
    clnorm_message message;
    const clnorm_status status = clnorm_context_create(devices[i], NULL, &context, &message);
    fixture_rejected(message.text, status, CLNORM_ERROR_NO_DEVICE, expected_package(), devices[i]);
    fixture_rejected(message.text, status, CLNORM_ERROR_NO_DEVICE, devices[i], devices[i]);
    assert_null(context);
  }
}

static void auto_falls_back_and_says_so(void **state) {
  (void)state;
  clnorm_context *context = fixture_open_with("auto", NULL);
  assert_string_equal(clnorm_context_device(context)->id, "cpu");
  print_message("  %s\n", clnorm_context_description(context));
  assert_non_null(strstr(clnorm_context_description(context), "auto"));
  assert_non_null(strstr(clnorm_context_description(context), expected_package()));
  clnorm_context_destroy(context);
}

static void the_cpu_path_works(void **state) {
  (void)state;
  enum { N = 2, C = 3, S = 50, COUNT = N * C * S };
  float x[COUNT], y[COUNT];
  fixture_fill(x, COUNT, 1, 0, 1);
  clnorm_context *context = fixture_open_with("cpu", NULL);
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  clnorm_plan *plan = NULL;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  const dense_args args = {.x = clnorm_host_memory(x, sizeof x),
                           .y = clnorm_host_memory(y, sizeof y)};
  assert_ok(context, dense_run(plan, &args));
  for (int c = 0; c < C; c++) {
    const fixture_moments moments = fixture_channel_moments(x, N, C, S, c);
    const fixture_channel by = {moments.mean, moments.var, 1e-5f, 1, 0};
    fixture_assert_normalized(x, y, (int64_t[]){N, C, S}, c, &by);
  }
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_the_cpu_is_listed),
      cmocka_unit_test(devices_that_were_asked_for_are_errors),
      cmocka_unit_test(auto_falls_back_and_says_so),
      cmocka_unit_test(the_cpu_path_works),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
