/*
 * Mean and sum of squared deviations: of a segment, and merged from two neighbours.
 */
#ifndef CLNORM_STATISTICS_H
#define CLNORM_STATISTICS_H

#include "places.h"
#include "scalar.h"

/* Mean hi + lo and sum of squared deviations m2 of count elements. */
typedef struct clnorm_partial {
  clnorm_ulong count;
  clnorm_real hi, lo, m2;
  clnorm_word unused; /* keeps the size the same for every compiler */
} clnorm_partial;

/* a + b == hi + lo exactly, hi the rounded sum (Knuth's two_sum). */
typedef struct clnorm_two {
  clnorm_real hi, lo;
} clnorm_two;

CLNORM_FN clnorm_two clnorm_two_sum(clnorm_real a, clnorm_real b) {
  clnorm_two s;
  s.hi = a + b;
  const clnorm_real z = s.hi - a;
  s.lo = (a - (s.hi - z)) + (b - z);
  return s;
}

/* 1 / elements of a segment, and of its first block. */
typedef struct clnorm_reciprocals {
  clnorm_real all, first;
} clnorm_reciprocals;

CLNORM_FN clnorm_reciprocals clnorm_reciprocals_make(clnorm_uint count, clnorm_uint first) {
  clnorm_reciprocals r;
  r.all = clnorm_div(1.0f, (clnorm_real)count);
  r.first = first == count ? r.all : clnorm_div(1.0f, (clnorm_real)first);
  return r;
}

/* A segment's partial from its pivot m, and the sums R of x - m and Q of (x - m)^2. m2 cannot be negative
 * but for rounding; there it is 0. */
CLNORM_FN clnorm_partial clnorm_partial_make(clnorm_uint count, clnorm_real reciprocal,
                                             clnorm_real m, clnorm_real sum_d, clnorm_real sum_dd) {
  clnorm_partial p;
  const clnorm_real r = clnorm_plus_zero(sum_d);
  const clnorm_real q = clnorm_plus_zero(sum_dd);
  const clnorm_real t = r * reciprocal;
  const clnorm_two mean = clnorm_two_sum(m, t);
  p.count = count;
  p.hi = mean.hi;
  p.lo = mean.lo;
  p.m2 = clnorm_fma(-r, t, q);
  p.m2 = p.m2 < 0.0f ? 0.0f : p.m2;
  p.unused = 0;
  return p;
}

/* What a merge takes from the counts: the first as a real, and the second's share. */
typedef struct clnorm_weights {
  clnorm_real na, w;
} clnorm_weights;

CLNORM_FN clnorm_weights clnorm_weights_make(clnorm_ulong na, clnorm_ulong nb) {
  clnorm_weights k;
  k.na = clnorm_count_to_real(na);
  k.w = 0.5f;
  if (na != nb) k.w = clnorm_div(clnorm_count_to_real(nb), clnorm_count_to_real(na + nb));
  return k;
}

/* Two neighbouring nodes of the tree, a before b (Chan, Golub and LeVeque 1983, with the mean in two
 * reals). */
CLNORM_FN clnorm_partial clnorm_merge_weighted(clnorm_partial a, clnorm_partial b,
                                               clnorm_weights k) {
  clnorm_partial p;
  p.count = a.count + b.count;
  const clnorm_real d = (b.hi - a.hi) + (b.lo - a.lo);
  const clnorm_real t = d * k.w;
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

/* The mean that everything after the statistics uses: hi is the mean, rounded, and lo what is left of it. */
CLNORM_FN clnorm_two clnorm_mean(clnorm_real hi, clnorm_real lo) {
  clnorm_two mean = clnorm_two_sum(hi, lo);
  mean.hi = clnorm_plus_zero(mean.hi);
  return mean;
}

#endif
