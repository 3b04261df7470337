/*
 * The vector form, planes of more than 64 values: a channel after the other.
 */
#ifndef CLNORM_VECTOR_SLOTS_H
#define CLNORM_VECTOR_SLOTS_H

#include "vector_sums.h"
#include "vector_write.h"

/* A segment of one channel. Row r of a slot begins at x + 64 * r, the next slot at x + sample. */
typedef struct clnorm_slots {
  CLNORM_GLOBAL const clnorm_in *x;
  clnorm_ulong sample;
  clnorm_ulong next;     /* elements from x to what is swept after the last slot, modulo 2^64 */
  clnorm_uint extent;    /* elements of each slot */
  clnorm_uint slots;     /* how many slots there are, */
  clnorm_uint rows_log2; /* and how many rows one has */
} clnorm_slots;

CLNORM_FN clnorm_slots clnorm_slots_at(CLNORM_GLOBAL const clnorm_in *x, const clnorm_geometry *g,
                                       clnorm_ulong sample, const clnorm_segment *segment,
                                       clnorm_ulong next) {
  clnorm_slots s;
  s.x = x;
  s.next = next;
  s.sample = sample;
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
CLNORM_FN void clnorm_columns_take(clnorm_moments *m, CLNORM_GLOBAL const clnorm_in *p,
                                   clnorm_uint n, clnorm_vec pivot, int sweep) {
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
  for (clnorm_uint i = at * CLNORM_STEP; i < end; i += CLNORM_LINE / sizeof(clnorm_in))
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
  CLNORM_GLOBAL const clnorm_in *p = s->x + slot * s->sample + at;
  if (sweep == CLNORM_SECOND_SWEEP) clnorm_slots_fetch(s, slot, at / CLNORM_STEP);
  if (s->extent - at >= CLNORM_STEP)
    clnorm_columns_take(m, p, CLNORM_STEP, pivot, sweep);
  else
    clnorm_columns_take(m, p, s->extent - at, pivot, sweep);
}

/* The pivot, but for the division. */
CLNORM_FN clnorm_real clnorm_slots_first(const clnorm_slots *s) {
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
  const clnorm_real pivot = clnorm_plus_zero(clnorm_slots_first(s)) * r.first;
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

#endif
