/*
 * The vector form: one worker (a CPU thread, or a work-group of one work-item) walks whole segments with
 * vectors. Read by the C compiler for the CPU path and by the OpenCL compiler for CPU-class devices.
 *
 * A segment is 16 rows of 64 places. Rows are added first, column by column, then the 64 places of the
 * row that remains are folded. One column of rows, two lanes of a vector shown:
 *
 *      row 0  | x0 x1 ..          (0+8)+(4+12) and so on: the order of docs/arithmetic.md, walked so
 *      row 1  | x64 x65 ..        that few vectors are alive at once
 *      ...
 *
 * The includer defines before including this file
 *   CLNORM_LANES                   floats in a vector: 4, 8 or 16
 *   clnorm_vec                     the vector; + - * work on it
 *   clnorm_splat(s)                all lanes s
 *   clnorm_vec_fma(a, b, c)
 *   clnorm_vec_load(p)                 LANES floats from memory, any alignment
 *   clnorm_vec_load_part(p, n, fill)   n < LANES floats, the other lanes are `fill`, nothing else is read
 *   clnorm_vec_load_private(t)         LANES floats from a private array
 *   clnorm_vec_store(p, v), clnorm_vec_store_part(p, v, n)
 *   clnorm_vec_stream(p, v)            aligned to the vector's size; written around the caches
 *   clnorm_stream_end()            orders streamed writes before what follows
 *   CLNORM_PLACES_FN               CLNORM_FN, or CLNORM_NOINLINE where compile time matters more
 *   clnorm_prefetch(p)             p may be any address
 *   clnorm_fold_vec(v)             lanes folded by halves: (lane i) + (lane i + LANES / 2), ...
 */
#ifndef CLNORM_VECTOR_H
#define CLNORM_VECTOR_H

#include "clnorm_forward.h"

#define CLNORM_COLUMNS (CLNORM_ROW / CLNORM_LANES)

/* ---- One segment ---------------------------------------------------------------------------------- */

/* A segment as the loops below see it. Absent places read as `fill`: 0 in the sum, the pivot in the
 * deviations, which both add nothing. */
typedef struct clnorm_rows {
  CLNORM_GLOBAL const float *x;    /* the segment's first element */
  CLNORM_GLOBAL const float *next; /* its place in the segment to come: prefetched, never read */
  clnorm_ulong plane_stride;
  clnorm_uint slot_log2, extent, planes;
} clnorm_rows;

/* Slots of less than a vector: its places come from several planes. */
CLNORM_NOINLINE clnorm_vec clnorm_places_gathered(const clnorm_rows *s, clnorm_uint place,
                                                  float fill) {
  float t[CLNORM_LANES];
  for (clnorm_uint i = 0; i < CLNORM_LANES; i++) {
    const clnorm_uint plane = (place + i) >> s->slot_log2;
    const clnorm_uint position = (place + i) & ((1u << s->slot_log2) - 1);
    const int there = plane < s->planes && position < s->extent;
    t[i] = there ? s->x[plane * s->plane_stride + position] : fill;
  }
  return clnorm_vec_load_private(t);
}

/* LANES places from `place` on. */
CLNORM_PLACES_FN clnorm_vec clnorm_places(const clnorm_rows *s, clnorm_uint place, float fill,
                                          int prefetch) {
  const clnorm_uint plane = place >> s->slot_log2;
  const clnorm_uint position = place & ((1u << s->slot_log2) - 1);
  if (plane >= s->planes || position >= s->extent) return clnorm_splat(fill);
  if (1u << s->slot_log2 < CLNORM_LANES) return clnorm_places_gathered(s, place, fill);
  const clnorm_ulong at = plane * s->plane_stride + position;
  const clnorm_uint left = s->extent - position;
  if (prefetch) clnorm_prefetch(s->next + at);
  return left >= CLNORM_LANES ? clnorm_vec_load(s->x + at)
                              : clnorm_vec_load_part(s->x + at, left, fill);
}

/* How many of a segment's rows are looked at. A constant in every call: with few samples of small planes
 * most rows are empty, and what adds nothing is left out of the tree. */
#define CLNORM_ROWS_FULL 0 /* all 16, one run of 1024 without holes */
#define CLNORM_ROWS_16 16
#define CLNORM_ROWS_4 4
#define CLNORM_ROWS_1 1

/* One row of a column. */
CLNORM_FN clnorm_vec clnorm_row(const clnorm_rows *s, clnorm_uint row, clnorm_uint column,
                                float fill, int rows, int prefetch) {
  if (rows != CLNORM_ROWS_FULL) return clnorm_places(s, CLNORM_ROW * row + column, fill, prefetch);
  if (prefetch) clnorm_prefetch(s->next + CLNORM_ROW * row + column);
  return clnorm_vec_load(s->x + CLNORM_ROW * row + column);
}

/* 64 places to one: columns by halves, then lanes by halves. */
CLNORM_FN float clnorm_fold(clnorm_vec *columns) {
  for (clnorm_uint w = CLNORM_COLUMNS / 2; w; w /= 2)
    for (clnorm_uint i = 0; i < w; i++) columns[i] = columns[i] + columns[i + w];
  return clnorm_fold_vec(columns[0]);
}

CLNORM_FN clnorm_vec clnorm_sum_column(const clnorm_rows *s, clnorm_uint column, int rows) {
#define V(r) clnorm_row(s, r, column, 0.0f, rows, 0)
  if (rows == CLNORM_ROWS_1) return V(0);
  if (rows == CLNORM_ROWS_4) return (V(0) + V(2)) + (V(1) + V(3));
  return (((V(0) + V(8)) + (V(4) + V(12))) + ((V(2) + V(10)) + (V(6) + V(14)))) +
         (((V(1) + V(9)) + (V(5) + V(13))) + ((V(3) + V(11)) + (V(7) + V(15))));
#undef V
}

CLNORM_FN float clnorm_sum(const clnorm_rows *s, int rows) {
  clnorm_vec columns[CLNORM_COLUMNS];
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++)
    columns[i] = clnorm_sum_column(s, i * CLNORM_LANES, rows);
  return clnorm_fold(columns);
}

/* The two trees of the second sweep side by side. */
typedef struct clnorm_moments {
  clnorm_vec d, dd;
} clnorm_moments;

/* Rows `row` and row + 8, or the first alone where there are fewer. */
CLNORM_FN clnorm_moments clnorm_moments_rows(const clnorm_rows *s, clnorm_uint row,
                                             clnorm_uint column, float pivot, int rows) {
  const clnorm_vec m = clnorm_splat(pivot);
  const clnorm_vec a = clnorm_row(s, row, column, pivot, rows, 1) - m;
  clnorm_moments p;
  p.d = a;
  p.dd = a * a;
  if (rows == CLNORM_ROWS_1 || rows == CLNORM_ROWS_4) return p;
  const clnorm_vec b = clnorm_row(s, row + 8, column, pivot, rows, 1) - m;
  p.d = a + b;
  p.dd = clnorm_vec_fma(b, b, a * a);
  return p;
}

CLNORM_FN clnorm_moments clnorm_moments_add(clnorm_moments a, clnorm_moments b) {
  a.d = a.d + b.d;
  a.dd = a.dd + b.dd;
  return a;
}

CLNORM_FN clnorm_moments clnorm_moments_column(const clnorm_rows *s, clnorm_uint column,
                                               float pivot, int rows) {
#define M(r) clnorm_moments_rows(s, r, column, pivot, rows)
#define A(a, b) clnorm_moments_add(a, b)
  if (rows == CLNORM_ROWS_1) return M(0);
  if (rows == CLNORM_ROWS_4) return A(A(M(0), M(2)), A(M(1), M(3)));
  const clnorm_moments even = A(A(M(0), M(4)), A(M(2), M(6)));
  const clnorm_moments odd = A(A(M(1), M(5)), A(M(3), M(7)));
  return A(even, odd);
#undef A
#undef M
}

CLNORM_FN clnorm_partial clnorm_reduce(const clnorm_rows *s, int rows) {
  clnorm_vec d[CLNORM_COLUMNS], dd[CLNORM_COLUMNS];
  const clnorm_uint count = s->extent * s->planes;
  const float reciprocal = rows == CLNORM_ROWS_FULL ? 0x1p-10f : clnorm_div(1.0f, (float)count);
  const float pivot = clnorm_plus_zero(clnorm_sum(s, rows)) * reciprocal;
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) {
    const clnorm_moments m = clnorm_moments_column(s, i * CLNORM_LANES, pivot, rows);
    d[i] = m.d;
    dd[i] = m.dd;
  }
  const float sum_d = clnorm_fold(d);
  return clnorm_partial_make(count, reciprocal, pivot, sum_d, clnorm_fold(dd));
}

CLNORM_FN clnorm_partial clnorm_reduce_any(const clnorm_rows *s) {
  if (s->extent == CLNORM_SEGMENT) return clnorm_reduce(s, CLNORM_ROWS_FULL);
  const clnorm_uint places =
      ((s->planes - 1) << s->slot_log2) + s->extent; /* up to the last one used */
  if (places <= CLNORM_ROW) return clnorm_reduce(s, CLNORM_ROWS_1);
  if (places <= 4 * CLNORM_ROW) return clnorm_reduce(s, CLNORM_ROWS_4);
  return clnorm_reduce(s, CLNORM_ROWS_16);
}

/* ---- One node: segments [begin, end) of the channel whose first plane is at x ---------------------- */

CLNORM_FN clnorm_partial clnorm_node(CLNORM_GLOBAL const float *x, const clnorm_geometry *g,
                                     clnorm_uint begin, clnorm_uint end) {
  clnorm_counter counter;
  counter.count = counter.depth = 0;
  for (clnorm_uint i = begin; i < end; i++) {
    const clnorm_segment s = clnorm_segment_at(g, i);
    clnorm_rows rows;
    rows.x = x + s.first;
    /* What is read next: the rest of a large plane, or the neighbouring channel's small planes. */
    rows.next = rows.x + (g->spatial > CLNORM_SEGMENT ? CLNORM_SEGMENT : g->spatial);
    rows.plane_stride = g->channels * g->spatial;
    rows.slot_log2 = g->slot_log2;
    rows.extent = s.extent;
    rows.planes = s.planes;
    clnorm_counter_push(&counter, clnorm_reduce_any(&rows));
  }
  return clnorm_counter_result(&counter);
}

/* ---- Output --------------------------------------------------------------------------------------- */

CLNORM_FN clnorm_vec clnorm_normalize(clnorm_vec x, clnorm_vec hi, clnorm_vec lo, clnorm_vec scale,
                                      clnorm_vec shift) {
  return clnorm_vec_fma((x - hi) - lo, scale, shift);
}

/* The affine of every element of a run of channels, side by side: small planes of neighbouring channels
 * are one long run of memory, and are written as one. */
typedef struct clnorm_expanded {
  float hi[CLNORM_RUN_MAX + CLNORM_LANES], lo[CLNORM_RUN_MAX + CLNORM_LANES];
  float scale[CLNORM_RUN_MAX + CLNORM_LANES], shift[CLNORM_RUN_MAX + CLNORM_LANES];
} clnorm_expanded;

/* channels * spatial <= CLNORM_RUN_MAX. What is stored past a channel's end, the next one replaces. */
CLNORM_FN void clnorm_expand(clnorm_expanded *e, const clnorm_affine *affine, clnorm_uint channels,
                             clnorm_uint spatial) {
  for (clnorm_uint c = 0; c < channels; c++)
    for (clnorm_uint i = 0; i < spatial; i += CLNORM_LANES) {
      const clnorm_uint at = c * spatial + i;
      clnorm_vec_store_private(e->hi + at, clnorm_splat(affine[c].hi));
      clnorm_vec_store_private(e->lo + at, clnorm_splat(affine[c].lo));
      clnorm_vec_store_private(e->scale + at, clnorm_splat(affine[c].scale));
      clnorm_vec_store_private(e->shift + at, clnorm_splat(affine[c].shift));
    }
}

/* Where a run's affine comes from. A constant in every call of clnorm_run. */
#define CLNORM_RUN_COPY 0     /* nowhere: y = x */
#define CLNORM_RUN_CHANNEL 1  /* one for all elements */
#define CLNORM_RUN_EXPANDED 2 /* one for each element */

CLNORM_FN clnorm_vec clnorm_run_output(clnorm_vec v, int mode, clnorm_affine a,
                                       const clnorm_expanded *e, clnorm_ulong i) {
  if (mode == CLNORM_RUN_COPY) return v;
  if (mode == CLNORM_RUN_CHANNEL)
    return clnorm_normalize(v, clnorm_splat(a.hi), clnorm_splat(a.lo), clnorm_splat(a.scale),
                            clnorm_splat(a.shift));
  return clnorm_normalize(v, clnorm_vec_load_private(e->hi + i), clnorm_vec_load_private(e->lo + i),
                          clnorm_vec_load_private(e->scale + i),
                          clnorm_vec_load_private(e->shift + i));
}

/* count contiguous elements; y may be x. */
CLNORM_FN void clnorm_run(CLNORM_GLOBAL float *y, CLNORM_GLOBAL const float *x, clnorm_ulong count,
                          int mode, clnorm_affine a, const clnorm_expanded *e, int stream) {
#define OUTPUT(v) clnorm_run_output(v, mode, a, e, i)
  clnorm_ulong i = 0;
  if (stream && count >= 4 * CLNORM_LANES) {
    const clnorm_ulong into = ((clnorm_ulong)y / sizeof(float)) % CLNORM_LANES;
    if (into) {
      const clnorm_uint head = (clnorm_uint)(CLNORM_LANES - into);
      clnorm_vec_store_part(y, OUTPUT(clnorm_vec_load_part(x, head, 0.0f)), head);
      i = head;
    }
    for (; i + CLNORM_LANES <= count; i += CLNORM_LANES)
      clnorm_vec_stream(y + i, OUTPUT(clnorm_vec_load(x + i)));
  }
  for (; i + CLNORM_LANES <= count; i += CLNORM_LANES)
    clnorm_vec_store(y + i, OUTPUT(clnorm_vec_load(x + i)));
  if (i < count) {
    const clnorm_uint tail = (clnorm_uint)(count - i);
    clnorm_vec_store_part(y + i, OUTPUT(clnorm_vec_load_part(x + i, tail, 0.0f)), tail);
  }
#undef OUTPUT
}

/* affine[0] belongs to the tile's first channel. */
CLNORM_FN void clnorm_apply_planes(const clnorm_buffers *b, const clnorm_forward *call,
                                   const clnorm_affine *affine, const clnorm_tile *t, int stream) {
  for (clnorm_ulong n = t->n0; n < t->n1; n++)
    for (clnorm_ulong c = t->c0; c < t->c1; c++) {
      const clnorm_ulong at = (n * call->channels + c) * call->spatial + t->p0;
      clnorm_run(b->y + at, b->x + at, t->p1 - t->p0, CLNORM_RUN_CHANNEL, affine[c - t->c0], 0,
                 stream);
    }
}

CLNORM_FN void clnorm_apply_runs(const clnorm_buffers *b, const clnorm_forward *call,
                                 const clnorm_affine *affine, const clnorm_tile *t, int stream) {
  clnorm_expanded e;
  const clnorm_uint channels = (clnorm_uint)(t->c1 - t->c0);
  clnorm_expand(&e, affine, channels, (clnorm_uint)call->spatial);
  for (clnorm_ulong n = t->n0; n < t->n1; n++) {
    const clnorm_ulong at = (n * call->channels + t->c0) * call->spatial;
    clnorm_run(b->y + at, b->x + at, channels * call->spatial, CLNORM_RUN_EXPANDED, affine[0], &e,
               stream);
  }
}

/* Small planes of several samples are worth the work of expanding. */
CLNORM_FN void clnorm_apply_tile(const clnorm_buffers *b, const clnorm_forward *call,
                                 const clnorm_affine *affine, const clnorm_tile *t) {
  const int stream = (call->flags & CLNORM_STREAM) != 0;
  const clnorm_ulong run = (t->c1 - t->c0) * call->spatial;
  if (call->spatial < 256 && run <= CLNORM_RUN_MAX && t->n1 - t->n0 >= 4)
    clnorm_apply_runs(b, call, affine, t, stream);
  else
    clnorm_apply_planes(b, call, affine, t, stream);
  if (stream) clnorm_stream_end();
}

/* ---- Items: what one worker does at a time (clnorm_stage in host/core/schedule.h) ------------------ */

CLNORM_FN void clnorm_item_channel(const clnorm_buffers *b, const clnorm_forward *call,
                                   clnorm_ulong item) {
  clnorm_affine affine[CLNORM_GROUP_MAX];
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong c0 = item * call->group;
  const clnorm_tile t = {c0, clnorm_min(c0 + call->group, g.channels), 0, g.batch, 0, g.spatial};
  for (clnorm_ulong c = t.c0; c < t.c1; c++) {
    const clnorm_partial p = clnorm_node(b->x + c * g.spatial, &g, 0, g.segments);
    affine[c - c0] = clnorm_affine_batch(b, call, c, p);
  }
  clnorm_apply_tile(b, call, affine, &t);
}

CLNORM_FN void clnorm_item_partials(const clnorm_buffers *b, const clnorm_forward *call,
                                    clnorm_ulong item) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong c = item / call->chunks;
  const clnorm_ulong begin = (item - c * call->chunks) << call->chunk_log2;
  const clnorm_ulong end = clnorm_min(begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  b->partials[item] = clnorm_node(b->x + c * g.spatial, &g, (clnorm_uint)begin, (clnorm_uint)end);
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
  clnorm_affine affine[CLNORM_GROUP_MAX];
  const clnorm_tile t = clnorm_tile_at(call, item);
  for (clnorm_ulong c = t.c0; c < t.c1; c++) affine[c - t.c0] = clnorm_tile_affine(b, call, &t, c);
  clnorm_apply_tile(b, call, affine, &t);
}

CLNORM_FN void clnorm_item_copy(const clnorm_buffers *b, const clnorm_forward *call,
                                clnorm_ulong item) {
  const clnorm_affine none = {0.0f, 0.0f, 1.0f, 0.0f};
  const clnorm_tile t = clnorm_tile_at(call, item);
  const int stream = (call->flags & CLNORM_STREAM) != 0;
  clnorm_run(b->y + t.p0, b->x + t.p0, t.p1 - t.p0, CLNORM_RUN_COPY, none, 0, stream);
  if (stream) clnorm_stream_end();
}

#endif
