/*
 * The vector form: one worker (a CPU thread, or a work-group of one work-item) walks whole segments with
 * vectors. Read by the C compiler for the CPU path and by the OpenCL compiler for CPU-class devices.
 *
 * A segment is 16 rows that are added first, column by column; then what remains is folded. There are two
 * ways to lay rows over memory, with one tree (docs/arithmetic.md):
 *
 *   slots: planes of more than 64 values      rows are 64 neighbouring values of one plane; a slot is the
 *                                             power of two of rows that holds a plane, or a piece of one
 *
 *      row 0  | x0  x1  .. x63    (0+8)+(4+12) and so on: the order of the tree, walked so
 *      row 1  | x64 x65 ..        that few vectors are alive at once
 *
 *   runs: planes of up to 64 values           a row is a run: the planes of neighbouring channels, which are
 *                                             one piece of memory; rows are samples
 *
 *      sample 0  | c0 c0 .. c0 c1 c1 .. c1 c2 ..
 *      sample 1  | c0 c0 .. c0 c1 c1 .. c1 c2 ..
 *
 * The includer defines before including this file
 *   CLNORM_LANES                   floats in a vector: 4, 8 or 16
 *   clnorm_vec                     the vector; + - * work on it
 *   clnorm_splat(s)                all lanes s
 *   clnorm_vec_fma(a, b, c)
 *   clnorm_vec_load(p)                 LANES floats from memory, any alignment
 *   clnorm_vec_load_part(p, n, fill)   n < LANES floats, the other lanes from `fill`, nothing else is read
 *   clnorm_vec_store(p, v), clnorm_vec_store_part(p, v, n)
 *   clnorm_vec_blend(n, a, b)          n lanes of a, the others of b
 *   clnorm_vec_load_private(t), clnorm_vec_store_private(t, v)   the same for private arrays;
 *   clnorm_vec_load_private_part(t, part)                        lanes that the part has not are 0
 *   clnorm_part, clnorm_part_of(n)     the first n <= LANES lanes; made once, used often
 *   clnorm_vec_stream(p, v)            aligned to the vector's size; written around the caches
 *   clnorm_prefetch(p)             p may be any address
 *   clnorm_fold_vec(v)             lanes folded by halves: (lane i) + (lane i + LANES / 2), ...
 */
#ifndef CLNORM_VECTOR_H
#define CLNORM_VECTOR_H

#include "clnorm_forward.h"

#define CLNORM_COLUMNS (CLNORM_ROW / CLNORM_LANES)
#define CLNORM_LINE 16u /* elements of a line of the cache */

/* ---- Output --------------------------------------------------------------------------------------- */

/* Elements from the vector before p to p. */
CLNORM_FN clnorm_uint clnorm_lead(CLNORM_GLOBAL const float *p) {
  return (clnorm_uint)((clnorm_ulong)p / sizeof(float)) % CLNORM_LANES;
}

/* values[i * spatial + p] = value for all p. What is stored past a channel's end, the next one replaces;
 * the vector after the last one is 0. */
CLNORM_FN void clnorm_expand(float *values, clnorm_uint i, clnorm_uint spatial, float value) {
  for (clnorm_uint p = 0; p < spatial; p += CLNORM_LANES)
    clnorm_vec_store_private(values + i * spatial + p, clnorm_splat(value));
  clnorm_vec_store_private(values + (i + 1) * spatial, clnorm_splat(0.0f));
}

/* One value for each element of a run of planes that are smaller than a vector, aligned like the run
 * itself: element i is at[lead + i]. */
typedef struct clnorm_expanded {
  float at[CLNORM_GROUP_MAX * CLNORM_LANES + 2 * CLNORM_LANES] __attribute__((aligned(64)));
} clnorm_expanded;

/* A tile's output, written piece by piece between other work: the processor stores what is ready while it
 * computes something else. A run is what the tile has of one sample: the planes of its channels, side by
 * side, or a piece of one plane. */
typedef struct clnorm_writer {
  CLNORM_GLOBAL const float *x; /* the first run */
  CLNORM_GLOBAL float *y;
  clnorm_ulong run, at; /* a run's elements; how many of the present one are written */
  clnorm_ulong plane,
      edge;             /* elements of each channel; where the present channel ends in the run */
  clnorm_ulong sample;  /* elements from run to run */
  clnorm_ulong samples; /* runs still to write, the present one included */
  clnorm_uint flags, lead, channel;
  clnorm_affine affine[CLNORM_GROUP_MAX];
  clnorm_expanded hi, lo, scale, shift;
} clnorm_writer;

/* Where a run's affine comes from. A constant in every call. */
#define CLNORM_RUN_COPY 0     /* nowhere: y = x */
#define CLNORM_RUN_CHANNELS 1 /* a vector has one channel, or two */
#define CLNORM_RUN_EXPANDED 2 /* one for each element */

/* The affine of a vector. */
typedef struct clnorm_splats {
  clnorm_vec hi, lo, scale, shift;
} clnorm_splats;

CLNORM_FN clnorm_splats clnorm_splats_make(const clnorm_affine *a) {
  const clnorm_splats s = {clnorm_splat(a->hi), clnorm_splat(a->lo), clnorm_splat(a->scale),
                           clnorm_splat(a->shift)};
  return s;
}

/* n lanes of a channel, the others of the next one. */
CLNORM_FN clnorm_splats clnorm_splats_blend(clnorm_uint n, clnorm_splats a, clnorm_splats b) {
  a.hi = clnorm_vec_blend(n, a.hi, b.hi);
  a.lo = clnorm_vec_blend(n, a.lo, b.lo);
  a.scale = clnorm_vec_blend(n, a.scale, b.scale);
  a.shift = clnorm_vec_blend(n, a.shift, b.shift);
  return a;
}

CLNORM_FN clnorm_splats clnorm_splats_expanded(const clnorm_writer *w, clnorm_ulong i) {
  i += w->lead;
  const clnorm_splats s = {
      clnorm_vec_load_private(w->hi.at + i), clnorm_vec_load_private(w->lo.at + i),
      clnorm_vec_load_private(w->scale.at + i), clnorm_vec_load_private(w->shift.at + i)};
  return s;
}

/* y from the vector v, which is element i of a run and what follows. */
CLNORM_FN clnorm_vec clnorm_normalized(const clnorm_writer *w, clnorm_splats a, clnorm_vec v,
                                       clnorm_ulong i, int mode) {
  if (mode == CLNORM_RUN_COPY) return v;
  if (mode == CLNORM_RUN_EXPANDED) a = clnorm_splats_expanded(w, i);
  return clnorm_vec_fma((v - a.hi) - a.lo, a.scale, a.shift);
}

CLNORM_FN void clnorm_write_part(const clnorm_writer *w, clnorm_splats a, CLNORM_GLOBAL float *y,
                                 CLNORM_GLOBAL const float *x, clnorm_ulong i, clnorm_ulong n,
                                 int mode) {
  const clnorm_vec v = clnorm_vec_load_part(x + i, (clnorm_uint)n, clnorm_splat(0.0f));
  clnorm_vec_store_part(y + i, clnorm_normalized(w, a, v, i, mode), (clnorm_uint)n);
}

/* Elements [i, end) of a run that starts at x and y, all of one channel or as mode says, as far as whole
 * vectors go; y may be x. Streamed stores are aligned. */
CLNORM_FN clnorm_ulong clnorm_write_whole(const clnorm_writer *w, clnorm_splats a,
                                          CLNORM_GLOBAL float *y, CLNORM_GLOBAL const float *x,
                                          clnorm_ulong i, clnorm_ulong end, int mode) {
  if (w->flags & CLNORM_STREAM && clnorm_lead(y + i) == 0)
    for (; i + CLNORM_LANES <= end; i += CLNORM_LANES)
      clnorm_vec_stream(y + i, clnorm_normalized(w, a, clnorm_vec_load(x + i), i, mode));
  for (; i + CLNORM_LANES <= end; i += CLNORM_LANES)
    clnorm_vec_store(y + i, clnorm_normalized(w, a, clnorm_vec_load(x + i), i, mode));
  return i;
}

/* Elements [w->at, end) of a run: channel by channel, a vector that has two as one. */
CLNORM_FN void clnorm_write_run(clnorm_writer *w, CLNORM_GLOBAL float *y,
                                CLNORM_GLOBAL const float *x, clnorm_ulong end, int mode) {
  clnorm_ulong i = w->at;
  while (i < end) {
    const clnorm_splats a = clnorm_splats_make(&w->affine[w->channel]);
    const clnorm_ulong edge = mode == CLNORM_RUN_CHANNELS ? clnorm_min(w->edge, end) : end;
    const clnorm_uint into = clnorm_lead(y + i);
    if (into && i + CLNORM_LANES - into <= edge) {
      clnorm_write_part(w, a, y, x, i, CLNORM_LANES - into, mode);
      i += CLNORM_LANES - into;
    }
    i = clnorm_write_whole(w, a, y, x, i, edge, mode);
    if (i < edge && edge < end && w->plane >= CLNORM_LANES && i + CLNORM_LANES <= end) {
      const clnorm_splats next = clnorm_splats_make(&w->affine[w->channel + 1]);
      clnorm_write_whole(w, clnorm_splats_blend((clnorm_uint)(edge - i), a, next), y, x, i,
                         i + CLNORM_LANES, mode);
      i += CLNORM_LANES;
    } else if (i < edge) {
      clnorm_write_part(w, a, y, x, i, edge - i, mode);
      i = edge;
    }
    if (i < w->edge) continue;
    w->channel++;
    w->edge += w->plane;
  }
  w->at = end;
}

/* Writes about `vectors` more vectors: whole runs, or pieces that end where a vector of y ends. */
CLNORM_FN void clnorm_write(clnorm_writer *w, clnorm_ulong vectors, int mode) {
  while (w->samples && vectors) {
    const clnorm_ulong sample = w->flags & CLNORM_LAST_FIRST ? (w->samples - 1) * w->sample : 0;
    CLNORM_GLOBAL float *y = w->y + sample;
    const clnorm_ulong all = (w->run - w->at + CLNORM_LANES - 1) / CLNORM_LANES;
    if (vectors < all) {
      const clnorm_ulong end = w->at + vectors * CLNORM_LANES - clnorm_lead(y + w->at);
      clnorm_write_run(w, y, w->x + sample, end, mode);
      return;
    }
    clnorm_write_run(w, y, w->x + sample, w->run, mode);
    vectors -= all;
    w->at = w->channel = 0;
    w->edge = w->plane;
    w->samples--;
    if (w->flags & CLNORM_LAST_FIRST) continue;
    w->x += w->sample;
    w->y += w->sample;
  }
}

CLNORM_NOINLINE void clnorm_write_some(clnorm_writer *w, clnorm_ulong vectors) {
  if (w->flags & CLNORM_EXPANDED)
    clnorm_write(w, vectors, CLNORM_RUN_EXPANDED);
  else
    clnorm_write(w, vectors, CLNORM_RUN_CHANNELS);
}

#define CLNORM_ALL_VECTORS (~(clnorm_ulong)0 / 64)

CLNORM_FN void clnorm_write_all(clnorm_writer *w) { clnorm_write_some(w, CLNORM_ALL_VECTORS); }

CLNORM_FN void clnorm_writer_start(clnorm_writer *w, const clnorm_buffers *b,
                                   const clnorm_forward *call, const clnorm_tile *t) {
  const clnorm_ulong first = (t->n0 * call->channels + t->c0) * call->spatial + t->p0;
  w->x = b->x + first;
  w->y = b->y + first;
  w->plane = w->edge = t->p1 - t->p0;
  w->run = (t->c1 - t->c0) * w->plane;
  w->sample = call->channels * call->spatial;
  w->at = w->channel = 0;
  w->samples = t->n1 - t->n0;
  w->flags = call->flags & (CLNORM_STREAM | CLNORM_LAST_FIRST);
  w->lead = clnorm_lead(w->y);
}

/* Planes smaller than a vector of several samples are worth the work of spreading the affine out. */
CLNORM_FN void clnorm_writer_expand(clnorm_writer *w) {
  const clnorm_uint plane = (clnorm_uint)w->plane, channels = (clnorm_uint)(w->run / plane);
  if (w->plane >= CLNORM_LANES || w->samples < 4) return;
  for (clnorm_uint c = 0; c < channels; c++) {
    clnorm_expand(w->hi.at + w->lead, c, plane, w->affine[c].hi);
    clnorm_expand(w->lo.at + w->lead, c, plane, w->affine[c].lo);
    clnorm_expand(w->scale.at + w->lead, c, plane, w->affine[c].scale);
    clnorm_expand(w->shift.at + w->lead, c, plane, w->affine[c].shift);
  }
  w->flags |= CLNORM_EXPANDED;
}

/* ---- Rows of a segment ---------------------------------------------------------------------------- */

/* Rows of slots: row r of a slot begins at x + 64 * r, the next slot at x + sample. Rows of samples: row r
 * begins at row[r] + offset. */
typedef struct clnorm_rows {
  CLNORM_GLOBAL const float *x;
  CLNORM_GLOBAL const float *row[16];
  clnorm_ulong sample, offset;
  clnorm_uint extent;   /* elements of each slot, of each sample */
  clnorm_uint slots;    /* how many slots there are, */
  clnorm_uint per_slot; /* and the power of two of rows that one has */
  clnorm_uint rows;     /* how many samples there are, */
  clnorm_uint paired;   /* and whether the first step of the segment's tree is among them */
} clnorm_rows;

/* Which of a segment's 16 rows there are, and how they lie in memory. Constants in every call. */
typedef struct clnorm_kind {
  int layout;
  clnorm_uint rows;   /* rows from here on are not there */
  clnorm_uint slot;   /* CLNORM_SLOTS: rows of a slot, */
  clnorm_uint filled; /* and how many of them have something, the last a part */
  clnorm_uint first;  /* the tree's first step is that of row r and row r + first */
} clnorm_kind;

#define CLNORM_WHOLE 0        /* slots: one, with all rows */
#define CLNORM_SLOTS 1        /* slots: all of them */
#define CLNORM_SLOTS_PART 2   /* slots: what is there */
#define CLNORM_SAMPLES 3      /* samples: a whole vector of each */
#define CLNORM_SAMPLES_PART 4 /* samples: what is there */

CLNORM_FN clnorm_uint clnorm_uint_min(clnorm_uint a, clnorm_uint b) { return a < b ? a : b; }
CLNORM_FN clnorm_uint clnorm_uint_max(clnorm_uint a, clnorm_uint b) { return a < b ? b : a; }

/* Up to LANES values; what is not there reads as `fill`: 0 in the sum, the pivot in the deviations. */
CLNORM_FN clnorm_vec clnorm_some(CLNORM_GLOBAL const float *p, clnorm_uint n, clnorm_vec fill) {
  return n >= CLNORM_LANES ? clnorm_vec_load(p) : clnorm_vec_load_part(p, n, fill);
}

/* Lanes of a slot that have something from element `at` on. */
CLNORM_FN clnorm_uint clnorm_left(const clnorm_rows *s, clnorm_ulong at) {
  if (at >= s->extent) return 0;
  return clnorm_uint_min(s->extent - (clnorm_uint)at, CLNORM_LANES);
}

CLNORM_FN clnorm_vec clnorm_row(const clnorm_rows *s, clnorm_kind k, clnorm_uint row,
                                clnorm_ulong column, clnorm_vec fill) {
  if (k.layout == CLNORM_WHOLE) return clnorm_vec_load(s->x + row * CLNORM_ROW + column);
  if (k.layout == CLNORM_SAMPLES) return clnorm_vec_load(s->row[row] + (s->offset + column));
  if (k.layout == CLNORM_SAMPLES_PART)
    return row < s->rows ? clnorm_some(s->row[row] + (s->offset + column),
                                       s->extent - (clnorm_uint)column, fill)
                         : fill;
  if (k.layout == CLNORM_SLOTS) {
    const clnorm_ulong at = row % k.slot * CLNORM_ROW + column;
    CLNORM_GLOBAL const float *p = s->x + row / k.slot * s->sample + at;
    if (row % k.slot + 1 < k.filled) return clnorm_vec_load(p);
    return clnorm_vec_load_part(p, clnorm_left(s, at), fill);
  }
  const clnorm_uint slot = row >> s->per_slot;
  const clnorm_ulong at = (row - (slot << s->per_slot)) * CLNORM_ROW + column;
  if (slot >= s->slots || at >= s->extent) return fill;
  return clnorm_some(s->x + slot * s->sample + at, s->extent - (clnorm_uint)at, fill);
}

CLNORM_FN int clnorm_row_there(clnorm_kind k, clnorm_uint row) {
  return row < k.rows && (k.layout != CLNORM_SLOTS || row % k.slot < k.filled);
}

/* The tree: clnorm_sum_W(r) is that over rows r, r + W, r + 2 W, ... What is not there adds nothing, and is
 * left out; where row r is not there, those after it are not either. */
#define CLNORM_SUM(w, finer)                                                                       \
  CLNORM_FN clnorm_vec clnorm_sum_##w(const clnorm_rows *s, clnorm_kind k, clnorm_uint row,        \
                                      clnorm_ulong column) {                                       \
    const clnorm_vec a = clnorm_sum_##finer(s, k, row, column);                                    \
    if (!clnorm_row_there(k, row + w)) return a;                                                   \
    return a + clnorm_sum_##finer(s, k, row + w, column);                                          \
  }
CLNORM_FN clnorm_vec clnorm_sum_16(const clnorm_rows *s, clnorm_kind k, clnorm_uint row,
                                   clnorm_ulong column) {
  return clnorm_row(s, k, row, column, clnorm_splat(0.0f));
}
CLNORM_SUM(8, 16)
CLNORM_SUM(4, 8)
CLNORM_SUM(2, 4)
CLNORM_SUM(1, 2)
#undef CLNORM_SUM

CLNORM_FN clnorm_vec clnorm_sum_tree(const clnorm_rows *s, clnorm_kind k, clnorm_ulong column) {
  return clnorm_sum_1(s, k, 0, column);
}

/* The two trees of the second sweep side by side. */
typedef struct clnorm_moments {
  clnorm_vec d, dd;
} clnorm_moments;

CLNORM_FN clnorm_moments clnorm_moments_add(clnorm_moments a, clnorm_moments b) {
  a.d = a.d + b.d;
  a.dd = a.dd + b.dd;
  return a;
}

#define CLNORM_MOMENTS(w, finer)                                                                   \
  CLNORM_FN clnorm_moments clnorm_moments_##w(const clnorm_rows *s, clnorm_kind k,                 \
                                              clnorm_uint row, clnorm_ulong column,                \
                                              clnorm_vec pivot) {                                  \
    clnorm_moments a = clnorm_moments_##finer(s, k, row, column, pivot);                           \
    if (!clnorm_row_there(k, row + w)) return a;                                                   \
    const clnorm_moments b = clnorm_moments_##finer(s, k, row + w, column, pivot);                 \
    if (k.first != w) return clnorm_moments_add(a, b);                                             \
    a.d = a.d + b.d;                                                                               \
    a.dd = clnorm_vec_fma(b.d, b.d, a.dd);                                                         \
    return a;                                                                                      \
  }
CLNORM_FN clnorm_moments clnorm_moments_16(const clnorm_rows *s, clnorm_kind k, clnorm_uint row,
                                           clnorm_ulong column, clnorm_vec pivot) {
  clnorm_moments m;
  m.d = clnorm_row(s, k, row, column, pivot) - pivot;
  m.dd = m.d * m.d;
  return m;
}
CLNORM_MOMENTS(8, 16)
CLNORM_MOMENTS(4, 8)
CLNORM_MOMENTS(2, 4)
CLNORM_MOMENTS(1, 2)
#undef CLNORM_MOMENTS

CLNORM_FN clnorm_moments clnorm_moments_tree(const clnorm_rows *s, clnorm_kind k,
                                             clnorm_ulong column, clnorm_vec pivot) {
  return clnorm_moments_1(s, k, 0, column, pivot);
}

/* The power of two that holds n. */
CLNORM_FN clnorm_uint clnorm_ceil_log2(clnorm_uint n) {
  clnorm_uint log2 = 0;
  while (1u << log2 < n) log2++;
  return log2;
}

/* A case of a switch that finds a body with constants. */
#define CLNORM_CASE(value, body)                                                                   \
  case value:                                                                                      \
    body;                                                                                          \
    break;

/* BODY(log2) with the power of two that holds up to 16 rows as a constant. */
#define CLNORM_BY_LOG2(rows, BODY)                                                                 \
  switch (clnorm_ceil_log2(rows)) {                                                                \
    CLNORM_CASE(0, BODY(0))                                                                        \
    CLNORM_CASE(1, BODY(1))                                                                        \
    CLNORM_CASE(2, BODY(2))                                                                        \
    CLNORM_CASE(3, BODY(3))                                                                        \
  default:                                                                                         \
    BODY(4);                                                                                       \
  }

/* 64 places to one: columns by halves, in loops that every compiler unrolls, then lanes by halves. */
CLNORM_FN float clnorm_fold(clnorm_vec *columns) {
  for (clnorm_uint i = 0; CLNORM_COLUMNS > 8 && i < 8; i++)
    columns[i] = columns[i] + columns[i + 8];
  for (clnorm_uint i = 0; CLNORM_COLUMNS > 4 && i < 4; i++)
    columns[i] = columns[i] + columns[i + 4];
  for (clnorm_uint i = 0; i < 2; i++) columns[i] = columns[i] + columns[i + 2];
  return clnorm_fold_vec(columns[0] + columns[1]);
}

/* ---- Slots: planes of more than 64 values, a channel after the other ------------------------------- */

/* Segment `index` of the channel whose first plane is at x. */
CLNORM_FN void clnorm_slots_at(clnorm_rows *s, CLNORM_GLOBAL const float *x,
                               const clnorm_geometry *g, clnorm_uint index) {
  const clnorm_segment segment = clnorm_segment_at(g, index);
  s->x = x + segment.first;
  s->sample = g->channels * g->spatial;
  s->extent = segment.extent;
  s->slots = segment.planes;
  s->per_slot = g->slot_log2 - 6;
}

/* Brings a quarter of a segment close, in the order of memory, which is what processors foresee. */
CLNORM_FN void clnorm_slots_fetch(const clnorm_rows *s, clnorm_uint column) {
  const clnorm_uint lines = (s->extent + CLNORM_LINE - 1) / CLNORM_LINE;
  const clnorm_uint begin = column * lines / CLNORM_ROW;
  const clnorm_uint end = (column + CLNORM_LANES) * lines / CLNORM_ROW;
  if (s->slots == 1) {
    clnorm_uint i = begin;
    for (; i + 4 <= end; i += 4) {
      CLNORM_GLOBAL const float *p = s->x + i * CLNORM_LINE;
      clnorm_prefetch(p);
      clnorm_prefetch(p + 16);
      clnorm_prefetch(p + 32);
      clnorm_prefetch(p + 48);
    }
    for (; i < end; i++) clnorm_prefetch(s->x + i * CLNORM_LINE);
    return;
  }
  for (clnorm_uint slot = 0; slot < s->slots; slot++)
    for (clnorm_uint i = begin; i < end; i++)
      clnorm_prefetch(s->x + slot * s->sample + i * CLNORM_LINE);
}

CLNORM_FN int clnorm_slots_whole(const clnorm_rows *s) { return s->extent == CLNORM_SEGMENT; }

/* BODY(slot, filled) as constants: rows of a slot and how many of them have something. */
#define CLNORM_SLOT_CASE(slot, filled, BODY) CLNORM_CASE((slot)*16 + (filled), BODY(slot, filled))
#define CLNORM_BY_SLOT(slot, filled, BODY)                                                         \
  switch ((slot)*16 + (filled)) {                                                                  \
    CLNORM_SLOT_CASE(2, 2, BODY)                                                                   \
    CLNORM_SLOT_CASE(4, 3, BODY)                                                                   \
    CLNORM_SLOT_CASE(4, 4, BODY)                                                                   \
    CLNORM_SLOT_CASE(8, 5, BODY)                                                                   \
    CLNORM_SLOT_CASE(8, 6, BODY)                                                                   \
    CLNORM_SLOT_CASE(8, 7, BODY)                                                                   \
    CLNORM_SLOT_CASE(8, 8, BODY)                                                                   \
    CLNORM_SLOT_CASE(16, 1, BODY)                                                                  \
    CLNORM_SLOT_CASE(16, 2, BODY)                                                                  \
    CLNORM_SLOT_CASE(16, 3, BODY)                                                                  \
    CLNORM_SLOT_CASE(16, 4, BODY)                                                                  \
    CLNORM_SLOT_CASE(16, 5, BODY)                                                                  \
    CLNORM_SLOT_CASE(16, 6, BODY)                                                                  \
    CLNORM_SLOT_CASE(16, 7, BODY)                                                                  \
    CLNORM_SLOT_CASE(16, 8, BODY)                                                                  \
    CLNORM_SLOT_CASE(16, 9, BODY)                                                                  \
    CLNORM_SLOT_CASE(16, 10, BODY)                                                                 \
    CLNORM_SLOT_CASE(16, 11, BODY)                                                                 \
    CLNORM_SLOT_CASE(16, 12, BODY)                                                                 \
    CLNORM_SLOT_CASE(16, 13, BODY)                                                                 \
    CLNORM_SLOT_CASE(16, 14, BODY)                                                                 \
    CLNORM_SLOT_CASE(16, 15, BODY)                                                                 \
    CLNORM_SLOT_CASE(16, 16, BODY)                                                                 \
  }

/* Rows of each slot that have something. */
CLNORM_FN clnorm_uint clnorm_slots_filled(const clnorm_rows *s) {
  return (s->extent + CLNORM_ROW - 1) / CLNORM_ROW;
}

/* Rows of a slot where all slots are there; a slot that is alone has the other rows as well, empty; else 0. */
CLNORM_FN clnorm_uint clnorm_slots_all(const clnorm_rows *s) {
  if (s->slots == 1) return 16;
  return s->slots << s->per_slot == 16 ? 1u << s->per_slot : 0;
}

#define CLNORM_WHOLE_KIND ((clnorm_kind){CLNORM_WHOLE, 16, 16, 16, 8})
#define CLNORM_PART_KIND                                                                           \
  ((clnorm_kind){CLNORM_SLOTS_PART, 16, 0, 0, 8}) /* some slots are missing */

CLNORM_FN float clnorm_slots_sum(const clnorm_rows *s, clnorm_kind k) {
  clnorm_vec sum[CLNORM_COLUMNS];
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) sum[i] = clnorm_sum_tree(s, k, i * CLNORM_LANES);
  return clnorm_fold(sum);
}

CLNORM_NOINLINE float clnorm_slots_sum_part(const clnorm_rows *s) {
#define CLNORM_BODY(slot, filled)                                                                  \
  return clnorm_slots_sum(s, (clnorm_kind){CLNORM_SLOTS, 16, slot, filled, 8})
  CLNORM_BY_SLOT(clnorm_slots_all(s), clnorm_slots_filled(s), CLNORM_BODY)
#undef CLNORM_BODY
  return clnorm_slots_sum(s, CLNORM_PART_KIND);
}

/* Sums of the deviations from the pivot and of their squares. */
typedef struct clnorm_deviations {
  float d, dd;
} clnorm_deviations;

/* The second sweep of a segment, while the next one, if there is one, is fetched, and beside what w still
 * has to write: memory is read and written, and the processor computes. */
CLNORM_FN clnorm_deviations clnorm_slots_moments(const clnorm_rows *s, clnorm_kind k, float pivot,
                                                 const clnorm_rows *next, clnorm_writer *w) {
  clnorm_vec d[CLNORM_COLUMNS], dd[CLNORM_COLUMNS];
  const clnorm_vec m = clnorm_splat(pivot);
  const clnorm_uint share = (s->slots * s->extent + CLNORM_ROW - 1) / CLNORM_ROW;
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) {
    if (w->samples) clnorm_write_some(w, share);
    if (next) clnorm_slots_fetch(next, i * CLNORM_LANES);
    const clnorm_moments moments = clnorm_moments_tree(s, k, i * CLNORM_LANES, m);
    d[i] = moments.d;
    dd[i] = moments.dd;
  }
  clnorm_deviations r;
  r.d = clnorm_fold(d);
  r.dd = clnorm_fold(dd);
  return r;
}

CLNORM_NOINLINE clnorm_deviations clnorm_slots_moments_part(const clnorm_rows *s, float pivot,
                                                            const clnorm_rows *next,
                                                            clnorm_writer *w) {
#define CLNORM_BODY(slot, filled)                                                                  \
  return clnorm_slots_moments(s, (clnorm_kind){CLNORM_SLOTS, 16, slot, filled, 8}, pivot, next, w)
  CLNORM_BY_SLOT(clnorm_slots_all(s), clnorm_slots_filled(s), CLNORM_BODY)
#undef CLNORM_BODY
  return clnorm_slots_moments(s, CLNORM_PART_KIND, pivot, next, w);
}

/* The partial of a segment that was fetched. */
CLNORM_FN clnorm_partial clnorm_slots_partial(const clnorm_rows *s, float reciprocal,
                                              const clnorm_rows *next, clnorm_writer *w) {
  const int whole = clnorm_slots_whole(s);
  const float sum = whole ? clnorm_slots_sum(s, CLNORM_WHOLE_KIND) : clnorm_slots_sum_part(s);
  const float pivot = clnorm_plus_zero(sum) * reciprocal;
  const clnorm_deviations k = whole ? clnorm_slots_moments(s, CLNORM_WHOLE_KIND, pivot, next, w)
                                    : clnorm_slots_moments_part(s, pivot, next, w);
  return clnorm_partial_make(s->slots * s->extent, reciprocal, pivot, k.d, k.dd);
}

/* ---- Runs: planes of up to 64 values, a group of neighbouring channels at once ---------------------- */

/* Samples that share a segment, in 2^blocks_log2 blocks of up to 16 rows, whose trees are merged: block k
 * has samples k, k + blocks, k + 2 * blocks, ... */
typedef struct clnorm_samples {
  clnorm_rows rows; /* of the present block; at first of block 0 */
  clnorm_ulong stride;
  clnorm_uint samples, run;            /* how many; elements of the group in one sample */
  clnorm_uint blocks_log2, full, lead; /* full: there is a sample in the upper half of the places */
} clnorm_samples;

CLNORM_FN void clnorm_samples_block(clnorm_samples *s, clnorm_uint block) {
  s->rows.offset = block * s->stride;
  s->rows.rows = (s->samples - block + (1u << s->blocks_log2) - 1) >> s->blocks_log2;
  s->rows.paired = s->full && (s->blocks_log2 == 0 || s->rows.rows > 8);
}

CLNORM_FN void clnorm_samples_at(clnorm_samples *s, CLNORM_GLOBAL const float *x,
                                 const clnorm_geometry *g, clnorm_uint channels,
                                 clnorm_uint index) {
  const clnorm_segment segment = clnorm_segment_at(g, index);
  const clnorm_uint log2 = clnorm_ceil_log2(segment.planes);
  s->stride = g->channels * g->spatial;
  s->samples = segment.planes;
  s->run = channels * segment.extent;
  s->blocks_log2 = clnorm_ceil_log2((segment.planes + 15) / 16);
  s->rows.x = x + segment.first;
  s->lead = clnorm_lead(s->rows.x);
  for (clnorm_uint r = 0; r < 16; r++)
    s->rows.row[r] = s->rows.x + ((clnorm_ulong)r << s->blocks_log2) * s->stride;
  s->rows.extent = s->run;
  s->full = log2 == 10 - g->slot_log2;
  clnorm_samples_block(s, 0);
}

/* Columns of a run are vectors that are aligned in the first sample. The first and the last overlap their
 * neighbours where the run is long enough: the same values once more, and every vector whole. */
CLNORM_FN clnorm_uint clnorm_samples_columns(const clnorm_samples *s) {
  if (s->run < CLNORM_LANES) return 1;
  return (s->lead + s->run + CLNORM_LANES - 1) / CLNORM_LANES;
}
CLNORM_FN clnorm_uint clnorm_samples_column(const clnorm_samples *s, clnorm_uint i) {
  const clnorm_uint column = i * CLNORM_LANES - (i ? s->lead : 0);
  return column && column + CLNORM_LANES > s->run ? s->run - CLNORM_LANES : column;
}

/* The order in which a binary counter merges blocks to the tree: bits of i reversed. */
CLNORM_FN clnorm_uint clnorm_reversed(clnorm_uint i, clnorm_uint bits) {
  clnorm_uint r = 0;
  for (clnorm_uint k = 0; k < bits; k++) r |= (i >> k & 1) << (bits - 1 - k);
  return r;
}

/* The number of rows as a constant: its power of two where parts are looked for; 16 whole ones. first: half
 * of that power of two, or none. */
CLNORM_NOINLINE clnorm_vec clnorm_block_sum(const clnorm_rows *s, clnorm_ulong column) {
  if (s->rows == 16 && s->extent >= CLNORM_LANES)
    return clnorm_sum_tree(s, (clnorm_kind){CLNORM_SAMPLES, 16, 0, 0, 0}, column);
#define CLNORM_BODY(log2)                                                                          \
  return clnorm_sum_tree(s, (clnorm_kind){CLNORM_SAMPLES_PART, 1 << log2, 0, 0, 0}, column)
  CLNORM_BY_LOG2(s->rows, CLNORM_BODY)
#undef CLNORM_BODY
}

CLNORM_FN clnorm_vec clnorm_samples_sum(clnorm_samples *s, clnorm_uint column) {
  clnorm_vec stack[7];
  clnorm_uint depth = 0;
  for (clnorm_uint i = 0; i < 1u << s->blocks_log2; i++) {
    clnorm_samples_block(s, clnorm_reversed(i, s->blocks_log2));
    clnorm_vec v = clnorm_block_sum(&s->rows, column);
    for (clnorm_uint ones = i; ones & 1; ones >>= 1) v = stack[--depth] + v;
    stack[depth++] = v;
  }
  return stack[0];
}

CLNORM_NOINLINE clnorm_moments clnorm_block_moments(const clnorm_rows *s, clnorm_ulong column,
                                                    clnorm_vec pivot) {
  if (s->rows == 16 && s->extent >= CLNORM_LANES && s->paired)
    return clnorm_moments_tree(s, (clnorm_kind){CLNORM_SAMPLES, 16, 0, 0, 8}, column, pivot);
#define CLNORM_BODY(log2)                                                                          \
  return clnorm_moments_tree(                                                                      \
      s, (clnorm_kind){CLNORM_SAMPLES_PART, 1 << log2, 0, 0, s->paired ? (1 << log2) / 2 : 0},     \
      column, pivot)
  CLNORM_BY_LOG2(s->rows, CLNORM_BODY)
#undef CLNORM_BODY
}

CLNORM_FN clnorm_moments clnorm_samples_moments(clnorm_samples *s, clnorm_uint column,
                                                clnorm_vec pivot) {
  clnorm_moments stack[7];
  clnorm_uint depth = 0;
  for (clnorm_uint i = 0; i < 1u << s->blocks_log2; i++) {
    clnorm_samples_block(s, clnorm_reversed(i, s->blocks_log2));
    clnorm_moments m = clnorm_block_moments(&s->rows, column, pivot);
    for (clnorm_uint ones = i; ones & 1; ones >>= 1) m = clnorm_moments_add(stack[--depth], m);
    stack[depth++] = m;
  }
  return stack[0];
}

/* Both sweeps: each of columns [begin, end) of a run, the sum of its rows. rows: a constant, where there are
 * so many and whole vectors; 0 for any. */
CLNORM_FN void clnorm_columns_sums(clnorm_samples *s, clnorm_uint begin, clnorm_uint end,
                                   float *sums, clnorm_uint rows) {
  const clnorm_kind k = {CLNORM_SAMPLES, rows, 0, 0, 0};
  for (clnorm_uint i = begin; i < end; i++) {
    const clnorm_uint column = clnorm_samples_column(s, i);
    const clnorm_vec v =
        rows ? clnorm_sum_tree(&s->rows, k, column) : clnorm_samples_sum(s, column);
    clnorm_vec_store_private(sums + column, v);
  }
}

CLNORM_FN void clnorm_columns_moments(clnorm_samples *s, clnorm_uint begin, clnorm_uint end,
                                      const float *pivots, float *d, float *dd, clnorm_writer *w,
                                      clnorm_uint rows) {
  const clnorm_kind k = {CLNORM_SAMPLES, rows, 0, 0, rows == 16 ? 8 : 0};
  for (clnorm_uint i = begin; i < end; i++) {
    const clnorm_uint column = clnorm_samples_column(s, i);
    const clnorm_vec pivot = clnorm_vec_load_private(pivots + column);
    const clnorm_moments m = rows ? clnorm_moments_tree(&s->rows, k, column, pivot)
                                  : clnorm_samples_moments(s, column, pivot);
    clnorm_vec_store_private(d + column, m.d);
    clnorm_vec_store_private(dd + column, m.dd);
    if (w->samples) clnorm_write_some(w, clnorm_uint_max(s->samples + s->samples / 2, 8));
  }
}

/* Samples of a segment, where a body is made for so many: 16 are all there can be, or else the upper half
 * of the places is empty. */
CLNORM_FN clnorm_uint clnorm_samples_constant(const clnorm_samples *s) {
  if (s->blocks_log2 || s->run < CLNORM_LANES) return 0;
  return s->rows.paired == (s->samples == 16) ? s->samples : 0;
}

#define CLNORM_BY_SAMPLES(s, BODY)                                                                 \
  switch (clnorm_samples_constant(s)) {                                                            \
    CLNORM_CASE(1, BODY(1))                                                                        \
    CLNORM_CASE(2, BODY(2))                                                                        \
    CLNORM_CASE(4, BODY(4))                                                                        \
    CLNORM_CASE(8, BODY(8))                                                                        \
    CLNORM_CASE(16, BODY(16))                                                                      \
  default:                                                                                         \
    BODY(0);                                                                                       \
  }

CLNORM_NOINLINE void clnorm_run_sums(clnorm_samples *s, clnorm_uint begin, clnorm_uint end,
                                     float *sums) {
#define CLNORM_BODY(rows) clnorm_columns_sums(s, begin, end, sums, rows)
  CLNORM_BY_SAMPLES(s, CLNORM_BODY);
#undef CLNORM_BODY
}

CLNORM_NOINLINE void clnorm_run_moments(clnorm_samples *s, clnorm_uint begin, clnorm_uint end,
                                        const float *pivots, float *d, float *dd,
                                        clnorm_writer *w) {
#define CLNORM_BODY(rows) clnorm_columns_moments(s, begin, end, pivots, d, dd, w, rows)
  CLNORM_BY_SAMPLES(s, CLNORM_BODY);
#undef CLNORM_BODY
}

/* The tree over what is left of each of channels [begin, end): up to 64 values. */
CLNORM_NOINLINE void clnorm_fold_runs(const float *values, clnorm_uint begin, clnorm_uint end,
                                      clnorm_uint spatial, float *sums) {
  clnorm_part parts[CLNORM_COLUMNS];
  clnorm_vec columns[CLNORM_COLUMNS];
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) {
    const clnorm_uint before = clnorm_uint_min(i * CLNORM_LANES, spatial);
    parts[i] = clnorm_part_of(clnorm_uint_min(spatial - before, CLNORM_LANES));
  }
  for (clnorm_uint c = begin; c < end; c++) {
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++)
      columns[i] = clnorm_vec_load_private_part(values + c * spatial + i * CLNORM_LANES, parts[i]);
    sums[c] = clnorm_fold(columns);
  }
}

/* Nodes of a group's channels, which count alike. */
typedef struct clnorm_nodes {
  clnorm_ulong count;
  float hi[CLNORM_GROUP_MAX], lo[CLNORM_GROUP_MAX], m2[CLNORM_GROUP_MAX];
} clnorm_nodes;

CLNORM_FN clnorm_partial clnorm_nodes_get(const clnorm_nodes *n, clnorm_uint c) {
  const clnorm_partial p = {n->count, n->hi[c], n->lo[c], n->m2[c], 0};
  return p;
}

CLNORM_FN void clnorm_nodes_set(clnorm_nodes *n, clnorm_uint c, clnorm_partial p) {
  n->hi[c] = p.hi;
  n->lo[c] = p.lo;
  n->m2[c] = p.m2;
}

/* a becomes what it and b after it make. */
CLNORM_FN void clnorm_nodes_merge(clnorm_nodes *a, const clnorm_nodes *b, clnorm_uint channels) {
  const clnorm_weights k = clnorm_weights_make(a->count, b->count);
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_nodes_set(a, c,
                     clnorm_merge_weighted(clnorm_nodes_get(a, c), clnorm_nodes_get(b, c), k));
  a->count += b->count;
}

/* Elements of a run, and of a piece of all its rows: both sweeps of so many stay in a first cache. */
#define CLNORM_RUN_MAX 1024u
#define CLNORM_PIECE_MAX 4096u

/* One value for each element of a run, aligned like the run in the first sample. */
typedef struct clnorm_run_values {
  float at[CLNORM_RUN_MAX + 2 * CLNORM_LANES + CLNORM_ROW] __attribute__((aligned(64)));
} clnorm_run_values;

/* What the segments of some channels work with. */
typedef struct clnorm_run {
  clnorm_run_values d, dd, pivots; /* one for each element */
  float pivot[CLNORM_GROUP_MAX], sum_d[CLNORM_GROUP_MAX], sum_dd[CLNORM_GROUP_MAX];
} clnorm_run;

/* Columns that have something of the first n elements of a run, and those that have nothing else. */
CLNORM_FN clnorm_uint clnorm_columns_touched(const clnorm_samples *s, clnorm_uint n) {
  return n == s->run ? clnorm_samples_columns(s) : (s->lead + n + CLNORM_LANES - 1) / CLNORM_LANES;
}
CLNORM_FN clnorm_uint clnorm_columns_within(const clnorm_samples *s, clnorm_uint n) {
  return n == s->run ? clnorm_samples_columns(s) : (s->lead + n) / CLNORM_LANES;
}

/* Nodes of one segment of channels [c0, c0 + channels) of a group, whose first plane is at x. A piece of
 * `most` channels after the other goes through both sweeps. A column that has something of the next piece
 * waits for it with the second sweep, and the channel before with it. */
CLNORM_FN void clnorm_run_segment(clnorm_run *k, CLNORM_GLOBAL const float *x,
                                  const clnorm_geometry *g, clnorm_uint index, float reciprocal,
                                  clnorm_uint c0, clnorm_uint channels, clnorm_uint most,
                                  clnorm_nodes *nodes, clnorm_writer *w) {
  clnorm_samples s;
  clnorm_samples_at(&s, x + c0 * g->spatial, g, channels, index);
  float *d = k->d.at + s.lead, *dd = k->dd.at + s.lead, *pivots = k->pivots.at + s.lead;
  const clnorm_uint spatial = (clnorm_uint)g->spatial;
  clnorm_uint summed = 0, swept = 0, ready = 0; /* columns, columns, channels */
  for (clnorm_uint begin = 0; begin < channels; begin += most) {
    const clnorm_uint end = clnorm_uint_min(begin + most, channels);
    const clnorm_uint touched = clnorm_columns_touched(&s, end * spatial);
    const clnorm_uint within = clnorm_columns_within(&s, end * spatial);
    const clnorm_uint done = end == channels ? end : (within * CLNORM_LANES - s.lead) / spatial;
    clnorm_run_sums(&s, summed, touched, d);
    clnorm_fold_runs(d, begin, end, spatial, k->pivot);
    for (clnorm_uint c = begin; c < end; c++)
      k->pivot[c] = clnorm_plus_zero(k->pivot[c]) * reciprocal;
    for (clnorm_uint c = begin; c < end; c++) clnorm_expand(pivots, c, spatial, k->pivot[c]);
    clnorm_run_moments(&s, swept, within, pivots, d, dd, w);
    clnorm_fold_runs(d, ready, done, spatial, k->sum_d);
    clnorm_fold_runs(dd, ready, done, spatial, k->sum_dd);
    summed = touched;
    swept = within;
    ready = done;
  }
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_nodes_set(
        nodes, c0 + c,
        clnorm_partial_make(nodes->count, reciprocal, k->pivot[c], k->sum_d[c], k->sum_dd[c]));
}

/* ---- Nodes of either kind ------------------------------------------------------------------------- */

/* What the segments of a group of channels work with. */
typedef struct clnorm_group {
  CLNORM_GLOBAL const float *x; /* the first plane */
  clnorm_uint channels, end;    /* channels of the group; the first segment that is not asked for */
  clnorm_uint count;            /* of the last segment that was not whole; */
  float reciprocal;             /* 1 / count */
  clnorm_uint present;          /* which of the two rows is; the other one is the next */
  clnorm_rows rows[2];
  clnorm_run run;
} clnorm_group;

/* Nodes of segment `index`. */
CLNORM_FN void clnorm_group_slots(clnorm_group *k, const clnorm_geometry *g, clnorm_uint index,
                                  float reciprocal, clnorm_nodes *nodes, clnorm_writer *w) {
  for (clnorm_uint c = 0; c < k->channels; c++) {
    const clnorm_rows *s = &k->rows[k->present];
    clnorm_rows *next = &k->rows[1 - k->present];
    if (c + 1 < k->channels)
      clnorm_slots_at(next, k->x + (c + 1) * g->spatial, g, index);
    else if (index + 1 < k->end)
      clnorm_slots_at(next, k->x, g, index + 1);
    else
      next = 0;
    clnorm_nodes_set(nodes, c, clnorm_slots_partial(s, reciprocal, next, w));
    k->present = 1 - k->present;
  }
}

/* Runs are whole vectors where they can be: `vectors` channels are. */
CLNORM_FN void clnorm_group_runs(clnorm_group *k, const clnorm_geometry *g, clnorm_uint index,
                                 float reciprocal, clnorm_nodes *nodes, clnorm_writer *w) {
  const clnorm_uint spatial = (clnorm_uint)g->spatial;
  const clnorm_uint rows = (clnorm_uint)clnorm_min(g->batch, 16);
  const clnorm_uint piece = CLNORM_PIECE_MAX / rows / spatial;
  const clnorm_uint vectors = CLNORM_LANES / clnorm_uint_min(spatial & -spatial, CLNORM_LANES);
  clnorm_uint most = CLNORM_RUN_MAX / spatial;
  if (most > vectors) most -= most % vectors;
  for (clnorm_uint c = 0; c < k->channels; c += most)
    clnorm_run_segment(&k->run, k->x, g, index, reciprocal, c,
                       clnorm_uint_min(most, k->channels - c), piece, nodes, w);
}

CLNORM_FN void clnorm_group_segment(clnorm_group *k, const clnorm_geometry *g, clnorm_uint index,
                                    clnorm_nodes *nodes, clnorm_writer *w) {
  const clnorm_segment s = clnorm_segment_at(g, index);
  const clnorm_uint count = s.planes * s.extent;
  if (count != CLNORM_SEGMENT && count != k->count) {
    k->count = count;
    k->reciprocal = clnorm_div(1.0f, (float)count);
  }
  const float reciprocal = count == CLNORM_SEGMENT ? 0x1p-10f : k->reciprocal;
  nodes->count = count;
  if (g->spatial <= CLNORM_ROW)
    clnorm_group_runs(k, g, index, reciprocal, nodes, w);
  else
    clnorm_group_slots(k, g, index, reciprocal, nodes, w);
}

/* Nodes of segments [begin, end) of channels [c0, c1), at most CLNORM_GROUP_MAX of them, merged as by a
 * counter (clnorm_forward.h), all channels alike. w is written on the way. */
CLNORM_FN void clnorm_group_nodes(const clnorm_buffers *b, const clnorm_geometry *g,
                                  clnorm_ulong c0, clnorm_ulong c1, clnorm_uint begin,
                                  clnorm_uint end, clnorm_nodes *nodes, clnorm_writer *w) {
  clnorm_group k;
  clnorm_nodes stack[32];
  clnorm_uint depth = 0;
  k.x = b->x + c0 * g->spatial;
  k.channels = (clnorm_uint)(c1 - c0);
  k.end = end;
  k.count = k.present = 0;
  if (g->spatial > CLNORM_ROW) clnorm_slots_at(&k.rows[0], k.x, g, begin);
  for (clnorm_uint i = begin; i < end; i++) {
    clnorm_group_segment(&k, g, i, &stack[depth], w);
    for (clnorm_uint ones = i - begin; ones & 1; ones >>= 1, depth--)
      clnorm_nodes_merge(&stack[depth - 1], &stack[depth], k.channels);
    depth++;
  }
  for (depth--; depth; depth--) clnorm_nodes_merge(&stack[depth - 1], &stack[depth], k.channels);
  nodes->count = stack[0].count;
  for (clnorm_uint c = 0; c < k.channels; c++)
    clnorm_nodes_set(nodes, c, clnorm_nodes_get(&stack[0], c));
}

/* ---- Items: what one worker does at a time (clnorm_stage in host/core/schedule.h) ------------------ */

/* The affines of a tile's channels, in two loops: the first becomes vectors. */
CLNORM_FN void clnorm_writer_batch(clnorm_writer *w, const clnorm_buffers *b,
                                   const clnorm_forward *call, const clnorm_tile *t,
                                   const clnorm_nodes *nodes) {
  const clnorm_uint channels = (clnorm_uint)(t->c1 - t->c0);
  clnorm_spread spread[CLNORM_GROUP_MAX];
  for (clnorm_uint c = 0; c < channels; c++)
    spread[c] = clnorm_spread_make(call, nodes->count, nodes->m2[c]);
  for (clnorm_uint c = 0; c < channels; c++)
    w->affine[c] = clnorm_affine_spread(b, call, t->c0 + c, clnorm_nodes_get(nodes, c), spread[c]);
}

CLNORM_FN void clnorm_writer_given(clnorm_writer *w, const clnorm_buffers *b,
                                   const clnorm_forward *call, const clnorm_tile *t) {
  const clnorm_uint channels = (clnorm_uint)(t->c1 - t->c0);
  float invstd[CLNORM_GROUP_MAX];
  for (clnorm_uint c = 0; c < channels; c++)
    invstd[c] = clnorm_rsqrt(b->running_var[t->c0 + c] + call->eps);
  for (clnorm_uint c = 0; c < channels; c++)
    w->affine[c] = clnorm_affine_make(b, call, t->c0 + c, b->running_mean[t->c0 + c], 0.0f,
                                      invstd[c], clnorm_tile_saves(t));
}

/* Groups [begin, end): while the statistics of one are computed, the output of the one before is written. */
CLNORM_FN void clnorm_items_channel(const clnorm_buffers *b, const clnorm_forward *call,
                                    clnorm_ulong begin, clnorm_ulong end) {
  clnorm_writer w;
  clnorm_nodes nodes;
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  w.samples = w.flags = 0;
  for (clnorm_ulong item = begin; item < end; item++) {
    const clnorm_ulong c0 = item * call->group;
    const clnorm_tile t = {c0, clnorm_min(c0 + call->group, g.channels), 0, g.batch, 0, g.spatial};
    clnorm_group_nodes(b, &g, t.c0, t.c1, 0, g.segments, &nodes, &w);
    clnorm_write_all(&w);
    clnorm_writer_start(&w, b, call, &t);
    clnorm_writer_batch(&w, b, call, &t, &nodes);
    clnorm_writer_expand(&w);
  }
  clnorm_write_all(&w);
}

/* One node of each channel of a group. */
CLNORM_FN void clnorm_item_partials(const clnorm_buffers *b, const clnorm_forward *call,
                                    clnorm_ulong item) {
  clnorm_writer none;
  clnorm_nodes nodes;
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong group = item / call->chunks, chunk = item - group * call->chunks;
  const clnorm_ulong c0 = group * call->group, c1 = clnorm_min(c0 + call->group, g.channels);
  const clnorm_ulong begin = chunk << call->chunk_log2;
  const clnorm_ulong end = clnorm_min(begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  none.samples = none.flags = 0;
  clnorm_group_nodes(b, &g, c0, c1, (clnorm_uint)begin, (clnorm_uint)end, &nodes, &none);
  for (clnorm_uint c = 0; c < c1 - c0; c++)
    b->partials[(c0 + c) * call->chunks + chunk] = clnorm_nodes_get(&nodes, c);
}

CLNORM_FN void clnorm_item_finalize(const clnorm_buffers *b, const clnorm_forward *call,
                                    clnorm_ulong item) {
  clnorm_counter counter;
  counter.count = counter.depth = 0;
  for (clnorm_uint i = 0; i < call->chunks; i++)
    clnorm_counter_push(&counter, b->partials[item * call->chunks + i]);
  b->affine[item] = clnorm_affine_batch(b, call, item, clnorm_counter_result(&counter));
}

CLNORM_FN void clnorm_item_apply(const clnorm_buffers *b, const clnorm_forward *call,
                                 clnorm_ulong item) {
  clnorm_writer w;
  const clnorm_tile t = clnorm_tile_at(call, item);
  clnorm_writer_start(&w, b, call, &t);
  if (call->flags & CLNORM_BATCH_MODE)
    for (clnorm_ulong c = t.c0; c < t.c1; c++) w.affine[c - t.c0] = b->affine[c];
  else
    clnorm_writer_given(&w, b, call, &t);
  clnorm_writer_expand(&w);
  clnorm_write_all(&w);
}

CLNORM_FN void clnorm_item_copy(const clnorm_buffers *b, const clnorm_forward *call,
                                clnorm_ulong item) {
  clnorm_writer w;
  const clnorm_tile t = clnorm_tile_at(call, item);
  const clnorm_affine none = {0.0f, 0.0f, 1.0f, 0.0f};
  clnorm_writer_start(&w, b, call, &t);
  w.affine[0] = none;
  clnorm_write(&w, CLNORM_ALL_VECTORS, CLNORM_RUN_COPY);
}

#endif
