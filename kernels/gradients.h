/*
 * Backward: what the sums over a channel come to, and the gradients of its values and parameters.
 */
#ifndef CLNORM_GRADIENTS_H
#define CLNORM_GRADIENTS_H

#include "operands.h"
#include "scalar.h"

/* Two neighbouring nodes of the tree, a before b. */
CLNORM_FN clnorm_sums clnorm_sums_merge(clnorm_sums a, clnorm_sums b) {
  const clnorm_sums sums = {a.s + b.s, a.t + b.t};
  return sums;
}

/* The sums over a segment, folded. */
CLNORM_FN clnorm_sums clnorm_sums_make(clnorm_real s, clnorm_real t) {
  const clnorm_sums sums = {clnorm_plus_zero(s), clnorm_plus_zero(t)};
  return sums;
}

/* What a channel's values were normalized by: the mean hi + lo, and invstd. */
typedef struct clnorm_normalizer {
  clnorm_real hi, lo, invstd;
} clnorm_normalizer;

/* The saved statistics, where they are there, go before the running ones. Where neither is, nobody needs them. */
CLNORM_FN clnorm_normalizer clnorm_normalizer_get(const clnorm_buffers *b, const clnorm_call *call,
                                                  clnorm_ulong c) {
  clnorm_normalizer k = {0.0f, 0.0f, 0.0f};
  if (call->flags & CLNORM_SAVE_MEAN) {
    k.hi = b->saved_mean[c];
    if (call->flags & CLNORM_SAVE_MEAN_LOW) k.lo = b->saved_mean_low[c];
    k.invstd = b->saved_invstd[c];
  } else if (call->flags & CLNORM_HAS_RUNNING) {
    k.hi = b->running_mean[c];
    k.invstd = clnorm_rsqrt(b->running_var[c] + clnorm_eps(call));
  }
  return k;
}

/* Writes the gradients of a channel's parameters where they are asked for. */
CLNORM_FN void clnorm_gradients_write(const clnorm_buffers *b, const clnorm_call *call,
                                      clnorm_ulong c, clnorm_sums sums, clnorm_real invstd) {
  const int add = (call->flags & CLNORM_ACCUMULATE) != 0;
  if (call->flags & CLNORM_HAS_DWEIGHT)
    b->dweight[c] = add ? clnorm_fma(sums.t, invstd, b->dweight[c]) : sums.t * invstd;
  if (call->flags & CLNORM_HAS_DBIAS) b->dbias[c] = add ? b->dbias[c] + sums.s : sums.s;
}

/* With given statistics, which no value has a part in, shift and slope are 0. */
CLNORM_FN clnorm_gradient_coefficients clnorm_gradient_coefficients_given(const clnorm_buffers *b,
                                                                          const clnorm_call *call,
                                                                          clnorm_ulong c,
                                                                          clnorm_normalizer k) {
  clnorm_gradient_coefficients a = {k.hi, 0.0f, 0.0f, k.invstd};
  if (call->flags & CLNORM_HAS_WEIGHT) a.scale = b->weight[c] * k.invstd;
  return a;
}

/* sums are over the whole channel, T of g * (x - hi); it becomes that of g * (x - mean). */
CLNORM_FN clnorm_gradient_coefficients clnorm_gradient_coefficients_make(const clnorm_buffers *b,
                                                                         const clnorm_call *call,
                                                                         clnorm_ulong c,
                                                                         clnorm_normalizer k,
                                                                         clnorm_sums sums) {
  clnorm_gradient_coefficients a = clnorm_gradient_coefficients_given(b, call, c, k);
  sums.t = clnorm_fma(-k.lo, sums.s, sums.t);
  clnorm_gradients_write(b, call, c, sums, k.invstd);
  if (call->flags & CLNORM_BATCH_MODE) {
    const clnorm_real count = clnorm_count_to_real(call->batch * call->spatial);
    a.slope = (clnorm_div(sums.t, count) * k.invstd) * k.invstd;
    a.shift = clnorm_fma(-k.lo, a.slope, clnorm_div(sums.s, count));
  }
  return a;
}

/* The coefficients of dx of a tile's channel: those that finalize left or, where dx is all that is wanted of given
 * statistics, there is nothing but them. */
CLNORM_FN clnorm_gradient_coefficients clnorm_tile_gradient_coefficients(const clnorm_buffers *b,
                                                                         const clnorm_call *call,
                                                                         clnorm_ulong c) {
  if (call->flags & CLNORM_BATCH_MODE) return b->gradient_coefficients[c];
  return clnorm_gradient_coefficients_given(b, call, c, clnorm_normalizer_get(b, call, c));
}

/* dx of one value. batch, a constant in every call: statistics of the batch; else x is not looked at. */
CLNORM_FN clnorm_real clnorm_dx_of(clnorm_real g, clnorm_real x, clnorm_gradient_coefficients a,
                                   int batch) {
  if (!batch) return g * a.scale;
  return clnorm_fma(a.hi - x, a.slope, g - a.shift) * a.scale;
}

#endif
