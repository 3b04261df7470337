#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "messages.h"
#include "run.h"

/* The values of the run's operands in doubles. */
typedef struct values {
  double *x, *weight, *bias, *running_mean, *running_var; /* NULL: absent */
  double *storage;
} values;

/* Values of a tensor at *next, which moves behind them. */
static double *unplaced(const clnorm_tensor *tensor, const void *memory, int64_t count,
                        double **next) {
  double *const at = *next;
  clnorm_unplace(tensor, memory, at);
  *next += count;
  return at;
}

/* A parameter that was given; else what a module starts with. */
static double *parameter_of(const clnorm_run_inputs *in, int32_t role, double start,
                            double **next) {
  const clnorm_npy *array = &in->parameters[CLNORM_RUN_PARAMETER(role)];
  const int64_t channels = clnorm_run_channels(in);
  const clnorm_tensor tensor = clnorm_run_output(in, CLNORM_OUTPUT_SAVED_MEAN);
  if (array->values) return unplaced(&tensor, array->values, channels, next);
  double *const at = *next;
  for (int64_t c = 0; c < channels; c++) at[c] = start;
  *next += channels;
  return at;
}

/* False if there is no memory. */
static bool values_make(const clnorm_run_request *o, const clnorm_run_inputs *in, values *v) {
  const size_t channels = (size_t)clnorm_run_channels(in), parameters = CLNORM_RUN_PARAMETERS;
  memset(v, 0, sizeof *v);
  v->storage = malloc(((size_t)in->x.count + parameters * channels + 1) * sizeof *v->storage);
  if (!v->storage) return false;
  double *next = v->storage;
  v->x = unplaced(&in->x_tensor, in->x.values, in->x.count, &next);
  if (o->affine) v->weight = parameter_of(in, CLNORM_WEIGHT, 1, &next);
  if (o->affine) v->bias = parameter_of(in, CLNORM_BIAS, 0, &next);
  if (o->track) v->running_mean = parameter_of(in, CLNORM_RUNNING_MEAN, 0, &next);
  if (o->track) v->running_var = parameter_of(in, CLNORM_RUNNING_VAR, 1, &next);
  return true;
}

/* The operator's call that the module makes in this state. */
static clnorm_case_problem describe_problem(const clnorm_run_request *o,
                                            const clnorm_run_inputs *in, const values *v) {
  const int64_t *dims = in->x_tensor.dims;
  const bool running = o->freeze || (o->mode == CLNORM_RUN_EVAL && o->track);
  int64_t spatial = 1;
  for (int d = 2; d < in->x_tensor.rank; d++) spatial *= dims[d];
  clnorm_case_problem problem = {
      .desc = dense_desc_defaults(running ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS,
                                  dims[0], dims[1], spatial),
      .dims = {dims[0], dims[1], spatial, 1},
      .x_dtype = in->x_tensor.dtype,
      .y_dtype = in->y_tensor.dtype,
      .momentum = clnorm_run_kept_fraction(o),
      .x = v->x,
      .weight = v->weight,
      .bias = v->bias,
      .running_mean = v->running_mean,
      .running_var = v->running_var};
  problem.desc.eps = o->eps;
  problem.desc.biased_running_var = o->biased;
  return problem;
}

/* What outputs are judged by. promise NULL: all is promised. */
typedef struct judge {
  const clnorm_run_inputs *in;
  const clnorm_reference *reference;
  const clnorm_promise *promise;
} judge;

/* False if there is no memory. */
static bool judge_output(const judge *by, clnorm_output output, const void *expected,
                         const void *given, clnorm_run_judgement *j) {
  const clnorm_tensor tensor = clnorm_run_output(by->in, output);
  const int64_t count = output == CLNORM_OUTPUT_Y ? by->in->x.count : clnorm_run_channels(by->in);
  j->there = expected && given && by->in->x.count > 0;
  if (!j->there) return true;
  double *storage = malloc(2 * (size_t)count * sizeof *storage), *next = storage;
  if (!storage) return false;
  const double *a = unplaced(&tensor, expected, count, &next);
  double *b = unplaced(&tensor, given, count, &next);
  clnorm_separate_output(by->promise, output, a, b, &j->outside);
  const bool good = clnorm_case_compare(&tensor, a, b, &j->difference);
  j->ratio = clnorm_reference_check(by->reference, output, b, NULL);
  free(storage);
  return good;
}

const char *clnorm_run_layout_name(const clnorm_run_request *o) {
  return o->layout == CLNORM_RUN_NHWC ? "nhwc" : "nchw";
}

const char *clnorm_run_mode_name(const clnorm_run_request *o) {
  return o->mode == CLNORM_RUN_TRAIN ? "train" : "eval";
}

/* Adds judgements up into `found`; a failure if there is one. */
static void add_up(const clnorm_run_request *o, const clnorm_run_inputs *in,
                   const clnorm_run_module *m, const clnorm_run_judgement *judgements,
                   clnorm_verification *found) {
  const clnorm_case types = {.x_dtype = in->x_tensor.dtype, .y_dtype = in->y_tensor.dtype};
  clnorm_failure failure = {.mode = clnorm_run_mode_name(o), .against = found->baseline};
  snprintf(failure.dtype, sizeof failure.dtype, "%s", clnorm_case_dtype(&types).text);
  snprintf(failure.layout, sizeof failure.layout, "%s", clnorm_run_layout_name(o));
  snprintf(failure.device, sizeof failure.device, "%s", m->target.label);
  failure.rank = in->x_tensor.rank;
  memcpy(failure.dims, in->x_tensor.dims, sizeof failure.dims);
  snprintf(failure.options, sizeof failure.options, "%.256s eps=%.9g momentum=%.9g", in->path,
           o->eps, o->momentum);
  clnorm_outside outside = {0, 0};
  found->totals.cases = 1;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    const clnorm_run_judgement *j = &judgements[i];
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

/* Judges m's outputs by the reference and the baseline's; false: no memory. */
static bool judge_all(const clnorm_run_request *o, const clnorm_run_inputs *in,
                      const clnorm_run_module *m, const clnorm_run_module *baseline,
                      clnorm_run_judgement *judgements) {
  values v;
  if (!values_make(o, in, &v)) return false;
  const clnorm_case_problem problem = describe_problem(o, in, &v);
  const bool kept = clnorm_promise_kept(m->target.context, baseline->target.context);
  clnorm_reference *reference = clnorm_reference_create(&problem);
  clnorm_promise *promise = kept ? NULL : clnorm_promise_create(&problem);
  const judge by = {in, reference, promise};
  bool good = reference && (kept || promise);
  for (int i = 0; i < CLNORM_NUM_OUTPUTS && good; i++)
    good = judge_output(&by, (clnorm_output)i, baseline->outputs[i], m->outputs[i], &judgements[i]);
  clnorm_promise_destroy(promise);
  clnorm_reference_destroy(reference);
  free(v.storage);
  return good;
}

int clnorm_run_verify(const clnorm_run_request *o, const clnorm_run_inputs *in,
                      const clnorm_run_module *m, clnorm_run_module *baseline,
                      clnorm_run_judgement judgements[CLNORM_NUM_OUTPUTS],
                      clnorm_verification *found) {
  int status = clnorm_target_open_baseline(&m->target, o->target.threads, &baseline->target);
  if (!status) status = clnorm_run_module_run(o, in, baseline);
  if (status) return status;
  found->baseline = baseline->target.label;
  if (judge_all(o, in, m, baseline, judgements)) {
    add_up(o, in, m, judgements, found);
    return CLNORM_EXIT_GOOD;
  }
  clnorm_complain("no host memory for the reference");
  return CLNORM_EXIT_DEVICE;
}
