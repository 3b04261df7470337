/*
 * The vector form: sums of a segment, column by column, and their fold.
 */
#ifndef CLNORM_VECTOR_SUMS_H
#define CLNORM_VECTOR_SUMS_H

#include "tiles.h"

#define CLNORM_COLUMNS (CLNORM_ROW / CLNORM_LANES)

CLNORM_FN clnorm_uint clnorm_uint_min(clnorm_uint a, clnorm_uint b) { return a < b ? a : b; }
CLNORM_FN clnorm_uint clnorm_uint_max(clnorm_uint a, clnorm_uint b) { return a < b ? b : a; }

/* Deviations from the pivot and, in the second sweep, their squares, summed. In the first sweep, which is
 * over the first block alone, the pivot is 0. */
typedef struct clnorm_moments {
  clnorm_vec d, dd;
} clnorm_moments;

#define CLNORM_FIRST_SWEEP 0 /* a constant in every call */
#define CLNORM_SECOND_SWEEP 1

CLNORM_FN clnorm_moments clnorm_moments_none(void) {
  const clnorm_moments m = {clnorm_splat(0.0f), clnorm_splat(0.0f)};
  return m;
}

CLNORM_FN clnorm_moments clnorm_moments_take(clnorm_moments m, clnorm_vec v, clnorm_vec pivot,
                                             int sweep) {
  const clnorm_vec d = v - pivot;
  m.d = m.d + d;
  if (sweep == CLNORM_SECOND_SWEEP) m.dd = clnorm_vec_fma(d, d, m.dd);
  return m;
}

CLNORM_FN clnorm_moments clnorm_moments_add(clnorm_moments a, clnorm_moments b) {
  a.d = a.d + b.d;
  a.dd = a.dd + b.dd;
  return a;
}

/* 64 places to one: columns by halves, in loops that every compiler unrolls, then lanes by halves. Of
 * columns from n on, a constant, which is a power of two, all places are 0. */
CLNORM_FN clnorm_real clnorm_fold(clnorm_vec *columns, clnorm_uint n) {
  for (clnorm_uint i = 0; n > 16 && i < 16; i++) columns[i] = columns[i] + columns[i + 16];
  for (clnorm_uint i = 0; n > 8 && i < 8; i++) columns[i] = columns[i] + columns[i + 8];
  for (clnorm_uint i = 0; n > 4 && i < 4; i++) columns[i] = columns[i] + columns[i + 4];
  for (clnorm_uint i = 0; n > 2 && i < 2; i++) columns[i] = columns[i] + columns[i + 2];
  if (n > 1) columns[0] = columns[0] + columns[1];
  return clnorm_fold_vec(columns[0]);
}

/* A segment of one channel by its places, as far as there are rows with values. */
typedef struct clnorm_gathered {
  clnorm_real values[CLNORM_SEGMENT + CLNORM_LANES]; /* a vector may go past the end */
  clnorm_uint rows;
  clnorm_uint planes, extent; /* slots that have values, and how many each has */
  clnorm_uint slot;           /* places of a slot */
} clnorm_gathered;

/* Places that have no value become `fill`. */
CLNORM_FN void clnorm_gathered_fill(clnorm_gathered *s, clnorm_real fill) {
  const clnorm_uint end = s->rows * CLNORM_ROW;
  for (clnorm_uint slot = 0; slot * s->slot < end; slot++) {
    const clnorm_uint slot_end = clnorm_uint_min((slot + 1) * s->slot, end);
    for (clnorm_uint i = slot * s->slot + (slot < s->planes ? s->extent : 0); i < slot_end; i++)
      s->values[i] = fill;
  }
}

CLNORM_FN void clnorm_gathered_start(clnorm_gathered *s, const clnorm_geometry *g,
                                     const clnorm_segment *segment) {
  s->planes = segment->planes;
  s->extent = segment->extent;
  s->slot = 1u << g->slot_log2;
  s->rows = ((s->planes - 1) * s->slot + s->extent + CLNORM_ROW - 1) / CLNORM_ROW;
}

#endif
