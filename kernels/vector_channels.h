/*
 * The vector form, channels side by side in memory (NHWC, channel blocks): output, and items. A group may have any
 * channels; x and y may have blocks of different sizes. What both have in one piece is written position after
 * position; where nothing lies between a position and the next, as one line, whose coefficients are repeated, so
 * that even few or odd channels are whole vectors.
 */
#ifndef CLNORM_VECTOR_CHANNELS_H
#define CLNORM_VECTOR_CHANNELS_H

#include "vector_channel_sums.h"
#include "vector_nodes.h"
#include "view.h"

/* ---- Pieces ----------------------------------------------------------------------------------------- */

/* Of n channels from c on, how many follow each other in memory. */
CLNORM_FN clnorm_ulong clnorm_view_beside(const clnorm_view *v, clnorm_ulong c, clnorm_ulong n) {
  return v->block == 1 ? n : clnorm_min(n, v->block - c % v->block);
}

/* ---- Statistics ------------------------------------------------------------------------------------- */

/* Nodes of segments [begin, end) of a tile's channels, at most CLNORM_CHANNELS_MAX of them. */
CLNORM_FN void clnorm_channels_nodes(const clnorm_buffers *b, const clnorm_call *call,
                                     const clnorm_tile *t, clnorm_uint begin, clnorm_uint end,
                                     clnorm_nodes *nodes) {
  const clnorm_view *x = &call->views[CLNORM_VIEW_X];
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  clnorm_beside_sums sums;
  clnorm_nodes_stack stack;
  stack.depth = 0;
  for (clnorm_uint i = begin; i < end; i++) {
    const clnorm_segment segment = clnorm_segment_at(&g, i);
    const clnorm_uint count = segment.planes * segment.extent;
    const clnorm_reciprocals r = clnorm_reciprocals_make(count, clnorm_segment_first(&g, &segment));
    clnorm_nodes *node = &stack.at[stack.depth];
    node->count = count;
    for (clnorm_ulong c = t->c0; c < t->c1;) {
      const clnorm_ulong piece = clnorm_view_beside(x, c, t->c1 - c);
      const clnorm_ulong sweeps = (piece + CLNORM_BESIDE_MAX - 1) / CLNORM_BESIDE_MAX;
      const clnorm_uint channels = (clnorm_uint)((piece + sweeps - 1) / sweeps);
      const clnorm_beside s =
          clnorm_beside_at(b->x + clnorm_plane_at(x, 0, c), x, &g, &segment, channels);
      clnorm_beside_nodes(&sums, &s, r, (clnorm_uint)(c - t->c0), node);
      c += channels;
    }
    clnorm_nodes_push(&stack, i - begin, (clnorm_uint)(t->c1 - t->c0));
  }
  clnorm_nodes_result(nodes, &stack, (clnorm_uint)(t->c1 - t->c0));
}

/* ---- Output ----------------------------------------------------------------------------------------- */

#define CLNORM_TABLE_CHANNELS 2048u /* of a tile */
#define CLNORM_TABLE_REPEATED 256u
#define CLNORM_TABLE_SPARE (2 * CLNORM_LANES) /* what is stored, or read in vain, past an end */
#define CLNORM_TABLE_VALUES (CLNORM_TABLE_CHANNELS + CLNORM_TABLE_REPEATED + 2 * CLNORM_TABLE_SPARE)

/* Coefficients of a tile's channels; behind them those of a piece of up to TABLE_REPEATED again and again. */
typedef struct clnorm_table {
  clnorm_real hi[CLNORM_TABLE_VALUES] __attribute__((aligned(64)));
  clnorm_real scale[CLNORM_TABLE_VALUES] __attribute__((aligned(64)));
  clnorm_real shift[CLNORM_TABLE_VALUES] __attribute__((aligned(64)));
} clnorm_table;

CLNORM_FN void clnorm_table_set(clnorm_table *a, clnorm_ulong at, clnorm_coefficients k) {
  a->hi[at] = k.hi;
  a->scale[at] = k.scale;
  a->shift[at] = k.shift;
}

CLNORM_FN void clnorm_table_rows(clnorm_table *a, clnorm_ulong at,
                                 const clnorm_coefficient_rows *rows, clnorm_ulong n) {
  for (clnorm_ulong c = 0; c < n; c++) {
    const clnorm_coefficients k = {rows->hi[c], rows->scale[c], rows->shift[c]};
    clnorm_table_set(a, at + c, k);
  }
}

/* Pieces of memory in which the same channels come again and again: element i has the coefficients that are
 * i modulo `period` behind `at` in the table. */
typedef struct clnorm_lines {
  clnorm_uint at, period;
  clnorm_uint end;   /* of the first period in the table */
  clnorm_uint flags; /* of the call */
} clnorm_lines;

CLNORM_FN void clnorm_table_repeat(clnorm_table *a, clnorm_uint to, clnorm_uint from, clnorm_uint n,
                                   clnorm_uint repeats) {
  clnorm_repeat(a->hi + to, a->hi + from, n, repeats);
  clnorm_repeat(a->scale + to, a->scale + from, n, repeats);
  clnorm_repeat(a->shift + to, a->shift + from, n, repeats);
}

/* Lines of a piece of channels from `at` of the table on. In lines of several positions they are repeated: few of them
 * to a vector, if that is a period, or so often that loops over the table are not short; many as far as the vector
 * that the next position begins in. */
CLNORM_FN clnorm_lines clnorm_lines_make(clnorm_table *a, clnorm_uint at, clnorm_uint channels,
                                         clnorm_uint flags, int several) {
  clnorm_lines k = {at, channels, at + channels, flags};
  if (!several) return k;
  if (channels > CLNORM_TABLE_REPEATED) {
    clnorm_table_repeat(a, at, at, channels, 1);
    return k;
  }
  const clnorm_uint length = CLNORM_LANES % channels == 0 ? CLNORM_LANES : CLNORM_TABLE_REPEATED;
  k.at = CLNORM_TABLE_CHANNELS + CLNORM_TABLE_SPARE;
  k.period = length / channels * channels;
  k.end = k.at + k.period;
  clnorm_table_repeat(a, k.at, at, channels, length / channels);
  return k;
}

/* Lines of which nobody needs the coefficients, but which are there to be read. */
CLNORM_FN clnorm_lines clnorm_lines_copy(clnorm_table *a, clnorm_uint flags) {
  for (clnorm_uint i = 0; i < 2 * CLNORM_LANES; i++) {
    const clnorm_coefficients none = {0.0f, 1.0f, 0.0f};
    clnorm_table_set(a, i, none);
  }
  const clnorm_lines k = {0, CLNORM_LANES, CLNORM_LANES, flags};
  return k;
}

CLNORM_FN clnorm_splats clnorm_table_splats(const clnorm_table *a, clnorm_uint at) {
  const clnorm_splats k = {clnorm_vec_load_private(a->hi + at),
                           clnorm_vec_load_private(a->scale + at),
                           clnorm_vec_load_private(a->shift + at)};
  return k;
}

/* Whole vectors of n elements of a line, of which `at` of the table has the first coefficients. A period of one vector
 * stays in registers; otherwise as far as the table goes. `streamed` is a constant. */
CLNORM_FN clnorm_ulong clnorm_line_whole(const clnorm_lines *k, const clnorm_table *a,
                                         CLNORM_GLOBAL clnorm_out *y,
                                         CLNORM_GLOBAL const clnorm_in *x, clnorm_ulong n, int copy,
                                         int streamed) {
  clnorm_ulong i = 0;
  if (k->period == CLNORM_LANES) {
    const clnorm_splats all = clnorm_table_splats(a, k->at);
    for (; i + CLNORM_LANES <= n; i += CLNORM_LANES) clnorm_put(all, y + i, x + i, copy, streamed);
    return i;
  }
  const clnorm_ulong end = clnorm_min(k->end - k->at, n - (CLNORM_LANES - 1));
  for (; i < end; i += CLNORM_LANES)
    clnorm_put(clnorm_table_splats(a, k->at + (clnorm_uint)i), y + i, x + i, copy, streamed);
  return i;
}

/* A line of n elements. Where y is streamed, it begins with what is left of a vector that is aligned. */
CLNORM_FN void clnorm_line_write(const clnorm_lines *lines, const clnorm_table *a,
                                 CLNORM_GLOBAL clnorm_out *y, CLNORM_GLOBAL const clnorm_in *x,
                                 clnorm_ulong n, int copy) {
  clnorm_lines k = *lines;
  const int streamed = (k.flags & CLNORM_STREAMED) != 0;
  const clnorm_uint lead = streamed ? clnorm_lead(y, sizeof *y) : 0;
  clnorm_ulong i = lead ? clnorm_min(CLNORM_LANES - lead, n) : 0;
  if (i) clnorm_put_part(clnorm_table_splats(a, k.at), y, x, (clnorm_uint)i, copy);
  k.at += (clnorm_uint)i;
  while (i + CLNORM_LANES <= n) {
    const clnorm_ulong done = streamed ? clnorm_line_whole(&k, a, y + i, x + i, n - i, copy, 1)
                                       : clnorm_line_whole(&k, a, y + i, x + i, n - i, copy, 0);
    i += done;
    if (k.period == CLNORM_LANES) break;
    k.at += (clnorm_uint)done;
    if (k.at >= k.end) k.at -= k.period;
  }
  if (i < n)
    clnorm_put_part(clnorm_table_splats(a, k.at), y + i, x + i, (clnorm_uint)(n - i), copy);
}

/* A tile of one piece and one sample: one line where nothing lies between a position and the next, else a line for
 * each. */
CLNORM_FN void clnorm_lines_write(const clnorm_lines *k, const clnorm_table *a,
                                  const clnorm_buffers *b, const clnorm_call *call,
                                  const clnorm_tile *t, int copy, int several) {
  const clnorm_view *vx = &call->views[CLNORM_VIEW_X], *vy = &call->views[CLNORM_VIEW_Y];
  CLNORM_GLOBAL const clnorm_in *x =
      b->x + clnorm_plane_at(vx, t->n0, t->c0) + t->p0 * vx->position[2];
  CLNORM_GLOBAL clnorm_out *y = b->y + clnorm_plane_at(vy, t->n0, t->c0) + t->p0 * vy->position[2];
  const clnorm_ulong positions = t->p1 - t->p0, channels = t->c1 - t->c0;
  if (several) {
    clnorm_line_write(k, a, y, x, positions * channels, copy);
    return;
  }
  for (clnorm_ulong p = 0; p < positions; p++)
    clnorm_line_write(k, a, y + p * vy->position[2], x + p * vx->position[2], channels, copy);
}

/* What the last block of y has beyond the tensor's channels becomes 0, in one sample. */
CLNORM_FN void clnorm_tail_write(const clnorm_buffers *b, const clnorm_call *call,
                                 const clnorm_tile *t) {
  const clnorm_view *v = &call->views[CLNORM_VIEW_Y];
  const clnorm_ulong used = call->channels % v->block;
  if (!used || t->c1 != call->channels || !(call->flags & CLNORM_OWNS_TAIL)) return;
  const clnorm_ulong first = clnorm_plane_at(v, t->n0, call->channels);
  for (clnorm_ulong p = t->p0; p < t->p1; p++)
    for (clnorm_ulong i = 0; i < v->block - used; i++)
      clnorm_element_store(b->y, first + p * v->position[2] + i, 0.0f);
}

/* A tile, whose coefficients are the table's first. copy, a constant: y = x, and there are none. */
CLNORM_FN void clnorm_channels_write(clnorm_table *a, const clnorm_buffers *b,
                                     const clnorm_call *call, const clnorm_tile *tile, int copy) {
  const clnorm_view *x = &call->views[CLNORM_VIEW_X], *y = &call->views[CLNORM_VIEW_Y];
  clnorm_tile t = *tile;
  for (; t.c0 < tile->c1; t.c0 = t.c1) {
    const clnorm_ulong n =
        clnorm_view_beside(y, t.c0, clnorm_view_beside(x, t.c0, tile->c1 - t.c0));
    /* Many channels have room behind them where they are all that the tile has. */
    const int several = x->position[2] == n && y->position[2] == n &&
                        (n <= CLNORM_TABLE_REPEATED || n == tile->c1 - tile->c0);
    const clnorm_lines k = copy ? clnorm_lines_copy(a, call->flags)
                                : clnorm_lines_make(a, (clnorm_uint)(t.c0 - tile->c0),
                                                    (clnorm_uint)n, call->flags, several);
    t.c1 = t.c0 + n;
    for (clnorm_ulong sample = tile->n0; sample < tile->n1; sample++) {
      t.n0 = sample;
      clnorm_lines_write(&k, a, b, call, &t, copy, several);
      clnorm_tail_write(b, call, &t);
    }
  }
}

/* ---- Items ------------------------------------------------------------------------------------------ */

/* Up to CLNORM_CHANNELS_MAX of a tile's channels, from c0 on. */
CLNORM_FN clnorm_tile clnorm_tile_some(const clnorm_tile *tile, clnorm_ulong c0) {
  clnorm_tile t = *tile;
  t.c0 = c0;
  t.c1 = clnorm_min(c0 + CLNORM_CHANNELS_MAX, tile->c1);
  return t;
}

CLNORM_FN void clnorm_channels_channel(const clnorm_buffers *b, const clnorm_call *call,
                                       clnorm_ulong item) {
  clnorm_nodes nodes;
  clnorm_coefficient_rows rows;
  clnorm_table table;
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_tile t = clnorm_tile_of_group(call, item);
  clnorm_channels_nodes(b, call, &t, 0, g.segments, &nodes);
  clnorm_coefficient_rows_batch(&rows, b, call, &t, &nodes);
  clnorm_table_rows(&table, 0, &rows, t.c1 - t.c0);
  clnorm_channels_write(&table, b, call, &t, 0);
}

CLNORM_FN void clnorm_channels_partials(const clnorm_buffers *b, const clnorm_call *call,
                                        clnorm_ulong item) {
  clnorm_nodes nodes;
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong group = item / call->chunks, chunk = item - group * call->chunks;
  const clnorm_tile tile = clnorm_tile_of_group(call, group);
  const clnorm_ulong begin = chunk << call->chunk_log2;
  const clnorm_ulong end = clnorm_min(begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  for (clnorm_ulong c0 = tile.c0; c0 < tile.c1; c0 += CLNORM_CHANNELS_MAX) {
    const clnorm_tile t = clnorm_tile_some(&tile, c0);
    clnorm_channels_nodes(b, call, &t, (clnorm_uint)begin, (clnorm_uint)end, &nodes);
    for (clnorm_uint c = 0; c < t.c1 - t.c0; c++)
      b->partials[(t.c0 + c) * call->chunks + chunk] = clnorm_nodes_get(&nodes, c);
  }
}

CLNORM_FN void clnorm_channels_apply(const clnorm_buffers *b, const clnorm_call *call,
                                     clnorm_ulong item) {
  clnorm_coefficient_rows rows;
  clnorm_table table;
  const clnorm_tile tile = clnorm_tile_at(call, item);
  if (call->flags & CLNORM_BATCH_MODE) {
    for (clnorm_ulong c = tile.c0; c < tile.c1; c++)
      clnorm_table_set(&table, c - tile.c0, b->coefficients[c]);
  } else {
    for (clnorm_ulong c0 = tile.c0; c0 < tile.c1; c0 += CLNORM_CHANNELS_MAX) {
      const clnorm_tile t = clnorm_tile_some(&tile, c0);
      clnorm_coefficient_rows_given(&rows, b, call, &t);
      clnorm_table_rows(&table, c0 - tile.c0, &rows, t.c1 - t.c0);
    }
  }
  clnorm_channels_write(&table, b, call, &tile, 0);
}

CLNORM_FN void clnorm_channels_copy(const clnorm_buffers *b, const clnorm_call *call,
                                    clnorm_ulong item) {
  clnorm_table none;
  const clnorm_tile t = clnorm_tile_at(call, item);
  clnorm_channels_write(&none, b, call, &t, 1);
}

#endif
