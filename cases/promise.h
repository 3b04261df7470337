/*
 * Which results are promised to have the same bits on a device that flushes subnormal values.
 *
 * Such a device may take any operand that is subnormal for a zero, and any result; which of them, and with
 * which sign, is its own affair. A result is inside the promise if it has the same bits whatever the device
 * does. That is found from the data: every value of the computation is kept as the range that it may lie in.
 * A range is one value until something subnormal comes in, and often is one value again, since a sum rounds
 * away what is tiny. Ranges are ends of monotone operations, so no result of any device is missed; results
 * that are inside may, seldom, be taken for outside.
 *
 * Results at or below the smallest normal number in magnitude count as subnormal: some devices flush before
 * they round.
 *
 * Doubles are kept by every device that has them, as OpenCL demands: of a problem in double only what is stored as a
 * subnormal float is outside.
 */
#ifndef CLNORM_CASES_PROMISE_H
#define CLNORM_CASES_PROMISE_H

#include "reference.h"

/* Whether all results of a problem are promised on both devices: they keep subnormal values. */
bool clnorm_promise_kept(const clnorm_context *a, const clnorm_context *b);

/* Keeps the problem's arrays, which must outlive it. NULL if there is no memory. */
typedef struct clnorm_promise clnorm_promise;
clnorm_promise *clnorm_promise_create(const clnorm_case_problem *problem);
void clnorm_promise_destroy(clnorm_promise *promise);

/* Is element `index` of an output inside? *value, if not NULL, is then its value. Not of problems in double. */
bool clnorm_promise_holds(const clnorm_promise *promise, clnorm_output output, int64_t index,
                          double *value);

/* Elements outside the promise, and how many of them differ. */
typedef struct clnorm_outside {
  int64_t elements, differing;
} clnorm_outside;

/* Compares two results of an output. Elements outside the promise are counted, and values[i] becomes
 * expected[i] there: what is then left to compare is inside. */
clnorm_outside clnorm_promise_separate(const clnorm_promise *promise, clnorm_output output,
                                       const double *expected, double *values);

#endif
