/* BatchNorm2d: parameters, running statistics and states on top of the forward operator. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "environment.h"
#include "objects.h"

#define NUM_PARAMETERS 4
#define MAX_PLANS 16

/* A plan kept for the next call with the same shape and statistics. */
typedef struct kept_plan {
  clnorm_forward_plan *plan; /* NULL: free */
  int64_t batch, spatial;
  clnorm_statistics statistics;
  uint64_t last_used;
} kept_plan;

struct clnorm_batchnorm2d {
  clnorm_context *context;
  clnorm_batchnorm2d_options options;
  bool training, track;
  clnorm_memory parameters[NUM_PARAMETERS]; /* absent where the module has none */
  clnorm_order order;                       /* of the runs that use them */
  int64_t num_batches_tracked;
  kept_plan plans[MAX_PLANS];
  uint64_t calls;
};

static const char *const parameter_names[NUM_PARAMETERS] = {"weight", "bias", "running_mean",
                                                            "running_var"};
static const float parameter_starts[NUM_PARAMETERS] = {1.0f, 0.0f, 0.0f, 1.0f};

clnorm_batchnorm2d_options clnorm_batchnorm2d_options_defaults(int64_t num_features) {
  clnorm_batchnorm2d_options options;
  memset(&options, 0, sizeof options);
  options.num_features = num_features;
  options.eps = 1e-5;
  options.momentum = 0.9;
  options.affine = true;
  options.track_running_stats = true;
  return options;
}

/* ---- Creation ------------------------------------------------------------------------------------- */

static clnorm_status check_options(const clnorm_batchnorm2d_options *o, clnorm_error *error) {
  if (o->num_features < 1)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "num_features is %" PRId64 ", but must be at least 1", o->num_features);
  if ((uint64_t)o->num_features > SIZE_MAX / 8)
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "num_features is %" PRId64 ": its parameters do not fit in memory",
                        o->num_features);
  clnorm_status status = clnorm__check_eps(o->eps, error);
  if (status != CLNORM_OK) return status;
  if (o->momentum_convention < CLNORM_MOMENTUM_KEPT ||
      o->momentum_convention > CLNORM_MOMENTUM_CUMULATIVE)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "momentum_convention is %d, but must be in [0, 2]",
                        (int)o->momentum_convention);
  status = clnorm__check_momentum(o->momentum, error);
  if (status != CLNORM_OK) return status;
  if (o->freeze && !o->track_running_stats)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "freeze is true while track_running_stats is false: a frozen module "
                        "normalizes with running statistics");
  return CLNORM_OK;
}

static bool has_parameter(const clnorm_batchnorm2d_options *o, int parameter) {
  return parameter <= CLNORM_BIAS ? o->affine : o->track_running_stats;
}

static clnorm_status fill(clnorm_batchnorm2d *bn, int parameter, float value) {
  const size_t count = (size_t)bn->options.num_features;
  float *values = malloc(count * sizeof *values);
  if (!values)
    return clnorm__fail(&bn->context->error, CLNORM_ERROR_OUT_OF_MEMORY,
                        "no host memory for %zu values of %s", count, parameter_names[parameter]);
  for (size_t i = 0; i < count; i++) values[i] = value;
  const clnorm_status status = clnorm__memory_write_after(
      bn->context, &bn->order, bn->parameters[parameter], values, count * sizeof *values);
  free(values);
  return status;
}

static clnorm_status reset_range(clnorm_batchnorm2d *bn, int first, int last) {
  for (int i = first; i <= last; i++) {
    if (clnorm__memory_absent(bn->parameters[i])) continue;
    const clnorm_status status = fill(bn, i, parameter_starts[i]);
    if (status != CLNORM_OK) return status;
  }
  return CLNORM_OK;
}

clnorm_status clnorm_batchnorm2d_create(clnorm_context *context,
                                        const clnorm_batchnorm2d_options *options,
                                        clnorm_batchnorm2d **bn) {
  if (bn) *bn = NULL;
  clnorm_status status = clnorm__context_ready(context);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &context->error;
  if (!bn || !options)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is NULL", bn ? "options" : "bn");
  status = check_options(options, error);
  if (status != CLNORM_OK) return status;

  clnorm_batchnorm2d *result = calloc(1, sizeof *result);
  if (!result)
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for a module");
  result->context = context;
  clnorm__context_retain(context);
  result->options = *options;
  result->training = true;
  result->track = options->track_running_stats;
  const size_t bytes = (size_t)options->num_features * sizeof(float);
  for (int i = 0; i < NUM_PARAMETERS && status == CLNORM_OK; i++)
    if (has_parameter(options, i))
      status = clnorm_memory_alloc(context, bytes, &result->parameters[i]);
  if (status == CLNORM_OK) status = clnorm_batchnorm2d_reset_parameters(result);
  if (status != CLNORM_OK) {
    clnorm_batchnorm2d_destroy(result);
    return status;
  }
  *bn = result;
  return CLNORM_OK;
}

void clnorm_batchnorm2d_destroy(clnorm_batchnorm2d *bn) {
  if (!bn) return;
  clnorm_context *context = bn->context;
  context->device->operations->forget(context->device, &bn->order);
  for (int i = 0; i < MAX_PLANS; i++) clnorm_forward_plan_destroy(bn->plans[i].plan);
  for (int i = 0; i < NUM_PARAMETERS; i++) clnorm_memory_free(context, &bn->parameters[i]);
  free(bn);
  clnorm__context_release(context);
}

/* ---- States and parameters ------------------------------------------------------------------------ */

void clnorm_batchnorm2d_set_training(clnorm_batchnorm2d *bn, bool training) {
  if (bn) bn->training = training;
}

bool clnorm_batchnorm2d_training(const clnorm_batchnorm2d *bn) { return bn && bn->training; }

clnorm_status clnorm_batchnorm2d_set_track_running_stats(clnorm_batchnorm2d *bn, bool track) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  const clnorm_status status = clnorm__context_ready(bn->context);
  if (status != CLNORM_OK) return status;
  if (track && !bn->options.track_running_stats)
    return clnorm__fail(&bn->context->error, CLNORM_ERROR_STATE,
                        "track_running_stats cannot be switched on: the module was created without "
                        "running statistics");
  bn->track = track;
  return CLNORM_OK;
}

bool clnorm_batchnorm2d_track_running_stats(const clnorm_batchnorm2d *bn) {
  return bn && bn->track;
}

static clnorm_status check_parameter(clnorm_batchnorm2d *bn, clnorm_parameter parameter,
                                     const float *values, size_t count) {
  const clnorm_status status = clnorm__context_ready(bn->context);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &bn->context->error;
  if ((int)parameter < 0 || (int)parameter >= NUM_PARAMETERS)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "parameter is %d, but must be in [0, 3]", (int)parameter);
  if (clnorm__memory_absent(bn->parameters[parameter]))
    return clnorm__fail(error, CLNORM_ERROR_STATE, "the module has no %s: it was created with %s",
                        parameter_names[parameter],
                        parameter <= CLNORM_BIAS ? "affine false" : "track_running_stats false");
  if (!values) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "values is NULL");
  if (count != (size_t)bn->options.num_features)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "count is %zu, but %s has num_features = %" PRId64 " values", count,
                        parameter_names[parameter], bn->options.num_features);
  return CLNORM_OK;
}

clnorm_status clnorm_batchnorm2d_set(clnorm_batchnorm2d *bn, clnorm_parameter parameter,
                                     const float *values, size_t count) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  const clnorm_status status = check_parameter(bn, parameter, values, count);
  if (status != CLNORM_OK) return status;
  return clnorm__memory_write_after(bn->context, &bn->order, bn->parameters[parameter], values,
                                    count * sizeof *values);
}

clnorm_status clnorm_batchnorm2d_get(clnorm_batchnorm2d *bn, clnorm_parameter parameter,
                                     float *values, size_t count) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  const clnorm_status status = check_parameter(bn, parameter, values, count);
  if (status != CLNORM_OK) return status;
  return clnorm__memory_read_after(bn->context, &bn->order, bn->parameters[parameter], values,
                                   count * sizeof *values);
}

clnorm_memory clnorm_batchnorm2d_memory(const clnorm_batchnorm2d *bn, clnorm_parameter parameter) {
  const clnorm_memory absent = {NULL, NULL, 0, 0};
  const bool known = bn && (int)parameter >= 0 && (int)parameter < NUM_PARAMETERS;
  return known ? bn->parameters[parameter] : absent;
}

clnorm_status clnorm_batchnorm2d_reset_running_stats(clnorm_batchnorm2d *bn) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(bn->context);
  if (status == CLNORM_OK) status = reset_range(bn, CLNORM_RUNNING_MEAN, CLNORM_RUNNING_VAR);
  if (status == CLNORM_OK) bn->num_batches_tracked = 0;
  return status;
}

clnorm_status clnorm_batchnorm2d_reset_parameters(clnorm_batchnorm2d *bn) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(bn->context);
  if (status == CLNORM_OK) status = reset_range(bn, CLNORM_WEIGHT, CLNORM_BIAS);
  return status == CLNORM_OK ? clnorm_batchnorm2d_reset_running_stats(bn) : status;
}

int64_t clnorm_batchnorm2d_num_batches_tracked(const clnorm_batchnorm2d *bn) {
  return bn ? bn->num_batches_tracked : 0;
}

clnorm_status clnorm_batchnorm2d_set_num_batches_tracked(clnorm_batchnorm2d *bn, int64_t count) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  const clnorm_status status = clnorm__context_ready(bn->context);
  if (status != CLNORM_OK) return status;
  if (!bn->options.track_running_stats)
    return clnorm__fail(
        &bn->context->error, CLNORM_ERROR_STATE,
        "the module counts no batches: it was created with track_running_stats false");
  if (count < 0)
    return clnorm__fail(&bn->context->error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "num_batches_tracked is %" PRId64 ", but must not be negative", count);
  bn->num_batches_tracked = count;
  return CLNORM_OK;
}

/* ---- Forward -------------------------------------------------------------------------------------- */

static clnorm_status check_dims(clnorm_batchnorm2d *bn, int ndim, const int64_t *dims,
                                clnorm_forward_desc *desc) {
  clnorm_error *error = &bn->context->error;
  if (ndim != 4)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "expected 4D input (got %dD input)",
                        ndim);
  if (!dims) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "dims is NULL");
  for (int i = 0; i < 4; i++)
    if (dims[i] < 0)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "dimension %d is %" PRId64 ", but must not be negative", i, dims[i]);
  if (dims[1] != bn->options.num_features)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "num_features is %" PRId64 ", but the tensor has %" PRId64 " channels",
                        bn->options.num_features, dims[1]);
  const bool batch = !bn->options.freeze && (bn->training || !bn->track);
  *desc = clnorm_forward_desc_defaults(batch ? CLNORM_BATCH_STATISTICS : CLNORM_GIVEN_STATISTICS,
                                       dims[0], dims[1], 0);
  if (dims[0] && !clnorm__checked_product(dims + 2, 2, &desc->spatial))
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "a plane of %" PRId64 " x %" PRId64 " overflows 63 bits", dims[2], dims[3]);
  desc->eps = bn->options.eps;
  desc->biased_running_var = bn->options.biased_running_var;
  desc->refuse_one_value = bn->options.refuse_one_value;
  return CLNORM_OK;
}

/* The kept plan for desc, or a new one in the place of the least recently used. */
static clnorm_status find_plan(clnorm_batchnorm2d *bn, const clnorm_forward_desc *desc,
                               clnorm_forward_plan **plan) {
  kept_plan *oldest = &bn->plans[0];
  bn->calls++;
  for (kept_plan *k = bn->plans; k < bn->plans + MAX_PLANS; k++) {
    if (k->plan && k->batch == desc->batch && k->spatial == desc->spatial &&
        k->statistics == desc->statistics) {
      k->last_used = bn->calls;
      *plan = k->plan;
      return CLNORM_OK;
    }
    if (k->last_used < oldest->last_used) oldest = k;
  }
  const clnorm_status status = clnorm_forward_plan_create(bn->context, desc, plan);
  if (status != CLNORM_OK) return status;
  clnorm_forward_plan_destroy(oldest->plan);
  const kept_plan kept = {*plan, desc->batch, desc->spatial, desc->statistics, bn->calls};
  *oldest = kept;
  return CLNORM_OK;
}

/* The kept fraction of this call, whatever the convention. */
static double kept_fraction(const clnorm_batchnorm2d *bn) {
  switch (bn->options.momentum_convention) {
  case CLNORM_MOMENTUM_NEW:
    return clnorm__default_difference(1.0, bn->options.momentum);
  case CLNORM_MOMENTUM_CUMULATIVE:
    return clnorm__default_quotient((double)bn->num_batches_tracked,
                                    (double)bn->num_batches_tracked + 1.0);
  case CLNORM_MOMENTUM_KEPT:
    break;
  }
  return bn->options.momentum;
}

clnorm_status clnorm_batchnorm2d_forward(clnorm_batchnorm2d *bn, int ndim, const int64_t *dims,
                                         const clnorm_batchnorm2d_args *args) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(bn->context);
  if (status != CLNORM_OK) return status;
  if (!args)
    return clnorm__fail(&bn->context->error, CLNORM_ERROR_INVALID_ARGUMENT, "args is NULL");
  clnorm_forward_desc desc;
  clnorm_forward_plan *plan;
  status = check_dims(bn, ndim, dims, &desc);
  if (status == CLNORM_OK) status = find_plan(bn, &desc, &plan);
  if (status != CLNORM_OK) return status;

  const bool batch = desc.statistics == CLNORM_BATCH_STATISTICS;
  const bool updates = batch && bn->training && bn->track;
  clnorm_forward_args run;
  memset(&run, 0, sizeof run);
  run.x = args->x;
  run.y = args->y;
  run.weight = bn->parameters[CLNORM_WEIGHT];
  run.bias = bn->parameters[CLNORM_BIAS];
  if (updates || !batch) {
    run.running_mean = bn->parameters[CLNORM_RUNNING_MEAN];
    run.running_var = bn->parameters[CLNORM_RUNNING_VAR];
  }
  run.saved_mean = args->saved_mean;
  run.saved_invstd = args->saved_invstd;
  run.momentum = kept_fraction(bn);
  run.sync = args->sync;
  const clnorm_use parameters = {&bn->order, updates};
  status = clnorm__forward_plan_run(plan, &run, parameters);
  const bool empty = !desc.batch || !desc.spatial;
  const bool counts = status == CLNORM_OK && updates && !empty;
  if (counts && bn->num_batches_tracked < INT64_MAX) bn->num_batches_tracked++;
  return status;
}
