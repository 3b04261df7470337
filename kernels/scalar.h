/*
 * Functions of one number: exact, or rounded once.
 */
#ifndef CLNORM_SCALAR_H
#define CLNORM_SCALAR_H

#include "storage.h"

/* -0 becomes +0. In bits, since to some compilers x + 0.0f is x. */
CLNORM_FN clnorm_real clnorm_plus_zero(clnorm_real x) {
  const clnorm_word bits = clnorm_bits(x);
  return clnorm_from_bits(bits & ((clnorm_word)0 - (clnorm_word)(bits != CLNORM_SIGN)));
}

#ifdef CLNORM_REAL_IS_DOUBLE

/* The standard has these rounded correctly; the root is rounded before it is divided by, on every device. */
CLNORM_FN double clnorm_count_to_real(clnorm_ulong n) { return (double)n; }
CLNORM_FN double clnorm_div(double a, double b) { return a / b; }
CLNORM_FN double clnorm_rsqrt(double v) {
#ifdef CLNORM_OPENCL_C
  const double root = sqrt(v);
#else
  const double root = __builtin_sqrt(v);
#endif
  return v == 0.0f ? CLNORM_INFINITY : 1.0f / root;
}

#else

/* Exact for n < 2^24, correctly rounded for n < 2^48. */
CLNORM_FN float clnorm_count_to_real(clnorm_ulong n) {
  return clnorm_fma((float)(clnorm_uint)(n >> 24), 16777216.0f,
                    (float)(clnorm_uint)(n & 0xffffffu));
}

/* a / b for b in [1, 2^63]: correctly rounded where the quotient is normal. Four Newton steps
 * from an integer guess make y the correctly rounded 1 / b, but for the largest mantissa, where they end
 * one unit below; then the residual corrects the quotient (Markstein 1990). Small |a| is scaled up, so that
 * the residual is exact. The sign is put back as a bit, since the steps make +0 of -0. No branches: loops over
 * channels become vectors. */
CLNORM_FN float clnorm_div(float a, float b) {
  const clnorm_uint sign = clnorm_bits(a) & 0x80000000u;
  const float magnitude = clnorm_from_bits(clnorm_bits(a) ^ sign);
  const int tiny = magnitude < 0x1p-60f;
  const float s = magnitude * (tiny ? 0x1p+64f : 1.0f);
  float y = clnorm_from_bits(0x7ef311c7u - clnorm_bits(b));
  y = clnorm_fma(clnorm_fma(-b, y, 1.0f), y, y);
  y = clnorm_fma(clnorm_fma(-b, y, 1.0f), y, y);
  y = clnorm_fma(clnorm_fma(-b, y, 1.0f), y, y);
  y = clnorm_fma(clnorm_fma(-b, y, 1.0f), y, y);
  y = clnorm_from_bits(clnorm_bits(y) + ((clnorm_bits(b) & 0x7fffffu) == 0x7fffffu));
  float q = s * y;
  q = clnorm_fma(clnorm_fma(-b, q, s), y, q) * (tiny ? 0x1p-64f : 1.0f);
  return magnitude < CLNORM_INFINITY ? clnorm_from_bits(clnorm_bits(q) | sign) : a;
}

/* 1 / sqrt(v), correctly rounded for every v > 0; +inf for 0, NaN below 0. Three Newton steps from an
 * integer guess, then one that keeps the rounding error of v * y and the second-order term; tests try
 * both binades of mantissas, which decide all others. */
CLNORM_FN float clnorm_rsqrt(float v) {
  const int tiny = v < 0x1p-60f;
  const float s = v * (tiny ? 0x1p+96f : 1.0f);
  float y = clnorm_from_bits(0x5f375a86u - (clnorm_bits(s) >> 1));
  y = clnorm_fma(0.5f * y, clnorm_fma(-(s * y), y, 1.0f), y);
  y = clnorm_fma(0.5f * y, clnorm_fma(-(s * y), y, 1.0f), y);
  y = clnorm_fma(0.5f * y, clnorm_fma(-(s * y), y, 1.0f), y);
  const float h = s * y;
  const float l = clnorm_fma(s, y, -h);
  const float r = clnorm_fma(-l, y, clnorm_fma(-h, y, 1.0f));
  y = clnorm_fma(y, clnorm_fma(0.375f * r, r, 0.5f * r), y) * (tiny ? 0x1p+48f : 1.0f);
  y = v < CLNORM_INFINITY ? y : 0.0f;
  y = v > 0.0f ? y : CLNORM_NAN;
  return v == 0.0f ? CLNORM_INFINITY : y;
}

#endif

#endif
