/* One logical tensor in many layouts: every run must give the bits of the run on the CPU path's plain code whose x and
 * y are NCHW without gaps, and that run is held to a long double reference. Layouts of x and y, shapes, types, modes,
 * hints, operands and addresses are combined so that every pair of options meets in a run (next_row). What lies
 * between the elements and around them holds NaN, and must be as before after the run; a tail that a tensor owns must
 * be 0.
 *   CLNORM_TEST_WITHOUT_F64  the device has no f64: plans of it must be refused */
#include "fixture.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "halves.h"

/* ---- Options --------------------------------------------------------------------------------------- */

/* Elements, counted in blocks, between rows, planes and samples; channels of a larger tensor before and behind these.
 */
typedef struct layout {
  const char *name;
  int64_t block;
  bool last, owned;
  int64_t row, plane, sample, before, behind;
} layout;

static const layout layouts[] = {
    {.name = "nchw", .block = 1},
    {.name = "nhwc", .block = 1, .last = true},
    {.name = "nChw16c", .block = 16, .owned = true},
    {.name = "nchw, rows apart", .block = 1, .row = 3},
    {.name = "nchw, planes and samples apart", .block = 1, .plane = 5, .sample = 8},
    {.name = "nchw, slice", .block = 1, .before = 2, .behind = 3},
    {.name = "nhwc, slice", .block = 1, .last = true, .before = 3, .behind = 2},
    {.name = "nhwc, rows and samples apart", .block = 1, .last = true, .row = 5, .sample = 9},
    {.name = "nChw4c", .block = 4, .owned = true},
    {.name = "nChw4c, tail of another", .block = 4},
    {.name = "nChw8c", .block = 8, .owned = true},
    {.name = "nChw8c, tail of another", .block = 8},
    {.name = "nChw16c, slice", .block = 16, .before = 16, .behind = 20},
    {.name = "nChw16c, rows apart", .block = 16, .owned = true, .row = 2, .sample = 1},
};

static const struct {
  int32_t rank;
  int64_t dims[CLNORM_MAX_RANK];
} shapes[] = {
    {4, {3, 6, 41, 37}},   {2, {300, 21}},      {3, {4, 19, 150}},
    {5, {2, 5, 7, 9, 11}}, {4, {2, 16, 8, 12}}, {4, {5, 1, 7, 7}},
};

/* Those of one type first: only they can be in place, and only they are run on OpenCL devices, where each pair and
 * path takes seconds to compile; test_paths has all pairs there. */
static const struct {
  int32_t x, y;
} types[] = {
    {CLNORM_F32, CLNORM_F32},  {CLNORM_F16, CLNORM_F16},  {CLNORM_BF16, CLNORM_BF16},
    {CLNORM_F64, CLNORM_F64},  {CLNORM_F16, CLNORM_F32},  {CLNORM_F32, CLNORM_BF16},
    {CLNORM_F64, CLNORM_F32},  {CLNORM_F32, CLNORM_F16},  {CLNORM_BF16, CLNORM_F32},
    {CLNORM_F16, CLNORM_BF16}, {CLNORM_BF16, CLNORM_F16},
};
enum { OF_ONE_TYPE = 4 };

enum { TRAINING, EVALUATION, COPY, NUM_MODES };
static const char *const modes[] = {"training", "evaluation", "copy"};
static const int32_t cuts[] = {CLNORM_CUT_AUTO, CLNORM_CUT_CHANNEL, CLNORM_CUT_SPLIT};
static const int32_t routes[] = {CLNORM_ROUTE_AUTO, CLNORM_ROUTE_GENERAL};
/* Elements by which every operand is off its boundary. */
static const size_t shifts[] = {0, 1, 4};

enum { X_LAYOUT, Y_LAYOUT, SHAPE, TYPES, MODE, CUT, ROUTE, OPERANDS, SHIFT, NUM_AXES };
enum { MAX_VALUES = FIXTURE_LENGTH(layouts) };

/* ---- Pairs of options ------------------------------------------------------------------------------ */

typedef struct pairing {
  int sizes[NUM_AXES];
  bool met[NUM_AXES][MAX_VALUES][NUM_AXES][MAX_VALUES];
} pairing;

static bool first_unmet(const pairing *p, int row[NUM_AXES]) {
  for (int i = 0; i < NUM_AXES; i++)
    for (int j = i + 1; j < NUM_AXES; j++)
      for (int a = 0; a < p->sizes[i]; a++)
        for (int b = 0; b < p->sizes[j]; b++)
          if (!p->met[i][a][j][b]) {
            row[i] = a;
            row[j] = b;
            return true;
          }
  return false;
}

/* Pairs that are new where `axis` takes `value`; axes of -1 are open. */
static int news(const pairing *p, const int row[NUM_AXES], int axis, int value) {
  int count = 0;
  for (int i = 0; i < NUM_AXES; i++)
    if (i != axis && row[i] >= 0)
      count += i < axis ? !p->met[i][row[i]][axis][value] : !p->met[axis][value][i][row[i]];
  return count;
}

/* A row with the first pair that no row has had, and with as many others as each axis in turn can add. */
static bool next_row(pairing *p, int turn, int row[NUM_AXES]) {
  for (int i = 0; i < NUM_AXES; i++) row[i] = -1;
  if (!first_unmet(p, row)) return false;
  for (int i = 0; i < NUM_AXES; i++) {
    if (row[i] >= 0) continue;
    int best = turn % p->sizes[i];
    for (int k = 0; k < p->sizes[i]; k++)
      if (news(p, row, i, k) > news(p, row, i, best)) best = k;
    row[i] = best;
  }
  for (int i = 0; i < NUM_AXES; i++)
    for (int j = i + 1; j < NUM_AXES; j++) p->met[i][row[i]][j][row[j]] = true;
  return true;
}

/* ---- Tensors in memory ------------------------------------------------------------------------------ */

/* A tensor and the larger one whose memory it lies in: its first element's place there, and how many that has. */
typedef struct placed {
  clnorm_tensor tensor;
  size_t first, elements;
} placed;

static int64_t blocks_of(int64_t channels, int64_t block) { return (channels + block - 1) / block; }

static placed place(const layout *l, int32_t dtype, int shape) {
  placed result = {.tensor = {.dtype = dtype, .rank = shapes[shape].rank}};
  clnorm_tensor *t = &result.tensor;
  memcpy(t->dims, shapes[shape].dims, sizeof t->dims);
  t->channel_block = l->block;
  t->flags = l->owned ? CLNORM_TENSOR_OWNS_TAIL : 0;
  const int64_t channels = l->before + t->dims[1] + l->behind;
  const int64_t unit = l->last ? channels : l->block;
  int64_t step = unit;
  for (int i = t->rank - 1; i > 1; i--) {
    t->strides[i] = step;
    step = step * t->dims[i] + (i == t->rank - 1 ? l->row * unit : 0);
  }
  step += l->plane * unit;
  t->strides[1] = l->last ? 1 : step;
  t->strides[0] = (l->last ? step : step * blocks_of(channels, l->block)) + l->sample * unit;
  result.first = (size_t)(l->before / l->block * t->strides[1]);
  result.elements = (size_t)(t->strides[0] * t->dims[0]);
  return result;
}

/* The element of logical index `at` (n, c, positions) in elements from the first. */
static size_t index_of(const clnorm_tensor *t, const int64_t at[CLNORM_MAX_RANK]) {
  int64_t index = at[1] / t->channel_block * t->strides[1] + at[1] % t->channel_block;
  for (int i = 0; i < t->rank; i++)
    if (i != 1) index += at[i] * t->strides[i];
  return (size_t)index;
}

/* The next logical index, with `channels` in place of dims[1]; false behind the last. */
static bool advance(const clnorm_tensor *t, int64_t channels, int64_t at[CLNORM_MAX_RANK]) {
  for (int i = t->rank - 1; i >= 0; i--) {
    if (++at[i] < (i == 1 ? channels : t->dims[i])) return true;
    at[i] = 0;
  }
  return false;
}

/* Values in NCHW order to their places; an owned tail becomes 0 where `written`. */
static void pack(const placed *p, const unsigned char *dense, bool written, unsigned char *memory) {
  const clnorm_tensor *t = &p->tensor;
  const size_t size = clnorm_dtype_size(t->dtype);
  const bool tail = written && (t->flags & CLNORM_TENSOR_OWNS_TAIL);
  const int64_t channels =
      tail ? blocks_of(t->dims[1], t->channel_block) * t->channel_block : t->dims[1];
  int64_t at[CLNORM_MAX_RANK] = {0};
  do {
    unsigned char *element = memory + (p->first + index_of(t, at)) * size;
    if (at[1] >= t->dims[1]) {
      memset(element, 0, size);
      continue;
    }
    memcpy(element, dense, size);
    dense += size;
  } while (advance(t, channels, at));
}

/* ---- Values ---------------------------------------------------------------------------------------- */

static double load(int32_t dtype, const unsigned char *at) {
  uint16_t bits;
  float single;
  double value;
  switch (dtype) {
  case CLNORM_F64:
    memcpy(&value, at, sizeof value);
    return value;
  case CLNORM_F32:
    memcpy(&single, at, sizeof single);
    return single;
  default:
    memcpy(&bits, at, sizeof bits);
    return dtype == CLNORM_F16 ? clnorm_half_to_float(bits) : clnorm_bfloat_to_float(bits);
  }
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

static void *allocate(size_t size) {
  void *memory = calloc(size + 1, 1);
  assert_non_null(memory);
  return memory;
}

/* count values of a type, near enough to a bell; doubles have more bits than a float. */
static unsigned char *make_values(int32_t dtype, size_t count, uint64_t seed, double mean,
                                  double spread) {
  const size_t size = clnorm_dtype_size(dtype);
  unsigned char *values = allocate(count * size);
  float *upper = allocate(2 * count * sizeof *upper);
  fixture_fill(upper, 2 * count, seed, 0, 1);
  for (size_t i = 0; i < count; i++)
    store(dtype, mean + spread * (upper[i] + 0x1p-27 * upper[count + i]), values + i * size);
  free(upper);
  return values;
}

/* ---- Operands --------------------------------------------------------------------------------------- */

static const int32_t roles[] = {CLNORM_X,
                                CLNORM_Y,
                                CLNORM_WEIGHT,
                                CLNORM_BIAS,
                                CLNORM_RUNNING_MEAN,
                                CLNORM_RUNNING_VAR,
                                CLNORM_SAVED_MEAN,
                                CLNORM_SAVED_MEAN_LOW,
                                CLNORM_SAVED_INVSTD};
enum { X, Y, WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR, SAVED_MEAN, MEAN_LOW, INVSTD, NUM_OPERANDS };
enum { GUARD = 256 };

/* One operand: its memory and the bytes of it before and after a run. begin: where the placed memory starts. */
typedef struct operand {
  placed place;
  clnorm_memory memory;
  unsigned char *before, *after;
  size_t begin, bytes;
} operand;

typedef struct run_case {
  int row[NUM_AXES];
  bool in_place;
  char text[256];
  /* of the logical problem; NULL: the operand is not there, or written only */
  unsigned char *values[NUM_OPERANDS];
  bool present[NUM_OPERANDS];
  int32_t dtypes[NUM_OPERANDS];
} run_case;

/* A NaN in every type, other bits from element to element. */
static void fill_guard(unsigned char *bytes, size_t count, size_t size) {
  for (size_t i = 0; i < count; i++) {
    memset(bytes + i * size, 0x50 + (int)(i % 47), size);
    bytes[i * size + size - 1] = 0x7f;
    bytes[i * size + size - 2] = 0xfe;
  }
}

static placed place_of(const run_case *c, int index, bool dense) {
  const int shape = c->row[SHAPE];
  if (index == X || index == Y) {
    const int chosen = c->row[index == X || c->in_place ? X_LAYOUT : Y_LAYOUT];
    return place(&layouts[dense ? 0 : chosen], c->dtypes[index], shape);
  }
  placed p = {.elements = (size_t)shapes[shape].dims[1]};
  p.tensor.dtype = c->dtypes[index];
  return p;
}

static uint64_t extent_of(const operand *o) {
  return o->place.tensor.rank ? clnorm_tensor_bytes(&o->place.tensor)
                              : o->place.elements * clnorm_dtype_size(o->place.tensor.dtype);
}

/* Writes values to their places in an image of an operand's memory. */
static void put(const operand *o, const unsigned char *values, bool written, unsigned char *image) {
  if (o->place.tensor.rank)
    pack(&o->place, values, written, image + o->begin);
  else
    memcpy(image + o->begin, values, extent_of(o));
}

static void make_operand(clnorm_context *context, const run_case *c, int index, bool dense,
                         operand *o) {
  o->place = place_of(c, index, dense);
  const size_t size = clnorm_dtype_size(o->place.tensor.dtype);
  o->begin = GUARD + (dense ? 0 : shifts[c->row[SHIFT]]) * size;
  o->bytes = 2 * o->begin + o->place.elements * size;
  o->before = allocate(o->bytes);
  o->after = allocate(o->bytes);
  fill_guard(o->before, o->bytes / size, size);
  if (c->values[index]) put(o, c->values[index], false, o->before);
  assert_ok(context, clnorm_memory_alloc(context, o->bytes, &o->memory));
  assert_ok(context, clnorm_memory_write(context, o->memory, o->before, o->bytes));
}

static void free_operands(clnorm_context *context, operand operands[NUM_OPERANDS]) {
  for (int i = 0; i < NUM_OPERANDS; i++) {
    clnorm_memory_free(context, &operands[i].memory);
    free(operands[i].before);
    free(operands[i].after);
  }
}

static clnorm_memory view_of(const operand *o) {
  clnorm_memory view = o->memory;
  view.offset += o->begin + o->place.first * clnorm_dtype_size(o->place.tensor.dtype);
  view.size = extent_of(o);
  return view;
}

/* ---- Runs ------------------------------------------------------------------------------------------- */

static clnorm_status make_plan(clnorm_context *context, const run_case *c, bool dense,
                               clnorm_plan **plan) {
  clnorm_problem problem;
  clnorm_problem_init(&problem, sizeof problem);
  problem.operation = c->row[MODE] == COPY ? CLNORM_COPY : CLNORM_FORWARD;
  problem.statistics =
      c->row[MODE] == EVALUATION ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS;
  problem.eps = 1e-3;
  problem.cut = dense ? CLNORM_CUT_AUTO : cuts[c->row[CUT]];
  problem.route = dense ? CLNORM_ROUTE_AUTO : routes[c->row[ROUTE]];
  problem.tensors[CLNORM_X] = place_of(c, X, dense).tensor;
  problem.tensors[CLNORM_Y] = place_of(c, Y, dense).tensor;
  return clnorm_plan_create(context, &problem, plan);
}

/* Runs a plan; operands are filled with what was in memory before and after. */
static void run(clnorm_context *context, clnorm_plan *plan, const run_case *c, bool dense,
                operand operands[NUM_OPERANDS]) {
  clnorm_binding bindings[NUM_OPERANDS];
  clnorm_run_options options;
  size_t count = 0;
  const bool in_place = c->in_place && !dense;
  memset(operands, 0, NUM_OPERANDS * sizeof *operands);
  clnorm_run_options_init(&options, sizeof options);
  options.momentum = 0.75;
  for (int i = 0; i < NUM_OPERANDS; i++) {
    if (!c->present[i]) continue;
    const bool same = i == Y && in_place;
    if (!same) make_operand(context, c, i, dense, &operands[i]);
    bindings[count++] = clnorm_bind(roles[i], view_of(&operands[same ? X : i]));
  }
  fixture_ok(context, clnorm_run(plan, bindings, count, &options), c->text);
  fixture_ok(context, clnorm_finish(context), c->text);
  for (int i = 0; i < NUM_OPERANDS; i++)
    if (operands[i].bytes)
      fixture_ok(
          context,
          clnorm_memory_read(context, operands[i].memory, operands[i].after, operands[i].bytes),
          c->text);
}

/* Is the operand written by the case? */
static bool is_written(const run_case *c, int index, bool in_place) {
  if (index == X) return in_place;
  return index == Y || index >= SAVED_MEAN ||
         (c->row[MODE] == TRAINING && (index == RUNNING_MEAN || index == RUNNING_VAR));
}

/* What must be in memory after the run, byte by byte: what was there, and the values of the dense run. */
static void check_images(const run_case *c, const operand dense[NUM_OPERANDS],
                         const operand operands[NUM_OPERANDS]) {
  for (int i = 0; i < NUM_OPERANDS; i++) {
    const operand *o = &operands[i];
    if (!o->bytes) continue;
    const operand *source = &dense[i == X && c->in_place ? Y : i];
    const size_t size = clnorm_dtype_size(o->place.tensor.dtype);
    unsigned char *expected = allocate(o->bytes);
    memcpy(expected, o->before, o->bytes);
    if (is_written(c, i, c->in_place)) put(o, source->after + source->begin, true, expected);
    for (size_t k = 0; k < o->bytes; k++)
      if (o->after[k] != expected[k]) {
        const size_t start = k / size * size;
        fail_msg("%s: %s: element %lld of memory, %s, is %.17g, not %.17g", c->text,
                 clnorm_role_name(roles[i]),
                 ((long long)start - (long long)o->begin) / (long long)size,
                 expected[k] == o->before[k] ? "not to be written" : "to be written",
                 load(o->place.tensor.dtype, o->after + start),
                 load(o->place.tensor.dtype, expected + start));
      }
    free(expected);
  }
}

/* ---- The reference ---------------------------------------------------------------------------------- */

typedef struct channel {
  long double mean, var, invstd, weight, bias;
} channel;

/* Half of a unit in the last place of a type at a value. */
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

static long double unit_of(const run_case *c) {
  return c->dtypes[X] == CLNORM_F64 ? 0x1p-53L : 0x1p-24L;
}

static double value_at(const run_case *c, int index, int64_t at, double absent) {
  const int32_t dtype = c->dtypes[index];
  return c->values[index] ? load(dtype, c->values[index] + (size_t)at * clnorm_dtype_size(dtype))
                          : absent;
}

static int64_t spatial_of(const run_case *c) {
  int64_t spatial = 1;
  for (int i = 2; i < shapes[c->row[SHAPE]].rank; i++) spatial *= shapes[c->row[SHAPE]].dims[i];
  return spatial;
}

static channel channel_of(const run_case *c, int64_t k) {
  const int64_t *dims = shapes[c->row[SHAPE]].dims, spatial = spatial_of(c);
  const long double count = (long double)(dims[0] * spatial);
  channel r = {.weight = value_at(c, WEIGHT, k, 1), .bias = value_at(c, BIAS, k, 0)};
  if (c->row[MODE] == EVALUATION) {
    r.mean = value_at(c, RUNNING_MEAN, k, 0);
    r.var = value_at(c, RUNNING_VAR, k, 0);
  }
  for (int pass = 0; pass < 2 && c->row[MODE] == TRAINING; pass++)
    for (int64_t n = 0; n < dims[0]; n++)
      for (int64_t s = 0; s < spatial; s++) {
        const long double x = value_at(c, X, (n * dims[1] + k) * spatial + s, 0);
        if (pass == 0)
          r.mean += x / count;
        else
          r.var += (x - r.mean) * (x - r.mean) / count;
      }
  const double eps = c->dtypes[X] == CLNORM_F64 ? 1e-3 : (double)1e-3f;
  r.invstd = 1 / sqrtl(r.var + eps);
  return r;
}

/* Returns |error| / bound, which must be at most 1. */
static double hold(const run_case *c, const char *name, double actual, long double expected,
                   long double bound) {
  const double ratio = (double)(fabsl(actual - expected) / bound);
  if (!(ratio <= 1))
    fail_msg("%s: dense, %s: %.17g, expected %.17Lg within %Lg", c->text, name, actual, expected,
             bound);
  return ratio;
}

static double result_of(const operand *o, int64_t at) {
  const int32_t dtype = o->place.tensor.dtype;
  return load(dtype, o->after + o->begin + (size_t)at * clnorm_dtype_size(dtype));
}

/* Operands of one value a channel, by the bounds of cases/reference.h in units of the real type. */
static double check_channel(const run_case *c, const operand dense[NUM_OPERANDS], int64_t k,
                            const channel *r) {
  const long double u = unit_of(c), take = 0.25L;
  const long double count = (long double)(shapes[c->row[SHAPE]].dims[0] * spatial_of(c));
  const long double spread = c->row[MODE] == TRAINING ? sqrtl(r->var) : 0;
  const long double of_mean = u * (2 * fabsl(r->mean) + 8 * spread);
  const long double var = r->var * count / (count - 1);
  double worst = 0;
  if (c->present[SAVED_MEAN]) {
    const long double mean =
        (long double)result_of(&dense[SAVED_MEAN], k) + result_of(&dense[MEAN_LOW], k);
    worst = fmax(worst, hold(c, "saved_mean", (double)mean, r->mean, of_mean + 0x1p-148L));
    worst = fmax(
        worst, hold(c, "saved_invstd", result_of(&dense[INVSTD], k), r->invstd, 8 * u * r->invstd));
  }
  if (c->row[MODE] != TRAINING || !c->present[RUNNING_MEAN]) return worst;
  const long double old = 0.75L * value_at(c, RUNNING_MEAN, k, 0);
  const long double old_var = 0.75L * value_at(c, RUNNING_VAR, k, 0);
  worst =
      fmax(worst, hold(c, "running_mean", result_of(&dense[RUNNING_MEAN], k), old + take * r->mean,
                       take * of_mean + 4 * u * (fabsl(old) + take * fabsl(r->mean))));
  return fmax(worst, hold(c, "running_var", result_of(&dense[RUNNING_VAR], k), old_var + take * var,
                          take * 16 * u * (var + 0x1p-40L * r->mean * r->mean) +
                              4 * u * (old_var + take * var)));
}

/* The worst error of the dense run in units of its bound. */
static double check_dense(const run_case *c, const operand dense[NUM_OPERANDS]) {
  const int64_t *dims = shapes[c->row[SHAPE]].dims, spatial = spatial_of(c);
  double worst = 0;
  for (int64_t k = 0; k < dims[1]; k++) {
    const channel r = channel_of(c, k);
    if (c->row[MODE] != COPY) worst = fmax(worst, check_channel(c, dense, k, &r));
    for (int64_t n = 0; n < dims[0]; n++)
      for (int64_t s = 0; s < spatial; s++) {
        const int64_t at = (n * dims[1] + k) * spatial + s;
        const long double x = value_at(c, X, at, 0), hat = (x - r.mean) * r.invstd;
        const bool copy = c->row[MODE] == COPY;
        const long double y = copy ? x : hat * r.weight + r.bias;
        const long double bound =
            copy ? 0 : 8 * unit_of(c) * (fabsl(r.weight) * (fabsl(hat) + 1) + fabsl(r.bias));
        /* beside the reference, the value that is rounded may have the next exponent */
        const long double rounding = half_ulp(c->dtypes[Y], fabsl(y) + bound);
        worst = fmax(worst, hold(c, "y", result_of(&dense[Y], at), y, bound + rounding));
      }
  }
  return worst;
}

/* ---- Cases ------------------------------------------------------------------------------------------ */

static void describe(run_case *c) {
  const int *row = c->row;
  static const char *const names[] = {"auto", "channel", "split"};
  snprintf(c->text, sizeof c->text,
           "%s, %s to %s, x %s, y %s, shape %d, cut %s, route %s, %s, shift %zu", modes[row[MODE]],
           clnorm_dtype_name(c->dtypes[X]), clnorm_dtype_name(c->dtypes[Y]),
           layouts[row[X_LAYOUT]].name, c->in_place ? "in place" : layouts[row[Y_LAYOUT]].name,
           row[SHAPE], names[cuts[row[CUT]]], routes[row[ROUTE]] ? "general" : "auto",
           row[OPERANDS] ? "bare" : "all operands", shifts[row[SHIFT]]);
}

/* Values of the operands that are read; none of those that are written only. */
static void make_values_of(run_case *c) {
  const int64_t *dims = shapes[c->row[SHAPE]].dims;
  const size_t channels = (size_t)dims[1];
  const size_t elements = (size_t)(dims[0] * dims[1] * spatial_of(c));
  static const struct {
    double mean, spread;
  } kinds[NUM_OPERANDS] = {[X] = {0.75, 1.5},
                           [WEIGHT] = {1, 0.25},
                           [BIAS] = {0.5, 0.5},
                           [RUNNING_MEAN] = {0.5, 0.25},
                           [RUNNING_VAR] = {2, 0.25}};
  for (int i = 0; i < NUM_OPERANDS; i++)
    if (c->present[i] && i != Y && i < SAVED_MEAN)
      c->values[i] = make_values(c->dtypes[i], i == X ? elements : channels, 31 + (uint64_t)i,
                                 kinds[i].mean, kinds[i].spread);
}

static void make_case(run_case *c, const int row[NUM_AXES], bool in_place) {
  memset(c, 0, sizeof *c);
  memcpy(c->row, row, sizeof c->row);
  c->in_place = in_place;
  const int32_t x = types[row[TYPES]].x;
  const bool forward = row[MODE] != COPY, all = row[OPERANDS] == 0;
  for (int i = 0; i < NUM_OPERANDS; i++) {
    c->dtypes[i] = x == CLNORM_F64 ? CLNORM_F64 : CLNORM_F32;
    c->present[i] = i <= Y || (forward && all);
  }
  c->dtypes[X] = x;
  c->dtypes[Y] = types[row[TYPES]].y;
  if (row[MODE] == EVALUATION) c->present[RUNNING_MEAN] = c->present[RUNNING_VAR] = true;
  describe(c);
  make_values_of(c);
}

static void free_case(run_case *c) {
  for (int i = 0; i < NUM_OPERANDS; i++) free(c->values[i]);
}

typedef struct tally {
  int runs, refused;
  double worst;
} tally;

/* The plan of a case on the device under test; NULL where it is rightly refused. */
static clnorm_plan *plan_of(clnorm_context *context, const run_case *c) {
  clnorm_plan *plan = NULL;
  const clnorm_status status = make_plan(context, c, false, &plan);
  if (c->dtypes[X] == CLNORM_F64 && getenv("CLNORM_TEST_WITHOUT_F64")) {
    fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_UNSUPPORTED, "f64", c->text);
    assert_null(plan);
    return NULL;
  }
  fixture_ok(context, status, c->text);
  const char *description = clnorm_plan_description(plan);
  if (routes[c->row[ROUTE]] == CLNORM_ROUTE_GENERAL && !strstr(description, "route general"))
    fail_msg("%s: the plan is '%s'", c->text, description);
  return plan;
}

static void check_row(const fixture_sides *s, const int row[NUM_AXES], bool in_place, tally *t) {
  run_case c;
  operand dense[NUM_OPERANDS], operands[NUM_OPERANDS];
  clnorm_plan *of_baseline = NULL;
  make_case(&c, row, in_place);
  clnorm_plan *plan = plan_of(s->subject, &c);
  if (plan) {
    fixture_ok(s->baseline, make_plan(s->baseline, &c, true, &of_baseline), c.text);
    run(s->baseline, of_baseline, &c, true, dense);
    t->worst = fmax(t->worst, check_dense(&c, dense));
    run(s->subject, plan, &c, false, operands);
    check_images(&c, dense, operands);
    free_operands(s->subject, operands);
    free_operands(s->baseline, dense);
  }
  clnorm_plan_destroy(of_baseline);
  clnorm_plan_destroy(plan);
  free_case(&c);
  *(plan ? &t->runs : &t->refused) += 1;
}

static void check_pairs(const fixture_sides *s, bool in_place) {
  const int num_types = fixture_is_opencl(s->subject) ? OF_ONE_TYPE : (int)FIXTURE_LENGTH(types);
  const int num_layouts = (int)FIXTURE_LENGTH(layouts);
  pairing *p = allocate(sizeof *p);
  const pairing empty = {.sizes = {[X_LAYOUT] = num_layouts,
                                   [Y_LAYOUT] = in_place ? 1 : num_layouts,
                                   [SHAPE] = FIXTURE_LENGTH(shapes),
                                   [TYPES] = in_place ? OF_ONE_TYPE : num_types,
                                   [MODE] = in_place ? COPY : NUM_MODES,
                                   [CUT] = FIXTURE_LENGTH(cuts),
                                   [ROUTE] = FIXTURE_LENGTH(routes),
                                   [OPERANDS] = 2,
                                   [SHIFT] = FIXTURE_LENGTH(shifts)}};
  *p = empty;
  int row[NUM_AXES];
  tally t = {0, 0, 0};
  while (next_row(p, t.runs + t.refused, row)) check_row(s, row, in_place, &t);
  print_message("%d runs%s, %d plans of f64 refused as they must be; worst error / bound %.3f\n",
                t.runs, in_place ? " in place" : "", t.refused, t.worst);
  assert_true(t.runs >= num_layouts * (in_place ? 1 : num_layouts) / 2);
  assert_true(t.worst > 0); /* the reference was really looked at */
  free(p);
}

static void test_apart(void **state) { check_pairs(*state, false); }

static void test_in_place(void **state) { check_pairs(*state, true); }

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_apart), cmocka_unit_test(test_in_place)};
  return cmocka_run_group_tests_name("layouts", tests, fixture_set_up_sides,
                                     fixture_tear_down_sides);
}
