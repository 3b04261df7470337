/* Comparing results: two arrays, two places in memory, or one operation on two contexts. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "objects.h"

/* ---- Arrays --------------------------------------------------------------------------------------- */

/* Floats in order, as integers in order: neighbours differ by 1, -0 and +0 too. */
static uint32_t ordered(uint32_t bits) { return bits >> 31 ? ~bits : bits | 0x80000000u; }

static bool is_nan(uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }

static uint32_t distance(float a, float b) {
  const uint32_t x = clnorm_bits(a), y = clnorm_bits(b);
  if (x == y || (is_nan(x) && is_nan(y))) return 0;
  if (is_nan(x) || is_nan(y)) return UINT32_MAX;
  const uint32_t i = ordered(x), j = ordered(y);
  return i > j ? i - j : j - i;
}

static int histogram_bin(uint32_t ulp) {
  if (ulp == UINT32_MAX) return 33;
  return ulp ? 32 - __builtin_clz(ulp) : 0;
}

static void start(clnorm_difference *difference) {
  memset(difference, 0, sizeof *difference);
  for (int i = 0; i < 4; i++) difference->first[i] = -1;
}

void clnorm_compare(const int64_t dims[4], const float *a, const float *b,
                    clnorm_difference *difference) {
  if (!difference) return;
  start(difference);
  if (!dims || !a || !b) return;
  if (!clnorm__checked_product(dims, 4, &difference->elements)) return; /* no array is so large */
  for (int64_t i = 0; i < difference->elements; i++) {
    const uint32_t ulp = distance(a[i], b[i]);
    difference->histogram[histogram_bin(ulp)]++;
    if (!ulp) continue;
    if (ulp > difference->max_ulp) difference->max_ulp = ulp;
    if (difference->differing_elements++) continue;
    int64_t rest = i;
    for (int k = 3; k >= 0; k--) {
      difference->first[k] = rest % dims[k];
      rest /= dims[k];
    }
    difference->first_a = a[i];
    difference->first_b = b[i];
  }
}

/* ---- Memory --------------------------------------------------------------------------------------- */

static clnorm_status quote(clnorm_context *to, clnorm_context *from, clnorm_status status) {
  if (status == CLNORM_OK || to == from) return status;
  return clnorm__fail(&to->error, status, "second context: %s", from->error.message.text);
}

clnorm_status clnorm_compare_memory(clnorm_context *context_a, clnorm_memory a,
                                    clnorm_context *context_b, clnorm_memory b,
                                    const int64_t dims[4], clnorm_difference *difference) {
  clnorm_status status = clnorm__context_ready(context_a);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &context_a->error;
  if (!context_b) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "context_b is NULL");
  if (!dims) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "dims is NULL");
  if (!difference) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "difference is NULL");
  int64_t factors[5] = {dims[0], dims[1], dims[2], dims[3], sizeof(float)};
  int64_t bytes = 0;
  for (int i = 0; i < 4; i++)
    if (dims[i] < 0)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "dimension %d is %" PRId64 ", but must not be negative", i, dims[i]);
  if (!clnorm__checked_product(factors, 5, &bytes) || (uint64_t)bytes > SIZE_MAX / 2)
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "the product of dims is more floats than fit in memory");
  start(difference);
  if (!bytes) return CLNORM_OK;

  float *host_a = malloc((size_t)bytes), *host_b = malloc((size_t)bytes);
  if (!host_a || !host_b)
    status = clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY,
                          "no host memory for two copies of %" PRId64 " bytes", bytes);
  if (status == CLNORM_OK) status = clnorm_memory_read(context_a, a, host_a, (size_t)bytes);
  if (status == CLNORM_OK)
    status = quote(context_a, context_b, clnorm_memory_read(context_b, b, host_b, (size_t)bytes));
  if (status == CLNORM_OK) clnorm_compare(dims, host_a, host_b, difference);
  free(host_b);
  free(host_a);
  return status;
}

/* ---- One operation on two contexts ---------------------------------------------------------------- */

/* One side: the operands' memory on a context, and the plan. */
typedef struct side {
  clnorm_context *context;
  clnorm_forward_plan *plan;
  clnorm_forward_args args;
} side;

static clnorm_status upload(clnorm_context *context, const char *role, clnorm_memory source,
                            size_t size, clnorm_memory *memory) {
  if (clnorm__memory_absent(source)) return CLNORM_OK;
  clnorm_status status = clnorm__memory_check_place(source, role, &context->error);
  if (status != CLNORM_OK) return status;
  if (source.size < size)
    return clnorm__fail(&context->error, CLNORM_ERROR_BUFFER_TOO_SMALL,
                        "%s has %zu bytes, but the operation needs %zu", role, source.size, size);
  status = clnorm_memory_alloc(context, size, memory);
  if (status != CLNORM_OK) return status;
  return clnorm_memory_write(context, *memory, (const char *)source.host + source.offset, size);
}

/* Nothing is read, nothing is written; other sizes may then be too large for memory. */
static bool is_empty(const clnorm_forward_desc *desc) {
  return !desc->batch || !desc->channels || !desc->spatial;
}

static clnorm_status run_side(side *s, const clnorm_forward_desc *desc,
                              const clnorm_forward_args *inputs) {
  const size_t channels = (size_t)desc->channels * sizeof(float);
  const size_t tensor = (size_t)desc->batch * (size_t)desc->spatial * channels;
  clnorm_forward_args *a = &s->args;
  const struct {
    const char *role;
    clnorm_memory source, *memory;
    size_t size;
  } operands[] = {
      {"x", inputs->x, &a->x, tensor},
      {"weight", inputs->weight, &a->weight, channels},
      {"bias", inputs->bias, &a->bias, channels},
      {"running_mean", inputs->running_mean, &a->running_mean, channels},
      {"running_var", inputs->running_var, &a->running_var, channels},
  };
  clnorm_status status = clnorm_forward_plan_create(s->context, desc, &s->plan);
  if (is_empty(desc)) return status;
  for (size_t i = 0; i < sizeof operands / sizeof *operands && status == CLNORM_OK; i++)
    status = upload(s->context, operands[i].role, operands[i].source, operands[i].size,
                    operands[i].memory);
  if (status == CLNORM_OK) status = clnorm_memory_alloc(s->context, tensor, &a->y);
  if (status == CLNORM_OK) status = clnorm_memory_alloc(s->context, channels, &a->saved_mean);
  if (status == CLNORM_OK) status = clnorm_memory_alloc(s->context, channels, &a->saved_invstd);
  a->momentum = inputs->momentum;
  if (status == CLNORM_OK) status = clnorm_forward_run(s->plan, a);
  return status == CLNORM_OK ? clnorm_finish(s->context) : status;
}

static void release_side(side *s) {
  clnorm_forward_plan_destroy(s->plan);
  clnorm_memory *const all[] = {&s->args.x,
                                &s->args.y,
                                &s->args.weight,
                                &s->args.bias,
                                &s->args.running_mean,
                                &s->args.running_var,
                                &s->args.saved_mean,
                                &s->args.saved_invstd};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) clnorm_memory_free(s->context, all[i]);
}

static clnorm_status compare_sides(side *a, side *b, const clnorm_forward_desc *desc,
                                   clnorm_difference differences[CLNORM_NUM_OUTPUTS]) {
  const int64_t tensor[4] = {desc->batch, desc->channels, 1, desc->spatial};
  const int64_t channel[4] = {1, desc->channels, 1, 1};
  const bool updates = desc->statistics == CLNORM_BATCH_STATISTICS;
  const bool normalizes = desc->statistics != CLNORM_NO_STATISTICS;
  const struct {
    clnorm_memory a, b;
    const int64_t *dims;
    bool written;
  } outputs[CLNORM_NUM_OUTPUTS] = {
      {a->args.y, b->args.y, tensor, true},
      {a->args.running_mean, b->args.running_mean, channel, updates},
      {a->args.running_var, b->args.running_var, channel, updates},
      {a->args.saved_mean, b->args.saved_mean, channel, normalizes},
      {a->args.saved_invstd, b->args.saved_invstd, channel, normalizes},
  };
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    if (is_empty(desc) || !outputs[i].written || clnorm__memory_absent(outputs[i].a)) continue;
    const clnorm_status status = clnorm_compare_memory(
        a->context, outputs[i].a, b->context, outputs[i].b, outputs[i].dims, &differences[i]);
    if (status != CLNORM_OK) return status;
  }
  return CLNORM_OK;
}

static clnorm_status check_host(clnorm_context *context, const clnorm_forward_args *inputs) {
  const clnorm_memory all[] = {inputs->x, inputs->weight, inputs->bias, inputs->running_mean,
                               inputs->running_var};
  static const char *const names[] = {"x", "weight", "bias", "running_mean", "running_var"};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (all[i].cl)
      return clnorm__fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "%s is OpenCL memory, but the inputs of a comparison are host memory",
                          names[i]);
  return CLNORM_OK;
}

clnorm_status clnorm_compare_forward(clnorm_context *context_a, clnorm_context *context_b,
                                     const clnorm_forward_desc *desc,
                                     const clnorm_forward_args *inputs,
                                     clnorm_difference differences[CLNORM_NUM_OUTPUTS]) {
  clnorm_status status = clnorm__context_ready(context_a);
  if (status != CLNORM_OK) return status;
  if (!context_b || !desc || !inputs || !differences)
    return clnorm__fail(&context_a->error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is NULL",
                        !context_b ? "context_b"
                        : !desc    ? "desc"
                        : !inputs  ? "inputs"
                                   : "differences");
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) start(&differences[i]);
  clnorm_forward_desc own = *desc;
  own.external_workspace = false;
  side a = {context_a, NULL, {.momentum = 0}}, b = {context_b, NULL, {.momentum = 0}};
  status = check_host(context_a, inputs);
  if (status == CLNORM_OK) status = run_side(&a, &own, inputs);
  if (status == CLNORM_OK) status = quote(context_a, context_b, run_side(&b, &own, inputs));
  if (status == CLNORM_OK) status = compare_sides(&a, &b, &own, differences);
  release_side(&b);
  release_side(&a);
  return status;
}
