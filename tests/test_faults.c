/*
 * Everything that can fail is made to fail, once each: the n-th OpenCL call (by the layer), the n-th
 * allocation and the n-th thread of the library (by the hooks), for n = 1, 2, 3, ... until none is left.
 *
 * One sequence goes through the whole library: device list, context, memory, plans, runs, copies, a
 * module, and the end of all of them. Each time, the step that met the fault reports the documented
 * status and a message that names the call, or stands in a table of failures that are tolerated and why;
 * the caller's data is unharmed; the same step then succeeds; the results have the right bits; nothing is
 * left alive.
 */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <clnorm/clnorm_opencl.h>

#include "folder.h"
#include "hooks.h"
#include "layer.h"

/* ---- What fails, and where ------------------------------------------------------------------------ */

typedef enum fault_kind { CALL_EXHAUSTED, CALL_BROKEN, ALLOCATION, THREAD } fault_kind;
static const char *const fault_names[] = {"OpenCL call (resources ran out)", "OpenCL call",
                                          "allocation", "thread"};

typedef enum step_kind {
  LIST,
  OPEN,
  ALLOC,
  WRITE,
  PLAN,
  RUN,
  TIME,
  FINISH,
  READ,
  MODULE,
  END
} step_kind;

typedef enum cache_kind { CACHE_NONE, CACHE_COLD, CACHE_WARM } cache_kind;

typedef struct scenario {
  const char *name;
  const char *device; /* NULL: the caller's objects */
  cl_command_queue_properties queue;
  clnorm_form form;
  cache_kind cache;
  bool plans_only; /* no further than the first plan: what follows is the same with every cache */
  unsigned also;
} scenario;

enum {
  TWO_QUEUES = 1, /* runs are put on the caller's two queues by turns */
  SHARED = 2      /* the programs of another context, which has built them */
};

#define PROFILED CL_QUEUE_PROFILING_ENABLE
#define OUT_OF_ORDER CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE

static const scenario opencl_scenarios[] = {
    {"vector form, no cache", "0.0", 0, CLNORM_FORM_VECTOR, CACHE_NONE, true, 0},
    {"wide form, new cache", "0.0", 0, CLNORM_FORM_WIDE, CACHE_COLD, true, 0},
    {"wide form, filled cache", "0.0", PROFILED, CLNORM_FORM_WIDE, CACHE_WARM, false, 0},
    {"sharing programs", "0.0", 0, CLNORM_FORM_VECTOR, CACHE_NONE, true, SHARED},
    {"adopted, in order, profiled, two queues, sharing programs", NULL, PROFILED,
     CLNORM_FORM_VECTOR, CACHE_WARM, false, TWO_QUEUES | SHARED},
    {"adopted, out of order, two queues", NULL, OUT_OF_ORDER, CLNORM_FORM_VECTOR, CACHE_WARM, false,
     TWO_QUEUES},
};
static const scenario cpu_scenario = {"CPU path", "cpu", 0, CLNORM_FORM_AUTO, CACHE_NONE, false, 0};

static layer_control *layer;
static long failed_calls[LAYER_NUM_FUNCTIONS]; /* over all tests */

static bool is_call(fault_kind fault) { return fault <= CALL_BROKEN; }

static void reset(fault_kind fault, long n) {
  layer_reset(layer, is_call(fault) ? n : 0, fault == CALL_BROKEN);
  hooks_reset(fault == THREAD ? HOOKS_THREAD : HOOKS_ALLOCATION, is_call(fault) ? 0 : n);
}

static void arm(bool armed) {
  atomic_store(&layer->armed, armed);
  atomic_store(&hooks.armed, armed);
}

/* The call that was made to fail; NULL: none yet. */
static const char *fired(void) {
  const int function = atomic_load(&layer->failed);
  return function >= 0 ? layer_function_name((layer_function)function) : atomic_load(&hooks.failed);
}

/* ---- Failures that are tolerated ------------------------------------------------------------------- */

typedef enum when { ALWAYS, ADOPTED, CACHED, FROM_CACHE } when;

typedef struct tolerated_row {
  unsigned steps; /* bits of step_kind */
  when when;
  const char *call; /* for an allocation: how many at most, since all look alike */
  int most;
  const char *reason;
} tolerated_row;

#define STEP(kind) (1u << (kind))
#define BUILDING (STEP(PLAN) | STEP(RUN)) /* a module's forward plans as well */

#define TOLD "a list never fails for a driver; it tells the failure (checked)"
#define NO_RESULT "ending an object returns nothing"
#define NO_ID "the id of an adopted device is for reading only, and then \"-\""
#define CACHE "the program cache is a convenience: the program is built, or not kept"
#define BUILD_LOG "a program that was built is good without its log"

static const tolerated_row tolerated_calls[] = {
    {STEP(LIST), ALWAYS, "clGetPlatformIDs", 0, TOLD},
    {STEP(LIST), ALWAYS, "clGetPlatformInfo", 0, TOLD},
    {STEP(LIST), ALWAYS, "clGetDeviceIDs", 0, TOLD},
    {STEP(LIST), ALWAYS, "clGetDeviceInfo", 0, TOLD},
    {STEP(OPEN), ADOPTED, "clGetPlatformIDs", 0, NO_ID},
    {STEP(OPEN), ADOPTED, "clGetDeviceIDs", 0, NO_ID},
    {BUILDING, ALWAYS, "clGetProgramBuildInfo", 0, BUILD_LOG},
    {BUILDING, CACHED, "clGetPlatformInfo", 0, CACHE},
    {BUILDING, CACHED, "clGetDeviceInfo", 0, CACHE},
    {BUILDING, CACHED, "clGetProgramInfo", 0, CACHE},
    {BUILDING, FROM_CACHE, "clCreateProgramWithBinary", 0, CACHE},
    {BUILDING, FROM_CACHE, "clBuildProgram", 0, CACHE},
    {STEP(RUN), ALWAYS, "clReleaseEvent", 0, "the work is submitted; nobody can release it again"},
    {STEP(WRITE) | STEP(MODULE), ALWAYS, "clReleaseEvent", 0, "the values are written"},
    {STEP(END), ALWAYS, "clFinish", 0, NO_RESULT},
    {STEP(END), ALWAYS, "clReleaseEvent", 0, NO_RESULT},
    {STEP(END), ALWAYS, "clReleaseKernel", 0, NO_RESULT},
    {STEP(END), ALWAYS, "clReleaseProgram", 0, NO_RESULT},
    {STEP(END), ALWAYS, "clReleaseMemObject", 0, NO_RESULT},
    {STEP(END), ALWAYS, "clReleaseCommandQueue", 0, NO_RESULT},
    {STEP(END), ALWAYS, "clReleaseContext", 0, NO_RESULT},
    {STEP(END), ALWAYS, "clReleaseDevice", 0, NO_RESULT},
};

/* The steps build two programs: channel's, and split's, which evaluation shares. */
static const tolerated_row tolerated_allocations[] = {
    {STEP(OPEN), ADOPTED, "calloc", 2, NO_ID},
    {STEP(OPEN), CACHED, "malloc", 1, CACHE},
    {STEP(PLAN), ALWAYS, "calloc", 2 * 1, BUILD_LOG},
    {STEP(PLAN), CACHED, "calloc", 2 * 10, CACHE}, /* texts of the key, sizes of the binary */
    {STEP(PLAN), CACHED, "malloc", 2 * 4, CACHE},
};

static bool applies(const tolerated_row *row, const scenario *s, step_kind step, const char *call) {
  const bool now = row->when == ALWAYS || (row->when == ADOPTED && !s->device) ||
                   (row->when == CACHED && s->cache != CACHE_NONE) ||
                   (row->when == FROM_CACHE && s->cache == CACHE_WARM);
  return now && (row->steps & STEP(step)) && strcmp(row->call, call) == 0;
}

/* Counts of tolerated_allocations in this scenario. */
static int seen[FIXTURE_LENGTH(tolerated_allocations)];

static bool is_tolerated(const scenario *s, step_kind step, fault_kind fault, const char *call) {
  for (size_t i = 0; i < FIXTURE_LENGTH(tolerated_calls) && is_call(fault); i++)
    if (applies(&tolerated_calls[i], s, step, call)) return true;
  for (size_t i = 0; i < FIXTURE_LENGTH(tolerated_allocations) && fault == ALLOCATION; i++) {
    const tolerated_row *row = &tolerated_allocations[i];
    if (applies(row, s, step, call) && seen[i] < row->most) {
      seen[i]++;
      return true;
    }
  }
  return false;
}

/* ---- The sequence ---------------------------------------------------------------------------------- */

enum { N = 3, C = 5, S = 300, COUNT = N * C * S };
enum { X, Y, WEIGHT, BIAS, MEAN, VAR, SAVED_MEAN, SAVED_INVSTD, NUM_OPERANDS };
enum { CHANNEL, SPLIT, GIVEN, TRAINING, EVALUATION, NUM_RESULTS };

typedef float operands[NUM_OPERANDS][COUNT];

static operands start, expected[NUM_RESULTS];

static size_t size_of(int operand) { return sizeof(float) * (operand <= Y ? COUNT : C); }

static struct {
  cl_context context;
  cl_device_id device;
  cl_command_queue queue, second;
  clnorm_context *builder; /* of the programs that are shared */
} adopted;

typedef struct world {
  const scenario *scenario;
  char cache[512];
  clnorm_device_list *list;
  clnorm_context *context;
  clnorm_message message;
  clnorm_memory memory[NUM_OPERANDS];
  clnorm_plan *plan;
  clnorm_batchnorm *bn;
  cl_event before, first, done; /* of the caller's, around a run */
  long runs;
  operands out;
} world;

static clnorm_status make_list(world *w, int unused) {
  (void)unused;
  return clnorm_device_list_create(&w->list);
}

static clnorm_status open_context(world *w, int unused) {
  clnorm_context_options options = dense_context_options();
  (void)unused;
  options.form = w->scenario->form;
  options.cache_dir = w->cache;
  options.num_threads = 3;
  options.share = adopted.builder;
  options.profiling = (w->scenario->queue & PROFILED) != 0;
  if (w->scenario->device)
    return clnorm_context_create(w->scenario->device, &options, &w->context, &w->message);
  return clnorm_context_create_opencl(adopted.context, adopted.device, adopted.queue, &options,
                                      &w->context, &w->message);
}

static clnorm_status alloc_all(world *w, int unused) {
  clnorm_status status = CLNORM_OK;
  (void)unused;
  for (int i = 0; i < NUM_OPERANDS && status == CLNORM_OK; i++)
    if (!w->memory[i].host && !w->memory[i].cl)
      status = clnorm_memory_alloc(w->context, size_of(i), &w->memory[i]);
  return status;
}

static clnorm_status write_all(world *w, int unused) {
  clnorm_status status = CLNORM_OK;
  (void)unused;
  for (int i = 0; i < NUM_OPERANDS && status == CLNORM_OK; i++)
    status = clnorm_memory_write(w->context, w->memory[i], start[i], size_of(i));
  return status;
}

static clnorm_status read_all(world *w, int unused) {
  clnorm_status status = CLNORM_OK;
  (void)unused;
  for (int i = 0; i < NUM_OPERANDS && status == CLNORM_OK; i++)
    status = clnorm_memory_read(w->context, w->memory[i], w->out[i], size_of(i));
  return status;
}

static clnorm_status make_plan(world *w, int result) {
  dense_desc desc = dense_desc_defaults(
      result == GIVEN ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS, N, C, S);
  if (result == CHANNEL) desc.cut = CLNORM_CUT_CHANNEL;
  if (result == SPLIT) desc.cut = CLNORM_CUT_SPLIT;
  return dense_plan_create(w->context, &desc, &w->plan);
}

/* On the caller's queue, runs wait for an event of the caller's and return one. */
static clnorm_opencl_sync *make_sync(world *w, clnorm_opencl_sync *sync) {
  const bool second = (w->scenario->also & TWO_QUEUES) && w->runs % 2;
  const clnorm_opencl_sync around = {
      .num_events_in_wait_list = 1,
      .event_wait_list = &w->before,
      .event = &w->done,
      .first_event = &w->first,
      .queue = second ? adopted.second : NULL,
  };
  *sync = around;
  return w->before ? sync : NULL;
}

static clnorm_status run_plan(world *w, int unused) {
  clnorm_opencl_sync sync;
  const dense_args args = {.x = w->memory[X],
                           .y = w->memory[Y],
                           .weight = w->memory[WEIGHT],
                           .bias = w->memory[BIAS],
                           .running_mean = w->memory[MEAN],
                           .running_var = w->memory[VAR],
                           .saved_mean = w->memory[SAVED_MEAN],
                           .saved_invstd = w->memory[SAVED_INVSTD],
                           .momentum = 0.75,
                           .sync = make_sync(w, &sync)};
  (void)unused;
  return dense_run(w->plan, &args);
}

static void give_back_events(world *w) {
  if (w->first) clReleaseEvent(w->first);
  if (w->done) clReleaseEvent(w->done);
  w->first = w->done = NULL;
}

/* On the caller's queues: while an earlier run of the plan is under way, which waits for a gate. */
static clnorm_status run_behind(world *w, int unused) {
  const bool armed = atomic_load(&layer->armed);
  cl_event before = w->before;
  if (!before) return run_plan(w, unused);
  arm(false);
  cl_int code;
  cl_event gate = clCreateUserEvent(adopted.context, &code);
  assert_int_equal(code, CL_SUCCESS);
  w->before = gate;
  assert_ok(w->context, run_plan(w, unused));
  give_back_events(w);
  w->runs++; /* the other queue is next, where there are two */
  w->before = before;
  arm(armed);
  const clnorm_status status = run_plan(w, unused);
  arm(false);
  clSetUserEventStatus(gate, CL_COMPLETE);
  clReleaseEvent(gate);
  return status;
}

static clnorm_status time_run(world *w, int unused) {
  double seconds;
  (void)unused;
  return w->scenario->queue & PROFILED ? clnorm_last_run_seconds(w->context, &seconds) : CLNORM_OK;
}

static clnorm_status finish(world *w, int unused) {
  (void)unused;
  return clnorm_finish(w->context);
}

static clnorm_status make_module(world *w, int unused) {
  const clnorm_batchnorm_options options = dense_batchnorm_options(C);
  (void)unused;
  return clnorm_batchnorm_create(w->context, &options, &w->bn);
}

static clnorm_status forward(world *w, int result) {
  static const int64_t dims[4] = {N, C, 1, S};
  clnorm_opencl_sync sync;
  const dense_args args = {.x = w->memory[X],
                           .y = w->memory[Y],
                           .saved_mean = w->memory[SAVED_MEAN],
                           .saved_invstd = w->memory[SAVED_INVSTD],
                           .sync = make_sync(w, &sync)};
  clnorm_batchnorm_set_training(w->bn, result == TRAINING);
  return dense_batchnorm_forward(w->bn, 4, dims, &args);
}

static clnorm_status read_module(world *w, int unused) {
  clnorm_status status = read_all(w, unused);
  for (int i = WEIGHT; i <= VAR && status == CLNORM_OK; i++)
    status = dense_batchnorm_get(w->bn, CLNORM_WEIGHT + i - WEIGHT, w->out[i], C);
  return status;
}

static clnorm_status end_plan(world *w, int unused) {
  (void)unused;
  clnorm_plan_destroy(w->plan);
  w->plan = NULL;
  return CLNORM_OK;
}

static clnorm_status end_all(world *w, int unused) {
  (void)unused;
  clnorm_plan_destroy(w->plan);
  clnorm_batchnorm_destroy(w->bn);
  for (int i = 0; i < NUM_OPERANDS; i++) clnorm_memory_free(w->context, &w->memory[i]);
  clnorm_context_destroy(w->context);
  clnorm_device_list_destroy(w->list);
  return CLNORM_OK;
}

typedef struct step {
  const char *name;
  step_kind kind;
  clnorm_status (*action)(world *w, int argument);
  int argument;
  unsigned flags;
} step;

enum {
  ARMED = 1,
  RESULTS = 2
}; /* faults happen here; w->out holds the argument's result after it */

/* The copies are the same calls each time: one round of faults in them is enough. */
#define PLANNED(name, result, copies)                                                              \
  {"writing before " name, WRITE, write_all, 0, copies}, /* what the run must find */              \
      {"planning " name, PLAN, make_plan, result, ARMED},                                          \
      {"running " name, RUN, run_plan, result, ARMED}, {"timing " name, TIME, time_run, 0, ARMED}, \
      {"finishing " name, FINISH, finish, 0, ARMED},                                               \
      {"reading " name, READ, read_all, result, copies | RESULTS}, {                               \
    "ending " name, END, end_plan, 0, ARMED                                                        \
  }

static const step steps[] = {
    {"listing devices", LIST, make_list, 0, ARMED},
    {"opening", OPEN, open_context, 0, ARMED},
    {"allocating", ALLOC, alloc_all, 0, ARMED},
    PLANNED("channel", CHANNEL, ARMED),
    PLANNED("split", SPLIT, 0),
    {"planning again", PLAN, make_plan, SPLIT, 0},
    {"running behind a run under way", RUN, run_behind, 0, ARMED},
    {"ending the plan of both", END, end_plan, 0, 0},
    PLANNED("evaluation", GIVEN, 0),
    {"writing before the module", WRITE, write_all, 0, 0},
    {"creating a module", MODULE, make_module, 0, ARMED},
    {"training the module", RUN, forward, TRAINING, ARMED},
    {"reading the module", READ, read_module, TRAINING, RESULTS},
    {"evaluating the module", RUN, forward, EVALUATION, ARMED},
    {"reading the module again", READ, read_module, EVALUATION, RESULTS},
    {"ending", END, end_all, 0, ARMED},
};
enum { LAST = FIXTURE_LENGTH(steps) - 1 };

/* ---- Checks after a fault -------------------------------------------------------------------------- */

static const char *context_text(const world *w) {
  return w->context ? clnorm_last_error(w->context) : w->message.text;
}

#define ONE(status) (1u << (status))

/* The statuses that the documentation allows. A device that does not answer is listed as unusable, so
 * opening it by name finds none; when it stops answering after that, the device has failed. */
static unsigned documented(step_kind kind, fault_kind fault, const char *call) {
  const unsigned memory = ONE(CLNORM_ERROR_OUT_OF_MEMORY), device = ONE(CLNORM_ERROR_DEVICE);
  if (!is_call(fault)) return memory;
  if (strcmp(call, "clBuildProgram") == 0)
    return fault == CALL_BROKEN ? ONE(CLNORM_ERROR_BUILD) : memory;
  if (strncmp(call, "clCreate", 8) == 0) return fault == CALL_BROKEN ? device : memory;
  const bool asks =
      strncmp(call, "clGetPlatform", 13) == 0 || strncmp(call, "clGetDevice", 11) == 0;
  if (kind <= OPEN && asks)
    return ONE(CLNORM_ERROR_NO_DEVICE) | device | (fault == CALL_EXHAUSTED ? memory : 0);
  return device;
}

static bool list_tells(const clnorm_device_list *list, const char *call) {
  for (int i = 0; i < clnorm_device_list_count(list); i++)
    if (strstr(clnorm_device_list_get(list, i)->status, call)) return true;
  for (int i = 0; i < clnorm_device_list_missing_count(list); i++)
    if (strstr(clnorm_device_list_missing(list, i), call)) return true;
  return false;
}

static void check_report(const world *w, const step *s, fault_kind fault, const char *call,
                         clnorm_status status, const char *row) {
  if (status == CLNORM_OK) {
    if (!is_tolerated(w->scenario, s->kind, fault, call)) fail_msg("%s: nothing is reported", row);
    if (s->kind == LIST && is_call(fault) && !list_tells(w->list, call))
      fail_msg("%s: the list does not tell it", row);
    return;
  }
  const char *text = context_text(w);
  if (!(documented(s->kind, fault, call) & ONE(status)))
    fail_msg("%s: %s: %s", row, clnorm_status_name(status), text);
  if (s->kind == LIST) return; /* there is nothing yet to keep a text in */
  const char *word = is_call(fault) ? call : fault == THREAD ? "thread" : "memory";
  if (!strstr(text, word)) fail_msg("%s: no '%s' in '%s'", row, word, text);
}

static bool submitted(void) {
  const bool failed = atomic_load(&layer->failed) == LAYER_clEnqueueNDRangeKernel;
  return atomic_load(&layer->counts[LAYER_clEnqueueNDRangeKernel]) > (failed ? 1 : 0);
}

static void assert_same(const operands a, const operands b, const char *row) {
  for (int i = 0; i < NUM_OPERANDS; i++)
    if (memcmp(a[i], b[i], size_of(i)) != 0) fail_msg("%s: operand %d has changed", row, i);
}

static void must(world *w, clnorm_status (*action)(world *, int), int argument, const char *row) {
  const clnorm_status status = action(w, argument);
  if (status != CLNORM_OK)
    fail_msg("%s: again: %s: %s", row, clnorm_status_name(status), context_text(w));
}

/* A run failed: where nothing was submitted nothing has changed; else outputs are undefined, inputs are
 * not, and the caller restores what a run reads and writes. */
static void check_data(world *w, const step *s, const char *row) {
  must(w, finish, 0, row);
  must(w, read_all, 0, row);
  if (!submitted() && s->action == run_plan) assert_same(w->out, start, row);
  for (int i = X; i <= BIAS; i++)
    if (i != Y && memcmp(w->out[i], start[i], size_of(i)) != 0)
      fail_msg("%s: input %d has changed", row, i);
  if (s->action == run_plan) must(w, write_all, 0, row);
}

/* The module as it was before its forward. */
static void check_module(world *w, const step *s, const char *row) {
  static const float values[4] = {1, 0, 0, 1};
  const bool training = s->argument == TRAINING;
  assert_int_equal(clnorm_batchnorm_num_batches_tracked(w->bn), training ? 0 : 1);
  must(w, read_module, 0, row);
  for (int i = WEIGHT; i <= VAR; i++) {
    float was[C];
    for (int c = 0; c < C; c++) was[c] = training ? values[i - WEIGHT] : expected[TRAINING][i][c];
    const bool changed = memcmp(w->out[i], was, sizeof was) != 0;
    if (changed && (!submitted() || !training || i <= BIAS))
      fail_msg("%s: parameter %d of the module has changed", row, i - WEIGHT);
    assert_ok(w->context, dense_batchnorm_set(w->bn, CLNORM_WEIGHT + i - WEIGHT, was, C));
  }
}

/* ---- One sequence ---------------------------------------------------------------------------------- */

static void make_event(world *w) {
  if (w->scenario->device || !w->context) return;
  assert_int_equal(clEnqueueMarkerWithWaitList(adopted.queue, 0, NULL, &w->before), CL_SUCCESS);
}

static void release_events(world *w, clnorm_status status, const char *row) {
  if (w->before) clReleaseEvent(w->before);
  if ((w->first || w->done) && status != CLNORM_OK)
    fail_msg("%s: a failed run gives an event", row);
  if (w->before && status == CLNORM_OK && !(w->first && w->done))
    fail_msg("%s: a run does not give its events", row);
  give_back_events(w);
  w->before = NULL;
}

static clnorm_status take(world *w, const step *s, bool armed, const char *row) {
  if (s->kind == RUN) make_event(w);
  arm(armed);
  const clnorm_status status = s->action(w, s->argument);
  arm(false);
  if (s->kind == RUN) release_events(w, status, row);
  if (s->kind == RUN && status == CLNORM_OK) w->runs++;
  if (s->kind == RUN && (w->scenario->also & TWO_QUEUES)) clFinish(adopted.second);
  return status;
}

/* The fault was met in this step: check it, and take the step again where it failed. */
static void recover(world *w, const step *s, fault_kind fault, clnorm_status status, long n) {
  char row[256];
  const char *call = fired();
  snprintf(row, sizeof row, "%s, %s %ld (%s) fails while %s", w->scenario->name, fault_names[fault],
           n, call, s->name);
  if (is_call(fault)) failed_calls[atomic_load(&layer->failed)]++;
  check_report(w, s, fault, call, status, row);
  if (status == CLNORM_OK) return;
  if (s->action == make_list) assert_null(w->list);
  if (s->action == open_context) assert_null(w->context);
  if (s->action == make_plan) assert_null(w->plan);
  if (s->action == make_module) assert_null(w->bn);
  if (s->kind == RUN) check_data(w, s, row);
  if (s->action == forward) check_module(w, s, row);
  if (take(w, s, false, row) != CLNORM_OK) fail_msg("%s: again: %s", row, context_text(w));
}

/* With the n-th fault of that kind; false where there is none. record: results become `expected`. */
static bool run_sequence(const scenario *s, fault_kind fault, long n, bool record) {
  long before[LAYER_NUM_OBJECTS];
  static world w;
  memset(&w, 0, sizeof w);
  w.scenario = s;
  if (s->cache != CACHE_NONE)
    snprintf(w.cache, sizeof w.cache, "%s/faults-cache", CLNORM_TEST_BINARY_DIR);
  if (s->cache == CACHE_COLD) folder_empty(w.cache);
  layer_live(layer, before);
  const long allocated = atomic_load(&hooks.live);
  reset(fault, n);
  for (size_t i = 0; i < FIXTURE_LENGTH(steps); i++) {
    const step *now = &steps[i];
    const bool was_fired = fired() != NULL;
    atomic_store(&layer->counts[LAYER_clEnqueueNDRangeKernel], 0);
    const clnorm_status status = take(&w, now, (now->flags & ARMED) != 0, now->name);
    if (!was_fired && fired()) {
      recover(&w, now, fault, status, n);
      if (now->kind <= OPEN) i = LAST - 1; /* the context is there after all, and that is enough */
    } else if (status != CLNORM_OK) {
      fail_msg("%s, %s %ld (%s): %s: %s", s->name, fault_names[fault], n, fired() ? fired() : "-",
               now->name, context_text(&w));
    }
    if (now->kind == PLAN && s->plans_only) i = LAST - 1;
    if (!(now->flags & RESULTS)) continue;
    if (record) memcpy(expected[now->argument], w.out, sizeof w.out);
    assert_same(w.out, expected[now->argument], now->name);
    if (fired()) i = LAST - 1;
  }
  char where[128];
  snprintf(where, sizeof where, "%s, %s %ld", s->name, fault_names[fault], n);
  layer_assert_live(layer, before, where);
  if (atomic_load(&hooks.live) != allocated)
    fail_msg("%s: %+ld allocations are left", where, atomic_load(&hooks.live) - allocated);
  return fired() != NULL;
}

/* ---- Tests ----------------------------------------------------------------------------------------- */

static void adopt(const scenario *s) {
  cl_platform_id platform;
  cl_int code;
  assert_int_equal(clGetPlatformIDs(1, &platform, NULL), CL_SUCCESS);
  assert_int_equal(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &adopted.device, NULL),
                   CL_SUCCESS);
  adopted.context = clCreateContext(NULL, 1, &adopted.device, NULL, NULL, &code);
  assert_int_equal(code, CL_SUCCESS);
  adopted.queue = clCreateCommandQueue(adopted.context, adopted.device, s->queue, &code);
  assert_int_equal(code, CL_SUCCESS);
  adopted.second = clCreateCommandQueue(adopted.context, adopted.device, s->queue, &code);
  assert_int_equal(code, CL_SUCCESS);
}

/* A context that has built what the scenario's programs are. */
static void open_builder(const scenario *s) {
  static world w;
  memset(&w, 0, sizeof w);
  w.scenario = s;
  must(&w, open_context, 0, "the builder");
  must(&w, make_plan, CHANNEL, "the builder");
  must(&w, end_plan, 0, "the builder");
  must(&w, make_plan, SPLIT, "the builder");
  must(&w, end_plan, 0, "the builder");
  adopted.builder = w.context;
}

static void release_adopted(void) {
  assert_int_equal(clReleaseCommandQueue(adopted.second), CL_SUCCESS);
  assert_int_equal(clReleaseCommandQueue(adopted.queue), CL_SUCCESS);
  assert_int_equal(clReleaseContext(adopted.context), CL_SUCCESS);
}

/* n = 1, 2, 3, ... until no fault fires. */
static void every_fault(const scenario *s, fault_kind fault, long at_least) {
  if (!s->device) adopt(s);
  if (s->also & SHARED) open_builder(s);
  memset(seen, 0, sizeof seen);
  reset(fault, 0);
  run_sequence(s, fault, 0, false); /* fills a cache that is to be full */
  long n = 1;
  while (run_sequence(s, fault, n, false)) n++;
  print_message("  %s: %ld times '%s'\n", s->name, n - 1, fault_names[fault]);
  assert_true(n > at_least);
  clnorm_context_destroy(adopted.builder);
  adopted.builder = NULL;
  if (!s->device) release_adopted();
}

static void every_opencl_call(void **state) {
  const fault_kind fault = *(const fault_kind *)*state;
  for (size_t i = 0; i < FIXTURE_LENGTH(opencl_scenarios); i++)
    every_fault(&opencl_scenarios[i], fault, 100);
}

static void every_allocation(void **state) {
  (void)state;
  every_fault(&cpu_scenario, ALLOCATION, 10);
  for (size_t i = 0; i < FIXTURE_LENGTH(opencl_scenarios); i++)
    every_fault(&opencl_scenarios[i], ALLOCATION, 20);
}

static void every_thread(void **state) {
  (void)state;
  every_fault(&cpu_scenario, THREAD, 2); /* three workers: the caller and two threads */
}

/* The list in layer.h is what the library may call; these it did not call here. */
static void every_function_failed(void **state) {
  static const struct {
    layer_function function;
    const char *reason;
  } never[] = {
      {LAYER_clGetContextInfo, "loaded, not called yet"},
      {LAYER_clCreateUserEvent, "called by tests only"},
  };
  (void)state;
  for (int i = 0; i < LAYER_NUM_FUNCTIONS; i++) {
    bool excused = false;
    for (size_t k = 0; k < FIXTURE_LENGTH(never); k++)
      if ((int)never[k].function == i) excused = true;
    if (failed_calls[i] == 0 && !excused)
      fail_msg("%s was never made to fail", layer_function_name((layer_function)i));
  }
}

static int prepare(void **state) {
  (void)state;
  layer = layer_open();
  fixture_fill(start[X], COUNT, 1, 5, 2);
  fixture_fill(start[WEIGHT], C, 2, 1, 0.2);
  fixture_fill(start[BIAS], C, 3, 0, 1);
  fixture_fill(start[MEAN], C, 4, 5, 0.1);
  fixture_fill(start[VAR], C, 5, 4, 0.1);
  fixture_fill(start[Y], COUNT, 6, -77, 1);
  fixture_fill(start[SAVED_MEAN], C, 7, -77, 1);
  fixture_fill(start[SAVED_INVSTD], C, 8, -77, 1);
  run_sequence(&cpu_scenario, ALLOCATION, 0, true);
  return 0;
}

int main(void) {
  static fault_kind exhausted = CALL_EXHAUSTED, broken = CALL_BROKEN;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_thread),
      cmocka_unit_test(every_allocation),
      cmocka_unit_test_prestate(every_opencl_call, &exhausted),
      cmocka_unit_test_prestate(every_opencl_call, &broken),
      cmocka_unit_test(every_function_failed),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
