/* Rows of options in which every two values of different options meet. */
#ifndef CLNORM_CASES_PAIRS_H
#define CLNORM_CASES_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

enum { CLNORM_MAX_OPTIONS = 12, CLNORM_MAX_VALUES = 16 };

/* One value for each option, from 0 on. */
typedef struct clnorm_row {
  int values[CLNORM_MAX_OPTIONS];
} clnorm_row;

typedef struct clnorm_pairs {
  /* How many values an option has; the last `derived` of them follow from the others. */
  int options, derived, sizes[CLNORM_MAX_OPTIONS];
  /* Fills what follows from the others. False: there is no such row */
  bool (*complete)(clnorm_row *row);
  /* Rows of one number share what is costly; rows of a new number are taken where few others bring as much */
  unsigned (*costs)(const clnorm_row *row);
  uint64_t random;
  bool met[CLNORM_MAX_OPTIONS][CLNORM_MAX_VALUES][CLNORM_MAX_OPTIONS][CLNORM_MAX_VALUES];
  bool paid[4096]; /* by costs(row) */
} clnorm_pairs;

/* The next row, in the same sequence for the same `random`; false where every pair that a row can have has met. What
 * no row of some hundred tries has counts as none that a row can have: tests/test_place.c looks after that. */
bool clnorm_pairs_next(clnorm_pairs *pairs, clnorm_row *row);

#endif
