/* Choosing a parameter from measured ratios, as a table. */
#include "fixture.h"

#include <math.h>

#include "thresholds.h"

static void test_threshold(void **state) {
  static const struct {
    double ratios[5];
    size_t count, rule, expected;
  } rows[] = {
      {{0}, 0, 0, 0},                            /* nothing measured */
      {{1, 1, 1, 1, 1}, 5, 2, 2},                /* nothing to gain: the rule */
      {{1.04, 0.96, 1.03, 0.97, 1.04}, 5, 4, 4}, /* noise: the rule */
      {{0.5, 0.5, 2, 2, 2}, 5, 0, 2},            /* a clear step */
      {{0.5, 0.5, 2, 2, 2}, 5, 5, 2},            /* from the other side */
      {{0.5, 1, 1.02, 2, 2}, 5, 3, 3},           /* the rule is one of several that are best */
      {{0.5, 1, 1.02, 2, 2}, 5, 5, 3},           /* the one closest to it */
      {{0.5, 1, 1.02, 2, 2}, 5, 0, 1},           /* from the other side */
      {{0.5, 0.5, 0.5, 0.5, 0.5}, 5, 2, 5},      /* the way below, everywhere */
      {{2, 2, 2, 2, 2}, 5, 3, 0},                /* the way above, everywhere */
      {{0.5, 0.5, 2, 2, 0.9}, 5, 2, 2}, /* one that is out of step does not undo the others */
      {{0.5, 2, 0.25, 2, 2}, 5, 0, 3},  /* what is gained later is worth what is lost before */
      {{1, 1, 2, 1, 1}, 5, 5, 2},       /* from the rule no further than it pays */
  };
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    const size_t found = clnorm_choose_threshold(rows[i].ratios, rows[i].count, rows[i].rule);
    if (found != rows[i].expected)
      fail_msg("row %zu: %zu, expected %zu", i, found, rows[i].expected);
  }
}

static void test_mean(void **state) {
  const double values[] = {4, 0.25, 8};
  (void)state;
  assert_true(fabs(clnorm_geometric_mean(values, 3) - 2) < 1e-12);
  assert_true(clnorm_geometric_mean(values, 2) == 1);
  assert_true(clnorm_geometric_mean(values, 0) == 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_threshold), cmocka_unit_test(test_mean)};
  return cmocka_run_group_tests_name("thresholds", tests, NULL, NULL);
}
