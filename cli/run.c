#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "measure.h"
#include "messages.h"
#include "npy.h"
#include "outputs.h"
#include "targets.h"
#include "text.h"
#include "verification.h"

static const char help[] =
    "clnorm run X.npy [-o Y.npy] [options]\n"
    "\n"
    "One BatchNorm2d on a float32 tensor (N, C, H, W). - is standard input; with -o - the array\n"
    "is on standard output, and everything else on standard error.\n"
    "\n"
    "  -o, --output FILE          the result; without it only a summary is printed\n"
    "  --mode eval|train          default eval\n"
    "  --weight FILE              (C,) or (1,C,1,1), float32 or float64; default 1\n"
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
    "  --dtype f32                the only type so far\n"
    "  --layout nchw              the only layout so far\n"
    "  --device D                 auto (default), cpu, gpu, an id or part of a name\n"
    "  --form auto|vector|wide    kernel form, OpenCL\n"
    "  --threads T                CPU path; default all\n"
    "  --verify                   compare with the CPU path bit by bit, and with a long\n"
    "                             double reference; elements that depend on subnormal values\n"
    "                             that the device flushes are counted apart\n"
    "  --json                     one JSON object: device, shape, mode, seconds, output,\n"
    "                             and with --verify the keys of clnorm verify, less failed\n"
    "\n"
    "Files are checked before the work, and replaced only when all of them are complete.\n"
    "\n"
    "example: clnorm run x.npy -o y.npy --running-mean m.npy --running-var v.npy --verify\n"
    "         clnorm run - -o - --mode train <x.npy >y.npy\n";

enum { MODE_EVAL, MODE_TRAIN };

typedef struct options {
  const char *output;
  const char *parameters[4]; /* by clnorm_parameter */
  const char *save_running_mean, *save_running_var, *save_mean, *save_invstd;
  int mode, convention, dtype, layout;
  double eps, momentum;
  int64_t num_batches_tracked;
  bool affine, track, freeze, biased, refuse_one_value, verify, json;
  clnorm_target_options target;
} options;

static const char *const parameter_options[4] = {"--weight", "--bias", "--running-mean",
                                                 "--running-var"};

/* What was read from files. */
typedef struct inputs {
  const char *path;
  clnorm_npy x;
  clnorm_npy parameters[4]; /* by clnorm_parameter; values NULL: not given */
} inputs;

/* One module on one context, and what it gave. */
typedef struct module {
  clnorm_target target;
  clnorm_batchnorm2d *bn;
  clnorm_memory x, y, saved_mean, saved_invstd;
  float *outputs[CLNORM_NUM_OUTPUTS]; /* NULL: not written, or not there */
  double first_call, seconds;         /* seconds: median of the calls after the first */
} module;

/* ---- Reading --------------------------------------------------------------------------------- */

static void print_dims(const clnorm_npy *array, char *text, size_t size) {
  size_t n = (size_t)snprintf(text, size, "(");
  for (int d = 0; d < array->ndim && n < size; d++)
    n += (size_t)snprintf(text + n, size - n, "%" PRId64 "%s", array->dims[d],
                          d + 1 < array->ndim ? ","
                          : array->ndim == 1  ? ",)"
                                              : ")");
  if (array->ndim == 0) snprintf(text, size, "()");
}

/* (C,) or (1,C,1,1). */
static bool is_per_channel(const clnorm_npy *array, int64_t channels) {
  if (array->ndim == 1) return array->dims[0] == channels;
  return array->ndim == 4 && array->dims[0] == 1 && array->dims[1] == channels &&
         array->dims[2] == 1 && array->dims[3] == 1;
}

static bool read_parameter(const char *option, const char *path, int64_t channels,
                           clnorm_npy *array) {
  clnorm_message message;
  if (!clnorm_npy_read(path, CLNORM_NPY_F32 | CLNORM_NPY_F64, array, &message) ||
      !clnorm_npy_convert(array, CLNORM_NPY_F32, &message)) {
    clnorm_complain("%s %s: %s", option, clnorm_input_path(path), message.text);
    return false;
  }
  if (is_per_channel(array, channels)) return true;
  char shape[512];
  print_dims(array, shape, sizeof shape);
  clnorm_complain("%s %s: shape is %s, but must be (%" PRId64 ",) or (1,%" PRId64
                  ",1,1) for an input of %" PRId64 " channels",
                  option, clnorm_input_path(path), shape, channels, channels, channels);
  return false;
}

static int read_inputs(const options *o, const char *path, inputs *in) {
  clnorm_message message;
  in->path = clnorm_input_path(path);
  if (!clnorm_npy_read(path, CLNORM_NPY_F32, &in->x, &message)) {
    clnorm_complain("%s: %s", in->path, message.text);
    return CLNORM_EXIT_USAGE;
  }
  if (in->x.ndim != 4) {
    char shape[512];
    print_dims(&in->x, shape, sizeof shape);
    clnorm_complain("%s: expected 4D input (got %dD input): shape is %s, but must be (N,C,H,W)",
                    in->path, in->x.ndim, shape);
    return CLNORM_EXIT_USAGE;
  }
  for (int p = 0; p < 4; p++)
    if (o->parameters[p] &&
        !read_parameter(parameter_options[p], o->parameters[p], in->x.dims[1], &in->parameters[p]))
      return CLNORM_EXIT_USAGE;
  return CLNORM_EXIT_GOOD;
}

static void free_inputs(inputs *in) {
  clnorm_npy_free(&in->x);
  for (int p = 0; p < 4; p++) clnorm_npy_free(&in->parameters[p]);
}

/* ---- The module ------------------------------------------------------------------------------ */

/* Prints the library's last error behind `what` unless status is good. */
static int check(const module *m, clnorm_status status, const char *what) {
  if (status) clnorm_complain("%s: %s", what, clnorm_last_error(m->target.context));
  return clnorm_exit_status(status);
}

static int create_module(const options *o, const inputs *in, module *m) {
  clnorm_batchnorm2d_options bn = clnorm_batchnorm2d_options_defaults(in->x.dims[1]);
  bn.eps = o->eps;
  bn.momentum = o->momentum;
  bn.momentum_convention = (clnorm_momentum)o->convention;
  bn.affine = o->affine;
  bn.track_running_stats = o->track;
  bn.freeze = o->freeze;
  bn.biased_running_var = o->biased;
  bn.refuse_one_value = o->refuse_one_value;
  const int status =
      check(m, clnorm_batchnorm2d_create(m->target.context, &bn, &m->bn), "BatchNorm2d");
  if (!status) clnorm_batchnorm2d_set_training(m->bn, o->mode == MODE_TRAIN);
  return status;
}

/* Puts the module into the state that the user described; also between timed calls. */
static int load_state(const options *o, const inputs *in, module *m) {
  int status = check(m, clnorm_batchnorm2d_reset_parameters(m->bn), "BatchNorm2d");
  for (int p = 0; p < 4 && !status; p++)
    if (in->parameters[p].values)
      status = check(m,
                     clnorm_batchnorm2d_set(m->bn, (clnorm_parameter)p, in->parameters[p].values,
                                            (size_t)in->parameters[p].count),
                     parameter_options[p]);
  if (status || !o->track) return status;
  return check(m, clnorm_batchnorm2d_set_num_batches_tracked(m->bn, o->num_batches_tracked),
               "--num-batches-tracked");
}

static int allocate(const options *o, const inputs *in, module *m) {
  clnorm_context *context = m->target.context;
  const size_t tensor = (size_t)in->x.count * sizeof(float);
  const size_t vector = (size_t)in->x.dims[1] * sizeof(float);
  int status = check(m, clnorm_memory_alloc(context, tensor, &m->x), in->path);
  if (!status) status = check(m, clnorm_memory_alloc(context, tensor, &m->y), in->path);
  if (!status && (o->verify || o->save_mean))
    status = check(m, clnorm_memory_alloc(context, vector, &m->saved_mean), in->path);
  if (!status && (o->verify || o->save_invstd))
    status = check(m, clnorm_memory_alloc(context, vector, &m->saved_invstd), in->path);
  if (status || tensor == 0) return status;
  return check(m, clnorm_memory_write(context, m->x, in->x.values, tensor), in->path);
}

static int forward(const inputs *in, module *m, double *seconds) {
  const clnorm_batchnorm2d_args args = {
      .x = m->x, .y = m->y, .saved_mean = m->saved_mean, .saved_invstd = m->saved_invstd};
  const double start = clnorm_now();
  int status = check(m, clnorm_batchnorm2d_forward(m->bn, in->x.ndim, in->x.dims, &args), in->path);
  if (!status) status = check(m, clnorm_finish(m->target.context), in->path);
  *seconds = clnorm_now() - start;
  return status;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

#define TIMED_CALLS 5

/* The first call, which also plans and compiles, then up to TIMED_CALLS from the same state, fewer
 * where they are long. */
static int run_timed(const options *o, const inputs *in, module *m) {
  double seconds[TIMED_CALLS], spent = 0;
  int calls = 0;
  int status = load_state(o, in, m);
  if (!status) status = forward(in, m, &m->first_call);
  while (!status && calls < TIMED_CALLS && spent < 0.5) {
    status = load_state(o, in, m);
    if (!status) status = forward(in, m, &seconds[calls]);
    if (!status) spent += seconds[calls++];
  }
  if (status) return status;
  qsort(seconds, (size_t)calls, sizeof seconds[0], compare_doubles);
  m->seconds = seconds[calls / 2];
  return status;
}

static int read_memory(module *m, clnorm_memory memory, int64_t count, float **values) {
  const size_t size = (size_t)count * sizeof(float);
  *values = malloc(size + 1);
  if (!*values) {
    clnorm_complain("no memory for %zu bytes", size);
    return CLNORM_EXIT_DEVICE;
  }
  if (size == 0) return CLNORM_EXIT_GOOD;
  return check(m, clnorm_memory_read(m->target.context, memory, *values, size), "reading back");
}

static int read_outputs(const options *o, const inputs *in, module *m) {
  const int64_t channels = in->x.dims[1];
  const bool written = in->x.count > 0; /* an empty tensor has no statistics either */
  const clnorm_memory running_mean = clnorm_batchnorm2d_memory(m->bn, CLNORM_RUNNING_MEAN);
  const clnorm_memory running_var = clnorm_batchnorm2d_memory(m->bn, CLNORM_RUNNING_VAR);
  float **outputs = m->outputs;
  int status = read_memory(m, m->y, in->x.count, &outputs[CLNORM_OUTPUT_Y]);
  if (!status && o->track)
    status = read_memory(m, running_mean, channels, &outputs[CLNORM_OUTPUT_RUNNING_MEAN]);
  if (!status && o->track)
    status = read_memory(m, running_var, channels, &outputs[CLNORM_OUTPUT_RUNNING_VAR]);
  if (!status && written && m->saved_mean.size)
    status = read_memory(m, m->saved_mean, channels, &outputs[CLNORM_OUTPUT_SAVED_MEAN]);
  if (!status && written && m->saved_invstd.size)
    status = read_memory(m, m->saved_invstd, channels, &outputs[CLNORM_OUTPUT_SAVED_INVSTD]);
  return status;
}

/* m->target is open. */
static int run_module(const options *o, const inputs *in, module *m) {
  int status = clnorm_target_check(&m->target, o->dtype, o->layout);
  if (!status) status = create_module(o, in, m);
  if (!status) status = allocate(o, in, m);
  if (!status) status = run_timed(o, in, m);
  if (!status) status = read_outputs(o, in, m);
  return status;
}

static void close_module(module *m) {
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) free(m->outputs[i]);
  if (m->target.context) {
    clnorm_memory_free(m->target.context, &m->x);
    clnorm_memory_free(m->target.context, &m->y);
    clnorm_memory_free(m->target.context, &m->saved_mean);
    clnorm_memory_free(m->target.context, &m->saved_invstd);
  }
  clnorm_batchnorm2d_destroy(m->bn);
  clnorm_target_close(&m->target);
}

/* ---- Verifying ------------------------------------------------------------------------------- */

/* What one output is found to be. */
typedef struct judgement {
  bool there;
  clnorm_difference difference; /* of elements inside the promise */
  clnorm_outside outside;
  double ratio;
} judgement;

/* The operator's call that the module makes in this state. initial are running statistics where
 * none were given: zeros, then ones. */
static clnorm_problem describe_problem(const options *o, const inputs *in, const float *initial) {
  const int64_t *dims = in->x.dims;
  const bool running = o->freeze || (o->mode == MODE_EVAL && o->track);
  clnorm_problem problem = {.desc = clnorm_forward_desc_defaults(
                                running ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS,
                                dims[0], dims[1], dims[2] * dims[3]),
                            .momentum = o->momentum,
                            .x = in->x.values,
                            .weight = in->parameters[CLNORM_WEIGHT].values,
                            .bias = in->parameters[CLNORM_BIAS].values};
  memcpy(problem.dims, dims, sizeof problem.dims);
  problem.desc.eps = o->eps;
  problem.desc.biased_running_var = o->biased;
  if (o->convention == CLNORM_MOMENTUM_NEW) problem.momentum = 1 - o->momentum;
  if (o->convention == CLNORM_MOMENTUM_CUMULATIVE)
    problem.momentum = 1 - 1 / ((double)o->num_batches_tracked + 1);
  if (!o->track) return problem;
  const float *mean = in->parameters[CLNORM_RUNNING_MEAN].values;
  const float *var = in->parameters[CLNORM_RUNNING_VAR].values;
  problem.running_mean = mean ? mean : initial;
  problem.running_var = var ? var : initial + dims[1];
  return problem;
}

/* Elements outside the promise are counted apart, in a copy of what the device gave. */
static bool judge_output(const clnorm_problem *problem, const clnorm_reference *reference,
                         const clnorm_promise *promise, clnorm_output output, const float *expected,
                         const float *given, judgement *j) {
  int64_t dims[4];
  const size_t size = (size_t)clnorm_problem_output_count(problem, output) * sizeof(float);
  clnorm_problem_output_dims(problem, output, dims);
  j->there = given && expected && size > 0;
  if (!j->there) return true;
  float *copy = promise ? malloc(size) : NULL;
  if (promise && !copy) return false;
  if (copy) memcpy(copy, given, size);
  const float *values = copy ? copy : given;
  clnorm_separate_output(promise, output, expected, copy, &j->outside);
  clnorm_compare(dims, expected, values, &j->difference);
  j->ratio = clnorm_reference_check(reference, output, values, NULL);
  free(copy);
  return true;
}

/* Adds judgements up into `found`; a failure if there is one. */
static void add_up(const options *o, const inputs *in, const module *m, const judgement *judgements,
                   clnorm_verification *found) {
  clnorm_failure failure = {.mode = o->mode == MODE_TRAIN ? "train" : "eval",
                            .against = found->baseline};
  snprintf(failure.device, sizeof failure.device, "%s", m->target.label);
  memcpy(failure.dims, in->x.dims, sizeof failure.dims);
  snprintf(failure.options, sizeof failure.options, "%.256s eps=%.9g momentum=%.9g", in->path,
           o->eps, o->momentum);
  clnorm_outside outside = {0, 0};
  found->totals.cases = 1;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    const judgement *j = &judgements[i];
    if (!j->there) continue;
    clnorm_add_difference(&found->totals, found->histogram, &failure, (clnorm_output)i,
                          &j->difference);
    outside.elements += j->outside.elements;
    outside.differing += j->outside.differing;
    if (j->ratio > found->totals.worst_bound_ratio) found->totals.worst_bound_ratio = j->ratio;
    if (j->ratio > 1 && !failure.first[0])
      snprintf(failure.first, sizeof failure.first, "%s: error %.3g times its bound",
               clnorm_output_name((clnorm_output)i), j->ratio);
  }
  clnorm_add_outside(&found->totals, outside);
  if (failure.first[0]) clnorm_add_failure(found, &failure);
}

/* Runs the same module on the baseline and judges m's outputs. */
static int verify(const options *o, const inputs *in, const module *m, module *baseline,
                  judgement *judgements, clnorm_verification *found) {
  int status = clnorm_target_open_baseline(&m->target, o->target.threads, &baseline->target);
  if (!status) status = run_module(o, in, baseline);
  if (status) return status;
  found->baseline = baseline->target.label;
  const size_t channels = (size_t)in->x.dims[1];
  float *initial = calloc(2 * channels + 1, sizeof *initial);
  for (size_t c = 0; initial && c < channels; c++) initial[channels + c] = 1;
  const clnorm_problem problem = describe_problem(o, in, initial);
  clnorm_reference *reference = initial ? clnorm_reference_create(&problem) : NULL;
  const bool kept = clnorm_context_device(m->target.context)->denormals &&
                    clnorm_context_device(baseline->target.context)->denormals;
  clnorm_promise *promise = initial && !kept ? clnorm_promise_create(&problem) : NULL;
  bool good = reference && (kept || promise);
  for (int i = 0; i < CLNORM_NUM_OUTPUTS && good; i++)
    good = judge_output(&problem, reference, promise, (clnorm_output)i, baseline->outputs[i],
                        m->outputs[i], &judgements[i]);
  if (good) {
    add_up(o, in, m, judgements, found);
  } else {
    clnorm_complain("no host memory for the reference");
    status = CLNORM_EXIT_DEVICE;
  }
  clnorm_promise_destroy(promise);
  clnorm_reference_destroy(reference);
  free(initial);
  return status;
}

/* ---- Writing --------------------------------------------------------------------------------- */

#define MAX_OUTPUTS CLNORM_NUM_OUTPUTS

/* The files to write, each with its part of the results. */
typedef struct outputs {
  clnorm_output_file files[MAX_OUTPUTS];
  clnorm_output results[MAX_OUTPUTS];
  clnorm_npy arrays[MAX_OUTPUTS]; /* values belong to the module */
  size_t count;
} outputs;

static void list_outputs(const options *o, outputs *out) {
  const struct {
    const char *option, *path, *updates;
    clnorm_output result;
  } all[MAX_OUTPUTS] = {{"--output", o->output, NULL, CLNORM_OUTPUT_Y},
                        {"--save-running-mean", o->save_running_mean,
                         o->parameters[CLNORM_RUNNING_MEAN], CLNORM_OUTPUT_RUNNING_MEAN},
                        {"--save-running-var", o->save_running_var,
                         o->parameters[CLNORM_RUNNING_VAR], CLNORM_OUTPUT_RUNNING_VAR},
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
static int check_outputs(const options *o, const char *path, outputs *out) {
  clnorm_input_file read[5] = {{"input", path}};
  int from_standard_input = strcmp(path, CLNORM_STANDARD_STREAM) == 0;
  for (int p = 0; p < 4; p++) {
    read[1 + p].option = parameter_options[p];
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
  return clnorm_outputs_check(out->files, out->count, read, 5);
}

/* An empty tensor has no statistics; what it does to running ones is nothing. */
static int check_results(const options *o, const inputs *in) {
  if (in->x.count > 0 || !(o->save_mean || o->save_invstd)) return CLNORM_EXIT_GOOD;
  clnorm_complain("%s: %s is empty, and has no statistics to save",
                  o->save_mean ? "--save-mean" : "--save-invstd", in->path);
  return CLNORM_EXIT_USAGE;
}

static int write_outputs(const inputs *in, const module *m, outputs *out) {
  for (size_t i = 0; i < out->count; i++) {
    const bool tensor = out->results[i] == CLNORM_OUTPUT_Y;
    clnorm_npy *array = &out->arrays[i];
    array->type = CLNORM_NPY_F32;
    array->ndim = tensor ? 4 : 1;
    memcpy(array->dims, in->x.dims + (tensor ? 0 : 1), (size_t)array->ndim * sizeof *array->dims);
    array->count = tensor ? in->x.count : in->x.dims[1];
    array->values = m->outputs[out->results[i]];
    out->files[i].size = clnorm_npy_size(array);
  }
  return clnorm_outputs_write(out->files, out->count);
}

/* ---- Reporting ------------------------------------------------------------------------------- */

static void print_json(const options *o, const inputs *in, const module *m,
                       const clnorm_verification *found) {
  clnorm_json json = {stdout, false};
  clnorm_json_object(&json, NULL);
  clnorm_json_text(&json, "device", m->target.label);
  clnorm_json_array(&json, "shape");
  for (int i = 0; i < 4; i++) clnorm_json_integer(&json, NULL, in->x.dims[i]);
  clnorm_json_end_array(&json);
  clnorm_json_text(&json, "mode", o->mode == MODE_TRAIN ? "train" : "eval");
  clnorm_json_number(&json, "seconds", m->seconds);
  clnorm_json_text(&json, "output", o->output);
  if (o->verify) clnorm_verification_json(&json, found);
  clnorm_json_end_object(&json);
  putchar('\n');
}

static void print_summary(const options *o, const inputs *in, const module *m) {
  const int64_t *d = in->x.dims;
  const double bytes = 2.0 * (double)in->x.count * sizeof(float);
  printf("device  %s\n", m->target.label);
  printf("shape   %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 "\n", d[0], d[1], d[2], d[3]);
  printf("mode    %s%s\n", o->mode == MODE_TRAIN ? "train" : "eval", o->freeze ? ", frozen" : "");
  printf("time    %s, %s GB/s counting x and y once; first call %s\n",
         clnorm_time_text(m->seconds).text,
         clnorm_number_text(m->seconds > 0 ? 1e-9 * bytes / m->seconds : 0.0).text,
         clnorm_time_text(m->first_call).text);
  printf("output  %s\n", o->output ? clnorm_output_path(o->output) : "not kept; -o FILE keeps it");
}

static void print_judgements(const module *m, const module *baseline, const judgement *judgements,
                             const clnorm_verification *found) {
  printf("\n%s\nis compared with %s\n", m->target.label, baseline->target.label);
  printf("%-12s %10s %10s %8s %12s  %s\n", "output", "elements", "differing", "max ulp",
         "error/bound", "first difference (n,c,h,w)");
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    const clnorm_difference *d = &judgements[i].difference;
    if (!judgements[i].there) continue;
    printf("%-12s %10" PRId64 " %10" PRId64 " %8" PRIu32 " %12.3g  ",
           clnorm_output_name((clnorm_output)i), d->elements, d->differing_elements, d->max_ulp,
           judgements[i].ratio);
    if (d->differing_elements == 0)
      printf("none, the same bits\n");
    else
      printf("%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "\n", d->first[0], d->first[1],
             d->first[2], d->first[3]);
  }
  clnorm_verification_print_failures(found);
  clnorm_verification_print_verdict(found);
}

/* ---- The command ----------------------------------------------------------------------------- */

static int run(const options *o, const char *path) {
  inputs in = {0};
  outputs out = {0};
  module m = {0}, baseline = {0};
  judgement judgements[CLNORM_NUM_OUTPUTS] = {0};
  const char *devices[1] = {m.target.label};
  clnorm_verification found = {.num_devices = 1, .devices = devices};
  int status = check_outputs(o, path, &out);
  if (!status) status = read_inputs(o, path, &in);
  if (!status) status = check_results(o, &in);
  if (!status) status = clnorm_target_open(&o->target, &m.target);
  if (!status) status = run_module(o, &in, &m);
  if (!status && o->verify) status = verify(o, &in, &m, &baseline, judgements, &found);
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
  close_module(&baseline);
  close_module(&m);
  free_inputs(&in);
  return status;
}

static clnorm_parsed parse(int argc, char **argv, options *o, clnorm_texts *positionals) {
  const clnorm_option table[] = {
      {"-o", CLNORM_OPTION_TEXT, &o->output, NULL},
      {"--output", CLNORM_OPTION_TEXT, &o->output, NULL},
      {"--mode", CLNORM_OPTION_CHOICE, &o->mode, "eval|train"},
      {"--weight", CLNORM_OPTION_TEXT, &o->parameters[CLNORM_WEIGHT], NULL},
      {"--bias", CLNORM_OPTION_TEXT, &o->parameters[CLNORM_BIAS], NULL},
      {"--running-mean", CLNORM_OPTION_TEXT, &o->parameters[CLNORM_RUNNING_MEAN], NULL},
      {"--running-var", CLNORM_OPTION_TEXT, &o->parameters[CLNORM_RUNNING_VAR], NULL},
      {"--save-running-mean", CLNORM_OPTION_TEXT, &o->save_running_mean, NULL},
      {"--save-running-var", CLNORM_OPTION_TEXT, &o->save_running_var, NULL},
      {"--save-mean", CLNORM_OPTION_TEXT, &o->save_mean, NULL},
      {"--save-invstd", CLNORM_OPTION_TEXT, &o->save_invstd, NULL},
      {"--eps", CLNORM_OPTION_NUMBER, &o->eps, NULL},
      {"--momentum", CLNORM_OPTION_NUMBER, &o->momentum, NULL},
      {"--momentum-convention", CLNORM_OPTION_CHOICE, &o->convention, "kept|new|cumulative"},
      {"--num-batches-tracked", CLNORM_OPTION_COUNT, &o->num_batches_tracked, NULL},
      {"--biased-running-var", CLNORM_OPTION_SET, &o->biased, NULL},
      {"--no-affine", CLNORM_OPTION_CLEAR, &o->affine, NULL},
      {"--no-track", CLNORM_OPTION_CLEAR, &o->track, NULL},
      {"--freeze", CLNORM_OPTION_SET, &o->freeze, NULL},
      {"--refuse-one-value", CLNORM_OPTION_SET, &o->refuse_one_value, NULL},
      {"--dtype", CLNORM_OPTION_CHOICE, &o->dtype, CLNORM_DTYPE_CHOICES},
      {"--layout", CLNORM_OPTION_CHOICE, &o->layout, CLNORM_LAYOUT_CHOICES},
      {"--device", CLNORM_OPTION_TEXT, &o->target.device, NULL},
      {"--form", CLNORM_OPTION_CHOICE, &o->target.form, CLNORM_FORM_CHOICES},
      {"--threads", CLNORM_OPTION_COUNT, &o->target.threads, NULL},
      {"--verify", CLNORM_OPTION_SET, &o->verify, NULL},
      {"--json", CLNORM_OPTION_SET, &o->json, NULL},
      {NULL, CLNORM_OPTION_SET, NULL, NULL}};
  return clnorm_arguments_parse(argc, argv, table, positionals);
}

int clnorm_command_run(int argc, char **argv) {
  const clnorm_batchnorm2d_options module_defaults = clnorm_batchnorm2d_options_defaults(1);
  options o = {.eps = module_defaults.eps,
               .momentum = module_defaults.momentum,
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
