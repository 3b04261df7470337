/* BatchNorm: parameters, running statistics and states on top of plans. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "environment.h"
#include "objects.h"
#include "problem.h"
#include "structures.h"
#include "tensor.h"

#define NUM_PARAMETERS 4
#define NUM_SAVED 3
#define MAX_PLANS 16

/* A plan kept for the next call with the same problem. */
typedef struct kept_plan {
  /* NULL: free */
  clnorm_plan *plan;
  clnorm_problem problem;
  uint64_t last_used;
} kept_plan;

/* The last forward pass, of which backward is. */
typedef struct last_forward {
  bool ran, batch;
  /* batch: the module has the statistics; given ones: they are still those of the pass */
  bool kept;
  /* of x */
  int32_t rank;
  int64_t dims[CLNORM_MAX_RANK];
} last_forward;

struct clnorm_batchnorm {
  clnorm_context *context;
  clnorm_batchnorm_options options;
  bool training, track;
  /* by role - CLNORM_WEIGHT; absent where the module has none */
  clnorm_memory parameters[NUM_PARAMETERS];
  /* what backward needs of the last forward pass: mean, low part, invstd of its batch */
  clnorm_memory saved[NUM_SAVED];
  /* of the runs that use them */
  clnorm_order order;
  int64_t num_batches_tracked;
  last_forward last;
  kept_plan plans[MAX_PLANS];
  uint64_t calls;
};

static const double parameter_starts[NUM_PARAMETERS] = {1, 0, 0, 1};

static int parameter_of(int32_t role) {
  const bool known = role >= CLNORM_WEIGHT && role <= CLNORM_RUNNING_VAR;
  return known ? (int)(role - CLNORM_WEIGHT) : -1;
}

void clnorm_batchnorm_options_init(clnorm_batchnorm_options *options, size_t size,
                                   int64_t num_features) {
  const clnorm_batchnorm_options defaults = {.size = sizeof defaults,
                                             .num_features = num_features,
                                             .spatial_rank = 2,
                                             .eps = 1e-5,
                                             .momentum = 0.9,
                                             .affine = true,
                                             .track_running_stats = true};
  clnorm__structure_init(options, size, &defaults, sizeof defaults);
}

/* ---- Creation ------------------------------------------------------------------------------------- */

static clnorm_status check_options(const clnorm_batchnorm_options *o, clnorm_error *error) {
  if (o->num_features < 1)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "num_features is %" PRId64 ", but must be at least 1", o->num_features);
  if ((uint64_t)o->num_features > SIZE_MAX / 16)
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "num_features is %" PRId64 ": its parameters do not fit in memory",
                        o->num_features);
  if (o->spatial_rank < 0 || o->spatial_rank > 3)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "spatial_rank is %" PRId32 ", but must be in [0, 3]", o->spatial_rank);
  if (o->dtype != CLNORM_F32 && o->dtype != CLNORM_F64)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "dtype is %s (%" PRId32 "), but parameters are f32 or f64",
                        clnorm_dtype_name(o->dtype), o->dtype);
  clnorm_status status = clnorm__check_eps(o->eps, o->dtype, error);
  if (status != CLNORM_OK) return status;
  if (o->momentum_convention < CLNORM_MOMENTUM_KEPT ||
      o->momentum_convention > CLNORM_MOMENTUM_CUMULATIVE)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "momentum_convention is %" PRId32 ", but must be in [0, 2]",
                        o->momentum_convention);
  status = clnorm__check_momentum(o->momentum, error);
  if (status != CLNORM_OK) return status;
  if (o->freeze && !o->track_running_stats)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "freeze is true while track_running_stats is false: a frozen module "
                        "normalizes with running statistics");
  return CLNORM_OK;
}

static bool has_parameter(const clnorm_batchnorm_options *o, int parameter) {
  return parameter + CLNORM_WEIGHT <= CLNORM_BIAS ? o->affine : o->track_running_stats;
}

static const char *name_of(int parameter) { return clnorm_role_name(parameter + CLNORM_WEIGHT); }

static size_t real_size(const clnorm_batchnorm *bn) { return clnorm_dtype_size(bn->options.dtype); }

static clnorm_status fail_memory(clnorm_batchnorm *bn, int parameter) {
  return clnorm__fail(&bn->context->error, CLNORM_ERROR_OUT_OF_MEMORY,
                      "no host memory for %" PRId64 " values of %s", bn->options.num_features,
                      name_of(parameter));
}

/* Statistics that are given, and that somebody sets, are no longer those of the last forward pass. */
static void parameter_changes(clnorm_batchnorm *bn, int parameter) {
  if (parameter + CLNORM_WEIGHT >= CLNORM_RUNNING_MEAN && !bn->last.batch) bn->last.kept = false;
}

static clnorm_status fill(clnorm_batchnorm *bn, int parameter, double value) {
  const size_t count = (size_t)bn->options.num_features, bytes = count * real_size(bn);
  void *values = malloc(bytes);
  if (!values) return fail_memory(bn, parameter);
  for (size_t i = 0; i < count; i++)
    if (bn->options.dtype == CLNORM_F64)
      ((double *)values)[i] = value;
    else
      ((float *)values)[i] = (float)value;
  parameter_changes(bn, parameter);
  const clnorm_status status =
      clnorm__memory_write_after(bn->context, &bn->order, bn->parameters[parameter], values, bytes);
  free(values);
  return status;
}

static clnorm_status reset_range(clnorm_batchnorm *bn, int first, int last) {
  for (int i = first; i <= last; i++) {
    if (clnorm__memory_absent(bn->parameters[i])) continue;
    const clnorm_status status = fill(bn, i, parameter_starts[i]);
    if (status != CLNORM_OK) return status;
  }
  return CLNORM_OK;
}

/* Parameters of f64 are for x of f64, which the device must have. */
static clnorm_status check_device(clnorm_context *context, int32_t dtype) {
  clnorm_device *device = context->device;
  const clnorm_key key = {.form = device->traits.form,
                          .group_size = device->traits.group_size,
                          .x = (uint32_t)dtype,
                          .y = (uint32_t)dtype};
  return device->operations->supports(device, &key, &context->error);
}

clnorm_status clnorm_batchnorm_create(clnorm_context *context,
                                      const clnorm_batchnorm_options *options,
                                      clnorm_batchnorm **bn) {
  clnorm_batchnorm_options own;
  if (bn) *bn = NULL;
  clnorm_status status = clnorm__context_ready(context);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &context->error;
  if (!bn) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "bn is NULL");
  status = clnorm__structure_take(&own, sizeof own, options, "options", error);
  if (status == CLNORM_OK) status = check_options(&own, error);
  if (status == CLNORM_OK) status = check_device(context, own.dtype);
  if (status != CLNORM_OK) return status;

  clnorm_batchnorm *result = calloc(1, sizeof *result);
  if (!result)
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for a module");
  result->context = context;
  clnorm__context_retain(context);
  result->options = own;
  result->training = true;
  result->track = own.track_running_stats;
  const size_t bytes = (size_t)own.num_features * real_size(result);
  for (int i = 0; i < NUM_PARAMETERS && status == CLNORM_OK; i++)
    if (has_parameter(&own, i))
      status = clnorm_memory_alloc(context, bytes, &result->parameters[i]);
  for (int i = 0; i < NUM_SAVED && status == CLNORM_OK && !own.freeze; i++)
    status = clnorm_memory_alloc(context, bytes, &result->saved[i]);
  if (status == CLNORM_OK) status = clnorm_batchnorm_reset_parameters(result);
  if (status != CLNORM_OK) {
    clnorm_batchnorm_destroy(result);
    return status;
  }
  *bn = result;
  return CLNORM_OK;
}

void clnorm_batchnorm_destroy(clnorm_batchnorm *bn) {
  if (!bn) return;
  clnorm_context *context = bn->context;
  context->device->operations->forget(context->device, &bn->order);
  for (int i = 0; i < MAX_PLANS; i++) clnorm_plan_destroy(bn->plans[i].plan);
  for (int i = 0; i < NUM_PARAMETERS; i++) clnorm_memory_free(context, &bn->parameters[i]);
  for (int i = 0; i < NUM_SAVED; i++) clnorm_memory_free(context, &bn->saved[i]);
  free(bn);
  clnorm__context_release(context);
}

/* ---- States and parameters ------------------------------------------------------------------------ */

void clnorm_batchnorm_set_training(clnorm_batchnorm *bn, bool training) {
  if (bn) bn->training = training;
}

bool clnorm_batchnorm_training(const clnorm_batchnorm *bn) { return bn && bn->training; }

clnorm_status clnorm_batchnorm_set_track_running_stats(clnorm_batchnorm *bn, bool track) {
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

bool clnorm_batchnorm_track_running_stats(const clnorm_batchnorm *bn) { return bn && bn->track; }

/* Which parameter a role is, if the module has it and the arguments are such as its values need. */
static clnorm_status find_parameter(clnorm_batchnorm *bn, int32_t role, int32_t dtype,
                                    const void *values, size_t count, int *parameter) {
  const clnorm_status status = clnorm__context_ready(bn->context);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &bn->context->error;
  *parameter = parameter_of(role);
  if (*parameter < 0)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "role is %s (%" PRId32
                        "), but must be weight, bias, running_mean or running_var",
                        clnorm_role_name(role), role);
  if (clnorm__memory_absent(bn->parameters[*parameter]))
    return clnorm__fail(error, CLNORM_ERROR_STATE, "the module has no %s: it was created with %s",
                        name_of(*parameter),
                        role <= CLNORM_BIAS ? "affine false" : "track_running_stats false");
  if (dtype != CLNORM_F32 && dtype != CLNORM_F64)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "dtype is %s (%" PRId32 "), but values are f32 or f64",
                        clnorm_dtype_name(dtype), dtype);
  if (!values) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "values is NULL");
  if (count != (size_t)bn->options.num_features)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "count is %zu, but %s has num_features = %" PRId64 " values", count,
                        name_of(*parameter), bn->options.num_features);
  return CLNORM_OK;
}

/* Values of one real type as the other, rounded to nearest whatever the caller's mode. */
static void convert(const void *from, int32_t from_dtype, void *to, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (from_dtype == CLNORM_F64)
      ((float *)to)[i] = clnorm__default_float(((const double *)from)[i]);
    else
      ((double *)to)[i] = ((const float *)from)[i];
}

clnorm_status clnorm_batchnorm_set(clnorm_batchnorm *bn, int32_t role, int32_t dtype,
                                   const void *values, size_t count) {
  int parameter;
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = find_parameter(bn, role, dtype, values, count, &parameter);
  if (status != CLNORM_OK) return status;
  const size_t bytes = count * real_size(bn);
  void *converted = dtype == bn->options.dtype ? NULL : malloc(bytes);
  if (dtype != bn->options.dtype && !converted) return fail_memory(bn, parameter);
  if (converted) convert(values, dtype, converted, count);
  parameter_changes(bn, parameter);
  status = clnorm__memory_write_after(bn->context, &bn->order, bn->parameters[parameter],
                                      converted ? converted : values, bytes);
  free(converted);
  return status;
}

clnorm_status clnorm_batchnorm_get(clnorm_batchnorm *bn, int32_t role, int32_t dtype, void *values,
                                   size_t count) {
  int parameter;
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = find_parameter(bn, role, dtype, values, count, &parameter);
  if (status != CLNORM_OK) return status;
  const size_t bytes = count * real_size(bn);
  void *own = dtype == bn->options.dtype ? NULL : malloc(bytes);
  if (dtype != bn->options.dtype && !own) return fail_memory(bn, parameter);
  status = clnorm__memory_read_after(bn->context, &bn->order, bn->parameters[parameter],
                                     own ? own : values, bytes);
  if (own && status == CLNORM_OK) convert(own, bn->options.dtype, values, count);
  free(own);
  return status;
}

clnorm_memory clnorm_batchnorm_memory(const clnorm_batchnorm *bn, int32_t role) {
  const clnorm_memory absent = {NULL, NULL, 0, 0};
  const int parameter = parameter_of(role);
  return bn && parameter >= 0 ? bn->parameters[parameter] : absent;
}

clnorm_status clnorm_batchnorm_reset_running_stats(clnorm_batchnorm *bn) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(bn->context);
  if (status == CLNORM_OK)
    status =
        reset_range(bn, CLNORM_RUNNING_MEAN - CLNORM_WEIGHT, CLNORM_RUNNING_VAR - CLNORM_WEIGHT);
  if (status == CLNORM_OK) bn->num_batches_tracked = 0;
  return status;
}

clnorm_status clnorm_batchnorm_reset_parameters(clnorm_batchnorm *bn) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(bn->context);
  if (status == CLNORM_OK) status = reset_range(bn, 0, CLNORM_BIAS - CLNORM_WEIGHT);
  return status == CLNORM_OK ? clnorm_batchnorm_reset_running_stats(bn) : status;
}

int64_t clnorm_batchnorm_num_batches_tracked(const clnorm_batchnorm *bn) {
  return bn ? bn->num_batches_tracked : 0;
}

clnorm_status clnorm_batchnorm_set_num_batches_tracked(clnorm_batchnorm *bn, int64_t count) {
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

/* ---- Problems ------------------------------------------------------------------------------------- */

static clnorm_status fail_rank(clnorm_batchnorm *bn, int32_t rank) {
  static const char *const expected[] = {"2D to 5D", "2D or 3D", "4D", "5D"};
  return clnorm__fail(&bn->context->error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "expected %s input (got %" PRId32 "D input)",
                      expected[bn->options.spatial_rank], rank);
}

static bool takes_rank(const clnorm_batchnorm *bn, int32_t rank) {
  switch (bn->options.spatial_rank) {
  case 0:
    return rank >= 2 && rank <= CLNORM_MAX_RANK;
  case 1:
    return rank == 2 || rank == 3;
  default:
    return rank == bn->options.spatial_rank + 2;
  }
}

static clnorm_status check_x(clnorm_batchnorm *bn, const clnorm_tensor *x) {
  clnorm_error *error = &bn->context->error;
  if (!x) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "x is NULL");
  if (!takes_rank(bn, x->rank)) return fail_rank(bn, x->rank);
  const clnorm_status status = clnorm__tensor_check(x, "x", false, error);
  if (status != CLNORM_OK) return status;
  if (x->dims[1] != bn->options.num_features)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "num_features is %" PRId64 ", but the tensor has %" PRId64 " channels",
                        bn->options.num_features, x->dims[1]);
  if (clnorm__real_of(x->dtype) != bn->options.dtype)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "the module's parameters are %s, but x of %s needs %s",
                        clnorm_dtype_name(bn->options.dtype), clnorm_dtype_name(x->dtype),
                        clnorm_dtype_name(clnorm__real_of(x->dtype)));
  return CLNORM_OK;
}

static clnorm_status make_problem(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                  clnorm_problem *problem) {
  const clnorm_status status = check_x(bn, x);
  if (status != CLNORM_OK) return status;
  const bool batch = !bn->options.freeze && (bn->training || !bn->track);
  clnorm_problem_init(problem, sizeof *problem);
  problem->statistics = batch ? CLNORM_BATCH_STATISTICS : CLNORM_GIVEN_STATISTICS;
  problem->eps = bn->options.eps;
  problem->biased_running_var = bn->options.biased_running_var;
  problem->refuse_one_value = bn->options.refuse_one_value;
  problem->tensors[CLNORM_X] = *x;
  return CLNORM_OK;
}

clnorm_status clnorm_batchnorm_problem(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                       clnorm_problem *problem) {
  clnorm_problem own;
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(bn->context);
  if (status == CLNORM_OK)
    status = clnorm__structure_check(problem, sizeof *problem, "problem", &bn->context->error);
  if (status == CLNORM_OK) status = make_problem(bn, x, &own);
  if (status == CLNORM_OK) clnorm__structure_give(problem, &own, sizeof own);
  return status;
}

/* ---- Forward -------------------------------------------------------------------------------------- */

/* The kept plan of a problem, or a new one in the place of the least recently used. */
static clnorm_status find_plan(clnorm_batchnorm *bn, const clnorm_problem *problem,
                               clnorm_plan **plan) {
  kept_plan *oldest = &bn->plans[0];
  bn->calls++;
  for (kept_plan *k = bn->plans; k < bn->plans + MAX_PLANS; k++) {
    if (k->plan && memcmp(&k->problem, problem, sizeof *problem) == 0) {
      k->last_used = bn->calls;
      *plan = k->plan;
      return CLNORM_OK;
    }
    if (k->last_used < oldest->last_used) oldest = k;
  }
  const clnorm_status status = clnorm_plan_create(bn->context, problem, plan);
  if (status != CLNORM_OK) return status;
  clnorm_plan_destroy(oldest->plan);
  oldest->plan = *plan;
  oldest->problem = *problem;
  oldest->last_used = bn->calls;
  return CLNORM_OK;
}

/* The kept fraction of this call, whatever the convention. */
static double kept_fraction(const clnorm_batchnorm *bn) {
  switch (bn->options.momentum_convention) {
  case CLNORM_MOMENTUM_NEW:
    return clnorm__default_difference(1.0, bn->options.momentum);
  case CLNORM_MOMENTUM_CUMULATIVE:
    return clnorm__default_quotient((double)bn->num_batches_tracked,
                                    (double)bn->num_batches_tracked + 1.0);
  default:
    return bn->options.momentum;
  }
}

/* What the caller binds; of the module's own, weight and bias. */
static clnorm_status take_bindings(clnorm_batchnorm *bn, const clnorm_problem *problem,
                                   const clnorm_binding *bindings, size_t count,
                                   clnorm_request *request) {
  const char *refused[CLNORM_NUM_OPERANDS] = {NULL};
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++)
    if (clnorm__operand_use(i, problem) == '-') refused[i] = "the pass has no such operand";
  for (int i = CLNORM_OPERAND_WEIGHT; i <= CLNORM_OPERAND_RUNNING_VAR; i++)
    refused[i] = "it is the module's own (clnorm_batchnorm_set)";
  refused[CLNORM_OPERAND_WORKSPACE] = "a module has its own";
  const clnorm_status status =
      clnorm__bindings_take(bindings, count, refused, request->operands, &bn->context->error);
  if (status != CLNORM_OK) return status;
  for (int i = CLNORM_OPERAND_WEIGHT; i <= CLNORM_OPERAND_BIAS; i++)
    if (clnorm__operand_use(i, problem) != '-')
      request->operands[i] = bn->parameters[i - CLNORM_OPERAND_WEIGHT];
  request->parameters.order = &bn->order;
  return CLNORM_OK;
}

static void lend_running(const clnorm_batchnorm *bn, clnorm_request *request) {
  for (int i = CLNORM_OPERAND_RUNNING_MEAN; i <= CLNORM_OPERAND_RUNNING_VAR; i++)
    request->operands[i] = bn->parameters[i - CLNORM_OPERAND_WEIGHT];
}

static bool lend_saved(const clnorm_batchnorm *bn, clnorm_request *request) {
  bool all = true;
  for (int i = 0; i < NUM_SAVED; i++) {
    clnorm_memory *saved = &request->operands[CLNORM_OPERAND_SAVED_MEAN + i];
    all = all && clnorm__memory_absent(*saved);
    if (clnorm__memory_absent(*saved)) *saved = bn->saved[i];
  }
  return all;
}

clnorm_status clnorm_batchnorm_forward(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                       const clnorm_binding *bindings, size_t count,
                                       const clnorm_run_options *options) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(bn->context);
  if (status != CLNORM_OK) return status;
  clnorm_problem problem;
  clnorm_run_options own;
  clnorm_request request;
  clnorm_plan *plan;
  memset(&request, 0, sizeof request);
  status = make_problem(bn, x, &problem);
  if (status == CLNORM_OK) status = clnorm__run_options_take(options, &own, &bn->context->error);
  if (status != CLNORM_OK) return status;
  const bool batch = problem.statistics == CLNORM_BATCH_STATISTICS;
  const bool updates = batch && bn->training && bn->track;
  last_forward last = {.ran = true, .batch = batch, .kept = !batch, .rank = x->rank};
  memcpy(last.dims, x->dims, sizeof last.dims);
  status = take_bindings(bn, &problem, bindings, count, &request);
  if (status == CLNORM_OK) status = find_plan(bn, &problem, &plan);
  if (status != CLNORM_OK) return status;
  if (updates || !batch) lend_running(bn, &request);
  if (batch) last.kept = lend_saved(bn, &request);
  request.momentum = kept_fraction(bn);
  request.sync = own.sync;
  request.parameters.writes = batch;
  status = clnorm__plan_run(plan, &request);
  if (status != CLNORM_OK) return status;
  bn->last = last;
  const bool counts = updates && clnorm__tensor_count(x) > 0;
  if (counts && bn->num_batches_tracked < INT64_MAX) bn->num_batches_tracked++;
  return CLNORM_OK;
}

/* ---- Backward ------------------------------------------------------------------------------------- */

static clnorm_status check_last(clnorm_batchnorm *bn) {
  if (bn->last.ran) return CLNORM_OK;
  return clnorm__fail(&bn->context->error, CLNORM_ERROR_STATE,
                      "backward is that of the last forward pass, but the module has run none");
}

/* Of all gradients; statistics as the last forward pass had them. */
static clnorm_status make_backward(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                   clnorm_problem *problem) {
  clnorm_status status = check_last(bn);
  if (status == CLNORM_OK) status = make_problem(bn, x, problem);
  if (status != CLNORM_OK) return status;
  problem->operation = CLNORM_BACKWARD;
  problem->statistics = bn->last.batch ? CLNORM_BATCH_STATISTICS : CLNORM_GIVEN_STATISTICS;
  problem->biased_running_var = false;
  return CLNORM_OK;
}

clnorm_status clnorm_batchnorm_backward_problem(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                                clnorm_problem *problem) {
  clnorm_problem own;
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(bn->context);
  if (status == CLNORM_OK)
    status = clnorm__structure_check(problem, sizeof *problem, "problem", &bn->context->error);
  if (status == CLNORM_OK) status = make_backward(bn, x, &own);
  if (status == CLNORM_OK) clnorm__structure_give(problem, &own, sizeof own);
  return status;
}

/* The statistics of another batch are of no use. */
static clnorm_status check_same_x(clnorm_batchnorm *bn, const clnorm_tensor *x) {
  const last_forward *last = &bn->last;
  clnorm_error *error = &bn->context->error;
  if (x->rank != last->rank)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "x has rank %" PRId32 ", but in the last forward pass it had %" PRId32,
                        x->rank, last->rank);
  for (int i = 0; i < x->rank; i++)
    if (x->dims[i] != last->dims[i])
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "x.dims[%d] is %" PRId64 ", but in the last forward pass it was %" PRId64,
                          i, x->dims[i], last->dims[i]);
  return CLNORM_OK;
}

/* Saved statistics that the caller binds take the place of all of the module's own. Where those of the batch went into
 * the caller's memory alone, they are computed again, to the same bits. */
static clnorm_status lend_statistics(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                     clnorm_problem *problem, clnorm_request *request) {
  for (int i = CLNORM_OPERAND_SAVED_MEAN; i <= CLNORM_OPERAND_SAVED_INVSTD; i++)
    if (!clnorm__memory_absent(request->operands[i])) return CLNORM_OK;
  if (bn->last.batch) {
    problem->recompute = !bn->last.kept;
    if (bn->last.kept) lend_saved(bn, request);
    return check_same_x(bn, x);
  }
  if (!bn->last.kept)
    return clnorm__fail(&bn->context->error, CLNORM_ERROR_STATE,
                        "the running statistics were set after the last forward pass, which used "
                        "them: backward needs saved_mean and saved_invstd of it");
  lend_running(bn, request);
  return CLNORM_OK;
}

/* What is bound is wanted; a frozen module leaves the gradients of its parameters alone, and then it may be that
 * nothing is left to do, which is a pass of no samples. */
static clnorm_status take_wanted(clnorm_batchnorm *bn, clnorm_problem *problem,
                                 clnorm_request *request) {
  static const struct {
    int operand;
    uint32_t bit;
  } rows[] = {{CLNORM_OPERAND_DX, CLNORM_GRADIENT_DX},
              {CLNORM_OPERAND_DWEIGHT, CLNORM_GRADIENT_DWEIGHT},
              {CLNORM_OPERAND_DBIAS, CLNORM_GRADIENT_DBIAS}};
  const clnorm_memory absent = {NULL, NULL, 0, 0};
  clnorm_error *error = &bn->context->error;
  uint32_t bound = 0;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    clnorm_memory *memory = &request->operands[rows[i].operand];
    const bool there = !clnorm__memory_absent(*memory), parameter = i > 0;
    if (there && parameter && !bn->options.affine)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "%s is bound, but the module has no parameters: it was created with "
                          "affine false",
                          clnorm_role_name(clnorm__operands[rows[i].operand].role));
    if (there) bound |= rows[i].bit;
    if (parameter && bn->options.freeze) *memory = absent;
  }
  if (!bound)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "none of dx, dweight and dbias is bound: there is nothing to compute");
  problem->gradients = bn->options.freeze ? bound & CLNORM_GRADIENT_DX : bound;
  if (problem->gradients) return CLNORM_OK;
  problem->gradients = CLNORM_GRADIENT_DX;
  problem->tensors[CLNORM_X].dims[0] = 0;
  return CLNORM_OK;
}

clnorm_status clnorm_batchnorm_backward(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                        const clnorm_binding *bindings, size_t count,
                                        const clnorm_run_options *options) {
  if (!bn) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(bn->context);
  if (status != CLNORM_OK) return status;
  clnorm_problem problem;
  clnorm_run_options own;
  clnorm_request request;
  clnorm_plan *plan;
  memset(&request, 0, sizeof request);
  status = make_backward(bn, x, &problem);
  if (status == CLNORM_OK) status = clnorm__run_options_take(options, &own, &bn->context->error);
  if (status == CLNORM_OK) status = take_bindings(bn, &problem, bindings, count, &request);
  if (status == CLNORM_OK) status = take_wanted(bn, &problem, &request);
  if (status == CLNORM_OK) status = lend_statistics(bn, x, &problem, &request);
  if (status != CLNORM_OK) return status;
  problem.accumulate = own.accumulate;
  status = find_plan(bn, &problem, &plan);
  if (status != CLNORM_OK) return status;
  request.sync = own.sync;
  return clnorm__plan_run(plan, &request);
}
