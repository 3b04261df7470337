/* Rejected arguments, one row each: the status, a message that holds the value and the rule, and
 * nothing changed. Devices, contexts, memory, the forward operator, BatchNorm2d, comparing. */
#include "fixture.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INVALID CLNORM_ERROR_INVALID_ARGUMENT
#define UNSUPPORTED CLNORM_ERROR_UNSUPPORTED
#define TOO_SMALL CLNORM_ERROR_BUFFER_TOO_SMALL
#define OVERLAP CLNORM_ERROR_OVERLAP
#define HUGE_SIZE ((int64_t)1 << 62)

/* The call fails so, on this context. */
#define assert_rejected(context, call, expected, words, row)                                       \
  do {                                                                                             \
    const clnorm_status rejected_status = (call);                                                  \
    fixture_rejected(clnorm_last_error(context), rejected_status, (expected), (words), (row));     \
  } while (0)

static bool is_absent(clnorm_memory memory) { return memory.host == NULL && memory.cl == NULL; }

/* ---- Devices and contexts ---------------------------------------------------------------------- */

typedef struct context_row {
  const char *device;
  clnorm_context_options options;
  clnorm_status expected;
  const char *words;
} context_row;

static const context_row contexts[] = {
    {"no such name", {0}, CLNORM_ERROR_NO_DEVICE, "no such name|cpu"},
    {"", {0}, CLNORM_ERROR_NO_DEVICE, "cpu"},
    {"99.0", {0}, CLNORM_ERROR_NO_DEVICE, "99.0"},
    {"0.99", {0}, CLNORM_ERROR_NO_DEVICE, "0.99"},
    {"-1.0", {0}, CLNORM_ERROR_NO_DEVICE, "-1.0"},
    {"99999999999999999999.0", {0}, CLNORM_ERROR_NO_DEVICE, "99999999999999999999.0"},
    {"cpu", {.num_threads = -1}, INVALID, "num_threads|-1"},
    {"cpu", {.num_threads = 1 << 20}, INVALID, "num_threads"},
    {"cpu", {.isa = (clnorm_isa)4}, INVALID, "isa|4"},
    {"cpu", {.isa = (clnorm_isa)-1}, INVALID, "isa|-1"},
    {"cpu", {.form = (clnorm_form)3}, INVALID, "form|3"},
    {"cpu", {.form = (clnorm_form)-1}, INVALID, "form|-1"},
    {"cpu", {.group_size = 96}, INVALID, "group_size|96|0, 64, 128 or 256"},
    {"cpu", {.group_size = -64}, INVALID, "group_size|-64"},
};

static void contexts_that_cannot_be(void **state) {
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(contexts); i++) {
    const context_row *row = &contexts[i];
    clnorm_context *context = (clnorm_context *)&context;
    clnorm_message message = {"poison"};
    clnorm_status status = clnorm_context_create(row->device, &row->options, &context, &message);
    fixture_rejected(message.text, status, row->expected, row->words, row->device);
    assert_null(context);
    status = clnorm_context_create(row->device, &row->options, &context, NULL);
    assert_int_equal(status, row->expected);
  }
  clnorm_message message;
  const clnorm_status status = clnorm_context_create("cpu", NULL, NULL, &message);
  fixture_rejected(message.text, status, INVALID, "context", "context NULL");
}

static void a_good_context_clears_the_message(void **state) {
  (void)state;
  clnorm_message message = {"poison"};
  clnorm_context *context = NULL;
  assert_int_equal(clnorm_context_create("cpu", NULL, &context, &message), CLNORM_OK);
  assert_string_equal(message.text, "");
  assert_string_equal(clnorm_last_error(context), "");
  assert_string_equal(clnorm_context_device(context)->id, "cpu");
  clnorm_context_destroy(context);
}

static void device_lists(void **state) {
  (void)state;
  assert_int_equal(clnorm_device_list_create(NULL), INVALID);
  clnorm_device_list *list = NULL;
  assert_int_equal(clnorm_device_list_create(&list), CLNORM_OK);
  const int count = clnorm_device_list_count(list);
  assert_true(count >= 1);
  assert_string_equal(clnorm_device_list_get(list, 0)->id, "cpu");
  const int chosen = clnorm_device_list_default(list);
  assert_true(chosen >= 0 && chosen < count);
  assert_true(clnorm_device_list_get(list, chosen)->usable);
  for (int i = 0; i < count; i++) {
    const clnorm_device_info *info = clnorm_device_list_get(list, i);
    assert_true(info->name[0] != '\0' && info->platform[0] != '\0' && info->type[0] != '\0');
    assert_int_equal(info->usable, strcmp(info->status, "ok") == 0);
  }
  for (int i = 0; i < clnorm_device_list_missing_count(list); i++) {
    assert_true(strlen(clnorm_device_list_missing(list, i)) > 0);
  }
  clnorm_device_list_destroy(list);
}

static void null_is_accepted_where_it_is_said(void **state) {
  (void)state;
  clnorm_device_list_destroy(NULL);
  clnorm_context_destroy(NULL);
  clnorm_forward_plan_destroy(NULL);
  clnorm_batchnorm2d_destroy(NULL);
}

static void null_objects_are_rejected(void **state) {
  clnorm_context *context = *state;
  clnorm_memory memory = {NULL, NULL, 0, 0};
  clnorm_forward_plan *plan = NULL;
  clnorm_batchnorm2d *bn = NULL;
  float value = 0;
  const int64_t dims[4] = {1, 1, 1, 1};
  clnorm_difference difference;
  const clnorm_forward_desc desc = clnorm_forward_desc_defaults(CLNORM_BATCH_STATISTICS, 2, 3, 4);
  const clnorm_batchnorm2d_options options = clnorm_batchnorm2d_options_defaults(3);
  assert_int_equal(clnorm_finish(NULL), INVALID);
  assert_int_equal(clnorm_memory_alloc(NULL, 4, &memory), INVALID);
  assert_int_equal(clnorm_memory_write(NULL, memory, &value, 4), INVALID);
  assert_int_equal(clnorm_memory_read(NULL, memory, &value, 4), INVALID);
  assert_int_equal(clnorm_forward_plan_create(NULL, &desc, &plan), INVALID);
  assert_int_equal(clnorm_forward_run(NULL, &(clnorm_forward_args){.sync = NULL}), INVALID);
  assert_int_equal(clnorm_batchnorm2d_create(NULL, &options, &bn), INVALID);
  assert_int_equal(clnorm_batchnorm2d_set_track_running_stats(NULL, true), INVALID);
  assert_int_equal(clnorm_batchnorm2d_set(NULL, CLNORM_BIAS, &value, 1), INVALID);
  assert_int_equal(clnorm_batchnorm2d_get(NULL, CLNORM_BIAS, &value, 1), INVALID);
  assert_int_equal(clnorm_batchnorm2d_reset_running_stats(NULL), INVALID);
  assert_int_equal(clnorm_batchnorm2d_reset_parameters(NULL), INVALID);
  assert_int_equal(clnorm_batchnorm2d_set_num_batches_tracked(NULL, 0), INVALID);
  assert_int_equal(clnorm_batchnorm2d_forward(NULL, 4, dims, NULL), INVALID);
  assert_int_equal(clnorm_compare_memory(NULL, memory, context, memory, dims, &difference),
                   INVALID);
  assert_int_equal(clnorm_compare_forward(NULL, context, &desc, NULL, NULL), INVALID);

  assert_rejected(context, clnorm_memory_alloc(context, 4, NULL), INVALID, "memory", "alloc");
  assert_rejected(context, clnorm_forward_plan_create(context, NULL, &plan), INVALID, "desc",
                  "desc");
  assert_rejected(context, clnorm_forward_plan_create(context, &desc, NULL), INVALID, "plan",
                  "plan");
  assert_rejected(context, clnorm_batchnorm2d_create(context, NULL, &bn), INVALID, "options",
                  "options");
  assert_rejected(context, clnorm_batchnorm2d_create(context, &options, NULL), INVALID, "bn", "bn");
  assert_rejected(context, clnorm_compare_memory(context, memory, NULL, memory, dims, &difference),
                  INVALID, "context_b", "context_b");
  assert_rejected(context,
                  clnorm_compare_memory(context, memory, context, memory, NULL, &difference),
                  INVALID, "dims", "dims");
  assert_rejected(context, clnorm_compare_memory(context, memory, context, memory, dims, NULL),
                  INVALID, "difference", "difference");
}

/* ---- Memory ------------------------------------------------------------------------------------ */

/* The other kind of memory than the context takes; never touched. */
static clnorm_memory other_kind(const clnorm_context *context) {
  static float host[4096];
  clnorm_memory memory = {NULL, NULL, 0, sizeof host};
  if (fixture_is_opencl(context))
    memory.host = host;
  else
    memory.cl = (struct _cl_mem *)(void *)host;
  return memory;
}

static void allocations(void **state) {
  clnorm_context *context = *state;
  clnorm_memory memory = other_kind(context);
  assert_ok(context, clnorm_memory_alloc(context, 0, &memory));
  assert_true(is_absent(memory));
  clnorm_memory_free(context, &memory);
  static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2, (size_t)1 << 50};
  for (size_t i = 0; i < FIXTURE_LENGTH(sizes); i++) {
    memory = other_kind(context);
    const clnorm_status status = clnorm_memory_alloc(context, sizes[i], &memory);
    assert_true(status == CLNORM_ERROR_OUT_OF_MEMORY || status == CLNORM_ERROR_OVERFLOW);
    char size[32];
    snprintf(size, sizeof size, "%zu", sizes[i]);
    fixture_rejected(clnorm_last_error(context), status, status, size, "size");
    assert_true(is_absent(memory));
  }
  assert_ok(context, clnorm_memory_alloc(context, 4, &memory));
  clnorm_memory_free(context, &memory);
  assert_true(is_absent(memory));
  clnorm_memory_free(context, &memory);
}

static void copies(void **state) {
  clnorm_context *context = *state;
  const float values[4] = {1, 2, 3, 4};
  float read[8] = {7, 7, 7, 7, 7, 7, 7, 7};
  fixture_tensor tensor = fixture_tensor_make(context, values, 4);
  const clnorm_memory good = tensor.view;
  const clnorm_memory absent = {NULL, NULL, 0, 0};
  assert_rejected(context, clnorm_memory_read(context, absent, read, 4), INVALID, "absent",
                  "absent");
  assert_rejected(context, clnorm_memory_write(context, absent, read, 4), INVALID, "absent",
                  "absent");
  assert_rejected(context, clnorm_memory_read(context, good, read, 20), TOO_SMALL, "16|20",
                  "20 of 16");
  assert_rejected(context, clnorm_memory_write(context, good, read, 20), TOO_SMALL, "16|20",
                  "20 of 16");
  assert_rejected(context, clnorm_memory_read(context, good, NULL, 16), INVALID, "NULL", "NULL");
  assert_rejected(context, clnorm_memory_write(context, good, NULL, 16), INVALID, "NULL", "NULL");
  assert_rejected(context, clnorm_memory_read(context, other_kind(context), read, 16), INVALID, "",
                  "other kind");
  assert_rejected(context, clnorm_memory_write(context, other_kind(context), read, 16), INVALID, "",
                  "other kind");
  clnorm_memory odd = good;
  odd.offset += 2;
  odd.size = 4;
  assert_rejected(context, clnorm_memory_read(context, odd, read, 4), INVALID,
                  "the source has offset|multiple of 4", "offset");
  assert_rejected(context, clnorm_memory_write(context, odd, read, 4), INVALID,
                  "the destination has offset|multiple of 4", "offset");
  if (!fixture_is_opencl(context)) {
    odd.host = (char *)odd.host + 2;
    odd.offset -= 4;
    assert_rejected(context, clnorm_memory_read(context, odd, read, 4), INVALID,
                    "the source is at address|multiple of 4", "pointer and offset");
    assert_rejected(context, clnorm_memory_write(context, odd, read, 4), INVALID,
                    "the destination is at address|multiple of 4", "pointer and offset");
  }
  assert_ok(context, clnorm_memory_read(context, good, NULL, 0));
  for (int i = 0; i < 8; i++) assert_true(read[i] == 7);
  fixture_tensor_read(context, &tensor, read);
  assert_memory_equal(read, values, sizeof values);
  fixture_tensor_free(context, &tensor);
}

/* ---- Descriptions of the operator -------------------------------------------------------------- */

typedef struct desc_row {
  clnorm_forward_desc desc;
  clnorm_status expected;
  const char *words;
} desc_row;

#define BATCH .statistics = CLNORM_BATCH_STATISTICS
#define GIVEN .statistics = CLNORM_GIVEN_STATISTICS
/* Members that are not named are 0, which is a value that is accepted. */
#define DESC(n, c, s, ...)                                                                         \
  { .batch = (n), .channels = (c), .spatial = (s), __VA_ARGS__ }
#define TOO_LARGE CLNORM_ERROR_OVERFLOW

/* clang-format off */
static const desc_row descs[] = {
    {DESC(-1, 3, 4, BATCH), INVALID, "batch|-1"},
    {DESC(2, -3, 4, BATCH), INVALID, "channels|-3"},
    {DESC(2, 3, -4, GIVEN), INVALID, "spatial|-4"},
    {DESC(2, 3, INT64_MIN, GIVEN), INVALID, "spatial"},
    {DESC(0, -3, 4, GIVEN), INVALID, "channels|-3"},
    {DESC(2, 3, 4, BATCH, .dtype = CLNORM_F16), UNSUPPORTED, "f16"},
    {DESC(2, 3, 4, BATCH, .dtype = CLNORM_BF16), UNSUPPORTED, "bf16"},
    {DESC(2, 3, 4, BATCH, .dtype = CLNORM_F64), UNSUPPORTED, "f64"},
    {DESC(2, 3, 4, BATCH, .dtype = (clnorm_dtype)9), INVALID, "dtype|9"},
    {DESC(2, 3, 4, BATCH, .layout = CLNORM_NHWC), UNSUPPORTED, "NHWC"},
    {DESC(2, 3, 4, BATCH, .layout = (clnorm_layout)9), INVALID, "layout|9"},
    {DESC(2, 3, 4, BATCH, .x_strides = {24, 8, 2}), UNSUPPORTED, "x_strides|24, 8, 2"},
    {DESC(2, 3, 4, BATCH, .x_strides = {0, 0, 1}), UNSUPPORTED, "x_strides|0, 0, 1"},
    {DESC(2, 3, 4, GIVEN, .y_strides = {4, 8, 1}), UNSUPPORTED, "y_strides|4, 8, 1"},
    {DESC(2, 3, 4, .statistics = (clnorm_statistics)3), INVALID, "statistics|3"},
    {DESC(2, 3, 4, BATCH, .variant = (clnorm_variant)3), INVALID, "variant|3"},
    {DESC(2, 3, 4, BATCH, .eps = -1e-5), INVALID, "eps|-1e-05"},
    {DESC(2, 3, 4, BATCH, .eps = NAN), INVALID, "eps|nan"},
    {DESC(2, 3, 4, GIVEN, .eps = INFINITY), INVALID, "eps|inf"},
    {DESC(2, 3, 4, GIVEN, .eps = 1e300), INVALID, "eps|1e+300"},
    {DESC(1, 3, 1, BATCH, .refuse_one_value = true), INVALID, "one value|1 x 3 x 1|refuse_one_value"},
    {DESC(HUGE_SIZE, 2, 2, GIVEN), TOO_LARGE, "4611686018427387904"},
    {DESC(2, HUGE_SIZE, 2, GIVEN), TOO_LARGE, "4611686018427387904"},
    {DESC(2, 2, HUGE_SIZE, BATCH), TOO_LARGE, "4611686018427387904"},
    {DESC(1, 1, HUGE_SIZE / 2, BATCH), TOO_LARGE, "2305843009213693952"},
    {DESC(3037000500, 3037000500, 1, GIVEN), TOO_LARGE, "3037000500"},
    /* an empty tensor has strides too, as far as they fit */
    {DESC(0, HUGE_SIZE, 4, GIVEN, .x_strides = {1, 4, 1}), TOO_LARGE, "x_strides|4611686018427387904 x 4"},
    {DESC(0, 4, HUGE_SIZE, BATCH, .y_strides = {1, 4, 1}), TOO_LARGE, "y_strides|4 x 4611686018427387904"},
    {DESC(0, 3, 4, GIVEN, .x_strides = {24, 4, 1}), UNSUPPORTED, "x_strides|24, 4, 1|12, 4, 1"},
    {DESC(2, 3, 4, BATCH, .store = (clnorm_store)3), INVALID, "store|3"},
    {DESC(2, 3, 4, BATCH, .dtype = (clnorm_dtype)-1), INVALID, "dtype|-1"},
    {DESC(2, 3, 4, BATCH, .layout = (clnorm_layout)-1), INVALID, "layout|-1"},
    {DESC(2, 3, 4, .statistics = (clnorm_statistics)-1), INVALID, "statistics|-1"},
    {DESC(2, 3, 4, BATCH, .variant = (clnorm_variant)-1), INVALID, "variant|-1"},
    {DESC(((int64_t)1 << 40) + 1, 1, 1, BATCH), TOO_LARGE, "1099511627777|2^40"},
};
/* clang-format on */

static void descriptions_that_are_refused(void **state) {
  clnorm_context *context = *state;
  for (size_t i = 0; i < FIXTURE_LENGTH(descs); i++) {
    clnorm_forward_plan *plan = (clnorm_forward_plan *)&plan;
    char row[64];
    snprintf(row, sizeof row, "description %zu", i);
    assert_rejected(context, clnorm_forward_plan_create(context, &descs[i].desc, &plan),
                    descs[i].expected, descs[i].words, row);
    assert_null(plan);
  }
}

static void descriptions_at_the_edge_are_accepted(void **state) {
  clnorm_context *context = *state;
  static const clnorm_forward_desc good[] = {
      DESC(2, 3, 4, BATCH, .x_strides = {12, 4, 1}, .y_strides = {12, 4, 1}),
      DESC(2, 3, 4, BATCH, .eps = 0.0),
      DESC(2, 3, 4, BATCH, .eps = FLT_MAX, .biased_running_var = true, .external_workspace = true),
      DESC(1, 3, 1, GIVEN),
      DESC(0, 3, 4, BATCH),
      DESC(2, 0, 4, BATCH),
      DESC(1, 0, 1, BATCH),
      DESC(0, HUGE_SIZE, HUGE_SIZE, GIVEN),
      DESC(HUGE_SIZE, 0, HUGE_SIZE, BATCH),
      DESC(HUGE_SIZE, HUGE_SIZE, 0, GIVEN, .x_strides = {0, 0, 1}),
      DESC(0, 3, 4, BATCH, .x_strides = {12, 4, 1}),
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(good); i++) {
    clnorm_forward_plan *plan = NULL;
    assert_ok(context, clnorm_forward_plan_create(context, &good[i], &plan));
    assert_non_null(plan);
    assert_true(strlen(clnorm_forward_plan_description(plan)) > 0);
    if (good[i].batch == 0 || good[i].channels == 0) { /* nothing is read, nothing is missed */
      const clnorm_forward_args nothing = {.sync = NULL};
      assert_ok(context, clnorm_forward_run(plan, &nothing));
    }
    clnorm_forward_plan_destroy(plan);
  }
}

/* ---- Operands of a run ------------------------------------------------------------------------- */

enum { N = 3, C = 16, S = 40, COUNT = N * C * S };

typedef enum operand {
  X,
  Y,
  WEIGHT,
  BIAS,
  MEAN,
  VAR,
  SAVED_MEAN,
  SAVED_INVSTD,
  WORKSPACE,
  NUM_OPERANDS
} operand;

static const size_t members[NUM_OPERANDS] = {
    offsetof(clnorm_forward_args, x),
    offsetof(clnorm_forward_args, y),
    offsetof(clnorm_forward_args, weight),
    offsetof(clnorm_forward_args, bias),
    offsetof(clnorm_forward_args, running_mean),
    offsetof(clnorm_forward_args, running_var),
    offsetof(clnorm_forward_args, saved_mean),
    offsetof(clnorm_forward_args, saved_invstd),
    offsetof(clnorm_forward_args, workspace),
};

static clnorm_memory *member(clnorm_forward_args *args, operand which) {
  return (clnorm_memory *)(void *)((char *)args + members[which]);
}

typedef struct setup {
  clnorm_context *context;
  fixture_tensor tensors[NUM_OPERANDS];
  float running[2][C];
  clnorm_forward_args args; /* all good */
} setup;

static void setup_make(setup *s, clnorm_context *context, size_t workspace_size) {
  memset(s, 0, sizeof *s);
  s->context = context;
  static float x[COUNT];
  float parameters[C];
  fixture_fill(x, COUNT, 1, 0, 1);
  fixture_fill(parameters, C, 2, 1, 1);
  fixture_fill(s->running[0], C, 3, 0, 1);
  fixture_fill(s->running[1], C, 4, 10, 1);
  s->tensors[X] = fixture_tensor_make(context, x, COUNT);
  s->tensors[Y] = fixture_tensor_make(context, NULL, COUNT);
  s->tensors[WEIGHT] = fixture_tensor_make(context, parameters, C);
  s->tensors[BIAS] = fixture_tensor_make(context, parameters, C);
  s->tensors[MEAN] = fixture_tensor_make(context, s->running[0], C);
  s->tensors[VAR] = fixture_tensor_make(context, s->running[1], C);
  s->tensors[SAVED_MEAN] = fixture_tensor_make(context, NULL, C);
  s->tensors[SAVED_INVSTD] = fixture_tensor_make(context, NULL, C);
  s->tensors[WORKSPACE] = fixture_tensor_make(context, NULL, workspace_size / sizeof(float));
  for (operand i = X; i < NUM_OPERANDS; i++) *member(&s->args, i) = s->tensors[i].view;
  s->args.momentum = 0.9;
}

static void setup_free(setup *s) {
  for (operand i = X; i < NUM_OPERANDS; i++) fixture_tensor_free(s->context, &s->tensors[i]);
}

static void assert_nothing_changed(setup *s, const char *row) {
  fixture_assert_poisoned(s->context, &s->tensors[Y], row);
  fixture_assert_poisoned(s->context, &s->tensors[SAVED_MEAN], row);
  fixture_assert_poisoned(s->context, &s->tensors[SAVED_INVSTD], row);
  for (int i = 0; i < 2; i++) {
    float values[C];
    fixture_tensor_read(s->context, &s->tensors[MEAN + i], values);
    assert_memory_equal(values, s->running[i], sizeof values);
  }
}

typedef enum damage {
  ABSENT,
  SHORT,      /* 4 bytes less than needed */
  PAST_END,   /* the offset lies far beyond the object; size says "to its end" */
  MISALIGNED, /* by 2 bytes */
  TOGETHER,   /* pointer and offset each are 2 bytes off, their sum is not; host memory only */
  OFF_BY_ONE, /* pointer alone; host memory only */
  WRAPPED,    /* the offset leads past the address space */
  OTHER_KIND, /* host memory for OpenCL, and the other way round */
  BOTH_KINDS,
  ONTO,        /* the place of another operand */
  ONTO_SHIFTED /* one float after the start of another operand */
} damage;

typedef struct run_row {
  operand which;
  damage damage;
  operand target; /* of ONTO */
  clnorm_status expected;
  const char *words;
} run_row;

/* Applied to runs with batch statistics, running statistics, and a workspace of the caller. */
static const run_row batch_rows[] = {
    {X, ABSENT, 0, INVALID, "x|absent"},
    {Y, ABSENT, 0, INVALID, "y|absent"},
    {WORKSPACE, ABSENT, 0, INVALID, "workspace|absent"},
    {MEAN, ABSENT, 0, INVALID, "running_mean|together"},
    {VAR, ABSENT, 0, INVALID, "running_var|together"},
    {X, SHORT, 0, TOO_SMALL, "x has 7676|7680"},
    {Y, SHORT, 0, TOO_SMALL, "y has 7676|7680"},
    {WEIGHT, SHORT, 0, TOO_SMALL, "weight has 60|64"},
    {BIAS, SHORT, 0, TOO_SMALL, "bias has 60|64"},
    {MEAN, SHORT, 0, TOO_SMALL, "running_mean has 60|64"},
    {VAR, SHORT, 0, TOO_SMALL, "running_var has 60|64"},
    {SAVED_MEAN, SHORT, 0, TOO_SMALL, "saved_mean has 60|64"},
    {SAVED_INVSTD, SHORT, 0, TOO_SMALL, "saved_invstd has 60|64"},
    {WORKSPACE, SHORT, 0, TOO_SMALL, "workspace"},
    {X, MISALIGNED, 0, INVALID, "x|multiple of 4"},
    {Y, MISALIGNED, 0, INVALID, "y|multiple of 4"},
    {WEIGHT, MISALIGNED, 0, INVALID, "weight|multiple of 4"},
    {BIAS, MISALIGNED, 0, INVALID, "bias|multiple of 4"},
    {MEAN, MISALIGNED, 0, INVALID, "running_mean|multiple of 4"},
    {VAR, MISALIGNED, 0, INVALID, "running_var|multiple of 4"},
    {SAVED_MEAN, MISALIGNED, 0, INVALID, "saved_mean|multiple of 4"},
    {SAVED_INVSTD, MISALIGNED, 0, INVALID, "saved_invstd|multiple of 4"},
    {WORKSPACE, MISALIGNED, 0, INVALID, "workspace|multiple"},
    {X, OTHER_KIND, 0, INVALID, "x"},
    {Y, OTHER_KIND, 0, INVALID, "y"},
    {WEIGHT, OTHER_KIND, 0, INVALID, "weight"},
    {BIAS, OTHER_KIND, 0, INVALID, "bias"},
    {MEAN, OTHER_KIND, 0, INVALID, "running_mean"},
    {VAR, OTHER_KIND, 0, INVALID, "running_var"},
    {SAVED_MEAN, OTHER_KIND, 0, INVALID, "saved_mean"},
    {SAVED_INVSTD, OTHER_KIND, 0, INVALID, "saved_invstd"},
    {WORKSPACE, OTHER_KIND, 0, INVALID, "workspace"},
    {X, BOTH_KINDS, 0, INVALID, "x"},
    {Y, ONTO_SHIFTED, X, OVERLAP, "x|y|overlap"},
    {X, ONTO_SHIFTED, Y, OVERLAP, "x|y|overlap"},
    {WEIGHT, ONTO, Y, OVERLAP, "weight|y"},
    {BIAS, ONTO, Y, OVERLAP, "bias|y"},
    {MEAN, ONTO, Y, OVERLAP, "running_mean|y"},
    {MEAN, ONTO, X, OVERLAP, "running_mean|x"},
    {VAR, ONTO, X, OVERLAP, "running_var|x"},
    {VAR, ONTO, MEAN, OVERLAP, "running_var|running_mean"},
    {MEAN, ONTO, WEIGHT, OVERLAP, "running_mean|weight"},
    {VAR, ONTO, BIAS, OVERLAP, "running_var|bias"},
    {SAVED_MEAN, ONTO, X, OVERLAP, "saved_mean|x"},
    {SAVED_MEAN, ONTO, Y, OVERLAP, "saved_mean|y"},
    {SAVED_MEAN, ONTO, MEAN, OVERLAP, "saved_mean|running_mean"},
    {SAVED_MEAN, ONTO_SHIFTED, MEAN, OVERLAP, "saved_mean|running_mean"},
    {SAVED_INVSTD, ONTO, SAVED_MEAN, OVERLAP, "saved_invstd|saved_mean"},
    {SAVED_INVSTD, ONTO, WEIGHT, OVERLAP, "saved_invstd|weight"},
    {WORKSPACE, ONTO, X, OVERLAP, "workspace|x"},
    {WORKSPACE, ONTO, Y, OVERLAP, "workspace|y"},
    {BIAS, ONTO, WORKSPACE, OVERLAP, "workspace|bias"},
};

/* Applied to runs with given statistics. */
static const run_row given_rows[] = {
    {X, ABSENT, 0, INVALID, "x|absent"},
    {Y, ABSENT, 0, INVALID, "y|absent"},
    {MEAN, ABSENT, 0, INVALID, "running_mean|absent"},
    {VAR, ABSENT, 0, INVALID, "running_var|absent"},
    {MEAN, SHORT, 0, TOO_SMALL, "running_mean has 60|64"},
    {VAR, SHORT, 0, TOO_SMALL, "running_var has 60|64"},
    {MEAN, ONTO, Y, OVERLAP, "running_mean|y"},
    {SAVED_INVSTD, ONTO, VAR, OVERLAP, "saved_invstd|running_var"},
    {Y, ONTO_SHIFTED, X, OVERLAP, "x|y|overlap"},
};

static void inflict(const run_row *row, setup *s, clnorm_forward_args *args) {
  clnorm_memory *memory = member(args, row->which);
  const clnorm_memory absent = {NULL, NULL, 0, 0};
  switch (row->damage) {
  case ABSENT:
    *memory = absent;
    break;
  case SHORT:
    memory->size -= sizeof(float);
    break;
  case PAST_END:
    memory->offset = (size_t)1 << 40, memory->size = 0;
    break;
  case MISALIGNED:
    memory->offset += 2;
    break;
  case TOGETHER:
    memory->host = (char *)memory->host + 2, memory->offset -= 2;
    break;
  case OFF_BY_ONE:
    memory->host = (char *)memory->host + 1;
    break;
  case WRAPPED:
    memory->offset = SIZE_MAX - 3;
    break;
  case OTHER_KIND:
    *memory = other_kind(s->context);
    break;
  case BOTH_KINDS:
    memory->host = other_kind(s->context).host ? other_kind(s->context).host : memory->host;
    memory->cl = other_kind(s->context).cl ? other_kind(s->context).cl : memory->cl;
    break;
  case ONTO:
    *memory = *member(args, row->target);
    break;
  case ONTO_SHIFTED:
    *memory = *member(args, row->target);
    memory->offset += sizeof(float);
    break;
  }
}

static void check_rows(clnorm_context *context, const clnorm_forward_desc *desc,
                       const run_row *rows, size_t count) {
  clnorm_forward_plan *plan = NULL;
  setup s;
  assert_ok(context, clnorm_forward_plan_create(context, desc, &plan));
  setup_make(&s, context, clnorm_forward_plan_workspace_size(plan));
  for (size_t i = 0; i < count; i++) {
    clnorm_forward_args args = s.args;
    inflict(&rows[i], &s, &args);
    char row[96];
    snprintf(row, sizeof row, "row %zu, %s", i, rows[i].words);
    assert_rejected(context, clnorm_forward_run(plan, &args), rows[i].expected, rows[i].words, row);
    assert_nothing_changed(&s, row);
  }
  assert_rejected(context, clnorm_forward_run(plan, NULL), INVALID, "args", "args NULL");
  assert_ok(context, clnorm_forward_run(plan, &s.args)); /* and all of it would have been good */
  assert_ok(context, clnorm_finish(context));
  clnorm_forward_plan_destroy(plan);
  setup_free(&s);
}

static clnorm_forward_desc split_desc(clnorm_statistics statistics) {
  clnorm_forward_desc desc = clnorm_forward_desc_defaults(statistics, N, C, S);
  desc.variant = CLNORM_VARIANT_SPLIT;
  desc.external_workspace = true;
  return desc;
}

static void operands_with_batch_statistics(void **state) {
  const clnorm_forward_desc desc = split_desc(CLNORM_BATCH_STATISTICS);
  check_rows(*state, &desc, batch_rows, FIXTURE_LENGTH(batch_rows));
}

static void operands_with_given_statistics(void **state) {
  const clnorm_forward_desc desc = split_desc(CLNORM_GIVEN_STATISTICS);
  check_rows(*state, &desc, given_rows, FIXTURE_LENGTH(given_rows));
}

/* The true size of a cl_mem is asked from OpenCL: an end that the caller claims is not believed. Host
 * memory has no end but the claimed one. */
static void sizes_beyond_the_object(void **state) {
  clnorm_context *context = *state;
  if (!fixture_is_opencl(context)) return;
  const clnorm_forward_desc desc = split_desc(CLNORM_BATCH_STATISTICS);
  clnorm_forward_plan *plan = NULL;
  setup s;
  assert_ok(context, clnorm_forward_plan_create(context, &desc, &plan));
  setup_make(&s, context, clnorm_forward_plan_workspace_size(plan));
  for (operand i = X; i < NUM_OPERANDS; i++) {
    clnorm_forward_args args = s.args;
    const run_row row = {i, PAST_END, 0, TOO_SMALL, ""};
    inflict(&row, &s, &args);
    assert_rejected(context, clnorm_forward_run(plan, &args), TOO_SMALL, "", "past the end");
    args = s.args;
    member(&args, i)->size = (size_t)1 << 40;
    assert_rejected(context, clnorm_forward_run(plan, &args), TOO_SMALL, "1099511627776",
                    "a size beyond the end");
    assert_nothing_changed(&s, "beyond the end");
  }
  s.args.y.size = 0; /* up to its end: the canaries behind y are in reach, and are not written */
  assert_ok(context, clnorm_forward_run(plan, &s.args));
  float y[COUNT];
  fixture_tensor_read(context, &s.tensors[Y], y);
  clnorm_forward_plan_destroy(plan);
  setup_free(&s);
}

/* Pointer and offset are looked at each by itself, whatever their sum is. */
static void places_in_host_memory(void **state) {
  clnorm_context *context = *state;
  if (fixture_is_opencl(context)) return; /* a cl_mem has no address */
  static const char *const names[NUM_OPERANDS] = {
      "x",           "y",          "weight",       "bias",     "running_mean",
      "running_var", "saved_mean", "saved_invstd", "workspace"};
  const clnorm_forward_desc desc = split_desc(CLNORM_BATCH_STATISTICS);
  clnorm_forward_plan *plan = NULL;
  setup s;
  assert_ok(context, clnorm_forward_plan_create(context, &desc, &plan));
  setup_make(&s, context, clnorm_forward_plan_workspace_size(plan));
  for (operand i = X; i < NUM_OPERANDS; i++) {
    static const struct {
      damage damage;
      clnorm_status expected;
      const char *words;
    } rows[] = {{TOGETHER, INVALID, "is at address|multiple of 4"},
                {OFF_BY_ONE, INVALID, "is at address|multiple of 4"},
                {WRAPPED, CLNORM_ERROR_OVERFLOW, "has offset|past the address"}};
    for (size_t k = 0; k < FIXTURE_LENGTH(rows); k++) {
      clnorm_forward_args args = s.args;
      const run_row row = {i, rows[k].damage, 0, rows[k].expected, rows[k].words};
      inflict(&row, &s, &args);
      assert_rejected(context, clnorm_forward_run(plan, &args), row.expected, row.words, names[i]);
      assert_non_null(strstr(clnorm_last_error(context), names[i]));
      assert_nothing_changed(&s, names[i]);
    }
  }
  assert_ok(context, clnorm_forward_run(plan, &s.args));
  clnorm_forward_plan_destroy(plan);
  setup_free(&s);
}

static void momentum_outside_its_range(void **state) {
  clnorm_context *context = *state;
  static const double momenta[] = {-0.1, 1.0000001, NAN, INFINITY, -INFINITY};
  static const char *const words[] = {"momentum|-0.1", "momentum|[0, 1]", "momentum|nan",
                                      "momentum|inf", "momentum|-inf"};
  for (int given = 0; given < 2; given++) {
    const clnorm_forward_desc desc = split_desc((clnorm_statistics)given);
    clnorm_forward_plan *plan = NULL;
    setup s;
    assert_ok(context, clnorm_forward_plan_create(context, &desc, &plan));
    setup_make(&s, context, clnorm_forward_plan_workspace_size(plan));
    for (size_t i = 0; i < FIXTURE_LENGTH(momenta); i++) {
      s.args.momentum = momenta[i];
      if (given) { /* not used, so not looked at */
        assert_ok(context, clnorm_forward_run(plan, &s.args));
      } else {
        assert_rejected(context, clnorm_forward_run(plan, &s.args), INVALID, words[i], words[i]);
        assert_nothing_changed(&s, words[i]);
      }
    }
    assert_ok(context, clnorm_finish(context));
    clnorm_forward_plan_destroy(plan);
    setup_free(&s);
  }
}

/* ---- BatchNorm2d ------------------------------------------------------------------------------- */

typedef struct option_row {
  clnorm_batchnorm2d_options options;
  clnorm_status expected;
  const char *words;
} option_row;

/* Members that are not named are 0, which num_features alone must not be. */
static const option_row option_rows[] = {
    {{.num_features = 0}, INVALID, "num_features is 0"},
    {{.num_features = -3}, INVALID, "num_features is -3"},
    {{.num_features = INT64_MAX}, CLNORM_ERROR_OVERFLOW, "num_features"},
    {{.num_features = 3, .eps = -1.0}, INVALID, "eps is -1"},
    {{.num_features = 3, .eps = NAN}, INVALID, "eps|nan"},
    {{.num_features = 3, .eps = INFINITY}, INVALID, "eps is inf"},
    {{.num_features = 3, .eps = 1e39}, INVALID, "eps is 1e+39"},
    {{.num_features = 3, .momentum = -0.5}, INVALID, "momentum is -0.5|[0, 1]"},
    {{.num_features = 3, .momentum = 1.5, .momentum_convention = CLNORM_MOMENTUM_NEW},
     INVALID,
     "momentum is 1.5"},
    {{.num_features = 3, .momentum = NAN}, INVALID, "momentum|nan"},
    {{.num_features = 3, .momentum_convention = (clnorm_momentum)3},
     INVALID,
     "momentum_convention|3"},
    {{.num_features = 3, .freeze = true}, INVALID, "freeze|track_running_stats"},
};

static void options_that_are_refused(void **state) {
  clnorm_context *context = *state;
  for (size_t i = 0; i < FIXTURE_LENGTH(option_rows); i++) {
    const option_row *row = &option_rows[i];
    clnorm_batchnorm2d *bn = (clnorm_batchnorm2d *)&bn;
    assert_rejected(context, clnorm_batchnorm2d_create(context, &row->options, &bn), row->expected,
                    row->words, row->words);
    assert_null(bn);
  }
}

static clnorm_batchnorm2d *make_module(clnorm_context *context) {
  const clnorm_batchnorm2d_options options = clnorm_batchnorm2d_options_defaults(C);
  clnorm_batchnorm2d *bn = NULL;
  assert_ok(context, clnorm_batchnorm2d_create(context, &options, &bn));
  return bn;
}

static void parameters_of_the_wrong_size(void **state) {
  clnorm_context *context = *state;
  clnorm_batchnorm2d *bn = make_module(context);
  float values[C + 1];
  for (int i = 0; i <= C; i++) values[i] = 7;
  for (int p = CLNORM_WEIGHT; p <= CLNORM_RUNNING_VAR; p++) {
    const clnorm_parameter which = (clnorm_parameter)p;
    assert_rejected(context, clnorm_batchnorm2d_get(bn, which, values, C + 1), INVALID, "17|16",
                    "17");
    assert_rejected(context, clnorm_batchnorm2d_set(bn, which, values, C - 1), INVALID, "15|16",
                    "15");
    assert_rejected(context, clnorm_batchnorm2d_set(bn, which, values, 0), INVALID, "0|16", "0");
    assert_rejected(context, clnorm_batchnorm2d_get(bn, which, NULL, C), INVALID, "values", "NULL");
    assert_rejected(context, clnorm_batchnorm2d_set(bn, which, NULL, C), INVALID, "values", "NULL");
    for (int i = 0; i <= C; i++) assert_true(values[i] == 7);
    assert_ok(context, clnorm_batchnorm2d_get(bn, which, values, C));
    for (int i = 0; i < C; i++)
      assert_true(values[i] == (p == CLNORM_WEIGHT || p == CLNORM_RUNNING_VAR));
    for (int i = 0; i < C; i++) values[i] = 7;
  }
  assert_rejected(context, clnorm_batchnorm2d_get(bn, (clnorm_parameter)4, values, C), INVALID,
                  "parameter|4", "parameter 4");
  assert_rejected(context, clnorm_batchnorm2d_set(bn, (clnorm_parameter)-1, values, C), INVALID,
                  "parameter|-1", "parameter -1");
  assert_true(is_absent(clnorm_batchnorm2d_memory(bn, (clnorm_parameter)4)));
  clnorm_batchnorm2d_destroy(bn);
}

typedef struct dims_row {
  int ndim;
  int64_t dims[5];
  clnorm_status expected;
  const char *words;
} dims_row;

static const dims_row dims_rows[] = {
    {3, {N, C, S}, INVALID, "expected 4D input (got 3D input)"},
    {5, {N, C, 1, 1, S}, INVALID, "expected 4D input (got 5D input)"},
    {0, {0}, INVALID, "expected 4D input (got 0D input)"},
    {-1, {0}, INVALID, "expected 4D input (got -1D input)"},
    {4, {N, 3, 1, S}, INVALID, "num_features is 16|3 channels"},
    {4, {N, 0, 1, S}, INVALID, "num_features is 16|0 channels"},
    {4, {-1, C, 1, S}, INVALID, "-1"},
    {4, {N, C, -2, S}, INVALID, "-2"},
    {4, {N, C, 1, -S}, INVALID, "-40"},
    {4, {N, C, HUGE_SIZE, 2}, CLNORM_ERROR_OVERFLOW, "4611686018427387904"},
    {4, {HUGE_SIZE, C, 1, 1}, CLNORM_ERROR_OVERFLOW, "4611686018427387904"},
    {4, {N, C, 1, S + 1}, TOO_SMALL, "x has 7680|7872"},
};

static void shapes_that_are_refused(void **state) {
  clnorm_context *context = *state;
  clnorm_batchnorm2d *bn = make_module(context);
  setup s;
  setup_make(&s, context, 64);
  const clnorm_batchnorm2d_args args = {.x = s.args.x,
                                        .y = s.args.y,
                                        .saved_mean = s.args.saved_mean,
                                        .saved_invstd = s.args.saved_invstd};
  for (size_t i = 0; i < FIXTURE_LENGTH(dims_rows); i++) {
    const dims_row *row = &dims_rows[i];
    assert_rejected(context, clnorm_batchnorm2d_forward(bn, row->ndim, row->dims, &args),
                    row->expected, row->words, row->words);
    assert_nothing_changed(&s, row->words);
    assert_int_equal(clnorm_batchnorm2d_num_batches_tracked(bn), 0);
  }
  const int64_t good[4] = {N, C, 1, S};
  assert_rejected(context, clnorm_batchnorm2d_forward(bn, 4, NULL, &args), INVALID, "dims", "dims");
  assert_rejected(context, clnorm_batchnorm2d_forward(bn, 4, good, NULL), INVALID, "args", "args");
  clnorm_batchnorm2d_args bad = args;
  bad.x = (clnorm_memory){NULL, NULL, 0, 0};
  assert_rejected(context, clnorm_batchnorm2d_forward(bn, 4, good, &bad), INVALID, "x|absent", "x");
  bad = args;
  bad.saved_mean = bad.y;
  assert_rejected(context, clnorm_batchnorm2d_forward(bn, 4, good, &bad), OVERLAP, "saved_mean|y",
                  "y");
  assert_nothing_changed(&s, "bad operands");
  float mean[C];
  assert_ok(context, clnorm_batchnorm2d_get(bn, CLNORM_RUNNING_MEAN, mean, C));
  for (int i = 0; i < C; i++) assert_true(mean[i] == 0);
  assert_int_equal(clnorm_batchnorm2d_num_batches_tracked(bn), 0);
  clnorm_batchnorm2d_destroy(bn);
  setup_free(&s);
}

/* ---- Comparing --------------------------------------------------------------------------------- */

static void comparisons_that_are_refused(void **state) {
  clnorm_context *context = *state;
  setup s;
  setup_make(&s, context, 64);
  const clnorm_memory y = s.args.y, absent = {NULL, NULL, 0, 0};
  clnorm_difference d, before;
  memset(&d, 0x55, sizeof d);
  before = d;
  static const int64_t negative[4] = {1, -2, 3, 4}, huge[4] = {1, 1, HUGE_SIZE, 1};
  static const int64_t good[4] = {N, C, 1, S};
  assert_rejected(context, clnorm_compare_memory(context, y, context, y, negative, &d), INVALID,
                  "-2", "negative");
  assert_rejected(context, clnorm_compare_memory(context, y, context, y, huge, &d),
                  CLNORM_ERROR_OVERFLOW, "", "huge");
  assert_memory_equal(&d, &before, sizeof d);
  clnorm_memory odd = y;
  odd.offset += 2;
  odd.size -= 4;
  static const int64_t one_less[4] = {1, 1, 1, N * C * S - 1};
  assert_rejected(context, clnorm_compare_memory(context, odd, context, y, one_less, &d), INVALID,
                  "offset|multiple of 4", "offset of a");
  assert_rejected(context, clnorm_compare_memory(context, y, context, odd, one_less, &d), INVALID,
                  "offset|multiple of 4", "offset of b");
  static const int64_t nothing[4] = {HUGE_SIZE, HUGE_SIZE, 0, 1};
  assert_ok(context, clnorm_compare_memory(context, absent, context, absent, nothing, &d));
  assert_int_equal(d.elements, 0);
  assert_rejected(context, clnorm_compare_memory(context, absent, context, y, good, &d), INVALID,
                  "absent", "absent a");
  assert_rejected(context, clnorm_compare_memory(context, y, context, absent, good, &d), INVALID,
                  "absent", "absent b");
  const clnorm_forward_desc desc = clnorm_forward_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  clnorm_difference differences[CLNORM_NUM_OUTPUTS];
  float x[4] = {1, 2, 3, 4};
  clnorm_forward_args inputs = {.x = {NULL, NULL, 0, 0}};
  assert_rejected(context, clnorm_compare_forward(context, context, &desc, &inputs, differences),
                  INVALID, "x", "x absent");
  inputs.x = (clnorm_memory){(char *)x + 2, NULL, 2, N * C * S * sizeof(float)};
  assert_rejected(context, clnorm_compare_forward(context, context, &desc, &inputs, differences),
                  INVALID, "x is at address|multiple of 4", "x at 2 mod 4");
  inputs.x = (clnorm_memory){x, NULL, 2, N * C * S * sizeof(float)};
  assert_rejected(context, clnorm_compare_forward(context, context, &desc, &inputs, differences),
                  INVALID, "x has offset 2|multiple of 4", "x with offset 2");
  inputs.x = (clnorm_memory){x, NULL, 0, sizeof x};
  assert_rejected(context, clnorm_compare_forward(context, context, &desc, &inputs, differences),
                  TOO_SMALL, "x has 16|7680", "x too short");
  inputs.x = (clnorm_memory){NULL, (struct _cl_mem *)(void *)x, 0, sizeof x};
  assert_rejected(context, clnorm_compare_forward(context, context, &desc, &inputs, differences),
                  INVALID, "x|host", "x in OpenCL memory");
  assert_rejected(context, clnorm_compare_forward(context, NULL, &desc, &inputs, differences),
                  INVALID, "context_b", "context_b");
  assert_rejected(context, clnorm_compare_forward(context, context, NULL, &inputs, differences),
                  INVALID, "desc", "desc");
  assert_rejected(context, clnorm_compare_forward(context, context, &desc, NULL, differences),
                  INVALID, "inputs", "inputs");
  assert_rejected(context, clnorm_compare_forward(context, context, &desc, &inputs, NULL), INVALID,
                  "differences", "differences");
  setup_free(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(contexts_that_cannot_be),
      cmocka_unit_test(a_good_context_clears_the_message),
      cmocka_unit_test(device_lists),
      cmocka_unit_test(null_is_accepted_where_it_is_said),
      cmocka_unit_test(null_objects_are_rejected),
      cmocka_unit_test(allocations),
      cmocka_unit_test(copies),
      cmocka_unit_test(descriptions_that_are_refused),
      cmocka_unit_test(descriptions_at_the_edge_are_accepted),
      cmocka_unit_test(operands_with_batch_statistics),
      cmocka_unit_test(operands_with_given_statistics),
      cmocka_unit_test(sizes_beyond_the_object),
      cmocka_unit_test(places_in_host_memory),
      cmocka_unit_test(momentum_outside_its_range),
      cmocka_unit_test(options_that_are_refused),
      cmocka_unit_test(parameters_of_the_wrong_size),
      cmocka_unit_test(shapes_that_are_refused),
      cmocka_unit_test(comparisons_that_are_refused),
  };
  return cmocka_run_group_tests(tests, fixture_set_up, fixture_tear_down);
}
