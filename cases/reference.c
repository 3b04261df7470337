#include "reference.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "place.h"

static const long double unit = 0x1p-24L;
static const long double smallest = 0x1p-148L;

typedef struct channel {
  long double mean, var, invstd; /* var is biased; invstd = 1 / sqrt(var + eps) */
  long double weight, bias;
  bool bounded;
  bool may_overflow; /* in float sums: results may be what comes of that */
} channel;

struct clnorm_reference {
  clnorm_case_problem problem;
  long double eps, keep, take;
  int64_t count; /* M: elements of a channel */
  channel channels[];
};

/* A value with the error it may have before it is stored, in an element of this type. */
typedef struct expected {
  long double value, bound;
  int32_t dtype;
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

void clnorm_case_problem_output_dims(const clnorm_case_problem *problem, clnorm_output output,
                                     int64_t dims[4]) {
  const bool tensor = output == CLNORM_OUTPUT_Y;
  for (int i = 0; i < 4; i++) dims[i] = tensor ? problem->dims[i] : 1;
  if (!tensor) dims[1] = clnorm_case_problem_output_count(problem, output);
}

const char *clnorm_output_name(clnorm_output output) {
  static const char *const names[CLNORM_NUM_OUTPUTS] = {"y", "running_mean", "running_var",
                                                        "saved_mean", "saved_invstd"};
  return names[output];
}

/* The plane (n, c) of an (N, C, spatial) array. */
static const float *plane(const clnorm_case_problem *problem, const float *values, int64_t n,
                          int64_t c) {
  return values + (n * problem->desc.channels + c) * problem->desc.spatial;
}

static void batch_statistics(const clnorm_reference *reference, int64_t c, channel *k) {
  const clnorm_case_problem *problem = &reference->problem;
  const long double count = (long double)reference->count;
  long double sum = 0, squares = 0;
  float largest = 0;
  for (int64_t n = 0; n < problem->desc.batch; n++) {
    const float *x = plane(problem, problem->x, n, c);
    for (int64_t s = 0; s < problem->desc.spatial; s++) {
      sum += x[s];
      largest = fmaxf(largest, fabsf(x[s]));
    }
  }
  k->mean = isfinite(sum) ? sum / count : (long double)NAN;
  for (int64_t n = 0; n < problem->desc.batch; n++) {
    const float *x = plane(problem, problem->x, n, c);
    for (int64_t s = 0; s < problem->desc.spatial; s++) {
      const long double d = x[s] - k->mean;
      squares += d * d;
    }
  }
  k->var = squares / count;
  const long double v = k->var + reference->eps;
  k->bounded = !isfinite(sum) || (v >= 0x1p-100L && fabsl(k->mean) <= 1.001e6L * sqrtl(v));
  k->may_overflow = isfinite(sum) && (largest > FLT_MAX / 4096 || squares > FLT_MAX / 4);
}

static void fill_channel(const clnorm_reference *reference, int64_t c, channel *k) {
  const clnorm_case_problem *problem = &reference->problem;
  if (problem->desc.statistics == CLNORM_BATCH_STATISTICS) {
    batch_statistics(reference, c, k);
  } else {
    k->mean = problem->running_mean[c];
    k->var = problem->running_var[c];
    k->bounded = !(k->var + reference->eps < 0x1p-100L && k->var + reference->eps > 0);
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
  reference->eps = (float)problem->desc.eps;
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

static expected expected_y(const channel *k, int32_t dtype, float x) {
  const long double xhat = (x - k->mean) * k->invstd;
  return (expected){xhat * k->weight + k->bias,
                    8 * unit * (fabsl(k->weight) * (fabsl(xhat) + 1) + fabsl(k->bias)) + smallest,
                    dtype};
}

static expected expected_mean(const clnorm_reference *reference, const channel *k) {
  const bool batch = reference->problem.desc.statistics == CLNORM_BATCH_STATISTICS;
  const long double spread = batch ? sqrtl(k->var) : 0;
  return (expected){k->mean, unit * (2 * fabsl(k->mean) + 8 * spread) + smallest, CLNORM_F32};
}

static expected expected_running(const clnorm_reference *reference, float old, expected batch) {
  const long double kept = reference->keep * old;
  const long double taken = reference->take * batch.value;
  return (expected){kept + taken,
                    reference->take * batch.bound + 4 * unit * (fabsl(kept) + fabsl(taken)) +
                        smallest,
                    CLNORM_F32};
}

static expected expected_running_var(const clnorm_reference *reference, const channel *k,
                                     float old) {
  const long double count = (long double)reference->count;
  const bool biased = reference->problem.desc.biased_running_var || reference->count == 1;
  const long double var = biased ? k->var : k->var * count / (count - 1);
  const long double bound = 16 * unit * (var + 0x1p-40L * k->mean * k->mean);
  return expected_running(reference, old, (expected){var, bound, CLNORM_F32});
}

static expected expected_of_channel(const clnorm_reference *reference, clnorm_output output,
                                    int64_t c) {
  const channel *k = &reference->channels[c];
  const clnorm_case_problem *problem = &reference->problem;
  switch (output) {
  case CLNORM_OUTPUT_SAVED_MEAN:
    return expected_mean(reference, k);
  case CLNORM_OUTPUT_SAVED_INVSTD:
    return (expected){k->invstd, 8 * unit * k->invstd + smallest, CLNORM_F32};
  case CLNORM_OUTPUT_RUNNING_MEAN:
    return expected_running(reference, problem->running_mean[c], expected_mean(reference, k));
  default:
    return expected_running_var(reference, k, problem->running_var[c]);
  }
}

/* What rounding to a type of 16 bits may move a value of at most this magnitude by: half an ulp, or half the distance
 * of subnormal values. A float's rounding is in the bounds. */
static long double half_ulp(int32_t dtype, long double magnitude) {
  int exponent;
  if (dtype == CLNORM_F32) return 0;
  frexpl(magnitude, &exponent);
  return dtype == CLNORM_F16 ? fmaxl(ldexpl(1, exponent - 12), 0x1p-25L)
                             : fmaxl(ldexpl(1, exponent - 9), 0x1p-134L);
}

/* Whether an infinity may be what is stored. */
static bool may_be_infinite(expected e) {
  const long double most = fabsl(e.value) + e.bound;
  if (e.dtype == CLNORM_F32) return isinf((float)e.value);
  return most >= (e.dtype == CLNORM_F16 ? 65520 : 0x1.ffp+127L);
}

/* |error| / bound of one value. */
static long double ratio(expected e, float value) {
  if (isnan(e.value)) return isnan(value) ? 0 : INFINITY;
  if (isinf(value) && may_be_infinite(e))
    return !signbit(value) == !signbit(e.value) ? 0 : INFINITY;
  if (!isfinite(value) || isinf(e.value)) return INFINITY;
  return fabsl(value - e.value) / (e.bound + half_ulp(e.dtype, fabsl(e.value) + e.bound));
}

typedef struct scan {
  long double worst;
  int64_t worst_index, unequal;
} scan;

/* What a sum that overflows may become: NaN in what x is normalized with, and where all of the mean or the
 * variance goes, an infinity as well. */
static bool overflowed(const channel *k, clnorm_output output, float value) {
  const bool normalizes = output == CLNORM_OUTPUT_Y || output == CLNORM_OUTPUT_SAVED_INVSTD;
  return k->may_overflow && (isnan(value) || (isinf(value) && !normalizes));
}

static void scan_value(scan *result, int64_t index, expected e, float value) {
  const long double r = ratio(e, value);
  if (r > result->worst) {
    result->worst = r;
    result->worst_index = index;
  }
  const float exact = clnorm_rounded(e.dtype, (float)e.value);
  result->unequal += !(value == exact || (isnan(value) && isnan(exact)));
}

/* Both judgements in one walk over an output; channels without a bound are passed over. */
static scan scan_output(const clnorm_reference *reference, clnorm_output output,
                        const float *values) {
  const clnorm_case_problem *problem = &reference->problem;
  scan result = {0, -1, 0};
  if (clnorm_case_problem_output_count(problem, output) == 0) return result;
  for (int64_t c = 0; c < problem->desc.channels; c++) {
    const channel *k = &reference->channels[c];
    if (!k->bounded) continue;
    if (output != CLNORM_OUTPUT_Y) {
      if (overflowed(k, output, values[c])) continue;
      scan_value(&result, c, expected_of_channel(reference, output, c), values[c]);
      continue;
    }
    for (int64_t n = 0; n < problem->desc.batch; n++) {
      const float *x = plane(problem, problem->x, n, c);
      const float *y = plane(problem, values, n, c);
      for (int64_t s = 0; s < problem->desc.spatial; s++)
        if (!overflowed(k, output, y[s]))
          scan_value(&result, y + s - values, expected_y(k, problem->y_dtype, x[s]), y[s]);
    }
  }
  return result;
}

double clnorm_reference_check(const clnorm_reference *reference, clnorm_output output,
                              const float *values, int64_t *worst) {
  const scan result = scan_output(reference, output, values);
  if (worst) *worst = result.worst_index;
  return (double)result.worst;
}

int64_t clnorm_reference_unequal(const clnorm_reference *reference, clnorm_output output,
                                 const float *values) {
  return scan_output(reference, output, values).unequal;
}
