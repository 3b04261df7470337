/*
 * The arithmetic of clnorm, read by the C compiler and by the OpenCL compiler alike.
 *
 * docs/arithmetic.md is the normative description; this file is its only implementation. Data meets
 * nothing but + - *, fma, comparisons and exact conversions, which IEEE-754 rounds in one way only, so
 * every device gets the same bits. Every product that feeds a sum is an explicit fma: nothing is left
 * for a compiler to contract. Both compilers are told not to contract all the same.
 */
#ifndef CLNORM_ARITH_H
#define CLNORM_ARITH_H

#if defined(__OPENCL_C_VERSION__) || defined(__OPENCL_VERSION__)
#pragma OPENCL FP_CONTRACT OFF
#define CLNORM_FN inline static __attribute__((always_inline)) /* fewer registers, no stack */
#define CLNORM_NOINLINE static __attribute__((noinline))
#define CLNORM_GLOBAL __global
typedef uint clnorm_uint;
typedef ulong clnorm_ulong;
typedef long clnorm_long;
#ifdef CLNORM_SOFT_FMA /* devices without CL_FP_FMA: some drivers' fma(a, b, 0) is a * b, -0 included */
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
#define clnorm_bits(x) as_uint(x)
#define clnorm_from_bits(b) as_float(b)
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
typedef uint32_t clnorm_uint;
typedef uint64_t clnorm_ulong;
typedef int64_t clnorm_long;
#define clnorm_fma(a, b, c) __builtin_fmaf(a, b, c)
static inline uint32_t clnorm_bits(float x) {
  union {
    float f;
    uint32_t u;
  } pun = {x};
  return pun.u;
}
static inline float clnorm_from_bits(uint32_t b) {
  union {
    uint32_t u;
    float f;
  } pun = {b};
  return pun.f;
}
#endif

#define CLNORM_INFINITY clnorm_from_bits(0x7f800000u)
#define CLNORM_NAN clnorm_from_bits(0x7fc00000u)

/* -0 becomes +0. In bits, since to some compilers x + 0.0f is x. */
CLNORM_FN float clnorm_plus_zero(float x) {
  const clnorm_uint bits = clnorm_bits(x);
  return clnorm_from_bits(bits & (0u - (clnorm_uint)(bits != 0x80000000u)));
}

/* ---- Scalars ------------------------------------------------------------------------------------ */

/* Exact for n < 2^24, correctly rounded for n < 2^48. */
CLNORM_FN float clnorm_count_to_float(clnorm_ulong n) {
  return clnorm_fma((float)(clnorm_uint)(n >> 24), 16777216.0f,
                    (float)(clnorm_uint)(n & 0xffffffu));
}

/* a / b for a >= 0 and b in [1, 2^63]: correctly rounded where the quotient is normal. Four Newton steps
 * from an integer guess make y the correctly rounded 1 / b, but for the largest mantissa, where they end
 * one unit below; then the residual corrects the quotient (Markstein 1990). Small a is scaled up, so that
 * the residual is exact. No branches: loops over channels become vectors. */
CLNORM_FN float clnorm_div(float a, float b) {
  const int tiny = a < 0x1p-60f;
  const float s = a * (tiny ? 0x1p+64f : 1.0f);
  float y = clnorm_from_bits(0x7ef311c7u - clnorm_bits(b));
  y = clnorm_fma(clnorm_fma(-b, y, 1.0f), y, y);
  y = clnorm_fma(clnorm_fma(-b, y, 1.0f), y, y);
  y = clnorm_fma(clnorm_fma(-b, y, 1.0f), y, y);
  y = clnorm_fma(clnorm_fma(-b, y, 1.0f), y, y);
  y = clnorm_from_bits(clnorm_bits(y) + ((clnorm_bits(b) & 0x7fffffu) == 0x7fffffu));
  float q = s * y;
  q = clnorm_fma(clnorm_fma(-b, q, s), y, q) * (tiny ? 0x1p-64f : 1.0f);
  return a < CLNORM_INFINITY ? q : a;
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

/* ---- Shape: how a channel is cut into segments of 2048 places ------------------------------------- */

#define CLNORM_SEGMENT_LOG2 11u
#define CLNORM_SEGMENT (1u << CLNORM_SEGMENT_LOG2)
#define CLNORM_ROW 64u /* a segment is rows of 64 places, */
#define CLNORM_ROWS (CLNORM_SEGMENT / CLNORM_ROW)
#define CLNORM_BLOCKS 4u /* and 4 blocks of as many rows */
#define CLNORM_BLOCK_ROWS (CLNORM_ROWS / CLNORM_BLOCKS)
#define CLNORM_BLOCK (CLNORM_SEGMENT / CLNORM_BLOCKS)

typedef struct clnorm_geometry {
  clnorm_ulong batch, channels, spatial;
  clnorm_uint slot_log2; /* a slot of 2^slot_log2 places holds one plane, or a piece of one */
  clnorm_uint
      plane_segments;   /* segments that one plane is cut into; 1 where planes share segments */
  clnorm_uint segments; /* of one channel */
} clnorm_geometry;

CLNORM_FN clnorm_geometry clnorm_geometry_make(clnorm_ulong batch, clnorm_ulong channels,
                                               clnorm_ulong spatial) {
  clnorm_geometry g;
  g.batch = batch;
  g.channels = channels;
  g.spatial = spatial;
  g.slot_log2 = 0;
  while (g.slot_log2 < CLNORM_SEGMENT_LOG2 && ((clnorm_ulong)1 << g.slot_log2) < spatial)
    g.slot_log2++;
  g.plane_segments = (clnorm_uint)((spatial + CLNORM_SEGMENT - 1) / CLNORM_SEGMENT);
  const clnorm_uint slots_log2 = CLNORM_SEGMENT_LOG2 - g.slot_log2;
  const clnorm_ulong groups = (batch + ((clnorm_ulong)1 << slots_log2) - 1) >> slots_log2;
  g.segments = (clnorm_uint)groups * g.plane_segments;
  return g;
}

/* Where a segment's elements are: `planes` runs of `extent` elements, one slot each; run k starts at
 * element `first + k * channels * spatial` from the channel's first plane. */
typedef struct clnorm_segment {
  clnorm_ulong first;
  clnorm_uint extent;
  clnorm_uint planes;
} clnorm_segment;

CLNORM_FN clnorm_segment clnorm_segment_at(const clnorm_geometry *g, clnorm_uint index) {
  clnorm_segment s;
  const clnorm_ulong plane_stride = g->channels * g->spatial;
  const clnorm_uint group = g->plane_segments == 1 ? index : index / g->plane_segments;
  const clnorm_ulong position = (clnorm_ulong)(index - group * g->plane_segments) * CLNORM_SEGMENT;
  const clnorm_uint slots_log2 = CLNORM_SEGMENT_LOG2 - g->slot_log2;
  const clnorm_ulong plane = (clnorm_ulong)group << slots_log2;
  const clnorm_ulong left = g->batch - plane;
  s.first = plane * plane_stride + position;
  s.extent = (clnorm_uint)(g->spatial - position < CLNORM_SEGMENT ? g->spatial - position
                                                                  : CLNORM_SEGMENT);
  s.planes =
      (clnorm_uint)(left < ((clnorm_ulong)1 << slots_log2) ? left
                                                           : ((clnorm_ulong)1 << slots_log2));
  return s;
}

/* Elements in the first block of a segment. */
CLNORM_FN clnorm_uint clnorm_segment_first(const clnorm_geometry *g, const clnorm_segment *s) {
  if (1u << g->slot_log2 > CLNORM_BLOCK) return s->extent < CLNORM_BLOCK ? s->extent : CLNORM_BLOCK;
  const clnorm_uint planes = CLNORM_BLOCK >> g->slot_log2;
  return s->extent * (s->planes < planes ? s->planes : planes);
}

/* ---- Statistics ----------------------------------------------------------------------------------- */

/* Mean hi + lo and sum of squared deviations m2 of count elements. */
typedef struct clnorm_partial {
  clnorm_ulong count;
  float hi, lo, m2;
  clnorm_uint unused; /* keeps the size the same for every compiler */
} clnorm_partial;

/* a + b == hi + lo exactly, hi the rounded sum (Knuth's two_sum). */
typedef struct clnorm_two {
  float hi, lo;
} clnorm_two;

CLNORM_FN clnorm_two clnorm_two_sum(float a, float b) {
  clnorm_two s;
  s.hi = a + b;
  const float z = s.hi - a;
  s.lo = (a - (s.hi - z)) + (b - z);
  return s;
}

/* 1 / elements of a segment, and of its first block. */
typedef struct clnorm_reciprocals {
  float all, first;
} clnorm_reciprocals;

CLNORM_FN clnorm_reciprocals clnorm_reciprocals_make(clnorm_uint count, clnorm_uint first) {
  clnorm_reciprocals r;
  r.all = clnorm_div(1.0f, (float)count);
  r.first = first == count ? r.all : clnorm_div(1.0f, (float)first);
  return r;
}

/* A segment's partial from its pivot m, and the sums R of x - m and Q of (x - m)^2. m2 cannot be negative
 * but for rounding; there it is 0. */
CLNORM_FN clnorm_partial clnorm_partial_make(clnorm_uint count, float reciprocal, float m,
                                             float sum_d, float sum_dd) {
  clnorm_partial p;
  const float r = clnorm_plus_zero(sum_d);
  const float q = clnorm_plus_zero(sum_dd);
  const float t = r * reciprocal;
  const clnorm_two mean = clnorm_two_sum(m, t);
  p.count = count;
  p.hi = mean.hi;
  p.lo = mean.lo;
  p.m2 = clnorm_fma(-r, t, q);
  p.m2 = p.m2 < 0.0f ? 0.0f : p.m2;
  p.unused = 0;
  return p;
}

/* What a merge takes from the counts: the first as a float, and the second's share. */
typedef struct clnorm_weights {
  float na, w;
} clnorm_weights;

CLNORM_FN clnorm_weights clnorm_weights_make(clnorm_ulong na, clnorm_ulong nb) {
  clnorm_weights k;
  k.na = clnorm_count_to_float(na);
  k.w = 0.5f;
  if (na != nb) k.w = clnorm_div(clnorm_count_to_float(nb), clnorm_count_to_float(na + nb));
  return k;
}

/* Two neighbouring nodes of the tree, a before b (Chan, Golub and LeVeque 1983, with the mean in two
 * floats). */
CLNORM_FN clnorm_partial clnorm_merge_weighted(clnorm_partial a, clnorm_partial b,
                                               clnorm_weights k) {
  clnorm_partial p;
  p.count = a.count + b.count;
  const float d = (b.hi - a.hi) + (b.lo - a.lo);
  const float t = d * k.w;
  const clnorm_two mean = clnorm_two_sum(a.hi, t);
  p.hi = mean.hi;
  p.lo = a.lo + mean.lo;
  p.m2 = clnorm_fma(d * (k.na * k.w), d, a.m2 + b.m2);
  p.unused = 0;
  return p;
}

CLNORM_FN clnorm_partial clnorm_merge(clnorm_partial a, clnorm_partial b) {
  return clnorm_merge_weighted(a, b, clnorm_weights_make(a.count, b.count));
}

/* The mean as one number. */
CLNORM_FN float clnorm_mean(float hi, float lo) { return clnorm_plus_zero(hi + lo); }

/* ---- Normalization -------------------------------------------------------------------------------- */

/* y = fma(x - hi, scale, shift) */
typedef struct clnorm_coefficients {
  float hi, scale, shift;
} clnorm_coefficients;

/* ---- One forward call, the same words for host and device ----------------------------------------- */

#define CLNORM_HAS_WEIGHT 1u
#define CLNORM_HAS_BIAS 2u
#define CLNORM_HAS_RUNNING 4u
#define CLNORM_SAVE_MEAN 8u
#define CLNORM_SAVE_INVSTD 16u
#define CLNORM_BATCH_MODE 32u /* statistics of the batch; else running_mean and running_var */
#define CLNORM_BIASED_RUNNING_VAR 64u
#define CLNORM_STREAM 128u   /* y is larger than the caches: write around them */
#define CLNORM_ALIGNED 256u  /* x, y and every plane start at multiples of 16 bytes */
#define CLNORM_EXPANDED 512u /* of a writer (clnorm_vector.h) */

/* Kernel argument, passed by value. 64-bit members first: one layout everywhere. Offsets count floats
 * from the start of the buffer. How work is cut (chunk, group, ...) never changes the bits. */
typedef struct clnorm_call {
  clnorm_ulong batch, channels, spatial;
  clnorm_ulong x, y, weight, bias, running_mean, running_var, saved_mean, saved_invstd;
  clnorm_ulong partials, affine; /* bytes from the start of the workspace */
  float eps, keep, take;         /* running = keep * running + take * batch */
  clnorm_uint flags;
  clnorm_uint chunk_log2;   /* 2^chunk_log2 segments are one node of the tree */
  clnorm_uint chunks;       /* nodes per channel */
  clnorm_uint group;        /* channels that one worker takes together, <= CLNORM_GROUP_MAX */
  clnorm_uint groups;       /* groups that one work-item takes one after the other */
  clnorm_uint tile_batch;   /* output tile: samples, */
  clnorm_uint tile_spatial; /* and positions of a plane */
} clnorm_call;

#define CLNORM_GROUP_MAX 64u
#define CLNORM_LINE 16u /* elements of a line of the cache */

#endif
