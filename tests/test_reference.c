/* cases/: the bounds can fail, exact data are exact, and damage around operands is seen. */
#include "fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

/* Sums first, then one division: exact for exact data. */
typedef struct moments {
  double mean, var, count;
} moments;

static moments channel_moments(const clnorm_case_problem *problem, int64_t c) {
  const dense_desc *d = &problem->desc;
  moments m = {0, 0, (double)(d->batch * d->spatial)};
  for (int pass = 0; pass < 2; pass++) {
    double sum = 0;
    for (int64_t n = 0; n < d->batch; n++)
      for (int64_t s = 0; s < d->spatial; s++) {
        const double x = problem->x[(n * d->channels + c) * d->spatial + s];
        sum += pass == 0 ? x : (x - m.mean) * (x - m.mean);
      }
    *(pass == 0 ? &m.mean : &m.var) = sum / m.count;
  }
  return m;
}

/* Outputs of a problem, computed plainly in double and rounded to float: within every bound, far from the
 * edge. */
typedef struct results {
  double *values[CLNORM_NUM_OUTPUTS];
} results;

static double rounded(double value) { return clnorm_rounded(CLNORM_F32, value); }

static void compute_channel(const clnorm_case_problem *problem, int64_t c, results *r) {
  const dense_desc *d = &problem->desc;
  const moments m = channel_moments(problem, c);
  const bool given = d->statistics == CLNORM_GIVEN_STATISTICS;
  const double mean = given ? problem->running_mean[c] : m.mean;
  const double var = given ? problem->running_var[c] : m.var;
  const double invstd = 1 / sqrt(var + (double)(float)d->eps);
  const double weight = problem->weight ? problem->weight[c] : 1;
  const double bias = problem->bias ? problem->bias[c] : 0;
  for (int64_t n = 0; n < d->batch; n++)
    for (int64_t s = 0; s < d->spatial; s++) {
      const int64_t i = (n * d->channels + c) * d->spatial + s;
      r->values[CLNORM_OUTPUT_Y][i] = rounded((problem->x[i] - mean) * invstd * weight + bias);
    }
  r->values[CLNORM_OUTPUT_SAVED_MEAN][c] = rounded(mean);
  r->values[CLNORM_OUTPUT_SAVED_MEAN_LOW][c] = rounded(mean - rounded(mean));
  r->values[CLNORM_OUTPUT_SAVED_INVSTD][c] = rounded(invstd);
  if (!problem->running_mean) return;
  const double keep = problem->momentum, unbiased = var * m.count / (m.count - 1);
  r->values[CLNORM_OUTPUT_RUNNING_MEAN][c] =
      rounded(keep * problem->running_mean[c] + (1 - keep) * mean);
  r->values[CLNORM_OUTPUT_RUNNING_VAR][c] = rounded(
      keep * problem->running_var[c] + (1 - keep) * (d->biased_running_var ? var : unbiased));
}

static results compute(const clnorm_case_problem *problem) {
  const dense_desc *d = &problem->desc;
  results r;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    const int64_t count = i == CLNORM_OUTPUT_Y ? d->batch * d->channels * d->spatial : d->channels;
    r.values[i] = calloc((size_t)count + 1, sizeof(double));
    assert_non_null(r.values[i]);
  }
  for (int64_t c = 0; c < d->channels; c++) compute_channel(problem, c, &r);
  return r;
}

static void free_results(results *r) {
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) free(r->values[i]);
}

/* Applies `check` to every case of a suite. */
static void for_each_case(const char *suite, void (*check)(const clnorm_case *item)) {
  size_t count;
  clnorm_case *cases = clnorm_suite_cases(suite, 5, &count);
  assert_non_null(cases);
  assert_true(count > 10);
  for (size_t i = 0; i < count; i++) check(&cases[i]);
  free(cases);
}

/* ---- The reference --------------------------------------------------------------------------- */

static bool is_tame(clnorm_data data) {
  return data == CLNORM_DATA_EXACT || data == CLNORM_DATA_NORMAL ||
         data == CLNORM_DATA_OFFSET_1E2 || data == CLNORM_DATA_OUTLIER;
}

static void check_good_results_pass(const clnorm_case *item) {
  clnorm_case_operands operands;
  if (!is_tame(item->data)) return;
  assert_true(clnorm_case_operands_make(item, &operands));
  const clnorm_case_problem *problem = &operands.problem;
  clnorm_reference *reference = clnorm_reference_create(problem);
  results r = compute(problem);
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) {
    const clnorm_output output = (clnorm_output)o;
    if (clnorm_case_problem_output_count(problem, output) == 0) continue;
    const double ratio = clnorm_reference_check(reference, output, r.values[o], NULL);
    if (!(ratio <= 0.55)) fail_msg("%s: %g of the bound", clnorm_output_name(output), ratio);
    if (clnorm_case_exact(item, output))
      assert_int_equal(clnorm_reference_unequal(reference, output, r.values[o]), 0);
  }
  free_results(&r);
  clnorm_reference_destroy(reference);
  clnorm_case_operands_free(&operands);
}

static void test_good_results_pass(void **state) {
  (void)state;
  for_each_case("smoke", check_good_results_pass);
}

/* A training case in which every output is written. */
static clnorm_case full_case(clnorm_data data) {
  return (clnorm_case){.suite = "test",
                       .dims = {3, 5, 4, 9},
                       .statistics = CLNORM_BATCH_STATISTICS,
                       .weight = true,
                       .bias = true,
                       .running = true,
                       .save_mean = true,
                       .save_mean_low = true,
                       .save_invstd = true,
                       .eps = 1e-5,
                       .momentum = 0.5,
                       .data = data,
                       .seed = 3};
}

/* An error of a few bounds in one element is found, at that element, in every output. */
static void test_planted_errors_are_found(void **state) {
  (void)state;
  const clnorm_case item = full_case(CLNORM_DATA_NORMAL);
  clnorm_case_operands operands;
  assert_true(clnorm_case_operands_make(&item, &operands));
  clnorm_reference *reference = clnorm_reference_create(&operands.problem);
  results r = compute(&operands.problem);
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) {
    const clnorm_output output = (clnorm_output)o;
    const int64_t last = clnorm_case_problem_output_count(&operands.problem, output) - 1;
    const double right = r.values[o][last];
    int64_t at;
    r.values[o][last] = right + 0x1p-17 * (fabs(right) + 8);
    assert_true(clnorm_reference_check(reference, output, r.values[o], &at) > 1);
    assert_int_equal(at, last);
    assert_true(clnorm_reference_unequal(reference, output, r.values[o]) > 0);
    r.values[o][last] = NAN;
    assert_true(isinf(clnorm_reference_check(reference, output, r.values[o], NULL)));
    r.values[o][last] = INFINITY;
    assert_true(isinf(clnorm_reference_check(reference, output, r.values[o], NULL)));
    r.values[o][last] = right;
    assert_true(clnorm_reference_check(reference, output, r.values[o], NULL) <= 1);
  }
  free_results(&r);
  clnorm_reference_destroy(reference);
  clnorm_case_operands_free(&operands);
}

/* A variance of E[x^2] - E[x]^2 in float is found where the mean is large. */
static void test_a_single_pass_variance_is_found(void **state) {
  (void)state;
  const clnorm_case item = full_case(CLNORM_DATA_OFFSET_1E4);
  clnorm_case_operands operands;
  assert_true(clnorm_case_operands_make(&item, &operands));
  const clnorm_case_problem *p = &operands.problem;
  clnorm_reference *reference = clnorm_reference_create(p);
  double invstd[5];
  for (int64_t c = 0; c < 5; c++) {
    float sum = 0, squares = 0;
    for (int64_t n = 0; n < 3; n++)
      for (int64_t s = 0; s < 36; s++) {
        const float x = (float)p->x[(n * 5 + c) * 36 + s];
        sum += x;
        squares += x * x;
      }
    const float mean = sum / 108;
    invstd[c] = (double)1 / sqrtf(fmaxf(squares / 108 - mean * mean, 0) + 1e-5f);
  }
  assert_true(clnorm_reference_check(reference, CLNORM_OUTPUT_SAVED_INVSTD, invstd, NULL) > 100);
  clnorm_reference_destroy(reference);
  clnorm_case_operands_free(&operands);
}

/* NaN is wanted where the reference has it, and infinities of the right sign. */
static void test_not_finite_values(void **state) {
  (void)state;
  const double x[4] = {1, INFINITY, NAN, 3}, mean[1] = {2}, var[1] = {4};
  clnorm_case_problem problem = {.desc = dense_desc_defaults(CLNORM_GIVEN_STATISTICS, 1, 1, 4),
                                 .dims = {1, 1, 1, 4},
                                 .x = x,
                                 .running_mean = mean,
                                 .running_var = var};
  problem.desc.eps = 0;
  clnorm_reference *reference = clnorm_reference_create(&problem);
  double y[4] = {-0.5, INFINITY, NAN, 0.5};
  int64_t at;
  assert_true(clnorm_reference_check(reference, CLNORM_OUTPUT_Y, y, NULL) == 0);
  y[1] = -INFINITY;
  assert_true(isinf(clnorm_reference_check(reference, CLNORM_OUTPUT_Y, y, &at)));
  assert_int_equal(at, 1);
  y[1] = INFINITY;
  y[2] = 0;
  assert_true(isinf(clnorm_reference_check(reference, CLNORM_OUTPUT_Y, y, &at)));
  assert_int_equal(at, 2);
  clnorm_reference_destroy(reference);
}

/* ---- Data ------------------------------------------------------------------------------------ */

/* The mean and the variance of exact data are exact floats, and var + eps is a power of 4. */
static void check_exact_data(const clnorm_case *item) {
  if (item->data != CLNORM_DATA_EXACT || item->statistics != CLNORM_BATCH_STATISTICS) return;
  clnorm_case_operands operands;
  assert_true(clnorm_case_operands_make(item, &operands));
  const dense_desc *d = &operands.problem.desc;
  for (int64_t c = 0; c < d->channels && !clnorm_case_problem_empty(&operands.problem); c++) {
    const moments m = channel_moments(&operands.problem, c);
    assert_true(m.mean == (double)(int)m.mean);
    assert_true(m.var + d->eps == 4);
  }
  clnorm_case_operands_free(&operands);
}

static void test_exact_data_are_exact(void **state) {
  (void)state;
  for_each_case("edge", check_exact_data);
  for_each_case("resnet50", check_exact_data);
}

/* The same seed gives the same data, another seed others; not all elements are equal or zero. */
static void test_data_are_repeatable(void **state) {
  (void)state;
  for (int data = 0; data < CLNORM_NUM_DATA; data++) {
    clnorm_case item = full_case((clnorm_data)data);
    clnorm_case_operands a, b, c;
    const size_t size = 3 * 5 * 36 * sizeof(double);
    assert_true(clnorm_case_operands_make(&item, &a));
    assert_true(clnorm_case_operands_make(&item, &b));
    item.seed++;
    assert_true(clnorm_case_operands_make(&item, &c));
    assert_memory_equal(a.problem.x, b.problem.x, size);
    assert_memory_not_equal(a.problem.x, c.problem.x, size);
    const int64_t second = 36; /* the first element of another channel */
    if (data != CLNORM_DATA_ZEROS && data != CLNORM_DATA_EXACT)
      assert_true(memcmp(&a.problem.x[0], &a.problem.x[second], sizeof(double)) != 0);
    clnorm_case_operands_free(&a);
    clnorm_case_operands_free(&b);
    clnorm_case_operands_free(&c);
  }
}

static void test_suites(void **state) {
  (void)state;
  size_t all = 0, count;
  for (const char *const *name = clnorm_suite_names; *name; name++) {
    clnorm_case *cases = clnorm_suite_cases(*name, 1, &count);
    assert_non_null(cases);
    assert_string_equal(cases[0].suite, *name);
    if (strcmp(*name, "smoke") != 0) all += count;
    free(cases);
  }
  clnorm_case *cases = clnorm_suite_cases("all", 1, &count);
  assert_int_equal(count, all);
  free(cases);
  assert_null(clnorm_suite_cases("no such suite", 1, &count));
  assert_int_equal(count, 0);
}

/* Options of the suite edge by themselves: in training, and how running statistics are updated. */
enum { OPTIONS = 8 };
static void options_of(const clnorm_case *item, bool options[OPTIONS]) {
  const bool all[OPTIONS] = {
      item->weight,      item->bias,     item->save_mean, item->save_mean_low,
      item->save_invstd, item->in_place, item->running,   item->biased_running_var};
  memcpy(options, all, sizeof all);
}

/* In edge, every two options and their values meet on each of the shapes that stand for others. */
static void test_options_meet_on_shapes(void **state) {
  static const int64_t shapes[][4] = {{1, 4, 1, 1},   {2, 1, 1, 1},   {3, 5, 1, 1},   {17, 3, 7, 7},
                                      {5, 3, 14, 14}, {2, 2, 32, 32}, {2, 2, 1, 2049}};
  (void)state;
  size_t count;
  clnorm_case *cases = clnorm_suite_cases("edge", 1, &count);
  assert_non_null(cases);
  for (size_t s = 0; s < FIXTURE_LENGTH(shapes); s++) {
    bool met[OPTIONS][2][OPTIONS][2] = {{{{false}}}};
    for (size_t i = 0; i < count; i++) {
      bool o[OPTIONS];
      if (memcmp(cases[i].dims, shapes[s], sizeof shapes[s]) != 0) continue;
      if (cases[i].statistics != CLNORM_BATCH_STATISTICS) continue;
      options_of(&cases[i], o);
      for (int a = 0; a < OPTIONS; a++)
        for (int b = 0; b < OPTIONS; b++) met[a][o[a]][b][o[b]] = true;
    }
    for (int a = 0; a < OPTIONS; a++)
      for (int b = a + 1; b < OPTIONS; b++)
        for (int k = 0; k < 4; k++) {
          const bool biased_alone = a == 6 && k == 2; /* biased, and not updated */
          if (!biased_alone && !met[a][k % 2][b][k / 2])
            fail_msg("shape %zu: %d of option %d never meets %d of option %d", s, k % 2, a, k / 2,
                     b);
        }
  }
  free(cases);
}

/* ---- The runner ------------------------------------------------------------------------------ */

static void check_runs(const clnorm_case *item) {
  clnorm_context *context = fixture_open();
  clnorm_case_runner *runner = clnorm_case_runner_create(context);
  clnorm_case_operands operands;
  clnorm_case_outputs outputs;
  clnorm_status status;
  clnorm_message why = {""};
  assert_true(clnorm_case_operands_make(item, &operands));
  const clnorm_case_result result =
      clnorm_case_run(runner, item, &operands.problem, &outputs, &status, &why);
  if (result != CLNORM_CASE_RAN) fail_msg("%s", why.text);
  const int64_t count = clnorm_case_problem_output_count(&operands.problem, CLNORM_OUTPUT_Y);
  assert_int_equal(outputs.counts[CLNORM_OUTPUT_Y], count);
  assert_int_equal(outputs.values[CLNORM_OUTPUT_SAVED_MEAN] != NULL, item->save_mean && count > 0);
  clnorm_case_outputs_free(&outputs);
  clnorm_case_operands_free(&operands);
  clnorm_case_runner_destroy(runner);
  clnorm_context_destroy(context);
}

static void test_the_runner_gives_what_was_asked_for(void **state) {
  (void)state;
  for_each_case("smoke", check_runs);
}

/* What the library refuses comes back as its status and its text. */
static void test_the_runner_reports_refusals(void **state) {
  (void)state;
  clnorm_case item = full_case(CLNORM_DATA_NORMAL);
  clnorm_context *context = fixture_open();
  clnorm_case_runner *runner = clnorm_case_runner_create(context);
  clnorm_case_operands operands;
  clnorm_case_outputs outputs;
  clnorm_status status;
  clnorm_message why = {""};
  item.eps = -1;
  assert_true(clnorm_case_operands_make(&item, &operands));
  assert_int_equal(clnorm_case_run(runner, &item, &operands.problem, &outputs, &status, &why),
                   CLNORM_CASE_FAILED);
  assert_int_equal(status, CLNORM_ERROR_INVALID_ARGUMENT);
  assert_non_null(strstr(why.text, "eps"));
  clnorm_case_outputs_free(&outputs);
  clnorm_case_operands_free(&operands);
  clnorm_case_runner_destroy(runner);
  clnorm_context_destroy(context);
}

/* A byte that is written during a run, besides what the run writes: at this place behind y's first element. */
typedef struct planted {
  clnorm_context *context;
  int64_t at;
} planted;

static void plant(void *argument, clnorm_binding *bindings, size_t count) {
  const planted *p = argument;
  const unsigned char byte = 7;
  size_t y = 0;
  while (y < count && bindings[y].role != CLNORM_Y) y++;
  assert_in_range(y, 0, count - 1);
  clnorm_memory memory = bindings[y].memory;
  memory.offset = (size_t)((int64_t)memory.offset + p->at);
  memory.size = 1;
  assert_ok(p->context, clnorm_memory_write(p->context, memory, &byte, 1));
}

/* Every byte of y and some around it: gaps and guards are found out, elements are written over. */
static void check_planted_writes(clnorm_layout layout, int32_t dtype) {
  enum { AROUND = 40 };
  static const double x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const int64_t dims[4] = {1, 3, 2, 2};
  clnorm_context *context = fixture_open();
  clnorm_case_runner *runner = clnorm_case_runner_create(context);
  const clnorm_case_problem problem = {.desc =
                                           dense_desc_defaults(CLNORM_BATCH_STATISTICS, 1, 3, 4),
                                       .dims = {1, 3, 2, 2},
                                       .x_dtype = dtype,
                                       .y_dtype = dtype,
                                       .x = x};
  planted p = {context, 0};
  clnorm_case_call call = {
      .problem = dense_problem(&problem.desc), .values = &problem, .change = plant, .argument = &p};
  clnorm_tensor *y = &call.problem.tensors[CLNORM_Y];
  clnorm_tensor_nchw(&call.problem.tensors[CLNORM_X], dtype, 4, dims);
  clnorm_layout_tensor(y, layout, dtype, 4, dims);
  y->flags = 0; /* tails are a neighbour's */
  const int64_t bytes = (int64_t)clnorm_tensor_bytes(y);
  unsigned char *ones = malloc((size_t)bytes), *elements = calloc((size_t)bytes, 1);
  assert_true(ones && elements);
  memset(ones, 1, (size_t)bytes);
  clnorm_place_again(y, ones, elements);
  int64_t gaps = 0;
  for (p.at = -AROUND; p.at < bytes + AROUND; p.at++) {
    const bool inside = p.at >= 0 && p.at < bytes, element = inside && elements[p.at];
    clnorm_case_outputs outputs;
    clnorm_status status;
    clnorm_message why = {""};
    const clnorm_case_result result = clnorm_case_call_run(runner, &call, &outputs, &status, &why);
    assert_int_equal(result, element ? CLNORM_CASE_RAN : CLNORM_CASE_BROKEN);
    if (!element)
      assert_non_null(strstr(why.text, inside ? "between the elements of y" : "into the guard"));
    gaps += inside && !element;
    clnorm_case_outputs_free(&outputs);
  }
  assert_int_equal(gaps, bytes - 12 * (int64_t)clnorm_dtype_size(dtype));
  if (layout != CLNORM_LAYOUT_NCHW) assert_true(gaps > 0);
  free(ones);
  free(elements);
  clnorm_case_runner_destroy(runner);
  clnorm_context_destroy(context);
}

static void test_planted_writes_are_found(void **state) {
  (void)state;
  check_planted_writes(CLNORM_LAYOUT_NCHW, CLNORM_F32);
  check_planted_writes(CLNORM_LAYOUT_PADDED, CLNORM_F32);
  check_planted_writes(CLNORM_LAYOUT_NHWC_SLICE, CLNORM_F16);
  check_planted_writes(CLNORM_LAYOUT_NCHW8C, CLNORM_F64);
}

/* y = x, with mean 0, variance 1, eps 0: its value rounded to the type passes, the next value away from it does not. */
static void test_the_bound_of_y_has_half_an_ulp_of_its_type(void **state) {
  (void)state;
  static const double values[] = {1.2, -0.7, 3.14159, 0.3}, mean[] = {0}, var[] = {1};
  double x[4];
  static const struct {
    int32_t x, y;
    double ulp; /* over 2^exponent */
  } rows[] = {{CLNORM_F32, CLNORM_F16, 0x1p-10},
              {CLNORM_F32, CLNORM_BF16, 0x1p-7},
              {CLNORM_F64, CLNORM_F32, 0x1p-23}};
  for (size_t t = 0; t < sizeof rows / sizeof *rows; t++) {
    for (int i = 0; i < 4; i++) x[i] = clnorm_rounded(rows[t].x, values[i]);
    clnorm_case_problem problem = {.desc = dense_desc_defaults(CLNORM_GIVEN_STATISTICS, 1, 1, 4),
                                   .dims = {1, 1, 1, 4},
                                   .x_dtype = rows[t].x,
                                   .y_dtype = rows[t].y,
                                   .x = x,
                                   .running_mean = mean,
                                   .running_var = var};
    problem.desc.eps = 0;
    clnorm_reference *reference = clnorm_reference_create(&problem);
    double y[4];
    for (int i = 0; i < 4; i++) y[i] = clnorm_rounded(rows[t].y, x[i]);
    assert_true(clnorm_reference_check(reference, CLNORM_OUTPUT_Y, y, NULL) <= 1);
    assert_int_equal(clnorm_reference_unequal(reference, CLNORM_OUTPUT_Y, y), 0);
    for (int i = 0; i < 4; i++) {
      const double kept = y[i], ulp = ldexp(rows[t].ulp, ilogb(kept));
      y[i] = kept + (kept > x[i] ? ulp : -ulp);
      assert_true(clnorm_reference_check(reference, CLNORM_OUTPUT_Y, y, NULL) > 1.5);
      assert_int_equal(clnorm_reference_unequal(reference, CLNORM_OUTPUT_Y, y), 1);
      y[i] = kept;
    }
    clnorm_reference_destroy(reference);
  }
}

/* From half an ulp past the largest value on, the type has an infinity. */
static void test_what_is_too_large_for_the_type(void **state) {
  (void)state;
  static const double x[] = {65519, 65521, -7e4, 6e4}, mean[] = {0}, var[] = {1};
  clnorm_case_problem problem = {.desc = dense_desc_defaults(CLNORM_GIVEN_STATISTICS, 1, 1, 4),
                                 .dims = {1, 1, 1, 4},
                                 .y_dtype = CLNORM_F16,
                                 .x = x,
                                 .running_mean = mean,
                                 .running_var = var};
  problem.desc.eps = 0;
  clnorm_reference *reference = clnorm_reference_create(&problem);
  double y[4] = {65504, INFINITY, -INFINITY, 6e4};
  assert_true(clnorm_reference_check(reference, CLNORM_OUTPUT_Y, y, NULL) <= 1);
  y[2] = INFINITY;
  assert_true(isinf(clnorm_reference_check(reference, CLNORM_OUTPUT_Y, y, NULL)));
  y[2] = -INFINITY;
  y[3] = INFINITY;
  assert_true(isinf(clnorm_reference_check(reference, CLNORM_OUTPUT_Y, y, NULL)));
  clnorm_reference_destroy(reference);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_good_results_pass),
      cmocka_unit_test(test_planted_errors_are_found),
      cmocka_unit_test(test_a_single_pass_variance_is_found),
      cmocka_unit_test(test_not_finite_values),
      cmocka_unit_test(test_planted_writes_are_found),
      cmocka_unit_test(test_the_bound_of_y_has_half_an_ulp_of_its_type),
      cmocka_unit_test(test_what_is_too_large_for_the_type),
      cmocka_unit_test(test_exact_data_are_exact),
      cmocka_unit_test(test_data_are_repeatable),
      cmocka_unit_test(test_suites),
      cmocka_unit_test(test_options_meet_on_shapes),
      cmocka_unit_test(test_the_runner_gives_what_was_asked_for),
      cmocka_unit_test(test_the_runner_reports_refusals),
  };
  return cmocka_run_group_tests_name("reference", tests, NULL, NULL);
}
