/* All cases of `clnorm verify` on one device: by itself, so that devices can go on side by side. */
#ifndef CLNORM_CLI_VERIFY_DEVICE_H
#define CLNORM_CLI_VERIFY_DEVICE_H

#include <stdatomic.h>

#include "cases.h"
#include "targets.h"
#include "verification.h"

typedef struct clnorm_case_group { /* a suite, or a shape */
  char name[96];
  clnorm_case *cases;
  size_t count;
} clnorm_case_group;

/* What every device is to do. */
typedef struct clnorm_verify_plan {
  clnorm_case_group *groups;
  size_t num_groups, num_cases;
  int64_t threads; /* of the CPU path; 0: all */
  int variant; /* index in CLNORM_VARIANT_CHOICES; one more: each; two more: as the case has it */
} clnorm_verify_plan;

#define CLNORM_VARIANT_CHOICES "auto|channel|split"
#define CLNORM_ALL_VARIANTS 3
#define CLNORM_VARIANT_OF_CASE 4

/* A target of the device: one of its forms, or of the CPU path's instruction sets. */
typedef struct clnorm_verify_subject {
  clnorm_target *target;
  clnorm_case_runner *runner; /* NULL: the target did not open */
  clnorm_totals *totals;      /* by group */
} clnorm_verify_subject;

typedef struct clnorm_verify_device {
  const clnorm_verify_plan *plan;
  clnorm_verify_subject *subjects;
  size_t num_subjects;
  /* what results are compared with: a context of the device's own, since no two threads may use one */
  clnorm_target baseline;
  clnorm_case_runner *baseline_runner;
  clnorm_verification found; /* failures, histogram, not_run */
  /* seen by other threads */
  atomic_size_t cases_done;
  atomic_bool done;
} clnorm_verify_device;

/* Opens the baseline, and runners for the targets that work. What goes wrong is printed, and its exit status
 * returned; close it in any case. */
int clnorm_verify_device_open(clnorm_verify_device *device, const clnorm_verify_plan *plan,
                              clnorm_target *targets, size_t num_targets);
/* Runs all cases. A target that fails is reported, and asked no more; what else goes wrong is the exit status. */
int clnorm_verify_device_run(clnorm_verify_device *device);
void clnorm_verify_device_close(clnorm_verify_device *device);

/* For verify_backward.c, which has cases of backward: a failure to fill in; a case of a type that the device has not;
 * whether a target, of two forms, is the one that takes a case. */
clnorm_failure clnorm_verify_failure(const clnorm_verify_device *d, const char *device,
                                     const clnorm_case *item);
void clnorm_verify_not_run(clnorm_verify_device *d, clnorm_verify_subject *who,
                           const clnorm_case *item, clnorm_totals *totals, const char *why);
bool clnorm_verify_takes(const clnorm_target *target, const clnorm_case *item);
/* One case of backward on all subjects, beside the baseline and long double formulas; an exit status. */
int clnorm_verify_backward(clnorm_verify_device *d, const clnorm_case *item, size_t group);

#endif
