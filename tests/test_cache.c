/* The disk cache of compiled programs: used, private, and never a reason to fail. */
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "journal.h"

/* ---- Folders and their entries ----------------------------------------------------------------- */

static char base[512]; /* of this process; removed at the end */

static const char *path_of(const char *folder, const char *name) {
  static char path[1024];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

/* Calls visit for every entry of the folder; returns how many there are. */
static int for_entries(const char *folder, void (*visit)(const char *path)) {
  DIR *dir = opendir(folder);
  int count = 0;
  if (dir == NULL) return 0;
  for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    count++;
    if (visit != NULL) visit(path_of(folder, entry->d_name));
  }
  closedir(dir);
  return count;
}

static void remove_entry(const char *path) {
  if (unlink(path) != 0) rmdir(path);
}

static void fresh_folder(char *folder, size_t size, const char *name) {
  snprintf(folder, size, "%s/%s", base, name);
  chmod(folder, 0700);
  for_entries(folder, remove_entry);
  rmdir(folder);
}

/* ---- Damage ------------------------------------------------------------------------------------ */

static void write_at(const char *path, off_t offset, const void *bytes, size_t size) {
  const int fd = open(path, O_WRONLY);
  assert_true(fd >= 0);
  assert_int_equal(pwrite(fd, bytes, size, offset), size);
  close(fd);
}

static off_t size_of(const char *path) {
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  return info.st_size;
}

static void empty(const char *path) { assert_int_equal(truncate(path, 0), 0); }
static void halve(const char *path) { assert_int_equal(truncate(path, size_of(path) / 2), 0); }
static void cut_last_byte(const char *path) {
  assert_int_equal(truncate(path, size_of(path) - 1), 0);
}
static void lengthen(const char *path) { write_at(path, size_of(path), "more", 4); }
static void spoil_start(const char *path) { write_at(path, 0, "\xff\xff\xff\xff", 4); }
static void spoil_middle(const char *path) { write_at(path, size_of(path) / 2, "\xa5\x5a\xa5", 3); }
static void spoil_end(const char *path) { write_at(path, size_of(path) - 2, "\xa5\x5a", 2); }
static void fill_with_ones(const char *path) {
  for (off_t at = 0; at < size_of(path) && at < 4096; at++) write_at(path, at, "\xff", 1);
}
static void become_folder(const char *path) {
  assert_int_equal(unlink(path), 0);
  assert_int_equal(mkdir(path, 0700), 0);
}
static void become_dangling_link(const char *path) {
  assert_int_equal(unlink(path), 0);
  assert_int_equal(symlink("/nonexistent/clnorm", path), 0);
}
static void open_to_others(const char *path) { assert_int_equal(chmod(path, 0666), 0); }

static const struct {
  const char *name;
  void (*inflict)(const char *path);
} damages[] = {
    {"empty", empty},
    {"half", halve},
    {"one byte short", cut_last_byte},
    {"four bytes more", lengthen},
    {"start overwritten", spoil_start},
    {"middle overwritten", spoil_middle},
    {"end overwritten", spoil_end},
    {"all ones", fill_with_ones},
    {"a folder", become_folder},
    {"a link to nowhere", become_dangling_link},
    {"writable by others", open_to_others},
};

/* ---- One use of a cache ------------------------------------------------------------------------ */

/* Opens the device with this cache, runs one problem in both modes, and compares with the CPU path. */
static bool works_with(const char *cache_dir, journal *log) {
  enum { COUNT = 3 * 5 * 77 };
  static float x[COUNT];
  fixture_fill(x, COUNT, 1, 3, 2);
  clnorm_context_options options = fixture_options();
  options.cache_dir = cache_dir;
  options.log = log != NULL ? journal_keep_line : NULL;
  options.log_user_data = log;
  clnorm_context *context = NULL, *cpu = NULL;
  clnorm_message message;
  if (clnorm_context_create(fixture_device(), &options, &context, &message) != CLNORM_OK) {
    fprintf(stderr, "%s\n", message.text);
    return false;
  }
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 3, 5, 77);
  const dense_args inputs = {.x = clnorm_host_memory(x, sizeof x)};
  clnorm_difference d[CLNORM_NUM_OUTPUTS];
  bool good = clnorm_context_create("cpu", NULL, &cpu, NULL) == CLNORM_OK;
  good = good && dense_compare_runs(context, cpu, &desc, &inputs, d) == CLNORM_OK;
  good = good && d[CLNORM_OUTPUT_Y].elements == COUNT && d[CLNORM_OUTPUT_Y].differing_elements == 0;
  clnorm_context_destroy(cpu);
  clnorm_context_destroy(context);
  return good;
}

static int assert_is_private(const char *path) {
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  assert_int_equal(info.st_mode & 077, 0);
  return 0;
}

static void check_private(const char *path) { assert_is_private(path); }

/* ---- Tests ------------------------------------------------------------------------------------- */

static void entries_are_made_once_and_are_private(void **state) {
  (void)state;
  char folder[600];
  fresh_folder(folder, sizeof folder, "made");
  journal log = {0};
  assert_true(works_with(folder, &log));
  const int entries = for_entries(folder, check_private);
  assert_true(entries >= 1);
  assert_is_private(folder);
  log.lines = 0;
  assert_true(works_with(folder, &log));
  assert_int_equal(for_entries(folder, NULL), entries);
  assert_int_equal(log.lines, 0); /* nothing to tell: the entry was good */
}

static void parents_are_made(void **state) {
  (void)state;
  char folder[600];
  snprintf(folder, sizeof folder, "%s/a/b", base);
  assert_true(works_with(folder, NULL));
  assert_true(for_entries(folder, remove_entry) >= 1);
  assert_int_equal(rmdir(folder), 0);
  *strrchr(folder, '/') = '\0';
  assert_int_equal(rmdir(folder), 0);
}

static void no_cache(void **state) {
  (void)state;
  assert_true(works_with("", NULL));
}

/* PoCL keeps programs itself: it is asked for them only where a folder is named. */
static void only_a_named_folder(void **state) {
  (void)state;
  char folder[600], before[600];
  const char *named = getenv("CLNORM_CACHE_DIR");
  assert_non_null(named); /* of all tests */
  snprintf(before, sizeof before, "%s", named);
  fresh_folder(folder, sizeof folder, "default");
  setenv("XDG_CACHE_HOME", folder, 1);
  unsetenv("CLNORM_CACHE_DIR");
  const bool by_default = works_with(NULL, NULL);
  const int entries = for_entries(folder, NULL);
  setenv("CLNORM_CACHE_DIR", folder, 1);
  const bool by_name = works_with(NULL, NULL);
  setenv("CLNORM_CACHE_DIR", before, 1);
  unsetenv("XDG_CACHE_HOME");
  assert_true(by_default);
  assert_int_equal(entries, 0);
  assert_true(by_name);
  assert_true(for_entries(folder, NULL) >= 1);
}

static void damaged_entries_are_rebuilt(void **state) {
  (void)state;
  char folder[600];
  for (size_t i = 0; i < FIXTURE_LENGTH(damages); i++) {
    print_message("  %s\n", damages[i].name);
    fresh_folder(folder, sizeof folder, "damaged");
    assert_true(works_with(folder, NULL));
    const int entries = for_entries(folder, damages[i].inflict);
    journal log = {0};
    assert_true(works_with(folder, &log));
    if (log.lines == 0) fail_msg("%s: nothing was logged", damages[i].name);
    if (damages[i].inflict == become_folder) continue; /* nothing can take its place */
    log.lines = 0;
    assert_true(works_with(folder, &log));
    if (log.lines != 0) fail_msg("%s: not rebuilt: %s", damages[i].name, log.text);
    assert_int_equal(for_entries(folder, NULL), entries);
  }
}

static void folders_that_cannot_be_used(void **state) {
  (void)state;
  char file[600], below[700];
  snprintf(file, sizeof file, "%s/file", base);
  const int fd = open(file, O_WRONLY | O_CREAT, 0600);
  assert_true(fd >= 0);
  close(fd);
  snprintf(below, sizeof below, "%s/cache", file);
  const char *const folders[] = {file, below, "/proc/clnorm", "/dev/null/x"};
  for (size_t i = 0; i < FIXTURE_LENGTH(folders); i++) {
    journal log = {0};
    assert_true(works_with(folders[i], &log));
    if (log.lines == 0) fail_msg("%s: nothing was logged", folders[i]);
  }
  assert_int_equal(unlink(file), 0);
}

/* Root may write anywhere; what it sees here is that nothing breaks. */
static void a_read_only_folder(void **state) {
  (void)state;
  char folder[600];
  fresh_folder(folder, sizeof folder, "readonly");
  assert_int_equal(mkdir(folder, 0500), 0);
  journal log = {0};
  assert_true(works_with(folder, &log));
  if (geteuid() != 0) {
    assert_true(log.lines > 0);
    assert_int_equal(for_entries(folder, NULL), 0);
  }
}

static void a_folder_that_others_may_write(void **state) {
  (void)state;
  char folder[600];
  fresh_folder(folder, sizeof folder, "shared");
  assert_int_equal(mkdir(folder, 0700), 0);
  assert_int_equal(chmod(folder, 0777), 0);
  journal log = {0};
  assert_true(works_with(folder, &log));
  assert_true(log.lines > 0);
  assert_int_equal(for_entries(folder, NULL), 0);
}

/* Processes that start at once on a cold cache: all of them work, one good entry and no litter stays. */
static void many_writers(void **state) {
  (void)state;
  enum { WRITERS = 6 };
  char folder[600];
  fresh_folder(folder, sizeof folder, "writers");
  pid_t children[WRITERS];
  for (int i = 0; i < WRITERS; i++) {
    children[i] = fork();
    assert_true(children[i] >= 0);
    if (children[i] == 0) _exit(works_with(folder, NULL) ? 0 : 1);
  }
  for (int i = 0; i < WRITERS; i++) {
    int status = -1;
    assert_int_equal(waitpid(children[i], &status, 0), children[i]);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  journal log = {0};
  assert_true(works_with(folder, &log));
  assert_int_equal(log.lines, 0);
  char alone[600];
  fresh_folder(alone, sizeof alone, "alone");
  assert_true(works_with(alone, NULL));
  assert_int_equal(for_entries(folder, NULL), for_entries(alone, NULL));
}

static int make_base(void **state) {
  (void)state;
  snprintf(base, sizeof base, "%s/cache-XXXXXX", CLNORM_TEST_BINARY_DIR);
  return mkdtemp(base) == NULL;
}

static int remove_base(void **state) {
  (void)state;
  static const char *const names[] = {"made",    "damaged", "readonly", "shared",
                                      "writers", "alone",   "default"};
  char folder[600];
  for (size_t i = 0; i < FIXTURE_LENGTH(names); i++) fresh_folder(folder, sizeof folder, names[i]);
  return rmdir(base);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(many_writers), /* first: it forks, before a driver has threads */
      cmocka_unit_test(entries_are_made_once_and_are_private),
      cmocka_unit_test(parents_are_made),
      cmocka_unit_test(no_cache),
      cmocka_unit_test(only_a_named_folder),
      cmocka_unit_test(damaged_entries_are_rebuilt),
      cmocka_unit_test(folders_that_cannot_be_used),
      cmocka_unit_test(a_read_only_folder),
      cmocka_unit_test(a_folder_that_others_may_write),
  };
  return cmocka_run_group_tests(tests, make_base, remove_base);
}
