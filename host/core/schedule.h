/* How one forward problem is cut into work for a device. No memory, no device, no state. */
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
  CLNORM_STAGE_CHANNEL,  /* item: a group of channels, statistics and output */
  CLNORM_STAGE_PARTIALS, /* item: one node of the trees of a group of channels (WIDE: of one channel)
                            -> workspace */
  CLNORM_STAGE_FINALIZE, /* item: one channel: nodes -> coefficients in the workspace, running statistics */
  CLNORM_STAGE_APPLY, /* item: one tile of the output */
  CLNORM_STAGE_COPY,  /* item: one tile of y = x */
  CLNORM_NUM_STAGES
} clnorm_stage;

typedef struct clnorm_launch {
  clnorm_stage stage;
  uint64_t items; /* WIDE: work-groups; VECTOR: what a worker does at a time, and */
  uint32_t
      each; /* how many of them a work-item takes; the CPU's threads share them out themselves */
} clnorm_launch;

typedef struct clnorm_schedule {
  clnorm_form form;
  unsigned group_size;
  unsigned num_launches; /* 0 where there is nothing to do */
  clnorm_launch launches[3];
  clnorm_call call; /* everything but offsets, flags and running factors of one run */
  size_t workspace_size;
} clnorm_schedule;

/* The product of count factors, none of them negative: false if it does not fit, which one with a factor 0
 * always does. */
bool clnorm__checked_product(const int64_t *factors, int count, int64_t *product);

/* The schedule of a validated description. variant: CHANNEL or SPLIT forced, or AUTO. */
clnorm_schedule clnorm__schedule_make(const clnorm_forward_desc *desc, const clnorm_traits *traits);

#endif
