/* Backward: every run must give the bits of one run of the CPU path's plain code, which takes the general route through
 * tensors without gaps and computes all gradients; that run is held to long double formulas. What lies between the
 * elements and around them holds NaN, and must be as before after the run.
 *   CLNORM_TEST_WITHOUT_F64  the device has no f64: plans of it must be refused */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backward.h"
#include "halves.h"
#include "place.h"

static void *allocate(size_t size) {
  void *memory = calloc(size + 1, 1);
  assert_non_null(memory);
  return memory;
}

/* ---- Elements --------------------------------------------------------------------------------------- */

static double load(int32_t dtype, const unsigned char *at) {
  uint16_t bits;
  float single;
  double value;
  if (dtype == CLNORM_F64) {
    memcpy(&value, at, sizeof value);
    return value;
  }
  if (dtype == CLNORM_F32) {
    memcpy(&single, at, sizeof single);
    return single;
  }
  memcpy(&bits, at, sizeof bits);
  return dtype == CLNORM_F16 ? clnorm_half_to_float(bits) : clnorm_bfloat_to_float(bits);
}

static void store(int32_t dtype, double value, unsigned char *at) {
  const float single = (float)value;
  const uint16_t bits =
      dtype == CLNORM_F16 ? clnorm_double_to_half(value) : clnorm_double_to_bfloat(value);
  if (dtype == CLNORM_F64)
    memcpy(at, &value, sizeof value);
  else if (dtype == CLNORM_F32)
    memcpy(at, &single, sizeof single);
  else
    memcpy(at, &bits, sizeof bits);
}

static long double half_ulp(int32_t dtype, long double value) {
  static const struct {
    int digits, least;
  } kinds[] = {[CLNORM_F32] = {24, -125},
               [CLNORM_F16] = {11, -13},
               [CLNORM_BF16] = {8, -125},
               [CLNORM_F64] = {53, -1021}};
  int exponent;
  frexpl(value, &exponent);
  if (exponent < kinds[dtype].least) exponent = kinds[dtype].least;
  return ldexpl(0.5L, exponent - kinds[dtype].digits);
}

/* ---- Cases ------------------------------------------------------------------------------------------ */

enum { X, DY, DX, NUM_TENSORS };
enum { WEIGHT, MEAN, LOW, INVSTD, VAR, DWEIGHT, DBIAS, NUM_PARAMETERS };
static const int32_t tensor_roles[] = {CLNORM_X, CLNORM_DY, CLNORM_DX};

/* Where the statistics come from. */
enum { SAVED, AGAIN, RUNNING, GIVEN, NUM_STATES };
static const char *const states[] = {"batch", "batch again", "running", "given"};

/* One logical problem: values as its types hold them. */
typedef struct backward_problem {
  int32_t rank;
  int64_t dims[CLNORM_MAX_RANK];
  int64_t count, spatial;
  int32_t dtypes[NUM_TENSORS], real;
  int state;
  bool weight, low, accumulate;
  double eps;
  long double factor; /* of the bounds */
  double *tensors[NUM_TENSORS], *parameters[NUM_PARAMETERS];
} backward_problem;

/* How a run does it. */
typedef struct manner {
  clnorm_layout layouts[NUM_TENSORS];
  /* tensor whose memory dx has, or DX */
  int over;
  uint32_t wanted;
  int32_t cut, store, route;
  size_t shift; /* elements by which every operand is off its boundary */
} manner;

static const manner plainly = {.over = DX,
                               .wanted = CLNORM_GRADIENT_DX | CLNORM_GRADIENT_DWEIGHT |
                                         CLNORM_GRADIENT_DBIAS,
                               .cut = CLNORM_CUT_CHANNEL,
                               .route = CLNORM_ROUTE_GENERAL};

static double *values_of(int32_t dtype, int64_t count, uint64_t seed, double mean, double spread) {
  float *upper = allocate(2 * (size_t)count * sizeof *upper);
  double *values = allocate((size_t)count * sizeof *values);
  fixture_fill(upper, 2 * (size_t)count, seed, 0, 1);
  for (int64_t i = 0; i < count; i++) {
    unsigned char bytes[8];
    store(dtype, mean + spread * (upper[i] + 0x1p-27 * upper[count + i]), bytes);
    values[i] = load(dtype, bytes);
  }
  free(upper);
  return values;
}

static void problem_size(backward_problem *p) {
  p->count = p->spatial = 1;
  for (int i = 0; i < p->rank; i++) p->count *= p->dims[i];
  for (int i = 2; i < p->rank; i++) p->spatial *= p->dims[i];
  p->real = p->dtypes[X] == CLNORM_F64 ? CLNORM_F64 : CLNORM_F32;
  if (p->factor == 0) p->factor = 8;
}

/* About normal values of everything. */
static void problem_fill(backward_problem *p) {
  static const struct {
    double mean, spread;
  } kinds[NUM_PARAMETERS] = {
      [WEIGHT] = {1, 0.25}, [MEAN] = {0.5, 0.25}, [LOW] = {0, 1e-9}, [INVSTD] = {0.75, 0.1},
      [VAR] = {2, 0.25},    [DWEIGHT] = {3, 2},   [DBIAS] = {-1, 2}};
  problem_size(p);
  p->tensors[X] = values_of(p->dtypes[X], p->count, 41, 0.75, 1.5);
  p->tensors[DY] = values_of(p->dtypes[DY], p->count, 42, 0.125, 1);
  for (int i = 0; i < NUM_PARAMETERS; i++)
    p->parameters[i] =
        values_of(p->real, p->dims[1], 50 + (uint64_t)i, kinds[i].mean, kinds[i].spread);
}

static void problem_free(backward_problem *p) {
  for (int i = 0; i < NUM_TENSORS; i++) free(p->tensors[i]);
  for (int i = 0; i < NUM_PARAMETERS; i++) free(p->parameters[i]);
}

/* ---- Memory ----------------------------------------------------------------------------------------- */

enum { GUARD = 256 };

/* One operand: its memory, and the bytes of it before and after a run. */
typedef struct operand {
  clnorm_tensor tensor;
  clnorm_memory memory;
  unsigned char *before, *after;
  size_t begin, bytes;
} operand;

/* A NaN in every type, other bits from element to element. */
static void fill_guard(unsigned char *bytes, size_t count, size_t size) {
  for (size_t i = 0; i < count; i++) {
    memset(bytes + i * size, 0x50 + (int)(i % 47), size);
    bytes[i * size + size - 1] = 0x7f;
    bytes[i * size + size - 2] = 0xfe;
  }
}

/* The next logical index; false behind the last. */
static bool advance(const clnorm_tensor *t, int64_t at[CLNORM_MAX_RANK]) {
  for (int i = t->rank - 1; i >= 0; i--) {
    if (++at[i] < t->dims[i]) return true;
    at[i] = 0;
  }
  return false;
}

static size_t byte_of(const clnorm_tensor *t, const int64_t at[CLNORM_MAX_RANK]) {
  int64_t index = 0;
  for (int i = 0; i < t->rank; i++) index += i == 1 && t->rank > 1 ? 0 : at[i] * t->strides[i];
  if (t->rank > 1) index += at[1] / t->channel_block * t->strides[1] + at[1] % t->channel_block;
  return (size_t)index * clnorm_dtype_size(t->dtype);
}

static void put(operand *o, const double *values) {
  int64_t at[CLNORM_MAX_RANK] = {0};
  if (!clnorm_tensor_bytes(&o->tensor) && o->tensor.rank > 1) return;
  do store(o->tensor.dtype, *values++, o->before + o->begin + byte_of(&o->tensor, at));
  while (advance(&o->tensor, at));
}

static uint64_t extent_of(const operand *o) {
  if (o->tensor.rank > 1) return clnorm_tensor_bytes(&o->tensor);
  return (uint64_t)o->tensor.dims[0] * clnorm_dtype_size(o->tensor.dtype);
}

static void make_operand(clnorm_context *context, operand *o, const double *values, size_t shift) {
  const size_t size = clnorm_dtype_size(o->tensor.dtype);
  o->begin = GUARD + shift * size;
  o->bytes = 2 * o->begin + (size_t)extent_of(o);
  o->before = allocate(o->bytes);
  o->after = allocate(o->bytes);
  fill_guard(o->before, o->bytes / size, size);
  if (values) put(o, values);
  assert_ok(context, clnorm_memory_alloc(context, o->bytes, &o->memory));
  assert_ok(context, clnorm_memory_write(context, o->memory, o->before, o->bytes));
}

static clnorm_memory view_of(const operand *o) {
  clnorm_memory view = o->memory;
  view.offset += o->begin;
  view.size = (size_t)extent_of(o);
  return view;
}

/* Nothing but the operand's elements, where it is written, has changed. */
static void check_image(const operand *o, bool written, const char *name, const char *text) {
  unsigned char *expected = allocate(o->bytes);
  memcpy(expected, o->before, o->bytes);
  if (written && o->tensor.rank > 1) {
    clnorm_place_again(&o->tensor, o->after + o->begin, expected + o->begin);
    if (!clnorm_tail_is_zero(&o->tensor, o->after + o->begin))
      fail_msg("%s: the tail of %s is not 0", text, name);
  } else if (written) {
    memcpy(expected + o->begin, o->after + o->begin, (size_t)extent_of(o));
  }
  for (size_t i = 0; i < o->bytes; i++)
    if (expected[i] != o->after[i])
      fail_msg("%s: %s: byte %lld was written", text, name, (long long)i - (long long)o->begin);
  free(expected);
}

/* ---- Runs ------------------------------------------------------------------------------------------- */

typedef struct operands {
  operand tensors[NUM_TENSORS], parameters[NUM_PARAMETERS];
} operands;

static void free_operands(clnorm_context *context, operands *all) {
  operand *o = (operand *)all;
  for (size_t i = 0; i < sizeof *all / sizeof *o; i++) {
    clnorm_memory_free(context, &o[i].memory);
    free(o[i].before);
    free(o[i].after);
  }
}

static bool is_present(const backward_problem *p, const manner *m, int parameter) {
  switch (parameter) {
  case WEIGHT:
    return p->weight;
  case MEAN:
    return p->state != AGAIN;
  case LOW:
    return (p->state == SAVED || p->state == GIVEN) && p->low;
  case INVSTD:
    return p->state == SAVED || p->state == GIVEN;
  case VAR:
    return p->state == RUNNING;
  case DWEIGHT:
    return m->wanted & CLNORM_GRADIENT_DWEIGHT;
  default:
    return m->wanted & CLNORM_GRADIENT_DBIAS;
  }
}

static int32_t role_of(const backward_problem *p, int parameter) {
  static const int32_t roles[NUM_PARAMETERS] = {
      [WEIGHT] = CLNORM_WEIGHT,       [MEAN] = CLNORM_SAVED_MEAN, [LOW] = CLNORM_SAVED_MEAN_LOW,
      [INVSTD] = CLNORM_SAVED_INVSTD, [VAR] = CLNORM_RUNNING_VAR, [DWEIGHT] = CLNORM_DWEIGHT,
      [DBIAS] = CLNORM_DBIAS};
  return parameter == MEAN && p->state == RUNNING ? CLNORM_RUNNING_MEAN : roles[parameter];
}

static void tensor_of(const backward_problem *p, const manner *m, int i, clnorm_tensor *tensor) {
  const bool same = i == DX && m->over != DX;
  clnorm_layout_tensor(tensor, m->layouts[same ? m->over : i], p->dtypes[same ? m->over : i],
                       p->rank, p->dims);
}

static void make_problem(const backward_problem *p, const manner *m, clnorm_problem *problem) {
  clnorm_problem_init(problem, sizeof *problem);
  problem->operation = CLNORM_BACKWARD;
  problem->statistics = p->state >= RUNNING ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS;
  problem->recompute = p->state == AGAIN;
  problem->accumulate = p->accumulate;
  problem->gradients = m->wanted;
  problem->eps = p->eps;
  problem->cut = m->cut;
  problem->store = m->store;
  problem->route = m->route;
  for (int i = 0; i < NUM_TENSORS; i++)
    if (i != DX || m->wanted & CLNORM_GRADIENT_DX)
      tensor_of(p, m, i, &problem->tensors[tensor_roles[i]]);
}

/* Binds and runs; what is in memory afterwards is read back. */
static void run(clnorm_context *context, clnorm_plan *plan, const backward_problem *p,
                const manner *m, operands *all, const char *text) {
  clnorm_binding bindings[NUM_TENSORS + NUM_PARAMETERS];
  size_t count = 0;
  memset(all, 0, sizeof *all);
  for (int i = 0; i < NUM_TENSORS; i++) {
    operand *o = &all->tensors[i];
    if (i == DX && !(m->wanted & CLNORM_GRADIENT_DX)) continue;
    tensor_of(p, m, i, &o->tensor);
    if (i != DX || m->over == DX) make_operand(context, o, p->tensors[i], m->shift);
    bindings[count++] = clnorm_bind(tensor_roles[i], view_of(i == DX ? &all->tensors[m->over] : o));
  }
  for (int i = 0; i < NUM_PARAMETERS; i++) {
    operand *o = &all->parameters[i];
    if (!is_present(p, m, i)) continue;
    o->tensor = (clnorm_tensor){
        .dtype = p->real, .rank = 1, .dims = {p->dims[1]}, .strides = {1}, .channel_block = 1};
    make_operand(context, o, i < DWEIGHT || p->accumulate ? p->parameters[i] : NULL, m->shift);
    bindings[count++] = clnorm_bind(role_of(p, i), view_of(o));
  }
  fixture_ok(context, clnorm_run(plan, bindings, count, NULL), text);
  fixture_ok(context, clnorm_finish(context), text);
  operand *o = (operand *)all;
  for (size_t i = 0; i < sizeof *all / sizeof *o; i++)
    if (o[i].bytes)
      fixture_ok(context, clnorm_memory_read(context, o[i].memory, o[i].after, o[i].bytes), text);
}

/* What was not to be written is as before, and what was has the bits of the plain run. */
static void check_bits(const backward_problem *p, const manner *m, const operands *plain,
                       const operands *all, const char *text) {
  clnorm_difference d;
  clnorm_difference_init(&d, sizeof d);
  const bool dx = m->wanted & CLNORM_GRADIENT_DX;
  for (int i = 0; i < NUM_TENSORS; i++)
    if (all->tensors[i].bytes)
      check_image(&all->tensors[i], dx && i == m->over, clnorm_role_name(tensor_roles[i]), text);
  for (int i = 0; i < NUM_PARAMETERS; i++)
    if (all->parameters[i].bytes)
      check_image(&all->parameters[i], i >= DWEIGHT, clnorm_role_name(role_of(p, i)), text);
  for (int i = DWEIGHT; i < NUM_PARAMETERS; i++) {
    const operand *a = &all->parameters[i], *b = &plain->parameters[i];
    if (!a->bytes) continue;
    clnorm_compare(&a->tensor, a->after + a->begin, &b->tensor, b->after + b->begin, &d);
    if (d.differing_elements || d.elements != p->dims[1])
      fail_msg("%s: %s: %lld of %lld differ, first %.17g, not %.17g", text,
               clnorm_role_name(role_of(p, i)), (long long)d.differing_elements,
               (long long)d.elements, d.first_a, d.first_b);
  }
  if (!dx || !p->count) return;
  const operand *a = &all->tensors[m->over], *b = &plain->tensors[DX];
  clnorm_compare(&a->tensor, a->after + a->begin, &b->tensor, b->after + b->begin, &d);
  if (d.differing_elements || d.elements != p->count)
    fail_msg("%s: dx: %lld of %lld differ, the first at (%lld, %lld, %lld): %.17g, not %.17g", text,
             (long long)d.differing_elements, (long long)d.elements, (long long)d.first[0],
             (long long)d.first[1], (long long)d.first[2], d.first_a, d.first_b);
}

/* ---- The reference ---------------------------------------------------------------------------------- */

/* |error| / bound, which must be at most 1. */
static double hold(double actual, long double expected, long double bound, const char *name,
                   const char *text) {
  const double ratio = (double)(fabsl(actual - expected) / bound);
  if (!(ratio <= 1))
    fail_msg("%s: %s is %.17g, expected %.17Lg within %Lg", text, name, actual, expected, bound);
  return ratio;
}

static double result_at(const operand *o, int64_t at) {
  return load(o->tensor.dtype,
              o->after + o->begin + (size_t)at * clnorm_dtype_size(o->tensor.dtype));
}

static double check_channel(const backward_problem *p, const operands *plain,
                            const clnorm_gradient_channel *k, int64_t c, const char *text) {
  double worst = 0;
  const long double old[2] = {p->accumulate ? p->parameters[DWEIGHT][c] : 0,
                              p->accumulate ? p->parameters[DBIAS][c] : 0};
  const long double values[2] = {k->dweight, k->dbias};
  const long double bounds[2] = {k->dweight_bound, k->dbias_bound};
  for (int i = 0; i < 2; i++) {
    const long double value = old[i] + values[i];
    const long double rounding = p->accumulate ? k->unit * (fabsl(value) + bounds[i]) : 0;
    worst = fmax(worst, hold(result_at(&plain->parameters[DWEIGHT + i], c), value,
                             bounds[i] + rounding, i ? "dbias" : "dweight", text));
  }
  for (int64_t n = 0; n < p->dims[0]; n++)
    for (int64_t s = 0; s < p->spatial; s++) {
      const int64_t at = (n * p->dims[1] + c) * p->spatial + s;
      long double bound;
      const long double dx = clnorm_gradient_dx(k, p->tensors[X][at], p->tensors[DY][at], &bound);
      const bool stores = p->dtypes[DX] != p->real;
      const long double rounding = stores ? half_ulp(p->dtypes[DX], fabsl(dx) + bound) : 0;
      worst =
          fmax(worst, hold(result_at(&plain->tensors[DX], at), dx, bound + rounding, "dx", text));
    }
  return worst;
}

/* Channels from `first` on. Returns the worst error in units of its bound. */
static double check_reference(const backward_problem *p, const operands *plain, int64_t first,
                              const char *text) {
  const size_t channels = (size_t)p->dims[1];
  const double eps = p->real == CLNORM_F64 ? p->eps : (double)(float)p->eps;
  long double *mean = allocate(channels * sizeof *mean),
              *invstd = allocate(channels * sizeof *mean);
  double worst = 0;
  for (size_t c = 0; c < channels; c++) {
    mean[c] = p->parameters[MEAN][c];
    if (p->state == GIVEN && p->low) mean[c] += p->parameters[LOW][c];
    invstd[c] = p->state == GIVEN ? p->parameters[INVSTD][c]
                                  : 1 / sqrtl((long double)p->parameters[VAR][c] + eps);
  }
  const clnorm_gradient_case item = {.batch = p->dims[0],
                                     .channels = p->dims[1],
                                     .spatial = p->spatial,
                                     .x = p->tensors[X],
                                     .dy = p->tensors[DY],
                                     .weight = p->weight ? p->parameters[WEIGHT] : NULL,
                                     .mean = p->state >= RUNNING ? mean : NULL,
                                     .invstd = invstd,
                                     .eps = eps,
                                     .unit = p->real == CLNORM_F64 ? 0x1p-53L : 0x1p-24L,
                                     .factor = p->factor};
  for (int64_t c = first; c < p->dims[1]; c++) {
    clnorm_gradient_channel k;
    clnorm_gradient_channel_make(&item, c, &k);
    worst = fmax(worst, check_channel(p, plain, &k, c, text));
  }
  free(mean);
  free(invstd);
  return worst;
}

/* The statistics that forward saves of the problem's x. */
static void save_statistics(clnorm_context *context, backward_problem *p) {
  static const int kinds[] = {MEAN, LOW, INVSTD};
  static const int32_t roles[] = {CLNORM_SAVED_MEAN, CLNORM_SAVED_MEAN_LOW, CLNORM_SAVED_INVSTD};
  operand x, y, saved[3];
  clnorm_problem problem;
  clnorm_plan *plan;
  clnorm_binding bindings[5];
  memset(&x, 0, sizeof x);
  memset(&y, 0, sizeof y);
  memset(saved, 0, sizeof saved);
  clnorm_problem_init(&problem, sizeof problem);
  problem.eps = p->eps;
  tensor_of(p, &plainly, X, &problem.tensors[CLNORM_X]);
  x.tensor = y.tensor = problem.tensors[CLNORM_X];
  make_operand(context, &x, p->tensors[X], 0);
  make_operand(context, &y, NULL, 0);
  bindings[0] = clnorm_bind(CLNORM_X, view_of(&x));
  bindings[1] = clnorm_bind(CLNORM_Y, view_of(&y));
  for (int i = 0; i < 3; i++) {
    saved[i].tensor = (clnorm_tensor){.dtype = p->real, .rank = 1, .dims = {p->dims[1]}};
    make_operand(context, &saved[i], NULL, 0);
    bindings[2 + i] = clnorm_bind(roles[i], view_of(&saved[i]));
  }
  assert_ok(context, clnorm_plan_create(context, &problem, &plan));
  assert_ok(context, clnorm_run(plan, bindings, 5, NULL));
  for (int i = 0; i < 3; i++) {
    assert_ok(context,
              clnorm_memory_read(context, saved[i].memory, saved[i].after, saved[i].bytes));
    for (int64_t c = 0; c < p->dims[1] && p->count; c++)
      p->parameters[kinds[i]][c] = result_at(&saved[i], c);
  }
  clnorm_plan_destroy(plan);
  operand *const all[] = {&x, &y, &saved[0], &saved[1], &saved[2]};
  for (int i = 0; i < 5; i++) {
    clnorm_memory_free(context, &all[i]->memory);
    free(all[i]->before);
    free(all[i]->after);
  }
}

/* ---- One problem on both sides ----------------------------------------------------------------------- */

/* The plan on the device under test; NULL where it is rightly refused. */
static clnorm_plan *plan_of(clnorm_context *context, const backward_problem *p, const manner *m,
                            const char *text) {
  clnorm_problem problem;
  clnorm_plan *plan = NULL;
  make_problem(p, m, &problem);
  const clnorm_status status = clnorm_plan_create(context, &problem, &plan);
  if (p->real == CLNORM_F64 && getenv("CLNORM_TEST_WITHOUT_F64")) {
    fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_UNSUPPORTED, "f64", text);
    return NULL;
  }
  fixture_ok(context, status, text);
  return plan;
}

static void run_plainly(const fixture_sides *s, backward_problem *p, operands *plain,
                        const char *text) {
  if (p->state <= AGAIN) save_statistics(s->baseline, p);
  clnorm_problem problem;
  clnorm_plan *plan;
  make_problem(p, &plainly, &problem);
  fixture_ok(s->baseline, clnorm_plan_create(s->baseline, &problem, &plan), text);
  run(s->baseline, plan, p, &plainly, plain, text);
  check_bits(p, &plainly, plain, plain, text);
  clnorm_plan_destroy(plan);
}

/* The same bits as the plain run's; returns whether it could run. */
static bool run_subject(const fixture_sides *s, const backward_problem *p, const manner *m,
                        const operands *plain, const char *text) {
  operands all;
  clnorm_plan *plan = plan_of(s->subject, p, m, text);
  if (!plan) return false;
  run(s->subject, plan, p, m, &all, text);
  check_bits(p, m, plain, &all, text);
  free_operands(s->subject, &all);
  clnorm_plan_destroy(plan);
  return true;
}

/* ---- All pairs --------------------------------------------------------------------------------------- */

enum {
  X_LAYOUT,
  DY_LAYOUT,
  DX_LAYOUT,
  SHAPE,
  TYPES,
  STATE,
  WANTED,
  OPTIONS,
  CUT,
  ROUTE,
  OVER,
  SHIFT,
  NUM_AXES
};
enum { MAX_VALUES = 16 };

static const struct {
  int32_t rank;
  int64_t dims[CLNORM_MAX_RANK];
} shapes[] = {
    {4, {3, 6, 41, 37}}, {2, {300, 21}},    {3, {4, 19, 150}},     {5, {2, 5, 3, 9, 11}},
    {4, {9, 16, 8, 12}}, {4, {5, 3, 7, 7}}, {4, {1, 2, 160, 130}}, {3, {70, 9, 4}},
};

/* The first ones are run on OpenCL devices, where each compilation takes seconds. */
static const int32_t types[][NUM_TENSORS] = {
    {CLNORM_F32, CLNORM_F32, CLNORM_F32},    {CLNORM_F16, CLNORM_F16, CLNORM_F16},
    {CLNORM_BF16, CLNORM_F32, CLNORM_BF16},  {CLNORM_F64, CLNORM_F64, CLNORM_F64},
    {CLNORM_F32, CLNORM_F16, CLNORM_BF16},   {CLNORM_BF16, CLNORM_BF16, CLNORM_F32},
    {CLNORM_F64, CLNORM_F32, CLNORM_F32},    {CLNORM_F16, CLNORM_BF16, CLNORM_F16},
    {CLNORM_BF16, CLNORM_BF16, CLNORM_BF16}, {CLNORM_F16, CLNORM_F16, CLNORM_F32},
    {CLNORM_F64, CLNORM_F64, CLNORM_F32},    {CLNORM_F64, CLNORM_F32, CLNORM_F64},
};
enum { FEW_TYPES = 4 };

static const size_t shifts[] = {0, 1, 4};

typedef struct pairing {
  int sizes[NUM_AXES];
  bool met[NUM_AXES][MAX_VALUES][NUM_AXES][MAX_VALUES];
  int left;
  uint64_t random;
} pairing;

static void pairing_start(pairing *p, int num_types) {
  const int sizes[NUM_AXES] = {CLNORM_NUM_LAYOUTS,
                               CLNORM_NUM_LAYOUTS,
                               CLNORM_NUM_LAYOUTS,
                               FIXTURE_LENGTH(shapes),
                               num_types,
                               NUM_STATES,
                               7,
                               8,
                               3,
                               2,
                               3,
                               FIXTURE_LENGTH(shifts)};
  memset(p, 0, sizeof *p);
  memcpy(p->sizes, sizes, sizeof sizes);
  p->random = 7;
  for (int i = 0; i < NUM_AXES; i++)
    for (int j = 0; j < i; j++) p->left += sizes[i] * sizes[j];
}

/* A random row that has a pair which none had before; false where there is none left. */
static bool next_row(pairing *p, int row[NUM_AXES]) {
  while (p->left) {
    int news = 0;
    for (int i = 0; i < NUM_AXES; i++) {
      p->random = p->random * 6364136223846793005u + 1442695040888963407u;
      row[i] = (int)((p->random >> 33) % (uint64_t)p->sizes[i]);
    }
    for (int i = 0; i < NUM_AXES; i++)
      for (int j = 0; j < i; j++) news += !p->met[i][row[i]][j][row[j]];
    if (!news) continue;
    for (int i = 0; i < NUM_AXES; i++)
      for (int j = 0; j < i; j++) p->met[i][row[i]][j][row[j]] = true;
    p->left -= news;
    return true;
  }
  return false;
}

static void make_row(const int row[NUM_AXES], backward_problem *p, manner *m) {
  memset(p, 0, sizeof *p);
  p->rank = shapes[row[SHAPE]].rank;
  memcpy(p->dims, shapes[row[SHAPE]].dims, sizeof p->dims);
  memcpy(p->dtypes, types[row[TYPES]], sizeof p->dtypes);
  p->state = row[STATE];
  p->weight = row[OPTIONS] & 1;
  p->low = row[OPTIONS] & 2;
  p->accumulate = row[OPTIONS] & 4;
  p->eps = 1e-3;
  for (int i = 0; i < NUM_TENSORS; i++) m->layouts[i] = (clnorm_layout)row[X_LAYOUT + i];
  m->over = row[OVER] == 2 ? DX : row[OVER];
  if (p->dtypes[DX] != p->dtypes[m->over]) m->over = DX;
  m->wanted = (uint32_t)row[WANTED] + 1;
  m->cut = row[CUT];
  m->store = CLNORM_STORE_AUTO;
  m->route = row[ROUTE];
  m->shift = shifts[row[SHIFT]];
}

static void describe(const backward_problem *p, const manner *m, char *text, size_t size) {
  static const char *const places[] = {"over x", "over dy", "apart"};
  snprintf(
      text, size,
      "%s, %s %s to %s, %s %s to %s %s, rank %d, %lld x %lld x %lld, wanted %u, weight %d, low "
      "%d, accumulate %d, cut %d, route %d, shift %zu",
      states[p->state], clnorm_dtype_name(p->dtypes[X]), clnorm_dtype_name(p->dtypes[DY]),
      clnorm_dtype_name(p->dtypes[DX]), clnorm_layout_name(m->layouts[X]),
      clnorm_layout_name(m->layouts[DY]), clnorm_layout_name(m->layouts[DX]), places[m->over],
      (int)p->rank, (long long)p->dims[0], (long long)p->dims[1], (long long)p->spatial, m->wanted,
      p->weight, p->low, p->accumulate, (int)m->cut, (int)m->route, m->shift);
}

static void test_pairs(void **state) {
  const fixture_sides *s = *state;
  pairing *pairs = allocate(sizeof *pairs);
  int row[NUM_AXES], runs = 0, refused = 0;
  double worst = 0;
  pairing_start(pairs, fixture_is_opencl(s->subject) ? FEW_TYPES : (int)FIXTURE_LENGTH(types));
  while (next_row(pairs, row)) {
    backward_problem p;
    manner m;
    operands plain;
    char text[400];
    make_row(row, &p, &m);
    problem_fill(&p);
    describe(&p, &m, text, sizeof text);
    run_plainly(s, &p, &plain, text);
    /* without the low part the mean is not the batch's */
    const bool held = p.state != SAVED || p.low;
    const double ratio = held ? check_reference(&p, &plain, 0, text) : 0;
    if (p.dtypes[DX] == p.real) worst = fmax(worst, ratio); /* else rounding is most of it */
    const bool ran = run_subject(s, &p, &m, &plain, text);
    runs += ran;
    refused += !ran;
    free_operands(s->baseline, &plain);
    problem_free(&p);
  }
  print_message("%d runs, %d plans of f64 refused as they must be; worst error / bound %.3f\n",
                runs, refused, worst);
  assert_true(runs > 64);
  assert_true(worst > 0.05); /* the reference was really looked at */
  free(pairs);
}

/* Every path, cut and state, of a tensor that is small enough for a simulator of devices. */
static void test_small(void **state) {
  static const clnorm_layout layouts[] = {CLNORM_LAYOUT_NCHW, CLNORM_LAYOUT_NHWC,
                                          CLNORM_LAYOUT_NCHW8C, CLNORM_LAYOUT_PADDED};
  const fixture_sides *s = *state;
  for (int i = 0; i < 2 * (int)FIXTURE_LENGTH(layouts); i++) {
    backward_problem p = {.rank = 4, .dims = {5, 6, 5, 7}, .state = i % NUM_STATES};
    manner m = plainly;
    operands plain;
    char text[400];
    p.dtypes[X] = p.dtypes[DY] = p.dtypes[DX] = i % 3 == 2 ? CLNORM_F16 : CLNORM_F32;
    p.weight = p.low = true;
    p.accumulate = i % 2;
    p.eps = 1e-3;
    for (int k = 0; k < NUM_TENSORS; k++) m.layouts[k] = layouts[i / 2];
    m.cut = i % 2 ? CLNORM_CUT_SPLIT : CLNORM_CUT_CHANNEL;
    m.route = CLNORM_ROUTE_AUTO;
    problem_fill(&p);
    describe(&p, &m, text, sizeof text);
    run_plainly(s, &p, &plain, text);
    check_reference(&p, &plain, 0, text);
    run_subject(s, &p, &m, &plain, text);
    free_operands(s->baseline, &plain);
    problem_free(&p);
  }
}

/* Stores around the caches, at and beside the boundaries of vectors, with every choice of what is wanted. */
static void test_stores(void **state) {
  static const clnorm_layout layouts[] = {CLNORM_LAYOUT_NCHW, CLNORM_LAYOUT_NHWC,
                                          CLNORM_LAYOUT_NCHW16C};
  enum { ALL = 7, STATES = 2 };
  const fixture_sides *s = *state;
  for (int i = 0; i < ALL * STATES * (int)FIXTURE_LENGTH(layouts); i++) {
    backward_problem p = {.rank = 4, .dims = {3, 21, 9, 11}, .state = i % STATES ? GIVEN : SAVED};
    manner m = plainly;
    operands plain;
    char text[400];
    p.dtypes[X] = p.dtypes[DY] = p.dtypes[DX] = CLNORM_F32;
    p.weight = p.low = true;
    p.eps = 1e-3;
    for (int k = 0; k < NUM_TENSORS; k++) m.layouts[k] = layouts[i / STATES / ALL];
    m.wanted = 1 + (uint32_t)(i / STATES % ALL);
    m.cut = i / STATES / 3 % 2 ? CLNORM_CUT_SPLIT : CLNORM_CUT_CHANNEL;
    m.store = CLNORM_STORE_STREAMED;
    m.route = CLNORM_ROUTE_AUTO;
    m.shift = i % 3 ? 5 : 0;
    problem_fill(&p);
    describe(&p, &m, text, sizeof text);
    run_plainly(s, &p, &plain, text);
    check_reference(&p, &plain, 0, text);
    run_subject(s, &p, &m, &plain, text);
    free_operands(s->baseline, &plain);
    problem_free(&p);
  }
}

/* ---- Hard data --------------------------------------------------------------------------------------- */

/* Values of x and of dy at place i of a channel of `count`; r: about normal, another one for each. */
typedef struct kind {
  const char *name;
  double (*x)(int64_t i, int64_t count, double r);
  double (*dy)(int64_t i, int64_t count, double r, double x);
  bool guaranteed; /* held to what is guaranteed, not to the rule */
} kind;

static double normal(int64_t i, int64_t count, double r) {
  (void)i, (void)count;
  return 0.37 + r;
}
static double far(int64_t i, int64_t count, double r) {
  (void)i, (void)count;
  return 1e6 + r;
}
static double constant(int64_t i, int64_t count, double r) {
  (void)i, (void)count, (void)r;
  return 0.1;
}
static double two_levels(int64_t i, int64_t count, double r) {
  (void)r;
  return i == count / 2 ? 0 : i % 4 == 0 ? 3.0000007 : -1;
}
static double outlier(int64_t i, int64_t count, double r) { return i == count / 2 + 1 ? 1e4 : r; }
static double jump(int64_t i, int64_t count, double r) { return i < count / 3 ? 1e6 + r : r; }
static double any(int64_t i, int64_t count, double r, double x) {
  (void)i, (void)count, (void)x;
  return r;
}
static double correlated(int64_t i, int64_t count, double r, double x) {
  (void)i, (void)count;
  return x + 1e-3 * r;
}
static double single(int64_t i, int64_t count, double r, double x) {
  (void)r, (void)x;
  return i == count / 2;
}
static double at_zero(int64_t i, int64_t count, double r, double x) {
  (void)count, (void)x;
  return i % 16 == 3 ? 1 + 0.1 * r : 0;
}
static double lost(int64_t i, int64_t count, double r, double x) {
  (void)count, (void)r, (void)x;
  return i == 0 ? 1 : 0x1.fffffep-26;
}
static double ones(int64_t i, int64_t count, double r, double x) {
  (void)i, (void)count, (void)r, (void)x;
  return 1;
}

static const kind kinds[] = {
    {"normal", normal, any, false},
    {"mean/std 1e6", far, any, false},
    {"constant", constant, any, false},
    {"correlated", normal, correlated, false},
    {"two levels", two_levels, at_zero, false},
    {"outlier", outlier, at_zero, false},
    {"jump", jump, any, false},
    {"one gradient", normal, single, false},
    {"lost addends", normal, lost, true},
    {"ones", far, ones, false},
};

/* f32, or f64 with the same values; channels are alike but for their random parts. */
static void hard_problem(backward_problem *p, const kind *k, int32_t dtype, int64_t batch,
                         int64_t spatial) {
  memset(p, 0, sizeof *p);
  p->rank = 3;
  p->dims[0] = batch, p->dims[1] = 3, p->dims[2] = spatial;
  p->dtypes[X] = p->dtypes[DY] = p->dtypes[DX] = dtype;
  p->weight = p->low = true;
  p->eps = 1e-5;
  if (k->guaranteed) p->factor = clnorm_gradient_guarantee(batch, spatial);
  problem_fill(p);
  for (int64_t i = 0; i < p->count; i++) {
    const int64_t place = i / (3 * spatial) * spatial + i % spatial, count = batch * spatial;
    const double r = (p->tensors[X][i] - 0.75) / 1.5, q = p->tensors[DY][i];
    const double x = k->x(place, count, r), dy = k->dy(place, count, q, x);
    p->tensors[X][i] = dtype == CLNORM_F32 ? (double)(float)x : x;
    p->tensors[DY][i] = dtype == CLNORM_F32 ? (double)(float)dy : dy;
  }
}

static void run_hard(const fixture_sides *s, backward_problem *p, const char *text, bool held,
                     double *worst) {
  operands plain;
  run_plainly(s, p, &plain, text);
  if (held) *worst = fmax(*worst, check_reference(p, &plain, 0, text));
  for (int32_t cut = CLNORM_CUT_CHANNEL; cut <= CLNORM_CUT_SPLIT; cut++) {
    manner m = plainly;
    m.cut = cut;
    m.route = CLNORM_ROUTE_AUTO;
    m.shift = (size_t)cut;
    run_subject(s, p, &m, &plain, text);
  }
  free_operands(s->baseline, &plain);
}

static void test_hard(void **state) {
  static const int64_t sizes[][2] = {{2, 49}, {3, 700}, {40, 49}, {1, 5000}, {1, 70000}, {9, 4099}};
  for (size_t k = 0; k < FIXTURE_LENGTH(kinds); k++) {
    double worst = 0;
    for (size_t i = 0; i < FIXTURE_LENGTH(sizes); i++)
      for (int32_t dtype = CLNORM_F32; dtype <= CLNORM_F64; dtype += CLNORM_F64 - CLNORM_F32) {
        backward_problem p;
        char text[80];
        if (dtype == CLNORM_F64 && fixture_is_opencl(((const fixture_sides *)*state)->subject))
          continue;
        hard_problem(&p, &kinds[k], dtype, sizes[i][0], sizes[i][1]);
        snprintf(text, sizeof text, "%s, %s, %lld x 3 x %lld", kinds[k].name,
                 clnorm_dtype_name(dtype), (long long)sizes[i][0], (long long)sizes[i][1]);
        run_hard(*state, &p, text, true, &worst);
        problem_free(&p);
      }
    print_message("%s: worst error / bound %.3f\n", kinds[k].name, worst);
    assert_true(worst > 0);
  }
}

/* Whole numbers, a mean and a variance that are such: everything is exact. x is -1 and 1 in turn, eps 0, dy a small
 * whole number; M is a power of two. */
static void test_exact(void **state) {
  const fixture_sides *s = *state;
  backward_problem p;
  operands plain;
  hard_problem(&p, &kinds[0], CLNORM_F32, 16, 256);
  p.eps = 0;
  for (int64_t c = 0; c < 3; c++) p.parameters[WEIGHT][c] = (double)(c + 1);
  for (int64_t i = 0; i < p.count; i++) {
    p.tensors[X][i] = i % 2 ? 1 : -1;
    p.tensors[DY][i] = (double)(i * i % 7 - 3);
  }
  run_plainly(s, &p, &plain, "exact");
  p.factor = 0x1p-20L; /* less than any rounding */
  const double worst = check_reference(&p, &plain, 0, "exact");
  assert_true(worst <= 1);
  run_subject(s, &p, &plainly, &plain, "exact");
  free_operands(s->baseline, &plain);
  problem_free(&p);
}

/* Asks the device under test for the bits of the plain run, and ends both. */
static void end_problem(const fixture_sides *s, backward_problem *p, operands *plain,
                        const char *text) {
  manner m = plainly;
  m.route = CLNORM_ROUTE_AUTO;
  run_subject(s, p, &m, plain, text);
  free_operands(s->baseline, plain);
  problem_free(p);
}

/* NaN and infinities spoil their own channel, all of its dx where the statistics are the batch's. */
static void test_not_finite(void **state) {
  static const double values[] = {NAN, INFINITY, -INFINITY};
  const fixture_sides *s = *state;
  for (size_t i = 0; i < FIXTURE_LENGTH(values); i++)
    for (int tensor = X; tensor <= DY; tensor++) {
      backward_problem p;
      operands plain;
      hard_problem(&p, &kinds[0], CLNORM_F32, 4, 900);
      p.tensors[tensor][37] = values[i];
      run_plainly(s, &p, &plain, "not finite");
      for (int64_t k = 0; k < 900 && tensor == X; k++)
        assert_true(isnan(result_at(&plain.tensors[DX], k)));
      for (int64_t k = 0; k < 900; k++) assert_false(isfinite(result_at(&plain.tensors[DX], k)));
      assert_false(isfinite(result_at(&plain.parameters[DWEIGHT], 0)));
      assert_int_equal(isfinite(result_at(&plain.parameters[DBIAS], 0)) != 0, tensor == X);
      check_reference(&p, &plain, 1, "beside what is not finite");
      end_problem(s, &p, &plain, "not finite");
    }
}

/* One value a channel: dx 0, dweight 0, dbias dy; eps 0 gives NaN. */
static void test_one_value(void **state) {
  const fixture_sides *s = *state;
  for (int zero = 0; zero < 2; zero++) {
    backward_problem p;
    operands plain;
    hard_problem(&p, &kinds[0], CLNORM_F32, 1, 1);
    p.eps = zero ? 0 : 1e-5;
    run_plainly(s, &p, &plain, "one value");
    for (int64_t c = 0; c < 3; c++) {
      const double dx = result_at(&plain.tensors[DX], c);
      const double dweight = result_at(&plain.parameters[DWEIGHT], c);
      assert_true(zero ? isnan(dx) && isnan(dweight) : dx == 0 && dweight == 0);
      assert_true(result_at(&plain.parameters[DBIAS], c) == p.tensors[DY][c]);
    }
    end_problem(s, &p, &plain, "one value");
  }
}

/* No values: gradients of parameters are 0, or stay where they are added to. */
static void test_empty(void **state) {
  const fixture_sides *s = *state;
  for (int i = 0; i < 2 * NUM_STATES; i++) {
    backward_problem p;
    operands plain;
    hard_problem(&p, &kinds[0], CLNORM_F32, i % 3 ? 0 : 5, i % 3 ? 5 : 0);
    p.state = i % NUM_STATES;
    p.accumulate = i >= NUM_STATES;
    run_plainly(s, &p, &plain, "empty");
    for (int64_t c = 0; c < 3; c++)
      for (int k = DWEIGHT; k <= DBIAS; k++)
        assert_true(result_at(&plain.parameters[k], c) == (p.accumulate ? p.parameters[k][c] : 0));
    end_problem(s, &p, &plain, "empty");
  }
}

/* ---- Layers of published networks ---------------------------------------------------------------------- */

/* The floats of an .npy file of version 1.0 in a folder of tests/data. */
static float *read_npy(const char *folder, const char *name, size_t count) {
  char path[600];
  unsigned char head[10];
  float *values = allocate(count * sizeof *values);
  snprintf(path, sizeof path, CLNORM_TEST_DATA "/%s/%s.npy", folder, name);
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  assert_int_equal(fread(head, 1, sizeof head, file), sizeof head);
  assert_int_equal(fseek(file, head[8] + 256 * head[9], SEEK_CUR), 0);
  assert_int_equal(fread(values, sizeof *values, count, file), count);
  assert_int_equal(fgetc(file), EOF);
  fclose(file);
  return values;
}

/* Values as the framework that the layer is of computed them, in float32 as well: so far from float64 as
 * tests/data/README.md says, and within `bounds` of ours. */
static void assert_as_framework(const operand *o, const char *folder, const char *name,
                                const double *bounds, size_t count) {
  float *expected = read_npy(folder, name, count), largest = 0;
  double worst = 0;
  for (size_t i = 0; i < count; i++) largest = fmaxf(largest, fabsf(expected[i]));
  for (size_t i = 0; i < count; i++) {
    const double error = fabs(result_at(o, (int64_t)i) - expected[i]);
    worst = fmax(worst, error / largest);
    if (!(error <= bounds[i] + 1.2e-5 * largest))
      fail_msg("%s: %s[%zu] is %.9g, and the framework's %.9g", folder, name, i,
               result_at(o, (int64_t)i), expected[i]);
  }
  print_message("%s: %s is within %.2g of the largest of the framework's\n", folder, name, worst);
  free(expected);
}

/* The bounds of every gradient of a layer. */
static void layer_bounds(const backward_problem *p, double *dx, double *dweight, double *dbias) {
  const clnorm_gradient_case item = {.batch = p->dims[0],
                                     .channels = p->dims[1],
                                     .spatial = p->spatial,
                                     .x = p->tensors[X],
                                     .dy = p->tensors[DY],
                                     .weight = p->parameters[WEIGHT],
                                     .eps = (float)p->eps,
                                     .unit = 0x1p-24L,
                                     .factor = 8};
  clnorm_gradient_channel k;
  for (int64_t i = 0; i < p->count; i++) {
    const int64_t c = i / p->spatial % p->dims[1];
    long double bound;
    if (i % p->spatial == 0) clnorm_gradient_channel_make(&item, c, &k);
    clnorm_gradient_dx(&k, p->tensors[X][i], p->tensors[DY][i], &bound);
    dx[i] = (double)bound;
    dweight[c] = (double)k.dweight_bound;
    dbias[c] = (double)k.dbias_bound;
  }
}

static void check_layer(const fixture_sides *s, const char *folder, const int64_t dims[4],
                        double eps) {
  const size_t channels = (size_t)dims[1];
  backward_problem p = {.rank = 4, .weight = true, .low = true, .eps = eps};
  operands plain;
  memcpy(p.dims, dims, 4 * sizeof *dims);
  problem_fill(&p);
  float *x = read_npy(folder, "x", (size_t)p.count),
        *y = read_npy(folder, "y_train", (size_t)p.count);
  float *weight = read_npy(folder, "weight", channels);
  for (int64_t i = 0; i < p.count; i++) {
    p.tensors[X][i] = x[i];
    p.tensors[DY][i] = fmaxf(y[i], 0);
  }
  for (size_t c = 0; c < channels; c++) p.parameters[WEIGHT][c] = weight[c];
  run_plainly(s, &p, &plain, folder);
  check_reference(&p, &plain, 0, folder);
  double *bounds = allocate(((size_t)p.count + 2 * channels) * sizeof *bounds);
  double *of_weight = bounds + p.count, *of_bias = of_weight + channels;
  layer_bounds(&p, bounds, of_weight, of_bias);
  assert_as_framework(&plain.tensors[DX], folder, "dx", bounds, (size_t)p.count);
  assert_as_framework(&plain.parameters[DWEIGHT], folder, "dweight", of_weight, channels);
  assert_as_framework(&plain.parameters[DBIAS], folder, "dbias", of_bias, channels);
  free(bounds);
  for (int layout = CLNORM_LAYOUT_NCHW; layout <= CLNORM_LAYOUT_NCHW8C; layout++) {
    manner m = plainly;
    for (int i = 0; i < NUM_TENSORS; i++) m.layouts[i] = (clnorm_layout)layout;
    m.cut = CLNORM_CUT_AUTO;
    m.route = CLNORM_ROUTE_AUTO;
    run_subject(s, &p, &m, &plain, folder);
  }
  free(x);
  free(y);
  free(weight);
  free_operands(s->baseline, &plain);
  problem_free(&p);
}

static void test_layers(void **state) {
  check_layer(*state, "crepe_conv2", (const int64_t[]){7, 128, 128, 1}, 0.0010000000474974513);
  check_layer(*state, "fer_bn1", (const int64_t[]){4, 8, 62, 62}, 0.001);
}

/* ---- Finite differences ------------------------------------------------------------------------------- */

/* The sum of dy * y of forward, in f64. */
static double loss(clnorm_context *context, const backward_problem *p, const double *bias) {
  clnorm_problem problem;
  clnorm_plan *plan;
  double *y = allocate((size_t)p->count * sizeof *y), sum = 0;
  const size_t bytes = (size_t)p->count * sizeof *y, channels = (size_t)p->dims[1] * sizeof *y;
  clnorm_problem_init(&problem, sizeof problem);
  problem.eps = p->eps;
  problem.statistics = p->state == RUNNING ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS;
  tensor_of(p, &plainly, X, &problem.tensors[CLNORM_X]);
  const clnorm_binding bindings[] = {
      clnorm_bind(CLNORM_X, clnorm_host_memory(p->tensors[X], bytes)),
      clnorm_bind(CLNORM_Y, clnorm_host_memory(y, bytes)),
      clnorm_bind(CLNORM_WEIGHT, clnorm_host_memory(p->parameters[WEIGHT], channels)),
      clnorm_bind(CLNORM_BIAS, clnorm_host_memory(bias, channels)),
      clnorm_bind(CLNORM_RUNNING_MEAN, clnorm_host_memory(p->parameters[MEAN], channels)),
      clnorm_bind(CLNORM_RUNNING_VAR, clnorm_host_memory(p->parameters[VAR], channels))};
  assert_ok(context, clnorm_plan_create(context, &problem, &plan));
  assert_ok(context, clnorm_run(plan, bindings, p->state == RUNNING ? 6 : 4, NULL));
  for (int64_t i = 0; i < p->count; i++) sum += p->tensors[DY][i] * y[i];
  clnorm_plan_destroy(plan);
  free(y);
  return sum;
}

/* The slope of the loss by one of its values. */
static double slope(clnorm_context *context, const backward_problem *p, const double *bias,
                    double *value) {
  const double h = 1e-4, kept = *value;
  double losses[4];
  for (int i = 0; i < 4; i++) {
    *value = kept + h * (i < 2 ? i - 2 : i - 1);
    losses[i] = loss(context, p, bias);
  }
  *value = kept;
  return (losses[0] - 8 * losses[1] + 8 * losses[2] - losses[3]) / (12 * h);
}

static void test_finite_differences(void **state) {
  const fixture_sides *s = *state;
  for (int mode = SAVED; mode <= RUNNING; mode += RUNNING - SAVED) {
    backward_problem p;
    operands plain;
    double bias[3] = {0.5, -1, 2};
    hard_problem(&p, &kinds[0], CLNORM_F64, 4, 5);
    p.state = mode;
    run_plainly(s, &p, &plain, "finite differences");
    for (int64_t i = 0; i < p.count; i++) {
      const double dx = slope(s->baseline, &p, bias, &p.tensors[X][i]);
      assert_true(fabs(result_at(&plain.tensors[DX], i) - dx) < 1e-9);
    }
    for (int64_t c = 0; c < 3; c++) {
      const double dweight = slope(s->baseline, &p, bias, &p.parameters[WEIGHT][c]);
      const double dbias = slope(s->baseline, &p, bias, &bias[c]);
      assert_true(fabs(result_at(&plain.parameters[DWEIGHT], c) - dweight) < 1e-9);
      assert_true(fabs(result_at(&plain.parameters[DBIAS], c) - dbias) < 1e-9);
    }
    free_operands(s->baseline, &plain);
    problem_free(&p);
  }
}

/* The argument, which may be absent: the name of a test, to run it alone. */
int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_small),      cmocka_unit_test(test_layers),
      cmocka_unit_test(test_pairs),      cmocka_unit_test(test_stores),
      cmocka_unit_test(test_hard),       cmocka_unit_test(test_exact),
      cmocka_unit_test(test_not_finite), cmocka_unit_test(test_one_value),
      cmocka_unit_test(test_empty),      cmocka_unit_test(test_finite_differences)};
  if (argc > 1) cmocka_set_test_filter(argv[1]);
  return cmocka_run_group_tests_name("backward", tests, fixture_set_up_sides,
                                     fixture_tear_down_sides);
}
