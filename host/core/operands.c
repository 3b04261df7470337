#include "operands.h"

#include "call.h"

const clnorm_operand_row clnorm__operands[CLNORM_NUM_OPERANDS] = {
#define TABLE_ROW(name, kind, uses) {CLNORM_##name, kind, uses},
    CLNORM_OPERAND_LIST(TABLE_ROW)
#undef TABLE_ROW
};

_Static_assert(CLNORM_OPERAND_Y - CLNORM_OPERAND_X == CLNORM_VIEW_Y - CLNORM_VIEW_X &&
                   CLNORM_OPERAND_WEIGHT - CLNORM_OPERAND_X == CLNORM_NUM_VIEWS,
               "tensors stand as in call.views");
_Static_assert(CLNORM_OPERAND_SAVED_INVSTD - CLNORM_OPERAND_WEIGHT ==
                       CLNORM_PARAMETER_SAVED_INVSTD &&
                   CLNORM_OPERAND_WORKSPACE - CLNORM_OPERAND_WEIGHT == CLNORM_NUM_PARAMETERS,
               "channels' values stand as in call.parameters");

int clnorm__operand_of(int32_t role) {
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++)
    if (clnorm__operands[i].role == role) return i;
  return -1;
}

char clnorm__operand_use(int index, int32_t operation, int32_t statistics) {
  const int column = operation == CLNORM_COPY ? 2 : statistics == CLNORM_GIVEN_STATISTICS ? 1 : 0;
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
