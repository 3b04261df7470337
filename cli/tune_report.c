#include "tune_report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "text.h"

static const char *const form_names[] = {"rule", "vector", "wide"};

typedef struct value_text {
  char text[32];
} value_text;

static value_text bytes_text(uint64_t bytes) {
  value_text value;
  if (bytes == UINT64_MAX)
    snprintf(value.text, sizeof value.text, "never");
  else if (bytes >> 20 && bytes % (1 << 20) == 0)
    snprintf(value.text, sizeof value.text, "%" PRIu64 " MiB", bytes >> 20);
  else
    snprintf(value.text, sizeof value.text, "%" PRIu64 " KiB", bytes >> 10);
  return value;
}

static value_text split_text(double number) {
  value_text value;
  if (number <= CLNORM_TUNE_SPLIT_NEVER)
    snprintf(value.text, sizeof value.text, "never");
  else
    snprintf(value.text, sizeof value.text, "%g", number);
  return value;
}

/* The chosen values, in numbers. */
static clnorm_tuning resolved(const clnorm_tune_result *r) {
  clnorm_tuning t = r->chosen;
  if (!t.form) t.form = r->rule.form;
  if (!(t.split_below > 0)) t.split_below = r->rule.split_below;
  if (!t.stream_bytes) t.stream_bytes = r->rule.stream_bytes;
  if (!t.train_stream_bytes) t.train_stream_bytes = r->rule.train_stream_bytes;
  return t;
}

static const char *device_id(const clnorm_tune_result *r) {
  return clnorm_context_device(r->target->context)->id;
}

void clnorm_tune_note(clnorm_tune_result *result, const char *format, ...) {
  if (result->num_notes == CLNORM_TUNE_MAX_NOTES) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(result->notes[result->num_notes++], sizeof result->notes[0], format, arguments);
  va_end(arguments);
}

/* ---- Text ------------------------------------------------------------------------------------------ */

void clnorm_tune_print_row(const clnorm_tune_result *result, size_t index) {
  const clnorm_tune_row *row = &result->rows[index];
  if (index == 0)
    printf("%-18s  %-5s  %-17s  %-9s  %9s  %-9s  %9s  %6s\n", "parameter", "op", "shape", "way",
           "time", "way", "time", "ratio");
  printf("%-18s  %-5s  %-17s  %-9s  %9s  %-9s  %9s  %6.2f\n", row->parameter,
         clnorm_bench_op_names[row->op], clnorm_shape_text_of(row->dims).text, row->ways[0],
         clnorm_time_text(row->times.median_s[0]).text, row->ways[1],
         clnorm_time_text(row->times.median_s[1]).text, row->times.ratio);
  fflush(stdout);
}

static void print_kept(const clnorm_tune_result *r, bool dry_run) {
  if (dry_run)
    printf("not kept (--dry-run)\n");
  else if (r->kept)
    printf("kept in %s\nclnorm tune --device %s --reset goes back to the rule\n",
           clnorm_tuning_path(r->target->context), device_id(r));
  else if (clnorm_tuning_path(r->target->context)[0])
    printf("nothing is kept: the rule's own values are the best here\n");
  else
    printf("not kept: this context has no folder (CLNORM_CACHE_DIR is empty)\n");
}

void clnorm_tune_print_choice(const clnorm_tune_result *result, bool dry_run) {
  const clnorm_tuning chosen = resolved(result), *rule = &result->rule;
  for (size_t i = 0; i < result->num_notes; i++) printf("%s\n", result->notes[i]);
  printf("%-18s  %10s  %10s\n", "parameter", "chosen", "rule");
  printf("%-18s  %10s  %10s\n", "form", form_names[chosen.form], form_names[rule->form]);
  if (chosen.form == CLNORM_FORM_VECTOR) {
    printf("%-18s  %10s  %10s\n", "stream_bytes", bytes_text(chosen.stream_bytes).text,
           bytes_text(rule->stream_bytes).text);
    printf("%-18s  %10s  %10s\n", "train_stream_bytes", bytes_text(chosen.train_stream_bytes).text,
           bytes_text(rule->train_stream_bytes).text);
  }
  printf("%-18s  %10s  %10s\n", "split_below", split_text(chosen.split_below).text,
         split_text(rule->split_below).text);
  print_kept(result, dry_run);
}

/* ---- JSON ------------------------------------------------------------------------------------------ */

/* null where nothing is written around the caches. */
static void json_bytes(clnorm_json *json, const char *key, uint64_t bytes) {
  if (bytes <= INT64_MAX)
    clnorm_json_integer(json, key, (int64_t)bytes);
  else
    clnorm_json_text(json, key, NULL);
}

static void json_tuning(clnorm_json *json, const char *key, const clnorm_tuning *tuning) {
  clnorm_json_object(json, key);
  clnorm_json_text(json, "form", form_names[tuning->form]);
  clnorm_json_number(json, "split_below", tuning->split_below);
  json_bytes(json, "stream_bytes", tuning->stream_bytes);
  json_bytes(json, "train_stream_bytes", tuning->train_stream_bytes);
  clnorm_json_end_object(json);
}

static void json_row(clnorm_json *json, const clnorm_tune_row *row) {
  clnorm_json_object(json, NULL);
  clnorm_json_text(json, "parameter", row->parameter);
  clnorm_json_text(json, "op", clnorm_bench_op_names[row->op]);
  clnorm_json_text(json, "shape", clnorm_shape_text_of(row->dims).text);
  clnorm_json_array(json, "ways");
  for (int i = 0; i < 2; i++) clnorm_json_text(json, NULL, row->ways[i]);
  clnorm_json_end_array(json);
  clnorm_json_array(json, "median_s");
  for (int i = 0; i < 2; i++) clnorm_json_number(json, NULL, row->times.median_s[i]);
  clnorm_json_end_array(json);
  clnorm_json_number(json, "ratio", row->times.ratio);
  clnorm_json_integer(json, "rounds", row->times.rounds);
  clnorm_json_end_object(json);
}

void clnorm_tune_json(clnorm_json *json, const clnorm_tune_result *result) {
  const clnorm_tuning chosen = resolved(result);
  clnorm_json_object(json, NULL);
  clnorm_json_text(json, "device", result->target->label);
  clnorm_json_text(json, "id", device_id(result));
  clnorm_json_array(json, "measurements");
  for (size_t i = 0; i < result->num_rows; i++) json_row(json, &result->rows[i]);
  clnorm_json_end_array(json);
  clnorm_json_array(json, "notes");
  for (size_t i = 0; i < result->num_notes; i++) clnorm_json_text(json, NULL, result->notes[i]);
  clnorm_json_end_array(json);
  json_tuning(json, "rule", &result->rule);
  json_tuning(json, "chosen", &chosen);
  clnorm_json_text(json, "kept", result->kept ? clnorm_tuning_path(result->target->context) : NULL);
  clnorm_json_end_object(json);
}
