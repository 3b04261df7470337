#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "messages.h"
#include "npy.h"
#include "outputs.h"
#include "run.h"
#include "text.h"

static const char help[] =
    "clnorm run X.npy [-o Y.npy] [options]\n"
    "\n"
    "One batch normalization of a tensor of float16, float32 or float64: (N, C), (N, C, L),\n"
    "(N, C, H, W) or (N, C, D, H, W). - is standard input; with -o - the array is on standard\n"
    "output, and everything else on standard error. Empty tensors have channels as well.\n"
    "\n"
    "  -o, --output FILE          the result; without it only a summary is printed\n"
    "  --mode eval|train          default eval\n"
    "  --weight FILE              (C,) or (1,C,1,1), float32 or float64, which is rounded to\n"
    "                             float32 unless x is float64; default 1\n"
    "  --bias FILE                default 0\n"
    "  --running-mean FILE        default 0\n"
    "  --running-var FILE         default 1\n"
    "  --save-running-mean FILE   running statistics after the run; may be the file that\n"
    "  --save-running-var FILE    they come from. Other outputs must not be inputs\n"
    "  --save-mean FILE           what x was normalized with\n"
    "  --save-invstd FILE\n"
    "  --eps E                    default 1e-5\n"
    "  --momentum K               kept fraction of the running statistics; default 0.9\n"
    "  --momentum-convention C    kept (default); new: K is the fraction of the new batch,\n"
    "                             as in PyTorch; cumulative: average over all batches,\n"
    "                             and K is not used\n"
    "  --num-batches-tracked B    batches before this one, for cumulative; default 0\n"
    "  --biased-running-var       running_var takes the variance with divisor M, not M - 1\n"
    "  --refuse-one-value         training with one value per channel is an error\n"
    "  --no-affine  --no-track  --freeze\n"
    "                             BatchNorm2d's affine, track_running_stats, freeze\n"
    "  --dtype f32|f16|bf16|f64   the type of y; default that of x. With bf16, files of two\n"
    "                             byte integers (u2) or voids (V2) are read as bfloat16, and\n"
    "                             so is y written, as u2\n"
    "  --layout nchw|nhwc         nhwc: x and y are (N, C), (N, L, C), (N, H, W, C) or\n"
    "                             (N, D, H, W, C); default nchw\n"
    "  --per-activation           statistics of every place of a sample over N alone; the\n"
    "                             parameters have as many values as a sample, (K,) or its shape\n"
    "  --device D                 auto (default), cpu, gpu, an id or part of a name\n"
    "  --form auto|vector|wide    kernel form, OpenCL\n"
    "  --threads T                CPU path; default all\n"
    "  --verify                   compare with the CPU path bit by bit, and with a long\n"
    "                             double reference; elements that depend on subnormal values\n"
    "                             that the device flushes are counted apart\n"
    "  --json                     one JSON object: device, shape, dtype, layout, mode, seconds,\n"
    "                             output, and with --verify the keys of clnorm verify,\n"
    "                             less failed\n"
    "\n"
    "Files are checked before the work, and replaced only when all of them are complete.\n"
    "\n"
    "example: clnorm run x.npy -o y.npy --running-mean m.npy --running-var v.npy --verify\n"
    "         clnorm run - -o - --mode train <x.npy >y.npy\n";

/* ---- Writing --------------------------------------------------------------------------------- */

#define MAX_OUTPUTS CLNORM_NUM_OUTPUTS

/* The files to write, each with its part of the results. */
typedef struct outputs {
  clnorm_output_file files[MAX_OUTPUTS];
  clnorm_output results[MAX_OUTPUTS];
  clnorm_npy arrays[MAX_OUTPUTS]; /* values belong to the module */
  size_t count;
} outputs;

static void list_outputs(const clnorm_run_request *o, outputs *out) {
  const struct {
    const char *option, *path, *updates;
    clnorm_output result;
  } all[MAX_OUTPUTS] = {
      {"--output", o->output, NULL, CLNORM_OUTPUT_Y},
      {"--save-running-mean", o->save_running_mean,
       o->parameters[CLNORM_RUN_PARAMETER(CLNORM_RUNNING_MEAN)], CLNORM_OUTPUT_RUNNING_MEAN},
      {"--save-running-var", o->save_running_var,
       o->parameters[CLNORM_RUN_PARAMETER(CLNORM_RUNNING_VAR)], CLNORM_OUTPUT_RUNNING_VAR},
      {"--save-mean", o->save_mean, NULL, CLNORM_OUTPUT_SAVED_MEAN},
      {"--save-invstd", o->save_invstd, NULL, CLNORM_OUTPUT_SAVED_INVSTD}};
  for (size_t i = 0; i < MAX_OUTPUTS; i++) {
    if (!all[i].path) continue;
    clnorm_output_file *file = &out->files[out->count];
    file->option = all[i].option;
    file->path = all[i].path;
    file->updates = all[i].updates;
    file->write = clnorm_npy_write;
    file->descriptor = -1;
    file->content = &out->arrays[out->count];
    out->results[out->count++] = all[i].result;
  }
}

/* Before anything is read or computed. */
static int check_outputs(const clnorm_run_request *o, const char *path, outputs *out) {
  clnorm_input_file read[1 + CLNORM_RUN_PARAMETERS] = {{"input", path}};
  int from_standard_input = strcmp(path, CLNORM_STANDARD_STREAM) == 0;
  for (int p = 0; p < CLNORM_RUN_PARAMETERS; p++) {
    read[1 + p].option = clnorm_run_parameter_options[p];
    read[1 + p].path = o->parameters[p];
    from_standard_input +=
        read[1 + p].path && strcmp(read[1 + p].path, CLNORM_STANDARD_STREAM) == 0;
  }
  if (from_standard_input > 1) {
    clnorm_complain("standard input (-) is named %d times, but can be read once",
                    from_standard_input);
    return CLNORM_EXIT_USAGE;
  }
  if (!o->track && (o->save_running_mean || o->save_running_var)) {
    clnorm_complain("%s: there are no running statistics with --no-track",
                    o->save_running_mean ? "--save-running-mean" : "--save-running-var");
    return CLNORM_EXIT_USAGE;
  }
  list_outputs(o, out);
  return clnorm_outputs_check(out->files, out->count, read, 1 + CLNORM_RUN_PARAMETERS);
}

/* An empty tensor has no statistics; what it does to running ones is nothing. */
static int check_results(const clnorm_run_request *o, const clnorm_run_inputs *in) {
  if (in->x.count > 0 || !(o->save_mean || o->save_invstd)) return CLNORM_EXIT_GOOD;
  clnorm_complain("%s: %s is empty, and has no statistics to save",
                  o->save_mean ? "--save-mean" : "--save-invstd", in->path);
  return CLNORM_EXIT_USAGE;
}

static int write_outputs(const clnorm_run_inputs *in, const clnorm_run_module *m, outputs *out) {
  for (size_t i = 0; i < out->count; i++) {
    const bool tensor = out->results[i] == CLNORM_OUTPUT_Y;
    clnorm_npy *array = &out->arrays[i];
    array->type = clnorm_run_npy_type(tensor ? in->y_tensor.dtype : in->real);
    array->ndim = tensor ? in->x.ndim : 1;
    array->dims[0] = clnorm_run_channels(in);
    if (tensor) memcpy(array->dims, in->x.dims, sizeof array->dims);
    array->count = tensor ? in->x.count : clnorm_run_channels(in);
    array->values = m->outputs[out->results[i]];
    out->files[i].size = clnorm_npy_size(array);
  }
  return clnorm_outputs_write(out->files, out->count);
}

/* ---- Reporting ------------------------------------------------------------------------------- */

static void print_json(const clnorm_run_request *o, const clnorm_run_inputs *in,
                       const clnorm_run_module *m, const clnorm_verification *found) {
  clnorm_json json = {stdout, false};
  clnorm_json_object(&json, NULL);
  clnorm_json_text(&json, "device", m->target.label);
  clnorm_json_array(&json, "shape");
  for (int i = 0; i < in->x.ndim; i++) clnorm_json_integer(&json, NULL, in->x.dims[i]);
  clnorm_json_end_array(&json);
  clnorm_json_text(&json, "dtype", clnorm_dtype_name(in->y_tensor.dtype));
  clnorm_json_text(&json, "layout", clnorm_run_layout_name(o));
  clnorm_json_text(&json, "mode", clnorm_run_mode_name(o));
  clnorm_json_number(&json, "seconds", m->seconds);
  clnorm_json_text(&json, "output", o->output);
  if (o->verify) clnorm_verification_json(&json, found);
  clnorm_json_end_object(&json);
  putchar('\n');
}

static void print_summary(const clnorm_run_request *o, const clnorm_run_inputs *in,
                          const clnorm_run_module *m) {
  const double bytes = (double)in->x.count * (double)(clnorm_dtype_size(in->x_tensor.dtype) +
                                                      clnorm_dtype_size(in->y_tensor.dtype));
  printf("device  %s\n", m->target.label);
  printf("shape   ");
  for (int d = 0; d < in->x.ndim; d++) printf("%s%" PRId64, d ? "x" : "", in->x.dims[d]);
  printf(" %s, %s to %s%s\n", clnorm_run_layout_name(o), clnorm_dtype_name(in->x_tensor.dtype),
         clnorm_dtype_name(in->y_tensor.dtype), o->per_activation ? ", per activation" : "");
  printf("mode    %s%s\n", clnorm_run_mode_name(o), o->freeze ? ", frozen" : "");
  printf("time    %s, %s GB/s counting x and y once; first call %s\n",
         clnorm_time_text(m->seconds).text,
         clnorm_number_text(m->seconds > 0 ? 1e-9 * bytes / m->seconds : 0.0).text,
         clnorm_time_text(m->first_call).text);
  printf("output  %s\n", o->output ? clnorm_output_path(o->output) : "not kept; -o FILE keeps it");
}

static void print_judgements(const clnorm_run_module *m, const clnorm_run_module *baseline,
                             const clnorm_run_judgement *judgements,
                             const clnorm_verification *found) {
  printf("\n%s\nis compared with %s\n", m->target.label, baseline->target.label);
  printf("%-14s %10s %10s %8s %12s  %s\n", "output", "elements", "differing", "max ulp",
         "error/bound", "first difference (n,c,...)");
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    const clnorm_difference *d = &judgements[i].difference;
    char place[CLNORM_PLACE_SIZE];
    if (!judgements[i].there) continue;
    clnorm_print_place(d, place);
    printf("%-14s %10" PRId64 " %10" PRId64 " %8" PRIu64 " %12.3g  ",
           clnorm_output_name((clnorm_output)i), d->elements, d->differing_elements, d->max_ulp,
           judgements[i].ratio);
    if (d->differing_elements == 0)
      printf("none, the same bits\n");
    else
      printf("%s\n", place);
  }
  clnorm_verification_print_failures(found);
  clnorm_verification_print_verdict(found);
}

/* ---- The command ----------------------------------------------------------------------------- */

static int run(const clnorm_run_request *o, const char *path) {
  clnorm_run_inputs in = {0};
  outputs out = {0};
  clnorm_run_module m = {0}, baseline = {0};
  clnorm_run_judgement judgements[CLNORM_NUM_OUTPUTS] = {0};
  const char *devices[1] = {m.target.label};
  clnorm_verification found = {.num_devices = 1, .devices = devices};
  int status = check_outputs(o, path, &out);
  if (!status) status = clnorm_run_read(o, path, &in);
  if (!status) status = check_results(o, &in);
  if (!status) status = clnorm_target_open(&o->target, &m.target);
  if (!status) status = clnorm_run_module_run(o, &in, &m);
  if (!status && o->verify) status = clnorm_run_verify(o, &in, &m, &baseline, judgements, &found);
  if (!status) status = write_outputs(&in, &m, &out);
  if (!status) {
    if (o->json)
      print_json(o, &in, &m, &found);
    else
      print_summary(o, &in, &m);
    if (o->verify && !o->json) print_judgements(&m, &baseline, judgements, &found);
    if (found.num_failures > 0) status = CLNORM_EXIT_DIFFERENT;
  }
  clnorm_outputs_free(out.files, out.count);
  clnorm_verification_free(&found);
  clnorm_run_module_close(&baseline);
  clnorm_run_module_close(&m);
  clnorm_run_inputs_free(&in);
  return status;
}

static clnorm_parsed parse(int argc, char **argv, clnorm_run_request *o,
                           clnorm_texts *positionals) {
  const clnorm_option table[] = {
      {"-o", CLNORM_OPTION_TEXT, &o->output, NULL},
      {"--output", CLNORM_OPTION_TEXT, &o->output, NULL},
      {"--bias", CLNORM_OPTION_TEXT, &o->parameters[CLNORM_RUN_PARAMETER(CLNORM_BIAS)], NULL},
      {"--save-running-mean", CLNORM_OPTION_TEXT, &o->save_running_mean, NULL},
      {"--save-running-var", CLNORM_OPTION_TEXT, &o->save_running_var, NULL},
      {"--save-mean", CLNORM_OPTION_TEXT, &o->save_mean, NULL},
      {"--save-invstd", CLNORM_OPTION_TEXT, &o->save_invstd, NULL},
      {"--momentum", CLNORM_OPTION_NUMBER, &o->momentum, NULL},
      {"--momentum-convention", CLNORM_OPTION_CHOICE, &o->convention, "kept|new|cumulative"},
      {"--num-batches-tracked", CLNORM_OPTION_COUNT, &o->num_batches_tracked, NULL},
      {"--biased-running-var", CLNORM_OPTION_SET, &o->biased, NULL},
      CLNORM_RUN_OPTIONS(o)};
  return clnorm_arguments_parse(argc, argv, table, positionals);
}

int clnorm_command_run(int argc, char **argv) {
  const clnorm_batchnorm_options module_defaults = dense_batchnorm_options(1);
  clnorm_run_request o = {.eps = module_defaults.eps,
                          .momentum = module_defaults.momentum,
                          .dtype = CLNORM_RUN_DTYPE_OF_X,
                          .affine = true,
                          .track = true,
                          .target = {.device = "auto"}};
  clnorm_texts positionals = {0};
  const clnorm_parsed parsed = parse(argc, argv, &o, &positionals);
  if (parsed == CLNORM_PARSED_HELP) {
    fputs(help, stdout);
    return CLNORM_EXIT_GOOD;
  }
  if (parsed == CLNORM_PARSED_WRONG) return CLNORM_EXIT_USAGE;
  if (positionals.count == 1) return run(&o, positionals.items[0]);
  if (positionals.count == 0)
    clnorm_complain("run takes one input file: clnorm run X.npy; see clnorm run --help");
  else
    clnorm_complain("run takes one input file, but got '%s' and '%s'%s; see clnorm run --help",
                    positionals.items[0], positionals.items[1],
                    positionals.count > 2 ? " and more" : "");
  return CLNORM_EXIT_USAGE;
}
