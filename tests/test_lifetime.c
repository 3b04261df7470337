/* The ends of objects, on the device under test: NULL in place of every handle, contexts that end before what
 * was made from them, and processes that were forked. */
#include "fixture.h"

#include <ctype.h>
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 4, C = 8, H = 64, W = 64, S = H * W, COUNT = N * C * S, BYTES = COUNT * 4 };

#define INVALID CLNORM_ERROR_INVALID_ARGUMENT
#define STATE CLNORM_ERROR_STATE

/* ---- NULL ------------------------------------------------------------------------------------------ */

static char called[4096]; /* " name name ... ": the functions that a test gave NULL */
#define CALLED(name) (strcat(called, " " #name " "), name)

static bool is_default(clnorm_tuning tuning) {
  return tuning.form == CLNORM_FORM_AUTO && tuning.split_below == 0 && tuning.stream_bytes == 0;
}

static void null_lists(void **state) {
  (void)state;
  assert_int_equal(CALLED(clnorm_device_list_create)(NULL), INVALID);
  CALLED(clnorm_device_list_destroy)(NULL);
  assert_int_equal(CALLED(clnorm_device_list_count)(NULL), 0);
  assert_null(CALLED(clnorm_device_list_get)(NULL, 0));
  assert_int_equal(CALLED(clnorm_device_list_default)(NULL), 0);
  assert_int_equal(CALLED(clnorm_device_list_missing_count)(NULL), 0);
  assert_null(CALLED(clnorm_device_list_missing)(NULL, 0));
}

static void null_contexts(void **state) {
  (void)state;
  clnorm_memory memory = {NULL, NULL, 0, 0};
  clnorm_tuning tuning = {sizeof(clnorm_tuning), CLNORM_FORM_WIDE, 1, 1, 1};
  int32_t source = CLNORM_TUNING_GIVEN;
  double seconds;
  float value = 0;
  assert_int_equal(CALLED(clnorm_context_create)(NULL, NULL, NULL, NULL), INVALID);
  CALLED(clnorm_context_destroy)(NULL);
  assert_null(CALLED(clnorm_context_device)(NULL));
  assert_string_equal(CALLED(clnorm_context_description)(NULL), "");
  assert_string_equal(CALLED(clnorm_last_error)(NULL), "");
  assert_int_equal(CALLED(clnorm_finish)(NULL), INVALID);
  assert_int_equal(CALLED(clnorm_last_run_seconds)(NULL, &seconds), INVALID);
  CALLED(clnorm_context_tuning)(NULL, &tuning, &source);
  assert_true(is_default(tuning));
  assert_int_equal(source, CLNORM_TUNING_RULE);
  clnorm_context_tuning(NULL, NULL, NULL);
  assert_int_equal(CALLED(clnorm_tuning_keep)(NULL, &tuning), INVALID);
  assert_int_equal(CALLED(clnorm_tuning_forget)(NULL), INVALID);
  assert_string_equal(CALLED(clnorm_tuning_path)(NULL), "");
  assert_false(CALLED(clnorm_tuning_kept)(NULL, NULL, NULL));
  assert_false(clnorm_tuning_kept(NULL, "", &tuning));
  assert_true(is_default(tuning));
  assert_int_equal(CALLED(clnorm_memory_alloc)(NULL, 4, &memory), INVALID);
  CALLED(clnorm_memory_free)(NULL, NULL);
  memory = clnorm_host_memory(&value, sizeof value);
  clnorm_memory_free(NULL, &memory);
  assert_int_equal(CALLED(clnorm_memory_write)(NULL, memory, &value, 4), INVALID);
  assert_int_equal(CALLED(clnorm_memory_read)(NULL, memory, &value, 4), INVALID);
}

static void null_plans_and_modules(void **state) {
  (void)state;
  static const int64_t dims[4] = {1, 1, 1, 1};
  clnorm_plan *plan = NULL;
  clnorm_batchnorm *bn = NULL;
  float value = 0;
  const dense_args args = {.momentum = 0};
  clnorm_operand operand;
  clnorm_problem problem;
  clnorm_operand_init(&operand, sizeof operand);
  clnorm_problem_init(&problem, sizeof problem);
  assert_int_equal(CALLED(clnorm_plan_create)(NULL, NULL, &plan), INVALID);
  CALLED(clnorm_plan_destroy)(NULL);
  assert_int_equal(CALLED(clnorm_plan_operand)(NULL, CLNORM_X, &operand), INVALID);
  assert_string_equal(CALLED(clnorm_plan_description)(NULL), "");
  assert_int_equal(CALLED(clnorm_run)(NULL, NULL, 0, NULL), INVALID);
  assert_int_equal(dense_run(NULL, &args), INVALID);
  assert_int_equal(CALLED(clnorm_batchnorm_create)(NULL, NULL, &bn), INVALID);
  CALLED(clnorm_batchnorm_destroy)(NULL);
  CALLED(clnorm_batchnorm_set_training)(NULL, true);
  assert_false(CALLED(clnorm_batchnorm_training)(NULL));
  assert_int_equal(CALLED(clnorm_batchnorm_set_track_running_stats)(NULL, true), INVALID);
  assert_false(CALLED(clnorm_batchnorm_track_running_stats)(NULL));
  assert_int_equal(CALLED(clnorm_batchnorm_set)(NULL, CLNORM_BIAS, CLNORM_F32, &value, 1), INVALID);
  assert_int_equal(CALLED(clnorm_batchnorm_get)(NULL, CLNORM_BIAS, CLNORM_F32, &value, 1), INVALID);
  const clnorm_memory memory = CALLED(clnorm_batchnorm_memory)(NULL, CLNORM_BIAS);
  assert_true(!memory.host && !memory.cl);
  assert_int_equal(CALLED(clnorm_batchnorm_reset_running_stats)(NULL), INVALID);
  assert_int_equal(CALLED(clnorm_batchnorm_reset_parameters)(NULL), INVALID);
  assert_int_equal(CALLED(clnorm_batchnorm_num_batches_tracked)(NULL), 0);
  assert_int_equal(CALLED(clnorm_batchnorm_set_num_batches_tracked)(NULL, 1), INVALID);
  clnorm_tensor x;
  CALLED(clnorm_tensor_nchw)(NULL, CLNORM_F32, 4, dims);
  CALLED(clnorm_tensor_nhwc)(NULL, CLNORM_F32, 4, dims);
  CALLED(clnorm_tensor_blocked)(NULL, CLNORM_F32, 4, dims, 4);
  assert_int_equal(CALLED(clnorm_tensor_bytes)(NULL), 0);
  clnorm_tensor_nchw(&x, CLNORM_F32, 4, dims);
  assert_int_equal(CALLED(clnorm_batchnorm_problem)(NULL, &x, &problem), INVALID);
  assert_int_equal(CALLED(clnorm_batchnorm_forward)(NULL, &x, NULL, 0, NULL), INVALID);
  assert_int_equal(CALLED(clnorm_batchnorm_backward)(NULL, &x, NULL, 0, NULL), INVALID);
  assert_int_equal(CALLED(clnorm_batchnorm_backward_problem)(NULL, &x, &problem), INVALID);
}

static void null_comparisons(void **state) {
  static const int64_t dims[4] = {1, 1, 1, 1};
  clnorm_context *context = *state;
  const float value = 1;
  const clnorm_memory memory = clnorm_host_memory(&value, sizeof value);
  clnorm_difference difference;
  clnorm_tensor tensor;
  clnorm_tensor_nchw(&tensor, CLNORM_F32, 4, dims);
  CALLED(clnorm_compare)(&tensor, &value, &tensor, &value, NULL);
  clnorm_difference_init(&difference, sizeof difference);
  clnorm_compare(NULL, &value, &tensor, &value, &difference);
  assert_int_equal(difference.elements, 0);
  clnorm_compare(&tensor, NULL, &tensor, &value, &difference);
  clnorm_compare(&tensor, &value, &tensor, NULL, &difference);
  assert_int_equal(difference.elements, 0);
  assert_int_equal(
      CALLED(clnorm_compare_memory)(NULL, &tensor, memory, context, &tensor, memory, &difference),
      INVALID);
  assert_int_equal(
      clnorm_compare_memory(context, &tensor, memory, NULL, &tensor, memory, &difference), INVALID);
  clnorm_context *const contexts[3] = {NULL, context, context};
  assert_int_equal(CALLED(clnorm_compare_runs)(NULL, NULL, NULL, 0, NULL, NULL, 0), INVALID);
  assert_int_equal(clnorm_compare_runs(contexts, NULL, NULL, 0, NULL, NULL, 0), INVALID);
  assert_int_equal(clnorm_compare_runs(contexts + 1, NULL, NULL, 0, NULL, NULL, 0), INVALID);
}

static void null_structures(void **state) {
  (void)state;
  CALLED(clnorm_tuning_init)(NULL, 1000);
  CALLED(clnorm_context_options_init)(NULL, 1000);
  CALLED(clnorm_problem_init)(NULL, 1000);
  CALLED(clnorm_operand_init)(NULL, 1000);
  CALLED(clnorm_run_options_init)(NULL, 1000);
  CALLED(clnorm_batchnorm_options_init)(NULL, 1000, 1);
  CALLED(clnorm_difference_init)(NULL, 1000);
  const clnorm_memory nothing = CALLED(clnorm_host_memory)(NULL, 0);
  assert_null(nothing.host);
}

/* These take no handle. */
static const char *const without_handles =
    " clnorm_version  clnorm_status_name  clnorm_status_text  clnorm_dtype_size "
    " clnorm_dtype_name  clnorm_role_name  clnorm_bind ";

/* Steps to the next function that the header declares; false at its end. */
static bool next_function(const char **at, char name[128]) {
  while ((*at = strstr(*at, "\nCLNORM_API "))) {
    const char *open = strchr(++*at, '(');
    const char *begin = open;
    while (begin > *at && (isalnum((unsigned char)begin[-1]) || begin[-1] == '_')) begin--;
    snprintf(name, 128, " %.*s ", (int)(open - begin), begin);
    return true;
  }
  return false;
}

/* Every function of the header was called with NULL above, or takes no handle. */
static void no_function_is_left_out(void **state) {
  (void)state;
  static char header[1 << 17];
  FILE *file = fopen(CLNORM_TEST_HEADER, "r");
  assert_non_null(file);
  const size_t size = fread(header, 1, sizeof header - 1, file);
  fclose(file);
  assert_true(size > 0 && size < sizeof header - 1);
  const char *at = header;
  char name[128];
  int count = 0;
  for (; next_function(&at, name); count++)
    if (!strstr(called, name) && !strstr(without_handles, name))
      fail_msg("%s was not called with NULL", name);
  assert_true(count > 40);
}

/* ---- A context that ends first --------------------------------------------------------------------- */

/* One of everything that a context makes. */
typedef struct family {
  clnorm_context *context;
  clnorm_plan *plan;
  clnorm_batchnorm *bn;
  clnorm_memory x, y;
} family;

static const int64_t shape[4] = {N, C, H, W};
static float values[COUNT], expected[COUNT], got[COUNT];

static dense_args args_of(const family *f) {
  const dense_args args = {.x = f->x, .y = f->y};
  return args;
}

static family make_family(void) {
  family f = {.context = fixture_open()};
  const clnorm_batchnorm_options options = dense_batchnorm_options(C);
  dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  desc.cut = CLNORM_CUT_SPLIT;
  assert_ok(f.context, dense_plan_create(f.context, &desc, &f.plan));
  assert_ok(f.context, clnorm_batchnorm_create(f.context, &options, &f.bn));
  assert_ok(f.context, clnorm_memory_alloc(f.context, BYTES, &f.x));
  assert_ok(f.context, clnorm_memory_alloc(f.context, BYTES, &f.y));
  assert_ok(f.context, clnorm_memory_write(f.context, f.x, values, BYTES));
  const dense_args args = args_of(&f);
  assert_ok(f.context, dense_run(f.plan, &args));
  return f;
}

enum { END_CONTEXT, END_PLAN, END_MODULE, END_X, END_Y, NUM_ENDS };

static void end(family *f, int which) {
  switch (which) {
  case END_CONTEXT:
    clnorm_context_destroy(f->context);
    break;
  case END_PLAN:
    clnorm_plan_destroy(f->plan);
    break;
  case END_MODULE:
    clnorm_batchnorm_destroy(f->bn);
    break;
  case END_X:
    clnorm_memory_free(f->context, &f->x);
    break;
  case END_Y:
    clnorm_memory_free(f->context, &f->y);
    break;
  }
}

static void end_all(family *f, const int order[NUM_ENDS]) {
  for (int i = 0; i < NUM_ENDS; i++) end(f, order[i]);
}

/* Every order: what is left at the end, and what is used after it was freed, a sanitizer finds. */
static void everything_ends_in_any_order(void **state) {
  (void)state;
  for (int code = 0; code < 120; code++) { /* the factorial of NUM_ENDS */
    int order[NUM_ENDS] = {0, 1, 2, 3, 4};
    for (int i = 0, rest = code; i < NUM_ENDS; i++) {
      const int k = i + rest % (NUM_ENDS - i), swapped = order[i];
      rest /= NUM_ENDS - i;
      order[i] = order[k];
      order[k] = swapped;
    }
    family f = make_family();
    end_all(&f, order);
  }
}

/* Every use of the family fails with that status, and says why. */
static void assert_unusable(family *f, clnorm_context *other, const char *words) {
  const dense_args args = args_of(f);
  const dense_args bn_args = {.x = f->x, .y = f->y};
  const clnorm_batchnorm_options options = dense_batchnorm_options(C);
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, S);
  const clnorm_tuning tuning = dense_tuning();
  clnorm_plan *plan = NULL;
  clnorm_batchnorm *bn = NULL;
  clnorm_memory memory = {NULL, NULL, 0, 0};
  clnorm_difference differences[CLNORM_NUM_OUTPUTS];
  double seconds;
  float parameter[C];
#define UNUSABLE(call) fixture_rejected(clnorm_last_error(f->context), (call), STATE, words, #call)
  UNUSABLE(clnorm_finish(f->context));
  UNUSABLE(clnorm_last_run_seconds(f->context, &seconds));
  UNUSABLE(clnorm_tuning_keep(f->context, &tuning));
  UNUSABLE(clnorm_tuning_forget(f->context));
  UNUSABLE(clnorm_memory_alloc(f->context, 4, &memory));
  UNUSABLE(clnorm_memory_write(f->context, f->x, values, BYTES));
  UNUSABLE(clnorm_memory_read(f->context, f->y, got, BYTES));
  UNUSABLE(dense_plan_create(f->context, &desc, &plan));
  UNUSABLE(dense_run(f->plan, &args));
  UNUSABLE(clnorm_batchnorm_create(f->context, &options, &bn));
  UNUSABLE(clnorm_batchnorm_set_track_running_stats(f->bn, false));
  UNUSABLE(dense_batchnorm_set(f->bn, CLNORM_BIAS, values, C));
  UNUSABLE(dense_batchnorm_get(f->bn, CLNORM_BIAS, parameter, C));
  UNUSABLE(clnorm_batchnorm_reset_running_stats(f->bn));
  UNUSABLE(clnorm_batchnorm_reset_parameters(f->bn));
  UNUSABLE(clnorm_batchnorm_set_num_batches_tracked(f->bn, 1));
  UNUSABLE(dense_batchnorm_forward(f->bn, 4, shape, &bn_args));
  UNUSABLE(dense_compare_memory(f->context, f->x, other, f->x, shape, differences));
  UNUSABLE(dense_compare_runs(f->context, other, &desc, &args, differences));
#undef UNUSABLE
  assert_true(!plan && !bn && !memory.host && !memory.cl);
}

static void what_is_left_can_only_be_destroyed(void **state) {
  static const int order[NUM_ENDS] = {END_CONTEXT, END_Y, END_PLAN, END_X, END_MODULE};
  family f = make_family();
  clnorm_context_destroy(f.context);
  assert_unusable(&f, *state, "destroyed");
  assert_true(strlen(clnorm_context_description(f.context)) > 0);
  end_all(&f, order); /* the context a second time, while it is there */
}

/* ---- Forks ------------------------------------------------------------------------------------------ */

static int end_of(pid_t child) {
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void run_and_read(family *f) {
  const dense_args args = args_of(f);
  memset(got, 0, sizeof got);
  assert_ok(f->context, clnorm_memory_write(f->context, f->y, values, BYTES));
  assert_ok(f->context, dense_run(f->plan, &args));
  assert_ok(f->context, clnorm_memory_read(f->context, f->y, got, BYTES));
}

/* In the child: 0 if it has the parent's bits, and runs where it did. */
static int run_bound(family *f, int processor) {
  const dense_args args = args_of(f);
  cpu_set_t bound, now;
  CPU_ZERO(&bound);
  CPU_SET(processor, &bound);
  if (sched_setaffinity(0, sizeof bound, &bound) != 0) return 2;
  memset(f->y.host, 0, BYTES);
  if (dense_run(f->plan, &args) != CLNORM_OK) return 3;
  if (sched_getaffinity(0, sizeof now, &now) != 0 || !CPU_EQUAL(&bound, &now)) return 4;
  return memcmp(f->y.host, expected, BYTES) == 0 ? 0 : 5;
}

static const int ends_first[NUM_ENDS] = {END_CONTEXT, END_PLAN, END_MODULE, END_X, END_Y};
static const int ends_last[NUM_ENDS] = {END_X, END_PLAN, END_MODULE, END_Y, END_CONTEXT};

/* The threads sleep, or are about to, when the process is forked. */
static void a_child_runs_and_ends_what_it_inherited(void **state) {
  (void)state;
  family f = make_family();
  cpu_set_t usable;
  assert_int_equal(sched_getaffinity(0, sizeof usable, &usable), 0);
  run_and_read(&f);
  memcpy(expected, got, BYTES);
  for (int i = 0; i < 4; i++) {
    if (i % 2) usleep(50000);
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      int result = 0, processor = i;
      while (!CPU_ISSET(processor % CPU_SETSIZE, &usable)) processor++;
      if (fixture_is_opencl(f.context)) {
        assert_unusable(&f, f.context, "fork"); /* ends the child with a failure of its own */
      } else {
        result = run_bound(&f, processor % CPU_SETSIZE);
      }
      end_all(&f, i < 2 ? ends_first : ends_last);
      _exit(result);
    }
    assert_int_equal(end_of(child), 0);
    run_and_read(&f); /* the parent goes on */
    assert_memory_equal(got, expected, BYTES);
  }
  end_all(&f, ends_last);
}

/* ---- Signals ---------------------------------------------------------------------------------------- */

/* The signals that a thread of this process blocks, as the system tells it. */
static uint64_t blocked_by(const char *task) {
  char path[512], line[256];
  unsigned long long mask = 0;
  snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "SigBlk: %llx", &mask) == 1) break;
  fclose(file);
  return mask;
}

static uint64_t bit(int signal) { return UINT64_C(1) << (signal - 1); }

/* Other threads of the process that do not block what a thread causes itself. check: all of them block the
 * signals that others send. */
static int count_tasks(bool check) {
  const uint64_t blocked = bit(SIGINT) | bit(SIGTERM) | bit(SIGUSR1) | bit(SIGALRM) | bit(SIGCHLD);
  const uint64_t open = bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGILL);
  char self[32];
  int count = 0;
  snprintf(self, sizeof self, "%d", (int)getpid());
  DIR *folder = opendir("/proc/self/task");
  assert_non_null(folder);
  for (struct dirent *e = readdir(folder); e; e = readdir(folder)) {
    if (e->d_name[0] == '.' || strcmp(e->d_name, self) == 0) continue;
    uint64_t mask = blocked_by(e->d_name);
    /* The C library blocks everything while a thread starts, which may take long on a busy machine. */
    for (int i = 0; check && mask & open && i < 1000; i++) {
      usleep(10000);
      mask = blocked_by(e->d_name);
    }
    if (check) assert_true((mask & blocked) == blocked);
    if (!(mask & open)) count++; /* a sanitizer's own thread blocks everything */
  }
  closedir(folder);
  return count;
}

static void threads_take_no_signals(void **state) {
  (void)state;
  clnorm_context_options options = dense_context_options();
  options.num_threads = 4;
  char self[32];
  snprintf(self, sizeof self, "%d", (int)getpid());
  if (count_tasks(false) != 0) fail_msg("this test needs a process without other threads");
  const uint64_t before = blocked_by(self);
  clnorm_context *context = fixture_open_with("cpu", &options);
  assert_true(blocked_by(self) == before);
  assert_int_equal(count_tasks(true), 3);
  clnorm_context_destroy(context);
}

/* Without an OpenCL driver's threads beside, and before there are any. */
static int set_up(void **state) {
  fixture_fill(values, COUNT, 1, 2, 3);
  *state = fixture_open();
  return 0;
}

int main(void) {
  const struct CMUnitTest alone[] = {cmocka_unit_test(threads_take_no_signals)};
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(null_lists),
      cmocka_unit_test(null_contexts),
      cmocka_unit_test(null_plans_and_modules),
      cmocka_unit_test(null_comparisons),
      cmocka_unit_test(null_structures),
      cmocka_unit_test(no_function_is_left_out),
      cmocka_unit_test(everything_ends_in_any_order),
      cmocka_unit_test(what_is_left_can_only_be_destroyed),
      cmocka_unit_test(a_child_runs_and_ends_what_it_inherited),
  };
  const int failed = cmocka_run_group_tests(alone, NULL, NULL);
  return failed + cmocka_run_group_tests(tests, set_up, fixture_tear_down);
}
