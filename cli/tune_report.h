/* What `clnorm tune` measured and chose on one device, and how it is told. */
#ifndef CLNORM_CLI_TUNE_REPORT_H
#define CLNORM_CLI_TUNE_REPORT_H

#include "json.h"
#include "measure.h"
#include "targets.h"

#define CLNORM_TUNE_MAX_ROWS 64
#define CLNORM_TUNE_MAX_NOTES 8
#define CLNORM_TUNE_SPLIT_NEVER 0.001 /* the smallest split_below */

/* One comparison: the parameter it speaks for, and the two ways. */
typedef struct clnorm_tune_row {
  const char *parameter; /* "form", "stream_bytes", "train_stream_bytes", "split_below" */
  const char *ways[2];
  clnorm_bench_op op;
  int64_t dims[4];
  clnorm_comparison times;
} clnorm_tune_row;

typedef struct clnorm_tune_result {
  clnorm_target *target;
  clnorm_tune_row rows[CLNORM_TUNE_MAX_ROWS];
  size_t num_rows;
  char notes[CLNORM_TUNE_MAX_NOTES][200]; /* what was not measured, and why */
  size_t num_notes;
  clnorm_tuning rule;   /* in numbers */
  clnorm_tuning chosen; /* 0 where it is the rule's own */
  bool kept;            /* written to the file of the target's context */
} clnorm_tune_result;

void clnorm_tune_note(clnorm_tune_result *result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A line of the table, with its head if it is the first. */
void clnorm_tune_print_row(const clnorm_tune_result *result, size_t index);
/* Notes, what was chosen beside the rule, and where it is kept. */
void clnorm_tune_print_choice(const clnorm_tune_result *result, bool dry_run);
/* One element of an array. */
void clnorm_tune_json(clnorm_json *json, const clnorm_tune_result *result);

#endif
