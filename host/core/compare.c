/* Comparing results: two arrays, two places in memory, or one problem on two contexts. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "objects.h"
#include "structures.h"
#include "tensor.h"

/* ---- Values ---------------------------------------------------------------------------------------- */

/* How a type's bits are read: their number, and the bits of infinity. */
typedef struct format {
  unsigned bits;
  uint64_t infinity;
} format;

static const format formats[] = {
    [CLNORM_F32] = {32, 0x7f800000u},
    [CLNORM_F16] = {16, 0x7c00u},
    [CLNORM_BF16] = {16, 0x7f80u},
    [CLNORM_F64] = {64, UINT64_C(0x7ff0000000000000)},
};

static uint64_t bits_at(const void *values, int32_t dtype, int64_t index) {
  switch (formats[dtype].bits) {
  case 16:
    return ((const uint16_t *)values)[index];
  case 32:
    return ((const uint32_t *)values)[index];
  default:
    return ((const uint64_t *)values)[index];
  }
}

static double value_of(uint64_t bits, int32_t dtype) {
  double number;
  switch (dtype) {
  case CLNORM_F64:
    memcpy(&number, &bits, sizeof number);
    return number;
  case CLNORM_F16:
    return clnorm_f16_widen((uint32_t)bits);
  case CLNORM_BF16:
    return clnorm_bf16_widen((uint32_t)bits);
  default:
    return clnorm_from_bits((uint32_t)bits);
  }
}

/* Values in order, as integers in order: neighbours differ by 1, -0 and +0 too. */
static uint64_t ordered(const format *f, uint64_t bits) {
  const uint64_t sign = UINT64_C(1) << (f->bits - 1);
  return bits & sign ? sign - 1 - (bits & (sign - 1)) : bits | sign;
}

static bool is_nan(const format *f, uint64_t bits) {
  return (bits & ((UINT64_C(1) << (f->bits - 1)) - 1)) > f->infinity;
}

static uint64_t distance(const format *f, uint64_t a, uint64_t b) {
  if (a == b) return 0;
  if (is_nan(f, a) || is_nan(f, b)) return is_nan(f, a) && is_nan(f, b) ? 0 : UINT64_MAX;
  const uint64_t i = ordered(f, a), j = ordered(f, b);
  return i > j ? i - j : j - i;
}

static int histogram_bin(uint64_t ulp) {
  if (ulp == UINT64_MAX) return CLNORM_HISTOGRAM_BINS - 1;
  return ulp ? 64 - __builtin_clzll(ulp) : 0;
}

/* ---- Arrays ---------------------------------------------------------------------------------------- */

/* A tensor of any rank from 1 on, as one of CLNORM_MAX_RANK axes whose strides are all there. */
static bool spread_out(const clnorm_tensor *tensor, clnorm_tensor *spread) {
  clnorm_error silent = {{""}, NULL, NULL};
  if (!tensor) return false;
  *spread = *tensor;
  if (tensor->rank == 1) {
    spread->rank = 2;
    spread->dims[1] = tensor->dims[0];
    spread->dims[0] = 1;
    spread->strides[0] = spread->dims[1];
    spread->strides[1] = 1;
    spread->channel_block = 1;
    spread->flags = spread->reserved = 0;
  }
  if (clnorm__tensor_check(spread, "tensor", false, &silent) != CLNORM_OK) return false;
  for (int i = spread->rank; i < CLNORM_MAX_RANK; i++) {
    spread->dims[i] = 1;
    spread->strides[i] = 0;
  }
  return true;
}

static int64_t place_of(const clnorm_tensor *t, const int64_t index[CLNORM_MAX_RANK]) {
  int64_t place = index[1] / t->channel_block * t->strides[1] + index[1] % t->channel_block;
  for (int i = 0; i < CLNORM_MAX_RANK; i++)
    if (i != 1) place += index[i] * t->strides[i];
  return place;
}

/* The next index of axes [0, axes) in logical order; false behind the last one. */
static bool step(const clnorm_tensor *t, int axes, int64_t index[CLNORM_MAX_RANK]) {
  for (int i = axes - 1; i >= 0; i--) {
    if (++index[i] < t->dims[i]) return true;
    index[i] = 0;
  }
  return false;
}

static void count_difference(clnorm_difference *d, const clnorm_tensor *t, int32_t given_rank,
                             const int64_t index[CLNORM_MAX_RANK], uint64_t a, uint64_t b) {
  const uint64_t ulp = distance(&formats[t->dtype], a, b);
  d->histogram[histogram_bin(ulp)]++;
  if (!ulp) return;
  if (ulp > d->max_ulp) d->max_ulp = ulp;
  if (d->differing_elements++) return;
  memcpy(d->first, index, sizeof d->first);
  for (int i = t->rank; i < CLNORM_MAX_RANK; i++) d->first[i] = -1;
  if (given_rank == 1) {
    d->first[0] = index[1];
    d->first[1] = -1;
  }
  d->first_a = value_of(a, t->dtype);
  d->first_b = value_of(b, t->dtype);
}

/* Row by row: the last axis, where it is one of positions, is walked by its stride. */
static void compare(const clnorm_tensor *ta, const void *a, const clnorm_tensor *tb, const void *b,
                    int32_t given_rank, clnorm_difference *d) {
  int64_t index[CLNORM_MAX_RANK] = {0};
  const int last = ta->rank > 2 ? ta->rank - 1 : CLNORM_MAX_RANK - 1;
  d->elements = clnorm__tensor_count(ta);
  if (!d->elements) return;
  do {
    int64_t at_a = place_of(ta, index), at_b = place_of(tb, index);
    for (int64_t i = 0; i < ta->dims[last]; i++) {
      index[last] = i;
      count_difference(d, ta, given_rank, index, bits_at(a, ta->dtype, at_a),
                       bits_at(b, tb->dtype, at_b));
      at_a += ta->strides[last];
      at_b += tb->strides[last];
    }
    index[last] = 0;
  } while (step(ta, last, index));
}

void clnorm_difference_init(clnorm_difference *difference, size_t size) {
  const clnorm_difference none = {.size = sizeof none, .first = {-1, -1, -1, -1, -1}};
  clnorm__structure_init(difference, size, &none, sizeof none);
}

static bool alike(const clnorm_tensor *a, const clnorm_tensor *b) {
  return a->dtype == b->dtype && memcmp(a->dims, b->dims, sizeof a->dims) == 0;
}

void clnorm_compare(const clnorm_tensor *tensor_a, const void *a, const clnorm_tensor *tensor_b,
                    const void *b, clnorm_difference *difference) {
  clnorm_difference result;
  clnorm_tensor ta, tb;
  clnorm_difference_init(&result, sizeof result);
  if (a && b && spread_out(tensor_a, &ta) && spread_out(tensor_b, &tb) && alike(&ta, &tb))
    compare(&ta, a, &tb, b, tensor_a->rank, &result);
  clnorm__structure_give(difference, &result, sizeof result);
}

/* ---- Memory --------------------------------------------------------------------------------------- */

static clnorm_status quote(clnorm_context *to, clnorm_context *from, clnorm_status status) {
  if (status == CLNORM_OK || to == from) return status;
  return clnorm__fail(&to->error, status, "second context: %s", from->error.message.text);
}

static clnorm_status check_tensors(clnorm_context *context, const clnorm_tensor *tensor_a,
                                   const clnorm_tensor *tensor_b, clnorm_tensor spread[2]) {
  clnorm_error *error = &context->error;
  const clnorm_tensor *const given[2] = {tensor_a, tensor_b};
  static const char *const names[2] = {"tensor_a", "tensor_b"};
  for (int i = 0; i < 2; i++) {
    if (!given[i])
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is NULL", names[i]);
    if (spread_out(given[i], &spread[i])) continue;
    return clnorm__tensor_check(&spread[i], names[i], false, error);
  }
  if (alike(&spread[0], &spread[1])) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "tensor_a and tensor_b differ in type or dims: they cannot be compared");
}

clnorm_status clnorm_compare_memory(clnorm_context *context_a, const clnorm_tensor *tensor_a,
                                    clnorm_memory a, clnorm_context *context_b,
                                    const clnorm_tensor *tensor_b, clnorm_memory b,
                                    clnorm_difference *difference) {
  clnorm_tensor spread[2];
  clnorm_status status = clnorm__context_ready(context_a);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &context_a->error;
  if (!context_b) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "context_b is NULL");
  status = clnorm__structure_check(difference, sizeof *difference, "difference", error);
  if (status == CLNORM_OK) status = check_tensors(context_a, tensor_a, tensor_b, spread);
  if (status != CLNORM_OK) return status;
  const size_t bytes_a = (size_t)clnorm_tensor_bytes(&spread[0]);
  const size_t bytes_b = (size_t)clnorm_tensor_bytes(&spread[1]);
  void *host_a = malloc(bytes_a + 1), *host_b = malloc(bytes_b + 1);
  if (!host_a || !host_b)
    status = clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY,
                          "no host memory for copies of %zu and %zu bytes", bytes_a, bytes_b);
  if (status == CLNORM_OK) status = clnorm_memory_read(context_a, a, host_a, bytes_a);
  if (status == CLNORM_OK)
    status = quote(context_a, context_b, clnorm_memory_read(context_b, b, host_b, bytes_b));
  if (status == CLNORM_OK) clnorm_compare(tensor_a, host_a, tensor_b, host_b, difference);
  free(host_b);
  free(host_a);
  return status;
}

/* ---- One problem on two contexts ------------------------------------------------------------------- */

/* One side: the plan, and memory of its operands on a context. */
typedef struct side {
  clnorm_context *context;
  clnorm_plan *plan;
  clnorm_memory operands[CLNORM_NUM_OPERANDS];
} side;

static void describe_operand(const side *s, int index, clnorm_operand *operand) {
  clnorm_operand_init(operand, sizeof *operand);
  clnorm_plan_operand(s->plan, clnorm__operands[index].role, operand);
}

/* What the side needs of one operand: a copy of the input, or room for an output. */
static clnorm_status fill_operand(side *s, int index, clnorm_memory input) {
  clnorm_operand operand;
  describe_operand(s, index, &operand);
  const char *name = clnorm_role_name(clnorm__operands[index].role);
  const bool given = !clnorm__memory_absent(input);
  const bool output = operand.written && !operand.read;
  if (!operand.bytes || (!given && !output)) return CLNORM_OK;
  if (given && input.size < operand.bytes)
    return clnorm__fail(&s->context->error, CLNORM_ERROR_BUFFER_TOO_SMALL,
                        "%s has %zu bytes, but the operation needs %" PRIu64, name, input.size,
                        operand.bytes);
  clnorm_status status =
      clnorm_memory_alloc(s->context, (size_t)operand.bytes, &s->operands[index]);
  if (status != CLNORM_OK || !given) return status;
  return clnorm_memory_write(s->context, s->operands[index],
                             (const char *)input.host + input.offset, (size_t)operand.bytes);
}

static clnorm_status run_side(side *s, const clnorm_problem *problem,
                              const clnorm_memory inputs[CLNORM_NUM_OPERANDS],
                              const clnorm_run_options *options) {
  clnorm_binding bindings[CLNORM_NUM_OPERANDS];
  size_t count = 0;
  clnorm_status status = clnorm_plan_create(s->context, problem, &s->plan);
  for (int i = 0; i < CLNORM_OPERAND_WORKSPACE && status == CLNORM_OK; i++) {
    status = fill_operand(s, i, inputs[i]);
    if (!clnorm__memory_absent(s->operands[i]))
      bindings[count++] = clnorm_bind(clnorm__operands[i].role, s->operands[i]);
  }
  if (status == CLNORM_OK) status = clnorm_run(s->plan, bindings, count, options);
  return status == CLNORM_OK ? clnorm_finish(s->context) : status;
}

static void release_side(side *s) {
  clnorm_plan_destroy(s->plan);
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++) clnorm_memory_free(s->context, &s->operands[i]);
}

static clnorm_status compare_output(side *a, side *b, const clnorm_compared *output) {
  clnorm_operand operand;
  clnorm_difference none;
  const int index = clnorm__operand_of(output->role);
  describe_operand(a, index, &operand);
  clnorm_difference_init(&none, sizeof none);
  clnorm__structure_give(output->difference, &none, sizeof none);
  if (!operand.written || clnorm__memory_absent(a->operands[index])) return CLNORM_OK;
  return clnorm_compare_memory(a->context, &operand.tensor, a->operands[index], b->context,
                               &operand.tensor, b->operands[index], output->difference);
}

static clnorm_status check_outputs(clnorm_context *context, const clnorm_compared *outputs,
                                   size_t count) {
  clnorm_error *error = &context->error;
  if (count && !outputs)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "outputs is NULL, but there are %zu of them", count);
  for (size_t i = 0; i < count; i++) {
    if (clnorm__operand_of(outputs[i].role) < 0 || outputs[i].role == CLNORM_WORKSPACE)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "output %zu has role %" PRId32 ", which is none that can be compared", i,
                          outputs[i].role);
    if (outputs[i].reserved)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "output %zu has reserved %" PRIu32 ", but it must be 0", i,
                          outputs[i].reserved);
    const clnorm_status status = clnorm__structure_check(
        outputs[i].difference, sizeof *outputs[i].difference, "difference", error);
    if (status != CLNORM_OK) return status;
  }
  return CLNORM_OK;
}

static clnorm_status take_inputs(clnorm_context *context, const clnorm_binding *bindings,
                                 size_t count, clnorm_memory inputs[CLNORM_NUM_OPERANDS]) {
  const char *refused[CLNORM_NUM_OPERANDS] = {NULL};
  refused[CLNORM_OPERAND_WORKSPACE] = "a comparison has its own";
  memset(inputs, 0, CLNORM_NUM_OPERANDS * sizeof *inputs);
  const clnorm_status status =
      clnorm__bindings_take(bindings, count, refused, inputs, &context->error);
  if (status != CLNORM_OK) return status;
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++)
    if (inputs[i].cl)
      return clnorm__fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "%s is OpenCL memory, but the inputs of a comparison are host memory",
                          clnorm_role_name(clnorm__operands[i].role));
  return CLNORM_OK;
}

clnorm_status clnorm_compare_runs(clnorm_context *const contexts[2], const clnorm_problem *problem,
                                  const clnorm_binding *inputs, size_t num_inputs,
                                  const clnorm_run_options *options, const clnorm_compared *outputs,
                                  size_t num_outputs) {
  clnorm_problem own;
  clnorm_memory given[CLNORM_NUM_OPERANDS];
  if (!contexts) return CLNORM_ERROR_INVALID_ARGUMENT;
  clnorm_context *const context_a = contexts[0], *const context_b = contexts[1];
  clnorm_status status = clnorm__context_ready(context_a);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &context_a->error;
  if (!context_b) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "contexts[1] is NULL");
  status = clnorm__structure_take(&own, sizeof own, problem, "problem", error);
  if (status == CLNORM_OK) status = check_outputs(context_a, outputs, num_outputs);
  if (status == CLNORM_OK) status = take_inputs(context_a, inputs, num_inputs, given);
  if (status != CLNORM_OK) return status;
  own.external_workspace = false;
  side a = {.context = context_a}, b = {.context = context_b};
  status = run_side(&a, &own, given, options);
  if (status == CLNORM_OK) status = quote(context_a, context_b, run_side(&b, &own, given, options));
  for (size_t i = 0; i < num_outputs && status == CLNORM_OK; i++)
    status = compare_output(&a, &b, &outputs[i]);
  release_side(&b);
  release_side(&a);
  return status;
}
