/*
 * The forward operator on f32 tensors without gaps, NCHW, in one structure: a short way to say most problems. Over the
 * public interface; what it cannot say, a clnorm_problem says.
 */
#ifndef CLNORM_CASES_DENSE_H
#define CLNORM_CASES_DENSE_H

#include <clnorm/clnorm.h>

/* What is done: clnorm_statistics of the forward operator, or a copy. */
enum { DENSE_COPY = 2 };

typedef struct dense_desc {
  /* N, C, H * W or any product; none of them negative */
  int64_t batch, channels, spatial;
  int32_t statistics;
  double eps;
  bool biased_running_var, refuse_one_value, external_workspace;
  int32_t cut, store;
} dense_desc;

/* Memory of the operands; absent ones, and those that a plan has not, are not bound. */
typedef struct dense_args {
  clnorm_memory x, y;
  clnorm_memory weight, bias;
  clnorm_memory running_mean, running_var;
  clnorm_memory saved_mean, saved_mean_low, saved_invstd;
  clnorm_memory workspace;
  double momentum;
  const clnorm_opencl_sync *sync;
} dense_args;

/* eps 1e-5, everything else off or automatic. */
dense_desc dense_desc_defaults(int32_t statistics, int64_t batch, int64_t channels,
                               int64_t spatial);
/* The same as a problem; its tensors have rank 3. */
clnorm_problem dense_problem(const dense_desc *desc);
/* desc NULL is handed on as a problem that is NULL. */
clnorm_status dense_plan_create(clnorm_context *context, const dense_desc *desc,
                                clnorm_plan **plan);
size_t dense_workspace_size(const clnorm_plan *plan);
/* args NULL: no bindings. */
clnorm_status dense_run(clnorm_plan *plan, const dense_args *args);

/* The outputs of the forward operator, in a fixed order. */
typedef enum clnorm_output {
  CLNORM_OUTPUT_Y,
  CLNORM_OUTPUT_RUNNING_MEAN,
  CLNORM_OUTPUT_RUNNING_VAR,
  CLNORM_OUTPUT_SAVED_MEAN,
  CLNORM_OUTPUT_SAVED_MEAN_LOW,
  CLNORM_OUTPUT_SAVED_INVSTD,
  CLNORM_NUM_OUTPUTS
} clnorm_output;

/* The role of an output. */
int32_t dense_role(clnorm_output output);

/* clnorm_compare of two f32 arrays of shape (n, c, h, w). */
void dense_compare(const int64_t dims[4], const float *a, const float *b,
                   clnorm_difference *difference);
clnorm_status dense_compare_memory(clnorm_context *context_a, clnorm_memory a,
                                   clnorm_context *context_b, clnorm_memory b,
                                   const int64_t dims[4], clnorm_difference *difference);
/* clnorm_compare_runs, of every output. */
clnorm_status dense_compare_runs(clnorm_context *context_a, clnorm_context *context_b,
                                 const dense_desc *desc, const dense_args *inputs,
                                 clnorm_difference differences[CLNORM_NUM_OUTPUTS]);

/* Structures with their defaults, by value. */
clnorm_context_options dense_context_options(void);
clnorm_tuning dense_tuning(void);
clnorm_tuning dense_context_tuning(const clnorm_context *context, int32_t *source);
clnorm_batchnorm_options dense_batchnorm_options(int64_t num_features);

/* The module's forward pass of an f32 tensor without gaps; of args, what a module takes. */
clnorm_status dense_batchnorm_forward(clnorm_batchnorm *bn, int32_t rank, const int64_t *dims,
                                      const dense_args *args);
clnorm_status dense_batchnorm_set(clnorm_batchnorm *bn, int32_t role, const float *values,
                                  size_t count);
clnorm_status dense_batchnorm_get(clnorm_batchnorm *bn, int32_t role, float *values, size_t count);

#endif
