/*
 * Backward, the vector form, any memory (vector_general.h): x and dy are gathered by their views, and the sums of
 * gradients are swept as forward sweeps its moments.
 */
#ifndef CLNORM_VECTOR_GENERAL_BACKWARD_H
#define CLNORM_VECTOR_GENERAL_BACKWARD_H

#include "vector_general.h"
#include "vector_gradients.h"

/* The sums over a channel's segment `index`. */
CLNORM_NOINLINE clnorm_sums clnorm_general_sums(const clnorm_buffers *b, const clnorm_call *call,
                                                const clnorm_geometry *geometry, clnorm_ulong c,
                                                clnorm_real hi, clnorm_uint index) {
  clnorm_gathered d, g;
  const clnorm_segment segment = clnorm_segment_at(geometry, index);
  clnorm_gather(&g, b, call, geometry, &segment, c, CLNORM_VIEW_DY);
  if (!(call->flags & CLNORM_READS_X)) return clnorm_gathered_sums(&g, &g, 0);
  clnorm_gather(&d, b, call, geometry, &segment, c, CLNORM_VIEW_X);
  for (clnorm_uint i = 0; i < d.rows * CLNORM_ROW; i++) d.values[i] = d.values[i] - hi;
  return clnorm_gathered_sums(&d, &g, 1);
}

CLNORM_FN clnorm_sums clnorm_general_sums_node(const clnorm_buffers *b, const clnorm_call *call,
                                               clnorm_ulong c, clnorm_real hi, clnorm_ulong begin,
                                               clnorm_ulong end) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  clnorm_sums_counter counter;
  counter.count = counter.depth = 0;
  for (clnorm_ulong i = begin; i < clnorm_min(end, g.segments); i++)
    clnorm_sums_counter_push(&counter, clnorm_general_sums(b, call, &g, c, hi, (clnorm_uint)i));
  return clnorm_sums_counter_result(&counter);
}

/* ---- Output ----------------------------------------------------------------------------------------- */

CLNORM_FN void clnorm_general_dx_plane(const clnorm_buffers *b, const clnorm_call *call,
                                       const clnorm_tile *t, clnorm_ulong n,
                                       clnorm_gradient_coefficients a, int batch) {
  const clnorm_view *x = &call->views[CLNORM_VIEW_X], *y = &call->views[CLNORM_VIEW_Y];
  const clnorm_view *dy = &call->views[CLNORM_VIEW_DY];
  for (clnorm_ulong position = t->p0; position < t->p1;) {
    const clnorm_piece p = clnorm_piece_at(call, position, t->p1);
    const clnorm_ulong x_at = clnorm_plane_at(x, n, t->c0) + p.at[CLNORM_VIEW_X];
    const clnorm_ulong y_at = clnorm_plane_at(y, n, t->c0) + p.at[CLNORM_VIEW_Y];
    const clnorm_ulong dy_at = clnorm_plane_at(dy, n, t->c0) + p.at[CLNORM_VIEW_DY];
    for (clnorm_ulong k = 0; k < p.count; k++) {
      const clnorm_real g = clnorm_any_dy_load(dy->storage, b->dy, dy_at + k * dy->position[2]);
      const clnorm_real v =
          batch ? clnorm_any_load(x->storage, b->x, x_at + k * x->position[2]) : 0.0f;
      clnorm_any_store(y->storage, b->y, y_at + k * y->position[2], clnorm_dx_of(g, v, a, batch));
    }
    position += p.count;
  }
}

CLNORM_NOINLINE void clnorm_general_dx(const clnorm_buffers *b, const clnorm_call *call,
                                       const clnorm_tile *t, clnorm_gradient_coefficients a) {
  for (clnorm_ulong n = t->n0; n < t->n1; n++) {
    if (call->flags & CLNORM_BATCH_MODE)
      clnorm_general_dx_plane(b, call, t, n, a, 1);
    else
      clnorm_general_dx_plane(b, call, t, n, a, 0);
    clnorm_general_tail(b, call, t, n);
  }
}

/* ---- Items ------------------------------------------------------------------------------------------ */

CLNORM_FN void clnorm_general_backward_channel(const clnorm_buffers *b, const clnorm_call *call,
                                               clnorm_ulong item) {
  const clnorm_tile t = clnorm_tile_of_group(call, item);
  const clnorm_normalizer k = clnorm_normalizer_get(b, call, item);
  const clnorm_sums sums = clnorm_general_sums_node(b, call, item, k.hi, 0, ~(clnorm_ulong)0);
  const clnorm_gradient_coefficients a = clnorm_gradient_coefficients_make(b, call, item, k, sums);
  if (call->flags & CLNORM_HAS_DX) clnorm_general_dx(b, call, &t, a);
}

CLNORM_FN void clnorm_general_backward_partials(const clnorm_buffers *b, const clnorm_call *call,
                                                clnorm_ulong item) {
  const clnorm_ulong c = item / call->chunks;
  const clnorm_ulong begin = (item - c * call->chunks) << call->chunk_log2;
  b->sums[item] = clnorm_general_sums_node(b, call, c, clnorm_normalizer_get(b, call, c).hi, begin,
                                           begin + ((clnorm_ulong)1 << call->chunk_log2));
}

CLNORM_FN void clnorm_general_backward_apply(const clnorm_buffers *b, const clnorm_call *call,
                                             clnorm_ulong item) {
  const clnorm_tile t = clnorm_tile_at(call, item);
  clnorm_general_dx(b, call, &t, clnorm_tile_gradient_coefficients(b, call, t.c0));
}

#endif
