/* Layouts of cases, values placed in them and read back, and what the suite of layouts crosses. */
#include "fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

enum { N = 2, C = 5, H = 3, W = 4, ELEMENTS = N * C * H * W, ROOM = 4096 };
static const int64_t dims[] = {N, C, H, W};
static const int32_t dtypes[] = {CLNORM_F32, CLNORM_F16, CLNORM_BF16, CLNORM_F64};
enum { TYPES = FIXTURE_LENGTH(dtypes) };

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* Whole numbers up to 120, which all types hold; none is 0. */
static void number(double *values) {
  for (int i = 0; i < ELEMENTS; i++) values[i] = i + 1;
}

static int64_t address(const clnorm_tensor *t, int i) {
  const int64_t w = i % W, h = i / W % H, c = i / (W * H) % C, n = i / (W * H * C);
  return n * t->strides[0] + c / t->channel_block * t->strides[1] + c % t->channel_block +
         h * t->strides[2] + w * t->strides[3];
}

/* Element i is found at its address, all else is as it was, and everything comes back. */
static void check_layout(clnorm_layout layout, int32_t dtype) {
  static unsigned char memory[ROOM], expected[ROOM];
  double values[ELEMENTS], back[ELEMENTS];
  clnorm_tensor t;
  number(values);
  clnorm_layout_tensor(&t, layout, dtype, 4, dims);
  const size_t size = clnorm_dtype_size(dtype);
  assert_in_range(clnorm_tensor_bytes(&t), ELEMENTS * size, ROOM);
  memset(memory, 0xa5, sizeof memory);
  clnorm_place(&t, values, memory);
  memset(expected, 0xa5, sizeof expected);
  for (int i = 0; i < ELEMENTS; i++) {
    const uint32_t bits = bits_of((float)values[i]);
    const uint16_t bfloat = (uint16_t)(bits >> 16); /* exact: 7 bits hold 120 */
    const uint16_t half =
        (uint16_t)(((bits >> 23) - 127 + 15) << 10 | (bits >> 13 & 0x3ff)); /* positive, normal */
    const void *element = dtype == CLNORM_F32   ? (const void *)&bits
                          : dtype == CLNORM_F64 ? (const void *)&values[i]
                          : dtype == CLNORM_F16 ? (const void *)&half
                                                : (const void *)&bfloat;
    memcpy(expected + (size_t)address(&t, i) * size, element, size);
  }
  assert_memory_equal(memory, expected, sizeof memory);
  clnorm_unplace(&t, memory, back);
  assert_memory_equal(back, values, sizeof values);
}

static void test_every_layout_and_type(void **state) {
  (void)state;
  for (int layout = 0; layout < CLNORM_NUM_LAYOUTS; layout++)
    for (int d = 0; d < TYPES; d++) check_layout((clnorm_layout)layout, dtypes[d]);
}

static void test_ranks_are_views_of_one_array(void **state) {
  (void)state;
  const int64_t views[][5] = {{0},           {0},          {N, C * H * W},
                              {N, C, H * W}, {N, C, H, W}, {N, C, H, 2, 2}};
  double values[ELEMENTS], memory[ELEMENTS], back[ELEMENTS];
  number(values);
  for (int32_t rank = 2; rank <= 5; rank++) {
    clnorm_tensor t;
    clnorm_layout_tensor(&t, CLNORM_LAYOUT_NCHW, CLNORM_F64, rank, views[rank]);
    clnorm_place(&t, values, memory);
    assert_memory_equal(memory, values, sizeof values);
    clnorm_layout_tensor(&t, CLNORM_LAYOUT_NHWC, CLNORM_F64, rank, views[rank]);
    clnorm_place(&t, values, memory);
    clnorm_unplace(&t, memory, back);
    assert_memory_equal(back, values, sizeof values);
  }
}

static void test_rounding(void **state) {
  (void)state;
  assert_true(clnorm_rounded(CLNORM_F64, 0.1) == 0.1);
  assert_true(clnorm_rounded(CLNORM_F32, 0.1) == (double)0.1f);
  assert_true(clnorm_rounded(CLNORM_F16, 2049 + 0x1p-40) == 2050); /* once: by float it is a tie */
  assert_true(clnorm_rounded(CLNORM_F16, 2049) == 2048);
  assert_true(clnorm_rounded(CLNORM_F16, 2051) == 2052);
  assert_true(isinf(clnorm_rounded(CLNORM_F16, 65520)));
  assert_true(clnorm_rounded(CLNORM_BF16, 257) == 256);
  assert_true(clnorm_rounded(CLNORM_BF16, 259) == 260);
}

/* C = 5 in blocks of 8: channels 5 to 7 are the tensor's own, and go along with its elements. */
static void test_tails(void **state) {
  (void)state;
  double values[ELEMENTS];
  float memory[N * 8 * H * W] = {0}, other[N * 8 * H * W];
  clnorm_tensor t;
  number(values);
  clnorm_layout_tensor(&t, CLNORM_LAYOUT_NCHW8C, CLNORM_F32, 4, dims);
  clnorm_place(&t, values, memory);
  assert_true(clnorm_tail_is_zero(&t, memory));
  memory[5] = -0.0f;
  assert_false(clnorm_tail_is_zero(&t, memory));
  memset(other, 0xa5, sizeof other);
  clnorm_place_again(&t, memory, other);
  assert_memory_equal(memory, other, sizeof memory);
  t.flags = 0;
  assert_true(clnorm_tail_is_zero(&t, memory));
  memset(other, 0xa5, sizeof other);
  clnorm_place_again(&t, memory, other);
  assert_true(bits_of(other[5]) == 0xa5a5a5a5u);
}

/* ---- The suite ------------------------------------------------------------------------------------- */

enum { AXES = 10, MOST = 16, TYPES_AXIS = 0, Y_TYPE_AXIS = 2, IN_PLACE_AXIS = AXES - 1 };
static const int values_of[AXES] = {16, 4, 4, 8, 8, 4, 2, 3, 2, 2};

static void axes_of(const clnorm_case *item, int axes[AXES]) {
  const int all[AXES] = {4 * item->x_dtype + item->y_dtype,
                         item->x_dtype,
                         item->y_dtype,
                         (int)item->x_layout,
                         (int)item->y_layout,
                         item->rank - 2,
                         (int)item->statistics,
                         (int)item->variant,
                         item->form == CLNORM_FORM_WIDE,
                         item->in_place};
  memcpy(axes, all, sizeof all);
}

static bool types_can_meet(int32_t x, int32_t y) {
  return y == CLNORM_F64 ? x == CLNORM_F64 : x != CLNORM_F64 || y == CLNORM_F32;
}

/* In place, y has x's type and layout. The pair of types says which its types are. */
static bool can_meet(int a, int value_a, int b, int value_b) {
  if (a == TYPES_AXIS && !types_can_meet(value_a / 4, value_a % 4)) return false;
  if (a == TYPES_AXIS && b == IN_PLACE_AXIS && value_b == 1) return value_a / 4 == value_a % 4;
  if (a == TYPES_AXIS && b <= Y_TYPE_AXIS)
    return value_b == (b == Y_TYPE_AXIS ? value_a % 4 : value_a / 4);
  if (b == Y_TYPE_AXIS) return types_can_meet(value_a, value_b);
  return true;
}

static void check_pairs(uint64_t seed) {
  bool met[AXES][MOST][AXES][MOST] = {{{{false}}}};
  size_t count;
  clnorm_case *cases = clnorm_suite_cases("layouts", seed, &count);
  assert_non_null(cases);
  assert_in_range(count, 88, 150); /* types x layouts; many more would be a fault */
  for (size_t i = 0; i < count; i++) {
    int axes[AXES];
    assert_true(cases[i].form != CLNORM_FORM_AUTO);
    axes_of(&cases[i], axes);
    if (cases[i].in_place) assert_true(clnorm_case_may_be_in_place(&cases[i]));
    for (int a = 0; a < AXES; a++)
      for (int b = 0; b < AXES; b++) met[a][axes[a]][b][axes[b]] = true;
  }
  for (int a = 0; a < AXES; a++)
    for (int b = a + 1; b < AXES; b++)
      for (int i = 0; i < values_of[a]; i++)
        for (int k = 0; k < values_of[b]; k++)
          if (can_meet(a, i, b, k) && !met[a][i][b][k])
            fail_msg("value %d of axis %d never meets value %d of axis %d", i, a, k, b);
  free(cases);
}

static void test_every_pair_meets(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 20; seed++) check_pairs(seed);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_layout_and_type),
                                     cmocka_unit_test(test_ranks_are_views_of_one_array),
                                     cmocka_unit_test(test_rounding), cmocka_unit_test(test_tails),
                                     cmocka_unit_test(test_every_pair_meets)};
  return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
