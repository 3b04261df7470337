#include "rounds.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pipeline.h"

#define MIN_ROUNDS 5
/* Calls are repeated to at least this, so that the clock's grain is nothing. */
#define MIN_SAMPLE_S 0.0005
#define MAX_REPEATS (1 << 16)
/* Where the least number of rounds takes longer, there are as many as fit. */
#define LONGEST_S 60

const char *const clnorm_bench_op_names[] = {"eval", "train"};

clnorm_shape_text clnorm_shape_text_of(const int64_t dims[4]) {
  clnorm_shape_text shape;
  snprintf(shape.text, sizeof shape.text, "%" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64, dims[0],
           dims[1], dims[2], dims[3]);
  return shape;
}

double clnorm_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double clnorm_median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, ascending);
  return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* ---- Setting up ------------------------------------------------------------------------------------ */

static size_t tensor_elements(const int64_t dims[4]) {
  return (size_t)dims[0] * (size_t)dims[1] * (size_t)dims[2] * (size_t)dims[3];
}

/* Values in [-1, 3), different from element to element. */
static void fill(double *values, size_t count) {
  uint64_t state = 88172645463325252u;
  for (size_t i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    values[i] = (double)(state >> 40) * 0x1p-22 - 1;
  }
}

static clnorm_tensor tensor_of(const clnorm_measure_case *wanted, clnorm_layout layout) {
  clnorm_tensor tensor;
  clnorm_layout_tensor(&tensor, layout, wanted->dtype, 4, wanted->dims);
  return tensor;
}

static size_t tensor_bytes(const clnorm_measure_case *wanted) {
  const clnorm_tensor tensor = tensor_of(wanted, wanted->layout);
  return (size_t)clnorm_tensor_bytes(&tensor);
}

static clnorm_status make_plan(clnorm_context *context, const clnorm_measure_case *wanted,
                               const dense_desc *desc, clnorm_plan **plan) {
  clnorm_problem problem = dense_problem(desc);
  const bool copy = problem.operation == CLNORM_COPY;
  problem.tensors[CLNORM_X] = tensor_of(wanted, copy ? CLNORM_LAYOUT_NCHW : wanted->layout);
  return clnorm_plan_create(context, &problem, plan);
}

static clnorm_status upload(clnorm_context *context, size_t bytes, const void *values,
                            clnorm_memory *memory) {
  clnorm_status status = clnorm_memory_alloc(context, bytes, memory);
  if (status == CLNORM_OK) status = clnorm_memory_write(context, *memory, values, bytes);
  return status;
}

static clnorm_status make_operands(clnorm_context *context, const clnorm_measure_case *wanted,
                                   const void *x, dense_args *args) {
  clnorm_tensor reals; /* one a channel */
  clnorm_tensor_nchw(&reals, wanted->dtype == CLNORM_F64 ? CLNORM_F64 : CLNORM_F32, 2,
                     (const int64_t[]){1, wanted->dims[1]});
  const size_t channels = (size_t)wanted->dims[1], bytes = (size_t)clnorm_tensor_bytes(&reals);
  clnorm_memory *const small[] = {&args->weight, &args->bias, &args->running_mean,
                                  &args->running_var};
  double *ones = malloc(bytes + channels * sizeof *ones);
  if (!ones) return CLNORM_ERROR_OUT_OF_MEMORY;
  for (size_t i = 0; i < channels; i++) ones[i] = 1;
  clnorm_place(&reals, ones, ones + channels);
  clnorm_status status = upload(context, tensor_bytes(wanted), x, &args->x);
  if (status == CLNORM_OK)
    status = upload(context, tensor_bytes(wanted), x, &args->y); /* touch pages */
  for (size_t i = 0; i < sizeof small / sizeof *small && status == CLNORM_OK; i++)
    status = upload(context, bytes, ones + channels, small[i]);
  free(ones);
  args->momentum = 0.9;
  return status;
}

static void free_operands(clnorm_context *context, dense_args *args) {
  clnorm_memory *const all[] = {
      &args->x, &args->y, &args->weight, &args->bias, &args->running_mean, &args->running_var};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) clnorm_memory_free(context, all[i]);
}

dense_desc clnorm_rounds_describe(const clnorm_measure_case *wanted, clnorm_cut variant,
                                  clnorm_store store) {
  const int64_t *d = wanted->dims;
  dense_desc desc = dense_desc_defaults(wanted->op == CLNORM_BENCH_EVAL ? CLNORM_GIVEN_STATISTICS
                                                                        : CLNORM_BATCH_STATISTICS,
                                        d[0], d[1], d[2] * d[3]);
  desc.cut = variant;
  desc.store = store;
  return desc;
}

/* The operands of a context, made when first asked for; NULL, and *status, where that fails. */
static const dense_args *operands_of(clnorm_rounds *b, clnorm_context *context,
                                     clnorm_status *status) {
  for (int i = 0; i < b->num_contexts; i++)
    if (b->contexts[i] == context) return &b->args[i];
  dense_args *args = &b->args[b->num_contexts];
  b->contexts[b->num_contexts++] = context;
  *status = make_operands(context, b->wanted, b->x, args);
  return *status == CLNORM_OK ? args : NULL;
}

static clnorm_status failed(clnorm_context *context, clnorm_status status,
                            clnorm_message *message) {
  if (status != CLNORM_OK)
    snprintf(message->text, sizeof message->text, "%s", clnorm_last_error(context));
  return status;
}

clnorm_status clnorm_rounds_add(clnorm_rounds *b, clnorm_context *context, const dense_desc *desc,
                                clnorm_message *message) {
  clnorm_status status = CLNORM_OK;
  clnorm_subject *s = &b->subjects[b->num_subjects++];
  s->context = context;
  s->args = operands_of(b, context, &status);
  if (s->args) status = make_plan(context, b->wanted, desc, &s->plan);
  return failed(context, status, message);
}

clnorm_status clnorm_rounds_in_pipeline(clnorm_rounds *b, clnorm_message *message) {
  clnorm_status status = CLNORM_OK;
  b->rounds = 0;
  for (int i = 0; i < b->num_contexts && status == CLNORM_OK; i++) {
    b->pipelines[i] = clnorm_pipeline_create(b->contexts[i], &b->args[i], b->x,
                                             tensor_bytes(b->wanted), b->wanted->threads, &status);
    failed(b->contexts[i], status, message);
  }
  return status;
}

/* x of a case; NULL if there is no memory. */
static void *make_x(const clnorm_measure_case *wanted) {
  const clnorm_tensor tensor = tensor_of(wanted, wanted->layout);
  const size_t count = tensor_elements(wanted->dims);
  double *values = malloc(count * sizeof *values);
  void *x = calloc(1, tensor_bytes(wanted));
  if (values && x && tensor_bytes(wanted) > 0) {
    fill(values, count);
    clnorm_place(&tensor, values, x);
  } else {
    free(x);
    x = NULL;
  }
  free(values);
  return x;
}

clnorm_rounds *clnorm_rounds_create(const clnorm_measure_case *wanted, clnorm_message *message) {
  clnorm_rounds *b = calloc(1, sizeof *b);
  message->text[0] = '\0';
  if (b) b->x = make_x(wanted);
  if (!b || !b->x) {
    free(b);
    snprintf(message->text, sizeof message->text, "no host memory for the tensor");
    return NULL;
  }
  b->wanted = wanted;
  return b;
}

void clnorm_rounds_destroy(clnorm_rounds *b) {
  for (int i = 0; i < b->num_subjects; i++) clnorm_plan_destroy(b->subjects[i].plan);
  for (int i = 0; i < b->num_contexts; i++) {
    clnorm_pipeline_destroy(b->pipelines[i]);
    free_operands(b->contexts[i], &b->args[i]);
  }
  free(b->x);
  free(b);
}

/* ---- Checking -------------------------------------------------------------------------------------- */

/* y, overwritten before, is what the baseline has. */
static clnorm_status check_subject(const clnorm_rounds *b, const clnorm_subject *s,
                                   clnorm_context *baseline, clnorm_memory expected,
                                   clnorm_message *message) {
  const clnorm_tensor y = tensor_of(b->wanted, b->wanted->layout);
  clnorm_difference difference;
  clnorm_difference_init(&difference, sizeof difference);
  clnorm_status status = clnorm_memory_write(s->context, s->args->y, b->x, tensor_bytes(b->wanted));
  if (status == CLNORM_OK) status = dense_run(s->plan, s->args);
  if (status == CLNORM_OK)
    status = clnorm_compare_memory(s->context, &y, s->args->y, baseline, &y, expected, &difference);
  failed(s->context, status, message);
  if (status == CLNORM_OK && difference.differing_elements) {
    snprintf(message->text, sizeof message->text,
             "%lld elements differ from the CPU path: run clnorm verify",
             (long long)difference.differing_elements);
    return CLNORM_ERROR_DEVICE;
  }
  return status;
}

clnorm_status clnorm_rounds_check(const clnorm_rounds *b, int first, int end,
                                  clnorm_context *baseline, clnorm_message *message) {
  const dense_desc desc = clnorm_rounds_describe(b->wanted, CLNORM_CUT_AUTO, CLNORM_STORE_AUTO);
  dense_args args = {.momentum = 0};
  clnorm_plan *plan = NULL;
  clnorm_status status = make_operands(baseline, b->wanted, b->x, &args);
  if (status == CLNORM_OK) status = make_plan(baseline, b->wanted, &desc, &plan);
  if (status == CLNORM_OK) status = dense_run(plan, &args);
  failed(baseline, status, message);
  for (int i = first; i < end && status == CLNORM_OK; i++)
    status = check_subject(b, &b->subjects[i], baseline, args.y, message);
  clnorm_plan_destroy(plan);
  free_operands(baseline, &args);
  return status;
}

/* ---- Timing ---------------------------------------------------------------------------------------- */

static clnorm_status time_calls(const clnorm_subject *s, double *seconds) {
  const double start = clnorm_now();
  for (int i = 0; i < s->repeats; i++) {
    const clnorm_status status = dense_run(s->plan, s->args);
    if (status != CLNORM_OK) return status;
  }
  /* Reading back ends the sample: clFinish of rusticl 22.3 returns before the work is done. */
  char first;
  const clnorm_status status = clnorm_memory_read(s->context, s->args->y, &first, sizeof first);
  *seconds = (clnorm_now() - start) / s->repeats;
  return status;
}

/* By the device's clock, which one event after the other is asked for. */
static clnorm_status time_events(const clnorm_subject *s, double *seconds) {
  double sum = 0, run = 0;
  for (int i = 0; i < s->repeats; i++, sum += run) {
    clnorm_status status = dense_run(s->plan, s->args);
    if (status == CLNORM_OK) status = clnorm_last_run_seconds(s->context, &run);
    if (status != CLNORM_OK) return status;
  }
  *seconds = sum / s->repeats;
  return CLNORM_OK;
}

static clnorm_status time_sample(const clnorm_rounds *b, const clnorm_subject *s, double *seconds) {
  clnorm_pipeline *pipeline = NULL;
  const bool device_time = b->wanted->device_time;
  for (int i = 0; i < b->num_contexts; i++)
    if (b->contexts[i] == s->context) pipeline = b->pipelines[i];
  if (pipeline)
    return clnorm_pipeline_time(pipeline, s->plan, s->args, s->repeats, device_time, seconds);
  return device_time ? time_events(s, seconds) : time_calls(s, seconds);
}

/* Finds how many calls make a sample, and warms up. */
static clnorm_status calibrate(const clnorm_rounds *b, clnorm_subject *s) {
  const int most = b->pipelines[0] ? CLNORM_PIPELINE_REPEATS : MAX_REPEATS;
  s->repeats = 1;
  for (;;) {
    double seconds = 0;
    const double start = clnorm_now();
    const clnorm_status status = time_sample(b, s, &seconds);
    const double least = b->wanted->device_time ? clnorm_now() - start : seconds * s->repeats;
    if (status != CLNORM_OK || least >= MIN_SAMPLE_S || s->repeats >= most) return status;
    s->repeats *= 2;
  }
}

static bool enough(const clnorm_rounds *b, double elapsed) {
  if (b->rounds == CLNORM_MAX_ROUNDS) return true;
  if (b->rounds < MIN_ROUNDS) return false;
  return elapsed >= (b->rounds < b->wanted->min_rounds ? LONGEST_S : b->wanted->seconds);
}

clnorm_status clnorm_rounds_time(clnorm_rounds *b, clnorm_message *message) {
  clnorm_status status = CLNORM_OK;
  for (int i = 0; i < b->num_subjects && status == CLNORM_OK; i++)
    status = failed(b->subjects[i].context, calibrate(b, &b->subjects[i]), message);
  const double start = clnorm_now();
  for (; status == CLNORM_OK && !enough(b, clnorm_now() - start); b->rounds++)
    for (int i = 0; i < b->num_subjects && status == CLNORM_OK; i++) {
      clnorm_subject *s = &b->subjects[(b->rounds + i) % b->num_subjects];
      status = failed(s->context, time_sample(b, s, &s->times[b->rounds]), message);
    }
  return status;
}

double clnorm_rounds_median(const clnorm_rounds *b, int which) {
  double sorted[CLNORM_MAX_ROUNDS];
  memcpy(sorted, b->subjects[which].times, sizeof sorted);
  return clnorm_median(sorted, b->rounds);
}

double clnorm_rounds_ratio(const clnorm_rounds *b, int over, int under) {
  double ratios[CLNORM_MAX_ROUNDS];
  for (int i = 0; i < b->rounds; i++)
    ratios[i] = b->subjects[over].times[i] / b->subjects[under].times[i];
  return clnorm_median(ratios, b->rounds);
}

double clnorm_rounds_bytes(const clnorm_rounds *b) {
  return (double)tensor_elements(b->wanted->dims) * (double)clnorm_dtype_size(b->wanted->dtype);
}
