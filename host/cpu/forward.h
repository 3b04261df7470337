/* The item functions of the vector form, compiled once per instruction set and pair of storages. */
#ifndef CLNORM_CPU_FORWARD_H
#define CLNORM_CPU_FORWARD_H

#include "backend.h"
#include "pool.h"

/* Items of a stage, until none are left. operands: by clnorm_operand_index, where each begins; NULL where absent. */
typedef void (*clnorm_items_function)(void *const *operands, const clnorm_call *call,
                                      clnorm_items *items);

/* What one object has. */
typedef struct clnorm_items_functions {
  /* NULL where it has not the path */
  clnorm_items_function stages[CLNORM_NUM_PATHS][CLNORM_NUM_STAGES];
  /* of the instruction set */
  const char *name;
  /* Finds out whether the instructions in use keep subnormal values, given and computed, in the floating-point
   * environment of the caller. */
  bool (*keeps_subnormals)(void);
} clnorm_items_functions;

#endif
