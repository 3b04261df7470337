/* cli/text.c: numbers for people. */
#include "fixture.h"

#include <math.h>

#include "text.h"

typedef struct text_row {
  double value;
  const char *text;
} text_row;

static void test_times(void **state) {
  (void)state;
  static const text_row rows[] = {{2.05e-7, "205 ns"},  {4.2217e-6, "4.22 us"},
                                  {0.0713, "71.3 ms"},  {12, "12.0 s"},
                                  {0, "0 s"},           {-1, "-"},
                                  {NAN, "-"},           {9.999e-4, "1.00 ms"},
                                  {9.994e-4, "999 us"}, {1e-12, "0.00100 ns"},
                                  {3600, "3600 s"},     {0.99996, "1.00 s"}};
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++)
    assert_string_equal(clnorm_time_text(rows[i].value).text, rows[i].text);
}

static void test_numbers(void **state) {
  (void)state;
  static const text_row rows[] = {{0, "0"},        {0.01234, "0.0123"}, {1.5, "1.50"},
                                  {9.996, "10.0"}, {99.96, "100"},      {12345, "12345"},
                                  {-2.5, "-2.50"}, {1e16, "1e+16"},     {1e-12, "0.000000000"}};
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++)
    assert_string_equal(clnorm_number_text(rows[i].value).text, rows[i].text);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_times), cmocka_unit_test(test_numbers)};
  return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
