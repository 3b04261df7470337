/*
 * The gradients of batch normalization in long double, with the bounds of docs/arithmetic.md: what the backward
 * operator is held to. Values are dense, in logical order (N, C, spatial), as doubles.
 */
#ifndef CLNORM_CASES_BACKWARD_H
#define CLNORM_CASES_BACKWARD_H

#include <stdbool.h>
#include <stdint.h>

/* mean and invstd NULL: those of the batch, with eps; else given ones, which x has no part in. weight NULL: 1.
 * unit: half a unit in the last place of 1, 2^-24 or 2^-53. factor: of the bounds in such units; 8 by the rule,
 * clnorm_gradient_guarantee at the worst. */
typedef struct clnorm_gradient_case {
  int64_t batch, channels, spatial;
  const double *x, *dy, *weight;
  const long double *mean, *invstd;
  double eps;
  long double unit, factor;
} clnorm_gradient_case;

/* The factor that holds for every order of adding up the values of a channel in segments. */
long double clnorm_gradient_guarantee(int64_t batch, int64_t spatial);

/* One channel: its sums, the gradients of its parameters, and how far off they may be. */
typedef struct clnorm_gradient_channel {
  bool given;
  /* the mean is origin + mean: values far from 0 lose nothing by the subtraction */
  long double origin, mean, invstd, scale;
  /* means of dy, of dy * xhat, of |dy|, of |dy| * (|xhat| + 1) */
  long double g, gx, size_g, size_gx;
  long double dweight, dbias, dweight_bound, dbias_bound;
  long double unit, factor;
} clnorm_gradient_channel;

void clnorm_gradient_channel_make(const clnorm_gradient_case *item, int64_t c,
                                  clnorm_gradient_channel *channel);

/* dx of one value, before it is stored, and its bound. */
long double clnorm_gradient_dx(const clnorm_gradient_channel *channel, double x, double dy,
                               long double *bound);

/* |error| / bound, infinite for a NaN; 0 where the reference is no number to hold anything to. */
double clnorm_gradient_ratio(double actual, long double expected, long double bound);
/* Half of a unit in the last place of an element's type at a value; 0 where it is the real. */
long double clnorm_gradient_rounding(int32_t dtype, int32_t real, long double value);

#endif
