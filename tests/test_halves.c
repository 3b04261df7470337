/* cases/halves.c: all 65,536 values of float16 and bfloat16, the middle between every two neighbours with both of
 * its own neighbours, and random values, beside values that ldexp makes. Where the compiler has a float16, it is
 * compared as well. */
#include "fixture.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "data.h"
#include "halves.h"

typedef struct type {
  const char *name;
  int exponent_bits, fraction_bits;
  float (*load)(uint16_t);
  uint16_t (*store_float)(float);
  uint16_t (*store_double)(double);
} type;

static const type types[] = {
    {"float16", 5, 10, clnorm_half_to_float, clnorm_float_to_half, clnorm_double_to_half},
    {"bfloat16", 8, 7, clnorm_bfloat_to_float, clnorm_float_to_bfloat, clnorm_double_to_bfloat}};

#define SIGN 0x8000u

static unsigned infinity_of(const type *t) {
  return ((1u << t->exponent_bits) - 1) << t->fraction_bits;
}

/* The value that the bits, without a sign, stand for. For infinity the power of two that comes behind the largest
 * value: the middle between both is where infinity begins. */
static double value_of(const type *t, unsigned bits) {
  const int exponent = (int)(bits >> t->fraction_bits);
  const int fraction = (int)(bits & ((1u << t->fraction_bits) - 1));
  const int least = 2 - (1 << (t->exponent_bits - 1)) - t->fraction_bits;
  if (exponent == 0) return ldexp(fraction, least);
  return ldexp(fraction + (1 << t->fraction_bits), exponent - 1 + least);
}

static void assert_bits(const type *t, const char *from, double value, unsigned found,
                        unsigned expected) {
  if (found != expected)
    fail_msg("%s from %s %a: %#x, expected %#x", t->name, from, value, found, expected);
}

/* Both signs; float too where the value is one. */
static void assert_stored(const type *t, double value, unsigned expected) {
  assert_bits(t, "double", value, t->store_double(value), expected);
  assert_bits(t, "double", -value, t->store_double(-value), expected | SIGN);
  const float narrow = (float)value;
  if ((double)narrow != value) return;
  assert_bits(t, "float", value, t->store_float(narrow), expected);
  assert_bits(t, "float", -value, t->store_float(-narrow), expected | SIGN);
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static double double_of(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static double random_double(uint64_t *state, const type *t) {
  const uint64_t bits = clnorm_random(state);
  if (bits % 4 == 0) return double_of(clnorm_random(state) >> 1); /* of all magnitudes, NaN too */
  const double significand = ldexp((double)(bits >> 11), -53) + 1;
  const int range = (1 << t->exponent_bits) + t->fraction_bits + 4;
  return ldexp(significand, (int)(clnorm_random(state) % (uint64_t)range) -
                                (1 << (t->exponent_bits - 1)) - t->fraction_bits);
}

/* ---- The tests ------------------------------------------------------------------------------- */

static void test_every_value_is_loaded(void **state) {
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(types); i++)
    for (unsigned bits = 0; bits < 65536; bits++) {
      const type *t = &types[i];
      const unsigned magnitude = bits & (SIGN - 1), infinity = infinity_of(t);
      const float found = t->load((uint16_t)bits);
      const double expected = magnitude == infinity ? (double)INFINITY : value_of(t, magnitude);
      const bool good = magnitude > infinity ? isnan(found) : fabs((double)found) == expected;
      if (!good || !signbit(found) != !(bits & SIGN))
        fail_msg("%s %#x is %a", t->name, bits, (double)found);
    }
}

/* A NaN comes back quiet, and else as it was. */
static void test_every_value_comes_back(void **state) {
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(types); i++)
    for (unsigned bits = 0; bits < 65536; bits++) {
      const type *t = &types[i];
      const bool is_nan = (bits & (SIGN - 1)) > infinity_of(t);
      const unsigned expected = is_nan ? bits | 1u << (t->fraction_bits - 1) : bits;
      const float value = t->load((uint16_t)bits);
      assert_bits(t, "float", (double)value, t->store_float(value), expected);
      assert_bits(t, "double", (double)value, t->store_double((double)value), expected);
    }
}

/* Around `value`, float neighbours as well as double ones. */
static void assert_stored_below_and_above(const type *t, double value, unsigned below,
                                          unsigned above) {
  const float narrow = (float)value;
  assert_true((double)narrow == value);
  assert_stored(t, nextafter(value, 0), below);
  assert_stored(t, (double)nextafterf(narrow, 0), below);
  assert_stored(t, nextafter(value, (double)INFINITY), above);
  assert_stored(t, (double)nextafterf(narrow, INFINITY), above);
}

/* Rounded to float before, the double neighbours of a middle would be the middle. */
static void test_every_middle_and_its_neighbours(void **state) {
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(types); i++)
    for (unsigned bits = 0; bits < infinity_of(&types[i]); bits++) {
      const type *t = &types[i];
      const double value = value_of(t, bits), middle = (value + value_of(t, bits + 1)) / 2;
      assert_stored(t, value, bits);
      if (bits > 0) assert_stored_below_and_above(t, value, bits, bits);
      assert_stored(t, middle, bits + (bits & 1));
      assert_stored_below_and_above(t, middle, bits, bits + 1);
    }
}

static void test_ends_of_the_range(void **state) {
  (void)state;
  static const double tiny[] = {0, 0x1p-1074, DBL_MIN, 0x1p-149, FLT_MIN / 0x1p+11};
  static const double huge[] = {0x1.ffp+127, FLT_MAX, 0x1p+128, DBL_MAX, (double)INFINITY};
  for (size_t i = 0; i < FIXTURE_LENGTH(types); i++)
    for (size_t k = 0; k < 5; k++) {
      assert_stored(&types[i], tiny[k], 0);
      assert_stored(&types[i], huge[k], infinity_of(&types[i]));
    }
  assert_int_equal(clnorm_float_to_half(65519.996f), 0x7bff);
  assert_int_equal(clnorm_float_to_half(65520), 0x7c00);
  assert_int_equal(clnorm_double_to_half(65519.99999999999), 0x7bff);
  assert_int_equal(clnorm_float_to_half(FLT_MIN), 0);
  assert_int_equal(clnorm_float_to_bfloat(FLT_MIN), 0x0080);
  assert_int_equal(clnorm_double_to_half(0x1p-24), 1);
  assert_int_equal(clnorm_double_to_bfloat(0x1p-133), 1);
}

/* Every bit of a payload alone, those too that the type has not. */
static void test_a_nan_stays_one(void **state) {
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(types); i++) {
    const type *t = &types[i];
    const unsigned quiet = 1u << (t->fraction_bits - 1);
    for (unsigned sign = 0; sign < 2; sign++) {
      const unsigned least = sign * SIGN | infinity_of(t) | quiet;
      for (int bit = 0; bit < 23; bit++) {
        const unsigned kept = (1u << bit) >> (23 - t->fraction_bits);
        const float value = float_of(sign << 31 | 0x7f800000u | 1u << bit);
        assert_bits(t, "float", (double)value, t->store_float(value), least | kept);
      }
      for (int bit = 0; bit < 52; bit++) {
        const uint64_t payload = (uint64_t)1 << bit;
        const unsigned kept = (unsigned)(payload >> (52 - t->fraction_bits));
        const double value = double_of((uint64_t)sign << 63 | (uint64_t)0x7ff << 52 | payload);
        assert_bits(t, "double", value, t->store_double(value), least | kept);
      }
    }
  }
}

#define RANDOM_VALUES 500000

/* Searched for among the values, and decided by the middle, which is exact. */
static unsigned nearest(const type *t, double value) {
  unsigned low = 0, high = infinity_of(t);
  if (value >= value_of(t, high)) return high;
  while (high - low > 1) {
    const unsigned mid = (low + high) / 2;
    if (value_of(t, mid) <= value)
      low = mid;
    else
      high = mid;
  }
  const double middle = (value_of(t, low) + value_of(t, high)) / 2;
  return value == middle ? low + (low & 1) : value < middle ? low : high;
}

static void test_random_values(void **state) {
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(types); i++) {
    const type *t = &types[i];
    uint64_t seed = 20 + i;
    for (int k = 0; k < RANDOM_VALUES; k++) {
      const double value = random_double(&seed, t);
      if (isnan(value)) continue;
      assert_stored(t, value, nearest(t, value));
      if (value <= FLT_MAX) assert_stored(t, (double)(float)value, nearest(t, (float)value));
    }
  }
}

#ifdef __FLT16_MANT_DIG__
__extension__ typedef _Float16 compilers_half;

static uint16_t bits_of_half(compilers_half half) {
  uint16_t bits;
  memcpy(&bits, &half, sizeof bits);
  return bits;
}

static uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* Both signs, float and double. */
static void assert_as_the_compiler(double value) {
  for (int sign = 0; sign < 2; sign++, value = -value) {
    const float narrow = (float)value;
    assert_bits(&types[0], "double", value, clnorm_double_to_half(value),
                bits_of_half((compilers_half)value));
    assert_bits(&types[0], "float", (double)narrow, clnorm_float_to_half(narrow),
                bits_of_half((compilers_half)narrow));
  }
}

static void test_as_the_compiler_does(void **state) {
  (void)state;
  for (unsigned bits = 0; bits < 65536; bits++) {
    const uint16_t short_bits = (uint16_t)bits;
    compilers_half half;
    memcpy(&half, &short_bits, sizeof half);
    const float found = clnorm_half_to_float(short_bits);
    /* A conversion by the processor makes a NaN quiet. */
    const uint32_t quiet = isnan(found) ? 0x400000u : 0;
    assert_int_equal(bits_of_float(found) | quiet, bits_of_float((float)half) | quiet);
    assert_as_the_compiler((double)found);
    if (bits >= infinity_of(&types[0])) continue;
    const double middle = (value_of(&types[0], bits) + value_of(&types[0], bits + 1)) / 2;
    assert_as_the_compiler(middle);
    assert_as_the_compiler(nextafter(middle, 0));
    assert_as_the_compiler(nextafter(middle, (double)INFINITY));
    assert_as_the_compiler((double)nextafterf((float)middle, 0));
    assert_as_the_compiler((double)nextafterf((float)middle, INFINITY));
  }
  uint64_t seed = 1;
  for (int k = 0; k < RANDOM_VALUES; k++) assert_as_the_compiler(random_double(&seed, &types[0]));
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_value_is_loaded),
      cmocka_unit_test(test_every_value_comes_back),
      cmocka_unit_test(test_every_middle_and_its_neighbours),
      cmocka_unit_test(test_ends_of_the_range),
      cmocka_unit_test(test_a_nan_stays_one),
      cmocka_unit_test(test_random_values),
#ifdef __FLT16_MANT_DIG__
      cmocka_unit_test(test_as_the_compiler_does),
#endif
  };
  return cmocka_run_group_tests_name("halves", tests, NULL, NULL);
}
