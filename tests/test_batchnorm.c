/* BatchNorm: every row of its table of states, the conventions of momentum, and its corners. Numbers
 * are computed here, in double, from the definition. */
#include "fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 3 };

/* A module under test beside the same module in double. */
typedef struct pair {
  clnorm_context *context;
  clnorm_batchnorm *bn;
  clnorm_batchnorm_options options;
  double weight[CHANNELS], bias[CHANNELS], mean[CHANNELS], var[CHANNELS];
  int64_t batches;
} pair;

static void set(pair *p, int32_t parameter, double *kept, uint64_t seed, double mean,
                double spread) {
  float values[CHANNELS];
  fixture_fill(values, CHANNELS, seed, mean, spread);
  for (int c = 0; c < CHANNELS; c++) {
    if (parameter == CLNORM_RUNNING_VAR) values[c] = fabsf(values[c]) + 0.25f;
    kept[c] = values[c];
  }
  assert_ok(p->context, dense_batchnorm_set(p->bn, parameter, values, CHANNELS));
}

/* A module with parameters and running statistics that are not the initial ones. */
static pair pair_make(clnorm_context *context, clnorm_batchnorm_options options) {
  pair p = {.context = context, .options = options};
  assert_ok(context, clnorm_batchnorm_create(context, &options, &p.bn));
  for (int c = 0; c < CHANNELS; c++) p.weight[c] = p.var[c] = 1;
  if (options.affine) {
    set(&p, CLNORM_WEIGHT, p.weight, 11, 1.0, 0.5);
    set(&p, CLNORM_BIAS, p.bias, 12, 0.0, 2.0);
  }
  if (options.track_running_stats) {
    set(&p, CLNORM_RUNNING_MEAN, p.mean, 13, 1.0, 1.0);
    set(&p, CLNORM_RUNNING_VAR, p.var, 14, 2.0, 1.0);
  }
  return p;
}

static clnorm_batchnorm_options options_of(bool affine, bool track, bool freeze) {
  clnorm_batchnorm_options options = dense_batchnorm_options(CHANNELS);
  options.affine = affine;
  options.track_running_stats = track;
  options.freeze = freeze;
  return options;
}

/* What the definition asks of one batch: the reference forgets as much as momentum says. */
static void expect_update(pair *p, const fixture_moments *moments, int c) {
  double keep = p->options.momentum;
  if (p->options.momentum_convention == CLNORM_MOMENTUM_NEW) keep = 1 - keep;
  if (p->options.momentum_convention == CLNORM_MOMENTUM_CUMULATIVE) {
    keep = (double)p->batches / ((double)p->batches + 1);
  }
  double var = moments->var;
  if (!p->options.biased_running_var && moments->count > 1)
    var *= moments->count / (moments->count - 1);
  p->mean[c] = keep * p->mean[c] + (1 - keep) * moments->mean;
  p->var[c] = keep * p->var[c] + (1 - keep) * var;
}

/* The running statistics are exactly (updated false) or nearly the reference's. */
static void check_running(pair *p, bool updated) {
  float mean[CHANNELS], var[CHANNELS];
  if (!p->options.track_running_stats) return;
  assert_ok(p->context, dense_batchnorm_get(p->bn, CLNORM_RUNNING_MEAN, mean, CHANNELS));
  assert_ok(p->context, dense_batchnorm_get(p->bn, CLNORM_RUNNING_VAR, var, CHANNELS));
  for (int c = 0; c < CHANNELS; c++) {
    const double ulps = updated ? 8 : 0;
    fixture_assert_near(mean[c], p->mean[c], fabs(p->mean[c]) + 4, ulps, "running_mean");
    fixture_assert_near(var[c], p->var[c], p->var[c], ulps, "running_var");
    p->mean[c] = mean[c]; /* so that errors of several steps do not add up */
    p->var[c] = var[c];
  }
  assert_int_equal(clnorm_batchnorm_num_batches_tracked(p->bn), p->batches);
}

/* One forward pass of fresh values, checked: output, saved statistics, running statistics. */
static void step(pair *p, uint64_t seed, int64_t n, int64_t h, int64_t w, bool uses_batch,
                 bool updates) {
  const int64_t dims[4] = {n, CHANNELS, h, w};
  const size_t count = (size_t)(n * CHANNELS * h * w);
  float *x = malloc(count * sizeof(float)), *y = malloc(count * sizeof(float));
  fixture_fill(x, count, seed, 1.5, 2.0);
  fixture_tensor tx = fixture_tensor_make(p->context, x, count);
  fixture_tensor ty = fixture_tensor_make(p->context, NULL, count);
  fixture_tensor tm = fixture_tensor_make(p->context, NULL, CHANNELS);
  fixture_tensor ti = fixture_tensor_make(p->context, NULL, CHANNELS);
  const dense_args args = {
      .x = tx.view, .y = ty.view, .saved_mean = tm.view, .saved_invstd = ti.view};
  assert_ok(p->context, dense_batchnorm_forward(p->bn, 4, dims, &args));
  fixture_tensor_read(p->context, &ty, y);
  float mean[CHANNELS], invstd[CHANNELS];
  fixture_tensor_read(p->context, &tm, mean);
  fixture_tensor_read(p->context, &ti, invstd);
  const double eps = (float)p->options.eps;
  for (int c = 0; c < CHANNELS; c++) {
    const fixture_moments batch = fixture_channel_moments(x, n, CHANNELS, h * w, c);
    const double m = uses_batch ? batch.mean : p->mean[c];
    const double v = uses_batch ? batch.var : p->var[c];
    const fixture_channel by = {m, v, eps, p->weight[c], p->bias[c]};
    fixture_assert_normalized(x, y, (int64_t[]){n, CHANNELS, h * w}, c, &by);
    fixture_assert_near(mean[c], m, fabs(m) + 1, uses_batch ? 4 : 0, "saved_mean");
    fixture_assert_near(invstd[c], 1 / sqrt(v + eps), 1 / sqrt(v + eps), 4, "saved_invstd");
    if (updates) expect_update(p, &batch, c);
  }
  if (updates) p->batches++;
  check_running(p, updates);
  fixture_tensor_free(p->context, &tx);
  fixture_tensor_free(p->context, &ty);
  fixture_tensor_free(p->context, &tm);
  fixture_tensor_free(p->context, &ti);
  free(x);
  free(y);
}

/* ---- The table of states ----------------------------------------------------------------------- */

typedef struct state_row {
  const char *name;
  bool track_at_creation, track_now, freeze, training;
  bool uses_batch, updates;
} state_row;

static const state_row states[] = {
    /* name                        created now    freeze training  batch  updates */
    {"training, track", true, true, false, true, true, true},
    {"evaluation, track", true, true, false, false, false, false},
    {"training, never tracked", false, false, false, true, true, false},
    {"evaluation, never tracked", false, false, false, false, true, false},
    {"training, switched off", true, false, false, true, true, false},
    {"evaluation, switched off", true, false, false, false, true, false},
    {"training, frozen", true, true, true, true, false, false},
    {"evaluation, frozen", true, true, true, false, false, false},
    {"training, frozen, switched off", true, false, true, true, false, false},
    {"evaluation, frozen, switched off", true, false, true, false, false, false},
};

static void every_state_of_the_table(void **state) {
  clnorm_context *context = *state;
  for (size_t i = 0; i < 2 * FIXTURE_LENGTH(states); i++) {
    const state_row *row = &states[i / 2];
    const bool affine = i % 2 == 0;
    print_message("  %s, %s\n", row->name, affine ? "affine" : "no affine");
    pair p = pair_make(context, options_of(affine, row->track_at_creation, row->freeze));
    if (row->track_now != row->track_at_creation) {
      assert_ok(context, clnorm_batchnorm_set_track_running_stats(p.bn, row->track_now));
    }
    assert_int_equal(clnorm_batchnorm_track_running_stats(p.bn), row->track_now);
    clnorm_batchnorm_set_training(p.bn, row->training);
    assert_int_equal(clnorm_batchnorm_training(p.bn), row->training);
    step(&p, 20 + i, 4, 5, 7, row->uses_batch, row->updates);
    step(&p, 40 + i, 2, 40, 33, row->uses_batch, row->updates); /* planes of several segments */
    clnorm_batchnorm_destroy(p.bn);
  }
}

static void initial_values(void **state) {
  clnorm_context *context = *state;
  const clnorm_batchnorm_options options = dense_batchnorm_options(CHANNELS);
  assert_int_equal(options.num_features, CHANNELS);
  assert_true(options.eps == 1e-5 && options.momentum == 0.9);
  assert_int_equal(options.momentum_convention, CLNORM_MOMENTUM_KEPT);
  assert_true(options.affine && options.track_running_stats);
  assert_false(options.freeze || options.biased_running_var);
  clnorm_batchnorm *bn = NULL;
  assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
  assert_true(clnorm_batchnorm_training(bn));
  assert_true(clnorm_batchnorm_track_running_stats(bn));
  assert_int_equal(clnorm_batchnorm_num_batches_tracked(bn), 0);
  static const float initial[] = {1, 0, 0, 1}; /* weight, bias, running_mean, running_var */
  for (int parameter = CLNORM_WEIGHT; parameter <= CLNORM_RUNNING_VAR; parameter++) {
    float values[CHANNELS];
    assert_ok(context, dense_batchnorm_get(bn, (int32_t)parameter, values, CHANNELS));
    for (int c = 0; c < CHANNELS; c++) assert_true(values[c] == initial[parameter - CLNORM_WEIGHT]);
  }
  clnorm_batchnorm_destroy(bn);
}

static void absent_parameters_are_errors_of_state(void **state) {
  clnorm_context *context = *state;
  pair p = pair_make(context, options_of(false, false, false));
  float values[CHANNELS] = {7, 7, 7};
  for (int parameter = CLNORM_WEIGHT; parameter <= CLNORM_RUNNING_VAR; parameter++) {
    const int32_t which = (int32_t)parameter;
    const char *reason = parameter <= CLNORM_BIAS ? "affine" : "track_running_stats";
    clnorm_status status = dense_batchnorm_get(p.bn, which, values, CHANNELS);
    fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_STATE, reason, "get");
    status = dense_batchnorm_set(p.bn, which, values, CHANNELS);
    fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_STATE, reason, "set");
    const clnorm_memory memory = clnorm_batchnorm_memory(p.bn, which);
    assert_true(memory.host == NULL && memory.cl == NULL);
  }
  assert_true(values[0] == 7 && values[1] == 7 && values[2] == 7);
  assert_ok(context, clnorm_batchnorm_reset_running_stats(p.bn));
  assert_ok(context, clnorm_batchnorm_reset_parameters(p.bn));
  clnorm_batchnorm_destroy(p.bn);
}

/* ---- Switching --------------------------------------------------------------------------------- */

static void tracking_switched_off_and_on_again(void **state) {
  clnorm_context *context = *state;
  pair p = pair_make(context, options_of(true, true, false));
  step(&p, 1, 3, 4, 5, true, true);
  assert_ok(context, clnorm_batchnorm_set_track_running_stats(p.bn, false));
  step(&p, 2, 3, 4, 5, true, false);
  assert_ok(context, clnorm_batchnorm_set_track_running_stats(p.bn, true));
  step(&p, 3, 3, 4, 5, true, true);
  clnorm_batchnorm_set_training(p.bn, false);
  step(&p, 4, 3, 4, 5, false, false);
  clnorm_batchnorm_destroy(p.bn);
}

static void tracking_cannot_begin_later(void **state) {
  clnorm_context *context = *state;
  pair p = pair_make(context, options_of(true, false, false));
  const clnorm_status status = clnorm_batchnorm_set_track_running_stats(p.bn, true);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_STATE, "track_running_stats",
                   "on, created without");
  assert_false(clnorm_batchnorm_track_running_stats(p.bn));
  assert_ok(context, clnorm_batchnorm_set_track_running_stats(p.bn, false));
  step(&p, 1, 2, 3, 4, true, false);
  clnorm_batchnorm_destroy(p.bn);
}

static void a_frozen_module_does_not_look_at_tracking(void **state) {
  clnorm_context *context = *state;
  pair p = pair_make(context, options_of(true, true, true));
  for (int track = 1; track >= 0; track--) {
    assert_ok(context, clnorm_batchnorm_set_track_running_stats(p.bn, track));
    assert_int_equal(clnorm_batchnorm_track_running_stats(p.bn), track);
    step(&p, 1, 2, 3, 4, false, false);
  }
  assert_ok(context, clnorm_batchnorm_set_track_running_stats(p.bn, true));
  step(&p, 2, 2, 3, 4, false, false);
  clnorm_batchnorm_destroy(p.bn);
}

/* ---- Running statistics ------------------------------------------------------------------------ */

typedef struct momentum_row {
  const char *name;
  clnorm_momentum convention;
  double momentum;
  bool biased;
} momentum_row;

static const momentum_row momenta[] = {
    {"kept 0.9", CLNORM_MOMENTUM_KEPT, 0.9, false},
    {"kept 0: the last batch", CLNORM_MOMENTUM_KEPT, 0.0, false},
    {"kept 1: nothing new", CLNORM_MOMENTUM_KEPT, 1.0, false},
    {"new 0.1", CLNORM_MOMENTUM_NEW, 0.1, false},
    {"new 0.25", CLNORM_MOMENTUM_NEW, 0.25, false},
    {"new 1: the last batch", CLNORM_MOMENTUM_NEW, 1.0, false},
    {"cumulative", CLNORM_MOMENTUM_CUMULATIVE, 0.9, false},
    {"kept 0.9, biased", CLNORM_MOMENTUM_KEPT, 0.9, true},
    {"cumulative, biased", CLNORM_MOMENTUM_CUMULATIVE, 0.9, true},
};

static void every_convention_of_momentum(void **state) {
  clnorm_context *context = *state;
  for (size_t i = 0; i < FIXTURE_LENGTH(momenta); i++) {
    print_message("  %s\n", momenta[i].name);
    clnorm_batchnorm_options options = options_of(true, true, false);
    options.momentum_convention = momenta[i].convention;
    options.momentum = momenta[i].momentum;
    options.biased_running_var = momenta[i].biased;
    pair p = pair_make(context, options);
    for (uint64_t k = 0; k < 4; k++) step(&p, 100 * i + k, 2, 3, 5, true, true);
    clnorm_batchnorm_destroy(p.bn);
  }
}

/* 0.9 kept and 0.1 new are the same thing said twice. */
static void conventions_agree(void **state) {
  clnorm_context *context = *state;
  float running[2][CHANNELS];
  for (int i = 0; i < 2; i++) {
    clnorm_batchnorm_options options = options_of(true, true, false);
    options.momentum_convention = i == 0 ? CLNORM_MOMENTUM_KEPT : CLNORM_MOMENTUM_NEW;
    options.momentum = i == 0 ? 0.75 : 0.25;
    pair p = pair_make(context, options);
    step(&p, 5, 2, 6, 6, true, true);
    assert_ok(context, dense_batchnorm_get(p.bn, CLNORM_RUNNING_VAR, running[i], CHANNELS));
    clnorm_batchnorm_destroy(p.bn);
  }
  assert_memory_equal(running[0], running[1], sizeof running[0]);
}

/* The first batch replaces the initial values, and a count that was set goes on from there. */
static void the_cumulative_average_counts(void **state) {
  clnorm_context *context = *state;
  clnorm_batchnorm_options options = options_of(true, true, false);
  options.momentum_convention = CLNORM_MOMENTUM_CUMULATIVE;
  pair p = pair_make(context, options);
  assert_ok(context, clnorm_batchnorm_set_num_batches_tracked(p.bn, 7));
  p.batches = 7;
  step(&p, 1, 2, 3, 5, true, true);
  assert_ok(context, clnorm_batchnorm_reset_running_stats(p.bn));
  p.batches = 0;
  for (int c = 0; c < CHANNELS; c++) {
    p.mean[c] = 0;
    p.var[c] = 1;
  }
  check_running(&p, false);
  step(&p, 2, 2, 3, 5, true, true);
  const clnorm_status status = clnorm_batchnorm_set_num_batches_tracked(p.bn, -1);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT, "-1",
                   "num_batches_tracked");
  assert_int_equal(clnorm_batchnorm_num_batches_tracked(p.bn), 1);
  clnorm_batchnorm_destroy(p.bn);
}

static void resets(void **state) {
  clnorm_context *context = *state;
  pair p = pair_make(context, options_of(true, true, false));
  step(&p, 1, 2, 3, 5, true, true);
  assert_ok(context, clnorm_batchnorm_reset_running_stats(p.bn));
  p.batches = 0;
  for (int c = 0; c < CHANNELS; c++) {
    p.mean[c] = 0;
    p.var[c] = 1;
  }
  check_running(&p, false);
  clnorm_batchnorm_set_training(p.bn, false);
  step(&p, 2, 2, 3, 5, false, false); /* weight and bias were left alone */
  assert_ok(context, clnorm_batchnorm_reset_parameters(p.bn));
  for (int c = 0; c < CHANNELS; c++) {
    p.weight[c] = 1;
    p.bias[c] = 0;
  }
  step(&p, 3, 2, 3, 5, false, false);
  clnorm_batchnorm_destroy(p.bn);
}

/* ---- Corners ----------------------------------------------------------------------------------- */

static void empty_tensors_change_nothing(void **state) {
  clnorm_context *context = *state;
  static const int64_t shapes[][4] = {
      {0, CHANNELS, 4, 5}, {2, CHANNELS, 0, 5}, {2, CHANNELS, 4, 0}, {0, CHANNELS, 0, 0}};
  pair p = pair_make(context, options_of(true, true, false));
  for (size_t i = 0; i < 2 * FIXTURE_LENGTH(shapes); i++) {
    clnorm_batchnorm_set_training(p.bn, i % 2 == 0);
    fixture_tensor mean = fixture_tensor_make(context, NULL, CHANNELS);
    const dense_args absent = {.sync = NULL};
    dense_args saved = absent;
    saved.saved_mean = mean.view;
    assert_ok(context, dense_batchnorm_forward(p.bn, 4, shapes[i / 2], &absent));
    assert_ok(context, dense_batchnorm_forward(p.bn, 4, shapes[i / 2], &saved));
    fixture_assert_poisoned(context, &mean, "saved_mean of an empty tensor");
    check_running(&p, false);
    fixture_tensor_free(context, &mean);
  }
  clnorm_batchnorm_destroy(p.bn);
}

/* One value per channel is its own mean, and has the variance 0. */
static void one_value_per_channel(void **state) {
  clnorm_context *context = *state;
  pair p = pair_make(context, options_of(true, true, false));
  step(&p, 1, 1, 1, 1, true, true);
  clnorm_batchnorm_set_training(p.bn, false);
  step(&p, 2, 1, 1, 1, false, false);
  clnorm_batchnorm_destroy(p.bn);
}

/* Refused by option where the batch would be used, fine elsewhere. */
static void one_value_per_channel_can_be_refused(void **state) {
  clnorm_context *context = *state;
  static const int64_t dims[4] = {1, CHANNELS, 1, 1};
  clnorm_batchnorm_options options = options_of(true, true, false);
  options.refuse_one_value = true;
  pair p = pair_make(context, options);
  const float values[CHANNELS] = {1, 2, 3};
  fixture_tensor x = fixture_tensor_make(context, values, CHANNELS);
  fixture_tensor y = fixture_tensor_make(context, NULL, CHANNELS);
  const dense_args args = {.x = x.view, .y = y.view};
  const clnorm_status status = dense_batchnorm_forward(p.bn, 4, dims, &args);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT, "one value",
                   "one value per channel");
  fixture_assert_poisoned(context, &y, "one value per channel");
  check_running(&p, false);
  clnorm_batchnorm_set_training(p.bn, false);
  step(&p, 1, 1, 1, 1, false, false);
  clnorm_batchnorm_set_training(p.bn, true);
  step(&p, 2, 2, 1, 1, true, true); /* two values are enough */
  fixture_tensor_free(context, &x);
  fixture_tensor_free(context, &y);
  clnorm_batchnorm_destroy(p.bn);
}

/* More shapes than the cache of plans holds, twice round, in both modes. */
static void more_shapes_than_plans_are_kept(void **state) {
  clnorm_context *context = *state;
  pair p = pair_make(context, options_of(true, true, false));
  for (int64_t i = 0; i < 2 * 21; i++) {
    const bool training = i % 3 != 2;
    clnorm_batchnorm_set_training(p.bn, training);
    step(&p, (uint64_t)i, 2, 1 + i % 21, 3, training, training);
  }
  clnorm_batchnorm_destroy(p.bn);
}

/* In place gives the bits of out of place. */
static void in_place(void **state) {
  clnorm_context *context = *state;
  enum { COUNT = 2 * CHANNELS * 30 * 41 };
  static const int64_t dims[4] = {2, CHANNELS, 30, 41};
  static float x[COUNT], y[2][COUNT];
  fixture_fill(x, COUNT, 3, -4.0, 0.5);
  for (int training = 0; training < 2; training++) {
    for (int i = 0; i < 2; i++) {
      pair p = pair_make(context, options_of(true, true, false));
      clnorm_batchnorm_set_training(p.bn, training == 1);
      fixture_tensor tx = fixture_tensor_make(context, x, COUNT);
      fixture_tensor ty = fixture_tensor_make(context, NULL, COUNT);
      const dense_args args = {.x = tx.view, .y = i == 0 ? ty.view : tx.view};
      assert_ok(context, dense_batchnorm_forward(p.bn, 4, dims, &args));
      fixture_tensor_read(context, i == 0 ? &ty : &tx, y[i]);
      if (i == 1) fixture_assert_poisoned(context, &ty, "in place");
      fixture_tensor_free(context, &tx);
      fixture_tensor_free(context, &ty);
      clnorm_batchnorm_destroy(p.bn);
    }
    assert_memory_equal(y[0], y[1], sizeof y[0]);
  }
}

/* The memory handed out is the parameter itself. */
static void parameter_memory_is_the_parameter(void **state) {
  clnorm_context *context = *state;
  pair p = pair_make(context, options_of(true, true, false));
  for (int parameter = CLNORM_WEIGHT; parameter <= CLNORM_RUNNING_VAR; parameter++) {
    const float written[CHANNELS] = {3, 4, 5};
    float read[CHANNELS];
    const clnorm_memory memory = clnorm_batchnorm_memory(p.bn, (int32_t)parameter);
    assert_ok(context, clnorm_memory_write(context, memory, written, sizeof written));
    assert_ok(context, dense_batchnorm_get(p.bn, (int32_t)parameter, read, CHANNELS));
    assert_memory_equal(written, read, sizeof read);
  }
  clnorm_batchnorm_destroy(p.bn);
}

/* ---- Ranks, types, layouts --------------------------------------------------------------------- */

enum { RANK_COUNT = 2 * CHANNELS * 24 };

/* A fresh training module's forward pass of x into y, of RANK_COUNT values. */
static void forward(clnorm_context *context, int32_t spatial_rank, const clnorm_tensor *tensor,
                    const float *x, float *y, float *running) {
  clnorm_batchnorm_options options = options_of(true, true, false);
  clnorm_batchnorm *bn = NULL;
  options.spatial_rank = spatial_rank;
  assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
  fixture_tensor tx = fixture_tensor_make(context, x, RANK_COUNT);
  fixture_tensor ty = fixture_tensor_make(context, NULL, RANK_COUNT);
  const clnorm_binding bindings[2] = {clnorm_bind(CLNORM_X, tx.view),
                                      clnorm_bind(CLNORM_Y, ty.view)};
  assert_ok(context, clnorm_batchnorm_forward(bn, tensor, bindings, 2, NULL));
  fixture_tensor_read(context, &ty, y);
  assert_ok(context, dense_batchnorm_get(bn, CLNORM_RUNNING_VAR, running, CHANNELS));
  fixture_tensor_free(context, &tx);
  fixture_tensor_free(context, &ty);
  clnorm_batchnorm_destroy(bn);
}

/* BatchNorm1d, 2d, 3d and the one of any rank are one operation: the same values give the same bits. */
static void every_rank_gives_the_same_bits(void **state) {
  clnorm_context *context = *state;
  static const struct {
    int32_t spatial_rank, rank;
    int64_t dims[5];
  } rows[] = {
      {1, 3, {2, CHANNELS, 24}}, {2, 4, {2, CHANNELS, 4, 6}}, {3, 5, {2, CHANNELS, 2, 3, 4}},
      {0, 3, {2, CHANNELS, 24}}, {0, 4, {2, CHANNELS, 6, 4}}, {0, 5, {2, CHANNELS, 4, 3, 2}},
  };
  float x[RANK_COUNT], y[2][RANK_COUNT], running[2][CHANNELS];
  fixture_fill(x, RANK_COUNT, 5, 1.0, 3.0);
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_tensor tensor;
    clnorm_tensor_nchw(&tensor, CLNORM_F32, rows[i].rank, rows[i].dims);
    forward(context, rows[i].spatial_rank, &tensor, x, y[i > 0], running[i > 0]);
    assert_memory_equal(y[0], y[i > 0], sizeof y[0]);
    assert_memory_equal(running[0], running[i > 0], sizeof running[0]);
  }
  const fixture_moments moments = fixture_channel_moments(x, 2, CHANNELS, 24, 1);
  const fixture_channel by = {moments.mean, moments.var, 1e-5f, 1, 0};
  fixture_assert_normalized(x, y[0], (int64_t[]){2, CHANNELS, 24}, 1, &by);
}

/* (N, C) in BatchNorm1d and in the one of any rank. */
static void planes_of_one_position(void **state) {
  clnorm_context *context = *state;
  static const int64_t dims[2] = {RANK_COUNT / CHANNELS, CHANNELS};
  float x[RANK_COUNT], y[2][RANK_COUNT], running[2][CHANNELS];
  clnorm_tensor tensor;
  fixture_fill(x, RANK_COUNT, 6, 1.0, 3.0);
  clnorm_tensor_nchw(&tensor, CLNORM_F32, 2, dims);
  for (int i = 0; i < 2; i++) forward(context, 1 - i, &tensor, x, y[i], running[i]);
  assert_memory_equal(y[0], y[1], sizeof y[0]);
  for (int64_t c = 0; c < CHANNELS; c++) {
    const fixture_moments moments = fixture_channel_moments(x, dims[0], CHANNELS, 1, c);
    const fixture_channel by = {moments.mean, moments.var, 1e-5f, 1, 0};
    fixture_assert_normalized(x, y[0], (int64_t[]){dims[0], CHANNELS, 1}, c, &by);
  }
}

static void channels_last_gives_the_same_bits(void **state) {
  clnorm_context *context = *state;
  static const int64_t dims[4] = {2, CHANNELS, 4, 6};
  float x[2][RANK_COUNT], y[2][RANK_COUNT], running[2][CHANNELS];
  clnorm_tensor tensors[2];
  clnorm_difference d;
  clnorm_tensor_nchw(&tensors[0], CLNORM_F32, 4, dims);
  clnorm_tensor_nhwc(&tensors[1], CLNORM_F32, 4, dims);
  fixture_fill(x[0], RANK_COUNT, 7, 1.0, 3.0);
  for (int i = 0; i < RANK_COUNT; i++) {
    const int n = i / (CHANNELS * 24), c = i / 24 % CHANNELS, at = i % 24;
    x[1][(n * 24 + at) * CHANNELS + c] = x[0][i];
  }
  for (int i = 0; i < 2; i++) forward(context, 2, &tensors[i], x[i], y[i], running[i]);
  clnorm_difference_init(&d, sizeof d);
  clnorm_compare(&tensors[0], y[0], &tensors[1], y[1], &d);
  assert_int_equal(d.elements, RANK_COUNT);
  assert_int_equal(d.differing_elements, 0);
  assert_memory_equal(running[0], running[1], sizeof running[0]);
}

/* NULL where the device has no doubles, which it says. */
static clnorm_batchnorm *make_wide(clnorm_context *context) {
  clnorm_batchnorm_options options = dense_batchnorm_options(CHANNELS);
  clnorm_batchnorm *bn = NULL;
  options.dtype = CLNORM_F64;
  const clnorm_status status = clnorm_batchnorm_create(context, &options, &bn);
  if (status == CLNORM_ERROR_UNSUPPORTED) { /* a device without doubles says so */
    fixture_rejected(clnorm_last_error(context), status, status, "f64", "no doubles");
    assert_null(bn);
    return NULL;
  }
  assert_ok(context, status);
  return bn;
}

/* Parameters of f64: kept to the last bit, handed out as f32 rounded once. */
static void parameters_of_doubles(void **state) {
  clnorm_context *context = *state;
  static const double weight[CHANNELS] = {1.0 / 3, 1 + 0x1p-24, -0x1p-200};
  clnorm_batchnorm *bn = make_wide(context);
  if (!bn) return;
  double wide[CHANNELS];
  float narrow[CHANNELS];
  assert_ok(context, clnorm_batchnorm_set(bn, CLNORM_WEIGHT, CLNORM_F64, weight, CHANNELS));
  assert_ok(context, clnorm_batchnorm_get(bn, CLNORM_WEIGHT, CLNORM_F64, wide, CHANNELS));
  assert_memory_equal(wide, weight, sizeof wide);
  assert_ok(context, clnorm_batchnorm_get(bn, CLNORM_WEIGHT, CLNORM_F32, narrow, CHANNELS));
  assert_true(narrow[0] == (float)(1.0 / 3) && narrow[1] == 1 && narrow[2] == 0);
  narrow[2] = 0.1f;
  assert_ok(context, clnorm_batchnorm_set(bn, CLNORM_WEIGHT, CLNORM_F32, narrow, CHANNELS));
  assert_ok(context, clnorm_batchnorm_get(bn, CLNORM_WEIGHT, CLNORM_F64, wide, CHANNELS));
  assert_true(wide[1] == 1 && wide[2] == (double)0.1f);
  clnorm_batchnorm_destroy(bn);
}

static void a_module_of_doubles(void **state) {
  clnorm_context *context = *state;
  static const int64_t dims[4] = {2, CHANNELS, 1, 2};
  static const double x[12] = {1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7, 8};
  double wide[CHANNELS];
  clnorm_batchnorm *bn = make_wide(context);
  if (!bn) return;
  float raw[24];
  double y[12];
  memcpy(raw, x, sizeof raw);
  fixture_tensor tx = fixture_tensor_make(context, raw, 24);
  fixture_tensor ty = fixture_tensor_make(context, NULL, 24);
  const clnorm_binding bindings[2] = {clnorm_bind(CLNORM_X, tx.view),
                                      clnorm_bind(CLNORM_Y, ty.view)};
  clnorm_tensor tensor;
  clnorm_tensor_nchw(&tensor, CLNORM_F32, 4, dims);
  const clnorm_status narrow_x = clnorm_batchnorm_forward(bn, &tensor, bindings, 2, NULL);
  fixture_rejected(clnorm_last_error(context), narrow_x, CLNORM_ERROR_INVALID_ARGUMENT,
                   "parameters are f64|x of f32", "x of f32");
  clnorm_tensor_nchw(&tensor, CLNORM_F64, 4, dims);
  assert_ok(context, clnorm_batchnorm_forward(bn, &tensor, bindings, 2, NULL));
  fixture_tensor_read(context, &ty, raw);
  memcpy(y, raw, sizeof y);
  for (int c = 0; c < CHANNELS; c++) { /* mean 2c + 2.5, biased variance 1.25 */
    const double expected = -1.5 / sqrt(1.25 + 1e-5);
    assert_true(fabs(y[2 * c] - expected) <= 1e-14);
  }
  assert_ok(context, clnorm_batchnorm_get(bn, CLNORM_RUNNING_MEAN, CLNORM_F64, wide, CHANNELS));
  for (int c = 0; c < CHANNELS; c++) assert_true(fabs(wide[c] - 0.1 * (2 * c + 2.5)) <= 1e-15);
  fixture_tensor_free(context, &tx);
  fixture_tensor_free(context, &ty);
  clnorm_batchnorm_destroy(bn);
}

/* The problem of a forward pass follows the module's state, and refuses what forward refuses. */
static void the_problem_of_a_module(void **state) {
  clnorm_context *context = *state;
  static const int64_t dims[4] = {2, CHANNELS, 4, 5};
  clnorm_batchnorm_options options = options_of(true, true, false);
  clnorm_batchnorm *bn = NULL;
  clnorm_tensor x;
  clnorm_problem problem, before;
  options.eps = 0.25;
  options.biased_running_var = options.refuse_one_value = true;
  assert_ok(context, clnorm_batchnorm_create(context, &options, &bn));
  clnorm_tensor_nhwc(&x, CLNORM_F16, 4, dims);
  for (int training = 1; training >= 0; training--) {
    clnorm_problem_init(&problem, sizeof problem);
    clnorm_batchnorm_set_training(bn, training);
    assert_ok(context, clnorm_batchnorm_problem(bn, &x, &problem));
    assert_int_equal(problem.operation, CLNORM_FORWARD);
    assert_int_equal(problem.statistics,
                     training ? CLNORM_BATCH_STATISTICS : CLNORM_GIVEN_STATISTICS);
    assert_true(problem.eps == 0.25 && problem.biased_running_var && problem.refuse_one_value);
    assert_memory_equal(&problem.tensors[CLNORM_X], &x, sizeof x);
    assert_int_equal(problem.tensors[CLNORM_Y].rank, 0);
  }
  before = problem;
  clnorm_tensor_nchw(&x, CLNORM_F32, 3, dims);
  clnorm_status status = clnorm_batchnorm_problem(bn, &x, &problem);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT,
                   "expected 4D input (got 3D input)", "rank 3");
  status = clnorm_batchnorm_problem(bn, NULL, &problem);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT, "x is NULL",
                   "no x");
  assert_memory_equal(&problem, &before, sizeof problem);
  clnorm_batchnorm_destroy(bn);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(initial_values),
      cmocka_unit_test(every_state_of_the_table),
      cmocka_unit_test(absent_parameters_are_errors_of_state),
      cmocka_unit_test(tracking_switched_off_and_on_again),
      cmocka_unit_test(tracking_cannot_begin_later),
      cmocka_unit_test(a_frozen_module_does_not_look_at_tracking),
      cmocka_unit_test(every_convention_of_momentum),
      cmocka_unit_test(conventions_agree),
      cmocka_unit_test(the_cumulative_average_counts),
      cmocka_unit_test(resets),
      cmocka_unit_test(empty_tensors_change_nothing),
      cmocka_unit_test(one_value_per_channel),
      cmocka_unit_test(one_value_per_channel_can_be_refused),
      cmocka_unit_test(more_shapes_than_plans_are_kept),
      cmocka_unit_test(in_place),
      cmocka_unit_test(parameter_memory_is_the_parameter),
      cmocka_unit_test(every_rank_gives_the_same_bits),
      cmocka_unit_test(planes_of_one_position),
      cmocka_unit_test(channels_last_gives_the_same_bits),
      cmocka_unit_test(parameters_of_doubles),
      cmocka_unit_test(a_module_of_doubles),
      cmocka_unit_test(the_problem_of_a_module),
  };
  return cmocka_run_group_tests(tests, fixture_set_up, fixture_tear_down);
}
