/* What is promised where subnormal values are flushed (cases/promise.h): ordinary data are inside as a
 * whole; what is inside is the value that the CPU path gives, and keeps it where the processor flushes
 * operands, results, or both; what is outside is something that really differs. And what is promised of the
 * saved statistics: y comes from them again, bit by bit. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "isa.h"
#include "planned_schedule.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* ---- A run of the CPU path's items under a floating-point mode ------------------------------------ */

typedef struct results {
  float *values[CLNORM_NUM_OUTPUTS];
  int64_t counts[CLNORM_NUM_OUTPUTS];
} results;

/* An operand as the library gets it; NULL where it is absent. */
static float *floats(const double *values, int64_t count) {
  if (!values) return NULL;
  float *result = malloc(((size_t)count + 1) * sizeof *result);
  assert_non_null(result);
  for (int64_t i = 0; i < count; i++) result[i] = (float)values[i];
  return result;
}

static void results_make(results *r, const clnorm_case_problem *problem) {
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) {
    r->counts[o] = clnorm_case_problem_output_count(problem, (clnorm_output)o);
    r->values[o] = calloc((size_t)r->counts[o] + 1, sizeof(float));
    assert_non_null(r->values[o]);
  }
  if (!r->counts[CLNORM_OUTPUT_RUNNING_MEAN]) return;
  for (int64_t c = 0; c < problem->desc.channels; c++) {
    r->values[CLNORM_OUTPUT_RUNNING_MEAN][c] = (float)problem->running_mean[c];
    r->values[CLNORM_OUTPUT_RUNNING_VAR][c] = (float)problem->running_var[c];
  }
}

static void results_free(results *r) {
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) free(r->values[o]);
}

static clnorm_call make_call(const clnorm_schedule *schedule, const clnorm_case_problem *problem) {
  clnorm_call call = schedule->call;
  call.flags |= CLNORM_SAVE_MEAN | CLNORM_SAVE_MEAN_LOW | CLNORM_SAVE_INVSTD;
  if (problem->weight) call.flags |= CLNORM_HAS_WEIGHT;
  if (problem->bias) call.flags |= CLNORM_HAS_BIAS;
  if (problem->running_mean) call.flags |= CLNORM_HAS_RUNNING;
  call.keep = (float)problem->momentum;
  call.take = (float)(1.0 - problem->momentum);
  return call;
}

static void run(const clnorm_case_problem *problem, clnorm_isa isa, unsigned mode, results *r) {
  const clnorm_items_functions *functions =
      clnorm__isa_functions(isa, CLNORM_PATH_POSITIONS, CLNORM_STORAGE_F32, CLNORM_STORAGE_F32);
  const clnorm_traits traits = {.form = CLNORM_FORM_VECTOR,
                                .workers = 1,
                                .group_size = 1,
                                .stream_bytes = UINT64_MAX,
                                .cache_bytes = 1 << 20,
                                .split_below = 1};
  const clnorm_schedule schedule = planned_schedule(&problem->desc, &traits);
  const clnorm_call call = make_call(&schedule, problem);
  char *workspace = aligned_alloc(64, (schedule.workspace_size + 64) / 64 * 64);
  assert_non_null(workspace);
  results_make(r, problem);
  const bool given = problem->desc.statistics == CLNORM_GIVEN_STATISTICS;
  const int64_t channels = problem->desc.channels;
  float *const *v = r->values;
  float *const inputs[] = {
      floats(problem->x, problem->desc.batch * channels * problem->desc.spatial),
      floats(problem->weight, channels), floats(problem->bias, channels),
      floats(problem->running_mean, channels), floats(problem->running_var, channels)};
  const void *operands[CLNORM_NUM_OPERANDS] = {
      [CLNORM_OPERAND_X] = inputs[0],
      [CLNORM_OPERAND_Y] = v[CLNORM_OUTPUT_Y],
      [CLNORM_OPERAND_WEIGHT] = inputs[1],
      [CLNORM_OPERAND_BIAS] = inputs[2],
      [CLNORM_OPERAND_RUNNING_MEAN] = given ? inputs[3] : v[CLNORM_OUTPUT_RUNNING_MEAN],
      [CLNORM_OPERAND_RUNNING_VAR] = given ? inputs[4] : v[CLNORM_OUTPUT_RUNNING_VAR],
      [CLNORM_OPERAND_SAVED_MEAN] = v[CLNORM_OUTPUT_SAVED_MEAN],
      [CLNORM_OPERAND_SAVED_MEAN_LOW] = v[CLNORM_OUTPUT_SAVED_MEAN_LOW],
      [CLNORM_OPERAND_SAVED_INVSTD] = v[CLNORM_OUTPUT_SAVED_INVSTD],
      [CLNORM_OPERAND_WORKSPACE] = workspace};
  for (unsigned i = 0; i < schedule.num_launches; i++) {
    clnorm_range all = {0, schedule.launches[i].items};
    clnorm_items items = {&all, 1, 0, 0};
#if defined(__SSE2__)
    const unsigned control = _mm_getcsr();
    _mm_setcsr(0x1f80 | mode);
#endif
    functions->stages[CLNORM_PATH_POSITIONS][schedule.launches[i].stage](
        (void *const *)(uintptr_t)operands, &call, &items);
#if defined(__SSE2__)
    _mm_setcsr(control);
#endif
  }
  (void)mode;
  for (size_t i = 0; i < FIXTURE_LENGTH(inputs); i++) free(inputs[i]);
  free(workspace);
}

/* ---- Judging ---------------------------------------------------------------------------------------- */

static bool same(float a, float b) {
  return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* How many elements of all outputs are outside. Those inside have the value that keeping gives. */
static int64_t count_outside(const clnorm_promise *promise, const results *kept, const char *text) {
  int64_t outside = 0;
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++)
    for (int64_t i = 0; i < kept->counts[o]; i++) {
      double value;
      if (!clnorm_promise_holds(promise, (clnorm_output)o, i, &value))
        outside++;
      else if (!same((float)value, kept->values[o][i]))
        fail_msg("%s: %s[%lld] is %a, but %a by the promise", text,
                 clnorm_output_name((clnorm_output)o), (long long)i, kept->values[o][i], value);
    }
  return outside;
}

/* Elements that differ; none of them is inside. */
static int64_t check_flushed(const clnorm_promise *promise, const results *kept,
                             const results *flushed, const char *text) {
  int64_t differing = 0;
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++)
    for (int64_t i = 0; i < kept->counts[o]; i++) {
      if (same(kept->values[o][i], flushed->values[o][i])) continue;
      differing++;
      if (clnorm_promise_holds(promise, (clnorm_output)o, i, NULL))
        fail_msg("%s: %s[%lld] is %a kept, %a flushed, and inside", text,
                 clnorm_output_name((clnorm_output)o), (long long)i, kept->values[o][i],
                 flushed->values[o][i]);
    }
  return differing;
}

typedef struct tally {
  int64_t cases, elements, outside, differing;
} tally;

static void check_case(const clnorm_case *item, tally *t) {
  static const unsigned modes[] = {0x8000 /* results */, 0x0040 /* operands */, 0x8040};
  clnorm_case_operands operands;
  char options[320], text[448];
  assert_true(clnorm_case_operands_make(item, &operands));
  clnorm_case_describe(item, options, sizeof options);
  snprintf(text, sizeof text, "%s %lldx%lldx%lldx%lld %s", clnorm_case_mode(item),
           (long long)item->dims[0], (long long)item->dims[1], (long long)item->dims[2],
           (long long)item->dims[3], options);
  clnorm_promise *promise = clnorm_promise_create(&operands.problem);
  assert_non_null(promise);
  results kept, flushed;
  run(&operands.problem, CLNORM_ISA_PLAIN, 0, &kept);
  t->cases++;
  t->outside += count_outside(promise, &kept, text);
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) t->elements += kept.counts[o];
  for (int isa = CLNORM_ISA_PLAIN; isa <= CLNORM_ISA_AVX2; isa++)
    for (size_t m = 0; clnorm__isa_available((clnorm_isa)isa) && m < FIXTURE_LENGTH(modes); m++) {
      run(&operands.problem, (clnorm_isa)isa, modes[m], &flushed);
      t->differing += check_flushed(promise, &kept, &flushed, text);
      results_free(&flushed);
    }
  results_free(&kept);
  clnorm_promise_destroy(promise);
  clnorm_case_operands_free(&operands);
}

static const int64_t shapes[][4] = {
    {2, 6, 1, 1},   {4, 16, 1, 1},   {65, 5, 1, 1},  {3, 7, 7, 7},   {17, 4, 14, 14}, {40, 6, 7, 7},
    {2, 4, 32, 33}, {3, 3, 1, 2049}, {2, 2, 65, 65}, {520, 3, 3, 3}, {9, 2, 31, 31}};

/* All shapes with one kind of data. */
static tally check_kind(clnorm_data data) {
  tally t = {0};
  for (size_t s = 0; s < FIXTURE_LENGTH(shapes); s++)
    for (uint64_t seed = 1; seed <= 3; seed++) {
      size_t count;
      clnorm_case *cases = clnorm_shape_cases(shapes[s], seed, &count);
      assert_non_null(cases);
      for (size_t i = 0; i < count; i++)
        if (cases[i].data == data) check_case(&cases[i], &t);
      free(cases);
    }
  print_message("%-11s %3lld cases, %lld elements, %lld outside, %lld differ\n",
                clnorm_data_name(data), (long long)t.cases, (long long)t.elements,
                (long long)t.outside, (long long)t.differing);
  assert_true(t.cases >= 60);
  return t;
}

static void ordinary_data_are_inside(void **state) {
  static const clnorm_data ordinary[] = {
      CLNORM_DATA_EXACT,      CLNORM_DATA_NORMAL,   CLNORM_DATA_OFFSET_1E2, CLNORM_DATA_OFFSET_1E4,
      CLNORM_DATA_OFFSET_1E6, CLNORM_DATA_CONSTANT, CLNORM_DATA_MIXED,      CLNORM_DATA_ZEROS,
      CLNORM_DATA_OUTLIER,    CLNORM_DATA_LEVELS,   CLNORM_DATA_NOT_FINITE, CLNORM_DATA_OVERFLOW};
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(ordinary); i++)
    assert_int_equal(check_kind(ordinary[i]).outside, 0);
}

static void tiny_data_are_told_apart(void **state) {
  static const clnorm_data tiny[] = {CLNORM_DATA_SUBNORMAL, CLNORM_DATA_TINY};
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(tiny); i++) {
    const tally t = check_kind(tiny[i]);
    assert_true(t.outside > 0 && t.outside < t.elements);
#if defined(__SSE2__)
    assert_true(t.differing > 0);
#endif
  }
}

/* Two channels: an ordinary one, and one where each element of y depends on what is flushed. */
static void elements_are_told_apart_one_by_one(void **state) {
  enum { COUNT = 8 };
  float random[COUNT];
  double x[2 * COUNT], expected[2 * COUNT], values[2 * COUNT];
  (void)state;
  fixture_fill(random, COUNT, 1, 0, 1);
  for (int i = 0; i < COUNT; i++) {
    x[i] = random[i];
    x[COUNT + i] = (double)(1e-40f * (float)(1 + i * i));
  }
  clnorm_case_problem problem = {.desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 1, 2, COUNT),
                                 .dims = {1, 2, 1, COUNT},
                                 .x = x};
  clnorm_promise *promise = clnorm_promise_create(&problem);
  assert_non_null(promise);
  for (int i = 0; i < 2 * COUNT; i++) expected[i] = values[i] = i;
  values[3] = 7, values[COUNT + 3] = 7; /* one element of each channel differs */
  const clnorm_outside y = clnorm_promise_separate(promise, CLNORM_OUTPUT_Y, expected, values);
  assert_int_equal(y.elements, COUNT);
  assert_int_equal(y.differing, 1);
  assert_true(values[3] == 7 && values[COUNT + 3] == expected[COUNT + 3]);
  const clnorm_outside mean =
      clnorm_promise_separate(promise, CLNORM_OUTPUT_SAVED_MEAN, expected, values);
  assert_int_equal(mean.elements, 1);
  const clnorm_outside invstd =
      clnorm_promise_separate(promise, CLNORM_OUTPUT_SAVED_INVSTD, expected, values);
  assert_int_equal(invstd.elements, 0); /* 1 / sqrt(eps), to the last bit */
  clnorm_promise_destroy(promise);
}

/* Ordinary magnitudes and constants of all sizes, in several segments, with and without parameters. */
static void magnitudes(void **state) {
  enum { N = 3, C = 2, S = 2500, COUNT = N * C * S };
  static float random[COUNT];
  static double x[COUNT];
  (void)state;
  for (int exponent = -12; exponent <= 12; exponent++)
    for (int constant = 0; constant < 2; constant++) {
      const double scale = pow(10, exponent);
      fixture_fill(random, COUNT, 1, scale, constant ? 0 : scale);
      for (int i = 0; i < COUNT; i++) x[i] = random[i];
      const clnorm_case_problem problem = {
          .desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S),
          .dims = {N, C, 1, S},
          .x = x};
      clnorm_promise *promise = clnorm_promise_create(&problem);
      assert_non_null(promise);
      for (int i = 0; i < COUNT; i++)
        if (!clnorm_promise_holds(promise, CLNORM_OUTPUT_Y, i, NULL))
          fail_msg("%s 1e%d: y[%d] is outside", constant ? "constant" : "scale", exponent, i);
      clnorm_promise_destroy(promise);
    }
}

/* ---- From the saved statistics ----------------------------------------------------------------------- */

/* y of an element from the three saved operands, weight and bias, in docs/arithmetic.md's words. */
static float recomputed(const clnorm_case_problem *problem, const results *r, int64_t c, float x) {
  const float hi = r->values[CLNORM_OUTPUT_SAVED_MEAN][c];
  const float lo = r->values[CLNORM_OUTPUT_SAVED_MEAN_LOW][c];
  const float invstd = r->values[CLNORM_OUTPUT_SAVED_INVSTD][c];
  const float scale = problem->weight ? (float)problem->weight[c] * invstd : invstd;
  const float bias = problem->bias ? (float)problem->bias[c] : 0.0f;
  const bool batch = problem->desc.statistics == CLNORM_BATCH_STATISTICS;
  return fmaf(x - hi, scale, batch ? fmaf(-lo, scale, bias) : bias);
}

/* How many channels have a part of their mean in lo. */
static int64_t check_recomputed(const clnorm_case_problem *problem, const results *r,
                                const char *text) {
  const int64_t channels = problem->desc.channels, spatial = problem->desc.spatial;
  int64_t low = 0;
  for (int64_t c = 0; c < channels; c++) {
    const float hi = r->values[CLNORM_OUTPUT_SAVED_MEAN][c];
    const float lo = r->values[CLNORM_OUTPUT_SAVED_MEAN_LOW][c];
    low += lo != 0;
    if (isfinite(hi) && isfinite(lo) && hi + lo != hi)
      fail_msg("%s: %a + %a, the mean of channel %lld, is not settled", text, hi, lo, (long long)c);
  }
  for (int64_t i = 0; i < r->counts[CLNORM_OUTPUT_Y]; i++) {
    const float y = r->values[CLNORM_OUTPUT_Y][i];
    const float again = recomputed(problem, r, i / spatial % channels, (float)problem->x[i]);
    if (!same(y, again))
      fail_msg("%s: y[%lld] is %a, and %a from what was saved", text, (long long)i, y, again);
  }
  return low;
}

/* All kinds of data, in all instruction sets that test_promise.c runs, in one launch and in three. */
static void saved_statistics_give_y_again(void **state) {
  int64_t low = 0;
  (void)state;
  for (size_t s = 0; s < FIXTURE_LENGTH(shapes); s++) {
    size_t count;
    clnorm_case *cases = clnorm_shape_cases(shapes[s], 5, &count);
    assert_non_null(cases);
    for (size_t i = 0; i < count; i++) {
      char text[320];
      clnorm_case_operands operands;
      clnorm_case_describe(&cases[i], text, sizeof text);
      assert_true(clnorm_case_operands_make(&cases[i], &operands));
      for (int variant = CLNORM_CUT_CHANNEL; variant <= CLNORM_CUT_SPLIT; variant++) {
        operands.problem.desc.cut = (clnorm_cut)variant;
        if (cases[i].statistics != CLNORM_BATCH_STATISTICS)
          operands.problem.desc.cut = CLNORM_CUT_AUTO;
        for (int isa = CLNORM_ISA_PLAIN; isa <= CLNORM_ISA_AVX2; isa++) {
          if (!clnorm__isa_available((clnorm_isa)isa)) continue;
          results r;
          run(&operands.problem, (clnorm_isa)isa, 0, &r);
          low += check_recomputed(&operands.problem, &r, text);
          results_free(&r);
        }
      }
      clnorm_case_operands_free(&operands);
    }
    free(cases);
  }
  assert_true(low > 1000); /* the low part is there, and needed */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ordinary_data_are_inside),
      cmocka_unit_test(tiny_data_are_told_apart),
      cmocka_unit_test(elements_are_told_apart_one_by_one),
      cmocka_unit_test(magnitudes),
      cmocka_unit_test(saved_statistics_give_y_again),
  };
  return cmocka_run_group_tests_name("promise", tests, NULL, NULL);
}
