/*
 * What the host tells a kernel of one run: one structure for every kernel, back end and form.
 */
#ifndef CLNORM_CALL_H
#define CLNORM_CALL_H

#include "storage.h"

/* y = fma(x - hi, scale, shift) */
typedef struct clnorm_coefficients {
  clnorm_real hi, scale, shift;
} clnorm_coefficients;

/* S, the sum of g over some values, and T, that of g * (x - hi). */
typedef struct clnorm_sums {
  clnorm_real s, t;
} clnorm_sums;

/* dx = fma(hi - x, slope, g - shift) * scale; with given statistics g * scale */
typedef struct clnorm_gradient_coefficients {
  clnorm_real hi, slope, shift, scale;
} clnorm_gradient_coefficients;

/* Of operands that may be absent: which are there. Forward writes the saved statistics, backward reads them. */
#define CLNORM_HAS_WEIGHT 1u
#define CLNORM_HAS_BIAS 2u
#define CLNORM_HAS_RUNNING 4u
#define CLNORM_SAVE_MEAN 8u
#define CLNORM_SAVE_MEAN_LOW 16u
#define CLNORM_SAVE_INVSTD 32u
#define CLNORM_BATCH_MODE 64u /* statistics of the batch; else running_mean and running_var */
#define CLNORM_BIASED_RUNNING_VAR 128u
#define CLNORM_STREAMED 256u /* y is larger than the caches: write around them */
/* x and y start, and their samples and planes start and end, at multiples of 16 bytes */
#define CLNORM_ALIGNED 512u
#define CLNORM_EXPANDED 1024u /* of a writer (vector_write.h) */
/* the channels that the last block of y has beyond the tensor's are its own: they become 0 */
#define CLNORM_OWNS_TAIL 2048u
/* Of backward: what it writes, whether that is added to what is there, and whether it needs x and T */
#define CLNORM_HAS_DX 4096u
#define CLNORM_HAS_DWEIGHT 8192u
#define CLNORM_HAS_DBIAS 16384u
#define CLNORM_ACCUMULATE 32768u
#define CLNORM_READS_X 65536u

/* A tensor in memory, all in elements: element (n, c, (i, j, k)) lies at
 *   offset + n * sample + c / block * channel + c % block + i * position[0] + j * position[1] + k * position[2]
 * Position p is (i, j, k) with p = (i * extent[0] + j) * extent[1] + k; axes that follow each other in all of a
 * call's tensors are one, so that a plane without gaps has j = i = 0 and extent[1] = spatial. */
typedef struct clnorm_view {
  clnorm_ulong offset, sample, channel;
  clnorm_ulong position[3];
  clnorm_uint block;
  /* CLNORM_STORAGE_... (storage.h) */
  clnorm_uint storage;
} clnorm_view;

#define CLNORM_VIEW_X 0
#define CLNORM_VIEW_Y 1 /* y, or dx, which backward writes in its place */
#define CLNORM_VIEW_DY 2
#define CLNORM_NUM_VIEWS 3

/* Operands that have one value a channel. */
#define CLNORM_PARAMETER_WEIGHT 0
#define CLNORM_PARAMETER_BIAS 1
#define CLNORM_PARAMETER_RUNNING_MEAN 2
#define CLNORM_PARAMETER_RUNNING_VAR 3
#define CLNORM_PARAMETER_SAVED_MEAN 4
#define CLNORM_PARAMETER_SAVED_MEAN_LOW 5
#define CLNORM_PARAMETER_SAVED_INVSTD 6
#define CLNORM_PARAMETER_DWEIGHT 7
#define CLNORM_PARAMETER_DBIAS 8
#define CLNORM_NUM_PARAMETERS 9

/* Kernel argument, passed by value. 64-bit members first: one layout everywhere. How work is cut (chunk, channels
 * together, tiles) never changes the bits. running = keep * running + take * batch; the bits of double values are
 * there too, for f64. */
typedef struct clnorm_call {
  clnorm_ulong batch, channels, spatial;
  /* of the positions' inner axes */
  clnorm_ulong extent[2];
  clnorm_view views[CLNORM_NUM_VIEWS];
  /* reals from the start of each buffer */
  clnorm_ulong parameters[CLNORM_NUM_PARAMETERS];
  /* bytes from the start of the workspace */
  clnorm_ulong partials, coefficients;
  clnorm_ulong eps_bits, keep_bits, take_bits;
  float eps, keep, take;
  clnorm_uint flags;
  /* 2^chunk_log2 segments are one node of the tree */
  clnorm_uint chunk_log2;
  /* nodes per channel */
  clnorm_uint chunks;
  /* channels that one worker takes together, <= CLNORM_CHANNELS_MAX */
  clnorm_uint channels_each;
  /* of these groups, how many one work-item takes one after the other */
  clnorm_uint groups_each;
  /* an output tile: samples, and positions of a plane */
  clnorm_uint tile_batch, tile_spatial;
} clnorm_call;

/* Its factors as reals. */
#ifdef CLNORM_REAL_IS_DOUBLE
#define clnorm_eps(call) clnorm_from_bits((call)->eps_bits)
#define clnorm_keep(call) clnorm_from_bits((call)->keep_bits)
#define clnorm_take(call) clnorm_from_bits((call)->take_bits)
#else
#define clnorm_eps(call) (call)->eps
#define clnorm_keep(call) (call)->keep
#define clnorm_take(call) (call)->take
#endif

#define CLNORM_CHANNELS_MAX 64u
/* bytes of a line of the cache */
#define CLNORM_LINE 64u

#endif
