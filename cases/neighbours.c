#include "neighbours.h"

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "team.h"

#define PATTERN 1024u /* values that are written again and again; they stay in the first cache */

struct clnorm_neighbours {
  clnorm_team *team;
  float pattern[PATTERN];
  float *x;
  const float *y;
  _Atomic uint64_t sum; /* so that nothing that is read is left out */
};

static void produce(void *argument, size_t begin, size_t end) {
  const clnorm_neighbours *n = argument;
  for (; begin < end; begin += PATTERN)
    for (size_t i = 0; i < PATTERN && begin + i < end; i++) n->x[begin + i] = n->pattern[i];
}

typedef uint64_t words __attribute__((vector_size(64)));
typedef words words_in_memory __attribute__((aligned(4), may_alias));
enum { FLOATS = sizeof(words) / sizeof(float), SUMS = 4 };

/* The bits of floats as whole numbers, which may be added in any order, and so by vectors. */
static void consume(void *argument, size_t begin, size_t end) {
  clnorm_neighbours *n = argument;
  words sums[SUMS] = {{0}};
  uint64_t sum = 0;
  for (; begin + SUMS * FLOATS <= end; begin += SUMS * FLOATS)
    for (size_t i = 0; i < SUMS; i++)
      sums[i] += *(const words_in_memory *)(const void *)(n->y + begin + i * FLOATS);
  for (; begin < end; begin++) sum += n->y[begin] > 0;
  sums[0] += sums[1] + sums[2] + sums[3];
  for (size_t i = 0; i < sizeof(words) / sizeof(uint64_t); i++) sum += sums[0][i];
  n->sum += sum;
}

void clnorm_neighbours_produce(clnorm_neighbours *neighbours, float *x, size_t elements) {
  neighbours->x = x;
  clnorm_team_run(neighbours->team, produce, neighbours, elements);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double clnorm_neighbours_consume(clnorm_neighbours *neighbours, const float *y, size_t elements) {
  const double start = now();
  neighbours->y = y;
  clnorm_team_run(neighbours->team, consume, neighbours, elements);
  return now() - start;
}

clnorm_neighbours *clnorm_neighbours_create(int num_threads) {
  clnorm_neighbours *n = calloc(1, sizeof *n);
  if (n) n->team = clnorm_team_create(num_threads);
  if (!n || !n->team) {
    free(n);
    return NULL;
  }
  for (unsigned i = 0; i < PATTERN; i++) n->pattern[i] = (float)(i * 389 % PATTERN) / 256 - 1;
  return n;
}

void clnorm_neighbours_destroy(clnorm_neighbours *neighbours) {
  if (!neighbours) return;
  clnorm_team_destroy(neighbours->team);
  free(neighbours);
}
