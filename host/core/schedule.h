/* How one problem is cut into work for a device. No memory, no device, no state. */
#ifndef CLNORM_CORE_SCHEDULE_H
#define CLNORM_CORE_SCHEDULE_H

#include <clnorm/clnorm.h>

#include "caches.h"
#include "call.h"
#include "statistics.h"

/* What a schedule needs to know of a device. */
typedef struct clnorm_traits {
  clnorm_form form;      /* VECTOR or WIDE */
  unsigned workers;      /* threads, or compute units */
  unsigned group_size;   /* WIDE: work-items per work-group, a multiple of 64; VECTOR: 1 */
  uint64_t stream_bytes; /* VECTOR: outputs from this size on are written around the caches; */
  uint64_t train_stream_bytes; /* with batch statistics from this size on */
  uint64_t cache_bytes;        /* VECTOR: a worker's own cache */
  double split_below;          /* SPLIT where there are fewer channels per worker */
} clnorm_traits;

/* cache_bytes, and by the rule (docs/performance.md) stream_bytes and train_stream_bytes. */
void clnorm__traits_set_caches(clnorm_traits *traits, clnorm_caches caches);

/* The stages that kernels/vector.cl, kernels/wide.cl and the CPU back end implement. */
typedef enum clnorm_stage {
  CLNORM_STAGE_CHANNEL, /* item: a group of channels, statistics and output */
  /* item: one node of the trees of a group of channels (WIDE: of one channel) -> workspace */
  CLNORM_STAGE_PARTIALS,
  CLNORM_STAGE_FINALIZE, /* item: one channel: nodes -> coefficients in the workspace, running statistics */
  CLNORM_STAGE_APPLY, /* item: one tile of the output */
  CLNORM_STAGE_COPY,  /* item: one tile of y = x */
  /* as the first four, of gradients: sums, coefficients and gradients of parameters, dx */
  CLNORM_STAGE_BACKWARD_CHANNEL,
  CLNORM_STAGE_BACKWARD_PARTIALS,
  CLNORM_STAGE_BACKWARD_FINALIZE,
  CLNORM_STAGE_BACKWARD_APPLY,
  CLNORM_NUM_STAGES
} clnorm_stage;

typedef struct clnorm_launch {
  clnorm_stage stage;
  /* WIDE: work-groups; VECTOR: what a worker does at a time, and how many of them a work-item takes; the CPU's threads
   * share them out themselves */
  uint64_t items;
  uint32_t each;
} clnorm_launch;

/* Which way through memory kernels take; never changes the bits. */
typedef enum clnorm_path {
  /* any strides, blocks and types: an element at a time */
  CLNORM_PATH_GENERAL,
  /* lanes are positions: those of a plane follow each other in memory, in x and in y */
  CLNORM_PATH_POSITIONS,
  /* lanes are channels: those of a block follow each other in memory, in x and in y */
  CLNORM_PATH_CHANNELS,
  CLNORM_NUM_PATHS
} clnorm_path;

/* What kernels are compiled for: all that is a constant in them. Plain: compared byte by byte. */
typedef struct clnorm_key {
  uint32_t form, group_size;
  /* CLNORM_STORAGE_... of x, of y or dx, and of dy; real is double where x is F64 */
  uint32_t x, y, dy;
  uint32_t path;
  /* bit 1 << stage for each stage that the schedule launches */
  uint32_t stages;
} clnorm_key;

/* A checked problem, as far as cutting it into work needs it. */
typedef struct clnorm_work {
  /* sizes, extents, views without their offsets, eps, and flags that say what the problem is */
  clnorm_call call;
  clnorm_path path;
  clnorm_operation operation;
  clnorm_statistics statistics;
  clnorm_cut cut;
  clnorm_store store;
  /* backward: bits of clnorm_gradient; statistics of the batch are computed first */
  uint32_t gradients;
  bool recompute;
} clnorm_work;

enum { CLNORM_MAX_LAUNCHES = 5 };

typedef struct clnorm_schedule {
  clnorm_key key;
  unsigned num_launches; /* 0 where there is nothing to do */
  clnorm_launch launches[CLNORM_MAX_LAUNCHES];
  clnorm_call call; /* everything but offsets, flags and running factors of one run */
  size_t workspace_size;
  /* where saved_mean, saved_mean_low and saved_invstd stand in the workspace, each of saved_bytes; 0: they do not */
  size_t saved, saved_bytes;
} clnorm_schedule;

/* Bytes of a clnorm_partial and of a clnorm_coefficients where x has this storage; of backward's clnorm_sums and
 * clnorm_gradient_coefficients. */
unsigned clnorm__partial_bytes(uint32_t x);
unsigned clnorm__coefficients_bytes(uint32_t x);
unsigned clnorm__sums_bytes(uint32_t x);
unsigned clnorm__gradient_coefficients_bytes(uint32_t x);

clnorm_schedule clnorm__schedule_make(const clnorm_work *work, const clnorm_traits *traits);

#endif
