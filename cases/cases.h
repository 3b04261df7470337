/*
 * What is checked and measured: one description of a case feeds `clnorm verify`, the conformance
 * test and the benchmark. Public API only; promise.c retraces the arithmetic of kernels/ as well.
 *
 *   suites.c     the lists of cases: edge, layouts, smoke, resnet50, mobilenet_v2, unet, or one shape
 *   networks.c   layer shapes of published networks
 *   pairs.c      rows of options in which every two values meet
 *   data.c       deterministic operands of a case
 *   place.c      layouts; dense values in memory of any layout and type
 *   runner.c     runs a case on a context between guard regions
 *   reference.c  the long double reference and the error bounds
 *   promise.c    what is promised on devices that flush subnormal values
 */
#ifndef CLNORM_CASES_CASES_H
#define CLNORM_CASES_CASES_H

#include "place.h"
#include "promise.h"
#include "reference.h"

/* Kinds of data: name, text, what it is for.
 *   exact      mean, variance and every result are exact floats: results must EQUAL the reference
 *   normal     about normal, mean and std of a few units, another one in each channel
 *   offset_*   mean / std of 1e2, 1e4, 1e6
 *   constant   one value per channel, such as 0.1: the variance is 0
 *   mixed      magnitudes from 1e-15 to 1e15 side by side
 *   zeros      +0 and -0 only
 *   outlier    normal, and one element of 1e6
 *   levels     a level for some hundred neighbours, then another: the first values of a segment say
 *              little of the rest
 *   not_finite NaN and infinities in one channel; the others must stay right
 *   overflow   up to 1e38: sums of squares overflow, only the equality of bits is promised
 *   subnormal  subnormal elements
 *   tiny       half of the channels of magnitudes from 1e-44 to 1e-18: something in between is subnormal
 *              (promise.h says what is promised of these two where subnormal values are flushed)
 * The last three are those of doubles where x has them: up to 1e308; 1e-323 to 1e-150. */
#define CLNORM_DATA_LIST(X)                                                                        \
  X(CLNORM_DATA_EXACT, "exact")                                                                    \
  X(CLNORM_DATA_NORMAL, "normal")                                                                  \
  X(CLNORM_DATA_OFFSET_1E2, "offset_1e2")                                                          \
  X(CLNORM_DATA_OFFSET_1E4, "offset_1e4")                                                          \
  X(CLNORM_DATA_OFFSET_1E6, "offset_1e6")                                                          \
  X(CLNORM_DATA_CONSTANT, "constant")                                                              \
  X(CLNORM_DATA_MIXED, "mixed")                                                                    \
  X(CLNORM_DATA_ZEROS, "zeros")                                                                    \
  X(CLNORM_DATA_OUTLIER, "outlier")                                                                \
  X(CLNORM_DATA_LEVELS, "levels")                                                                  \
  X(CLNORM_DATA_NOT_FINITE, "not_finite")                                                          \
  X(CLNORM_DATA_OVERFLOW, "overflow")                                                              \
  X(CLNORM_DATA_SUBNORMAL, "subnormal")                                                            \
  X(CLNORM_DATA_TINY, "tiny")

typedef enum clnorm_data {
#define CLNORM_DATA_ENUM(name, text) name,
  CLNORM_DATA_LIST(CLNORM_DATA_ENUM)
#undef CLNORM_DATA_ENUM
      CLNORM_NUM_DATA
} clnorm_data;

const char *clnorm_data_name(clnorm_data data);

typedef struct clnorm_case {
  const char *suite; /* static */
  int64_t dims[4];   /* n, c, h, w */
  /* of the tensors: 0 is 4; 3 is (n, c, h * w); 5 has h in two axes; 2 is for h == w == 1 */
  int32_t rank;
  int32_t x_dtype, y_dtype; /* clnorm_dtype */
  clnorm_layout x_layout, y_layout;
  clnorm_statistics statistics;
  bool weight, bias;       /* present */
  bool running;            /* batch statistics: running statistics are updated */
  bool biased_running_var; /* how */
  bool save_mean, save_mean_low, save_invstd;
  bool in_place, external_workspace;
  bool backward; /* the gradients of this case, which clnorm verify computes; the runner does not */
  clnorm_form form; /* for who has both forms of a device: this one; AUTO: the one of the rule */
  unsigned shift;   /* elements, 0 to 15, by which every operand is off its 64-byte boundary */
  double eps, momentum;
  clnorm_cut variant;
  clnorm_data data;
  uint64_t seed;
} clnorm_case;

/* ---- Suites ---------------------------------------------------------------------------------- */

/* Names that clnorm_suite_cases takes; ends with NULL. "all" stands for all of them but smoke,
 * which is a part of edge for slow devices. layouts crosses types, layouts and ranks; the others are f32, NCHW. */
extern const char *const clnorm_suite_names[];

/* The cases of a suite, *count of them, to be released with free. NULL if the name is unknown
 * (*count is then 0) or there is no memory (*count is then 1). */
clnorm_case *clnorm_suite_cases(const char *suite, uint64_t seed, size_t *count);
/* Cases for a shape of the user's choice: both modes, every kind of data, options in turn. */
clnorm_case *clnorm_shape_cases(const int64_t dims[4], uint64_t seed, size_t *count);

/* "dtype=f16 layout=nhwc rank=4 weight bias running(unbiased) ... data=normal seed=7": all that distinguishes the
 * case. */
void clnorm_case_describe(const clnorm_case *item, char *text, size_t size);
/* x or y of the case. */
clnorm_tensor clnorm_case_tensor(const clnorm_case *item, clnorm_role role);
/* "f16", or "f16->f32" where x and y differ; "nhwc", or "nhwc->padded". */
typedef struct clnorm_axis_text {
  char text[40];
} clnorm_axis_text;
clnorm_axis_text clnorm_case_dtype(const clnorm_case *item);
clnorm_axis_text clnorm_case_layout(const clnorm_case *item);
/* y cannot be written over x where they are of different types or layouts. */
bool clnorm_case_may_be_in_place(const clnorm_case *item);
/* "train", "eval" or "backward". */
const char *clnorm_case_mode(const clnorm_case *item);
/* An output whose values must equal the reference. */
bool clnorm_case_exact(const clnorm_case *item, clnorm_output output);
/* What reference.h's bounds are multiplied by: 2 for levels, where sums lose up to two bits to the
 * pivot (docs/arithmetic.md), else 1. */
double clnorm_case_slack(const clnorm_case *item);

/* ---- Operands -------------------------------------------------------------------------------- */

/* The operands of a case: the same for the same case, different from element to element. */
typedef struct clnorm_case_operands {
  clnorm_case_problem problem;
  double *storage;
} clnorm_case_operands;

/* False if there is no memory. Release with clnorm_case_operands_free. */
bool clnorm_case_operands_make(const clnorm_case *item, clnorm_case_operands *operands);
void clnorm_case_operands_free(clnorm_case_operands *operands);

/* ---- Running --------------------------------------------------------------------------------- */

/* Outputs of a run on the host; NULL and 0 where the operation writes none. */
typedef struct clnorm_case_outputs {
  double *values[CLNORM_NUM_OUTPUTS];
  int64_t counts[CLNORM_NUM_OUTPUTS];
  double *storage;
} clnorm_case_outputs;
void clnorm_case_outputs_free(clnorm_case_outputs *outputs);

typedef enum clnorm_case_result {
  CLNORM_CASE_RAN, /* outputs are there; nothing else was touched */
  CLNORM_CASE_BROKEN, /* something was written that must not be, also by a call that failed, or left unwritten: *why */
  CLNORM_CASE_FAILED /* a call failed with *status: *why */
} clnorm_case_result;

/* One call of the operator: what a case comes to. */
typedef struct clnorm_case_call {
  clnorm_problem problem; /* of the operation that values->desc says */
  const clnorm_case_problem *values;
  bool in_place, save_mean, save_mean_low, save_invstd;
  unsigned shift; /* as clnorm_case's */
  /* What a test does to bindings and memory just before the run; NULL: nothing */
  void (*change)(void *argument, clnorm_binding *bindings, size_t count);
  void *argument;
} clnorm_case_call;

/* Runs cases on one context. Operands lie in one piece of memory between guard regions; outputs are
 * poisoned before the run, and afterwards guards and inputs are looked at. */
typedef struct clnorm_case_runner clnorm_case_runner;
clnorm_case_runner *clnorm_case_runner_create(clnorm_context *context); /* NULL: no memory */
void clnorm_case_runner_destroy(clnorm_case_runner *runner);            /* before the context */
/* outputs are to be released with clnorm_case_outputs_free whatever is returned. */
clnorm_case_result clnorm_case_run(clnorm_case_runner *runner, const clnorm_case *item,
                                   const clnorm_case_problem *problem, clnorm_case_outputs *outputs,
                                   clnorm_status *status, clnorm_message *why);
/* The same of any call. */
clnorm_case_result clnorm_case_call_run(clnorm_case_runner *runner, const clnorm_case_call *call,
                                        clnorm_case_outputs *outputs, clnorm_status *status,
                                        clnorm_message *why);

/* Bits of two runs' values of a tensor, in ulps of its type, which they were read from. False if there is no memory. */
bool clnorm_case_compare(const clnorm_tensor *tensor, const double *a, const double *b,
                         clnorm_difference *difference);

#endif
