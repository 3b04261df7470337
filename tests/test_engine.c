/* What an engine relies on that has queues, commands and memory of its own: the library waits for nothing it
 * did not promise, orders what shares a workspace or running statistics and nothing else, on whatever queue.
 * The first device of the first platform that the environment shows. Commands are held back by user events:
 * where the library waits for one, a test hangs, and the alarm ends it. */
#include "fixture.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <clnorm/clnorm_opencl.h>

enum { N = 4, C = 6, H = 37, W = 29, S = H * W, COUNT = N * C * S, BYTES = COUNT * 4, RUNS = 12 };

typedef enum queue_name { IN_ORDER, SECOND, OUT_OF_ORDER, NUM_QUEUES } queue_name;

static struct {
  cl_context context;
  cl_device_id device;
  cl_command_queue queues[NUM_QUEUES]; /* out of order: NULL where the device has none */
} cl;

static float inputs[RUNS][COUNT], normalized[RUNS][COUNT]; /* by split_desc, on the CPU path */

#define cl_ok(call) assert_int_equal((call), CL_SUCCESS)

/* ---- Objects of the engine ------------------------------------------------------------------------ */

static cl_command_queue make_queue(cl_command_queue_properties properties) {
  cl_int code;
  cl_command_queue queue = clCreateCommandQueue(cl.context, cl.device, properties, &code);
  cl_ok(code);
  return queue;
}

static cl_mem make_buffer(cl_mem_flags flags, const float *values) {
  cl_int code;
  cl_mem buffer = clCreateBuffer(cl.context, flags | CL_MEM_COPY_HOST_PTR, BYTES,
                                 (void *)(uintptr_t)values, &code);
  cl_ok(code);
  return buffer;
}

static void read_buffer(cl_mem buffer, float *values) {
  cl_command_queue queue = make_queue(0); /* which nothing holds back */
  cl_ok(clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, BYTES, values, 0, NULL, NULL));
  clReleaseCommandQueue(queue);
}

static void assert_holds(cl_mem buffer, const float *expected) {
  static float values[COUNT];
  read_buffer(buffer, values);
  assert_memory_equal(values, expected, BYTES);
}

static cl_event make_gate(void) {
  cl_int code;
  cl_event gate = clCreateUserEvent(cl.context, &code);
  cl_ok(code);
  return gate;
}

static void open_gate(cl_event gate) {
  cl_ok(clSetUserEventStatus(gate, CL_COMPLETE));
  clReleaseEvent(gate);
}

static cl_int progress_of(cl_event event) {
  cl_int progress;
  cl_ok(clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof progress, &progress, NULL));
  return progress;
}

static void pause_ms(long milliseconds) {
  const struct timespec t = {0, milliseconds * 1000000};
  nanosleep(&t, NULL);
}

/* How the event ends: CL_COMPLETE or an error; what it is after 10 seconds where it does not. */
static cl_int outcome(cl_event event) {
  for (int i = 0; i < 1000 && progress_of(event) > CL_COMPLETE; i++) pause_ms(10);
  return progress_of(event);
}

static void assert_held_back(cl_event event) {
  pause_ms(100);
  assert_true(progress_of(event) > CL_COMPLETE);
}

static clnorm_context *adopt(queue_name queue) {
  clnorm_context *context = NULL;
  clnorm_message message;
  const clnorm_context_options options = fixture_options();
  const clnorm_status status = clnorm_context_create_opencl(cl.context, cl.device, cl.queues[queue],
                                                            &options, &context, &message);
  if (status != CLNORM_OK) fail_msg("%s", message.text);
  return context;
}

/* Three launches, which share a workspace. */
static clnorm_plan *make_plan(clnorm_context *context) {
  dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  clnorm_plan *plan = NULL;
  desc.cut = CLNORM_CUT_SPLIT;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  return plan;
}

/* A run in memory of its own. */
typedef struct job {
  cl_mem x, y;
  cl_event first, done;
} job;

static job start_run(clnorm_context *context, clnorm_plan *plan, int input, cl_event after,
                     cl_command_queue queue) {
  job j = {make_buffer(CL_MEM_READ_WRITE, inputs[input]),
           make_buffer(CL_MEM_READ_WRITE, inputs[input]), NULL, NULL};
  const clnorm_opencl_sync sync = {after ? 1 : 0, after ? &after : NULL, &j.done, &j.first, queue};
  const dense_args args = {
      .x = clnorm_opencl_memory(j.x, 0, 0), .y = clnorm_opencl_memory(j.y, 0, 0), .sync = &sync};
  assert_ok(context, dense_run(plan, &args));
  assert_non_null(j.first);
  assert_non_null(j.done);
  return j;
}

static void end_run(job *j) {
  clReleaseEvent(j->first);
  clReleaseEvent(j->done);
  clReleaseMemObject(j->x);
  clReleaseMemObject(j->y);
}

static void assert_done(job *j, int input) {
  assert_int_equal(outcome(j->done), CL_COMPLETE);
  assert_int_equal(outcome(j->first), CL_COMPLETE);
  assert_holds(j->y, normalized[input]);
  end_run(j);
}

/* ---- Nothing is waited for ------------------------------------------------------------------------ */

static void destroying_waits_for_nothing(void **state) {
  (void)state;
  for (int q = 0; q < NUM_QUEUES; q++) {
    if (!cl.queues[q]) continue;
    clnorm_context *context = adopt((queue_name)q);
    clnorm_plan *plan = make_plan(context);
    cl_event gate = make_gate();
    job j = start_run(context, plan, 0, gate, NULL);
    clnorm_plan_destroy(plan);
    clnorm_context_destroy(context);
    assert_held_back(j.done);
    open_gate(gate);
    assert_done(&j, 0);
  }
}

/* The engine's command is held back on the queue; nothing that follows it can be done. */
static void shapes_and_modules_wait_for_nothing(void **state) {
  (void)state;
  static const float value = 1;
  clnorm_context *context = adopt(IN_ORDER);
  clnorm_batchnorm *bn = NULL;
  clnorm_memory memory;
  const clnorm_batchnorm_options options = dense_batchnorm_options(C);
  assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
  assert_ok(context, clnorm_memory_alloc(context, BYTES, &memory));
  cl_mem x = make_buffer(CL_MEM_READ_WRITE, inputs[0]);
  cl_event gate = make_gate();
  cl_ok(clEnqueueWriteBuffer(cl.queues[IN_ORDER], x, CL_FALSE, 0, sizeof value, &value, 1, &gate,
                             NULL));
  for (int i = 0; i < 18; i++) {
    const int64_t dims[4] = {N, C, 2, 2 + i};
    const dense_args args = {.x = clnorm_opencl_memory(x, 0, 0), .y = memory};
    assert_ok(context, dense_batchnorm_forward(bn, 4, dims, &args));
  }
  clnorm_batchnorm_destroy(bn);
  clnorm_memory_free(context, &memory);
  clnorm_context_destroy(context);
  open_gate(gate);
  cl_ok(clFinish(cl.queues[IN_ORDER]));
  clReleaseMemObject(x);
}

/* ---- Order ---------------------------------------------------------------------------------------- */

/* Runs of two plans share nothing: on a queue that is out of order, and from queue to queue. */
static void runs_of_two_plans_are_independent(void **state) {
  static const queue_name pairs[][2] = {{OUT_OF_ORDER, OUT_OF_ORDER}, {IN_ORDER, SECOND}};
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(pairs); i++) {
    if (!cl.queues[pairs[i][0]]) continue;
    clnorm_context *context = adopt(pairs[i][0]);
    clnorm_plan *held = make_plan(context), *free_one = make_plan(context);
    cl_event gate = make_gate();
    job first = start_run(context, held, 0, gate, NULL);
    job second = start_run(context, free_one, 1, NULL, cl.queues[pairs[i][1]]);
    assert_done(&second, 1);
    assert_held_back(first.done);
    open_gate(gate);
    assert_done(&first, 0);
    clnorm_plan_destroy(held);
    clnorm_plan_destroy(free_one);
    clnorm_context_destroy(context);
  }
}

/* Runs of one plan share its workspace: the second follows the first, on any queues. */
static void runs_of_one_plan_follow_each_other(void **state) {
  (void)state;
  for (int a = 0; a < NUM_QUEUES; a++)
    for (int b = 0; b < NUM_QUEUES; b++) {
      if (!cl.queues[a] || !cl.queues[b]) continue;
      clnorm_context *context = adopt((queue_name)a);
      clnorm_plan *plan = make_plan(context);
      cl_event gate = make_gate(), own = make_gate();
      job first = start_run(context, plan, 0, gate, NULL);
      job second = start_run(context, plan, 1, own, cl.queues[b]);
      job third = start_run(context, plan, 2, NULL, cl.queues[a]);
      open_gate(own);
      assert_held_back(second.done);
      assert_held_back(third.done);
      open_gate(gate);
      assert_done(&first, 0);
      assert_done(&second, 1);
      assert_done(&third, 2);
      clnorm_plan_destroy(plan);
      clnorm_context_destroy(context);
    }
}

/* With a workspace of the caller's for each there is nothing to order. */
static void a_workspace_of_the_caller_orders_nothing(void **state) {
  (void)state;
  if (!cl.queues[OUT_OF_ORDER]) return;
  clnorm_context *context = adopt(OUT_OF_ORDER);
  dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  clnorm_plan *plan = NULL;
  clnorm_memory workspaces[2];
  cl_event gate = make_gate(), done[2] = {NULL, NULL};
  cl_mem x = make_buffer(CL_MEM_READ_WRITE, inputs[0]);
  cl_mem y[2] = {make_buffer(CL_MEM_READ_WRITE, inputs[0]),
                 make_buffer(CL_MEM_READ_WRITE, inputs[0])};
  desc.cut = CLNORM_CUT_SPLIT;
  desc.external_workspace = true;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  for (int i = 0; i < 2; i++) {
    const clnorm_opencl_sync sync = {.num_events_in_wait_list = i == 0,
                                     .event_wait_list = i == 0 ? &gate : NULL,
                                     .event = &done[i]};
    assert_ok(context, clnorm_memory_alloc(context, dense_workspace_size(plan), &workspaces[i]));
    const dense_args args = {.x = clnorm_opencl_memory(x, 0, 0),
                             .y = clnorm_opencl_memory(y[i], 0, 0),
                             .workspace = workspaces[i],
                             .sync = &sync};
    assert_ok(context, dense_run(plan, &args));
  }
  assert_int_equal(outcome(done[1]), CL_COMPLETE);
  assert_held_back(done[0]);
  open_gate(gate);
  assert_int_equal(outcome(done[0]), CL_COMPLETE);
  for (int i = 0; i < 2; i++) {
    assert_holds(y[i], normalized[0]);
    clReleaseEvent(done[i]);
    clReleaseMemObject(y[i]);
    clnorm_memory_free(context, &workspaces[i]);
  }
  clReleaseMemObject(x);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
}

/* ---- A module on several queues ------------------------------------------------------------------- */

static const int64_t dims[4] = {N, C, H, W};

typedef struct module_job {
  cl_mem y;
  cl_event done;
} module_job;

static module_job start_forward(clnorm_context *context, clnorm_batchnorm *bn, bool training,
                                int input, cl_event after, cl_command_queue queue) {
  module_job j = {make_buffer(CL_MEM_READ_WRITE, inputs[input]), NULL};
  const clnorm_opencl_sync sync = {after ? 1 : 0, after ? &after : NULL, &j.done, NULL, queue};
  const clnorm_memory y = clnorm_opencl_memory(j.y, 0, 0);
  const dense_args args = {.x = y, .y = y, .sync = &sync};
  clnorm_batchnorm_set_training(bn, training);
  assert_ok(context, dense_batchnorm_forward(bn, 4, dims, &args));
  return j;
}

/* Training at every fourth call; the queue changes with each. */
static bool is_training(int i) { return i % 4 == 3; }

static void compute_module(float expected[RUNS][COUNT], float running[2][C]) {
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  clnorm_batchnorm *bn = NULL;
  const clnorm_batchnorm_options options = dense_batchnorm_options(C);
  assert_ok(cpu, clnorm_batchnorm_create(cpu, &options, &bn));
  for (int i = 0; i < RUNS; i++) {
    const dense_args args = {.x = clnorm_host_memory(inputs[i], BYTES),
                             .y = clnorm_host_memory(expected[i], BYTES)};
    clnorm_batchnorm_set_training(bn, is_training(i));
    assert_ok(cpu, dense_batchnorm_forward(bn, 4, dims, &args));
  }
  for (int i = 0; i < 2; i++)
    assert_ok(cpu,
              dense_batchnorm_get(bn, i ? CLNORM_RUNNING_VAR : CLNORM_RUNNING_MEAN, running[i], C));
  clnorm_batchnorm_destroy(bn);
  clnorm_context_destroy(cpu);
}

/* All are submitted while the first is held back; reading the statistics then waits for those who write them. */
static void a_module_keeps_its_order_on_any_queue(void **state) {
  static float expected[RUNS][COUNT];
  float running[2][C], got[C];
  (void)state;
  compute_module(expected, running);
  for (int home = 0; home < NUM_QUEUES; home++) {
    if (!cl.queues[home]) continue;
    clnorm_context *context = adopt((queue_name)home);
    clnorm_batchnorm *bn = NULL;
    module_job jobs[RUNS];
    const clnorm_batchnorm_options options = dense_batchnorm_options(C);
    assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
    cl_event gate = make_gate();
    for (int i = 0; i < RUNS; i++)
      jobs[i] = start_forward(context, bn, is_training(i), i, i == 0 ? gate : NULL,
                              cl.queues[(home + i) % NUM_QUEUES]);
    assert_held_back(jobs[3].done); /* the first training: the evaluation before it is held back */
    open_gate(gate);
    for (int k = 0; k < 2; k++) {
      assert_ok(context,
                dense_batchnorm_get(bn, k ? CLNORM_RUNNING_VAR : CLNORM_RUNNING_MEAN, got, C));
      assert_memory_equal(got, running[k], sizeof got);
    }
    for (int i = 0; i < RUNS; i++) {
      assert_int_equal(outcome(jobs[i].done), CL_COMPLETE);
      assert_holds(jobs[i].y, expected[i]);
      clReleaseEvent(jobs[i].done);
      clReleaseMemObject(jobs[i].y);
    }
    clnorm_batchnorm_destroy(bn);
    clnorm_context_destroy(context);
  }
}

/* Evaluations only read: one that is held back holds back neither another nor more than the order keeps. */
static void evaluations_are_independent(void **state) {
  enum { MANY = 11 };
  (void)state;
  if (!cl.queues[OUT_OF_ORDER]) return;
  clnorm_context *context = adopt(OUT_OF_ORDER);
  clnorm_batchnorm *bn = NULL;
  module_job jobs[MANY];
  const clnorm_batchnorm_options options = dense_batchnorm_options(C);
  assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
  cl_event gate = make_gate();
  for (int i = 0; i < MANY; i++)
    jobs[i] = start_forward(context, bn, false, 0, i == 1 ? gate : NULL, NULL);
  module_job training = start_forward(context, bn, true, 0, NULL, NULL);
  assert_int_equal(outcome(jobs[0].done), CL_COMPLETE);
  assert_int_equal(outcome(jobs[2].done), CL_COMPLETE);
  assert_held_back(training.done); /* it writes what the one held back is to read */
  open_gate(gate);
  assert_int_equal(outcome(training.done), CL_COMPLETE);
  float mean[C], moved[C] = {0};
  assert_ok(context, dense_batchnorm_get(bn, CLNORM_RUNNING_MEAN, mean, C));
  assert_memory_not_equal(mean, moved, sizeof mean);
  for (int i = 0; i < MANY; i++) {
    assert_int_equal(outcome(jobs[i].done), CL_COMPLETE);
    clReleaseEvent(jobs[i].done);
    clReleaseMemObject(jobs[i].y);
  }
  clReleaseEvent(training.done);
  clReleaseMemObject(training.y);
  clnorm_batchnorm_destroy(bn);
  clnorm_context_destroy(context);
}

/* ---- Queues and events of a run ------------------------------------------------------------------- */

static void queues_that_do_not_fit(void **state) {
  (void)state;
  cl_int code;
  cl_context other = clCreateContext(NULL, 1, &cl.device, NULL, NULL, &code);
  cl_ok(code);
  cl_command_queue foreign = clCreateCommandQueue(other, cl.device, 0, &code);
  cl_ok(code);
  cl_command_queue profiled = make_queue(CL_QUEUE_PROFILING_ENABLE);
  clnorm_context_options options = fixture_options();
  clnorm_context *context = NULL;
  options.profiling = true;
  assert_ok(NULL, clnorm_context_create_opencl(cl.context, cl.device, profiled, &options, &context,
                                               NULL));
  clnorm_plan *plan = make_plan(context);
  cl_mem x = make_buffer(CL_MEM_READ_WRITE, inputs[0]);
  const struct {
    cl_command_queue queue;
    const char *words;
  } rows[] = {{foreign, "queue|cl_context"}, {cl.queues[SECOND], "CL_QUEUE_PROFILING_ENABLE"}};
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    const clnorm_opencl_sync sync = {.queue = rows[i].queue};
    const dense_args args = {
        .x = clnorm_opencl_memory(x, 0, 0), .y = clnorm_opencl_memory(x, 0, 0), .sync = &sync};
    const clnorm_status status = dense_run(plan, &args);
    fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT,
                     rows[i].words, rows[i].words);
  }
  assert_holds(x, inputs[0]);
  clReleaseMemObject(x);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
  clReleaseCommandQueue(profiled);
  clReleaseCommandQueue(foreign);
  clReleaseContext(other);
}

static cl_ulong time_of(cl_event event, cl_profiling_info what) {
  cl_ulong time = 0;
  cl_ok(clGetEventProfilingInfo(event, what, sizeof time, &time, NULL));
  return time;
}

/* From the start of the first launch to the end of the last, both had from the events of a run. */
static void the_events_of_a_run_span_it(void **state) {
  (void)state;
  cl_command_queue profiled = make_queue(CL_QUEUE_PROFILING_ENABLE);
  clnorm_context_options options = fixture_options();
  clnorm_context *context = NULL;
  double seconds = 0;
  options.profiling = true;
  assert_ok(NULL, clnorm_context_create_opencl(cl.context, cl.device, profiled, &options, &context,
                                               NULL));
  clnorm_plan *plan = make_plan(context);
  job j = start_run(context, plan, 0, NULL, NULL);
  assert_ok(context, clnorm_last_run_seconds(context, &seconds));
  assert_true(j.first != j.done);
  assert_true(time_of(j.first, CL_PROFILING_COMMAND_END) <=
              time_of(j.done, CL_PROFILING_COMMAND_START));
  const cl_ulong span =
      time_of(j.done, CL_PROFILING_COMMAND_END) - time_of(j.first, CL_PROFILING_COMMAND_START);
  assert_true(seconds == 1e-9 * (double)span);
  assert_done(&j, 0);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
  clReleaseCommandQueue(profiled);
}

static void a_run_of_nothing_returns_markers(void **state) {
  (void)state;
  clnorm_context *context = adopt(IN_ORDER);
  clnorm_plan *plan = NULL;
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 0, C, S);
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  cl_event gate = make_gate(), first = NULL, last = NULL;
  const clnorm_opencl_sync sync = {1, &gate, &last, &first, cl.queues[SECOND]};
  const dense_args args = {.sync = &sync};
  assert_ok(context, dense_run(plan, &args));
  assert_held_back(last);
  open_gate(gate);
  assert_int_equal(outcome(first), CL_COMPLETE);
  assert_int_equal(outcome(last), CL_COMPLETE);
  clReleaseEvent(first);
  clReleaseEvent(last);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
}

/* ---- Memory that was made for less ------------------------------------------------------------------ */

static cl_mem make_part(cl_mem whole) {
  cl_int code;
  const cl_buffer_region region = {0, BYTES};
  cl_mem part = clCreateSubBuffer(whole, 0, CL_BUFFER_CREATE_TYPE_REGION, &region, &code);
  cl_ok(code);
  return part;
}

/* A plain buffer stands where the row does not say otherwise; each row also with a sub-buffer of its own. */
static void memory_is_used_as_it_was_made(void **state) {
  static const struct {
    cl_mem_flags x, y, mean;
    const char *words; /* NULL: accepted */
  } rows[] = {
      {CL_MEM_READ_ONLY, CL_MEM_WRITE_ONLY, CL_MEM_READ_WRITE, NULL},
      {CL_MEM_WRITE_ONLY, CL_MEM_READ_WRITE, CL_MEM_READ_WRITE, "x was made|CL_MEM_WRITE_ONLY"},
      {CL_MEM_READ_WRITE, CL_MEM_READ_ONLY, CL_MEM_READ_WRITE, "y was made|CL_MEM_READ_ONLY"},
      {CL_MEM_READ_WRITE, CL_MEM_READ_WRITE, CL_MEM_READ_ONLY, "running_mean was|CL_MEM_READ_ONLY"},
      {CL_MEM_READ_WRITE, CL_MEM_READ_WRITE, CL_MEM_WRITE_ONLY,
       "running_mean was|CL_MEM_WRITE_ONLY"},
  };
  (void)state;
  clnorm_context *context = adopt(IN_ORDER);
  clnorm_plan *plan = make_plan(context);
  cl_mem var = make_buffer(CL_MEM_READ_WRITE, inputs[1]);
  for (size_t i = 0; i < 2 * FIXTURE_LENGTH(rows); i++) {
    const size_t row = i / 2;
    const cl_mem_flags flags[3] = {rows[row].x, rows[row].y, rows[row].mean};
    cl_mem whole[3], used[3];
    for (int k = 0; k < 3; k++) {
      whole[k] = make_buffer(flags[k], inputs[0]);
      used[k] = i % 2 ? make_part(whole[k]) : whole[k];
    }
    const dense_args args = {.x = clnorm_opencl_memory(used[0], 0, 0),
                             .y = clnorm_opencl_memory(used[1], 0, 0),
                             .running_mean = clnorm_opencl_memory(used[2], 0, 0),
                             .running_var = clnorm_opencl_memory(var, 0, 0),
                             .momentum = 0.5};
    const clnorm_status status = dense_run(plan, &args);
    assert_ok(context, clnorm_finish(context));
    if (rows[row].words) {
      fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT,
                       rows[row].words, rows[row].words);
      assert_holds(whole[1], inputs[0]);
    } else {
      assert_ok(context, status);
      assert_holds(whole[1], normalized[0]);
    }
    for (int k = 0; k < 3; k++) {
      if (used[k] != whole[k]) clReleaseMemObject(used[k]);
      clReleaseMemObject(whole[k]);
    }
  }
  clReleaseMemObject(var);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
}

static void the_host_copies_what_it_may(void **state) {
  static const struct {
    cl_mem_flags flags;
    const char *read, *write; /* NULL: accepted */
  } rows[] = {
      {CL_MEM_READ_ONLY, NULL, NULL}, /* of the device, that is */
      {CL_MEM_HOST_READ_ONLY, NULL, "CL_MEM_HOST_READ_ONLY"},
      {CL_MEM_HOST_WRITE_ONLY, "CL_MEM_HOST_WRITE_ONLY", NULL},
      {CL_MEM_HOST_NO_ACCESS, "CL_MEM_HOST_NO_ACCESS", "CL_MEM_HOST_NO_ACCESS"},
  };
  static float copy[COUNT];
  (void)state;
  clnorm_context *context = adopt(IN_ORDER);
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    cl_mem buffer = make_buffer(rows[i].flags, inputs[0]);
    const clnorm_memory memory = clnorm_opencl_memory(buffer, 0, 0);
    const clnorm_status read = clnorm_memory_read(context, memory, copy, BYTES);
    if (!rows[i].read) assert_ok(context, read);
    if (rows[i].read)
      fixture_rejected(clnorm_last_error(context), read, CLNORM_ERROR_INVALID_ARGUMENT,
                       rows[i].read, "reading");
    const clnorm_status write = clnorm_memory_write(context, memory, inputs[1], BYTES);
    if (!rows[i].write) assert_ok(context, write);
    if (rows[i].write)
      fixture_rejected(clnorm_last_error(context), write, CLNORM_ERROR_INVALID_ARGUMENT,
                       rows[i].write, "writing");
    clReleaseMemObject(buffer);
  }
  clnorm_context_destroy(context);
}

/* ---- Shared programs -------------------------------------------------------------------------------- */

/* On the library's own cl_context; the first ends before the one that shares with it is used. */
static void contexts_share_programs(void **state) {
  (void)state;
  clnorm_context_options options = fixture_options();
  clnorm_context *first = fixture_open();
  options.share = first;
  clnorm_context *second = fixture_open_with(fixture_device(), &options);
  assert_ptr_equal(clnorm_context_cl_context(first), clnorm_context_cl_context(second));
  assert_ptr_not_equal(clnorm_context_cl_queue(first), clnorm_context_cl_queue(second));
  clnorm_plan_destroy(make_plan(first));
  clnorm_context_destroy(first);
  clnorm_plan *plan = make_plan(second);
  clnorm_memory x;
  static float y[COUNT];
  assert_ok(second, clnorm_memory_alloc(second, BYTES, &x));
  assert_ok(second, clnorm_memory_write(second, x, inputs[2], BYTES));
  const dense_args args = {.x = x, .y = x};
  assert_ok(second, dense_run(plan, &args));
  assert_ok(second, clnorm_memory_read(second, x, y, BYTES));
  assert_memory_equal(y, normalized[2], BYTES);
  clnorm_memory_free(second, &x);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(second);
}

static void contexts_that_cannot_share(void **state) {
  (void)state;
  clnorm_context_options options = fixture_options();
  clnorm_context *cpu = fixture_open_with("cpu", NULL), *own = fixture_open(), *made = NULL;
  clnorm_message message;
  options.share = cpu;
  clnorm_status status = clnorm_context_create(fixture_device(), &options, &made, &message);
  fixture_rejected(message.text, status, CLNORM_ERROR_INVALID_ARGUMENT, "share|CPU", "OpenCL");
  options = dense_context_options();
  options.share = own;
  status = clnorm_context_create("cpu", &options, &made, &message);
  fixture_rejected(message.text, status, CLNORM_ERROR_INVALID_ARGUMENT, "share|CPU", "CPU");
  status = clnorm_context_create_opencl(cl.context, cl.device, cl.queues[IN_ORDER], &options, &made,
                                        &message);
  fixture_rejected(message.text, status, CLNORM_ERROR_INVALID_ARGUMENT, "share|cl_context",
                   "adopted");
  clnorm_plan *plan = make_plan(own);
  clnorm_context_destroy(own); /* which lives on under the plan */
  status = clnorm_context_create(fixture_device(), &options, &made, &message);
  fixture_rejected(message.text, status, CLNORM_ERROR_STATE, "share|destroyed", "after its end");
  assert_null(made);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(cpu);
}

/* ---- The end of a queue ----------------------------------------------------------------------------- */

static void *open_late(void *gate) {
  pause_ms(200);
  clSetUserEventStatus(gate, CL_COMPLETE);
  return NULL;
}

/* The context's own queue is waited for when the context is destroyed, though a plan and memory live on;
 * these then end without a wait. */
static void a_context_waits_for_its_own_queue(void **state) {
  (void)state;
  clnorm_context *context = fixture_open();
  clnorm_plan *plan = make_plan(context);
  clnorm_memory x;
  cl_int code;
  assert_ok(context, clnorm_memory_alloc(context, BYTES, &x));
  assert_ok(context, clnorm_memory_write(context, x, inputs[0], BYTES));
  cl_event gate = clCreateUserEvent(clnorm_context_cl_context(context), &code), done = NULL;
  cl_ok(code);
  const clnorm_opencl_sync sync = {1, &gate, &done, NULL, NULL};
  const dense_args args = {.x = x, .y = x, .sync = &sync};
  assert_ok(context, dense_run(plan, &args));
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, open_late, gate), 0);
  clnorm_context_destroy(context);
  const cl_int progress = progress_of(done);
  pthread_join(thread, NULL);
  assert_int_equal(progress, CL_COMPLETE);
  clReleaseEvent(done);
  clReleaseEvent(gate);
  clnorm_memory_free(context, &x);
  clnorm_plan_destroy(plan);
}

/* ---- Failed events -------------------------------------------------------------------------------- */

/* A training run that fails is not waited for by the next: the statistics are as they were. One launch each:
 * PoCL 3.1 ends the program where an event fails that a chain of commands waits for. */
static void a_failed_event_fails_one_run(void **state) {
  static float expected[RUNS][COUNT];
  float running[2][C];
  (void)state;
  if (!cl.queues[OUT_OF_ORDER]) return;
  compute_module(expected, running);
  clnorm_context *context = adopt(OUT_OF_ORDER);
  clnorm_batchnorm *bn = NULL;
  const clnorm_batchnorm_options options = dense_batchnorm_options(C);
  assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
  cl_event gate = make_gate();
  module_job failed = start_forward(context, bn, true, 0, gate, NULL);
  cl_ok(clSetUserEventStatus(gate, -1));
  assert_true(outcome(failed.done) < 0);
  for (int i = 0; i < 2; i++) {
    module_job next = start_forward(context, bn, true, 3, NULL, NULL);
    assert_int_equal(outcome(next.done), CL_COMPLETE);
    assert_holds(next.y, expected[3]);
    clReleaseEvent(next.done);
    clReleaseMemObject(next.y);
  }
  clReleaseEvent(gate);
  clReleaseEvent(failed.done);
  clReleaseMemObject(failed.y);
  clnorm_batchnorm_destroy(bn);
  clnorm_context_destroy(context);
}

/* ---- Setting up ----------------------------------------------------------------------------------- */

static void compute_expected(void) {
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  clnorm_plan *plan = make_plan(cpu);
  for (int i = 0; i < RUNS; i++) {
    fixture_fill(inputs[i], COUNT, (uint64_t)i + 1, i, 1 + i);
    const dense_args args = {.x = clnorm_host_memory(inputs[i], BYTES),
                             .y = clnorm_host_memory(normalized[i], BYTES)};
    assert_ok(cpu, dense_run(plan, &args));
  }
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(cpu);
}

static int make_objects(void **state) {
  (void)state;
  cl_platform_id platform;
  cl_command_queue_properties offered = 0;
  cl_int code;
  alarm(300);
  cl_ok(clGetPlatformIDs(1, &platform, NULL));
  cl_ok(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &cl.device, NULL));
  cl.context = clCreateContext(NULL, 1, &cl.device, NULL, NULL, &code);
  cl_ok(code);
  cl_ok(clGetDeviceInfo(cl.device, CL_DEVICE_QUEUE_PROPERTIES, sizeof offered, &offered, NULL));
  cl.queues[IN_ORDER] = make_queue(0);
  cl.queues[SECOND] = make_queue(0);
  if (offered & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE)
    cl.queues[OUT_OF_ORDER] = make_queue(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
  print_message("out of order: %s\n", cl.queues[OUT_OF_ORDER] ? "yes" : "not on this device");
  compute_expected();
  return 0;
}

static int release_objects(void **state) {
  (void)state;
  for (int i = 0; i < NUM_QUEUES; i++)
    if (cl.queues[i]) clReleaseCommandQueue(cl.queues[i]);
  clReleaseContext(cl.context);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(destroying_waits_for_nothing),
      cmocka_unit_test(shapes_and_modules_wait_for_nothing),
      cmocka_unit_test(runs_of_two_plans_are_independent),
      cmocka_unit_test(runs_of_one_plan_follow_each_other),
      cmocka_unit_test(a_workspace_of_the_caller_orders_nothing),
      cmocka_unit_test(a_module_keeps_its_order_on_any_queue),
      cmocka_unit_test(evaluations_are_independent),
      cmocka_unit_test(queues_that_do_not_fit),
      cmocka_unit_test(the_events_of_a_run_span_it),
      cmocka_unit_test(a_run_of_nothing_returns_markers),
      cmocka_unit_test(memory_is_used_as_it_was_made),
      cmocka_unit_test(the_host_copies_what_it_may),
      cmocka_unit_test(contexts_share_programs),
      cmocka_unit_test(contexts_that_cannot_share),
      cmocka_unit_test(a_context_waits_for_its_own_queue),
      cmocka_unit_test(a_failed_event_fails_one_run),
  };
  fixture_leave_out();
  return cmocka_run_group_tests(tests, make_objects, release_objects);
}
