/*
 * The vector form, any memory: whatever strides, blocks and storages the tensors have. A channel's segment is
 * gathered by x's view into an array of places, which is swept; the output is scattered by y's view, an element
 * at a time. It is the measure of all other paths, which give its bits. Items are as in vector.h; a group has one
 * channel (call.channels_each).
 */
#ifndef CLNORM_VECTOR_GENERAL_H
#define CLNORM_VECTOR_GENERAL_H

#include "vector_finalize.h"
#include "vector_sums.h"
#include "view.h"

/* ---- Statistics ------------------------------------------------------------------------------------- */

/* v, a constant: of x, or of dy. */
CLNORM_FN void clnorm_gather(clnorm_gathered *s, const clnorm_buffers *b, const clnorm_call *call,
                             const clnorm_geometry *g, const clnorm_segment *segment,
                             clnorm_ulong c, clnorm_uint v) {
  const clnorm_view *view = &call->views[v];
  clnorm_gathered_start(s, g, segment);
  for (clnorm_uint plane = 0; plane < s->planes; plane++) {
    const clnorm_ulong first = clnorm_plane_at(view, segment->sample + plane, c);
    for (clnorm_uint i = 0; i < s->extent;) {
      const clnorm_piece p =
          clnorm_piece_at(call, segment->position + i, segment->position + s->extent);
      clnorm_real *values = s->values + plane * s->slot + i;
      for (clnorm_uint k = 0; k < p.count; k++) {
        const clnorm_ulong at = first + p.at[v] + k * view->position[2];
        values[k] = v == CLNORM_VIEW_X ? clnorm_any_load(view->storage, b->x, at)
                                       : clnorm_any_dy_load(view->storage, b->dy, at);
      }
      i += (clnorm_uint)p.count;
    }
  }
}

/* Adds rows [begin, end) to the columns, row after row. */
CLNORM_FN void clnorm_gathered_take(const clnorm_gathered *s, clnorm_moments *m, clnorm_uint begin,
                                    clnorm_uint end, clnorm_vec pivot, int sweep) {
  const clnorm_real *row = s->values + begin * CLNORM_ROW;
  for (; begin < end; begin++, row += CLNORM_ROW) {
    CLNORM_UNROLL
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++)
      m[i] =
          clnorm_moments_take(m[i], clnorm_vec_load_private(row + i * CLNORM_LANES), pivot, sweep);
  }
}

/* The sum over the first block. */
CLNORM_FN clnorm_real clnorm_gathered_first(const clnorm_gathered *s) {
  clnorm_moments m[CLNORM_COLUMNS];
  clnorm_vec sum[CLNORM_COLUMNS];
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) m[i] = clnorm_moments_none();
  clnorm_gathered_take(s, m, 0, clnorm_uint_min(s->rows, CLNORM_BLOCK_ROWS), clnorm_splat(0.0f),
                       CLNORM_FIRST_SWEEP);
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) sum[i] = m[i].d;
  return clnorm_fold(sum, CLNORM_COLUMNS);
}

/* The partial of a channel's segment `index`. */
CLNORM_NOINLINE clnorm_partial clnorm_general_segment(const clnorm_buffers *b,
                                                      const clnorm_call *call,
                                                      const clnorm_geometry *g, clnorm_ulong c,
                                                      clnorm_uint index) {
  clnorm_gathered s;
  clnorm_vec d[CLNORM_COLUMNS], dd[CLNORM_COLUMNS];
  const clnorm_segment segment = clnorm_segment_at(g, index);
  const clnorm_uint count = segment.planes * segment.extent;
  const clnorm_reciprocals r = clnorm_reciprocals_make(count, clnorm_segment_first(g, &segment));
  clnorm_gather(&s, b, call, g, &segment, c, CLNORM_VIEW_X);
  clnorm_gathered_fill(&s, 0.0f);
  const clnorm_real pivot = clnorm_plus_zero(clnorm_gathered_first(&s)) * r.first;
  clnorm_gathered_fill(&s, pivot);
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) d[i] = dd[i] = clnorm_splat(0.0f);
  for (clnorm_uint row = 0; row < s.rows; row += CLNORM_BLOCK_ROWS) {
    clnorm_moments m[CLNORM_COLUMNS];
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) m[i] = clnorm_moments_none();
    clnorm_gathered_take(&s, m, row, clnorm_uint_min(row + CLNORM_BLOCK_ROWS, s.rows),
                         clnorm_splat(pivot), CLNORM_SECOND_SWEEP);
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) {
      d[i] = d[i] + m[i].d;
      dd[i] = dd[i] + m[i].dd;
    }
  }
  return clnorm_partial_make(count, r.all, pivot, clnorm_fold(d, CLNORM_COLUMNS),
                             clnorm_fold(dd, CLNORM_COLUMNS));
}

CLNORM_FN clnorm_partial clnorm_general_node(const clnorm_buffers *b, const clnorm_call *call,
                                             const clnorm_geometry *g, clnorm_ulong c,
                                             clnorm_uint begin, clnorm_uint end) {
  clnorm_counter counter;
  counter.count = counter.depth = 0;
  for (clnorm_uint i = begin; i < end; i++)
    clnorm_counter_push(&counter, clnorm_general_segment(b, call, g, c, i));
  return clnorm_counter_result(&counter);
}

/* ---- Output ----------------------------------------------------------------------------------------- */

/* What a tile's channel is to become; a constant in every call. */
#define CLNORM_GENERAL_COPY 0
#define CLNORM_GENERAL_NORMALIZE 1
#define CLNORM_GENERAL_ZERO 2

CLNORM_FN void clnorm_general_plane(const clnorm_buffers *b, const clnorm_call *call,
                                    const clnorm_tile *t, clnorm_ulong n, clnorm_ulong c,
                                    clnorm_coefficients a, int mode) {
  const clnorm_view *x = &call->views[CLNORM_VIEW_X], *y = &call->views[CLNORM_VIEW_Y];
  for (clnorm_ulong position = t->p0; position < t->p1;) {
    const clnorm_piece p = clnorm_piece_at(call, position, t->p1);
    clnorm_ulong from = clnorm_plane_at(x, n, c) + p.at[CLNORM_VIEW_X];
    clnorm_ulong to = clnorm_plane_at(y, n, c) + p.at[CLNORM_VIEW_Y];
    for (clnorm_ulong k = 0; k < p.count; k++, from += x->position[2], to += y->position[2]) {
      if (mode == CLNORM_GENERAL_COPY) {
        clnorm_any_move(x->storage, y->storage, b->y, to, b->x, from);
      } else if (mode == CLNORM_GENERAL_NORMALIZE) {
        const clnorm_real v = clnorm_any_load(x->storage, b->x, from);
        clnorm_any_store(y->storage, b->y, to, clnorm_fma(v - a.hi, a.scale, a.shift));
      } else {
        clnorm_any_store(y->storage, b->y, to, 0.0f);
      }
    }
    position += p.count;
  }
}

/* What the last channel's block has beyond it, in sample n of a tile. */
CLNORM_FN void clnorm_general_tail(const clnorm_buffers *b, const clnorm_call *call,
                                   const clnorm_tile *t, clnorm_ulong n) {
  const clnorm_coefficients none = {0.0f, 0.0f, 0.0f};
  const clnorm_ulong block = call->views[CLNORM_VIEW_Y].block;
  const clnorm_ulong end = (call->channels + block - 1) / block * block;
  if (t->c1 != call->channels || !(call->flags & CLNORM_OWNS_TAIL)) return;
  for (clnorm_ulong c = t->c1; c < end; c++)
    clnorm_general_plane(b, call, t, n, c, none, CLNORM_GENERAL_ZERO);
}

/* A tile of one channel; of the last one also the tail. */
CLNORM_NOINLINE void clnorm_general_write(const clnorm_buffers *b, const clnorm_call *call,
                                          const clnorm_tile *t, clnorm_coefficients a, int mode) {
  for (clnorm_ulong n = t->n0; n < t->n1; n++) {
    if (mode == CLNORM_GENERAL_COPY)
      clnorm_general_plane(b, call, t, n, t->c0, a, CLNORM_GENERAL_COPY);
    else
      clnorm_general_plane(b, call, t, n, t->c0, a, CLNORM_GENERAL_NORMALIZE);
    clnorm_general_tail(b, call, t, n);
  }
}

/* ---- Items ------------------------------------------------------------------------------------------ */

CLNORM_FN void clnorm_general_channel(const clnorm_buffers *b, const clnorm_call *call,
                                      clnorm_ulong item) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_tile t = clnorm_tile_of_group(call, item);
  const clnorm_partial node = clnorm_general_node(b, call, &g, item, 0, g.segments);
  clnorm_general_write(b, call, &t, clnorm_coefficients_batch(b, call, item, node),
                       CLNORM_GENERAL_NORMALIZE);
}

CLNORM_FN void clnorm_general_partials(const clnorm_buffers *b, const clnorm_call *call,
                                       clnorm_ulong item) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong c = item / call->chunks;
  const clnorm_ulong begin = (item - c * call->chunks) << call->chunk_log2;
  const clnorm_ulong end = clnorm_min(begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  b->partials[item] = clnorm_general_node(b, call, &g, c, (clnorm_uint)begin, (clnorm_uint)end);
}

CLNORM_FN void clnorm_general_apply(const clnorm_buffers *b, const clnorm_call *call,
                                    clnorm_ulong item) {
  const clnorm_tile t = clnorm_tile_at(call, item);
  clnorm_general_write(b, call, &t, clnorm_tile_coefficients(b, call, &t, t.c0),
                       CLNORM_GENERAL_NORMALIZE);
}

CLNORM_FN void clnorm_general_copy(const clnorm_buffers *b, const clnorm_call *call,
                                   clnorm_ulong item) {
  const clnorm_tile t = clnorm_tile_at(call, item);
  const clnorm_coefficients none = {0.0f, 1.0f, 0.0f};
  clnorm_general_write(b, call, &t, none, CLNORM_GENERAL_COPY);
}

#endif
