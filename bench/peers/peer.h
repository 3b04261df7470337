/*
 * A contestant of bench/peers.py: a shared object with the functions below, which the script loads.
 * One forward pass of batch normalization is prepared once and then run many times.
 *
 * Every function that can fail returns 0 (NULL) and writes one line into why[PEER_TEXT].
 */
#ifndef CLNORM_BENCH_PEER_H
#define CLNORM_BENCH_PEER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define PEER_TEXT 4096

typedef struct peer peer;

/* Operands of a pass: host memory, 64-byte aligned. x and y are (N, C, H, W), the others (C). */
enum {
  PEER_X,
  PEER_Y,
  PEER_WEIGHT,
  PEER_BIAS,
  PEER_RUNNING_MEAN, /* evaluation: read. Training: updated by those who can */
  PEER_RUNNING_VAR,
  PEER_MEAN, /* training: written */
  PEER_INVSTD,
  PEER_OPERANDS
};

/* Opens what `target` names (the contestant's own meaning), to run on `threads` threads. */
peer *peer_open(const char *target, const char *option, int threads, char *why);
void peer_close(peer *self);
/* One line: version, device, what runs. Valid until peer_close. */
const char *peer_description(const peer *self);

/* Gets ready for passes over one tensor; inputs are copied where the contestant keeps memory of its
 * own. What is ready is dropped by the next peer_prepare, by peer_drop and by peer_close. */
int peer_prepare(peer *self, int training, const int64_t dims[4],
                 float *const operands[PEER_OPERANDS], double eps, char *why);
void peer_drop(peer *self);
/* Seconds for `calls` passes, each one finished before the next, unless the contestant's option says
 * otherwise; negative on failure. */
double peer_time(peer *self, long calls, char *why);
/* Where x or y (operand) lies, in the contestant's own layout, for a producer or consumer on the host;
 * *elements floats. OpenCL: it is mapped, after the passes before are done, and passes must wait for
 * peer_unmap. NULL on failure. */
float *peer_map(peer *self, int operand, size_t *elements, char *why);
int peer_unmap(peer *self, char *why);
/* Brings y, and after training mean and invstd, into the operands, as (N, C, H, W). */
int peer_fetch(peer *self, char *why);

static inline int peer_fail(char *why, const char *what, const char *detail) {
  snprintf(why, PEER_TEXT, "%s: %s", what, detail);
  return 0;
}

static inline double peer_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
