/* Every stage of a kernel form on the smallest shapes that reach all of its branches, against the CPU
 * path. Small enough for a simulator; test_conformance.c is the thorough one. coverage.py holds the rows to
 * "all of its branches". */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

typedef struct kernel_row {
  const char *what;
  int64_t batch, channels, spatial;
  bool biased, streamed;
  bool vector_only; /* its branches are the vector form's; the wide form has the same elsewhere */
} kernel_row;

enum { MAX_CHANNELS = 70, SEGMENT = 2048, BLOCK = 512 };

/* clang-format off */
static const kernel_row rows[] = {
    {"runs shorter than a vector", 19, 3, 1, false, false, false},
    {"one value a channel", 1, 5, 1, false, false, false},
    {"runs of one sample, shorter than a vector", 1, 3, 3, false, false, true},
    {"shared rows: a sample or less to a place", 19, 20, 1, true, false, true},
    {"shared rows: a block or less", BLOCK + 8, 20, 1, false, false, true},
    {"shared rows: several blocks", 600, 17, 2, false, true, true},
    {"many short runs that lie side by side", 80, 3, 1, false, true, true},
    {"slots of 4 places, gathered", 9, 2, 3, false, false, false},
    {"planes of 4 values", 9, 6, 4, false, false, true},
    {"a plane that is a slot", 5, 3, 16, false, false, false},
    {"two samples of planes of a vector", 2, 3, 16, false, true, true},
    {"planes of one vector and a rest", 5, 3, 23, false, false, true},
    {"planes with a ragged end", 3, 17, 49, false, true, false},
    {"runs of as many channels as vectors need", 3, 17, 63, false, false, true},
    {"several groups of runs", 40, 70, 40, false, true, true},
    {"segments that are not full", 70, 1, 35, true, false, false},
    {"several slots a step", 5, 2, 100, false, false, false},
    {"a slot a step, and one slot alone", 1, 2, 200, false, false, true},
    {"two slots a segment, with a ragged end", 3, 3, 1003, false, true, true},
    {"several groups of planes of whole segments", 1, 8, SEGMENT, false, true, true},
    {"the same, written through the caches", 1, 8, SEGMENT + 16, false, false, true},
    {"planes of several segments and a rest", 1, 2, SEGMENT + 19, false, false, false},
    {"enough segments for several nodes", 17, 1, SEGMENT / 2 + 1, false, false, false},
};
/* clang-format on */

typedef struct operands {
  float *x;
  float weight[MAX_CHANNELS], bias[MAX_CHANNELS], mean[MAX_CHANNELS], var[MAX_CHANNELS];
  dense_args inputs;
} operands;

static void operands_make(operands *o, const kernel_row *row, bool all) {
  const size_t count = (size_t)(row->batch * row->channels * row->spatial);
  memset(o, 0, sizeof *o);
  o->x = malloc(count * sizeof(float));
  assert_non_null(o->x);
  fixture_fill(o->x, count, 1, 7, 2);
  fixture_fill(o->weight, MAX_CHANNELS, 2, 1, 1);
  fixture_fill(o->bias, MAX_CHANNELS, 3, 0, 1);
  fixture_fill(o->mean, MAX_CHANNELS, 4, 7, 1);
  fixture_fill(o->var, MAX_CHANNELS, 5, 9, 1);
  const size_t size = (size_t)row->channels * sizeof(float);
  o->inputs.x = clnorm_host_memory(o->x, count * sizeof(float));
  o->inputs.running_mean = clnorm_host_memory(o->mean, size);
  o->inputs.running_var = clnorm_host_memory(o->var, size);
  if (all) {
    o->inputs.weight = clnorm_host_memory(o->weight, size);
    o->inputs.bias = clnorm_host_memory(o->bias, size);
  }
  o->inputs.momentum = 0.9;
}

/* In a context of its own: where Oclgrind 21.10 gives a buffer the place of one that was freed, it looks for
 * uninitialized values as far as that one reached, and takes what is behind for uninitialized. */
static void check(clnorm_context *cpu, const kernel_row *row, int32_t statistics,
                  clnorm_cut variant) {
  clnorm_context *context = fixture_open();
  operands o;
  operands_make(&o, row, variant != CLNORM_CUT_SPLIT);
  dense_desc desc = dense_desc_defaults(statistics, row->batch, row->channels, row->spatial);
  desc.cut = variant;
  desc.biased_running_var = row->biased;
  desc.store = row->streamed ? CLNORM_STORE_STREAMED : CLNORM_STORE_CACHED;
  clnorm_difference d[CLNORM_NUM_OUTPUTS];
  assert_ok(context, dense_compare_runs(context, cpu, &desc, &o.inputs, d));
  assert_int_equal(d[CLNORM_OUTPUT_Y].elements, row->batch * row->channels * row->spatial);
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    if (d[i].differing_elements != 0) {
      fail_msg("%s, statistics %d, variant %d: output %d differs in %d elements", row->what,
               (int)statistics, (int)variant, i, (int)d[i].differing_elements);
    }
  }
  free(o.x);
  clnorm_context_destroy(context);
}

/* x and y alone: nothing that may be absent is there. */
static void run_bare(clnorm_context *context, const float *x, float *y, size_t count,
                     clnorm_cut variant) {
  dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 3, 2, (int64_t)count / 6);
  desc.cut = variant;
  fixture_tensor tx = fixture_tensor_make(context, x, count);
  fixture_tensor ty = fixture_tensor_make(context, NULL, count);
  const dense_args args = {.x = tx.view, .y = ty.view};
  clnorm_plan *plan = NULL;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  assert_ok(context, dense_run(plan, &args));
  fixture_tensor_read(context, &ty, y);
  clnorm_plan_destroy(plan);
  fixture_tensor_free(context, &tx);
  fixture_tensor_free(context, &ty);
}

static void absent_operands(void **state) {
  static float x[6 * 70], y[6 * 70], right[6 * 70];
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  fixture_fill(x, FIXTURE_LENGTH(x), 9, 3, 2);
  run_bare(cpu, x, right, FIXTURE_LENGTH(x), CLNORM_CUT_CHANNEL);
  run_bare(*state, x, y, FIXTURE_LENGTH(x), CLNORM_CUT_CHANNEL);
  assert_memory_equal(y, right, sizeof y);
  clnorm_context *other = fixture_open(); /* as in check() */
  run_bare(other, x, y, FIXTURE_LENGTH(x), CLNORM_CUT_SPLIT);
  assert_memory_equal(y, right, sizeof y);
  clnorm_context_destroy(other);
  clnorm_context_destroy(cpu);
}

static void every_stage(void **state) {
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  const bool wide = dense_context_tuning(*state, NULL).form == CLNORM_FORM_WIDE;
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    if (wide && rows[i].vector_only) continue;
    print_message("  %s\n", rows[i].what);
    check(cpu, &rows[i], CLNORM_BATCH_STATISTICS, CLNORM_CUT_CHANNEL);
    check(cpu, &rows[i], CLNORM_BATCH_STATISTICS, CLNORM_CUT_SPLIT);
    check(cpu, &rows[i], CLNORM_GIVEN_STATISTICS, CLNORM_CUT_AUTO);
    check(cpu, &rows[i], DENSE_COPY, CLNORM_CUT_AUTO);
  }
  clnorm_context_destroy(cpu);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_stage),
                                     cmocka_unit_test(absent_operands)};
  return cmocka_run_group_tests(tests, fixture_set_up, fixture_tear_down);
}
