#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

/* Operands in memory, each one between two guards:
 *
 *   | guard | x | guard | y | guard | weight | guard | ...
 *
 * Every operand starts `shift` elements after a multiple of 64 bytes (the workspace at one, as the
 * API asks). All that is not an input's value holds `poison`, a NaN that no arithmetic makes; what
 * a run reads beyond its operands therefore shows in its results, what it writes beyond them in the
 * guards. */
enum region_name {
  REGION_X,
  REGION_Y,
  REGION_WEIGHT,
  REGION_BIAS,
  REGION_RUNNING_MEAN,
  REGION_RUNNING_VAR,
  REGION_SAVED_MEAN,
  REGION_SAVED_INVSTD,
  REGION_WORKSPACE,
  NUM_REGIONS
};

static const char *const region_names[NUM_REGIONS] = {
    "x",           "y",          "weight",       "bias",     "running_mean",
    "running_var", "saved_mean", "saved_invstd", "workspace"};

static const uint32_t poison = 0xffa5a5a5u;

#define GUARD_BYTES 256
#define KEEP_BYTES ((size_t)16 << 20) /* a larger arena is released after the case */

typedef struct region {
  size_t offset, size; /* bytes; size 0: absent */
  const float *source; /* input values; NULL: poisoned */
  bool written;
} region;

typedef struct layout {
  region regions[NUM_REGIONS];
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

void clnorm_case_compare(const clnorm_problem *problem, clnorm_output output, const float *a,
                         const float *b, clnorm_difference *difference) {
  int64_t dims[4];
  clnorm_problem_output_dims(problem, output, dims);
  clnorm_compare(dims, a, b, difference);
}

/* ---- Laying out ------------------------------------------------------------------------------ */

static size_t round_up(size_t size) { return (size + 63) & ~(size_t)63; }

static void place(layout *l, enum region_name name, size_t bytes, const float *source, bool written,
                  unsigned shift) {
  if (bytes == 0) return;
  region *r = &l->regions[name];
  r->offset = l->size + shift * sizeof(float);
  r->size = bytes;
  r->source = source;
  r->written = written;
  l->size = round_up(r->offset + bytes) + GUARD_BYTES;
}

static layout lay_out(const clnorm_case *item, const clnorm_problem *problem, size_t workspace) {
  const clnorm_forward_desc *desc = &problem->desc;
  const size_t tensor = (size_t)(desc->batch * desc->channels * desc->spatial) * sizeof(float);
  const size_t vector = (size_t)desc->channels * sizeof(float);
  const bool updated = desc->statistics == CLNORM_BATCH_STATISTICS;
  const unsigned shift = item->shift;
  layout l = {.size = GUARD_BYTES};
  place(&l, REGION_X, tensor, problem->x, item->in_place, shift);
  if (!item->in_place) place(&l, REGION_Y, tensor, NULL, true, shift);
  if (problem->weight) place(&l, REGION_WEIGHT, vector, problem->weight, false, shift);
  if (problem->bias) place(&l, REGION_BIAS, vector, problem->bias, false, shift);
  if (problem->running_mean) {
    place(&l, REGION_RUNNING_MEAN, vector, problem->running_mean, updated, shift);
    place(&l, REGION_RUNNING_VAR, vector, problem->running_var, updated, shift);
  }
  if (item->save_mean) place(&l, REGION_SAVED_MEAN, vector, NULL, true, shift);
  if (item->save_invstd) place(&l, REGION_SAVED_INVSTD, vector, NULL, true, shift);
  if (desc->external_workspace) place(&l, REGION_WORKSPACE, workspace, NULL, true, 0);
  return l;
}

/* The arena's contents before the run. */
static unsigned char *make_image(const layout *l) {
  unsigned char *image = malloc(l->size);
  if (!image) return NULL;
  for (size_t i = 0; i < l->size; i += sizeof poison) memcpy(image + i, &poison, sizeof poison);
  for (int i = 0; i < NUM_REGIONS; i++) {
    const region *r = &l->regions[i];
    if (r->source) memcpy(image + r->offset, r->source, r->size);
  }
  return image;
}

static clnorm_memory memory_of(const clnorm_case_runner *runner, const layout *l,
                               enum region_name name) {
  const region *r = &l->regions[name];
  clnorm_memory memory = {0};
  if (r->size == 0) return memory;
  memory = runner->arena;
  memory.offset += r->offset;
  memory.size = r->size;
  return memory;
}

static clnorm_forward_args arguments(const clnorm_case_runner *runner, const layout *l,
                                     const clnorm_problem *problem, bool in_place) {
  clnorm_forward_args args = {.momentum = problem->momentum};
  args.x = memory_of(runner, l, REGION_X);
  args.y = memory_of(runner, l, in_place ? REGION_X : REGION_Y);
  args.weight = memory_of(runner, l, REGION_WEIGHT);
  args.bias = memory_of(runner, l, REGION_BIAS);
  args.running_mean = memory_of(runner, l, REGION_RUNNING_MEAN);
  args.running_var = memory_of(runner, l, REGION_RUNNING_VAR);
  args.saved_mean = memory_of(runner, l, REGION_SAVED_MEAN);
  args.saved_invstd = memory_of(runner, l, REGION_SAVED_INVSTD);
  args.workspace = memory_of(runner, l, REGION_WORKSPACE);
  return args;
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

/* The guards before, between and after the regions, and the inputs, against the image. A run on an
 * empty tensor writes nothing at all. */
static clnorm_case_result look_at_guards(const layout *l, bool empty, const unsigned char *image,
                                         const unsigned char *after, clnorm_message *why) {
  const char *before = "the start of the arena";
  size_t position = 0;
  for (int i = 0; i <= NUM_REGIONS; i++) {
    const region *r = i < NUM_REGIONS ? &l->regions[i] : NULL;
    if (r && r->size == 0) continue;
    const size_t end = r ? r->offset : l->size;
    const size_t at = position + first_unlike(image + position, after + position, end - position);
    if (at < end)
      return broken(why, "wrote into the guard after %s, %zu bytes on", before, at - position);
    if (!r) break;
    position = end;
    if (r->written && !empty) {
      position += r->size;
    } else {
      const size_t inside = first_unlike(image + position, after + position, r->size);
      if (inside < r->size)
        return broken(why, "wrote to %s, byte %zu, which it must only read", region_names[i],
                      inside);
      position += r->size;
    }
    before = region_names[i];
  }
  return CLNORM_CASE_RAN;
}

static clnorm_case_result look_for_poison(const float *values, int64_t count, const char *name,
                                          clnorm_message *why) {
  for (int64_t i = 0; i < count; i++)
    if (memcmp(&values[i], &poison, sizeof poison) == 0)
      return broken(why, "left %s[%zu] unwritten", name, (size_t)i);
  return CLNORM_CASE_RAN;
}

/* Where an output is found after the run. */
static enum region_name region_of(clnorm_output output, bool in_place) {
  switch (output) {
  case CLNORM_OUTPUT_Y:
    return in_place ? REGION_X : REGION_Y;
  case CLNORM_OUTPUT_RUNNING_MEAN:
    return REGION_RUNNING_MEAN;
  case CLNORM_OUTPUT_RUNNING_VAR:
    return REGION_RUNNING_VAR;
  case CLNORM_OUTPUT_SAVED_MEAN:
    return REGION_SAVED_MEAN;
  default:
    return REGION_SAVED_INVSTD;
  }
}

/* Points outputs into `after`, which becomes theirs. */
static clnorm_case_result collect(const layout *l, const clnorm_case *item,
                                  const clnorm_problem *problem, unsigned char *after,
                                  clnorm_case_outputs *outputs, clnorm_message *why) {
  outputs->storage = (float *)(void *)after;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    const region *r = &l->regions[region_of((clnorm_output)i, item->in_place)];
    const int64_t count = clnorm_problem_output_count(problem, (clnorm_output)i);
    if (r->size == 0 || !r->written || count == 0) continue;
    outputs->counts[i] = count;
    outputs->values[i] = (float *)(void *)(after + r->offset);
    const char *name = clnorm_output_name((clnorm_output)i);
    if (look_for_poison(outputs->values[i], count, name, why)) return CLNORM_CASE_BROKEN;
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

/* Image to the device, one run, and the arena back into `after`. */
static clnorm_status run_once(clnorm_case_runner *runner, clnorm_forward_plan *plan,
                              const layout *l, const clnorm_problem *problem, bool in_place,
                              const unsigned char *image, unsigned char *after) {
  clnorm_status status = reserve(runner, l->size);
  if (status) return status;
  status = clnorm_memory_write(runner->context, runner->arena, image, l->size);
  if (status) return status;
  const clnorm_forward_args args = arguments(runner, l, problem, in_place);
  status = clnorm_forward_run(plan, &args);
  if (status) return status;
  status = clnorm_finish(runner->context);
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

clnorm_case_result clnorm_case_run(clnorm_case_runner *runner, const clnorm_case *item,
                                   const clnorm_problem *problem, clnorm_case_outputs *outputs,
                                   clnorm_status *status, clnorm_message *why) {
  clnorm_case_result result;
  clnorm_forward_plan *plan = NULL;
  memset(outputs, 0, sizeof *outputs);
  *status = clnorm_forward_plan_create(runner->context, &problem->desc, &plan);
  if (*status) return failed(runner, *status, status, why);

  const layout l = lay_out(item, problem, clnorm_forward_plan_workspace_size(plan));
  unsigned char *image = make_image(&l), *after = malloc(l.size);
  if (!image || !after) {
    free(after);
    result = out_of_memory(status, why);
    goto done;
  }
  *status = run_once(runner, plan, &l, problem, item->in_place, image, after);
  if (*status) {
    free(after);
    result = failed(runner, *status, status, why);
    goto done;
  }
  result = collect(&l, item, problem, after, outputs, why);
  const clnorm_case_result guards =
      look_at_guards(&l, clnorm_problem_empty(problem), image, after, why);
  if (guards != CLNORM_CASE_RAN) result = guards;
done:
  free(image);
  clnorm_forward_plan_destroy(plan);
  if (runner->arena_size > KEEP_BYTES) release_arena(runner);
  return result;
}
