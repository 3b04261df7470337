#include <stdlib.h>

#include "measure.h"
#include "messages.h"
#include "run.h"

/* Prints the library's last error behind `what` unless status is good. */
static int check(const clnorm_run_module *m, clnorm_status status, const char *what) {
  if (status) clnorm_complain("%s: %s", what, clnorm_last_error(m->target.context));
  return clnorm_exit_status(status);
}

static int create_module(const clnorm_run_request *o, const clnorm_run_inputs *in,
                         clnorm_run_module *m) {
  clnorm_batchnorm_options bn = dense_batchnorm_options(clnorm_run_channels(in));
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
  clnorm_batchnorm_set_training(m->bn, o->mode == CLNORM_RUN_TRAIN);
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
static int load_state(const clnorm_run_request *o, const clnorm_run_inputs *in,
                      clnorm_run_module *m) {
  int status = check(m, clnorm_batchnorm_reset_parameters(m->bn), "BatchNorm2d");
  for (int p = 0; p < 4 && !status; p++)
    if (in->parameters[p].values)
      status =
          check(m,
                clnorm_batchnorm_set(m->bn, CLNORM_WEIGHT + p, in->real, in->parameters[p].values,
                                     (size_t)in->parameters[p].count),
                clnorm_run_parameter_options[p]);
  if (status || !o->track) return status;
  return check(m, clnorm_batchnorm_set_num_batches_tracked(m->bn, o->num_batches_tracked),
               "--num-batches-tracked");
}

/* Bytes of an output. */
static size_t output_bytes(const clnorm_run_inputs *in, clnorm_output output) {
  const clnorm_tensor tensor = clnorm_run_output(in, output);
  return (size_t)clnorm_tensor_bytes(&tensor);
}

static bool is_wanted(const clnorm_run_request *o, clnorm_output output) {
  switch (output) {
  case CLNORM_OUTPUT_Y:
    return true;
  case CLNORM_OUTPUT_SAVED_MEAN:
    return o->verify || o->save_mean;
  case CLNORM_OUTPUT_SAVED_MEAN_LOW:
    return o->verify;
  case CLNORM_OUTPUT_SAVED_INVSTD:
    return o->verify || o->save_invstd;
  default: /* the module has them */
    return false;
  }
}

static int allocate(const clnorm_run_request *o, const clnorm_run_inputs *in,
                    clnorm_run_module *m) {
  clnorm_context *context = m->target.context;
  const size_t x_bytes = (size_t)in->x.count * clnorm_dtype_size(in->x_tensor.dtype);
  int status = check(m, clnorm_memory_alloc(context, x_bytes, &m->x), in->path);
  for (int i = 0; i < CLNORM_NUM_OUTPUTS && !status; i++)
    if (is_wanted(o, (clnorm_output)i))
      status =
          check(m, clnorm_memory_alloc(context, output_bytes(in, (clnorm_output)i), &m->memory[i]),
                in->path);
  if (status || x_bytes == 0) return status;
  return check(m, clnorm_memory_write(context, m->x, in->x.values, x_bytes), in->path);
}

double clnorm_run_kept_fraction(const clnorm_run_request *o) {
  if (o->convention == CLNORM_MOMENTUM_NEW) return 1 - o->momentum;
  if (o->convention == CLNORM_MOMENTUM_CUMULATIVE)
    return 1 - 1 / ((double)o->num_batches_tracked + 1);
  return o->momentum;
}

enum { MAX_BINDINGS = 1 + CLNORM_NUM_OUTPUTS + CLNORM_RUN_PARAMETERS };

/* The module's step where y has a type of its own: its problem on its memory. */
static clnorm_status run_plan(const clnorm_run_request *o, clnorm_run_module *m,
                              clnorm_binding bindings[MAX_BINDINGS], size_t count) {
  for (int32_t role = CLNORM_WEIGHT; role <= CLNORM_RUNNING_VAR; role++)
    bindings[count++] = clnorm_bind(role, clnorm_batchnorm_memory(m->bn, role));
  clnorm_run_options run_options;
  clnorm_run_options_init(&run_options, sizeof run_options);
  run_options.momentum = clnorm_run_kept_fraction(o);
  return clnorm_run(m->plan, bindings, count, &run_options);
}

static int forward(const clnorm_run_request *o, const clnorm_run_inputs *in, clnorm_run_module *m,
                   double *seconds) {
  clnorm_binding bindings[MAX_BINDINGS] = {clnorm_bind(CLNORM_X, m->x)};
  size_t count = 1;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++)
    if (is_wanted(o, (clnorm_output)i))
      bindings[count++] = clnorm_bind(dense_role((clnorm_output)i), m->memory[i]);
  const double start = clnorm_now();
  int status =
      check(m,
            m->plan ? run_plan(o, m, bindings, count)
                    : clnorm_batchnorm_forward(m->bn, &in->x_tensor, bindings, count, NULL),
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
static int run_timed(const clnorm_run_request *o, const clnorm_run_inputs *in,
                     clnorm_run_module *m) {
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

static int read_memory(clnorm_run_module *m, clnorm_memory memory, size_t size, void **values) {
  *values = malloc(size + 1);
  if (!*values) {
    clnorm_complain("no memory for %zu bytes", size);
    return CLNORM_EXIT_DEVICE;
  }
  if (size == 0) return CLNORM_EXIT_GOOD;
  return check(m, clnorm_memory_read(m->target.context, memory, *values, size), "reading back");
}

static int read_outputs(const clnorm_run_request *o, const clnorm_run_inputs *in,
                        clnorm_run_module *m) {
  int status = CLNORM_EXIT_GOOD;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS && !status; i++) {
    const clnorm_output output = (clnorm_output)i;
    const bool running =
        output == CLNORM_OUTPUT_RUNNING_MEAN || output == CLNORM_OUTPUT_RUNNING_VAR;
    const bool saved = !running && output != CLNORM_OUTPUT_Y;
    if (saved && in->x.count == 0) continue; /* an empty tensor has no statistics */
    if (running ? !o->track : !is_wanted(o, output)) continue;
    const clnorm_memory memory =
        running ? clnorm_batchnorm_memory(m->bn, dense_role(output)) : m->memory[i];
    status = read_memory(m, memory, output_bytes(in, output), &m->outputs[i]);
  }
  return status;
}

int clnorm_run_module_run(const clnorm_run_request *o, const clnorm_run_inputs *in,
                          clnorm_run_module *m) {
  int status = clnorm_target_check(&m->target, in->x_tensor.dtype);
  if (!status) status = create_module(o, in, m);
  if (!status) status = allocate(o, in, m);
  if (!status) status = run_timed(o, in, m);
  if (!status) status = read_outputs(o, in, m);
  return status;
}

void clnorm_run_module_close(clnorm_run_module *m) {
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    free(m->outputs[i]);
    if (m->target.context) clnorm_memory_free(m->target.context, &m->memory[i]);
  }
  if (m->target.context) clnorm_memory_free(m->target.context, &m->x);
  clnorm_plan_destroy(m->plan);
  clnorm_batchnorm_destroy(m->bn);
  clnorm_target_close(&m->target);
}
