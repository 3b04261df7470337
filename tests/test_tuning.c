/* The tuning of a device: where its values come from, what is kept on disk, and that no value changes a
 * bit. */
#include "fixture.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"
#include "journal.h"

static char cache[512]; /* of this process; removed at the end */

/* tuning NULL: what is kept, or the rule. log may be NULL. */
static clnorm_context *open_tuned(const clnorm_tuning *tuning, journal *log) {
  clnorm_context_options options = dense_context_options();
  options.cache_dir = cache;
  options.tuning = tuning;
  options.log = log ? journal_keep_line : NULL;
  options.log_user_data = log;
  return fixture_open_with(fixture_device(), &options);
}

static clnorm_tuning in_force(const clnorm_tuning *given, int32_t expected) {
  clnorm_context *context = open_tuned(given, NULL);
  int32_t source;
  const clnorm_tuning tuning = dense_context_tuning(context, &source);
  assert_int_equal(source, expected);
  clnorm_context_destroy(context);
  return tuning;
}

static void assert_same(clnorm_tuning a, clnorm_tuning b) {
  assert_int_equal(a.form, b.form);
  assert_true(a.split_below == b.split_below);
  assert_true(a.stream_bytes == b.stream_bytes);
  assert_true(a.train_stream_bytes == b.train_stream_bytes);
}

/* Keeps a tuning by a context of its own; returns the file's path. */
static const char *keep(clnorm_tuning tuning) {
  static char path[4096];
  clnorm_context *context = open_tuned(NULL, NULL);
  assert_ok(context, clnorm_tuning_keep(context, &tuning));
  snprintf(path, sizeof path, "%s", clnorm_tuning_path(context));
  clnorm_context_destroy(context);
  return path;
}

static int empty_cache(void **state) {
  (void)state;
  chmod(cache, 0700);
  folder_empty(cache);
  return 0;
}

/* ---- Where values come from ---------------------------------------------------------------------- */

static void by_rule(void **state) {
  (void)state;
  const clnorm_tuning defaults = dense_tuning();
  assert_true(defaults.form == CLNORM_FORM_AUTO && defaults.split_below == 0 &&
              defaults.stream_bytes == 0 && defaults.train_stream_bytes == 0);
  const clnorm_tuning rule = in_force(NULL, CLNORM_TUNING_RULE);
  assert_true(rule.form != CLNORM_FORM_AUTO && rule.split_below > 0 && rule.stream_bytes > 0 &&
              rule.train_stream_bytes > 0);
  assert_same(in_force(&defaults, CLNORM_TUNING_GIVEN), rule);
}

static void keep_read_forget(void **state) {
  (void)state;
  const clnorm_tuning rule = in_force(NULL, CLNORM_TUNING_RULE);
  const clnorm_tuning rows[] = {{sizeof(clnorm_tuning), rule.form, 1.5, UINT64_MAX, 5},
                                {sizeof(clnorm_tuning), CLNORM_FORM_VECTOR, 0.001, 1, UINT64_MAX},
                                {sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 1e6, 12345, 1}};
  struct stat info;
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_tuning expected = rows[i];
    if (!expected.form) expected.form = rule.form;
    const char *path = keep(rows[i]);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 077, 0);
    assert_same(in_force(NULL, CLNORM_TUNING_KEPT), expected);
  }
  const clnorm_tuning part = {sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 0, 7, 0};
  keep(part);
  assert_int_equal(in_force(NULL, CLNORM_TUNING_KEPT).stream_bytes, 7);
  assert_int_equal(in_force(NULL, CLNORM_TUNING_KEPT).train_stream_bytes, 7);
  assert_true(in_force(NULL, CLNORM_TUNING_KEPT).split_below == rule.split_below);

  clnorm_context *context = open_tuned(NULL, NULL);
  assert_non_null(strstr(clnorm_context_description(context), ", tuned"));
  assert_ok(context, clnorm_tuning_forget(context));
  assert_ok(context, clnorm_tuning_forget(context)); /* nothing is there any more */
  clnorm_context_destroy(context);
  assert_same(in_force(NULL, CLNORM_TUNING_RULE), rule);
  assert_int_not_equal(stat(keep(part), &info), -1);
}

static void given_goes_before_kept(void **state) {
  (void)state;
  const clnorm_tuning rule = in_force(NULL, CLNORM_TUNING_RULE);
  const clnorm_tuning kept = {sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 3, 100, 200},
                      defaults = dense_tuning();
  const clnorm_tuning given = {sizeof(clnorm_tuning), CLNORM_FORM_VECTOR, 0.25, 4096, 8192};
  keep(kept);
  assert_same(in_force(&given, CLNORM_TUNING_GIVEN), given);
  assert_same(in_force(&defaults, CLNORM_TUNING_GIVEN), rule);
  clnorm_context_options options = dense_context_options();
  options.cache_dir = cache;
  options.form = CLNORM_FORM_VECTOR; /* forced: not what was tuned */
  int32_t source;
  clnorm_context *context = fixture_open_with(fixture_device(), &options);
  dense_context_tuning(context, &source);
  assert_int_equal(source, CLNORM_TUNING_RULE);
  clnorm_context_destroy(context);
}

static void found_without_opening(void **state) {
  (void)state;
  const clnorm_tuning kept = {sizeof(clnorm_tuning), CLNORM_FORM_VECTOR, 2.125, 1 << 20, 1 << 19};
  clnorm_tuning found = dense_tuning();
  clnorm_context *context = open_tuned(NULL, NULL);
  clnorm_device_info info = *clnorm_context_device(context);
  clnorm_context_destroy(context);
  assert_false(clnorm_tuning_kept(&info, cache, &found));
  assert_same(found, dense_tuning());
  keep(kept);
  assert_true(clnorm_tuning_kept(&info, cache, &found));
  assert_same(found, kept);
  assert_false(clnorm_tuning_kept(&info, "", &found));
  info.compute_units++; /* another device */
  assert_false(clnorm_tuning_kept(&info, cache, &found));
}

/* ---- What is refused ------------------------------------------------------------------------------- */

static void out_of_range(void **state) {
  (void)state;
  static const struct {
    clnorm_tuning tuning;
    const char *words;
  } rows[] = {
      {{sizeof(clnorm_tuning), (clnorm_form)3, 0, 0, 0}, "form is 3|[0, 2]"},
      {{sizeof(clnorm_tuning), (clnorm_form)-1, 0, 0, 0}, "form is -1"},
      {{sizeof(clnorm_tuning), CLNORM_FORM_AUTO, -1, 0, 0}, "split_below is -1|[0.001, 1e+06]"},
      {{sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 0.0009, 0, 0}, "split_below is 0.0009"},
      {{sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 1000001, 0, 0}, "split_below is 1000001"},
      {{sizeof(clnorm_tuning), CLNORM_FORM_AUTO, (double)NAN, 0, 0}, "split_below"},
      {{sizeof(clnorm_tuning), CLNORM_FORM_AUTO, (double)INFINITY, 0, 0}, "split_below is inf"},
  };
  clnorm_context *context = open_tuned(NULL, NULL), *none;
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_message message;
    clnorm_context_options options = dense_context_options();
    options.tuning = &rows[i].tuning;
    clnorm_status status = clnorm_context_create(fixture_device(), &options, &none, &message);
    fixture_rejected(message.text, status, CLNORM_ERROR_INVALID_ARGUMENT, rows[i].words, "given");
    status = clnorm_tuning_keep(context, &rows[i].tuning);
    fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_INVALID_ARGUMENT,
                     rows[i].words, "kept");
  }
  clnorm_context_destroy(context);
  assert_int_equal(in_force(NULL, CLNORM_TUNING_RULE).form != CLNORM_FORM_AUTO, 1);
}

static void wide_on_the_cpu_path(void **state) {
  (void)state;
  const clnorm_tuning wide = {sizeof(clnorm_tuning), CLNORM_FORM_WIDE, 0, 0, 0};
  clnorm_context_options options = dense_context_options();
  clnorm_context *context;
  clnorm_message message;
  options.cache_dir = cache;
  context = fixture_open_with("cpu", &options);
  fixture_rejected(clnorm_last_error(context), clnorm_tuning_keep(context, &wide),
                   CLNORM_ERROR_INVALID_ARGUMENT, "wide|vector form only", "kept");
  clnorm_context_destroy(context);
  options.tuning = &wide;
  const clnorm_status status = clnorm_context_create("cpu", &options, &context, &message);
  fixture_rejected(message.text, status, CLNORM_ERROR_INVALID_ARGUMENT, "wide|vector form only",
                   "given");
}

static void no_folder(void **state) {
  (void)state;
  const clnorm_tuning tuning = dense_tuning();
  clnorm_context_options options = dense_context_options();
  options.cache_dir = "";
  clnorm_context *context = fixture_open_with(fixture_device(), &options);
  assert_string_equal(clnorm_tuning_path(context), "");
  clnorm_status status = clnorm_tuning_keep(context, &tuning);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_STATE, "cache_dir", "keep");
  status = clnorm_tuning_forget(context);
  fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_STATE, "cache_dir", "forget");
  clnorm_context_destroy(context);
}

static void folders_that_cannot_be_written(void **state) {
  (void)state;
  static const char *const folders[] = {"/dev/null/x", "/proc/clnorm"};
  const clnorm_tuning tuning = dense_tuning();
  clnorm_context_options options = dense_context_options();
  for (size_t i = 0; i < FIXTURE_LENGTH(folders); i++) {
    options.cache_dir = folders[i];
    clnorm_context *context = fixture_open_with(fixture_device(), &options);
    const clnorm_status status = clnorm_tuning_keep(context, &tuning);
    fixture_rejected(clnorm_last_error(context), status, CLNORM_ERROR_STATE, folders[i], "keep");
    clnorm_context_destroy(context);
  }
}

/* Root may write anywhere. Whoever it is, what was kept stays whole and in force. */
static void a_read_only_folder(void **state) {
  (void)state;
  const clnorm_tuning old = {sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 5, 5, 5},
                      other = {sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 6, 6, 6};
  keep(old);
  assert_int_equal(chmod(cache, 0500), 0);
  assert_same(in_force(NULL, CLNORM_TUNING_KEPT), in_force(&old, CLNORM_TUNING_GIVEN));
  if (geteuid() == 0) return;
  clnorm_context *context = open_tuned(NULL, NULL);
  assert_int_equal(clnorm_tuning_keep(context, &other), CLNORM_ERROR_STATE);
  assert_int_equal(clnorm_tuning_forget(context), CLNORM_ERROR_STATE);
  clnorm_context_destroy(context);
  assert_same(in_force(NULL, CLNORM_TUNING_KEPT), in_force(&old, CLNORM_TUNING_GIVEN));
}

/* ---- Files that are not as they must be --------------------------------------------------------------- */

static void write_file(const char *path, const char *text, size_t size) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
}

static size_t read_file(const char *path, char *text, size_t size) {
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  const size_t length = fread(text, 1, size - 1, file);
  fclose(file);
  text[length] = '\0';
  return length;
}

/* The rule holds, and the reason was logged. */
static void assert_ignored(const char *what) {
  journal log = {0};
  int32_t source;
  clnorm_context *context = open_tuned(NULL, &log);
  dense_context_tuning(context, &source);
  clnorm_context_destroy(context);
  if (source != CLNORM_TUNING_RULE) fail_msg("%s: it was used", what);
  if (!strstr(log.text, ".tuning is not used: ") && !strstr(log.text, ".tuning cannot be opened"))
    fail_msg("%s: the log says '%s'", what, log.text);
}

static void damaged_files(void **state) {
  (void)state;
  static const struct {
    const char *from, *to;
  } rows[] = {
      {"clnorm tuning 2", "clnorm tuning 1"},
      {"clnorm tuning 2", "clnorm"},
      {"compute_units ", "compute_units 9"},
      {"device ", "device another "},
      {"form vector", "form tall"},
      {"form vector", "form vector "},
      {"thousandths 2500", "thousandths 1000000001"},
      {"thousandths 2500", "thousandths -1"},
      {"thousandths 2500", "thousandths 2.5"},
      {"thousandths 2500", "thousandths "},
      {"stream_bytes 77", "stream_bytes 18446744073709551616"},
      {"stream_bytes 77", "stream_bytes 184467440737095516150"},
      {"stream_bytes 77", "stream_bytes 7 7"},
      {"stream_bytes 77\n", "stream_bytes 77"},
      {"stream_bytes 77\n", ""},
      {"train_stream_bytes 99", "train_stream_bytes 18446744073709551616"},
      {"train_stream_bytes 99\n", "train_stream_bytes 99"},
      {"train_stream_bytes 99\n", "train_stream_bytes 99\n\n"},
      {"train_stream_bytes 99\n", ""},
  };
  const clnorm_tuning tuning = {sizeof(clnorm_tuning), CLNORM_FORM_VECTOR, 2.5, 77, 99};
  const char *path = keep(tuning);
  char good[1024], bad[2048];
  const size_t size = read_file(path, good, sizeof good);
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    const char *at = strstr(good, rows[i].from);
    assert_non_null(at);
    snprintf(bad, sizeof bad, "%.*s%s%s", (int)(at - good), good, rows[i].to,
             at + strlen(rows[i].from));
    write_file(path, bad, strlen(bad));
    assert_ignored(rows[i].to);
  }
  for (size_t length = 0; length < size; length++) {
    write_file(path, good, length);
    if (length % 7 == 0) assert_ignored("cut");
  }
  memcpy(bad, good, size + 1); /* the terminating zero too */
  write_file(path, bad, size + 1);
  assert_ignored("a zero byte");
  memset(bad, 'x', sizeof bad);
  write_file(path, bad, sizeof bad);
  assert_ignored("something else");
  write_file(path, good, size);
  assert_same(in_force(NULL, CLNORM_TUNING_KEPT), tuning);
}

static void files_of_the_wrong_kind(void **state) {
  (void)state;
  const clnorm_tuning tuning = {sizeof(clnorm_tuning), CLNORM_FORM_VECTOR, 2.5, 77, 99};
  const char *path = keep(tuning);
  assert_int_equal(chmod(path, 0666), 0);
  assert_ignored("writable by others");
  assert_int_equal(truncate(path, 1 << 20), 0);
  assert_int_equal(chmod(path, 0600), 0);
  assert_ignored("too large");
  assert_int_equal(unlink(path), 0);
  assert_int_equal(symlink("/dev/zero", path), 0);
  assert_ignored("a link");
  assert_int_equal(unlink(path), 0);
  assert_int_equal(mkdir(path, 0700), 0);
  assert_ignored("a folder");
  assert_int_equal(rmdir(path), 0);
}

/* A decimal comma in the caller's locale must not reach the file. Passes where there is no such locale. */
static void another_locale(void **state) {
  (void)state;
  const clnorm_tuning tuning = {sizeof(clnorm_tuning), CLNORM_FORM_VECTOR, 2.5, 77, 99};
  setlocale(LC_ALL, "de_DE.UTF-8");
  keep(tuning);
  assert_same(in_force(NULL, CLNORM_TUNING_KEPT), tuning);
  setlocale(LC_ALL, "C");
  assert_same(in_force(NULL, CLNORM_TUNING_KEPT), tuning);
}

/* ---- What a tuning does ------------------------------------------------------------------------------ */

static unsigned launches(const clnorm_tuning *tuning, int64_t batch, int64_t channels,
                         int64_t spatial) {
  clnorm_context *context = open_tuned(tuning, NULL);
  clnorm_plan *plan;
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, batch, channels, spatial);
  unsigned count = 0;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  const char *text = clnorm_plan_description(plan);
  assert_int_equal(sscanf(strchr(text, ','), ", %u", &count), 1);
  clnorm_plan_destroy(plan);
  clnorm_context_destroy(context);
  return count;
}

static void variants_follow(void **state) {
  (void)state;
  clnorm_context_options options = dense_context_options();
  clnorm_context *context = fixture_open_with(fixture_device(), &options);
  const int workers = clnorm_context_device(context)->compute_units;
  clnorm_context_destroy(context);
  const clnorm_tuning always = {sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 1e6, 0, 0},
                      never = {sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 0.001, 0, 0};
  const clnorm_tuning three = {sizeof(clnorm_tuning), CLNORM_FORM_AUTO, 3, 0, 0};
  assert_int_equal(launches(&never, 1, 1, 40960), 1);
  assert_int_equal(launches(&always, 1, 1, 1024), 1); /* too few segments */
  if (workers == 1) return;                           /* nobody to share the work with */
  assert_int_equal(launches(&always, 1, 1, 40960), 3);
  assert_int_equal(launches(&three, 1, 3 * workers - 1, 40960), 3);
  assert_int_equal(launches(&three, 1, 3 * workers, 40960), 1);
}

static void check_bits(clnorm_context *tuned, clnorm_context *plain, const int64_t shape[3]) {
  const size_t count = (size_t)(shape[0] * shape[1] * shape[2]);
  float *x = malloc(count * sizeof *x), mean[256], var[256];
  assert_non_null(x);
  fixture_fill(x, count, 3, 1, 2);
  fixture_fill(mean, 256, 4, 1, 0.5);
  for (size_t i = 0; i < 256; i++) var[i] = 1 + mean[i] * mean[i];
  for (int s = CLNORM_BATCH_STATISTICS; s <= DENSE_COPY; s++) {
    const dense_desc desc = dense_desc_defaults((clnorm_statistics)s, shape[0], shape[1], shape[2]);
    const size_t channels = (size_t)shape[1] * sizeof(float);
    const dense_args inputs = {.x = clnorm_host_memory(x, count * sizeof *x),
                               .running_mean = clnorm_host_memory(mean, channels),
                               .running_var = clnorm_host_memory(var, channels),
                               .momentum = 0.75};
    clnorm_difference d[CLNORM_NUM_OUTPUTS];
    assert_ok(tuned, dense_compare_runs(tuned, plain, &desc, &inputs, d));
    assert_int_equal(d[CLNORM_OUTPUT_Y].elements, count);
    for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) assert_int_equal(d[i].differing_elements, 0);
  }
  free(x);
}

static void no_value_changes_a_bit(void **state) {
  (void)state;
  static const double splits[] = {0.001, 1e6};
  static const uint64_t streams[] = {1, UINT64_MAX};
  static const int64_t shapes[][3] = {
      {1, 1, 40961}, {2, 3, 20000}, {33, 5, 1031}, {8, 70, 49}, {40, 130, 1}};
  clnorm_context_options options = dense_context_options();
  options.isa = CLNORM_ISA_PLAIN;
  options.num_threads = 1;
  clnorm_context *plain = fixture_open_with("cpu", &options);
  const bool opencl = strcmp(fixture_device(), "cpu") != 0;
  for (int form = CLNORM_FORM_VECTOR; form <= (opencl ? CLNORM_FORM_WIDE : CLNORM_FORM_VECTOR);
       form++)
    for (int i = 0; i < 4; i++) {
      const clnorm_tuning tuning = {sizeof tuning, form, splits[i & 1], streams[i >> 1], 0};
      clnorm_context *tuned = open_tuned(&tuning, NULL);
      assert_int_equal(dense_context_tuning(tuned, NULL).form, form);
      for (size_t k = 0; k < FIXTURE_LENGTH(shapes); k++) check_bits(tuned, plain, shapes[k]);
      clnorm_context_destroy(tuned);
    }
  clnorm_context_destroy(plain);
}

static int make_cache(void **state) {
  (void)state;
  snprintf(cache, sizeof cache, "%s/tuning-XXXXXX", CLNORM_TEST_BINARY_DIR);
  return mkdtemp(cache) == NULL;
}

static int remove_cache(void **state) {
  empty_cache(state);
  return rmdir(cache);
}

#define TUNING_TEST(function) cmocka_unit_test_setup(function, empty_cache)

int main(void) {
  const struct CMUnitTest tests[] = {
      TUNING_TEST(by_rule),
      TUNING_TEST(keep_read_forget),
      TUNING_TEST(given_goes_before_kept),
      TUNING_TEST(found_without_opening),
      TUNING_TEST(out_of_range),
      TUNING_TEST(wide_on_the_cpu_path),
      TUNING_TEST(no_folder),
      TUNING_TEST(folders_that_cannot_be_written),
      TUNING_TEST(a_read_only_folder),
      TUNING_TEST(damaged_files),
      TUNING_TEST(files_of_the_wrong_kind),
      TUNING_TEST(another_locale),
      TUNING_TEST(variants_follow),
      TUNING_TEST(no_value_changes_a_bit),
  };
  return cmocka_run_group_tests(tests, make_cache, remove_cache);
}
