/*
 * The buffers of a run, and how a kernel gets them.
 */
#ifndef CLNORM_OPERANDS_H
#define CLNORM_OPERANDS_H

#include "call.h"
#include "statistics.h"
#include "storage.h"

/* A kernel's buffers. Absent ones are never accessed: call->flags says which are there. Sums lie where partials do, and
 * backward's coefficients where forward's do. */
typedef struct clnorm_buffers {
  CLNORM_GLOBAL const clnorm_in *x;
  CLNORM_GLOBAL clnorm_out *y; /* or dx */
  CLNORM_GLOBAL const clnorm_dy *dy;
  CLNORM_GLOBAL const clnorm_real *weight, *bias;
  CLNORM_GLOBAL clnorm_real *running_mean, *running_var;
  CLNORM_GLOBAL clnorm_real *saved_mean, *saved_mean_low, *saved_invstd;
  CLNORM_GLOBAL clnorm_real *dweight, *dbias;
  CLNORM_GLOBAL clnorm_partial *partials;
  CLNORM_GLOBAL clnorm_coefficients *coefficients;
  CLNORM_GLOBAL clnorm_sums *sums;
  CLNORM_GLOBAL clnorm_gradient_coefficients *gradient_coefficients;
} clnorm_buffers;

/* Parameters and buffers of every OpenCL kernel; `written` is y, or in backward dx. */
#define CLNORM_KERNEL_PARAMETERS                                                                   \
  __global const clnorm_in *x, __global clnorm_out *y, __global const clnorm_dy *dy,               \
      __global clnorm_out *dx, __global const clnorm_real *weight,                                 \
      __global const clnorm_real *bias, __global clnorm_real *running_mean,                        \
      __global clnorm_real *running_var, __global clnorm_real *saved_mean,                         \
      __global clnorm_real *saved_mean_low, __global clnorm_real *saved_invstd,                    \
      __global clnorm_real *dweight, __global clnorm_real *dbias, __global uchar *workspace,       \
      clnorm_call call
#define CLNORM_KERNEL_BUFFERS_OF(written)                                                          \
  {                                                                                                \
    ((void)y, (void)dx, x + call.views[CLNORM_VIEW_X].offset),                                     \
        written + call.views[CLNORM_VIEW_Y].offset, dy + call.views[CLNORM_VIEW_DY].offset,        \
        weight + call.parameters[CLNORM_PARAMETER_WEIGHT],                                         \
        bias + call.parameters[CLNORM_PARAMETER_BIAS],                                             \
        running_mean + call.parameters[CLNORM_PARAMETER_RUNNING_MEAN],                             \
        running_var + call.parameters[CLNORM_PARAMETER_RUNNING_VAR],                               \
        saved_mean + call.parameters[CLNORM_PARAMETER_SAVED_MEAN],                                 \
        saved_mean_low + call.parameters[CLNORM_PARAMETER_SAVED_MEAN_LOW],                         \
        saved_invstd + call.parameters[CLNORM_PARAMETER_SAVED_INVSTD],                             \
        dweight + call.parameters[CLNORM_PARAMETER_DWEIGHT],                                       \
        dbias + call.parameters[CLNORM_PARAMETER_DBIAS],                                           \
        (__global clnorm_partial *)(workspace + call.partials),                                    \
        (__global clnorm_coefficients *)(workspace + call.coefficients),                           \
        (__global clnorm_sums *)(workspace + call.partials),                                       \
        (__global clnorm_gradient_coefficients *)(workspace + call.coefficients)                   \
  }
#define CLNORM_KERNEL_BUFFERS CLNORM_KERNEL_BUFFERS_OF(y)

#endif
