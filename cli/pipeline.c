#include "pipeline.h"

#include <stdlib.h>

#include "neighbours.h"
#include "rounds.h"

struct clnorm_pipeline {
  clnorm_context *context;
  clnorm_memory x, y;
  size_t bytes;
  clnorm_neighbours *neighbours; /* CPU path; else NULL, and */
  clnorm_memory source, target;
  clnorm_plan *produce, *consume;
};

/* ---- The CPU path ---------------------------------------------------------------------------------- */

static clnorm_status time_here(clnorm_pipeline *p, clnorm_plan *plan, const dense_args *args,
                               bool device_time, double *seconds) {
  clnorm_neighbours_produce(p->neighbours, p->x.host, p->bytes);
  const double start = clnorm_now();
  clnorm_status status = dense_run(plan, args);
  double run = clnorm_now() - start;
  const double consumer = clnorm_neighbours_consume(p->neighbours, p->y.host, p->bytes);
  if (status == CLNORM_OK && device_time) status = clnorm_last_run_seconds(p->context, &run);
  *seconds = run + consumer;
  return status;
}

/* ---- OpenCL ---------------------------------------------------------------------------------------- */

static clnorm_status copy(clnorm_plan *plan, clnorm_memory from, clnorm_memory to) {
  const dense_args args = {.x = from, .y = to};
  return dense_run(plan, &args);
}

/* Reading back waits: clFinish of rusticl 22.3 returns before the work is done. */
static clnorm_status wait_for(const clnorm_pipeline *p, clnorm_memory memory) {
  char first;
  return clnorm_memory_read(p->context, memory, &first, sizeof first);
}

static clnorm_status time_there(clnorm_pipeline *p, clnorm_plan *plan, const dense_args *args,
                                double *seconds) {
  clnorm_status status = copy(p->produce, p->source, p->x);
  if (status == CLNORM_OK) status = wait_for(p, p->x);
  const double start = clnorm_now();
  if (status == CLNORM_OK) status = dense_run(plan, args);
  if (status == CLNORM_OK) status = copy(p->consume, p->y, p->target);
  if (status == CLNORM_OK) status = wait_for(p, p->target);
  *seconds = clnorm_now() - start;
  return status;
}

static clnorm_status time_events(clnorm_pipeline *p, clnorm_plan *plan, const dense_args *args,
                                 double *seconds) {
  double run = 0, consumer = 0;
  clnorm_status status = copy(p->produce, p->source, p->x);
  if (status == CLNORM_OK) status = dense_run(plan, args);
  if (status == CLNORM_OK) status = clnorm_last_run_seconds(p->context, &run);
  if (status == CLNORM_OK) status = copy(p->consume, p->y, p->target);
  if (status == CLNORM_OK) status = clnorm_last_run_seconds(p->context, &consumer);
  *seconds = run + consumer;
  return status;
}

/* Copies move bits: of floats, or of what has 16 bits where there is half a float too much. */
static clnorm_status make_copies(clnorm_pipeline *p, const void *values) {
  const size_t bytes = p->bytes, size = bytes % sizeof(float) ? sizeof(float) / 2 : sizeof(float);
  const dense_desc desc = dense_desc_defaults(DENSE_COPY, 1, 1, (int64_t)(bytes / size));
  clnorm_problem problem = dense_problem(&desc);
  problem.tensors[CLNORM_X].dtype = size == sizeof(float) ? CLNORM_F32 : CLNORM_F16;
  problem.store = CLNORM_STORE_CACHED;
  clnorm_status status = clnorm_plan_create(p->context, &problem, &p->produce);
  problem.store = CLNORM_STORE_STREAMED;
  if (status == CLNORM_OK) status = clnorm_plan_create(p->context, &problem, &p->consume);
  if (status == CLNORM_OK) status = clnorm_memory_alloc(p->context, bytes, &p->source);
  if (status == CLNORM_OK) status = clnorm_memory_alloc(p->context, bytes, &p->target);
  if (status == CLNORM_OK) status = clnorm_memory_write(p->context, p->source, values, bytes);
  if (status == CLNORM_OK) status = clnorm_memory_write(p->context, p->target, values, bytes);
  return status;
}

/* ---- Either ---------------------------------------------------------------------------------------- */

clnorm_status clnorm_pipeline_time(clnorm_pipeline *pipeline, clnorm_plan *plan,
                                   const dense_args *args, int repeats, bool device_time,
                                   double *seconds) {
  clnorm_status status = CLNORM_OK;
  double times[CLNORM_PIPELINE_REPEATS];
  if (repeats > CLNORM_PIPELINE_REPEATS) repeats = CLNORM_PIPELINE_REPEATS;
  for (int i = 0; i < repeats && status == CLNORM_OK; i++) {
    if (pipeline->neighbours)
      status = time_here(pipeline, plan, args, device_time, &times[i]);
    else if (device_time)
      status = time_events(pipeline, plan, args, &times[i]);
    else
      status = time_there(pipeline, plan, args, &times[i]);
  }
  if (status == CLNORM_OK) *seconds = clnorm_median(times, repeats);
  return status;
}

clnorm_pipeline *clnorm_pipeline_create(clnorm_context *context, const dense_args *args,
                                        const void *values, size_t bytes, int threads,
                                        clnorm_status *status) {
  clnorm_pipeline *p = calloc(1, sizeof *p);
  *status = CLNORM_ERROR_OUT_OF_MEMORY;
  if (!p) return NULL;
  p->context = context;
  p->x = args->x;
  p->y = args->y;
  p->bytes = bytes;
  if (args->x.host) {
    if (threads == 0) threads = clnorm_context_device(context)->compute_units;
    p->neighbours = clnorm_neighbours_create(threads);
    if (p->neighbours) *status = CLNORM_OK;
  } else {
    *status = make_copies(p, values);
  }
  if (*status == CLNORM_OK) return p;
  clnorm_pipeline_destroy(p);
  return NULL;
}

void clnorm_pipeline_destroy(clnorm_pipeline *pipeline) {
  if (!pipeline) return;
  clnorm_neighbours_destroy(pipeline->neighbours);
  clnorm_plan_destroy(pipeline->produce);
  clnorm_plan_destroy(pipeline->consume);
  clnorm_memory_free(pipeline->context, &pipeline->source);
  clnorm_memory_free(pipeline->context, &pipeline->target);
  free(pipeline);
}
