#include "promise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "place.h"

/* ---- Ranges ----------------------------------------------------------------------------------
 *
 * All floats from low to high, where -0 lies before +0. Two equal ends, NaN too: this value, surely. An
 * infinite end of a true range: anything, NaN included. */
typedef struct range {
  float low, high;
} range;

static const range anything = {-INFINITY, INFINITY};
static const float smallest_normal = 0x1p-126f;

static bool is_sure(range r) { return clnorm_bits(r.low) == clnorm_bits(r.high); }

static bool is_nan(range r) { return isnan(r.low); } /* surely */

static bool is_finite(range r) { return fabsf(r.low) < INFINITY && fabsf(r.high) < INFINITY; }

/* -0 before +0. */
static bool before(float a, float b) { return a < b || (a == b && signbit(a) && !signbit(b)); }
static float first(float a, float b) { return before(b, a) ? b : a; }
static float last(float a, float b) { return before(a, b) ? b : a; }

/* With what is left of its values where they are flushed. */
static range flushed(range r) {
  const bool zero = r.low == 0 && r.high == 0;
  if (!(r.low <= smallest_normal && r.high >= -smallest_normal) || zero) return r;
  const range wider = {first(r.low, -0.0f), last(r.high, 0.0f)};
  return wider;
}

static range surely(float value) {
  const range r = {value, value};
  return r;
}

static range load(float value) { return flushed(surely(value)); }
/* Of an operand. */
static range load_double(double value) { return load((float)value); }

/* The ends are among `count` values. */
static range among(const float *values, int count) {
  range r = surely(values[0]);
  for (int i = 1; i < count; i++) {
    r.low = first(r.low, values[i]);
    r.high = last(r.high, values[i]);
  }
  return flushed(r);
}

static range minus(range r) {
  const range negated = {-r.high, -r.low};
  return negated;
}

static range add(range a, range b) {
  if (is_sure(a) && is_sure(b)) return load(a.low + b.low);
  if (is_nan(a) || is_nan(b)) return surely(NAN);
  if (!is_finite(a) || !is_finite(b)) return anything;
  const float ends[] = {a.low + b.low, a.high + b.high};
  return among(ends, 2);
}

static range subtract(range a, range b) { return add(a, minus(b)); }

static range multiply(range a, range b) {
  if (is_sure(a) && is_sure(b)) return load(a.low * b.low);
  if (is_nan(a) || is_nan(b)) return surely(NAN);
  if (!is_finite(a) || !is_finite(b)) return anything;
  const float ends[] = {a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high};
  return among(ends, 4);
}

/* a * b + c; linear in each of the three, so the ends are at corners. */
static range fused(range a, range b, range c) {
  if (is_sure(a) && is_sure(b) && is_sure(c)) return load(clnorm_fma(a.low, b.low, c.low));
  if (is_nan(a) || is_nan(b) || is_nan(c)) return surely(NAN);
  if (!is_finite(a) || !is_finite(b) || !is_finite(c)) return anything;
  const float ends[] = {clnorm_fma(a.low, b.low, c.low),   clnorm_fma(a.low, b.high, c.low),
                        clnorm_fma(a.high, b.low, c.low),  clnorm_fma(a.high, b.high, c.low),
                        clnorm_fma(a.low, b.low, c.high),  clnorm_fma(a.low, b.high, c.high),
                        clnorm_fma(a.high, b.low, c.high), clnorm_fma(a.high, b.high, c.high)};
  return among(ends, 8);
}

static range plus_zero(range r) {
  const range sum = {clnorm_plus_zero(r.low), clnorm_plus_zero(r.high)};
  return sum;
}

/* Rounding cannot make a sum of squares negative, but for what is 0 then; a flushed one keeps its sign. */
static range not_negative(range r) {
  if (is_sure(r)) return r.low < 0 ? surely(0) : r;
  const range clamped = {r.low < 0 ? -0.0f : r.low, r.high < 0 ? 0.0f : r.high};
  return clamped;
}

/* The division and the root round correctly, and so are monotone; nothing inside them is subnormal where
 * operand and result are not (docs/arithmetic.md). */
static range divide(range a, clnorm_ulong count) {
  const float b = clnorm_count_to_real(count);
  if (is_sure(a)) return load(clnorm_div(a.low, b));
  if (!is_finite(a)) return anything;
  const float ends[] = {clnorm_div(a.low, b), clnorm_div(a.high, b)};
  return among(ends, 2);
}

static range reciprocal_root(range v) {
  if (is_sure(v)) return load(clnorm_rsqrt(v.low));
  if (!is_finite(v) || v.low <= 0) return anything;
  const float ends[] = {clnorm_rsqrt(v.high), clnorm_rsqrt(v.low)};
  return among(ends, 2);
}

/* ---- Statistics ------------------------------------------------------------------------------
 *
 * docs/arithmetic.md in ranges. */

typedef struct two {
  range hi, lo;
} two;

static two two_sum(range a, range b) {
  two s;
  s.hi = add(a, b);
  const range z = subtract(s.hi, a);
  s.lo = add(subtract(a, subtract(s.hi, z)), subtract(b, z));
  return s;
}

typedef struct node {
  clnorm_ulong count;
  range hi, lo, m2;
} node;

/* The sums of a block's columns, or of a segment's. */
typedef struct columns {
  range d[CLNORM_ROW], dd[CLNORM_ROW];
} columns;

static void clear(columns *c) {
  for (unsigned i = 0; i < CLNORM_ROW; i++) c->d[i] = c->dd[i] = surely(0);
}

static void add_block(columns *sum, columns *block) {
  for (unsigned i = 0; i < CLNORM_ROW; i++) {
    sum->d[i] = add(sum->d[i], block->d[i]);
    sum->dd[i] = add(sum->dd[i], block->dd[i]);
  }
  clear(block);
}

static range fold(range *sums) {
  for (unsigned w = CLNORM_ROW / 2; w; w /= 2)
    for (unsigned i = 0; i < w; i++) sums[i] = add(sums[i], sums[i + w]);
  return plus_zero(sums[0]);
}

/* One segment of a channel whose first plane is at x. */
typedef struct segment {
  const double *x;
  clnorm_ulong sample;
  unsigned slot_log2;
  clnorm_segment where;
} segment;

/* Sums of x - pivot and of its squares over the segment's first `places` places. */
static void sweep(const segment *s, unsigned places, range pivot, columns *sum) {
  columns block;
  unsigned present = 0; /* the block at hand */
  clear(&block);
  clear(sum);
  for (unsigned k = 0; k < s->where.planes; k++) {
    const double *x = s->x + s->where.first + k * s->sample;
    for (unsigned i = 0; i < s->where.extent; i++) {
      const unsigned place = (k << s->slot_log2) + i, column = place % CLNORM_ROW;
      if (place >= places) break;
      if (place / CLNORM_BLOCK != present) add_block(sum, &block);
      present = place / CLNORM_BLOCK;
      const range d = subtract(load_double(x[i]), pivot);
      block.d[column] = add(block.d[column], d);
      block.dd[column] = fused(d, d, block.dd[column]);
    }
  }
  add_block(sum, &block);
}

static node segment_node(const segment *s, unsigned first_count) {
  columns sum;
  node n = {.count = (clnorm_ulong)s->where.planes * s->where.extent};
  const clnorm_reciprocals r = clnorm_reciprocals_make((clnorm_uint)n.count, first_count);
  sweep(s, CLNORM_BLOCK, surely(0), &sum);
  const range pivot = multiply(fold(sum.d), surely(r.first));
  sweep(s, CLNORM_SEGMENT, pivot, &sum);
  const range d = fold(sum.d), dd = fold(sum.dd), t = multiply(d, surely(r.all));
  const two mean = two_sum(pivot, t);
  n.hi = mean.hi;
  n.lo = mean.lo;
  n.m2 = not_negative(fused(minus(d), t, dd));
  return n;
}

static node merge(node a, node b) {
  node n = {.count = a.count + b.count};
  const clnorm_weights k = clnorm_weights_make(a.count, b.count);
  const range d = add(subtract(b.hi, a.hi), subtract(b.lo, a.lo));
  const two mean = two_sum(a.hi, multiply(d, surely(k.w)));
  n.hi = mean.hi;
  n.lo = add(a.lo, mean.lo);
  n.m2 = fused(multiply(d, surely(k.na * k.w)), d, add(a.m2, b.m2));
  return n;
}

/* The tree over a channel's segments, by a binary counter. */
static node channel_node(const clnorm_case_problem *problem, int64_t c) {
  const clnorm_geometry g =
      clnorm_geometry_make((clnorm_ulong)problem->desc.batch, (clnorm_ulong)problem->desc.channels,
                           (clnorm_ulong)problem->desc.spatial);
  segment s = {problem->x + c * problem->desc.spatial, g.channels * g.spatial, g.slot_log2, {0}};
  node stack[33];
  unsigned depth = 0;
  for (clnorm_uint i = 0; i < g.segments; i++) {
    s.where = clnorm_segment_at(&g, i);
    stack[depth++] = segment_node(&s, clnorm_segment_first(&g, &s.where));
    for (clnorm_uint ones = i; ones & 1; ones >>= 1, depth--)
      stack[depth - 2] = merge(stack[depth - 2], stack[depth - 1]);
  }
  for (; depth > 1; depth--) stack[depth - 2] = merge(stack[depth - 2], stack[depth - 1]);
  return stack[0];
}

/* ---- What comes out -------------------------------------------------------------------------- */

typedef struct channel {
  range hi, scale, shift;
  range results[CLNORM_NUM_OUTPUTS]; /* but y */
} channel;

struct clnorm_promise {
  clnorm_case_problem problem;
  channel channels[];
};

static range running(const clnorm_case_problem *problem, double old, range batch) {
  const range keep = load_double(problem->momentum), take = load_double(1.0 - problem->momentum);
  return fused(keep, load_double(old), multiply(take, batch));
}

/* A sum of squares that overflows becomes what channel.h says. */
static range invstd_of(const clnorm_case_problem *problem, range var) {
  const clnorm_call call = {.eps = (float)problem->desc.eps};
  const range v = add(var, load(call.eps));
  if (problem->desc.statistics == CLNORM_BATCH_STATISTICS && is_sure(v) && isinf(v.low))
    return surely(clnorm_spread_make(&call, 2, v.low).invstd);
  return reciprocal_root(v);
}

/* k->hi is there; lo is what the mean has more. */
static void finish_channel(const clnorm_case_problem *problem, int64_t c, range lo, range var,
                           channel *k) {
  const range invstd = invstd_of(problem, var);
  const range bias = problem->bias ? load_double(problem->bias[c]) : surely(0);
  k->scale = problem->weight ? multiply(load_double(problem->weight[c]), invstd) : invstd;
  k->shift = bias;
  if (problem->desc.statistics == CLNORM_BATCH_STATISTICS)
    k->shift = fused(minus(lo), k->scale, bias);
  k->results[CLNORM_OUTPUT_SAVED_MEAN] = k->hi;
  k->results[CLNORM_OUTPUT_SAVED_MEAN_LOW] = lo;
  k->results[CLNORM_OUTPUT_SAVED_INVSTD] = invstd;
}

static void fill_batch(const clnorm_case_problem *problem, int64_t c, channel *k) {
  const node n = channel_node(problem, c);
  const clnorm_ulong divisor = problem->desc.biased_running_var ? n.count : n.count - 1;
  const range var = divide(n.m2, n.count), unbiased = divisor ? divide(n.m2, divisor) : var;
  const two mean = two_sum(n.hi, n.lo);
  k->hi = plus_zero(mean.hi);
  finish_channel(problem, c, mean.lo, var, k);
  if (!problem->running_mean) return;
  k->results[CLNORM_OUTPUT_RUNNING_MEAN] = running(problem, problem->running_mean[c], k->hi);
  k->results[CLNORM_OUTPUT_RUNNING_VAR] = running(problem, problem->running_var[c], unbiased);
}

static bool in_double(const clnorm_case_problem *problem) {
  return clnorm_case_problem_real(problem) == CLNORM_F64;
}

bool clnorm_promise_kept(const clnorm_context *a, const clnorm_context *b) {
  return clnorm_context_device(a)->denormals && clnorm_context_device(b)->denormals;
}

clnorm_promise *clnorm_promise_create(const clnorm_case_problem *problem) {
  const int64_t channels = clnorm_case_problem_empty(problem) ? 0 : problem->desc.channels;
  clnorm_promise *promise = calloc(1, sizeof *promise + (size_t)channels * sizeof(channel));
  if (!promise) return NULL;
  promise->problem = *problem;
  for (int64_t c = 0; c < channels && !in_double(problem); c++) {
    channel *k = &promise->channels[c];
    if (problem->desc.statistics == CLNORM_BATCH_STATISTICS) {
      fill_batch(problem, c, k);
    } else {
      k->hi = load_double(problem->running_mean[c]);
      finish_channel(problem, c, surely(0), load_double(problem->running_var[c]), k);
    }
  }
  return promise;
}

void clnorm_promise_destroy(clnorm_promise *promise) { free(promise); }

/* Rounding to y's type is monotone. */
static range stored(const clnorm_case_problem *problem, range y) {
  const range r = {(float)clnorm_rounded(problem->y_dtype, (double)y.low),
                   (float)clnorm_rounded(problem->y_dtype, (double)y.high)};
  return y.low == -INFINITY && y.high == INFINITY ? anything : r;
}

static range result(const clnorm_promise *promise, clnorm_output output, int64_t index) {
  const dense_desc *desc = &promise->problem.desc;
  if (output != CLNORM_OUTPUT_Y) return promise->channels[index].results[output];
  const channel *k = &promise->channels[index / desc->spatial % desc->channels];
  return stored(&promise->problem,
                fused(subtract(load_double(promise->problem.x[index]), k->hi), k->scale, k->shift));
}

bool clnorm_promise_holds(const clnorm_promise *promise, clnorm_output output, int64_t index,
                          double *value) {
  const range r = result(promise, output, index);
  if (value) *value = (double)r.low;
  return is_sure(r);
}

/* Is element `index` inside, whose value is `expected` where nothing is flushed? */
static bool is_inside(const clnorm_promise *promise, clnorm_output output, int64_t index,
                      double expected) {
  if (!in_double(&promise->problem)) return clnorm_promise_holds(promise, output, index, NULL);
  return clnorm_case_problem_output(&promise->problem, output).dtype == CLNORM_F64 ||
         expected == 0 || !(fabs(expected) <= (double)smallest_normal);
}

static bool same(double a, double b) {
  return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

clnorm_outside clnorm_promise_separate(const clnorm_promise *promise, clnorm_output output,
                                       const double *expected, double *values) {
  clnorm_outside outside = {0, 0};
  const int64_t count = clnorm_case_problem_output_count(&promise->problem, output);
  for (int64_t i = 0; i < count; i++) {
    if (is_inside(promise, output, i, expected[i])) continue;
    outside.elements++;
    outside.differing += !same(expected[i], values[i]);
    values[i] = expected[i];
  }
  return outside;
}
