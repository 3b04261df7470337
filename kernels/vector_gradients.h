/*
 * Backward, the vector form: sums of gradients, and what all paths finish them with.
 */
#ifndef CLNORM_VECTOR_GRADIENTS_H
#define CLNORM_VECTOR_GRADIENTS_H

#include "counter.h"
#include "vector_sums.h"

/* Moments of backward have the sum of g in d, and that of g * (x - hi) in dd. */
CLNORM_FN clnorm_moments clnorm_moments_weigh(clnorm_moments m, clnorm_vec g, clnorm_vec d) {
  m.d = m.d + g;
  m.dd = clnorm_vec_fma(g, d, m.dd);
  return m;
}

/* All columns of a segment, folded. */
CLNORM_FN clnorm_sums clnorm_moments_sums(const clnorm_moments *m) {
  clnorm_vec s[CLNORM_COLUMNS], t[CLNORM_COLUMNS];
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) {
    s[i] = m[i].d;
    t[i] = m[i].dd;
  }
  return clnorm_sums_make(clnorm_fold(s, CLNORM_COLUMNS), clnorm_fold(t, CLNORM_COLUMNS));
}

/* The sums over a segment that was gathered: d has x - hi. Places that have no value become 0 in both. deviates, a
 * constant: x is read, and T is wanted. */
CLNORM_FN clnorm_sums clnorm_gathered_sums(clnorm_gathered *d, clnorm_gathered *g, int deviates) {
  clnorm_moments sums[CLNORM_COLUMNS];
  clnorm_gathered_fill(g, 0.0f);
  if (deviates) clnorm_gathered_fill(d, 0.0f);
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) sums[i] = clnorm_moments_none();
  for (clnorm_uint row = 0; row < g->rows; row += CLNORM_BLOCK_ROWS) {
    clnorm_moments m[CLNORM_COLUMNS];
    CLNORM_UNROLL
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) m[i] = clnorm_moments_none();
    const clnorm_uint end = clnorm_uint_min(row + CLNORM_BLOCK_ROWS, g->rows);
    for (clnorm_uint k = row; k < end; k++) {
      const clnorm_uint at = k * CLNORM_ROW;
      CLNORM_UNROLL
      for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) {
        const clnorm_vec v = clnorm_vec_load_private(g->values + at + i * CLNORM_LANES);
        if (deviates)
          m[i] = clnorm_moments_weigh(m[i], v,
                                      clnorm_vec_load_private(d->values + at + i * CLNORM_LANES));
        else
          m[i].d = m[i].d + v;
      }
    }
    CLNORM_UNROLL
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) sums[i] = clnorm_moments_add(sums[i], m[i]);
  }
  return clnorm_moments_sums(sums);
}

/* Nodes that items left in the workspace, or of no values none. */
CLNORM_FN void clnorm_item_backward_finalize(const clnorm_buffers *b, const clnorm_call *call,
                                             clnorm_ulong item) {
  const clnorm_sums none = {0.0f, 0.0f};
  clnorm_sums_counter counter;
  counter.count = counter.depth = 0;
  if (!call->chunks) {
    clnorm_gradients_write(b, call, item, none, 0.0f);
    return;
  }
  for (clnorm_uint i = 0; i < call->chunks; i++)
    clnorm_sums_counter_push(&counter, b->sums[item * call->chunks + i]);
  b->gradient_coefficients[item] = clnorm_gradient_coefficients_make(
      b, call, item, clnorm_normalizer_get(b, call, item), clnorm_sums_counter_result(&counter));
}

#endif
