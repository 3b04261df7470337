/* Status codes and the version: stable values, names and texts. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "status.h"

typedef struct code_row {
  clnorm_status status;
  int value;
  const char *name;
} code_row;

/* Programs keep these numbers: a change here breaks them. */
static const code_row codes[] = {
    {CLNORM_OK, 0, "CLNORM_OK"},
    {CLNORM_ERROR_INVALID_ARGUMENT, 1, "CLNORM_ERROR_INVALID_ARGUMENT"},
    {CLNORM_ERROR_UNSUPPORTED, 2, "CLNORM_ERROR_UNSUPPORTED"},
    {CLNORM_ERROR_OVERFLOW, 3, "CLNORM_ERROR_OVERFLOW"},
    {CLNORM_ERROR_BUFFER_TOO_SMALL, 4, "CLNORM_ERROR_BUFFER_TOO_SMALL"},
    {CLNORM_ERROR_OVERLAP, 5, "CLNORM_ERROR_OVERLAP"},
    {CLNORM_ERROR_STATE, 6, "CLNORM_ERROR_STATE"},
    {CLNORM_ERROR_OUT_OF_MEMORY, 7, "CLNORM_ERROR_OUT_OF_MEMORY"},
    {CLNORM_ERROR_NO_DEVICE, 8, "CLNORM_ERROR_NO_DEVICE"},
    {CLNORM_ERROR_DEVICE, 9, "CLNORM_ERROR_DEVICE"},
    {CLNORM_ERROR_BUILD, 10, "CLNORM_ERROR_BUILD"},
};

static void names_and_values(void **state) {
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(codes); i++) {
    assert_int_equal(codes[i].status, codes[i].value);
    assert_string_equal(clnorm_status_name(codes[i].status), codes[i].name);
    assert_true(strlen(clnorm_status_text(codes[i].status)) > 0);
  }
}

static void unknown_codes_are_named_so(void **state) {
  (void)state;
  static const int unknown[] = {-1, 11, 1000};
  for (size_t i = 0; i < FIXTURE_LENGTH(unknown); i++) {
    assert_non_null(strstr(clnorm_status_name((clnorm_status)unknown[i]), "UNKNOWN"));
    assert_true(strlen(clnorm_status_text((clnorm_status)unknown[i])) > 0);
  }
}

static void version_is_the_headers(void **state) {
  (void)state;
  char expected[32];
  snprintf(expected, sizeof expected, "%d.%d.%d", CLNORM_VERSION_MAJOR, CLNORM_VERSION_MINOR,
           CLNORM_VERSION_PATCH);
  assert_string_equal(clnorm_version(), expected);
}

static void fail_keeps_the_text(void **state) {
  (void)state;
  clnorm_error error = {0};
  assert_int_equal(clnorm__fail(&error, CLNORM_ERROR_STATE, "%s is %d", "x", 3),
                   CLNORM_ERROR_STATE);
  assert_string_equal(error.message.text, "x is 3");
}

static void fail_cuts_a_text_that_is_too_long(void **state) {
  (void)state;
  clnorm_error error = {0};
  static char text[2 * sizeof error.message.text];
  memset(text, 'a', sizeof text - 1);
  clnorm__fail(&error, CLNORM_ERROR_BUILD, "%s", text);
  assert_true(strlen(error.message.text) < sizeof error.message.text);
  assert_true(strlen(error.message.text) > sizeof error.message.text / 2);
}

static void count_lines(void *user_data, const char *line) {
  assert_null(strchr(line, '\n'));
  ++*(int *)user_data;
}

static void log_is_one_call_a_line(void **state) {
  (void)state;
  int lines = 0;
  clnorm_error error = {.log = count_lines, .log_user_data = &lines};
  clnorm__log(&error, "%s\n%s", "one", "two");
  assert_int_equal(lines, 2);
  error.log = NULL;
  clnorm__log(&error, "nobody listens");
}

static void test_quoted_numbers(void **state) {
  (void)state;
  static const struct {
    double value;
    const char *text;
  } rows[] = {{1.0000001, "1.0000001"},
              {1.0000000000000002, "1.0000000000000002"},
              {-1e-5, "-1e-05"},
              {0.1, "0.1"},
              {1.5, "1.5"},
              {3.5e38, "3.5e+38"},
              {INFINITY, "inf"},
              {-0.0, "-0"}};
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++)
    assert_string_equal(clnorm__quote(rows[i].value).text, rows[i].text);
  assert_non_null(strstr(clnorm__quote(NAN).text, "nan"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_and_values),
      cmocka_unit_test(unknown_codes_are_named_so),
      cmocka_unit_test(version_is_the_headers),
      cmocka_unit_test(fail_keeps_the_text),
      cmocka_unit_test(fail_cuts_a_text_that_is_too_long),
      cmocka_unit_test(log_is_one_call_a_line),
      cmocka_unit_test(test_quoted_numbers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
