#include "verification.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "messages.h"

#define MAX_FAILURES 10000 /* more than anyone reads; a broken device must not fill the memory */
#define MAX_PRINTED 20

void clnorm_print_place(const clnorm_difference *d, char text[CLNORM_PLACE_SIZE]) {
  size_t n = 0;
  text[0] = 0;
  for (int i = 0; i < CLNORM_MAX_RANK && d->first[i] >= 0; i++)
    n += (size_t)snprintf(text + n, CLNORM_PLACE_SIZE - n, "%s%" PRId64, i ? "," : "", d->first[i]);
}

static int rank_of(const clnorm_failure *failure) { return failure->rank ? failure->rank : 4; }

void clnorm_add_named_difference(clnorm_totals *totals, int64_t *histogram, clnorm_failure *failure,
                                 const char *name, const char *place,
                                 const clnorm_difference *difference) {
  if (difference->differing_elements == 0) return;
  if (!failure->first[0])
    snprintf(failure->first, sizeof failure->first, "%s[%s]: %.17g against %.17g", name, place,
             difference->first_b, difference->first_a);
  failure->differing_elements += difference->differing_elements;
  totals->differing_elements += difference->differing_elements;
  if (difference->max_ulp > failure->max_ulp) failure->max_ulp = difference->max_ulp;
  if (difference->max_ulp > totals->max_ulp) totals->max_ulp = difference->max_ulp;
  for (int bin = 1; bin < CLNORM_HISTOGRAM_BINS; bin++)
    histogram[bin] += difference->histogram[bin];
}

void clnorm_add_difference(clnorm_totals *totals, int64_t *histogram, clnorm_failure *failure,
                           clnorm_output output, const clnorm_difference *difference) {
  char place[CLNORM_PLACE_SIZE];
  if (output == CLNORM_OUTPUT_Y)
    clnorm_print_place(difference, place);
  else
    snprintf(place, sizeof place, "%" PRId64, difference->first[1]);
  clnorm_add_named_difference(totals, histogram, failure, clnorm_output_name(output), place,
                              difference);
}

void clnorm_separate_output(const clnorm_promise *promise, clnorm_output output,
                            const double *expected, double *values, clnorm_outside *outside) {
  if (!promise) return;
  const clnorm_outside found = clnorm_promise_separate(promise, output, expected, values);
  outside->elements += found.elements;
  outside->differing += found.differing;
}

void clnorm_add_outside(clnorm_totals *totals, clnorm_outside outside) {
  totals->not_promised_cases += outside.elements > 0;
  totals->not_promised.elements += outside.elements;
  totals->not_promised.differing += outside.differing;
}

bool clnorm_add_not_run(clnorm_verification *verification, const char *device, const char *dtype,
                        const char *reason) {
  const size_t count = verification->num_not_run;
  for (size_t i = 0; i < count; i++) {
    clnorm_not_run *known = &verification->not_run[i];
    if (strcmp(known->device, device) != 0 || strcmp(known->dtype, dtype) != 0) continue;
    known->cases++;
    return true;
  }
  clnorm_not_run *more = realloc(verification->not_run, (count + 1) * sizeof *more);
  if (!more) return false;
  verification->not_run = more;
  more[count] = (clnorm_not_run){.device = device, .cases = 1};
  snprintf(more[count].dtype, sizeof more[count].dtype, "%s", dtype);
  snprintf(more[count].reason, sizeof more[count].reason, "%.300s", reason);
  verification->num_not_run++;
  return true;
}

void clnorm_add_failure(clnorm_verification *verification, const clnorm_failure *failure) {
  if (verification->num_failures == MAX_FAILURES) return;
  if (verification->num_failures == verification->capacity) {
    const size_t capacity = verification->capacity ? 2 * verification->capacity : 16;
    clnorm_failure *failures = realloc(verification->failures, capacity * sizeof *failures);
    if (!failures) {
      clnorm_complain("no memory to keep the failure on %s: %s", failure->device, failure->first);
      return;
    }
    verification->failures = failures;
    verification->capacity = capacity;
  }
  verification->failures[verification->num_failures++] = *failure;
}

void clnorm_add_totals(clnorm_totals *sum, const clnorm_totals *part) {
  sum->cases += part->cases;
  sum->not_run += part->not_run;
  sum->differing_elements += part->differing_elements;
  if (part->max_ulp > sum->max_ulp) sum->max_ulp = part->max_ulp;
  if (part->worst_bound_ratio > sum->worst_bound_ratio)
    sum->worst_bound_ratio = part->worst_bound_ratio;
  sum->not_promised_cases += part->not_promised_cases;
  sum->not_promised.elements += part->not_promised.elements;
  sum->not_promised.differing += part->not_promised.differing;
  sum->seconds += part->seconds;
}

/* The baseline's own failures are found beside every device. */
static bool is_known(const clnorm_verification *found, const clnorm_failure *failure) {
  if (strcmp(failure->device, failure->against) != 0) return false;
  for (size_t i = 0; i < found->num_failures; i++) {
    const clnorm_failure *f = &found->failures[i];
    if (strcmp(f->device, failure->device) == 0 && strcmp(f->options, failure->options) == 0 &&
        memcmp(f->dims, failure->dims, sizeof f->dims) == 0)
      return true;
  }
  return false;
}

bool clnorm_add_found(clnorm_verification *sum, const clnorm_verification *part) {
  const size_t count = sum->num_not_run + part->num_not_run;
  clnorm_not_run *not_run = realloc(sum->not_run, (count + 1) * sizeof *not_run);
  if (!not_run) return false;
  sum->not_run = not_run;
  for (size_t i = 0; i < part->num_not_run; i++) not_run[sum->num_not_run++] = part->not_run[i];
  for (size_t i = 0; i < part->num_failures; i++)
    if (!is_known(sum, &part->failures[i])) clnorm_add_failure(sum, &part->failures[i]);
  for (int bin = 0; bin < CLNORM_HISTOGRAM_BINS; bin++) sum->histogram[bin] += part->histogram[bin];
  return true;
}

void clnorm_verification_free(clnorm_verification *verification) {
  free(verification->failures);
  free(verification->not_run);
  memset(verification, 0, sizeof *verification);
}

static void failure_json(clnorm_json *json, const clnorm_failure *failure) {
  clnorm_json_object(json, NULL);
  clnorm_json_text(json, "device", failure->device);
  clnorm_json_text(json, "against", failure->against);
  clnorm_json_array(json, "shape");
  for (int i = 0; i < rank_of(failure); i++) clnorm_json_integer(json, NULL, failure->dims[i]);
  clnorm_json_end_array(json);
  clnorm_json_text(json, "mode", failure->mode);
  clnorm_json_text(json, "dtype", failure->dtype);
  clnorm_json_text(json, "layout", failure->layout);
  clnorm_json_text(json, "options", failure->options);
  clnorm_json_integer(json, "differing_elements", failure->differing_elements);
  clnorm_json_unsigned(json, "max_ulp", failure->max_ulp);
  clnorm_json_text(json, "first_difference", failure->first);
  clnorm_json_end_object(json);
}

static void not_run_json(clnorm_json *json, const clnorm_verification *verification) {
  clnorm_json_array(json, "not_run");
  for (size_t i = 0; i < verification->num_not_run; i++) {
    const clnorm_not_run *missing = &verification->not_run[i];
    clnorm_json_object(json, NULL);
    clnorm_json_text(json, "device", missing->device);
    clnorm_json_text(json, "dtype", missing->dtype);
    clnorm_json_integer(json, "cases", missing->cases);
    clnorm_json_text(json, "reason", missing->reason);
    clnorm_json_end_object(json);
  }
  clnorm_json_end_array(json);
}

void clnorm_verification_json(clnorm_json *json, const clnorm_verification *verification) {
  const clnorm_totals *totals = &verification->totals;
  clnorm_json_array(json, "devices");
  for (size_t i = 0; i < verification->num_devices; i++)
    clnorm_json_text(json, NULL, verification->devices[i]);
  clnorm_json_end_array(json);
  clnorm_json_text(json, "baseline", verification->baseline);
  clnorm_json_integer(json, "cases", totals->cases);
  clnorm_json_integer(json, "differing_elements", totals->differing_elements);
  clnorm_json_unsigned(json, "max_ulp", totals->max_ulp);
  clnorm_json_number(json, "worst_bound_ratio", totals->worst_bound_ratio);
  clnorm_json_object(json, "not_promised");
  clnorm_json_integer(json, "cases", totals->not_promised_cases);
  clnorm_json_integer(json, "elements", totals->not_promised.elements);
  clnorm_json_integer(json, "differing_elements", totals->not_promised.differing);
  clnorm_json_end_object(json);
  not_run_json(json, verification);
  clnorm_json_array(json, "failures");
  for (size_t i = 0; i < verification->num_failures; i++)
    failure_json(json, &verification->failures[i]);
  clnorm_json_end_array(json);
}

static void print_histogram(const int64_t *histogram) {
  printf("differences in ulp:");
  for (int bin = 1; bin < CLNORM_HISTOGRAM_BINS - 1; bin++) {
    if (histogram[bin] == 0) continue;
    const int64_t low = (int64_t)1 << (bin - 1), high = 2 * low - 1;
    if (low == high)
      printf("  %" PRId64 ": %" PRId64, low, histogram[bin]);
    else
      printf("  %" PRId64 "-%" PRId64 ": %" PRId64, low, high, histogram[bin]);
  }
  if (histogram[CLNORM_HISTOGRAM_BINS - 1])
    printf("  NaN against a number: %" PRId64, histogram[CLNORM_HISTOGRAM_BINS - 1]);
  putchar('\n');
}

void clnorm_verification_print_failures(const clnorm_verification *verification) {
  const size_t printed =
      verification->num_failures < MAX_PRINTED ? verification->num_failures : MAX_PRINTED;
  for (size_t i = 0; i < printed; i++) {
    const clnorm_failure *f = &verification->failures[i];
    printf("FAILED %s against %s  ", f->device, f->against);
    for (int d = 0; d < rank_of(f); d++) printf("%s%" PRId64, d ? "x" : "", f->dims[d]);
    printf(" %s: %" PRId64 " differ, max %" PRIu64 " ulp, first %s  (%s)\n", f->mode,
           f->differing_elements, f->max_ulp, f->first, f->options);
  }
  if (printed < verification->num_failures)
    printf("... and %zu more\n", verification->num_failures - printed);
  if (verification->totals.differing_elements > 0) print_histogram(verification->histogram);
}

void clnorm_verification_print_verdict(const clnorm_verification *verification) {
  const clnorm_totals *totals = &verification->totals;
  if (totals->not_promised_cases > 0)
    printf("not promised: %" PRId64 " elements in %" PRId64
           " %s depend on subnormal values, which a device flushes to zero (%" PRId64 " differ)\n",
           totals->not_promised.elements, totals->not_promised_cases,
           totals->not_promised_cases == 1 ? "case" : "cases", totals->not_promised.differing);
  for (size_t i = 0; i < verification->num_not_run; i++) {
    const clnorm_not_run *missing = &verification->not_run[i];
    printf("NOT RUN: %" PRId64 " %s of %s on %s: %s\n", missing->cases,
           missing->cases == 1 ? "case" : "cases", missing->dtype, missing->device,
           missing->reason);
  }
  if (verification->num_failures == 0)
    printf("equal: ");
  else
    printf("FAILED: %zu failures in ", verification->num_failures);
  const size_t devices = verification->num_devices - verification->num_failed;
  printf("%" PRId64 " %s on %zu %s, %" PRId64 " differing elements, worst error %.3g of its bound",
         totals->cases, totals->cases == 1 ? "case" : "cases", devices,
         devices == 1 ? "device" : "devices", totals->differing_elements,
         totals->worst_bound_ratio);
  if (totals->not_run > 0) printf("; %" PRId64 " not run", totals->not_run);
  if (verification->num_failed)
    printf("; %zu %s FAILED", verification->num_failed,
           verification->num_failed == 1 ? "device" : "devices");
  putchar('\n');
}
