/* What `clnorm run` works on: what was asked for, what was read, one module on one context. run_read.c reads, run.c
 * writes and reports, run_module.c runs, run_verify.c judges. `clnorm backward` (backward.c) asks and reads so as
 * well. */
#ifndef CLNORM_CLI_RUN_H
#define CLNORM_CLI_RUN_H

#include <clnorm/clnorm.h>

#include "dense.h"
#include "npy.h"
#include "targets.h"
#include "verification.h"

/* ---- What is asked for ----------------------------------------------------------------------- */

enum { CLNORM_RUN_EVAL, CLNORM_RUN_TRAIN };
enum { CLNORM_RUN_NCHW, CLNORM_RUN_NHWC };
enum { CLNORM_RUN_DTYPE_OF_X = -1 };

enum { CLNORM_RUN_PARAMETERS = 4 };
/* Where the parameter of a role stands in arrays of them. */
#define CLNORM_RUN_PARAMETER(role) ((role)-CLNORM_WEIGHT)

/* "--weight" and the like. */
extern const char *const clnorm_run_parameter_options[CLNORM_RUN_PARAMETERS];

typedef struct clnorm_run_request {
  const char *output;
  const char *parameters[CLNORM_RUN_PARAMETERS]; /* by CLNORM_RUN_PARAMETER(role) */
  const char *save_running_mean, *save_running_var, *save_mean, *save_invstd;
  int mode, convention, layout;
  int dtype; /* of y; CLNORM_RUN_DTYPE_OF_X: as x */
  double eps, momentum;
  int64_t num_batches_tracked;
  bool affine, track, freeze, biased, refuse_one_value, per_activation, verify, json;
  clnorm_target_options target;
} clnorm_run_request;

/* The options that run and backward share, and the end of a table of options. */
#define CLNORM_RUN_OPTIONS(o)                                                                      \
  {"--mode", CLNORM_OPTION_CHOICE, &(o)->mode, "eval|train"},                                      \
      {"--weight", CLNORM_OPTION_TEXT, &(o)->parameters[CLNORM_RUN_PARAMETER(CLNORM_WEIGHT)],      \
       NULL},                                                                                      \
      {"--running-mean", CLNORM_OPTION_TEXT,                                                       \
       &(o)->parameters[CLNORM_RUN_PARAMETER(CLNORM_RUNNING_MEAN)], NULL},                         \
      {"--running-var", CLNORM_OPTION_TEXT,                                                        \
       &(o)->parameters[CLNORM_RUN_PARAMETER(CLNORM_RUNNING_VAR)], NULL},                          \
      {"--eps", CLNORM_OPTION_NUMBER, &(o)->eps, NULL},                                            \
      {"--no-affine", CLNORM_OPTION_CLEAR, &(o)->affine, NULL},                                    \
      {"--no-track", CLNORM_OPTION_CLEAR, &(o)->track, NULL},                                      \
      {"--freeze", CLNORM_OPTION_SET, &(o)->freeze, NULL},                                         \
      {"--refuse-one-value", CLNORM_OPTION_SET, &(o)->refuse_one_value, NULL},                     \
      {"--dtype", CLNORM_OPTION_CHOICE, &(o)->dtype, CLNORM_DTYPE_CHOICES},                        \
      {"--per-activation", CLNORM_OPTION_SET, &(o)->per_activation, NULL},                         \
      {"--layout", CLNORM_OPTION_CHOICE, &(o)->layout, CLNORM_LAYOUT_CHOICES},                     \
      {"--device", CLNORM_OPTION_TEXT, &(o)->target.device, NULL},                                 \
      {"--form", CLNORM_OPTION_CHOICE, &(o)->target.form, CLNORM_FORM_CHOICES},                    \
      {"--threads", CLNORM_OPTION_COUNT, &(o)->target.threads, NULL},                              \
      {"--verify", CLNORM_OPTION_SET, &(o)->verify, NULL},                                         \
      {"--json", CLNORM_OPTION_SET, &(o)->json, NULL}, {                                           \
    NULL, CLNORM_OPTION_SET, NULL, NULL                                                            \
  }

/* ---- What is read ---------------------------------------------------------------------------- */

typedef struct clnorm_run_inputs {
  const char *path;
  clnorm_npy x;
  /* in the real type; values NULL: not given */
  clnorm_npy parameters[CLNORM_RUN_PARAMETERS];
  clnorm_tensor x_tensor, y_tensor; /* the files' memory in logical order */
  int32_t real;                     /* the type of parameters and statistics */
} clnorm_run_inputs;

/* Reads x and the parameters that are asked for, and says what is wrong with them; an exit status. Release with
 * clnorm_run_inputs_free in any case. */
int clnorm_run_read(const clnorm_run_request *o, const char *path, clnorm_run_inputs *in);
void clnorm_run_inputs_free(clnorm_run_inputs *in);
/* Reads an array of a type that a tensor may have; bfloat16 where it is asked for. */
int clnorm_run_read_tensor(const clnorm_run_request *o, const char *path, clnorm_npy *array);
clnorm_npy_type clnorm_run_npy_type(int32_t dtype);
int32_t clnorm_run_dtype(clnorm_npy_type type);
/* "(2,3,4)" */
void clnorm_run_print_dims(const clnorm_npy *array, char *text, size_t size);

int64_t clnorm_run_channels(const clnorm_run_inputs *in);
/* Where an output's values are to be found in the array that is written of it: y's tensor, or (1, C). */
clnorm_tensor clnorm_run_output(const clnorm_run_inputs *in, clnorm_output output);

/* ---- What runs ------------------------------------------------------------------------------- */

/* One module on one context, and what it gave. */
typedef struct clnorm_run_module {
  clnorm_target target;
  clnorm_batchnorm *bn;
  clnorm_plan *plan; /* where y is not of the type of x; NULL: the module's own */
  clnorm_memory x;
  /* of the outputs; running statistics are the module's own. Absent: not wanted */
  clnorm_memory memory[CLNORM_NUM_OUTPUTS];
  void *outputs[CLNORM_NUM_OUTPUTS]; /* NULL: not written, or not there */
  double first_call, seconds;        /* seconds: median of the calls after the first */
} clnorm_run_module;

/* m->target is open. What goes wrong is printed, and its exit status returned. */
int clnorm_run_module_run(const clnorm_run_request *o, const clnorm_run_inputs *in,
                          clnorm_run_module *m);
void clnorm_run_module_close(clnorm_run_module *m);
/* The kept fraction of the running statistics in this run. */
double clnorm_run_kept_fraction(const clnorm_run_request *o);

/* ---- What is found --------------------------------------------------------------------------- */

/* What one output is found to be. */
typedef struct clnorm_run_judgement {
  bool there;
  clnorm_difference difference; /* of elements inside the promise */
  clnorm_outside outside;
  double ratio;
} clnorm_run_judgement;

/* Runs the same module on the baseline, judges m's outputs by the baseline's and by the reference, and adds that up
 * into *found. What goes wrong is printed, and its exit status returned; a difference is no such thing. */
int clnorm_run_verify(const clnorm_run_request *o, const clnorm_run_inputs *in,
                      const clnorm_run_module *m, clnorm_run_module *baseline,
                      clnorm_run_judgement judgements[CLNORM_NUM_OUTPUTS],
                      clnorm_verification *found);
/* As the user said it. */
const char *clnorm_run_layout_name(const clnorm_run_request *o);
const char *clnorm_run_mode_name(const clnorm_run_request *o);

#endif
