/* Rejected arguments, one row each: the status, a message that holds the value and the rule, and
 * nothing changed. Devices, contexts, memory, tensors, problems, runs, BatchNorm, comparing. */
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

/* Members that are not named are 0, their default. */
#define OPTIONS(...)                                                                               \
  { .size = sizeof(clnorm_context_options), __VA_ARGS__ }

static const context_row contexts[] = {
    {"no such name", OPTIONS(.num_threads = 0), CLNORM_ERROR_NO_DEVICE, "no such name|cpu"},
    {"", OPTIONS(.num_threads = 0), CLNORM_ERROR_NO_DEVICE, "cpu"},
    {"99.0", OPTIONS(.num_threads = 0), CLNORM_ERROR_NO_DEVICE, "99.0"},
    {"0.99", OPTIONS(.num_threads = 0), CLNORM_ERROR_NO_DEVICE, "0.99"},
    {"-1.0", OPTIONS(.num_threads = 0), CLNORM_ERROR_NO_DEVICE, "-1.0"},
    {"99999999999999999999.0", OPTIONS(.num_threads = 0), CLNORM_ERROR_NO_DEVICE,
     "99999999999999999999.0"},
    {"cpu", OPTIONS(.num_threads = -1), INVALID, "num_threads|-1"},
    {"cpu", OPTIONS(.num_threads = 1 << 20), INVALID, "num_threads"},
    {"cpu", OPTIONS(.isa = 4), INVALID, "isa|4"},
    {"cpu", OPTIONS(.isa = -1), INVALID, "isa|-1"},
    {"cpu", OPTIONS(.form = 3), INVALID, "form|3"},
    {"cpu", OPTIONS(.form = -1), INVALID, "form|-1"},
    {"cpu", OPTIONS(.group_size = 96), INVALID, "group_size|96|0, 64, 128 or 256"},
    {"cpu", OPTIONS(.group_size = -64), INVALID, "group_size|-64"},
    {"cpu", {.size = 0}, INVALID, "options.size is 0"},
    {"cpu", {.size = 24}, INVALID, "options.size is 24"},
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
  clnorm_plan_destroy(NULL);
  clnorm_batchnorm_destroy(NULL);
}

static void null_objects_are_rejected(void **state) {
  clnorm_context *context = *state;
  clnorm_memory memory = {NULL, NULL, 0, 0};
  clnorm_plan *plan = NULL;
  clnorm_batchnorm *bn = NULL;
  float value = 0;
  const int64_t dims[4] = {1, 1, 1, 1};
  clnorm_difference difference;
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 2, 3, 4);
  const clnorm_batchnorm_options options = dense_batchnorm_options(3);
  assert_int_equal(clnorm_finish(NULL), INVALID);
  assert_int_equal(clnorm_memory_alloc(NULL, 4, &memory), INVALID);
  assert_int_equal(clnorm_memory_write(NULL, memory, &value, 4), INVALID);
  assert_int_equal(clnorm_memory_read(NULL, memory, &value, 4), INVALID);
  assert_int_equal(dense_plan_create(NULL, &desc, &plan), INVALID);
  assert_int_equal(dense_run(NULL, &(dense_args){.sync = NULL}), INVALID);
  assert_int_equal(clnorm_batchnorm_create(NULL, &options, &bn), INVALID);
  assert_int_equal(clnorm_batchnorm_set_track_running_stats(NULL, true), INVALID);
  assert_int_equal(dense_batchnorm_set(NULL, CLNORM_BIAS, &value, 1), INVALID);
  assert_int_equal(dense_batchnorm_get(NULL, CLNORM_BIAS, &value, 1), INVALID);
  assert_int_equal(clnorm_batchnorm_reset_running_stats(NULL), INVALID);
  assert_int_equal(clnorm_batchnorm_reset_parameters(NULL), INVALID);
  assert_int_equal(clnorm_batchnorm_set_num_batches_tracked(NULL, 0), INVALID);
  assert_int_equal(dense_batchnorm_forward(NULL, 4, dims, NULL), INVALID);
  assert_int_equal(dense_compare_memory(NULL, memory, context, memory, dims, &difference), INVALID);
  assert_int_equal(clnorm_compare_runs(NULL, NULL, NULL, 0, NULL, NULL, 0), INVALID);

  assert_rejected(context, clnorm_memory_alloc(context, 4, NULL), INVALID, "memory", "alloc");
  assert_rejected(context, dense_plan_create(context, NULL, &plan), INVALID, "problem is NULL",
                  "problem");
  assert_rejected(context, dense_plan_create(context, &desc, NULL), INVALID, "plan", "plan");
  assert_rejected(context, clnorm_batchnorm_create(context, NULL, &bn), INVALID, "options",
                  "options");
  assert_rejected(context, clnorm_batchnorm_create(context, &options, NULL), INVALID, "bn", "bn");
  assert_rejected(context, dense_compare_memory(context, memory, NULL, memory, dims, &difference),
                  INVALID, "context_b", "context_b");
  assert_rejected(context,
                  dense_compare_memory(context, memory, context, memory, NULL, &difference),
                  INVALID, "tensor_a is NULL", "tensor");
  assert_rejected(context, dense_compare_memory(context, memory, context, memory, dims, NULL),
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
  assert_ok(context, clnorm_memory_read(context, good, NULL, 0));
  for (int i = 0; i < 8; i++) assert_true(read[i] == 7);
  fixture_tensor_read(context, &tensor, read);
  assert_memory_equal(read, values, sizeof values);
  fixture_tensor_free(context, &tensor);
}

/* ---- Descriptions of the operator -------------------------------------------------------------- */

/* A problem that every plan takes, and one member of it that is wrong. */
typedef struct problem_row {
  void (*wrong)(clnorm_problem *problem, int64_t value);
  int64_t value;
  clnorm_status expected;
  const char *words;
} problem_row;

#define TOO_LARGE CLNORM_ERROR_OVERFLOW
#define XT(p) ((p)->tensors[CLNORM_X])
#define YT(p) ((p)->tensors[CLNORM_Y])
static void operation_is(clnorm_problem *p, int64_t v) { p->operation = (int32_t)v; }
static void statistics_is(clnorm_problem *p, int64_t v) { p->statistics = (int32_t)v; }
static void cut_is(clnorm_problem *p, int64_t v) { p->cut = (int32_t)v; }
static void store_is(clnorm_problem *p, int64_t v) { p->store = (int32_t)v; }
static void route_is(clnorm_problem *p, int64_t v) { p->route = (int32_t)v; }
static void size_is(clnorm_problem *p, int64_t v) { p->size = (size_t)v; }
static void dtype_is(clnorm_problem *p, int64_t v) { XT(p).dtype = (int32_t)v; }
static void rank_is(clnorm_problem *p, int64_t v) { XT(p).rank = (int32_t)v; }
static void block_is(clnorm_problem *p, int64_t v) { XT(p).channel_block = v; }
static void flags_is(clnorm_problem *p, int64_t v) { XT(p).flags = (uint32_t)v; }
static void reserved_is(clnorm_problem *p, int64_t v) { XT(p).reserved = (uint32_t)v; }
static void y_dtype_is(clnorm_problem *p, int64_t v) { YT(p).dtype = (int32_t)v; }
static void y_rank_is(clnorm_problem *p, int64_t v) { YT(p).rank = (int32_t)v; }
static void y_block_is(clnorm_problem *p, int64_t v) { YT(p).channel_block = v; }
static void y_reserved_is(clnorm_problem *p, int64_t v) { YT(p).reserved = (uint32_t)v; }
static void y_dim_is(clnorm_problem *p, int64_t v) { YT(p).dims[2] = v; }
static void y_sample_is(clnorm_problem *p, int64_t v) { YT(p).strides[0] = v; }
static void y_channel_is(clnorm_problem *p, int64_t v) { YT(p).strides[1] = v; }
static void y_position_is(clnorm_problem *p, int64_t v) { YT(p).strides[2] = v; }
static void stranger_is(clnorm_problem *p, int64_t v) { p->tensors[5].rank = (int32_t)v; }
static void dim0_is(clnorm_problem *p, int64_t v) { XT(p).dims[0] = v; }
static void stride0_is(clnorm_problem *p, int64_t v) { XT(p).strides[0] = v; }
static void dim1_is(clnorm_problem *p, int64_t v) { XT(p).dims[1] = v; }
static void stride1_is(clnorm_problem *p, int64_t v) { XT(p).strides[1] = v; }
static void dim2_is(clnorm_problem *p, int64_t v) { XT(p).dims[2] = v; }
static void stride2_is(clnorm_problem *p, int64_t v) { XT(p).strides[2] = v; }
static void all_dims_is(clnorm_problem *p, int64_t v) {
  XT(p).dims[0] = XT(p).dims[1] = XT(p).dims[2] = v;
}
static void f64_to_is(clnorm_problem *p, int64_t v) {
  XT(p).dtype = CLNORM_F64, YT(p).dtype = (int32_t)v;
}
static void one_value_is(clnorm_problem *p, int64_t v) {
  XT(p).dims[0] = YT(p).dims[0] = v, XT(p).dims[2] = YT(p).dims[2] = v, p->refuse_one_value = true;
}
static void gradients_is(clnorm_problem *p, int64_t v) { p->gradients = (uint32_t)v; }
static void accumulate_is(clnorm_problem *p, int64_t v) { p->accumulate = v; }
static void recompute_is(clnorm_problem *p, int64_t v) { p->recompute = v; }
static void backward_is(clnorm_problem *p, int64_t v) { p->operation = CLNORM_BACKWARD + 0 * v; }
/* Backward of x, with dy and dx as x but for what is wrong. */
static void backward(clnorm_problem *p) {
  p->operation = CLNORM_BACKWARD;
  p->tensors[CLNORM_DY] = p->tensors[CLNORM_DX] = XT(p);
  YT(p).rank = 0;
}
static void backward_gradients_is(clnorm_problem *p, int64_t v) {
  backward(p);
  p->gradients = (uint32_t)v;
}
static void given_recompute_is(clnorm_problem *p, int64_t v) {
  backward(p);
  p->statistics = CLNORM_GIVEN_STATISTICS;
  p->recompute = v;
}
static void dy_dtype_is(clnorm_problem *p, int64_t v) {
  backward(p);
  p->tensors[CLNORM_DY].dtype = (int32_t)v;
}
static void dy_rank_is(clnorm_problem *p, int64_t v) {
  backward(p);
  p->tensors[CLNORM_DY].rank = (int32_t)v;
}
static void dy_dim_is(clnorm_problem *p, int64_t v) {
  backward(p);
  p->tensors[CLNORM_DY].dims[1] = v;
}
static void dx_dtype_is(clnorm_problem *p, int64_t v) {
  backward(p);
  p->tensors[CLNORM_DX].dtype = (int32_t)v;
}
static void dx_dim_is(clnorm_problem *p, int64_t v) {
  backward(p);
  p->tensors[CLNORM_DX].dims[0] = v;
}
static void dx_position_is(clnorm_problem *p, int64_t v) {
  backward(p);
  p->tensors[CLNORM_DX].strides[2] = v;
}
static void f64_dy_is(clnorm_problem *p, int64_t v) {
  backward(p);
  XT(p).dtype = p->tensors[CLNORM_DX].dtype = CLNORM_F64;
  p->tensors[CLNORM_DY].dtype = (int32_t)v;
}
static void f64_dx_is(clnorm_problem *p, int64_t v) {
  backward(p);
  XT(p).dtype = p->tensors[CLNORM_DY].dtype = CLNORM_F64;
  p->tensors[CLNORM_DX].dtype = (int32_t)v;
}
static void one_gradient_is(clnorm_problem *p, int64_t v) {
  XT(p).dims[0] = v, XT(p).dims[2] = v, p->refuse_one_value = true;
  backward(p);
}
static void eps_is(clnorm_problem *p, int64_t v) {
  static const double values[] = {-1e-5, NAN, INFINITY, 1e300, -INFINITY};
  p->eps = values[v];
}
static void wide_eps_is(clnorm_problem *p, int64_t v) {
  eps_is(p, v);
  XT(p).dtype = YT(p).dtype = CLNORM_F64;
}

static const problem_row problem_rows[] = {
    {size_is, 0, INVALID, "problem.size is 0"},
    {size_is, 40, INVALID, "problem.size is 40"},
    {operation_is, -1, INVALID, "operation is -1"},
    {operation_is, 3, INVALID, "operation is 3"},
    {statistics_is, 2, INVALID, "statistics is 2"},
    {statistics_is, -1, INVALID, "statistics is -1"},
    {cut_is, 3, INVALID, "cut is 3"},
    {cut_is, -1, INVALID, "cut is -1"},
    {store_is, 3, INVALID, "store is 3"},
    {store_is, -1, INVALID, "store is -1"},
    {route_is, 2, INVALID, "route is 2"},
    {route_is, -1, INVALID, "route is -1"},
    {gradients_is, 8, INVALID, "gradients is 0x8"},
    {gradients_is, CLNORM_GRADIENT_DX, INVALID, "gradients is set|not backward"},
    {accumulate_is, true, INVALID, "accumulate is set|not backward"},
    {recompute_is, true, INVALID, "recompute is set|not backward"},
    {backward_is, 0, INVALID, "tensors[1] (y)|no such tensor"},
    {backward_gradients_is, 15, INVALID, "gradients is 0xf"},
    {backward_gradients_is, CLNORM_GRADIENT_DBIAS, INVALID, "tensors[3] (dx)|no such tensor"},
    {given_recompute_is, true, INVALID, "recompute is set|given statistics"},
    {dy_dtype_is, 4, INVALID, "dy.dtype is 4"},
    {dy_dtype_is, CLNORM_F64, UNSUPPORTED, "x of f32 with dy of f64"},
    {dy_rank_is, 4, INVALID, "x has rank 3 and dy 4"},
    {dy_dim_is, 999, INVALID, "dy.dims[1] 999"},
    {dx_dtype_is, -1, INVALID, "dx.dtype is -1"},
    {dx_dtype_is, CLNORM_F64, UNSUPPORTED, "x of f32 with dx of f64"},
    {dx_dim_is, 999, INVALID, "dx.dims[0] 999"},
    {dx_position_is, 0, INVALID, "dx is written|overlap"},
    {f64_dy_is, CLNORM_F16, UNSUPPORTED, "x of f64 with dy of f16"},
    {f64_dy_is, CLNORM_BF16, UNSUPPORTED, "x of f64 with dy of bf16"},
    {f64_dx_is, CLNORM_F16, UNSUPPORTED, "x of f64 with dx of f16"},
    {f64_dx_is, CLNORM_BF16, UNSUPPORTED, "x of f64 with dx of bf16"},
    {one_gradient_is, 1, INVALID, "refuse_one_value"},
    {stranger_is, 4, INVALID, "tensors[5]|no such tensor"},
    {stranger_is, -1, INVALID, "tensors[5]|-1"},
    {dtype_is, 4, INVALID, "x.dtype is 4"},
    {dtype_is, -1, INVALID, "x.dtype is -1"},
    {rank_is, 0, INVALID, "x.rank is 0"},
    {rank_is, 1, INVALID, "x.rank is 1|[2, 5]"},
    {rank_is, 6, INVALID, "x.rank is 6"},
    {rank_is, -1, INVALID, "x.rank is -1"},
    {block_is, 0, INVALID, "x.channel_block is 0"},
    {block_is, -4, INVALID, "x.channel_block is -4"},
    {block_is, INT64_C(1) << 31, INVALID, "x.channel_block is 2147483648"},
    {flags_is, 2, INVALID, "x has flags 0x2"},
    {flags_is, 3, INVALID, "x has flags 0x3"},
    {reserved_is, 7, INVALID, "reserved 7"},
    {dim0_is, -1, INVALID, "x.dims[0] is -1|negative"},
    {stride0_is, -1, INVALID, "x.strides[0] is -1|negative"},
    {dim1_is, -3, INVALID, "x.dims[1] is -3|negative"},
    {stride1_is, -3, INVALID, "x.strides[1] is -3|negative"},
    {dim2_is, INT64_MIN, INVALID, "x.dims[2] is -9223372036854775808|negative"},
    {stride2_is, INT64_MIN, INVALID, "x.strides[2] is -9223372036854775808|negative"},
    {dim0_is, HUGE_SIZE, TOO_LARGE, "x has 4611686018427387904|63 bits"},
    {dim1_is, HUGE_SIZE, TOO_LARGE, "4611686018427387904|63 bits"},
    {dim2_is, HUGE_SIZE, TOO_LARGE, "4611686018427387904|63 bits"},
    {all_dims_is, 3037000500, TOO_LARGE, "3037000500"},
    {stride0_is, INT64_MAX, TOO_LARGE, "x has strides (9223372036854775807"},
    {stride1_is, HUGE_SIZE, TOO_LARGE, "x has strides|4611686018427387904"},
    {stride2_is, HUGE_SIZE, TOO_LARGE, "x has strides|4611686018427387904"},
    {y_dtype_is, 4, INVALID, "y.dtype is 4"},
    {y_rank_is, 6, INVALID, "y.rank is 6"},
    {y_rank_is, 1, INVALID, "y.rank is 1"},
    {y_rank_is, 2, INVALID, "x has rank 3 and y 2"},
    {y_block_is, 0, INVALID, "y.channel_block is 0"},
    {y_reserved_is, 1, INVALID, "y has|reserved 1"},
    {y_dim_is, 3, INVALID, "x.dims[2] is 4 and y.dims[2] 3"},
    {y_sample_is, 0, INVALID, "y is written|overlap"},
    {y_sample_is, 11, INVALID, "y is written|11 elements apart"},
    {y_channel_is, 3, INVALID, "y is written|3 elements apart"},
    {y_position_is, 0, INVALID, "y is written|overlap"},
    {y_sample_is, INT64_MAX, TOO_LARGE, "y has strides"},
    {y_dtype_is, CLNORM_F64, UNSUPPORTED, "x of f32 with y of f64"},
    {f64_to_is, CLNORM_F16, UNSUPPORTED, "x of f64 with y of f16"},
    {f64_to_is, CLNORM_BF16, UNSUPPORTED, "x of f64 with y of bf16"},
    {eps_is, 0, INVALID, "eps is -1e-05"},
    {eps_is, 1, INVALID, "eps|nan"},
    {eps_is, 2, INVALID, "eps is inf|float"},
    {eps_is, 3, INVALID, "eps is 1e+300|float"},
    {eps_is, 4, INVALID, "eps is -inf"},
    {wide_eps_is, 0, INVALID, "eps is -1e-05|double"},
    {wide_eps_is, 2, INVALID, "eps is inf|double"},
    {one_value_is, 1, INVALID, "one value|1 x 3 x 1|refuse_one_value"},
};

static clnorm_problem good_problem(void) {
  static const int64_t dims[3] = {2, 3, 4};
  clnorm_problem problem;
  clnorm_problem_init(&problem, sizeof problem);
  clnorm_tensor_nchw(&XT(&problem), CLNORM_F32, 3, dims);
  clnorm_tensor_nchw(&YT(&problem), CLNORM_F32, 3, dims);
  return problem;
}

static void problems_that_are_refused(void **state) {
  clnorm_context *context = *state;
  for (size_t i = 0; i < FIXTURE_LENGTH(problem_rows); i++) {
    clnorm_plan *plan = (clnorm_plan *)&plan;
    clnorm_problem problem = good_problem();
    char row[128];
    problem_rows[i].wrong(&problem, problem_rows[i].value);
    snprintf(row, sizeof row, "problem %zu, %s", i, problem_rows[i].words);
    assert_rejected(context, clnorm_plan_create(context, &problem, &plan), problem_rows[i].expected,
                    problem_rows[i].words, row);
    assert_null(plan);
  }
}

/* A caller that is newer than the library: what is behind its members must be 0. */
static void members_that_are_not_known(void **state) {
  clnorm_context *context = *state;
  struct {
    clnorm_problem problem;
    uint64_t more[2];
  } newer;
  clnorm_plan *plan = NULL;
  memset(&newer, 0, sizeof newer);
  newer.problem = good_problem();
  newer.problem.size = sizeof newer;
  assert_ok(context, clnorm_plan_create(context, &newer.problem, &plan));
  clnorm_plan_destroy(plan);
  newer.more[1] = 1;
  assert_rejected(context, clnorm_plan_create(context, &newer.problem, &plan), UNSUPPORTED,
                  "problem has a member at byte|not 0", "a newer caller");
  assert_null(plan);
}

/* Inputs may repeat what is in memory; only outputs may not. */
static void inputs_may_overlap_themselves(void **state) {
  clnorm_context *context = *state;
  for (int axis = 0; axis < 3; axis++) {
    clnorm_problem problem = good_problem();
    clnorm_plan *plan = NULL;
    XT(&problem).strides[axis] = 0;
    assert_ok(context, clnorm_plan_create(context, &problem, &plan));
    clnorm_plan_destroy(plan);
    YT(&problem).rank = 0; /* y as x: it would overlap */
    assert_rejected(context, clnorm_plan_create(context, &problem, &plan), INVALID,
                    "y is written|overlap", "y as x");
  }
}

#define BATCH .statistics = CLNORM_BATCH_STATISTICS
#define GIVEN .statistics = CLNORM_GIVEN_STATISTICS
/* Members that are not named are 0, which is a value that is accepted. */
#define DESC(n, c, s, ...)                                                                         \
  { .batch = (n), .channels = (c), .spatial = (s), __VA_ARGS__ }

static void descriptions_at_the_edge_are_accepted(void **state) {
  clnorm_context *context = *state;
  static const dense_desc good[] = {
      DESC(2, 3, 4, BATCH),
      DESC(2, 3, 4, BATCH, .eps = 0.0),
      DESC(2, 3, 4, BATCH, .eps = FLT_MAX, .biased_running_var = true, .external_workspace = true),
      DESC(1, 3, 1, GIVEN),
      DESC(0, 3, 4, BATCH),
      DESC(2, 0, 4, BATCH),
      DESC(1, 0, 1, BATCH),
      DESC(0, HUGE_SIZE, HUGE_SIZE, GIVEN),
      DESC(HUGE_SIZE, 0, HUGE_SIZE, BATCH),
      DESC(HUGE_SIZE, HUGE_SIZE, 0, GIVEN),
      DESC(0, 3, 4, BATCH),
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(good); i++) {
    clnorm_plan *plan = NULL;
    assert_ok(context, dense_plan_create(context, &good[i], &plan));
    assert_non_null(plan);
    assert_true(strlen(clnorm_plan_description(plan)) > 0);
    if (good[i].batch == 0 || good[i].channels == 0) { /* nothing is read, nothing is missed */
      const dense_args nothing = {.sync = NULL};
      assert_ok(context, dense_run(plan, &nothing));
    }
    clnorm_plan_destroy(plan);
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
    offsetof(dense_args, x),
    offsetof(dense_args, y),
    offsetof(dense_args, weight),
    offsetof(dense_args, bias),
    offsetof(dense_args, running_mean),
    offsetof(dense_args, running_var),
    offsetof(dense_args, saved_mean),
    offsetof(dense_args, saved_invstd),
    offsetof(dense_args, workspace),
};

static clnorm_memory *member(dense_args *args, operand which) {
  return (clnorm_memory *)(void *)((char *)args + members[which]);
}

typedef struct setup {
  clnorm_context *context;
  fixture_tensor tensors[NUM_OPERANDS];
  float running[2][C];
  dense_args args; /* all good */
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
    {WORKSPACE, MISALIGNED, 0, INVALID, "workspace|multiple of 64"},
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

static void inflict(const run_row *row, setup *s, dense_args *args) {
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

static void check_rows(clnorm_context *context, const dense_desc *desc, const run_row *rows,
                       size_t count) {
  clnorm_plan *plan = NULL;
  setup s;
  assert_ok(context, dense_plan_create(context, desc, &plan));
  setup_make(&s, context, dense_workspace_size(plan));
  for (size_t i = 0; i < count; i++) {
    dense_args args = s.args;
    inflict(&rows[i], &s, &args);
    char row[96];
    snprintf(row, sizeof row, "row %zu, %s", i, rows[i].words);
    assert_rejected(context, dense_run(plan, &args), rows[i].expected, rows[i].words, row);
    assert_nothing_changed(&s, row);
  }
  assert_rejected(context, dense_run(plan, NULL), INVALID, "x is absent", "nothing bound");
  assert_ok(context, dense_run(plan, &s.args)); /* and all of it would have been good */
  assert_ok(context, clnorm_finish(context));
  clnorm_plan_destroy(plan);
  setup_free(&s);
}

static dense_desc split_desc(clnorm_statistics statistics) {
  dense_desc desc = dense_desc_defaults(statistics, N, C, S);
  desc.cut = CLNORM_CUT_SPLIT;
  desc.external_workspace = true;
  return desc;
}

static void operands_with_batch_statistics(void **state) {
  const dense_desc desc = split_desc(CLNORM_BATCH_STATISTICS);
  check_rows(*state, &desc, batch_rows, FIXTURE_LENGTH(batch_rows));
}

static void operands_with_given_statistics(void **state) {
  const dense_desc desc = split_desc(CLNORM_GIVEN_STATISTICS);
  check_rows(*state, &desc, given_rows, FIXTURE_LENGTH(given_rows));
}

/* The true size of a cl_mem is asked from OpenCL: an end that the caller claims is not believed. Host
 * memory has no end but the claimed one. */
static void sizes_beyond_the_object(void **state) {
  clnorm_context *context = *state;
  if (!fixture_is_opencl(context)) return;
  const dense_desc desc = split_desc(CLNORM_BATCH_STATISTICS);
  clnorm_plan *plan = NULL;
  setup s;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  setup_make(&s, context, dense_workspace_size(plan));
  for (operand i = X; i < NUM_OPERANDS; i++) {
    dense_args args = s.args;
    const run_row row = {i, PAST_END, 0, TOO_SMALL, ""};
    inflict(&row, &s, &args);
    assert_rejected(context, dense_run(plan, &args), TOO_SMALL, "", "past the end");
    args = s.args;
    member(&args, i)->size = (size_t)1 << 40;
    assert_rejected(context, dense_run(plan, &args), TOO_SMALL, "1099511627776",
                    "a size beyond the end");
    assert_nothing_changed(&s, "beyond the end");
  }
  s.args.y.size = 0; /* up to its end: the canaries behind y are in reach, and are not written */
  assert_ok(context, dense_run(plan, &s.args));
  float y[COUNT];
  fixture_tensor_read(context, &s.tensors[Y], y);
  clnorm_plan_destroy(plan);
  setup_free(&s);
}

/* Pointer and offset are looked at each by itself, whatever their sum is. */
static void places_in_host_memory(void **state) {
  clnorm_context *context = *state;
  if (fixture_is_opencl(context)) return; /* a cl_mem has no address */
  static const char *const names[NUM_OPERANDS] = {
      "x",           "y",          "weight",       "bias",     "running_mean",
      "running_var", "saved_mean", "saved_invstd", "workspace"};
  const dense_desc desc = split_desc(CLNORM_BATCH_STATISTICS);
  clnorm_plan *plan = NULL;
  setup s;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  setup_make(&s, context, dense_workspace_size(plan));
  for (operand i = X; i < NUM_OPERANDS; i++) {
    static const struct {
      damage damage;
      clnorm_status expected;
      const char *words;
    } rows[] = {{TOGETHER, INVALID, "is at address|multiple of 4"},
                {OFF_BY_ONE, INVALID, "is at address|multiple of 4"},
                {WRAPPED, CLNORM_ERROR_OVERFLOW, "has offset|past the address"}};
    for (size_t k = 0; k < FIXTURE_LENGTH(rows); k++) {
      if (i == WORKSPACE && rows[k].damage != WRAPPED) continue; /* its address counts as a whole */
      dense_args args = s.args;
      const run_row row = {i, rows[k].damage, 0, rows[k].expected, rows[k].words};
      inflict(&row, &s, &args);
      assert_rejected(context, dense_run(plan, &args), row.expected, row.words, names[i]);
      assert_non_null(strstr(clnorm_last_error(context), names[i]));
      assert_nothing_changed(&s, names[i]);
    }
  }
  assert_ok(context, dense_run(plan, &s.args));
  clnorm_plan_destroy(plan);
  setup_free(&s);
}

static void momentum_outside_its_range(void **state) {
  clnorm_context *context = *state;
  static const double momenta[] = {-0.1, 1.0000001, NAN, INFINITY, -INFINITY};
  static const char *const words[] = {"momentum|-0.1", "momentum|[0, 1]", "momentum|nan",
                                      "momentum|inf", "momentum|-inf"};
  for (int given = 0; given < 2; given++) {
    const dense_desc desc = split_desc((clnorm_statistics)given);
    clnorm_plan *plan = NULL;
    setup s;
    assert_ok(context, dense_plan_create(context, &desc, &plan));
    setup_make(&s, context, dense_workspace_size(plan));
    for (size_t i = 0; i < FIXTURE_LENGTH(momenta); i++) {
      s.args.momentum = momenta[i];
      if (given) { /* not used, so not looked at */
        assert_ok(context, dense_run(plan, &s.args));
      } else {
        assert_rejected(context, dense_run(plan, &s.args), INVALID, words[i], words[i]);
        assert_nothing_changed(&s, words[i]);
      }
    }
    assert_ok(context, clnorm_finish(context));
    clnorm_plan_destroy(plan);
    setup_free(&s);
  }
}

/* A number without a list and a list without a number, on every device, in plans that launch nothing as well, and
 * in modules. */
static void wait_lists_that_are_none(void **state) {
  clnorm_context *context = *state;
  struct _cl_event *const events[1] = {NULL}; /* not looked at */
  const struct {
    clnorm_opencl_sync sync;
    const char *words;
  } rows[] = {
      {{.num_events_in_wait_list = 2}, "num_events_in_wait_list is 2|event_wait_list is NULL"},
      {{.event_wait_list = events}, "num_events_in_wait_list is 0|event_wait_list is given"},
  };
  for (int empty = 0; empty < 2; empty++) {
    dense_desc desc = split_desc(CLNORM_BATCH_STATISTICS);
    if (empty) desc.batch = 0;
    const int64_t dims[4] = {desc.batch, C, 1, S};
    const clnorm_batchnorm_options options = dense_batchnorm_options(C);
    clnorm_plan *plan = NULL;
    clnorm_batchnorm *bn = NULL;
    setup s;
    assert_ok(context, dense_plan_create(context, &desc, &plan));
    assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
    setup_make(&s, context, empty ? 4 : dense_workspace_size(plan));
    for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
      dense_args args = s.args;
      args.sync = &rows[i].sync;
      assert_rejected(context, dense_run(plan, &args), INVALID, rows[i].words, rows[i].words);
      assert_nothing_changed(&s, rows[i].words);
      const dense_args io = {.x = args.x, .y = args.y, .sync = &rows[i].sync};
      assert_rejected(context, dense_batchnorm_forward(bn, 4, dims, &io), INVALID, rows[i].words,
                      rows[i].words);
      assert_nothing_changed(&s, rows[i].words);
      assert_int_equal(clnorm_batchnorm_num_batches_tracked(bn), 0);
    }
    clnorm_batchnorm_destroy(bn);
    clnorm_plan_destroy(plan);
    setup_free(&s);
  }
}

/* ---- Bindings ---------------------------------------------------------------------------------- */

static void bindings_that_are_refused(void **state) {
  clnorm_context *context = *state;
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  clnorm_plan *plan = NULL;
  setup s;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  setup_make(&s, context, 64);
  const clnorm_memory x = s.args.x, y = s.args.y, w = s.args.weight;
  clnorm_binding reserved = clnorm_bind(CLNORM_WEIGHT, w);
  reserved.reserved = 5;
  const struct {
    clnorm_binding third;
    const char *words;
  } rows[] = {
      {clnorm_bind(15, w), "binding 2 has role 15"},
      {clnorm_bind(-1, w), "binding 2 has role -1"},
      {clnorm_bind(CLNORM_X, x), "x is bound twice"},
      {clnorm_bind(CLNORM_Y, x), "y is bound twice"},
      {clnorm_bind(CLNORM_WORKSPACE, s.args.workspace), "workspace is bound|external_workspace"},
      {reserved, "binding 2 has reserved 5"},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    const clnorm_binding bindings[3] = {clnorm_bind(CLNORM_X, x), clnorm_bind(CLNORM_Y, y),
                                        rows[i].third};
    assert_rejected(context, clnorm_run(plan, bindings, 3, NULL), INVALID, rows[i].words,
                    rows[i].words);
    assert_nothing_changed(&s, rows[i].words);
  }
  clnorm_run_options options = {.size = 0};
  const clnorm_binding good[2] = {clnorm_bind(CLNORM_Y, y), clnorm_bind(CLNORM_X, x)};
  assert_rejected(context, clnorm_run(plan, NULL, 2, NULL), INVALID, "bindings is NULL|2", "NULL");
  assert_rejected(context, clnorm_run(plan, good, 2, &options), INVALID, "run options.size is 0",
                  "options");
  assert_nothing_changed(&s, "options");
  assert_ok(context, clnorm_run(plan, good, 2, NULL));
  assert_ok(context, clnorm_finish(context));
  clnorm_plan_destroy(plan);
  setup_free(&s);
}

static void a_copy_has_no_parameters(void **state) {
  clnorm_context *context = *state;
  const dense_desc desc = dense_desc_defaults(DENSE_COPY, N, C, S);
  clnorm_plan *plan = NULL;
  setup s;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  setup_make(&s, context, 64);
  for (operand i = WEIGHT; i < WORKSPACE; i++) {
    static const int32_t roles[] = {
        CLNORM_X,           CLNORM_Y,          CLNORM_WEIGHT,      CLNORM_BIAS, CLNORM_RUNNING_MEAN,
        CLNORM_RUNNING_VAR, CLNORM_SAVED_MEAN, CLNORM_SAVED_INVSTD};
    const clnorm_binding bindings[3] = {
        {CLNORM_X, 0, s.args.x}, {CLNORM_Y, 0, s.args.y}, {roles[i], 0, *member(&s.args, i)}};
    assert_rejected(context, clnorm_run(plan, bindings, 3, NULL), INVALID,
                    "is bound|no such operand", "copy");
    assert_nothing_changed(&s, "copy");
  }
  clnorm_plan_destroy(plan);
  setup_free(&s);
}

/* What backward is bound to: each row leaves one out or adds one. */
typedef struct backward_row {
  uint32_t gradients;
  int32_t statistics;
  /* role that is not bound, and one that is as well; -1: none */
  int32_t without, with;
  bool accumulate; /* in the run's options */
  const char *words;
} backward_row;

static const backward_row backward_rows[] = {
    {0, CLNORM_BATCH_STATISTICS, CLNORM_X, -1, false, "x is absent"},
    {CLNORM_GRADIENT_DX, CLNORM_BATCH_STATISTICS, CLNORM_X, -1, false, "x is absent"},
    {CLNORM_GRADIENT_DWEIGHT, CLNORM_GIVEN_STATISTICS, CLNORM_X, -1, false, "x is absent"},
    {0, CLNORM_BATCH_STATISTICS, CLNORM_DY, -1, false, "dy is absent"},
    {0, CLNORM_BATCH_STATISTICS, CLNORM_DX, -1, false, "dx is absent"},
    {0, CLNORM_BATCH_STATISTICS, CLNORM_DWEIGHT, -1, false, "dweight is absent"},
    {0, CLNORM_BATCH_STATISTICS, CLNORM_DBIAS, -1, false, "dbias is absent"},
    {0, CLNORM_BATCH_STATISTICS, CLNORM_SAVED_MEAN, -1, false, "saved_mean is absent"},
    {0, CLNORM_BATCH_STATISTICS, CLNORM_SAVED_INVSTD, -1, false, "saved_invstd is absent"},
    {0, CLNORM_GIVEN_STATISTICS, CLNORM_SAVED_MEAN, -1, false, "saved_mean is absent|together"},
    {0, CLNORM_GIVEN_STATISTICS, CLNORM_SAVED_INVSTD, -1, false, "saved_invstd is absent|together"},
    {0, CLNORM_BATCH_STATISTICS, -1, CLNORM_Y, false, "y is bound|no such operand"},
    {0, CLNORM_BATCH_STATISTICS, -1, CLNORM_BIAS, false, "bias is bound|no such operand"},
    {0, CLNORM_BATCH_STATISTICS, -1, CLNORM_RUNNING_MEAN, false, "running_mean is bound"},
    {0, CLNORM_GIVEN_STATISTICS, -1, CLNORM_RUNNING_MEAN, false, "running_var is absent|together"},
    {CLNORM_GRADIENT_DX, CLNORM_BATCH_STATISTICS, -1, CLNORM_DWEIGHT, false, "dweight is bound"},
    {CLNORM_GRADIENT_DX, CLNORM_BATCH_STATISTICS, -1, CLNORM_DBIAS, false, "dbias is bound"},
    {CLNORM_GRADIENT_DBIAS, CLNORM_BATCH_STATISTICS, -1, CLNORM_DX, false, "dx is bound"},
    {0, CLNORM_BATCH_STATISTICS, -1, -1, true, "accumulate is set in the run options"},
};

/* All of one memory, operand after operand. */
static size_t bind_backward(const backward_row *row, clnorm_memory memory,
                            clnorm_binding bindings[12]) {
  static const int32_t roles[] = {CLNORM_X,          CLNORM_DY,          CLNORM_WEIGHT,
                                  CLNORM_DX,         CLNORM_DWEIGHT,     CLNORM_DBIAS,
                                  CLNORM_SAVED_MEAN, CLNORM_SAVED_INVSTD};
  static const uint32_t bits[] = {[3] = CLNORM_GRADIENT_DX,
                                  [4] = CLNORM_GRADIENT_DWEIGHT,
                                  [5] = CLNORM_GRADIENT_DBIAS,
                                  [7] = 0};
  size_t count = 0;
  memory.size = COUNT * 4;
  for (size_t i = 0; i <= FIXTURE_LENGTH(roles); i++, memory.offset += memory.size) {
    const int32_t role = i < FIXTURE_LENGTH(roles) ? roles[i] : row->with;
    const bool wanted =
        i >= FIXTURE_LENGTH(roles) || !bits[i] || !row->gradients || (row->gradients & bits[i]);
    if (role >= 0 && role != row->without && wanted) bindings[count++] = clnorm_bind(role, memory);
  }
  return count;
}

static clnorm_plan *backward_plan(clnorm_context *context, const backward_row *row) {
  clnorm_problem problem = good_problem();
  clnorm_plan *plan = NULL;
  YT(&problem).rank = 0;
  problem.operation = CLNORM_BACKWARD;
  problem.statistics = row->statistics;
  problem.gradients = row->gradients;
  assert_ok(context, clnorm_plan_create(context, &problem, &plan));
  return plan;
}

static void backward_that_is_refused(void **state) {
  clnorm_context *context = *state;
  const size_t bytes = 10 * COUNT * 4;
  unsigned char before[10 * COUNT * 4], after[sizeof before];
  clnorm_memory memory;
  memset(before, 0x3e, sizeof before);
  assert_ok(context, clnorm_memory_alloc(context, bytes, &memory));
  assert_ok(context, clnorm_memory_write(context, memory, before, bytes));
  for (size_t i = 0; i < FIXTURE_LENGTH(backward_rows); i++) {
    const backward_row *row = &backward_rows[i];
    clnorm_binding bindings[12];
    clnorm_run_options options;
    clnorm_run_options_init(&options, sizeof options);
    options.accumulate = row->accumulate;
    const size_t count = bind_backward(row, memory, bindings);
    clnorm_plan *plan = backward_plan(context, row);
    assert_rejected(context, clnorm_run(plan, bindings, count, &options), INVALID, row->words,
                    row->words);
    clnorm_plan_destroy(plan);
  }
  assert_ok(context, clnorm_memory_read(context, memory, after, bytes));
  assert_memory_equal(before, after, sizeof before);
  clnorm_memory_free(context, &memory);
}

/* Given statistics are saved ones or running ones; dx lies where dy or x does, or apart. */
static void backward_statistics_and_places(void **state) {
  clnorm_context *context = *state;
  const backward_row row = {CLNORM_GRADIENT_DX, CLNORM_GIVEN_STATISTICS, -1, -1, false, ""};
  clnorm_plan *plan = backward_plan(context, &row);
  clnorm_memory memory;
  clnorm_binding bindings[12];
  assert_ok(context, clnorm_memory_alloc(context, 10 * COUNT * 4, &memory));
  const size_t count = bind_backward(&row, memory, bindings);
  assert_int_equal(bindings[3].role, CLNORM_DX);
  assert_int_equal(bindings[1].role, CLNORM_DY);
  assert_rejected(context, clnorm_run(plan, bindings, 4, NULL), INVALID,
                  "given statistics are required", "none");
  assert_ok(context, clnorm_run(plan, bindings, count, NULL));
  for (int i = 0; i < 2; i++) {
    bindings[3].memory = bindings[i].memory;
    assert_ok(context, clnorm_run(plan, bindings, count, NULL));
    bindings[3].memory.offset += 4;
    assert_rejected(context, clnorm_run(plan, bindings, count, NULL), CLNORM_ERROR_OVERLAP,
                    i ? "dy|dx|overlap" : "x|dx|overlap", "one element further");
  }
  assert_ok(context, clnorm_finish(context));
  clnorm_memory_free(context, &memory);
  clnorm_plan_destroy(plan);
}

/* Letters: R required, r read, w written. */
static void operands_of_plans(void **state) {
  clnorm_context *context = *state;
  static const struct {
    int32_t role;
    const char *uses[3];
  } rows[] = {
      {CLNORM_X, {"Rr", "Rr", "Rr"}},          {CLNORM_Y, {"Rw", "Rw", "Rw"}},
      {CLNORM_WEIGHT, {"r", "r", ""}},         {CLNORM_BIAS, {"r", "r", ""}},
      {CLNORM_RUNNING_MEAN, {"rw", "Rr", ""}}, {CLNORM_RUNNING_VAR, {"rw", "Rr", ""}},
      {CLNORM_SAVED_MEAN, {"w", "w", ""}},     {CLNORM_SAVED_MEAN_LOW, {"w", "w", ""}},
      {CLNORM_SAVED_INVSTD, {"w", "w", ""}},
  };
  for (int mode = 0; mode <= DENSE_COPY; mode++) {
    const dense_desc desc = dense_desc_defaults(mode, N, C, S);
    clnorm_plan *plan = NULL;
    assert_ok(context, dense_plan_create(context, &desc, &plan));
    for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
      const char *use = rows[i].uses[mode];
      const bool tensor = rows[i].role < CLNORM_MAX_TENSORS;
      clnorm_operand o;
      clnorm_operand_init(&o, sizeof o);
      assert_ok(context, clnorm_plan_operand(plan, rows[i].role, &o));
      assert_int_equal(o.required, strchr(use, 'R') != NULL);
      assert_int_equal(o.read, strchr(use, 'r') != NULL);
      assert_int_equal(o.written, strchr(use, 'w') != NULL);
      assert_int_equal(o.bytes, *use ? (tensor ? COUNT : C) * 4 : 0);
      assert_int_equal(o.alignment, *use ? 4 : 0);
      assert_int_equal(o.tensor.rank, *use ? (tensor ? 3 : 1) : 0);
      assert_int_equal(o.tensor.dims[0], *use ? (tensor ? N : C) : 0);
    }
    clnorm_operand o, before;
    clnorm_operand_init(&o, sizeof o);
    before = o;
    assert_rejected(context, clnorm_plan_operand(plan, 15, &o), INVALID, "role is 15", "15");
    assert_memory_equal(&o, &before, sizeof o);
    o.size = 0;
    assert_rejected(context, clnorm_plan_operand(plan, CLNORM_X, &o), INVALID, "operand.size is 0",
                    "size");
    clnorm_plan_destroy(plan);
  }
}

/* ---- Types, slices ----------------------------------------------------------------------------- */

/* An address is a multiple of what lies there: 2, 4 or 8 bytes. */
static void alignment_of_each_type(void **state) {
  clnorm_context *context = *state;
  static const struct {
    int32_t dtype;
    size_t off;
    const char *words;
  } rows[] = {
      {CLNORM_F16, 1, "offset|multiple of 2"},
      {CLNORM_BF16, 1, "offset|multiple of 2"},
      {CLNORM_F16, 2, NULL},
      {CLNORM_F32, 2, "offset|multiple of 4"},
      {CLNORM_F64, 4, "offset|multiple of 8"},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_problem problem = good_problem();
    clnorm_plan *plan = NULL;
    XT(&problem).dtype = YT(&problem).dtype = rows[i].dtype;
    const clnorm_status status = clnorm_plan_create(context, &problem, &plan);
    if (status == UNSUPPORTED && rows[i].dtype == CLNORM_F64) { /* a device without doubles */
      fixture_rejected(clnorm_last_error(context), status, status, "f64", "no doubles");
      continue;
    }
    assert_ok(context, status);
    fixture_tensor x = fixture_tensor_make(context, NULL, 64);
    fixture_tensor y = fixture_tensor_make(context, NULL, 64);
    clnorm_binding bindings[2] = {clnorm_bind(CLNORM_X, x.view), clnorm_bind(CLNORM_Y, y.view)};
    for (int k = 0; k < 2; k++) {
      const clnorm_memory good = bindings[k].memory;
      bindings[k].memory.offset += rows[i].off;
      bindings[k].memory.size -= rows[i].off;
      if (rows[i].words) {
        assert_rejected(context, clnorm_run(plan, bindings, 2, NULL), INVALID, rows[i].words,
                        rows[i].words);
        fixture_assert_poisoned(context, &y, rows[i].words);
      } else {
        assert_ok(context, clnorm_run(plan, bindings, 2, NULL));
        assert_ok(context, clnorm_finish(context));
      }
      bindings[k].memory = good;
    }
    clnorm_plan_destroy(plan);
    fixture_tensor_free(context, &x);
    fixture_tensor_free(context, &y);
  }
}

/* x and y are channels of one tensor (2, 8, 4): y begins `first` elements behind x, of whose channels there are 3. */
static void slices_of_one_tensor(void **state) {
  clnorm_context *context = *state;
  static const struct {
    bool last, other_strides;
    size_t first;
    clnorm_status expected;
  } rows[] = {
      {false, false, 12, CLNORM_OK}, {false, false, 20, CLNORM_OK}, {false, false, 8, OVERLAP},
      {false, false, 1, OVERLAP},    {false, false, 24, OVERLAP},   {true, false, 3, CLNORM_OK},
      {true, false, 5, CLNORM_OK},   {true, false, 2, OVERLAP},     {true, false, 6, OVERLAP},
      {false, false, 0, CLNORM_OK},  {false, true, 0, OVERLAP},     {true, true, 0, OVERLAP},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_problem problem = good_problem();
    clnorm_plan *plan = NULL;
    float values[96];
    char row[32];
    snprintf(row, sizeof row, "slice %zu", i);
    for (int k = 0; k < 2; k++) {
      clnorm_tensor *t = &problem.tensors[k];
      t->strides[0] = 32;
      t->strides[1] = rows[i].last ? 1 : 4;
      t->strides[2] = rows[i].last ? 8 : 1;
    }
    if (rows[i].other_strides) YT(&problem).strides[0] = 40;
    assert_ok(context, clnorm_plan_create(context, &problem, &plan));
    fixture_tensor whole = fixture_tensor_make(context, NULL, 96);
    clnorm_binding bindings[2] = {clnorm_bind(CLNORM_X, whole.view),
                                  clnorm_bind(CLNORM_Y, whole.view)};
    bindings[1].memory.offset += rows[i].first * sizeof(float);
    bindings[1].memory.size -= rows[i].first * sizeof(float);
    const clnorm_status status = clnorm_run(plan, bindings, 2, NULL);
    if (rows[i].expected == CLNORM_OK) {
      assert_ok(context, status);
      fixture_tensor_read(context, &whole, values);
    } else {
      fixture_rejected(clnorm_last_error(context), status, OVERLAP, "x (bytes|y (bytes|overlap",
                       row);
      fixture_assert_poisoned(context, &whole, row);
    }
    clnorm_plan_destroy(plan);
    fixture_tensor_free(context, &whole);
  }
}

/* ---- BatchNorm ------------------------------------------------------------------------------- */

typedef struct option_row {
  clnorm_batchnorm_options options;
  clnorm_status expected;
  const char *words;
} option_row;

/* Members that are not named are 0, which num_features and size alone must not be. */
static const option_row option_rows[] = {
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 0}, INVALID, "num_features is 0"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = -3}, INVALID, "num_features is -3"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = INT64_MAX},
     CLNORM_ERROR_OVERFLOW,
     "num_features"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .eps = -1.0},
     INVALID,
     "eps is -1"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .eps = NAN}, INVALID, "eps|nan"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .eps = INFINITY},
     INVALID,
     "eps is inf"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .eps = 1e39},
     INVALID,
     "eps is 1e+39"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .momentum = -0.5},
     INVALID,
     "momentum is -0.5|[0, 1]"},
    {{.size = sizeof(clnorm_batchnorm_options),
      .num_features = 3,
      .momentum = 1.5,
      .momentum_convention = CLNORM_MOMENTUM_NEW},
     INVALID,
     "momentum is 1.5"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .momentum = NAN},
     INVALID,
     "momentum|nan"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .momentum_convention = 3},
     INVALID,
     "momentum_convention|3"},
    {{.size = 0, .num_features = 3}, INVALID, "options.size is 0"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .spatial_rank = 4},
     INVALID,
     "spatial_rank is 4"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .spatial_rank = -1},
     INVALID,
     "spatial_rank is -1"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .dtype = CLNORM_F16},
     INVALID,
     "dtype is f16"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .dtype = 9},
     INVALID,
     "dtype is unknown (9)"},
    {{.size = sizeof(clnorm_batchnorm_options), .num_features = 3, .freeze = true},
     INVALID,
     "freeze|track_running_stats"},
};

static void options_that_are_refused(void **state) {
  clnorm_context *context = *state;
  for (size_t i = 0; i < FIXTURE_LENGTH(option_rows); i++) {
    const option_row *row = &option_rows[i];
    clnorm_batchnorm *bn = (clnorm_batchnorm *)&bn;
    assert_rejected(context, clnorm_batchnorm_create(context, &row->options, &bn), row->expected,
                    row->words, row->words);
    assert_null(bn);
  }
}

static clnorm_batchnorm *make_module(clnorm_context *context) {
  const clnorm_batchnorm_options options = dense_batchnorm_options(C);
  clnorm_batchnorm *bn = NULL;
  assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
  return bn;
}

static void parameters_of_the_wrong_size(void **state) {
  clnorm_context *context = *state;
  clnorm_batchnorm *bn = make_module(context);
  float values[C + 1];
  for (int i = 0; i <= C; i++) values[i] = 7;
  for (int p = CLNORM_WEIGHT; p <= CLNORM_RUNNING_VAR; p++) {
    const int32_t which = (int32_t)p;
    assert_rejected(context, dense_batchnorm_get(bn, which, values, C + 1), INVALID, "17|16", "17");
    assert_rejected(context, dense_batchnorm_set(bn, which, values, C - 1), INVALID, "15|16", "15");
    assert_rejected(context, dense_batchnorm_set(bn, which, values, 0), INVALID, "0|16", "0");
    assert_rejected(context, dense_batchnorm_get(bn, which, NULL, C), INVALID, "values", "NULL");
    assert_rejected(context, dense_batchnorm_set(bn, which, NULL, C), INVALID, "values", "NULL");
    for (int i = 0; i <= C; i++) assert_true(values[i] == 7);
    assert_ok(context, dense_batchnorm_get(bn, which, values, C));
    for (int i = 0; i < C; i++)
      assert_true(values[i] == (p == CLNORM_WEIGHT || p == CLNORM_RUNNING_VAR));
    for (int i = 0; i < C; i++) values[i] = 7;
  }
  assert_rejected(context, dense_batchnorm_get(bn, (int32_t)4, values, C), INVALID,
                  "role is unknown (4)", "role 4");
  assert_rejected(context, dense_batchnorm_set(bn, (int32_t)-1, values, C), INVALID,
                  "role is unknown (-1)", "role -1");
  assert_true(is_absent(clnorm_batchnorm_memory(bn, (int32_t)4)));
  clnorm_batchnorm_destroy(bn);
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
    {4, {-1, C, 1, S}, INVALID, "x.dims[0] is -1"},
    {4, {N, C, -2, S}, INVALID, "-2"},
    {4, {N, C, 1, -S}, INVALID, "-40"},
    {4, {N, C, HUGE_SIZE, 2}, CLNORM_ERROR_OVERFLOW, "4611686018427387904"},
    {4, {HUGE_SIZE, C, 1, 1}, CLNORM_ERROR_OVERFLOW, "4611686018427387904"},
    {4, {N, C, 1, S + 1}, TOO_SMALL, "x has 7680|7872"},
};

static void shapes_that_are_refused(void **state) {
  clnorm_context *context = *state;
  clnorm_batchnorm *bn = make_module(context);
  setup s;
  setup_make(&s, context, 64);
  const dense_args args = {.x = s.args.x,
                           .y = s.args.y,
                           .saved_mean = s.args.saved_mean,
                           .saved_invstd = s.args.saved_invstd};
  for (size_t i = 0; i < FIXTURE_LENGTH(dims_rows); i++) {
    const dims_row *row = &dims_rows[i];
    assert_rejected(context, dense_batchnorm_forward(bn, row->ndim, row->dims, &args),
                    row->expected, row->words, row->words);
    assert_nothing_changed(&s, row->words);
    assert_int_equal(clnorm_batchnorm_num_batches_tracked(bn), 0);
  }
  const int64_t good[4] = {N, C, 1, S};
  assert_rejected(context, dense_batchnorm_forward(bn, 4, NULL, &args), INVALID, "x is NULL", "x");
  assert_rejected(context, dense_batchnorm_forward(bn, 4, good, NULL), INVALID, "x is absent",
                  "bindings");
  dense_args bad = args;
  bad.x = (clnorm_memory){NULL, NULL, 0, 0};
  assert_rejected(context, dense_batchnorm_forward(bn, 4, good, &bad), INVALID, "x|absent", "x");
  bad = args;
  bad.saved_mean = bad.y;
  assert_rejected(context, dense_batchnorm_forward(bn, 4, good, &bad), OVERLAP, "saved_mean|y",
                  "y");
  assert_nothing_changed(&s, "bad operands");
  float mean[C];
  assert_ok(context, dense_batchnorm_get(bn, CLNORM_RUNNING_MEAN, mean, C));
  for (int i = 0; i < C; i++) assert_true(mean[i] == 0);
  assert_int_equal(clnorm_batchnorm_num_batches_tracked(bn), 0);
  clnorm_batchnorm_destroy(bn);
  setup_free(&s);
}

/* Which ranks each module takes, and in which words it refuses others. */
static void ranks_of_modules(void **state) {
  clnorm_context *context = *state;
  static const struct {
    int32_t spatial_rank, rank;
    const char *words;
  } rows[] = {
      {1, 4, "expected 2D or 3D input (got 4D input)"}, {1, 1, "expected 2D or 3D input (got 1D"},
      {2, 2, "expected 4D input (got 2D input)"},       {2, 5, "expected 4D input (got 5D input)"},
      {3, 4, "expected 5D input (got 4D input)"},       {3, 6, "expected 5D input (got 6D input)"},
      {0, 1, "expected 2D to 5D input (got 1D input)"}, {0, 6, "expected 2D to 5D input (got 6D"},
  };
  static const int64_t dims[6] = {1, C, 1, 1, 1, 1};
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_batchnorm_options options = dense_batchnorm_options(C);
    clnorm_batchnorm *bn = NULL;
    options.spatial_rank = rows[i].spatial_rank;
    assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
    assert_rejected(context, dense_batchnorm_forward(bn, rows[i].rank, dims, NULL), INVALID,
                    rows[i].words, rows[i].words);
    clnorm_batchnorm_destroy(bn);
  }
}

/* What a module keeps itself cannot be bound; nor is x of another real type taken. */
static void roles_and_types_of_modules(void **state) {
  clnorm_context *context = *state;
  static const int64_t dims[4] = {N, C, 1, S};
  clnorm_batchnorm *bn = make_module(context);
  clnorm_tensor x;
  setup s;
  setup_make(&s, context, 64);
  clnorm_tensor_nchw(&x, CLNORM_F32, 4, dims);
  static const operand own[] = {WEIGHT, BIAS, MEAN, VAR, WORKSPACE};
  static const int32_t roles[] = {CLNORM_WEIGHT, CLNORM_BIAS, CLNORM_RUNNING_MEAN,
                                  CLNORM_RUNNING_VAR, CLNORM_WORKSPACE};
  for (size_t i = 0; i < FIXTURE_LENGTH(own); i++) {
    const clnorm_binding bindings[3] = {clnorm_bind(CLNORM_X, s.args.x),
                                        clnorm_bind(CLNORM_Y, s.args.y),
                                        clnorm_bind(roles[i], *member(&s.args, own[i]))};
    assert_rejected(context, clnorm_batchnorm_forward(bn, &x, bindings, 3, NULL), INVALID,
                    "is bound|own", clnorm_role_name(roles[i]));
    assert_nothing_changed(&s, clnorm_role_name(roles[i]));
  }
  clnorm_tensor_nchw(&x, CLNORM_F64, 4, dims);
  assert_rejected(context, clnorm_batchnorm_forward(bn, &x, NULL, 0, NULL), INVALID,
                  "parameters are f32|x of f64", "x of f64");
  float value[C] = {0};
  assert_rejected(context, clnorm_batchnorm_set(bn, CLNORM_BIAS, CLNORM_F16, value, C), INVALID,
                  "dtype is f16", "f16");
  assert_rejected(context, clnorm_batchnorm_get(bn, CLNORM_BIAS, 9, value, C), INVALID,
                  "dtype is unknown (9)", "9");
  assert_int_equal(clnorm_batchnorm_num_batches_tracked(bn), 0);
  clnorm_batchnorm_destroy(bn);
  setup_free(&s);
}

/* ---- Comparing --------------------------------------------------------------------------------- */

static void comparisons_that_are_refused(void **state) {
  clnorm_context *context = *state;
  setup s;
  setup_make(&s, context, 64);
  const clnorm_memory y = s.args.y, absent = {NULL, NULL, 0, 0};
  clnorm_difference d, before;
  clnorm_difference_init(&d, sizeof d);
  before = d;
  static const int64_t negative[4] = {1, -2, 3, 4}, huge[4] = {1, 1, HUGE_SIZE, 1};
  static const int64_t good[4] = {N, C, 1, S};
  assert_rejected(context, dense_compare_memory(context, y, context, y, negative, &d), INVALID,
                  "-2", "negative");
  assert_rejected(context, dense_compare_memory(context, y, context, y, huge, &d),
                  CLNORM_ERROR_OVERFLOW, "", "huge");
  assert_memory_equal(&d, &before, sizeof d);
  static const int64_t nothing[4] = {HUGE_SIZE, HUGE_SIZE, 0, 1};
  assert_ok(context, dense_compare_memory(context, absent, context, absent, nothing, &d));
  assert_int_equal(d.elements, 0);
  assert_rejected(context, dense_compare_memory(context, absent, context, y, good, &d), INVALID,
                  "absent", "absent a");
  assert_rejected(context, dense_compare_memory(context, y, context, absent, good, &d), INVALID,
                  "absent", "absent b");
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  clnorm_difference differences[CLNORM_NUM_OUTPUTS];
  float x[4] = {1, 2, 3, 4};
  dense_args inputs = {.x = {NULL, NULL, 0, 0}};
  assert_rejected(context, dense_compare_runs(context, context, &desc, &inputs, differences),
                  INVALID, "x", "x absent");
  inputs.x = (clnorm_memory){x, NULL, 0, sizeof x};
  assert_rejected(context, dense_compare_runs(context, context, &desc, &inputs, differences),
                  TOO_SMALL, "x has 16|7680", "x too short");
  inputs.x = (clnorm_memory){NULL, (struct _cl_mem *)(void *)x, 0, sizeof x};
  assert_rejected(context, dense_compare_runs(context, context, &desc, &inputs, differences),
                  INVALID, "x|host", "x in OpenCL memory");
  assert_rejected(context, dense_compare_runs(context, NULL, &desc, &inputs, differences), INVALID,
                  "contexts[1]", "contexts");
  assert_rejected(context, dense_compare_runs(context, context, NULL, &inputs, differences),
                  INVALID, "problem is NULL", "problem");
  const clnorm_problem problem = dense_problem(&desc);
  clnorm_compared output = {CLNORM_WORKSPACE, 0, &d};
  clnorm_context *const both[2] = {context, context};
  assert_rejected(context, clnorm_compare_runs(both, &problem, NULL, 1, NULL, NULL, 0), INVALID,
                  "bindings is NULL", "inputs");
  assert_rejected(context, clnorm_compare_runs(both, &problem, NULL, 0, NULL, NULL, 1), INVALID,
                  "outputs is NULL", "outputs");
  assert_rejected(context, clnorm_compare_runs(both, &problem, NULL, 0, NULL, &output, 1), INVALID,
                  "output 0 has role 32", "workspace");
  output = (clnorm_compared){CLNORM_Y, 3, &d};
  assert_rejected(context, clnorm_compare_runs(both, &problem, NULL, 0, NULL, &output, 1), INVALID,
                  "output 0 has reserved 3", "reserved");
  output = (clnorm_compared){CLNORM_Y, 0, NULL};
  assert_rejected(context, clnorm_compare_runs(both, &problem, NULL, 0, NULL, &output, 1), INVALID,
                  "difference is NULL", "difference");
  assert_memory_equal(&d, &before, sizeof d);
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
      cmocka_unit_test(problems_that_are_refused),
      cmocka_unit_test(members_that_are_not_known),
      cmocka_unit_test(inputs_may_overlap_themselves),
      cmocka_unit_test(descriptions_at_the_edge_are_accepted),
      cmocka_unit_test(operands_with_batch_statistics),
      cmocka_unit_test(operands_with_given_statistics),
      cmocka_unit_test(sizes_beyond_the_object),
      cmocka_unit_test(places_in_host_memory),
      cmocka_unit_test(momentum_outside_its_range),
      cmocka_unit_test(wait_lists_that_are_none),
      cmocka_unit_test(bindings_that_are_refused),
      cmocka_unit_test(backward_that_is_refused),
      cmocka_unit_test(backward_statistics_and_places),
      cmocka_unit_test(a_copy_has_no_parameters),
      cmocka_unit_test(operands_of_plans),
      cmocka_unit_test(alignment_of_each_type),
      cmocka_unit_test(slices_of_one_tensor),
      cmocka_unit_test(ranks_of_modules),
      cmocka_unit_test(roles_and_types_of_modules),
      cmocka_unit_test(options_that_are_refused),
      cmocka_unit_test(parameters_of_the_wrong_size),
      cmocka_unit_test(shapes_that_are_refused),
      cmocka_unit_test(comparisons_that_are_refused),
  };
  return cmocka_run_group_tests(tests, fixture_set_up, fixture_tear_down);
}
