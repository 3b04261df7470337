/* Devices that this machine does not have, lent by the OpenCL layer: a small GPU, on which the wide form
 * runs and gives the bits of the CPU path, and devices that cannot be used, each told with its reason. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#include <clnorm/clnorm_opencl.h>

#include "layer.h"

static layer_control *layer;

static int find_layer(void **state) {
  (void)state;
  layer = layer_open();
  return 0;
}

static int be_ordinary(void **state) {
  (void)state;
  layer->personality = LAYER_AS_IT_IS;
  return 0;
}

static void become(layer_personality personality) {
  layer_reset(layer, 0, false);
  layer->personality = personality;
}

/* ---- The small GPU ------------------------------------------------------------------------------- */

static void a_small_gpu_is_listed_and_chosen(void **state) {
  (void)state;
  become(LAYER_SMALL_GPU);
  clnorm_device_list *list = NULL;
  assert_int_equal(clnorm_device_list_create(&list), CLNORM_OK);
  const int chosen = clnorm_device_list_default(list);
  const clnorm_device_info *info = clnorm_device_list_get(list, chosen);
  assert_string_equal(info->id, "0.0");
  assert_string_equal(info->type, "gpu");
  assert_string_equal(info->form, "wide");
  assert_string_equal(info->status, "ok");
  assert_int_equal(info->max_alloc_bytes, LAYER_SMALL_ALLOC);
  clnorm_device_list_destroy(list);
  static const char *const selectors[] = {"gpu", "auto", "0.0"};
  for (size_t i = 0; i < FIXTURE_LENGTH(selectors); i++) {
    clnorm_context *context = fixture_open_with(selectors[i], NULL);
    assert_string_equal(clnorm_context_device(context)->id, "0.0");
    assert_non_null(strstr(clnorm_context_description(context), "wide form"));
    clnorm_context_destroy(context);
  }
}

typedef struct shape {
  int64_t batch, channels, spatial;
} shape;

static const shape shapes[] = {{1, 1, 2},    {2, 3, 1},        {1, 8, 16},     {3, 5, 49},
                               {4, 40, 49},  {32, 3, 196},     {2, 3, 1024},   {2, 3, 1025},
                               {1, 2, 4097}, {2, 70, 28 * 28}, {1, 1, 100003}, {300, 2, 7}};

static void run_shape(clnorm_context *cpu, clnorm_context *gpu, shape s) {
  const size_t count = (size_t)(s.batch * s.channels * s.spatial), c = (size_t)s.channels;
  float *x = malloc(count * sizeof *x), *values = malloc(2 * c * sizeof *values);
  assert_true(x != NULL && values != NULL);
  fixture_fill(x, count, 1, 1000, 3);
  fixture_fill(values, c, 2, 1000, 1);
  fixture_fill(values + c, c, 3, 9, 0.5);
  const clnorm_memory mean = clnorm_host_memory(values, c * sizeof *values);
  const clnorm_memory var = clnorm_host_memory(values + c, c * sizeof *values);
  const dense_args inputs = {.x = clnorm_host_memory(x, count * sizeof *x),
                             .weight = var,
                             .bias = mean,
                             .running_mean = mean,
                             .running_var = var,
                             .momentum = 0.9};
  for (int statistics = 0; statistics < 2; statistics++) {
    for (int variant = 0; variant < 3; variant++) {
      dense_desc desc =
          dense_desc_defaults((clnorm_statistics)statistics, s.batch, s.channels, s.spatial);
      desc.cut = (clnorm_cut)variant;
      clnorm_difference d[CLNORM_NUM_OUTPUTS];
      assert_ok(cpu, dense_compare_runs(cpu, gpu, &desc, &inputs, d));
      for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++)
        if (d[i].differing_elements != 0)
          fail_msg("%d x %d x %d, statistics %d, variant %d: %d elements of output %d differ",
                   (int)s.batch, (int)s.channels, (int)s.spatial, statistics, variant,
                   (int)d[i].differing_elements, i);
      assert_int_equal(d[CLNORM_OUTPUT_Y].elements, count);
    }
  }
  free(values);
  free(x);
}

static void a_small_gpu_gives_the_bits(void **state) {
  (void)state;
  become(LAYER_SMALL_GPU);
  clnorm_context *cpu = fixture_open_with("cpu", NULL), *gpu = fixture_open_with("gpu", NULL);
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 2, 3, 400);
  clnorm_plan *plan = NULL;
  assert_ok(gpu, dense_plan_create(gpu, &desc, &plan));
  assert_non_null(strstr(clnorm_plan_description(plan), "wide form"));
  clnorm_plan_destroy(plan);
  for (size_t i = 0; i < FIXTURE_LENGTH(shapes); i++) run_shape(cpu, gpu, shapes[i]);
  assert_int_equal(atomic_load(&layer->largest_group), LAYER_SMALL_GROUP);
  clnorm_context_destroy(gpu);
  clnorm_context_destroy(cpu);
}

/* A work-group that the device cannot have is refused, not made smaller. */
static void work_groups_beyond_the_limit(void **state) {
  (void)state;
  become(LAYER_SMALL_GPU);
  clnorm_context_options options = dense_context_options();
  options.group_size = 64;
  clnorm_context_destroy(fixture_open_with("gpu", &options));
  options.group_size = 128;
  clnorm_context *context = (clnorm_context *)&context;
  clnorm_message message;
  const clnorm_status status = clnorm_context_create("gpu", &options, &context, &message);
  fixture_rejected(message.text, status, CLNORM_ERROR_INVALID_ARGUMENT, "group_size|128|64",
                   "work-groups of 128");
  assert_null(context);
}

/* Too large for one buffer: said so, with nothing left behind; what fits still does. */
static void allocations_beyond_the_limit(void **state) {
  (void)state;
  long before[LAYER_NUM_OBJECTS];
  become(LAYER_SMALL_GPU);
  clnorm_context *gpu = fixture_open_with("gpu", NULL);
  layer_live(layer, before);
  clnorm_memory memory;
  clnorm_status status = clnorm_memory_alloc(gpu, (size_t)LAYER_SMALL_ALLOC + 1, &memory);
  fixture_rejected(clnorm_last_error(gpu), status, CLNORM_ERROR_OUT_OF_MEMORY,
                   "clCreateBuffer|CL_INVALID_BUFFER_SIZE|67108865|67108864", "64 MiB + 1");
  assert_true(memory.cl == NULL && memory.host == NULL);
  const int64_t features = (int64_t)(LAYER_SMALL_ALLOC / sizeof(float)) + 1;
  const clnorm_batchnorm_options options = dense_batchnorm_options(features);
  clnorm_batchnorm *bn = (clnorm_batchnorm *)&bn;
  status = clnorm_batchnorm_create(gpu, &options, &bn);
  fixture_rejected(clnorm_last_error(gpu), status, CLNORM_ERROR_OUT_OF_MEMORY,
                   "clCreateBuffer|67108868|67108864", "module");
  assert_null(bn);
  layer_assert_live(layer, before, "after allocations that failed");
  assert_ok(gpu, clnorm_memory_alloc(gpu, (size_t)LAYER_SMALL_ALLOC, &memory));
  clnorm_memory_free(gpu, &memory);
  clnorm_context_destroy(gpu);
}

/* ---- Devices that cannot be used ----------------------------------------------------------------- */

typedef struct unusable_row {
  layer_personality personality;
  const char *words; /* of the device's status */
} unusable_row;

static const unusable_row unusable[] = {
    {LAYER_NO_COMPILER, "compiler|CL_DEVICE_COMPILER_AVAILABLE"},
    {LAYER_NOT_AVAILABLE, "not available"},
    {LAYER_OPENCL_1_1, "OpenCL 1.1|1.2"},
};

static void assert_falls_back(const char *words) {
  clnorm_context *context = fixture_open_with("auto", NULL);
  assert_string_equal(clnorm_context_device(context)->id, "cpu");
  fixture_rejected(clnorm_context_description(context), CLNORM_OK, CLNORM_OK, words, "auto");
  clnorm_context_destroy(context);
}

static void devices_that_cannot_be_used(void **state) {
  (void)state;
  static const char *const selectors[] = {"0.0", "gpu", "pocl"};
  for (size_t i = 0; i < FIXTURE_LENGTH(unusable); i++) {
    const unusable_row *row = &unusable[i];
    become(row->personality);
    clnorm_device_list *list = NULL;
    assert_int_equal(clnorm_device_list_create(&list), CLNORM_OK);
    const clnorm_device_info *info = clnorm_device_list_get(list, 1);
    assert_non_null(info);
    assert_string_equal(info->id, "0.0");
    assert_false(info->usable);
    print_message("  %s\n", info->status);
    fixture_rejected(info->status, CLNORM_OK, CLNORM_OK, row->words, info->status);
    clnorm_device_list_destroy(list);
    for (size_t s = 0; s < FIXTURE_LENGTH(selectors); s++) {
      clnorm_context *context = (clnorm_context *)&context;
      clnorm_message message;
      const clnorm_status status = clnorm_context_create(selectors[s], NULL, &context, &message);
      fixture_rejected(message.text, status, CLNORM_ERROR_NO_DEVICE, row->words, selectors[s]);
      assert_null(context);
    }
    assert_falls_back("auto");
  }
}

static void a_platform_without_devices(void **state) {
  (void)state;
  become(LAYER_NO_DEVICES);
  clnorm_device_list *list = NULL;
  assert_int_equal(clnorm_device_list_create(&list), CLNORM_OK);
  assert_int_equal(clnorm_device_list_count(list), 1);
  bool told = false;
  for (int i = 0; i < clnorm_device_list_missing_count(list); i++) {
    const char *text = clnorm_device_list_missing(list, i);
    if (strstr(text, "platform 0") && strstr(text, "no device")) told = true;
    print_message("  %s\n", text);
  }
  assert_true(told);
  clnorm_device_list_destroy(list);
  clnorm_context *context = NULL;
  clnorm_message message;
  const clnorm_status status = clnorm_context_create("0.0", NULL, &context, &message);
  fixture_rejected(message.text, status, CLNORM_ERROR_NO_DEVICE, "0.0|platform 0|no device", "0.0");
  assert_falls_back("auto|no device");
}

/* The caller hands over such a device: refused just so, and nothing stays retained. */
static void adopted_devices_that_cannot_be_used(void **state) {
  (void)state;
  cl_platform_id platform;
  cl_device_id device;
  cl_int code;
  become(LAYER_AS_IT_IS);
  assert_int_equal(clGetPlatformIDs(1, &platform, NULL), CL_SUCCESS);
  assert_int_equal(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL), CL_SUCCESS);
  cl_context cl = clCreateContext(NULL, 1, &device, NULL, NULL, &code);
  assert_int_equal(code, CL_SUCCESS);
  cl_command_queue queue = clCreateCommandQueue(cl, device, 0, &code);
  assert_int_equal(code, CL_SUCCESS);
  for (size_t i = 0; i < FIXTURE_LENGTH(unusable); i++) {
    long before[LAYER_NUM_OBJECTS];
    become(unusable[i].personality);
    layer_live(layer, before);
    clnorm_context *context = (clnorm_context *)&context;
    clnorm_message message;
    const clnorm_status status =
        clnorm_context_create_opencl(cl, device, queue, NULL, &context, &message);
    fixture_rejected(message.text, status, CLNORM_ERROR_NO_DEVICE, unusable[i].words, "adopted");
    assert_null(context);
    layer_assert_live(layer, before, "adopting an unusable device");
  }
  clReleaseCommandQueue(queue);
  clReleaseContext(cl);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(a_small_gpu_is_listed_and_chosen, be_ordinary),
      cmocka_unit_test_teardown(a_small_gpu_gives_the_bits, be_ordinary),
      cmocka_unit_test_teardown(work_groups_beyond_the_limit, be_ordinary),
      cmocka_unit_test_teardown(allocations_beyond_the_limit, be_ordinary),
      cmocka_unit_test_teardown(devices_that_cannot_be_used, be_ordinary),
      cmocka_unit_test_teardown(a_platform_without_devices, be_ordinary),
      cmocka_unit_test_teardown(adopted_devices_that_cannot_be_used, be_ordinary),
  };
  return cmocka_run_group_tests(tests, find_layer, NULL);
}
