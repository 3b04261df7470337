#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "json.h"
#include "measure.h"
#include "messages.h"
#include "probe.h"
#include "targets.h"
#include "thresholds.h"
#include "tune_report.h"

static const char help[] =
    "clnorm tune [--device D|all] [--seconds S] [--dry-run] [--reset] [--json]\n"
    "\n"
    "Measures the variants on each device, side by side in the same rounds, and keeps the\n"
    "values of the rule that fit it best, beside the program cache. Contexts that are opened on\n"
    "the device from then on use them: in run, verify, bench, and in any program. The bits stay\n"
    "the same.\n"
    "\n"
    "  form                vector or wide kernels (OpenCL; the vector form is not tried where\n"
    "                      the native vector of the driver has less than 4 floats: it may\n"
    "                      compile for minutes)\n"
    "  stream_bytes        outputs of this size and larger are written around the caches\n"
    "  train_stream_bytes  (vector form): in evaluation, in training. Measured between a\n"
    "                      producer and a consumer\n"
    "  split_below         training splits channels where there are fewer per thread or compute\n"
    "                      unit\n"
    "\n"
    "A value other than the rule's is taken for a gain of 5 %; less is noise. ratio is the time\n"
    "of the first way over that of the second. Results are compared with the CPU path before\n"
    "they are timed. Where the rule's values are the best, nothing is kept. A slow device is\n"
    "given 5 s and 300 measurements' time; what was not measured by then stays by rule.\n"
    "\n"
    "  --device D|all    auto, cpu, gpu, an id, part of a name, a list: cpu,0.0; default all\n"
    "  --seconds S       per measurement, about; default 0.2: about 20 s for a device\n"
    "  --dry-run         measure and tell, change nothing\n"
    "  --reset           go back to the rule: remove what is kept, measure nothing\n"
    "  --json            devices: [{device, id, measurements, notes, rule, chosen, kept}],\n"
    "                    failed: [{device, reason}]\n"
    "\n"
    "example: clnorm tune --device all\n"
    "         clnorm tune --device cpu --reset\n";

typedef struct options {
  clnorm_target_options target;
  double seconds;
  bool dry_run, reset, json;
} options;

/* The work on one device. */
typedef struct session {
  const options *chosen;
  clnorm_context *baseline; /* what results are compared with */
  clnorm_tune_result *result;
  double start;
  bool late; /* and told so */
} session;

static const clnorm_device_info *device_info(const session *s) {
  return clnorm_context_device(s->result->target->context);
}

/* ---- Measuring ------------------------------------------------------------------------------------- */

/* A context on the device with exactly this tuning; NULL after a message. */
static clnorm_context *open_tuned(const session *s, clnorm_tuning tuning) {
  clnorm_context_options how = dense_context_options();
  clnorm_context *context;
  clnorm_message message;
  how.tuning = &tuning;
  const clnorm_status status = clnorm_context_create(device_info(s)->id, &how, &context, &message);
  if (status != CLNORM_OK) clnorm_target_give_up(s->result->target, "%s", message.text);
  return context;
}

static bool fits(const session *s, const int64_t dims[4]) {
  const uint64_t bytes = (uint64_t)(dims[0] * dims[1] * dims[2] * dims[3]) * sizeof(float);
  return bytes <= device_info(s)->max_alloc_bytes;
}

/* What is not measured by then stays as it is by rule, or is decided by the part that was measured. */
static bool out_of_time(session *s) {
  const double limit = 5 + 300 * s->chosen->seconds;
  if (clnorm_now() - s->start < limit) return false;
  if (!s->late)
    clnorm_tune_note(s->result, "not all was measured: the device was given %.0f s", limit);
  s->late = true;
  return true;
}

/* Adds a row. The exit status; *ratio is that of the row. */
static int compare(session *s, const clnorm_tune_row *wanted, const clnorm_measure_way ways[2],
                   double *ratio) {
  clnorm_tune_result *result = s->result;
  clnorm_tune_row *row = &result->rows[result->num_rows];
  clnorm_measure_case how = {.op = wanted->op,
                             .seconds = s->chosen->seconds,
                             .check = true,
                             .pipeline = ways[0].store != CLNORM_STORE_AUTO};
  clnorm_message message;
  const clnorm_shape_text shape = clnorm_shape_text_of(wanted->dims);
  *row = *wanted;
  memcpy(how.dims, wanted->dims, sizeof how.dims);
  clnorm_progress("%s %s %s ...", row->parameter, clnorm_bench_op_names[row->op], shape.text);
  const clnorm_status status = clnorm_measure_ways(ways, s->baseline, &how, &row->times, &message);
  clnorm_progress(NULL);
  if (status != CLNORM_OK) {
    clnorm_target_give_up(result->target, "failed on %s %s %s: %s", row->parameter,
                          clnorm_bench_op_names[row->op], shape.text, message.text);
    return CLNORM_EXIT_DEVICE;
  }
  *ratio = row->times.ratio;
  if (!s->chosen->json) clnorm_tune_print_row(result, result->num_rows);
  result->num_rows++;
  return CLNORM_EXIT_GOOD;
}

/* ---- The form -------------------------------------------------------------------------------------- */

/* Large planes, small planes, and in between. */
static const int64_t form_shapes[][4] = {{8, 64, 56, 56}, {32, 128, 28, 28}, {32, 512, 7, 7}};
enum { NUM_FORM_SHAPES = sizeof form_shapes / sizeof form_shapes[0] };

static int compare_forms(session *s, clnorm_context *const contexts[2], double *ratio) {
  const clnorm_measure_way ways[2] = {{contexts[0], CLNORM_CUT_AUTO, CLNORM_STORE_AUTO},
                                      {contexts[1], CLNORM_CUT_AUTO, CLNORM_STORE_AUTO}};
  clnorm_tune_row row = {.parameter = "form", .ways = {"vector", "wide"}};
  double ratios[2 * NUM_FORM_SHAPES];
  size_t count = 0;
  int status = CLNORM_EXIT_GOOD;
  for (; count < 2 * NUM_FORM_SHAPES && !status && !out_of_time(s); count++) {
    memcpy(row.dims, form_shapes[count / 2], sizeof row.dims);
    row.op = count % 2 ? CLNORM_BENCH_TRAIN : CLNORM_BENCH_EVAL;
    status = compare(s, &row, ways, &ratios[count]);
  }
  if (!status) *ratio = clnorm_geometric_mean(ratios, count);
  return status;
}

/* False, with a note where there is something to say, if there is only one form to take. */
static bool has_two_forms(session *s) {
  const clnorm_device_info *info = device_info(s);
  if (strcmp(info->id, "cpu") == 0) return false;
  clnorm_message why;
  if (s->result->rule.form == CLNORM_FORM_VECTOR || clnorm_vector_form_compiles(info, &why))
    return true;
  clnorm_tune_note(s->result, "form: the vector form is not tried: %s", why.text);
  return false;
}

static int tune_form(session *s) {
  clnorm_context *contexts[2] = {NULL, NULL};
  double ratio = 1;
  int status = CLNORM_EXIT_GOOD;
  if (!has_two_forms(s)) return status;
  for (int i = 0; i < 2 && !status; i++) {
    const clnorm_tuning tuning = {.size = sizeof tuning,
                                  .form = i ? CLNORM_FORM_WIDE : CLNORM_FORM_VECTOR};
    contexts[i] = open_tuned(s, tuning);
    if (!contexts[i]) status = CLNORM_EXIT_DEVICE;
  }
  if (!status && dense_context_tuning(contexts[1], NULL).form != CLNORM_FORM_WIDE)
    clnorm_tune_note(s->result, "form: the wide form does not fit the device");
  else if (!status)
    status = compare_forms(s, contexts, &ratio);
  const bool vector_rules = s->result->rule.form == CLNORM_FORM_VECTOR;
  const clnorm_form other = vector_rules ? CLNORM_FORM_WIDE : CLNORM_FORM_VECTOR;
  if ((vector_rules ? ratio : 1 / ratio) > 1 + CLNORM_NOISE) s->result->chosen.form = other;
  for (int i = 0; i < 2; i++) clnorm_context_destroy(contexts[i]);
  return status;
}

/* ---- From which size on outputs are written around the caches --------------------------------------- */

enum { NUM_SIZES = 9 }; /* 256 KiB to 64 MiB, in steps of 2 */

static uint64_t size_at(size_t index) { return UINT64_C(1) << (18 + index); }

/* Samples are 257 KiB: of a power of two, they would contend for the same places of the caches. */
static int compare_stores(session *s, clnorm_context *context, clnorm_bench_op op, double *ratios,
                          size_t *count) {
  const clnorm_measure_way ways[2] = {{context, CLNORM_CUT_AUTO, CLNORM_STORE_CACHED},
                                      {context, CLNORM_CUT_AUTO, CLNORM_STORE_STREAMED}};
  clnorm_tune_row row = {.parameter = op ? "train_stream_bytes" : "stream_bytes",
                         .ways = {"cached", "streamed"},
                         .op = op};
  int status = CLNORM_EXIT_GOOD;
  for (*count = 0; *count < NUM_SIZES && !status; ++*count) {
    const int64_t dims[4] = {(int64_t)1 << *count, 84, 28, 28};
    if (!fits(s, dims) || out_of_time(s)) break;
    memcpy(row.dims, dims, sizeof row.dims);
    status = compare(s, &row, ways, &ratios[*count]);
  }
  return status;
}

/* A part of the work on a context with what was chosen so far. */
typedef int (*part)(session *s, clnorm_context *context, const clnorm_tuning *in_force);

static int on_chosen(session *s, part work) {
  clnorm_context *context = open_tuned(s, s->result->chosen);
  if (!context) return CLNORM_EXIT_DEVICE;
  const clnorm_tuning in_force = dense_context_tuning(context, NULL);
  const int status = work(s, context, &in_force);
  clnorm_context_destroy(context);
  return status;
}

/* *chosen stays 0 where the rule's value is the best. */
static int tune_threshold(session *s, clnorm_context *context, clnorm_bench_op op, uint64_t by_rule,
                          uint64_t *chosen) {
  double ratios[NUM_SIZES];
  size_t count, rule = 0;
  const int status = compare_stores(s, context, op, ratios, &count);
  if (status || count == 0) return status;
  while (rule < count && size_at(rule) < by_rule) rule++;
  const size_t best = clnorm_choose_threshold(ratios, count, rule);
  if (best != rule) *chosen = best < count ? size_at(best) : UINT64_MAX;
  return status;
}

static int tune_store(session *s, clnorm_context *context, const clnorm_tuning *in_force) {
  clnorm_tuning *rule = &s->result->rule, *chosen = &s->result->chosen;
  rule->stream_bytes = in_force->stream_bytes;
  rule->train_stream_bytes = in_force->train_stream_bytes;
  if (in_force->form != CLNORM_FORM_VECTOR) return CLNORM_EXIT_GOOD;
  int status =
      tune_threshold(s, context, CLNORM_BENCH_EVAL, rule->stream_bytes, &chosen->stream_bytes);
  if (!status)
    status = tune_threshold(s, context, CLNORM_BENCH_TRAIN, rule->train_stream_bytes,
                            &chosen->train_stream_bytes);
  /* By rule for training alone must not come to mean "as in evaluation". */
  if (chosen->stream_bytes && !chosen->train_stream_bytes)
    chosen->train_stream_bytes = rule->train_stream_bytes;
  return status;
}

/* ---- Below how many channels per worker training splits channels ------------------------------------ */

/* Whole channels per worker. 0: fewer channels than workers. */
static const int per_worker[] = {0, 1, 2, 3, 4, 6, 8, 16};
enum { NUM_SPLITS = sizeof per_worker / sizeof per_worker[0] };
#define SPLIT_LARGEST_BYTES (INT64_C(256) << 20)

/* Of one channel: 512 KiB, 4 MiB. Smaller ones gain little from sharing, larger ones more. */
static const struct { int64_t batch, side; } channel_sizes[] = {{8, 128}, {16, 256}};
enum { NUM_CHANNEL_SIZES = sizeof channel_sizes / sizeof channel_sizes[0] };

/* One shape, if it is not too large: adds to ratios. */
static int compare_variants_of(session *s, clnorm_context *context, const int64_t dims[4],
                               double *ratios, size_t *count) {
  const clnorm_measure_way ways[2] = {{context, CLNORM_CUT_SPLIT, CLNORM_STORE_AUTO},
                                      {context, CLNORM_CUT_CHANNEL, CLNORM_STORE_AUTO}};
  const int64_t bytes = dims[0] * dims[1] * dims[2] * dims[3] * (int64_t)sizeof(float);
  clnorm_tune_row row = {
      .parameter = "split_below", .ways = {"split", "channel"}, .op = CLNORM_BENCH_TRAIN};
  if (bytes > SPLIT_LARGEST_BYTES || !fits(s, dims)) return CLNORM_EXIT_GOOD;
  memcpy(row.dims, dims, sizeof row.dims);
  const int status = compare(s, &row, ways, &ratios[*count]);
  if (!status) ++*count;
  return status;
}

/* At one point of per_worker: as many channels as go round evenly, and as many as are hardest to share.
 * *count: shapes that were measured. */
static int compare_variants_at(session *s, clnorm_context *context, int point, double *ratio,
                               size_t *count) {
  const int64_t workers = device_info(s)->compute_units;
  const int64_t channels[2] = {point * workers, point * workers + (workers + 1) / 2};
  double ratios[2 * NUM_CHANNEL_SIZES];
  int status = CLNORM_EXIT_GOOD;
  *count = 0;
  for (int k = 0; k < NUM_CHANNEL_SIZES; k++)
    for (int i = point == 0; i < 2 && !status; i++) {
      const int64_t dims[4] = {channel_sizes[k].batch, channels[i], channel_sizes[k].side,
                               channel_sizes[k].side};
      status = compare_variants_of(s, context, dims, ratios, count);
    }
  *ratio = clnorm_geometric_mean(ratios, *count);
  return status;
}

static int compare_variants(session *s, clnorm_context *context, double *ratios, size_t *count) {
  int status = CLNORM_EXIT_GOOD;
  for (*count = 0; *count < NUM_SPLITS && !status; ++*count) {
    size_t measured;
    if (out_of_time(s)) break;
    status = compare_variants_at(s, context, per_worker[*count], &ratios[*count], &measured);
    if (measured == 0) break;
  }
  return status;
}

static int tune_split(session *s, clnorm_context *context, const clnorm_tuning *in_force) {
  clnorm_tune_result *r = s->result;
  double ratios[NUM_SPLITS];
  size_t count, rule = 0;
  r->rule.split_below = in_force->split_below;
  if (in_force->form == CLNORM_FORM_VECTOR && device_info(s)->compute_units == 1) {
    clnorm_tune_note(r, "split_below: there is one thread, and nothing to share");
    return CLNORM_EXIT_GOOD;
  }
  const int status = compare_variants(s, context, ratios, &count);
  if (status || count == 0) return status;
  while (rule < count && per_worker[rule] < r->rule.split_below) rule++;
  const size_t best = clnorm_choose_threshold(ratios, count, rule);
  if (best == rule) return status;
  if (best == 0)
    r->chosen.split_below = CLNORM_TUNE_SPLIT_NEVER;
  else
    r->chosen.split_below = best < count ? per_worker[best] : per_worker[count - 1] + 1;
  return status;
}

/* ---- The command ----------------------------------------------------------------------------------- */

/* Values that are the rule's are not kept: a better rule of a later version is to be used. */
static int keep(clnorm_tune_result *r) {
  clnorm_context *context = r->target->context;
  const clnorm_tuning *t = &r->chosen;
  if (!clnorm_tuning_path(context)[0]) return CLNORM_EXIT_GOOD;
  const bool by_rule =
      !t->form && !(t->split_below > 0) && !t->stream_bytes && !t->train_stream_bytes;
  const clnorm_status status =
      by_rule ? clnorm_tuning_forget(context) : clnorm_tuning_keep(context, t);
  if (status != CLNORM_OK) clnorm_target_give_up(r->target, "%s", clnorm_last_error(context));
  r->kept = status == CLNORM_OK && !by_rule;
  return clnorm_exit_status(status);
}

static int measure(session *s) {
  clnorm_target baseline = {.context = NULL};
  if (!s->chosen->json) printf("%s\n", clnorm_context_description(s->result->target->context));
  int status = clnorm_target_open_baseline(s->result->target, 0, &baseline);
  s->baseline = baseline.context;
  if (!status) status = tune_form(s);
  if (!status) status = on_chosen(s, tune_store);
  if (!status) status = on_chosen(s, tune_split);
  clnorm_target_close(&baseline);
  if (!status && !s->chosen->dry_run) status = keep(s->result);
  if (!status && !s->chosen->json) clnorm_tune_print_choice(s->result, s->chosen->dry_run);
  return status;
}

static int reset(session *s) {
  clnorm_context *context = s->result->target->context;
  if (clnorm_tuning_path(context)[0] && clnorm_tuning_forget(context) != CLNORM_OK) {
    clnorm_target_give_up(s->result->target, "%s", clnorm_last_error(context));
    return CLNORM_EXIT_USAGE;
  }
  if (!s->chosen->json)
    printf("%s: nothing is kept any more, the rule holds\n", s->result->target->label);
  return CLNORM_EXIT_GOOD;
}

static int work_on(session *s, clnorm_target *target) {
  s->result->target = target;
  clnorm_context *by_rule = open_tuned(s, dense_tuning());
  if (!by_rule) return CLNORM_EXIT_DEVICE;
  s->result->rule = dense_context_tuning(by_rule, NULL);
  clnorm_context_destroy(by_rule);
  return s->chosen->reset ? reset(s) : measure(s);
}

static void print_json(const clnorm_tune_result *results, const clnorm_target *targets,
                       size_t count) {
  clnorm_json json = {stdout, false};
  clnorm_json_object(&json, NULL);
  clnorm_json_array(&json, "devices");
  for (size_t i = 0; i < count; i++)
    if (clnorm_target_works(&targets[i])) clnorm_tune_json(&json, &results[i]);
  clnorm_json_end_array(&json);
  clnorm_targets_failed_json(&json, targets, count);
  clnorm_json_end_object(&json);
  putchar('\n');
}

/* A device that fails, and has said why, leaves the others to be tuned. */
static int tune_all(const options *o, clnorm_target *targets, size_t count,
                    clnorm_tune_result *results) {
  int status = CLNORM_EXIT_GOOD;
  for (size_t i = 0; i < count; i++) {
    session s = {o, NULL, &results[i], clnorm_now(), false};
    if (!clnorm_target_works(&targets[i])) continue;
    if (i > 0 && !o->json && !o->reset) putchar('\n');
    const int own = work_on(&s, &targets[i]);
    if (own && clnorm_target_works(&targets[i])) clnorm_target_give_up(&targets[i], "is not tuned");
    if (own == CLNORM_EXIT_USAGE) status = own;
  }
  if (o->json) print_json(results, targets, count);
  return status ? status : clnorm_targets_status(targets, count);
}

/* Then no driver is opened. */
static bool names_cpu_alone(const clnorm_target_options *o) {
  return o->devices.count == 1 && strcmp(o->devices.items[0], "cpu") == 0;
}

static int tune(const options *o) {
  clnorm_target *targets;
  size_t count;
  const bool drivers_survive = names_cpu_alone(&o->target) || clnorm_probe_drivers();
  int status = clnorm_targets_open(&o->target, &targets, &count);
  if (status) return status;
  clnorm_tune_result *results = calloc(count, sizeof *results);
  if (!results) clnorm_complain("no memory for the results");
  for (size_t i = 0; results && i < count; i++)
    results[i].rule = results[i].chosen = dense_tuning();
  status = results ? tune_all(o, targets, count, results) : CLNORM_EXIT_DEVICE;
  free(results);
  clnorm_targets_close(targets, count);
  return status || drivers_survive ? status : CLNORM_EXIT_DEVICE;
}

int clnorm_command_tune(int argc, char **argv) {
  options o = {.target = {.device = "all", .cpu_as_it_is = true}, .seconds = 0.2};
  const clnorm_option table[] = {
      {"--device", CLNORM_OPTION_LIST, &o.target.devices, NULL},
      {"--seconds", CLNORM_OPTION_SECONDS, &o.seconds, NULL},
      {"--dry-run", CLNORM_OPTION_SET, &o.dry_run, NULL},
      {"--reset", CLNORM_OPTION_SET, &o.reset, NULL},
      {"--json", CLNORM_OPTION_SET, &o.json, NULL},
      {NULL, CLNORM_OPTION_SET, NULL, NULL},
  };
  int status;
  if (!clnorm_arguments_options(argc, argv, table, help, &status)) return status;
  if (!o.reset || !o.dry_run) return tune(&o);
  clnorm_complain("--reset and --dry-run exclude each other: a reset measures nothing");
  return CLNORM_EXIT_USAGE;
}
