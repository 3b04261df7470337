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

/* Name, kind, then what an operation does with it: forward with batch statistics, given statistics; copy; backward with
 * batch statistics, given statistics.
 *   -        there is none
 *   r, R     read if it is there; required
 *   w, W     written if it is there; required
 *   u, U     read and written if it is there; required
 *   s, S     as the schedule needs it: a workspace
 * and of backward, by what the problem asks for (clnorm__operand_use makes them one of those above)
 *   x        read, required where x is needed
 *   m        saved statistics of the batch: read, required where they are needed and not computed again
 *   g        a gradient: written, and read too where it is added to
 * The rows of channels are in the order of call.parameters, and all of them in the order of the kernels' parameters
 * (kernels/call.h, operands.h). */
#define CLNORM_OPERAND_LIST(ROW)                                                                   \
  ROW(X, CLNORM_KIND_TENSOR, "RRRxx")                                                              \
  ROW(Y, CLNORM_KIND_TENSOR, "WWW--")                                                              \
  ROW(DY, CLNORM_KIND_TENSOR, "---RR")                                                             \
  ROW(DX, CLNORM_KIND_TENSOR, "---gg")                                                             \
  ROW(WEIGHT, CLNORM_KIND_CHANNEL, "rr-rr")                                                        \
  ROW(BIAS, CLNORM_KIND_CHANNEL, "rr---")                                                          \
  ROW(RUNNING_MEAN, CLNORM_KIND_CHANNEL, "uR--r")                                                  \
  ROW(RUNNING_VAR, CLNORM_KIND_CHANNEL, "uR--r")                                                   \
  ROW(SAVED_MEAN, CLNORM_KIND_CHANNEL, "ww-mr")                                                    \
  ROW(SAVED_MEAN_LOW, CLNORM_KIND_CHANNEL, "ww-rr")                                                \
  ROW(SAVED_INVSTD, CLNORM_KIND_CHANNEL, "ww-mr")                                                  \
  ROW(DWEIGHT, CLNORM_KIND_CHANNEL, "---gg")                                                       \
  ROW(DBIAS, CLNORM_KIND_CHANNEL, "---gg")                                                         \
  ROW(WORKSPACE, CLNORM_KIND_WORKSPACE, "sssss")

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
/* Which operand a view of a call is of (CLNORM_VIEW_X, ...). */
clnorm_operand_index clnorm__operand_of_view(int view, int32_t operation);
/* What a problem's operation does with an operand: one of - r R w W u U s S. */
char clnorm__operand_use(int index, const clnorm_problem *problem);

/* Bits of clnorm_gradient that a backward problem asks for. */
uint32_t clnorm__gradients_wanted(const clnorm_problem *problem);
/* They need x, and the sums that go with it; invstd, or more of the statistics. */
bool clnorm__gradients_need_x(const clnorm_problem *problem);
bool clnorm__gradients_need_statistics(const clnorm_problem *problem);

#endif
