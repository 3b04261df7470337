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
    "One batch normalization of a tensor of float16, float32 or float64: (N, C), (N, C, L),\n"
    "(N, C, H, W) or (N, C, D, H, W). - is standard input; with -o - the array is on standard\n"
    "output, and everything else on standard error.\n"
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
    "                             that the device flushes are counted apart. With a float64 x\n"
    "                             bits are compared, and nothing else\n"
    "  --json                     one JSON object: device, shape, dtype, layout, mode, seconds,\n"
    "                             output, and with --verify the keys of clnorm verify,\n"
    "                             less failed\n"
    "\n"
    "Files are checked before the work, and replaced only when all of them are complete.\n"
    "\n"
    "example: clnorm run x.npy -o y.npy --running-mean m.npy --running-var v.npy --verify\n"
    "         clnorm run - -o - --mode train <x.npy >y.npy\n";

enum { MODE_EVAL, MODE_TRAIN };
enum { LAYOUT_NCHW, LAYOUT_NHWC };
enum { DTYPE_OF_X = -1 };

/* Where the parameter of a role stands in arrays of them. */
#define OF(role) ((role)-CLNORM_WEIGHT)

typedef struct options {
  const char *output;
  const char *parameters[4]; /* by OF(role) */
  const char *save_running_mean, *save_running_var, *save_mean, *save_invstd;
  int mode, convention, layout;
  int dtype; /* of y; DTYPE_OF_X: as x */
  double eps, momentum;
  int64_t num_batches_tracked;
  bool affine, track, freeze, biased, refuse_one_value, per_activation, verify, json;
  clnorm_target_options target;
} options;

static const char *const parameter_options[4] = {"--weight", "--bias", "--running-mean",
                                                 "--running-var"};

/* What was read from files. */
typedef struct inputs {
  const char *path;
  clnorm_npy x;
  clnorm_npy parameters[4];         /* by OF(role), in the real type; values NULL: not given */
  clnorm_tensor x_tensor, y_tensor; /* the files' memory in logical order */
  int32_t real;                     /* the type of parameters and statistics */
} inputs;

/* One module on one context, and what it gave. */
typedef struct module {
  clnorm_target target;
  clnorm_batchnorm *bn;
  clnorm_plan *plan; /* where y is not of the type of x; NULL: the module's own */
  clnorm_memory x, y, saved_mean, saved_mean_low, saved_invstd;
  void *outputs[CLNORM_NUM_OUTPUTS]; /* NULL: not written, or not there */
  void *saved_low;                   /* saved_mean_low; NULL likewise */
  double first_call, seconds;        /* seconds: median of the calls after the first */
} module;

/* ---- Reading --------------------------------------------------------------------------------- */

static clnorm_npy_type npy_type(int32_t dtype) {
  static const clnorm_npy_type types[] = {[CLNORM_F32] = CLNORM_NPY_F32,
                                          [CLNORM_F16] = CLNORM_NPY_F16,
                                          [CLNORM_BF16] = CLNORM_NPY_BF16,
                                          [CLNORM_F64] = CLNORM_NPY_F64};
  return types[dtype];
}

static int32_t dtype_of(clnorm_npy_type type) {
  int32_t dtype = CLNORM_F32;
  while (npy_type(dtype) != type) dtype++;
  return dtype;
}

static void print_dims(const clnorm_npy *array, char *text, size_t size) {
  size_t n = (size_t)snprintf(text, size, "(");
  for (int d = 0; d < array->ndim && n < size; d++)
    n += (size_t)snprintf(text + n, size - n, "%" PRId64 "%s", array->dims[d],
                          d + 1 < array->ndim ? ","
                          : array->ndim == 1  ? ",)"
                                              : ")");
  if (array->ndim == 0) snprintf(text, size, "()");
}

static int64_t channels_of(const inputs *in) { return in->x_tensor.dims[1]; }

/* (C,) or (1,C,1,1); per activation (K,) or a sample's shape. */
static bool fits_channels(const options *o, const inputs *in, const clnorm_npy *array) {
  const int64_t channels = channels_of(in);
  if (array->ndim == 1) return array->dims[0] == channels;
  if (o->per_activation)
    return array->ndim == in->x.ndim - 1 &&
           memcmp(array->dims, in->x.dims + 1, (size_t)array->ndim * sizeof *array->dims) == 0;
  return array->ndim == 4 && array->dims[0] == 1 && array->dims[1] == channels &&
         array->dims[2] == 1 && array->dims[3] == 1;
}

static bool read_parameter(const options *o, int p, inputs *in) {
  const char *option = parameter_options[p], *path = clnorm_input_path(o->parameters[p]);
  const int64_t channels = channels_of(in);
  clnorm_npy *array = &in->parameters[p];
  clnorm_message message;
  if (!clnorm_npy_read(o->parameters[p], CLNORM_NPY_F32 | CLNORM_NPY_F64, array, &message) ||
      !clnorm_npy_convert(array, npy_type(in->real), &message)) {
    clnorm_complain("%s %s: %s", option, path, message.text);
    return false;
  }
  if (fits_channels(o, in, array)) return true;
  char shape[512];
  print_dims(array, shape, sizeof shape);
  if (o->per_activation)
    clnorm_complain("%s %s: shape is %s, but must be (%" PRId64 ",) or that of a sample of %" PRId64
                    " values",
                    option, path, shape, channels, channels);
  else
    clnorm_complain("%s %s: shape is %s, but must be (%" PRId64 ",) or (1,%" PRId64
                    ",1,1) for an input of %" PRId64 " channels",
                    option, path, shape, channels, channels, channels);
  return false;
}

/* The memory of x as a tensor of the library; nothing is moved. False: the sizes overflow. */
static bool describe_x(const options *o, inputs *in) {
  const clnorm_npy *x = &in->x;
  int64_t dims[CLNORM_MAX_RANK] = {x->dims[0], 1};
  int rank = x->ndim;
  if (o->per_activation) {
    for (int d = 1; d < rank; d++)
      if (__builtin_mul_overflow(dims[1], x->dims[d], &dims[1])) return false;
    rank = 2;
  } else {
    for (int d = 1; d < rank; d++)
      dims[o->layout == LAYOUT_NCHW ? d : d + 1 < rank ? d + 1 : 1] = x->dims[d];
  }
  if (o->layout == LAYOUT_NHWC && !o->per_activation)
    clnorm_tensor_nhwc(&in->x_tensor, dtype_of(x->type), rank, dims);
  else
    clnorm_tensor_nchw(&in->x_tensor, dtype_of(x->type), rank, dims);
  in->y_tensor = in->x_tensor;
  if (o->dtype != DTYPE_OF_X) in->y_tensor.dtype = o->dtype;
  in->real = x->type == CLNORM_NPY_F64 ? CLNORM_F64 : CLNORM_F32;
  return true;
}

static int read_inputs(const options *o, const char *path, inputs *in) {
  const unsigned halves =
      CLNORM_NPY_F16 | (o->dtype == CLNORM_BF16 ? (unsigned)CLNORM_NPY_BF16 : 0u);
  clnorm_message message;
  char shape[512];
  in->path = clnorm_input_path(path);
  if (!clnorm_npy_read(path, halves | CLNORM_NPY_F32 | CLNORM_NPY_F64, &in->x, &message)) {
    clnorm_complain("%s: %s", in->path, message.text);
    return CLNORM_EXIT_USAGE;
  }
  print_dims(&in->x, shape, sizeof shape);
  if (in->x.ndim < 2 || in->x.ndim > CLNORM_MAX_RANK) {
    clnorm_complain("%s: expected 2D to 5D input (got %dD input): shape is %s", in->path,
                    in->x.ndim, shape);
    return CLNORM_EXIT_USAGE;
  }
  if (!describe_x(o, in)) {
    clnorm_complain("%s: a sample of shape %s has more values than 63 bits count", in->path, shape);
    return CLNORM_EXIT_USAGE;
  }
  for (int p = 0; p < 4; p++)
    if (o->parameters[p] && !read_parameter(o, p, in)) return CLNORM_EXIT_USAGE;
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
  clnorm_batchnorm_options bn = dense_batchnorm_options(channels_of(in));
  bn.spatial_rank = 0;
  bn.dtype = in->real;
  bn.eps = o->eps;
  bn.momentum = o->momentum;
  bn.momentum_convention = (clnorm_momentum)o->convention;
  bn.affine = o->affine;
  bn.track_running_stats = o->track;
  bn.freeze = o->freeze;
  bn.biased_running_var = o->biased;
  bn.refuse_one_value = o->refuse_one_value;
  int status = check(m, clnorm_batchnorm_create(m->target.context, &bn, &m->bn), "BatchNorm2d");
  if (status) return status;
  clnorm_batchnorm_set_training(m->bn, o->mode == MODE_TRAIN);
  if (in->y_tensor.dtype == in->x_tensor.dtype) return CLNORM_EXIT_GOOD;
  clnorm_problem problem;
  clnorm_problem_init(&problem, sizeof problem);
  status = check(m, clnorm_batchnorm_problem(m->bn, &in->x_tensor, &problem), in->path);
  problem.tensors[CLNORM_Y] = in->y_tensor;
  if (!status)
    status = check(m, clnorm_plan_create(m->target.context, &problem, &m->plan), in->path);
  return status;
}

/* Puts the module into the state that the user described; also between timed calls. */
static int load_state(const options *o, const inputs *in, module *m) {
  int status = check(m, clnorm_batchnorm_reset_parameters(m->bn), "BatchNorm2d");
  for (int p = 0; p < 4 && !status; p++)
    if (in->parameters[p].values)
      status =
          check(m,
                clnorm_batchnorm_set(m->bn, CLNORM_WEIGHT + p, in->real, in->parameters[p].values,
                                     (size_t)in->parameters[p].count),
                parameter_options[p]);
  if (status || !o->track) return status;
  return check(m, clnorm_batchnorm_set_num_batches_tracked(m->bn, o->num_batches_tracked),
               "--num-batches-tracked");
}

static int allocate(const options *o, const inputs *in, module *m) {
  clnorm_context *context = m->target.context;
  const size_t x_bytes = (size_t)in->x.count * clnorm_dtype_size(in->x_tensor.dtype);
  const size_t y_bytes = (size_t)in->x.count * clnorm_dtype_size(in->y_tensor.dtype);
  const size_t vector = (size_t)channels_of(in) * clnorm_dtype_size(in->real);
  int status = check(m, clnorm_memory_alloc(context, x_bytes, &m->x), in->path);
  if (!status) status = check(m, clnorm_memory_alloc(context, y_bytes, &m->y), in->path);
  if (!status && (o->verify || o->save_mean))
    status = check(m, clnorm_memory_alloc(context, vector, &m->saved_mean), in->path);
  if (!status && o->verify)
    status = check(m, clnorm_memory_alloc(context, vector, &m->saved_mean_low), in->path);
  if (!status && (o->verify || o->save_invstd))
    status = check(m, clnorm_memory_alloc(context, vector, &m->saved_invstd), in->path);
  if (status || x_bytes == 0) return status;
  return check(m, clnorm_memory_write(context, m->x, in->x.values, x_bytes), in->path);
}

/* The kept fraction of the running statistics in this run. */
static double kept_fraction(const options *o) {
  if (o->convention == CLNORM_MOMENTUM_NEW) return 1 - o->momentum;
  if (o->convention == CLNORM_MOMENTUM_CUMULATIVE)
    return 1 - 1 / ((double)o->num_batches_tracked + 1);
  return o->momentum;
}

/* The module's step where y has a type of its own: its problem on its memory. */
static clnorm_status run_plan(const options *o, module *m, clnorm_binding bindings[9],
                              size_t count) {
  for (int32_t role = CLNORM_WEIGHT; role <= CLNORM_RUNNING_VAR; role++)
    bindings[count++] = clnorm_bind(role, clnorm_batchnorm_memory(m->bn, role));
  clnorm_run_options run_options;
  clnorm_run_options_init(&run_options, sizeof run_options);
  run_options.momentum = kept_fraction(o);
  return clnorm_run(m->plan, bindings, count, &run_options);
}

static int forward(const options *o, const inputs *in, module *m, double *seconds) {
  clnorm_binding bindings[9] = {clnorm_bind(CLNORM_X, m->x), clnorm_bind(CLNORM_Y, m->y),
                                clnorm_bind(CLNORM_SAVED_MEAN, m->saved_mean),
                                clnorm_bind(CLNORM_SAVED_MEAN_LOW, m->saved_mean_low),
                                clnorm_bind(CLNORM_SAVED_INVSTD, m->saved_invstd)};
  const double start = clnorm_now();
  int status = check(m,
                     m->plan ? run_plan(o, m, bindings, 5)
                             : clnorm_batchnorm_forward(m->bn, &in->x_tensor, bindings, 5, NULL),
                     in->path);
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
  if (!status) status = forward(o, in, m, &m->first_call);
  while (!status && calls < TIMED_CALLS && spent < 0.5) {
    status = load_state(o, in, m);
    if (!status) status = forward(o, in, m, &seconds[calls]);
    if (!status) spent += seconds[calls++];
  }
  if (status) return status;
  qsort(seconds, (size_t)calls, sizeof seconds[0], compare_doubles);
  m->seconds = seconds[calls / 2];
  return status;
}

static int read_memory(module *m, clnorm_memory memory, size_t size, void **values) {
  *values = malloc(size + 1);
  if (!*values) {
    clnorm_complain("no memory for %zu bytes", size);
    return CLNORM_EXIT_DEVICE;
  }
  if (size == 0) return CLNORM_EXIT_GOOD;
  return check(m, clnorm_memory_read(m->target.context, memory, *values, size), "reading back");
}

static int read_outputs(const options *o, const inputs *in, module *m) {
  const size_t vector = (size_t)channels_of(in) * clnorm_dtype_size(in->real);
  const bool written = in->x.count > 0; /* an empty tensor has no statistics either */
  const clnorm_memory absent = {0};
  const struct {
    clnorm_memory memory;
    void **values;
  } vectors[] = {{o->track ? clnorm_batchnorm_memory(m->bn, CLNORM_RUNNING_MEAN) : absent,
                  &m->outputs[CLNORM_OUTPUT_RUNNING_MEAN]},
                 {o->track ? clnorm_batchnorm_memory(m->bn, CLNORM_RUNNING_VAR) : absent,
                  &m->outputs[CLNORM_OUTPUT_RUNNING_VAR]},
                 {written ? m->saved_mean : absent, &m->outputs[CLNORM_OUTPUT_SAVED_MEAN]},
                 {written ? m->saved_mean_low : absent, &m->saved_low},
                 {written ? m->saved_invstd : absent, &m->outputs[CLNORM_OUTPUT_SAVED_INVSTD]}};
  int status =
      read_memory(m, m->y, (size_t)in->x.count * clnorm_dtype_size(in->y_tensor.dtype), m->outputs);
  for (size_t i = 0; i < sizeof vectors / sizeof vectors[0] && !status; i++)
    if (vectors[i].memory.size)
      status = read_memory(m, vectors[i].memory, vector, vectors[i].values);
  return status;
}

/* m->target is open. */
static int run_module(const options *o, const inputs *in, module *m) {
  int status = clnorm_target_check(&m->target, in->x_tensor.dtype);
  if (!status) status = create_module(o, in, m);
  if (!status) status = allocate(o, in, m);
  if (!status) status = run_timed(o, in, m);
  if (!status) status = read_outputs(o, in, m);
  return status;
}

static void close_module(module *m) {
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) free(m->outputs[i]);
  free(m->saved_low);
  if (m->target.context) {
    clnorm_memory_free(m->target.context, &m->x);
    clnorm_memory_free(m->target.context, &m->y);
    clnorm_memory_free(m->target.context, &m->saved_mean);
    clnorm_memory_free(m->target.context, &m->saved_mean_low);
    clnorm_memory_free(m->target.context, &m->saved_invstd);
  }
  clnorm_plan_destroy(m->plan);
  clnorm_batchnorm_destroy(m->bn);
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

/* A tensor's values as floats in NCHW order, which they fit. NULL: no memory. */
static float *to_floats(const clnorm_tensor *tensor, const void *values, int64_t count) {
  const clnorm_npy_type type = npy_type(tensor->dtype);
  int64_t index[CLNORM_MAX_RANK] = {0};
  float *floats = malloc((size_t)count * sizeof *floats + 1);
  for (int64_t i = 0; floats && i < count; i++) {
    int64_t at = 0;
    for (int d = 0; d < tensor->rank; d++) at += index[d] * tensor->strides[d];
    floats[i] = (float)clnorm_npy_value(type, values, at);
    for (int d = tensor->rank - 1; d >= 0 && ++index[d] == tensor->dims[d]; d--) index[d] = 0;
  }
  return floats;
}

/* The operator's call that the module makes in this state, of x in floats. initial are running statistics where
 * none were given: zeros, then ones. */
static clnorm_case_problem describe_problem(const options *o, const inputs *in, const float *x,
                                            const float *initial) {
  const int64_t *dims = in->x_tensor.dims;
  const bool running = o->freeze || (o->mode == MODE_EVAL && o->track);
  int64_t spatial = 1;
  for (int d = 2; d < in->x_tensor.rank; d++) spatial *= dims[d];
  clnorm_case_problem problem = {
      .desc = dense_desc_defaults(running ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS,
                                  dims[0], dims[1], spatial),
      .dims = {dims[0], dims[1], spatial, 1},
      .y_dtype = in->y_tensor.dtype,
      .momentum = kept_fraction(o),
      .x = x,
      .weight = in->parameters[OF(CLNORM_WEIGHT)].values,
      .bias = in->parameters[OF(CLNORM_BIAS)].values};
  problem.desc.eps = o->eps;
  problem.desc.biased_running_var = o->biased;
  if (!o->track) return problem;
  const float *mean = in->parameters[OF(CLNORM_RUNNING_MEAN)].values;
  const float *var = in->parameters[OF(CLNORM_RUNNING_VAR)].values;
  problem.running_mean = mean ? mean : initial;
  problem.running_var = var ? var : initial + dims[1];
  return problem;
}

/* The tensor that an output is: y's own, or (1, C, 1, 1). */
static clnorm_tensor output_tensor(const inputs *in, clnorm_output output) {
  const int64_t dims[4] = {1, channels_of(in), 1, 1};
  clnorm_tensor tensor = in->y_tensor;
  if (output != CLNORM_OUTPUT_Y) clnorm_tensor_nchw(&tensor, in->real, 4, dims);
  return tensor;
}

/* Against the reference; and elements outside the promise are counted apart, in copies. */
static bool judge_values(const clnorm_reference *reference, const clnorm_promise *promise,
                         clnorm_output output, const clnorm_tensor *tensor,
                         const void *const values[2], judgement *j) {
  const int64_t count = j->difference.elements;
  float *expected = to_floats(tensor, values[0], count);
  float *given = to_floats(tensor, values[1], count);
  const bool good = expected && given;
  if (good && promise) {
    clnorm_tensor floats;
    clnorm_separate_output(promise, output, expected, given, &j->outside);
    clnorm_tensor_nchw(&floats, CLNORM_F32, tensor->rank, tensor->dims);
    clnorm_difference_init(&j->difference, sizeof j->difference);
    clnorm_compare(&floats, expected, &floats, given, &j->difference);
  }
  if (good) j->ratio = clnorm_reference_check(reference, output, given, NULL);
  free(expected);
  free(given);
  return good;
}

/* reference NULL: bits alone are compared. */
static bool judge_output(const inputs *in, const clnorm_reference *reference,
                         const clnorm_promise *promise, clnorm_output output,
                         const void *const values[2], judgement *j) {
  const clnorm_tensor tensor = output_tensor(in, output);
  j->there = values[0] && values[1] && in->x.count > 0;
  if (!j->there) return true;
  clnorm_difference_init(&j->difference, sizeof j->difference);
  clnorm_compare(&tensor, values[0], &tensor, values[1], &j->difference);
  return !reference || judge_values(reference, promise, output, &tensor, values, j);
}

static const char *layout_name(const options *o) {
  return o->layout == LAYOUT_NHWC ? "nhwc" : "nchw";
}

/* Adds judgements up into `found`; a failure if there is one. */
static void add_up(const options *o, const inputs *in, const module *m, const judgement *judgements,
                   clnorm_verification *found) {
  clnorm_failure failure = {.mode = o->mode == MODE_TRAIN ? "train" : "eval",
                            .against = found->baseline};
  snprintf(failure.dtype, sizeof failure.dtype, "%s", clnorm_dtype_name(in->x_tensor.dtype));
  snprintf(failure.layout, sizeof failure.layout, "%s", layout_name(o));
  snprintf(failure.device, sizeof failure.device, "%s", m->target.label);
  failure.rank = in->x_tensor.rank;
  memcpy(failure.dims, in->x_tensor.dims, sizeof failure.dims);
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

/* saved_mean_low is compared in bits, and counted with the saved_mean that it belongs to. Where a device flushes
 * it is left out: it may be subnormal wherever the mean is not. */
static void judge_low(const inputs *in, const void *a, const void *b, judgement *j) {
  const clnorm_tensor tensor = output_tensor(in, CLNORM_OUTPUT_SAVED_MEAN);
  clnorm_difference low;
  if (!j->there || !a || !b) return;
  clnorm_difference_init(&low, sizeof low);
  clnorm_compare(&tensor, a, &tensor, b, &low);
  if (low.differing_elements == 0) return;
  if (j->difference.differing_elements == 0) {
    j->difference = low;
    return;
  }
  j->difference.differing_elements += low.differing_elements;
  if (low.max_ulp > j->difference.max_ulp) j->difference.max_ulp = low.max_ulp;
  for (int bin = 1; bin < CLNORM_HISTOGRAM_BINS; bin++)
    j->difference.histogram[bin] += low.histogram[bin];
}

/* Judges m's outputs by the reference and the baseline's; false: no memory. */
static bool judge(const options *o, const inputs *in, const module *m, const module *baseline,
                  judgement *judgements) {
  const size_t channels = (size_t)channels_of(in);
  const bool bounded = in->real == CLNORM_F32;
  const bool kept = clnorm_context_device(m->target.context)->denormals &&
                    clnorm_context_device(baseline->target.context)->denormals;
  float *initial = calloc(2 * channels + 1, sizeof *initial);
  for (size_t c = 0; initial && c < channels; c++) initial[channels + c] = 1;
  float *x = bounded ? to_floats(&in->x_tensor, in->x.values, in->x.count) : NULL;
  const clnorm_case_problem problem = describe_problem(o, in, x, initial);
  clnorm_reference *reference = initial && x ? clnorm_reference_create(&problem) : NULL;
  clnorm_promise *promise = initial && x && !kept ? clnorm_promise_create(&problem) : NULL;
  bool good = !bounded || (reference && (kept || promise));
  for (int i = 0; i < CLNORM_NUM_OUTPUTS && good; i++) {
    const void *const values[2] = {baseline->outputs[i], m->outputs[i]};
    good = judge_output(in, reference, promise, (clnorm_output)i, values, &judgements[i]);
  }
  if (good && kept)
    judge_low(in, baseline->saved_low, m->saved_low, &judgements[CLNORM_OUTPUT_SAVED_MEAN]);
  clnorm_promise_destroy(promise);
  clnorm_reference_destroy(reference);
  free(initial);
  free(x);
  return good;
}

/* Runs the same module on the baseline and judges m's outputs. */
static int verify(const options *o, const inputs *in, const module *m, module *baseline,
                  judgement *judgements, clnorm_verification *found) {
  int status = clnorm_target_open_baseline(&m->target, o->target.threads, &baseline->target);
  if (!status) status = run_module(o, in, baseline);
  if (status) return status;
  found->baseline = baseline->target.label;
  if (judge(o, in, m, baseline, judgements)) {
    add_up(o, in, m, judgements, found);
    return CLNORM_EXIT_GOOD;
  }
  clnorm_complain("no host memory for the reference");
  return CLNORM_EXIT_DEVICE;
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
                         o->parameters[OF(CLNORM_RUNNING_MEAN)], CLNORM_OUTPUT_RUNNING_MEAN},
                        {"--save-running-var", o->save_running_var,
                         o->parameters[OF(CLNORM_RUNNING_VAR)], CLNORM_OUTPUT_RUNNING_VAR},
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
    array->type = npy_type(tensor ? in->y_tensor.dtype : in->real);
    array->ndim = tensor ? in->x.ndim : 1;
    array->dims[0] = channels_of(in);
    if (tensor) memcpy(array->dims, in->x.dims, sizeof array->dims);
    array->count = tensor ? in->x.count : channels_of(in);
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
  for (int i = 0; i < in->x.ndim; i++) clnorm_json_integer(&json, NULL, in->x.dims[i]);
  clnorm_json_end_array(&json);
  clnorm_json_text(&json, "dtype", clnorm_dtype_name(in->y_tensor.dtype));
  clnorm_json_text(&json, "layout", layout_name(o));
  clnorm_json_text(&json, "mode", o->mode == MODE_TRAIN ? "train" : "eval");
  clnorm_json_number(&json, "seconds", m->seconds);
  clnorm_json_text(&json, "output", o->output);
  if (o->verify) clnorm_verification_json(&json, found);
  clnorm_json_end_object(&json);
  putchar('\n');
}

static void print_summary(const options *o, const inputs *in, const module *m) {
  const double bytes = (double)in->x.count * (double)(clnorm_dtype_size(in->x_tensor.dtype) +
                                                      clnorm_dtype_size(in->y_tensor.dtype));
  printf("device  %s\n", m->target.label);
  printf("shape   ");
  for (int d = 0; d < in->x.ndim; d++) printf("%s%" PRId64, d ? "x" : "", in->x.dims[d]);
  printf(" %s, %s to %s%s\n", layout_name(o), clnorm_dtype_name(in->x_tensor.dtype),
         clnorm_dtype_name(in->y_tensor.dtype), o->per_activation ? ", per activation" : "");
  printf("mode    %s%s\n", o->mode == MODE_TRAIN ? "train" : "eval", o->freeze ? ", frozen" : "");
  printf("time    %s, %s GB/s counting x and y once; first call %s\n",
         clnorm_time_text(m->seconds).text,
         clnorm_number_text(m->seconds > 0 ? 1e-9 * bytes / m->seconds : 0.0).text,
         clnorm_time_text(m->first_call).text);
  printf("output  %s\n", o->output ? clnorm_output_path(o->output) : "not kept; -o FILE keeps it");
}

static void print_judgements(const inputs *in, const module *m, const module *baseline,
                             const judgement *judgements, const clnorm_verification *found) {
  printf("\n%s\nis compared with %s\n", m->target.label, baseline->target.label);
  printf("%-12s %10s %10s %8s %12s  %s\n", "output", "elements", "differing", "max ulp",
         "error/bound", "first difference (n,c,...)");
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    const clnorm_difference *d = &judgements[i].difference;
    char place[CLNORM_PLACE_SIZE];
    if (!judgements[i].there) continue;
    clnorm_print_place(d, place);
    printf("%-12s %10" PRId64 " %10" PRId64 " %8" PRIu64 " %12.3g  ",
           clnorm_output_name((clnorm_output)i), d->elements, d->differing_elements, d->max_ulp,
           judgements[i].ratio);
    if (d->differing_elements == 0)
      printf("none, the same bits\n");
    else
      printf("%s\n", place);
  }
  if (in->real == CLNORM_F64) printf("float64: bits are compared, and no error is bounded\n");
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
    if (o->verify && !o->json) print_judgements(&in, &m, &baseline, judgements, &found);
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
      {"--weight", CLNORM_OPTION_TEXT, &o->parameters[OF(CLNORM_WEIGHT)], NULL},
      {"--bias", CLNORM_OPTION_TEXT, &o->parameters[OF(CLNORM_BIAS)], NULL},
      {"--running-mean", CLNORM_OPTION_TEXT, &o->parameters[OF(CLNORM_RUNNING_MEAN)], NULL},
      {"--running-var", CLNORM_OPTION_TEXT, &o->parameters[OF(CLNORM_RUNNING_VAR)], NULL},
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
      {"--per-activation", CLNORM_OPTION_SET, &o->per_activation, NULL},
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
  const clnorm_batchnorm_options module_defaults = dense_batchnorm_options(1);
  options o = {.eps = module_defaults.eps,
               .momentum = module_defaults.momentum,
               .dtype = DTYPE_OF_X,
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
