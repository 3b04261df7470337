#include "halves.h"

#include <string.h>

/* Bits of a number, behind its sign. */
typedef struct format {
  int exponent_bits, fraction_bits;
} format;

static const format f16 = {5, 10}, bf16 = {8, 7}, f32 = {8, 23}, f64 = {11, 52};

static uint64_t ones(int count) { return ((uint64_t)1 << count) - 1; }

/* value / 2^shift to nearest, ties to even; shift >= 1. */
static uint64_t shift_to_nearest(uint64_t value, int shift) {
  if (shift > 63) return 0; /* no significand has more than 53 bits */
  const uint64_t rest = value & ones(shift), middle = (uint64_t)1 << (shift - 1);
  const uint64_t below = value >> shift;
  return below + (rest > middle || (rest == middle && (below & 1)));
}

/* The bits of a finite value without its sign. The exponent's field is added to the significand with its leading
 * bit, which is 1 in that field, so that a carry of the rounding counts by itself: from the largest subnormal to
 * the smallest normal value, and from the largest value to infinity. */
static uint64_t narrow_finite(uint64_t exponent, uint64_t fraction, format from, format to) {
  const uint64_t infinity = ones(to.exponent_bits) << to.fraction_bits;
  const uint64_t significand =
      exponent > 0 ? fraction | (uint64_t)1 << from.fraction_bits : fraction;
  const int bias = (int)(ones(from.exponent_bits - 1) - ones(to.exponent_bits - 1));
  int field = (exponent > 0 ? (int)exponent : 1) - 1 - bias;
  int shift = from.fraction_bits - to.fraction_bits;
  if (field < 0) { /* subnormal */
    shift -= field;
    field = 0;
  }
  const uint64_t bits =
      ((uint64_t)field << to.fraction_bits) + shift_to_nearest(significand, shift);
  return bits < infinity ? bits : infinity;
}

static uint16_t narrow(uint64_t bits, format from, format to) {
  const uint64_t sign = bits >> (from.exponent_bits + from.fraction_bits)
                                    << (to.exponent_bits + to.fraction_bits);
  const uint64_t exponent = bits >> from.fraction_bits & ones(from.exponent_bits);
  const uint64_t fraction = bits & ones(from.fraction_bits);
  if (exponent < ones(from.exponent_bits))
    return (uint16_t)(sign | narrow_finite(exponent, fraction, from, to));
  const uint64_t infinity = ones(to.exponent_bits) << to.fraction_bits;
  const uint64_t quiet = (uint64_t)1 << (to.fraction_bits - 1);
  const uint64_t payload = fraction >> (from.fraction_bits - to.fraction_bits);
  return (uint16_t)(sign | infinity | (fraction > 0 ? quiet | payload : 0));
}

static uint16_t narrow_float(float value, format to) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return narrow(bits, f32, to);
}

static uint16_t narrow_double(double value, format to) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return narrow(bits, f64, to);
}

static float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

float clnorm_half_to_float(uint16_t half) {
  const uint32_t sign = (uint32_t)(half >> 15) << 31;
  uint32_t exponent = half >> 10 & 31, fraction = half & 0x3ff;
  if (exponent == 31) return float_of_bits(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0 && fraction == 0) return float_of_bits(sign);
  exponent += 127 - 15;
  if (exponent == 127 - 15) { /* subnormal, and a normal float */
    for (exponent++; !(fraction & 0x400); exponent--) fraction <<= 1;
    fraction &= 0x3ff;
  }
  return float_of_bits(sign | exponent << 23 | fraction << 13);
}

float clnorm_bfloat_to_float(uint16_t bfloat) { return float_of_bits((uint32_t)bfloat << 16); }

uint16_t clnorm_float_to_half(float value) { return narrow_float(value, f16); }
uint16_t clnorm_double_to_half(double value) { return narrow_double(value, f16); }
uint16_t clnorm_float_to_bfloat(float value) { return narrow_float(value, bf16); }
uint16_t clnorm_double_to_bfloat(double value) { return narrow_double(value, bf16); }
