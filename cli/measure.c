#include "measure.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIN_ROUNDS 5
#define MAX_ROUNDS 301
#define MIN_SAMPLE_S                                                                               \
  0.0005 /* calls are repeated to at least this, so that the clock's grain is nothing */

/* What is timed in every round: a plan on operands. */
typedef struct subject {
  clnorm_context *context;
  const clnorm_forward_args *args;
  clnorm_forward_plan *plan;
  int repeats;
  double times[MAX_ROUNDS];
} subject;

enum { CALL, COPY_CACHED, COPY_STREAMED }; /* the subjects of clnorm_measure */
enum { MAX_SUBJECTS = 3, MAX_CONTEXTS = 2 };

typedef struct bench {
  const clnorm_measure_case *wanted;
  float *x;
  clnorm_context *contexts[MAX_CONTEXTS]; /* with the operands of each */
  clnorm_forward_args args[MAX_CONTEXTS];
  int num_contexts;
  subject subjects[MAX_SUBJECTS];
  int num_subjects;
  int rounds;
} bench;

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
static void fill(float *values, size_t count) {
  uint64_t state = 88172645463325252u;
  for (size_t i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    values[i] = (float)(state >> 40) * 0x1p-22f - 1.0f;
  }
}

static clnorm_status upload(clnorm_context *context, size_t count, const float *values,
                            clnorm_memory *memory) {
  clnorm_status status = clnorm_memory_alloc(context, count * sizeof *values, memory);
  if (status == CLNORM_OK)
    status = clnorm_memory_write(context, *memory, values, count * sizeof *values);
  return status;
}

static clnorm_status make_operands(clnorm_context *context, const clnorm_measure_case *wanted,
                                   const float *x, clnorm_forward_args *args) {
  const size_t channels = (size_t)wanted->dims[1];
  clnorm_memory *const small[] = {&args->weight, &args->bias, &args->running_mean,
                                  &args->running_var};
  float *ones = malloc(channels * sizeof *ones);
  if (!ones) return CLNORM_ERROR_OUT_OF_MEMORY;
  for (size_t i = 0; i < channels; i++) ones[i] = 1.0f;
  clnorm_status status = upload(context, tensor_elements(wanted->dims), x, &args->x);
  if (status == CLNORM_OK)
    status = upload(context, tensor_elements(wanted->dims), x, &args->y); /* touch pages */
  for (size_t i = 0; i < sizeof small / sizeof *small && status == CLNORM_OK; i++)
    status = upload(context, channels, ones, small[i]);
  free(ones);
  args->momentum = 0.9;
  return status;
}

static void free_operands(clnorm_context *context, clnorm_forward_args *args) {
  clnorm_memory *const all[] = {
      &args->x, &args->y, &args->weight, &args->bias, &args->running_mean, &args->running_var};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) clnorm_memory_free(context, all[i]);
}

static clnorm_forward_desc describe(const clnorm_measure_case *wanted, clnorm_variant variant,
                                    clnorm_store store) {
  const int64_t *d = wanted->dims;
  clnorm_forward_desc desc = clnorm_forward_desc_defaults(
      wanted->op == CLNORM_BENCH_EVAL ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS, d[0],
      d[1], d[2] * d[3]);
  desc.variant = variant;
  desc.store = store;
  return desc;
}

/* The operands of a context, made when first asked for; NULL, and *status, where that fails. */
static const clnorm_forward_args *operands_of(bench *b, clnorm_context *context,
                                              clnorm_status *status) {
  for (int i = 0; i < b->num_contexts; i++)
    if (b->contexts[i] == context) return &b->args[i];
  clnorm_forward_args *args = &b->args[b->num_contexts];
  b->contexts[b->num_contexts++] = context;
  *status = make_operands(context, b->wanted, b->x, args);
  return *status == CLNORM_OK ? args : NULL;
}

static clnorm_status add_subject(bench *b, clnorm_context *context,
                                 const clnorm_forward_desc *desc) {
  clnorm_status status = CLNORM_OK;
  subject *s = &b->subjects[b->num_subjects++];
  s->context = context;
  s->args = operands_of(b, context, &status);
  return s->args ? clnorm_forward_plan_create(context, desc, &s->plan) : status;
}

static bench *create(const clnorm_measure_case *wanted, clnorm_message *message) {
  const size_t count = tensor_elements(wanted->dims);
  bench *b = calloc(1, sizeof *b);
  message->text[0] = '\0';
  if (b) b->x = malloc(count * sizeof *b->x);
  if (!b || !b->x) {
    free(b);
    snprintf(message->text, sizeof message->text, "no host memory for the tensor");
    return NULL;
  }
  b->wanted = wanted;
  fill(b->x, count);
  return b;
}

static void release(bench *b) {
  for (int i = 0; i < b->num_subjects; i++) clnorm_forward_plan_destroy(b->subjects[i].plan);
  for (int i = 0; i < b->num_contexts; i++) free_operands(b->contexts[i], &b->args[i]);
  free(b->x);
  free(b);
}

/* ---- Checking -------------------------------------------------------------------------------------- */

/* y, overwritten before, is what the baseline has. */
static clnorm_status check_subject(const bench *b, const subject *s, clnorm_context *baseline,
                                   clnorm_memory expected, clnorm_message *message) {
  const int64_t *dims = b->wanted->dims;
  clnorm_difference difference = {.elements = 0};
  clnorm_status status =
      clnorm_memory_write(s->context, s->args->y, b->x, tensor_elements(dims) * sizeof *b->x);
  if (status == CLNORM_OK) status = clnorm_forward_run(s->plan, s->args);
  if (status == CLNORM_OK)
    status = clnorm_compare_memory(s->context, s->args->y, baseline, expected, dims, &difference);
  if (status != CLNORM_OK)
    snprintf(message->text, sizeof message->text, "%s", clnorm_last_error(s->context));
  if (status == CLNORM_OK && difference.differing_elements) {
    snprintf(message->text, sizeof message->text,
             "%lld elements differ from the CPU path: run clnorm verify",
             (long long)difference.differing_elements);
    return CLNORM_ERROR_DEVICE;
  }
  return status;
}

/* The same operation on the CPU path must give the same bits as the first `count` subjects. */
static clnorm_status check(const bench *b, int count, clnorm_context *baseline,
                           clnorm_message *message) {
  const clnorm_forward_desc desc = describe(b->wanted, CLNORM_VARIANT_AUTO, CLNORM_STORE_AUTO);
  clnorm_forward_args args = {.momentum = 0};
  clnorm_forward_plan *plan = NULL;
  clnorm_status status = make_operands(baseline, b->wanted, b->x, &args);
  if (status == CLNORM_OK) status = clnorm_forward_plan_create(baseline, &desc, &plan);
  if (status == CLNORM_OK) status = clnorm_forward_run(plan, &args);
  if (status != CLNORM_OK)
    snprintf(message->text, sizeof message->text, "%s", clnorm_last_error(baseline));
  for (int i = 0; i < count && status == CLNORM_OK; i++)
    status = check_subject(b, &b->subjects[i], baseline, args.y, message);
  clnorm_forward_plan_destroy(plan);
  free_operands(baseline, &args);
  return status;
}

/* ---- Timing ---------------------------------------------------------------------------------------- */

static clnorm_status time_calls(const subject *s, double *seconds) {
  const double start = clnorm_now();
  for (int i = 0; i < s->repeats; i++) {
    const clnorm_status status = clnorm_forward_run(s->plan, s->args);
    if (status != CLNORM_OK) return status;
  }
  /* Reading back ends the sample: clFinish of rusticl 22.3 returns before the work is done. */
  float first;
  const clnorm_status status = clnorm_memory_read(s->context, s->args->y, &first, sizeof first);
  *seconds = (clnorm_now() - start) / s->repeats;
  return status;
}

/* Finds how many calls make a sample, and warms up. */
static clnorm_status calibrate(subject *s) {
  double seconds = 0;
  s->repeats = 1;
  for (;;) {
    const clnorm_status status = time_calls(s, &seconds);
    if (status != CLNORM_OK) return status;
    if (seconds * s->repeats >= MIN_SAMPLE_S || s->repeats >= 1 << 16) return CLNORM_OK;
    s->repeats *= 2;
  }
}

static clnorm_status time_rounds(bench *b, clnorm_message *message) {
  clnorm_status status = CLNORM_OK;
  int i = 0;
  for (; i < b->num_subjects && status == CLNORM_OK; i++) status = calibrate(&b->subjects[i]);
  const double start = clnorm_now();
  while (status == CLNORM_OK && b->rounds < MAX_ROUNDS &&
         (b->rounds < MIN_ROUNDS || clnorm_now() - start < b->wanted->seconds)) {
    for (i = 0; i < b->num_subjects && status == CLNORM_OK; i++)
      status = time_calls(&b->subjects[i], &b->subjects[i].times[b->rounds]);
    b->rounds++;
  }
  if (status != CLNORM_OK)
    snprintf(message->text, sizeof message->text, "%s",
             clnorm_last_error(b->subjects[i - 1].context));
  return status;
}

static double median_time(const bench *b, int which) {
  double sorted[MAX_ROUNDS];
  memcpy(sorted, b->subjects[which].times, sizeof sorted);
  return clnorm_median(sorted, b->rounds);
}

/* Over rounds, of the time of one subject over that of another. */
static double median_ratio(const bench *b, int over, int under) {
  double ratios[MAX_ROUNDS];
  for (int i = 0; i < b->rounds; i++)
    ratios[i] = b->subjects[over].times[i] / b->subjects[under].times[i];
  return clnorm_median(ratios, b->rounds);
}

/* ---- One call beside the ceiling ------------------------------------------------------------------- */

static void summarize(const bench *b, clnorm_measurement *result) {
  const double cached = median_time(b, COPY_CACHED), streamed = median_time(b, COPY_STREAMED);
  const double bytes = (double)tensor_elements(b->wanted->dims) * sizeof(float);
  const clnorm_forward_plan *plan = b->subjects[CALL].plan;
  result->median_s = median_time(b, CALL);
  result->ceiling_s = cached <= streamed ? cached : streamed;
  result->fraction = median_ratio(b, cached <= streamed ? COPY_CACHED : COPY_STREAMED, CALL);
  result->floor_bytes = 2 * bytes;
  result->stream_bytes = (b->wanted->op == CLNORM_BENCH_TRAIN ? 3 : 2) * bytes;
  result->extra_bytes = clnorm_forward_plan_workspace_size(plan);
  result->rounds = b->rounds;
  snprintf(result->variant, sizeof result->variant, "%s", clnorm_forward_plan_description(plan));
}

static clnorm_status add_copy(bench *b, clnorm_context *context, clnorm_store store) {
  clnorm_forward_desc desc = describe(b->wanted, CLNORM_VARIANT_AUTO, store);
  desc.statistics = CLNORM_NO_STATISTICS;
  return add_subject(b, context, &desc);
}

clnorm_status clnorm_measure(clnorm_context *context, clnorm_context *baseline,
                             const clnorm_measure_case *wanted, clnorm_measurement *result,
                             clnorm_message *message) {
  bench *b = create(wanted, message);
  if (!b) return CLNORM_ERROR_OUT_OF_MEMORY;
  const clnorm_forward_desc desc = describe(wanted, wanted->variant, wanted->store);
  clnorm_status status = add_subject(b, context, &desc);
  if (status == CLNORM_OK) status = add_copy(b, context, CLNORM_STORE_CACHED);
  if (status == CLNORM_OK) status = add_copy(b, context, CLNORM_STORE_STREAMED);
  if (status != CLNORM_OK)
    snprintf(message->text, sizeof message->text, "%s", clnorm_last_error(context));
  if (status == CLNORM_OK && wanted->check) status = check(b, 1, baseline, message);
  if (status == CLNORM_OK) status = time_rounds(b, message);
  if (status == CLNORM_OK) summarize(b, result);
  release(b);
  return status;
}

/* ---- Two ways -------------------------------------------------------------------------------------- */

clnorm_status clnorm_measure_ways(const clnorm_measure_way ways[2], clnorm_context *baseline,
                                  const clnorm_measure_case *wanted, clnorm_comparison *result,
                                  clnorm_message *message) {
  bench *b = create(wanted, message);
  if (!b) return CLNORM_ERROR_OUT_OF_MEMORY;
  clnorm_status status = CLNORM_OK;
  for (int i = 0; i < 2 && status == CLNORM_OK; i++) {
    const clnorm_forward_desc desc = describe(wanted, ways[i].variant, ways[i].store);
    status = add_subject(b, ways[i].context, &desc);
    if (status != CLNORM_OK)
      snprintf(message->text, sizeof message->text, "%s", clnorm_last_error(ways[i].context));
  }
  if (status == CLNORM_OK && wanted->check) status = check(b, 2, baseline, message);
  if (status == CLNORM_OK) status = time_rounds(b, message);
  if (status == CLNORM_OK) {
    for (int i = 0; i < 2; i++) result->median_s[i] = median_time(b, i);
    result->ratio = median_ratio(b, 0, 1);
    result->rounds = b->rounds;
  }
  release(b);
  return status;
}
