/* Random tensors in random memory: types, ranks, strides, channel blocks with and without their tails, gaps, x and y
 * alike or not, in place or not. What comes out has the bits that the plain code gives for the same values without
 * gaps on the slow path; what lies between the elements and around them is as before, which the runner of cases/ sees.
 * Descriptions and bindings that break a rule are refused, and change nothing. */
#include "fuzz.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

enum { MAX_ELEMENTS = 1 << 14, MAX_EXTENT = 1 << 18, MAX_AXES = CLNORM_MAX_RANK + 1 };

/* ---- Tensors ---------------------------------------------------------------------------------------- */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void random_dims(int32_t rank, int64_t dims[CLNORM_MAX_RANK]) {
  static const int64_t near[] = {4, 8, 16, 32, 64, 128, 512, 2048};
  int64_t left = MAX_ELEMENTS;
  const int first = (int)fuzz_below((uint64_t)rank);
  for (int i = 0; i < rank; i++) {
    int64_t size = 1 + (int64_t)fuzz_below(9);
    if (fuzz_chance(35)) size = PICK(near) + (int64_t)fuzz_below(5) - 2;
    dims[(first + i) % rank] = size = smaller(size, left);
    left /= size;
  }
  if (fuzz_chance(2)) dims[fuzz_below((uint64_t)rank)] = 0;
}

/* Mostly none. */
static int64_t random_gap(void) {
  static const int64_t gaps[] = {1, 2, 3, 4, 8, 16, 29};
  return fuzz_chance(30) ? PICK(gaps) : 0;
}

/* In which order axes lie in memory, from the innermost on: as in NCHW, as in NHWC, or any. */
static void random_order(int32_t rank, int order[CLNORM_MAX_RANK]) {
  int count = 0;
  const uint64_t kind = fuzz_below(3);
  if (kind == 1) order[count++] = 1;
  for (int i = rank - 1; i >= 0; i--)
    if (i != 1 || kind != 1) order[count++] = i;
  for (int i = rank - 1; i > 0 && kind == 2; i--) {
    const int j = (int)fuzz_below((uint64_t)i + 1), kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
}

static clnorm_tensor random_tensor(int32_t dtype, int32_t rank, const int64_t *dims) {
  static const int64_t blocks[] = {4, 8, 16, 2, 3, 7, 32};
  clnorm_tensor t = {.dtype = dtype, .rank = rank, .channel_block = 1};
  int order[CLNORM_MAX_RANK];
  if (fuzz_chance(35)) t.channel_block = PICK(blocks);
  if (t.channel_block > 1 && fuzz_chance(50)) t.flags = CLNORM_TENSOR_OWNS_TAIL;
  memcpy(t.dims, dims, (size_t)rank * sizeof *dims);
  random_order(rank, order);
  int64_t extent = t.channel_block;
  for (int i = 0; i < rank; i++) {
    const int axis = order[i];
    const int64_t size = axis == 1 ? (dims[1] + t.channel_block - 1) / t.channel_block : dims[axis];
    t.strides[axis] = extent + random_gap();
    extent += (size > 0 ? size - 1 : 0) * t.strides[axis];
    if (size == 1 && fuzz_chance(20)) t.strides[axis] = (int64_t)fuzz_below(1000);
  }
  return t;
}

static bool is_empty(const clnorm_tensor *t) {
  for (int i = 0; i < t->rank; i++)
    if (t->dims[i] == 0) return true;
  return false;
}

/* Whether some element, or what is owned beside them, lies where another one does. */
static bool overlaps_itself(const clnorm_tensor *t) {
  clnorm_tensor bytes = *t, owned;
  bytes.dtype = CLNORM_F64;
  const size_t size = (size_t)clnorm_tensor_bytes(&bytes) + sizeof(double);
  unsigned char *taken = fuzz_allocate(size), *ones = fuzz_allocate(size);
  memset(taken, 0, size);
  memset(ones, 1, size);
  clnorm_place_again(&bytes, ones, taken);
  size_t places = 0, elements = 1;
  for (size_t i = 0; i < size; i++) places += taken[i];
  owned = *t;
  if (t->flags & CLNORM_TENSOR_OWNS_TAIL)
    owned.dims[1] += (t->channel_block - t->dims[1] % t->channel_block) % t->channel_block;
  for (int i = 0; i < t->rank; i++) elements *= (size_t)owned.dims[i];
  free(taken);
  free(ones);
  return places < elements * sizeof(double);
}

/* ---- Calls ------------------------------------------------------------------------------------------ */

/* What is known of a call: the same values in memory without gaps, and in random memory. */
typedef struct drawn {
  clnorm_case_problem values;
  clnorm_case_call dense, random;
  double *storage;
} drawn;

/* NaNs have no payload: one of them could be what the runner takes for unwritten. */
static double *random_doubles(int32_t dtype, size_t count, double *to) {
  float *upper = fuzz_values(count), *lower = fuzz_values(count);
  for (size_t i = 0; i < count; i++) {
    const double rest = dtype == CLNORM_F64 && isfinite(lower[i]) ? 0x1p-30 * (double)lower[i] : 0;
    to[i] = isnan(upper[i]) ? (double)NAN : clnorm_rounded(dtype, (double)upper[i] + rest);
  }
  free(upper);
  free(lower);
  return to;
}

/* Where elements of x share memory, what is there is the value of all of them. */
static void settle(const clnorm_tensor *x, double *values) {
  void *memory = fuzz_allocate((size_t)clnorm_tensor_bytes(x));
  clnorm_place(x, values, memory);
  clnorm_unplace(x, memory, values);
  free(memory);
}

static void draw_types(int32_t *x, int32_t *y) {
  static const int32_t pairs[][2] = {
      {CLNORM_F32, CLNORM_F32},  {CLNORM_F32, CLNORM_F16},  {CLNORM_F32, CLNORM_BF16},
      {CLNORM_F16, CLNORM_F16},  {CLNORM_F16, CLNORM_F32},  {CLNORM_F16, CLNORM_BF16},
      {CLNORM_BF16, CLNORM_F32}, {CLNORM_BF16, CLNORM_F16}, {CLNORM_BF16, CLNORM_BF16},
      {CLNORM_F64, CLNORM_F64},  {CLNORM_F64, CLNORM_F32}};
  const size_t pair = fuzz_device() ? fuzz_in_turn(LENGTH(pairs)) : fuzz_below(LENGTH(pairs));
  *x = pairs[pair][0];
  *y = pairs[pair][1];
}

static void draw_values(drawn *d, const clnorm_tensor *x) {
  const dense_desc *desc = &d->values.desc;
  const size_t channels = (size_t)desc->channels;
  const size_t elements = (size_t)(desc->batch * desc->spatial) * channels;
  const bool copy = desc->statistics == DENSE_COPY;
  const bool running = desc->statistics == CLNORM_GIVEN_STATISTICS || (!copy && fuzz_chance(60));
  const int32_t real = clnorm_case_problem_real(&d->values);
  double *next = d->storage = fuzz_allocate((elements + 4 * channels) * sizeof *next);
  d->values.x = random_doubles(d->values.x_dtype, elements, next);
  if (elements) settle(x, next);
  next += elements;
  if (!copy && fuzz_chance(60)) d->values.weight = random_doubles(real, channels, next);
  next += channels;
  if (!copy && fuzz_chance(60)) d->values.bias = random_doubles(real, channels, next);
  next += channels;
  if (running) d->values.running_mean = random_doubles(real, channels, next);
  next += channels;
  if (running) d->values.running_var = random_doubles(real, channels, next);
}

static drawn draw(void) {
  static const double eps[] = {1e-5, 1e-3, 0, 2}, momenta[] = {0.9, 0, 1, 0.5};
  const int32_t rank = 2 + (int32_t)fuzz_below(4);
  int64_t dims[CLNORM_MAX_RANK] = {1, 1, 1, 1, 1};
  drawn d = {.storage = NULL};
  random_dims(rank, dims);
  const int64_t spatial = rank == 2 ? 1 : dims[2] * dims[3] * dims[4];
  draw_types(&d.values.x_dtype, &d.values.y_dtype);
  d.values.desc = dense_desc_defaults(fuzz_chance(15) ? DENSE_COPY : (int32_t)fuzz_below(2),
                                      dims[0], dims[1], spatial);
  d.values.desc.eps = PICK(eps);
  d.values.desc.biased_running_var = fuzz_chance(30);
  d.values.momentum = PICK(momenta);
  const int64_t flat[4] = {dims[0], dims[1], spatial, 1};
  memcpy(d.values.dims, flat, sizeof flat);

  d.dense.problem = dense_problem(&d.values.desc);
  d.dense.save_mean = d.values.desc.statistics != DENSE_COPY && fuzz_chance(50);
  d.dense.save_mean_low = d.values.desc.statistics != DENSE_COPY && fuzz_chance(50);
  d.dense.save_invstd = d.values.desc.statistics != DENSE_COPY && fuzz_chance(50);
  d.random = d.dense;
  clnorm_tensor *x = &d.random.problem.tensors[CLNORM_X], *y = &d.random.problem.tensors[CLNORM_Y];
  *x = random_tensor(d.values.x_dtype, rank, dims);
  *y = random_tensor(d.values.y_dtype, rank, dims);
  if (d.values.x_dtype == d.values.y_dtype && fuzz_chance(30)) {
    *y = *x;
    d.random.in_place = true;
  } else if (fuzz_chance(5)) {
    x->strides[fuzz_below((uint64_t)rank)] = (int64_t)fuzz_below(2); /* what is read may overlap */
  }
  clnorm_tensor_nchw(&d.dense.problem.tensors[CLNORM_X], d.values.x_dtype, rank, dims);
  clnorm_tensor_nchw(&d.dense.problem.tensors[CLNORM_Y], d.values.y_dtype, rank, dims);
  d.dense.problem.route = CLNORM_ROUTE_GENERAL;
  draw_values(&d, x);
  return d;
}

/* Hints and addresses, which change no bits. */
static void draw_hints(clnorm_case_call *call) {
  call->problem.cut = (int32_t)fuzz_below(3);
  call->problem.store = (int32_t)fuzz_below(3);
  call->problem.route = fuzz_chance(25) ? CLNORM_ROUTE_GENERAL : CLNORM_ROUTE_AUTO;
  call->problem.external_workspace = fuzz_chance(30);
  call->shift = fuzz_chance(50) ? (unsigned)fuzz_below(16) : 0;
}

static void describe(const clnorm_case_call *call, char *text, size_t size) {
  const char *const names[] = {"x", "y"};
  size_t n =
      (size_t)snprintf(text, size, "statistics %d, cut %d, route %d, shift %u%s",
                       (int)call->values->desc.statistics, (int)call->problem.cut,
                       (int)call->problem.route, call->shift, call->in_place ? ", in place" : "");
  for (int k = 0; k < 2; k++) {
    const clnorm_tensor *t = &call->problem.tensors[k];
    n += (size_t)snprintf(text + n, size - n, "; %s %s", names[k], clnorm_dtype_name(t->dtype));
    for (int i = 0; i < t->rank && i < CLNORM_MAX_RANK; i++)
      n += (size_t)snprintf(text + n, size - n, " %lld:%lld", (long long)t->dims[i],
                            (long long)t->strides[i]);
    n += (size_t)snprintf(text + n, size - n, " block %lld flags %u", (long long)t->channel_block,
                          (unsigned)t->flags);
  }
}

/* ---- Right ones ------------------------------------------------------------------------------------- */

static clnorm_case_result run(clnorm_context *context, const clnorm_case_call *call,
                              clnorm_case_outputs *outputs, clnorm_status *status,
                              clnorm_message *why) {
  clnorm_case_runner *runner = clnorm_case_runner_create(context);
  if (!runner) fuzz_fail("no memory for a runner");
  const clnorm_case_result result = clnorm_case_call_run(runner, call, outputs, status, why);
  clnorm_case_runner_destroy(runner);
  return result;
}

/* False where the device lacks the type. */
static bool run_well(clnorm_context *context, const clnorm_case_call *call,
                     clnorm_case_outputs *outputs) {
  clnorm_status status;
  clnorm_message why;
  char text[1024];
  const clnorm_case_result result = run(context, call, outputs, &status, &why);
  if (result == CLNORM_CASE_RAN) return true;
  const bool lacking = result == CLNORM_CASE_FAILED && status == CLNORM_ERROR_UNSUPPORTED &&
                       call->values->x_dtype == CLNORM_F64 && context == fuzz_device();
  describe(call, text, sizeof text);
  if (!lacking) fuzz_fail("%s: %s (%s)", text, why.text, clnorm_context_description(context));
  clnorm_case_outputs_free(outputs);
  return false;
}

/* What is promised of y and statistics where the context flushes subnormal values. */
static void compare(clnorm_context *context, const clnorm_case_call *call,
                    const clnorm_case_outputs *expected, clnorm_case_outputs *given) {
  char text[1024];
  const bool kept = clnorm_promise_kept(context, fuzz_baseline());
  clnorm_promise *promise = kept ? NULL : clnorm_promise_create(call->values);
  if (!kept && !promise) fuzz_fail("no memory for a promise");
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) {
    const clnorm_tensor tensor = clnorm_case_problem_output(call->values, (clnorm_output)o);
    clnorm_difference d;
    if (expected->counts[o] != given->counts[o]) fuzz_fail("outputs are missing");
    if (!expected->counts[o]) continue;
    if (promise)
      clnorm_promise_separate(promise, (clnorm_output)o, expected->values[o], given->values[o]);
    if (!clnorm_case_compare(&tensor, expected->values[o], given->values[o], &d))
      fuzz_fail("no memory to compare");
    if (d.differing_elements == 0) continue;
    describe(call, text, sizeof text);
    fuzz_fail("%s: %s: %lld differ, the first (%lld,%lld,%lld) is %a, but %a without gaps (%s)",
              text, clnorm_output_name((clnorm_output)o), (long long)d.differing_elements,
              (long long)d.first[0], (long long)d.first[1], (long long)d.first[2], d.first_b,
              d.first_a, clnorm_context_description(context));
  }
  clnorm_promise_destroy(promise);
}

static void run_and_compare(drawn *d, fuzz_counts *counts) {
  clnorm_case_outputs expected, given;
  if (!run_well(fuzz_baseline(), &d->dense, &expected)) return;
  for (uint64_t i = 1 + fuzz_below(3); i; i--) {
    clnorm_context *context = i == 1 && fuzz_device() ? fuzz_device() : fuzz_context();
    draw_hints(&d->random);
    /* A copy of subnormal values is no arithmetic, but whether it keeps them is the device's own affair. */
    const bool copy = d->values.desc.statistics == DENSE_COPY;
    if (copy && !clnorm_promise_kept(context, fuzz_baseline())) continue;
    if (!run_well(context, &d->random, &given)) continue;
    compare(context, &d->random, &expected, &given);
    clnorm_case_outputs_free(&given);
    counts->ran++;
  }
  clnorm_case_outputs_free(&expected);
}

/* ---- Wrong ones ------------------------------------------------------------------------------------- */

/* Of a tensor; returns the status that it must give, or OK where overlapping decides. */
static clnorm_status spoil_tensor(clnorm_tensor *t, bool empty) {
  switch (fuzz_below(9)) {
  case 0:
    t->rank = fuzz_chance(50) ? 1 : 6;
    return CLNORM_ERROR_INVALID_ARGUMENT;
  case 1:
    t->dtype = fuzz_chance(50) ? -1 : 4;
    return CLNORM_ERROR_INVALID_ARGUMENT;
  case 2:
    t->channel_block = -(int64_t)fuzz_below(3);
    return CLNORM_ERROR_INVALID_ARGUMENT;
  case 3:
    t->flags |= 2u << fuzz_below(31);
    return CLNORM_ERROR_INVALID_ARGUMENT;
  case 4:
    t->reserved = 1;
    return CLNORM_ERROR_INVALID_ARGUMENT;
  case 5:
    t->dims[fuzz_below((uint64_t)t->rank)] = -1;
    return CLNORM_ERROR_INVALID_ARGUMENT;
  case 6:
    t->strides[fuzz_below((uint64_t)t->rank)] = -1 - (int64_t)fuzz_below(9);
    return empty ? CLNORM_OK : CLNORM_ERROR_INVALID_ARGUMENT;
  case 7:
    t->dims[0] = t->dims[1] = t->rank > 2 ? (int64_t)1 << 31 : INT64_MAX;
    t->dims[t->rank - 1] = (int64_t)1 << 40;
    return CLNORM_ERROR_OVERFLOW;
  default:
    t->strides[fuzz_below((uint64_t)t->rank)] = (int64_t)fuzz_below(20);
    return CLNORM_OK;
  }
}

static void refused(const char *what, const clnorm_case_call *call, clnorm_context *context,
                    clnorm_status status, clnorm_status expected, fuzz_counts *counts) {
  char text[1024];
  describe(call, text, sizeof text);
  if (status != expected)
    fuzz_fail("%s: %s: %s (%s), but %s is expected", text, what, clnorm_status_name(status),
              clnorm_last_error(context), clnorm_status_name(expected));
  if (strlen(clnorm_last_error(context)) < 8) fuzz_fail("%s: %s without a message", text, what);
  counts->refused++;
}

/* A problem with a tensor that breaks a rule makes no plan; one whose y overlaps itself neither. */
static void plan_wrongly(const drawn *d, clnorm_context *context, fuzz_counts *counts) {
  clnorm_case_call call = d->random;
  clnorm_plan *plan;
  clnorm_tensor *y = &call.problem.tensors[CLNORM_Y];
  const clnorm_status expected =
      spoil_tensor(fuzz_chance(50) ? &call.problem.tensors[CLNORM_X] : y, is_empty(y));
  const clnorm_status status = clnorm_plan_create(context, &call.problem, &plan);
  if ((status == CLNORM_OK) != (plan != NULL)) fuzz_fail("a plan and a status disagree");
  clnorm_plan_destroy(plan);
  if (expected != CLNORM_OK)
    refused("a bad tensor", &call, context, status, expected, counts);
  else if (!is_empty(y) && overlaps_itself(y))
    refused("a y that overlaps", &call, context, status, CLNORM_ERROR_INVALID_ARGUMENT, counts);
}

static void pair_wrongly(const drawn *d, clnorm_context *context, fuzz_counts *counts) {
  clnorm_case_call call = d->random;
  clnorm_plan *plan;
  clnorm_tensor *x = &call.problem.tensors[CLNORM_X], *y = &call.problem.tensors[CLNORM_Y];
  if (fuzz_chance(50)) {
    x->dtype = (int32_t)fuzz_below(3);
    y->dtype = CLNORM_F64;
  } else {
    x->dtype = CLNORM_F64;
    y->dtype = fuzz_chance(50) ? CLNORM_F16 : CLNORM_BF16;
  }
  const clnorm_status status = clnorm_plan_create(context, &call.problem, &plan);
  clnorm_plan_destroy(plan);
  refused("types that do not go together", &call, context, status, CLNORM_ERROR_UNSUPPORTED,
          counts);
}

/* Which binding is spoiled, and how. */
typedef struct spoiling {
  int32_t role;
  enum { GONE, SHORT, CROOKED, ELSEWHERE, TWICE, NUM_WAYS } way;
} spoiling;

static void spoil_bindings(void *argument, clnorm_binding *bindings, size_t count) {
  const spoiling *how = argument;
  clnorm_binding *one = bindings, *x = bindings;
  while (one < bindings + count && one->role != how->role) one++;
  while (x->role != CLNORM_X) x++;
  switch (how->way) {
  case GONE:
    memset(&one->memory, 0, sizeof one->memory);
    break;
  case SHORT:
    one->memory.size--;
    break;
  case CROOKED:
    one->memory.offset++;
    break;
  case ELSEWHERE: /* where x is */
    one->memory = x->memory;
    break;
  default:
    one->role = CLNORM_X;
    break;
  }
}

/* So that y cannot be where x is. */
static bool are_unlike(const clnorm_tensor *x, const clnorm_tensor *y) {
  if (x->dtype != y->dtype) return true;
  for (int i = 0; i < x->rank; i++)
    if (i != 1 && x->dims[i] > 1 && x->strides[i] != y->strides[i]) return true;
  return false;
}

static void bind_wrongly(const drawn *d, clnorm_context *context, fuzz_counts *counts) {
  clnorm_case_call call = d->random;
  clnorm_case_outputs outputs;
  clnorm_status status;
  clnorm_message why;
  char text[1024];
  spoiling how = {fuzz_chance(50) ? CLNORM_X : CLNORM_Y, GONE};
  how.way = fuzz_below(NUM_WAYS);
  if (how.way >= ELSEWHERE) how.role = CLNORM_Y;
  if (clnorm_case_problem_empty(call.values)) return;
  if (how.way == ELSEWHERE &&
      !are_unlike(&call.problem.tensors[CLNORM_X], &call.problem.tensors[CLNORM_Y]))
    return;
  draw_hints(&call);
  call.change = spoil_bindings;
  call.argument = &how;
  const clnorm_case_result result = run(context, &call, &outputs, &status, &why);
  clnorm_case_outputs_free(&outputs);
  describe(&call, text, sizeof text);
  if (result != CLNORM_CASE_FAILED)
    fuzz_fail("%s: %s bound wrongly (%d): %s", text, clnorm_role_name(how.role), (int)how.way,
              result == CLNORM_CASE_RAN ? "accepted" : why.text);
  const bool known = status == CLNORM_ERROR_INVALID_ARGUMENT ||
                     status == CLNORM_ERROR_BUFFER_TOO_SMALL || status == CLNORM_ERROR_OVERLAP ||
                     status == CLNORM_ERROR_UNSUPPORTED;
  if (!known || strlen(why.text) < 8)
    fuzz_fail("%s: %s bound wrongly: %s (%s)", text, clnorm_role_name(how.role),
              clnorm_status_name(status), why.text);
  counts->refused++;
}

/* ---- A round ---------------------------------------------------------------------------------------- */

void fuzz_layouts(fuzz_counts *counts) {
  drawn d = draw();
  d.dense.values = d.random.values = &d.values;
  clnorm_context *context = fuzz_device() && fuzz_chance(30) ? fuzz_device() : fuzz_context();
  if (fuzz_chance(30)) plan_wrongly(&d, context, counts);
  if (fuzz_chance(5)) pair_wrongly(&d, context, counts);
  if (fuzz_chance(20)) bind_wrongly(&d, context, counts);
  run_and_compare(&d, counts);
  free(d.storage);
}
