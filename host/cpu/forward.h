/* The item functions of kernels/vector.h, compiled once per instruction set. */
#ifndef CLNORM_CPU_FORWARD_H
#define CLNORM_CPU_FORWARD_H

#include "operands.h"
#include "pool.h"
#include "schedule.h"

/* Items of a stage, until none are left. */
typedef void (*clnorm_items_function)(const clnorm_buffers *buffers, const clnorm_call *call,
                                      clnorm_items *items);

typedef struct clnorm_items_functions {
  clnorm_items_function stages[CLNORM_NUM_STAGES]; /* indexed by clnorm_stage */
  const char *name;                                /* of the instruction set */
  /* Finds out whether the instructions in use keep subnormal values, given and computed, in the
   * floating-point environment of the caller. */
  bool (*keeps_subnormals)(void);
} clnorm_items_functions;

/* The build defines CLNORM_WITH_... for the instruction sets that it has beside the plain one. */
extern const clnorm_items_functions clnorm__forward_plain;
extern const clnorm_items_functions clnorm__forward_avx2;
extern const clnorm_items_functions clnorm__forward_avx512;

#endif
