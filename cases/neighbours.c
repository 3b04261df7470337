#include "neighbours.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "team.h"

#define PATTERN 64u /* lines that are written again and again; they stay in the first cache */

/* A line of a cache, in memory of any alignment. */
typedef uint64_t words __attribute__((vector_size(64)));
typedef words line __attribute__((aligned(1), may_alias));
enum { LINE = sizeof(line), LINE_WORDS = LINE / sizeof(uint32_t), SUMS = 4 };

struct clnorm_neighbours {
  clnorm_team *team;
  line pattern[PATTERN];
  line *x;
  const line *y;
  _Atomic uint64_t sum; /* so that nothing that is read is left out */
};

/* Values in (-1, 3) whose lower half is a copy of the upper one: as bf16 and f16 these are two values of that
 * size, as f64 one more; none is 0, subnormal or infinite in any of the four types. */
static void make_pattern(clnorm_neighbours *n) {
  uint32_t bits[PATTERN * LINE_WORDS];
  for (uint32_t i = 0; i < PATTERN * LINE_WORDS; i++) {
    const float value = (float)(i * 389 % 1024) / 256 - 1 + 1.0f / 512;
    memcpy(&bits[i], &value, sizeof value);
    bits[i] = bits[i] >> 16 | (bits[i] & 0xffff0000u);
  }
  memcpy(n->pattern, bits, sizeof bits);
}

static void produce(void *argument, size_t begin, size_t end) {
  const clnorm_neighbours *n = argument;
  line *const x = n->x;
  for (; begin < end; begin++) x[begin] = n->pattern[begin % PATTERN];
}

/* The bits as whole numbers, which may be added in any order, and so by vectors. */
static void consume(void *argument, size_t begin, size_t end) {
  clnorm_neighbours *n = argument;
  const line *const y = n->y;
  words sums[SUMS] = {{0}};
  uint64_t sum = 0;
  for (; begin + SUMS <= end; begin += SUMS)
    for (size_t i = 0; i < SUMS; i++) sums[i] += y[begin + i];
  for (; begin < end; begin++) sums[0] += y[begin];
  sums[0] += sums[1] + sums[2] + sums[3];
  for (size_t i = 0; i < sizeof(words) / sizeof(uint64_t); i++) sum += sums[0][i];
  n->sum += sum;
}

void clnorm_neighbours_produce(clnorm_neighbours *neighbours, void *x, size_t bytes) {
  const size_t lines = bytes / LINE;
  neighbours->x = x;
  clnorm_team_run(neighbours->team, produce, neighbours, lines);
  memcpy(neighbours->x + lines, &neighbours->pattern[lines % PATTERN], bytes % LINE);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double clnorm_neighbours_consume(clnorm_neighbours *neighbours, const void *y, size_t bytes) {
  const double start = now();
  const size_t lines = bytes / LINE;
  uint64_t sum = 0;
  neighbours->y = y;
  clnorm_team_run(neighbours->team, consume, neighbours, lines);
  for (size_t i = lines * LINE; i < bytes; i++) sum += ((const unsigned char *)y)[i];
  neighbours->sum += sum;
  return now() - start;
}

clnorm_neighbours *clnorm_neighbours_create(int num_threads) {
  clnorm_neighbours *n = calloc(1, sizeof *n);
  if (n) n->team = clnorm_team_create(num_threads);
  if (!n || !n->team) {
    free(n);
    return NULL;
  }
  make_pattern(n);
  return n;
}

void clnorm_neighbours_destroy(clnorm_neighbours *neighbours) {
  if (!neighbours) return;
  clnorm_team_destroy(neighbours->team);
  free(neighbours);
}
