/* The forward operator: a validated description becomes a schedule, a run becomes launches. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "environment.h"
#include "objects.h"

struct clnorm_forward_plan {
  clnorm_context *context;
  clnorm_forward_desc desc;
  clnorm_schedule schedule;
  void *prepared;          /* the back end's */
  clnorm_memory workspace; /* owned; absent with external_workspace */
  clnorm_order order;      /* of the runs that use it */
  char description[256];
};

clnorm_forward_desc clnorm_forward_desc_defaults(clnorm_statistics statistics, int64_t batch,
                                                 int64_t channels, int64_t spatial) {
  clnorm_forward_desc desc;
  memset(&desc, 0, sizeof desc);
  desc.batch = batch;
  desc.channels = channels;
  desc.spatial = spatial;
  desc.statistics = statistics;
  desc.eps = 1e-5;
  return desc;
}

/* ---- Checking a description ----------------------------------------------------------------------- */

clnorm_status clnorm__check_eps(double eps, clnorm_error *error) {
  if (eps >= 0 && !isinf(clnorm__default_float(eps))) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "eps is %s, but must be a finite float >= 0", clnorm__quote(eps).text);
}

clnorm_status clnorm__check_momentum(double momentum, clnorm_error *error) {
  if (momentum >= 0 && momentum <= 1) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "momentum is %s, but must be in [0, 1]",
                      clnorm__quote(momentum).text);
}

static clnorm_status check_features(const clnorm_forward_desc *desc, clnorm_error *error) {
  static const char *const dtypes[] = {"f32", "f16", "bf16", "f64"};
  if (desc->dtype < CLNORM_F32 || desc->dtype > CLNORM_F64)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "dtype is %d, but must be in [0, 3]",
                        (int)desc->dtype);
  if (desc->dtype != CLNORM_F32)
    return clnorm__fail(error, CLNORM_ERROR_UNSUPPORTED, "dtype %s is not supported yet; use f32",
                        dtypes[desc->dtype]);
  if (desc->layout < CLNORM_NCHW || desc->layout > CLNORM_NHWC)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "layout is %d, but must be in [0, 1]",
                        (int)desc->layout);
  if (desc->layout != CLNORM_NCHW)
    return clnorm__fail(error, CLNORM_ERROR_UNSUPPORTED,
                        "layout NHWC is not supported yet; use NCHW");
  if (desc->statistics < CLNORM_BATCH_STATISTICS || desc->statistics > CLNORM_NO_STATISTICS)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "statistics is %d, but must be in [0, 2]", (int)desc->statistics);
  if (desc->store < CLNORM_STORE_AUTO || desc->store > CLNORM_STORE_STREAMED)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "store is %d, but must be in [0, 2]",
                        (int)desc->store);
  if (desc->variant < CLNORM_VARIANT_AUTO || desc->variant > CLNORM_VARIANT_SPLIT)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "variant is %d, but must be in [0, 2]", (int)desc->variant);
  return clnorm__check_eps(desc->eps, error);
}

static clnorm_status check_sizes(const clnorm_forward_desc *desc, clnorm_error *error) {
  const int64_t sizes[4] = {desc->batch, desc->channels, desc->spatial, sizeof(float)};
  static const char *const names[3] = {"batch", "channels", "spatial"};
  for (int i = 0; i < 3; i++)
    if (sizes[i] < 0)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "%s is %" PRId64 ", but must not be negative", names[i], sizes[i]);
  int64_t bytes;
  if (!clnorm__checked_product(sizes, 4, &bytes) || (uint64_t)bytes > SIZE_MAX / 2)
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "a tensor of %" PRId64 " x %" PRId64 " x %" PRId64
                        " floats has more bytes than fit in 63 bits",
                        sizes[0], sizes[1], sizes[2]);
  /* Segments of a channel are counted in 32 bits. */
  if (bytes && desc->batch > (INT64_C(1) << 40) / desc->spatial)
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "a channel has %" PRId64 " x %" PRId64
                        " values, but at most 2^40 are supported",
                        desc->batch, desc->spatial);
  return CLNORM_OK;
}

static clnorm_status check_strides(const char *name, const int64_t strides[3],
                                   const clnorm_forward_desc *desc, clnorm_error *error) {
  if (!strides[0] && !strides[1] && !strides[2]) return CLNORM_OK;
  const int64_t sample[2] = {desc->channels, desc->spatial};
  int64_t contiguous[3] = {0, desc->spatial, 1};
  if (!clnorm__checked_product(sample, 2, &contiguous[0])) /* of an empty tensor: its batch is 0 */
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "%s are given, but a sample of %" PRId64 " x %" PRId64
                        " values has no stride that fits in 63 bits",
                        name, desc->channels, desc->spatial);
  if (memcmp(strides, contiguous, sizeof contiguous) != 0)
    return clnorm__fail(error, CLNORM_ERROR_UNSUPPORTED,
                        "%s are (%" PRId64 ", %" PRId64 ", %" PRId64
                        "): only contiguous tensors are supported yet, here (%" PRId64 ", %" PRId64
                        ", 1)",
                        name, strides[0], strides[1], strides[2], contiguous[0], contiguous[1]);
  return CLNORM_OK;
}

static clnorm_status check_desc(const clnorm_forward_desc *desc, clnorm_error *error) {
  clnorm_status status = check_features(desc, error);
  if (status == CLNORM_OK) status = check_sizes(desc, error);
  if (status == CLNORM_OK) status = check_strides("x_strides", desc->x_strides, desc, error);
  if (status == CLNORM_OK) status = check_strides("y_strides", desc->y_strides, desc, error);
  if (status != CLNORM_OK) return status;
  const bool one_value = desc->batch == 1 && desc->spatial == 1 && desc->channels > 0;
  if (one_value && desc->refuse_one_value && desc->statistics == CLNORM_BATCH_STATISTICS)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "batch statistics need more than one value per channel, but the input is "
                        "1 x %" PRId64 " x 1, and refuse_one_value is true",
                        desc->channels);
  return CLNORM_OK;
}

/* ---- Plans ---------------------------------------------------------------------------------------- */

static void describe(clnorm_forward_plan *plan) {
  static const char *const stages[CLNORM_NUM_STAGES] = {"channel", "partials", "finalize", "apply",
                                                        "copy"};
  const clnorm_schedule *s = &plan->schedule;
  size_t used = (size_t)snprintf(plan->description, sizeof plan->description, "%s form, %u %s",
                                 s->key.form == CLNORM_FORM_WIDE ? "wide" : "vector", s->num_launches,
                                 s->num_launches == 1 ? "launch" : "launches");
  for (unsigned i = 0; i < s->num_launches && used < sizeof plan->description; i++)
    used += (size_t)snprintf(plan->description + used, sizeof plan->description - used,
                             "%s %s x %" PRIu64, i ? "," : ":", stages[s->launches[i].stage],
                             s->launches[i].items);
}

clnorm_work clnorm__work_make(const clnorm_forward_desc *desc) {
  clnorm_work work;
  memset(&work, 0, sizeof work);
  clnorm_call *call = &work.call;
  call->batch = (uint64_t)desc->batch;
  call->channels = (uint64_t)desc->channels;
  call->spatial = (uint64_t)desc->spatial;
  call->extent[0] = 1;
  call->extent[1] = call->spatial;
  for (int i = 0; i < CLNORM_NUM_VIEWS; i++) {
    clnorm_view *view = &call->views[i];
    view->block = 1;
    view->position[2] = 1;
    view->position[1] = view->position[0] = view->channel = call->spatial;
    view->sample = call->channels * call->spatial;
  }
  call->eps = clnorm__default_float(desc->eps);
  if (desc->biased_running_var) call->flags |= CLNORM_BIASED_RUNNING_VAR;
  work.path = CLNORM_PATH_POSITIONS;
  work.statistics = desc->statistics;
  work.cut = desc->variant;
  work.store = desc->store;
  return work;
}

clnorm_status clnorm_forward_plan_create(clnorm_context *context, const clnorm_forward_desc *desc,
                                         clnorm_forward_plan **plan) {
  if (plan) *plan = NULL;
  clnorm_status status = clnorm__context_ready(context);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &context->error;
  if (!plan || !desc)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is NULL", plan ? "desc" : "plan");
  status = check_desc(desc, error);
  if (status != CLNORM_OK) return status;

  clnorm_forward_plan *result = calloc(1, sizeof *result);
  if (!result) return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for a plan");
  const clnorm_work work = clnorm__work_make(desc);
  result->context = context;
  result->desc = *desc;
  result->schedule = clnorm__schedule_make(&work, &context->device->traits);
  describe(result);
  clnorm_device *device = context->device;
  status = device->operations->prepare(device, &result->schedule, &result->prepared, error);
  if (status != CLNORM_OK) goto prepare_failed;
  if (!desc->external_workspace && result->schedule.workspace_size) {
    status = clnorm_memory_alloc(context, result->schedule.workspace_size, &result->workspace);
    if (status != CLNORM_OK) goto workspace_failed;
  }
  clnorm__context_retain(context);
  *plan = result;
  return CLNORM_OK;

workspace_failed:
  device->operations->unprepare(device, result->prepared);
prepare_failed:
  free(result);
  return status;
}

void clnorm_forward_plan_destroy(clnorm_forward_plan *plan) {
  if (!plan) return;
  clnorm_context *context = plan->context;
  clnorm_device *device = context->device;
  device->operations->forget(device, &plan->order);
  clnorm_memory_free(context, &plan->workspace);
  device->operations->unprepare(device, plan->prepared);
  free(plan);
  clnorm__context_release(context);
}

size_t clnorm_forward_plan_workspace_size(const clnorm_forward_plan *plan) {
  return plan ? plan->schedule.workspace_size : 0;
}

const char *clnorm_forward_plan_description(const clnorm_forward_plan *plan) {
  return plan ? plan->description : "";
}

/* ---- Runs ----------------------------------------------------------------------------------------- */

/* An operand of this run: what it is called, what it must hold, whether the run writes it. */
typedef struct operand_rule {
  const char *name;
  uint64_t bytes;
  bool required, written;
} operand_rule;

static void operand_rules(const clnorm_forward_plan *plan,
                          operand_rule rules[CLNORM_NUM_OPERANDS]) {
  const clnorm_forward_desc *d = &plan->desc;
  const bool batch = d->statistics == CLNORM_BATCH_STATISTICS;
  const bool given = d->statistics == CLNORM_GIVEN_STATISTICS;
  const uint64_t channels = (uint64_t)d->channels * sizeof(float);
  const uint64_t tensor = (uint64_t)d->batch * (uint64_t)d->spatial * channels;
  const uint64_t workspace = plan->schedule.workspace_size;
  const operand_rule table[CLNORM_NUM_OPERANDS] = {
      {"x", tensor, true, false},
      {"y", tensor, true, true},
      {"weight", channels, false, false},
      {"bias", channels, false, false},
      {"running_mean", channels, given, batch},
      {"running_var", channels, given, batch},
      {"saved_mean", channels, false, true},
      {"saved_mean_low", channels, false, true},
      {"saved_invstd", channels, false, true},
      {"workspace", workspace, workspace != 0, true},
  };
  memcpy(rules, table, sizeof table);
}

static clnorm_status check_overlap(const operand_rule *rules, const clnorm_span *spans,
                                   clnorm_error *error) {
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++)
    for (int j = 0; j < i; j++) {
      if (!rules[i].written && !rules[j].written) continue;
      if (!rules[i].bytes || !rules[j].bytes) continue; /* nothing lies nowhere */
      const clnorm_span a = spans[j], b = spans[i];
      const uint64_t a_end = a.begin + rules[j].bytes, b_end = b.begin + rules[i].bytes;
      if (!a.base || !b.base || a.base != b.base) continue;
      if (a.begin >= b_end || b.begin >= a_end) continue;
      const bool in_place = j == CLNORM_OPERAND_X && i == CLNORM_OPERAND_Y && a.begin == b.begin;
      if (!in_place)
        return clnorm__fail(error, CLNORM_ERROR_OVERLAP,
                            "%s (bytes %" PRIu64 " to %" PRIu64 ") and %s (bytes %" PRIu64
                            " to %" PRIu64 ") overlap without being the same",
                            rules[j].name, a.begin, a_end, rules[i].name, b.begin, b_end);
    }
  return CLNORM_OK;
}

/* Running statistics that a run updates are read before, and the workspace after it is written. */
static unsigned access_of(int operand, const operand_rule *rule) {
  const bool output = operand == CLNORM_OPERAND_Y || operand == CLNORM_OPERAND_SAVED_MEAN ||
                      operand == CLNORM_OPERAND_SAVED_MEAN_LOW ||
                      operand == CLNORM_OPERAND_SAVED_INVSTD;
  return (output ? 0u : CLNORM_DEVICE_READS) | (rule->written ? CLNORM_DEVICE_WRITES : 0u);
}

/* spans, all zero before: those of the operands that are there. */
static clnorm_status check_operands(clnorm_forward_plan *plan,
                                    const clnorm_memory operands[CLNORM_NUM_OPERANDS],
                                    clnorm_span spans[CLNORM_NUM_OPERANDS]) {
  clnorm_context *context = plan->context;
  operand_rule rules[CLNORM_NUM_OPERANDS];
  operand_rules(plan, rules);
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++) {
    if (clnorm__memory_absent(operands[i]) && !rules[i].required) continue;
    const clnorm_status status = clnorm__memory_span(
        context, operands[i], rules[i].name, access_of(i, &rules[i]), rules[i].bytes, &spans[i]);
    if (status != CLNORM_OK) return status;
  }
  const bool mean = spans[CLNORM_OPERAND_RUNNING_MEAN].base != 0;
  const bool var = spans[CLNORM_OPERAND_RUNNING_VAR].base != 0;
  if (mean != var)
    return clnorm__fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "running_%s is absent while running_%s is given: they come together",
                        mean ? "var" : "mean", mean ? "mean" : "var");
  if (spans[CLNORM_OPERAND_WORKSPACE].base && plan->schedule.workspace_size &&
      spans[CLNORM_OPERAND_WORKSPACE].address % 64)
    return clnorm__fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "workspace starts at byte %" PRIu64
                        ", at an address of %u modulo 64, but must start at a multiple of 64",
                        spans[CLNORM_OPERAND_WORKSPACE].begin,
                        (unsigned)(spans[CLNORM_OPERAND_WORKSPACE].address % 64));
  return check_overlap(rules, spans, &context->error);
}

static clnorm_status check_momentum(clnorm_forward_plan *plan, const clnorm_forward_args *args) {
  const bool updates = plan->desc.statistics == CLNORM_BATCH_STATISTICS &&
                       !clnorm__memory_absent(args->running_mean);
  return updates ? clnorm__check_momentum(args->momentum, &plan->context->error) : CLNORM_OK;
}

/* This run's part of the kernel argument. */
static clnorm_call make_call(const clnorm_schedule *schedule,
                             const clnorm_memory o[CLNORM_NUM_OPERANDS],
                             const clnorm_span spans[CLNORM_NUM_OPERANDS], double momentum) {
  clnorm_call call = schedule->call;
  for (int i = 0; i < CLNORM_NUM_VIEWS; i++)
    call.views[i].offset = o[CLNORM_OPERAND_X + i].offset / sizeof(float);
  for (int i = 0; i < CLNORM_NUM_PARAMETERS; i++)
    call.parameters[i] = o[CLNORM_OPERAND_WEIGHT + i].offset / sizeof(float);
  call.partials += o[CLNORM_OPERAND_WORKSPACE].offset;
  call.coefficients += o[CLNORM_OPERAND_WORKSPACE].offset;
  if (!clnorm__memory_absent(o[CLNORM_OPERAND_WEIGHT])) call.flags |= CLNORM_HAS_WEIGHT;
  if (!clnorm__memory_absent(o[CLNORM_OPERAND_BIAS])) call.flags |= CLNORM_HAS_BIAS;
  if (!clnorm__memory_absent(o[CLNORM_OPERAND_RUNNING_MEAN])) call.flags |= CLNORM_HAS_RUNNING;
  if (!clnorm__memory_absent(o[CLNORM_OPERAND_SAVED_MEAN])) call.flags |= CLNORM_SAVE_MEAN;
  if (!clnorm__memory_absent(o[CLNORM_OPERAND_SAVED_MEAN_LOW])) call.flags |= CLNORM_SAVE_MEAN_LOW;
  if (!clnorm__memory_absent(o[CLNORM_OPERAND_SAVED_INVSTD])) call.flags |= CLNORM_SAVE_INVSTD;
  const uint64_t x = spans[CLNORM_OPERAND_X].address, y = spans[CLNORM_OPERAND_Y].address;
  if (x % 16 == 0 && y % 16 == 0 && call.spatial % 4 == 0) call.flags |= CLNORM_ALIGNED;
  call.keep = clnorm__default_float(momentum);
  call.take = clnorm__default_float(clnorm__default_difference(1.0, momentum));
  return call;
}

clnorm_status clnorm__forward_plan_run(clnorm_forward_plan *plan, const clnorm_forward_args *args,
                                       clnorm_use parameters) {
  if (!plan) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(plan->context);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &plan->context->error;
  if (!args) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "args is NULL");
  const clnorm_use workspace = {clnorm__memory_absent(plan->workspace) ? NULL : &plan->order, true};
  clnorm_run run = {
      .prepared = plan->prepared,
      .schedule = &plan->schedule,
      .operands = {args->x, args->y, args->weight, args->bias, args->running_mean,
                   args->running_var, args->saved_mean, (clnorm_memory){NULL, NULL, 0, 0},
                   args->saved_invstd,
                   plan->desc.external_workspace ? args->workspace : plan->workspace},
      .uses = {workspace, parameters},
      .sync = args->sync,
  };
  clnorm_span spans[CLNORM_NUM_OPERANDS];
  memset(spans, 0, sizeof spans);
  status = check_momentum(plan, args);
  if (status == CLNORM_OK && plan->schedule.num_launches)
    status = check_operands(plan, run.operands, spans);
  if (status != CLNORM_OK) return status;
  run.call = make_call(&plan->schedule, run.operands, spans, args->momentum);
  return plan->context->device->operations->run(plan->context->device, &run, error);
}

clnorm_status clnorm_forward_run(clnorm_forward_plan *plan, const clnorm_forward_args *args) {
  const clnorm_use nothing = {NULL, false};
  return clnorm__forward_plan_run(plan, args, nothing);
}
