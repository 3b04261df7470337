/*
 * The vector form: one worker (a CPU thread, or a work-group of one work-item) walks whole segments with
 * vectors. Read by the C compiler for the CPU path and by the OpenCL compiler for CPU-class devices.
 *
 * The rows of a segment are added one after the other, column by column; then the columns are folded. There
 * are two ways in which rows lie in memory, with one order of additions (docs/arithmetic.md):
 *
 *   slots: planes of more than 64 values      rows are 64 neighbouring values of one plane; a slot is the
 *                                             power of two of rows that holds a plane, or a piece of one
 *
 *      row 0  | x0  x1  .. x63
 *      row 1  | x64 x65 ..
 *
 *   runs: planes of up to 64 values           a row is a run: the planes of neighbouring channels, which are
 *                                             one piece of memory; rows are samples
 *
 *      sample 0  | c0 c0 .. c0 c1 c1 .. c1 c2 ..
 *      sample 1  | c0 c0 .. c0 c1 c1 .. c1 c2 ..
 *
 * Output is in vector_write.h, sums in vector_slots.h and vector_runs.h; here they become items: what one worker
 * does at a time (clnorm_stage in host/core/schedule.h).
 */
#ifndef CLNORM_VECTOR_H
#define CLNORM_VECTOR_H

#include "vector_finalize.h"
#include "vector_runs.h"
#include "vector_slots.h"

/* What the segments of a group of channels work with. */
typedef struct clnorm_group {
  CLNORM_GLOBAL const clnorm_in *x; /* the first plane */
  clnorm_ulong sample, channel;     /* elements from sample to sample, from channel to channel */
  clnorm_uint channels;
  clnorm_uint count, first; /* of the last segment that was not whole, */
  clnorm_reciprocals part;  /* and their reciprocals */
  clnorm_run_sums run;
} clnorm_group;

/* Runs are whole vectors where they can be: `vectors` channels are. */
CLNORM_FN void clnorm_group_runs(clnorm_group *k, const clnorm_geometry *g, const clnorm_segment *s,
                                 clnorm_reciprocals r, clnorm_nodes *nodes, clnorm_writer *w) {
  const clnorm_uint spatial = (clnorm_uint)g->spatial;
  const clnorm_uint vectors = CLNORM_LANES / clnorm_uint_min(spatial & -spatial, CLNORM_LANES);
  clnorm_uint most = CLNORM_RUN_MAX / spatial;
  if (most > vectors) most -= most % vectors;
  for (clnorm_uint c = 0; c < k->channels; c += most) {
    const clnorm_uint channels = clnorm_uint_min(most, k->channels - c);
    const clnorm_samples samples = clnorm_samples_at(k->x + c * spatial, k->sample, g, s, channels);
    clnorm_run_segment(&k->run, &samples, spatial, r, c, nodes, w);
  }
}

CLNORM_FN clnorm_reciprocals clnorm_group_reciprocals(clnorm_group *k, clnorm_uint count,
                                                      clnorm_uint first) {
  const clnorm_reciprocals whole = {1.0f / CLNORM_SEGMENT, 1.0f / CLNORM_BLOCK};
  if (count == CLNORM_SEGMENT) return whole;
  if (count != k->count || first != k->first) k->part = clnorm_reciprocals_make(count, first);
  k->count = count;
  k->first = first;
  return k->part;
}

CLNORM_FN void clnorm_group_start(clnorm_group *k, const clnorm_buffers *b, const clnorm_call *call,
                                  const clnorm_tile *t) {
  k->sample = call->views[CLNORM_VIEW_X].sample;
  k->channel = call->views[CLNORM_VIEW_X].channel;
  k->x = b->x + t->c0 * k->channel;
  k->channels = (clnorm_uint)(t->c1 - t->c0);
  k->count = 0;
}

/* Where a segment begins, from the group's first plane. */
CLNORM_FN clnorm_ulong clnorm_group_first(const clnorm_group *k, const clnorm_segment *s) {
  return s->sample * k->sample + s->position;
}

/* Nodes of segment `index`. */
CLNORM_FN void clnorm_group_segment(clnorm_group *k, const clnorm_geometry *g, clnorm_uint index,
                                    clnorm_nodes *nodes, clnorm_writer *w) {
  const clnorm_segment s = clnorm_segment_at(g, index);
  const clnorm_uint count = s.planes * s.extent;
  const clnorm_reciprocals r = clnorm_group_reciprocals(k, count, clnorm_segment_first(g, &s));
  nodes->count = count;
  if (g->spatial <= CLNORM_ROW) {
    clnorm_group_runs(k, g, &s, r, nodes, w);
    return;
  }
  const clnorm_ulong first = clnorm_group_first(k, &s);
  clnorm_ulong after = k->channels * k->channel;
  if (index + 1 < g->segments) {
    const clnorm_segment following = clnorm_segment_at(g, index + 1);
    after = clnorm_group_first(k, &following);
  }
  for (clnorm_uint c = 0; c < k->channels; c++) {
    const clnorm_ulong at = first + c * k->channel;
    const clnorm_ulong next = c + 1 < k->channels ? k->channel : after - at;
    const clnorm_slots slots = clnorm_slots_at(k->x + at, g, k->sample, &s, next);
    clnorm_nodes_set(nodes, c, clnorm_slots_partial(&slots, r, w));
  }
}

/* Nodes of segments [begin, end) of channels [c0, c1), at most CLNORM_CHANNELS_MAX of them, merged as by a
 * counter (counter.h), all channels alike. w is written on the way. */
CLNORM_FN void clnorm_group_nodes(const clnorm_buffers *b, const clnorm_call *call,
                                  const clnorm_tile *t, clnorm_uint begin, clnorm_uint end,
                                  clnorm_nodes *nodes, clnorm_writer *w) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  clnorm_group k;
  clnorm_nodes_stack stack;
  stack.depth = 0;
  clnorm_group_start(&k, b, call, t);
  for (clnorm_uint i = begin; i < end; i++) {
    clnorm_group_segment(&k, &g, i, &stack.at[stack.depth], w);
    clnorm_nodes_push(&stack, i - begin, k.channels);
  }
  clnorm_nodes_result(nodes, &stack, k.channels);
}

/* ---- Items ------------------------------------------------------------------------------------------ */

/* One group. While its statistics are computed, the output that w still has, that of the group before, is
 * written; then w has this group's. */
CLNORM_FN void clnorm_item_channel(const clnorm_buffers *b, const clnorm_call *call,
                                   clnorm_ulong item, clnorm_writer *w) {
  clnorm_nodes nodes;
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_tile t = clnorm_tile_of_group(call, item);
  clnorm_group_nodes(b, call, &t, 0, g.segments, &nodes, w);
  clnorm_write_all(w);
  clnorm_writer_start(w, b, call, &t, 1);
  clnorm_coefficient_rows_batch(&w->coefficients, b, call, &t, &nodes);
  clnorm_writer_expand(w);
}

/* One node of each channel of a group. */
CLNORM_FN void clnorm_item_partials(const clnorm_buffers *b, const clnorm_call *call,
                                    clnorm_ulong item) {
  clnorm_writer none;
  clnorm_nodes nodes;
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong group = item / call->chunks, chunk = item - group * call->chunks;
  const clnorm_tile t = clnorm_tile_of_group(call, group);
  const clnorm_ulong begin = chunk << call->chunk_log2;
  const clnorm_ulong end = clnorm_min(begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  clnorm_writer_none(&none);
  clnorm_group_nodes(b, call, &t, (clnorm_uint)begin, (clnorm_uint)end, &nodes, &none);
  for (clnorm_uint c = 0; c < t.c1 - t.c0; c++)
    b->partials[(t.c0 + c) * call->chunks + chunk] = clnorm_nodes_get(&nodes, c);
}

CLNORM_FN void clnorm_item_apply(const clnorm_buffers *b, const clnorm_call *call,
                                 clnorm_ulong item) {
  clnorm_writer w;
  const clnorm_tile t = clnorm_tile_at(call, item);
  clnorm_writer_start(&w, b, call, &t, 0);
  if (call->flags & CLNORM_BATCH_MODE)
    for (clnorm_ulong c = t.c0; c < t.c1; c++)
      clnorm_coefficient_rows_set(&w.coefficients, c - t.c0, b->coefficients[c]);
  else
    clnorm_coefficient_rows_given(&w.coefficients, b, call, &t);
  clnorm_writer_expand(&w);
  clnorm_write_all(&w);
}

CLNORM_FN void clnorm_item_copy(const clnorm_buffers *b, const clnorm_call *call,
                                clnorm_ulong item) {
  clnorm_writer w;
  const clnorm_tile t = clnorm_tile_at(call, item);
  const clnorm_coefficients none = {0.0f, 1.0f, 0.0f};
  clnorm_writer_start(&w, b, call, &t, 0);
  clnorm_coefficient_rows_set(&w.coefficients, 0, none);
  clnorm_write(&w, CLNORM_ALL_VECTORS, CLNORM_RUN_COPY);
}

#endif
