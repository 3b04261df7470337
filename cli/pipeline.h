/* An operation where an engine has it: a producer writes x just before, and a consumer reads y once just
 * after. What is timed is the operation and its consumer.
 *
 *   CPU path   producer and consumer are threads of the program, as many as the library has, which sleep
 *              between their parts. The producer writes x through the caches, the consumer adds y up
 *   OpenCL     they are copies on the device: from another tensor to x, and from y to a third one (vector
 *              form: around the caches), since nothing in the interface reads and writes nothing */
#ifndef CLNORM_CLI_PIPELINE_H
#define CLNORM_CLI_PIPELINE_H

#include <clnorm/clnorm.h>

#include "dense.h"

typedef struct clnorm_pipeline clnorm_pipeline;

/* Where x and y of *args, `bytes` each in memory of the context, are produced and consumed.
 * values: what the producer copies on OpenCL devices. threads: of the CPU path; 0: all. On failure NULL
 * with the status in *status. */
clnorm_pipeline *clnorm_pipeline_create(clnorm_context *context, const dense_args *args,
                                        const void *values, size_t bytes, int threads,
                                        clnorm_status *status);
void clnorm_pipeline_destroy(clnorm_pipeline *pipeline); /* NULL is accepted */

#define CLNORM_PIPELINE_REPEATS 256

/* Runs producer, plan on args, consumer, `repeats` times, at most so many. *seconds: of plan and consumer, by
 * the device's clock where device_time is set; the middle of the repeats, since one in which a thread loses its
 * processor takes a hundred times as long. */
clnorm_status clnorm_pipeline_time(clnorm_pipeline *pipeline, clnorm_plan *plan,
                                   const dense_args *args, int repeats, bool device_time,
                                   double *seconds);

#endif
