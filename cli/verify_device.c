#include "verify_device.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
#include "messages.h"
#include "text.h"

/* A case with its operands, what the baseline made of it and how good that is. */
typedef struct trial {
  const clnorm_case *item;
  clnorm_case_operands operands;
  clnorm_reference *reference;
  clnorm_promise *promise; /* made for the first target that flushes subnormal values */
  clnorm_case_outputs outputs;
  double ratio;
} trial;

/* ---- Judging one run ------------------------------------------------------------------------- */

clnorm_failure clnorm_verify_failure(const clnorm_verify_device *d, const char *device,
                                     const clnorm_case *item) {
  clnorm_failure failure = {.mode = clnorm_case_mode(item), .against = d->baseline.label};
  snprintf(failure.device, sizeof failure.device, "%s", device);
  memcpy(failure.dims, item->dims, sizeof item->dims);
  snprintf(failure.dtype, sizeof failure.dtype, "%s", clnorm_case_dtype(item).text);
  snprintf(failure.layout, sizeof failure.layout, "%s", clnorm_case_layout(item).text);
  clnorm_case_describe(item, failure.options, sizeof failure.options);
  return failure;
}

/* Worst ratio of one output; failure->first is set if it is beyond its bound, or not exact. */
static double judge_by_reference(const trial *t, clnorm_output output, const double *values,
                                 clnorm_failure *failure) {
  int64_t at;
  const double ratio =
      clnorm_reference_check(t->reference, output, values, &at) / clnorm_case_slack(t->item);
  const bool inexact = clnorm_case_exact(t->item, output) &&
                       clnorm_reference_unequal(t->reference, output, values) > 0;
  if (failure->first[0]) return ratio;
  if (ratio > 1)
    snprintf(failure->first, sizeof failure->first,
             "%s: error %.3g times its bound at element %" PRId64, clnorm_output_name(output),
             ratio, at);
  else if (inexact)
    snprintf(failure->first, sizeof failure->first, "%s: not the exact result",
             clnorm_output_name(output));
  return ratio;
}

static double larger(double a, double b) { return a > b ? a : b; }

/* The baseline's own outputs against the reference. */
static void judge_baseline(clnorm_verify_device *d, trial *t) {
  clnorm_failure failure = clnorm_verify_failure(d, d->baseline.label, t->item);
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++)
    if (t->outputs.counts[o] > 0)
      t->ratio =
          larger(t->ratio, judge_by_reference(t, (clnorm_output)o, t->outputs.values[o], &failure));
  if (failure.first[0]) clnorm_add_failure(&d->found, &failure);
}

/* A subject's outputs against the baseline's, as far as they are promised (promise NULL: all of them); the
 * reference is asked again where bits differ. False if there is no memory. */
static bool judge(clnorm_verify_device *d, const trial *t, const clnorm_promise *promise,
                  const clnorm_case_outputs *outputs, clnorm_totals *totals,
                  clnorm_failure *failure) {
  clnorm_outside outside = {0, 0};
  bool good = true;
  totals->worst_bound_ratio = larger(totals->worst_bound_ratio, t->ratio);
  for (int o = 0; o < CLNORM_NUM_OUTPUTS; o++) {
    const clnorm_output output = (clnorm_output)o;
    const clnorm_tensor tensor = clnorm_case_problem_output(&t->operands.problem, output);
    clnorm_difference difference;
    if (t->outputs.counts[o] == 0) continue;
    clnorm_separate_output(promise, output, t->outputs.values[o], outputs->values[o], &outside);
    good =
        clnorm_case_compare(&tensor, t->outputs.values[o], outputs->values[o], &difference) && good;
    clnorm_add_difference(totals, d->found.histogram, failure, output, &difference);
    if (difference.differing_elements > 0)
      totals->worst_bound_ratio = larger(
          totals->worst_bound_ratio, judge_by_reference(t, output, outputs->values[o], failure));
  }
  clnorm_add_outside(totals, outside);
  return good;
}

/* What is promised of this case: all of it, *promise NULL, unless the device or the baseline flushes
 * subnormal values. False if there is no memory. */
static bool find_promise(const clnorm_verify_device *d, const clnorm_verify_subject *who, trial *t,
                         const clnorm_promise **promise) {
  const bool kept = clnorm_promise_kept(who->target->context, d->baseline.context);
  if (!kept && !t->promise) t->promise = clnorm_promise_create(&t->operands.problem);
  *promise = kept ? NULL : t->promise;
  return kept || t->promise;
}

static bool device_failed(clnorm_status status) {
  return clnorm_exit_status(status) == CLNORM_EXIT_DEVICE;
}

static void describe_failure(const clnorm_case *item, const char *why, clnorm_message *message) {
  char text[320];
  clnorm_case_describe(item, text, sizeof text);
  clnorm_refuse(message, "failed on %s %s %s: %.1000s", clnorm_shape_text_of(item->dims).text,
                clnorm_case_mode(item), text, why);
}

/* ---- Running --------------------------------------------------------------------------------- */

/* The device does not have the type. */
void clnorm_verify_not_run(clnorm_verify_device *d, clnorm_verify_subject *who,
                           const clnorm_case *item, clnorm_totals *totals, const char *why) {
  totals->not_run++;
  if (!clnorm_add_not_run(&d->found, who->target->label, clnorm_case_dtype(item).text, why))
    clnorm_target_give_up(who->target, "no host memory to keep what is not run");
}

/* A device that fails is asked no more. */
static void run_subject(clnorm_verify_device *d, clnorm_verify_subject *who, trial *t,
                        const clnorm_case *item, clnorm_totals *totals) {
  clnorm_case_outputs outputs;
  clnorm_status status;
  clnorm_message why, what;
  const clnorm_promise *promise;
  clnorm_failure failure = clnorm_verify_failure(d, who->target->label, item);
  const double start = clnorm_now();
  const clnorm_case_result result =
      clnorm_case_run(who->runner, item, &t->operands.problem, &outputs, &status, &why);
  totals->seconds += clnorm_now() - start;
  if (result == CLNORM_CASE_FAILED && status == CLNORM_ERROR_UNSUPPORTED) {
    clnorm_verify_not_run(d, who, item, totals, why.text);
    return;
  }
  totals->cases++;
  if (result == CLNORM_CASE_FAILED && device_failed(status)) {
    describe_failure(item, why.text, &what);
    clnorm_target_give_up(who->target, "%s", what.text);
  } else if (result != CLNORM_CASE_RAN)
    snprintf(failure.first, sizeof failure.first, "%.300s", why.text);
  else if (!find_promise(d, who, t, &promise))
    clnorm_target_give_up(who->target, "no host memory to find out what is promised");
  else if (!judge(d, t, promise, &outputs, totals, &failure))
    clnorm_target_give_up(who->target, "no host memory to compare");
  if (failure.first[0]) clnorm_add_failure(&d->found, &failure);
  clnorm_case_outputs_free(&outputs);
}

/* Where a device is opened in both forms, each case is for one of them. */
bool clnorm_verify_takes(const clnorm_target *target, const clnorm_case *item) {
  if (target->form == CLNORM_FORM_AUTO) return true;
  return item->form == CLNORM_FORM_AUTO ? target->by_rule : item->form == target->form;
}

/* One subject, in every variant asked for. */
static void run_variants(clnorm_verify_device *d, clnorm_verify_subject *who, trial *t,
                         clnorm_totals *totals) {
  const int chosen = d->plan->variant;
  const bool all = chosen == CLNORM_ALL_VARIANTS;
  const int first = all ? CLNORM_CUT_CHANNEL : 0, last = all ? CLNORM_CUT_SPLIT : 0;
  for (int v = first; v <= last && clnorm_target_works(who->target); v++) {
    clnorm_case item = *t->item;
    if (chosen != CLNORM_VARIANT_OF_CASE) item.variant = (clnorm_cut)(all ? v : chosen);
    t->operands.problem.desc.cut = item.variant;
    run_subject(d, who, t, &item, totals);
  }
}

static int run_baseline(clnorm_verify_device *d, trial *t) {
  clnorm_status status;
  clnorm_message why, what;
  const clnorm_case_result result = clnorm_case_run(
      d->baseline_runner, t->item, &t->operands.problem, &t->outputs, &status, &why);
  if (result == CLNORM_CASE_FAILED) {
    describe_failure(t->item, why.text, &what);
    clnorm_complain("%s: %s", d->baseline.label, what.text);
    return CLNORM_EXIT_DEVICE;
  }
  if (result == CLNORM_CASE_BROKEN) {
    clnorm_failure failure = clnorm_verify_failure(d, d->baseline.label, t->item);
    snprintf(failure.first, sizeof failure.first, "%.300s", why.text);
    clnorm_add_failure(&d->found, &failure);
  }
  judge_baseline(d, t);
  return CLNORM_EXIT_GOOD;
}

static int run_case(clnorm_verify_device *d, const clnorm_case *item, size_t group_index) {
  trial t = {.item = item};
  int status = CLNORM_EXIT_DEVICE;
  if (item->backward) return clnorm_verify_backward(d, item, group_index);
  if (!clnorm_case_operands_make(item, &t.operands)) goto no_memory;
  t.reference = clnorm_reference_create(&t.operands.problem);
  if (!t.reference) goto no_memory;
  status = run_baseline(d, &t);
  for (size_t i = 0; i < d->num_subjects && !status; i++)
    if (clnorm_verify_takes(d->subjects[i].target, item))
      run_variants(d, &d->subjects[i], &t, &d->subjects[i].totals[group_index]);
  goto done;
no_memory:
  clnorm_complain("no host memory for %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64, item->dims[0],
                  item->dims[1], item->dims[2], item->dims[3]);
done:
  clnorm_case_outputs_free(&t.outputs);
  clnorm_promise_destroy(t.promise);
  clnorm_reference_destroy(t.reference);
  clnorm_case_operands_free(&t.operands);
  return status;
}

static bool some_work(const clnorm_verify_device *d) {
  for (size_t i = 0; i < d->num_subjects; i++)
    if (clnorm_target_works(d->subjects[i].target)) return true;
  return false;
}

int clnorm_verify_device_run(clnorm_verify_device *d) {
  const clnorm_verify_plan *plan = d->plan;
  int status = CLNORM_EXIT_GOOD;
  for (size_t g = 0; g < plan->num_groups && !status; g++)
    for (size_t i = 0; i < plan->groups[g].count && !status && some_work(d); i++) {
      status = run_case(d, &plan->groups[g].cases[i], g);
      atomic_fetch_add(&d->cases_done, 1);
    }
  atomic_store(&d->done, true);
  return status;
}

/* ---- Opening --------------------------------------------------------------------------------- */

int clnorm_verify_device_open(clnorm_verify_device *d, const clnorm_verify_plan *plan,
                              clnorm_target *targets, size_t num_targets) {
  const int status = clnorm_target_open_baseline(NULL, plan->threads, &d->baseline);
  if (status) return status;
  d->plan = plan;
  d->baseline_runner = clnorm_case_runner_create(d->baseline.context);
  d->subjects = calloc(num_targets, sizeof *d->subjects);
  bool good = d->baseline_runner && d->subjects;
  for (size_t i = 0; i < num_targets && good; i++) {
    clnorm_verify_subject *who = &d->subjects[d->num_subjects++];
    who->target = &targets[i];
    if (who->target->context) who->runner = clnorm_case_runner_create(who->target->context);
    who->totals = calloc(plan->num_groups, sizeof *who->totals);
    good = (who->runner || !who->target->context) && who->totals;
  }
  if (!good) clnorm_complain("no memory");
  return good ? CLNORM_EXIT_GOOD : CLNORM_EXIT_DEVICE;
}

void clnorm_verify_device_close(clnorm_verify_device *d) {
  for (size_t i = 0; i < d->num_subjects; i++) {
    clnorm_case_runner_destroy(d->subjects[i].runner);
    free(d->subjects[i].totals);
  }
  free(d->subjects);
  clnorm_case_runner_destroy(d->baseline_runner);
  clnorm_target_close(&d->baseline);
  clnorm_verification_free(&d->found);
}
