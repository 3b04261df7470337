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
 *   clnorm_prefetch(p, i)          element i from p on, modulo 2^64: it may lie anywhere
 *   CLNORM_UNROLL                  before a loop that is to become straight code: its arrays, registers
 *   clnorm_fold_vec(v)             lanes folded by halves: (lane i) + (lane i + LANES / 2), ...
 */
#ifndef CLNORM_VECTOR_H
#define CLNORM_VECTOR_H

#include "clnorm_forward.h"

#define CLNORM_COLUMNS (CLNORM_ROW / CLNORM_LANES)

/* ---- Output --------------------------------------------------------------------------------------- */

/* Elements from the vector before p to p. */
CLNORM_FN clnorm_uint clnorm_lead(CLNORM_GLOBAL const float *p) {
  return (clnorm_uint)((uintptr_t)p / sizeof(float)) % CLNORM_LANES;
}

/* values[c * spatial + p] = each[c] for all p < spatial. What is stored past a channel's end, the next one
 * replaces; the vector after the last one is 0. */
CLNORM_FN void clnorm_expand(float *values, const float *each, clnorm_uint channels,
                             clnorm_uint spatial) {
  for (clnorm_uint c = 0; spatial == 1 && c < channels; c++) values[c] = each[c]; /* in vectors */
  for (clnorm_uint c = 0; spatial > 1 && c < channels; c++)
    for (clnorm_uint p = 0; p < spatial; p += CLNORM_LANES)
      clnorm_vec_store_private(values + c * spatial + p, clnorm_splat(each[c]));
  clnorm_vec_store_private(values + channels * spatial, clnorm_splat(0.0f));
}

#define CLNORM_EXPAND_MAX (2 * CLNORM_LANES)

/* One value for each element of a run of planes of up to EXPAND_MAX values, aligned like the run itself:
 * element i is at[lead + i]. */
typedef struct clnorm_expanded {
  float at[CLNORM_GROUP_MAX * CLNORM_EXPAND_MAX + 2 * CLNORM_LANES] __attribute__((aligned(64)));
} clnorm_expanded;

/* The affines of a tile's channels. */
typedef struct clnorm_coefficient_rows {
  float hi[CLNORM_GROUP_MAX], scale[CLNORM_GROUP_MAX], shift[CLNORM_GROUP_MAX];
} clnorm_coefficient_rows;

CLNORM_FN void clnorm_affines_set(clnorm_coefficient_rows *all, clnorm_ulong c,
                                  clnorm_coefficients a) {
  all->hi[c] = a.hi;
  all->scale[c] = a.scale;
  all->shift[c] = a.shift;
}

/* A tile's output, written piece by piece between other work: the processor stores what is ready while it
 * computes something else. A run is what the tile has of one sample: the planes of its channels, side by
 * side, or a piece of one plane. */
typedef struct clnorm_writer {
  CLNORM_GLOBAL const float *x; /* the present run */
  CLNORM_GLOBAL float *y;
  clnorm_ulong run, at; /* a run's elements; how many of the present one are written */
  clnorm_ulong plane,
      edge;         /* elements of each channel; where the present channel ends in the run */
  clnorm_long step; /* elements from run to run; negative where the last run is the first written */
  clnorm_ulong samples; /* runs still to write, the present one included */
  clnorm_ulong last;    /* elements of the last run */
  clnorm_uint flags, lead, channel;
  clnorm_coefficient_rows affines;
  clnorm_expanded hi, scale, shift;
} clnorm_writer;

/* Where a run's affine comes from. A constant in every call. */
#define CLNORM_RUN_COPY 0     /* nowhere: y = x */
#define CLNORM_RUN_CHANNELS 1 /* a vector has one channel, or two */
#define CLNORM_RUN_EXPANDED 2 /* one for each element */

/* The affine of a vector. */
typedef struct clnorm_splats {
  clnorm_vec hi, scale, shift;
} clnorm_splats;

CLNORM_FN clnorm_splats clnorm_splats_make(const clnorm_coefficient_rows *a, clnorm_uint c) {
  const clnorm_splats s = {clnorm_splat(a->hi[c]), clnorm_splat(a->scale[c]),
                           clnorm_splat(a->shift[c])};
  return s;
}

/* n lanes of a channel, the others of the next one. */
CLNORM_FN clnorm_splats clnorm_splats_blend(clnorm_uint n, clnorm_splats a, clnorm_splats b) {
  a.hi = clnorm_vec_blend(n, a.hi, b.hi);
  a.scale = clnorm_vec_blend(n, a.scale, b.scale);
  a.shift = clnorm_vec_blend(n, a.shift, b.shift);
  return a;
}

CLNORM_FN clnorm_splats clnorm_splats_expanded(const clnorm_writer *w, clnorm_ulong i) {
  i += w->lead;
  const clnorm_splats s = {clnorm_vec_load_private(w->hi.at + i),
                           clnorm_vec_load_private(w->scale.at + i),
                           clnorm_vec_load_private(w->shift.at + i)};
  return s;
}

/* y from the vector v, which is element i of a run and what follows. */
CLNORM_FN clnorm_vec clnorm_normalized(const clnorm_writer *w, clnorm_splats a, clnorm_vec v,
                                       clnorm_ulong i, int mode) {
  if (mode == CLNORM_RUN_COPY) return v;
  if (mode == CLNORM_RUN_EXPANDED) a = clnorm_splats_expanded(w, i);
  return clnorm_vec_fma(v - a.hi, a.scale, a.shift);
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
    const clnorm_splats a = clnorm_splats_make(&w->affines, w->channel);
    const clnorm_ulong edge = mode == CLNORM_RUN_CHANNELS ? clnorm_min(w->edge, end) : end;
    const clnorm_uint into = clnorm_lead(y + i);
    if (into && i + CLNORM_LANES - into <= edge) {
      clnorm_write_part(w, a, y, x, i, CLNORM_LANES - into, mode);
      i += CLNORM_LANES - into;
    }
    i = clnorm_write_whole(w, a, y, x, i, edge, mode);
    if (i < edge && edge < end && w->plane >= CLNORM_LANES && i + CLNORM_LANES <= end) {
      const clnorm_splats next = clnorm_splats_make(&w->affines, w->channel + 1);
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
    const clnorm_ulong all = (w->run - w->at + CLNORM_LANES - 1) / CLNORM_LANES;
    if (vectors < all) {
      const clnorm_ulong end = w->at + vectors * CLNORM_LANES - clnorm_lead(w->y + w->at);
      clnorm_write_run(w, w->y, w->x, end, mode);
      return;
    }
    clnorm_write_run(w, w->y, w->x, w->run, mode);
    vectors -= all;
    w->at = w->channel = 0;
    w->edge = w->plane;
    w->samples--;
    if (!w->samples) return; /* there is no run to point to */
    if (w->samples == 1) w->run = w->last;
    w->x += w->step;
    w->y += w->step;
  }
}

CLNORM_NOINLINE void clnorm_write_any(clnorm_writer *w, clnorm_ulong vectors) {
  if (w->flags & CLNORM_EXPANDED)
    clnorm_write(w, vectors, CLNORM_RUN_EXPANDED);
  else
    clnorm_write(w, vectors, CLNORM_RUN_CHANNELS);
}

/* The same, short where the next piece is streamed, aligned and of one channel. */
CLNORM_FN void clnorm_write_some(clnorm_writer *w, clnorm_ulong vectors) {
  const clnorm_ulong end = w->at + vectors * CLNORM_LANES;
  if (end >= w->edge || (w->flags & (CLNORM_STREAM | CLNORM_EXPANDED)) != CLNORM_STREAM ||
      clnorm_lead(w->y + w->at)) {
    clnorm_write_any(w, vectors);
    return;
  }
  const clnorm_splats a = clnorm_splats_make(&w->affines, w->channel);
  w->at = clnorm_write_whole(w, a, w->y, w->x, w->at, end, CLNORM_RUN_CHANNELS);
}

#define CLNORM_ALL_VECTORS (~(clnorm_ulong)0 / 64)

CLNORM_FN void clnorm_write_all(clnorm_writer *w) { clnorm_write_any(w, CLNORM_ALL_VECTORS); }

/* Nothing to write. */
CLNORM_FN void clnorm_writer_none(clnorm_writer *w) { w->samples = w->flags = 0; }

/* backwards: the last sample is written first; what was read last is still in the cache. */
CLNORM_FN void clnorm_writer_start(clnorm_writer *w, const clnorm_buffers *b,
                                   const clnorm_call *call, const clnorm_tile *t, int backwards) {
  const clnorm_ulong sample = call->channels * call->spatial;
  const clnorm_ulong first =
      (backwards ? t->n1 - 1 : t->n0) * sample + t->c0 * call->spatial + t->p0;
  w->x = b->x + first;
  w->y = b->y + first;
  w->plane = w->edge = t->p1 - t->p0;
  w->run = w->last = (t->c1 - t->c0) * w->plane;
  w->step = backwards ? -(clnorm_long)sample : (clnorm_long)sample;
  w->at = w->channel = 0;
  w->samples = t->n1 - t->n0;
  w->flags = call->flags & CLNORM_STREAM;
  w->lead = clnorm_lead(w->y);
}

#define CLNORM_REPEATED 256u /* elements of a run that are worth the work of repeating it */

/* How many runs become one, so that it is long: all channels of a sample lie beside those of the next. */
CLNORM_FN clnorm_uint clnorm_writer_repeats(const clnorm_writer *w) {
  if (w->step != (clnorm_long)w->run) return 1;
  clnorm_ulong n = clnorm_min(w->samples / 4, CLNORM_REPEATED / w->run);
  if (n > CLNORM_LANES) n -= n % CLNORM_LANES;
  return n ? (clnorm_uint)n : 1;
}

/* Planes up to a vector are worth the work of spreading the affine out; up to two, of several samples. */
CLNORM_FN void clnorm_writer_expand(clnorm_writer *w) {
  const clnorm_uint plane = (clnorm_uint)w->plane, channels = (clnorm_uint)(w->run / plane);
  if (w->plane > (w->samples < 3 ? CLNORM_LANES : CLNORM_EXPAND_MAX)) return;
  const clnorm_uint repeats = clnorm_writer_repeats(w);
  float *hi = w->hi.at + w->lead, *scale = w->scale.at + w->lead, *shift = w->shift.at + w->lead;
  for (clnorm_uint k = 0; k < repeats; k++, hi += w->run, scale += w->run, shift += w->run) {
    clnorm_expand(hi, w->affines.hi, channels, plane);
    clnorm_expand(scale, w->affines.scale, channels, plane);
    clnorm_expand(shift, w->affines.shift, channels, plane);
  }
  w->flags |= CLNORM_EXPANDED;
  if (repeats == 1) return;
  w->last = ((w->samples - 1) % repeats + 1) * w->run;
  w->samples = (w->samples - 1) / repeats + 1; /* two at least */
  w->run *= repeats;
  w->step = (clnorm_long)w->run;
}

/* ---- Sums of a segment ---------------------------------------------------------------------------- */

CLNORM_FN clnorm_uint clnorm_uint_min(clnorm_uint a, clnorm_uint b) { return a < b ? a : b; }
CLNORM_FN clnorm_uint clnorm_uint_max(clnorm_uint a, clnorm_uint b) { return a < b ? b : a; }

/* Up to LANES values, the other lanes from `fill`. */
CLNORM_FN clnorm_vec clnorm_some(CLNORM_GLOBAL const float *p, clnorm_uint n, clnorm_vec fill) {
  return n >= CLNORM_LANES ? clnorm_vec_load(p) : clnorm_vec_load_part(p, n, fill);
}

/* Deviations from the pivot and, in the second sweep, their squares, summed. In the first sweep, which is
 * over the first block alone, the pivot is 0. */
typedef struct clnorm_moments {
  clnorm_vec d, dd;
} clnorm_moments;

#define CLNORM_FIRST_SWEEP 0 /* a constant in every call */
#define CLNORM_SECOND_SWEEP 1

CLNORM_FN clnorm_moments clnorm_moments_none(void) {
  const clnorm_moments m = {clnorm_splat(0.0f), clnorm_splat(0.0f)};
  return m;
}

CLNORM_FN clnorm_moments clnorm_moments_take(clnorm_moments m, clnorm_vec v, clnorm_vec pivot,
                                             int sweep) {
  const clnorm_vec d = v - pivot;
  m.d = m.d + d;
  if (sweep == CLNORM_SECOND_SWEEP) m.dd = clnorm_vec_fma(d, d, m.dd);
  return m;
}

CLNORM_FN clnorm_moments clnorm_moments_add(clnorm_moments a, clnorm_moments b) {
  a.d = a.d + b.d;
  a.dd = a.dd + b.dd;
  return a;
}

/* 64 places to one: columns by halves, in loops that every compiler unrolls, then lanes by halves. Of
 * columns from n on, a constant, which is a power of two, all places are 0. */
CLNORM_FN float clnorm_fold(clnorm_vec *columns, clnorm_uint n) {
  for (clnorm_uint i = 0; n > 8 && i < 8; i++) columns[i] = columns[i] + columns[i + 8];
  for (clnorm_uint i = 0; n > 4 && i < 4; i++) columns[i] = columns[i] + columns[i + 4];
  for (clnorm_uint i = 0; n > 2 && i < 2; i++) columns[i] = columns[i] + columns[i + 2];
  if (n > 1) columns[0] = columns[0] + columns[1];
  return clnorm_fold_vec(columns[0]);
}

/* ---- Slots: planes of more than 64 values, a channel after the other ------------------------------- */

/* A segment of one channel. Row r of a slot begins at x + 64 * r, the next slot at x + sample. */
typedef struct clnorm_slots {
  CLNORM_GLOBAL const float *x;
  clnorm_ulong sample;
  clnorm_ulong next;     /* elements from x to what is swept after the last slot, modulo 2^64 */
  clnorm_uint extent;    /* elements of each slot */
  clnorm_uint slots;     /* how many slots there are, */
  clnorm_uint rows_log2; /* and how many rows one has */
} clnorm_slots;

CLNORM_FN clnorm_slots clnorm_slots_at(CLNORM_GLOBAL const float *x, const clnorm_geometry *g,
                                       const clnorm_segment *segment, clnorm_ulong next) {
  clnorm_slots s;
  s.x = x + segment->first;
  s.next = next;
  s.sample = g->channels * g->spatial;
  s.extent = segment->extent;
  s.slots = segment->planes;
  s.rows_log2 = g->slot_log2 - 6;
  return s;
}

/* Half a block, what is swept at a time. */
#define CLNORM_STEP_ROWS (CLNORM_BLOCK_ROWS / 2)
#define CLNORM_STEP (CLNORM_STEP_ROWS * CLNORM_ROW)
#define CLNORM_AHEAD 3u

/* Adds n neighbouring values to a row's columns, row after row. */
CLNORM_FN void clnorm_columns_take(clnorm_moments *m, CLNORM_GLOBAL const float *p, clnorm_uint n,
                                   clnorm_vec pivot, int sweep) {
  for (; n >= CLNORM_ROW; n -= CLNORM_ROW, p += CLNORM_ROW) {
    CLNORM_UNROLL
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++)
      m[i] = clnorm_moments_take(m[i], clnorm_vec_load(p + i * CLNORM_LANES), pivot, sweep);
  }
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++)
    if (i * CLNORM_LANES < n)
      m[i] = clnorm_moments_take(
          m[i], clnorm_some(p + i * CLNORM_LANES, n - i * CLNORM_LANES, pivot), pivot, sweep);
}

/* Fetches what is swept CLNORM_AHEAD steps after step `at` of a slot: the processor computes and writes in
 * between, and foresees neither where a slot ends nor, while it waits, enough of what follows. */
CLNORM_FN void clnorm_slots_fetch(const clnorm_slots *s, clnorm_uint slot, clnorm_uint at) {
  const clnorm_uint steps = (s->extent + CLNORM_STEP - 1) / CLNORM_STEP;
  for (at += CLNORM_AHEAD; at >= steps; at -= steps) slot++;
  const clnorm_ulong first =
      slot < s->slots ? slot * s->sample : s->next + (slot - s->slots) * s->sample;
  const clnorm_uint end = clnorm_uint_min((at + 1) * CLNORM_STEP, s->extent);
  for (clnorm_uint i = at * CLNORM_STEP; i < end; i += CLNORM_LINE)
    clnorm_prefetch(s->x, first + i);
}

/* A piece of a slot, or as many slots as fit. */
CLNORM_FN void clnorm_slots_step(clnorm_moments *m, const clnorm_slots *s, clnorm_uint step,
                                 clnorm_vec pivot, int sweep) {
  clnorm_uint slot = step * CLNORM_STEP_ROWS >> s->rows_log2;
  if (1u << s->rows_log2 < CLNORM_STEP_ROWS) {
    const clnorm_uint end = clnorm_uint_min(slot + (CLNORM_STEP_ROWS >> s->rows_log2), s->slots);
    for (; slot < end; slot++)
      clnorm_columns_take(m, s->x + slot * s->sample, s->extent, pivot, sweep);
    return;
  }
  const clnorm_uint at = step * CLNORM_STEP - (slot << s->rows_log2) * CLNORM_ROW;
  if (slot >= s->slots || at >= s->extent) return;
  CLNORM_GLOBAL const float *p = s->x + slot * s->sample + at;
  if (sweep == CLNORM_SECOND_SWEEP) clnorm_slots_fetch(s, slot, at / CLNORM_STEP);
  if (s->extent - at >= CLNORM_STEP)
    clnorm_columns_take(m, p, CLNORM_STEP, pivot, sweep);
  else
    clnorm_columns_take(m, p, s->extent - at, pivot, sweep);
}

/* The pivot, but for the division. */
CLNORM_FN float clnorm_slots_first(const clnorm_slots *s) {
  clnorm_moments m[CLNORM_COLUMNS];
  clnorm_vec sum[CLNORM_COLUMNS];
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) m[i] = clnorm_moments_none();
  for (clnorm_uint step = 0; step < 2; step++)
    clnorm_slots_step(m, s, step, clnorm_splat(0.0f), CLNORM_FIRST_SWEEP);
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) sum[i] = m[i].d;
  return clnorm_fold(sum, CLNORM_COLUMNS);
}

/* The partial of a segment. Beside each step some of what w has is written: memory is read and
 * written, and the processor computes. */
CLNORM_FN clnorm_partial clnorm_slots_partial(const clnorm_slots *s, clnorm_reciprocals r,
                                              clnorm_writer *w) {
  clnorm_vec d[CLNORM_COLUMNS], dd[CLNORM_COLUMNS];
  const clnorm_uint count = s->slots * s->extent;
  const clnorm_uint rows =
      s->slots == 1 ? (s->extent + CLNORM_ROW - 1) / CLNORM_ROW : s->slots << s->rows_log2;
  const clnorm_uint steps = (rows + CLNORM_STEP_ROWS - 1) / CLNORM_STEP_ROWS;
  const clnorm_uint share = (count / steps + CLNORM_LANES - 1) / CLNORM_LANES;
  const float pivot = clnorm_plus_zero(clnorm_slots_first(s)) * r.first;
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) d[i] = dd[i] = clnorm_splat(0.0f);
  for (clnorm_uint step = 0; step < steps;) {
    clnorm_moments m[CLNORM_COLUMNS];
    CLNORM_UNROLL
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) m[i] = clnorm_moments_none();
    for (const clnorm_uint end = clnorm_uint_min(step + 2, steps); step < end; step++) {
      clnorm_slots_step(m, s, step, clnorm_splat(pivot), CLNORM_SECOND_SWEEP);
      if (w->samples) clnorm_write_some(w, share);
    }
    CLNORM_UNROLL
    for (clnorm_uint i = 0; i < CLNORM_COLUMNS; i++) {
      d[i] = d[i] + m[i].d;
      dd[i] = dd[i] + m[i].dd;
    }
  }
  return clnorm_partial_make(count, r.all, pivot, clnorm_fold(d, CLNORM_COLUMNS),
                             clnorm_fold(dd, CLNORM_COLUMNS));
}

/* ---- Runs: planes of up to 64 values, a group of neighbouring channels at once ---------------------- */

/* One segment of a group: in each of `samples` samples one run, the planes of its channels. A row of the
 * segment is 2^share_log2 samples. Sums are vectors over the run. */
typedef struct clnorm_samples {
  CLNORM_GLOBAL const float *x; /* the first run */
  clnorm_ulong stride;
  clnorm_uint samples, run; /* elements of a run */
  clnorm_uint share_log2, lead;
} clnorm_samples;

CLNORM_FN clnorm_samples clnorm_samples_at(CLNORM_GLOBAL const float *x, const clnorm_geometry *g,
                                           const clnorm_segment *segment, clnorm_uint channels) {
  clnorm_samples s;
  s.x = x + segment->first;
  s.stride = g->channels * g->spatial;
  s.samples = segment->planes;
  s.run = channels * segment->extent;
  s.share_log2 = 6 - g->slot_log2;
  s.lead = clnorm_lead(s.x);
  return s;
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

/* Up to a block of rows, `step` elements apart; `lanes` of each are there. Whole vectors fetch what follows
 * them in memory where `fetch`, a constant, says so. */
CLNORM_FN clnorm_moments clnorm_rows_take(CLNORM_GLOBAL const float *p, clnorm_ulong step,
                                          clnorm_uint rows, clnorm_uint lanes, clnorm_vec pivot,
                                          int sweep, int fetch) {
  clnorm_moments m = clnorm_moments_none();
  if (rows >= CLNORM_BLOCK_ROWS && lanes >= CLNORM_LANES) {
    CLNORM_UNROLL
    for (clnorm_uint row = 0; row < CLNORM_BLOCK_ROWS; row++) {
      if (fetch) clnorm_prefetch(p, row * step + CLNORM_LINE);
      m = clnorm_moments_take(m, clnorm_vec_load(p + row * step), pivot, sweep);
    }
    return m;
  }
  for (clnorm_uint row = 0; row < CLNORM_BLOCK_ROWS && row < rows; row++)
    m = clnorm_moments_take(m, clnorm_some(p + row * step, lanes, pivot), pivot, sweep);
  return m;
}

/* Of the first `samples` samples every 2^share_log2-th from `sample` on, block after block. */
CLNORM_FN clnorm_moments clnorm_column_take(const clnorm_samples *s, clnorm_uint sample,
                                            clnorm_uint samples, clnorm_uint column,
                                            clnorm_uint lanes, clnorm_vec pivot, int sweep,
                                            int fetch) {
  CLNORM_GLOBAL const float *p = s->x + sample * s->stride + column;
  const clnorm_ulong step = s->stride << s->share_log2;
  clnorm_uint rows = (samples - sample + (1u << s->share_log2) - 1) >> s->share_log2;
  clnorm_moments sum = clnorm_rows_take(p, step, rows, lanes, pivot, sweep, fetch);
  while (rows > CLNORM_BLOCK_ROWS) {
    rows -= CLNORM_BLOCK_ROWS;
    p += CLNORM_BLOCK_ROWS * step;
    sum = clnorm_moments_add(sum, clnorm_rows_take(p, step, rows, lanes, pivot, sweep, fetch));
  }
  return sum;
}

/* 8 moments by halves. */
CLNORM_FN clnorm_moments clnorm_moments_fold(clnorm_moments *m) {
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < 4; i++) m[i] = clnorm_moments_add(m[i], m[i + 4]);
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < 2; i++) m[i] = clnorm_moments_add(m[i], m[i + 2]);
  return clnorm_moments_add(m[0], m[1]);
}

/* 8 of a row's places from `first` on, `step` apart, folded. There is one row, or, where `several`, a
 * constant, says so, one block of rows. */
CLNORM_FN clnorm_moments clnorm_column_fold(const clnorm_samples *s, clnorm_uint first,
                                            clnorm_uint step, clnorm_uint samples,
                                            clnorm_uint column, clnorm_vec pivot, int sweep,
                                            int several) {
  clnorm_moments m[8];
  clnorm_uint sample = first;
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < 8; i++) m[i] = clnorm_moments_none();
  do {
    CLNORM_GLOBAL const float *p = s->x + sample * s->stride + column;
    CLNORM_UNROLL
    for (clnorm_uint i = 0; i < 8; i++)
      if (sample + i * step < samples)
        m[i] = clnorm_moments_take(m[i], clnorm_vec_load(p + i * step * s->stride), pivot, sweep);
    sample += 1u << s->share_log2;
  } while (several && sample < samples);
  return clnorm_moments_fold(m);
}

/* A column of the first `samples` samples, which share rows: up to 64 places, folded by halves. Where there
 * is one row, or one block of rows with 8 places at least, 8 places are folded in registers, then 8 such
 * results. */
CLNORM_NOINLINE clnorm_moments clnorm_column_shared(const clnorm_samples *s, clnorm_uint samples,
                                                    clnorm_uint column, clnorm_uint lanes,
                                                    clnorm_vec pivot, int sweep) {
  clnorm_moments m[CLNORM_ROW];
  const clnorm_uint places = 1u << s->share_log2, step = clnorm_uint_max(places / 8, 1);
  const int whole = lanes >= CLNORM_LANES;
  clnorm_uint width = step / 2, there = clnorm_uint_min(samples, step);
  if (whole && samples <= places) {
    for (clnorm_uint i = 0; i < there; i++)
      m[i] = clnorm_column_fold(s, i, step, samples, column, pivot, sweep, 0);
  } else if (whole && places >= 8 && samples <= places * CLNORM_BLOCK_ROWS) {
    for (clnorm_uint i = 0; i < there; i++)
      m[i] = clnorm_column_fold(s, i, step, samples, column, pivot, sweep, 1);
  } else {
    width = places / 2;
    there = clnorm_uint_min(samples, places);
    for (clnorm_uint i = 0; i < there; i++)
      m[i] = clnorm_column_take(s, i, samples, column, lanes, pivot, sweep, 0);
  }
  for (clnorm_uint w = width; w; w /= 2) {
    for (clnorm_uint i = 0; i + w < there; i++) m[i] = clnorm_moments_add(m[i], m[i + w]);
    there = clnorm_uint_min(there, w);
  }
  return m[0];
}

CLNORM_FN clnorm_moments clnorm_column_moments(const clnorm_samples *s, clnorm_uint samples,
                                               clnorm_uint column, clnorm_vec pivot, int sweep) {
  if (s->share_log2 && samples > 1)
    return clnorm_column_shared(s, samples, column, s->run - column, pivot, sweep);
  if (s->run >= CLNORM_LANES)
    return clnorm_column_take(s, 0, samples, column, CLNORM_LANES, pivot, sweep,
                              sweep == CLNORM_SECOND_SWEEP);
  return clnorm_column_take(s, 0, samples, column, s->run, pivot, sweep, 0);
}

CLNORM_NOINLINE void clnorm_run_first(const clnorm_samples *s, float *sums) {
  const clnorm_uint columns = clnorm_samples_columns(s);
  const clnorm_uint samples = clnorm_uint_min(s->samples, CLNORM_BLOCK_ROWS << s->share_log2);
  for (clnorm_uint i = 0; i < columns; i++) {
    const clnorm_uint column = clnorm_samples_column(s, i);
    const clnorm_moments m =
        clnorm_column_moments(s, samples, column, clnorm_splat(0.0f), CLNORM_FIRST_SWEEP);
    clnorm_vec_store_private(sums + column, m.d);
  }
}

CLNORM_NOINLINE void clnorm_run_moments(const clnorm_samples *s, const float *pivots, float *d,
                                        float *dd, clnorm_writer *w) {
  const clnorm_uint columns = clnorm_samples_columns(s);
  for (clnorm_uint i = 0; i < columns; i++) {
    const clnorm_uint column = clnorm_samples_column(s, i);
    const clnorm_vec pivot = clnorm_vec_load_private(pivots + column);
    const clnorm_moments m =
        clnorm_column_moments(s, s->samples, column, pivot, CLNORM_SECOND_SWEEP);
    clnorm_vec_store_private(d + column, m.d);
    clnorm_vec_store_private(dd + column, m.dd);
    if (w->samples) clnorm_write_some(w, clnorm_uint_max(s->samples + s->samples / 2, 8));
  }
}

/* The tree over what is left of each channel: up to n columns of values, n a constant. */
CLNORM_FN void clnorm_fold_planes(const float *values, clnorm_uint channels, clnorm_uint spatial,
                                  float *sums, clnorm_uint n) {
  clnorm_part parts[CLNORM_COLUMNS];
  clnorm_vec columns[CLNORM_COLUMNS];
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < n; i++) {
    const clnorm_uint before = clnorm_uint_min(i * CLNORM_LANES, spatial);
    parts[i] = clnorm_part_of(clnorm_uint_min(spatial - before, CLNORM_LANES));
  }
  for (clnorm_uint c = 0; c < channels; c++) {
    CLNORM_UNROLL
    for (clnorm_uint i = 0; i < n; i++)
      columns[i] = clnorm_vec_load_private_part(values + c * spatial + i * CLNORM_LANES, parts[i]);
    sums[c] = clnorm_fold(columns, n);
  }
}

/* The tree over up to 4 values. */
CLNORM_FN float clnorm_fold_few(const float *values, clnorm_uint n) {
  float even = values[0];
  if (n > 2) even = even + values[2];
  if (n == 1) return even;
  return even + (n > 3 ? values[1] + values[3] : values[1]);
}

CLNORM_NOINLINE void clnorm_fold_runs(const float *values, clnorm_uint channels,
                                      clnorm_uint spatial, float *sums) {
  if (spatial <= 4)
    for (clnorm_uint c = 0; c < channels; c++)
      sums[c] = clnorm_fold_few(values + c * spatial, spatial);
  else if (spatial <= CLNORM_LANES)
    clnorm_fold_planes(values, channels, spatial, sums, 1);
  else if (spatial <= 2 * CLNORM_LANES)
    clnorm_fold_planes(values, channels, spatial, sums, 2);
  else
    clnorm_fold_planes(values, channels, spatial, sums, CLNORM_COLUMNS);
}

/* Nodes of a group's channels, which count alike. */
typedef struct clnorm_nodes {
  clnorm_ulong count;
  float hi[CLNORM_GROUP_MAX], lo[CLNORM_GROUP_MAX], m2[CLNORM_GROUP_MAX];
} clnorm_nodes;

CLNORM_FN clnorm_partial clnorm_nodes_get(const clnorm_nodes *n, clnorm_ulong c) {
  const clnorm_partial p = {n->count, n->hi[c], n->lo[c], n->m2[c], 0};
  return p;
}

CLNORM_FN void clnorm_nodes_set(clnorm_nodes *n, clnorm_ulong c, clnorm_partial p) {
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

#define CLNORM_RUN_MAX 1024u /* elements of a run */

/* One value for each element of a run, aligned like the run in the first sample. */
typedef struct clnorm_run_values {
  float at[CLNORM_RUN_MAX + 2 * CLNORM_LANES + CLNORM_ROW] __attribute__((aligned(64)));
} clnorm_run_values;

/* What the segments of some channels work with. */
typedef struct clnorm_run {
  clnorm_run_values d, dd, pivots; /* one for each element */
  float pivot[CLNORM_GROUP_MAX], sum_d[CLNORM_GROUP_MAX], sum_dd[CLNORM_GROUP_MAX];
} clnorm_run;

/* Nodes of one segment of `channels` channels from c0 on of a group whose first plane is at x. */
CLNORM_FN void clnorm_run_segment(clnorm_run *k, CLNORM_GLOBAL const float *x,
                                  const clnorm_geometry *g, const clnorm_segment *segment,
                                  clnorm_reciprocals r, clnorm_ulong c0, clnorm_uint channels,
                                  clnorm_nodes *nodes, clnorm_writer *w) {
  const clnorm_uint spatial = (clnorm_uint)g->spatial;
  const clnorm_samples s = clnorm_samples_at(x + c0 * g->spatial, g, segment, channels);
  float *d = k->d.at + s.lead, *dd = k->dd.at + s.lead, *pivots = k->pivots.at + s.lead;
  clnorm_run_first(&s, d);
  clnorm_fold_runs(d, channels, spatial, k->pivot);
  for (clnorm_uint c = 0; c < channels; c++) k->pivot[c] = clnorm_plus_zero(k->pivot[c]) * r.first;
  clnorm_expand(pivots, k->pivot, channels, spatial);
  clnorm_run_moments(&s, pivots, d, dd, w);
  clnorm_fold_runs(d, channels, spatial, k->sum_d);
  clnorm_fold_runs(dd, channels, spatial, k->sum_dd);
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_nodes_set(
        nodes, c0 + c,
        clnorm_partial_make(nodes->count, r.all, k->pivot[c], k->sum_d[c], k->sum_dd[c]));
}

/* ---- Nodes of either kind ------------------------------------------------------------------------- */

/* What the segments of a group of channels work with. */
typedef struct clnorm_group {
  CLNORM_GLOBAL const float *x; /* the first plane */
  clnorm_uint channels;
  clnorm_uint count, first; /* of the last segment that was not whole, */
  clnorm_reciprocals part;  /* and their reciprocals */
  clnorm_run run;
} clnorm_group;

/* Runs are whole vectors where they can be: `vectors` channels are. */
CLNORM_FN void clnorm_group_runs(clnorm_group *k, const clnorm_geometry *g, const clnorm_segment *s,
                                 clnorm_reciprocals r, clnorm_nodes *nodes, clnorm_writer *w) {
  const clnorm_uint spatial = (clnorm_uint)g->spatial;
  const clnorm_uint vectors = CLNORM_LANES / clnorm_uint_min(spatial & -spatial, CLNORM_LANES);
  clnorm_uint most = CLNORM_RUN_MAX / spatial;
  if (most > vectors) most -= most % vectors;
  for (clnorm_uint c = 0; c < k->channels; c += most)
    clnorm_run_segment(&k->run, k->x, g, s, r, c, clnorm_uint_min(most, k->channels - c), nodes, w);
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
  const clnorm_ulong after =
      index + 1 < g->segments ? clnorm_segment_at(g, index + 1).first : k->channels * g->spatial;
  for (clnorm_uint c = 0; c < k->channels; c++) {
    const clnorm_ulong next = c + 1 < k->channels ? g->spatial : after - s.first - c * g->spatial;
    const clnorm_slots slots = clnorm_slots_at(k->x + c * g->spatial, g, &s, next);
    clnorm_nodes_set(nodes, c, clnorm_slots_partial(&slots, r, w));
  }
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
  k.count = 0;
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

/* The affines of a tile's channels, and what else there is of them. Short loops, and copies that no store
 * can change: each loop becomes vectors. */
CLNORM_FN void clnorm_writer_batch(clnorm_writer *w, const clnorm_buffers *buffers,
                                   const clnorm_call *forward, const clnorm_tile *t,
                                   const clnorm_nodes *n) {
  const clnorm_buffers b = *buffers;
  const clnorm_call call = *forward;
  const clnorm_ulong c0 = t->c0;
  const clnorm_uint channels = (clnorm_uint)(t->c1 - c0);
  clnorm_spread k[CLNORM_GROUP_MAX];
  for (clnorm_uint c = 0; c < channels; c++) k[c] = clnorm_spread_make(&call, n->count, n->m2[c]);
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_update_mean(&b, &call, c0 + c, n->hi[c], n->lo[c]);
  for (clnorm_uint c = 0; c < channels; c++) clnorm_update_var(&b, &call, c0 + c, k[c].running_var);
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_save_mean(&b, &call, c0 + c, n->hi[c], n->lo[c]);
  for (clnorm_uint c = 0; c < channels; c++) clnorm_save_invstd(&b, &call, c0 + c, k[c].invstd);
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_affines_set(&w->affines, c,
                       clnorm_affine_make(&b, &call, c0 + c, n->hi[c], n->lo[c], k[c].invstd));
}

CLNORM_FN void clnorm_writer_given(clnorm_writer *w, const clnorm_buffers *buffers,
                                   const clnorm_call *forward, const clnorm_tile *t) {
  const clnorm_buffers b = *buffers;
  const clnorm_call call = *forward;
  const clnorm_ulong c0 = t->c0;
  const clnorm_uint channels = (clnorm_uint)(t->c1 - c0);
  float invstd[CLNORM_GROUP_MAX];
  for (clnorm_uint c = 0; c < channels; c++)
    invstd[c] = clnorm_rsqrt(b.running_var[c0 + c] + call.eps);
  if (clnorm_tile_saves(t)) {
    for (clnorm_uint c = 0; c < channels; c++)
      clnorm_save_mean(&b, &call, c0 + c, b.running_mean[c0 + c], 0.0f);
    for (clnorm_uint c = 0; c < channels; c++) clnorm_save_invstd(&b, &call, c0 + c, invstd[c]);
  }
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_affines_set(
        &w->affines, c,
        clnorm_affine_make(&b, &call, c0 + c, b.running_mean[c0 + c], 0.0f, invstd[c]));
}

/* One group. While its statistics are computed, the output that w still has, that of the group before, is
 * written; then w has this group's. */
CLNORM_FN void clnorm_item_channel(const clnorm_buffers *b, const clnorm_call *call,
                                   clnorm_ulong item, clnorm_writer *w) {
  clnorm_nodes nodes;
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong c0 = item * call->group;
  const clnorm_tile t = {c0, clnorm_min(c0 + call->group, g.channels), 0, g.batch, 0, g.spatial};
  clnorm_group_nodes(b, &g, t.c0, t.c1, 0, g.segments, &nodes, w);
  clnorm_write_all(w);
  clnorm_writer_start(w, b, call, &t, 1);
  clnorm_writer_batch(w, b, call, &t, &nodes);
  clnorm_writer_expand(w);
}

/* One node of each channel of a group. */
CLNORM_FN void clnorm_item_partials(const clnorm_buffers *b, const clnorm_call *call,
                                    clnorm_ulong item) {
  clnorm_writer none;
  clnorm_nodes nodes;
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong group = item / call->chunks, chunk = item - group * call->chunks;
  const clnorm_ulong c0 = group * call->group, c1 = clnorm_min(c0 + call->group, g.channels);
  const clnorm_ulong begin = chunk << call->chunk_log2;
  const clnorm_ulong end = clnorm_min(begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  clnorm_writer_none(&none);
  clnorm_group_nodes(b, &g, c0, c1, (clnorm_uint)begin, (clnorm_uint)end, &nodes, &none);
  for (clnorm_uint c = 0; c < c1 - c0; c++)
    b->partials[(c0 + c) * call->chunks + chunk] = clnorm_nodes_get(&nodes, c);
}

CLNORM_FN void clnorm_item_finalize(const clnorm_buffers *b, const clnorm_call *call,
                                    clnorm_ulong item) {
  clnorm_counter counter;
  counter.count = counter.depth = 0;
  for (clnorm_uint i = 0; i < call->chunks; i++)
    clnorm_counter_push(&counter, b->partials[item * call->chunks + i]);
  b->affine[item] = clnorm_affine_batch(b, call, item, clnorm_counter_result(&counter));
}

CLNORM_FN void clnorm_item_apply(const clnorm_buffers *b, const clnorm_call *call,
                                 clnorm_ulong item) {
  clnorm_writer w;
  const clnorm_tile t = clnorm_tile_at(call, item);
  clnorm_writer_start(&w, b, call, &t, 0);
  if (call->flags & CLNORM_BATCH_MODE)
    for (clnorm_ulong c = t.c0; c < t.c1; c++)
      clnorm_affines_set(&w.affines, c - t.c0, b->affine[c]);
  else
    clnorm_writer_given(&w, b, call, &t);
  clnorm_writer_expand(&w);
  clnorm_write_all(&w);
}

CLNORM_FN void clnorm_item_copy(const clnorm_buffers *b, const clnorm_call *call,
                                clnorm_ulong item) {
  clnorm_writer w;
  const clnorm_tile t = clnorm_tile_at(call, item);
  const clnorm_coefficients none = {0.0f, 1.0f, 0.0f};
  clnorm_writer_start(&w, b, call, &t, 0);
  clnorm_affines_set(&w.affines, 0, none);
  clnorm_write(&w, CLNORM_ALL_VECTORS, CLNORM_RUN_COPY);
}

#endif
