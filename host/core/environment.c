#include "environment.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#define SSE_DEFAULTS 0x1f80u /* no exceptions, to nearest, nothing flushed */

clnorm_environment clnorm__environment_enter(void) {
  clnorm_environment saved;
#if !defined(__x86_64__)
  fegetenv(&saved.all);
  fesetenv(FE_DFL_ENV);
#endif
#if defined(__SSE2__)
  saved.sse = _mm_getcsr();
  _mm_setcsr(SSE_DEFAULTS);
#endif
  return saved;
}

void clnorm__environment_leave(clnorm_environment saved) {
#if !defined(__x86_64__)
  fesetenv(&saved.all);
#endif
#if defined(__SSE2__)
  _mm_setcsr(saved.sse);
#endif
}

/* Volatile operands and results keep the arithmetic where it is written. */
#define IN_DEFAULTS(type, expression)                                                              \
  const clnorm_environment saved = clnorm__environment_enter();                                    \
  const volatile type result = (expression);                                                       \
  clnorm__environment_leave(saved);                                                                \
  return result

double clnorm__default_difference(double a, double b) {
  const volatile double first = a, second = b;
  IN_DEFAULTS(double, first - second);
}

double clnorm__default_quotient(double a, double b) {
  const volatile double first = a, second = b;
  IN_DEFAULTS(double, first / second);
}

float clnorm__default_float(double a) {
  const volatile double value = a;
  IN_DEFAULTS(float, (float)value);
}
