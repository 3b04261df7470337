/* Plans one forward operation on an OpenCL device and runs it once, so that the bytes that its kernels
 * move can be counted from outside (moved_bytes.py).
 *
 *   moved_bytes DEVICE STATISTICS FORM VARIANT NxCxS
 *
 * STATISTICS  batch | given | copy     FORM  vector | wide     VARIANT  channel | split | auto
 * weight, bias and running statistics are present, saved statistics are not. Exit status 0: it ran.
 */
#include <clnorm/clnorm.h>

#include "dense.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* C++'s operator new, for Oclgrind, which finds this one first. Its counter (21.10) makes room for as many
 * functions as one work-group calls, but writes as many counts as all work-groups together: where they call
 * different ones, the rest needs room too. Those counts are lost, which is harmless: the functions that
 * move bytes are among the first work-group's. */
void *_Znwm(size_t size);
void *_Znwm(size_t size) {
  void *memory = calloc(1, size + 1024);
  if (!memory) abort();
  return memory;
}

/* The index of text in the list of count names; -1 where it is not there. */
static int find(const char *text, const char *const *names, int count) {
  for (int i = 0; i < count; i++)
    if (strcmp(text, names[i]) == 0) return i;
  return -1;
}

/* Fills device memory of count floats with numbers from 1 to 2: variances are positive, nothing is 0. */
static clnorm_memory operand(clnorm_context *context, size_t count) {
  clnorm_memory memory;
  float *values = malloc(count * sizeof *values);
  if (!values) exit(1);
  for (size_t i = 0; i < count; i++) values[i] = 1.0f + (float)(i * 7919 % 1024) / 1024.0f;
  if (clnorm_memory_alloc(context, count * sizeof *values, &memory) != CLNORM_OK ||
      clnorm_memory_write(context, memory, values, count * sizeof *values) != CLNORM_OK) {
    fprintf(stderr, "moved_bytes: %s\n", clnorm_last_error(context));
    exit(1);
  }
  free(values);
  return memory;
}

static int run(clnorm_context *context, const dense_desc *desc) {
  const size_t channels = (size_t)desc->channels;
  const size_t count = (size_t)desc->batch * channels * (size_t)desc->spatial;
  clnorm_plan *plan = NULL;
  clnorm_memory memory[6];
  for (int i = 0; i < 6; i++) memory[i] = operand(context, i < 2 ? count : channels);
  dense_args args;
  memset(&args, 0, sizeof args);
  args.x = memory[0];
  args.y = memory[1];
  if (desc->statistics != DENSE_COPY) {
    args.weight = memory[2];
    args.bias = memory[3];
    args.running_mean = memory[4];
    args.running_var = memory[5];
  }
  args.momentum = 0.9;
  const int bad = dense_plan_create(context, desc, &plan) != CLNORM_OK ||
                  dense_run(plan, &args) != CLNORM_OK || clnorm_finish(context) != CLNORM_OK;
  if (bad) fprintf(stderr, "moved_bytes: %s\n", clnorm_last_error(context));
  clnorm_plan_destroy(plan);
  for (int i = 0; i < 6; i++) clnorm_memory_free(context, &memory[i]);
  return bad;
}

int main(int argc, char **argv) {
  static const char *const statistics[] = {"batch", "given", "copy"};
  static const char *const forms[] = {"auto", "vector", "wide"};
  static const char *const variants[] = {"auto", "channel", "split"};
  long long n, c, s;
  if (argc != 6 || find(argv[2], statistics, 3) < 0 || find(argv[3], forms, 3) < 0 ||
      find(argv[4], variants, 3) < 0 || sscanf(argv[5], "%lldx%lldx%lld", &n, &c, &s) != 3) {
    fprintf(stderr, "usage: %s DEVICE batch|given|copy vector|wide channel|split|auto NxCxS\n",
            argv[0]);
    return 2;
  }
  clnorm_context_options options = dense_context_options();
  options.form = (clnorm_form)find(argv[3], forms, 3);
  dense_desc desc = dense_desc_defaults((clnorm_statistics)find(argv[2], statistics, 3), n, c, s);
  desc.cut = (clnorm_cut)find(argv[4], variants, 3);
  clnorm_context *context;
  clnorm_message message;
  if (clnorm_context_create(argv[1], &options, &context, &message) != CLNORM_OK) {
    fprintf(stderr, "moved_bytes: %s\n", message.text);
    return 1;
  }
  const int bad = run(context, &desc);
  clnorm_context_destroy(context);
  return bad;
}
