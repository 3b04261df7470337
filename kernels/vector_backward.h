/*
 * Backward, the vector form, lanes that are positions: planes that are each one piece of memory, at any distance. A
 * segment of a channel is read in vectors into arrays of places, in the worker's first cache, and swept there. The
 * channels of a group are read together, sample by sample; where they stay in the worker's cache, dx reads them there.
 */
#ifndef CLNORM_VECTOR_BACKWARD_H
#define CLNORM_VECTOR_BACKWARD_H

#include "tiles.h"
#include "vector_gradients.h"
#include "vector_write.h"

/* ---- Sums ------------------------------------------------------------------------------------------- */

/* A view's first element of a channel's segment; x and dy are of one type. */
CLNORM_FN clnorm_ulong clnorm_planes_at(const clnorm_call *call, clnorm_uint v,
                                        const clnorm_segment *segment, clnorm_ulong c) {
  const clnorm_view *view = &call->views[v];
  return segment->sample * view->sample + c * view->channel + segment->position;
}

/* Values minus hi, plane by plane; what is stored past a plane's end is replaced later. */
CLNORM_FN void clnorm_planes_gather(clnorm_gathered *s, CLNORM_GLOBAL const clnorm_in *p,
                                    clnorm_ulong sample, clnorm_vec hi) {
  for (clnorm_uint plane = 0; plane < s->planes; plane++) {
    CLNORM_GLOBAL const clnorm_in *from = p + plane * sample;
    clnorm_real *to = s->values + plane * s->slot;
    clnorm_uint i = 0;
    for (; i + CLNORM_LANES <= s->extent; i += CLNORM_LANES)
      clnorm_vec_store_private(to + i, clnorm_vec_load(from + i) - hi);
    if (i < s->extent)
      clnorm_vec_store_private(to + i, clnorm_vec_load_part(from + i, s->extent - i, hi) - hi);
  }
}

/* The sums over a channel's segment. */
CLNORM_NOINLINE clnorm_sums clnorm_planes_sums(const clnorm_buffers *b, const clnorm_call *call,
                                               const clnorm_geometry *geometry,
                                               const clnorm_segment *segment, clnorm_ulong c,
                                               clnorm_real hi) {
  clnorm_gathered d, g;
  clnorm_gathered_start(&g, geometry, segment);
  clnorm_planes_gather(&g, b->dy + clnorm_planes_at(call, CLNORM_VIEW_DY, segment, c),
                       call->views[CLNORM_VIEW_DY].sample, clnorm_splat(0.0f));
  if (!(call->flags & CLNORM_READS_X)) return clnorm_gathered_sums(&g, &g, 0);
  clnorm_gathered_start(&d, geometry, segment);
  clnorm_planes_gather(&d, b->x + clnorm_planes_at(call, CLNORM_VIEW_X, segment, c),
                       call->views[CLNORM_VIEW_X].sample, clnorm_splat(hi));
  return clnorm_gathered_sums(&d, &g, 1);
}

/* Sums over segments [begin, end) of a group's channels, at most CLNORM_CHANNELS_MAX of them. */
CLNORM_FN void clnorm_planes_nodes(const clnorm_buffers *b, const clnorm_call *call,
                                   const clnorm_tile *t, clnorm_ulong begin, clnorm_ulong end,
                                   clnorm_sums *nodes) {
  clnorm_sums_counter counters[CLNORM_CHANNELS_MAX];
  clnorm_real hi[CLNORM_CHANNELS_MAX];
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_uint channels = (clnorm_uint)(t->c1 - t->c0);
  for (clnorm_uint c = 0; c < channels; c++) {
    counters[c].count = counters[c].depth = 0;
    hi[c] = clnorm_normalizer_get(b, call, t->c0 + c).hi;
  }
  for (clnorm_ulong i = begin; i < clnorm_min(end, g.segments); i++) {
    const clnorm_segment segment = clnorm_segment_at(&g, (clnorm_uint)i);
    for (clnorm_uint c = 0; c < channels; c++)
      clnorm_sums_counter_push(&counters[c],
                               clnorm_planes_sums(b, call, &g, &segment, t->c0 + c, hi[c]));
  }
  for (clnorm_uint c = 0; c < channels; c++) nodes[c] = clnorm_sums_counter_result(&counters[c]);
}

/* ---- Output ----------------------------------------------------------------------------------------- */

/* What dx of a channel is made of. */
typedef struct clnorm_dx_splats {
  clnorm_vec hi, slope, shift, scale;
} clnorm_dx_splats;

/* A piece of a plane. */
typedef struct clnorm_dx_piece {
  CLNORM_GLOBAL const clnorm_in *x, *dy;
  CLNORM_GLOBAL clnorm_out *dx;
  clnorm_ulong count;
} clnorm_dx_piece;

/* clnorm_dx_of, of vectors. */
CLNORM_FN clnorm_vec clnorm_dx_vec(const clnorm_dx_splats *a, clnorm_vec g, clnorm_vec x,
                                   int batch) {
  if (!batch) return g * a->scale;
  return clnorm_vec_fma(a->hi - x, a->slope, g - a->shift) * a->scale;
}

CLNORM_FN clnorm_vec clnorm_dx_whole(const clnorm_dx_splats *a, const clnorm_dx_piece *p,
                                     clnorm_ulong i, int batch) {
  const clnorm_vec g = clnorm_vec_load(p->dy + i);
  return clnorm_dx_vec(a, g, batch ? clnorm_vec_load(p->x + i) : g, batch);
}

/* n elements from i on, fewer than a vector. */
CLNORM_FN void clnorm_dx_part(const clnorm_dx_splats *a, const clnorm_dx_piece *p, clnorm_ulong i,
                              clnorm_uint n, int batch) {
  const clnorm_vec g = clnorm_vec_load_part(p->dy + i, n, clnorm_splat(0.0f));
  const clnorm_vec x = batch ? clnorm_vec_load_part(p->x + i, n, clnorm_splat(0.0f)) : g;
  clnorm_vec_store_part(p->dx + i, clnorm_dx_vec(a, g, x, batch), n);
}

/* batch, a constant: statistics of the batch. Streamed stores are aligned. */
CLNORM_FN void clnorm_dx_write(const clnorm_dx_splats *a, const clnorm_dx_piece *p, int streamed,
                               int batch) {
  const clnorm_uint lead = clnorm_lead(p->dx, sizeof *p->dx);
  clnorm_ulong i = 0;
  if (streamed && lead) {
    i = clnorm_min(CLNORM_LANES - lead, p->count);
    clnorm_dx_part(a, p, 0, (clnorm_uint)i, batch);
  }
  if (streamed)
    for (; i + CLNORM_LANES <= p->count; i += CLNORM_LANES)
      clnorm_vec_stream(p->dx + i, clnorm_dx_whole(a, p, i, batch));
  for (; i + CLNORM_LANES <= p->count; i += CLNORM_LANES)
    clnorm_vec_store(p->dx + i, clnorm_dx_whole(a, p, i, batch));
  if (i < p->count) clnorm_dx_part(a, p, i, (clnorm_uint)(p->count - i), batch);
}

/* A tile, the last sample first: what was read last is still in the cache. */
CLNORM_NOINLINE void clnorm_planes_dx(const clnorm_buffers *b, const clnorm_call *call,
                                      const clnorm_tile *t,
                                      const clnorm_gradient_coefficients *coefficients) {
  const clnorm_view *x = &call->views[CLNORM_VIEW_X], *dy = &call->views[CLNORM_VIEW_DY];
  const clnorm_view *dx = &call->views[CLNORM_VIEW_Y];
  const int streamed = (call->flags & CLNORM_STREAMED) != 0;
  for (clnorm_ulong n = t->n1; n-- > t->n0;)
    for (clnorm_ulong c = t->c0; c < t->c1; c++) {
      const clnorm_gradient_coefficients *k = &coefficients[c - t->c0];
      const clnorm_dx_splats a = {clnorm_splat(k->hi), clnorm_splat(k->slope),
                                  clnorm_splat(k->shift), clnorm_splat(k->scale)};
      const clnorm_dx_piece p = {b->x + n * x->sample + c * x->channel + t->p0,
                                 b->dy + n * dy->sample + c * dy->channel + t->p0,
                                 b->y + n * dx->sample + c * dx->channel + t->p0, t->p1 - t->p0};
      if (call->flags & CLNORM_BATCH_MODE)
        clnorm_dx_write(&a, &p, streamed, 1);
      else
        clnorm_dx_write(&a, &p, streamed, 0);
    }
}

/* ---- Items ------------------------------------------------------------------------------------------ */

CLNORM_FN void clnorm_item_backward_channel(const clnorm_buffers *b, const clnorm_call *call,
                                            clnorm_ulong item) {
  clnorm_sums nodes[CLNORM_CHANNELS_MAX];
  clnorm_gradient_coefficients a[CLNORM_CHANNELS_MAX];
  const clnorm_tile t = clnorm_tile_of_group(call, item);
  clnorm_planes_nodes(b, call, &t, 0, ~(clnorm_ulong)0, nodes);
  for (clnorm_ulong c = t.c0; c < t.c1; c++)
    a[c - t.c0] = clnorm_gradient_coefficients_make(b, call, c, clnorm_normalizer_get(b, call, c),
                                                    nodes[c - t.c0]);
  if (call->flags & CLNORM_HAS_DX) clnorm_planes_dx(b, call, &t, a);
}

CLNORM_FN void clnorm_item_backward_partials(const clnorm_buffers *b, const clnorm_call *call,
                                             clnorm_ulong item) {
  clnorm_sums nodes[CLNORM_CHANNELS_MAX];
  const clnorm_ulong group = item / call->chunks, chunk = item - group * call->chunks;
  const clnorm_tile t = clnorm_tile_of_group(call, group);
  clnorm_planes_nodes(b, call, &t, chunk << call->chunk_log2, (chunk + 1) << call->chunk_log2,
                      nodes);
  for (clnorm_ulong c = t.c0; c < t.c1; c++) b->sums[c * call->chunks + chunk] = nodes[c - t.c0];
}

CLNORM_FN void clnorm_item_backward_apply(const clnorm_buffers *b, const clnorm_call *call,
                                          clnorm_ulong item) {
  clnorm_gradient_coefficients a[CLNORM_CHANNELS_MAX];
  const clnorm_tile t = clnorm_tile_at(call, item);
  for (clnorm_ulong c = t.c0; c < t.c1; c++)
    a[c - t.c0] = clnorm_tile_gradient_coefficients(b, call, c);
  clnorm_planes_dx(b, call, &t, a);
}

#endif
