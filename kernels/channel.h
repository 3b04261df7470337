/*
 * What is done once per channel: from statistics to the numbers that its values are normalized with, with the
 * running statistics updated and the saved statistics written on the way.
 */
#ifndef CLNORM_CHANNEL_H
#define CLNORM_CHANNEL_H

#include "operands.h"
#include "scalar.h"

CLNORM_FN clnorm_coefficients clnorm_coefficients_make(const clnorm_buffers *b,
                                                       const clnorm_call *call, clnorm_ulong c,
                                                       clnorm_real hi, clnorm_real lo,
                                                       clnorm_real invstd) {
  clnorm_coefficients a;
  a.hi = hi;
  a.scale = call->flags & CLNORM_HAS_WEIGHT ? b->weight[c] * invstd : invstd;
  a.shift = call->flags & CLNORM_HAS_BIAS ? b->bias[c] : 0.0f;
  if (call->flags & CLNORM_BATCH_MODE) a.shift = clnorm_fma(-lo, a.scale, a.shift);
  return a;
}

/* Writes the saved statistics where they are asked for. */
CLNORM_FN void clnorm_save_mean(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                clnorm_real hi, clnorm_real lo) {
  if (call->flags & CLNORM_SAVE_MEAN) b->saved_mean[c] = hi;
  if (call->flags & CLNORM_SAVE_MEAN_LOW) b->saved_mean_low[c] = lo;
}
CLNORM_FN void clnorm_save_invstd(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                  clnorm_real invstd) {
  if (call->flags & CLNORM_SAVE_INVSTD) b->saved_invstd[c] = invstd;
}

/* Given statistics. save: this worker is the one that writes the channel's saved statistics. */
CLNORM_FN clnorm_coefficients clnorm_coefficients_given(const clnorm_buffers *b,
                                                        const clnorm_call *call, clnorm_ulong c,
                                                        int save) {
  const clnorm_real mean = b->running_mean[c];
  const clnorm_real invstd = clnorm_rsqrt(b->running_var[c] + clnorm_eps(call));
  if (save) clnorm_save_mean(b, call, c, mean, 0.0f);
  if (save) clnorm_save_invstd(b, call, c, invstd);
  return clnorm_coefficients_make(b, call, c, mean, 0.0f, invstd);
}

/* What batch statistics are to become: the variance for running_var, and the normalization's. The variance
 * of one value is 0; nothing is divided by count - 1 then. Where sums of squares overflow, the normalization
 * has no number to go on with: y is NaN, not bias. */
typedef struct clnorm_spread {
  clnorm_real running_var, invstd;
} clnorm_spread;

CLNORM_FN clnorm_spread clnorm_spread_make(const clnorm_call *call, clnorm_ulong count,
                                           clnorm_real m2) {
  const int biased = ((call->flags & CLNORM_BIASED_RUNNING_VAR) != 0) | (count == 1);
  const clnorm_real v = clnorm_div(m2, clnorm_count_to_real(count)) + clnorm_eps(call);
  clnorm_spread k;
  k.running_var = clnorm_div(m2, clnorm_count_to_real(biased ? count : count - 1));
  k.invstd = v < CLNORM_INFINITY ? clnorm_rsqrt(v) : CLNORM_NAN;
  return k;
}

CLNORM_FN clnorm_real clnorm_running(const clnorm_call *call, clnorm_real running,
                                     clnorm_real batch) {
  return clnorm_fma(clnorm_keep(call), running, clnorm_take(call) * batch);
}

/* Updates the running statistics where there are some. */
CLNORM_FN void clnorm_update_mean(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                  clnorm_real mean) {
  if (call->flags & CLNORM_HAS_RUNNING)
    b->running_mean[c] = clnorm_running(call, b->running_mean[c], mean);
}
CLNORM_FN void clnorm_update_var(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                 clnorm_real var) {
  if (call->flags & CLNORM_HAS_RUNNING)
    b->running_var[c] = clnorm_running(call, b->running_var[c], var);
}

/* Batch statistics: p covers the whole channel. */
CLNORM_FN clnorm_coefficients clnorm_coefficients_batch(const clnorm_buffers *b,
                                                        const clnorm_call *call, clnorm_ulong c,
                                                        clnorm_partial p) {
  const clnorm_spread k = clnorm_spread_make(call, p.count, p.m2);
  const clnorm_two mean = clnorm_mean(p.hi, p.lo);
  clnorm_update_mean(b, call, c, mean.hi);
  clnorm_update_var(b, call, c, k.running_var);
  clnorm_save_mean(b, call, c, mean.hi, mean.lo);
  clnorm_save_invstd(b, call, c, k.invstd);
  return clnorm_coefficients_make(b, call, c, mean.hi, mean.lo, k.invstd);
}

#endif
