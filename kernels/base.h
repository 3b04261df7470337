/*
 * What C and OpenCL C do not share: the words that all other files here are written in.
 *
 * docs/arithmetic.md is the normative description of the arithmetic; scalar.h, places.h, statistics.h, channel.h and
 * gradients.h are its only implementation, read by the C compiler and by the OpenCL compiler alike. Data meets
 * nothing but + - *, fma, comparisons and exact conversions, which IEEE-754 rounds in one way only, so every
 * device gets the same bits. Every product that feeds a sum is an explicit fma: nothing is left for a compiler
 * to contract. Both compilers are told not to contract all the same.
 */
#ifndef CLNORM_BASE_H
#define CLNORM_BASE_H

/* Which arithmetic this is (docs/arithmetic.md): another number where any result has other bits. */
#define CLNORM_ARITHMETIC 2

#if defined(__OPENCL_C_VERSION__) || defined(__OPENCL_VERSION__)
#define CLNORM_OPENCL_C
#pragma OPENCL FP_CONTRACT OFF
#define CLNORM_FN inline static __attribute__((always_inline)) /* fewer registers, no stack */
#define CLNORM_NOINLINE static __attribute__((noinline))
#define CLNORM_GLOBAL __global
typedef ushort clnorm_ushort;
typedef uint clnorm_uint;
typedef ulong clnorm_ulong;
typedef long clnorm_long;
#else
/* The build switches off what changes bits (cmake/FloatingPoint.cmake); this is for other builds, and for what
 * cannot be switched off. 16: only half precision is computed more narrowly than float. */
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) ||           \
    defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__)
#error "clnorm is built without -ffast-math, -Ofast, -funsafe-math-optimizations or their parts"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "floats must be computed as floats: 32-bit x86 needs -msse2 -mfpmath=sse"
#endif
#include <stdint.h>
#define CLNORM_FN static inline __attribute__((always_inline))
#define CLNORM_NOINLINE static __attribute__((noinline))
#define CLNORM_GLOBAL
typedef uint16_t clnorm_ushort;
typedef uint32_t clnorm_uint;
typedef uint64_t clnorm_ulong;
typedef int64_t clnorm_long;
#endif

#endif
