#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIN_ROUNDS 5
#define MAX_ROUNDS 301
#define MIN_SAMPLE_S                                                                               \
  0.0005 /* calls are repeated to at least this, so that the clock's grain is nothing */

typedef enum subject { CALL, COPY_CACHED, COPY_STREAMED, NUM_SUBJECTS } subject;

typedef struct bench {
  clnorm_context *context;
  clnorm_forward_plan *plans[NUM_SUBJECTS];
  clnorm_forward_args args;
  int repeats[NUM_SUBJECTS];
  double times[NUM_SUBJECTS][MAX_ROUNDS];
  int rounds;
} bench;

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

static clnorm_status make_operands(bench *b, const clnorm_measure_case *wanted, const float *x) {
  const size_t channels = (size_t)wanted->dims[1];
  clnorm_memory *const small[] = {&b->args.weight, &b->args.bias, &b->args.running_mean,
                                  &b->args.running_var};
  float *ones = malloc(channels * sizeof *ones);
  if (!ones) return CLNORM_ERROR_OUT_OF_MEMORY;
  for (size_t i = 0; i < channels; i++) ones[i] = 1.0f;
  clnorm_status status = upload(b->context, tensor_elements(wanted->dims), x, &b->args.x);
  if (status == CLNORM_OK)
    status = upload(b->context, tensor_elements(wanted->dims), x, &b->args.y); /* touch pages */
  for (size_t i = 0; i < sizeof small / sizeof *small && status == CLNORM_OK; i++)
    status = upload(b->context, channels, ones, small[i]);
  free(ones);
  b->args.momentum = 0.9;
  return status;
}

static clnorm_status make_plans(bench *b, const clnorm_measure_case *wanted) {
  const int64_t *d = wanted->dims;
  clnorm_forward_desc desc = clnorm_forward_desc_defaults(
      wanted->op == CLNORM_BENCH_EVAL ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS, d[0],
      d[1], d[2] * d[3]);
  desc.variant = wanted->variant;
  desc.store = wanted->store;
  clnorm_status status = clnorm_forward_plan_create(b->context, &desc, &b->plans[CALL]);
  desc.statistics = CLNORM_NO_STATISTICS;
  desc.store = CLNORM_STORE_CACHED;
  if (status == CLNORM_OK)
    status = clnorm_forward_plan_create(b->context, &desc, &b->plans[COPY_CACHED]);
  desc.store = CLNORM_STORE_STREAMED;
  if (status == CLNORM_OK)
    status = clnorm_forward_plan_create(b->context, &desc, &b->plans[COPY_STREAMED]);
  return status;
}

static void release(bench *b) {
  clnorm_memory *const all[] = {
      &b->args.x,          &b->args.y, &b->args.weight, &b->args.bias, &b->args.running_mean,
      &b->args.running_var};
  for (int i = 0; i < NUM_SUBJECTS; i++) clnorm_forward_plan_destroy(b->plans[i]);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) clnorm_memory_free(b->context, all[i]);
}

/* ---- Checking -------------------------------------------------------------------------------------- */

/* The same operation on the CPU path must give the same bits. */
static clnorm_status check(bench *b, clnorm_context *baseline, const clnorm_measure_case *wanted,
                           const float *x, clnorm_message *message) {
  bench other = {.context = baseline};
  clnorm_difference difference = {.elements = 0};
  clnorm_status status = make_operands(&other, wanted, x);
  if (status == CLNORM_OK) status = make_plans(&other, wanted);
  if (status == CLNORM_OK) status = clnorm_forward_run(other.plans[CALL], &other.args);
  if (status == CLNORM_OK) status = clnorm_forward_run(b->plans[CALL], &b->args);
  if (status == CLNORM_OK)
    status = clnorm_compare_memory(b->context, b->args.y, baseline, other.args.y, wanted->dims,
                                   &difference);
  release(&other);
  if (status == CLNORM_OK && difference.differing_elements) {
    snprintf(message->text, sizeof message->text,
             "%lld elements differ from the CPU path: run clnorm verify",
             (long long)difference.differing_elements);
    return CLNORM_ERROR_DEVICE;
  }
  return status;
}

/* ---- Timing ---------------------------------------------------------------------------------------- */

static clnorm_status time_calls(bench *b, subject which, int repeats, double *seconds) {
  const double start = clnorm_now();
  for (int i = 0; i < repeats; i++) {
    const clnorm_status status = clnorm_forward_run(b->plans[which], &b->args);
    if (status != CLNORM_OK) return status;
  }
  const clnorm_status status = clnorm_finish(b->context);
  *seconds = (clnorm_now() - start) / repeats;
  return status;
}

/* Finds how many calls make a sample, and warms up. */
static clnorm_status calibrate(bench *b, subject which) {
  double seconds = 0;
  b->repeats[which] = 1;
  for (;;) {
    const clnorm_status status = time_calls(b, which, b->repeats[which], &seconds);
    if (status != CLNORM_OK) return status;
    if (seconds * b->repeats[which] >= MIN_SAMPLE_S || b->repeats[which] >= 1 << 16)
      return CLNORM_OK;
    b->repeats[which] *= 2;
  }
}

static clnorm_status time_rounds(bench *b, double budget) {
  clnorm_status status = CLNORM_OK;
  for (int i = 0; i < NUM_SUBJECTS && status == CLNORM_OK; i++) status = calibrate(b, (subject)i);
  const double start = clnorm_now();
  while (status == CLNORM_OK && b->rounds < MAX_ROUNDS &&
         (b->rounds < MIN_ROUNDS || clnorm_now() - start < budget)) {
    for (int i = 0; i < NUM_SUBJECTS && status == CLNORM_OK; i++)
      status = time_calls(b, (subject)i, b->repeats[i], &b->times[i][b->rounds]);
    b->rounds++;
  }
  return status;
}

static void summarize(bench *b, const clnorm_measure_case *wanted, clnorm_measurement *result) {
  double medians[NUM_SUBJECTS], sorted[MAX_ROUNDS];
  for (int i = 0; i < NUM_SUBJECTS; i++) {
    memcpy(sorted, b->times[i], sizeof sorted);
    medians[i] = clnorm_median(sorted, b->rounds);
  }
  const subject best = medians[COPY_CACHED] <= medians[COPY_STREAMED] ? COPY_CACHED : COPY_STREAMED;
  for (int i = 0; i < b->rounds; i++) sorted[i] = b->times[best][i] / b->times[CALL][i];
  const double bytes = (double)tensor_elements(wanted->dims) * sizeof(float);
  result->median_s = medians[CALL];
  result->ceiling_s = medians[best];
  result->fraction = clnorm_median(sorted, b->rounds);
  result->floor_bytes = 2 * bytes;
  result->stream_bytes = (wanted->op == CLNORM_BENCH_TRAIN ? 3 : 2) * bytes;
  result->extra_bytes = clnorm_forward_plan_workspace_size(b->plans[CALL]);
  result->rounds = b->rounds;
  snprintf(result->variant, sizeof result->variant, "%s",
           clnorm_forward_plan_description(b->plans[CALL]));
}

clnorm_status clnorm_measure(clnorm_context *context, clnorm_context *baseline,
                             const clnorm_measure_case *wanted, clnorm_measurement *result,
                             clnorm_message *message) {
  bench *b = calloc(1, sizeof *b);
  float *x = malloc(tensor_elements(wanted->dims) * sizeof *x);
  clnorm_status status = b && x ? CLNORM_OK : CLNORM_ERROR_OUT_OF_MEMORY;
  message->text[0] = '\0';
  if (status != CLNORM_OK) {
    snprintf(message->text, sizeof message->text, "no host memory for the tensor");
    goto done;
  }
  b->context = context;
  fill(x, tensor_elements(wanted->dims));
  status = make_operands(b, wanted, x);
  if (status == CLNORM_OK) status = make_plans(b, wanted);
  if (status == CLNORM_OK && wanted->check) status = check(b, baseline, wanted, x, message);
  if (status == CLNORM_OK) status = time_rounds(b, wanted->seconds);
  if (status == CLNORM_OK) summarize(b, wanted, result);
  if (status != CLNORM_OK && !message->text[0])
    snprintf(message->text, sizeof message->text, "%s", clnorm_last_error(context));
  release(b);
done:
  free(x);
  free(b);
  return status;
}
