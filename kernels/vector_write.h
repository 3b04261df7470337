/*
 * The vector form's output. The includer of any vector_*.h says before what a vector is; it defines
 *   CLNORM_LANES                   reals in a vector: 2, 4, 8 or 16
 *   clnorm_vec                     the vector; + - * work on it
 *   clnorm_splat(s)                all lanes s
 *   clnorm_vec_fma(a, b, c)
 *   clnorm_vec_load(p)                 LANES elements of x, at any multiple of their size
 *   clnorm_vec_load_part(p, n, fill)   n < LANES elements, the other lanes from `fill`, nothing else is read
 *   clnorm_vec_store(p, v), clnorm_vec_store_part(p, v, n)   elements of y
 *   clnorm_vec_stream(p, v)            at a multiple of LANES elements; written around the caches
 *   clnorm_vec_move(y, x), clnorm_vec_move_part(y, x, n), clnorm_vec_move_stream(y, x)   x to y; the bits as they
 *                                      are, where both are one storage
 *   clnorm_vec_blend(n, a, b)          n lanes of a, the others of b
 *   clnorm_vec_load_private(t), clnorm_vec_store_private(t, v)   private arrays of reals;
 *   clnorm_vec_load_private_part(t, part)                        lanes that the part has not are 0
 *   clnorm_part, clnorm_part_of(n)     the first n <= LANES lanes; made once, used often
 *   clnorm_prefetch(p, i)          element i from p on, modulo 2^64: it may lie anywhere
 *   CLNORM_UNROLL                  before a loop that is to become straight code: its arrays, registers
 *   clnorm_fold_vec(v)             lanes folded by halves: (lane i) + (lane i + LANES / 2), ...
 */
#ifndef CLNORM_VECTOR_WRITE_H
#define CLNORM_VECTOR_WRITE_H

#include "vector_nodes.h"

/* Elements, of `size` bytes, from the vector before p to p. */
CLNORM_FN clnorm_uint clnorm_lead(CLNORM_GLOBAL const void *p, clnorm_uint size) {
  return (clnorm_uint)((uintptr_t)p / size) % CLNORM_LANES;
}

/* Up to LANES values, the other lanes from `fill`. */
CLNORM_FN clnorm_vec clnorm_some(CLNORM_GLOBAL const clnorm_in *p, clnorm_uint n, clnorm_vec fill) {
  return n >= CLNORM_LANES ? clnorm_vec_load(p) : clnorm_vec_load_part(p, n, fill);
}

/* values[c * spatial + p] = each[c] for all p < spatial. What is stored past a channel's end, the next one
 * replaces; the vector after the last one is 0. */
CLNORM_FN void clnorm_expand(clnorm_real *values, const clnorm_real *each, clnorm_uint channels,
                             clnorm_uint spatial) {
  for (clnorm_uint c = 0; spatial == 1 && c < channels; c++) values[c] = each[c]; /* in vectors */
  for (clnorm_uint c = 0; spatial > 1 && c < channels; c++)
    for (clnorm_uint p = 0; p < spatial; p += CLNORM_LANES)
      clnorm_vec_store_private(values + c * spatial + p, clnorm_splat(each[c]));
  clnorm_vec_store_private(values + channels * spatial, clnorm_splat(0.0f));
}

/* n values, `repeats` times, and as many more that whatever vector begins among them is whole; up to two vectors are
 * stored past their end. `from` may be `to`. What is repeated is read where it was stored long ago: a processor waits
 * where it reads parts of what it has just stored. */
CLNORM_FN void clnorm_repeat(clnorm_real *to, const clnorm_real *from, clnorm_uint n,
                             clnorm_uint repeats) {
  const clnorm_uint end = repeats * n + CLNORM_LANES;
  clnorm_uint width = n; /* of what is repeated, a vector at least */
  while (width < CLNORM_LANES) width += n;
  for (clnorm_uint i = 0; n >= CLNORM_LANES && i < n; i += CLNORM_LANES)
    clnorm_vec_store_private(to + i, clnorm_vec_load_private(from + i));
  for (clnorm_uint i = 0; n < CLNORM_LANES && i < n; i++)
    for (clnorm_uint k = i; k < width + CLNORM_LANES; k += n) to[k] = from[i];
  for (clnorm_uint i = width; i < end; i += width)
    for (clnorm_uint k = 0; k < width && i + k < end; k += CLNORM_LANES)
      clnorm_vec_store_private(to + i + k, clnorm_vec_load_private(to + k));
}

#define CLNORM_EXPAND_MAX (2 * CLNORM_LANES)

/* One value for each element of a run of planes of up to EXPAND_MAX values, aligned like the run itself:
 * element i is at[lead + i]. */
typedef struct clnorm_expanded {
  clnorm_real at[CLNORM_CHANNELS_MAX * CLNORM_EXPAND_MAX + 2 * CLNORM_LANES]
      __attribute__((aligned(64)));
} clnorm_expanded;

/* A tile's output, written piece by piece between other work: the processor stores what is ready while it
 * computes something else. A run is what the tile has of one sample: the planes of its channels, side by
 * side, or a piece of one plane. */
typedef struct clnorm_writer {
  CLNORM_GLOBAL const clnorm_in *x; /* the present run */
  CLNORM_GLOBAL clnorm_out *y;
  clnorm_ulong run, at; /* a run's elements; how many of the present one are written */
  /* elements of each channel; where the present channel ends in the run */
  clnorm_ulong plane, edge;
  /* elements from run to run; negative where the last run is the first written */
  clnorm_long step_x, step_y;
  clnorm_ulong samples; /* runs still to write, the present one included */
  clnorm_ulong last;    /* elements of the last run */
  clnorm_uint flags, lead, channel;
  clnorm_coefficient_rows coefficients;
  clnorm_expanded hi, scale, shift;
} clnorm_writer;

/* Where a run's coefficients comes from. A constant in every call. */
#define CLNORM_RUN_COPY 0     /* nowhere: y = x */
#define CLNORM_RUN_CHANNELS 1 /* a vector has one channel, or two */
#define CLNORM_RUN_EXPANDED 2 /* one for each element */

/* The coefficients of a vector. */
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

CLNORM_FN clnorm_vec clnorm_normalized(clnorm_splats a, clnorm_vec v) {
  return clnorm_vec_fma(v - a.hi, a.scale, a.shift);
}

/* A vector of y from one of x. copy, a constant: the bits as they are. */
CLNORM_FN void clnorm_put(clnorm_splats a, CLNORM_GLOBAL clnorm_out *y,
                          CLNORM_GLOBAL const clnorm_in *x, int copy, int streamed) {
  if (copy && streamed)
    clnorm_vec_move_stream(y, x);
  else if (copy)
    clnorm_vec_move(y, x);
  else if (streamed)
    clnorm_vec_stream(y, clnorm_normalized(a, clnorm_vec_load(x)));
  else
    clnorm_vec_store(y, clnorm_normalized(a, clnorm_vec_load(x)));
}

/* The same of n elements, fewer than a vector. */
CLNORM_FN void clnorm_put_part(clnorm_splats a, CLNORM_GLOBAL clnorm_out *y,
                               CLNORM_GLOBAL const clnorm_in *x, clnorm_uint n, int copy) {
  if (copy) {
    clnorm_vec_move_part(y, x, n);
    return;
  }
  const clnorm_vec v = clnorm_vec_load_part(x, n, clnorm_splat(0.0f));
  clnorm_vec_store_part(y, clnorm_normalized(a, v), n);
}

/* n elements from element i of a run on, fewer than a vector. */
CLNORM_FN void clnorm_write_part(const clnorm_writer *w, clnorm_splats a,
                                 CLNORM_GLOBAL clnorm_out *y, CLNORM_GLOBAL const clnorm_in *x,
                                 clnorm_ulong i, clnorm_ulong n, int mode) {
  if (mode == CLNORM_RUN_EXPANDED) a = clnorm_splats_expanded(w, i);
  clnorm_put_part(a, y + i, x + i, (clnorm_uint)n, mode == CLNORM_RUN_COPY);
}

CLNORM_FN void clnorm_write_vector(const clnorm_writer *w, clnorm_splats a,
                                   CLNORM_GLOBAL clnorm_out *y, CLNORM_GLOBAL const clnorm_in *x,
                                   clnorm_ulong i, int mode, int streamed) {
  if (mode == CLNORM_RUN_EXPANDED) a = clnorm_splats_expanded(w, i);
  clnorm_put(a, y + i, x + i, mode == CLNORM_RUN_COPY, streamed);
}

/* Elements [i, end) of a run that starts at x and y, all of one channel or as mode says, as far as whole
 * vectors go; y may be x. Streamed stores are aligned. */
CLNORM_FN clnorm_ulong clnorm_write_whole(const clnorm_writer *w, clnorm_splats a,
                                          CLNORM_GLOBAL clnorm_out *y,
                                          CLNORM_GLOBAL const clnorm_in *x, clnorm_ulong i,
                                          clnorm_ulong end, int mode) {
  if (w->flags & CLNORM_STREAMED && clnorm_lead(y + i, sizeof *y) == 0)
    for (; i + CLNORM_LANES <= end; i += CLNORM_LANES) clnorm_write_vector(w, a, y, x, i, mode, 1);
  for (; i + CLNORM_LANES <= end; i += CLNORM_LANES) clnorm_write_vector(w, a, y, x, i, mode, 0);
  return i;
}

/* Elements [w->at, end) of a run: channel by channel, a vector that has two as one. */
CLNORM_FN void clnorm_write_run(clnorm_writer *w, CLNORM_GLOBAL clnorm_out *y,
                                CLNORM_GLOBAL const clnorm_in *x, clnorm_ulong end, int mode) {
  clnorm_ulong i = w->at;
  while (i < end) {
    const clnorm_splats a = clnorm_splats_make(&w->coefficients, w->channel);
    const clnorm_ulong edge = mode == CLNORM_RUN_CHANNELS ? clnorm_min(w->edge, end) : end;
    const clnorm_uint into = clnorm_lead(y + i, sizeof *y);
    if (into && i + CLNORM_LANES - into <= edge) {
      clnorm_write_part(w, a, y, x, i, CLNORM_LANES - into, mode);
      i += CLNORM_LANES - into;
    }
    i = clnorm_write_whole(w, a, y, x, i, edge, mode);
    if (i < edge && edge < end && w->plane >= CLNORM_LANES && i + CLNORM_LANES <= end) {
      const clnorm_splats next = clnorm_splats_make(&w->coefficients, w->channel + 1);
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
      const clnorm_ulong end =
          w->at + vectors * CLNORM_LANES - clnorm_lead(w->y + w->at, sizeof *w->y);
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
    w->x += w->step_x;
    w->y += w->step_y;
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
  if (end >= w->edge || (w->flags & (CLNORM_STREAMED | CLNORM_EXPANDED)) != CLNORM_STREAMED ||
      clnorm_lead(w->y + w->at, sizeof *w->y)) {
    clnorm_write_any(w, vectors);
    return;
  }
  const clnorm_splats a = clnorm_splats_make(&w->coefficients, w->channel);
  w->at = clnorm_write_whole(w, a, w->y, w->x, w->at, end, CLNORM_RUN_CHANNELS);
}

#define CLNORM_ALL_VECTORS (~(clnorm_ulong)0 / 64)

CLNORM_FN void clnorm_write_all(clnorm_writer *w) { clnorm_write_any(w, CLNORM_ALL_VECTORS); }

/* Nothing to write. */
CLNORM_FN void clnorm_writer_none(clnorm_writer *w) { w->samples = w->flags = 0; }

/* backwards: the last sample is written first; what was read last is still in the cache. */
CLNORM_FN void clnorm_writer_start(clnorm_writer *w, const clnorm_buffers *b,
                                   const clnorm_call *call, const clnorm_tile *t, int backwards) {
  const clnorm_view *x = &call->views[CLNORM_VIEW_X], *y = &call->views[CLNORM_VIEW_Y];
  const clnorm_ulong first = backwards ? t->n1 - 1 : t->n0;
  w->x = b->x + first * x->sample + t->c0 * x->channel + t->p0;
  w->y = b->y + first * y->sample + t->c0 * y->channel + t->p0;
  w->plane = w->edge = t->p1 - t->p0;
  w->run = w->last = (t->c1 - t->c0) * w->plane;
  w->step_x = backwards ? -(clnorm_long)x->sample : (clnorm_long)x->sample;
  w->step_y = backwards ? -(clnorm_long)y->sample : (clnorm_long)y->sample;
  w->at = w->channel = 0;
  w->samples = t->n1 - t->n0;
  w->flags = call->flags & CLNORM_STREAMED;
  w->lead = clnorm_lead(w->y, sizeof *w->y);
}

#define CLNORM_REPEATED 256u /* elements of a run that are worth the work of repeating it */

/* How many runs become one, so that it is long: all channels of a sample lie beside those of the next. */
CLNORM_FN clnorm_uint clnorm_writer_repeats(const clnorm_writer *w) {
  if (w->step_x != (clnorm_long)w->run || w->step_y != (clnorm_long)w->run) return 1;
  clnorm_ulong n = clnorm_min(w->samples / 4, CLNORM_REPEATED / w->run);
  if (n > CLNORM_LANES) n -= n % CLNORM_LANES;
  return n ? (clnorm_uint)n : 1;
}

/* Planes up to a vector are worth the work of spreading the coefficients out; up to two, of several samples. */
CLNORM_FN void clnorm_writer_expand(clnorm_writer *w) {
  const clnorm_uint plane = (clnorm_uint)w->plane, channels = (clnorm_uint)(w->run / plane);
  if (w->plane > (w->samples < 3 ? CLNORM_LANES : CLNORM_EXPAND_MAX)) return;
  const clnorm_uint repeats = clnorm_writer_repeats(w);
  clnorm_real *hi = w->hi.at + w->lead, *scale = w->scale.at + w->lead,
              *shift = w->shift.at + w->lead;
  for (clnorm_uint k = 0; k < repeats; k++, hi += w->run, scale += w->run, shift += w->run) {
    clnorm_expand(hi, w->coefficients.hi, channels, plane);
    clnorm_expand(scale, w->coefficients.scale, channels, plane);
    clnorm_expand(shift, w->coefficients.shift, channels, plane);
  }
  w->flags |= CLNORM_EXPANDED;
  if (repeats == 1) return;
  w->last = ((w->samples - 1) % repeats + 1) * w->run;
  w->samples = (w->samples - 1) / repeats + 1; /* two at least */
  w->run *= repeats;
  w->step_x = w->step_y = (clnorm_long)w->run;
}

#endif
