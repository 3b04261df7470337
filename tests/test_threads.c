/* Contexts on several threads at once, one each: all give the bits of one context alone. The device comes
 * from the environment; on OpenCL, all threads also fill and read one new program cache. */
#include "fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer/folder.h"

enum { THREADS = 8, ROUNDS = 3, N = 3, C = 7, H = 37, W = 29, S = H * W, COUNT = N * C * S };

/* What one thread computes; `failure` is "" where all went well (cmocka asserts on the main thread only). */
typedef struct results {
  float split[COUNT], channel[COUNT], given[COUNT];
  float running_mean[C], running_var[C];
  float module[COUNT], module_mean[C];
} results;

typedef struct job {
  clnorm_context_options options;
  const char *device;
  pthread_barrier_t *start;
  results out;
  char failure[2300];
} job;

static float x[COUNT], weight[C], bias[C], mean[C], var[C];

static bool good(job *j, const clnorm_context *context, clnorm_status status, const char *what) {
  if (status == CLNORM_OK) return true;
  if (!j->failure[0])
    snprintf(j->failure, sizeof j->failure, "%s: %s: %s", what, clnorm_status_name(status),
             context ? clnorm_last_error(context) : "no context");
  return false;
}
#define TRY(call) ok = ok && good(j, context, (call), #call)

/* A copy of values in the context's memory, from which its thread reads the results back. */
static clnorm_memory copy(job *j, clnorm_context *context, const float *values, size_t count) {
  clnorm_memory memory = {NULL, NULL, 0, 0};
  bool ok = true;
  TRY(clnorm_memory_alloc(context, count * sizeof *values, &memory));
  TRY(clnorm_memory_write(context, memory, values, count * sizeof *values));
  return memory;
}

static void forward(job *j, clnorm_context *context, clnorm_statistics statistics,
                    clnorm_cut variant, float *y, float *running_mean, float *running_var) {
  dense_desc desc = dense_desc_defaults(statistics, N, C, S);
  clnorm_plan *plan = NULL;
  bool ok = true;
  desc.cut = variant;
  dense_args args = {.x = copy(j, context, x, COUNT),
                     .y = copy(j, context, x, COUNT),
                     .weight = copy(j, context, weight, C),
                     .bias = copy(j, context, bias, C),
                     .running_mean = copy(j, context, mean, C),
                     .running_var = copy(j, context, var, C),
                     .momentum = 0.9};
  TRY(dense_plan_create(context, &desc, &plan));
  TRY(dense_run(plan, &args));
  TRY(clnorm_memory_read(context, args.y, y, COUNT * sizeof *y));
  TRY(clnorm_memory_read(context, args.running_mean, running_mean, C * sizeof *running_mean));
  TRY(clnorm_memory_read(context, args.running_var, running_var, C * sizeof *running_var));
  clnorm_plan_destroy(plan);
  clnorm_memory *const all[] = {
      &args.x, &args.y, &args.weight, &args.bias, &args.running_mean, &args.running_var};
  for (size_t i = 0; i < FIXTURE_LENGTH(all); i++) clnorm_memory_free(context, all[i]);
}

static void module(job *j, clnorm_context *context) {
  static const int64_t dims[4] = {N, C, H, W};
  const clnorm_batchnorm_options options = dense_batchnorm_options(C);
  clnorm_batchnorm *bn = NULL;
  bool ok = true;
  clnorm_memory data = copy(j, context, x, COUNT);
  const dense_args args = {.x = data, .y = data};
  TRY(clnorm_batchnorm_create(context, &options, &bn));
  for (int training = 1; training >= 0 && ok; training--) {
    clnorm_batchnorm_set_training(bn, training != 0);
    TRY(dense_batchnorm_forward(bn, 4, dims, &args));
  }
  TRY(clnorm_memory_read(context, data, j->out.module, sizeof j->out.module));
  TRY(dense_batchnorm_get(bn, CLNORM_RUNNING_MEAN, j->out.module_mean, C));
  clnorm_batchnorm_destroy(bn);
  clnorm_memory_free(context, &data);
}

static void *work(void *argument) {
  job *j = argument;
  results *out = &j->out;
  if (j->start) pthread_barrier_wait(j->start);
  clnorm_context *context = NULL;
  clnorm_message message;
  const clnorm_status status = clnorm_context_create(j->device, &j->options, &context, &message);
  if (status != CLNORM_OK) {
    snprintf(j->failure, sizeof j->failure, "%s", message.text);
    return NULL;
  }
  float unchanged[C];
  forward(j, context, CLNORM_BATCH_STATISTICS, CLNORM_CUT_CHANNEL, out->channel, unchanged,
          out->running_var);
  forward(j, context, CLNORM_BATCH_STATISTICS, CLNORM_CUT_SPLIT, out->split, out->running_mean,
          out->running_var);
  forward(j, context, CLNORM_GIVEN_STATISTICS, CLNORM_CUT_AUTO, out->given, unchanged, unchanged);
  module(j, context);
  clnorm_context_destroy(context);
  return NULL;
}

static job *make_jobs(int count, const char *device, clnorm_context_options options) {
  job *jobs = calloc((size_t)count, sizeof *jobs);
  assert_non_null(jobs);
  for (int i = 0; i < count; i++) {
    jobs[i].device = device;
    jobs[i].options = options;
  }
  return jobs;
}

/* Starts all jobs at one moment, and waits for them. */
static void run_jobs(job *jobs) {
  pthread_t threads[THREADS];
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, THREADS);
  for (int i = 0; i < THREADS; i++) {
    jobs[i].start = &start;
    assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&start);
}

static void same_bits(const job *jobs, const results *expected) {
  for (int i = 0; i < THREADS; i++) {
    if (jobs[i].failure[0]) fail_msg("thread %d: %s", i, jobs[i].failure);
    if (memcmp(&jobs[i].out, expected, sizeof *expected) != 0)
      fail_msg("thread %d has other bits", i);
  }
}

static void contexts_at_once(void **state) {
  (void)state;
  static const char cache[] = CLNORM_TEST_BINARY_DIR "/threads-cache";
  fixture_fill(x, COUNT, 1, 5, 2);
  fixture_fill(weight, C, 2, 1, 0.3);
  fixture_fill(bias, C, 3, 0, 0.3);
  fixture_fill(mean, C, 4, 5, 0.1);
  fixture_fill(var, C, 5, 4, 0.1);
  job *alone = make_jobs(1, "cpu", dense_context_options());
  work(alone);
  assert_string_equal(alone->failure, "");
  for (int round = 0; round < ROUNDS; round++) {
    clnorm_context_options options = fixture_options();
    options.cache_dir = cache;
    if (round < 2)
      folder_empty(cache); /* then all threads write the same entries; at last they read */
    options.num_threads = round;
    job *jobs = make_jobs(THREADS, fixture_device(), options);
    run_jobs(jobs);
    same_bits(jobs, &alone->out);
    free(jobs);
  }
  free(alone);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(contexts_at_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
