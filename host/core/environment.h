/* The floating-point environment. What the library computes does not depend on the caller's rounding mode
 * or flushing of subnormal values. */
#ifndef CLNORM_CORE_ENVIRONMENT_H
#define CLNORM_CORE_ENVIRONMENT_H

#if !defined(__x86_64__)
#include <fenv.h>
#endif

/* Where SSE computes everything, its register is all there is to keep. */
typedef struct clnorm_environment {
#if !defined(__x86_64__)
  fenv_t all;
#endif
#if defined(__SSE2__)
  unsigned sse;
#endif
} clnorm_environment;

/* From here on the processor's defaults hold on this thread, until the caller's environment is put back.
 * Compilers move arithmetic across both: call a function in another file in between. */
clnorm_environment clnorm__environment_enter(void);
void clnorm__environment_leave(clnorm_environment saved);

/* a - b and a / b, and their nearest floats, as by default in any environment. */
double clnorm__default_difference(double a, double b);
double clnorm__default_quotient(double a, double b);
float clnorm__default_float(double a);

#endif
