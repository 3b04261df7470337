#include "dense.h"

#include <string.h>

dense_desc dense_desc_defaults(int32_t statistics, int64_t batch, int64_t channels,
                               int64_t spatial) {
  dense_desc desc;
  memset(&desc, 0, sizeof desc);
  desc.batch = batch;
  desc.channels = channels;
  desc.spatial = spatial;
  desc.statistics = statistics;
  desc.eps = 1e-5;
  return desc;
}

clnorm_problem dense_problem(const dense_desc *desc) {
  const int64_t dims[3] = {desc->batch, desc->channels, desc->spatial};
  clnorm_problem problem;
  clnorm_problem_init(&problem, sizeof problem);
  problem.operation = desc->statistics == DENSE_COPY ? CLNORM_COPY : CLNORM_FORWARD;
  problem.statistics = desc->statistics == DENSE_COPY ? CLNORM_BATCH_STATISTICS : desc->statistics;
  problem.eps = desc->eps;
  problem.biased_running_var = desc->biased_running_var;
  problem.refuse_one_value = desc->refuse_one_value;
  problem.external_workspace = desc->external_workspace;
  problem.cut = desc->cut;
  problem.store = desc->store;
  clnorm_tensor_nchw(&problem.tensors[CLNORM_X], CLNORM_F32, 3, dims);
  return problem;
}

clnorm_status dense_plan_create(clnorm_context *context, const dense_desc *desc,
                                clnorm_plan **plan) {
  if (!desc) return clnorm_plan_create(context, NULL, plan);
  const clnorm_problem problem = dense_problem(desc);
  return clnorm_plan_create(context, &problem, plan);
}

size_t dense_workspace_size(const clnorm_plan *plan) {
  clnorm_operand operand;
  clnorm_operand_init(&operand, sizeof operand);
  clnorm_plan_operand(plan, CLNORM_WORKSPACE, &operand);
  return (size_t)operand.bytes;
}

enum { MAX_BINDINGS = 10 };

/* Does the plan do anything with a role? NULL has every role. */
static bool has_role(const clnorm_plan *plan, int32_t role) {
  clnorm_operand operand;
  clnorm_operand_init(&operand, sizeof operand);
  return clnorm_plan_operand(plan, role, &operand) != CLNORM_OK || operand.read || operand.written;
}

static size_t bind(const clnorm_plan *plan, const dense_args *args,
                   clnorm_binding bindings[MAX_BINDINGS]) {
  const struct {
    int32_t role;
    const clnorm_memory *memory;
  } rows[MAX_BINDINGS] = {{CLNORM_X, &args->x},
                          {CLNORM_Y, &args->y},
                          {CLNORM_WEIGHT, &args->weight},
                          {CLNORM_BIAS, &args->bias},
                          {CLNORM_RUNNING_MEAN, &args->running_mean},
                          {CLNORM_RUNNING_VAR, &args->running_var},
                          {CLNORM_SAVED_MEAN, &args->saved_mean},
                          {CLNORM_SAVED_MEAN_LOW, &args->saved_mean_low},
                          {CLNORM_SAVED_INVSTD, &args->saved_invstd},
                          {CLNORM_WORKSPACE, &args->workspace}};
  size_t count = 0;
  for (size_t i = 0; i < MAX_BINDINGS; i++)
    if ((rows[i].memory->host || rows[i].memory->cl) && has_role(plan, rows[i].role))
      bindings[count++] = clnorm_bind(rows[i].role, *rows[i].memory);
  return count;
}

static clnorm_run_options options_of(const dense_args *args) {
  clnorm_run_options options;
  clnorm_run_options_init(&options, sizeof options);
  options.momentum = args->momentum;
  options.sync = args->sync;
  return options;
}

clnorm_status dense_run(clnorm_plan *plan, const dense_args *args) {
  clnorm_binding bindings[MAX_BINDINGS];
  if (!args) return clnorm_run(plan, NULL, 0, NULL);
  const size_t count = bind(plan, args, bindings);
  const clnorm_run_options options = options_of(args);
  return clnorm_run(plan, bindings, count, &options);
}

/* ---- Comparing ------------------------------------------------------------------------------------- */

int32_t dense_role(clnorm_output output) {
  static const int32_t roles[CLNORM_NUM_OUTPUTS] = {
      CLNORM_Y,          CLNORM_RUNNING_MEAN,   CLNORM_RUNNING_VAR,
      CLNORM_SAVED_MEAN, CLNORM_SAVED_MEAN_LOW, CLNORM_SAVED_INVSTD};
  return roles[output];
}

void dense_compare(const int64_t dims[4], const float *a, const float *b,
                   clnorm_difference *difference) {
  clnorm_tensor tensor;
  if (!difference) return;
  clnorm_difference_init(difference, sizeof *difference);
  clnorm_tensor_nchw(&tensor, CLNORM_F32, 4, dims);
  clnorm_compare(&tensor, a, &tensor, b, difference);
}

clnorm_status dense_compare_memory(clnorm_context *context_a, clnorm_memory a,
                                   clnorm_context *context_b, clnorm_memory b,
                                   const int64_t dims[4], clnorm_difference *difference) {
  clnorm_tensor tensor;
  if (difference) clnorm_difference_init(difference, sizeof *difference);
  clnorm_tensor_nchw(&tensor, CLNORM_F32, 4, dims);
  return clnorm_compare_memory(context_a, dims ? &tensor : NULL, a, context_b,
                               dims ? &tensor : NULL, b, difference);
}

clnorm_status dense_compare_runs(clnorm_context *context_a, clnorm_context *context_b,
                                 const dense_desc *desc, const dense_args *inputs,
                                 clnorm_difference differences[CLNORM_NUM_OUTPUTS]) {
  clnorm_compared outputs[CLNORM_NUM_OUTPUTS];
  clnorm_binding bindings[MAX_BINDINGS];
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    outputs[i].role = dense_role((clnorm_output)i);
    outputs[i].reserved = 0;
    outputs[i].difference = &differences[i];
    clnorm_difference_init(&differences[i], sizeof differences[i]);
  }
  const dense_args none = {.momentum = 0.9};
  if (!inputs) inputs = &none;
  const size_t count = bind(NULL, inputs, bindings);
  const clnorm_run_options options = options_of(inputs);
  clnorm_context *const contexts[2] = {context_a, context_b};
  if (!desc)
    return clnorm_compare_runs(contexts, NULL, bindings, count, &options, outputs,
                               CLNORM_NUM_OUTPUTS);
  const clnorm_problem problem = dense_problem(desc);
  return clnorm_compare_runs(contexts, &problem, bindings, count, &options, outputs,
                             CLNORM_NUM_OUTPUTS);
}

/* ---- Structures, modules --------------------------------------------------------------------------- */

clnorm_context_options dense_context_options(void) {
  clnorm_context_options options;
  clnorm_context_options_init(&options, sizeof options);
  return options;
}

clnorm_tuning dense_tuning(void) {
  clnorm_tuning tuning;
  clnorm_tuning_init(&tuning, sizeof tuning);
  return tuning;
}

clnorm_tuning dense_context_tuning(const clnorm_context *context, int32_t *source) {
  clnorm_tuning tuning = dense_tuning();
  clnorm_context_tuning(context, &tuning, source);
  return tuning;
}

clnorm_batchnorm_options dense_batchnorm_options(int64_t num_features) {
  clnorm_batchnorm_options options;
  clnorm_batchnorm_options_init(&options, sizeof options, num_features);
  return options;
}

clnorm_status dense_batchnorm_forward(clnorm_batchnorm *bn, int32_t rank, const int64_t *dims,
                                      const dense_args *args) {
  clnorm_tensor x;
  clnorm_binding bindings[MAX_BINDINGS];
  clnorm_tensor_nchw(&x, CLNORM_F32, rank, dims);
  if (!args) return clnorm_batchnorm_forward(bn, dims ? &x : NULL, NULL, 0, NULL);
  const size_t count = bind(NULL, args, bindings);
  const clnorm_run_options options = options_of(args);
  return clnorm_batchnorm_forward(bn, dims ? &x : NULL, bindings, count, &options);
}

clnorm_status dense_batchnorm_set(clnorm_batchnorm *bn, int32_t role, const float *values,
                                  size_t count) {
  return clnorm_batchnorm_set(bn, role, CLNORM_F32, values, count);
}

clnorm_status dense_batchnorm_get(clnorm_batchnorm *bn, int32_t role, float *values, size_t count) {
  return clnorm_batchnorm_get(bn, role, CLNORM_F32, values, count);
}
