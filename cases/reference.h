/*
 * The operator in long double, and the bounds that results are held to.
 *
 * Statistics are taken in two passes (mean, then squares of deviations from it) with sums of two long doubles;
 * weight, bias, eps and running statistics are the values that the library gets. With u = 2^-24, or 2^-53 where all
 * is computed in double, and std = sqrt(var), a result may differ from the reference by at most
 *
 *   y               8 u (|weight| (|xhat| + 1) + |bias|)
 *   saved_mean      u (2 |mean| + 8 std)
 *   saved_mean_low  from 0, half an ulp of such a mean: u (|mean| + bound of the mean); 0 where the mean is given
 *   saved_invstd    8 u invstd
 *   running_mean    take * (bound of the mean) + 4 u (|keep * old| + |take * mean|)
 *   running_var     take * 16 u (var' + (16 u mean)^2) + 4 u (|keep * old| + |take * var'|)
 *
 * var' is var, or var * M / (M - 1), and keep = momentum, take = 1 - momentum. Deviations are taken from a mean of 512
 * elements, which may be off by 16 u |mean|; their squares are all that is left of it where var is 0. Each bound grows
 * by the rounding of subnormal results, 2^-148 (2^-1073). How far saved_mean and saved_mean_low together may be off
 * shows in y.
 *
 * With batch statistics the bounds hold where var + eps is at least 2^26 times the smallest normal number, and |mean|
 * at most 10^6 * sqrt(var + eps). In other channels no bound is given (results must still be the same bits
 * on every device), and clnorm_reference_unbounded counts them. A channel with a NaN or an infinity
 * in it has NaN statistics. Where sums may not hold the problem (1024 times the largest |x|, or
 * M * var, is more than a quarter of the largest number), y and saved_invstd may be NaN instead, and the others NaN or
 * infinite; what is finite is held to the bounds.
 *
 * A y that is stored in fewer bytes than it is computed in may be off by half an ulp of its type besides, and be
 * infinite from the type's limit on.
 *
 * Where the reference is NaN the result must be NaN; where it is infinite, or too large for its type, the result must
 * be the same infinity (a finite value within the bound passes for the latter).
 */
#ifndef CLNORM_CASES_REFERENCE_H
#define CLNORM_CASES_REFERENCE_H

#include "dense.h"

/* One forward call: logical values in doubles, which hold those of every type. Arrays are borrowed; absent: NULL. */
typedef struct clnorm_case_problem {
  dense_desc desc;
  int64_t dims[4];          /* (n, c, h, w); n * c * h * w elements as desc says */
  int32_t x_dtype, y_dtype; /* clnorm_dtype: what values of x and y are rounded to */
  double momentum;          /* kept fraction */
  const double *x, *weight, *bias, *running_mean, *running_var;
} clnorm_case_problem;

/* What is computed in, and what values but those of x and y are rounded to: F64 where x is, else F32. */
static inline int32_t clnorm_case_problem_real(const clnorm_case_problem *problem) {
  return problem->x_dtype == CLNORM_F64 ? CLNORM_F64 : CLNORM_F32;
}
/* The problem has no elements: nothing is computed, nothing written. */
bool clnorm_case_problem_empty(const clnorm_case_problem *problem);
/* Elements that a run writes of an output, if it is asked for: those of x, channels, or 0. */
int64_t clnorm_case_problem_output_count(const clnorm_case_problem *problem, clnorm_output output);
/* An output's type and shape, x's own or (1, C, 1, 1), without gaps. */
clnorm_tensor clnorm_case_problem_output(const clnorm_case_problem *problem, clnorm_output output);
/* "y", "running_mean", ... */
const char *clnorm_output_name(clnorm_output output);

/* Keeps the problem's arrays, which must outlive it. NULL if there is no memory. */
typedef struct clnorm_reference clnorm_reference;
clnorm_reference *clnorm_reference_create(const clnorm_case_problem *problem);
void clnorm_reference_destroy(clnorm_reference *reference);

/* Worst |error| / bound over all elements of one output: good while <= 1; INFINITY where NaN or an
 * infinity is on one side only. *worst, if not NULL, receives the element's index, or
 * -1. */
double clnorm_reference_check(const clnorm_reference *reference, clnorm_output output,
                              const double *values, int64_t *worst);
/* For exact data: elements that are not the reference's value rounded to their type. -0 equals +0. */
int64_t clnorm_reference_unequal(const clnorm_reference *reference, clnorm_output output,
                                 const double *values);
/* Channels that no bound is given for. */
int64_t clnorm_reference_unbounded(const clnorm_reference *reference);

#endif
