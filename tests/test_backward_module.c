/* A module's backward is that of its last forward pass, in every state; its bits are those of a plan that is given the
 * statistics of that pass. */
#include "fixture.h"

#include <math.h>
#include <string.h>

enum { N = 6, C = 5, S = 77, COUNT = N * C * S };

/* What a pass is given and gives; statistics in the caller's memory, where it wants them. */
typedef struct memory {
  fixture_tensor x, y, dy, dx, dweight, dbias, mean, low, invstd;
} memory;

typedef struct results {
  float dx[COUNT], dweight[C], dbias[C];
} results;

typedef struct bench {
  clnorm_context *context;
  clnorm_batchnorm *bn;
  clnorm_tensor tensor;
  float x[COUNT], dy[COUNT], weight[C];
  memory m;
} bench;

static void make_memory(bench *t) {
  clnorm_context *k = t->context;
  t->m.x = fixture_tensor_make(k, t->x, COUNT);
  t->m.y = fixture_tensor_make(k, NULL, COUNT);
  t->m.dy = fixture_tensor_make(k, t->dy, COUNT);
  t->m.dx = fixture_tensor_make(k, NULL, COUNT);
  fixture_tensor *const rest[] = {&t->m.dweight, &t->m.dbias, &t->m.mean, &t->m.low, &t->m.invstd};
  for (size_t i = 0; i < FIXTURE_LENGTH(rest); i++) *rest[i] = fixture_tensor_make(k, NULL, C);
}

static void bench_make(bench *t, clnorm_context *context, const clnorm_batchnorm_options *options) {
  const int64_t dims[] = {N, C, S};
  float bias[C];
  memset(t, 0, sizeof *t);
  t->context = context;
  clnorm_tensor_nchw(&t->tensor, CLNORM_F32, 3, dims);
  fixture_fill(t->x, COUNT, 1, 0.5, 2);
  fixture_fill(t->dy, COUNT, 2, 0.25, 1);
  fixture_fill(t->weight, C, 3, 1, 0.25);
  fixture_fill(bias, C, 4, 0, 1);
  make_memory(t);
  assert_ok(context, clnorm_batchnorm_create(context, options, &t->bn));
  if (!options->affine) return;
  assert_ok(context, clnorm_batchnorm_set(t->bn, CLNORM_WEIGHT, CLNORM_F32, t->weight, C));
  assert_ok(context, clnorm_batchnorm_set(t->bn, CLNORM_BIAS, CLNORM_F32, bias, C));
}

static void bench_free(bench *t) {
  fixture_tensor *all = (fixture_tensor *)&t->m;
  for (size_t i = 0; i < sizeof t->m / sizeof *all; i++) fixture_tensor_free(t->context, &all[i]);
  clnorm_batchnorm_destroy(t->bn);
}

static clnorm_batchnorm_options options_of(bool track) {
  clnorm_batchnorm_options options;
  clnorm_batchnorm_options_init(&options, sizeof options, C);
  options.spatial_rank = 1;
  options.track_running_stats = track;
  return options;
}

/* saved: into the caller's memory. */
static void forward(bench *t, bool saved) {
  const clnorm_binding bindings[] = {clnorm_bind(CLNORM_X, t->m.x.view),
                                     clnorm_bind(CLNORM_Y, t->m.y.view),
                                     clnorm_bind(CLNORM_SAVED_MEAN, t->m.mean.view),
                                     clnorm_bind(CLNORM_SAVED_MEAN_LOW, t->m.low.view),
                                     clnorm_bind(CLNORM_SAVED_INVSTD, t->m.invstd.view)};
  assert_ok(t->context, clnorm_batchnorm_forward(t->bn, &t->tensor, bindings, saved ? 5 : 2, NULL));
}

/* roles of what is bound beside x and dy; saved: the caller's statistics as well. */
static clnorm_status backward(bench *t, uint32_t wanted, bool saved, bool accumulate) {
  clnorm_binding bindings[8] = {clnorm_bind(CLNORM_X, t->m.x.view),
                                clnorm_bind(CLNORM_DY, t->m.dy.view)};
  clnorm_run_options options;
  size_t count = 2;
  clnorm_run_options_init(&options, sizeof options);
  options.accumulate = accumulate;
  if (wanted & CLNORM_GRADIENT_DX) bindings[count++] = clnorm_bind(CLNORM_DX, t->m.dx.view);
  if (wanted & CLNORM_GRADIENT_DWEIGHT)
    bindings[count++] = clnorm_bind(CLNORM_DWEIGHT, t->m.dweight.view);
  if (wanted & CLNORM_GRADIENT_DBIAS)
    bindings[count++] = clnorm_bind(CLNORM_DBIAS, t->m.dbias.view);
  if (saved) {
    bindings[count++] = clnorm_bind(CLNORM_SAVED_MEAN, t->m.mean.view);
    bindings[count++] = clnorm_bind(CLNORM_SAVED_MEAN_LOW, t->m.low.view);
    bindings[count++] = clnorm_bind(CLNORM_SAVED_INVSTD, t->m.invstd.view);
  }
  return clnorm_batchnorm_backward(t->bn, &t->tensor, bindings, count, &options);
}

#define ALL (CLNORM_GRADIENT_DX | CLNORM_GRADIENT_DWEIGHT | CLNORM_GRADIENT_DBIAS)

static results read_results(bench *t) {
  results r;
  fixture_tensor_read(t->context, &t->m.dx, r.dx);
  fixture_tensor_read(t->context, &t->m.dweight, r.dweight);
  fixture_tensor_read(t->context, &t->m.dbias, r.dbias);
  return r;
}

static results gradients(bench *t, bool saved) {
  assert_ok(t->context, backward(t, ALL, saved, false));
  return read_results(t);
}

/* The gradients by the statistics that are in the caller's memory, from a plan of its own. */
static results planned(bench *t) {
  clnorm_problem problem;
  clnorm_plan *plan;
  clnorm_problem_init(&problem, sizeof problem);
  assert_ok(t->context, clnorm_batchnorm_backward_problem(t->bn, &t->tensor, &problem));
  assert_int_equal(problem.operation, CLNORM_BACKWARD);
  assert_ok(t->context, clnorm_plan_create(t->context, &problem, &plan));
  const clnorm_binding bindings[] = {
      clnorm_bind(CLNORM_X, t->m.x.view),
      clnorm_bind(CLNORM_DY, t->m.dy.view),
      clnorm_bind(CLNORM_WEIGHT, clnorm_batchnorm_memory(t->bn, CLNORM_WEIGHT)),
      clnorm_bind(CLNORM_SAVED_MEAN, t->m.mean.view),
      clnorm_bind(CLNORM_SAVED_MEAN_LOW, t->m.low.view),
      clnorm_bind(CLNORM_SAVED_INVSTD, t->m.invstd.view),
      clnorm_bind(CLNORM_DX, t->m.dx.view),
      clnorm_bind(CLNORM_DWEIGHT, t->m.dweight.view),
      clnorm_bind(CLNORM_DBIAS, t->m.dbias.view)};
  assert_ok(t->context, clnorm_run(plan, bindings, FIXTURE_LENGTH(bindings), NULL));
  const results r = read_results(t);
  clnorm_plan_destroy(plan);
  return r;
}

static void assert_same(const results *a, const results *b) {
  assert_memory_equal(a->dx, b->dx, sizeof a->dx);
  assert_memory_equal(a->dweight, b->dweight, sizeof a->dweight);
  assert_memory_equal(a->dbias, b->dbias, sizeof a->dbias);
}

/* dx flows through the statistics: over a channel it sums up to nothing, and so it does with x. */
static void assert_through_statistics(const bench *t, const results *r) {
  for (int c = 0; c < C; c++) {
    double sum = 0, with_x = 0;
    for (int n = 0; n < N; n++)
      for (int s = 0; s < S; s++) {
        const int i = (n * C + c) * S + s;
        sum += r->dx[i];
        with_x += r->dx[i] * (double)t->x[i];
      }
    assert_true(fabs(sum) < 1e-4 && fabs(with_x) < 1e-3 && fabsf(r->dbias[c]) > 1);
  }
}

/* dx is dy times a constant of the channel. */
static void assert_constants(const bench *t, const results *r, const float *var) {
  for (int i = 0; i < COUNT; i++) {
    const int c = i / S % C;
    const double dx = t->dy[i] * (double)t->weight[c] / sqrt((double)var[c] + 1e-5);
    assert_true(fabs(r->dx[i] - dx) <= 4e-7 * fabs(dx));
  }
}

static void no_forward(void **state) {
  bench t;
  const clnorm_batchnorm_options options = options_of(true);
  clnorm_problem problem;
  bench_make(&t, *state, &options);
  clnorm_problem_init(&problem, sizeof problem);
  clnorm_status status = backward(&t, ALL, false, false);
  fixture_rejected(clnorm_last_error(t.context), status, CLNORM_ERROR_STATE,
                   "last forward pass|has run none", "no forward pass");
  status = clnorm_batchnorm_backward_problem(t.bn, &t.tensor, &problem);
  fixture_rejected(clnorm_last_error(t.context), status, CLNORM_ERROR_STATE,
                   "last forward pass|has run none", "no forward pass");
  bench_free(&t);
}

/* Whatever is called between forward and backward. */
static void training(void **state) {
  bench t;
  const clnorm_batchnorm_options options = options_of(true);
  bench_make(&t, *state, &options);
  forward(&t, true);
  const results expected = planned(&t);
  assert_through_statistics(&t, &expected);
  const results again = gradients(&t, false); /* from x: the statistics are the caller's */
  assert_same(&again, &expected);
  forward(&t, false);
  const results kept = gradients(&t, false);
  assert_same(&kept, &expected);
  clnorm_batchnorm_set_training(t.bn, false);
  assert_ok(t.context, clnorm_batchnorm_reset_running_stats(t.bn));
  const results later = gradients(&t, false);
  assert_same(&later, &expected);
  bench_free(&t);
}

static void evaluation(void **state) {
  bench t;
  float mean[C], var[C], changed[C] = {0, 0, 0, 0, 0};
  const clnorm_batchnorm_options options = options_of(true);
  bench_make(&t, *state, &options);
  forward(&t, false);
  clnorm_batchnorm_set_training(t.bn, false);
  forward(&t, true);
  assert_ok(t.context, clnorm_batchnorm_get(t.bn, CLNORM_RUNNING_MEAN, CLNORM_F32, mean, C));
  assert_ok(t.context, clnorm_batchnorm_get(t.bn, CLNORM_RUNNING_VAR, CLNORM_F32, var, C));
  clnorm_batchnorm_set_training(t.bn, true);
  const results expected = planned(&t), r = gradients(&t, false);
  assert_same(&r, &expected);
  assert_constants(&t, &r, var);
  assert_ok(t.context, clnorm_batchnorm_set(t.bn, CLNORM_RUNNING_MEAN, CLNORM_F32, changed, C));
  const clnorm_status status = backward(&t, ALL, false, false);
  fixture_rejected(clnorm_last_error(t.context), status, CLNORM_ERROR_STATE,
                   "running statistics were set|saved_mean", "set between");
  const results bound = gradients(&t, true);
  assert_same(&bound, &expected);
  bench_free(&t);
}

/* Without tracking, or with tracking switched off, evaluation too is with the statistics of the batch. */
static void without_tracking(void **state) {
  for (int switched = 0; switched < 2; switched++) {
    bench t;
    const clnorm_batchnorm_options options = options_of(switched);
    bench_make(&t, *state, &options);
    assert_ok(t.context, clnorm_batchnorm_set_track_running_stats(t.bn, false));
    clnorm_batchnorm_set_training(t.bn, false);
    forward(&t, false);
    const results r = gradients(&t, false);
    assert_through_statistics(&t, &r);
    bench_free(&t);
  }
}

static void frozen(void **state) {
  bench t;
  float var[C] = {1, 2, 3, 4, 5};
  clnorm_batchnorm_options options = options_of(true);
  options.freeze = true;
  bench_make(&t, *state, &options);
  assert_ok(t.context, clnorm_batchnorm_set(t.bn, CLNORM_RUNNING_VAR, CLNORM_F32, var, C));
  forward(&t, false);
  const results r = gradients(&t, false);
  assert_constants(&t, &r, var);
  assert_ok(t.context, backward(&t, CLNORM_GRADIENT_DWEIGHT | CLNORM_GRADIENT_DBIAS, false, false));
  fixture_assert_poisoned(t.context, &t.m.dweight, "frozen");
  fixture_assert_poisoned(t.context, &t.m.dbias, "frozen");
  bench_free(&t);
}

static void what_is_wanted(void **state) {
  bench t;
  const clnorm_batchnorm_options options = options_of(true);
  bench_make(&t, *state, &options);
  forward(&t, false);
  assert_ok(t.context, backward(&t, CLNORM_GRADIENT_DBIAS, false, false));
  fixture_assert_poisoned(t.context, &t.m.dx, "not wanted");
  fixture_assert_poisoned(t.context, &t.m.dweight, "not wanted");
  const results once = gradients(&t, false);
  assert_ok(t.context, backward(&t, ALL, false, true));
  const results twice = read_results(&t);
  for (int c = 0; c < C; c++) {
    assert_true(twice.dbias[c] == 2 * once.dbias[c]);
    assert_true(fabsf(twice.dweight[c] - 2 * once.dweight[c]) <= 1e-6f * fabsf(once.dweight[c]));
  }
  assert_memory_equal(once.dx, twice.dx, sizeof once.dx);
  bench_free(&t);
}

static void what_is_refused(void **state) {
  bench t;
  clnorm_batchnorm_options options = options_of(true);
  options.affine = false;
  bench_make(&t, *state, &options);
  clnorm_context *context = t.context;
  forward(&t, false);
  clnorm_status status = backward(&t, ALL, false, false);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT,
                   "dweight is bound|affine", "no parameters");
  assert_ok(context, backward(&t, CLNORM_GRADIENT_DX, false, false));
  status = backward(&t, 0, false, false);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT,
                   "none of dx, dweight and dbias", "nothing");
  const clnorm_binding y = clnorm_bind(CLNORM_Y, t.m.y.view);
  status = clnorm_batchnorm_backward(t.bn, &t.tensor, &y, 1, NULL);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT,
                   "y is bound|no such operand", "y");
  t.tensor.dims[0] = N - 1;
  status = backward(&t, CLNORM_GRADIENT_DX, false, false);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT,
                   "x.dims[0] is 5|last forward pass it was 6", "another batch");
  t.tensor.rank = 4;
  status = backward(&t, CLNORM_GRADIENT_DX, false, false);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT,
                   "expected 2D or 3D input", "rank");
  bench_free(&t);
}

/* A pass of no samples is one all the same. */
static void nothing_to_do(void **state) {
  bench t;
  float zeros[C] = {0};
  const clnorm_batchnorm_options options = options_of(true);
  bench_make(&t, *state, &options);
  t.tensor.dims[0] = 0;
  forward(&t, false);
  assert_ok(t.context, backward(&t, ALL, false, false));
  const results r = read_results(&t);
  fixture_assert_poisoned(t.context, &t.m.dx, "no samples");
  assert_memory_equal(r.dweight, zeros, sizeof zeros);
  assert_memory_equal(r.dbias, zeros, sizeof zeros);
  bench_free(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_forward),      cmocka_unit_test(training),
      cmocka_unit_test(evaluation),      cmocka_unit_test(without_tracking),
      cmocka_unit_test(frozen),          cmocka_unit_test(what_is_wanted),
      cmocka_unit_test(what_is_refused), cmocka_unit_test(nothing_to_do)};
  return cmocka_run_group_tests_name("backward_module", tests, fixture_set_up, fixture_tear_down);
}
