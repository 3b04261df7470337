/* The item functions of kernels/clnorm_vector.h, compiled once per instruction set. */
#ifndef CLNORM_CPU_FORWARD_H
#define CLNORM_CPU_FORWARD_H

#include "clnorm_forward.h"
#include "schedule.h"

typedef void (*clnorm_item_function)(const clnorm_buffers *buffers, const clnorm_forward *call,
                                     clnorm_ulong item);

/* Indexed by clnorm_stage. */
typedef struct clnorm_item_functions {
  clnorm_item_function stages[CLNORM_NUM_STAGES];
} clnorm_item_functions;

extern const clnorm_item_functions clnorm_forward_plain;
#if defined(__x86_64__)
extern const clnorm_item_functions clnorm_forward_avx2;
extern const clnorm_item_functions clnorm_forward_avx512;
#endif

#endif
