/*
 * The vector form, channels side by side in memory (NHWC, channel blocks): sums of a segment.
 *
 * A column of places is a few vectors of channels. Column after column, the 8 rows of a block are added, so that
 * sums stay in registers and memory is 8 streams in order; the columns' sums lie in an array, and are folded by
 * halves, a vector with a vector. Channels fewer than a vector, where nothing lies between a position and the next,
 * make flat rows: a vector then has the channels of several columns.
 *
 *      row 0  | c0 c1 c2 ..  c0 c1 c2 ..  c0 c1 c2 ..
 *      row 1  | c0 c1 c2 ..  c0 c1 c2 ..
 */
#ifndef CLNORM_VECTOR_CHANNEL_SUMS_H
#define CLNORM_VECTOR_CHANNEL_SUMS_H

#include "vector_sums.h"
#include "vector_write.h"

/* Vectors, and so channels, that are swept at once. */
#define CLNORM_BESIDE_VECTORS 4u
#define CLNORM_BESIDE_MAX (CLNORM_BESIDE_VECTORS * CLNORM_LANES)

/* One segment of up to CLNORM_BESIDE_MAX channels. */
typedef struct clnorm_beside {
  CLNORM_GLOBAL const clnorm_in *x; /* the first channel at the first place */
  clnorm_ulong sample, position;    /* elements from one to the next */
  clnorm_uint channels;
  clnorm_uint extent, slots, slot_log2; /* positions of each slot; slots, and places of one */
  clnorm_uint places;                   /* the last that has a value, and 1 */
  clnorm_uint flat;                     /* rows are */
  clnorm_uint column;                   /* values of one in the arrays of sums */
} clnorm_beside;

/* x: the channels in the tensor's first sample. Slots that are full, and one piece of memory, are one. */
CLNORM_FN clnorm_beside clnorm_beside_at(CLNORM_GLOBAL const clnorm_in *x, const clnorm_view *view,
                                         const clnorm_geometry *g, const clnorm_segment *segment,
                                         clnorm_uint channels) {
  clnorm_beside s;
  s.sample = view->sample;
  s.position = view->position[2];
  s.x = x + segment->sample * s.sample + segment->position * s.position;
  s.channels = channels;
  s.extent = segment->extent;
  s.slots = segment->planes;
  s.slot_log2 = g->slot_log2;
  if (s.extent == 1u << s.slot_log2 && s.sample == s.extent * s.position) {
    s.extent *= s.slots;
    s.slots = 1;
    s.slot_log2 = CLNORM_SEGMENT_LOG2;
  }
  s.places = ((s.slots - 1) << s.slot_log2) + s.extent;
  s.flat = channels < CLNORM_LANES && s.position == channels;
  s.column = s.flat ? channels : (channels + CLNORM_LANES - 1) / CLNORM_LANES * CLNORM_LANES;
  return s;
}

/* Where vector `at` of a column begins among the channels. The last one overlaps the one before where it can: the
 * same sums once more, and every vector whole. */
CLNORM_FN clnorm_uint clnorm_beside_channel(const clnorm_beside *s, clnorm_uint at) {
  return at && at + CLNORM_LANES > s->channels ? s->channels - CLNORM_LANES : at;
}

/* By columns; lanes past the end of flat rows have what is nobody's. */
typedef struct clnorm_beside_sums {
  clnorm_real d[CLNORM_ROW * CLNORM_BESIDE_MAX + CLNORM_LANES] __attribute__((aligned(64)));
  clnorm_real dd[CLNORM_ROW * CLNORM_BESIDE_MAX + CLNORM_LANES] __attribute__((aligned(64)));
  /* of a column, or of a flat row */
  clnorm_real pivots[CLNORM_ROW * CLNORM_LANES + 2 * CLNORM_LANES] __attribute__((aligned(64)));
} clnorm_beside_sums;

/* Rows of a block that have a value in some columns: where the first of these is in each. */
typedef struct clnorm_strip {
  CLNORM_GLOBAL const clnorm_in *rows[CLNORM_BLOCK_ROWS];
  clnorm_uint count;
} clnorm_strip;

/* Adds a vector, of which `lanes` are there, of each row from element i on to the sums from `at` on. */
CLNORM_FN void clnorm_strip_take(clnorm_beside_sums *k, clnorm_uint at, const clnorm_strip *t,
                                 clnorm_ulong i, clnorm_uint lanes, clnorm_uint pivots, int sweep) {
  const clnorm_vec pivot = sweep == CLNORM_SECOND_SWEEP
                               ? clnorm_vec_load_private(k->pivots + pivots)
                               : clnorm_splat(0.0f);
  clnorm_moments m = clnorm_moments_none();
  if (t->count == CLNORM_BLOCK_ROWS && lanes >= CLNORM_LANES) {
    CLNORM_UNROLL
    for (clnorm_uint row = 0; row < CLNORM_BLOCK_ROWS; row++)
      m = clnorm_moments_take(m, clnorm_vec_load(t->rows[row] + i), pivot, sweep);
  } else {
    for (clnorm_uint row = 0; row < t->count; row++)
      m = clnorm_moments_take(m, clnorm_some(t->rows[row] + i, lanes, pivot), pivot, sweep);
  }
  clnorm_vec_store_private(k->d + at, clnorm_vec_load_private(k->d + at) + m.d);
  if (sweep == CLNORM_SECOND_SWEEP)
    clnorm_vec_store_private(k->dd + at, clnorm_vec_load_private(k->dd + at) + m.dd);
}

/* Adds n columns from `column` on. */
CLNORM_FN void clnorm_strip_add(clnorm_beside_sums *k, const clnorm_beside *s,
                                const clnorm_strip *t, clnorm_uint column, clnorm_uint n,
                                int sweep) {
  if (s->flat) {
    const clnorm_uint length = n * s->channels;
    for (clnorm_uint i = 0; i < length; i += CLNORM_LANES)
      clnorm_strip_take(k, column * s->column + i, t, i, length - i, i, sweep);
    return;
  }
  for (clnorm_uint c = 0; c < n; c++)
    for (clnorm_uint i = 0; i < s->column; i += CLNORM_LANES)
      clnorm_strip_take(k, (column + c) * s->column + i, t,
                        c * s->position + clnorm_beside_channel(s, i), s->channels, i, sweep);
}

/* Adds `width` columns of a block from `column` on, which are in one slot in each row: strip after strip, whose
 * rows have values in all of its columns. */
CLNORM_FN void clnorm_beside_columns(clnorm_beside_sums *k, const clnorm_beside *s,
                                     clnorm_uint block, clnorm_uint column, clnorm_uint width,
                                     int sweep) {
  CLNORM_GLOBAL const clnorm_in *rows[CLNORM_BLOCK_ROWS];
  clnorm_uint there[CLNORM_BLOCK_ROWS];
  for (clnorm_uint row = 0; row < CLNORM_BLOCK_ROWS; row++) {
    const clnorm_uint place = block * CLNORM_BLOCK + row * CLNORM_ROW + column;
    const clnorm_uint slot = place >> s->slot_log2, position = place - (slot << s->slot_log2);
    const int none = slot >= s->slots || position >= s->extent;
    there[row] = none ? 0 : clnorm_uint_min(s->extent - position, width);
    rows[row] = none ? s->x : s->x + slot * s->sample + position * s->position;
  }
  for (clnorm_uint begin = 0, end; begin < width; begin = end) {
    clnorm_strip t;
    t.count = 0;
    end = width;
    for (clnorm_uint row = 0; row < CLNORM_BLOCK_ROWS; row++) {
      if (there[row] <= begin) continue;
      end = clnorm_uint_min(end, there[row]);
      t.rows[t.count++] = rows[row] + begin * s->position;
    }
    if (!t.count) return;
    clnorm_strip_add(k, s, &t, column + begin, end - begin, sweep);
  }
}

/* 64 places of each of the sums to one, which the first column becomes. `columns`, a power of two, are not 0. */
CLNORM_FN void clnorm_beside_fold(clnorm_real *sums, clnorm_uint column, clnorm_uint columns) {
  for (clnorm_uint width = columns / 2 * column; width >= column; width /= 2)
    for (clnorm_uint i = 0; i < width; i += CLNORM_LANES)
      clnorm_vec_store_private(sums + i, clnorm_vec_load_private(sums + i) +
                                             clnorm_vec_load_private(sums + width + i));
}

/* Sums over `blocks` blocks, folded. */
CLNORM_FN void clnorm_beside_sweep(clnorm_beside_sums *k, const clnorm_beside *s,
                                   clnorm_uint blocks, int sweep) {
  const clnorm_uint width = 1u << clnorm_uint_min(s->slot_log2, 6);
  clnorm_uint columns = 1;
  while (columns < CLNORM_ROW && columns < s->places) columns *= 2;
  for (clnorm_uint i = 0; i < columns * s->column + CLNORM_LANES; i += CLNORM_LANES) {
    clnorm_vec_store_private(k->d + i, clnorm_splat(0.0f));
    if (sweep == CLNORM_SECOND_SWEEP) clnorm_vec_store_private(k->dd + i, clnorm_splat(0.0f));
  }
  for (clnorm_uint block = 0; block < blocks; block++)
    for (clnorm_uint column = 0; column < columns; column += width)
      clnorm_beside_columns(k, s, block, column, width, sweep);
  clnorm_beside_fold(k->d, s->column, columns);
  if (sweep == CLNORM_SECOND_SWEEP) clnorm_beside_fold(k->dd, s->column, columns);
}

/* The pivots of a column from the first block's sums; of a flat row where rows are. */
CLNORM_FN void clnorm_beside_pivots(clnorm_beside_sums *k, const clnorm_beside *s,
                                    clnorm_real reciprocal) {
  for (clnorm_uint i = 0; i < s->column; i++) k->pivots[i] = clnorm_plus_zero(k->d[i]) * reciprocal;
  if (s->flat) clnorm_repeat(k->pivots, k->pivots, s->channels, CLNORM_ROW);
}

/* Nodes of the segment's channels, which are those from c0 on of a group. */
CLNORM_NOINLINE void clnorm_beside_nodes(clnorm_beside_sums *k, const clnorm_beside *s,
                                         clnorm_reciprocals r, clnorm_uint c0,
                                         clnorm_nodes *nodes) {
  clnorm_beside_sweep(k, s, 1, CLNORM_FIRST_SWEEP);
  clnorm_beside_pivots(k, s, r.first);
  clnorm_beside_sweep(k, s, (s->places + CLNORM_BLOCK - 1) / CLNORM_BLOCK, CLNORM_SECOND_SWEEP);
  for (clnorm_uint i = 0; i < s->channels; i++) {
    const clnorm_uint vector = i - i % CLNORM_LANES;
    const clnorm_uint at = s->flat ? i : vector + i - clnorm_beside_channel(s, vector);
    clnorm_nodes_set(nodes, c0 + i,
                     clnorm_partial_make(nodes->count, r.all, k->pivots[at], k->d[at], k->dd[at]));
  }
}

#endif
