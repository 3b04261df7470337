/* A planned run does what was planned and no more: it allocates nothing, creates, builds and waits for
 * nothing, and launches as many kernels as the plan says. Seen by the OpenCL layer and by the allocation
 * hooks, on the CPU path and on OpenCL, with every variant in every form. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#include <clnorm/clnorm_opencl.h>

#include "hooks.h"
#include "layer.h"

enum { RUNS = 3 };

static layer_control *layer;

/* ---- The runs ------------------------------------------------------------------------------------ */

typedef struct shape {
  int64_t batch, channels, spatial;
} shape;

/* A small tensor, one of small planes, few large channels, many channels; the CPU path uses one thread for
 * the first and its pool for the others. */
static const shape shapes[] = {{1, 8, 16}, {4, 40, 49}, {2, 3, 20011}, {2, 70, 784}};

typedef struct mode {
  const char *name;
  int32_t statistics;
  clnorm_cut variant;
  long fewest, most; /* launches */
} mode;

static const mode modes[] = {
    {"evaluation", CLNORM_GIVEN_STATISTICS, CLNORM_CUT_AUTO, 1, 1},
    {"evaluation, channel", CLNORM_GIVEN_STATISTICS, CLNORM_CUT_CHANNEL, 1, 1},
    {"evaluation, split", CLNORM_GIVEN_STATISTICS, CLNORM_CUT_SPLIT, 1, 1},
    {"training", CLNORM_BATCH_STATISTICS, CLNORM_CUT_AUTO, 1, 3},
    {"training, channel", CLNORM_BATCH_STATISTICS, CLNORM_CUT_CHANNEL, 1, 1},
    {"training, split", CLNORM_BATCH_STATISTICS, CLNORM_CUT_SPLIT, 2, 3},
    {"copy", DENSE_COPY, CLNORM_CUT_AUTO, 1, 1},
};

/* What a run may call. Questions about a cl_mem and an event, and the event's references, are all that comes
 * on top of the work. */
static const layer_function allowed[] = {
    LAYER_clGetMemObjectInfo,
    LAYER_clGetEventInfo,
    LAYER_clSetKernelArg,
    LAYER_clEnqueueNDRangeKernel,
    LAYER_clFlush,
    LAYER_clRetainEvent,
    LAYER_clReleaseEvent,
    LAYER_clEnqueueMarkerWithWaitList,
};

static bool is_allowed(int function) {
  for (size_t i = 0; i < FIXTURE_LENGTH(allowed); i++)
    if ((int)allowed[i] == function) return true;
  return false;
}

/* Nothing but what is allowed was called in RUNS runs, and nothing was allocated. */
static void assert_quiet(const char *name, bool opencl, const mode *m) {
  const long allocations = atomic_load(&hooks.calls[HOOKS_ALLOCATION]);
  if (allocations != 0) fail_msg("%s: %ld allocations in %d runs", name, allocations, RUNS);
  if (atomic_load(&hooks.calls[HOOKS_THREAD]) != 0) fail_msg("%s: a run starts a thread", name);
  for (int i = 0; i < LAYER_NUM_FUNCTIONS; i++)
    if (atomic_load(&layer->counts[i]) != 0 && !is_allowed(i))
      fail_msg("%s: a run calls %s", name, layer_function_name((layer_function)i));
  assert_int_equal(atomic_load(&layer->blocking), 0);
  const long launches = atomic_load(&layer->counts[LAYER_clEnqueueNDRangeKernel]);
  if (!opencl) {
    assert_int_equal(launches, 0);
  } else if (launches < RUNS * m->fewest || launches > RUNS * m->most) {
    fail_msg("%s: %ld launches in %d runs, expected %ld to %ld a run", name, launches, RUNS,
             m->fewest, m->most);
  }
}

typedef struct operands {
  fixture_tensor x, y, weight, bias, mean, var, saved_mean, saved_invstd;
} operands;

static operands make_operands(clnorm_context *context, shape s) {
  const size_t count = (size_t)(s.batch * s.channels * s.spatial), c = (size_t)s.channels;
  float *x = malloc(count * sizeof *x), *ones = malloc(c * sizeof *ones);
  assert_true(x != NULL && ones != NULL);
  fixture_fill(x, count, 1, 3, 2);
  fixture_fill(ones, c, 2, 1, 0.01);
  operands o = {fixture_tensor_make(context, x, count), fixture_tensor_make(context, NULL, count),
                fixture_tensor_make(context, ones, c),  fixture_tensor_make(context, ones, c),
                fixture_tensor_make(context, ones, c),  fixture_tensor_make(context, ones, c),
                fixture_tensor_make(context, NULL, c),  fixture_tensor_make(context, NULL, c)};
  free(ones);
  free(x);
  return o;
}

static void free_operands(clnorm_context *context, operands *o) {
  fixture_tensor *const all[] = {&o->x,    &o->y,   &o->weight,     &o->bias,
                                 &o->mean, &o->var, &o->saved_mean, &o->saved_invstd};
  for (size_t i = 0; i < FIXTURE_LENGTH(all); i++) fixture_tensor_free(context, all[i]);
}

static void start_counting(void) {
  layer_reset(layer, 0, false);
  hooks_reset(HOOKS_ALLOCATION, 0);
  atomic_store(&hooks.armed, true);
}

static void plan_and_run(clnorm_context *context, const operands *o, shape s, const mode *m,
                         const clnorm_opencl_sync *sync) {
  dense_desc desc = dense_desc_defaults(m->statistics, s.batch, s.channels, s.spatial);
  desc.cut = m->variant;
  clnorm_plan *plan = NULL;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  const dense_args args = {.x = o->x.view,
                           .y = o->y.view,
                           .weight = o->weight.view,
                           .bias = o->bias.view,
                           .running_mean = o->mean.view,
                           .running_var = o->var.view,
                           .saved_mean = o->saved_mean.view,
                           .saved_invstd = o->saved_invstd.view,
                           .momentum = 0.9,
                           .sync = sync};
  start_counting();
  for (int i = 0; i < RUNS; i++) {
    const clnorm_status status = dense_run(plan, &args);
    if (sync && sync->event && *sync->event) clReleaseEvent(*sync->event);
    if (status != CLNORM_OK) fail_msg("%s: %s", m->name, clnorm_last_error(context));
  }
  atomic_store(&hooks.armed, false);
  assert_quiet(m->name, fixture_is_opencl(context), m);
  clnorm_plan_destroy(plan);
}

static void all_modes(clnorm_context *context, const clnorm_opencl_sync *sync) {
  for (size_t i = 0; i < FIXTURE_LENGTH(shapes); i++) {
    operands o = make_operands(context, shapes[i]);
    for (size_t m = 0; m < FIXTURE_LENGTH(modes); m++)
      plan_and_run(context, &o, shapes[i], &modes[m], sync);
    free_operands(context, &o);
  }
}

/* ---- Tests --------------------------------------------------------------------------------------- */

static void on_the_cpu_path(void **state) {
  (void)state;
  for (int threads = 1; threads <= 2; threads++) {
    clnorm_context_options options = dense_context_options();
    options.num_threads = threads;
    clnorm_context *context = fixture_open_with("cpu", &options);
    all_modes(context, NULL);
    clnorm_context_destroy(context);
  }
}

static void on_opencl(void **state) {
  (void)state;
  for (clnorm_form form = CLNORM_FORM_VECTOR; form <= CLNORM_FORM_WIDE; form++) {
    clnorm_context_options options = dense_context_options();
    options.form = form;
    clnorm_context *context = fixture_open_with("0.0", &options);
    all_modes(context, NULL);
    clnorm_context_destroy(context);
  }
}

/* The caller's queue of either kind, and an event for every run. */
static void on_the_callers_queue(void **state) {
  (void)state;
  static const cl_command_queue_properties kinds[] = {0, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE};
  cl_platform_id platform;
  cl_device_id device;
  cl_int code;
  assert_int_equal(clGetPlatformIDs(1, &platform, NULL), CL_SUCCESS);
  assert_int_equal(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL), CL_SUCCESS);
  cl_context cl = clCreateContext(NULL, 1, &device, NULL, NULL, &code);
  assert_int_equal(code, CL_SUCCESS);
  for (size_t i = 0; i < FIXTURE_LENGTH(kinds); i++) {
    cl_command_queue queue = clCreateCommandQueue(cl, device, kinds[i], &code);
    assert_int_equal(code, CL_SUCCESS);
    clnorm_context *context = NULL;
    assert_int_equal(clnorm_context_create_opencl(cl, device, queue, NULL, &context, NULL),
                     CLNORM_OK);
    cl_event done = NULL;
    const clnorm_opencl_sync sync = {.event = &done};
    all_modes(context, NULL);
    all_modes(context, &sync);
    clnorm_context_destroy(context);
    clReleaseCommandQueue(queue);
  }
  clReleaseContext(cl);
}

/* From the second call with a shape on, a module's forward is a planned run. */
static void of_a_module(void **state) {
  static const char *const devices[] = {"cpu", "0.0"};
  static const int64_t dims[4] = {2, 6, 40, 41};
  (void)state;
  for (size_t d = 0; d < FIXTURE_LENGTH(devices); d++) {
    clnorm_context *context = fixture_open_with(devices[d], NULL);
    clnorm_batchnorm *bn = NULL;
    const clnorm_batchnorm_options options = dense_batchnorm_options(6);
    assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
    operands o = make_operands(context, (shape){2, 6, 40 * 41});
    const dense_args args = {.x = o.x.view, .y = o.y.view};
    for (int training = 0; training < 2; training++) {
      clnorm_batchnorm_set_training(bn, training != 0);
      assert_ok(context, dense_batchnorm_forward(bn, 4, dims, &args));
      start_counting();
      for (int i = 0; i < RUNS; i++)
        assert_ok(context, dense_batchnorm_forward(bn, 4, dims, &args));
      atomic_store(&hooks.armed, false);
      assert_quiet("module", fixture_is_opencl(context), &modes[training ? 3 : 0]);
    }
    clnorm_batchnorm_destroy(bn);
    free_operands(context, &o);
    clnorm_context_destroy(context);
  }
}

/* The counters do count: a plan is seen to create kernels and to allocate. */
static void planning_is_seen(void **state) {
  (void)state;
  clnorm_context *context = fixture_open_with("0.0", NULL);
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 2, 3, 4);
  clnorm_plan *plan = NULL;
  start_counting();
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  atomic_store(&hooks.armed, false);
  assert_true(atomic_load(&hooks.calls[HOOKS_ALLOCATION]) > 0);
  assert_true(atomic_load(&layer->counts[LAYER_clBuildProgram]) > 0);
  assert_true(atomic_load(&layer->counts[LAYER_clCreateKernel]) > 0);
  clnorm_plan_destroy(plan);
  assert_int_equal(atomic_load(&layer->counts[LAYER_clFinish]),
                   0); /* destroying waits for nothing */
  assert_ok(context, clnorm_finish(context));
  assert_int_equal(atomic_load(&layer->counts[LAYER_clFinish]), 1);
  float values[4] = {0};
  clnorm_memory memory;
  assert_ok(context, clnorm_memory_alloc(context, sizeof values, &memory));
  assert_ok(context, clnorm_memory_write(context, memory, values, sizeof values));
  assert_ok(context, clnorm_memory_read(context, memory, values, sizeof values));
  assert_int_equal(atomic_load(&layer->blocking), 2);
  clnorm_memory_free(context, &memory);
  clnorm_context_destroy(context);
}

/* A context that shares another's programs compiles none, and makes kernels of its own. */
static void sharing_compiles_once(void **state) {
  (void)state;
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 2, 3, 4);
  clnorm_context_options options = dense_context_options();
  clnorm_context *contexts[3] = {NULL, NULL, NULL};
  clnorm_plan *plans[3];
  long before[LAYER_NUM_OBJECTS];
  layer_live(layer, before);
  for (int i = 0; i < 3; i++) {
    options.share = i > 0 ? contexts[i - 1] : NULL;
    contexts[i] = fixture_open_with("0.0", &options);
  }
  start_counting();
  for (int i = 0; i < 3; i++)
    assert_ok(contexts[i], dense_plan_create(contexts[i], &desc, &plans[i]));
  atomic_store(&hooks.armed, false);
  assert_int_equal(atomic_load(&layer->counts[LAYER_clBuildProgram]), 1);
  assert_true(atomic_load(&layer->counts[LAYER_clCreateKernel]) >= 3);
  for (int i = 0; i < 3; i++) {
    clnorm_context_destroy(contexts[i]); /* before its plan, and the first before the others */
    clnorm_plan_destroy(plans[i]);
  }
  layer_assert_live(layer, before, "sharing");
}

/* What is not wanted is not asked: the CPU path asks OpenCL for nothing, P.D no other platform. */
static void only_what_is_wanted_is_asked(void **state) {
  static const char *const selectors[] = {"cpu", "0.0", "Portable", "7.0"};
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(selectors); i++) {
    clnorm_context *context = NULL;
    start_counting();
    const clnorm_status status = clnorm_context_create(selectors[i], NULL, &context, NULL);
    atomic_store(&hooks.armed, false);
    long calls = 0;
    for (int k = 0; k < LAYER_NUM_FUNCTIONS; k++) calls += atomic_load(&layer->counts[k]);
    assert_int_equal(status, i < 3 ? CLNORM_OK : CLNORM_ERROR_NO_DEVICE);
    if (i == 0) assert_int_equal(calls, 0);
    if (i > 0) assert_true(calls > 0);
    clnorm_context_destroy(context);
  }
}

static int find_layer(void **state) {
  (void)state;
  layer = layer_open();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(planning_is_seen),
      cmocka_unit_test(on_the_cpu_path),
      cmocka_unit_test(on_opencl),
      cmocka_unit_test(on_the_callers_queue),
      cmocka_unit_test(of_a_module),
      cmocka_unit_test(sharing_compiles_once),
      cmocka_unit_test(only_what_is_wanted_is_asked),
  };
  return cmocka_run_group_tests(tests, find_layer, NULL);
}
