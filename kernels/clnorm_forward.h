/*
 * What both kernel forms do once per channel: from statistics to the normalization's four numbers, with
 * the running statistics updated and the saved statistics written on the way.
 */
#ifndef CLNORM_FORWARD_H
#define CLNORM_FORWARD_H

#include "clnorm_arith.h"

/* A kernel's buffers. Absent ones are never accessed: call->flags says which are there. */
typedef struct clnorm_buffers {
  CLNORM_GLOBAL const float *x;
  CLNORM_GLOBAL float *y;
  CLNORM_GLOBAL const float *weight, *bias;
  CLNORM_GLOBAL float *running_mean, *running_var;
  CLNORM_GLOBAL float *saved_mean, *saved_invstd;
  CLNORM_GLOBAL clnorm_partial *partials;
  CLNORM_GLOBAL clnorm_coefficients *affine;
} clnorm_buffers;

/* Parameters and buffers of every OpenCL kernel. */
#define CLNORM_KERNEL_PARAMETERS                                                                   \
  __global const float *x, __global float *y, __global const float *weight,                        \
      __global const float *bias, __global float *running_mean, __global float *running_var,       \
      __global float *saved_mean, __global float *saved_invstd, __global uchar *workspace,         \
      clnorm_call call
#define CLNORM_KERNEL_BUFFERS                                                                      \
  {                                                                                                \
    x + call.x, y + call.y, weight + call.weight, bias + call.bias,                                \
        running_mean + call.running_mean, running_var + call.running_var,                          \
        saved_mean + call.saved_mean, saved_invstd + call.saved_invstd,                            \
        (__global clnorm_partial *)(workspace + call.partials),                                    \
        (__global clnorm_coefficients *)(workspace + call.affine)                                  \
  }

CLNORM_FN clnorm_ulong clnorm_min(clnorm_ulong a, clnorm_ulong b) { return a < b ? a : b; }

CLNORM_FN clnorm_coefficients clnorm_affine_make(const clnorm_buffers *b, const clnorm_call *call,
                                                 clnorm_ulong c, float hi, float lo, float invstd) {
  clnorm_coefficients a;
  a.hi = hi;
  a.scale = call->flags & CLNORM_HAS_WEIGHT ? b->weight[c] * invstd : invstd;
  a.shift = call->flags & CLNORM_HAS_BIAS ? b->bias[c] : 0.0f;
  if (call->flags & CLNORM_BATCH_MODE) a.shift = clnorm_fma(-lo, a.scale, a.shift);
  return a;
}

/* Writes the saved statistics where they are asked for. */
CLNORM_FN void clnorm_save_mean(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                float hi, float lo) {
  if (call->flags & CLNORM_SAVE_MEAN) b->saved_mean[c] = clnorm_mean(hi, lo);
}
CLNORM_FN void clnorm_save_invstd(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                  float invstd) {
  if (call->flags & CLNORM_SAVE_INVSTD) b->saved_invstd[c] = invstd;
}

/* Given statistics. save: this worker is the one that writes the channel's saved statistics. */
CLNORM_FN clnorm_coefficients clnorm_affine_given(const clnorm_buffers *b, const clnorm_call *call,
                                                  clnorm_ulong c, int save) {
  const float mean = b->running_mean[c];
  const float invstd = clnorm_rsqrt(b->running_var[c] + call->eps);
  if (save) clnorm_save_mean(b, call, c, mean, 0.0f);
  if (save) clnorm_save_invstd(b, call, c, invstd);
  return clnorm_affine_make(b, call, c, mean, 0.0f, invstd);
}

/* What batch statistics are to become: the variance for running_var, and the normalization's. The variance
 * of one value is 0; nothing is divided by count - 1 then. Where sums of squares overflow, the normalization
 * has no number to go on with: y is NaN, not bias. */
typedef struct clnorm_spread {
  float running_var, invstd;
} clnorm_spread;

CLNORM_FN clnorm_spread clnorm_spread_make(const clnorm_call *call, clnorm_ulong count, float m2) {
  const int biased = ((call->flags & CLNORM_BIASED_RUNNING_VAR) != 0) | (count == 1);
  const float v = clnorm_div(m2, clnorm_count_to_float(count)) + call->eps;
  clnorm_spread k;
  k.running_var = clnorm_div(m2, clnorm_count_to_float(biased ? count : count - 1));
  k.invstd = v < CLNORM_INFINITY ? clnorm_rsqrt(v) : CLNORM_NAN;
  return k;
}

CLNORM_FN float clnorm_running(const clnorm_call *call, float running, float batch) {
  return clnorm_fma(call->keep, running, call->take * batch);
}

/* Updates the running statistics where there are some. */
CLNORM_FN void clnorm_update_mean(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                  float hi, float lo) {
  if (call->flags & CLNORM_HAS_RUNNING)
    b->running_mean[c] = clnorm_running(call, b->running_mean[c], clnorm_mean(hi, lo));
}
CLNORM_FN void clnorm_update_var(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                 float var) {
  if (call->flags & CLNORM_HAS_RUNNING)
    b->running_var[c] = clnorm_running(call, b->running_var[c], var);
}

/* Batch statistics: p covers the whole channel. */
CLNORM_FN clnorm_coefficients clnorm_affine_batch(const clnorm_buffers *b, const clnorm_call *call,
                                                  clnorm_ulong c, clnorm_partial p) {
  const clnorm_spread k = clnorm_spread_make(call, p.count, p.m2);
  clnorm_update_mean(b, call, c, p.hi, p.lo);
  clnorm_update_var(b, call, c, k.running_var);
  clnorm_save_mean(b, call, c, p.hi, p.lo);
  clnorm_save_invstd(b, call, c, k.invstd);
  return clnorm_affine_make(b, call, c, p.hi, p.lo, k.invstd);
}

/* ---- Output tiles --------------------------------------------------------------------------------- */

/* Channels [c0, c1) of samples [n0, n1), positions [p0, p1). */
typedef struct clnorm_tile {
  clnorm_ulong c0, c1, n0, n1, p0, p1;
} clnorm_tile;

/* Tiles are numbered in the order of memory. */
CLNORM_FN clnorm_tile clnorm_tile_at(const clnorm_call *call, clnorm_ulong index) {
  const clnorm_ulong groups = (call->channels + call->group - 1) / call->group;
  const clnorm_ulong pieces = (call->spatial + call->tile_spatial - 1) / call->tile_spatial;
  const clnorm_ulong row = index / pieces, block = row / groups;
  clnorm_tile t;
  t.c0 = (row - block * groups) * call->group;
  t.n0 = block * call->tile_batch;
  t.p0 = (index - row * pieces) * call->tile_spatial;
  t.c1 = clnorm_min(t.c0 + call->group, call->channels);
  t.n1 = clnorm_min(t.n0 + call->tile_batch, call->batch);
  t.p1 = clnorm_min(t.p0 + call->tile_spatial, call->spatial);
  return t;
}

/* The first tile of a channel saves given statistics. */
CLNORM_FN int clnorm_tile_saves(const clnorm_tile *t) { return t->n0 == 0 && t->p0 == 0; }

/* The affine of one of the tile's channels. */
CLNORM_FN clnorm_coefficients clnorm_tile_affine(const clnorm_buffers *b, const clnorm_call *call,
                                                 const clnorm_tile *t, clnorm_ulong c) {
  if (call->flags & CLNORM_BATCH_MODE) return b->affine[c];
  return clnorm_affine_given(b, call, c, clnorm_tile_saves(t));
}

/* Where a counter lives; the wide form keeps it in local memory. */
#ifndef CLNORM_COUNTER_SPACE
#define CLNORM_COUNTER_SPACE
#endif

/* ---- Merging nodes that arrive one after the other ------------------------------------------------ */

/* The tree's order for a stream of nodes of one size: a binary counter. Every 1 in `count` stands for a
 * finished node, the most recent on top. 32 levels hold 2^32 - 1 nodes. */
typedef struct clnorm_counter {
  clnorm_partial stack[32];
  clnorm_uint count, depth;
} clnorm_counter;

CLNORM_FN void clnorm_counter_push(CLNORM_COUNTER_SPACE clnorm_counter *k, clnorm_partial p) {
  for (clnorm_uint ones = k->count; ones & 1; ones >>= 1) p = clnorm_merge(k->stack[--k->depth], p);
  k->stack[k->depth++] = p;
  k->count++;
}

/* A node without a right neighbour moves up unchanged: merge from the right. At least one was pushed. */
CLNORM_FN clnorm_partial clnorm_counter_result(CLNORM_COUNTER_SPACE clnorm_counter *k) {
  clnorm_partial p = k->stack[--k->depth];
  while (k->depth) p = clnorm_merge(k->stack[--k->depth], p);
  return p;
}

#endif
