/* What a verification found; the part of the reports that `run --verify` and `verify` share. */
#ifndef CLNORM_CLI_VERIFICATION_H
#define CLNORM_CLI_VERIFICATION_H

#include <clnorm/clnorm.h>

#include "json.h"
#include "promise.h"

#define CLNORM_LABEL_SIZE 192

/* One case on one device that is not as it must be. */
typedef struct clnorm_failure {
  char device[CLNORM_LABEL_SIZE];
  const char *against; /* the other side of the comparison; borrowed */
  /* of x in logical order; rank 0 stands for 4 */
  int32_t rank;
  int64_t dims[CLNORM_MAX_RANK];
  const char *mode; /* "train" or "eval" */
  /* "f16", or "f16->f32" where x and y differ; of the layouts likewise */
  char dtype[40], layout[40];
  char options[320];
  int64_t differing_elements;
  uint64_t max_ulp;
  char first[320]; /* the first difference, or what else is wrong */
} clnorm_failure;

/* Cases of a type that a device does not have. */
typedef struct clnorm_not_run {
  const char *device; /* borrowed */
  char dtype[40];
  int64_t cases;
  char reason[320]; /* of the first */
} clnorm_not_run;

/* Totals over any number of cases. */
typedef struct clnorm_totals {
  int64_t cases, differing_elements;
  int64_t not_run; /* not among cases */
  uint64_t max_ulp;
  double worst_bound_ratio;
  /* With elements that depend on subnormal values, on a device that flushes. */
  int64_t not_promised_cases;
  clnorm_outside not_promised; /* those elements (promise.h) */
  double seconds;
} clnorm_totals;

typedef struct clnorm_verification {
  size_t num_devices, num_failed; /* devices that failed on the way are among them */
  const char **devices;           /* labels; borrowed */
  const char *baseline;           /* label of what they were compared with; borrowed */
  clnorm_totals totals;
  int64_t histogram[CLNORM_HISTOGRAM_BINS]; /* of differing elements; see clnorm_difference */
  size_t num_not_run;
  clnorm_not_run *not_run;
  size_t num_failures, capacity;
  clnorm_failure *failures; /* the first MAX_FAILURES of them */
} clnorm_verification;

#define CLNORM_PLACE_SIZE 112

/* "n,c,h,w" of the first difference, as many as its tensor has dimensions. */
void clnorm_print_place(const clnorm_difference *difference, char text[CLNORM_PLACE_SIZE]);
/* One output of a run against the same output of the CPU path, added to *totals and *histogram.
 * failure->first is set by the first output that differs. */
void clnorm_add_difference(clnorm_totals *totals, int64_t *histogram, clnorm_failure *failure,
                           clnorm_output output, const clnorm_difference *difference);
/* The same of an output of any name, which differs first at `place`. */
void clnorm_add_named_difference(clnorm_totals *totals, int64_t *histogram, clnorm_failure *failure,
                                 const char *name, const char *place,
                                 const clnorm_difference *difference);
/* What one output has outside the promise, added to *outside; values[i] becomes expected[i] there. promise
 * NULL: nothing is. */
void clnorm_separate_output(const clnorm_promise *promise, clnorm_output output,
                            const double *expected, double *values, clnorm_outside *outside);
/* All outputs of one case, added to *totals. */
void clnorm_add_outside(clnorm_totals *totals, clnorm_outside outside);
/* Counts a case that is not run, by device and type. False if there is no memory. */
bool clnorm_add_not_run(clnorm_verification *verification, const char *device, const char *dtype,
                        const char *reason);
/* Keeps a copy. */
void clnorm_add_failure(clnorm_verification *verification, const clnorm_failure *failure);
void clnorm_add_totals(clnorm_totals *sum, const clnorm_totals *part);
/* Failures, histogram and not_run of a part, which keeps its own; totals are added by themselves. False if there is no
 * memory. */
bool clnorm_add_found(clnorm_verification *sum, const clnorm_verification *part);
void clnorm_verification_free(clnorm_verification *verification);

/* devices, baseline, cases, differing_elements, max_ulp, worst_bound_ratio, not_promised, not_run, failures; inside
 * an object that the caller opened. */
void clnorm_verification_json(clnorm_json *json, const clnorm_verification *verification);
/* One line each, then the histogram if anything differs. */
void clnorm_verification_print_failures(const clnorm_verification *verification);
/* The last line: equal or not. */
void clnorm_verification_print_verdict(const clnorm_verification *verification);

#endif
