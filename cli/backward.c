#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "backward.h"
#include "commands.h"
#include "measure.h"
#include "messages.h"
#include "outputs.h"
#include "place.h"
#include "run.h"
#include "text.h"

static const char help[] =
    "clnorm backward X.npy DY.npy [--dx F] [--dweight F] [--dbias F] [options]\n"
    "\n"
    "The gradients of one batch normalization of X, where DY, of the same shape, is the\n"
    "gradient of its output. Without a file for one of them all are computed, and only a\n"
    "summary is printed. One of the arrays may be -, which is standard input or output.\n"
    "\n"
    "  --dx FILE                  the gradient of X\n"
    "  --dweight FILE             the gradients of weight and bias, (C,)\n"
    "  --dbias FILE\n"
    "  --mode eval|train          of the forward pass: with the running statistics, which are\n"
    "                             constants (default), or with those of X, through which\n"
    "                             gradients pass\n"
    "  --weight FILE              (C,) or (1,C,1,1), as for clnorm run; default 1\n"
    "  --running-mean FILE        default 0\n"
    "  --running-var FILE         default 1\n"
    "  --eps E                    default 1e-5\n"
    "  --no-affine  --no-track  --freeze\n"
    "                             BatchNorm2d's affine, track_running_stats, freeze; without\n"
    "                             affine, and frozen, there is dx alone\n"
    "  --refuse-one-value         training with one value per channel is an error\n"
    "  --dtype f32|f16|bf16|f64   the type of dx; default that of X. With bf16, files of two\n"
    "                             byte integers (u2) or voids (V2) are read as bfloat16\n"
    "  --layout nchw|nhwc         of X, DY and dx, as for clnorm run\n"
    "  --per-activation           statistics of every place of a sample over N alone\n"
    "  --device D                 auto (default), cpu, gpu, an id or part of a name\n"
    "  --form auto|vector|wide    kernel form, OpenCL\n"
    "  --threads T                CPU path; default all\n"
    "  --verify                   compare with the CPU path bit by bit, and with long double\n"
    "                             formulas\n"
    "  --json                     one JSON object: device, shape, dtype, layout, mode, seconds,\n"
    "                             output, and with --verify the keys of clnorm verify,\n"
    "                             less failed\n"
    "\n"
    "example: clnorm backward x.npy dy.npy --dx dx.npy --dweight dw.npy --mode train --verify\n";

enum { DX, DWEIGHT, DBIAS, NUM_GRADIENTS };
static const struct {
  const char *option;
  int32_t role;
  uint32_t bit;
} gradients[NUM_GRADIENTS] = {{"--dx", CLNORM_DX, CLNORM_GRADIENT_DX},
                              {"--dweight", CLNORM_DWEIGHT, CLNORM_GRADIENT_DWEIGHT},
                              {"--dbias", CLNORM_DBIAS, CLNORM_GRADIENT_DBIAS}};

typedef struct request {
  clnorm_run_request run;
  const char *paths[NUM_GRADIENTS];
} request;

typedef struct inputs {
  clnorm_run_inputs run; /* y_tensor is dx's */
  clnorm_npy dy;
  clnorm_tensor dy_tensor;
  clnorm_problem problem;
  /* running statistics where no file has them */
  void *zeros, *ones;
} inputs;

/* One plan on one device, and what it gave. */
typedef struct work {
  clnorm_target target;
  clnorm_plan *plan;
  clnorm_binding bindings[8]; /* inputs in host memory, then in the context's */
  size_t num_inputs;
  clnorm_memory memory[8];
  clnorm_memory results[NUM_GRADIENTS];
  void *values[NUM_GRADIENTS]; /* NULL: not wanted */
  double first_call, seconds;
} work;

static int check(const work *w, clnorm_status status, const char *what) {
  if (status) clnorm_complain("%s: %s", what, clnorm_last_error(w->target.context));
  return clnorm_exit_status(status);
}

static bool has_parameters(const request *o) { return o->run.affine && !o->run.freeze; }

static bool is_wanted(const inputs *in, int gradient) {
  return in->problem.gradients & gradients[gradient].bit;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static int read_dy(const request *o, const char *path, inputs *in) {
  char shape[512], wanted[512];
  const clnorm_npy *x = &in->run.x;
  const int status = clnorm_run_read_tensor(&o->run, path, &in->dy);
  if (status) return status;
  in->dy_tensor = in->run.x_tensor;
  in->dy_tensor.dtype = clnorm_run_dtype(in->dy.type);
  if (in->dy.ndim == x->ndim &&
      memcmp(in->dy.dims, x->dims, (size_t)x->ndim * sizeof *x->dims) == 0)
    return CLNORM_EXIT_GOOD;
  clnorm_run_print_dims(&in->dy, shape, sizeof shape);
  clnorm_run_print_dims(x, wanted, sizeof wanted);
  clnorm_complain("%s: shape is %s, but %s has %s", clnorm_input_path(path), shape, in->run.path,
                  wanted);
  return CLNORM_EXIT_USAGE;
}

static void describe(const request *o, inputs *in) {
  const bool given = o->run.freeze || (o->run.mode == CLNORM_RUN_EVAL && o->run.track);
  clnorm_problem *p = &in->problem;
  clnorm_problem_init(p, sizeof *p);
  p->operation = CLNORM_BACKWARD;
  p->statistics = given ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS;
  p->recompute = !given;
  p->eps = o->run.eps;
  p->refuse_one_value = o->run.refuse_one_value;
  for (int i = 0; i < NUM_GRADIENTS; i++)
    if (o->paths[i]) p->gradients |= gradients[i].bit;
  if (!p->gradients)
    for (int i = DX; i < (has_parameters(o) ? NUM_GRADIENTS : DWEIGHT); i++)
      p->gradients |= gradients[i].bit;
  p->tensors[CLNORM_X] = in->run.x_tensor;
  p->tensors[CLNORM_DY] = in->dy_tensor;
  if (is_wanted(in, DX)) p->tensors[CLNORM_DX] = in->run.y_tensor;
}

/* (C,) of one value, in the real type. NULL: no memory. */
static void *repeated(const inputs *in, double value) {
  const size_t channels = (size_t)clnorm_run_channels(&in->run);
  double *values = malloc(channels * sizeof *values + 1);
  for (size_t c = 0; values && c < channels; c++)
    if (in->run.real == CLNORM_F64)
      values[c] = value;
    else
      ((float *)values)[c] = (float)value;
  return values;
}

static int read_all(const request *o, const char *x, const char *dy, inputs *in) {
  int status = clnorm_run_read(&o->run, x, &in->run);
  if (!status) status = read_dy(o, dy, in);
  if (status) return status;
  describe(o, in);
  in->zeros = repeated(in, 0);
  in->ones = repeated(in, 1);
  if (in->zeros && in->ones) return CLNORM_EXIT_GOOD;
  clnorm_complain("no memory for running statistics");
  return CLNORM_EXIT_DEVICE;
}

static void free_inputs(inputs *in) {
  clnorm_run_inputs_free(&in->run);
  clnorm_npy_free(&in->dy);
  free(in->zeros);
  free(in->ones);
}

static const void *parameter(const inputs *in, int32_t role, const void *otherwise) {
  const clnorm_npy *array = &in->run.parameters[CLNORM_RUN_PARAMETER(role)];
  return array->values ? array->values : otherwise;
}

/* ---- Running --------------------------------------------------------------------------------- */

static void bind_host(work *w, int32_t role, const void *values, size_t bytes) {
  if (values && bytes)
    w->bindings[w->num_inputs++] = clnorm_bind(role, clnorm_host_memory(values, bytes));
}

/* What the problem reads, in host memory. */
static void bind_inputs(const request *o, const inputs *in, work *w) {
  const size_t reals = (size_t)clnorm_run_channels(&in->run) * clnorm_dtype_size(in->run.real);
  const bool given = in->problem.statistics == CLNORM_GIVEN_STATISTICS;
  bind_host(w, CLNORM_X, in->run.x.values, (size_t)clnorm_tensor_bytes(&in->run.x_tensor));
  bind_host(w, CLNORM_DY, in->dy.values, (size_t)clnorm_tensor_bytes(&in->dy_tensor));
  if (o->run.affine) bind_host(w, CLNORM_WEIGHT, parameter(in, CLNORM_WEIGHT, NULL), reals);
  if (!given) return;
  bind_host(w, CLNORM_RUNNING_MEAN, parameter(in, CLNORM_RUNNING_MEAN, in->zeros), reals);
  bind_host(w, CLNORM_RUNNING_VAR, parameter(in, CLNORM_RUNNING_VAR, in->ones), reals);
}

static size_t result_bytes(const work *w, int gradient) {
  clnorm_operand operand;
  clnorm_operand_init(&operand, sizeof operand);
  clnorm_plan_operand(w->plan, gradients[gradient].role, &operand);
  return (size_t)operand.bytes;
}

static int allocate(const inputs *in, work *w) {
  clnorm_context *context = w->target.context;
  int status = CLNORM_EXIT_GOOD;
  for (size_t i = 0; i < w->num_inputs && !status; i++) {
    const clnorm_memory from = w->bindings[i].memory;
    status = check(w, clnorm_memory_alloc(context, from.size, &w->memory[i]), in->run.path);
    if (!status)
      status =
          check(w, clnorm_memory_write(context, w->memory[i], from.host, from.size), in->run.path);
  }
  for (int i = 0; i < NUM_GRADIENTS && !status; i++)
    if (is_wanted(in, i))
      status =
          check(w, clnorm_memory_alloc(context, result_bytes(w, i), &w->results[i]), in->run.path);
  return status;
}

static int run_once(const inputs *in, work *w, double *seconds) {
  clnorm_binding bindings[8 + NUM_GRADIENTS];
  size_t count = 0;
  for (; count < w->num_inputs; count++)
    bindings[count] = clnorm_bind(w->bindings[count].role, w->memory[count]);
  for (int i = 0; i < NUM_GRADIENTS; i++)
    if (is_wanted(in, i)) bindings[count++] = clnorm_bind(gradients[i].role, w->results[i]);
  const double start = clnorm_now();
  int status = check(w, clnorm_run(w->plan, bindings, count, NULL), in->run.path);
  if (!status) status = check(w, clnorm_finish(w->target.context), in->run.path);
  *seconds = clnorm_now() - start;
  return status;
}

static int read_results(const inputs *in, work *w) {
  int status = CLNORM_EXIT_GOOD;
  for (int i = 0; i < NUM_GRADIENTS && !status; i++) {
    if (!is_wanted(in, i)) continue;
    const size_t bytes = result_bytes(w, i);
    w->values[i] = malloc(bytes + 1);
    if (!w->values[i]) {
      clnorm_complain("no memory for %zu bytes", bytes);
      return CLNORM_EXIT_DEVICE;
    }
    if (bytes)
      status = check(w, clnorm_memory_read(w->target.context, w->results[i], w->values[i], bytes),
                     "reading back");
  }
  return status;
}

enum { TIMED_CALLS = 5 };

static int run_all(const request *o, const inputs *in, work *w) {
  double seconds[TIMED_CALLS], spent = 0;
  int calls = 0;
  int status = clnorm_target_check(&w->target, in->run.x_tensor.dtype);
  if (!status)
    status = check(w, clnorm_plan_create(w->target.context, &in->problem, &w->plan), in->run.path);
  if (status) return status;
  bind_inputs(o, in, w);
  status = allocate(in, w);
  if (!status) status = run_once(in, w, &w->first_call);
  while (!status && calls < TIMED_CALLS && spent < 0.5) {
    status = run_once(in, w, &seconds[calls]);
    if (!status) spent += seconds[calls++];
  }
  if (!status) w->seconds = clnorm_median(seconds, calls);
  return status ? status : read_results(in, w);
}

static void close_work(work *w) {
  for (int i = 0; i < NUM_GRADIENTS; i++) {
    free(w->values[i]);
    if (w->target.context) clnorm_memory_free(w->target.context, &w->results[i]);
  }
  for (size_t i = 0; i < w->num_inputs && w->target.context; i++)
    clnorm_memory_free(w->target.context, &w->memory[i]);
  clnorm_plan_destroy(w->plan);
  clnorm_target_close(&w->target);
}

/* ---- Verifying ------------------------------------------------------------------------------- */

/* Values as doubles in logical order, and statistics that are given. */
typedef struct reference {
  double *x, *dy, *dx, *weight;
  long double *mean, *invstd;
  double *storage;
} reference;

static void parameter_doubles(const inputs *in, const void *values, double *doubles) {
  for (int64_t c = 0; c < clnorm_run_channels(&in->run); c++)
    doubles[c] = clnorm_npy_value(clnorm_run_npy_type(in->run.real), values, c);
}

/* False if there is no memory. */
static bool reference_make(const inputs *in, const work *w, reference *r) {
  const size_t count = (size_t)in->run.x.count, channels = (size_t)clnorm_run_channels(&in->run);
  const double eps = in->run.real == CLNORM_F64 ? in->problem.eps : (double)(float)in->problem.eps;
  r->storage = malloc((3 * count + 3 * channels) * sizeof *r->storage + 1);
  r->mean = malloc(2 * channels * sizeof *r->mean + 1);
  if (!r->storage || !r->mean) return false;
  r->x = r->storage;
  r->dy = r->x + count;
  r->dx = r->dy + count;
  r->weight = r->dx + count;
  r->invstd = r->mean + channels;
  double *mean = r->weight + channels, *var = mean + channels;
  clnorm_unplace(&in->run.x_tensor, in->run.x.values, r->x);
  clnorm_unplace(&in->dy_tensor, in->dy.values, r->dy);
  if (w->values[DX]) clnorm_unplace(&in->run.y_tensor, w->values[DX], r->dx);
  parameter_doubles(in, parameter(in, CLNORM_WEIGHT, in->ones), r->weight);
  parameter_doubles(in, parameter(in, CLNORM_RUNNING_MEAN, in->zeros), mean);
  parameter_doubles(in, parameter(in, CLNORM_RUNNING_VAR, in->ones), var);
  for (size_t c = 0; c < channels; c++) {
    r->mean[c] = mean[c];
    r->invstd[c] = 1 / sqrtl((long double)var[c] + eps);
  }
  return true;
}

static double channel_ratio(const inputs *in, const work *w, const reference *r,
                            const clnorm_gradient_case *item, int64_t c) {
  clnorm_gradient_channel k;
  const clnorm_npy_type real = clnorm_run_npy_type(in->run.real);
  double worst = 0;
  clnorm_gradient_channel_make(item, c, &k);
  if (w->values[DWEIGHT])
    worst = fmax(worst, clnorm_gradient_ratio(clnorm_npy_value(real, w->values[DWEIGHT], c),
                                              k.dweight, k.dweight_bound));
  if (w->values[DBIAS])
    worst = fmax(worst, clnorm_gradient_ratio(clnorm_npy_value(real, w->values[DBIAS], c), k.dbias,
                                              k.dbias_bound));
  for (int64_t i = 0; i < item->batch * item->spatial && w->values[DX]; i++) {
    const int64_t n = i / item->spatial;
    const int64_t at = (n * item->channels + c) * item->spatial + i - n * item->spatial;
    long double bound;
    const long double dx = clnorm_gradient_dx(&k, r->x[at], r->dy[at], &bound);
    bound += clnorm_gradient_rounding(in->run.y_tensor.dtype, in->run.real, fabsl(dx) + bound);
    worst = fmax(worst, clnorm_gradient_ratio(r->dx[at], dx, bound));
  }
  return worst;
}

/* The worst error in units of its bound; below 0: no memory. */
static double worst_ratio(const request *o, const inputs *in, const work *w) {
  reference r = {NULL, NULL, NULL, NULL, NULL, NULL, NULL};
  const bool given = in->problem.statistics == CLNORM_GIVEN_STATISTICS;
  const int64_t *dims = in->run.x_tensor.dims, channels = clnorm_run_channels(&in->run);
  double worst = -1;
  if (reference_make(in, w, &r)) {
    clnorm_gradient_case item = {.batch = dims[0], .channels = channels, .x = r.x, .dy = r.dy};
    item.spatial = dims[0] && channels ? in->run.x.count / dims[0] / channels : 0;
    item.weight = o->run.affine ? r.weight : NULL;
    item.mean = given ? r.mean : NULL;
    item.invstd = r.invstd;
    item.eps = in->run.real == CLNORM_F64 ? in->problem.eps : (double)(float)in->problem.eps;
    item.unit = in->run.real == CLNORM_F64 ? 0x1p-53L : 0x1p-24L;
    item.factor = clnorm_gradient_guarantee(item.batch, item.spatial);
    worst = 0;
    for (int64_t c = 0; c < channels && in->run.x.count; c++)
      worst = fmax(worst, channel_ratio(in, w, &r, &item, c));
  }
  free(r.storage);
  free(r.mean);
  return worst;
}

static void add_up(const request *o, const inputs *in, const work *w,
                   const clnorm_difference differences[NUM_GRADIENTS], clnorm_verification *found) {
  clnorm_failure failure = {.mode = clnorm_run_mode_name(&o->run), .against = found->baseline};
  snprintf(failure.dtype, sizeof failure.dtype, "%s", clnorm_dtype_name(in->run.y_tensor.dtype));
  snprintf(failure.layout, sizeof failure.layout, "%s", clnorm_run_layout_name(&o->run));
  snprintf(failure.device, sizeof failure.device, "%s", w->target.label);
  snprintf(failure.options, sizeof failure.options, "backward, %.256s eps=%.9g", in->run.path,
           o->run.eps);
  failure.rank = in->run.x_tensor.rank;
  memcpy(failure.dims, in->run.x_tensor.dims, sizeof failure.dims);
  found->totals.cases = 1;
  for (int i = 0; i < NUM_GRADIENTS; i++) {
    char place[CLNORM_PLACE_SIZE];
    clnorm_print_place(&differences[i], place);
    clnorm_add_named_difference(&found->totals, found->histogram, &failure,
                                clnorm_role_name(gradients[i].role), place, &differences[i]);
  }
  if (found->totals.worst_bound_ratio > 1 && !failure.first[0])
    snprintf(failure.first, sizeof failure.first, "error %.3g times its bound",
             found->totals.worst_bound_ratio);
  if (failure.first[0]) clnorm_add_failure(found, &failure);
}

static int verify(const request *o, const inputs *in, const work *w, clnorm_target *baseline,
                  clnorm_verification *found) {
  clnorm_difference differences[NUM_GRADIENTS];
  clnorm_compared outputs[NUM_GRADIENTS];
  int status = clnorm_target_open_baseline(&w->target, o->run.target.threads, baseline);
  if (status) return status;
  for (int i = 0; i < NUM_GRADIENTS; i++) {
    clnorm_difference_init(&differences[i], sizeof differences[i]);
    outputs[i] = (clnorm_compared){gradients[i].role, 0, &differences[i]};
  }
  clnorm_context *const contexts[2] = {baseline->context, w->target.context};
  const clnorm_status compared = clnorm_compare_runs(contexts, &in->problem, w->bindings,
                                                     w->num_inputs, NULL, outputs, NUM_GRADIENTS);
  if (compared) {
    clnorm_complain("%s: %s", in->run.path, clnorm_last_error(baseline->context));
    return clnorm_exit_status(compared);
  }
  found->baseline = baseline->label;
  found->totals.worst_bound_ratio = worst_ratio(o, in, w);
  if (found->totals.worst_bound_ratio < 0) {
    clnorm_complain("no host memory for the reference");
    return CLNORM_EXIT_DEVICE;
  }
  add_up(o, in, w, differences, found);
  return CLNORM_EXIT_GOOD;
}

/* ---- Writing and reporting ------------------------------------------------------------------- */

typedef struct outputs {
  clnorm_output_file files[NUM_GRADIENTS];
  int results[NUM_GRADIENTS];
  clnorm_npy arrays[NUM_GRADIENTS]; /* values belong to the work */
  size_t count;
} outputs;

static int refuse_parameters(const request *o) {
  for (int i = DWEIGHT; i < NUM_GRADIENTS; i++)
    if (o->paths[i] && !has_parameters(o)) {
      clnorm_complain("%s: there are no gradients of parameters with %s", gradients[i].option,
                      o->run.freeze ? "--freeze" : "--no-affine");
      return CLNORM_EXIT_USAGE;
    }
  return CLNORM_EXIT_GOOD;
}

/* Before anything is read or computed. */
static int check_outputs(const request *o, const char *x, const char *dy, outputs *out) {
  clnorm_input_file read[2 + CLNORM_RUN_PARAMETERS] = {{"X", x}, {"DY", dy}};
  int from_standard_input = 0;
  for (int p = 0; p < CLNORM_RUN_PARAMETERS; p++) {
    read[2 + p].option = clnorm_run_parameter_options[p];
    read[2 + p].path = o->run.parameters[p];
  }
  for (int i = 0; i < 2 + CLNORM_RUN_PARAMETERS; i++)
    from_standard_input += read[i].path && strcmp(read[i].path, CLNORM_STANDARD_STREAM) == 0;
  if (from_standard_input > 1) {
    clnorm_complain("standard input (-) is named %d times, but can be read once",
                    from_standard_input);
    return CLNORM_EXIT_USAGE;
  }
  for (int i = 0; i < NUM_GRADIENTS; i++) {
    if (!o->paths[i]) continue;
    clnorm_output_file *file = &out->files[out->count];
    file->option = gradients[i].option;
    file->path = o->paths[i];
    file->write = clnorm_npy_write;
    file->descriptor = -1;
    file->content = &out->arrays[out->count];
    out->results[out->count++] = i;
  }
  return clnorm_outputs_check(out->files, out->count, read, 2 + CLNORM_RUN_PARAMETERS);
}

static int write_outputs(const inputs *in, const work *w, outputs *out) {
  for (size_t i = 0; i < out->count; i++) {
    const bool tensor = out->results[i] == DX;
    clnorm_npy *array = &out->arrays[i];
    array->type = clnorm_run_npy_type(tensor ? in->run.y_tensor.dtype : in->run.real);
    array->ndim = tensor ? in->run.x.ndim : 1;
    array->dims[0] = clnorm_run_channels(&in->run);
    if (tensor) memcpy(array->dims, in->run.x.dims, sizeof array->dims);
    array->count = tensor ? in->run.x.count : clnorm_run_channels(&in->run);
    array->values = w->values[out->results[i]];
    out->files[i].size = clnorm_npy_size(array);
  }
  return clnorm_outputs_write(out->files, out->count);
}

static void print_json(const request *o, const inputs *in, const work *w,
                       const clnorm_verification *found) {
  clnorm_json json = {stdout, false};
  clnorm_json_object(&json, NULL);
  clnorm_json_text(&json, "device", w->target.label);
  clnorm_json_array(&json, "shape");
  for (int i = 0; i < in->run.x.ndim; i++) clnorm_json_integer(&json, NULL, in->run.x.dims[i]);
  clnorm_json_end_array(&json);
  clnorm_json_text(&json, "dtype", clnorm_dtype_name(in->run.y_tensor.dtype));
  clnorm_json_text(&json, "layout", clnorm_run_layout_name(&o->run));
  clnorm_json_text(&json, "mode", clnorm_run_mode_name(&o->run));
  clnorm_json_number(&json, "seconds", w->seconds);
  clnorm_json_text(&json, "output", o->paths[DX]);
  if (o->run.verify) clnorm_verification_json(&json, found);
  clnorm_json_end_object(&json);
  putchar('\n');
}

static void print_summary(const request *o, const inputs *in, const work *w,
                          const clnorm_target *baseline, const clnorm_verification *found) {
  printf("device  %s\nshape   ", w->target.label);
  for (int d = 0; d < in->run.x.ndim; d++) printf("%s%" PRId64, d ? "x" : "", in->run.x.dims[d]);
  printf(" %s, %s and %s to %s%s\n", clnorm_run_layout_name(&o->run),
         clnorm_dtype_name(in->run.x_tensor.dtype), clnorm_dtype_name(in->dy_tensor.dtype),
         clnorm_dtype_name(in->run.y_tensor.dtype),
         o->run.per_activation ? ", per activation" : "");
  printf("mode    %s%s\n", clnorm_run_mode_name(&o->run), o->run.freeze ? ", frozen" : "");
  printf("time    %s; first call %s\n", clnorm_time_text(w->seconds).text,
         clnorm_time_text(w->first_call).text);
  for (int i = 0; i < NUM_GRADIENTS; i++)
    if (is_wanted(in, i))
      printf("%-7s %s%s\n", clnorm_role_name(gradients[i].role),
             o->paths[i] ? clnorm_output_path(o->paths[i]) : "not kept; keep it with ",
             o->paths[i] ? "" : gradients[i].option);
  if (!o->run.verify) return;
  printf("\n%s\nis compared with %s\n", w->target.label, baseline->label);
  clnorm_verification_print_failures(found);
  clnorm_verification_print_verdict(found);
}

/* ---- The command ----------------------------------------------------------------------------- */

static int run(const request *o, const char *x, const char *dy) {
  inputs in = {.dy = {0}};
  outputs out = {.count = 0};
  work w = {.num_inputs = 0};
  clnorm_target baseline = {.context = NULL};
  const char *devices[1] = {w.target.label};
  clnorm_verification found = {.num_devices = 1, .devices = devices};
  int status = refuse_parameters(o);
  if (!status) status = check_outputs(o, x, dy, &out);
  if (!status) status = read_all(o, x, dy, &in);
  if (!status) status = clnorm_target_open(&o->run.target, &w.target);
  if (!status) status = run_all(o, &in, &w);
  if (!status && o->run.verify) status = verify(o, &in, &w, &baseline, &found);
  if (!status) status = write_outputs(&in, &w, &out);
  if (!status) {
    if (o->run.json)
      print_json(o, &in, &w, &found);
    else
      print_summary(o, &in, &w, &baseline, &found);
    if (found.num_failures > 0) status = CLNORM_EXIT_DIFFERENT;
  }
  clnorm_outputs_free(out.files, out.count);
  clnorm_verification_free(&found);
  clnorm_target_close(&baseline);
  close_work(&w);
  free_inputs(&in);
  return status;
}

static clnorm_parsed parse(int argc, char **argv, request *o, clnorm_texts *positionals) {
  const clnorm_option table[] = {{"--dx", CLNORM_OPTION_TEXT, &o->paths[DX], NULL},
                                 {"--dweight", CLNORM_OPTION_TEXT, &o->paths[DWEIGHT], NULL},
                                 {"--dbias", CLNORM_OPTION_TEXT, &o->paths[DBIAS], NULL},
                                 CLNORM_RUN_OPTIONS(&o->run)};
  return clnorm_arguments_parse(argc, argv, table, positionals);
}

int clnorm_command_backward(int argc, char **argv) {
  request o = {.run = {.eps = dense_batchnorm_options(1).eps,
                       .dtype = CLNORM_RUN_DTYPE_OF_X,
                       .affine = true,
                       .track = true,
                       .target = {.device = "auto"}}};
  clnorm_texts positionals = {0};
  const clnorm_parsed parsed = parse(argc, argv, &o, &positionals);
  if (parsed == CLNORM_PARSED_HELP) {
    fputs(help, stdout);
    return CLNORM_EXIT_GOOD;
  }
  if (parsed == CLNORM_PARSED_WRONG) return CLNORM_EXIT_USAGE;
  if (positionals.count == 2) return run(&o, positionals.items[0], positionals.items[1]);
  clnorm_complain("backward takes two input files, but got %zu: clnorm backward X.npy DY.npy; see "
                  "clnorm backward --help",
                  positionals.count);
  return CLNORM_EXIT_USAGE;
}
