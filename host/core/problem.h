/* A problem: what a caller fills, checked, and made into work. No memory; asks the device what it supports. */
#ifndef CLNORM_CORE_PROBLEM_H
#define CLNORM_CORE_PROBLEM_H

#include "backend.h"

/* INVALID_ARGUMENT unless eps is finite and >= 0, as a real; unless momentum is in [0, 1]. */
clnorm_status clnorm__check_eps(double eps, int32_t real, clnorm_error *error);
clnorm_status clnorm__check_momentum(double momentum, clnorm_error *error);

/* As a call has them. */
clnorm_ulong clnorm__double_bits(double value);

/* What is computed in where x is of such a type: F64 or F32. */
int32_t clnorm__real_of(int32_t dtype);

/* Copies a caller's problem and checks everything that does not depend on a device; y gets the tensor that it is. */
clnorm_status clnorm__problem_take(clnorm_problem *taken, const clnorm_problem *given,
                                   clnorm_error *error);

/* The work that a problem is which was taken. device NULL: one that has all paths. */
clnorm_work clnorm__work_make(const clnorm_problem *problem, const clnorm_device *device);

#endif
