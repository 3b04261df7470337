/* Back end x form x case x reference: every case of a suite on the device under test, against the plain
 * code of the CPU path on one thread, bit by bit, and against the long double reference. Guards around
 * operands and poisoned outputs are the runner's (cases/runner.c).
 *   CLNORM_TEST_SUITE   a suite of cases/suites.c; "edge" where unset */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

typedef struct side {
  clnorm_context *context;
  clnorm_case_runner *runner;
} side;

static side open_side(clnorm_context *context) {
  const side s = {context, clnorm_case_runner_create(context)};
  assert_non_null(s.runner);
  return s;
}

static void close_side(side *s) {
  clnorm_case_runner_destroy(s->runner);
  clnorm_context_destroy(s->context);
}

static side open_baseline(void) {
  clnorm_context_options options = dense_context_options();
  options.isa = CLNORM_ISA_PLAIN;
  options.num_threads = 1;
  return open_side(fixture_open_with("cpu", &options));
}

static void run(side *s, const clnorm_case *item, const clnorm_case_problem *problem,
                const char *text, clnorm_case_outputs *outputs) {
  clnorm_status status = CLNORM_OK;
  clnorm_message why;
  const clnorm_case_result result =
      clnorm_case_run(s->runner, item, problem, outputs, &status, &why);
  if (result != CLNORM_CASE_RAN) fail_msg("%s: %s", text, why.text);
}

/* promise NULL: all elements are promised. */
static void check_bits(const clnorm_case *item, const clnorm_case_problem *problem,
                       const char *text, const clnorm_promise *promise,
                       const clnorm_case_outputs *expected, const clnorm_case_outputs *actual) {
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) {
    clnorm_difference d;
    assert_int_equal(expected->counts[o], actual->counts[o]);
    if (!expected->counts[o]) continue;
    if (promise)
      clnorm_promise_separate(promise, (clnorm_output)o, expected->values[o], actual->values[o]);
    const clnorm_tensor tensor = clnorm_case_problem_output(problem, (clnorm_output)o);
    assert_true(clnorm_case_compare(&tensor, expected->values[o], actual->values[o], &d));
    if (d.differing_elements)
      fail_msg("%s, %s: %s: %lld elements differ, by up to %llu ulp", clnorm_case_mode(item), text,
               clnorm_output_name((clnorm_output)o), (long long)d.differing_elements,
               (unsigned long long)d.max_ulp);
  }
}

/* Returns the worst error in units of the bound. */
static double check_reference(const clnorm_case *item, const clnorm_case_problem *problem,
                              const char *text, const clnorm_case_outputs *outputs) {
  double worst = 0;
  clnorm_reference *reference = clnorm_reference_create(problem);
  assert_non_null(reference);
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) {
    const clnorm_output output = (clnorm_output)o;
    if (!outputs->counts[o]) continue;
    const double ratio = clnorm_reference_check(reference, output, outputs->values[o], NULL);
    if (ratio > 1) fail_msg("%s: %s: %g bounds", text, clnorm_output_name(output), ratio);
    if (clnorm_case_exact(item, output) &&
        clnorm_reference_unequal(reference, output, outputs->values[o]))
      fail_msg("%s: %s is not the exact result", text, clnorm_output_name(output));
    worst = ratio > worst ? ratio : worst;
  }
  clnorm_reference_destroy(reference);
  return worst;
}

static double check_case(side *subject, side *baseline, const clnorm_case *item) {
  char options[320], text[448];
  clnorm_case_describe(item, options, sizeof options);
  snprintf(text, sizeof text, "%lldx%lldx%lldx%lld %s", (long long)item->dims[0],
           (long long)item->dims[1], (long long)item->dims[2], (long long)item->dims[3], options);
  clnorm_case_operands operands;
  clnorm_case_outputs expected, actual;
  assert_true(clnorm_case_operands_make(item, &operands));
  run(baseline, item, &operands.problem, text, &expected);
  run(subject, item, &operands.problem, text, &actual);
  const double worst = check_reference(item, &operands.problem, text, &expected);
  const bool kept = clnorm_promise_kept(subject->context, baseline->context);
  clnorm_promise *promise = kept ? NULL : clnorm_promise_create(&operands.problem);
  assert_true(kept || promise);
  check_bits(item, &operands.problem, text, promise, &expected, &actual);
  clnorm_promise_destroy(promise);
  clnorm_case_outputs_free(&actual);
  clnorm_case_outputs_free(&expected);
  clnorm_case_operands_free(&operands);
  return worst;
}

static void test_suite(void **state) {
  (void)state;
  const char *suite = getenv("CLNORM_TEST_SUITE");
  size_t count;
  clnorm_case *cases = clnorm_suite_cases(suite ? suite : "edge", 1, &count);
  assert_non_null(cases);
  assert_true(count > 0);
  side baseline = open_baseline(), subject = open_side(fixture_open());
  double worst = 0;
  for (size_t i = 0; i < count; i++) {
    const double ratio = check_case(&subject, &baseline, &cases[i]);
    worst = ratio > worst ? ratio : worst;
  }
  print_message("%zu cases on %s; worst error / bound %.3f\n", count,
                clnorm_context_description(subject.context), worst);
  assert_true(worst > 0); /* the reference was really looked at */
  close_side(&subject);
  close_side(&baseline);
  free(cases);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_suite)};
  return cmocka_run_group_tests_name("conformance", tests, NULL, NULL);
}
