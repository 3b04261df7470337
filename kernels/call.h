/*
 * What the host tells a kernel of one run.
 */
#ifndef CLNORM_CALL_H
#define CLNORM_CALL_H

#include "base.h"

/* y = fma(x - hi, scale, shift) */
typedef struct clnorm_coefficients {
  float hi, scale, shift;
} clnorm_coefficients;

#define CLNORM_HAS_WEIGHT 1u
#define CLNORM_HAS_BIAS 2u
#define CLNORM_HAS_RUNNING 4u
#define CLNORM_SAVE_MEAN 8u
#define CLNORM_SAVE_INVSTD 16u
#define CLNORM_BATCH_MODE 32u /* statistics of the batch; else running_mean and running_var */
#define CLNORM_BIASED_RUNNING_VAR 64u
#define CLNORM_STREAM 128u   /* y is larger than the caches: write around them */
#define CLNORM_ALIGNED 256u  /* x, y and every plane start at multiples of 16 bytes */
#define CLNORM_EXPANDED 512u /* of a writer (vector_write.h) */

/* Kernel argument, passed by value. 64-bit members first: one layout everywhere. Offsets count floats
 * from the start of the buffer. How work is cut (chunk, group, ...) never changes the bits. */
typedef struct clnorm_call {
  clnorm_ulong batch, channels, spatial;
  clnorm_ulong x, y, weight, bias, running_mean, running_var, saved_mean, saved_invstd;
  clnorm_ulong partials, affine; /* bytes from the start of the workspace */
  float eps, keep, take;         /* running = keep * running + take * batch */
  clnorm_uint flags;
  clnorm_uint chunk_log2;   /* 2^chunk_log2 segments are one node of the tree */
  clnorm_uint chunks;       /* nodes per channel */
  clnorm_uint group;        /* channels that one worker takes together, <= CLNORM_GROUP_MAX */
  clnorm_uint groups;       /* groups that one work-item takes one after the other */
  clnorm_uint tile_batch;   /* output tile: samples, */
  clnorm_uint tile_spatial; /* and positions of a plane */
} clnorm_call;

#define CLNORM_GROUP_MAX 64u
#define CLNORM_LINE 16u /* elements of a line of the cache */

#endif
