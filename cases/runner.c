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

static const uint32_t poison = 0xffa5ffa5u;

#define GUARD_BYTES 256
#define KEEP_BYTES ((size_t)16 << 20) /* a larger arena is released after the case */

typedef struct region {
  size_t offset, size;  /* bytes; size 0: absent */
  const float *source;  /* input values; NULL: poisoned */
  clnorm_tensor tensor; /* rank 0: the workspace */
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

/* Both in y's own type, so that ulps are its; false if there is no memory. */
static bool compare_stored(const clnorm_tensor *tensor, size_t count, const float *a,
                           const float *b, clnorm_difference *difference) {
  const size_t size = count * clnorm_dtype_size(tensor->dtype);
  char *both = malloc(2 * size);
  if (!both) return false;
  clnorm_place(tensor, a, both);
  clnorm_place(tensor, b, both + size);
  clnorm_difference_init(difference, sizeof *difference);
  clnorm_compare(tensor, both, tensor, both + size, difference);
  free(both);
  return true;
}

void clnorm_case_compare(const clnorm_case_problem *problem, clnorm_output output, const float *a,
                         const float *b, clnorm_difference *difference) {
  clnorm_tensor tensor;
  int64_t dims[4];
  clnorm_case_problem_output_dims(problem, output, dims);
  dense_compare(dims, a, b, difference);
  if (output != CLNORM_OUTPUT_Y || problem->y_dtype == CLNORM_F32) return;
  if (difference->differing_elements == 0) return;
  const int64_t count = clnorm_case_problem_output_count(problem, output);
  clnorm_tensor_nchw(&tensor, problem->y_dtype, 4, dims);
  if (!compare_stored(&tensor, (size_t)count, a, b, difference))
    dense_compare(dims, a, b, difference); /* in ulps of float */
}

/* ---- Laying out ------------------------------------------------------------------------------ */

static size_t round_up(size_t size) { return (size + 63) & ~(size_t)63; }

static void place(layout *l, enum region_name name, const clnorm_tensor *tensor,
                  const float *source, bool written, unsigned shift) {
  region *r = &l->regions[name];
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
  region *r = &l->regions[REGION_WORKSPACE];
  if (bytes == 0) return;
  r->offset = l->size;
  r->size = bytes;
  r->written = true;
  l->size = round_up(r->offset + bytes) + GUARD_BYTES;
}

static layout lay_out(const clnorm_case *item, const clnorm_case_problem *problem,
                      size_t workspace) {
  const dense_desc *desc = &problem->desc;
  const int64_t channels[2] = {1, desc->channels};
  const clnorm_tensor x = clnorm_case_tensor(item, CLNORM_X),
                      y = clnorm_case_tensor(item, CLNORM_Y);
  clnorm_tensor vector;
  clnorm_tensor_nchw(&vector, CLNORM_F32, 2, channels);
  const bool updated = desc->statistics == CLNORM_BATCH_STATISTICS;
  const unsigned shift = item->shift;
  layout l = {.size = GUARD_BYTES};
  place(&l, REGION_X, &x, problem->x, item->in_place, shift);
  if (!item->in_place) place(&l, REGION_Y, &y, NULL, true, shift);
  if (problem->weight) place(&l, REGION_WEIGHT, &vector, problem->weight, false, shift);
  if (problem->bias) place(&l, REGION_BIAS, &vector, problem->bias, false, shift);
  if (problem->running_mean) {
    place(&l, REGION_RUNNING_MEAN, &vector, problem->running_mean, updated, shift);
    place(&l, REGION_RUNNING_VAR, &vector, problem->running_var, updated, shift);
  }
  if (item->save_mean) place(&l, REGION_SAVED_MEAN, &vector, NULL, true, shift);
  if (item->save_invstd) place(&l, REGION_SAVED_INVSTD, &vector, NULL, true, shift);
  if (desc->external_workspace) place_workspace(&l, workspace);
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

static dense_args arguments(const clnorm_case_runner *runner, const layout *l,
                            const clnorm_case_problem *problem, bool in_place) {
  dense_args args = {.momentum = problem->momentum};
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

/* The guards before, between and after the regions, and the inputs, against the image. A run on an
 * empty tensor writes nothing at all. */
static clnorm_case_result look_at_guards(const layout *l, bool empty, const unsigned char *image,
                                         unsigned char *after, clnorm_message *why) {
  if (!empty) put_back(l, image, after);
  const size_t at = first_unlike(image, after, l->size);
  if (at == l->size) return CLNORM_CASE_RAN;
  const char *before = "the start of the arena";
  size_t end = 0;
  for (int i = 0; i < NUM_REGIONS; i++) {
    const region *r = &l->regions[i];
    if (r->size == 0 || r->offset > at) continue;
    if (at - r->offset < r->size)
      return broken(why,
                    r->written ? "wrote between the elements of %s, at byte %zu"
                               : "wrote to %s, byte %zu, which it must only read",
                    region_names[i], at - r->offset);
    before = region_names[i];
    end = r->offset + r->size;
  }
  return broken(why, "wrote into the guard after %s, %zu bytes on", before, at - end);
}

static clnorm_case_result look_for_poison(const region *r, const float *values, int64_t count,
                                          const char *name, clnorm_message *why) {
  const int64_t one[2] = {1, 1};
  clnorm_tensor element;
  float unwritten;
  clnorm_tensor_nchw(&element, r->tensor.dtype, 2, one);
  clnorm_unplace(&element, &poison, &unwritten);
  for (int64_t i = 0; i < count; i++)
    if (memcmp(&values[i], &unwritten, sizeof unwritten) == 0)
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

static const region *written_region(const layout *l, const clnorm_case *item,
                                    const clnorm_case_problem *problem, clnorm_output output) {
  const region *r = &l->regions[region_of(output, item->in_place)];
  const bool there =
      r->size > 0 && r->written && clnorm_case_problem_output_count(problem, output) > 0;
  return there ? r : NULL;
}

/* Room for all outputs; false if there is no memory. */
static bool make_outputs(const layout *l, const clnorm_case *item,
                         const clnorm_case_problem *problem, clnorm_case_outputs *outputs) {
  int64_t total = 0;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    if (!written_region(l, item, problem, (clnorm_output)i)) continue;
    outputs->counts[i] = clnorm_case_problem_output_count(problem, (clnorm_output)i);
    total += outputs->counts[i];
  }
  outputs->storage = malloc(((size_t)total + 1) * sizeof(float));
  if (!outputs->storage) return false;
  total = 0;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    if (outputs->counts[i] == 0) continue;
    outputs->values[i] = outputs->storage + total;
    total += outputs->counts[i];
  }
  return true;
}

static clnorm_case_result collect(const layout *l, const clnorm_case *item,
                                  const clnorm_case_problem *problem, const unsigned char *after,
                                  clnorm_case_outputs *outputs, clnorm_message *why) {
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    const region *r = written_region(l, item, problem, (clnorm_output)i);
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

/* Image to the device, one run, and the arena back into `after`. */
static clnorm_status run_once(clnorm_case_runner *runner, clnorm_plan *plan, const layout *l,
                              const clnorm_case_problem *problem, bool in_place,
                              const unsigned char *image, unsigned char *after) {
  clnorm_status status = reserve(runner, l->size);
  if (status) return status;
  status = clnorm_memory_write(runner->context, runner->arena, image, l->size);
  if (status) return status;
  const dense_args args = arguments(runner, l, problem, in_place);
  status = dense_run(plan, &args);
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

static clnorm_problem problem_of(const clnorm_case *item, const clnorm_case_problem *problem) {
  clnorm_problem whole = dense_problem(&problem->desc);
  whole.tensors[CLNORM_X] = clnorm_case_tensor(item, CLNORM_X);
  whole.tensors[CLNORM_Y] = clnorm_case_tensor(item, CLNORM_Y);
  return whole;
}

clnorm_case_result clnorm_case_run(clnorm_case_runner *runner, const clnorm_case *item,
                                   const clnorm_case_problem *problem, clnorm_case_outputs *outputs,
                                   clnorm_status *status, clnorm_message *why) {
  clnorm_case_result result;
  clnorm_plan *plan = NULL;
  const clnorm_problem whole = problem_of(item, problem);
  memset(outputs, 0, sizeof *outputs);
  *status = clnorm_plan_create(runner->context, &whole, &plan);
  if (*status) return failed(runner, *status, status, why);

  const layout l = lay_out(item, problem, dense_workspace_size(plan));
  unsigned char *image = make_image(&l), *after = malloc(l.size);
  if (!image || !after || !make_outputs(&l, item, problem, outputs)) {
    result = out_of_memory(status, why);
    goto done;
  }
  *status = run_once(runner, plan, &l, problem, item->in_place, image, after);
  if (*status) {
    result = failed(runner, *status, status, why);
    goto done;
  }
  result = collect(&l, item, problem, after, outputs, why);
  const clnorm_case_result guards =
      look_at_guards(&l, clnorm_case_problem_empty(problem), image, after, why);
  if (guards != CLNORM_CASE_RAN) result = guards;
done:
  free(after);
  free(image);
  clnorm_plan_destroy(plan);
  if (runner->arena_size > KEEP_BYTES) release_arena(runner);
  return result;
}
