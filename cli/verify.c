#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arguments.h"
#include "commands.h"
#include "messages.h"
#include "text.h"
#include "verify_device.h"

static const char help[] =
    "clnorm verify [--device D|all] [--suite NAME|all]... [--shape NxCxHxW]... [options]\n"
    "\n"
    "Runs cases on devices and on the CPU path: every output must have the same bits, lie\n"
    "within its bound of a long double reference (or equal it, where the data are exact), and\n"
    "nothing else may be written. The CPU path is compared with each of its instruction sets\n"
    "on one thread. On a device that flushes subnormal values, elements that depend on them\n"
    "are counted apart. Devices work side by side; one that fails is reported, and the others\n"
    "go on.\n"
    "\n"
    "  --device D|all     auto, cpu, gpu, an id, part of a name, a list: cpu,0.0; default all\n"
    "  --suite NAME|all   edge (default), resnet50, mobilenet_v2, unet: f32, nchw;\n"
    "                     layouts: every pair of types of x and y, layouts, ranks 2 to 5,\n"
    "                     modes, variants and forms meets; smoke: a short part of edge, not\n"
    "                     in all\n"
    "  --shape NxCxHxW    this shape with every kind of data, in both modes\n"
    "  --form F           kernel form, OpenCL: auto, vector, wide, or all (vector, where the\n"
    "                     driver compiles for vectors, and wide); default: cases of layouts\n"
    "                     in one of them, in turn, all others in auto\n"
    "  --group-size N     work-items in a work-group of the wide form: 64, 128, 256;\n"
    "                     default auto, the largest that the device allows\n"
    "  --variant V        auto, channel, split, or all; default: in turn\n"
    "  --dtype T|all      x and y of every case are f32, f16, bf16, f64, or each of them;\n"
    "                     default: as the suite has it\n"
    "  --layout L|all     the same of layouts: nchw, nhwc, nchw4c, nchw8c, nchw16c, padded,\n"
    "                     slice (of the channels of a larger nchw tensor), nhwc_slice\n"
    "  --op O             eval, train, backward (the gradients of the cases of both), or all\n"
    "                     of them; default eval and train\n"
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

/* One more than the choices of an option that is not given. */
#define ALL_DTYPES 4
#define DTYPES_OF_SUITE 5
#define ALL_LAYOUTS CLNORM_NUM_LAYOUTS
#define LAYOUTS_OF_SUITE (CLNORM_NUM_LAYOUTS + 1)
enum { OP_EVAL, OP_TRAIN, OP_BACKWARD, ALL_OPS, FORWARD_OPS };

typedef struct options {
  clnorm_target_options target;
  clnorm_texts suites;
  clnorm_shapes shapes;
  int variant, dtype, layout, op;
  uint64_t seed;
  bool json;
} options;

typedef struct session {
  const options *chosen;
  clnorm_verify_plan plan;
  clnorm_target *targets;
  size_t num_targets;
  clnorm_verify_device *devices; /* each has targets that follow each other */
  size_t num_devices;
  clnorm_verification found;
} session;

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
  clnorm_case *chosen = malloc((*count * times * 2 + 1) * sizeof *chosen);
  size_t kept = 0;
  for (size_t i = 0; i < *count && chosen; i++) {
    const bool train = cases[i].statistics == CLNORM_BATCH_STATISTICS;
    const bool forward = o->op >= ALL_OPS || o->op == (train ? OP_TRAIN : OP_EVAL);
    for (int dtype = first_dtype; dtype < end_dtype; dtype++)
      for (int layout = first_layout; layout < end_layout; layout++) {
        const clnorm_case one = converted(&cases[i], dtype, layout);
        if (forward) chosen[kept++] = one;
        if (o->op != OP_BACKWARD && o->op != ALL_OPS) continue;
        chosen[kept] = one;
        chosen[kept++].backward = true;
      }
  }
  free(cases);
  *count = kept;
  return chosen;
}

static bool add_group(session *s, const char *name, clnorm_case *cases, size_t count) {
  clnorm_case_group *g = &s->plan.groups[s->plan.num_groups++];
  if (cases) cases = choose_cases(s->chosen, cases, &count);
  if (!cases) {
    clnorm_complain("no memory for the cases of %s", name);
    return false;
  }
  g->cases = cases;
  g->count = count;
  snprintf(g->name, sizeof g->name, "%s", name);
  s->plan.num_cases += count;
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
  s->plan.groups =
      calloc(o->suites.count * (known + 1) + o->shapes.count + 1, sizeof *s->plan.groups);
  if (!s->plan.groups) {
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

/* Whether a case asks for a form. */
static bool forms_take_turns(const session *s) {
  for (size_t g = 0; g < s->plan.num_groups; g++)
    for (size_t i = 0; i < s->plan.groups[g].count; i++)
      if (s->plan.groups[g].cases[i].form != CLNORM_FORM_AUTO) return true;
  return false;
}

/* How many of `targets` are of one device, and so in one thread; but forms that take turns are two. */
static size_t targets_of_device(const clnorm_target *targets, size_t count) {
  size_t same = 1;
  if (!targets[0].context) return same;
  const char *id = clnorm_context_device(targets[0].context)->id;
  while (same < count && targets[same].context && targets[same].form == targets[0].form &&
         strcmp(clnorm_context_device(targets[same].context)->id, id) == 0)
    same++;
  return same;
}

static int open_devices(session *s) {
  clnorm_target_options how = s->chosen->target;
  if (how.form == CLNORM_FORM_IN_TURN && !forms_take_turns(s)) how.form = CLNORM_FORM_AUTO;
  int status = clnorm_targets_open(&how, &s->targets, &s->num_targets);
  if (status) return status;
  s->devices = calloc(s->num_targets, sizeof *s->devices);
  s->found.devices = calloc(s->num_targets, sizeof *s->found.devices);
  if (!s->devices || !s->found.devices) {
    clnorm_complain("no memory");
    return CLNORM_EXIT_DEVICE;
  }
  for (size_t i = 0; i < s->num_targets; i++) s->found.devices[i] = s->targets[i].label;
  s->found.num_devices = s->num_targets;
  for (size_t i = 0, count; i < s->num_targets && !status; i += count) {
    count = targets_of_device(s->targets + i, s->num_targets - i);
    status =
        clnorm_verify_device_open(&s->devices[s->num_devices++], &s->plan, s->targets + i, count);
  }
  s->found.baseline = s->devices[0].baseline.label;
  return status;
}

static void close_session(session *s) {
  for (size_t i = 0; i < s->num_devices; i++) clnorm_verify_device_close(&s->devices[i]);
  free(s->devices);
  clnorm_targets_close(s->targets, s->num_targets);
  for (size_t g = 0; g < s->plan.num_groups; g++) free(s->plan.groups[g].cases);
  free(s->plan.groups);
  free(s->found.devices);
  clnorm_verification_free(&s->found);
}

/* ---- Running --------------------------------------------------------------------------------- */

typedef struct side { /* a device at work */
  clnorm_verify_device *device;
  pthread_t thread;
  bool started;
  int status;
} side;

static void *side_main(void *argument) {
  side *one = argument;
  one->status = clnorm_verify_device_run(one->device);
  return NULL;
}

/* Until all are done. */
static void show_progress(const session *s) {
  const struct timespec pause = {0, 20000000};
  size_t cases = 0, working = 1;
  while (working > 0) {
    working = cases = 0;
    for (size_t i = 0; i < s->num_devices; i++) {
      working += !atomic_load(&s->devices[i].done);
      cases += atomic_load(&s->devices[i].cases_done);
    }
    clnorm_progress("%zu of %zu cases", cases, s->num_devices * s->plan.num_cases);
    if (working > 0) nanosleep(&pause, NULL);
  }
  clnorm_progress(NULL);
}

/* The devices side by side: one that compiles, or is slow, does not hold up the others. */
static int run_devices(session *s) {
  int status = CLNORM_EXIT_GOOD;
  side *sides = calloc(s->num_devices, sizeof *sides);
  if (!sides) {
    clnorm_complain("no memory");
    return CLNORM_EXIT_DEVICE;
  }
  for (size_t i = 0; i < s->num_devices; i++) {
    sides[i].device = &s->devices[i];
    sides[i].started = pthread_create(&sides[i].thread, NULL, side_main, &sides[i]) == 0;
    if (!sides[i].started) side_main(&sides[i]);
  }
  show_progress(s);
  for (size_t i = 0; i < s->num_devices; i++) {
    if (sides[i].started) pthread_join(sides[i].thread, NULL);
    if (!status) status = sides[i].status;
  }
  free(sides);
  return status;
}

/* ---- Reporting ------------------------------------------------------------------------------- */

/* The subjects of all devices, which stand in the order of the targets. */
static const clnorm_verify_subject *subject_of(const session *s, size_t target) {
  size_t d = 0;
  for (; target >= s->devices[d].num_subjects; d++) target -= s->devices[d].num_subjects;
  return &s->devices[d].subjects[target];
}

/* False if there is no memory. */
static bool add_up(session *s) {
  bool good = true;
  for (size_t i = 0; i < s->num_targets; i++) {
    s->found.num_failed += !clnorm_target_works(&s->targets[i]);
    for (size_t g = 0; g < s->plan.num_groups; g++)
      clnorm_add_totals(&s->found.totals, &subject_of(s, i)->totals[g]);
  }
  for (size_t i = 0; i < s->num_devices && good; i++)
    good = clnorm_add_found(&s->found, &s->devices[i].found);
  if (!good) clnorm_complain("no memory for what was found");
  return good;
}

static void print_json(const session *s) {
  clnorm_json json = {stdout, false};
  clnorm_json_object(&json, NULL);
  clnorm_verification_json(&json, &s->found);
  clnorm_targets_failed_json(&json, s->targets, s->num_targets);
  clnorm_json_end_object(&json);
  putchar('\n');
}

static int label_width(const session *s) {
  size_t width = 6;
  for (size_t i = 0; i < s->num_targets; i++) {
    const size_t length = strlen(s->targets[i].label);
    if (length > width) width = length;
  }
  return (int)width;
}

static void print_table(const session *s) {
  const int width = label_width(s);
  printf("each is compared with %s\n", s->found.baseline);
  printf("%-*s  %-14s %6s %10s %8s %12s %8s\n", width, "device", "suite", "cases", "differing",
         "max ulp", "error/bound", "time");
  for (size_t i = 0; i < s->num_targets; i++)
    for (size_t g = 0; g < s->plan.num_groups; g++) {
      const clnorm_totals *t = &subject_of(s, i)->totals[g];
      const bool works = clnorm_target_works(&s->targets[i]);
      if (works && t->cases == 0) continue; /* all of them in another form, or not run */
      printf("%-*s  %-14s %6" PRId64 " %10" PRId64 " %8" PRIu64 " %12.3g %8s%s\n", width,
             s->targets[i].label, s->plan.groups[g].name, t->cases, t->differing_elements,
             t->max_ulp, t->worst_bound_ratio, clnorm_time_text(t->seconds).text,
             works ? "" : "  FAILED");
    }
  clnorm_verification_print_failures(&s->found);
  clnorm_verification_print_verdict(&s->found);
}

static int verify(const options *chosen) {
  session s = {.chosen = chosen,
               .plan = {.threads = chosen->target.threads, .variant = chosen->variant}};
  int status = collect_cases(&s) ? CLNORM_EXIT_GOOD : CLNORM_EXIT_USAGE;
  if (!status) status = open_devices(&s);
  if (!status) status = run_devices(&s);
  if (!status && !add_up(&s)) status = CLNORM_EXIT_DEVICE;
  if (!status) {
    if (chosen->json)
      print_json(&s);
    else
      print_table(&s);
    status =
        chosen->shapes.wrong ? CLNORM_EXIT_USAGE : clnorm_targets_status(s.targets, s.num_targets);
    if (!status && s.found.totals.cases == 0 && s.found.totals.not_run > 0)
      status = CLNORM_EXIT_USAGE;
    if (s.found.num_failures > 0) status = CLNORM_EXIT_DIFFERENT;
  }
  close_session(&s);
  return status;
}

int clnorm_command_verify(int argc, char **argv) {
  options o = {.target = {.device = "all", .form = CLNORM_FORM_IN_TURN},
               .variant = CLNORM_VARIANT_OF_CASE,
               .dtype = DTYPES_OF_SUITE,
               .layout = LAYOUTS_OF_SUITE,
               .op = FORWARD_OPS,
               .seed = 1};
  const clnorm_option table[] = {
      {"--device", CLNORM_OPTION_LIST, &o.target.devices, NULL},
      {"--suite", CLNORM_OPTION_TEXTS, &o.suites, NULL},
      {"--shape", CLNORM_OPTION_SHAPES, &o.shapes, NULL},
      {"--form", CLNORM_OPTION_CHOICE, &o.target.form, CLNORM_FORM_CHOICES "|all"},
      {"--group-size", CLNORM_OPTION_CHOICE, &o.target.group_size, CLNORM_GROUP_SIZE_CHOICES},
      {"--variant", CLNORM_OPTION_CHOICE, &o.variant, CLNORM_VARIANT_CHOICES "|all"},
      {"--dtype", CLNORM_OPTION_CHOICE, &o.dtype, CLNORM_DTYPE_CHOICES "|all"},
      {"--layout", CLNORM_OPTION_CHOICE, &o.layout, CLNORM_CASE_LAYOUT_CHOICES "|all"},
      {"--op", CLNORM_OPTION_CHOICE, &o.op, "eval|train|backward|all"},
      {"--seed", CLNORM_OPTION_SEED, &o.seed, NULL},
      {"--threads", CLNORM_OPTION_COUNT, &o.target.threads, NULL},
      {"--json", CLNORM_OPTION_SET, &o.json, NULL},
      {NULL, CLNORM_OPTION_SET, NULL, NULL}};
  int status;
  return clnorm_arguments_options(argc, argv, table, help, &status) ? verify(&o) : status;
}
