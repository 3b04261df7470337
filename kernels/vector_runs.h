/*
 * The vector form, planes of up to 64 values: a group of neighbouring channels at once.
 */
#ifndef CLNORM_VECTOR_RUNS_H
#define CLNORM_VECTOR_RUNS_H

#include "vector_nodes.h"
#include "vector_sums.h"
#include "vector_write.h"

/* One segment of a group: in each of `samples` samples one run, the planes of its channels. A row of the
 * segment is 2^share_log2 samples. Sums are vectors over the run. */
typedef struct clnorm_samples {
  CLNORM_GLOBAL const clnorm_in *x; /* the first run */
  clnorm_ulong stride;
  clnorm_uint samples, channels, run; /* elements of a run */
  clnorm_uint share_log2, lead;
} clnorm_samples;

CLNORM_FN clnorm_samples clnorm_samples_at(CLNORM_GLOBAL const clnorm_in *x, clnorm_ulong stride,
                                           const clnorm_geometry *g, const clnorm_segment *segment,
                                           clnorm_uint channels) {
  clnorm_samples s;
  s.x = x + segment->sample * stride;
  s.stride = stride;
  s.samples = segment->planes;
  s.channels = channels;
  s.run = channels * segment->extent;
  s.share_log2 = 6 - g->slot_log2;
  s.lead = clnorm_lead(s.x, sizeof *s.x);
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
CLNORM_FN clnorm_moments clnorm_rows_take(CLNORM_GLOBAL const clnorm_in *p, clnorm_ulong step,
                                          clnorm_uint rows, clnorm_uint lanes, clnorm_vec pivot,
                                          int sweep, int fetch) {
  clnorm_moments m = clnorm_moments_none();
  if (rows >= CLNORM_BLOCK_ROWS && lanes >= CLNORM_LANES) {
    CLNORM_UNROLL
    for (clnorm_uint row = 0; row < CLNORM_BLOCK_ROWS; row++) {
      if (fetch) clnorm_prefetch(p, row * step + CLNORM_LINE / sizeof(clnorm_in));
      m = clnorm_moments_take(m, clnorm_vec_load(p + row * step), pivot, sweep);
    }
    return m;
  }
  for (clnorm_uint row = 0; row < CLNORM_BLOCK_ROWS && row < rows; row++)
    m = clnorm_moments_take(m, clnorm_some(p + row * step, lanes, pivot), pivot, sweep);
  return m;
}

/* Of the samples every 2^share_log2-th from `sample` on, block after block. */
CLNORM_FN clnorm_moments clnorm_column_take(const clnorm_samples *s, clnorm_uint sample,
                                            clnorm_uint column, clnorm_uint lanes, clnorm_vec pivot,
                                            int sweep, int fetch) {
  CLNORM_GLOBAL const clnorm_in *p = s->x + sample * s->stride + column;
  const clnorm_ulong step = s->stride << s->share_log2;
  clnorm_uint rows = (s->samples - sample + (1u << s->share_log2) - 1) >> s->share_log2;
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
                                            clnorm_uint step, clnorm_uint column, clnorm_vec pivot,
                                            int sweep, int several) {
  clnorm_moments m[8];
  clnorm_uint sample = first;
  CLNORM_UNROLL
  for (clnorm_uint i = 0; i < 8; i++) m[i] = clnorm_moments_none();
  do {
    CLNORM_GLOBAL const clnorm_in *p = s->x + sample * s->stride + column;
    CLNORM_UNROLL
    for (clnorm_uint i = 0; i < 8; i++)
      if (sample + i * step < s->samples)
        m[i] = clnorm_moments_take(m[i], clnorm_vec_load(p + i * step * s->stride), pivot, sweep);
    sample += 1u << s->share_log2;
  } while (several && sample < s->samples);
  return clnorm_moments_fold(m);
}

/* A column of samples which share rows: up to 64 places, folded by halves. Where there
 * is one row, or one block of rows with 8 places at least, 8 places are folded in registers, then 8 such
 * results. */
CLNORM_NOINLINE clnorm_moments clnorm_column_shared(const clnorm_samples *s, clnorm_uint column,
                                                    clnorm_uint lanes, clnorm_vec pivot,
                                                    int sweep) {
  clnorm_moments m[CLNORM_ROW];
  const clnorm_uint samples = s->samples;
  const clnorm_uint places = 1u << s->share_log2, step = clnorm_uint_max(places / 8, 1);
  const int whole = lanes >= CLNORM_LANES;
  clnorm_uint width = step / 2, there = clnorm_uint_min(samples, step);
  if (whole && samples <= places) {
    for (clnorm_uint i = 0; i < there; i++)
      m[i] = clnorm_column_fold(s, i, step, column, pivot, sweep, 0);
  } else if (whole && places >= 8 && samples <= places * CLNORM_BLOCK_ROWS) {
    for (clnorm_uint i = 0; i < there; i++)
      m[i] = clnorm_column_fold(s, i, step, column, pivot, sweep, 1);
  } else {
    width = places / 2;
    there = clnorm_uint_min(samples, places);
    for (clnorm_uint i = 0; i < there; i++)
      m[i] = clnorm_column_take(s, i, column, lanes, pivot, sweep, 0);
  }
  for (clnorm_uint w = width; w; w /= 2) {
    for (clnorm_uint i = 0; i + w < there; i++) m[i] = clnorm_moments_add(m[i], m[i + w]);
    there = clnorm_uint_min(there, w);
  }
  return m[0];
}

CLNORM_FN clnorm_moments clnorm_column_moments(const clnorm_samples *s, clnorm_uint column,
                                               clnorm_vec pivot, int sweep) {
  if (s->share_log2 && s->samples > 1)
    return clnorm_column_shared(s, column, s->run - column, pivot, sweep);
  if (s->run >= CLNORM_LANES)
    return clnorm_column_take(s, 0, column, CLNORM_LANES, pivot, sweep,
                              sweep == CLNORM_SECOND_SWEEP);
  return clnorm_column_take(s, 0, column, s->run, pivot, sweep, 0);
}

CLNORM_NOINLINE void clnorm_run_first(const clnorm_samples *all, clnorm_real *sums) {
  clnorm_samples s = *all;
  const clnorm_uint columns = clnorm_samples_columns(&s);
  s.samples = clnorm_uint_min(s.samples, CLNORM_BLOCK_ROWS << s.share_log2);
  for (clnorm_uint i = 0; i < columns; i++) {
    const clnorm_uint column = clnorm_samples_column(&s, i);
    const clnorm_moments m =
        clnorm_column_moments(&s, column, clnorm_splat(0.0f), CLNORM_FIRST_SWEEP);
    clnorm_vec_store_private(sums + column, m.d);
  }
}

CLNORM_NOINLINE void clnorm_run_moments(const clnorm_samples *s, const clnorm_real *pivots,
                                        clnorm_real *d, clnorm_real *dd, clnorm_writer *w) {
  const clnorm_uint columns = clnorm_samples_columns(s);
  for (clnorm_uint i = 0; i < columns; i++) {
    const clnorm_uint column = clnorm_samples_column(s, i);
    const clnorm_vec pivot = clnorm_vec_load_private(pivots + column);
    const clnorm_moments m = clnorm_column_moments(s, column, pivot, CLNORM_SECOND_SWEEP);
    clnorm_vec_store_private(d + column, m.d);
    clnorm_vec_store_private(dd + column, m.dd);
    if (w->samples) clnorm_write_some(w, clnorm_uint_max(s->samples + s->samples / 2, 8));
  }
}

/* The tree over what is left of each channel: up to n columns of values, n a constant. */
CLNORM_FN void clnorm_fold_planes(const clnorm_real *values, clnorm_uint channels,
                                  clnorm_uint spatial, clnorm_real *sums, clnorm_uint n) {
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
CLNORM_FN clnorm_real clnorm_fold_few(const clnorm_real *values, clnorm_uint n) {
  clnorm_real even = values[0];
  if (n > 2) even = even + values[2];
  if (n == 1) return even;
  return even + (n > 3 ? values[1] + values[3] : values[1]);
}

CLNORM_NOINLINE void clnorm_fold_runs(const clnorm_real *values, clnorm_uint channels,
                                      clnorm_uint spatial, clnorm_real *sums) {
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

#define CLNORM_RUN_MAX 1024u /* elements of a run */

/* One value for each element of a run, aligned like the run in the first sample. */
typedef struct clnorm_run_values {
  clnorm_real at[CLNORM_RUN_MAX + 2 * CLNORM_LANES + CLNORM_ROW] __attribute__((aligned(64)));
} clnorm_run_values;

/* What the segments of some channels work with. */
typedef struct clnorm_run_sums {
  clnorm_run_values d, dd, pivots; /* one for each element */
  clnorm_real pivot[CLNORM_CHANNELS_MAX], sum_d[CLNORM_CHANNELS_MAX], sum_dd[CLNORM_CHANNELS_MAX];
} clnorm_run_sums;

/* Nodes of one segment of the samples' channels, which are those from c0 on of a group. */
CLNORM_FN void clnorm_run_segment(clnorm_run_sums *k, const clnorm_samples *s, clnorm_uint spatial,
                                  clnorm_reciprocals r, clnorm_ulong c0, clnorm_nodes *nodes,
                                  clnorm_writer *w) {
  const clnorm_uint channels = s->channels;
  clnorm_real *d = k->d.at + s->lead, *dd = k->dd.at + s->lead, *pivots = k->pivots.at + s->lead;
  clnorm_run_first(s, d);
  clnorm_fold_runs(d, channels, spatial, k->pivot);
  for (clnorm_uint c = 0; c < channels; c++) k->pivot[c] = clnorm_plus_zero(k->pivot[c]) * r.first;
  clnorm_expand(pivots, k->pivot, channels, spatial);
  clnorm_run_moments(s, pivots, d, dd, w);
  clnorm_fold_runs(d, channels, spatial, k->sum_d);
  clnorm_fold_runs(dd, channels, spatial, k->sum_dd);
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_nodes_set(
        nodes, c0 + c,
        clnorm_partial_make(nodes->count, r.all, k->pivot[c], k->sum_d[c], k->sum_dd[c]));
}

#endif
