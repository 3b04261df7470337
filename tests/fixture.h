/* What the tests share: the device under test, guarded memory on it, values, and a double reference.
 *
 * The device comes from the environment, so that one program is registered for every device:
 *   CLNORM_TEST_DEVICE   as for clnorm_context_create; "cpu" where unset
 *   CLNORM_TEST_FORM     auto, vector, wide
 *   CLNORM_TEST_ISA      auto, plain, avx2, avx512
 *   CLNORM_TEST_THREADS  threads of the CPU path
 *   CLNORM_TEST_LEAVE_OUT  a case that is not run (fixture_leave_out), for a driver that fails it by its own fault
 * A device that is not there fails the test. */
#ifndef CLNORM_TESTS_FIXTURE_H
#define CLNORM_TESTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <clnorm/clnorm.h>

#include "dense.h"

#define FIXTURE_POISON 0x7fbad00du /* a NaN: an output that was not written is seen */
#define FIXTURE_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Options from the environment; cache_dir is left at its default. */
clnorm_context_options fixture_options(void);
const char *fixture_device(void);
/* The context under test; fails the test with the library's own message. */
clnorm_context *fixture_open(void);
clnorm_context *fixture_open_with(const char *device, const clnorm_context_options *options);
/* Leaves out the case that the environment names. */
void fixture_leave_out(void);
/* For cmocka: the context under test as a group's *state, named in the output. */
int fixture_set_up(void **state);
int fixture_tear_down(void **state);

/* The context under test, and the CPU path's plain code on one thread, whose bits are expected of it. */
typedef struct fixture_sides {
  clnorm_context *subject, *baseline;
} fixture_sides;
int fixture_set_up_sides(void **state);
int fixture_tear_down_sides(void **state);

/* True where the context takes cl_mem. */
bool fixture_is_opencl(const clnorm_context *context);

/* Succeeds, or fails the test with the text that the context keeps. */
void fixture_ok(const clnorm_context *context, clnorm_status status, const char *what);
#define assert_ok(context, call) fixture_ok((context), (call), #call)
/* The call failed with `expected`, and the message holds every one of the words, which are parted by
 * '|'. `row` names the case. */
void fixture_rejected(const char *text, clnorm_status status, clnorm_status expected,
                      const char *words, const char *row);

/* count floats in device memory, between canaries. */
typedef struct fixture_tensor {
  clnorm_memory whole; /* what was allocated */
  clnorm_memory view;  /* the floats alone, at an offset, with their exact size */
  size_t count;
} fixture_tensor;

/* values NULL: filled with FIXTURE_POISON. */
fixture_tensor fixture_tensor_make(clnorm_context *context, const float *values, size_t count);
/* Waits, copies the floats out and fails the test if a canary has changed. */
void fixture_tensor_read(clnorm_context *context, const fixture_tensor *tensor, float *values);
void fixture_tensor_free(clnorm_context *context, fixture_tensor *tensor);
/* Every float still is the poison, canaries included. */
void fixture_assert_poisoned(clnorm_context *context, const fixture_tensor *tensor,
                             const char *row);

/* Values of the given mean and spread, never all zero; the same for the same seed. */
void fixture_fill(float *values, size_t count, uint64_t seed, double mean, double spread);

/* Statistics of one channel of (N, C, spatial), two passes in double. */
typedef struct fixture_moments {
  double mean, var; /* var is biased */
  double count;
} fixture_moments;
fixture_moments fixture_channel_moments(const float *x, int64_t batch, int64_t channels,
                                        int64_t spatial, int64_t channel);
/* What one channel is normalized by. */
typedef struct fixture_channel {
  double mean, var, eps, weight, bias;
} fixture_channel;
/* Fails unless y is the normalization by `by` of channel `channel` of x, which has dims (N, C, spatial), within the
 * library's bound, 8 * 2^-24 * (|weight| * (|xhat| + 1) + |bias|). */
void fixture_assert_normalized(const float *x, const float *y, const int64_t dims[3],
                               int64_t channel, const fixture_channel *by);
/* |actual - expected| <= ulps * 2^-24 * scale */
void fixture_assert_near(double actual, double expected, double scale, double ulps,
                         const char *what);

#endif
