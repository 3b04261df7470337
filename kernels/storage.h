/*
 * Storage and real: what an element of a tensor is in memory, and what is computed in.
 *   clnorm_in     an element of x in memory
 *   clnorm_dy     an element of dy in memory
 *   clnorm_out    an element of y, or of dx, in memory
 *   clnorm_real   what everything is computed in; parameters and statistics are it as well
 * All that is known of a storage is here; in vectors, at the vectors (host/cpu/lanes.h, vector.cl).
 *
 * Build options
 *   CLNORM_X_STORAGE, CLNORM_Y_STORAGE   numbers from below; float without them. Y is of dx too
 *   CLNORM_DY_STORAGE  as X without it; in C it always is
 *   CLNORM_ANY_STORAGE   defined in C where they are said at run time, and CLNORM_X_STORAGE stands for the real
 *   CLNORM_SOFT_FMA    defined for devices without CL_FP_FMA
 */
#ifndef CLNORM_STORAGE_H
#define CLNORM_STORAGE_H

#include "base.h"

/* The numbers of clnorm_dtype. */
#define CLNORM_STORAGE_F32 0u
#define CLNORM_STORAGE_F16 1u
#define CLNORM_STORAGE_BF16 2u
#define CLNORM_STORAGE_F64 3u

#ifndef CLNORM_X_STORAGE
#define CLNORM_X_STORAGE CLNORM_STORAGE_F32
#define CLNORM_Y_STORAGE CLNORM_STORAGE_F32
#endif
#ifndef CLNORM_DY_STORAGE
#define CLNORM_DY_STORAGE CLNORM_X_STORAGE
#endif
#if CLNORM_X_STORAGE > CLNORM_STORAGE_F64 || CLNORM_Y_STORAGE > CLNORM_STORAGE_F64 ||              \
    CLNORM_DY_STORAGE > CLNORM_STORAGE_F64
#error "CLNORM_X_STORAGE or CLNORM_Y_STORAGE or CLNORM_DY_STORAGE is no number of a storage"
#endif

/* ---- Real ------------------------------------------------------------------------------------------- */

/* Constants in formulas are written as floats, which are exact: beside a double they become one. */
#if CLNORM_X_STORAGE == CLNORM_STORAGE_F64
#define CLNORM_REAL_IS_DOUBLE
typedef double clnorm_real;
typedef clnorm_ulong clnorm_word; /* a real's bits */
#define CLNORM_SIGN 0x8000000000000000u
#define CLNORM_INFINITY clnorm_from_bits(0x7ff0000000000000u)
#define CLNORM_NAN clnorm_from_bits(0x7ff8000000000000u)
#else
typedef float clnorm_real;
typedef clnorm_uint clnorm_word;
#define CLNORM_SIGN 0x80000000u
#define CLNORM_INFINITY clnorm_from_bits(0x7f800000u)
#define CLNORM_NAN clnorm_from_bits(0x7fc00000u)
#endif

#ifdef CLNORM_OPENCL_C
#ifdef CLNORM_REAL_IS_DOUBLE
#define clnorm_bits(x) as_ulong(x)
#define clnorm_from_bits(b) as_double((ulong)(b))
#else
#define clnorm_bits(x) as_uint(x)
#define clnorm_from_bits(b) as_float(b)
#endif
/* Some drivers' fma(a, b, 0) is a * b, -0 included, where it is software. */
#if defined(CLNORM_SOFT_FMA) && !defined(CLNORM_REAL_IS_DOUBLE)
CLNORM_FN float clnorm_fma(float a, float b, float c) {
  return c == 0.0f ? a * b + c : fma(a, b, c);
}
CLNORM_FN float4 clnorm_fma4(float4 a, float4 b, float4 c) {
  return c == 0.0f ? a * b + c : fma(a, b, c);
}
CLNORM_FN float16 clnorm_fma16(float16 a, float16 b, float16 c) {
  return c == 0.0f ? a * b + c : fma(a, b, c);
}
#else
#define clnorm_fma(a, b, c) fma(a, b, c)
#define clnorm_fma4(a, b, c) fma(a, b, c)
#define clnorm_fma16(a, b, c) fma(a, b, c)
#endif
#else
#ifdef CLNORM_REAL_IS_DOUBLE
#define clnorm_fma(a, b, c) __builtin_fma(a, b, c)
#else
#define clnorm_fma(a, b, c) __builtin_fmaf(a, b, c)
#endif
typedef union clnorm_pun {
  clnorm_real value;
  clnorm_word bits;
} clnorm_pun;
static inline clnorm_word clnorm_bits(clnorm_real x) {
  const clnorm_pun pun = {x};
  return pun.bits;
}
static inline clnorm_real clnorm_from_bits(clnorm_word b) {
  const clnorm_pun pun = {.bits = b};
  return pun.value;
}
#endif

/* ---- Half precision --------------------------------------------------------------------------------- */

#ifndef CLNORM_REAL_IS_DOUBLE
#ifndef CLNORM_OPENCL_C /* which has functions for it, of every device */
/* Subnormal halves are no subnormal floats anywhere in between: nothing is flushed. */
CLNORM_FN float clnorm_f16_widen(clnorm_uint half_bits) {
  const clnorm_uint magnitude = half_bits & 0x7fffu;
  const clnorm_uint scale = magnitude < 0x7c00u ? 0x38000000u : 0x70000000u;
  const clnorm_uint subnormal = clnorm_bits((float)(int)magnitude * 0x1p-24f);
  const clnorm_uint bits = magnitude < 0x400u ? subnormal : (magnitude << 13) + scale;
  return clnorm_from_bits(bits | (half_bits & 0x8000u) << 16);
}

/* To nearest even. Below 2^-14 the addition rounds to a multiple of 2^-24. */
CLNORM_FN clnorm_uint clnorm_f16_narrow(float v) {
  const clnorm_uint bits = clnorm_bits(v), magnitude = bits & 0x7fffffffu;
  const clnorm_uint normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  const clnorm_uint subnormal = clnorm_bits(clnorm_from_bits(magnitude) + 0.5f) - 0x3f000000u;
  clnorm_uint half_bits = magnitude < 0x38800000u ? subnormal : normal;
  half_bits = magnitude < 0x477ff000u ? half_bits : 0x7c00u;
  half_bits = magnitude > 0x7f800000u ? 0x7e00u | (magnitude >> 13 & 0x1ffu) : half_bits;
  return half_bits | (bits >> 16 & 0x8000u);
}

#endif

CLNORM_FN float clnorm_bf16_widen(clnorm_uint half_bits) {
  return clnorm_from_bits(half_bits << 16);
}

CLNORM_FN clnorm_uint clnorm_bf16_narrow(float v) {
  const clnorm_uint bits = clnorm_bits(v);
  const clnorm_uint rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return (bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : rounded;
}
#endif

/* ---- Storage ---------------------------------------------------------------------------------------- */

/* An element of any storage that the real has. Exact. */
CLNORM_FN clnorm_real clnorm_load_of(clnorm_uint storage, CLNORM_GLOBAL const void *p,
                                     clnorm_ulong i) {
#ifdef CLNORM_REAL_IS_DOUBLE
  if (storage == CLNORM_STORAGE_F64) return ((CLNORM_GLOBAL const double *)p)[i];
#elif defined(CLNORM_OPENCL_C)
  if (storage == CLNORM_STORAGE_F16) return vload_half(i, (CLNORM_GLOBAL const half *)p);
  if (storage == CLNORM_STORAGE_BF16)
    return clnorm_bf16_widen(((CLNORM_GLOBAL const clnorm_ushort *)p)[i]);
#else
  if (storage == CLNORM_STORAGE_F16) return clnorm_f16_widen(((const clnorm_ushort *)p)[i]);
  if (storage == CLNORM_STORAGE_BF16) return clnorm_bf16_widen(((const clnorm_ushort *)p)[i]);
#endif
  return ((CLNORM_GLOBAL const float *)p)[i];
}

#ifndef CLNORM_ANY_STORAGE

/* Halves of both kinds are integers to the language: what they mean is said where they are loaded and stored. */
#if CLNORM_X_STORAGE == CLNORM_STORAGE_F16 || CLNORM_X_STORAGE == CLNORM_STORAGE_BF16
typedef clnorm_ushort clnorm_in;
#else
typedef clnorm_real clnorm_in;
#endif
#if CLNORM_DY_STORAGE == CLNORM_STORAGE_F16 || CLNORM_DY_STORAGE == CLNORM_STORAGE_BF16
typedef clnorm_ushort clnorm_dy;
#elif CLNORM_DY_STORAGE == CLNORM_STORAGE_F64
typedef double clnorm_dy;
#else
typedef float clnorm_dy;
#endif
#if CLNORM_Y_STORAGE == CLNORM_STORAGE_F16 || CLNORM_Y_STORAGE == CLNORM_STORAGE_BF16
typedef clnorm_ushort clnorm_out;
#elif CLNORM_Y_STORAGE == CLNORM_STORAGE_F64
typedef double clnorm_out;
#else
typedef float clnorm_out;
#endif

/* Exact. */
#define clnorm_element_load(x, i) clnorm_load_of(CLNORM_X_STORAGE, x, i)
#define clnorm_dy_load(dy, i) clnorm_load_of(CLNORM_DY_STORAGE, dy, i)

/* Rounded once, to nearest even. */
CLNORM_FN void clnorm_element_store(CLNORM_GLOBAL clnorm_out *y, clnorm_ulong i, clnorm_real v) {
#if CLNORM_Y_STORAGE == CLNORM_STORAGE_F16 && defined(CLNORM_OPENCL_C)
  vstore_half_rte(v, i, (CLNORM_GLOBAL half *)y);
#elif CLNORM_Y_STORAGE == CLNORM_STORAGE_F16
  y[i] = (clnorm_out)clnorm_f16_narrow(v);
#elif CLNORM_Y_STORAGE == CLNORM_STORAGE_BF16
  y[i] = (clnorm_out)clnorm_bf16_narrow(v);
#else
  y[i] = (clnorm_out)v;
#endif
}

/* Element `from` of x becomes element `to` of y; its bits as they are, where both are one storage. */
CLNORM_FN void clnorm_element_move(CLNORM_GLOBAL clnorm_out *y, clnorm_ulong to,
                                   CLNORM_GLOBAL const clnorm_in *x, clnorm_ulong from) {
#if CLNORM_X_STORAGE == CLNORM_Y_STORAGE
  y[to] = x[from];
#else
  clnorm_element_store(y, to, clnorm_element_load(x, from));
#endif
}

/* The same, with storages that are said at run time where CLNORM_ANY_STORAGE is defined, in C alone. */
#define clnorm_any_load(storage, x, i) ((void)(storage), clnorm_element_load(x, i))
#define clnorm_any_dy_load(storage, dy, i) ((void)(storage), clnorm_dy_load(dy, i))
#define clnorm_any_store(storage, y, i, v) ((void)(storage), clnorm_element_store(y, i, v))
#define clnorm_any_move(x_storage, y_storage, y, to, x, from)                                      \
  ((void)(x_storage), (void)(y_storage), clnorm_element_move(y, to, x, from))

#else

typedef unsigned char clnorm_in, clnorm_dy, clnorm_out;

#define clnorm_any_load(storage, x, i) clnorm_load_of(storage, x, i)
#define clnorm_any_dy_load(storage, dy, i) clnorm_load_of(storage, dy, i)

CLNORM_FN void clnorm_any_store(clnorm_uint storage, void *y, clnorm_ulong i, clnorm_real v) {
#ifdef CLNORM_REAL_IS_DOUBLE
  if (storage == CLNORM_STORAGE_F64)
    ((double *)y)[i] = v;
  else
    ((float *)y)[i] = (float)v;
#else
  if (storage == CLNORM_STORAGE_F32)
    ((float *)y)[i] = v;
  else
    ((clnorm_ushort *)y)[i] =
        (clnorm_ushort)(storage == CLNORM_STORAGE_F16 ? clnorm_f16_narrow(v)
                                                      : clnorm_bf16_narrow(v));
#endif
}

CLNORM_FN void clnorm_any_move(clnorm_uint x_storage, clnorm_uint y_storage, void *y,
                               clnorm_ulong to, const void *x, clnorm_ulong from) {
#ifndef CLNORM_REAL_IS_DOUBLE
  if (x_storage == y_storage && x_storage != CLNORM_STORAGE_F32) {
    ((clnorm_ushort *)y)[to] = ((const clnorm_ushort *)x)[from];
    return;
  }
#endif
  clnorm_any_store(y_storage, y, to, clnorm_any_load(x_storage, x, from));
}

#endif

#endif
