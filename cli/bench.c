#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "arguments.h"
#include "chart.h"
#include "commands.h"
#include "json.h"
#include "measure.h"
#include "messages.h"
#include "networks.h"
#include "outputs.h"
#include "targets.h"
#include "text.h"
#include "thresholds.h"

static const char help[] =
    "clnorm bench [--device D|all] [--suite NAME]... [--shape NxCxHxW]... [options]\n"
    "\n"
    "Times operations in a loop, beside the ceiling: the best plain copy of the same bytes, on\n"
    "the same device, in the same rounds. Results are checked against the CPU path first.\n"
    "fraction is floor bytes (x read once, y written once) / time / ceiling; a call that must\n"
    "read x twice can reach 0.67. What clnorm tune keeps for a device is in force, as in any\n"
    "program; the heading then says tuned.\n"
    "\n"
    "  --device D|all     auto, cpu, gpu, an id, part of a name, a list: cpu,0.0; default all\n"
    "  --suite NAME       resnet50, mobilenet_v2, unet, sizes (4 KiB to 1 GiB), or all;\n"
    "                     default resnet50\n"
    "  --batch N          batch of the networks' shapes; default 1 and 32 (unet: 1)\n"
    "  --shape NxCxHxW    this shape\n"
    "  --op O             eval, train, or all (default)\n"
    "  --dtype T          of x and y: f32 (default), f16, bf16, f64\n"
    "  --layout L         of x and y: nchw (default), nhwc, nchw4c, nchw8c, nchw16c, padded,\n"
    "                     slice, nhwc_slice; the copy is of as many elements of T without gaps\n"
    "  --form F           kernel form, OpenCL: auto (default), vector, wide, or all\n"
    "                     (vector, where the driver compiles for vectors, and wide)\n"
    "  --group-size N     work-items in a work-group of the wide form: 64, 128, 256;\n"
    "                     default auto, the largest that the device allows\n"
    "  --variant V        of training: auto (default), channel, split\n"
    "  --store S          auto (default), cached, streamed\n"
    "  --threads T        CPU path; default all\n"
    "  --pipeline         also as in an engine: a producer writes x, then the clock runs while\n"
    "                     the operation does and a consumer reads y once. At least 30 rounds,\n"
    "                     with the stores of the rule (pipeline), cached and streamed\n"
    "  --device-time      by the device's own clock, without the host's part in a call\n"
    "  --seconds S        per measurement, about; default 0.3\n"
    "  --no-check         skip the comparison with the CPU path\n"
    "  --no-costs         skip first-call cost and overhead per call\n"
    "  --json | --csv     instead of the table\n"
    "  --svg FILE         size against fraction, as a picture; with - the text goes to\n"
    "                     standard error\n"
    "\n"
    "Exit status: 0 all was measured, or left out for lack of memory; 2 a shape is wrong (the\n"
    "others are measured) or another argument; 3 else, if a device failed (the others go on).\n"
    "\n"
    "example: clnorm bench --device all --suite resnet50 --batch 32\n"
    "         clnorm bench --device cpu --suite resnet50 --pipeline\n"
    "         clnorm bench --device cpu --dtype bf16 --layout nhwc --op train\n"
    "         clnorm bench --device cpu --suite sizes --svg sizes.svg\n";

#define PIPELINE_ROUNDS 30

typedef struct options {
  clnorm_target_options target;
  clnorm_texts suites;
  clnorm_shapes shapes;
  int64_t batch;
  int op, dtype, layout, variant, store;
  double seconds;
  bool check, costs, json, csv, pipeline, device_time;
  const char *svg;
} options;

typedef struct shape_list {
  int64_t (*dims)[4];
  size_t count;
} shape_list;

/* One line of the result. */
typedef struct row {
  const char *device;
  clnorm_measure_case wanted;
  clnorm_measurement measured;
} row;

/* What a first call and a small call cost on one device; negative: not measured. */
typedef struct costs {
  double cold_s, warm_s;  /* context, plan and first run: without, and with, a program cache */
  double eval_s, train_s; /* per call, 1x8x4x4 */
} costs;

/* ---- Shapes ---------------------------------------------------------------------------------------- */

static bool add_shape(shape_list *list, int64_t n, int64_t c, int64_t h, int64_t w) {
  int64_t(*dims)[4] = realloc(list->dims, (list->count + 1) * sizeof *dims);
  if (!dims) return false;
  const int64_t shape[4] = {n, c, h, w};
  memcpy(dims[list->count++], shape, sizeof shape);
  list->dims = dims;
  return true;
}

static bool add_network(shape_list *list, const clnorm_network *network, int64_t batch) {
  for (size_t i = 0; i < network->num_layers; i++) {
    const clnorm_layer *l = &network->layers[i];
    if (!add_shape(list, batch, l->channels, l->height, l->width)) return false;
  }
  return true;
}

/* 4 KiB to 1 GiB in steps of 4: planes grow, then the batch. */
static bool add_sizes(shape_list *list) {
  bool good = add_shape(list, 1, 4, 16, 16) && add_shape(list, 1, 16, 16, 16) &&
              add_shape(list, 1, 64, 16, 16) && add_shape(list, 1, 64, 32, 32);
  for (int64_t n = 1; good && n <= 1024; n *= 4) good = add_shape(list, n, 64, 64, 64);
  return good;
}

static bool add_suite(shape_list *list, const char *name, int64_t batch, bool *known) {
  const bool all = strcmp(name, "all") == 0;
  bool good = true;
  for (size_t i = 0; i < clnorm_num_networks; i++) {
    const clnorm_network *network = &clnorm_networks[i];
    if (!all && strcmp(name, network->name) != 0) continue;
    *known = true;
    const bool large = strcmp(network->name, "unet") == 0;
    if (batch)
      good = good && add_network(list, network, batch);
    else
      good = good && add_network(list, network, 1) && (large || add_network(list, network, 32));
  }
  if (all || strcmp(name, "sizes") == 0) {
    *known = true;
    good = good && add_sizes(list);
  }
  return good;
}

/* A wrong shape is reported, *wrong becomes true, and the others are measured. */
static int make_shapes(const options *o, shape_list *list, bool *wrong) {
  bool good = true;
  *wrong = o->shapes.wrong;
  for (size_t i = 0; i < o->shapes.count && good; i++) {
    const int64_t *d = o->shapes.items[i];
    const bool empty = !d[0] || !d[1] || !d[2] || !d[3];
    if (empty)
      clnorm_complain("--shape %s is empty: there is nothing to time",
                      clnorm_shape_text_of(d).text);
    *wrong = *wrong || empty;
    if (!empty) good = add_shape(list, d[0], d[1], d[2], d[3]);
  }
  const bool by_default = !o->suites.count && !o->shapes.count && !o->shapes.wrong;
  for (size_t i = 0; i < (by_default ? 1 : o->suites.count) && good; i++) {
    bool known = false;
    const char *name = by_default ? "resnet50" : o->suites.items[i];
    good = add_suite(list, name, o->batch, &known);
    if (!known) {
      clnorm_complain("--suite is '%s', but must be resnet50, mobilenet_v2, unet, sizes or all",
                      name);
      return CLNORM_EXIT_USAGE;
    }
  }
  if (!good) clnorm_complain("no memory for the list of shapes");
  if (good && list->count == 0) return CLNORM_EXIT_USAGE;
  return good ? CLNORM_EXIT_GOOD : CLNORM_EXIT_DEVICE;
}

/* ---- Costs that do not grow with the tensor -------------------------------------------------------- */

/* Context, plan and first run on 1x8x4x4; "" keeps no programs on disk. */
static double first_call(const clnorm_target *target, const options *o, const char *cache_dir) {
  clnorm_context_options how = dense_context_options();
  clnorm_context *context = NULL;
  clnorm_plan *plan = NULL;
  dense_args args = {.momentum = 0.9};
  how.num_threads = (int)o->target.threads;
  how.cache_dir = cache_dir;
  const double start = clnorm_now();
  clnorm_status status =
      clnorm_context_create(clnorm_context_device(target->context)->id, &how, &context, NULL);
  if (status != CLNORM_OK) return -1;
  const dense_desc desc = dense_desc_defaults(CLNORM_BATCH_STATISTICS, 1, 8, 16);
  const float zeros[128] = {1.0f};
  status = dense_plan_create(context, &desc, &plan);
  if (status == CLNORM_OK) status = clnorm_memory_alloc(context, sizeof zeros, &args.x);
  if (status == CLNORM_OK) status = clnorm_memory_write(context, args.x, zeros, sizeof zeros);
  args.y = args.x;
  if (status == CLNORM_OK) status = dense_run(plan, &args);
  if (status == CLNORM_OK) status = clnorm_finish(context);
  const double seconds = clnorm_now() - start;
  clnorm_plan_destroy(plan);
  clnorm_memory_free(context, &args.x);
  clnorm_context_destroy(context);
  return status == CLNORM_OK ? seconds : -1;
}

/* The program cache's own effect: the same folder, first without and then with its entry. */
static void measure_first_calls(const clnorm_target *target, const options *o, costs *c) {
  char folder[] = "/tmp/clnorm-bench-XXXXXX", command[80];
  c->cold_s = c->warm_s = -1;
  if (!mkdtemp(folder)) return;
  c->cold_s = first_call(target, o, folder);
  c->warm_s = first_call(target, o, folder);
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  if (system(command) != 0) clnorm_complain("cannot remove %s", folder);
}

static double small_call(const clnorm_target *target, const clnorm_target *baseline,
                         clnorm_bench_op op) {
  const clnorm_measure_case wanted = {
      .op = op, .dims = {1, 8, 4, 4}, .seconds = 0.1, .check = true};
  clnorm_measurement m;
  clnorm_message message;
  if (clnorm_measure(target->context, baseline->context, &wanted, &m, &message)) return -1;
  return m.median_s;
}

static costs measure_costs(const clnorm_target *target, const clnorm_target *baseline,
                           const options *o) {
  costs c;
  measure_first_calls(target, o, &c);
  c.eval_s = small_call(target, baseline, CLNORM_BENCH_EVAL);
  c.train_s = small_call(target, baseline, CLNORM_BENCH_TRAIN);
  return c;
}

/* ---- Printing -------------------------------------------------------------------------------------- */

static double gbps(const row *r) { return r->measured.floor_bytes / r->measured.median_s * 1e-9; }
static double ceiling(const row *r) {
  return r->measured.floor_bytes / r->measured.ceiling_s * 1e-9;
}

/* The copy was slower than an operation that moves the same bytes, so it is no ceiling here. */
static bool is_above(double fraction) { return fraction > 1 + CLNORM_NOISE; }
static bool is_above_in_loop(const row *r) {
  return is_above(fmax(r->measured.fraction, gbps(r) / ceiling(r)));
}
static bool is_above_in_pipeline(const row *r) {
  return r->wanted.pipeline && is_above(r->measured.pipeline.fraction);
}
static bool is_above_ceiling(const row *r) {
  return is_above_in_loop(r) || is_above_in_pipeline(r);
}

static void print_csv_row(const row *r, bool first) {
  const clnorm_shape_text shape = clnorm_shape_text_of(r->wanted.dims);
  const clnorm_measurement *m = &r->measured;
  const clnorm_measured_pipeline *p = &m->pipeline;
  if (first)
    printf("device,op,shape,dtype,layout,variant,median_s,gbps,ceiling_gbps,fraction,"
           "streaming_fraction,extra_bytes,rounds%s\n",
           r->wanted.pipeline ? ",pipeline_rule_s,pipeline_cached_s,pipeline_streamed_s,"
                                "pipeline_ceiling_s,pipeline_fraction,pipeline_rounds"
                              : "");
  printf("\"%s\",%s,%s,%s,%s,\"%s\",%.9g,%.4g,%.4g,%.4g,%.4g,%zu,%d", r->device,
         clnorm_bench_op_names[r->wanted.op], shape.text, clnorm_dtype_name(r->wanted.dtype),
         clnorm_layout_name(r->wanted.layout), m->variant, m->median_s, gbps(r), ceiling(r),
         m->fraction, m->fraction * m->stream_bytes / m->floor_bytes, m->extra_bytes, m->rounds);
  if (r->wanted.pipeline)
    printf(",%.9g,%.9g,%.9g,%.9g,%.4g,%d", p->rule_s, p->cached_s, p->streamed_s, p->ceiling_s,
           p->fraction, p->rounds);
  putchar('\n');
}

/* Fractions are of the best copy in the same place. */
static void print_pipeline_row(const row *r, bool first) {
  const clnorm_shape_text shape = clnorm_shape_text_of(r->wanted.dims);
  const clnorm_measured_pipeline *p = &r->measured.pipeline;
  if (first)
    printf("%-5s %-17s %9s %8s  %9s %9s %6s %9s %8s\n", "op", "shape", "pipeline", "fraction",
           "cached", "streamed", "rounds", "loop", "fraction");
  printf("%-5s %-17s %9s %8.2f%c %9s %9s %6d %9s %8.2f%s\n", clnorm_bench_op_names[r->wanted.op],
         shape.text, clnorm_time_text(p->rule_s).text, p->fraction,
         is_above_in_pipeline(r) ? '*' : ' ', clnorm_time_text(p->cached_s).text,
         clnorm_time_text(p->streamed_s).text, p->rounds,
         clnorm_time_text(r->measured.median_s).text, r->measured.fraction,
         is_above_in_loop(r) ? "*" : "");
}

static void print_row(const row *r, bool csv, bool first) {
  const clnorm_shape_text shape = clnorm_shape_text_of(r->wanted.dims);
  const clnorm_measurement *m = &r->measured;
  if (csv) {
    print_csv_row(r, first);
  } else if (r->wanted.pipeline) {
    print_pipeline_row(r, first);
  } else {
    if (first)
      printf("%-5s %-17s %9s %8s %8s %8s  %s\n", "op", "shape", "time", "GB/s", "ceiling",
             "fraction", "how");
    printf("%-5s %-17s %9s %8s %8s %8.2f%c %s\n", clnorm_bench_op_names[r->wanted.op], shape.text,
           clnorm_time_text(m->median_s).text, clnorm_number_text(gbps(r)).text,
           clnorm_number_text(ceiling(r)).text, m->fraction, is_above_ceiling(r) ? '*' : ' ',
           m->variant);
  }
  fflush(stdout);
}

static void print_costs(const costs *c, bool csv) {
  if (csv) return;
  /* A driver's own cache may be filled: that is not ours to empty. */
  printf("first call %s (clnorm's program cache empty), %s (filled); "
         "a call on 1x8x4x4: eval %s, train %s\n",
         clnorm_time_text(c->cold_s).text, clnorm_time_text(c->warm_s).text,
         clnorm_time_text(c->eval_s).text, clnorm_time_text(c->train_s).text);
}

static void print_footnote(const row *rows, size_t count) {
  bool marked = false;
  for (size_t i = 0; i < count; i++) marked = marked || is_above_ceiling(&rows[i]);
  if (marked)
    printf(
        "* faster than the copy by more than noise (%.0f %%): its ceiling is too low to be one\n",
        100 * CLNORM_NOISE);
}

static void json_pipeline(clnorm_json *json, const clnorm_measured_pipeline *p) {
  clnorm_json_object(json, "pipeline");
  clnorm_json_number(json, "rule_s", p->rule_s);
  clnorm_json_number(json, "cached_s", p->cached_s);
  clnorm_json_number(json, "streamed_s", p->streamed_s);
  clnorm_json_number(json, "ceiling_s", p->ceiling_s);
  clnorm_json_number(json, "fraction", p->fraction);
  clnorm_json_integer(json, "rounds", p->rounds);
  clnorm_json_end_object(json);
}

static void json_row(clnorm_json *json, const row *r) {
  const clnorm_shape_text shape = clnorm_shape_text_of(r->wanted.dims);
  const clnorm_measurement *m = &r->measured;
  clnorm_json_object(json, NULL);
  clnorm_json_text(json, "device", r->device);
  clnorm_json_text(json, "op", clnorm_bench_op_names[r->wanted.op]);
  clnorm_json_text(json, "shape", shape.text);
  clnorm_json_text(json, "dtype", clnorm_dtype_name(r->wanted.dtype));
  clnorm_json_text(json, "layout", clnorm_layout_name(r->wanted.layout));
  clnorm_json_text(json, "variant", m->variant);
  clnorm_json_number(json, "median_s", m->median_s);
  clnorm_json_number(json, "gbps", gbps(r));
  clnorm_json_number(json, "ceiling_gbps", ceiling(r));
  clnorm_json_number(json, "fraction", m->fraction);
  clnorm_json_bool(json, "above_ceiling", is_above_ceiling(r));
  clnorm_json_number(json, "streaming_fraction", m->fraction * m->stream_bytes / m->floor_bytes);
  clnorm_json_integer(json, "extra_bytes", (int64_t)m->extra_bytes);
  clnorm_json_integer(json, "rounds", m->rounds);
  if (r->wanted.pipeline) json_pipeline(json, &m->pipeline);
  clnorm_json_end_object(json);
}

static void print_json(const row *rows, size_t num_rows, const clnorm_target *targets,
                       const costs *all_costs, size_t num_targets, bool device_time) {
  clnorm_json json = {stdout, false};
  clnorm_json_object(&json, NULL);
  clnorm_json_text(&json, "clock", device_time ? "device" : "host");
  clnorm_json_array(&json, "results");
  for (size_t i = 0; i < num_rows; i++) json_row(&json, &rows[i]);
  clnorm_json_end_array(&json);
  clnorm_json_array(&json, "costs");
  for (size_t i = 0; i < num_targets && all_costs; i++) {
    if (!clnorm_target_works(&targets[i])) continue;
    clnorm_json_object(&json, NULL);
    clnorm_json_text(&json, "device", targets[i].label);
    clnorm_json_number(&json, "first_call_cold_s", all_costs[i].cold_s);
    clnorm_json_number(&json, "first_call_warm_s", all_costs[i].warm_s);
    clnorm_json_number(&json, "eval_call_s", all_costs[i].eval_s);
    clnorm_json_number(&json, "train_call_s", all_costs[i].train_s);
    clnorm_json_end_object(&json);
  }
  clnorm_json_end_array(&json);
  clnorm_targets_failed_json(&json, targets, num_targets);
  clnorm_json_end_object(&json);
  putchar('\n');
}

/* ---- The picture ----------------------------------------------------------------------------------- */

/* Machine, system, version and date, then every device with its driver. */
static void add_notes(clnorm_chart *chart, const clnorm_target *baseline,
                      const clnorm_target *targets, size_t num_targets) {
  struct utsname machine;
  char date[16] = "";
  const time_t now = time(NULL);
  struct tm day;
  if (gmtime_r(&now, &day)) strftime(date, sizeof date, "%Y-%m-%d", &day);
  if (uname(&machine) != 0) memset(&machine, 0, sizeof machine);
  snprintf(chart->notes[chart->num_notes++], sizeof chart->notes[0],
           "%.60s; %.30s %.30s; clnorm %s; %s", clnorm_context_device(baseline->context)->name,
           machine.sysname, machine.machine, clnorm_version(), date);
  for (size_t i = 0; i < num_targets && chart->num_notes < CLNORM_CHART_MAX_NOTES; i++)
    if (targets[i].context)
      snprintf(chart->notes[chart->num_notes++], sizeof chart->notes[0], "%.150s",
               clnorm_context_description(targets[i].context));
}

/* One curve for each operation on each target. */
static void add_series(clnorm_chart *chart, clnorm_chart_point *points, const row *rows,
                       size_t num_rows, const clnorm_target *targets, size_t num_targets) {
  for (size_t t = 0; t < num_targets; t++)
    for (int op = 0; op < 2; op++) {
      clnorm_chart_series *s = &chart->series[chart->num_series];
      s->points = points + chart->num_series * num_rows;
      s->count = 0;
      snprintf(s->name, sizeof s->name, "%s, %.100s", clnorm_bench_op_names[op], targets[t].label);
      for (size_t i = 0; i < num_rows; i++)
        if (rows[i].device == targets[t].label && (int)rows[i].wanted.op == op) {
          const clnorm_measurement *m = &rows[i].measured;
          const clnorm_chart_point p = {
              m->floor_bytes / 2, rows[i].wanted.pipeline ? m->pipeline.fraction : m->fraction};
          s->points[s->count++] = p;
        }
      chart->num_series += s->count > 0;
    }
}

static int write_svg(clnorm_output_file *file, const row *rows, size_t num_rows,
                     const clnorm_target *baseline, const clnorm_target *targets,
                     size_t num_targets) {
  const size_t most = 2 * num_targets;
  clnorm_chart chart = {.title = num_rows && rows[0].wanted.pipeline
                                     ? "clnorm: forward in a pipeline, fraction of the best copy"
                                     : "clnorm: forward, fraction of the best copy",
                        .series = calloc(most, sizeof *chart.series)};
  clnorm_chart_point *points = calloc(most * num_rows + 1, sizeof *points);
  int status = CLNORM_EXIT_DEVICE;
  if (chart.series && points) {
    add_notes(&chart, baseline, targets, num_targets);
    add_series(&chart, points, rows, num_rows, targets, num_targets);
    file->content = &chart;
    status = clnorm_outputs_write(file, 1);
  } else {
    clnorm_complain("no memory for the picture");
  }
  free(points);
  free(chart.series);
  return status;
}

/* ---- The command ----------------------------------------------------------------------------------- */

typedef struct session {
  const options *chosen;
  clnorm_target *targets;
  size_t num_targets;
  clnorm_target baseline;
  shape_list shapes;
  row *rows;
  size_t num_rows;
  costs *all_costs;
  bool wrong_shape; /* one was refused, and told so */
  clnorm_output_file picture;
  size_t num_pictures;
} session;

/* Adds a row, unless it cannot be measured. A shape that is refused or too large leaves the others to be
 * measured; a device that fails is asked no more. */
static void measure_one(session *s, clnorm_target *target, const int64_t dims[4], int op) {
  const options *o = s->chosen;
  row *r = &s->rows[s->num_rows];
  clnorm_message message;
  r->device = target->label;
  r->wanted.op = (clnorm_bench_op)op;
  memcpy(r->wanted.dims, dims, sizeof r->wanted.dims);
  r->wanted.dtype = o->dtype;
  r->wanted.layout = (clnorm_layout)o->layout;
  r->wanted.variant = (clnorm_cut)o->variant;
  r->wanted.store = (clnorm_store)o->store;
  r->wanted.seconds = o->seconds;
  r->wanted.check = o->check;
  r->wanted.pipeline = o->pipeline;
  r->wanted.device_time = o->device_time;
  r->wanted.min_rounds = o->pipeline ? PIPELINE_ROUNDS : 0;
  r->wanted.threads = (int)o->target.threads;
  const clnorm_shape_text shape = clnorm_shape_text_of(dims);
  clnorm_progress("%s %s ...", clnorm_bench_op_names[op], shape.text);
  const clnorm_status status =
      clnorm_measure(target->context, s->baseline.context, &r->wanted, &r->measured, &message);
  clnorm_progress(NULL);
  if (status == CLNORM_OK) {
    s->num_rows++;
  } else if (status == CLNORM_ERROR_OUT_OF_MEMORY) {
    clnorm_complain("%s %s %s is left out: %s", target->label, clnorm_bench_op_names[op],
                    shape.text, message.text);
  } else if (clnorm_exit_status(status) == CLNORM_EXIT_USAGE) {
    clnorm_complain("%s %s %s: %s", target->label, clnorm_bench_op_names[op], shape.text,
                    message.text);
    s->wrong_shape = true;
  } else {
    clnorm_target_give_up(target, "failed on %s %s: %.1000s", clnorm_bench_op_names[op], shape.text,
                          message.text);
  }
}

static void measure_target(session *s, size_t index) {
  const options *o = s->chosen;
  clnorm_target *target = &s->targets[index];
  const bool table = !o->json && !o->csv;
  if (table) printf("%s%s\n", index ? "\n" : "", clnorm_context_description(target->context));
  const size_t first = s->num_rows;
  for (size_t i = 0; i < s->shapes.count; i++)
    for (int op = 0; op < 2; op++) {
      if ((o->op != 2 && o->op != op) || !clnorm_target_works(target)) continue;
      const size_t before = s->num_rows;
      measure_one(s, target, s->shapes.dims[i], op);
      if (!o->json && s->num_rows > before)
        print_row(&s->rows[before], o->csv, before == (table ? first : 0));
    }
  if (table) print_footnote(s->rows + first, s->num_rows - first);
  if (!o->costs || !clnorm_target_works(target)) return;
  s->all_costs[index] = measure_costs(target, &s->baseline, o);
  if (!o->json) print_costs(&s->all_costs[index], o->csv);
}

static int bench(const options *o, session *s) {
  s->chosen = o;
  int status = make_shapes(o, &s->shapes, &s->wrong_shape);
  if (!status) status = clnorm_outputs_check(&s->picture, s->num_pictures, NULL, 0);
  if (!status) status = clnorm_targets_open(&o->target, &s->targets, &s->num_targets);
  if (!status) status = clnorm_target_open_baseline(NULL, o->target.threads, &s->baseline);
  if (status) return status;
  s->rows = calloc(2 * s->num_targets * s->shapes.count, sizeof *s->rows);
  s->all_costs = calloc(s->num_targets, sizeof *s->all_costs);
  if (!s->rows || !s->all_costs) {
    clnorm_complain("no memory for the results");
    return CLNORM_EXIT_DEVICE;
  }
  for (size_t i = 0; i < s->num_targets; i++)
    if (clnorm_target_works(&s->targets[i])) measure_target(s, i);
  if (o->json)
    print_json(s->rows, s->num_rows, s->targets, o->costs ? s->all_costs : NULL, s->num_targets,
               o->device_time);
  if (s->num_pictures)
    status = write_svg(&s->picture, s->rows, s->num_rows, &s->baseline, s->targets, s->num_targets);
  if (s->wrong_shape) status = CLNORM_EXIT_USAGE;
  return status ? status : clnorm_targets_status(s->targets, s->num_targets);
}

static bool check_options(const options *o) {
  if (o->json && o->csv) {
    clnorm_complain("--json and --csv exclude each other: both would go to standard output");
    return false;
  }
  if (o->pipeline && o->store != CLNORM_STORE_AUTO) {
    clnorm_complain("--pipeline times all stores beside each other: leave --store out");
    return false;
  }
  if (!o->batch || o->suites.count || !(o->shapes.count || o->shapes.wrong)) return true;
  clnorm_complain("--batch is for suites; --shape has its own batch");
  return false;
}

int clnorm_command_bench(int argc, char **argv) {
  options o = {.target = {.device = "all", .cpu_as_it_is = true},
               .op = 2,
               .seconds = 0.3,
               .check = true,
               .costs = true};
  const clnorm_option table[] = {
      {"--device", CLNORM_OPTION_LIST, &o.target.devices, NULL},
      {"--suite", CLNORM_OPTION_TEXTS, &o.suites, NULL},
      {"--shape", CLNORM_OPTION_SHAPES, &o.shapes, NULL},
      {"--batch", CLNORM_OPTION_POSITIVE, &o.batch, NULL},
      {"--op", CLNORM_OPTION_CHOICE, &o.op, "eval|train|all"},
      {"--dtype", CLNORM_OPTION_CHOICE, &o.dtype, CLNORM_DTYPE_CHOICES},
      {"--layout", CLNORM_OPTION_CHOICE, &o.layout, CLNORM_CASE_LAYOUT_CHOICES},
      {"--form", CLNORM_OPTION_CHOICE, &o.target.form, CLNORM_FORM_CHOICES "|all"},
      {"--group-size", CLNORM_OPTION_CHOICE, &o.target.group_size, CLNORM_GROUP_SIZE_CHOICES},
      {"--variant", CLNORM_OPTION_CHOICE, &o.variant, "auto|channel|split"},
      {"--store", CLNORM_OPTION_CHOICE, &o.store, "auto|cached|streamed"},
      {"--threads", CLNORM_OPTION_COUNT, &o.target.threads, NULL},
      {"--pipeline", CLNORM_OPTION_SET, &o.pipeline, NULL},
      {"--device-time", CLNORM_OPTION_SET, &o.device_time, NULL},
      {"--seconds", CLNORM_OPTION_SECONDS, &o.seconds, NULL},
      {"--no-check", CLNORM_OPTION_CLEAR, &o.check, NULL},
      {"--no-costs", CLNORM_OPTION_CLEAR, &o.costs, NULL},
      {"--json", CLNORM_OPTION_SET, &o.json, NULL},
      {"--csv", CLNORM_OPTION_SET, &o.csv, NULL},
      {"--svg", CLNORM_OPTION_TEXT, &o.svg, NULL},
      {NULL, CLNORM_OPTION_SET, NULL, NULL},
  };
  int status;
  if (!clnorm_arguments_options(argc, argv, table, help, &status)) return status;
  if (!check_options(&o)) return CLNORM_EXIT_USAGE;
  session s = {
      .picture = {.option = "--svg", .path = o.svg, .write = clnorm_chart_write, .descriptor = -1},
      .num_pictures = o.svg != NULL};
  o.target.profiling = o.device_time;
  status = bench(&o, &s);
  clnorm_outputs_free(&s.picture, s.num_pictures);
  if (s.baseline.context) clnorm_target_close(&s.baseline);
  clnorm_targets_close(s.targets, s.num_targets);
  free(s.all_costs);
  free(s.rows);
  free(s.shapes.dims);
  return status;
}
