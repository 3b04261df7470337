#include "measure.h"

#include <stdio.h>

#include "rounds.h"

enum { CALL, COPY_CACHED, COPY_STREAMED, CACHED, STREAMED }; /* the subjects of clnorm_measure */

/* ---- One call beside the ceiling ------------------------------------------------------------------- */

/* The better of the two copies. */
static int best_copy(const clnorm_rounds *r) {
  const bool cached =
      clnorm_rounds_median(r, COPY_CACHED) <= clnorm_rounds_median(r, COPY_STREAMED);
  return cached ? COPY_CACHED : COPY_STREAMED;
}

static void summarize(const clnorm_rounds *r, clnorm_measurement *result) {
  const clnorm_plan *plan = r->subjects[CALL].plan;
  const double bytes = clnorm_rounds_bytes(r);
  result->median_s = clnorm_rounds_median(r, CALL);
  result->ceiling_s = clnorm_rounds_median(r, best_copy(r));
  result->fraction = clnorm_rounds_ratio(r, best_copy(r), CALL);
  result->floor_bytes = 2 * bytes;
  result->stream_bytes = (r->wanted->op == CLNORM_BENCH_TRAIN ? 3 : 2) * bytes;
  result->extra_bytes = dense_workspace_size(plan);
  result->rounds = r->rounds;
  snprintf(result->variant, sizeof result->variant, "%s", clnorm_plan_description(plan));
}

static clnorm_status add_copy(clnorm_rounds *r, clnorm_context *context, clnorm_store store,
                              clnorm_message *message) {
  dense_desc desc = clnorm_rounds_describe(r->wanted, CLNORM_CUT_AUTO, store);
  desc.statistics = DENSE_COPY;
  return clnorm_rounds_add(r, context, &desc, message);
}

static clnorm_status add_call(clnorm_rounds *r, clnorm_context *context, clnorm_cut variant,
                              clnorm_store store, clnorm_message *message) {
  const dense_desc desc = clnorm_rounds_describe(r->wanted, variant, store);
  return clnorm_rounds_add(r, context, &desc, message);
}

/* The same call and copies, and both stores, between a producer and a consumer. */
static clnorm_status measure_pipeline(clnorm_rounds *r, clnorm_context *baseline,
                                      clnorm_measured_pipeline *result, clnorm_message *message) {
  const clnorm_cut variant = r->wanted->variant;
  clnorm_context *context = r->subjects[CALL].context;
  clnorm_status status = add_call(r, context, variant, CLNORM_STORE_CACHED, message);
  if (status == CLNORM_OK) status = add_call(r, context, variant, CLNORM_STORE_STREAMED, message);
  if (status == CLNORM_OK && r->wanted->check)
    status = clnorm_rounds_check(r, CACHED, STREAMED + 1, baseline, message);
  if (status == CLNORM_OK) status = clnorm_rounds_in_pipeline(r, message);
  if (status == CLNORM_OK) status = clnorm_rounds_time(r, message);
  if (status != CLNORM_OK) return status;
  result->rule_s = clnorm_rounds_median(r, CALL);
  result->cached_s = clnorm_rounds_median(r, CACHED);
  result->streamed_s = clnorm_rounds_median(r, STREAMED);
  result->ceiling_s = clnorm_rounds_median(r, best_copy(r));
  result->fraction = clnorm_rounds_ratio(r, best_copy(r), CALL);
  result->rounds = r->rounds;
  return status;
}

clnorm_status clnorm_measure(clnorm_context *context, clnorm_context *baseline,
                             const clnorm_measure_case *wanted, clnorm_measurement *result,
                             clnorm_message *message) {
  clnorm_rounds *r = clnorm_rounds_create(wanted, message);
  if (!r) return CLNORM_ERROR_OUT_OF_MEMORY;
  clnorm_status status = add_call(r, context, wanted->variant, wanted->store, message);
  if (status == CLNORM_OK) status = add_copy(r, context, CLNORM_STORE_CACHED, message);
  if (status == CLNORM_OK) status = add_copy(r, context, CLNORM_STORE_STREAMED, message);
  if (status == CLNORM_OK && wanted->check)
    status = clnorm_rounds_check(r, CALL, CALL + 1, baseline, message);
  if (status == CLNORM_OK) status = clnorm_rounds_time(r, message);
  if (status == CLNORM_OK) summarize(r, result);
  if (status == CLNORM_OK && wanted->pipeline)
    status = measure_pipeline(r, baseline, &result->pipeline, message);
  clnorm_rounds_destroy(r);
  return status;
}

/* ---- Two ways -------------------------------------------------------------------------------------- */

clnorm_status clnorm_measure_ways(const clnorm_measure_way ways[2], clnorm_context *baseline,
                                  const clnorm_measure_case *wanted, clnorm_comparison *result,
                                  clnorm_message *message) {
  clnorm_rounds *r = clnorm_rounds_create(wanted, message);
  if (!r) return CLNORM_ERROR_OUT_OF_MEMORY;
  clnorm_status status = CLNORM_OK;
  for (int i = 0; i < 2 && status == CLNORM_OK; i++)
    status = add_call(r, ways[i].context, ways[i].variant, ways[i].store, message);
  if (status == CLNORM_OK && wanted->check)
    status = clnorm_rounds_check(r, 0, 2, baseline, message);
  if (status == CLNORM_OK && wanted->pipeline) status = clnorm_rounds_in_pipeline(r, message);
  if (status == CLNORM_OK) status = clnorm_rounds_time(r, message);
  if (status == CLNORM_OK) {
    for (int i = 0; i < 2; i++) result->median_s[i] = clnorm_rounds_median(r, i);
    result->ratio = clnorm_rounds_ratio(r, 0, 1);
    result->rounds = r->rounds;
  }
  clnorm_rounds_destroy(r);
  return status;
}
