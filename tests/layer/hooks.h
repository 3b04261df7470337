/*
 * Allocations and threads of everything that is linked into a test, the static library included, counted
 * and failed. The linker's --wrap does it (faults.cmake), so a driver's own are not seen.
 */
#ifndef CLNORM_TESTS_HOOKS_H
#define CLNORM_TESTS_HOOKS_H

#include <stdatomic.h>
#include <stdbool.h>

typedef enum hooks_kind { HOOKS_ALLOCATION, HOOKS_THREAD, HOOKS_NUM_KINDS } hooks_kind;

typedef struct hooks_control {
  /* The fail_at-th call of the kind fails that is made while armed; 0: none. */
  atomic_bool armed;
  hooks_kind kind;
  long fail_at;
  atomic_long calls[HOOKS_NUM_KINDS]; /* made while armed */
  _Atomic(const char *) failed;       /* the function that failed; NULL: none yet */
  atomic_long live;                   /* allocated, less freed; never reset */
} hooks_control;

extern hooks_control hooks;

/* Counts to zero, nothing armed; the fail_at-th call of that kind will fail. */
void hooks_reset(hooks_kind kind, long fail_at);

#endif
