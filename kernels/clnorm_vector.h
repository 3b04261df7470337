/*
 * The vector form: one worker (a CPU thread, or a work-group of one work-item) walks whole segments with
 * vectors. Read by the C compiler for the CPU path and by the OpenCL compiler for CPU-class devices.
 *
 * A segment is 16 rows that are added first, column by column; then what remains is folded. There are two
 * ways to lay rows over memory, with one tree (docs/arithmetic.md):
 *
 *   large planes, more than 512 values     rows are 64 neighbouring values of one plane
 *
 *      row 0  | x0  x1  .. x63    (0+8)+(4+12) and so on: the order of the tree, walked so
 *      row 1  | x64 x65 ..        that few vectors are alive at once
 *
 *   small planes                           a row is a run: the planes of neighbouring channels, which are
 *                                          one piece of memory; rows are samples
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
 *   clnorm_vec_load_private(t), clnorm_vec_store_private(t, v)   the same for private arrays;
 *   clnorm_vec_load_private_part(t, n)                           lanes from n <= LANES on are 0
 *   clnorm_vec_stream(p, v)            aligned to the vector's size; written around the caches
 *   clnorm_stream_end()            orders streamed writes before what follows
 *   clnorm_prefetch(p)             p may be any address
 *   CLNORM_FEW_BODIES              0; 1 where compile time matters more than the last tenth of speed
 *   clnorm_fold_vec(v)             lanes folded by halves: (lane i) + (lane i + LANES / 2), ...
 */
#ifndef CLNORM_VECTOR_H
#define CLNORM_VECTOR_H

#include "clnorm_forward.h"

#define CLNORM_COLUMNS (CLNORM_ROW / CLNORM_LANES)

/* ---- Output --------------------------------------------------------------------------------------- */

/* One value for each element of a run, aligned like the run itself: element i is at[lead + i]. */
typedef struct clnorm_run_values {
  float at[CLNORM_RUN_MAX + 2 * CLNORM_LANES] __attribute__((aligned(64)));
} clnorm_run_values;

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

/* A tile's output, written piece by piece between other work: the processor stores what is ready while it
 * computes something else. Runs are the planes of the tile's channels or, where these are small, all of
 * them together; then hi, lo, scale and shift are spread out, one for each element. */
typedef struct clnorm_writer {
  CLNORM_GLOBAL const float *x; /* the tile's first element */
  CLNORM_GLOBAL float *y;
  clnorm_ulong plane, sample; /* elements from channel to channel, from sample to sample */
  clnorm_ulong run, at;       /* a run's length; how much of the present one is written */
  clnorm_uint runs, channel;  /* runs of a sample; the present one */
  clnorm_ulong samples;       /* still to write, the present one included */
  clnorm_uint flags, lead;
  clnorm_affine affine[CLNORM_GROUP_MAX];
  clnorm_run_values hi, lo, scale, shift;
} clnorm_writer;

/* Where a run's affine comes from. A constant in every call. */
#define CLNORM_RUN_COPY 0     /* nowhere: y = x */
#define CLNORM_RUN_CHANNEL 1  /* one for all elements */
#define CLNORM_RUN_EXPANDED 2 /* one for each element */

CLNORM_FN clnorm_vec clnorm_normalize(clnorm_vec x, clnorm_vec hi, clnorm_vec lo, clnorm_vec scale,
                                      clnorm_vec shift) {
  return clnorm_vec_fma((x - hi) - lo, scale, shift);
}

/* The affine of a whole run, in registers. */
typedef struct clnorm_splats {
  clnorm_vec hi, lo, scale, shift;
} clnorm_splats;

/* v is element i of the run, and what follows. */
CLNORM_FN clnorm_vec clnorm_written(const clnorm_writer *w, const clnorm_splats *a, clnorm_vec v,
                                    int mode, clnorm_ulong i) {
  if (mode == CLNORM_RUN_COPY) return v;
  if (mode == CLNORM_RUN_CHANNEL) return clnorm_normalize(v, a->hi, a->lo, a->scale, a->shift);
  i += w->lead;
  return clnorm_normalize(
      v, clnorm_vec_load_private(w->hi.at + i), clnorm_vec_load_private(w->lo.at + i),
      clnorm_vec_load_private(w->scale.at + i), clnorm_vec_load_private(w->shift.at + i));
}

/* Elements [w->at, end) of the present run, which starts at x and y; y may be x. Streamed stores are
 * aligned. */
CLNORM_FN void clnorm_write_run(const clnorm_writer *w, CLNORM_GLOBAL float *y,
                                CLNORM_GLOBAL const float *x, clnorm_ulong end, int mode) {
#define OUTPUT(v) clnorm_written(w, &a, v, mode, i)
  const clnorm_affine *affine = &w->affine[w->channel];
  const clnorm_splats a = {clnorm_splat(affine->hi), clnorm_splat(affine->lo),
                           clnorm_splat(affine->scale), clnorm_splat(affine->shift)};
  clnorm_ulong i = w->at;
  const clnorm_uint into = clnorm_lead(y + i);
  if (into && i + CLNORM_LANES < end) {
    const clnorm_uint head = CLNORM_LANES - into;
    clnorm_vec_store_part(y + i, OUTPUT(clnorm_vec_load_part(x + i, head, clnorm_splat(0.0f))),
                          head);
    i += head;
  }
  if (w->flags & CLNORM_STREAM && clnorm_lead(y + i) == 0)
    for (; i + CLNORM_LANES <= end; i += CLNORM_LANES)
      clnorm_vec_stream(y + i, OUTPUT(clnorm_vec_load(x + i)));
  for (; i + CLNORM_LANES <= end; i += CLNORM_LANES)
    clnorm_vec_store(y + i, OUTPUT(clnorm_vec_load(x + i)));
  if (i < end) {
    const clnorm_uint tail = (clnorm_uint)(end - i);
    clnorm_vec_store_part(y + i, OUTPUT(clnorm_vec_load_part(x + i, tail, clnorm_splat(0.0f))),
                          tail);
  }
#undef OUTPUT
}

/* Writes about `vectors` more vectors: whole runs, or pieces that end where a vector of y ends. */
CLNORM_FN void clnorm_write(clnorm_writer *w, clnorm_ulong vectors, int mode) {
  while (w->samples && vectors) {
    const clnorm_ulong sample = w->flags & CLNORM_LAST_FIRST ? (w->samples - 1) * w->sample : 0;
    CLNORM_GLOBAL float *y = w->y + sample + w->channel * w->plane;
    CLNORM_GLOBAL const float *x = w->x + sample + w->channel * w->plane;
    const clnorm_ulong left = w->run - w->at;
    const clnorm_ulong most = vectors * CLNORM_LANES - clnorm_lead(y + w->at);
    const clnorm_ulong end = w->at + (left < most ? left : most);
    clnorm_write_run(w, y, x, end, mode);
    vectors -= (end - w->at + CLNORM_LANES - 1) / CLNORM_LANES;
    w->at = end;
    if (end < w->run) return;
    w->at = 0;
    if (++w->channel < w->runs) continue;
    w->channel = 0;
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
    clnorm_write(w, vectors, CLNORM_RUN_CHANNEL);
}

#define CLNORM_ALL_VECTORS (~(clnorm_ulong)0 / 64)

CLNORM_FN void clnorm_write_all(clnorm_writer *w) { clnorm_write_some(w, CLNORM_ALL_VECTORS); }

CLNORM_FN void clnorm_writer_start(clnorm_writer *w, const clnorm_buffers *b,
                                   const clnorm_forward *call, const clnorm_tile *t) {
  const clnorm_ulong first = (t->n0 * call->channels + t->c0) * call->spatial + t->p0;
  w->x = b->x + first;
  w->y = b->y + first;
  w->plane = call->spatial;
  w->sample = call->channels * call->spatial;
  w->run = t->p1 - t->p0;
  w->runs = (clnorm_uint)(t->c1 - t->c0);
  w->at = w->channel = 0;
  w->samples = t->n1 - t->n0;
  w->flags = call->flags & (CLNORM_STREAM | CLNORM_LAST_FIRST);
  w->lead = clnorm_lead(w->y);
}

/* Small planes of several samples are worth the work of spreading the affine out. */
CLNORM_FN void clnorm_writer_expand(clnorm_writer *w) {
  const clnorm_uint spatial = (clnorm_uint)w->plane;
  if (w->run != w->plane || w->plane >= 256 || w->runs * w->plane > CLNORM_RUN_MAX ||
      w->samples < 4)
    return;
  for (clnorm_uint c = 0; c < w->runs; c++) {
    clnorm_expand(w->hi.at + w->lead, c, spatial, w->affine[c].hi);
    clnorm_expand(w->lo.at + w->lead, c, spatial, w->affine[c].lo);
    clnorm_expand(w->scale.at + w->lead, c, spatial, w->affine[c].scale);
    clnorm_expand(w->shift.at + w->lead, c, spatial, w->affine[c].shift);
  }
  w->run *= w->runs;
  w->runs = 1;
  w->flags |= CLNORM_EXPANDED;
}

/* ---- Rows of a segment ---------------------------------------------------------------------------- */

/* Row r begins at x + 64 * r in a plane, at values + 64 * r in a private array, at row[r] + offset in
 * samples. */
typedef struct clnorm_rows {
  CLNORM_GLOBAL const float *x;
  const float *values;
  CLNORM_GLOBAL const float *row[16];
  clnorm_ulong offset;
  clnorm_uint rows;   /* samples: how many rows there are */
  clnorm_uint extent; /* plane, private array: elements of all rows; samples: of each row */
  clnorm_uint kind;
} clnorm_rows;

/* A kind is how many rows are looked at, 1, 2, 4, 8 or 16 (what is not there adds nothing, and is left out
 * of the tree), and whether
 *   WHOLE   all of them are there, with a whole vector each
 *   PAIRED  the tree's first step is among them: row r with row r + rows / 2 */
#define CLNORM_ROWS_COUNT 31u
#define CLNORM_ROWS_WHOLE 32u
#define CLNORM_ROWS_PAIRED 64u
#define CLNORM_ROWS_FULL (16u | CLNORM_ROWS_PAIRED | CLNORM_ROWS_WHOLE)

/* How rows lie in memory, and whether all are there. A constant in every call. */
#define CLNORM_PLANE_WHOLE 0
#define CLNORM_PLANE_PART 1
#define CLNORM_SAMPLES_WHOLE 2
#define CLNORM_SAMPLES_PART 3
#define CLNORM_VALUES_PART 4

CLNORM_FN clnorm_uint clnorm_uint_min(clnorm_uint a, clnorm_uint b) { return a < b ? a : b; }

/* LANES places of one row; absent ones read as `fill`: 0 in the sum, the pivot in the deviations. */
CLNORM_FN clnorm_vec clnorm_row(const clnorm_rows *s, clnorm_uint row, clnorm_uint column,
                                clnorm_vec fill, int layout) {
  if (layout == CLNORM_PLANE_WHOLE) return clnorm_vec_load(s->x + row * CLNORM_ROW + column);
  if (layout == CLNORM_SAMPLES_WHOLE) return clnorm_vec_load(s->row[row] + (s->offset + column));
  const int samples = layout == CLNORM_SAMPLES_PART;
  const clnorm_uint skipped = samples ? column : row * CLNORM_ROW + column;
  if (samples ? row >= s->rows : skipped >= s->extent) return fill;
  if (layout == CLNORM_VALUES_PART)
    return clnorm_vec_load_private_part(s->values + skipped,
                                        clnorm_uint_min(s->extent - skipped, CLNORM_LANES));
  CLNORM_GLOBAL const float *p = samples ? s->row[row] + (s->offset + column) : s->x + skipped;
  const clnorm_uint left = s->extent - skipped;
  return left >= CLNORM_LANES ? clnorm_vec_load(p) : clnorm_vec_load_part(p, left, fill);
}

CLNORM_FN clnorm_vec clnorm_sum_tree(const clnorm_rows *s, clnorm_uint column, clnorm_uint rows,
                                     int layout) {
#define V(r) clnorm_row(s, r, column, clnorm_splat(0.0f), layout)
  if (rows == 1) return V(0);
  if (rows == 2) return V(0) + V(1);
  if (rows == 4) return (V(0) + V(2)) + (V(1) + V(3));
  if (rows == 8) return ((V(0) + V(4)) + (V(2) + V(6))) + ((V(1) + V(5)) + (V(3) + V(7)));
  return (((V(0) + V(8)) + (V(4) + V(12))) + ((V(2) + V(10)) + (V(6) + V(14)))) +
         (((V(1) + V(9)) + (V(5) + V(13))) + ((V(3) + V(11)) + (V(7) + V(15))));
#undef V
}

/* The two trees of the second sweep side by side. */
typedef struct clnorm_moments {
  clnorm_vec d, dd;
} clnorm_moments;

CLNORM_FN clnorm_moments clnorm_moments_one(const clnorm_rows *s, clnorm_uint row,
                                            clnorm_uint column, clnorm_vec pivot, int layout) {
  clnorm_moments m;
  m.d = clnorm_row(s, row, column, pivot, layout) - pivot;
  m.dd = m.d * m.d;
  return m;
}

CLNORM_FN clnorm_moments clnorm_moments_add(clnorm_moments a, clnorm_moments b) {
  a.d = a.d + b.d;
  a.dd = a.dd + b.dd;
  return a;
}

CLNORM_FN clnorm_moments clnorm_moments_pair(const clnorm_rows *s, clnorm_uint row,
                                             clnorm_uint other, clnorm_uint column,
                                             clnorm_vec pivot, int layout, int paired) {
  clnorm_moments a = clnorm_moments_one(s, row, column, pivot, layout);
  const clnorm_moments b = clnorm_moments_one(s, other, column, pivot, layout);
  if (!paired) return clnorm_moments_add(a, b);
  a.d = a.d + b.d;
  a.dd = clnorm_vec_fma(b.d, b.d, a.dd);
  return a;
}

CLNORM_FN clnorm_moments clnorm_moments_tree(const clnorm_rows *s, clnorm_uint column,
                                             clnorm_vec pivot, clnorm_uint rows, int layout,
                                             int paired) {
#define M(r) clnorm_moments_pair(s, r, r + rows / 2, column, pivot, layout, paired)
#define A(a, b) clnorm_moments_add(a, b)
  if (rows == 1) return clnorm_moments_one(s, 0, column, pivot, layout);
  if (rows == 2) return M(0);
  if (rows == 4) return A(M(0), M(1));
  if (rows == 8) return A(A(M(0), M(2)), A(M(1), M(3)));
  const clnorm_moments even = A(A(M(0), M(4)), A(M(2), M(6)));
  const clnorm_moments odd = A(A(M(1), M(5)), A(M(3), M(7)));
  return A(even, odd);
#undef A
#undef M
}

/* RETURN(rows) with the number of rows as a constant. */
#define CLNORM_BY_ROWS(kind, RETURN)                                                               \
  switch ((kind)&CLNORM_ROWS_COUNT) {                                                              \
  case 1:                                                                                          \
    RETURN(1);                                                                                     \
  case 2:                                                                                          \
    RETURN(2);                                                                                     \
  case 4:                                                                                          \
    RETURN(4);                                                                                     \
  case 8:                                                                                          \
    RETURN(8);                                                                                     \
  default:                                                                                         \
    RETURN(16);                                                                                    \
  }

/* The power of two that holds n. */
CLNORM_FN clnorm_uint clnorm_ceil_log2(clnorm_uint n) {
  clnorm_uint log2 = 0;
  while (1u << log2 < n) log2++;
  return log2;
}

/* ---- Large planes: one segment after the other ---------------------------------------------------- */

/* Segment `index` of the channel whose first plane is at x; planes have more than 512 values. */
CLNORM_FN void clnorm_plane_rows(clnorm_rows *s, CLNORM_GLOBAL const float *x,
                                 const clnorm_geometry *g, clnorm_uint index) {
  const clnorm_segment segment = clnorm_segment_at(g, index);
  s->x = x + segment.first;
  s->extent = segment.extent;
  s->kind = CLNORM_ROWS_FULL;
  if (segment.extent == CLNORM_SEGMENT) return;
  s->kind = 1u << clnorm_ceil_log2((segment.extent + CLNORM_ROW - 1) / CLNORM_ROW);
  if (s->kind == 16u) s->kind |= CLNORM_ROWS_PAIRED;
}

CLNORM_NOINLINE clnorm_vec clnorm_plane_sum(const clnorm_rows *s, clnorm_uint column){
#define CLNORM_RETURN(rows) return clnorm_sum_tree(s, column, rows, CLNORM_PLANE_PART)
    CLNORM_BY_ROWS(s->kind, CLNORM_RETURN)
#undef CLNORM_RETURN
}

CLNORM_NOINLINE clnorm_moments
    clnorm_plane_moments(const clnorm_rows *s, clnorm_uint column, clnorm_vec pivot){
#define CLNORM_RETURN(rows)                                                                        \
  return clnorm_moments_tree(s, column, pivot, rows, CLNORM_PLANE_PART, rows == 16)
        CLNORM_BY_ROWS(s->kind, CLNORM_RETURN)
#undef CLNORM_RETURN
    }

/* 64 places to one: columns by halves, then lanes by halves. */
CLNORM_FN float clnorm_fold(clnorm_vec *columns) {
  for (clnorm_uint w = CLNORM_COLUMNS / 2; w; w /= 2)
    for (clnorm_uint i = 0; i < w; i++) columns[i] = columns[i] + columns[i + w];
  return clnorm_fold_vec(columns[0]);
}

typedef struct clnorm_sweep {
  float sum, d, dd;
} clnorm_sweep;

/* The second sweep of one segment beside the first sweep of the next, so that neither waits for the
 * other's folding, and beside what w still has to write; s or next may be null. rows: 16, a constant,
 * where both have 16 rows, whole or not as layout, a constant, says; 0: any. */
CLNORM_FN clnorm_sweep clnorm_sweep_columns(const clnorm_rows *s, float pivot,
                                            const clnorm_rows *next,
                                            CLNORM_GLOBAL const float *ahead, clnorm_writer *w,
                                            clnorm_uint rows, int layout) {
  clnorm_vec sum[CLNORM_COLUMNS], d[CLNORM_COLUMNS], dd[CLNORM_COLUMNS];
  clnorm_sweep result = {0.0f, 0.0f, 0.0f};
  const clnorm_vec m = clnorm_splat(pivot);
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) {
    const clnorm_uint column = i * CLNORM_LANES;
    if (next) {
      sum[i] = rows ? clnorm_sum_tree(next, column, rows, layout) : clnorm_plane_sum(next, column);
      if (w->samples)
        clnorm_write_some(w, 16);
      else
        for (clnorm_uint r = 0; r < 16; r++) clnorm_prefetch(ahead + (16 * i + r) * CLNORM_LANES);
    }
    if (s) {
      const clnorm_moments moments = rows ? clnorm_moments_tree(s, column, m, rows, layout, 1)
                                          : clnorm_plane_moments(s, column, m);
      d[i] = moments.d;
      dd[i] = moments.dd;
    }
  }
  if (next) result.sum = clnorm_fold(sum);
  if (s) {
    result.d = clnorm_fold(d);
    result.dd = clnorm_fold(dd);
  }
  return result;
}

CLNORM_FN clnorm_sweep clnorm_sweep_both(const clnorm_rows *s, float pivot, const clnorm_rows *next,
                                         CLNORM_GLOBAL const float *ahead, clnorm_writer *w) {
  const clnorm_uint both = s->kind & next->kind;
  if (both == CLNORM_ROWS_FULL)
    return clnorm_sweep_columns(s, pivot, next, ahead, w, 16, CLNORM_PLANE_WHOLE);
  if (!CLNORM_FEW_BODIES && both & 16u)
    return clnorm_sweep_columns(s, pivot, next, ahead, w, 16, CLNORM_PLANE_PART);
  return clnorm_sweep_columns(s, pivot, next, ahead, w, 0, CLNORM_PLANE_PART);
}

/* One node: segments [begin, end) of the channel whose first plane is at x. w is written on the way. */
CLNORM_FN clnorm_partial clnorm_plane_node(CLNORM_GLOBAL const float *x, const clnorm_geometry *g,
                                           clnorm_uint begin, clnorm_uint end, clnorm_writer *w) {
  clnorm_counter counter;
  clnorm_rows s, next, ahead;
  counter.count = counter.depth = 0;
  clnorm_plane_rows(&s, x, g, begin);
  clnorm_plane_rows(&next, x, g, begin + 1 < end ? begin + 1 : begin);
  clnorm_sweep sweep = clnorm_sweep_columns(0, 0.0f, &s, next.x, w, 0, CLNORM_PLANE_PART);
  for (clnorm_uint i = begin; i < end; i++) {
    const float reciprocal =
        s.kind == CLNORM_ROWS_FULL ? 0x1p-10f : clnorm_div(1.0f, (float)s.extent);
    const float pivot = clnorm_plus_zero(sweep.sum) * reciprocal;
    clnorm_plane_rows(&ahead, x, g, i + 2 < end ? i + 2 : begin);
    sweep = i + 1 < end ? clnorm_sweep_both(&s, pivot, &next, ahead.x, w)
                        : clnorm_sweep_columns(&s, pivot, 0, 0, w, 0, CLNORM_PLANE_PART);
    clnorm_counter_push(&counter,
                        clnorm_partial_make(s.extent, reciprocal, pivot, sweep.d, sweep.dd));
    s.x = next.x, s.extent = next.extent, s.kind = next.kind;
    next.x = ahead.x, next.extent = ahead.extent, next.kind = ahead.kind;
  }
  return clnorm_counter_result(&counter);
}

/* ---- Small planes: a group of neighbouring channels at once --------------------------------------- */

/* Samples that share a segment, in 2^blocks_log2 blocks of up to 16 rows, whose trees are merged: block k
 * has samples k, k + blocks, k + 2 * blocks, ... */
typedef struct clnorm_samples {
  clnorm_rows rows; /* of the present block; at first of block 0 */
  clnorm_ulong stride;
  clnorm_uint samples, run; /* how many; elements of the group in one sample */
  clnorm_uint blocks_log2, lead;
} clnorm_samples;

CLNORM_FN void clnorm_samples_block(clnorm_samples *s, clnorm_uint block) {
  s->rows.offset = block * s->stride;
  s->rows.rows = (s->samples - block + (1u << s->blocks_log2) - 1) >> s->blocks_log2;
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
  s->rows.kind = 1u << (log2 - s->blocks_log2);
  if (log2 == 10 - g->slot_log2 && log2 > 0) s->rows.kind |= CLNORM_ROWS_PAIRED;
  if (s->run >= CLNORM_LANES && s->samples == 1u << log2) s->rows.kind |= CLNORM_ROWS_WHOLE;
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

CLNORM_NOINLINE clnorm_vec clnorm_block_sum(const clnorm_rows *s, clnorm_uint column) {
  if ((s->kind & ~CLNORM_ROWS_PAIRED) == (16u | CLNORM_ROWS_WHOLE))
    return clnorm_sum_tree(s, column, 16, CLNORM_SAMPLES_WHOLE);
#define CLNORM_RETURN(rows) return clnorm_sum_tree(s, column, rows, CLNORM_SAMPLES_PART)
  CLNORM_BY_ROWS(s->kind, CLNORM_RETURN)
#undef CLNORM_RETURN
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

CLNORM_NOINLINE clnorm_moments clnorm_block_moments(const clnorm_rows *s, clnorm_uint column,
                                                    clnorm_vec pivot) {
  if (s->kind == (16u | CLNORM_ROWS_WHOLE))
    return clnorm_moments_tree(s, column, pivot, 16, CLNORM_SAMPLES_WHOLE, 0);
  if (s->kind == CLNORM_ROWS_FULL)
    return clnorm_moments_tree(s, column, pivot, 16, CLNORM_SAMPLES_WHOLE, 1);
#define CLNORM_RETURN(rows)                                                                        \
  return clnorm_moments_tree(s, column, pivot, rows, CLNORM_SAMPLES_PART,                          \
                             (s->kind & CLNORM_ROWS_PAIRED) != 0)
  CLNORM_BY_ROWS(s->kind, CLNORM_RETURN)
#undef CLNORM_RETURN
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

/* Both sweeps: every column of a run, the sum of its rows. rows: a constant, 0 for any. Columns of a few
 * samples are too little work to write between. */
CLNORM_FN void clnorm_columns_sums(clnorm_samples *s, float *sums, clnorm_writer *w,
                                   clnorm_uint rows) {
  for (clnorm_uint i = 0; i < clnorm_samples_columns(s); i++) {
    const clnorm_uint column = clnorm_samples_column(s, i);
    const clnorm_vec v = rows ? clnorm_sum_tree(&s->rows, column, rows, CLNORM_SAMPLES_WHOLE)
                              : clnorm_samples_sum(s, column);
    clnorm_vec_store_private(sums + column, v);
    if (w->samples && s->samples >= 8) clnorm_write_some(w, s->samples / 2 + 1);
  }
}

CLNORM_FN void clnorm_columns_moments(clnorm_samples *s, const float *pivots, float *d, float *dd,
                                      clnorm_writer *w, clnorm_uint rows, int paired) {
  for (clnorm_uint i = 0; i < clnorm_samples_columns(s); i++) {
    const clnorm_uint column = clnorm_samples_column(s, i);
    const clnorm_vec pivot = clnorm_vec_load_private(pivots + column);
    const clnorm_moments m =
        rows ? clnorm_moments_tree(&s->rows, column, pivot, rows, CLNORM_SAMPLES_WHOLE, paired)
             : clnorm_samples_moments(s, column, pivot);
    clnorm_vec_store_private(d + column, m.d);
    clnorm_vec_store_private(dd + column, m.dd);
    if (w->samples && s->samples >= 8) clnorm_write_some(w, s->samples / 2 + 1);
  }
}

CLNORM_NOINLINE void clnorm_run_sums(clnorm_samples *s, float *sums, clnorm_writer *w) {
#define CLNORM_RETURN(rows)                                                                        \
  clnorm_columns_sums(s, sums, w, rows);                                                           \
  return
  if (!CLNORM_FEW_BODIES && s->blocks_log2 == 0 && (s->rows.kind & CLNORM_ROWS_WHOLE))
    CLNORM_BY_ROWS(s->rows.kind, CLNORM_RETURN)
#undef CLNORM_RETURN
  clnorm_columns_sums(s, sums, w, 0);
}

CLNORM_NOINLINE void clnorm_run_moments(clnorm_samples *s, const float *pivots, float *d, float *dd,
                                        clnorm_writer *w) {
  if (!CLNORM_FEW_BODIES && s->blocks_log2 == 0 && (s->rows.kind & CLNORM_ROWS_WHOLE)) {
#define CLNORM_RETURN(rows)                                                                        \
  clnorm_columns_moments(s, pivots, d, dd, w, rows, 1);                                            \
  return
    if (s->rows.kind & CLNORM_ROWS_PAIRED) CLNORM_BY_ROWS(s->rows.kind, CLNORM_RETURN)
#undef CLNORM_RETURN
#define CLNORM_RETURN(rows)                                                                        \
  clnorm_columns_moments(s, pivots, d, dd, w, rows, 0);                                            \
  return
    CLNORM_BY_ROWS(s->rows.kind, CLNORM_RETURN)
#undef CLNORM_RETURN
  }
  clnorm_columns_moments(s, pivots, d, dd, w, 0, 0);
}

/* The tree over each channel's slot, which has this many rows, a constant. */
CLNORM_FN void clnorm_fold_rows(const float *values, clnorm_uint channels, clnorm_uint spatial,
                                float *sums, clnorm_uint rows) {
  clnorm_rows s;
  s.extent = spatial;
  for (clnorm_uint c = 0; c < channels; c++) {
    clnorm_vec columns[CLNORM_COLUMNS];
    s.values = values + c * spatial;
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++)
      columns[i] = clnorm_sum_tree(&s, i * CLNORM_LANES, rows, CLNORM_VALUES_PART);
    sums[c] = clnorm_fold(columns);
  }
}

CLNORM_NOINLINE void clnorm_fold_slots(const float *values, clnorm_uint channels,
                                       clnorm_uint spatial, float *sums) {
  if (spatial > 4 * CLNORM_ROW)
    clnorm_fold_rows(values, channels, spatial, sums, 8);
  else if (spatial > 2 * CLNORM_ROW)
    clnorm_fold_rows(values, channels, spatial, sums, 4);
  else if (spatial > CLNORM_ROW)
    clnorm_fold_rows(values, channels, spatial, sums, 2);
  else if (spatial > CLNORM_LANES)
    clnorm_fold_rows(values, channels, spatial, sums, 1);
  else
    for (clnorm_uint c = 0; c < channels; c++)
      sums[c] = clnorm_fold_vec(clnorm_vec_load_private_part(values + c * spatial, spatial));
}

/* What the segments of a group of channels work with. */
typedef struct clnorm_group {
  clnorm_run_values d, dd, pivots; /* one for each element */
  float pivot[CLNORM_GROUP_MAX], sum_d[CLNORM_GROUP_MAX], sum_dd[CLNORM_GROUP_MAX];
} clnorm_group;

/* Partials of one segment of each of a group's channels. */
CLNORM_FN void clnorm_group_segment(clnorm_group *k, clnorm_samples *s, clnorm_uint channels,
                                    const clnorm_geometry *g, clnorm_partial *partials,
                                    clnorm_writer *w) {
  float *d = k->d.at + s->lead, *dd = k->dd.at + s->lead, *pivots = k->pivots.at + s->lead;
  const clnorm_uint spatial = (clnorm_uint)g->spatial;
  const clnorm_uint count = s->samples * spatial;
  const float reciprocal = clnorm_div(1.0f, (float)count);
  clnorm_run_sums(s, d, w);
  clnorm_fold_slots(d, channels, spatial, k->pivot);
  for (clnorm_uint c = 0; c < channels; c++)
    k->pivot[c] = clnorm_plus_zero(k->pivot[c]) * reciprocal;
  for (clnorm_uint c = 0; c < channels; c++) clnorm_expand(pivots, c, spatial, k->pivot[c]);
  clnorm_run_moments(s, pivots, d, dd, w);
  clnorm_fold_slots(d, channels, spatial, k->sum_d);
  clnorm_fold_slots(dd, channels, spatial, k->sum_dd);
  for (clnorm_uint c = 0; c < channels; c++)
    partials[c] = clnorm_partial_make(count, reciprocal, k->pivot[c], k->sum_d[c], k->sum_dd[c]);
}

/* A counter (clnorm_forward.h) for each channel of a group: they count alike. */
typedef struct clnorm_counters {
  clnorm_partial stack[32][CLNORM_GROUP_MAX];
  clnorm_uint count, depth;
} clnorm_counters;

/* p becomes the node on top of the stack. */
CLNORM_FN void clnorm_counters_push(clnorm_counters *k, clnorm_uint channels, clnorm_partial *p) {
  for (clnorm_uint ones = k->count; ones & 1; ones >>= 1) {
    k->depth--;
    for (clnorm_uint c = 0; c < channels; c++) p[c] = clnorm_merge(k->stack[k->depth][c], p[c]);
  }
  for (clnorm_uint c = 0; c < channels; c++) k->stack[k->depth][c] = p[c];
  k->depth++;
  k->count++;
}

/* The nodes of segments [begin, end) of a group of channels, the first of whose planes is at x. */
CLNORM_FN void clnorm_group_nodes(CLNORM_GLOBAL const float *x, const clnorm_geometry *g,
                                  clnorm_uint channels, clnorm_uint begin, clnorm_uint end,
                                  clnorm_partial *nodes, clnorm_writer *w) {
  clnorm_group work;
  clnorm_counters counters;
  counters.count = counters.depth = 0;
  for (clnorm_uint i = begin; i < end; i++) {
    clnorm_samples s;
    clnorm_samples_at(&s, x, g, channels, i);
    clnorm_group_segment(&work, &s, channels, g, nodes, w);
    clnorm_counters_push(&counters, channels, nodes);
  }
  for (clnorm_uint level = counters.depth - 1; level; level--)
    for (clnorm_uint c = 0; c < channels; c++)
      nodes[c] = clnorm_merge(counters.stack[level - 1][c], nodes[c]);
}

/* ---- Nodes of either kind ------------------------------------------------------------------------- */

/* Nodes of segments [begin, end) of channels [c0, c1), at most CLNORM_GROUP_MAX of them; small planes at
 * most CLNORM_RUN_MAX values. w is written on the way. */
CLNORM_FN void clnorm_nodes(const clnorm_buffers *b, const clnorm_geometry *g, clnorm_ulong c0,
                            clnorm_ulong c1, clnorm_uint begin, clnorm_uint end,
                            clnorm_partial *nodes, clnorm_writer *w) {
  CLNORM_GLOBAL const float *x = b->x + c0 * g->spatial;
  if (g->spatial <= CLNORM_SMALL_PLANE)
    clnorm_group_nodes(x, g, (clnorm_uint)(c1 - c0), begin, end, nodes, w);
  else
    for (clnorm_ulong c = 0; c < c1 - c0; c++)
      nodes[c] = clnorm_plane_node(x + c * g->spatial, g, begin, end, w);
}

/* ---- Items: what one worker does at a time (clnorm_stage in host/core/schedule.h) ------------------ */

/* While the statistics of one group of channels are computed, the output of the group before is written. */
CLNORM_FN void clnorm_item_channel(const clnorm_buffers *b, const clnorm_forward *call,
                                   clnorm_ulong item) {
  clnorm_writer w;
  clnorm_partial nodes[CLNORM_GROUP_MAX];
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong begin = item * call->groups * call->group;
  const clnorm_ulong end = clnorm_min(begin + call->groups * call->group, g.channels);
  w.samples = w.flags = 0;
  for (clnorm_ulong c0 = begin; c0 < end; c0 += call->group) {
    const clnorm_tile t = {c0, clnorm_min(c0 + call->group, end), 0, g.batch, 0, g.spatial};
    clnorm_nodes(b, &g, t.c0, t.c1, 0, g.segments, nodes, &w);
    clnorm_write_all(&w);
    clnorm_writer_start(&w, b, call, &t);
    for (clnorm_ulong c = t.c0; c < t.c1; c++)
      w.affine[c - c0] = clnorm_affine_batch(b, call, c, nodes[c - c0]);
    clnorm_writer_expand(&w);
  }
  clnorm_write_all(&w);
  if (call->flags & CLNORM_STREAM) clnorm_stream_end();
}

/* One node of each channel of a group. */
CLNORM_FN void clnorm_item_partials(const clnorm_buffers *b, const clnorm_forward *call,
                                    clnorm_ulong item) {
  clnorm_writer none;
  clnorm_partial nodes[CLNORM_GROUP_MAX];
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong group = item / call->chunks, chunk = item - group * call->chunks;
  const clnorm_ulong c0 = group * call->group, c1 = clnorm_min(c0 + call->group, g.channels);
  const clnorm_ulong begin = chunk << call->chunk_log2;
  const clnorm_ulong end = clnorm_min(begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  none.samples = none.flags = 0;
  clnorm_nodes(b, &g, c0, c1, (clnorm_uint)begin, (clnorm_uint)end, nodes, &none);
  for (clnorm_ulong c = c0; c < c1; c++) b->partials[c * call->chunks + chunk] = nodes[c - c0];
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
  for (clnorm_ulong c = t.c0; c < t.c1; c++)
    w.affine[c - t.c0] = clnorm_tile_affine(b, call, &t, c);
  clnorm_writer_expand(&w);
  clnorm_write_all(&w);
  if (call->flags & CLNORM_STREAM) clnorm_stream_end();
}

CLNORM_FN void clnorm_item_copy(const clnorm_buffers *b, const clnorm_forward *call,
                                clnorm_ulong item) {
  clnorm_writer w;
  const clnorm_tile t = clnorm_tile_at(call, item);
  const clnorm_affine none = {0.0f, 0.0f, 1.0f, 0.0f};
  clnorm_writer_start(&w, b, call, &t);
  w.affine[0] = none;
  clnorm_write(&w, CLNORM_ALL_VECTORS, CLNORM_RUN_COPY);
  if (call->flags & CLNORM_STREAM) clnorm_stream_end();
}

#endif
