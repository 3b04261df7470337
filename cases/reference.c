#include "reference.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "place.h"

/* What the bounds take of the type that is computed in. */
typedef struct real {
  int32_t dtype;
  /* half an ulp of 1; the rounding of subnormal results; what a variance needs for the bounds to hold */
  long double unit, smallest, least_var;
  double largest;
} real;

static const real f32 = {CLNORM_F32, 0x1p-24L, 0x1p-148L, 0x1p-100L, FLT_MAX};
static const real f64 = {CLNORM_F64, 0x1p-53L, 0x1p-1073L, 0x1p-996L, DBL_MAX};

/* A sum, and what rounding took from it: in doubles a long double alone would be hardly better than the library. */
typedef struct exact {
  long double high, low;
} exact;

typedef struct channel {
  exact mean;
  long double var, invstd; /* var is biased; invstd = 1 / sqrt(var + eps) */
  long double weight, bias;
  bool bounded;
  bool may_overflow; /* in sums of the library's: results may be what comes of that */
} channel;

struct clnorm_reference {
  clnorm_case_problem problem;
  const real *in;
  long double eps, keep, take;
  int64_t count; /* M: elements of a channel */
  channel channels[];
};

/* A value with the error it may have before it is stored, in an element of this type. */
typedef struct expected {
  long double value, bound;
  int32_t dtype;
  bool anywhere; /* within the bound nothing is an error */
} expected;

bool clnorm_case_problem_empty(const clnorm_case_problem *problem) {
  return problem->desc.batch == 0 || problem->desc.channels == 0 || problem->desc.spatial == 0;
}

int64_t clnorm_case_problem_output_count(const clnorm_case_problem *problem, clnorm_output output) {
  const dense_desc *desc = &problem->desc;
  if (clnorm_case_problem_empty(problem)) return 0;
  switch (output) {
  case CLNORM_OUTPUT_Y:
    return desc->batch * desc->channels * desc->spatial;
  case CLNORM_OUTPUT_RUNNING_MEAN:
  case CLNORM_OUTPUT_RUNNING_VAR:
    return desc->statistics == CLNORM_BATCH_STATISTICS && problem->running_mean ? desc->channels
                                                                                : 0;
  default:
    return desc->channels;
  }
}

clnorm_tensor clnorm_case_problem_output(const clnorm_case_problem *problem, clnorm_output output) {
  const bool y = output == CLNORM_OUTPUT_Y;
  const int64_t channels[4] = {1, clnorm_case_problem_output_count(problem, output), 1, 1};
  clnorm_tensor tensor;
  clnorm_tensor_nchw(&tensor, y ? problem->y_dtype : clnorm_case_problem_real(problem), 4,
                     y ? problem->dims : channels);
  return tensor;
}

const char *clnorm_output_name(clnorm_output output) {
  return clnorm_role_name(dense_role(output));
}

/* The plane (n, c) of an (N, C, spatial) array. */
static const double *plane(const clnorm_case_problem *problem, const double *values, int64_t n,
                           int64_t c) {
  return values + (n * problem->desc.channels + c) * problem->desc.spatial;
}

static void add(exact *sum, long double value) {
  const long double high = sum->high + value, taken = high - sum->high;
  sum->low += (sum->high - (high - taken)) + (value - taken);
  sum->high = high;
}

static long double deviation(const channel *k, double x) {
  return (x - k->mean.high) - k->mean.low;
}

static exact mean_of(exact sum, long double count) {
  const exact nothing = {(long double)NAN, (long double)NAN};
  if (!isfinite(sum.high)) return nothing;
  const long double high = (sum.high + sum.low) / count;
  const exact mean = {high, (fmal(-high, count, sum.high) + sum.low) / count};
  return mean;
}

static void batch_statistics(const clnorm_reference *reference, int64_t c, channel *k) {
  const clnorm_case_problem *problem = &reference->problem;
  const long double count = (long double)reference->count;
  exact sum = {0, 0}, squares = {0, 0};
  double largest = 0;
  for (int64_t n = 0; n < problem->desc.batch; n++) {
    const double *x = plane(problem, problem->x, n, c);
    for (int64_t s = 0; s < problem->desc.spatial; s++) {
      add(&sum, x[s]);
      largest = fmax(largest, fabs(x[s]));
    }
  }
  k->mean = mean_of(sum, count);
  for (int64_t n = 0; n < problem->desc.batch; n++) {
    const double *x = plane(problem, problem->x, n, c);
    for (int64_t s = 0; s < problem->desc.spatial; s++) {
      const long double d = deviation(k, x[s]);
      add(&squares, d * d);
    }
  }
  const long double total = squares.high + squares.low;
  k->var = total / count;
  const long double v = k->var + reference->eps;
  k->bounded = !isfinite(sum.high) ||
               (v >= reference->in->least_var && fabsl(k->mean.high) <= 1.001e6L * sqrtl(v));
  k->may_overflow = isfinite(sum.high) &&
                    (largest > reference->in->largest / 4096 || total > reference->in->largest / 4);
}

static void fill_channel(const clnorm_reference *reference, int64_t c, channel *k) {
  const clnorm_case_problem *problem = &reference->problem;
  if (problem->desc.statistics == CLNORM_BATCH_STATISTICS) {
    batch_statistics(reference, c, k);
  } else {
    k->mean.high = problem->running_mean[c];
    k->mean.low = 0;
    k->var = problem->running_var[c];
    const long double v = k->var + reference->eps;
    k->bounded = !(v < reference->in->least_var && v > 0);
    k->may_overflow = false;
  }
  k->invstd = 1 / sqrtl(k->var + reference->eps);
  k->weight = problem->weight ? problem->weight[c] : 1;
  k->bias = problem->bias ? problem->bias[c] : 0;
}

clnorm_reference *clnorm_reference_create(const clnorm_case_problem *problem) {
  const int64_t channels = clnorm_case_problem_empty(problem) ? 0 : problem->desc.channels;
  clnorm_reference *reference =
      malloc(sizeof *reference + (size_t)channels * sizeof reference->channels[0]);
  if (!reference) return NULL;
  reference->problem = *problem;
  reference->in = clnorm_case_problem_real(problem) == CLNORM_F64 ? &f64 : &f32;
  reference->eps = clnorm_rounded(reference->in->dtype, problem->desc.eps);
  reference->keep = problem->momentum;
  reference->take = 1 - (long double)problem->momentum;
  reference->count = problem->desc.batch * problem->desc.spatial;
  for (int64_t c = 0; c < channels; c++) fill_channel(reference, c, &reference->channels[c]);
  return reference;
}

void clnorm_reference_destroy(clnorm_reference *reference) { free(reference); }

int64_t clnorm_reference_unbounded(const clnorm_reference *reference) {
  if (clnorm_case_problem_empty(&reference->problem)) return 0;
  int64_t unbounded = 0;
  for (int64_t c = 0; c < reference->problem.desc.channels; c++)
    unbounded += !reference->channels[c].bounded;
  return unbounded;
}

static expected make_expected(long double value, long double bound, int32_t dtype) {
  const expected e = {value, bound, dtype, false};
  return e;
}

static expected expected_y(const clnorm_reference *reference, const channel *k, double x) {
  const long double xhat = deviation(k, x) * k->invstd;
  return make_expected(xhat * k->weight + k->bias,
                       8 * reference->in->unit *
                               (fabsl(k->weight) * (fabsl(xhat) + 1) + fabsl(k->bias)) +
                           reference->in->smallest,
                       reference->problem.y_dtype);
}

static expected expected_mean(const clnorm_reference *reference, const channel *k) {
  const bool batch = reference->problem.desc.statistics == CLNORM_BATCH_STATISTICS;
  const long double spread = batch ? sqrtl(k->var) : 0;
  return make_expected(k->mean.high,
                       reference->in->unit * (2 * fabsl(k->mean.high) + 8 * spread) +
                           reference->in->smallest,
                       reference->in->dtype);
}

static expected expected_mean_low(const clnorm_reference *reference, const channel *k) {
  const bool batch = reference->problem.desc.statistics == CLNORM_BATCH_STATISTICS;
  const expected mean = expected_mean(reference, k);
  const long double bound = reference->in->unit * (fabsl(mean.value) + mean.bound);
  return (expected){.value = isnan(mean.value) ? mean.value : 0,
                    .bound = (batch ? bound : 0) + reference->in->smallest,
                    .dtype = reference->in->dtype,
                    .anywhere = true};
}

static expected expected_running(const clnorm_reference *reference, double old, expected batch) {
  const long double kept = reference->keep * old;
  const long double taken = reference->take * batch.value;
  return make_expected(kept + taken,
                       reference->take * batch.bound +
                           4 * reference->in->unit * (fabsl(kept) + fabsl(taken)) +
                           reference->in->smallest,
                       reference->in->dtype);
}

static expected expected_running_var(const clnorm_reference *reference, const channel *k,
                                     double old) {
  const long double count = (long double)reference->count;
  const bool biased = reference->problem.desc.biased_running_var || reference->count == 1;
  const long double var = biased ? k->var : k->var * count / (count - 1);
  const long double off = 16 * reference->in->unit * k->mean.high;
  const long double bound = 16 * reference->in->unit * (var + off * off);
  return expected_running(reference, old, make_expected(var, bound, reference->in->dtype));
}

static expected expected_of_channel(const clnorm_reference *reference, clnorm_output output,
                                    int64_t c) {
  const channel *k = &reference->channels[c];
  const clnorm_case_problem *problem = &reference->problem;
  switch (output) {
  case CLNORM_OUTPUT_SAVED_MEAN:
    return expected_mean(reference, k);
  case CLNORM_OUTPUT_SAVED_MEAN_LOW:
    return expected_mean_low(reference, k);
  case CLNORM_OUTPUT_SAVED_INVSTD:
    return make_expected(k->invstd, 8 * reference->in->unit * k->invstd + reference->in->smallest,
                         reference->in->dtype);
  case CLNORM_OUTPUT_RUNNING_MEAN:
    return expected_running(reference, problem->running_mean[c], expected_mean(reference, k));
  default:
    return expected_running_var(reference, k, problem->running_var[c]);
  }
}

/* ---- Judging --------------------------------------------------------------------------------- */

/* What storing in a smaller type than is computed in may do to a value of at most this magnitude: half an ulp, or half
 * the distance of subnormal values. The rounding of what is stored as it is computed is in the bounds. */
static long double half_ulp(const real *in, int32_t dtype, long double magnitude) {
  static const struct {
    int bits;
    long double least;
  } types[] = {[CLNORM_F32] = {24, 0x1p-150L},
               [CLNORM_F16] = {11, 0x1p-25L},
               [CLNORM_BF16] = {8, 0x1p-134L}};
  int exponent;
  if (dtype == in->dtype) return 0;
  frexpl(magnitude, &exponent);
  return fmaxl(ldexpl(1, exponent - types[dtype].bits - 1), types[dtype].least);
}

/* Whether an infinity may be what is stored. */
static bool may_be_infinite(const real *in, expected e) {
  static const long double limits[] = {
      [CLNORM_F32] = 0x1.ffffffp+127L, [CLNORM_F16] = 65520, [CLNORM_BF16] = 0x1.ffp+127L};
  if (e.dtype == in->dtype) return isinf(clnorm_rounded(e.dtype, (double)e.value));
  return fabsl(e.value) + e.bound >= limits[e.dtype];
}

/* |error| / bound of one value. */
static long double ratio(const real *in, expected e, double value) {
  if (isnan(e.value)) return isnan(value) ? 0 : INFINITY;
  if (isinf(value) && may_be_infinite(in, e))
    return !signbit(value) == !signbit(e.value) ? 0 : INFINITY;
  if (!isfinite(value) || isinf(e.value)) return INFINITY;
  const long double error = fabsl(value - e.value);
  if (e.anywhere && error <= e.bound) return 0;
  return error / (e.bound + half_ulp(in, e.dtype, fabsl(e.value) + e.bound));
}

typedef struct scan {
  long double worst;
  int64_t worst_index, unequal;
} scan;

/* What a sum that overflows may become: NaN in what x is normalized with, and where all of the mean or the
 * variance goes, an infinity as well. */
static bool overflowed(const channel *k, clnorm_output output, double value) {
  const bool normalizes = output == CLNORM_OUTPUT_Y || output == CLNORM_OUTPUT_SAVED_INVSTD;
  return k->may_overflow && (isnan(value) || (isinf(value) && !normalizes));
}

static void scan_value(scan *result, const real *in, int64_t index, expected e, double value) {
  const long double r = ratio(in, e, value);
  if (r > result->worst) {
    result->worst = r;
    result->worst_index = index;
  }
  const double right = clnorm_rounded(e.dtype, (double)e.value);
  result->unequal += !(value == right || (isnan(value) && isnan(right)));
}

/* Both judgements in one walk over an output; channels without a bound are passed over. */
static scan scan_output(const clnorm_reference *reference, clnorm_output output,
                        const double *values) {
  const clnorm_case_problem *problem = &reference->problem;
  scan result = {0, -1, 0};
  if (clnorm_case_problem_output_count(problem, output) == 0) return result;
  for (int64_t c = 0; c < problem->desc.channels; c++) {
    const channel *k = &reference->channels[c];
    if (!k->bounded) continue;
    if (output != CLNORM_OUTPUT_Y) {
      if (overflowed(k, output, values[c])) continue;
      scan_value(&result, reference->in, c, expected_of_channel(reference, output, c), values[c]);
      continue;
    }
    for (int64_t n = 0; n < problem->desc.batch; n++) {
      const double *x = plane(problem, problem->x, n, c);
      const double *y = plane(problem, values, n, c);
      for (int64_t s = 0; s < problem->desc.spatial; s++)
        if (!overflowed(k, output, y[s]))
          scan_value(&result, reference->in, y + s - values, expected_y(reference, k, x[s]), y[s]);
    }
  }
  return result;
}

double clnorm_reference_check(const clnorm_reference *reference, clnorm_output output,
                              const double *values, int64_t *worst) {
  const scan result = scan_output(reference, output, values);
  if (worst) *worst = result.worst_index;
  return (double)result.worst;
}

int64_t clnorm_reference_unequal(const clnorm_reference *reference, clnorm_output output,
                                 const double *values) {
  return scan_output(reference, output, values).unequal;
}
