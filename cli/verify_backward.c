#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backward.h"
#include "measure.h"
#include "messages.h"
#include "verify_device.h"

enum { X, DY, WEIGHT, MEAN, VAR, NUM_INPUTS };
enum { DX, DWEIGHT, DBIAS, NUM_GRADIENTS };
static const int32_t gradients[NUM_GRADIENTS] = {CLNORM_DX, CLNORM_DWEIGHT, CLNORM_DBIAS};

/* The backward pass of a case: operands in host memory, in doubles and as the tensors have them. */
typedef struct pass {
  const clnorm_case *item;
  clnorm_case_operands operands;
  clnorm_problem problem;
  double *dy;
  clnorm_binding inputs[NUM_INPUTS];
  size_t num_inputs;
  void *memory[NUM_INPUTS];
  /* of the baseline */
  void *expected[NUM_GRADIENTS];
  double ratio;
} pass;

/* ---- Operands -------------------------------------------------------------------------------- */

static clnorm_tensor channels_tensor(const pass *p) {
  const int64_t dims[2] = {1, p->item->dims[1]};
  clnorm_tensor tensor;
  clnorm_tensor_nchw(&tensor, clnorm_case_problem_real(&p->operands.problem), 2, dims);
  return tensor;
}

static clnorm_tensor gradient_tensor(const pass *p, int gradient) {
  return gradient == DX ? p->problem.tensors[CLNORM_DX] : channels_tensor(p);
}

/* False if there is no memory. values NULL: there is no such operand. */
static bool add_input(pass *p, int32_t role, const clnorm_tensor *tensor, const double *values) {
  const size_t bytes = (size_t)clnorm_tensor_bytes(tensor);
  if (!values || !bytes) return true;
  void *memory = calloc(bytes, 1);
  if (!memory) return false;
  clnorm_place(tensor, values, memory);
  p->memory[p->num_inputs] = memory;
  p->inputs[p->num_inputs++] = clnorm_bind(role, clnorm_host_memory(memory, bytes));
  return true;
}

/* Between -1 and 1, as dy's type holds them; other ones for every case. */
static bool make_dy(pass *p) {
  const clnorm_case *item = p->item;
  const int64_t count = item->dims[0] * item->dims[1] * item->dims[2] * item->dims[3];
  uint64_t state = item->seed * 2 + 1;
  p->dy = malloc((size_t)count * sizeof *p->dy + 1);
  for (int64_t i = 0; p->dy && i < count; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    p->dy[i] = clnorm_rounded(item->y_dtype, (double)(int64_t)(state >> 12) * 0x1p-51 - 1);
  }
  return p->dy != NULL;
}

static bool pass_make(const clnorm_case *item, int variant, pass *p) {
  memset(p, 0, sizeof *p);
  p->item = item;
  if (!clnorm_case_operands_make(item, &p->operands) || !make_dy(p)) return false;
  const clnorm_case_problem *forward = &p->operands.problem;
  const bool given = item->statistics == CLNORM_GIVEN_STATISTICS;
  clnorm_problem *problem = &p->problem;
  clnorm_problem_init(problem, sizeof *problem);
  problem->operation = CLNORM_BACKWARD;
  problem->statistics = item->statistics;
  problem->recompute = !given;
  problem->eps = item->eps;
  problem->cut = variant < CLNORM_ALL_VARIANTS ? variant : (int)item->variant;
  problem->tensors[CLNORM_X] = problem->tensors[CLNORM_DX] = clnorm_case_tensor(item, CLNORM_X);
  problem->tensors[CLNORM_DY] = clnorm_case_tensor(item, CLNORM_Y);
  const clnorm_tensor channels = channels_tensor(p);
  return add_input(p, CLNORM_X, &problem->tensors[CLNORM_X], forward->x) &&
         add_input(p, CLNORM_DY, &problem->tensors[CLNORM_DY], p->dy) &&
         add_input(p, CLNORM_WEIGHT, &channels, forward->weight) &&
         (!given || (add_input(p, CLNORM_RUNNING_MEAN, &channels, forward->running_mean) &&
                     add_input(p, CLNORM_RUNNING_VAR, &channels, forward->running_var)));
}

static void pass_free(pass *p) {
  for (int i = 0; i < NUM_INPUTS; i++) free(p->memory[i]);
  for (int i = 0; i < NUM_GRADIENTS; i++) free(p->expected[i]);
  free(p->dy);
  clnorm_case_operands_free(&p->operands);
}

/* ---- Running --------------------------------------------------------------------------------- */

typedef struct run_memory {
  clnorm_binding bindings[NUM_INPUTS + NUM_GRADIENTS];
  size_t count;
} run_memory;

/* Memory of the context for one operand; values NULL: for an output. */
static clnorm_status add_memory(clnorm_context *context, run_memory *m, int32_t role,
                                const void *values, size_t bytes) {
  clnorm_memory memory;
  const clnorm_status status = clnorm_memory_alloc(context, bytes, &memory);
  if (status != CLNORM_OK) return status;
  m->bindings[m->count++] = clnorm_bind(role, memory);
  return values && bytes ? clnorm_memory_write(context, memory, values, bytes) : CLNORM_OK;
}

/* Gradients into memory that the caller frees. */
static clnorm_status run_on(clnorm_context *context, const pass *p, void *values[NUM_GRADIENTS]) {
  run_memory m = {.count = 0};
  clnorm_plan *plan = NULL;
  clnorm_status status = clnorm_plan_create(context, &p->problem, &plan);
  for (size_t i = 0; i < p->num_inputs && status == CLNORM_OK; i++)
    status = add_memory(context, &m, p->inputs[i].role, p->inputs[i].memory.host,
                        p->inputs[i].memory.size);
  for (int i = 0; i < NUM_GRADIENTS && status == CLNORM_OK; i++) {
    const clnorm_tensor tensor = gradient_tensor(p, i);
    const size_t bytes = (size_t)clnorm_tensor_bytes(&tensor);
    status = add_memory(context, &m, gradients[i], NULL, bytes);
    values[i] = calloc(bytes + 1, 1);
    if (!values[i]) status = CLNORM_ERROR_OUT_OF_MEMORY;
  }
  if (status == CLNORM_OK) status = clnorm_run(plan, m.bindings, m.count, NULL);
  for (int i = 0; i < NUM_GRADIENTS && status == CLNORM_OK; i++) {
    const clnorm_memory memory = m.bindings[m.count - NUM_GRADIENTS + (size_t)i].memory;
    if (memory.size) status = clnorm_memory_read(context, memory, values[i], memory.size);
  }
  for (size_t i = 0; i < m.count; i++) clnorm_memory_free(context, &m.bindings[i].memory);
  clnorm_plan_destroy(plan);
  return status;
}

/* ---- Judging --------------------------------------------------------------------------------- */

/* One channel of the baseline's gradients, in doubles; where no bound is given, 0. */
static double channel_ratio(const pass *p, const clnorm_gradient_case *item, int64_t c,
                            double *const values[NUM_GRADIENTS]) {
  clnorm_gradient_channel k;
  double worst = 0;
  clnorm_gradient_channel_make(item, c, &k);
  const long double far = fabsl(k.origin + k.mean) * k.invstd;
  if (!isfinite(k.invstd) || !isfinite(far) || far > 1e6L || k.invstd > 0x1p50L) return 0;
  worst = fmax(worst, clnorm_gradient_ratio(values[DWEIGHT][c], k.dweight, k.dweight_bound));
  worst = fmax(worst, clnorm_gradient_ratio(values[DBIAS][c], k.dbias, k.dbias_bound));
  for (int64_t n = 0; n < item->batch; n++)
    for (int64_t s = 0; s < item->spatial; s++) {
      const int64_t at = (n * item->channels + c) * item->spatial + s;
      long double bound;
      const long double dx = clnorm_gradient_dx(&k, item->x[at], item->dy[at], &bound);
      bound += clnorm_gradient_rounding(
          p->item->x_dtype, clnorm_case_problem_real(&p->operands.problem), fabsl(dx) + bound);
      worst = fmax(worst, clnorm_gradient_ratio(values[DX][at], dx, bound));
    }
  return worst;
}

/* The worst error of the baseline's gradients in units of its bound; below 0: no memory. */
static double reference_ratio(const pass *p) {
  const clnorm_case_problem *forward = &p->operands.problem;
  const size_t channels = (size_t)p->item->dims[1];
  const size_t count = (size_t)(p->item->dims[0] * p->item->dims[2] * p->item->dims[3]) * channels;
  const int32_t real = clnorm_case_problem_real(forward);
  clnorm_gradient_case item = {.batch = p->item->dims[0],
                               .channels = p->item->dims[1],
                               .spatial = p->item->dims[2] * p->item->dims[3],
                               .x = forward->x,
                               .dy = p->dy,
                               .weight = forward->weight,
                               .eps =
                                   real == CLNORM_F64 ? p->item->eps : (double)(float)p->item->eps,
                               .unit = real == CLNORM_F64 ? 0x1p-53L : 0x1p-24L};
  double *storage = malloc((count + 2 * channels) * sizeof *storage + 1), worst = -1;
  long double *given = malloc(2 * channels * sizeof *given + 1);
  item.factor = clnorm_gradient_guarantee(item.batch, item.spatial);
  if (storage && given) {
    double *const values[NUM_GRADIENTS] = {storage, storage + count, storage + count + channels};
    for (int i = 0; i < NUM_GRADIENTS; i++) {
      const clnorm_tensor tensor = gradient_tensor(p, i);
      clnorm_unplace(&tensor, p->expected[i], values[i]);
    }
    if (p->item->statistics == CLNORM_GIVEN_STATISTICS) {
      item.mean = given;
      item.invstd = given + channels;
      for (size_t c = 0; c < channels; c++) {
        given[c] = forward->running_mean[c];
        given[channels + c] = 1 / sqrtl(forward->running_var[c] + (long double)item.eps);
      }
    }
    worst = 0;
    for (int64_t c = 0; c < item.channels && p->item->data != CLNORM_DATA_OVERFLOW; c++)
      worst = fmax(worst, channel_ratio(p, &item, c, values));
  }
  free(storage);
  free(given);
  return worst;
}

/* Adds what differs from the baseline's bits. */
static void judge(clnorm_verify_device *d, const pass *p, void *const values[NUM_GRADIENTS],
                  clnorm_totals *totals, clnorm_failure *failure) {
  for (int i = 0; i < NUM_GRADIENTS; i++) {
    const clnorm_tensor tensor = gradient_tensor(p, i);
    char place[CLNORM_PLACE_SIZE];
    clnorm_difference difference;
    clnorm_difference_init(&difference, sizeof difference);
    clnorm_compare(&tensor, p->expected[i], &tensor, values[i], &difference);
    clnorm_print_place(&difference, place);
    clnorm_add_named_difference(totals, d->found.histogram, failure, clnorm_role_name(gradients[i]),
                                place, &difference);
  }
  if (p->ratio > totals->worst_bound_ratio) totals->worst_bound_ratio = p->ratio;
}

/* What is promised on a device that flushes subnormal values is not retraced for gradients. */
static bool needs_subnormals(const clnorm_case *item) {
  return item->data == CLNORM_DATA_SUBNORMAL || item->data == CLNORM_DATA_TINY;
}

static void run_subject(clnorm_verify_device *d, clnorm_verify_subject *who, const pass *p,
                        clnorm_totals *totals) {
  void *values[NUM_GRADIENTS] = {NULL};
  clnorm_context *context = who->target->context;
  clnorm_failure failure = clnorm_verify_failure(d, who->target->label, p->item);
  const bool kept = clnorm_promise_kept(context, d->baseline.context);
  const double start = clnorm_now();
  const clnorm_status status =
      kept || !needs_subnormals(p->item) ? run_on(context, p, values) : CLNORM_ERROR_UNSUPPORTED;
  totals->seconds += clnorm_now() - start;
  if (status == CLNORM_ERROR_UNSUPPORTED) {
    clnorm_verify_not_run(d, who, p->item, totals,
                          kept ? clnorm_last_error(context)
                               : "gradients of subnormal values on a device that flushes them");
  } else if (clnorm_exit_status(status) == CLNORM_EXIT_DEVICE) {
    clnorm_target_give_up(who->target, "backward failed on %s: %.1000s",
                          clnorm_shape_text_of(p->item->dims).text, clnorm_last_error(context));
  } else {
    totals->cases++;
    if (status != CLNORM_OK)
      snprintf(failure.first, sizeof failure.first, "%.300s", clnorm_last_error(context));
    else
      judge(d, p, values, totals, &failure);
  }
  if (failure.first[0]) clnorm_add_failure(&d->found, &failure);
  for (int i = 0; i < NUM_GRADIENTS; i++) free(values[i]);
}

int clnorm_verify_backward(clnorm_verify_device *d, const clnorm_case *item, size_t group) {
  pass p;
  const char *trouble = "no host memory for a case of backward";
  int status = CLNORM_EXIT_DEVICE;
  if (pass_make(item, d->plan->variant, &p)) {
    const clnorm_status ran = run_on(d->baseline.context, &p, p.expected);
    if (ran != CLNORM_OK) trouble = clnorm_last_error(d->baseline.context);
    p.ratio = ran == CLNORM_OK ? reference_ratio(&p) : -1;
  } else {
    p.ratio = -1;
  }
  if (p.ratio >= 0) {
    clnorm_failure failure = clnorm_verify_failure(d, d->baseline.label, item);
    status = CLNORM_EXIT_GOOD;
    if (p.ratio > 1) {
      snprintf(failure.first, sizeof failure.first, "error %.3g times its bound", p.ratio);
      clnorm_add_failure(&d->found, &failure);
    }
    for (size_t i = 0; i < d->num_subjects; i++)
      if (clnorm_target_works(d->subjects[i].target) &&
          clnorm_verify_takes(d->subjects[i].target, item))
        run_subject(d, &d->subjects[i], &p, &d->subjects[i].totals[group]);
  } else {
    clnorm_complain("%s: %s", d->baseline.label, trouble);
  }
  pass_free(&p);
  return status;
}
