/*
 * The vector form, channels side by side in memory (NHWC, channel blocks): output, and items. A group may have any
 * channels; x and y may have blocks of different sizes. What both have in one piece is written position after
 * position; where nothing lies between a position and the next, several positions at a time, whose coefficients
 * are repeated, so that even few or odd channels are whole vectors.
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

#define CLNORM_TABLE_CHANNELS 512u /* of a tile */
#define CLNORM_TABLE_REPEATED 1024u
#define CLNORM_TABLE_VALUES (CLNORM_TABLE_CHANNELS + CLNORM_TABLE_REPEATED + CLNORM_LANES)

/* Coefficients of a tile's channels, and of a piece of them for several positions. */
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

/* What is written at a time: the piece of channels from `at` of the table on, of up to `repeats` positions. */
typedef struct clnorm_lines {
  clnorm_uint at, channels, repeats;
  clnorm_uint flags; /* of the call */
} clnorm_lines;

#define CLNORM_LINES_COPY 0 /* a constant in every call */
#define CLNORM_LINES_NORMALIZE 1

/* Of up to `positions`, so many that they are whole vectors, and some of them; where that is too many, or they do
 * not follow each other, one. */
CLNORM_FN clnorm_uint clnorm_lines_repeats(const clnorm_call *call, clnorm_uint channels,
                                           clnorm_ulong positions) {
  clnorm_uint repeats = CLNORM_LANES / clnorm_uint_min(channels & -channels, CLNORM_LANES);
  if (call->views[CLNORM_VIEW_X].position[2] != channels ||
      call->views[CLNORM_VIEW_Y].position[2] != channels ||
      repeats * channels > CLNORM_TABLE_REPEATED)
    return 1;
  while (2 * repeats * channels <= CLNORM_TABLE_REPEATED / 4 && 4 * repeats <= positions)
    repeats *= 2;
  return repeats;
}

/* `repeats` times n values; what is stored past an end is replaced, or nobody's. */
CLNORM_FN void clnorm_table_repeat(clnorm_real *to, const clnorm_real *from, clnorm_uint n,
                                   clnorm_uint repeats) {
  for (clnorm_uint r = 0; r < repeats; r++)
    for (clnorm_uint i = 0; i < n; i += CLNORM_LANES)
      clnorm_vec_store_private(to + r * n + i, clnorm_vec_load_private(from + i));
}

/* Repeats coefficients behind those of the channels. */
CLNORM_FN void clnorm_lines_repeat(clnorm_lines *k, clnorm_table *a) {
  if (k->repeats == 1) return;
  clnorm_table_repeat(a->hi + CLNORM_TABLE_CHANNELS, a->hi + k->at, k->channels, k->repeats);
  clnorm_table_repeat(a->scale + CLNORM_TABLE_CHANNELS, a->scale + k->at, k->channels, k->repeats);
  clnorm_table_repeat(a->shift + CLNORM_TABLE_CHANNELS, a->shift + k->at, k->channels, k->repeats);
  k->at = CLNORM_TABLE_CHANNELS;
}

/* y from the vector v, whose first coefficients are those at `at`. */
CLNORM_FN clnorm_vec clnorm_table_normalized(const clnorm_table *a, clnorm_ulong at, clnorm_vec v) {
  return clnorm_vec_fma(v - clnorm_vec_load_private(a->hi + at),
                        clnorm_vec_load_private(a->scale + at),
                        clnorm_vec_load_private(a->shift + at));
}

/* n elements; fewer than a vector as a part, else what is left after whole vectors as one that overlaps the one
 * before, and is read before y, which may be x, is written. */
CLNORM_FN void clnorm_line_write(const clnorm_lines *k, const clnorm_table *a,
                                 CLNORM_GLOBAL clnorm_out *y, CLNORM_GLOBAL const clnorm_in *x,
                                 clnorm_uint n) {
  clnorm_uint i = 0;
  if (n < CLNORM_LANES) {
    const clnorm_vec v = clnorm_vec_load_part(x, n, clnorm_splat(0.0f));
    clnorm_vec_store_part(y, clnorm_table_normalized(a, k->at, v), n);
    return;
  }
  const clnorm_uint rest = n - CLNORM_LANES;
  const clnorm_vec last = clnorm_table_normalized(a, k->at + rest, clnorm_vec_load(x + rest));
  if (k->flags & CLNORM_STREAMED && clnorm_lead(y, sizeof *y) == 0)
    for (; i + CLNORM_LANES <= n; i += CLNORM_LANES)
      clnorm_vec_stream(y + i, clnorm_table_normalized(a, k->at + i, clnorm_vec_load(x + i)));
  for (; i + CLNORM_LANES <= n; i += CLNORM_LANES)
    clnorm_vec_store(y + i, clnorm_table_normalized(a, k->at + i, clnorm_vec_load(x + i)));
  if (i < n) clnorm_vec_store(y + rest, last);
}

CLNORM_FN void clnorm_line_copy(const clnorm_lines *k, CLNORM_GLOBAL clnorm_out *y,
                                CLNORM_GLOBAL const clnorm_in *x, clnorm_uint n) {
  clnorm_uint i = 0;
  if (k->flags & CLNORM_STREAMED && clnorm_lead(y, sizeof *y) == 0)
    for (; i + CLNORM_LANES <= n; i += CLNORM_LANES) clnorm_vec_move_stream(y + i, x + i);
  for (; i + CLNORM_LANES <= n; i += CLNORM_LANES) clnorm_vec_move(y + i, x + i);
  if (i < n) clnorm_vec_move_part(y + i, x + i, n - i);
}

/* A tile of one piece and one sample. */
CLNORM_FN void clnorm_lines_write(const clnorm_lines *k, const clnorm_table *a,
                                  const clnorm_buffers *b, const clnorm_call *call,
                                  const clnorm_tile *t, int mode) {
  const clnorm_view *vx = &call->views[CLNORM_VIEW_X], *vy = &call->views[CLNORM_VIEW_Y];
  CLNORM_GLOBAL const clnorm_in *x =
      b->x + clnorm_plane_at(vx, t->n0, t->c0) + t->p0 * vx->position[2];
  CLNORM_GLOBAL clnorm_out *y = b->y + clnorm_plane_at(vy, t->n0, t->c0) + t->p0 * vy->position[2];
  for (clnorm_ulong left = t->p1 - t->p0;;) {
    const clnorm_uint positions = (clnorm_uint)clnorm_min(k->repeats, left);
    if (mode == CLNORM_LINES_COPY)
      clnorm_line_copy(k, y, x, positions * k->channels);
    else
      clnorm_line_write(k, a, y, x, positions * k->channels);
    left -= positions;
    if (!left) return; /* there may be nothing to point to */
    x += positions * vx->position[2];
    y += positions * vy->position[2];
  }
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

/* A tile, whose coefficients are the table's first. */
CLNORM_FN void clnorm_channels_write(clnorm_table *a, const clnorm_buffers *b,
                                     const clnorm_call *call, const clnorm_tile *tile, int mode) {
  clnorm_tile t = *tile;
  for (; t.c0 < tile->c1; t.c0 = t.c1) {
    clnorm_ulong n = clnorm_view_beside(&call->views[CLNORM_VIEW_X], t.c0, tile->c1 - t.c0);
    n = clnorm_view_beside(&call->views[CLNORM_VIEW_Y], t.c0, n);
    clnorm_lines k = {(clnorm_uint)(t.c0 - tile->c0), (clnorm_uint)n,
                      clnorm_lines_repeats(call, (clnorm_uint)n, tile->p1 - tile->p0), call->flags};
    if (mode == CLNORM_LINES_NORMALIZE) clnorm_lines_repeat(&k, a);
    t.c1 = t.c0 + n;
    for (clnorm_ulong sample = tile->n0; sample < tile->n1; sample++) {
      t.n0 = sample;
      clnorm_lines_write(&k, a, b, call, &t, mode);
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
  clnorm_channels_write(&table, b, call, &t, CLNORM_LINES_NORMALIZE);
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
  clnorm_channels_write(&table, b, call, &tile, CLNORM_LINES_NORMALIZE);
}

CLNORM_FN void clnorm_channels_copy(const clnorm_buffers *b, const clnorm_call *call,
                                    clnorm_ulong item) {
  clnorm_table none;
  const clnorm_tile t = clnorm_tile_at(call, item);
  clnorm_channels_write(&none, b, call, &t, CLNORM_LINES_COPY);
}

#endif
