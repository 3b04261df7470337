/* Working with OpenCL objects of the caller: context, queues of both kinds, cl_mem with an offset, wait
 * lists and events. The first device of the first platform that the environment shows. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <clnorm/clnorm_opencl.h>

#include "kernel_sources.h"

#define INVALID CLNORM_ERROR_INVALID_ARGUMENT

enum { N = 4, C = 6, S = 37 * 29, COUNT = N * C * S, FRONT = 80 /* floats before x and y */ };

typedef struct objects {
  cl_context context;
  cl_device_id device;
  cl_command_queue in_order;
  cl_command_queue queues[2]; /* in order, and out of order where the device offers it */
  int num_queues;
} objects;

static objects cl;
static float input[COUNT], expected[COUNT];

static void cl_ok(cl_int code, const char *what) {
  if (code != CL_SUCCESS) fail_msg("%s: %d", what, (int)code);
}

static int make_objects(void **state) {
  (void)state;
  cl_platform_id platform;
  cl_int code;
  cl_ok(clGetPlatformIDs(1, &platform, NULL), "clGetPlatformIDs");
  cl_ok(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &cl.device, NULL), "clGetDeviceIDs");
  cl.context = clCreateContext(NULL, 1, &cl.device, NULL, NULL, &code);
  cl_ok(code, "clCreateContext");
  cl.in_order = clCreateCommandQueue(cl.context, cl.device, 0, &code);
  cl_ok(code, "clCreateCommandQueue");
  cl.queues[cl.num_queues++] = cl.in_order;
  cl_command_queue_properties offered = 0;
  cl_ok(clGetDeviceInfo(cl.device, CL_DEVICE_QUEUE_PROPERTIES, sizeof offered, &offered, NULL),
        "CL_DEVICE_QUEUE_PROPERTIES");
  if (offered & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) {
    cl.queues[cl.num_queues++] =
        clCreateCommandQueue(cl.context, cl.device, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, &code);
    cl_ok(code, "clCreateCommandQueue, out of order");
  }
  print_message("%d kinds of queue\n", cl.num_queues);
  return 0;
}

static int release_objects(void **state) {
  (void)state;
  for (int i = 0; i < cl.num_queues; i++) clReleaseCommandQueue(cl.queues[i]);
  clReleaseContext(cl.context);
  return 0;
}

static clnorm_context *adopt(cl_command_queue queue) {
  clnorm_context *context = NULL;
  clnorm_message message;
  const clnorm_context_options options = fixture_options();
  const clnorm_status status =
      clnorm_context_create_opencl(cl.context, cl.device, queue, &options, &context, &message);
  if (status != CLNORM_OK) fail_msg("%s: %s", clnorm_status_name(status), message.text);
  return context;
}

/* A blocking write may return before the values are in the buffer, which other queues then find without them. */
static void write_buffer(cl_command_queue queue, cl_mem buffer, size_t front, const float *values) {
  cl_event written = NULL;
  cl_ok(clEnqueueWriteBuffer(queue, buffer, CL_TRUE, front * sizeof(float), COUNT * sizeof(float),
                             values, 0, NULL, &written),
        "clEnqueueWriteBuffer");
  cl_ok(clWaitForEvents(1, &written), "clWaitForEvents");
  clReleaseEvent(written);
}

static cl_mem buffer_of(const float *values, size_t front) {
  cl_int code;
  const size_t size = (front + COUNT) * sizeof(float);
  cl_mem buffer = clCreateBuffer(cl.context, CL_MEM_READ_WRITE, size, NULL, &code);
  cl_ok(code, "clCreateBuffer");
  write_buffer(cl.in_order, buffer, front, values);
  return buffer;
}

static void assert_expected(cl_mem buffer, size_t front) {
  static float y[COUNT];
  cl_ok(clEnqueueReadBuffer(cl.in_order, buffer, CL_TRUE, front * sizeof(float), sizeof y, y, 0,
                            NULL, NULL),
        "clEnqueueReadBuffer");
  assert_memory_equal(y, expected, sizeof y);
}

static dense_desc split_desc(void) {
  dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  desc.cut = CLNORM_CUT_SPLIT; /* three launches, which must run in order */
  return desc;
}

/* The bits that every run must give: those of the CPU path. */
static void compute_expected(void **state) {
  (void)state;
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  clnorm_plan *plan = NULL;
  const dense_desc desc = split_desc();
  fixture_fill(input, COUNT, 1, 5, 2);
  assert_ok(cpu, dense_plan_create(cpu, &desc, &plan));
  const dense_args args = {.x = clnorm_host_memory(input, sizeof input),
                           .y = clnorm_host_memory(expected, sizeof expected)};
  assert_ok(cpu, dense_run(plan, &args));
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(cpu);
}

/* ---- Host memory of the caller, CL_MEM_USE_HOST_PTR ---------------------------------------------- */

enum { HOST_N = 3, HOST_C = 2, HOST_S = 1036, HOST_COUNT = HOST_N * HOST_C * HOST_S };

/* x and y in one piece of host memory, one behind the other, `shift` bytes off an aligned address, and after
 * `front` bytes of a parent that x and y are sub-buffers of, or none. */
typedef struct host_buffers {
  char *memory;
  cl_mem parent, x, y;
} host_buffers;

static cl_mem host_buffer(void *host, size_t size) {
  cl_int code;
  cl_mem buffer =
      clCreateBuffer(cl.context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, size, host, &code);
  cl_ok(code, "clCreateBuffer, CL_MEM_USE_HOST_PTR");
  return buffer;
}

static cl_mem sub_buffer(cl_mem parent, size_t origin, size_t size) {
  cl_int code;
  const cl_buffer_region region = {origin, size};
  cl_mem buffer =
      clCreateSubBuffer(parent, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &code);
  cl_ok(code, "clCreateSubBuffer");
  return buffer;
}

enum { HOST_SIZE = HOST_COUNT * sizeof(float), HOST_HALF = (HOST_SIZE / 4096 + 1) * 4096 };

static host_buffers host_buffers_make(size_t shift, bool parent) {
  host_buffers b = {aligned_alloc(4096, 4 * HOST_HALF), NULL, NULL, NULL};
  assert_non_null(b.memory);
  memset(b.memory, 0x7f, 4 * HOST_HALF);
  memcpy(b.memory + shift + HOST_HALF, input, HOST_SIZE);
  if (parent) {
    b.parent = host_buffer(b.memory + shift, 3 * HOST_HALF);
    b.x = sub_buffer(b.parent, HOST_HALF, HOST_SIZE);
    b.y = sub_buffer(b.parent, 2 * HOST_HALF, HOST_SIZE);
  } else {
    b.x = host_buffer(b.memory + shift + HOST_HALF, HOST_SIZE);
    b.y = host_buffer(b.memory + shift + 2 * HOST_HALF, HOST_SIZE);
  }
  return b;
}

static void host_buffers_free(host_buffers *b) {
  clReleaseMemObject(b->x);
  clReleaseMemObject(b->y);
  if (b->parent) clReleaseMemObject(b->parent);
  free(b->memory);
}

static void check_host_memory(clnorm_context *context, const dense_desc *desc, size_t shift,
                              bool parent, const float *right) {
  static float y[HOST_COUNT];
  static const float statistics[HOST_C] = {2, 3};
  host_buffers b = host_buffers_make(shift, parent);
  fixture_tensor mean = fixture_tensor_make(context, statistics, HOST_C);
  fixture_tensor var = fixture_tensor_make(context, statistics, HOST_C);
  dense_args args = {.x = clnorm_opencl_memory(b.x, 0, 0), .y = clnorm_opencl_memory(b.y, 0, 0)};
  if (desc->statistics == CLNORM_GIVEN_STATISTICS) {
    args.running_mean = mean.view;
    args.running_var = var.view;
  }
  clnorm_plan *plan = NULL;
  assert_ok(context, dense_plan_create(context, desc, &plan));
  assert_ok(context, dense_run(plan, &args));
  cl_ok(clEnqueueReadBuffer(cl.in_order, b.y, CL_TRUE, 0, sizeof y, y, 0, NULL, NULL),
        "clEnqueueReadBuffer");
  if (memcmp(y, right, sizeof y) != 0)
    fail_msg("statistics %d: other bits at %zu bytes%s", (int)desc->statistics, shift,
             parent ? ", in a sub-buffer" : "");
  clnorm_plan_destroy(plan);
  fixture_tensor_free(context, &mean);
  fixture_tensor_free(context, &var);
  host_buffers_free(&b);
}

static void host_expected(const dense_desc *desc, float *y) {
  static const float statistics[HOST_C] = {2, 3};
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  const clnorm_memory given = clnorm_host_memory(statistics, sizeof statistics);
  dense_args args = {.x = clnorm_host_memory(input, HOST_SIZE),
                     .y = clnorm_host_memory(y, HOST_SIZE)};
  if (desc->statistics == CLNORM_GIVEN_STATISTICS) args.running_mean = args.running_var = given;
  clnorm_plan *plan = NULL;
  assert_ok(cpu, dense_plan_create(cpu, desc, &plan));
  assert_ok(cpu, dense_run(plan, &args));
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(cpu);
}

/* Planes are whole groups of four floats, which the wide form moves as one where they are aligned. */
static void host_memory_at_any_float(void **state) {
  (void)state;
  static float right[HOST_COUNT];
  clnorm_context *context = adopt(cl.in_order);
  for (int statistics = 0; statistics < 3; statistics++) {
    dense_desc desc = dense_desc_defaults((clnorm_statistics)statistics, HOST_N, HOST_C, HOST_S);
    desc.cut = CLNORM_CUT_SPLIT;
    host_expected(&desc, right);
    for (size_t shift = 0; shift < 32; shift += 4) {
      check_host_memory(context, &desc, shift, false, right);
      check_host_memory(context, &desc, shift, true, right);
    }
  }
  clnorm_context_destroy(context);
}

static void host_memory_that_is_refused(void **state) {
  (void)state;
  clnorm_context *context = adopt(cl.in_order);
  dense_desc desc = split_desc();
  desc.batch = 1, desc.spatial = 4;
  desc.external_workspace = true;
  clnorm_plan *plan = NULL;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  char *memory = aligned_alloc(64, 4096);
  assert_non_null(memory);
  cl_mem odd = host_buffer(memory + 1, 2048), even = host_buffer(memory + 1024 + 2, 1024);
  cl_mem good = host_buffer(memory + 2048, 1024), workspace = host_buffer(memory + 3072 + 4, 960);
  const clnorm_memory x = clnorm_opencl_memory(good, 0, 96), y = clnorm_opencl_memory(good, 96, 96);
  const struct {
    clnorm_memory x, workspace;
    const char *words;
  } rows[] = {
      {clnorm_opencl_memory(odd, 0, 0), clnorm_opencl_memory(good, 192, 0),
       "x is at address|USE_HOST_PTR|multiple of 4"},
      {clnorm_opencl_memory(even, 0, 0), clnorm_opencl_memory(good, 192, 0),
       "x is at address|USE_HOST_PTR|multiple of 4"},
      {x, clnorm_opencl_memory(odd, 0, 0), "workspace|1 modulo 64"},
      {x, clnorm_opencl_memory(workspace, 0, 0), "workspace|4 modulo 64"},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    const dense_args args = {.x = rows[i].x, .y = y, .workspace = rows[i].workspace};
    const clnorm_status status = dense_run(plan, &args);
    fixture_rejected(clnorm_last_error(context), status, INVALID, rows[i].words, rows[i].words);
  }
  const dense_args args = {.x = x, .y = y, .workspace = clnorm_opencl_memory(workspace, 60, 0)};
  assert_ok(context, dense_run(plan, &args));
  assert_ok(context, clnorm_finish(context));
  clnorm_plan_destroy(plan);
  cl_mem all[] = {odd, even, good, workspace};
  for (size_t i = 0; i < FIXTURE_LENGTH(all); i++) clReleaseMemObject(all[i]);
  free(memory);
  clnorm_context_destroy(context);
}

/* The address must be a multiple of the element's size; bytes are copied from and to any. */
static void host_memory_by_type(void **state) {
  (void)state;
  static const struct {
    int32_t dtype;
    size_t shift;
    const char *words; /* NULL: taken */
  } rows[] = {{CLNORM_F16, 2, NULL},
              {CLNORM_BF16, 2, NULL},
              {CLNORM_F16, 1, "x is at address|USE_HOST_PTR|multiple of 2"},
              {CLNORM_F32, 2, "x is at address|USE_HOST_PTR|multiple of 4"}};
  const int64_t dims[3] = {1, 1, 100};
  clnorm_context *context = adopt(cl.in_order);
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_problem problem;
    clnorm_plan *plan = NULL;
    char values[400], back[400], *memory = aligned_alloc(64, 512);
    assert_non_null(memory);
    clnorm_problem_init(&problem, sizeof problem);
    problem.operation = CLNORM_COPY;
    clnorm_tensor_nchw(&problem.tensors[CLNORM_X], rows[i].dtype, 3, dims);
    clnorm_tensor_nchw(&problem.tensors[CLNORM_Y], rows[i].dtype, 3, dims);
    assert_ok(context, clnorm_plan_create(context, &problem, &plan));
    const size_t size = (size_t)dims[2] * (rows[i].dtype == CLNORM_F32 ? 4 : 2);
    for (size_t k = 0; k < size; k++) values[k] = (char)(k % 61);
    cl_mem object = host_buffer(memory + rows[i].shift, size), to = buffer_of(input, 0);
    const clnorm_memory x = clnorm_opencl_memory(object, 0, 0), y = clnorm_opencl_memory(to, 0, 0);
    const clnorm_binding bindings[2] = {clnorm_bind(CLNORM_X, x), clnorm_bind(CLNORM_Y, y)};
    assert_ok(context, clnorm_memory_write(context, x, values, size));
    const clnorm_status status = clnorm_run(plan, bindings, 2, NULL);
    if (rows[i].words)
      fixture_rejected(clnorm_last_error(context), status, INVALID, rows[i].words, rows[i].words);
    else
      assert_ok(context, status);
    assert_ok(context, clnorm_memory_read(context, rows[i].words ? x : y, back, size));
    assert_memory_equal(back, values, size);
    clnorm_plan_destroy(plan);
    clReleaseMemObject(object);
    clReleaseMemObject(to);
    free(memory);
  }
  clnorm_context_destroy(context);
}

static void buffers_of_the_caller(void **state) {
  (void)state;
  for (int i = 0; i < cl.num_queues; i++) {
    clnorm_context *context = adopt(cl.queues[i]);
    clnorm_plan *plan = NULL;
    const dense_desc desc = split_desc();
    assert_ok(context, dense_plan_create(context, &desc, &plan));
    cl_mem x = buffer_of(input, FRONT), y = buffer_of(input, FRONT + 16);
    const dense_args args = {
        .x = clnorm_opencl_memory(x, FRONT * sizeof(float), 0),
        .y = clnorm_opencl_memory(y, (FRONT + 16) * sizeof(float), COUNT * sizeof(float))};
    assert_ok(context, dense_run(plan, &args));
    assert_ok(context, clnorm_finish(context));
    assert_expected(y, FRONT + 16);
    dense_args in_place = args;
    in_place.y = in_place.x;
    assert_ok(context, dense_run(plan, &in_place));
    assert_ok(context, clnorm_finish(context));
    assert_expected(x, FRONT);
    clnorm_plan_destroy(plan);
    clnorm_context_destroy(context);
    clReleaseMemObject(x);
    clReleaseMemObject(y);
  }
}

/* Without an event or a wait between the two, on a queue that keeps no order where there is one. A few bytes at a
 * time: these are what drivers copy to write them later. */
static void runs_find_what_was_written(void **state) {
  (void)state;
  enum { ROUNDS = 200, FEW = 24 };
  const float ones[1] = {1}, zeros[1] = {0};
  clnorm_context *context = adopt(cl.queues[cl.num_queues - 1]);
  const dense_desc desc = dense_desc_defaults(CLNORM_GIVEN_STATISTICS, 1, 1, FEW);
  clnorm_plan *plan = NULL;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  fixture_tensor mean = fixture_tensor_make(context, zeros, 1);
  fixture_tensor var = fixture_tensor_make(context, ones, 1);
  fixture_tensor x = fixture_tensor_make(context, NULL, FEW),
                 y = fixture_tensor_make(context, NULL, FEW);
  const dense_args args = {
      .x = x.view, .y = y.view, .running_mean = mean.view, .running_var = var.view};
  for (int round = 0; round < ROUNDS; round++) {
    float values[FEW], normalized[FEW];
    for (int i = 0; i < FEW; i++) values[i] = (float)(1 + round);
    assert_ok(context, clnorm_memory_write(context, x.view, values, sizeof values));
    assert_ok(context, dense_run(plan, &args));
    assert_ok(context, clnorm_finish(context));
    fixture_tensor_read(context, &y, normalized);
    for (int i = 0; i < FEW; i++) /* divided by sqrt(1 + 1e-5) */
      assert_true(fabsf(normalized[i] / values[i] - 1) < 1e-4F);
  }
  clnorm_plan_destroy(plan);
  fixture_tensor *all[] = {&mean, &var, &x, &y};
  for (size_t i = 0; i < FIXTURE_LENGTH(all); i++) fixture_tensor_free(context, all[i]);
  clnorm_context_destroy(context);
}

/* A run waits for its wait list, and its event comes after its work. */
static void events_around_a_run(void **state) {
  (void)state;
  for (int i = 0; i < cl.num_queues; i++) {
    clnorm_context *context = adopt(cl.queues[i]);
    clnorm_plan *plan = NULL;
    const dense_desc desc = split_desc();
    assert_ok(context, dense_plan_create(context, &desc, &plan));
    float *garbage = calloc(COUNT, sizeof(float));
    cl_mem x = buffer_of(garbage, 0), y = buffer_of(garbage, 0);
    free(garbage);
    cl_int code;
    cl_event gate = clCreateUserEvent(cl.context, &code), done = NULL;
    cl_ok(code, "clCreateUserEvent");
    const clnorm_opencl_sync sync = {
        .num_events_in_wait_list = 1, .event_wait_list = &gate, .event = &done};
    const dense_args args = {
        .x = clnorm_opencl_memory(x, 0, 0), .y = clnorm_opencl_memory(y, 0, 0), .sync = &sync};
    assert_ok(context, dense_run(plan, &args)); /* returns before the gate opens */
    assert_non_null(done);
    cl_int progress = CL_COMPLETE;
    cl_ok(clGetEventInfo(done, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof progress, &progress, NULL),
          "clGetEventInfo");
    assert_true(progress > CL_COMPLETE);
    cl_command_queue other = clCreateCommandQueue(cl.context, cl.device, 0, &code);
    cl_ok(code, "clCreateCommandQueue");
    write_buffer(other, x, 0, input);
    cl_ok(clSetUserEventStatus(gate, CL_COMPLETE), "clSetUserEventStatus");
    cl_ok(clWaitForEvents(1, &done), "clWaitForEvents");
    assert_expected(y, 0);
    clReleaseCommandQueue(other);
    clReleaseEvent(done);
    clReleaseEvent(gate);
    clnorm_plan_destroy(plan);
    clnorm_context_destroy(context);
    clReleaseMemObject(x);
    clReleaseMemObject(y);
  }
}

/* Chained by events alone, on a queue that keeps no order where there is one. */
static void runs_chained_by_events(void **state) {
  (void)state;
  clnorm_context *context = adopt(cl.queues[cl.num_queues - 1]);
  clnorm_plan *plan = NULL;
  const dense_desc desc = split_desc();
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  cl_mem x = buffer_of(input, 0), y = buffer_of(input, 0), z = buffer_of(input, 0);
  cl_event first = NULL, second = NULL;
  const clnorm_opencl_sync to_first = {.event = &first};
  dense_args args = {
      .x = clnorm_opencl_memory(x, 0, 0), .y = clnorm_opencl_memory(y, 0, 0), .sync = &to_first};
  assert_ok(context, dense_run(plan, &args));
  const clnorm_opencl_sync to_second = {
      .num_events_in_wait_list = 1, .event_wait_list = &first, .event = &second};
  args.y = clnorm_opencl_memory(z, 0, 0);
  args.sync = &to_second;
  assert_ok(context, dense_run(plan, &args));
  cl_ok(clWaitForEvents(1, &second), "clWaitForEvents");
  assert_expected(y, 0);
  assert_expected(z, 0);
  clReleaseEvent(first);
  clReleaseEvent(second);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
  clReleaseMemObject(x);
  clReleaseMemObject(y);
  clReleaseMemObject(z);
}

static void an_empty_run_gives_an_event(void **state) {
  (void)state;
  clnorm_context *context = adopt(cl.in_order);
  clnorm_plan *plan = NULL;
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 0, C, S);
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  cl_event done = NULL;
  const clnorm_opencl_sync sync = {.event = &done};
  const dense_args args = {.sync = &sync};
  assert_ok(context, dense_run(plan, &args));
  assert_non_null(done);
  cl_ok(clWaitForEvents(1, &done), "clWaitForEvents");
  clReleaseEvent(done);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
}

static cl_uint references(cl_context context, cl_command_queue queue) {
  cl_uint count[2];
  cl_ok(clGetContextInfo(context, CL_CONTEXT_REFERENCE_COUNT, sizeof count[0], &count[0], NULL),
        "clGetContextInfo");
  cl_ok(clGetCommandQueueInfo(queue, CL_QUEUE_REFERENCE_COUNT, sizeof count[1], &count[1], NULL),
        "clGetCommandQueueInfo");
  return count[0] * 1000 + count[1];
}

/* On a context and a queue that never ran anything: an implementation may let go of what a
 * finished command held a while after its end. */
static void objects_are_retained_and_given_back(void **state) {
  (void)state;
  cl_int code;
  cl_context own = clCreateContext(NULL, 1, &cl.device, NULL, NULL, &code);
  cl_ok(code, "clCreateContext");
  cl_command_queue queue = clCreateCommandQueue(own, cl.device, 0, &code);
  cl_ok(code, "clCreateCommandQueue");
  const cl_uint before = references(own, queue);
  clnorm_context *context = NULL;
  assert_ok(NULL, clnorm_context_create_opencl(own, cl.device, queue, NULL, &context, NULL));
  assert_true(references(own, queue) > before);
  assert_ptr_equal(clnorm_context_cl_context(context), own);
  assert_ptr_equal(clnorm_context_cl_device(context), cl.device);
  assert_ptr_equal(clnorm_context_cl_queue(context), queue);
  const dense_desc desc = split_desc();
  clnorm_plan *plan = NULL;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
  assert_int_equal(references(own, queue), before);
  clReleaseCommandQueue(queue);
  clReleaseContext(own);
}

static void a_cpu_context_has_no_opencl_objects(void **state) {
  (void)state;
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  assert_null(clnorm_context_cl_context(cpu));
  assert_null(clnorm_context_cl_device(cpu));
  assert_null(clnorm_context_cl_queue(cpu));
  clnorm_context_destroy(cpu);
}

static void objects_that_do_not_fit(void **state) {
  (void)state;
  cl_int code;
  cl_context other = clCreateContext(NULL, 1, &cl.device, NULL, NULL, &code);
  cl_ok(code, "clCreateContext");
  const struct {
    cl_context context;
    cl_device_id device;
    cl_command_queue queue;
    const char *words;
  } rows[] = {
      {NULL, cl.device, cl.in_order, "NULL"},
      {cl.context, NULL, cl.in_order, "NULL"},
      {cl.context, cl.device, NULL, "NULL"},
      {other, cl.device, cl.in_order, "queue"},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_context *context = (clnorm_context *)&context;
    clnorm_message message;
    const clnorm_status status = clnorm_context_create_opencl(
        rows[i].context, rows[i].device, rows[i].queue, NULL, &context, &message);
    fixture_rejected(message.text, status, INVALID, rows[i].words, rows[i].words);
    assert_null(context);
  }
  assert_int_equal(
      clnorm_context_create_opencl(cl.context, cl.device, cl.in_order, NULL, NULL, NULL), INVALID);
  clReleaseContext(other);
}

/* Times are had from a queue that keeps them, and from no other. */
static void profiling_needs_a_profiled_queue(void **state) {
  (void)state;
  clnorm_context_options options = fixture_options();
  clnorm_context *context = NULL;
  clnorm_message message;
  options.profiling = true;
  const clnorm_status status = clnorm_context_create_opencl(cl.context, cl.device, cl.in_order,
                                                            &options, &context, &message);
  fixture_rejected(message.text, status, INVALID, "profiling|CL_QUEUE_PROFILING_ENABLE", "plain");
  cl_int code;
  cl_command_queue profiled =
      clCreateCommandQueue(cl.context, cl.device, CL_QUEUE_PROFILING_ENABLE, &code);
  cl_ok(code, "clCreateCommandQueue");
  assert_ok(NULL, clnorm_context_create_opencl(cl.context, cl.device, profiled, &options, &context,
                                               &message));
  clnorm_context_destroy(context);
  clReleaseCommandQueue(profiled);
}

/* ---- Build logs ---------------------------------------------------------------------------------- */

/* The line of a kernel's file that begins with `start`. */
static int line_of(const char *name, const char *start) {
  char path[1024], line[512];
  snprintf(path, sizeof path, "%s/%s", CLNORM_TEST_KERNELS, name);
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  int number = 1;
  while (fgets(line, sizeof line, file) && strncmp(line, start, strlen(start)) != 0) number++;
  assert_false(feof(file));
  fclose(file);
  return number;
}

/* The embedded text is one file to the driver; #line says which of ours each line is from. */
static void build_logs_name_our_files(void **state) {
  (void)state;
  const struct {
    const char *source;
    size_t size;
    const char *options, *file, *error;
  } rows[] = {
      {clnorm__kernel_vector, clnorm__kernel_vector_size, "-D CLNORM_PATH=7", "vector.cl",
       "#error \"CLNORM_PATH is none of"},
      {clnorm__kernel_wide, clnorm__kernel_wide_size, "-D CLNORM_PATH=7", "wide.cl",
       "#error \"CLNORM_PATH is neither"},
      {clnorm__kernel_wide, clnorm__kernel_wide_size, "-D CLNORM_X_STORAGE=9", "storage.h",
       "#error \"CLNORM_X_STORAGE or"},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    static char log[65536];
    char where[64];
    cl_int code;
    cl_program program = clCreateProgramWithSource(cl.context, 1, (const char *[]){rows[i].source},
                                                   (const size_t[]){rows[i].size}, &code);
    cl_ok(code, "clCreateProgramWithSource");
    assert_int_equal(clBuildProgram(program, 1, &cl.device, rows[i].options, NULL, NULL),
                     CL_BUILD_PROGRAM_FAILURE);
    cl_ok(clGetProgramBuildInfo(program, cl.device, CL_PROGRAM_BUILD_LOG, sizeof log, log, NULL),
          "CL_PROGRAM_BUILD_LOG");
    snprintf(where, sizeof where, "kernels/%s:%d:", rows[i].file,
             line_of(rows[i].file, rows[i].error));
    if (!strstr(log, where)) fail_msg("no %s in the log:\n%s", where, log);
    clReleaseProgram(program);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(compute_expected),
      cmocka_unit_test(build_logs_name_our_files),
      cmocka_unit_test(buffers_of_the_caller),
      cmocka_unit_test(host_memory_at_any_float),
      cmocka_unit_test(host_memory_that_is_refused),
      cmocka_unit_test(host_memory_by_type),
      cmocka_unit_test(runs_find_what_was_written),
      cmocka_unit_test(events_around_a_run),
      cmocka_unit_test(runs_chained_by_events),
      cmocka_unit_test(an_empty_run_gives_an_event),
      cmocka_unit_test(objects_are_retained_and_given_back),
      cmocka_unit_test(a_cpu_context_has_no_opencl_objects),
      cmocka_unit_test(objects_that_do_not_fit),
      cmocka_unit_test(profiling_needs_a_profiled_queue),
  };
  fixture_leave_out();
  return cmocka_run_group_tests(tests, make_objects, release_objects);
}
