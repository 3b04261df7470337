/* The item functions of kernels/clnorm_vector.h, compiled once per instruction set. */
#ifndef CLNORM_CPU_FORWARD_H
#define CLNORM_CPU_FORWARD_H

#include "clnorm_forward.h"
#include "pool.h"
#include "schedule.h"

/* Items of a stage, until none are left. */
typedef void (*clnorm_items_function)(const clnorm_buffers *buffers, const clnorm_forward *call,
                                      clnorm_items *items);

/* Indexed by clnorm_stage. */
typedef struct clnorm_items_functions {
  clnorm_items_function stages[CLNORM_NUM_STAGES];
} clnorm_items_functions;

extern const clnorm_items_functions clnorm_forward_plain;
#if defined(__x86_64__)
extern const clnorm_items_functions clnorm_forward_avx2;
extern const clnorm_items_functions clnorm_forward_avx512;
#endif

#endif
