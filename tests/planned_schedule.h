/* What a plan of a dense problem hands on: its work, and the schedule that a device's traits make of it. */
#ifndef CLNORM_TESTS_PLANNED_SCHEDULE_H
#define CLNORM_TESTS_PLANNED_SCHEDULE_H

#include "dense.h"
#include "problem.h"
#include "schedule.h"

static inline clnorm_work planned_work(const dense_desc *desc) {
  clnorm_problem problem = dense_problem(desc);
  problem.tensors[CLNORM_Y] = problem.tensors[CLNORM_X];
  return clnorm__work_make(&problem, NULL);
}

static inline clnorm_schedule planned_schedule(const dense_desc *desc,
                                               const clnorm_traits *traits) {
  const clnorm_work work = planned_work(desc);
  return clnorm__schedule_make(&work, traits);
}

#endif
