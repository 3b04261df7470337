/* Timing one operation on one context, beside the plain copy of the same bytes: called again and again (the
 * loop), and between a producer and a consumer (the pipeline, pipeline.h). */
#ifndef CLNORM_CLI_MEASURE_H
#define CLNORM_CLI_MEASURE_H

#include <clnorm/clnorm.h>

#include "dense.h"
#include "place.h"

typedef enum clnorm_bench_op { CLNORM_BENCH_EVAL, CLNORM_BENCH_TRAIN } clnorm_bench_op;
extern const char *const clnorm_bench_op_names[]; /* "eval", "train" */

/* "32x64x56x56" */
typedef struct clnorm_shape_text {
  char text[88];
} clnorm_shape_text;
clnorm_shape_text clnorm_shape_text_of(const int64_t dims[4]);

/* Times of a call and of what reads its output; medians of the same rounds. */
typedef struct clnorm_measured_pipeline {
  double rule_s, cached_s, streamed_s; /* as CLNORM_STORE_AUTO, CACHED and STREAMED have it */
  double ceiling_s;                    /* of the best copy in the place of the call */
  double fraction;                     /* median over rounds of ceiling / rule */
  int rounds;
} clnorm_measured_pipeline;

typedef struct clnorm_measurement {
  double median_s;     /* of one call, in the loop like all that follows */
  double ceiling_s;    /* of the best NCHW copy of the same floor bytes, in the same rounds */
  double fraction;     /* median over rounds of ceiling / call */
  double floor_bytes;  /* 2T: x read once, y written once */
  double stream_bytes; /* 3T in training, where x must be read twice; else 2T */
  size_t extra_bytes;  /* workspace */
  int rounds;
  char variant[128];                 /* the plan's description */
  clnorm_measured_pipeline pipeline; /* where the case asks for it */
} clnorm_measurement;

/* What is measured. seconds: how long one measurement may take, about. */
typedef struct clnorm_measure_case {
  clnorm_bench_op op;
  int64_t dims[4];
  int32_t dtype; /* clnorm_dtype, of x and y */
  clnorm_layout layout;
  clnorm_cut variant;
  clnorm_store store;
  double seconds;
  bool check;       /* compare with the CPU path before timing */
  bool pipeline;    /* time it between a producer and a consumer (clnorm_measure: as well) */
  bool device_time; /* by the device's clock: contexts that were opened with profiling */
  int min_rounds;   /* as far as they take no longer than a minute; 0: a few */
  int threads;      /* of a pipeline on the CPU path; 0: all */
} clnorm_measure_case;

/* Checks the result, then times. baseline: a CPU context to compare with. On failure message says why
 * and the status is returned; CLNORM_ERROR_DEVICE if the bits differ. */
clnorm_status clnorm_measure(clnorm_context *context, clnorm_context *baseline,
                             const clnorm_measure_case *wanted, clnorm_measurement *result,
                             clnorm_message *message);

/* One of two ways to do the same thing. */
typedef struct clnorm_measure_way {
  clnorm_context *context;
  clnorm_cut variant;
  clnorm_store store;
} clnorm_measure_way;

typedef struct clnorm_comparison {
  double median_s[2]; /* of one call, each way */
  double ratio;       /* median over rounds of first / second */
  int rounds;
} clnorm_comparison;

/* Times two ways in the same rounds, as clnorm_measure does; variant and store of *wanted are not used.
 * Both may have the same context: they then work on the same memory. */
clnorm_status clnorm_measure_ways(const clnorm_measure_way ways[2], clnorm_context *baseline,
                                  const clnorm_measure_case *wanted, clnorm_comparison *result,
                                  clnorm_message *message);

/* Seconds on a clock that never goes back. */
double clnorm_now(void);

/* The middle of count values, which are sorted on the way. */
double clnorm_median(double *values, int count);

#endif
