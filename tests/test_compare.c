/* Section 7 of clnorm.h: ulps, histogram, first difference; and whole operations on two contexts. */
#include "fixture.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* ---- Two floats -------------------------------------------------------------------------------- */

typedef struct ulp_row {
  uint32_t a, b; /* bits */
  uint32_t ulp;
  int bin; /* of the histogram */
} ulp_row;

static const ulp_row ulps[] = {
    {0x3f800000, 0x3f800000, 0, 0},           /* 1, 1 */
    {0x3f800000, 0x3f800001, 1, 1},           /* neighbours */
    {0x3f7fffff, 0x3f800000, 1, 1},           /* across a power of two */
    {0x3f800000, 0x3f800002, 2, 2},           /* bin 2 is [2, 4) */
    {0x3f800000, 0x3f800003, 3, 2},           /* */
    {0x3f800000, 0x3f800004, 4, 3},           /* */
    {0x3f800000, 0x40000000, 1u << 23, 24},   /* 1 and 2 */
    {0x00000000, 0x80000000, 1, 1},           /* +0 and -0 are 1 apart */
    {0x00000001, 0x80000000, 2, 2},           /* the smallest positive and -0 */
    {0x00000001, 0x80000001, 3, 2},           /* the smallest ones of both signs */
    {0x00000000, 0x00000001, 1, 1},           /* +0 and the smallest */
    {0x7f7fffff, 0x7f800000, 1, 1},           /* largest and infinity */
    {0x7f800000, 0x7f800000, 0, 0},           /* infinities */
    {0x7f800000, 0xff800000, 0xff000001, 32}, /* infinities of both signs: the farthest numbers */
    {0x7fc00000, 0x7fc00000, 0, 0},           /* NaN and NaN */
    {0x7fc00000, 0xffc12345, 0, 0},           /* whatever the payloads and signs */
    {0x7fc00000, 0x3f800000, UINT32_MAX, 33}, /* NaN and a number */
    {0xff800000, 0x7f800001, UINT32_MAX, 33}, /* -infinity and NaN */
};

static void distances_in_ulp(void **state) {
  (void)state;
  static const int64_t dims[4] = {1, 1, 1, 1};
  for (size_t i = 0; i < 2 * FIXTURE_LENGTH(ulps); i++) {
    const ulp_row *row = &ulps[i / 2];
    const float a = from_bits(i % 2 == 0 ? row->a : row->b);
    const float b = from_bits(i % 2 == 0 ? row->b : row->a);
    clnorm_difference difference;
    memset(&difference, 0x55, sizeof difference);
    clnorm_compare(dims, &a, &b, &difference);
    if (difference.max_ulp != row->ulp || difference.histogram[row->bin] != 1) {
      fail_msg("%08x and %08x: %u ulp, expected %u in bin %d", row->a, row->b, difference.max_ulp,
               row->ulp, row->bin);
    }
    int64_t total = 0;
    for (int bin = 0; bin < CLNORM_HISTOGRAM_BINS; bin++) total += difference.histogram[bin];
    assert_int_equal(total, 1);
    assert_int_equal(difference.elements, 1);
    assert_int_equal(difference.differing_elements, row->ulp != 0);
    assert_int_equal(difference.first[0], row->ulp != 0 ? 0 : -1);
  }
}

/* ---- Arrays ------------------------------------------------------------------------------------ */

static void the_first_difference_has_its_index(void **state) {
  (void)state;
  static const int64_t dims[4] = {2, 3, 4, 5};
  static float a[120], b[120];
  fixture_fill(a, 120, 1, 0, 1);
  for (int i = 0; i < 120; i++) {
    memcpy(b, a, sizeof a);
    b[i] = nextafterf(a[i], INFINITY);
    b[119] = nextafterf(nextafterf(a[119], INFINITY), INFINITY);
    clnorm_difference d;
    clnorm_compare(dims, a, b, &d);
    assert_int_equal(((d.first[0] * 3 + d.first[1]) * 4 + d.first[2]) * 5 + d.first[3], i);
    assert_true(d.first[1] < 3 && d.first[2] < 4 && d.first[3] < 5);
    assert_true(d.first_a == a[i] && d.first_b == b[i]);
    assert_int_equal(d.elements, 120);
    assert_int_equal(d.differing_elements, i == 119 ? 1 : 2);
    assert_int_equal(d.max_ulp, 2);
    assert_int_equal(d.histogram[0], 120 - d.differing_elements);
    assert_int_equal(d.histogram[1], i == 119 ? 0 : 1);
    assert_int_equal(d.histogram[2], 1);
  }
}

static void equal_and_empty_arrays(void **state) {
  (void)state;
  static const int64_t shapes[][4] = {{2, 3, 4, 5}, {0, 3, 4, 5}, {2, 3, 4, 0}, {0, 0, 0, 0}};
  static float a[120];
  fixture_fill(a, 120, 1, 0, 1);
  a[7] = NAN;
  for (size_t i = 0; i < FIXTURE_LENGTH(shapes); i++) {
    clnorm_difference d;
    memset(&d, 0x55, sizeof d);
    clnorm_compare(shapes[i], a, a, &d);
    assert_int_equal(d.elements, i == 0 ? 120 : 0);
    assert_int_equal(d.histogram[0], d.elements);
    assert_int_equal(d.differing_elements, 0);
    assert_int_equal(d.max_ulp, 0);
    for (int k = 0; k < 4; k++) assert_int_equal(d.first[k], -1);
  }
}

/* ---- Memory of contexts ------------------------------------------------------------------------ */

static void memory_of_two_contexts(void **state) {
  clnorm_context *context = *state;
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  static const int64_t dims[4] = {1, 2, 7, 11};
  float a[154], b[154];
  fixture_fill(a, 154, 1, 0, 1);
  memcpy(b, a, sizeof a);
  b[100] = -b[100];
  fixture_tensor ta = fixture_tensor_make(context, a, 154);
  fixture_tensor tb = fixture_tensor_make(cpu, b, 154);
  clnorm_difference expected, actual;
  clnorm_compare(dims, a, b, &expected);
  assert_ok(context, clnorm_compare_memory(context, ta.view, cpu, tb.view, dims, &actual));
  assert_memory_equal(&actual, &expected, sizeof actual);
  assert_int_equal(actual.differing_elements, 1);
  assert_ok(context, clnorm_compare_memory(context, ta.view, context, ta.view, dims, &actual));
  assert_int_equal(actual.differing_elements, 0);
  assert_int_equal(actual.elements, 154);
  static const int64_t larger[4] = {1, 2, 7, 12};
  const clnorm_status status =
      clnorm_compare_memory(context, ta.view, cpu, tb.view, larger, &actual);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_BUFFER_TOO_SMALL, "672",
                   "memory of 616 bytes");
  fixture_tensor_free(context, &ta);
  fixture_tensor_free(cpu, &tb);
  clnorm_context_destroy(cpu);
}

/* ---- Whole operations -------------------------------------------------------------------------- */

enum { C = 5, COUNT = 3 * C * 41 * 29 };

typedef struct problem {
  float x[COUNT], weight[C], bias[C], mean[C], var[C];
  clnorm_forward_args inputs;
} problem;

static problem *problem_make(double mean, double spread) {
  problem *p = calloc(1, sizeof *p);
  assert_non_null(p);
  fixture_fill(p->x, COUNT, 1, mean, spread);
  fixture_fill(p->weight, C, 2, 1, 1);
  fixture_fill(p->bias, C, 3, 0, 1);
  fixture_fill(p->mean, C, 4, mean, spread);
  fixture_fill(p->var, C, 5, 0, 1);
  for (int c = 0; c < C; c++) p->var[c] = p->var[c] * p->var[c] + 0.5f;
  p->inputs.x = clnorm_host_memory(p->x, sizeof p->x);
  p->inputs.weight = clnorm_host_memory(p->weight, sizeof p->weight);
  p->inputs.bias = clnorm_host_memory(p->bias, sizeof p->bias);
  p->inputs.running_mean = clnorm_host_memory(p->mean, sizeof p->mean);
  p->inputs.running_var = clnorm_host_memory(p->var, sizeof p->var);
  p->inputs.momentum = 0.9;
  return p;
}

/* The device under test against the CPU path, every output, every variant: the same bits; and the
 * inputs stay as they are. */
static void operations_give_the_same_bits(void **state) {
  clnorm_context *context = *state;
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  problem *p = problem_make(100.0, 1.5), *before = problem_make(100.0, 1.5);
  before->inputs = p->inputs;
  for (int variant = CLNORM_VARIANT_AUTO; variant <= CLNORM_VARIANT_SPLIT; variant++) {
    for (int given = 0; given < 2; given++) {
      clnorm_forward_desc desc =
          clnorm_forward_desc_defaults((clnorm_statistics)given, 3, C, 41 * 29);
      desc.variant = (clnorm_variant)variant;
      clnorm_difference d[CLNORM_NUM_OUTPUTS];
      assert_ok(context, clnorm_compare_forward(context, cpu, &desc, &p->inputs, d));
      for (int output = 0; output < CLNORM_NUM_OUTPUTS; output++) {
        const bool running =
            output == CLNORM_OUTPUT_RUNNING_MEAN || output == CLNORM_OUTPUT_RUNNING_VAR;
        const int64_t elements = output == CLNORM_OUTPUT_Y ? COUNT : running && given ? 0 : C;
        assert_int_equal(d[output].elements, elements);
        assert_int_equal(d[output].differing_elements, 0);
        assert_int_equal(d[output].first[0], -1);
      }
      assert_memory_equal(p, before, sizeof *p);
    }
  }
  free(p);
  free(before);
  clnorm_context_destroy(cpu);
}

static void only_x_is_needed(void **state) {
  clnorm_context *context = *state;
  problem *p = problem_make(0.0, 1.0);
  const clnorm_forward_args inputs = {.x = p->inputs.x};
  const clnorm_forward_desc desc =
      clnorm_forward_desc_defaults(CLNORM_BATCH_STATISTICS, 3, C, 41 * 29);
  clnorm_difference d[CLNORM_NUM_OUTPUTS];
  assert_ok(context, clnorm_compare_forward(context, context, &desc, &inputs, d));
  assert_int_equal(d[CLNORM_OUTPUT_Y].elements, COUNT);
  assert_int_equal(d[CLNORM_OUTPUT_Y].differing_elements, 0);
  assert_int_equal(d[CLNORM_OUTPUT_RUNNING_MEAN].elements, 0);
  assert_int_equal(d[CLNORM_OUTPUT_RUNNING_VAR].elements, 0);
  free(p);
}

static void errors_of_the_operation_are_passed_on(void **state) {
  clnorm_context *context = *state;
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  problem *p = problem_make(0.0, 1.0);
  clnorm_difference d[CLNORM_NUM_OUTPUTS];
  clnorm_forward_desc desc =
      clnorm_forward_desc_defaults(CLNORM_BATCH_STATISTICS, 3, C, 41 * 29 + 1);
  clnorm_status status = clnorm_compare_forward(context, cpu, &desc, &p->inputs, d);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_BUFFER_TOO_SMALL, "x",
                   "x too small");
  desc.spatial--;
  desc.eps = -1;
  status = clnorm_compare_forward(context, cpu, &desc, &p->inputs, d);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT, "eps|-1",
                   "negative eps");
  free(p);
  clnorm_context_destroy(cpu);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(distances_in_ulp),
      cmocka_unit_test(the_first_difference_has_its_index),
      cmocka_unit_test(equal_and_empty_arrays),
      cmocka_unit_test(memory_of_two_contexts),
      cmocka_unit_test(operations_give_the_same_bits),
      cmocka_unit_test(only_x_is_needed),
      cmocka_unit_test(errors_of_the_operation_are_passed_on),
  };
  return cmocka_run_group_tests(tests, fixture_set_up, fixture_tear_down);
}
