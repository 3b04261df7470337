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
#include <string.h>
#include <time.h>

#define PEER_TEXT 4096

typedef struct peer peer;

/* What a pass is; read by peer_prepare alone. */
typedef struct peer_case {
  int64_t dims[4]; /* N, C, H, W */
  /* of x and y: "nchw", "nhwc", "nchw8c" or "nchw16c", the last two with channels padded to whole blocks */
  const char *layout;
  const char *dtype; /* of x and y: "f32", "f16" or "bf16"; everything else is f32 */
  int training;
  double eps;
} peer_case;

/* Operands of a pass: host memory, 64-byte aligned. x and y are in the layout and type of the case; places of x
 * that pad a block are 0. The others are C floats. */
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
 * own. A case that the contestant does not offer is a failure that says so. What is ready is dropped by
 * the next peer_prepare, by peer_drop and by peer_close. */
int peer_prepare(peer *self, const peer_case *wanted, void *const operands[PEER_OPERANDS],
                 char *why);
void peer_drop(peer *self);
/* One line on what runs in the case that is ready: kernel, path. Valid until it is dropped. */
const char *peer_kernel(const peer *self);
/* Seconds for `calls` passes, each one finished before the next, unless the contestant's option says
 * otherwise; negative on failure. */
double peer_time(peer *self, long calls, char *why);
/* Where x or y (operand) lies, for a producer or consumer on the host; *bytes of it. OpenCL: it is mapped,
 * after the passes before are done, and passes must wait for peer_unmap. NULL on failure. */
void *peer_map(peer *self, int operand, size_t *bytes, char *why);
int peer_unmap(peer *self, char *why);
/* Brings y, and after training mean and invstd, into the operands. */
int peer_fetch(peer *self, char *why);

static inline int peer_fail(char *why, const char *what, const char *detail) {
  snprintf(why, PEER_TEXT, "%s: %s", what, detail);
  return 0;
}

/* Elements of a block of channels; 1 where there are no blocks. */
static inline int64_t peer_block(const peer_case *wanted) {
  return strcmp(wanted->layout, "nchw8c") == 0    ? 8
         : strcmp(wanted->layout, "nchw16c") == 0 ? 16
                                                  : 1;
}

/* Bytes of x or y, padding included. */
static inline size_t peer_tensor_bytes(const peer_case *wanted) {
  const int64_t *dims = wanted->dims, block = peer_block(wanted);
  const int64_t channels = (dims[1] + block - 1) / block * block;
  const int64_t element = strcmp(wanted->dtype, "f32") == 0 ? 4 : 2;
  return (size_t)(dims[0] * channels * dims[2] * dims[3] * element);
}

static inline double peer_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
