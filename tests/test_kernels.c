/* Every stage of a kernel form on the smallest shapes that reach all of its branches, against the CPU
 * path. Small enough for a simulator; test_conformance.c is the thorough one. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

typedef struct kernel_row {
  const char *what;
  int64_t batch, channels, spatial;
} kernel_row;

static const kernel_row rows[] = {
    {"one place a slot, several planes a vector", 19, 3, 1},
    {"slots of 4 places, gathered", 9, 2, 3},
    {"a plane that is a slot", 5, 3, 16},
    {"planes with a ragged end", 3, 17, 49},
    {"segments that are not full", 40, 1, 35},
    {"planes of whole segments", 1, 2, 1024},
    {"planes of several segments and a rest", 2, 1, 2 * 1024 + 19},
    {"enough segments for several nodes", 1, 1, 17 * 1024 + 5},
};

typedef struct operands {
  float *x;
  float weight[17], bias[17], mean[17], var[17];
  clnorm_forward_args inputs;
} operands;

static void operands_make(operands *o, const kernel_row *row, bool all) {
  const size_t count = (size_t)(row->batch * row->channels * row->spatial);
  memset(o, 0, sizeof *o);
  o->x = malloc(count * sizeof(float));
  assert_non_null(o->x);
  fixture_fill(o->x, count, 1, 7, 2);
  fixture_fill(o->weight, 17, 2, 1, 1);
  fixture_fill(o->bias, 17, 3, 0, 1);
  fixture_fill(o->mean, 17, 4, 7, 1);
  fixture_fill(o->var, 17, 5, 9, 1);
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

static void check(clnorm_context *context, clnorm_context *cpu, const kernel_row *row,
                  clnorm_statistics statistics, clnorm_variant variant) {
  operands o;
  operands_make(&o, row, variant != CLNORM_VARIANT_SPLIT);
  clnorm_forward_desc desc =
      clnorm_forward_desc_defaults(statistics, row->batch, row->channels, row->spatial);
  desc.variant = variant;
  clnorm_difference d[CLNORM_NUM_OUTPUTS];
  assert_ok(context, clnorm_compare_forward(context, cpu, &desc, &o.inputs, d));
  assert_int_equal(d[CLNORM_OUTPUT_Y].elements, row->batch * row->channels * row->spatial);
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    if (d[i].differing_elements != 0) {
      fail_msg("%s, statistics %d, variant %d: output %d differs in %d elements", row->what,
               (int)statistics, (int)variant, i, (int)d[i].differing_elements);
    }
  }
  free(o.x);
}

static void every_stage(void **state) {
  clnorm_context *context = *state;
  clnorm_context *cpu = fixture_open_with("cpu", NULL);
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    print_message("  %s\n", rows[i].what);
    check(context, cpu, &rows[i], CLNORM_BATCH_STATISTICS, CLNORM_VARIANT_CHANNEL);
    check(context, cpu, &rows[i], CLNORM_BATCH_STATISTICS, CLNORM_VARIANT_SPLIT);
    check(context, cpu, &rows[i], CLNORM_GIVEN_STATISTICS, CLNORM_VARIANT_AUTO);
  }
  clnorm_context_destroy(cpu);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_stage)};
  return cmocka_run_group_tests(tests, fixture_set_up, fixture_tear_down);
}
