/*
 * Tensors over 4 GiB and over 2^31 elements, normalized in place and checked element by element.
 *
 *   clnorm_large [--device D] [--elements E]      D: default cpu; E: default 2^31 + 1000 at least
 *
 * Three shapes: few large planes, many small planes, many channels. Evaluation must equal, bit for bit, the
 * normalization written out here; training must have the statistics of the data, the outputs that follow
 * from them, and the same bits for both ways of cutting the work. Prints the speed of each call, counted at
 * 2 T. Ends with 1 if anything differs. The host needs room for one tensor, an OpenCL device for another.
 */
#include <clnorm/clnorm.h>

#include "dense.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EPS 1e-5

typedef struct shape {
  const char *what;
  int64_t batch, channels, spatial;
} shape;

typedef struct problem {
  shape shape;
  size_t elements;
  clnorm_context *context;
  bool on_host;
  float *values; /* the host's copy; on the CPU path the tensor itself */
  float *weight, *bias, *mean, *var, *saved_mean, *saved_invstd;
  clnorm_memory tensor, parameters[6];
} problem;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(const problem *p, const char *what) {
  fprintf(stderr, "clnorm_large: %s: %s\n", what, clnorm_last_error(p->context));
  exit(1);
}

/* x of element i of channel c: sixteenths, another range for each channel. */
static float value(uint64_t i, int64_t c) {
  const uint64_t h = i * UINT64_C(0x9e3779b97f4a7c15);
  return (float)((int64_t)(h >> 56) - 100) * 0x1p-4f + (float)(c % 7);
}

/* Calls with every plane: the index of its first element, and its channel. */
#define EACH_PLANE(p, plane, c)                                                                    \
  for (int64_t plane = 0, c = 0; plane < (p)->shape.batch * (p)->shape.channels;                   \
       plane++, c = plane % (p)->shape.channels)

static void fill(problem *p) {
  EACH_PLANE(p, plane, c) {
    const uint64_t first = (uint64_t)(plane * p->shape.spatial);
    for (int64_t s = 0; s < p->shape.spatial; s++)
      p->values[first + (uint64_t)s] = value(first + (uint64_t)s, c);
  }
  const size_t bytes = p->elements * sizeof(float);
  if (!p->on_host && clnorm_memory_write(p->context, p->tensor, p->values, bytes))
    stop(p, "writing the tensor");
}

/* Exact sums in double: the values are small multiples of a sixteenth. */
static void measure_statistics(const problem *p, double *mean, double *var) {
  for (int64_t c = 0; c < p->shape.channels; c++) mean[c] = var[c] = 0;
  EACH_PLANE(p, plane, c) {
    const uint64_t first = (uint64_t)(plane * p->shape.spatial);
    double sum = 0, squares = 0;
    for (int64_t s = 0; s < p->shape.spatial; s++) {
      const double x = (double)value(first + (uint64_t)s, c);
      sum += x;
      squares += x * x;
    }
    mean[c] += sum;
    var[c] += squares;
  }
  const double count = (double)p->shape.batch * (double)p->shape.spatial;
  for (int64_t c = 0; c < p->shape.channels; c++) {
    mean[c] /= count;
    var[c] = var[c] / count - mean[c] * mean[c];
  }
}

/* Elements of the result that are not as they must be. */
static uint64_t count_wrong(const problem *p, bool training) {
  uint64_t wrong = 0;
  EACH_PLANE(p, plane, c) {
    const uint64_t first = (uint64_t)(plane * p->shape.spatial);
    const float scale = p->weight[c] * p->saved_invstd[c], bias = p->bias[c];
    const float mean = training ? p->saved_mean[c] : p->mean[c];
    for (int64_t s = 0; s < p->shape.spatial; s++) {
      const float x = value(first + (uint64_t)s, c), y = p->values[first + (uint64_t)s];
      const float expected = fmaf(x - mean, scale, bias);
      wrong += training ? !(fabsf(y - expected) <= 4e-6f * (1 + fabsf(expected))) : y != expected;
    }
  }
  return wrong;
}

static int64_t wrong_statistics(const problem *p, const double *mean, const double *var) {
  int64_t wrong = 0;
  for (int64_t c = 0; c < p->shape.channels; c++) {
    const double invstd = 1 / sqrt(var[c] + EPS);
    wrong += !(fabs((double)p->saved_mean[c] - mean[c]) <= 1e-6 * (1 + fabs(mean[c]))) ||
             !(fabs((double)p->saved_invstd[c] - invstd) <= 1e-6 * invstd);
  }
  return wrong;
}

static uint64_t hash_of(const problem *p) {
  uint64_t hash = UINT64_C(14695981039346656037);
  for (size_t i = 0; i < p->elements; i++) {
    uint32_t bits;
    memcpy(&bits, &p->values[i], sizeof bits);
    hash = (hash ^ bits) * UINT64_C(1099511628211);
  }
  return hash;
}

/* One call in place; then the result is in p->values, the saved statistics beside it. */
static double run(problem *p, clnorm_statistics statistics, clnorm_cut variant) {
  dense_desc desc =
      dense_desc_defaults(statistics, p->shape.batch, p->shape.channels, p->shape.spatial);
  const size_t bytes = (size_t)p->shape.channels * sizeof(float);
  clnorm_plan *plan;
  dense_args args;
  memset(&args, 0, sizeof args);
  desc.cut = variant;
  desc.eps = EPS;
  args.x = args.y = p->tensor;
  args.weight = p->parameters[0];
  args.bias = p->parameters[1];
  if (statistics == CLNORM_GIVEN_STATISTICS) {
    args.running_mean = p->parameters[2];
    args.running_var = p->parameters[3];
  }
  args.saved_mean = p->parameters[4];
  args.saved_invstd = p->parameters[5];
  fill(p);
  if (dense_plan_create(p->context, &desc, &plan)) stop(p, "planning");
  const double start = now();
  if (dense_run(plan, &args) || clnorm_finish(p->context)) stop(p, "running");
  const double seconds = now() - start;
  clnorm_plan_destroy(plan);
  if (clnorm_memory_read(p->context, args.saved_mean, p->saved_mean, bytes) ||
      clnorm_memory_read(p->context, args.saved_invstd, p->saved_invstd, bytes))
    stop(p, "reading the statistics");
  if (!p->on_host &&
      clnorm_memory_read(p->context, p->tensor, p->values, p->elements * sizeof(float)))
    stop(p, "reading the result");
  return seconds;
}

static bool report(const problem *p, const char *op, double seconds, uint64_t wrong) {
  printf("%-18s %9" PRId64 " x %8" PRId64 " x %9" PRId64 "  %6.2f GiB  %-14s %6.1f GB/s  %" PRIu64
         " wrong\n",
         p->shape.what, p->shape.batch, p->shape.channels, p->shape.spatial,
         (double)p->elements * 4 / (1 << 30), op, (double)p->elements * 8e-9 / seconds, wrong);
  fflush(stdout);
  return wrong == 0;
}

static bool run_all(problem *p) {
  double *mean = malloc((size_t)p->shape.channels * sizeof *mean);
  double *var = malloc((size_t)p->shape.channels * sizeof *var);
  if (!mean || !var) stop(p, "no host memory");
  measure_statistics(p, mean, var);
  double seconds = run(p, CLNORM_GIVEN_STATISTICS, CLNORM_CUT_AUTO);
  bool right = report(p, "evaluation", seconds, count_wrong(p, false));
  static const char *const names[] = {"", "train, channel", "train, split"};
  uint64_t hashes[3] = {0};
  for (int variant = CLNORM_CUT_CHANNEL; variant <= CLNORM_CUT_SPLIT; variant++) {
    seconds = run(p, CLNORM_BATCH_STATISTICS, (clnorm_cut)variant);
    const uint64_t wrong = count_wrong(p, true) + (uint64_t)wrong_statistics(p, mean, var);
    right = report(p, names[variant], seconds, wrong) && right;
    hashes[variant] = hash_of(p);
  }
  if (hashes[1] != hashes[2]) puts("the two ways of training differ in their bits");
  free(mean);
  free(var);
  return right && hashes[1] == hashes[2];
}

/* Parameters differ from channel to channel. */
static void make_parameters(problem *p) {
  const size_t channels = (size_t)p->shape.channels, bytes = channels * sizeof(float);
  float **const own[6] = {&p->weight, &p->bias,       &p->mean,
                          &p->var,    &p->saved_mean, &p->saved_invstd};
  for (int i = 0; i < 6; i++) {
    *own[i] = malloc(bytes);
    if (!*own[i]) stop(p, "no host memory");
    for (size_t c = 0; c < channels; c++) (*own[i])[c] = (float)(i == 3) + (float)(c % 5) * 0.25f;
    if (clnorm_memory_alloc(p->context, bytes, &p->parameters[i]) ||
        clnorm_memory_write(p->context, p->parameters[i], *own[i], bytes))
      stop(p, "parameters");
  }
}

static bool try_shape(clnorm_context *context, shape wanted) {
  problem p;
  memset(&p, 0, sizeof p);
  p.shape = wanted;
  p.context = context;
  p.elements = (size_t)(wanted.batch * wanted.channels * wanted.spatial);
  const size_t bytes = p.elements * sizeof(float);
  p.on_host = clnorm_context_device(context)->id[0] == 'c';
  if (clnorm_memory_alloc(context, bytes, &p.tensor)) {
    printf("%-18s left out: %s\n", wanted.what, clnorm_last_error(context));
    return true;
  }
  p.values = p.on_host ? p.tensor.host : malloc(bytes);
  if (!p.values) stop(&p, "no host memory");
  make_parameters(&p);
  const bool right = run_all(&p);
  if (!p.on_host) free(p.values);
  clnorm_memory_free(context, &p.tensor);
  for (int i = 0; i < 6; i++) clnorm_memory_free(context, &p.parameters[i]);
  free(p.weight), free(p.bias), free(p.mean), free(p.var), free(p.saved_mean), free(p.saved_invstd);
  return right;
}

int main(int argc, char **argv) {
  const char *device = "cpu";
  int64_t elements = (INT64_C(1) << 31) + 1000;
  for (int i = 1; i < argc; i += 2) {
    char *end = NULL;
    if (i + 1 < argc && !strcmp(argv[i], "--device")) {
      device = argv[i + 1];
    } else if (i + 1 < argc && !strcmp(argv[i], "--elements") &&
               (elements = strtoll(argv[i + 1], &end, 10)) > 1000 && !*end) {
      continue;
    } else {
      fputs("usage: clnorm_large [--device D] [--elements E]      E > 1000\n", stderr);
      return 2;
    }
  }
  clnorm_context *context;
  clnorm_message message;
  if (clnorm_context_create(device, NULL, &context, &message)) {
    fprintf(stderr, "clnorm_large: %s\n", message.text);
    return 1;
  }
  printf("%s\n", clnorm_context_description(context));
  const shape shapes[] = {{"few large planes", 2, 3, elements / 6 + 1},
                          {"many small planes", elements / (8 * 49) + 1, 8, 49},
                          {"many channels", 3, elements / (3 * 171) + 1, 171}};
  bool right = true;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    right = try_shape(context, shapes[i]) && right;
  clnorm_context_destroy(context);
  puts(right ? "all elements are right" : "NOT all elements are right");
  return right ? 0 : 1;
}
