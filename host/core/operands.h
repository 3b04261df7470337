/*
 * The table of operands: one row for each role. Everything that lists operands walks over it: the checks of a plan,
 * overlap, kernel parameters, both back ends, comparing.
 */
#ifndef CLNORM_CORE_OPERANDS_H
#define CLNORM_CORE_OPERANDS_H

#include <clnorm/clnorm.h>

/* Shape and type: a tensor in storage, one real a channel, bytes. */
typedef enum clnorm_operand_kind {
  CLNORM_KIND_TENSOR,
  CLNORM_KIND_CHANNEL,
  CLNORM_KIND_WORKSPACE
} clnorm_operand_kind;

/* Name, kind, then what an operation does with it: with batch statistics, given statistics, copy.
 *   -        there is none
 *   r, R     read if it is there; required
 *   w, W     written if it is there; required
 *   u        read and written if it is there
 *   s, S     as the schedule needs it: a workspace
 * The rows of tensors are in the order of call.views, those of channels in the order of call.parameters, and all of
 * them in the order of the kernels' parameters (kernels/call.h, operands.h). */
#define CLNORM_OPERAND_LIST(ROW)                                                                   \
  ROW(X, CLNORM_KIND_TENSOR, "RRR")                                                                \
  ROW(Y, CLNORM_KIND_TENSOR, "WWW")                                                                \
  ROW(WEIGHT, CLNORM_KIND_CHANNEL, "rr-")                                                          \
  ROW(BIAS, CLNORM_KIND_CHANNEL, "rr-")                                                            \
  ROW(RUNNING_MEAN, CLNORM_KIND_CHANNEL, "uR-")                                                    \
  ROW(RUNNING_VAR, CLNORM_KIND_CHANNEL, "uR-")                                                     \
  ROW(SAVED_MEAN, CLNORM_KIND_CHANNEL, "ww-")                                                      \
  ROW(SAVED_MEAN_LOW, CLNORM_KIND_CHANNEL, "ww-")                                                  \
  ROW(SAVED_INVSTD, CLNORM_KIND_CHANNEL, "ww-")                                                    \
  ROW(WORKSPACE, CLNORM_KIND_WORKSPACE, "sss")

/* Where an operand stands in arrays of them. */
typedef enum clnorm_operand_index {
#define CLNORM_OPERAND_ENUM(name, kind, uses) CLNORM_OPERAND_##name,
  CLNORM_OPERAND_LIST(CLNORM_OPERAND_ENUM)
#undef CLNORM_OPERAND_ENUM
      CLNORM_NUM_OPERANDS
} clnorm_operand_index;

typedef struct clnorm_operand_row {
  int32_t role;
  clnorm_operand_kind kind;
  const char *uses;
} clnorm_operand_row;

extern const clnorm_operand_row clnorm__operands[CLNORM_NUM_OPERANDS];

/* The row of a role; -1: there is none. */
int clnorm__operand_of(int32_t role);
/* What an operation does with an operand: a letter of the table. */
char clnorm__operand_use(int index, int32_t operation, int32_t statistics);

#endif
