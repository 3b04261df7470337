#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

/* Operands in memory, each one between two guards:
 *
 *   | guard | x | guard | y | guard | weight | guard | ...
 *
 * Every operand starts `shift` elements after a multiple of 64 bytes (the workspace at one, as the
 * API asks). All that is not an input's value holds `poison`, a NaN of every type that no arithmetic makes; what
 * a run reads beyond its operands therefore shows in its results, what it writes beyond them in the
 * guards. What lies between the elements of a tensor with gaps is a guard too. */
static const int32_t roles[] = {CLNORM_X,
                                CLNORM_Y,
                                CLNORM_WEIGHT,
                                CLNORM_BIAS,
                                CLNORM_RUNNING_MEAN,
                                CLNORM_RUNNING_VAR,
                                CLNORM_SAVED_MEAN,
                                CLNORM_SAVED_MEAN_LOW,
                                CLNORM_SAVED_INVSTD,
                                CLNORM_WORKSPACE};
enum { NUM_REGIONS = sizeof roles / sizeof *roles };

static const uint64_t poison = 0xffa5ffa5ffa5ffa5u;

#define GUARD_BYTES 256
#define KEEP_BYTES ((size_t)16 << 20) /* a larger arena is released after the case */

typedef struct region {
  size_t offset, size;  /* bytes; size 0: absent */
  const double *source; /* input values; NULL: poisoned */
  clnorm_tensor tensor; /* rank 0: the workspace */
  bool written;
} region;

typedef struct layout {
  region regions[NUM_REGIONS]; /* of roles[] */
  bool in_place;               /* y has x's region */
  size_t size;
} layout;

struct clnorm_case_runner {
  clnorm_context *context;
  clnorm_memory arena;
  size_t arena_size;
};

clnorm_case_runner *clnorm_case_runner_create(clnorm_context *context) {
  clnorm_case_runner *runner = calloc(1, sizeof *runner);
  if (runner) runner->context = context;
  return runner;
}

static void release_arena(clnorm_case_runner *runner) {
  clnorm_memory_free(runner->context, &runner->arena);
  runner->arena_size = 0;
}

void clnorm_case_runner_destroy(clnorm_case_runner *runner) {
  if (!runner) return;
  release_arena(runner);
  free(runner);
}

void clnorm_case_outputs_free(clnorm_case_outputs *outputs) {
  free(outputs->storage);
  memset(outputs, 0, sizeof *outputs);
}

/* Doubles are equal where what they hold is; where they are not, it is looked at as what it is. */
bool clnorm_case_compare(const clnorm_tensor *tensor, const double *a, const double *b,
                         clnorm_difference *difference) {
  clnorm_tensor doubles;
  clnorm_tensor_nchw(&doubles, CLNORM_F64, tensor->rank, tensor->dims);
  clnorm_difference_init(difference, sizeof *difference);
  clnorm_compare(&doubles, a, &doubles, b, difference);
  if (difference->differing_elements == 0) return true;
  const size_t size = (size_t)clnorm_tensor_bytes(tensor);
  char *both = malloc(2 * size);
  if (!both) return false;
  clnorm_place(tensor, a, both);
  clnorm_place(tensor, b, both + size);
  clnorm_compare(tensor, both, tensor, both + size, difference);
  free(both);
  return true;
}

/* ---- Laying out ------------------------------------------------------------------------------ */

static size_t round_up(size_t size) { return (size + 63) & ~(size_t)63; }

static region *region_of(layout *l, int32_t role) {
  size_t i = 0;
  while (roles[i] != role) i++;
  return &l->regions[i];
}

static void place(layout *l, int32_t role, const clnorm_tensor *tensor, const double *source,
                  bool written, unsigned shift) {
  region *r = region_of(l, role);
  const size_t bytes = (size_t)clnorm_tensor_bytes(tensor);
  if (bytes == 0) return;
  r->offset = l->size + shift * clnorm_dtype_size(tensor->dtype);
  r->size = bytes;
  r->source = source;
  r->tensor = *tensor;
  r->written = written;
  l->size = round_up(r->offset + bytes) + GUARD_BYTES;
}

static void place_workspace(layout *l, size_t bytes) {
  region *r = region_of(l, CLNORM_WORKSPACE);
  if (bytes == 0) return;
  r->offset = l->size;
  r->size = bytes;
  r->written = true;
  l->size = round_up(r->offset + bytes) + GUARD_BYTES;
}

static layout lay_out(const clnorm_case_call *call, size_t workspace) {
  const clnorm_case_problem *values = call->values;
  const int64_t channels[2] = {1, values->desc.channels};
  clnorm_tensor vector;
  clnorm_tensor_nchw(&vector, clnorm_case_problem_real(values), 2, channels);
  const bool updated = values->desc.statistics == CLNORM_BATCH_STATISTICS;
  const unsigned shift = call->shift;
  layout l = {.in_place = call->in_place, .size = GUARD_BYTES};
  place(&l, CLNORM_X, &call->problem.tensors[CLNORM_X], values->x, call->in_place, shift);
  if (!call->in_place) place(&l, CLNORM_Y, &call->problem.tensors[CLNORM_Y], NULL, true, shift);
  if (values->weight) place(&l, CLNORM_WEIGHT, &vector, values->weight, false, shift);
  if (values->bias) place(&l, CLNORM_BIAS, &vector, values->bias, false, shift);
  if (values->running_mean) {
    place(&l, CLNORM_RUNNING_MEAN, &vector, values->running_mean, updated, shift);
    place(&l, CLNORM_RUNNING_VAR, &vector, values->running_var, updated, shift);
  }
  if (call->save_mean) place(&l, CLNORM_SAVED_MEAN, &vector, NULL, true, shift);
  if (call->save_mean_low) place(&l, CLNORM_SAVED_MEAN_LOW, &vector, NULL, true, shift);
  if (call->save_invstd) place(&l, CLNORM_SAVED_INVSTD, &vector, NULL, true, shift);
  if (call->problem.external_workspace) place_workspace(&l, workspace);
  return l;
}

/* The arena's contents before the run. */
static unsigned char *make_image(const layout *l) {
  unsigned char *image = malloc(l->size);
  if (!image) return NULL;
  for (size_t i = 0; i < l->size; i += sizeof poison) memcpy(image + i, &poison, sizeof poison);
  for (int i = 0; i < NUM_REGIONS; i++) {
    const region *r = &l->regions[i];
    if (r->source) clnorm_place(&r->tensor, r->source, image + r->offset);
  }
  return image;
}

/* Absent where the region is. */
static clnorm_memory memory_of(const clnorm_case_runner *runner, const region *r) {
  clnorm_memory memory = {0};
  if (r->size == 0) return memory;
  memory = runner->arena;
  memory.offset += r->offset;
  memory.size = r->size;
  return memory;
}

static clnorm_status run_plan(const clnorm_case_runner *runner, const layout *l, clnorm_plan *plan,
                              const clnorm_case_call *call) {
  clnorm_binding bindings[NUM_REGIONS];
  clnorm_run_options options;
  clnorm_run_options_init(&options, sizeof options);
  options.momentum = call->values->momentum;
  for (size_t i = 0; i < NUM_REGIONS; i++) {
    const bool is_x = l->in_place && roles[i] == CLNORM_Y;
    bindings[i] = clnorm_bind(roles[i], memory_of(runner, &l->regions[is_x ? 0 : i]));
  }
  if (call->change) call->change(call->argument, bindings, NUM_REGIONS);
  return clnorm_run(plan, bindings, NUM_REGIONS, &options);
}

/* ---- Judging --------------------------------------------------------------------------------- */

static clnorm_case_result broken(clnorm_message *why, const char *format, const char *name,
                                 size_t position) {
  snprintf(why->text, sizeof why->text, format, name, position);
  return CLNORM_CASE_BROKEN;
}

static size_t first_unlike(const unsigned char *a, const unsigned char *b, size_t size) {
  if (memcmp(a, b, size) == 0) return size;
  size_t i = 0;
  while (a[i] == b[i]) i++;
  return i;
}

/* Puts back what a run may write, so that all else is left to be seen. */
static void put_back(const layout *l, const unsigned char *image, unsigned char *after) {
  for (int i = 0; i < NUM_REGIONS; i++) {
    const region *r = &l->regions[i];
    if (!r->written || r->size == 0) continue;
    if (r->tensor.rank == 0)
      memcpy(after + r->offset, image + r->offset, r->size);
    else
      clnorm_place_again(&r->tensor, image + r->offset, after + r->offset);
  }
}

/* The guards before, between and after the regions, and the inputs, against the image; outputs as well where the run
 * was to write none: it failed, or the tensor is empty. */
static clnorm_case_result look_at_guards(const layout *l, bool writes, const unsigned char *image,
                                         unsigned char *after, clnorm_message *why) {
  if (writes) put_back(l, image, after);
  const size_t at = first_unlike(image, after, l->size);
  if (at == l->size) return CLNORM_CASE_RAN;
  const char *before = "the start of the arena";
  size_t end = 0;
  for (int i = 0; i < NUM_REGIONS; i++) {
    const region *r = &l->regions[i];
    if (r->size == 0 || r->offset > at) continue;
    if (at - r->offset < r->size)
      return broken(why,
                    !r->written ? "wrote to %s, byte %zu, which it must only read"
                    : writes    ? "wrote between the elements of %s, at byte %zu"
                                : "wrote to %s, byte %zu, though it was to write nothing",
                    clnorm_role_name(roles[i]), at - r->offset);
    before = clnorm_role_name(roles[i]);
    end = r->offset + r->size;
  }
  return broken(why, "wrote into the guard after %s, %zu bytes on", before, at - end);
}

static clnorm_case_result look_for_poison(const region *r, const double *values, int64_t count,
                                          const char *name, clnorm_message *why) {
  const int64_t one[2] = {1, 1};
  clnorm_tensor element;
  double unwritten;
  clnorm_tensor_nchw(&element, r->tensor.dtype, 2, one);
  clnorm_unplace(&element, &poison, &unwritten);
  for (int64_t i = 0; i < count; i++)
    if (memcmp(&values[i], &unwritten, sizeof unwritten) == 0)
      return broken(why, "left %s[%zu] unwritten", name, (size_t)i);
  return CLNORM_CASE_RAN;
}

/* Where an output is found after the run; NULL where none is written. */
static const region *written_region(layout *l, const clnorm_case_problem *problem,
                                    clnorm_output output) {
  const int32_t role = dense_role(output);
  const region *r = region_of(l, l->in_place && role == CLNORM_Y ? CLNORM_X : role);
  const bool there =
      r->size > 0 && r->written && clnorm_case_problem_output_count(problem, output) > 0;
  return there ? r : NULL;
}

/* Room for all outputs; false if there is no memory. */
static bool make_outputs(layout *l, const clnorm_case_problem *problem,
                         clnorm_case_outputs *outputs) {
  int64_t total = 0;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    if (!written_region(l, problem, (clnorm_output)i)) continue;
    outputs->counts[i] = clnorm_case_problem_output_count(problem, (clnorm_output)i);
    total += outputs->counts[i];
  }
  outputs->storage = malloc(((size_t)total + 1) * sizeof(double));
  if (!outputs->storage) return false;
  total = 0;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    if (outputs->counts[i] == 0) continue;
    outputs->values[i] = outputs->storage + total;
    total += outputs->counts[i];
  }
  return true;
}

static clnorm_case_result collect(layout *l, const clnorm_case_problem *problem,
                                  const unsigned char *after, clnorm_case_outputs *outputs,
                                  clnorm_message *why) {
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    const region *r = written_region(l, problem, (clnorm_output)i);
    const char *name = clnorm_output_name((clnorm_output)i);
    if (!r) continue;
    clnorm_unplace(&r->tensor, after + r->offset, outputs->values[i]);
    if (look_for_poison(r, outputs->values[i], outputs->counts[i], name, why))
      return CLNORM_CASE_BROKEN;
    if (!clnorm_tail_is_zero(&r->tensor, after + r->offset))
      return broken(why, "left the tail of %s, channel %zu, something but 0", name,
                    (size_t)r->tensor.dims[1]);
  }
  return CLNORM_CASE_RAN;
}

/* ---- Running --------------------------------------------------------------------------------- */

static clnorm_status reserve(clnorm_case_runner *runner, size_t size) {
  if (runner->arena_size >= size) return CLNORM_OK;
  release_arena(runner);
  const clnorm_status status = clnorm_memory_alloc(runner->context, size, &runner->arena);
  if (status == CLNORM_OK) runner->arena_size = size;
  return status;
}

/* Image to the device, one run, and the arena back into `after`, *ran or not. */
static clnorm_status run_once(clnorm_case_runner *runner, clnorm_plan *plan, const layout *l,
                              const clnorm_case_call *call, const unsigned char *image,
                              unsigned char *after, clnorm_status *ran) {
  clnorm_status status = reserve(runner, l->size);
  if (status) return status;
  status = clnorm_memory_write(runner->context, runner->arena, image, l->size);
  if (status) return status;
  *ran = run_plan(runner, l, plan, call);
  if (*ran == CLNORM_ERROR_DEVICE) return *ran;
  if (*ran == CLNORM_OK) status = clnorm_finish(runner->context);
  if (status) return status;
  return clnorm_memory_read(runner->context, runner->arena, after, l->size);
}

static clnorm_case_result failed(const clnorm_case_runner *runner, clnorm_status status,
                                 clnorm_status *reported, clnorm_message *why) {
  *reported = status;
  snprintf(why->text, sizeof why->text, "%s", clnorm_last_error(runner->context));
  return CLNORM_CASE_FAILED;
}

static clnorm_case_result out_of_memory(clnorm_status *reported, clnorm_message *why) {
  *reported = CLNORM_ERROR_OUT_OF_MEMORY;
  snprintf(why->text, sizeof why->text, "no host memory for the case");
  return CLNORM_CASE_FAILED;
}

clnorm_case_result clnorm_case_call_run(clnorm_case_runner *runner, const clnorm_case_call *call,
                                        clnorm_case_outputs *outputs, clnorm_status *status,
                                        clnorm_message *why) {
  clnorm_case_result result;
  clnorm_plan *plan = NULL;
  clnorm_status ran = CLNORM_OK;
  const bool empty = clnorm_case_problem_empty(call->values);
  memset(outputs, 0, sizeof *outputs);
  *status = clnorm_plan_create(runner->context, &call->problem, &plan);
  if (*status) return failed(runner, *status, status, why);

  layout l = lay_out(call, dense_workspace_size(plan));
  unsigned char *image = make_image(&l), *after = malloc(l.size);
  if (!image || !after || !make_outputs(&l, call->values, outputs)) {
    result = out_of_memory(status, why);
    goto done;
  }
  *status = run_once(runner, plan, &l, call, image, after, &ran);
  if (*status || ran) {
    result = failed(runner, *status ? *status : ran, status, why);
    if (ran == CLNORM_OK || ran == CLNORM_ERROR_DEVICE) goto done;
  } else {
    result = collect(&l, call->values, after, outputs, why);
  }
  if (look_at_guards(&l, !ran && !empty, image, after, why) != CLNORM_CASE_RAN)
    result = CLNORM_CASE_BROKEN;
done:
  free(after);
  free(image);
  clnorm_plan_destroy(plan);
  if (runner->arena_size > KEEP_BYTES) release_arena(runner);
  return result;
}

clnorm_case_result clnorm_case_run(clnorm_case_runner *runner, const clnorm_case *item,
                                   const clnorm_case_problem *problem, clnorm_case_outputs *outputs,
                                   clnorm_status *status, clnorm_message *why) {
  clnorm_case_call call = {.problem = dense_problem(&problem->desc),
                           .values = problem,
                           .in_place = item->in_place,
                           .save_mean = item->save_mean,
                           .save_mean_low = item->save_mean_low,
                           .save_invstd = item->save_invstd,
                           .shift = item->shift};
  call.problem.tensors[CLNORM_X] = clnorm_case_tensor(item, CLNORM_X);
  call.problem.tensors[CLNORM_Y] = clnorm_case_tensor(item, CLNORM_Y);
  return clnorm_case_call_run(runner, &call, outputs, status, why);
}
