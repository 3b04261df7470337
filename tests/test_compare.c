/* Section 9 of clnorm.h: ulps, histogram, first difference; and whole operations on two contexts. */
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
  uint64_t ulp;
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
    {0x7fc00000, 0x3f800000, UINT64_MAX, 65}, /* NaN and a number */
    {0xff800000, 0x7f800001, UINT64_MAX, 65}, /* -infinity and NaN */
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
    dense_compare(dims, &a, &b, &difference);
    if (difference.max_ulp != row->ulp || difference.histogram[row->bin] != 1) {
      fail_msg("%08x and %08x: %llu ulp, expected %llu in bin %d", row->a, row->b,
               (unsigned long long)difference.max_ulp, (unsigned long long)row->ulp, row->bin);
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
    dense_compare(dims, a, b, &d);
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
    dense_compare(shapes[i], a, a, &d);
    assert_int_equal(d.elements, i == 0 ? 120 : 0);
    assert_int_equal(d.histogram[0], d.elements);
    assert_int_equal(d.differing_elements, 0);
    assert_int_equal(d.max_ulp, 0);
    for (int k = 0; k < 4; k++) assert_int_equal(d.first[k], -1);
  }
}

/* ---- Types, ranks, layouts ---------------------------------------------------------------------- */

static void every_type(void **state) {
  (void)state;
  static const struct {
    int32_t dtype;
    uint64_t a, b, ulp;
    int bin;
    double first_a;
  } rows[] = {
      {CLNORM_F16, 0x3c00, 0x3c01, 1, 1, 1.0},
      {CLNORM_F16, 0x0001, 0x8001, 3, 2, 0x1p-24},
      {CLNORM_F16, 0x7c00, 0xfc00, 0xf801, 16, INFINITY},
      {CLNORM_F16, 0x7e00, 0xfe01, 0, 0, 0},
      {CLNORM_F16, 0x3c00, 0x7c01, UINT64_MAX, 65, 1.0},
      {CLNORM_BF16, 0x3f80, 0x4000, 0x80, 8, 1.0},
      {CLNORM_BF16, 0x0000, 0x8000, 1, 1, 0},
      {CLNORM_BF16, 0x7fc0, 0xff81, 0, 0, 0},
      {CLNORM_BF16, 0x4000, 0xff81, UINT64_MAX, 65, 2.0},
      {CLNORM_F64, UINT64_C(0x3ff0000000000000), UINT64_C(0x4000000000000000), UINT64_C(1) << 52,
       53, 1.0},
      {CLNORM_F64, UINT64_C(0x7ff0000000000000), UINT64_C(0xfff0000000000000),
       UINT64_C(0xffe0000000000001), 64, INFINITY},
      {CLNORM_F64, UINT64_C(0x7ff8000000000000), UINT64_C(0xfff0000000000001), 0, 0, 0},
      {CLNORM_F64, 1, UINT64_C(0x7ff0000000000001), UINT64_MAX, 65, 0x1p-1074},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    static const int64_t dims[2] = {1, 1};
    clnorm_tensor tensor;
    clnorm_difference d;
    clnorm_tensor_nchw(&tensor, rows[i].dtype, 2, dims);
    clnorm_difference_init(&d, sizeof d);
    /* the first bytes are the value: this test is for little-endian machines, as the files of tensors are */
    clnorm_compare(&tensor, &rows[i].a, &tensor, &rows[i].b, &d);
    if (d.max_ulp != rows[i].ulp || d.histogram[rows[i].bin] != 1)
      fail_msg("row %zu: %llu ulp", i, (unsigned long long)d.max_ulp);
    assert_int_equal(d.elements, 1);
    if (rows[i].ulp) assert_true(d.first_a == rows[i].first_a);
    assert_int_equal(d.first[0], rows[i].ulp ? 0 : -1);
    assert_int_equal(d.first[2], -1);
  }
}

/* The same logical values in three layouts are equal, and the first difference is found by its logical index. */
static void every_rank_in_every_layout(void **state) {
  (void)state;
  static const int64_t dims[5] = {2, 5, 3, 2, 3};
  for (int rank = 2; rank <= 5; rank++) {
    clnorm_tensor t[3];
    float values[3][400] = {{0}};
    int64_t index[5] = {0}, number = 0, count = 1;
    for (int i = 0; i < rank; i++) count *= dims[i];
    clnorm_tensor_nchw(&t[0], CLNORM_F32, rank, dims);
    clnorm_tensor_nhwc(&t[1], CLNORM_F32, rank, dims);
    clnorm_tensor_blocked(&t[2], CLNORM_F32, rank, dims, 4);
    for (; number < count; number++) {
      int64_t rest = number;
      for (int i = rank - 1; i >= 0; i--) index[i] = rest % dims[i], rest /= dims[i];
      for (int k = 0; k < 3; k++) {
        int64_t place = 0;
        for (int i = 0; i < rank; i++) {
          const int64_t b = t[k].channel_block;
          place +=
              i == 1 ? index[1] / b * t[k].strides[1] + index[1] % b : index[i] * t[k].strides[i];
        }
        values[k][place] = (float)number + (k == 2 && number == count - 2 ? 1 : 0);
      }
    }
    clnorm_difference d;
    clnorm_difference_init(&d, sizeof d);
    clnorm_compare(&t[0], values[0], &t[1], values[1], &d);
    assert_int_equal(d.elements, count);
    assert_int_equal(d.differing_elements, 0);
    clnorm_compare(&t[1], values[1], &t[2], values[2], &d);
    assert_int_equal(d.differing_elements, 1);
    for (int i = 0; i < 5; i++)
      assert_int_equal(d.first[i], i >= rank ? -1 : i == rank - 1 ? dims[i] - 2 : dims[i] - 1);
    assert_true(d.first_a == (float)(count - 2) && d.first_b == (float)(count - 1));
  }
}

static void tensors_that_are_not_alike(void **state) {
  (void)state;
  static const int64_t dims[4] = {1, 2, 3, 4}, other_dims[4] = {1, 2, 4, 3};
  const float values[24] = {1};
  clnorm_tensor good, tensors[5];
  clnorm_tensor_nchw(&good, CLNORM_F32, 4, dims);
  for (int i = 0; i < 5; i++) tensors[i] = good;
  clnorm_tensor_nchw(&tensors[0], CLNORM_F32, 4, other_dims);
  tensors[1].dtype = CLNORM_F16;
  tensors[2].dtype = 9;
  tensors[3].channel_block = 0;
  tensors[4].rank = 6;
  for (int i = 0; i < 5; i++) {
    clnorm_difference d;
    clnorm_difference_init(&d, sizeof d);
    clnorm_compare(&good, values, &tensors[i], values, &d);
    assert_int_equal(d.elements, 0);
    clnorm_compare(&tensors[i], values, &good, values, &d);
    assert_int_equal(d.elements, 0);
    assert_int_equal(d.first[0], -1);
  }
  /* rank 1 has neither strides nor a block */
  const clnorm_tensor line = {.dtype = CLNORM_F32, .rank = 1, .dims = {7}};
  float seven[7] = {1};
  clnorm_difference d;
  clnorm_difference_init(&d, sizeof d);
  seven[5] = 2;
  clnorm_compare(&line, values, &line, seven, &d);
  assert_int_equal(d.elements, 7);
  assert_int_equal(d.first[0], 5);
  assert_int_equal(d.first[1], -1);
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
  dense_compare(dims, a, b, &expected);
  assert_ok(context, dense_compare_memory(context, ta.view, cpu, tb.view, dims, &actual));
  assert_memory_equal(&actual, &expected, sizeof actual);
  assert_int_equal(actual.differing_elements, 1);
  assert_ok(context, dense_compare_memory(context, ta.view, context, ta.view, dims, &actual));
  assert_int_equal(actual.differing_elements, 0);
  assert_int_equal(actual.elements, 154);
  static const int64_t larger[4] = {1, 2, 7, 12};
  const clnorm_status status =
      dense_compare_memory(context, ta.view, cpu, tb.view, larger, &actual);
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
  dense_args inputs;
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
  for (int variant = CLNORM_CUT_AUTO; variant <= CLNORM_CUT_SPLIT; variant++) {
    for (int given = 0; given < 2; given++) {
      dense_desc desc = dense_desc_defaults((clnorm_statistics)given, 3, C, 41 * 29);
      desc.cut = (clnorm_cut)variant;
      clnorm_difference d[CLNORM_NUM_OUTPUTS];
      assert_ok(context, dense_compare_runs(context, cpu, &desc, &p->inputs, d));
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
  const dense_args inputs = {.x = p->inputs.x};
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 3, C, 41 * 29);
  clnorm_difference d[CLNORM_NUM_OUTPUTS];
  assert_ok(context, dense_compare_runs(context, context, &desc, &inputs, d));
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
  dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 3, C, 41 * 29 + 1);
  clnorm_status status = dense_compare_runs(context, cpu, &desc, &p->inputs, d);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_BUFFER_TOO_SMALL, "x",
                   "x too small");
  desc.spatial--;
  desc.eps = -1;
  status = dense_compare_runs(context, cpu, &desc, &p->inputs, d);
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
      cmocka_unit_test(every_type),
      cmocka_unit_test(every_rank_in_every_layout),
      cmocka_unit_test(tensors_that_are_not_alike),
      cmocka_unit_test(memory_of_two_contexts),
      cmocka_unit_test(operations_give_the_same_bits),
      cmocka_unit_test(only_x_is_needed),
      cmocka_unit_test(errors_of_the_operation_are_passed_on),
  };
  return cmocka_run_group_tests(tests, fixture_set_up, fixture_tear_down);
}
