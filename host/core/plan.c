/* Plans: a checked problem becomes a schedule, bindings become launches. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "environment.h"
#include "objects.h"
#include "problem.h"
#include "structures.h"
#include "tensor.h"

/* An operand of a plan's runs: its letter of the table, what it must be in memory, whether it is written. */
typedef struct operand_rule {
  char use;
  bool required, written;
  clnorm_need need;
  /* canonical; of operands that are tensors */
  clnorm_tensor tensor;
} operand_rule;

struct clnorm_plan {
  clnorm_context *context;
  clnorm_problem problem;
  clnorm_schedule schedule;
  operand_rule rules[CLNORM_NUM_OPERANDS];
  /* the back end's */
  void *prepared;
  /* owned; absent with external_workspace */
  clnorm_memory workspace;
  /* of the runs that use it */
  clnorm_order order;
  char description[320];
};

/* ---- Operands -------------------------------------------------------------------------------------- */

static unsigned access_of(char use) {
  switch (use) {
  case 'r':
  case 'R':
    return CLNORM_DEVICE_READS;
  case 'w':
  case 'W':
    return CLNORM_DEVICE_WRITES;
  default: /* running statistics that are updated, and the workspace */
    return CLNORM_DEVICE_READS | CLNORM_DEVICE_WRITES;
  }
}

static void make_rule(const clnorm_plan *plan, int index, operand_rule *rule) {
  const clnorm_problem *p = &plan->problem;
  const clnorm_operand_row *row = &clnorm__operands[index];
  const int32_t real = clnorm__real_of(p->tensors[CLNORM_X].dtype);
  rule->use = clnorm__operand_use(index, p);
  rule->need.name = clnorm_role_name(row->role);
  rule->need.access = access_of(rule->use);
  rule->need.alignment = clnorm_dtype_size(real);
  rule->required = rule->use == 'R' || rule->use == 'W' || rule->use == 'U';
  rule->written = rule->use != '-' && (rule->need.access & CLNORM_DEVICE_WRITES);
  switch (row->kind) {
  case CLNORM_KIND_TENSOR:
    if (rule->use == '-') break;
    rule->need.bytes = clnorm_tensor_bytes(&p->tensors[row->role]);
    rule->need.alignment = clnorm_dtype_size(p->tensors[row->role].dtype);
    rule->tensor = clnorm__tensor_canonical(&p->tensors[row->role]);
    break;
  case CLNORM_KIND_CHANNEL:
    rule->need.bytes = (uint64_t)p->tensors[CLNORM_X].dims[1] * clnorm_dtype_size(real);
    break;
  case CLNORM_KIND_WORKSPACE: /* its address is checked as a whole: where 64 bytes begin is not the offset's affair */
    rule->need.bytes = plan->schedule.workspace_size;
    rule->need.alignment = 1;
    rule->required = rule->need.bytes > 0;
    break;
  }
}

void clnorm_operand_init(clnorm_operand *operand, size_t size) {
  const clnorm_operand defaults = {.size = sizeof defaults};
  clnorm__structure_init(operand, size, &defaults, sizeof defaults);
}

clnorm_status clnorm_plan_operand(const clnorm_plan *plan, int32_t role, clnorm_operand *operand) {
  if (!plan) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_error *error = &plan->context->error;
  const int index = clnorm__operand_of(role);
  const clnorm_status status = clnorm__structure_check(operand, sizeof *operand, "operand", error);
  if (status != CLNORM_OK) return status;
  if (index < 0)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "role is %" PRId32 ", which is none",
                        role);
  const operand_rule *rule = &plan->rules[index];
  const clnorm_operand_kind kind = clnorm__operands[index].kind;
  clnorm_operand result = {.size = sizeof result};
  const bool there = rule->use != '-' && (kind != CLNORM_KIND_WORKSPACE || rule->required);
  if (there) {
    result.required = rule->required;
    result.read = (rule->need.access & CLNORM_DEVICE_READS) != 0;
    result.written = rule->written;
    result.bytes = rule->need.bytes;
    result.alignment = kind == CLNORM_KIND_WORKSPACE ? 64 : rule->need.alignment;
  }
  if (there && kind == CLNORM_KIND_TENSOR) result.tensor = plan->problem.tensors[role];
  if (there && kind == CLNORM_KIND_CHANNEL) {
    result.tensor.dtype = clnorm__real_of(plan->problem.tensors[CLNORM_X].dtype);
    result.tensor.rank = 1;
    result.tensor.dims[0] = plan->problem.tensors[CLNORM_X].dims[1];
    result.tensor.strides[0] = 1;
    result.tensor.channel_block = 1;
  }
  clnorm__structure_give(operand, &result, sizeof result);
  return CLNORM_OK;
}

/* ---- Plans ------------------------------------------------------------------------------------------ */

static void describe(clnorm_plan *plan) {
  static const char *const stages[CLNORM_NUM_STAGES] = {
      "channel",          "partials",          "finalize",          "apply",         "copy",
      "backward_channel", "backward_partials", "backward_finalize", "backward_apply"};
  static const char *const paths[CLNORM_NUM_PATHS] = {"general", "positions", "channels"};
  const clnorm_schedule *s = &plan->schedule;
  const size_t size = sizeof plan->description;
  size_t used = (size_t)snprintf(plan->description, size, "%s form, %u %s",
                                 s->key.form == CLNORM_FORM_WIDE ? "wide" : "vector",
                                 s->num_launches, s->num_launches == 1 ? "launch" : "launches");
  for (unsigned i = 0; i < s->num_launches && used < size; i++)
    used += (size_t)snprintf(plan->description + used, size - used, "%s %s x %" PRIu64,
                             i ? "," : ":", stages[s->launches[i].stage], s->launches[i].items);
  if (used < size)
    snprintf(plan->description + used, size - used, "; route %s, %s to %s", paths[s->key.path],
             clnorm_dtype_name((int32_t)s->key.x), clnorm_dtype_name((int32_t)s->key.y));
}

static clnorm_status prepare(clnorm_plan *plan) {
  clnorm_device *device = plan->context->device;
  clnorm_error *error = &plan->context->error;
  clnorm_status status = device->operations->supports(device, &plan->schedule.key, error);
  if (status == CLNORM_OK)
    status = device->operations->prepare(device, &plan->schedule, &plan->prepared, error);
  if (status != CLNORM_OK || plan->problem.external_workspace || !plan->schedule.workspace_size)
    return status;
  status = clnorm_memory_alloc(plan->context, plan->schedule.workspace_size, &plan->workspace);
  if (status != CLNORM_OK) device->operations->unprepare(device, plan->prepared);
  return status;
}

clnorm_status clnorm_plan_create(clnorm_context *context, const clnorm_problem *problem,
                                 clnorm_plan **plan) {
  if (plan) *plan = NULL;
  clnorm_status status = clnorm__context_ready(context);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &context->error;
  if (!plan) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "plan is NULL");
  clnorm_plan *result = calloc(1, sizeof *result);
  if (!result) return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for a plan");
  result->context = context;
  status = clnorm__problem_take(&result->problem, problem, error);
  if (status == CLNORM_OK) {
    const clnorm_work work = clnorm__work_make(&result->problem, context->device);
    result->schedule = clnorm__schedule_make(&work, &context->device->traits);
    for (int i = 0; i < CLNORM_NUM_OPERANDS; i++) make_rule(result, i, &result->rules[i]);
    describe(result);
    status = prepare(result);
  }
  if (status != CLNORM_OK) {
    free(result);
    return status;
  }
  clnorm__context_retain(context);
  *plan = result;
  return CLNORM_OK;
}

void clnorm_plan_destroy(clnorm_plan *plan) {
  if (!plan) return;
  clnorm_context *context = plan->context;
  clnorm_device *device = context->device;
  device->operations->forget(device, &plan->order);
  clnorm_memory_free(context, &plan->workspace);
  device->operations->unprepare(device, plan->prepared);
  free(plan);
  clnorm__context_release(context);
}

const char *clnorm_plan_description(const clnorm_plan *plan) {
  return plan ? plan->description : "";
}

/* ---- Bindings --------------------------------------------------------------------------------------- */

clnorm_binding clnorm_bind(int32_t role, clnorm_memory memory) {
  const clnorm_binding binding = {role, 0, memory};
  return binding;
}

clnorm_status clnorm__bindings_take(const clnorm_binding *bindings, size_t count,
                                    const char *const refused[CLNORM_NUM_OPERANDS],
                                    clnorm_memory operands[CLNORM_NUM_OPERANDS],
                                    clnorm_error *error) {
  if (count && !bindings)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "bindings is NULL, but there are %zu of them", count);
  for (size_t i = 0; i < count; i++) {
    const int index = clnorm__operand_of(bindings[i].role);
    if (index < 0)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "binding %zu has role %" PRId32 ", which is none", i, bindings[i].role);
    if (bindings[i].reserved)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "binding %zu has reserved %" PRIu32 ", but it must be 0", i,
                          bindings[i].reserved);
    if (clnorm__memory_absent(bindings[i].memory)) continue;
    const char *name = clnorm_role_name(bindings[i].role);
    if (refused[index])
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is bound, but %s", name,
                          refused[index]);
    if (!clnorm__memory_absent(operands[index]))
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is bound twice", name);
    operands[index] = bindings[i].memory;
  }
  return CLNORM_OK;
}

/* ---- Checks of a run -------------------------------------------------------------------------------- */

static bool spans_cross(const clnorm_span *a, uint64_t a_bytes, const clnorm_span *b,
                        uint64_t b_bytes) {
  if (!a->base || a->base != b->base || !a_bytes || !b_bytes) return false;
  return a->begin < b->begin + b_bytes && b->begin < a->begin + a_bytes;
}

/* Tensors of the same strides: slices of one that lie between each other. */
static bool tensors_apart(const operand_rule *a, const operand_rule *b, uint64_t a_begin,
                          uint64_t b_begin) {
  const int64_t distance = (int64_t)(b_begin - a_begin);
  const int64_t size = (int64_t)clnorm_dtype_size(a->tensor.dtype);
  if (!a->tensor.rank || !b->tensor.rank || a->tensor.dtype != b->tensor.dtype) return false;
  if (!clnorm__tensor_same(&a->tensor, &b->tensor) || distance % size) return false;
  return !clnorm__tensors_meet(&a->tensor, &b->tensor, distance / size);
}

static bool in_place(const operand_rule *rules, int a, int b, const clnorm_span *spans) {
  const bool tensors = b <= CLNORM_OPERAND_DX && !rules[a].written;
  return tensors && spans[a].begin == spans[b].begin &&
         clnorm__tensor_same(&rules[a].tensor, &rules[b].tensor);
}

static clnorm_status check_overlap(const operand_rule *rules, const clnorm_span *spans,
                                   clnorm_error *error) {
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++)
    for (int j = 0; j < i; j++) {
      const uint64_t a_bytes = rules[j].need.bytes, b_bytes = rules[i].need.bytes;
      if (!rules[i].written && !rules[j].written) continue;
      if (!spans_cross(&spans[j], a_bytes, &spans[i], b_bytes)) continue;
      if (in_place(rules, j, i, spans) ||
          tensors_apart(&rules[j], &rules[i], spans[j].begin, spans[i].begin))
        continue;
      return clnorm__fail(error, CLNORM_ERROR_OVERLAP,
                          "%s (bytes %" PRIu64 " to %" PRIu64 ") and %s (bytes %" PRIu64
                          " to %" PRIu64 ") overlap without being the same",
                          rules[j].need.name, spans[j].begin, spans[j].begin + a_bytes,
                          rules[i].need.name, spans[i].begin, spans[i].begin + b_bytes);
    }
  return CLNORM_OK;
}

static clnorm_status check_pair(const clnorm_plan *plan, const clnorm_span *spans, int a, int b) {
  const bool has_a = spans[a].base != 0, has_b = spans[b].base != 0;
  if (has_a == has_b) return CLNORM_OK;
  const char *const names[] = {plan->rules[a].need.name, plan->rules[b].need.name};
  return clnorm__fail(&plan->context->error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "%s is absent while %s is given: they come together", names[has_a],
                      names[has_b]);
}

/* Given statistics of backward: saved ones, or running ones. */
static clnorm_status check_given(const clnorm_plan *plan, const clnorm_span *spans) {
  const clnorm_problem *p = &plan->problem;
  if (p->operation != CLNORM_BACKWARD || p->statistics != CLNORM_GIVEN_STATISTICS) return CLNORM_OK;
  const clnorm_status status =
      check_pair(plan, spans, CLNORM_OPERAND_SAVED_MEAN, CLNORM_OPERAND_SAVED_INVSTD);
  if (status != CLNORM_OK || !clnorm__gradients_need_statistics(p) ||
      spans[CLNORM_OPERAND_SAVED_MEAN].base || spans[CLNORM_OPERAND_RUNNING_MEAN].base ||
      !clnorm__tensor_count(&p->tensors[CLNORM_X]))
    return status;
  return clnorm__fail(&plan->context->error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "given statistics are required: saved_mean and saved_invstd, or running_mean "
                      "and running_var");
}

static clnorm_status check_together(const clnorm_plan *plan, const clnorm_span *spans) {
  const clnorm_span *workspace = &spans[CLNORM_OPERAND_WORKSPACE];
  clnorm_status status =
      check_pair(plan, spans, CLNORM_OPERAND_RUNNING_MEAN, CLNORM_OPERAND_RUNNING_VAR);
  if (status == CLNORM_OK) status = check_given(plan, spans);
  if (status != CLNORM_OK) return status;
  if (workspace->base && plan->schedule.workspace_size && workspace->address % 64)
    return clnorm__fail(&plan->context->error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "workspace starts at byte %" PRIu64
                        ", at an address of %u modulo 64, but must start at a multiple of 64",
                        workspace->begin, (unsigned)(workspace->address % 64));
  return CLNORM_OK;
}

/* spans, all zero before: those of the operands that are there. */
static clnorm_status check_operands(clnorm_plan *plan,
                                    const clnorm_memory operands[CLNORM_NUM_OPERANDS],
                                    clnorm_span spans[CLNORM_NUM_OPERANDS]) {
  clnorm_context *context = plan->context;
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++) {
    const operand_rule *rule = &plan->rules[i];
    if (clnorm__memory_absent(operands[i]) && !rule->required) continue;
    clnorm_status status = clnorm__memory_span(context, operands[i], &rule->need, &spans[i]);
    if (status != CLNORM_OK) return status;
  }
  const clnorm_status status = check_together(plan, spans);
  return status == CLNORM_OK ? check_overlap(plan->rules, spans, &context->error) : status;
}

/* ---- Runs ------------------------------------------------------------------------------------------- */

/* x, y, dy and every plane start where groups of four elements do, and are such groups. */
static bool is_aligned(const clnorm_call *call, int32_t operation,
                       const clnorm_span spans[CLNORM_NUM_OPERANDS]) {
  bool aligned = call->spatial % 4 == 0;
  for (int i = 0; i < CLNORM_NUM_VIEWS; i++) {
    const clnorm_view *view = &call->views[i];
    const clnorm_span *span = &spans[clnorm__operand_of_view(i, operation)];
    aligned = aligned && view->sample % 4 == 0 && view->channel % 4 == 0 &&
              span->address % (4 * clnorm_dtype_size((int32_t)view->storage)) == 0;
  }
  return aligned;
}

/* This run's part of the kernel argument. */
static clnorm_call make_call(const clnorm_schedule *schedule, int32_t operation,
                             const clnorm_memory o[CLNORM_NUM_OPERANDS],
                             const clnorm_span spans[CLNORM_NUM_OPERANDS], double momentum) {
  static const struct {
    int operand;
    unsigned flag;
  } flags[] = {{CLNORM_OPERAND_WEIGHT, CLNORM_HAS_WEIGHT},
               {CLNORM_OPERAND_BIAS, CLNORM_HAS_BIAS},
               {CLNORM_OPERAND_RUNNING_MEAN, CLNORM_HAS_RUNNING},
               {CLNORM_OPERAND_SAVED_MEAN, CLNORM_SAVE_MEAN},
               {CLNORM_OPERAND_SAVED_MEAN_LOW, CLNORM_SAVE_MEAN_LOW},
               {CLNORM_OPERAND_SAVED_INVSTD, CLNORM_SAVE_INVSTD},
               {CLNORM_OPERAND_DWEIGHT, CLNORM_HAS_DWEIGHT},
               {CLNORM_OPERAND_DBIAS, CLNORM_HAS_DBIAS}};
  clnorm_call call = schedule->call;
  const size_t real = clnorm_dtype_size(clnorm__real_of((int32_t)schedule->key.x));
  for (int i = 0; i < CLNORM_NUM_VIEWS; i++)
    call.views[i].offset = o[clnorm__operand_of_view(i, operation)].offset /
                           clnorm_dtype_size((int32_t)call.views[i].storage);
  for (int i = 0; i < CLNORM_NUM_PARAMETERS; i++)
    call.parameters[i] = o[CLNORM_OPERAND_WEIGHT + i].offset / real;
  call.partials += o[CLNORM_OPERAND_WORKSPACE].offset;
  call.coefficients += o[CLNORM_OPERAND_WORKSPACE].offset;
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
    if (!clnorm__memory_absent(o[flags[i].operand])) call.flags |= flags[i].flag;
  if (is_aligned(&call, operation, spans)) call.flags |= CLNORM_ALIGNED;
  const double take = clnorm__default_difference(1.0, momentum);
  call.keep = clnorm__default_float(momentum);
  call.take = clnorm__default_float(take);
  call.keep_bits = clnorm__double_bits(momentum);
  call.take_bits = clnorm__double_bits(take);
  return call;
}

/* As OpenCL has it (CL_INVALID_EVENT_WAIT_LIST), on every device. */
static clnorm_status check_wait_list(const clnorm_opencl_sync *sync, clnorm_error *error) {
  if (!sync || (sync->num_events_in_wait_list > 0) == (sync->event_wait_list != NULL))
    return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "sync.num_events_in_wait_list is %u, but sync.event_wait_list is %s: there "
                      "are both or neither",
                      sync->num_events_in_wait_list, sync->event_wait_list ? "given" : "NULL");
}

/* Statistics that are computed again stand where a caller's saved ones would. */
static void save_in_workspace(const clnorm_plan *plan,
                              clnorm_memory operands[CLNORM_NUM_OPERANDS]) {
  const clnorm_schedule *s = &plan->schedule;
  for (unsigned i = 0; i < 3; i++) {
    clnorm_memory at = operands[CLNORM_OPERAND_WORKSPACE];
    at.offset += s->saved + i * s->saved_bytes;
    if (at.host) {
      at.host = (char *)at.host + at.offset;
      at.offset = 0;
    }
    operands[CLNORM_OPERAND_SAVED_MEAN + i] = at;
  }
}

clnorm_status clnorm__plan_run(clnorm_plan *plan, const clnorm_request *request) {
  clnorm_device *device = plan->context->device;
  const bool own = !clnorm__memory_absent(plan->workspace);
  const clnorm_use workspace = {own ? &plan->order : NULL, true};
  clnorm_job run = {
      .prepared = plan->prepared,
      .schedule = &plan->schedule,
      .uses = {workspace, request->parameters},
      .sync = request->sync,
  };
  clnorm_span spans[CLNORM_NUM_OPERANDS];
  memset(spans, 0, sizeof spans);
  memcpy(run.operands, request->operands, sizeof run.operands);
  if (own) run.operands[CLNORM_OPERAND_WORKSPACE] = plan->workspace;
  clnorm_status status = check_wait_list(request->sync, &plan->context->error);
  if (status == CLNORM_OK && plan->rules[CLNORM_OPERAND_RUNNING_MEAN].written &&
      !clnorm__memory_absent(run.operands[CLNORM_OPERAND_RUNNING_MEAN]))
    status = clnorm__check_momentum(request->momentum, &plan->context->error);
  if (status == CLNORM_OK && plan->schedule.num_launches)
    status = check_operands(plan, run.operands, spans);
  if (status != CLNORM_OK) return status;
  if (plan->schedule.saved_bytes) save_in_workspace(plan, run.operands);
  run.call =
      make_call(&plan->schedule, plan->problem.operation, run.operands, spans, request->momentum);
  return device->operations->run(device, &run, &plan->context->error);
}

void clnorm_run_options_init(clnorm_run_options *options, size_t size) {
  const clnorm_run_options defaults = {.size = sizeof defaults, .momentum = 0.9};
  clnorm__structure_init(options, size, &defaults, sizeof defaults);
}

clnorm_status clnorm__run_options_take(const clnorm_run_options *given, clnorm_run_options *taken,
                                       clnorm_error *error) {
  clnorm_run_options_init(taken, sizeof *taken);
  if (!given) return CLNORM_OK;
  return clnorm__structure_take(taken, sizeof *taken, given, "run options", error);
}

clnorm_status clnorm_run(clnorm_plan *plan, const clnorm_binding *bindings, size_t count,
                         const clnorm_run_options *options) {
  if (!plan) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_status status = clnorm__context_ready(plan->context);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &plan->context->error;
  const char *refused[CLNORM_NUM_OPERANDS] = {NULL};
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++)
    if (plan->rules[i].use == '-') refused[i] = "the plan's operation has no such operand";
  if (!plan->problem.external_workspace)
    refused[CLNORM_OPERAND_WORKSPACE] = "the plan has its own (external_workspace is false)";
  clnorm_request request;
  clnorm_run_options own;
  memset(&request, 0, sizeof request);
  status = clnorm__run_options_take(options, &own, error);
  if (status == CLNORM_OK && own.accumulate && !plan->problem.accumulate)
    status =
        clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                     "accumulate is set in the run options, but the plan's problem says false");
  if (status == CLNORM_OK)
    status = clnorm__bindings_take(bindings, count, refused, request.operands, error);
  if (status != CLNORM_OK) return status;
  request.momentum = own.momentum;
  request.sync = own.sync;
  return clnorm__plan_run(plan, &request);
}
