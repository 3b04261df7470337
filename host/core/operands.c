#include "operands.h"

#include "call.h"
#include "tensor.h"

const clnorm_operand_row clnorm__operands[CLNORM_NUM_OPERANDS] = {
#define TABLE_ROW(name, kind, uses) {CLNORM_##name, kind, uses},
    CLNORM_OPERAND_LIST(TABLE_ROW)
#undef TABLE_ROW
};

_Static_assert(CLNORM_OPERAND_DBIAS - CLNORM_OPERAND_WEIGHT == CLNORM_PARAMETER_DBIAS &&
                   CLNORM_OPERAND_WORKSPACE - CLNORM_OPERAND_WEIGHT == CLNORM_NUM_PARAMETERS,
               "channels' values stand as in call.parameters");

int clnorm__operand_of(int32_t role) {
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++)
    if (clnorm__operands[i].role == role) return i;
  return -1;
}

clnorm_operand_index clnorm__operand_of_view(int view, int32_t operation) {
  if (view == CLNORM_VIEW_X) return CLNORM_OPERAND_X;
  if (view == CLNORM_VIEW_DY) return CLNORM_OPERAND_DY;
  return operation == CLNORM_BACKWARD ? CLNORM_OPERAND_DX : CLNORM_OPERAND_Y;
}

uint32_t clnorm__gradients_wanted(const clnorm_problem *p) {
  const uint32_t all = CLNORM_GRADIENT_DX | CLNORM_GRADIENT_DWEIGHT | CLNORM_GRADIENT_DBIAS;
  return p->gradients ? p->gradients : all;
}

bool clnorm__gradients_need_x(const clnorm_problem *p) {
  const uint32_t given = CLNORM_GRADIENT_DWEIGHT, batch = given | CLNORM_GRADIENT_DX;
  return clnorm__gradients_wanted(p) & (p->statistics == CLNORM_GIVEN_STATISTICS ? given : batch);
}

bool clnorm__gradients_need_statistics(const clnorm_problem *p) {
  return clnorm__gradients_wanted(p) & (CLNORM_GRADIENT_DX | CLNORM_GRADIENT_DWEIGHT);
}

static char gradient_use(int index, const clnorm_problem *p) {
  const uint32_t bit = index == CLNORM_OPERAND_DX        ? CLNORM_GRADIENT_DX
                       : index == CLNORM_OPERAND_DWEIGHT ? CLNORM_GRADIENT_DWEIGHT
                                                         : CLNORM_GRADIENT_DBIAS;
  if (!(clnorm__gradients_wanted(p) & bit)) return '-';
  return p->accumulate && index != CLNORM_OPERAND_DX ? 'U' : 'W';
}

/* Where there are no values the gradients of parameters are all that is touched. */
static char backward_use(int index, const clnorm_problem *p) {
  const bool empty = clnorm__tensor_count(&p->tensors[CLNORM_X]) == 0;
  const bool saved = index >= CLNORM_OPERAND_SAVED_MEAN && index <= CLNORM_OPERAND_SAVED_INVSTD;
  const char use = clnorm__operands[index].uses[p->statistics == CLNORM_GIVEN_STATISTICS ? 4 : 3];
  if (saved && p->recompute && p->statistics == CLNORM_BATCH_STATISTICS) return '-';
  if (use == 'x') return !empty && clnorm__gradients_need_x(p) ? 'R' : 'r';
  if (use == 'm') return !empty && clnorm__gradients_need_statistics(p) ? 'R' : 'r';
  if (use == 'R') return empty ? 'r' : 'R';
  if (use != 'g') return use;
  return empty && index == CLNORM_OPERAND_DX && gradient_use(index, p) == 'W'
             ? 'w'
             : gradient_use(index, p);
}

char clnorm__operand_use(int index, const clnorm_problem *p) {
  if (p->operation == CLNORM_BACKWARD) return backward_use(index, p);
  const int column = p->operation == CLNORM_COPY                ? 2
                     : p->statistics == CLNORM_GIVEN_STATISTICS ? 1
                                                                : 0;
  return clnorm__operands[index].uses[column];
}

const char *clnorm_role_name(int32_t role) {
  switch (role) {
#define NAME(name, value, text)                                                                    \
  case value:                                                                                      \
    return text;
    CLNORM_ROLE_LIST(NAME)
#undef NAME
  default:
    return "unknown";
  }
}
