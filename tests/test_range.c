/* Training at the ends of what a float holds: sums that overflow, one value per channel, parameters that are
 * not finite. Numbers are computed here, in double, from the definition. */
#include "fixture.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- A run ------------------------------------------------------------------------------------- */

/* Everything that a training run takes and gives, on the host. */
typedef struct training {
  dense_desc desc;
  double momentum;
  const float *x, *weight, *bias; /* weight and bias may be NULL */
  float *y, *mean, *invstd;
  float *running_mean, *running_var; /* 0 and 1 before the run */
} training;

static training training_make(dense_desc desc, const float *x) {
  const size_t channels = (size_t)desc.channels;
  training t = {.desc = desc, .momentum = 0.5, .x = x};
  t.y = malloc((size_t)(desc.batch * desc.spatial + 4) * channels * sizeof(float));
  assert_non_null(t.y);
  t.mean = t.y + (size_t)(desc.batch * desc.spatial) * channels;
  t.invstd = t.mean + channels;
  t.running_mean = t.invstd + channels;
  t.running_var = t.running_mean + channels;
  return t;
}

static void training_run(clnorm_context *context, training *t, clnorm_cut variant) {
  const size_t channels = (size_t)t->desc.channels;
  const size_t elements = (size_t)(t->desc.batch * t->desc.spatial) * channels;
  for (size_t c = 0; c < channels; c++) t->running_mean[c] = 0;
  for (size_t c = 0; c < channels; c++) t->running_var[c] = 1;
  fixture_tensor x = fixture_tensor_make(context, t->x, elements);
  fixture_tensor weight = fixture_tensor_make(context, t->weight, channels);
  fixture_tensor bias = fixture_tensor_make(context, t->bias, channels);
  struct {
    fixture_tensor tensor;
    float *values;
  } outputs[] = {
      {fixture_tensor_make(context, NULL, elements), t->y},
      {fixture_tensor_make(context, NULL, channels), t->mean},
      {fixture_tensor_make(context, NULL, channels), t->invstd},
      {fixture_tensor_make(context, t->running_mean, channels), t->running_mean},
      {fixture_tensor_make(context, t->running_var, channels), t->running_var},
  };
  dense_args args = {.x = x.view,
                     .y = outputs[0].tensor.view,
                     .saved_mean = outputs[1].tensor.view,
                     .saved_invstd = outputs[2].tensor.view,
                     .running_mean = outputs[3].tensor.view,
                     .running_var = outputs[4].tensor.view,
                     .momentum = t->momentum};
  if (t->weight) args.weight = weight.view;
  if (t->bias) args.bias = bias.view;
  clnorm_plan *plan;
  t->desc.cut = variant;
  assert_ok(context, dense_plan_create(context, &t->desc, &plan));
  assert_ok(context, dense_run(plan, &args));
  for (size_t i = 0; i < FIXTURE_LENGTH(outputs); i++) {
    fixture_tensor_read(context, &outputs[i].tensor, outputs[i].values);
    fixture_tensor_free(context, &outputs[i].tensor);
  }
  clnorm_plan_destroy(plan);
  fixture_tensor_free(context, &x);
  fixture_tensor_free(context, &weight);
  fixture_tensor_free(context, &bias);
}

static void training_free(training *t) { free(t->y); }

static const clnorm_cut variants[] = {CLNORM_CUT_CHANNEL, CLNORM_CUT_SPLIT};

/* ---- Sums that overflow -------------------------------------------------------------------------- */

/* How the values of a channel lie around its magnitude m. */
typedef enum pattern { NORMAL, SIGNS, HALVES, ONE_OFF, EQUAL, NUM_PATTERNS } pattern;

enum { MAGNITUDES = 28, RANGE_CHANNELS = MAGNITUDES * NUM_PATTERNS };

static double magnitude_of(int64_t channel) {
  return fmin(pow(10, 11.5 + (double)(channel / NUM_PATTERNS)), 3.3e38);
}

/* Element i of count. Values of EQUAL are equal to each other, and no power of two. */
static float element(int64_t channel, int64_t i, int64_t count, float bell) {
  const double m = magnitude_of(channel);
  switch ((pattern)(channel % NUM_PATTERNS)) {
  case NORMAL:
    return (float)fmax(fmin(m * bell, FLT_MAX), -FLT_MAX);
  case SIGNS:
    return (float)(bell < 0 ? -m : m);
  case HALVES:
    return (float)(i < count / 2 ? m : -m);
  case ONE_OFF:
    return (float)(i == 0 ? m : bell);
  default:
    return (float)m;
  }
}

static float *range_values(int64_t batch, int64_t spatial) {
  const int64_t count = batch * spatial;
  float *x = malloc((size_t)(count * RANGE_CHANNELS) * sizeof(float));
  assert_non_null(x);
  fixture_fill(x, (size_t)(count * RANGE_CHANNELS), 3, 0, 1);
  for (int64_t i = 0; i < count * RANGE_CHANNELS; i++) {
    const int64_t c = i / spatial % RANGE_CHANNELS;
    x[i] = element(c, i / spatial / RANGE_CHANNELS * spatial + i % spatial, count, x[i]);
  }
  return x;
}

/* What double has of a channel, and how near to float's limits it comes. */
typedef struct exact {
  fixture_moments moments;
  double squares, largest;
} exact;

static exact exact_make(const training *t, int64_t channel) {
  const dense_desc *d = &t->desc;
  exact e = {.moments = fixture_channel_moments(t->x, d->batch, d->channels, d->spatial, channel)};
  e.squares = e.moments.var * e.moments.count;
  for (int64_t n = 0; n < d->batch; n++)
    for (int64_t s = 0; s < d->spatial; s++)
      e.largest = fmax(e.largest, fabs(t->x[(n * d->channels + channel) * d->spatial + s]));
  return e;
}

/* All of y and invstd are NaN, or near. docs/arithmetic.md says where it must be which. */
static void check_range_channel(const training *t, int64_t c) {
  const dense_desc *d = &t->desc;
  const exact e = exact_make(t, c);
  const double invstd = 1 / sqrt(e.moments.var + (double)(float)d->eps);
  const bool is_nan = isnan(t->invstd[c]);
  const bool fits = e.squares <= FLT_MAX / 4 && e.largest <= FLT_MAX / 512;
  const bool constant = c % NUM_PATTERNS == EQUAL;
  if (e.squares > FLT_MAX && !constant) assert_true(is_nan);
  if (fits && !constant) assert_false(is_nan);
  for (int64_t n = 0; n < d->batch; n++)
    for (int64_t s = 0; s < d->spatial; s++) {
      const int64_t i = (n * d->channels + c) * d->spatial + s;
      assert_int_equal(isnan(t->y[i]), is_nan);
      const double xhat = (t->x[i] - e.moments.mean) * invstd;
      if (!is_nan && constant) assert_true(fabsf(t->y[i]) <= 1e-3f);
      if (!is_nan && !constant) fixture_assert_near(t->y[i], xhat, fabs(xhat) + 1, 16, "y");
    }
  if (is_nan) {
    assert_false(isfinite(t->running_var[c]));
    return;
  }
  const double unbiased = e.moments.count > 1 ? e.squares / (e.moments.count - 1) : 0;
  assert_true(isfinite(t->mean[c]) && isfinite(t->running_mean[c]));
  if (constant) return;
  fixture_assert_near(t->invstd[c], invstd, invstd, 16, "saved_invstd");
  fixture_assert_near(t->running_var[c], 0.5 + unbiased / 2, 0.5 + unbiased / 2, 32, "running_var");
}

typedef struct shape {
  int64_t batch, spatial;
} shape;

/* Runs, slots that share a segment, several segments, several nodes. */
static const shape range_shapes[] = {{1, 1},   {2, 1},    {300, 1},          {5, 49},
                                     {3, 196}, {2, 1600}, {1, 5 * 2048 + 7}, {1, 20 * 2048}};

static void sums_that_overflow_give_nan(void **state) {
  clnorm_context *context = *state;
  for (size_t i = 0; i < FIXTURE_LENGTH(range_shapes); i++) {
    const shape *s = &range_shapes[i];
    float *x = range_values(s->batch, s->spatial);
    training t = training_make(
        dense_desc_defaults(CLNORM_BATCH_STATISTICS, s->batch, RANGE_CHANNELS, s->spatial), x);
    for (size_t v = 0; v < FIXTURE_LENGTH(variants); v++) {
      training_run(context, &t, variants[v]);
      for (int64_t c = 0; c < RANGE_CHANNELS; c++) check_range_channel(&t, c);
    }
    training_free(&t);
    free(x);
  }
}

/* A given variance is what it is: infinity makes y the bias. */
static void a_given_variance_may_be_infinite(void **state) {
  clnorm_context *context = *state;
  const float x[4] = {1, -2, 3e38f, 4}, mean[1] = {5}, var[1] = {INFINITY}, bias[1] = {0.25f};
  float y[4], invstd[1];
  fixture_tensor tx = fixture_tensor_make(context, x, 4),
                 ty = fixture_tensor_make(context, NULL, 4);
  fixture_tensor tm = fixture_tensor_make(context, mean, 1);
  fixture_tensor tv = fixture_tensor_make(context, var, 1);
  fixture_tensor tb = fixture_tensor_make(context, bias, 1);
  fixture_tensor ti = fixture_tensor_make(context, NULL, 1);
  const dense_desc desc = dense_desc_defaults(CLNORM_GIVEN_STATISTICS, 1, 1, 4);
  const dense_args args = {.x = tx.view,
                           .y = ty.view,
                           .bias = tb.view,
                           .running_mean = tm.view,
                           .running_var = tv.view,
                           .saved_invstd = ti.view};
  clnorm_plan *plan;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  assert_ok(context, dense_run(plan, &args));
  fixture_tensor_read(context, &ty, y);
  fixture_tensor_read(context, &ti, invstd);
  assert_true(invstd[0] == 0);
  for (int i = 0; i < 4; i++) assert_true(y[i] == 0.25f);
  clnorm_plan_destroy(plan);
  fixture_tensor *all[] = {&tx, &ty, &tm, &tv, &tb, &ti};
  for (size_t i = 0; i < FIXTURE_LENGTH(all); i++) fixture_tensor_free(context, all[i]);
}

/* ---- One value per channel ----------------------------------------------------------------------- */

static const float one_values[] = {1.5f,    -0.0f,   0.1f,      -3e38f, FLT_MAX, 1e-30f,
                                   -7e-20f, 12345.f, -INFINITY, NAN,    42.f,    1};
enum { ONES = FIXTURE_LENGTH(one_values) };

static void check_one_value(const training *t, double eps) {
  const float invstd = (float)(1 / sqrt((double)(float)eps));
  for (int c = 0; c < ONES; c++) {
    if (!isfinite(t->x[c])) {
      assert_true(isnan(t->y[c]) && isnan(t->invstd[c]) && isnan(t->mean[c]));
      assert_true(isnan(t->running_mean[c]) && isnan(t->running_var[c]));
      continue;
    }
    const float bias = t->bias ? t->bias[c] : 0;
    assert_true(eps > 0 ? t->y[c] == bias : isnan(t->y[c]));
    if (!t->bias && eps > 0) assert_false(signbit(t->y[c]));
    assert_true(t->mean[c] == t->x[c]);
    assert_true(t->invstd[c] == invstd);
    assert_true(t->running_mean[c] == t->x[c] / 2); /* of 0 and x */
    assert_true(t->running_var[c] == 0.5f);         /* of 1 and 0 */
  }
}

static void one_value_is_bias(void **state) {
  clnorm_context *context = *state;
  float weight[ONES], bias[ONES];
  fixture_fill(weight, ONES, 5, 0, 2);
  fixture_fill(bias, ONES, 6, 0, 3);
  for (unsigned i = 0; i < 16; i++) {
    training t =
        training_make(dense_desc_defaults(CLNORM_BATCH_STATISTICS, 1, ONES, 1), one_values);
    if (i & 1) t.desc.biased_running_var = true;
    if (i & 2) t.desc.eps = 0;
    if (i & 4) t.weight = weight;
    if (i & 8) t.bias = bias;
    for (size_t v = 0; v < FIXTURE_LENGTH(variants); v++) {
      training_run(context, &t, variants[v]);
      check_one_value(&t, t.desc.eps);
    }
    training_free(&t);
  }
}

/* ---- Parameters that are not finite -------------------------------------------------------------- */

/* x - mean and invstd are as ever; what comes of them is not finite in any element. */
static void a_weight_that_is_not_finite(void **state) {
  clnorm_context *context = *state;
  enum { N = 3, S = 50 };
  static const float weight[] = {INFINITY, -INFINITY, NAN, 1};
  enum { C = FIXTURE_LENGTH(weight) };
  static float x[N * C * S];
  fixture_fill(x, N * C * S, 8, 4, 2);
  for (int i = 0; i < S; i++) x[i] = 4; /* in a channel with lo = 0, and x = mean, or not */
  training t = training_make(dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S), x);
  t.weight = weight;
  for (size_t v = 0; v < FIXTURE_LENGTH(variants); v++) {
    training_run(context, &t, variants[v]);
    for (int i = 0; i < N * C * S; i++) assert_int_equal(isfinite(t.y[i]) != 0, i / S % C == 3);
    for (int c = 0; c < C; c++) assert_true(isfinite(t.invstd[c]) && isfinite(t.running_var[c]));
  }
  training_free(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sums_that_overflow_give_nan),
      cmocka_unit_test(a_given_variance_may_be_infinite),
      cmocka_unit_test(one_value_is_bias),
      cmocka_unit_test(a_weight_that_is_not_finite),
  };
  return cmocka_run_group_tests_name("range", tests, fixture_set_up, fixture_tear_down);
}
