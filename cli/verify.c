#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "cases.h"
#include "commands.h"
#include "measure.h"
#include "messages.h"
#include "targets.h"
#include "text.h"
#include "verification.h"

static const char help[] =
    "clnorm verify [--device D|all] [--suite NAME|all]... [--shape NxCxHxW]... [options]\n"
    "\n"
    "Runs cases on devices and on the CPU path: every output must have the same bits, lie\n"
    "within its bound of a long double reference (or equal it, where the data are exact), and\n"
    "nothing else may be written. The CPU path is compared with each of its instruction sets\n"
    "on one thread. On a device that flushes subnormal values, elements that depend on them\n"
    "are counted apart. A device that fails is reported, and the others go on.\n"
    "\n"
    "  --device D|all     auto, cpu, gpu, an id, part of a name, a list: cpu,0.0; default all\n"
    "  --suite NAME|all   edge (default), resnet50, mobilenet_v2, unet: f32, nchw;\n"
    "                     layouts: every pair of types of x and y, layouts, ranks 2 to 5 and\n"
    "                     modes meets; smoke: a short part of edge, not in all\n"
    "  --shape NxCxHxW    this shape with every kind of data, in both modes\n"
    "  --form F           kernel form, OpenCL: auto (default), vector, wide, or all\n"
    "                     (vector, where the driver compiles for vectors, and wide)\n"
    "  --group-size N     work-items in a work-group of the wide form: 64, 128, 256;\n"
    "                     default auto, the largest that the device allows\n"
    "  --variant V        auto, channel, split, or all; default: in turn\n"
    "  --dtype T|all      x and y of every case are f32, f16, bf16, f64, or each of them;\n"
    "                     default: as the suite has it\n"
    "  --layout L|all     the same of layouts: nchw, nhwc, nchw4c, nchw8c, nchw16c, padded,\n"
    "                     slice (of the channels of a larger nchw tensor), nhwc_slice\n"
    "  --op O             eval, train, or all (default)\n"
    "  --seed S           other data and other combinations of options; default 1\n"
    "  --threads T        CPU path; default all\n"
    "  --json             one JSON object: devices, cases, differing_elements, max_ulp,\n"
    "                     worst_bound_ratio, not_promised, not_run, failures, baseline,\n"
    "                     failed\n"
    "\n"
    "A case of a type that a device does not have is not run, and counted and named as such.\n"
    "\n"
    "Exit status: 0 all are equal; 1 a difference was found; 2 else, if a shape is wrong (the\n"
    "others are run) or another argument, or none could be run; 3 else, if a device failed.\n"
    "\n"
    "example: clnorm verify --device all --suite all --json\n"
    "         clnorm verify --device 0.0,cpu --shape 2x3x7x7 --form all\n"
    "         clnorm verify --suite smoke --dtype f16 --layout nhwc\n";

#define ALL_VARIANTS 3
#define VARIANT_IN_TURN 4
/* One more than the choices of an option that is not given. */
#define ALL_DTYPES 4
#define DTYPES_OF_SUITE 5
#define ALL_LAYOUTS CLNORM_NUM_LAYOUTS
#define LAYOUTS_OF_SUITE (CLNORM_NUM_LAYOUTS + 1)
#define ALL_OPS 2

typedef struct options {
  clnorm_target_options target;
  clnorm_texts suites;
  clnorm_shapes shapes;
  int variant, dtype, layout, op;
  uint64_t seed;
  bool json;
} options;

typedef struct group { /* of cases: a suite, or a shape */
  const char *name;
  char text[96];
  clnorm_case *cases;
  size_t count;
} group;

typedef struct subject {
  clnorm_target *target;
  clnorm_case_runner *runner; /* NULL: the device did not open */
  clnorm_totals *totals;      /* per group */
} subject;

typedef struct session {
  const options *chosen;
  group *groups;
  size_t num_groups, num_cases, cases_done;
  clnorm_target baseline;
  clnorm_case_runner *baseline_runner;
  clnorm_target *targets;
  subject *subjects;
  size_t num_subjects;
  clnorm_verification found;
  double last_progress;
} session;

/* A case with its operands, what the baseline made of it and how good that is. */
typedef struct trial {
  const clnorm_case *item;
  clnorm_case_operands operands;
  clnorm_reference *reference;
  clnorm_promise *promise; /* made for the first device that flushes subnormal values */
  clnorm_case_outputs outputs;
  double ratio;
} trial;

/* ---- Judging one run ------------------------------------------------------------------------- */

static clnorm_failure start_failure(const session *s, const char *device, const clnorm_case *item) {
  clnorm_failure failure = {.mode = clnorm_case_mode(item), .against = s->baseline.label};
  snprintf(failure.device, sizeof failure.device, "%s", device);
  memcpy(failure.dims, item->dims, sizeof item->dims);
  snprintf(failure.dtype, sizeof failure.dtype, "%s", clnorm_case_dtype(item).text);
  snprintf(failure.layout, sizeof failure.layout, "%s", clnorm_case_layout(item).text);
  clnorm_case_describe(item, failure.options, sizeof failure.options);
  return failure;
}

/* Worst ratio of one output; failure->first is set if it is beyond its bound, or not exact. */
static double judge_by_reference(const trial *t, clnorm_output output, const double *values,
                                 clnorm_failure *failure) {
  int64_t at;
  const double ratio =
      clnorm_reference_check(t->reference, output, values, &at) / clnorm_case_slack(t->item);
  const bool inexact = clnorm_case_exact(t->item, output) &&
                       clnorm_reference_unequal(t->reference, output, values) > 0;
  if (failure->first[0]) return ratio;
  if (ratio > 1)
    snprintf(failure->first, sizeof failure->first,
             "%s: error %.3g times its bound at element %" PRId64, clnorm_output_name(output),
             ratio, at);
  else if (inexact)
    snprintf(failure->first, sizeof failure->first, "%s: not the exact result",
             clnorm_output_name(output));
  return ratio;
}

static double larger(double a, double b) { return a > b ? a : b; }

/* The baseline's own outputs against the reference. */
static void judge_baseline(session *s, trial *t) {
  clnorm_failure failure = start_failure(s, s->baseline.label, t->item);
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++)
    if (t->outputs.counts[o] > 0)
      t->ratio =
          larger(t->ratio, judge_by_reference(t, (clnorm_output)o, t->outputs.values[o], &failure));
  if (failure.first[0]) clnorm_add_failure(&s->found, &failure);
}

/* A subject's outputs against the baseline's, as far as they are promised (promise NULL: all of them); the
 * reference is asked again where bits differ. False if there is no memory. */
static bool judge(session *s, const trial *t, const clnorm_promise *promise,
                  const clnorm_case_outputs *outputs, clnorm_totals *totals,
                  clnorm_failure *failure) {
  clnorm_outside outside = {0, 0};
  bool good = true;
  totals->worst_bound_ratio = larger(totals->worst_bound_ratio, t->ratio);
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) {
    const clnorm_output output = (clnorm_output)o;
    const clnorm_tensor tensor = clnorm_case_problem_output(&t->operands.problem, output);
    clnorm_difference difference;
    if (t->outputs.counts[o] == 0) continue;
    clnorm_separate_output(promise, output, t->outputs.values[o], outputs->values[o], &outside);
    good =
        clnorm_case_compare(&tensor, t->outputs.values[o], outputs->values[o], &difference) && good;
    clnorm_add_difference(totals, s->found.histogram, failure, output, &difference);
    if (difference.differing_elements > 0)
      totals->worst_bound_ratio = larger(
          totals->worst_bound_ratio, judge_by_reference(t, output, outputs->values[o], failure));
  }
  clnorm_add_outside(totals, outside);
  return good;
}

/* What is promised of this case: all of it, *promise NULL, unless the device or the baseline flushes
 * subnormal values. False if there is no memory. */
static bool find_promise(const session *s, const subject *who, trial *t,
                         const clnorm_promise **promise) {
  const bool kept = clnorm_promise_kept(who->target->context, s->baseline.context);
  if (!kept && !t->promise) t->promise = clnorm_promise_create(&t->operands.problem);
  *promise = kept ? NULL : t->promise;
  return kept || t->promise;
}

static bool device_failed(clnorm_status status) {
  return clnorm_exit_status(status) == CLNORM_EXIT_DEVICE;
}

static void describe_failure(const clnorm_case *item, const char *why, clnorm_message *message) {
  char text[320];
  clnorm_case_describe(item, text, sizeof text);
  clnorm_refuse(message, "failed on %s %s %s: %.1000s", clnorm_shape_text_of(item->dims).text,
                clnorm_case_mode(item), text, why);
}

/* ---- Running --------------------------------------------------------------------------------- */

/* The device does not have the type. */
static void not_run(session *s, subject *who, const clnorm_case *item, clnorm_totals *totals,
                    const char *why) {
  totals->not_run++;
  if (!clnorm_add_not_run(&s->found, who->target->label, clnorm_case_dtype(item).text, why))
    clnorm_target_give_up(who->target, "no host memory to keep what is not run");
}

/* A device that fails is asked no more. */
static void run_subject(session *s, subject *who, trial *t, const clnorm_case *item,
                        clnorm_totals *totals) {
  clnorm_case_outputs outputs;
  clnorm_status status;
  clnorm_message why, what;
  const clnorm_promise *promise;
  clnorm_failure failure = start_failure(s, who->target->label, item);
  const double start = clnorm_now();
  const clnorm_case_result result =
      clnorm_case_run(who->runner, item, &t->operands.problem, &outputs, &status, &why);
  totals->seconds += clnorm_now() - start;
  if (result == CLNORM_CASE_FAILED && status == CLNORM_ERROR_UNSUPPORTED) {
    not_run(s, who, item, totals, why.text);
    return;
  }
  totals->cases++;
  if (result == CLNORM_CASE_FAILED && device_failed(status)) {
    describe_failure(item, why.text, &what);
    clnorm_target_give_up(who->target, "%s", what.text);
  } else if (result != CLNORM_CASE_RAN)
    snprintf(failure.first, sizeof failure.first, "%.300s", why.text);
  else if (!find_promise(s, who, t, &promise))
    clnorm_target_give_up(who->target, "no host memory to find out what is promised");
  else if (!judge(s, t, promise, &outputs, totals, &failure))
    clnorm_target_give_up(who->target, "no host memory to compare");
  if (failure.first[0]) clnorm_add_failure(&s->found, &failure);
  clnorm_case_outputs_free(&outputs);
}

/* One subject, in every variant asked for. */
static void run_variants(session *s, subject *who, trial *t, clnorm_totals *totals) {
  const int chosen = s->chosen->variant;
  const bool all = chosen == ALL_VARIANTS;
  const int first = all ? CLNORM_CUT_CHANNEL : 0, last = all ? CLNORM_CUT_SPLIT : 0;
  for (int v = first; v <= last && clnorm_target_works(who->target); v++) {
    clnorm_case item = *t->item;
    if (chosen != VARIANT_IN_TURN) item.variant = (clnorm_cut)(all ? v : chosen);
    t->operands.problem.desc.cut = item.variant;
    run_subject(s, who, t, &item, totals);
  }
}

static int run_baseline(session *s, trial *t) {
  clnorm_status status;
  clnorm_message why, what;
  const clnorm_case_result result = clnorm_case_run(
      s->baseline_runner, t->item, &t->operands.problem, &t->outputs, &status, &why);
  if (result == CLNORM_CASE_FAILED) {
    describe_failure(t->item, why.text, &what);
    clnorm_complain("%s: %s", s->baseline.label, what.text);
    return CLNORM_EXIT_DEVICE;
  }
  if (result == CLNORM_CASE_BROKEN) {
    clnorm_failure failure = start_failure(s, s->baseline.label, t->item);
    snprintf(failure.first, sizeof failure.first, "%.300s", why.text);
    clnorm_add_failure(&s->found, &failure);
  }
  judge_baseline(s, t);
  return CLNORM_EXIT_GOOD;
}

static int run_case(session *s, const clnorm_case *item, size_t group_index) {
  trial t = {.item = item};
  int status = CLNORM_EXIT_DEVICE;
  if (!clnorm_case_operands_make(item, &t.operands)) goto no_memory;
  t.reference = clnorm_reference_create(&t.operands.problem);
  if (!t.reference) goto no_memory;
  status = run_baseline(s, &t);
  for (size_t i = 0; i < s->num_subjects && !status; i++)
    run_variants(s, &s->subjects[i], &t, &s->subjects[i].totals[group_index]);
  goto done;
no_memory:
  clnorm_complain("no host memory for %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64, item->dims[0],
                  item->dims[1], item->dims[2], item->dims[3]);
done:
  clnorm_case_outputs_free(&t.outputs);
  clnorm_promise_destroy(t.promise);
  clnorm_reference_destroy(t.reference);
  clnorm_case_operands_free(&t.operands);
  return status;
}

static void show_progress(session *s, const group *current) {
  if (clnorm_now() - s->last_progress < 0.1) return;
  s->last_progress = clnorm_now();
  clnorm_progress("%s: %zu of %zu cases", current->name, s->cases_done, s->num_cases);
}

static bool some_work(const session *s) {
  for (size_t i = 0; i < s->num_subjects; i++)
    if (clnorm_target_works(&s->targets[i])) return true;
  return false;
}

static int run_groups(session *s) {
  int status = CLNORM_EXIT_GOOD;
  for (size_t g = 0; g < s->num_groups && !status; g++)
    for (size_t i = 0; i < s->groups[g].count && !status && some_work(s); i++) {
      show_progress(s, &s->groups[g]);
      status = run_case(s, &s->groups[g].cases[i], g);
      s->cases_done++;
    }
  clnorm_progress(NULL);
  return status;
}

/* ---- Setting up ------------------------------------------------------------------------------ */

/* A case of a suite in one type and layout that were asked for. */
static clnorm_case converted(const clnorm_case *item, int dtype, int layout) {
  clnorm_case one = *item;
  if (dtype < ALL_DTYPES) one.x_dtype = one.y_dtype = dtype;
  if (layout < ALL_LAYOUTS) one.x_layout = one.y_layout = (clnorm_layout)layout;
  one.in_place = one.in_place && clnorm_case_may_be_in_place(&one);
  return one;
}

/* The cases of the operation, in every type and layout that was asked for; takes `cases` over. NULL: no memory. */
static clnorm_case *choose_cases(const options *o, clnorm_case *cases, size_t *count) {
  const int first_dtype = o->dtype == ALL_DTYPES ? 0 : o->dtype;
  const int end_dtype = o->dtype == ALL_DTYPES ? ALL_DTYPES : o->dtype + 1;
  const int first_layout = o->layout == ALL_LAYOUTS ? 0 : o->layout;
  const int end_layout = o->layout == ALL_LAYOUTS ? ALL_LAYOUTS : o->layout + 1;
  const size_t times = (size_t)(end_dtype - first_dtype) * (size_t)(end_layout - first_layout);
  clnorm_case *chosen = malloc((*count * times + 1) * sizeof *chosen);
  size_t kept = 0;
  for (size_t i = 0; i < *count && chosen; i++) {
    if (o->op != ALL_OPS && strcmp(clnorm_case_mode(&cases[i]), o->op ? "train" : "eval") != 0)
      continue;
    for (int dtype = first_dtype; dtype < end_dtype; dtype++)
      for (int layout = first_layout; layout < end_layout; layout++)
        chosen[kept++] = converted(&cases[i], dtype, layout);
  }
  free(cases);
  *count = kept;
  return chosen;
}

static bool add_group(session *s, const char *name, clnorm_case *cases, size_t count) {
  group *g = &s->groups[s->num_groups];
  if (cases) cases = choose_cases(s->chosen, cases, &count);
  if (!cases) {
    clnorm_complain("no memory for the cases of %s", name);
    return false;
  }
  g->cases = cases;
  g->count = count;
  snprintf(g->text, sizeof g->text, "%s", name);
  g->name = g->text;
  s->num_groups++;
  s->num_cases += count;
  return true;
}

static bool unknown_suite(const char *name) {
  char known[256] = "all";
  for (const char *const *suite = clnorm_suite_names; *suite; suite++) {
    strncat(known, ", ", sizeof known - strlen(known) - 1);
    strncat(known, *suite, sizeof known - strlen(known) - 1);
  }
  clnorm_complain("--suite is '%s', but must be one of %s", name, known);
  return false;
}

static bool add_suite(session *s, const char *name) {
  size_t count;
  if (strcmp(name, "all") == 0) {
    for (const char *const *suite = clnorm_suite_names; *suite; suite++)
      if (strcmp(*suite, "smoke") != 0 && !add_suite(s, *suite)) return false;
    return true;
  }
  clnorm_case *cases = clnorm_suite_cases(name, s->chosen->seed, &count);
  if (!cases && count == 0) return unknown_suite(name);
  return add_group(s, name, cases, count);
}

static bool add_shape(session *s, const int64_t dims[4]) {
  char name[96];
  size_t count;
  snprintf(name, sizeof name, "%" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64, dims[0], dims[1],
           dims[2], dims[3]);
  clnorm_case *cases = clnorm_shape_cases(dims, s->chosen->seed, &count);
  return add_group(s, name, cases, count);
}

/* Suites, then shapes; where none is named, the suite edge. */
static bool collect_cases(session *s) {
  const options *o = s->chosen;
  size_t known = 0;
  while (clnorm_suite_names[known]) known++;
  s->groups = calloc(o->suites.count * (known + 1) + o->shapes.count + 1, sizeof *s->groups);
  if (!s->groups) {
    clnorm_complain("no memory for a list of cases");
    return false;
  }
  if (o->suites.count + o->shapes.count == 0) return !o->shapes.wrong && add_suite(s, "edge");
  for (size_t i = 0; i < o->suites.count; i++)
    if (!add_suite(s, o->suites.items[i])) return false;
  for (size_t i = 0; i < o->shapes.count; i++)
    if (!add_shape(s, o->shapes.items[i])) return false;
  return true;
}

static int open_subjects(session *s) {
  const clnorm_target_options *target = &s->chosen->target;
  int status = clnorm_target_open_baseline(NULL, target->threads, &s->baseline);
  if (!status) status = clnorm_targets_open(target, &s->targets, &s->num_subjects);
  if (status) return status;
  s->baseline_runner = clnorm_case_runner_create(s->baseline.context);
  s->subjects = calloc(s->num_subjects, sizeof *s->subjects);
  s->found.devices = calloc(s->num_subjects, sizeof *s->found.devices);
  bool good = s->baseline_runner && s->subjects && s->found.devices;
  for (size_t i = 0; i < s->num_subjects && good; i++) {
    subject *who = &s->subjects[i];
    who->target = &s->targets[i];
    if (who->target->context) who->runner = clnorm_case_runner_create(who->target->context);
    who->totals = calloc(s->num_groups, sizeof *who->totals);
    s->found.devices[i] = s->targets[i].label;
    good = (who->runner || !who->target->context) && who->totals;
  }
  s->found.num_devices = s->num_subjects;
  s->found.baseline = s->baseline.label;
  if (!good) clnorm_complain("no memory");
  return good ? CLNORM_EXIT_GOOD : CLNORM_EXIT_DEVICE;
}

static void close_session(session *s) {
  for (size_t i = 0; s->subjects && i < s->num_subjects; i++) {
    clnorm_case_runner_destroy(s->subjects[i].runner);
    free(s->subjects[i].totals);
  }
  free(s->subjects);
  clnorm_targets_close(s->targets, s->num_subjects);
  clnorm_case_runner_destroy(s->baseline_runner);
  clnorm_target_close(&s->baseline);
  for (size_t g = 0; g < s->num_groups; g++) free(s->groups[g].cases);
  free(s->groups);
  free(s->found.devices);
  clnorm_verification_free(&s->found);
}

/* ---- Reporting ------------------------------------------------------------------------------- */

static void add_up(session *s) {
  for (size_t i = 0; i < s->num_subjects; i++)
    for (size_t g = 0; g < s->num_groups; g++)
      clnorm_add_totals(&s->found.totals, &s->subjects[i].totals[g]);
  for (size_t i = 0; i < s->num_subjects; i++)
    s->found.num_failed += !clnorm_target_works(&s->targets[i]);
}

static void print_json(const session *s) {
  clnorm_json json = {stdout, false};
  clnorm_json_object(&json, NULL);
  clnorm_verification_json(&json, &s->found);
  clnorm_targets_failed_json(&json, s->targets, s->num_subjects);
  clnorm_json_end_object(&json);
  putchar('\n');
}

static int label_width(const session *s) {
  size_t width = 6;
  for (size_t i = 0; i < s->num_subjects; i++) {
    const size_t length = strlen(s->subjects[i].target->label);
    if (length > width) width = length;
  }
  return (int)width;
}

static void print_table(const session *s) {
  const int width = label_width(s);
  printf("each is compared with %s\n", s->found.baseline);
  printf("%-*s  %-14s %6s %10s %8s %12s %8s\n", width, "device", "suite", "cases", "differing",
         "max ulp", "error/bound", "time");
  for (size_t i = 0; i < s->num_subjects; i++)
    for (size_t g = 0; g < s->num_groups; g++) {
      const clnorm_totals *t = &s->subjects[i].totals[g];
      printf("%-*s  %-14s %6" PRId64 " %10" PRId64 " %8" PRIu64 " %12.3g %8s%s\n", width,
             s->targets[i].label, s->groups[g].name, t->cases, t->differing_elements, t->max_ulp,
             t->worst_bound_ratio, clnorm_time_text(t->seconds).text,
             clnorm_target_works(&s->targets[i]) ? "" : "  FAILED");
    }
  clnorm_verification_print_failures(&s->found);
  clnorm_verification_print_verdict(&s->found);
}

static int verify(const options *chosen) {
  session s = {.chosen = chosen};
  int status = collect_cases(&s) ? CLNORM_EXIT_GOOD : CLNORM_EXIT_USAGE;
  if (!status) status = open_subjects(&s);
  if (!status) status = run_groups(&s);
  if (!status) {
    add_up(&s);
    if (chosen->json)
      print_json(&s);
    else
      print_table(&s);
    status =
        chosen->shapes.wrong ? CLNORM_EXIT_USAGE : clnorm_targets_status(s.targets, s.num_subjects);
    if (!status && s.found.totals.cases == 0 && s.found.totals.not_run > 0)
      status = CLNORM_EXIT_USAGE;
    if (s.found.num_failures > 0) status = CLNORM_EXIT_DIFFERENT;
  }
  close_session(&s);
  return status;
}

int clnorm_command_verify(int argc, char **argv) {
  options o = {.target = {.device = "all"},
               .variant = VARIANT_IN_TURN,
               .dtype = DTYPES_OF_SUITE,
               .layout = LAYOUTS_OF_SUITE,
               .op = ALL_OPS,
               .seed = 1};
  const clnorm_option table[] = {
      {"--device", CLNORM_OPTION_LIST, &o.target.devices, NULL},
      {"--suite", CLNORM_OPTION_TEXTS, &o.suites, NULL},
      {"--shape", CLNORM_OPTION_SHAPES, &o.shapes, NULL},
      {"--form", CLNORM_OPTION_CHOICE, &o.target.form, CLNORM_FORM_CHOICES "|all"},
      {"--group-size", CLNORM_OPTION_CHOICE, &o.target.group_size, CLNORM_GROUP_SIZE_CHOICES},
      {"--variant", CLNORM_OPTION_CHOICE, &o.variant, "auto|channel|split|all"},
      {"--dtype", CLNORM_OPTION_CHOICE, &o.dtype, CLNORM_DTYPE_CHOICES "|all"},
      {"--layout", CLNORM_OPTION_CHOICE, &o.layout, CLNORM_CASE_LAYOUT_CHOICES "|all"},
      {"--op", CLNORM_OPTION_CHOICE, &o.op, "eval|train|all"},
      {"--seed", CLNORM_OPTION_SEED, &o.seed, NULL},
      {"--threads", CLNORM_OPTION_COUNT, &o.target.threads, NULL},
      {"--json", CLNORM_OPTION_SET, &o.json, NULL},
      {NULL, CLNORM_OPTION_SET, NULL, NULL}};
  int status;
  return clnorm_arguments_options(argc, argv, table, help, &status) ? verify(&o) : status;
}
