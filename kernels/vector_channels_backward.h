/*
 * Backward, the vector form, channels side by side in memory (NHWC, channel blocks): a column of places is a vector of
 * channels. The rows of a block are added in registers, column after column; then 64 columns are folded as vectors.
 */
#ifndef CLNORM_VECTOR_CHANNELS_BACKWARD_H
#define CLNORM_VECTOR_CHANNELS_BACKWARD_H

#include "vector_backward.h"
#include "vector_channels.h"

/* ---- Sums ------------------------------------------------------------------------------------------- */

/* A segment of up to a vector of channels. */
typedef struct clnorm_lanes_segment {
  /* the first channel at the first place */
  CLNORM_GLOBAL const clnorm_in *x, *dy;
  /* elements from one to the next */
  clnorm_ulong x_sample, x_position, dy_sample, dy_position;
  clnorm_uint lanes;
  clnorm_uint planes, extent, slot_log2;
} clnorm_lanes_segment;

CLNORM_FN clnorm_lanes_segment clnorm_lanes_segment_at(const clnorm_buffers *b,
                                                       const clnorm_call *call,
                                                       const clnorm_geometry *g, clnorm_uint index,
                                                       clnorm_ulong c, clnorm_uint lanes) {
  const clnorm_view *x = &call->views[CLNORM_VIEW_X], *dy = &call->views[CLNORM_VIEW_DY];
  const clnorm_segment segment = clnorm_segment_at(g, index);
  clnorm_lanes_segment s;
  s.x = b->x + clnorm_plane_at(x, segment.sample, c) + segment.position * x->position[2];
  s.dy = b->dy + clnorm_plane_at(dy, segment.sample, c) + segment.position * dy->position[2];
  s.x_sample = x->sample;
  s.x_position = x->position[2];
  s.dy_sample = dy->sample;
  s.dy_position = dy->position[2];
  s.lanes = lanes;
  s.planes = segment.planes;
  s.extent = segment.extent;
  s.slot_log2 = g->slot_log2;
  return s;
}

/* Sums over the rows of a block in one column; whole and deviates, constants: all lanes are there, x is read. */
CLNORM_FN clnorm_moments clnorm_lanes_column(const clnorm_lanes_segment *s, clnorm_uint place,
                                             clnorm_vec hi, int whole, int deviates) {
  clnorm_moments m = clnorm_moments_none();
  const clnorm_vec zero = clnorm_splat(0.0f);
  CLNORM_UNROLL
  for (clnorm_uint row = 0; row < CLNORM_BLOCK_ROWS; row++, place += CLNORM_ROW) {
    const clnorm_uint plane = place >> s->slot_log2, at = place - (plane << s->slot_log2);
    if (plane >= s->planes || at >= s->extent) continue;
    CLNORM_GLOBAL const clnorm_in *dy = s->dy + plane * s->dy_sample + at * s->dy_position;
    CLNORM_GLOBAL const clnorm_in *x = s->x + plane * s->x_sample + at * s->x_position;
    const clnorm_vec g = whole ? clnorm_vec_load(dy) : clnorm_vec_load_part(dy, s->lanes, zero);
    if (deviates)
      m = clnorm_moments_weigh(
          m, g, (whole ? clnorm_vec_load(x) : clnorm_vec_load_part(x, s->lanes, zero)) - hi);
    else
      m.d = m.d + g;
  }
  return m;
}

/* Sums of each lane over all places, folded. */
CLNORM_FN clnorm_moments clnorm_lanes_sweep(const clnorm_lanes_segment *s, clnorm_vec hi, int whole,
                                            int deviates) {
  clnorm_moments m[CLNORM_ROW];
  const clnorm_uint places = ((s->planes - 1) << s->slot_log2) + s->extent;
  const clnorm_uint columns = clnorm_uint_min(places, CLNORM_ROW);
  for (clnorm_uint i = 0; i < CLNORM_ROW; i++) m[i] = clnorm_moments_none();
  for (clnorm_uint block = 0; block * CLNORM_BLOCK < places; block++)
    for (clnorm_uint i = 0; i < columns; i++)
      m[i] = clnorm_moments_add(
          m[i], clnorm_lanes_column(s, block * CLNORM_BLOCK + i, hi, whole, deviates));
  for (clnorm_uint w = CLNORM_ROW / 2; w; w /= 2)
    for (clnorm_uint i = 0; i < w; i++) m[i] = clnorm_moments_add(m[i], m[i + w]);
  return m[0];
}

CLNORM_NOINLINE clnorm_moments clnorm_lanes_sums(const clnorm_lanes_segment *s, clnorm_vec hi,
                                                 int deviates) {
  if (s->lanes < CLNORM_LANES && deviates) return clnorm_lanes_sweep(s, hi, 0, 1);
  if (s->lanes < CLNORM_LANES) return clnorm_lanes_sweep(s, hi, 0, 0);
  if (deviates) return clnorm_lanes_sweep(s, hi, 1, 1);
  return clnorm_lanes_sweep(s, hi, 1, 0);
}

/* Of channels from c on, as many as a vector takes that follow each other in x and in dy. */
CLNORM_FN clnorm_uint clnorm_lanes_beside(const clnorm_call *call, clnorm_ulong c,
                                          clnorm_ulong end) {
  const clnorm_ulong n = clnorm_view_beside(&call->views[CLNORM_VIEW_X], c, end - c);
  return (clnorm_uint)clnorm_min(clnorm_view_beside(&call->views[CLNORM_VIEW_DY], c, n),
                                 CLNORM_LANES);
}

/* Sums over segments [begin, end) of `lanes` channels from c on. */
CLNORM_FN void clnorm_lanes_nodes(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                  clnorm_uint lanes, clnorm_ulong begin, clnorm_ulong end,
                                  clnorm_sums *nodes) {
  clnorm_sums_counter counters[CLNORM_LANES];
  clnorm_real hi[CLNORM_LANES], s[CLNORM_LANES], t[CLNORM_LANES];
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const int deviates = (call->flags & CLNORM_READS_X) != 0;
  for (clnorm_uint i = 0; i < CLNORM_LANES; i++) {
    counters[i].count = counters[i].depth = 0;
    hi[i] = i < lanes ? clnorm_normalizer_get(b, call, c + i).hi : 0.0f;
  }
  for (clnorm_ulong i = begin; i < clnorm_min(end, g.segments); i++) {
    const clnorm_lanes_segment segment =
        clnorm_lanes_segment_at(b, call, &g, (clnorm_uint)i, c, lanes);
    const clnorm_moments m = clnorm_lanes_sums(&segment, clnorm_vec_load_private(hi), deviates);
    clnorm_vec_store_private(s, m.d);
    clnorm_vec_store_private(t, m.dd);
    for (clnorm_uint k = 0; k < lanes; k++)
      clnorm_sums_counter_push(&counters[k], clnorm_sums_make(s[k], t[k]));
  }
  for (clnorm_uint k = 0; k < lanes; k++) nodes[k] = clnorm_sums_counter_result(&counters[k]);
}

/* ---- Output ----------------------------------------------------------------------------------------- */

/* Coefficients of a tile's channels, side by side; a vector may go past the end. */
typedef struct clnorm_dx_table {
  clnorm_real hi[CLNORM_TABLE_CHANNELS + CLNORM_LANES];
  clnorm_real slope[CLNORM_TABLE_CHANNELS + CLNORM_LANES];
  clnorm_real shift[CLNORM_TABLE_CHANNELS + CLNORM_LANES];
  clnorm_real scale[CLNORM_TABLE_CHANNELS + CLNORM_LANES];
} clnorm_dx_table;

CLNORM_FN void clnorm_dx_table_set(clnorm_dx_table *t, clnorm_ulong at,
                                   clnorm_gradient_coefficients a) {
  t->hi[at] = a.hi;
  t->slope[at] = a.slope;
  t->shift[at] = a.shift;
  t->scale[at] = a.scale;
}

/* What a vector reads behind n channels: nobody uses it, but it is there. */
CLNORM_FN void clnorm_dx_table_end(clnorm_dx_table *t, clnorm_ulong n) {
  const clnorm_vec zero = clnorm_splat(0.0f);
  clnorm_vec_store_private(t->hi + n, zero);
  clnorm_vec_store_private(t->slope + n, zero);
  clnorm_vec_store_private(t->shift + n, zero);
  clnorm_vec_store_private(t->scale + n, zero);
}

CLNORM_FN clnorm_dx_splats clnorm_dx_table_get(const clnorm_dx_table *t, clnorm_ulong at) {
  const clnorm_dx_splats a = {
      clnorm_vec_load_private(t->hi + at), clnorm_vec_load_private(t->slope + at),
      clnorm_vec_load_private(t->shift + at), clnorm_vec_load_private(t->scale + at)};
  return a;
}

/* Channels that follow each other, of one position; the table's from `at` on. */
CLNORM_FN void clnorm_lanes_dx(const clnorm_dx_table *t, clnorm_ulong at, const clnorm_dx_piece *p,
                               int streamed, int batch) {
  clnorm_ulong i = 0;
  for (; i + CLNORM_LANES <= p->count; i += CLNORM_LANES) {
    const clnorm_dx_splats a = clnorm_dx_table_get(t, at + i);
    if (streamed)
      clnorm_vec_stream(p->dx + i, clnorm_dx_whole(&a, p, i, batch));
    else
      clnorm_vec_store(p->dx + i, clnorm_dx_whole(&a, p, i, batch));
  }
  if (i == p->count) return;
  const clnorm_dx_splats a = clnorm_dx_table_get(t, at + i);
  clnorm_dx_part(&a, p, i, (clnorm_uint)(p->count - i), batch);
}

/* A tile of one sample and of channels that follow each other in all tensors; the table's from `at` on. */
CLNORM_FN void clnorm_lanes_positions(const clnorm_buffers *b, const clnorm_call *call,
                                      const clnorm_dx_table *table, clnorm_ulong at,
                                      const clnorm_tile *t, int batch) {
  const clnorm_view *x = &call->views[CLNORM_VIEW_X], *dy = &call->views[CLNORM_VIEW_DY];
  const clnorm_view *dx = &call->views[CLNORM_VIEW_Y];
  const clnorm_ulong x_at = clnorm_plane_at(x, t->n0, t->c0);
  const clnorm_ulong dy_at = clnorm_plane_at(dy, t->n0, t->c0);
  const clnorm_ulong dx_at = clnorm_plane_at(dx, t->n0, t->c0);
  for (clnorm_ulong p = t->p0; p < t->p1; p++) {
    const clnorm_dx_piece piece = {b->x + x_at + p * x->position[2],
                                   b->dy + dy_at + p * dy->position[2],
                                   b->y + dx_at + p * dx->position[2], t->c1 - t->c0};
    if (call->flags & CLNORM_STREAMED && clnorm_lead(piece.dx, sizeof *piece.dx) == 0)
      clnorm_lanes_dx(table, at, &piece, 1, batch);
    else
      clnorm_lanes_dx(table, at, &piece, 0, batch);
  }
}

/* A tile, whose coefficients are the table's. */
CLNORM_NOINLINE void clnorm_channels_dx(const clnorm_buffers *b, const clnorm_call *call,
                                        const clnorm_dx_table *table, const clnorm_tile *tile) {
  clnorm_tile t = *tile;
  for (t.n0 = tile->n1; t.n0-- > tile->n0;)
    for (t.c0 = tile->c0; t.c0 < tile->c1; t.c0 = t.c1) {
      clnorm_ulong n = tile->c1 - t.c0;
      for (clnorm_uint v = 0; v < CLNORM_NUM_VIEWS; v++)
        n = clnorm_view_beside(&call->views[v], t.c0, n);
      t.c1 = t.c0 + n;
      if (call->flags & CLNORM_BATCH_MODE)
        clnorm_lanes_positions(b, call, table, t.c0 - tile->c0, &t, 1);
      else
        clnorm_lanes_positions(b, call, table, t.c0 - tile->c0, &t, 0);
      clnorm_tail_write(b, call, &t);
    }
}

/* ---- Items ------------------------------------------------------------------------------------------ */

CLNORM_FN void clnorm_channels_backward_channel(const clnorm_buffers *b, const clnorm_call *call,
                                                clnorm_ulong item) {
  clnorm_dx_table table;
  clnorm_sums nodes[CLNORM_LANES];
  const clnorm_tile t = clnorm_tile_of_group(call, item);
  clnorm_uint lanes;
  for (clnorm_ulong c = t.c0; c < t.c1; c += lanes) {
    lanes = clnorm_lanes_beside(call, c, t.c1);
    clnorm_lanes_nodes(b, call, c, lanes, 0, ~(clnorm_ulong)0, nodes);
    for (clnorm_uint i = 0; i < lanes; i++)
      clnorm_dx_table_set(&table, c + i - t.c0,
                          clnorm_gradient_coefficients_make(
                              b, call, c + i, clnorm_normalizer_get(b, call, c + i), nodes[i]));
  }
  clnorm_dx_table_end(&table, t.c1 - t.c0);
  if (call->flags & CLNORM_HAS_DX) clnorm_channels_dx(b, call, &table, &t);
}

CLNORM_FN void clnorm_channels_backward_partials(const clnorm_buffers *b, const clnorm_call *call,
                                                 clnorm_ulong item) {
  clnorm_sums nodes[CLNORM_LANES];
  const clnorm_ulong group = item / call->chunks, chunk = item - group * call->chunks;
  const clnorm_tile t = clnorm_tile_of_group(call, group);
  clnorm_uint lanes;
  for (clnorm_ulong c = t.c0; c < t.c1; c += lanes) {
    lanes = clnorm_lanes_beside(call, c, t.c1);
    clnorm_lanes_nodes(b, call, c, lanes, chunk << call->chunk_log2,
                       (chunk + 1) << call->chunk_log2, nodes);
    for (clnorm_uint i = 0; i < lanes; i++) b->sums[(c + i) * call->chunks + chunk] = nodes[i];
  }
}

CLNORM_FN void clnorm_channels_backward_apply(const clnorm_buffers *b, const clnorm_call *call,
                                              clnorm_ulong item) {
  clnorm_dx_table table;
  const clnorm_tile t = clnorm_tile_at(call, item);
  for (clnorm_ulong c = t.c0; c < t.c1; c++)
    clnorm_dx_table_set(&table, c - t.c0, clnorm_tile_gradient_coefficients(b, call, c));
  clnorm_dx_table_end(&table, t.c1 - t.c0);
  clnorm_channels_dx(b, call, &table, &t);
}

#endif
